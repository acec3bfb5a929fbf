"""What a running crawl tells the people who watch it: a small JSON object in the lake, about every second.

Progress is never the truth (that is the manifest) and never a reason for a crawl to fail.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

from pydantic import BaseModel, ConfigDict

from gossamer.errors import LakeError
from gossamer.lake import Lake, object_path

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
RUNNING = "running"
COMMITTING = "committing"


class Progress(BaseModel):
    """Counts of a crawl at one moment.

    Attributes:
        pages: pages that the spider saw.
        errors: requests that failed for good.
        dropped: records that a pipeline dropped or failed on.
        pending: requests known and not over yet, where that is known.
        bytes: bytes received.
        rate: pages a second, over the whole crawl.
        state: running, committing (the pages are over, the rows go to the lake), complete, interrupted or failed.
    """

    model_config = ConfigDict(frozen=True)

    pages: int = 0
    records: int = 0
    errors: int = 0
    dropped: int = 0
    pending: int | None = None
    bytes: int = 0
    elapsed_s: float = 0.0
    rate: float = 0.0
    last_url: str = ""
    state: str = RUNNING

    @property
    def is_live(self) -> bool:
        """The crawl had not ended when it said this."""
        return self.state in (RUNNING, COMMITTING)


def progress_path(source: str, key: str) -> str:
    """Where the progress of a partition's crawl lies in the lake."""
    return object_path("progress", source, key, ".json")


def read_progress(lake: Lake, source: str, key: str) -> Progress | None:
    """The crawl's last word, None where there is none that can be read."""
    try:
        content = lake.get(progress_path(source, key))
        return Progress.model_validate_json(content) if content else None
    except (LakeError, ValueError):
        return None


class Reporter:
    """Puts `snapshot()` into the lake from a thread of its own: a slow or broken lake does not hold up the crawl."""

    def __init__(self, lake: Lake, source: str, key: str, snapshot: Callable[[], Progress]) -> None:
        self._lake = lake
        self._path = progress_path(source, key)
        self._snapshot = snapshot
        self._over = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)

    def last(self, state: str) -> None:
        """Says how the crawl ended."""
        self._over.set()
        self._thread.join(5)
        self._put(self._snapshot().model_copy(update={"state": state, "pending": 0 if state == "complete" else None}))

    def _report(self) -> None:
        while not self._over.is_set():
            self._put(self._snapshot())
            self._over.wait(INTERVAL_SECONDS)

    def _put(self, progress: Progress) -> None:
        try:
            self._lake.put(self._path, progress.model_dump_json().encode())
        except LakeError as error:
            if not self._warned:
                _log.warning("Progress cannot be shown (the crawl goes on): %s", error)
            self._warned = True


def rate(pages: int, started: float) -> float:
    """Pages a second since `started` (`time.monotonic`)."""
    return round(pages / max(time.monotonic() - started, 0.001), 2)
