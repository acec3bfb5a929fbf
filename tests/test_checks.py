"""How partitioned checks behave in Dagster: what the platform's backfill policy and verdicts rest on.

Partitioned checks are in preview: when one of these fails after an upgrade, think docs/checks.md and assets/specs.py
through again; do not mend the test.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.specs import ONE_PARTITION_A_RUN
from demo import shop
from resources.lake import LakeIOManager
from tests.platform_runs import Installation
from tests.shop_sources import shop_sources

pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.PreviewWarning",  # partitioned checks: what is tested here
    "ignore::dagster.BetaWarning",  # backfill policies
)
DAYS = dg.DailyPartitionsDefinition("2026-11-01", end_date="2026-11-05")
KEY = dg.AssetKey("rows")


def checked_asset(policy: dg.BackfillPolicy) -> dg.Definitions:
    """An asset whose check fails on the second day only."""

    @dg.asset(
        key=KEY,
        partitions_def=DAYS,
        backfill_policy=policy,
        check_specs=[dg.AssetCheckSpec("good", asset=KEY, blocking=True, partitions_def=DAYS)],
    )
    def rows(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        yield dg.MaterializeResult()
        yield dg.AssetCheckResult(passed="2026-11-02" not in context.partition_keys)

    return dg.Definitions(assets=[rows])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def evaluations(result: dg.ExecuteInProcessResult) -> list[tuple[str | None, bool]]:
    return [(check.partition, check.passed) for check in result.get_asset_check_evaluations()]


def test_a_run_of_one_partition_records_the_partition_with_the_evaluation(instance: dg.DagsterInstance) -> None:
    job = checked_asset(ONE_PARTITION_A_RUN).resolve_implicit_global_asset_job_def()
    for key in ("2026-11-01", "2026-11-02"):
        result = job.execute_in_process(instance=instance, partition_key=key, raise_on_error=False)
        assert evaluations(result) == [(key, key != "2026-11-02")]


def test_a_run_over_a_range_records_one_evaluation_without_partition_so_no_run_is_given_a_range(
    instance: dg.DagsterInstance,
) -> None:
    job = checked_asset(dg.BackfillPolicy.single_run()).resolve_implicit_global_asset_job_def()
    # The tags with which a backfill gives a run its range.
    tags = {"dagster/asset_partition_range_start": "2026-11-01", "dagster/asset_partition_range_end": "2026-11-03"}
    result = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
    # One bad day of three: the good ones cannot be told from it.
    assert evaluations(result) == [(None, False)]
    assert ONE_PARTITION_A_RUN.max_partitions_per_run == 1


@pytest.mark.slow
def test_every_evaluation_of_the_platform_carries_its_partition(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    with shop.serve() as url:
        platform = Installation.at(tmp_path, shop_sources(tmp_path, url), instance)
        for day in ("2026-11-18", "2026-11-19"):
            result = platform.run("rates", day)
            assert result.success
            assert {partition for partition, _ in evaluations(result)} == {day}
    for asset in platform.defs.resolve_asset_graph().assets_defs:
        if any(key.path[0] not in ("marts", "quality") for key in asset.keys):
            assert asset.backfill_policy == ONE_PARTITION_A_RUN, asset.keys


# -- the IO manager ---------------------------------------------------------------------------------------------------


def test_an_asset_over_all_partitions_reads_them_as_one_frame_with_their_keys(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    @dg.asset(key=["clean", "prices"], partitions_def=DAYS, io_manager_key="lake_io")
    def prices(context: dg.AssetExecutionContext) -> pl.DataFrame:
        # A column that appears later, as sites do.
        late = {"discount": [1.5]} if context.partition_key > "2026-11-02" else {}
        return pl.DataFrame({"sku": [context.partition_key[-2:]], **late})

    seen: list[pl.DataFrame] = []

    @dg.asset(key=["enriched", "history"], ins={"rows": dg.AssetIn(["clean", "prices"])})
    def history(rows: pl.LazyFrame) -> None:
        seen.append(rows.collect())

    resources = {"lake_io": LakeIOManager(uri=str(tmp_path)), "io_manager": dg.mem_io_manager}
    for key in DAYS.get_partition_keys():
        dg.materialize([prices], instance=instance, partition_key=key, resources=resources)
    dg.materialize([prices, history], instance=instance, selection=[history], resources=resources)
    assert seen[0].sort("sku").rows() == [
        ("01", "2026-11-01", None),
        ("02", "2026-11-02", None),
        ("03", "2026-11-03", 1.5),
        ("04", "2026-11-04", 1.5),
    ]
