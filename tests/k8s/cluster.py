"""The cluster of the tests: which one it is, its API, namespaces that go away again, waiting that says what it saw.

A user's own cluster is used only when GOSSAMER_TEST_KUBECONFIG names its kubeconfig (its current context), never
because a kubeconfig lies around. What runs on the cluster is in `images` and `servers`.
"""

import contextlib
import fcntl
import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.services import SHARED, unavailable

#: Starts and breaks a cluster on this machine, where it lies beside the repository.
PROGRAM = SHARED / "cluster" / "cluster"
UP_SECONDS = 300
#: How many lines of a pod's log a failure shows.
TAIL = 30

Found = TypeVar("Found")


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        kubeconfig: of an administrator.
        environment: for programs that talk to it: KUBECONFIG, and a PATH with `kubectl` and `helm`.
        host: this machine's name, as pods resolve it.
        own: a cluster of this machine: tests may load images, take nodes away and kill parts of it.
    """

    kubeconfig: Path
    environment: Mapping[str, str]
    host: str
    own: bool

    @cached_property
    def core(self) -> Any:
        """The official client's `CoreV1Api`."""
        return client.CoreV1Api(self._api)

    @cached_property
    def batch(self) -> Any:
        """The official client's `BatchV1Api`."""
        return client.BatchV1Api(self._api)

    @cached_property
    def _api(self) -> Any:
        return config.new_client_from_config(str(self.kubeconfig))

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        """What kubectl printed; fails with what it said."""
        return self.run("kubectl", *arguments, stdin=stdin, seconds=seconds)

    def helm(self, *arguments: str, stdin: str | None = None, seconds: float = 300) -> str:
        """What helm printed; fails with what it said."""
        return self.run("helm", *arguments, stdin=stdin, seconds=seconds)

    def run(self, *command: str, stdin: str | None = None, seconds: float = 60) -> str:
        done = subprocess.run(
            command, env={**self.environment}, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *objects: Mapping[str, Any], namespace: str) -> None:
        """`kubectl apply` of these objects."""
        self.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(objects))

    @contextlib.contextmanager
    def namespace(self, name: str = "t", *, enforce: str = "restricted") -> Iterator[str]:
        """A namespace that is gone, with all in it, when the block has ended.

        Args:
            name: how its name begins; a random part follows.
            enforce: the Pod Security level that the API server holds pods to.
        """
        namespace = f"gossamer-test-{name}-{secrets.token_hex(3)}"
        labels = {"pod-security.kubernetes.io/enforce": enforce, "gossamer.io/test": "true"}
        self.core.create_namespace({"metadata": {"name": namespace, "labels": labels}})
        try:
            yield namespace
        finally:
            self.remove_namespace(namespace)

    def remove_namespace(self, namespace: str) -> None:
        """Removes it without waiting for the grace periods of what runs in it; nothing where it is gone."""
        with contextlib.suppress(ApiException):
            self.core.delete_namespace(namespace)

        def gone() -> bool:
            # Asked again each time: controllers replace pods until they have seen that the namespace goes.
            for pod in self.core.list_namespaced_pod(namespace).items:
                with contextlib.suppress(ApiException):
                    self.core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=0)
            return all(item.metadata.name != namespace for item in self.core.list_namespace().items)

        self.wait_for(f"the end of namespace {namespace}", gone, seconds=120)

    def wait_for(
        self, what: str, probe: Callable[[], Found], *, seconds: float, namespace: str | None = None, every: float = 0.2
    ) -> Found:
        """What `probe` gives once that is true; fails with what is in the namespace where that takes too long.

        An API server that does not answer is asked again: tests take it away.
        """
        deadline = time.monotonic() + seconds
        last = ""
        while True:
            try:
                if found := probe():
                    return found
            except (ApiException, HTTPError) as error:
                last = f"; the API said last: {error}"
            if time.monotonic() > deadline:
                seen = f"\n{self.describe(namespace)}" if namespace else ""
                raise AssertionError(f"{what}: not within {seconds:g} s{last}{seen}")
            time.sleep(every)

    def pods(self, namespace: str, selector: str = "") -> list[Any]:
        """The pods, oldest first."""
        found = self.core.list_namespaced_pod(namespace, label_selector=selector).items
        return sorted(found, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))

    def logs(self, namespace: str, pod: str, *, tail: int | None = None) -> str:
        """The log of a pod's first container; what the API said where there is none."""
        try:
            # Not decoded by the client, which takes a log for JSON where it looks like it.
            answer = self.core.read_namespaced_pod_log(pod, namespace, tail_lines=tail, _preload_content=False)
            return str(answer.data.decode(errors="replace"))
        except ApiException as error:
            return f"(no log: {error.reason})"

    def describe(self, namespace: str) -> str:
        """For a failure: the Jobs, the pods with the ends of their logs, and what else happened, in a namespace."""
        lines = [f"--- namespace {namespace}"]
        try:
            for job in self.batch.list_namespaced_job(namespace).items:
                conditions = [f"{c.type}: {c.reason}" for c in job.status.conditions or []]
                lines.append(f"job {job.metadata.name}: {', '.join(conditions) or 'active'}")
            for pod in self.pods(namespace):
                lines.append(f"pod {pod.metadata.name} on {pod.spec.node_name}: {_state(pod)}")
                lines += [f"    {line}" for line in self.logs(namespace, pod.metadata.name, tail=TAIL).splitlines()]
            events = self.core.list_namespaced_event(namespace).items
            lines += [f"event {e.involved_object.name}: {e.reason}: {e.message}" for e in events if e.type != "Normal"]
        except (ApiException, HTTPError) as error:
            lines.append(f"(the API did not answer: {error})")
        return "\n".join(lines)

    @contextlib.contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """A port of loopback that leads to a port of a service or pod (`service/s3`), while that pod lives."""
        command = ["kubectl", "port-forward", "-n", namespace, target, f":{port}", "--address", "127.0.0.1"]
        process = subprocess.Popen(
            command, env={**self.environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout
        try:
            said = process.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+) ->", said)
            assert match, f"{' '.join(command)}: {said}{process.stdout.read() if process.poll() is not None else ''}"
            yield int(match[1])
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    # -- only this machine's own cluster ------------------------------------------------------------------------------

    def load(self, archive: Path) -> None:
        """Puts an image archive onto every node."""
        self._machine("load", str(archive))

    def lose_node(self, number: int) -> None:
        """Node `node-<number>` loses power; `restore` brings it back."""
        self._machine("lose-node", str(number))

    def kill(self, part: str) -> None:
        """SIGKILL for `apiserver`, `scheduler`, `kubelet-1` ...; `restore` brings it back."""
        self._machine("kill", part)

    def restore(self) -> None:
        """Everything runs again that was lost or killed."""
        self._machine("up")

    def _machine(self, *arguments: str) -> None:
        if not self.own:
            unavailable(f"`{arguments[0]}` needs a cluster on this machine, that a test may break")
        self.run(str(PROGRAM), *arguments, seconds=UP_SECONDS)


def find() -> Cluster:
    """The cluster that the environment names, or the one that this machine can start; ends the test without one."""
    if named := os.environ.get("GOSSAMER_TEST_KUBECONFIG"):
        path = Path(named).expanduser().resolve()
        assert path.is_file(), f"GOSSAMER_TEST_KUBECONFIG is {named}, and there is no such file"
        # kind and k3d give a machine no name of its own; Docker's is the usual one.
        host = os.environ.get("GOSSAMER_TEST_HOST", "host.docker.internal")
        return Cluster(path, {**os.environ, "KUBECONFIG": str(path)}, host, own=False)
    wanted = os.environ.get("CI") == "true" or os.environ.get("GOSSAMER_TEST_CLUSTER")
    if not (wanted and PROGRAM.exists()):
        unavailable("no cluster is configured: set GOSSAMER_TEST_KUBECONFIG")
    with alone("cluster"):
        up = subprocess.run([str(PROGRAM), "up"], capture_output=True, text=True, timeout=UP_SECONDS, check=False)
    assert up.returncode == 0, f"{PROGRAM.name} up: exit code {up.returncode}\n{up.stdout}{up.stderr}"
    match = re.search(r"export KUBECONFIG=(\S+) PATH=(\S+):\$PATH", up.stdout)
    assert match, f"{PROGRAM.name} up did not say where the cluster is:\n{up.stdout}"
    environment = {**os.environ, "KUBECONFIG": match[1], "PATH": f"{match[2]}:{os.environ['PATH']}"}
    return Cluster(Path(match[1]), environment, "host.cluster", own=True)


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """One process of this machine at a time: test workers share the cluster and its images."""
    with (Path(tempfile.gettempdir()) / f"gossamer-test-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state(pod: Any) -> str:
    """The phase, and why a container waits or ended."""
    said: list[str] = [pod.status.phase, *([pod.status.reason] if pod.status.reason else [])]
    statuses: Sequence[Any] = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    for status in statuses:
        if waiting := status.state.waiting:
            said.append(f"{status.name} waits: {waiting.reason} {waiting.message or ''}".strip())
        if ended := status.state.terminated or (status.last_state and status.last_state.terminated):
            said.append(f"{status.name} ended: {ended.reason}, exit code {ended.exit_code}")
    said += [f"{c.type} is {c.status}: {c.message}" for c in pod.status.conditions or [] if c.message]
    return "; ".join(said)
