"""Metrics that Polars does not compute: Great Expectations' pandas metrics, and those that users wrote for pandas.

They run unchanged on the columns that they ask for, taken over into pandas; of a condition, only the condition itself
is pandas's, and rows are counted and shown by Polars. Every metric for which data went through pandas is counted and
logged; a strict engine refuses.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gossamer.errors import GossamerError
from gossamer.quality.gx import private
from gossamer.quality.gx.plan import ROW, Ask, Asked, Table

if TYPE_CHECKING:
    import pandas as pd

    from gossamer.quality.gx.engine import PolarsExecutionEngine

logger = logging.getLogger(__name__)


class NotInPolarsError(GossamerError):
    """A metric that only pandas could compute, asked of a strict engine; or that nothing can."""


class PandasMetrics:
    """The fallback of one engine."""

    def __init__(self, engine: "PolarsExecutionEngine", runtime: Mapping[str, Any] | None) -> None:
        self.engine, self.runtime = engine, dict(runtime or {})
        self.current = ""

    def rows(self, ask: Ask) -> Sequence[int]:
        base = ask.of_condition[0] if ask.of_condition else ask.name
        value = {name: given for name, given in ask.value.items() if name != "result_format"}
        unmet, _, _ = self.value(Ask((ask.id, "condition"), f"{base}.condition", ask.domain, value))
        if not hasattr(unmet, "index"):
            raise NotInPolarsError(f"{base}: its pandas condition gave no Series, so that its rows are not known.")
        return [int(number) for number in unmet.index[unmet.eq(True)]]

    def value(self, ask: Ask) -> Any:
        provider = private.pandas_provider(ask.name)
        if provider is None:
            raise NotInPolarsError(f"No provider found for {ask.name} using PolarsExecutionEngine, nor for pandas.")
        kind, function = provider
        metric = private.MetricConfiguration(ask.name, dict(ask.domain), {**private.defaults(ask.name), **ask.value})
        cache = self.engine.computed
        if metric.id not in cache:
            needed = kind.get_evaluation_dependencies(
                metric=metric, execution_engine=self.engine, runtime_configuration=self.runtime
            )
            metrics = {name: self.engine.value(each) for name, each in needed.items()}
            before, self.engine.in_pandas = self.engine.in_pandas, ask.name
            try:
                cache[metric.id] = function(
                    cls=kind,
                    execution_engine=self.engine,
                    metric_domain_kwargs=metric.metric_domain_kwargs,
                    metric_value_kwargs=metric.metric_value_kwargs,
                    metrics=metrics,
                    runtime_configuration=self.runtime,
                )
            finally:
                self.engine.in_pandas = before
        return cache[metric.id]


def to_pandas(table: Table, domain: Mapping[str, Any]) -> "pd.DataFrame":
    """The rows of a domain, of the columns that it names (all, if none), under their numbers in the frame."""
    asked = Asked(table, Ask(None, "", domain))
    columns = asked.columns or list(table.schema)
    rows = asked.domain.of(table, numbered=True).select(ROW, *columns).collect()
    found = rows.drop(ROW).to_pandas()
    found.index = rows[ROW].to_list()
    return found
