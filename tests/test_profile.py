"""The statistics of a partition: what default checks and trends rest upon must be true of the rows."""

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import schema
from gossamer.quality import profile as statistics
from gossamer.quality.profile import Profile, profile
from gossamer.source import Source, SourceSpec

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
FIELDS = {
    "sku": "str",
    "name": "str",
    "price": "money",
    "stock": "int",
    "score": "float",
    "sold": "bool",
    "made": "date",
    "seen": "datetime",
    "link": "url",
    "tags": "json",
}


def source(fields: dict[str, str] | None = None, key: str = "sku") -> Source:
    declared = {
        "name": "shop",
        "spider": "spider:Shop",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": key, "fields": fields or FIELDS},
    }
    return Source(SourceSpec.model_validate(declared), Path("sources/shop"))


def row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "sku": f"s{number}",
        "name": f"Lamp {number}",
        "price": Decimal(number),
        "price_currency": "EUR",
        "stock": number,
        "score": number / 2,
        "sold": number % 2 == 0,
        "made": date(2026, 1, 1) + timedelta(days=number),
        "seen": NOON,
        "link": f"https://shop.example/{number}",
        "tags": "[]",
        "_url": f"https://shop.example/{number}",
        "_fetched_at": NOON,
        "_page_hash": f"h{number}",
        "_crawl_id": "c",
        "_spider_version": "v1",
    } | values


def frame(*rows: dict[str, Any], of: Source | None = None) -> pl.LazyFrame:
    return pl.DataFrame(list(rows), schema=schema.columns((of or source()).spec), orient="row").lazy()


def taken(*rows: dict[str, Any], **known: Any) -> Profile:
    found = profile(frame(*rows), source(), "2026-06-10", **known)
    assert Profile.model_validate_json(found.model_dump_json(exclude_defaults=True)) == found
    return found


def test_every_type_has_its_statistics() -> None:
    found = taken(*(row(number) for number in range(1, 102)))
    assert (found.rows, found.fetched_at, found.spider) == (101, NOON, "v1")
    assert {name: field.fill for name, field in found.fields.items()} == dict.fromkeys([*FIELDS, "price_currency"], 1)
    for name in ("price", "stock"):
        assert found.fields[name].quantiles == (1, 6, 26, 51, 76, 96, 101)
        assert found.fields[name].distinct == 1 and found.fields[name].shares is None
    assert found.fields["made"].quantiles is not None
    assert found.fields["made"].quantiles[0] == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert found.fields["made"].quantiles[6] == datetime(2026, 4, 12, tzinfo=UTC).timestamp()
    assert found.fields["seen"].quantiles == (NOON.timestamp(),) * 7
    assert found.fields["name"].quantiles is not None
    assert (found.fields["name"].quantiles[0], found.fields["name"].quantiles[6]) == (6, 8)
    assert found.fields["sold"].shares == {"true": 50 / 101, "false": 51 / 101}
    assert found.fields["price_currency"].shares == {"EUR": 1}
    assert found.fields["link"].hosts == {"shop.example": 1} == found.hosts
    assert (found.fields["price"].kind, found.fields["price_currency"].kind) == ("money", "")
    kinds = {name: found.fields[name].measured for name in ("price", "made", "name", "sold")}
    assert kinds == {"price": "number", "made": "time", "name": "length", "sold": ""}


def test_a_partition_without_rows_has_statistics_too() -> None:
    found = taken()
    assert (found.rows, found.fetched_at, found.sketch) == (0, None, {})
    assert found.fields["price"].fill == 0 and found.fields["price"].quantiles is None


def test_nan_empty_texts_and_nothing_are_no_values() -> None:
    found = taken(row(1, score=math.nan, name=""), row(2, score=None, name=None), row(3), row(4))
    assert (found.fields["score"].fill, found.fields["name"].fill) == (0.5, 0.5)
    assert found.fields["score"].distinct == found.fields["name"].distinct == 1
    assert found.fields["score"].quantiles is not None and found.fields["score"].quantiles[0] == 1.5


def test_numbers_at_the_ends_of_a_float_do_not_make_statistics_that_cannot_be_read_back() -> None:
    found = taken(*(row(number, score=(-1.7e308, 1.7e308)[number % 2]) for number in range(4)))
    assert found.fields["score"].quantiles is not None
    assert set(found.fields["score"].quantiles) <= {-1.7e308, 1.7e308}


def test_a_column_of_nothing_has_no_quantiles() -> None:
    found = taken(*(row(number, name=None, price=None, price_currency=None, made=None) for number in range(9)))
    assert all(found.fields[name].quantiles is None for name in ("name", "price", "made"))


def test_texts_that_are_no_value_are_counted_by_field() -> None:
    tricky = json.dumps({"price": 'the "stock": 3', "made": ',"score":'})
    found = taken(row(1, _unparsed=tricky), row(2, _unparsed='{"price": "soon"}'), row(3), row(4))
    unparsed = {name: field.unparsed for name, field in found.fields.items() if field.unparsed}
    assert unparsed == {"price": 0.5, "made": 0.25}


def test_few_values_have_shares_and_many_have_none() -> None:
    few = taken(*(row(number, name="red" if number % 4 else "blue") for number in range(40)))
    assert few.fields["name"].shares == {"red": 0.75, "blue": 0.25} and few.fields["name"].top == 0.75
    many = taken(*(row(number, name=f"colour {number % 20}") for number in range(40)))
    assert many.fields["name"].shares is None, "two rows of each say nothing"


def test_texts_are_searched_for_what_went_wrong() -> None:
    texts = [
        "Caf\u00c3\u00a9",
        "na\ufffdve",
        "<b>Bold</b>",
        "Tom &amp; Jerry",
        "N/A",
        "{{ name }}",
        "-",
        "Plain",
        "R&B",
        "2 < 3",
    ]
    field = taken(*(row(number, name=text) for number, text in enumerate(texts))).fields["name"]
    assert (field.damaged, field.markup, field.placeholders) == (0.2, 0.2, 0.3)


def test_the_language_of_texts_is_told_where_they_are_long_enough() -> None:
    german = "Die Lampe ist für den Tisch und das Bett, sie wird mit dem Kabel verkauft."
    english = "The lamp is for the table and the bed, and it is sold with a cable."
    found = taken(*(row(number, name=german if number < 15 else english) for number in range(20)))
    assert found.fields["name"].languages == {"German": 0.75, "English": 0.25}
    assert taken(*(row(number) for number in range(20))).fields["name"].languages is None


def test_rows_of_walls_and_repeated_pages_are_counted() -> None:
    walls = [row(number, name="Access denied", _page_hash="wall") for number in range(4)]
    found = taken(*walls, row(5, name="Please log in"), row(6, name="404 Not Found"), row(7), row(8))
    assert found.walls == {"block page": 0.5, "login page": 0.125, "error page": 0.125}
    assert found.same_page == pytest.approx(3 / 8)
    content = {name: row(0)[name] for name in FIELDS if name not in ("sku", "link")}
    assert taken(row(1, **content), row(2, **content), row(3), row(4)).repeats == 0.25


def test_a_book_about_walls_is_no_wall() -> None:
    titles = ["Access to Justice", "Denied", "Captain America", "The Login", "Signs in the Sky", "500 Days of Summer"]
    assert taken(*(row(number, name=title) for number, title in enumerate(titles))).walls == {}


def test_undeclared_fields_are_counted_whatever_extra_holds() -> None:
    extras = ['{"offer": 1, "colour": "red"}', '{"offer": {"stock": 2}}', None, "no JSON", "[1]"]
    found = taken(*(row(number, extra=extra) for number, extra in enumerate(extras)))
    assert found.undeclared == {"offer": 0.4, "colour": 0.2}


def test_the_books_are_kept_as_far_as_checks_need_them() -> None:
    requests = {"fetched": 8, "dead": {"gone": 2}, "excluded": {"robots": 3}, "redirected": 1}
    found = taken(
        row(1), duplicates=4, version="v", books={"requests": requests, "bytes": 99, "examples": {"gone": ["u"]}}
    )
    assert (found.pages, found.dead, found.excluded, found.redirected) == (8, {"gone": 2}, {"robots": 3}, 1)
    assert (found.bytes, found.duplicates, found.version, found.examples) == (99, 4, "v", {"gone": ("u",)})


def test_records_are_recognised_again_whatever_their_order() -> None:
    rows = [row(number) for number in range(1000)]
    first = taken(*rows)
    again = taken(*reversed(rows))
    assert len(first.sketch) == statistics.SKETCH and first.sketch == again.sketch
    cheaper = taken(*(item | {"price": item["price"] + 1} for item in rows))
    assert cheaper.sketch.keys() == first.sketch.keys()
    place = first.sketched.index("price") * statistics.VALUE_DIGITS
    for key, digest in first.sketch.items():
        changed = [a != b for a, b in zip(digest, cheaper.sketch[key], strict=True)]
        assert not any(changed[:place]) and not any(changed[place + statistics.VALUE_DIGITS :])


def test_most_records_of_two_partitions_with_most_in_common_are_the_same_ones() -> None:
    first, second = (taken(*(row(number) for number in range(start, start + 2000))) for start in (0, 100))
    assert len(first.sketch.keys() & second.sketch.keys()) > 200


def test_rows_without_a_key_are_no_records_to_recognise() -> None:
    assert taken(row(1, sku=None), row(2)).sketch.keys() == taken(row(2)).sketch.keys()


def test_a_frame_of_any_columns_has_statistics() -> None:
    columns = {
        "sku": ["a", "b"],
        "list": [[1], [2, 3]],
        "pair": [{"a": 1}, {"a": 2}],
        "long": [timedelta(days=1), None],
        "bytes": [b"x", b"y"],
        "null": [None, None],
        "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
        "whole": pl.Series([1, 2], dtype=pl.UInt8),
    }
    found = profile(pl.DataFrame(columns).lazy(), source(), "2026-06-10")
    assert {name: field.fill for name, field in found.fields.items() if field.fill < 1} == {"long": 0.5, "null": 0}
    assert found.fields["kind"].quantiles == (1,) * 7
    assert found.fields["whole"].measured == "number"


def test_a_frame_without_the_key_has_statistics_too() -> None:
    found = profile(
        frame(row(1), row(2)).drop("sku").with_columns(pl.lit("x").alias("a (b) [c")), source(), "2026-06-10"
    )
    assert found.sketch == {} and found.fields["name"].distinct == 1 and found.fields["a (b) [c"].fill == 1


def test_many_rows_are_sampled_and_still_described_well() -> None:
    number = 150_000
    rows = pl.select(pl.int_range(number).alias("n")).lazy()
    many = rows.select(
        sku=pl.format("s{}", "n"),
        name=pl.format("Lamp {}", pl.col("n") % 70_000),
        stock=pl.col("n") % 40,
        score=pl.when(pl.col("n") % 5 != 0).then(pl.col("n") / number),
        _url=pl.format("https://shop.example/{}", pl.col("n")),
    )
    found = profile(many, source({"sku": "str", "name": "str", "stock": "int", "score": "float"}), "2026-06-10")
    assert found.rows == number and found.fields["score"].fill == 0.8
    assert found.fields["sku"].distinct == pytest.approx(1, abs=0.03)
    assert found.fields["name"].distinct == pytest.approx(70 / 150, abs=0.03)
    assert found.fields["stock"].distinct * number == pytest.approx(40, abs=2)
    shares = found.fields["stock"].shares
    assert shares and len(shares) == 40 and all(share == pytest.approx(1 / 40, abs=0.01) for share in shares.values())
    quantiles = found.fields["score"].quantiles
    assert quantiles and quantiles[1:6] == pytest.approx((0.05, 0.25, 0.5, 0.75, 0.95), abs=0.02)
    assert (quantiles[0], quantiles[6]) == (1 / number, (number - 1) / number), "the ends are those of all rows"
    assert len(found.sketch) == statistics.SKETCH


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.text(max_size=20) | st.none(), st.floats() | st.none(), st.dates() | st.none()), max_size=12)
)
def test_whatever_the_values_are_the_statistics_are_sound(
    values: list[tuple[str | None, float | None, date | None]],
) -> None:
    rows = [row(n, name=text, score=number, made=day) for n, (text, number, day) in enumerate(values)]
    found = taken(*rows)
    json.dumps(found.model_dump(mode="json"), allow_nan=False)
    for field in found.fields.values():
        shares = (field.fill, field.distinct, field.top, field.damaged, field.markup, field.placeholders)
        assert all(0 <= share <= 1 for share in shares)
        assert field.quantiles is None or list(field.quantiles) == sorted(field.quantiles)
        assert field.shares is None or sum(field.shares.values()) == pytest.approx(1)
