"""A crawl's store goes to the lake and comes back: whole when the crawl rests, change by change while it runs.

In the folder `store` of the crawl lie create-only objects whose names carry the launch that wrote them (six digits) and
the store's `sequence` (twelve digits):

- `<launch>-<sequence>-<attempt>-<n>.part`: a piece of a copy of the whole store, compressed;
- `<launch>-<sequence>.base`: which parts make up the copy, with their hashes. It is put last, so that a copy without
  it is not whole;
- `<launch>-<first>-<last>.log`: the changes from one sequence to another, with their hash.

The newest base and the logs of its launch that follow it without a gap are the store. An older launch that still
writes is harmless: as soon as its successor's first base lies there, no name of the older one is the newest.

What a store is, and what its changes mean, is the frontier's.
"""

import contextlib
import hashlib
import json
import logging
import math
import re
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gossamer.crawl.frontier import FencedError, Frontier, FrontierError
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.errors import LakeError
from gossamer.lake import Lake

_log = logging.getLogger(__name__)

#: Changes are shipped so often: with the put, well within the 5 s after which the engine begins no new request.
SHIP_SECONDS = 2.0
#: How often the lake is asked whether a newer launch has written there; between two bases only, so it may be slow.
_FENCE_SECONDS = 10.0
#: What is tried again after trouble waits so long: doubled each time, up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
#: How long a stop waits for a lake that does not answer.
_STOP_SECONDS = 10.0
#: A part holds so much of the store, a log so much of its changes: what one put needs of memory.
_PART_BYTES = 16 * 1024 * 1024
_LOG_BYTES = 8 * 1024 * 1024
#: A log has outgrown its base when it costs more than this share of it: changes are read back much more slowly than a
#: copy. An object costs as much as so many bytes; a base smaller than the least is not made anew for every few of them.
_LOG_SHARE = 0.25
_OBJECT_BYTES = 64 * 1024
_LEAST_BASE_BYTES = 16 * 1024 * 1024
_CONNECTIONS = 8
_TRIES = 5

_NAME = re.compile(
    r"(?P<launch>\d{6})-(?P<first>\d{12})(?:-(?P<last>\d{12})|-[0-9a-f]{8}-\d{6})?\.(?P<kind>base|log|part)"
)


class _Kind(StrEnum):
    """In the order in which they are removed: a base without its parts would look whole."""

    BASE = "base"
    LOG = "log"
    PART = "part"


@dataclass(frozen=True, order=True)
class _Object:
    """An object by its name; `first` and `last` are the same but for logs."""

    launch: int
    first: int
    last: int
    kind: _Kind
    path: str


@dataclass(frozen=True)
class _Base:
    """A base that was written: up to where it goes, and its size in the lake."""

    sequence: int
    size: int


class _DamagedError(Exception):
    """An object is not what was written."""


class _GoneError(Exception):
    """An object was removed after it had been listed."""


class _AbandonedError(Exception):
    """A base is not wanted any more."""


class _Shelf:
    """The objects of one crawl's stores, as one launch writes them; used from several threads."""

    def __init__(self, lake: Lake, folder: str, launch: int) -> None:
        self._lake = lake
        self._prefix = f"{folder}/store/"
        self._launch = launch

    @property
    def place(self) -> str:
        return self._lake.url(self._prefix.rstrip("/"))

    def objects(self) -> list[_Object]:
        found = (_parse(path, self._prefix) for path in self._lake.paths(self._prefix))
        return sorted(known for known in found if known is not None)

    def read(self, path: str) -> bytes:
        content = self._lake.get(path)
        if content is None:
            raise _GoneError(path)
        return content

    def path(self, name: str) -> str:
        return self._prefix + name

    def sweep(self) -> None:
        """Removes what the newest base supersedes.

        Raises:
            LakeError: the lake cannot be read or written.
        """
        objects = self.objects()
        if not (bases := _bases(objects)):
            return
        superseded = [found for found in objects if _is_superseded(found, bases[0])]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for kind in _Kind:
                list(pool.map(self._lake.delete, (found.path for found in superseded if found.kind is kind)))

    def check_fence(self) -> None:
        """Refuses to write where a newer launch has written.

        Raises:
            FencedError: it has.
            LakeError: the lake cannot be read.
        """
        newest = max((found.launch for found in self.objects()), default=0)
        if newest > self._launch:
            raise FencedError(
                f"{self.place}: launch {newest} has taken this crawl over; launch {self._launch} writes nothing more."
            )

    def write_base(self, frontier: Frontier, unwanted: threading.Event) -> _Base:
        """Copies the whole store to the lake, and removes what that supersedes.

        Raises:
            _AbandonedError: `unwanted` was set before it was done.
            FencedError, FrontierError, LakeError, OSError: it is not there.
        """
        self.check_fence()
        with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
            copy = Path(folder) / "frontier"
            sequence = frontier.snapshot(copy)
            name = f"{self._launch:06}-{sequence:012}"
            attempt = uuid.uuid4().hex[:8]  # leases may differ from those of an earlier try, and so may its parts
            parts: list[tuple[str, str, int]] = []
            stored = 0
            for number, piece in enumerate(_pieces(copy)):
                if unwanted.is_set():
                    raise _AbandonedError
                content = _compress(piece)
                part = f"{name}-{attempt}-{number:06}.part"
                self.create(part, content)
                parts.append((part, hashlib.sha256(content).hexdigest(), len(piece)))
                stored += len(content)
        self.create(f"{name}.base", _seal(json.dumps({"parts": parts}).encode()))
        try:
            self.sweep()
        except LakeError as error:  # they harm nobody; the next base removes them
            _log.warning("What a newer copy of the crawl's store replaces could not be removed: %s", error)
        return _Base(sequence, stored)

    def write_log(self, first: int, changes: Sequence[bytes]) -> int:
        """Puts changes with the sequences from `first` on; returns the object's size.

        Raises:
            LakeError: the lake does not take it.
        """
        content = _pack(changes)
        self.create(f"{self._launch:06}-{first:012}-{first + len(changes) - 1:012}.log", content)
        return len(content)

    def create(self, name: str, content: bytes) -> None:
        """Puts the object where there is none.

        One that is there and intact is ours, of a put whose answer was lost: a launch's number has one process only.
        """
        path = self.path(name)
        if self._lake.create(path, content) or (found := self.read(path)) == content:
            return
        try:
            _unseal(found, path)
        except _DamagedError as error:
            raise LakeError(f"{error}: {self._lake.url(path)}. It is not written over; remove it.") from error


class Parking:
    """The place in the lake of one crawl's store, for one launch of the crawl.

    Methods are called from one thread, the frontier's.
    """

    def __init__(self, lake: Lake, folder: str, launch: int) -> None:
        self._shelf = _Shelf(lake, folder, launch)
        self._shipper: _Shipper | None = None
        self._covered: int | None = None

    def sweep(self) -> None:
        """Removes what the newest store in the lake supersedes; a new copy of the store does so by itself.

        Raises:
            LakeError: the lake cannot be read or written.
        """
        self._shelf.sweep()

    # -- to the lake ----------------------------------------------------------------------------------------------

    def park(self, frontier: Frontier) -> None:
        """Brings all that is committed to the lake; ends what `start` began.

        Raises:
            FencedError: a newer launch has a store there.
            FrontierError: the store cannot be copied.
            LakeError: the lake does not take it.
        """
        self._halt()
        self._shelf.check_fence()
        if self._covered == frontier.sequence:
            return
        try:
            self._covered = self._shelf.write_base(frontier, threading.Event()).sequence
        except OSError as error:
            raise FrontierError(_no_copy(error)) from error

    def start(self, frontier: Frontier) -> None:
        """Ships the store, and from then on its changes, from a thread of its own; takes the frontier's `log`.

        Should a fault of ours end that thread, the frontier's next change raises a FrontierError, which ends the crawl.
        """
        self._halt()
        self._shipper = _Shipper(self._shelf, frontier)

    def stop(self) -> None:
        """Ends what `start` began. What can be shipped at once is shipped; what is not is told in words."""
        behind = self._halt()
        if 0 < behind < math.inf:
            _log.warning("The lake lacks what this crawl committed in its last %.1f s; this machine has it.", behind)

    def _halt(self) -> float:
        """How far behind the lake remains."""
        if self._shipper is None:
            return 0.0
        self._covered = self._shipper.stop()
        behind, self._shipper = self._shipper.behind_s, None
        return behind

    @property
    def behind_s(self) -> float:
        """For how many seconds the lake lacks something that was committed: 0 when it has everything.

        Where shipping has ended by a fault of ours it is 0 too: nothing may wait, so that a commit comes, which fails.
        Before `start` nothing is promised, and it is 0; with a newer launch's store in the lake it is infinite.
        """
        return 0.0 if self._shipper is None else self._shipper.behind_s

    # -- from the lake --------------------------------------------------------------------------------------------

    def parked(self) -> tuple[int, int] | None:
        """(launch, sequence) of the newest store in the lake, by its name; None where there is none."""
        objects = self._shelf.objects()
        bases = _bases(objects)
        if not bases:
            return None
        chain = [bases[0], *_following(bases[0], objects)]
        return chain[-1].launch, chain[-1].last

    def restore(self, path: Path) -> bool:
        """Makes the newest store in the lake again at `path`; False where there is none.

        Raises:
            FrontierError: it is of another version, or there is no room.
            LakeError: the lake cannot be read, or holds no store that is whole.
        """
        for _ in range(_TRIES):
            try:
                return self._restore(path, self._shelf.objects())
            except _GoneError:  # a process that was thought dead has made a newer base, and removed the older
                continue
        raise LakeError(
            f"{self._shelf.place}: its objects vanish while they are read. Is another process at work there?"
        )

    def _restore(self, path: Path, objects: Sequence[_Object]) -> bool:
        listed = {found.path for found in objects}
        bases = _bases(objects)
        for base in bases:
            unfinished = path.with_name(f"{path.name}.part")
            try:
                self._fetch_base(base, unfinished, listed)
                self._apply(base, _following(base, objects), unfinished)
                unfinished.replace(path)
            except _DamagedError as error:
                _log.warning("A parked store of this crawl is damaged (%s); the one before it is looked for.", error)
            except OSError as error:
                raise FrontierError(f"The parked store cannot be brought to {path}: {error}. Make room.") from error
            else:
                return True
            finally:
                unfinished.unlink(missing_ok=True)
        if bases:
            raise LakeError(f"{self._shelf.place} holds no store that is whole. Start the crawl afresh.")
        return False

    def _fetch_base(self, base: _Object, path: Path, listed: set[str]) -> None:
        head = json.loads(_unseal(self._shelf.read(base.path), base.path))
        with path.open("wb") as file:
            for name, digest, size in head["parts"]:
                part = self._shelf.path(name)
                if part not in listed:
                    raise _DamagedError(f"{part} is missing")
                content = self._shelf.read(part)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise _DamagedError(f"{part} is not what was written")
                file.write(_decompress(content, size))

    def _apply(self, base: _Object, logs: Sequence[_Object], path: Path) -> None:
        with contextlib.closing(SqliteFrontier(path)) as frontier:
            reached = base.last
            try:
                for log, content in self._contents(logs):
                    changes = _unpack(content, log)
                    for change in changes[reached + 1 - log.first :]:
                        frontier.apply(change)
                    reached = log.last
            except _DamagedError as error:
                _log.warning("%s; what this crawl did after that is done again.", error)

    def _contents(self, logs: Sequence[_Object]) -> Iterator[tuple[_Object, bytes]]:
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for start in range(0, len(logs), _CONNECTIONS):  # not all at once: they may be larger than memory
                some = logs[start : start + _CONNECTIONS]
                yield from zip(some, pool.map(lambda log: self._shelf.read(log.path), some), strict=True)


@dataclass(frozen=True)
class _Change:
    """A change that the lake may not have yet; `committed_at` is monotonic."""

    committed_at: float
    sequence: int
    content: bytes


class _Shipper:
    """Ships a store, and then its changes as they are committed, until it is stopped.

    Logs have a thread of their own; a new base is made in another one beside it, so that the logs do not wait for it.
    """

    def __init__(self, shelf: _Shelf, frontier: Frontier) -> None:
        self._shelf = shelf
        self._frontier = frontier
        self._began = self._fence_checked = time.monotonic()
        self._changes: deque[_Change] = deque()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._fenced = False
        self._fault: BaseException | None = None
        self._covered: int | None = None  # the lake has everything up to this sequence; None: no base yet
        self._base_bytes = self._log_cost = 0
        frontier.log = self._collect
        self._shipping = threading.Thread(target=self._run, name="parking", daemon=True)
        self._rebasing: threading.Thread | None = None
        self._shipping.start()

    def stop(self) -> int | None:
        """Ends it; returns the sequence up to which the lake has everything."""
        self._frontier.log = None
        self._ending.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in (self._shipping, self._rebasing):
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return self._covered

    @property
    def behind_s(self) -> float:
        if self._fenced:
            return math.inf
        if self._fault is not None:
            return 0.0
        with self._lock:
            if self._covered is None:
                return time.monotonic() - self._began
            return time.monotonic() - self._changes[0].committed_at if self._changes else 0.0

    def _collect(self, content: bytes) -> None:
        if self._fault is not None:
            raise FrontierError(
                f"The crawl's store does not reach the lake any more, by a fault of Gossamer's ({self._fault!r}; its "
                "traceback is in the log). What was committed is safe on this machine: run the crawl again."
            ) from self._fault
        change = _Change(time.monotonic(), self._frontier.sequence, content)
        with self._lock:
            self._changes.append(change)

    def _run(self) -> None:
        if not self._persist(self._write_base):
            return
        self._persist(self._ship)
        while not self._ending.wait(SHIP_SECONDS):
            self._persist(self._ship)
            outgrown = self._log_cost > _LOG_SHARE * max(self._base_bytes, _LEAST_BASE_BYTES)
            if outgrown and not _is_alive(self._rebasing):
                self._rebasing = threading.Thread(
                    target=self._persist, args=(self._write_base,), name="parking-base", daemon=True
                )
                self._rebasing.start()
        self._persist(self._ship)

    def _persist(self, work: Callable[[], None]) -> bool:
        """Does it, again and again if there is trouble; False where it is not done and not to be done any more."""
        pause, in_trouble = _FIRST_PAUSE, False
        while not self._fenced and self._fault is None:
            try:
                work()
            except FencedError as error:
                self._fenced = True
                _log.error("%s", error)
            except _AbandonedError:
                return False
            except (LakeError, FrontierError, OSError) as error:
                if not in_trouble:
                    words = _no_copy(error) if isinstance(error, OSError) else str(error)
                    _log.warning("The crawl's store does not reach the lake, and it is tried again: %s", words)
                in_trouble = True
                if self._ending.wait(pause):
                    return False
                pause = min(2 * pause, _LONGEST_PAUSE)
            except BaseException as error:  # noqa: BLE001  a library's panic too: without its thread the crawl would hold
                _log.error("The crawl's store cannot be shipped, by a fault of Gossamer's:", exc_info=error)
                self._fault = error
            else:
                if in_trouble:
                    _log.info("The crawl's store reaches the lake again.")
                return True
        return False

    def _write_base(self) -> None:
        self._log_cost = 0  # what is shipped from now on belongs to the new base
        base = self._shelf.write_base(self._frontier, self._ending)
        self._base_bytes = base.size
        self._shipped(base.sequence)

    def _ship(self) -> None:
        if time.monotonic() - self._fence_checked > _FENCE_SECONDS:
            self._shelf.check_fence()
            self._fence_checked = time.monotonic()
        with self._lock:
            until = self._changes[-1].sequence if self._changes else 0  # what comes meanwhile waits for the next log
        while batch := self._batch(until):
            size = self._shelf.write_log(batch[0].sequence, [change.content for change in batch])
            self._log_cost += size + _OBJECT_BYTES
            self._shipped(batch[-1].sequence)

    def _batch(self, until: int) -> list[_Change]:
        """The oldest changes up to a sequence, as many as make a log."""
        batch, size = [], 0
        with self._lock:
            for change in self._changes:
                if change.sequence > until or size >= _LOG_BYTES:
                    break
                batch.append(change)
                size += len(change.content)
        return batch

    def _shipped(self, sequence: int) -> None:
        with self._lock:
            self._covered = max(sequence, self._covered or 0)
            while self._changes and self._changes[0].sequence <= sequence:
                self._changes.popleft()


def _is_alive(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()


def _no_copy(error: OSError) -> str:
    return f"A copy of the store cannot be made in the temporary folder: {error}. Make room, or set TMPDIR."


def _parse(path: str, prefix: str) -> _Object | None:
    found = _NAME.fullmatch(path.removeprefix(prefix))
    if found is None:
        return None
    first = int(found["first"])
    return _Object(int(found["launch"]), first, int(found["last"] or first), _Kind(found["kind"]), path)


def _bases(objects: Sequence[_Object]) -> list[_Object]:
    """The newest first."""
    return sorted((found for found in objects if found.kind is _Kind.BASE), reverse=True)


def _following(base: _Object, objects: Sequence[_Object]) -> list[_Object]:
    """The logs that lead on from a base without a gap, in order. They may overlap each other."""
    reached, chain = base.last, []
    for log in objects:
        if log.kind is not _Kind.LOG or log.launch != base.launch or log.last <= reached:
            continue
        if log.first > reached + 1:
            _log.warning("There is no log before %s; what this crawl did after that is done again.", log.path)
            break
        chain.append(log)
        reached = log.last
    return chain


def _is_superseded(found: _Object, base: _Object) -> bool:
    if found.launch != base.launch:
        return found.launch < base.launch
    return found.last <= base.last if found.kind is _Kind.LOG else found.first < base.first


# -- what the objects hold ------------------------------------------------------------------------------------------


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PART_BYTES):
            yield piece


def _seal(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


def _unseal(content: bytes, path: str) -> bytes:
    digest, sealed = content[:32], content[32:]
    if hashlib.sha256(sealed).digest() != digest:
        raise _DamagedError(f"{path} is not what was written")
    return sealed


def _pack(changes: Sequence[bytes]) -> bytes:
    """The changes with their lengths, compressed, behind their size when they are decompressed; sealed."""
    content = b"".join(part for change in changes for part in (_number(len(change)), change))
    return _seal(_number(len(content)) + _compress(content))


def _unpack(content: bytes, log: _Object) -> list[bytes]:
    packed = _unseal(content, log.path)
    changes, rest = [], memoryview(_decompress(packed[8:], int.from_bytes(packed[:8])))
    while rest:
        end = 8 + int.from_bytes(rest[:8])
        changes.append(bytes(rest[8:end]))
        rest = rest[end:]
    return changes


def _number(value: int) -> bytes:
    return value.to_bytes(8)


def _compress(content: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def _decompress(content: bytes, size: int) -> bytes:
    import pyarrow as pa

    return bytes(pa.decompress(content, decompressed_size=size, codec="zstd", asbytes=True))
