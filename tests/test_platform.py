"""The shop through Dagster, well and badly: what is published, what is refused, and in which words."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from demo import shop
from gossamer import acceptance
from gossamer.crawl import life
from gossamer.crawl.life import CrawlState
from gossamer.crawl.progress import read_progress
from gossamer.publish.duck import connect
from gossamer.publish.tables import history
from gossamer.settings import PROJECT
from tests import services
from tests.platform_runs import Installation, why
from tests.shop_sources import shop_sources

TODAY = datetime.now(UTC).date()
DAY = str(TODAY - timedelta(days=1))


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with shop.serve() as url:
        yield url


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def platform(tmp_path: Path, site: str, instance: dg.DagsterInstance) -> Installation:
    return Installation.at(tmp_path, shop_sources(tmp_path, site), instance)


def rows(platform: Installation, source: str, key: str = DAY) -> pl.DataFrame:
    """What a reader sees of a partition; no rows where nothing was ever published."""
    published = platform.lake.scan_published(source, key)
    return pl.DataFrame() if published is None else published.collect()


def rewrite(platform: Installation, file: str, old: str, new: str) -> None:
    """Edits a file of a source, as its author would."""
    path = platform.settings.sources / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def spider(platform: Installation, source: str, code: str) -> None:
    (platform.settings.sources / source / "spider.py").write_text(f"import os, signal\nimport scrapy\n{code}")


def negate_rates(platform: Installation) -> None:
    """Breaks the rates as a wrong transform would: its suite wants them positive."""
    (platform.settings.sources / "rates" / "transform.py").write_text(
        "import polars as pl\ndef clean(frame, context):\n    return frame.with_columns(rate=-pl.col('rate'))\n"
    )


# -- well -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_shop_becomes_published_rows_and_marts_that_equal_the_truth(platform: Installation, site: str) -> None:
    for job in ("rates", "shop", "reviews"):
        result = platform.run(job, DAY)
        assert result.success, why(result)
    day = datetime.fromisoformat(DAY).date()
    truth = {record["sku"]: record for record in shop.shop_records(day, site)}
    found = {row["sku"]: row for row in rows(platform, "shop").iter_rows(named=True)}
    assert found.keys() == truth.keys()
    for sku, record in truth.items():
        assert {name: found[sku][name] for name in record} == record
    for product in shop.products(day):
        assert found[product.sku]["price_eur"] == pytest.approx(shop.price_in_euros(product, day), abs=0.011)
    reviews = {record["review_id"] for record in shop.review_records(day)}
    assert set(rows(platform, "reviews")["review_id"]) == reviews

    result = platform.run("marts")
    assert result.success, why(result)
    with connect(platform.settings) as connection:
        by_category = dict(connection.execute("select category, products from marts.category_prices").fetchall())
        reviewed = connection.execute("select sum(reviews) from marts.product_ratings").fetchone()
    expected: dict[str, int] = {}
    for record in truth.values():
        expected[record["category"]] = expected.get(record["category"], 0) + 1
    assert by_category == expected
    assert reviewed == (len(reviews),)


@pytest.mark.slow
@pytest.mark.service
def test_the_same_runs_work_on_a_lake_in_s3(
    tmp_path: Path, site: str, instance: dg.DagsterInstance, s3: services.S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.env().items():
        monkeypatch.setenv(name, value)
    lake = f"s3://{s3.bucket}/{tmp_path.name}"
    platform = Installation.at(tmp_path, shop_sources(tmp_path, site), instance, GOSSAMER_LAKE=lake)
    for job in ("rates", "shop"):
        result = platform.run(job, DAY)
        assert result.success, why(result)
    assert rows(platform, "shop").height == len(shop.shop_records(datetime.fromisoformat(DAY).date(), site))


def test_crawling_a_partition_again_replaces_it_and_doubles_nothing(platform: Installation) -> None:
    for _ in range(2):
        assert platform.run("rates", DAY).success
    assert rows(platform, "rates").height == len(shop.rates(datetime.fromisoformat(DAY).date()))
    assert platform.lake.current("raw", "rates", DAY).crawl_id == f"rates/{DAY}/2"


# -- badly: never green, never published ------------------------------------------------------------------------------


def refused(platform: Installation, source: str = "rates") -> str:
    """Runs the source; asserts that nothing reached a reader; gives the cause in words."""
    result = platform.run(source, DAY)
    assert not result.success
    assert rows(platform, source).is_empty()
    return why(result)


def test_a_site_that_is_down_is_a_failed_check_that_says_so(platform: Installation, site: str) -> None:
    rewrite(platform, "rates/source.yaml", site, "http://127.0.0.1:9")
    words = refused(platform)
    assert "books_closed" in words
    assert "refused" in words


def test_an_incomplete_crawl_is_refused_shown_and_leaves_the_partition_that_is_there(platform: Installation) -> None:
    assert platform.run("rates", DAY).success
    before, raw = rows(platform, "rates"), platform.lake.current("raw", "rates", DAY)
    spider(
        platform,
        "rates",
        "class RatesSpider(scrapy.Spider):\n    name = 'rates'\n    def parse(self, response):\n"
        "        yield {'currency': 'EUR'}\n        raise KeyError('the table moved')\n",
    )
    result = platform.run("rates", DAY)
    assert not result.success and "parse_error" in why(result)
    (shown,) = (m for m in result.get_asset_materialization_events() if m.asset_key == dg.AssetKey(["raw", "rates"]))
    about = shown.step_materialization_data.materialization.metadata
    assert f"/incomplete/rates/{DAY}.parquet" in str(about["object"].value)
    assert about["dagster/row_count"].value == 1
    assert platform.lake.current("raw", "rates", DAY) == raw
    for layer in ("clean", "enriched", "published"):
        assert platform.materialise(f"{layer}/rates", DAY).success, "the layers read the last complete crawl"
    key = ["currency"]
    assert rows(platform, "rates").sort(key).equals(before.sort(key))


def test_publishing_what_no_complete_crawl_ever_brought_says_what_failed(platform: Installation, site: str) -> None:
    rewrite(platform, "rates/source.yaml", site, "http://127.0.0.1:9")
    assert not platform.run("rates", DAY).success
    result = platform.materialise("published/rates", DAY)
    assert not result.success
    assert "books_closed: 1 of 1 seed without an answer" in why(result)


def test_a_spider_that_raises_is_a_failed_check_with_the_exception(platform: Installation) -> None:
    spider(
        platform,
        "rates",
        "class RatesSpider(scrapy.Spider):\n    name = 'rates'\n"
        "    def parse(self, response):\n        raise KeyError('the table moved')\n",
    )
    words = refused(platform)
    assert "parse_error" in words


def test_a_spider_that_does_not_import_fails_the_step_with_file_and_line(platform: Installation) -> None:
    spider(platform, "rates", "import nothing_of_that_name\n")
    words = refused(platform)
    assert "nothing_of_that_name" in words
    assert "spider.py" in words


def test_a_spider_that_yields_nothing_is_a_failed_check(platform: Installation) -> None:
    spider(
        platform,
        "rates",
        "class RatesSpider(scrapy.Spider):\n    name = 'rates'\n    def parse(self, response):\n        return None\n",
    )
    assert "no record" in refused(platform)


@pytest.mark.slow
def test_a_page_on_which_the_process_dies_is_set_aside_and_the_run_names_it(platform: Installation) -> None:
    spider(
        platform,
        "rates",
        "class RatesSpider(scrapy.Spider):\n    name = 'rates'\n"
        "    def parse(self, response):\n        os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    assert "process_died" in refused(platform)
    assert platform.lake.manifest("raw", "rates", DAY) is None


def test_a_suite_that_is_no_json_is_told_before_anything_is_crawled(platform: Installation) -> None:
    (platform.settings.sources / "rates" / "expectations.json").write_text("{")
    assert "is not JSON" in refused(platform)
    assert platform.lake.manifest("incomplete", "rates", DAY) is None


def test_a_failed_expectation_keeps_the_last_good_version_and_names_rows(platform: Installation) -> None:
    assert platform.run("rates", DAY).success
    before = rows(platform, "rates")
    negate_rates(platform)
    result = platform.run("rates", DAY)
    assert not result.success
    assert "expectations_critical" in why(result)
    assert "rate" in why(result)
    assert rows(platform, "rates").equals(before)


def test_materialising_published_alone_cannot_bypass_a_failed_check(platform: Installation) -> None:
    negate_rates(platform)
    assert not platform.run("rates", DAY).success
    for selection in ("enriched/rates,published/rates", "published/rates"):
        result = platform.materialise(selection, DAY)
        assert not result.success
        assert "expectations_critical" in why(result)
    assert rows(platform, "rates").is_empty()


def recheck(platform: Installation, *keys: str) -> dg.ExecuteInProcessResult:
    asked = {"source": "rates", "partitions": list(keys)}
    return platform.run("recheck", run_config={"ops": {"recheck_partitions": {"config": asked}}})


def accept(platform: Installation, reason: str, **more: Any) -> dg.ExecuteInProcessResult:
    asked = {"source": "rates", "partition": DAY, "reason": reason, "by": "ann", **more}
    return platform.run("accept_partition", run_config={"ops": {"accept": {"config": asked}}})


def test_after_a_transform_is_mended_partitions_are_published_without_a_crawl(platform: Installation) -> None:
    negate_rates(platform)
    assert not platform.run("rates", DAY).success
    crawled = platform.lake.version("raw", "rates", DAY)
    again = recheck(platform)
    assert not again.success and f"1 of 1 partitions are not published as they are now: {DAY}" in why(again)
    (platform.settings.sources / "rates" / "transform.py").unlink()
    again = recheck(platform)
    assert again.success, why(again)
    assert not rows(platform, "rates").is_empty() and platform.lake.version("raw", "rates", DAY) == crawled
    newest = platform.instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(dg.AssetKey(["clean", "rates"]), "expectations_critical")
    )
    assert newest and newest.event and newest.event.asset_check_evaluation
    assert newest.event.asset_check_evaluation.partition == DAY, "also where many are judged in one process"


def test_a_person_publishes_what_failed_with_a_reason_that_stays_with_it(platform: Installation) -> None:
    assert "nothing to accept" not in why(accept(platform, "")) and "Say why" in why(accept(platform, ""))
    negate_rates(platform)
    assert not platform.run("rates", DAY).success
    result = accept(platform, "the bank counts the other way round", quarantine=True)
    assert result.success, why(result)
    assert rows(platform, "rates")["rate"].max() < 0  # type: ignore[operator]
    (entry,) = history(platform.lake, "rates")
    assert entry.accepted == "the bank counts the other way round"
    page = platform.lake.get(f"reports/rates/{DAY}.html")
    assert page and b"the bank counts the other way round" in page


def test_what_a_person_has_not_seen_is_not_accepted(platform: Installation) -> None:
    negate_rates(platform)
    assert not platform.run("rates", DAY).success
    assert "was replaced since you looked" in why(accept(platform, "known", versions={"clean": "another"}))
    # A crawl comes in between, and what is made of it then fails in another way.
    assert platform.materialise("raw/rates,dead_letters/rates", DAY).success
    (platform.settings.sources / "rates" / "transform.py").write_text(
        "import polars as pl\ndef clean(frame, context):\n"
        "    return frame.with_columns(currency=pl.lit(None, pl.String))\n"
    )
    assert "nobody has seen yet: record_key" in why(accept(platform, "known"))
    assert acceptance.read(platform.lake, "rates", DAY) == [] and rows(platform, "rates").is_empty()


def test_of_rows_that_were_crawled_again_nothing_is_accepted_that_was_seen_of_the_older_ones(
    platform: Installation,
) -> None:
    negate_rates(platform)
    assert not platform.run("rates", DAY).success
    assert platform.materialise("raw/rates,dead_letters/rates", DAY).success
    words = why(accept(platform, "known"))
    assert f"clean/rates, partition {DAY}, was made again and fails in a way that nobody has seen yet: " in words
    assert "; expectations_critical: rate must be more than 0" in words
    assert "Look at its report, and accept it again" in words
    assert acceptance.read(platform.lake, "rates", DAY) == [] and rows(platform, "rates").is_empty()
    # What was set aside of them could not be looked at either, until now.
    assert platform.materialise("raw/rates,dead_letters/rates", DAY).success
    assert "in quarantine: rate must be" in why(accept(platform, "known", quarantine=True))
    result = accept(platform, "known", quarantine=True)
    assert result.success, why(result)
    assert not rows(platform, "rates").is_empty()


def test_rows_left_in_for_an_acceptance_fail_nothing_but_what_was_looked_at(platform: Installation) -> None:
    suite = platform.settings.sources / "rates" / "expectations.json"
    euro, dollar = (
        {
            "type": "expect_column_values_to_not_be_in_set",
            "kwargs": {"column": "currency", "value_set": [currency], "mostly": 0.5},
        }
        for currency in ("EUR", "USD")
    )
    no_rows = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 0}}
    suite.write_text(json.dumps({"expectations": [euro, no_rows]}))
    assert not platform.run("rates", DAY).success
    suite.write_text(json.dumps({"expectations": [euro, no_rows, dollar]}))
    words = why(accept(platform, "known", quarantine=True))
    assert "seen yet: currency must not be one of USD in 50 % of rows: 1 rows are left in. Look" in words
    assert rows(platform, "rates").is_empty()
    result = accept(platform, "known", quarantine=True)
    assert result.success, why(result)
    assert {"EUR", "USD"} <= {*rows(platform, "rates")["currency"]}


def test_an_incomplete_crawl_is_not_accepted_by_what_was_seen_of_the_crawl_before(platform: Installation) -> None:
    negate_rates(platform)
    assert not platform.run("rates", DAY).success
    spider(
        platform,
        "rates",
        "class RatesSpider(scrapy.Spider):\n    name = 'rates'\n    def parse(self, response):\n"
        "        yield {'currency': 'EUR', 'rate': '1'}\n        raise KeyError('the table moved')\n",
    )
    assert not platform.run("rates", DAY).success
    looked_at = {"incomplete": platform.lake.current("incomplete", "rates", DAY).version}
    words = why(accept(platform, "known", incomplete=True, versions=looked_at))
    assert f"clean/rates, partition {DAY}, was made again and fails in a way that nobody has seen yet: " in words
    assert acceptance.read(platform.lake, "rates", DAY) == [] and rows(platform, "rates").is_empty()
    result = accept(platform, "known", quarantine=True)
    assert result.success, why(result)
    assert rows(platform, "rates")["currency"].to_list() == ["EUR"]


def test_a_crawl_that_comes_while_it_is_accepted_is_not_accepted_with_it(
    platform: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    negate_rates(platform)
    assert not platform.run("rates", DAY).success
    record = acceptance.accept

    def overtaken(*args: Any, **more: Any) -> acceptance.Acceptance:
        assert platform.materialise("raw/rates,dead_letters/rates,clean/rates,quarantine/rates", DAY)
        return record(*args, **more)

    monkeypatch.setattr(acceptance, "accept", overtaken)
    assert "was replaced since you looked" in why(accept(platform, "known"))
    assert acceptance.read(platform.lake, "rates", DAY) == []


def test_records_without_a_key_that_were_accepted_are_not_asked_for_again_in_the_layer_above(
    platform: Installation,
) -> None:
    (platform.settings.sources / "rates" / "transform.py").write_text(
        "import polars as pl\ndef clean(frame, context):\n"
        "    return frame.with_columns(currency=pl.when(pl.col('currency') != 'EUR').then(pl.col('currency')))\n"
    )
    assert not platform.run("rates", DAY).success
    result = accept(platform, "the bank does not name its own")
    assert result.success, why(result)
    assert rows(platform, "rates")["currency"].null_count() == 1


def test_rows_in_quarantine_reach_no_reader_and_can_be_asked_for(platform: Installation) -> None:
    suite = platform.settings.sources / "rates" / "expectations.json"
    suite.write_text(
        """{"expectations": [{"type": "expect_column_values_to_not_be_in_set", "kwargs":
        {"column": "currency", "value_set": ["EUR"], "mostly": 0.5}}]}"""
    )
    result = platform.run("rates", DAY)
    assert result.success, why(result)
    assert "EUR" not in rows(platform, "rates")["currency"].to_list()
    with connect(platform.settings, beside=["quarantine"]) as connection:
        found = connection.execute("select source, partition_key, currency, _reason from quarantine").fetchall()
    assert found == [("rates", DAY, "EUR", "currency must not be one of EUR in 50 % of rows: EUR")]


def test_what_is_made_beside_a_layer_is_not_made_alone(platform: Installation) -> None:
    assert platform.run("rates", DAY).success
    assert "Materialise clean/rates too" in why(platform.materialise("quarantine/rates", DAY))
    assert platform.materialise("clean/rates", DAY).success
    assert platform.materialise("enriched/rates,published/rates", DAY).success


def test_a_join_beyond_its_tolerance_blocks_publication_with_the_unmatched_keys(platform: Installation) -> None:
    assert platform.run("rates", DAY).success
    rewrite(platform, "shop/source.yaml", "max_unmatched: 0.05", "max_unmatched: 0.001")
    words = refused(platform, "shop")
    assert "joins_matched" in words
    assert "CHF" in words


def test_a_join_with_nothing_published_says_what_to_materialise_first(platform: Installation) -> None:
    assert "Materialise published/rates first" in refused(platform, "shop")


def test_a_chained_source_without_upstream_rows_says_what_to_materialise_first(platform: Installation) -> None:
    words = refused(platform, "reviews")
    assert "shop" in words
    assert DAY in words


@pytest.mark.service
def test_a_full_disk_under_the_lake_fails_the_run_in_words_and_readers_keep_what_they_had(
    tmp_path: Path, small_disk: Path, site: str, instance: dg.DagsterInstance
) -> None:
    lake = str(small_disk / "lake")
    platform = Installation.at(tmp_path, shop_sources(tmp_path, site), instance, GOSSAMER_LAKE=lake)
    assert platform.run("rates", DAY).success
    before = rows(platform, "rates")
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    result = platform.run("rates", DAY)
    assert not result.success
    assert "No space left" in why(result)
    filler.unlink()
    assert rows(platform, "rates").equals(before)
    assert platform.run("rates", DAY).success


# -- paused, stopped, cancelled, killed -------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path, instance: dg.DagsterInstance) -> Iterator[Installation]:
    """A shop that answers slowly, so that there is time to interfere."""
    with shop.serve(delay=0.1) as url:
        yield Installation.at(tmp_path, shop_sources(tmp_path, url), instance)


def is_under_way(platform: Installation) -> bool:
    """Whether pages come in from the shop."""
    said = read_progress(platform.lake, "shop", DAY)
    return said is not None and said.is_live and said.pages > 3


def once_pages_came(platform: Installation, act: Callable[[], object]) -> threading.Thread:
    """Does something when the crawl of the shop is under way."""

    def wait() -> None:
        wait_for(lambda: is_under_way(platform), 60)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def control(platform: Installation, wish: str, **config: str) -> dg.ExecuteInProcessResult:
    """The job of the UI, as a person launches it."""
    wanted = {"source": "shop", "partition": DAY, "wish": wish, "why": "the shop has a sale", **config}
    with dg.DagsterInstance.ephemeral() as instance:
        return Installation(platform.settings, instance).run("control_crawl", run_config=run_config("control", wanted))


def run_config(op: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"ops": {op: {"config": config}}}


@pytest.mark.slow
def test_a_paused_crawl_ends_its_run_without_failure_or_rows_and_goes_on_when_it_is_materialised_again(
    slow: Installation,
) -> None:
    asked: list[dg.ExecuteInProcessResult] = []
    pausing = once_pages_came(slow, lambda: asked.append(control(slow, "pause")))
    paused = slow.materialise("raw/shop,dead_letters/shop,clean/shop", DAY)
    pausing.join(60)

    assert paused.success and asked[0].success
    assert not paused.get_asset_materialization_events() and not paused.get_asset_check_evaluations()
    assert slow.instance.get_run_by_id(paused.run_id).tags["gossamer/paused"] == f"shop/{DAY}"  # type: ignore[union-attr]
    standing = life.standing(slow.lake, "shop", DAY)
    assert (standing.state, standing.launch) == (CrawlState.PAUSED, 1)
    assert "is paused already" in why(control(slow, "pause"))

    resumed = slow.materialise("raw/shop", DAY)
    assert resumed.success, why(resumed)
    manifest = slow.lake.current("raw", "shop", DAY)
    assert manifest.crawl_id == f"shop/{DAY}/1"
    assert manifest.notes["books"]["launches"] == 2
    assert sorted(slow.lake.scan("raw", "shop", DAY).collect()["sku"].unique()) == sorted(
        {record["sku"] for record in shop.shop_records(datetime.fromisoformat(DAY).date(), "")}
    )
    (made,) = resumed.get_asset_materialization_events()
    assert made.asset_key == dg.AssetKey(["raw", "shop"]), "dead letters were not asked for"
    (check,) = resumed.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("books_closed", True)
    shown = made.step_materialization_data.materialization.metadata
    assert {"pages", "requests", "records", "hosts", "launches", "pages_per_second"} <= shown.keys()
    assert "<svg" in Path(str(shown["pages_over_time"].value)).read_text()


@pytest.mark.slow
def test_a_stopped_crawl_fails_its_run_in_words_and_the_next_run_begins_another(slow: Installation) -> None:
    stopping = once_pages_came(slow, lambda: control(slow, "stop"))
    stopped = slow.materialise("raw/shop", DAY)
    stopping.join(60)

    assert not stopped.success
    assert "stopped by run" in why(stopped) and "the shop has a sale" in why(stopped)
    assert life.standing(slow.lake, "shop", DAY).state is CrawlState.STOPPED
    assert slow.materialise("raw/shop", DAY).success
    assert slow.lake.current("raw", "shop", DAY).crawl_id == f"shop/{DAY}/2"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "fresh"])
def test_a_paused_crawl_can_be_stopped_or_begun_afresh(slow: Installation, end: str) -> None:
    pausing = once_pages_came(slow, lambda: control(slow, "pause"))
    assert slow.materialise("raw/shop", DAY).success
    pausing.join(60)
    assert life.standing(slow.lake, "shop", DAY).state is CrawlState.PAUSED
    if end == "stop":
        assert control(slow, "stop").success
        assert slow.lake.current("incomplete", "shop", DAY).crawl_id == f"shop/{DAY}/1"
    else:
        fresh = slow.materialise("raw/shop", DAY, run_config=run_config("crawl_shop", {"fresh": True}))
        assert fresh.success, why(fresh)
        assert slow.lake.current("raw", "shop", DAY).crawl_id == f"shop/{DAY}/2"


def test_asking_for_what_cannot_be_is_answered_in_words(platform: Installation) -> None:
    assert "is not being crawled" in why(control(platform, "stop"))
    assert "No source `shops` here" in why(control(platform, "pause", source="shops"))
    assert "in the future" in why(control(platform, "pause", partition="2999-01-01"))


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "told to end", "cancelled"])
def test_a_run_that_ends_leaves_no_crawl_behind_cancelled_it_is_stopped_otherwise_it_can_go_on(
    slow: Installation, end: str
) -> None:
    """Told to end: the platform is stopped or moved, and a crawl of days must not be lost by that."""
    folder = slow.settings.sources.parent
    environ = {**os.environ, **slow.settings.environ(), "PYTHONWARNINGS": "ignore"}
    (folder / "dagster").mkdir()
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "definitions"]
    command += ["--select", "key:raw/shop or key:dead_letters/shop", "--partition", DAY]
    run = subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_under_way(slow), 60)
        if end == "cancelled":  # as the UI does it: the run is marked, then its process is told to end
            with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
                (started,) = instance.get_runs()
                instance.report_run_canceling(started)
        run.send_signal(signal.SIGKILL if end == "killed" else signal.SIGTERM)
        run.wait()
        wait_for(lambda: not crawls_of(folder), 30)
    finally:
        run.kill()
        run.wait()
    assert slow.lake.manifest("raw", "shop", DAY) is None
    state = CrawlState.STOPPED if end == "cancelled" else CrawlState.INTERRUPTED
    wait_for(lambda: life.standing(slow.lake, "shop", DAY).state is state, 5)
    assert slow.materialise("raw/shop", DAY).success
    books = slow.lake.current("raw", "shop", DAY).notes["books"]
    assert (books["generation"], books["launches"]) == ((2, 1) if end == "cancelled" else (1, 2))


def crawls_of(folder: Path) -> list[str]:
    """Crawl processes that work on a lake below `folder`."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "gossamer.crawl" in line and str(folder) in line]


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
