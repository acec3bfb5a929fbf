"""What runs that are cancelled, killed or deleted leave on a real cluster: nothing, and no crawl that nobody wants.

Steps are processes of their own here, the reaper looks when a test says so; its rules are in `tests/test_reaper.py`.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor

import pytest

from gossamer.cluster import reap
from gossamer.cluster.config import Cluster as Declared
from gossamer.cluster.jobs import Jobs, job_name
from gossamer.cluster.reap import RunState, Seen
from gossamer.crawl import life
from gossamer.settings import PROJECT
from tests.k8s import pods
from tests.k8s.crawls import LATENCY_SECONDS, ClusterTrial, New
from tests.k8s.servers import Site
from tests.k8s.steps import CANCELLED, StepProcess
from tests.torture.crawls import KEY, NAME, Truth

#: A crawl that nobody wants any more fetches nothing after so long.
QUIET_SECONDS = 10
#: Likewise where twenty processes start, four at once: on two cores each takes its time to hear it.
BUSY_QUIET_SECONDS = 60


@pytest.fixture
def crawl(new: New, site: Site, monkeypatch: pytest.MonkeyPatch) -> ClusterTrial:
    """The test's crawl, of a slow site; the reaper is in a hurry."""
    monkeypatch.setattr(reap, "FINISHED_SECONDS", 5.0)
    monkeypatch.setattr(reap, "END_SECONDS", 20.0)
    monkeypatch.setattr(reap, "ORPHAN_SECONDS", 3.0)
    site.slow_down(LATENCY_SECONDS)
    return new()


class Reaper:
    """Looks at the cluster, with what Dagster would know of the runs."""

    def __init__(self, crawl: ClusterTrial) -> None:
        self.crawl = crawl
        self.states: dict[str, RunState] = {}
        self.seen = Seen()
        self.done: list[str] = []

    def look(self, **states: RunState) -> None:
        """One look; the states of runs that have changed."""
        self.states.update({name.replace("_", "-"): state for name, state in states.items()})
        with Jobs(Declared.load(self.crawl.config)) as jobs:
            look = reap.reap(jobs, self.crawl.lake, self._states, self.seen)
        assert look.failed == []
        self.seen = Seen.read(look.seen.write())
        self.done += look.done

    def _states(self, ids: Set[str]) -> dict[str, RunState]:
        return {run: state for run, state in self.states.items() if run in ids}

    def until(self, what: str, probe: Callable[[], bool], seconds: float = 90) -> None:
        """Looks again and again."""

        def look() -> bool:
            self.look()
            return probe()

        self.crawl.cluster.wait_for(what, look, seconds=seconds, namespace=self.crawl.namespace, every=1.0)


def last_request(site: Site) -> float:
    return max(asked.at for asked in site.asked())


def state_of(crawl: ClusterTrial) -> life.CrawlState:
    return life.standing(crawl.lake, NAME, KEY).state


def test_the_crawl_of_a_cancelled_run_whose_process_was_killed_is_stopped_and_leaves_nothing(
    crawl: ClusterTrial, site: Site
) -> None:
    reaper = Reaper(crawl)
    with StepProcess(crawl, "run-1") as step:
        site.wait_for(30, seconds=120)
        reaper.look(run_1=RunState.ACTIVE)
        step.kill()
    cancelled = time.time()
    reaper.look(run_1=RunState.CANCELLED)
    reaper.until("a clear namespace", crawl.is_clear)
    assert last_request(site) - cancelled < QUIET_SECONDS
    assert state_of(crawl) is life.CrawlState.STOPPED


def test_the_crawl_of_a_run_that_was_deleted_is_stopped_and_leaves_nothing_though_its_process_goes_on(
    crawl: ClusterTrial, site: Site
) -> None:
    reaper = Reaper(crawl)
    step = crawl.step("run-1")
    site.wait_for(30, seconds=120)
    reaper.look(run_1=RunState.ACTIVE)
    deleted = time.time()
    del reaper.states["run-1"]
    reaper.look()
    manifest = step.ended(90)
    assert manifest.notes["books"]["state"] == life.CrawlState.STOPPED
    reaper.until("a clear namespace", crawl.is_clear)
    assert last_request(site) - deleted < QUIET_SECONDS


def test_a_crawl_whose_run_failed_without_a_retry_pauses_and_the_next_run_goes_on_exactly(
    crawl: ClusterTrial, site: Site, known: Truth
) -> None:
    reaper = Reaper(crawl)
    with StepProcess(crawl, "run-1") as step:
        site.wait_for(known.moment(0.2), seconds=120)
        step.kill()
    reaper.look(run_1=RunState.ENDED)
    assert crawl.jobs() and life.read_control(crawl.lake, crawl.crawl) is None  # it may be retried
    reaper.until("a clear namespace", crawl.is_clear)
    assert state_of(crawl) is life.CrawlState.PAUSED
    assert life.standing(crawl.lake, NAME, KEY).death is None
    site.slow_down(0.0)
    manifest = crawl.step("run-2").ended()
    assert crawl.outcome().differences(known.outcome) == []
    assert manifest.notes["books"]["deaths"] == []


def test_a_crawl_that_nobody_followed_to_its_end_has_its_rows_and_its_job_goes(
    crawl: ClusterTrial, site: Site, known: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reap, "ORPHAN_SECONDS", 900.0)
    reaper = Reaper(crawl)
    with StepProcess(crawl, "run-1") as step:
        site.wait_for(known.moment(0.1), seconds=120)
        step.kill()
    reaper.look(run_1=RunState.ENDED)
    site.slow_down(0.0)
    reaper.until("a clear namespace", crawl.is_clear, seconds=150)
    assert crawl.outcome().differences(known.outcome) == []
    [done] = reaper.done
    assert done.startswith(f"Job {_first_job(crawl)} is removed: ")


def _first_job(crawl: ClusterTrial) -> str:
    return job_name(crawl.crawl, 1, crawl.settings.lake)


def test_a_job_that_somebody_deleted_while_nobody_followed_it_is_told_of_by_status(
    crawl: ClusterTrial, site: Site
) -> None:
    reaper = Reaper(crawl)
    with StepProcess(crawl, "run-1") as step:
        site.wait_for(30, seconds=120)
        step.kill()
    reaper.look(run_1=RunState.ENDED)
    crawl.cluster.kubectl("delete", "job", _first_job(crawl), "-n", crawl.namespace, "--wait=false")
    reaper.until("the note of it", lambda: not reaper.seen.active)
    crawl.cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)
    command = [sys.executable, "-m", "gossamer", "status", NAME]
    places = ["--sources", str(crawl.settings.sources), "--lake", crawl.settings.lake]
    said = subprocess.run([*command, *places], capture_output=True, text=True, cwd=PROJECT, timeout=120, check=False)
    assert f"its Job {_first_job(crawl)} was deleted, and nobody followed it" in said.stdout, said


# -- many cancelled runs ----------------------------------------------------------------------------------------------

STEPS, AT_ONCE = 20, 4
#: By turns: about when its Job is made, while its pod waits or starts, and so long after its first page.
MADE_WITHIN, STARTED_WITHIN, FETCHED_FOR = 1.0, 4.0, 3.0
#: Of so many steps one is killed instead: then only the reaper can do it.
KILLED_OF = 5

ENDLESS_SOURCE = f"""
name: {NAME}
spider: spider:EndlessSpider
partitions: {{period: daily, start: 2026-01-01}}
seeds: {{file: seeds.txt}}
politeness: {{robots: ignore, requests_per_second: null, concurrency: 4}}
fetch: {{allow_private: true}}
record: {{key: [n], fields: {{n: int}}}}
"""
ENDLESS_SPIDER = """
import scrapy


class EndlessSpider(scrapy.Spider):
    name = "endless"

    def parse(self, response, n=1):
        yield {"n": n}
        for more in (2 * n, 2 * n + 1):
            yield response.follow(f"/page/{more}?of={self.partition}", cb_kwargs={"n": more})
"""


def test_nothing_is_left_of_twenty_crawls_that_were_cancelled_at_random_moments(
    crawl: ClusterTrial, site: Site
) -> None:
    folder = crawl.folder / "sources" / NAME
    (folder / "source.yaml").write_text(ENDLESS_SOURCE)
    (folder / "spider.py").write_text(ENDLESS_SPIDER)
    crawl.cluster.apply(pods.source_map(folder), namespace=crawl.namespace)
    crawl.declare(memory="256Mi")
    draw = random.Random(20)
    parts = [draw.random() for _ in range(STEPS)]
    ended: dict[str, float] = {}

    def requests_of(key: str) -> list[float]:
        return [asked.at for asked in site.asked() if asked.path.endswith(f"of={key}")]

    def wait(number: int, key: str) -> None:
        part = parts[number]
        if number % 3 < 2:
            time.sleep(MADE_WITHIN + part * (STARTED_WITHIN - MADE_WITHIN) if number % 3 else part * MADE_WITHIN)
            return
        crawl.cluster.wait_for(
            f"a request of {key}", lambda: requests_of(key), seconds=120, namespace=crawl.namespace, every=0.1
        )
        time.sleep(part * FETCHED_FOR)

    def cancelled(number: int) -> None:
        key = f"2026-02-{number + 1:02}"
        with StepProcess(crawl, f"run-{number}", key) as step:
            wait(number, key)
            if number % KILLED_OF == 0:
                step.kill()
                return
            ended[key] = time.time()
            step.cancel()
            assert step.ended() == CANCELLED, step.said()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(cancelled, range(STEPS)))
    runs = {f"run-{number}" for number in range(0, STEPS, KILLED_OF)}
    left = {job.metadata.labels["dagster/run-id"] for job in crawl.jobs()}
    assert left <= runs, f"steps that were cancelled left Jobs: {left - runs}"

    reaper = Reaper(crawl)
    reaper.states = dict.fromkeys((f"run-{number}" for number in range(STEPS)), RunState.CANCELLED)
    ended |= {f"2026-02-{number + 1:02}": time.time() for number in range(0, STEPS, KILLED_OF)}
    reaper.until("a clear namespace", crawl.is_clear)
    for key, moment in ended.items():
        assert max(requests_of(key), default=0) - moment < BUSY_QUIET_SECONDS, key
    core = crawl.cluster.core
    assert [secret.metadata.name for secret in core.list_namespaced_secret(crawl.namespace).items] == [
        "s3"
    ]  # the test's
    assert core.list_namespaced_persistent_volume_claim(crawl.namespace).items == []
