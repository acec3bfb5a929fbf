"""The life cycle of a crawl: which crawl a run is given, who works on it, what is asked of it, and how its step ends.

The lake is real, and so are the processes; those that only have to live, die and answer are a stand-in for the crawl
itself, which has its own tests.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gossamer import declarations
from gossamer.crawl import control, identity, life, process, progress, step
from gossamer.crawl.deaths import CrawlProcessError
from gossamer.crawl.identity import Control
from gossamer.crawl.life import Action, Crawl, CrawlState, Wish
from gossamer.crawl.progress import Progress, Reporter, Series, progress_path
from gossamer.crawl.step import CrawlPausedError, run_crawl
from gossamer.errors import ConfigurationError, CrawlError, LakeError
from gossamer.lake import Lake, stage
from gossamer.manifest import Manifest
from gossamer.settings import PROJECT, Settings
from tests import services
from tests.house import KEY, PAGES, House

CRAWL = Crawl("s", KEY, 1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def any_lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    if request.param == "local":
        return Lake(str(tmp_path / "lake"))
    server: services.S3 = request.getfixturevalue("s3")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return Lake(f"s3://{server.bucket}/{tmp_path.name}")


def commit(lake: Lake, crawl: Crawl, state: str = "complete", layer: str = "raw", run_id: str = "") -> Manifest:
    """The crawl is over."""
    notes = {"books": {"generation": crawl.generation, "state": state}}
    with stage(pl.DataFrame({"n": [1]})) as staged:
        return lake.commit(layer, crawl.source, crawl.key, staged, notes=notes, crawl_id=crawl.id, run_id=run_id)


def say(lake: Lake, crawl: Crawl, launch: int, state: str = "running", ago: float = 0.0) -> None:
    """A launch tells this."""
    said = Progress(generation=crawl.generation, launch=launch, told_at=time.time() - ago, state=state)
    lake.put(progress_path(crawl.source, crawl.key), said.model_dump_json().encode())


def rewrite(lake: Lake, path: str, **fields: Any) -> None:
    lake.put_json(path, lake.get_json(path) | fields)


def find(lake: Lake, root_run: str = "", *, fresh: bool = False) -> tuple[Action, int]:
    found = life.find(lake, "s", KEY, root_run, fresh=fresh)
    return found.action, found.crawl.generation


# --- Which crawl a run is given ---------------------------------------------------------------------------------------


def test_a_run_that_is_repeated_gets_its_crawl_and_another_run_a_new_one(lake: Lake) -> None:
    assert find(lake, "run-1") == (Action.BEGIN, 1)
    assert find(lake, "run-1") == (Action.RESUME, 1)
    manifest = commit(lake, CRAWL)
    assert life.find(lake, "s", KEY, "run-1") == life.Found(Action.RESULT, CRAWL, manifest)
    assert find(lake, "run-2") == (Action.BEGIN, 2)
    assert find(lake, "run-1") == (Action.RESUME, 2)
    assert find(lake, "run-3") == (Action.RESUME, 2)
    commit(lake, Crawl("s", KEY, 2), layer="incomplete")
    assert [find(lake, run) for run in ("run-1", "run-2", "run-3")] == [(Action.RESULT, 2)] * 3


def test_without_a_run_every_crawl_that_is_over_is_followed_by_a_new_one(lake: Lake) -> None:
    for generation in (1, 2, 3):
        assert find(lake) == (Action.BEGIN, generation)
        assert find(lake) == (Action.RESUME, generation)
        commit(lake, Crawl("s", KEY, generation))


@pytest.mark.parametrize("state", ["paused", "interrupted", "failed", "running"])
def test_a_crawl_without_a_process_is_resumed_however_it_came_to_rest(lake: Lake, state: str) -> None:
    find(lake, "run-1")
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}), state, ago=0 if state != "running" else 60)
    assert find(lake, "run-2") == (Action.RESUME, 1)


def test_every_run_attaches_to_a_crawl_that_has_a_process_and_gets_its_result(lake: Lake) -> None:
    find(lake, "run-1")
    launch = life.claim_launch(lake, CRAWL, {})
    assert find(lake, "run-2") == (Action.ATTACH, 1), "it has not said anything yet"
    for state in ("running", "pausing", "stopping", "committing"):
        say(lake, CRAWL, launch, state)
        assert find(lake, "run-3") == (Action.ATTACH, 1)
    commit(lake, CRAWL)
    assert [find(lake, run) for run in ("run-1", "run-2", "run-3")] == [(Action.RESULT, 1)] * 3


def test_a_fresh_crawl_is_begun_once_for_a_run_and_never_beside_a_live_one(lake: Lake) -> None:
    find(lake, "run-1")
    assert find(lake, "run-1", fresh=True) == (Action.BEGIN, 2), "that it had asked for the first one is no matter"
    assert find(lake, "run-1", fresh=True) == (Action.RESUME, 2), "a step that is tried again goes on"
    say(lake, second := Crawl("s", KEY, 2), life.claim_launch(lake, Crawl("s", KEY, 2), {}))
    with pytest.raises(CrawlError, match=r"s/2026-01-05/2 is being crawled.*Stop it first"):
        find(lake, "run-2", fresh=True)
    assert find(lake, "run-1", fresh=True) == (Action.ATTACH, 2)
    commit(lake, second)
    assert find(lake, "run-1", fresh=True) == (Action.RESULT, 2)
    assert find(lake, "run-2", fresh=True) == (Action.BEGIN, 3)


def test_generations_that_only_manifests_know_count(lake: Lake) -> None:
    commit(lake, Crawl("s", KEY, 7), run_id="run-7")
    commit(lake, Crawl("s", KEY, 9), layer="incomplete", run_id="run-9")
    assert find(lake, "run-9") == (Action.RESULT, 9)
    assert find(lake, "run-7") == (Action.BEGIN, 10)


def test_partitions_whose_names_begin_alike_have_nothing_in_common(lake: Lake) -> None:
    for _ in range(2):
        life.find(lake, "s", "2026-01-05|de", "run-1", fresh=True)
        commit(lake, life.find(lake, "s", "2026-01-05|de").crawl)
    assert find(lake, "run-1") == (Action.BEGIN, 1)
    assert life.find(lake, "s", "2026-01-05|d", "run-1").crawl.generation == 1
    assert Crawl("s", "2026-01-05|d", 1).folder == "crawls/s/2026-01-05~d/000001"


@pytest.mark.parametrize(("why", "action"), [("enough", Action.RESULT), (life.CANCELLED, Action.BEGIN)])
def test_a_stopped_crawl_is_the_result_of_its_run_and_a_cancelled_one_nobodys(
    lake: Lake, why: str, action: Action
) -> None:
    find(lake, "run-1")
    life.ask(lake, CRAWL, Wish.STOP, by="ann", why=why)
    commit(lake, CRAWL, "stopped", "incomplete")
    assert life.find(lake, "s", KEY, "run-1").action is action


def test_a_crawl_that_was_complete_before_it_could_be_cancelled_is_a_result(lake: Lake) -> None:
    find(lake, "run-1")
    life.ask(lake, CRAWL, Wish.STOP, by="ann", why=life.CANCELLED)
    commit(lake, CRAWL)
    assert find(lake, "run-1") == (Action.RESULT, 1)


def test_a_stopped_crawl_without_a_process_is_closed_before_others_get_theirs(lake: Lake) -> None:
    find(lake, "run-1")
    life.ask(lake, CRAWL, Wish.STOP, by="ann", why="enough")
    assert life.find(lake, "s", KEY, "run-1") == life.Found(Action.RESUME, CRAWL)
    assert life.find(lake, "s", KEY, "run-2") == life.Found(Action.RESUME, CRAWL, is_closing=True)
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}), "stopping")
    assert life.find(lake, "s", KEY, "run-2") == life.Found(Action.ATTACH, CRAWL, is_closing=True)
    assert life.find(lake, "s", KEY, "run-2", fresh=True) == life.Found(Action.ATTACH, CRAWL, is_closing=True)
    commit(lake, CRAWL, "stopped", "incomplete")
    assert find(lake, "run-2") == (Action.BEGIN, 2)


class Meanwhile(Lake):
    """A lake in which something happens once, between two looks at it: when the launches are first listed."""

    def __init__(self, uri: str, act: Callable[[], object]) -> None:
        super().__init__(uri)
        self.act: Callable[[], object] | None = act

    def paths(self, prefix: str) -> Iterator[str]:
        if "/launches/" in prefix and self.act:
            act, self.act = self.act, None
            act()
        return super().paths(prefix)


def test_a_crawl_that_ends_while_it_is_looked_at_is_neither_resumed_nor_called_interrupted(lake: Lake) -> None:
    find(lake, "run-1")
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}))

    def end() -> None:
        commit(lake, CRAWL)
        say(lake, CRAWL, 1, "complete")

    assert life.find(Meanwhile(lake.uri, end), "s", KEY, "run-1").action is Action.RESULT

    find(lake, "run-2")
    second = Crawl("s", KEY, 2)
    say(lake, second, life.claim_launch(lake, second, {}))

    def end_second() -> None:
        commit(lake, second)
        say(lake, second, 1, "complete")

    assert life.standing(Meanwhile(lake.uri, end_second), "s", KEY).state is CrawlState.COMPLETE


@pytest.mark.parametrize("run", ["../../raw", "a/b", "ü", "a b", "-", "x" * 129])
def test_a_run_that_cannot_be_a_name_in_the_lake_is_refused(lake: Lake, run: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the id of a run"):
        find(lake, run)


def test_an_object_that_is_not_what_a_crawl_writes_is_named(lake: Lake) -> None:
    find(lake, "run-1")
    lake.put(f"{CRAWL.folder}/control.json", b"{}")
    with pytest.raises(LakeError, match=r"control\.json is not what a crawl writes there"):
        find(lake, "run-1")


# --- Races ------------------------------------------------------------------------------------------------------------


def test_runs_that_come_at_once_are_given_one_crawl_and_one_begins_it(any_lake: Lake) -> None:
    together = threading.Barrier(8)

    def work(number: int) -> tuple[Action, int]:
        together.wait()
        return find(any_lake, f"run-{number}")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert {generation for _, generation in found} == {1}
    assert Counter(action for action, _ in found)[Action.BEGIN] == 1
    commit(any_lake, CRAWL)
    assert {find(any_lake, f"run-{number}") for number in range(8)} == {(Action.RESULT, 1)}


def test_launches_that_are_claimed_at_once_have_numbers_of_their_own_without_a_gap(any_lake: Lake) -> None:
    identity.begin(any_lake, CRAWL, "")
    together = threading.Barrier(8)

    def work(number: int) -> int:
        together.wait()
        return life.claim_launch(any_lake, CRAWL, {"number": number})

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(work, range(8)))
    assert sorted(claimed) == list(range(1, 9))
    assert life.newest_launch(any_lake, CRAWL) == 8
    for number, launch in enumerate(claimed):
        worker = identity.read_worker(any_lake, CRAWL, launch)
        assert worker and worker.about == {"number": number} and worker.pid == os.getpid()
        assert identity.is_superseded(any_lake, CRAWL, launch) == (launch != 8)


def test_a_process_that_was_thought_dead_is_told_that_a_new_crawl_has_been_begun(lake: Lake) -> None:
    find(lake, "run-1")
    launch = life.claim_launch(lake, CRAWL, {})
    assert not identity.is_superseded(lake, CRAWL, launch)
    say(lake, CRAWL, launch, ago=60)
    assert find(lake, "run-2", fresh=True) == (Action.BEGIN, 2)
    assert identity.is_superseded(lake, CRAWL, launch)


def test_a_stop_holds_though_a_pause_comes_at_the_same_moment(any_lake: Lake) -> None:
    together = threading.Barrier(6)

    def work(wish: Wish) -> Control:
        together.wait()
        return life.ask(any_lake, CRAWL, wish, by=wish.value)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, [Wish.PAUSE, Wish.STOP, Wish.RESUME] * 2))
    control = life.read_control(any_lake, CRAWL)
    assert control and (control.wish, control.by) == (Wish.STOP, "stop")


# --- The rules, all at once -------------------------------------------------------------------------------------------

ROOTS = st.sampled_from(["", "run-1", "run-2", "run-3"])


class Finding(RuleBasedStateMachine):
    """`find` against the rules of the design, in whatever order things happen."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.lake = Lake(self.folder.name)
        self.generation = self.launch = 0
        self.state = "over"
        self.asked: set[str] = set()
        self.fresh: set[str] = set()
        self.stop = ""

    def teardown(self) -> None:
        self.folder.cleanup()

    @property
    def crawl(self) -> Crawl:
        return Crawl("s", KEY, self.generation)

    @rule(root=ROOTS, fresh=st.booleans())
    def find(self, root: str, fresh: bool) -> None:
        mine = bool(root) and root in (self.fresh if fresh else self.asked)
        foreign = bool(self.stop) and not (mine and self.stop != life.CANCELLED)
        if self.state == "live" and fresh and not mine and not foreign:
            with pytest.raises(CrawlError, match="is being crawled"):
                find(self.lake, root, fresh=fresh)
            return
        found = life.find(self.lake, "s", KEY, root, fresh=fresh)
        if self.state in ("over", "stopped") and mine and not (self.state == "stopped" and foreign):
            assert found.action is Action.RESULT
        elif self.state in ("over", "stopped") or (self.state == "rest" and fresh and not mine):
            assert (found.action, found.crawl.generation) == (Action.BEGIN, self.generation + 1)
            self.generation, self.launch, self.state, self.stop = self.generation + 1, 0, "rest", ""
            self.asked, self.fresh = {root}, {root} if fresh else set()
        else:
            assert found.action is (Action.ATTACH if self.state == "live" else Action.RESUME)
            assert found.is_closing == foreign
            self.asked |= set() if foreign else {root}
        assert found.crawl.generation == self.generation

    @rule()
    def launch_it(self) -> None:
        if self.generation and self.state not in ("over", "stopped"):
            self.launch += 1
            assert life.claim_launch(self.lake, self.crawl, {}) == self.launch
            self.state = "live"

    @rule(state=st.sampled_from(["paused", "interrupted", "failed"]))
    def rest(self, state: str) -> None:
        if self.state == "live":
            say(self.lake, self.crawl, self.launch, state)
            self.state = "rest"

    @rule(why=st.sampled_from(["enough", life.CANCELLED]))
    def stop_it(self, why: str) -> None:
        if self.generation:
            life.ask(self.lake, self.crawl, Wish.STOP, by="ann", why=why)
            self.stop = self.stop or why

    @rule(layer=st.sampled_from(["raw", "incomplete"]))
    def end(self, layer: str) -> None:
        if self.state == "live":
            commit(self.lake, self.crawl, "stopped" if self.stop else "complete", layer)
            say(self.lake, self.crawl, self.launch, "complete")
            self.state = "stopped" if self.stop else "over"
            life.remove_older(self.lake, self.crawl)

    @invariant()
    def standing_agrees(self) -> None:
        if not self.generation:
            return
        standing = life.standing(self.lake, "s", KEY)
        assert (standing.crawl, standing.launch) == (self.crawl, self.launch)
        assert (standing.state is CrawlState.RUNNING) == (self.state == "live")
        assert (standing.state in (CrawlState.COMPLETE, CrawlState.STOPPED)) == (self.state in ("over", "stopped"))


TestFinding = Finding.TestCase
TestFinding.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


# --- Who works on it --------------------------------------------------------------------------------------------------

STANDIN = """
    import argparse, os, pathlib, signal, sys, time
    import polars as pl
    from gossamer.crawl import life, progress
    from gossamer.lake import Lake, stage

    parser = argparse.ArgumentParser()
    for name in ("source", "partition", "generation", "lake", "run-id", "root-run", "sources", "scratch"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--attached", action="store_true")
    options = parser.parse_args()
    lake = Lake(options.lake)
    crawl = life.Crawl(options.source, options.partition, int(options.generation or 1))
    progress.INTERVAL_SECONDS = 0.1
    wishes, terminated = [], []
    signal.signal(signal.SIGTERM, lambda *_: terminated.append(1))
    launch = life.claim_launch(lake, crawl, {})
    deeds = pathlib.Path(os.environ["DEEDS"]).read_text().split(",")
    deed = deeds[min(launch, len(deeds)) - 1]


    def commit(state):
        notes = {"books": {"generation": crawl.generation, "state": state}}
        with stage(pl.DataFrame({"launch": [launch]})) as staged:
            layer = "incomplete" if state == "stopped" else "raw"
            lake.commit(layer, crawl.source, crawl.key, staged, notes=notes, run_id=options.run_id)


    def work(reporter):
        while deed == "work" and not os.path.exists(os.environ["DEEDS"] + ".release"):
            wish = wishes[-1].wish if wishes else ""
            if wish == "pause":
                reporter.last("paused")
                os._exit(76)
            if wish == "stop":
                commit("stopped")
                reporter.last("stopped")
                os._exit(0)
            if terminated:
                reporter.last("interrupted")
                os._exit(75)
            time.sleep(0.02)
        commit("complete")
        reporter.last("complete")
        if deed == "complete and die":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)


    with progress.Reporter(
        lake, crawl, launch, lambda: progress.Progress(pages=launch), on_wish=wishes.append,
        on_fenced=lambda: os._exit(75),
    ) as reporter:
        if deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "interrupt":
            os._exit(75)
        if deed == "deaf":
            time.sleep(60)
        if deed == "vanish":
            os._exit(0)
        if deed == "pause":
            os._exit(76)
        if deed == "fail":
            print("gossamer.crawl: error: the lake is full of eels", file=sys.stderr, flush=True)
            reporter.last("failed")
            os._exit(1)
        work(reporter)
"""


@dataclass
class Program:
    """The stand-in for a crawl's process; what its launches do is in a file: work, complete, die, ..."""

    path: Path
    deeds: Path
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def will(self, *deeds: str) -> None:
        self.deeds.write_text(",".join(deeds))

    def release(self) -> None:
        """Launches that work complete the crawl now."""
        Path(f"{self.deeds}.release").touch()

    def start(self, lake: Lake, generation: int = 1) -> "subprocess.Popen[bytes]":
        """A launch that nobody follows; it is heard of when this returns."""
        before = life.newest_launch(lake, Crawl("s", KEY, generation))
        command = [sys.executable, str(self.path), "--source", "s", "--partition", KEY, "--lake", lake.uri]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "DEEDS": str(self.deeds)}
        self.started.append(subprocess.Popen([*command, "--generation", str(generation)], env=environment))
        wait_for(lambda: (p := progress.read_progress(lake, "s", KEY)) is not None and p.launch == before + 1)
        return self.started[-1]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    standin = Program(tmp_path / "standin.py", tmp_path / "deeds")
    standin.path.write_text(textwrap.dedent(STANDIN))
    standin.will("work")
    monkeypatch.setenv("DEEDS", str(standin.deeds))
    monkeypatch.setattr(process, "PROGRAM", (str(standin.path),))
    monkeypatch.setattr(process, "STOP_SECONDS", 2.0)
    monkeypatch.setattr(process, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(step, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(step, "_ATTACH_SECONDS", 0.2)
    yield standin
    for started in standin.started:
        started.kill()
        started.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_a_kill_is_known_at_once_and_a_process_that_hangs_soon(
    lake: Lake, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity.begin(lake, CRAWL, "run-1")
    process = program.start(lake)
    assert life.is_live(lake, CRAWL)
    process.kill()
    process.wait()
    assert not life.is_live(lake, CRAWL)

    monkeypatch.setattr(identity, "SILENCE_SECONDS", 2.0)
    process = program.start(lake)
    assert life.is_live(lake, CRAWL)
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: not life.is_live(lake, CRAWL), 10)
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: life.is_live(lake, CRAWL), 10)


def test_a_killed_process_that_nobody_has_waited_for_is_gone(lake: Lake, program: Program) -> None:
    process = program.start(lake)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not life.is_live(lake, CRAWL), 10)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process began")
def test_another_process_with_the_pid_of_a_dead_one_is_not_taken_for_it(lake: Lake) -> None:
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}))
    assert life.is_live(lake, CRAWL)
    rewrite(lake, f"{CRAWL.folder}/launches/000001.json", born="1")
    assert not life.is_live(lake, CRAWL)


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"pids": "another boot"}])
def test_a_process_of_another_machine_is_judged_by_what_it_says_alone(lake: Lake, elsewhere: dict[str, str]) -> None:
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}))
    rewrite(lake, f"{CRAWL.folder}/launches/000001.json", pid=2**22 + 1, **elsewhere)
    assert life.is_live(lake, CRAWL)
    for ago in (30, -3600):
        say(lake, CRAWL, 1, ago=ago)
        assert not life.is_live(lake, CRAWL), "a clock that was set back must not keep a dead crawl alive"


def test_what_an_older_launch_or_generation_says_keeps_nothing_alive(lake: Lake) -> None:
    life.claim_launch(lake, CRAWL, {})
    life.claim_launch(lake, CRAWL, {})
    rewrite(lake, f"{CRAWL.folder}/launches/000002.json", started_at=time.time() - 60)
    say(lake, CRAWL, 1)
    assert not life.is_live(lake, CRAWL)
    say(lake, Crawl("s", KEY, 2), 2)
    assert not life.is_live(lake, CRAWL)


def test_a_crawl_that_another_process_is_about_to_start_is_waited_for(lake: Lake, program: Program) -> None:
    find(lake, "run-1")
    assert find(lake, "run-1") == (Action.RESUME, 1), "the one that began it knows that it does not run"
    other = program.start(lake, generation=9)
    rewrite(lake, f"{CRAWL.folder}/crawl.json", pid=other.pid, born=identity._born(other.pid))
    assert life.is_live(lake, CRAWL)
    other.kill()
    other.wait()
    assert not life.is_live(lake, CRAWL)


# --- How it stands ----------------------------------------------------------------------------------------------------


def test_status_tells_every_state(lake: Lake) -> None:
    def state() -> CrawlState:
        return life.standing(lake, "s", KEY).state

    assert (state(), life.standing(lake, "s", KEY).since) == (CrawlState.NEW, None)
    find(lake, "run-1")
    assert (state(), life.standing(lake, "s", KEY).launch) == (CrawlState.NEW, 0)
    launch = life.claim_launch(lake, CRAWL, {})
    assert state() is CrawlState.RUNNING
    for said in ("running", "pausing", "stopping", "committing"):
        say(lake, CRAWL, launch, said)
        assert state() is CrawlState.RUNNING
    for said in ("paused", "failed", "interrupted"):
        say(lake, CRAWL, launch, said, ago=3600)
        assert state() == said
    say(lake, CRAWL, launch, "running", ago=3600)
    assert state() is CrawlState.INTERRUPTED
    standing = life.standing(lake, "s", KEY)
    assert standing.since and abs(time.time() - 3600 - standing.since.timestamp()) < 10, "when it was last heard of"
    manifest = commit(lake, CRAWL)
    assert (state(), life.standing(lake, "s", KEY).since) == (CrawlState.COMPLETE, manifest.written_at)
    life.find(lake, "s", KEY)
    assert (state(), life.standing(lake, "s", KEY).crawl.generation) == (CrawlState.NEW, 2)
    commit(lake, Crawl("s", KEY, 2), "stopped", "incomplete")
    assert state() is CrawlState.STOPPED


def test_a_crawl_that_lost_its_process_is_paused_while_that_is_what_is_wanted(lake: Lake) -> None:
    def state() -> CrawlState:
        return life.standing(lake, "s", KEY).state

    find(lake, "run-1")
    rewrite(lake, f"{CRAWL.folder}/crawl.json", started_at=time.time() - 60)
    life.ask(lake, CRAWL, Wish.PAUSE, by="ann")
    assert state() is CrawlState.PAUSED, "it never got a process"
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}), "pausing")
    assert state() is CrawlState.RUNNING
    say(lake, CRAWL, 1, "pausing", ago=60)
    assert state() is CrawlState.PAUSED, "killed before it had paused"
    say(lake, CRAWL, 1, "paused")
    life.ask(lake, CRAWL, Wish.RESUME, by="bob")
    assert state() is CrawlState.INTERRUPTED, "bob's process did not come: it is not ann's pause any more"


def test_when_a_crawl_is_over_the_folders_before_it_go_and_no_others(lake: Lake) -> None:
    for generation in (1, 2, 3, 4):
        crawl = Crawl("s", KEY, generation)
        assert find(lake, f"run-{generation}", fresh=True) == (Action.BEGIN, generation)
        life.claim_launch(lake, crawl, {})
        say(lake, crawl, 1, "failed")
        lake.put(f"{crawl.folder}/segments/000001-000001.parquet", b"")
    life.find(lake, "s", f"{KEY}|de")
    commit(lake, third := Crawl("s", KEY, 3))
    life.remove_older(lake, third)
    folders = {path.rpartition(f"/{KEY}")[2][:8] for path in lake.paths("crawls/")}
    assert folders == {"/000003/", "/000004/", "~de/0000"}
    assert lake.manifest("raw", "s", KEY)


# --- What is asked of it ----------------------------------------------------------------------------------------------


def test_a_later_wish_replaces_an_earlier_one_but_a_stop_is_final(lake: Lake) -> None:
    assert life.read_control(lake, CRAWL) is None
    for wish in (Wish.PAUSE, Wish.RESUME, Wish.PAUSE):
        assert life.ask(lake, CRAWL, wish, by="ann", why="lunch").wish is wish
    stopped = life.ask(lake, CRAWL, Wish.STOP, by="bob", why="enough")
    for wish in (Wish.PAUSE, Wish.RESUME, Wish.STOP):
        assert life.ask(lake, CRAWL, wish, by="ann") == stopped
    assert life.read_control(lake, CRAWL) == stopped


def test_cancelling_stops_the_crawl_only_if_no_other_run_waits_for_it(lake: Lake) -> None:
    identity.attach(lake, CRAWL, "run-1")
    identity.attach(lake, CRAWL, "run-2")
    assert not life.cancel(lake, CRAWL, "run-1")
    assert life.read_control(lake, CRAWL) is None
    identity.attach(lake, CRAWL, "run-3")
    rewrite(lake, f"{CRAWL.folder}/attached/run-3.json", at=time.time() - 60)  # killed
    identity.attach(lake, CRAWL, "run-4")
    path = f"{CRAWL.folder}/attached/run-4.json"
    rewrite(lake, path, by=lake.get_json(path)["by"] | {"pid": dead_process()})  # killed this very moment
    assert life.cancel(lake, CRAWL, "run-2")
    control = life.read_control(lake, CRAWL)
    assert control and (control.wish, control.by, control.why) == (Wish.STOP, "run run-2", "cancelled")


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def not_needed(crawl: Crawl) -> None:
    raise AssertionError(crawl)


def request(lake: Lake, wish: Wish, close: Callable[[Crawl], object] = not_needed) -> control.Outcome:
    return control.request(lake, "s", KEY, wish, by="ann", close=close)


def close(lake: Lake) -> Callable[[Crawl], object]:
    return lambda crawl: commit(lake, crawl, "stopped", "incomplete")


def test_a_stop_closes_the_books_though_the_run_that_waited_was_killed_a_moment_ago(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SILENCE_SECONDS", 2.0)
    find(lake, "run-1")
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}), "interrupted")
    identity.attach(lake, CRAWL, "run-1")
    outcome = request(lake, Wish.STOP, close(lake))
    assert outcome.done and "its books are closed" in control.in_words(outcome, Wish.STOP)


def test_a_stop_that_comes_while_a_crawl_pauses_closes_its_books_in_the_end(lake: Lake) -> None:
    find(lake, "run-1")
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}), "pausing")
    life.ask(lake, CRAWL, Wish.PAUSE, by="bob")
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(request, lake, Wish.STOP, close(lake))
        wait_for(lambda: (c := life.read_control(lake, CRAWL)) is not None and c.wish is Wish.STOP)
        say(lake, CRAWL, 1, "paused")
        assert asked.result(30).done


def test_what_cannot_be_paused_or_stopped_is_answered_in_words(lake: Lake) -> None:
    with pytest.raises(control.NothingToControlError, match="Partition 2026-01-05 of s is not being crawled"):
        request(lake, Wish.STOP)
    find(lake, "run-1")
    say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}), "failed")
    with pytest.raises(control.NothingToControlError, match=r"not running \(failed\), so there is nothing to pause"):
        request(lake, Wish.PAUSE)
    assert life.read_control(lake, CRAWL) is None, "a refused request leaves nothing behind"
    commit(lake, CRAWL)
    for wish in (Wish.PAUSE, Wish.STOP):
        with pytest.raises(control.NothingToControlError, match=rf"is over \(complete\): there is nothing to {wish}"):
            request(lake, wish)


# --- Progress ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.05)


@pytest.mark.usefixtures("beats")
def test_a_crawl_is_heard_of_and_hears_what_is_asked(lake: Lake) -> None:
    launch = life.claim_launch(lake, CRAWL, {})
    wishes: list[Control] = []
    pages = iter(range(1, 10_000))

    def snapshot() -> Progress:
        return Progress(pages=(page := next(pages)), elapsed_s=float(page), pending=3)

    with Reporter(lake, CRAWL, launch, snapshot, on_wish=wishes.append, on_fenced=pytest.fail) as reporter:
        wait_for(lambda: (p := progress.last_word(lake, "s", KEY)) is not None and p.pages > 3)
        said = life.standing(lake, "s", KEY).progress
        assert said and said.is_live and (said.generation, said.launch) == (1, launch)
        assert abs(said.told_at - time.time()) < 5
        assert [point[1] for point in said.series] == list(range(1, said.pages + 1))
        assert wishes == []
        asked = life.ask(lake, CRAWL, Wish.PAUSE, by="ann")
        wait_for(lambda: asked in wishes)
        reporter.say("committing")
        wait_for(lambda: (p := progress.last_word(lake, "s", KEY)) is not None and p.state == "committing")
        reporter.last("complete")
    last = progress.last_word(lake, "s", KEY)
    assert last and (last.state, last.pending, last.is_live) == ("complete", 0, False)
    with Reporter(lake, CRAWL, launch, snapshot, on_wish=wishes.append, on_fenced=pytest.fail):
        wait_for(lambda: (p := progress.last_word(lake, "s", KEY)) is not None and p.pages > last.pages)
        resumed = progress.last_word(lake, "s", KEY)
    assert resumed and resumed.series[: len(last.series)] == last.series, "the plot goes on where it was"


@pytest.mark.usefixtures("beats")
def test_a_process_that_was_overtaken_is_told_once_and_says_nothing_more(lake: Lake) -> None:
    launch = life.claim_launch(lake, CRAWL, {})
    fenced = list[int]()

    def never(control: Control) -> None:
        raise AssertionError(control)

    with Reporter(lake, CRAWL, launch, Progress, on_wish=never, on_fenced=lambda: fenced.append(1)) as reporter:
        wait_for(lambda: progress.last_word(lake, "s", KEY) is not None)
        say(lake, CRAWL, life.claim_launch(lake, CRAWL, {}), "paused")
        wait_for(lambda: fenced != [])
        time.sleep(0.2)
        say(lake, CRAWL, 2, "paused")
        reporter.last("interrupted")
    assert fenced == [1]
    said = progress.last_word(lake, "s", KEY)
    assert said and (said.launch, said.state) == (2, "paused")


@pytest.mark.usefixtures("beats")
def test_where_progress_cannot_be_written_a_stop_is_heard_all_the_same(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    launch = life.claim_launch(lake, CRAWL, {})
    lake.put(f"{progress_path('s', KEY)}/in-the-way", b"")
    wishes: list[Control] = []
    with Reporter(lake, CRAWL, launch, Progress, on_wish=wishes.append, on_fenced=pytest.fail) as reporter:
        asked = life.ask(lake, CRAWL, Wish.STOP, by="ann")
        wait_for(lambda: asked in wishes)
        reporter.last("stopped")
    assert [record.getMessage() for record in caplog.records if "Progress cannot be shown" in record.getMessage()]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.usefixtures("beats")
def test_an_unexpected_error_is_told_with_its_place_and_the_beats_go_on(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    launch = life.claim_launch(lake, CRAWL, {})
    asked = life.ask(lake, CRAWL, Wish.STOP, by="ann")
    wishes: list[Control] = []
    beats = count()

    def snapshot() -> Progress:
        if (beat := next(beats)) < 3:
            raise RuntimeError("dictionary changed size during iteration")
        return Progress(pages=beat)

    with Reporter(lake, CRAWL, launch, snapshot, on_wish=wishes.append, on_fenced=pytest.fail) as reporter:
        wait_for(lambda: (p := progress.last_word(lake, "s", KEY)) is not None and p.pages > 3)
        reporter.last("stopped")
    assert wishes[:4] == [asked] * 4
    [told] = [record for record in caplog.records if record.name == progress.__name__]
    assert told.levelname == "ERROR"
    assert told.exc_text and "RuntimeError: dictionary changed size" in told.exc_text


@given(gaps=st.lists(st.floats(0.01, 50), min_size=1, max_size=2000), cut=st.integers(0, 2000))
@settings(max_examples=50, deadline=None)
def test_a_plot_never_has_more_points_than_it_may_and_always_the_newest(gaps: list[float], cut: int) -> None:
    series, at, points = Series(), 0.0, list[progress.Point]()
    for number, gap in enumerate(gaps):
        at += gap
        points = series.extend((at, number, 0))
        assert len(points) <= progress.MOST_POINTS
        assert points[-1] == (at, number, 0)
        assert all(one[0] < next_[0] for one, next_ in pairwise(points))
        if number == cut:  # another launch goes on
            series = Series(points)
    assert len(points) >= min(len(gaps), progress.MOST_POINTS // 8)


def test_a_plot_of_a_day_keeps_its_beginning_and_even_steps() -> None:
    series, points = Series(), list[progress.Point]()
    for second in range(86_400):
        points = series.extend((float(second), second, second))
    steps = [later[0] - earlier[0] for earlier, later in pairwise(points)][:-1]
    assert points[0][0] == 0 and len(points) > 80
    assert max(steps) <= 2.5 * min(steps)


# --- A step -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    made.declare(PAGES, seeds={"urls": ["http://127.0.0.1:9/"]})
    return made


def crawled(house: House, run: str = "run-1", **options: Any) -> Manifest:
    return run_crawl(
        house.settings, declarations.load(house.settings.sources)["s"], KEY, run_id=run, output=house.log, **options
    )


def launches(house: House, generation: int = 1) -> int:
    return life.newest_launch(house.lake, Crawl("s", KEY, generation))


def test_an_interrupted_crawl_is_started_again_and_a_retry_gets_the_result_without_a_process(
    house: House, program: Program
) -> None:
    program.will("die", "interrupt", "complete")
    told: list[Progress] = []
    manifest = crawled(house, on_progress=told.append)
    assert (manifest.generation, manifest.layer, manifest.run_id) == (1, "raw", "run-1")
    assert told[-1].state == "complete"
    assert crawled(house) == crawled(house, "run-9", root_run="run-1") == manifest
    assert launches(house) == 3
    assert not list(house.lake.paths(f"{CRAWL.folder}/attached/")), "nobody waits any more"
    program.will("complete")
    assert crawled(house, "run-2").generation == 2


def test_a_crawl_that_is_interrupted_again_and_again_is_given_up_in_words_and_can_be_resumed(
    house: House, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "RELAUNCHES", 1)
    program.will("die", "die", "complete")
    with pytest.raises(CrawlProcessError, match=r"killed by signal 9, SIGKILL.*It was started 2 times") as raised:
        crawled(house)
    assert raised.value.cause == "killed" and launches(house) == 2
    assert crawled(house).generation == 1


def test_a_failure_is_told_in_its_own_words_and_not_tried_again(house: House, program: Program) -> None:
    program.will("fail", "vanish", "complete")
    with pytest.raises(CrawlProcessError, match="the lake is full of eels") as raised:
        crawled(house)
    assert (raised.value.exit_code, raised.value.cause) == (1, "failed")
    assert life.standing(house.lake, "s", KEY).state is CrawlState.FAILED
    with pytest.raises(CrawlProcessError, match="ended without a result"):
        crawled(house)
    assert crawled(house).generation == 1
    assert launches(house) == 3


def test_the_manifest_counts_and_not_how_its_process_ended(house: House, program: Program) -> None:
    program.will("complete and die")
    assert crawled(house).generation == 1
    assert launches(house) == 1


def test_a_paused_crawl_ends_its_step_in_words_and_the_next_run_resumes_it(house: House, program: Program) -> None:
    with ThreadPoolExecutor() as pool:
        step = pool.submit(crawled, house)
        waiting = pool.submit(_attached, house, "run-2")
        wait_for(lambda: identity.attached(house.lake, CRAWL) == {"run-1", "run-2"})
        life.ask(house.lake, CRAWL, Wish.PAUSE, by="ann", why="they asked us to")
        for paused in (step, waiting):
            with pytest.raises(CrawlPausedError, match=r"paused by ann \(they asked us to\).*gossamer resume s"):
                paused.result(60)
    assert life.standing(house.lake, "s", KEY).state is CrawlState.PAUSED
    assert launches(house) == 1
    program.will("complete")
    assert crawled(house).generation == 1
    control = life.read_control(house.lake, CRAWL)
    assert control and (control.wish, control.by) == (Wish.RESUME, "run run-1")


def _attached(house: House, run: str) -> Manifest:
    """Runs once another run's crawl is there."""
    wait_for(lambda: _is_heard(house))
    return crawled(house, run)


def _is_heard(house: House) -> bool:
    said = life.standing(house.lake, "s", KEY).progress
    return said is not None and said.is_live


def test_a_crawl_that_was_stopped_while_it_paused_has_its_books_closed(house: House, program: Program) -> None:
    program.will("pause", "work")
    identity.begin(house.lake, CRAWL, "run-1")
    identity.mark_asked(house.lake, CRAWL, "run-1")
    life.ask(house.lake, CRAWL, Wish.STOP, by="ann")
    assert crawled(house).notes["books"]["state"] == "stopped"
    assert launches(house) == 2


def test_a_run_counts_as_waiting_from_the_moment_its_process_starts(
    house: House, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_POLL_SECONDS", 5.0)
    with ThreadPoolExecutor() as pool:
        step = pool.submit(crawled, house)
        wait_for(lambda: launches(house) == 1)
        waiting = identity.attached(house.lake, CRAWL)
        program.release()
        step.result(60)
    assert waiting == {"run-1"}


def test_a_crawl_that_was_resumed_while_it_paused_goes_on(house: House, program: Program) -> None:
    program.will("pause", "complete")
    identity.begin(house.lake, CRAWL, "run-1")
    life.ask(house.lake, CRAWL, Wish.RESUME, by="ann")
    assert crawled(house).generation == 1
    assert launches(house) == 2


def test_two_runs_of_a_partition_yield_one_crawl_by_one_process(house: House, program: Program) -> None:
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(crawled, house, "run-1"), *(pool.submit(_attached, house, f"run-{n}") for n in (2, 3))]
        wait_for(lambda: len(identity.attached(house.lake, CRAWL)) == 3)
        program.release()
        results = {run.result(60).version for run in runs}
    assert len(results) == 1
    assert launches(house) == 1


def test_a_run_whose_process_belonged_to_another_that_died_goes_on_by_itself(house: House, program: Program) -> None:
    identity.begin(house.lake, CRAWL, "run-0")
    other = program.start(house.lake)
    with ThreadPoolExecutor() as pool:
        run = pool.submit(crawled, house)
        wait_for(lambda: identity.attached(house.lake, CRAWL) == {"run-1"})
        program.will("complete")
        other.kill()
        other.wait()
        manifest = run.result(60)
    assert house.lake.scan("raw", "s", KEY).collect()["launch"].to_list() == [2]
    assert manifest.generation == 1


class Cancelled(BaseException):
    """As Dagster raises it in a step."""


def _cancel(said: Progress) -> None:
    raise Cancelled


def children() -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in listed.splitlines())
    return [int(pid) for pid, parent, args in rows if parent == str(os.getpid()) and "standin.py" in args]


def test_cancelling_the_only_run_stops_its_crawl_and_a_new_run_gets_a_new_one(house: House, program: Program) -> None:
    with pytest.raises(Cancelled):
        crawled(house, on_progress=_cancel)
    assert children() == []
    stopped = house.lake.current("incomplete", "s", KEY)
    assert (stopped.generation, stopped.notes["books"]["state"]) == (1, "stopped")
    control = life.read_control(house.lake, CRAWL)
    assert control and (control.wish, control.by, control.why) == (Wish.STOP, "run run-1", "cancelled")
    program.will("complete")
    assert crawled(house).generation == 2, "what was cancelled is nobody's result"


@pytest.mark.slow
def test_a_crawl_that_does_not_stop_when_it_is_cancelled_is_ended_and_its_books_are_closed_later(
    house: House, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.5)
    program.will("deaf", "work")
    with pytest.raises(Cancelled):
        crawled(house, on_progress=_cancel)
    assert children() == []
    assert life.result(house.lake, CRAWL) is None
    closed: list[Manifest | None] = []

    def watch(said: Progress) -> None:
        if said.generation == 2:
            closed.append(life.result(house.lake, CRAWL))
            program.release()

    program.will("work")
    monkeypatch.setattr(process, "STOP_SECONDS", 2.0)
    assert crawled(house, "run-2", on_progress=watch).generation == 2
    assert closed[0] and closed[0].notes["books"]["state"] == "stopped"


def test_cancelling_one_of_two_runs_leaves_the_crawl_to_the_other(house: House, program: Program) -> None:
    cancel = threading.Event()

    def until_cancelled(said: Progress) -> None:
        if cancel.is_set():
            raise Cancelled

    with ThreadPoolExecutor() as pool:
        first = pool.submit(crawled, house, "run-1", on_progress=until_cancelled)
        second = pool.submit(_attached, house, "run-2")
        wait_for(lambda: identity.attached(house.lake, CRAWL) == {"run-1", "run-2"})
        cancel.set()
        with pytest.raises(Cancelled):
            first.result(60)
        wait_for(lambda: launches(house) == 2)
        program.release()
        assert second.result(60).generation == 1
    assert life.read_control(house.lake, CRAWL) is None


def test_cancelling_a_run_that_only_waits_leaves_the_crawl_to_the_one_that_works(
    house: House, program: Program
) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(crawled, house, "run-1")
        wait_for(lambda: _is_heard(house))
        with pytest.raises(Cancelled):
            crawled(house, "run-2", on_progress=_cancel)
        assert life.is_live(house.lake, CRAWL)
        program.release()
        assert first.result(60).generation == 1
    assert launches(house) == 1


def test_a_run_whose_process_is_told_to_end_interrupts_its_crawl_and_does_not_stop_it(
    house: House, program: Program
) -> None:
    with pytest.raises(Cancelled):
        crawled(house, on_progress=_cancel, is_cancelled=lambda: False)
    assert children() == []
    assert life.standing(house.lake, "s", KEY).state is CrawlState.INTERRUPTED
    assert life.read_control(house.lake, CRAWL) is None


def test_a_step_that_fails_itself_interrupts_its_crawl_and_does_not_stop_it(house: House, program: Program) -> None:
    def broken(said: Progress) -> None:
        raise ValueError("no place in the event log")

    with pytest.raises(ValueError, match="event log"):
        crawled(house, on_progress=broken)
    assert children() == []
    assert life.standing(house.lake, "s", KEY).state is CrawlState.INTERRUPTED
    assert life.read_control(house.lake, CRAWL) is None
    program.will("complete")
    assert crawled(house).generation == 1


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_a_crawls_process_keeps_its_store_where_its_parent_says(tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    assert Settings.load(lake=lake, environ={}).crawls == tmp_path / "lake.state" / "crawls"
    settings = Settings.load(
        lake=lake, environ={"GOSSAMER_CRAWLS": str(tmp_path / "x"), "GOSSAMER_PARKING": "continuous"}
    )
    again = Settings.load(environ=settings.environ())
    assert (again.crawls, again.parking) == (tmp_path / "x", "continuous")
    with pytest.raises(ConfigurationError, match=r"GOSSAMER_PARKING is 'often'\. Use one of: at_rest, continuous"):
        Settings.load(environ={"GOSSAMER_PARKING": "often"})
