"""Whether a frame meets a suite, told without Great Expectations, whose import takes seconds.

A proof is made of a compiled suite, once, and kept as JSON. It has what metrics the expectations need and how these
meet them, and it only ever says yes: where an expectation fails, or cannot be judged, Great Expectations must be asked.
How a result is written was tried against Great Expectations' own code when the proof was made (`prover`).
"""

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import polars as pl

from gossamer.quality.gx import rows
from gossamer.quality.gx.plan import COUNT, Ask, Table
from gossamer.quality.gx.resolve import resolve
from gossamer.quality.gx.types import type_names

Values = Mapping[str, Any]
Arguments = Mapping[str, Any]


class CannotTellError(Exception):
    """An expectation that is not met, or that only Great Expectations can judge."""


@dataclass(frozen=True)
class Proof:
    """What tells that a frame meets a suite.

    Attributes:
        result: the validation result of a frame that does, but for what was measured.
        expectations: one for each of the suite: `kind`, `arguments`, and the `metrics` by name, each as name, domain
            and value; None where no frame can be known to meet the suite.
    """

    result: Mapping[str, Any]
    result_format: Mapping[str, Any]
    expectations: Sequence[Mapping[str, Any]] | None

    def to_json(self) -> dict[str, Any]:
        return {"result": self.result, "result_format": self.result_format, "expectations": self.expectations}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Proof":
        return cls(content["result"], content["result_format"], content["expectations"])

    def prove(self, frame: pl.DataFrame | pl.LazyFrame) -> dict[str, Any] | None:
        """`CompiledSuite.run(frame).to_json_dict()`, if the frame meets every expectation; None if that is not sure."""
        if self.expectations is None:
            return None
        found = resolve(Table(frame), _asks(self.expectations))
        if found.errors:
            return None
        result = deepcopy(dict(self.result))
        try:
            for number, each in enumerate(self.expectations):
                values = {name: found.values[number, name] for name in each["metrics"]}
                result["results"][number]["result"] = judge(each["kind"], each["arguments"], values, self.result_format)
        except CannotTellError:
            return None
        now = dt.datetime.now(dt.UTC).isoformat()
        result["meta"] |= {"run_id": {"run_name": None, "run_time": now}, "validation_time": now}
        result["meta"]["batch_spec"] = {"batch_data": f"Polars{type(frame).__name__}"}
        return result

    def failing_rows(self, frame: pl.DataFrame | pl.LazyFrame, numbers: Collection[int] | None = None) -> pl.DataFrame:
        """`CompiledSuite.failing_rows`, of a frame that is known to meet the suite: `mostly` may leave such rows."""
        asks = {}
        for number, each in enumerate(self.expectations or ()):
            counted = each["metrics"].get(f"{each['arguments'].get('map_metric')}.{COUNT}")
            if counted and (numbers is None or number in numbers):
                asks[number] = Ask(number, *counted)
        return rows.failing(Table(frame), asks)


def _asks(expectations: Sequence[Mapping[str, Any]]) -> list[Ask]:
    return [
        Ask((number, name), metric, revived(domain), revived(value))
        for number, each in enumerate(expectations)
        for name, (metric, domain, value) in each["metrics"].items()
    ]


#: How dates and times, which JSON has not, stand in it: text would be compared as text.
_MOMENTS: Mapping[str, Callable[[str], Any]] = {
    "$datetime": dt.datetime.fromisoformat,
    "$date": dt.date.fromisoformat,
    "$time": dt.time.fromisoformat,
}


def frozen(value: Any) -> Any:
    """For `json.dumps`: a date or time as JSON that `revived` reads back."""
    for kind, name in ((dt.datetime, "$datetime"), (dt.date, "$date"), (dt.time, "$time")):
        if isinstance(value, kind):
            return {name: value.isoformat()}
    raise TypeError(f"{type(value).__name__} has no JSON")


def revived(value: Any) -> Any:
    """JSON with its dates and times."""
    if isinstance(value, list):
        return [revived(each) for each in value]
    if not isinstance(value, dict):
        return value
    name = next(iter(value), "")
    return _MOMENTS[name](value[name]) if name in _MOMENTS else {key: revived(each) for key, each in value.items()}


def judge(kind: str, arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an expectation that is met, as JSON.

    Raises:
        CannotTellError: it is not met, or that is not sure.
    """
    result = _KINDS[kind](arguments, values, form)
    return {} if form["result_format"] == "BOOLEAN_ONLY" else plain(result)


def _need(condition: bool) -> None:
    if not condition:
        raise CannotTellError


def plain(value: Any) -> Any:
    """A value as Great Expectations writes it into JSON."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    raise CannotTellError


# ---- the kinds of expectations, by what their results are made of


def _rows(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    """Rows that meet a condition, all or `mostly`."""
    metric, total = arguments["map_metric"], values["table.row_count"]
    unexpected = values[f"{metric}.unexpected_count"]
    judged = {
        "present": lambda: total - values["column_values.nonnull.unexpected_count"],
        "kept": lambda: values[f"{metric}.filtered_row_count"],
        "all": lambda: total,
        "nulls": lambda: total,
    }[arguments["judged"]]()
    _need(total == 0 or judged == 0 or (float(judged) - float(unexpected)) / float(judged) >= arguments["mostly"])
    if form["result_format"] == "BOOLEAN_ONLY":
        return {}
    if arguments["judged"] == "nulls":  # of this one expectation, Great Expectations does not repeat them
        form = {**form, "unexpected_index_column_names": None}
    with_missing = arguments["judged"] in ("present", "kept")
    return _sampled(form, total, judged if with_missing else None, unexpected, metric, values)


def _sampled(
    form: Mapping[str, Any], total: int, judged: int | None, unexpected: int, metric: str, values: Values
) -> dict[str, Any]:
    share_of_all = unexpected / total * 100 if total else None
    share = share_of_all if judged is None else unexpected / judged * 100 if judged and total else None
    listed, numbers = values[f"{metric}.unexpected_values"], values.get(f"{metric}.unexpected_index_list")
    result: dict[str, Any] = {
        "element_count": total,
        "unexpected_count": unexpected,
        "unexpected_percent": share,
    }
    some = form["partial_unexpected_count"]
    excluded = form.get("exclude_unexpected_values", False)
    if not excluded:
        result["partial_unexpected_list"] = listed[:some]
    if form.get("unexpected_index_column_names") is not None:
        result["unexpected_index_column_names"] = form["unexpected_index_column_names"]
    if judged is not None:
        missing = total - judged
        result["missing_count"] = missing
        result["missing_percent"] = missing / total * 100 if total else None
        result["unexpected_percent_total"] = share_of_all
        result["unexpected_percent_nonmissing"] = share
    if form["result_format"] == "BASIC":
        return result
    if some:
        if not excluded and (counts := _counted(listed, some)) is not None:
            result["partial_unexpected_counts"] = counts
        result["partial_unexpected_index_list"] = (numbers or [])[:some]
    if form["result_format"] == "COMPLETE":
        if not excluded:
            result["unexpected_list"] = listed
        result["unexpected_index_list"] = numbers
        query = values[f"{metric}.unexpected_index_query"]
        if query is not None:
            result["unexpected_index_query"] = query
    return result


def _counted(values: Sequence[Any], some: int) -> list[dict[str, Any]] | None:
    """How often each occurs; nothing where they cannot be hashed and ordered, as Great Expectations has it."""
    flat = [tuple(each.values()) for each in values] if values and isinstance(values[0], dict) else values
    try:
        common = sorted(Counter(flat).most_common(some), key=lambda pair: (-pair[1], pair[0]))
    except TypeError:
        return None
    return [{"value": value, "count": count} for value, count in common]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _between(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    """A number within bounds."""
    value, low, high = values[arguments["metric"]], arguments["min_value"], arguments["max_value"]
    _need(all(_is_number(each) for each in (value, low, high) if each is not None) and value is not None)
    _need(low is None or (value > low if arguments["strict_min"] else value >= low))
    _need(high is None or (value < high if arguments["strict_max"] else value <= high))
    return {"observed_value": value}


def _equal(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    """A count that is what it should be."""
    _need(values[arguments["metric"]] == arguments["value"])
    return {"observed_value": values[arguments["metric"]]}


def _quantiles(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    """Quantiles within their ranges, clearly so: at their very ends Great Expectations has a tolerance."""
    found = values["column.quantile_values"]
    ranges = arguments["quantile_ranges"]
    for value, (low, high) in zip(found, ranges["value_ranges"], strict=True):
        _need(_is_number(value) and (low is None or low <= value) and (high is None or value <= high))
    details = {"success_details": [True] * len(found)}
    return {"observed_value": {"quantiles": ranges["quantiles"], "values": found}, "details": details}


def _none(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    """Counts that must all be zero: the result is always the same."""
    _need(all(values[name] == 0 for name in arguments["counts"]))
    return deepcopy(dict(arguments["result"]))


def _exists(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    columns, place = values["table.columns"], arguments["column_index"]
    _need(arguments["column"] in (columns[place : place + 1] if place else columns))
    return {}


def _ordered(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    columns = values["table.columns"]
    _need(arguments["column_list"] is None or columns == arguments["column_list"])
    return {"observed_value": columns}


def _as_set(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    wanted, columns = set(arguments["column_set"]), set(values["table.columns"])
    more = sorted(columns - wanted)
    _need(wanted <= columns and not (arguments["exact_match"] and more))
    return {"observed_value": sorted(columns)} | ({"details": {"mismatched": {"unexpected": more}}} if more else {})


def _typed(arguments: Arguments, values: Values, form: Mapping[str, Any]) -> dict[str, Any]:
    types = {each["name"]: each["type"] for each in values["table.column_types"]}
    _need(arguments["column"] in types)
    found = types[arguments["column"]]
    _need(not type_names(found).isdisjoint(arguments["types"]))
    return {"observed_value": str(found)}


_KINDS: Mapping[str, Callable[[Arguments, Values, Mapping[str, Any]], dict[str, Any]]] = {
    "rows": _rows,
    "between": _between,
    "equal": _equal,
    "quantiles": _quantiles,
    "none": _none,
    "exists": _exists,
    "ordered": _ordered,
    "set": _as_set,
    "typed": _typed,
}
