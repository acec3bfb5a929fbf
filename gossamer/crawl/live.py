"""The counts of a crawl while it runs, in memory: what its limits are judged by and what those who watch are told.

They begin with what the frontier has counted and follow the engine's commits; the frontier stays the truth, and `books`
judges the end by it alone.
"""

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from gossamer.crawl.books import is_dead
from gossamer.crawl.frontier import State, Tally
from gossamer.crawl.progress import RUNNING, Progress
from gossamer.crawl.reasons import Reason
from gossamer.source import Limits

#: Fewer requests than this say nothing about the rate of errors.
ERROR_RATE_FROM = 100
#: Hosts that are counted by themselves, the first that are seen; all others are one.
HOSTS = 1000
OTHER_HOSTS = "other"
#: So many of them are told to those who watch.
HOSTS_TOLD = 20
#: What the time to the end is estimated from: the pace of so many last seconds.
PACE_SECONDS = 60.0
_DROPPED = "dropped:"


class Live:
    """Counts of one launch that go on from those of the launches before.

    Args:
        stop: called once, with words, when a limit is reached.
        worked: seconds that earlier launches worked.

    Attributes:
        states: requests that are over, by state.
        reasons: dead and excluded requests, by reason.
        hosts: requests that are over, by host and state (`fetched`, ...).
        stopped_by: the words that `stop` was called with.
    """

    def __init__(
        self,
        limits: Limits,
        tallies: Iterable[Tally] = (),
        counters: Mapping[str, int] | None = None,
        *,
        stop: Callable[[str], None] = lambda words: None,
        worked: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.stopped_by = ""
        self.last_url = ""
        self._stop = stop
        self._clock = clock
        self._started = clock() - worked
        self._paces = deque[tuple[float, int]]([(clock(), 0)])
        self._tried = 0
        self.recount(tallies, counters or {})

    def recount(self, tallies: Iterable[Tally], counters: Mapping[str, int]) -> None:
        """Takes the frontier's own counts for those kept here."""
        self.pending = self._dead = self._failures = 0
        self.states = Counter[State]()
        self.reasons = Counter[str]()
        self.hosts: dict[str, Counter[str]] = {}
        self.bytes = counters.get("bytes", 0)
        self.records = counters.get("records", 0)
        self.not_kept = counters.get("record_errors", 0)
        self.not_kept += sum(count for name, count in counters.items() if name.startswith(_DROPPED))
        for tally in tallies:
            if tally.state.is_terminal:
                self._count(tally.host, tally.state, tally.reason, start=tally.start, count=tally.count)
            else:
                self.pending += tally.count

    # -- what the engine tells ------------------------------------------------------------------------------------

    def may_begin(self, in_flight: int) -> bool:
        """Whether one more request may be begun; False where the limit of pages does not allow it.

        Args:
            in_flight: requests that were begun, and that neither `ended` has told of nor are pending again.
        """
        begun = in_flight + self.pages + self.states[State.REDIRECTED] + self.states[State.DEAD]
        if self.limits.pages and begun >= self.limits.pages:
            self._limit(f"limits.pages ({self.limits.pages})")
            return False
        return True

    def discovered(self, count: int) -> None:
        """Requests became known, those included that were over at once."""
        self.pending += count

    def ended(self, host: str, state: State, reason: str = "", *, start: bool = False, url: str = "") -> None:
        """A request is over."""
        self.pending -= 1
        self._count(host, state, reason, start=start)
        self.last_url = url if state is State.FETCHED and url else self.last_url
        # What a rule excludes costs no time: it says nothing about the pace.
        self._tried += state is not State.EXCLUDED
        limit = self.limits.error_rate
        if limit and self.judged >= ERROR_RATE_FROM and self._failures / self.judged > limit:
            self._limit(f"limits.error_rate ({limit:g}): {self._failures} of {self.judged} requests failed")

    def received(self, size: int) -> None:
        """Bytes came in."""
        self.bytes += size
        if self.limits.bytes and self.bytes > self.limits.bytes:
            self._limit(f"limits.bytes ({self.limits.bytes})")

    def recorded(self, kept: int, not_kept: int = 0) -> None:
        """Records were kept; or dropped by a pipeline, or failed in one."""
        self.records += kept
        self.not_kept += not_kept

    def tick(self) -> None:
        """To be called about every second: judges the time, and notes the pace."""
        now = self._clock()
        self._paces.append((now, self._tried))
        while now - self._paces[0][0] > PACE_SECONDS:
            self._paces.popleft()
        duration = self.limits.duration
        if duration and self.elapsed > duration.total_seconds():
            self._limit(f"limits.duration ({duration})")

    # -- sums -----------------------------------------------------------------------------------------------------

    @property
    def pages(self) -> int:
        """Pages that the spider saw."""
        return self.states[State.FETCHED]

    @property
    def judged(self) -> int:
        """Requests that count when the share of failures is judged: fetched and dead ones."""
        return self.pages + self._dead

    @property
    def elapsed(self) -> float:
        """Seconds of work, over all launches."""
        return self._clock() - self._started

    @property
    def eta(self) -> float | None:
        """Seconds until nothing is pending at the pace of the last minute, None where nothing moves."""
        (since, before), now = self._paces[0], self._clock()
        done = self._tried - before
        return self.pending * (now - since) / done if done else None

    def worst_hosts(self, most: int) -> dict[str, dict[str, int]]:
        """The hosts with most dead requests, then those with most of all."""
        hosts = [(host, dict(counts)) for host, counts in list(self.hosts.items())]  # of one moment: a thread reads it
        worst = heapq.nlargest(most, hosts, key=lambda entry: (entry[1].get("dead", 0), sum(entry[1].values())))
        return dict(worst)

    def progress(self, state: str = RUNNING) -> Progress:
        """What is told to those who watch; from any thread, while the counts go on."""
        elapsed = self.elapsed
        states, reasons = dict(self.states), dict(self.reasons)  # copied at once: what is gone through may not grow
        return Progress(
            pages=self.pages,
            records=self.records,
            errors=self._dead,
            dropped=self.not_kept,
            pending=self.pending,
            bytes=self.bytes,
            elapsed_s=round(elapsed, 1),
            eta_s=self.eta,
            states={"pending": self.pending} | {state.name.lower(): count for state, count in states.items()},
            reasons=reasons,
            hosts=self.worst_hosts(HOSTS_TOLD),
            rate=round(self.pages / max(elapsed, 0.001), 2),
            last_url=self.last_url,
            state=state,
        )

    def _count(self, host: str, state: State, reason: str, *, start: bool, count: int = 1) -> None:
        dead = is_dead(state, reason, start=start)
        self.states[state] += count
        self._dead += count * dead
        self._failures += count * (dead and reason != Reason.GONE)
        if state in (State.DEAD, State.EXCLUDED):
            self.reasons[reason] += count
        shown = host if host in self.hosts or len(self.hosts) < HOSTS else OTHER_HOSTS
        self.hosts.setdefault(shown, Counter())[state.name.lower()] += count

    def _limit(self, words: str) -> None:
        if not self.stopped_by:
            self.stopped_by = words
            self._stop(words)
