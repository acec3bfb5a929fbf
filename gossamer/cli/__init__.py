"""The command line `gossamer`: which commands there are, and how each of them ends.

One module a group of commands; what they show and how they write JSON is in `terminal`. Nothing heavy is imported
before a command needs it: `gossamer --help` answers at once.

Exit codes: 0 well; 1 the answer is "no" (something is broken, a check failed, nothing was published); 2 the question
was wrong (one line a fault on stderr, with what to do); 130 stopped by Ctrl-C (`serve`, which ends so, gives 0).
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from gossamer import __version__
from gossamer.cli import authoring, control, crawling, judging, reading, serving
from gossamer.cli.terminal import LakeOption, SourcesOption, fail, note
from gossamer.errors import GossamerError

app = typer.Typer(
    name="gossamer",
    help="Websites as data assets people can trust.",
    epilog="Begin with: gossamer new books https://books.example/ && gossamer try books",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in (
    ("Write a source", (authoring.new, authoring.try_, authoring.check)),
    ("Run it", (crawling.crawl, control.pause, control.resume, control.stop, serving.serve)),
    ("Judge the data", (judging.recheck, judging.accept)),
    ("Look at the data", (reading.ls, reading.status, reading.query)),
):
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=panel)(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gossamer {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    sources: SourcesOption = None,
    lake: LakeOption = None,
) -> None:
    """Websites as data assets people can trust."""
    # Places stand before or after the command; after it, they count.
    context.default_map = {name: {"sources": sources, "lake": lake} for name in _names()}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """One command, to its exit code; every fault that a user can mend ends in one line for each."""
    try:
        code = app(None if arguments is None else list(arguments), prog_name="gossamer", standalone_mode=False) or 0
        sys.stdout.flush()
    except GossamerError as error:
        fail(str(error))
        return 2
    except typer.TyperException as error:  # an unknown command, a missing argument, a value of the wrong kind
        fail(_usage(error.format_message(), sys.argv[1:] if arguments is None else arguments))
        return 2
    except BrokenPipeError:  # `gossamer query ... | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if code == 130:
        note("ended early")
    return int(code)


def _names() -> list[str]:
    return [command.name for command in app.registered_commands if command.name]


def _usage(message: str, arguments: Sequence[str]) -> str:
    first = next(iter(arguments), "")
    given = first if first in _names() else None
    text = " ".join(message.split()).rstrip(".") or "The command is incomplete"
    if first == "--json":
        return f"{text}. It stands after the command: gossamer ls --json"
    return f"{text}{'' if text.endswith('?') else '.'} See: gossamer {given + ' ' if given else ''}--help"
