"""Objects that tests make by hand: pods under the restricted standard, Jobs of them, sources as config maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: What the Pod Security Standard `restricted` asks of a pod, with the image's own user.
RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
#: And of a container, with a root file system that nobody writes to.
RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
SOURCES = "/sources"


def source_map(folder: Path) -> dict[str, Any]:
    """A declared source as a config map of its name: the files of its folder, without sub-folders."""
    files = {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"source-{folder.name}"}, "data": files}


def job(
    name: str,
    image: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    sources: Sequence[str] = (),
    memory: str = "1Gi",
) -> dict[str, Any]:
    """A Job of one pod that is not tried again; /scratch and DAGSTER_HOME are its own, nothing else can be written.

    Args:
        sources: declared ones that are there as config maps (`source_map`), mounted below `SOURCES`.
        memory: request and limit.
    """
    variables = {"TMPDIR": "/scratch", "HOME": "/scratch", "GOSSAMER_CRAWLS": "/scratch/crawls", **(env or {})}
    mounts = [{"name": "scratch", "mountPath": "/scratch"}, {"name": "home", "mountPath": "/opt/dagster"}]
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {}}, {"name": "home", "emptyDir": {}}]
    for source in sources:
        mounts.append({"name": f"source-{source}", "mountPath": f"{SOURCES}/{source}"})
        volumes.append({"name": f"source-{source}", "configMap": {"name": f"source-{source}"}})
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [*command],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}},
        "volumeMounts": mounts,
        "securityContext": RESTRICTED_CONTAINER,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }
