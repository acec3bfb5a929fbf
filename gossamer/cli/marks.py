"""Marks of running `gossamer crawl` commands: how a later command learns that the process of a run has died.

Dagster's daemon watches only the runs that it launched itself. A run that a command started and that was killed would
stay "started" for ever, with its place in the source's pool, and the next crawl of the source would wait without end.
So each command holds a lock on a file in DAGSTER_HOME, which its Dagster process holds too: when the lock is free,
both are gone. Ending such runs takes Dagster, thus a process of its own (`resources.stale_runs`).
"""

import fcntl
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gossamer.cli import terminal
from gossamer.instance import prepare_home
from gossamer.settings import PROJECT, Settings

#: The run's tag whose value is the mark's name.
TAG = "gossamer/crawl"
_FOLDER = "crawl_marks"
_END_SECONDS = 120


@dataclass(frozen=True)
class Mark:
    """The mark of one run; its process must inherit `file`, the descriptor that holds the lock."""

    path: Path
    file: int

    @property
    def name(self) -> str:
        return self.path.name


@contextmanager
def mark(settings: Settings) -> Iterator[Mark]:
    """A mark for a run that is about to start. What is not settled in the end, the next command settles."""
    folder = prepare_home(settings) / _FOLDER
    folder.mkdir(exist_ok=True)
    name = uuid.uuid4().hex
    # Hidden until it is locked, or another command would take it for a dead one's.
    hidden = folder / f".{name}"
    with hidden.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Mark(hidden.rename(folder / name), file.fileno())


def settle(settings: Settings, mark: Mark, exit_code: int) -> None:
    """Takes the mark of a run away whose process has ended; one that ended badly may have left its run unfinished."""
    if exit_code == 0 or _end_runs(settings, [mark.name]):
        mark.path.unlink()


def end_dead_runs(settings: Settings) -> None:
    """Ends the runs of commands that died with their Dagster process: killed, or the machine went down."""
    with ExitStack() as locks:
        dead = [path for path in (prepare_home(settings) / _FOLDER).glob("[!.]*") if _lock(path, locks)]
        if dead and _end_runs(settings, [path.name for path in dead]):
            for path in dead:
                path.unlink()


def _lock(path: Path, locks: ExitStack) -> bool:
    try:
        fcntl.flock(locks.enter_context(path.open()), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):  # its command lives, or has just ended well
        return False
    return path.exists()


def _end_runs(settings: Settings, names: Sequence[str]) -> bool:
    """Marks what is unfinished of these runs as failed and frees their places; False, with a note, if that failed."""
    try:
        subprocess.run(
            [sys.executable, "-m", "resources.stale_runs", *names],
            cwd=PROJECT,
            env={**os.environ, **settings.environ(), "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_END_SECONDS,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (str(error.stderr or error).strip().splitlines())[-1]
        terminal.note(f"A crawl that died may still count as running, and the next wait for it: {said}")
        return False
    return True
