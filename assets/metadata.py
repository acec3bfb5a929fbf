"""What a materialisation and a check show in Dagster: counts, columns, tables, places.

Values come from the web, and the UI renders some texts as Markdown: there they must become neither markup nor links.
So rows are shown as tables, whose cells are plain text, and the one text that the UI always takes for Markdown (the
words of a check) is escaped by `plain`. What an asset carries before it is ever materialised is in `specs`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from gossamer.lake import Lake
from gossamer.manifest import CheckResult
from gossamer.schema import PARTITION
from gossamer.source import SECOND, Source
from resources.pages import PagesResource

if TYPE_CHECKING:
    from gossamer.quality.source_report import PartitionSummary

SAMPLE_ROWS = 10
#: More of them, or wider ones, and the UI pushes the table out of the window; the report shows the rows whole.
_SAMPLE_COLUMNS = 8
_SAMPLE_CELL = 30
_FAILING_CELL = 80
_CELL = 200
#: Words on what of the spider's settings is not honoured, and what to do instead.
_NOTICE = 500
#: Rows of a table in a check's metadata: every one is kept in the event log for ever.
_TABLE_ROWS = 50

_PLATFORM_COLUMNS = {
    "extra": "fields that the declaration does not name, as JSON",
    "_unparsed": "JSON, field -> text: what is no value of its declared type",
    "_url": "the page that the record came from",
    "_fetched_at": "when that page was fetched",
    "_page_hash": "SHA-256 of that page's body",
    "_crawl_id": "source, partition and generation of the crawl",
    "_spider_version": "hash of the spider's code",
    "_seed_row": "what the crawl began with on the way to that page: a seed's URL, or its upstream row as JSON",
    PARTITION: "the partition that the row belongs to",
}
_ADDED_COLUMNS = {
    "quarantine": {
        "_expectation": "the critical expectations that the row fails",
        "_reason": "what they demand, and what the row has",
    },
    "changes": {
        "change": "new, changed or gone",
        "columns": "the columns that differ, of a changed row",
    },
}
_SECOND = {
    "currency": "currency of {}, as ISO 4217 writes it",
    "unit": "unit of {}",
    "best": "the best that {} could be",
}
_DEAD_LETTER_COLUMNS = {
    "url": "the request that failed for good",
    "reason": "why: one word of the platform's list",
    "status": "HTTP status, where there was an answer",
    "attempts": "how often it was tried",
    "callback": "the spider's method that would have had the page",
    "message": "the failure in the words of who met it",
    "failed_at": "when it was given up",
    "body_sample": "the beginning of the answer's body",
    "seed_row": "what the crawl began with on the way to it: a seed's URL, or its upstream row as JSON",
}


def of_rows(source: Source, layer: str, frame: pl.LazyFrame, rows: int) -> dict[str, Any]:
    """Row count, column schema with descriptions, and a sample of a frame."""
    said = _DEAD_LETTER_COLUMNS if layer == "dead_letters" else _columns(source) | _ADDED_COLUMNS.get(layer, {})
    added = "" if layer in ("raw", "dead_letters") else "added by a join or by transform.py"
    columns = [
        dg.TableColumn(name, _type(dtype), description=said.get(name, added))
        for name, dtype in frame.collect_schema().items()
    ]
    return {
        "dagster/row_count": rows,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "sample": sample(frame),
    }


def _columns(source: Source) -> dict[str, str]:
    """What each column means, as far as the declaration and the platform say."""
    said = dict(_PLATFORM_COLUMNS)
    for name, kind in source.spec.record.fields.items():
        key = "record key, " if name in source.spec.record.key else ""
        if second := SECOND.get(kind):
            said[f"{name}_{second}"] = _SECOND[second].format(name)
        said[name] = f"{key}declared as {kind}"
    return said


def _type(dtype: pl.DataType) -> str:
    """`Datetime(us, UTC)` for `Datetime(time_unit='us', time_zone='UTC')`."""
    return re.sub(r"\w+=|'", "", str(dtype))


def sample(frame: pl.LazyFrame) -> dg.MetadataValue[Any]:
    """The first rows as a table; provenance is left out, cells are cut."""
    names = [n for n in frame.collect_schema().names() if not n.startswith("_") and n != "extra"][:_SAMPLE_COLUMNS]
    return table(frame.select(names).head(SAMPLE_ROWS).collect().rows(named=True), names, _SAMPLE_CELL)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], width: int = _CELL) -> dg.MetadataValue[Any]:
    """Rows as the UI shows them: plain text in cells of at most `width` characters, whatever it looks like."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell(row.get(name), width) for name in columns}) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )


def _cell(value: object, width: int) -> str | int | float | bool:
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"


#: What reads as an address. The UI links bare ones whatever is escaped; in a code span it does not.
_ADDRESS = re.compile(r"[^\s,;()]*(?:://|www\.|@)[^\s,;()]*", re.IGNORECASE)
_MARKUP = re.compile(r"[\\`*\[<~|]|(?<!\w)_|_(?!\w)|&(?=[#\w])|^[#>+=-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")


def plain(text: str) -> str:
    """Words that Markdown shows as they are: no markup, no links; an address stands in a code span."""
    line = " ".join(text.split())
    shown, end = [], 0
    for address in _ADDRESS.finditer(line):
        shown += [_escaped(line[end : address.start()]), "`", address[0].replace("`", "'"), "`"]
        end = address.end()
    return "".join([*shown, _escaped(line[end:])])


def _escaped(text: str) -> str:
    return _MARKUP.sub(lambda found: f"\\{found[0]}", text)


def place(lake: Lake, path: str) -> dg.MetadataValue[Any]:
    """Where an object of the lake is: a path on this machine, or its s3:// address."""
    return dg.MetadataValue.path(Path(lake.url(path))) if lake.is_local else dg.MetadataValue.text(lake.url(path))


def page(lake: Lake, pages: PagesResource, path: str) -> dg.MetadataValue[Any]:
    """A link to a page of the lake; where no server shows it, the place where it lies."""
    address = pages.address(path)
    return dg.MetadataValue.url(address) if address else place(lake, path)


def of_crawl(books: Mapping[str, Any]) -> dict[str, Any]:
    """A crawl's books: what is plotted over time, and what became of the requests and records."""
    requests, records = books.get("requests", {}), books.get("records", {})
    reasons = books.get("reasons", {})
    hosts = [
        {"host": host, "fetched": 0, "dead": 0, **counts, "reasons": _pairs(reasons.get(host, {}))}
        for host, counts in books.get("hosts", {}).items()
    ]
    examples = [{"outcome": kind, "url": url} for kind, urls in books.get("examples", {}).items() for url in urls]
    notices = [{"notice": notice} for notice in books.get("notices", [])]
    shown: dict[str, Any] = {
        "pages": requests.get("fetched", 0),
        "dead_requests": sum(requests.get("dead", {}).values()),
        "pages_per_second": books.get("rate", 0.0),
        "bytes": books.get("bytes", 0),
        "seconds": books.get("duration_s", 0.0),
        "launches": books.get("launches", 1),
        "requests": table(_outcomes(requests), ["outcome", "requests"]),
        "records": table(_outcomes(records, "records"), ["outcome", "records"]),
        "hosts": table(hosts[:_TABLE_ROWS], ["host", "fetched", "dead", "reasons"]),
    }
    if examples:
        shown["examples"] = table(examples[:_TABLE_ROWS], ["outcome", "url"])
    if died := books.get("deaths"):
        shown["deaths"] = table(died[:_TABLE_ROWS], ["cause", "place", "words"])
    if notices:
        shown["notices"] = table(notices[:_TABLE_ROWS], ["notice"], _NOTICE)
    return shown


def of_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest's notes tell of a layer: the ledger of records, the quarantine, changes, the likely cause."""
    shown: dict[str, Any] = {
        name: count
        for name, count in notes.get("records", {}).items()
        if name in ("quarantined", "duplicates", "dropped")
    }
    changed = notes.get("changes", {})
    if previous := changed.get("previous"):
        shown |= {name: changed[name] for name in ("new", "changed", "gone", "unchanged")}
        shown["compared_with"] = dg.MetadataValue.text(str(previous))
        columns = [{"column": name, "rows": rows} for name, rows in changed.get("columns", {}).items()]
        if columns:
            shown["changed_columns"] = table(columns[:_TABLE_ROWS], ["column", "rows"])
    if set_aside := notes.get("quarantine", {}).get("by"):
        rows = [{"expectation": demand, "rows": count} for demand, count in set_aside.items()]
        shown["quarantine"] = table(rows[:_TABLE_ROWS], ["expectation", "rows"], _FAILING_CELL)
    return shown | of_cause(notes.get("cause"))


def trend(partitions: "Sequence[PartitionSummary]") -> dg.MetadataValue[Any]:
    """The newest partitions of a source, the newest first: rows, rows in quarantine, and what failed."""
    rows = [
        {
            "partition": one.key,
            "rows": one.rows,
            "quarantined": one.quarantined,
            "failed": len(one.failed),
            "verdict": one.title,
            "cause": one.cause,
        }
        for one in reversed(partitions)
    ]
    return table(rows, ["partition", "rows", "quarantined", "failed", "verdict", "cause"])


def of_cause(cause: Mapping[str, Any] | None) -> dict[str, Any]:
    """What most likely happened, and what speaks for it."""
    if not cause:
        return {}
    evidence = [{"evidence": line} for line in cause["evidence"]]
    shown: dict[str, Any] = {"cause": dg.MetadataValue.text(f"{cause['kind']}: {cause['words']}")}
    return shown | ({"evidence": table(evidence, ["evidence"], _NOTICE)} if evidence else {})


def _outcomes(counts: Mapping[str, Any], unit: str = "requests") -> list[dict[str, Any]]:
    """Counts as rows, `dead: gone` for a count below `dead`; what never happened is left out, but for the first."""
    rows = []
    for name, count in counts.items():
        if isinstance(count, Mapping):
            rows += [{"outcome": f"{name}: {reason}", unit: number} for reason, number in count.items() if number]
        elif count or not rows:
            rows.append({"outcome": name, unit: count})
    return rows


def check_result(key: dg.AssetKey, check: CheckResult, links: Mapping[str, Any]) -> dg.AssetCheckResult:
    """A check's outcome for Dagster: the summary in words, what it found as tables."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=plain(check.summary),
        metadata={**_found(check.details), **links},
    )


def _found(details: Mapping[str, Any]) -> dict[str, Any]:
    if "requests" in details:
        return {**of_crawl(details), "books": dg.MetadataValue.json(dict(details))}
    if "results" in details:
        return {**of_cause(details.get("cause")), **_expectations(details)}
    if "trend" in details:
        trend = [{"partition": key, "rows": rows} for key, rows in reversed(details["trend"])]
        bounds = {name: details[name] for name in ("rows", "low", "high") if details[name] is not None}
        shown = {**bounds, **of_cause(details.get("cause"))}
        return shown | ({"trend": table(trend, ["partition", "rows"])} if trend else {})
    if "joins" in details:
        columns = ["source", "rows", "unmatched", "max_unmatched", "examples"]
        rows = [{**join, "examples": ", ".join(join["examples"])} for join in details["joins"]]
        return {"unmatched_rows": sum(join["unmatched"] for join in rows), "joins": table(rows, columns)}
    return {name: dg.MetadataValue.json(value) for name, value in details.items()}


def _expectations(details: Mapping[str, Any]) -> dict[str, Any]:
    """What was expected and how it ended; for failed ones the rows that failed, with their pages."""
    failed = details["failed"]
    outcomes = [{**result, "outcome": "passed" if result["passed"] else "FAILED"} for result in details["results"]]
    shown: dict[str, Any] = {
        "failed_expectations": len(failed),
        "expectations": table(sorted(outcomes, key=lambda result: result["passed"]), ["outcome", "demand", "severity"]),
    }
    if failed:
        columns = ["expectation", "column", "summary", "unexpected", "rows", "observed", "error"]
        shown["failed"] = table(failed, columns)
        rows = [
            {**row, "expectation": one["expectation"], "column": one["column"], "key": _pairs(row["key"])}
            for one in failed
            for row in one["sample"]
        ]
        if rows:
            columns = ["column", "value", "key", "url", "expectation"]
            shown["failing_rows"] = table(rows[:_TABLE_ROWS], columns, _FAILING_CELL)
        shown["details"] = dg.MetadataValue.json(failed)
    return shown


def _pairs(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items())
