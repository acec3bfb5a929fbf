"""What Dagster is told: every spec of the shipped sources, broken and selected sources, schedules and chains."""

import logging
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

import definitions
import partitions
from gossamer.partition import Partitions
from gossamer.settings import PROJECT, Settings
from resources.mongo import MongoResource


def settings_of(folder: Path, **more: str) -> Settings:
    """An installation of its own below `folder`, with the shipped sources."""
    places = {"GOSSAMER_LAKE": str(folder / "lake"), "DAGSTER_HOME": str(folder / "dagster"), **more}
    return Settings.load(environ={"GOSSAMER_SOURCES": str(PROJECT / "sources"), **places})


def described(defs: dg.Definitions) -> dict[str, Any]:
    """Every asset, check, job, schedule and sensor as plain data, without what changes with the code or the machine."""
    graph = defs.resolve_asset_graph()
    assets = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        assets[key.to_user_string()] = {
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "owners": list(node.owners),
            "tags": {name: value for name, value in node.tags.items() if not name.startswith("dagster/")},
            "partitions": type(node.partitions_def).__name__ if node.partitions_def else None,
            "backfill": str(node.backfill_policy) if node.backfill_policy else None,
            "pools": sorted(node.pools or []),
            "has_code_version": bool(node.code_version),
            "automation": node.automation_condition.get_label() if node.automation_condition else None,
            "checks": {
                check.name: {
                    "blocking": graph.get(check).blocking,
                    "partitioned": graph.get(check).partitions_def is not None,
                }
                for check in sorted(graph.get_check_keys_for_assets({key}))
            },
        }
    repository = defs.get_repository_def()
    return {
        "assets": assets,
        "jobs": sorted(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")),
        "schedules": {
            schedule.name: [schedule.cron_schedule, schedule.execution_timezone, schedule.default_status.value]
            for schedule in repository.schedule_defs
        },
        "sensors": {
            sensor.name: [type(sensor).__name__, sensor.minimum_interval_seconds, sensor.default_status.value]
            for sensor in repository.sensor_defs
        },
    }


def test_the_specs_of_the_shipped_sources_change_only_on_purpose(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    defs = definitions.build_defs(settings_of(tmp_path))
    assert described(defs) == snapshot(extension_class=JSONSnapshotExtension)


def test_mongodb_assets_exist_only_where_a_connection_is_configured(tmp_path: Path) -> None:
    without = definitions.build_defs(settings_of(tmp_path))
    configured = definitions.build_defs(settings_of(tmp_path, GOSSAMER_MONGO_URI="mongodb://user:secret@db/shop"))
    assert not any(key.path[0] == "mongo" for key in without.resolve_asset_graph().get_all_asset_keys())
    assert dg.AssetKey(["mongo", "shop"]) in configured.resolve_asset_graph().get_all_asset_keys()
    # What Dagster can show of the resource: the variable's name, not what it holds.
    resource = configured.resources["mongo"] if configured.resources else None
    assert isinstance(resource, MongoResource)
    assert "secret" not in repr(resource)
    assert resource.model_dump()["uri"] == "GOSSAMER_MONGO_URI"


def test_one_broken_source_is_left_out_with_a_warning_and_takes_nothing_from_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = shutil.copytree(PROJECT / "sources", tmp_path / "sources")
    declaration = sources / "rates" / "source.yaml"
    declaration.write_text(declaration.read_text() + "colour: blue\n")
    with caplog.at_level(logging.WARNING, "gossamer"):
        defs = definitions.build_defs(settings_of(tmp_path, GOSSAMER_SOURCES=str(sources)))
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert "raw/rates" not in keys
    assert {"raw/shop", "enriched/shop", "raw/reviews"} <= keys
    assert f"{declaration}:" in caplog.text
    assert "colour: unknown field" in caplog.text
    assert any("colour" in str(value.value) for value in defs.metadata.values())


def test_an_entry_of_the_workspace_can_name_a_selection_or_a_folder(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace.yaml"
    place = "module_name: definitions, working_directory: {0}, location_name: {1}, attribute: '{2}'"
    entry = f"  - python_module: {{{{{place}}}}}\n"
    shutil.copytree(PROJECT / "sources" / "rates", tmp_path / "more" / "rates")
    workspace.write_text(
        "load_from:\n"
        + entry.format(PROJECT, "shops", "only=shop, rat*")
        + entry.format(PROJECT, "more", f"folder={tmp_path / 'more'}")
    )
    environ = {**os.environ, **settings_of(tmp_path).environ(), "PYTHONWARNINGS": "ignore"}
    (tmp_path / "dagster").mkdir()
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(workspace)]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    names = {key.path[1] for key in getattr(definitions, "only=shop, rat*").resolve_asset_graph().get_all_asset_keys()}
    assert {"shop", "rates"} <= names
    assert "reviews" not in names
    with pytest.raises(AttributeError, match="use defs, only=NAMES or folder=PATH"):
        _ = definitions.nothing_of_that_name


def test_the_shipped_workspace_is_valid(tmp_path: Path) -> None:
    environ = {**os.environ, **settings_of(tmp_path).environ(), "PYTHONWARNINGS": "ignore"}
    (tmp_path / "dagster").mkdir()
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    run = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_loading_imports_no_spider_and_nothing_that_is_slow(tmp_path: Path) -> None:
    code = (
        "import sys, definitions; definitions.build_defs().get_repository_def();"
        "slow = {'scrapy', 'twisted', 'great_expectations', 'pandas', 'pyarrow', 'duckdb', 'deltalake', 'dateparser',"
        " 'price_parser', 'pymongo', 'dbt.cli.main'};"
        "print(sorted(slow & set(sys.modules)), [m for m in sys.modules if m.split('.')[-1] == 'spider'])"
    )
    environ = {**os.environ, **settings_of(tmp_path).environ(), "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.strip().splitlines()[-1:] == ["[] []"], run.stdout + run.stderr


# -- partitions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "declared",
    [
        {"period": "daily", "start": "2026-10-20", "timezone": "Europe/Berlin"},
        {"period": "hourly", "start": "2026-11-19"},
        {"period": "weekly", "start": "2026-10-01"},
        {"period": "monthly", "start": "2025-01-01", "timezone": "America/Sao_Paulo"},
        {"segments": ["toys", "books.uk"]},
        {"period": "daily", "start": "2026-11-18", "segments": ["a", "b"]},
        {"period": "daily", "start": "2026-11-01", "end": "2026-11-05"},
    ],
    ids=str,
)
def test_dagster_and_the_engine_agree_on_partition_keys(declared: dict[str, Any]) -> None:
    spec = Partitions.model_validate(declared)
    keys = list(partitions.build(spec).get_partition_keys())
    assert keys
    for key in keys:
        assert spec.parse(key).key == key
    if "end" not in declared:
        assert set(spec.current_keys(datetime.now(UTC))) <= set(keys)


# -- schedules and chains ---------------------------------------------------------------------------------------------


def test_a_schedule_requests_the_partition_of_its_tick(tmp_path: Path) -> None:
    repository = definitions.build_defs(settings_of(tmp_path)).get_repository_def()
    tick = datetime(2026, 11, 20, 5, tzinfo=UTC)
    with dg.build_schedule_context(scheduled_execution_time=tick, repository_def=repository) as context:
        data = repository.get_schedule_def("shop_schedule").evaluate_tick(context)
    assert [request.partition_key for request in data.run_requests or []] == ["2026-11-20"]


def test_a_publication_requests_the_chained_crawl_once(tmp_path: Path) -> None:
    repository = definitions.build_defs(settings_of(tmp_path)).get_repository_def()
    sensor = repository.get_sensor_def("reviews_chain")
    published = dg.AssetKey(["published", "shop"])
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str | None) -> tuple[list[str | None], str | None]:
            with dg.build_sensor_context(instance, cursor=cursor, repository_def=repository) as context:
                data = sensor.evaluate_tick(context)
                return [request.partition_key for request in data.run_requests or []], data.cursor

        assert tick(None) == ([], None)
        for day in ("2026-11-19", "2026-11-20", "2026-11-20"):
            instance.report_runless_asset_event(dg.AssetMaterialization(published, partition=day))
        requested, cursor = tick(None)
        assert requested == ["2026-11-19", "2026-11-20"]
        assert tick(cursor) == ([], cursor)
        # One before the first partition of the chained source (its start was moved) is passed over, not stuck on.
        for day in ("2025-12-31", "2026-11-19"):
            instance.report_runless_asset_event(dg.AssetMaterialization(published, partition=day))
        assert tick(cursor)[0] == ["2026-11-19"]
