"""Runs of the platform for tests: an installation in a folder, and its jobs executed as Dagster executes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

import definitions
from gossamer.lake import Lake
from gossamer.settings import Settings


@dataclass
class Installation:
    """Sources, lake and warehouse of one test, and an instance that remembers its runs."""

    settings: Settings
    instance: dg.DagsterInstance

    @classmethod
    def at(cls, folder: Path, sources: Path, instance: dg.DagsterInstance, **environ: str) -> "Installation":
        places = {
            "GOSSAMER_SOURCES": str(sources),
            "GOSSAMER_LAKE": str(folder / "lake"),
            "DAGSTER_HOME": str(folder / "dagster"),
        }
        return cls(Settings.load(environ={**places, **environ}), instance)

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake)

    @property
    def defs(self) -> dg.Definitions:
        """Built anew each time, as a reloaded code location is: a test may have edited a source."""
        return definitions.build_defs(self.settings)

    def run(self, job: str, key: str | None = None, **options: Any) -> dg.ExecuteInProcessResult:
        """A job's run, to its end; a failed one is returned, not raised."""
        found = self.defs.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, partition_key=key, raise_on_error=False, **options)

    def materialise(self, selection: str, key: str, **options: Any) -> dg.ExecuteInProcessResult:
        """A run of a selection of assets, e.g. `published/shop`, as a person starts one in the UI."""
        keys = [dg.AssetKey(part.split("/")) for part in selection.split(",")]
        job = self.defs.get_repository_def().get_implicit_job_def_for_assets(keys)
        assert job
        return job.execute_in_process(
            instance=self.instance, partition_key=key, raise_on_error=False, asset_selection=keys, **options
        )


def why(result: dg.ExecuteInProcessResult) -> str:
    """What a person reads of a failed run: failed checks and failed steps, in words."""
    words = []
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            words.append(
                failure.user_failure_data.description if failure.user_failure_data else failure.error_display_string
            )
    words += [
        f"{check.check_name}: {check.description}" for check in result.get_asset_check_evaluations() if not check.passed
    ]
    return "\n".join(str(word) for word in words)
