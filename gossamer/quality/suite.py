"""A source's suite of expectations, evaluated on a frame: from `expectations.json` to two check results.

The suite is a plain Great Expectations suite and is run by Great Expectations, on pandas. Here are the reading of the
file, the way of a Polars frame into pandas, and the results in words. What publication makes of a result is not here.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from gossamer.errors import Problem, SuiteError
from gossamer.manifest import CheckResult
from gossamer.quality import words

if TYPE_CHECKING:  # great_expectations takes seconds to import: only where a suite is read or evaluated
    import pandas as pd
    from great_expectations.core.batch_definition import BatchDefinition

CRITICAL = "expectations_critical"
WARNING = "expectations_warning"

#: Rows shown for each failed expectation.
SAMPLES = 10
#: Expectations written out in a check's details, and named in its summary.
LISTED = 50
NAMED = 3
#: A longer address is left out rather than cut: half an address leads nowhere.
URL = 2000

#: The fields of an expectation in a suite's JSON, as Great Expectations itself writes it.
_FIELDS = {"type", "kwargs", "severity", "meta", "notes", "description", "id", "rendered_content"} | {
    "expectation_context",
    "success_on_last_run",
}
#: Arguments that name several columns.
_ACROSS = {"column_A", "column_list"}
_INDEX = "gossamer_index"
_ROW = "_gossamer_row"
# The batch of an asset is shared by everything that validates with it: one evaluation at a time in a process.
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Outcome:
    """How one expectation ended.

    Attributes:
        unexpected: rows that do not meet it; None where it does not judge rows.
        rows: rows that were judged (null values are not, but for expectations about nulls).
        observed: what was measured, where it does not judge rows.
        positions: places of some unexpected rows in the frame.
        values: what some unexpected rows hold, where their places are not known.
        error: why it could not be evaluated, or "".
    """

    kind: str
    kwargs: Mapping[str, Any]
    severity: str
    passed: bool
    unexpected: int | None = None
    rows: int | None = None
    observed: Any = None
    positions: tuple[int, ...] = ()
    values: tuple[Any, ...] = ()
    error: str = ""


def evaluate(suite_file: Path | None, frame: pl.LazyFrame, key_fields: Sequence[str]) -> list[CheckResult]:
    """The checks `expectations_critical` (blocking) and `expectations_warning` of a frame, always both.

    Expectations are critical unless they say `"severity": "warning"` or `"info"`. One that cannot be evaluated (a
    missing column, say) counts as failed, and the others are evaluated all the same. NaN counts as null. Without a
    suite both checks pass. Only the columns that the suite names are read.

    `details` is JSON of bounded size: `evaluated`; `failed`, one object each with `expectation`, `column`, `kwargs`,
    `severity`, `summary`, `unexpected`, `rows`, `share` (0 to 1), `observed`, `error` and `sample` (objects with
    `value`, `url` from the column `_url`, and `key` from `key_fields`); and `results`, one small object for each
    expectation.

    Raises:
        SuiteError: the file cannot be read, or names what Great Expectations does not know.
    """
    declared = read(suite_file) if suite_file else []
    if not declared:
        return [_check(name, [], pl.DataFrame(), key_fields) for name in (CRITICAL, WARNING)]
    present = frame.collect_schema().names()
    needed = _columns(declared, present)
    shown = [name for name in ("_url", *key_fields) if name in present and name not in needed]
    # the row's number keeps the rows of a frame of which the suite needs no column
    data = frame.select(*needed, *shown, pl.int_range(pl.len()).alias(_ROW)).collect()
    outcomes = _run(declared, data, present)
    critical = [outcome for outcome in outcomes if outcome.severity == "critical"]
    others = [outcome for outcome in outcomes if outcome.severity != "critical"]
    return [_check(CRITICAL, critical, data, key_fields), _check(WARNING, others, data, key_fields)]


def validate_suite(path: Path) -> list[str]:
    """What is wrong with a suite, seen without data: one line a fault, none if it is sound."""
    try:
        read(path)
    except SuiteError as error:
        return [str(problem) for problem in error.problems]
    return []


def read(path: Path) -> list[dict[str, Any]]:
    """The expectations of a suite, each known to Great Expectations; raises `SuiteError` with every fault."""
    declared = parse(path)
    faults = [
        Problem(path, f"expectations.{number}", *fault)
        for number, expectation in enumerate(declared)
        if (fault := _fault(expectation))
    ]
    if faults:
        raise SuiteError(faults)
    return declared


def parse(path: Path) -> list[dict[str, Any]]:
    """The expectations as the file has them, which takes no Great Expectations.

    Raises:
        SuiteError: the file cannot be read, or has no list of expectations.
    """
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError([Problem(path, "", f"cannot be read: {error}", "Make it a readable UTF-8 file.")]) from error
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise SuiteError([Problem(path, "", f"is not JSON: {error}", "Mend the line.", line)]) from error
    declared = suite.get("expectations") if isinstance(suite, dict) else None
    if not isinstance(declared, list):
        remedy = 'Write {"name": "...", "expectations": [{"type": "expect_...", "kwargs": {...}}]}.'
        raise SuiteError([Problem(path, "expectations", "is missing or not a list", remedy)])
    return declared


def _fault(expectation: Any) -> tuple[str, str] | None:
    """What is wrong with one expectation, and what to do."""
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import list_registered_expectation_implementations
    from pydantic.v1 import ValidationError

    if not isinstance(expectation, dict) or not isinstance(expectation.get("type"), str):
        old = isinstance(expectation, dict) and "expectation_type" in expectation
        remedy = "Rename `expectation_type` to `type`." if old else 'Write {"type": "expect_...", "kwargs": {...}}.'
        return "has no `type`", remedy
    kind, kwargs = expectation["type"], expectation.get("kwargs", {})
    if unknown := sorted(expectation.keys() - _FIELDS):
        near = difflib.get_close_matches(unknown[0], _FIELDS, n=1)
        known = "Known: type, kwargs, severity, meta, notes, description; arguments stand in `kwargs`."
        return f"{kind}: unknown field `{unknown[0]}`", f"Did you mean `{near[0]}`?" if near else known
    if not isinstance(kwargs, dict):
        return f"{kind}: `kwargs` is not an object", 'Write "kwargs": {"column": "..."}.'
    if "$PARAMETER" in json.dumps(kwargs):
        return f"{kind}: takes a suite parameter, which nothing sets here", "Write the value itself."
    kinds = list_registered_expectation_implementations()
    if kind not in kinds:
        near = difflib.get_close_matches(kind, kinds, n=1)
        gallery = "Great Expectations lists its expectations in its gallery."
        return f"there is no expectation `{kind}`", f"Did you mean `{near[0]}`?" if near else gallery
    try:
        ExpectationConfiguration(**{**expectation, "kwargs": kwargs}).to_domain_obj()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "__root__")
        return f"{kind}: {where}: {first['msg']}".replace(": : ", ": "), f"Mend `{where or 'kwargs'}`."
    except (GreatExpectationsError, TypeError, ValueError) as error:
        return f"{kind}: {str(error).rstrip('.')}", "Mend this expectation."
    return None


def _columns(declared: Sequence[Mapping[str, Any]], present: Sequence[str]) -> list[str]:
    """The columns that a suite names anywhere in its arguments; all of them where it judges the table's columns."""
    if any(e["type"].startswith("expect_table_column") or "column_index" in e.get("kwargs", {}) for e in declared):
        return list(present)
    said = json.dumps([e.get("kwargs", {}) for e in declared], ensure_ascii=False)
    return [name for name in present if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)]


def _run(declared: Sequence[Mapping[str, Any]], data: pl.DataFrame, present: Sequence[str]) -> list[Outcome]:
    """Every expectation's outcome, in the order of the suite."""
    across = [number for number, e in enumerate(declared) if _ACROSS & e.get("kwargs", {}).keys()]
    single = [number for number in range(len(declared)) if number not in across]
    results: dict[int, Any] = {}
    for numbers, nullable in ((single, True), (across, False)):
        if numbers:
            chosen = {number: declared[number] for number in numbers}
            columns = _columns(list(chosen.values()), present)
            results |= _results(chosen, data.schema, _to_pandas(data, columns, nullable))
    return [_outcome(e, results[number], data.schema, present) for number, e in enumerate(declared)]


def _results(
    numbered: Mapping[int, Mapping[str, Any]], schema: Mapping[str, pl.DataType], frame: "pd.DataFrame"
) -> dict[int, Any]:
    """Great Expectations' result of each expectation, by its number in the suite."""
    from great_expectations.core.expectation_suite import ExpectationSuite

    suite = ExpectationSuite(
        name="suite",
        expectations=[
            {
                "type": e["type"],
                "kwargs": _aligned(e.get("kwargs", {}), schema),
                "severity": e.get("severity") or "critical",
                "meta": {_INDEX: number},  # results come in another order than the suite
            }
            for number, e in numbered.items()
        ],
    )
    shape = {"result_format": "SUMMARY", "partial_unexpected_count": SAMPLES}
    with _ONE_AT_A_TIME:
        batch = _batch_definition().get_batch({"dataframe": frame})
        found: list[Any] = batch.validate(suite, result_format=shape).results
    return {result.expectation_config.meta[_INDEX]: result for result in found}


@lru_cache(maxsize=1)
def _batch_definition() -> "BatchDefinition[Any]":
    """Great Expectations' way from a pandas frame to a batch, in a context that lives in memory only."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("whole")


def _outcome(
    declared: Mapping[str, Any], result: Any, schema: Mapping[str, pl.DataType], present: Sequence[str]
) -> Outcome:
    found, kwargs = result.result, declared.get("kwargs", {})
    unexpected, element_count = found.get("unexpected_count"), found.get("element_count")
    judges_rows = unexpected is not None and element_count is not None
    return Outcome(
        kind=declared["type"],
        kwargs=kwargs,
        severity=str(declared.get("severity") or "critical"),
        passed=bool(result.success),
        unexpected=int(unexpected) if judges_rows else None,
        rows=int(element_count) - int(found.get("missing_count") or 0) if judges_rows else None,
        observed=_observed(found, schema.get(kwargs.get("column", ""))),
        positions=tuple(int(place) for place in found.get("partial_unexpected_index_list") or ()),
        values=tuple(found.get("partial_unexpected_list") or ()),
        error=_error(kwargs, result.exception_info or {}, present),
    )


def _observed(found: Mapping[str, Any], dtype: pl.DataType | None) -> Any:
    """What was measured; where sets were compared, what was `unexpected` and what was `missing`."""
    if isinstance(mismatched := (found.get("details") or {}).get("mismatched"), dict):
        return mismatched
    if "element_count" not in found:
        named = {"unexpected": "partial_unexpected_list", "missing": "partial_missing_list"}
        if differences := {word: sorted(found[name], key=str) for word, name in named.items() if found.get(name)}:
            return differences
    observed = found.get("observed_value")
    return observed.date() if dtype == pl.Date and isinstance(observed, datetime) else observed


def _error(kwargs: Mapping[str, Any], info: Mapping[str, Any], present: Sequence[str]) -> str:
    """Why an expectation could not be evaluated; Great Expectations tells it once, or once for each metric."""
    infos = [info] if "raised_exception" in info else list(info.values())
    raised = [i for i in infos if i.get("raised_exception")]
    if not raised:
        return ""
    if missing := [name for name in _named(kwargs) if name not in present]:
        near = difflib.get_close_matches(missing[0], present, n=1)
        return f"there is no column `{missing[0]}`" + (f"; did you mean `{near[0]}`?" if near else "")
    return words.clip(str(raised[0].get("exception_message") or "it raised an error"))


def _check(name: str, outcomes: Sequence[Outcome], data: pl.DataFrame, key_fields: Sequence[str]) -> CheckResult:
    failed = [outcome for outcome in outcomes if not outcome.passed]
    sentences = [_sentence(outcome, data) for outcome in failed]
    if not outcomes:
        summary = "no expectations declared"
    elif not failed:
        summary = f"all {len(outcomes)} passed" if len(outcomes) > 1 else "1 passed"
    else:
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        summary = f"{len(failed)} of {len(outcomes)} failed: {'; '.join(sentences[:NAMED])}{more}"
    return CheckResult(
        name=name,
        passed=not failed,
        blocking=name == CRITICAL,
        summary=summary,
        details={
            "evaluated": len(outcomes),
            "failed": [
                _failure(outcome, sentence, data, key_fields)
                for outcome, sentence in zip(failed[:LISTED], sentences[:LISTED], strict=True)
            ],
            "results": [
                {
                    "expectation": outcome.kind,
                    "column": _column(outcome),
                    "severity": outcome.severity,
                    "passed": outcome.passed,
                    "demand": words.expectation(outcome.kind, outcome.kwargs),
                }
                for outcome in outcomes[:LISTED]
            ],
        },
    )


def _sentence(outcome: Outcome, data: pl.DataFrame) -> str:
    """`price must be between 0 and 10000: 3 of 297 rows (1.0 %), e.g. -5.0`."""
    demand = words.expectation(outcome.kind, outcome.kwargs)
    if outcome.error:
        return f"{demand}: cannot be evaluated: {outcome.error}"
    if outcome.unexpected is None or outcome.rows is None:
        found = outcome.observed
        differs = isinstance(found, dict) and found.keys() <= {"unexpected", "missing"}
        return demand if found is None else f"{demand}: {'' if differs else 'found '}{words.value(found)}"
    share = words.percent(outcome.unexpected / outcome.rows) if outcome.rows else "no rows"
    example = next((value for value in _values(outcome, data) if value is not None), None)
    said = f", e.g. {words.value(example)}" if example is not None else ""
    return f"{demand}: {outcome.unexpected} of {outcome.rows} rows ({share}){said}"


def _failure(outcome: Outcome, sentence: str, data: pl.DataFrame, key_fields: Sequence[str]) -> dict[str, Any]:
    share = outcome.unexpected / outcome.rows if outcome.unexpected is not None and outcome.rows else None
    return {
        "expectation": outcome.kind,
        "column": _column(outcome),
        "kwargs": words.plain(outcome.kwargs),
        "severity": outcome.severity,
        "summary": sentence,
        "unexpected": outcome.unexpected,
        "rows": outcome.rows,
        "share": share,
        "observed": words.plain(outcome.observed),
        "error": outcome.error,
        "sample": _sample(outcome, data, key_fields),
    }


def _sample(outcome: Outcome, data: pl.DataFrame, key_fields: Sequence[str]) -> list[dict[str, Any]]:
    keys = [field for field in key_fields if field in data.columns]
    rows = []
    for number, value in enumerate(_values(outcome, data)):
        row = data.row(outcome.positions[number], named=True) if number < len(outcome.positions) else {}
        url = row.get("_url")
        rows.append(
            {
                "value": words.plain(value),
                "url": url if isinstance(url, str) and len(url) <= URL else None,
                "key": {field: words.plain(row[field]) for field in keys} if row else {},
            }
        )
    return rows


def _values(outcome: Outcome, data: pl.DataFrame) -> list[Any]:
    """What the sampled rows hold: from the frame where their places are known (pandas has other types)."""
    columns = [name for name in _named(outcome.kwargs) if name in data.columns]
    if not columns or not outcome.positions:
        return list(outcome.values)
    rows = data[list(outcome.positions)].select(columns)
    return rows.to_series().to_list() if len(columns) == 1 else rows.rows(named=True)


def _column(outcome: Outcome) -> str:
    """The column or columns of an expectation, "" where it judges the table."""
    return words.clip(", ".join(_named(outcome.kwargs)))


def _named(kwargs: Mapping[str, Any]) -> list[str]:
    names = [kwargs.get("column"), kwargs.get("column_A"), kwargs.get("column_B"), *kwargs.get("column_list", ())]
    return [str(name) for name in names if name is not None]


def _aligned(kwargs: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """Arguments for a column of dates or times, as times of its zone: pandas compares them with nothing else."""
    dtype = schema.get(kwargs.get("column", ""))
    if not isinstance(dtype, pl.Date | pl.Datetime):
        return dict(kwargs)
    zone = ZoneInfo(dtype.time_zone) if isinstance(dtype, pl.Datetime) and dtype.time_zone else None
    aligned = dict(kwargs)
    for name in ("min_value", "max_value"):
        if name in kwargs:
            aligned[name] = _time(kwargs[name], zone)
    if isinstance(kwargs.get("value_set"), list):
        aligned["value_set"] = [_time(member, zone) for member in kwargs["value_set"]]
    return aligned


def _time(value: Any, zone: ZoneInfo | None) -> Any:
    """A date or time as text, as a time in `zone`; anything else as it is."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    if zone is None:
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _to_pandas(data: pl.DataFrame, columns: Sequence[str], nullable: bool) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({name: _series(data[name], nullable) for name in columns}, index=pd.RangeIndex(data.height))


def _series(series: pl.Series, nullable: bool) -> Any:
    """A column in pandas.

    Whole numbers and booleans with nulls stay what they are where `nullable`: as pandas' own choice, floats, 3 would
    be written 3.0 where a pattern or a length is judged. Where columns are compared, pandas' own choice it is: Great
    Expectations cannot compare nullable columns. Exact numbers become floats, dates midnights, nested values JSON.
    """
    import pandas as pd

    dtype = series.dtype
    if dtype.is_decimal() or dtype in (pl.Int128, pl.UInt128):
        series = series.cast(pl.Float64)
    elif nullable and dtype.is_integer() and series.null_count():
        return pd.arrays.IntegerArray(series.fill_null(0).to_numpy(writable=True), _nulls(series))
    elif nullable and dtype == pl.Boolean and series.null_count():
        return pd.arrays.BooleanArray(series.fill_null(False).to_numpy(writable=True), _nulls(series))
    elif dtype == pl.Date:
        series = series.cast(pl.Datetime("us"))
    elif dtype == pl.Duration:
        series = series.dt.total_microseconds() / 1e6
    elif dtype.is_nested() or dtype == pl.Object:
        texts = [None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in series.to_list()]
        series = pl.Series(series.name, texts, pl.String)
    elif dtype in (pl.Categorical, pl.Enum, pl.Time, pl.Null):
        series = series.cast(pl.String)
    return series.to_pandas()


def _nulls(series: pl.Series) -> Any:
    return series.is_null().to_numpy(writable=True)
