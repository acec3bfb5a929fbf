"""Crawls as Jobs of a Kubernetes cluster: the Job that declarations stand for, and the launcher that has it run.

A Job is merged by dagster-k8s's own code from our parts, the installation's raw configuration and the source's, so that
it means what Dagster's users know. What must hold whatever they say is put on last (`_put_on_last`). How a Job is
followed is in `gossamer.cluster.host`.

Nothing of Kubernetes is imported before a crawl is launched: it takes seconds.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.cluster.config import Cluster, Needs, check_raw
from gossamer.errors import ConfigurationError
from gossamer.pods import CONTAINER, snake
from gossamer.settings import Settings
from gossamer.source import Source, Workers
from resources.launcher import CrawlLauncher

if TYPE_CHECKING:
    from dagster_k8s.container_context import K8sContainerContext
    from kubernetes.client import V1Job

    from gossamer.crawl.host import Host, Order
    from gossamer.crawl.life import Wish

#: Who a crawl is in its pod: nobody of the image's root (deploy/Dockerfile).
_UID = 10001
_SCRATCH = "/scratch"
#: How long a crawl may take to park its store when its pod is told to end.
_GRACE_SECONDS = 60
#: How much longer than `limits.duration` a Job may take, beside the time in which it must start: it may be resumed.
_OVERTIME_SECONDS = 600


class KubernetesLauncher(CrawlLauncher):
    """Runs a crawl as a Job, which does not end with the step: another run of the partition attaches to it.

    Sources with `workers.where: run` are crawled by a child process of the step, in the run's own pod.
    """

    kubernetes: str

    def host(self, settings: Settings, source: Source) -> "Host":
        """The cluster, or for sources that say so the run's own pod.

        Raises:
            ConfigurationError: what the source or the installation declares cannot work, or there is no cluster.
        """
        from gossamer.crawl.process import LocalHost

        if source.spec.workers and source.spec.workers.where == "run":
            # The pod may vanish, as a Job's may.
            return LocalHost(dataclasses.replace(settings, parking="continuous"))
        from gossamer.cluster.host import KubernetesHost
        from gossamer.cluster.jobs import Jobs

        cluster = Cluster.load(Path(self.kubernetes))
        needs = cluster.needs(source)
        return KubernetesHost(
            Jobs(cluster),
            settings.lake,
            lambda order, ordinal, memory: build_job(cluster, order, ordinal, memory, settings.lake),
            needs.memory,
            needs.start_within.total_seconds(),
            sys.stderr,  # which Dagster captures
        )

    def on_cancel(self) -> "Wish":
        """As the installation says."""
        from gossamer.crawl.life import Wish

        return Wish(Cluster.load(Path(self.kubernetes)).cancelled)


def check_launcher(settings: Settings) -> None:
    """Raises `ConfigurationError` where what the installation says of its cluster cannot work."""
    assert settings.kubernetes
    cluster = Cluster.load(settings.kubernetes)
    mounts = cluster.kubernetes.container_config
    if "://" not in settings.lake and not (mounts.get("volume_mounts") or mounts.get("volumeMounts")):
        raise ConfigurationError(
            f"GOSSAMER_LAUNCHER is kubernetes, and the lake is the folder {settings.lake}, which a Job's pod does not "
            f"have. Set GOSSAMER_LAKE=s3://bucket/prefix, or mount the folder: `kubernetes` in {settings.kubernetes}."
        )


# -- the Job ----------------------------------------------------------------------------------------------------------


def build_job(cluster: Cluster, order: "Order", ordinal: int, memory: str, lake: str) -> "V1Job":
    """The `ordinal`-th Job of a crawl.

    Args:
        memory: of its pods.
        lake: as its pods reach it.

    Raises:
        ConfigurationError: raw configuration says what Kubernetes does not know.
    """
    from dagster_k8s import DagsterK8sJobConfig, construct_dagster_k8s_job

    from gossamer.cluster.jobs import job_name

    workers = order.source.spec.workers or Workers()
    check_raw(cluster.kubernetes, "kubernetes")
    check_raw(workers.kubernetes, f"{order.source.name}: workers.kubernetes")
    needs = cluster.needs(order.source)
    merged = _context(_own(cluster, needs, order, memory))
    for raw in (cluster.kubernetes, workers.kubernetes):
        merged = merged.merge(_context(dict(raw.parts()), raw.merge_behavior))
    job: V1Job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image=needs.image, image_pull_policy=cluster.image_pull_policy),
        args=None,
        job_name=job_name(order.crawl, ordinal, lake),
        user_defined_k8s_config=merged.run_k8s_config,
    )
    _put_on_last(job, cluster, order, ordinal, memory, lake)
    return job


def _context(parts: Mapping[str, Mapping[str, Any]], merge_behavior: str = "DEEP") -> "K8sContainerContext":
    from dagster_k8s import K8sConfigMergeBehavior
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import UserDefinedDagsterK8sConfig

    behavior = K8sConfigMergeBehavior(merge_behavior)
    return K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig(**parts, merge_behavior=behavior))


def _own(cluster: Cluster, needs: Needs, order: "Order", memory: str) -> dict[str, Any]:
    """Our parts of the Job, on which raw configuration is merged."""
    lost = {"operator": "Exists", "effect": "NoExecute", "toleration_seconds": _seconds(cluster.node_lost_after)}
    pod: dict[str, Any] = {
        "termination_grace_period_seconds": _GRACE_SECONDS,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": _UID,
            "run_as_group": _UID,
            "fs_group": _UID,
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "image_pull_secrets": [{"name": name} for name in needs.image_pull_secrets],
        "node_selector": dict(needs.node_selector),
        "tolerations": [
            *(toleration.in_kubernetes() for toleration in needs.tolerations),
            {"key": "node.kubernetes.io/not-ready", **lost},
            {"key": "node.kubernetes.io/unreachable", **lost},
        ],
        # Its services are not the crawl's: without their variables it starts faster where there are many.
        "enable_service_links": False,
    }
    if needs.priority_class:
        pod["priority_class_name"] = needs.priority_class
    if needs.service_account:
        pod["service_account_name"] = needs.service_account
    job: dict[str, Any] = {"ttl_seconds_after_finished": _seconds(cluster.keep_finished)}
    if limit := order.source.spec.limits.duration:
        job["active_deadline_seconds"] = _seconds(limit) + _seconds(needs.start_within) + _OVERTIME_SECONDS
    return {
        "container_config": _container(cluster, needs, memory),
        "pod_spec_config": {name: value for name, value in pod.items() if value != [] and value != {}},
        "job_spec_config": job,
    }


def _container(cluster: Cluster, needs: Needs, memory: str) -> dict[str, Any]:
    limits = {"memory": memory} | ({"cpu": needs.cpu_limit} if needs.cpu_limit else {})
    own = {
        "HOME": _SCRATCH,
        "TMPDIR": _SCRATCH,  # not below it: what a volume begins with is empty, and nobody makes folders in it
        "PYTHONUNBUFFERED": "1",
    }
    return {
        "env": _variables({**own, **cluster.env}),
        "env_from": [
            *({"config_map_ref": {"name": name}} for name in cluster.config_maps),
            *({"secret_ref": {"name": name}} for name in needs.secrets),
        ],
        "resources": {"requests": {"cpu": needs.cpu, "memory": memory}, "limits": limits},
        "security_context": {
            "allow_privilege_escalation": False,
            "read_only_root_filesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _put_on_last(job: "V1Job", cluster: Cluster, order: "Order", ordinal: int, memory: str, lake: str) -> None:
    """What holds whatever raw configuration says; and what Dagster's own Jobs have and a crawl's must not.

    Name, labels and annotations by which a Job is found; the command, where the lake is, memory; that the Job replaces
    pods that were interrupted or disrupted, and no others; no token of the API.
    """
    from dagster_k8s.utils import get_common_labels
    from kubernetes import client

    from gossamer.cluster.jobs import annotations, labels
    from gossamer.crawl.process import command

    dagsters = get_common_labels().items()  # type: ignore[no-untyped-call]
    for metadata in (job.metadata, job.spec.template.metadata):
        said = {name: value for name, value in metadata.labels.items() if (name, value) not in dagsters}
        metadata.labels = {**said, **labels(order.crawl, ordinal, order.run, lake)}
        metadata.annotations = {**(metadata.annotations or {}), **annotations(order.crawl, order.root_run, memory)}
    job.metadata.namespace = cluster.namespace
    job.metadata.owner_references = None  # a run that goes does not take its crawl with it
    job.spec.template.metadata.name = None  # its Job names it

    job.spec.backoff_limit = 0
    job.spec.pod_failure_policy = _failure_policy(CONTAINER)
    job.spec.pod_replacement_policy = "Failed"

    pod = job.spec.template.spec
    pod.restart_policy = "Never"
    pod.automount_service_account_token = False
    # What is named twice was said again, not said too: the API would refuse it, or take either.
    scratch = client.V1Volume(name="scratch", empty_dir=client.V1EmptyDirVolumeSource(size_limit=cluster.scratch))
    pod.volumes = _last_of_each([scratch, *(pod.volumes or [])], "name")
    pod.image_pull_secrets = _last_of_each(pod.image_pull_secrets or [], "name") or None

    container: client.V1Container = pod.containers[0]
    container.name = CONTAINER
    container.command = ["python", *command(order)]
    if not _says_when_to_pull(cluster, order):
        container.image_pull_policy = None  # dagster-k8s says Always where nobody says anything
    container.termination_message_policy = "FallbackToLogsOnError"
    mount = client.V1VolumeMount(name="scratch", mount_path=_SCRATCH)
    container.volume_mounts = _last_of_each([mount, *(container.volume_mounts or [])], "mount_path")
    container.env_from = _last_of_each(container.env_from or [], "config_map_ref", "secret_ref") or None
    own = {"GOSSAMER_LAKE": lake, "GOSSAMER_PARKING": "continuous", "GOSSAMER_CRAWLS": f"{_SCRATCH}/crawls"}
    variables = [client.V1EnvVar(name=name, value=value) for name, value in own.items()]
    container.env = _last_of_each([*(container.env or []), *variables], "name")
    container.resources.requests = {**(container.resources.requests or {}), "memory": memory}
    container.resources.limits = {**(container.resources.limits or {}), "memory": memory}


def _failure_policy(container: str) -> Any:
    """Which pods the Job replaces; any other that fails ends it, and the step decides.

    Replaced are those that were interrupted or disrupted (evicted, preempted, node lost); a paused one is not to be.
    """
    from kubernetes import client

    from gossamer.crawl.process import INTERRUPTED, PAUSED

    def exits(action: str, code: int) -> client.V1PodFailurePolicyRule:
        codes = client.V1PodFailurePolicyOnExitCodesRequirement(container_name=container, operator="In", values=[code])
        return client.V1PodFailurePolicyRule(action=action, on_exit_codes=codes)

    disrupted = client.V1PodFailurePolicyOnPodConditionsPattern(type="DisruptionTarget", status="True")
    return client.V1PodFailurePolicy(
        rules=[
            exits("FailJob", PAUSED),
            exits("Ignore", INTERRUPTED),
            client.V1PodFailurePolicyRule(action="Ignore", on_pod_conditions=[disrupted]),
        ]
    )


def _says_when_to_pull(cluster: Cluster, order: "Order") -> bool:
    workers = order.source.spec.workers or Workers()
    raw = {*cluster.kubernetes.container_config, *workers.kubernetes.container_config}
    return cluster.image_pull_policy is not None or "image_pull_policy" in map(snake, raw)


def _variables(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _last_of_each(items: Sequence[Any], *keys: str) -> list[Any]:
    """Of items of one key only the last, in the order of the first."""
    found: dict[str, Any] = {}
    for item in items:
        found[str([getattr(item, key) for key in keys])] = item
    return list(found.values())


def _seconds(duration: Any) -> int:
    return int(duration.total_seconds())
