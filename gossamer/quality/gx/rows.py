"""Which rows of a table fail which conditions: all of them, in one streaming pass wherever rows are judged alone."""

from collections.abc import Mapping, Sequence

import polars as pl

from gossamer.quality.gx.plan import ROW, Ask, Asked, Table, Unexpected
from gossamer.quality.gx.resolve import Fallback, Planner

SCHEMA = {"row": pl.UInt32, "expectation": pl.UInt16}


def failing(table: Table, asks: Mapping[int, Ask], fallback: Fallback | None = None) -> pl.DataFrame:
    """The rows that fail (`row`, counted from 0) by the numbers under which conditions are asked (`expectation`).

    A condition that cannot be evaluated has no rows here: that it failed, and why, is what `resolve` says.
    """
    planner = Planner(table, fallback)
    together: dict[int, Unexpected] = {}
    frames: list[pl.LazyFrame] = []
    for number, ask in asks.items():
        try:
            rows, _ = planner.condition(Asked(table, ask), ask.of_condition[0] if ask.of_condition else ask.name)
        except Exception:  # noqa: BLE001, S112  a user's metric may raise anything; see above
            continue
        if rows.alone:
            frames.append(rows.of(table).select(row=ROW, expectation=pl.lit(number)))
        else:
            together[number] = rows
    found = [*_collected([_judged(table, together)] if together else [], table, together), *_each(frames)]
    return pl.concat([frame.cast(pl.Schema(SCHEMA)) for frame in found] or [pl.DataFrame(schema=SCHEMA)]).sort(
        "row", "expectation"
    )


def _judged(table: Table, conditions: Mapping[int, Unexpected]) -> pl.LazyFrame:
    verdicts = [rows.everywhere.alias(str(number)) for number, rows in conditions.items()]
    judged = table.rows.with_row_index(ROW).select(pl.col(ROW).alias("row"), *verdicts)
    some = judged.filter(pl.any_horizontal([pl.col(str(number)) for number in conditions]))
    named = some.unpivot(index="row", variable_name="expectation", value_name="fails")
    return named.filter("fails").select("row", pl.col("expectation").cast(pl.UInt16))


def _collected(
    frames: Sequence[pl.LazyFrame], table: Table, conditions: Mapping[int, Unexpected]
) -> Sequence[pl.DataFrame]:
    try:
        return [frame.collect(engine="streaming") for frame in frames]
    except Exception:  # noqa: BLE001  one of them fails all: each by itself, then
        return _each([_judged(table, {number: rows}) for number, rows in conditions.items()])


def _each(frames: Sequence[pl.LazyFrame]) -> list[pl.DataFrame]:
    found = []
    for frame in frames:
        try:
            found.append(frame.collect(engine="streaming"))
        except Exception:  # noqa: BLE001, S112  see `failing`
            continue
    return found
