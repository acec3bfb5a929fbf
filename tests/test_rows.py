"""An item as it is written down: what of it comes back, and what is refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import attrs
import pytest
import scrapy

from gossamer.crawl.rows import Page, RowFormat
from gossamer.schema import PROVENANCE
from gossamer.source import FieldType

PAGE = Page("https://shop.example/p/1", datetime(2026, 1, 5, 12, 30, 0, 250, tzinfo=UTC), "f00d")
FIELDS: Mapping[str, FieldType] = {"title": "str", "price": "money", "tags": "json", "weight": "float"}


def written(item: Any, page: Page = PAGE, seed: str | None = None) -> dict[str, str | None]:
    line = RowFormat(FIELDS, "v1").line(item, page, seed)
    assert "\n" not in line
    row: dict[str, str | None] = json.loads(line)
    return row


def extra(item: Any) -> Any:
    return json.loads(written(item)["extra"] or "{}")


class Thing(scrapy.Item):
    title = scrapy.Field()
    shop = scrapy.Field()


@dataclass
class DataThing:
    title: str
    shop: str


@attrs.define
class AttrsThing:
    title: str
    shop: str


class OwnDict(dict[str, str]):
    pass


class Size(StrEnum):
    SMALL = "s"


@pytest.mark.parametrize("kind", [dict, OwnDict, Thing, DataThing, AttrsThing])
def test_every_kind_of_item_is_written_alike(kind: Any) -> None:
    assert written(kind(title="Lamp", shop="Berlin")) == {
        "title": "Lamp",
        "price": None,
        "tags": None,
        "weight": None,
        "extra": '{"shop": "Berlin"}',
        "_url": "https://shop.example/p/1",
        "_fetched_at": "2026-01-05T12:30:00.000250+00:00",
        "_page_hash": "f00d",
        "_spider_version": "v1",
        "_seed_row": None,
    }


def test_a_line_has_the_columns_that_are_told() -> None:
    columns = RowFormat(FIELDS, "v1").columns
    assert tuple(written({})) == columns
    assert {*PROVENANCE} - {*columns} == {"_crawl_id"}, "which is the same for the whole crawl"


@pytest.mark.parametrize("item", ["text", 3, ["title"], None, object(), (("title", "Lamp"),)])
def test_what_is_no_item_is_refused_with_its_type(item: Any) -> None:
    with pytest.raises(TypeError, match=f"yielded {type(item).__name__}, which is not an item; yield a dict"):
        written(item)


def test_an_item_that_holds_itself_is_refused() -> None:
    item: dict[str, Any] = {"title": "Lamp"}
    item["parts"] = [item]
    with pytest.raises(RecursionError):
        written(item)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Lamp", "Lamp"),
        (" Läm\np\t😀 \x00 ", " Läm\np\t😀 \x00 "),
        ("", ""),
        (None, None),
        (0, "0"),
        (True, "true"),
        (1.5, "1.5"),
        (10**30, "1" + "0" * 30),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 5), "2026-01-05"),
        (datetime(2026, 1, 5, 12, tzinfo=UTC), "2026-01-05T12:00:00+00:00"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (Size.SMALL, "s"),
        (["a", 1, None], '["a", 1, null]'),
        (("ü", {"b": [{}]}), '["ü", {"b": [{}]}]'),
        ({"z", "a"}, '["a", "z"]'),
        ({1: {"when": date(2026, 1, 5)}}, '{"1": {"when": "2026-01-05"}}'),
        ([DataThing("Lamp", "Berlin")], '[{"title": "Lamp", "shop": "Berlin"}]'),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_a_declared_field_is_kept_as_text(value: Any, text: str | None) -> None:
    assert written({"title": value})["title"] == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("£1,249.00", "£1,249.00"),
        (12.5, "12.5"),
        (12, "12"),
        (1.459, "1.4590"),  # text `1.459` may be more than a thousand
        (Decimal("1.459"), "1.4590"),
        (1e20, "100000000000000000000"),
        (1e-7, "0.0000001"),
        (True, "true"),
        (float("nan"), "nan"),
        (None, None),
        ({"amount": 3}, '{"amount": 3}'),
    ],
)
def test_an_amount_given_as_a_number_cannot_be_read_as_another(value: Any, text: str | None) -> None:
    assert written({"price": value})["price"] == text


def test_undeclared_fields_keep_their_types_and_names() -> None:
    more = {"a": [1, {"b": None}], "extra": True, "_url": "own", "naïve\n": 1.5, "empty": None}
    row = written({"title": "Lamp", **more})
    assert json.loads(row["extra"] or "") == more
    assert row["_url"] == PAGE.url, "provenance is the platform's"
    assert extra({"title": "Lamp"}) == {}
    assert extra({3: "three"}) == {"3": "three"}


def test_half_a_character_spoils_only_itself() -> None:
    row = written(
        {"title": "a\ud800b", "broken\udfff": ["\ud83d", "😀"]}, Page("https://x/\ud800", PAGE.fetched_at, None)
    )
    assert (row["title"], row["extra"], row["_url"]) == ("a?b", '{"broken?": ["?", "😀"]}', "https://x/?")


def test_every_record_names_its_own_page_and_seed_in_whatever_order_they_come() -> None:
    form = RowFormat(FIELDS, "v1")
    pages = [Page(f"https://shop.example/{n}", datetime(2026, 1, n + 1, tzinfo=UTC), f"{n}") for n in range(2)]
    seeds = [None, "https://shop.example/", '{"sku": "a"}']
    for page, seed in [(page, seed) for _ in range(2) for page in pages for seed in seeds] * 2:
        row = json.loads(form.line({"title": "Lamp"}, page, seed))
        assert (row["_url"], row["_page_hash"], row["_seed_row"]) == (page.url, page.hash, seed)
        assert datetime.fromisoformat(row["_fetched_at"]) == page.fetched_at


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.459, "1.4590"), (Decimal("0.125"), "0.1250"), (12.5, "12.5"), (1e20, "1e+20"), (3, "3"), ("1.459", "1.459")],
)
def test_a_number_given_as_one_is_not_taken_for_thousands_by_a_locale(value: Any, text: str | None) -> None:
    assert written({"weight": value})["weight"] == text
