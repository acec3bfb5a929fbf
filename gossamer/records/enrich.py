"""The enriched layer: declared joins with other sources' published rows, then the source's own `enrich`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from gossamer.errors import GossamerError
from gossamer.lake import Lake, Staged
from gossamer.manifest import CheckResult
from gossamer.partition import SEPARATOR
from gossamer.records import keys, transform
from gossamer.schema import PARTITION
from gossamer.source import Join, Source

#: Rows without a match among which examples are sought.
_LOOKED_AT = 1000


class JoinError(GossamerError):
    """A declared join that cannot be made: nothing to join with, unknown columns, or several rows for one."""


@dataclass(frozen=True)
class Joined:
    """What a join did: rows that were joined, and how many of them found no match."""

    source: str
    rows: int
    unmatched: int
    max_unmatched: float | None
    examples: tuple[str, ...]

    @property
    def share(self) -> float:
        return self.unmatched / self.rows if self.rows else 0.0

    @property
    def within_limit(self) -> bool:
        """Whether the declared share of unmatched rows is kept; True where none is declared."""
        return self.max_unmatched is None or self.share <= self.max_unmatched


def checks(joined: Sequence[Joined]) -> list[CheckResult]:
    """`joins_matched` (blocking): the declared shares are kept. `joins_complete`: every row found its match."""
    details = {"joins": [asdict(join) for join in joined]} if joined else {}
    limited = [join for join in joined if join.max_unmatched is not None]
    return [
        CheckResult(
            name="joins_matched",
            passed=all(join.within_limit for join in joined),
            blocking=True,
            summary="; ".join(_outcome(join) for join in limited) or "no join declares max_unmatched",
            details=details,
        ),
        CheckResult(
            name="joins_complete",
            passed=not any(join.unmatched for join in joined),
            blocking=False,
            summary="; ".join(_outcome(join) for join in joined) or "no joins declared",
            details=details,
        ),
    ]


def kept(source: Source, rows: int, staged: Staged) -> list[CheckResult]:
    """`rows_kept` and `record_key` (blocking): joins and the source's own `enrich` lose not all, double nothing, and
    leave every row its whole key."""
    key = ", ".join(source.spec.record.key)
    faults = []
    if without := keys.incomplete(staged.frame, source.spec.record.key):
        faults.append(f"{without} of {staged.rows} records have no key ({key})")
    if again := keys.repeated(staged.frame, source.spec.record.key):
        faults.append(f"{again[1]} rows have the key {', '.join(map(str, again[0].values()))}; one row may ({key})")
    return [
        CheckResult(
            name="rows_kept",
            passed=staged.rows > 0 or rows == 0,
            blocking=True,
            summary=f"{staged.rows} of {rows} clean rows, after joins and the source's own `enrich`",
        ),
        CheckResult(
            name="record_key",
            passed=not faults,
            blocking=True,
            summary="; ".join(faults) or f"every record is there once ({key})",
        ),
    ]


def _outcome(join: Joined) -> str:
    said = f"{join.unmatched} of {join.rows} rows have no match in {join.source}"
    if join.unmatched:
        said += f" ({join.share:.1%}, e.g. {', '.join(join.examples)})"
    return said if join.max_unmatched is None else f"{said}; {join.max_unmatched:.1%} may"


def upstream(source: Source, lake: Lake, key: str) -> dict[str, pl.LazyFrame]:
    """The published rows that the source's joins read, by source name.

    Raises:
        JoinError: nothing is published there.
    """
    frames = {}
    for join in source.spec.enrich.join:
        latest = join.partition == "latest"
        rows = lake.scan_published(join.source)
        chosen = None if rows is None else _latest(rows) if latest else rows.filter(pl.col(PARTITION) == key)
        if chosen is None or not (_any(chosen) or (not latest and lake.is_published(join.source, key))):
            which = "yet" if latest else f"for partition {key}"
            raise JoinError(
                f"{source.name} joins `{join.source}`, which has nothing published {which}. "
                f"Materialise published/{join.source} first."
            )
        frames[join.source] = chosen
    return frames


def _any(rows: pl.LazyFrame) -> bool:
    return not rows.head(1).collect().is_empty()


def _latest(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of the newest period, all its segments; periods are written so that text sorts them."""
    period = pl.col(PARTITION).str.split(SEPARATOR).list.first()
    newest = rows.select(period.max()).collect().item()
    return rows.filter(period == newest)


def enrich(
    source: Source, frame: pl.LazyFrame, upstream: Mapping[str, pl.LazyFrame]
) -> tuple[pl.LazyFrame, list[Joined]]:
    """The clean rows with the columns of every declared join and what the source's own `enrich` adds.

    Joined columns keep their names; one that the row has already gets the suffix `_<source>`. Provenance and
    `partition_key` of the other source are left out.

    Raises:
        JoinError: a column to join on is unknown or of another type, or the other source has several rows for one key.
        transform.TransformError: the source's own code failed.
    """
    joined = []
    for join in source.spec.enrich.join:
        frame, outcome = _join(source, frame, join, upstream[join.source])
        joined.append(outcome)
    return transform.apply(source, "enrich", frame, dict(upstream)), joined


def _join(source: Source, frame: pl.LazyFrame, join: Join, rows: pl.LazyFrame) -> tuple[pl.LazyFrame, Joined]:
    here, there = list(join.on.keys()), list(join.on.values())
    place = f"{source.folder / 'source.yaml'}: enrich.join of `{join.source}`"
    left, right = frame.collect_schema(), rows.collect_schema()
    for schema, names, of in ((left, here, source.name), (right, there, join.source)):
        if unknown := [name for name in names if name not in schema]:
            raise JoinError(f"{place}: {of} has no column {', '.join(unknown)}. It has: {', '.join(schema.names())}.")
    if differ := [f"{a} {left[a]} and {b} {right[b]}" for a, b in join.on.items() if left[a] != right[b]]:
        raise JoinError(f"{place}: {'; '.join(differ)} are of different types. Declare the same type in both sources.")
    right_rows = rows.select(name for name in right.names() if name in there or not _internal(name))
    if twice := keys.repeated(right_rows, there):
        values, times = twice
        raise JoinError(
            f"{place}: `{join.source}` has {times} rows for {values}. Join on columns that identify one row."
        )
    missing = frame.join(right_rows, left_on=here, right_on=there, how="anti", maintain_order="left")
    rows_in = frame.select(pl.len()).collect(engine="streaming").item()
    unmatched = missing.select(pl.len()).collect(engine="streaming").item()
    shown = pl.concat_str(pl.col(here).cast(pl.String).fill_null("(none)"), separator=" / ").alias("on")
    first = missing.select(shown).head(_LOOKED_AT).collect(engine="streaming")["on"] if unmatched else ()
    examples = tuple(dict.fromkeys(first))[:5]
    result = frame.join(
        right_rows, left_on=here, right_on=there, how=join.how, suffix=f"_{join.source}", maintain_order="left"
    )
    return result, Joined(join.source, rows_in, unmatched, join.max_unmatched, examples)


def _internal(column: str) -> bool:
    return column.startswith("_") or column in (PARTITION, "extra")
