"""Commands about verdicts: `recheck` judges crawled partitions again, `accept` publishes one that failed."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from gossamer.cli import crawling, marks, terminal
from gossamer.cli.terminal import LakeOption, SourcesOption
from gossamer.errors import ConfigurationError
from gossamer.instance import prepare_home
from gossamer.settings import Settings

if TYPE_CHECKING:
    from gossamer.cli.state import State
    from gossamer.lake import Lake
    from gossamer.source import Source

NameArgument = Annotated[str, typer.Argument(help="Name of the source.", metavar="NAME")]


def recheck(
    name: NameArgument,
    partitions: Annotated[
        list[str] | None,
        typer.Option(
            "--partition", "-p", metavar="KEY", help="Partition key, as often as needed; default: the newest."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every partition that was ever crawled.")] = False,
    sources: SourcesOption = None,
    lake: LakeOption = None,
) -> int:
    """Clean, check and publish again, without a crawl: after a suite or a transform was mended.

    Exit 0 only if all of them are published as they are now.
    """
    from gossamer.lake import Lake

    settings = Settings.load(sources, lake)
    source, place = terminal.load(settings)[name], Lake(settings.lake)
    crawled = place.partitions("raw", source.name)
    if partitions and every:
        raise ConfigurationError("--partition and --all exclude each other. Give one of them.")
    if not crawled:
        raise ConfigurationError(f"Nothing of {name} was crawled yet: gossamer crawl {name}")
    keys = partitions or (crawled if every else crawled[-1:])
    for key in keys:
        source.partition(key)
        if key not in crawled:
            raise ConfigurationError(f"{name} {key} was never crawled to its end. It has: {', '.join(crawled[-10:])}")
    return _run(settings, source, keys, "recheck", "recheck_partitions", {"source": name, "partitions": list(keys)})


def accept(
    name: NameArgument,
    partition: Annotated[str, typer.Argument(help="Partition key.", metavar="KEY")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why its data is right all the same.")],
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Publish the rows in quarantine too.")] = False,
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Measure later partitions by this one too.")
    ] = False,
    sources: SourcesOption = None,
    lake: LakeOption = None,
) -> int:
    """Publish a partition although its checks failed. Reason and name are kept with the data.

    It holds for the data that lies there now: what is crawled or cleaned again is judged again. Layers of an older
    crawl are made again first; what fails in them then is told, and accepted only when you say so again.
    """
    from gossamer.cli import state
    from gossamer.lake import INCOMPLETE, Lake

    settings = Settings.load(sources, lake)
    source = terminal.load(settings)[name]
    source.partition(partition)
    if not reason.strip():
        raise ConfigurationError("--reason is empty. Say why the data is right; whoever reads it later will ask.")
    now = state.read(Lake(settings.lake), name, partition, None)
    if not now.manifests:
        raise ConfigurationError(f"{name} {partition} has no data to accept: gossamer crawl {name} -p '{partition}'")
    is_incomplete = INCOMPLETE in now.manifests
    for layer, check in now.checks:
        if check.blocking and not check.passed:
            terminal.note(f"to be accepted: {layer}: {check.name}: {terminal.clean(check.summary)}")
    if quarantine and (rows := _in_quarantine(now)):
        terminal.note(f"to be accepted: {rows} in quarantine")
    if stale := [layer for layer in now.manifests if layer in now.stale and layer != "raw"]:
        what = "what fails in them then is shown, and not accepted yet"
        terminal.note(f"of older rows, so made again first: {', '.join(stale)}; {what}")
    asked = {
        "source": name,
        "partition": partition,
        "reason": reason,
        "by": terminal.user(),
        "quarantine": quarantine,
        "incomplete": is_incomplete,
        # What is looked at now: of what a crawl replaces meanwhile, nothing is accepted.
        "versions": {
            layer: m.version for layer, m in now.manifests.items() if not is_incomplete or layer == INCOMPLETE
        },
        "history": history,
    }
    return _run(settings, source, [partition], "accept_partition", "accept", asked)


def _in_quarantine(now: "State") -> str:
    """The rows that the clean layer set aside, in words; "" where there are none, or they are of older rows."""
    cleaned = None if "clean" in now.stale else now.manifests.get("clean")
    set_aside = cleaned.notes.get("quarantine", {}) if cleaned else {}
    if not set_aside.get("rows"):
        return ""
    return terminal.clean(f"{terminal.count(set_aside['rows'], 'row')}: {'; '.join(set_aside['by'])}")


def _run(settings: Settings, source: "Source", keys: Sequence[str], job: str, op: str, asked: Mapping[str, Any]) -> int:
    """Runs a job of Dagster's here, and tells how each partition stands after it."""
    from gossamer.lake import Lake

    log = prepare_home(settings) / "crawl_logs" / f"{job}-{source.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with crawling.stoppable(), tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        marks.end_dead_runs(settings)
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps({"ops": {op: {"config": dict(asked)}}}))
        with (
            crawling.own_log(log) as output,
            marks.mark(settings) as mark,
            terminal.err().status(Text(f"{source.name}: {terminal.count(len(keys), 'partition')} ...")),
        ):
            process = crawling.execute(settings, job, config, {}, mark, output)
            try:
                code = process.wait()
            finally:
                crawling.interrupt(process, crawling.STOP_SECONDS)
                marks.settle(settings, mark, process.returncode)
        written = Path(output.name)
    return _tell(Lake(settings.lake), source, keys, crawling.cause_of(written, code) if code else "", written)


def _tell(lake: "Lake", source: "Source", keys: Sequence[str], cause: str, log: Path) -> int:
    from gossamer.cli import state

    published = state.publications(lake, source.name)
    states = [state.read(lake, source.name, key, published.get(key)) for key in keys]
    console = terminal.out()
    for one in states:
        failures = [f"{layer}: {check.name}: {check.summary}" for layer, check in one.checks if not check.passed]
        accepted = one.published.accepted if one.published and one.is_published else ""
        said = f" {one.partition}: " + ("published" if one.is_published else "NOT published")
        console.print(Text.assemble(terminal.mark(one.is_published), " ", (source.name, "bold"), said), soft_wrap=True)
        if accepted:
            console.print(Text(f"  accepted: {terminal.clean(accepted)}"), soft_wrap=True)
        if one.is_published and (rows := _in_quarantine(one)):
            console.print(Text(f"  in quarantine, not published: {rows}"), soft_wrap=True)
        for line in failures:
            console.print(Text(f"  {terminal.clean(line)}"), soft_wrap=True)
    if cause:
        terminal.note(terminal.clean(re.sub(r"\s+", " ", cause)))
        terminal.note(f"log: {log}")
    return 0 if not cause and all(one.is_published for one in states) else 1
