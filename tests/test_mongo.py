"""Documents of published rows on a real server: each record once, as it was published last, whoever writes when."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pymongo
import pytest
from bson.decimal128 import Decimal128
from pymongo.collection import Collection

from gossamer import declarations
from gossamer.errors import ConfigurationError, LakeError
from gossamer.lake import Lake
from gossamer.publish.mongo import MongoCounts, MongoError, upsert
from gossamer.publish.tables import history, publications
from gossamer.source import Source
from tests import services
from tests.publications import declare, finish_and_publish, outlive_log, product, products

pytestmark = pytest.mark.service

MONDAY, TUESDAY = "2026-11-16", "2026-11-17"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def uri(mongo: services.Mongo, tmp_path: Path) -> str:
    """A database of this test's own."""
    return f"{mongo.uri}/{mongo.database}_{tmp_path.name.replace('-', '_')[-20:]}"


@pytest.fixture(autouse=True)
def dropped(uri: str) -> Iterator[None]:
    yield
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.drop_database(client.get_default_database().name)


@pytest.fixture
def shop(tmp_path: Path) -> Source:
    return declare(tmp_path / "sources")


@contextmanager
def collection(uri: str, name: str = "shop") -> Iterator[Collection[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        yield client.get_default_database()[name]


def stocks(uri: str) -> dict[Any, Any]:
    with collection(uri) as documents:
        return {document["_id"]: document["stock"] for document in documents.find()}


def test_a_document_has_the_rows_values_exactly(lake: Lake, shop: Source, uri: str) -> None:
    seen = [{"day": date(2026, 11, 1), "price": Decimal("1.10")}]
    rows = products([product("a", "19.9900", seen=seen, note=None)])
    version = finish_and_publish(lake, shop, MONDAY, rows).version
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(1, 1, 0, 0, 0)
    with collection(uri) as documents:
        (document,) = documents.find()
    assert document["_id"] == document["sku"] == "a"
    assert document["price"] == Decimal128("19.9900")
    assert document["added"] == datetime(2025, 1, 1, tzinfo=UTC)
    assert document["_fetched_at"] == datetime(2026, 11, 20, 5, tzinfo=UTC)
    assert document["seen"][0]["day"] == datetime(2026, 11, 1, tzinfo=UTC)
    assert document["seen"][0]["price"].to_decimal() == Decimal("1.10")
    assert document["note"] is None
    assert document["partition_key"] == MONDAY
    order = f"2026-11-16T00:00Z {version:012}"
    assert document["_published"] == {"partition": MONDAY, "version": version, "order": order}


def test_the_same_publication_again_changes_nothing(lake: Lake, shop: Source, uri: str) -> None:
    finish_and_publish(lake, shop, MONDAY, products([product("a"), product("b")]))
    upsert(lake, shop, MONDAY, uri)
    finish_and_publish(lake, shop, TUESDAY, products([product("z")]))  # the table's version moves on
    with collection(uri) as documents:
        before = list(documents.find().sort("_id"))
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(2, 0, 0, 2, 0)
    with collection(uri) as documents:
        assert list(documents.find().sort("_id")) == before


def test_an_older_day_never_overwrites_a_newer_one(lake: Lake, shop: Source, uri: str) -> None:
    finish_and_publish(lake, shop, TUESDAY, products([product("a", stock=2)]))
    upsert(lake, shop, TUESDAY, uri)
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=1), product("gone", stock=1)]))
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(2, 1, 0, 1, 0)
    assert stocks(uri) == {"a": 2, "gone": 1}


def test_a_day_published_again_and_a_newer_day_replace_the_document(lake: Lake, shop: Source, uri: str) -> None:
    for key, stock in ((MONDAY, 1), (MONDAY, 2), (TUESDAY, 3)):
        finish_and_publish(lake, shop, key, products([product("a", stock=stock)]))
        upsert(lake, shop, key, uri)
        assert stocks(uri) == {"a": stock}


def test_what_a_day_no_longer_has_is_removed_and_what_other_days_have_stays(lake: Lake, shop: Source, uri: str) -> None:
    finish_and_publish(lake, shop, MONDAY, products([product(name, stock=1) for name in "abcd"]))
    upsert(lake, shop, MONDAY, uri)
    finish_and_publish(lake, shop, TUESDAY, products([product("b", stock=2), product("z", stock=2)]))
    assert upsert(lake, shop, TUESDAY, uri).removed == 0
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=3)]))  # b, c and d went to quarantine
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(1, 0, 1, 0, 0, removed=2)
    assert stocks(uri) == {"a": 3, "b": 2, "z": 2}
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(1, 0, 0, 1, 0, removed=0)
    finish_and_publish(lake, shop, MONDAY, products([product("a")]).clear())
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(0, 0, 0, 0, 0, removed=1)
    assert stocks(uri) == {"b": 2, "z": 2}


def test_a_writer_that_was_overtaken_removes_nothing_of_the_newer_publication(
    lake: Lake, shop: Source, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=1)]))
    then = publications(lake, shop.name)
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=2), product("new", stock=2)]))
    upsert(lake, shop, MONDAY, uri)
    monkeypatch.setattr("gossamer.publish.mongo.publications", lambda *_: then)
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(1, 0, 0, 1, 0, removed=0)
    assert stocks(uri) == {"a": 2, "new": 2}


def test_a_day_that_the_tables_log_forgot_is_written_as_it_is_published_and_beats_no_newer_one(
    lake: Lake, shop: Source, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=1), product("b", stock=1)]))
    upsert(lake, shop, MONDAY, uri)
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=2), product("c", stock=2)]))
    finish_and_publish(lake, shop, TUESDAY, products([product("c", stock=3)]))
    upsert(lake, shop, TUESDAY, uri)
    outlive_log(lake, shop.name)
    assert MONDAY not in [entry.partition for entry in history(lake, shop.name)]
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(2, 0, 1, 1, 0, removed=1)
    assert stocks(uri) == {"a": 2, "c": 3}
    then = publications(lake, shop.name)
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=4)]))
    upsert(lake, shop, MONDAY, uri)
    monkeypatch.setattr("gossamer.publish.mongo.publications", lambda *_: then)
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(2, 0, 0, 2, 0, removed=0)
    assert stocks(uri) == {"a": 4, "c": 3}


def test_an_empty_day_that_the_tables_log_forgot_leaves_no_documents(lake: Lake, shop: Source, uri: str) -> None:
    finish_and_publish(lake, shop, MONDAY, products([product("a", stock=1)]))
    upsert(lake, shop, MONDAY, uri)
    finish_and_publish(lake, shop, MONDAY, products([product("a")]).clear())
    finish_and_publish(lake, shop, TUESDAY, products([product("z", stock=1)]))
    outlive_log(lake, shop.name)
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(0, 0, 0, 0, 0, removed=1)


def test_a_key_of_several_fields_is_a_sub_document(lake: Lake, tmp_path: Path, uri: str) -> None:
    source = declare(tmp_path / "sources", key="[sku, added]")
    rows = products([product("a"), product("a", added=date(2025, 2, 2))])
    finish_and_publish(lake, source, MONDAY, rows)
    assert upsert(lake, source, MONDAY, uri).inserted == 2
    assert upsert(lake, source, MONDAY, uri).kept == 2
    with collection(uri) as documents:
        keys = [document["_id"] for document in documents.find().sort("added")]
    assert keys[0] == {"sku": "a", "added": datetime(2025, 1, 1, tzinfo=UTC)}
    assert list(keys[1]) == ["sku", "added"]


def test_two_segments_may_have_records_of_the_same_key(lake: Lake, tmp_path: Path, uri: str) -> None:
    source = declare(tmp_path / "sources", partitions="{segments: [de, fr]}")
    for segment, stock in (("de", 1), ("fr", 2), ("de", 3)):
        finish_and_publish(lake, source, segment, products([product("a", stock=stock)]))
        upsert(lake, source, segment, uri)
    with collection(uri) as documents:
        found = {document["_id"]["segment"]: document["stock"] for document in documents.find()}
    assert found == {"de": 3, "fr": 2}


def test_a_row_without_its_key_is_counted_and_not_written(lake: Lake, shop: Source, uri: str) -> None:
    rows = products([product("a"), product("b")]).with_columns(pl.when(pl.col("sku") == "a").then("sku").alias("sku"))
    finish_and_publish(lake, shop, MONDAY, rows)
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(2, 1, 0, 0, 1)
    assert list(stocks(uri)) == ["a"]


@pytest.mark.slow
def test_more_rows_than_a_batch_all_arrive(lake: Lake, shop: Source, uri: str) -> None:
    finish_and_publish(lake, shop, MONDAY, products([product(f"p{number}") for number in range(1201)]))
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(1201, 1201, 0, 0, 0)
    finish_and_publish(lake, shop, MONDAY, products([product(f"p{number}", stock=9) for number in range(1201)]))
    assert upsert(lake, shop, MONDAY, uri) == MongoCounts(1201, 0, 1201, 0, 0)
    assert set(stocks(uri).values()) == {9}


def upsert_day(lake_uri: str, folder: str, key: str, uri: str) -> int:
    return upsert(Lake(lake_uri), declarations.read(Path(folder) / "source.yaml"), key, uri).rows


@pytest.mark.slow
def test_days_written_at_once_in_any_order_end_with_the_newest(lake: Lake, shop: Source, uri: str) -> None:
    days = [f"2026-11-{day:02}" for day in range(1, 9)]
    for number, key in enumerate(days, 1):
        finish_and_publish(lake, shop, key, products([product(f"p{n}", stock=number) for n in range(300)]))
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(upsert_day, lake.uri, str(shop.folder), key, uri) for key in reversed(days)]
        assert [task.result(120) for task in tasks] == [300] * 8
    assert stocks(uri) == {f"p{n}": 8 for n in range(300)}


def test_a_users_own_unique_index_that_refuses_a_row_is_told(lake: Lake, shop: Source, uri: str) -> None:
    with collection(uri) as documents:
        documents.create_index("name", unique=True)
    finish_and_publish(lake, shop, MONDAY, products([product("a", name="same"), product("b", name="same")]))
    with pytest.raises(MongoError, match="refused 1 of 2 documents of shop"):
        upsert(lake, shop, MONDAY, uri)


def test_a_partition_that_was_never_published_is_told(lake: Lake, shop: Source, uri: str) -> None:
    with pytest.raises(LakeError, match=f"Nothing is published of shop, partition {MONDAY}"):
        upsert(lake, shop, MONDAY, uri)


@pytest.mark.parametrize(
    "wrong",
    [
        "mongodb://ann:s3cr3t@127.0.0.1:1",
        "postgres://ann:s3cr3t@127.0.0.1/db",
        "mongodb://ann:s3cr3t@:x/db",
        "mongodb://ann:s3cr3t@127.0.0.1:s3cr3t/db",
    ],
)
def test_a_wrong_connection_string_is_told_without_its_password(lake: Lake, shop: Source, wrong: str) -> None:
    finish_and_publish(lake, shop, MONDAY, products([product("a")]))
    with pytest.raises(ConfigurationError, match="GOSSAMER_MONGO_URI") as error:
        upsert(lake, shop, MONDAY, wrong)
    assert "s3cr3t" not in str(error.value)
    assert error.value.__suppress_context__


def test_a_server_that_is_down_is_named_without_the_password(
    lake: Lake, shop: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.publish.mongo.WAIT_MS", 500)
    finish_and_publish(lake, shop, MONDAY, products([product("a")]))
    with pytest.raises(MongoError, match=r"MongoDB at 127\.0\.0\.1:1/db: .*refused") as error:
        upsert(lake, shop, MONDAY, "mongodb://ann:s3cr3t@127.0.0.1:1/db")
    assert "s3cr3t" not in str(error.value)
