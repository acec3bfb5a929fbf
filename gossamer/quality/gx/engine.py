"""Front door A: an execution engine of Great Expectations that computes in Polars.

It says to Great Expectations how a batch is loaded and how metrics are resolved; what they are and how they are
computed is `plan`'s and `resolve`'s. An engine is made for each batch: nothing is shared between validations.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import polars as pl

from gossamer.quality.gx import expectations  # noqa: F401  importing it registers them
from gossamer.quality.gx.fallback import NotInPolarsError, PandasMetrics, to_pandas
from gossamer.quality.gx.plan import CONDITIONS, COUNT, MEASURES, SUFFIXES, Ask, Table
from gossamer.quality.gx.private import (
    BatchData,
    BatchMarkers,
    ExecutionEngine,
    MetricConfiguration,
    MetricResolutionError,
    RuntimeDataBatchSpec,
    register,
)
from gossamer.quality.gx.resolve import resolve
from gossamer.quality.gx.row_condition import clause

logger = logging.getLogger(__name__)

Frame = pl.DataFrame | pl.LazyFrame


class PolarsBatchData(BatchData):
    """A frame, as Great Expectations holds it."""

    def __init__(self, execution_engine: "PolarsExecutionEngine", frame: Frame) -> None:
        super().__init__(execution_engine=execution_engine)
        self.table = Table(frame)


class PolarsExecutionEngine(ExecutionEngine[pl.Expr]):
    """Computes metrics in Polars.

    Attributes:
        fallbacks: names of the metrics for which data went through pandas, because Polars does not compute them. They
            are logged too, and stand in a result's `meta["batch_markers"]["pandas_fallbacks"]`.
        strict: such metrics fail instead.
    """

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        self.strict = strict
        self.fallbacks: list[str] = []
        #: Values of all metrics computed so far, by their ids.
        self.computed: dict[Any, Any] = {}
        self.errors: dict[Any, Exception] = {}
        #: The metric that runs in pandas now.
        self.in_pandas = ""
        super().__init__(*args, **kwargs)
        register(type(self), natives())

    # ---- batches

    def load_batch_data(self, batch_id: str, batch_data: Any) -> None:
        if isinstance(batch_data, pl.DataFrame | pl.LazyFrame):
            batch_data = PolarsBatchData(self, batch_data)
        if not isinstance(batch_data, PolarsBatchData):
            raise TypeError(f"PolarsExecutionEngine takes a Polars DataFrame or LazyFrame, not {type(batch_data)}")
        self.computed.clear()  # a batch of this name may have been another frame
        self.errors.clear()
        super().load_batch_data(batch_id=batch_id, batch_data=batch_data)

    def get_batch_data_and_markers(self, batch_spec: RuntimeDataBatchSpec) -> tuple[PolarsBatchData, BatchMarkers]:
        data = PolarsBatchData(self, batch_spec.batch_data)
        batch_spec.batch_data = f"Polars{type(batch_spec.batch_data).__name__}"  # JSON: it goes into results
        loaded = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        return data, BatchMarkers({"ge_load_time": loaded, "pandas_fallbacks": self.fallbacks})

    def table(self, domain: Mapping[str, Any] = MappingProxyType({})) -> Table:
        """The table of which a domain is a part: of the batch it names, or of the one that was loaded last."""
        batch = domain.get("batch_id") or self.batch_manager.active_batch_data_id
        data: Any = self.batch_manager.batch_data_cache[str(batch)]
        table: Table = data.table
        return table

    # ---- metrics

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: dict[Any, Any] | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """All of them at once; those that failed are said together, each with its own reason."""
        wanted = list(metrics_to_resolve)
        self.compute(wanted, runtime_configuration)
        failed = [metric for metric in wanted if metric.id in self.errors]
        if failed:
            # GX has one message for all metrics of an error, so one reason is raised at a time; it comes again
            reason = str(self.errors[failed[0].id])
            alike = [metric for metric in failed if str(self.errors[metric.id]) == reason]
            raise MetricResolutionError(message=reason, failed_metrics=alike) from self.errors[failed[0].id]
        return {metric.id: self.computed[metric.id] for metric in wanted}

    def compute(self, metrics: Iterable[MetricConfiguration], runtime: Mapping[str, Any] | None = None) -> None:
        """Computes what is not known yet: each metric is in `computed` or in `errors` then."""
        by_batch: dict[Any, list[Ask]] = {}
        for metric in metrics:
            if metric.id not in self.computed and metric.id not in self.errors:
                by_batch.setdefault(metric.metric_domain_kwargs.get("batch_id"), []).append(ask_of(metric))
        for asks in by_batch.values():
            found = resolve(self.table(asks[0].domain), asks, PandasMetrics(self, runtime))
            self.computed.update(found.values)
            self.errors.update(found.errors)

    def value(self, metric: MetricConfiguration) -> Any:
        """One metric on which another depends."""
        self.compute([metric])
        if metric.id in self.errors:
            raise self.errors[metric.id]
        return self.computed[metric.id]

    # ---- what pandas metrics ask of an engine

    def get_domain_records(self, domain_kwargs: dict[str, Any]) -> Any:
        name = self.in_pandas or "a metric"
        if self.strict:
            raise NotInPolarsError(
                f"{name} is not computed by Polars, and this engine is strict. Leave `strict` out to have it computed "
                "by Great Expectations' pandas metric, or take another expectation."
            )
        if name not in self.fallbacks:
            self.fallbacks.append(name)
            logger.warning("%s is not computed by Polars: data goes through Great Expectations' pandas metric", name)
        return to_pandas(self.table(domain_kwargs), domain_kwargs)

    def get_compute_domain(
        self, domain_kwargs: dict[str, Any], domain_type: Any, accessor_keys: Iterable[str] | None = None
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        parts = self._partition_domain_kwargs(domain_kwargs, domain_type, accessor_keys)
        return self.get_domain_records(domain_kwargs), parts.compute, parts.accessor

    # ---- row conditions, for whoever asks an engine for them

    def condition_to_filter_clause(self, condition: Any) -> pl.Expr:
        return clause(condition, None, self.table().schema)

    _comparison_condition_to_filter_clause = condition_to_filter_clause
    _nullity_condition_to_filter_clause = condition_to_filter_clause
    _and_condition_to_filter_clause = condition_to_filter_clause
    _or_condition_to_filter_clause = condition_to_filter_clause


def natives() -> dict[str, tuple[str, ...]]:
    """All metrics that Polars computes, with the arguments that their authors named."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(MEASURES, ())
    for base, condition in CONDITIONS.items():
        for suffix in SUFFIXES:
            counts = suffix in (COUNT, "filtered_row_count")
            found[f"{base}.{suffix}"] = condition.arguments if counts else (*condition.arguments, "result_format")
    return found


def ask_of(metric: MetricConfiguration) -> Ask:
    return Ask(metric.id, metric.metric_name, metric.metric_domain_kwargs, metric.metric_value_kwargs or {})
