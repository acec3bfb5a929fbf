"""The report of a partition: one self-contained HTML page that says whether the data can be trusted, and why.

Here the manifests become what the page shows; `templates/report.html.jinja` says how it looks. The page needs nothing
from the network and runs no script. Its values come from the web: all of them are escaped and cut to a bounded size,
and only http and https addresses become links.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from gossamer import __version__
from gossamer.manifest import CheckResult, Manifest
from gossamer.quality import words
from gossamer.source import Source

if TYPE_CHECKING:
    from jinja2 import Template

#: The layers in the order in which data passes them.
LAYERS = ("raw", "dead_letters", "clean", "enriched", "published")
#: Rows, columns and entries shown; the data itself is in the lake.
ROWS = 20
COLUMNS = 200
ENTRIES = 50
DEPTH = 4

_FILL = "fill"


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


def render(source: Source, manifests: Mapping[str, Manifest], sample: pl.DataFrame) -> str:
    """The page of one partition.

    Args:
        source: the source.
        manifests: layer -> the partition's manifest there; layers that were not reached are left out.
        sample: some rows of the last layer.
    """
    ordered = [manifests[layer] for layer in LAYERS if layer in manifests]
    ordered += [manifest for layer, manifest in manifests.items() if layer not in LAYERS]
    last = ordered[-1] if ordered else None
    books = manifests["raw"].notes.get("books", {}) if "raw" in manifests else {}
    return _template().render(
        source=source,
        partition=last.partition if last else "",
        verdict=_verdict(ordered, _outdated(manifests)),
        layers=[_layer(manifest, books) for manifest in ordered],
        books=list(_tables(books, "crawl")),
        columns=_columns(source, last, sample),
        fill_of=_fill_of(last, sample),
        sample=_sample(source, sample),
        provenance=_provenance(ordered, sample),
        written=_moment(max((manifest.written_at for manifest in ordered), default=datetime.now(UTC))),
        gossamer=__version__,
    )


@lru_cache(maxsize=1)
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gossamer.quality"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"address": address, "text": text, "percent": words.percent, "title": _title}
    return environment.get_template("report.html.jinja")


def address(value: object) -> str | None:
    """The address if it is one of http or https that may become a link, else None."""
    if not isinstance(value, str) or any(ord(character) <= 32 for character in value):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and parts.netloc else None


def text(value: object, length: int = words.TEXT) -> str:
    """A value as the page shows it: of bounded length, whole numbers with their thousands apart."""
    match words.clip(value, length) if isinstance(value, str) else words.plain(value):
        case None:
            return ""
        case bool(flag):
            return "true" if flag else "false"
        case int(number):
            return f"{number:,}"
        case float(number):
            return f"{number:,.4g}" if abs(number) < 10 else f"{number:,.2f}"
        case str(plain):
            return plain
        case other:
            return words.clip(words.value(other), length)


def _title(name: str) -> str:
    return str(name).replace("_", " ")


def _outdated(manifests: Mapping[str, Manifest]) -> list[str]:
    """Layers that were made from a version of another which has been replaced since, in words."""
    return [
        f"{layer} was made from an older version of {below}; it is yet to be made again"
        for layer, manifest in manifests.items()
        for below, other in manifests.items()
        if manifest.inputs.get(f"{below}/{manifest.source}", other.version) != other.version
    ]


def _verdict(manifests: Sequence[Manifest], outdated: Sequence[str]) -> dict[str, Any]:
    """The banner. `publish` decides by the same manifests, and by more than this page can see."""
    checks = [check for manifest in manifests for check in manifest.checks]
    warnings = [f"{check.name}: {check.summary}" for check in checks if not check.passed and not check.blocking]
    if refusals := [refusal for manifest in manifests for refusal in manifest.refusals()]:
        line = "A blocking check failed. Readers keep the last good version."
        return _banner("bad", "✕", "Not fit to publish", line, refusals)
    if outdated or not checks:
        line = "A part of this partition is out of date." if outdated else "No check was made on this partition yet."
        return _banner("unknown", "?", "No verdict yet", line, outdated)
    if warnings:
        warn = "warns" if len(warnings) == 1 else "warn"
        line = f"Every blocking check passed; {len(warnings)} of {len(checks)} checks {warn}."
        return _banner("warn", "!", "Fit to publish, with warnings", line, warnings)
    line = f"All {len(checks)} checks passed." if len(checks) > 1 else "Its check passed."
    return _banner("good", "✓", "Fit to publish", line, [])


def _banner(kind: str, sign: str, title: str, line: str, reasons: Sequence[str]) -> dict[str, Any]:
    return {"kind": kind, "sign": sign, "title": title, "line": line, "reasons": reasons}


def _layer(manifest: Manifest, books: Mapping[str, Any]) -> dict[str, Any]:
    failing = [check for check in manifest.checks if not check.passed]
    kind = "bad" if any(check.blocking for check in failing) else "warn" if failing else "good"
    return {
        "name": manifest.layer,
        "rows": manifest.rows,
        "kind": kind if manifest.checks else "unknown",
        "checks": [_check(check, books) for check in manifest.checks],
    }


def _check(check: CheckResult, books: Mapping[str, Any]) -> dict[str, Any]:
    details = check.details
    failed = [entry for entry in details.get("failed", ()) if isinstance(entry, dict) and "expectation" in entry]
    passed = [
        entry["demand"]
        for entry in details.get("results", ())
        if isinstance(entry, dict) and entry.get("passed") and "demand" in entry
    ]
    told = bool(failed or passed) or check.details.keys() <= books.keys()  # the books have a section of their own
    summary = check.summary
    if failed:  # each of them is written out below
        summary = f"{len(failed)} of {details.get('evaluated', len(failed))} expectations failed"
    return {
        "name": check.name,
        "kind": "good" if check.passed else "bad" if check.blocking else "warn",
        "word": "passed" if check.passed else "failed" if check.blocking else "warns",
        "blocking": check.blocking,
        "summary": summary,
        "failed": failed,
        "passed": passed,
        "tables": [] if told else list(_tables(details, "")),
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


def _columns(source: Source, last: Manifest | None, sample: pl.DataFrame) -> list[dict[str, Any]]:
    types = last.columns if last else {name: str(dtype) for name, dtype in sample.schema.items()}
    rates = _rates(last, sample)
    return [
        {"name": name, "type": _type(kind), "fill": rates.get(name), "key": name in source.spec.record.key}
        for name, kind in list(types.items())[:COLUMNS]
    ]


def _type(kind: str) -> str:
    """`Decimal(18, 4)` for `Decimal(precision=18, scale=4)`."""
    return re.sub(r"\w+=|'", "", kind)


def _rates(last: Manifest | None, sample: pl.DataFrame) -> Mapping[str, float]:
    noted = last.notes.get(_FILL) if last else None
    return noted if isinstance(noted, Mapping) else fill_rates(sample.lazy())


def _fill_of(last: Manifest | None, sample: pl.DataFrame) -> str:
    if last and isinstance(last.notes.get(_FILL), Mapping):
        return f"of {last.rows:,} rows"
    return f"of the {sample.height:,} rows below" if sample.height <= ROWS else f"of {sample.height:,} rows"


def _sample(source: Source, sample: pl.DataFrame) -> dict[str, Any]:
    """Some rows: the record's key first, the platform's own columns last, columns without any value left out."""
    rows = sample.head(ROWS)
    filled = [name for name in rows.columns if rows[name].null_count() < rows.height]
    keys = [name for name in source.spec.record.key if name in filled]
    fields = [name for name in filled if name not in keys and not name.startswith("_")]
    own = [name for name in filled if name == "_url"]
    names = [*keys, *fields, *own][:COLUMNS]
    numeric = [rows.schema[name].is_numeric() for name in names]
    return {"columns": list(zip(names, numeric, strict=True)), "rows": rows.select(names).rows()}


def _provenance(manifests: Sequence[Manifest], sample: pl.DataFrame) -> list[dict[str, Any]]:
    spiders = (
        sample["_spider_version"].drop_nulls().unique().sort().to_list() if "_spider_version" in sample.columns else []
    )
    raw = next((manifest for manifest in manifests if manifest.crawl_id), None)
    facts = {
        "Crawl": raw.crawl_id if raw else "",
        "Run": next((manifest.run_id for manifest in reversed(manifests) if manifest.run_id), ""),
        "Spider version": ", ".join(map(str, spiders[:5])),
    }
    entries = [{"name": name, "value": value, "more": ""} for name, value in facts.items() if value]
    for manifest in manifests:
        inputs = ", ".join(f"{name} {version}" for name, version in manifest.inputs.items())
        more = [f"code {manifest.code_version}" if manifest.code_version else "", f"from {inputs}" if inputs else ""]
        written = _moment(manifest.written_at)
        entries.append(
            {
                "name": f"{manifest.layer} version",
                "value": manifest.version,
                "more": "; ".join(filter(None, [*more, f"written {written}"])),
            }
        )
    return entries


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
