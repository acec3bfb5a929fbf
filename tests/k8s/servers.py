"""Servers on this machine that pods talk to: sites and S3.

They listen on all addresses and are `cluster.host` to pods. What a site was asked is in its log, with
wall-clock times, so that tests can measure how long nobody fetched.
"""

import contextlib
import dataclasses
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from gossamer.settings import PROJECT
from tests import services
from tests.k8s.cluster import Cluster
from tests.services import S3
from tests.torture import site as torture

ANY = "0.0.0.0"


class Asked(NamedTuple):
    """One request that reached a site; `at` is seconds since 1970."""

    at: float
    method: str
    path: str


@dataclass(frozen=True)
class Shop:
    """A running site, and what it was asked.

    Attributes:
        url: for pods, without a slash at its end.
        here: for this machine.
    """

    url: str
    here: str
    _read: Callable[[], list[Asked]]

    def asked(self) -> list[Asked]:
        """Every request so far, in their order."""
        return self._read()

    def wait_for(self, count: int, seconds: float = 60) -> None:
        """Waits until so many requests have come, from the beginning."""
        deadline = time.monotonic() + seconds
        while (seen := len(self.asked())) < count:
            assert time.monotonic() < deadline, f"{seen} of {count} requests at the site after {seconds:g} s"
            time.sleep(0.05)

    def first_after(self, moment: float) -> float | None:
        """How many seconds after `moment` (`time.time()`) the first request came, if one has."""
        return next((asked.at - moment for asked in self.asked() if asked.at > moment), None)

    def next_after(self, moment: float, seconds: float = 60) -> float:
        """How many seconds after `moment` (`time.time()`) the first request came; waits for it `seconds` at most."""
        deadline = time.monotonic() + seconds
        while True:
            if later := self.first_after(moment):
                return later
            assert time.monotonic() < deadline, f"no request at the site for {seconds:g} s"
            time.sleep(0.05)


@dataclass(frozen=True)
class Site(Shop):
    """One whose speed can be changed.

    Attributes:
        slow_down: from now on each answer takes so many seconds.
    """

    slow_down: Callable[[float], None]


@contextlib.contextmanager
def torture_site(cluster: Cluster, folder: Path, plan: torture.Plan = torture.Plan()) -> Iterator[Site]:  # noqa: B008
    """The site of `tests/torture`; its log is in `folder`."""
    with torture.serve(folder, plan, host=ANY) as site:
        # Its times are the monotonic clock's.
        offset = time.time() - time.monotonic()
        port = site.url.rpartition(":")[2]
        yield Site(
            f"http://{cluster.host}:{port}",
            f"http://{services.HOST}:{port}",
            lambda: [Asked(asked.at + offset, asked.method, asked.path) for asked in site.asked()],
            site.slow_down,
        )


@contextlib.contextmanager
def demo_shop(cluster: Cluster, *, delay: float = 0.0) -> Iterator[Shop]:
    """The demo shop; `delay` is what each answer takes, for good."""
    port = services._free_ports(1)[0]
    with services._folder("shop") as folder:
        log = folder / "access.log"
        log.touch()
        command = [sys.executable, "-m", "demo.shop", "--host", ANY, "--port", str(port)]
        command += ["--delay", str(delay), "--log", str(log)]
        here = f"http://{services.HOST}:{port}"
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        with services._running(command, folder, ready=lambda: services._answers_http(here), env=environment):
            begun = time.time()
            yield Shop(f"http://{cluster.host}:{port}", here, lambda: _shop_log(log, begun))


def _shop_log(log: Path, begun: float) -> list[Asked]:
    """Without the request that found out whether the shop is open."""
    lines = log.read_text().splitlines(keepends=True)
    words = (line.split() for line in lines if line.endswith("\n"))
    asked = [Asked(datetime.fromisoformat(at).timestamp(), method, path) for at, _, method, path in words]
    return [request for request in asked if request.at >= begun]


class S3Server:
    """SeaweedFS on this machine, that can go away and come back with what it held.

    Attributes:
        here: for this machine.
        pods: the same server, for pods.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._ports = dict(zip(("s3", "master", "volume", "filer", "admin"), services._free_ports(5), strict=True))
        port = self._ports["s3"]
        self.here = S3(f"http://{services.HOST}:{port}", "test", secrets.token_hex(16), "us-east-1", "lake")
        self.pods = dataclasses.replace(self.here, endpoint=f"http://{cluster.host}:{port}")
        self._folder = folder
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(_identities(self.here))
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        """Ends when it takes objects."""
        data, identities = self._folder / "data", self._folder / "s3.json"
        command = [services._weed(), "mini", f"-dir={data}", f"-s3.config={identities}"]
        command += [f"-ip={services.HOST}", f"-ip.bind={ANY}", f"-bucket={self.here.bucket}"]
        command += [f"-{part}.port={port}" for part, port in self._ports.items()]
        command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-master.telemetry=false", "-s3.allowDeleteBucketNotEmpty=false"]
        ready = services._running(command, self._folder, ready=lambda: services._takes_objects(self.here))
        self._running.enter_context(ready)

    def stop(self) -> None:
        """From now on connections are refused."""
        self._running.close()
        ours = {str(port + offset) for port in self._ports.values() for offset in (0, services.GRPC)}
        for left in Path("/tmp").glob("seaweedfs-*.sock"):
            if left.stem.rpartition("-")[2] in ours:
                left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """While the block runs, there is no S3."""
        self.stop()
        try:
            yield
        finally:
            self.start()


@contextlib.contextmanager
def s3_server(cluster: Cluster) -> Iterator[S3Server]:
    """S3 on this machine, with one bucket."""
    with services._folder("s3") as folder:
        server = S3Server(cluster, folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _identities(server: S3) -> str:
    credentials = [{"accessKey": server.key, "secretKey": server.secret}]
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return json.dumps({"identities": [{"name": "admin", "credentials": credentials, "actions": actions}]})
