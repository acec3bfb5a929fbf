"""The job with which a person publishes a partition in spite of its failures: with a reason, recorded with the data.

What an acceptance is, and for which data it holds, is in `gossamer.acceptance`. A person accepts what was seen: what
was replaced since, or fails otherwise once it is made again, is shown first and accepted by another word.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets import rerun
from gossamer import acceptance
from gossamer.acceptance import AcceptanceError
from gossamer.lake import PUBLISHED, Lake
from gossamer.source import Source
from resources import failures

NAME = "accept_partition"
_STEPS = {layers[-1]: layers for layers in rerun.STEPS}
#: The check that fails where rows are left in that should be in quarantine: asked for, not found.
_ASKED_FOR = "expectations_critical"


class AcceptConfig(dg.Config):
    """Which partition, and why."""

    source: str = Field(description="Name of the source.")
    partition: str = Field(description="Partition key.")
    reason: str = Field(description="Why its data is right all the same. Kept with the publication.")
    by: str = Field(default="", description="Who says so; the run is named where it is empty.")
    quarantine: bool = Field(default=False, description="Publish the rows in quarantine too.")
    incomplete: bool = Field(
        default=False, description="Take the newest crawl, though its books did not close, as the partition's rows."
    )
    versions: dict[str, str] = Field(
        default_factory=dict, description="Layer -> version that was looked at; nothing is accepted if it was replaced."
    )
    history: bool = Field(
        default=False, description="Measure later partitions by this one too: what it shows is the new normal."
    )


def build_accept_job(sources: Iterable[Source], resources: Mapping[str, Any]) -> dg.JobDefinition:
    """The job, for the sources of this code location; `resources` are those of its assets."""
    known = {source.name: source for source in sources}

    @dg.op
    def accept(context: dg.OpExecutionContext, config: AcceptConfig, lake: dg.ResourceParam[Lake]) -> None:
        with failures.named():
            source, key = rerun.chosen(known, config.source), config.partition
            source.partition(key)
            if not config.reason.strip():
                raise AcceptanceError("Say why it is accepted: `reason` is empty.")
            _still_there(lake, source, key, config.versions)
            if config.incomplete and (adopted := acceptance.adopt(lake, source.name, key, context.run_id)):
                context.log.info(f"Raw rows are now those of {adopted.crawl_id}, whose books did not close.")
            _make(context, config, lake, source, resources)
            accepted = acceptance.accept(
                lake,
                source.name,
                key,
                reason=config.reason,
                by=config.by or f"run {context.run_id[:8]}",
                in_history=config.history,
            )
            for failure in accepted.failures:
                context.log.info(f"Accepted: {failure}")
            if not rerun.materialise(context, source, resources, key, [(PUBLISHED,)]):
                raise AcceptanceError(
                    f"{source.name}, partition {key}: accepted, but publishing it did not go to its end. Its run says "
                    f"why; mend that, then materialise published/{source.name}."
                )

    @dg.job(name=NAME, description="Publishes a partition in spite of its failed checks, with a person's reason.")
    def job() -> None:
        accept()

    return job


def _still_there(lake: Lake, source: Source, key: str, versions: Mapping[str, str]) -> None:
    for layer, version in versions.items():
        if lake.version(layer, source.name, key) != version:
            raise AcceptanceError(
                f"{layer}/{source.name}, partition {key}, was replaced since you looked. Look at its report again; "
                "nothing was accepted."
            )


def _make(
    context: dg.OpExecutionContext, config: AcceptConfig, lake: Lake, source: Source, resources: Mapping[str, Any]
) -> None:
    """Makes what is stale, or is to hold other rows; stops where it then fails in a way that nobody has seen."""
    key = config.partition
    for below, layer in (("raw", "clean"), ("clean", "enriched")):
        before = lake.manifest(layer, source.name, key)
        is_stale = before is None or before.inputs.get(f"{below}/{source.name}") != lake.version(
            below, source.name, key
        )
        otherwise = layer == "clean" and (
            config.quarantine or (before is not None and before.notes.get("kept_failing", False))
        )
        if not (is_stale or otherwise):
            continue
        options = {f"clean_{source.name}": {"config": {"keep_failing": config.quarantine}}} if layer == "clean" else {}
        rerun.materialise(context, source, resources, key, [_STEPS[layer]], options)  # its verdict may be bad
        made = lake.manifest(layer, source.name, key)
        if made is None or (before and made.version == before.version):
            raise AcceptanceError(
                f"{layer}/{source.name}, partition {key}, could not be made: its run says why. Nothing was accepted."
            )
        seen = {check.name for check in before.checks if not check.passed} if before else set()
        seen |= {_ASKED_FOR} if config.quarantine else set()
        if new := [check for check in made.checks if check.blocking and not check.passed and check.name not in seen]:
            listed = "; ".join(f"{check.name}: {check.summary}" for check in new)
            raise AcceptanceError(
                f"{layer}/{source.name}, partition {key}, was made again and fails otherwise: {listed}. Look at its "
                "report, and accept it again if it is right; nothing was accepted yet."
            )
