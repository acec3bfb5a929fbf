"""The image, in a pod as restricted as production's: it loads everything, writes nowhere it may not, and crawls."""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from demo.shop import shop_records
from gossamer.lake import Lake
from gossamer.settings import PROJECT
from tests.house import KEY, House
from tests.k8s import pods
from tests.k8s.cluster import Cluster
from tests.k8s.servers import S3Server, Shop

SEEDS = "http://127.0.0.1:8765"
START_SECONDS = 60
CRAWL_SECONDS = 120

LOAD = """
import importlib.util, json, os, pathlib, sys, time
began = time.monotonic()
import definitions
loaded = definitions.defs()
seconds = time.monotonic() - began
folders = ["/", "/app", "/app/dbt_project/target", "/tmp", "/opt/dagster", "/scratch"]
def can_write(folder):
    try:
        pathlib.Path(folder, "probe").write_text("")
        return True
    except OSError:
        return False
unwanted = [name for name in ("setuptools", "uv", "pip") if importlib.util.find_spec(name)]
uncompiled = [
    spec.name for module in sys.modules.values()
    if (spec := vars(module).get("__spec__")) and (spec.origin or "").endswith(".py")
    and not spec.origin.startswith("/app/sources") and not os.path.exists(spec.cached)
]
print(json.dumps({
    "seconds": round(seconds, 1),
    "jobs": sorted(job.name for job in loaded.jobs),
    "marts": sum(asset.key.path[0] == "marts" for asset in loaded.resolve_all_asset_specs()),
    "user": os.getuid(),
    "writable": [folder for folder in folders if can_write(folder)],
    "unwanted": unwanted,
    "uncompiled": uncompiled[:5],
    "home": sorted(os.listdir("/opt/dagster")),
}))
"""


def finished(cluster: Cluster, namespace: str, name: str, seconds: float) -> Any:
    """The pod of a Job that succeeded."""

    def ended() -> Any:
        found = cluster.pods(namespace, f"job-name={name}")
        return found[-1] if found and found[-1].status.phase in ("Succeeded", "Failed") else None

    pod = cluster.wait_for(f"the end of {name}", ended, seconds=seconds, namespace=namespace)
    assert pod.status.phase == "Succeeded", f"{name} failed: its log is shown below"
    return pod


def test_the_code_location_loads_on_a_read_only_root_and_nothing_is_parsed_or_compiled_again(
    cluster: Cluster, image: str, namespace: str
) -> None:
    cluster.apply(pods.job("load", image, ["python", "-c", LOAD]), namespace=namespace)
    pod = finished(cluster, namespace, "load", START_SECONDS)
    seen = json.loads(cluster.logs(namespace, pod.metadata.name).splitlines()[-1])
    print(f"definitions loaded in {seen.pop('seconds')} s")
    assert {"shop", "rates", "reviews"} <= set(seen.pop("jobs"))
    assert seen == {
        "marts": 3,
        "user": 10001,
        "writable": ["/opt/dagster", "/scratch"],
        "unwanted": [],
        "uncompiled": [],
        "home": ["probe"],  # dbt's manifest would be here, had it been made again
    }


def test_the_command_line_is_in_the_image(cluster: Cluster, image: str, namespace: str) -> None:
    cluster.apply(pods.job("help", image, ["gossamer", "--help"]), namespace=namespace)
    pod = finished(cluster, namespace, "help", START_SECONDS)
    assert "Usage: gossamer" in cluster.logs(namespace, pod.metadata.name)


def test_a_crawl_in_a_pod_with_its_lake_on_s3_yields_the_rows_of_a_local_crawl(
    cluster: Cluster,
    image: str,
    namespace: str,
    shop: Shop,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there, here = House(tmp_path / "there"), House(tmp_path / "here")
    for house, url in ((there, shop.url), (here, shop.here)):
        for name in ("shop", "rates"):
            folder = house.settings.sources / name
            shutil.copytree(PROJECT / "sources" / name, folder)
            declaration = folder / "source.yaml"
            declaration.write_text(declaration.read_text().replace(SEEDS, url))
    cluster.apply(
        *(pods.source_map(there.settings.sources / name) for name in ("shop", "rates")),
        pods.job(
            "crawl",
            image,
            ["python", "-m", "gossamer.crawl", "--source", "shop", "--partition", KEY],
            env={
                **s3.pods.env(),
                "GOSSAMER_LAKE": f"s3://{s3.here.bucket}/{namespace}",
                "GOSSAMER_SOURCES": pods.SOURCES,
                "GOSSAMER_PARKING": "continuous",
            },
            sources=["shop", "rates"],
            memory="512Mi",
        ),
        namespace=namespace,
    )
    pod = finished(cluster, namespace, "crawl", CRAWL_SECONDS)
    started = pod.status.container_statuses[0].state.terminated.started_at.timestamp()
    print(f"first request {shop.asked()[0].at - started:.1f} s after the container's start, which is in whole seconds")

    here.crawl("shop")
    for name, value in s3.here.env().items():
        monkeypatch.setenv(name, value)
    in_pod = Lake(f"s3://{s3.here.bucket}/{namespace}")
    crawled = rows(in_pod, shop.url)
    assert {row["sku"] for row in crawled} >= {row["sku"] for row in shop_records(date.fromisoformat(KEY), shop.url)}
    assert crawled == rows(here.lake, shop.here)


def rows(lake: Lake, url: str) -> list[dict[str, Any]]:
    """What the spider yielded, without the address of the site and what no two crawls share."""
    frame = lake.scan("raw", "shop", KEY).collect()
    fields = [name for name in frame.columns if not name.startswith("_")]
    frame = frame.select(fields).with_columns(pl.col(pl.String).str.replace(url, "http://shop", literal=True))
    return frame.sort("sku").to_dicts()
