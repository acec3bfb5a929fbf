"""What declarations say of pods in Kubernetes's own words: quantities, names, tolerations, raw configuration.

Sources (`gossamer.source`) and installations (`gossamer.cluster.config`) share these; a wrong value is named when the
file is read. Nothing here needs a cluster or its client: crawls read declarations too, and need neither.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from gossamer.strict import Strict

#: The crawl's container in its pod, whatever raw configuration says.
CONTAINER = "crawl"
_SUFFIXES = {"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(1000)} | {
    f"{letter}{binary}": Decimal(1024 if binary else 1000) ** power
    for power, letter in enumerate("KMGTPE", 1)
    for binary in ("", "i")
    if f"{letter}{binary}" != "K"  # Kubernetes writes a thousand as k
}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(m|k|[KMGTPE]i|[MGTPE])?")
#: Less is a slip (`512m` is half a byte): no crawl could begin.
_LEAST_BYTES = 16 * 1024**2

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
#: What an image's name is made of; whether there is one of that name only the registry knows.
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]*(?:@sha256:[0-9a-f]{64})?")


def quantity(text: str) -> Decimal:
    """The number that a Kubernetes quantity stands for: `500m` is 0.5, `512Mi` 536870912.

    Raises:
        ValueError: it is none.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a quantity; write a number and a unit, like 500m or 512Mi")
    return Decimal(match[1]) * _SUFFIXES[match[2] or ""]


def _as_text(value: object) -> object:
    """Kubernetes takes a quantity that is a plain number as text too."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _cpu(text: str) -> str:
    number = quantity(text) if _QUANTITY.fullmatch(text) else Decimal(0)
    if not 0 < number < 1024 or number % Decimal("0.001"):
        raise ValueError(f'{text!r} is not an amount of CPU; write cores, like 500m, "1" or "1.5"')
    return text


def _bytes(text: str) -> str:
    number = quantity(text) if _QUANTITY.fullmatch(text) else Decimal(0)
    if 0 < number < _LEAST_BYTES:
        raise ValueError(f"{text!r} is {number.normalize():f} bytes, too few to begin; write it like 512Mi or 2Gi")
    if not number or number % 1:
        raise ValueError(f"{text!r} is not an amount of memory; write it like 512Mi or 2Gi")
    return text


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str | int | float) else value


def _growing(steps: tuple[str, ...]) -> tuple[str, ...]:
    if not steps:
        raise ValueError("names no amount of memory; write one, like 512Mi, or growing steps")
    for smaller, larger in pairwise(steps):
        if quantity(larger) <= quantity(smaller):
            raise ValueError(
                f"{larger} comes after {smaller} and is not more; list growing steps: each is tried when a crawl ran "
                "out of the memory before it"
            )
    return steps


def _no_less_than_cpu(limit: str | None, info: ValidationInfo) -> str | None:
    """For a field that stands after `cpu`, and limits it."""
    cpu = info.data.get("cpu")
    if cpu and limit and quantity(limit) < quantity(cpu):
        raise ValueError(f"{limit} is less than cpu ({cpu}); raise it, or remove it")
    return limit


def _name(name: str) -> str:
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be the name of anything in Kubernetes; use lower-case letters, digits and '-', a letter "
            "or digit first and last"
        )
    return name


def _short_name(name: str) -> str:
    if not re.fullmatch(_LABEL, name):
        raise ValueError(
            f"{name!r} cannot be a namespace; use lower-case letters, digits and '-', a letter or digit first and "
            "last, 63 characters at most"
        )
    return name


def _image(image: str) -> str:
    if not _IMAGE.fullmatch(image):
        raise ValueError(f"{image!r} is not an image's name; write it like registry.example/shop:1.2")
    return image


def _taint(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or (slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix))):
        raise ValueError(f"{key!r} cannot be a label or a taint; write it like disktype or example.com/pool")
    return key


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"{value!r} cannot be a label's value; use letters, digits, '.', '_' and '-', 63 at most")
    return value


def _selector(labels: dict[str, str]) -> dict[str, str]:
    return {_taint(key): _label_value(value) for key, value in labels.items()}


def _variables(variables: dict[str, str]) -> dict[str, str]:
    for name in variables:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} cannot be an environment variable; use letters, digits and '_', a letter first")
        if name in OWN_VARIABLES:
            raise ValueError(f"{name} is set by the launcher; remove it")
    return variables


Cpu = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int | float), AfterValidator(_cpu)]
CpuLimit = Annotated[Cpu | None, AfterValidator(_no_less_than_cpu)]
Bytes = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int), AfterValidator(_bytes)]
Memory = Annotated[
    tuple[Bytes, ...],
    BeforeValidator(_one_or_many, json_schema_input_type=str | int | list[str | int]),
    AfterValidator(_growing),
]
Name = Annotated[str, AfterValidator(_name)]
Namespace = Annotated[str, AfterValidator(_short_name)]
Image = Annotated[str, AfterValidator(_image)]
NodeSelector = Annotated[dict[str, str], AfterValidator(_selector)]
Environment = Annotated[dict[str, str], AfterValidator(_variables)]


class Toleration(Strict):
    """A taint of nodes that a crawl's pod puts up with, as in a pod's own declaration."""

    key: Annotated[str, AfterValidator(_taint)] | None = Field(None, description="the taint; none: every taint")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="Exists: whatever its value")
    value: Annotated[str, AfterValidator(_label_value)] | None = Field(None, description="the taint's value")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(None, description="none: each")
    toleration_seconds: int | None = Field(
        None, alias="tolerationSeconds", strict=True, description="how long a NoExecute taint is put up with"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Toleration":
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("has a value and operator: Exists; remove one of them")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("names no key; add it, or write operator: Exists for every taint")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("has tolerationSeconds, which only effect: NoExecute can have; add it")
        return self

    def in_kubernetes(self) -> dict[str, Any]:
        """As Kubernetes's client names it."""
        return self.model_dump(exclude_none=True)


# -- raw configuration ------------------------------------------------------------------------------------------------

#: Environment variables that every crawl's pod has from the launcher.
OWN_VARIABLES = frozenset({"GOSSAMER_LAKE", "GOSSAMER_PARKING", "GOSSAMER_CRAWLS"})

_METADATA = ("labels", "annotations")
_WHY_JOB = "decides when a crawl's Job replaces its pods, which is the launcher's"
#: What raw configuration may not say, and why. Where only some fields may be said, they are listed.
_REFUSED: Mapping[str, Mapping[str, str]] = {
    "container_config": {
        "name": "is the launcher's",
        "command": "is the launcher's: an image brings the code, not the command",
        "args": "is the launcher's: an image brings the code, not the command",
        "termination_message_policy": "is the launcher's, which reads why a crawl ended from it",
    },
    "pod_spec_config": {
        "restart_policy": _WHY_JOB,
        "containers": "would keep the Job from ending; add a sidecar to init_containers, with restartPolicy: Always",
        "automount_service_account_token": "is false always: a crawl runs code that reads strangers' pages",
        "active_deadline_seconds": "follows from limits.duration",
    },
}
_ALLOWED: Mapping[str, Sequence[str]] = {
    "job_spec_config": ("ttl_seconds_after_finished", "active_deadline_seconds", "suspend", "managed_by"),
    "job_metadata": _METADATA,
    "pod_template_spec_metadata": _METADATA,
}


class RawKubernetes(Strict):
    """Dagster-k8s's raw form: what is merged into the crawl's Job as it stands (in camelCase or snake_case)."""

    container_config: dict[str, Any] = Field(default_factory=dict, description="fields of the container")
    pod_spec_config: dict[str, Any] = Field(default_factory=dict, description="fields of the pod's spec")
    pod_template_spec_metadata: dict[str, Any] = Field(
        default_factory=dict, description="labels and annotations of the pod"
    )
    job_spec_config: dict[str, Any] = Field(default_factory=dict, description="fields of the Job's spec")
    job_metadata: dict[str, Any] = Field(default_factory=dict, description="labels and annotations of the Job")
    merge_behavior: Literal["DEEP", "SHALLOW"] = Field(
        "DEEP", description="DEEP adds to lists and mappings; SHALLOW replaces whole fields"
    )

    @field_validator(
        "container_config", "pod_spec_config", "pod_template_spec_metadata", "job_spec_config", "job_metadata"
    )
    @classmethod
    def _leaves_the_launcher_its_own(cls, config: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        for fault in _faults(str(info.field_name), config):
            raise ValueError(fault)
        return config

    def parts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The parts that say something, by name."""
        for part in ("container_config", "pod_spec_config", "pod_template_spec_metadata", "job_spec_config"):
            if config := getattr(self, part):
                yield part, config
        if self.job_metadata:
            yield "job_metadata", self.job_metadata


def snake(name: str) -> str:
    """`restartPolicy` as `restart_policy`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z]+)", lambda found: f"_{found[1].lower()}", name)


def _faults(part: str, config: Mapping[str, Any]) -> Iterator[str]:
    for name in config:
        if snake(name) != name and snake(name) in config:
            yield f"{name} and {snake(name)} are the same; remove one"
        if why := _REFUSED.get(part, {}).get(snake(name)):
            yield f"{name} {why}" if "; " in why else f"{name} {why}; remove it"
        allowed = _ALLOWED.get(part)
        if allowed and snake(name) not in allowed:
            why = _WHY_JOB if part == "job_spec_config" else "is the launcher's"
            yield f"{name} {why}; remove it (yours are {', '.join(allowed)})"
    if part == "container_config":
        yield from _faults_of_container(config)


def _faults_of_container(config: Mapping[str, Any]) -> Iterator[str]:
    # Of whatever shape: Kubernetes's models are looked at later (`gossamer.cluster.config`).
    resources = config.get("resources")
    for kind in ("requests", "limits"):
        amounts = resources.get(kind) if isinstance(resources, dict) else None
        if isinstance(amounts, dict) and "memory" in amounts:
            yield f"resources.{kind}.memory stands in `memory`; write it there"
    variables = config.get("env")
    for variable in variables if isinstance(variables, list) else ():
        name = variable.get("name") if isinstance(variable, dict) else None
        if isinstance(name, str) and name in OWN_VARIABLES:
            yield f"env sets {name}, which the launcher sets; remove it"
