"""Values as suites write them (JSON, so dates are text), made comparable with a column of a type."""

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import polars as pl


def is_moment(dtype: pl.DataType) -> bool:
    return dtype in (pl.Date, pl.Datetime)


def literal(value: Any, dtype: pl.DataType) -> pl.Expr:
    """A value as an expression to compare a column of this type with.

    A moment without a time zone is meant in the column's own; one with a time zone, beside a column without, in UTC.
    NaN is null, as it is in columns: Polars holds it for the greatest number, Python for none that compares.

    Raises:
        ValueError: text that stands for no moment, beside a column of moments.
    """
    if is_moment(dtype):
        if isinstance(value, str):
            value = _parsed(value)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return (
                pl.lit(value) if dtype == pl.Date else literal(dt.datetime(value.year, value.month, value.day), dtype)
            )
        if isinstance(value, dt.datetime):
            return _moment(value, getattr(dtype, "time_zone", None))
    if dtype == pl.Time and isinstance(value, str):
        value = dt.time.fromisoformat(value)
    if isinstance(value, float) and math.isnan(value):
        return pl.lit(None, pl.Float64)
    return pl.lit(value)


def as_written(value: Any) -> Decimal | None:
    """The decimal that a number is written as, 0.1 for the float 0.1; None for what is no finite number."""
    if not _is_number(value) or not math.isfinite(value):
        return None
    return Decimal(int(value)) if isinstance(value, bool) else Decimal(str(value))


def comparable(value: Any, dtype: pl.DataType) -> Any:
    """A value as Polars would give one of this type back; as it is, where it cannot be one."""
    if dtype.is_decimal():
        written = as_written(value)
        return value if written is None else written
    if not is_moment(dtype) or not _stands_for_moment(value):
        return value
    return pl.select(literal(value, dtype).cast(dtype)).item()


def _moment(value: dt.datetime, zone: str | None) -> pl.Expr:
    if zone is None:
        return pl.lit(value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value)
    if value.tzinfo is None:
        return pl.lit(value).dt.replace_time_zone(zone)
    return pl.lit(value.astimezone(dt.UTC)).dt.convert_time_zone(zone)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dt.datetime:
    from dateutil.parser import parse

    try:
        found: dt.datetime = parse(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} stands for no date or time") from error
    return found


def among(column: pl.Expr, dtype: pl.DataType, values: Iterable[Any]) -> pl.Expr:
    """Whether a column's values are among these, equal as Python has it (1 == 1.0 == True), and dates as text too."""
    given = [value for value in values if value is not None]
    if is_moment(dtype):
        return _any_equal(column, [literal(value, dtype) for value in given if _stands_for_moment(value)])
    if dtype.is_decimal():
        return _any_equal(column, [pl.lit(each) for value in given if (each := as_written(value)) is not None])
    if dtype.is_numeric() or dtype == pl.Duration:  # which a table has as seconds
        numbers = [value for value in given if _is_number(value)]
        if dtype.is_integer():
            return _is_in(column, [int(value) for value in numbers if math.isfinite(value) and int(value) == value])
        return _is_in(column.cast(pl.Float64), [float(value) for value in numbers])
    if dtype == pl.Boolean:
        return _is_in(column, [bool(value) for value in given if _is_number(value) and value in (0, 1)])
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _is_in(column, [value for value in given if isinstance(value, str)])
    return pl.lit(False) if dtype == pl.Null else _is_in(column, given)


def _is_in(column: pl.Expr, values: Sequence[Any]) -> pl.Expr:
    return column.is_in(values) if values else pl.lit(False)


def _any_equal(column: pl.Expr, values: Sequence[pl.Expr]) -> pl.Expr:
    return pl.any_horizontal([pl.lit(False), *(column == value for value in values)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal)


def _stands_for_moment(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, dt.date)
    try:
        _parsed(value)
    except ValueError:
        return False
    return True
