"""Crawls of the torture site as Jobs of the cluster, each in a namespace of its own, launched by steps of this process.

The launcher is the platform's own, given the cluster's kubeconfig; the lake is S3 on this machine. How a crawl is
disturbed belongs to the tests, how its outcome is compared to `tests.torture.crawls`.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gossamer import declarations
from gossamer.cluster.jobs import SELECTOR
from gossamer.crawl.progress import Progress
from gossamer.crawl.step import run_crawl
from gossamer.manifest import Manifest
from gossamer.settings import Settings
from resources.kubernetes import KubernetesLauncher
from tests.k8s import pods
from tests.k8s.cluster import Cluster
from tests.k8s.servers import S3Server, Site
from tests.torture.crawls import KEY, NAME, Trial, Truth

STEP_SECONDS = 240
#: Fetching goes on so many seconds after the cluster says that the pod or the node is gone, or the part is back.
AGAIN_SECONDS = 60
#: A page takes so long: then there is time to disturb the crawl.
LATENCY_SECONDS = 0.3


@dataclass
class Step:
    """A step that waits for the crawl, in a thread; it can be left as a run's step is.

    Attributes:
        said: what it would have told its run's log.
    """

    said: list[str] = field(default_factory=list)
    future: "Future[Manifest]" = field(default_factory=Future)
    _left: threading.Event = field(default_factory=threading.Event)
    _is_cancelled: bool = False

    def cancel(self) -> None:
        """Its run is cancelled: at its next look at the crawl's progress it is left."""
        self._is_cancelled = True
        self._left.set()

    def leave(self) -> None:
        """Its process is told to end, and nobody cancelled its run."""
        self._left.set()

    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def look(self, _: Progress | None = None) -> None:
        if self._left.is_set():
            raise Cancelled

    def ended(self, seconds: float = STEP_SECONDS) -> Manifest:
        """Its result; raises what it raised."""
        return self.future.result(seconds)


class Cancelled(BaseException):
    """As Dagster's interrupt, no `Exception`."""


class ClusterTrial(Trial):
    """One crawl of the site as Jobs of a namespace."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        image: str,
        site: Site,
        s3: S3Server,
        folder: Path,
        pool: ThreadPoolExecutor,
        **fields: Any,
    ) -> None:
        lake = f"s3://{s3.here.bucket}/{namespace}"
        super().__init__(folder, site, parking="continuous", lake=lake, crawls=None)  # type: ignore[arg-type]
        self.cluster, self.namespace, self._shop, self._pool = cluster, namespace, site, pool
        source = folder / "sources" / NAME
        environment = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": s3.pods.env()}
        cluster.apply(pods.source_map(source), environment, namespace=namespace)
        self.config = folder / "cluster.yaml"
        self.declare(image=image, **fields)

    def declare(self, workers: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Writes what installation and source declare; the fields of `Cluster` come from here."""
        known = yaml.safe_load(self.config.read_text()) if self.config.exists() else {}
        volume = {"name": "source", "configMap": {"name": f"source-{NAME}"}}
        mount = {"name": "source", "mountPath": f"{pods.SOURCES}/{NAME}"}
        base = {
            "namespace": self.namespace,
            "kubeconfig": str(self.cluster.kubeconfig),
            "env": {"GOSSAMER_SOURCES": pods.SOURCES},
            "secrets": ["s3"],
            "cpu": "100m",
            "memory": "512Mi",
            "start_within": "60s",
            "kubernetes": {"pod_spec_config": {"volumes": [volume]}, "container_config": {"volume_mounts": [mount]}},
        }
        self.config.write_text(yaml.safe_dump({**base, **known, **fields}))
        declaration = self.folder / "sources" / NAME / "source.yaml"
        said = yaml.safe_load(declaration.read_text())
        declaration.write_text(yaml.safe_dump(said | ({"workers": dict(workers)} if workers else {})))

    def step(self, run: str = "run-1", root_run: str = "") -> Step:
        """A step begins."""
        step = Step()
        source = declarations.load(self.settings.sources)[NAME]
        launcher = KubernetesLauncher(
            sources=str(self.settings.sources), lake=self.settings.lake, kubernetes=str(self.config)
        )
        settings = Settings.load(self.settings.sources, self.settings.lake)
        step.future = self._pool.submit(
            run_crawl,
            settings,
            source,
            KEY,
            run_id=run,
            root_run=root_run or run,
            on_progress=step.look,
            on_trouble=step.said.append,
            is_cancelled=step.is_cancelled,
            on_cancel=launcher.on_cancel(),
            host=launcher.host(settings, source),
        )
        return step

    def faults(self, known: Truth) -> list[str]:
        """In words, what is not as in the crawl that nobody disturbed."""
        return self.outcome().differences(known.outcome)

    def goes_on(self, step: Step, moment: float, seconds: float = AGAIN_SECONDS) -> float:
        """How many seconds after `moment` (`time.time()`) the crawl fetched again, `seconds` at most.

        Fails with all that can be seen where it does not; with what the step raised where that gave up.
        """

        def fetched() -> float | None:
            if step.future.done():
                step.future.result()
            return self._shop.first_after(moment)

        try:
            again = self.cluster.wait_for("a new request", fetched, seconds=seconds, namespace=self.namespace)
        except AssertionError as error:
            lines = "\n".join(step.said) or "(nothing)"
            raise AssertionError(f"{error}\n--- the step said\n{lines}") from None
        assert again is not None
        return again

    # -- what is there ------------------------------------------------------------------------------------------------

    def pods(self) -> list[Any]:
        return self.cluster.pods(self.namespace, SELECTOR)

    def jobs(self) -> list[Any]:
        found = self.cluster.batch.list_namespaced_job(self.namespace, label_selector=SELECTOR).items
        return sorted(found, key=lambda job: job.metadata.creation_timestamp)

    def running_pod(self, seconds: float = 60) -> Any:
        """The newest pod, once its crawl runs."""

        def running() -> Any:
            found = [pod for pod in self.pods() if pod.metadata.deletion_timestamp is None]
            states = [status.state.running for pod in found[-1:] for status in pod.status.container_statuses or []]
            return found[-1] if found and any(states) else None

        return self.cluster.wait_for("a crawl that runs", running, seconds=seconds, namespace=self.namespace)

    def is_clear(self) -> bool:
        """No Job and no pod of a crawl is left."""
        return not self.pods() and not self.jobs()

    # -- how it is disturbed ------------------------------------------------------------------------------------------

    def signal(self, pod: Any, number: signal.Signals) -> float:
        """Sends a signal to the crawl's process from its node, which is this machine; gives the moment."""
        uid = pod.metadata.uid.replace("-", "[-_]")
        found = [process for process in _processes(uid) if b"gossamer.crawl" in _command(process)]
        assert found, f"no process of pod {pod.metadata.name} on this machine"
        for process in found:
            os.kill(process, number)
        return time.time()

    def evict(self, pod: Any) -> None:
        """By the API, as a drained node does."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.metadata.name}}
        self.cluster.core.create_namespaced_pod_eviction(pod.metadata.name, self.namespace, body)


def _processes(uid: str) -> Iterator[int]:
    """Those in the control groups of a pod."""
    pattern = re.compile(uid.encode())
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if pattern.search((folder / "cgroup").read_bytes()):
                    yield int(folder.name)


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


#: Makes a test's crawl; the arguments are fields of the cluster's declaration.
New = Callable[..., ClusterTrial]
