"""A compiled suite and its proof: what Great Expectations would say, said on many frames without its machinery."""

import json
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import polars as pl
import pytest
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer.errors import GossamerError
from gossamer.quality import CompiledSuite, Proof
from gossamer.quality.gx import resolve
from tests.gx_books import (
    BOOKS,
    PROVABLE,
    ROWS,
    ExpectColumnValuesToBeMultiples,
    ExpectColumnValuesToBeShouted,
    ExpectPriceToBeSane,
    ExpectPriceToBeWhatIsSaid,
)

RESULT_FORMATS = ["BOOLEAN_ONLY", "BASIC", "SUMMARY", "COMPLETE"]


def suite(*expectations: Any) -> gx.ExpectationSuite:
    return gx.ExpectationSuite(name="books", expectations=list(expectations))


def result_of(compiled: CompiledSuite, frame: pl.DataFrame | pl.LazyFrame = BOOKS) -> dict[str, Any]:
    """As JSON."""
    found: dict[str, Any] = compiled.run(frame).to_json_dict()  # type: ignore[no-untyped-call]
    return found


def run(*expectations: Any, frame: pl.DataFrame | pl.LazyFrame = BOOKS, form: Any = "SUMMARY") -> Any:
    return CompiledSuite(suite(*expectations), form).run(frame)


def on_pandas(expectation: Any, frame: pl.DataFrame, form: Any) -> dict[str, Any]:
    """What Great Expectations says on pandas, without the batch's name."""
    asset = gx.get_context(mode="ephemeral").data_sources.add_pandas("p").add_dataframe_asset("a")
    batch = asset.add_batch_definition_whole_dataframe("w").get_batch({"dataframe": frame.to_pandas()})
    found: dict[str, Any] = batch.validate(expectation, result_format=form).to_json_dict()
    return found


def judged_alike(expectation: Any, form: Any, frame: pl.DataFrame = BOOKS) -> None:
    ours, theirs = (
        run(expectation, frame=frame, form=form).results[0].to_json_dict(),
        on_pandas(expectation, frame, form),
    )
    assert ours["exception_info"]["raised_exception"] is False, ours["exception_info"]
    assert ours["success"] == theirs["success"]
    for result in (ours["result"], theirs["result"]):  # text for the one's query language, or the other's
        result.pop("unexpected_index_query", None)
        if any(
            isinstance(value, tuple | list) and None in value for value in result.get("partial_unexpected_list", [])
        ):
            result.pop("partial_unexpected_counts", None)  # GX sorts them, which works for NaN and not for None
    assert ours["result"] == theirs["result"]


@pytest.mark.parametrize("form", RESULT_FORMATS)
@pytest.mark.parametrize("expectation", ROWS, ids=lambda each: type(each).__name__)
def test_a_result_says_what_it_says_on_pandas(expectation: Any, form: str) -> None:
    judged_alike(expectation, form)


@pytest.mark.parametrize(
    "form",
    [
        {"result_format": "COMPLETE", "unexpected_index_column_names": ["upc", "day"]},
        {"result_format": "COMPLETE", "unexpected_index_column_names": ["upc"], "exclude_unexpected_values": True},
        {"result_format": "SUMMARY", "partial_unexpected_count": 1},
        {"result_format": "SUMMARY", "partial_unexpected_count": 0},
        {"result_format": "COMPLETE", "exclude_unexpected_values": True},
    ],
    ids=str,
)
def test_the_options_of_a_result_format_are_kept_to(form: dict[str, Any]) -> None:
    frame = BOOKS.with_columns(day=pl.col("day").cast(pl.String))  # pandas has another type for days
    judged_alike(gxe.ExpectColumnValuesToBeUnique(column="upc"), form, frame)


def test_rows_that_fail_are_shown_whole_under_their_number() -> None:
    found = run(
        gxe.ExpectColumnValuesToBeBetween(column="price", max_value=50, row_condition=Column("currency").is_not_null()),
        form={"result_format": "BASIC", "include_unexpected_rows": True},
    )
    rows = found.results[0].result["unexpected_rows"]
    assert rows.index.to_list() == [5]
    assert rows["upc"].to_list() == ["e5"]


def test_results_come_in_the_order_of_the_suite_with_severity_and_statistics() -> None:
    found = run(
        gxe.ExpectColumnValuesToNotBeNull(column="price", severity=FailureSeverity.WARNING),
        gxe.ExpectColumnToExist(column="missing"),
        gxe.ExpectTableRowCountToEqual(value=6),
    )
    assert [result.success for result in found.results] == [False, False, True]
    assert found.results[0].expectation_config.severity == "warning"
    assert found.success is False
    assert found.statistics["successful_expectations"] == 1
    json.dumps(found.to_json_dict())


def test_a_missing_column_fails_its_own_expectations_only() -> None:
    found = run(
        gxe.ExpectColumnValuesToBeUnique(column="isbn"),
        gxe.ExpectColumnMaxToBeBetween(column="isbn", max_value=3),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="upc", column_B="title"),
        gxe.ExpectColumnValuesToNotBeNull(column="currency", mostly=0.5),
    )
    messages = [str(result.exception_info) for result in found.results]
    assert 'The column "isbn" in BatchData does not exist.' in messages[0]
    assert 'The column "isbn" in BatchData does not exist.' in messages[1]
    assert 'The column "title" in BatchData does not exist.' in messages[2]
    assert [result.success for result in found.results] == [False, False, False, True]


def test_what_raises_for_one_expectation_leaves_the_others_whole() -> None:
    found = run(
        gxe.ExpectColumnValuesToMatchJsonSchema(column="upc", json_schema={"type": "object"}),
        gxe.ExpectColumnStdevToBeBetween(column="upc", min_value=1),
        gxe.ExpectColumnValuesToBeUnique(column="upc"),
    )
    assert [result.exception_info.get("raised_exception", True) for result in found.results] == [True, True, False]
    assert found.results[2].result["unexpected_count"] == 2


def test_a_lazy_frame_and_a_frame_of_many_rows_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = CompiledSuite(suite(*ROWS, gxe.ExpectColumnMedianToBeBetween(column="price", min_value=0)), "COMPLETE")
    small = result_of(compiled)["results"]
    assert result_of(compiled, BOOKS.lazy())["results"] == small
    monkeypatch.setattr(resolve, "SMALL", 2)
    assert result_of(compiled, BOOKS.lazy())["results"] == small
    assert result_of(compiled)["results"] == small


def test_threads_may_share_a_suite() -> None:
    compiled = CompiledSuite(suite(gxe.ExpectTableRowCountToEqual(value=1), *ROWS))

    def rows(number: int) -> int:
        result = compiled.run(BOOKS.head(number)).results[0]
        count: int = result.result["observed_value"]
        return count

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(rows, [1, 2, 3, 4, 5, 6] * 5)) == [1, 2, 3, 4, 5, 6] * 5


# ---- rows that fail


def test_failing_rows_name_rows_and_expectations_whatever_mostly_allows() -> None:
    compiled = CompiledSuite(
        suite(
            gxe.ExpectColumnValuesToNotBeNull(column="price", mostly=0.1),
            gxe.ExpectTableRowCountToEqual(value=1),
            gxe.ExpectColumnValuesToBeUnique(column="upc"),
            gxe.ExpectColumnValuesToBeBetween(column="stock", min_value=1, row_condition=Column("currency") == "EUR"),
            gxe.ExpectColumnValuesToBeBetween(column="absent", min_value=1),
        )
    )
    found = compiled.failing_rows(BOOKS.lazy())
    assert found.schema == {"row": pl.UInt32, "expectation": pl.UInt16}
    assert found.rows() == [(1, 3), (2, 0), (2, 2), (3, 2), (4, 0)]
    assert compiled.failing_rows(BOOKS, [2]).rows() == [(2, 2), (3, 2)]
    assert compiled.failing_rows(BOOKS, []).is_empty()


@pytest.mark.parametrize("expectation", ROWS, ids=lambda each: type(each).__name__)
def test_failing_rows_are_those_of_the_complete_result(expectation: Any) -> None:
    compiled = CompiledSuite(suite(expectation), "COMPLETE")
    assert (
        compiled.failing_rows(BOOKS)["row"].to_list() == compiled.run(BOOKS).results[0].result["unexpected_index_list"]
    )


# ---- what users write


SHOUTS = pl.DataFrame({"word": ["HEY!", "hey!", None, "HO", "HO!"], "kind": ["a", "a", "a", "b", "b"]})


def test_a_users_metric_for_pandas_is_computed_by_pandas_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    expectation = ExpectColumnValuesToBeShouted(column="word", ending="!", mostly=0.5)
    judged_alike(expectation, "COMPLETE", SHOUTS)
    caplog.clear()
    found = run(expectation, gxe.ExpectColumnValuesToBeUnique(column="word"), frame=SHOUTS)
    assert found.meta["batch_markers"]["pandas_fallbacks"] == ["column_values.are_shouted.condition"]
    assert "column_values.are_shouted.condition" in caplog.text
    assert found.results[0].result["partial_unexpected_list"] == ["hey!", "HO"]


def test_a_users_metric_sees_the_rows_of_its_condition_only() -> None:
    expectation = ExpectColumnValuesToBeShouted(column="word", row_condition=Column("kind") == "b")
    compiled = CompiledSuite(suite(expectation, ExpectColumnValuesToBeShouted(column="word", ending="!")), "COMPLETE")
    found = compiled.run(SHOUTS)
    assert found.results[0].success is True
    assert found.results[1].result["unexpected_index_list"] == [1, 3]
    assert compiled.failing_rows(SHOUTS).rows() == [(1, 1), (3, 1)]


def test_a_users_condition_for_polars_is_native() -> None:
    multiples = ExpectColumnValuesToBeMultiples(column="stock", of=3)
    compiled = CompiledSuite(suite(multiples), "COMPLETE", strict=True)
    found = compiled.run(BOOKS)
    assert found.results[0].result["unexpected_list"] == [1, 5]
    assert compiled.failing_rows(BOOKS).rows() == [(0, 0), (4, 0)]


def test_a_strict_suite_refuses_what_only_pandas_can_compute() -> None:
    expectations = [ExpectColumnValuesToBeShouted(column="word"), gxe.ExpectColumnValuesToNotBeNull(column="kind")]
    found = CompiledSuite(suite(*expectations), strict=True).run(SHOUTS)
    assert [result.success for result in found.results] == [False, True]
    assert "is not computed by Polars" in str(found.results[0].exception_info)
    assert found.meta["batch_markers"]["pandas_fallbacks"] == []


def test_what_great_expectations_ships_needs_no_pandas() -> None:
    found = run(*ROWS, *PROVABLE)
    assert found.meta["batch_markers"]["pandas_fallbacks"] == []


def test_a_users_expectation_on_a_metric_of_great_expectations_is_native() -> None:
    found = run(ExpectPriceToBeSane())
    assert found.results[0].result["partial_unexpected_list"] == [99.0]
    assert found.meta["batch_markers"]["pandas_fallbacks"] == []


def test_a_divergence_of_which_the_data_tell_the_bins_is_compiled_when_there_are_data() -> None:
    partition = {"values": ["EUR", "GBP", "USD"], "weights": [0.5, 0.25, 0.25]}
    expectation = gxe.ExpectColumnKLDivergenceToBeLessThan(column="currency", partition_object=partition, threshold=0.5)
    assert run(expectation).results[0].success is True


def test_a_suite_parameter_that_nothing_fills_in_is_refused() -> None:
    with pytest.raises(GossamerError, match="suite parameters \\(low\\)"):
        CompiledSuite(suite(gxe.ExpectColumnMinToBeBetween(column="price", min_value={"$PARAMETER": "low"})))


# ---- which rows count, and what a number is

UNSOLD = pl.DataFrame({"status": ["OK", None, "sold", None], "word": ["A", "b", "b", "C"]})


@pytest.mark.parametrize(
    "condition",
    [
        {"row_condition": Column("status") != "sold"},
        {"row_condition": Column("status").is_not_in(["sold"])},
        {"row_condition": "not (status == 'sold')", "condition_parser": "pandas"},
        {"row_condition": "status != word", "condition_parser": "pandas"},
    ],
    ids=["unequal", "not in", "not", "columns"],
)
@pytest.mark.filterwarnings("ignore:.*row_condition|.*condition_parser:DeprecationWarning")
def test_a_null_differs_from_what_a_condition_names_for_all_who_ask(condition: dict[str, Any]) -> None:
    """The count, the rows to set aside, the proof, and a metric that pandas computes."""
    compiled = CompiledSuite(
        suite(
            gxe.ExpectColumnValuesToNotBeNull(column="status", **condition),
            ExpectColumnValuesToBeShouted(column="word", **condition),
            gxe.ExpectColumnValuesToBeInSet(column="word", value_set=["A", "C"], **condition),
        )
    )
    among = {row for row in range(4) if row != 2 or "word" in str(condition)}
    found = compiled.run(UNSOLD)
    assert [result.result["element_count"] for result in found.results] == [len(among)] * 3
    assert [result.result["unexpected_count"] for result in found.results] == [2, len(among) - 2, len(among) - 2]
    failing = {0: {1, 3}, 1: among & {1, 2}, 2: among & {1, 2}}
    expected = sorted((row, number) for number, rows in failing.items() for row in rows)
    assert sorted(compiled.failing_rows(UNSOLD).rows()) == expected
    provable = CompiledSuite(suite(gxe.ExpectColumnValuesToNotBeNull(column="status", **condition)))
    assert proven(provable, UNSOLD) is None
    assert proven(provable, UNSOLD.head(1)) is not None


@pytest.mark.filterwarnings("ignore:.*row_condition|.*condition_parser:DeprecationWarning")
def test_sql_has_three_truth_values() -> None:
    """As the docs say of it: what is null neither equals nor differs."""
    kept = gxe.ExpectTableRowCountToEqual(value=1, row_condition="status != 'sold'", condition_parser="spark")
    assert run(kept, frame=UNSOLD).success is True


def as_written(value: Any) -> Decimal:
    return Decimal(str(value))


FOUR_DIGITS = st.decimals(-3, 3, places=4, allow_nan=False) | st.sampled_from([Decimal("0.1"), Decimal("0.2")])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(FOUR_DIGITS, min_size=1, max_size=5),
    nudge=st.sampled_from([0, Decimal("0.00005"), Decimal("-0.00005")]),
    strict=st.booleans(),
    exact=st.booleans(),
)
def test_a_decimal_is_compared_with_numbers_as_they_are_written(
    rows: list[Decimal], nudge: Decimal, strict: bool, exact: bool
) -> None:
    """Sets may hold floats, which is what JSON has, or decimals; bounds are floats."""
    given = [value if exact else float(value) for value in rows]
    low, high, total = (float(value + nudge) for value in (min(rows), max(rows), sum(rows)))
    found = run(
        gxe.ExpectColumnMinToBeBetween(column="p", min_value=low, strict_min=strict),
        gxe.ExpectColumnMaxToBeBetween(column="p", max_value=high, strict_max=strict),
        gxe.ExpectColumnSumToBeBetween(column="p", min_value=total, max_value=total),
        gxe.ExpectColumnValuesToBeBetween(column="p", min_value=low, strict_min=strict),
        gxe.ExpectColumnValuesToBeInSet(column="p", value_set=given),
        gxe.ExpectColumnDistinctValuesToBeInSet(column="p", value_set=given),
        gxe.ExpectColumnDistinctValuesToContainSet(column="p", value_set=given),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="p", value_set=given),
        gxe.ExpectColumnDistinctValuesToContainSet(column="p", value_set=[*given, 7.5, True, "x"]),
        gxe.ExpectColumnMostCommonValueToBeInSet(column="p", value_set=given, ties_okay=True),
        gxe.ExpectColumnMostCommonValueToBeInSet(column="p", value_set=[7.5, "x"], ties_okay=True),
        frame=pl.DataFrame({"p": pl.Series([*rows, None], dtype=pl.Decimal(18, 4))}),
    )
    least = min(rows) > as_written(low) if strict else min(rows) >= as_written(low)
    most = max(rows) < as_written(high) if strict else max(rows) <= as_written(high)
    whole = sum(rows) == as_written(total)
    assert [result.success for result in found.results] == [
        *(least, most, whole, least),
        *(True, True, True, True, False, True, False),
    ]
    assert found.results[2].result["observed_value"] == float(sum(rows))


def test_a_mean_of_decimals_is_that_of_the_decimals() -> None:
    frame = pl.DataFrame({"p": pl.Series(["0.1", "0.1", "0.1", None]).cast(pl.Decimal(18, 4))})
    found = run(gxe.ExpectColumnMeanToBeBetween(column="p", min_value=0.1, max_value=0.1), frame=frame)
    assert found.success is True, "floats come to more than 0.1"
    nothing = run(gxe.ExpectColumnMeanToBeBetween(column="p", min_value=0), frame=frame.tail(1))
    assert nothing.results[0].result["observed_value"] is None


#: Beyond 2099 Polars knows no summer time.
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2099, 1, 1)) | st.datetimes(
    datetime(1970, 1, 1), datetime(1970, 1, 2)
).map(lambda moment: moment.replace(microsecond=0))


@settings(max_examples=40, deadline=None)
@given(
    moments=st.lists(MOMENTS, min_size=1, max_size=3),
    unit=st.sampled_from(["ms", "us", "ns"]),
    zone=st.sampled_from([None, "UTC", "America/New_York"]),
    beyond=st.sampled_from([0, 1, 1000]),
)
def test_the_text_of_a_moment_is_that_of_its_timestamp(
    moments: list[datetime], unit: Any, zone: str | None, beyond: int
) -> None:
    at = pl.Series(moments, dtype=pl.Datetime(unit)).dt.replace_time_zone("UTC").dt.convert_time_zone(zone or "UTC")
    if unit == "ns":
        at = at + pl.Series([beyond]).cast(pl.Duration("ns"))
    frame = pl.DataFrame({"at": at if zone else at.dt.replace_time_zone(None)})
    texts = [str(moment) for moment in frame.to_pandas()["at"]]
    pattern = f"^({'|'.join(map(re.escape, texts))})$"
    shortest, longest = min(map(len, texts)), max(map(len, texts))
    found = run(
        gxe.ExpectColumnValuesToMatchRegex(column="at", regex=pattern),
        gxe.ExpectColumnValueLengthsToBeBetween(column="at", min_value=shortest, max_value=longest),
        frame=frame,
    )
    assert found.success is True, (texts, found)


def test_the_text_of_a_time_of_day_is_pythons() -> None:
    times = [time(1, 2, 3), time(0), time(23, 59, 59, 500_000), time(1, 1, 1, 1)]
    pattern = f"^({'|'.join(map(str, times))})$"
    found = run(gxe.ExpectColumnValuesToMatchRegex(column="at", regex=pattern), frame=pl.DataFrame({"at": times}))
    assert found.success is True, found


# ---- proofs

PROOF_FORMATS: list[Any] = [
    *RESULT_FORMATS,
    {"result_format": "SUMMARY", "partial_unexpected_count": 0},
    {"result_format": "COMPLETE", "unexpected_index_column_names": ["upc"], "exclude_unexpected_values": True},
]


def proven(compiled: CompiledSuite, frame: pl.DataFrame = BOOKS) -> dict[str, Any] | None:
    """By a proof that has been JSON, as one from the lake has."""
    return Proof.from_json(json.loads(json.dumps(compiled.proof().to_json()))).prove(frame)


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    times = {"run_id", "validation_time"}
    return {**result, "meta": {name: value for name, value in result["meta"].items() if name not in times}}


@pytest.mark.parametrize("form", PROOF_FORMATS, ids=str)
@pytest.mark.parametrize("expectation", PROVABLE, ids=lambda each: type(each).__name__)
def test_a_proof_says_what_great_expectations_would_say(expectation: Any, form: Any) -> None:
    compiled = CompiledSuite(suite(expectation), form)
    found = proven(compiled)
    assert found is not None
    assert without_times(found) == without_times(json.loads(json.dumps(result_of(compiled))))


def test_a_proof_of_many_expectations_is_one_result() -> None:
    compiled = CompiledSuite(suite(*PROVABLE))
    assert without_times(proven(compiled) or {}) == without_times(result_of(compiled))


values = st.one_of(st.none(), st.integers(-3, 3))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.tuples(values, values, st.sampled_from([None, "x", "y", "xy"])), max_size=8),
    low=st.integers(-3, 3),
    mostly=st.sampled_from([0.3, 0.5, 1]),
    form=st.sampled_from(RESULT_FORMATS),
)
def test_a_proof_never_says_what_great_expectations_would_not(rows: Any, low: int, mostly: float, form: str) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64, "t": pl.String}, orient="row")
    compiled = CompiledSuite(
        suite(
            gxe.ExpectColumnValuesToBeBetween(column="a", min_value=low, mostly=mostly),
            gxe.ExpectColumnValuesToBeUnique(column="t", mostly=mostly),
            gxe.ExpectColumnPairValuesToBeEqual(
                column_A="a", column_B="b", mostly=mostly, ignore_row_if="both_values_are_missing"
            ),
            gxe.ExpectColumnValuesToNotBeNull(column="t", mostly=mostly),
        ),
        form,
    )
    expected, found = result_of(compiled, frame), proven(compiled, frame)
    assert (found is not None) == expected["success"]
    if found:
        assert without_times(found) == without_times(json.loads(json.dumps(expected)))


@pytest.mark.parametrize(
    "expectation",
    [
        gxe.ExpectColumnValuesToBeUnique(column="upc"),
        gxe.ExpectColumnMaxToBeBetween(column="price", max_value=98.9),
        gxe.ExpectColumnMaxToBeBetween(column="absent", max_value=98.9),
        gxe.ExpectTableRowCountToEqual(value=7),
        gxe.ExpectColumnToExist(column="upc", column_index=1),
        gxe.ExpectColumnValuesToBeOfType(column="price", type_="str"),
        gxe.ExpectTableColumnsToMatchSet(column_set=["upc"]),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="currency", value_set=["EUR", "USD"]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_fails_is_not_proved(expectation: Any) -> None:
    compiled = CompiledSuite(suite(gxe.ExpectColumnToExist(column="upc"), expectation))
    assert proven(compiled) is None
    assert compiled.run(BOOKS).success is False


@pytest.mark.parametrize(
    "expectation",
    [
        ExpectPriceToBeWhatIsSaid(column="price", said=False, min_value=0),
        ExpectPriceToBeWhatIsSaid(column="price", said=True, min_value=0),
        ExpectColumnValuesToBeShouted(column="currency"),
        ExpectColumnValuesToBeMultiples(column="stock"),
        gxe.ExpectColumnMaxToBeBetween(column="day", min_value=datetime(2020, 1, 1)),
    ],
    ids=["refuses", "agrees", "pandas", "polars", "dates"],
)
def test_what_is_not_great_expectations_own_is_never_proved(expectation: Any) -> None:
    compiled = CompiledSuite(suite(gxe.ExpectColumnToExist(column="upc"), expectation))
    assert proven(compiled) is None


def test_a_users_subclass_that_only_sets_defaults_is_proved() -> None:
    compiled = CompiledSuite(suite(ExpectPriceToBeSane(mostly=0.5)))
    assert proven(compiled) is not None


def test_values_that_json_has_not_are_left_to_great_expectations() -> None:
    frame = pl.DataFrame({"price": [Decimal("1.5"), Decimal("2.5")]})
    compiled = CompiledSuite(suite(gxe.ExpectColumnValuesToBeBetween(column="price", max_value=2, mostly=0.5)))
    assert proven(compiled, frame) is None
    assert compiled.run(frame).success is True


def test_proving_and_looking_at_what_is_offered_import_no_great_expectations(tmp_path: Path) -> None:
    proof, books = tmp_path / "proof.json", tmp_path / "books.parquet"
    proof.write_text(json.dumps(CompiledSuite(suite(*PROVABLE)).proof().to_json()))
    BOOKS.write_parquet(books)
    script = f"""
        import json, sys
        import polars as pl
        import gossamer.quality
        from gossamer.quality.gx.proof import Proof
        found = Proof.from_json(json.load(open({str(proof)!r}))).prove(pl.scan_parquet({str(books)!r}))
        assert found and found["success"]
        print({{"great_expectations", "pandas", "scipy"}} & set(sys.modules))
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
