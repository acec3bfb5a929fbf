"""What a crawl costs its process: CPU time and memory, as `benchmarks.crawl` measures them.

`Meter` is a Scrapy extension, so that stock Scrapy and ours are measured by the same code at the same places.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from scrapy import signals
from scrapy.crawler import Crawler

SERVER_CORE, CRAWLER_CORE = 0, 1
_MB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """What a crawl cost its process, start-up left out.

    Attributes:
        cpu: seconds from the opened spider to the end of the run; user and system, all threads.
        end: those of them after the spider was closed.
        wall: seconds.
        peak_mb: the most memory that the process held.
    """

    pages: int
    cpu: float
    end: float
    wall: float
    peak_mb: float


def pin(core: int) -> None:
    """Keeps this process on one core, where the platform has such a call and the machine has two cores."""
    if sys.platform == "linux" and core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})


def cpu_seconds() -> float:
    """User and system time of this process, all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MB if sys.platform == "darwin" else peak * 1024 / _MB


def rss_mb() -> float:
    """The memory this process holds; where the platform does not tell, the most that it has held."""
    if sys.platform != "linux":
        return peak_mb()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / _MB


class Meter:
    """Notes where a crawl begins and ends: start-up is over when the spider is opened."""

    _last: ClassVar["Meter"]

    def __init__(self, crawler: Crawler) -> None:
        Meter._last = self
        self._crawler = crawler
        crawler.signals.connect(self._open, signal=signals.spider_opened)
        crawler.signals.connect(self._close, signal=signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    @classmethod
    def cost(cls) -> Cost:
        """What this process's crawl has cost up to now."""
        meter, now = cls._last, cpu_seconds()
        wall = time.perf_counter() - meter._opened_at
        return Cost(meter._pages, now - meter._opened, now - meter._closed, wall, peak_mb())

    def _open(self) -> None:
        self._opened, self._opened_at = cpu_seconds(), time.perf_counter()

    def _close(self) -> None:
        self._closed = cpu_seconds()
        assert self._crawler.stats
        self._pages = self._crawler.stats.get_value("response_received_count", 0)


def items_of(folder: Path) -> Path:
    """Where a run leaves its items, as lines of JSON."""
    return folder / "items.jsonl"


def write_items(folder: Path, items: Iterable[Mapping[str, object]]) -> None:
    items_of(folder).write_text("".join(f"{json.dumps(item)}\n" for item in items))
