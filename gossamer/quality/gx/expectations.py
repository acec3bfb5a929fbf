"""The expectations of Great Expectations that ask what engine they run on, taught Polars.

Each is a subclass under its parent's name, which Great Expectations' registry then takes for it; on any other engine it
does what its parent does.
"""

# mypy: allow-subclassing-any

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import polars as pl

from gossamer.quality.gx.literal import as_written
from gossamer.quality.gx.plan import UnknownColumnError
from gossamer.quality.gx.private import core_expectations
from gossamer.quality.gx.types import ALIASES, is_known, type_names

_MODES = "column.most_common_value"


def _judged(
    metrics: dict[str, Any], column: str, expected: list[str] | None, *, of_values: bool = True
) -> dict[str, Any]:
    types = {each["name"]: each["type"] for each in metrics["table.column_types"]}
    alike = [name for name in types if name.casefold() == column.casefold()]
    if not alike:
        raise UnknownColumnError(column)
    found = types[column if column in types else alike[0]]
    met = expected is None or not type_names(found).isdisjoint(expected) or (of_values and found == pl.Null)
    return {"success": met, "result": {"observed_value": str(found)}}


def _is_polars(engine: Any) -> bool:
    return any(kind.__name__ == "PolarsExecutionEngine" for kind in type(engine).__mro__)


@contextmanager
def _overwriting() -> Iterator[None]:
    """Great Expectations warns of each declaration that is overwritten, which is meant here."""
    registry = logging.getLogger("great_expectations.expectations.registry")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        yield
    finally:
        registry.setLevel(level)


with _overwriting():

    class ExpectColumnValuesToBeOfType(core_expectations.ExpectColumnValuesToBeOfType):
        """Polars columns have one type: it is the column's that is judged."""

        def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
            if not _is_polars(execution_engine):
                return super()._validate(metrics, runtime_configuration, execution_engine)
            return _judged(metrics, self.column, [self.type_])

    class ExpectColumnValuesToBeInTypeList(core_expectations.ExpectColumnValuesToBeInTypeList):
        """The same for several types."""

        def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
            if not _is_polars(execution_engine):
                return super()._validate(metrics, runtime_configuration, execution_engine)
            return _judged(metrics, self.column, self.type_list)

    class ExpectColumnQuantileValuesToBeBetween(core_expectations.ExpectColumnQuantileValuesToBeBetween):
        """On every engine, its success is numpy's bool, which marshmallow 4 does not write as JSON."""

        def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
            found = super()._validate(metrics, runtime_configuration, execution_engine)
            return {**found, "success": bool(found["success"])}

    class ExpectColumnMostCommonValueToBeInSet(core_expectations.ExpectColumnMostCommonValueToBeInSet):
        """It compares itself, by hashes: a decimal of the set has to be the very value that the set holds."""

        def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
            if _is_polars(execution_engine):
                written = {as_written(value): value for value in self.configuration.kwargs.get("value_set") or []}
                found = metrics[_MODES]
                modes = [written.get(each, each) if isinstance(each, Decimal) else each for each in found]
                metrics = {**metrics, _MODES: modes}
            return super()._validate(metrics, runtime_configuration, execution_engine)

    if hasattr(core_expectations, "ExpectColumnTypeToBe"):  # since 1.24

        class ExpectColumnTypeToBe(core_expectations.ExpectColumnTypeToBe):
            """The type that the schema says."""

            def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
                if not _is_polars(execution_engine):
                    return super()._validate(metrics, runtime_configuration, execution_engine)
                if not is_known(self.type_):
                    raise ValueError(f"Unrecognized type: {self.type_}; Polars calls its types {', '.join(ALIASES)}")
                return _judged(metrics, self.column, [self.type_], of_values=False)
