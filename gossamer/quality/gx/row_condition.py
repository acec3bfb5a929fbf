"""`row_condition` as a Polars expression: conditions as Great Expectations writes them in JSON, and text.

Text is SQL as Polars knows it, or a pandas query where `condition_parser` says "pandas"; of pandas queries the common
part is read: comparisons, `in`, `and`/`or`/`not`, `isnull()`/`notnull()`, and column names in backticks.

Conditions and pandas queries know two truth values, as pandas does: null differs from every value, and every other
comparison with it is false. Each comparison says so itself, so that `not` of it is true. SQL has three truth values.
"""

import ast
import datetime as dt
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import polars as pl

from gossamer.quality.gx.literal import is_moment, literal

Schema = Mapping[str, pl.DataType]

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PYTHON: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "IN",
    ast.NotIn: "NOT_IN",
}
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class RowConditionError(ValueError):
    """A row condition that cannot be read, with what to write instead."""


def clause(condition: Any, parser: str | None, schema: Schema) -> pl.Expr:
    """The rows that a condition keeps, true for them."""
    if not isinstance(condition, str | Mapping):
        condition = condition.dict()
    return _text(condition, parser, schema) if isinstance(condition, str) else _json(condition, parser, schema)


def _json(condition: Mapping[str, Any], parser: str | None, schema: Schema) -> pl.Expr:
    match condition.get("type"):
        case "and":
            return pl.all_horizontal([_json(each, parser, schema) for each in condition["conditions"]])
        case "or":
            return pl.any_horizontal([_json(each, parser, schema) for each in condition["conditions"]])
        case "nullity":
            column = _column(condition["column"]["name"], schema)
            return column.is_null() if condition["is_null"] else column.is_not_null()
        case "comparison":
            sign = str(getattr(condition["operator"], "value", condition["operator"]))
            return _compare(condition["column"]["name"], sign, condition["parameter"], schema)
        case "pass_through":
            return _text(condition["pass_through_filter"], parser, schema)
    raise RowConditionError(f"row_condition: unknown condition {condition!r}")


def _compare(name: str, sign: str, value: Any, schema: Schema) -> pl.Expr:
    column = _column(name, schema)
    if sign in ("IN", "NOT_IN"):
        among = _among(column, schema[name], value)
        return among if sign == "IN" else ~among
    return _compared(column, sign, literal(value, schema[name]))


def _compared(left: pl.Expr, sign: str, right: pl.Expr) -> pl.Expr:
    found: pl.Expr = _COMPARE[sign](left, right)
    return found.fill_null(sign == "!=")


def _among(column: pl.Expr, dtype: pl.DataType, values: Iterable[Any]) -> pl.Expr:
    given = list(values)
    found = [_compared(column, "==", literal(value, dtype)) for value in given if value is not None]
    if None in given and not (dtype.is_integer() or dtype.is_float() or is_moment(dtype) or dtype == pl.Duration):
        found.append(column.is_null())  # pandas finds None where a column can hold it, not the NaN of numbers and times
    return pl.any_horizontal([pl.lit(False), *found])


def _column(name: str, schema: Schema) -> pl.Expr:
    if name not in schema:
        raise RowConditionError(f'row_condition: the column "{name}" does not exist')
    return pl.col(name)


def _text(text: str, parser: str | None, schema: Schema) -> pl.Expr:
    if parser == "pandas":
        return _query(text, schema)
    try:
        return pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        remedy = "write SQL, or a condition: Column('price') > 0"
        raise RowConditionError(f"row_condition {text!r} is not SQL that Polars reads ({error}); {remedy}") from error


#: What a pandas query spells differently; quoted text is found first, which stays as it is.
_UNLIKE_PYTHON = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`(?P<name>[^`]+)`|(?P<and>&+)|(?P<or>\|+)"""
)


def _query(text: str, schema: Schema) -> pl.Expr:
    """A pandas query: its text is Python's but for backticks, and `&` and `|` bind as `and` and `or` do."""
    names: list[str] = []

    def in_python(found: re.Match[str]) -> str:
        match found.lastgroup:
            case "name":
                names.append(found["name"])
                return f"_backtick_{len(names) - 1}"
            case "and" | "or" as sign:
                return f" {sign} "
        return found[0]

    spelled = _UNLIKE_PYTHON.sub(in_python, text)
    stand_ins = {f"_backtick_{number}": name for number, name in enumerate(names)}
    try:
        return _Query(schema, stand_ins).read(ast.parse(spelled.strip(), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, RowConditionError):
            raise
        remedy = "write a condition instead: Column('price') > 0"
        raise RowConditionError(f"row_condition {text!r}: this pandas query is not read here; {remedy}") from error


class _Query:
    """Reads the tree of a pandas query."""

    def __init__(self, schema: Schema, stand_ins: Mapping[str, str]) -> None:
        self.schema, self.stand_ins = schema, stand_ins

    def read(self, node: ast.expr) -> pl.Expr:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return pl.all_horizontal([self.read(value) for value in values])
            case ast.BoolOp(op=ast.Or(), values=values):
                return pl.any_horizontal([self.read(value) for value in values])
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self.read(operand)
            case ast.Compare(left=left, ops=signs, comparators=rights):
                lefts = [left, *rights]
                return pl.all_horizontal(
                    [
                        self.compare(lefts[at], sign, right)
                        for at, (sign, right) in enumerate(zip(signs, rights, strict=True))
                    ]
                )
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr=asked), args=[], keywords=[]):
                if asked in ("isnull", "isna"):
                    return _column(self.name(name), self.schema).is_null()
                if asked in ("notnull", "notna"):
                    return _column(self.name(name), self.schema).is_not_null()
            case ast.Name():
                return self.truth(self.name(node))
        raise ValueError(ast.unparse(node))

    def truth(self, name: str) -> pl.Expr:
        """A column of truth values by itself; one that is null is not true (pandas refuses nulls here)."""
        column = _column(name, self.schema)
        if self.schema[name] not in (pl.Boolean, pl.Null):
            raise ValueError(f"{name} holds no truth values")
        return column.fill_null(False)

    def compare(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> pl.Expr:
        spelled = _PYTHON.get(type(sign))
        if spelled is None:
            raise ValueError(type(sign).__name__)
        if spelled in ("IN", "NOT_IN") and not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise ValueError(ast.unparse(right))
        if isinstance(left, ast.Name) and isinstance(right, ast.Name):
            pair = (_column(self.name(left), self.schema), _column(self.name(right), self.schema))
            return _compared(pair[0], spelled, pair[1])
        if isinstance(right, ast.Name):
            left, right, spelled = right, left, _SWAPPED.get(spelled, spelled)
        if not isinstance(left, ast.Name):
            raise ValueError(ast.unparse(left))  # noqa: TRY004  the query's fault, not the caller's
        value = _value(right)
        if isinstance(value, list | tuple | set) and spelled in ("==", "!="):
            spelled = "IN" if spelled == "==" else "NOT_IN"
        return _compare(self.name(left), spelled, value, self.schema)

    def name(self, node: ast.Name) -> str:
        return self.stand_ins.get(node.id, node.id)


_MAKERS: Mapping[str, Callable[..., Any]] = {
    "datetime.date": dt.date,
    "datetime.datetime": dt.datetime,
    "Timestamp": str,
    "pd.Timestamp": str,
}


def _value(node: ast.expr) -> Any:
    """A value in a pandas query: a literal, or a date or time made of literals."""
    match node:
        case ast.Call(func=function, args=given, keywords=named) if ast.unparse(function) in _MAKERS:
            keywords = {each.arg: _value(each.value) for each in named if each.arg}
            return _MAKERS[ast.unparse(function)](*map(_value, given), **keywords)
        case ast.Attribute() if ast.unparse(node) == "datetime.timezone.utc":
            return dt.UTC
    return ast.literal_eval(node)
