"""What the engine is given to work with: the store of this crawl, and whom it tells what happens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.crawl.engine.unit import OpenUnit
from gossamer.crawl.frontier import Frontier, FrontierError
from gossamer.crawl.live import Live
from gossamer.crawl.rows import Page


def _nothing(*_: Any) -> None:
    return None


def _no_values(last: bool) -> Mapping[str, bytes]:
    return {}


@dataclass
class Job:
    """One launch of one crawl.

    Attributes:
        row: an item, its page and its seed as the line that is kept; raises TypeError, ValueError or RecursionError.
        fatal: the store cannot go on: the crawl has to end, and nothing more is committed.
        holds: True while no new request may start (the lake's copy of the store is too far behind).
        values: what is to be kept with the next commit (cookies, `spider.state`); all of it if that is the last.
        committed: called with each unit that is over, committed or forgotten.
        seeds: URL of a start request -> its seed row, where that is more than the URL.
        folder: the source's; errors are located in it.
    """

    frontier: Frontier
    row: Callable[[Any, Page, str | None], str]
    live: Live
    fatal: Callable[[FrontierError], None]
    holds: Callable[[], bool] = lambda: False
    values: Callable[[bool], Mapping[str, bytes]] = _no_values
    committed: Callable[[OpenUnit], None] = _nothing
    seeds: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
