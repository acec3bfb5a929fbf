"""All of Great Expectations that is not its public interface, and whether the installed version has it.

No other module imports a private name. What a version lacks is said when this module is imported. Newer versions than
were checked are taken as long as they have everything: CI runs GX's own tests on the newest.
"""

# mypy: disable-error-code="type-arg"

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from gossamer.errors import GossamerError

#: The oldest and the newest version that the tests were run on.
CHECKED = ("1.22.0", "1.24.1")


class GreatExpectationsVersionError(GossamerError):
    """The installed Great Expectations lacks something that this package is built on."""

    def __init__(self, lacking: str) -> None:
        super().__init__(
            f"great-expectations {version('great-expectations')} lacks {lacking}, on which its evaluation in Polars is "
            f"built. Install a version from {CHECKED[0]} to {CHECKED[1]}, on which it was checked."
        )


try:
    from great_expectations.compatibility import pydantic
    from great_expectations.core.batch import BatchData, BatchMarkers, LegacyBatchDefinition
    from great_expectations.core.batch_spec import RuntimeDataBatchSpec
    from great_expectations.core.id_dict import IDDict
    from great_expectations.core.metric_function_types import MetricFunctionTypes
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.datasource.fluent import BatchRequest
    from great_expectations.datasource.fluent.batch_identifier_util import make_batch_identifier
    from great_expectations.datasource.fluent.constants import _DATA_CONNECTOR_NAME as DATA_CONNECTOR_NAME
    from great_expectations.datasource.fluent.interfaces import Batch, DataAsset, Datasource
    from great_expectations.exceptions.exceptions import BuildBatchRequestError, MetricResolutionError
    from great_expectations.execution_engine import ExecutionEngine
    from great_expectations.expectations import core as _core
    from great_expectations.expectations import metrics as _core_metrics  # noqa: F401  importing registers them
    from great_expectations.expectations.expectation import (
        BatchExpectation,
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        Expectation,
        MulticolumnMapExpectation,
    )
    from great_expectations.expectations.expectation_configuration import parse_result_format
    from great_expectations.expectations.metrics.metric_provider import MetricProvider
    from great_expectations.expectations.registry import _registered_metrics, register_metric
    from great_expectations.validator.exception_info import ExceptionInfo
    from great_expectations.validator.metric_configuration import MetricConfiguration
    from great_expectations.validator.validator import calc_validation_statistics
except ImportError as error:
    raise GreatExpectationsVersionError(str(error)) from error

#: The expectations that come with it.
core_expectations: Any = _core

_METHODS: Mapping[type, tuple[str, ...]] = {
    ExecutionEngine: ("_partition_domain_kwargs", "batch_manager", "load_batch_data", "resolve_metrics"),
    Expectation: ("_get_result_format", "_get_success_kwarg", "_get_success_kwargs", "_validate", "configuration"),
    BatchExpectation: ("_validate_metric_value_between", "get_validation_dependencies"),
    ColumnMapExpectation: ("_validate",),
    ColumnPairMapExpectation: ("_validate",),
    MulticolumnMapExpectation: ("_validate",),
    MetricProvider: ("_get_evaluation_dependencies", "get_evaluation_dependencies"),
    DataAsset: ("_get_batch_metadata_from_batch_request", "add_batch_definition"),
    Datasource: ("_add_asset", "execution_engine_type", "get_execution_engine"),
}
_lacking = [
    f"{owner.__name__}.{name}" for owner, names in _METHODS.items() for name in names if not hasattr(owner, name)
]
if _lacking:
    raise GreatExpectationsVersionError(", ".join(_lacking))

__all__ = [
    "DATA_CONNECTOR_NAME",
    "Batch",
    "BatchData",
    "BatchExpectation",
    "BatchMarkers",
    "BatchRequest",
    "BuildBatchRequestError",
    "ColumnMapExpectation",
    "ColumnPairMapExpectation",
    "DataAsset",
    "Datasource",
    "ExceptionInfo",
    "ExecutionEngine",
    "Expectation",
    "IDDict",
    "LegacyBatchDefinition",
    "MetricConfiguration",
    "MetricResolutionError",
    "MulticolumnMapExpectation",
    "RunIdentifier",
    "RuntimeDataBatchSpec",
    "calc_validation_statistics",
    "core_expectations",
    "make_batch_identifier",
    "parse_result_format",
    "pydantic",
]

_PANDAS = "PandasExecutionEngine"


_COLUMN = ("batch_id", "table", "column", "row_condition", "condition_parser")
_PAIR = ("batch_id", "table", "column_A", "column_B", "row_condition", "condition_parser", "ignore_row_if")
_RECORD = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")
_DOMAINS = {"column_values": _COLUMN, "column": _COLUMN, "column_pair_values": _PAIR}


def register(engine: type[ExecutionEngine], natives: Mapping[str, tuple[str, ...]]) -> None:
    """Makes an engine known as one that has these metrics, with these arguments, and all others that pandas has.

    A metric of ours depends on no other, so that all metrics of a suite are asked for at once. Those of pandas are
    looked up anew at each call: users write metrics, at any time.
    """
    name = engine.__name__
    for metric, arguments in natives.items():
        if metric not in _native:
            _register_native(engine, metric, arguments)
    for metric, known in list(_registered_metrics.items()):
        if _PANDAS in known["providers"] and metric not in _native:
            known["providers"][name] = known["providers"][_PANDAS]


_native: set[str] = set()


def _register_native(engine: type[ExecutionEngine], metric: str, arguments: tuple[str, ...]) -> None:
    domain = _DOMAINS.get(metric.partition(".")[0], _RECORD)
    own = {"metric_domain_keys": domain, "metric_value_keys": arguments, "default_kwarg_values": {}}
    known = _registered_metrics.get(metric, own)
    provider = type(
        "PolarsMetricProvider",
        (MetricProvider,),
        {
            "domain_keys": tuple(known["metric_domain_keys"]),
            "value_keys": tuple(known["metric_value_keys"]),
            "default_kwarg_values": dict(known["default_kwarg_values"]),
            "_get_evaluation_dependencies": classmethod(lambda *_, **__: {}),
        },
    )
    _native.add(metric)
    register_metric(
        metric_name=metric,
        metric_domain_keys=known["metric_domain_keys"],
        metric_value_keys=known["metric_value_keys"],
        execution_engine=engine,
        metric_class=provider,
        metric_provider=_answered_by_engine,
        metric_fn_type=MetricFunctionTypes.VALUE,
    )


def _answered_by_engine(*_: Any, **__: Any) -> Any:
    raise RuntimeError("PolarsExecutionEngine.resolve_metrics answers this metric itself")


def pandas_provider(metric: str) -> tuple[type[MetricProvider], Any] | None:
    """What Great Expectations, or a user, wrote for pandas: the class of a metric and its function."""
    known = _registered_metrics.get(metric)
    return known["providers"].get(_PANDAS) if known else None


def defaults(metric: str) -> Mapping[str, Any]:
    """What the arguments of a metric are where they are not given."""
    known = _registered_metrics.get(metric)
    return {name: value for name, value in known["default_kwarg_values"].items() if value is not None} if known else {}
