"""Expectations and values in words and in JSON, for people: check summaries, reports.

Nothing here evaluates anything, or knows Great Expectations but by the names of its expectations and their arguments.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

#: Longest text and list that go into a check's details: values come from the web and may be of any size.
TEXT = 200
ITEMS = 20

#: Arguments that are said elsewhere in the sentence, or that say nothing to a reader.
_SILENT = {"column", "column_A", "column_B", "column_list", "min_value", "max_value", "strict_min", "strict_max"} | {
    "mostly",
    "row_condition",
    "condition_parser",
}

#: Great Expectations' words that read better otherwise.
_PLAINER = {
    "be in set": "be one of",
    "equal set": "be exactly",
    "contain set": "contain",
    "match regex": "match",
    "be null": "be empty",
}


def expectation(kind: str, kwargs: Mapping[str, Any]) -> str:
    """What an expectation demands: `price must be between 0 and 10000 in 98 % of rows`."""
    subject, _, demand = kind.removeprefix("expect_").partition("_to_")
    words = f"{_subject(subject, kwargs)} must {_demand(demand, kwargs)}"
    silent = _SILENT - {"column_list"} if kind.startswith("expect_table") else _SILENT
    others = {
        name: value for name, value in kwargs.items() if name not in silent and value not in (None, False, {}, [])
    }
    if len(others) == 1:
        words += f" {value(next(iter(others.values())))}"
    elif others:
        words += f" ({', '.join(f'{name} {value(argument)}' for name, argument in others.items())})"
    if condition := kwargs.get("row_condition"):
        words += f" where {_condition(condition)}"
    mostly = kwargs.get("mostly", 1)
    return words if mostly == 1 else f"{words} in {mostly * 100:g} % of rows"


def _subject(subject: str, kwargs: Mapping[str, Any]) -> str:
    column = kwargs.get("column")
    if "column_A" in kwargs:
        return f"{kwargs.get('column_A')}"
    if (names := kwargs.get("column_list")) and not subject.startswith("table"):
        listed = ", ".join(map(str, names))
        return f"sum of {listed}" if subject == "multicolumn_sum" else listed
    if column is None:
        return subject.removeprefix("table_").replace("_", " ")
    aspect = subject.removeprefix("column").removeprefix("_values").strip("_").replace("_", " ")
    if subject == "column":
        return f"column {column}"
    return f"{aspect} of {column}" if aspect else str(column)


def _condition(condition: Any) -> str:
    match condition:
        case {"column": {"name": name}, "operator": operator, "parameter": parameter}:
            return f"{name} {operator} {value(parameter)}"
        case other:
            return value(other)


def _demand(demand: str, kwargs: Mapping[str, Any]) -> str:
    words = demand.replace("_", " ")
    if "column_B" in kwargs:
        words = f"{words.removesuffix(' b')}{' to' if words == 'be equal' else ''} {kwargs['column_B']}"
    words = re.sub(r"\b(be in set|equal set|contain set|match regex|be null)$", lambda found: _PLAINER[found[0]], words)
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if not words.endswith("be between") or (low is None and high is None):
        return words
    above, below = ("strict_min", "more than"), ("strict_max", "less than")
    if low is not None and high is not None and not kwargs.get("strict_min") and not kwargs.get("strict_max"):
        return f"{words} {value(low)} and {value(high)}"
    bounds = [
        f"{strictly if kwargs.get(flag) else loosely} {value(bound)}"
        for bound, (flag, strictly), loosely in ((low, above, "at least"), (high, below, "at most"))
        if bound is not None
    ]
    return words.removesuffix("between") + " and ".join(bounds)


def percent(share: float) -> str:
    """A share as text: `1.0 %`, and never 0 % or 100 % for what is only close to them."""
    hundred = share * 100
    if 0 < hundred < 0.05:
        return "under 0.1 %"
    if 99.95 <= hundred < 100:
        return "over 99.9 %"
    return f"{hundred:.0f} %" if hundred in (0, 100) else f"{hundred:.1f} %"


def value(thing: Any) -> str:
    """A value as it stands in a sentence."""
    match plain(thing):
        case None:
            return "nothing"
        case list(items):
            shown = ", ".join(value(item) for item in items[:5])
            return f"{shown} and {len(items) - 5} more" if len(items) > 5 else shown
        case dict(items):
            return ", ".join(f"{name} {value(item)}" for name, item in items.items())
        case float(number) if number.is_integer() and abs(number) < 1e15:
            return f"{number:.1f}"
        case float(number):
            return f"{number:.6g}"
        case str(text):
            return clip(re.sub(r"\s+", " ", text), 80)
        case other:
            return str(other)


def plain(thing: Any, depth: int = 4) -> Any:
    """The same in JSON's types, of bounded size: no NaN or infinity, no numpy, Decimal and dates as text."""
    if thing is None or isinstance(thing, bool | int):
        return thing
    if isinstance(thing, float):
        return float(thing) if math.isfinite(thing) else None
    if isinstance(thing, str):
        return clip(thing)
    if isinstance(thing, Decimal):
        return format(thing.normalize(), "f") if thing.is_finite() else None
    if isinstance(thing, datetime | date | time):
        # pandas' missing time is a datetime by type
        return None if str(thing) == "NaT" else thing.isoformat()
    if hasattr(thing, "tolist"):  # numpy scalars and arrays
        return plain(thing.tolist(), depth)
    if hasattr(thing, "to_list"):  # a Polars list
        return plain(thing.to_list(), depth)
    if isinstance(thing, Mapping) and depth:
        return {clip(str(name)): plain(item, depth - 1) for name, item in list(thing.items())[:ITEMS]}
    if isinstance(thing, Sequence | set | frozenset) and not isinstance(thing, bytes) and depth:
        return [plain(item, depth - 1) for item in list(thing)[:ITEMS]]
    return None if str(thing) == "<NA>" else clip(str(thing))


def clip(text: str, length: int = TEXT) -> str:
    """A text of at most `length` characters that can be written as UTF-8."""
    text = text if len(text) <= length else text[: length - 1] + "…"
    return text.encode("utf-8", "replace").decode()
