"""What a default check found, and what most likely caused it: plain data that checks, manifests and reports share.

Who judges is in `defaults` (against the source's history) and `cause`; how it is said on a page is in `report`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["critical", "warning"]

#: What most likely happened to a partition that failed; "cannot tell" is an answer.
CauseKind = Literal[
    "site gone",
    "blocked",
    "layout changed",
    "site shrank",
    "currency or locale changed",
    "our parser failed",
    "cannot tell",
]


class Finding(BaseModel):
    """One default check on one partition that was judged: passed, failed, or without enough history.

    Attributes:
        kind: what was judged, e.g. `fill_rate`; with `field` it identifies the check.
        field: the column it is about, "" for the whole partition.
        state: `no history` is no failure and no pass.
        severity: what a failure means; critical ones keep the partition from its readers.
        summary: in words, with the numbers: what changed, since when, by how much.
        observed: the value of this partition.
        low, high: the bounds it was held against, None where there is none on that side.
        compared: number of accepted partitions behind the bounds.
        since: key of the newest accepted partition that was still within the bounds, "" where there is none.
        unexpected: rows that show it, None where it is not about rows.
        sample: some of these rows: objects with `value`, `url` and `key` (the record's key fields).
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    field: str = ""
    state: Literal["passed", "failed", "no history"]
    severity: Severity = "warning"
    summary: str
    observed: Any = None
    low: float | None = None
    high: float | None = None
    compared: int = 0
    since: str = ""
    unexpected: int | None = None
    sample: tuple[dict[str, Any], ...] = ()

    @property
    def failed(self) -> bool:
        return self.state == "failed"


class Cause(BaseModel):
    """What most likely happened, and what speaks for it.

    Attributes:
        words: one sentence for a person.
        evidence: facts from the books and the fields' statistics, each with its numbers.
    """

    model_config = ConfigDict(frozen=True)

    kind: CauseKind
    words: str
    evidence: tuple[str, ...] = ()
