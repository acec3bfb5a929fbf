"""Which rows have the same key: exactly, in memory that depends on the number of rows and not on what they hold.

Hashes find the rows that may be equal (8 bytes a row); only those are read again and compared by their values, some at
a time. Frames are read several times, so they must give the same rows in the same order each time.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from gossamer.source import Keep

#: The number of a row in its frame, while rows are compared.
ROW = "_gossamer_row"
#: So many rows are compared at once.
_AT_ONCE = 500_000


def is_whole(keys: Sequence[str]) -> pl.Expr:
    """Whether a row has its whole key; rows without are equal to none."""
    return pl.all_horizontal(pl.col(key).is_not_null() for key in keys)


def incomplete(frame: pl.LazyFrame, keys: Sequence[str]) -> int:
    """How many rows lack a field of their key."""
    return int(frame.select((~is_whole(keys)).sum()).collect(engine="streaming").item())


def hashes(frame: pl.LazyFrame, keys: Sequence[str]) -> pl.Series:
    """The hash of each row's key, in order; null where the key is not whole."""
    schema = frame.collect_schema()
    # The numbers behind categories differ from frame to frame.
    named = [pl.col(key).cast(pl.String) if schema[key] in (pl.Categorical, pl.Enum) else key for key in keys]
    hashed = pl.when(is_whole(keys)).then(pl.struct(named).hash())
    return frame.select(hashed.alias("hash")).collect(engine="streaming").to_series()


def mask(length: int, rows: pl.Series) -> pl.Series:
    """True for these rows of `length`."""
    return pl.repeat(False, length, dtype=pl.Boolean, eager=True).scatter(rows, True)


def where(chosen: pl.Series) -> pl.Expr:
    """A mask, one value a row, as an expression over a frame with the column `ROW`."""
    return pl.col(ROW).map_batches(chosen.gather, return_dtype=chosen.dtype, is_elementwise=True)


def losers(frame: pl.LazyFrame, keys: Sequence[str], keep: Keep, counted: Sequence[str]) -> pl.Series | None:
    """A mask of the rows against which another one of their key wins; None where every key is unique.

    `counted` are the columns whose values make a row full. Between equals, the first row wins.
    """
    hashed = hashes(frame, keys)
    length = len(hashed)
    rank, highest = _rank(keep, frame, counted)
    lost = []
    for suspects in _suspects(hashed):
        rows = frame.with_row_index(ROW).filter(where(mask(length, suspects)))
        found = rows.select(ROW, *keys, rank.alias("_rank")).collect(engine="streaming")
        best_first = found.sort("_rank", ROW, descending=[highest, False], nulls_last=True)
        winners = best_first.unique(keys, keep="first", maintain_order=True)
        lost.append(found.join(winners, on=ROW, how="anti")[ROW])
    losing = pl.concat(lost) if lost else pl.Series(dtype=pl.UInt32)
    return mask(length, losing) if len(losing) else None


def repeated(frame: pl.LazyFrame, keys: Sequence[str]) -> tuple[dict[str, Any], int] | None:
    """A key that comes more than once, and how often; None where every key is unique."""
    hashed = hashes(frame, keys)
    for suspects in _suspects(hashed):
        rows = frame.with_row_index(ROW).filter(where(mask(len(hashed), suspects)))
        counted = rows.select(keys).collect(engine="streaming").group_by(keys, maintain_order=True).len(ROW)
        for row in counted.filter(pl.col(ROW) > 1).head(1).iter_rows(named=True):
            return {key: row[key] for key in keys}, row[ROW]
    return None


def _suspects(hashed: pl.Series) -> Iterator[pl.Series]:
    """The numbers of the rows whose hash comes more than once, all rows of one hash together, some hashes at a time."""
    order = hashed.arg_sort().slice(hashed.null_count())
    ordered = hashed.gather(order)
    again = (ordered == ordered.shift(1)).fill_null(False)
    several = again | again.shift(-1, fill_value=False)
    order, ordered = order.filter(several), ordered.filter(several)
    start = 0
    while start < len(order):
        last = ordered[min(start + _AT_ONCE, len(order)) - 1]
        end = int(ordered.search_sorted(last, side="right"))
        yield order.slice(start, end - start)
        start = end


def _rank(keep: Keep, frame: pl.LazyFrame, counted: Sequence[str]) -> tuple[pl.Expr, bool]:
    """What decides between rows, and whether the highest wins; rows without it lose against those that have it."""
    match keep.rule:
        case "first" | "last":
            return pl.col(ROW).cast(pl.Int64), keep.rule == "last"
        case "fullest":
            return pl.sum_horizontal(pl.col(column).is_not_null().cast(pl.Int64) for column in counted), True
    assert keep.field
    value = pl.col(keep.field)
    if frame.collect_schema()[keep.field].is_float():
        value = value.fill_nan(None)
    return value, keep.rule != "min"
