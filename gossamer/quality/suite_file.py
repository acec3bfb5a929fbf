"""A source's suite of expectations as a file: read, and held against what Great Expectations knows.

`parse` takes no Great Expectations; `read` does, and finds every fault that can be seen without data. Evaluating it is
`suite`'s.
"""

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gossamer import user_code
from gossamer.errors import Problem, SuiteError
from gossamer.source import Source

#: The fields of an expectation in a suite's JSON, as Great Expectations itself writes it.
_FIELDS = {"type", "kwargs", "severity", "meta", "notes", "description", "id", "rendered_content"} | {
    "expectation_context",
    "success_on_last_run",
}


def own_expectations(source: Source) -> None:
    """Makes the expectation classes of the source's `expectations.py` known, where it ships one.

    Raises:
        SuiteError: the file cannot be imported.
    """
    path = source.expectations_module
    if path is None:
        return
    try:
        user_code.load(source, path)
    except user_code.UserCodeError as error:
        raise SuiteError([Problem(path, "", str(error), "Mend the module; `gossamer check` imports it.")]) from error


def validate_suite(source: Source, path: Path) -> list[str]:
    """What is wrong with a suite, seen without data: one line a fault, none if it is sound."""
    try:
        own_expectations(source)
        read(path)
    except SuiteError as error:
        return [str(problem) for problem in error.problems]
    return []


def read(path: Path) -> list[dict[str, Any]]:
    """The expectations of a suite, each known to Great Expectations; raises `SuiteError` with every fault."""
    return _sound(path, _fault)


def parse(path: Path) -> list[dict[str, Any]]:
    """The expectations as the file has them, which takes no Great Expectations.

    Raises:
        SuiteError: the file cannot be read, or has no list of expectations.
    """
    return _sound(path, _fault_of_form)


def _sound(path: Path, fault_of: Callable[[Any], tuple[str, str] | None]) -> list[dict[str, Any]]:
    declared = _listed(path)
    faults = [
        Problem(path, f"expectations.{number}", *fault)
        for number, expectation in enumerate(declared)
        if (fault := fault_of(expectation))
    ]
    if faults:
        raise SuiteError(faults)
    return declared


def _listed(path: Path) -> list[Any]:
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


def _fault_of_form(expectation: Any) -> tuple[str, str] | None:
    """What is wrong with the form of one expectation, and what to do."""
    if not isinstance(expectation, dict) or not isinstance(expectation.get("type"), str):
        old = isinstance(expectation, dict) and "expectation_type" in expectation
        remedy = "Rename `expectation_type` to `type`." if old else 'Write {"type": "expect_...", "kwargs": {...}}.'
        return "has no `type`", remedy
    kind = expectation["type"]
    if unknown := sorted(expectation.keys() - _FIELDS):
        near = difflib.get_close_matches(unknown[0], _FIELDS, n=1)
        known = "Known: type, kwargs, severity, meta, notes, description; arguments stand in `kwargs`."
        return f"{kind}: unknown field `{unknown[0]}`", f"Did you mean `{near[0]}`?" if near else known
    if not isinstance(expectation.get("kwargs", {}), dict):
        return f"{kind}: `kwargs` is not an object", 'Write "kwargs": {"column": "..."}.'
    return None


def _fault(expectation: Any) -> tuple[str, str] | None:
    """What is wrong with one expectation, and what to do."""
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import list_registered_expectation_implementations
    from pydantic.v1 import ValidationError

    if fault := _fault_of_form(expectation):
        return fault
    kind, kwargs = expectation["type"], expectation.get("kwargs", {})
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
