"""What an installation declares about crawls on its cluster (`Cluster`, a YAML file), and what of it a source gets.

A source's `workers` come first, then what stands here. What both may say in Kubernetes's own words is in
`gossamer.pods`; the Job made of it in `resources.kubernetes`.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from gossamer.errors import ConfigurationError
from gossamer.pods import (
    Bytes,
    Cpu,
    CpuLimit,
    Environment,
    Image,
    Memory,
    Name,
    Namespace,
    NodeSelector,
    RawKubernetes,
    Toleration,
    quantity,
)
from gossamer.source import Duration, Source, Workers
from gossamer.strict import Strict

_DOCS = "docs/kubernetes-crawls.md shows every field."


class Spot(Strict):
    """What `workers.spot: true` means on this cluster."""

    node_selector: NodeSelector = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()


class Cluster(Strict):
    """How crawls run on a cluster.

    Attributes:
        namespace: of the crawls' Jobs, and of nothing else's.
        image: of crawls whose source names none.
        image_pull_policy: None: Kubernetes's own rule.
        service_account: of crawls' pods, None: the namespace's default one. They get no token.
        kubeconfig: None: inside a cluster the pod's own service account, else the usual kubeconfig.
        context: of the kubeconfig, None: its current one.
        config_maps, secrets: names of those whose entries become environment variables.
        scratch: how much disk a crawl's store and temporary files may take.
        start_within: a Job of which no pod could start for so long has failed.
        keep_finished: how long Kubernetes keeps a finished Job.
        node_lost_after: how long a node may be silent before its pods are given up.
        cancelled: what a cancelled run does with its crawl.
        kubernetes: merged into every crawl's Job, before what a source says.
    """

    namespace: Namespace
    image: Image
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: tuple[Name, ...] = ()
    service_account: Name | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    env: Environment = Field(default_factory=dict)
    config_maps: tuple[Name, ...] = ()
    secrets: tuple[Name, ...] = ()
    cpu: Cpu = "500m"
    memory: Memory = ("512Mi",)
    cpu_limit: CpuLimit = None
    scratch: Bytes = "2Gi"
    node_selector: NodeSelector = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: Name | None = None
    spot: Spot = Field(default_factory=Spot)
    start_within: Duration = timedelta(minutes=10)
    keep_finished: Duration = timedelta(hours=1)
    node_lost_after: Duration = timedelta(seconds=15)
    cancelled: Literal["stop", "pause"] = "stop"
    kubernetes: RawKubernetes = Field(default_factory=RawKubernetes)

    @classmethod
    def load(cls, path: Path) -> "Cluster":
        """The declaration in this file.

        Raises:
            ConfigurationError: it cannot be read, or is wrong; one line a fault, with file and field.
        """
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}. GOSSAMER_KUBERNETES names it.") from error
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{path}: wrong YAML: {' '.join(str(error).split())}. Mend the file.") from error
        if not isinstance(data, dict):
            raise ConfigurationError(f"{path}: is not a mapping of fields. Begin with `namespace: ...`. {_DOCS}")
        try:
            return cls.model_validate(data, by_alias=True, by_name=False)
        except ValidationError as error:
            faults = [f"{path}: {_fault(fault)}" for fault in error.errors()]
            raise ConfigurationError("\n".join(faults)) from error

    def needs(self, source: Source) -> "Needs":
        """What a source's crawls get here.

        Raises:
            ConfigurationError: what the source says and what stands here do not go together.
        """
        return _needs(self, source.name, source.spec.workers or Workers())


@dataclass(frozen=True)
class Needs:
    """What one source's crawls get: the source's word, else the installation's; lists are both."""

    image: str
    image_pull_secrets: tuple[str, ...]
    service_account: str | None
    secrets: tuple[str, ...]
    cpu: str
    cpu_limit: str | None
    memory: tuple[str, ...]
    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...]
    priority_class: str | None
    start_within: timedelta


def _needs(cluster: Cluster, name: str, workers: Workers) -> Needs:
    spot = cluster.spot if workers.spot else Spot()
    needs = Needs(
        image=workers.image or cluster.image,
        image_pull_secrets=(*cluster.image_pull_secrets, *workers.image_pull_secrets),
        service_account=workers.service_account or cluster.service_account,
        secrets=(*cluster.secrets, *workers.secrets),
        cpu=workers.cpu or cluster.cpu,
        cpu_limit=workers.cpu_limit or cluster.cpu_limit,
        memory=workers.memory or cluster.memory,
        node_selector={**cluster.node_selector, **spot.node_selector, **workers.node_selector},
        tolerations=(*cluster.tolerations, *spot.tolerations, *workers.tolerations),
        priority_class=workers.priority_class or cluster.priority_class,
        start_within=workers.start_within or cluster.start_within,
    )
    if needs.cpu_limit and quantity(needs.cpu_limit) < quantity(needs.cpu):
        raise ConfigurationError(
            f"{name}: workers.cpu ({needs.cpu}) is more than the installation's cpu_limit ({needs.cpu_limit}). "
            "Set workers.cpu_limit too."
        )
    return needs


def _fault(fault: Any) -> str:
    field = ".".join(str(part) for part in fault["loc"])
    message = str(fault.get("ctx", {}).get("error") or fault["msg"])
    if fault["type"] == "extra_forbidden":
        return f"{field}: unknown field. {_DOCS}"
    if fault["type"] == "missing":
        return f"{field}: is missing. {_DOCS}"
    if fault["type"] == "string_type":
        return f"{field}: is not text (it is {fault.get('input')!r}). Write text, in quotes."
    message, semicolon, remedy = message.partition("; ")
    remedy = f"{remedy[:1].upper()}{remedy[1:]}." if semicolon else _DOCS
    return f"{field + ': ' if field else ''}{message.rstrip('.')}. {remedy}"


# -- raw configuration, by Kubernetes's models ------------------------------------------------------------------------

_MODELS = {
    "container_config": "V1Container",
    "pod_spec_config": "V1PodSpec",
    "pod_template_spec_metadata": "V1ObjectMeta",
    "job_spec_config": "V1JobSpec",
    "job_metadata": "V1ObjectMeta",
}
#: Dagster-k8s writes a number as text where text is wanted (`nvidia.com/gpu: 1`).
_PRIMITIVES: Mapping[str, tuple[type, ...]] = {
    "str": (str, int, float),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
}


def faults_of_raw(raw: RawKubernetes, field: str) -> list[str]:
    """What of raw configuration Kubernetes does not know: a line a fault, with its place below `field`.

    Imports the client's models, if there is anything to look at.
    """
    return [fault for part, config in raw.parts() for fault in _model_faults(_MODELS[part], config, f"{field}.{part}")]


def check_raw(raw: RawKubernetes, where: str) -> None:
    """Raises `ConfigurationError` with each of the faults."""
    if faults := faults_of_raw(raw, where):
        raise ConfigurationError("\n".join(faults))


def _model_faults(model: str, value: Any, place: str) -> Iterator[str]:
    import kubernetes.client.models as models

    if not isinstance(value, dict):
        yield f"{place} is not a mapping of fields (it is {value!r})."
        return
    kind = getattr(models, model)
    known = {camel: name for name, camel in kind.attribute_map.items()} | {name: name for name in kind.attribute_map}
    for field, inner in value.items():
        if field not in known:
            near = difflib.get_close_matches(str(field), known, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(sorted(kind.attribute_map.values()))}."
            yield f"{place}.{field}: Kubernetes ({model[2:]}) has no such field. {hint}"
        else:
            yield from _value_faults(kind.openapi_types[known[field]], inner, f"{place}.{field}")


def _value_faults(kind: str, value: Any, place: str) -> Iterator[str]:
    """`kind` as the client's models name it: str, object, V1Toleration, list[...], dict(str, ...)."""
    if value is None or kind in ("object", "datetime", "date"):
        return
    if kind.startswith("list["):
        if not isinstance(value, list):
            yield f"{place} is not a list (it is {value!r})."
            return
        for number, item in enumerate(value):
            yield from _value_faults(kind[5:-1], item, f"{place}.{number}")
    elif kind.startswith("dict"):
        if not isinstance(value, dict):
            yield f"{place} is not a mapping (it is {value!r})."
            return
        for key, item in value.items():
            yield from _value_faults(kind[5:-1].partition(",")[2].strip(), item, f"{place}.{key}")
    elif allowed := _PRIMITIVES.get(kind):
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind != "bool"):
            word = {"str": "text (write it in quotes)", "bool": "true or false"}.get(kind, "a number")
            yield f"{place} is not {word}: {value!r}."
    else:
        yield from _model_faults(kind, value, place)
