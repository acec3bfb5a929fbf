"""Starting a crawl's process and watching it to its end: what everyone outside this room calls.

What happens inside that process is in `run`. No Scrapy is imported here.
"""

import collections
import contextlib
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
from typing import IO

from gossamer.crawl.progress import COMMITTING, Progress, progress_path, read_progress
from gossamer.crawl.text import printable
from gossamer.errors import CrawlError, LakeError
from gossamer.lake import INCOMPLETE, Lake
from gossamer.manifest import Manifest
from gossamer.settings import PROJECT, Settings
from gossamer.source import Source

__all__ = ["CrawlProcessError", "Progress", "run_crawl"]

ERROR_PREFIX = "gossamer.crawl: error: "
INTERRUPTED = 75
#: How long a crawl may take to stop when it is asked to; it ends itself earlier.
STOP_SECONDS = 15.0
#: How long a crawl that has reached `limits.duration` may take to end: requests in flight are waited for.
OVERTIME_SECONDS = 120.0
_POLL_SECONDS = 1.0
_TAIL_LINES = 20
_TAIL_LINES_OF_KILLED = 3
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


def run_crawl(
    settings: Settings,
    source: Source,
    key: str,
    *,
    run_id: str = "",
    pages: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    output: IO[str] | None = None,
) -> Manifest:
    """Crawls one partition in a process of its own and returns the manifest of its rows, good verdict or not.

    Its `layer` says where the rows are: `raw`, or `incomplete` where the books did not close.

    Args:
        pages: stop after so many pages (the books then do not close).
        on_progress: called about every second while it runs, and once at the end.
        output: where the process's log goes, instead of stderr.

    Raises:
        CrawlProcessError: the process was killed, interrupted, failed or went far beyond its `limits.duration`;
            nothing was committed.
        LakeError: the result cannot be read.
    """
    lake = Lake(settings.lake)
    with contextlib.suppress(LakeError):  # an older crawl's last word is not this one's first
        lake.delete(progress_path(source.name, key))
    token = uuid.uuid4().hex
    crawl = f"Crawl of {source.name}, partition {key}"
    environment = {**os.environ, **settings.environ(), "PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory(prefix="gossamer-", ignore_cleanup_errors=True) as folder:
        code, tail = _watch(
            [*_command(settings, source, key, run_id, pages), "--token", token, "--scratch", folder],
            environment | {"TMPDIR": folder},  # ours to remove, however the process ends
            output,
            lambda: _tell(lake, source, key, on_progress),
            lambda elapsed: _is_overdue(lake, source, key, elapsed),
        )
    if code is None:
        raise CrawlProcessError(f"{crawl}: {_with_tail(_overdue(source), tail, _TAIL_LINES)}", 1)
    if code != 0:
        raise CrawlProcessError(f"{crawl}: {_words(code, tail)}", code)
    manifest = _result(lake, source, key, token)
    if manifest is None:
        words = "its process ended without a result; its own code may have ended it (os._exit). Nothing was committed."
        raise CrawlProcessError(f"{crawl}: {_with_tail(words, tail, _TAIL_LINES)}", code)
    return manifest


def _result(lake: Lake, source: Source, key: str, token: str) -> Manifest | None:
    """What this crawl committed; an older one's result has another token."""
    for layer in (INCOMPLETE, "raw"):
        manifest = lake.manifest(layer, source.name, key)
        if manifest and manifest.notes.get("token") == token:
            return lake.current(layer, source.name, key)
    return None


def _is_overdue(lake: Lake, source: Source, key: str, elapsed: float) -> bool:
    """Whether a crawl has gone on beyond its limit: its own code blocks. One that is committing is not hurried."""
    limit = source.spec.limits.duration
    if limit is None or elapsed < limit.total_seconds() + OVERTIME_SECONDS:
        return False
    progress = read_progress(lake, source.name, key)
    return progress is None or progress.state != COMMITTING


def _overdue(source: Source) -> str:
    return (
        f"limits.duration ({source.spec.limits.duration}) did not end it: {OVERTIME_SECONDS:g} s later it still ran, "
        "because its own code blocks (a callback that waits or computes for long). It was ended; nothing was committed."
    )


def _command(settings: Settings, source: Source, key: str, run_id: str, pages: int | None) -> list[str]:
    command = [sys.executable, "-m", "gossamer.crawl", "--attached", "--source", source.name, "--partition", key]
    command += ["--sources", str(settings.sources), "--lake", settings.lake, "--run-id", run_id]
    return command + (["--pages", str(pages)] if pages is not None else [])


def _python_path() -> str:
    own = os.environ.get("PYTHONPATH")
    return f"{PROJECT}{os.pathsep}{own}" if own else str(PROJECT)


def _tell(lake: Lake, source: Source, key: str, on_progress: Callable[[Progress], None] | None) -> None:
    if on_progress and (progress := read_progress(lake, source.name, key)):
        on_progress(progress)


def _watch(
    command: list[str],
    environment: dict[str, str],
    output: IO[str] | None,
    tell: Callable[[], None],
    is_overdue: Callable[[float], bool],
) -> tuple[int | None, list[str]]:
    """Runs the command to its end; gives its exit code and the last lines it wrote. Leaves no process behind.

    The exit code is None where it was ended because `is_overdue(seconds)` said so.
    """
    began, overdue = time.monotonic(), False
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
    finally:
        _end(process)
        reader.join(5)  # a process that the spider started may hold the pipe open: not longer than this
    tell()
    return None if overdue else process.returncode, list(tail)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stops what still runs of the process and its children: asked first, killed after a bounded wait."""
    try:
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
        return "interrupted before it was over; nothing was committed. Run it again."
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        memory = " (often: out of memory)" if -code == signal.SIGKILL else ""
        words = f"its process was killed by signal {-code}, {name}{memory}; nothing was committed."
        return _with_tail(words, tail, _TAIL_LINES_OF_KILLED)
    said = next((line for line in reversed(tail) if line.startswith(ERROR_PREFIX)), None)
    if said:
        return said.removeprefix(ERROR_PREFIX)
    return _with_tail(f"its process ended with exit code {code}; nothing was committed.", tail, _TAIL_LINES)


def _with_tail(words: str, tail: list[str], most: int) -> str:
    """The words, and the last lines of the log that say more than that the crawl went on."""
    telling = [line for line in tail if not _NOISE.match(line)][-most:]
    return "\n".join([words, "The end of its log:", *telling]) if telling else words
