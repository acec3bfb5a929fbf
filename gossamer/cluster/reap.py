"""What is left of crawls on a cluster when nobody follows them any more, and what becomes of it.

A run removes its own Jobs; here is what it could not: its process died, it was deleted, the cluster's API was away.
Launchers make Jobs and nothing else (their pods go with them), so Jobs are all there is to look at: one list call, and
more only for those that nobody follows. Runs are known by their state only; the sensor asks Dagster for it.
"""

import time
from collections.abc import Callable, Mapping, Set
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from gossamer.cluster import causes
from gossamer.cluster.host import LOST_SECONDS
from gossamer.cluster.jobs import Jobs, crawl_of, is_finished, run_of
from gossamer.crawl import deaths, identity, life
from gossamer.crawl.identity import Crawl, Wish
from gossamer.crawl.progress import read_progress
from gossamer.lake import Lake

if TYPE_CHECKING:
    from kubernetes.client import V1Job

#: A finished Job of a run that is over is kept for so long: another run that waits may not have read it yet.
FINISHED_SECONDS = 60.0
#: A crawl that was asked to end has so long before its Job is removed.
END_SECONDS = 60.0
#: A run that failed may be retried, and the retry goes on with its crawl; if none comes for so long, the crawl pauses.
ORPHAN_SECONDS = 900.0
_BY = "the reaper"


class RunState(StrEnum):
    """What of a run matters here.

    active: it is queued, starts, runs, or is being cancelled. cancelled, gone: nobody wants its crawl (gone: there is
    no such run any more). ended: it failed or succeeded.
    """

    ACTIVE = "active"
    CANCELLED = "cancelled"
    ENDED = "ended"
    GONE = "gone"


class Seen(BaseModel):
    """What the last look found, for the next one.

    Attributes:
        active: names of active Jobs -> their crawls, as source, partition, generation.
        orphans: names of active Jobs that nobody followed -> since when (POSIX seconds).
    """

    active: dict[str, tuple[str, str, int]] = Field(default_factory=dict)
    orphans: dict[str, float] = Field(default_factory=dict)


def reap(
    jobs: Jobs,
    lake: Lake,
    runs: Callable[[Set[str]], Mapping[str, RunState]],
    seen: Seen,
    wish: Wish = Wish.STOP,
    now: float | None = None,
) -> tuple[Seen, list[str]]:
    """Looks at all Jobs once; gives what to remember and what was done, in words.

    Args:
        runs: the states of the runs with these ids.
        wish: what a cancelled run asks of its crawl: to stop, or to pause.
        now: POSIX seconds.

    Raises:
        ClusterError, LakeError: one of them cannot be used; the next look does the rest.
    """
    found = [job for job in jobs.all() if crawl_of(job) and job.metadata.deletion_timestamp is None]
    states = runs({run_of(job) for job in found})
    reaper = _Reaper(jobs, lake, wish, seen, time.time() if now is None else now)
    for job in found:
        state = states.get(run_of(job), RunState.GONE)
        if is_finished(job):
            reaper.clear(job, state)
        else:
            reaper.look_after(job, state)
    reaper.mark_vanished({job.metadata.name for job in found})
    return reaper.next, reaper.done


class _Reaper:
    def __init__(self, jobs: Jobs, lake: Lake, wish: Wish, seen: Seen, now: float) -> None:
        self._jobs, self._lake, self._wish, self._seen, self._now = jobs, lake, wish, seen, now
        self.next = Seen()
        self.done: list[str] = []

    def clear(self, job: "V1Job", state: RunState) -> None:
        """Removes a finished Job of a run that is over, once nobody can be about to read it."""
        if state is RunState.ACTIVE or self._now - _finished_at(job) < FINISHED_SECONDS:
            return
        self._remove(job, "it is finished, and so is its run")

    def look_after(self, job: "V1Job", state: RunState) -> None:
        """Ends the crawl of an active Job that nobody follows."""
        crawl = crawl_of(job)
        assert crawl
        name = job.metadata.name
        self.next.active[name] = (crawl.source, crawl.key, crawl.generation)
        if state is RunState.ACTIVE or identity.attached(self._lake, crawl):
            return
        self.next.orphans[name] = since = self._seen.orphans.get(name, self._now)
        orphaned = self._now - since
        if self._went_with_its_node(job, crawl):
            return
        if life.is_over(self._lake, crawl):
            if orphaned > FINISHED_SECONDS:
                self._remove(job, "its crawl is over")
            return
        unwanted = state in (RunState.CANCELLED, RunState.GONE)
        if not unwanted and orphaned < ORPHAN_SECONDS:
            return
        wanted, why = (self._wish, life.CANCELLED) if unwanted else (Wish.PAUSE, "its run ended without it")
        asked = identity.read_control(self._lake, crawl)
        if asked is None or asked.wish not in (Wish.STOP, wanted):
            life.ask(self._lake, crawl, wanted, by=_BY, why=why)
            self.done.append(f"{crawl.id} is asked to {wanted}: {why}")
        elif self._now - asked.asked_at > END_SECONDS or not self._has_started(job):
            self._remove(job, f"its crawl was asked to {asked.wish}, and did not")

    def mark_vanished(self, names: Set[str]) -> None:
        """Notes with its crawl that a Job was deleted before it was over. A run that waits for it has made the next."""
        for name, (source, key, generation) in self._seen.active.items():
            crawl = Crawl(source, key, generation)
            if name in names or life.is_over(self._lake, crawl) or identity.attached(self._lake, crawl):
                continue
            removed = deaths.RemovedError(f"its Job {name} was deleted; {deaths.KEPT}", id=name)
            deaths.note(self._lake, crawl, removed)
            self.done.append(f"{crawl.id}: {removed.words}")

    def _went_with_its_node(self, job: "V1Job", crawl: Crawl) -> bool:
        """Whether it did, and is removed: its Job would wait for the node. The next run of the partition goes on."""
        said = read_progress(self._lake, crawl.source, crawl.key)
        if said and self._now - said.told_at < LOST_SECONDS:
            return False
        lost = [pod for pod in self._jobs.pods(job.metadata.name)[-1:] if causes.goes_with_its_node(pod)]
        for pod in lost:
            deaths.note(self._lake, crawl, causes.lost(pod))
            self._remove(job, f"its pod {pod.metadata.name} went with its node")
            self._jobs.force_delete_pod(pod.metadata.name, uid=pod.metadata.uid)
        return bool(lost)

    def _has_started(self, job: "V1Job") -> bool:
        return any(causes.has_started(pod) for pod in self._jobs.pods(job.metadata.name))

    def _remove(self, job: "V1Job", why: str) -> None:
        self._jobs.delete(job.metadata.name, uid=job.metadata.uid)
        self.done.append(f"Job {job.metadata.name} is removed: {why}")


def _finished_at(job: "V1Job") -> float:
    final = (c for c in (job.status and job.status.conditions) or () if c.type in ("Complete", "Failed"))
    return max((c.last_transition_time.timestamp() for c in final if c.last_transition_time), default=0.0)
