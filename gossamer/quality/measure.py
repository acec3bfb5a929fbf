"""One number of a partition held against the same number of accepted ones: the base of every default check.

`Case` is a partition with its history, `Measure` says what is asked of it, `measured` answers in words. Which measures
there are is in `defaults`, what is usual in `bounds`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import polars as pl

from gossamer.quality import history as past
from gossamer.quality import profile as statistics
from gossamer.quality import words
from gossamer.quality.bounds import around
from gossamer.quality.finding import Finding, Severity
from gossamer.quality.profile import FieldProfile, Profile
from gossamer.source import Source

#: Values named in a sentence.
NAMED = 4
#: Partitions that bounds are made of at most: the newest ones.
_COMPARED = 21
#: Records that two partitions must have in common before their changes are counted.
_COMMON = 20

State = Literal["passed", "failed", "no history"]
Number = Callable[[Profile], float | None]
Show = Callable[[float], str]


@dataclass(frozen=True)
class Judged:
    """A finding, and which rows show it.

    Attributes:
        rows: the rows that show a failure, None where there are none to show.
        value: what is shown of them.
    """

    finding: Finding
    rows: pl.Expr | None = None
    value: pl.Expr | None = None


@dataclass(frozen=True)
class Case:
    """One partition before its judge."""

    source: Source
    profile: Profile
    history: Sequence[Profile]

    @cached_property
    def alike(self) -> tuple[list[Profile], str]:
        """The partitions it is fairly compared with, and what they are."""
        names, kind = past.alike(self.source, self.profile.partition, [known.partition for known in self.history])
        return [known for known in self.history if known.partition in set(names)][-_COMPARED:], kind

    @cached_property
    def before(self) -> int:
        """How many of the history lie before the partition; of a source without periods, all."""
        if not self.source.spec.partitions.period:
            return len(self.history)
        return sum(known.partition < self.profile.partition for known in self.history)

    @cached_property
    def nearest(self) -> Sequence[Profile]:
        """The accepted partitions nearest to it, at most two: those before, if there are any."""
        return self.history[max(0, self.before - 2) : self.before] or self.history[:2]

    @cached_property
    def columns(self) -> dict[str, FieldProfile]:
        return self.profile.fields if self.profile.rows else {}

    @property
    def noise(self) -> float:
        """The share of one row."""
        return 1 / max(self.profile.rows, 1)

    @cached_property
    def places(self) -> list[tuple[float, Profile]]:
        """The partitions it is compared with, and where they stand in the history, the judged one being at 0."""
        stand = {id(known): number - self.before + (number >= self.before) for number, known in enumerate(self.history)}
        return [(float(stand[id(known)]), known) for known in self.alike[0]]

    def points(self, number: Number) -> list[tuple[float, float]]:
        found = ((place, number(known)) for place, known in self.places)
        return [(place, value) for place, value in found if value is not None]

    def changed(self, name: str) -> Number:
        """The share of the records common with the partition before that have another value there ("" for any).

        Of the two before, the one with which it has more in common: after one odd partition all would be another.
        """
        return lambda known: self._changes.get(id(known), {}).get(name)

    @cached_property
    def _changes(self) -> dict[int, dict[str, float]]:
        before = {id(known): self.history[max(0, n - 2) : n] for n, known in enumerate(self.history)}
        before[id(self.profile)] = self.nearest
        known = {id(known): known for known in (*self.history, self.profile)}
        return {number: _changes(known[number], others) for number, others in before.items()}

    def changed_keys(self, name: str) -> set[str]:
        """Digests of keys of records that have another value there than in any of the partitions before."""
        changed = [_changed_keys(other, self.profile, name) for other in self.nearest]
        return set.intersection(*changed) if changed else set()

    def since(self, number: Number, holds: Callable[[float], bool]) -> str:
        """The newest accepted partition whose number holds."""
        for known in reversed(self.history):
            if (value := number(known)) is not None and holds(value):
                return self.name(known)
        return ""

    def name(self, known: Profile) -> str:
        """How a partition of the history is called; publications of a segment by their time."""
        if self.source.spec.partitions.period or not known.fetched_at:
            return known.partition
        return f"{known.partition} of {known.fetched_at:%Y-%m-%d %H:%M}"

    def compared(self, count: int) -> str:
        kind = f", {self.alike[1]}" if self.alike[1] else ""
        after = len(self.history) - self.before
        return f"{count} accepted partitions{kind}" + (f", {after} of them after it" if after else "")

    def too_few(self, count: int) -> str:
        kind = f" ({self.alike[1]})" if self.alike[1] else ""
        return f"no history yet: {count} of {past.LEAST} accepted partitions{kind}"


def _changes(after: Profile, others: Sequence[Profile]) -> dict[str, float]:
    found = [changes for other in others if (changes := _changes_between(other, after))]
    return {name: min(changes.get(name, 1.0) for changes in found) for name in found[-1]} if found else {}


def _changes_between(before: Profile, after: Profile) -> dict[str, float]:
    """Field -> share of the records in both that have another value in it, "" for any field; {} of too few records."""
    common = before.sketch.keys() & after.sketch.keys()
    if len(common) < _COMMON:
        return {}
    fields = [name for name in after.sketched if name in before.sketched]
    changed = {name: _changed_keys(before, after, name) for name in fields}
    rates = {name: len(keys) / len(common) for name, keys in changed.items()}
    return rates | {"": len(set().union(*changed.values())) / len(common)}


def _changed_keys(before: Profile, after: Profile, name: str) -> set[str]:
    if name not in before.sketched or name not in after.sketched:
        return set()
    first, second = (_digits(known, name) for known in (before, after))
    common = before.sketch.keys() & after.sketch.keys()
    return {key for key in common if before.sketch[key][first] != after.sketch[key][second]}


def _digits(known: Profile, name: str) -> slice:
    place = known.sketched.index(name) * statistics.VALUE_DIGITS
    return slice(place, place + statistics.VALUE_DIGITS)


@dataclass(frozen=True)
class Measure:
    """One number of a partition and how it is judged.

    Attributes:
        says: what the number is, in words.
        number: how it is taken from a partition's statistics, None where they do not have it.
        slack: the usual number -> how far from it is noise, whatever the history's own spread.
        sides: whether too much, too little or both are failures.
        limit: what it must not exceed where there is no history.
        critical: whether a failure with this number, and this usual one (None without history), is critical.
        rows, value: which rows show a failure, and what of them.
        counted: the number -> how many rows it is about.
        detail: more words for a failure.
    """

    kind: str
    field: str
    says: str
    number: Number
    slack: Callable[[float], float]
    show: Show = words.percent
    sides: Literal["low", "high", "both"] = "both"
    limit: float | None = None
    critical: Callable[[float, float | None], bool] = lambda _number, _usual: False
    rows: pl.Expr | None = None
    value: pl.Expr | None = None
    counted: Callable[[float], int] | None = None
    detail: str = ""


def measured(case: Case, measure: Measure) -> Judged | None:
    """The verdict; None where the partition has no such number."""
    observed = measure.number(case.profile)
    if observed is None:
        return None
    points = case.points(measure.number)
    if len(points) < past.LEAST:
        return _without_history(case, measure, observed, len(points))
    bounds = around(points, 0.0, measure.slack)
    low = bounds.low if measure.sides != "high" else -math.inf
    high = bounds.high if measure.sides != "low" else math.inf
    # A share cannot be outside of 0 and 1: such a bound says nothing.
    if measure.show is words.percent:
        low, high = (-math.inf if low <= 0 else low), (math.inf if high >= 1 else high)
    fails = not low <= observed <= high
    usual = f"usually {measure.show(bounds.usual)} ({case.compared(len(points))})"
    told = f"{measure.says} {measure.show(observed)}, {usual}; {_demand(low, high, measure.show)}"
    since = case.since(measure.number, lambda value: low <= value <= high)
    if fails:
        told += f"; last so in {since}" if since else ""
        told += f"; {measure.detail}" if measure.detail else ""
    finding = Finding(
        kind=measure.kind,
        field=measure.field,
        state="failed" if fails else "passed",
        severity=severity_of(measure.critical(observed, bounds.usual)),
        summary=told,
        observed=round(observed, 6),
        low=_finite(low),
        high=_finite(high),
        compared=len(points),
        since=since,
        unexpected=measure.counted(observed) if fails and measure.counted else None,
    )
    return Judged(finding, measure.rows, measure.value)


def _without_history(case: Case, measure: Measure, observed: float, known: int) -> Judged:
    limit = measure.limit
    state: Literal["failed", "passed", "no history"] = "no history"
    told = f"{measure.says} {measure.show(observed)}; {case.too_few(known)}"
    if limit is not None:
        state = "failed" if observed > limit else "passed"
        told = f"{measure.says} {measure.show(observed)}; without a history, at most {measure.show(limit)} may be"
    finding = Finding(
        kind=measure.kind,
        field=measure.field,
        state=state,
        severity=severity_of(state == "failed" and measure.critical(observed, None)),
        summary=told,
        observed=round(observed, 6),
        high=limit,
        compared=known,
        unexpected=measure.counted(observed) if state == "failed" and measure.counted else None,
    )
    return Judged(finding, measure.rows, measure.value)


def severity_of(critical: bool) -> Severity:
    return "critical" if critical else "warning"


def _finite(number: float) -> float | None:
    return round(number, 6) if math.isfinite(number) else None


def _demand(low: float, high: float, show: Show) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"expected {show(low)} to {show(high)}"
    if math.isfinite(low):
        return f"expected at least {show(low)}"
    return f"expected at most {show(high)}" if math.isfinite(high) else "anything is expected"


def noise(case: Case, least: float, times: float = 4.0) -> Callable[[float], float]:
    """The slack of a share: at least so much, and what chance makes of so many rows."""

    def slack(usual: float) -> float:
        likely = min(max(usual, case.noise), 1 - case.noise)
        return least + times * math.sqrt(max(likely * (1 - likely), 0.0) * case.noise)

    return slack


def count(number: float) -> str:
    return f"{number:,.0f}"


def most(counts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The largest of some counts or shares."""
    return sorted(counts.items(), key=lambda entry: -entry[1])[:NAMED]


def period_days(case: Case) -> float:
    """How long a period of the source is."""
    days = {"hourly": 1 / 24, "daily": 1.0, "weekly": 7.0, "monthly": 31.0}
    return days.get(case.source.spec.partitions.period or "", 1.0)
