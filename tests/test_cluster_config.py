"""What an installation declares about its cluster: a fault names file and field; a source's word comes first."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.inspection import look
from gossamer.cluster.config import Cluster, check_raw
from gossamer.errors import ConfigurationError
from gossamer.pods import RawKubernetes, quantity
from gossamer.settings import Settings
from gossamer.source import Source, SourceSpec

LEAST = "namespace: crawls\nimage: gossamer:1\n"
WHOLE = """\
namespace: crawls
image: registry.example:5000/gossamer:0.1.0
image_pull_policy: IfNotPresent
image_pull_secrets: [registry]
service_account: gossamer-crawl
kubeconfig: null
context: null
env: {AWS_REGION: eu-central-1}
config_maps: [places]
secrets: [gossamer-s3]
cpu: 500m
memory: 512Mi
cpu_limit: "2"
scratch: 2Gi
node_selector: {pool: crawls}
tolerations: [{key: pool, value: crawls, effect: NoSchedule}]
priority_class: low
spot: {node_selector: {lifecycle: spot}, tolerations: [{key: spot, operator: Exists}]}
start_within: 10m
keep_finished: 1h
node_lost_after: 15s
cancelled: stop
kubernetes: {pod_spec_config: {dnsPolicy: ClusterFirst}}
"""


def load(folder: Path, text: str) -> Cluster:
    path = folder / "crawls.yaml"
    path.write_text(text)
    return Cluster.load(path)


def source(**workers: Any) -> Source:
    spec = {
        "name": "shop",
        "spider": "spider:S",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": "id", "fields": {"id": "str"}},
        "workers": workers or None,
    }
    return Source(SourceSpec.model_validate(spec, by_alias=True, by_name=False), Path("shop"))


def test_a_file_with_namespace_and_image_is_enough(tmp_path: Path) -> None:
    cluster = load(tmp_path, LEAST)
    needs = cluster.needs(source())
    assert (needs.image, needs.cpu, needs.memory) == ("gossamer:1", "500m", ("512Mi",))
    assert needs.start_within == timedelta(minutes=10) and cluster.cancelled == "stop"


def test_every_field_that_is_documented_is_taken(tmp_path: Path) -> None:
    cluster = load(tmp_path, WHOLE)
    assert cluster.node_lost_after == timedelta(seconds=15) and cluster.keep_finished == timedelta(hours=1)
    needs = cluster.needs(source())
    assert needs.node_selector == {"pool": "crawls"} and needs.secrets == ("gossamer-s3",)
    assert {line.partition(":")[0] for line in WHOLE.splitlines()} == set(Cluster.model_fields)


def test_what_a_source_says_comes_before_what_the_installation_says(tmp_path: Path) -> None:
    cluster = load(tmp_path, WHOLE)
    needs = cluster.needs(
        source(
            image="mine:1",
            cpu="1",
            memory=["1Gi", "2Gi"],
            spot=True,
            node_selector={"pool": "mine"},
            secrets=["proxy"],
            service_account="shop",
            priority_class="high",
            start_within="1m",
        )
    )
    assert (needs.image, needs.cpu, needs.cpu_limit) == ("mine:1", "1", "2")
    assert needs.memory == ("1Gi", "2Gi") and needs.start_within == timedelta(minutes=1)
    assert needs.node_selector == {"pool": "mine", "lifecycle": "spot"}
    assert [toleration.key for toleration in needs.tolerations] == ["pool", "spot"]
    assert needs.secrets == ("gossamer-s3", "proxy")
    assert (needs.service_account, needs.priority_class) == ("shop", "high")


def test_a_source_that_wants_more_cpu_than_the_installation_allows_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"shop: workers.cpu \(4\) is more .* cpu_limit \(2\)"):
        load(tmp_path, WHOLE).needs(source(cpu="4"))


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("namespace: crawls\n", "", "namespace", "is missing"),
        ("namespace: crawls", "namespace: Crawls", "namespace", "cannot be a namespace"),
        ("namespace: crawls", "namespace: a.b", "namespace", "cannot be a namespace"),
        ("image: registry.example:5000/gossamer:0.1.0", "image: 'a b'", "image", "not an image's name"),
        ("cpu: 500m", "cpus: 500m", "cpus", "unknown field"),
        ("cpu: 500m", "cpu: 500M", "cpu", "not an amount of CPU"),
        ("memory: 512Mi", "memory: 512m", "memory.0", "0.512 bytes, too few"),
        ("memory: 512Mi", "memory: [1Gi, 512Mi]", "memory", "512Mi comes after 1Gi and is not more"),
        ('cpu_limit: "2"', "cpu_limit: 100m", "cpu_limit", "100m is less than cpu (500m)"),
        ("start_within: 10m", "start_within: 600", "start_within", "not a duration"),
        ("cancelled: stop", "cancelled: kill", "cancelled", "'stop' or 'pause'"),
        ("[gossamer-s3]", "[Gossamer_S3]", "secrets.0", "cannot be the name of anything in Kubernetes"),
        ("{pool: crawls}", "{pool: a b}", "node_selector", "cannot be a label's value"),
        ("{AWS_REGION: eu-central-1}", "{GOSSAMER_LAKE: x}", "env", "GOSSAMER_LAKE is set by the launcher"),
        ("{AWS_REGION: eu-central-1}", "{PORT: 80}", "env.PORT", "is not text (it is 80)"),
        ("effect: NoSchedule", "tolerationSeconds: 5", "tolerations.0", "only effect: NoExecute"),
        ("dnsPolicy: ClusterFirst", "restartPolicy: Always", "kubernetes", "decides when a crawl's Job replaces"),
    ],
)
def test_a_fault_names_file_field_and_remedy(tmp_path: Path, old: str, new: str, field: str, words: str) -> None:
    assert WHOLE.count(old) == 1
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, WHOLE.replace(old, new))
    said = str(caught.value)
    assert len(said.splitlines()) == 1 and said.endswith(".")
    assert said.startswith(f"{tmp_path / 'crawls.yaml'}: {field}") and words in said


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\0"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"crawls\.yaml"):
        load(tmp_path, text)


def test_a_file_that_is_not_there_is_named_with_the_variable_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml cannot be read.*GOSSAMER_KUBERNETES"):
        Cluster.load(tmp_path / "nowhere.yaml")


def test_the_kubernetes_launcher_without_its_file_is_refused_when_settings_are_loaded() -> None:
    with pytest.raises(ConfigurationError, match="GOSSAMER_KUBERNETES is not set"):
        Settings.load(environ={"GOSSAMER_LAUNCHER": "kubernetes"})
    with pytest.raises(ConfigurationError, match=r"GOSSAMER_LAUNCHER is 'k8s'\. Use one of: local, kubernetes"):
        Settings.load(environ={"GOSSAMER_LAUNCHER": "k8s"})


def test_child_processes_have_the_launcher_of_their_parent(tmp_path: Path) -> None:
    places = {"GOSSAMER_LAUNCHER": "kubernetes", "GOSSAMER_KUBERNETES": str(tmp_path / "crawls.yaml")}
    settings = Settings.load(environ=places)
    assert Settings.load(environ=settings.environ()) == settings
    assert Settings.load(environ={**places, **Settings.load(environ={}).environ()}).launcher == "local"


@pytest.mark.parametrize(
    ("text", "number"), [("500m", "0.5"), ("512Mi", 512 * 2**20), ("1.5Gi", 1.5 * 2**30), ("2G", 2e9), ("3", 3)]
)
def test_quantities_mean_what_kubernetes_means(text: str, number: Any) -> None:
    from kubernetes.utils.quantity import parse_quantity

    assert float(quantity(text)) == float(number) == float(parse_quantity(text))


# -- raw configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"pod_spec_config": {"tolerations": [{"efect": "x"}]}}, ["tolerations.0.efect", "Did you mean `effect`?"]),
        ({"pod_spec_config": {"hostNetwork": "yes"}}, ["hostNetwork is not true or false: 'yes'"]),
        ({"pod_spec_config": {"tolerations": {"key": "x"}}}, ["pod_spec_config.tolerations is not a list"]),
        ({"pod_spec_config": {"priority": "high"}}, ["priority is not a number: 'high'"]),
        ({"pod_spec_config": {"nodeSelector": ["x"]}}, ["nodeSelector is not a mapping"]),
        ({"container_config": {"securityContext": 5}}, ["securityContext is not a mapping of fields (it is 5)"]),
        ({"container_config": {"imagePullPolicy": True}}, ["imagePullPolicy is not text"]),
        ({"job_spec_config": {"suspend": "no"}}, ["job_spec_config.suspend is not true or false"]),
    ],
)
def test_raw_configuration_that_kubernetes_does_not_know_is_named_with_its_place(raw: Any, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_raw(RawKubernetes.model_validate(raw), "workers.kubernetes")
    assert str(caught.value).startswith("workers.kubernetes.") and len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)


def test_raw_configuration_is_taken_in_both_spellings() -> None:
    for raw in (
        {"container_config": {"resources": {"limits": {"nvidia.com/gpu": 1}}, "env": [{"name": "A", "value": 1}]}},
        {"pod_spec_config": {"init_containers": [{"name": "a", "imagePullPolicy": "Always", "restart_policy": None}]}},
        {"pod_spec_config": {"affinity": {"nodeAffinity": {}}, "dns_config": {"options": [{"name": "x"}]}}},
        {"job_metadata": {"annotations": {"a": "b"}}, "job_spec_config": {"suspend": True}},
    ):
        check_raw(RawKubernetes.model_validate(raw), "workers.kubernetes")


def test_gossamer_check_names_raw_configuration_that_kubernetes_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "spider.py").write_text("import scrapy\n\n\nclass S(scrapy.Spider):\n    name = 's'\n")
    raw = {"pod_spec_config": {"tolerations": [{"efect": "NoSchedule"}]}}
    [fault] = look(Source(source(kubernetes=raw).spec, tmp_path))["workers"]
    assert fault.startswith(f"{tmp_path / 'source.yaml'}: workers.kubernetes.pod_spec_config.tolerations.0.efect")
    assert look(Source(source(cpu="1").spec, tmp_path))["workers"] == []
