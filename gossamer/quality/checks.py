"""From outcomes and findings to check results: `expectations_critical`, `expectations_warning` and `volume`.

A failed critical one keeps the partition from its readers. Who evaluates is `suite` (the source's own expectations) and
`defaults` (what needs no code); how checks are shown in Dagster is not here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.manifest import CheckResult
from gossamer.quality import words
from gossamer.quality.finding import Cause, Finding
from gossamer.quality.profile import Profile
from gossamer.quality.suite import Outcome

CRITICAL = "expectations_critical"
WARNING = "expectations_warning"
VOLUME = "volume"
#: The default check that stands as an asset check of its own.
_ROW_COUNT = "row_count"

#: Expectations written out in a check's details, and named in its summary.
LISTED = 50
NAMED = 3
#: A longer address is left out rather than cut: half an address leads nowhere.
URL = 2000
#: Partitions in the trend that `volume` shows.
TREND = 30


def expectations(
    outcomes: Sequence[Outcome], findings: Sequence[Finding], key: Sequence[str], cause: Cause | None = None
) -> list[CheckResult]:
    """The checks `expectations_critical` (blocking) and `expectations_warning`, always both; without anything to judge
    they pass.

    `details` is JSON of bounded size: `evaluated`; `failed`, one object each with `expectation`, `column`, `kwargs`,
    `severity`, `summary`, `unexpected`, `rows`, `share` (0 to 1), `observed`, `error` and `sample` (objects with
    `value`, `url` from the column `_url`, and `key`); `results`, one small object for each; and `cause`.
    """
    judged = [finding for finding in findings if finding.kind != _ROW_COUNT]
    return [
        _check(
            name,
            [outcome for outcome in outcomes if (outcome.severity == "critical") == (name == CRITICAL)],
            [finding for finding in judged if (finding.severity == "critical") == (name == CRITICAL)],
            key,
            cause,
        )
        for name in (CRITICAL, WARNING)
    ]


def refused(verdict: Sequence[CheckResult], rows: int) -> list[CheckResult]:
    """The verdict on a partition in which `rows` rows were left that should be in quarantine: no reader may get them
    unless a person accepts it."""
    if not rows:
        return list(verdict)
    said = f"{rows} rows that fail critical expectations were left in, to be accepted"
    return [
        check.model_copy(update={"passed": False, "summary": f"{said}; {check.summary}"})
        if check.name == CRITICAL
        else check
        for check in verdict
    ]


def volume(findings: Sequence[Finding], history: Sequence[Profile], cause: Cause | None = None) -> CheckResult:
    """The check `volume`: the number of records against the source's own history.

    It blocks where the finding is critical, and warns else. `details`: `rows`, `low`, `high`, `compared`, `since`,
    `trend` (pairs of partition and rows, oldest first) and `cause`.
    """
    found = next((finding for finding in findings if finding.kind == _ROW_COUNT), None)
    if found is None:
        return CheckResult(name=VOLUME, passed=True, blocking=False, summary="not checked: `checks.ignore` names it")
    return CheckResult(
        name=VOLUME,
        passed=not found.failed,
        blocking=found.severity == "critical",
        summary=found.summary,
        details={
            "rows": found.observed,
            "low": found.low,
            "high": found.high,
            "compared": found.compared,
            "since": found.since,
            "trend": [[profile.partition, profile.rows] for profile in history[-TREND:]],
            **_said(cause if found.failed else None),
        },
    )


def _check(
    name: str, outcomes: Sequence[Outcome], findings: Sequence[Finding], key: Sequence[str], cause: Cause | None
) -> CheckResult:
    failed = [_failure(outcome, key) for outcome in outcomes if not outcome.passed]
    failed += [_failed_default(finding) for finding in findings if finding.failed]
    judged = len(outcomes) + sum(finding.state != "no history" for finding in findings)
    waiting = len(findings) + len(outcomes) - judged
    results = [
        {
            "expectation": outcome.kind,
            "column": _columns(outcome),
            "severity": outcome.severity,
            "passed": outcome.passed,
            "demand": words.expectation(outcome.kind, outcome.kwargs),
        }
        for outcome in outcomes
    ] + [
        {
            "expectation": _default(finding),
            "column": finding.field,
            "severity": finding.severity,
            "passed": not finding.failed,
            "demand": finding.summary,
        }
        for finding in findings
    ]
    results.sort(key=lambda result: bool(result["passed"]))
    return CheckResult(
        name=name,
        passed=not failed,
        blocking=name == CRITICAL,
        summary=_summary([one["summary"] for one in failed], judged, waiting),
        details={
            "evaluated": judged,
            "failed": failed[:LISTED],
            "results": results[:LISTED],
            **_said(cause if failed else None),
        },
    )


def _summary(failures: Sequence[str], judged: int, waiting: int) -> str:
    without = f"; {waiting} more have no history yet" if waiting else ""
    if not judged:
        return "no history yet" if waiting else "no expectations declared"
    if not failures:
        return (f"all {judged} passed" if judged > 1 else "1 passed") + without
    more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
    return f"{len(failures)} of {judged} failed: {'; '.join(failures[:NAMED])}{more}"


def _said(cause: Cause | None) -> dict[str, Any]:
    return {"cause": cause.model_dump()} if cause else {}


def _default(finding: Finding) -> str:
    return f"default: {finding.kind}"


def _failed_default(finding: Finding) -> dict[str, Any]:
    return {
        "expectation": _default(finding),
        "column": finding.field,
        "kwargs": {},
        "severity": finding.severity,
        "summary": finding.summary,
        "unexpected": finding.unexpected,
        "rows": None,
        "share": None,
        "observed": words.plain(finding.observed),
        "error": "",
        "sample": [dict(row) for row in finding.sample],
        "low": finding.low,
        "high": finding.high,
        "compared": finding.compared,
        "since": finding.since,
    }


def _failure(outcome: Outcome, key: Sequence[str]) -> dict[str, Any]:
    share = outcome.unexpected / outcome.rows if outcome.unexpected is not None and outcome.rows else None
    return {
        "expectation": outcome.kind,
        "column": _columns(outcome),
        "kwargs": words.plain(outcome.kwargs),
        "severity": outcome.severity,
        "summary": _sentence(outcome),
        "unexpected": outcome.unexpected,
        "rows": outcome.rows,
        "share": share,
        "observed": words.plain(outcome.observed),
        "error": outcome.error,
        "sample": [_sampled(outcome, row, key) for row in outcome.sample],
    }


def _sentence(outcome: Outcome) -> str:
    """`price must be between 0 and 10000: 3 of 297 rows (1.0 %), e.g. -5.0`."""
    demand = words.expectation(outcome.kind, outcome.kwargs)
    if outcome.error:
        return f"{demand}: cannot be evaluated: {outcome.error}"
    if outcome.unexpected is None or outcome.rows is None:
        found = outcome.observed
        differs = isinstance(found, dict) and found.keys() <= {"unexpected", "missing"}
        return demand if found is None else f"{demand}: {'' if differs else 'found '}{words.value(found)}"
    share = words.percent(outcome.unexpected / outcome.rows) if outcome.rows else "no rows"
    values = (_value(outcome, row) for row in outcome.sample)
    example = next((value for value in values if value is not None), None)
    said = f", e.g. {words.value(example)}" if example is not None else ""
    return f"{demand}: {outcome.unexpected} of {outcome.rows} rows ({share}){said}"


def _sampled(outcome: Outcome, row: Mapping[str, Any], key: Sequence[str]) -> dict[str, Any]:
    url = row.get("_url")
    return {
        "value": words.plain(_value(outcome, row)),
        "url": url if isinstance(url, str) and len(url) <= URL else None,
        "key": {name: words.plain(row[name]) for name in key if name in row},
    }


def _value(outcome: Outcome, row: Mapping[str, Any]) -> Any:
    """What the row has in the judged columns: the value of one, a mapping of several."""
    names = outcome.columns
    if len(names) == 1:
        return row.get(names[0])
    several = {name: row[name] for name in names if name in row}
    return several if several or not row else next(iter(row.values()))


def _columns(outcome: Outcome) -> str:
    """The column or columns of an expectation, "" where it judges the table."""
    return words.clip(", ".join(outcome.columns))
