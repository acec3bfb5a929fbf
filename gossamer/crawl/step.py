"""One step's wait for a crawl: which crawl it is given, who works on it, what it is told, and how that ends.

Where a crawl's process runs is a host's (`host`): a child process of the step (`process`) or a Job of a cluster
(`gossamer.cluster.host`). Which crawl a run is given is `life`'s. No Scrapy is imported here.
"""

import contextlib
import logging
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TypeVar

from gossamer.crawl import deaths, identity, life
from gossamer.crawl.deaths import CrawlProcessError
from gossamer.crawl.host import Host, Order
from gossamer.crawl.life import Action, Crawl, Wish
from gossamer.crawl.process import PAUSED, LocalHost
from gossamer.crawl.progress import COMMITTING, Progress, read_progress
from gossamer.errors import CrawlError, LakeAwayError, LakeError
from gossamer.lake import Lake
from gossamer.manifest import Manifest
from gossamer.settings import Settings
from gossamer.source import Source

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

#: How often one step starts a process again for a crawl that was interrupted, and that saw no new page since.
RELAUNCHES = 10
#: How long a crawl that has reached `limits.duration` may take to end: requests in flight are waited for.
OVERTIME_SECONDS = 120.0
#: How long the lake may be away, once the step has its crawl, before it gives up.
LAKE_AWAY_SECONDS = 1800.0
_POLL_SECONDS = 1.0
_ATTACH_SECONDS = 5.0


class CrawlPausedError(CrawlError):
    """The crawl rests because somebody asked for it: nothing failed, and it goes on when it is asked to."""


def run_crawl(
    settings: Settings,
    source: Source,
    key: str,
    *,
    run_id: str = "",
    root_run: str = "",
    pages: int | None = None,
    fresh: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_trouble: Callable[[str], None] = _log.warning,
    is_cancelled: Callable[[], bool] = lambda: True,
    on_cancel: Wish = Wish.STOP,
    output: IO[str] | None = None,
    host: Host | None = None,
) -> Manifest:
    """Brings one partition's crawl to its end and returns the manifest of its rows, good verdict or not.

    The crawl is begun or resumed in a process of its own, which is started again where it is interrupted; or another
    run's process is waited for; or the crawl is over already (`life.find`). The manifest's `layer` says where the rows
    are: `raw`, or `incomplete` where the books did not close.

    A lake that is away when the step begins fails it; later it is waited for.

    Left by anything but an `Exception`, the run was cancelled, or its process is only told to end. Cancelled, the crawl
    is asked to end, unless other runs wait for it too. However it is left, a child process ends.

    Args:
        root_run: the run that this one repeats; it is given the same crawl. By default `run_id`.
        pages: stop after so many pages (the books then do not close).
        fresh: begin a new crawl although the last one is not over.
        on_progress: called about every second while it runs, and once at the end.
        on_trouble: called with words: why its process does not start, how one ended that is started again.
        is_cancelled: tells which of the two it is.
        on_cancel: what is asked of the crawl of a cancelled run: to stop, or to pause.
        output: where the process's log goes, instead of stderr.
        host: where its process runs; by default a child process.

    Raises:
        CrawlPausedError: the crawl was paused.
        CrawlProcessError: the process failed, was interrupted too often or went far beyond its `limits.duration`; what
            it had done is kept for the next run.
        CrawlError: a new crawl was asked for while a process works on the last one.
        LakeError: the lake cannot be read or written.
    """
    run = run_id or uuid.uuid4().hex
    step = _Step(
        source,
        key,
        Lake(settings.lake),
        host or LocalHost(settings, output),
        run,
        root_run or run,
        pages,
        on_progress,
        on_trouble,
        is_cancelled,
        on_cancel,
    )
    return step.manifest(fresh)


def close_crawl(
    settings: Settings, source: Source, crawl: Crawl, *, output: IO[str] | None = None, host: Host | None = None
) -> None:
    """Has the books of a crawl closed that rests and that was asked to stop.

    Raises:
        CrawlProcessError: the process ended before they were.
        LakeError: the lake cannot be read or written.
    """
    run = uuid.uuid4().hex
    step = _Step(source, crawl.key, Lake(settings.lake), host or LocalHost(settings, output), run, run)
    step.attend(crawl, Action.RESUME, is_first=True)


@dataclass
class _Step:
    """One call of `run_crawl`.

    Attributes:
        run: under which it waits for the crawl.
        relaunches: how often it has had a process started again, since the crawl last got on.
    """

    source: Source
    key: str
    lake: Lake
    host: Host
    run: str
    root_run: str
    pages: int | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_trouble: Callable[[str], None] = _log.warning
    is_cancelled: Callable[[], bool] = lambda: True
    on_cancel: Wish = Wish.STOP
    relaunches: int = 0
    _told: float = field(default=0.0, init=False)
    _heard: float = field(default=-math.inf, init=False)  # when that was new here: clocks of machines differ
    _attached: float = field(default=0.0, init=False)
    _told_pages: int = field(default=0, init=False)
    _pages_before: int = field(default=0, init=False)

    def manifest(self, fresh: bool) -> Manifest:
        found = self._find(fresh)
        is_first = True
        while not (manifest := found.manifest or self._result(found, is_first=is_first)):
            is_first = False
            found = self._patiently(lambda: self._find(fresh))
        return manifest

    def _find(self, fresh: bool) -> life.Found:
        return life.find(self.lake, self.source.name, self.key, self.root_run, fresh)

    def _result(self, found: life.Found, *, is_first: bool) -> Manifest | None:
        """What the crawl comes to, if that is this run's."""

        def result() -> Manifest | None:
            manifest = life.result(self.lake, found.crawl)
            return manifest if manifest and not life.is_cancelled(self.lake, found.crawl, manifest) else None

        self.attend(found.crawl, found.action, is_first=is_first)
        return None if found.is_closing else self._patiently(result)

    def attend(self, crawl: Crawl, action: Action, *, is_first: bool) -> None:
        """Follows the crawl's process, or one that it has started, until it is gone.

        Raises:
            CrawlPausedError, CrawlProcessError: it is not to be looked for again.
        """
        if action is Action.RESUME:
            self._wake(crawl, is_first=is_first)
        try:
            self._attach(crawl)
            if action is Action.ATTACH and not self.host.has_process(crawl) and not self._has_ended(crawl):
                self._follow(crawl)
            else:
                self._judge(crawl, self.host.work(self._order(crawl)))
        finally:
            with contextlib.suppress(LakeError):  # not heard of, it soon counts as gone
                identity.detach(self.lake, crawl, self.run)

    def _has_ended(self, crawl: Crawl) -> bool:
        """Whether the process that was heard of last was killed: it need not be waited for until it is silent."""
        worker = self._patiently(lambda: identity.read_worker(self.lake, crawl, life.newest_launch(self.lake, crawl)))
        return worker is not None and self.host.has_ended(worker)

    def _wake(self, crawl: Crawl, *, is_first: bool) -> None:
        """A run that comes to a paused crawl resumes it; one that saw it being paused does not."""
        if is_first:
            life.wake(self.lake, crawl, by=f"run {self.run}")
        elif (control := self._control(crawl)) and control.wish is Wish.PAUSE:
            raise self._paused(control)

    def _follow(self, crawl: Crawl) -> None:
        try:
            while self._patiently(lambda: life.is_live(self.lake, crawl)):
                self._tell(crawl)
                time.sleep(_POLL_SECONDS)
            self._tell(crawl)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._cancel(crawl)
            raise

    def _order(self, crawl: Crawl) -> Order:
        return Order(
            self.source,
            crawl,
            self.run,
            self.root_run,
            self.pages,
            tell=lambda: self._tell(crawl),
            cancel=lambda: self._cancel(crawl),
            is_overdue=lambda seconds: self._is_overdue(crawl, seconds),
            say=lambda words: self.on_trouble(f"{self._name}: {words}"),
            silence=lambda: time.monotonic() - self._heard,
            deaths=lambda: self._patiently(lambda: deaths.noted(self.lake, crawl)),
            note=lambda death: self._note(crawl, death),
        )

    def _judge(self, crawl: Crawl, death: CrawlProcessError | None) -> None:
        """Whether the crawl is over, or to be looked for again.

        Raises:
            CrawlPausedError, CrawlProcessError: neither.
        """
        if self._patiently(lambda: life.result(self.lake, crawl)):  # the manifest is the truth, whatever came after it
            if death and not death.passes:
                _log.warning("%s is over; its process did not end well after that: %s", self._name, death)
            return
        if death is None:
            death = deaths.NoResultError(
                f"its process ended without a result; its own code may have ended it (os._exit). {deaths.KEPT}"
            )
        control = self._control(crawl)
        if death.passes and control and control.wish is Wish.PAUSE:  # it rests, however its process went
            raise self._paused(control)
        if death.exit_code == PAUSED:
            if control is None:
                raise self._paused(control)
            return  # it was resumed or stopped in the meantime
        self._note(crawl, death)
        if self._told_pages > self._pages_before:  # it gets on
            self.relaunches, self._pages_before = 0, self._told_pages
        if death.passes and self.relaunches < RELAUNCHES:
            self.relaunches += 1
            self.on_trouble(f"{self._name}: {death} It is started again.")
            return
        if death.passes:
            death.words += f" It was started {RELAUNCHES + 1} times."
        death.crawl = self._name
        raise death

    def _note(self, crawl: Crawl, death: CrawlProcessError) -> None:
        with contextlib.suppress(LakeError):  # it is said, too
            self._patiently(lambda: deaths.note(self.lake, crawl, death))

    def _control(self, crawl: Crawl) -> life.Control | None:
        return self._patiently(lambda: life.read_control(self.lake, crawl))

    def _patiently(self, ask: Callable[[], _Answer]) -> _Answer:
        """What the lake answers; where it is away for a while, once it is back.

        Raises:
            LakeError: it refuses, or is away for too long.
        """
        until = math.inf
        while True:
            try:
                return ask()
            except LakeAwayError as error:
                now = time.monotonic()
                if now > until:
                    raise
                if until == math.inf:
                    until = now + LAKE_AWAY_SECONDS
                    self.on_trouble(f"{self._name}: the lake is away, and is asked again: {error}")
            time.sleep(_POLL_SECONDS)

    def _paused(self, control: life.Control | None) -> CrawlPausedError:
        by = f" by {control.by}" if control and control.by else ""
        why = f" ({control.why})" if control and control.why else ""
        return CrawlPausedError(
            f"{self._name} was paused{by}{why}; what it had done is kept. Materialise the partition again, or use "
            f"`gossamer resume {self.source.name}`, and it goes on from there."
        )

    @property
    def _name(self) -> str:
        return f"Crawl of {self.source.name}, partition {self.key}"

    def _tell(self, crawl: Crawl) -> None:
        """To be called about every second: notes that this run waits, and passes on what is new."""
        if time.monotonic() - self._attached >= _ATTACH_SECONDS:
            self._attach(crawl)
        said = read_progress(self.lake, self.source.name, self.key)
        if said and said.generation == crawl.generation and said.told_at != self._told:
            self._told, self._told_pages, self._heard = said.told_at, said.pages, time.monotonic()
            if self.on_progress:
                self.on_progress(said)

    def _attach(self, crawl: Crawl) -> None:
        self._attached = time.monotonic()
        with contextlib.suppress(LakeError):  # a lake that is away for a while does not end the crawl
            identity.attach(self.lake, crawl, self.run)

    def _cancel(self, crawl: Crawl) -> bool:
        """Asks the crawl to end if its run was cancelled and nobody else waits for it; whether it did."""
        if not self.is_cancelled():
            return False
        try:
            return life.cancel(self.lake, crawl, self.run, self.on_cancel)
        except LakeError as error:
            _log.warning("%s could not be asked to %s, and is interrupted: %s", self._name, self.on_cancel, error)
            return False

    def _is_overdue(self, crawl: Crawl, elapsed: float) -> bool:
        """Whether it has gone on beyond its limit: its own code blocks. One that is committing is not hurried."""
        limit = self.source.spec.limits.duration
        if limit is None or elapsed < limit.total_seconds() + OVERTIME_SECONDS:
            return False
        said = read_progress(self.lake, self.source.name, self.key)
        return said is None or said.generation != crawl.generation or said.state != COMMITTING
