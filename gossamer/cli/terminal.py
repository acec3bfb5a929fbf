"""What the commands share: options, tables, marks, numbers and times for people, JSON for scripts.

Values come from the web: control characters in them would move the cursor or worse, and are shown as `�`. What a
command says goes to stdout; notes and faults go to stderr, so that stdout can be piped.
"""

import getpass
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossamer.settings import Settings

if TYPE_CHECKING:
    from gossamer.declarations import Declarations

PLACES = "Places"
SourcesOption = Annotated[
    Path | None,
    typer.Option(
        "--sources",
        metavar="DIR",
        help="Folder of sources [$GOSSAMER_SOURCES, else sources/ of the project].",
        rich_help_panel=PLACES,
    ),
]
LakeOption = Annotated[
    str | None,
    typer.Option(
        "--lake",
        metavar="PLACE",
        help="Folder or s3://bucket/prefix [$GOSSAMER_LAKE, else .gossamer/lake of the project].",
        rich_help_panel=PLACES,
    ),
]
PartitionOption = Annotated[
    str | None, typer.Option("--partition", "-p", metavar="KEY", help="Partition key; default: the current one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, for scripts.")]

#: Wider cells are cut: a table is for looking, `--json` has everything.
CELL = 48
#: Columns of what is no terminal (a file, CI's log).
PIPE_WIDTH = 160
GOOD, BAD, WARN, NONE = Text("✓", "green"), Text("✗", "bold red"), Text("!", "yellow"), Text("·", "dim")


def out() -> Console:
    """Stdout."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def err() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def declared(settings: Settings) -> "Declarations":
    """The declared sources; a note on stderr tells of broken ones."""
    declarations = load(settings)
    if names := [error.name for error in declarations.errors]:
        note(f"{count(len(names), 'broken source')} left out: {', '.join(names)} (see: gossamer check)")
    return declarations


def load(settings: Settings) -> "Declarations":
    """The declared sources."""
    from gossamer import declarations  # pydantic and cron: more than `--help` should wait for

    return declarations.load(settings.sources)


def no_sources(settings: Settings, declarations: "Declarations") -> None:
    """What a folder without a sound source is answered with."""
    empty = f"No source in {settings.sources} yet. Write one: gossamer new <name> <url>"
    out().print(Text("No sound source. See: gossamer check" if declarations.errors else empty), soft_wrap=True)


def clean(value: str) -> str:
    """Text without characters that a terminal obeys."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in value)


def fail(message: str) -> None:
    """A fault, one line each, on stderr."""
    console = err()
    for line in clean(message).splitlines():
        console.print(Text.assemble(("error: ", "bold red"), line))


def note(message: str) -> None:
    """Something worth knowing that is no part of the answer, on stderr."""
    err().print(Text(clean(message), "dim"))


def say(console: Console, line: Text) -> None:
    """A sentence: wrapped between words in a terminal, one line elsewhere."""
    console.print(line, soft_wrap=not console.is_terminal)


def cell(value: object, width: int = CELL) -> Text:
    """A value as one line of a table."""
    if value is None:
        return Text("null", "dim")
    if isinstance(value, Text):
        return value
    if isinstance(value, datetime):
        value = moment(value)
    text = clean(" ".join(str(value).split()))
    return Text(text if len(text) <= width else f"{text[: width - 1]}…")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[str] = ()) -> Table:
    """A table with one line a row."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        right = name in set(numbers)
        shown.add_column(Text(clean(name)), justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        shown.add_row(*(cell(value) for value in row))
    return shown


def mark(passed: bool, blocking: bool = True) -> Text:
    """✓, ✗ for what blocks publication, ! for a warning."""
    return GOOD if passed else BAD if blocking else WARN


def user() -> str:
    """Who gives the command."""
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def count(number: int, noun: str) -> str:
    """`1 page`, `1,234 pages`."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith(('s', 'sh')) else 's'}"


def moment(instant: datetime) -> str:
    """An instant as it is read: UTC, to the minute."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}Z" if instant.tzinfo else f"{instant:%Y-%m-%d %H:%M}"


def ago(instant: datetime) -> str:
    """How long ago it was, roughly."""
    seconds = max(0.0, (datetime.now(UTC) - instant).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def clock(seconds: float) -> str:
    """Elapsed time as `4:05` or `1:04:05`."""
    whole = str(timedelta(seconds=int(seconds)))
    return whole.removeprefix("0:").removeprefix("0") if whole.startswith("0:") else whole


def write_json(value: object) -> None:
    """One JSON document on stdout; exact, and never NaN."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """What JSON can say of a value: times as ISO text, decimals as numbers where a number holds all their digits."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        number = float(value)
        return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    return value if value is None or isinstance(value, str | int | bool) else str(value)
