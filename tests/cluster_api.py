"""A server that keeps Jobs and pods as a cluster's API does: it lists them by label, and deletes them.

For tests, and for what is measured, of code that talks to a cluster through the official client.
"""

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from kubernetes import client

from gossamer.cluster.config import Cluster
from gossamer.crawl.host import Order
from gossamer.crawl.identity import Crawl
from gossamer.source import Source, SourceSpec
from resources.kubernetes import build_job

NAMESPACE = "crawls"


@dataclass
class Api:
    """What the cluster holds, and what it was asked.

    Attributes:
        refused: names of objects that it will not delete -> the status of its answer.
    """

    url: str
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    _uids: Iterator[int] = field(default_factory=itertools.count)

    def add(self, crawl: Crawl, run: str, lake: str, ordinal: int = 1) -> str:
        """A Job, as the launcher makes it, that has no pod yet; gives its name."""
        job = _job(crawl, run, lake, ordinal)
        name = str(job["metadata"]["name"])
        job["metadata"] |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": "2026-01-05T00:00:00Z"}
        self.jobs[name] = job
        return name

    def start(self, job: str, like: Mapping[str, Any] | None = None) -> str:
        """A pod of a Job, that runs; or in the state of another one (`like`)."""
        made = self.jobs[job]["spec"]["template"]
        state = {"state": {"running": {"startedAt": "2026-01-05T00:00:01Z"}}}
        running = {"phase": "Running", "containerStatuses": [{**_STATUS, **state}]}
        pod = {
            "metadata": {
                "name": f"{job}-x",
                "uid": f"uid-{next(self._uids)}",
                "creationTimestamp": "2026-01-05T00:00:00Z",
                "labels": {**made["metadata"]["labels"], "batch.kubernetes.io/job-name": job},
            },
            "spec": {"containers": [{"name": "crawl"}], "nodeName": "node-2"},
            "status": like["status"] if like else running,
        }
        if like and (deleted := like["metadata"].get("deletionTimestamp")):
            pod["metadata"]["deletionTimestamp"] = deleted
        self.pods[f"{job}-x"] = pod
        return f"{job}-x"

    def finish(self, job: str, at: float, *, kind: str = "Complete", reason: str = "", message: str = "") -> None:
        """The Job is over."""
        moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": moment}
        self.jobs[job]["status"] = {"conditions": [condition]}

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, Any]:
        parts = urlsplit(url)
        self.asked.append((method, parts.path))
        kind, _, name = parts.path.partition(f"/namespaces/{NAMESPACE}/")[2].partition("/")
        held = self.jobs if kind == "jobs" else self.pods
        if method == "GET":
            wanted = dict(pair.split("=") for pair in parse_qs(parts.query)["labelSelector"][0].split(","))
            return 200, {"items": [one for one in held.values() if wanted.items() <= one["metadata"]["labels"].items()]}
        if status := self.refused.get(name):
            return status, {"kind": "Status", "message": f"{name} is not to be deleted", "code": status}
        uid = (json.loads(body or b"{}").get("preconditions") or {}).get("uid")
        if name not in held or uid not in (None, held[name]["metadata"]["uid"]):
            return 404 if name not in held else 409, {"kind": "Status", "message": "no"}
        del held[name]
        if kind == "jobs":  # the cluster removes the pods, but for those whose node does not answer
            for pod in [pod for pod in self.pods if pod.startswith(f"{name}-")]:
                if "deletionTimestamp" not in self.pods[pod]["metadata"]:
                    del self.pods[pod]
        return 200, {"kind": "Status", "status": "Success"}


_STATUS = {"name": "crawl", "image": "gossamer:1", "imageID": "", "ready": True, "restartCount": 0}


def _job(crawl: Crawl, run: str, lake: str, ordinal: int) -> dict[str, Any]:
    spec = {
        "name": crawl.source,
        "spider": "spider:S",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": "id", "fields": {"id": "str"}},
    }
    source = Source(SourceSpec.model_validate(spec, by_alias=True, by_name=False), Path(crawl.source))
    order = Order(
        source,
        crawl,
        run=run,
        root_run=run,
        pages=None,
        tell=lambda: None,
        cancel=lambda: False,
        is_overdue=lambda seconds: False,
        say=lambda words: None,
        silence=lambda: 0.0,
        deaths=list,
    )
    job = build_job(Cluster(namespace=NAMESPACE, image="gossamer:1"), order, ordinal, "512Mi", lake)
    plain: dict[str, Any] = client.ApiClient(client.Configuration()).sanitize_for_serialization(job)
    return plain


@contextlib.contextmanager
def serve() -> Iterator[Api]:
    """An empty cluster."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = api.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_DELETE = _answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api = Api(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def declare(folder: Path, api: Api, **more: Any) -> Path:
    """The file that names this cluster."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": api.url}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "users": [{"name": "x", "user": {"token": "secret-token"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    said = {"namespace": NAMESPACE, "image": "gossamer:1", "kubeconfig": str(folder / "kubeconfig"), **more}
    (folder / "crawls.yaml").write_text(yaml.safe_dump(said))
    return folder / "crawls.yaml"
