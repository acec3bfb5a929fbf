"""How long a crawl takes from its step's start to its first request, as a Job of a cluster whose nodes have the image.

The peer is a container's own start: the same Job with another command, whose Python asks for a page at once. They take
turns on one node. What a launch costs beyond it is (step's start to first request) - (peer's Job made to its request),
and must be 5 s at most. The step is a fresh process for each crawl (`launch_step`); the site and S3 are on this
machine. Needs a cluster: GOSSAMER_TEST_KUBECONFIG names it.

    python -m benchmarks.launch [--rounds N]
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gossamer.crawl.identity import read_worker
from gossamer.crawl.life import Crawl
from tests.k8s import cluster as clusters
from tests.k8s import images, servers
from tests.k8s.crawls import ClusterTrial
from tests.k8s.servers import Site
from tests.torture.crawls import NAME
from tests.torture.site import Plan

PROJECT = Path(__file__).resolve().parent.parent
ROUNDS = 7
MOST_SECONDS = 5.0
FIRST_DAY = dt.date(2026, 1, 5)
#: The site is so small that a crawl is over a moment after its first request.
PLAN = Plan(pages=2)
#: A container's own start, with Python's: it asks for this page and ends.
PEER = "/page/peer"
ASK = "import socket; s = socket.create_connection(('{0}', {1})); s.sendall(b'GET {2} HTTP/1.0\\r\\n\\r\\n'); s.recv(1)"


class Launch(NamedTuple):
    """One crawl's launch; seconds since 1970, but for what the peer's took.

    Attributes:
        began: its step.
        made: its Job was built, and is created next.
        claimed: its process had imported what it needs, and claimed its launch in the lake.
        asked: the first request reached the site.
        peer: seconds of the container's own start: Job built to first request.
    """

    began: float
    made: float
    claimed: float
    asked: float
    peer: float

    @property
    def beyond(self) -> float:
        """What the launch costs beyond the container's own start."""
        return self.asked - self.began - self.peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    try:
        launches = measured(options.rounds)
    except pytest.skip.Exception as reason:
        sys.exit(str(reason))
    print_launches(launches)


def measured(rounds: int) -> list[Launch]:
    """So many launches, after one that is not counted."""
    cluster = clusters.find()
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        site = running.enter_context(servers.torture_site(cluster, folder, PLAN))
        s3 = running.enter_context(servers.s3_server(cluster))
        os.environ.update(s3.here.env())
        namespace = running.enter_context(cluster.namespace("launch"))
        pool = running.enter_context(ThreadPoolExecutor(1))
        node = {"kubernetes.io/hostname": cluster.core.list_node().items[0].metadata.labels["kubernetes.io/hostname"]}
        image = images.gossamer(cluster)
        crawl = ClusterTrial(cluster, namespace, image, site, s3, folder / "crawl", pool, node_selector=node)
        bench = _Bench(crawl, site)
        bench.launch(0)
        return [bench.round(number) for number in range(1, rounds + 1)]


class _Bench:
    """Launches crawls and their peers, one after the other."""

    def __init__(self, crawl: ClusterTrial, site: Site) -> None:
        self._crawl, self._site = crawl, site
        self._job: dict[str, Any] = {}

    def round(self, number: int) -> Launch:
        """Either of the two is first in every second round."""
        if number % 2:
            began, made, claimed, asked = self.launch(number)
            peer = self.peer(number)
        else:
            peer = self.peer(number)
            began, made, claimed, asked = self.launch(number)
        found = Launch(began, made, claimed, asked, peer)
        print(f"  {found.asked - found.began:.2f} s, its peer {found.peer:.2f} s", file=sys.stderr, flush=True)
        return found

    def launch(self, number: int) -> tuple[float, float, float, float]:
        """A crawl to its end: when its step began, its Job was made, its launch claimed, its first page asked for."""
        crawl, key = self._crawl, str(FIRST_DAY + dt.timedelta(days=number))
        places = [str(crawl.settings.sources), crawl.settings.lake, str(crawl.config), NAME, key]
        command = [sys.executable, "-m", "benchmarks.launch_step", *places]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            sys.exit(f"The crawl failed:\n{done.stderr[-4000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        self._job = said["job"]
        worker = read_worker(crawl.lake, Crawl(NAME, key, 1), 1)
        assert worker
        crawl.cluster.wait_for("a clear namespace", crawl.is_clear, seconds=60)
        return said["began"], said["made"], worker.started_at, said["began"] + self._site.next_after(said["began"])

    def peer(self, number: int) -> float:
        """Seconds from where the same Job is created with another command to its request."""
        crawl, name = self._crawl, f"peer-{number}"
        host, _, port = crawl.site.url.removeprefix("http://").partition(":")
        job = json.loads(json.dumps(self._job))
        job["metadata"] = {"name": name}
        job["spec"]["template"]["metadata"] = {"labels": {"peer": name}}
        job["spec"]["template"]["spec"]["containers"][0]["command"] = ["python", "-c", ASK.format(host, port, PEER)]
        made = time.time()
        crawl.cluster.batch.create_namespaced_job(crawl.namespace, job)
        seconds = self._site.next_after(made)
        crawl.cluster.batch.delete_namespaced_job(name, crawl.namespace, propagation_policy="Background")
        crawl.cluster.wait_for("the peer's end", lambda: not crawl.cluster.pods(crawl.namespace), seconds=60)
        return seconds


def print_launches(launches: Sequence[Launch]) -> None:
    stages: dict[str, Callable[[Launch], float]] = {
        "step's start to Job made": lambda launch: launch.made - launch.began,
        "Job made to launch claimed": lambda launch: launch.claimed - launch.made,
        "  of which the container's own start (peer)": lambda launch: launch.peer,
        "  of which Python's imports, and the first calls": lambda launch: launch.claimed - launch.made - launch.peer,
        "launch claimed to first request": lambda launch: launch.asked - launch.claimed,
        "step's start to first request": lambda launch: launch.asked - launch.began,
        "beyond the container's own start": lambda launch: launch.beyond,
    }
    print(f"\n{len(launches)} launches, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; s, in turn with peers")
    print(f"{'':<48} {'min':>6} {'median':>7} {'max':>6}")
    for words, stage in stages.items():
        seconds = [stage(launch) for launch in launches]
        print(f"{words:<48} {min(seconds):6.2f} {statistics.median(seconds):7.2f} {max(seconds):6.2f}")
    met = statistics.median(launch.beyond for launch in launches) <= MOST_SECONDS
    print(f"bar <= {MOST_SECONDS:g} s: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
