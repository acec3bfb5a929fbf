"""What a running crawl tells the people who watch it: a small JSON object in the lake, about every second.

It is the crawl's heartbeat too, and in the same beat its process hears what is wanted of it. Progress is never the
truth (that is the manifest) and never a reason for a crawl to fail.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from gossamer.crawl.identity import Control, Crawl, is_superseded, read_control
from gossamer.errors import LakeError
from gossamer.lake import Lake, object_path

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
RUNNING = "running"
PAUSING = "pausing"
STOPPING = "stopping"
COMMITTING = "committing"
#: What a process says that is still at work.
LIVE = frozenset({RUNNING, PAUSING, STOPPING, COMMITTING})
#: The series has no more points than this; when it is full, every second one goes.
MOST_POINTS = 200
_JOIN_SECONDS = 5.0

#: Seconds of work, pages and records at one moment.
Point = tuple[float, int, int]


class Progress(BaseModel):
    """Counts of a crawl at one moment, over all its launches.

    Attributes:
        generation, launch, told_at: who said this, and when (POSIX seconds); the reporter's.
        pages: pages that the spider saw.
        errors: requests that failed for good.
        dropped: records that a pipeline dropped or failed on.
        pending: requests known and not over yet, where that is known.
        bytes: bytes received.
        rate: pages a second, over the whole crawl.
        eta_s: seconds until nothing is pending, None where that cannot be told.
        states: requests by state (pending, leased, fetched, redirected, excluded, dead).
        reasons: dead and excluded requests by reason.
        hosts: at most 20 hosts, each with its requests by state.
        series: how pages and records grew, for a plot; at most `MOST_POINTS`.
        state: running, pausing, stopping, committing (the pages are over, the rows go to the lake); or how the launch
            ended: a value of `CrawlState`.
    """

    model_config = ConfigDict(frozen=True)

    generation: int = 0
    launch: int = 0
    told_at: float = 0.0
    pages: int = 0
    records: int = 0
    errors: int = 0
    dropped: int = 0
    pending: int | None = None
    bytes: int = 0
    elapsed_s: float = 0.0
    rate: float = 0.0
    eta_s: float | None = None
    states: dict[str, int] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)
    hosts: dict[str, dict[str, int]] = Field(default_factory=dict)
    series: list[Point] = Field(default_factory=list)
    last_url: str = ""
    state: str = RUNNING

    @property
    def is_live(self) -> bool:
        """The launch had not ended when it said this."""
        return self.state in LIVE

    def in_words(self) -> str:
        """The counts, the rate and the time left, for people."""
        counts = ((self.pages, "page"), (self.records, "record"), (self.errors, "error"))
        said = [f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s" for number, noun in counts]
        said += [f"{self.pending:,} pending"] if self.pending else []
        said.append(f"{self.rate:.1f} pages/s")
        said += [f"about {_duration(self.eta_s)} left"] if self.eta_s and self.pending else []
        return ", ".join(said)


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def progress_path(source: str, key: str) -> str:
    """Where the progress of a partition's crawl lies in the lake."""
    return object_path("progress", source, key, ".json")


def last_word(lake: Lake, source: str, key: str) -> Progress | None:
    """The crawl's last word, None where there is none, or one of another version.

    Raises:
        LakeError: the lake cannot be read.
    """
    content = lake.get(progress_path(source, key))
    try:
        return Progress.model_validate_json(content) if content else None
    except ValueError:
        return None


def read_progress(lake: Lake, source: str, key: str) -> Progress | None:
    """The crawl's last word for somebody who watches: None too where the lake cannot be read now."""
    try:
        return last_word(lake, source, key)
    except LakeError:
        return None


class Series:
    """Points of a line that grows, evenly thinned out so that there are never more than `MOST_POINTS`."""

    def __init__(self, points: Sequence[Point] = ()) -> None:
        self._points = list(points)[: MOST_POINTS - 1]
        self._step = self._gap if len(self._points) >= MOST_POINTS // 2 else 0.0  # fewer were never thinned out

    def extend(self, point: Point) -> list[Point]:
        """The points with this one as the last; it is kept where it is far enough from the one before."""
        points = [known for known in self._points if known[0] < point[0]]  # a restored store may be a little older
        if not points or point[0] - points[-1][0] >= self._step:
            self._points = [*points, point]
            if len(self._points) >= MOST_POINTS:
                self._points = self._points[::2]
                self._step = self._gap
        return [*points, point]

    @property
    def _gap(self) -> float:
        """Seconds from one point to the next, on average."""
        return (self._points[-1][0] - self._points[0][0]) / (len(self._points) - 1)


class Reporter:
    """Tells the lake `snapshot()` and hears what is wanted, from a thread of its own: a slow lake holds nothing up.

    Args:
        on_wish: called from that thread about every second with the wish that holds, where there is one.
        on_fenced: called from that thread, once, when a newer launch was claimed; after that nothing is told.
    """

    def __init__(
        self,
        lake: Lake,
        crawl: Crawl,
        launch: int,
        snapshot: Callable[[], Progress],
        *,
        on_wish: Callable[[Control], object],
        on_fenced: Callable[[], object],
    ) -> None:
        self._lake, self._crawl, self._launch = lake, crawl, launch
        self._snapshot, self._on_wish, self._on_fenced = snapshot, on_wish, on_fenced
        self._series = Series()
        self._state: str | None = None
        self._over = False
        self._known: set[type[Exception]] = set()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._end()
        else:  # others need not wait until they know it by its silence
            self.last("failed" if isinstance(error, Exception) else "interrupted")

    def say(self, state: str) -> None:
        """From now on the crawl is in this state, whatever the snapshots say."""
        self._state = state
        self._wake.set()

    def series(self) -> list[Point]:
        """How pages and records grew up to now."""
        told = self._snapshot()
        return self._series.extend((told.elapsed_s, told.pages, told.records))

    def last(self, state: str) -> None:
        """Says how the launch ended."""
        self._end()
        self._state = state
        self._try(self._tell)

    def _end(self) -> None:
        self._over = True
        self._wake.set()
        self._thread.join(_JOIN_SECONDS)

    def _report(self) -> None:
        self._try(self._recall)
        while not self._over:
            self._try(self._beat)
            self._wake.wait(INTERVAL_SECONDS)
            self._wake.clear()

    def _recall(self) -> None:
        before = last_word(self._lake, self._crawl.source, self._crawl.key)
        if before and before.generation == self._crawl.generation:
            self._series = Series(before.series)

    def _beat(self) -> None:
        """Hears first: a lake that takes nothing any more can still say what is wanted."""
        if control := read_control(self._lake, self._crawl):
            self._on_wish(control)
        if not self._tell():
            self._over = True
            self._on_fenced()

    def _tell(self) -> bool:
        """False where it is not ours any more to tell anything."""
        if is_superseded(self._lake, self._crawl, self._launch):
            return False
        self._lake.put(progress_path(self._crawl.source, self._crawl.key), self._said().model_dump_json().encode())
        return True

    def _try(self, work: Callable[[], object]) -> None:
        """Does it; what goes wrong is told once of its kind, and the next beat tries again."""
        try:
            work()
        except LakeError as error:
            if self._is_new(error):
                _log.warning("Progress cannot be shown (the crawl goes on): %s", error)
        except Exception as error:  # noqa: BLE001  without beats nobody hears of the crawl, and it hears of no stop
            if self._is_new(error):
                _log.error("Progress cannot be shown (the crawl goes on), a fault of Gossamer's:", exc_info=error)

    def _is_new(self, error: Exception) -> bool:
        """Whether no error of this kind has been told: a beat comes every second."""
        is_new = type(error) not in self._known
        self._known.add(type(error))
        return is_new

    def _said(self) -> Progress:
        told = self._snapshot()
        state = self._state or told.state
        return told.model_copy(
            update={
                "generation": self._crawl.generation,
                "launch": self._launch,
                "told_at": time.time(),
                "series": self._series.extend((told.elapsed_s, told.pages, told.records)),
                "state": state,
                "pending": 0 if state in ("complete", "stopped") else told.pending,
            }
        )
