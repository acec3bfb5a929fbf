"""A source's job, and its declared schedule: the current partition (of every segment) is crawled when it ticks."""

from typing import Any

import dagster as dg

from gossamer.source import Source

# What define_asset_job gives has no public name; as a job it is used through this one.
Job = Any


def build_job(source: Source) -> Job:
    """The job named like the source: one partition through all its layers."""
    return dg.define_asset_job(
        source.name,
        dg.AssetSelection.tag("gossamer/source", source.name),
        description=f"Crawls, cleans, checks and publishes one partition of {source.name}.",
    )


def build_schedule(source: Source) -> dg.ScheduleDefinition:
    """The schedule that the declaration asks for; it runs from the start, since declared is asked for."""
    assert source.spec.schedule, "only a source that declares a schedule has one"

    @dg.schedule(
        name=f"{source.name}_schedule",
        job_name=source.name,
        cron_schedule=source.spec.schedule,
        execution_timezone=source.spec.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Crawls the current partition of {source.name}.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        tick = context.scheduled_execution_time
        keys = source.spec.partitions.current_keys(tick)
        return [dg.RunRequest(run_key=f"{tick.isoformat()}/{key}", partition_key=key) for key in keys]

    return schedule
