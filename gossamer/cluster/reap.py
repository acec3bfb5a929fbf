"""What is left of crawls on a cluster when nobody follows them any more, and what becomes of it.

A run removes its own Jobs; here is what it could not: its process died, it was deleted, the cluster's API was away.
Launchers make Jobs and nothing else: no secrets and no claims (a crawl's volume goes with its pod; secrets are named,
never made), and Kubernetes removes the pods of a Job that is deleted. So Jobs are all there is to look at: one list
call, and more only for those that nobody follows. Jobs of other lakes are other installations'. Runs are known by their
state only; the sensor asks Dagster for it.

Moments are this process's own: clocks of nodes and runs may differ. Where they have to be compared, some seconds of
difference do no harm.
"""

import base64
import math
import random
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from enum import StrEnum
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from gossamer.cluster import causes
from gossamer.cluster.host import LOST_SECONDS
from gossamer.cluster.jobs import (
    ClusterAwayError,
    ClusterError,
    Jobs,
    crawl_of,
    is_finished,
    job_name,
    ordinal_of,
    run_of,
)
from gossamer.crawl import deaths, identity, life
from gossamer.crawl.identity import Crawl, Wish
from gossamer.crawl.life import CrawlState
from gossamer.crawl.process import PAUSED
from gossamer.crawl.progress import COMMITTING, read_progress
from gossamer.errors import LakeError
from gossamer.lake import Lake

if TYPE_CHECKING:
    from kubernetes.client import V1Job, V1Pod

#: A finished Job of a run that is over is kept for so long: another run that waits may not have read it yet.
FINISHED_SECONDS = 60.0
#: A crawl that was asked to end has so long before its Job is removed.
END_SECONDS = 60.0
#: A run that failed may be retried, and the retry goes on with its crawl; if none comes for so long, the crawl pauses.
ORPHAN_SECONDS = 900.0
#: One look begins nothing more after so long: Dagster gives a sensor 60 s.
LOOK_SECONDS = 30.0
_BY = "the reaper"
_DELETED = "its run was deleted"
#: A death that was noted so long before the last look may still be that of a Job that the look saw.
_SKEW_SECONDS = 30.0


class RunState(StrEnum):
    """What of a run matters here.

    active: it is queued, starts, runs, or is being cancelled. cancelled: nobody wants its crawl. ended: it failed or
    succeeded. unknown: there is no such run; it was deleted, if it was known before.
    """

    ACTIVE = "active"
    CANCELLED = "cancelled"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Orphan(BaseModel):
    """An active Job that nobody follows; POSIX seconds.

    Attributes:
        asked: since when its crawl is known to be asked to end.
        over: since when its crawl is known to be over.
    """

    since: float
    asked: float | None = None
    over: float | None = None


class Seen(BaseModel):
    """What the last look found, for the next one.

    Attributes:
        at: when that was, POSIX seconds.
        active: crawl id and ordinal of the Jobs that were not finished -> whether their runs were ever known.
        orphans: those of them that nobody followed.
    """

    at: float = 0.0
    active: dict[str, bool] = Field(default_factory=dict)
    orphans: dict[str, Orphan] = Field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> "Seen":
        """From what `write` gave; nothing seen where there is none, or one of another version."""
        try:
            return cls.model_validate_json(zlib.decompress(base64.b64decode(text))) if text else cls()
        except (ValueError, zlib.error):
            return cls()

    def write(self) -> str:
        """Small: Dagster keeps it with each of a week's looks."""
        return base64.b64encode(zlib.compress(self.model_dump_json().encode())).decode()


class Look(BaseModel):
    """What came of one look: what to remember, and in words what was done, and what could not be."""

    seen: Seen
    done: list[str]
    failed: list[str]


def reap(
    jobs: Jobs,
    lake: Lake,
    runs: Callable[[Set[str]], Mapping[str, RunState]],
    seen: Seen,
    wish: Wish = Wish.STOP,
    now: float | None = None,
) -> Look:
    """Looks at all Jobs of the lake's crawls once.

    What fails for one Job, or is too much for one look, is left to the next.

    Args:
        runs: the states of the runs with these ids; it leaves out those that are unknown.
        wish: what a cancelled run asks of its crawl: to stop, or to pause.
        now: POSIX seconds.

    Raises:
        ClusterError: the Jobs cannot be listed.
    """
    found = [job for job in jobs.all(lake.uri) if crawl_of(job)]
    states = runs({run_of(job) for job in found})
    reaper = _Reaper(jobs, lake, wish, seen, time.time() if now is None else now)
    work: list[Callable[[], None]] = []
    for job in found:
        state = states.get(run_of(job), RunState.UNKNOWN)
        reaper.remember(job, state)
        if state is not RunState.ACTIVE and job.metadata.deletion_timestamp is None:
            work.append(partial(reaper.look_at, job, state))
    work += [partial(reaper.mark, key) for key in reaper.vanished(found)]
    reaper.do(work)
    return Look(seen=reaper.next, done=reaper.done, failed=reaper.failed)


def _key(job: "V1Job") -> str:
    crawl = crawl_of(job)
    assert crawl
    return f"{crawl.id}/{ordinal_of(job)}"


def _of_key(key: str) -> tuple[Crawl, int]:
    source, _, rest = key.partition("/")
    partition, generation, ordinal = rest.rsplit("/", 2)
    return Crawl(source, partition, int(generation)), int(ordinal)


class _Reaper:
    def __init__(self, jobs: Jobs, lake: Lake, wish: Wish, seen: Seen, now: float) -> None:
        self._jobs, self._lake, self._wish, self._seen, self._now = jobs, lake, wish, seen, now
        self.next = Seen(at=now)
        self.done: list[str] = []
        self.failed: list[str] = []

    def remember(self, job: "V1Job", state: RunState) -> None:
        if is_finished(job):
            return
        key = _key(job)
        self.next.active[key] = state is not RunState.UNKNOWN or self._seen.active.get(key, False)
        if state is not RunState.ACTIVE and (orphan := self._seen.orphans.get(key)):
            self.next.orphans[key] = orphan

    def vanished(self, found: "Sequence[V1Job]") -> list[str]:
        """The Jobs of the last look that are gone; they are remembered until they are marked, or explained."""
        there = {_key(job) for job in found}
        gone = {key: known for key, known in self._seen.active.items() if key not in there}
        self.next.active |= gone
        return list(gone)

    def do(self, work: list[Callable[[], None]]) -> None:
        """Each by itself: what fails for one is no reason not to look at the others."""
        until = time.monotonic() + LOOK_SECONDS
        random.shuffle(work)  # where one look cannot do all, each has its turn
        for number, act in enumerate(work):
            if time.monotonic() > until:
                self.failed.append(f"{len(work) - number} of {len(work)} are left to the next look: this one took long")
                return
            try:
                act()
            except ClusterAwayError as error:
                self.failed.append(f"the rest is left to the next look: {error}")
                return
            except (ClusterError, LakeError) as error:
                self.failed.append(str(error))

    # -- Jobs of runs that are over -----------------------------------------------------------------------------------

    def look_at(self, job: "V1Job", state: RunState) -> None:
        """A Job whose run is not active any more; another run may follow it."""
        crawl = crawl_of(job)
        assert crawl
        if is_finished(job):
            self._clear(job, crawl, state)
        else:
            self._look_after(job, crawl, state)

    def _clear(self, job: "V1Job", crawl: Crawl, state: RunState) -> None:
        """Removes a finished Job once nobody can be about to read it, but for one in which people may look for a fault.

        That one Kubernetes removes (`keep_finished`).
        """
        death = causes.death_of_job(job, [])
        is_fault = death is not None and death.exit_code != PAUSED
        if (
            is_fault
            and _key(job) in self._seen.orphans
            and not self._waiting(crawl)
            and not life.is_over(self._lake, crawl)
        ):
            self._note(crawl, causes.death_of_job(job, self._pods[job.metadata.name]))
        if self._now - _finished_at(job) < FINISHED_SECONDS or (is_fault and state is RunState.ENDED):
            return
        self._remove(job, "it is finished, and so is its run")

    def _look_after(self, job: "V1Job", crawl: Crawl, state: RunState) -> None:
        """Ends the crawl of an active Job that nobody follows."""
        key = _key(job)
        waiting = self._waiting(crawl)
        # The process of a run that was deleted goes on, and follows the crawl.
        is_deleted = state is RunState.UNKNOWN and self._seen.active.get(key, False)
        if waiting - ({run_of(job)} if is_deleted else set()):
            self.next.orphans.pop(key, None)
            return
        orphan = self.next.orphans.setdefault(key, Orphan(since=self._now))
        if self._is_over(crawl):
            orphan.over = orphan.over or self._now
            if self._now - orphan.over > FINISHED_SECONDS and not waiting:
                self._remove(job, "its crawl is over")
            return
        if state is RunState.CANCELLED:
            self._ask(crawl, orphan, self._wish, life.CANCELLED)
        elif is_deleted:
            self._ask(crawl, orphan, self._wish, _DELETED)
        elif self._now - orphan.since >= ORPHAN_SECONDS:
            self._ask(crawl, orphan, Wish.PAUSE, "its run ended without it, and no other came")
            if self._waiting(crawl):  # one came just now
                life.wake(self._lake, crawl, by=_BY)
                self.next.orphans.pop(key, None)
                return
        if not waiting:
            self._end(job, crawl, orphan)

    def _ask(self, crawl: Crawl, orphan: Orphan, wish: Wish, why: str) -> None:
        held = identity.read_control(self._lake, crawl)
        if held is None or held.wish not in (Wish.STOP, wish):
            life.ask(self._lake, crawl, wish, by=_BY, why=why)
            self.done.append(f"{crawl.id} is asked to {wish}: {why}")
            orphan.asked = self._now
        orphan.asked = orphan.asked or self._now

    def _end(self, job: "V1Job", crawl: Crawl, orphan: Orphan) -> None:
        """Removes a Job that does not end by itself: lost with its node, never started, or deaf to what was asked."""
        pods = self._pods[job.metadata.name]
        said = read_progress(self._lake, crawl.source, crawl.key)
        silence = abs(self._now - said.told_at) if said and said.generation == crawl.generation else math.inf
        if silence > LOST_SECONDS and pods and causes.goes_with_its_node(pods[-1]):
            self._note(crawl, causes.lost(pods[-1]))
            self._remove(job, f"its pod {pods[-1].metadata.name} went with its node")
        elif orphan.asked is None:
            return
        elif not any(causes.has_started(pod) for pod in pods):
            self._remove(job, "its crawl was asked to end before it began")
        elif self._now - orphan.asked > END_SECONDS:
            writes_its_rows = said and said.state == COMMITTING and silence < identity.SILENCE_SECONDS
            if not writes_its_rows:
                self._remove(job, "its crawl was asked to end, and did not")

    # -- Jobs that were deleted ---------------------------------------------------------------------------------------

    def mark(self, key: str) -> None:
        """Notes with its crawl that a Job was deleted before it was over, unless that is explained otherwise.

        A run that follows it has made the next one, or said why it removed it.
        """
        crawl, ordinal = _of_key(key)
        if not self._is_explained(crawl, ordinal):
            if life.is_live(self._lake, crawl):  # its pod has not ended yet, or nobody can know that it has
                return
            name = job_name(crawl, ordinal, self._lake.uri)
            # With the launch: another Job may have got the name of one that is gone.
            death = f"{name}-{identity.newest_launch(self._lake, crawl)}"
            words = f"its Job {name} was deleted, and nobody followed it. {deaths.KEPT}"
            self._note(crawl, deaths.RemovedError(words, id=death))
        del self.next.active[key]

    def _is_explained(self, crawl: Crawl, ordinal: int) -> bool:
        """Whether it is plain why a Job of this crawl is not there any more, or nothing is to be told of it."""
        if self._is_over(crawl) or self._waiting(crawl):
            return True
        control = identity.read_control(self._lake, crawl)
        if control and control.wish is not Wish.RESUME:
            return True
        said = read_progress(self._lake, crawl.source, crawl.key)
        if said and said.generation == crawl.generation and said.state in (CrawlState.PAUSED, CrawlState.FAILED):
            return True
        if any(death.at > self._seen.at - _SKEW_SECONDS for death in deaths.noted(self._lake, crawl)):
            return True
        # The list of all Jobs may have been a moment behind.
        return any(
            not is_finished(job) or ordinal_of(job) == ordinal for job in self._jobs.of_crawl(crawl, self._lake.uri)
        )

    # -- what both need -----------------------------------------------------------------------------------------------

    def _waiting(self, crawl: Crawl) -> set[str]:
        return identity.attached(self._lake, crawl)

    def _is_over(self, crawl: Crawl) -> bool:
        """Whether nothing is to be done for it any more: a newer crawl of the partition has taken its place, too."""
        newer = Crawl(crawl.source, crawl.key, crawl.generation + 1)
        return life.is_over(self._lake, crawl) or identity.read_worker(self._lake, newer, 0) is not None

    @cached_property
    def _pods(self) -> "Mapping[str, Sequence[V1Pod]]":
        """The pods of each Job, the oldest first; listed once, and only where somebody asks."""
        found: dict[str, list[V1Pod]] = defaultdict(list)
        for pod in sorted(self._jobs.all_pods(self._lake.uri), key=lambda pod: pod.metadata.creation_timestamp):
            found[pod.metadata.labels.get("batch.kubernetes.io/job-name", "")].append(pod)
        return found

    def _note(self, crawl: Crawl, death: deaths.CrawlProcessError | None) -> None:
        if death:
            deaths.note(self._lake, crawl, death)
            self.done.append(f"{crawl.id}: {death.cause}: {death.words}")

    def _remove(self, job: "V1Job", why: str) -> None:
        name = job.metadata.name
        self._jobs.delete(name, uid=job.metadata.uid)
        self.done.append(f"Job {name} is removed: {why}")
        if is_finished(job):
            return
        for pod in self._pods[name]:
            if causes.goes_with_its_node(pod):  # nobody else would ever remove it
                self._jobs.force_delete_pod(pod.metadata.name, uid=pod.metadata.uid)


def _finished_at(job: "V1Job") -> float:
    """By the cluster's clock."""
    final = (c for c in (job.status and job.status.conditions) or () if c.type in ("Complete", "Failed"))
    return max((c.last_transition_time.timestamp() for c in final if c.last_transition_time), default=0.0)
