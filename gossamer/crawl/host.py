"""What a step asks of wherever a crawl's process runs (`Host`), and what it tells it (`Order`).

This machine is one (`process`), a cluster another (`gossamer.cluster.host`); when which is asked for what is `step`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gossamer.crawl import deaths
from gossamer.crawl.deaths import CrawlProcessError
from gossamer.crawl.identity import Crawl, Worker
from gossamer.source import Source


@dataclass(frozen=True)
class Order:
    """What a host is to have worked on, and whom it tells.

    Attributes:
        run, root_run: for the manifest.
        pages: at most so many.
        tell: to be called about every second.
        cancel: asks the crawl to end (stop, or pause), unless others wait for it too or the step's process is only told
            to end. Returns whether it did; then the process is given some time.
        is_overdue: whether a process that has run for so many seconds has gone far beyond `limits.duration`.
        say: to be told what those who wait should know (why the process does not start).
        silence: seconds since the crawl's process was last heard of; infinite before its first word.
        deaths: those of the crawl so far.
        note: keeps the death of a process that nobody followed with the crawl.
    """

    source: Source
    crawl: Crawl
    run: str
    root_run: str
    pages: int | None
    tell: Callable[[], None]
    cancel: Callable[[], bool]
    is_overdue: Callable[[float], bool]
    say: Callable[[str], None]
    silence: Callable[[], float]
    deaths: Callable[[], list[deaths.Death]]
    note: Callable[[CrawlProcessError], None] = lambda death: None


class Host(Protocol):
    """Where a crawl's processes run."""

    def has_process(self, crawl: Crawl) -> bool:
        """Whether one of this host's works on the crawl, or is about to, so that `work` would follow it.

        A step that finds a live crawl of which its host knows nothing follows it by what it says in the lake.
        """
        ...

    def has_ended(self, worker: Worker) -> bool:
        """Whether this host saw the end of a process that may have said nothing of it in the lake."""
        ...

    def work(self, order: Order) -> CrawlProcessError | None:
        """Has a process work on the crawl and follows it until it is gone; says how, if not well.

        Exit code 76 is how a paused one goes. Left by anything but an `Exception`, it calls `order.cancel()`, and
        leaves nothing behind that only this step would have followed.
        """
        ...
