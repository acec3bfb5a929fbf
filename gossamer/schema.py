"""The columns of a source's rows, as its declaration tells: what `clean` makes and `published` keeps.

How text becomes a value of such a column is in `gossamer.records.values`. What joins and transforms add is not
declared.
"""

import polars as pl

from gossamer.source import SECOND, FieldType, SourceSpec

MONEY = pl.Decimal(18, 4)
INSTANT = pl.Datetime("us", "UTC")
PARTITION = "partition_key"

TYPES: dict[FieldType, pl.DataType] = {
    "str": pl.String(),
    "text": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "money": MONEY,
    "quantity": pl.Float64(),
    "rating": pl.Float64(),
    "date": pl.Date(),
    "datetime": INSTANT,
    "url": pl.String(),
    "json": pl.String(),
}

#: Where each record came from; beside it `extra` (JSON of undeclared fields) and `_unparsed` (see records.clean).
PROVENANCE: dict[str, pl.DataType] = {
    "_url": pl.String(),
    "_fetched_at": INSTANT,
    "_page_hash": pl.String(),
    "_crawl_id": pl.String(),
    "_spider_version": pl.String(),
    "_seed_row": pl.String(),
}


def field_columns(name: str, kind: FieldType) -> dict[str, pl.DataType]:
    """The columns of one declared field: one, or two: `<name>_currency`, `<name>_unit`, `<name>_best`."""
    second = SECOND.get(kind)
    dtype = pl.Float64() if kind == "rating" else pl.String()
    return {name: TYPES[kind], **({f"{name}_{second}": dtype} if second else {})}


def columns(spec: SourceSpec) -> dict[str, pl.DataType]:
    """The columns of the clean rows, in order."""
    fields = {n: t for name, kind in spec.record.fields.items() for n, t in field_columns(name, kind).items()}
    return {**fields, "extra": pl.String(), "_unparsed": pl.String(), **PROVENANCE}


def published(spec: SourceSpec) -> pl.Schema:
    """The columns of the published table as far as the declaration tells: not what joins and `transform.py` add."""
    return pl.Schema({**columns(spec), PARTITION: pl.String()})
