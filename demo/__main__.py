"""`python -m demo`: the whole platform on the demo shop, from the site to the marts, shown in the terminal.

It starts the shop, Dagster's webserver and daemon, and launches runs through the same GraphQL that the UI uses; queue,
sensors and automation do the rest as they would in production. All it writes is below `.gossamer/demo`.
"""

import argparse
import contextlib
import fcntl
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.shop import PORT as SHOP_PORT
from gossamer import declarations
from gossamer.cli.crawling import stoppable
from gossamer.errors import ConfigurationError, GossamerError
from gossamer.lake import INCOMPLETE, Lake
from gossamer.manifest import CheckResult
from gossamer.serve import Platform, ServeError, check_port, platform
from gossamer.settings import HOME, PROJECT, Settings

FOLDER = HOME / "demo"
NEEDED_BYTES = 300_000_000
#: Longest wait for all of it on a slow machine, in seconds.
PATIENCE = 900.0

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when everything is done")
    parser.add_argument("--port", type=_port, default=3000, help="the UI's port")
    options = parser.parse_args()
    try:
        with stoppable(), _alone():
            return _run(options.port, options.once)
    except GossamerError as error:
        console.print(f"[red]demo:[/red] {escape(str(error))}", style=None)
        return 2
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal may be closed
            console.print("\nStopped; nothing is left running.")
        return 0 if not options.once else 130


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else 0
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return port


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One demo at a time in this checkout; the state of the last one is removed."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        lock = (FOLDER / "lock").open("a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError("A demo is running in this folder already. Use it, or stop it with Ctrl-C.") from error
    except OSError as error:
        raise ConfigurationError(f"{FOLDER} cannot be written: {error.strerror}. Make it writable.") from error
    with lock:
        if (free := shutil.disk_usage(FOLDER).free) < NEEDED_BYTES:
            raise ConfigurationError(
                f"No space left: {free // 10**6} MB free at {FOLDER}, the demo needs {NEEDED_BYTES // 10**6} MB."
            )
        try:
            for child in FOLDER.iterdir():
                if child.is_dir():
                    shutil.rmtree(child)
        except OSError as error:
            raise ConfigurationError(f"{error.filename} cannot be removed: {error.strerror}.") from error
        yield


def _run(port: int, once: bool) -> int:
    began = time.monotonic()
    # The shipped places, whatever the user's own are: the demo's rows belong in none of them.
    settings = Settings.load(sources=PROJECT / "sources", lake=str(FOLDER / "lake"), environ={})
    check_port(SHOP_PORT, remedy="It is the demo shop's (sources/shop/source.yaml): stop that program.")
    check_port(port, remedy=f"Stop it, or choose another port for the UI: make demo PORT={port + 1}")
    console.print("[bold]Gossamer[/bold]: a shop becomes checked, queryable data\n")
    _step("starting the demo shop and Dagster ...")
    with platform(settings, port, FOLDER / "logs") as dagster:
        dagster.processes.start(
            "shop", [sys.executable, "-m", "demo.shop", "--port", str(SHOP_PORT)], settings.environ()
        )
        _step(f"Dagster is up: {dagster.url}   the shop: http://127.0.0.1:{SHOP_PORT}/")
        sound = _Demo(dagster, settings).run()
        _results(settings, dagster, time.monotonic() - began, sound)
        if not once:
            console.print("\nEverything stays up until you press [bold]Ctrl-C[/bold].")
            while True:
                time.sleep(1)
                dagster.processes.check()
    return 0 if sound else 1


def _step(text: str) -> None:
    console.print(f"[dim]{datetime.now():%H:%M:%S}[/dim]  {text}")


_LAUNCH = """mutation($job: String!, $tags: [ExecutionTag!]) { launchRun(executionParams: {
  selector: {jobName: $job, repositoryName: "__repository__", repositoryLocationName: "gossamer"},
  runConfigData: {}, mode: "default", executionMetadata: {tags: $tags}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""

_RUNS = """{ runsOrError(limit: 200) { ... on Runs { results {
  runId status jobName tags { key value } assetSelection { path }
  assetMaterializations { assetKey { path } } } } } }"""

_REASON = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  __typename ... on ExecutionStepFailureEvent { stepKey error { message } failureMetadata { description } } } } } }"""

_EXAMPLE = "select * from shop limit 5"
_MART = """select day, category, products, avg_price_eur, in_stock_share
from marts.category_prices order by day desc, category limit 5"""

_FAILED = {"FAILURE", "CANCELED"}
_ENDED = {"SUCCESS", *_FAILED}


@dataclass(frozen=True)
class _Run:
    id: str
    status: str
    what: str
    partition: str


class _Demo:
    """Launches what a user would launch, and watches what Dagster makes of it."""

    def __init__(self, dagster: Platform, settings: Settings) -> None:
        self.dagster = dagster
        self.lake = Lake(settings.lake)
        today = datetime.now(UTC).date()
        self.days = [str(today - timedelta(days=1)), str(today)]
        self.told: dict[str, str] = {}

    def run(self) -> bool:
        """True if every run succeeded, chain and marts included."""
        for source in ("rates", "shop"):
            for day in self.days:
                self._launch(source, day)
            if not self._until(source, lambda runs, s=source: _all_ended(runs, s, len(self.days))):
                return False
        _step("the sensor crawls the reviews of the products that were published; the marts follow ...")
        return self._until("reviews and marts", self._settled)

    def _launch(self, job: str, day: str) -> None:
        tags = [{"key": "dagster/partition", "value": day}]
        answer = self.dagster.graphql(_LAUNCH, {"job": job, "tags": tags})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise ServeError(f"Dagster did not launch {job}, partition {day}: {answer}")

    def _settled(self, runs: list[_Run]) -> bool:
        if not _all_ended(runs, "reviews", len(self.days)) or any(run.status not in _ENDED for run in runs):
            return False
        # Runs come newest first: the marts are fresh when nothing was published after they were built.
        return runs[0].what == "marts"

    def _until(self, what: str, done: Any) -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.dagster.processes.check()
            runs = self._runs()
            for run in reversed(runs):
                self._tell(run)
            if any(run.status in _FAILED for run in runs):
                return False
            if done(runs):
                return True
            time.sleep(1)
        _step(f"[red]{what}: not done within {PATIENCE:.0f} s[/red]; see {self.dagster.processes.logs}")
        return False

    def _runs(self) -> list[_Run]:
        found = self.dagster.graphql(_RUNS)["runsOrError"]["results"]
        return [self._as_run(run) for run in found]

    def _as_run(self, run: dict[str, Any]) -> _Run:
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        selected = {asset["path"][0] for asset in run["assetSelection"] or []}
        what = "marts" if selected == {"marts"} else run["jobName"]
        return _Run(run["runId"], run["status"], what, tags.get("dagster/partition", ""))

    def _tell(self, run: _Run) -> None:
        """One line for each change: the run's status, and the crawl's progress while it runs."""
        name = f"{run.what:<8} {run.partition:<10}"
        if run.status == "STARTED" and run.partition:
            line = self._progress(run) or f"{name}  running"
        elif run.status == "SUCCESS":
            line = f"[green]{name}  done[/green]{self._outcome(run)}"
        elif run.status in _FAILED:
            line = f"[red]{name}  {run.status.lower()}[/red]: {escape(self._reason(run))}"
        elif run.status == "QUEUED":
            line = f"[dim]{name}  queued[/dim]"
        else:
            line = f"{name}  {'running' if run.status == 'STARTED' else 'starting'}"
        if self.told.get(run.id) != line:
            self.told[run.id] = line
            _step(line)

    def _progress(self, run: _Run) -> str | None:
        from gossamer.crawl.progress import read_progress

        progress = read_progress(self.lake, run.what, run.partition)
        if progress is None:
            return None
        return (
            f"{run.what:<8} {run.partition:<10}  {progress.pages} pages, {progress.records} records, "
            f"{progress.errors} errors"
        )

    def _outcome(self, run: _Run) -> str:
        if not run.partition:
            return "  dbt models built and tested"
        enriched = self.lake.manifest("enriched", run.what, run.partition)
        return f"  {enriched.rows} rows published" if enriched else ""

    def _reason(self, run: _Run) -> str:
        for layer in ("raw", INCOMPLETE, "clean", "enriched") if run.partition else ():
            manifest = self.lake.manifest(layer, run.what, run.partition)
            for check in manifest.checks if manifest and manifest.run_id == run.id else ():
                if check.blocking and not check.passed:
                    return f"{check.name}: {check.summary}"
        for event in self.dagster.graphql(_REASON, {"id": run.id})["logsForRun"].get("events", []):
            if event["__typename"] == "ExecutionStepFailureEvent":
                described = (event["failureMetadata"] or {}).get("description")
                return f"{event['stepKey']}: {described or event['error']['message']}"
        return f"see {self.dagster.url}/runs/{run.id}"


def _all_ended(runs: list[_Run], job: str, number: int) -> bool:
    ended = [run for run in runs if run.what == job and run.status in _ENDED]
    return len(ended) >= number and all(run.status in _ENDED for run in runs if run.what == job)


def _results(settings: Settings, dagster: Platform, seconds: float, sound: bool) -> None:
    lake = Lake(settings.lake)
    declared = declarations.load(settings.sources)
    console.print()
    _checks(lake, declared)
    if sound:
        _rows(settings)
    today = str(datetime.now(UTC).date())
    report = f"{dagster.reports}/reports/shop/{today}.html"
    gossamer = Path(sys.executable).with_name("gossamer")
    query = f"{gossamer} query --lake {settings.lake} '{_EXAMPLE}'"
    for name, place in (("UI", dagster.url), ("data", settings.lake), ("report", report), ("query", query)):
        console.print(f"  [bold]{name:<7}[/bold] {escape(place)}")
    console.print(f"\n{'Done' if sound else '[red]Failed[/red]'} in {seconds:.0f} s.")


def _checks(lake: Lake, declared: declarations.Declarations) -> None:
    table = Table(title="Checks", title_justify="left", box=None, pad_edge=False)
    for column in ("partition", "check", "", "outcome"):
        table.add_column(column, overflow="fold")
    for name in declared.sources:
        for layer in ("raw", "clean", "enriched"):
            for key in lake.partitions(layer, name)[-1:]:
                manifest = lake.manifest(layer, name, key)
                for check in manifest.checks if manifest else ():
                    table.add_row(f"{layer}/{name} {key}", check.name, _mark(check), escape(check.summary[:160]))
    console.print(table)
    console.print()


def _mark(check: CheckResult) -> str:
    if check.passed:
        return "[green]ok[/green]"
    return "[red]failed[/red]" if check.blocking else "[yellow]warning[/yellow]"


def _rows(settings: Settings) -> None:
    from gossamer.publish.duck import connect

    with connect(settings) as connection:
        cursor = connection.execute(_MART)
        table = Table(title=_MART, title_justify="left", title_style="dim", box=None, pad_edge=False)
        for column in cursor.description or []:
            table.add_column(column[0])
        for row in cursor.fetchall():
            table.add_row(*("" if value is None else escape(str(value)) for value in row))
    console.print(table)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
