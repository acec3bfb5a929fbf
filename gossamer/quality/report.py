"""The report of a partition: one self-contained HTML page that says whether the data can be trusted, and why.

Here the manifests become what the page shows; `templates/report.html.jinja` says how it looks. Manifests of older
versions lack some of the notes: what is not there is left out. Everything shown is cut to a bounded size.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from markupsafe import Markup

from gossamer import __version__, acceptance
from gossamer.acceptance import Acceptance
from gossamer.lake import object_path
from gossamer.manifest import CheckResult, Manifest
from gossamer.quality import pages, plot, words
from gossamer.quality.pages import address as address
from gossamer.quality.pages import text as text
from gossamer.quality.profile import FieldProfile, Profile
from gossamer.schema import PROVENANCE
from gossamer.source import Source

#: The layers in the order in which data passes them.
LAYERS = ("raw", "dead_letters", "clean", "enriched", "published")
#: Rows, columns and entries shown; the data itself is in the lake.
ROWS = 20
COLUMNS = 200
ENTRIES = 50
DEPTH = 4
#: Partitions in a small plot.
PLOTTED = 30

_FILL = "fill"
#: In the books, but told elsewhere: pages over time have a plot of their own.
_UNTOLD = {"series"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Json = Mapping[str, Any]


def fill_rates(frame: pl.LazyFrame) -> dict[str, float]:
    """The share of rows (0 to 1) in which each column has a value, NaN being none; {} of a frame without rows.

    As `fill` in a manifest's notes, the report shows it for the whole partition; else it counts the sample's rows.
    """
    schema = frame.collect_schema()
    if not schema:
        return {}
    values = [pl.col(n).fill_nan(None) if dtype.is_float() else pl.col(n) for n, dtype in schema.items()]
    rates = frame.select(value.is_not_null().mean() for value in values).collect().row(0, named=True)
    return {name: rate for name, rate in rates.items() if rate is not None}


def render(
    source: Source,
    manifests: Mapping[str, Manifest],
    sample: pl.DataFrame,
    *,
    history: Sequence[Profile] = (),
    acceptances: Sequence[Acceptance] = (),
) -> str:
    """The page of one partition.

    Args:
        source: the source.
        manifests: layer -> the partition's manifest there; layers that were not reached are left out.
        sample: some rows of the last layer.
        history: the statistics of earlier partitions, oldest first, for the trends of the fields.
        acceptances: those of the partition; the ones that speak of other data than this are left out.
    """
    ordered = in_order(manifests)
    last = ordered[-1] if ordered else None
    books = _note(manifests.get("raw"), "books")
    cleaned = manifests.get("clean")
    accepted = [a for a in acceptances if any(acceptance.covers(a, manifest) for manifest in ordered)]
    banner = verdict(manifests, accepted)
    return pages.template("report.html.jinja").render(
        source=source,
        partition=last.partition if last else "",
        verdict=banner,
        accepted=accepted,
        cause=_note(cleaned or manifests.get("raw"), "cause") if banner["kind"] != "good" else {},
        layers=[_layer(manifest, books) for manifest in ordered],
        ledgers=[ledger for ledger in (_records(cleaned), _requests(books)) if ledger],
        books=list(_tables({name: entry for name, entry in books.items() if name not in _UNTOLD}, "crawl")),
        quarantine=_quarantine(source, cleaned),
        changes=_changes(source, manifests.get("enriched")),
        columns=_columns(source, ordered, sample, history),
        since=history[-PLOTTED:][0].partition if history else "",
        fill_of=_fill_of(last, sample),
        sample=_sample(source, sample),
        provenance=_provenance(ordered, sample),
        written=pages.moment(max((manifest.written_at for manifest in ordered), default=datetime.now(UTC))),
        gossamer=__version__,
    )


def in_order(manifests: Mapping[str, Manifest]) -> list[Manifest]:
    """The manifests in the order in which data passes their layers."""
    known = [manifests[layer] for layer in LAYERS if layer in manifests]
    return known + [manifest for layer, manifest in manifests.items() if layer not in LAYERS]


def cause_of(manifests: Sequence[Manifest]) -> Json:
    """What most likely happened, as the last layer that says so has it; {} where none does."""
    return next((noted for manifest in reversed(manifests) if (noted := _note(manifest, "cause"))), {})


def _note(manifest: Manifest | None, name: str) -> Json:
    """A note of a manifest that is an object, {} where there is none."""
    noted = manifest.notes.get(name) if manifest else None
    return noted if isinstance(noted, Mapping) else {}


# -- the verdict ------------------------------------------------------------------------------------------------------


def verdict(manifests: Mapping[str, Manifest], acceptances: Sequence[Acceptance] = ()) -> dict[str, Any]:
    """The banner. `publish` decides by the same manifests, and by more than this page can see."""
    ordered, outdated = in_order(manifests), _outdated(manifests)
    checks = [check for manifest in ordered for check in manifest.checks]
    refused = {refusal: _is_accepted(manifest, acceptances) for manifest in ordered for refusal in manifest.refusals()}
    if not all(refused.values()):
        line = "A blocking check failed. Readers keep the last good version."
        return _banner("bad", "✕", "Not fit to publish", line, list(refused))
    if outdated or not checks:
        line = "A part of this partition is out of date." if outdated else "No check was made on this partition yet."
        return _banner("unknown", "?", "No verdict yet", line, outdated)
    if refused:
        line = "A blocking check failed, and a person took responsibility for publishing it all the same."
        return _banner("warn", "!", "Accepted in spite of failures", line, list(refused))
    if warnings := [f"{check.name}: {check.summary}" for check in checks if not check.passed]:
        warn = "warns" if len(warnings) == 1 else "warn"
        line = f"Every blocking check passed; {len(warnings)} of {len(checks)} checks {warn}."
        return _banner("warn", "!", "Fit to publish, with warnings", line, warnings)
    line = f"All {len(checks)} checks passed." if len(checks) > 1 else "Its check passed."
    return _banner("good", "✓", "Fit to publish", line, [])


def _is_accepted(manifest: Manifest, acceptances: Sequence[Acceptance]) -> bool:
    return any(acceptance.covers(accepted, manifest) for accepted in acceptances)


def _outdated(manifests: Mapping[str, Manifest]) -> list[str]:
    """Layers that were made from a version of another which has been replaced since, in words."""
    return [
        f"{layer} was made from an older version of {below}; it is yet to be made again"
        for layer, manifest in manifests.items()
        for below, other in manifests.items()
        if manifest.inputs.get(f"{below}/{manifest.source}", other.version) != other.version
    ]


def _banner(kind: str, sign: str, title: str, line: str, reasons: Sequence[str]) -> dict[str, Any]:
    return {"kind": kind, "sign": sign, "title": title, "line": line, "reasons": reasons}


# -- checks -----------------------------------------------------------------------------------------------------------


def _layer(manifest: Manifest, books: Json) -> dict[str, Any]:
    failing = [check for check in manifest.checks if not check.passed]
    kind = "bad" if any(check.blocking for check in failing) else "warn" if failing else "good"
    unjudged = {finding.get("summary") for finding in _findings(manifest) if finding.get("state") == "no history"}
    return {
        "name": manifest.layer,
        "rows": manifest.rows,
        "kind": kind if manifest.checks else "unknown",
        "checks": [_check(check, books, unjudged) for check in manifest.checks],
    }


def _findings(manifest: Manifest) -> list[Json]:
    noted = manifest.notes.get("findings")
    return [finding for finding in noted if isinstance(finding, Mapping)] if isinstance(noted, list) else []


def _check(check: CheckResult, books: Json, unjudged: set[Any]) -> dict[str, Any]:
    details = check.details
    failed = [entry for entry in details.get("failed", ()) if isinstance(entry, dict) and "expectation" in entry]
    passed = [
        entry["demand"]
        for entry in details.get("results", ())
        if isinstance(entry, dict) and entry.get("passed") and "demand" in entry
    ]
    trend = _trend(details)
    told = bool(failed or passed or trend) or details.keys() <= books.keys()  # the books have a section of their own
    summary = check.summary
    if failed:  # each of them is written out below
        summary = f"{len(failed)} of {details.get('evaluated', len(failed))} expectations failed"
    return {
        "name": check.name,
        "kind": "good" if check.passed else "bad" if check.blocking else "warn",
        "word": "passed" if check.passed else "failed" if check.blocking else "warns",
        "blocking": check.blocking,
        "summary": summary,
        "failed": failed[:ENTRIES],
        "passed": [demand for demand in passed if demand not in unjudged],
        "unjudged": [demand for demand in passed if demand in unjudged],
        "trend": trend,
        "tables": [] if told else list(_tables(details, "")),
    }


def _trend(details: Json) -> dict[str, Any] | None:
    """Counts of earlier partitions, `[[key, count], ...]`, and of this one, as a plot."""
    points, now = details.get("trend"), details.get("rows")
    if not isinstance(points, list) or not points or now is None:
        return None
    keys, counts = [*(str(key) for key, _ in points), "this one"], [*(count for _, count in points), now]
    most = max([*counts, details.get("high") or 0, 1])
    label = f"rows, {len(counts)} partitions from {keys[0]} to {keys[-1]}: from {counts[0]} to {counts[-1]}"
    return {
        "plot": Markup(plot.trace(counts, label, 0, most)),  # noqa: S704 - it escapes its label
        "first": keys[0],
        "last": keys[-1],
        "most": most,
    }


def _tables(entries: Any, title: str, depth: int = DEPTH) -> Iterator[dict[str, Any]]:
    """Nested counts as flat tables, `{title, rows}` each: numbers first, then each group under its name."""
    groups = {name: entry for name, entry in entries.items() if _is_group(entry)}
    rows = [{"name": n, "value": e} for n, e in entries.items() if n not in groups and e not in (None, "", [], {})]
    if rows:
        yield {"title": title, "rows": rows[:ENTRIES]}
    for name, group in list(groups.items())[:ENTRIES] if depth else ():
        for number, part in enumerate([group] if isinstance(group, Mapping) else group[:ENTRIES], 1):
            counted = f"{name} {number}" if not isinstance(group, Mapping) and len(group) > 1 else str(name)
            nested = depth < DEPTH and title
            yield from _tables(part, f"{title} / {counted}" if nested else counted, depth - 1)


def _is_group(entry: Any) -> bool:
    return isinstance(entry, Mapping) or (
        isinstance(entry, list | tuple) and bool(entry) and all(isinstance(part, Mapping) for part in entry)
    )


# -- ledgers, quarantine, changes -------------------------------------------------------------------------------------


def _records(manifest: Manifest | None) -> dict[str, Any] | None:
    """What became of the records that were crawled."""
    counts = _note(manifest, "records")
    if manifest is None or "crawled" not in counts:
        return None
    ends = [
        ("clean", counts.get("clean", manifest.rows), "good"),
        ("quarantined", counts.get("quarantined"), "warn"),
        ("duplicates", counts.get("duplicates"), "idle"),
        ("dropped", counts.get("dropped"), "bad"),
    ]
    return _ledger("Records", "crawled", counts["crawled"], ends)


def _requests(books: Json) -> dict[str, Any] | None:
    """What became of the requests that were discovered."""
    requests = books.get("requests")
    if not isinstance(requests, Mapping):
        return None
    ends = [
        ("fetched", requests.get("fetched"), "good"),
        ("unchanged", requests.get("unchanged"), "good"),
        ("redirected to known pages", requests.get("redirected"), "idle"),
        *_by_reason("excluded", requests.get("excluded"), "idle"),
        *_by_reason("failed", requests.get("dead"), "bad"),
        ("pending", requests.get("pending"), "warn"),
    ]
    known = sum(count for _, count, _ in ends if count)
    return _ledger("Requests", "discovered", requests.get("discovered", known), ends)


def _by_reason(name: str, counts: Any, kind: str) -> list[tuple[str, Any, str]]:
    if not isinstance(counts, Mapping):
        return []
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    return [(f"{name}: {reason}", count, kind) for reason, count in ordered[:ENTRIES]]


def _ledger(title: str, word: str, total: Any, ends: Sequence[tuple[str, Any, str]]) -> dict[str, Any]:
    counted = [(name, count, kind) for name, count, kind in ends if count]
    rest = total - sum(count for _, count, _ in counted)
    if rest > 0:
        counted.append(("not accounted for", rest, "idle"))
    parts = [{"name": n, "count": c, "kind": k, "share": c / total if total else 0} for n, c, k in counted]
    return {"title": title, "word": word, "total": total, "parts": parts}


def _quarantine(source: Source, manifest: Manifest | None) -> dict[str, Any] | None:
    noted = _note(manifest, "quarantine")
    if manifest is None or not noted.get("rows"):
        return None
    by = noted.get("by") or {}
    path = object_path("quarantine", source.name, manifest.partition)
    return {
        "rows": noted["rows"],
        "by": sorted(by.items(), key=lambda entry: -entry[1])[:ENTRIES],
        "more": max(len(by) - ENTRIES, 0),
        "path": path,
        "link": f"../../{path}",
    }


def _changes(source: Source, manifest: Manifest | None) -> dict[str, Any] | None:
    """What is new, changed or gone since the previous published partition."""
    noted = _note(manifest, "changes")
    if not noted:
        return None
    columns = noted.get("columns") or {}
    schema = [
        (name, list(map(str, noted[name]))[:ENTRIES]) for name in ("added", "removed", "retyped") if noted.get(name)
    ]
    ordered = sorted(columns.items(), key=lambda entry: -entry[1])
    both = (noted.get("changed") or 0) + (noted.get("unchanged") or 0)
    return {
        "previous": noted.get("previous"),
        "has_page": bool(source.spec.partitions.period),  # else it is an earlier crawl of this very partition
        "counts": [(name, noted[name]) for name in ("new", "changed", "gone", "unchanged") if name in noted],
        "schema": schema,
        "columns": [(name, count, count / both if both else 0) for name, count in ordered[:ENTRIES]],
        "more": max(len(columns) - ENTRIES, 0),
    }


# -- fields -----------------------------------------------------------------------------------------------------------


def _columns(
    source: Source, manifests: Sequence[Manifest], sample: pl.DataFrame, history: Sequence[Profile]
) -> list[dict[str, Any]]:
    last = manifests[-1] if manifests else None
    types = last.columns if last else {name: str(dtype) for name, dtype in sample.schema.items()}
    rates = _rates(last, sample)
    profiled = next((noted for m in reversed(manifests) if (noted := _note(m, "profile"))), {})
    fields = profiled.get("fields") or {}
    failed = _failed_fields(manifests)
    past = history[-PLOTTED:]
    rows = []
    shown = [(name, kind) for name, kind in types.items() if name not in PROVENANCE]
    for name, kind in shown[:COLUMNS]:
        field = FieldProfile.model_validate(fields[name]) if name in fields else None
        before = [earlier.fields.get(name) for earlier in past]
        rows.append(
            {
                "name": name,
                "type": _type(kind),
                "fill": rates.get(name),
                "key": name in source.spec.record.key,
                "failed": name in failed,
                "distinct": field.distinct if field else None,
                "unparsed": field.unparsed if field else 0,
                "range": _range(field, kind) if field else None,
                "trends": _field_trends([*before, field]) if field and past else [],
            }
        )
    return rows


def _failed_fields(manifests: Sequence[Manifest]) -> set[Any]:
    """The fields that a failed expectation or default check is about."""
    checks = (check for manifest in manifests for check in manifest.checks if not check.passed)
    entries = [e for check in checks for e in check.details.get("failed", ()) if isinstance(e, dict)]
    findings = [finding for manifest in manifests for finding in _findings(manifest)]
    return {e.get("column") for e in entries} | {f.get("field") for f in findings if f.get("state") == "failed"}


def _type(kind: str) -> str:
    """`Decimal(18, 4)` for `Decimal(precision=18, scale=4)`."""
    return re.sub(r"\w+=|'", "", words.clip(kind))


def _range(field: FieldProfile, kind: str) -> dict[str, str] | None:
    """The least, the median and the greatest value, in words; of a text its lengths."""
    if not field.quantiles:
        return None
    least, median, most = field.quantiles[0], field.quantiles[len(field.quantiles) // 2], field.quantiles[-1]
    is_text = not kind.startswith(("Date", "Time", "Int", "UInt", "Float", "Decimal", "Duration", "Boolean"))
    if is_text:
        least, median, most = round(least), round(median), round(most)
    ends = [_quantile(value, kind) for value in (least, most)]
    return {
        "span": " to ".join(dict.fromkeys(ends)) + (" characters" if is_text else ""),
        "median": _quantile(median, kind) if least < most else "",
    }


def _quantile(value: float, kind: str) -> str:
    if not kind.startswith("Date"):
        return text(int(value) if value % 1 == 0 and abs(value) < 1e15 else value)
    try:
        when = _EPOCH + timedelta(seconds=value)
    except OverflowError:
        return text(value)
    return f"{when:%Y-%m-%d}" if kind == "Date" else f"{when:%Y-%m-%d %H:%M}"


def _field_trends(fields: Sequence[FieldProfile | None]) -> list[dict[str, Any]]:
    """The fill rate, and the median where there is one, over the partitions up to this one."""
    fill = [field.fill if field else None for field in fields]
    medians = [field.quantiles[len(field.quantiles) // 2] if field and field.quantiles else None for field in fields]
    known = [median for median in medians if median is not None]
    filled = f"filled over {len(fields)} partitions, now {words.percent(fill[-1] or 0)}"
    drawn = [{"kind": "fill", "plot": plot.trace(fill, filled, 0, 1)}]
    if len(known) > 1:
        middle, half = (min(known) + max(known)) / 2, (max(known) - min(known)) / 2
        half = max(half, abs(middle) / 4)  # what hardly changes is not drawn as if it did
        moved = f"median over {len(fields)} partitions, now {text(known[-1])}"
        drawn.append({"kind": "median", "plot": plot.trace(medians, moved, middle - half, middle + half)})
    return [{**trend, "plot": Markup(trend["plot"])} for trend in drawn]  # noqa: S704 - labels are escaped


def _rates(last: Manifest | None, sample: pl.DataFrame) -> Mapping[str, float]:
    return _note(last, _FILL) or fill_rates(sample.lazy())


def _fill_of(last: Manifest | None, sample: pl.DataFrame) -> str:
    if last and _note(last, _FILL):
        return f"of {last.rows:,} rows"
    return f"of the {sample.height:,} rows below" if sample.height <= ROWS else f"of {sample.height:,} rows"


def _sample(source: Source, sample: pl.DataFrame) -> dict[str, Any]:
    """Some rows: the record's key first, the platform's own columns last, columns without any value left out."""
    held = {column.name: column for column in sample.head(ROWS) if column.null_count() < len(column)}
    keys = [name for name in source.spec.record.key if name in held]
    fields = [name for name in held if name not in keys and not name.startswith("_")]
    own = [name for name in held if name == "_url"]
    shown = [held[name] for name in [*keys, *fields, *own][:COLUMNS]]
    return {
        "columns": [(column.name, column.dtype.is_numeric()) for column in shown],
        "rows": list(zip(*(column.to_list() for column in shown), strict=True)),
    }


# -- provenance -------------------------------------------------------------------------------------------------------


def _provenance(manifests: Sequence[Manifest], sample: pl.DataFrame) -> list[dict[str, Any]]:
    spiders = set(sample["_spider_version"].drop_nulls().to_list()) if "_spider_version" in sample.columns else ()
    raw = next((manifest for manifest in manifests if manifest.crawl_id), None)
    facts = {
        "Crawl": raw.crawl_id if raw else "",
        "Run": next((manifest.run_id for manifest in reversed(manifests) if manifest.run_id), ""),
        "Spider version": ", ".join(sorted(map(str, spiders))[:5]),
    }
    entries = [{"name": name, "value": value, "more": ""} for name, value in facts.items() if value]
    for manifest in manifests:
        inputs = ", ".join(f"{name} {version}" for name, version in manifest.inputs.items())
        more = [f"code {manifest.code_version}" if manifest.code_version else "", f"from {inputs}" if inputs else ""]
        written = pages.moment(manifest.written_at)
        entries.append(
            {
                "name": f"{manifest.layer} version",
                "value": manifest.version,
                "more": "; ".join(filter(None, [*more, f"written {written}"])),
            }
        )
    return entries
