"""A crawl's accounts: what became of every request and every record, and the verdict on whether they close.

Plain counting, without Scrapy: `components` tells what happens, here is what it adds up to. With plain Scrapy under the
crawl the accounts live in memory and die with the process.
"""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from gossamer.crawl.progress import COMMITTING, RUNNING, Progress, rate
from gossamer.crawl.reasons import EXCLUSIONS, Reason
from gossamer.crawl.spool import BODY_SAMPLE
from gossamer.crawl.text import printable
from gossamer.manifest import CheckResult
from gossamer.source import Complete, Limits

BOOKS_CLOSED = "books_closed"
FINISHED = "finished"
LIMIT = "limit"
#: Scrapy's own word for a spider that is closed by its own code.
CANCELLED = "cancelled"
#: Fewer requests than this say nothing about the rate of errors.
ERROR_RATE_FROM = 100
#: So many requests may be redirected to known pages before it is asked whether the site turns us away.
REDIRECTS_FROM = 10
_EXAMPLES = 3
_HOSTS_SHOWN = 50


@dataclass(eq=False, slots=True)
class Unit:
    """One request of the crawl, whatever retries and redirects it takes.

    `state` is None while it is pending, then fetched, redirected (to a page that was known already), duplicate, or the
    reason of its end.
    """

    url: str
    callback: str
    seed: bool
    attempts: int = 0
    state: str | None = None
    fetched_at: datetime | None = None
    page_hash: str | None = None


@dataclass
class Books:
    """Counts of one crawl, and its dead letters as they come.

    Attributes:
        keep: where a dead letter goes.
        stop: called once, with words, when a limit is reached.
    """

    complete: Complete
    limits: Limits
    keep: Callable[[Mapping[str, Any]], None]
    stop: Callable[[str], None] = lambda words: None
    declared_seeds: int = 0
    discovered: int = 0
    fetched: int = 0
    redirected: int = 0
    duplicates: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    seeds_asked: int = 0
    seeds_answered: int = 0
    seeds_dead: Counter[str] = field(default_factory=Counter)
    required_dead: int = 0
    required_seen: set[str] = field(default_factory=set)
    begun: int = 0
    responses: int = 0
    bytes: int = 0
    records: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    record_errors: int = 0
    hosts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    start_error: str = ""
    finish_reason: str = ""
    stopped_by: str = ""
    last_url: str = ""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)

    # -- requests -------------------------------------------------------------------------------------------------

    def discover(self, url: str, callback: str, *, seed: bool = False) -> Unit:
        """A request that the crawl did not know."""
        self.discovered += 1
        self.seeds_asked += seed
        return Unit(url, callback, seed)

    def begin(self, unit: Unit) -> bool:
        """An attempt to fetch; False where the limit of pages does not allow it."""
        if self.limits.pages and unit.attempts == 0 and self.begun >= self.limits.pages:
            self._limit(f"limits.pages ({self.limits.pages})")
            return False
        self.begun += unit.attempts == 0
        unit.attempts += 1
        return True

    def answered(self, unit: Unit) -> None:
        """The spider was shown a page."""
        if unit.state is None:
            unit.state = "fetched"
            self.fetched += 1
            self._required(unit)
            self.seeds_answered += unit.seed
            self.last_url = unit.url
            self.hosts[_host(unit.url)]["fetched"] += 1
            self._judge_errors()

    def known_already(self, unit: Unit, *, redirected: bool) -> None:
        """The request, or where it was redirected to, is one that the crawl has made before."""
        if unit.state is not None:
            return
        unit.state = "redirected" if redirected else "duplicate"
        self.seeds_answered += unit.seed
        if redirected:
            self.redirected += 1
            self._required(unit)
            self._example("redirected", unit.url)
        else:
            self.duplicates += 1
            self.discovered -= 1

    def failed(self, unit: Unit, reason: Reason, message: str, *, status: int | None = None, body: str = "") -> None:
        """The request ended without a page, or its page without its records. The first failure counts."""
        if unit.state not in (None, "fetched", "redirected"):
            return
        self.fetched -= unit.state == "fetched"
        self.redirected -= unit.state == "redirected"
        self.seeds_answered -= unit.seed and unit.state is not None
        unit.state = reason
        if self._required(unit):
            self.required_dead += 1
            self._example("required", unit.url)
        if reason in EXCLUSIONS:
            self.begun -= unit.attempts > 0
            if not unit.seed:
                self.excluded[reason] += 1
                self._example(reason, unit.url)
                return
        self.dead[reason] += 1
        self.seeds_dead[reason] += unit.seed
        self.hosts[_host(unit.url)]["dead"] += 1
        self._example("seed" if unit.seed else reason, unit.url)
        self.keep(
            {
                "url": unit.url,
                "reason": str(reason),
                "status": status,
                "attempts": unit.attempts,
                "callback": unit.callback,
                "message": printable(message)[:1000],
                "failed_at": datetime.now(UTC),
                "body_sample": body[:BODY_SAMPLE],
            }
        )
        self._judge_errors()

    def _required(self, unit: Unit) -> bool:
        """Whether `complete.required` names the request, whose end is known now."""
        named = {p for p in self.complete.required if p == unit.callback or re.search(p, unit.url)}
        self.required_seen |= named
        return bool(named)

    def received(self, size: int) -> None:
        """Bytes came in."""
        self.bytes += size
        if self.limits.bytes and self.bytes > self.limits.bytes:
            self._limit(f"limits.bytes ({self.limits.bytes})")

    def _judge_errors(self) -> None:
        limit = self.limits.error_rate
        if limit and self.judged >= ERROR_RATE_FROM and self.failures / self.judged > limit:
            self._limit(f"limits.error_rate ({limit:g}): {self.failures} of {self.judged} requests failed")

    def _limit(self, words: str) -> None:
        if not self.stopped_by:
            self.stopped_by = words
            self.stop(words)

    def _example(self, kind: str, url: str) -> None:
        if len(self.examples[kind]) < _EXAMPLES:
            self.examples[kind].append(url)

    # -- sums -----------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Requests known that have no end yet."""
        ended = self.fetched + self.redirected + sum(self.excluded.values()) + sum(self.dead.values())
        return self.discovered - ended

    @property
    def judged(self) -> int:
        """Requests that count when the share of failures is judged: fetched and dead ones."""
        return self.fetched + sum(self.dead.values())

    @property
    def failures(self) -> int:
        """Dead requests without those whose page is gone, which is an answer."""
        return sum(self.dead.values()) - self.dead[Reason.GONE]

    @property
    def not_kept(self) -> int:
        """Records that were yielded and are not in the partition."""
        return sum(self.dropped.values()) + self.record_errors

    @property
    def lost(self) -> int:
        """Requests without an end, but for seeds, which are asked for by themselves."""
        return self.pending - (self.seeds_asked - self.seeds_answered - sum(self.seeds_dead.values()))

    def finish(self, reason: str, *, idle: bool) -> None:
        """The crawl is over. `idle`: there was nothing left to do; else a spider may say "finished" and is not."""
        reason = CANCELLED if reason == FINISHED and not idle else printable(reason)
        self.finish_reason = LIMIT if self.stopped_by or reason.startswith("closespider_") else reason
        if self.finish_reason == LIMIT and not self.stopped_by:
            duration = self.limits.duration
            timed_out = reason == "closespider_timeout" and duration
            self.stopped_by = f"limits.duration ({duration})" if timed_out else f"a setting of the spider ({reason})"

    def progress(self) -> Progress:
        """What is told to those who watch."""
        return Progress(
            pages=self.fetched,
            records=self.records,
            errors=sum(self.dead.values()),
            dropped=self.not_kept,
            pending=self.pending,
            bytes=self.bytes,
            elapsed_s=round(time.monotonic() - self.started, 1),
            rate=rate(self.fetched, self.started),
            last_url=self.last_url,
            state=COMMITTING if self.finish_reason else RUNNING,
        )

    def details(self) -> dict[str, Any]:
        """The accounts as JSON, for the manifest."""
        hosts = sorted(self.hosts.items(), key=lambda entry: (-entry[1]["dead"], -entry[1]["fetched"]))
        elapsed = time.monotonic() - self.started
        return {
            "finish_reason": self.finish_reason,
            "stopped_by": self.stopped_by,
            "requests": {
                "discovered": self.discovered,
                "fetched": self.fetched,
                "redirected": self.redirected,
                "excluded": dict(self.excluded),
                "dead": dict(self.dead),
                "pending": self.pending,
                "duplicates": self.duplicates,
            },
            "seeds": {
                "declared": self.declared_seeds,
                "asked": self.seeds_asked,
                "answered": self.seeds_answered,
                "dead": sum(self.seeds_dead.values()),
            },
            "records": {
                "yielded": self.records + self.not_kept,
                "written": self.records,
                "dropped": dict(self.dropped),
                "errors": self.record_errors,
            },
            "hosts": {host: dict(counts) for host, counts in hosts[:_HOSTS_SHOWN]},
            "examples": {kind: list(urls) for kind, urls in self.examples.items()},
            "responses": self.responses,
            "bytes": self.bytes,
            "started_at": self.started_at.isoformat(),
            "duration_s": round(elapsed, 3),
            "rate": rate(self.fetched, self.started),
        }

    # -- verdict --------------------------------------------------------------------------------------------------

    def verdict(self) -> CheckResult:
        """Whether the partition is complete enough by the source's declaration, in words."""
        faults = self._faults()
        return CheckResult(
            name=BOOKS_CLOSED,
            passed=not faults,
            blocking=True,
            summary="; ".join(faults) or self._all_is_well(),
            details=self.details(),
        )

    def _faults(self) -> list[str]:
        seeds = max(self.seeds_asked, self.declared_seeds)
        share = self.failures / self.judged if self.judged else 0.0
        none_asked = self.declared_seeds and not self.seeds_asked and not self.start_error
        # A dead seed is a fault already, and not another one as a request.
        others_dead = self.failures > sum(self.seeds_dead.values()) - self.seeds_dead[Reason.GONE]
        faults = [
            self._unfinished(),
            f"the spider raised in start(): {self.start_error}" if self.start_error else "",
            self._unanswered(seeds),
            "the spider asked for none of its seeds" if none_asked else "",
            self._required_dead() if self.seeds_answered else "",
            self._required_unseen() if self.seeds_answered else "",
            self._too_many_failures(share) if others_dead and share > self.complete.tolerate else "",
            self._redirect_wall(),
            self._failed_records(),
        ]
        told = [fault for fault in faults if fault]
        # Without a page, what kept the pages away is the whole story.
        if self.records == 0 and seeds > 0 and (self.fetched or not told):
            told.append(f"no records came out of {self.fetched} pages" + self._lost_records())
        return told

    def _unfinished(self) -> str:
        match self.finish_reason:
            case "finished" if self.lost > 0:
                requests = _plural("request", self.lost)
                return f"{self.lost} known {requests} went astray in the spider's own components"
            case "finished" | "start_error":
                return ""
            case "limit":
                return f"stopped early by {self.stopped_by}, {self.pending} known requests left"
            case "shutdown":
                return "the crawl was shut down before it was over"
            case other:
                return f"the spider closed itself ({other}), {self.pending} known requests left"

    def _unanswered(self, seeds: int) -> str:
        unanswered = self.seeds_asked - self.seeds_answered
        if not unanswered:
            return ""
        why = {reason: count for reason, count in self.seeds_dead.most_common() if count}
        if never := unanswered - sum(why.values()):
            why["never fetched"] = never
        example = f"; e.g. {self.examples['seed'][0]}" if self.examples["seed"] else ""
        return f"{unanswered} of {seeds} {_plural('seed', seeds)} without an answer ({_listed(why)}{example})"

    def _required_dead(self) -> str:
        if not self.required_dead:
            return ""
        pages = _plural("page", self.required_dead)
        return f"{self.required_dead} required {pages} failed, e.g. {self.examples['required'][0]}"

    def _required_unseen(self) -> str:
        if self.finish_reason != FINISHED:  # what was not reached may have been to come
            return ""
        unseen = [f"`{entry}`" for entry in self.complete.required if entry not in self.required_seen]
        return f"complete.required: {', '.join(unseen)} matched no request" if unseen else ""

    def _too_many_failures(self, share: float) -> str:
        failed = {reason: count for reason, count in self.dead.most_common() if reason != Reason.GONE}
        urls = [url for reason in failed for url in self.examples[reason]] or self.examples["seed"]
        return (
            f"{self.failures} of {self.judged} requests failed ({_percent(share)}, tolerated "
            f"{_percent(self.complete.tolerate)}): {_listed(failed)}; e.g. {urls[0]}"
        )

    def _redirect_wall(self) -> str:
        if self.redirected <= max(self.fetched, REDIRECTS_FROM):
            return ""
        return (
            f"{self.redirected} requests were redirected to known pages and only {self.fetched} fetched: the site may "
            f"turn us away; e.g. {self.examples['redirected'][0]}"
        )

    def _failed_records(self) -> str:
        kept_or_failed = self.records + self.record_errors
        share = self.record_errors / kept_or_failed if self.records else 0.0  # without any, that is the fault
        if share <= self.complete.tolerate:
            return ""
        pages = self.examples[Reason.PIPELINE_ERROR] or self.examples["seed"]
        return (
            f"{self.record_errors} of {kept_or_failed} records failed in a pipeline ({_percent(share)}, tolerated "
            f"{_percent(self.complete.tolerate)}); e.g. {pages[0]}"
        )

    def _lost_records(self) -> str:
        return f" ({self.not_kept} were dropped or failed in a pipeline)" if self.not_kept else ""

    def _all_is_well(self) -> str:
        dead = f"; dead: {_listed(dict(self.dead.most_common()))}, tolerated" if self.dead else ""
        redirected = f"; {self.redirected} redirected to known pages" if self.redirected else ""
        excluded = f"; left out: {_listed(dict(self.excluded.most_common()))}" if self.excluded else ""
        got = f"{self.records} {_plural('record', self.records)} from {self.fetched} {_plural('page', self.fetched)}"
        return f"{got}, every seed answered{redirected}{dead}{excluded}"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in list(counts.items())[:5])


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""
