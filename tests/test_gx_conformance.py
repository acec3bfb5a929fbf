"""What `make conformance-gx` lets pass: a failure nobody wrote down, or a run that proves nothing, fails it."""

from pathlib import Path

import pytest

from tests.conformance.gx_run import FEWEST_TESTS, HERE, MOST_DEVIATIONS, faults, read_expected

PASSED = {f"test_{number}": "passed" for number in range(FEWEST_TESTS)}
COUNTS = {"assets": FEWEST_TESTS}


def test_a_run_with_its_listed_deviations_passes() -> None:
    assert faults({**PASSED, "test_a": "failed"}, COUNTS, {"test_a": "a reason"}) == []


def test_a_failure_that_is_not_listed_and_a_listed_one_that_passes_are_faults() -> None:
    found = faults({**PASSED, "test_a": "failed", "test_b": "passed"}, COUNTS, {"test_b": "a reason", "test_c": "gone"})
    assert [fault.split(":")[0] for fault in found] == ["test_a", "test_b", "test_c"]


def test_of_some_tests_only_those_that_were_run_are_looked_for() -> None:
    assert faults({"test_a": "passed"}, COUNTS, {"test_c": "a reason"}, whole=False) == []


@pytest.mark.parametrize(
    ("counts", "said"),
    [({}, "proves nothing"), ({"assets": 1, "fallback column.max": 1}, "column.max: data went through pandas")],
)
def test_a_run_on_pandas_is_a_fault(counts: dict[str, int], said: str) -> None:
    assert said in "\n".join(faults(PASSED, counts, {}))


def test_too_few_tests_and_too_many_deviations_are_faults() -> None:
    many = {f"test_{number}": "a reason" for number in range(MOST_DEVIATIONS + 1)}
    found = faults(dict.fromkeys(many, "failed"), COUNTS, many)
    assert len(found) == 2


def test_every_deviation_has_a_reason() -> None:
    expected = read_expected((HERE / "gx_expected.txt").read_text())
    assert 0 < len(expected) <= MOST_DEVIATIONS
    with pytest.raises(ValueError, match="has no reason"):
        read_expected("tests/test_a.py::test_b")


def test_private_names_of_great_expectations_are_in_one_module() -> None:
    public = ("great_expectations", "great_expectations.core")
    for module in (HERE.parent.parent / "gossamer" / "quality" / "gx").glob("*.py"):
        imported = [
            line.split()[1] for line in module.read_text().splitlines() if line.startswith(("import ", "from "))
        ]
        private = [name for name in imported if name.startswith("great_expectations") and name not in public]
        assert not private or module.name == "private.py", module
    assert Path(HERE / "requirements-oldest-gx.txt").exists()
