"""The private names of Scrapy that the engine rests on, all of them, and the guard that compares them at start.

Everything else in this room uses Scrapy's public API. Works with Scrapy 2.14 to 2.19 and the asyncio reactor: before
2.14, tasks that Scrapy starts lose the context by which a side door finds its unit, and so records their pages.
"""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import scrapy
from pydispatch.dispatcher import getAllReceivers, liveReceivers  # type: ignore[import-untyped]
from pydispatch.robustapply import robustApply  # type: ignore[import-untyped]
from scrapy import Request, Spider, signals
from scrapy.core.downloader import Downloader
from scrapy.core.downloader import Slot as DownloaderSlot
from scrapy.core.downloader.middleware import DownloaderMiddlewareManager
from scrapy.core.engine import ExecutionEngine
from scrapy.core.scraper import Scraper
from scrapy.core.scraper import Slot as ScraperSlot
from scrapy.core.spidermw import SpiderMiddlewareManager
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.robotstxt import RobotsTxtMiddleware
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.robotstxt import RobotParser
from scrapy.signalmanager import SignalManager
from scrapy.spidermiddlewares.depth import DepthMiddleware
from scrapy.utils.asyncio import is_asyncio_available
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.httpobj import urlparse_cached
from twisted.internet.defer import Deferred

from gossamer.errors import CrawlError

_signal_log = logging.getLogger("scrapy.utils.signal")

#: The oldest Scrapy whose tasks carry their context everywhere.
OLDEST = (2, 14)

#: What is overridden or called, with the parameters that it is counted on to take.
_METHODS: dict[tuple[type, str], tuple[str, ...]] = {
    (Crawler, "_create_engine"): ("self",),
    (ExecutionEngine, "_get_scheduler_class"): ("self", "settings"),
    (ExecutionEngine, "_start_scheduled_requests"): ("self",),
    (ExecutionEngine, "_start_scheduled_request"): ("self",),
    (ExecutionEngine, "_download"): ("self", "request"),
    (ExecutionEngine, "open_spider_async"): ("self", "close_if_idle"),
    (ExecutionEngine, "close_spider_async"): ("self", "reason"),
    (ExecutionEngine, "needs_backout"): ("self",),
    (ExecutionEngine, "crawl"): ("self", "request"),
    (Downloader, "_enqueue_request"): ("self", "request"),
    (DownloaderMiddlewareManager, "download_async"): ("self", "download_func", "request"),
    (Scraper, "call_spider_async"): ("self", "result", "request"),
    (Scraper, "handle_spider_error"): ("self", "_failure", "request", "response"),
    (Scraper, "_check_if_closing"): ("self",),
    (SpiderMiddlewareManager, "scrape_response_async"): ("self", "scrape_func", "response", "request"),
    (DepthMiddleware, "get_processed_request"): ("self", "request", "response"),
}
#: Attributes that instances have; looked for in the source that sets them.
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    ExecutionEngine: ("_slot", "_start"),
    Scraper: ("slot", "spidermw", "itemproc", "concurrent_items", "_itemproc_has_async"),
    ScraperSlot: ("active", "active_size"),
    Downloader: ("slots", "active"),
    DownloaderSlot: ("queue", "active", "lastseen", "delay"),
    RobotsTxtMiddleware: ("_parsers",),
}


class UnsupportedScrapyError(CrawlError):
    """The engine does not work with this Scrapy, or with this reactor."""


def check() -> None:
    """Compares what the engine rests on with the Scrapy that is installed.

    Raises:
        UnsupportedScrapyError: something is missing or takes other parameters.
    """
    if scrapy.version_info[:2] < OLDEST:
        raise UnsupportedScrapyError(
            f"Scrapy {scrapy.__version__} is too old for exact crawls: install Scrapy 2.14 or later."
        )
    differing = [
        f"{cls.__qualname__}.{name}{found}"
        for (cls, name), parameters in _METHODS.items()
        if (found := _parameters(cls, name)) is None or not set(parameters) <= set(found)
    ]
    differing += [
        f"{cls.__qualname__}.{name}"
        for cls, names in _ATTRIBUTES.items()
        for name in names
        if f"{name}:" not in (source := inspect.getsource(cls)) and f"{name} =" not in source
    ]
    if differing:
        raise UnsupportedScrapyError(
            f"Scrapy {scrapy.__version__} differs where the engine rests on it ({', '.join(differing)}). Install the "
            "version that requirements.txt pins."
        )


def check_reactor() -> None:
    """To be called when the reactor is installed.

    Raises:
        UnsupportedScrapyError: it is not the asyncio one.
    """
    if not is_asyncio_available():
        raise UnsupportedScrapyError(
            "Exact crawls need Twisted's asyncio reactor, and the spider's own code has installed another. Remove "
            "TWISTED_REACTOR from its settings, and imports of `twisted.internet.reactor` at the top of its modules."
        )


def _parameters(cls: type, name: str) -> tuple[str, ...] | None:
    method = getattr(cls, name, None)
    return tuple(inspect.signature(method).parameters) if callable(method) else None


def name_of(component: Any) -> str:
    """The import path of a component, given as one or as a class."""
    return component if isinstance(component, str) else f"{component.__module__}.{component.__qualname__}"


def has_own_item_processor(scraper: Scraper) -> bool:
    """Whether ITEM_PROCESSOR names a manager of the older kind, without coroutines."""
    return not scraper._itemproc_has_async["process_item"]


def has_scrapys_downloader(engine: ExecutionEngine) -> bool:
    """Whether DOWNLOADER is Scrapy's own, as it is."""
    return type(engine.downloader) is Downloader and "fetch" not in vars(engine.downloader)


async def fetch(downloader: Downloader, request: Request) -> Response | Request:
    """The request through the downloader middlewares and its host's queue: what `Downloader.fetch` wraps."""
    return await downloader.middleware.download_async(downloader._enqueue_request, request)


async def tell(manager: SignalManager, signal: object, *, spider: Spider | None, **known: Any) -> None:
    """As `send_catch_log_async`, which starts a task for each of the handlers, of which most are plain functions."""
    sender = manager.sender
    for handler in list(liveReceivers(getAllReceivers(sender, signal))):
        try:
            result = robustApply(handler, signal=signal, sender=sender, spider=spider, **known)
            if result is not None:
                await ensure_awaitable(result)
        except Exception:  # noqa: BLE001  (a handler may raise anything, and the others are still told)
            extra, words = {"spider": spider}, {"receiver": handler}
            _signal_log.error("Error caught on signal handler: %(receiver)s", words, exc_info=True, extra=extra)


def check_if_closing(scraper: Scraper) -> None:
    """Lets a scraper that is being closed know that a response is over."""
    scraper._check_if_closing()


def tap_depth(scraper: Scraper, too_deep: Callable[[Request], None]) -> None:
    """Tells of requests that DepthMiddleware drops; Scrapy itself only counts them."""
    for middleware in scraper.spidermw.middlewares:
        if isinstance(middleware, DepthMiddleware) and middleware.maxdepth:
            middleware.get_processed_request = _tapped(  # type: ignore[assignment, method-assign]
                middleware.get_processed_request, too_deep
            )


def _tapped(
    process: Callable[[Request, Response | None], Request | None], dropped: Callable[[Request], None]
) -> Callable[[Request, Response | None], Request | None]:
    def tapped(request: Request, response: Response | None) -> Request | None:
        processed = process(request, response)
        if processed is None:
            dropped(request)
        return processed

    return tapped


def only_scrapy_sees_links(engine: ExecutionEngine) -> bool:
    """Whether no spider middleware and no signal handler of the user's sees the links that callbacks yield."""
    watched = (signals.request_scheduled, signals.request_dropped)
    sender = engine.signals.sender
    handlers = [handler for signal in watched for handler in liveReceivers(getAllReceivers(sender, signal))]
    middlewares = engine.scraper.spidermw.middlewares
    return all(
        _is_scrapys(component)
        for component in (*(getattr(handler, "__self__", handler) for handler in handlers), *middlewares)
    )


def _is_scrapys(component: object) -> bool:
    module = getattr(component, "__module__", "")
    return bool(module.startswith(("scrapy.", "gossamer.")))


def known_robots(middleware: RobotsTxtMiddleware, request: Request) -> RobotParser | None:
    """What is known of the robots.txt of the request's host; None where there is none."""
    parser = middleware._parsers[urlparse_cached(request).netloc]
    assert not isinstance(parser, Deferred)
    return parser


def drop_queued(downloader: Downloader) -> None:
    """Lets requests go that wait for their turn at a host: after a stop they must not leave."""
    for slot in downloader.slots.values():
        while slot.queue:
            _, waiting = slot.queue.popleft()
            waiting.errback(IgnoreRequest("the crawl was stopped"))


def stop_reactor() -> None:
    """Ends Scrapy's process loop at once; a graceful stop would wait for what is under way."""
    from twisted.internet import reactor

    running: Any = reactor  # its type is the interface of all reactors, which knows no `running`

    def stop() -> None:
        if running.running:
            running.crash()

    running.callLater(0, stop)


def break_selector_cycle(response: Response) -> None:
    """A response and its selector hold each other, with the whole parsed tree: without this, memory waits for the
    garbage collector and is half as much again."""
    if getattr(response, "_cached_selector", None) is not None:
        response._cached_selector = None  # type: ignore[attr-defined]
