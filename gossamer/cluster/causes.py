"""What the state of a crawl's Job and its pod means: why it waits, whether it is over, and why it died, in words.

Pure: what the client read goes in, errors of `gossamer.crawl.deaths` come out; any part of it may be missing. What a
process's exit code means is `gossamer.crawl.process`'s; what is done about it is the host's.
"""

import datetime
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gossamer.crawl import deaths
from gossamer.crawl.deaths import KEPT, CrawlProcessError
from gossamer.crawl.process import INTERRUPTED, PAUSED, ended
from gossamer.crawl.text import printable
from gossamer.pods import CONTAINER, quantity

if TYPE_CHECKING:
    from kubernetes.client import (
        CoreV1Event,
        V1Container,
        V1ContainerState,
        V1ContainerStateTerminated,
        V1ContainerStatus,
        V1Job,
        V1JobCondition,
        V1Pod,
        V1PodCondition,
    )

_LONGEST = 600
_TAIL_LINES = 20
_OVER = ("Succeeded", "Failed")
#: A state in which a container waits that is well so far.
_STARTING = ("ContainerCreating", "PodInitializing")
_NO_IMAGE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ImageInspectError",
)
_UNFIT_IMAGE = ("InvalidImageName", "ErrImageNeverPull")
_NOT_MADE = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox")
_LOST = ("DeletionByTaintManager", "DeletionByPodGC")
#: How the cluster ends what a node no longer tells about: its container was there, and then was not.
_VANISHED = ("ContainerStatusUnknown", "Unknown")

_NODES = re.compile(r"\d+/(?P<nodes>\d+) nodes are available: (?P<reasons>.*?)\.(?: |$)")
_REASON = re.compile(r"(?:(\d+) )?(.+?)(?=, \d+ |$)(?:, )?")
_QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<asked>\S+), used: (?P<used>\S+), limited: (?P<most>\S+)"
)
_UNDECLARED = re.compile(r"failed quota: (?P<name>[^:]+): must specify (?P<what>.+)")
_RULES = re.compile(
    r"admission webhook .* denied|denied (?:the )?request|violates PodSecurity|forbidden: (?:maximum|minimum) "
)
_DISK_LIMIT = re.compile(r"exceeds the (?:total )?limit|exceeded its local ephemeral storage limit")
_EXIT_CODE = re.compile(r"failed with exit code (\d+)")


class UnfitImageError(deaths.ImageError):
    """No waiting helps: the image's name is none, or it may not be pulled, or not be run as it is."""


class QuotaTooSmallError(deaths.QuotaError):
    """No waiting helps: the quota is smaller than what one pod asks for, or wants something declared."""

    remedy = "Ask for less in `workers`, declare what is wanted, or have the namespace's quota changed."


def is_hopeless(waiting: CrawlProcessError) -> bool:
    """Whether what a Job or a pod waits for does not come by waiting."""
    return isinstance(waiting, deaths.AdmissionRefusedError | UnfitImageError | QuotaTooSmallError)


# -- Jobs -------------------------------------------------------------------------------------------------------------


def is_over(job: "V1Job") -> bool:
    """Whether it has ended or its end is settled; its last pod may still be going."""
    return _outcome(job) is not None


def death_of_job(job: "V1Job", pods: "Iterable[V1Pod]") -> CrawlProcessError | None:
    """Why a Job that is over failed; None of one that completed, or is not over.

    Args:
        pods: of the Job, as they are, or were when last seen.
    """
    outcome = _outcome(job)
    if outcome is None or outcome.type in ("Complete", "SuccessCriteriaMet"):
        return None
    said = _text(outcome.message) or _text(outcome.reason) or "the cluster does not say why"
    if outcome.reason == "DeadlineExceeded":
        return _deadline(job.spec and job.spec.active_deadline_seconds, id=_uid(job))
    known = [death for pod in _by_age(pods) if _is_over(pod) and (death := death_of_pod(pod))]
    if known:
        return known[-1]
    if code := _EXIT_CODE.search(said):  # its pod is gone, but the condition names what it saw
        return _as(_uid(job), ended(_signed(int(code[1])), [])) or deaths.ExitedError(f"its Job failed: {said}.")
    return deaths.RemovedError(
        f"its Job failed ({said}), and its pod, which would tell why, is gone. {KEPT}", id=_uid(job)
    )


def waiting_of_job(job: "V1Job", events: "Iterable[CoreV1Event]") -> CrawlProcessError | None:
    """Why a Job has no pod; None where nothing is wrong so far."""
    if job.spec and job.spec.suspend:
        return deaths.NotStartedError(
            "its Job is suspended: by somebody, or by a queue of the cluster that has no room for it yet.", id=_uid(job)
        )
    event = _newest(events, ("FailedCreate",))
    if event is None:
        return None
    said = _text(event.message).removeprefix("Error creating: ")
    found = _refused(said) or deaths.NotStartedError(f"its pod cannot be made: {said}.")
    return _as(_uid(job), found)


def refusal(message: str) -> CrawlProcessError | None:
    """What the API server's answer to a request to make a Job means, if the cluster's rules or a quota refused it."""
    return _refused(_text(message))


def _outcome(job: "V1Job") -> "V1JobCondition | None":
    """The condition that settles its end."""
    for kind in ("Failed", "FailureTarget", "Complete", "SuccessCriteriaMet"):
        for condition in (job.status and job.status.conditions) or ():
            if condition.type == kind and condition.status == "True":
                return condition
    return None


def _deadline(seconds: int | None, *, id: str, place: str = "") -> deaths.DeadlineError:  # noqa: A002
    after = f" of {seconds} s" if seconds else ""
    return deaths.DeadlineError(
        f"it reached the deadline{after} that follows from `limits.duration`, and was ended: its own code blocks, or "
        f"its pods had to wait or be replaced for long. {KEPT} Raise `limits.duration` if it needs the time.",
        id=id,
        place=place,
    )


def _refused(said: str) -> CrawlProcessError | None:
    if match := _QUOTA.search(said):
        return _over_quota(match)
    if match := _UNDECLARED.search(said):
        return QuotaTooSmallError(
            f"the namespace's quota {match['name']} wants this declared: {match['what'].rstrip('.')}."
        )
    return (
        deaths.AdmissionRefusedError(f"the cluster's rules do not admit it: {said}.") if _RULES.search(said) else None
    )


def _over_quota(match: re.Match[str]) -> deaths.QuotaError:
    asked, used, most = (_amounts(match[part]) for part in ("asked", "used", "most"))
    lacking = [name for name in most if _sum(asked.get(name), used.get(name)) > _sum(most[name])] or list(most)
    parts = [f"{n} (asked for {asked.get(n, '?')}, used {used.get(n, '?')}, limit {most[n]})" for n in lacking]
    words = f"the namespace's quota {match['name']} has no room: {', '.join(parts)}."
    never = any(_sum(asked.get(name)) > _sum(most[name]) for name in lacking)
    return (QuotaTooSmallError if never else deaths.QuotaError)(words)


def _amounts(text: str) -> dict[str, str]:
    """`pods=1,requests.memory=2Gi` as a mapping."""
    pairs = (part.rstrip(".").rpartition("=") for part in text.split(","))
    return {name: amount for name, _, amount in pairs if name}


def _sum(*amounts: str | None) -> float:
    try:
        return float(sum(quantity(amount) for amount in amounts if amount))
    except ValueError:  # a form of numbers that nobody declares by hand; then nothing is concluded from it
        return 0.0


# -- pods that have not started ---------------------------------------------------------------------------------------


def has_started(pod: "V1Pod") -> bool:
    """Whether its crawl runs, or has run."""
    state = _state(pod)
    return bool(state and (state.running or state.terminated)) or _phase(pod) in _OVER


def waiting_of_pod(pod: "V1Pod", events: "Iterable[CoreV1Event]") -> CrawlProcessError | None:
    """Why a pod has not started; None where it has, or nothing is wrong so far."""
    if has_started(pod):
        return None
    place, uid = _place(pod), _uid(pod)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled and scheduled.status == "False":
        return deaths.NeverScheduledError(_why_unscheduled(pod, scheduled), place=place, id=uid)
    found = next(filter(None, (_why_container_waits(pod, status, events) for status in _statuses(pod))), None)
    if found is None and (event := _newest(events, _NOT_MADE)):
        found = deaths.NotStartedError(f"its container cannot be made: {_text(event.message)}. {_MEND_NAMES}")
    if found:
        found.place = place
    return _as(uid, found)


_MEND_NAMES = "Make what is missing, or mend what `workers` or the installation names."


def _why_unscheduled(pod: "V1Pod", scheduled: "V1PodCondition") -> str:
    said = _text(scheduled.message)
    if scheduled.reason == "SchedulingGated":
        return f"its pod is held back by a queue of the cluster: {said}."
    match = _NODES.match(f"{said} ")
    if not match:
        return f"no node takes its pod: {said or 'the cluster does not say why'}."
    reasons = [_why_nodes(pod, count, reason, match["nodes"]) for count, reason in _REASON.findall(match["reasons"])]
    return f"no node takes its pod: {'; '.join(reasons)}. (The scheduler: {said}.)"


def _why_nodes(pod: "V1Pod", count: str, reason: str, nodes: str) -> str:
    """One of the scheduler's reasons, with what of the pod it is about."""
    reason = reason.removeprefix("node(s) ")
    about = [f"{count} of {nodes} nodes"] if count else []
    lacking = reason.removeprefix("Insufficient ")
    if lacking != reason and (asked := _asked(pod, lacking)):
        about.insert(0, f"asked for {asked}")
    if "selector" in reason and (selector := pod.spec and pod.spec.node_selector):
        about.insert(0, ", ".join(f"{key}={value}" for key, value in selector.items()))
    return f"{reason} ({'; '.join(about)})" if about else reason


def _asked(pod: "V1Pod", resource: str) -> str:
    """What its containers ask for of a resource."""
    asked = []
    for container in (pod.spec and pod.spec.containers) or ():
        resources = container.resources
        amounts = {**((resources and resources.limits) or {}), **((resources and resources.requests) or {})}
        asked += [str(amounts[resource])] if resource in amounts else []
    return " + ".join(asked)


def _why_container_waits(
    pod: "V1Pod", status: "V1ContainerStatus", events: "Iterable[CoreV1Event]"
) -> CrawlProcessError | None:
    waiting = status.state and status.state.waiting
    if not waiting or not waiting.reason or waiting.reason in _STARTING:
        return None
    reason, said = str(waiting.reason), _text(waiting.message)
    image = _text(status.image) or "it names"
    if reason in _NO_IMAGE:
        said = said.rpartition("ErrImagePull: ")[2]
        if said.startswith("Back-off") and (event := _newest(events, ("Failed",))):  # as older clusters say it
            said = _text(event.message)
        return deaths.ImageError(f"the image {image} cannot be pulled: {said or reason}.")
    if reason in _UNFIT_IMAGE or "image will run as root" in said:
        return UnfitImageError(f"the image {image} cannot be used ({reason}): {said}.")
    return deaths.NotStartedError(
        f"its container cannot be made ({reason}): {said or 'no more is said'}. {_MEND_NAMES}"
    )


# -- pods that are over -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How a pod ended; well, where `death` is None."""

    death: CrawlProcessError | None


def end_of_pod(pod: "V1Pod", *, is_gone: bool = False) -> End | None:
    """How a pod ended; None of one that goes on, or is about to end.

    Args:
        is_gone: the cluster no longer has it, and it is given as it was last seen.
    """
    return End(death_of_pod(pod)) if is_gone or _is_over(pod) else None


def death_of_pod(pod: "V1Pod") -> CrawlProcessError | None:
    """Why a pod that is over, or gone, ended; None where it ended well."""
    place, uid = _place(pod), _uid(pod)
    terminated = _terminated(pod)
    death = _death(pod, terminated, place)
    if death:
        death.place = place
        if terminated and death.exit_code is None:
            death.exit_code = _signed(terminated.exit_code)
    return _as(uid, death)


def goes_with_its_node(pod: "V1Pod") -> bool:
    """Whether it is to be removed and its node may not answer: then nobody else ever tells of its end."""
    if _is_over(pod):
        return False
    return _disruption(pod) in _LOST or (_deleted(pod) and _is_silent(pod))


def is_disrupted(pod: "V1Pod") -> bool:
    """Whether the cluster ends it (evicted, preempted, its node lost): then its Job replaces it."""
    return bool(_disruption(pod))


def lost(pod: "V1Pod") -> deaths.NodeLostError:
    """The death of a pod that went with its node."""
    node = _text(pod.spec and pod.spec.node_name)
    return deaths.NodeLostError(
        f"its node {node} does not answer: it is gone, or cut off from the cluster. {KEPT}".replace("  ", " "),
        place=_place(pod),
        id=_uid(pod),
    )


def _death(pod: "V1Pod", terminated: "V1ContainerStateTerminated | None", place: str) -> CrawlProcessError | None:
    status, code = pod.status, None if terminated is None else terminated.exit_code
    reason, said = _text(status and status.reason), _text(status and status.message)
    if _phase(pod) == "Succeeded" or (code == 0 and _phase(pod) != "Failed"):
        return None
    if code == PAUSED or (code == INTERRUPTED and not _was_removed(pod)):
        return ended(code, _tail(terminated.message if terminated else None), place)
    if terminated and terminated.reason == "OOMKilled" and code != INTERRUPTED:
        return _out_of_memory(pod, terminated)
    if reason == "DeadlineExceeded":
        return _deadline(pod.spec and pod.spec.active_deadline_seconds, id="", place=place)
    if terminated and terminated.reason in ("StartError", "ContainerCannotRun"):
        return deaths.NotStartedError(f"its container cannot be started: {_text(terminated.message)}. {_MEND_NAMES}")
    return _removal(pod, terminated, reason, said) or _own_end(pod, terminated, place, reason, said)


def _was_removed(pod: "V1Pod") -> bool:
    return bool(_deleted(pod) or _disruption(pod) or (pod.status and pod.status.reason))


def _removal(
    pod: "V1Pod", terminated: "V1ContainerStateTerminated | None", reason: str, said: str
) -> CrawlProcessError | None:
    """What the cluster, or somebody, did to end it."""
    why = _disruption(pod)
    vanished = terminated is None or terminated.reason in _VANISHED
    if reason == "Evicted" and _DISK_LIMIT.search(said):
        full = deaths.EvictedError(
            f"it wrote more to its disk than it may: {said}. {KEPT} Raise `scratch` in the installation's file, or the "
            "limit of ephemeral storage where `kubernetes` sets one."
        )
        full.passes = False  # what it had done fills the disk again
        return full
    if reason == "Evicted":
        return deaths.EvictedError(f"its node put it out: {said or 'it does not say why'}. {KEPT}")
    if why == "PreemptionByScheduler" or reason == "Preempting":
        return deaths.PreemptedError(f"a pod of higher priority took its place. {KEPT}")
    if (why in _LOST and vanished) or reason == "NodeLost":
        return lost(pod)
    if why in _LOST:
        return deaths.EvictedError(f"its node no longer takes its like (a taint was set), and put it out. {KEPT}")
    if why == "EvictionByEvictionAPI":
        return deaths.EvictedError(f"it was evicted: its node is drained, or somebody asked for it. {KEPT}")
    if why == "TerminationByKubelet":
        return deaths.EvictedError(f"its node ended it: {said or 'it was shut down'}. {KEPT}")
    if why:
        return deaths.EvictedError(f"the cluster ended it ({why}). {KEPT}")
    if _is_silent(pod) or (terminated and terminated.reason in _VANISHED):
        return lost(pod)
    if _deleted(pod):
        return deaths.RemovedError(f"its pod was deleted. {KEPT}")
    return None


def _own_end(
    pod: "V1Pod", terminated: "V1ContainerStateTerminated | None", place: str, reason: str, said: str
) -> CrawlProcessError | None:
    """How it ended where nobody ended it, as far as can be seen."""
    if terminated and terminated.exit_code is not None:
        return ended(_signed(terminated.exit_code), _tail(terminated.message), place)
    if _phase(pod) != "Failed":
        return deaths.RemovedError(f"its pod is gone, and nobody saw how it ended. {KEPT}")
    if reason.startswith("OutOf") or reason in ("NodeAffinity", "UnexpectedAdmissionError"):
        return deaths.EvictedError(f"its node did not take it after all: {said or reason}. {KEPT}")
    return deaths.ExitedError(
        f"its pod failed, and the cluster says no more than: {said or reason or 'nothing'}. {KEPT}"
    )


def _out_of_memory(pod: "V1Pod", terminated: "V1ContainerStateTerminated") -> deaths.OutOfMemoryError:
    container = _container(pod)
    limits = (container and container.resources and container.resources.limits) or {}
    limit = _text(limits.get("memory"))
    what = f"its memory limit of {limit} did not suffice" if limit else "its node ran out of memory"
    code = _signed(terminated.exit_code)
    own = ended(code, _tail(terminated.message)) if code not in (None, 0, -signal.SIGKILL) else None
    then = f" A process that it had started (a browser, say) was ended for it; then: {own.words}" if own else ""
    death = deaths.OutOfMemoryError(
        f"out of memory: {what}. {KEPT} Raise `workers.memory`, or list steps ([512Mi, 1Gi]) of which the next is "
        f"tried.{then}",
        exit_code=code,
    )
    death.memory = limit
    return death


# -- what the client's models hold ------------------------------------------------------------------------------------


def _is_over(pod: "V1Pod") -> bool:
    """The container's end is seen a second or two before the pod's phase tells of it."""
    return _phase(pod) in _OVER or _terminated(pod) is not None


def _phase(pod: "V1Pod") -> str:
    return str((pod.status and pod.status.phase) or "")


def _statuses(pod: "V1Pod") -> "Iterator[V1ContainerStatus]":
    if pod.status:
        yield from pod.status.init_container_statuses or ()
        yield from pod.status.container_statuses or ()


def _state(pod: "V1Pod") -> "V1ContainerState | None":
    """Of the crawl's container."""
    statuses = (pod.status and pod.status.container_statuses) or ()
    return next((status.state for status in statuses if status.name == CONTAINER), None)


def _terminated(pod: "V1Pod") -> "V1ContainerStateTerminated | None":
    state = _state(pod)
    return state.terminated if state else None


def _container(pod: "V1Pod") -> "V1Container | None":
    return next((c for c in (pod.spec and pod.spec.containers) or () if c.name == CONTAINER), None)


def _deleted(pod: "V1Pod") -> bool:
    return bool(pod.metadata and pod.metadata.deletion_timestamp)


def _condition(pod: "V1Pod", kind: str) -> "V1PodCondition | None":
    return next((c for c in (pod.status and pod.status.conditions) or () if c.type == kind), None)


def _disruption(pod: "V1Pod") -> str:
    """Why the cluster ends it, "" where it does not."""
    condition = _condition(pod, "DisruptionTarget")
    return _text(condition.reason) or "unknown" if condition and condition.status == "True" else ""


def _is_silent(pod: "V1Pod") -> bool:
    """Whether its node is not heard of: the cluster then calls the pod unready, and knows no more of its container."""
    state, ready, containers = _state(pod), _condition(pod, "Ready"), _condition(pod, "ContainersReady")
    is_unready = ready is not None and ready.status != "True" and containers is not None and containers.status == "True"
    return is_unready and state is not None and state.running is not None


def _signed(code: int | None) -> int:
    """Minus the signal's number, where a signal ended it: a container's runtime adds 128."""
    number = (code or 0) - 128
    return -number if number in signal.valid_signals() else code or 0


def _tail(message: str | None) -> list[str]:
    """The end of its log, which stands in for a message of its own."""
    return [printable(line)[:_LONGEST] for line in (message or "").splitlines()[-_TAIL_LINES:]]


def _text(value: object) -> str:
    """What the cluster says, as part of a sentence: one line, not too long, without its full stop."""
    words = printable(" ".join(str(value).split())) if value is not None else ""
    return (words if len(words) <= _LONGEST else f"{words[:_LONGEST]}...").rstrip(". ")


def _place(pod: "V1Pod") -> str:
    node = _text(pod.spec and pod.spec.node_name)
    return f"pod {_text(pod.metadata and pod.metadata.name)}{f' on {node}' if node else ''}"


def _uid(thing: "V1Pod | V1Job") -> str:
    return str((thing.metadata and thing.metadata.uid) or "")


def _as(uid: str, death: CrawlProcessError | None) -> CrawlProcessError | None:
    """The error as that of this pod or Job: whoever else sees it then tells of the same."""
    if death and uid:
        death.id = uid
    return death


def _by_age(pods: "Iterable[V1Pod]") -> "Sequence[V1Pod]":
    return sorted(pods, key=lambda pod: _seconds(pod.metadata and pod.metadata.creation_timestamp))


def _newest(events: "Iterable[CoreV1Event]", reasons: Sequence[str]) -> "CoreV1Event | None":
    known = [event for event in events if event.reason in reasons]
    return max(known, key=_moment, default=None)


def _moment(event: "CoreV1Event") -> float:
    moments = (event.last_timestamp, event.event_time, event.metadata and event.metadata.creation_timestamp)
    return max(_seconds(moment) for moment in moments)


def _seconds(moment: datetime.datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
