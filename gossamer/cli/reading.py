"""Commands that look: `ls`, `status` and `query`. They read declarations and the lake, and change nothing."""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from gossamer.cli import terminal
from gossamer.cli.terminal import JsonOption, LakeOption, SourcesOption
from gossamer.errors import ConfigurationError
from gossamer.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from gossamer.cli.state import State
    from gossamer.crawl.progress import Progress
    from gossamer.declarations import Declarations
    from gossamer.partition import Partitions

#: Rows of a query shown as a table; files and pipes (`--csv`, `--json`) get all of them.
SHOWN_ROWS = 50
#: Hosts of a crawl shown by `status`; `--json` has more.
SHOWN_HOSTS = 10
#: A crawl that says nothing for so long (it does so every second) may be gone.
SIGN_SECONDS = 3.0


def ls(sources: SourcesOption = None, lake: LakeOption = None, as_json: JsonOption = False) -> int | None:
    """List the declared sources: partitions, schedule, what each waits for, what is published."""
    from gossamer.cli import state
    from gossamer.lake import Lake

    settings = Settings.load(sources, lake)
    declarations = terminal.declared(settings)
    place = Lake(settings.lake)
    found = []
    for source in declarations.sources.values():
        newest = max(state.publications(place, source.name).values(), key=lambda entry: entry.time, default=None)
        found.append((source, newest))
    if as_json:
        terminal.write_json(
            [
                {
                    "name": source.name,
                    "description": source.spec.description,
                    "owner": source.spec.owner,
                    "folder": str(source.folder),
                    "partitions": source.spec.partitions.model_dump(mode="json"),
                    "schedule": source.spec.schedule,
                    "timezone": source.spec.timezone,
                    "upstreams": sorted(source.upstreams),
                    "last_published": newest
                    and {
                        "partition": newest.partition,
                        "version": newest.version,
                        "rows": newest.rows,
                        "time": newest.time,
                    },
                }
                for source, newest in found
            ]
        )
        return None
    if not found:
        terminal.no_sources(settings, declarations)
        return None
    rows = [
        (
            Text(source.name, "bold"),
            _partitions(source.spec.partitions),
            source.spec.schedule or Text("chained" if source.spec.seeds.upstream else "by hand", "dim"),
            ", ".join(sorted(source.upstreams)) or Text("·", "dim"),
            f"{newest.partition}: {terminal.count(newest.rows, 'row')}, {terminal.ago(newest.time)}"
            if newest
            else Text("never", "dim"),
        )
        for source, newest in found
    ]
    terminal.out().print(terminal.table(["source", "partitions", "schedule", "waits for", "last published"], rows))
    return None


def _partitions(partitions: "Partitions") -> str:
    parts = [f"{partitions.period} from {partitions.first_date}"] if partitions.period else []
    if partitions.segments:
        parts.append(terminal.count(len(partitions.segments), "segment"))
    return " × ".join(parts)  # noqa: RUF001 (a product is meant)


def status(
    source: Annotated[str | None, typer.Argument(help="One source; all of them without it.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Newest partitions a source [20 of one, 3 of each].")
    ] = None,
    sources: SourcesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show each partition: its crawl, rows by layer, checks, and what readers see."""
    from gossamer.cli import state
    from gossamer.lake import Lake

    settings = Settings.load(sources, lake)
    declarations = terminal.declared(settings) if source is None else terminal.load(settings)
    names = [declarations[source].name] if source else list(declarations.sources)
    place = Lake(settings.lake)
    states: list[State] = []
    for name in names:
        published = state.publications(place, name)
        newest = state.keys(place, name, published)[: limit or (20 if source else 3)]
        states += [state.read(place, name, key, published.get(key)) for key in newest]
    if as_json:
        terminal.write_json([_as_data(one) for one in states])
        return
    console = terminal.out()
    if not states:
        what = f"Nothing of {source} is" if source else "Nothing is"
        first = source or next(iter(declarations.sources), "<name>")
        if not declarations.sources and declarations.errors:
            console.print(
                "No sound source to show. What was published can be asked: gossamer query. See: gossamer check"
            )
            return
        console.print(Text(f"{what} in {settings.lake} yet. Crawl it: gossamer crawl {first}"))
        return
    columns = ["source", "partition", "crawl", "raw", "clean", "enriched", "published", "checks"]
    console.print(terminal.table(columns, map(_row, states), numbers=["raw", "clean", "enriched"]))
    for one in states:
        for layer, check in one.checks:
            if not check.passed and (check.blocking or source):
                line = Text.assemble(terminal.mark(False, check.blocking), f" {one.source} {one.partition} {layer}: ")
                terminal.say(console, line.append(terminal.clean(f"{check.name}: {check.summary}")))
        if source and not one.is_over:
            _show_crawl(console, one)


def _show_crawl(console: "Console", one: "State") -> None:
    """A crawl that is not over: its counts by state, reason and host, and how it can go on."""
    standing, progress = one.standing, one.progress
    title = Text.assemble((f"\n{one.source}", "bold"), f" {one.partition} {one.crawl}")
    console.print(title.append(f"  crawl {standing.crawl.id}, launch {standing.launch}", "dim"), soft_wrap=True)
    lines = {"so far": progress.in_words(), **details(progress)} if progress else {}
    for word, text in {**lines, "why": at_rest(one)}.items():
        if text:
            console.print(Text.assemble((f"  {word:<8} ", "dim"), terminal.clean(text)), soft_wrap=True)


def details(progress: "Progress") -> dict[str, str]:
    """A crawl's requests by state, by reason and by host, each as a line."""
    hosts = [f"{host}: {_counts(counts)}" for host, counts in progress.hosts.items()]
    others = len(hosts) - SHOWN_HOSTS
    return {
        "requests": _counts(progress.states),
        "reasons": _counts(progress.reasons),
        "hosts": "; ".join([*hosts[:SHOWN_HOSTS], *([f"{others} more"] if others > 0 else [])]),
    }


def _counts(counts: Mapping[str, int]) -> str:
    """`fetched 120, dead 2`: the most first."""
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{name} {number:,}" for name, number in ordered if number)


def at_rest(one: "State") -> str:
    """Why no process works on a crawl that is not over, and how it goes on; "" of others."""
    from gossamer.crawl.control import close_it, go_on
    from gossamer.crawl.life import CrawlState, Wish

    control, how = one.standing.control, go_on(one.standing.crawl)
    death = one.standing.death
    asked = f"{control.by} ({control.why})" if control and control.why else control.by if control else "somebody"
    match one.standing.state:
        case CrawlState.PAUSED | CrawlState.INTERRUPTED | CrawlState.FAILED if control and control.wish is Wish.STOP:
            return f"stopped by {asked}, but its process went before that. {close_it(one.standing.crawl)}"
        case CrawlState.PAUSED:
            return f"paused by {asked}. {how}"
        case CrawlState.INTERRUPTED | CrawlState.FAILED | CrawlState.NEW if death:
            place = f", {death.place}" if death.place else ""
            return f"{death.cause}{place}: {death.words} {how}"
        case CrawlState.INTERRUPTED:
            return f"its process went before it was over (killed, moved or lost); what it had done is kept. {how}"
        case CrawlState.FAILED:
            return f"its process ended with an error; what it had done is kept. When the cause is mended: {how}"
    return ""


def _row(one: "State") -> list[object]:
    def rows(layer: str) -> object:
        manifest = one.manifests.get(layer)
        if manifest is None:
            return terminal.NONE
        return Text(f"{manifest.rows:,} (old)", "dim") if layer in one.stale else f"{manifest.rows:,}"

    counts = map(rows, ("raw", "clean", "enriched"))
    return [Text(one.source, "bold"), one.partition, _crawl(one), *counts, _seen(one), _marks(one)]


def _crawl(one: "State") -> Text:
    progress = one.progress
    if one.crawl == "running":
        word = progress.state if progress else "starting"
        said = f"{word}: {terminal.count(progress.pages, 'page')}, {progress.rate:.1f}/s" if progress else word
        silent = (datetime.now(UTC) - one.heard).total_seconds() if one.heard else 0.0
        sign = f" (last sign of life {silent:.0f} s ago)" if silent > SIGN_SECONDS else ""
        return Text(said + sign, "yellow" if sign else "cyan")
    if not one.is_over:
        since = f", {terminal.ago(one.standing.since)}" if one.standing.since else ""
        return Text(one.crawl + since, "cyan" if one.crawl == "paused" else "yellow")
    if one.crawled is None:
        return Text("no result", "dim")
    when = terminal.ago(one.crawled.written_at)
    return Text(when) if one.crawl == "complete" else Text(f"{one.crawl}, {when}", "red")


def _seen(one: "State") -> Text:
    if one.published is None:
        return Text("never", "dim")
    text = f"{terminal.count(one.published.rows, 'row')}, version {one.published.version}"
    text += ", accepted" if one.published.accepted else ""
    return Text(text, "green") if one.is_published else Text(f"{text} (older data)", "yellow")


def _marks(one: "State") -> Text:
    checks = [check for _, check in one.checks]
    if not checks:
        return terminal.NONE
    failures = [check for check in checks if not check.passed]
    failed = [Text.assemble(terminal.mark(False, check.blocking), f" {check.name}") for check in failures]
    passed = len(checks) - len(failed)
    good = [Text.assemble(terminal.GOOD, f" {passed}")] if passed else []
    return Text("  ").join([*good, *failed])


def _as_data(one: "State") -> dict[str, Any]:
    crawled = one.crawled
    return {
        "source": one.source,
        "partition": one.partition,
        "crawl": {
            "state": one.crawl,
            "crawl_id": one.standing.crawl.id if one.crawl != "none" else None,
            "launch": one.standing.launch,
            "since": one.standing.since,
            "control": one.standing.control and one.standing.control.model_dump(),
            "result": crawled.crawl_id if crawled else None,
            "time": crawled.written_at if crawled else None,
            "progress": one.progress and one.progress.model_dump(exclude={"series"}),
            "last_sign_of_life": one.heard,
        },
        "rows": {layer: manifest.rows for layer, manifest in one.manifests.items()},
        "stale": [layer for layer in one.manifests if layer in one.stale],
        "checks": checks_as_data(one),
        "published": one.published
        and {
            "version": one.published.version,
            "rows": one.published.rows,
            "time": one.published.time,
            "is_newest_data": one.is_published,
        },
    }


def checks_as_data(one: "State") -> list[dict[str, Any]]:
    """The checks without their details, which the report shows."""
    said = {"name", "passed", "blocking", "summary"}
    return [{"layer": layer, **check.model_dump(include=said)} for layer, check in one.checks]


def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="Over the tables <source>, marts.<model>, dead_letters, quarantine and changes.", metavar="SQL"
        ),
    ],
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Rows [50 in a table, else all].")] = None,
    sources: SourcesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
) -> None:
    """Ask in SQL (DuckDB): published tables, failed requests (dead_letters), rows in quarantine, and changes."""
    import duckdb

    from gossamer.publish import duck

    if as_json and as_csv:
        raise ConfigurationError("--json and --csv exclude each other. Give one of them.")
    if not sql.strip():
        raise ConfigurationError('The query is empty. For example: gossamer query "select count(*) from shop"')
    settings = Settings.load(sources, lake)
    declarations = terminal.load(settings)
    if names := [error.name for error in declarations.errors]:
        broken = f"{terminal.count(len(names), 'source')} broken: {', '.join(names)} (see: gossamer check)"
        terminal.note(f"{broken}; what was published before can be asked.")
    with duck.connect(settings, beside=[layer for layer in duck.BESIDE if layer in sql.lower()]) as connection:
        try:
            cursor = connection.execute(sql)
            columns = [column[0] for column in cursor.description or []]
            rows = _fetch(cursor)
            if as_csv:
                _write_csv(columns, islice(rows, limit))
            elif as_json:
                _refuse_same_names(columns)
                terminal.write_json([dict(zip(columns, row, strict=True)) for row in islice(rows, limit)])
            else:
                _show(columns, rows, limit or SHOWN_ROWS)
        except duckdb.Error as error:
            raise QueryError(_in_words(error, connection, declarations)) from error


class QueryError(ConfigurationError):
    """SQL that DuckDB refuses."""


def _fetch(cursor: Any) -> Iterator[Sequence[Any]]:
    while batch := cursor.fetchmany(1000):
        yield from batch


def _refuse_same_names(columns: Sequence[str]) -> None:
    """An object of JSON has one value of each name: the others would be lost."""
    if same := [name for name, times in Counter(columns).items() if times > 1]:
        raise QueryError(
            f"Several columns are named {', '.join(f'`{name}`' for name in same)}, which JSON cannot say. "
            f"Name them apart with AS: select a.{same[0]} as other_name, ..."
        )


def _write_csv(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in row] for row in rows)


def _field(value: Any) -> Any:
    """A value as a field of CSV: what is nested as JSON."""
    plain = terminal.plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, bool | list | dict) else plain


def _show(columns: Sequence[str], rows: Iterator[Sequence[Any]], limit: int) -> None:
    shown = list(islice(rows, limit))
    numbers = [
        name
        for place, name in enumerate(columns)
        if any(not isinstance(row[place], str | bool | None) and hasattr(row[place], "real") for row in shown)
    ]
    console, table = terminal.out(), terminal.table(columns, shown, numbers)
    console.print(table)
    if console.measure(table, options=console.options.update(max_width=sys.maxsize)).minimum > console.width:
        terminal.note(f"too narrow for all {len(columns)} columns: name some of them, or take --json or --csv")
    more = next(rows, None) is not None
    terminal.note(
        terminal.count(len(shown), "row") + (" shown, there are more: --limit N, --csv, --json" if more else "")
    )


def _in_words(error: Exception, connection: Any, declarations: "Declarations") -> str:
    """DuckDB's message in one line, with its hint; an unknown table is answered with those there are."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(line for line in lines if not line.startswith("LINE ") and set(line) != {"^"})
    from gossamer.publish import duck

    unknown = re.search(r"Table with name (\S+) does not exist", said)
    if not unknown:
        return said
    if any(error.name == unknown[1] for error in declarations.errors):
        return f"Nothing of `{unknown[1]}` is published, and its source is broken. See why: gossamer check"
    if unknown[1] in declarations.sources:
        return f"Nothing of `{unknown[1]}` is published yet. Crawl it: gossamer crawl {unknown[1]}"
    found = connection.execute(
        "select case table_schema when 'main' then table_name else table_schema || '.' || table_name end "
        "from information_schema.tables where table_schema in ('main', 'marts') order by 1"
    ).fetchall()
    names = ", ".join(name for (name,) in found)
    beside = ", ".join(duck.BESIDE)
    there = f"There are: {names}; and {beside}." if names else "Nothing is published yet: gossamer crawl <name>."
    return f"There is no table `{unknown[1]}`. {there}"
