"""The report of a source: one self-contained HTML page with the trend over its partitions, and a way to each of them.

It is drawn from one small object a partition, written beside the partition's own page: reading the manifests of a
thousand partitions would take longer than making one. Here are that object and the page's content;
`templates/source.html.jinja` says how it looks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, ValidationError

from gossamer import __version__
from gossamer.acceptance import Acceptance
from gossamer.lake import Lake, object_path
from gossamer.manifest import CheckResult, Manifest
from gossamer.partition import SEPARATOR
from gossamer.quality import pages, plot, report, words
from gossamer.source import Source

#: Partitions shown: the newest ones.
SHOWN = 400
#: Fields whose fill rates are drawn, and expectations whose failures are.
FIELDS = 60
EXPECTATIONS = 30
#: Failures named in a partition's row.
NAMED = 3

_SUFFIX = ".summary.json"
_READERS = 8

Kind = Literal["good", "warn", "bad", "unknown"]


class PartitionSummary(BaseModel):
    """What the source's page shows of one partition.

    Attributes:
        kind: the verdict as the banner of the partition's page has it, and `title` in words.
        rows: of the last layer that was reached.
        failed: failed expectations and checks in words -> rows that failed, None where it is not about rows.
        fill: field -> share of rows with a value.
        pages: pages fetched, None where no books were kept.
        error_pages: share of the answered requests that failed for good.
        cause: what most likely happened, in a word or two; "" if nothing did.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    kind: Kind = "unknown"
    title: str = ""
    rows: int = 0
    quarantined: int = 0
    failed: dict[str, int | None] = {}
    fill: dict[str, float] = {}
    pages: int | None = None
    error_pages: float | None = None
    cause: str = ""
    written_at: datetime | None = None


def summary(key: str, manifests: Mapping[str, Manifest], acceptances: Sequence[Acceptance] = ()) -> PartitionSummary:
    """A partition's summary, from what its own page is made of."""
    ordered = report.in_order(manifests)
    banner = report.verdict(manifests, acceptances)
    checks = [check for manifest in ordered for check in manifest.checks if not check.passed]
    fetched, errors = _pages(manifests.get("raw"))
    cleaned = manifests["clean"].notes if "clean" in manifests else {}
    fill = ordered[-1].notes.get("fill") or {} if ordered else {}
    return PartitionSummary(
        key=key,
        kind=banner["kind"],
        title=banner["title"],
        rows=ordered[-1].rows if ordered else 0,
        quarantined=(cleaned.get("quarantine") or {}).get("rows") or 0,
        failed=dict([failure for check in checks for failure in _failures(check)][:EXPECTATIONS]),
        fill={name: round(rate, 4) for name, rate in fill.items() if _is_own(name)},
        pages=fetched,
        error_pages=errors,
        cause=words.clip(str(report.cause_of(ordered).get("kind", "")), 60) if checks else "",
        written_at=max((manifest.written_at for manifest in ordered), default=None),
    )


def _is_own(name: str) -> bool:
    """Whether a column is the source's own, not the platform's."""
    return not name.startswith("_") and name != "extra"


def _pages(raw: Manifest | None) -> tuple[int | None, float | None]:
    """Pages fetched, and the share of the answered requests that failed for good."""
    requests = (raw.notes.get("books") or {}).get("requests") if raw else None
    if not requests:
        return None, None
    fetched = (requests.get("fetched") or 0) + (requests.get("unchanged") or 0)
    dead = sum((requests.get("dead") or {}).values())
    return fetched, round(dead / (fetched + dead), 6) if fetched + dead else None


def _failures(check: CheckResult) -> Iterable[tuple[str, int | None]]:
    """What failed in a failed check, by names that are the same in every partition."""
    entries = [e for e in check.details.get("failed", ()) if isinstance(e, dict) and "expectation" in e]
    if not entries:
        yield check.name, None
    for entry in entries:
        kind = str(entry["expectation"])
        if kind.startswith("default: "):
            field = entry.get("column")
            name = pages.titled(kind.removeprefix("default: ")) + (f" of {field}" if field else "")
        else:
            name = words.expectation(kind, entry.get("kwargs") or {})
        yield words.clip(name, 160), entry.get("unexpected")


# -- in the lake ------------------------------------------------------------------------------------------------------


def record(lake: Lake, source: Source, made: PartitionSummary) -> str:
    """Keeps a partition's summary and, if it is news, draws the source's page again; gives the page's path."""
    return draw(lake, source) if keep(lake, source, made) else pages.source_page_path(source.name)


def keep(lake: Lake, source: Source, made: PartitionSummary) -> bool:
    """Puts a partition's summary beside its page; False where it was there already, whenever that was written."""
    known = _read(lake, source, made.key)
    if known and known.model_copy(update={"written_at": made.written_at}) == made:
        return False
    path = object_path(pages.REPORTS, source.name, made.key, _SUFFIX)
    lake.put(path, made.model_dump_json(exclude_defaults=True).encode())
    return True


def draw(lake: Lake, source: Source) -> str:
    """Draws the source's page from the summaries that are kept; gives its path in the lake.

    Of two partitions that are kept and drawn at one moment, the page may lack one until it is drawn again.
    """
    page = pages.source_page_path(source.name)
    lake.put(page, render(source, summaries(lake, source)).encode())
    return page


def summaries(lake: Lake, source: Source, newest: int = SHOWN) -> list[PartitionSummary]:
    """The summaries of the newest partitions, oldest first."""
    folder = f"{pages.REPORTS}/{source.name}/"
    keys = sorted(
        path.removeprefix(folder).removesuffix(_SUFFIX).replace("~", SEPARATOR)
        for path in lake.paths(folder)
        if path.endswith(_SUFFIX)
    )
    with ThreadPoolExecutor(_READERS) as readers:  # S3 takes some time for each
        read = readers.map(lambda key: _read(lake, source, key), keys[-newest:])
        return [found for found in read if found]


def _read(lake: Lake, source: Source, key: str) -> PartitionSummary | None:
    content = lake.get(object_path(pages.REPORTS, source.name, key, _SUFFIX))
    try:
        return PartitionSummary.model_validate_json(content) if content is not None else None
    except ValidationError:  # of another version; its own page says more
        return PartitionSummary(key=key, title="Its summary cannot be read: materialise it again")


# -- the page ---------------------------------------------------------------------------------------------------------


def render(source: Source, rows: Sequence[PartitionSummary]) -> str:
    """The page of one source.

    Args:
        rows: a summary for each partition, oldest first; the newest `SHOWN` are shown.
    """
    shown = rows[-SHOWN:]
    steps = _steps(source, shown)
    return pages.template("source.html.jinja").render(
        source=source,
        rows=[_row(row) for row in reversed(shown)],
        counts=_counts(shown),
        newest=shown[-1] if shown else None,
        is_cut=len(rows) >= SHOWN,
        together=_are_together(source),
        plots=_plots(steps) if len(steps) > 1 else [],
        fields=_fill_plots(steps) if len(steps) > 1 else [],
        failures=_failure_strips(steps),
        first=steps[0].label if steps else "",
        last=steps[-1].label if steps else "",
        written=pages.moment(datetime.now(UTC)),
        gossamer=__version__,
    )


class _Step:
    """What is drawn at one place of a trend: a partition, or all segments of a period together."""

    def __init__(self, label: str, rows: Sequence[PartitionSummary]) -> None:
        self.label = label
        self.rows = sum(row.rows for row in rows)
        self.quarantined = sum(row.quarantined for row in rows)
        self.is_bad = any(row.kind == "bad" for row in rows)
        self.failed = {name for row in rows for name in row.failed}
        self.error_pages = _mean((row.error_pages, row.pages or 0) for row in rows)
        names = dict.fromkeys(name for row in reversed(rows) for name in row.fill)
        self.fill = {name: _mean((row.fill.get(name), row.rows) for row in rows) for name in names}


def _mean(weighed: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in weighed if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _are_together(source: Source) -> bool:
    return bool(source.spec.partitions.period and source.spec.partitions.segments)


def _steps(source: Source, rows: Sequence[PartitionSummary]) -> list[_Step]:
    """The places of the trends, in time; none for a source whose partitions do not follow each other."""
    if not source.spec.partitions.period:
        return []
    periods = groupby(rows, key=lambda row: row.key.split(SEPARATOR)[0])
    steps = [_Step(period, list(group)) for period, group in periods]
    # the oldest period may have lost segments to the cut
    return steps[1:] if _are_together(source) and len(rows) >= SHOWN and len(steps) > 1 else steps


def _plots(steps: Sequence[_Step]) -> list[dict[str, Any]]:
    rows = [step.rows for step in steps]
    bad = [place for place, step in enumerate(steps) if step.is_bad]
    drawn = [_drawn("Rows", rows, max(*rows, 1), pages.text(rows[-1]), bad, tall=True)]
    if any(quarantined := [step.quarantined for step in steps]):
        drawn.append(_drawn("Rows in quarantine", quarantined, max(quarantined), pages.text(quarantined[-1])))
    errors = [step.error_pages for step in steps]
    if known := [share for share in errors if share is not None]:
        most = max(*known, 0.01)
        drawn.append(_drawn("Share of error pages", errors, most, words.percent(known[-1])))
    return drawn


def _fill_plots(steps: Sequence[_Step]) -> list[dict[str, Any]]:
    """The fill rates: the fields of the newest partition in their order, then those that are gone."""
    names = list(dict.fromkeys(name for step in reversed(steps) for name in step.fill))[:FIELDS]
    drawn = []
    for name in names:
        rates = [step.fill.get(name) for step in steps]
        now = words.percent(rates[-1]) if rates[-1] is not None else "none"
        drawn.append(_drawn(name, rates, 1, now))
    return drawn


def _drawn(
    name: str, values: Sequence[float | None], most: float, now: str, marks: Sequence[int] = (), tall: bool = False
) -> dict[str, Any]:
    label = f"{pages.text(name, 80)}, over {len(values)} partitions, now {now}"
    svg = Markup(plot.trace(values, label, 0, most, marks))  # noqa: S704 - it escapes its label
    return {"name": name, "now": now, "plot": svg, "tall": tall}


def _failure_strips(steps: Sequence[_Step]) -> list[dict[str, Any]]:
    """For each expectation that failed, in how many places and where."""
    often = Counter(name for step in steps for name in step.failed)
    strips = []
    for name, count in often.most_common(EXPECTATIONS):
        places = [place for place, step in enumerate(steps) if name in step.failed]
        label = f"{pages.text(name, 80)}: failed in {count} of {len(steps)}, last in {steps[places[-1]].label}"
        strip = Markup(plot.trace([None] * len(steps), label, 0, 1, places))  # noqa: S704 - it escapes its label
        strips.append({"name": name, "count": count, "last": steps[places[-1]].label, "plot": strip})
    return strips


def _counts(rows: Sequence[PartitionSummary]) -> list[tuple[str, str, int]]:
    counted = Counter(row.kind for row in rows)
    said: list[tuple[Kind, str]] = [("good", "good"), ("warn", "with warnings"), ("bad", "bad"), ("unknown", "open")]
    return [(kind, name, counted[kind]) for kind, name in said if counted[kind] or kind != "unknown"]


def _row(row: PartitionSummary) -> dict[str, Any]:
    more = len(row.failed) - NAMED
    return {
        "key": row.key,
        "kind": row.kind,
        "title": row.title or "No verdict yet",
        "cause": row.cause,
        "rows": row.rows,
        "quarantined": row.quarantined,
        "failed": list(row.failed)[:NAMED],
        "more": max(more, 0),
        "written": pages.moment(row.written_at) if row.written_at else "",
    }
