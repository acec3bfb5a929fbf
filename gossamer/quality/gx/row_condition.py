"""`row_condition` as a Polars expression: conditions as Great Expectations writes them in JSON, and text.

Text is SQL as Polars knows it, or a pandas query where `condition_parser` says "pandas"; of pandas queries the common
part is read: comparisons, `in`, `and`/`or`/`not`, `isnull()`/`notnull()`, and column names in backticks.
"""

import ast
import datetime as dt
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from gossamer.quality.gx.literal import literal

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
        among = pl.any_horizontal([pl.lit(False), *(column == literal(each, schema[name]) for each in value)])
        return among if sign == "IN" else ~among
    found: pl.Expr = _COMPARE[sign](column, literal(value, schema[name]))
    return found


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


def _query(text: str, schema: Schema) -> pl.Expr:
    """A pandas query: its text is Python's but for backticks, and `&` and `|` bind as `and` and `or` do."""
    names: list[str] = []

    def stand_in(quoted: re.Match[str]) -> str:
        names.append(quoted[1])
        return f"_backtick_{len(names) - 1}"

    spelled = re.sub(r"&+", " and ", re.sub(r"\|+", " or ", re.sub(r"`([^`]+)`", stand_in, text)))
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
                return _column(self.name(node), self.schema)
        raise ValueError(ast.unparse(node))

    def compare(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> pl.Expr:
        spelled = _PYTHON.get(type(sign))
        if spelled is None:
            raise ValueError(type(sign).__name__)
        if isinstance(left, ast.Name) and isinstance(right, ast.Name):
            pair = (_column(self.name(left), self.schema), _column(self.name(right), self.schema))
            both: pl.Expr = _COMPARE[spelled](*pair)
            return both
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
