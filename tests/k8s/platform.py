"""The platform on the cluster, installed by its chart as a user installs it, and spoken to by GraphQL as the UI does.

Postgres and S3 are the chart's bundled ones. What tests ask of it is theirs.
"""

import base64
import contextlib
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossamer.cluster.jobs import SELECTOR
from gossamer.quality.report_server import report_url
from gossamer.serve import Platform, Processes, ServeError
from gossamer.settings import PROJECT
from tests import services
from tests.k8s.cluster import Cluster

CHART = PROJECT / "deploy" / "helm" / "gossamer"
RELEASE = "gossamer"
S3_PORT = 8333
INSTALL_SECONDS = 300
RUN_SECONDS = 240
#: A lost run is tried again within so long.
RETRY_SECONDS = 60
ENDED = ("SUCCESS", "FAILURE", "CANCELED")

_LAUNCH = """mutation($job: String!, $tags: [ExecutionTag!]) { launchRun(executionParams: {
  selector: {jobName: $job, repositoryName: "__repository__", repositoryLocationName: "gossamer"},
  runConfigData: {}, mode: "default", executionMetadata: {tags: $tags}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
_RUN = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status
  assetChecks { assetKey { path } name } } } }"""
_RUNS = """{ runsOrError(limit: 100) { ... on Runs { results { runId status rootRunId jobName } } } }"""
_CHECKS = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename
  ... on AssetCheckEvaluationEvent { evaluation { checkName success severity } }
  ... on ExecutionStepFailureEvent { stepKey error { message } failureMetadata { description } } } } } }"""
_TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) { __typename
  ... on TerminateRunFailure { message } ... on PythonError { message } } }"""


@dataclass
class Installed:
    """A release in a namespace of its own, and its crawls' namespace."""

    cluster: Cluster
    namespace: str
    values: Path
    folder: Path

    @property
    def crawls(self) -> str:
        return f"{RELEASE}-{self.namespace}-crawls"

    def install(self, *options: str) -> None:
        """`helm upgrade --install`, until everything is ready."""
        command = ["upgrade", "--install", RELEASE, str(CHART), "-n", self.namespace, "-f", str(self.values)]
        command += ["--set", f"crawls.namespace={self.crawls}", *options]
        try:
            self.cluster.helm(*command, "--wait", f"--timeout={INSTALL_SECONDS}s", seconds=INSTALL_SECONDS + 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.cluster.describe(self.namespace)}") from error

    # -- as the UI does -----------------------------------------------------------------------------------------------

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Asks the webserver, by a connection of its own: its pod may have been replaced."""
        with self.cluster.forward(self.namespace, f"service/{RELEASE}-webserver", 80) as port:
            return Platform(f"http://127.0.0.1:{port}", "", Processes(self.folder)).graphql(query, variables)

    def launch(self, job: str, partition: str, **tags: str) -> str:
        """Materialises one partition; the run's id."""
        tags = {"dagster/partition": partition, **tags}
        answer = self.graphql(_LAUNCH, job=job, tags=[{"key": key, "value": value} for key, value in tags.items()])
        assert answer["launchRun"]["__typename"] == "LaunchRunSuccess", answer
        run: str = answer["launchRun"]["run"]["runId"]
        return run

    def cancel(self, run: str) -> None:
        answer = self.graphql(_TERMINATE, id=run)
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer

    def status(self, run: str) -> str:
        """With the retries of a run: of the newest of them."""
        found = self.graphql(_RUNS)["runsOrError"]["results"]  # newest first
        same = [other for other in found if run in (other["runId"], other["rootRunId"])]
        return str(same[0]["status"])

    def ended(self, run: str, status: str = "SUCCESS", seconds: float = RUN_SECONDS) -> None:
        """Waits until the run, or its newest retry, has ended so."""

        otherwise: list[float] = []

        def is_over() -> bool:
            try:
                now = self.status(run)
            except (ServeError, AssertionError):  # the webserver, or the way to it, is being replaced
                return False
            if now == status:
                return True
            if now not in ENDED:
                otherwise.clear()
            else:
                otherwise.append(time.monotonic())
            return bool(otherwise) and time.monotonic() - otherwise[0] > RETRY_SECONDS

        self.cluster.wait_for(f"run {run} to be {status}", is_over, seconds=seconds, namespace=self.namespace, every=2)
        assert self.status(run) == status, f"the run is {self.status(run)}: {self.faults(run)}"

    def checks(self, run: str) -> dict[str, bool]:
        """The checks that the run evaluated, and whether they passed."""
        events = self.graphql(_CHECKS, id=run)["logsForRun"]["events"]
        found = [event["evaluation"] for event in events if "evaluation" in event]
        return {check["checkName"]: check["success"] for check in found}

    def faults(self, run: str) -> list[str]:
        events = self.graphql(_CHECKS, id=run)["logsForRun"]["events"]
        return [str(event) for event in events if event["__typename"] == "ExecutionStepFailureEvent"]

    def report(self, source: str, partition: str) -> str:
        """The page of a partition, as the server of reports gives it to a browser."""
        with self.cluster.forward(self.namespace, f"service/{RELEASE}-reports", 80) as port:
            address = report_url(f"http://127.0.0.1:{port}", source, partition)
            with urllib.request.urlopen(address, timeout=30) as answer:
                return str(answer.read().decode())

    # -- its pods -----------------------------------------------------------------------------------------------------

    def component(self, name: str) -> list[Any]:
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={name}"
        return self.cluster.pods(self.namespace, selector)

    def run_pod(self, run: str, seconds: float = 90) -> Any:
        """The pod of a run, once it runs."""

        def running() -> Any:
            found = self.cluster.pods(self.namespace, f"dagster/run-id={run}")
            return found[-1] if found and found[-1].status.phase == "Running" else None

        return self.cluster.wait_for(f"the pod of run {run}", running, seconds=seconds, namespace=self.namespace)

    def delete(self, pod: Any, *, at_once: bool = False) -> None:
        options = {"grace_period_seconds": 0} if at_once else {}
        self.cluster.core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, **options)

    def crawl_pods(self, source: str = "") -> list[Any]:
        """The pods of all crawls, or of this source's."""
        return self.cluster.pods(self.crawls, _selector(source))

    def crawl_jobs(self, source: str = "") -> list[Any]:
        """Likewise their Jobs."""
        return list(self.cluster.batch.list_namespaced_job(self.crawls, label_selector=_selector(source)).items)

    def crawl_pod(self, source: str, seconds: float = 90) -> Any:
        """The pod of a source's crawl, once it runs."""

        def running() -> Any:
            found = [pod for pod in self.crawl_pods(source) if pod.status.phase == "Running"]
            return found[-1] if found else None

        return self.cluster.wait_for(f"a crawl of {source}", running, seconds=seconds, namespace=self.crawls)

    def clear(self, source: str = "", seconds: float = 90) -> None:
        """Waits until no Job and no pod of a crawl is left."""

        def nothing() -> bool:
            return not self.crawl_pods(source) and not self.crawl_jobs(source)

        self.cluster.wait_for("a clear namespace", nothing, seconds=seconds, namespace=self.crawls)


def _selector(source: str) -> str:
    return f"{SELECTOR},gossamer.io/source={source}" if source else SELECTOR


@contextlib.contextmanager
def installed(
    cluster: Cluster,
    images: Mapping[str, str],
    sources: Mapping[str, Mapping[str, str]],
    folder: Path,
    values: Mapping[str, Any],
) -> Iterator[Installed]:
    """The platform with these sources beside the demo shop's; what is in its namespaces goes with it.

    Args:
        images: `gossamer`, `postgres`, `s3`.
        values: of the chart, over the trial's.
    """
    trial = yaml.safe_load((PROJECT / "deploy" / "helm" / "values-trial.yaml").read_text())
    repository, _, tag = images["gossamer"].rpartition(":")
    ours: dict[str, Any] = {
        "image": {"repository": repository, "tag": tag},
        "sources": {name: dict(files) for name, files in sources.items()},
        "postgres": {"bundled": {"image": images["postgres"], "persistence": {"enabled": False}}},
        "s3": {"bundled": {"image": images["s3"], "command": ["/weed"], "persistence": {"enabled": False}}},
        "warehouse": {"enabled": False},
    }
    with cluster.namespace("platform") as namespace:
        path = folder / "values.yaml"
        path.write_text(yaml.safe_dump(_merged(_merged(trial, ours), values)))
        found = Installed(cluster, namespace, path, folder)
        try:
            found.install()
            yield found
        finally:
            cluster.remove_namespace(found.crawls)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(known, value) if both else value  # type: ignore[arg-type]
    return merged


@contextlib.contextmanager
def bundled_s3(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The environment of the bundled S3, for this process; gives the lake's URI."""
    data = installed.cluster.core.read_namespaced_secret(f"{RELEASE}-s3", installed.namespace).data
    with installed.cluster.forward(installed.namespace, f"service/{RELEASE}-s3", S3_PORT) as port:
        server = services.S3(
            f"http://127.0.0.1:{port}",
            base64.b64decode(data["AWS_ACCESS_KEY_ID"]).decode(),
            base64.b64decode(data["AWS_SECRET_ACCESS_KEY"]).decode(),
            "us-east-1",
            "gossamer",
        )
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield f"s3://{server.bucket}/lake"


def source_files(folder: Path) -> dict[str, str]:
    """The files of a declared source."""
    return {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}
