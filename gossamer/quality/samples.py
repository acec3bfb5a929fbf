"""Rows that show what failed: a few of each finding, with their pages and keys.

The frame may be lazy and of any size; no query gives more rows than are shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from gossamer.quality import profile as statistics
from gossamer.quality import words
from gossamer.quality.finding import Finding
from gossamer.quality.measure import Case, Judged, most
from gossamer.quality.profile import Profile

#: Rows shown of a failure.
SAMPLES = 5
#: A longer address is left out rather than cut: half an address leads nowhere.
URL = 2000
#: Findings that requests show, not rows.
_OF_REQUESTS = frozenset({"error_pages", "robots", "pages"})
#: Columns of a sample: names that no field can have.
_VALUE, _PAGE, _KEY = "~value", "~page", "~key "


def with_samples(case: Case, frame: pl.LazyFrame, judged: Sequence[Judged]) -> list[Finding]:
    """The findings, with some rows of each that failed."""
    samples = _Samples(case, frame, frame.collect_schema())
    return [
        verdict.finding.model_copy(update={"sample": samples.of(verdict)})
        if verdict.finding.failed
        else verdict.finding
        for verdict in judged
    ]


@dataclass(frozen=True)
class _Samples:
    """The rows of one partition."""

    case: Case
    frame: pl.LazyFrame
    columns: pl.Schema

    def of(self, verdict: Judged) -> tuple[dict[str, Any], ...]:
        if verdict.finding.kind in _OF_REQUESTS:
            return tuple(_failed_requests(self.case.profile))
        if verdict.finding.kind == "changes":
            return _shown(self._changed(verdict.finding.field))
        if verdict.rows is None or not _named(verdict.rows, verdict.value) <= self.columns.keys():
            return ()
        value = pl.lit(None) if verdict.value is None else verdict.value
        # One short query each: together, they would share a scan that is kept in memory as a whole.
        query = self.frame.filter(verdict.rows).select(value.alias(_VALUE), *self._places).head(SAMPLES)
        return _shown(query.collect(engine="streaming"))

    @property
    def _places(self) -> list[pl.Expr]:
        """What says which row it is: its page and its key."""
        keys = [
            pl.col(name).alias(f"{_KEY}{name}") for name in self.case.source.spec.record.key if name in self.columns
        ]
        return [(pl.col("_url") if "_url" in self.columns else pl.lit(None, pl.String)).alias(_PAGE), *keys]

    def _changed(self, name: str) -> pl.DataFrame:
        """Rows of records whose field is another than in the partition before."""
        changed = self.case.changed_keys(name)
        return (
            self._records.filter([key in changed for key in self._keys])
            .select(pl.col(name).alias(_VALUE), *self._places)
            .head(SAMPLES)
        )

    @cached_property
    def _records(self) -> pl.DataFrame:
        """The records by which partitions are compared one by one."""
        return statistics.sketched(self.frame, self.case.source).collect(engine="streaming")

    @cached_property
    def _keys(self) -> list[str]:
        if self._records.is_empty():
            return []
        keys = (statistics.as_texts(self._records[name]) for name in self.case.source.spec.record.key)
        return [statistics.key_digest(key) for key in zip(*keys, strict=True)]


def _named(*expressions: pl.Expr | None) -> set[str]:
    return {name for expression in expressions if expression is not None for name in expression.meta.root_names()}


def _shown(rows: pl.DataFrame) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "value": words.plain(row[_VALUE]),
            "url": row[_PAGE] if row[_PAGE] is None or len(row[_PAGE]) <= URL else None,
            "key": {name.removeprefix(_KEY): words.plain(key) for name, key in row.items() if name.startswith(_KEY)},
        }
        for row in rows.to_dicts()
    )


def _failed_requests(profile: Profile) -> Iterator[dict[str, Any]]:
    reasons = [*(reason for reason, _ in most(profile.dead)), "robots", "seed"]
    urls = [(reason, url) for reason in reasons for url in profile.examples.get(reason, ())]
    yield from ({"value": reason, "url": url, "key": {}} for reason, url in urls[:SAMPLES] if len(url) <= URL)
