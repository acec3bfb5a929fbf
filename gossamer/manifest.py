"""What is written beside each partition's data: its manifest, with the counts and the verdict of its checks.

The manifest is the truth that the orchestrator, the command line and `publish()` read. It names the version of the
data it speaks of; the same version stands inside the Parquet object, so that the two cannot be taken for a pair when
they are not.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CheckResult(BaseModel):
    """The outcome of one check on one partition.

    Attributes:
        name: the asset check's name, e.g. `books_closed`.
        blocking: a failure keeps the partition from being published.
        summary: the outcome in words, for a person: what failed, by how much, where.
        details: JSON for tables and links (counts, failed expectations, sample rows).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    blocking: bool
    summary: str
    details: dict[str, Any] = Field(default_factory=dict)


class Manifest(BaseModel):
    """What is known of one partition's data in one layer.

    Attributes:
        version: identifies this very data; it stands in the Parquet object's metadata too.
        rows: number of rows.
        columns: column name -> Polars type, as text.
        inputs: `layer/source` -> version of the data that this was made from.
        checks: the verdict, one entry a check.
        crawl_id: the crawl that fetched it.
        run_id: the Dagster run that asked for it ("" outside Dagster).
        notes: JSON that belongs to one layer (a crawl's books, a join's counts).
    """

    model_config = ConfigDict(frozen=True)

    layer: str
    source: str
    partition: str
    version: str
    rows: int
    columns: dict[str, str]
    inputs: dict[str, str] = Field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    code_version: str = ""
    crawl_id: str = ""
    run_id: str = ""
    written_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    notes: dict[str, Any] = Field(default_factory=dict)

    def check(self, name: str) -> CheckResult | None:
        """The outcome of the check of that name, if it was made."""
        return next((check for check in self.checks if check.name == name), None)

    @property
    def generation(self) -> int:
        """Which crawl of its partition wrote this, from 1; 0 in layers that no crawl writes."""
        return int(self.notes.get("books", {}).get("generation", 0))

    def refusals(self) -> list[str]:
        """The blocking checks that failed: why this data may not be published, unless a person accepts it."""
        place = f"{self.layer}/{self.source}"
        return [f"{place}: {c.name}: {c.summary}" for c in self.checks if c.blocking and not c.passed]

    def unmade(self, required: Iterable[str]) -> list[str]:
        """The required checks that were never made."""
        place = f"{self.layer}/{self.source}"
        return [f"{place}: {name} was never evaluated" for name in required if self.check(name) is None]
