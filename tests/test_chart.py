"""The Helm chart: what it renders, what it refuses, and that it cannot drift from the files it repeats.

No cluster is asked: `helm template` renders, and what is rendered is read as data. That it runs is seen in `tests/k8s`.
"""

import functools
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from gossamer import declarations
from gossamer.cluster.config import Cluster, check_raw
from gossamer.settings import Settings
from tests.services import S3, Postgres, unavailable

ROOT = Path(__file__).resolve().parents[1]
HELM = ROOT / "deploy" / "helm"
CHART = HELM / "gossamer"
TRIAL = HELM / "values-trial.yaml"
EKS = HELM / "values-eks.yaml"
#: Passwords are made at random where none is given, and a snapshot must not change.
PASSWORDS = ("postgres.bundled.password=p", "s3.bundled.accessKey=a", "s3.bundled.secretKey=s")
#: What production must say, and nothing else.
LEAST = ("postgres.host=db.example", "postgres.secret.name=db", "s3.bucket=example")
#: A place that is the same in all rendered objects of one kind.
NAMESPACE, CRAWLS = "gossamer", "gossamer-crawls"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs helm, which the test needs."""
    if not shutil.which("helm"):
        unavailable("no helm on PATH: charts cannot be rendered (https://helm.sh/docs/intro/install/)")
    command = ["helm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def template(*values: Path, sets: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    options = [word for file in values for word in ("-f", str(file))] + [word for s in sets for word in ("--set", s)]
    # A version of the cluster, because some builds of helm take an old one where there is none.
    where = ["-n", NAMESPACE, "--kube-version", "1.34.0"]
    return helm("template", "gossamer", str(CHART), *where, *options)


@functools.cache
def rendered(*values: Path, sets: tuple[str, ...] = PASSWORDS) -> str:
    done = template(*values, sets=sets)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(*values: Path, sets: tuple[str, ...] = PASSWORDS) -> list[dict[str, Any]]:
    return [thing for thing in yaml.safe_load_all(rendered(*values, sets=sets)) if thing]


def only(things: Sequence[Mapping[str, Any]], kind: str, name: str) -> Mapping[str, Any]:
    [found] = [t for t in things if t["kind"] == kind and t["metadata"]["name"] == name]
    return found


def pods(things: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """The name, labels and spec of every pod that the objects make."""
    for thing in things:
        if thing["kind"] == "Pod":
            yield thing["metadata"]["name"], thing["metadata"]["labels"], thing["spec"]
        elif thing["kind"] in ("Deployment", "StatefulSet", "Job"):
            pod = thing["spec"]["template"]
            yield thing["metadata"]["name"], pod["metadata"]["labels"], pod["spec"]


def launcher(things: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The configuration of K8sRunLauncher."""
    instance = yaml.safe_load(only(things, "ConfigMap", "gossamer")["data"]["dagster.yaml"])
    config: Mapping[str, Any] = instance["run_launcher"]["config"]
    return config


class YamlSnapshot(SingleFileSnapshotExtension):
    """A file a snapshot, to be read in review."""

    _write_mode = WriteMode.TEXT
    file_extension = "yaml"


VALUES = pytest.mark.parametrize("values", [TRIAL, EKS], ids=["trial", "eks"])


@VALUES
def test_what_is_installed_changes_only_where_a_review_sees_it(values: Path, snapshot: SnapshotAssertion) -> None:
    assert rendered(values) == snapshot(extension_class=YamlSnapshot)


@pytest.mark.parametrize("values", [[TRIAL], [EKS], []], ids=["trial", "eks", "default"])
def test_helm_lint_finds_nothing(values: list[Path]) -> None:
    files = [word for file in values for word in ("-f", str(file))]
    sets = [] if values else [word for least in LEAST for word in ("--set", least)]
    done = helm("lint", "--strict", str(CHART), *files, *sets)
    assert done.returncode == 0, done.stdout + done.stderr


# -- one truth --------------------------------------------------------------------------------------------------------


def test_the_charts_dagster_yaml_is_that_of_deploy() -> None:
    copy = CHART / "files" / "dagster.yaml"
    assert copy.read_text() == (ROOT / "deploy" / "dagster.yaml").read_text(), (
        f"cp deploy/dagster.yaml {copy.relative_to(ROOT)}"
    )


def test_the_instance_of_a_cluster_is_that_of_deploy_and_a_launcher() -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    ours = yaml.safe_load(only(objects(EKS), "ConfigMap", "gossamer")["data"]["dagster.yaml"])
    assert ours.pop("run_launcher")["class"] == "K8sRunLauncher"
    assert ours == shipped


def test_values_laid_over_the_instance_leave_the_rest_of_it() -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    ours = yaml.safe_load(only(objects(TRIAL), "ConfigMap", "gossamer")["data"]["dagster.yaml"])
    assert ours["concurrency"]["runs"]["max_concurrent_runs"] == 2
    assert ours["concurrency"]["pools"] == shipped["concurrency"]["pools"]


@pytest.mark.parametrize("name", ["rates", "reviews", "shop"])
def test_the_trials_sources_are_the_shipped_ones(name: str) -> None:
    shipped = {path.name: path.read_text() for path in (ROOT / "sources" / name).iterdir() if path.is_file()}
    shipped = {file: text for file, text in shipped.items() if not file.startswith("test_")}
    copy = {path.name: path.read_text() for path in (CHART / "files" / "demo" / name).iterdir()}
    assert copy == shipped, f"copy sources/{name} to {CHART.relative_to(ROOT)}/files/demo"


def test_the_trials_sources_are_sound_and_name_the_shop_in_the_cluster(tmp_path: Path) -> None:
    for namespace in (NAMESPACE, CRAWLS):
        [files] = [
            thing["data"]
            for thing in objects(TRIAL)
            if thing["metadata"]["name"] == "gossamer-sources" and thing["metadata"]["namespace"] == namespace
        ]
        # As the volume's items put them.
        volume = launcher(objects(TRIAL))["volumes"]
        [items] = [v["configMap"]["items"] for v in volume if v["name"] == "sources"]
        folder = tmp_path / namespace
        for item in items:
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[item["key"]])
        declared = declarations.load(folder)
        assert not declared.errors
        assert set(declared.sources) == {"rates", "reviews", "shop"}
        assert list(declared["shop"].spec.seeds.urls or ()) == ["http://gossamer-shop.gossamer.svc:8765/{period}/"]


# -- what others read -------------------------------------------------------------------------------------------------


@VALUES
def test_crawls_take_the_rendered_file(values: Path, tmp_path: Path) -> None:
    file = tmp_path / "crawls.yaml"
    file.write_text(only(objects(values), "ConfigMap", "gossamer")["data"]["crawls.yaml"])
    cluster = Cluster.load(file)
    check_raw(cluster.kubernetes, "kubernetes")
    assert cluster.namespace == CRAWLS
    assert cluster.service_account == "gossamer-crawl"
    accounts = [t["metadata"] for t in objects(values) if t["kind"] == "ServiceAccount"]
    assert ("gossamer-crawl", CRAWLS) in [(a["name"], a["namespace"]) for a in accounts]
    for secret in cluster.secrets:
        assert only([t for t in objects(values) if t["metadata"].get("namespace") == CRAWLS], "Secret", secret)


def test_every_value_of_crawls_reaches_their_file(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        yaml.safe_dump(
            {
                "crawls": {
                    "namespace": "elsewhere",
                    "image": "crawl:1",
                    "cpu": "2",
                    "memory": "3Gi",
                    "cpuLimit": "4",
                    "scratch": "5Gi",
                    "nodeSelector": {"disk": "ssd"},
                    "tolerations": [{"key": "crawl", "operator": "Exists"}],
                    "priorityClass": "low",
                    "spot": {"nodeSelector": {"spot": "true"}, "tolerations": [{"key": "spot", "operator": "Exists"}]},
                    "startWithin": "6m",
                    "keepFinished": "7h",
                    "nodeLostAfter": "8s",
                    "cancelled": "pause",
                    "env": {"HTTPS_PROXY": "http://proxy:3128"},
                    "configMaps": ["more"],
                    "secrets": ["logins"],
                    "kubernetes": {"container_config": {"working_dir": "/app"}},
                },
                "s3": {"secret": "keys"},
            }
        )
    )
    file = tmp_path / "crawls.yaml"
    file.write_text(only(objects(values, sets=LEAST), "ConfigMap", "gossamer")["data"]["crawls.yaml"])
    found = Cluster.load(file)
    assert (found.namespace, found.image, found.cpu, found.cpu_limit) == ("elsewhere", "crawl:1", "2", "4")
    assert (found.memory, found.scratch, found.priority_class, found.cancelled) == (("3Gi",), "5Gi", "low", "pause")
    assert found.node_selector == {"disk": "ssd"}
    assert found.spot.node_selector == {"spot": "true"}
    assert [t.key for t in (*found.tolerations, *found.spot.tolerations)] == ["crawl", "spot"]
    times = (found.start_within, found.keep_finished, found.node_lost_after)
    assert [t.total_seconds() for t in times] == [360, 7 * 3600, 8]
    assert found.env["HTTPS_PROXY"] == "http://proxy:3128"
    assert (found.config_maps, found.secrets) == (("more",), ("keys", "logins"))
    assert found.kubernetes.container_config == {"working_dir": "/app"}


@pytest.mark.service
@VALUES
def test_dagster_takes_the_rendered_instance(
    values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres, s3: S3
) -> None:
    data = only(objects(values), "ConfigMap", "gossamer-env")["data"]
    place = {"HOST": postgres.host, "PORT": str(postgres.port), "DATABASE": postgres.database, "USER": postgres.user}
    for name, value in {
        **data,
        **{f"GOSSAMER_PG_{name}": value for name, value in place.items()},
        "GOSSAMER_PG_PASSWORD": postgres.password,
        "PGSSLMODE": "disable",
        **s3.env(),
    }.items():
        monkeypatch.setenv(name, value)
    instance = yaml.safe_load(only(objects(values), "ConfigMap", "gossamer")["data"]["dagster.yaml"])
    # The only thing that is not as in the cluster: where its API is.
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(KUBECONFIG))
    instance["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance))
    with dg.DagsterInstance.from_config(str(tmp_path)) as loaded:
        assert type(loaded.run_launcher).__name__ == "K8sRunLauncher"


KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
    "current-context": "none",
}


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("webserver.replica=2", "'/webserver': additional properties 'replica' not allowed"),
        ("crawl.memory=1Gi", "additional properties 'crawl' not allowed"),
        ("crawls.memory=lots", "'/crawls/memory': 'lots' does not match"),
        ("crawls.cancelled=kill", "'/crawls/cancelled': value must be one of 'stop', 'pause'"),
        ("s3.bucket=s3://example", "'/s3/bucket'"),
        ("s3.endpoint=minio:9000", "'/s3/endpoint'"),
        ("webserver.replicas=0", "'/webserver/replicas'"),
        ("crawls.kubernetes.pod_spec.x=1", "additional properties 'pod_spec' not allowed"),
        ("postgres.host=", "No Postgres: set postgres.host"),
        ("postgres.secret.name=", "No password for Postgres: set postgres.secret.name"),
        ("s3.bucket=", "No lake: set s3.bucket"),
        ("postgres.bundled.enabled=true", "Two Postgres: remove postgres.host"),
        ("crawls.namespace=gossamer", "Crawls need a namespace of their own"),
        ("instance.run_launcher.module=x", "instance.run_launcher is the chart's own"),
        ("webserver.ingress.enabled=true", "webserver.ingress.host is empty: name the host"),
        ("reports.ingress.enabled=true", "reports.ingress.host is empty: name the host"),
        ("reports.url=reports.example.com", "'/reports/url'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, said: str) -> None:
    done = template(sets=[*LEAST, setting])
    assert done.returncode != 0
    assert said in done.stderr


def test_a_secret_and_a_role_for_s3_are_refused() -> None:
    done = template(sets=[*LEAST, "s3.secret=keys", "s3.roleArn=arn:aws:iam::123456789012:role/x"])
    assert "Two kinds of S3 credentials" in done.stderr


# -- what holds for every pod -----------------------------------------------------------------------------------------


@VALUES
def test_every_pod_passes_the_restricted_standard_with_a_read_only_root(values: Path) -> None:
    sets = (*PASSWORDS, "readonly.enabled=true")
    found = [(name, spec) for name, _, spec in pods(objects(values, sets=sets))]
    config = launcher(objects(values, sets=sets))
    run = config["run_k8s_config"]["pod_spec_config"]["security_context"]
    found.append(("run", {"securityContext": run, "containers": [{"securityContext": config["security_context"]}]}))
    assert len(found) > 5
    for name, spec in found:
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"], name
        assert pod["runAsUser"] == (999 if name == "gossamer-postgres" else 10001), name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


@VALUES
def test_every_container_has_requests_and_a_memory_limit(values: Path) -> None:
    for name, _, spec in pods(objects(values)):
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), name
            assert "memory" in resources["limits"], name
    assert {"requests", "limits"} == launcher(objects(values))["resources"].keys()


@VALUES
def test_no_password_is_in_a_config_map_or_a_pod(values: Path) -> None:
    sets = ("postgres.bundled.password=hush-1", "s3.bundled.accessKey=hush-2", "s3.bundled.secretKey=hush-3")
    for thing in objects(values, sets=sets):
        if thing["kind"] != "Secret":
            assert "hush-" not in json.dumps(thing), thing["metadata"]["name"]


def test_production_makes_no_secret() -> None:
    assert not [thing for thing in objects(EKS) if thing["kind"] == "Secret"]


# -- rights -----------------------------------------------------------------------------------------------------------


def rights(things: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """(service account, namespace) -> (verb, resource) of all the Roles that are bound to it."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for binding in (thing for thing in things if thing["kind"] == "RoleBinding"):
        [role] = [
            thing
            for thing in things
            if thing["kind"] == "Role"
            and thing["metadata"]["name"] == binding["roleRef"]["name"]
            and thing["metadata"].get("namespace") in (None, binding["metadata"]["namespace"])
        ]
        allowed = {(verb, what) for rule in role["rules"] for verb in rule["verbs"] for what in rule["resources"]}
        for subject in binding["subjects"]:
            found.setdefault((subject["name"], binding["metadata"]["namespace"]), set()).update(allowed)
    return found


def test_nobody_has_rights_beyond_a_namespace() -> None:
    kinds = {thing["kind"] for thing in objects(TRIAL)}
    assert kinds.isdisjoint({"ClusterRole", "ClusterRoleBinding"})


def test_rights_are_those_that_each_component_uses() -> None:
    granted = rights(objects(TRIAL, sets=(*PASSWORDS, "readonly.enabled=true")))
    assert set(granted) == {
        ("gossamer-webserver", NAMESPACE),
        ("gossamer-daemon", NAMESPACE),
        ("gossamer-run", CRAWLS),
        ("gossamer-code", CRAWLS),
    }
    assert granted["gossamer-webserver", NAMESPACE] == {
        (verb, what) for verb in ("get", "list", "delete") for what in ("jobs", "pods")
    }
    assert ("create", "jobs") not in granted["gossamer-code", CRAWLS]
    for allowed in granted.values():
        assert {what for _, what in allowed} <= {"jobs", "jobs/status", "pods", "pods/log", "events"}
        assert {verb for verb, _ in allowed} <= {"create", "get", "list", "delete"}
        assert ("create", "pods") not in allowed


def test_only_who_has_rights_gets_a_token() -> None:
    things = objects(TRIAL, sets=(*PASSWORDS, "readonly.enabled=true"))
    assert all(not t["automountServiceAccountToken"] for t in things if t["kind"] == "ServiceAccount")
    with_token = {name for name, _, spec in pods(things) if spec["automountServiceAccountToken"]}
    assert with_token == {"gossamer-webserver", "gossamer-daemon", "gossamer-code"}


# -- networks ---------------------------------------------------------------------------------------------------------


def test_crawls_reach_no_private_address_and_nobody_reaches_them() -> None:
    policy = only(objects(EKS), "NetworkPolicy", "gossamer-crawls")["spec"]
    assert policy["podSelector"] == {}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    for rule in policy["egress"]:
        for peer in rule["to"]:
            block = peer.get("ipBlock")
            if block and block["cidr"] == "0.0.0.0/0":
                metadata, private = "169.254.0.0/16", {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}
                assert {metadata, *private} <= set(block["except"])
            elif not block:  # of the cluster, only names
                assert {port["port"] for port in rule["ports"]} == {53}


def test_the_trials_crawls_reach_its_shop_and_its_s3_only() -> None:
    rules = only(objects(TRIAL), "NetworkPolicy", "gossamer-crawls")["spec"]["egress"]
    inside = {
        (peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"], rule["ports"][0]["port"])
        for rule in rules
        for peer in rule["to"]
        if "podSelector" in peer
    }
    assert inside == {("s3", 8333), ("shop", 8765)}


@pytest.mark.parametrize(
    ("server", "callers"),
    [
        ("postgres", {"webserver", "readonly", "daemon", "code", "run", "migrate"}),
        ("code", {"webserver", "readonly", "daemon", "run"}),
    ],
)
def test_postgres_and_code_location_answer_only_the_platform(server: str, callers: set[str]) -> None:
    [rule] = only(objects(TRIAL), "NetworkPolicy", f"gossamer-{server}")["spec"]["ingress"]
    [peer] = rule["from"]
    assert set(peer) == {"podSelector"}, "pods of other namespaces"
    assert set(peer["podSelector"]["matchExpressions"][0]["values"]) == callers


def test_every_pod_of_the_release_has_a_policy_that_closes_it() -> None:
    things = objects(TRIAL, sets=(*PASSWORDS, "readonly.enabled=true"))
    policies = [t["spec"]["podSelector"] for t in things if t["kind"] == "NetworkPolicy" and not _in_crawls(t)]
    labels = [pod for _, pod, _ in pods(things)] + [launcher(things)["labels"]]
    assert len(labels) > 8
    for pod in labels:
        assert any(_selects(selector, pod) for selector in policies), pod


def _in_crawls(thing: Mapping[str, Any]) -> bool:
    return bool(thing["metadata"].get("namespace") == CRAWLS)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", ()))


# -- upgrades ---------------------------------------------------------------------------------------------------------


def templates(things: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a Deployment or StatefulSet compares to know whether its pods must be replaced."""
    return {t["metadata"]["name"]: t["spec"]["template"] for t in things if t["kind"] in ("Deployment", "StatefulSet")}


def test_a_change_of_configuration_restarts_who_reads_it_and_no_database() -> None:
    before, after = templates(objects(TRIAL)), templates(objects(TRIAL, sets=(*PASSWORDS, "crawls.memory=300Mi")))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"gossamer-webserver", "gossamer-daemon", "gossamer-code"}


def test_a_change_of_a_source_restarts_the_code_location() -> None:
    sets = (*PASSWORDS, "sources.mine.spider\\.py=x")
    before, after = templates(objects(TRIAL)), templates(objects(TRIAL, sets=sets))
    assert before["gossamer-code"] != after["gossamer-code"]


def test_an_upgrade_of_the_image_leaves_database_and_lake_alone() -> None:
    before, after = templates(objects(TRIAL)), templates(objects(TRIAL, sets=(*PASSWORDS, "image.tag=v9")))
    assert {name for name in before if before[name] == after[name]} == {"gossamer-postgres", "gossamer-s3"}


def test_nothing_that_an_upgrade_touches_belongs_to_a_running_crawl() -> None:
    """Crawls' Jobs and runs' Jobs are made by others: helm knows none, so it replaces none."""
    jobs = [t["metadata"] for t in objects(TRIAL) if t["kind"] == "Job"]
    assert [job["name"] for job in jobs] == ["gossamer-migrate"]
    assert jobs[0]["annotations"]["helm.sh/hook"] == "post-install,pre-upgrade"


# -- reports ----------------------------------------------------------------------------------------------------------

#: What others have, and what brings the reports to S3.
SECRETS = (*PASSWORDS, "mongo.secret.name=mongo", "envSecrets={tokens}", "env.HTTPS_PROXY=http://proxy:3128")


def reports(values: Path, sets: tuple[str, ...] = PASSWORDS) -> Mapping[str, Any]:
    """The pod of the server of reports."""
    deployment = only(objects(values, sets=sets), "Deployment", "gossamer-reports")
    pod: Mapping[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def variables(pod: Mapping[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}


def test_the_reports_know_the_lake_and_its_keys_and_nothing_else() -> None:
    pod = reports(TRIAL, sets=SECRETS)
    [container] = pod["containers"]
    assert variables(pod) == {
        "GOSSAMER_LAKE": "s3://gossamer/lake",
        "AWS_ENDPOINT_URL": "http://gossamer-s3.gossamer.svc:8333",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "HTTPS_PROXY": "http://proxy:3128",
        "HOME": "/tmp",
    }
    assert container["envFrom"] == [{"secretRef": {"name": "gossamer-s3"}}]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert "initContainers" not in pod
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "gossamer-reports"
    assert "gossamer-reports" not in {account for account, _ in rights(objects(TRIAL, sets=SECRETS))}


def test_where_a_role_opens_the_lake_the_reports_get_no_secret() -> None:
    assert "envFrom" not in reports(EKS)["containers"][0]


def test_the_reports_command_serves_pages_with_what_the_pod_is_told(tmp_path: Path) -> None:
    [container] = reports(TRIAL)["containers"]
    (tmp_path / "reports" / "shop").mkdir(parents=True)
    (tmp_path / "reports" / "shop" / "2026-11-20.html").write_text("<p>a report</p>")
    python, *module = container["command"]
    assert (python, container["args"].count(str(container["ports"][0]["containerPort"]))) == ("python", 1)
    arguments = ["0" if word == "3070" else word for word in container["args"]]  # here any port that is free
    environment = {**variables(reports(TRIAL)), "GOSSAMER_LAKE": str(tmp_path), "HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, *module, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr
        try:
            said = server.stderr.readline()
            address = said.rpartition(" ")[2].strip().replace("0.0.0.0", "127.0.0.1")
            assert address.startswith("http://127.0.0.1:"), said
            with urllib.request.urlopen(f"{address}/reports/shop/2026-11-20.html", timeout=30) as page:
                assert page.read() == b"<p>a report</p>"
        finally:
            server.kill()


def test_the_reports_answer_those_who_may_ask_the_webserver_and_the_bundled_s3_answers_them(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    values.write_text(yaml.safe_dump({"networkPolicy": {"webserverFrom": peers}}))
    for file, sets, expected in ((values, LEAST, peers), (TRIAL, PASSWORDS, [{"namespaceSelector": {}}])):
        things = objects(file, sets=sets)
        [rule] = only(things, "NetworkPolicy", "gossamer-reports")["spec"]["ingress"]
        assert rule == {"ports": [{"port": 3070, "protocol": "TCP"}], "from": expected}
    [rule] = only(objects(TRIAL), "NetworkPolicy", "gossamer-s3")["spec"]["ingress"]
    assert "reports" in rule["from"][0]["podSelector"]["matchExpressions"][0]["values"]


@pytest.mark.parametrize(
    ("sets", "url"),
    [
        ((), None),
        (("reports.url=https://reports.example/gossamer",), "https://reports.example/gossamer"),
        (("reports.ingress.enabled=true", "reports.ingress.host=reports.example"), "https://reports.example"),
        (
            ("reports.ingress.enabled=true", "reports.ingress.host=a.example", "reports.url=https://b.example"),
            "https://b.example",
        ),
        (("reports.enabled=false", "reports.ingress.enabled=true", "reports.ingress.host=reports.example"), None),
        (("reports.enabled=false", "reports.url=https://elsewhere.example"), "https://elsewhere.example"),
    ],
    ids=["unknown", "url", "ingress", "url-before-ingress", "off", "elsewhere"],
)
def test_dagster_links_to_where_the_reports_are_found(sets: tuple[str, ...], url: str | None) -> None:
    data = only(objects(sets=(*LEAST, *sets)), "ConfigMap", "gossamer-env")["data"]
    assert data.get("GOSSAMER_REPORTS_URL") == url
    # As the platform's own processes take it.
    assert Settings.load(environ={**data, "GOSSAMER_SOURCES": "sources"}).reports_url == (url or "")


def test_reports_that_are_switched_off_leave_nothing() -> None:
    off = objects(TRIAL, sets=(*PASSWORDS, "reports.enabled=false"))
    assert not [thing["kind"] for thing in off if thing["metadata"]["name"] == "gossamer-reports"]
    assert {t["kind"] for t in objects(TRIAL) if t["metadata"]["name"] == "gossamer-reports"} == {
        "Deployment",
        "Service",
        "ServiceAccount",
        "NetworkPolicy",
    }


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_runs_have_the_image_of_the_code_that_launched_them() -> None:
    [container] = only(objects(EKS), "Deployment", "gossamer-code")["spec"]["template"]["spec"]["containers"]
    current = {variable["name"]: variable.get("value") for variable in container["env"]}["DAGSTER_CURRENT_IMAGE"]
    assert current == container["image"]
    assert "job_image" not in launcher(objects(EKS))


def test_without_a_disk_there_are_no_marts_and_with_one_runs_have_it() -> None:
    def mounts(things: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        return {mount["mountPath"]: mount["name"] for mount in launcher(things)["volume_mounts"]}

    def env(things: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
        data: Mapping[str, str] = only(things, "ConfigMap", "gossamer-env")["data"]
        return data

    assert mounts(objects(EKS))["/app/dbt_project"] == "no-marts"
    assert "GOSSAMER_WAREHOUSE" not in env(objects(EKS))
    assert mounts(objects(TRIAL))["/warehouse"] == "warehouse"
    assert "/app/dbt_project" not in mounts(objects(TRIAL))
    assert env(objects(TRIAL))["GOSSAMER_WAREHOUSE"] == "/warehouse/warehouse.duckdb"


def test_accounts_that_use_s3_have_the_role_and_crawls_and_reports_their_own() -> None:
    accounts = {t["metadata"]["name"]: t["metadata"] for t in objects(EKS) if t["kind"] == "ServiceAccount"}
    roles = {
        name: account["annotations"]["eks.amazonaws.com/role-arn"].rpartition("/")[2]
        for name, account in accounts.items()
    }
    assert roles.pop("gossamer-crawl") == "gossamer-crawls"
    assert roles.pop("gossamer-reports") == "gossamer-reports"
    assert set(roles.values()) == {"gossamer"}


def test_raw_configuration_of_runs_is_added_to_ours_and_replaces_none_of_it(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    raw = {
        "container_config": {"env": [{"name": "X", "value": "1"}]},
        "pod_spec_config": {"security_context": {"fsGroup": 7}},
    }
    values.write_text(yaml.safe_dump({"runs": {"kubernetes": raw}}))
    config = launcher(objects(values, sets=LEAST))["run_k8s_config"]
    assert [v["name"] for v in config["container_config"]["env"]] == ["GOSSAMER_PG_PASSWORD", "X"]
    assert config["pod_spec_config"]["security_context"]["runAsNonRoot"] is True
    assert config["pod_spec_config"]["security_context"]["fsGroup"] == 7


@pytest.mark.parametrize("component", ["webserver", "readonly", "reports"])
def test_two_of_those_whom_browsers_ask_are_never_both_taken_away(component: str) -> None:
    things = objects(EKS, sets=("readonly.enabled=true", f"{component}.replicas=2"))
    budget = only(things, "PodDisruptionBudget", f"gossamer-{component}")["spec"]
    assert budget["maxUnavailable"] == 1
    deployment = only(things, "Deployment", f"gossamer-{component}")["spec"]
    assert _selects(budget["selector"], deployment["template"]["metadata"]["labels"])
    assert deployment["template"]["spec"]["topologySpreadConstraints"]
    assert not [t for t in objects(TRIAL) if t["kind"] == "PodDisruptionBudget"], "one of one could never be drained"
