"""One crawl of one partition in this process: Scrapy is set up, run, and its result committed or not.

Nothing is committed before the crawl is over; an interrupted one leaves the lake as it was.
"""

import asyncio
import logging
import os
import signal
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.settings import BaseSettings
from scrapy.settings import Settings as ScrapySettings

from gossamer import __version__, declarations
from gossamer.crawl import guards, seeds, spiders
from gossamer.crawl.books import Books
from gossamer.crawl.components import AccountedDownloader, Accounts, Door, Entrance, PartitionCrawler, no_room
from gossamer.crawl.process import INTERRUPTED
from gossamer.crawl.progress import Reporter
from gossamer.crawl.spool import Spool
from gossamer.errors import CrawlError, GossamerError, LakeError
from gossamer.lake import INCOMPLETE, Lake, object_path, stage
from gossamer.manifest import Manifest
from gossamer.settings import Settings
from gossamer.source import Limits, Source
from gossamer.user_code import where

_log = logging.getLogger(__name__)

#: How long a crawl that was told to stop may close its spider and pipelines before the process is ended.
GRACE_SECONDS = 8.0

_DEFAULTS: dict[str, Any] = {
    "USER_AGENT": f"gossamer/{__version__} (Scrapy/{scrapy.__version__})",
    "LOG_LEVEL": "INFO",
    "LOG_VERSIONS": [],
    "STATS_DUMP": False,
    "DOWNLOAD_MAXSIZE": 100 * 1024 * 1024,
    "DOWNLOAD_TIMEOUT": 60,
    "REDIRECT_MAX_TIMES": 10,
    "DNS_TIMEOUT": 20,
}
_ENFORCED: dict[str, Any] = {
    "TELNETCONSOLE_ENABLED": False,
    "REMOTE_CONTROL_ENABLED": False,
    "LOGSTATS_INTERVAL": 0,
    "DOWNLOADER": AccountedDownloader,
}
_COMPONENTS: tuple[tuple[str, type, int], ...] = (
    ("EXTENSIONS", Accounts, 0),
    ("SPIDER_MIDDLEWARES", Entrance, -1_000_000),
    ("SPIDER_MIDDLEWARES", Door, 1_000_000),
    # After Scrapy's HttpProxyMiddleware (750): behind a proxy, the proxy looks names up.
    ("DOWNLOADER_MIDDLEWARES", guards.AddressGuard, 760),
)
_NOT_HONOURED = {
    "FEEDS": "records go to the lake; export them from there",
    "FEED_URI": "records go to the lake; export them from there",
    "JOBDIR": "a crawl's state is kept by the platform",
    "DOWNLOADER": "the crawl's own is used",
    "DOWNLOAD_SLOTS": "`politeness` in source.yaml says how gently hosts are treated",
    "CONCURRENT_REQUESTS_PER_IP": "`politeness` in source.yaml says how gently hosts are treated",
}


class Interrupted(BaseException):
    """A signal asked for the end. Not an `Exception`: a spider's module must not catch it."""


class Interruption:
    """SIGTERM and SIGINT: the crawl stops, nothing is committed, the process exits with 75.

    A second signal, or a crawl that does not close in time, ends the process at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._stop: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def during(self, process: AsyncCrawlerProcess, loop: asyncio.AbstractEventLoop) -> None:
        """From now on a signal stops this Scrapy process gracefully."""
        self._loop, self._stop = loop, process.stop

    def after(self) -> None:
        """Scrapy is over; raises `Interrupted` if it was stopped by a signal."""
        self._loop = None
        if self.requested:
            raise Interrupted

    def too_late(self) -> None:
        """The commit begins: it is short, and half of it is worth less than all of it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            os._exit(INTERRUPTED)
        self.requested = True
        if self._loop is None:
            raise Interrupted
        timer = threading.Timer(GRACE_SECONDS, os._exit, (INTERRUPTED,))
        timer.daemon = True
        timer.start()
        self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self._stop()))


def run(
    settings: Settings, name: str, key: str, *, run_id: str = "", token: str = "", pages: int | None = None
) -> Manifest:
    """Crawls one partition and commits it: its rows with the verdict on its books, and its dead letters.

    A complete crawl becomes `raw`; one whose books do not close becomes `incomplete` and leaves `raw` as it is.

    Args:
        token: written into the manifest's notes: by it the one who asked knows the result from an older one.

    Raises:
        GossamerError: there is no result; the lake is as it was.
        Interrupted: a signal stopped it; the lake is as it was.
    """
    interruption = Interruption()
    source = declarations.load(settings.sources)[name]
    part = source.partition(key)
    lake = Lake(settings.lake)
    generation = _generation(lake, name, key)
    crawl_id = f"{name}/{key}/{generation}"
    beginning = seeds.resolve(source, part, lake)
    limits = _limits(source.spec.limits, pages)
    # Before the spider is imported: it may import Twisted's reactor, and this chooses which one.
    process = AsyncCrawlerProcess(ScrapySettings(_DEFAULTS))
    loop = asyncio.get_event_loop()
    with (
        tempfile.TemporaryDirectory(prefix="gossamer-crawl-") as folder,
        Spool(Path(folder), source.spec.record.fields, crawl_id, source.code_version("spider")) as spool,
    ):
        books = Books(source.spec.complete, limits, spool.dead_letter, declared_seeds=len(beginning.urls))
        with Reporter(lake, name, key, books.progress) as reporter:
            try:
                crawler = PartitionCrawler(
                    spiders.load(source), process.settings, books, spool, beginning.sitemap, source.folder
                )
                configure(crawler.settings, source, limits)
                if pages is not None:
                    # One request at a time goes deep first: a few pages reach records, not only lists of links.
                    crawler.settings.set("CONCURRENT_REQUESTS", 1, priority="cmdline")
                arguments = {"partition": key, "period": part.period, "segment": part.segment}
                task = process.crawl(crawler, start_urls=list(beginning.urls), **arguments)
                interruption.during(process, loop)
                _start(process, source)
                interruption.after()
                _raise_failure(crawler, task, source)
                known = {"crawl_id": crawl_id, "run_id": run_id, "code_version": source.code_version("spec", "spider")}
                about = {"generation": generation, "versions": _versions(source)}
                manifest = _commit(lake, source, key, crawler, interruption, token, about, known)
            except Interrupted:
                reporter.last("interrupted")
                raise
            except GossamerError:
                reporter.last("failed")
                raise
            reporter.last("complete")
            return manifest


def _generation(lake: Lake, name: str, key: str) -> int:
    """The number of this crawl among those of its partition that were committed, complete or not, from 1."""
    newest = 0
    for layer in ("raw", INCOMPLETE):
        try:
            previous = lake.manifest(layer, name, key)
        except LakeError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            continue  # a damaged manifest is what a new crawl mends
        newest = max(newest, previous.generation if previous else 0)
    return newest + 1


def _start(process: AsyncCrawlerProcess, source: Source) -> None:
    """Runs Scrapy to its end. What asks for the end of the process (`sys.exit`) passes through Scrapy."""
    try:
        process.start(install_signal_handlers=False)
    except SystemExit as error:
        raise CrawlError(
            f"{source.name}: the source's own code ended the process: {where(error, source.folder)}. Nothing "
            "was committed. To end a crawl early, raise scrapy.exceptions.CloseSpider there."
        ) from error


def configure(scrapy_settings: BaseSettings, source: Source, limits: Limits) -> None:
    """Lays the declaration over the spider's own settings: of two rules for politeness, the gentler holds."""
    for name, why in _NOT_HONOURED.items():
        own = scrapy_settings.get(name)
        if own and scrapy_settings.getpriority(name):
            _log.warning("%s: the spider's setting %s is not used: %s", source.name, name, why)
    gentle = source.spec.politeness
    delay = 1 / gentle.requests_per_second if gentle.requests_per_second else 0.0
    own_delay = scrapy_settings.getfloat("DOWNLOAD_DELAY") if scrapy_settings.getpriority("DOWNLOAD_DELAY") else 0.0
    timeout = limits.duration.total_seconds() if limits.duration else 0.0
    own_timeout = scrapy_settings.getfloat("CLOSESPIDER_TIMEOUT")
    enforced = _ENFORCED | {
        "FEEDS": {},
        "JOBDIR": None,
        "DOWNLOAD_SLOTS": {},
        "ROBOTSTXT_OBEY": gentle.robots == "obey" or scrapy_settings.getbool("ROBOTSTXT_OBEY"),
        "DOWNLOAD_DELAY": max(delay, own_delay),
        # A delay is the least time between two requests to a host; with jitter it would be that only on average.
        "DOWNLOAD_DELAY_JITTER": 0.0,
        "CONCURRENT_REQUESTS": _gentler(scrapy_settings, "CONCURRENT_REQUESTS", gentle.concurrency),
        "CONCURRENT_REQUESTS_PER_DOMAIN": _gentler(
            scrapy_settings, "CONCURRENT_REQUESTS_PER_DOMAIN", gentle.concurrency
        ),
        "CLOSESPIDER_TIMEOUT": min(filter(None, (timeout, own_timeout)), default=0.0),
        guards.ALLOW_PRIVATE: source.spec.fetch.allow_private,
    }
    for name, value in enforced.items():
        scrapy_settings.set(name, value, priority="cmdline")
    for name, component, order in _COMPONENTS:
        # Set as a whole: Scrapy lays the process's settings over entries that have only the default's priority.
        scrapy_settings.set(name, scrapy_settings.getdict(name) | {component: order}, priority="cmdline")


def _gentler(scrapy_settings: BaseSettings, name: str, declared: int) -> int:
    own = scrapy_settings.getint(name) if scrapy_settings.getpriority(name) else 0
    return min(declared, own) if own > 0 else declared


def _limits(declared: Limits, pages: int | None) -> Limits:
    if pages is None:
        return declared
    return declared.model_copy(update={"pages": min(pages, declared.pages or pages)})


def _raise_failure(crawler: PartitionCrawler, task: "asyncio.Task[None]", source: Source) -> None:
    """Raises where Scrapy ended without a crawl that could be judged."""
    if crawler.fatal:
        raise crawler.fatal
    error = task.exception() if task.done() and not task.cancelled() else None
    if error is not None:
        raise spiders.UnusableSourceError(
            f"{source.name}: the spider could not be started: {where(error, source.folder)}"
        ) from error
    if not crawler.books.finish_reason:
        raise CrawlError(f"{source.name}: Scrapy stopped before the spider was closed; its log says why.")


def _commit(
    lake: Lake,
    source: Source,
    key: str,
    crawler: PartitionCrawler,
    interruption: Interruption,
    token: str,
    about: dict[str, Any],
    known: dict[str, Any],
) -> Manifest:
    verdict = crawler.books.verdict()
    layer = "raw" if verdict.passed else INCOMPLETE
    notes = {"books": about | verdict.details, "token": token}
    try:
        raw_rows, dead_rows = crawler.spool.records(), crawler.spool.dead_letters()
    except OSError as error:
        raise no_room(error) from error
    with stage(raw_rows) as raw, stage(dead_rows) as dead:
        interruption.too_late()
        # The records come last: they are what the others go by, and their manifest says that the crawl is over.
        lake.commit("dead_letters", source.name, key, dead, **known)
        manifest = lake.commit(layer, source.name, key, raw, checks=(verdict,), notes=notes, **known)
        if layer != INCOMPLETE:
            for suffix in (".json", ".parquet"):  # of an older crawl, which this one makes good
                lake.delete(object_path(INCOMPLETE, source.name, key, suffix))
        return manifest


def _versions(source: Source) -> dict[str, str]:
    return {"gossamer": __version__, "scrapy": scrapy.__version__, "spider": source.code_version("spider")}
