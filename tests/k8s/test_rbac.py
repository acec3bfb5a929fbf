"""What each service account of the chart may do on a cluster, and what it may not: asked of the cluster itself.

Only accounts and their rights are installed: nothing runs. What the chart renders is in `tests/test_chart.py`.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from gossamer.settings import PROJECT
from tests.k8s.cluster import Cluster

CHART = PROJECT / "deploy" / "helm" / "gossamer"
VALUES = PROJECT / "deploy" / "helm" / "values-trial.yaml"
KINDS = {"ServiceAccount", "Role", "RoleBinding"}
#: What every account may ask, on every cluster: who it is and what it may.
EVERYBODY = re.compile(r"selfsubject\w+\.auth\w+\.k8s\.io")


@dataclass(frozen=True)
class Installed:
    """A release's accounts: where the platform is, where crawls are."""

    cluster: Cluster
    release: str
    crawls: str

    def account(self, name: str) -> str:
        namespace = self.crawls if name == "crawl" else self.release
        return f"system:serviceaccount:{namespace}:gossamer-{name}"

    def may(self, name: str, namespace: str) -> set[tuple[str, str]]:
        """Everything that the cluster's rules let an account do in a namespace: (verb, resource)."""
        listed = self.cluster.kubectl(
            "auth", "can-i", "--list", "--no-headers", "-n", namespace, f"--as={self.account(name)}"
        )
        found: set[tuple[str, str]] = set()
        for line in listed.splitlines():
            resource = line.split(" ")[0]
            verbs = line.rpartition("[")[2].rstrip("]").split()
            if resource and not EVERYBODY.fullmatch(resource):
                found |= {(verb, resource.removesuffix(".batch").replace(".batch/", "/")) for verb in verbs}
        return found

    def can(self, name: str, verb: str, resource: str, namespace: str) -> bool:
        command = ["kubectl", "auth", "can-i", verb, resource, "-n", namespace, f"--as={self.account(name)}"]
        done = subprocess.run(
            command, env={**self.cluster.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout.strip() in ("yes", "no"), done.stdout + done.stderr
        return done.stdout.strip() == "yes"


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Installed]:
    """The chart's accounts and rights in namespaces of the test's own."""
    with cluster.namespace("rbac") as release, cluster.namespace("rbac-crawls") as crawls:
        options = ["-n", release, "-f", str(VALUES), "--set", f"crawls.namespace={crawls},readonly.enabled=true"]
        # A version of the cluster, because some builds of helm take an old one where there is none.
        rendered = cluster.helm("template", "gossamer", str(CHART), "--kube-version", "1.34.0", *options)
        things = [thing for thing in yaml.safe_load_all(rendered) if thing and thing["kind"] in KINDS]
        # Each says its namespace, or belongs to the release's.
        cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(_placed(thing, release) for thing in things))
        yield Installed(cluster, release, crawls)


def _placed(thing: dict[str, dict[str, str]], namespace: str) -> dict[str, dict[str, str]]:
    return {**thing, "metadata": {"namespace": namespace, **thing["metadata"]}}


LAUNCHES = {("create", "jobs"), ("get", "jobs"), ("list", "jobs"), ("delete", "jobs")}
EXPECTED = {
    ("webserver", "release"): {(verb, what) for verb in ("get", "list", "delete") for what in ("jobs", "pods")},
    ("daemon", "release"): LAUNCHES
    | {("get", "jobs/status"), ("get", "pods"), ("list", "pods"), ("delete", "pods"), ("get", "pods/log")}
    | {("list", "events")},
    ("run", "crawls"): LAUNCHES | {("list", "pods"), ("delete", "pods"), ("get", "pods/log"), ("list", "events")},
    ("code", "crawls"): {("list", "jobs"), ("delete", "jobs"), ("list", "pods"), ("delete", "pods")},
}


@pytest.mark.parametrize("name", ["webserver", "readonly", "reports", "daemon", "code", "run", "crawl"])
def test_an_account_may_do_what_it_is_for_and_nothing_else_anywhere(installed: Installed, name: str) -> None:
    places = {"release": installed.release, "crawls": installed.crawls, "elsewhere": "default"}
    for place, namespace in places.items():
        assert installed.may(name, namespace) == EXPECTED.get((name, place), set()), place


@pytest.mark.parametrize(
    ("name", "verb", "resource", "place"),
    [
        ("crawl", "get", "secrets", "crawls"),  # its own keys are in its environment; others' are not its business
        ("crawl", "list", "pods", "crawls"),
        ("crawl", "create", "jobs", "crawls"),
        ("run", "get", "secrets", "crawls"),
        ("run", "get", "secrets", "release"),  # the platform's password
        ("run", "create", "pods", "crawls"),
        ("run", "create", "pods/exec", "crawls"),
        ("run", "create", "jobs", "release"),
        ("run", "patch", "jobs", "crawls"),
        ("code", "create", "jobs", "crawls"),
        ("code", "get", "secrets", "crawls"),
        ("code", "list", "pods", "release"),
        ("daemon", "get", "secrets", "release"),
        ("daemon", "create", "pods/exec", "release"),
        ("daemon", "list", "jobs", "crawls"),
        ("webserver", "create", "jobs", "release"),
        ("webserver", "get", "secrets", "release"),
        ("webserver", "delete", "jobs", "crawls"),
        ("readonly", "list", "pods", "release"),
        ("readonly", "delete", "jobs", "release"),
        ("reports", "list", "pods", "release"),
        ("reports", "get", "secrets", "release"),
        ("reports", "get", "configmaps", "release"),
    ],
)
def test_an_account_may_not(installed: Installed, name: str, verb: str, resource: str, place: str) -> None:
    assert not installed.can(name, verb, resource, installed.release if place == "release" else installed.crawls)


def test_an_account_may_do_its_own_work(installed: Installed) -> None:
    """So that a `no` above is no misspelt name."""
    assert installed.can("run", "create", "jobs", installed.crawls)
    assert installed.can("daemon", "create", "jobs", installed.release)
    assert installed.can("webserver", "delete", "pods", installed.release)
    assert installed.can("code", "delete", "jobs", installed.crawls)
