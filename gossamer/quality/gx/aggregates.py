"""Metrics of a whole domain: Great Expectations' column and table metrics, each as an expression or a plan.

They measure as the pandas metrics do; where that cannot be, the deviation is in
docs/great-expectations-deviations.md. What pandas objects GX wants is made here, and pandas imported only then.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from gossamer.quality.gx.conditions import between, bounds, number
from gossamer.quality.gx.literal import among, comparable, is_moment, literal
from gossamer.quality.gx.plan import Asked, Cost, Known, Measure, NotNativeError, Plan, Row, measure

#: Values that a list of distinct values has at most, unless its `limit` says otherwise.
_LISTED = 20


# ---- the table


@measure("table.row_count")
def _row_count(asked: Asked) -> pl.Expr:
    return pl.len()


@measure("table.columns")
def _columns(asked: Asked) -> Plan:
    return Known(list(asked.table.schema))


@measure("table.column_count")
def _column_count(asked: Asked) -> Plan:
    return Known(len(asked.table.schema))


@measure("table.column_types")
def _column_types(asked: Asked) -> Plan:
    return Known([{"name": name, "type": dtype} for name, dtype in asked.table.schema.items()])


@measure("table.head")
def _head(asked: Asked) -> Plan:
    rows = asked.domain.of(asked.table)
    return Known((rows if asked.get("fetch_all", False) else rows.head(asked.get("n_rows", 5))).collect().to_pandas())


# ---- counts


@measure("column.non_null_count")
def _present(asked: Asked) -> pl.Expr:
    return asked.column.count()


# GX names these two by what they count as failures of the other expectation.
@measure("column_values.nonnull.count")
def _nonnull(asked: Asked) -> pl.Expr:
    return asked.column.count()


@measure("column_values.null.count")
def _null(asked: Asked) -> pl.Expr:
    return asked.column.null_count()


@measure("column.non_null_proportion")
def _present_share(asked: Asked) -> Plan:
    exprs = {"present": asked.column.count(), "rows": pl.len()}
    return Measure(exprs, lambda row: row["present"] / row["rows"] if row["rows"] else 0, asked.domain)


@measure("column.distinct_values.count", Cost.DISTINCT)
def _distinct_count(asked: Asked) -> pl.Expr:
    return asked.column.drop_nulls().n_unique()


@measure("column.distinct_values.count.under_threshold")
def _distinct_under(asked: Asked) -> Plan:
    count = asked.column.drop_nulls().n_unique()
    return Measure({"value": count}, lambda row: row["value"] < asked.get("threshold"), asked.domain, Cost.DISTINCT)


@measure("column.unique_proportion")
def _distinct_share(asked: Asked) -> Plan:
    exprs = {"distinct": asked.column.drop_nulls().n_unique(), "present": asked.column.count()}
    finish = lambda row: row["distinct"] / row["present"] if row["present"] else 0  # noqa: E731
    return Measure(exprs, finish, asked.domain, Cost.DISTINCT)


@measure("column_values.between.count")
def _between_count(asked: Asked) -> pl.Expr:
    low, high = bounds(asked)
    return between(asked.column, low, high, asked.get("strict_min"), asked.get("strict_max")).sum()


@measure("column.histogram")
def _histogram(asked: Asked) -> Plan:
    """As numpy has it: each bin holds its lower edge, the last one both."""
    edges = list(asked.get("bins"))
    spans = list(pairwise(literal(edge, asked.dtype) for edge in edges))
    value = asked.column
    exprs = {
        str(at): ((value >= low) & (value <= high if at == len(spans) - 1 else value < high)).sum()
        for at, (low, high) in enumerate(spans)
    }
    return Measure(exprs, lambda row: [int(row[str(at)] or 0) for at in range(len(spans))], asked.domain)


# ---- extremes, means, order


def _comparable(asked: Asked) -> pl.Expr:
    if asked.dtype.is_nested():
        raise NotNativeError(f"{asked.dtype} has no order")
    return asked.column


@measure("column.min")
def _min(asked: Asked) -> Plan | pl.Expr:
    return _compared_with_floats(asked, _comparable(asked).min())


@measure("column.max")
def _max(asked: Asked) -> Plan | pl.Expr:
    return _compared_with_floats(asked, _comparable(asked).max())


def _compared_with_floats(asked: Asked, found: pl.Expr) -> Plan | pl.Expr:
    """What Great Expectations compares with bounds, which are floats: a decimal as the float written like it."""
    if not asked.dtype.is_decimal():
        return found
    return Measure({"value": found}, lambda row: _float(row["value"]), asked.domain)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


@measure("column.sum")
def _sum(asked: Asked) -> Plan | pl.Expr:
    if asked.dtype.is_decimal():
        return _compared_with_floats(asked, asked.column.sum())
    # Polars adds whole numbers up in the column's own width, which may run over
    narrow = asked.dtype.is_integer() and asked.dtype not in (pl.UInt64, pl.Int128, pl.UInt128)
    return (asked.column.cast(pl.Int64) if narrow else number(asked)).sum()


@measure("column.mean")
def _mean(asked: Asked) -> Plan | pl.Expr:
    if not asked.dtype.is_decimal():
        return _measurable(asked).mean()
    exprs = {"sum": asked.column.sum(), "present": asked.column.count()}
    finish = lambda row: float(row["sum"] / row["present"]) if row["present"] else None  # noqa: E731
    return Measure(exprs, finish, asked.domain)


@measure("column.standard_deviation")
def _deviation(asked: Asked) -> pl.Expr:
    return number(asked).std()


@measure("column.median", Cost.ORDER)
def _median(asked: Asked) -> pl.Expr:
    return _measurable(asked).median()


def _measurable(asked: Asked) -> pl.Expr:
    return asked.column if is_moment(asked.dtype) else number(asked)


_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@measure("column.quantile_values", Cost.ORDER)
def _quantiles(asked: Asked) -> Plan:
    shares, how = list(asked.get("quantiles")), asked.get("allow_relative_error") or "nearest"
    if how not in _INTERPOLATIONS:
        raise ValueError(
            "If specified for pandas, allow_relative_error must be one an allowed value for the 'interpolation'"
            f"parameter of .quantile() (one of {_INTERPOLATIONS})"
        )
    value = _measurable(asked)
    made = int if asked.dtype.is_integer() and how in ("lower", "higher", "nearest") else _same

    def of(interpolation: Any) -> pl.Expr:
        return pl.concat_list([value.quantile(share, interpolation) for share in shares])

    def values(found: Sequence[Any]) -> list[Any]:
        return [None if each is None else made(each) for each in found]

    def finish(row: Row) -> Any:
        halves = [how == "nearest" and _takes_lower(row["rows"], share) for share in shares]
        if not any(halves):
            return values(row["values"])
        return Measure(
            {"lower": of("lower")},
            lambda lower: values(
                [low if half else near for half, low, near in zip(halves, lower["lower"], row["values"], strict=True)]
            ),
            asked.domain,
            Cost.ORDER,
        )

    return Measure({"values": of(how), "rows": value.count()}, finish, asked.domain, Cost.ORDER)


def _takes_lower(rows: int, share: float) -> bool:
    """Whether a quantile lies right between two values of which pandas takes the lower: it goes to the even place."""
    place = (rows - 1) * share
    return place % 1 == 0.5 and int(place) % 2 == 0


def _same(value: Any) -> Any:
    return value


# ---- lengths


def _length(asked: Asked) -> pl.Expr:
    if isinstance(asked.dtype, pl.List):
        return asked.column.list.len()
    if asked.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        raise TypeError(f"values of type {asked.dtype} have no length")
    return asked.text.str.len_chars()


@measure("column_values.length.max")
def _longest(asked: Asked) -> pl.Expr:
    return _length(asked).max()


@measure("column_values.length.min")
def _shortest(asked: Asked) -> pl.Expr:
    return _length(asked).min()


# ---- which values


def _listed(asked: Asked, values: pl.Expr, finish: Callable[[list[Any]], Any]) -> Plan:
    return Measure({"value": values.implode()}, lambda row: finish(list(row["value"])), asked.domain, Cost.DISTINCT)


@measure("column.distinct_values")
def _distinct_values(asked: Asked) -> Plan:
    return _listed(asked, asked.column.drop_nulls().unique(), set)


@measure("column.most_common_value")
def _modes(asked: Asked) -> Plan:
    return _listed(asked, asked.column.drop_nulls().mode().sort(), _same)


def _strangers(asked: Asked) -> pl.Expr:
    known = among(asked.column, asked.dtype, asked.get("value_set") or [])
    return asked.column.filter(asked.column.is_not_null() & ~known)


@measure("column.distinct_values.not_in_set.count", Cost.DISTINCT)
def _strange_count(asked: Asked) -> pl.Expr:
    return _strangers(asked).n_unique()


@measure("column.distinct_values.not_in_set")
def _strange_values(asked: Asked) -> Plan:
    return _listed(asked, _strangers(asked).unique().sort().head(asked.get("limit", _LISTED)), _same)


def _missing(asked: Asked, finish: Callable[[list[Any]], Any]) -> Plan:
    """Values of the set that the column has not."""
    values = list(dict.fromkeys(comparable(value, asked.dtype) for value in asked.get("value_set") or []))
    found = asked.column.filter(among(asked.column, asked.dtype, values)).unique()
    return _listed(asked, found, lambda there: finish([value for value in values if value not in set(there)]))


@measure("column.distinct_values.missing_from_column.count")
def _missing_count(asked: Asked) -> Plan:
    return _missing(asked, len)


@measure("column.distinct_values.missing_from_column")
def _missing_values(asked: Asked) -> Plan:
    return _missing(asked, lambda missing: missing[: asked.get("limit", _LISTED)])


@measure("column.value_counts")
def _value_counts(asked: Asked) -> Plan:
    sort = asked.get("sort", "value")
    if sort not in ("value", "count", "none"):
        raise ValueError("sort must be either 'value', 'count', or 'none'")
    if asked.get("collate") is not None:
        raise ValueError("collate parameter is not supported in PandasDataset")

    def finish(found: list[Any]) -> Any:
        import pandas as pd

        counts = {each["value"]: each["count"] for each in found}
        order = sorted(counts) if sort == "value" else sorted(counts, key=counts.__getitem__, reverse=True)
        index = pd.Index(order, name="value")
        return pd.Series([counts[value] for value in order], index=index, name="count", dtype="int64")

    return _listed(asked, asked.column.drop_nulls().alias("value").value_counts(name="count"), finish)
