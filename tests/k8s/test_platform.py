"""The platform on a real cluster, by its chart: runs are pods, crawls are Jobs; whichever goes, nothing is lost.

What happens to crawls' own pods and nodes is in `test_crawls`. Each test has a source and a site of its own; their runs
are launched together, because a run's pod takes its time to start, and wait on slow sites for their turn.
"""

import contextlib
import datetime as dt
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from demo.shop import shop_records
from gossamer.crawl import life
from gossamer.lake import Lake
from tests.k8s import servers
from tests.k8s.cluster import Cluster
from tests.k8s.platform import Installed, bundled_s3, installed, source_files
from tests.k8s.servers import Site
from tests.torture.crawls import KEY, SOURCE, Trial, Truth, truth

pytestmark = pytest.mark.timeout(600, func_only=True)

#: Pages take so long until a test is done with its crawl.
LATENCY_SECONDS = 6.0
#: What a run's pod may take to begin with its first step, beside others.
START_SECONDS = 240
LOST, UPGRADED, CANCELLED, CHEAP = "torture_lost", "torture_upgraded", "torture_cancelled", "torture_cheap"
#: A run of each of these sources; the last one is crawled in the run's own pod.
WORKERS: Mapping[str, Mapping[str, str]] = {LOST: {}, UPGRADED: {}, CANCELLED: {}, CHEAP: {"where": "run"}}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The crawl on this machine that nobody disturbed."""
    return truth(tmp_path_factory.mktemp("known") / "crawl")


@pytest.fixture(scope="module")
def sites(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    with contextlib.ExitStack() as running:
        found = {}
        for name in WORKERS:
            site = running.enter_context(servers.torture_site(cluster, tmp_path_factory.mktemp(name)))
            site.slow_down(LATENCY_SECONDS)
            found[name] = site
        yield found


@pytest.fixture(scope="module")
def platform(
    cluster: Cluster,
    image: str,
    postgres_image: str,
    s3_image: str,
    sites: dict[str, Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("platform")
    sources = {name: torture_files(folder / name, name, site) for name, site in sites.items()}
    images = {"gossamer": image, "postgres": postgres_image, "s3": s3_image}
    # A lost run is seen soon; the trial's values would have two runs at once.
    instance = {"run_monitoring": {"poll_interval_seconds": 5}, "concurrency": {"runs": {"max_concurrent_runs": 8}}}
    with installed(cluster, images, sources, folder, {"instance": instance}) as found:
        yield found


def torture_files(folder: Path, name: str, site: Site) -> dict[str, str]:
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "seeds.txt").write_text(f"{site.url}/\n")
    declared = yaml.safe_load((folder / "source.yaml").read_text()) | {"name": name}
    if workers := WORKERS[name]:
        declared["workers"] = dict(workers)
    (folder / "source.yaml").write_text(yaml.safe_dump(declared))
    return source_files(folder)


@pytest.fixture(scope="module")
def runs(platform: Installed) -> dict[str, str]:
    """The id of each source's run."""
    return {name: platform.launch(name, KEY) for name in WORKERS}


@pytest.fixture
def lake(platform: Installed, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The lake's URI; it is reached by the environment."""
    with bundled_s3(platform, monkeypatch) as uri:
        yield uri


@dataclass
class Disturbed:
    """One source's run, and its crawl."""

    run: str
    crawl: Trial
    site: Site

    def begun(self, known: Truth) -> None:
        """Waits until a good part of the site is fetched."""
        self.site.wait_for(known.moment(0.05), seconds=START_SECONDS)

    def quickly(self) -> None:
        """From now on pages take no time."""
        self.site.slow_down(0.0)


@pytest.fixture
def disturb(
    runs: dict[str, str], sites: dict[str, Site], lake: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Disturbed:
    """Of the source that the test is for."""
    name: str = request.param
    crawl = Trial(tmp_path / "crawl", sites[name], parking="continuous", lake=lake, crawls=None)  # type: ignore[arg-type]
    crawl.name = name
    return Disturbed(runs[name], crawl, sites[name])


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("disturb", [name], indirect=True, ids=[""])


@of(CANCELLED)
def test_a_run_that_is_cancelled_in_the_ui_stops_its_crawl_within_ten_seconds_and_leaves_nothing(
    platform: Installed, disturb: Disturbed, known: Truth
) -> None:
    disturb.begun(known)
    platform.cancel(disturb.run)
    cancelled = time.time()
    platform.ended(disturb.run, "CANCELED")
    platform.clear(CANCELLED)
    time.sleep(max(0.0, cancelled + 15 - time.time()))
    assert max(asked.at for asked in disturb.site.asked()) - cancelled < 10
    assert life.standing(disturb.crawl.lake, CANCELLED, KEY).state is life.CrawlState.STOPPED


@of(LOST)
def test_run_webserver_and_daemon_lose_their_pods_and_the_crawl_goes_on_undisturbed(
    platform: Installed, disturb: Disturbed, known: Truth
) -> None:
    disturb.begun(known)
    pod = platform.crawl_pod(LOST)
    platform.delete(platform.run_pod(disturb.run))  # it is told to end, and nobody cancelled its run
    for component in ("webserver", "daemon"):
        for other in platform.component(component):
            platform.delete(other, at_once=True)
    assert disturb.site.next_after(time.time(), 60) < 60
    assert platform.crawl_pod(LOST).metadata.uid == pod.metadata.uid
    disturb.quickly()
    platform.ended(disturb.run)  # its retry
    assert disturb.crawl.outcome().differences(known.outcome) == []
    assert known.repeated(disturb.site) == 0


@of(UPGRADED)
def test_an_upgrade_of_the_platform_does_not_touch_a_crawl_or_its_run(
    platform: Installed, disturb: Disturbed, known: Truth
) -> None:
    disturb.begun(known)
    before = [platform.crawl_pod(UPGRADED).metadata.uid, platform.run_pod(disturb.run).metadata.uid]
    platform.install("--set", "crawls.keepFinished=2h", "--set", "readonly.enabled=true")
    assert [platform.crawl_pod(UPGRADED).metadata.uid, platform.run_pod(disturb.run).metadata.uid] == before
    disturb.quickly()
    platform.ended(disturb.run)
    assert disturb.crawl.outcome().differences(known.outcome) == []
    assert known.repeated(disturb.site) == 0


@of(CHEAP)
def test_a_crawl_in_its_run_s_own_pod_keeps_the_promise_when_that_pod_is_deleted(
    platform: Installed, disturb: Disturbed, known: Truth
) -> None:
    disturb.begun(known)
    platform.delete(platform.run_pod(disturb.run), at_once=True)
    assert platform.crawl_pods(CHEAP) == []
    disturb.quickly()
    platform.ended(disturb.run)
    assert disturb.crawl.outcome().differences(known.outcome) == []


def test_a_partition_of_the_shop_is_crawled_by_a_job_and_its_rows_checks_and_report_are_those_of_a_local_run(
    platform: Installed, lake: str
) -> None:
    day = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    platform.ended(platform.launch("rates", str(day)))
    run = platform.launch("shop", str(day))
    job = platform.cluster.wait_for("the crawl's Job", lambda: platform.crawl_jobs("shop"), seconds=START_SECONDS)[0]
    platform.ended(run)

    assert job.metadata.labels["dagster/run-id"] == run
    assert job.metadata.owner_references is None
    checks = platform.checks(run)
    # The shop's own fault, which the local run is warned of too: one of its currencies has no rate.
    assert [name for name, passed in checks.items() if not passed] == ["joins_complete"]
    assert {"books_closed", "expectations_critical", "joins_matched"} < checks.keys()
    rows = Lake(lake).scan_published("shop", str(day))
    assert rows is not None
    published = {row["sku"]: row["name"] for row in rows.collect().iter_rows(named=True)}
    shop = f"http://gossamer-shop.{platform.namespace}.svc:8765"
    assert published == {row["sku"]: row["name"] for row in shop_records(day, shop)}
    page = platform.report("shop", str(day))
    assert {"shop", str(day), "joins_complete"} <= set(re.findall(r"[\w-]+", page)), page
    platform.clear()
