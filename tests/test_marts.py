"""The dbt marts as assets and the query connection: right numbers, rebuilt when they should be, readable meanwhile."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

import definitions
from assets.marts import build_dbt_resource, build_marts, ensure_manifest
from gossamer import declarations
from gossamer.errors import ConfigurationError, LakeError
from gossamer.lake import Lake
from gossamer.publish.duck import connect
from gossamer.settings import PROJECT, Settings
from tests import services
from tests.publications import REVIEW_FIELDS, declare, finish_and_publish, product, products, review

RATES = "{currency: str, rate: float}"
ALL = {"shop", "reviews", "rates"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped dbt project, parsed once, away from the repo's own."""
    folder = tmp_path_factory.mktemp("dbt") / "dbt_project"
    shutil.copytree(PROJECT / "dbt_project", folder, ignore=shutil.ignore_patterns("target", "logs"))
    return folder


@pytest.fixture
def settings(tmp_path: Path, project: Path) -> Settings:
    """An installation with the three sources declared and nothing published."""
    sources = tmp_path / "sources"
    (tmp_path / "it's here").mkdir()
    declare(sources, "shop")
    declare(sources, "reviews", "[review_id]", REVIEW_FIELDS)
    declare(sources, "rates", "[currency]", RATES)
    places = {
        "GOSSAMER_SOURCES": str(sources),
        "GOSSAMER_LAKE": str(tmp_path / "lake"),
        "GOSSAMER_WAREHOUSE": str(tmp_path / "it's here" / "warehouse.duckdb"),
        "GOSSAMER_DBT_PROJECT": str(project),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }
    return Settings.load(environ=places)


def publish_two_days(settings: Settings, reviews: bool = True) -> None:
    lake, declared = Lake(settings.lake), declarations.load(settings.sources)
    monday = [product("a", "10.00"), product("b", "20.00"), product("c", "5.00", category="books")]
    tuesday = [
        product("a", "12.50"),
        product("b", None, stock=0, category=None),
        product("d", "1.00", category="books", stock=None),
        product("e", "2.00", category=None),
    ]
    finish_and_publish(lake, declared["shop"], "2026-11-16", products(monday))
    finish_and_publish(lake, declared["shop"], "2026-11-17", products(tuesday))
    if reviews:
        first, changed = review(1, "a", 5), review(1, "a", 1)
        finish_and_publish(lake, declared["reviews"], "2026-11-16", products([first]))
        finish_and_publish(lake, declared["reviews"], "2026-11-17", products([changed, review(2, "a", 4)]))


def build(settings: Settings, names: set[str] = ALL) -> dg.ExecuteInProcessResult:
    return dg.materialize(build_marts(settings, names), resources={"dbt": build_dbt_resource(settings)})


def ask(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    with connect(settings) as connection:
        return connection.execute(sql).fetchall()


# -- the marts --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_marts_have_the_numbers_that_the_published_rows_give(settings: Settings) -> None:
    publish_two_days(settings)
    result = build(settings)
    assert result.success
    assert {e.asset_key.to_user_string() for e in result.get_asset_materialization_events() if e.asset_key} == {
        "marts/product_prices",
        "marts/category_prices",
        "marts/product_ratings",
    }
    checks = result.get_asset_check_evaluations()
    assert len(checks) == 11
    left = {path.name for path in (settings.dbt_project / "target").iterdir()}
    assert left == {"manifest.json", "partial_parse.msgpack"}
    assert all(check.passed for check in checks)
    monday, tuesday = date(2026, 11, 16), date(2026, 11, 17)
    prices = "select sku, day, price_eur, previous_day, change_eur, change_percent from marts.product_prices"
    assert ask(settings, f"{prices} order by sku, day") == [
        ("a", monday, 10.0, None, None, None),
        ("a", tuesday, 12.5, monday, 2.5, 25.0),
        ("b", monday, 20.0, None, None, None),
        ("b", tuesday, None, monday, None, None),
        ("c", monday, 5.0, None, None, None),
        ("d", tuesday, 1.0, None, None, None),
        ("e", tuesday, 2.0, None, None, None),
    ]
    categories = (
        "select day, category, products, priced_products, avg_price_eur, min_price_eur, max_price_eur, in_stock_share"
        " from marts.category_prices order by day, category"
    )
    assert ask(settings, categories) == [
        (monday, "books", 1, 1, 5.0, 5.0, 5.0, 1.0),
        (monday, "toys", 2, 2, 15.0, 10.0, 20.0, 1.0),
        (tuesday, "(none)", 2, 1, 2.0, 2.0, 2.0, 0.5),
        (tuesday, "books", 1, 1, 1.0, 1.0, 1.0, None),
        (tuesday, "toys", 1, 1, 12.5, 12.5, 12.5, 1.0),
    ]
    ratings = "select sku, name, last_seen, reviews, average_stars, last_review from marts.product_ratings order by sku"
    assert ask(settings, ratings)[:3] == [
        ("a", "Product a", tuesday, 2, 2.5, date(2026, 11, 2)),
        ("b", "Product b", tuesday, 0, None, None),
        ("c", "Product c", monday, 0, None, None),
    ]
    # On Monday the shop still showed a category of b.
    assert ask(settings, "select sku, category from marts.product_ratings where sku in ('a', 'b') order by 1") == [
        ("a", "toys"),
        ("b", None),
    ]


@pytest.mark.slow
def test_a_source_that_was_never_published_counts_as_empty(settings: Settings) -> None:
    assert build(settings).success
    assert ask(settings, "select count(*) from marts.product_prices") == [(0,)]
    publish_two_days(settings, reviews=False)
    assert build(settings).success
    assert ask(settings, "select count(*), sum(reviews) from marts.product_ratings") == [(5, 0)]


@pytest.mark.slow
def test_a_dbt_test_that_fails_is_a_failed_check_that_names_its_mart(settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "mine"
    shutil.copytree(PROJECT / "dbt_project", project, ignore=shutil.ignore_patterns("target"))
    model = project / "models" / "marts" / "category_prices.sql"
    model.write_text(model.read_text().replace("count(*) as products", "count(*) + 1 as products"))
    mine = Settings.load(environ={**settings.environ(), "GOSSAMER_DBT_PROJECT": str(project)})
    publish_two_days(mine)
    result = dg.materialize(build_marts(mine, ALL), resources={"dbt": build_dbt_resource(mine)}, raise_on_error=False)
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [(check.asset_key.to_user_string(), check.check_name) for check in failed] == [
        ("marts/category_prices", "every_product_is_in_a_category")
    ]


@pytest.mark.slow
def test_a_mart_over_an_undeclared_source_is_left_out_and_the_others_run(settings: Settings) -> None:
    (marts,) = build_marts(settings, {"shop", "rates"})
    assert {key.to_user_string() for key in marts.keys} == {"marts/product_prices", "marts/category_prices"}
    publish_two_days(settings, reviews=False)
    assert build(settings, {"shop", "rates"}).success
    assert ask(
        settings, "select table_name from information_schema.tables where table_schema = 'marts' order by 1"
    ) == [
        ("category_prices",),
        ("product_prices",),
    ]


def test_without_its_sources_there_are_no_marts(settings: Settings) -> None:
    assert build_marts(settings, {"books"}) == []


def test_a_misspelt_project_is_named_instead_of_silently_giving_no_marts(settings: Settings, tmp_path: Path) -> None:
    nowhere = Settings.load(environ={**settings.environ(), "GOSSAMER_DBT_PROJECT": str(tmp_path / "nowhere")})
    with pytest.raises(ConfigurationError, match=r"nowhere \(no dbt_project.yml\). Mend GOSSAMER_DBT_PROJECT"):
        build_marts(nowhere, ALL)


@pytest.fixture
def read_only(settings: Settings, project: Path, tmp_path: Path) -> Iterator[Settings]:
    """An installation whose dbt project may not be written; the file `target` keeps root out too."""
    folder = tmp_path / "mine"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("target"))
    (folder / "target").write_text("")
    folder.chmod(0o555)
    yield Settings.load(environ={**settings.environ(), "GOSSAMER_DBT_PROJECT": str(folder)})
    folder.chmod(0o755)


@pytest.mark.slow
def test_a_project_that_may_not_be_written_is_read_and_built_all_the_same(read_only: Settings) -> None:
    before = set(read_only.dbt_project.rglob("*"))
    publish_two_days(read_only)
    assert build(read_only).success
    assert ask(read_only, "select count(*) from marts.product_prices") == [(7,)]
    assert set(read_only.dbt_project.rglob("*")) == before
    made = ensure_manifest(read_only)
    assert made.is_relative_to(read_only.dagster_home / "dbt")
    assert {path.name for path in made.parent.iterdir()} == {"manifest.json", "partial_parse.msgpack"}
    assert ensure_manifest(read_only).stat().st_mtime_ns == made.stat().st_mtime_ns


def test_where_nothing_may_be_written_one_line_says_so(read_only: Settings) -> None:
    read_only.dagster_home.write_text("")
    with pytest.raises(
        ConfigurationError, match=r"can be written neither there nor to .*\. Make one of them writable\.\Z"
    ):
        build_marts(read_only, ALL)


def test_marts_stand_in_the_lineage_below_the_published_sources(settings: Settings) -> None:
    (marts,) = build_marts(settings, ALL)
    deps = {key.to_user_string(): {d.to_user_string() for d in deps} for key, deps in marts.asset_deps.items()}
    assert deps == {
        "marts/product_prices": {"published/shop"},
        "marts/category_prices": {"marts/product_prices"},
        "marts/product_ratings": {"marts/product_prices", "published/reviews"},
    }
    for spec in marts.specs:
        assert spec.group_name == "marts"
        assert spec.kinds == {"dbt", "duckdb"}
        columns = dg.TableSchema(columns=spec.metadata["dagster/column_schema"].columns).columns
        assert all(column.description for column in columns)
    assert marts.op.pool == "warehouse"


@pytest.mark.slow
def test_the_manifest_follows_the_project_and_is_not_made_twice(settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "mine"
    shutil.copytree(PROJECT / "dbt_project", project, ignore=shutil.ignore_patterns("target"))
    mine = Settings.load(environ={**settings.environ(), "GOSSAMER_DBT_PROJECT": str(project)})
    first = ensure_manifest(mine).stat().st_mtime_ns
    assert ensure_manifest(mine).stat().st_mtime_ns == first
    (project / "models" / "marts" / "product_ratings.sql").unlink()
    yaml = project / "models" / "marts" / "marts.yml"
    yaml.write_text(yaml.read_text().partition("  - name: product_ratings")[0])
    (marts,) = build_marts(mine, ALL)
    assert len(set(marts.keys)) == 2
    assert {path.name for path in (project / "target").iterdir()} == {"manifest.json", "partial_parse.msgpack"}


@pytest.mark.slow
def test_a_project_that_dbt_cannot_read_is_named_in_dbts_words(settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "mine"
    shutil.copytree(PROJECT / "dbt_project", project, ignore=shutil.ignore_patterns("target"))
    (project / "models" / "marts" / "broken.sql").write_text("select * from {{ ref('nothing_of_that_name') }}")
    mine = Settings.load(environ={**settings.environ(), "GOSSAMER_DBT_PROJECT": str(project)})
    with pytest.raises(ConfigurationError, match="nothing_of_that_name"):
        build_marts(mine, ALL)


@pytest.mark.slow
def test_two_dbt_sources_of_one_asset_are_named(settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "mine"
    shutil.copytree(PROJECT / "dbt_project", project, ignore=shutil.ignore_patterns("target"))
    with (project / "models" / "sources.yml").open("a") as file:
        file.write("      - {name: copied, config: {meta: {dagster: {asset_key: [published, shop]}}}}\n")
    refs = "select 1 as one from {{ source('published', 'shop') }}, {{ source('published', 'copied') }}"
    (project / "models" / "marts" / "both.sql").write_text(refs)
    mine = Settings.load(environ={**settings.environ(), "GOSSAMER_DBT_PROJECT": str(project)})
    with pytest.raises(ConfigurationError, match=r"(?s)identical Dagster asset keys.*published\.copied"):
        build_marts(mine, ALL)


@pytest.mark.slow
def test_a_broken_mart_takes_nothing_from_the_sources(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = tmp_path / "mine"
    shutil.copytree(PROJECT / "dbt_project", project, ignore=shutil.ignore_patterns("target"))
    (project / "models" / "marts" / "broken.sql").write_text("select * from {{ ref('nothing_of_that_name') }}")
    mine = Settings.load(environ={**settings.environ(), "GOSSAMER_DBT_PROJECT": str(project)})
    defs = definitions.build_defs(mine)
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert {"raw/shop", "published/reviews"} <= keys
    assert not any(key.startswith("marts/") for key in keys)
    assert "Left out: marts. dbt cannot read the project" in caplog.text
    assert "nothing_of_that_name" in str(defs.metadata["left out: marts"].value)


# -- automation -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lineage(settings: Settings) -> dg.Definitions:
    """The marts below published sources with many partitions, most of them never materialised."""
    days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-11-18")
    published = [dg.AssetSpec(["published", name], partitions_def=days) for name in ("shop", "reviews", "rates")]
    marts = build_marts(settings, ALL)
    return dg.Definitions(assets=[*published, *marts], resources={"dbt": build_dbt_resource(settings)})


def materialise(instance: dg.DagsterInstance, *path: str, day: str | None = None) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(list(path), partition=day))


class Ticks:
    """An automation sensor's ticks: which marts each requests."""

    def __init__(self, lineage: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.lineage, self.instance = lineage, instance
        self.cursor: Any = None

    def requested(self) -> set[str]:
        result = dg.evaluate_automation_conditions(
            self.lineage,
            instance=self.instance,
            asset_selection=dg.AssetSelection.groups("marts"),
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        marts = ("product_prices", "category_prices", "product_ratings")
        return {name for name in marts if result.get_num_requested(dg.AssetKey(["marts", name]))}


EVERY = {"product_prices", "category_prices", "product_ratings"}


def rebuilt(instance: dg.DagsterInstance) -> None:
    for name in EVERY:
        materialise(instance, "marts", name)


def test_one_published_day_of_many_rebuilds_the_marts_once(lineage: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(lineage, instance)
        assert ticks.requested() == set()  # nothing is published
        materialise(instance, "published", "shop", day="2026-11-16")
        assert ticks.requested() == EVERY
        assert ticks.requested() == set()
        rebuilt(instance)
        assert ticks.requested() == set()
        materialise(instance, "published", "shop", day="2026-11-17")
        assert ticks.requested() == EVERY
        rebuilt(instance)
        assert ticks.requested() == set()
        materialise(instance, "published", "shop", day="2026-11-17")  # published again
        assert ticks.requested() == EVERY


def test_a_source_rebuilds_only_the_marts_that_read_it(lineage: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(lineage, instance)
        materialise(instance, "published", "shop", day="2026-11-16")
        ticks.requested()
        rebuilt(instance)
        ticks.requested()
        materialise(instance, "published", "rates", day="2026-11-16")
        assert ticks.requested() == set()
        materialise(instance, "published", "reviews", day="2026-11-16")
        assert ticks.requested() == {"product_ratings"}


def test_what_was_published_before_the_first_look_is_built_too(lineage: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        materialise(instance, "published", "shop", day="2026-11-16")
        ticks = Ticks(lineage, instance)
        assert ticks.requested() == EVERY
        assert ticks.requested() == set()  # even if the rebuild failed: the next publication asks again
        materialise(instance, "published", "shop", day="2026-11-17")
        assert ticks.requested() == EVERY


# -- the query connection ---------------------------------------------------------------------------------------------


def test_published_sources_are_views_before_any_mart_was_built(settings: Settings) -> None:
    publish_two_days(settings)
    assert ask(settings, "select partition_key, count(*) from shop group by 1 order by 1") == [
        ("2026-11-16", 3),
        ("2026-11-17", 4),
    ]
    with pytest.raises(duckdb.CatalogException, match="rates"):
        ask(settings, "select * from rates")


def test_what_was_published_can_be_asked_when_the_declaration_is_broken_or_gone(settings: Settings) -> None:
    publish_two_days(settings)
    (settings.sources / "shop" / "source.yaml").write_text("name: [")
    shutil.rmtree(settings.sources / "reviews")
    assert ask(settings, "select (select count(*) from shop), (select count(*) from reviews)") == [(7, 3)]


def test_a_damaged_table_is_named_and_the_others_can_still_be_asked(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    publish_two_days(settings)
    for log in (Path(Lake(settings.lake).table_url("reviews")) / "_delta_log").glob("*.json"):
        log.write_text("not json\n")
    assert ask(settings, "select count(*) from shop") == [(7,)]
    (warning,) = caplog.messages
    assert warning.startswith("reviews cannot be asked. The published table ")
    assert "published/reviews" in warning
    with pytest.raises(duckdb.CatalogException, match="reviews"):
        ask(settings, "select * from reviews")


def test_a_connection_sees_the_newest_publication(settings: Settings) -> None:
    lake, declared = Lake(settings.lake), declarations.load(settings.sources)
    for rows in ([product("a")], [product("b"), product("c")]):
        finish_and_publish(lake, declared["shop"], "2026-11-16", products(rows))
        assert ask(settings, "select count(*) from shop") == [(len(rows),)]


@pytest.mark.slow
def test_a_question_can_neither_write_nor_read_other_files(settings: Settings, tmp_path: Path) -> None:
    publish_two_days(settings)
    assert build(settings).success
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    local_frame = products([product("a")])
    assert local_frame.height == 1
    for sql in (
        f"copy (select 1) to '{tmp_path / 'out.csv'}'",
        f"select * from '{tmp_path / 'secret.csv'}'",
        f"attach '{tmp_path / 'other.duckdb'}'",
        "delete from warehouse.marts.product_prices",
        "drop table warehouse.marts.product_prices",
        "set enable_external_access = true",
        "select * from local_frame",
    ):
        with pytest.raises(duckdb.Error):
            ask(settings, sql)
    assert not (tmp_path / "out.csv").exists()


class _Writer:
    """Another process that has the warehouse open for writing, as a dbt run does."""

    def __init__(self, warehouse: Path) -> None:
        code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('locked', flush=True); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"locked\n"

    def stop(self) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture
def writer(settings: Settings) -> Iterator[_Writer]:
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("create schema marts; create table marts.answer as select 42 as number")
    writer = _Writer(settings.warehouse)
    yield writer
    if writer.process.poll() is None:
        writer.process.kill()
        writer.stop()


def test_a_question_waits_while_the_marts_are_being_built(settings: Settings, writer: _Writer) -> None:
    release = threading.Timer(0.5, writer.stop)
    release.start()
    assert ask(settings, "select number from marts.answer") == [(42,)]
    release.join()


def test_a_warehouse_that_stays_locked_is_told_in_words(settings: Settings, writer: _Writer) -> None:
    with pytest.raises(LakeError, match=r"locked for 0 s: the marts are being built.*Ask again"):
        connect(settings, patience_s=0.3)


def test_a_damaged_warehouse_is_told_with_its_remedy(settings: Settings) -> None:
    settings.warehouse.write_bytes(b"not a database" * 1000)
    with pytest.raises(LakeError, match="remove the file first"):
        connect(settings)


# -- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.service
def test_on_s3_the_marts_are_built_and_queried_as_on_a_disk(
    settings: Settings, s3: services.S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.env().items():
        monkeypatch.setenv(name, value)
    lake = f"s3://{s3.bucket}/{tmp_path.name}"
    cloud = Settings.load(environ={**settings.environ(), "GOSSAMER_LAKE": lake})
    publish_two_days(cloud)
    assert build(cloud).success
    assert ask(cloud, "select count(*), sum(change_eur) from marts.product_prices") == [(7, 2.5)]
    assert ask(cloud, "select sku from shop where partition_key = '2026-11-16' and price_eur > 9 order by 1") == [
        ("a",),
        ("b",),
    ]
