"""Small declared sources and finished partitions of theirs, for tests of what comes after `enriched`.

The layers are written as the assets write them, through `Lake.commit`, without crawling anything.
"""

import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from gossamer import declarations
from gossamer.lake import Lake, stage
from gossamer.manifest import CheckResult, Manifest
from gossamer.publish.tables import Publication, publish
from gossamer.source import Source

DAYS = "{period: daily, start: 2026-01-01}"
SHOP_FIELDS = "{sku: str, name: str, brand: str, category: str, price: money, stock: int, rating: float, added: date}"
REVIEW_FIELDS = "{review_id: str, sku: str, author: str, stars: int, text: str, date: date}"


def declare(
    folder: Path, name: str = "shop", key: str = "[sku]", fields: str = SHOP_FIELDS, partitions: str = DAYS
) -> Source:
    """A source that is declared in `folder/<name>` and never crawled."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    (home / "spider.py").write_text("")
    (home / "source.yaml").write_text(
        f"name: {name}\nspider: spider:Spider\nseeds: {{urls: ['http://127.0.0.1:9/']}}\n"
        f"partitions: {partitions}\nrecord:\n  key: {key}\n  fields: {fields}\n"
    )
    return declarations.read(home / "source.yaml")


def product(
    sku: str, price: str | None = "10.00", *, category: str | None = "toys", rate: float = 1.0, **more: Any
) -> dict[str, Any]:
    """One enriched row of the shop."""
    amount = None if price is None else Decimal(price)
    return {
        "sku": sku,
        "name": f"Product {sku}",
        "brand": "Acme",
        "category": category,
        "price": amount,
        "price_currency": "EUR",
        "stock": 3,
        "rating": 4.5,
        "added": datetime(2025, 1, 1).date(),
        "price_eur": None if amount is None else round(float(amount) * rate, 2),
        "_url": f"http://127.0.0.1:9/{sku}",
        "_fetched_at": datetime(2026, 11, 20, 5, tzinfo=UTC),
        **more,
    }


def products(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of the shop with the types that `clean` and `enrich` give them."""
    types: dict[str, Any] = {
        "price": pl.Decimal(18, 4),
        "price_eur": pl.Float64,
        "_fetched_at": pl.Datetime("us", "UTC"),
    }
    return pl.DataFrame(list(rows), schema_overrides=types, infer_schema_length=None)


def review(number: int, sku: str, stars: int) -> dict[str, Any]:
    """One enriched row of the reviews."""
    written = datetime(2026, 11, number).date()
    return {"review_id": f"r{number}", "sku": sku, "author": "Ann", "stars": stars, "text": "Good.", "date": written}


def passed(name: str, blocking: bool = True) -> CheckResult:
    return CheckResult(name=name, passed=True, blocking=blocking, summary="all is well")


def failed(name: str, summary: str) -> CheckResult:
    return CheckResult(name=name, passed=False, blocking=True, summary=summary)


GOOD: Mapping[str, Sequence[CheckResult]] = {
    "raw": [passed("books_closed")],
    "clean": [passed("record_key"), passed("expectations_critical"), passed("expectations_warning", blocking=False)],
    "enriched": [passed("joins_matched", blocking=False), passed("rows_kept"), passed("record_key")],
}


def finish(
    lake: Lake, source: Source, key: str, rows: pl.DataFrame, checks: Mapping[str, Sequence[CheckResult]] | None = None
) -> dict[str, Manifest]:
    """Writes the layers raw, clean and enriched of a partition; `checks` replaces those of the layers it names."""
    verdict = {**GOOD, **(checks or {})}
    made: dict[str, Manifest] = {}
    for above, layer in ((None, "raw"), ("raw", "clean"), ("clean", "enriched")):
        inputs = {f"{above}/{source.name}": made[above].version} if above else {}
        with stage(rows) as staged:
            made[layer] = lake.commit(
                layer,
                source.name,
                key,
                staged,
                checks=verdict[layer],
                inputs=inputs,
                crawl_id=f"{source.name}/{key}/1",
            )
    return made


def finish_and_publish(lake: Lake, source: Source, key: str, rows: pl.DataFrame) -> Publication:
    finish(lake, source, key, rows)
    return publish(lake, source, key)


def outlive_log(lake: Lake, source: str) -> None:
    """Lets 45 days pass for the table's log, as its clean-up sees it: only its newest commit is left of it."""
    from deltalake import DeltaTable

    then = time.time() - 45 * 86400
    for file in Path(lake.table_url(source), "_delta_log").iterdir():
        os.utime(file, (then, then))
    table = DeltaTable(lake.table_url(source))
    table.create_checkpoint()
    table.cleanup_metadata()
    assert len(DeltaTable(lake.table_url(source)).history()) == 1


def publish_many(lake_uri: str, folder: str, name: str, keys: Sequence[str], extra_column: str | None) -> None:
    """What one of several processes does: each key with a row of its own; the last one with a column more."""
    lake, source = Lake(lake_uri), declarations.read(Path(folder) / name / "source.yaml")
    for key in keys:
        rows = products([product(f"{key}-{number}") for number in range(20)])
        if extra_column and key == keys[-1]:
            rows = rows.with_columns(pl.lit(1).alias(extra_column))
        finish_and_publish(lake, source, key, rows)


def publish_once(lake_uri: str, folder: str, name: str, key: str) -> Publication:
    return publish(Lake(lake_uri), declarations.read(Path(folder) / name / "source.yaml"), key)


def publish_for_ever(lake_uri: str, folder: str, name: str, key: str) -> None:
    """Replaces one partition again and again, each time whole with another stock, until it is killed."""
    lake, source = Lake(lake_uri), declarations.read(Path(folder) / name / "source.yaml")
    generation = 0
    while True:
        generation += 1
        rows = products([product("a")]).select(pl.all().repeat_by(20_000).explode())
        rows = rows.with_columns(pl.lit(generation, pl.Int64).alias("stock"))
        finish_and_publish(lake, source, key, rows)
