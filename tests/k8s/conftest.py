"""Fixtures of the tests on a cluster. What they give is in `cluster`, `images` and `servers`.

Each test here is marked `k8s`, `service` and `slow`: `make test-k8s` runs them, and no other selection of tests does.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.k8s import images, servers
from tests.k8s.cluster import Cluster, find
from tests.k8s.crawls import ClusterTrial, New
from tests.k8s.servers import S3Server, Shop, Site
from tests.torture.crawls import Truth, truth

HERE = Path(__file__).parent
TEST_SECONDS = 300
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First: these markers are there when `-m` selects.
    for item in items:
        if item.path.is_relative_to(HERE):
            for name in ("k8s", "service", "slow"):
                item.add_marker(name)
            if not item.get_closest_marker("timeout"):
                # Of the test alone: the first one's fixtures build an image, within limits of their own.
                item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report  # type: ignore[return-value]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster; the test is skipped without one."""
    return find()


@pytest.fixture(scope="session")
def image(cluster: Cluster) -> str:
    """The name of the image of `deploy/Dockerfile`, which every node has."""
    return images.gossamer(cluster)


@pytest.fixture(scope="session")
def postgres_image(cluster: Cluster) -> str:
    """The name of an image of Postgres, with the official one's variables; user 999."""
    return images.postgres(cluster)


@pytest.fixture(scope="session")
def s3_image(cluster: Cluster) -> str:
    """The name of an image of SeaweedFS; its program is `/weed` where it was built here."""
    return images.seaweedfs(cluster)


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, restricted; what is in it is shown where the test fails."""
    with cluster.namespace() as name:
        yield name
        if request.node.stash.get(FAILED, False):
            print(cluster.describe(name))


@pytest.fixture(scope="session")
def shop(cluster: Cluster) -> Iterator[Shop]:
    """The demo shop on this machine, shared: look at what it was asked since you began."""
    with servers.demo_shop(cluster) as site:
        yield site


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """The site of the torture tests on this machine, the test's own."""
    with servers.torture_site(cluster, tmp_path) as site:
        yield site


@pytest.fixture(scope="session")
def s3(cluster: Cluster) -> Iterator[S3Server]:
    """S3 on this machine, shared: keep to a prefix of your own, and bring it back if you stop it (`away`)."""
    with servers.s3_server(cluster) as server:
        yield server


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The crawl on this machine that nobody disturbed."""
    return truth(tmp_path_factory.mktemp("known") / "crawl")


@pytest.fixture
def new(
    cluster: Cluster,
    namespace: str,
    image: str,
    site: Site,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[New]:
    """Makes the test's crawl; the arguments are fields of the cluster's declaration."""
    for name, value in s3.here.env().items():
        monkeypatch.setenv(name, value)
    with ThreadPoolExecutor(4) as pool:
        yield lambda **fields: ClusterTrial(cluster, namespace, image, site, s3, tmp_path / "crawl", pool, **fields)
