"""How the values of a column are spread, held against how they usually are: shares of few values, quantiles of many.

Which columns are compared, and how, is said in `defaults`; the single number and its verdict are `measure`'s.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import polars as pl

from gossamer.quality import profile as statistics
from gossamer.quality import words
from gossamer.quality.finding import Finding
from gossamer.quality.measure import NAMED, Case, Judged, Measure, Show, measured, period_days, severity_of
from gossamer.quality.profile import FieldProfile, Profile

_DAY = 86400.0
#: The quantiles that are compared, by their places in a profile.
_QUANTILES = {1: "5 %", 2: "25 %", 3: "median", 4: "75 %", 5: "95 %"}

# -- shares of values -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixture:
    """Values and their shares, compared with the usual shares.

    Attributes:
        shares: value -> share, None where a partition has none.
        slack: how many of the rows may have another value than usual.
        critical: from which share of such rows on a failure is critical.
        new, gone: from which share on a value that never was, or that is no more, is a failure by itself.
        text: the value of a row.
        in_rows: whether it is that which the shares are of.
    """

    kind: str
    field: str
    says: str
    shares: Callable[[Profile], Mapping[str, float] | None]
    slack: float
    critical: float
    text: pl.Expr
    new: float = math.inf
    gone: float = math.inf
    in_rows: bool = True


def mixed(case: Case, mixture: Mixture) -> Judged | None:
    """How many rows have another value than usual, and which values are new or gone; None without any value."""
    now = mixture.shares(case.profile)
    if now is None:
        return None
    known = [shares for p in case.alike[0] if (shares := mixture.shares(p)) is not None]
    usual = {value: median(shares.get(value, 0.0) for shares in known) for shares in known for value in shares}
    new, gone = _new(case, mixture, now), _gone(mixture, now, usual, known)
    more = [value for value, share in now.items() if share - usual.get(value, 0.0) >= 0.05]
    detail = _compared(now, usual, [*gone, *new, *more])
    measure = Measure(
        kind=mixture.kind,
        field=mixture.field,
        says=mixture.says,
        number=lambda p: None if (found := mixture.shares(p)) is None else _distance(found, usual),
        slack=lambda _: mixture.slack,
        sides="high",
        critical=lambda share, _: share >= mixture.critical,
        rows=mixture.text.is_in([*new, *more]) if mixture.in_rows and (new or more) else mixture.text.is_not_null(),
        value=mixture.text,
        detail=detail,
    )
    judged = measured(case, measure)
    if judged is None or judged.finding.state != "passed" or not (new or gone):
        return judged
    named = "; ".join(
        f"{what}: {', '.join(map(words.value, values[:NAMED]))}"
        for what, values in (("gone", gone), ("new", new))
        if values
    )
    since = case.since(lambda p: 1.0 if _has(mixture.shares(p), gone) else None, bool)
    last = f"; last so in {since}" if since else ""
    summary = f"values of {mixture.field}: {named}; {detail} ({case.compared(len(known))}){last}"
    failed = judged.finding.model_copy(update={"state": "failed", "summary": summary, "since": since})
    return Judged(failed, mixture.text.is_in(new) if new and mixture.in_rows else None, mixture.text)


def _new(case: Case, mixture: Mixture, now: Mapping[str, float]) -> list[str]:
    """Values that no partition of the history has."""
    ever = {value for p in case.history for value in mixture.shares(p) or ()}
    return [value for value, share in now.items() if value not in ever and share >= mixture.new]


def _gone(
    mixture: Mixture, now: Mapping[str, float], usual: Mapping[str, float], known: Sequence[Mapping[str, float]]
) -> list[str]:
    """Values that were always there and are not, or hardly."""
    rare = [value for value, share in usual.items() if share >= mixture.gone and now.get(value, 0.0) < 0.15 * share]
    return [value for value in rare if all(shares.get(value, 0.0) >= usual[value] / 3 for shares in known)]


def _has(shares: Mapping[str, float] | None, values: Sequence[str]) -> bool:
    return all((shares or {}).get(value) for value in values)


def _distance(shares: Mapping[str, float], usual: Mapping[str, float]) -> float:
    """The share of rows that would have to have another value for the shares to be the usual ones."""
    return min(1.0, sum(abs(shares.get(value, 0.0) - usual.get(value, 0.0)) for value in {*shares, *usual}) / 2)


def _compared(now: Mapping[str, float], usual: Mapping[str, float], values: Sequence[str]) -> str:
    """`GBP 0 %, usually 100 %; EUR 98.0 %, usually 0 %`."""
    moved = sorted({*values, *usual}, key=lambda value: -abs(now.get(value, 0.0) - usual.get(value, 0.0)))
    return "; ".join(
        f"{words.value(value)} {words.percent(now.get(value, 0.0))}, usually {words.percent(usual.get(value, 0.0))}"
        for value in moved[:NAMED]
    )


# -- distributions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """How quantiles of one field are compared: as they are, as ratios (logarithms), or as ages.

    Attributes:
        number: a quantile's number of a partition, None where it has none.
        slack: how far a quartile may be from the usual one.
        show: the number in words.
        raw: the number as it is in a row.
        far: from which difference of the medians on a failure is critical.
    """

    number: Callable[[Profile, int], float | None]
    slack: Callable[[float], float]
    show: Show
    raw: Callable[[float], float]
    far: float


def spread(case: Case, name: str, field: FieldProfile) -> Judged | None:
    """The quartiles, and with more room the 5 % and 95 % quantiles; what is told is the one that moved most.

    Of texts the quartiles only: some short ones among long ones are no change.
    """
    scale, places = _scale(case, name, field), (2, 3, 4) if field.measured == "length" else (1, 2, 3, 4, 5)
    found = {place: measured(case, _quantile(scale, name, field, place)) for place in places}
    judged = {place: verdict.finding for place, verdict in found.items() if verdict}
    if 3 not in judged:
        return None
    worst = max((place for place in judged if judged[place].failed), key=lambda p: _excess(judged[p]), default=3)
    finding = judged[worst]
    usual = [value for _, value in case.points(lambda p: scale.number(p, 3))]
    if finding.failed:
        shift = abs((scale.number(case.profile, 3) or 0.0) - median(usual))
        finding = finding.model_copy(update={"severity": severity_of(shift >= scale.far)})
    low, high = (None if bound is None else scale.raw(bound) for bound in (finding.low, finding.high))
    raw = {"observed": scale.raw(finding.observed), "low": low, "high": high}
    number = statistics.quantity(name, field.measured)
    rows = pl.any_horizontal(
        pl.lit(False) if low is None else number < low, pl.lit(False) if high is None else number > high
    )
    return Judged(finding.model_copy(update=raw), rows, pl.col(name))


def _quantile(scale: _Scale, name: str, field: FieldProfile, place: int) -> Measure:
    is_length = field.measured == "length"
    return Measure(
        kind="length" if is_length else "distribution",
        field=name,
        says=f"{'length of ' if is_length else ''}{name}, {_QUANTILES[place]}:",
        number=lambda p: scale.number(p, place),
        slack=lambda usual: scale.slack(usual) * (2 if place in (1, 5) else 1),
        show=scale.show,
    )


def _excess(finding: Finding) -> float:
    """How far a number lies outside of its bounds."""
    low, high = finding.low, finding.high
    return max(
        0.0 if low is None else low - finding.observed,
        0.0 if high is None else finding.observed - high,
    )


def _scale(case: Case, name: str, field: FieldProfile) -> _Scale:
    def number(known: Profile, place: int) -> float | None:
        found = known.fields.get(name)
        return found.quantiles[place] if found and found.quantiles else None

    def age(known: Profile, place: int) -> float | None:
        value = number(known, place)
        return None if value is None or not known.fetched_at else (value - known.fetched_at.timestamp()) / _DAY

    # Of whole numbers, 0 is next to 1.
    first = 1.0 if field.kind == "int" or field.measured == "length" else 0.0

    def ratio(known: Profile, place: int) -> float | None:
        value = number(known, place)
        return None if value is None else math.log(max(value + first, 1e-9))

    chance = 0.15 + 2.5 * math.sqrt(case.noise)
    if field.measured == "time":
        fetched = case.profile.fetched_at.timestamp() if case.profile.fetched_at else 0.0
        return _Scale(
            number=age,
            slack=lambda _: chance * _width(case, age) + 2 * period_days(case),
            show=lambda days: _date(fetched + days * _DAY),
            raw=lambda days: fetched + days * _DAY,
            far=3650.0,
        )
    if field.measured == "length" or all(low + first > 0 for _, low in case.points(lambda p: number(p, 1))):
        return _Scale(
            number=ratio,
            slack=lambda _: chance * _width(case, ratio) + math.log(1.1),
            show=lambda value: _number(_exp(value) - first, whole=first > 0),
            raw=lambda value: _exp(value) - first,
            far=math.inf if field.measured == "length" else math.log(5),
        )
    return _Scale(
        number=number,
        slack=lambda usual: chance * _width(case, number) + 0.05 * abs(usual) + 1e-9,
        show=_number,
        raw=lambda value: value,
        far=math.inf,
    )


def _width(case: Case, number: Callable[[Profile, int], float | None]) -> float:
    """How far the 5 % and 95 % quantiles usually lie apart."""
    widths = [
        high - low for p in case.alike[0] if (low := number(p, 1)) is not None and (high := number(p, 5)) is not None
    ]
    return median(widths) if widths else 0.0


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # more is no float


def _number(value: float, *, whole: bool = False) -> str:
    return f"{value:,.0f}" if whole or abs(value) >= 10_000 or value == round(value) else f"{value:,.4g}"


def _date(seconds: float) -> str:
    """A time as its date; far outside of the calendar, its ends."""
    first, last = -62_135_596_800.0, 253_402_300_799.0
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(max(seconds, first), last)):%Y-%m-%d}"
