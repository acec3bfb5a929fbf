"""The clean layer: crawled rows with their declared types, the source's own `clean`, each record once.

Which rows then pass the source's expectations is `gossamer.quality`'s.
"""

from dataclasses import dataclass

import polars as pl

from gossamer import schema
from gossamer.manifest import CheckResult
from gossamer.records import keys, transform, values
from gossamer.source import Source


@dataclass(frozen=True)
class Counts:
    """The records' ledger of one partition: crawled = clean + quarantined + duplicates + dropped.

    `dropped` is what the source's own `clean` took out (negative where it added rows). `without_key` rows are among the
    clean and quarantined ones: nothing identifies them, so that none of them is a duplicate.
    """

    crawled: int
    clean: int
    duplicates: int
    dropped: int
    without_key: int
    quarantined: int = 0

    @property
    def records(self) -> int:
        """Records, each once, those in quarantine included."""
        return self.clean + self.quarantined


def checks(source: Source, counts: Counts) -> list[CheckResult]:
    """Two blocking checks: `record_key`, since nothing can be said of a record that nothing identifies, and
    `rows_kept`, since a transform that drops every row would pass most expectations."""
    key = ", ".join(source.spec.record.key)
    missing = f"{counts.without_key} of {counts.records} records have no key ({key})"
    kept = f"{counts.clean} of {counts.crawled} crawled rows kept"
    others = {"duplicates": counts.duplicates, "dropped": counts.dropped, "in quarantine": counts.quarantined}
    lost = [f"{number} {what}" for what, number in others.items() if number]
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
    fields, words = list(source.spec.record.fields.items()), source.spec.record.words
    present = raw.collect_schema().names()
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name, _ in fields if name not in present]
    typed = (
        raw.with_columns(missing)
        .with_columns(pl.col(name).alias(f"_raw_{name}") for name, _ in fields)
        .with_columns(
            expression
            for name, kind in fields
            for expression in values.expressions(name, kind, source.spec.locale, words.get(name))
        )
        .with_columns(values.unparsed(fields))
    )
    selected = typed.select(schema.columns(source.spec).keys())
    part = source.partition(key)
    context = transform.Context(source.name, key, part.period, part.segment)
    return transform.apply(source, "clean", selected, context)


def deduplicate(source: Source, frame: pl.LazyFrame) -> pl.LazyFrame:
    """One record of each key, as `record.keep` says, in the order of the crawl. Rows without a whole key are all kept.

    `frame` is read several times: give staged rows, or some that are the same each time.

    Raises:
        transform.TransformError: the field that decides is gone.
    """
    record, columns = source.spec.record, frame.collect_schema().names()
    if record.winner.field not in (None, *columns):
        raise transform.TransformError(
            f"{source.transform_file}: clean() dropped the column {record.winner.field}, by which record.keep chooses. "
            "Keep it."
        )
    declared = [name for name in record.fields if name in columns]
    losers = keys.losers(frame, record.key, record.winner, declared)
    if losers is None:
        return frame
    return frame.with_row_index(keys.ROW).filter(keys.where(~losers)).drop(keys.ROW)


def count(source: Source, crawled: int, typed: pl.LazyFrame, clean: int, quarantined: int = 0) -> Counts:
    """The ledger of a partition: its crawled rows, those that `clean` gave, and what became of them.

    `clean` is the number of rows that are left when duplicates and those in quarantine are gone.
    """
    without = (~keys.is_whole(source.spec.record.key)).sum()
    totals = typed.select(pl.len(), without.alias("without")).collect(engine="streaming")
    given, without_key = totals.row(0)
    return Counts(crawled, clean, given - clean - quarantined, crawled - given, without_key, quarantined)
