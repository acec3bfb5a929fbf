"""Front door B: a suite that is compiled once and run on many frames, without context, validator or checkpoint.

Great Expectations' classes say what metrics an expectation needs and whether these meet it, Polars computes them, and
the results are Great Expectations' own objects.
"""

import traceback
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import great_expectations as gx
import polars as pl
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult

from gossamer.errors import GossamerError
from gossamer.quality.gx import private, rows
from gossamer.quality.gx.engine import Frame, PolarsExecutionEngine, ask_of
from gossamer.quality.gx.fallback import PandasMetrics
from gossamer.quality.gx.plan import COUNT, Ask

if TYPE_CHECKING:
    from gossamer.quality.gx.proof import Proof

_BATCH = "frame"


class CompilationError(GossamerError):
    """A suite that cannot be compiled."""


@dataclass(frozen=True)
class Compiled:
    """One expectation of a suite.

    Attributes:
        metrics: those it needs, by the name under which it asks for them; None where that depends on the data.
        judges_rows: asks how many rows do not meet it, for an expectation of rows.
    """

    expectation: Any
    configuration: Any
    metrics: Mapping[str, Any] | None
    judges_rows: Ask | None


class CompiledSuite:
    """A suite of expectations, ready to be run on frames, by several threads at once.

    Args:
        suite: may hold expectations of any kind; suite parameters must have been filled in.
        result_format: as in Great Expectations.
        strict: an expectation of which Polars does not compute a metric fails, instead of having it computed by Great
            Expectations' pandas metric (which is logged, and listed in the result's `meta["batch_markers"]`).
    """

    def __init__(
        self, suite: gx.ExpectationSuite, result_format: str | Mapping[str, Any] = "SUMMARY", *, strict: bool = False
    ) -> None:
        self.name: str = suite.name
        self.strict = strict
        given = result_format if isinstance(result_format, str) else dict(result_format)
        self.result_format: dict[str, Any] = private.parse_result_format(getattr(given, "value", given))
        engine = PolarsExecutionEngine(strict=strict)
        self.expectations = [self._compile(expectation, engine) for expectation in suite.expectations]

    def _compile(self, expectation: Any, engine: PolarsExecutionEngine) -> Compiled:
        if expectation.suite_parameter_options:
            names = ", ".join(expectation.suite_parameter_options)
            raise CompilationError(
                f"{self.name}: {expectation.expectation_type} takes suite parameters ({names}): fill them in"
            )
        configuration = expectation.configuration
        expectation = configuration.to_domain_obj()  # the class that is registered for the name, as a Validator has it
        try:
            metrics = self._metrics(expectation, engine)
        except Exception:  # noqa: BLE001  it looks at the data to know: asked again when there is some
            return Compiled(expectation, configuration, None, None)
        counted = metrics.get(f"{getattr(expectation, 'map_metric', None)}.{COUNT}")
        return Compiled(expectation, configuration, metrics, ask_of(counted) if counted else None)

    def _metrics(self, expectation: Any, engine: PolarsExecutionEngine) -> Mapping[str, Any]:
        runtime = {"result_format": deepcopy(self.result_format)}
        needed = expectation.get_validation_dependencies(execution_engine=engine, runtime_configuration=runtime)
        found: Mapping[str, Any] = needed.metric_configurations
        return found

    def run(self, frame: Frame, *, meta: Mapping[str, Any] | None = None) -> ExpectationSuiteValidationResult:
        """Validates a frame; results come in the order of the suite. `meta` is added to the result's."""
        engine = self._engine(frame)
        needed = {m.id: m for each in self.expectations for m in (each.metrics or {}).values()}
        engine.compute(needed.values())
        results = [self._result(each, engine) for each in self.expectations]
        return self.gathered(results, f"Polars{type(frame).__name__}", engine.fallbacks, meta)

    def gathered(
        self,
        results: list[ExpectationValidationResult],
        data: str,
        fallbacks: list[str],
        meta: Mapping[str, Any] | None = None,
    ) -> ExpectationSuiteValidationResult:
        """The suite's result, of those of its expectations."""
        found, now = private.calc_validation_statistics(results), datetime.now(UTC)
        return ExpectationSuiteValidationResult(
            results=results,
            success=bool(found.success),
            suite_name=self.name,
            statistics={
                "evaluated_expectations": found.evaluated_expectations,
                "successful_expectations": found.successful_expectations,
                "unsuccessful_expectations": found.unsuccessful_expectations,
                "success_percent": found.success_percent,
            },
            meta={
                "great_expectations_version": gx.__version__,
                "run_id": private.RunIdentifier(run_time=now),
                "validation_time": now,
                "batch_spec": {"batch_data": data},
                "batch_markers": {"pandas_fallbacks": fallbacks},
                "active_batch_definition": {},
                **(meta or {}),  # type: ignore[typeddict-item]
            },
        )

    def failing_rows(self, frame: Frame, numbers: Collection[int] | None = None) -> pl.DataFrame:
        """The rows that do not meet expectations of rows, whatever their `mostly`.

        Returns columns `row` (position in the frame, UInt32) and `expectation` (position in the suite, UInt16), sorted;
        of the expectations with these numbers, or of all. One that cannot be evaluated has no rows: `run` says why.
        """
        engine = self._engine(frame)
        asks = {
            number: each.judges_rows
            for number, each in enumerate(self.expectations)
            if each.judges_rows and (numbers is None or number in numbers)
        }
        return rows.failing(engine.table(), asks, PandasMetrics(engine, {"result_format": self.result_format}))

    def proof(self) -> "Proof":
        """What tells that a frame meets the suite without importing Great Expectations."""
        from gossamer.quality.gx.prover import proof_of

        return proof_of(self)

    def _engine(self, frame: Frame) -> PolarsExecutionEngine:
        engine = PolarsExecutionEngine(strict=self.strict)
        engine.load_batch_data(_BATCH, frame)
        return engine

    def _result(self, each: Compiled, engine: PolarsExecutionEngine) -> ExpectationValidationResult:
        failed: dict[str, Any] = {}
        try:
            metrics = each.metrics
            if metrics is None:
                metrics = self._metrics(each.expectation, engine)
                engine.compute(metrics.values())
            failed = {str(m.id): engine.errors[m.id] for m in metrics.values() if m.id in engine.errors}
            if not failed:
                values = {name: engine.computed[metric.id] for name, metric in metrics.items()}
                return self._judged(each, values, engine)
        except Exception as error:  # noqa: BLE001  an expectation may be a user's; the others are evaluated all the same
            return _unevaluated(each, _info(error))
        return _unevaluated(each, {name: _info(error) for name, error in failed.items()})

    def _judged(self, each: Compiled, values: Any, engine: PolarsExecutionEngine) -> ExpectationValidationResult:
        runtime = {"result_format": deepcopy(self.result_format)}
        found = each.expectation._validate(metrics=values, runtime_configuration=runtime, execution_engine=engine)
        result = found if isinstance(found, ExpectationValidationResult) else ExpectationValidationResult(**found)
        result.success = bool(result.success)
        result.expectation_config = each.configuration
        if self.result_format["result_format"] == "BOOLEAN_ONLY":
            asked = self.result_format.get("return_unexpected_index_query", False)
            kept = ("unexpected_index_query", "unexpected_index_column_names") if asked else ()
            result.result = {name: value for name, value in (result.result or {}).items() if name in kept}
        return result


def _unevaluated(each: Compiled, info: Any) -> ExpectationValidationResult:
    return ExpectationValidationResult(
        success=False, expectation_config=each.configuration, result={}, exception_info=info
    )


def _info(error: Exception) -> Any:
    trace = "".join(traceback.format_exception(error))
    return private.ExceptionInfo(exception_traceback=trace, exception_message=str(error))
