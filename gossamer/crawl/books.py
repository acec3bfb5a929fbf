"""The books of a crawl, closed at its end: what became of every request and record, and whether that is enough.

Everything is read from the frontier, whose rows are the truth; here are the sums, their audit and the verdict in words.
What a crawl shows and is limited by while it runs belongs to `live`.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gossamer.crawl.frontier import Failure, Frontier, State, Tally
from gossamer.crawl.reasons import Reason
from gossamer.crawl.text import printable
from gossamer.manifest import CheckResult
from gossamer.source import Complete, Limits

BOOKS_CLOSED = "books_closed"
FINISHED = "finished"
START_ERROR = "start_error"
LIMIT = "limit"
STOPPED = "stopped"
#: Scrapy's own word for a spider that is closed by its own code.
CANCELLED = "cancelled"
#: Reasons of excluded requests that no rule kept back: the crawl ended before it came to them.
LEFT = frozenset({LIMIT, STOPPED, CANCELLED})
#: So many requests may be redirected to known pages before it is asked whether the site turns us away.
REDIRECTS_FROM = 10
_DROPPED = "dropped:"
_EXAMPLES = 3
_HOSTS_SHOWN = 50
_DROPS_SHOWN = 20
#: Counters that have a place of their own in the books; others are passed on as they are.
_PLACED = frozenset({"duplicates", "records", "responses", "bytes", "record_errors", "unserialisable"})


@dataclass(frozen=True)
class End:
    """How a crawl ended.

    Attributes:
        reason: `FINISHED` (nothing was left to do), `START_ERROR`, `LIMIT`, `STOPPED`, `CANCELLED` or, where the spider
            closed itself, its own word; Scrapy's `closespider_...` is read as a limit.
        stopped_by: which limit; or who stopped it and why, as in "ann: the site asked us to".
        start_error: what the spider raised in `start()`, in words.
        declared_seeds: how many seeds the declaration has, whatever the spider asked for.
        seconds: working time, over all launches.
        notices: what was said at start of what is not honoured.
    """

    reason: str
    started_at: datetime
    seconds: float
    stopped_by: str = ""
    start_error: str = ""
    declared_seeds: int = 0
    launches: int = 1
    generation: int = 1
    settings_hash: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """The crawl's state from now on: complete, or stopped."""
        return "stopped" if self.reason == STOPPED else "complete"


def close(frontier: Frontier, complete: Complete, limits: Limits, end: End) -> CheckResult:
    """The verdict on a crawl that is over; its details are the two ledgers as JSON, for the manifest.

    To be called when nothing is to be fetched any more: what a limit or a stop left is excluded (`exclude_rest`) by
    then.

    Raises:
        FrontierError: the store cannot be read.
    """
    requests = _add_up(frontier.tallies())
    failed = _examples_of_failures(frontier.failures(), requests)
    called = _go_through(frontier, complete.required, requests)
    books = _Books(
        complete=complete,
        end=_in_our_words(end, limits),
        requests=requests,
        records=_records(frontier.counters()),
        audit=_audit(frontier, requests),
        required=called,
        examples={**called.examples, **failed, **({"required": called.failed_urls} if called.failed else {})},
    )
    faults = books.faults()
    return CheckResult(
        name=BOOKS_CLOSED,
        passed=not faults,
        blocking=True,
        summary="; ".join(faults) or books.all_is_well(),
        details=books.details(),
    )


def left_as(reason: str) -> str:
    """The reason of the requests that a crawl leaves which ended for this reason."""
    if reason in LEFT:
        return reason
    return LIMIT if reason.startswith("closespider_") else CANCELLED


def _in_our_words(end: End, limits: Limits) -> End:
    reason = printable(end.reason)
    if reason == STOPPED or not (end.stopped_by or reason.startswith("closespider_")):
        return replace(end, reason=reason)
    timed_out = reason == "closespider_timeout" and limits.duration
    words = f"limits.duration ({limits.duration})" if timed_out else f"a setting of the spider ({reason})"
    return replace(end, reason=LIMIT, stopped_by=end.stopped_by or words)


# -- sums -------------------------------------------------------------------------------------------------------------


@dataclass
class _Requests:
    """The ledger of requests. A seed that a rule excluded counts as dead: it is a dead letter.

    Attributes:
        states: as the rows have them.
        excluded: by reason, what was left by a limit or a stop included.
        dead: by reason, seeds included.
        seeds_dead: by reason.
    """

    states: Counter[State] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    seeds_asked: int = 0
    seeds_answered: int = 0
    seeds_dead: Counter[str] = field(default_factory=Counter)
    hosts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def discovered(self) -> int:
        return self.states.total()

    @property
    def fetched(self) -> int:
        return self.states[State.FETCHED]

    @property
    def redirected(self) -> int:
        return self.states[State.REDIRECTED]

    @property
    def pending(self) -> int:
        """Requests known that have no end."""
        return self.states[State.PENDING] + self.states[State.LEASED]

    @property
    def left(self) -> int:
        """Requests that the crawl ended before."""
        return self.pending + sum(self.excluded[reason] for reason in LEFT)

    @property
    def judged(self) -> int:
        """Requests that count when the share of failures is judged: fetched and dead ones."""
        return self.fetched + self.dead.total()

    @property
    def failures(self) -> int:
        """Dead requests without those whose page is gone, which is an answer."""
        return self.dead.total() - self.dead[Reason.GONE]

    @property
    def seed_failures(self) -> int:
        return self.seeds_dead.total() - self.seeds_dead[Reason.GONE]


def _add_up(tallies: Iterable[Tally]) -> _Requests:
    sums = _Requests()
    for tally in tallies:
        sums.states[tally.state] += tally.count
        sums.seeds_asked += tally.count if tally.start else 0
        if is_dead(tally.state, tally.reason, start=tally.start):
            sums.dead[tally.reason] += tally.count
            sums.hosts[tally.host]["dead"] += tally.count
            if tally.start:
                sums.seeds_dead[tally.reason] += tally.count
        elif tally.state is State.EXCLUDED:
            sums.excluded[tally.reason] += tally.count
        elif tally.state in (State.FETCHED, State.REDIRECTED):
            sums.seeds_answered += tally.count if tally.start else 0
            if tally.state is State.FETCHED:
                sums.hosts[tally.host]["fetched"] += tally.count
        if tally.state in (State.DEAD, State.EXCLUDED):
            sums.reasons[tally.host][tally.reason] += tally.count
    return sums


def is_dead(state: State, reason: str, *, start: bool) -> bool:
    """Whether a request failed for good: a seed that a rule excluded did, another that a rule excluded did not."""
    return state is State.DEAD or (state is State.EXCLUDED and start and reason not in LEFT)


@dataclass(frozen=True)
class _Records:
    """The ledger of records, and the other counters of the crawl."""

    written: int
    dropped: Mapping[str, int]
    errors: int
    counters: Mapping[str, int]

    @property
    def not_kept(self) -> int:
        """Records that were yielded and are not in the partition."""
        return sum(self.dropped.values()) + self.errors


def _records(counters: Mapping[str, int]) -> _Records:
    drops = Counter({name.removeprefix(_DROPPED): n for name, n in counters.items() if name.startswith(_DROPPED)})
    dropped = Counter(dict(drops.most_common(_DROPS_SHOWN)))
    if others := drops.total() - dropped.total():
        dropped["other"] += others
    return _Records(counters.get("records", 0), dropped, counters.get("record_errors", 0), counters)


@dataclass(frozen=True)
class _Audit:
    """The books against the rows: what was counted along the way, and what lies there."""

    rows: Mapping[State, int]
    differences: Sequence[str]

    def details(self) -> dict[str, Any]:
        rows = {state.name.lower(): self.rows.get(state, 0) for state in State}
        endless = rows["pending"] + rows["leased"]
        return {"closed": not (self.differences or endless), "rows": rows, "differences": list(self.differences)}


def _audit(frontier: Frontier, requests: _Requests) -> _Audit:
    rows = frontier.count_rows()
    differences = [
        f"{state.name.lower()} requests: {rows.get(state, 0)} by their rows, {requests.states[state]} as counted"
        for state in State
        if rows.get(state, 0) != requests.states[state]
    ]
    if frontier.settling:
        differences.append("outputs of units that are over were not moved to where they belong")
    written = frontier.counters().get("records", 0)
    lie = sum(segment.rows for segment in frontier.segments()) + frontier.waiting()
    if lie < written or (lie > written and not frontier.retracted()):  # retracted ones still lie there
        differences.append(f"records: {lie} in the segments and the store, {written} as counted")
    return _Audit(rows, differences)


# -- examples and required pages --------------------------------------------------------------------------------------


class _Examples:
    """At most three URLs of each kind. `complete`: there are no more to be found."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.urls: dict[str, list[str]] = {kind: [] for kind, count in counts.items() if count}
        self._missing = sum(min(count, _EXAMPLES) for count in counts.values())

    def add(self, kind: str, url: str) -> None:
        urls = self.urls.get(kind)
        if urls is not None and len(urls) < _EXAMPLES:
            urls.append(url)
            self._missing -= 1

    @property
    def complete(self) -> bool:
        return self._missing <= 0


def _examples_of_failures(failures: Iterator[Failure], requests: _Requests) -> dict[str, list[str]]:
    others = requests.dead - requests.seeds_dead
    examples = _Examples({"seed": requests.seeds_dead.total(), **others})
    while not examples.complete and (failure := next(failures, None)):
        if is_dead(failure.state, failure.reason, start=failure.start):
            examples.add("seed" if failure.start else failure.reason, failure.url)
    return examples.urls


@dataclass(frozen=True)
class _Called:
    """What the requests themselves say, row by row.

    Attributes:
        failed: required pages that were not fetched.
        unseen: what `complete.required` names and no request matched.
        examples: of redirected and excluded requests.
    """

    failed: int
    failed_urls: list[str]
    unseen: tuple[str, ...]
    examples: dict[str, list[str]]


def _go_through(frontier: Frontier, required: Sequence[str], requests: _Requests) -> _Called:
    """One pass, as far as it must go: to the end only where pages are required."""
    by_rule = {reason: count for reason, count in requests.excluded.items() if reason not in LEFT}
    examples = _Examples({"redirected": requests.redirected, **by_rule})
    patterns = {entry: re.compile(entry) for entry in required}
    failed, failed_urls, seen = 0, list[str](), set[str]()
    calls = frontier.calls()
    while (patterns or not examples.complete) and (call := next(calls, None)):
        url, callback, state, reason = call
        if not state.is_terminal or (state is State.EXCLUDED and reason in LEFT):
            continue
        if state in (State.REDIRECTED, State.EXCLUDED):
            examples.add("redirected" if state is State.REDIRECTED else reason, url)
        named = {entry for entry, pattern in patterns.items() if entry == callback or pattern.search(url)}
        seen |= named
        if named and state in (State.DEAD, State.EXCLUDED):
            failed += 1
            failed_urls += [url] if failed <= _EXAMPLES else []
    return _Called(failed, failed_urls, tuple(entry for entry in required if entry not in seen), examples.urls)


# -- verdict ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Books:
    """All that is known of a crawl that is over."""

    complete: Complete
    end: End
    requests: _Requests
    records: _Records
    audit: _Audit
    required: _Called
    examples: Mapping[str, Sequence[str]]

    def details(self) -> dict[str, Any]:
        """The books as JSON."""
        requests, records, end = self.requests, self.records, self.end
        counters = records.counters
        worst = heapq.nsmallest(_HOSTS_SHOWN, requests.hosts.items(), key=lambda e: (-e[1]["dead"], -e[1]["fetched"]))
        failing = heapq.nlargest(_HOSTS_SHOWN, requests.reasons.items(), key=lambda entry: entry[1].total())
        return {
            "generation": end.generation,
            "state": end.state,
            "finish_reason": end.reason,
            "stopped_by": end.stopped_by,
            "requests": {
                "discovered": requests.discovered,
                "fetched": requests.fetched,
                "redirected": requests.redirected,
                "excluded": _positive(requests.excluded),
                "dead": _positive(requests.dead),
                "pending": requests.pending,
                "duplicates": counters.get("duplicates", 0),
            },
            "seeds": {
                "declared": end.declared_seeds,
                "asked": requests.seeds_asked,
                "answered": requests.seeds_answered,
                "dead": requests.seeds_dead.total(),
            },
            "records": {
                "yielded": records.written + records.not_kept,
                "written": records.written,
                "dropped": _positive(records.dropped),
                "errors": records.errors,
            },
            "hosts": {host: _positive(counts) for host, counts in worst},
            "reasons": {host: _positive(counts) for host, counts in failing},
            "examples": {kind: list(urls) for kind, urls in self.examples.items() if urls},
            "responses": counters.get("responses", 0),
            "bytes": counters.get("bytes", 0),
            "unserialisable": counters.get("unserialisable", 0),
            "counters": {
                name: count
                for name, count in sorted(counters.items())
                if name not in _PLACED and not name.startswith(_DROPPED)
            },
            "audit": self.audit.details(),
            "started_at": end.started_at.isoformat(),
            "duration_s": round(end.seconds, 3),
            "rate": round(requests.fetched / max(end.seconds, 0.001), 2),
            "launches": end.launches,
            "versions": dict(end.versions),
            "settings_hash": end.settings_hash,
            "notices": list(end.notices),
        }

    def faults(self) -> list[str]:
        """Why the partition is not complete enough by the source's declaration; nothing where it is."""
        requests, end = self.requests, self.end
        seeds = max(requests.seeds_asked, end.declared_seeds)
        none_asked = end.declared_seeds and not requests.seeds_asked and not end.start_error
        faults = [
            self._unfinished(),
            f"the spider raised in start(): {end.start_error}" if end.start_error else "",
            self._unanswered(seeds),
            "the spider asked for none of its seeds" if none_asked else "",
            self._required_failed() if requests.seeds_answered else "",
            self._required_unseen() if requests.seeds_answered else "",
            self._too_many_failures(),
            self._redirect_wall(),
            self._failed_records(),
            *(f"the books do not close: {difference}" for difference in self.audit.differences),
        ]
        told = [fault for fault in faults if fault]
        # Without a page, what kept the pages away is the whole story.
        if self.records.written == 0 and seeds > 0 and (requests.fetched or not told):
            told.append(f"no records came out of {requests.fetched} pages" + self._lost_records())
        return told

    def all_is_well(self) -> str:
        """What a complete crawl brought, and what it tolerated."""
        requests, records = self.requests, self.records
        dead = f"; dead: {_listed(requests.dead)}, tolerated" if requests.dead else ""
        redirected = f"; {requests.redirected} redirected to known pages" if requests.redirected else ""
        excluded = f"; left out: {_listed(requests.excluded)}" if requests.excluded else ""
        got = f"{_counted(records.written, 'record')} from {_counted(requests.fetched, 'page')}"
        return f"{got}, every seed answered{redirected}{dead}{excluded}"

    def _unfinished(self) -> str:
        pending, left = self.requests.pending, _counted(self.requests.left, "known request") + " left"
        match self.end.reason:
            case "finished" | "start_error" if pending:
                return f"{_counted(pending, 'known request')} went astray: pending or leased at the end"
            case "finished" | "start_error":
                return left if self.requests.left else ""
            case "limit":
                return f"stopped early by {self.end.stopped_by}, {left}"
            case "stopped":
                return f"stopped by {self.end.stopped_by}, {left}"
            case "shutdown":
                return "the crawl was shut down before it was over"
            case other:
                return f"the spider closed itself ({other}), {left}"

    def _unanswered(self, seeds: int) -> str:
        unanswered = self.requests.seeds_asked - self.requests.seeds_answered
        if not unanswered:
            return ""
        why = self.requests.seeds_dead.copy()
        listed = _listed(why, {"never fetched": unanswered - why.total()})
        return f"{unanswered} of {_counted(seeds, 'seed')} without an answer ({listed}{self._such_as('seed')})"

    def _required_failed(self) -> str:
        if not self.required.failed:
            return ""
        return f"{_counted(self.required.failed, 'required page')} failed, e.g. {self.required.failed_urls[0]}"

    def _required_unseen(self) -> str:
        if self.end.reason != FINISHED:  # what was not reached may have been to come
            return ""
        unseen = [f"`{entry}`" for entry in self.required.unseen]
        return f"complete.required: {', '.join(unseen)} matched no request" if unseen else ""

    def _too_many_failures(self) -> str:
        requests = self.requests
        share = requests.failures / requests.judged if requests.judged else 0.0
        # A dead seed is a fault already, and not another one as a request.
        if requests.failures == requests.seed_failures or share <= self.complete.tolerate:
            return ""
        failed = Counter({reason: count for reason, count in requests.dead.items() if reason != Reason.GONE})
        kinds = [reason for reason, _ in failed.most_common()]
        return (
            f"{requests.failures} of {requests.judged} requests failed ({_percent(share)}, tolerated "
            f"{_percent(self.complete.tolerate)}): {_listed(failed)}{self._such_as(*kinds, 'seed')}"
        )

    def _redirect_wall(self) -> str:
        requests = self.requests
        if requests.redirected <= max(requests.fetched, REDIRECTS_FROM):
            return ""
        return (
            f"{requests.redirected} requests were redirected to known pages and only {requests.fetched} fetched: the "
            f"site may turn us away{self._such_as('redirected')}"
        )

    def _failed_records(self) -> str:
        records = self.records
        kept_or_failed = records.written + records.errors
        share = records.errors / kept_or_failed if records.written else 0.0  # without any, that is the fault
        if share <= self.complete.tolerate:
            return ""
        return (
            f"{records.errors} of {kept_or_failed} records failed in a pipeline ({_percent(share)}, tolerated "
            f"{_percent(self.complete.tolerate)}){self._such_as(Reason.PIPELINE_ERROR, 'seed')}"
        )

    def _lost_records(self) -> str:
        lost = self.records.not_kept
        return f" ({lost} were dropped or failed in a pipeline)" if lost else ""

    def _such_as(self, *kinds: str) -> str:
        url = next((urls[0] for kind in kinds if (urls := self.examples.get(kind))), None)
        return f"; e.g. {url}" if url is not None else ""


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(counts: Counter[str], last: Mapping[str, int] | None = None) -> str:
    listed = [*counts.most_common(), *(last or {}).items()]
    return ", ".join(f"{count} {reason}" for reason, count in [entry for entry in listed if entry[1]][:5])


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
