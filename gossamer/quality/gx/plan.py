"""What a metric needs of a table, before any of it is computed: the words in which metrics are written.

A metric asked for (`Ask`) becomes a plan: either a `Measure`, some Polars expressions that give one row each, or a
`Look` at the rows that do not meet a condition. Authors of metrics see an `Asked` and register with `condition` or
`measure`. Nothing here computes (that is `resolve`), and nothing here knows Great Expectations.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, wraps
from typing import Any, Literal

import polars as pl

from gossamer.quality.gx.row_condition import clause

#: The column that numbers the rows of a table, where they are numbered.
ROW = "__gossamer_row__"
#: What can be asked of a condition, by the last part of the metric's name.
COUNT = "unexpected_count"
SUFFIXES = (
    COUNT,
    "unexpected_values",
    "unexpected_index_list",
    "unexpected_index_query",
    "unexpected_rows",
    "filtered_row_count",
)
#: Values that a result lists at most, as Great Expectations has it.
MOST = 200


class UnknownColumnError(ValueError):
    """A column that the table has not: in Great Expectations' words, which its users search for."""

    def __init__(self, name: str) -> None:
        super().__init__(f'Error: The column "{name}" in BatchData does not exist.')


class NotNativeError(Exception):
    """Polars cannot answer this for this column; Great Expectations' pandas metric may."""


class Cost(Enum):
    """What computing it takes: a pass over the rows, their order, or a set of all distinct values."""

    ROWS = "rows"
    ORDER = "order"
    DISTINCT = "distinct"


@dataclass(frozen=True)
class Ask:
    """One metric that is asked for: its name and arguments as Great Expectations words them."""

    id: Hashable
    name: str
    domain: Mapping[str, Any]
    value: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def of_condition(self) -> tuple[str, str] | None:
        """The condition and what is asked of it, if it is a metric of that kind."""
        base, _, suffix = self.name.rpartition(".")
        return (base, suffix) if suffix in SUFFIXES else None

    @cached_property
    def condition_key(self) -> str:
        """Equal for all that is asked of one condition on one domain."""
        base = self.of_condition[0] if self.of_condition else self.name
        values = sorted((name, value) for name, value in self.value.items() if name != "result_format")
        return repr((base, sorted(self.domain.items(), key=repr), values))


class Table:
    """A frame as metrics see it: NaN is null, categories are text, durations are seconds (GX's results are JSON)."""

    def __init__(self, frame: pl.DataFrame | pl.LazyFrame) -> None:
        self.schema: Mapping[str, pl.DataType] = dict(frame.collect_schema())
        #: How many rows, where that is known without counting.
        self.height = frame.height if isinstance(frame, pl.DataFrame) else None
        plain = [made for name, dtype in self.schema.items() if (made := _plain_column(name, dtype)) is not None]
        self.rows: pl.LazyFrame = frame.lazy().with_columns(plain) if plain else frame.lazy()
        #: The types of `rows`, numbered.
        self.seen = {ROW: pl.get_index_type(), **(self.rows.collect_schema() if plain else self.schema)}

    def named(self, name: str) -> str:
        """The column of this name; as Great Expectations does, whatever the case of its letters."""
        if name in self.schema:
            return name
        for present in self.schema:
            if present.casefold() == name.casefold():
                return present
        raise UnknownColumnError(name)


def _plain_column(name: str, dtype: pl.DataType) -> pl.Expr | None:
    if dtype.is_float():
        return pl.col(name).fill_nan(None)
    if dtype in (pl.Categorical, pl.Enum):
        return pl.col(name).cast(pl.String)
    return pl.col(name).dt.total_microseconds() / 1_000_000 if dtype == pl.Duration else None


@dataclass(frozen=True)
class Domain:
    """Which rows of the table count.

    Attributes:
        key: equal for domains of the same rows.
        keep: the rows that count; None for all.
    """

    key: str = ""
    keep: pl.Expr | None = None

    def of(self, table: Table, *, numbered: bool = False) -> pl.LazyFrame:
        rows = table.rows.with_row_index(ROW) if numbered else table.rows
        return rows if self.keep is None else rows.filter(self.keep)


EVERYTHING = Domain()
_IGNORED: Mapping[str, Literal["all", "any"]] = {
    "both_values_are_missing": "all",
    "all_values_are_missing": "all",
    "either_value_is_missing": "any",
    "any_value_is_missing": "any",
}


class Asked:
    """A metric asked of a table, as its author sees it."""

    def __init__(self, table: Table, ask: Ask, defaults: Mapping[str, Any] | None = None) -> None:
        self.table, self.ask = table, ask
        self._values = {**(defaults or {}), **{name: v for name, v in ask.value.items() if v is not None}}
        domain = ask.domain
        if domain.get("column_A"):
            names: Iterable[str] = (domain["column_A"], domain["column_B"])
        else:
            names = domain.get("column_list") or filter(None, [domain.get("column")])
        self.columns = [table.named(name) for name in names]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument; None counts as not given."""
        return self._values.get(name, default)

    @property
    def column(self) -> pl.Expr:
        return pl.col(self.columns[0])

    @property
    def dtype(self) -> pl.DataType:
        return self.table.schema[self.columns[0]]

    @property
    def text(self) -> pl.Expr:
        """The column as text, as Python would write it."""
        if self.dtype == pl.Boolean:
            return self.column.replace_strict({True: "True", False: "False"}, return_dtype=pl.String)
        if isinstance(self.dtype, pl.Datetime):
            text = _time_text(self.column, "%Y-%m-%d %H:%M:%S")
            return text + self.column.dt.to_string("%:z") if self.dtype.time_zone else text
        if self.dtype == pl.Time:
            return _time_text(self.column, "%H:%M:%S")
        if self.dtype.is_nested() or self.dtype in (pl.Binary, pl.Object):
            raise NotNativeError(f'the column "{self.columns[0]}" ({self.dtype}) has no text')
        textual = self.dtype in (pl.String, pl.Categorical, pl.Enum)
        return self.column if textual else self.column.cast(pl.String)

    @property
    def domain(self) -> Domain:
        """The rows that count: those of `row_condition`, but for those that `ignore_row_if` leaves out."""
        given, parser = self.ask.domain.get("row_condition"), self.ask.domain.get("condition_parser")
        keeps = [] if not given else [clause(given, parser, self.table.schema)]
        how = _IGNORED.get(self.ask.domain.get("ignore_row_if") or "")
        if how:
            nulls = [pl.col(name).is_null() for name in self.columns]
            keeps.append(~(pl.all_horizontal(nulls) if how == "all" else pl.any_horizontal(nulls)))
        if not keeps:
            return EVERYTHING
        key = json.dumps([_jsonable(given), parser, how, sorted(self.columns) if how else ()], default=repr)
        return Domain(key, pl.all_horizontal(keeps))


def _time_text(column: pl.Expr, form: str) -> pl.Expr:
    """Times in this form to the second, and what there is beyond it: six digits, or nine."""
    text = column.dt.to_string(f"{form}%.9f")
    return text.str.strip_suffix(".000000000").str.strip_suffix("000")


def _jsonable(condition: Any) -> Any:
    return condition if isinstance(condition, str | dict | None) else condition.dict()


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Unexpected:
    """The rows of a domain that do not meet a condition.

    Attributes:
        bad: true for them.
        narrow: true for them and few others, where that is cheaper to know: filters first.
        alone: whether rows are judged by others of the domain, so that it cannot be folded into a pass over all rows.
    """

    domain: Domain
    bad: pl.Expr
    narrow: pl.Expr | None = None
    alone: bool = False

    @property
    def key(self) -> str:
        return f"unexpected {id(self)}"

    @property
    def everywhere(self) -> pl.Expr:
        """True for them among all rows of the table; for rows that are judged by themselves only."""
        return self.bad if self.domain.keep is None else self.domain.keep & self.bad

    def of(self, table: Table) -> pl.LazyFrame:
        """These rows, numbered."""
        rows = self.domain.of(table, numbered=True)
        return (rows if self.narrow is None else rows.filter(self.narrow)).filter(self.bad)


@dataclass(frozen=True)
class Measure:
    """Expressions that give one row, and what is made of it.

    Attributes:
        finish: the metric's value from the row; or another measure, where it has not settled it.
    """

    exprs: Mapping[str, pl.Expr]
    finish: Callable[[Row], Any] = lambda row: row["value"]
    domain: Domain | Unexpected = EVERYTHING
    cost: Cost = Cost.ROWS


@dataclass(frozen=True)
class Known:
    """A metric's value that the schema or the arguments tell."""

    value: Any


@dataclass(frozen=True)
class Look:
    """A look at unexpected rows, which is taken only if there are any.

    Attributes:
        columns: what must be seen of them.
        count: tells how many there are.
        most: how many are looked at; None for all.
        finish: the metric's value from the rows that were seen, none of them where there are none.
    """

    unexpected: Unexpected
    columns: Sequence[str]
    count: Measure | Known
    most: int | None
    finish: Callable[[pl.DataFrame], Any]


Plan = Measure | Look | Known


@dataclass(frozen=True)
class Condition:
    """What each row, pair or record should meet.

    Attributes:
        meets: true where it does; null counts as not.
        nulls: whether null values are judged; otherwise they are left out.
        alone: see `Unexpected`; also for what raises on values outside of its domain.
        distinct: what must not repeat, for conditions of uniqueness (and `meets` is not asked).
        arguments: what it takes from the expectation; Great Expectations knows that of its own conditions.
    """

    meets: Callable[[Asked], pl.Expr]
    nulls: bool = False
    alone: bool = False
    distinct: Callable[[Asked], pl.Expr] | None = None
    arguments: tuple[str, ...] = ()


CONDITIONS: dict[str, Condition] = {}
MEASURES: dict[str, Callable[[Asked], Plan]] = {}

Meets = Callable[[Asked], pl.Expr]
Makes = Callable[[Asked], Plan | pl.Expr]


def condition(
    name: str, *, nulls: bool = False, alone: bool = False, arguments: Iterable[str] = ()
) -> Callable[[Meets], Meets]:
    """Registers a condition, see `Condition`.

    It is on one column where its name is `column_values.<...>`, on two where it is `column_pair_values.<...>`, and else
    on several.
    """

    def register(meets: Meets) -> Meets:
        CONDITIONS[name] = Condition(meets, nulls, alone, arguments=tuple(arguments))
        return meets

    return register


def measure(name: str, cost: Cost = Cost.ROWS) -> Callable[[Makes], Makes]:
    """Registers a metric of the whole domain: an expression, or a plan."""

    def register(makes: Makes) -> Makes:
        @wraps(makes)
        def plan(asked: Asked) -> Plan:
            made = makes(asked)
            return Measure({"value": made}, domain=asked.domain, cost=cost) if isinstance(made, pl.Expr) else made

        MEASURES[name] = plan
        return makes

    return register
