"""The sensor that clears the cluster of what runs left behind: Jobs, and with them their pods (there is nothing else).

What is done with which Job is in `gossamer.cluster.reap`. Only installations whose crawls run on Kubernetes have it.
"""

from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from gossamer.cluster.config import Cluster
from gossamer.lake import Lake
from gossamer.settings import Settings

if TYPE_CHECKING:
    from gossamer.cluster.reap import RunState

NAME = "reaper"
INTERVAL_SECONDS = 30
#: Dagster keeps what a tick says in its database.
MOST_LINES = 20


def build_reaper_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of an installation with `GOSSAMER_LAUNCHER=kubernetes`."""
    path = settings.kubernetes or Path()

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Removes Jobs that no run follows any more, and ends or marks their crawls. Requests no runs.",
    )
    def reaper(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from gossamer.cluster.jobs import Jobs
        from gossamer.cluster.reap import Seen, reap
        from gossamer.crawl.identity import Wish

        cluster = Cluster.load(path)
        with Jobs(cluster) as jobs:
            look = reap(
                jobs,
                Lake(settings.lake),
                lambda ids: _states(context.instance, ids),
                Seen.read(context.cursor),
                Wish(cluster.cancelled),
            )
        context.update_cursor(look.seen.write())
        for words in look.done:
            context.log.info(words)
        for words in look.failed:
            context.log.error(words)
        said = [*look.failed, *look.done]
        if len(said) > MOST_LINES:
            said[MOST_LINES:] = [f"... and {len(said) - MOST_LINES} more, in the tick's log"]
        return dg.SkipReason("\n".join(said) or f"Nothing to clear; {len(look.seen.active)} Jobs are at work.")

    return reaper


def _states(instance: dg.DagsterInstance, ids: Set[str]) -> "dict[str, RunState]":
    runs = instance.get_runs(filters=dg.RunsFilter(run_ids=sorted(ids))) if ids else []
    return {run.run_id: _state(run) for run in runs}


def _state(run: dg.DagsterRun) -> "RunState":
    from gossamer.cluster.reap import RunState

    if not run.is_finished:
        return RunState.ACTIVE
    return RunState.CANCELLED if run.status is dg.DagsterRunStatus.CANCELED else RunState.ENDED
