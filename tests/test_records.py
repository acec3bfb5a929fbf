"""From text to values, duplicates, transforms and joins: what a user's rows become."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.lake import Lake
from gossamer.records import enrich, keys, transform
from gossamer.records.clean import checks, clean, count, deduplicate
from gossamer.schema import field_columns
from gossamer.source import FieldType, Source, SourceSpec

FETCHED = datetime(2026, 11, 20, 5, tzinfo=UTC)
FIELDS: dict[str, FieldType] = {
    "sku": "str",
    "price": "money",
    "stock": "int",
    "rating": "float",
    "sold": "bool",
    "added": "date",
    "seen": "datetime",
    "link": "url",
    "tags": "json",
}


def declare(folder: Path, fields: dict[str, FieldType] | None = None, **more: Any) -> Source:
    declaration = {
        "name": "shop",
        "spider": "spider:Shop",
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": "sku", "fields": fields or FIELDS},
        **more,
    }
    return Source(SourceSpec.model_validate(declaration), folder)


def crawled(*rows: Mapping[str, str | None]) -> pl.LazyFrame:
    known = {
        "extra": None,
        "_url": "https://shop.example/list/page.html",
        "_fetched_at": FETCHED,
        "_page_hash": "h",
        "_crawl_id": "shop/2026-11-20/1",
        "_spider_version": "v",
        "_seed_row": "https://shop.example/list/page.html",
    }
    texts = dict.fromkeys((*{name for row in rows for name in row}, "extra"), pl.String)
    return pl.DataFrame([{**known, **row} for row in rows], schema_overrides=texts).lazy()


def one(tmp_path: Path, field: str, text: str | None) -> dict[str, Any]:
    """The clean row of one crawled text."""
    rows = clean(declare(tmp_path), crawled({"sku": "a", field: text}), "2026-11-20").collect()
    return rows.row(0, named=True)


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("£12.99", "12.99", "GBP"),
        ("$1,249.00", "1249.00", "USD"),
        ("1.249,00 €", "1249.00", "EUR"),
        ("CHF 12.50", "12.50", "CHF"),
        ("-5,00 €", "-5.00", "EUR"),
        ("(7.50)", "-7.50", None),
        ("-£5", "-5", "GBP"),
        ("€ −3.50", "-3.50", "EUR"),  # noqa: RUF001 - as pages write it
        ("£10 - £20", "10", "GBP"),
        ("£5 -20%", "5", "GBP"),
        ("-20% £15", "15", "GBP"),
        ("Price - £5.00", "5", "GBP"),
        ("(£4.99 per kg)", "4.99", "GBP"),
        ("1.4590", "1.459", None),
        ("12-13 pieces £4", "4", "GBP"),
        ("0", "0", None),
    ],
)
def test_prices_keep_amount_sign_and_currency(tmp_path: Path, text: str, amount: str, currency: str | None) -> None:
    row = one(tmp_path, "price", text)
    assert (row["price"], row["price_currency"]) == (Decimal(amount), currency)
    assert row["_unparsed"] is None


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("stock", " 22 ", 22),
        ("rating", "4.5", 4.5),
        ("sold", "Yes", True),
        ("sold", "false", False),
        ("added", "12 March 2026", date(2026, 3, 12)),
        ("added", "2026-01-05", date(2026, 1, 5)),
        ("added", "yesterday", date(2026, 11, 19)),
        ("stock", "12.0", 12),
        ("added", "13/02/2026", date(2026, 2, 13)),
        ("added", "02/13/2026", date(2026, 2, 13)),
        ("added", "03.04.2026", date(2026, 4, 3)),
        ("added", "2026/02/01", date(2026, 2, 1)),
        ("seen", "2026-01-05T10:00:00+02:00", datetime(2026, 1, 5, 8, tzinfo=UTC)),
        ("link", "../a b", "https://shop.example/a%20b"),
        ("tags", '["x", 1]', '["x", 1]'),
    ],
)
def test_text_becomes_a_value_of_its_declared_type(tmp_path: Path, field: str, text: str, value: object) -> None:
    assert one(tmp_path, field, text)[field] == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("price", "call us"),
        ("price", "9" * 40),
        ("stock", "many"),
        ("stock", "1.5"),
        ("rating", "nan"),
        ("rating", "inf"),
        ("sold", "perhaps"),
        ("added", "31 February 2026"),
        ("added", "March 2026"),
        ("seen", "soon"),
        ("added", "01/02/2026"),
        ("added", "01/02/26"),
        ("seen", "0001-01-01T00:00:00+01:00"),
        ("seen", "9999-12-31T23:59:59-05:00"),
        ("price", "(5 " + "a1" * 50_000),
        ("added", "1" * 50_000),
        ("tags", "not json {"),
        ("link", "javascript:alert(1)"),
        ("link", "http://[broken"),
    ],
)
def test_what_is_no_value_of_its_type_is_null_and_its_text_is_kept(tmp_path: Path, field: str, text: str) -> None:
    row = one(tmp_path, field, text)
    assert row[field] is None
    assert json.loads(row["_unparsed"]) == {field: text}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", [None, "", "   "])
def test_an_absent_value_is_null_and_not_reported_as_unparsed(tmp_path: Path, field: str, text: str | None) -> None:
    row = one(tmp_path, field, text) if field != "sku" else one(tmp_path, "tags", text)
    assert row[field if field != "sku" else "tags"] is None
    assert row["_unparsed"] is None


@given(text=st.text(max_size=30), field=st.sampled_from(sorted(set(FIELDS) - {"sku"})))
def test_no_text_from_the_web_breaks_a_type(tmp_path_factory: pytest.TempPathFactory, text: str, field: str) -> None:
    frame = clean(declare(Path("nowhere")), crawled({"sku": "a", field: text}), "2026-11-20").collect()
    for name, dtype in field_columns(field, FIELDS[field]).items():
        assert frame.schema[name] == dtype
    unparsed = frame["_unparsed"][0]
    assert unparsed is None or json.loads(unparsed) == {field: text}


def test_a_field_that_no_page_had_is_a_column_of_nulls(tmp_path: Path) -> None:
    frame = clean(declare(tmp_path), crawled({"sku": "a"}), "2026-11-20").collect()
    assert frame["price"].to_list() == [None]
    assert frame.schema["price_currency"] == pl.String


def test_each_record_stands_once_and_rows_without_key_are_kept_and_counted(tmp_path: Path) -> None:
    source = declare(tmp_path)
    rows = crawled({"sku": "a", "stock": "1"}, {"sku": "b"}, {"sku": "a", "stock": "2"}, {"sku": None}, {"sku": None})
    typed = clean(source, rows, "2026-11-20")
    kept = deduplicate(source, typed).collect()
    assert kept.select("sku", "stock").rows() == [("a", 1), ("b", None), (None, None), (None, None)]
    counts = count(source, 7, typed, kept.height)
    assert (counts.crawled, counts.clean, counts.duplicates, counts.dropped, counts.without_key) == (7, 4, 1, 2, 2)
    by_name = {check.name: check for check in checks(source, counts)}
    assert not by_name["record_key"].passed
    assert by_name["record_key"].summary == "2 of 4 records have no key (sku)"
    assert by_name["rows_kept"].passed
    assert by_name["rows_kept"].summary == "4 of 7 crawled rows kept (1 duplicates, 2 dropped)"


SEVERAL = (
    {"sku": "a", "stock": "1", "seen": "2026-01-02T00:00:00Z"},
    {"sku": "b", "stock": "5"},
    {"sku": "a", "stock": "3", "rating": "4.5"},
    {"sku": "a", "stock": "2", "seen": "2026-01-03T00:00:00Z"},
    {"sku": "b", "stock": None},
)


@pytest.mark.parametrize(
    ("keep", "stocks"),
    [
        ("first", [1, 5]),
        ("last", [2, None]),
        ("fullest", [1, 5]),
        ({"newest": "seen"}, [5, 2]),
        ({"max": "stock"}, [5, 3]),
        ({"min": "stock"}, [1, 5]),
        ({"newest": "_fetched_at"}, [1, 5]),
    ],
)
def test_of_several_records_with_one_key_the_declared_one_is_kept_in_crawl_order(
    tmp_path: Path, keep: Any, stocks: list[int | None]
) -> None:
    source = declare(tmp_path, record={"key": "sku", "fields": FIELDS, "keep": keep})
    kept = deduplicate(source, clean(source, crawled(*SEVERAL), "2026-11-20")).collect()
    assert kept["stock"].to_list() == stocks


@given(
    rows=st.lists(st.tuples(st.sampled_from("abc") | st.none(), st.integers(0, 3) | st.none(), st.integers(0, 9))),
    keep=st.sampled_from(["first", "last", "fullest", {"max": "n"}, {"min": "n"}]),
    at_once=st.integers(1, 4),
)
@settings(max_examples=40)
def test_duplicates_go_as_a_plain_loop_would_let_them(rows: list[Any], keep: Any, at_once: int) -> None:
    fields: dict[str, FieldType] = {"one": "str", "two": "int", "n": "int"}
    source = declare(Path("nowhere"), record={"key": ["one", "two"], "fields": fields, "keep": keep})
    frame = pl.LazyFrame(rows, schema={"one": pl.String, "two": pl.Int64, "n": pl.Int64}, orient="row")

    def better(new: int, old: int) -> bool:
        match keep:
            case {"max": _}:
                return new > old
            case {"min": _}:
                return new < old
        return bool(keep == "last")  # all whole rows are equally full here

    winners: dict[Any, int] = {}
    for number, (one, two, n) in enumerate(rows):
        key = (one, two) if one is not None and two is not None else number
        if key not in winners or better(n, rows[winners[key]][2]):
            winners[key] = number
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_AT_ONCE", at_once)
        assert deduplicate(source, frame).collect().rows() == [rows[number] for number in sorted(winners.values())]


def test_keys_whose_hashes_are_equal_are_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "hashes", lambda frame, _: pl.Series([7] * frame.collect().height, dtype=pl.UInt64))
    source = declare(tmp_path)
    typed = clean(source, crawled({"sku": "a"}, {"sku": "b"}, {"sku": "a"}), "2026-11-20")
    assert deduplicate(source, typed).collect()["sku"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"keep": {"newest": "stock"}}, "the field 'stock' is int; name a date, a datetime or _fetched_at"),
        ({"keep": {"max": "nothing"}}, "keep names the unknown field 'nothing'"),
        ({"keep": {"max": "tags"}}, "the field 'tags' is json"),
        ({"keep": "best"}, "does not say which duplicate is kept"),
        ({"words": {"stock": {"plenty": True}}}, "'stock' is no field of type bool"),
        ({"fields": {"sku": "str", "w": "quantity", "w_unit": "str"}}, "'w_unit' is a column of the platform's own"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused_in_words(
    tmp_path: Path, record: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        declare(tmp_path, record={"key": "sku", "fields": FIELDS, **record})


def test_a_transform_that_drops_what_decides_between_duplicates_is_told(tmp_path: Path) -> None:
    (tmp_path / "transform.py").write_text("def clean(frame, context):\n    return frame.drop('stock')\n")
    source = declare(tmp_path, record={"key": "sku", "fields": FIELDS, "keep": {"max": "stock"}})
    with pytest.raises(transform.TransformError, match=r"dropped the column stock, by which record\.keep chooses"):
        deduplicate(source, clean(source, crawled({"sku": "a"}), "2026-11-20"))


def test_what_is_in_quarantine_is_in_the_ledger(tmp_path: Path) -> None:
    source = declare(tmp_path)
    typed = clean(source, crawled({"sku": "a"}, {"sku": "b"}, {"sku": "a"}), "2026-11-20")
    counts = count(source, 5, typed, 1, quarantined=1)
    assert (counts.clean, counts.quarantined, counts.duplicates, counts.dropped) == (1, 1, 1, 2)
    assert checks(source, counts)[1].summary == "1 of 5 crawled rows kept (1 duplicates, 2 dropped, 1 in quarantine)"


def test_the_hints_of_a_source_reach_its_rows(tmp_path: Path) -> None:
    source = declare(
        tmp_path,
        locale="de-DE",
        record={"key": "sku", "fields": FIELDS, "words": {"sold": {"ausverkauft": True}}},
    )
    texts = {"sku": "a", "price": "1.234 €", "stock": "1.234", "sold": "Ausverkauft", "added": "03/04/2026"}
    row = clean(source, crawled(texts), "2026-11-20").collect().row(0, named=True)
    assert (row["price"], row["stock"], row["sold"], row["added"]) == (Decimal(1234), 1234, True, date(2026, 4, 3))
    assert row["_unparsed"] is None


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("german", "'german' is not a locale; write language and country, like de-DE, or the parts"),
        ("de-XX", "nothing is known of XX"),
        ("xx-DE", "'xx' is not a language that is read"),
        ({"currency": "euro"}, "'euro' is not a currency; write its ISO code, like EUR"),
    ],
)
def test_a_locale_that_means_nothing_is_refused_in_words(tmp_path: Path, locale: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        declare(tmp_path, locale=locale)


def test_a_transform_that_drops_every_row_is_a_failed_check_not_an_empty_success(tmp_path: Path) -> None:
    (tmp_path / "transform.py").write_text(
        "import polars as pl\ndef clean(frame, context):\n    return frame.filter(pl.lit(False))\n"
    )
    source = declare(tmp_path)
    typed = clean(source, crawled({"sku": "a"}), "2026-11-20")
    failed = [check for check in checks(source, count(source, 1, typed, 0)) if not check.passed]
    assert [(check.name, check.blocking, check.summary) for check in failed] == [
        ("rows_kept", True, "0 of 1 crawled rows kept (1 dropped)")
    ]
    assert all(check.passed for check in checks(source, count(source, 0, typed, 0)))  # an empty crawl stays empty


def test_a_sources_own_clean_gets_typed_rows_and_the_partition(tmp_path: Path) -> None:
    (tmp_path / "transform.py").write_text(
        "import polars as pl\n"
        "def clean(frame, context):\n"
        "    return frame.with_columns(half=pl.col('stock') / 2, day=pl.lit(context.period))\n"
    )
    frame = clean(declare(tmp_path), crawled({"sku": "a", "stock": "3"}), "2026-11-20").collect()
    assert frame.select("half", "day").row(0) == (1.5, "2026-11-20")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "def clean(frame, context):\n    return 1 / 0\n",
            r"ZeroDivisionError: division by zero \(.*transform\.py:2\)",
        ),
        ("def clean(frame, context):\n    return frame.collect()\n", "gave DataFrame. Return the LazyFrame"),
        ("def clean(frame, context):\n    return frame.drop('sku')\n", "dropped the key column sku"),
        ("import nothing_of_that_name\n", r"ModuleNotFoundError: .*transform\.py:1\)"),
        ("def clean(frame, context)\n", r"SyntaxError: .*transform\.py:1\)"),
        ("def clean(frame):\n    return frame\n", "TypeError"),
    ],
)
def test_a_transform_that_fails_is_named_with_file_and_line(tmp_path: Path, code: str, words: str) -> None:
    (tmp_path / "transform.py").write_text(code)
    with pytest.raises(transform.TransformError, match=words):
        clean(declare(tmp_path), crawled({"sku": "a"}), "2026-11-20")


def test_a_transform_can_import_what_lies_beside_it_and_sources_do_not_share_it(tmp_path: Path) -> None:
    for name, number in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "helpers.py").write_text(f"from __future__ import annotations\nNUMBER = {number}\n")
        (folder / "transform.py").write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\nimport polars as pl\n"
            "from helpers import NUMBER\n@dataclass\nclass Rule:\n    number: int = NUMBER\n"
            "def clean(frame, context):\n    return frame.with_columns(number=pl.lit(Rule().number))\n"
        )
        frame = clean(declare(folder), crawled({"sku": "a"}), "2026-11-20").collect()
        assert frame["number"].to_list() == [number]


def test_a_transform_that_fails_only_when_computed_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "transform.py").write_text(
        "import polars as pl\ndef clean(frame, context):\n    return frame.with_columns(pl.col('sku').cast(pl.Int64))\n"
    )
    source = declare(tmp_path)
    with (
        pytest.raises(transform.TransformError, match=r"transform\.py: InvalidOperationError"),
        transform.computing(source),
    ):
        clean(source, crawled({"sku": "a"}), "2026-11-20").collect()


# -- joins ------------------------------------------------------------------------------------------------------------


def joining(tmp_path: Path, **more: Any) -> Source:
    join = {"source": "rates", "on": {"price_currency": "currency"}, **more}
    return declare(tmp_path, enrich={"join": [join]})


ROWS = pl.LazyFrame({"sku": ["a", "b", "c"], "price_currency": ["EUR", "CHF", None], "rate": [9, 9, 9]})
RATES = pl.LazyFrame({"currency": ["EUR", "USD"], "rate": [1.0, 0.9], "_url": ["u", "u"], "partition_key": ["d", "d"]})


def test_a_left_join_keeps_unmatched_rows_and_counts_them(tmp_path: Path) -> None:
    frame, [joined] = enrich.enrich(joining(tmp_path), ROWS, {"rates": RATES})
    assert frame.collect().sort("sku").rows() == [("a", "EUR", 9, 1.0), ("b", "CHF", 9, None), ("c", None, 9, None)]
    assert frame.collect_schema().names() == ["sku", "price_currency", "rate", "rate_rates"]
    assert (joined.rows, joined.unmatched) == (3, 2)
    matched, complete = enrich.checks([joined])
    assert (matched.passed, matched.blocking) == (True, True)  # the join declares no limit
    assert (complete.passed, complete.blocking) == (False, False)
    assert "CHF" in complete.summary


def test_an_inner_join_drops_unmatched_rows_and_still_counts_them(tmp_path: Path) -> None:
    frame, [joined] = enrich.enrich(joining(tmp_path, how="inner", max_unmatched=0.7), ROWS, {"rates": RATES})
    assert frame.collect()["sku"].to_list() == ["a"]
    assert joined.unmatched == 2
    assert enrich.checks([joined])[0].passed


def test_only_joins_that_declare_a_limit_can_block(tmp_path: Path) -> None:
    limited = enrich.Joined("rates", 100, 0, 0.05, ())
    free = enrich.Joined("brands", 100, 60, None, ("Acme",))
    matched, complete = enrich.checks([limited, free])
    assert (matched.passed, complete.passed) == (True, False)
    over = enrich.Joined("rates", 100, 6, 0.05, ("CHF",))
    assert enrich.checks([over, free])[0].summary == "6 of 100 rows have no match in rates (6.0%, e.g. CHF); 5.0% may"
    assert not enrich.checks([over, free])[0].passed


def test_the_latest_partition_is_the_newest_period_with_all_its_segments(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for key, rate in (("2026-11-19|eu", 1.0), ("2026-11-20|eu", 2.0), ("2026-11-20|us", 3.0), ("2026-11-18|us", 4.0)):
        rows = pl.DataFrame({"currency": [key[-2:]], "rate": [rate], "partition_key": [key]})
        rows.write_delta(lake.table_url("rates"), mode="append")
    frames = enrich.upstream(joining(tmp_path, partition="latest"), lake, "2026-11-20")
    assert sorted(frames["rates"].collect()["rate"].to_list()) == [2.0, 3.0]


def test_a_join_never_multiplies_rows(tmp_path: Path) -> None:
    twice = pl.concat([RATES, RATES])
    with pytest.raises(enrich.JoinError, match=r"`rates` has 2 rows for .*Join on columns that identify one row"):
        enrich.enrich(joining(tmp_path), ROWS, {"rates": twice})


def test_a_join_on_an_unknown_column_names_the_columns_there_are(tmp_path: Path) -> None:
    with pytest.raises(enrich.JoinError, match=r"rates has no column code\. It has: currency, rate"):
        enrich.enrich(joining(tmp_path, on={"price_currency": "code"}), ROWS, {"rates": RATES})


def test_a_join_of_different_types_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(enrich.JoinError, match="price_currency String and rate Float64 are of different types"):
        enrich.enrich(joining(tmp_path, on={"price_currency": "rate"}), ROWS, {"rates": RATES})


def test_a_join_with_a_source_that_published_nothing_says_what_to_materialise(tmp_path: Path) -> None:
    with pytest.raises(enrich.JoinError, match="Materialise published/rates first"):
        enrich.upstream(joining(tmp_path), Lake(str(tmp_path / "lake")), "2026-11-20")
