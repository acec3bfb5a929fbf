"""A cluster as the host of a crawl: its Job is found or made, followed to its end, and given up or cleared away.

Whatever ends a pod, the step has the next Job made at once; a Job replaces a pod by itself only where nobody follows
it, and takes its time over that (Kubernetes's back-off: 10 s, 20 s, 40 s ...). What a Job looks like is the launcher's
(`resources.kubernetes`), what is seen of Jobs and pods is put into words by `causes`, the calls themselves are
`jobs`'s.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from kubernetes.client import V1Job, V1Pod
from kubernetes.utils.quantity import parse_quantity

from gossamer.cluster import causes
from gossamer.cluster.jobs import ClusterAwayError, ClusterError, Jobs, is_finished, memory_of, ordinal_of
from gossamer.cluster.logs import PodLog
from gossamer.crawl import deaths
from gossamer.crawl.deaths import CrawlProcessError, Death
from gossamer.crawl.host import Order
from gossamer.crawl.identity import Crawl, Worker
from gossamer.crawl.process import PAUSED

_log = logging.getLogger(__name__)

#: Makes the Job of an order: its ordinal, and the memory that it may use.
Build = Callable[[Order, int, str], V1Job]

POLL_SECONDS = 2.0
#: How long the cluster's API may be away before the step gives up; the crawl itself does not need it.
AWAY_SECONDS = 1800.0
#: How long a crawl that was asked to end may take to, before its Job is removed all the same.
CANCEL_SECONDS = 20.0
#: A pod that is to go with its node, and whose crawl was not heard of for so long, went with it.
LOST_SECONDS = 8.0
#: A Job that is gone was removed by another run, which notes why and makes the next one, if that comes within so long.
GONE_SECONDS = 10.0


@dataclass
class KubernetesHost:
    """A namespace of a cluster.

    Attributes:
        lake: into which its crawls write; Jobs of others are not looked at.
        memory: the steps of memory that the source may use, at least one.
        start_within: seconds in which a pod must start.
        output: where the pods' logs go.
    """

    jobs: Jobs
    lake: str
    build: Build
    memory: Sequence[str]
    start_within: float
    output: IO[str]
    _ended: set[str] = field(default_factory=set, init=False)  # names of pods

    def has_process(self, crawl: Crawl) -> bool:
        """Whether a Job of the crawl is active; False too where the cluster cannot be asked now."""
        try:
            return any(_is_active(job) for job in self.jobs.of_crawl(crawl, self.lake))
        except ClusterAwayError:
            return False

    def has_ended(self, worker: Worker) -> bool:
        """As `Host.has_ended` says: a process calls its machine by the name of its pod."""
        return worker.host in self._ended

    def saw_end(self, pod: V1Pod) -> None:
        """This pod is over, or gone for good."""
        self._ended.add(pod.metadata.name)

    def work(self, order: Order) -> CrawlProcessError | None:
        """As `Host.work` says."""
        followed = _Followed(self, order)
        try:
            return followed.to_its_end()
        except BaseException as error:
            if not isinstance(error, Exception):
                followed.cancel()
            raise
        finally:
            followed.close_log()

    def next_memory(self, known: Sequence[Death]) -> str:
        """The smallest step that is larger than what did not suffice, or the largest."""
        short = [parse_quantity(death.memory) for death in known if _was_short(death)]
        return next((step for step in self.memory if parse_quantity(step) > max(short, default=0)), self.memory[-1])


def _is_active(job: V1Job) -> bool:
    return not is_finished(job) and job.metadata.deletion_timestamp is None


def _was_short(death: Death) -> bool:
    return death.cause == deaths.OutOfMemoryError.cause and bool(death.memory)


@dataclass(frozen=True)
class _Over:
    """The end of what was followed.

    Attributes:
        death: None where it ended well.
        job: to be removed.
    """

    death: CrawlProcessError | None
    job: V1Job | None = None


@dataclass
class _Followed:
    """One Job that is followed, from finding it to its end.

    Its newest pod says how it ends; an earlier one was replaced while nobody looked.
    """

    host: KubernetesHost
    order: Order
    name: str = ""
    uid: str = ""
    _pod: V1Pod | None = None  # as last seen: an evicted one is gone a moment after its end
    _log: PodLog | None = None
    _logged: str = ""
    _said: str = ""
    _waits_since: float | None = None
    _gone_since: float | None = None
    _away_since: float | None = None
    _noted: set[str] = field(default_factory=set)

    @property
    def jobs(self) -> Jobs:
        return self.host.jobs

    def to_its_end(self) -> CrawlProcessError | None:
        """How the Job ended; None where it ended well."""
        over: _Over | None = None
        while True:
            try:
                over = over or self._look()
                if over and over.job:
                    self._remove(over.job)
                self._away_since = None
                if over:
                    return over.death
            except ClusterAwayError as error:
                self._wait_for_the_cluster(error)
            self._pass(POLL_SECONDS)

    def _pass(self, seconds: float) -> None:
        """Time passes, in which those who watch the crawl are told."""
        until = time.monotonic() + seconds
        self.order.tell()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            self.order.tell()

    def _wait_for_the_cluster(self, error: ClusterAwayError) -> None:
        now = time.monotonic()
        self._waits_since = None  # while it is away, no pod can start
        if self._away_since is None:
            self._away_since = now
            self._say(f"the cluster cannot be asked, and is asked again; the crawl does not need it. {error}")
        elif now - self._away_since > AWAY_SECONDS:
            raise error

    def _look(self) -> _Over | None:
        """How the Job ended, if it is over."""
        if not self.name:
            return self._find()
        pods = self._pods(self.name, self.uid)  # first: of a Job that is removed the pods are gone, too
        job = self.jobs.get(self.name)
        if job is None or job.metadata.deletion_timestamp or job.metadata.uid != self.uid:
            return self._gone()
        self._gone_since = None
        self._follow_log(pods)
        self._note(job, pods[:-1])
        if pods:
            self._pod = pods[-1]
        if causes.is_over(job):
            return self._end(job, causes.death_of_job(job, self._pods(self.name, self.uid) or self._seen()))
        if self._pod is not None and (ended := causes.end_of_pod(self._pod, is_gone=not pods)):
            return self._end(job, ended.death)
        if self._pod is not None and causes.goes_with_its_node(self._pod) and self.order.silence() > LOST_SECONDS:
            return self._end(job, causes.lost(self._pod))
        return self._judge_start(job, pods)

    def _pods(self, job: str, uid: str) -> list[V1Pod]:
        """A Job's pods, the oldest first, without what is left of one that had its name before."""
        found = self.jobs.pods(job)
        return [pod for pod in found if any(owner.uid == uid for owner in pod.metadata.owner_references or ())]

    def _seen(self) -> list[V1Pod]:
        return [self._pod] if self._pod is not None else []

    def _note(self, job: V1Job, pods: Sequence[V1Pod]) -> None:
        """Keeps the deaths of pods that ended while nobody looked: how much memory did not suffice, say."""
        for pod in pods:
            ended = causes.end_of_pod(pod)
            if ended is None or pod.metadata.uid in self._noted:
                continue
            self._noted.add(pod.metadata.uid)
            if ended.death and ended.death.exit_code != PAUSED:
                self.order.note(_with_memory(ended.death, job))

    # -- its beginning ------------------------------------------------------------------------------------------------

    def _find(self) -> _Over | None:
        """Attaches to the crawl's active Job, or makes the next one."""
        known = self.jobs.of_crawl(self.order.crawl, self.host.lake)
        active = next((job for job in reversed(known) if _is_active(job)), None)
        if active is None:
            if known:
                self._note(known[-1], self._pods(known[-1].metadata.name, known[-1].metadata.uid))
            memory = self.host.next_memory(self.order.deaths())
            ordinal = ordinal_of(known[-1]) + 1 if known else 1
            try:
                active = self.jobs.create(self.host.build(self.order, ordinal, memory))
            except CrawlProcessError as refused:  # a quota may still count the Job before
                return self._judge_waiting(refused)
        if active is None:  # another run was faster: the next look finds its Job
            return self._judge_waiting(None)
        self.name, self.uid = active.metadata.name, active.metadata.uid
        return None

    def _judge_start(self, job: V1Job, pods: Sequence[V1Pod]) -> _Over | None:
        """Whether the Job has to be given up because no pod of it starts."""
        if any(causes.has_started(pod) for pod in pods[-1:]):
            self._waits_since = None
            return None
        if self._waited() < POLL_SECONDS:
            return None
        return self._judge_waiting(self._why_it_waits(job, pods), job)

    def _judge_waiting(self, waiting: CrawlProcessError | None, job: V1Job | None = None) -> _Over | None:
        """Whether that what it waits for has to be given up."""
        if waiting is not None:
            self._say(str(waiting))
        is_late = self._waited() > self.host.start_within
        if not is_late and not (waiting and causes.is_hopeless(waiting)):
            return None
        told = waiting or deaths.NeverScheduledError("no pod of it started, and the cluster does not say why.")
        if is_late:
            told.words += f" It was waited for {self.host.start_within:.0f} s."
        return _Over(told, job)

    def _waited(self) -> float:
        """Seconds since it is waited for a pod that starts."""
        now = time.monotonic()
        if self._waits_since is None:
            self._waits_since = now
        return now - self._waits_since

    def _why_it_waits(self, job: V1Job, pods: Sequence[V1Pod]) -> CrawlProcessError | None:
        try:
            events = self.jobs.events(job, pods[-1:])
        except ClusterAwayError:
            raise
        except ClusterError as error:  # a service account that may not read events can still crawl
            _log.debug("Events cannot be read: %s", error)
            events = []
        return causes.waiting_of_pod(pods[-1], events) if pods else causes.waiting_of_job(job, events)

    def _say(self, words: str) -> None:
        """Says it once."""
        if words != self._said:
            self._said = words
            self.order.say(words)

    def _follow_log(self, pods: Sequence[V1Pod]) -> None:
        """Follows the log of the newest pod that runs, or has run."""
        newest = next((pod for pod in reversed(pods) if causes.has_started(pod)), None)
        if newest is not None and newest.metadata.uid != self._logged:
            self.close_log()
            self._logged = newest.metadata.uid
            self._log = PodLog(self.jobs, newest.metadata.name, self.host.output)

    def close_log(self) -> None:
        """Ends the following of a pod's log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    # -- its end ------------------------------------------------------------------------------------------------------

    def _gone(self) -> _Over | None:
        """Of a Job that was deleted: by another run that goes on with the next one, or by somebody."""
        now = time.monotonic()
        if any(_is_active(job) for job in self.jobs.of_crawl(self.order.crawl, self.host.lake)):
            self.name, self._pod, self._waits_since, self._gone_since = "", None, None, None
            return None
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < GONE_SECONDS:
            return None
        return _Over(deaths.RemovedError(f"its Job {self.name} was deleted. {deaths.KEPT}", id=self.uid))

    def _end(self, job: V1Job, death: CrawlProcessError | None) -> _Over:
        """How it ended. The Job is kept only for people who look for a fault; the next one need not wait for it."""
        for pod in self._seen():
            self.host.saw_end(pod)
        if isinstance(death, deaths.OutOfMemoryError):
            death = _with_memory(death, job)
            known = [*self.order.deaths(), Death(cause=death.cause, words="", memory=death.memory)]
            death.passes = parse_quantity(self.host.next_memory(known)) > parse_quantity(death.memory)
        would_go_on = not causes.is_over(job) and self._pod is not None and causes.is_disrupted(self._pod)
        is_kept = death is not None and not death.passes and death.exit_code != PAUSED and not would_go_on
        return _Over(death, None if is_kept else job)

    def _remove(self, job: V1Job) -> None:
        self.jobs.delete(job.metadata.name, uid=job.metadata.uid)
        if self._pod is not None and causes.goes_with_its_node(self._pod):  # nobody else would ever remove it
            self.jobs.force_delete_pod(self._pod.metadata.name, uid=self._pod.metadata.uid)

    def cancel(self) -> None:
        """The step was cancelled, or is only told to end: then the Job goes on without it."""
        if not self.order.cancel():
            return
        deadline = time.monotonic() + CANCEL_SECONDS
        with contextlib.suppress(ClusterError):  # the reaper does what cannot be done now
            for job in self.jobs.of_crawl(self.order.crawl, self.host.lake):  # one may have been made a moment ago
                self._wait_and_remove(job, deadline)

    def _wait_and_remove(self, job: V1Job, deadline: float) -> None:
        while time.monotonic() < deadline:
            pods = self._pods(job.metadata.name, job.metadata.uid)
            if not any(causes.has_started(pod) and not causes.end_of_pod(pod) for pod in pods):
                break  # it has nothing to end any more, or nothing yet
            time.sleep(0.5)
        self._remove(job)


def _with_memory(death: CrawlProcessError, job: V1Job) -> CrawlProcessError:
    """Of one that ran out of memory, how much it had, as it was declared."""
    if isinstance(death, deaths.OutOfMemoryError):
        death.memory = memory_of(job) or death.memory
    return death
