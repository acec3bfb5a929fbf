"""Publishing: only checked partitions reach readers, whole or not at all, in the types that readers know."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from deltalake import DeltaTable

from gossamer.cli import state
from gossamer.errors import LakeError, PartitionKeyError, PublicationRefusedError, SchemaConflictError
from gossamer.lake import Lake, object_path, stage
from gossamer.publish.tables import history, publications, publish, storable
from gossamer.schema import field_columns
from gossamer.schema import published as published_schema
from gossamer.source import FieldType, Source
from tests import services
from tests.publications import (
    DAYS,
    SHOP_FIELDS,
    declare,
    failed,
    finish,
    finish_and_publish,
    outlive_log,
    passed,
    product,
    products,
    publish_for_ever,
    publish_many,
    publish_once,
)

KEY = "2026-11-20"
BLOCKING = [
    ("raw", "books_closed"),
    ("clean", "record_key"),
    ("clean", "expectations_critical"),
    ("enriched", "joins_matched"),
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def shop(tmp_path: Path) -> Source:
    return declare(tmp_path / "sources")


def skus(lake: Lake, source: Source, key: str | None = None, version: int | None = None) -> list[str]:
    frame = lake.scan_published(source.name, key, version)
    return [] if frame is None else sorted(frame.select("sku").collect()["sku"])


# -- the gate ---------------------------------------------------------------------------------------------------------


def test_a_checked_partition_is_published_with_where_it_came_from(lake: Lake, shop: Source) -> None:
    made = finish(lake, shop, KEY, products([product("a"), product("b")]))
    published = publish(lake, shop, KEY, run_id="run-1")
    assert (published.version, published.rows, published.previous_version) == (0, 2, None)
    assert published.columns["price"] == "Decimal(precision=18, scale=4)"
    assert skus(lake, shop, KEY) == ["a", "b"]
    entry = history(lake, shop.name)[0]
    assert (entry.version, entry.partition, entry.rows) == (0, KEY, 2)
    assert (entry.crawl_id, entry.run_id) == (f"shop/{KEY}/1", "run-1")
    assert entry.enriched_version == made["enriched"].version
    assert entry.report == lake.url(f"reports/shop/{KEY}.html")
    assert entry.time.tzinfo is not None


@pytest.mark.parametrize(("layer", "name"), BLOCKING)
def test_a_failed_blocking_check_of_any_layer_keeps_readers_on_the_last_good_version(
    lake: Lake, shop: Source, layer: str, name: str
) -> None:
    finish_and_publish(lake, shop, KEY, products([product("good")]))
    finish(lake, shop, KEY, products([product("bad")]), {layer: [failed(name, "3 of 10 pages are missing")]})
    with pytest.raises(PublicationRefusedError) as refusal:
        publish(lake, shop, KEY)
    text = str(refusal.value)
    assert f"{layer}/shop: {name}: 3 of 10 pages are missing" in text
    assert f"materialise {layer}/shop" in text
    assert skus(lake, shop) == ["good"]


@pytest.mark.parametrize(("layer", "name"), BLOCKING)
def test_a_check_that_was_never_made_is_no_verdict(lake: Lake, shop: Source, layer: str, name: str) -> None:
    finish(lake, shop, KEY, products([product("a")]), {layer: [passed("something_else")]})
    with pytest.raises(PublicationRefusedError, match=f"{layer}/shop: {name} was never evaluated"):
        publish(lake, shop, KEY)
    assert lake.scan_published(shop.name) is None


def test_a_failed_check_that_does_not_block_lets_the_partition_through(lake: Lake, shop: Source) -> None:
    warning = failed("joins_matched", "2 of 9 rows have no rate").model_copy(update={"blocking": False})
    finish(lake, shop, KEY, products([product("a")]), {"enriched": [warning, passed("rows_kept")]})
    assert publish(lake, shop, KEY).rows == 1


def test_every_reason_is_told_at_once(lake: Lake, shop: Source) -> None:
    bad = {"raw": [failed("books_closed", "seeds missing")], "clean": [failed("expectations_critical", "no prices")]}
    finish(lake, shop, KEY, products([product("a")]), bad)
    with pytest.raises(PublicationRefusedError, match=r"(?s)seeds missing.*no prices"):
        publish(lake, shop, KEY)


@pytest.mark.parametrize(("layer", "below"), [("raw", "clean"), ("clean", "enriched")])
def test_layers_that_were_made_from_other_data_are_not_published(
    lake: Lake, shop: Source, layer: str, below: str
) -> None:
    made = finish(lake, shop, KEY, products([product("a")]))
    with stage(products([product("newer")])) as staged:
        lake.commit(layer, shop.name, KEY, staged, checks=made[layer].checks, inputs=made[layer].inputs)
    with pytest.raises(PublicationRefusedError, match=f"{below}/shop: was made from another {layer}/shop"):
        publish(lake, shop, KEY)


def test_data_replaced_without_its_verdict_is_not_published(lake: Lake, shop: Source) -> None:
    finish(lake, shop, KEY, products([product("a")]))
    with stage(products([product("unchecked")])) as staged:
        lake.put(object_path("enriched", shop.name, KEY), staged.path)
    with pytest.raises(PublicationRefusedError, match="the data was replaced, its verdict was not"):
        publish(lake, shop, KEY)


def test_a_partition_with_nothing_below_it_names_what_to_materialise(lake: Lake, shop: Source) -> None:
    with pytest.raises(PublicationRefusedError, match=r"(?s)No data for raw/shop.*materialise raw/shop"):
        publish(lake, shop, KEY)


def test_a_partition_that_the_source_does_not_have_is_refused(lake: Lake, shop: Source) -> None:
    with pytest.raises(PartitionKeyError, match="toys"):
        publish(lake, shop, "toys")


# -- versions ---------------------------------------------------------------------------------------------------------


def test_publishing_the_same_data_again_changes_nothing(lake: Lake, shop: Source) -> None:
    finish(lake, shop, KEY, products([product("a")]))
    first = publish(lake, shop, KEY)
    finish_and_publish(lake, shop, "2026-11-19", products([product("b")]))
    assert publish(lake, shop, KEY) == first
    assert len(history(lake, shop.name)) == 2


def test_a_new_crawl_replaces_its_partition_only_and_the_old_version_stays_readable(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, "2026-11-19", products([product("other")]))
    before = finish_and_publish(lake, shop, KEY, products([product("a"), product("gone")]))
    after = finish_and_publish(lake, shop, KEY, products([product("a"), product("new")]))
    assert after.previous_version == before.version
    assert skus(lake, shop) == ["a", "new", "other"]
    assert skus(lake, shop, KEY, after.previous_version) == ["a", "gone"]
    assert [entry.partition for entry in history(lake, shop.name)] == [KEY, KEY, "2026-11-19"]


def test_a_partition_that_became_empty_is_published_as_empty(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, KEY, products([product("a")]))
    assert finish_and_publish(lake, shop, KEY, products([product("a")]).clear()).rows == 0
    assert skus(lake, shop, KEY) == []


def test_a_first_partition_without_rows_makes_a_readable_table(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, KEY, products([product("a")]).clear())
    assert skus(lake, shop) == []


@pytest.mark.parametrize(
    "segment", ["a.b..c", "v1.parquet", "DE_fr-CH", "HIVE_DEFAULT_PARTITION__", "0", "x-", "a" * 64]
)
def test_every_segment_that_may_be_declared_is_a_partition_of_its_own(lake: Lake, tmp_path: Path, segment: str) -> None:
    partitions = f"{{period: daily, start: 2026-01-01, segments: ['{segment}', other]}}"
    source = declare(tmp_path / "sources", partitions=partitions)
    finish_and_publish(lake, source, f"{KEY}|other", products([product("other")]))
    finish_and_publish(lake, source, f"{KEY}|{segment}", products([product("old")]))
    finish_and_publish(lake, source, f"{KEY}|{segment}", products([product("mine")]))
    assert skus(lake, source, f"{KEY}|{segment}") == ["mine"]
    assert skus(lake, source) == ["mine", "other"]


def restored(table: DeltaTable) -> None:
    table.restore(0)


def emptied(table: DeltaTable) -> None:
    table.delete(f"partition_key = '{KEY}'")


@pytest.mark.parametrize("change", [restored, emptied])
def test_rows_that_others_took_out_of_the_table_come_back_when_they_are_published_again(
    lake: Lake, shop: Source, change: Callable[[DeltaTable], None]
) -> None:
    finish_and_publish(lake, shop, KEY, products([product("old")]))
    finish_and_publish(lake, shop, KEY, products([product("new")]))
    finish_and_publish(lake, shop, "2026-11-19", products([product("other")]))
    change(DeltaTable(lake.table_url(shop.name)))
    again = publish(lake, shop, KEY)
    assert skus(lake, shop, KEY) == ["new"]
    assert history(lake, shop.name)[0].version == again.version == 4
    assert publish(lake, shop, KEY) == again


def test_a_table_that_was_vacuumed_still_has_what_was_published(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, KEY, products([product("old")]))
    published = finish_and_publish(lake, shop, KEY, products([product("new")]))
    table = DeltaTable(lake.table_url(shop.name))
    assert table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    table = DeltaTable(lake.table_url(shop.name))
    assert table.version() > published.version
    assert publish(lake, shop, KEY) == published
    assert DeltaTable(lake.table_url(shop.name)).version() == table.version()


def test_what_is_older_than_the_tables_log_is_still_known_as_published(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, "2026-11-17", products([product("a"), product("b")]))
    finish_and_publish(lake, shop, "2026-11-18", products([product("c")]))
    finish_and_publish(lake, shop, "2026-11-19", products([product("d")]).clear())
    finish_and_publish(lake, shop, KEY, products([product("e")]))
    outlive_log(lake, shop.name)
    made = finish(lake, shop, "2026-11-18", products([product("not published")]))
    assert [entry.partition for entry in history(lake, shop.name)] == [KEY]
    found = publications(lake, shop.name)
    days = {"2026-11-17": 2, "2026-11-18": 1, "2026-11-19": 0, KEY: 1}
    assert {key: entry.rows for key, entry in found.items()} == days
    assert {entry.version for entry in found.values()} == {3}
    assert abs(found["2026-11-17"].time - datetime.now(UTC)) < timedelta(minutes=5)
    seen = {key: state.read(lake, shop.name, key, found[key]).is_published for key in days}
    assert seen == {key: key != "2026-11-18" for key in days}
    assert not found["2026-11-18"].brought(made["enriched"])
    again = publish(lake, shop, "2026-11-18")
    assert publications(lake, shop.name)["2026-11-18"].version == again.version == 4


def test_rows_that_others_took_out_of_an_old_partition_are_not_taken_for_what_was_published(
    lake: Lake, shop: Source
) -> None:
    for key in (KEY, "2026-11-18"):
        finish_and_publish(lake, shop, key, products([product("a"), product("b")]))
    finish_and_publish(lake, shop, "2026-11-19", products([product("other")]))
    outlive_log(lake, shop.name)
    table = DeltaTable(lake.table_url(shop.name))
    table.delete(f"partition_key = '{KEY}' and sku = 'a'")
    table.delete("partition_key = '2026-11-18'")
    found = publications(lake, shop.name)
    assert found.keys() == {KEY, "2026-11-19"} and found[KEY].rows == 1
    assert not state.read(lake, shop.name, KEY, found[KEY]).is_published


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "dtype"),
    [("stock", 1.7, "Float64"), ("stock", "12", "String"), ("name", 12, "Int64"), ("price", 9.99, "Float64")],
)
def test_a_column_of_another_type_is_refused_and_not_cast(
    lake: Lake, shop: Source, column: str, value: object, dtype: str
) -> None:
    finish_and_publish(lake, shop, "2026-11-19", products([product("a")]))
    finish(lake, shop, KEY, products([product("b")]).with_columns(pl.lit(value, getattr(pl, dtype)).alias(column)))
    with pytest.raises(SchemaConflictError) as conflict:
        publish(lake, shop, KEY)
    text = str(conflict.value)
    assert f"{column}: is {dtype}" in text
    assert "published is" in text
    assert "transform.py" in text
    assert skus(lake, shop) == ["a"]


def test_a_new_column_is_added_and_old_partitions_have_nulls_there(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, "2026-11-19", products([product("a")]))
    finish_and_publish(lake, shop, KEY, products([product("b", on_sale=True)]))
    rows = lake.scan_published(shop.name)
    assert rows is not None
    assert dict(rows.select("sku", "on_sale").collect().rows()) == {"a": None, "b": True}


def test_a_column_that_is_gone_reads_as_nulls(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, "2026-11-19", products([product("a")]))
    finish_and_publish(lake, shop, KEY, products([product("b")]).drop("rating"))
    rows = lake.scan_published(shop.name, KEY)
    assert rows is not None
    assert rows.collect()["rating"].to_list() == [None]


def test_an_empty_column_takes_its_declared_type_so_that_the_next_day_fits(lake: Lake, shop: Source) -> None:
    nothing = products([product("a")]).with_columns(pl.lit(None).alias("stock"), pl.lit(None).alias("note"))
    finish_and_publish(lake, shop, "2026-11-19", nothing)
    finish_and_publish(lake, shop, KEY, products([product("b", note="text")]))
    rows = lake.scan_published(shop.name)
    assert rows is not None
    assert rows.collect_schema()["stock"] == pl.Int64
    assert dict(rows.select("sku", "note").collect().rows()) == {"a": None, "b": "text"}


def test_types_that_delta_lacks_keep_their_values(lake: Lake, shop: Source) -> None:
    rows = products([product("a")]).with_columns(
        pl.lit(250, pl.UInt8).alias("small"),
        pl.lit(2**64 - 1, pl.UInt64).alias("large"),
        pl.lit("toys", pl.Categorical).alias("kind"),
        pl.Series("vector", [[1, 2]], pl.Array(pl.Int64, 2)),
        pl.lit(datetime(2026, 11, 20)).dt.replace_time_zone("Europe/Berlin").alias("seen"),
    )
    finish_and_publish(lake, shop, KEY, rows)
    published = lake.scan_published(shop.name)
    assert published is not None
    row = published.collect().row(0, named=True)
    assert (row["small"], int(row["large"]), row["kind"], row["vector"]) == (250, 2**64 - 1, "toys", [1, 2])
    assert row["seen"].isoformat() == "2026-11-19T23:00:00+00:00"


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pl.lit(timedelta(hours=1)).alias("age"), "age: Duration"),
        (pl.lit(datetime(2026, 11, 20)).alias("seen"), "seen: a time without a zone"),
        (pl.lit(1).alias("price (EUR)"), "'price (EUR)': readers such as Spark refuse the name"),
        (pl.lit("x").alias("SKU"), "SKU: differs from sku in upper and lower case only"),
        (pl.lit("x").alias("partition_key"), "partition_key, which is the platform's own"),
    ],
)
def test_columns_that_readers_could_not_read_are_refused_before_anything_is_written(
    lake: Lake, shop: Source, column: pl.Expr, words: str
) -> None:
    finish(lake, shop, KEY, products([product("a")]).with_columns(column))
    with pytest.raises(SchemaConflictError) as conflict:
        publish(lake, shop, KEY)
    assert words in str(conflict.value)
    assert lake.scan_published(shop.name) is None


def test_every_declared_type_is_storable(tmp_path: Path) -> None:
    kinds: tuple[FieldType, ...] = get_args(FieldType)
    fields = ", ".join(f"f_{kind}: {kind}" for kind in kinds)
    source = declare(tmp_path / "sources", key="[f_str]", fields=f"{{{fields}}}")
    schema = published_schema(source.spec)
    for kind in kinds:
        for name, dtype in field_columns(f"f_{kind}", kind).items():
            assert schema[name] == dtype == storable(dtype)
    assert schema["partition_key"] == pl.String


# -- several writers, kills, faults -----------------------------------------------------------------------------------


def run_writers(lake: Lake, folder: Path, keys: list[list[str]]) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=publish_many, args=(lake.uri, str(folder), "shop", mine, f"added_{number % 2}"))
        for number, mine in enumerate(keys)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * len(processes)


@pytest.mark.slow
def test_eight_processes_publish_into_one_new_table_at_once(lake: Lake, shop: Source) -> None:
    keys = [[f"2026-{month:02}-{day:02}" for day in (1, 2, 3)] for month in range(1, 9)]
    run_writers(lake, shop.folder.parent, keys)
    rows = lake.scan_published(shop.name)
    assert rows is not None
    counts = dict(rows.group_by("partition_key").len().collect().rows())
    assert counts == {key: 20 for mine in keys for key in mine}
    assert {"added_0", "added_1"} <= set(rows.collect_schema())
    assert sorted(entry.partition for entry in history(lake, shop.name)) == sorted(counts)


@pytest.mark.slow
def test_the_same_partition_published_by_several_processes_at_once_is_published_once(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, "2026-11-19", products([product("other")]))
    finish(lake, shop, KEY, products([product("a")]))
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        task = (lake.uri, str(shop.folder.parent), "shop", KEY)
        published = pool.starmap_async(publish_once, [task] * 8, chunksize=1).get(120)
        pool.close()
        pool.join()  # leaving the block would send a SIGTERM, which this process may have been started to ignore
    assert len({publication.version for publication in published}) == 1
    assert [entry.partition for entry in history(lake, shop.name)] == [KEY, "2026-11-19"]
    assert skus(lake, shop) == ["a", "other"]


@pytest.mark.parametrize("first", [True, False], ids=["new table", "old table"])
def test_a_publication_that_was_overtaken_by_a_newer_one_does_not_overwrite_it(
    lake: Lake, shop: Source, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    if not first:
        finish_and_publish(lake, shop, KEY, products([product("oldest")]))
    finish(lake, shop, KEY, products([product("older")]))
    write = pl.LazyFrame.sink_delta

    def overtaken(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        finish_and_publish(lake, shop, KEY, products([product("newer")]))
        return write(*args, **options)

    monkeypatch.setattr(pl.LazyFrame, "sink_delta", overtaken)
    with pytest.raises(PublicationRefusedError, match="the data was replaced while it was published"):
        publish(lake, shop, KEY)
    assert skus(lake, shop) == ["newer"]


@pytest.mark.slow
def test_readers_never_see_half_a_partition_while_its_writer_is_killed(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, KEY, products([product("a")]))
    spawn = multiprocessing.get_context("spawn")
    for kill in range(3):
        before = history(lake, shop.name)[0].version
        process = spawn.Process(target=publish_for_ever, args=(lake.uri, str(shop.folder.parent), "shop", KEY))
        process.start()
        deadline = time.monotonic() + 60
        while history(lake, shop.name)[0].version < before + 2 and time.monotonic() < deadline:
            _assert_whole(lake, shop)
        time.sleep(0.01 * kill)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        assert history(lake, shop.name)[0].version >= before + 2
        _assert_whole(lake, shop)
    assert finish_and_publish(lake, shop, KEY, products([product("after")])).rows == 1
    assert skus(lake, shop) == ["after"]


def _assert_whole(lake: Lake, source: Source) -> None:
    rows = lake.scan_published(source.name, KEY)
    assert rows is not None
    seen = rows.select(pl.len().alias("rows"), pl.col("stock").n_unique().alias("generations")).collect().row(0)
    assert seen in ((1, 1), (20_000, 1))


def test_a_damaged_table_is_named_with_its_place(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, KEY, products([product("a")]))
    (log,) = (Path(lake.table_url(shop.name)) / "_delta_log").glob("*.json")
    log.write_text("not json\n")
    finish(lake, shop, KEY, products([product("b")]))
    named = pytest.raises(LakeError, match=r"published/shop cannot be read.*bring its folder back from a backup")
    with named:
        publish(lake, shop, KEY)
    with named:
        lake.scan_published(shop.name)
    with named:
        history(lake, shop.name)


def test_a_version_that_the_table_does_not_have_is_named(lake: Lake, shop: Source) -> None:
    finish_and_publish(lake, shop, KEY, products([product("a")]))
    with pytest.raises(LakeError, match="published/shop cannot be read at version 7"):
        lake.scan_published(shop.name, version=7)


def test_what_killed_writers_of_a_partition_left_goes_with_its_next_commit_and_a_live_writers_file_stays(
    lake: Lake, shop: Source
) -> None:
    made = finish(lake, shop, KEY, products([product("a")]))
    place = Path(lake.url(object_path("clean", shop.name, KEY)))
    left, live = (place.with_name(f"{place.name}#{number}") for number in (1, 2))
    about, other = place.with_name(f"{KEY}.json#1"), place.with_name("2026-11-19.parquet#1")
    for file in (left, live, about, other):
        file.write_bytes(b"half")
    for file in (left, about, other):
        os.utime(file, (0, 0))
    with stage(products([product("b")])) as staged:
        lake.commit("clean", shop.name, KEY, staged, inputs=made["clean"].inputs)
    assert {path.name for path in place.parent.glob("*#*")} == {live.name, other.name}


# -- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def s3_lake(s3: services.S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    for name, value in s3.env().items():
        monkeypatch.setenv(name, value)
    return Lake(f"s3://{s3.bucket}/{tmp_path.name}")


@pytest.mark.service
def test_on_s3_a_partition_is_published_replaced_refused_and_read_back(s3_lake: Lake, tmp_path: Path) -> None:
    partitions = "{period: daily, start: 2026-01-01, segments: [a.b]}"
    source = declare(tmp_path / "sources", partitions=partitions, fields=SHOP_FIELDS)
    key = f"{KEY}|a.b"
    first = finish_and_publish(s3_lake, source, key, products([product("a")]))
    second = finish_and_publish(s3_lake, source, key, products([product("b", on_sale=True)]))
    assert publish(s3_lake, source, key) == second
    assert skus(s3_lake, source, key) == ["b"]
    assert skus(s3_lake, source, key, first.version) == ["a"]
    finish(s3_lake, source, key, products([product("c")]), {"raw": [failed("books_closed", "seeds missing")]})
    with pytest.raises(PublicationRefusedError, match="seeds missing"):
        publish(s3_lake, source, key)
    finish(s3_lake, source, key, products([product("c")]).with_columns(pl.lit("3").alias("stock")))
    with pytest.raises(SchemaConflictError, match="stock: is String"):
        publish(s3_lake, source, key)
    assert skus(s3_lake, source) == ["b"]


@pytest.mark.slow
@pytest.mark.service
def test_on_s3_several_processes_publish_into_one_new_table_at_once(s3_lake: Lake, tmp_path: Path) -> None:
    source = declare(tmp_path / "sources", partitions=DAYS)
    keys = [[f"2026-{month:02}-{day:02}" for day in (1, 2)] for month in range(1, 5)]
    run_writers(s3_lake, source.folder.parent, keys)
    rows = s3_lake.scan_published(source.name)
    assert rows is not None
    assert dict(rows.group_by("partition_key").len().collect().rows()) == {key: 20 for mine in keys for key in mine}
