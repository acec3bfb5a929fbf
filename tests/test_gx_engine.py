"""Great Expectations' own front doors on Polars frames: contexts, definitions, checkpoints and pages as they are."""

import re
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import polars as pl
import pytest
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions.exceptions import BuildBatchRequestError
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from gossamer.quality import CompiledSuite, PolarsDatasource, PolarsExecutionEngine  # they make `add_polars` be there
from gossamer.quality.gx.private import CHECKED
from tests.gx_books import BOOKS, PROVABLE, ROWS, ExpectColumnValuesToBeShouted

EXPECTATIONS = [
    gxe.ExpectTableRowCountToEqual(value=6),
    gxe.ExpectColumnValuesToBeUnique(column="upc", severity=FailureSeverity.WARNING),
    gxe.ExpectColumnQuantileValuesToBeBetween(
        column="price", quantile_ranges={"quantiles": [0.5], "value_ranges": [[1, 50]]}
    ),
]


def suite() -> gx.ExpectationSuite:
    return gx.ExpectationSuite(name="books", expectations=[copy(each) for each in EXPECTATIONS])


def quiet(context: Any) -> Any:
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


@pytest.fixture
def context() -> Any:
    return quiet(gx.get_context(mode="ephemeral"))


def batches(context: Any, **options: Any) -> Any:
    datasource: PolarsDatasource = context.data_sources.add_polars("polars", **options)
    return datasource.add_frame_asset("books").add_batch_definition_whole_frame("whole")


def validated(context: Any, *expectations: Any, frame: Any = BOOKS, form: Any = "SUMMARY", **options: Any) -> Any:
    suite = gx.ExpectationSuite(name="books", expectations=list(expectations))
    return batches(context, **options).get_batch({"dataframe": frame}).validate(suite, result_format=form)


@pytest.mark.parametrize("frame", [BOOKS, BOOKS.lazy()], ids=["frame", "lazy"])
def test_a_validation_definition_runs_on_frames(context: Any, frame: Any) -> None:
    definition = gx.ValidationDefinition(name="books", data=batches(context), suite=context.suites.add(suite()))
    found = context.validation_definitions.add(definition).run(batch_parameters={"dataframe": frame})
    assert {result.expectation_config.type: result.success for result in found.results} == {
        "expect_table_row_count_to_equal": True,
        "expect_column_values_to_be_unique": False,
        "expect_column_quantile_values_to_be_between": True,
    }
    assert found.to_json_dict()["meta"]["batch_spec"]["batch_data"] == f"Polars{type(frame).__name__}"


def test_a_file_context_reads_polars_back_and_draws_data_docs(tmp_path: Path) -> None:
    context = quiet(gx.get_context(mode="file", project_root_dir=tmp_path))
    batches(context, strict=True)
    parquet = context.data_sources.get("polars").add_parquet_asset("files", path=str(tmp_path / "{day}.parquet"))
    parquet.add_batch_definition_path("one")
    BOOKS.write_parquet(tmp_path / "monday.parquet")

    again = quiet(gx.get_context(mode="file", project_root_dir=tmp_path))
    datasource = again.data_sources.get("polars")
    assert datasource.strict is True
    data = datasource.get_asset("files").get_batch_definition("one")
    definition = again.validation_definitions.add(
        gx.ValidationDefinition(name="books", data=data, suite=again.suites.add(suite()))
    )
    checkpoint = again.checkpoints.add(
        gx.Checkpoint(name="books", validation_definitions=[definition], actions=[UpdateDataDocsAction(name="docs")])
    )
    found = checkpoint.run(batch_parameters={"day": "monday"})
    assert found.success is False
    pages = list((tmp_path / "gx" / "uncommitted" / "data_docs").rglob("validations/**/*.html"))
    assert any("expect" in page.read_text() or "unique" in page.read_text() for page in pages)


def test_parquet_files_are_validated_by_pattern_and_by_parameter(context: Any, tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        BOOKS.write_parquet(tmp_path / f"{day}.parquet")
    datasource = context.data_sources.add_polars("polars")
    rows = gxe.ExpectTableRowCountToEqual(value=12)
    every = datasource.add_parquet_asset("every", path=str(tmp_path / "*.parquet")).add_batch_definition_path("all")
    assert every.get_batch().validate(rows).success is True
    asset = datasource.add_parquet_asset("one", path=str(tmp_path / "{day}.parquet"))
    one = asset.add_batch_definition_path("day").get_batch({"day": "monday"})
    assert one.validate(rows).result["observed_value"] == 6
    assert "monday" in one.id
    with pytest.raises(BuildBatchRequestError, match="Batch parameters of asset one: day"):
        asset.build_batch_request({})


def test_what_is_no_polars_frame_is_refused(context: Any) -> None:
    with pytest.raises(BuildBatchRequestError, match="DataFrame or LazyFrame, not list"):
        batches(context).get_batch({"dataframe": [1, 2]})


def test_both_doors_say_the_same(context: Any) -> None:
    expectations = [*ROWS, *PROVABLE, gxe.ExpectColumnMaxToBeBetween(column="absent", max_value=1)]
    through_context: Any = validated(context, *expectations, form="COMPLETE").to_json_dict()["results"]
    suite = gx.ExpectationSuite(name="books", expectations=expectations)
    compiled: Any = CompiledSuite(suite, "COMPLETE").run(BOOKS).to_json_dict()["results"]  # type: ignore[no-untyped-call]

    def said(results: list[dict[str, Any]]) -> list[str]:
        return sorted(
            repr(
                (r["expectation_config"]["type"], r["success"], r["result"], "raised_exception" in r["exception_info"])
            )
            for r in results
        )

    assert said(through_context) == said(compiled)


def test_missing_columns_are_each_named_in_their_own_result(context: Any) -> None:
    found = validated(
        context,
        gxe.ExpectColumnValuesToBeUnique(column="isbn"),
        gxe.ExpectColumnMaxToBeBetween(column="title", max_value=3),
        gxe.ExpectColumnValuesToNotBeNull(column="currency", mostly=0.5),
    )
    said = {r.expectation_config.kwargs["column"]: str(r.exception_info) for r in found.results}
    assert 'The column "isbn" in BatchData does not exist.' in said["isbn"]
    assert "title" not in said["isbn"]
    assert 'The column "title" in BatchData does not exist.' in said["title"]
    assert [r.success for r in found.results if r.expectation_config.kwargs["column"] == "currency"] == [True]


def test_what_goes_through_pandas_is_counted_in_the_result_and_refused_by_a_strict_datasource(context: Any) -> None:
    words = pl.DataFrame({"word": ["HEY", "hey"]})
    shouted = ExpectColumnValuesToBeShouted(column="word")
    found = validated(context, shouted, frame=words)
    assert found.meta["batch_markers"]["pandas_fallbacks"] == ["column_values.are_shouted.condition"]
    assert found.results[0].result["unexpected_count"] == 1
    strict = validated(quiet(gx.get_context(mode="ephemeral")), shouted, frame=words, strict=True)
    assert "is not computed by Polars" in str(strict.results[0].exception_info)
    assert strict.meta["batch_markers"]["pandas_fallbacks"] == []


def test_threads_validate_different_frames_of_one_asset(context: Any) -> None:
    definition = batches(context)

    def rows(number: int) -> int:
        batch = definition.get_batch({"dataframe": BOOKS.head(number)})
        count: int = batch.validate(gxe.ExpectTableRowCountToBeBetween(min_value=0)).result["observed_value"]
        return count

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(rows, [1, 2, 3, 4, 5, 6] * 3)) == [1, 2, 3, 4, 5, 6] * 3


MOMENTS = pl.DataFrame(
    {
        "day": [date(2026, 1, 1), date(2026, 2, 1), None],
        "at": [datetime(2026, 1, 1, 10), datetime(2026, 2, 1), None],
        "there": [datetime(2026, 1, 1, 10, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), None],
        "number": [1, 2, 3],
        "Price in €": [1.5, 2.5, 3.5],
    }
)


@pytest.mark.parametrize(
    ("condition", "parser", "rows"),
    [
        (Column("number") > 1, None, 2),
        ((Column("number") == 1) | (Column("number") == 3), None, 2),
        ((Column("number") >= 2) & Column("day").is_null(), None, 1),
        (Column("number").is_in([1, 9]), None, 1),
        (Column("number").is_not_in([1, 9]), None, 2),
        (Column("day") > date(2026, 1, 15), None, 1),
        (Column("at") <= datetime(2026, 1, 1, 10), None, 1),
        (Column("there") < datetime(2026, 2, 1, tzinfo=UTC), None, 1),
        ('col("number") > 2', "great_expectations", 1),
        ('col("day").notnull()', "great_expectations", 2),
        ("number > 1 and day.notnull()", "pandas", 1),
        ("number in [1, 3] or `Price in €` == 2.5", "pandas", 3),
        ("not (1 < number <= 2)", "pandas", 2),
        ("at > '2026-01-15'", "pandas", 1),
        ("number > 1 AND day IS NOT NULL", "spark", 1),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*row_condition|.*condition_parser:DeprecationWarning")
def test_a_row_condition_chooses_the_rows_that_count(condition: Any, parser: Any, rows: int, context: Any) -> None:
    options = {"condition_parser": parser} if parser else {}
    expectation = gxe.ExpectTableRowCountToEqual(value=rows, row_condition=condition, **options)
    result = validated(context, expectation, frame=MOMENTS).results[0]
    assert result.success is True, result


@pytest.mark.parametrize(
    ("condition", "parser", "said"),
    [
        ("number ? 1", None, "is not SQL that Polars reads"),
        ("number.str.len() > 1", "pandas", "this pandas query is not read here"),
        ("number in 'abc'", "pandas", "this pandas query is not read here"),
        ("number not in day", "pandas", "this pandas query is not read here"),
        ("number and day.isnull()", "pandas", "this pandas query is not read here"),
        (Column("absent") > 1, None, 'the column "absent" does not exist'),
    ],
)
@pytest.mark.filterwarnings("ignore:.*row_condition|.*condition_parser:DeprecationWarning")
def test_a_row_condition_that_cannot_be_read_says_so(condition: Any, parser: Any, said: str, context: Any) -> None:
    options = {"condition_parser": parser} if parser else {}
    expectation = gxe.ExpectTableRowCountToEqual(value=1, row_condition=condition, **options)
    result = validated(context, expectation, frame=MOMENTS).results[0]
    assert said in str(result.exception_info)


@pytest.fixture
def engine() -> PolarsExecutionEngine:
    engine = PolarsExecutionEngine()
    engine.load_batch_data("books", BOOKS)
    return engine


def test_an_engine_alone_computes_metrics(engine: PolarsExecutionEngine) -> None:
    from great_expectations.validator.metric_configuration import MetricConfiguration

    metric = MetricConfiguration("column.max", {"column": "stock"}, {})
    assert engine.resolve_metrics([metric]) == {metric.id: 5}
    engine.load_batch_data("books", BOOKS.head(2))
    assert engine.resolve_metrics([metric]) == {metric.id: 1}
    assert engine.fallbacks == []


def test_the_version_of_great_expectations_is_one_that_was_checked() -> None:
    numbers = [tuple(map(int, version.split("."))) for version in (CHECKED[0], gx.__version__)]
    assert numbers[0] <= numbers[1], "older than what is supported: see gossamer/quality/gx/private.py"


def test_the_examples_of_the_documentation_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parent.parent / "docs" / "great-expectations.md"
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        exec(block, said)
    assert said["result"]["success"] is True
