"""A pod's log, followed into a text stream, for people. Nothing is concluded from it: results are in the lake.

How the cluster is asked for it is `jobs`'s.
"""

import collections
import contextlib
import datetime
import logging
import threading
import time
from typing import IO

from gossamer.cluster.jobs import ClusterAwayError, ClusterError, Jobs
from gossamer.crawl.text import printable

_log = logging.getLogger(__name__)

#: How long `close` waits for what is still to come.
DRAIN_SECONDS = 3.0
_AGAIN_SECONDS = 1.0
_LONGEST_LINE = 16_384
#: By how much the clocks of this machine and the pod's node may differ without a line being missed or repeated.
_SKEW_SECONDS = 60.0
_MOST_REMEMBERED = 20_000


class PodLog:
    """Follows the log of one pod's crawl in a thread of its own: from the container's start to its end, each line once.

    Trouble with the cluster's API only delays it, and none of it reaches the caller.
    """

    def __init__(self, jobs: Jobs, pod: str, output: IO[str]) -> None:
        self._jobs, self._pod, self._output = jobs, pod, output
        self._memory = _Memory()
        self._closed, self._writing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._follow, name=f"log of {pod}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits some seconds for the end of a log that is ending; nothing is written after that."""
        self._thread.join(DRAIN_SECONDS)
        self._closed.set()
        with self._writing:  # a line that is being written just now
            pass
        self._thread.join(0.1)  # it may wait for the network: then it ends by itself, when that has timed out

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                if not self._read():
                    return
            except ClusterAwayError as error:
                _log.debug("The log of %s is asked for again: %s", self._pod, error)
            except ClusterError as error:
                if error.status != 400:  # 400: its container has not started yet
                    self._write(f"gossamer: the log of {self._pod} cannot be followed, which does not matter: {error}")
                    return
            self._closed.wait(_AGAIN_SECONDS)

    def _read(self) -> bool:
        """Reads on until the connection ends. Whether anything was new: else the container has ended.

        That the connection ends is no proof of it: it ends too where a node changes to a new file of the log.
        """
        self._memory.begin()
        had_news = False
        for line in self._jobs.log(self._pod, since=self._memory.since()):
            if self._closed.is_set():
                return False
            if (text := self._memory.news(line)) is not None:
                had_news = True
                self._write(text)
        return had_news

    def _write(self, line: str) -> None:
        text = printable(line.rstrip())  # it holds what pages say
        if len(text) > _LONGEST_LINE:
            text = f"{text[:_LONGEST_LINE]}... ({len(text) - _LONGEST_LINE} characters more)"
        with self._writing, contextlib.suppress(OSError, ValueError):  # an output that is closed ends nothing
            if not self._closed.is_set():
                self._output.write(f"{text}\n")
                self._output.flush()


class _Memory:
    """Which lines were read of late, so that a connection that begins somewhat earlier repeats none."""

    def __init__(self) -> None:
        self._lines: collections.deque[tuple[float, int]] = collections.deque(maxlen=_MOST_REMEMBERED)
        self._again: collections.Counter[int] = collections.Counter()
        self._from = 0.0
        self._last = 0.0

    def begin(self) -> None:
        """A new connection: lines that are remembered may come again, each as often as it came."""
        self._again = collections.Counter(key for _, key in self._lines)
        self._from = self._lines[0][0] if self._lines else 0.0

    def since(self) -> int | None:
        """From how many seconds ago to read; None: from the beginning."""
        return int(max(0.0, time.time() - self._last) + _SKEW_SECONDS) if self._last else None

    def news(self, line: bytes) -> str | None:
        """The text of a line that begins with its time, None of one that was read before."""
        moment, _, rest = line.partition(b" ")
        at = _seconds(moment)
        text = (line if at is None else rest).decode("utf-8", "replace")
        key, at = hash(line), self._last if at is None else at
        if self._again[key] > 0:
            self._again[key] -= 1
            return None
        if at < self._from:
            return None  # before all that is remembered
        self._last = max(self._last, at)
        self._lines.append((at, key))
        while self._lines and self._lines[0][0] < self._last - 2 * _SKEW_SECONDS:
            self._lines.popleft()
        return text


def _seconds(moment: bytes) -> float | None:
    """POSIX seconds; None of what is no time: a node's own words, which stand in for a log that it cannot read."""
    try:
        return datetime.datetime.fromisoformat(moment.decode("ascii")).timestamp()
    except ValueError:  # UnicodeDecodeError is one
        return None
