"""Starting a crawl's process and following it to its end: what everyone outside this room calls.

What happens inside that process is in `run`, which crawl it works on is `life`'s. No Scrapy is imported here.
"""

import collections
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from gossamer.crawl import identity, life
from gossamer.crawl.life import Action, Crawl, Wish
from gossamer.crawl.progress import COMMITTING, Progress, read_progress
from gossamer.crawl.text import printable
from gossamer.errors import CrawlError, LakeError
from gossamer.lake import Lake
from gossamer.manifest import Manifest
from gossamer.settings import PROJECT, Settings
from gossamer.source import Source

__all__ = ["CrawlPausedError", "CrawlProcessError", "Progress", "close_crawl", "run_crawl"]

_log = logging.getLogger(__name__)

ERROR_PREFIX = "gossamer.crawl: error: "
INTERRUPTED = 75
PAUSED = 76
#: How often one step starts a process again for a crawl that was interrupted.
RELAUNCHES = 10
#: How long a crawl may take to stop when it is asked to, and again when it is told to by a signal.
STOP_SECONDS = 15.0
#: How long a crawl that has reached `limits.duration` may take to end: requests in flight are waited for.
OVERTIME_SECONDS = 120.0
#: What the interpreter runs as a crawl's process.
PROGRAM = ("-m", "gossamer.crawl")
_POLL_SECONDS = 1.0
_ATTACH_SECONDS = 5.0
_TAIL_LINES = 20
_TAIL_LINES_OF_KILLED = 3
_KEPT = "what it had done is kept, and the next run goes on from there."
#: Scrapy's lines about a crawl that goes well, and the lists of components and settings that follow some of them.
_NOISE = re.compile(r"""\S+ \S+ \[[^\]]*\] (DEBUG|INFO): |[\[{ ](?:['"]|<class ).*[\],}]$|\[\]$|\{\}$|\s*$""")


class CrawlProcessError(CrawlError):
    """A crawl's process that ended without a result.

    Attributes:
        exit_code: as the process gave it; minus the signal's number where a signal ended it.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped from outside; the same crawl can simply be run again."""
        return self.exit_code == INTERRUPTED or self.exit_code < 0


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
    is_cancelled: Callable[[], bool] = lambda: True,
    output: IO[str] | None = None,
) -> Manifest:
    """Brings one partition's crawl to its end and returns the manifest of its rows, good verdict or not.

    The crawl is begun or resumed in a process of its own, which is started again where it is interrupted; or another
    run's process is waited for; or the crawl is over already (`life.find`). The manifest's `layer` says where the rows
    are: `raw`, or `incomplete` where the books did not close.

    Left by anything but an `Exception`, the run was cancelled, or its process is only told to end. Cancelled, the crawl
    is asked to stop, unless other runs wait for it too. However it is left, its process ends.

    Args:
        root_run: the run that this one repeats; it is given the same crawl. By default `run_id`.
        pages: stop after so many pages (the books then do not close).
        fresh: begin a new crawl although the last one is not over.
        on_progress: called about every second while it runs, and once at the end.
        is_cancelled: tells which of the two it is.
        output: where the process's log goes, instead of stderr.

    Raises:
        CrawlPausedError: the crawl was paused.
        CrawlProcessError: the process failed, was interrupted too often or went far beyond its `limits.duration`; what
            it had done is kept for the next run.
        CrawlError: a new crawl was asked for while a process works on the last one.
        LakeError: the lake cannot be read or written.
    """
    run = run_id or uuid.uuid4().hex
    lake = Lake(settings.lake)
    step = _Step(settings, source, key, lake, run, root_run or run, pages, on_progress, output, is_cancelled)
    return step.manifest(fresh)


def close_crawl(settings: Settings, source: Source, crawl: Crawl, *, output: IO[str] | None = None) -> None:
    """Has the books of a crawl closed that rests and that was asked to stop.

    Raises:
        CrawlProcessError: the process ended before they were.
        LakeError: the lake cannot be read or written.
    """
    run = uuid.uuid4().hex
    step = _Step(settings, source, crawl.key, Lake(settings.lake), run, run, None, None, output)
    step._attend(crawl, Action.RESUME, is_first=True)


@dataclass
class _Step:
    """One call of `run_crawl`.

    Attributes:
        run: under which it waits for the crawl.
        relaunches: how often it has started a process again.
    """

    settings: Settings
    source: Source
    key: str
    lake: Lake
    run: str
    root_run: str
    pages: int | None
    on_progress: Callable[[Progress], None] | None
    output: IO[str] | None
    is_cancelled: Callable[[], bool] = lambda: True
    relaunches: int = 0
    _told: float = 0.0
    _attached: float = 0.0

    def manifest(self, fresh: bool) -> Manifest:
        is_first = True
        while True:
            found = life.find(self.lake, self.source.name, self.key, self.root_run, fresh)
            if found.manifest:
                return found.manifest
            self._attend(found.crawl, found.action, is_first=is_first)
            manifest = life.result(self.lake, found.crawl)
            if manifest and not found.is_closing and not life.is_cancelled(self.lake, found.crawl, manifest):
                return manifest
            is_first = False

    def _attend(self, crawl: Crawl, action: Action, *, is_first: bool) -> None:
        """Follows the crawl's process, or one that it starts, until it is gone.

        Raises:
            CrawlPausedError, CrawlProcessError: it is not to be looked for again.
        """
        if action is Action.RESUME:
            self._wake(crawl, is_first=is_first)
        try:
            self._attach(crawl)
            if action is Action.ATTACH:
                self._follow(crawl)
            else:
                self._launch(crawl)
        finally:
            with contextlib.suppress(LakeError):  # not heard of, it soon counts as gone
                identity.detach(self.lake, crawl, self.run)

    def _wake(self, crawl: Crawl, *, is_first: bool) -> None:
        """A run that comes to a paused crawl resumes it; one that saw it being paused does not."""
        if is_first:
            life.wake(self.lake, crawl, by=f"run {self.run}")
        elif (control := life.read_control(self.lake, crawl)) and control.wish is Wish.PAUSE:
            raise self._paused(crawl)

    def _follow(self, crawl: Crawl) -> None:
        try:
            while life.is_live(self.lake, crawl):
                self._tell(crawl)
                time.sleep(_POLL_SECONDS)
            self._tell(crawl)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._cancel(crawl)
            raise

    def _launch(self, crawl: Crawl) -> None:
        environment = {
            **os.environ,
            **self.settings.environ(),
            "PYTHONPATH": _python_path(),
            "PYTHONUNBUFFERED": "1",
        }
        with tempfile.TemporaryDirectory(prefix="gossamer-", ignore_cleanup_errors=True) as folder:
            code, tail = _watch(
                [*self._command(crawl), "--scratch", folder],
                environment | {"TMPDIR": folder},  # ours to remove, however the process ends
                self.output,
                lambda: self._tell(crawl),
                lambda elapsed: self._is_overdue(crawl, elapsed),
                lambda: self._cancel(crawl),
            )
        self._judge(crawl, code, tail)

    def _command(self, crawl: Crawl) -> list[str]:
        command = [sys.executable, *PROGRAM, "--attached", "--source", self.source.name, "--partition", self.key]
        command += ["--generation", str(crawl.generation), "--run-id", self.run, "--root-run", self.root_run]
        command += ["--sources", str(self.settings.sources), "--lake", self.settings.lake]
        return command + (["--pages", str(self.pages)] if self.pages is not None else [])

    def _judge(self, crawl: Crawl, code: int | None, tail: list[str]) -> None:
        """Whether the crawl is over, or to be looked for again.

        Raises:
            CrawlPausedError, CrawlProcessError: neither.
        """
        if life.result(self.lake, crawl):  # the manifest is the truth, whatever came after it
            if code != 0:
                _log.warning("%s is over; its process did not end well after that (exit code %s).", self._name, code)
            return
        if code == PAUSED:
            control = life.read_control(self.lake, crawl)
            if control is None or control.wish is Wish.PAUSE:  # else it was resumed or stopped in the meantime
                raise self._paused(crawl)
            return
        if code is not None and _is_interruption(code) and self.relaunches < RELAUNCHES:
            self.relaunches += 1
            _log.warning("%s: %s It is started again.", self._name, _words(code, []))
            return
        often = f" It was started {RELAUNCHES + 1} times." if code is not None and _is_interruption(code) else ""
        words = _with_tail(_overdue(self.source), tail, _TAIL_LINES) if code is None else _words(code, tail)
        raise CrawlProcessError(f"{self._name}: {words}{often}", 1 if code is None else code)

    def _paused(self, crawl: Crawl) -> CrawlPausedError:
        control = life.read_control(self.lake, crawl)
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
        if self.on_progress and said and said.generation == crawl.generation and said.told_at != self._told:
            self._told = said.told_at
            self.on_progress(said)

    def _attach(self, crawl: Crawl) -> None:
        self._attached = time.monotonic()
        with contextlib.suppress(LakeError):  # a lake that is away for a while does not end the crawl
            identity.attach(self.lake, crawl, self.run)

    def _cancel(self, crawl: Crawl) -> bool:
        """Asks the crawl to stop if its run was cancelled and nobody else waits for it; whether it did."""
        if not self.is_cancelled():
            return False
        try:
            return life.cancel(self.lake, crawl, self.run)
        except LakeError as error:
            _log.warning("%s could not be asked to stop, and is interrupted: %s", self._name, error)
            return False

    def _is_overdue(self, crawl: Crawl, elapsed: float) -> bool:
        """Whether it has gone on beyond its limit: its own code blocks. One that is committing is not hurried."""
        limit = self.source.spec.limits.duration
        if limit is None or elapsed < limit.total_seconds() + OVERTIME_SECONDS:
            return False
        said = read_progress(self.lake, self.source.name, self.key)
        return said is None or said.generation != crawl.generation or said.state != COMMITTING


def _is_interruption(code: int) -> bool:
    return code == INTERRUPTED or code < 0


def _overdue(source: Source) -> str:
    return (
        f"limits.duration ({source.spec.limits.duration}) did not end it: {OVERTIME_SECONDS:g} s later it still ran, "
        f"because its own code blocks (a callback that waits or computes for long). It was ended; {_KEPT}"
    )


def _python_path() -> str:
    own = os.environ.get("PYTHONPATH")
    return f"{PROJECT}{os.pathsep}{own}" if own else str(PROJECT)


def _watch(
    command: list[str],
    environment: dict[str, str],
    output: IO[str] | None,
    tell: Callable[[], None],
    is_overdue: Callable[[float], bool],
    cancel: Callable[[], bool],
) -> tuple[int | None, list[str]]:
    """Runs the command to its end; gives its exit code and the last lines it wrote. Leaves no process behind.

    The exit code is None where it was ended because `is_overdue(seconds)` said so. Where the watching is cancelled,
    `cancel()` asks the process to end; if it says that it did, the process has some time for it.
    """
    began, overdue, was_asked = time.monotonic(), False, False
    tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,  # never written to: it closes when we die, however we die
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_copy, args=(process.stdout, output or sys.stderr, tail), daemon=True)
    reader.start()
    try:
        while not (overdue := is_overdue(time.monotonic() - began)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
                break
            tell()
    except BaseException as error:
        was_asked = not isinstance(error, Exception) and cancel()
        raise
    finally:
        _end(process, STOP_SECONDS if was_asked else 0.0)
        reader.join(5)  # a process that the spider started may hold the pipe open: not longer than this
    tell()
    return None if overdue else process.returncode, list(tail)


def _end(process: "subprocess.Popen[bytes]", patience: float) -> None:
    """Ends what still runs of the process and its children: waited for, then told to, then killed."""
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin:
            process.stdin.close()


def _copy(pipe: IO[bytes], output: IO[str], tail: "collections.deque[str]") -> None:
    with pipe:
        for line in pipe:
            text = printable(line.decode("utf-8", "replace").rstrip()) + "\n"  # it holds what pages say
            tail.append(text.rstrip())
            with contextlib.suppress(OSError, ValueError):  # a closed output must not block the crawl
                output.write(text)
                output.flush()


def _words(code: int, tail: list[str]) -> str:
    if code == INTERRUPTED:
        return f"interrupted before it was over; {_KEPT}"
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        memory = " (often: out of memory)" if -code == signal.SIGKILL else ""
        words = f"its process was killed by signal {-code}, {name}{memory}; {_KEPT}"
        return _with_tail(words, tail, _TAIL_LINES_OF_KILLED)
    if code == 0:
        words = f"its process ended without a result; its own code may have ended it (os._exit). {_KEPT.capitalize()}"
        return _with_tail(words, tail, _TAIL_LINES)
    said = next((line for line in reversed(tail) if line.startswith(ERROR_PREFIX)), None)
    if said:
        return said.removeprefix(ERROR_PREFIX)
    return _with_tail(f"its process ended with exit code {code}; {_KEPT}", tail, _TAIL_LINES)


def _with_tail(words: str, tail: list[str], most: int) -> str:
    """The words, and the last lines of the log that say more than that the crawl went on."""
    telling = [line for line in tail if not _NOISE.match(line)][-most:]
    return "\n".join([words, "The end of its log:", *telling]) if telling else words
