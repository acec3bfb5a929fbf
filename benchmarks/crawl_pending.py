"""The spider by which `benchmarks.crawl` fills a frontier before it crawls, and what is measured meanwhile.

Only our engine is measured here: it alone tells when what one callback yielded is in its frontier.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.http import Response

from benchmarks.crawl_meter import cpu_seconds, peak_mb, rss_mb
from benchmarks.crawl_site import PRODUCTS, START
from benchmarks.crawl_spider import ShopSpider
from gossamer.crawl.engine.engine import DurableEngine

PAGES_AT_DEPTH = 2_000
_NUMBER = "pending="


def start_with(pending: int) -> str:
    """The path of the page out of which the spider makes so many requests."""
    return f"{START}?{_NUMBER}{pending}"


def pending_of(url: str) -> int:
    return int(url.partition(_NUMBER)[2])


@dataclass(frozen=True)
class Depth:
    """What a full frontier costs.

    Attributes:
        fill_us: CPU microseconds for each request that is put into it.
        page_ms: CPU milliseconds for each page while it is full.
        full_mb: memory when it is full and nothing was fetched out of it.
        rss_mb: memory after `PAGES_AT_DEPTH` pages.
        peak_mb: the most memory that the process held up to then.
        end_mb: the most memory that it held until the crawl was over, books and rows included.
    """

    pending: int
    fill_us: float
    page_ms: float
    full_mb: float
    rss_mb: float
    peak_mb: float
    end_mb: float


class PendingSpider(ShopSpider):
    """Yields many requests from one callback, and fetches none of them before all are in the frontier."""

    custom_settings = ShopSpider.custom_settings | {"EXTENSIONS": {"benchmarks.crawl_pending.Gauge": 0}}

    def parse(self, response: Response) -> Iterator[Request]:
        assert self.crawler.engine
        self.crawler.engine.pause()
        for number in range(pending_of(response.url)):
            url = response.urljoin(f"/p/{number % PRODUCTS}.html?number={number}")
            yield Request(url, callback=self.parse_product)

    def parse_product(self, response: Response) -> Iterator[Any]:
        yield self.product(response)


class Gauge:
    """Scrapy extension: lets the crawl go on when the frontier is full, and measures before and after."""

    _last: ClassVar["Gauge"]

    def __init__(self, crawler: Crawler) -> None:
        Gauge._last = self
        self._crawler = crawler
        crawler.signals.connect(self._open, signal=signals.spider_opened)
        crawler.signals.connect(self._close, signal=signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    @classmethod
    def depth(cls) -> Depth:
        """What was measured of this process's crawl."""
        gauge = cls._last
        fill_us = 1e6 * (gauge._full_cpu - gauge._opened_cpu) / gauge._pending
        page_ms = 1e3 * (gauge._closed_cpu - gauge._full_cpu) / PAGES_AT_DEPTH
        return Depth(gauge._pending, fill_us, page_ms, gauge._full_mb, gauge._rss_mb, gauge._peak_mb, peak_mb())

    def _open(self, spider: PendingSpider) -> None:
        self._opened_cpu = cpu_seconds()
        self._pending = pending_of(spider.start_urls[0])
        self._filling = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        engine = cast(DurableEngine, self._crawler.engine)
        while engine.desk is None or engine.desk.frontier.pending < self._pending or engine.desk.frontier.settling:
            await asyncio.sleep(0.1)
        self._full_cpu, self._full_mb = cpu_seconds(), rss_mb()
        engine.unpause()

    def _close(self) -> None:
        self._closed_cpu, self._rss_mb, self._peak_mb = cpu_seconds(), rss_mb(), peak_mb()
