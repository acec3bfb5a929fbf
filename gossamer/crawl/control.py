"""Pausing and stopping a crawl from outside: the request is written into the lake, waited for, and told in words.

What a request is, and which there are, is `life`'s.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from gossamer.crawl import identity, life
from gossamer.crawl.life import Crawl, CrawlState, Standing, Wish
from gossamer.errors import CrawlError
from gossamer.lake import Lake

#: How long an effect is waited for: requests under way are, and the store goes to the lake.
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.5
#: A crawl that is not over and that no process works on.
RESTING = frozenset({CrawlState.PAUSED, CrawlState.INTERRUPTED, CrawlState.FAILED})


class NothingToControlError(CrawlError):
    """There is no crawl on which the request could have an effect."""


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        done: it took effect; else it lies in the lake, and takes effect when a process reads it.
        standing: of the crawl afterwards.
    """

    done: bool
    standing: Standing


def request(
    lake: Lake,
    source: str,
    key: str,
    wish: Wish,
    *,
    by: str,
    why: str = "",
    close: Callable[[Crawl], object],
    patience_s: float = PATIENCE_SECONDS,
) -> Outcome:
    """Asks a partition's crawl to pause or to stop, and waits until it did.

    Args:
        close: called for a crawl at rest that is stopped: a process is needed that closes its books.

    Raises:
        NothingToControlError: no crawl of the partition is under way (or at rest, for a stop).
        LakeError: the lake cannot be reached.
    """
    before = life.standing(lake, source, key)
    is_busy = _is_busy(lake, before)
    if not is_busy and not (wish is Wish.STOP and before.state in RESTING):
        raise NothingToControlError(_why_not(source, key, wish, before))
    life.ask(lake, before.crawl, wish, by=by, why=why)
    if not is_busy:
        close(before.crawl)
    deadline = time.monotonic() + patience_s
    while _is_busy(lake, now := life.standing(lake, source, key)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    wanted = CrawlState.PAUSED if wish is Wish.PAUSE else CrawlState.STOPPED
    return Outcome(now.state is wanted, now)


def _is_busy(lake: Lake, standing: Standing) -> bool:
    """Whether a process works on the crawl, or a run that waits for it is about to start one."""
    if standing.state is CrawlState.RUNNING:
        return True
    might_start = standing.state in (CrawlState.NEW, CrawlState.INTERRUPTED)
    return might_start and bool(identity.attached(lake, standing.crawl))


def in_words(outcome: Outcome, wish: Wish) -> str:
    """What became of the request, for people."""
    state, crawl = outcome.standing.state, outcome.standing.crawl
    if outcome.done and wish is Wish.PAUSE:
        return f"{crawl.id} is paused. {go_on(crawl)}"
    if outcome.done:
        return f"{crawl.id} is stopped; its books are closed."
    if state in (CrawlState.COMPLETE, CrawlState.STOPPED):
        return f"{crawl.id} was over ({state}) before it could {wish}."
    if state in RESTING:
        return f"No process works on {crawl.id} any more ({state}); the next one will {wish} it. {go_on(crawl)}"
    return f"{crawl.id} was asked to {wish} and still runs; it will, unless its own code blocks. See: gossamer status"


def go_on(crawl: Crawl) -> str:
    """How a crawl at rest goes on."""
    return f"It goes on with: gossamer resume {crawl.source} --partition '{crawl.key}'"


def _why_not(source: str, key: str, wish: Wish, standing: Standing) -> str:
    crawl = f"The crawl of {source}, partition {key},"
    match standing.state:
        case CrawlState.PAUSED:
            return f"{crawl} is paused already. {go_on(standing.crawl)}"
        case CrawlState.INTERRUPTED | CrawlState.FAILED:
            return f"{crawl} is not running ({standing.state}), so there is nothing to {wish}. {go_on(standing.crawl)}"
        case CrawlState.NEW:
            return f"Partition {key} of {source} is not being crawled."
    return f"{crawl} is over ({standing.state}): there is nothing to {wish}."
