"""What one look of the reaper costs with a thousand Jobs on a real cluster.

The Jobs are suspended: they have no pods. In a namespace that is made for it, and removed. Measured are ticks of the
sensor, as Dagster's daemon has them: with a thousand runs that are active, and then with a thousand that were
cancelled, whose Jobs are removed. It takes some minutes, most of them for making the Jobs.

    python -m benchmarks.reaper [--jobs N]      (the cluster of KUBECONFIG)
"""

import argparse
import json
import secrets
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import yaml
from kubernetes import client, config

from gossamer.cluster.config import Cluster
from gossamer.cluster.jobs import Jobs
from gossamer.crawl.host import Order
from gossamer.crawl.identity import Crawl
from gossamer.settings import Settings
from gossamer.source import Source, SourceSpec
from resources.kubernetes import build_job
from sensors.reaper import build_reaper_sensor

MOST_TICKS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    count = parser.parse_args().jobs
    namespace = f"gossamer-bench-{secrets.token_hex(3)}"
    core = client.CoreV1Api(config.new_client_from_config())
    core.create_namespace({"metadata": {"name": namespace}})
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_measured(Path(folder), namespace, count), indent=1))
    finally:
        core.delete_namespace(namespace)


def _measured(folder: Path, namespace: str, count: int) -> dict[str, float]:
    (folder / "crawls.yaml").write_text(yaml.safe_dump({"namespace": namespace, "image": "gossamer:1"}))
    places = {"GOSSAMER_LAUNCHER": "kubernetes", "GOSSAMER_KUBERNETES": str(folder / "crawls.yaml")}
    settings = Settings.load(lake=str(folder / "lake"), environ=places)
    cluster = Cluster.load(folder / "crawls.yaml")
    sensor = build_reaper_sensor(settings)
    # On disk, as on a laptop; a database on another machine takes about as long.
    (folder / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(folder / "dagster")) as instance, Jobs(cluster) as jobs:
        runs = [_run(instance) for _ in range(count)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: _create(jobs, cluster, settings.lake, *pair), enumerate(runs)))
        _, first = _tick(sensor, instance, None)
        seconds, cursor = _tick(sensor, instance, first)
        told: dict[str, float] = {
            "jobs": count,
            "a look, all active, s": round(seconds, 2),
            "cursor, bytes": len(cursor),
        }
        for run in runs:
            instance.report_run_canceled(run)
        spent: list[float] = []
        while jobs.all() and len(spent) < MOST_TICKS:
            seconds, cursor = _tick(sensor, instance, cursor)
            spent.append(seconds)
        return told | {"ticks to clear all, cancelled": len(spent), "those ticks, s": round(sum(spent), 1)}


def _run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    run = dg.DagsterRun(job_name="shop", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
    return instance.add_run(run)


def _create(jobs: Jobs, cluster: Cluster, lake: str, number: int, run: dg.DagsterRun) -> None:
    spec = {
        "name": "shop",
        "spider": "spider:S",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": "id", "fields": {"id": "str"}},
    }
    order = Order(
        Source(SourceSpec.model_validate(spec, by_alias=True, by_name=False), Path("shop")),
        Crawl("shop", f"partition-{number}", 1),
        run=run.run_id,
        root_run=run.run_id,
        pages=None,
        tell=lambda: None,
        cancel=lambda: False,
        is_overdue=lambda _: False,
        say=lambda _: None,
        silence=lambda: 0.0,
        deaths=list,
    )
    job = build_job(cluster, order, 1, "512Mi", lake)
    job.spec.suspend = True
    jobs.create(job)


def _tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None) -> tuple[float, str]:
    """Its seconds, and the cursor after it."""
    began = time.perf_counter()
    with dg.build_sensor_context(instance, cursor=cursor) as context:
        data = sensor.evaluate_tick(context)
    return time.perf_counter() - began, data.cursor or ""


if __name__ == "__main__":
    main()
