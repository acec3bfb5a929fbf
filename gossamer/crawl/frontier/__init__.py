"""The frontier: what a crawl knows of every request, and the records that wait for their segment.

Here is the interface that every store of it keeps, in plain data: states and the transitions between them, what a unit
of work changes, what is asked. `sqlite` is the store of one worker. Nothing here knows Scrapy; a request is bytes that
rebuild it.

A unit is the work on one response: it ends its request, and its outputs (requests, records) become visible with that
end, all at once. A store applies a group of units in one transaction.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from gossamer.errors import CrawlError


class State(IntEnum):
    """Where a request stands. The values lie in stores: never renumber."""

    PENDING = 0  #: known, to be fetched
    LEASED = 1  #: handed to the engine; what it yields is not committed yet
    FETCHED = 2  #: the spider had its page
    REDIRECTED = 3  #: it led to a request that was known already
    EXCLUDED = 4  #: a rule, a limit or a stop kept it from being fetched
    DEAD = 5  #: it failed for good

    @property
    def is_terminal(self) -> bool:
        return self > State.LEASED


#: What may follow what, with the operation that does it. A store refuses everything else (`TransitionError`).
TRANSITIONS: Mapping[State, Mapping[State, str]] = {
    State.PENDING: {
        State.LEASED: "claim",
        State.EXCLUDED: "exclude_rest: a limit or a stop ends the crawl",
    },
    State.LEASED: {
        State.PENDING: "release, recovery after a crash, or a commit that replaces it (a retry, a redirect)",
        State.FETCHED: "commit",
        State.REDIRECTED: "commit",
        State.EXCLUDED: "commit, or exclude_rest: a limit or a stop ends the crawl",
        State.DEAD: "commit, or recovery: the process died on it too often",
    },
    State.FETCHED: {},
    State.REDIRECTED: {},
    State.EXCLUDED: {},
    State.DEAD: {State.PENDING: "replay"},
}

#: A request that was leased in so many crashes is handed out alone, so that the next crash tells whether it did it.
CRASHES_SUSPECT = 2
#: A request that was leased in so many crashes, the last of them alone, is set aside: the process dies on it.
CRASHES_POISON = 5


class FrontierError(CrawlError):
    """The store cannot go on (no room, damaged, of another version); what was committed is safe."""


class TransitionError(FrontierError):
    """An operation that `TRANSITIONS` does not have: a fault of the engine's."""


class FencedError(FrontierError):
    """Another process has taken the crawl over: this one may commit nothing more."""


@dataclass(slots=True)
class Ending:
    """How a request ended: its terminal state, and why.

    Attributes:
        reason: a word of `gossamer.crawl.reasons.Reason`; "" where it was fetched.
        status: HTTP status of the last answer, where there was one.
        message: the failure in words, with the traceback of a callback's.
        body_sample: the beginning of the answer's body.
        url: where redirects led, "" where there were none.
        ended_at: POSIX seconds.
    """

    state: State
    reason: str = ""
    status: int | None = None
    message: str = ""
    body_sample: str = ""
    url: str = ""
    ended_at: float = 0.0


@dataclass(slots=True)
class NewRequest:
    """A request that a unit yields.

    Attributes:
        body: what rebuilds it; empty where it is over already (`ending`).
        fingerprint: what it is known by; a known one is a duplicate and dropped. None: never a duplicate.
        start: it comes from `start()`: it is a seed, and goes after others of its priority, first come first.
        seed: the seed row that it goes back to, JSON or a URL; None: that of the unit's request.
        ending: given where it is over when it becomes known (excluded by a rule, or run inside its parent's unit).
        also: what else it is known by: where one that ran inside its parent's unit was redirected to.
    """

    body: bytes
    url: str
    host: str
    callback: str = ""
    fingerprint: bytes | None = None
    priority: int = 0
    depth: int = 0
    start: bool = False
    seed: str | None = None
    ending: Ending | None = None
    also: tuple[bytes, ...] = ()


@dataclass(slots=True)
class NewRecord:
    """A record that a unit yields, as one line of JSON (`gossamer.crawl.rows` says what is in it)."""

    data: str


Output = NewRequest | NewRecord


@dataclass(slots=True)
class Unit:
    """What one unit of work changes, all of it or nothing.

    Attributes:
        request: the id of the leased request that it ends or replaces; None for outputs that answer no request (of
            `start()`, an idle handler, a timer).
        ending: how that request ended.
        replacement: the request that takes its place in the same row (a retry, a redirect): it is pending again. Is its
            fingerprint known already, the row ends as REDIRECTED.
        outputs: what it yielded since it was last staged.
        staged: the key under which `stage` took its earlier outputs.
        start_key: marks an output of `start()`, which then is not taken again.
        counters: added to the store's counters of these names.
        values: set in the store (`get`).
        also: what else that request is known by from now on: where it was redirected to in memory.
    """

    request: int | None = None
    ending: Ending | None = None
    replacement: NewRequest | None = None
    outputs: Sequence[Output] = ()
    staged: str | None = None
    start_key: bytes | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, bytes] = field(default_factory=dict)
    also: tuple[bytes, ...] = ()


@dataclass(slots=True, frozen=True)
class Lease:
    """A request that was handed out.

    Attributes:
        attempts: how often it was handed out, this time included.
        alone: it is suspected of killing the process: nothing else may run beside it.
    """

    id: int
    body: bytes
    url: str
    host: str
    depth: int
    seed: str
    start: bool
    attempts: int
    alone: bool


@dataclass(slots=True, frozen=True)
class Record:
    """A record that waits in the store for its segment. `request` is the id of its unit's request (0: none)."""

    id: int
    request: int
    data: str


@dataclass(slots=True, frozen=True)
class Segment:
    """A file of records in the lake that counts, because the store names it: those with ids `first` to `last`."""

    name: str
    first: int
    last: int
    rows: int


@dataclass(slots=True, frozen=True)
class Failure:
    """A request that ended badly: DEAD, or a seed that was EXCLUDED or REDIRECTED."""

    id: int
    url: str
    callback: str
    state: State
    reason: str
    status: int | None
    attempts: int
    message: str
    body_sample: str
    ended_at: float
    start: bool
    seed: str


@dataclass(slots=True, frozen=True)
class Tally:
    """How many requests of one host stand in one state for one reason."""

    host: str
    start: bool
    state: State
    reason: str
    count: int


class Frontier(Protocol):
    """A store of one crawl's frontier, open for one process: the newest that opened it may commit, no other.

    Every method raises `FencedError` once another process has opened the store, and `FrontierError` where the store
    cannot go on. Methods are called from one thread, but for `snapshot`.

    Attributes:
        pending: requests that can be claimed.
        settling: staged outputs of committed units are still to be moved by `settle`.
        log: where set, called with each change as bytes that `apply` takes, after it was committed; leases are not
            told, they mean nothing elsewhere. A store restored from a snapshot and given the changes since, in their
            order, holds the same rows with the same ids.
    """

    pending: int
    settling: bool
    log: Callable[[bytes], None] | None

    # -- the work of the engine -----------------------------------------------------------------------------------

    def claim(self, limit: int, full: Sequence[str] = ()) -> list[Lease]:
        """Leases at most `limit` requests, fairly across hosts, none of the hosts in `full`.

        Within a host: by priority, then those not from `start()` with the newest first, then those from `start()` in
        their order; with `first_in_first_out`, all in their order. A request that is `alone` comes alone, and before
        all others.
        """

    def release(self, ids: Sequence[int]) -> None:
        """Gives leases back that were not begun: a clean end of the process, which no crash is counted for."""

    def commit(self, units: Sequence[Unit]) -> list[int]:
        """Applies units in one transaction; returns for each how many of its requests were known."""

    def stage(self, key: str, request: int | None, outputs: Sequence[Output]) -> None:
        """Keeps outputs of a unit that is not over; nobody sees them before its commit, and a crash forgets them."""

    def settle(self, limit: int = 2000) -> int:
        """Moves at most `limit` staged outputs of committed units to where they belong; returns how many."""

    def seen(self, fingerprint: bytes) -> int | None:
        """The id of the request that is known by this fingerprint, its own or one of a redirect; None: it is new."""

    def started(self, key: bytes) -> bool:
        """Whether the output of `start()` with this key was committed."""

    def get(self, name: str) -> bytes | None:
        """A value that was put, or set by a unit."""

    def put(self, name: str, value: bytes) -> None: ...

    # -- records --------------------------------------------------------------------------------------------------

    def waiting_records(self, limit: int, most_bytes: int | None = None) -> list[Record]:
        """The oldest records that no segment has, at most `limit`.

        Args:
            most_bytes: of them only as many as have, together, no more data than this (as UTF-8); but always one.
        """

    def waiting(self) -> int:
        """How many records no segment has."""

    def flushed(self, segment: Segment) -> None:
        """The records of this segment lie in the lake: they leave the store, and the segment counts."""

    def segments(self) -> list[Segment]:
        """The segments that count, in the order of their records."""

    def retracted(self) -> list[tuple[int, int]]:
        """(request, id): records of this request up to this id do not count, because the request was replayed."""

    # -- the books ------------------------------------------------------------------------------------------------

    def tallies(self) -> list[Tally]:
        """Requests counted by host, start, state and reason, as they were counted along the way."""

    def count_rows(self) -> dict[State, int]:
        """Requests counted from their rows: the other side of the ledger, and slow."""

    def counters(self) -> dict[str, int]:
        """The counters that units added to; the store's own: `records` (that count), `duplicates`."""

    def failures(self) -> Iterator[Failure]:
        """The dead letters, in the order of their ids."""

    def calls(self) -> Iterator[tuple[str, str, State, str]]:
        """Every request as (url, callback, state, reason); for rules that are judged at the end."""

    def exclude_rest(self, reason: str) -> int:
        """Ends everything that is pending or leased as EXCLUDED; staged outputs of units that are not over go."""

    def replay(self, reasons: Sequence[str] = (), urls: Sequence[str] = ()) -> int:
        """Makes dead requests pending again (those of these reasons, of these URLs; all where neither is given).

        Their records no longer count. Returns how many.
        """

    # -- the store itself -----------------------------------------------------------------------------------------

    def snapshot(self, path: Path) -> int:
        """Writes a whole copy of what is committed, of one moment; returns that moment's `sequence`."""

    def apply(self, change: bytes) -> None:
        """Makes a change that `log` told, of a store that was restored."""

    @property
    def sequence(self) -> int:
        """How many changes were committed since the store was made: what snapshot and log are ordered by."""

    def close(self) -> None: ...
