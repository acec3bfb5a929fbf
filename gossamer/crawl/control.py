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
        close: called for a crawl that is to be stopped and rests: a process is needed that closes its books.

    Raises:
        NothingToControlError: no crawl of the partition is under way (or at rest, for a stop).
        LakeError: the lake cannot be reached.
    """
    before = life.standing(lake, source, key)
    if not _is_busy(lake, before) and not (wish is Wish.STOP and before.state in RESTING):
        raise NothingToControlError(_why_not(source, key, wish, before))
    life.ask(lake, before.crawl, wish, by=by, why=why)
    now = _settled(lake, source, key, patience_s)
    if wish is Wish.STOP and now.state in RESTING:
        close(now.crawl)
        now = _settled(lake, source, key, patience_s)
    wanted = CrawlState.PAUSED if wish is Wish.PAUSE else CrawlState.STOPPED
    return Outcome(now.state is wanted, now)


def _settled(lake: Lake, source: str, key: str, patience_s: float) -> Standing:
    """How the crawl stands when nobody works on it any more, or patience has run out."""
    deadline = time.monotonic() + patience_s
    while _is_busy(lake, now := life.standing(lake, source, key)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return now


def _is_busy(lake: Lake, standing: Standing) -> bool:
    """Whether a process works on the crawl, or a run that waits for it may be about to start one."""
    might_start = standing.state is CrawlState.NEW or standing.state in RESTING
    return standing.state is CrawlState.RUNNING or (might_start and bool(identity.attached(lake, standing.crawl)))


def in_words(outcome: Outcome, wish: Wish) -> str:
    """What became of the request, for people."""
    state, crawl = outcome.standing.state, outcome.standing.crawl
    if outcome.done and wish is Wish.PAUSE:
        return f"{crawl.id} is paused. {go_on(crawl)}"
    if outcome.done:
        return f"{crawl.id} is stopped; its books are closed."
    if state in (CrawlState.COMPLETE, CrawlState.STOPPED):
        return f"{crawl.id} was over ({state}) before it could {wish}."
    if state is CrawlState.RUNNING:
        said = f"{crawl.id} was asked to {wish} and still runs; it will, unless its own code blocks."
        return f"{said} See: gossamer status {crawl.source}"
    how = go_on(crawl) if wish is Wish.PAUSE else close_it(crawl)
    return f"The process of {crawl.id} ended before it could {wish} ({state}). {how}"


def go_on(crawl: Crawl) -> str:
    """How a crawl at rest goes on."""
    return f"It goes on with: gossamer resume {crawl.source} --partition '{crawl.key}'"


def close_it(crawl: Crawl) -> str:
    """How the books of a crawl are closed that was stopped, and whose process went before it had closed them."""
    return f"Its books are closed by: gossamer stop {crawl.source} --partition '{crawl.key}'"


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
