"""What a partition brought since the last one: new, changed and gone records, and what they are compared with."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.lake import Lake, stage
from gossamer.records import changes
from gossamer.schema import PARTITION
from gossamer.source import Source, SourceSpec
from tests.publications import outlive_log


def declare(key: str = "sku", **more: Any) -> Source:
    declaration = {
        "name": "shop",
        "spider": "spider:Shop",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": key, "fields": {"sku": "str", "size": "int", "price": "float"}},
        **more,
    }
    return Source(SourceSpec.model_validate(declaration), Path("nowhere"))


def rows(*records: tuple[Any, ...], **more: Any) -> pl.LazyFrame:
    schema = {"sku": pl.String, "size": pl.Int64, "price": pl.Float64}
    frame = pl.LazyFrame(records, schema=schema, orient="row")
    return frame.with_columns(_url=pl.format("https://shop.example/{}", "sku"), **more)


def test_new_changed_and_gone_records_are_told_with_their_columns_and_pages() -> None:
    now = rows(("a", 1, 9.5), ("b", 2, None), ("c", None, 1.0), ("e", 5, 5.0))
    then = rows(("b", 2, 3.0), ("d", 4, 4.0), ("c", None, 1.0), ("e", 6, 6.0))
    found = changes.detect(declare(), now, then)
    assert (found.new, found.changed, found.gone, found.unchanged) == (1, 2, 1, 1)
    assert found.columns == {"price": 2, "size": 1}
    assert found.rows.collect().rows() == [
        ("a", "new", [], "https://shop.example/a"),
        ("b", "changed", ["price"], "https://shop.example/b"),
        ("e", "changed", ["size", "price"], "https://shop.example/e"),
        ("d", "gone", [], "https://shop.example/d"),
    ]
    assert found.notes("2026-01-05") == {
        "previous": "2026-01-05",
        "new": 1,
        "changed": 2,
        "gone": 1,
        "unchanged": 1,
        "columns": {"price": 2, "size": 1},
        "added": [],
        "removed": [],
        "retyped": [],
    }


def test_where_a_row_comes_from_is_no_change_of_it() -> None:
    now = rows(("a", 1, 1.0), _crawl_id=pl.lit("2"), extra=pl.lit('{"x": 1}'), partition_key=pl.lit("2026-01-06"))
    then = rows(("a", 1, 1.0), _crawl_id=pl.lit("1"), extra=pl.lit('{"x": 2}'), partition_key=pl.lit("2026-01-05"))
    assert changes.detect(declare(), now, then).unchanged == 1


def test_a_column_that_only_one_side_has_is_a_change_of_the_schema_and_of_no_row() -> None:
    now = rows(("a", 1, 1.0), colour=pl.lit("red"), seen=pl.lit(1))
    then = rows(("a", 1, 1.0), shape=pl.lit("round"), seen=pl.lit("once"))
    found = changes.detect(declare(), now, then)
    assert (found.added, found.removed, found.retyped, found.unchanged) == (("colour",), ("shape",), ("seen",), 1)
    only = changes.detect(declare(), now, then, columns=["size"])
    assert (only.added, only.removed, only.retyped, only.unchanged) == ((), (), (), 1)


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (pl.Series([1], dtype=pl.UInt8), pl.Series([1], dtype=pl.Int16)),
        (pl.Series([1], dtype=pl.UInt64), pl.Series([1], dtype=pl.Decimal(20, 0))),
        (pl.Series(["x"], dtype=pl.Categorical), pl.Series(["x"])),
        (pl.Series([None], dtype=pl.Null), pl.Series([None], dtype=pl.String)),
        (pl.Series([float("nan")]), pl.Series([float("nan")], dtype=pl.Float32)),
        (pl.Series([["x"]], dtype=pl.List(pl.Categorical)), pl.Series([["x"]])),
        (
            pl.Series([{"x": None}], dtype=pl.Struct({"x": pl.Int64})),
            pl.Series([{"x": None}], dtype=pl.Struct({"x": pl.Int64})),
        ),
    ],
)
def test_a_value_that_was_stored_in_another_type_has_not_changed(now: pl.Series, then: pl.Series) -> None:
    found = changes.detect(declare(), rows(("a", 1, 1.0), own=pl.lit(now)), rows(("a", 1, 1.0), own=pl.lit(then)))
    assert (found.retyped, found.unchanged) == ((), 1)


def test_a_source_whose_key_changed_has_nothing_but_new_and_gone_records() -> None:
    found = changes.detect(declare("sku"), rows(("a", 1, 1.0)), rows(("a", 1, 1.0)).drop("sku"))
    assert (found.new, found.gone) == (1, 1)
    assert found.rows.collect()["change"].to_list() == ["new", "gone"]


def test_the_table_is_the_same_where_there_is_nothing_to_compare_with() -> None:
    source = declare()
    assert changes.nothing(source).collect_schema() == changes.detect(source, rows(), rows()).rows.collect_schema()


def test_many_columns_are_told_apart() -> None:
    names = [f"c{number}" for number in range(70)]
    now = rows(("a", 1, 1.0), **{name: pl.lit(1) for name in names})
    then = rows(
        ("a", 1, 1.0), **{name: pl.lit(int(number not in (0, 31, 32, 69))) for number, name in enumerate(names)}
    )
    assert changes.detect(declare(), now, then).rows.collect()["columns"].to_list() == [["c0", "c31", "c32", "c69"]]


RECORDS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 1) | st.none(), st.sampled_from([0.5, None])),
    unique_by=lambda record: record[0],
)


@settings(max_examples=40)
@given(now=RECORDS, then=RECORDS, at_once=st.integers(1, 5))
def test_changes_are_those_that_a_plain_loop_finds(now: list[Any], then: list[Any], at_once: int) -> None:
    here, there = ({record[0]: record for record in records} for records in (now, then))
    expected = {sku: "new" for sku in here if sku not in there} | {sku: "gone" for sku in there if sku not in here}
    expected |= {sku: "changed" for sku in here if sku in there and here[sku] != there[sku]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_KEYS_AT_ONCE", at_once)
        patch.setattr(changes, "_VALUES_AT_ONCE", at_once)
        found = changes.detect(declare(), rows(*now), rows(*then))
    told = found.rows.collect()
    assert dict(told.select("sku", "change").rows()) == expected
    for sku, columns in told.filter(pl.col("change") == "changed").select("sku", "columns").rows():
        names = zip(("size", "price"), here[sku][1:], there[sku][1:], strict=True)
        assert columns == [name for name, one, other in names if one != other]
    assert found.new + found.changed + found.unchanged == len(now)


# -- what a partition is compared with --------------------------------------------------------------------------------


def publish(lake: Lake, key: str, sku: str, crawl: str = "") -> None:
    """A publication as far as it matters here: rows, and what the table's log says of them."""
    from deltalake import CommitProperties

    frame = pl.DataFrame({"sku": [sku], "_crawl_id": [crawl], PARTITION: [key]})
    about = {"partition": key, "crawl_id": crawl, "enriched_version": crawl}
    frame.write_delta(
        lake.table_url("shop"),
        mode="overwrite" if lake.table("shop") else "error",
        delta_write_options={
            "partition_by": [PARTITION],
            "predicate": f"{PARTITION} = '{key}'" if lake.table("shop") else None,
            "commit_properties": CommitProperties(custom_metadata=about),
        },
    )


def compared(source: Source, lake: Lake, key: str) -> tuple[str, list[str]] | None:
    found = changes.previous(source, lake, key)
    return None if found is None else (found[0], found[1].collect()["sku"].to_list())


def test_a_period_is_compared_with_the_newest_published_one_before_it_of_its_segment(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    source = declare(partitions={"period": "daily", "segments": ["de", "fr"]})
    assert compared(source, lake, "2026-01-06|de") is None
    for day, segment in (("03", "de"), ("01", "de"), ("04", "fr"), ("06", "de"), ("07", "de")):
        publish(lake, f"2026-01-{day}|{segment}", f"{day}{segment}")
    assert compared(source, lake, "2026-01-06|de") == ("2026-01-03|de", ["03de"])
    assert compared(source, lake, "2026-01-04|fr") is None
    assert compared(source, lake, "2026-01-05|fr") == ("2026-01-04|fr", ["04fr"])


def test_without_periods_a_partition_is_compared_with_what_another_crawl_published(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    source = declare(partitions={"segments": ["toys", "books"]})

    def cleaned(crawl: str) -> None:
        with stage(pl.DataFrame({"sku": ["x"]})) as staged:
            lake.commit("clean", "shop", "toys", staged, crawl_id=crawl)

    cleaned("shop/toys/1")
    assert compared(source, lake, "toys") is None
    publish(lake, "toys", "first", "shop/toys/1")
    publish(lake, "books", "other", "shop/books/1")
    assert compared(source, lake, "toys") is None, "what is published is of this very crawl"
    cleaned("shop/toys/2")
    assert compared(source, lake, "toys") == ("shop/toys/1", ["first"])
    publish(lake, "toys", "second", "shop/toys/2")
    assert compared(source, lake, "toys") == ("shop/toys/1", ["first"]), "checked again after publication"


def test_without_periods_what_another_crawl_published_is_known_when_the_tables_log_forgot_it(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    source = declare(partitions={"segments": ["toys", "books"]})

    def cleaned(crawl: str) -> None:
        with stage(pl.DataFrame({"sku": ["x"]})) as staged:
            lake.commit("clean", "shop", "toys", staged, crawl_id=crawl)

    cleaned("shop/toys/1")
    publish(lake, "toys", "first", "shop/toys/1")
    publish(lake, "books", "other", "shop/books/1")
    outlive_log(lake, "shop")
    assert compared(source, lake, "toys") is None, "what is published is of this very crawl"
    cleaned("shop/toys/2")
    assert compared(source, lake, "toys") == ("shop/toys/1", ["first"])
    publish(lake, "toys", "second", "shop/toys/2")
    assert compared(source, lake, "toys") == ("shop/toys/1", ["first"]), "checked again after publication"
    publish(lake, "books", "other", "shop/books/2")
    outlive_log(lake, "shop")
    assert compared(source, lake, "toys") is None, "the log no longer leads to what was before"
