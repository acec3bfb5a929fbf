"""Which crawl it is, and the small objects in its folder of the lake by which processes and people know of each other.

Launches (the fencing token), who asked for the crawl, who waits for it, and what is wanted of it. What follows from
them (resume, attach, begin anew) is `life`'s; the store and the segments in the same folder are `parking`'s and
`segments`'s.
"""

import os
import re
import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gossamer.errors import ConfigurationError, LakeError
from gossamer.lake import Lake, object_path

#: A process, or a run that waits, is taken for gone when it was not heard of for so long.
SILENCE_SECONDS = 20.0

_RUN = re.compile(r"[A-Za-z0-9][\w.-]{0,127}", re.ASCII)
_NUMBERED = re.compile(r"(\d{6,})\.json")
_Model = TypeVar("_Model", bound=BaseModel)


def crawls_folder(source: str, key: str) -> str:
    """The folder of all crawls of a partition."""
    return object_path("crawls", source, key, "")


@dataclass(frozen=True)
class Crawl:
    """One crawl of a partition: its `generation`-th, from 1."""

    source: str
    key: str
    generation: int

    @property
    def id(self) -> str:
        return f"{self.source}/{self.key}/{self.generation}"

    @property
    def folder(self) -> str:
        """Where all that this crawl keeps lies in the lake."""
        return f"{crawls_folder(self.source, self.key)}/{self.generation:06}"


class Worker(BaseModel):
    """A process that worked on a crawl, as it described itself when it began.

    Attributes:
        host: name of its machine.
        pids: what its pid is a number of: this boot of this machine (or container). "" where that is not known.
        born: tells it from another process of the same pid. "" where that is not known.
        started_at: POSIX seconds.
        about: whatever else is told of it (versions, hashes).
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    host: str
    pids: str
    born: str
    started_at: float
    about: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def this(cls, about: dict[str, Any] | None = None) -> "Worker":
        """This process."""
        pid = os.getpid()
        return cls(
            pid=pid,
            host=socket.gethostname(),
            pids=_pids(),
            born=_born(pid),
            started_at=time.time(),
            about=about or {},
        )

    @property
    def is_this(self) -> bool:
        return self._is_near and self.pid == os.getpid() and self.born == _born(self.pid)

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; of processes of other machines that is never known."""
        return self._is_near and not _runs(self.pid, self.born)

    @property
    def _is_near(self) -> bool:
        return (self.host, self.pids) == (socket.gethostname(), _pids())


def _pids() -> str:
    """Pids of another boot or of another container mean nothing here, though the host's name may be the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return ""


def _born(pid: int) -> str:
    """When the process began, in the kernel's clock ticks; "" where it cannot be told."""
    return (_stat(pid) or [""] * 20)[19]


def _runs(pid: int, born: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    stat = _stat(pid)
    return stat is None or (stat[0] not in "ZX" and born in ("", stat[19]))


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on: before it is the command, with whatever characters."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


# -- launches ---------------------------------------------------------------------------------------------------------


def claim_launch(lake: Lake, crawl: Crawl, about: dict[str, Any]) -> int:
    """Makes this process the one that works on the crawl; returns the number of its launch, from 1.

    Of all launches only the newest may write. To be called once in the life of a process.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    number = newest_launch(lake, crawl) + 1
    while not _create(lake, _launch_path(crawl, number), Worker.this(about)):
        number += 1  # another was faster, or this put's answer was lost: a number that nobody uses harms nobody
    return number


def newest_launch(lake: Lake, crawl: Crawl) -> int:
    """The number of the launch that may write, 0 where none was claimed."""
    names = (path.rpartition("/")[2] for path in lake.paths(f"{crawl.folder}/launches/"))
    return max((int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))), default=0)


def is_superseded(lake: Lake, crawl: Crawl, launch: int) -> bool:
    """Whether a newer launch was claimed, or a newer crawl begun.

    Two reads, so that it can be asked every second: numbers have no gaps.
    """
    newer = Crawl(crawl.source, crawl.key, crawl.generation + 1)
    return any(lake.get(path) is not None for path in (_launch_path(crawl, launch + 1), _begun_path(newer)))


def read_worker(lake: Lake, crawl: Crawl, launch: int) -> Worker | None:
    """The process of this launch; of launch 0 the one that began the crawl. None where there is none."""
    return _read(lake, _launch_path(crawl, launch) if launch else _begun_path(crawl), Worker)


def begin(lake: Lake, crawl: Crawl, root_run: str) -> bool:
    """Begins this generation; False where another was faster."""
    return _create(lake, _begun_path(crawl), Worker.this({"root_run": root_run}))


def generations(lake: Lake, source: str, key: str) -> list[int]:
    """The generations that were begun and have a folder, in order."""
    prefix = f"{crawls_folder(source, key)}/"
    found = (path.removeprefix(prefix).split("/") for path in lake.paths(prefix))
    return sorted(int(parts[0]) for parts in found if parts[1:] == ["crawl.json"] and parts[0].isdecimal())


def _begun_path(crawl: Crawl) -> str:
    return f"{crawl.folder}/crawl.json"


def _launch_path(crawl: Crawl, number: int) -> str:
    return f"{crawl.folder}/launches/{number:06}.json"


# -- who asked for it -------------------------------------------------------------------------------------------------


class _Asked(BaseModel):
    """A run, by its root, that the crawl is for; `fresh`: the crawl was begun for it as a new one."""

    fresh: bool


def mark_asked(lake: Lake, crawl: Crawl, root_run: str, *, fresh: bool = False) -> None:
    """Notes that the crawl is for this run; the first note counts. Without a run nothing is noted."""
    if root_run:
        _create(lake, _run_path(crawl, "asked", root_run), _Asked(fresh=fresh))


def was_asked(lake: Lake, crawl: Crawl, root_run: str, *, fresh: bool = False) -> bool:
    """Whether the crawl is for this run (`fresh`: and was begun as a new one for it)."""
    found = _read(lake, _run_path(crawl, "asked", root_run), _Asked) if root_run else None
    return found is not None and (found.fresh or not fresh)


class _Attached(BaseModel):
    at: float
    by: Worker


def attach(lake: Lake, crawl: Crawl, run: str) -> None:
    """Notes that this run waits for the crawl now; to be repeated well within `SILENCE_SECONDS`."""
    lake.put(_run_path(crawl, "attached", run), _json(_Attached(at=time.time(), by=Worker.this())))


def detach(lake: Lake, crawl: Crawl, run: str) -> None:
    """The run does not wait any more."""
    lake.delete(_run_path(crawl, "attached", run))


def attached(lake: Lake, crawl: Crawl) -> set[str]:
    """The runs that wait for the crawl now."""
    runs = (path.rpartition("/")[2].removesuffix(".json") for path in lake.paths(f"{crawl.folder}/attached/"))
    notes = ((run, _read(lake, _run_path(crawl, "attached", run), _Attached)) for run in runs)
    return {run for run, note in notes if note and is_recent(note.at) and not note.by.is_gone}


def is_recent(moment: float) -> bool:
    """Whether what was told then (POSIX seconds) still holds. Far in the future is as wrong as far in the past."""
    return abs(time.time() - moment) < SILENCE_SECONDS


def _run_path(crawl: Crawl, kind: str, run: str) -> str:
    if not _RUN.fullmatch(run):
        raise ConfigurationError(f"{run!r} cannot be the id of a run: use letters, digits and . _ - (at most 128).")
    return f"{crawl.folder}/{kind}/{run}.json"


# -- what is wanted of it ---------------------------------------------------------------------------------------------


class Wish(StrEnum):
    """What people, or the end of a run, want of a crawl."""

    PAUSE = "pause"
    STOP = "stop"
    RESUME = "resume"


class Control(BaseModel):
    """The wish that holds.

    Attributes:
        by: who wants it.
        why: in words, "" where none were given.
        asked_at: POSIX seconds.
    """

    model_config = ConfigDict(frozen=True)

    wish: Wish
    by: str
    why: str = ""
    asked_at: float


def ask(lake: Lake, crawl: Crawl, wish: Wish, *, by: str, why: str = "") -> Control:
    """Asks something of the crawl; its process looks every second. Returns the wish that holds now.

    A later wish replaces an earlier one; a stop holds for ever, the first one.
    """
    control = Control(wish=wish, by=by, why=why, asked_at=time.time())
    if wish is Wish.STOP:
        # An object of its own, so that no pause that comes at the same moment can replace it.
        _create(lake, _stop_path(crawl), control)
    else:
        lake.put(_control_path(crawl), _json(control))
    return read_control(lake, crawl) or control


def read_control(lake: Lake, crawl: Crawl) -> Control | None:
    """The wish that holds, None where nothing was asked."""
    return _read(lake, _stop_path(crawl), Control) or _read(lake, _control_path(crawl), Control)


def _stop_path(crawl: Crawl) -> str:
    return f"{crawl.folder}/stop.json"


def _control_path(crawl: Crawl) -> str:
    return f"{crawl.folder}/control.json"


# -- objects ----------------------------------------------------------------------------------------------------------


def _create(lake: Lake, path: str, value: BaseModel) -> bool:
    return lake.create(path, _json(value))


def _json(value: BaseModel) -> bytes:
    return value.model_dump_json(indent=1).encode()


def _read(lake: Lake, path: str, model: type[_Model]) -> _Model | None:
    content = lake.get(path)
    try:
        return None if content is None else model.model_validate_json(content)
    except ValueError as error:
        raise LakeError(f"{lake.url(path)} is not what a crawl writes there. Start the crawl afresh.") from error
