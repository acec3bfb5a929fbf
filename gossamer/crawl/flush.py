"""Records leave the store while the crawl goes on: many of them become one segment in the lake.

What a segment is, and how segments become the partition's rows, is in `segments`.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from gossamer.crawl.frontier import Frontier, FrontierError
from gossamer.crawl.segments import Segments
from gossamer.errors import LakeError

_log = logging.getLogger(__name__)

#: So many records make a segment; fewer do when the oldest has waited so many seconds.
SEGMENT_ROWS = 10_000
SEGMENT_SECONDS = 60.0
#: A segment has no more data than this, or one record: in memory it takes several times as much while it is written.
SEGMENT_BYTES = 16 * 1024 * 1024
_LOOK_SECONDS = 0.5


class Flusher:
    """Writes segments, from a thread of their own, while the loop works on pages."""

    def __init__(self, frontier: Frontier, segments: Segments, fatal: Callable[[FrontierError], None]) -> None:
        self._frontier = frontier
        self._segments = segments
        self._fatal = fatal
        self._last = time.monotonic()

    async def run(self) -> None:
        """Flushes until it is cancelled. A lake that is away is no reason to fail: the records wait in the store."""
        warned = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                while waiting := self._due():
                    records = self._frontier.waiting_records(SEGMENT_ROWS, SEGMENT_BYTES)
                    segment = await asyncio.to_thread(self._segments.write, records)
                    self._frontier.flushed(segment)
                    warned = False
                    if len(records) in (waiting, SEGMENT_ROWS):  # else they were too large: the others go on waiting
                        self._last = time.monotonic()
            except LakeError as error:
                if not warned:
                    _log.warning("Records wait in the crawl's store until the lake takes them: %s", error)
                warned = True
            except FrontierError as error:
                self._fatal(error)
                return

    def rest(self) -> None:
        """Writes what is left.

        Raises:
            LakeError: the lake does not take it.
            FrontierError: the store cannot go on.
        """
        while records := self._frontier.waiting_records(SEGMENT_ROWS, SEGMENT_BYTES):
            self._frontier.flushed(self._segments.write(records))

    def _due(self) -> int:
        """How many records wait, 0 where no segment is due."""
        waiting = self._frontier.waiting()
        is_due = waiting >= SEGMENT_ROWS or time.monotonic() - self._last > SEGMENT_SECONDS
        return waiting if is_due else 0
