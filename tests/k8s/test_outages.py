"""Parts of a real cluster that go: a node, the API server. Crawls lose nothing, and work goes on.

What tests here do, everything on the cluster feels: they run alone, after the others.
"""

import time

from tests.k8s.cluster import Cluster
from tests.k8s.crawls import LATENCY_SECONDS, New
from tests.k8s.servers import Site
from tests.torture.crawls import Truth


def test_a_crawl_whose_node_is_lost_goes_on_on_another_and_loses_and_doubles_nothing(
    new: New, cluster: Cluster, site: Site, known: Truth
) -> None:
    crawl = new(node_lost_after="15s")
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.2), seconds=90)
    pod = crawl.running_pod()
    node = pod.spec.node_name
    try:
        cluster.lose_node(int(node.rpartition("-")[2]))
        cluster.wait_for("a node that is said to be lost", lambda: not is_ready(cluster, node), seconds=90)
        crawl.goes_on(step, time.time())
        assert crawl.running_pod().spec.node_name != node
        site.slow_down(0.0)
        manifest = step.ended()
    finally:
        cluster.restore()
        cluster.wait_for("the node's return", lambda: is_ready(cluster, node), seconds=120)
    assert crawl.faults(known) == []
    assert [death["cause"] for death in manifest.notes["books"]["deaths"]] == ["node lost"]
    crawl.cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60, namespace=crawl.namespace)


def is_ready(cluster: Cluster, node: str) -> bool:
    conditions = cluster.core.read_node(node).status.conditions
    return any(c.type == "Ready" and c.status == "True" for c in conditions)


def test_a_crawl_does_not_notice_that_the_api_server_is_away(
    new: New, cluster: Cluster, site: Site, known: Truth
) -> None:
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.2), seconds=90)
    cluster.kill("apiserver")
    time.sleep(5)
    assert site.next_after(time.time(), 10) < 10
    cluster.restore()
    site.slow_down(0.0)
    manifest = step.ended()
    assert crawl.faults(known) == []
    # One that is back takes nodes for lost for a moment, if it was away for long: then it may evict a crawl.
    assert {death["cause"] for death in manifest.notes["books"]["deaths"]} <= {"evicted"}
    assert any("cannot be asked" in words for words in step.said), step.said
