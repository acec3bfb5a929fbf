"""The job with which a person publishes a partition in spite of its failures: with a reason, recorded with the data.

What an acceptance is, and for which data it holds, is in `gossamer.acceptance`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets import rerun
from gossamer import acceptance
from gossamer.lake import PUBLISHED, Lake
from gossamer.source import Source
from resources import failures

NAME = "accept_partition"
_STEPS = {layers[-1]: layers for layers in rerun.STEPS}


class AcceptConfig(dg.Config):
    """Which partition, and why."""

    source: str = Field(description="Name of the source.")
    partition: str = Field(description="Partition key.")
    reason: str = Field(description="Why its data is right all the same. Kept with the publication.")
    by: str = Field(default="", description="Who says so; the run is named where it is empty.")
    quarantine: bool = Field(default=False, description="Publish the rows in quarantine too.")
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
                raise acceptance.AcceptanceError("Say why it is accepted: `reason` is empty.")
            if adopted := acceptance.adopt(lake, source.name, key, context.run_id):
                context.log.info(f"Raw rows are now those of {adopted.crawl_id}, whose books did not close.")
            if config.quarantine or _is_stale(lake, source, key, "raw", "clean"):
                kept = {f"clean_{source.name}": {"config": {"keep_failing": config.quarantine}}}
                rerun.materialise(context, source, resources, key, [_STEPS["clean"]], kept)  # its verdict may be bad
            if _is_stale(lake, source, key, "clean", "enriched"):
                rerun.materialise(context, source, resources, key, [_STEPS["enriched"]])
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
                raise acceptance.AcceptanceError(
                    f"{source.name}, partition {key}: accepted, but not published. Its run says why; mend that, then "
                    f"materialise published/{source.name}."
                )

    @dg.job(name=NAME, description="Publishes a partition in spite of its failed checks, with a person's reason.")
    def job() -> None:
        accept()

    return job


def _is_stale(lake: Lake, source: Source, key: str, below: str, layer: str) -> bool:
    """Whether a layer was not made, or made from other data than lies below it now."""
    made = lake.manifest(layer, source.name, key)
    return made is None or made.inputs.get(f"{below}/{source.name}") != lake.version(below, source.name, key)
