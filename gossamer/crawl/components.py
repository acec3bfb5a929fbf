"""The parts that a crawl adds to Scrapy: the crawler with our engine, the seeds of a sitemap, and what signals tell.

Which address may be fetched is in `guards`, the loop in `engine`, what is counted how in `live` and `books`.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self, cast

from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.settings import Settings

from gossamer.crawl import reasons
from gossamer.crawl.engine import seam
from gossamer.crawl.engine.engine import DurableEngine
from gossamer.crawl.engine.job import Job
from gossamer.crawl.frontier import Ending, State
from gossamer.crawl.seeds import SitemapError, pages_of

DECLARED_SEEDS = "declared_seeds"


class PartitionCrawler(Crawler):
    """A Scrapy crawler that runs on our engine.

    Attributes:
        sitemap: where the seeds are to be fetched from, None where they are known.
        finish_reason: the reason with which the spider was closed; "" while it is open.
    """

    def __init__(
        self, spidercls: type[Spider], settings: Settings, job: Job, sitemap: str | None, folder: Path
    ) -> None:
        super().__init__(spidercls, settings)
        self.job = job
        self.sitemap = sitemap
        self.folder = folder
        self.finish_reason = ""
        self._made: DurableEngine | None = None

    def _create_engine(self) -> DurableEngine:
        seam.check_reactor()
        self._made = DurableEngine(self, lambda _: self.stop_async(), self.job)
        return self._made

    @property
    def was_opened(self) -> bool:
        """Whether the engine exists: the spider could be made."""
        return self._made is not None

    @property
    def durable_engine(self) -> DurableEngine:
        assert self._made is not None
        return self._made


class SitemapSeeds:
    """Spider middleware on the engine's side: gives the spider the pages of a sitemap as its start_urls."""

    def __init__(self, crawler: PartitionCrawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(cast(PartitionCrawler, crawler))

    async def process_start(self, start: AsyncIterator[Any]) -> AsyncIterator[Any]:
        if self.crawler.sitemap:  # `start()` has not run yet: its first step comes after this
            await self._fetch_seeds(self.crawler.sitemap)
            if self.crawler.durable_engine.rolls_back:  # the next launch fetches it
                return
        async for output in start:
            yield output

    async def _fetch_seeds(self, sitemap: str) -> None:
        crawler = self.crawler

        async def fetch(url: str) -> Response:
            return await crawler.durable_engine.download_async(Request(url, callback=NO_CALLBACK))

        urls: list[str] = []
        try:
            async for url in pages_of(sitemap, fetch):
                urls.append(url)
        except SitemapError as error:
            if crawler.durable_engine.rolls_back:  # our own end cut it short, not the site
                return
            reason = reasons.of_status(error.status) if error.status else reasons.of_download_error(error.cause)
            self._dead_sitemap(error.url, reason, str(error), error.status)
        else:
            if not urls:
                self._dead_sitemap(sitemap, reasons.Reason.OTHER, "the sitemap names no pages", None)
        assert crawler.spider
        crawler.spider.start_urls = urls
        desk = crawler.durable_engine.desk
        assert desk is not None
        desk.put(DECLARED_SEEDS, str(len(urls)).encode())

    def _dead_sitemap(self, url: str, reason: reasons.Reason, message: str, status: int | None) -> None:
        ending = Ending(State.DEAD, reason, status, message, ended_at=time.time())
        self.crawler.durable_engine.enter_seed(url, "sitemap", ending)


class Watch:
    """Extension: what only signals tell."""

    def __init__(self, crawler: PartitionCrawler) -> None:
        self.crawler = crawler
        crawler.signals.connect(self.bytes_received, signal=signals.bytes_received)
        crawler.signals.connect(self.spider_closed, signal=signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(cast(PartitionCrawler, crawler))

    def bytes_received(self, data: bytes) -> None:
        self.crawler.job.live.received(len(data))

    def spider_closed(self, reason: str) -> None:
        self.crawler.finish_reason = reason
