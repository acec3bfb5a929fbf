"""Crawls as Jobs of a real cluster: whatever happens to pods and to S3, records are exact and work goes on.

Lost nodes and API servers are in `test_outages`, which is alone on the cluster; the platform around crawls (webserver,
daemon, run pods) is in `test_platform`; what a Job looks like is in `test_jobs`.
"""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import V1DeleteOptions

from gossamer.crawl import deaths, life
from gossamer.crawl.life import Wish
from gossamer.crawl.step import CrawlPausedError
from tests.k8s.crawls import AGAIN_SECONDS, LATENCY_SECONDS, Cancelled, ClusterTrial, New
from tests.k8s.servers import S3Server, Site
from tests.torture.crawls import Truth

# -- disturbed --------------------------------------------------------------------------------------------------------


def killed(crawl: ClusterTrial, pod: Any) -> float:
    return crawl.signal(pod, signal.SIGKILL)


def evicted(crawl: ClusterTrial, pod: Any) -> float:
    crawl.evict(pod)
    return gone(crawl, pod)


def deleted(crawl: ClusterTrial, pod: Any) -> float:
    crawl.cluster.core.delete_namespaced_pod(pod.metadata.name, crawl.namespace)
    return gone(crawl, pod)


def gone(crawl: ClusterTrial, pod: Any) -> float:
    """When the cluster says that the pod's crawl does not run any more."""

    def ended() -> bool:
        same = [now for now in crawl.pods() if now.metadata.uid == pod.metadata.uid]
        return not any(status.state.running for now in same for status in now.status.container_statuses or [])

    crawl.cluster.wait_for("the end of the pod", ended, seconds=90, namespace=crawl.namespace)
    return time.time()


@pytest.mark.parametrize(
    ("disturb", "causes", "words"),
    [
        (killed, ["killed"], "SIGKILL"),
        # These pods may be gone between two looks: then nobody has seen whether it was evicted or deleted.
        (evicted, ["evicted", "removed"], "It is started again."),
        (deleted, ["removed"], "It is started again."),
    ],
    ids=["killed", "evicted", "deleted"],
)
def test_a_crawl_whose_pod_goes_goes_on_at_once_and_loses_and_doubles_nothing(
    new: New, site: Site, known: Truth, disturb: Callable[[ClusterTrial, Any], float], causes: list[str], words: str
) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.3), seconds=90)
    crawl.goes_on(step, disturb(crawl, crawl.running_pod()) + 0.5)
    site.slow_down(0.0)
    manifest = step.ended()
    assert crawl.faults(known) == []
    [death] = manifest.notes["books"]["deaths"]
    assert death["cause"] in causes
    assert any(words in said for said in step.said), step.said
    crawl.cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)


def test_while_s3_is_away_no_new_page_is_fetched_and_then_the_crawl_goes_on(
    new: New, s3: S3Server, site: Site, known: Truth
) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.2), seconds=90)
    with s3.away():
        time.sleep(12)  # 5 s that it may be behind, a log every 2 s, and what is under way
        held = time.time()
        time.sleep(18)
        back = time.time()
    crawl.goes_on(step, back)
    assert [asked for asked in site.asked() if held < asked.at < back] == []
    site.slow_down(0.0)
    step.ended()
    assert crawl.faults(known) == []


def test_a_frozen_pod_that_wakes_when_its_successor_works_changes_nothing(new: New, site: Site, known: Truth) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.3), seconds=90)
    pod = crawl.running_pod()
    crawl.signal(pod, signal.SIGSTOP)
    # Its Job goes and it stays, as on a node that is cut off: nobody can end it, and a successor is made.
    orphan = V1DeleteOptions(propagation_policy="Orphan")
    crawl.cluster.batch.delete_namespaced_job(crawl.jobs()[0].metadata.name, crawl.namespace, body=orphan)
    frozen = time.time()
    crawl.goes_on(step, frozen + 1, 2 * AGAIN_SECONDS)  # it shows by its silence only
    crawl.signal(pod, signal.SIGCONT)
    crawl.cluster.wait_for(
        "the end of the older pod", lambda: phase(crawl, pod) in ("Failed", ""), seconds=30, namespace=crawl.namespace
    )
    site.slow_down(0.0)
    step.ended()
    assert crawl.faults(known) == []


def phase(crawl: ClusterTrial, pod: Any) -> str:
    same = [now for now in crawl.pods() if now.metadata.uid == pod.metadata.uid]
    return str(same[0].status.phase) if same else ""


# -- one crawl, many steps --------------------------------------------------------------------------------------------


def test_two_runs_of_a_partition_yield_one_crawl_and_one_job(new: New, site: Site, known: Truth) -> None:
    crawl = new()
    first, second = crawl.step("run-1"), crawl.step("run-2")
    manifests = first.ended(), second.ended()
    assert {manifest.generation for manifest in manifests} == {1}
    assert crawl.faults(known) == []
    assert known.repeated(site) == 0


def test_a_step_that_is_repeated_attaches_to_the_crawl_that_goes_on(new: New, site: Site, known: Truth) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    lost = crawl.step("run-1")
    site.wait_for(known.moment(0.2), seconds=90)
    uid = crawl.running_pod().metadata.uid
    lost.leave()
    with pytest.raises(Cancelled):
        lost.ended()
    again = crawl.step("run-2", root_run="run-1")
    time.sleep(3)
    assert [pod.metadata.uid for pod in crawl.pods()] == [uid]
    site.slow_down(0.0)
    again.ended()
    assert crawl.faults(known) == []
    assert known.repeated(site) == 0


def test_a_paused_crawl_leaves_nothing_in_the_cluster_and_goes_on_when_it_is_asked_to(
    new: New, site: Site, known: Truth
) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.3), seconds=90)
    crawl.ask(Wish.PAUSE, "for lunch")
    with pytest.raises(CrawlPausedError, match=r"paused by ann \(for lunch\)"):
        step.ended()
    crawl.cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)
    before = len(site.asked())
    time.sleep(3)
    assert len(site.asked()) == before
    site.slow_down(0.0)
    crawl.step("run-2").ended()
    assert crawl.faults(known) == []
    assert known.repeated(site) <= 16  # what was under way, at most


def test_a_cancelled_crawl_stops_fetching_within_ten_seconds_and_leaves_nothing(new: New, site: Site) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(50, seconds=90)
    cancelled = time.time()
    step.cancel()
    with pytest.raises(Cancelled):
        step.ended()
    crawl.cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)
    assert max(asked.at for asked in site.asked()) - cancelled < 10
    assert life.standing(crawl.lake, crawl.crawl.source, crawl.crawl.key).state is life.CrawlState.STOPPED


# -- causes in words --------------------------------------------------------------------------------------------------


def test_too_little_memory_is_said_in_words_and_the_next_step_suffices(new: New, known: Truth) -> None:
    crawl = new()
    crawl.declare(workers={"memory": ["60Mi", "512Mi"]})
    step = crawl.step()
    manifest = step.ended()
    assert crawl.faults(known) == []
    assert [death["cause"] for death in manifest.notes["books"]["deaths"]] == ["out of memory"]
    assert any("out of memory" in words and "60Mi" in words for words in step.said), step.said


def test_a_crawl_without_a_larger_step_of_memory_fails_with_what_to_do(new: New) -> None:
    crawl = new()
    crawl.declare(workers={"memory": "60Mi"})
    with pytest.raises(deaths.OutOfMemoryError, match=r"out of memory.*workers\.memory"):
        crawl.step().ended()


def test_a_request_that_no_node_has_room_for_says_which_resource_lacks_within_a_minute(new: New) -> None:
    crawl = new(start_within="20s")
    crawl.declare(workers={"memory": "900Gi"})
    began = time.monotonic()
    with pytest.raises(deaths.NeverScheduledError, match="memory"):
        crawl.step().ended()
    assert time.monotonic() - began < 60
    crawl.cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)


def test_an_image_that_is_not_there_is_named(new: New) -> None:
    crawl = new(start_within="20s", image_pull_policy="Never")
    crawl.declare(workers={"image": "localhost/nobody/made-this:1"})
    with pytest.raises(deaths.ImageError, match="nobody/made-this"):
        crawl.step().ended()
