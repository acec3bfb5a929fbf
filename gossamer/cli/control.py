"""Commands that act on a crawl that is under way or at rest: `pause`, `resume` and `stop`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gossamer.cli import crawling, terminal
from gossamer.cli.terminal import JsonOption, LakeOption, SourcesOption
from gossamer.errors import ConfigurationError, CrawlError
from gossamer.settings import Settings

if TYPE_CHECKING:
    from gossamer.lake import Lake
    from gossamer.source import Source

NameArgument = Annotated[str, typer.Argument(help="Name of the source.", metavar="NAME")]
KeyOption = Annotated[
    str | None, typer.Option("--partition", "-p", metavar="KEY", help="Partition key; default: the only one it can be.")
]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="For whoever finds it so.")]


def pause(
    name: NameArgument,
    partition: KeyOption = None,
    why: WhyOption = "",
    sources: SourcesOption = None,
    lake: LakeOption = None,
) -> int:
    """Pause a running crawl: its process ends, its work is kept. Exit 1: it did not."""
    return _ask(Settings.load(sources, lake), name, partition, "pause", why)


def stop(
    name: NameArgument,
    partition: KeyOption = None,
    why: WhyOption = "",
    sources: SourcesOption = None,
    lake: LakeOption = None,
) -> int:
    """Stop a crawl for good: its books are closed, and it is incomplete. Exit 1: it did not."""
    return _ask(Settings.load(sources, lake), name, partition, "stop", why)


def resume(
    name: NameArgument,
    partition: KeyOption = None,
    sources: SourcesOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Go on with a crawl that was paused, interrupted or failed half-way, as `crawl` does.

    Exit 0 only if the partition was published in the end.
    """
    from gossamer.crawl.control import RESTING, close_it
    from gossamer.crawl.life import Wish, standing
    from gossamer.lake import Lake

    settings = Settings.load(sources, lake)
    source, place = terminal.load(settings)[name], Lake(settings.lake)
    key = _partition(place, source, partition, "resume")
    now = standing(place, name, key)
    if now.state not in RESTING:
        said = f"{name} {key} is {now.state}: there is nothing to resume. A new crawl: {_crawl_it(name, key)}"
        terminal.note(said)
        return 1
    if now.control and now.control.wish is Wish.STOP:
        terminal.note(f"{name} {key} was stopped for good, so it does not go on. {close_it(now.crawl)}")
        return 1
    return crawling.run(settings, source, [key], as_json=as_json)


def _crawl_it(name: str, key: str) -> str:
    return f"gossamer crawl {name} --partition '{key}'"


def _ask(settings: Settings, name: str, partition: str | None, word: str, why: str) -> int:
    from gossamer.crawl import control
    from gossamer.crawl.life import Wish
    from gossamer.crawl.step import close_crawl
    from gossamer.lake import Lake

    source, place, wish = terminal.load(settings)[name], Lake(settings.lake), Wish(word)
    key = _partition(place, source, partition, word)
    log = crawling.log_file(settings, source, key)
    with terminal.err().status(Text(f"{name} {key}: {word} ...")), log.open("a", encoding="utf-8") as output:
        try:
            outcome = control.request(
                place,
                name,
                key,
                wish,
                by=terminal.user(),
                why=why,
                close=lambda crawl: close_crawl(settings, source, crawl, output=output),
            )
        except CrawlError as error:  # there is nothing to control, or its books could not be closed
            terminal.note(str(error))
            return 1
    terminal.out().print(Text(terminal.clean(control.in_words(outcome, wish))), soft_wrap=True)
    return 0 if outcome.done else 1


def _partition(lake: "Lake", source: "Source", given: str | None, word: str) -> str:
    """The partition that is meant: the one given, or the only one whose crawl is not over."""
    if given is not None:
        source.partition(given)
        return given
    keys = _unfinished(lake, source, word)
    if not keys:
        said = "is being crawled" if word == "pause" else "has a crawl that is not over"
        raise ConfigurationError(f"No partition of {source.name} {said}. See: gossamer status {source.name}")
    if len(keys) > 1:
        raise ConfigurationError(f"Several partitions of {source.name} can be meant: {', '.join(keys)}. --partition")
    return keys[0]


def _unfinished(lake: "Lake", source: "Source", word: str) -> list[str]:
    from gossamer.cli import state
    from gossamer.crawl.control import RESTING
    from gossamer.crawl.life import CrawlState, standing

    can: dict[str, Collection[CrawlState]] = {
        "pause": {CrawlState.RUNNING},
        "resume": RESTING,
        "stop": {CrawlState.RUNNING, *RESTING},
    }
    return [key for key in state.begun(lake, source.name) if standing(lake, source.name, key).state in can[word]]
