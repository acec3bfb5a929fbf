"""The default checks: what is asked of every partition without a line of code, by its declaration and its history.

Each check compares a number of the partition's statistics with the same number of accepted partitions; where these are
too few, only what the declaration alone says is judged. How that is done is in `measure` and `shapes`, which partitions
are compared in `history`, what caused a failure in `cause`. All checks are listed in docs/default-checks.md.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median

import polars as pl

from gossamer.errors import PartitionKeyError
from gossamer.quality import history as past
from gossamer.quality import profile as statistics
from gossamer.quality import texts, words
from gossamer.quality.finding import Finding
from gossamer.quality.measure import (
    NAMED,
    Case,
    Judged,
    Measure,
    Number,
    State,
    count,
    measured,
    most,
    noise,
    period_days,
)
from gossamer.quality.profile import FieldProfile, Profile
from gossamer.quality.samples import with_samples
from gossamer.quality.shapes import Mixture, mixed, spread
from gossamer.source import Source

_DAY = 86400.0
#: So many rows that read as the text of a block page do so by no chance of a title.
_WALLS_NO_CHANCE = 3
#: Types of fields whose values may all change at once, in a sale, say.
_QUANTITIES = frozenset({"int", "float", "money", "quantity", "rating"})
#: Integers of more values than these are quantities, not categories.
_FEW = 12
#: Dates whose newest is usually older than this are not expected to come new every day.
_FRESH_DAYS = 14.0


def judge(
    source: Source,
    profile: Profile,
    history: Sequence[Profile],
    *,
    frame: pl.LazyFrame | None = None,
    now: datetime | None = None,
) -> list[Finding]:
    """The findings of all default checks on one partition, but those that the source's `checks.ignore` names.

    Args:
        profile: the partition's statistics.
        history: those of accepted partitions, oldest first (`history.read`).
        frame: the partition's rows, for rows that show what failed; each failure reads no more than it shows.
        now: to tell whether a page was fetched in the future.
    """
    case = Case(source, profile, history)
    judged = [
        verdict for verdict in _checks(case, now or datetime.now(UTC)) if not _is_ignored(source, verdict.finding)
    ]
    return [verdict.finding for verdict in judged] if frame is None else with_samples(case, frame, judged)


def _is_ignored(source: Source, finding: Finding) -> bool:
    ignored = source.spec.checks.ignore
    return finding.kind in ignored or f"{finding.kind}:{finding.field}" in ignored


# -- of the crawl and the whole partition -----------------------------------------------------------------------------


def _checks(case: Case, now: datetime) -> Iterator[Judged]:
    yield from _given(measured(case, measure) for measure in _of_the_crawl(case))
    yield _freshness(case, now)
    if case.profile.rows:
        yield from _given(measured(case, measure) for measure in _of_all_rows(case))
        yield from _given([mixed(case, _hosts(case, ""))])
        yield _undeclared(case)
    for name, field in case.columns.items():
        yield from _given(_of_field(case, name, field))


def _given(found: "Iterable[Judged | None]") -> Iterator[Judged]:
    return (judged for judged in found if judged is not None)


def _of_the_crawl(case: Case) -> Iterator[Measure]:
    profile = case.profile
    yield Measure(
        kind="row_count",
        field="",
        says="rows:",
        number=lambda p: float(p.rows),
        slack=lambda usual: 0.2 * usual + 2 * math.sqrt(usual) + 1,
        show=count,
        critical=lambda rows, usual: usual is not None and rows < 0.6 * usual,
    )
    yield Measure(
        kind="pages",
        field="",
        says="pages fetched:",
        number=lambda p: float(p.pages) if p.pages or p.dead else None,
        slack=lambda usual: 0.3 * usual + 2 * math.sqrt(usual) + 1,
        show=count,
    )
    yield Measure(
        kind="error_pages",
        field="",
        says="requests that failed for good:",
        number=lambda p: _share(sum(p.dead.values()), p.pages),
        slack=lambda usual: 0.02 + 3 * math.sqrt(usual / max(profile.pages, 1)),
        sides="high",
        critical=lambda share, _: share >= 0.25,
        detail=", ".join(f"{count:,} {reason}" for reason, count in most(profile.dead)),
    )
    yield Measure(
        kind="robots",
        field="",
        says="requests that robots.txt forbids:",
        number=lambda p: _share(p.excluded.get("robots", 0), p.pages + sum(p.dead.values())),
        slack=lambda _: 0.1,
        sides="high",
    )
    yield Measure(
        kind="duplicates",
        field="",
        says="crawled rows whose key another has:",
        number=lambda p: _share(p.duplicates, p.rows),
        slack=lambda _: 0.05,
        sides="high",
        limit=0.1,
    )


def _of_all_rows(case: Case) -> Iterator[Measure]:
    names = [name for name, field in case.columns.items() if _is_free_text(field) and not _is_second(case, name)]
    beginnings = [pl.col(name).str.slice(0, 80) for name in names]
    walls = [statistics.is_wall(names, kind) for kind in texts.WALLS] if names else []
    yield Measure(
        kind="block_pages",
        field="",
        says="rows that are the text of another page than was asked for:",
        number=lambda p: min(1.0, sum(p.walls.values())),
        slack=noise(case, 0.02),
        sides="high",
        limit=0.05,
        # Without a history, one honest title ("Forbidden Love") among few is no reason to keep them all back.
        critical=lambda share, usual: (
            usual is not None or share >= 0.5 or share * case.profile.rows >= _WALLS_NO_CHANCE
        ),
        detail=", ".join(f"{kind} {words.percent(share)}" for kind, share in most(case.profile.walls)),
        rows=pl.any_horizontal(walls) if walls else None,
        value=pl.concat_str(beginnings, separator=" | ", ignore_nulls=True) if beginnings else None,
    )
    yield Measure(
        kind="same_page",
        field="",
        says="pages whose content is the same as another's:",
        number=lambda p: p.same_page,
        slack=lambda _: 0.15,
        sides="high",
        critical=lambda share, _: share >= 0.5,
        rows=pl.col("_page_hash").is_not_null(),
        value=pl.col("_page_hash"),
    )
    yield Measure(
        kind="repeats",
        field="",
        says="rows whose content is the same as another's:",
        number=lambda p: p.repeats,
        slack=noise(case, 0.1),
        sides="high",
        critical=lambda share, _: share >= 0.5,
        rows=pl.lit(True),
    )


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def _freshness(case: Case, now: datetime) -> Judged:
    """When the pages were fetched, and whether anything has changed on a site where something always does."""
    fetched, usual = case.profile.fetched_at, [value for _, value in case.points(case.changed(""))]
    told = f"the newest page was fetched at {fetched:%Y-%m-%d %H:%M} UTC" if fetched else "no page has a time of fetch"
    fault = _fault_of_fetch(case, now) or _frozen(case, usual)
    known = fetched or len(usual) >= past.LEAST
    state: State = "failed" if fault else "passed" if known else "no history"
    summary = "; ".join(part for part in (told, fault) if part)
    return Judged(Finding(kind="freshness", state=state, summary=summary, compared=len(usual)))


def _fault_of_fetch(case: Case, now: datetime) -> str:
    fetched, starts = case.profile.fetched_at, _starts(case)
    if fetched and starts and fetched < starts - timedelta(days=1):
        return f"that is before {case.profile.partition} began: these are older pages"
    return "that is yet to come: a clock is wrong" if fetched and fetched > now + timedelta(days=1) else ""


def _frozen(case: Case, usual: Sequence[float]) -> str:
    if len(usual) < past.LEAST or min(usual) < 0.02 or case.changed("")(case.profile) != 0:
        return ""
    least, before = words.percent(min(usual)), case.name(case.nearest[-1])
    return (
        f"no record has changed since {before}, where at least {least} did each time ({case.compared(len(usual))}): "
        "the site may serve old pages"
    )


def _starts(case: Case) -> datetime | None:
    try:
        return case.source.partition(case.profile.partition).starts
    except PartitionKeyError:  # the declaration has changed since
        return None


def _undeclared(case: Case) -> Judged:
    """Fields that the spider gives and the declaration does not name: a field may have a new name."""
    known, shares = {name for p in case.history for name in p.undeclared}, case.profile.undeclared
    new = [name for name, share in shares.items() if share >= 0.2 and name not in known]
    compared = len(case.alike[0])
    if compared < past.LEAST:
        return Judged(Finding(kind="undeclared", state="no history", summary=case.too_few(compared), compared=compared))
    told = ", ".join(f"{name} ({words.percent(shares[name])} of rows)" for name in new[:NAMED])
    finding = Finding(
        kind="undeclared",
        state="failed" if new else "passed",
        summary=f"fields that never were, and are not declared: {told}" if new else "no new undeclared field",
        compared=compared,
        since=case.name(case.history[-1]),
    )
    named = [pl.col("extra").str.contains(f'"{name}"', literal=True) for name in new]
    return Judged(finding, pl.any_horizontal(named) if named else None, pl.col("extra"))


# -- of one field -----------------------------------------------------------------------------------------------------


def _of_field(case: Case, name: str, field: FieldProfile) -> Iterator[Judged | None]:
    if name in case.source.spec.record.required:
        yield _required(case, name, field)
    for measure in _rates(case, name, field):
        yield measured(case, measure)
    if not field.fill:
        return
    if _is_free_text(field) and not _is_second(case, name):
        for measure in _signs(case, name):
            yield measured(case, measure)
        yield mixed(case, _language(name))
    if field.hosts is not None:
        yield mixed(case, _hosts(case, name))
    if _is_second(case, name):
        yield mixed(case, _second(case, name))
        return
    if _is_category(case, name, field):
        yield mixed(case, _categories(case, name, field))
    elif field.quantiles and field.hosts is None and field.kind != "bool":
        yield spread(case, name, field)
    if name not in case.source.spec.record.key:
        yield measured(case, _changes(case, name, field))
    if field.measured == "time":
        yield measured(case, _newest(case, name))


def _is_free_text(field: FieldProfile) -> bool:
    return field.kind in statistics.TEXTS and field.measured == "length"


def _is_second(case: Case, name: str) -> bool:
    return name in statistics.seconds(case.source)


def _is_category(case: Case, name: str, field: FieldProfile) -> bool:
    if field.shares is None or name in case.source.spec.record.key:
        return False
    whole = field.kind == "int" or (field.kind == "" and field.measured == "number")
    return field.kind == "bool" or _is_free_text(field) or (whole and len(field.shares) <= _FEW)


def _of(name: str, number: Callable[[FieldProfile], float | None]) -> Number:
    """A number of one field, of partitions that have rows and the field."""
    return lambda p: number(p.fields[name]) if p.rows and name in p.fields else None


def _of_values(name: str, number: Callable[[FieldProfile], float | None]) -> Number:
    """A number of one field's values, of partitions that have some."""
    return _of(name, lambda field: number(field) if field.fill else None)


def _required(case: Case, name: str, field: FieldProfile) -> Judged:
    rows = case.profile.rows
    missing = rows - round(field.fill * rows)
    of_them = f"{missing:,} of {rows:,} rows ({words.percent(missing / rows)}) have no {name}, which is required"
    finding = Finding(
        kind="required",
        field=name,
        state="failed" if missing else "passed",
        severity="critical",
        summary=of_them if missing else f"every row has {name}",
        observed=missing,
        high=0.0,
        unexpected=missing or None,
    )
    return Judged(finding, pl.col(name).is_null(), pl.col(name))


def _rates(case: Case, name: str, field: FieldProfile) -> Iterator[Measure]:
    column, rows = pl.col(name), case.profile.rows
    if _is_second(case, name):
        yield _fill_of_second(case, name)
        return
    yield Measure(
        kind="fill_rate",
        field=name,
        says=f"rows with {name}:",
        number=_of(name, lambda f: f.fill),
        slack=noise(case, 0.03),
        sides="low",
        critical=_is_collapse,
        rows=column.is_null(),
        value=column,
        counted=lambda fill: rows - round(fill * rows),
    )
    if field.kind not in statistics.TEXTS:
        yield Measure(
            kind="declared_type",
            field=name,
            says=f"rows where {name} is a text that is no {field.kind}:",
            number=_of(name, lambda f: f.unparsed),
            slack=noise(case, 0.02),
            sides="high",
            limit=0.05,
            critical=lambda share, _: share >= 0.5,
            rows=statistics.is_unparsed(name),
            value=pl.col("_unparsed").str.json_path_match(f"$.{name}"),
            counted=lambda share: round(share * rows),
        )
    if field.kind != "bool":
        yield Measure(
            kind="distinct_rate",
            field=name,
            says=f"distinct values of {name}, as a share of all:",
            number=_of_values(name, lambda f: f.distinct),
            slack=lambda usual: 0.1 + 0.1 * usual,
            sides="both" if field.shares is None else "low",  # of few values, the share depends on the rows
            critical=lambda share, usual: usual is not None and share < 0.3 * usual,
            rows=column.is_not_null(),
            value=column,
        )


def _fill_of_second(case: Case, name: str) -> Measure:
    field = statistics.seconds(case.source)[name]

    def fill(known: Profile) -> float | None:
        values = known.fields[field].fill if field in known.fields else 0.0
        return min(1.0, known.fields[name].fill / values) if values and name in known.fields else None

    return Measure(
        kind="fill_rate",
        field=name,
        says=f"values of {field} with {name}:",
        number=fill,
        slack=noise(case, 0.03),
        sides="low",
        critical=_is_collapse,
        rows=pl.col(field).is_not_null() & pl.col(name).is_null(),
        value=pl.col(field),
    )


def _is_collapse(fill: float, usual: float | None) -> bool:
    return usual is not None and fill < 0.5 * usual and usual - fill > 0.2


def _signs(case: Case, name: str) -> Iterator[Measure]:
    column = pl.col(name)
    yield Measure(
        kind="encoding",
        field=name,
        says=f"texts of {name} with broken characters:",
        number=_of_values(name, lambda f: f.damaged),
        slack=noise(case, 0.01),
        sides="high",
        limit=0.05,
        critical=lambda share, _: share >= 0.25,
        rows=texts.is_broken(column),
        value=column,
    )
    yield Measure(
        kind="markup",
        field=name,
        says=f"texts of {name} with HTML:",
        number=_of_values(name, lambda f: f.markup),
        slack=noise(case, 0.05),
        sides="high",
        rows=texts.has_markup(column),
        value=column,
    )
    yield Measure(
        kind="placeholders",
        field=name,
        says=f"texts of {name} that say nothing, such as N/A:",
        number=_of_values(name, lambda f: f.placeholders),
        slack=noise(case, 0.03),
        sides="high",
        critical=lambda share, _: share >= 0.5,
        rows=texts.is_placeholder(column),
        value=column,
    )


def _changes(case: Case, name: str, field: FieldProfile) -> Measure:
    is_text = field.kind not in _QUANTITIES
    return Measure(
        kind="changes",
        field=name,
        says=f"records whose {name} is another than in the partition before:",
        number=case.changed(name),
        slack=lambda _: 0.3,
        sides="high",
        critical=lambda share, usual: is_text and usual is not None and share >= 0.8 and usual <= 0.2,
        value=pl.col(name),
    )


def _newest(case: Case, name: str) -> Measure:
    """How long before the fetch the newest date lies, of fields in which new dates are expected."""

    def days(known: Profile) -> float | None:
        field = known.fields.get(name)
        if not (field and field.quantiles and known.fetched_at):
            return None
        return (known.fetched_at.timestamp() - field.quantiles[-1]) / _DAY

    usual = [value for _, value in case.points(days)]
    expected = not usual or 0 <= median(usual) <= _FRESH_DAYS
    return Measure(
        kind="freshness",
        field=name,
        says=f"the newest {name} lies before the fetch by",
        number=days if expected else lambda _: None,
        slack=lambda _: 2 + 2 * period_days(case),
        show=lambda number: f"{number:,.1f} days",
        sides="high",
        rows=pl.col(name).is_not_null(),
        value=pl.col(name),
    )


# -- mixtures of values -----------------------------------------------------------------------------------------------


def _hosts(case: Case, name: str) -> Mixture:
    def shares(known: Profile) -> Mapping[str, float] | None:
        field = known.fields.get(name)
        return (field.hosts if field else None) if name else known.hosts or None

    says = f"addresses in {name}" if name else "pages of rows"
    return Mixture(
        "hosts", name, f"{says} on other hosts than usual:", shares, 0.2, 0.5, statistics.host(name or "_url")
    )


def _language(name: str) -> Mixture:
    says = f"texts of {name} in another language than usual:"
    return Mixture(
        "language", name, says, _shares_of(name, lambda f: f.languages), 0.25, 0.7, pl.col(name), in_rows=False
    )


def _second(case: Case, name: str) -> Mixture:
    """The currency, unit or scale of a field's values."""
    field = statistics.seconds(case.source)[name]
    what = name.removeprefix(f"{field}_")
    says = f"values of {field} with another {what} than usual:"
    return Mixture(
        what, field, says, _shares_of(name, lambda f: f.shares), 0.05, 0.2, pl.col(name).cast(pl.String), 0.02
    )


def _categories(case: Case, name: str, field: FieldProfile) -> Mixture:
    chance = 0.5 * math.sqrt(len(field.shares or {}) * case.noise)
    return Mixture(
        kind="categories",
        field=name,
        says=f"rows with another {name} than usual:",
        shares=_shares_of(name, lambda f: f.shares),
        slack=0.12 + chance,
        critical=0.7,
        text=pl.col(name).cast(pl.String),
        new=max(0.05, 10 * case.noise),
        gone=max(0.02, 8 * case.noise),
    )


def _shares_of(
    name: str, shares: Callable[[FieldProfile], Mapping[str, float] | None]
) -> Callable[[Profile], Mapping[str, float] | None]:
    return lambda p: shares(p.fields[name]) if name in p.fields else None
