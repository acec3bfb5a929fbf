"""A crawl as a child process of this one: started, watched, ended; and what its end means, in words.

What happens inside that process is in `run`, which crawl it works on and whether it is started again is `step`'s. No
Scrapy is imported here.
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
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from gossamer.crawl import deaths
from gossamer.crawl.deaths import KEPT, CrawlProcessError
from gossamer.crawl.host import Order
from gossamer.crawl.identity import Crawl, Worker
from gossamer.crawl.text import printable
from gossamer.settings import PROJECT, Settings

ERROR_PREFIX = "gossamer.crawl: error: "
INTERRUPTED = 75
PAUSED = 76
#: How long a crawl may take to stop when it is asked to, and again when it is told to by a signal.
STOP_SECONDS = 15.0
#: What the interpreter runs as a crawl's process.
PROGRAM = ("-m", "gossamer.crawl")
_POLL_SECONDS = 1.0
_TAIL_LINES = 20
_TAIL_LINES_OF_KILLED = 3
#: Scrapy's lines about a crawl that goes well, and the lists of components and settings that follow some of them.
_NOISE = re.compile(r"""\S+ \S+ \[[^\]]*\] (DEBUG|INFO): |[\[{ ](?:['"]|<class ).*[\],}]$|\[\]$|\{\}$|\s*$""")


def command(order: Order) -> list[str]:
    """What the interpreter is given for a crawl's process; where sources and lake are is in its environment."""
    crawl = order.crawl
    said = [*PROGRAM, "--source", crawl.source, "--partition", crawl.key, "--generation", str(crawl.generation)]
    said += ["--run-id", order.run, "--root-run", order.root_run]
    return said + (["--pages", str(order.pages)] if order.pages is not None else [])


@dataclass
class LocalHost:
    """This machine: a crawl is a child process, which ends with its parent.

    Attributes:
        output: where the process's log goes, instead of stderr.
    """

    settings: Settings
    output: IO[str] | None = None

    def has_process(self, crawl: Crawl) -> bool:
        """Never: a process of another step is not a child of this one."""
        return False

    def has_ended(self, worker: Worker) -> bool:
        """Whether it is known to have ended."""
        return worker.is_gone

    def work(self, order: Order) -> CrawlProcessError | None:
        """As `Host.work` says."""
        environment = {
            **os.environ,
            **self.settings.environ(),
            "PYTHONPATH": _python_path(),
            "PYTHONUNBUFFERED": "1",
        }
        places = ["--sources", str(self.settings.sources), "--lake", self.settings.lake]
        with tempfile.TemporaryDirectory(prefix="gossamer-", ignore_cleanup_errors=True) as folder:
            code, tail = _watch(
                [sys.executable, *command(order), *places, "--attached", "--scratch", folder],
                environment | {"TMPDIR": folder},  # ours to remove, however the process ends
                self.output,
                order.tell,
                order.is_overdue,
                order.cancel,
            )
        return overdue(order.source.spec.limits.duration, tail) if code is None else ended(code, tail)


def overdue(limit: object, tail: list[str]) -> deaths.OverdueError:
    """A process that went on beyond `limits.duration`, and was ended."""
    words = (
        f"limits.duration ({limit}) did not end it: minutes later it still ran, because its own code blocks (a "
        f"callback that waits or computes for long). It was ended; {_lower(KEPT)}"
    )
    return deaths.OverdueError(_with_tail(words, tail, _TAIL_LINES))


def ended(code: int, tail: list[str], place: str = "") -> CrawlProcessError | None:
    """What the end of a crawl's process means; None where it ended well.

    Args:
        code: its exit code, or minus the number of the signal that ended it.
        tail: the last lines of its log.
    """
    if code == 0:
        return None
    said = next((line.removeprefix(ERROR_PREFIX) for line in reversed(tail) if line.startswith(ERROR_PREFIX)), None)
    if code in (INTERRUPTED, PAUSED):
        why = f" ({said.rstrip('.')})" if said else ""
        words = f"interrupted before it was over{why}; {_lower(KEPT)}"
        return deaths.InterruptedCrawlError(words, exit_code=code, place=place)
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        memory = " (often: out of memory)" if -code == signal.SIGKILL else ""
        words = f"its process was killed by signal {-code}, {name}{memory}; {_lower(KEPT)}"
        return deaths.KilledError(_with_tail(words, tail, _TAIL_LINES_OF_KILLED), exit_code=code, place=place)
    if said:
        return deaths.ExitedError(said, exit_code=code, place=place)
    words = _with_tail(f"its process ended with exit code {code}; {_lower(KEPT)}", tail, _TAIL_LINES)
    return deaths.ExitedError(words, exit_code=code, place=place)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


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


def _with_tail(words: str, tail: list[str], most: int) -> str:
    """The words, and the last lines of the log that say more than that the crawl went on."""
    telling = [line for line in tail if not _NOISE.match(line)][-most:]
    return "\n".join([words, "The end of its log:", *telling]) if telling else words
