"""The job with which a person publishes a partition in spite of its failures: with a reason, recorded with the data.

What an acceptance is, and for which data it holds, is in `gossamer.acceptance`. A person accepts what was seen: what
was replaced since, or fails otherwise once it is made again, is shown first and accepted by another word.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import dagster as dg
from pydantic import Field

from assets import rerun
from gossamer import acceptance
from gossamer.acceptance import AcceptanceError
from gossamer.lake import INCOMPLETE, PUBLISHED, Lake
from gossamer.manifest import Manifest
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
            adopted = config.incomplete and acceptance.adopt(
                lake, source.name, key, context.run_id, config.versions.get(INCOMPLETE)
            )
            there = _belonging(lake, source, key)
            if adopted:
                context.log.info(f"Raw rows are now those of {adopted.crawl_id}, whose books did not close.")
            else:  # after they were read: what replaces them from here on is refused when it is accepted
                now = {layer: lake.version(layer, source.name, key) for layer in config.versions}
                acceptance.require_same(source.name, key, config.versions, now)
            versions = _make(context, config, lake, source, resources, there)
            accepted = acceptance.accept(
                lake,
                source.name,
                key,
                reason=config.reason,
                by=config.by or f"run {context.run_id[:8]}",
                in_history=config.history,
                versions=versions,
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


def _belonging(lake: Lake, source: Source, key: str) -> dict[str, Manifest]:
    """The layers that are made of the raw rows that lie there: what the others say, nobody has seen of these rows."""
    found: dict[str, Manifest] = {}
    below: Manifest | None = None
    for layer in acceptance.LAYERS:
        manifest = lake.manifest(layer, source.name, key)
        if manifest is None or manifest.version != lake.version(layer, source.name, key):
            break
        if below and manifest.inputs.get(f"{below.layer}/{source.name}") != below.version:
            break
        found[layer] = below = manifest
    return found


def _make(
    context: dg.OpExecutionContext,
    config: AcceptConfig,
    lake: Lake,
    source: Source,
    resources: Mapping[str, Any],
    there: Mapping[str, Manifest],
) -> dict[str, str]:
    """Makes what is stale, or is to hold other rows, and gives each layer's version.

    `there` are the layers that could be looked at.

    Raises:
        AcceptanceError: a layer could not be made, or fails in a way that nobody has seen.
    """
    from gossamer import failing

    seen = {layer: failing.seen(lake, manifest) for layer, manifest in there.items()}
    # What was seen of a layer has been seen of those above, if they say the very same: rows without a key stay so.
    told = {said for failures in seen.values() for said in failures.values()}
    versions = {layer: manifest.version for layer, manifest in there.items()}
    for below, layer in pairwise(acceptance.LAYERS):
        before = there.get(layer)
        if before and before.inputs.get(f"{below}/{source.name}") == versions[below] and _has_its_rows(before, config):
            continue
        # Rows that were set aside unseen are set aside once more: in quarantine they can be looked at.
        keep_failing = config.quarantine and before is not None
        made = _made(context, lake, source, resources, config.partition, layer, keep_failing)
        found = failing.failures(lake, made) | (failing.set_aside(made) if config.quarantine else {})
        if new := [said for known, said in found.items() if known not in seen.get(layer, {}) and said not in told]:
            raise AcceptanceError(
                f"{layer}/{source.name}, partition {config.partition}, was made again and fails in a way that nobody "
                f"has seen yet: {'; '.join(new)}. Look at its report, and accept it again if it is right; nothing was "
                "accepted yet."
            )
        versions[layer] = made.version
        told |= {*found.values()}
    return versions


def _has_its_rows(manifest: Manifest, config: AcceptConfig) -> bool:
    """Whether the rows that fail critical expectations are where they are asked to be."""
    return manifest.layer != "clean" or not (config.quarantine or manifest.notes.get("kept_failing", False))


def _made(
    context: dg.OpExecutionContext,
    lake: Lake,
    source: Source,
    resources: Mapping[str, Any],
    key: str,
    layer: str,
    keep_failing: bool,
) -> Manifest:
    lay_there = lake.version(layer, source.name, key)
    config = {f"clean_{source.name}": {"config": {"keep_failing": keep_failing}}} if layer == "clean" else {}
    rerun.materialise(context, source, resources, key, [_STEPS[layer]], config)  # its verdict may be bad
    made = lake.manifest(layer, source.name, key)
    if made is None or made.version == lay_there:
        raise AcceptanceError(
            f"{layer}/{source.name}, partition {key}, could not be made: its run says why. Nothing was accepted."
        )
    return made
