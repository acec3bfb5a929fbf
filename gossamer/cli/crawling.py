"""The command `crawl`: one partition from the site to its readers, through Dagster, with a live display.

Ctrl-C pauses the crawl, so that the next command goes on with it.

Dagster runs in a process of its own, so that its UI, `status` and `query` agree on what happened. What is shown comes
from the lake: the crawl's progress object, then the manifests of the layers, then the publication.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gossamer.cli import marks, terminal
from gossamer.cli.terminal import JsonOption, LakeOption, PartitionOption, SourcesOption
from gossamer.errors import ConfigurationError, LakeError
from gossamer.instance import prepare_home
from gossamer.settings import PROJECT, Settings

if TYPE_CHECKING:
    from gossamer.cli.state import State
    from gossamer.crawl.progress import Progress
    from gossamer.lake import Lake
    from gossamer.source import Source

STEPS = {"raw": "crawl", "clean": "clean", "enriched": "enrich", "published": "publish"}
POLL_SECONDS = 0.5
LINE_SECONDS = 5.0
#: A cancelled crawl finishes its open requests first; a process that ignores the request is killed after that.
STOP_SECONDS = 30.0
WAITING_STOP_SECONDS = 3.0


def crawl(
    name: Annotated[str, typer.Argument(help="Name of the source.", metavar="NAME")],
    partition: PartitionOption = None,
    all_segments: Annotated[bool, typer.Option("--all-segments", help="Every segment of the current period.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start afresh, though the last crawl is not over.")] = False,
    sources: SourcesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Crawl, clean, check and publish one partition, into MongoDB too where it is configured.

    A crawl that was paused, interrupted or failed half-way goes on. Ctrl-C pauses it. Exit 0 only if all of that was
    done. Marts are refreshed by a running `gossamer serve`.
    """
    settings = Settings.load(sources, lake)
    source = terminal.load(settings)[name]
    if partition is not None and all_segments:
        raise ConfigurationError("--partition and --all-segments exclude each other. Give one of them.")
    if all_segments:
        keys = source.spec.partitions.current_keys(_now())
    else:
        keys = [current_partition(source) if partition is None else partition]
    for key in keys:
        source.partition(key)
    return run(settings, source, keys, fresh=fresh, as_json=as_json, as_list=all_segments)


def run(
    settings: Settings,
    source: "Source",
    keys: Sequence[str],
    *,
    fresh: bool = False,
    as_json: bool = False,
    as_list: bool = False,
) -> int:
    """Crawls these partitions, one after another, and shows what came of it; gives the exit code."""
    with stoppable():
        marks.end_dead_runs(settings)
        results = [_crawl(settings, source, key, fresh=fresh, quiet=as_json) for key in keys]
    if as_json:
        shown = [result.as_data() for result in results]
        terminal.write_json(shown if as_list else shown[0])
    return 0 if all(result.complete for result in results) else 1


def current_partition(source: "Source") -> str:
    """The partition that a crawl started now fills; raises where there are several."""
    keys = source.spec.partitions.current_keys(_now())
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise ConfigurationError(f"{source.name} has no current partition (see `partitions`). Name one: --partition.")
    listed = ", ".join(keys[:10]) + (f" and {len(keys) - 10} more" if len(keys) > 10 else "")
    raise ConfigurationError(
        f"{source.name} has several partitions now: {listed}. Name one with --partition, or take --all-segments."
    )


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and a closed terminal end a command as Ctrl-C does, so that it stops what it started."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell starts background jobs with it ignored, and they would pass that on to Dagster.
    kept = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


# -- one partition ----------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """What can be seen of a crawl command while it goes on: which layers are new, and the crawl's progress."""

    lake: "Lake"
    source: str
    key: str
    log: Path
    waiting: bool = False
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    before: dict[str, str] = field(default_factory=dict)
    done: dict[str, tuple[int, float]] = field(default_factory=dict)
    progress: "Progress | None" = None

    def __post_init__(self) -> None:
        self.before = self._versions()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def look(self) -> None:
        """Looks into the lake again. A lake that cannot be read now is the crawl's trouble to tell."""
        from gossamer.crawl.progress import last_word

        with suppress(LakeError):
            if "raw" not in self.done:
                told = last_word(self.lake, self.source, self.key)
                self.progress = told if told and told.told_at > self.began_at else self.progress
                self.waiting = _is_waiting(self.log)
            for layer, version in self._versions().items():
                manifest = self.lake.manifest(layer, self.source, self.key)
                if version != self.before.get(layer) and layer not in self.done and manifest:
                    self.done[layer] = (manifest.rows, self.elapsed)

    def _versions(self) -> dict[str, str]:
        layers = ("raw", "incomplete", "clean", "enriched")
        found = {layer: self.lake.manifest(layer, self.source, self.key) for layer in layers}
        return {layer: manifest.version for layer, manifest in found.items() if manifest}


@dataclass(frozen=True)
class Result:
    """How it ended. `fresh` names the layers that this crawl made; older ones are not its result.

    `table` and `collection` are where readers find it; the collection is "" without MongoDB.
    """

    state: "State"
    fresh: frozenset[str]
    exit_code: int
    log: Path
    cause: str
    seconds: float
    report: str
    table: str
    collection: str

    @property
    def published(self) -> bool:
        """Readers of the table see what this crawl made."""
        return "enriched" in self.fresh and self.state.is_published

    @property
    def complete(self) -> bool:
        """It is published, and whatever comes after that was done."""
        return self.published and self.exit_code == 0

    def as_data(self) -> dict[str, Any]:
        from gossamer.cli.reading import checks_as_data

        entry = self.state.published if self.published else None
        return {
            "source": self.state.source,
            "partition": self.state.partition,
            "published": self.published,
            "version": entry.version if entry else None,
            "rows": {layer: m.rows for layer, m in self.state.manifests.items() if layer in self.fresh},
            "checks": [check for check in checks_as_data(self.state) if check["layer"] in self.fresh],
            "crawl": self.state.crawl,
            "cause": self.cause or None,
            "seconds": round(self.seconds, 1),
            "report": self.report,
            "log": str(self.log),
        }


def _crawl(settings: Settings, source: "Source", key: str, *, fresh: bool, quiet: bool) -> Result:
    from gossamer.cli import state
    from gossamer.lake import Lake, object_path

    place = Lake(settings.lake)
    console = terminal.err() if quiet else terminal.out()
    with own_log(log_file(settings, source, key)) as output:
        log = Path(output.name)
        watch = Watch(place, source.name, key, log)
        with _dagster(settings, source, key, output, fresh=fresh) as process:
            _watch(process, watch, console)
            code = process.wait()
    watch.look()
    now = state.read(place, source.name, key, state.publications(place, source.name).get(key))
    made = frozenset(watch.done)
    cause = cause_of(log, code) if code else ""
    report = place.url(object_path("reports", source.name, key, ".html"))
    collection = source.name if settings.mongo_uri else ""
    result = Result(now, made, code, log, cause, watch.elapsed, report, place.table_url(source.name), collection)
    if not quiet:
        _show(console, result)
    return result


def log_file(settings: Settings, source: "Source", key: str) -> Path:
    """Where the log of a partition's crawl goes that a command starts."""
    from gossamer.lake import object_path

    path = prepare_home(settings) / object_path("crawl_logs", source.name, key, ".log")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def own_log(path: Path) -> Iterator[BinaryIO]:
    """The log, emptied; another one beside it while another command's run still writes to this one.

    What a run does is read from its log, so two runs must not share one.
    """
    for number in count(1):
        with (path if number == 1 else path.with_suffix(f".{number}.log")).open("ab") as log:
            if _lock(log):
                log.truncate(0)
                yield log
                return


def _lock(log: BinaryIO) -> bool:
    """Whether the log is ours now, and our Dagster's, whose output it is; false where another's still writes to it."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _dagster(
    settings: Settings, source: "Source", key: str, output: Any, *, fresh: bool
) -> Iterator["subprocess.Popen[bytes]"]:
    """The source's job, run by Dagster here; whatever it started is gone when the context is left.

    Left early, its crawl is paused.
    """
    with marks.mark(settings) as mark, tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        config = Path(folder) / "config.yaml"
        asked = {"ops": {f"crawl_{source.name}": {"config": {"fresh": True}}}} if fresh else {}
        config.write_text(json.dumps(asked))
        process = execute(settings, source.name, config, _partition_tags(source, key), mark, output)
        try:
            yield process
        finally:
            _end(process, settings, source, key, Path(output.name))
            marks.settle(settings, mark, process.returncode)


def execute(
    settings: Settings, job: str, config: Path, tags: Mapping[str, str], mark: marks.Mark, output: Any
) -> "subprocess.Popen[bytes]":
    """Starts a job in a process of Dagster's, in a group of its own; the run bears the mark."""
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "definitions", "-j", job]
    return subprocess.Popen(
        [*command, "--config", str(config), "--tags", json.dumps({**tags, marks.TAG: mark.name})],
        cwd=PROJECT,
        # The command is superseded by `dg launch`, which needs one more package: not worth a warning a crawl.
        env={**os.environ, **settings.environ(), "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=[mark.file],
    )


def _end(process: "subprocess.Popen[bytes]", settings: Settings, source: "Source", key: str, log: Path) -> None:
    """Ends what still runs: a crawl is paused, so that it can go on; a step after it is interrupted."""
    try:
        if process.poll() is not None:
            return
        if _is_waiting(
            log
        ):  # Dagster's step does not hear while it waits for a pool; there is nothing to finish either
            interrupt(process, WAITING_STOP_SECONDS)
        elif _pause(settings, source, key):
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        else:
            interrupt(process, STOP_SECONDS)
    finally:
        _signal(process, signal.SIGKILL)  # its crawl, if there is one still, sees that and parks itself
        process.wait()


def _pause(settings: Settings, source: "Source", key: str) -> bool:
    """Pauses the crawl that only this command waits for; False where there is none."""
    from gossamer.crawl import control, identity, life
    from gossamer.lake import Lake

    lake = Lake(settings.lake)
    try:
        if len(identity.attached(lake, life.standing(lake, source.name, key).crawl)) > 1:
            return False
        outcome = control.request(
            lake,
            source.name,
            key,
            life.Wish.PAUSE,
            by=terminal.user(),
            why="its command was stopped",
            close=lambda crawl: None,
            patience_s=STOP_SECONDS,
        )
    except (control.NothingToControlError, LakeError):
        return False
    terminal.note(control.in_words(outcome, life.Wish.PAUSE))
    return True


def _partition_tags(source: "Source", key: str) -> dict[str, str]:
    """How Dagster is told the partition of a run; in two dimensions it wants each of them too."""
    from gossamer.partition import SEPARATOR

    tags = {"dagster/partition": key}
    if source.spec.partitions.period and source.spec.partitions.segments:
        period, _, segment = key.partition(SEPARATOR)
        tags |= {"dagster/partition/period": period, "dagster/partition/segment": segment}
    return tags


def interrupt(process: "subprocess.Popen[bytes]", patience_s: float) -> None:
    """Asks the process group to end, if it still runs. A second Ctrl-C does not wait."""
    for number, seconds in ((signal.SIGINT, patience_s), (signal.SIGTERM, WAITING_STOP_SECONDS)):
        if process.poll() is None:
            _signal(process, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _is_waiting(log: Path) -> bool:
    """Whether the last word of Dagster's log on the crawl's step is that its pool is taken."""
    said = re.findall(r"STEP_START|blocked by limit for pool crawl_", log.read_text("utf-8", "replace"))
    return bool(said) and said[-1] != "STEP_START"


def cause_of(log: Path, code: int) -> str:
    """Why Dagster failed, in the words of the step that raised; its last line where no step did."""
    text = log.read_text(encoding="utf-8", errors="replace")
    raised = re.findall(r"Failure: (.+?)(?=\n\s*\n|\nStack Trace|\n\S*Traceback|\Z)", text, re.DOTALL)
    if raised:
        return "\n".join(line.strip() for line in raised[-1].splitlines() if line.strip())
    named = re.findall(r"^(?:[\w]+\.)*(\w+(?:Error|Exception)): (.+)$", text, re.MULTILINE)
    if named:
        return ": ".join(named[-1])
    if code < 0:
        return f"its process was killed by signal {-code}"
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return last or f"its process ended with exit code {code}"


# -- what is seen -----------------------------------------------------------------------------------------------------


def _watch(process: "subprocess.Popen[bytes]", watch: Watch, console: Console) -> None:
    """Shows the crawl until its process ends: a live display in a terminal, a line now and then elsewhere."""
    with ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, refresh_per_second=8, transient=True))
        told, next_line = set[str](), 0.0
        while process.poll() is None:
            watch.look()
            if live:
                live.update(_display(watch))
            else:
                for layer in watch.done.keys() - told:
                    told.add(layer)
                    word = STEPS.get(layer, "crawl, incomplete")
                    console.print(Text(f"{word}: {terminal.count(watch.done[layer][0], 'row')}"))
                if watch.elapsed >= next_line:
                    next_line = watch.elapsed + LINE_SECONDS
                    at = f"{terminal.clock(watch.elapsed)}  {watch.source} {watch.key}"
                    console.print(Text(f"{at}: {_now_doing(watch)}"), soft_wrap=True)
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)


def _now_doing(watch: Watch) -> str:
    if "raw" in watch.done:
        return next((f"{word} ..." for layer, word in STEPS.items() if layer not in watch.done), "publish ...")
    if watch.waiting:
        return f"waiting for another crawl of {watch.source}"
    if not watch.progress:
        return "starting Dagster"
    now = watch.progress
    if not now.pages and not now.errors:
        return "waiting for the first page"
    return now.in_words() if now.state == "running" else f"{now.state}: {now.in_words()}"


def _display(watch: Watch) -> Group:
    from gossamer.cli.reading import details

    shown = Table.grid(padding=(0, 2))
    for style in ("", "bold", "", "dim"):
        shown.add_column(style=style, no_wrap=True)
    active = next((layer for layer in STEPS if layer not in watch.done), None)
    for layer, word in STEPS.items():
        if layer in watch.done:
            rows, at = watch.done[layer]
            shown.add_row(terminal.GOOD, word, terminal.count(rows, "row"), terminal.clock(at))
        elif layer == active:
            doing = _now_doing(watch) if layer == "raw" else ""
            shown.add_row(Spinner("dots"), word, doing, terminal.clock(watch.elapsed))
        else:
            shown.add_row(terminal.NONE, Text(word, "dim"), "", "")
    title = Text.assemble((watch.source, "bold"), f" {watch.key}")
    if active != "raw" or watch.progress is None:
        return Group(title, shown)
    lines = [terminal.cell(f"{word}: {text}", 120) for word, text in details(watch.progress).items() if text]
    return Group(title, shown, *lines, terminal.cell(watch.progress.last_url, 100))


def _show(console: Console, result: Result) -> None:
    """The end of it: what came, what the checks say, what readers see, where to look."""
    from gossamer.cli.reading import at_rest

    state = result.state
    entry = state.published
    title = Text.assemble(terminal.mark(result.complete), " ", (state.source, "bold"), f" {state.partition} ")
    if result.published and entry:
        rows, took = terminal.count(entry.rows, "row"), terminal.clock(result.seconds)
        said = f"published: {rows}, version {entry.version}, in {took}"
    elif entry:
        said = f"not published; readers keep version {entry.version} ({terminal.moment(entry.time)})"
    else:
        said = "not published"
    console.print(title.append(said), soft_wrap=True)
    for layer in ("raw", "incomplete", "clean", "enriched"):
        if layer not in result.fresh:
            continue
        manifest = state.manifests[layer]
        console.print(Text(f"  {layer:<8} {terminal.count(manifest.rows, 'row')}", "dim"))
        for check in manifest.checks:
            text = terminal.clean(f" {check.name}: {check.summary}")
            terminal.say(console, Text.assemble("    ", terminal.mark(check.passed, check.blocking), text))
    if result.cause and not any(not c.passed and c.blocking for layer, c in state.checks if layer in result.fresh):
        for line in terminal.clean(result.cause).splitlines():
            console.print(Text.assemble(("  cause    ", "bold red"), line), soft_wrap=True)
    if waits := at_rest(state):
        console.print(Text.assemble(("  crawl    ", "dim"), terminal.clean(waits)), soft_wrap=True)
    places = {"report": result.report} if "clean" in result.fresh else {}
    if result.published:
        places["table"] = result.table
        where = f"partition_key = '{state.partition}'"
        places["query"] = f'gossamer query "select * from {state.source} where {where}"'  # noqa: S608  (to be read)
    if result.complete and result.collection:
        places["mongo"] = f"collection {result.collection}"
    if not result.complete:
        places["log"] = str(result.log)
    for word, value in places.items():
        console.print(Text.assemble((f"  {word:<9}", "dim"), value), soft_wrap=True)
