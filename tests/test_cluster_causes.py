"""Causes of death named from what a cluster really showed: the records were taken from one (Kubernetes 1.34).

Each file of `cluster_records` holds a Job, its pods and their events at one moment, or a request's refusal.
"""

import datetime
import json
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes import client

from gossamer.cluster import causes
from gossamer.crawl import deaths
from gossamer.crawl.deaths import CrawlProcessError

RECORDS = Path(__file__).parent / "cluster_records"
API = client.ApiClient(client.Configuration())
WAITING = (
    *("big-both", "big-cpu", "big-memory", "claim", "gpu", "invalid-image", "missing-image", "missing-secret"),
    *("missing-secret-key", "missing-secret-volume", "never-pull", "not-root", "selector", "taint", "unknown-registry"),
)
RUNNING = ("evicted-api-terminating", "evicted-hard-terminating", "node-lost", "node-lost-forced", "node-unreachable")


def model(kind: str, plain: object) -> Any:
    return API.deserialize(types.SimpleNamespace(data=json.dumps(plain)), kind)


class Record:
    """One file, as the client's models."""

    def __init__(self, name: str) -> None:
        plain = json.loads((RECORDS / f"{name}.json").read_text())
        self.job = plain["job"] and model("V1Job", plain["job"])
        self.pods = [model("V1Pod", pod) for pod in plain["pods"]]
        self.events = [model("CoreV1Event", event) for event in plain["events"]]

    @property
    def pod(self) -> Any:
        return min(self.pods, key=lambda pod: pod.metadata.creation_timestamp)


def died(pod: Any, *, is_gone: bool = False) -> CrawlProcessError:
    end = causes.end_of_pod(pod, is_gone=is_gone)
    assert end is not None and end.death is not None
    return end.death


# -- pods that are over -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "kind", "code", "passes", "words"),
    [
        ("exit-1", deaths.ExitedError, 1, False, "the store cannot be read: file is not a database"),
        ("exit-1-traceback", deaths.ExitedError, 1, False, "ValueError: no price"),
        ("exit-2", deaths.ExitedError, 2, False, "source shop: unknown field foo"),
        ("exit-75", deaths.InterruptedCrawlError, 75, True, "interrupted before it was over"),
        ("exit-76", deaths.InterruptedCrawlError, 76, True, "interrupted before it was over"),
        ("exit-143", deaths.KilledError, -15, True, "SIGTERM"),
        ("killed", deaths.KilledError, -9, True, "SIGKILL"),
        ("oom", deaths.OutOfMemoryError, -9, False, "memory limit of 32Mi"),
        ("oom-child", deaths.OutOfMemoryError, 1, False, "then: a child was killed"),
        ("evicted-api", deaths.EvictedError, 75, True, "its node is drained"),
        ("evicted-hard", deaths.EvictedError, -9, True, "its node is drained"),
        ("empty-dir", deaths.EvictedError, -9, False, 'volume "scratch" exceeds the limit "8Mi"'),
        ("ephemeral", deaths.EvictedError, -9, False, "exceeds the total limit of containers 8Mi"),
        ("preempted", deaths.PreemptedError, 75, True, "higher priority"),
        ("deleted-pod", deaths.RemovedError, 75, True, "its pod was deleted"),
        ("deleted-job", deaths.RemovedError, -9, True, "its pod was deleted"),
        ("no-command", deaths.NotStartedError, 128, False, "stat /nowhere: no such file or directory"),
    ],
)
def test_the_cause_of_a_pods_death_is_named(
    record: str, kind: type[CrawlProcessError], code: int, passes: bool, words: str
) -> None:
    pod = Record(record).pod
    death = died(pod)
    assert type(death) is kind
    assert (death.exit_code, death.passes) == (code, passes)
    assert words in str(death)
    assert death.id == pod.metadata.uid
    assert death.place == f"pod {pod.metadata.name} on {pod.spec.node_name}"
    assert causes.has_started(pod) and causes.waiting_of_pod(pod, []) is None and not causes.goes_with_its_node(pod)


@pytest.mark.parametrize("record", ["exit-0", "oom-child-ok"])
def test_a_crawl_that_ended_well_is_not_called_dead_though_a_child_of_it_was_killed(record: str) -> None:
    found = Record(record)
    assert causes.end_of_pod(found.pod) == causes.End(None)
    assert causes.is_over(found.job) and causes.death_of_job(found.job, found.pods) is None


def test_the_limit_that_did_not_suffice_is_known() -> None:
    assert died(Record("oom").pod).memory == "32Mi"


def test_an_interrupted_crawl_is_not_out_of_memory_because_a_child_of_it_once_was() -> None:
    pod = Record("oom-child").pod
    for code in (75, 76):
        pod.status.container_statuses[0].state.terminated.exit_code = code
        death = died(pod)
        assert type(death) is deaths.InterruptedCrawlError and death.exit_code == code


def test_an_evicted_crawl_is_not_out_of_memory_because_a_child_of_it_once_was() -> None:
    pod = Record("evicted-api").pod
    pod.status.container_statuses[0].state.terminated.reason = "OOMKilled"
    assert type(died(pod)) is deaths.EvictedError


def test_a_paused_crawl_is_paused_though_its_node_was_drained() -> None:
    pod = Record("evicted-api").pod
    pod.status.container_statuses[0].state.terminated.exit_code = 76
    assert died(pod).exit_code == 76
    assert type(died(pod)) is deaths.InterruptedCrawlError


def test_an_end_is_seen_before_the_pods_phase_tells_of_it() -> None:
    pod = Record("exit-75").pod
    pod.status.phase = "Running"
    assert type(died(pod)) is deaths.InterruptedCrawlError


@pytest.mark.parametrize("record", [*RUNNING, *WAITING])
def test_a_pod_that_goes_on_is_not_over(record: str) -> None:
    assert causes.end_of_pod(Record(record).pod) is None


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ("evicted-api-terminating", deaths.EvictedError),
        ("node-lost", deaths.NodeLostError),
        ("node-lost-forced", deaths.NodeLostError),
        ("node-unreachable", deaths.NodeLostError),
    ],
)
def test_a_pod_that_vanished_died_of_what_was_last_seen(record: str, kind: type[CrawlProcessError]) -> None:
    assert type(died(Record(record).pod, is_gone=True)) is kind


def test_a_pod_that_vanished_unseen_is_removed() -> None:
    pod = Record("node-unreachable").pod
    pod.status.conditions = None
    death = died(pod, is_gone=True)
    assert type(death) is deaths.RemovedError and death.passes


# -- lost nodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", ["node-lost", "node-lost-forced"])
def test_a_pod_on_a_lost_node_is_known_before_anybody_can_tell_of_its_end(record: str) -> None:
    pod = Record(record).pod
    assert causes.goes_with_its_node(pod)
    death = causes.lost(pod)
    assert "its node node-2 does not answer" in str(death) and death.passes
    assert death.id == pod.metadata.uid


@pytest.mark.parametrize("record", ["node-unreachable", "evicted-api-terminating", "preempted", "oom"])
def test_a_pod_is_not_given_up_with_its_node_too_soon(record: str) -> None:
    assert not causes.goes_with_its_node(Record(record).pod)


def test_a_pod_that_somebody_deletes_while_its_node_is_silent_goes_with_its_node() -> None:
    pod = Record("node-unreachable").pod
    pod.metadata.deletion_timestamp = datetime.datetime.now(datetime.UTC)
    assert causes.goes_with_its_node(pod)


def test_a_node_that_comes_back_tells_of_a_pod_that_it_lost() -> None:
    pod = Record("node-lost").pod  # what follows is how the pod then looked; it was there for less than a second
    pod.status.phase = "Failed"
    pod.status.container_statuses[0].state = client.V1ContainerState(
        terminated=client.V1ContainerStateTerminated(exit_code=255, reason="Unknown")
    )
    death = died(pod)
    assert type(death) is deaths.NodeLostError
    assert death.id == causes.lost(pod).id  # one death, though it is told twice


def test_a_taint_on_a_node_that_lives_is_an_eviction() -> None:
    pod = Record("evicted-api").pod
    next(c for c in pod.status.conditions if c.type == "DisruptionTarget").reason = "DeletionByTaintManager"
    assert type(died(pod)) is deaths.EvictedError


# -- what a node says (its words as in Kubernetes's source: these cannot be had of a test cluster) --------------------


@pytest.mark.parametrize(
    ("reason", "condition", "message", "kind", "words"),
    [
        (
            "Evicted",
            "TerminationByKubelet",
            "The node was low on resource: memory. Threshold quantity: 200Mi, available: 120Mi. ",
            deaths.EvictedError,
            "its node put it out: The node was low on resource: memory. Threshold quantity: 200Mi, available: 120Mi. ",
        ),
        (
            "Terminated",
            "TerminationByKubelet",
            "Pod was terminated in response to imminent node shutdown.",
            deaths.EvictedError,
            "its node ended it: Pod was terminated in response to imminent node shutdown. ",
        ),
        ("Preempting", "TerminationByKubelet", "Preempted in order to admit critical pod", deaths.PreemptedError, ""),
        ("", "DeletionByPodGC", "PodGC: node no longer exists", deaths.NodeLostError, "does not answer"),
        ("NodeLost", None, "Node node-2 which was running pod x is unresponsive", deaths.NodeLostError, ""),
        ("OutOfmemory", None, "Node didn't have enough resource: memory", deaths.EvictedError, "did not take it"),
        ("DeadlineExceeded", None, "Pod was active on the node longer than", deaths.DeadlineError, "`limits.duration`"),
        ("", None, "", deaths.ExitedError, "the cluster says no more than: nothing"),
    ],
)
def test_what_a_node_says_is_told(
    reason: str, condition: str | None, message: str, kind: type[CrawlProcessError], words: str
) -> None:
    disrupted = client.V1PodCondition(type="DisruptionTarget", status="True", reason=condition)
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="p", uid="u"),
        spec=client.V1PodSpec(containers=[client.V1Container(name="crawl")], node_name="node-2"),
        status=client.V1PodStatus(
            phase="Failed", reason=reason, message=message, conditions=[disrupted] if condition else None
        ),
    )
    death = died(pod)
    assert type(death) is kind
    assert words in str(death) and "  " not in str(death) and ".." not in str(death)


# -- Jobs -------------------------------------------------------------------------------------------------------------


def test_a_deadline_is_told_by_the_job_alone_because_its_pod_is_gone() -> None:
    found = Record("deadline")
    assert found.pods == [] and causes.is_over(found.job)
    death = causes.death_of_job(found.job, [])
    assert type(death) is deaths.DeadlineError and not death.passes
    assert "the deadline of 4 s" in str(death) and "`limits.duration`" in str(death)


def test_a_deadline_is_told_though_the_pod_was_only_interrupted_by_it() -> None:
    job, pods = Record("deadline").job, Record("exit-75").pods
    job.status.conditions = [c for c in job.status.conditions if c.type == "FailureTarget"]  # as it begins
    assert causes.is_over(job)
    assert type(causes.death_of_job(job, pods)) is deaths.DeadlineError


@pytest.mark.parametrize("record", ["exit-1", "exit-2", "exit-76", "oom", "killed", "empty-dir", "no-command"])
def test_a_failed_job_tells_of_its_pods_death(record: str) -> None:
    found = Record(record)
    assert causes.is_over(found.job)
    death = causes.death_of_job(found.job, found.pods)
    assert death and (type(death), death.id, str(death)) == (
        type(died(found.pod)),
        found.pod.metadata.uid,
        str(died(found.pod)),
    )


def test_the_newest_pods_death_is_the_jobs() -> None:
    older, newer = Record("evicted-api"), Record("oom")
    newer.pod.metadata.creation_timestamp = older.pod.metadata.creation_timestamp + datetime.timedelta(seconds=9)
    death = causes.death_of_job(newer.job, [newer.pod, older.pod])
    assert type(death) is deaths.OutOfMemoryError


def test_a_paused_crawl_is_known_though_its_pod_is_gone() -> None:
    death = causes.death_of_job(Record("exit-76").job, [])
    assert death is not None and death.exit_code == 76


def test_a_failed_job_without_a_trace_is_started_again() -> None:
    found = Record("exit-1")
    death = causes.death_of_job(found.job, [])
    assert type(death) is deaths.RemovedError and death.passes and death.id == found.job.metadata.uid


@pytest.mark.parametrize(
    "record", ["exit-75", "evicted-api", "preempted", "node-lost", "missing-image", "quota-memory"]
)
def test_a_job_that_goes_on_by_itself_is_not_over(record: str) -> None:
    found = Record(record)
    assert not causes.is_over(found.job) and causes.death_of_job(found.job, found.pods) is None


# -- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "kind", "is_hopeless", "words"),
    [
        ("big-memory", deaths.NeverScheduledError, False, "Insufficient memory (asked for 6400Gi; 2 of 2 nodes). "),
        ("big-cpu", deaths.NeverScheduledError, False, "Insufficient cpu (asked for 900; 2 of 2 nodes). "),
        ("big-both", deaths.NeverScheduledError, False, "(asked for 900; 2 of 2 nodes); Insufficient memory (asked"),
        ("gpu", deaths.NeverScheduledError, False, "Insufficient nvidia.com/gpu (asked for 1; 2 of 2 nodes)"),
        ("selector", deaths.NeverScheduledError, False, "(pool=spot; 2 of 2 nodes)"),
        ("taint", deaths.NeverScheduledError, False, "had untolerated taint(s) (1 of 2 nodes)"),
        ("claim", deaths.NeverScheduledError, False, 'persistentvolumeclaim "nowhere" not found'),
        ("missing-image", deaths.ImageError, False, "the image localhost/causes-none:1 cannot be pulled: failed to"),
        ("unknown-registry", deaths.ImageError, False, "no such host"),
        ("invalid-image", causes.UnfitImageError, True, "must be lowercase"),
        ("never-pull", causes.UnfitImageError, True, "is not present with pull policy of Never"),
        ("not-root", causes.UnfitImageError, True, "image will run as root"),
        ("missing-secret", deaths.NotStartedError, False, 'secret "gossamer-s3" not found'),
        ("missing-secret-key", deaths.NotStartedError, False, 'configmap "shop" not found'),
        ("missing-secret-volume", deaths.NotStartedError, False, 'secret "gossamer-cookies" not found'),
    ],
)
def test_why_a_pod_does_not_start_is_told(
    record: str, kind: type[CrawlProcessError], is_hopeless: bool, words: str
) -> None:
    found = Record(record)
    waiting = causes.waiting_of_pod(found.pod, found.events)
    assert waiting is not None and type(waiting) is kind
    assert words in str(waiting)
    assert causes.is_hopeless(waiting) is is_hopeless
    assert waiting.id == found.pod.metadata.uid and not waiting.passes
    assert not causes.has_started(found.pod)


@pytest.mark.parametrize("record", RUNNING)
def test_a_pod_that_runs_waits_for_nothing(record: str) -> None:
    found = Record(record)
    assert causes.has_started(found.pod) and causes.waiting_of_pod(found.pod, found.events) is None


def test_a_pod_that_is_just_starting_is_left_alone() -> None:
    found = Record("missing-secret-volume")
    assert causes.waiting_of_pod(found.pod, []) is None


def test_an_older_clusters_words_about_an_image_are_found_in_its_events() -> None:
    found = Record("missing-image")
    found.pod.status.container_statuses[0].state.waiting.message = 'Back-off pulling image "localhost/causes-none:1"'
    assert "connection refused" in str(causes.waiting_of_pod(found.pod, found.events))


@pytest.mark.parametrize(
    ("record", "kind", "is_hopeless", "words"),
    [
        ("quota-pods-full", deaths.QuotaError, False, "quota small has no room: pods (asked for 1, used 1, limit 1)"),
        ("quota-memory", causes.QuotaTooSmallError, True, "requests.memory (asked for 2Gi, used 32Mi, limit 256Mi)"),
        ("quota-unset", causes.QuotaTooSmallError, True, "wants this declared: requests.memory"),
        ("limit-range", deaths.AdmissionRefusedError, True, "maximum memory usage per Container is 64Mi"),
        ("pod-security", deaths.AdmissionRefusedError, True, 'violates PodSecurity "restricted:latest"'),
        ("policy-pod", deaths.AdmissionRefusedError, True, "images come from registry.example.org only"),
        ("no-account", deaths.NotStartedError, False, 'serviceaccount "nobody" not found'),
        ("no-priority", deaths.NotStartedError, False, "no PriorityClass with name causes-none was found"),
    ],
)
def test_why_a_job_gets_no_pod_is_told(
    record: str, kind: type[CrawlProcessError], is_hopeless: bool, words: str
) -> None:
    found = Record(record)
    assert found.pods == []
    waiting = causes.waiting_of_job(found.job, found.events)
    assert waiting is not None and type(waiting) is kind
    assert words in str(waiting)
    assert causes.is_hopeless(waiting) is is_hopeless


@pytest.mark.parametrize("step", [1, -1])
def test_the_last_word_of_the_cluster_counts(step: int) -> None:
    full, denied = Record("quota-pods-full"), Record("policy-pod")
    [old, *_], [new, *_] = full.events[::step], denied.events[::step]
    new.last_timestamp = old.last_timestamp + datetime.timedelta(minutes=1)
    waiting = causes.waiting_of_job(full.job, [old, new][::step])
    assert type(waiting) is deaths.AdmissionRefusedError


def test_a_job_that_a_queue_holds_back_says_so() -> None:
    job = Record("exit-75").job
    assert causes.waiting_of_job(job, []) is None
    job.spec.suspend = True
    assert "suspended" in str(causes.waiting_of_job(job, []))


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ("refused-quota-jobs", deaths.QuotaError),
        ("refused-policy-job", deaths.AdmissionRefusedError),
        ("refused-invalid-job", type(None)),
        ("refused-no-namespace", type(None)),
        ("refused-rights", type(None)),
    ],
)
def test_a_refused_job_is_told_from_one_that_may_not_be_made_at_all(record: str, kind: type) -> None:
    plain = json.loads((RECORDS / f"{record}.json").read_text())
    assert type(causes.refusal(plain["body"]["message"])) is kind


def test_a_webhook_that_refuses_is_told_from_one_that_is_away() -> None:
    denied = 'admission webhook "images.example.org" denied the request: not signed'
    assert type(causes.refusal(denied)) is deaths.AdmissionRefusedError
    away = 'Internal error occurred: failed calling webhook "images.example.org": connection refused'
    assert causes.refusal(away) is None


# -- whatever comes ---------------------------------------------------------------------------------------------------


def test_what_pages_and_images_say_cannot_command_a_terminal_nor_fill_the_log() -> None:
    pod = Record("exit-1-traceback").pod
    pod.status.container_statuses[0].state.terminated.message = "\x1b]0;title\x07 " + "x" * 100_000
    waiting = Record("missing-image").pod
    waiting.status.container_statuses[0].state.waiting.message = "\x1b[2J\n" + "y" * 100_000
    for said in (died(pod), causes.waiting_of_pod(waiting, [])):
        assert "\x1b" not in str(said) and len(str(said)) < 2_000


def test_every_record_is_read_by_a_test() -> None:
    """One that no test reads proves nothing."""
    names = {path.stem for path in RECORDS.iterdir()}
    source = Path(__file__).read_text()
    assert {name for name in names if f'"{name}"' not in source} == set()


WORDS = st.none() | st.sampled_from(
    [
        *("Evicted", "OOMKilled", "Unknown", "DeadlineExceeded", "ImagePullBackOff", "ErrImageNeverPull", "", "True"),
        *("Unschedulable", "DeletionByTaintManager", "PodFailurePolicy", "FailedCreate", "Failed", "DisruptionTarget"),
        *("PodScheduled", "Ready", "ContainersReady", "False", "Running", "Pending", "Succeeded", "crawl", "other"),
        "0/3 nodes are available: 3 Insufficient memory, x. preemption: none.",
        "exceeded quota: q, requested: pods=1,x, used: =2, limited: pods=a",
    ]
)
CODES = st.none() | st.integers(-1, 256)
#: The client refuses some of what a server may leave out, where it makes a model by hand.
LENIENT = client.Configuration()
LENIENT.client_side_validation = False


def made(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.builds(kind, local_vars_configuration=st.just(LENIENT), **fields)


def many(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.lists(strategy.filter(lambda item: item is not None), max_size=3)


METADATA = made(
    client.V1ObjectMeta,
    name=WORDS,
    uid=WORDS,
    deletion_timestamp=st.none() | st.datetimes(min_value=datetime.datetime(2020, 1, 1)),
    creation_timestamp=st.none() | st.datetimes(min_value=datetime.datetime(2020, 1, 1)),
)
STATES = made(
    client.V1ContainerState,
    waiting=made(client.V1ContainerStateWaiting, reason=WORDS, message=WORDS),
    running=made(client.V1ContainerStateRunning),
    terminated=made(client.V1ContainerStateTerminated, reason=WORDS, message=WORDS, exit_code=CODES),
)
CONDITIONS = many(made(client.V1PodCondition, type=WORDS, status=WORDS, reason=WORDS, message=WORDS))
STATUSES = many(made(client.V1ContainerStatus, name=WORDS, image=WORDS, state=STATES))
CONTAINERS = many(made(client.V1Container, name=WORDS, resources=made(client.V1ResourceRequirements)))
PODS = made(
    client.V1Pod,
    metadata=METADATA,
    spec=made(client.V1PodSpec, containers=CONTAINERS, node_name=WORDS),
    status=made(
        client.V1PodStatus,
        phase=WORDS,
        reason=WORDS,
        message=WORDS,
        conditions=CONDITIONS,
        container_statuses=STATUSES,
        init_container_statuses=STATUSES,
    ),
).filter(lambda pod: pod is not None)
JOBS = made(
    client.V1Job,
    metadata=METADATA,
    spec=made(client.V1JobSpec, suspend=st.booleans(), active_deadline_seconds=CODES),
    status=made(
        client.V1JobStatus,
        conditions=many(made(client.V1JobCondition, type=WORDS, status=WORDS, reason=WORDS, message=WORDS)),
    ),
).filter(lambda job: job is not None)
EVENTS = many(made(client.CoreV1Event, metadata=METADATA, reason=WORDS, message=WORDS)).map(lambda some: some or [])


@given(job=JOBS, pods=st.lists(PODS, max_size=3), events=EVENTS)
def test_no_shape_of_what_the_cluster_answers_fails_the_step(job: Any, pods: list[Any], events: list[Any]) -> None:
    found: list[CrawlProcessError | None] = [causes.waiting_of_job(job, events), causes.death_of_job(job, pods)]
    assert found[1] is None or causes.is_over(job)
    for pod in pods:
        end = causes.end_of_pod(pod)
        gone = causes.end_of_pod(pod, is_gone=True)
        assert gone is not None and (end is None or type(end.death) is type(gone.death))
        found += [gone.death, causes.lost(pod), causes.waiting_of_pod(pod, events)]
        assert not (causes.goes_with_its_node(pod) and end)
    for error in found:
        assert error is None or (str(error) and not (causes.is_hopeless(error) and error.passes))
