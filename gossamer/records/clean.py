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
    """The records' ledger of one partition: crawled = clean + duplicates + dropped (quarantine has its own issue).

    `dropped` is what the source's own `clean` took out (negative where it added rows). `without_key` rows are among the
    clean ones: nothing identifies them, so that none of them is a duplicate.
    """

    crawled: int
    clean: int
    duplicates: int
    dropped: int
    without_key: int


def checks(source: Source, counts: Counts) -> list[CheckResult]:
    """Two blocking checks: `record_key`, since nothing can be said of a record that nothing identifies, and
    `rows_kept`, since a transform that drops every row would pass most expectations."""
    key = ", ".join(source.spec.record.key)
    missing = f"{counts.without_key} of {counts.clean} records have no key ({key})"
    kept = f"{counts.clean} of {counts.crawled} crawled rows kept"
    lost = [f"{n} {what}" for n, what in ((counts.duplicates, "duplicates"), (counts.dropped, "dropped")) if n]
    return [
        CheckResult(
            name="record_key",
            passed=not counts.without_key,
            blocking=True,
            summary=missing if counts.without_key else f"every record has its key ({key})",
        ),
        CheckResult(
            name="rows_kept",
            passed=counts.clean > 0 or counts.crawled == 0,
            blocking=True,
            summary=f"{kept} ({', '.join(lost)})" if lost else kept,
        ),
    ]


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


def count(source: Source, crawled: int, typed: pl.LazyFrame, clean: int) -> Counts:
    """The ledger of a partition: its crawled rows, those that `clean` gave, and the number left of them."""
    keys = source.spec.record.key
    without = pl.any_horizontal(pl.col(key).is_null() for key in keys).sum()
    given, without_key = typed.select(pl.len(), without.alias("without")).collect().row(0)
    return Counts(crawled, clean, given - clean, crawled - given, without_key)
