"""The command `serve`: Dagster's webserver and daemon on one machine, until Ctrl-C."""

import time
from typing import Annotated

import typer

from gossamer.cli import terminal
from gossamer.cli.crawling import stoppable
from gossamer.cli.terminal import LakeOption, SourcesOption
from gossamer.serve import platform
from gossamer.settings import Settings


def serve(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the UI.")] = 3000,
    sources: SourcesOption = None,
    lake: LakeOption = None,
) -> int:
    """Run Dagster on your sources: UI, schedules, sensors. Everything stops with Ctrl-C."""
    settings = Settings.load(sources, lake)
    declared = terminal.load(settings)
    for error in declared.errors:
        terminal.note(f"left out: {error}")
    logs = settings.dagster_home / "logs"
    with stoppable(), platform(settings, port, logs) as running:
        terminal.note(
            f"{terminal.count(len(declared.sources), 'source')} from {settings.sources}, lake {settings.lake}\n"
            f"UI: {running.url}   logs: {logs}   stop: Ctrl-C"
        )
        while True:
            running.processes.check()
            time.sleep(1)
