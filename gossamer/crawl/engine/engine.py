"""Scrapy's engine with an own loop around each response: fetched, scraped, piped and committed as one unit.

Downloader, middlewares, scraper, pipelines, signals, stats and extensions are Scrapy's; from its engine come the life
cycle and the API that extensions and spiders use. What is new is that every output is told which unit it belongs to
(passed along; a context variable serves side doors only), that a request counts as in progress until its unit is
committed, and that a failure of ours never passes for the end of a page. `seam` lists the private names this rests on.

With a scheduler of the spider's own (`SCHEDULER`), all of it is Scrapy's engine, and nothing survives a crash.
"""

import asyncio
import hashlib
import logging
import pickle
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import copy_context
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import Any, Self

from itemadapter import ItemAdapter
from scrapy import Request, Spider, signals
from scrapy.core.engine import ExecutionEngine
from scrapy.core.scheduler import BaseScheduler
from scrapy.crawler import Crawler
from scrapy.exceptions import CloseSpider, DropItem, IgnoreRequest
from scrapy.http import Response, TextResponse
from scrapy.logformatter import LogFormatter
from scrapy.settings import BaseSettings
from scrapy.spidermiddlewares.httperror import HttpError
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.log import failure_to_exc_info, logformatter_adapter
from twisted.python.failure import Failure

from gossamer.crawl import reasons
from gossamer.crawl.books import left_as
from gossamer.crawl.engine import seam
from gossamer.crawl.engine.desk import START_DONE, Desk, TooManyUnwritableRequestsError
from gossamer.crawl.engine.job import Job
from gossamer.crawl.engine.requests import UnwritableRequestError
from gossamer.crawl.engine.unit import CURRENT, DROPPED, ERRORS, OpenUnit, Work
from gossamer.crawl.frontier import Ending, FrontierError, NewRecord, State
from gossamer.crawl.reasons import EXCLUSIONS, Reason
from gossamer.crawl.text import printable
from gossamer.user_code import where

_log = logging.getLogger(__name__)

DEFAULT_SCHEDULER = "scrapy.core.scheduler.Scheduler"
#: Scrapy's own word for a spider that is closed by its own code.
CANCELLED = "cancelled"
#: Outputs of one callback that are taken in one go; then others have their turn.
_TURN = 100
#: How often a callback that yields much looks whether the lake has caught up.
_HOLD_SECONDS = 0.1
#: What code that is not ours may raise. A task that is itself cancelled goes all the same: `_go_if_cancelled`.
_RAISED = (Exception, asyncio.CancelledError)
#: Characters that are kept of what went wrong, and of the page: both are the site's to choose.
_MESSAGE = 4_000
_SAMPLE = 500
#: Reasons of dropped items that are counted apart; a pipeline may say another one for each item.
_MOST_DROPS = 100
#: Reasons with which the engine is closed although the crawl is not over for good, or over by itself.
_NOT_FOR_GOOD = frozenset({"finished", "shutdown", "start_error", "interrupted", "paused", "stopped", "failed"})


class DurableEngine(ExecutionEngine):
    """The engine of one launch of a crawl.

    Attributes:
        desk: its scheduler; None before the spider is open, and with a scheduler of the spider's own.
        start_error: what `start()` raised, and where; "" while it raised nothing.
        rolls_back: from now on failures to fetch are not the pages': our own network or process is going down.
    """

    def __init__(self, crawler: Crawler, closed: Callable[[Spider], Any], job: Job) -> None:
        self.job = job
        self.desk: Desk | None = None
        self.start_error = ""
        self.rolls_back = False
        self._closing: asyncio.Task[None] | None = None
        self._start_unit: OpenUnit | None = None
        self._starts_open: set[OpenUnit] = set()
        self._starts_over = False
        self._idle = False
        self._drops_early = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._drops = {name for name in job.frontier.counters() if name.startswith(DROPPED)}
        job.committed = self._committed
        super().__init__(crawler, closed)
        self._own_pipelines = seam.has_own_item_processor(self.scraper)
        pipelines = () if self._own_pipelines else self.scraper.itemproc.methods["process_item"]
        self._items_wait = self._own_pipelines or any(iscoroutinefunction(method) for method in pipelines)
        # Scrapy's own words for a page and an item are of the level DEBUG; another's may be of any.
        self._says_all = type(self.logformatter) is not LogFormatter
        seam.tap_depth(self.scraper, self._too_deep)

    def _get_scheduler_class(self, settings: BaseSettings) -> type[BaseScheduler]:
        found = super()._get_scheduler_class(settings)
        return found if seam.name_of(settings["SCHEDULER"]) != DEFAULT_SCHEDULER else self._desk_class()

    def _desk_class(self) -> type[BaseScheduler]:
        engine = self

        class EngineDesk(Desk):
            @classmethod
            def from_crawler(cls, crawler: Crawler) -> Self:
                desk = cls(crawler, engine.job)
                engine.desk = desk
                return desk

        return EngineDesk

    async def open_spider_async(self, *, close_if_idle: bool = True) -> None:
        try:
            await super().open_spider_async(close_if_idle=close_if_idle)
        finally:
            if self.desk is not None and self._start is not None and self._slot is not None:
                self.desk.attach(self.downloader, self._slot.nextcall.schedule)
                self._drops_early = self.desk.knows_by_url and seam.only_scrapy_sees_links(self)
                self._start = self._begin_starts(self._start, self.desk)

    # -- start() --------------------------------------------------------------------------------------------------

    async def _begin_starts(self, outputs: AsyncIterator[Any], desk: Desk) -> AsyncIterator[Any]:
        """The outputs of `start()` that were not committed before, each as a unit of its own."""
        if desk.halted or desk.frontier.get(START_DONE):
            return
        occurrences: dict[bytes, int] = {}
        while True:
            try:
                output = await anext(outputs)
            except StopAsyncIteration:
                break
            except CloseSpider as error:  # Scrapy before 2.18 takes it for an ordinary error
                desk.halt(_own_reason(error), None)
                self._closing = asyncio.get_running_loop().create_task(self.close_spider_async(reason=error.reason))
                return
            except Exception as error:  # before 2.18, Scrapy logs it and calls the crawl finished
                self.start_error = where(error, self.job.folder)
                raise
            content = _content(output)
            number = occurrences[content] = occurrences.get(content, 0) + 1
            key = content + number.to_bytes(4, "big")
            if self._was_started(key, desk):
                continue
            unit = desk.begin(start_key=key)
            self._starts_open.add(unit)
            if isinstance(output, Request):
                self._start_unit = unit
                yield output  # comes back by `crawl`
                if self._start_unit is unit:  # the spider was closed in between
                    unit.spoilt, self._start_unit = True, None
                    desk.release(unit)
            else:
                await self._start_item(output, Work(unit, None), desk)
        if self.rolls_back:  # it may have ended early because a fetch of its own was cut short
            return
        self._starts_over = True
        self._end_starts(desk)

    def _was_started(self, key: bytes, desk: Desk) -> bool:
        try:
            return desk.frontier.started(key)
        except FrontierError as error:  # Scrapy would take it for an error of the spider's
            self.job.fatal(error)
            raise

    async def _start_item(self, item: Any, work: Work, desk: Desk) -> None:
        try:
            await self._item(item, None, work)
        except Exception as error:
            self._spoil(work, error)
            raise
        except BaseException:
            work.unit.spoilt = True
            raise
        finally:
            desk.release(work.unit)
            seam.check_if_closing(self.scraper)

    def _end_starts(self, desk: Desk) -> None:
        """Marks `start()` as done with a commit that comes after its last output's, never before."""
        if self._starts_over and not self._starts_open:
            self._starts_over = False
            unit = desk.begin()
            unit.unit.values = {START_DONE: b"1"}
            desk.release(unit)

    def crawl(self, request: Request) -> None:
        if self.desk is None:
            super().crawl(request)
            return
        if self.spider is None:
            raise RuntimeError(f"No open spider to crawl: {request}")
        self._idle = False
        unit, self._start_unit = self._start_unit, None
        if unit is not None:
            self._hand_over(request, unit, start=True)
            return
        work = CURRENT.get()
        if work is not None and work.unit.holders and not work.unit.spoilt:
            self._take(request, work.unit)
            return
        self._hand_over(request, self.desk.begin())

    def _hand_over(self, request: Request, unit: OpenUnit, *, start: bool = False) -> None:
        """Takes the only request of a unit."""
        assert self.desk is not None
        try:
            self._take(request, unit, start=start)
        except BaseException:
            unit.spoilt = True
            raise
        finally:
            self.desk.release(unit)

    def _take(self, request: Request, unit: OpenUnit, *, start: bool = False) -> None:
        """Takes a request that a unit yields, if no handler of `request_scheduled` refuses it."""
        assert self.desk is not None
        assert self._slot is not None
        if refusal := self._refusal(request):
            ending = _ended(State.EXCLUDED, reasons.of_download_error(refusal), str(refusal))
            self._leave_out(request, unit, ending, start=start)
        elif not self.desk.enqueue(request, unit, start=start):
            self.signals.send_catch_log(signals.request_dropped, request=request, spider=self.spider)
        self._slot.nextcall.schedule()

    def _refusal(self, request: Request) -> IgnoreRequest | None:
        results = self.signals.send_catch_log(
            signals.request_scheduled, request=request, spider=self.spider, dont_log=IgnoreRequest
        )
        for _, result in results:
            if isinstance(result, Failure) and isinstance(error := result.value, IgnoreRequest):
                return error
        return None

    def _leave_out(self, request: Request, unit: OpenUnit, ending: Ending, *, start: bool = False) -> None:
        """Enters a link that a rule keeps from being fetched: once, however often it is found."""
        assert self.desk is not None
        fingerprint = hashlib.blake2b(
            self.desk.fingerprint(request),
            digest_size=20,
            person=ending.reason.encode()[:16],  # the same page may be fetched where the rule does not hold
        ).digest()
        if fingerprint not in unit.fingerprints:
            unit.fingerprints.add(fingerprint)
            self.desk.add(unit, self.desk.entry(request, fingerprint, start=start, ending=ending))

    def _too_deep(self, request: Request) -> None:
        work = CURRENT.get()
        if self.desk is not None and work is not None and work.unit.holders:
            self._leave_out(request, work.unit, _ended(State.EXCLUDED, Reason.DEPTH, "beyond DEPTH_LIMIT"))

    def enter_seed(self, url: str, callback: str, ending: Ending) -> None:
        """Enters a seed that ended before the spider ran (a sitemap); once, whatever a later launch says again."""
        assert self.desk is not None
        key = hashlib.blake2b(f"{callback} {url}".encode(), digest_size=16).digest()
        if not self.desk.frontier.started(key):
            unit = self.desk.begin(start_key=key)
            entry = self.desk.entry(Request(url), None, start=True, ending=ending)
            entry.callback = callback
            self.desk.add(unit, entry)
            self.desk.release(unit)

    # -- the loop of one request ----------------------------------------------------------------------------------

    def roll_back(self) -> None:
        """From now on nothing more leaves, and what fails is not the pages' fault: it is repeated by a later launch."""
        self.rolls_back = True
        seam.drop_queued(self.downloader)

    def put_down(self) -> None:
        """Commits what is over and gives the rest back; for an engine whose spider could not be closed in time."""
        for task in self._tasks:
            task.cancel()
        if self.desk is not None:
            self.desk.close("")

    def needs_backout(self) -> bool:
        return super().needs_backout() or (self.desk is not None and self.job.holds())

    def _start_scheduled_requests(self) -> None:
        CURRENT.set(None)  # whoever woke the engine is not the parent of what happens now
        super()._start_scheduled_requests()
        if self._slot is not None and self._slot.closing is not None:
            self._leave_memory()

    def _leave_memory(self) -> None:
        """Ends what waits in memory once nothing more is begun: its units would never be over."""
        if self.desk is None:
            return
        for work in self.desk.in_memory():
            if work.inside is None or self.rolls_back or self.desk.halted is None:
                work.unit.spoilt = True
            else:
                reason = left_as(self.desk.halted)
                work.inside.ending = _ended(State.EXCLUDED, reason, "the crawl ended before it was fetched")
                self.desk.add(work.unit, work.inside)
            self.desk.release(work.unit)

    def _spider_idle(self) -> None:
        self._idle = True
        if self.desk is not None and self.desk.halted:  # by an earlier launch; no handler may keep it open
            self._closing = asyncio.get_running_loop().create_task(self.close_spider_async(reason=self.desk.halted))
            return
        super()._spider_idle()

    def _start_scheduled_request(self) -> bool:
        if self.desk is None:
            return super()._start_scheduled_request()
        assert self._slot is not None
        work = None if self.rolls_back else self.desk.next()
        if work is None:
            self.signals.send_catch_log(signals.scheduler_empty)
            return False
        assert work.request is not None
        context = copy_context()
        context.run(CURRENT.set, work)
        # Not inside the task: the engine counts on the request being active when this returns.
        download = context.run(self._begin_download, work.request)
        task = asyncio.get_running_loop().create_task(self._run(work, download), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def download_async(self, request: Request) -> Response:
        """As Scrapy's. What a stop cuts short here is not the page's fault, whatever its callback makes of it."""
        try:
            return await super().download_async(request)
        except Exception:
            if self.rolls_back and (work := CURRENT.get()) is not None:
                work.unit.spoilt = True
            raise

    def _begin_download(self, request: Request) -> Awaitable[Response | Request]:
        """What `_download` does, without the tasks and Deferreds around it where the downloader is Scrapy's own."""
        assert self._slot is not None
        if not seam.has_scrapys_downloader(self):
            return maybe_deferred_to_future(self._download(request))
        self._slot.add_request(request)
        self.downloader.active.add(request)
        return self._fetch(request)

    async def _fetch(self, request: Request) -> Response | Request:
        try:
            try:
                result = await seam.fetch(self.downloader, request)
            finally:
                self.downloader.active.remove(request)
            if isinstance(result, Response):
                result.request = result.request or request
                if self._says_all or _engine_log.isEnabledFor(logging.DEBUG):
                    assert self.spider is not None
                    words = self.logformatter.crawled(result.request, result, self.spider)
                    if words is not None:
                        _engine_log.log(*logformatter_adapter(words), extra={"spider": self.spider})
                self.signals.send_catch_log(
                    signals.response_received, response=result, request=result.request, spider=self.spider
                )
            elif not isinstance(result, Request):
                raise TypeError(f"Incorrect type: expected Response or Request, got {type(result)}: {result!r}")
            return result
        finally:
            if self._slot is not None:
                self._slot.nextcall.schedule()

    async def _run(self, work: Work, download: Awaitable[Response | Request]) -> None:
        """One request from its answer to the end of its unit."""
        request, goes_on = work.request, False
        assert request is not None
        try:
            result: Response | Request | Failure
            try:
                result = await download
            except _RAISED:  # a download handler or a middleware may raise anything: it is the outcome
                _go_if_cancelled()
                result = _caught()
            if self.rolls_back and not isinstance(result, Response):
                work.unit.spoilt = True
            elif isinstance(result, Request):
                goes_on = self._replace(work, result)
            elif isinstance(result, Response):
                work.fetched_at = datetime.now(UTC)
                work.unit.count("responses")
                await self._scrape(work, result)
            else:
                await self._fail(work, result)
        except Exception as error:  # noqa: BLE001  (of ours, or of a component at a place where Scrapy has no answer)
            self._spoil(work, error)
        except BaseException:
            work.unit.spoilt = True  # cancelled: what it yielded is not whole
            raise
        finally:
            self._over(work, request, goes_on=goes_on)

    def _over(self, work: Work, request: Request, *, goes_on: bool) -> None:
        assert self.desk is not None
        assert self._slot is not None
        unit = work.unit
        if request is not unit.request:
            self._slot.remove_request(request)
        if goes_on:
            self._slot.nextcall.schedule()
            return
        if work.inside is not None:
            work.inside.ending = work.ending or _ended(State.FETCHED)
            work.inside.also = tuple(sorted(work.visited))
            self.desk.add(unit, work.inside)
        elif unit.unit.replacement is None:
            unit.unit.ending = work.ending or _ended(State.FETCHED)
            unit.unit.also = tuple(sorted(work.visited))
        self.desk.release(unit)
        self._slot.nextcall.schedule()

    def _committed(self, unit: OpenUnit) -> None:
        """A unit is over: only now its request is not in progress any more."""
        if unit in self._starts_open and not unit.spoilt and self.desk is not None:
            self._starts_open.remove(unit)
            self._end_starts(self.desk)
        if unit.request is not None and self._slot is not None and unit.request in self._slot.inprogress:
            self._slot.remove_request(unit.request)
            self._slot.nextcall.schedule()

    def _spoil(self, work: Work, error: Exception) -> None:
        """What the unit yields is not whole: it is not committed, and the crawl ends; a later launch repeats it."""
        work.unit.spoilt = True
        if not isinstance(error, FrontierError):
            _log.critical(
                "The unit of %s is broken off: %s", work.request, where(error, self.job.folder), exc_info=error
            )
            error = FrontierError(f"{where(error, self.job.folder)} (while {work.request} was worked on)")
        self.job.fatal(error)

    def _replace(self, work: Work, request: Request) -> bool:
        """A middleware asks for another request instead (a retry, a redirect); True where it goes on in memory."""
        assert self.desk is not None
        assert work.request is not None
        unit, lease = work.unit, work.unit.lease
        was_filtered = work.filtered and work.request.dont_filter
        if was_filtered and request.dont_filter and _is_redirect(work.request, request):
            # Scrapy's retries are not filtered, nor would be what they lead to: trouble of the network would decide
            # which pages are fetched twice, and how a redirect loop ends.
            request = request.replace(dont_filter=False)
        if refusal := self._refusal(request):
            work.ending = _ended(State.EXCLUDED, reasons.of_download_error(refusal), str(refusal))
            return False
        filtered = self.desk.filtered(request)
        is_own = filtered is not None and self.desk.is_own(filtered, work)
        trail = request.meta.get("redirect_urls", ())
        if is_own and request.url in trail:  # another form of its URL, or another header, may be what the site wants
            message = f"redirected back to itself: {' -> '.join([*trail, request.url])}"
            work.ending = _ended(State.DEAD, Reason.REDIRECT_LOOP, message)
            return False
        if work.inside is None and lease is not None:
            try:
                retries = work.filtered and request.dont_filter and request.url == work.request.url
                unit.unit.replacement = self.desk.entry(request, filtered, filtered=retries)
            except UnwritableRequestError:
                pass  # it goes on in memory
            else:
                self.crawler.stats.inc_value("scheduler/enqueued")
                return False
        if filtered is not None and not is_own and not self.desk.visit(filtered, work):
            work.ending = _ended(State.REDIRECTED, url=request.url)
            return False
        work.request = request
        self.desk.again(work)
        return True

    async def _fail(self, work: Work, failure: Failure) -> None:
        """There is no answer: the errback has its say."""
        error = failure.value
        assert error is not None
        assert work.request is not None
        reason = reasons.of_download_error(error)
        state = State.EXCLUDED if reason in EXCLUSIONS else State.DEAD
        work.ending = _ended(state, reason, f"{type(error).__name__}: {error}")
        try:
            outputs = await self.scraper.call_spider_async(failure, work.request)
        except _RAISED as raised:  # an errback may raise anything
            _go_if_cancelled()
            if not isinstance(error, IgnoreRequest):
                words = self.logformatter.download_error(failure, work.request, self.spider)  # type: ignore[arg-type]
                extra = {"spider": self.spider}
                _scraper_log.log(*logformatter_adapter(words), extra=extra, exc_info=failure_to_exc_info(failure))
            if raised is not error:
                self._spider_error(work, failure, _caught())
        else:
            await self._emit_all(outputs, failure, work)

    async def _scrape(self, work: Work, response: Response) -> None:
        """The answer goes through the spider middlewares to the callback, and the outputs back through them."""
        slot, request = self.scraper.slot, work.request
        assert slot is not None
        assert request is not None
        size = max(len(response.body), slot.MIN_RESPONSE_SIZE)
        slot.active.add(request)
        slot.active_size += size

        async def call(result: Response | Failure, request: Request) -> Iterable[Any] | AsyncIterator[Any]:
            if isinstance(result, Failure):  # a spider middleware does not let it through
                work.ending = work.ending or _refused(result, response)
            outputs = await self.scraper.call_spider_async(result, request)
            return self._without_known(outputs, work.unit) if self._drops_early else outputs

        try:
            try:
                outputs = await self.scraper.spidermw.scrape_response_async(call, response, request)
            except _RAISED:  # a callback may raise anything
                _go_if_cancelled()
                self._spider_error(work, response, _caught())
            else:
                await self._emit_all(outputs, response, work)
        finally:
            slot.active.discard(request)
            slot.active_size -= size
            seam.check_if_closing(self.scraper)
            seam.break_selector_cycle(response)

    def _without_known(
        self, outputs: Iterable[Any] | AsyncIterator[Any], unit: OpenUnit
    ) -> Iterable[Any] | AsyncIterator[Any]:
        """Drops plain links that are in the store before the spider middlewares work on them: most links are such."""
        assert self.desk is not None
        is_known = self.desk.is_known

        def keep(output: Any) -> bool:
            if not (type(output) is Request and is_known(output)):
                return True
            unit.count("duplicates")
            self.crawler.stats.inc_value("dupefilter/filtered")
            return False

        if isinstance(outputs, AsyncIterator):
            return (output async for output in outputs if keep(output))
        return filter(keep, outputs)

    # -- outputs --------------------------------------------------------------------------------------------------

    async def _emit_all(
        self, outputs: Iterable[Any] | AsyncIterator[Any], response: Response | Failure, work: Work
    ) -> None:
        """Takes every output, one after the other; what raises between two of them is the spider's."""
        waiting: set[asyncio.Task[None]] = set()
        iterator = outputs if isinstance(outputs, AsyncIterator) else None
        plain = None if iterator is not None else iter(outputs)  # type: ignore[arg-type]
        taken = 0
        try:
            while True:
                try:
                    output = await anext(iterator) if iterator is not None else next(plain)  # type: ignore[arg-type]
                except (StopAsyncIteration, StopIteration):
                    break
                except _RAISED:  # a callback may raise anything, midway too
                    _go_if_cancelled()
                    self._spider_error(work, response, _caught())
                    break
                if isinstance(output, Request):
                    try:
                        self._take(output, work.unit)
                    except TooManyUnwritableRequestsError:
                        self._spider_error(work, response, _caught())
                        break
                elif output is not None:
                    await self._take_item(output, response, work, waiting)
                taken += 1
                if taken % _TURN == 0:
                    await asyncio.sleep(0)
                    while self._holds_outputs():
                        await asyncio.sleep(_HOLD_SECONDS)
        finally:
            if waiting:
                await asyncio.gather(*waiting)

    def _holds_outputs(self) -> bool:
        """What a callback yields waits, because what is staged would wait in memory for the lake."""
        is_closing = self._slot is None or self._slot.closing is not None
        return self.job.holds() and not (self.rolls_back or is_closing)

    async def _take_item(
        self, item: Any, response: Response | Failure, work: Work, waiting: set[asyncio.Task[None]]
    ) -> None:
        if not self._items_wait:
            await self._item(item, response, work)
            return
        while len(waiting) >= max(1, self.scraper.concurrent_items):
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            waiting -= done
            for task in done:
                task.result()
        waiting.add(asyncio.get_running_loop().create_task(self._item(item, response, work)))

    async def _item(self, item: Any, response: Response | Failure | None, work: Work) -> None:
        """One item through the pipelines, into the unit's records."""
        slot, spider, unit = self.scraper.slot, self.spider, work.unit
        assert slot is not None
        assert spider is not None
        slot.itemproc_size += 1
        try:
            try:
                output = await self._through_pipelines(item, spider)
                if self.desk is not None:
                    unit.outputs.append(NewRecord(self.job.row(output, work.page_of(_page(response)), unit.seed)))
                    unit.records += 1
                    self.desk.stage(unit)
            except DropItem as error:
                unit.count(self._drop(error))
                words = self.logformatter.dropped(item, error, response, spider)
                self._say(words, item)
                await self._tell(signals.item_dropped, item=item, response=response, exception=error)
            except FrontierError:
                raise
            except _RAISED as error:  # a pipeline may raise anything; its page is a dead letter
                _go_if_cancelled()
                unit.count(ERRORS)
                work.ending = work.ending or self._dead(Reason.PIPELINE_ERROR, error, response)
                words = self.logformatter.item_error(item, error, response, spider)
                self._say(words, item, exc_info=True)
                await self._tell(signals.item_error, item=item, response=response, failure=_caught())
            else:
                if self._says_all or _scraper_log.isEnabledFor(logging.DEBUG):
                    self._say(self.logformatter.scraped(output, response, spider), output)
                await self._tell(signals.item_scraped, item=output, response=response)
        finally:
            slot.itemproc_size -= 1

    def _drop(self, error: DropItem) -> str:
        """The counter of items that are dropped for this reason."""
        name = f"{DROPPED}{printable(f'{type(error).__name__}: {error}'[:200])[:100]}"
        if name not in self._drops:
            if len(self._drops) >= _MOST_DROPS:
                return f"{DROPPED}other reasons"
            self._drops.add(name)
        return name

    async def _through_pipelines(self, item: Any, spider: Spider) -> Any:
        if self._own_pipelines:
            return await maybe_deferred_to_future(self.scraper.itemproc.process_item(item, spider))
        return await self.scraper.itemproc.process_item_async(item)

    def _say(self, words: Any, item: Any, **more: Any) -> None:
        if words is not None:
            _scraper_log.log(*logformatter_adapter(words), extra={"spider": self.spider, "item": item}, **more)

    async def _tell(self, signal: object, **known: Any) -> None:
        await seam.tell(self.signals, signal, spider=self.spider, **known)

    # -- endings --------------------------------------------------------------------------------------------------

    def _spider_error(self, work: Work, response: Response | Failure, failure: Failure) -> None:
        """A callback, an errback or a spider middleware raised; what it yielded before stays."""
        error = failure.value
        assert error is not None
        if isinstance(error, CloseSpider):
            if self.desk is not None:
                self.desk.halt(_own_reason(error), work.unit)
        elif self.rolls_back:
            work.unit.spoilt = True
        else:
            work.ending = work.ending or self._dead(reasons.of_callback_error(error), error, response)
        assert work.request is not None
        self.scraper.handle_spider_error(failure, work.request, response)

    def _dead(self, reason: Reason, error: BaseException, response: Response | Failure | None) -> Ending:
        trace = "".join(traceback.format_exception(error)[-6:])
        page = response if isinstance(response, Response) else None
        return _ended(State.DEAD, reason, f"{where(error, self.job.folder)}\n{trace}", page)

    async def close_spider_async(self, *, reason: str = "cancelled") -> None:
        by_itself = reason == "finished" and not self._idle
        if self.desk is not None and (by_itself or reason not in _NOT_FOR_GOOD):
            work = CURRENT.get()
            open_unit = work.unit if work is not None and work.unit.holders and not work.unit.spoilt else None
            self.desk.halt(CANCELLED if by_itself else reason, open_unit)
        self._leave_memory()
        await super().close_spider_async(reason=reason)


_engine_log = logging.getLogger("scrapy.core.engine")
_scraper_log = logging.getLogger("scrapy.core.scraper")


def _is_redirect(request: Request, replacement: Request) -> bool:
    times = "redirect_times"
    return bool(replacement.meta.get(times) != request.meta.get(times))


def _ended(
    state: State, reason: str = "", message: str = "", response: Response | None = None, *, url: str = ""
) -> Ending:
    return Ending(
        state,
        str(reason),
        response.status if response is not None else None,
        printable(message[:_MESSAGE]),
        response.text[:_SAMPLE] if isinstance(response, TextResponse) else "",
        url,
        time.time(),
    )


def _own_reason(error: CloseSpider) -> str:
    """The reason that a spider gives for closing itself; "finished" would be taken for the end of the crawl."""
    reason = str(error.reason or "")
    return CANCELLED if reason in ("", "finished") else reason


def _go_if_cancelled() -> None:
    """Raises the CancelledError that is being handled if it was this task that was cancelled.

    One that comes out of what the user's code waited for (a client that was closed, say) is that code's failure.
    """
    task = asyncio.current_task()
    if isinstance(sys.exception(), asyncio.CancelledError) and task is not None and task.cancelling():
        raise


def _caught() -> Failure:
    """The exception that is being handled, as Scrapy passes it on."""
    return Failure()  # type: ignore[no-untyped-call]


def _refused(failure: Failure, response: Response) -> Ending | None:
    """How a response ends that a spider middleware does not let through to the callback; None where it just failed."""
    error = failure.value
    if isinstance(error, HttpError):
        return _ended(State.DEAD, reasons.of_status(response.status), f"HTTP {response.status}", response)
    if isinstance(error, IgnoreRequest):
        return _ended(State.EXCLUDED, Reason.IGNORED, f"{type(error).__name__}: {error}", response)
    return None


def _page(response: Response | Failure | None) -> Response | None:
    """What a record came out of; an errback's failure may hold a response."""
    if isinstance(response, Failure):
        held = getattr(response.value, "response", None)
        return held if isinstance(held, Response) else None
    return response


def _content(output: Any) -> bytes:
    """What an output of `start()` is known by, whatever its place among the others."""
    if isinstance(output, Request):
        parts: Any = (output.method, output.url, output.body, output.meta, output.cb_kwargs, output.priority)
    else:
        parts = dict(ItemAdapter(output)) if ItemAdapter.is_item(output) else repr(type(output))
    try:
        written = pickle.dumps(_ordered(parts), 5)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError):
        written = pickle.dumps(parts[:3] if isinstance(output, Request) else repr(type(output)), 5)
    return hashlib.blake2b(written, digest_size=12).digest()


def _ordered(value: Any) -> Any:
    """The same without sets, whose order is another one in each process."""
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, dict):
        return {name: _ordered(held) for name, held in value.items()}
    return type(value)(map(_ordered, value)) if type(value) in (list, tuple) else value
