"""The clean layer: crawled rows with their declared types, the source's own `clean`, each record once.

Which rows then pass the source's expectations is `gossamer.quality`'s.
"""

from dataclasses import dataclass

import polars as pl

from gossamer import schema
from gossamer.manifest import CheckResult
from gossamer.records import transform, values
from gossamer.source import Source


@dataclass(frozen=True)
class Counts:
    """The records' ledger of one partition: rows_in = clean + duplicates (quarantine has an issue of its own).

    `without_key` rows are among the clean ones: nothing identifies them, so that none of them is a duplicate.
    """

    rows_in: int
    clean: int
    duplicates: int
    without_key: int


def key_check(source: Source, counts: Counts) -> CheckResult:
    """The blocking check `record_key`: nothing can be said of a record that nothing identifies."""
    key = ", ".join(source.spec.record.key)
    missing = f"{counts.without_key} of {counts.rows_in} records have no key ({key})"
    return CheckResult(
        name="record_key",
        passed=not counts.without_key,
        blocking=True,
        summary=missing if counts.without_key else f"every record has its key ({key})",
    )


def clean(source: Source, raw: pl.LazyFrame, key: str) -> pl.LazyFrame:
    """Typed rows of a partition, duplicates included (`deduplicate` removes them).

    `raw` has a text column for each declared field (missing ones count as null), `extra`, and the provenance columns.
    The result has the columns of `gossamer.schema.columns`, with `_unparsed` (JSON, field -> text
    that is no value of its type), and what the source's `clean` adds.

    Raises:
        transform.TransformError: the source's own code failed.
    """
    fields = list(source.spec.record.fields.items())
    present = raw.collect_schema().names()
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name, _ in fields if name not in present]
    typed = (
        raw.with_columns(missing)
        .with_columns(pl.col(name).alias(f"_raw_{name}") for name, _ in fields)
        .with_columns(expression for name, kind in fields for expression in values.expressions(name, kind))
        .with_columns(values.unparsed(fields))
    )
    selected = typed.select(schema.columns(source.spec).keys())
    part = source.partition(key)
    context = transform.Context(source.name, key, part.period, part.segment)
    return transform.apply(source, "clean", selected, context)


def deduplicate(source: Source, frame: pl.LazyFrame) -> pl.LazyFrame:
    """The first record of each key, in the order of the crawl. Rows without a whole key are all kept."""
    keys = list(source.spec.record.key)
    whole = pl.all_horizontal(pl.col(key).is_not_null() for key in keys)
    first = pl.int_range(pl.len()).over(keys) == 0
    return frame.filter(~whole | first)


def count(source: Source, typed: pl.LazyFrame, deduplicated_rows: int) -> Counts:
    """The ledger of a partition, from its typed rows and the number that was left."""
    keys = source.spec.record.key
    without = pl.any_horizontal(pl.col(key).is_null() for key in keys).sum()
    rows_in, without_key = typed.select(pl.len(), without.alias("without")).collect().row(0)
    return Counts(rows_in, deduplicated_rows, rows_in - deduplicated_rows, without_key)
