"""The parts that a crawl adds to Scrapy: they tell the books what happens, and fetch a sitemap's seeds.

They observe and do not decide: what is counted how is in `books`, which address may be fetched in `guards`. A
request is followed through retries and redirects by the object itself (Scrapy's memory queues keep it), never by its
meta, which spiders copy.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

from scrapy import Request, Spider, signals
from scrapy.core.downloader import Downloader
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response, TextResponse
from scrapy.http.request import NO_CALLBACK
from scrapy.settings import Settings
from scrapy.signalmanager import SignalManager
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gossamer.crawl import reasons
from gossamer.crawl.books import Books, Unit
from gossamer.crawl.seeds import SitemapError, pages_of
from gossamer.crawl.spool import Page, Spool
from gossamer.crawl.text import printable
from gossamer.errors import CrawlError
from gossamer.user_code import where


class PartitionCrawler(Crawler):
    """A Scrapy crawler that knows the accounts of its crawl.

    Attributes:
        sitemap: where the seeds are to be fetched from, None where they are known.
        folder: the source's folder; errors are located in it.
        fatal: what keeps the crawl from being committed at all, such as a full disk.
    """

    def __init__(
        self, spidercls: type[Spider], settings: Settings, books: Books, spool: Spool, sitemap: str | None, folder: Path
    ) -> None:
        super().__init__(spidercls, settings)
        self.signals = FilterSignals(self)
        self.books = books
        self.spool = spool
        self.sitemap = sitemap
        self.folder = folder
        self.fatal: CrawlError | None = None
        self._closing: asyncio.Task[None] | None = None
        self.units: WeakKeyDictionary[Request, Unit] = WeakKeyDictionary()
        books.stop = lambda words: self.close_early("limit")

    def close_early(self, reason: str) -> None:
        """Ends the crawl; requests in flight are waited for."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self.engine.close_spider_async(reason=reason))

    def fail(self, error: CrawlError) -> None:
        """Ends the crawl without a result."""
        if self.fatal is None:
            self.fatal = error
            self.close_early("failed")

    def discover(self, request: Request, *, seed: bool = False) -> Unit:
        """The unit of a request, a new one where it is not known."""
        unit = self.units.get(request)
        if unit is None:
            unit = self.units[request] = self.books.discover(request.url, _callback(request), seed=seed)
        return unit

    def unit_of(self, response: object) -> Unit | None:
        """The unit that a response, or a failure in an errback, belongs to."""
        request = getattr(response, "request", None)
        return self.units.get(request) if isinstance(request, Request) else None

    def dead(self, unit: Unit, reason: reasons.Reason, message: str, response: Response | None = None) -> None:
        """Enters the end of a request that failed."""
        status = response.status if response else None
        try:
            self.books.failed(unit, reason, message, status=status, body=_text(response))
        except OSError as error:
            self.fail(no_room(error))


class FilterSignals(SignalManager):
    """Scrapy's signals; sees which requests a filter keeps from the scheduler (Scrapy's own: the off-site one)."""

    def __init__(self, crawler: PartitionCrawler) -> None:
        super().__init__(crawler)
        self.crawler = crawler

    def send_catch_log(self, signal: Any, **kwargs: Any) -> list[tuple[Any, Any]]:
        results = super().send_catch_log(signal, **kwargs)
        if signal is signals.request_scheduled:
            for _, result in results:
                if isinstance(result, Failure) and isinstance(error := result.value, IgnoreRequest):
                    unit = self.crawler.discover(kwargs["request"])
                    self.crawler.dead(unit, reasons.of_download_error(error), str(error))
        return results


def no_room(error: OSError) -> CrawlError:
    """The local disk does not take the crawl's rows."""
    return CrawlError(f"Cannot write the crawl's rows to local disk: {error}. Make room there or set TMPDIR.")


class AccountedDownloader(Downloader):
    """Scrapy's downloader; the one place that sees how every request ends, after all middlewares."""

    def fetch(self, request: Request, spider: Spider | None = None) -> "Deferred[Response | Request]":
        crawler = cast(PartitionCrawler, self.crawler)
        unit = crawler.units.get(request)
        if unit is None:  # robots.txt, or a download that a callback or a pipeline made itself
            return super().fetch(request)
        if not crawler.books.begin(unit):
            return defer.fail(IgnoreRequest("the limit of pages is reached"))

        def ended(result: Any) -> Any:
            if isinstance(result, Request):
                crawler.units[result] = unit
            elif isinstance(result, Response):
                unit.fetched_at, unit.page_hash = datetime.now(UTC), None
                crawler.units[result.request or request] = unit
            elif isinstance(result, Failure):
                error = _error(result)
                crawler.dead(unit, reasons.of_download_error(error), f"{type(error).__name__}: {error}")
            return result

        # Not a coroutine: the engine counts on the request being active when this returns.
        return super().fetch(request).addBoth(ended)


class Entrance:
    """Spider middleware on the engine's side: start requests, and every response before anything refuses it."""

    def __init__(self, crawler: PartitionCrawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(cast(PartitionCrawler, crawler))

    async def process_start(self, start: AsyncIterator[Any]) -> AsyncIterator[Any]:
        if self.crawler.sitemap:
            await self._fetch_seeds(self.crawler.sitemap)
        async for output in start:
            if isinstance(output, Request):
                self.crawler.discover(output, seed=True)
            yield output

    def process_spider_input(self, response: Response) -> None:
        if unit := self.crawler.unit_of(response):
            # The other middlewares' inputs run before the loop comes round; the innermost then has marked the unit.
            asyncio.get_running_loop().call_soon(self._refused, unit, response)

    def _refused(self, unit: Unit, response: Response) -> None:
        if unit.state is None:
            self.crawler.dead(unit, reasons.of_status(response.status), f"HTTP {response.status}", response)

    async def _fetch_seeds(self, sitemap: str) -> None:
        """Gives the spider its start_urls; `start()` has not run yet: its first step comes after this."""
        crawler = self.crawler

        async def fetch(url: str) -> Response:
            return await crawler.engine.download_async(Request(url, callback=NO_CALLBACK))

        urls: list[str] = []
        try:
            async for url in pages_of(sitemap, fetch):
                urls.append(url)
        except SitemapError as error:
            reason = reasons.of_status(error.status) if error.status else reasons.of_download_error(error.cause)
            self._dead_sitemap(error.url, reason, str(error))
        else:
            if not urls:
                self._dead_sitemap(sitemap, reasons.Reason.OTHER, "the sitemap names no pages")
        assert crawler.spider
        crawler.spider.start_urls = urls
        crawler.books.declared_seeds = len(urls)

    def _dead_sitemap(self, url: str, reason: reasons.Reason, message: str) -> None:
        self.crawler.dead(self.crawler.books.discover(url, "sitemap", seed=True), reason, message)


class Door:
    """Spider middleware on the spider's side: a response that comes here is shown to the spider."""

    def __init__(self, crawler: PartitionCrawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(cast(PartitionCrawler, crawler))

    def process_spider_input(self, response: Response) -> None:
        if unit := self.crawler.unit_of(response):
            self.crawler.books.answered(unit)


class Accounts:
    """Extension: signals of requests, records and errors go into the books and the spool."""

    def __init__(self, crawler: PartitionCrawler) -> None:
        self.crawler = crawler
        self.books = crawler.books
        self._is_new = False
        self._idle = False
        handlers: list[tuple[Callable[..., None], object]] = [
            (self.request_scheduled, signals.request_scheduled),
            (self.request_dropped, signals.request_dropped),
            (self.bytes_received, signals.bytes_received),
            (self.response_received, signals.response_received),
            (self.spider_error, signals.spider_error),
            (self.item_scraped, signals.item_scraped),
            (self.item_dropped, signals.item_dropped),
            (self.item_error, signals.item_error),
            (self.spider_idle, signals.spider_idle),
            (self.spider_closed, signals.spider_closed),
        ]
        for handler, signal in handlers:
            crawler.signals.connect(handler, signal=signal)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(cast(PartitionCrawler, crawler))

    def request_scheduled(self, request: Request) -> None:
        self._idle = False
        self._is_new = request not in self.crawler.units
        self.crawler.discover(request)

    def request_dropped(self, request: Request) -> None:
        unit = self.crawler.discover(request)
        if not (self._is_new or unit.seed or unit.attempts):
            self.books.duplicates += 1  # the same object once more, while the first waits: its end is to come
            return
        trail = request.meta.get("redirect_urls", []) if unit.attempts else []
        if request.url in trail:
            message = f"redirected back to itself: {' -> '.join([*trail, request.url])}"
            self.crawler.dead(unit, reasons.Reason.REDIRECT_LOOP, message)
        else:
            self.books.known_already(unit, redirected=unit.attempts > 0)

    def bytes_received(self, data: bytes) -> None:
        self.books.received(len(data))

    def response_received(self) -> None:
        self.books.responses += 1

    def spider_error(self, failure: Failure, response: object) -> None:
        error = _error(failure)
        message = where(error, self.crawler.folder)
        if response is None:
            self.books.start_error = message
        elif unit := self.crawler.unit_of(response):
            page = response if isinstance(response, Response) else None
            self.crawler.dead(unit, reasons.of_callback_error(error), message, page)

    def item_scraped(self, item: Any, response: object) -> None:
        try:
            self.crawler.spool.record(item, self._page(response))
        except (TypeError, ValueError, RecursionError) as error:
            self._lost(error, response)
        except OSError as error:
            self.crawler.fail(no_room(error))
        else:
            self.books.records += 1

    def item_dropped(self, exception: BaseException) -> None:
        reason = printable(f"{type(exception).__name__}: {exception}")[:100]
        known = self.books.dropped
        known[reason if reason in known or len(known) < 20 else "other"] += 1

    def item_error(self, failure: Failure, response: object) -> None:
        self._lost(_error(failure), response)

    def spider_idle(self) -> None:
        self._idle = True

    def spider_closed(self, reason: str) -> None:
        self.books.finish(reason, idle=self._idle)

    def _lost(self, error: BaseException, response: object) -> None:
        """A record that could not be kept: its page is a dead letter, so that it is crawled again."""
        self.books.record_errors += 1
        unit = self.crawler.unit_of(response) or self.books.discover("", "start", seed=True)
        page = response if isinstance(response, Response) else None
        self.crawler.dead(unit, reasons.Reason.PIPELINE_ERROR, where(error, self.crawler.folder), page)

    def _page(self, response: object) -> Page:
        if isinstance(response, Failure):  # an errback's record; a refused response is still a page
            response = getattr(response.value, "response", None) or response
        unit = self.crawler.unit_of(response)
        fetched_at = (unit and unit.fetched_at) or datetime.now(UTC)
        if not isinstance(response, Response):
            return Page(unit.url if unit else "", fetched_at, None)
        if unit is None:
            return Page(response.url, fetched_at, hashlib.sha256(response.body).hexdigest())
        unit.page_hash = unit.page_hash or hashlib.sha256(response.body).hexdigest()
        return Page(response.url, fetched_at, unit.page_hash)


def _error(failure: Failure) -> BaseException:
    assert failure.value is not None
    return failure.value


def _callback(request: Request) -> str:
    callback = request.callback
    if callback is None:
        return "parse"
    return getattr(callback, "__name__", type(callback).__name__)


def _text(response: Response | None) -> str:
    return response.text[:500] if isinstance(response, TextResponse) else ""
