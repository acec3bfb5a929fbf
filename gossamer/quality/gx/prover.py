"""Makes the proof of a compiled suite: sorts its expectations into the kinds that can be judged without their code.

Only what is Great Expectations' own is: an expectation whose methods are not the very ones that were written there may
do anything, and is never proved. And each is rehearsed: on made-up measurements, what `proof` says must be what its own
`_validate` says.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import polars as pl
from great_expectations.core import ExpectationValidationResult

from gossamer.quality.gx import expectations as ours
from gossamer.quality.gx import private
from gossamer.quality.gx.engine import PolarsExecutionEngine
from gossamer.quality.gx.plan import CONDITIONS, MEASURES
from gossamer.quality.gx.private import core_expectations as core
from gossamer.quality.gx.proof import CannotTellError, Proof, frozen, judge

if TYPE_CHECKING:
    from gossamer.quality.gx.compiled import Compiled, CompiledSuite

#: What an expectation of ours must have left as it was, beside `_validate`.
_HELPERS = ("_get_result_format", "_get_success_kwarg", "_get_success_kwargs", "_get_default_value", "configuration")
_MAPS = {
    private.ColumnMapExpectation._validate: "present",
    private.ColumnPairMapExpectation._validate: "kept",
    private.MulticolumnMapExpectation._validate: "kept",
    core.ExpectColumnValuesToNotBeNull._validate: "all",
    core.ExpectColumnValuesToBeNull._validate: "nulls",
}


def _there(module: Any, *names: str) -> list[Any]:
    """What not every version has."""
    return [getattr(module, name) for name in names if hasattr(module, name)]


_BETWEEN = (
    core.ExpectColumnMaxToBeBetween,
    core.ExpectColumnMeanToBeBetween,
    core.ExpectColumnMedianToBeBetween,
    core.ExpectColumnMinToBeBetween,
    core.ExpectColumnProportionOfUniqueValuesToBeBetween,
    core.ExpectColumnStdevToBeBetween,
    core.ExpectColumnSumToBeBetween,
    core.ExpectColumnUniqueValueCountToBeBetween,
    core.ExpectTableColumnCountToBeBetween,
    core.ExpectTableRowCountToBeBetween,
    *_there(core, "ExpectColumnProportionOfNonNullValuesToBeBetween"),
)
_NONE = (
    core.ExpectColumnDistinctValuesToBeInSet,
    core.ExpectColumnDistinctValuesToContainSet,
    core.ExpectColumnDistinctValuesToEqualSet,
)


def proof_of(suite: "CompiledSuite") -> Proof:
    """The proof; one that proves nothing where an expectation of the suite cannot be judged without its own code."""
    passed = [
        ExpectationValidationResult(success=True, expectation_config=each.configuration, result={})
        for each in suite.expectations
    ]
    result = suite.gathered(passed, "", []).to_json_dict()  # type: ignore[no-untyped-call]
    try:
        entries = [_entry(each, suite.result_format) for each in suite.expectations]
        return Proof(*_json([result, suite.result_format, entries]))
    except CannotTellError:
        return Proof(*_json([result, suite.result_format, None]))


def _json(content: Any) -> Any:
    try:
        return json.loads(json.dumps(content, default=frozen))
    except (TypeError, ValueError) as error:
        raise CannotTellError from error


def _entry(each: "Compiled", form: Mapping[str, Any]) -> dict[str, Any]:
    expectation, metrics = each.expectation, each.metrics
    kind = _kind(expectation) if metrics and not form.get("include_unexpected_rows") else None
    if metrics is None or kind is None or not all(_is_ours(metric.metric_name) for metric in metrics.values()):
        raise CannotTellError
    entry: dict[str, Any] = {
        "kind": kind[0],
        "arguments": kind[1],
        "metrics": {
            name: [metric.metric_name, _given(metric.metric_domain_kwargs), _given(metric.metric_value_kwargs or {})]
            for name, metric in metrics.items()
        },
    }
    entry = _json(entry)
    _rehearse(expectation, entry, form)
    return entry


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _is_ours(metric: str) -> bool:
    """Whether a metric is one of this package: what a user registers is not there where a proof is read."""
    condition = CONDITIONS.get(metric.rpartition(".")[0])
    made: Any = MEASURES.get(metric) or (condition and condition.meets)
    return made is not None and made.__module__.startswith(f"{__package__}.")


def _kind(expectation: Any) -> tuple[str, dict[str, Any]] | None:
    """The kind of an expectation and what its judgement depends on."""
    owner = type(expectation)
    if any(getattr(owner, name) is not getattr(private.Expectation, name) for name in _HELPERS):
        return None
    validate = owner._validate
    if validate in _MAPS:
        mostly = expectation._get_success_kwarg("mostly")
        return "rows", {"map_metric": owner.map_metric, "judged": _MAPS[validate], "mostly": mostly}
    for kinds, make in _MADE:
        if any(validate is kind._validate for kind in kinds):
            return make(expectation)
    return None


def _between(expectation: Any) -> tuple[str, dict[str, Any]]:
    given = expectation._get_success_kwargs()
    names = ("min_value", "max_value", "strict_min", "strict_max")
    (metric,) = expectation.metric_dependencies
    return "between", {"metric": metric, **{name: given.get(name) for name in names}}


def _equal(expectation: Any) -> tuple[str, dict[str, Any]]:
    (metric,) = expectation.metric_dependencies
    return "equal", {"metric": metric, "value": expectation._get_success_kwargs().get("value")}


def _none(expectation: Any) -> tuple[str, dict[str, Any]]:
    counts = [name for name in expectation.metric_dependencies if name.endswith(".count")]
    return "none", {"counts": counts, "result": None}  # filled in by the rehearsal


def _arguments(kind: str, *names: str) -> Callable[[Any], tuple[str, dict[str, Any]]]:
    return lambda expectation: (kind, {name: expectation._get_success_kwarg(name) for name in names})


def _set(expectation: Any) -> tuple[str, dict[str, Any]]:
    given = expectation._get_success_kwargs()
    return "set", {"column_set": list(given.get("column_set") or []), "exact_match": given["exact_match"]}


_MADE: Iterable[tuple[tuple[Any, ...], Callable[[Any], tuple[str, dict[str, Any]]]]] = (
    (_BETWEEN, _between),
    ((core.ExpectTableRowCountToEqual, core.ExpectTableColumnCountToEqual), _equal),
    (_NONE, _none),
    ((core.ExpectColumnToExist,), _arguments("exists", "column", "column_index")),
    ((core.ExpectTableColumnsToMatchOrderedList,), _arguments("ordered", "column_list")),
    ((core.ExpectTableColumnsToMatchSet,), _set),
    ((ours.ExpectColumnQuantileValuesToBeBetween,), _arguments("quantiles", "quantile_ranges")),
    (
        (ours.ExpectColumnValuesToBeOfType, *_there(ours, "ExpectColumnTypeToBe")),
        lambda e: ("typed", {"column": e.column, "types": [e.type_]}),
    ),
    ((ours.ExpectColumnValuesToBeInTypeList,), lambda e: ("typed", {"column": e.column, "types": e.type_list or []})),
)


# ---- rehearsal


def _rehearse(expectation: Any, entry: dict[str, Any], form: Mapping[str, Any]) -> None:
    """Has both say what they make of made-up measurements; raises `CannotTellError` where they differ."""
    engine = PolarsExecutionEngine()
    for values in _made_up(entry):
        runtime = {"result_format": deepcopy(dict(form))}
        try:
            raw = expectation._validate(metrics=values, runtime_configuration=runtime, execution_engine=engine)
            said = ExpectationValidationResult(**raw).to_json_dict()
        except Exception as error:  # it is Great Expectations' code, on what it may not have been made for
            raise CannotTellError from error
        if entry["kind"] == "none":
            entry["arguments"]["result"] = said["result"]
        try:
            ours_said = judge(entry["kind"], entry["arguments"], values, form)
        except CannotTellError:
            continue
        result = {} if form["result_format"] == "BOOLEAN_ONLY" else said["result"]
        if not said["success"] or ours_said != result:
            raise CannotTellError


def _made_up(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    arguments = entry["arguments"]
    match entry["kind"]:
        case "rows":
            nothing, clean, failing = [(0, 0, 0)], [(10, 0, 0), (10, 0, 3), (10, 0, 10)], [(200, 2, 3), (900, 4, 5)]
            for total, unexpected, aside in (*nothing, *clean, *failing):
                yield {name: _of_rows(name, total, unexpected, aside, arguments) for name in entry["metrics"]}
        case "between":
            bounds = [arguments["min_value"], arguments["max_value"], 0, -1.5, 7, 10**6]
            for value in filter(_is_number, bounds):
                yield {arguments["metric"]: value}
        case "equal":
            yield {arguments["metric"]: arguments["value"]}
        case "quantiles":
            ranges = arguments["quantile_ranges"]["value_ranges"]
            yield {"column.quantile_values": [high if low is None else low for low, high in ranges]}
        case "none":
            yield {name: 0 if name in arguments["counts"] else [] for name in entry["metrics"]}
        case "typed":
            for dtype in (pl.Int64(), pl.Float64(), pl.String(), pl.Boolean(), pl.Date(), pl.Datetime("us", "UTC")):
                yield {"table.column_types": [{"name": arguments["column"], "type": dtype}]}
        case _:  # names of columns
            named = arguments.get("column_list") or arguments.get("column_set") or [arguments.get("column") or "a"]
            yield from (
                {"table.columns": columns} for columns in (list(named), [*named, "another"], ["another", *named])
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


_VALUES: list[Any] = [None, "b", [], "a"]  # such as can be neither hashed nor ordered


def _of_rows(name: str, total: int, unexpected: int, aside: int, arguments: Mapping[str, Any]) -> Any:
    """A measurement of a condition: of so many rows, so many are unexpected, and so many are not judged."""
    if name == "table.row_count":
        return total
    if name == f"{arguments['map_metric']}.unexpected_count":
        return unexpected
    if name == "column_values.nonnull.unexpected_count":
        return aside
    return {
        "filtered_row_count": total - aside,
        "unexpected_values": ["b"] * unexpected if unexpected < len(_VALUES) else _VALUES,
        "unexpected_index_list": [4, 5, 6, 8][:unexpected],
        "unexpected_index_query": "df",
    }[name.rpartition(".")[2]]
