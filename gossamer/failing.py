"""What keeps a layer's data from its readers, and what each failure is known by when it comes again.

The numbers differ whenever data is made again; what failed is the same if the same is demanded of the same columns.
Who accepts what is in `gossamer.acceptance`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from gossamer.lake import Lake, object_path
from gossamer.manifest import CheckResult, Manifest
from gossamer.quality import words
from gossamer.quality.checks import CRITICAL, LISTED
from gossamer.quality.data_docs import RESULTS
from gossamer.records.enrich import Joined

#: What differs where a check fails in the same way: numbers, and the examples in brackets.
_NUMBERS = re.compile(r"\([^()]*\)|\d[\d.,]*")


def failures(lake: Lake, manifest: Manifest) -> dict[str, str]:
    """What keeps this data from its readers: what each failure is known by, and its words.

    Rows that fail a critical expectation are failures of their own where they are left in, though `mostly` allows them.

    Raises:
        LakeError: the lake cannot be read.
    """
    is_left_in = manifest.layer != "clean" or manifest.notes.get("kept_failing", False)
    rows = _failing_rows(lake, manifest, passed=True) if is_left_in else {}
    return {**_refusals(manifest, rows), **rows}


def seen(lake: Lake, manifest: Manifest) -> dict[str, str]:
    """What whoever looked at this data has seen: its failures, and each critical expectation that rows fail, be they in
    quarantine.

    Raises:
        LakeError: the lake cannot be read.
    """
    return {**failures(lake, manifest), **_failing_rows(lake, manifest, passed=False), **set_aside(manifest)}


def set_aside(manifest: Manifest) -> dict[str, str]:
    """The rows in quarantine, by what they fail."""
    by: Mapping[str, int] = manifest.notes.get("quarantine", {}).get("by", {})
    return {_known_by("quarantine", demand): f"in quarantine: {demand}: {rows} rows" for demand, rows in by.items()}


def _refusals(manifest: Manifest, rows: Mapping[str, str]) -> dict[str, str]:
    refused = (check for check in manifest.checks if check.blocking and not check.passed)
    # A check may fail by nothing but the rows that are left in.
    told = (_told(check) or ({} if rows and check.name == CRITICAL else _by_words(check)) for check in refused)
    return {known_by: said for one in told for known_by, said in one.items()}


def _told(check: CheckResult) -> dict[str, str]:
    """What failed by a check's details: joins by their source, expectations by column and arguments."""
    joins = (Joined(**join) for join in check.details.get("joins", ()))
    told = {_known_by(check.name, join.source): check.summary for join in joins if not join.within_limit}
    failed = check.details.get("failed", ())
    for one in failed:
        what = (one[name] for name in ("expectation", "column", "kwargs", "error"))
        told[_known_by(check.name, *what)] = f"{check.name}: {one['summary']}"
    if len(failed) >= LISTED:  # there may be more: the words count them
        told[_known_by(check.name, check.summary)] = f"{check.name}: {check.summary}"
    return told


def _by_words(check: CheckResult) -> dict[str, str]:
    return {_known_by(check.name, _NUMBERS.sub("", check.summary)): f"{check.name}: {check.summary}"}


def _failing_rows(lake: Lake, manifest: Manifest, *, passed: bool) -> dict[str, str]:
    """The critical expectations that rows fail; `passed` leaves out those that failed by it, which are told already."""
    path = object_path(RESULTS, manifest.source, manifest.partition, f".{manifest.layer}.json")
    found = {}
    for result in (lake.get_json(path) or {}).get("results", ()):
        asked, rows = result["expectation_config"], (result["result"] or {}).get("unexpected_count")
        if rows and (asked.get("severity") or "critical") == "critical" and (result["success"] or not passed):
            demand = words.expectation(asked["type"], asked["kwargs"])
            found[_known_by("rows", asked["type"], asked["kwargs"])] = f"{demand}: {rows} rows are left in"
    return found


def _known_by(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True, default=str)
