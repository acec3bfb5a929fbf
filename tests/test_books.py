"""The books of a crawl: what is written of every request and record, when a partition is complete, and in which words.

Each test tells a history to a real store, as the engine would, and closes its books.
"""

import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.crawl.books import CANCELLED, FINISHED, LIMIT, STOPPED, End, close
from gossamer.crawl.frontier import Ending, Frontier, NewRecord, NewRequest, Segment, State, Tally, Unit
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.live import HOSTS, OTHER_HOSTS, PACE_SECONDS, Live
from gossamer.manifest import CheckResult
from gossamer.source import Complete, Limits

STARTED = datetime(2026, 7, 1, 12, tzinfo=UTC)
SITE = "https://shop.example"


@dataclass
class History:
    """A crawl as the engine would have it: what is asked for, how it ends, and its books."""

    frontier: Frontier
    ends: dict[str, tuple[State, str, int]] = field(default_factory=dict)

    def ask(
        self,
        path: str,
        state: State = State.FETCHED,
        reason: str = "",
        *,
        seed: bool = False,
        callback: str = "parse",
        records: int | None = None,
        host: str = "shop.example",
    ) -> None:
        """A request, and what is to become of it: a fetched one has one record."""
        url = f"https://{host}{path}"
        request = NewRequest(url.encode(), url, host, callback, fingerprint=url.encode(), start=seed)
        self.frontier.commit([Unit(outputs=[request])])
        self.ends[url] = state, reason, (state is State.FETCHED) if records is None else records

    def seed(self, path: str = "/", state: State = State.FETCHED, reason: str = "", **known: Any) -> None:
        self.ask(path, state, reason, seed=True, **known)

    def crawl(self, most: int | None = None) -> None:
        """Everything asked for comes to its end, or so many of it."""
        while most != 0 and (leases := self.frontier.claim(1)):
            [lease] = leases
            state, reason, records = self.ends[lease.url]
            if state is State.LEASED:
                continue
            outputs = [NewRecord('{"title": "a"}') for _ in range(records)]
            self.frontier.commit([Unit(lease.id, Ending(state, reason, ended_at=1.0), outputs=outputs)])
            most = most and most - 1

    def count(self, **counters: int) -> None:
        self.frontier.commit([Unit(counters=counters)])

    def close(
        self,
        reason: str = FINISHED,
        required: tuple[str, ...] = (),
        tolerate: float = 0.01,
        limits: Mapping[str, Any] | None = None,
        **end: Any,
    ) -> CheckResult:
        self.crawl()
        complete = Complete(required=required, tolerate=tolerate)
        return close(self.frontier, complete, Limits.model_validate(limits or {}), End(reason, STARTED, 10.0, **end))

    def fault(self, reason: str = FINISHED, **known: Any) -> str:
        """The summary of a verdict that must not pass."""
        check = self.close(reason, **known)
        assert not check.passed
        assert check.blocking
        return check.summary


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "frontier.sqlite"


@pytest.fixture
def history(store: Path) -> Iterator[History]:
    with closing(SqliteFrontier(store)) as frontier:
        yield History(frontier)


# --- A crawl that is complete -----------------------------------------------------------------------------------------


def test_what_became_of_every_request_and_record_stands_in_the_books(history: History) -> None:
    history.seed()
    for number in range(200):
        history.ask(f"/{number}")
    history.ask("/gone", State.DEAD, "gone")
    history.ask("/broken", State.DEAD, "server_error")
    history.ask("/private", State.EXCLUDED, "robots", host="other.example")
    history.ask("/old", State.REDIRECTED)
    history.ask("/0")
    history.count(bytes=5000, responses=210, unserialisable=2, max_retries=3, **{"dropped:DropItem: twice": 4})
    check = history.close(
        declared_seeds=1, launches=3, generation=7, versions={"scrapy": "2.19"}, settings_hash="ab", notices=("a",)
    )
    assert check.passed
    assert check.summary == (
        "201 records from 201 pages, every seed answered; 1 redirected to known pages; dead: 1 gone, 1 server_error, "
        "tolerated; left out: 1 robots"
    )
    assert check.details == {
        "generation": 7,
        "state": "complete",
        "finish_reason": "finished",
        "stopped_by": "",
        "requests": {
            "discovered": 205,
            "fetched": 201,
            "redirected": 1,
            "excluded": {"robots": 1},
            "dead": {"gone": 1, "server_error": 1},
            "pending": 0,
            "duplicates": 1,
        },
        "seeds": {"declared": 1, "asked": 1, "answered": 1, "dead": 0},
        "records": {"yielded": 205, "written": 201, "dropped": {"DropItem: twice": 4}, "errors": 0},
        "hosts": {"shop.example": {"fetched": 201, "dead": 2}},
        "reasons": {"shop.example": {"gone": 1, "server_error": 1}, "other.example": {"robots": 1}},
        "examples": {
            "gone": [f"{SITE}/gone"],
            "server_error": [f"{SITE}/broken"],
            "robots": ["https://other.example/private"],
            "redirected": [f"{SITE}/old"],
        },
        "responses": 210,
        "bytes": 5000,
        "unserialisable": 2,
        "counters": {"max_retries": 3},
        "audit": {
            "closed": True,
            "rows": {"pending": 0, "leased": 0, "fetched": 201, "redirected": 1, "excluded": 1, "dead": 2},
            "differences": [],
        },
        "started_at": "2026-07-01T12:00:00+00:00",
        "duration_s": 10.0,
        "rate": 20.1,
        "launches": 3,
        "versions": {"scrapy": "2.19"},
        "settings_hash": "ab",
        "notices": ["a"],
    }


def test_a_spider_that_only_yields_records_without_seeds_of_its_own_is_complete(history: History) -> None:
    history.frontier.commit([Unit(outputs=[NewRecord('{"title": "a"}')])])
    assert history.close().passed


def test_records_that_wait_in_segments_and_in_the_store_are_counted_alike(history: History) -> None:
    history.seed(records=5)
    history.crawl()
    first, *_, last = (record.id for record in history.frontier.waiting_records(3))
    history.frontier.flushed(Segment("segments/000001-000001.parquet", first, last, 3))
    check = history.close()
    assert check.passed, check.summary
    assert check.details["records"]["written"] == 5


def test_a_page_that_is_replayed_does_not_upset_the_ledger_of_records(history: History) -> None:
    history.seed(records=2)
    history.ask("/page", State.DEAD, "parse_error", records=2)
    history.crawl()
    records = history.frontier.waiting_records(10)
    history.frontier.flushed(Segment("segments/000001-000001.parquet", records[0].id, records[-1].id, len(records)))
    assert history.frontier.replay() == 1
    history.ends[f"{SITE}/page"] = State.FETCHED, "", 3
    check = history.close()
    assert check.passed, check.summary
    assert check.details["records"]["written"] == 5


def test_books_of_a_bad_crawl_stay_small(history: History) -> None:
    history.seed()
    for number in range(120):
        history.ask(f"/{number}", State.DEAD, "server_error", host=f"h{number}.example")
    history.count(**{f"dropped:ValueError: {number}": 1 for number in range(50)})
    details = history.close().details
    assert len(details["hosts"]) == len(details["reasons"]) == 50
    assert "shop.example" not in details["hosts"], "the hosts that failed come first"
    assert {kind: len(urls) for kind, urls in details["examples"].items()} == {"server_error": 3}
    assert len(details["records"]["dropped"]) == 21
    assert sum(details["records"]["dropped"].values()) == 50


# --- Seeds and required pages -----------------------------------------------------------------------------------------


def test_a_dead_seed_is_a_fault_whatever_is_tolerated(history: History) -> None:
    history.seed("/a", State.DEAD, "server_error")
    history.seed("/b")
    assert history.fault(tolerate=0.5) == f"1 of 2 seeds without an answer (1 server_error; e.g. {SITE}/a)"


def test_a_site_that_is_down_is_told_once(history: History) -> None:
    history.seed("/", State.DEAD, "refused")
    assert history.fault() == f"1 of 1 seed without an answer (1 refused; e.g. {SITE}/)"


def test_a_seed_that_a_rule_keeps_back_is_dead(history: History) -> None:
    history.seed("/", State.EXCLUDED, "private_address")
    check = history.close()
    assert check.summary == f"1 of 1 seed without an answer (1 private_address; e.g. {SITE}/)"
    assert check.details["requests"]["dead"] == {"private_address": 1}
    assert check.details["requests"]["excluded"] == {}


def test_a_seed_that_is_gone_is_not_answered_and_one_that_leads_to_a_known_page_is(history: History) -> None:
    history.seed("/")
    history.seed("/old", State.REDIRECTED)
    assert history.close().passed
    history.seed("/away", State.DEAD, "gone")
    assert history.fault() == f"1 of 3 seeds without an answer (1 gone; e.g. {SITE}/away)"


def test_a_spider_that_asks_for_none_of_its_seeds_is_not_complete(history: History) -> None:
    history.frontier.commit([Unit(outputs=[NewRecord('{"title": "a"}')])])
    assert history.fault(declared_seeds=2) == "the spider asked for none of its seeds"


def test_what_start_raised_is_told_and_not_that_no_seed_was_asked_for(history: History) -> None:
    words = "RuntimeError: no more ideas (spider.py:9)"
    assert history.fault("start_error", declared_seeds=2, start_error=words) == f"the spider raised in start(): {words}"


def test_a_page_that_is_required_may_not_be_gone_but_another_may(history: History) -> None:
    history.seed()
    history.ask("/p/404", State.DEAD, "gone", callback="parse_page")
    assert history.close().summary.endswith("dead: 1 gone, tolerated")
    assert history.fault(required=("parse_page",)) == f"1 required page failed, e.g. {SITE}/p/404"
    assert history.fault(required=(r"/p/4.4$", "parse_page")) == f"1 required page failed, e.g. {SITE}/p/404"


def test_a_page_that_is_required_may_not_be_left_out_by_a_rule(history: History) -> None:
    history.seed()
    for number in range(5):
        history.ask(f"/private/{number}", State.EXCLUDED, "robots")
    assert history.fault(required=("/private/",)) == f"5 required pages failed, e.g. {SITE}/private/0"


def test_a_requirement_that_nothing_matches_is_a_fault_and_no_promise(history: History) -> None:
    history.seed()
    history.ask("/1", callback="parse_page")
    history.ask("/old", State.REDIRECTED)
    summary = history.fault(required=("parse_lst", "parse_page", "/old$", "/shelf/"))
    assert summary == "complete.required: `parse_lst`, `/shelf/` matched no request"
    limited = history.fault(LIMIT, required=("/shelf/",), stopped_by="limits.pages (2)")
    assert "matched" not in limited, "a crawl that was stopped may not have come to it"


def test_without_a_seed_answered_nothing_is_said_of_required_pages(history: History) -> None:
    history.seed("/", State.DEAD, "dns")
    assert "required" not in history.fault(required=("parse", "/shelf/"))


# --- Failures, redirects and records ----------------------------------------------------------------------------------


def test_more_failures_than_tolerated_are_a_fault_with_their_reasons(history: History) -> None:
    history.seed()
    for number in range(17):
        history.ask(f"/{number}", State.DEAD, "server_error" if number < 10 else "timed_out")
    for number in range(2):
        history.ask(f"/gone/{number}", State.DEAD, "gone")
    assert history.fault() == (
        f"17 of 20 requests failed (85 %, tolerated 1 %): 10 server_error, 7 timed_out; e.g. {SITE}/0"
    )
    assert history.close(tolerate=0.85).passed


def test_a_site_that_redirects_every_page_to_one_is_not_complete(history: History) -> None:
    history.seed()
    history.ask("/page")
    for number in range(30):
        history.ask(f"/wall/{number}", State.REDIRECTED)
    summary = history.fault()
    assert summary.startswith(
        "30 requests were redirected to known pages and only 2 fetched: the site may turn us away"
    )
    assert f"; e.g. {SITE}/wall/" in summary


def test_a_few_redirects_to_known_pages_are_none_of_a_wall(history: History) -> None:
    history.seed()
    for number in range(10):
        history.ask(f"/old/{number}", State.REDIRECTED)
    assert "10 redirected to known pages" in history.close().summary


def test_records_that_fail_in_a_pipeline_count_one_by_one(history: History) -> None:
    history.seed(records=3)
    history.ask("/1", State.DEAD, "pipeline_error")
    history.count(record_errors=10)
    assert history.fault(tolerate=0.5) == (
        f"10 of 13 records failed in a pipeline (77 %, tolerated 50 %); e.g. {SITE}/1"
    )


def test_pages_without_a_record_are_not_a_complete_partition(history: History) -> None:
    history.seed(records=0)
    assert history.fault() == "no records came out of 1 pages"
    history.count(record_errors=1, **{"dropped:DropItem: old": 2})
    assert history.fault() == "no records came out of 1 pages (3 were dropped or failed in a pipeline)"


# --- Crawls that ended early ------------------------------------------------------------------------------------------


def ended_early(history: History, rows: str, reason: str, **known: Any) -> CheckResult:
    """Of ten pages and a seed, the crawl ended after four."""
    history.seed()
    for number in range(10):
        history.ask(f"/{number}")
    history.crawl(4)
    history.frontier.exclude_rest(rows)
    return history.close(reason, **known)


IN_2_HOURS = {"limits": {"duration": "2h"}}


@pytest.mark.parametrize(
    ("rows", "reason", "known", "words"),
    [
        ("limit", LIMIT, {"stopped_by": "limits.pages (4)"}, "stopped early by limits.pages (4), {left}"),
        ("limit", "closespider_timeout", IN_2_HOURS, "stopped early by limits.duration (2:00:00), {left}"),
        ("limit", "closespider_timeout", {}, "stopped early by a setting of the spider (closespider_timeout), {left}"),
        ("limit", "finished", {"stopped_by": "limits.bytes (9)"}, "stopped early by limits.bytes (9), {left}"),
        ("stopped", STOPPED, {"stopped_by": "ann: they asked us to"}, "stopped by ann: they asked us to, {left}"),
        ("cancelled", CANCELLED, {}, "the spider closed itself (cancelled), {left}"),
        ("cancelled", "en\x1bough", {}, "the spider closed itself (en\ufffdough), {left}"),
        ("cancelled", "", {}, "the spider closed itself (), {left}"),
        ("cancelled", "shutdown", {}, "the crawl was shut down before it was over"),
        ("limit", FINISHED, {}, "{left}"),
    ],
)  # fmt: skip
def test_a_crawl_that_ended_early_is_not_complete_and_says_why(
    history: History, rows: str, reason: str, known: dict[str, Any], words: str
) -> None:
    check = ended_early(history, rows, reason, **known)
    assert not check.passed
    # The seed goes after other requests of its priority: it was not come to.
    assert check.summary == "; ".join(
        [words.format(left="7 known requests left"), "1 of 1 seed without an answer (1 never fetched)"]
    )
    assert check.details["requests"]["excluded"] == {rows: 7}
    assert check.details["audit"]["closed"]
    assert check.details["state"] == ("stopped" if reason == STOPPED else "complete")


def test_a_required_page_that_a_limit_left_did_not_fail(history: History) -> None:
    history.seed()
    history.crawl()
    history.ask("/shelf/1")
    history.frontier.exclude_rest("limit")
    summary = history.fault(LIMIT, required=("/shelf/",), stopped_by="limits.pages (1)")
    assert summary == "stopped early by limits.pages (1), 1 known request left"


# --- Books that do not close ------------------------------------------------------------------------------------------


def test_a_request_without_an_end_keeps_the_books_open(history: History) -> None:
    history.seed()
    history.ask("/lost", State.LEASED)
    check = history.close()
    assert check.summary == "1 known request went astray: pending or leased at the end"
    assert not check.details["audit"]["closed"]
    assert check.details["requests"]["pending"] == 1


def test_outputs_that_were_not_moved_keep_the_books_open(history: History) -> None:
    history.seed()
    [lease] = history.frontier.claim(1)
    history.frontier.stage("big", lease.id, [NewRecord('{"title": "a"}') for _ in range(10)])
    history.frontier.commit([Unit(lease.id, Ending(State.FETCHED), staged="big")])
    assert history.frontier.settling
    assert "the books do not close: outputs of units that are over were not moved" in history.fault()
    while history.frontier.settling:
        history.frontier.settle()
    assert history.close().passed


def test_a_request_whose_row_is_lost_keeps_the_books_open(history: History, store: Path) -> None:
    history.seed()
    history.ask("/1")
    history.crawl()
    with closing(sqlite3.connect(store)) as hand, hand:
        hand.execute("DELETE FROM request WHERE NOT start")
    check = history.close()
    assert not check.passed
    assert check.summary == "the books do not close: fetched requests: 1 by their rows, 2 as counted"
    assert not check.details["audit"]["closed"]


def test_a_record_that_no_segment_has_keeps_the_books_open(history: History, store: Path) -> None:
    history.seed(records=2)
    history.crawl()
    first, last = (record.id for record in history.frontier.waiting_records(2))
    history.frontier.flushed(Segment("segments/000001-000001.parquet", first, last, 1))
    assert history.fault() == "the books do not close: records: 1 in the segments and the store, 2 as counted"


# --- Whatever happens -------------------------------------------------------------------------------------------------

ENDS = [
    (State.FETCHED, ""),
    (State.REDIRECTED, ""),
    (State.DEAD, "gone"),
    (State.DEAD, "server_error"),
    (State.EXCLUDED, "robots"),
    (State.LEASED, ""),
]
REQUESTS = st.lists(st.tuples(st.booleans(), st.sampled_from(["parse", "detail"]), st.sampled_from(ENDS)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, tolerate=st.sampled_from([0.0, 0.2, 0.6]), most=st.none() | st.integers(0, 8))
def test_no_history_closes_with_open_ends_or_passes_with_a_dead_seed_or_required_page(
    requests: list[tuple[bool, str, tuple[State, str]]], tolerate: float, most: int | None
) -> None:
    with TemporaryDirectory() as folder, closing(SqliteFrontier(Path(folder, "frontier.sqlite"))) as frontier:
        history = History(frontier)
        for number, (seed, callback, (state, reason)) in enumerate(requests):
            history.ask(f"/{number}", state, reason, seed=seed, callback=callback)
        history.crawl(most)
        left = frontier.exclude_rest("limit") if most is not None else 0
        check = history.close(required=("detail",), tolerate=tolerate)
        details = check.details

        endless = sum(state is State.LEASED for _, _, (state, _) in requests) if most is None else 0
        asked = details["requests"]
        over = asked["fetched"] + asked["redirected"] + sum(asked["excluded"].values()) + sum(asked["dead"].values())
        assert asked["discovered"] == len(requests) == over + asked["pending"]
        assert asked["pending"] == endless
        assert details["audit"]["closed"] == (endless == 0)

        rows = list(frontier.calls())
        dead = sum(state is State.DEAD and reason != "gone" for _, _, state, reason in rows)
        seen = sum(state in (State.FETCHED, State.DEAD) for _, _, state, reason in rows)
        failed_seed = details["seeds"]["answered"] < details["seeds"]["asked"]
        failed_page = any(c == "detail" and s in (State.DEAD, State.EXCLUDED) for _, c, s, _ in rows)
        if endless or left or failed_seed or (failed_page and details["seeds"]["answered"]):
            assert not check.passed
        if seen and dead / seen > tolerate and not details["seeds"]["dead"]:
            assert not check.passed


# --- While it runs ----------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def live(clock: Clock, said: list[str]) -> Callable[..., Live]:
    def open_live(*known: Any, worked: float = 0.0, **limits: Any) -> Live:
        return Live(Limits.model_validate(limits), *known, stop=said.append, worked=worked, clock=clock)

    return open_live


def test_a_limit_of_pages_counts_what_is_in_flight_and_not_what_a_rule_excludes(
    live: Callable[..., Live], said: list[str]
) -> None:
    counts = live(pages=5)
    counts.discovered(9)
    counts.ended("h", State.FETCHED)
    counts.ended("h", State.REDIRECTED)
    counts.ended("h", State.DEAD, "dns")
    counts.ended("h", State.EXCLUDED, "robots")
    assert counts.may_begin(in_flight=1)
    assert not said, "a limit that is just enough stops nothing"
    assert not counts.may_begin(in_flight=2)
    assert not counts.may_begin(in_flight=2)
    assert said == ["limits.pages (5)"], "once"


def test_limits_go_on_from_what_earlier_launches_counted(
    history: History, live: Callable[..., Live], said: list[str]
) -> None:
    for number in range(5):
        history.ask(f"/{number}")
    history.count(bytes=1500, record_errors=1, **{"dropped:DropItem: old": 2})
    history.crawl(3)
    known = history.frontier.tallies(), history.frontier.counters()
    assert live(*known, pages=4).may_begin(0)
    assert not live(*known, pages=3).may_begin(0)
    live(*known, bytes="1600B").received(100)
    live(*known, bytes="1600B").received(101)
    assert said == ["limits.pages (3)", "limits.bytes (1600)"]
    assert live(*known).not_kept == 3


def test_time_is_limited_over_all_launches(live: Callable[..., Live], said: list[str], clock: Clock) -> None:
    counts = live(duration="1m", worked=50.0)
    clock.now += 10
    counts.tick()
    assert not said
    clock.now += 1
    counts.tick()
    assert said == [f"limits.duration ({timedelta(minutes=1)})"]


def test_the_rate_of_errors_is_judged_from_a_hundred_requests_on(live: Callable[..., Live], said: list[str]) -> None:
    counts = live(error_rate=0.5)
    for _ in range(99):
        counts.ended("h", State.DEAD, "server_error")
        counts.ended("h", State.EXCLUDED, "robots")
    assert not said
    counts.ended("h", State.FETCHED)
    assert said == ["limits.error_rate (0.5): 99 of 100 requests failed"]


def test_pages_that_are_gone_are_no_errors_that_end_a_crawl(live: Callable[..., Live], said: list[str]) -> None:
    counts = live(error_rate=0.5)
    for _ in range(100):
        counts.ended("h", State.DEAD, "gone")
        counts.ended("h", State.DEAD, "dns")
    assert not said
    counts.ended("h", State.DEAD, "dns")
    assert said == ["limits.error_rate (0.5): 101 of 201 requests failed"]


def test_a_crawl_of_very_many_hosts_is_counted_in_flat_memory(live: Callable[..., Live]) -> None:
    counts = live()
    for number in range(HOSTS + 500):
        counts.ended(f"h{number}", State.FETCHED)
        counts.ended("h0", State.DEAD, "gone")
    assert len(counts.hosts) == HOSTS + 1
    assert counts.hosts[OTHER_HOSTS] == {"fetched": 500}
    assert counts.worst_hosts(2) == {"h0": {"fetched": 1, "dead": HOSTS + 500}, OTHER_HOSTS: {"fetched": 500}}


def test_what_is_shown_can_be_asked_for_while_another_thread_counts(live: Callable[..., Live]) -> None:
    states = [(state, reason) for state in State for reason in map(str, range(20))]
    told = [
        Tally(f"h{n}", start=False, state=state, reason=reason, count=1) for n, (state, reason) in enumerate(states)
    ]
    counts, over = live(), threading.Event()

    def count() -> None:
        while not over.is_set():
            counts.recount(told, {})

    with ThreadPoolExecutor(1) as pool, switching_often():
        counting = pool.submit(count)
        try:
            for _ in range(3000):
                assert set(counts.progress().states) <= {"pending", *(state.name.lower() for state in State)}
        finally:
            over.set()
        counting.result()


@contextmanager
def switching_often() -> Iterator[None]:
    """Threads take turns in the midst of anything."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def test_the_time_to_the_end_follows_the_pace_of_the_last_minute(live: Callable[..., Live], clock: Clock) -> None:
    counts = live()
    counts.discovered(1000)
    assert counts.eta is None
    for second in range(200):
        clock.now += 1
        for _ in range(5 if second < 100 else 1):
            counts.ended("h", State.FETCHED)
        counts.discovered(1)
        counts.ended("h", State.EXCLUDED, "off_site")
        counts.tick()
    assert counts.pending == 400
    assert counts.eta == pytest.approx(400)
    for _ in range(int(PACE_SECONDS) + 1):
        clock.now += 1
        counts.tick()
    assert counts.eta is None, "nothing moves"


def test_what_is_shown_is_what_was_counted(live: Callable[..., Live], clock: Clock) -> None:
    counts = live(worked=10.0)
    clock.now += 10
    counts.discovered(4)
    counts.ended("h", State.FETCHED, url=f"{SITE}/1")
    counts.ended("h", State.DEAD, "dns", url=f"{SITE}/2")
    counts.ended("h", State.EXCLUDED, "off_site", start=True)
    counts.recorded(3, not_kept=1)
    counts.received(77)
    told = counts.progress()
    assert (told.pages, told.errors, told.pending, told.records, told.dropped, told.bytes) == (1, 2, 1, 3, 1, 77)
    assert (told.elapsed_s, told.rate, told.last_url, told.state) == (20.0, 0.05, f"{SITE}/1", "running")


@settings(max_examples=40, deadline=None)
@given(requests=REQUESTS)
def test_counts_that_followed_the_crawl_are_those_of_its_store(
    requests: list[tuple[bool, str, tuple[State, str]]],
) -> None:
    with TemporaryDirectory() as folder, closing(SqliteFrontier(Path(folder, "frontier.sqlite"))) as frontier:
        history, followed = History(frontier), Live(Limits())
        for number, (seed, _, (state, reason)) in enumerate(requests):
            history.ask(f"/{number}", state, reason, seed=seed, host=f"h{number % 3}")
            followed.discovered(1)
            if state.is_terminal:
                followed.ended(f"h{number % 3}", state, reason, start=seed)
                followed.recorded(state is State.FETCHED)
        history.crawl()
        counted = Live(Limits(), frontier.tallies(), frontier.counters())
        for name in ("pending", "pages", "judged", "records", "states", "reasons", "hosts"):
            assert getattr(followed, name) == getattr(counted, name), name
        assert counted.states == Counter(end[0] for _, _, end in requests if end[0].is_terminal)
