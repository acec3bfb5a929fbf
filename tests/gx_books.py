"""Books, and expectations of them: what Great Expectations ships, and what its users write."""

from datetime import date
from typing import Any

import great_expectations.expectations as gxe
import polars as pl
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.metrics import ColumnMapMetricProvider, column_condition_partial
from great_expectations.expectations.row_conditions import Column

from gossamer.quality.gx.plan import Asked, condition

BOOKS = pl.DataFrame(
    {
        "upc": ["a1", "b2", "c3", "c3", None, "e5"],
        "price": [10.0, 20.5, None, 7.25, float("nan"), 99.0],
        "old_price": [11.0, 20.5, 3.0, None, 1.0, 98.0],
        "stock": [1, 0, 3, 3, 5, None],
        "currency": ["EUR", "EUR", "USD", "EUR", None, "GBP"],
        "day": [date(2026, 11, 21), date(2026, 11, 20), None, date(2026, 11, 21), date(2026, 1, 1), date(2026, 11, 21)],
    }
)

#: Expectations of rows, most of which some books do not meet.
ROWS = [
    gxe.ExpectColumnValuesToBeUnique(column="upc"),
    gxe.ExpectColumnValuesToBeBetween(column="price", min_value=8, max_value=50, strict_min=True),
    gxe.ExpectColumnValuesToBeInSet(column="currency", value_set=["EUR", "USD"], mostly=0.5),
    gxe.ExpectColumnValuesToMatchRegex(column="upc", regex="^[a-c]"),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="old_price", column_B="price", or_equal=True),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="old_price", column_B="price", ignore_row_if="either_value_is_missing"
    ),
    gxe.ExpectCompoundColumnsToBeUnique(column_list=["upc", "currency"], ignore_row_if="any_value_is_missing"),
    gxe.ExpectColumnValuesToBeIncreasing(column="stock"),
    gxe.ExpectColumnValuesToBeBetween(column="stock", min_value=1, row_condition=Column("currency") == "EUR"),
]

#: Expectations that the books meet, all of a kind that can be proved.
PROVABLE: list[Any] = [
    gxe.ExpectTableRowCountToBeBetween(min_value=1, max_value=10),
    gxe.ExpectTableRowCountToEqual(value=6),
    gxe.ExpectTableColumnCountToEqual(value=6),
    gxe.ExpectTableColumnCountToBeBetween(min_value=1, max_value=None),
    gxe.ExpectTableColumnsToMatchOrderedList(column_list=BOOKS.columns),
    gxe.ExpectTableColumnsToMatchSet(column_set=["upc", "price"], exact_match=False),
    gxe.ExpectTableColumnsToMatchSet(column_set=BOOKS.columns),
    gxe.ExpectColumnToExist(column="upc", column_index=0),
    gxe.ExpectColumnToExist(column="stock", column_index=3),
    gxe.ExpectColumnValuesToNotBeNull(column="price", mostly=0.5),
    gxe.ExpectColumnValuesToBeNull(column="price", mostly=0.1, severity=FailureSeverity.INFO),
    gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, max_value=50, mostly=0.7),
    gxe.ExpectColumnValuesToBeInSet(column="currency", value_set=["EUR", "USD", "GBP"]),
    gxe.ExpectColumnValuesToMatchRegex(column="upc", regex="^[a-e][0-9]$", meta={"why": "an upc"}),
    gxe.ExpectColumnValuesToBeUnique(column="upc", mostly=0.5),
    gxe.ExpectColumnValuesToBeBetween(column="stock", min_value=0, row_condition=Column("currency") == "EUR"),
    gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="old_price", column_B="price", or_equal=True, ignore_row_if="either_value_is_missing", mostly=0.6
    ),
    gxe.ExpectCompoundColumnsToBeUnique(column_list=["upc", "price"], ignore_row_if="any_value_is_missing"),
    gxe.ExpectColumnMaxToBeBetween(column="price", max_value=100),
    gxe.ExpectColumnMeanToBeBetween(column="price", min_value=1),
    gxe.ExpectColumnMedianToBeBetween(column="price", min_value=1, strict_min=True),
    gxe.ExpectColumnSumToBeBetween(column="stock", min_value=12, max_value=12),
    gxe.ExpectColumnUniqueValueCountToBeBetween(column="currency", min_value=3, max_value=3),
    gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column="currency", min_value=0.1),
    gxe.ExpectColumnDistinctValuesToBeInSet(column="currency", value_set=["EUR", "USD", "GBP", "PLN"]),
    gxe.ExpectColumnDistinctValuesToEqualSet(column="currency", value_set=["EUR", "USD", "GBP"]),
    gxe.ExpectColumnDistinctValuesToContainSet(column="currency", value_set=["EUR"]),
    gxe.ExpectColumnQuantileValuesToBeBetween(
        column="price", quantile_ranges={"quantiles": [0.25, 0.75], "value_ranges": [[1, 30], [None, 90]]}
    ),
    gxe.ExpectColumnValuesToBeOfType(column="price", type_="float64"),
    gxe.ExpectColumnValuesToBeInTypeList(column="upc", type_list=["str", "Int64"]),
    gxe.ExpectColumnValuesToBeBetween(
        column="day", min_value=date(2020, 1, 1), max_value=date(2026, 11, 20), mostly=0.3
    ),
]
if hasattr(gxe, "ExpectColumnTypeToBe"):  # not in every version
    PROVABLE.append(gxe.ExpectColumnTypeToBe(column="stock", type_="Int64"))


class ColumnValuesAreShouted(ColumnMapMetricProvider):
    """As users write them: for pandas."""

    condition_metric_name = "column_values.are_shouted"
    condition_value_keys = ("ending",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: Any, ending: str = "", **kwargs: Any) -> Any:  # noqa: N805
        return column.str.upper().eq(column) & column.str.endswith(ending)


class ExpectColumnValuesToBeShouted(ColumnMapExpectation):
    map_metric = "column_values.are_shouted"
    success_keys = ("ending", "mostly")
    ending: str = ""


@condition("column_values.are_multiples", arguments=["of"])
def are_multiples(asked: Asked) -> pl.Expr:
    """As users write them: for Polars."""
    return asked.column.mod(asked.get("of", 1)).eq(0)


class ExpectColumnValuesToBeMultiples(ColumnMapExpectation):
    map_metric = "column_values.are_multiples"
    success_keys = ("of", "mostly")
    of: int = 1


class ExpectPriceToBeSane(gxe.ExpectColumnValuesToBeBetween):
    """As users write them: an expectation of Great Expectations with their own defaults."""

    column: str = "price"
    max_value: float = 50.0


class ExpectPriceToBeWhatIsSaid(gxe.ExpectColumnValuesToBeBetween):
    """One that judges by itself, whatever was measured."""

    said: bool = False

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
        return {"success": self.said, "result": {}}
