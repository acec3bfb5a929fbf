"""Commands for who writes a source: `new`, `try` and `check`."""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossamer.cli import terminal
from gossamer.cli.crawling import stoppable
from gossamer.cli.terminal import JsonOption, LakeOption, PartitionOption, SourcesOption
from gossamer.errors import ConfigurationError
from gossamer.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from gossamer.crawl.progress import Progress
    from gossamer.declarations import Declarations
    from gossamer.lake import Lake
    from gossamer.manifest import CheckResult
    from gossamer.source import Source

#: Ways to fail that a try shows.
SHOWN_LETTERS = 10

NameArgument = Annotated[str, typer.Argument(help="Name of the source.", metavar="NAME")]


def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and '_'.", metavar="NAME")],
    url: Annotated[str, typer.Argument(help="The page where its crawl begins.", metavar="URL")],
    sources: SourcesOption = None,
) -> None:
    """Make a source that runs as it is: declaration, spider, expectations, a saved page, a test."""
    from gossamer.scaffold import scaffold

    settings = Settings.load(sources)
    with _busy(f"Saving {url}"):
        made = scaffold(settings.sources, name, url, datetime.now(UTC).date())
    console = terminal.out()
    console.print(Text.assemble(terminal.GOOD, " ", (name, "bold"), f"  {made.folder}"), soft_wrap=True)
    about = {
        "source.yaml": "what is crawled, when, and which fields a record has",
        "spider.py": "how a page becomes records: an ordinary Scrapy spider",
        "expectations.json": "what must hold before anything is published",
        f"test_{name}.py": "a test over the saved page; it says what to change in it",
        "fixtures/page.html": "the page" if not made.why_sample else "a sample page",
    }
    for file in made.files:
        console.print(Text.assemble(f"    {file:<20}", " ", (about.get(file, ""), "dim")), soft_wrap=True)
    if made.why_sample:
        terminal.note(f"{url} could not be saved ({made.why_sample}); fixtures/page.html is a sample. Replace it.")
    given = f" --sources {settings.sources}" if sources else ""
    console.print(Text(f"\nNext:  gossamer try {name}{given}"), soft_wrap=True)
    console.print(Text(f"Test:  pytest {made.folder}   (pytest comes with: make setup-dev)"), soft_wrap=True)


# -- try --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """What a try crawl gave: records, each once and those in quarantine too, dead letters, checks."""

    key: str
    summary: Mapping[str, Any]
    typed: "pl.DataFrame"
    duplicates: int
    quarantined: int
    letters: "pl.DataFrame"
    checks: "Sequence[CheckResult]"
    limited: bool


def try_(
    name: NameArgument,
    pages: Annotated[int, typer.Option("--pages", "-n", min=1, help="Pages to fetch at most.")] = 10,
    partition: PartitionOption = None,
    sources: SourcesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Crawl a few pages into a throw-away lake; show records, fields and failed checks. Exit 1: no record came."""
    settings = Settings.load(sources, lake)
    source = terminal.load(settings)[name]
    with stoppable(), tempfile.TemporaryDirectory(prefix="gossamer-try-") as scratch:
        trial = _run_trial(settings, source, partition, pages, Path(scratch))
    if as_json:
        terminal.write_json(_trial_as_data(source, trial))
    else:
        _show_trial(terminal.out(), source, trial, pages)
    return 0 if trial.typed.height else 1


def _run_trial(settings: Settings, source: "Source", partition: str | None, pages: int, scratch: Path) -> Trial:
    import polars as pl

    from gossamer import layers
    from gossamer.crawl.step import run_crawl
    from gossamer.lake import Lake

    real, throw_away = Lake(settings.lake), Lake(str(scratch / "lake"))
    key = _trial_partition(source, partition, real)
    source.partition(key)
    _copy_upstream(source, key, real, throw_away)
    with _busy(f"Crawling {source.name}") as say, (scratch / "log").open("w", encoding="utf-8") as log:

        def report(progress: "Progress") -> None:
            say(f"{terminal.count(progress.pages, 'page')}, {terminal.count(progress.records, 'record')}")

        place = replace(settings, lake=throw_away.uri)
        manifest = run_crawl(place, source, key, pages=pages, on_progress=report, output=log)
        say("Cleaning and checking")
        rows = throw_away.scan(manifest.layer, source.name, key)
        with layers.clean(throw_away, source, key, rows, layer=manifest.layer) as refined:
            columns = list(refined.staged.columns)
            every = pl.concat([refined.staged.frame, refined.aside.frame.select(columns)]).collect()
        letters = throw_away.scan("dead_letters", source.name, key).collect()
    books, ledger = manifest.notes.get("books", {}), refined.notes["records"]
    limited = books.get("finish_reason") == "limit"
    return Trial(
        key,
        books,
        every,
        ledger["duplicates"],
        ledger["quarantined"],
        letters,
        [*manifest.checks, *refined.checks],
        limited,
    )


def _trial_partition(source: "Source", partition: str | None, lake: "Lake") -> str:
    """The partition asked for; else the current one, or for a chain the newest that can have seeds."""
    if partition is not None:
        return partition
    chain = source.spec.seeds.upstream
    if chain and (rows := lake.scan_published(chain.source)) is not None:
        published = rows.select("partition_key").unique().collect()["partition_key"].to_list()
        current = source.spec.partitions.current_keys(datetime.now(UTC))
        if published and not set(current) & set(published):
            terminal.note(f"`{chain.source}` has nothing published for the current partition: trying {max(published)}.")
            return str(max(published))
        return next((key for key in current if key in published), None) or _any_current(source)
    return _any_current(source)


def _any_current(source: "Source") -> str:
    """A partition that a crawl started now fills: any segment shows whether the spider works."""
    keys = source.spec.partitions.current_keys(datetime.now(UTC))
    if not keys:
        raise ConfigurationError(f"{source.name} has no current partition (see `partitions`). Name one: --partition.")
    return keys[0]


def _copy_upstream(source: "Source", key: str, real: "Lake", throw_away: "Lake") -> None:
    """A crawl reads its seeds in the lake that it writes to: the throw-away one gets the rows they come from."""
    chain = source.spec.seeds.upstream
    rows = real.scan_published(chain.source, key) if chain else None
    if chain and rows is not None and not rows.head(1).collect().is_empty():
        rows.sink_delta(throw_away.table_url(chain.source), delta_write_options={"partition_by": ["partition_key"]})


def _show_trial(console: Console, source: "Source", trial: Trial, pages: int) -> None:
    rows = trial.typed.height
    counts = ((rows, "record"), (trial.duplicates, "duplicate"), (trial.letters.height, "dead letter"))
    said = f" {trial.key}: " + ", ".join(terminal.count(number, noun) for number, noun in counts)
    said += f", {trial.quarantined} in quarantine" if trial.quarantined else ""
    console.print(Text.assemble(terminal.mark(rows > 0), " ", (source.name, "bold"), said))
    if rows:
        console.print()
        console.print(_fields_table(source, trial, examples=3 if console.width >= 110 else 2))
    if undeclared := _undeclared(trial.typed):
        names = ", ".join(undeclared)
        console.print(Text(f"\nUndeclared fields, kept as JSON in `extra`: {terminal.clean(names)}"), soft_wrap=True)
    _show_checks(console, trial, pages)
    if trial.letters.height:
        console.print("\nDead letters")
        for line in _letters(source, trial.letters):
            terminal.say(console, Text.assemble(terminal.BAD, f" {terminal.clean(line)}"))
    if not rows:
        terminal.say(console, Text(f"\nNo record came. {_advice(source, trial, pages)}"))


def _letters(source: "Source", letters: "pl.DataFrame") -> Iterator[str]:
    """One line for each way in which requests failed, the most frequent first, with the line of code that raised."""
    ways: dict[str, list[str]] = {}
    for reason, url, message in letters.select("reason", "url", "message").iter_rows():
        first = message.partition("\n")[0]  # a traceback may follow
        raised = re.search(r" \([^()]+:\d+\)$", first)
        words, place = (first[: raised.start()], raised[0]) if raised else (first, "")
        said = f"{reason}: {terminal.cell(words, 200)}{place.replace(f'{source.folder}{os.sep}', '')}"
        ways.setdefault(said, []).append(url)
    most = sorted(ways.items(), key=lambda way: -len(way[1]))
    for said, urls in most[:SHOWN_LETTERS]:
        yield f"{said}, at {urls[0]}" + (f" and {len(urls) - 1:,} more" if len(urls) > 1 else "")
    if len(most) > SHOWN_LETTERS:
        yield f"and {len(most) - SHOWN_LETTERS} other messages (see: --json)"


def _advice(source: "Source", trial: Trial, pages: int) -> str:
    reasons = set(trial.letters["reason"])
    if reasons & {"parse_error", "pipeline_error"}:
        return "The spider's own code raised: mend it where the dead letters say."
    if trial.limited:
        return f"The first pages may only lead to others: gossamer try {source.name} --pages {pages * 5}"
    return f"Look at what the spider yields{', and at the dead letters' if reasons else ''}."


def _show_checks(console: Console, trial: Trial, pages: int) -> None:
    console.print()
    for check in trial.checks:
        if trial.limited and check.name == "books_closed":
            text = f" books_closed: stopped after {terminal.count(pages, 'page')} (normal for a try)"
            console.print(Text.assemble(terminal.NONE, (text, "dim")), soft_wrap=True)
        else:
            text = terminal.clean(f" {check.name}: {check.summary}")
            terminal.say(console, Text.assemble(terminal.mark(check.passed, check.blocking), text))
    if trial.limited and any(not check.passed for check in trial.checks[1:]):
        terminal.note(
            "Expectations about the whole (numbers of rows, sets of values) judge only the few pages of a try."
        )


def _fields_table(source: "Source", trial: Trial, examples: int) -> Table:
    """One line a field: type, share of records that have it, how many texts are no value of its type, first records."""
    shown = terminal.table(["field", "type", "filled", "unparsed"], [], ["filled", "unparsed"])
    for number in range(examples):
        style = "dim" if number else ""
        shown.add_column(f"record {number + 1}", no_wrap=True, overflow="ellipsis", ratio=1, style=style)
    shown.expand = True
    unparsed = _unparsed(trial.typed)
    for column, kind, share in _coverage(source, trial.typed):
        text = f"{share:.0%}"
        filled = Text(text, "green" if share == 1 else "red" if share == 0 else "yellow")
        missed = Text(str(unparsed[column]), "red") if unparsed[column] else terminal.NONE
        key = "bold" if column in source.spec.record.key else ""
        values = [terminal.cell(value, 200) for value in trial.typed[column].head(examples)]
        shown.add_row(Text(column, key), Text(kind, "dim"), filled, missed, *values)
    return shown


def _coverage(source: "Source", typed: "pl.DataFrame") -> Iterator[tuple[str, str, float]]:
    """Column, type and share of filled records: declared fields first, then what `transform.py` adds."""
    from gossamer.schema import PROVENANCE
    from gossamer.source import SECOND

    fields = source.spec.record.fields
    seconds = {f"{name}_{SECOND[kind]}": SECOND[kind] for name, kind in fields.items() if kind in SECOND}
    for column in typed.columns:
        if column in (*PROVENANCE, "extra", "_unparsed"):
            continue
        kind = fields.get(column) or seconds.get(column, "derived")
        yield column, kind, 1 - typed[column].null_count() / typed.height


def _unparsed(typed: "pl.DataFrame") -> Counter[str]:
    return Counter(field for text in typed["_unparsed"].drop_nulls() for field in json.loads(text))


def _undeclared(typed: "pl.DataFrame") -> list[str]:
    return sorted({field for text in typed["extra"].drop_nulls() for field in json.loads(text)})


def _trial_as_data(source: "Source", trial: Trial) -> dict[str, Any]:
    unparsed = _unparsed(trial.typed)
    return {
        "source": source.name,
        "partition": trial.key,
        "books": trial.summary,
        "stopped_by_page_limit": trial.limited,
        "records": trial.typed.to_dicts(),
        "duplicates": trial.duplicates,
        "quarantined": trial.quarantined,
        "fields": [
            {"name": name, "type": kind, "filled": share, "unparsed": unparsed[name]}
            for name, kind, share in (_coverage(source, trial.typed) if trial.typed.height else ())
        ],
        "checks": [check.model_dump() for check in trial.checks],
        "dead_letters": trial.letters.to_dicts(),
    }


# -- check ------------------------------------------------------------------------------------------------------------


def check(sources: SourcesOption = None, as_json: JsonOption = False) -> int:
    """Validate declarations, spiders, transforms, expectations, marts and the cluster. Exit 1: something is broken."""
    from gossamer.cli.inspection import inspect_all, inspect_cluster, inspect_marts

    settings = Settings.load(sources)
    declarations = terminal.load(settings)
    with _busy("Loading spiders and expectations") as say:
        findings = {}
        for name, found in inspect_all(settings, list(declarations.sources)):
            findings[name] = found
            say(f"Loading spiders and expectations: {len(findings)} of {len(declarations.sources)}")
        say("Reading the marts' dbt project")
        marts = inspect_marts(settings, list(declarations.sources))
    cluster = inspect_cluster(settings, list(declarations.sources.values()))
    problems = {error.name: [str(problem) for problem in error.problems] for error in declarations.errors}
    problems |= {name: [line for lines in found.values() for line in lines] for name, found in findings.items()}
    broken = sum(1 for lines in problems.values() if lines)
    if as_json:
        shown = [{"name": name, "ok": not lines, "problems": lines} for name, lines in sorted(problems.items())]
        about = {"sources": shown, "marts": {"ok": not marts, "problems": marts}, "mongodb": bool(settings.mongo_uri)}
        about["cluster"] = {"ok": not cluster, "problems": cluster}
        terminal.write_json({"ok": not broken and not marts and not cluster, **about})
    else:
        _show_findings(terminal.out(), settings, declarations, findings, problems, broken)
        for line in (*marts, *cluster):
            terminal.say(terminal.out(), Text.assemble("\n", terminal.BAD, f" {terminal.clean(line)}"))
    return 1 if broken or marts or cluster else 0


def _show_findings(
    console: Console,
    settings: Settings,
    declarations: "Declarations",
    findings: Mapping[str, Mapping[str, Sequence[str]]],
    problems: Mapping[str, Sequence[str]],
    broken: int,
) -> None:
    if not problems:
        terminal.no_sources(settings, declarations)
    else:
        rows = [_findings_row(name, declarations, findings.get(name)) for name in sorted(problems)]
        console.print(terminal.table(["source", "declaration", "spider", "transform", "expectations"], rows))
        console.print()
        for name in sorted(problems):
            for line in problems[name]:
                terminal.say(console, Text.assemble(terminal.BAD, f" {terminal.clean(line)}"))
        sound = f"{terminal.count(len(problems), 'source')}: "
        verdict = Text(f"{sound}{broken} broken", "red") if broken else Text(f"{sound}all sound", "green")
        console.print(verdict)
    if not settings.mongo_uri:
        hint = "MongoDB: not configured. GOSSAMER_MONGO_URI=mongodb://host/database brings published rows there."
        console.print(Text(hint, "dim"), soft_wrap=True)


def _findings_row(name: str, declarations: "Declarations", found: Mapping[str, Sequence[str]] | None) -> list[object]:
    if found is None:
        return [Text(name, "bold"), terminal.BAD, terminal.NONE, terminal.NONE, terminal.NONE]
    source = declarations[name]
    there = {"spider": True, "transform": source.transform_file, "suite": source.suite_file}
    marks = {part: terminal.mark(not found.get(part)) for part, has in there.items() if has or found.get(part)}
    return [
        Text(name, "bold"),
        terminal.mark(not found.get("workers")),
        *(marks.get(part, terminal.NONE) for part in there),
    ]


@contextmanager
def _busy(text: str) -> Iterator[Any]:
    """A spinner on stderr while something takes its time; yields a function that changes its text."""
    with terminal.err().status(Text(terminal.clean(text))) as status:
        yield lambda said: status.update(Text(terminal.clean(said)))
