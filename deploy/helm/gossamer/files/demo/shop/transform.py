"""What the shop's rows need beyond their declared types. Both functions are optional, and lazy: no `collect` here."""

from collections.abc import Mapping
from typing import Any

import polars as pl


def clean(frame: pl.LazyFrame, context: Any) -> pl.LazyFrame:
    """After the declared types: brands without the page's "by", and whether the price is below the list price."""
    return frame.with_columns(
        pl.col("brand").str.strip_prefix("by ").str.strip_chars(),
        (pl.col("price") < pl.col("list_price")).fill_null(False).alias("on_sale"),
    )


def enrich(frame: pl.LazyFrame, upstream: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """After the declared joins, which bring `rate`: the price in euros, null without a price or a rate."""
    return frame.with_columns((pl.col("price").cast(pl.Float64) * pl.col("rate")).round(2).alias("price_eur"))
