"""Hours of a crawl's bad luck on a cluster in minutes: `make torture-k8s`, not a part of CI.

Disturbances in a row, at random moments; what goes twice, or together. Each must cost nothing but time, and how much is
measured at the site and shown as a table at the end. One disturbance each is in `test_crawls` and `test_outages`.

GOSSAMER_TEST_DISTURBANCES is how many there are in a row (default: 6), GOSSAMER_TEST_SEED says which and when.
"""

import contextlib
import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import V1DeleteOptions

from gossamer.manifest import Manifest
from tests.k8s import servers
from tests.k8s.cluster import Cluster
from tests.k8s.crawls import AGAIN_SECONDS, LATENCY_SECONDS, ClusterTrial, New
from tests.k8s.servers import S3Server, Site
from tests.k8s.steps import StepProcess
from tests.k8s.test_crawls import deleted, evicted, gone, killed, phase
from tests.k8s.test_outages import is_ready
from tests.torture.crawls import Truth, truth
from tests.torture.site import Plan

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800, func_only=True)]

#: Where machines are lost, and a minute passes each time until somebody knows, pages take longer.
SLOW_SECONDS = 0.6
STEP_SECONDS = 900
#: Requests repeated after one disturbance at most: 5 s that the lake may be behind, 16 at once, half a second each way.
MOST_REPEATED = round(16 / LATENCY_SECONDS * 6) + 16
DISTURBANCES = int(os.environ.get("GOSSAMER_TEST_DISTURBANCES", "6"))
#: Some 4,000 addresses are 80 s of undisturbed fetching, at 16 requests at once and the usual latency.
PLAN = Plan(pages=max(1600, 270 * DISTURBANCES))
SEED = int(os.environ.get("GOSSAMER_TEST_SEED", time.time()))


@dataclass
class Table:
    """What was measured: one line for each disturbance."""

    lines: list[str] = field(default_factory=list)

    def add(self, what: str, again: float, repeated: int, notes: str = "") -> None:
        """Of one disturbance: seconds until the site was asked again, and requests that it saw twice."""
        self.lines.append(f"| {what} | {again:.1f} | {repeated} | {notes} |")


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Written to the terminal when all is over."""
    found = Table()
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    heads = ["| disturbance | asked again after, s | repeated requests | |", "|---|---|---|---|"]
    with capture.global_and_fixture_disabled():
        print("", f"seed {SEED}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", *heads, *found.lines, sep="\n")


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A large one, the test's own."""
    with servers.torture_site(cluster, tmp_path, PLAN) as site:
        yield site


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The crawl on this machine that nobody disturbed."""
    return truth(tmp_path_factory.mktemp("known") / "crawl", PLAN)


# -- many disturbances of one crawl -----------------------------------------------------------------------------------


def killed_and_gone(crawl: ClusterTrial, pod: Any) -> float:
    killed(crawl, pod)
    return gone(crawl, pod)


def job_deleted(crawl: ClusterTrial, pod: Any) -> float:
    name = pod.metadata.labels["job-name"]
    crawl.cluster.batch.delete_namespaced_job(name, crawl.namespace, propagation_policy="Background")
    return gone(crawl, pod)


def frozen_and_woken(crawl: ClusterTrial, pod: Any) -> float:
    """As on a node that is cut off: nobody can end it, a successor is made, and then it is back."""
    crawl.signal(pod, signal.SIGSTOP)
    orphan = V1DeleteOptions(propagation_policy="Orphan")
    crawl.cluster.batch.delete_namespaced_job(pod.metadata.labels["job-name"], crawl.namespace, body=orphan)
    frozen = time.time()
    crawl.cluster.wait_for(
        "a successor",
        lambda: any(asked.at > frozen + 1 for asked in crawl.site.asked()),
        seconds=AGAIN_SECONDS,
        namespace=crawl.namespace,
    )
    crawl.signal(pod, signal.SIGCONT)
    crawl.cluster.wait_for(
        "the end of the older pod", lambda: phase(crawl, pod) in ("Failed", ""), seconds=60, namespace=crawl.namespace
    )
    return frozen + 1


KINDS: dict[str, Callable[[ClusterTrial, Any], float]] = {
    "SIGKILL": killed_and_gone,
    "evicted": evicted,
    "pod deleted": deleted,
    "Job deleted": job_deleted,
    "frozen and woken": frozen_and_woken,
}


def drawn(count: int) -> list[tuple[str, float]]:
    """So many kinds, all of them before one comes again, and for each its moment, as a share of the crawl."""
    draw = random.Random(SEED)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += draw.sample(sorted(KINDS), len(KINDS))
    return [(kind, 0.05 + 0.9 * (number + draw.random()) / count) for number, kind in enumerate(kinds[:count])]


def test_a_crawl_that_is_disturbed_again_and_again_loses_and_doubles_nothing(
    new: New, site: Site, known: Truth, table: Table
) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    resumptions, repeated = list[float](), list[int]()
    for kind, share in drawn(DISTURBANCES):
        site.wait_for(known.moment(share) + known.repeated(site), seconds=300)
        before = known.repeated(site)
        again = crawl.goes_on(step, KINDS[kind](crawl, crawl.running_pod()))
        # What was lost with the store is fetched first; and there is a parked copy again.
        time.sleep(7)
        resumptions.append(again)
        repeated.append(known.repeated(site) - before)
        table.add(f"{kind}, at {share:.0%}", again, repeated[-1])
    site.slow_down(0.0)
    manifest = step.ended(STEP_SECONDS)
    assert crawl.faults(known) == []
    assert len(causes(manifest)) >= DISTURBANCES - 1  # an evicted pod may have been at rest by itself
    assert max(repeated) <= MOST_REPEATED
    table.add(
        f"{DISTURBANCES} in a row: medians",
        statistics.median(resumptions),
        round(statistics.median(repeated)),
        f"rows exact; deaths: {', '.join(causes(manifest))}",
    )


def causes(manifest: Manifest) -> list[str]:
    return [death["cause"] for death in manifest.notes["books"]["deaths"]]


# -- what goes together, or twice -------------------------------------------------------------------------------------


def test_s3_and_the_api_server_are_away_at_the_same_time(
    new: New, cluster: Cluster, s3: S3Server, site: Site, known: Truth, table: Table
) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.2), seconds=90)
    try:
        with s3.away():
            cluster.kill("apiserver")
            time.sleep(12)  # 5 s that it may be behind, a log every 2 s, and what is under way
            held = time.time()
            time.sleep(18)
            back = time.time()
        again = crawl.goes_on(step, back)
    finally:
        cluster.restore()
    assert [request for request in site.asked() if held < request.at < back] == []
    site.slow_down(0.0)
    manifest = step.ended(STEP_SECONDS)
    assert crawl.faults(known) == []
    # An API server that is back has not heard of any node for 30 s, and may have the crawl leave one that is well.
    assert set(causes(manifest)) <= {"evicted", "node lost"}
    notes = f"rows exact; S3 back first; deaths: {', '.join(causes(manifest)) or 'none'}"
    table.add("S3 and API server away for 30 s", again, known.repeated(site), notes)
    cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)


def test_a_node_is_lost_and_when_it_is_back_the_other_one(
    new: New, cluster: Cluster, site: Site, known: Truth, table: Table
) -> None:
    crawl = new(node_lost_after="15s")
    site.slow_down(SLOW_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.1), seconds=120)
    lost = list[str]()
    for number in ("first", "second"):
        before = known.repeated(site)
        node, off, again = lose(crawl, cluster, site)
        lost.append(node)
        time.sleep(10)
        notes = f"{node}; {again + off:.0f} s after the power went"
        table.add(f"node lost, the {number} of two", again, known.repeated(site) - before, notes)
    site.slow_down(0.0)
    manifest = step.ended(STEP_SECONDS)
    assert len(set(lost)) == 2
    assert crawl.faults(known) == []
    assert causes(manifest) == ["node lost", "node lost"]
    cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)


def test_a_node_is_lost_with_the_crawl_and_its_run(
    new: New, cluster: Cluster, site: Site, known: Truth, table: Table
) -> None:
    """The run's step is a process that is killed; the platform would start the run again, as this does."""
    crawl = new(node_lost_after="15s")
    site.slow_down(SLOW_SECONDS)
    with contextlib.ExitStack() as runs:
        first = runs.enter_context(StepProcess(crawl, "run-1"))
        site.wait_for(known.moment(0.1), seconds=120)
        second = list[StepProcess]()

        def begin_again() -> None:
            first.kill()
            second.append(runs.enter_context(StepProcess(crawl, "run-2")))

        node, off, again = lose(crawl, cluster, site, begin_again)
        site.slow_down(0.0)
        assert second[0].ended(STEP_SECONDS) == 0, second[0].said()
    assert crawl.faults(known) == []
    notes = f"{node}; {again + off:.0f} s after the power went; rows exact"
    table.add("node lost with crawl and run", again, known.repeated(site), notes)


def lose(
    crawl: ClusterTrial, cluster: Cluster, site: Site, then: Callable[[], None] = lambda: None
) -> tuple[str, float, float]:
    """The crawl's node loses its power, and has it again as soon as the crawl goes on.

    Args:
        then: what happens right after that.

    Returns:
        its name, the seconds until the cluster said so, and those from then on to the next request at the site.
    """
    node = crawl.running_pod().spec.node_name
    cluster.wait_for("both nodes", lambda: all_ready(cluster), seconds=120)
    try:
        cluster.lose_node(int(node.rpartition("-")[2]))
        off = time.time()
        then()
        cluster.wait_for("a node that is said to be lost", lambda: not is_ready(cluster, node), seconds=90)
        said = time.time()
        again = site.next_after(said, AGAIN_SECONDS)
        assert crawl.running_pod().spec.node_name != node
    finally:
        cluster.restore()
        cluster.wait_for("the node's return", lambda: is_ready(cluster, node), seconds=120)
    return node, said - off, again


def all_ready(cluster: Cluster) -> bool:
    return all(is_ready(cluster, node.metadata.name) for node in cluster.core.list_node().items)
