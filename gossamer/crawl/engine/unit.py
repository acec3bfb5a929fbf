"""The work on one response while it is under way: its outputs, what is counted, and how it ended.

What of it becomes visible, and when, is the store's (`gossamer.crawl.frontier.Unit`); who runs it is `engine`.
"""

import hashlib
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scrapy import Request
from scrapy.http import Response

from gossamer.crawl.frontier import Ending, Lease, NewRequest, Output, State, Unit
from gossamer.crawl.live import Live
from gossamer.crawl.rows import Page

#: Counters of records that are not kept: failed in a pipeline, or dropped by one (with its words).
ERRORS = "record_errors"
DROPPED = "dropped:"


class OpenUnit:
    """A unit that is not committed yet. It is over when everyone who holds it has let it go.

    Attributes:
        unit: what will be committed.
        seed: the seed row that its records go back to; None where they come from `start()` itself.
        outputs: what it has yielded since it was last staged.
        fingerprints: of its requests that are not in the store yet.
        urls: of those that may be dropped early once they are in the store.
        requests, records: how many of each it has yielded.
        unwritable: how many of its requests cannot be written down, and run inside it.
        spoilt: it may not be committed: what it yielded is not whole.
        request: what the engine keeps in progress until the commit; None where nothing was fetched.
    """

    __slots__ = (
        "fingerprints", "holders", "lease", "outputs", "records", "request", "requests", "seed", "spoilt",
        "unit", "unwritable", "urls",
    )  # fmt: skip

    def __init__(self, lease: Lease | None = None, start_key: bytes | None = None) -> None:
        self.unit = Unit(request=lease.id if lease else None, start_key=start_key, counters=Counter(), values={})
        self.lease = lease
        self.seed = lease.seed if lease else None
        self.outputs: list[Output] = []
        self.fingerprints: set[bytes] = set()
        self.urls: list[str] = []
        self.requests = 0
        self.records = 0
        self.unwritable = 0
        self.spoilt = False
        self.request: Request | None = None
        self.holders = 1

    def count(self, name: str, number: int = 1) -> None:
        counters = self.unit.counters
        assert isinstance(counters, Counter)
        counters[name] += number

    def tell(self, live: Live, duplicates: int) -> None:
        """Enters what was committed into the counts of the running crawl."""
        over = [output for output in self.outputs if isinstance(output, NewRequest) and output.ending is not None]
        live.discovered(self.requests - (duplicates if self.unit.replacement is None else 0))
        for output in over:
            assert output.ending is not None
            live.ended(output.host, output.ending.state, output.ending.reason, start=output.start)
        counters = self.unit.counters
        lost = sum(number for name, number in counters.items() if name == ERRORS or name.startswith(DROPPED))
        live.recorded(self.records, lost)
        if self.lease is None:
            return
        host, start, ending = self.lease.host, self.lease.start, self.unit.ending
        if self.unit.replacement is not None and duplicates:
            live.ended(host, State.REDIRECTED, start=start)
        elif ending is not None:
            live.ended(host, ending.state, ending.reason, start=start, url=self.lease.url)


@dataclass(slots=True)
class Work:
    """One request under way: most often the one that its unit is about, else one that runs inside its parent's unit.

    Attributes:
        request: None for an item that `start()` yields.
        inside: what is entered when it is over, where it runs inside its parent's unit.
        ending: how it ended, once that is known; None at the end: it was fetched. The first failure counts.
        page: where its records come from, made when the first one comes.
        filtered: duplicates of it are dropped, and it is one where it is redirected to a known page; whatever Scrapy's
            retries, which are not filtered, make of it.
        visited: what it was redirected to in memory.
    """

    unit: OpenUnit
    request: Request | None
    inside: NewRequest | None = None
    ending: Ending | None = None
    page: Page | None = None
    fetched_at: datetime | None = None
    filtered: bool = False
    visited: set[bytes] = field(default_factory=set)

    def page_of(self, response: object) -> Page:
        """The provenance of a record that came out of this response (or out of none)."""
        at = self.fetched_at or datetime.now(UTC)
        if not isinstance(response, Response):
            return Page(self.request.url if self.request else "", at, None)
        if self.page is None or self.page.url != response.url:
            self.page = Page(response.url, at, hashlib.sha256(response.body).hexdigest())
        return self.page


#: The work in whose context code runs: for side doors only (`engine.crawl` called from anywhere, pipelines), the loop
#: itself passes it along.
CURRENT: ContextVar[Work | None] = ContextVar("gossamer_work", default=None)
