"""From a condition to what is asked of it: how many rows do not meet it, which, and what they hold.

A count is one expression, folded into the pass over all rows wherever rows are judged by themselves. Uniqueness is
proved first: as many different hashes as rows means no repetition, at eight bytes a row; only otherwise rows are
compared. Samples are looked at only where something failed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from gossamer.quality.gx.plan import (
    EVERYTHING,
    MOST,
    ROW,
    Asked,
    Condition,
    Cost,
    Known,
    Look,
    Measure,
    Plan,
    Row,
    Unexpected,
)

_SUMMARY = {"result_format": "SUMMARY", "partial_unexpected_count": 20}
_NO_INDEX = (
    'Error: The unexpected_index_column "{}" does not exist in Dataframe. '
    "Please check your configuration and try again."
)


def unexpected(asked: Asked, condition: Condition) -> Unexpected:
    """The rows that do not meet a condition."""
    present = [] if condition.nulls else [asked.column.is_not_null()]
    if condition.distinct is not None:
        key = condition.distinct(asked)
        bad = pl.all_horizontal([*present, key.is_duplicated()])
        return Unexpected(asked.domain, bad, narrow=key.hash().is_duplicated(), alone=True)
    unmet = ~condition.meets(asked).fill_null(False)
    return Unexpected(asked.domain, pl.all_horizontal([*present, unmet]), alone=condition.alone)


def numbered(rows: Sequence[int]) -> Unexpected:
    """Rows of which the numbers are known."""
    numbers = pl.Series(rows, dtype=pl.get_index_type())
    return Unexpected(EVERYTHING, pl.col(ROW).is_in(numbers.implode()), alone=True)


def count(asked: Asked, condition: Condition, rows: Unexpected) -> Measure:
    """How many there are."""
    if condition.distinct is not None:
        key = condition.distinct(asked) if condition.nulls else condition.distinct(asked).drop_nulls()
        exprs = {"hashes": key.hash().n_unique(), "rows": key.len()}
        compared = Measure({"value": pl.len()}, _whole, rows)
        return Measure(exprs, lambda row: 0 if row["hashes"] == row["rows"] else compared, rows.domain, Cost.DISTINCT)
    if rows.alone:
        return Measure({"value": rows.bad.sum()}, _whole, rows.domain)
    return Measure({"value": rows.everywhere.sum()}, _whole)


def kept(asked: Asked) -> Measure:
    """How many rows are judged."""
    keep = asked.domain.keep
    return Measure({"value": pl.len() if keep is None else keep.sum()}, _whole)


def _whole(row: Row) -> int:
    return int(row["value"] or 0)


def look(asked: Asked, rows: Unexpected, how_many: Measure | Known, suffix: str) -> Plan:
    """A look at them, as the result format wants it."""
    form: Mapping[str, Any] = asked.get("result_format") or _SUMMARY
    if suffix == "unexpected_index_query":
        wanted = form.get("return_unexpected_index_query") is not False
        return Known(_query(rows) if wanted else None)
    some = None if form["result_format"] == "COMPLETE" else form.get("partial_unexpected_count", 20)
    listed = MOST if some is None else min(some, MOST)
    names = list(dict.fromkeys(asked.columns))
    if suffix == "unexpected_values":
        return Look(rows, names, how_many, listed, lambda seen: _values(seen, asked))
    if suffix == "unexpected_rows":
        return Look(rows, [ROW, *asked.table.schema], how_many, listed, _pandas)
    keys = form.get("unexpected_index_column_names")
    if not keys:
        return Look(rows, [ROW], how_many, some, lambda seen: seen[ROW].to_list())
    for key in keys:
        if key not in asked.table.schema:
            raise ValueError(_NO_INDEX.format(key))
    if form.get("exclude_unexpected_values", False):
        return Look(rows, keys, how_many, some, lambda seen: [seen.to_dict(as_series=False)] if seen.height else [])
    return Look(rows, list(dict.fromkeys([*names, *keys])), how_many, some, lambda seen: seen.to_dicts())


def _query(rows: Unexpected) -> str:
    return "df" + "".join(f".filter({part})" for part in (rows.domain.keep, rows.bad) if part is not None)


def _values(seen: pl.DataFrame, asked: Asked) -> list[Any]:
    if asked.ask.domain.get("column_A"):
        return [tuple(row[name] for name in asked.columns) for row in seen.to_dicts()]
    return seen.to_dicts() if asked.ask.domain.get("column_list") else seen.to_series().to_list()


def _pandas(seen: pl.DataFrame) -> Any:
    """The rows as pandas has them, which is what Great Expectations takes; under their number in the frame."""
    found = seen.drop(ROW).to_pandas()
    found.index = seen[ROW].to_list()
    return found
