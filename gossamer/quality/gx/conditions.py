"""What rows should meet: Great Expectations' map metrics, each as an expression that is true where a row does.

They judge as the pandas metrics do, values that are null apart; where that cannot be, the deviation is in
docs/great-expectations-deviations.md. How rows are counted, sampled and numbered is `maps`'s.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import polars as pl

from gossamer.quality.gx.literal import among, is_moment, literal
from gossamer.quality.gx.plan import CONDITIONS, Asked, Condition, NotNativeError, condition

_SAME_TYPE = "Column values, min_value, and max_value must either be None or of the same type."


# ---- null, distinct


@condition("column_values.nonnull", nulls=True)
def _not_null(asked: Asked) -> pl.Expr:
    return asked.column.is_not_null()


@condition("column_values.null", nulls=True)
def _null(asked: Asked) -> pl.Expr:
    return asked.column.is_null()


def _distinct(name: str, key: Callable[[Asked], pl.Expr], *, nulls: bool) -> None:
    CONDITIONS[name] = Condition(lambda asked: ~key(asked).is_duplicated(), nulls, alone=True, distinct=key)


_distinct("column_values.unique", lambda asked: asked.column, nulls=False)
_distinct("compound_columns.unique", lambda asked: pl.struct(asked.columns), nulls=True)


# ---- sets and ranges


@condition("column_values.in_set")
def _in_set(asked: Asked) -> pl.Expr:
    values = asked.get("value_set")
    return pl.lit(True) if values is None else among(asked.column, asked.dtype, values)


@condition("column_values.not_in_set")
def _not_in_set(asked: Asked) -> pl.Expr:
    values = asked.get("value_set")
    return pl.lit(True) if values is None else ~among(asked.column, asked.dtype, values)


def between(value: pl.Expr, low: Any, high: Any, strict_low: Any = False, strict_high: Any = False) -> pl.Expr:
    """Whether a value lies in a range; either bound may be None, not both."""
    parts: list[pl.Expr] = []
    if low is not None:
        parts.append(value > low if strict_low else value >= low)
    if high is not None:
        parts.append(value < high if strict_high else value <= high)
    if not parts:
        raise ValueError("min_value and max_value cannot both be None")
    return parts[0] if len(parts) == 1 else parts[0].and_(parts[1])


@condition("column_values.between")
def _between(asked: Asked) -> pl.Expr:
    low, high = bounds(asked)
    return between(asked.column, low, high, asked.get("strict_min"), asked.get("strict_max"))


def bounds(asked: Asked) -> tuple[pl.Expr | None, pl.Expr | None]:
    """`min_value` and `max_value`, comparable with the column."""
    low, high = asked.get("min_value"), asked.get("max_value")
    if low is not None and high is not None and type(low) is type(high) and low > high:
        raise ValueError("min_value cannot be greater than max_value")
    if not is_moment(asked.dtype) and asked.dtype not in (pl.Null, pl.Time):
        textual = asked.dtype in (pl.String, pl.Categorical, pl.Enum)
        if any(value is not None and isinstance(value, str) != textual for value in (low, high)):
            raise TypeError(_SAME_TYPE)
    return (
        None if low is None else literal(low, asked.dtype),
        None if high is None else literal(high, asked.dtype),
    )


# ---- order and spread


def _ordered(asked: Asked, *, up: bool) -> pl.Expr:
    if asked.dtype.is_nested():
        raise NotNativeError(f"{asked.dtype} has no order")
    before = asked.column.forward_fill().shift(1)  # the value before, whatever nulls are between
    strictly = asked.get("strictly", False)
    if up:
        found = asked.column > before if strictly else asked.column >= before
    else:
        found = asked.column < before if strictly else asked.column <= before
    return found | before.is_null()


@condition("column_values.increasing", alone=True)
def _increasing(asked: Asked) -> pl.Expr:
    return _ordered(asked, up=True)


@condition("column_values.decreasing", alone=True)
def _decreasing(asked: Asked) -> pl.Expr:
    return _ordered(asked, up=False)


def number(asked: Asked, complaint: str = "") -> pl.Expr:
    """The column as numbers to calculate with."""
    dtype = asked.dtype
    if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null, pl.Duration)):
        raise TypeError(complaint or f'could not convert {_kind(dtype)} to float: the column "{asked.columns[0]}"')
    return asked.column.cast(pl.Float64) if dtype.is_decimal() or dtype in (pl.Null, pl.Boolean) else asked.column


def _kind(dtype: pl.DataType) -> str:
    return "string" if _family(dtype) == "text" else str(dtype)


@condition("column_values.z_score.under_threshold", alone=True)
def _z_score(asked: Asked) -> pl.Expr:
    value = number(asked, "Cannot complete Z-score calculations on a non-numerical column.")
    score = (value - value.mean()) / value.std()
    threshold = asked.get("threshold")
    if not isinstance(threshold, int | float | Decimal):
        raise TypeError("Cannot check if a string lies under a numerical threshold")
    under = score.abs().lt(abs(threshold)) if asked.get("double_sided", True) else score.lt(threshold)
    return under.fill_null(True) | score.is_nan()


@condition("column_values.not_outliers", alone=True)
def _not_outliers(asked: Asked) -> pl.Expr:
    method, factor = asked.get("method", "iqr"), asked.get("multiplier", 1.5)
    value = number(asked, f'Cannot detect outliers in a non-numerical column: "{asked.columns[0]}".')
    if method == "iqr":
        low, high = value.quantile(0.25, "linear"), value.quantile(0.75, "linear")
        reach = factor * (high - low)
        met = value.ge(low - reach).and_(value.le(high + reach))
        return met.or_(low.is_finite().not_(), high.is_finite().not_())
    if method != "std":
        raise ValueError(f"method {method!r} has not been implemented")
    middle, spread = value.mean(), value.std()
    within = pl.when(spread * factor <= 0).then(value == middle).otherwise((value - middle).abs() < spread * factor)
    return within | spread.is_null() | ~spread.is_finite() | ~middle.is_finite()


# ---- pairs and records


def _comparable(asked: Asked, first: str, second: str) -> tuple[pl.Expr, pl.Expr] | None:
    """Two columns to compare; None where values of their types are never equal."""
    one, two = asked.table.schema[first], asked.table.schema[second]
    if one != two and _family(one) != _family(two) and pl.Null not in (one, two):
        return None
    return pl.col(first), pl.col(second)


def _family(dtype: pl.DataType) -> str:
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Duration):
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if is_moment(dtype):
        return f"moment {getattr(dtype, 'time_zone', None) is not None}"
    return str(dtype)


@condition("column_pair_values.equal", nulls=True)
def _equal(asked: Asked) -> pl.Expr:
    pair = _comparable(asked, *asked.columns)
    return pl.lit(False) if pair is None else pair[0] == pair[1]


@condition("column_pair_values.a_greater_than_b", nulls=True)
def _greater(asked: Asked) -> pl.Expr:
    pair = _comparable(asked, *asked.columns)
    if pair is None:
        types = " and ".join(str(asked.table.schema[name]) for name in asked.columns)
        raise TypeError(f"'>' not supported between columns of {types}")
    return pair[0] >= pair[1] if asked.get("or_equal") else pair[0] > pair[1]


@condition("column_pair_values.in_set", nulls=True)
def _pair_in_set(asked: Asked) -> pl.Expr:
    pairs = asked.get("value_pairs_set")
    if pairs is None:
        return pl.lit(True)
    by_first: dict[Any, list[Any]] = {}
    for first, second in pairs:
        by_first.setdefault(first, []).append(second)
    one, two = asked.columns
    return pl.any_horizontal(
        [
            pl.lit(False),
            *(_one_of(asked, one, [first]) & _one_of(asked, two, others) for first, others in by_first.items()),
        ]
    )


def _one_of(asked: Asked, name: str, values: list[Any]) -> pl.Expr:
    found = among(pl.col(name), asked.table.schema[name], values).fill_null(False)
    return found | pl.col(name).is_null() if None in values else found


def _same(asked: Asked, first: str, second: str) -> pl.Expr:
    pair = _comparable(asked, first, second)
    if pair is None:
        return pl.col(first).is_null() & pl.col(second).is_null()
    return pair[0].eq_missing(pair[1])


@condition("select_column_values.unique.within_record", nulls=True)
def _all_different(asked: Asked) -> pl.Expr:
    names = asked.columns
    pairs = [(first, second) for at, first in enumerate(names) for second in names[at + 1 :]]
    return ~pl.any_horizontal([pl.lit(False), *(_same(asked, first, second) for first, second in pairs)])


@condition("multicolumn_values.equal", nulls=True)
def _all_equal(asked: Asked) -> pl.Expr:
    first, *others = asked.columns
    return pl.all_horizontal([pl.lit(True), *(_same(asked, first, other) for other in others)])


@condition("multicolumn_sum.equal", nulls=True)
def _sum_equal(asked: Asked) -> pl.Expr:
    for name in asked.columns:
        dtype = asked.table.schema[name]
        if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null, pl.Duration)):
            raise NotNativeError(f'the column "{name}" ({dtype}) is not numeric')
    return pl.sum_horizontal(asked.columns, ignore_nulls=False).eq(asked.get("sum_total"))
