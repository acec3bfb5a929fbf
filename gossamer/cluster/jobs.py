"""The Jobs of crawls in one namespace: their names and labels, and the cluster's API for them and their pods.

What stands in a Job is made in `resources.kubernetes`; what its state means is in `causes`, what follows in `host`.
"""

import contextlib
import datetime
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gossamer.cluster import causes
from gossamer.cluster.config import Cluster
from gossamer.crawl.identity import Crawl
from gossamer.errors import ConfigurationError, GossamerError
from gossamer.pods import CONTAINER

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CoreV1Event, V1Job, V1Pod

#: Selects all that launchers make.
SELECTOR = "app.kubernetes.io/part-of=gossamer,app.kubernetes.io/component=crawl"

LAKE = "gossamer.io/lake"
SOURCE = "gossamer.io/source"
PARTITION = "gossamer.io/partition"
CRAWL = "gossamer.io/crawl"
GENERATION = "gossamer.io/generation"
ORDINAL = "gossamer.io/ordinal"
RUN = "dagster/run-id"
CRAWL_ID = "gossamer.io/crawl-id"
ROOT_RUN = "gossamer.io/root-run"
MEMORY = "gossamer.io/memory"

#: Seconds to connect, and between two bytes of an answer: less than `identity.SILENCE_SECONDS` in all, because who asks
#: cannot say meanwhile that it waits for its crawl.
TIMEOUTS = (5.0, 10.0)
#: Likewise of a log, in which nothing need happen for long.
LOG_TIMEOUTS = (5.0, 30.0)
_NAME_LENGTH = 63
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
#: An API server that has just begun answers so what it will soon allow.
_NOT_READY = "not yet ready to handle request"
#: A line of a log that is longer comes in pieces: a crawl may print what has no end.
_LONGEST_LINE = 1 << 20


class ClusterError(GossamerError):
    """The cluster's API refused a request; the text has its own words.

    Attributes:
        status: of HTTP, None where there was no answer.
    """

    def __init__(self, words: str, status: int | None = None) -> None:
        super().__init__(words)
        self.status = status


class ClusterAwayError(ClusterError):
    """The cluster's API cannot be reached, or not now: the same request may succeed later."""


# -- names ------------------------------------------------------------------------------------------------------------


def crawl_hash(crawl: Crawl, lake: str) -> str:
    """Eight hexadecimal digits that stand for a crawl into a lake, in names and labels."""
    return hashlib.sha256(f"{lake_hash(lake)} {crawl.id}".encode()).hexdigest()[:8]


def job_name(crawl: Crawl, ordinal: int, lake: str) -> str:
    """The name of a crawl's `ordinal`-th Job, from 1. Who creates it first has created it."""
    end = f"-{crawl_hash(crawl, lake)}-{ordinal}"
    # A pod's name is its Job's and six characters more, and Kubernetes would cut it.
    start = f"crawl-{crawl.source.replace('_', '-')}"[: _NAME_LENGTH - 6 - len(end)]
    return f"{start.rstrip('-')}{end}"


def lake_hash(uri: str) -> str:
    """Eight hexadecimal digits that stand for a lake: the Jobs of other lakes are other installations'."""
    return hashlib.sha256(uri.removeprefix("file://").rstrip("/").encode()).hexdigest()[:8]


def labels(crawl: Crawl, ordinal: int, run_id: str, lake: str) -> dict[str, str]:
    """What a Job and its pods are found by. Values are changed to be labels; the annotations have the exact ones."""
    return {
        "app.kubernetes.io/part-of": "gossamer",
        "app.kubernetes.io/component": "crawl",
        LAKE: lake_hash(lake),
        SOURCE: _label(crawl.source),
        PARTITION: _label(crawl.key),
        CRAWL: crawl_hash(crawl, lake),
        GENERATION: str(crawl.generation),
        ORDINAL: str(ordinal),
        RUN: _label(run_id),
    }


def annotations(crawl: Crawl, root_run: str, memory: str) -> dict[str, str]:
    """What a Job and its pods say of themselves."""
    return {
        SOURCE: crawl.source,
        PARTITION: crawl.key,
        CRAWL_ID: crawl.id,
        ROOT_RUN: root_run,
        MEMORY: memory,
    }


def crawl_of(job: "V1Job") -> Crawl | None:
    """The crawl that a Job is for, None where it does not say so (then it is none of ours)."""
    said = job.metadata.annotations or {}
    start = f"{said.get(SOURCE)}/{said.get(PARTITION)}/"
    number = str(said.get(CRAWL_ID, "")).removeprefix(start)
    return Crawl(said[SOURCE], said[PARTITION], int(number)) if number.isdecimal() else None


def ordinal_of(job: "V1Job") -> int:
    """Which of its crawl's Jobs it is, from 1; 0 where it does not say so."""
    number = (job.metadata.labels or {}).get(ORDINAL, "")
    return int(number) if number.isdecimal() else 0


def memory_of(job: "V1Job") -> str:
    """The memory that its pods have, "" where it does not say so."""
    return str((job.metadata.annotations or {}).get(MEMORY, ""))


def run_of(job: "V1Job") -> str:
    """The run that had it made, "" where it does not say so."""
    return str((job.metadata.labels or {}).get(RUN, ""))


def is_finished(job: "V1Job") -> bool:
    """Whether it is over, well or not: no pod of it will be made any more."""
    conditions = (job.status and job.status.conditions) or ()
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in conditions)


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("-._")


# -- the API ----------------------------------------------------------------------------------------------------------


class _Response(Protocol):
    """What the client gives of an answer that is read as it comes."""

    def stream(self, amt: int) -> Iterator[bytes]: ...
    def release_conn(self) -> None: ...
    def close(self) -> None: ...


class Jobs:
    """The Jobs of one namespace, and their pods. To be shared by threads.

    Every method raises `ClusterAwayError` where the cluster cannot answer now, and `ClusterError` where it refuses.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Raises `ConfigurationError` where there is no cluster to be found."""
        from kubernetes.client import BatchV1Api, CoreV1Api

        self.namespace = cluster.namespace
        self._client = _client(cluster)
        self._batch, self._core = BatchV1Api(self._client), CoreV1Api(self._client)

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
        self._client.rest_client.pool_manager.clear()

    def of_crawl(self, crawl: Crawl, lake: str) -> "list[V1Job]":
        """The Jobs of a crawl into this lake, the oldest first."""
        selector = f"{_selector(lake)},{CRAWL}={crawl_hash(crawl, lake)}"
        with self._asking(f"list the Jobs of {crawl.id}"):
            found = self._batch.list_namespaced_job(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUTS
            ).items
        return sorted((job for job in found if crawl_of(job) == crawl), key=ordinal_of)

    def all(self, lake: str = "") -> "list[V1Job]":
        """The Jobs of all crawls, from the API server's cache: one call, which may be a moment behind.

        Args:
            lake: only of crawls into this lake; "": of whatever lake.
        """
        with self._asking("list the Jobs of crawls"):
            return list(
                self._batch.list_namespaced_job(
                    self.namespace, label_selector=_selector(lake), resource_version="0", _request_timeout=TIMEOUTS
                ).items
            )

    def all_pods(self, lake: str = "") -> "list[V1Pod]":
        """The pods of all crawls, as `all` gives the Jobs."""
        with self._asking("list the pods of crawls"):
            return list(
                self._core.list_namespaced_pod(
                    self.namespace, label_selector=_selector(lake), resource_version="0", _request_timeout=TIMEOUTS
                ).items
            )

    def get(self, name: str) -> "V1Job | None":
        """A Job as it is now, None where there is none of that name."""
        with self._asking(f"read the Job {name}"), _nothing_on(404):
            return self._batch.read_namespaced_job(name, self.namespace, _request_timeout=TIMEOUTS)
        return None

    def create(self, job: "V1Job") -> "V1Job | None":
        """Creates a Job; None where there is one of that name: somebody was faster.

        Raises:
            AdmissionRefusedError, QuotaError: the cluster's rules, or the namespace's quota, do not admit it.
        """
        name = job.metadata.name
        with self._asking(f"create the Job {name}"), _nothing_if_exists(), _refusals_as_causes():
            return self._batch.create_namespaced_job(self.namespace, job, _request_timeout=TIMEOUTS)
        return None

    def pods(self, job_name: str) -> "list[V1Pod]":
        """The pods of a Job, the oldest first."""
        with self._asking(f"list the pods of the Job {job_name}"):
            found = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"batch.kubernetes.io/job-name={job_name}", _request_timeout=TIMEOUTS
            ).items
        return sorted(found, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))

    def events(self, job: "V1Job", pods: "Iterable[V1Pod]") -> "list[CoreV1Event]":
        """What the cluster tells of a Job and these pods of it, the oldest first."""
        found: list[CoreV1Event] = []
        for thing in (job, *pods):
            with self._asking(f"list the events of {thing.metadata.name}"):
                found += self._core.list_namespaced_event(
                    self.namespace, field_selector=f"involvedObject.uid={thing.metadata.uid}", _request_timeout=TIMEOUTS
                ).items
        return sorted(found, key=_moment)

    def delete(self, name: str, *, uid: str | None = None) -> None:
        """Removes a Job and its pods, which are told to end; nothing where it is gone.

        Args:
            uid: of the Job that is meant: another one of that name stays.
        """
        from kubernetes.client import V1DeleteOptions, V1Preconditions

        options = V1DeleteOptions(
            propagation_policy="Background", preconditions=V1Preconditions(uid=uid) if uid else None
        )
        with self._asking(f"delete the Job {name}"), _nothing_on(404, 409):
            self._batch.delete_namespaced_job(name, self.namespace, body=options, _request_timeout=TIMEOUTS)

    def force_delete_pod(self, name: str, *, uid: str | None = None) -> None:
        """Removes a pod without waiting for its node to say that its processes ended; nothing where it is gone.

        While its Job is there, the pod stays all the same, and nothing takes its place: the Job waits for the node. So
        delete the Job first. On a node that was lost the process may still run: it is fenced (`identity`).

        Args:
            uid: of the pod that is meant.
        """
        from kubernetes.client import V1DeleteOptions, V1Preconditions

        options = V1DeleteOptions(grace_period_seconds=0, preconditions=V1Preconditions(uid=uid) if uid else None)
        with self._asking(f"delete the pod {name}"), _nothing_on(404, 409):
            self._core.delete_namespaced_pod(name, self.namespace, body=options, _request_timeout=TIMEOUTS)

    def log(self, pod: str, since: int | None = None) -> Iterator[bytes]:
        """The log of a pod's crawl, as it is written, until its container ends: lines, each with its time before it.

        Where the pod is gone there are none. After some seconds of silence, `ClusterAwayError`: ask again.

        Args:
            since: only the last so many seconds.
        """
        with self._asking(f"read the log of {pod}"), _nothing_on(404):
            response: _Response = self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=CONTAINER,
                follow=True,
                timestamps=True,
                since_seconds=since,
                _preload_content=False,
                _request_timeout=LOG_TIMEOUTS,
            )
            try:
                yield from _lines(response)
            finally:
                response.close()

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Errors of the client as ours: what was wanted, where, and what was answered."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError, SSLError

        wanted = f"could not {what} in namespace {self.namespace}"
        try:
            yield
        except ApiException as error:
            status, said = error.status or None, _message(error)
            # 401: a service account's token is renewed every hour, and an API server that has just begun knows none.
            if status is None or status in (401, 408, 409, 429) or status >= 500 or _NOT_READY in said:
                raise ClusterAwayError(f"The cluster {wanted} now: {said}", status) from error
            raise ClusterError(f"The cluster {wanted}: {said}. {_remedy(status, said)}".rstrip(), status) from error
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, SSLError):
                raise ClusterError(
                    f"The cluster's certificate is not trusted, so that it {wanted}: {reason}. Mend the kubeconfig."
                ) from error
            raise ClusterAwayError(f"The cluster cannot be reached, so that it {wanted} now: {reason}") from error


def _moment(event: "CoreV1Event") -> datetime.datetime:
    moment: datetime.datetime = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return moment


def _selector(lake: str) -> str:
    return f"{SELECTOR},{LAKE}={lake_hash(lake)}" if lake else SELECTOR


def _lines(response: _Response) -> Iterator[bytes]:
    begun: list[bytes] = []  # pieces of a line without its end, joined once
    length = 0
    for chunk in response.stream(65_536):
        first, *others = chunk.split(b"\n")
        begun.append(first)
        length += len(first)
        if others or length > _LONGEST_LINE:
            yield b"".join(begun)
            yield from others[:-1]
            begun = others[-1:]
            length = len(begun[0]) if begun else 0
    if length:
        yield b"".join(begun)


@contextlib.contextmanager
def _nothing_on(*statuses: int) -> Iterator[None]:
    """These answers are no error."""
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if error.status not in statuses:
            raise


@contextlib.contextmanager
def _nothing_if_exists() -> Iterator[None]:
    """That there is one of that name is no error. Two who count a quota at the same moment are answered 409 too."""
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if error.status != 409 or "already exists" not in _message(error):
            raise


@contextlib.contextmanager
def _refusals_as_causes() -> Iterator[None]:
    """What cluster and namespace do not allow is why a crawl has no process."""
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if cause := causes.refusal(_message(error)):
            raise cause from error
        raise


def _message(error: Any) -> str:
    """The API server's own words."""
    try:
        said = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        said = error.body or error.reason or f"HTTP {error.status}"
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    return " ".join(str(said).split()).rstrip(".")


def _remedy(status: int, said: str) -> str:
    if status == 403:
        return "Give the service account (or the user of the kubeconfig) this right; the chart's roles have it."
    if status == 404 and "namespaces " in said:
        return "Create the namespace, or name another in the file of GOSSAMER_KUBERNETES."
    if status in (400, 422):
        return "Mend what `workers.kubernetes` or the installation's `kubernetes` says, if it is named there."
    return ""


def _client(cluster: Cluster) -> "ApiClient":
    """A client of its own, whatever the process's other users of the library configured."""
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration
    from urllib3 import Retry
    from yaml import YAMLError

    settings = Configuration()
    inside = bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and _SERVICE_ACCOUNT.exists()
    try:
        if inside and cluster.kubeconfig is None and cluster.context is None:
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(
                config_file=str(cluster.kubeconfig.expanduser()) if cluster.kubeconfig else None,
                context=cluster.context,
                client_configuration=settings,
            )
    except (config.ConfigException, OSError, ValueError, TypeError, AttributeError, YAMLError) as error:
        # Of a file that is no kubeconfig, the library says in whatever way that it could not read it.
        place = f"the kubeconfig {cluster.kubeconfig}" if cluster.kubeconfig else "a kubeconfig"
        raise ConfigurationError(
            f"No cluster: {place} cannot be used: {error}. Set KUBECONFIG, or `kubeconfig` and `context` in the file "
            "that GOSSAMER_KUBERNETES names."
        ) from error
    settings.retries = Retry(0)  # callers know what may be repeated, and for how long
    return ApiClient(settings)
