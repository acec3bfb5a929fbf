"""The command `serve`: Dagster's webserver and daemon on one machine, until Ctrl-C."""

import sys
import time
from contextlib import suppress
from typing import Annotated

import typer

from gossamer.cli import terminal
from gossamer.cli.crawling import stoppable
from gossamer.cli.terminal import LakeOption, SourcesOption
from gossamer.serve import platform
from gossamer.settings import PROJECT, Settings


def serve(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the UI.")] = 3000,
    sources: SourcesOption = None,
    lake: LakeOption = None,
) -> int:
    """Run Dagster on your sources: UI, schedules, sensors. Everything stops with Ctrl-C, which is its normal end."""
    settings = Settings.load(sources, lake)
    declared = terminal.load(settings)
    for error in declared.errors:
        terminal.note(f"left out: {error}")
    logs = settings.dagster_home / "serve_logs"  # not `logs`: what lies there, Dagster sends to its makers
    with suppress(KeyboardInterrupt), stoppable(), platform(settings, port, logs) as running:
        terminal.note(
            f"{terminal.count(len(declared.sources), 'source')} from {settings.sources}, lake {settings.lake}\n"
            f"UI: {running.url}   reports: {running.reports}   logs: {logs}   stop: Ctrl-C"
        )
        if settings.sources == PROJECT / "sources" and "shop" in declared.sources:
            terminal.note(f"shop, rates and reviews read the demo shop; start it: {sys.executable} -m demo.shop")
        while True:
            running.processes.check()
            time.sleep(1)
    terminal.note("stopped")
    return 0
