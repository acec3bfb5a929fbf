"""A pytest plugin for Scrapy's own tests: every crawler makes our engine, and what became of each test is written down.

It runs inside the unpacked source distribution, where `tests` is Scrapy's. Which tests, and what is made of their
outcomes, is `scrapy_run`'s. Crawls that tests start in processes of their own are not reached.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scrapy.core.engine import ExecutionEngine
from scrapy.crawler import Crawler

from gossamer.crawl.engine.engine import DurableEngine
from gossamer.crawl.engine.job import Job
from gossamer.crawl.frontier import FrontierError, Unit
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.live import Live
from gossamer.crawl.rows import RowFormat
from gossamer.source import Limits

_counts = Counter[str]()
_fatal: list[str] = []
_outcomes: dict[str, str] = {}


class CountingFrontier(SqliteFrontier):
    """Books in memory: a run in which nothing was committed would prove nothing."""

    def commit(self, units: Sequence[Unit]) -> list[int]:
        duplicates = super().commit(units)
        _counts["units"] += len(units)
        return duplicates


def _create_engine(crawler: Crawler) -> ExecutionEngine:
    def fatal(error: FrontierError) -> None:
        _fatal.append(f"{os.environ.get('PYTEST_CURRENT_TEST')}: {error!r}")
        stops.append(asyncio.ensure_future(crawler.stop_async()))

    stops: list[asyncio.Future[None]] = []  # a task that nobody holds may vanish
    _counts["engines"] += 1
    job = Job(CountingFrontier(":memory:"), RowFormat({}, "").line, Live(Limits()), fatal)
    return DurableEngine(crawler, lambda _: crawler.stop_async(), job)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--own-engine", action="store_true", help="crawlers make the durable engine")
    group.addoption("--outcomes", help="file for the outcomes (JSON)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--own-engine"):
        Crawler._create_engine = _create_engine  # type: ignore[method-assign, assignment]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The worst of set-up, call and tear-down holds."""
    expected = hasattr(report, "wasxfail")
    outcome = "xfailed" if expected and report.skipped else report.outcome
    if report.when == "call" or outcome != "passed":
        _outcomes[report.nodeid] = "failed" if _outcomes.get(report.nodeid) == "failed" else outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Workers hand over what they counted; who started them writes it down with the outcomes."""
    worker: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if worker is not None:
        worker["conformance"] = [dict(_counts), _fatal]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    counts, fatal = getattr(node, "workeroutput", {}).get("conformance", ({}, []))
    _counts.update(counts)
    _fatal.extend(fatal)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workeroutput") and (path := config.getoption("--outcomes")):
        Path(path).write_text(json.dumps({"outcomes": _outcomes, "counts": _counts, "fatal": _fatal}))
