"""The rows that do not reach a reader: those that fail a critical expectation about rows, each with the reason.

Which rows fail is `suite`'s; here a frame is parted by it. What remains goes on; the partition's own verdict decides
whether it is published.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from gossamer.quality import words

EXPECTATION, REASON = "_expectation", "_reason"
_FAILED = "_gossamer_failed_"
#: Longest value that is quoted in a reason; the row itself stands beside it.
_QUOTED = 200


@dataclass(frozen=True)
class Failing:
    """The rows that fail one critical expectation.

    Attributes:
        expectation: its name, as Great Expectations has it.
        demand: what it demands, in words.
        columns: the columns that it judges.
        rows: positions in the frame.
    """

    expectation: str
    demand: str
    columns: tuple[str, ...]
    rows: pl.Series


@dataclass(frozen=True)
class Parted:
    """A frame without the rows in quarantine, and these rows with the columns `_expectation` and `_reason`."""

    kept: pl.LazyFrame
    quarantined: pl.LazyFrame
    by: dict[str, int]


def part(frame: pl.LazyFrame, height: int, failing: Sequence[Failing]) -> Parted:
    """Parts a frame of `height` rows; both parts stream, and keep the order of the rows.

    `by` counts rows by what they fail; a row that fails several expectations counts for each. `_expectation` lists the
    expectations of a row, `_reason` says what each demands and what the row has.
    """
    schema = frame.collect_schema()
    masks = {f"{_FAILED}{n}": _mask(height, one.rows) for n, one in enumerate(failing)}
    if not masks:
        none = [pl.lit(None, pl.List(pl.String)).alias(EXPECTATION), pl.lit(None, pl.String).alias(REASON)]
        return Parted(frame, frame.clear().with_columns(none), {})
    marked = pl.concat([frame, pl.LazyFrame(masks)], how="horizontal")
    failed = pl.any_horizontal(masks.keys())
    names = [pl.when(mask).then(pl.lit(one.expectation)) for mask, one in zip(masks, failing, strict=True)]
    reasons = [pl.when(mask).then(_reason(one, schema)) for mask, one in zip(masks, failing, strict=True)]
    quarantined = marked.filter(failed).with_columns(
        pl.concat_list(names).list.drop_nulls().alias(EXPECTATION),
        pl.concat_str(reasons, separator="; ", ignore_nulls=True).alias(REASON),
    )
    return Parted(
        marked.filter(~failed).drop(*masks),
        quarantined.drop(*masks),
        _counted(failing),
    )


def _counted(failing: Sequence[Failing]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for one in failing:  # two may read alike, where long arguments are cut
        counts[one.demand] += one.rows.len()
    return dict(counts)


def _mask(height: int, rows: pl.Series) -> pl.Series:
    return pl.int_range(height, dtype=pl.UInt32, eager=True).is_in(rows.cast(pl.UInt32).implode())


def _reason(one: Failing, schema: pl.Schema) -> pl.Expr:
    """`price must be between 0 and 10000: -5`; the demand alone where the row's values are none of a kind to quote."""
    demand = pl.lit(words.clip(one.demand))
    quoted = [_quoted(name, schema[name]) for name in one.columns if name in schema and _can_be_quoted(schema[name])]
    return pl.format("{}: {}", demand, pl.concat_str(quoted, separator=", ")) if quoted else demand


def _can_be_quoted(dtype: pl.DataType) -> bool:
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Duration, pl.Object))


def _quoted(name: str, dtype: pl.DataType) -> pl.Expr:
    text = pl.col(name) if dtype == pl.String else pl.col(name).cast(pl.String)
    return text.str.slice(0, _QUOTED).fill_null("no value")
