"""Computes what was asked of a table, with as few passes as it takes and in bounded memory.

First come all measures: of a small table in one go, of a large one in a streaming pass for each domain and cost, so
that never more than one large set is held. Then looks at unexpected rows, where there are any. What fails fails alone:
the others are computed all the same, and the error stands beside its metric.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from gossamer.quality.gx import aggregates, conditions, maps, text_conditions  # noqa: F401  they register metrics
from gossamer.quality.gx.plan import (
    CONDITIONS,
    COUNT,
    EVERYTHING,
    MEASURES,
    Ask,
    Asked,
    Cost,
    Known,
    Look,
    Measure,
    NotNativeError,
    Plan,
    Table,
    Unexpected,
)

#: Rows up to which a table is computed in one go: what that takes fits into memory many times.
SMALL = 500_000


class Fallback(Protocol):
    """What answers where Polars cannot."""

    def value(self, ask: Ask) -> Any: ...

    def rows(self, ask: Ask) -> Sequence[int]:
        """The numbers of the rows that do not meet the condition of which something is asked."""
        ...


@dataclass
class Resolved:
    """Values and errors, by the ids of what was asked."""

    values: dict[Hashable, Any] = field(default_factory=dict)
    errors: dict[Hashable, Exception] = field(default_factory=dict)

    def keep(self, key: Hashable, make: Callable[[], Any]) -> None:
        """Keeps what is made, or why it could not be: a user's metric, and Polars, may raise anything."""
        try:
            self.values[key] = make()
        except Exception as error:  # noqa: BLE001
            self.errors[key] = error


def is_native(name: str) -> bool:
    """Whether Polars can answer a metric of this name."""
    return name in MEASURES or name.rpartition(".")[0] in CONDITIONS


def resolve(table: Table, asks: Iterable[Ask], fallback: Fallback | None = None) -> Resolved:
    """Computes what is asked; without a fallback, what is not native is an error."""
    asks = list(asks)
    planner, plans = Planner(table, fallback), Resolved()
    for ask in asks:
        plans.keep(ask.id, lambda ask=ask: planner.plan(ask))  # type: ignore[misc]
    looks = {key: plan for key, plan in plans.values.items() if isinstance(plan, Look)}
    measures = [
        plan for plan in (*plans.values.values(), *(look.count for look in looks.values())) if _is_measure(plan)
    ]
    computer = _Computer(table)
    computer.measure(list({id(plan): plan for plan in measures}.values()))
    computer.look(looks)
    done = Resolved(errors=plans.errors)
    for key, plan in plans.values.items():
        done.keep(key, lambda key=key, plan=plan: computer.answer(key, plan))  # type: ignore[misc]
    return done


def _is_measure(plan: Any) -> bool:
    return isinstance(plan, Measure)


class Planner:
    """From what is asked to plans; all that is asked of one condition shares its rows and their count."""

    def __init__(self, table: Table, fallback: Fallback | None) -> None:
        self.table, self.fallback = table, fallback
        self.found: dict[str, tuple[Unexpected, Measure | Known]] = {}

    def plan(self, ask: Ask) -> Plan:
        asked = Asked(self.table, ask)
        if ask.name in MEASURES:
            try:
                return MEASURES[ask.name](asked)
            except NotNativeError as error:
                return Known(self._refer(error).value(ask))
        if ask.of_condition is None:
            return Known(self._refer(NotNativeError(f"Polars does not compute {ask.name}")).value(ask))
        base, suffix = ask.of_condition
        if suffix == "filtered_row_count":
            return maps.kept(asked)
        rows, count = self.condition(asked, base)
        return count if suffix == COUNT else maps.look(asked, rows, count, suffix)

    def condition(self, asked: Asked, base: str) -> tuple[Unexpected, Measure | Known]:
        """The rows that do not meet a condition, and their count."""
        key = asked.ask.condition_key
        if key not in self.found:
            self.found[key] = self._condition(asked, base)
        return self.found[key]

    def _condition(self, asked: Asked, base: str) -> tuple[Unexpected, Measure | Known]:
        try:
            if base not in CONDITIONS:
                raise NotNativeError(f"Polars does not compute {base}")
            rows = maps.unexpected(asked, CONDITIONS[base])
            return rows, maps.count(asked, CONDITIONS[base], rows)
        except NotNativeError as error:
            numbers = self._refer(error).rows(asked.ask)
            return maps.numbered(numbers), Known(len(numbers))

    def _refer(self, error: NotNativeError) -> Fallback:
        if self.fallback is None:
            raise error
        return self.fallback


class _Computer:
    """Collects frames, and what each measure and look makes of them."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.height = table.height
        self.empty: dict[tuple[str, ...], pl.DataFrame] = {}
        self.found = Resolved()  # measures by their identity, looks by what was asked

    def answer(self, key: Hashable, plan: Plan) -> Any:
        if isinstance(plan, Known):
            return plan.value
        key = id(plan) if isinstance(plan, Measure) else key
        if key in self.found.errors:
            raise self.found.errors[key]
        return self.found.values[key]

    # ---- measures

    def measure(self, measures: Sequence[Measure]) -> None:
        parts: dict[tuple[str, Cost], list[Measure]] = {}
        for one in sorted(measures, key=lambda one: (one.domain.key, list(Cost).index(one.cost))):
            parts.setdefault((one.domain.key, one.cost), []).append(one)
        waiting = list(parts.values())
        while waiting:
            together = waiting if self._small else waiting[:1]  # the first pass may tell how large the table is
            waiting = waiting[len(together) :]
            self._collect(together)

    @property
    def _small(self) -> bool:
        return self.height is not None and self.height <= SMALL

    def _collect(self, parts: Sequence[Sequence[Measure]]) -> None:
        try:
            frames = self._frames([_select(self.table, part) for part in parts])
        except Exception as error:  # noqa: BLE001  one expression fails all that are collected with it
            every = [one for part in parts for one in part]
            if len(every) == 1:
                self.found.errors[id(every[0])] = error
            else:
                for one in every:
                    self._collect([[one]])
            return
        for part, frame in zip(parts, frames, strict=True):
            row = frame.row(0, named=True)
            if self.height is None and part[0].domain is EVERYTHING:
                self.height = row[_HEIGHT]
            for number, one in enumerate(part):
                self._finish(one, {name: row[f"{number} {name}"] for name in one.exprs})

    def _finish(self, one: Measure, row: dict[str, Any]) -> None:
        self.found.keep(id(one), lambda: one.finish(row))
        another = self.found.values.get(id(one))
        if isinstance(another, Measure):
            self._collect([[another]])
            del self.found.values[id(one)]
            self.found.keep(id(one), lambda: self.answer(None, another))

    # ---- looks

    def look(self, looks: dict[Hashable, Look]) -> None:
        groups: dict[tuple[int, int | None], list[tuple[Hashable, Look]]] = {}
        for key, look in looks.items():
            try:
                empty = self.answer(None, look.count) == 0
            except Exception as error:  # noqa: BLE001  what could not be counted cannot be looked at
                self.found.errors[key] = error
                continue
            if empty:
                self.found.keep(key, lambda look=look: look.finish(self._nothing(look.columns)))  # type: ignore[misc]
            else:
                groups.setdefault((id(look.unexpected), look.most), []).append((key, look))
        waiting = list(groups.values())
        while waiting:
            together = waiting if self._small else waiting[:1]
            waiting = waiting[len(together) :]
            self._see(together)

    def _nothing(self, columns: Sequence[str]) -> pl.DataFrame:
        if tuple(columns) not in self.empty:
            self.empty[tuple(columns)] = pl.DataFrame(schema={name: self.table.seen[name] for name in columns})
        return self.empty[tuple(columns)]

    def _see(self, groups: Sequence[Sequence[tuple[Hashable, Look]]]) -> None:
        try:
            frames = self._frames([_rows(self.table, [look for _, look in group]) for group in groups])
        except Exception as error:  # noqa: BLE001  one group fails all that are collected with it
            if len(groups) == 1:
                self.found.errors |= dict.fromkeys([key for key, _ in groups[0]], error)
            else:
                for group in groups:
                    self._see([group])
            return
        for group, frame in zip(groups, frames, strict=True):
            for key, look in group:
                self.found.keep(key, lambda look=look, frame=frame: look.finish(frame.select(look.columns)))  # type: ignore[misc]

    def _frames(self, frames: Sequence[pl.LazyFrame]) -> list[pl.DataFrame]:
        return pl.collect_all(frames, engine="in-memory" if self._small else "streaming")


_HEIGHT = "height"


def _select(table: Table, part: Sequence[Measure]) -> pl.LazyFrame:
    exprs = [expr.alias(f"{number} {name}") for number, one in enumerate(part) for name, expr in one.exprs.items()]
    domain = part[0].domain
    return domain.of(table).select(*exprs, *([pl.len().alias(_HEIGHT)] if domain is EVERYTHING else []))


def _rows(table: Table, looks: Sequence[Look]) -> pl.LazyFrame:
    frame, most = looks[0].unexpected.of(table), looks[0].most
    columns = dict.fromkeys(name for look in looks for name in look.columns)
    return (frame if most is None else frame.head(most)).select(list(columns))
