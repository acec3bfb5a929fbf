"""A crawl's Job, as declarations make it; and what the cluster's API answers, from a server that answers so."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from kubernetes import client

from gossamer.cluster import jobs
from gossamer.cluster.config import Cluster
from gossamer.cluster.host import KubernetesHost
from gossamer.cluster.jobs import ClusterAwayError, ClusterError, Jobs
from gossamer.crawl.deaths import AdmissionRefusedError, QuotaError
from gossamer.crawl.host import Order
from gossamer.crawl.identity import Crawl
from gossamer.crawl.process import LocalHost
from gossamer.errors import ConfigurationError
from gossamer.settings import PROJECT, Settings
from gossamer.source import Source, SourceSpec
from resources import build_resources
from resources.kubernetes import KubernetesLauncher, build_job
from resources.launcher import LocalLauncher

CRAWL = Crawl("shop", "2026-11-20|de", 3)
LAKE = "s3://bucket/prefix"


def cluster_of(**more: Any) -> Cluster:
    return Cluster.model_validate({"namespace": "crawls", "image": "gossamer:1", **more}, by_alias=True, by_name=False)


def source_of(workers: Any = None, **more: Any) -> Source:
    spec = {
        "name": "shop",
        "spider": "spider:S",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": "id", "fields": {"id": "str"}},
        "workers": workers,
        **more,
    }
    return Source(SourceSpec.model_validate(spec, by_alias=True, by_name=False), Path("shop"))


def order_of(source: Source, crawl: Crawl = CRAWL, pages: int | None = None) -> Order:
    return Order(
        source,
        crawl,
        run="0b0a9c1e-run",
        root_run="root-run",
        pages=pages,
        tell=lambda: None,
        cancel=lambda: False,
        is_overdue=lambda seconds: False,
        say=lambda words: None,
        silence=lambda: 0.0,
        deaths=list,
    )


def built(cluster: Cluster | None = None, workers: Any = None, memory: str = "512Mi", **more: Any) -> dict[str, Any]:
    """The Job as the API is sent it."""
    source = source_of(workers, **more)
    job = build_job(cluster or cluster_of(), order_of(source), 2, memory, LAKE)
    plain: dict[str, Any] = client.ApiClient(client.Configuration()).sanitize_for_serialization(job)
    return plain


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    [container] = pod_of(job)["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(job: dict[str, Any]) -> dict[str, str]:
    variables = container_of(job)["env"]
    assert len({variable["name"] for variable in variables}) == len(variables)
    return {variable["name"]: variable["value"] for variable in variables}


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["shop", "a", "s" * 63, "a_b__c_", "x" * 48 + "_" * 15])
@pytest.mark.parametrize("key", ["2026-11-20", "2026-11-20T05|de", "~", "-" * 99, "Ärger|über"])
def test_names_and_labels_are_such_as_kubernetes_takes(source: str, key: str) -> None:
    crawl = Crawl(source, key, 12)
    name = jobs.job_name(crawl, 123, LAKE)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) and len(name) + len("-abcde") <= 63
    for label, value in jobs.labels(crawl, 123, "run", LAKE).items():
        assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value), (label, value)


def test_two_crawls_never_share_a_name_nor_two_installations_in_one_namespace() -> None:
    crawls = [Crawl(s, k, g) for s in ("a_b", "a__b") for k in ("2026-01-01", "2026-01-01|de") for g in (1, 2, 12)]
    names = {
        jobs.job_name(c, ordinal, lake) for c in crawls for ordinal in (1, 2, 12) for lake in (LAKE, "s3://other/lake")
    }
    assert len(names) == len(crawls) * 3 * 2


def test_a_job_says_whose_it_is_exactly() -> None:
    job = build_job(cluster_of(), order_of(source_of()), 2, "512Mi", LAKE)
    assert jobs.crawl_of(job) == CRAWL
    assert (jobs.ordinal_of(job), jobs.memory_of(job), jobs.run_of(job)) == (2, "512Mi", "0b0a9c1e-run")
    assert jobs.crawl_of(client.V1Job(metadata=client.V1ObjectMeta(name="x"))) is None


# -- the Job ----------------------------------------------------------------------------------------------------------


def test_a_job_is_whole_without_any_declaration() -> None:
    job = built()
    assert job["metadata"]["namespace"] == "crawls"
    assert job["metadata"]["name"] == jobs.job_name(CRAWL, 2, LAKE)
    assert "ownerReferences" not in job["metadata"]
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert metadata["labels"] == jobs.labels(CRAWL, 2, "0b0a9c1e-run", LAKE)
        assert metadata["annotations"] == {
            "gossamer.io/source": "shop",
            "gossamer.io/partition": "2026-11-20|de",
            "gossamer.io/crawl-id": "shop/2026-11-20|de/3",
            "gossamer.io/root-run": "root-run",
            "gossamer.io/memory": "512Mi",
        }
    container = container_of(job)
    assert container["name"] == "crawl" and container["image"] == "gossamer:1"
    assert container["command"][:3] == ["python", "-m", "gossamer.crawl"] and "args" not in container
    options = container["command"][3:]
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--source": "shop",
        "--partition": "2026-11-20|de",
        "--generation": "3",
        "--run-id": "0b0a9c1e-run",
        "--root-run": "root-run",
    }
    assert environment_of(job) == {
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "PYTHONUNBUFFERED": "1",
        "GOSSAMER_LAKE": LAKE,
        "GOSSAMER_PARKING": "continuous",
        "GOSSAMER_CRAWLS": "/scratch/crawls",
    }
    assert "imagePullPolicy" not in container  # Kubernetes's own rule
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}


def test_only_pods_that_were_interrupted_or_disrupted_are_replaced_by_their_job() -> None:
    spec = built()["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    rules = spec["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["FailJob", "Ignore", "Ignore"]
    assert [rule["onExitCodes"]["values"] for rule in rules[:2]] == [[76], [75]]
    assert rules[2]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    pod = pod_of(built())
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 60)


def test_a_crawls_pod_has_no_token_no_root_and_nothing_to_write_to_but_its_scratch() -> None:
    pod = pod_of(built())
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["volumes"] == [{"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}}]
    assert container["volumeMounts"] == [{"name": "scratch", "mountPath": "/scratch"}]


def test_a_deadline_follows_from_the_limit_and_leaves_time_to_start() -> None:
    assert "activeDeadlineSeconds" not in built()["spec"]
    spec = built(limits={"duration": "1h"})["spec"]
    assert 3600 + 600 < spec["activeDeadlineSeconds"] <= 3600 + 600 + 900
    assert spec["ttlSecondsAfterFinished"] == 3600


def test_what_source_and_installation_say_is_in_the_job() -> None:
    cluster = cluster_of(
        image_pull_policy="IfNotPresent",
        image_pull_secrets=["registry"],
        env={"AWS_REGION": "eu-central-1", "TMPDIR": "/scratch/tmp"},
        config_maps=["places"],
        secrets=["s3"],
        tolerations=[{"key": "pool", "value": "crawls"}],
        spot={"node_selector": {"lifecycle": "spot"}, "tolerations": [{"key": "spot", "operator": "Exists"}]},
        node_lost_after="7s",
    )
    job = built(
        cluster,
        {
            "cpu": "1",
            "cpu_limit": 2,
            "spot": True,
            "image": "mine:2",
            "node_selector": {"zone": "a"},
            "priority_class": "high",
            "image_pull_secrets": ["registry", "mine"],
            "secrets": ["proxy"],
            "service_account": "shop",
        },
        memory="1Gi",
    )
    pod, container = pod_of(job), container_of(job)
    assert (container["image"], container["imagePullPolicy"]) == ("mine:2", "IfNotPresent")
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }
    assert container["envFrom"] == [
        {"configMapRef": {"name": "places"}},
        {"secretRef": {"name": "s3"}},
        {"secretRef": {"name": "proxy"}},
    ]
    assert environment_of(job)["AWS_REGION"] == "eu-central-1" and environment_of(job)["TMPDIR"] == "/scratch/tmp"
    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "mine"}]
    assert pod["nodeSelector"] == {"lifecycle": "spot", "zone": "a"}
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("high", "shop")
    assert pod["tolerations"] == [
        {"key": "pool", "operator": "Equal", "value": "crawls"},
        {"key": "spot", "operator": "Exists"},
        *(
            {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 7}
            for what in ("not-ready", "unreachable")
        ),
    ]
    assert "spot" not in json.dumps(built(cluster, {"spot": False}))


def test_raw_configuration_is_merged_as_dagsters_users_know_it() -> None:
    cluster = cluster_of(
        env={"A": "installation"},
        kubernetes={
            "container_config": {"env": [{"name": "B", "value": "installation"}], "resources": {"limits": {"cpu": 2}}},
            "pod_spec_config": {"tolerations": [{"key": "t"}], "dnsPolicy": "Default"},
            "job_metadata": {"labels": {"team": "data", "app.kubernetes.io/name": "crawls"}},
        },
    )
    raw = {
        "container_config": {
            "env": [{"name": "A", "value": "source"}],
            "envFrom": [{"secretRef": {"name": "more", "optional": True}}],
            "volume_mounts": [{"name": "shm", "mount_path": "/dev/shm"}],
            "resources": {"limits": {"nvidia.com/gpu": 1}},
        },
        "pod_spec_config": {
            "tolerations": [{"key": "u"}],
            "dns_policy": "ClusterFirst",
            "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
            "securityContext": {"runAsUser": 2000},
        },
        "pod_template_spec_metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "job_spec_config": {"activeDeadlineSeconds": 60},
    }
    job = built(cluster, {"kubernetes": raw})
    pod, container = pod_of(job), container_of(job)
    assert environment_of(job)["A"] == "source" and environment_of(job)["B"] == "installation"
    assert container["resources"]["limits"] == {"memory": "512Mi", "cpu": "2", "nvidia.com/gpu": "1"}
    assert container["envFrom"] == [{"secretRef": {"name": "more", "optional": True}}]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/scratch", "/dev/shm"}
    assert [toleration["key"] for toleration in pod["tolerations"]][-2:] == ["t", "u"]
    assert pod["dnsPolicy"] == "ClusterFirst"
    assert pod["securityContext"]["runAsUser"] == 2000 and pod["securityContext"]["runAsNonRoot"] is True
    assert job["spec"]["template"]["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert job["spec"]["activeDeadlineSeconds"] == 60
    assert job["metadata"]["labels"]["team"] == "data"
    assert job["metadata"]["labels"]["app.kubernetes.io/name"] == "crawls"
    assert "app.kubernetes.io/name" not in job["spec"]["template"]["metadata"]["labels"]  # Dagster's own


def test_what_must_hold_holds_whatever_raw_configuration_says() -> None:
    replaced = {
        "merge_behavior": "SHALLOW",
        "container_config": {"env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "1"}}},
        "pod_spec_config": {"volumes": [{"name": "mine", "emptyDir": {}}], "tolerations": []},
        "pod_template_spec_metadata": {
            "labels": {"gossamer.io/crawl": "another", "app.kubernetes.io/component": "another", "mine": "yes"},
            "annotations": {"gossamer.io/crawl-id": "another"},
        },
    }
    job = built(workers={"kubernetes": replaced})
    template = job["spec"]["template"]["metadata"]
    assert template["labels"] == {**jobs.labels(CRAWL, 2, "0b0a9c1e-run", LAKE), "mine": "yes"}
    assert template["annotations"]["gossamer.io/crawl-id"] == CRAWL.id
    assert environment_of(job)["GOSSAMER_LAKE"] == LAKE and environment_of(job)["A"] == "1"
    assert container_of(job)["resources"] == {
        "requests": {"memory": "512Mi"},
        "limits": {"cpu": "1", "memory": "512Mi"},
    }
    assert [volume["name"] for volume in pod_of(job)["volumes"]] == ["scratch", "mine"]
    assert [mount["mountPath"] for mount in container_of(job)["volumeMounts"]] == ["/scratch"]


def test_another_kind_of_scratch_takes_the_place_of_ours() -> None:
    volume = {"name": "scratch", "hostPath": {"path": "/mnt/disks/ssd"}}
    job = built(workers={"kubernetes": {"pod_spec_config": {"volumes": [volume]}}})
    assert pod_of(job)["volumes"] == [volume]


def test_raw_configuration_that_kubernetes_does_not_know_is_refused_before_anything_is_created() -> None:
    with pytest.raises(ConfigurationError, match=r"shop: workers\.kubernetes\.pod_spec_config\.tolerashuns"):
        built(workers={"kubernetes": {"pod_spec_config": {"tolerashuns": []}}})
    with pytest.raises(ConfigurationError, match=r"kubernetes\.container_config\.imagePulPolicy.*imagePullPolicy"):
        built(cluster_of(kubernetes={"container_config": {"imagePulPolicy": "Always"}}))


# -- a server in the cluster's place ---------------------------------------------------------------------------------


@dataclass
class Api:
    """A server that answers every request alike, and remembers them."""

    url: str
    asked: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    status: int = 200
    answer: Any = None
    patience: threading.Event = field(default_factory=threading.Event)
    is_silent: bool = False

    def says(self, status: int, message: str, reason: str = "") -> None:
        self.status = status
        self.answer = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": status}


@pytest.fixture
def api() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.asked.append((self.command, parts.path, parse_qs(parts.query)))
            if found.is_silent:
                found.patience.wait(30)
            body = found.answer if isinstance(found.answer, bytes) else json.dumps(found.answer).encode()
            with contextlib.suppress(OSError):  # the client went away
                self.send_response(found.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Api(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    found.patience.set()
    server.shutdown()
    thread.join()
    server.server_close()


def kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    named = {"name": "x"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{**named, "cluster": {"server": url}}],
        "contexts": [{**named, "context": {"cluster": "x", "user": "x"}}],
        "users": [{**named, "user": {"token": "secret-token"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


# -- which launcher ---------------------------------------------------------------------------------------------------


def settings_of(folder: Path, text: str = "namespace: crawls\nimage: gossamer:1\n", lake: str = LAKE) -> Settings:
    (folder / "crawls.yaml").write_text(text)
    places = {"GOSSAMER_LAUNCHER": "kubernetes", "GOSSAMER_KUBERNETES": str(folder / "crawls.yaml")}
    return Settings.load(environ={**places, "GOSSAMER_LAKE": lake})


def test_the_settings_choose_the_launcher(tmp_path: Path) -> None:
    assert isinstance(build_resources(Settings.load(environ={}))["launcher"], LocalLauncher)
    launcher = build_resources(settings_of(tmp_path))["launcher"]
    assert isinstance(launcher, KubernetesLauncher) and launcher.on_cancel().value == "stop"


def test_an_installation_that_cannot_work_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="memory"):
        build_resources(settings_of(tmp_path, "namespace: a\nimage: b\nmemory: 512MB\n"))
    with pytest.raises(ConfigurationError, match="Set GOSSAMER_LAKE=s3://"):
        build_resources(settings_of(tmp_path, lake=str(tmp_path / "lake")))


@pytest.mark.parametrize("launcher", ["local", "kubernetes"])
def test_nobody_pays_for_kubernetes_before_a_crawl_is_launched(tmp_path: Path, launcher: str) -> None:
    settings = replace(settings_of(tmp_path), launcher=launcher)
    code = (
        "import sys; from definitions import build_defs; build_defs().get_repository_def(); "
        "print(sorted({'kubernetes', 'dagster_k8s'} & set(sys.modules)))"
    )
    environ = {**os.environ, **settings.environ(), "DAGSTER_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environ, capture_output=True, timeout=120)
    assert run.stdout.strip() == b"[]", run.stderr.decode()


def test_a_source_that_says_so_is_crawled_in_its_runs_own_pod(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    launcher = build_resources(settings)["launcher"]
    assert isinstance(launcher.host(settings, source_of({"where": "run"})), LocalHost)


def test_a_source_that_does_not_say_so_is_crawled_on_the_cluster_in_its_own_memory(api: Api, tmp_path: Path) -> None:
    told = f"namespace: crawls\nimage: gossamer:1\nkubeconfig: {kubeconfig(tmp_path, api.url)}\nstart_within: 5m\n"
    settings = settings_of(tmp_path, told)
    host = build_resources(settings)["launcher"].host(settings, source_of({"memory": ["1Gi", "2Gi"]}))
    assert isinstance(host, KubernetesHost)
    assert (tuple(host.memory), host.start_within) == (("1Gi", "2Gi"), 300.0)
    api.answer = items()
    assert not host.has_process(CRAWL) and len(api.asked) == 1
    job = host.build(order_of(source_of({"memory": ["1Gi", "2Gi"]})), 4, "2Gi")
    assert (jobs.ordinal_of(job), jobs.memory_of(job)) == (4, "2Gi")
    host.jobs.close()


# -- the API ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def of_api(api: Api, tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(cluster_of(kubeconfig=kubeconfig(tmp_path, api.url))) as found:
        yield found


def job() -> client.V1Job:
    return build_job(cluster_of(), order_of(source_of()), 1, "512Mi", LAKE)


def items(*some: client.V1Job) -> Any:
    listed = [client.ApiClient(client.Configuration()).sanitize_for_serialization(one) for one in some]
    return {"apiVersion": "batch/v1", "kind": "JobList", "items": listed}


def test_the_jobs_of_a_crawl_are_found_by_one_call_and_only_its_own(api: Api, of_api: Jobs) -> None:
    source = source_of()
    mine = [build_job(cluster_of(), order_of(source), ordinal, "512Mi", LAKE) for ordinal in (10, 9)]
    other = build_job(cluster_of(), order_of(source, Crawl("shop", "2026-11-20", 3)), 1, "512Mi", LAKE)
    api.answer = items(*mine, other)
    assert [jobs.ordinal_of(found) for found in of_api.of_crawl(CRAWL, LAKE)] == [9, 10]
    [(method, path, query)] = api.asked
    assert (method, path) == ("GET", "/apis/batch/v1/namespaces/crawls/jobs")
    assert f"gossamer.io/crawl={jobs.crawl_hash(CRAWL, LAKE)}" in query["labelSelector"][0]


def test_all_jobs_are_listed_by_one_call_that_the_api_server_answers_from_memory(api: Api, of_api: Jobs) -> None:
    api.answer = items(job(), job())
    assert len(of_api.all()) == 2
    [(_, _, query)] = api.asked
    assert query == {"labelSelector": [jobs.SELECTOR], "resourceVersion": ["0"]}


def test_the_jobs_of_another_lake_are_not_asked_for(api: Api, of_api: Jobs) -> None:
    api.answer = items()
    for lake in ("s3://bucket/a", "s3://bucket/a/", "s3://bucket/b"):
        of_api.all(lake)
    one, same, other = (query["labelSelector"] for _, _, query in api.asked)
    assert one == same != other
    label = built()["metadata"]["labels"][jobs.LAKE]
    of_api.all(LAKE)
    assert api.asked[-1][2]["labelSelector"] == [f"{jobs.SELECTOR},{jobs.LAKE}={label}"]


def test_a_job_that_somebody_else_created_first_is_no_error(api: Api, of_api: Jobs) -> None:
    api.says(409, 'jobs.batch "x" already exists', "AlreadyExists")
    assert of_api.create(job()) is None


@pytest.mark.parametrize(
    ("status", "message", "error", "words"),
    [
        (403, 'jobs.batch is forbidden: User "system:x" cannot create resource "jobs"', ClusterError, "this right"),
        (403, 'admission webhook "policy.example" denied the request: no', AdmissionRefusedError, "policy.example"),
        (400, 'admission webhook "policy.example" denied the request: no', AdmissionRefusedError, "policy.example"),
        (422, "ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no", AdmissionRefusedError, "binding"),
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted"', AdmissionRefusedError, "PodSecurity"),
        (422, 'Job.batch "x" is invalid: spec.template: Invalid value', ClusterError, "Mend what"),
        (404, 'namespaces "crawls" not found', ClusterError, "Create the namespace"),
        (403, "jobs is forbidden: not yet ready to handle request", ClusterAwayError, "not yet ready"),
        (409, "Operation cannot be fulfilled on resourcequotas: conflict", ClusterAwayError, "conflict"),
        (401, "Unauthorized", ClusterAwayError, "Unauthorized"),
        (429, "too many requests", ClusterAwayError, "too many"),
        (500, "etcdserver: leader changed", ClusterAwayError, "leader changed"),
        (503, "apiserver is shutting down", ClusterAwayError, "shutting down"),
    ],
)
def test_what_passes_is_told_from_what_is_refused_in_the_clusters_own_words(
    api: Api, of_api: Jobs, status: int, message: str, error: type[Exception], words: str
) -> None:
    api.says(status, message)
    with pytest.raises(error, match=words) as caught:
        of_api.create(job())
    assert type(caught.value) is error and len(str(caught.value).splitlines()) == 1
    assert message in str(caught.value) and "secret-token" not in str(caught.value)
    assert len(api.asked) == 1


def test_a_quota_that_has_no_room_is_told_with_its_name_and_what_lacks(api: Api, of_api: Jobs) -> None:
    what = "count/jobs.batch"
    api.says(
        403,
        f'jobs.batch "x" is forbidden: exceeded quota: small, requested: {what}=1, used: {what}=5, limited: {what}=5',
    )
    with pytest.raises(QuotaError, match=rf"quota small has no room: {what} \(asked for 1, used 5, limit 5\)"):
        of_api.create(job())


def test_an_answer_that_is_not_the_apis_is_told_too(api: Api, of_api: Jobs) -> None:
    api.status, api.answer = 502, b"<html>Bad Gateway</html>"
    with pytest.raises(ClusterAwayError, match="Bad Gateway"):
        of_api.all()


def test_what_is_gone_already_is_deleted_without_a_word(api: Api, of_api: Jobs) -> None:
    for status in (404, 409):  # gone; another one of that name
        api.says(status, "no")
        of_api.delete("x", uid="1")
        of_api.force_delete_pod("x", uid="1")
    api.says(404, "no")
    assert of_api.get("x") is None and list(of_api.log("x")) == []
    api.says(403, "no")
    with pytest.raises(ClusterError, match="this right"):
        of_api.delete("x")


def test_a_cluster_that_does_not_answer_is_not_waited_for_for_ever(
    api: Api, of_api: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "TIMEOUTS", (0.5, 0.5))
    api.is_silent = True
    began = time.monotonic()
    with pytest.raises(ClusterAwayError, match="cannot be reached"):
        of_api.all()
    assert time.monotonic() - began < 5 and len(api.asked) == 1


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as bound:  # and listens not
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with Jobs(cluster_of(kubeconfig=kubeconfig(tmp_path, url))) as nowhere, pytest.raises(ClusterAwayError) as told:
            nowhere.all()
    assert "cannot be reached" in str(told.value) and "refused" in str(told.value)


def test_no_kubeconfig_is_told_with_what_to_do(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "broken"):
        (tmp_path / "broken").write_text("clusters: 5")
        with pytest.raises(ConfigurationError, match="Set KUBECONFIG"):
            Jobs(cluster_of(kubeconfig=path))
    with pytest.raises(ConfigurationError, match="Set KUBECONFIG"):
        Jobs(cluster_of(kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:1"), context="another"))


def test_other_users_of_the_client_library_keep_their_configuration(api: Api, of_api: Jobs) -> None:
    api.answer = items()
    assert of_api.all() == []
    assert client.Configuration.get_default_copy().host != api.url


def test_a_log_comes_as_lines_with_their_times(api: Api, of_api: Jobs) -> None:
    api.answer = b"2026-01-01T00:00:00Z one\n2026-01-01T00:00:01Z two\n2026-01-01T00:00:02Z and no end"
    assert [line.partition(b" ")[2] for line in of_api.log("pod", since=5)] == [b"one", b"two", b"and no end"]
    [(_, path, query)] = api.asked
    assert path.endswith("/pods/pod/log")
    assert query == {"container": ["crawl"], "follow": ["True"], "timestamps": ["True"], "sinceSeconds": ["5"]}


def test_a_log_without_an_end_of_line_comes_in_pieces_and_is_not_held(api: Api, of_api: Jobs) -> None:
    api.answer = b"x" * 5_000_000
    pieces = list(of_api.log("pod"))
    assert b"".join(pieces) == api.answer
    assert max(map(len, pieces)) < 2_000_000
