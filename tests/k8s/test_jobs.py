"""Jobs as declarations make them, before a real API server; and what that answers to those who come late."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import V1Job

from gossamer.cluster import jobs
from gossamer.cluster.config import Cluster as Declared
from gossamer.cluster.jobs import ClusterError, Jobs
from gossamer.crawl.deaths import QuotaError
from gossamer.crawl.host import Order
from gossamer.crawl.identity import Crawl
from gossamer.source import Source, SourceSpec
from resources.kubernetes import build_job
from tests.k8s.cluster import Cluster

LAKE = "s3://bucket/prefix"
CRAWL = Crawl("shop", "2026-11-20|de", 1)

#: What a source may say of its workers, by what is of interest in it.
WORKERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "everything": {
        "cpu": "0.1",
        "cpu_limit": 2,
        "memory": ["128Mi", "256Mi"],
        "spot": True,
        "image": "registry.example:5000/shop@sha256:" + "0" * 64,
        "node_selector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}, {"operator": "Exists"}],
        "image_pull_secrets": ["registry"],
        "secrets": ["proxy"],
        "service_account": "default",
    },
    "raw configuration": {
        "kubernetes": {
            "container_config": {
                "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
                "resources": {"requests": {"ephemeral-storage": "1Gi"}},
            },
            "pod_spec_config": {
                "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 1,
                                "podAffinityTerm": {
                                    "topologyKey": "kubernetes.io/hostname",
                                    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "crawl"}},
                                },
                            }
                        ]
                    }
                },
            },
            "job_spec_config": {"suspend": True},
            "job_metadata": {"labels": {"kueue.x-k8s.io/queue-name": "crawls"}},
        }
    },
}


def declared(cluster: Cluster, namespace: str, **more: Any) -> Declared:
    kubeconfig = str(cluster.kubeconfig)
    given = {"namespace": namespace, "image": "localhost/nowhere:1", "kubeconfig": kubeconfig, **more}
    return Declared.model_validate(given, by_alias=True, by_name=False)


def job_of(declared: Declared, workers: dict[str, Any] | None = None, ordinal: int = 1, **more: Any) -> V1Job:
    given = {
        "name": CRAWL.source,
        "spider": "spider:S",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": "id", "fields": {"id": "str"}},
        "workers": workers,
        **more,
    }
    source = Source(SourceSpec.model_validate(given, by_alias=True, by_name=False), Path("shop"))
    order = Order(
        source,
        CRAWL,
        run="0b0a9c1e-5f0e-4b0e-8f0e-0b0a9c1e5f0e",
        root_run="0b0a9c1e-5f0e-4b0e-8f0e-0b0a9c1e5f0e",
        pages=None,
        tell=lambda: None,
        cancel=lambda: False,
        is_overdue=lambda seconds: False,
        say=lambda words: None,
        silence=lambda: 0.0,
        deaths=list,
    )
    memory = declared.needs(source).memory[0]
    return build_job(declared, order, ordinal, memory, LAKE)


@pytest.mark.parametrize("case", WORKERS)
def test_a_restricted_namespace_takes_the_job_and_its_pod(cluster: Cluster, namespace: str, case: str) -> None:
    spot = {"node_selector": {"spot": "yes"}, "tolerations": [{"key": "spot", "operator": "Exists"}]}
    installation = declared(cluster, namespace, env={"A": "1"}, config_maps=["places"], secrets=["s3"], spot=spot)
    job = job_of(installation, WORKERS[case], limits={"duration": "2h"})
    taken = cluster.batch.create_namespaced_job(namespace, job, dry_run="All", field_validation="Strict")
    template = taken.spec.template
    pod = {"metadata": {"name": "pod", "labels": template.metadata.labels}, "spec": template.spec}
    cluster.core.create_namespaced_pod(namespace, pod, dry_run="All", field_validation="Strict")


def test_of_two_who_create_a_job_one_does_and_what_was_removed_stays_so(cluster: Cluster, namespace: str) -> None:
    installation = declared(cluster, namespace)
    with Jobs(installation) as api:
        made = api.create(job_of(installation))
        assert made and api.create(job_of(installation)) is None
        [found] = api.of_crawl(CRAWL, LAKE)
        assert jobs.crawl_of(found) == CRAWL and not jobs.is_finished(found)
        assert [job.metadata.name for job in api.all()] == [found.metadata.name]
        assert api.of_crawl(Crawl("shop", "2026-11-20|de", 2), LAKE) == []

        name = found.metadata.name
        [pod] = cluster.wait_for("a pod", lambda: api.pods(name), seconds=30, namespace=namespace)
        seen = cluster.wait_for(
            "why it does not start",
            lambda: [event for event in api.events(found, [pod]) if event.reason == "Failed"],
            seconds=60,
            namespace=namespace,
        )
        assert "localhost/nowhere:1" in seen[0].message

        api.delete(name, uid="another")
        assert api.get(name)
        api.force_delete_pod(pod.metadata.name, uid="another")
        assert [other.metadata.uid for other in api.pods(name)] == [pod.metadata.uid]
        api.delete(name, uid=found.metadata.uid)
        cluster.wait_for("an empty namespace", lambda: not api.all() and not api.pods(name), seconds=90)
        api.delete(name)
        api.force_delete_pod(pod.metadata.name)
        assert list(api.log(pod.metadata.name)) == []


def test_a_quota_without_room_is_named(cluster: Cluster, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    cluster.apply(quota, namespace=namespace)
    cluster.wait_for(
        "the quota", lambda: cluster.core.read_namespaced_resource_quota("small", namespace).status.hard, seconds=30
    )
    installation = declared(cluster, namespace)
    with Jobs(installation) as api, pytest.raises(QuotaError, match=r"quota small has no room: count/jobs"):
        api.create(job_of(installation))


def test_a_namespace_that_does_not_exist_is_named_with_what_to_do(cluster: Cluster) -> None:
    installation = declared(cluster, "gossamer-test-nowhere")
    with Jobs(installation) as api:
        assert api.of_crawl(CRAWL, LAKE) == []
        with pytest.raises(ClusterError, match=r"gossamer-test-nowhere.*Create the namespace"):
            api.create(job_of(installation))


def test_a_cluster_whose_certificate_is_not_trusted_is_not_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for known in config["clusters"]:
        known["cluster"] = {"server": known["cluster"]["server"]}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    installation = declared(cluster, "default", kubeconfig=str(tmp_path / "kubeconfig"))
    with Jobs(installation) as api, pytest.raises(ClusterError, match="certificate is not trusted") as caught:
        api.all()
    assert type(caught.value) is ClusterError
