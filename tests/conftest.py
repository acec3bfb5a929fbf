"""Fixtures that several test modules share. Servers are started once per session, when the first test asks for one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import services

# How fast an example is depends on what else the machine does.
settings.register_profile("gossamer", deadline=None)
settings.load_profile("gossamer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """CI runs a slow test that failed once more: real servers, clusters and kills share two cores with others there.

    Both failures, or the one that did not come again, are in the output (`pytest_terminal_summary`). Fast tests have no
    second chance, and none has one outside CI.
    """
    if os.environ.get("CI") == "true":
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"failed at first: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


@pytest.fixture(scope="session")
def s3() -> Iterator[services.S3]:
    """A real S3 server with one bucket, shared: keep to a prefix of your own."""
    with services.s3() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[services.Postgres]:
    """A real Postgres, shared."""
    with services.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mongo() -> Iterator[services.Mongo]:
    """A server of MongoDB's protocol, shared: keep to collections of your own."""
    with services.mongo() as server:
        yield server


@pytest.fixture(scope="session")
def corpora() -> Iterator[services.Corpora]:
    """Real sites on loopback, and what they hold in truth."""
    with services.corpora() as sites:
        yield sites


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a browser."""
    return services.chromium()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, soon full."""
    with services.small_disk(tmp_path) as disk:
        yield disk
