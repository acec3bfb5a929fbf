"""The frontier of one worker, as one SQLite file: rows, indexes, transactions, and who may write.

What the rows mean is the interface's (`gossamer.crawl.frontier`); copying the file to the lake is `parking`'s.

Every change of rows is an operation: a function of the store, its arguments, a time and the order that is asked for,
and of nothing else. So it can be told to `log` in a few bytes and made again elsewhere, to the same rows and ids.
"""

import contextlib
import json
import pickle
import secrets
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any, Literal

from gossamer.crawl.frontier import (
    CRASHES_POISON,
    CRASHES_SUSPECT,
    Ending,
    Failure,
    FencedError,
    FrontierError,
    Lease,
    NewRecord,
    NewRequest,
    Output,
    Record,
    Segment,
    State,
    Tally,
    TransitionError,
    Unit,
)

#: Of the tables below and of the changes that `log` tells.
VERSION = 2
#: The reason of a request that the process died on.
PROCESS_DIED = "process_died"
_BUSY_SECONDS = 10.0
_CACHE_KIB = 16_384
#: A commit that fails with less than this free failed for want of room, whatever SQLite calls it.
_NO_ROOM_BYTES = 1_000_000
_PAGE = 1_000
#: Statements that ask for many keys at once come in these sizes, so that few have to be prepared.
_SIZES = (4, 16, 64, 256)

#: `request.root` is the request whose seed it goes back to (often itself), `request.seed` is null where that is its
#: URL. `request.rank` orders within a priority. `letter` has a row for each dead letter.
_SCHEMA = f"""
CREATE TABLE store (
    owner TEXT NOT NULL, sequence INTEGER NOT NULL, number INTEGER NOT NULL, waiting INTEGER NOT NULL
);
CREATE TABLE request (
    id INTEGER PRIMARY KEY, state INTEGER NOT NULL, host TEXT NOT NULL, start INTEGER NOT NULL,
    priority INTEGER NOT NULL, rank INTEGER NOT NULL, depth INTEGER NOT NULL, root INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0, records INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', status INTEGER, ended_at REAL NOT NULL DEFAULT 0,
    ended_url TEXT NOT NULL DEFAULT '', url TEXT NOT NULL, callback TEXT NOT NULL, seed TEXT, body BLOB
);
CREATE INDEX request_queue ON request (host, priority DESC, rank) WHERE state = {State.PENDING:d};
CREATE INDEX request_leased ON request (id) WHERE state = {State.LEASED:d};
CREATE INDEX request_suspect ON request (crashes, id) WHERE state = {State.PENDING:d} AND crashes >= {CRASHES_SUSPECT};
CREATE TABLE seen (fingerprint BLOB PRIMARY KEY, request INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE letter (
    request INTEGER PRIMARY KEY, message TEXT NOT NULL, body_sample TEXT NOT NULL, chosen INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE record (id INTEGER PRIMARY KEY, request INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE segment (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, rows INTEGER NOT NULL, name TEXT UNIQUE);
CREATE TABLE retracted (request INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE staged (id INTEGER PRIMARY KEY, key TEXT NOT NULL, request INTEGER, outputs BLOB NOT NULL);
CREATE INDEX staged_key ON staged (key);
CREATE TABLE settling (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE started (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE value (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tally (
    host TEXT, start INTEGER, state INTEGER, reason TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (host, start, state, reason)
) WITHOUT ROWID;
"""
_HOSTS = """
WITH RECURSIVE turn (host) AS (
    SELECT min(host) FROM request INDEXED BY request_queue WHERE state = 0 AND host {begin} ?
    UNION ALL
    SELECT (SELECT min(host) FROM request INDEXED BY request_queue WHERE state = 0 AND host > turn.host)
    FROM turn WHERE turn.host IS NOT NULL
) SELECT host FROM turn WHERE host IS NOT NULL
"""
_LEASE = """
SELECT request.id, request.body, request.url, request.host, request.depth, coalesce(root.seed, root.url),
    request.start, request.attempts + 1
FROM request INDEXED BY {index} LEFT JOIN request AS root ON root.id = request.root
WHERE request.state = 0 AND {which} ORDER BY {order} LIMIT ?
"""
_NEXT_OF_HOST = _LEASE.format(
    index="request_queue", which="request.host = ?", order="request.priority DESC, request.rank"
)
_NEXT_SUSPECT = _LEASE.format(
    index="request_suspect", which=f"request.crashes >= {CRASHES_SUSPECT}", order="request.crashes, request.id"
)
_SEEN = "SELECT owner, (SELECT request FROM seen WHERE fingerprint = ?) FROM store"
_ADD = """
INSERT INTO request (
    id, state, reason, status, ended_url, ended_at, host, start, priority, rank, depth, root, url, callback, seed, body
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_END = """
UPDATE request SET state = ?, reason = ?, status = ?, ended_url = ?, ended_at = ?, body = CASE WHEN ? THEN body END
WHERE id = ?
"""
# The process has survived what was leased: no crash so far was this request's.
_REPLACE = """
UPDATE request SET state = 0, crashes = 0, priority = ?, rank = ?, depth = ?, host = ?, callback = ?, body = ?
WHERE id = ?
"""
_COUNT_REQUESTS = """
INSERT INTO tally VALUES (?, ?, ?, ?, ?)
ON CONFLICT (host, start, state, reason) DO UPDATE SET count = count + excluded.count
"""
_COUNT = "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = count + excluded.count"
_PUT = "INSERT OR REPLACE INTO value VALUES (?, ?)"
_NEXT_CHUNK = """
SELECT id, request, outputs FROM staged WHERE key IN (SELECT key FROM settling) ORDER BY id LIMIT 1
"""
_NOT_OVER = "SELECT 1 FROM staged WHERE key NOT IN (SELECT key FROM settling) LIMIT 1"
# What runs inside its parent's unit has nothing to rebuild it from.
_CHOOSE = """
UPDATE letter SET chosen = 1 WHERE request IN (
    SELECT id FROM letter JOIN request ON id = letter.request WHERE state = 5 AND length(body) > 0
    AND (?1 = '[]' OR reason IN (SELECT value FROM json_each(?1)))
    AND (?2 = '[]' OR url IN (SELECT value FROM json_each(?2)))
)
"""
_CHOSEN = """
SELECT host, start, reason, count(*), sum(records) FROM letter JOIN request ON id = letter.request WHERE chosen
GROUP BY host, start, reason
"""
_RETRACT = """
INSERT OR REPLACE INTO retracted SELECT id, ? FROM letter JOIN request ON id = letter.request
WHERE chosen AND records > 0
"""
# One that the process died on stays a suspect, so that it runs alone.
_REPLAY = """
UPDATE request SET state = 0, reason = '', status = NULL, ended_url = '', ended_at = 0, records = 0,
    crashes = min(crashes, ?)
WHERE id IN (SELECT request FROM letter WHERE chosen)
"""
_FAILURES = """
SELECT request.id, request.url, request.callback, request.state, request.reason, request.status, request.attempts,
    message, body_sample, request.ended_at, request.start, coalesce(root.seed, root.url)
FROM letter JOIN request ON request.id = letter.request LEFT JOIN request AS root ON root.id = request.root
WHERE letter.request > ? ORDER BY letter.request LIMIT ?
"""
_CALLS = "SELECT id, url, callback, state, reason FROM request WHERE id > ? ORDER BY id LIMIT ?"


@dataclass(slots=True)
class _Row:
    """What is asked of the row of a request that a unit ends or replaces."""

    id: int
    state: State
    host: str
    start: int
    root: int
    url: str


@dataclass(slots=True)
class _Change:
    """A transaction under way: what it adds to the numbers that are kept beside the rows.

    Attributes:
        in_order: all requests are first in, first out.
        number: the last one that was given; rows and places in the queue share them.
        again: it was told by `log`, and leases are not as they were then.
    """

    now: float
    in_order: bool
    number: int
    again: bool = False
    waiting: int = 0
    tallies: Counter[tuple[str, int, State, str]] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)

    def next(self) -> int:
        self.number += 1
        return self.number

    def rank(self, number: int, start: int) -> int:
        return number if start or self.in_order else -number

    def move(self, row: _Row, state: State, reason: str = "", host: str | None = None) -> None:
        self.tallies[row.host, row.start, row.state, ""] -= 1
        row.state, row.host = state, row.host if host is None else host
        self.tallies[row.host, row.start, state, reason] += 1


@dataclass(slots=True)
class _Writes:
    """What a group of units writes, a list for each statement.

    Attributes:
        seen: of the fingerprints that the group names, those that are known, with their requests.
        yielded: how many records come from which request.
    """

    seen: dict[bytes, int]
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    ended: list[tuple[Any, ...]] = field(default_factory=list)
    replaced: list[tuple[Any, ...]] = field(default_factory=list)
    letters: list[tuple[int, str, str]] = field(default_factory=list)
    fingerprints: list[tuple[bytes, int]] = field(default_factory=list)
    records: list[tuple[int, int, str]] = field(default_factory=list)
    yielded: list[tuple[int, int]] = field(default_factory=list)

    def end(self, change: _Change, row: _Row, ending: Ending) -> None:
        _check_terminal(ending, row.url)
        self.ended.append((*_columns(ending), ending.state == State.DEAD, row.id))
        self._letter(row.id, row.start, ending)
        change.move(row, ending.state, ending.reason)

    def replace(self, change: _Change, row: _Row, new: NewRequest) -> int:
        """Returns 1 where the row is over, because the new request is known already."""
        if new.fingerprint is not None:
            known = self.seen.get(new.fingerprint)
            if known is None:
                self._learn(new.fingerprint, row.id)
            elif known != row.id:
                self.end(change, row, Ending(State.REDIRECTED, url=new.url, ended_at=change.now))
                return 1
        rank = change.rank(change.next(), row.start)
        self.replaced.append((new.priority, rank, new.depth, new.host, new.callback, new.body, row.id))
        change.move(row, State.PENDING, host=new.host)
        return 0

    def add(self, change: _Change, row: _Row | None, outputs: Sequence[Output]) -> int:
        """What the unit of this request yields; returns how many were duplicates."""
        request, root = (row.id, row.root) if row else (0, None)
        doubled = records = 0
        for output in outputs:
            if isinstance(output, NewRecord):
                records += 1
                self.records.append((change.next(), request, output.data))
            elif output.fingerprint is None or output.fingerprint not in self.seen:
                self._add(change, output, root, output.fingerprint)
            elif output.ending is None or output.ending.state == State.EXCLUDED:
                doubled += 1
            else:
                self._add(change, output, root, None)
        change.waiting += records
        change.counters["records"] += records
        change.counters["duplicates"] += doubled
        if records and row:
            self.yielded.append((records, request))
        return doubled

    def _add(self, change: _Change, new: NewRequest, root: int | None, fingerprint: bytes | None) -> None:
        number, start, seed = change.next(), int(new.start), None
        body: bytes | None = new.body
        state, reason, ended = State.PENDING, "", _NO_END
        if new.ending is not None:
            _check_terminal(new.ending, new.url)
            state, reason, ended = new.ending.state, new.ending.reason, _columns(new.ending)
            self._letter(number, start, new.ending)
            if state != State.DEAD:
                body = None
        if root is None or new.seed is not None:
            root, seed = number, None if new.seed == new.url else new.seed
        rank = change.rank(number, start)
        self.requests.append(
            (number, *ended, new.host, start, new.priority, rank, new.depth, root, new.url, new.callback, seed, body)
        )
        change.tallies[new.host, start, state, reason] += 1
        if fingerprint is not None:
            self._learn(fingerprint, number)
        self.learn(new.also, number)

    def learn(self, fingerprints: Iterable[bytes], request: int) -> None:
        """The request is known by these from now on, where no other is."""
        for fingerprint in fingerprints:
            if fingerprint not in self.seen:
                self._learn(fingerprint, request)

    def _learn(self, fingerprint: bytes, request: int) -> None:
        self.seen[fingerprint] = request
        self.fingerprints.append((fingerprint, request))

    def _letter(self, request: int, start: int, ending: Ending) -> None:
        if ending.state == State.DEAD or (start and ending.state in (State.EXCLUDED, State.REDIRECTED)):
            self.letters.append((request, _storable(ending.message), _storable(ending.body_sample)))


_NO_END: tuple[int, str, int | None, str, float] = (int(State.PENDING), "", None, "", 0.0)


def _columns(ending: Ending) -> tuple[int, str, int | None, str, float]:
    return int(ending.state), ending.reason, ending.status, ending.url, ending.ended_at


def _check_terminal(ending: Ending, url: str) -> None:
    if not ending.state.is_terminal:
        raise TransitionError(f"{url} cannot end as {ending.state.name}")


def _storable(text: str) -> str:
    """Text as it came from a site or an exception may hold half a character, which SQLite refuses."""
    return text.encode("utf-8", "replace").decode()


class SqliteFrontier:
    """`gossamer.crawl.frontier.Frontier` as one SQLite file.

    Opening takes the store over from whoever has it open. What the process before had leased or staged is taken back
    by the first operation after that, so that a store that was restored can first be told its changes (`apply`).
    """

    def __init__(self, path: Path | Literal[":memory:"], *, first_in_first_out: bool = False) -> None:
        """Opens the store, and makes it where there is none.

        Raises:
            FrontierError: it cannot be opened, is damaged, or is of another version.
        """
        self.log: Callable[[bytes], None] | None = None
        self.pending = 0
        self.settling = False
        self._path = path
        self._in_order = first_in_first_out
        self._owner = secrets.token_hex(8)
        self._counts: Counter[State] = Counter()
        self._recovered = False
        self._alone = False
        self._last_host = ""
        self._operations: dict[str, Callable[..., Any]] = {
            "commit": self._commit,
            "stage": self._stage,
            "settle": self._settle,
            "put": self._put,
            "flushed": self._flushed,
            "exclude_rest": self._exclude_rest,
            "replay": self._replay,
            "recover": self._take_back,
        }
        with self._in_words():
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _open(self) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"cache_size = -{_CACHE_KIB}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("BEGIN IMMEDIATE")
        [version] = self._db.execute("PRAGMA user_version").fetchone()
        [tables] = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            self._make()
        elif version != VERSION:
            raise FrontierError(
                f"The store {self._path} is of version {version}, and this Gossamer reads version {VERSION}. End the "
                "crawl with the Gossamer that began it, or start it afresh."
            )
        self._db.execute("UPDATE store SET owner = ?", (self._owner,))
        self._sequence, self._number = self._db.execute("SELECT sequence, number FROM store").fetchone()
        for state, count in self._db.execute("SELECT state, sum(count) FROM tally GROUP BY state"):
            self._counts[State(state)] = count
        self._db.execute("COMMIT")
        self._note()

    def _make(self) -> None:
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute("INSERT INTO store VALUES ('', 0, 0, 0)")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        self._db.close()

    # -- transactions ---------------------------------------------------------------------------------------------

    def _do(self, operation: str, *arguments: Any) -> Any:
        """Runs an operation in a transaction of its own, and tells it."""
        self._recover()
        return self._run(operation, *arguments)

    def _run(self, operation: str, *arguments: Any) -> Any:
        change = self._change()
        with self._transaction(change, self._sequence + 1):
            result = self._operations[operation](change, *arguments)
        if self.log is not None:
            told = self._sequence, change.now, change.in_order, operation, arguments
            self.log(pickle.dumps(told, protocol=5))
        return result

    def apply(self, change: bytes) -> None:
        """A change that the store has already is passed over.

        Raises:
            FrontierError: one before it is missing.
        """
        told = pickle.loads(change)  # noqa: S301  (written by `_run`, and kept where the store itself is)
        sequence, now, in_order, operation, arguments = told
        if sequence <= self._sequence:
            return
        if sequence > self._sequence + 1:
            raise FrontierError(f"The store {self._path} lacks the changes {self._sequence + 1} to {sequence - 1}")
        again = _Change(now, in_order, self._number, again=True)
        with self._transaction(again, sequence):
            self._operations[operation](again, *arguments)

    def _change(self) -> _Change:
        return _Change(time.time(), self._in_order, self._number)

    @contextlib.contextmanager
    def _transaction(self, change: _Change, sequence: int) -> Iterator[None]:
        with self._in_words():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._check_owner()
                yield
                self._keep(change, sequence)
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        self._sequence, self._number = sequence, change.number
        for (_, _, state, _), count in change.tallies.items():
            self._counts[state] += count
        self._note()

    def _keep(self, change: _Change, sequence: int) -> None:
        if sequence != self._sequence:
            self._db.execute(
                "UPDATE store SET sequence = ?, number = ?, waiting = waiting + ?",
                (sequence, change.number, change.waiting),
            )
        self._db.executemany(
            _COUNT_REQUESTS,
            [(*key, count) for key, count in change.tallies.items() if count],
        )
        self._db.executemany(_COUNT, [(name, count) for name, count in change.counters.items() if count])

    def _note(self) -> None:
        leased = 0 if self._recovered else self._counts[State.LEASED]
        self.pending = self._counts[State.PENDING] + leased
        self.settling = bool(self._db.execute("SELECT 1 FROM settling LIMIT 1").fetchall())

    def _check_owner(self) -> None:
        [owner] = self._db.execute("SELECT owner FROM store").fetchone()
        if owner != self._owner:
            raise self._fenced()

    def _fenced(self) -> FencedError:
        return FencedError(f"Another process has taken over the crawl whose store is {self._path}")

    def _in_words(self) -> contextlib.AbstractContextManager[None]:
        return _in_words(self._path)

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        with self._in_words():
            self._check_owner()
            return self._db.execute(query, parameters).fetchall()

    def _pages(self, query: str) -> Iterator[Any]:
        """The rows of a query by their ids; no statement stays open in between, which would keep the log growing."""
        last = 0
        while rows := self._rows(query, last, _PAGE):
            yield from rows
            last = rows[-1][0]

    # -- after a crash --------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Takes back what the process before this one had leased and staged, once."""
        if self._recovered:
            return
        leased = self._rows(
            "SELECT id, crashes + 1 FROM request INDEXED BY request_leased WHERE state = 1 AND crashes + 1 >= ?",
            CRASHES_POISON,
        )
        poison = [
            (request, f"The process died {crashes} times on this page, and nothing else ran beside it at the end.")
            for request, crashes in leased
        ]
        if poison or self._rows(_NOT_OVER):
            self._run("recover", poison)
        change = self._change()
        with self._transaction(change, self._sequence):
            for host, start, count in self._db.execute(
                "SELECT host, start, count FROM tally WHERE state = ?", (State.LEASED,)
            ).fetchall():
                change.tallies[host, start, State.LEASED, ""] -= count
                change.tallies[host, start, State.PENDING, ""] += count
            self._db.execute("UPDATE request SET state = 0, crashes = crashes + 1 WHERE state = 1")
        self._recovered = True
        self._note()

    def _take_back(self, change: _Change, poison: Sequence[tuple[int, str]]) -> None:
        self._db.execute("DELETE FROM staged WHERE key NOT IN (SELECT key FROM settling)")
        rows = _Writes(seen={})
        known = self._known([request for request, _ in poison])
        for request, message in poison:
            ending = Ending(State.DEAD, PROCESS_DIED, message=message, ended_at=change.now)
            rows.end(change, known[request], ending)
        self._write(rows)

    # -- leases ---------------------------------------------------------------------------------------------------

    def claim(self, limit: int, full: Sequence[str] = ()) -> list[Lease]:
        self._recover()
        if limit <= 0:
            return []
        change = self._change()
        with self._transaction(change, self._sequence):
            suspect = self._db.execute(_NEXT_SUSPECT, (1,)).fetchall()
            leased = self._counts[State.LEASED]
            if leased and (suspect or self._alone):
                return []
            if suspect:
                leases = [] if suspect[0][3] in full else self._lease(change, suspect, alone=True)
            else:
                leases = self._claim_in_turn(change, limit, full)
        self._alone = bool(suspect)
        return leases

    def _claim_in_turn(self, change: _Change, limit: int, full: Sequence[str]) -> list[Lease]:
        leases: list[Lease] = []
        hosts = self._turn(limit, full)
        self._last_host = hosts[-1] if hosts else ""
        while hosts and (room := limit - len(leases)) > 0:
            share, rest = divmod(room, len(hosts))
            left = []
            for place, host in enumerate(hosts[:room]):
                wanted = share + (place < rest)
                rows = self._db.execute(_NEXT_OF_HOST, (host, wanted)).fetchall()
                leases += self._lease(change, rows, alone=False)
                if len(rows) == wanted:
                    left.append(host)
            hosts = hosts[room:] + left
        return leases

    def _turn(self, limit: int, full: Sequence[str]) -> list[str]:
        """At most `limit` hosts that have something pending, round the circle from the last one served."""
        after = (host for [host] in self._db.execute(_HOSTS.format(begin=">"), (self._last_host,)))
        before = (host for [host] in self._db.execute(_HOSTS.format(begin=">="), ("",)))
        round_again = takewhile(lambda host: host <= self._last_host, before)
        return list(islice((host for host in chain(after, round_again) if host not in full), limit))

    def _lease(self, change: _Change, rows: list[Any], *, alone: bool) -> list[Lease]:
        self._db.executemany(
            "UPDATE request SET state = 1, attempts = attempts + 1 WHERE id = ?", [(row[0],) for row in rows]
        )
        leases = []
        for request, body, url, host, depth, seed, start, attempts in rows:
            change.tallies[host, start, State.PENDING, ""] -= 1
            change.tallies[host, start, State.LEASED, ""] += 1
            leases.append(Lease(request, body, url, host, depth, seed, bool(start), attempts, alone))
        return leases

    def release(self, ids: Sequence[int]) -> None:
        self._recover()
        change = self._change()
        with self._transaction(change, self._sequence):
            known = self._known(ids)
            for request in ids:
                row = _leased(known.get(request), request, "released")
                change.move(row, State.PENDING)
            self._db.executemany(
                "UPDATE request SET state = 0, attempts = attempts - 1 WHERE id = ?", [(request,) for request in ids]
            )

    # -- units ----------------------------------------------------------------------------------------------------

    def commit(self, units: Sequence[Unit]) -> list[int]:
        doubled: list[int] = self._do("commit", units)
        return doubled

    def _commit(self, change: _Change, units: Sequence[Unit]) -> list[int]:
        known = self._known([unit.request for unit in units if unit.request is not None])
        replacements = [unit.replacement for unit in units if unit.replacement is not None]
        rows = _Writes(self._known_fingerprints(chain(replacements, *(unit.outputs for unit in units))))
        doubled = []
        for unit in units:
            row, known_already = None, 0
            if unit.request is not None:
                row = _of_unit(known.get(unit.request), unit, again=change.again)
                if unit.replacement is not None:
                    known_already = rows.replace(change, row, unit.replacement)
                elif unit.ending is not None:
                    rows.end(change, row, unit.ending)
                rows.learn(unit.also, row.id)
            elif unit.ending is not None or unit.replacement is not None:
                raise TransitionError("a unit that answers no request has an ending or a replacement")
            doubled.append(known_already + rows.add(change, row, unit.outputs))
            change.counters.update(unit.counters)
        self._write(rows)
        self._db.executemany(
            "INSERT OR IGNORE INTO started VALUES (?)",
            [(unit.start_key,) for unit in units if unit.start_key is not None],
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO settling SELECT key FROM staged WHERE key = ? LIMIT 1",
            [(unit.staged,) for unit in units if unit.staged is not None],
        )
        self._db.executemany(_PUT, [value for unit in units for value in unit.values.items()])
        return doubled

    def _write(self, rows: _Writes) -> None:
        many = self._db.executemany
        many(_ADD, rows.requests)
        many(_END, rows.ended)
        many(_REPLACE, rows.replaced)
        many("INSERT INTO letter (request, message, body_sample) VALUES (?, ?, ?)", rows.letters)
        many("INSERT OR IGNORE INTO seen VALUES (?, ?)", rows.fingerprints)
        many("INSERT INTO record VALUES (?, ?, ?)", rows.records)
        many("UPDATE request SET records = records + ? WHERE id = ?", rows.yielded)

    def stage(self, key: str, request: int | None, outputs: Sequence[Output]) -> None:
        self._do("stage", key, request, list(outputs))

    def _stage(self, change: _Change, key: str, request: int | None, outputs: Sequence[Output]) -> None:
        for start in range(0, len(outputs), _PAGE):
            pickled = pickle.dumps(outputs[start : start + _PAGE], protocol=5)
            self._db.execute("INSERT INTO staged VALUES (?, ?, ?, ?)", (change.next(), key, request, pickled))

    def settle(self, limit: int = 2000) -> int:
        if not self.settling:
            return 0
        settled: int = self._do("settle", limit)
        return settled

    def _settle(self, change: _Change, limit: int) -> int:
        room = limit
        while room > 0 and (chunk := self._db.execute(_NEXT_CHUNK).fetchone()):
            number, request, pickled = chunk
            outputs = pickle.loads(pickled)  # noqa: S301  (written by `_stage`)
            now, later = outputs[:room], outputs[room:]
            room -= len(now)
            rows = _Writes(self._known_fingerprints(now))
            rows.add(change, self._known([request])[request] if request is not None else None, now)
            self._write(rows)
            if later:
                self._db.execute(
                    "UPDATE staged SET outputs = ? WHERE id = ?", (pickle.dumps(later, protocol=5), number)
                )
            else:
                self._db.execute("DELETE FROM staged WHERE id = ?", (number,))
        self._db.execute("DELETE FROM settling WHERE key NOT IN (SELECT key FROM staged)")
        return limit - room

    def _settle_all(self) -> None:
        while self.settle():
            pass

    def _known(self, ids: Collection[int]) -> dict[int, _Row]:
        query = "SELECT id, state, host, start, root, url FROM request WHERE id IN ({})"
        return {row[0]: _Row(row[0], State(row[1]), *row[2:]) for row in self._many(query, ids)}

    def _known_fingerprints(self, outputs: Iterable[Output]) -> dict[bytes, int]:
        asked = {
            output.fingerprint
            for output in outputs
            if isinstance(output, NewRequest) and output.fingerprint is not None
        }
        return dict(self._many("SELECT fingerprint, request FROM seen WHERE fingerprint IN ({})", asked))

    def _many(self, query: str, keys: Iterable[Any]) -> Iterator[Any]:
        """The rows of many keys, in few statements of few sizes: the rest of each is filled with nulls."""
        keys = iter(keys)
        while some := list(islice(keys, _SIZES[-1])):
            size = next(size for size in _SIZES if size >= len(some))
            some += [None] * (size - len(some))
            yield from self._db.execute(query.format(",".join("?" * size)), some)

    # -- values and records ---------------------------------------------------------------------------------------

    def seen(self, fingerprint: bytes) -> int | None:
        known: int | None
        try:
            owner, known = self._db.execute(_SEEN, (fingerprint,)).fetchone()
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:  # not `_in_words`: this is asked for every link
            raise FrontierError(_words(error, self._path)) from error
        if owner != self._owner:
            raise self._fenced()
        return known

    def started(self, key: bytes) -> bool:
        return bool(self._rows("SELECT 1 FROM started WHERE key = ?", key))

    def get(self, name: str) -> bytes | None:
        rows = self._rows("SELECT value FROM value WHERE name = ?", name)
        return rows[0][0] if rows else None

    def put(self, name: str, value: bytes) -> None:
        self._do("put", name, value)

    def _put(self, change: _Change, name: str, value: bytes) -> None:
        self._db.execute(_PUT, (name, value))

    def waiting_records(self, limit: int, most_bytes: int | None = None) -> list[Record]:
        with self._in_words():
            self._check_owner()
            rows = self._db.execute("SELECT id, request, data FROM record ORDER BY id LIMIT ?", (limit,))
            with contextlib.closing(rows):  # row by row: all of them may be larger than memory
                return list(_within(most_bytes, (Record(*row) for row in rows)))

    def waiting(self) -> int:
        [[count]] = self._rows("SELECT waiting FROM store")
        return int(count)

    def flushed(self, segment: Segment) -> None:
        # The lake has acted on what was committed: a power loss may not take it back, or ids would be given twice.
        with self._in_words():
            self._db.execute("PRAGMA synchronous = FULL")
        try:
            self._do("flushed", segment)
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")

    def _flushed(self, change: _Change, segment: Segment) -> None:
        self._db.execute(
            "INSERT INTO segment VALUES (?, ?, ?, ?)", (segment.first, segment.last, segment.rows, segment.name)
        )
        left = self._db.execute("DELETE FROM record WHERE id BETWEEN ? AND ?", (segment.first, segment.last))
        change.waiting -= left.rowcount

    def segments(self) -> list[Segment]:
        return [Segment(*row) for row in self._rows("SELECT name, first, last, rows FROM segment ORDER BY first")]

    def retracted(self) -> list[tuple[int, int]]:
        return [(request, last) for request, last in self._rows("SELECT request, last FROM retracted ORDER BY request")]

    # -- the books ------------------------------------------------------------------------------------------------

    def tallies(self) -> list[Tally]:
        rows = self._rows("SELECT host, start, state, reason, count FROM tally WHERE count != 0")
        return [Tally(host, bool(start), State(state), reason, count) for host, start, state, reason, count in rows]

    def count_rows(self) -> dict[State, int]:
        return {
            State(state): count for state, count in self._rows("SELECT state, count(*) FROM request GROUP BY state")
        }

    def counters(self) -> dict[str, int]:
        return {"records": 0, "duplicates": 0, **dict(self._rows("SELECT name, count FROM counter"))}

    def failures(self) -> Iterator[Failure]:
        for row in self._pages(_FAILURES):
            request, url, callback, state, reason, status, attempts, message, sample, ended_at, start, seed = row
            yield Failure(
                request,
                url,
                callback,
                State(state),
                reason,
                status,
                attempts,
                message,
                sample,
                ended_at,
                bool(start),
                seed,
            )

    def calls(self) -> Iterator[tuple[str, str, State, str]]:
        for _, url, callback, state, reason in self._pages(_CALLS):
            yield url, callback, State(state), reason

    def exclude_rest(self, reason: str) -> int:
        self._settle_all()
        excluded: int = self._do("exclude_rest", reason)
        return excluded

    def _exclude_rest(self, change: _Change, reason: str) -> int:
        excluded = 0
        for host, start, state, count in self._db.execute(
            "SELECT host, start, state, count FROM tally WHERE state IN (0, 1) AND count != 0"
        ).fetchall():
            change.tallies[host, start, State(state), ""] -= count
            change.tallies[host, start, State.EXCLUDED, reason] += count
            excluded += count
        self._db.execute("INSERT INTO letter SELECT id, '', '', 0 FROM request WHERE start = 1 AND state IN (0, 1)")
        self._db.execute(
            "UPDATE request SET state = ?, reason = ?, ended_at = ?, body = NULL WHERE state IN (0, 1)",
            (State.EXCLUDED, reason, change.now),
        )
        self._db.execute("DELETE FROM staged")
        return excluded

    def replay(self, reasons: Sequence[str] = (), urls: Sequence[str] = ()) -> int:
        self._settle_all()  # or records that still come would be taken for those of the new attempt
        replayed: int = self._do("replay", list(reasons), list(urls))
        return replayed

    def _replay(self, change: _Change, reasons: Sequence[str], urls: Sequence[str]) -> int:
        self._db.execute(_CHOOSE, (json.dumps(reasons), json.dumps(urls)))
        replayed = 0
        for host, start, reason, count, records in self._db.execute(_CHOSEN).fetchall():
            change.tallies[host, start, State.DEAD, reason] -= count
            change.tallies[host, start, State.PENDING, ""] += count
            change.counters["records"] -= records
            replayed += count
        waited = self._db.execute("DELETE FROM record WHERE request IN (SELECT request FROM letter WHERE chosen)")
        change.waiting -= waited.rowcount
        self._db.execute(_RETRACT, (change.number,))
        self._db.execute(_REPLAY, (CRASHES_SUSPECT,))
        self._db.execute("DELETE FROM letter WHERE chosen")
        return replayed

    # -- the store itself -----------------------------------------------------------------------------------------

    def snapshot(self, path: Path) -> int:
        with contextlib.ExitStack() as open_:
            with self._in_words():
                source = self._db
                if self._path != ":memory:":
                    source = open_.enter_context(contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)))
            with _in_words(path):
                copy = open_.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
                [owner, sequence] = copy.execute("SELECT owner, sequence FROM store").fetchone()
        if owner != self._owner:
            raise self._fenced()
        return int(sequence)

    @property
    def sequence(self) -> int:
        return int(self._sequence)


def _within(most_bytes: int | None, records: Iterable[Record]) -> Iterator[Record]:
    """The first of the records, and those after it as long as their data together is not larger."""
    size = 0
    for number, record in enumerate(records):
        size += len(record.data.encode())
        if number and most_bytes is not None and size > most_bytes:
            return
        yield record


def _of_unit(row: _Row | None, unit: Unit, *, again: bool) -> _Row:
    """The row of a unit's request, which must be leased and end or be replaced."""
    if (unit.ending is None) == (unit.replacement is None):
        raise TransitionError(f"the unit of request {unit.request} must have either an ending or a replacement")
    if row is not None and again and row.state == State.PENDING:
        return row
    return _leased(row, unit.request, "ended or replaced")


def _leased(row: _Row | None, request: int | None, what: str) -> _Row:
    if row is None:
        raise TransitionError(f"there is no request {request} to be {what}")
    if row.state != State.LEASED:
        raise TransitionError(f"request {request} ({row.url}) is {row.state.name}, not leased: it cannot be {what}")
    return row


@contextlib.contextmanager
def _in_words(path: Path | str) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:  # a fault of the caller's, such as a store that was closed
        raise
    except sqlite3.DatabaseError as error:
        raise FrontierError(_words(error, path)) from error


def _words(error: sqlite3.DatabaseError, path: Path | str) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return f"The store {path} is damaged ({error}). Delete it: the crawl goes on from its copy in the lake."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"The store {path} is held by another process, for more than {_BUSY_SECONDS:.0f} s: end that one."
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return f"No space left for the store {path}. Make room and run the crawl again: what was committed is safe."
    return f"The store {path} cannot go on: {error}"


def _is_full(path: Path | str) -> bool:
    folder = Path(path).parent
    return folder.is_dir() and shutil.disk_usage(folder).free < _NO_ROOM_BYTES
