"""Runs whose process died where Dagster's daemon cannot see it: ended here, as the daemon ends those that it launched.

`python -m resources.stale_runs MARK...` does it for the runs with these marks (`gossamer.cli.marks` says which those
are) in the instance of DAGSTER_HOME. No definitions are loaded.
"""

import sys
from collections.abc import Sequence

import dagster as dg

from gossamer.cli.marks import TAG

REASON = (
    "Its process died: killed, out of memory, or the machine went down. Nothing of its crawl was committed after that."
)


def end(instance: dg.DagsterInstance, marks: Sequence[str]) -> list[str]:
    """Marks the unfinished runs as failed, frees the pools of all of them; gives the ids of those that it ended."""
    ended = []
    for mark in marks:
        for run in instance.get_runs(filters=dg.RunsFilter(tags={TAG: mark})):
            if not run.is_finished:
                instance.report_run_failed(run, REASON)
                ended.append(run.run_id)
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return ended


if __name__ == "__main__":
    with dg.DagsterInstance.get() as home:
        end(home, sys.argv[1:])
