"""A source's suite of expectations, evaluated on a frame: Great Expectations decides, Polars computes.

What a suite demands is Great Expectations' own; `gossamer.quality.gx` plans its metrics as Polars expressions. Here a
suite is taken from its file to one `Outcome` for each expectation. The checks that are made of them are in `checks`,
the file's own faults in `suite_file`.

Great Expectations takes seconds to import, which a process for each partition would pay each time. So the `Proof` of a
suite is kept in the lake: what of it can be known to pass without Great Expectations. It is imported only where the
suite is new, or something may have failed.
"""

import difflib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gossamer import __version__
from gossamer.errors import GossamerError
from gossamer.lake import Lake
from gossamer.quality import suite_file, words
from gossamer.quality.quarantine import Failing
from gossamer.source import Source

if TYPE_CHECKING:
    from gossamer.quality.gx.compiled import CompiledSuite
    from gossamer.quality.gx.proof import Proof

#: Rows shown for each failed expectation.
SAMPLES = 10
RESULT_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": SAMPLES}

_ROW = "_gossamer_row"
#: Expectations that judge whether rows are unique; over fields of the key alone, duplicates are what they look for.
_UNIQUE = {"expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique"}


class QuarantineError(GossamerError):
    """Rows that fail a critical expectation and cannot be told from the others."""


@dataclass(frozen=True)
class Outcome:
    """How one expectation ended.

    Attributes:
        unexpected: rows that do not meet it; None where it does not judge rows.
        rows: rows that were judged (null values are not, but for expectations about nulls).
        observed: what was measured, where it does not judge rows.
        sample: some unexpected rows: the judged values, by column, with `_url` and the key's fields.
        error: why it could not be evaluated, or "".
    """

    kind: str
    kwargs: Mapping[str, Any]
    severity: str
    passed: bool
    unexpected: int | None = None
    rows: int | None = None
    observed: Any = None
    sample: tuple[Mapping[str, Any], ...] = ()
    error: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns that it judges, [] where it judges the table."""
        return named(self.kwargs)


@dataclass(frozen=True)
class Evaluation:
    """A suite on a frame.

    Attributes:
        outcomes: one for each expectation, in the order of the suite.
        failing: the rows that fail critical expectations.
        result: Great Expectations' own validation result, as JSON; None without expectations.
    """

    outcomes: Sequence[Outcome] = ()
    failing: Sequence[Failing] = ()
    result: Mapping[str, Any] | None = field(default=None, repr=False)


def evaluate(
    source: Source,
    suite: Path | None,
    frame: pl.LazyFrame,
    *,
    duplicated: pl.LazyFrame | None = None,
    lake: Lake | None = None,
) -> Evaluation:
    """The outcome of every expectation of a suite on a frame; a missing column fails one and never the others.

    NaN counts as null. Only the columns that the suite names are read.

    Args:
        duplicated: the same rows before duplicates went, on which the uniqueness of the key is judged.
        lake: where the suite's proof is kept, so that not every partition imports Great Expectations.

    Raises:
        SuiteError: the file cannot be read, or names what Great Expectations does not know.
    """
    declared = suite_file.parse(suite) if suite else []
    if suite is None or not declared:
        return Evaluation()
    early = [n for n, e in enumerate(declared) if duplicated is not None and _is_about(e, set(source.spec.record.key))]
    late = [n for n in range(len(declared)) if n not in early]
    found: dict[int, Mapping[str, Any]] = {}
    samples: dict[int, tuple[Mapping[str, Any], ...]] = {}
    failing: list[Failing] = []
    result: dict[str, Any] = {}
    for numbers, rows in ((early, duplicated), (late, frame)):
        if not numbers or rows is None:
            continue
        chosen = [declared[n] for n in numbers]
        result, judge = _validate(source, suite, chosen, rows, lake)
        of = dict(zip(numbers, result["results"], strict=True))
        found |= of
        samples |= _samples(source, of, rows)
        if rows is frame:
            failing = _failing(judge, chosen, list(of.values()), rows)
    ordered = [found[n] for n in range(len(declared))]
    names = frame.collect_schema().names()
    outcomes = [_outcome(e, found[n], samples.get(n, ()), names) for n, e in enumerate(declared)]
    return Evaluation(outcomes, failing, {**result, **_summed(ordered)})


def _is_about(expectation: Any, keys: set[str]) -> bool:
    """Whether an expectation judges that the key, or a part of it, is unique."""
    if not isinstance(expectation, Mapping) or expectation.get("type") not in _UNIQUE:
        return False
    return set(named(expectation.get("kwargs", {}))) <= keys


def _validate(
    source: Source, suite: Path, declared: Sequence[Mapping[str, Any]], frame: pl.LazyFrame, lake: Lake | None
) -> "tuple[dict[str, Any], CompiledSuite | Proof]":
    """Great Expectations' result as JSON, and who gave it: the proof, if it knows that all pass, else itself."""
    from gossamer.quality.gx.proof import Proof

    path = f"proofs/{_fingerprint(source, suite, declared)}.json"
    kept = lake.get_json(path) if lake else None
    if kept and (proven := (proof := Proof.from_json(kept)).prove(frame)) is not None:
        return proven, proof
    from great_expectations.core.expectation_suite import ExpectationSuite

    from gossamer.quality.gx.compiled import CompiledSuite

    suite_file.own_expectations(source)
    suite_file.read(suite)
    compiled = CompiledSuite(
        ExpectationSuite(name=source.name, expectations=[_config(e) for e in declared]), RESULT_FORMAT
    )
    if lake and kept is None:
        lake.put_json(path, compiled.proof().to_json())
    return compiled.run(frame).to_json_dict(), compiled  # type: ignore[no-untyped-call]


def _config(expectation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": expectation["type"],
        "kwargs": expectation.get("kwargs", {}),
        "severity": expectation.get("severity") or "critical",
        "meta": expectation.get("meta") or {},
    }


def _fingerprint(source: Source, suite: Path, declared: Sequence[Mapping[str, Any]]) -> str:
    """What the proof of a suite depends on: the suite, the source's own code behind it, and who evaluates."""
    own = sorted(source.folder.glob("*.py")) if source.expectations_module else []
    parts = [source.name, json.dumps(list(declared), sort_keys=True), *(path.read_text("utf-8") for path in own)]
    parts += [__version__, *_versions()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _versions() -> tuple[str, ...]:
    return tuple(map(importlib.metadata.version, ("great-expectations", "polars")))


def _failing(
    judge: "CompiledSuite | Proof",
    declared: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    frame: pl.LazyFrame,
) -> list[Failing]:
    """The rows that fail the critical ones of these expectations, where any do."""
    critical = [
        n
        for n, (expectation, result) in enumerate(zip(declared, results, strict=True))
        if (expectation.get("severity") or "critical") == "critical"
        and (result["result"] or {}).get("unexpected_count")
    ]
    if not critical:
        return []
    rows = judge.failing_rows(frame, critical)
    return [
        _failing_one(
            declared[n], results[n]["result"]["unexpected_count"], rows.filter(pl.col("expectation") == n)["row"]
        )
        for n in critical
    ]


def _failing_one(expectation: Mapping[str, Any], counted: int, rows: pl.Series) -> Failing:
    """The rows of one expectation, all that were counted: one that is not found would reach a reader."""
    demand = words.expectation(expectation["type"], expectation.get("kwargs", {}))
    if len(rows) != counted:
        raise QuarantineError(
            f"{demand}: {counted} rows fail, and {len(rows)} of them can be told, so they cannot be set aside. Run it "
            'again; if it stays so, give the expectation "severity": "warning".'
        )
    return Failing(expectation["type"], demand, tuple(named(expectation.get("kwargs", {}))), rows)


def _samples(
    source: Source, results: Mapping[int, Mapping[str, Any]], frame: pl.LazyFrame
) -> dict[int, tuple[Mapping[str, Any], ...]]:
    """Some unexpected rows of each expectation, by its number: the judged columns, the key and the page."""
    places = {n: _positions(result) for n, result in results.items()}
    wanted = sorted({place for those in places.values() for place in those})
    rows: dict[int, dict[str, Any]] = {}
    if wanted:
        columns = {name for n in places for name in named(results[n]["expectation_config"]["kwargs"])}
        shown = [n for n in frame.collect_schema().names() if n in columns | {"_url", *source.spec.record.key}]
        picked = frame.select(shown).with_row_index(_ROW).filter(pl.col(_ROW).is_in(wanted)).collect()
        rows = {row[_ROW]: row for row in picked.rows(named=True)}
    return {n: tuple(rows[place] for place in those if place in rows) for n, those in places.items()}


def _positions(result: Mapping[str, Any]) -> list[int]:
    if result["success"] and not (result["result"] or {}).get("unexpected_count"):
        return []
    listed = (result["result"] or {}).get("partial_unexpected_index_list") or []
    return [place for place in listed if isinstance(place, int)][:SAMPLES]


def _outcome(
    declared: Mapping[str, Any],
    result: Mapping[str, Any],
    sample: tuple[Mapping[str, Any], ...],
    present: Sequence[str],
) -> Outcome:
    found, kwargs = result["result"] or {}, declared.get("kwargs", {})
    unexpected, elements = found.get("unexpected_count"), found.get("element_count")
    rows = None if unexpected is None or elements is None else int(elements) - int(found.get("missing_count") or 0)
    if not sample and rows is not None and unexpected:
        column = ", ".join(named(kwargs))
        sample = tuple({column: value} for value in (found.get("partial_unexpected_list") or ())[:SAMPLES])
    return Outcome(
        kind=declared["type"],
        kwargs=kwargs,
        severity=str(declared.get("severity") or "critical"),
        passed=bool(result["success"]),
        unexpected=None if unexpected is None or rows is None else int(unexpected),
        rows=rows,
        observed=_observed(found),
        sample=sample,
        error=_error(kwargs, result.get("exception_info") or {}, present),
    )


def _observed(found: Mapping[str, Any]) -> Any:
    """What was measured; where sets were compared, what was `unexpected` and what was `missing`."""
    if isinstance(mismatched := (found.get("details") or {}).get("mismatched"), dict):
        return mismatched
    if "element_count" not in found:
        lists = {"unexpected": "partial_unexpected_list", "missing": "partial_missing_list"}
        if differences := {word: sorted(found[name], key=str) for word, name in lists.items() if found.get(name)}:
            return differences
    return found.get("observed_value")


def _error(kwargs: Mapping[str, Any], info: Mapping[str, Any], present: Sequence[str]) -> str:
    """Why an expectation could not be evaluated; Great Expectations tells it once, or once for each metric."""
    infos = [info] if "raised_exception" in info else list(info.values())
    raised = [i for i in infos if i.get("raised_exception")]
    if not raised:
        return ""
    if missing := [name for name in named(kwargs) if name not in present]:
        near = difflib.get_close_matches(missing[0], present, n=1)
        return f"there is no column `{missing[0]}`" + (f"; did you mean `{near[0]}`?" if near else "")
    return words.clip(str(raised[0].get("exception_message") or "it raised an error"))


def named(kwargs: Mapping[str, Any]) -> list[str]:
    """The columns that an expectation's arguments name."""
    names = [kwargs.get("column"), kwargs.get("column_A"), kwargs.get("column_B"), *(kwargs.get("column_list") or ())]
    return [str(name) for name in names if name is not None]


def _summed(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What Great Expectations says of all results together."""
    passed = sum(bool(result["success"]) for result in results)
    return {
        "results": results,
        "success": passed == len(results),
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results),
        },
    }
