"""Why a crawl's process ended without a result: each cause a typed error that says what to do, and its note.

What is seen of a child process is turned into these errors by `process`, what is seen of a pod by
`gossamer.cluster.causes`; whether the crawl is started again is `step`'s. Why single requests fail is in `reasons`.
"""

import time
import uuid
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from gossamer.crawl.identity import Crawl
from gossamer.errors import CrawlError, LakeError
from gossamer.lake import Lake

KEPT = "What it had done is kept, and the next run goes on from there."


class CrawlProcessError(CrawlError):
    """A crawl's process that ended without a result.

    Attributes:
        cause: in a word or two, for tables and counts.
        remedy: what to do where there is no more to say than that; "" where the text says it.
        passes: nothing need be changed: the same crawl is simply started again.
        crawl: its name, before the text.
        exit_code: as the process gave it; minus the signal's number where a signal ended it. None where none is known.
        place: where it ran, for people (`pod crawl-shop-1a2b3c4d-1-x7k2p on node-2`).
        id: two errors with the same id tell of one death.
        memory: the limit that it had, as a Kubernetes quantity; "" where there was none.
    """

    cause: ClassVar[str] = "failed"
    remedy: ClassVar[str] = ""
    passes: bool = False

    def __init__(self, words: str, *, exit_code: int | None = None, place: str = "", id: str = "") -> None:  # noqa: A002
        super().__init__(words)
        self.words, self.exit_code, self.place, self.id = words, exit_code, place, id or uuid.uuid4().hex
        self.crawl = self.memory = ""

    def __str__(self) -> str:
        said = " ".join(part for part in (self.words, self.remedy) if part)
        return f"{self.crawl}: {said}" if self.crawl else said


class ExitedError(CrawlProcessError):
    """It ended by itself, with an error of its own or of its source's code."""


class NoResultError(CrawlProcessError):
    """It ended as if all were well, and there is no result."""

    cause = "no result"


class OverdueError(CrawlProcessError):
    """It went on far beyond `limits.duration`, because its own code blocks."""

    cause = "over its limit"


class InterruptedCrawlError(CrawlProcessError):
    """It was told to end (SIGTERM), parked its store and went."""

    cause, passes = "interrupted", True


class KilledError(CrawlProcessError):
    """A signal ended it."""

    cause, passes = "killed", True


class OutOfMemoryError(CrawlProcessError):
    """It needed more memory than its limit. `passes` where a larger step is declared."""

    cause = "out of memory"


class EvictedError(CrawlProcessError):
    """Its pod was evicted: a drained node, or one short of memory or disk."""

    cause, passes = "evicted", True


class PreemptedError(CrawlProcessError):
    """A pod of higher priority took its place."""

    cause, passes = "preempted", True
    remedy = "Give the source a higher `workers.priority_class`, if that happens too often."


class NodeLostError(CrawlProcessError):
    """Its machine went away."""

    cause, passes = "node lost", True


class RemovedError(CrawlProcessError):
    """Somebody deleted its pod or its Job."""

    cause, passes = "removed", True


class ImageError(CrawlProcessError):
    """Its image cannot be pulled."""

    cause = "image cannot be pulled"
    remedy = "Mend `workers.image` or the installation's image, push it, or name its `image_pull_secrets`."


class NotStartedError(CrawlProcessError):
    """Its container cannot be made: a secret or a config map that it names is missing, say."""

    cause = "container cannot start"


class NeverScheduledError(CrawlProcessError):
    """No node took its pod within `start_within`."""

    cause = "never scheduled"
    remedy = "Ask for less in `workers`, add nodes, or give it longer with `workers.start_within`."


class DeadlineError(CrawlProcessError):
    """Its Job reached its deadline, which follows from `limits.duration`."""

    cause = "deadline"


class AdmissionRefusedError(CrawlProcessError):
    """The cluster's rules do not admit its Job or its pod."""

    cause = "admission refused"
    remedy = "Change what the source or the installation declares, or ask those who made the rule."


class QuotaError(CrawlProcessError):
    """The namespace's quota has no room for it."""

    cause = "quota"
    remedy = "Wait until other crawls are over, ask for less in `workers`, or have the namespace's quota raised."


class Death(BaseModel):
    """The note of one death: kept with the crawl, and part of its books.

    Attributes:
        at: POSIX seconds.
    """

    model_config = ConfigDict(frozen=True)

    cause: str
    words: str
    place: str = ""
    memory: str = ""
    at: float = Field(default_factory=time.time)


def note(lake: Lake, crawl: Crawl, error: CrawlProcessError) -> None:
    """Keeps the error's cause with the crawl; once, however many saw it.

    Raises:
        LakeError: the lake cannot be written.
    """
    death = Death(cause=error.cause, words=error.words.partition("\n")[0], place=error.place, memory=error.memory)
    lake.create(f"{crawl.folder}/deaths/{error.id}.json", death.model_dump_json(indent=1).encode())


def noted(lake: Lake, crawl: Crawl) -> list[Death]:
    """The deaths of the crawl's processes, in order.

    Raises:
        LakeError: the lake cannot be read.
    """
    found = [_read(lake, path) for path in lake.paths(f"{crawl.folder}/deaths/")]
    return sorted((death for death in found if death), key=lambda death: death.at)


def _read(lake: Lake, path: str) -> Death | None:
    content = lake.get(path)
    try:
        return Death.model_validate_json(content) if content else None
    except ValueError as error:
        raise LakeError(f"{lake.url(path)} is not what a crawl writes there. Start the crawl afresh.") from error
