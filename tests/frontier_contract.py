"""What every store of the frontier keeps, whatever it is made of: a suite to be run on each.

`FrontierContract` is inherited by a test class that has a fixture `store`; `machine` makes the state machine that
compares a store with a model in memory. Nothing here knows a store's own means.
"""

import itertools
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gossamer.crawl.frontier import (
    CRASHES_POISON,
    CRASHES_SUSPECT,
    TRANSITIONS,
    Ending,
    FencedError,
    Frontier,
    FrontierError,
    Lease,
    NewRecord,
    NewRequest,
    Output,
    Segment,
    State,
    TransitionError,
    Unit,
)

FETCHED = Ending(State.FETCHED, status=200, ended_at=1.0)


class Store(Protocol):
    """Where a frontier lies, for tests."""

    def open(self, *, first_in_first_out: bool = False) -> Frontier:
        """Opens it, as another process would: whoever had it open has lost it."""

    def restore(self, snapshot: Path) -> Frontier:
        """Opens a store of its own, that was made of a snapshot."""


def request(path: str, host: str = "a.example", **known: Any) -> NewRequest:
    url = f"https://{host}{path}"
    return NewRequest(**{"body": url.encode(), "url": url, "host": host, "fingerprint": url.encode(), **known})


def ask(frontier: Frontier, *requests: NewRequest) -> None:
    frontier.commit([Unit(outputs=requests)])


def dead(reason: str = "server_error", **known: Any) -> Ending:
    return Ending(State.DEAD, reason, ended_at=2.0, **known)


def paths(leases: Iterable[Lease]) -> list[str]:
    return [lease.url.partition(".example")[2] for lease in leases]


def settle(frontier: Frontier, limit: int = 2000) -> int:
    return sum(iter(lambda: frontier.settle(limit), 0))


def counted(frontier: Frontier) -> Counter[State]:
    counts: Counter[State] = Counter()
    for tally in frontier.tallies():
        counts[tally.state] += tally.count
    return +counts


def crash(store: Store, frontier: Frontier) -> Frontier:
    """The process dies; another one opens the store."""
    frontier.close()
    return store.open()


def content(frontier: Frontier) -> dict[str, Any]:
    """Everything that a frontier tells, apart from what leases change."""
    tallies: Counter[tuple[str, bool, State, str]] = Counter()
    for tally in frontier.tallies():
        tallies[tally.host, tally.start, max(tally.state, State.LEASED), tally.reason] += tally.count
    return {
        "tallies": tallies,
        "calls": [
            (url, callback, max(state, State.LEASED), reason) for url, callback, state, reason in frontier.calls()
        ],
        "failures": [
            (one.id, one.url, one.state, one.reason, one.status, one.message, one.body_sample, one.ended_at, one.seed)
            for one in frontier.failures()
        ],
        "records": frontier.waiting_records(10_000),
        "waiting": frontier.waiting(),
        "segments": frontier.segments(),
        "retracted": frontier.retracted(),
        "counters": frontier.counters(),
        "settling": frontier.settling,
        "sequence": frontier.sequence,
    }


def queue(frontier: Frontier) -> dict[str, list[tuple[Any, ...]]]:
    """All that is pending, in its order, for each host; it is leased afterwards."""
    hosts: dict[str, list[tuple[Any, ...]]] = {}
    for lease in frontier.claim(100_000):
        hosts.setdefault(lease.host, []).append((lease.id, lease.body, lease.url, lease.depth, lease.seed, lease.start))
    return hosts


class FrontierContract:
    """The contract, test by test. `store` is a fixture of the class that inherits it."""

    @pytest.fixture
    def frontier(self, store: Store) -> Iterator[Frontier]:
        with closing(store.open()) as frontier:
            yield frontier

    # --- Order and fairness ---------------------------------------------------------------------------------------

    def test_pages_come_by_priority_then_newest_first_and_start_requests_in_their_order(
        self, frontier: Frontier
    ) -> None:
        ask(frontier, request("/s1", start=True), request("/s2", start=True), request("/s3", start=True, priority=5))
        ask(frontier, request("/1"), request("/2"), request("/first", priority=9), request("/last", priority=-1))
        assert paths(frontier.claim(10)) == ["/first", "/s3", "/2", "/1", "/s1", "/s2", "/last"]

    def test_all_come_in_their_order_where_that_is_asked_for(self, store: Store) -> None:
        with closing(store.open(first_in_first_out=True)) as frontier:
            ask(frontier, request("/1"), request("/s", start=True), request("/2"), request("/first", priority=1))
            [first] = frontier.claim(1)
            frontier.commit([Unit(first.id, replacement=request("/again", fingerprint=None))])
            assert paths(frontier.claim(10)) == ["/1", "/s", "/2", "/first"]

    def test_a_retry_is_the_newest(self, frontier: Frontier) -> None:
        ask(frontier, request("/1"), request("/2"), request("/3"))
        first, *_ = frontier.claim(2)
        frontier.commit([Unit(first.id, replacement=request("/3", fingerprint=None))])
        ask(frontier, request("/4"))
        assert paths(frontier.claim(10)) == ["/4", "/3", "/1"]

    def test_a_big_host_does_not_starve_a_small_one(self, frontier: Frontier) -> None:
        ask(frontier, *(request(f"/{number}", "big.example") for number in range(100)))
        ask(frontier, request("/1", "small.example"), request("/2", "small.example"), request("/", "tiny.example"))
        assert Counter(lease.host for lease in frontier.claim(9)) == {
            "big.example": 6, "small.example": 2, "tiny.example": 1
        }  # fmt: skip

    def test_as_many_are_handed_out_as_are_asked_for(self, frontier: Frontier) -> None:
        for host, pages in (("a.example", 2), ("b.example", 2), ("c.example", 4), ("d.example", 1)):
            ask(frontier, *(request(f"/{page}", host) for page in range(pages)))
        assert len(frontier.claim(8)) == 8
        assert len(frontier.claim(8)) == 1

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 12, 40])
    def test_every_host_has_its_turn_however_many_there_are(self, frontier: Frontier, limit: int) -> None:
        hosts = [f"h{number:02}.example" for number in range(13)]
        ask(frontier, *(request(f"/{page}", host) for host in hosts for page in range(40)))
        taken = Counter(lease.host for _ in range(26) for lease in frontier.claim(limit))
        assert sum(taken.values()) == min(26 * limit, 520)
        assert set(taken) == set(hosts)
        assert max(taken.values()) - min(taken.values()) <= 26, taken

    def test_hosts_that_are_full_are_passed_over(self, frontier: Frontier) -> None:
        ask(frontier, request("/", "a.example"), request("/", "b.example"), request("/", ""), request("/2", ""))
        assert [lease.host for lease in frontier.claim(5, ["a.example", ""])] == ["b.example"]
        assert [lease.host for lease in frontier.claim(5, ["a.example"])] == ["", ""]
        assert frontier.claim(5, ["a.example"]) == []
        assert frontier.pending == 1

    def test_a_lease_says_what_is_to_be_fetched(self, frontier: Frontier) -> None:
        ask(frontier, request("/seed", start=True, seed='{"url": "/seed"}', callback="parse", depth=0))
        [lease] = frontier.claim(1)
        assert lease == Lease(
            lease.id,
            b"https://a.example/seed",
            "https://a.example/seed",
            "a.example",
            0,
            '{"url": "/seed"}',
            True,
            1,
            False,
        )
        frontier.commit([Unit(lease.id, FETCHED, outputs=[request("/child", depth=1)])])
        [child] = frontier.claim(1)
        assert (child.depth, child.start, child.seed) == (1, False, '{"url": "/seed"}')
        frontier.commit([Unit(child.id, FETCHED, outputs=[request("/grandchild"), request("/own", seed="own")])])
        assert {lease.url[17:]: lease.seed for lease in frontier.claim(2)} == {
            "/grandchild": '{"url": "/seed"}', "/own": "own"
        }  # fmt: skip

    def test_a_request_that_goes_back_to_nothing_is_its_own_seed(self, frontier: Frontier) -> None:
        ask(frontier, request("/", start=True), request("/idle"))
        assert {lease.seed for lease in frontier.claim(2)} == {"https://a.example/", "https://a.example/idle"}

    # --- Units ----------------------------------------------------------------------------------------------------

    def test_a_unit_is_visible_with_its_commit_and_whole(self, frontier: Frontier) -> None:
        ask(frontier, request("/"))
        [lease] = frontier.claim(1)
        assert (frontier.pending, frontier.waiting()) == (0, 0)
        outputs: list[Output] = [request("/1"), NewRecord("a"), request("/2"), NewRecord("b"), request("/1")]
        doubled = frontier.commit(
            [Unit(lease.id, FETCHED, outputs=outputs, start_key=b"k", counters={"bytes": 5}, values={"v": b"1"})]
        )
        assert doubled == [1]
        assert counted(frontier) == {State.FETCHED: 1, State.PENDING: 2}
        assert [(record.request, record.data) for record in frontier.waiting_records(9)] == [
            (lease.id, "a"),
            (lease.id, "b"),
        ]
        assert frontier.counters() == {"bytes": 5, "records": 2, "duplicates": 1}
        assert (frontier.get("v"), frontier.get("w")) == (b"1", None)
        assert frontier.started(b"k") and not frontier.started(b"l")

    def test_a_group_with_one_bad_unit_leaves_nothing_behind(self, frontier: Frontier) -> None:
        ask(frontier, request("/"), request("/pending"))
        [lease] = frontier.claim(1)
        before = content(frontier)
        bad = Unit(lease.id + 1000, FETCHED)
        with pytest.raises(TransitionError):
            frontier.commit([Unit(lease.id, FETCHED, outputs=[request("/1"), NewRecord("a")], values={"v": b""}), bad])
        assert content(frontier) == before
        assert not frontier.seen(b"https://a.example/1")
        assert frontier.get("v") is None
        frontier.commit([Unit(lease.id, FETCHED)])

    def test_links_that_are_known_are_dropped_and_counted_in_a_group_and_later(self, frontier: Frontier) -> None:
        ask(frontier, request("/"), request("/other"))
        first, second = frontier.claim(2)
        links = [request(f"/{number}") for number in range(700)]
        doubled = frontier.commit(
            [Unit(first.id, FETCHED, outputs=links), Unit(second.id, FETCHED, outputs=links[:600])]
        )
        assert doubled == [0, 600]
        assert frontier.commit([Unit(outputs=[*links, request("/new"), request("/0", fingerprint=None)])]) == [700]
        assert frontier.pending == 702
        assert frontier.counters()["duplicates"] == 1300
        assert frontier.seen(b"https://a.example/0")

    def test_where_requests_were_redirected_to_is_known_as_theirs(self, frontier: Frontier) -> None:
        ask(frontier, request("/from"))
        [lease] = frontier.claim(1)
        ran = request("/ran", body=b"", ending=Ending(State.FETCHED), also=(b"further", b"https://a.example/from"))
        frontier.commit([Unit(lease.id, replacement=request("/to"), outputs=[ran])])
        [lease] = frontier.claim(1)
        frontier.commit([Unit(lease.id, FETCHED, also=(b"in memory", b"further"))])
        assert frontier.seen(b"in memory") == lease.id
        assert frontier.seen(b"https://a.example/from") == frontier.seen(b"https://a.example/to") == lease.id
        assert frontier.seen(b"further") == frontier.seen(b"https://a.example/ran")
        assert frontier.seen(b"further") not in (None, lease.id)
        assert frontier.seen(b"https://a.example/elsewhere") is None
        frontier.stage("k", None, [request("/late", body=b"", ending=Ending(State.FETCHED), also=(b"later",))])
        frontier.commit([Unit(staged="k")])
        settle(frontier)
        assert frontier.seen(b"later") is not None
        assert frontier.commit([Unit(outputs=[request("/x", fingerprint=b"later")])]) == [1]

    def test_what_a_rule_excludes_is_counted_once_and_what_ran_in_memory_always(self, frontier: Frontier) -> None:
        excluded, fetched = Ending(State.EXCLUDED, "robots"), Ending(State.FETCHED)
        outputs = [
            request("/private", body=b"", ending=excluded),
            request("/private", body=b"", ending=excluded),
            request("/private"),
            request("/lambda", body=b"", ending=fetched),
            request("/lambda", body=b"", ending=fetched),
            request("/lambda"),
            request("/failed", body=b"", ending=dead()),
        ]
        assert frontier.commit([Unit(outputs=outputs)]) == [3]
        assert counted(frontier) == {State.EXCLUDED: 1, State.FETCHED: 2, State.DEAD: 1}
        assert frontier.pending == 0
        assert frontier.replay() == 0, "nothing rebuilds what ran in memory"

    def test_a_redirect_stays_one_row_of_its_first_url(self, frontier: Frontier) -> None:
        ask(frontier, request("/old", start=True, seed="row"))
        [lease] = frontier.claim(1)
        frontier.commit([Unit(lease.id, replacement=request("/new", "b.example", callback="parse_new", priority=2))])
        assert frontier.pending == 1
        [again] = frontier.claim(1)
        assert (again.id, again.body, again.url) == (lease.id, b"https://b.example/new", "https://a.example/old")
        assert (again.host, again.start, again.seed, again.attempts) == ("b.example", True, "row", 2)
        frontier.commit([Unit(again.id, Ending(State.FETCHED, url="https://b.example/new"), outputs=[request("/x")])])
        assert frontier.commit([Unit(outputs=[request("/new", "b.example")])]) == [1], "where it led is known"
        [tally] = [tally for tally in frontier.tallies() if tally.state is State.FETCHED]
        assert (tally.host, tally.start, tally.count) == ("b.example", True, 1)
        assert counted(frontier) == {State.FETCHED: 1, State.PENDING: 1}

    def test_a_redirect_to_a_known_page_ends_there(self, frontier: Frontier) -> None:
        ask(frontier, request("/old", start=True), request("/known"))
        known, old = frontier.claim(2)
        frontier.commit([Unit(old.id, replacement=request("/known"), outputs=[NewRecord("kept")])])
        assert counted(frontier) == {State.REDIRECTED: 1, State.LEASED: 1}
        [failure] = frontier.failures()
        assert (failure.url, failure.state, failure.reason) == ("https://a.example/old", State.REDIRECTED, "")
        assert frontier.waiting() == 1
        frontier.commit([Unit(known.id, FETCHED)])

    def test_a_page_that_redirects_to_itself_or_back_is_fetched_again(self, frontier: Frontier) -> None:
        ask(frontier, request("/a"))
        for path in ("/a", "/b", "/a"):
            [lease] = frontier.claim(1)
            frontier.commit([Unit(lease.id, replacement=request(path))])
        assert counted(frontier) == {State.PENDING: 1}

    def test_redirects_and_links_of_one_group_meet_in_the_order_of_the_units(self, frontier: Frontier) -> None:
        ask(frontier, request("/1"), request("/2"), request("/3"))
        units = [Unit(lease.id, replacement=request("/to")) for lease in frontier.claim(2)]
        [third] = frontier.claim(1)
        assert frontier.commit([*units, Unit(third.id, FETCHED, outputs=[request("/to")])]) == [0, 1, 1]
        assert counted(frontier) == {State.PENDING: 1, State.REDIRECTED: 1, State.FETCHED: 1}

    # --- Staged outputs -------------------------------------------------------------------------------------------

    def test_staged_outputs_are_seen_by_nobody_before_the_commit(self, frontier: Frontier) -> None:
        ask(frontier, request("/", start=True, seed="row"))
        [lease] = frontier.claim(1)
        links: list[Output] = [request(f"/{number}") for number in range(2500)]
        frontier.stage("unit", lease.id, [*links, NewRecord("a")])
        frontier.stage("unit", lease.id, [request("/1"), NewRecord("b")])
        frontier.stage("other", None, [request("/never")])
        assert not frontier.settling
        assert frontier.settle() == 0
        assert (frontier.pending, frontier.waiting(), frontier.seen(b"https://a.example/1")) == (0, 0, None)
        assert frontier.commit([Unit(lease.id, FETCHED, outputs=[NewRecord("c")], staged="unit")]) == [0]
        assert frontier.settling
        assert [frontier.settle(1000) for _ in range(4)] == [1000, 1000, 503, 0]
        assert not frontier.settling
        assert frontier.pending == 2500
        assert sorted(record.data for record in frontier.waiting_records(9)) == ["a", "b", "c"]
        assert frontier.counters() == {"records": 3, "duplicates": 1}
        assert {lease.seed for lease in frontier.claim(2500)} == {"row"}

    def test_a_crash_forgets_what_was_staged_and_not_committed_and_goes_on_with_what_was(self, store: Store) -> None:
        frontier = store.open()
        ask(frontier, request("/a"), request("/b"))
        b, a = frontier.claim(2)
        frontier.stage("a", a.id, [request("/of-a"), NewRecord("a")])
        frontier.stage("b", b.id, [request("/of-b"), NewRecord("b")])
        frontier.commit([Unit(a.id, FETCHED, staged="a")])
        frontier = crash(store, frontier)
        assert frontier.settling
        assert settle(frontier, 1) == 2
        assert sorted(paths(frontier.claim(5))) == ["/b", "/of-a"]
        frontier.stage("b", b.id, [NewRecord("b again")])
        frontier.commit([Unit(b.id, FETCHED, staged="b")])
        settle(frontier)
        assert [record.data for record in frontier.waiting_records(5)] == ["a", "b again"]
        frontier.close()

    # --- Crashes --------------------------------------------------------------------------------------------------

    def test_what_was_under_way_when_the_process_died_is_fetched_again(self, store: Store) -> None:
        frontier = store.open()
        ask(frontier, request("/1"), request("/2"), request("/3"))
        done, lost = frontier.claim(2)
        frontier.commit([Unit(done.id, FETCHED)])
        frontier = crash(store, frontier)
        assert frontier.pending == 2
        leases = frontier.claim(5)
        assert [(lease.id, lease.attempts, lease.alone) for lease in leases if lease.id == lost.id] == [
            (lost.id, 2, False)
        ]
        assert len(leases) == 2
        frontier.close()

    def test_leases_that_are_given_back_count_no_crash(self, store: Store) -> None:
        frontier = store.open()
        ask(frontier, request("/1"), request("/2"))
        for _ in range(CRASHES_POISON + 1):
            leases = frontier.claim(5)
            assert [(lease.attempts, lease.alone) for lease in leases] == [(1, False)] * 2
            assert paths(leases) == ["/2", "/1"]
            frontier.release([lease.id for lease in leases])
            frontier = crash(store, frontier)
        frontier.close()

    def test_a_page_that_kills_the_process_is_found_and_set_aside_and_no_other_is(self, store: Store) -> None:
        frontier = store.open()
        ask(frontier, *(request(f"/{number}") for number in range(4)), request("/poison"), request("/5"))
        deaths, alone = 0, 0
        while leases := frontier.claim(3):
            alone += leases[0].alone
            if leases[0].alone:
                assert len(leases) == 1
                assert frontier.claim(3) == [], "nothing else beside it"
            if any(lease.url.endswith("/poison") for lease in leases):
                deaths += 1
                frontier = crash(store, frontier)
            else:
                frontier.commit([Unit(lease.id, FETCHED) for lease in leases])
        assert deaths == CRASHES_POISON
        assert alone >= CRASHES_POISON - CRASHES_SUSPECT
        assert counted(frontier) == {State.FETCHED: 5, State.DEAD: 1}
        [failure] = frontier.failures()
        assert (failure.url, failure.reason) == ("https://a.example/poison", "process_died")
        assert f"died {CRASHES_POISON} times" in failure.message
        assert frontier.replay() == 1
        [again] = frontier.claim(5)
        assert again.alone, "what killed the process before runs alone"
        frontier.close()

    def test_a_suspect_waits_until_everything_else_is_over(self, store: Store) -> None:
        frontier = store.open()
        ask(frontier, request("/1"))
        for _ in range(CRASHES_SUSPECT):
            frontier.claim(1)
            frontier = crash(store, frontier)
        ask(frontier, request("/2"), request("/3", "b.example"))
        assert frontier.claim(5, ["a.example"]) == []
        [suspect] = frontier.claim(5)
        assert (suspect.url, suspect.alone) == ("https://a.example/1", True)
        frontier.commit([Unit(suspect.id, replacement=request("/1", fingerprint=None))])
        assert [lease.alone for lease in frontier.claim(5)] == [False] * 3, "it did not kill the process"
        frontier.close()

    # --- Fencing --------------------------------------------------------------------------------------------------

    def test_who_has_lost_the_crawl_can_do_nothing_more(self, store: Store, tmp_path: Path) -> None:
        old = store.open()
        ask(old, request("/1"), request("/2"))
        lease, _ = old.claim(2)
        old.stage("unit", lease.id, [NewRecord("a")])
        new = store.open()
        before = content(new)
        doings: list[Callable[[], object]] = [
            lambda: old.claim(1),
            lambda: old.release([lease.id]),
            lambda: old.commit([Unit(lease.id, FETCHED, outputs=[NewRecord("a")])]),
            lambda: old.commit([Unit(outputs=[request("/3")])]),
            lambda: old.stage("unit", lease.id, [NewRecord("b")]),
            lambda: old.put("name", b""),
            lambda: old.flushed(Segment("a", 1, 2, 1)),
            lambda: old.exclude_rest("limit"),
            lambda: old.replay(),
            lambda: old.seen(b"1"),
            lambda: old.started(b"1"),
            lambda: old.get("name"),
            lambda: old.waiting_records(1),
            lambda: old.waiting(),
            lambda: old.segments(),
            lambda: old.retracted(),
            lambda: old.tallies(),
            lambda: old.count_rows(),
            lambda: old.counters(),
            lambda: next(old.failures()),
            lambda: next(old.calls()),
            lambda: old.snapshot(tmp_path / "copy"),
        ]
        for doing in doings:
            with pytest.raises(FencedError):
                doing()
        old.close()
        assert content(new) == before
        assert len(new.claim(5)) == 2
        new.close()

    # --- Transitions ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize(
        ("operation", "goal"),
        [
            ("claim", State.LEASED),
            ("release", State.PENDING),
            ("exclude_rest", State.EXCLUDED),
            ("replay", State.PENDING),
            *(("commit", goal) for goal in State),
        ],
    )
    def test_a_request_moves_only_along_the_table(
        self, frontier: Frontier, state: State, operation: str, goal: State
    ) -> None:
        ask(frontier, request("/"))
        [lease] = frontier.claim(1)
        if state is State.PENDING:
            frontier.release([lease.id])
        elif state.is_terminal:
            frontier.commit([Unit(lease.id, Ending(state, "reason"))])
        before = content(frontier)
        replaced = Unit(lease.id, replacement=request("/again", fingerprint=None))
        operate: dict[str, Callable[[], object]] = {
            "claim": lambda: frontier.claim(1),
            "release": lambda: frontier.release([lease.id]),
            "exclude_rest": lambda: frontier.exclude_rest("limit"),
            "replay": lambda: frontier.replay(),
            "commit": lambda: frontier.commit(
                [replaced if goal is State.PENDING else Unit(lease.id, Ending(goal, "reason"))]
            ),
        }
        allowed = operation in TRANSITIONS[state].get(goal, "")
        if operation in ("commit", "release") and not allowed:
            with pytest.raises(TransitionError):
                operate[operation]()
            assert content(frontier) == before
        else:
            operate[operation]()
            assert counted(frontier) == frontier.count_rows() == {goal if allowed else state: 1}

    @pytest.mark.parametrize(
        "unit",
        [
            Unit(1),
            Unit(1, FETCHED, request("/again")),
            Unit(None, FETCHED),
            Unit(None, replacement=request("/again")),
            Unit(outputs=[request("/", ending=Ending(State.LEASED))]),
        ],
    )
    def test_a_unit_that_makes_no_sense_is_refused(self, frontier: Frontier, unit: Unit) -> None:
        ask(frontier, request("/"))
        [lease] = frontier.claim(1)
        unit = Unit(lease.id if unit.request else None, unit.ending, unit.replacement, unit.outputs)
        with pytest.raises(TransitionError):
            frontier.commit([unit])
        assert counted(frontier) == {State.LEASED: 1}

    # --- Records --------------------------------------------------------------------------------------------------

    def test_waiting_records_are_told_in_pieces_of_so_much_data_but_always_one(self, store: Store) -> None:
        frontier = store.open()
        assert frontier.waiting_records(5, 10) == []
        frontier.commit([Unit(outputs=[NewRecord(data) for data in ("12345", "ä678", "9" * 11, "", "b", "c")])])
        pieces = []
        while records := frontier.waiting_records(3, 10):
            pieces.append([record.data for record in records])
            frontier.flushed(Segment(records[0].data, records[0].id, records[-1].id, len(records)))
        assert pieces == [["12345", "ä678"], ["9" * 11], ["", "b", "c"]]
        frontier.close()

    def test_records_leave_the_store_when_their_segment_counts(self, store: Store) -> None:
        frontier = store.open()
        frontier.commit([Unit(outputs=[NewRecord(str(number)) for number in range(10)])])
        first = frontier.waiting_records(4)
        frontier.flushed(Segment("1.parquet", first[0].id, first[-1].id, 4))
        frontier = crash(store, frontier)
        rest = frontier.waiting_records(100)
        assert [record.data for record in rest] == ["4", "5", "6", "7", "8", "9"]
        assert {record.request for record in rest} == {0}
        assert frontier.waiting() == 6
        frontier.flushed(Segment("2.parquet", rest[0].id, rest[-1].id, 6))
        frontier.commit([Unit(outputs=[NewRecord("10")])])
        [last] = frontier.waiting_records(100)
        assert last.id > rest[-1].id, "an id is given once"
        assert frontier.segments() == [
            Segment("1.parquet", first[0].id, first[-1].id, 4), Segment("2.parquet", rest[0].id, rest[-1].id, 6)
        ]  # fmt: skip
        assert frontier.counters()["records"] == 11
        frontier.close()

    def test_a_page_that_is_replayed_before_all_its_outputs_have_moved_has_each_record_once(
        self, frontier: Frontier
    ) -> None:
        ask(frontier, request("/"))
        for _ in range(2):
            [lease] = frontier.claim(1)
            frontier.stage("unit", lease.id, [NewRecord("a"), NewRecord("b")])
            frontier.commit([Unit(lease.id, dead("parse_error"), outputs=[NewRecord("c")], staged="unit")])
            assert frontier.replay() == 1
        [lease] = frontier.claim(1)
        frontier.commit([Unit(lease.id, FETCHED, outputs=[NewRecord("d")])])
        settle(frontier)
        [record] = frontier.waiting_records(10)
        assert record.data == "d"
        assert frontier.counters()["records"] == 1

    def test_records_of_a_page_that_is_replayed_count_no_more_wherever_they_are(self, frontier: Frontier) -> None:
        ask(frontier, request("/a"), request("/b"))
        b, a = frontier.claim(2)
        frontier.commit([Unit(a.id, dead("parse_error"), outputs=[NewRecord("a1"), NewRecord("a2")])])
        flushed = frontier.waiting_records(9)
        frontier.flushed(Segment("1.parquet", flushed[0].id, flushed[-1].id, 2))
        frontier.commit([Unit(b.id, dead("parse_error"), outputs=[NewRecord("b1")])])
        assert frontier.counters()["records"] == 3
        assert frontier.replay() == 2
        assert (frontier.waiting(), frontier.counters()["records"]) == (0, 0)
        retracted = dict(frontier.retracted())
        assert retracted[a.id] >= flushed[-1].id
        for lease in frontier.claim(2):
            frontier.commit([Unit(lease.id, FETCHED, outputs=[NewRecord(lease.url)])])
        assert all(record.id > retracted.get(record.request, 0) for record in frontier.waiting_records(9))
        assert frontier.counters()["records"] == frontier.waiting() == 2

    # --- The books ------------------------------------------------------------------------------------------------

    def test_dead_letters_say_what_happened(self, frontier: Frontier) -> None:
        ask(frontier, request("/dead", callback="parse", start=True, seed="row"), request("/robots", start=True))
        ask(frontier, request("/fine"), request("/left"))
        leases = {lease.url[17:]: lease for lease in frontier.claim(3)}
        ending = dead("parse_error", status=200, message="half a \ud83d character", body_sample="<html>\0")
        frontier.commit([Unit(leases["/dead"].id, ending), Unit(leases["/fine"].id, FETCHED)])
        robots = Ending(State.EXCLUDED, "robots", ended_at=3.0)
        frontier.commit(
            [Unit(None, outputs=[request("/no", ending=robots), request("/seed", start=True, ending=robots)])]
        )
        assert frontier.exclude_rest("limit") == 2
        failures = {failure.url[17:]: failure for failure in frontier.failures()}
        assert list(failures) == ["/dead", "/robots", "/seed"]
        assert failures["/dead"].message == "half a ? character"
        assert failures["/dead"].body_sample == "<html>\0"
        one = failures["/dead"]
        assert (one.callback, one.state, one.reason, one.status) == ("parse", State.DEAD, "parse_error", 200)
        assert (one.attempts, one.ended_at, one.start, one.seed) == (1, 2.0, True, "row")
        assert failures["/robots"].reason == "limit"
        assert counted(frontier) == {State.DEAD: 1, State.FETCHED: 1, State.EXCLUDED: 4}

    def test_many_requests_are_told_one_by_one(self, frontier: Frontier) -> None:
        requests = [request(f"/{number}", callback="parse", ending=dead("gone")) for number in range(2345)]
        ask(frontier, *requests)
        assert [failure.url for failure in frontier.failures()] == [one.url for one in requests]
        assert [url for url, *_ in frontier.calls()] == [one.url for one in requests]

    def test_what_is_left_is_excluded_and_nothing_comes_after(self, frontier: Frontier) -> None:
        ask(frontier, request("/1"), request("/2"), request("/3"))
        first, second = frontier.claim(2)
        frontier.stage("over", first.id, [request(f"/s{number}") for number in range(3)])
        frontier.stage("open", second.id, [request("/never"), NewRecord("never")])
        frontier.commit([Unit(first.id, FETCHED, staged="over")])
        assert frontier.exclude_rest("limit") == 5
        assert counted(frontier) == frontier.count_rows() == {State.FETCHED: 1, State.EXCLUDED: 5}
        assert (frontier.pending, frontier.settling, frontier.claim(5)) == (0, False, [])
        with pytest.raises(TransitionError):
            frontier.commit([Unit(second.id, FETCHED, staged="open")])
        assert frontier.exclude_rest("limit") == 0
        assert not frontier.seen(b"https://a.example/never")

    def test_replay_takes_the_reasons_and_urls_that_are_asked_for(self, frontier: Frontier) -> None:
        ask(frontier, *(request(f"/{number}") for number in range(4)))
        reasons = ["timed_out", "gone", "gone", "timed_out"]
        leases = sorted(frontier.claim(4), key=lambda lease: lease.url)
        frontier.commit([Unit(lease.id, dead(reason)) for lease, reason in zip(leases, reasons, strict=True)])
        assert frontier.replay(["dns"]) == frontier.replay(["timed_out"], ["https://a.example/1"]) == 0
        assert frontier.replay(["gone"], ["https://a.example/1", "https://a.example/3"]) == 1
        assert frontier.replay(["timed_out"]) == 2
        assert sorted(paths(frontier.claim(9))) == ["/0", "/1", "/3"]
        assert [failure.url for failure in frontier.failures()] == ["https://a.example/2"]
        assert frontier.replay() == 1

    # --- Copies ---------------------------------------------------------------------------------------------------

    def test_a_snapshot_and_the_changes_since_are_the_store(self, store: Store, tmp_path: Path) -> None:
        frontier, told = store.open(), list[bytes]()
        ask(frontier, *(request(f"/{number}", start=True) for number in range(6)))
        leases = frontier.claim(5)
        frontier.stage("unit", leases[0].id, [request(f"/s{number}") for number in range(5)])
        frontier.stage("lost", leases[1].id, [NewRecord("never")])
        frontier.put("cookies", b"1")
        frontier.log = told.append
        assert frontier.snapshot(tmp_path / "copy") == frontier.sequence
        frontier.commit([Unit(leases[0].id, FETCHED, staged="unit", outputs=[NewRecord("a")], counters={"bytes": 7})])
        assert frontier.settle(2) == 2
        frontier.commit([Unit(leases[1].id, dead(), outputs=[NewRecord("b")], start_key=b"k")])
        frontier.commit([Unit(leases[2].id, replacement=request("/elsewhere", "b.example"))])
        record, *_ = frontier.waiting_records(5)
        frontier.flushed(Segment("1.parquet", record.id, record.id, 1))
        frontier.put("cookies", b"2")
        frontier.replay()
        frontier.release([lease.id for lease in leases[3:]])
        with closing(store.restore(tmp_path / "copy")) as restored:
            for change in [*told, *told[-2:]]:
                restored.apply(change)
            assert restored.get("cookies") == b"2"
            assert restored.started(b"k")
            assert content(restored) == content(frontier)
            assert settle(restored) == settle(frontier)
            ask(restored, request("/last"))
            ask(frontier, request("/last"))
            assert queue(restored) == queue(frontier)
        frontier.close()

    def test_a_change_that_is_missing_is_not_passed_over(self, store: Store, tmp_path: Path) -> None:
        frontier, told = store.open(), list[bytes]()
        frontier.snapshot(tmp_path / "copy")
        frontier.log = told.append
        for name in ("a", "b", "c"):
            frontier.put(name, b"")
        frontier.close()
        with closing(store.restore(tmp_path / "copy")) as restored:
            restored.apply(told[0])
            with pytest.raises(FrontierError, match="changes 2 to 2"):
                restored.apply(told[2])

    def test_a_snapshot_that_is_made_while_commits_go_on_is_of_one_moment(self, store: Store, tmp_path: Path) -> None:
        """Each unit has one page and one record; wherever the copy was made, they are as many."""
        frontier, sequences = store.open(), list[int]()

        def copy() -> None:
            for number in range(5):
                sequences.append(frontier.snapshot(tmp_path / str(number)))

        thread = threading.Thread(target=copy)
        thread.start()
        for number in itertools.count():
            outputs: list[Output] = [
                NewRecord("x"),
                *(request(f"/{number}-{link}", ending=FETCHED) for link in range(20)),
            ]
            frontier.commit([Unit(outputs=outputs)])
            if not thread.is_alive():
                break
        thread.join()
        frontier.close()
        assert len(sequences) == 5
        assert sequences[-1] > sequences[0]
        for number, sequence in enumerate(sequences):
            with closing(store.restore(tmp_path / str(number))) as restored:
                assert restored.sequence == restored.waiting() == sequence
                assert restored.count_rows().get(State.FETCHED, 0) == 20 * sequence


# --- The state machine ------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Row:
    """A request in the model."""

    url: str
    host: str
    start: bool
    seed: str
    body: bytes
    priority: int
    rank: int
    state: State = State.PENDING
    reason: str = ""
    crashes: int = 0
    records: int = 0
    id: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return -self.priority, self.rank


@dataclass
class Model:
    """A frontier in memory, written for plainness."""

    rows: list[Row] = field(default_factory=list)
    known: dict[bytes, Row] = field(default_factory=dict)
    waiting: list[Row | None] = field(default_factory=list)
    staged: list[tuple[str, Row, Output]] = field(default_factory=list)
    over: set[str] = field(default_factory=set)
    places: int = 0
    records: int = 0
    flushed: int = 0
    duplicates: int = 0

    def of(self, *states: State) -> list[Row]:
        return [row for row in self.rows if row.state in states]

    def place(self, *, start: bool) -> int:
        self.places += 1
        return self.places if start else -self.places

    def take(self, parent: Row | None, output: Output) -> bool:
        """Whether it was new."""
        if isinstance(output, NewRecord):
            self.waiting.append(parent)
            self.records += 1
            if parent:
                parent.records += 1
            return True
        known = output.fingerprint in self.known
        if known and (output.ending is None or output.ending.state is State.EXCLUDED):
            self.duplicates += 1
            return False
        seed = output.seed or (parent.seed if parent else output.url)
        row = Row(
            output.url, output.host, output.start, seed, output.body, output.priority, self.place(start=output.start)
        )
        if output.ending:
            row.state, row.reason = output.ending.state, output.ending.reason
        self.rows.append(row)
        if output.fingerprint is not None and not known:
            self.known[output.fingerprint] = row
        return True

    def replace(self, row: Row, new: NewRequest) -> None:
        if new.fingerprint is not None and self.known.setdefault(new.fingerprint, row) is not row:
            row.state = State.REDIRECTED
            return
        row.state, row.crashes, row.body, row.host, row.priority = State.PENDING, 0, new.body, new.host, new.priority
        row.rank = self.place(start=row.start)

    def settle(self, limit: int) -> int:
        moved = [entry for entry in self.staged if entry[0] in self.over][:limit]
        for entry in moved:
            self.take(entry[1], entry[2])
            self.staged.remove(entry)
        self.over &= {key for key, _, _ in self.staged}
        return len(moved)

    def crash(self) -> None:
        for row in self.of(State.LEASED):
            row.crashes += 1
            row.state, row.reason = State.PENDING, ""
            if row.crashes >= CRASHES_POISON:
                row.state, row.reason = State.DEAD, "process_died"
        self.staged = [entry for entry in self.staged if entry[0] in self.over]


HOSTS = ("a.example", "b.example", "c.example")
_BODIES = itertools.count(1)
_KEYS = itertools.count(1)


def _draw_request(draw: Any, known: bool | None = None, **more: Any) -> NewRequest:
    host, path = draw(st.sampled_from(HOSTS)), draw(st.integers(0, 9))
    fingerprint = f"{host}/{path}".encode() if draw(st.booleans()) or known else None
    body, priority = str(next(_BODIES)).encode(), draw(st.integers(-1, 1))
    return NewRequest(body, f"https://{host}/{path}", host, "parse", fingerprint, priority, **more)


@st.composite
def links(draw: Any) -> NewRequest:
    return _draw_request(draw, start=draw(st.integers(0, 4)) == 0)


@st.composite
def outputs_of_units(draw: Any) -> list[Output]:
    ends = st.sampled_from([None, None, None, FETCHED, Ending(State.EXCLUDED, "robots"), dead()])
    return [
        NewRecord("r") if draw(st.integers(0, 2)) == 0 else _draw_request(draw, ending=draw(ends))
        for _ in range(draw(st.integers(0, 5)))
    ]


ENDINGS = st.sampled_from(
    [FETCHED, FETCHED, dead(), dead("gone"), Ending(State.EXCLUDED, "robots"), Ending(State.REDIRECTED)]
)


def machine(new_store: Callable[[Path], Store]) -> type[RuleBasedStateMachine]:
    """The state machine for the stores that `new_store` makes in a folder of their own."""

    class FrontierMachine(RuleBasedStateMachine):
        """Random work on a store and on the model, with crashes at any step, and a copy that is kept by the log."""

        @initialize()
        def begin(self) -> None:
            self.folder = Path(tempfile.mkdtemp(prefix="frontier-"))
            self.store = new_store(self.folder)
            self.frontier = self.store.open()
            self.model = Model()
            self.leased: list[tuple[Lease, Row]] = []
            self.keys: dict[int, str] = {}
            self.copies = 0
            self.copy: Path | None = None
            self.told: list[bytes] = []

        def teardown(self) -> None:
            if hasattr(self, "frontier"):
                self.frontier.close()
                shutil.rmtree(self.folder)

        # -- work

        @rule(outputs=st.lists(links(), min_size=1, max_size=6))
        def ask(self, outputs: list[NewRequest]) -> None:
            new = [self.model.take(None, output) for output in outputs]
            assert self.frontier.commit([Unit(outputs=outputs)]) == [new.count(False)]

        @rule(limit=st.integers(0, 6), full=st.sets(st.sampled_from(HOSTS), max_size=2))
        def claim(self, limit: int, full: set[str]) -> None:
            leases = self.frontier.claim(limit, sorted(full))
            pending = self.model.of(State.PENDING)
            suspects = [row for row in pending if row.crashes >= CRASHES_SUSPECT]
            out = self.model.of(State.LEASED)
            if out and (suspects or any(row.crashes >= CRASHES_SUSPECT for row in out)):
                assert leases == []
            elif suspects:
                assert len(leases) == 1 or full or not limit
                least = min(row.crashes for row in suspects)
                assert all(lease.alone and self._row(lease).crashes == least for lease in leases)
            else:
                assert len(leases) == min(limit, sum(row.host not in full for row in pending))
                for host in HOSTS:
                    queue = sorted((row for row in pending if row.host == host), key=lambda row: row.place)
                    taken = [self._row(lease) for lease in leases if lease.host == host]
                    assert taken == queue[: len(taken)]
                    assert not (taken and host in full)
            for lease in leases:
                row = self._row(lease)
                assert row.state is State.PENDING
                assert (lease.url, lease.host, lease.seed, lease.start) == (row.url, row.host, row.seed, row.start)
                assert row.id in (0, lease.id)
                row.state, row.id = State.LEASED, lease.id
                self.leased.append((lease, row))

        def _row(self, lease: Lease) -> Row:
            [row] = [row for row in self.model.rows if row.body == lease.body]
            return row

        @precondition(lambda self: self.leased)
        @rule(data=st.data())
        def commit(self, data: st.DataObject) -> None:
            units, news = [], []
            for _ in range(data.draw(st.integers(1, 3))):
                if not self.leased:
                    break
                lease, row = self.leased.pop(data.draw(st.integers(0, len(self.leased) - 1)))
                outputs = data.draw(outputs_of_units())
                key = self.keys.pop(lease.id, None)
                unit = Unit(lease.id, outputs=outputs, staged=key, counters={"responses": 1})
                if data.draw(st.integers(0, 3)) == 0:
                    unit.replacement = _draw_request(data.draw, known=True)
                    self.model.replace(row, unit.replacement)
                else:
                    unit.ending = data.draw(ENDINGS)
                    row.state, row.reason = unit.ending.state, unit.ending.reason
                if any(entry[0] == key for entry in self.model.staged):
                    self.model.over.add(str(key))
                units.append(unit)
                known_already = unit.replacement is not None and row.state is State.REDIRECTED
                news.append([self.model.take(row, output) for output in outputs].count(False) + known_already)
            if data.draw(st.integers(0, 5)) == 0:  # a fault first: nothing of it may stay
                before = content(self.frontier)
                with pytest.raises(TransitionError):
                    self.frontier.commit([*units, Unit(10**9, FETCHED)])
                assert content(self.frontier) == before
            assert self.frontier.commit(units) == news

        @precondition(lambda self: self.leased)
        @rule(data=st.data(), outputs=outputs_of_units())
        def stage(self, data: st.DataObject, outputs: list[Output]) -> None:
            lease, row = data.draw(st.sampled_from(self.leased))
            key = self.keys.setdefault(lease.id, str(next(_KEYS)))
            self.frontier.stage(key, lease.id, outputs)
            self.model.staged += [(key, row, output) for output in outputs]

        @rule(limit=st.integers(1, 8))
        def settle(self, limit: int) -> None:
            assert self.frontier.settle(limit) == self.model.settle(limit)

        @precondition(lambda self: self.leased)
        @rule(data=st.data())
        def release(self, data: st.DataObject) -> None:
            given = [self.leased.pop(data.draw(st.integers(0, len(self.leased) - 1)))]
            self.frontier.release([lease.id for lease, _ in given])
            for lease, row in given:
                row.state = State.PENDING
                self.keys.pop(lease.id, None)

        @rule(limit=st.integers(1, 10))
        def flush(self, limit: int) -> None:
            records = self.frontier.waiting_records(limit)
            assert len(records) == min(limit, len(self.model.waiting))
            if records:
                name = str(records[0].id)
                self.frontier.flushed(Segment(name, records[0].id, records[-1].id, len(records)))
                del self.model.waiting[: len(records)]
                self.model.flushed += len(records)

        # -- what is rare

        @rule()
        def crash(self) -> None:
            """Another process takes over; the older one, if it still lives, can do nothing more."""
            old, self.frontier = self.frontier, self.store.open()
            with pytest.raises(FencedError):
                old.put("late", b"")
            old.close()
            self.frontier.log = self.told.append
            assert self.frontier.claim(0) == []
            self.model.crash()
            self.leased.clear()
            self.keys.clear()

        @precondition(lambda self: self.model.places > 25)
        @rule()
        def exclude_rest(self) -> None:
            while self.model.settle(100):
                pass
            rest = self.model.of(State.PENDING, State.LEASED)
            for row in rest:
                row.state, row.reason = State.EXCLUDED, "limit"
            self.model.staged.clear()
            self.leased.clear()
            self.keys.clear()
            assert self.frontier.exclude_rest("limit") == len(rest)

        @rule(reasons=st.sets(st.sampled_from(["server_error", "gone", "process_died"])))
        def replay(self, reasons: set[str]) -> None:
            while self.model.settle(100):
                pass
            rows = [row for row in self.model.of(State.DEAD) if not reasons or row.reason in reasons]
            for row in rows:
                self.model.records -= row.records
                row.state, row.reason, row.records = State.PENDING, "", 0
                row.crashes = min(row.crashes, CRASHES_SUSPECT)
            self.model.waiting = [row for row in self.model.waiting if row is None or row not in rows]
            assert self.frontier.replay(sorted(reasons)) == len(rows)

        @rule()
        def snapshot(self) -> None:
            self.copies += 1
            self.copy = self.folder / f"copy-{self.copies}"
            self.told.clear()
            self.frontier.log = self.told.append
            assert self.frontier.snapshot(self.copy) == self.frontier.sequence

        @precondition(lambda self: self.copy)
        @rule()
        def restore(self) -> None:
            """What the copy and the log make is the store, to the last id; the crawl goes on with it."""
            assert self.copy
            restored = self.store.restore(self.copy)
            for change in self.told:
                restored.apply(change)
            assert content(restored) == content(self.frontier)
            restored.close()
            self.copy = None

        # -- what holds at every step

        @invariant()
        def books_are_the_rows(self) -> None:
            if not hasattr(self, "frontier"):
                return
            states = Counter(row.state for row in self.model.rows)
            assert counted(self.frontier) == self.frontier.count_rows() == states
            tallies = {(one.host, one.start, one.state, one.reason): one.count for one in self.frontier.tallies()}
            assert tallies == Counter((row.host, row.start, row.state, row.reason) for row in self.model.rows)
            assert self.frontier.pending == states[State.PENDING]

        @invariant()
        def records_are_all_there(self) -> None:
            if not hasattr(self, "frontier"):
                return
            counters = self.frontier.counters()
            assert (counters["records"], counters["duplicates"]) == (self.model.records, self.model.duplicates)
            assert self.frontier.waiting() == len(self.model.waiting)
            assert self.frontier.settling == bool(self.model.over)

    return FrontierMachine
