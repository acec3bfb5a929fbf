"""A pytest plugin for Great Expectations' own tests: where they make a pandas data frame's batch, Polars makes it.

It runs inside the unpacked source distribution, where `tests` is Great Expectations'. Which tests, and what is made of
their outcomes, is `gx_run`'s.
"""

import json
import locale
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

_outcomes: dict[str, str] = {}
_counts = Counter[str]()
_set_locale = locale.setlocale


def _setlocale(category: int, wanted: Any = None) -> str:
    """Their conftest wants en_US, which not every machine has; C formats numbers as these tests want them too."""
    try:
        return _set_locale(category, wanted)
    except locale.Error:
        return _set_locale(category, "C")


locale.setlocale = _setlocale  # type: ignore[assignment]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--polars", action="store_true", help="data frames are Polars frames")
    group.addoption("--outcomes", help="file for the outcomes (JSON)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--polars"):
        _swap()


def _swap() -> None:
    from tests.integration.test_utils.data_source_config.pandas_data_frame import (  # type: ignore[import-not-found]
        PandasDataFrameBatchTestSetup,
    )

    import gossamer.quality.gx.datasource  # noqa: F401  it makes `add_polars` be there
    from gossamer.quality.gx.engine import PolarsExecutionEngine

    def make_asset(self: Any) -> Any:
        _counts["assets"] += 1
        return self.context.data_sources.add_polars(self._random_resource_name()).add_frame_asset(
            self._random_resource_name()
        )

    def make_batch(self: Any) -> Any:
        frame = _frame(self.data)
        definition = self.make_asset().add_batch_definition_whole_frame(self._random_resource_name())
        return definition.get_batch(batch_parameters={"dataframe": frame})

    PandasDataFrameBatchTestSetup.make_asset = make_asset
    PandasDataFrameBatchTestSetup.make_batch = make_batch
    get_domain_records = PolarsExecutionEngine.get_domain_records

    def counted(self: Any, domain_kwargs: Any) -> Any:
        _counts[f"fallback {self.in_pandas}"] += 1
        return get_domain_records(self, domain_kwargs)

    PolarsExecutionEngine.get_domain_records = counted  # type: ignore[method-assign]


def _frame(data: Any) -> pl.LazyFrame:
    """A column without any value has no type in Polars either."""
    frame: pl.DataFrame = pl.from_pandas(data, nan_to_null=True)
    empty = [name for name in frame.columns if data[name].dtype == object and frame[name].null_count() == frame.height]
    return frame.with_columns(pl.col(empty).cast(pl.Null)).lazy()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The worst of set-up, call and tear-down holds."""
    expected = hasattr(report, "wasxfail")
    outcome = "xfailed" if expected and report.skipped else report.outcome
    if report.when == "call" or outcome != "passed":
        _outcomes[report.nodeid] = "failed" if _outcomes.get(report.nodeid) == "failed" else outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    worker: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if worker is not None:
        worker["conformance"] = dict(_counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _counts.update(getattr(node, "workeroutput", {}).get("conformance", {}))


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workeroutput") and (path := config.getoption("--outcomes")):
        Path(path).write_text(json.dumps({"outcomes": _outcomes, "counts": _counts}))
