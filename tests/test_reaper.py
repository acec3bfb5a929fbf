"""What the reaper does with Jobs that nobody follows: real ticks of the sensor, a server in the cluster's place."""

import json
import time
import uuid
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from gossamer.cluster import reap
from gossamer.cluster.config import Cluster
from gossamer.cluster.jobs import ClusterAwayError, Jobs
from gossamer.cluster.reap import RunState, Seen
from gossamer.crawl import deaths, identity, life
from gossamer.crawl.identity import Crawl, Wish
from gossamer.crawl.progress import Progress, progress_path
from gossamer.lake import Lake, stage
from gossamer.settings import Settings
from sensors.reaper import build_reaper_sensor
from tests import cluster_api
from tests.cluster_api import Api

STARTED, FAILED = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
CANCELED, SUCCESS = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS
CRAWL = Crawl("shop", "2026-01-05|de", 1)
RECORDS = Path(__file__).parent / "cluster_records"


@dataclass
class Installation:
    """A lake, a cluster, and looks at them, one after another; time passes between looks where a test says so."""

    api: Api
    folder: Path
    lake: Lake
    states: dict[str, RunState] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    now: float = field(default_factory=time.time)
    wish: Wish = Wish.STOP

    def job(self, state: RunState | None, crawl: Crawl = CRAWL, *, runs: bool = True, ordinal: int = 1) -> str:
        """A Job whose run is in this state, None: unknown; its pod runs, or there is none yet."""
        run = str(uuid.uuid4())
        if state:
            self.states[run] = state
        name = self.api.add(crawl, run, self.lake.uri, ordinal)
        if runs:
            self.api.start(name)
        return name

    def run_of(self, job: str) -> str:
        return str(self.api.jobs[job]["metadata"]["labels"]["dagster/run-id"])

    def look(self, later: float = 0.0, lake: Lake | None = None) -> reap.Look:
        """One look, so many seconds after the last one; what it saw is remembered as Dagster does."""
        self.now += later
        cluster = Cluster.load(cluster_api.declare(self.folder, self.api))
        with Jobs(cluster) as jobs:
            look = reap.reap(jobs, lake or self.lake, self._states, self.seen, self.wish, self.now)
        self.seen = Seen.read(look.seen.write())
        return look

    def _states(self, ids: Set[str]) -> dict[str, RunState]:
        return {run: state for run, state in self.states.items() if run in ids}

    def complete(self, crawl: Crawl = CRAWL) -> None:
        """The crawl has its manifest."""
        with stage(pl.DataFrame({"id": ["1"]})) as rows:
            notes = {"books": {"generation": crawl.generation, "state": "complete"}}
            self.lake.commit("raw", crawl.source, crawl.key, rows, crawl_id=crawl.id, notes=notes)

    def said(self, state: str, at: float | None = None, crawl: Crawl = CRAWL) -> None:
        """The crawl's last word."""
        launch = identity.newest_launch(self.lake, crawl)
        told = Progress(generation=crawl.generation, launch=launch, told_at=at or self.now, state=state)
        self.lake.put(progress_path(crawl.source, crawl.key), told.model_dump_json().encode())

    def asked(self, crawl: Crawl = CRAWL) -> tuple[str, str] | None:
        control = identity.read_control(self.lake, crawl)
        return (control.wish.value, control.why) if control else None

    def deaths(self, crawl: Crawl = CRAWL) -> list[str]:
        return [death.cause for death in deaths.noted(self.lake, crawl)]


@pytest.fixture
def api() -> Iterator[Api]:
    with cluster_api.serve() as found:
        yield found


@pytest.fixture
def here(api: Api, tmp_path: Path) -> Installation:
    return Installation(api, tmp_path, Lake(str(tmp_path / "lake")))


# -- Jobs that are followed -------------------------------------------------------------------------------------------


class UntouchedLake(Lake):
    """Whoever reads it fails."""

    @property
    def store(self) -> Any:
        raise AssertionError("the lake was asked")


def test_a_thousand_jobs_of_active_runs_cost_one_list_call_and_nothing_in_the_lake(here: Installation) -> None:
    for number in range(1000):
        here.job(RunState.ACTIVE, Crawl("shop", f"key-{number}", 1), runs=False)
    look = here.look(lake=UntouchedLake(here.lake.uri))
    assert here.api.asked == [("GET", "/apis/batch/v1/namespaces/crawls/jobs")]
    assert (look.done, look.failed, len(look.seen.active)) == ([], [], 1000)
    assert len(look.seen.write()) < 10_000  # Dagster keeps it with each tick of a week
    assert Seen.read(look.seen.write()) == look.seen


def test_jobs_of_another_installation_in_the_namespace_are_left_alone(here: Installation) -> None:
    name = here.api.add(CRAWL, "run-of-others", "s3://bucket/others")
    for _ in range(3):
        here.look(later=10_000)
    assert name in here.api.jobs


def test_jobs_that_are_none_of_ours_are_left_alone(here: Installation) -> None:
    del here.api.jobs[name := here.job(None)]["metadata"]["annotations"]
    here.look()
    assert here.look(later=10_000).done == [] and name in here.api.jobs


@pytest.mark.parametrize("state", [RunState.ENDED, RunState.CANCELLED, None])
def test_a_job_that_another_run_waits_for_is_left_alone_whatever_became_of_its_own(
    here: Installation, state: RunState | None
) -> None:
    name = here.job(state)
    for _ in range(4):
        identity.attach(here.lake, CRAWL, "another-run")
        assert here.look(later=1000).done == []
    assert name in here.api.jobs and here.asked() is None


def test_a_job_whose_run_this_instance_never_knew_is_not_stopped(here: Installation) -> None:
    """Its run may not be written down yet, or belong to another Dagster instance of this lake."""
    name = here.job(None)
    here.look()
    here.look(later=reap.ORPHAN_SECONDS - 1)
    assert name in here.api.jobs and here.asked() is None
    here.look(later=2)
    assert here.asked() == ("pause", "its run ended without it, and no other came")


def test_a_run_that_is_retried_finds_its_crawl_running(here: Installation) -> None:
    name = here.job(RunState.ENDED)
    here.look()
    here.look(later=reap.ORPHAN_SECONDS - 1)
    identity.attach(here.lake, CRAWL, "the-retry")
    here.look(later=10)
    identity.detach(here.lake, CRAWL, "the-retry")
    here.look(later=10)  # it failed too: what was waited for the first time does not count
    here.look(later=reap.ORPHAN_SECONDS - 1)
    assert name in here.api.jobs and here.asked() is None


# -- crawls that nobody wants -----------------------------------------------------------------------------------------


def test_the_crawl_of_a_cancelled_run_is_stopped_and_its_job_removed_if_it_does_not_end(here: Installation) -> None:
    name = here.job(RunState.CANCELLED)
    assert here.look().done == [f"{CRAWL.id} is asked to stop: cancelled"]
    here.look(later=reap.END_SECONDS - 1)
    assert name in here.api.jobs
    assert here.look(later=2).done == [f"Job {name} is removed: its crawl was asked to end, and did not"]
    assert here.api.jobs == here.api.pods == {} and here.look().seen.active == {}
    assert here.asked() == ("stop", life.CANCELLED)


def test_a_crawl_that_writes_its_rows_is_given_the_time_that_it_takes(here: Installation) -> None:
    name = here.job(RunState.CANCELLED)
    here.look()
    for _ in range(5):
        here.now += 100
        here.said("committing")
        here.look()
    assert name in here.api.jobs
    here.look(later=100)  # not heard of any more
    assert name not in here.api.jobs


def test_a_cancelled_crawl_that_has_not_begun_is_removed_at_once(here: Installation) -> None:
    here.job(RunState.CANCELLED, runs=False)
    here.look()
    assert here.api.jobs == {} and here.asked() == ("stop", life.CANCELLED)


def test_an_installation_that_pauses_cancelled_crawls_has_them_paused(here: Installation) -> None:
    here.wish = Wish.PAUSE
    here.job(RunState.CANCELLED)
    here.look()
    assert here.asked() == ("pause", life.CANCELLED)


def test_a_stop_that_somebody_asked_for_long_ago_is_no_reason_to_hurry(here: Installation) -> None:
    """So is a crawl at rest stopped: a Job is made to close its books."""
    identity.ask(here.lake, CRAWL, Wish.STOP, by="ann")
    here.now += 10_000
    name = here.job(RunState.CANCELLED)
    assert here.look().done == []
    here.look(later=reap.END_SECONDS - 1)
    assert name in here.api.jobs


def test_a_deleted_run_leaves_nothing_though_its_process_still_waits(here: Installation) -> None:
    name = here.job(RunState.ACTIVE)
    run = here.run_of(name)
    here.look()
    del here.states[run]
    identity.attach(here.lake, CRAWL, run)
    here.look(later=30)
    # Any other reason than a cancelled run's: the process that waits takes the stopped crawl for its result.
    assert here.asked() == ("stop", "its run was deleted")
    identity.attach(here.lake, CRAWL, run)
    here.look(later=1000)
    assert name in here.api.jobs  # its process follows it to its end, and removes it
    identity.detach(here.lake, CRAWL, run)
    here.look(later=1)
    assert here.api.jobs == {}


def test_a_crawl_whose_run_failed_for_good_is_paused_and_its_job_goes(here: Installation) -> None:
    name = here.job(RunState.ENDED)
    here.look()
    here.look(later=reap.ORPHAN_SECONDS)
    assert here.asked() == ("pause", "its run ended without it, and no other came")
    here.api.finish(name, here.now, kind="Failed", reason="PodFailurePolicy", message=PAUSED)
    here.look(later=30)
    assert name in here.api.jobs  # another run may be about to read it
    here.look(later=reap.FINISHED_SECONDS)
    assert here.api.jobs == {} and here.deaths() == []


PAUSED = "Container crawl for pod crawls/x-1 failed with exit code 76 matching FailJob rule at index 0"


def test_a_crawl_is_not_hurried_out_of_a_pause_that_somebody_asked_for(here: Installation) -> None:
    identity.ask(here.lake, CRAWL, Wish.PAUSE, by="ann", why="for lunch")
    here.job(RunState.ENDED)
    for later in (0, reap.ORPHAN_SECONDS, 10):
        here.look(later=later)
    assert here.asked() == ("pause", "for lunch")


def test_a_process_that_hangs_when_its_crawl_is_over_is_removed(here: Installation) -> None:
    here.job(RunState.ENDED)
    here.look()
    here.look(later=100)
    here.complete()
    assert here.look().done == here.look(later=reap.FINISHED_SECONDS - 1).done == []
    here.look(later=2)
    assert here.api.jobs == {} and here.asked() is None


def test_a_job_of_a_crawl_that_a_newer_one_replaced_is_removed(here: Installation) -> None:
    here.job(RunState.ENDED)
    identity.begin(here.lake, Crawl(CRAWL.source, CRAWL.key, 2), "fresh-run")
    here.look()
    here.look(later=reap.FINISHED_SECONDS + 1)
    assert here.api.jobs == {} and here.asked() is None


# -- Jobs that are over -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.ENDED, RunState.CANCELLED, None])
def test_a_finished_job_of_a_run_that_is_over_goes_without_a_look_at_the_lake(
    here: Installation, state: RunState | None
) -> None:
    here.api.finish(here.job(state), here.now)
    untouched = UntouchedLake(here.lake.uri)
    assert here.look(lake=untouched).done == here.look(later=reap.FINISHED_SECONDS - 2, lake=untouched).done == []
    here.look(later=3, lake=untouched)
    assert here.api.jobs == {}


def test_a_finished_job_is_kept_while_its_run_may_read_it(here: Installation) -> None:
    here.api.finish(here.job(RunState.ACTIVE), here.now)
    here.look(later=10_000)
    assert here.api.jobs


def test_a_job_that_failed_is_left_to_people_and_to_kubernetes(here: Installation) -> None:
    name = here.job(RunState.ENDED)
    message = "Container crawl for pod crawls/x-1 failed with exit code 2"
    here.api.finish(name, here.now, kind="Failed", reason="BackoffLimitExceeded", message=message)
    here.look(later=3000)
    assert name in here.api.jobs and here.deaths() == []  # the run that followed it has noted why
    here.states[here.run_of(name)] = RunState.CANCELLED
    here.look()
    assert here.api.jobs == {}


def test_how_a_job_died_that_nobody_followed_is_noted_with_its_crawl(here: Installation) -> None:
    name = here.job(RunState.ENDED, runs=False)
    here.look()
    here.api.start(name, json.loads((RECORDS / "oom.json").read_text())["pods"][0])
    here.api.finish(name, here.now, kind="Failed", reason="BackoffLimitExceeded", message="has reached the limit")
    here.look(later=30)
    here.look(later=30)
    assert here.deaths() == ["out of memory"]


# -- Jobs that vanished -----------------------------------------------------------------------------------------------


def test_a_job_that_was_deleted_is_marked_with_its_crawl_once(here: Installation) -> None:
    name = here.job(RunState.ENDED)
    identity.begin(here.lake, CRAWL, "r")
    identity.claim_launch(here.lake, CRAWL, {})
    here.look()
    del here.api.jobs[name]
    here.said("interrupted")
    for _ in range(3):
        here.look(later=120)
    assert here.deaths() == ["removed"]
    stands = life.standing(here.lake, CRAWL.source, CRAWL.key)
    assert stands.state is life.CrawlState.INTERRUPTED
    assert stands.death and f"its Job {name} was deleted, and nobody followed it" in stands.death.words
    assert here.seen.active == {}


def test_a_job_that_was_deleted_before_its_pod_has_ended_is_marked_when_that_is_known(here: Installation) -> None:
    name = here.job(RunState.ENDED)
    identity.claim_launch(here.lake, CRAWL, {})
    here.said("running")
    here.look()
    del here.api.jobs[name]
    here.look(later=120)
    assert here.deaths() == [] and here.seen.active
    here.said("running", at=time.time() - 100)
    here.look(later=120)
    assert here.deaths() == ["removed"] and not here.seen.active


@pytest.mark.parametrize("why", ["over", "paused", "failed", "stopped", "followed", "next", "noted"])
def test_a_job_that_went_for_a_reason_is_no_death(here: Installation, why: str) -> None:
    name = here.job(RunState.ENDED)
    here.look()
    del here.api.jobs[name]
    match why:
        case "over":
            here.complete()
        case "paused" | "failed":
            here.said(why)
        case "stopped":
            identity.ask(here.lake, CRAWL, Wish.STOP, by="ann")
        case "followed":
            identity.attach(here.lake, CRAWL, "another-run")
        case "next":
            here.job(RunState.ACTIVE, ordinal=2)
        case "noted":
            deaths.note(here.lake, CRAWL, deaths.NeverScheduledError("no node takes its pod."))
    known = here.deaths()
    for _ in range(3):
        here.look(later=30)
    assert here.deaths() == known and f"{CRAWL.id}/1" not in here.seen.active


# -- lost nodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.ENDED, RunState.CANCELLED])
def test_a_job_whose_pod_went_with_its_node_is_removed_with_the_pod_and_marked(
    here: Installation, state: RunState
) -> None:
    name = here.job(state, runs=False)
    pod = here.api.start(name, json.loads((RECORDS / "node-lost.json").read_text())["pods"][0])
    here.said("running", at=here.now - 5)
    here.look()
    assert name in here.api.jobs  # it is heard of: whatever the cluster thinks of its node
    here.look(later=30)
    assert here.api.jobs == here.api.pods == {}
    assert here.api.asked[-2:] == [
        ("DELETE", f"/apis/batch/v1/namespaces/crawls/jobs/{name}"),
        ("DELETE", f"/api/v1/namespaces/crawls/pods/{pod}"),
    ]
    assert here.deaths() == ["node lost"]
    assert here.asked() == (("stop", life.CANCELLED) if state is RunState.CANCELLED else None)


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_a_job_that_cannot_be_removed_stops_no_other(here: Installation) -> None:
    crawls = [Crawl("shop", f"key-{number}", 1) for number in range(10)]
    names = [here.job(RunState.CANCELLED, crawl, runs=False) for crawl in crawls]
    here.api.refused[names[3]] = 403
    look = here.look()
    assert list(here.api.jobs) == [names[3]]
    [failed] = look.failed
    assert names[3] in failed and "this right" in failed
    here.api.refused.clear()
    assert here.look(later=30).failed == [] and here.api.jobs == {}


def test_a_crawl_whose_objects_cannot_be_read_stops_no_other(here: Installation) -> None:
    broken, other = Crawl("shop", "broken", 1), Crawl("shop", "other", 1)
    names = [here.job(RunState.CANCELLED, crawl, runs=False) for crawl in (broken, other)]
    here.lake.put(f"{broken.folder}/control.json", b"?")
    look = here.look()
    assert list(here.api.jobs) == names[:1]
    assert len(look.failed) == 1 and "broken" in look.failed[0]


def test_a_cluster_that_goes_away_in_the_middle_is_asked_again_at_the_next_look(here: Installation) -> None:
    crawls = [Crawl("shop", f"key-{number}", 1) for number in range(10)]
    names = [here.job(RunState.CANCELLED, crawl, runs=False) for crawl in crawls]
    here.api.refused = dict.fromkeys(names, 503)
    asked = len(here.api.asked)
    assert len(here.look().failed) == 1
    assert [method for method, _ in here.api.asked[asked:]] == ["GET", "GET", "DELETE"]
    here.api.refused.clear()
    here.look(later=30)
    assert here.api.jobs == {}


def test_what_is_too_much_for_one_look_is_left_to_the_next(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        here.job(RunState.CANCELLED, Crawl("shop", f"key-{number}", 1), runs=False)
    monkeypatch.setattr(reap, "LOOK_SECONDS", -1)
    [failed] = here.look().failed
    assert "5 of 5 are left" in failed and len(here.api.jobs) == 5
    monkeypatch.undo()
    here.look()
    assert here.api.jobs == {}


# -- the sensor -------------------------------------------------------------------------------------------------------


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@dataclass
class Sensor:
    """Ticks of the sensor, one after another."""

    here: Installation
    instance: dg.DagsterInstance
    cursor: str | None = None

    def run(self, crawl: Crawl, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """A run in this state, and its crawl's Job, which has no pod yet."""
        run = self.instance.add_run(dg.DagsterRun(job_name="shop", run_id=str(uuid.uuid4()), status=status))
        self.here.api.add(crawl, run.run_id, self.here.lake.uri)
        return run

    def tick(self, **declared: Any) -> str:
        path = cluster_api.declare(self.here.folder, self.here.api, **declared)
        places = {"GOSSAMER_LAUNCHER": "kubernetes", "GOSSAMER_KUBERNETES": str(path)}
        settings = Settings.load(lake=self.here.lake.uri, environ=places)
        with dg.build_sensor_context(self.instance, cursor=self.cursor) as context:
            data = build_reaper_sensor(settings).evaluate_tick(context)
        assert not data.run_requests
        self.cursor = data.cursor
        return data.skip_message or ""

    def crawls(self) -> set[str]:
        return {job["metadata"]["annotations"]["gossamer.io/partition"] for job in self.here.api.jobs.values()}


@pytest.fixture
def sensor(here: Installation, instance: dg.DagsterInstance) -> Sensor:
    return Sensor(here, instance)


def test_a_tick_tells_runs_apart_by_what_dagster_says_of_them(sensor: Sensor) -> None:
    statuses = set(dg.DagsterRunStatus) - {dg.DagsterRunStatus.QUEUED}  # which needs more of a run than is here
    unfinished = statuses - {SUCCESS, FAILED, CANCELED}
    for status in statuses:
        sensor.run(Crawl("shop", status.value, 1), status)
    said = sensor.tick()
    assert "shop/CANCELED/1 is asked to stop: cancelled" in said
    assert sensor.crawls() == {status.value for status in unfinished} | {"SUCCESS", "FAILURE"}
    assert sensor.tick() == f"Nothing to clear; {len(unfinished) + 2} Jobs are at work."


def test_the_crawl_of_a_run_that_is_deleted_from_the_instance_is_stopped(sensor: Sensor) -> None:
    run = sensor.run(CRAWL, STARTED)
    sensor.tick()
    sensor.instance.delete_run(run.run_id)
    assert "its run was deleted" in sensor.tick(cancelled="stop")
    assert sensor.crawls() == set() and sensor.here.asked() == ("stop", "its run was deleted")


def test_the_setting_says_what_becomes_of_a_cancelled_runs_crawl(sensor: Sensor) -> None:
    sensor.run(CRAWL, CANCELED)
    sensor.tick(cancelled="pause")
    assert sensor.here.asked() == ("pause", life.CANCELLED)


def test_a_cursor_of_another_version_is_begun_anew(sensor: Sensor) -> None:
    sensor.run(CRAWL, STARTED)
    for cursor in ("", "not base64 at all", "eJxLAgAAYgBi", '{"active": {}}'):
        sensor.cursor = cursor
        assert sensor.tick() == "Nothing to clear; 1 Jobs are at work."


def test_a_tick_in_which_something_fails_says_so_and_remembers_the_rest(sensor: Sensor) -> None:
    sensor.run(CRAWL, CANCELED)
    sensor.run(Crawl("shop", "other", 1), STARTED)
    sensor.here.api.refused = dict.fromkeys(sensor.here.api.jobs, 403)
    assert "this right" in sensor.tick()
    assert len(Seen.read(sensor.cursor).active) == 2


def test_a_tick_that_does_much_does_not_fill_the_database(sensor: Sensor) -> None:
    for number in range(100):
        sensor.run(Crawl("shop", f"key-{number}", 1), CANCELED)
    said = sensor.tick().splitlines()
    assert len(said) == 21 and said[-1] == "... and 180 more, in the tick's log"
    assert sensor.crawls() == set()


def test_a_cluster_that_cannot_be_asked_fails_the_tick_in_words(sensor: Sensor) -> None:
    sensor.here.api.url = "http://127.0.0.1:9"
    with pytest.raises(ClusterAwayError, match="cannot be reached"):
        sensor.tick()
