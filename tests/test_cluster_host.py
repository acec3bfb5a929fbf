"""A crawl's Job followed by a step: the real host, launcher and step, before a server that plays the cluster's API.

What pods, Jobs and events look like was recorded on a real cluster (`cluster_records`). What a crawl does in its pod is
played by the test, in a real lake.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from gossamer import declarations
from gossamer.cluster import causes, host, jobs, logs
from gossamer.crawl import deaths, identity, life, process, step
from gossamer.crawl.deaths import CrawlProcessError
from gossamer.crawl.life import Crawl, Wish
from gossamer.crawl.progress import Progress, progress_path
from gossamer.crawl.step import CrawlPausedError, run_crawl
from gossamer.errors import LakeAwayError, LakeError
from gossamer.lake import Lake, stage
from gossamer.manifest import Manifest
from gossamer.settings import PROJECT
from resources.kubernetes import KubernetesLauncher
from tests.cluster_api import NAMESPACE, declare
from tests.house import KEY, PAGES, House

RECORDS = Path(__file__).parent / "cluster_records"
CRAWL = Crawl("s", KEY, 1)
#: What becomes of a Job that was created, by its name.
Fate = Callable[[str], object]


def record(name: str) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads((RECORDS / f"{name}.json").read_text())
    return plain


# -- the cluster ------------------------------------------------------------------------------------------------------


@dataclass
class Fake:
    """A cluster's API, and what it holds.

    Attributes:
        created: the Jobs that were created, as they were sent.
        fates: of the Jobs that are created, one after another; the last holds for all that follow.
        refusals: records of refusals, with which the next requests to create a Job are answered.
        is_away: it answers nothing useful.
        loses_answers: what is deleted is deleted, but the answer does not come.
    """

    url: str
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    before_create: Callable[[dict[str, Any]], object] = lambda job: None
    is_away: bool = False
    loses_answers: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # what happens in it

    def add(self, job: dict[str, Any]) -> str:
        """A Job that has no pod yet."""
        with self.lock:
            name = str(job["metadata"]["name"])
            metadata = {**job["metadata"], "uid": f"uid-{next(self._numbers)}", "creationTimestamp": self._now()}
            self.jobs[name] = {**job, "metadata": metadata, "status": {}}
            return name

    def pod(self, job: str, like: str, number: int = 0) -> str:
        """A pod of the Job as one that was recorded."""
        with self.lock:
            plain = record(like)["pods"][number]
            name, uid = f"{job}-{next(self._numbers)}", f"uid-{next(self._numbers)}"
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": self.jobs[job]["metadata"]["uid"]}
            plain["metadata"] |= {
                "name": name,
                "uid": uid,
                "labels": {"batch.kubernetes.io/job-name": job},
                "ownerReferences": [{**owner, "controller": True}],
                "creationTimestamp": self._now(),
            }
            self.pods[name] = plain
            self._tell(like, "Pod", uid)
            return name

    def change(self, pod: str, like: str) -> None:
        """The pod comes to a state that was recorded."""
        with self.lock:
            now = record(like)["pods"][0]
            deletion = {k: v for k, v in now["metadata"].items() if k.startswith("deletion")}
            self.pods[pod] |= {"metadata": {**self.pods[pod]["metadata"], **deletion}, "status": now["status"]}

    def end(self, job: str, like: str) -> None:
        """The Job comes to a state that was recorded."""
        with self.lock:
            self.jobs[job]["status"] = record(like)["job"]["status"]
            self._tell(like, "Job", self.jobs[job]["metadata"]["uid"])

    def remove(self, job: str, *, leaves_pods: bool = False) -> None:
        with self.lock:
            self.jobs.pop(job)
            self.deleted.append(job)
            if not leaves_pods:
                self.pods = {name: pod for name, pod in self.pods.items() if not name.startswith(f"{job}-")}

    def _tell(self, like: str, kind: str, uid: str) -> None:
        events = (event for event in record(like)["events"] if event["involvedObject"]["kind"] == kind)
        self.events += [{**event, "involvedObject": {**event["involvedObject"], "uid": uid}} for event in events]

    def _now(self) -> str:
        """Later than what was before."""
        return (datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=next(self._numbers))).isoformat()

    # its API

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, Any]:
        with self.lock:
            if self.is_away:
                return 503, {"kind": "Status", "message": "the API server is not here", "code": 503}
            parts = urlsplit(url)
            kind, _, name = parts.path.partition(f"/namespaces/{NAMESPACE}/")[2].partition("/")
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            if method == "POST":
                return self._create(json.loads(body))
            if method == "DELETE":
                return self._delete(kind, name, json.loads(body or b"{}"))
            if kind == "events":
                uid = query["fieldSelector"].partition("=")[2]
                return 200, {"items": [event for event in self.events if event["involvedObject"]["uid"] == uid]}
            held = self.jobs if kind == "jobs" else self.pods
            if name:
                found = held.get(name)  # a log: there is none
                return (200, found) if found else (404, {"kind": "Status", "message": f"{name} not found"})
            wanted = dict(pair.split("=") for pair in query["labelSelector"].split(","))
            return 200, {"items": [one for one in held.values() if wanted.items() <= one["metadata"]["labels"].items()]}

    def _create(self, job: dict[str, Any]) -> tuple[int, Any]:
        if self.refusals:
            refusal = record(self.refusals.pop(0))
            return refusal["status"], refusal["body"]
        self.before_create(job)
        if job["metadata"]["name"] in self.jobs:
            return 409, {"kind": "Status", "message": "it already exists", "reason": "AlreadyExists", "code": 409}
        self.created.append(job)
        name = self.add(job)
        made = self.jobs[name]
        (self.fates.pop(0) if len(self.fates) > 1 else self.fates[0])(name)
        return 201, made

    def _delete(self, kind: str, name: str, options: dict[str, Any]) -> tuple[int, Any]:
        held = self.jobs if kind == "jobs" else self.pods
        uid = (options.get("preconditions") or {}).get("uid")
        if name not in held or uid not in (None, held[name]["metadata"]["uid"]):
            return 404 if name not in held else 409, {"kind": "Status", "message": "no"}
        if kind == "jobs":
            self.remove(name)
        else:
            del self.pods[name]
        if self.loses_answers:
            self.loses_answers = False
            return 504, {"kind": "Status", "message": "too late", "code": 504}
        return 200, {"kind": "Status", "status": "Success"}


@pytest.fixture
def fake() -> Iterator[Fake]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = cluster.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    cluster = Fake(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield cluster
    server.shutdown()
    thread.join()
    server.server_close()


# -- the installation -------------------------------------------------------------------------------------------------


@dataclass
class Installation:
    """A lake, a source and a cluster; steps that have the source crawled there."""

    house: House
    fake: Fake
    file: Path
    said: list[str] = field(default_factory=list)

    @property
    def lake(self) -> Lake:
        return self.house.lake

    def declare(self, **workers: Any) -> None:
        self.house.declare(PAGES, seeds={"urls": ["http://127.0.0.1:9/"]}, workers=workers)

    def crawled(self, run: str = "run-1", **options: Any) -> Manifest:
        """One step."""
        settings = self.house.settings
        source = declarations.load(settings.sources)["s"]
        launcher = KubernetesLauncher(sources=str(settings.sources), lake=settings.lake, kubernetes=str(self.file))
        where = launcher.host(settings, source)
        return run_crawl(
            settings, source, KEY, run_id=run, **{"host": where, "on_trouble": self.said.append, **options}
        )

    # what a crawl's process does

    def runs(self, job: str) -> str:
        """It begins to work."""
        pod = self.fake.pod(job, "evicted-api-terminating")
        self.fake.pods[pod]["metadata"].pop("deletionTimestamp")
        self.fake.pods[pod]["status"]["conditions"] = []
        self.launch(pod)
        self.say()
        return pod

    def launch(self, pod: str) -> None:
        """The process in this pod claims the next launch."""
        number = life.newest_launch(self.lake, CRAWL) + 1
        worker = identity.Worker(pid=1, host=pod, pids="of the pod", born="1", started_at=time.time())
        self.lake.put(f"{CRAWL.folder}/launches/{number:06}.json", worker.model_dump_json().encode())

    def say(self, state: str = "running", pages: int = 0, ahead: float = 0.0) -> None:
        """What the newest launch tells."""
        launch = life.newest_launch(self.lake, CRAWL)
        said = Progress(generation=1, launch=launch, told_at=time.time() + ahead, pages=pages, state=state)
        self.lake.put(progress_path("s", KEY), said.model_dump_json().encode())

    def completes(self, job: str) -> None:
        """It comes to its end, and so does its Job."""
        with self.fake.lock:
            self.launch(self.fake.pod(job, "exit-0"))
            self.commit()
            self.fake.end(job, "exit-0")

    def commit(self) -> None:
        """The crawl is over."""
        notes = {"books": {"generation": 1, "state": "complete"}}
        with stage(pl.DataFrame({"n": [1]})) as staged:
            self.lake.commit("raw", "s", KEY, staged, notes=notes, crawl_id=CRAWL.id)
        self.say("complete")

    def dies(self, like: str) -> Fate:
        """It ends as one that was recorded, after some work; one that was killed says nothing of it."""

        def fate(job: str) -> None:
            self.launch(self.fake.pod(job, like))
            self.say({"exit-75": "interrupted", "exit-76": "paused", "exit-1": "failed"}.get(like, "running"))

        return fate

    # what a test asks

    def causes(self) -> list[str]:
        return [death.cause for death in deaths.noted(self.lake, CRAWL)]

    def memories(self) -> list[str]:
        containers = [job["spec"]["template"]["spec"]["containers"][0] for job in self.fake.created]
        return [container["resources"]["limits"]["memory"] for container in containers]


@pytest.fixture
def there(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setattr(host, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(host, "GONE_SECONDS", 0.5)
    monkeypatch.setattr(host, "CANCEL_SECONDS", 1.0)
    monkeypatch.setattr(host, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(logs, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(step, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(step, "_ATTACH_SECONDS", 0.1)
    made = Installation(House(tmp_path), fake, declare(tmp_path, fake))  # type: ignore[arg-type]
    made.declare()
    fake.fates = [made.completes]
    return made


@contextlib.contextmanager
def stepping(there: Installation, *runs: str, **options: Any) -> Iterator[list["Future[Manifest]"]]:
    """Steps in threads of their own."""
    with ThreadPoolExecutor() as pool:
        yield [pool.submit(there.crawled, run, **options) for run in runs]


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


class Cancelled(BaseException):
    """As Dagster raises it in a step."""


# -- which Job --------------------------------------------------------------------------------------------------------


def test_a_crawl_is_a_job_that_is_removed_when_it_is_over(there: Installation) -> None:
    assert there.crawled().generation == 1
    [job] = there.fake.created
    assert there.fake.deleted == [job["metadata"]["name"]] and there.fake.pods == {}
    assert there.causes() == [] and not list(there.lake.paths(f"{CRAWL.folder}/attached/"))
    assert there.crawled(root_run="run-1").generation == 1 and len(there.fake.created) == 1


def test_two_runs_at_once_yield_one_crawl_and_one_job(there: Installation) -> None:
    there.fake.fates = [there.runs]
    with stepping(there, "run-1", "run-2", "run-3") as runs:
        wait_for(lambda: identity.attached(there.lake, CRAWL) == {"run-1", "run-2", "run-3"})
        wait_for(lambda: len(there.fake.created) == 1)
        there.commit()
        [pod] = there.fake.pods
        there.fake.change(pod, "exit-0")
        assert len({run.result(30).version for run in runs}) == 1
    assert len(there.fake.created) == 1 and there.fake.jobs == {} and there.causes() == []


def test_a_job_that_another_run_made_a_moment_before_is_followed(there: Installation) -> None:
    pods: list[str] = []
    there.fake.before_create = lambda job: pods.append(there.runs(there.fake.add(job)))
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(pods))
        there.commit()
        there.fake.change(pods[0], "exit-0")
        assert run.result(30).generation == 1
    assert there.fake.created == [] and len(pods) == 1


def test_a_step_that_is_repeated_follows_the_job_that_is_there(there: Installation) -> None:
    there.fake.fates = [there.runs]
    with stepping(there, "run-1", is_cancelled=lambda: False, on_progress=_raise) as [run], pytest.raises(Cancelled):
        run.result(30)
    assert len(there.fake.jobs) == 1, "a step that is only told to end leaves the Job to the next one"
    assert life.read_control(there.lake, CRAWL) is None
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: identity.attached(there.lake, CRAWL) == {"run-1"})
        there.commit()
        [pod] = there.fake.pods
        there.fake.change(pod, "exit-0")
        run.result(30)
    assert len(there.fake.created) == 1


def _raise(said: Progress) -> None:
    raise Cancelled


def test_a_job_that_another_run_replaced_is_left_for_its_successor_whatever_that_is_called(there: Installation) -> None:
    there.fake.fates = [there.runs]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(there.fake.pods))
        time.sleep(0.2)  # it is looked at
        with there.fake.lock:  # the next Job has the same name, and no pod yet
            [name] = there.fake.jobs
            there.fake.remove(name)
            there.fake.add(there.fake.created[0])
        time.sleep(0.3)
        there.fake.deleted.clear()
        with there.fake.lock:
            there.completes(name)
        run.result(30)
    assert len(there.fake.created) == 1 and there.causes() == []


def test_a_pod_that_is_left_of_a_job_of_the_same_name_says_nothing_about_the_new_one(there: Installation) -> None:
    def leaves_its_pod(job: str) -> None:
        there.dies("killed")(job)
        left.update(there.fake.pods)

    left: dict[str, Any] = {}

    def completes_later(job: str) -> None:
        there.fake.pods.update(left)  # the cluster takes its time over removing it
        threading.Timer(0.4, lambda: there.completes(job)).start()

    there.fake.fates = [leaves_its_pod, completes_later]
    assert there.crawled().generation == 1
    assert len(there.fake.created) == 2 and there.causes() == ["killed"]


def test_the_newest_pod_counts_and_how_the_others_ended_is_noted(there: Installation) -> None:
    def replaced(job: str) -> None:
        there.fake.pod(job, "exit-75")
        pods.append(there.runs(job))

    pods: list[str] = []
    there.fake.fates = [replaced]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: there.causes() == ["interrupted"])
        there.commit()
        there.fake.change(pods[0], "exit-0")
        run.result(30)
    assert len(there.fake.created) == 1 and there.causes() == ["interrupted"]


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("like", "cause"),
    [("exit-75", "interrupted"), ("evicted-api", "evicted"), ("preempted", "preempted"), ("killed", "killed")],
)
def test_a_crawl_whose_pod_went_goes_on_in_the_next_job_at_once(there: Installation, like: str, cause: str) -> None:
    there.fake.fates = [there.dies(like), there.completes]
    began = time.monotonic()
    assert there.crawled().generation == 1
    assert time.monotonic() - began < identity.SILENCE_SECONDS, "its death was seen, and need not be heard"
    assert len(there.fake.created) == 2 and there.fake.jobs == {} and there.causes() == [cause]
    assert any("It is started again." in said for said in there.said)


def test_a_pod_that_is_gone_between_two_looks_is_judged_as_it_was_last_seen(there: Installation) -> None:
    pods: list[str] = []
    there.fake.fates = [lambda job: pods.append(there.runs(job)), there.completes]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(pods))
        there.fake.change(pods[0], "evicted-api-terminating")
        time.sleep(0.3)
        with there.fake.lock:
            del there.fake.pods[pods[0]]
        run.result(30)
    assert there.causes() == ["evicted"] and len(there.fake.created) == 2


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
def test_a_pod_that_went_with_its_node_is_given_up_whatever_the_nodes_clock_said(
    there: Installation, ahead: float
) -> None:
    pods: list[str] = []
    there.fake.fates = [lambda job: pods.append(there.runs(job)), there.completes]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(pods))
        there.say(pages=1, ahead=ahead)
        there.fake.change(pods[0], "node-lost")
        run.result(30)
    assert there.causes() == ["node lost"] and len(there.fake.created) == 2


def test_a_fault_fails_the_step_in_its_own_words_and_its_job_is_kept_for_people(there: Installation) -> None:
    there.fake.fates = [there.dies("exit-1"), there.completes]
    with pytest.raises(CrawlProcessError) as raised:
        there.crawled()
    assert (raised.value.cause, raised.value.exit_code) == ("failed", 1) and "node-" in raised.value.place
    [first] = there.fake.jobs
    there.fake.end(first, "exit-1")
    assert there.crawled("run-2").generation == 1
    assert [job["metadata"]["labels"]["gossamer.io/ordinal"] for job in there.fake.created] == ["1", "2"]
    assert list(there.fake.jobs) == [first] and there.causes() == ["failed"]


def test_a_job_that_completes_without_a_result_is_a_failure(there: Installation) -> None:
    there.fake.fates = [there.dies("exit-0")]
    with pytest.raises(deaths.NoResultError, match="ended without a result"):
        there.crawled()
    assert there.causes() == ["no result"]


def test_a_crawl_that_ran_out_of_memory_gets_the_next_step_and_then_fails(there: Installation) -> None:
    there.declare(memory=["512Mi", "1Gi"])
    there.fake.fates = [there.dies("oom")]
    with pytest.raises(deaths.OutOfMemoryError, match="out of memory"):
        there.crawled()
    assert there.memories() == ["512Mi", "1Gi"]
    assert [(death.cause, death.memory) for death in deaths.noted(there.lake, CRAWL)] == [
        ("out of memory", "512Mi"),
        ("out of memory", "1Gi"),
    ]


def test_memory_that_did_not_suffice_while_nobody_followed_is_not_tried_again(there: Installation) -> None:
    there.declare(memory=["512Mi", "1Gi"])
    there.fake.fates = [there.runs]
    with stepping(there, "run-1", is_cancelled=lambda: False, on_progress=_raise) as [run], pytest.raises(Cancelled):
        run.result(30)
    [(pod, _)], [job] = there.fake.pods.items(), there.fake.jobs
    there.fake.change(pod, "oom")
    there.fake.end(job, "oom")
    there.say("failed")
    there.fake.fates = [there.completes]
    there.crawled()
    assert there.memories() == ["512Mi", "1Gi"] and there.causes() == ["out of memory"]


def test_what_is_known_of_an_end_is_not_lost_with_the_answer_of_the_api(there: Installation) -> None:
    there.declare(memory=["512Mi", "1Gi"])
    there.fake.fates = [there.dies("oom"), there.completes]
    there.fake.loses_answers = True
    there.crawled()
    assert there.memories() == ["512Mi", "1Gi"] and there.causes() == ["out of memory"]


def test_only_a_crawl_that_does_not_get_on_is_given_up(there: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "RELAUNCHES", 1)

    def gets_on(job: str) -> None:
        pod = there.runs(job)
        there.say(pages=len(there.fake.created))
        threading.Timer(0.3, lambda: there.fake.change(pod, "killed")).start()

    there.fake.fates = [gets_on] * 4 + [there.dies("killed")]
    with pytest.raises(deaths.KilledError, match="It was started 2 times"):
        there.crawled()
    assert len(there.fake.created) == 5


# -- pauses and cancelled runs ----------------------------------------------------------------------------------------


def test_a_paused_crawl_leaves_no_job(there: Installation) -> None:
    def pauses(job: str) -> None:
        life.ask(there.lake, CRAWL, Wish.PAUSE, by="ann")
        there.dies("exit-76")(job)
        there.fake.end(job, "exit-76")

    there.fake.fates = [pauses, there.completes]
    with pytest.raises(CrawlPausedError, match="paused by ann"):
        there.crawled()
    assert there.fake.jobs == {} and there.causes() == []
    assert there.crawled().generation == 1


def test_a_run_that_finds_the_job_of_a_paused_crawl_removed_says_paused_and_not_removed(there: Installation) -> None:
    there.fake.fates = [there.runs]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(there.fake.pods))
        time.sleep(0.2)
        life.ask(there.lake, CRAWL, Wish.PAUSE, by="ann")
        [job] = there.fake.jobs
        there.fake.remove(job)  # another run was faster
        with pytest.raises(CrawlPausedError, match="paused by ann"):
            run.result(30)
    assert there.causes() == [] and not any("started again" in said for said in there.said)


def test_a_job_that_somebody_deleted_is_made_again(there: Installation) -> None:
    there.fake.fates = [there.runs, there.completes]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(there.fake.pods))
        [job] = there.fake.jobs
        there.fake.remove(job)
        there.say("interrupted")
        run.result(30)
    assert there.causes() == ["removed"] and len(there.fake.created) == 2


def test_cancelling_the_only_run_stops_its_crawl_and_leaves_nothing(there: Installation) -> None:
    pods: list[str] = []
    there.fake.fates = [lambda job: pods.append(there.runs(job))]
    with stepping(there, "run-1", on_progress=_raise) as [run]:
        wait_for(lambda: (c := life.read_control(there.lake, CRAWL)) is not None and c.wish is Wish.STOP)
        assert there.fake.jobs, "it has some time to end"
        there.fake.change(pods[0], "exit-0")
        with pytest.raises(Cancelled):
            run.result(30)
    assert there.fake.jobs == {} and there.fake.pods == {}


def test_cancelling_a_run_whose_pod_has_not_started_removes_its_job_at_once(
    there: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CANCEL_SECONDS", 60.0)
    there.fake.fates = [lambda job: there.fake.pod(job, "big-memory")]

    def cancelled(words: str) -> None:
        raise Cancelled

    began = time.monotonic()
    with pytest.raises(Cancelled):
        there.crawled(on_trouble=cancelled, on_cancel=Wish.PAUSE)
    assert there.fake.jobs == {} and time.monotonic() - began < 20
    control = life.read_control(there.lake, CRAWL)
    assert control and (control.wish, control.why) == (Wish.PAUSE, life.CANCELLED)


def test_a_job_that_was_made_the_moment_the_run_was_cancelled_is_removed_too(
    there: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.fake.fates = [lambda job: there.fake.pod(job, "big-memory")]
    create = jobs.Jobs.create

    def interrupted(api: Any, job: Any) -> Any:
        create(api, job)
        raise Cancelled

    monkeypatch.setattr(jobs.Jobs, "create", interrupted)
    with pytest.raises(Cancelled):
        there.crawled()
    assert len(there.fake.created) == 1 and there.fake.jobs == {}


# -- what does not start ----------------------------------------------------------------------------------------------


def test_what_no_node_has_room_for_is_said_soon_and_given_up_in_time(there: Installation) -> None:
    there.declare(start_within="1s")
    there.fake.fates = [lambda job: there.fake.pod(job, "big-memory")]
    with pytest.raises(deaths.NeverScheduledError, match=r"Insufficient memory.*waited for 1 s"):
        there.crawled()
    assert any("Insufficient memory" in said for said in there.said)
    assert there.fake.jobs == {} and there.causes() == ["never scheduled"]


def test_while_a_quota_has_no_room_the_crawl_waits(there: Installation) -> None:
    def has_room_later(job: str) -> None:
        there.fake.end(job, "quota-pods-full")
        threading.Timer(0.4, lambda: there.completes(job)).start()

    there.fake.fates = [has_room_later]
    there.crawled()
    assert any("quota small has no room" in said for said in there.said) and there.causes() == []


def test_while_a_quota_of_jobs_has_no_room_the_crawl_waits_too(there: Installation) -> None:
    # A quota counts a Job that was deleted for a moment longer: the next one would be refused after each eviction.
    there.fake.refusals = ["refused-quota-jobs"] * 3
    there.crawled()
    assert any("quota few has no room" in said for said in there.said) and there.causes() == []
    there.declare(start_within="1s")
    there.fake.refusals = ["refused-quota-jobs"] * 1000
    with pytest.raises(deaths.QuotaError, match="waited for 1 s"):
        there.crawled("run-2")


def test_what_the_clusters_rules_do_not_admit_fails_at_once(there: Installation) -> None:
    there.fake.fates = [lambda job: there.fake.end(job, "pod-security")]
    began = time.monotonic()
    with pytest.raises(deaths.AdmissionRefusedError, match="do not admit it"):
        there.crawled()
    there.fake.refusals = ["refused-policy-job"]
    with pytest.raises(deaths.AdmissionRefusedError, match="do not admit it"):
        there.crawled("run-2")
    assert time.monotonic() - began < 20 and there.fake.jobs == {}


# -- what is away -----------------------------------------------------------------------------------------------------


def test_a_crawl_does_not_notice_that_the_api_is_away(there: Installation) -> None:
    pods: list[str] = []
    there.fake.fates = [lambda job: pods.append(there.runs(job))]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(pods))
        there.fake.is_away = True
        wait_for(lambda: any("the cluster cannot be asked" in said for said in there.said))
        there.commit()
        there.fake.change(pods[0], "exit-0")
        there.fake.is_away = False
        assert run.result(30).generation == 1
    assert len(there.fake.created) == 1


def test_while_the_api_is_away_a_pod_is_not_blamed_for_not_starting(there: Installation) -> None:
    there.declare(start_within="1s")
    made: list[str] = []
    there.fake.fates = [made.append]
    with stepping(there, "run-1") as [run]:
        wait_for(lambda: bool(made))
        time.sleep(0.2)
        there.fake.is_away = True
        time.sleep(1.5)
        there.fake.is_away = False
        time.sleep(0.2)
        there.completes(made[0])
        assert run.result(30).generation == 1
    assert there.causes() == []


def test_an_api_that_stays_away_fails_the_step_and_not_its_crawl(
    there: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "AWAY_SECONDS", 0.2)
    there.fake.is_away = True
    with pytest.raises(jobs.ClusterAwayError):
        there.crawled()
    assert life.read_control(there.lake, CRAWL) is None


@pytest.mark.parametrize("where", ["followed", "between", "waited for"])
def test_a_lake_that_is_away_for_a_while_does_not_end_a_step(
    there: Installation, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    is_away = threading.Event()

    def away(method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if is_away.is_set() and threading.current_thread() is not threading.main_thread():
                raise LakeAwayError("Cannot reach s3://bucket. Check that it exists and may be used.")
            return method(*args, **options)

        return call

    pods: list[str] = []
    there.fake.fates = [lambda job: pods.append(there.runs(job)), there.completes]
    for name in ("get", "put", "create", "delete", "paths"):
        monkeypatch.setattr(Lake, name, away(getattr(Lake, name)))
    options: dict[str, Any] = {}
    if where == "waited for":  # of a crawl that no Job of this cluster works on
        identity.begin(there.lake, CRAWL, "run-0")
        there.launch("another")
        there.say()
        options = {"host": process.LocalHost(there.house.settings)}
    with stepping(there, "run-1", **options) as [run]:
        wait_for(lambda: bool(pods) or where == "waited for")
        wait_for(lambda: identity.attached(there.lake, CRAWL) == {"run-1"})
        is_away.set()
        if where == "between":
            there.fake.change(pods[0], "killed")
        else:
            there.commit()
            if pods:
                there.fake.change(pods[0], "exit-0")
        wait_for(lambda: any("the lake is away" in said for said in there.said))
        is_away.clear()
        assert run.result(30).generation == 1
    assert there.causes() == (["killed"] if where == "between" else [])


def test_a_lake_that_refuses_is_told_at_once(there: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    there.fake.fates = [there.dies("killed")]

    def refuses(*args: Any) -> Any:
        raise LakeError("Cannot read s3://bucket: access denied.")

    monkeypatch.setattr(life, "result", refuses)
    with pytest.raises(LakeError, match="access denied"):
        there.crawled()


@pytest.mark.slow
def test_a_process_that_cannot_reach_the_lake_is_interrupted_and_not_at_fault(tmp_path: Path) -> None:
    house = House(tmp_path, "s3://bucket/prefix")
    house.declare(PAGES, seeds={"urls": ["http://127.0.0.1:9/"]})
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOSSAMER_"))},
        "PYTHONPATH": str(PROJECT),
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "x",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
    }
    options = ["--source", "s", "--partition", KEY, "--generation", "1", "--lake", house.lake.uri]
    command = [sys.executable, *process.PROGRAM, *options, "--sources", str(house.settings.sources)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == process.INTERRUPTED
    death = process.ended(ended.returncode, ended.stderr.splitlines())
    assert death and death.passes and "s3://bucket/prefix" in str(death)


# -- the cheap mode ---------------------------------------------------------------------------------------------------


def test_a_crawl_in_its_runs_own_pod_parks_while_it_runs(there: Installation) -> None:
    there.declare(where="run")
    settings = there.house.settings
    source = declarations.load(settings.sources)["s"]
    launcher = KubernetesLauncher(sources=str(settings.sources), lake=settings.lake, kubernetes=str(there.file))
    where = launcher.host(settings, source)
    assert settings.parking == "at_rest"
    assert isinstance(where, process.LocalHost) and where.settings.parking == "continuous"


def test_a_pods_last_words_say_why_it_was_interrupted_without_what_terminals_obey() -> None:
    plain = record("exit-75")["pods"][0]
    terminated = plain["status"]["containerStatuses"][0]["state"]["terminated"]
    assert terminated["exitCode"] == 75
    terminated["message"] = "\x1b[31mred\ngossamer.crawl: error: Cannot write s3://b/x: \x1b]0;owned\x07 refused\n"
    pod = _model(plain)
    ended = causes.end_of_pod(pod)
    assert ended and ended.death and "Cannot write s3://b/x" in str(ended.death) and "\x1b" not in str(ended.death)


def _model(plain: dict[str, Any]) -> Any:
    import types

    from kubernetes import client

    response = types.SimpleNamespace(data=json.dumps(plain))
    return client.ApiClient(client.Configuration()).deserialize(response, "V1Pod")
