"""A crawl that is killed, stopped, paused or robbed of its machine ends exactly as one that nobody disturbed.

Real processes and real signals, on the site of `tests/torture`; the uninterrupted crawl is made once. What one launch
does and says is in `test_crawl`; the long run of the same is `make torture`.
"""

import io
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gossamer import declarations
from gossamer.crawl.life import Wish
from gossamer.crawl.step import run_crawl
from gossamer.lake import INCOMPLETE
from tests.torture.crawls import (
    KEY,
    MOST_REPEATED,
    NAME,
    RUN,
    Kill,
    Outcome,
    Trial,
    Truth,
    Verdict,
    instants,
    kill_and_resume,
    killed,
    stock,
    take_over,
    trial,
    truth,
    wipe_and_restore,
)
from tests.torture.site import Plan

INTERRUPTED, PAUSED = 75, 76
#: Two crawls at once: half of a crawl's life is start-up and waiting.
AT_ONCE = 2
#: A small site with a page of 10,000 records and as many links; most of them lead elsewhere and are only entered.
WIDE = Plan(pages=20, fan=10_000)

T = TypeVar("T")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The crawl that nobody disturbed."""
    return truth(tmp_path_factory.mktemp("known") / "crawl")


def at_once(work: Callable[[Path, T], Verdict], cases: Sequence[T], folder: Path) -> list[Verdict]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda case: work(folder / str(case[0]), case[1]), enumerate(cases)))


def faults(verdicts: list[Verdict]) -> list[str]:
    return [f"{verdict.what}: {fault}" for verdict in verdicts for fault in verdict.faults]


def path_counts(crawl: Trial) -> Counter[str]:
    return Counter(request.path for request in crawl.site.asked())


# --- The uninterrupted crawl ------------------------------------------------------------------------------------------


def test_the_same_spider_brings_the_same_items_as_under_scrapy_itself(tmp_path: Path, known: Truth) -> None:
    under_scrapy = Counter(_fields(item) for item in stock(tmp_path / "stock"))
    here = Counter(_fields(_item(json.loads(row))) for row in known.outcome.rows.elements())
    assert here == under_scrapy
    assert len(under_scrapy) > 900


def _item(row: dict[str, Any]) -> dict[str, Any]:
    declared = {name: row[name] for name in ("kind", "n") if row[name] is not None}
    extra: dict[str, Any] = json.loads(row["extra"] or "{}")
    return declared | extra


def _fields(item: dict[str, Any]) -> str:
    """Declared fields are kept as text; types are given to them when they are cleaned."""
    texts = {name: str(item[name]) for name in ("kind", "n") if name in item}
    return json.dumps(item | texts, sort_keys=True, ensure_ascii=False)


def test_every_request_ends_once_and_only_lambdas_run_inside_their_page(known: Truth) -> None:
    outcome = known.outcome
    requests = outcome.requests
    ends = requests["fetched"] + requests["redirected"]
    ends += sum(requests["excluded"].values()) + sum(requests["dead"].values())
    assert outcome.closed
    assert requests["discovered"] == ends > 1_100
    # One from start(), one of each page with a number that ends in 9 or 29: were all requests kept in memory, the
    # crawl would be one unit, and exact all the same.
    assert outcome.unserialisable == 1 + 22
    assert outcome.records["yielded"] == outcome.rows.total() + 22 + 22
    assert outcome.records["dropped"] == {"DropItem: not wanted": 22}
    assert outcome.records["errors"] == 22


# --- Kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_any_of_fifty_instants_it_ends_as_if_it_had_not_been(tmp_path: Path, known: Truth) -> None:
    verdicts = at_once(
        lambda folder, kills: kill_and_resume(folder, kills, known), instants(50, known, seed=1), tmp_path
    )
    assert faults(verdicts) == []
    assert sum(verdict.kills for verdict in verdicts) >= 45, "kills that come too late test nothing"
    assert max(verdict.repeated for verdict in verdicts) > 0


@pytest.mark.slow
def test_killed_ten_times_in_a_row_it_ends_as_if_it_had_not_been(tmp_path: Path, known: Truth) -> None:
    kills = 0
    with trial(tmp_path / "crawl") as crawl:
        for _ in range(10):
            process = crawl.start()
            crawl.site.wait_for(len(crawl.site.asked()) + known.moment(0.06), process)
            kills += killed(process)
        assert kills == 10
        assert crawl.finish().differences(known.outcome) == []
        assert known.repeated(crawl.site) <= 10 * MOST_REPEATED
        assert crawl.manifest().notes["books"]["launches"] == 11


def test_the_step_takes_a_killed_crawl_up_again_by_itself(tmp_path: Path, known: Truth) -> None:
    with trial(tmp_path / "crawl") as crawl:
        source = declarations.load(crawl.settings.sources)[NAME]
        killer = threading.Thread(target=_kill_launches, args=(crawl, known, 2))
        killer.start()
        log = io.StringIO()
        manifest = run_crawl(crawl.settings, source, KEY, run_id=RUN, root_run=RUN, output=log)
        killer.join()
        assert manifest.crawl_id == crawl.crawl.id
        assert manifest.notes["books"]["launches"] == 3, log.getvalue()
        assert crawl.outcome().differences(known.outcome) == []
        assert crawl.left_on_machine() == []


def _kill_launches(crawl: Trial, known: Truth, count: int) -> None:
    for launch in range(1, count + 1):
        crawl.site.wait_for(known.moment(launch / 4))
        os.kill(crawl.lake.get_json(f"{crawl.crawl.folder}/launches/{launch:06}.json")["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_a_page_of_twenty_thousand_outputs_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    with trial(tmp_path / "known", WIDE) as crawl:
        known = crawl.finish()
        asked_for, fetched = (_first(crawl, path) for path in ("/fan", "/leaf/fan"))
        assert asked_for and fetched
        took = fetched - asked_for
    assert sum('"fan"' in row for row in known.rows.elements()) == WIDE.fan
    # Inside the callback; after it, while what it yielded is moved to where it belongs, and fetched.
    moments = [("/fan", took * share) for share in (0.15, 0.4, 0.7)]
    moments += [("/leaf/fan", seconds) for seconds in (0.0, 0.05, 0.1)]
    verdicts = at_once(lambda folder, moment: _kill_after(folder, *moment, known), moments, tmp_path)
    assert faults(verdicts) == []
    assert sum(verdict.kills for verdict in verdicts) >= 5


def _kill_after(folder: Path, path: str, seconds: float, known: Outcome) -> Verdict:
    """Kills a crawl so long after the site was first asked for such a path."""
    with trial(folder, WIDE) as crawl:
        process = crawl.start()
        while not _first(crawl, path) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        alive = killed(process)
        return Verdict(f"{path} + {seconds:.2f} s", alive, 0, tuple(crawl.finish().differences(known)))


def _first(crawl: Trial, path: str) -> float | None:
    return next((request.at for request in crawl.site.asked() if request.path.startswith(path)), None)


def test_a_page_that_the_process_dies_on_is_set_aside_and_the_others_are_crawled(tmp_path: Path) -> None:
    known = truth(tmp_path / "known", Plan(pages=60))
    with trial(tmp_path / "crawl", Plan(pages=60, poison=True)) as crawl:
        source = declarations.load(crawl.settings.sources)[NAME]
        log = io.StringIO()
        run_crawl(crawl.settings, source, KEY, run_id=RUN, root_run=RUN, output=log)
        outcome = crawl.outcome()
        assert outcome.letters - known.outcome.letters == Counter({("/poison", "process_died"): 1})
        assert known.outcome.letters - outcome.letters == Counter()
        assert outcome.rows == known.outcome.rows
        assert outcome.closed
        assert outcome.requests["discovered"] == known.outcome.requests["discovered"] + 1
        assert path_counts(crawl)["/poison"] <= 6


# --- Two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_process_thought_dead_commits_nothing_once_another_has_the_crawl(
    tmp_path: Path, known: Truth, share: float
) -> None:
    verdict = take_over(tmp_path / "crawl", Kill(known.moment(share), 0), known)
    assert verdict.faults == ()
    assert verdict.kills == 1, "it was over before the other came"


# --- Rest -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [None, 0.0, 0.1], ids=["once", "twice at once", "twice"])
def test_terminated_it_leaves_nothing_on_the_machine_and_is_taken_up_exactly(
    tmp_path: Path, known: Truth, again: float | None
) -> None:
    with trial(tmp_path / "crawl") as crawl:
        process = crawl.start()
        assert crawl.site.wait_for(known.moment(0.4), process)
        process.terminate()
        asked_to = time.monotonic()
        if again is not None:
            time.sleep(again)
            process.terminate()
        assert crawl.ended(process, 20) == INTERRUPTED, crawl.end_of_log()
        assert time.monotonic() - asked_to < 10
        if again is None:
            assert crawl.left_on_machine() == []
            assert [path for path in crawl.objects() if path.startswith(f"{crawl.crawl.folder}/store/")]
        assert not crawl.is_committed()
        assert crawl.finish().differences(known.outcome) == []
        assert known.repeated(crawl.site) <= MOST_REPEATED
        assert crawl.left_on_machine() == []


@pytest.mark.parametrize("wiped", [False, True], ids=["here", "on another machine"])
def test_paused_it_asks_for_nothing_more_and_resumed_it_goes_on_exactly(
    tmp_path: Path, known: Truth, wiped: bool
) -> None:
    with trial(tmp_path / "crawl") as crawl:
        process = crawl.start()
        assert crawl.site.wait_for(known.moment(0.2), process)
        crawl.site.slow_down(0.3)
        crawl.ask(Wish.PAUSE)
        asked_to = time.monotonic()
        assert crawl.ended(process, 20) == PAUSED, crawl.end_of_log()
        # What is in flight is waited for, so that little is repeated.
        assert crawl.site.asked()[-1].at <= asked_to + 5
        assert not crawl.is_committed()
        assert crawl.left_on_machine() == []
        assert len(crawl.site.asked()) < known.moment(0.9), "it was nearly over before it was paused"
        crawl.site.slow_down(0.01)
        if wiped:
            crawl.wipe_machine()
        crawl.ask(Wish.RESUME)
        assert crawl.finish().differences(known.outcome) == []
        assert known.repeated(crawl.site) <= MOST_REPEATED


def test_stopped_it_closes_its_books_with_what_it_has(tmp_path: Path, known: Truth) -> None:
    with trial(tmp_path / "crawl") as crawl:
        process = crawl.start()
        assert crawl.site.wait_for(known.moment(0.2), process)
        crawl.site.slow_down(0.3)
        crawl.ask(Wish.STOP, "enough")
        asked_to = time.monotonic()
        assert crawl.ended(process, 20) == 0, crawl.end_of_log()
        assert crawl.site.asked()[-1].at <= asked_to + 5
        assert not crawl.is_committed(), "an unfinished crawl replaces no complete one"
        books = crawl.manifest(INCOMPLETE).notes["books"]
        outcome = crawl.outcome(INCOMPLETE)
        assert (books["state"], books["stopped_by"]) == ("stopped", "ann: enough")
        assert outcome.closed
        assert outcome.requests["excluded"]["stopped"] > 0
        assert outcome.rows.total() > 100
        assert not outcome.rows - known.outcome.rows
        assert crawl.left_on_machine() == []
        assert crawl.run() == 0
        assert crawl.outcome(INCOMPLETE) == outcome, "a stopped crawl is over"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_its_machine_gone_it_is_restored_from_the_lake_exactly(tmp_path: Path, known: Truth) -> None:
    verdicts = at_once(
        lambda folder, kills: wipe_and_restore(folder, kills, known), instants(20, known, seed=2), tmp_path
    )
    assert faults(verdicts) == []
    assert sum(verdict.kills for verdict in verdicts) >= 18
