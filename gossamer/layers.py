"""What a partition becomes from layer to layer: clean rows of crawled ones, enriched rows of clean ones, each judged.

Here the rooms `records` (what rows are) and `quality` (whether they can be trusted) are put together, for Dagster's
assets and the command line alike. Rows are computed, streaming, onto local disk; committing them is the caller's.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import polars as pl

from gossamer.errors import LakeError
from gossamer.lake import Lake, Staged, object_path, stage
from gossamer.manifest import CheckResult, Manifest
from gossamer.publish.tables import Publication
from gossamer.quality import cause, checks, defaults, history, profile, quarantine, suite
from gossamer.quality.finding import Cause, Finding
from gossamer.quality.profile import Profile
from gossamer.quality.report import fill_rates
from gossamer.quality.suite import Evaluation
from gossamer.records import changes, transform
from gossamer.records import clean as cleaning
from gossamer.records import enrich as enriching
from gossamer.source import Source

#: Dead letters that are looked at for the cause of a failure.
_LETTERS = 1000


#: What is made beside a layer: rows that no reader sees, and rows that differ from before.
BESIDE = {"clean": "quarantine", "enriched": "changes"}


@dataclass(frozen=True)
class Refined:
    """One layer of a partition, computed and judged, before it is committed.

    Attributes:
        staged: its rows.
        aside: the rows that go beside it, see `BESIDE`.
        checks: the verdict.
        inputs: `layer/source` -> version that it was made from.
        notes: what the manifest keeps of it.
        validation: Great Expectations' own result as JSON, None where no suite was evaluated.
    """

    layer: str
    staged: Staged
    aside: Staged
    checks: Sequence[CheckResult]
    inputs: Mapping[str, str]
    crawl_id: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] | None = None


@contextlib.contextmanager
def clean(
    lake: Lake, source: Source, key: str, rows: pl.LazyFrame, *, layer: str = "raw", keep_failing: bool = False
) -> Iterator[Refined]:
    """The clean layer of a partition, and its quarantine, from the crawled `rows` of `layer`.

    Types and normalisers; duplicates by key; the suite and the default checks on that; rows that fail a critical
    expectation go aside, unless `keep_failing`: then `expectations_critical` fails if there are any, so that they reach
    a reader only by an acceptance.

    Raises:
        TransformError: the source's own code failed.
        SuiteError: the suite cannot be read.
        LakeError: the rows were replaced meanwhile, or the lake cannot be used.
    """
    with contextlib.ExitStack() as staging:
        with transform.computing(source), lake.reading(layer, source.name, key) as crawled:
            typed = staging.enter_context(stage(cleaning.clean(source, rows, key)))
            unique = staging.enter_context(stage(cleaning.deduplicate(source, typed.frame)))
        judged = suite.evaluate(source, source.suite_file, unique.frame, duplicated=typed.frame, lake=lake)
        failing = [] if keep_failing else judged.failing
        parted = quarantine.part(unique.frame, unique.rows, failing)
        kept = staging.enter_context(stage(parted.kept)) if failing else unique
        aside = staging.enter_context(stage(parted.quarantined))
        if kept.rows + aside.rows != unique.rows:
            raise LakeError(
                f"clean/{source.name}, partition {key}: of {unique.rows} rows, {kept.rows} are kept and {aside.rows} "
                "in quarantine. Run it again; if it stays so, tell us."
            )
        counts = replace(
            cleaning.count(source, crawled.rows, typed.frame, unique.rows), clean=kept.rows, quarantined=aside.rows
        )
        books = crawled.notes.get("books", {})
        statistics = profile.profile(
            unique.frame, source, key, version=kept.version, duplicates=counts.duplicates, books=books
        ).model_copy(update={"crawl_id": crawled.crawl_id})
        past = history.read(lake, source, key, crawl_id=crawled.crawl_id)
        findings = defaults.judge(source, statistics, past, frame=unique.frame)
        why = _cause(lake, source, crawled, judged, findings, statistics, past)
        verdict = [
            *cleaning.checks(source, counts),
            checks.volume(findings, past, why),
            *checks.expectations(judged.outcomes, findings, source.spec.record.key, why),
        ]
        if keep_failing:
            verdict = checks.refused(verdict, _count_rows(judged.failing))
        notes = {
            "records": asdict(counts),
            "fill": fill_rates(kept.frame),
            "profile": statistics.model_dump(mode="json"),
            "findings": [finding.model_dump(mode="json") for finding in findings],
            "quarantine": {"rows": aside.rows, "by": parted.by},
            "kept_failing": bool(keep_failing and judged.failing),
            **({"cause": why.model_dump()} if why else {}),
        }
        inputs = {f"{layer}/{source.name}": crawled.version}
        yield Refined("clean", kept, aside, verdict, inputs, crawled.crawl_id, notes, judged.result)


@contextlib.contextmanager
def enrich(lake: Lake, source: Source, key: str, rows: pl.LazyFrame) -> Iterator[Refined]:
    """The enriched layer of a partition, and what changed since the partition that was published before it.

    Raises:
        JoinError: a declared join cannot be made.
        TransformError, SuiteError, LakeError: as `clean`.
    """
    with contextlib.ExitStack() as staging:
        with transform.computing(source), lake.reading("clean", source.name, key) as cleaned:
            frame, joined = enriching.enrich(source, rows, enriching.upstream(source, lake, key))
            staged = staging.enter_context(stage(frame))
        own = [name for name in rows.collect_schema().names() if name in staged.columns]
        compared, differing = _changes(lake, source, key, staged.frame, own)
        aside = staging.enter_context(stage(differing))
        judged = suite.evaluate(source, source.enriched_suite_file, staged.frame, lake=lake)
        verdict = [*enriching.checks(joined), *enriching.kept(source, cleaned.rows, staged)]
        if source.enriched_suite_file:
            verdict += checks.expectations(judged.outcomes, [], source.spec.record.key)
            verdict = checks.refused(verdict, _count_rows(judged.failing))  # nothing is set aside from here on
        notes = {"joins": [asdict(join) for join in joined], "fill": fill_rates(staged.frame), "changes": compared}
        inputs = {f"clean/{source.name}": cleaned.version}
        yield Refined("enriched", staged, aside, verdict, inputs, cleaned.crawl_id, notes, judged.result)


def commit(lake: Lake, source: Source, key: str, refined: Refined, run_id: str = "") -> None:
    """Puts a layer and what is beside it into the lake, the layer after that: its manifest is what others go by.

    Raises:
        LakeError: what it was made from was replaced meanwhile, or the lake cannot be used.
    """
    for place, made_from in refined.inputs.items():
        below = place.partition("/")[0]
        if lake.version(below, source.name, key) != made_from:
            raise LakeError(f"{place}, partition {key}, was replaced meanwhile. Run it again; nothing was committed.")
    known: dict[str, Any] = {"inputs": refined.inputs, "crawl_id": refined.crawl_id, "run_id": run_id}
    lake.commit(BESIDE[refined.layer], source.name, key, refined.aside, **known)
    lake.commit(
        refined.layer, source.name, key, refined.staged, checks=refined.checks, notes=dict(refined.notes), **known
    )
    validation = object_path("validations", source.name, key, f".{refined.layer}.json")
    if refined.validation is None:
        lake.delete(validation)
    else:  # for Data Docs
        lake.put_json(validation, refined.validation)


def remember(lake: Lake, source: Source, key: str, publication: Publication) -> None:
    """Makes a partition that was published a part of the source's history, by which later ones are judged.

    One that was only accepted is none, unless whoever accepted it said so. Nor are statistics that speak of other data
    than was published: a newer version may lie there by now.
    """
    cleaned = lake.manifest("clean", source.name, key)
    if cleaned is None or cleaned.version != publication.made_from["clean"] or "profile" not in cleaned.notes:
        return
    if publication.accepted is None or publication.accepted.in_history:
        history.record(lake, Profile.model_validate(cleaned.notes["profile"]))
    elif source.spec.partitions.period:  # its readers no longer have what the history speaks of
        history.forget(lake, source.name, key)


def cause_of_incomplete(lake: Lake, source: Source, crawled: Manifest) -> Cause:
    """What most likely kept a crawl's books from closing."""
    books = crawled.notes.get("books", {})
    past = history.read(lake, source, crawled.partition, crawl_id=crawled.crawl_id)
    return cause.cause(source, None, past, [], books, _letters(lake, crawled))


def _changes(
    lake: Lake, source: Source, key: str, rows: pl.LazyFrame, columns: Sequence[str]
) -> tuple[dict[str, Any], pl.LazyFrame]:
    """What changed in these columns since the partition before, in numbers and as rows; without one there is nothing.

    What other sources brought by joins is their change, not this source's.
    """
    before = changes.previous(source, lake, key)
    if before is None:
        return {"previous": None}, changes.nothing(source)
    label, then = before
    found = changes.detect(source, rows, then, columns)
    return found.notes(label), found.rows


def _count_rows(failing: Sequence[quarantine.Failing]) -> int:
    """How many rows fail one of these expectations."""
    return pl.concat([one.rows for one in failing]).n_unique() if failing else 0


def _cause(
    lake: Lake,
    source: Source,
    crawled: Manifest,
    judged: Evaluation,
    findings: Sequence[Finding],
    statistics: Profile,
    past: Sequence[Profile],
) -> Cause | None:
    """What most likely happened, where something failed."""
    if all(outcome.passed for outcome in judged.outcomes) and not any(finding.failed for finding in findings):
        return None
    books = crawled.notes.get("books", {})
    return cause.cause(source, statistics, past, findings, books, _letters(lake, crawled))


def _letters(lake: Lake, crawled: Manifest) -> pl.DataFrame | None:
    """Some dead letters of that crawl; None where those in the lake are of another."""
    letters = lake.manifest("dead_letters", crawled.source, crawled.partition)
    if letters is None or letters.crawl_id != crawled.crawl_id:
        return None
    with contextlib.suppress(LakeError):  # they only help to name a cause
        return lake.scan("dead_letters", crawled.source, crawled.partition).head(_LETTERS).collect()
    return None
