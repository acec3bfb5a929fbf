"""One launch of one crawl in this process: the store is opened, Scrapy is set up and run, and what came is committed.

A launch ends in one of three ways: the crawl is over (its rows and the verdict on its books lie in the lake), or it is
at rest (paused, or interrupted: its store is parked, another launch goes on), or it failed. Which crawl it is and what
was asked of it is `life`'s, the loop is `engine`'s, what is committed at the end `finish`'s.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import FrameType

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.settings import Settings as ScrapySettings

from gossamer import __version__, declarations
from gossamer.crawl import books, life, process, progress, seeds, spiders, store
from gossamer.crawl.components import DECLARED_SEEDS, PartitionCrawler
from gossamer.crawl.configure import DEFAULTS, configure, settings_hash, takes_the_oldest
from gossamer.crawl.engine import seam
from gossamer.crawl.engine.desk import CLOSE_REASON
from gossamer.crawl.engine.job import Job
from gossamer.crawl.engine.memory import Memory
from gossamer.crawl.finish import finish
from gossamer.crawl.flush import Flusher
from gossamer.crawl.frontier import Frontier, FrontierError
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.life import Control, Crawl, Wish
from gossamer.crawl.live import Live
from gossamer.crawl.parking import Parking
from gossamer.crawl.rows import RowFormat
from gossamer.crawl.segments import Segments
from gossamer.errors import CrawlError
from gossamer.lake import Lake
from gossamer.partition import Slice
from gossamer.settings import Settings
from gossamer.source import Limits, Source
from gossamer.user_code import where

_log = logging.getLogger(__name__)

#: After a stop, requests in flight have so long to be answered; what is not over then is repeated by the next launch.
GRACE_SECONDS = 3.0
#: What the spider remembers is kept with every group of commits, but where that takes long: it may rest then for so
#: many times as long.
KEEP_FACTOR = 20
#: A store whose copy in the lake is so far behind begins no new request.
MOST_BEHIND_SECONDS = 5.0
PAUSED, INTERRUPTED, STOPPED = "paused", "interrupted", "stopped"
_STARTED_AT, _SECONDS, _STOPPED_BY = "started_at", "seconds", "stopped_by"


class Interrupted(BaseException):
    """A signal came before the crawl began. Not an `Exception`: a spider's module must not catch it."""


class Ended(StrEnum):
    """How a launch ended that did not fail."""

    OVER = "over"
    PAUSED = PAUSED
    INTERRUPTED = INTERRUPTED


class Stopping:
    """What was asked of a launch while it works; the first word counts.

    SIGTERM and SIGINT interrupt it; a second one ends the process at once, which is as safe.
    """

    def __init__(self) -> None:
        self.wish: Control | None = None
        self.fenced = False
        self.signalled = False
        self._too_late = False
        self._stop: Callable[[str], object] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @property
    def reason(self) -> str:
        """paused, stopped, interrupted, or "" while nothing was asked."""
        if self.fenced:
            return INTERRUPTED
        if self.wish is not None:
            return STOPPED if self.wish.wish is Wish.STOP else PAUSED
        return INTERRUPTED if self.signalled else ""

    @property
    def state(self) -> str:
        """What those who watch are told."""
        return {PAUSED: "pausing", STOPPED: "stopping"}.get(self.reason, progress.RUNNING)

    def during(self, stop: Callable[[str], object]) -> None:
        """From now on `stop(reason)` is called, from any thread, when something is asked."""
        self._stop = stop
        self._tell()

    def after(self) -> None:
        """Scrapy is over."""
        self._stop = None

    def decide(self) -> str:
        """Gives the reason; what is asked from now on comes too late, but for a second signal.

        The commit begins, or the parking: both are short, and half of them is worth less than all.
        """
        self._too_late = True
        return self.reason

    def ask(self, control: Control) -> None:
        """Somebody wrote a request into the crawl's control object."""
        if self.wish is None and not (self.signalled or self._too_late) and control.wish is not Wish.RESUME:
            self.wish = control
            self._tell()

    def fence(self) -> None:
        """A newer launch has taken the crawl over."""
        self.fenced = True
        self._tell()

    def _tell(self) -> None:
        if self._stop is not None and self.reason:
            self._stop(self.reason)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.signalled:
            os._exit(process.INTERRUPTED)
        self.signalled = True
        if self._too_late:
            return
        if self._stop is None:
            raise Interrupted
        self._tell()


def run(
    settings: Settings,
    name: str,
    key: str,
    *,
    generation: int | None = None,
    run_id: str = "",
    root_run: str = "",
    pages: int | None = None,
    fresh: bool = False,
) -> Ended:
    """Works on one crawl until it is over or told to rest.

    Over, its rows lie in the lake with the verdict on its books: as `raw` if they close, else as `incomplete`, with
    `raw` as it was.

    Args:
        generation: which crawl of the partition; found by the rules of `life` where it is not given.
        pages: at most so many pages.
        fresh: begin a new crawl although the last one is not over.

    Raises:
        GossamerError: it failed; what was committed to its store is kept, and the next launch goes on.
        FrontierError: likewise; the store cannot go on, or another launch has taken it over.
        Interrupted: a signal came before the crawl began, or after it was done.
    """
    stopping = Stopping()
    source = declarations.load(settings.sources)[name]
    lake = Lake(settings.lake)
    part = source.partition(key)
    if generation is None:
        found = life.find(lake, name, key, root_run, fresh=fresh)
        if found.action is life.Action.RESULT:
            return Ended.OVER
        if found.action is life.Action.ATTACH:
            raise CrawlError(f"{found.crawl.id} is being crawled by another process. Wait for it, or stop it first.")
        generation = found.crawl.generation
        life.wake(lake, found.crawl, by="a process started by hand")
    crawl = Crawl(name, key, generation)
    if life.is_over(lake, crawl):  # another process was faster
        return Ended.OVER
    if control := life.read_control(lake, crawl):
        stopping.ask(control)  # heard before the first request, not a second after it
    launch = life.claim_launch(lake, crawl, {"versions": _versions(source)})
    return _Launch(settings, source, lake, crawl, launch, stopping).work(part, run_id, pages)


class _Launch:
    """One launch: its parts, and the order of its work.

    Attributes:
        failure: why nothing more may be committed; the crawl ends without a result, the next launch goes on.
    """

    def __init__(
        self, settings: Settings, source: Source, lake: Lake, crawl: Crawl, launch: int, stopping: Stopping
    ) -> None:
        self.settings, self.source, self.lake = settings, source, lake
        self.crawl, self.launch, self.stopping = crawl, launch, stopping
        self.parking = Parking(lake, crawl.folder, launch)
        self.live: Live | None = None
        self.failure: FrontierError | None = None
        self._began = time.monotonic()

    def work(self, part: Slice, run_id: str, pages: int | None) -> Ended:
        """Opens the store, works on it, and clears it away where the launch did not fail."""
        with progress.Reporter(
            self.lake,
            self.crawl,
            self.launch,
            self._progress,
            on_wish=self.stopping.ask,
            on_fenced=self.stopping.fence,
        ) as reporter:
            seam.check()
            beginning = seeds.resolve(self.source, part, self.lake)
            # Before the spider is imported: it may import Twisted's reactor, and this chooses which one.
            scrapy_process = AsyncCrawlerProcess(ScrapySettings(DEFAULTS))
            spidercls = spiders.load(self.source)
            path = store.prepare(self.settings.crawls, self.crawl, self.launch, self.parking)
            in_order = takes_the_oldest(spidercls, scrapy_process.settings)
            with contextlib.closing(SqliteFrontier(path, first_in_first_out=in_order)) as frontier:
                self.frontier: Frontier = frontier
                try:
                    ended = self._crawl(scrapy_process, spidercls, beginning, part, run_id, pages, reporter)
                finally:
                    self.parking.stop()
        store.clear(path, self.settings.crawls)
        return ended

    def _crawl(
        self,
        scrapy_process: AsyncCrawlerProcess,
        spidercls: type[scrapy.Spider],
        beginning: seeds.Seeds,
        part: Slice,
        run_id: str,
        pages: int | None,
        reporter: progress.Reporter,
    ) -> Ended:
        frontier, spec = self.frontier, self.source.spec
        self._worked = float(frontier.get(_SECONDS) or 0)
        if frontier.get(_STARTED_AT) is None:
            frontier.put(_STARTED_AT, datetime.now(UTC).isoformat().encode())
        rows = RowFormat(spec.record.fields, self.source.code_version("spider"))
        segments = Segments(self.lake, self.crawl.folder, self.launch, rows.columns, self.crawl.id)
        self.live = Live(
            _limits(spec.limits, pages),
            frontier.tallies(),
            frontier.counters(),
            stop=self._reach_limit,
            worked=self._worked,
        )
        if self.settings.parking == "continuous":
            self.parking.start(frontier)
        job = Job(
            frontier,
            rows.line,
            self.live,
            self._fail,
            holds=lambda: self.parking.behind_s > MOST_BEHIND_SECONDS,
            seeds=beginning.rows,
            folder=self.source.folder,
        )
        crawler = PartitionCrawler(spidercls, scrapy_process.settings, job, beginning.sitemap, self.source.folder)
        notices = configure(crawler.settings, self.source)
        if pages is not None:
            # One request at a time goes deep first: a few pages reach records, not only lists of links.
            crawler.settings.set("CONCURRENT_REQUESTS", 1, priority="cmdline")
        job.values = self._values(Memory(crawler, frontier))
        flusher = Flusher(frontier, segments, self._fail)
        self._run_scrapy(scrapy_process, crawler, flusher, beginning, part)
        reason = self.stopping.decide()
        if reason in (PAUSED, INTERRUPTED):
            self.parking.park(frontier)
            reporter.last(reason)
            return Ended(reason)
        reporter.say(progress.COMMITTING)
        flusher.rest()
        end = self._end(crawler, beginning, notices)
        about = {"run_id": run_id, "code_version": self.source.code_version("spec", "spider")}
        series = {"series": reporter.series()}
        finish(self.lake, self.source, self.crawl, self.launch, frontier, segments, end, about, series)
        self.parking.park(frontier)
        reporter.last(end.state)
        return Ended.OVER

    def _run_scrapy(
        self,
        scrapy_process: AsyncCrawlerProcess,
        crawler: PartitionCrawler,
        flusher: Flusher,
        beginning: seeds.Seeds,
        part: Slice,
    ) -> None:
        """Runs Scrapy until the spider is closed, or is given up after a stop.

        Raises:
            CrawlError: Scrapy ended without a crawl that could be judged.
            FencedError, FrontierError: nothing more may be committed.
        """
        loop = asyncio.get_event_loop()
        arguments = {"partition": part.key, "period": part.period, "segment": part.segment}
        task = scrapy_process.crawl(crawler, start_urls=list(beginning.urls), **arguments)
        flushing = loop.create_task(flusher.run())
        ticking = loop.create_task(_tick(crawler.job.live))
        self._loop, self._crawler, self._closing = loop, crawler, ""
        self.stopping.during(lambda reason: loop.call_soon_threadsafe(self._close, reason))
        gc.freeze()  # what is loaded by now stays: the collector, 12 % of a crawl's time, need not go through it
        try:
            scrapy_process.start(install_signal_handlers=False)
        except SystemExit as error:
            raise CrawlError(
                f"{self.source.name}: the source's own code ended the process: {where(error, self.source.folder)}. "
                "Nothing was committed to the lake. To end a crawl early, raise scrapy.exceptions.CloseSpider there."
            ) from error
        finally:
            flushing.cancel()
            ticking.cancel()
            self.stopping.after()
        if self.failure is not None:
            raise self.failure
        if crawler.was_opened:
            crawler.durable_engine.put_down()
        failed = task.exception() if task.done() and not task.cancelled() else None
        if failed is not None:
            raise spiders.UnusableSourceError(
                f"{self.source.name}: the spider could not be started: {where(failed, self.source.folder)}"
            ) from failed
        if not crawler.finish_reason and not self.stopping.reason:
            raise CrawlError(f"{self.source.name}: Scrapy stopped before the spider was closed; its log says why.")

    def _reach_limit(self, words: str) -> None:
        try:
            self.frontier.put(_STOPPED_BY, words.encode())
        except FrontierError as error:
            self._fail(error)
        else:
            self._close(books.LIMIT)

    def _close(self, reason: str) -> None:
        """Begins no new request, waits a little for those that are under way, and ends Scrapy."""
        if self._closing in ("", books.LIMIT) and self._closing != reason:
            self._closing = reason
            self._ending = self._loop.create_task(self._close_spider(reason))

    async def _close_spider(self, reason: str) -> None:
        if not self._crawler.was_opened:
            seam.stop_reactor()
            return
        engine = self._crawler.durable_engine
        if reason == books.LIMIT:  # what is under way counts, however long it takes
            await engine.close_spider_async(reason=reason)
            return
        engine.roll_back()
        closing = self._loop.create_task(engine.close_spider_async(reason=reason))
        await asyncio.wait({closing}, timeout=GRACE_SECONDS)
        if not closing.done() or closing.exception() is not None:
            seam.stop_reactor()

    def _fail(self, error: FrontierError) -> None:
        """Ends Scrapy at once: what is under way could not be committed."""
        if self.failure is None:
            self.failure = error
            seam.stop_reactor()

    def _values(self, memory: Memory) -> Callable[[bool], Mapping[str, bytes]]:
        due = 0.0

        def values(last: bool) -> Mapping[str, bytes]:
            nonlocal due
            now = time.monotonic()
            if now < due and not last:
                return {}
            held = memory.values() | {_SECONDS: str(self._seconds).encode()}
            due = now + KEEP_FACTOR * (time.monotonic() - now)
            return held

        return values

    @property
    def _seconds(self) -> float:
        return self._worked + time.monotonic() - self._began

    def _progress(self) -> progress.Progress:
        return self.live.progress(self.stopping.state) if self.live else progress.Progress()

    def _end(self, crawler: PartitionCrawler, beginning: seeds.Seeds, notices: list[str]) -> books.End:
        """How the crawl ended, for its books."""
        wish = self.stopping.wish
        halted = self.frontier.get(CLOSE_REASON)
        reason = halted.decode() if halted else crawler.finish_reason
        stopped_by = ""
        if wish is not None and wish.wish is Wish.STOP:
            reason, stopped_by = books.STOPPED, f"{wish.by}: {wish.why}" if wish.why else wish.by
        elif reason == books.LIMIT:
            stopped_by = (self.frontier.get(_STOPPED_BY) or b"").decode()
        from_sitemap = self.frontier.get(DECLARED_SEEDS)
        started_at = self.frontier.get(_STARTED_AT)
        assert started_at
        return books.End(
            reason=reason,
            started_at=datetime.fromisoformat(started_at.decode()),
            seconds=self._seconds,
            stopped_by=stopped_by,
            start_error=crawler.durable_engine.start_error,
            declared_seeds=int(from_sitemap) if from_sitemap else len(beginning.urls),
            launches=self.launch,
            generation=self.crawl.generation,
            settings_hash=settings_hash(crawler.settings),
            versions=_versions(self.source),
            notices=tuple(notices),
        )


async def _tick(live: Live) -> None:
    while True:
        await asyncio.sleep(1)
        live.tick()


def _limits(declared: Limits, pages: int | None) -> Limits:
    if pages is None:
        return declared
    return declared.model_copy(update={"pages": min(pages, declared.pages or pages)})


def _versions(source: Source) -> dict[str, str]:
    return {"gossamer": __version__, "scrapy": scrapy.__version__, "spider": source.code_version("spider")}
