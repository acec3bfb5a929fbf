"""The engine's desk: what lies between Scrapy's loop and the frontier's store.

Requests come here to be written down, leases lie here until the engine takes them, and finished units wait here a
moment so that many of them are committed in one transaction. Memory is bounded: the window of leases, the units under
way, and the URLs last seen. It takes the place of Scrapy's scheduler; its name in Scrapy's API is kept where extensions
use it.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from scrapy import Request, Spider
from scrapy.core.downloader import Downloader
from scrapy.core.scheduler import BaseScheduler
from scrapy.crawler import Crawler
from scrapy.utils.misc import load_object
from scrapy.utils.request import RequestFingerprinter

from gossamer.crawl.engine.job import Job
from gossamer.crawl.engine.requests import RequestCodec, UnwritableRequestError, callback_name
from gossamer.crawl.engine.unit import OpenUnit, Work
from gossamer.crawl.frontier import Ending, FrontierError, Lease, NewRequest, State, Unit
from gossamer.crawl.reasons import Reason

_log = logging.getLogger(__name__)

#: Finished units wait at most so long for others to share their transaction.
GROUP_SECONDS = 0.03
#: Outputs of one unit beyond this are staged in the store, so that memory stays flat.
STAGE_OUTPUTS = 2_000
#: Requests that cannot be written down, of one unit: they are held in memory, and repeated as a whole after a crash.
MOST_UNWRITABLE = 1_000
#: URLs known to be in the store, by which a link is dropped before middlewares work on it.
_KNOWN_URLS = 50_000
_LARGEST_WINDOW = 256
_MOST_PRIORITY = 2**62
#: How long until hosts that were all busy are looked at again.
_BUSY_SECONDS = 0.05

_T = TypeVar("_T")

START_DONE = "start_done"
CLOSE_REASON = "close_reason"


class TooManyUnwritableRequestsError(Exception):
    """One page yields more requests that cannot be written down than may be held in memory."""


class Desk(BaseScheduler):
    """The scheduler of a durable crawl.

    Attributes:
        halted: the reason for which the spider was closed; nothing more is handed out, in later processes neither.
    """

    def __init__(self, crawler: Crawler, job: Job) -> None:
        assert crawler.request_fingerprinter
        assert crawler.stats
        self.frontier = job.frontier
        self._job = job
        self._crawler = crawler
        self._stats = crawler.stats
        self.fingerprint = crawler.request_fingerprinter.fingerprint
        dupefilter = load_object(crawler.settings["DUPEFILTER_CLASS"])
        self._filters = dupefilter.__qualname__ != "BaseDupeFilter"
        #: Plain links of one URL are one request, whatever else they carry.
        self.knows_by_url = self._filters and type(crawler.request_fingerprinter) is RequestFingerprinter
        concurrency = crawler.settings.getint("CONCURRENT_REQUESTS")
        self._size = min(concurrency, _LARGEST_WINDOW) if concurrency > 0 else 64
        self._downloader: Downloader | None = None
        self._wake: Callable[[], None] = lambda: None
        self._window: dict[str, deque[Lease]] = {}
        self._leased = 0
        self._memory: deque[Work] = deque()
        self._inside: set[bytes] = set()
        self._batch: list[OpenUnit] = []
        self._open = 0
        self._begun: set[int] = set()
        self._again: set[int] = set()
        self._counts_pages = bool(job.live.limits.pages)
        self._received = job.live.bytes
        self._timer: asyncio.TimerHandle | None = None
        self._woken: asyncio.TimerHandle | None = None
        self._look_again = 0.0
        self._known: OrderedDict[str, None] = OrderedDict()
        self._closed = False
        halted = self.frontier.get(CLOSE_REASON)
        self.halted = halted.decode() if halted else None

    def attach(self, downloader: Downloader, wake: Callable[[], None]) -> None:
        """Connects the desk with the engine that was opened; `wake` makes it look for requests."""
        self._downloader, self._wake = downloader, wake

    def open(self, spider: Spider) -> None:
        self._codec = RequestCodec(spider)

    # -- requests come in -----------------------------------------------------------------------------------------

    def begin(self, lease: Lease | None = None, start_key: bytes | None = None) -> OpenUnit:
        """A unit that is under way from now on."""
        self._open += 1
        if lease is not None:
            self._begun.add(lease.id)
        return OpenUnit(lease, start_key)

    def enqueue_request(self, request: Request) -> bool:
        """Takes a request that belongs to no unit (an extension's own)."""
        unit = self.begin()
        try:
            return self.enqueue(request, unit)
        finally:
            self.release(unit)

    def enqueue(self, request: Request, unit: OpenUnit, *, start: bool = False) -> bool:
        """Takes a request that the unit yields; False where it is known already.

        Raises:
            TooManyUnwritableRequestsError: the unit holds too many that cannot be written down.
            FrontierError: the store cannot go on.
        """
        fingerprint = self.filtered(request)
        if fingerprint is not None and self._is_known(fingerprint, unit):
            unit.count("duplicates")
            self._stats.inc_value("dupefilter/filtered")
            return False
        try:
            entry = self.entry(request, fingerprint, start=start)
        except UnwritableRequestError as error:
            self._run_inside(request, fingerprint, unit, error, start=start)
        else:
            self.add(unit, entry)
            if fingerprint is not None and _is_plain(request):
                unit.urls.append(request.url)
        if fingerprint is not None:
            unit.fingerprints.add(fingerprint)
        self._stats.inc_value("scheduler/enqueued")
        return True

    def filtered(self, request: Request) -> bytes | None:
        """What the request is known by; None where it is never a duplicate."""
        return None if request.dont_filter or not self._filters else self.fingerprint(request)

    def _is_known(self, fingerprint: bytes, unit: OpenUnit) -> bool:
        """Only committed requests and the unit's own count: another unit under way may never be committed."""
        if fingerprint in unit.fingerprints or fingerprint in self._inside:
            return True
        return self.frontier.seen(fingerprint) is not None

    def is_own(self, fingerprint: bytes, work: Work) -> bool:
        """Whether this work has come by what is known by the fingerprint: it goes round in circles."""
        if work.inside is not None:
            return fingerprint in work.visited or fingerprint == work.inside.fingerprint
        lease = work.unit.lease
        return fingerprint in work.visited or (lease is not None and self.frontier.seen(fingerprint) == lease.id)

    def visit(self, fingerprint: bytes, work: Work) -> bool:
        """Work that goes on in memory is redirected there; False where another request is known by it."""
        if self._is_known(fingerprint, work.unit):
            return False
        work.visited.add(fingerprint)
        work.unit.fingerprints.add(fingerprint)
        self._inside.add(fingerprint)
        return True

    def entry(
        self,
        request: Request,
        fingerprint: bytes | None,
        *,
        start: bool = False,
        ending: Ending | None = None,
        filtered: bool = False,
    ) -> NewRequest:
        """The request as the store keeps it; one that is over already needs no body.

        Args:
            filtered: as `RequestCodec.encode` says.

        Raises:
            UnwritableRequestError: it cannot be written down.
        """
        return NewRequest(
            b"" if ending else self._codec.encode(request, filtered=filtered),
            request.url,
            _host(request.url),
            callback_name(request),
            fingerprint,
            max(-_MOST_PRIORITY, min(request.priority, _MOST_PRIORITY)),
            _depth(request),
            start,
            self._seed(request) if start else None,
            ending,
        )

    def _seed(self, request: Request) -> str:
        return self._job.seeds.get(request.url, request.url)

    def add(self, unit: OpenUnit, entry: NewRequest) -> None:
        """Puts a request among the unit's outputs."""
        unit.outputs.append(entry)
        unit.requests += 1
        self.stage(unit)

    def stage(self, unit: OpenUnit) -> None:
        """Takes outputs of a unit out of memory where they are many; nobody sees them before its commit."""
        if len(unit.outputs) < STAGE_OUTPUTS or unit.spoilt:
            return
        unit.unit.staged = unit.unit.staged or f"{id(unit):x}-{self.frontier.sequence}"
        self._guarded(lambda: self.frontier.stage(unit.unit.staged or "", unit.unit.request, unit.outputs))
        unit.outputs = []
        unit.urls.clear()
        if len(unit.fingerprints) > 5 * STAGE_OUTPUTS:
            unit.fingerprints.clear()  # what is doubled from here on is found when the unit is committed

    def _run_inside(
        self, request: Request, fingerprint: bytes | None, unit: OpenUnit, error: Exception, *, start: bool
    ) -> None:
        if unit.unwritable >= MOST_UNWRITABLE:
            raise TooManyUnwritableRequestsError(
                f"one page yields more than {MOST_UNWRITABLE} requests that cannot be written down ({error}). Give "
                "them methods of the spider as callbacks, and plain values in meta and cb_kwargs."
            )
        if not self._stats.get_value("scheduler/unserializable"):
            _log.warning(
                "%s. It runs as a part of the page that yielded it, in memory: after a crash, that page is repeated "
                "with all of them. (Said once; the books count them.)",
                error,
            )
        unit.unwritable += 1
        unit.holders += 1
        unit.count("unserialisable")
        self._stats.inc_value("scheduler/unserializable")
        seed = self._seed(request) if start else None
        unit.seed = unit.seed or seed
        inside = NewRequest(
            b"",
            request.url,
            _host(request.url),
            callback_name(request),
            fingerprint,
            depth=_depth(request),
            start=start,
            seed=seed,
        )
        if fingerprint is not None:
            self._inside.add(fingerprint)
        self._memory.append(Work(unit, request, inside, filtered=fingerprint is not None))

    def again(self, work: Work) -> None:
        """A request that takes another's place and cannot be written down: it goes on in memory, in the same unit."""
        self._memory.append(work)

    def in_memory(self) -> list[Work]:
        """Takes away all that goes on in memory; for an engine that is being closed and begins nothing more."""
        waiting = list(self._memory)
        self._memory.clear()
        return waiting

    def is_known(self, request: Request) -> bool:
        """Whether it is a plain link that is in the store, as far as is remembered: it may be dropped at once."""
        return request.url in self._known and _is_plain(request) and not request.dont_filter

    # -- requests go out ------------------------------------------------------------------------------------------

    def has_pending_requests(self) -> bool:
        if self.halted:
            return bool(self._open or self._batch)
        return bool(
            self._memory or self._leased or self.frontier.pending or self._open or self._batch or self.frontier.settling
        )

    def __len__(self) -> int:
        return self.frontier.pending + self._leased + len(self._memory)

    def next_request(self) -> Request | None:
        """Scrapy's name for `next`; the engine asks by the other."""
        work = self.next()
        return work.request if work else None

    def next(self) -> Work | None:
        """The work to do next; None where there is none now."""
        if self._closed:
            return None
        if self._memory:
            return self._memory.popleft()
        if self.halted:
            return None
        while (lease := self._take()) is not None:
            unit = self.begin(lease)
            try:
                request, filtered = self._codec.decode(lease.body)
            except ValueError as error:
                unit.unit.ending = Ending(State.DEAD, Reason.OTHER, message=str(error))
                self.release(unit)
                continue
            if not self._may_begin(lease):
                unit.spoilt = True  # the limit of pages: it stays for a crawl without one, or is left out at the end
                self.release(unit)
                return None
            self._stats.inc_value("scheduler/dequeued")
            unit.request = request
            return Work(unit, request, filtered=filtered)
        return None

    def _may_begin(self, lease: Lease) -> bool:
        """Whether the limit of pages allows it; one that is tried again, or was redirected, is counted already."""
        if lease.id in self._again:
            self._again.discard(lease.id)
            return True
        return self._job.live.may_begin(len(self._begun) - 1 + len(self._again))

    def _take(self) -> Lease | None:
        """A lease, of the host that has the least under way; None where there is none, or all hosts are busy."""
        if not self._leased:
            self._refill(())
        host = self._least_busy()
        if self._leased and (host is None or self._is_laden(host)) and self._look_for_others():
            host = self._least_busy()
        if host is None:
            if self._leased:
                self._wake_soon()
            return None
        queue = self._window[host]
        lease = queue.popleft()
        if not queue:
            del self._window[host]
        self._leased -= 1
        return lease

    def _least_busy(self) -> str | None:
        slots = self._downloader.slots if self._downloader else {}
        best, least = None, None
        for host in self._window:
            slot = slots.get(host)
            if slot is None:
                return host
            # Two wait in a host's own queue, so that it never runs dry; more would take the place of other hosts'.
            if len(slot.queue) < 2 and (least is None or len(slot.active) < least):
                best, least = host, len(slot.active)
        return best

    def _is_laden(self, host: str) -> bool:
        """Whether the host has half of all that is under way, or more: only what other hosts leave is for it."""
        slot = self._downloader.slots.get(host) if self._downloader else None
        return slot is not None and 2 * len(slot.active) >= self._size

    def _look_for_others(self) -> bool:
        """Leases requests of hosts of which there are none in the window; whether there were some."""
        now = asyncio.get_running_loop().time()
        if now < self._look_again or self._leased >= 4 * self._size:
            return False
        before = self._leased
        self._refill(tuple(self._window))
        if self._leased == before:
            self._look_again = now + _BUSY_SECONDS
        return self._leased > before

    def _refill(self, busy: tuple[str, ...]) -> None:
        self.flush()  # what was just yielded may come first
        if self._closed or not self.frontier.pending:
            return
        leases = self._guarded(lambda: self.frontier.claim(self._size, busy)) or []
        for lease in leases:
            self._window.setdefault(lease.host, deque()).append(lease)
        self._leased += len(leases)

    def _wake_soon(self) -> None:
        if self._woken is None:
            self._woken = asyncio.get_running_loop().call_later(_BUSY_SECONDS, self._wake_now)

    def _wake_now(self) -> None:
        self._woken = None
        self._wake()

    # -- units are committed --------------------------------------------------------------------------------------

    def release(self, unit: OpenUnit) -> None:
        """Lets go of a unit; once nobody holds it, it is committed with the next group."""
        unit.holders -= 1
        if unit.holders:
            return
        if self._closed or unit.spoilt:
            self._forget(unit)
            return
        self._batch.append(unit)
        if self._timer is None:
            idle = not self._leased and not self.frontier.pending and self._open <= len(self._batch)
            delay = 0.0 if idle else GROUP_SECONDS
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _forget(self, unit: OpenUnit) -> None:
        """A unit that is not committed: its request is as if it had not been begun."""
        self._over(unit)
        if unit.lease is not None and not self._closed:
            lease = unit.lease
            self._guarded(lambda: self.frontier.release([lease.id]))
        self._job.committed(unit)

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()
        if self.frontier.settling and not self._closed:
            self._guarded(self.frontier.settle)
            if not self.frontier.settling:  # what was staged is counted only by the store
                self._job.live.recount(self.frontier.tallies(), self.frontier.counters())
        if (self._batch or self.frontier.settling) and self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(0.002, self._on_timer)
        self._wake()

    def flush(self) -> None:
        """Commits the units that are over, in one transaction."""
        if not self._batch or self._closed:
            return
        values = self._guarded(lambda: self._job.values(False))
        if values is None:
            return
        batch, self._batch = self._batch, []
        for unit in batch:
            unit.unit.outputs = unit.outputs
        received = self._job.live.bytes
        batch[-1].count("bytes", received - self._received)
        self._received = received
        batch[-1].unit.values = {**batch[-1].unit.values, **values}
        duplicates = self._guarded(lambda: self.frontier.commit([unit.unit for unit in batch]))
        if duplicates is None:
            return
        for unit, doubled in zip(batch, duplicates, strict=True):
            if doubled:
                self._stats.inc_value("dupefilter/filtered", doubled)
            self._over(unit)
            if unit.lease is not None and unit.unit.replacement is not None and not doubled and self._counts_pages:
                self._again.add(unit.lease.id)
            self._remember(unit.urls)
            unit.tell(self._job.live, doubled)
            self._job.committed(unit)
        if self.frontier.settling and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0, self._on_timer)

    def _over(self, unit: OpenUnit) -> None:
        self._open -= 1
        if unit.lease is not None:
            self._begun.discard(unit.lease.id)
        self._inside -= unit.fingerprints

    def _remember(self, urls: list[str]) -> None:
        known = self._known
        known.update(dict.fromkeys(urls))
        while len(known) > _KNOWN_URLS:
            known.popitem(last=False)

    def halt(self, reason: str, unit: OpenUnit | None) -> None:
        """The spider is closed for good; told with the unit whose callback asked for it, or at once."""
        self.halted = self.halted or reason
        if unit is not None:
            values = unit.unit.values
            assert isinstance(values, dict)
            values.setdefault(CLOSE_REASON, _written(reason))
        elif self._guarded(lambda: self.frontier.get(CLOSE_REASON)) is None:
            self._guarded(lambda: self.frontier.put(CLOSE_REASON, _written(reason)))

    def put(self, name: str, value: bytes) -> None:
        """Keeps a value in the store."""
        self._guarded(lambda: self.frontier.put(name, value))

    def close(self, reason: str) -> None:
        """Commits what is over and gives back what was not begun, or not finished."""
        if self._closed:
            return
        self.flush()
        if values := self._guarded(lambda: self._job.values(True)):
            self._guarded(lambda: self.frontier.commit([Unit(values=values)]))
        leases = [lease.id for queue in self._window.values() for lease in queue] + list(self._begun)
        if leases:
            self._guarded(lambda: self.frontier.release(leases))
        self._window.clear()
        self._leased = 0
        self._closed = True
        for timer in (self._timer, self._woken):
            if timer is not None:
                timer.cancel()

    def _guarded(self, work: Callable[[], _T]) -> _T | None:
        """Does something in the store. One that fails ends the crawl: what is not committed is repeated later."""
        if self._closed:
            return None
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (a timer would swallow it: units that never end, a crawl that hangs)
            self._closed = True
            if not isinstance(error, FrontierError):
                _log.critical("The crawl's store could not be written", exc_info=error)
                error = FrontierError(f"The crawl's store could not be written: {type(error).__name__}: {error}")
            self._job.fatal(error)
            return None


def _written(reason: object) -> bytes:
    return str(reason).encode("utf-8", "replace")


def _depth(request: Request) -> int:
    """As Scrapy counts it; a spider may keep anything under this name."""
    depth = request.meta.get("depth", 0)
    return depth if isinstance(depth, int) and abs(depth) <= _MOST_PRIORITY else 0


def _is_plain(request: Request) -> bool:
    return request.method == "GET" and not request.body


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
