"""Layers of a partition made again from what lies in the lake, no crawl: by the job `recheck`, and for an acceptance.

Each partition is a run of its own inside the job's process. So every check keeps its partition, as Dagster demands, and
yet a thousand partitions pay for one start of Python and at most one import of Great Expectations.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from assets import build_source_assets, specs
from gossamer.errors import ConfigurationError, GossamerError, PartitionKeyError
from gossamer.lake import PUBLISHED, Lake
from gossamer.source import Source
from resources import failures

NAME = "recheck"
#: What is made again, in this order, each with what is made beside it.
STEPS = (("quarantine", "clean"), ("changes", "enriched"), (PUBLISHED,))
#: The tag of a run that was started here: the run that asked for it.
TAG = "gossamer/asked_by"


class RecheckError(GossamerError):
    """Some partitions could not be made again, or not be published."""


class RecheckConfig(dg.Config):
    """What is judged again."""

    source: str = Field(description="Name of the source.")
    partitions: list[str] = Field(default_factory=list, description="Partition keys; every crawled one if left out.")


def build_recheck_job(sources: Iterable[Source], resources: Mapping[str, Any]) -> dg.JobDefinition:
    """The job, for the sources of this code location; `resources` are those of its assets."""
    known = {source.name: source for source in sources}

    @dg.op
    def recheck_partitions(context: dg.OpExecutionContext, config: RecheckConfig, lake: dg.ResourceParam[Lake]) -> None:
        with failures.named():
            source = chosen(known, config.source)
            keys = config.partitions or [
                key for key in lake.partitions("raw", source.name) if _is_declared(source, key)
            ]
            for key in keys:
                source.partition(key)
            failed = [key for key in keys if not materialise(context, source, resources, key, STEPS)]
            if failed:
                listed = ", ".join(failed[:10]) + (f" and {len(failed) - 10} more" if len(failed) > 10 else "")
                raise RecheckError(
                    f"{source.name}: {len(failed)} of {len(keys)} partitions are not published as they are now: "
                    f"{listed}. Their runs and reports say why."
                )
            context.log.info(f"{source.name}: {len(keys)} partitions judged again and published")

    @dg.job(
        name=NAME,
        description="Cleans, checks and publishes crawled partitions again, without a crawl: after a suite or a "
        "transform was mended.",
    )
    def job() -> None:
        recheck_partitions()

    return job


def _is_declared(source: Source, key: str) -> bool:
    """Whether the source still has the partition: what was crawled before `start` moved, say, stays as it is."""
    try:
        source.partition(key)
    except PartitionKeyError:
        return False
    return True


def chosen(known: Mapping[str, Source], name: str) -> Source:
    """The source of that name; raises `ConfigurationError` where there is none here."""
    if name not in known:
        raise ConfigurationError(f"No source `{name}` here. There are: {', '.join(sorted(known))}.")
    return known[name]


def materialise(
    context: dg.OpExecutionContext,
    source: Source,
    resources: Mapping[str, Any],
    key: str,
    steps: Sequence[Sequence[str]],
    config: Mapping[str, Any] | None = None,
) -> bool:
    """Materialises layers of a partition in a run of their own; whether all of them were made and may be used.

    `config` is that of the ops, by name. False where a blocking check failed, or a step did.
    """
    mongo = "mongo" in resources
    made = [layer for layers in steps for layer in layers]
    made += ["mongo"] if mongo and PUBLISHED in made else []
    keys = [specs.asset_key(layer, source.name) for layer in made]
    run = dg.materialize(
        build_source_assets(source, mongo=mongo),
        selection=dg.AssetSelection.assets(*keys),
        partition_key=key,
        instance=context.instance,
        resources=dict(resources),
        run_config={"ops": dict(config)} if config else None,
        tags={TAG: context.run_id},
        raise_on_error=False,
    )
    context.log.info(f"{source.name}, partition {key}: run {run.run_id} {'succeeded' if run.success else 'FAILED'}")
    return run.success
