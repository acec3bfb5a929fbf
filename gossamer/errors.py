"""The errors that Gossamer raises for its users: what is wrong, where, and what to do.

Every error a user can cause or mend is a `GossamerError`; its text is complete without a traceback. Errors of one
room only (a crawl's reasons, for instance) are named in that room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class GossamerError(Exception):
    """Anything a user can mend. The text says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Problem:
    """One fault of a declaration: its place (file, line, field), what is wrong, and the remedy."""

    file: Path
    field: str
    message: str
    remedy: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{field} {self.message}. {self.remedy}".rstrip()


class SourceError(GossamerError):
    """A source's declaration is wrong. `problems` has one entry a fault."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.name = name
        self.problems = tuple(problems)


class SuiteError(GossamerError):
    """A suite of expectations that cannot be evaluated. `problems` has one entry a fault."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class PartitionKeyError(GossamerError):
    """A partition key that the source does not have."""


class LakeError(GossamerError):
    """The lake cannot be reached, read or written, or an object that should be there is not."""


class LakeAwayError(LakeError):
    """The lake cannot be reached, or not now: the same may succeed later."""


class CrawlError(GossamerError):
    """A crawl that ended without a result: its process died, could not start, or was stopped."""


class PublicationRefusedError(GossamerError):
    """A partition that may not be published: a check failed, a verdict is missing or the data is stale."""


class SchemaConflictError(GossamerError):
    """A frame whose types do not fit the published table."""


class ConfigurationError(GossamerError):
    """A setting (environment variable, option) that is missing or unusable."""
