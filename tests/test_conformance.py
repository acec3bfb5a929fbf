"""What `make conformance-scrapy` lets pass: a difference nobody wrote down, or a run that proves nothing, fails it."""

import pytest

from tests.conformance.scrapy_run import Run, compare, faults, read_expected

STOCK = Run({f"test_{n}": "passed" for n in range(300)} | {"test_skipped": "skipped", "test_known": "xfailed"})
COUNTS = {"engines": 3, "units": 7}


def ours(**changes: str) -> Run:
    return Run({**STOCK.outcomes, **changes}, COUNTS)


def test_a_listed_difference_passes_and_is_counted() -> None:
    run = ours(test_7="failed")
    comparison = compare(STOCK, run, ["test_7"])
    assert comparison.passed == (300, 299)
    assert faults(run, comparison) == []


@pytest.mark.parametrize("change", [{"test_7": "failed"}, {"test_7": "skipped"}, {"test_known": "passed"}])
def test_a_difference_that_is_not_listed_fails_the_run(change: dict[str, str]) -> None:
    [words] = faults(run := ours(**change), compare(STOCK, run, []))
    assert words.startswith(next(iter(change)))


def test_a_test_that_was_lost_on_our_engine_fails_the_run() -> None:
    run = Run({test: outcome for test, outcome in STOCK.outcomes.items() if test != "test_7"}, COUNTS)
    assert faults(run, compare(STOCK, run, [])) == ["test_7: not run, on Scrapy's engine not"]


def test_a_line_whose_test_passes_again_fails_the_run_but_not_one_of_some_tests_only() -> None:
    comparison = compare(STOCK, ours(), ["test_7", "test_gone"])
    assert len(faults(ours(), comparison)) == 2
    assert faults(ours(), compare(STOCK, ours(), ["test_gone"], whole=False)) == []


def test_a_run_without_our_engine_fails() -> None:
    run = Run(STOCK.outcomes, {"engines": 3, "units": 0})
    assert "proves nothing" in faults(run, compare(STOCK, run, []))[0]


def test_a_store_that_could_not_go_on_fails_the_run() -> None:
    run = Run(STOCK.outcomes, COUNTS, ["test_7: disk full"])
    assert faults(run, compare(STOCK, run, [])) == ["the store could not go on: test_7: disk full"]


def test_more_than_one_in_a_hundred_fails_even_where_all_are_listed() -> None:
    failing = [f"test_{n}" for n in range(4)]
    run = ours(**dict.fromkeys(failing, "failed"))
    assert faults(run, compare(STOCK, run, failing)) == ["98.67% of what passes on Scrapy's engine passes, not 99%"]


def test_an_expected_difference_needs_a_reason() -> None:
    assert read_expected("# words\n\ntests/a.py::test[x y]  # because\n") == {"tests/a.py::test[x y]": "because"}
    with pytest.raises(ValueError, match="has no reason"):
        read_expected("tests/a.py::test\n")
