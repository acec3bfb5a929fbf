"""From text to values: what each declared type reads, by which hints of a locale, and what real pages hold."""

import json
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapy.selector import Selector

from gossamer.locales import TERRITORIES, WORDS, Locale, named
from gossamer.records import values
from gossamer.records.values_money import CURRENCIES
from gossamer.schema import field_columns
from gossamer.source import FieldType
from tests import services

PAGE = "https://shop.example/list/page.html"
FETCHED = datetime(2026, 11, 20, 5, tzinfo=UTC)
KINDS: tuple[FieldType, ...] = get_args(FieldType)
LOCALES = ["de-DE", "en-US", "en-GB", "fr-FR", "sv-SE", "de-CH", "hi-IN", "hu-HU", "pt-BR", "ja-JP"]
FEW = settings(max_examples=10)


def hints(locale: str | None) -> Locale | None:
    return Locale.model_validate(named(locale)) if locale else None


def crawled(texts: Sequence[str | None]) -> pl.LazyFrame:
    return pl.LazyFrame({"field": pl.Series(texts, dtype=pl.String)}).with_columns(
        _url=pl.lit(PAGE), _fetched_at=pl.lit(FETCHED)
    )


def read(
    kind: FieldType, texts: Sequence[str | None], locale: str | None = None, words: dict[str, bool] | None = None
) -> list[Any]:
    """The values of some texts: one each, or a tuple where the type has two columns."""
    found = crawled(texts).select(*values.expressions("field", kind, hints(locale), words)).collect()
    assert found.schema == pl.Schema(field_columns("field", kind))
    return [row if len(row) > 1 else row[0] for row in found.rows()]


# -- whatever a page holds --------------------------------------------------------------------------------------------

ODD = [
    "\x00",
    "★" * 500,
    "9" * 400,
    "1" + ",000" * 90,
    "£" * 99,
    "(" * 99,
    "1/" * 49,
    "\u0663\u066b\u0665",
    "²",
    "½",
    "1e999",
    "-",
    ".",
]


PIECES = st.one_of(st.text(max_size=40), st.text("0123456789.,'-/ %:€$kr", max_size=20))


@pytest.mark.parametrize("locale", [None, "de-DE", "en-US"])
@FEW
@given(texts=st.lists(PIECES, min_size=20, max_size=40))
def test_no_text_makes_a_type_fail(locale: str | None, texts: list[str]) -> None:
    frame = crawled([*texts, *ODD, None])
    kinds = [kind for kind in KINDS if kind not in ("date", "datetime")]
    found = frame.select(pl.struct(values.expressions("field", kind, hints(locale))).alias(kind) for kind in kinds)
    assert found.collect().height == len(texts) + len(ODD) + 1


@pytest.mark.parametrize(("locale", "examples"), [(None, 3), ("de-DE", 10)])
def test_no_text_makes_a_date_fail(locale: str | None, examples: int) -> None:
    # Without a language, dateparser tries all of them: some 50 ms for a text that is no date.
    @settings(max_examples=examples)
    @given(texts=st.lists(PIECES, min_size=1, max_size=8))
    def holds(texts: list[str]) -> None:
        assert len(read("datetime", texts, locale)) == len(texts)

    holds()
    assert len(read("date", ODD, locale)) == len(ODD)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"str", "text", "json"}))
@pytest.mark.parametrize(
    "bomb", ["1" * 2_000_000, "1 " * 500_000, "(5 " + "a1" * 500_000, "★☆" * 500_000, "1,1." * 300_000]
)
def test_a_text_of_megabytes_is_no_value_and_takes_no_time(kind: FieldType, bomb: str) -> None:
    assert read(kind, [bomb]) in ([None], [(None, None)])


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unhinted", "german", "american"),
    [
        ("1234", 1234, 1234, 1234),
        ("4.5", 4.5, 4.5, 4.5),
        ("4,5", 4.5, 4.5, 4.5),
        ("1.234", 1.234, 1234, 1.234),
        ("1,234", None, 1.234, 1234),
        ("1.234,5", 1234.5, 1234.5, 1234.5),
        ("1,234.5", 1234.5, 1234.5, 1234.5),
        ("1,234,567", 1234567, 1234567, 1234567),
        ("1.2340", 1.234, 1.234, 1.234),
        ("1 234", None, 1234, 1234),
        ("1\u202f234", None, 1234, 1234),
        ("1'234.50", None, None, 1234.5),
        ("0,125", 0.125, 0.125, 0.125),
        ("−5", -5, -5, -5),  # noqa: RUF001 - as pages write it
        ("1,23", 1.23, 1.23, 1.23),
        ("12,34,567", None, None, 1234567),
        ("1,2,3", None, None, None),
        ("1.2.3", None, None, None),
        ("nan", None, None, None),
    ],
)
def test_numbers_are_read_as_the_locale_says_and_never_guessed(
    text: str, unhinted: float | None, german: float | None, american: float | None
) -> None:
    assert (read("float", [text]), read("float", [text], "de-DE"), read("float", [text], "en-US")) == (
        [unhinted],
        [german],
        [american],
    )


def written(number: Decimal, locale: str, grouping: str | None = None) -> str:
    """A number as people of that locale write it."""
    decimal = TERRITORIES[locale[-2:]]["decimal"]
    grouping = grouping or (" " if decimal == "," else ",")
    return f"{number:,f}".replace(".", "#").replace(",", grouping).replace("#", decimal)


@pytest.mark.parametrize("locale", LOCALES)
@FEW
@given(
    numbers=st.lists(st.decimals(-(10**9), 10**9, places=3), min_size=10, max_size=20),
    grouping=st.sampled_from([None, " ", "\u00a0", "'"]),
)
def test_numbers_are_read_as_they_were_written_in_every_locale(
    locale: str, numbers: list[Decimal], grouping: str | None
) -> None:
    texts = [written(number, locale, grouping) for number in numbers]
    assert read("float", texts, locale) == [float(number) for number in numbers]
    assert read("quantity", [f"{text} kg" for text in texts], locale) == [(float(number), "kg") for number in numbers]
    whole = [written(number.to_integral_value(), locale, grouping) for number in numbers]
    assert read("int", whole, locale) == [round(number) for number in numbers]


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("1.5 kg", 1.5, "kg"),
        ("500ml", 500, "ml"),
        ("1,5 Liter", 1.5, "l"),
        ("12 KG", 12, "kg"),
        ("3 Stück", 3, "piece"),
        ("10 m²", 10, "m²"),
        ("6 fl.oz.", 6, "fl oz"),
        ('15"', 15, "in"),
        ("500", 500, None),
        ("-3 m", -3, "m"),
        ("5 M", None, None),
        ("2 x 500 g", None, None),
        ("7 parsecs", None, None),
        ("1,000 g", None, None),
        ("1.000 g", None, None),
        ("kg", None, None),
    ],
)
def test_a_quantity_is_an_amount_and_a_unit_that_is_known(text: str, amount: float | None, unit: str | None) -> None:
    assert read("quantity", [text]) == [(amount, unit)]


@pytest.mark.parametrize(
    ("text", "value", "best"),
    [
        ("4.5 out of 5", 4.5, 5),
        ("4,6\xa0von 5", 4.6, 5),
        ("Rated 5 out of 5 stars", 5, 5),
        ("8.7/10 (608 reviews)", 8.7, 10),
        ("80 %", 80, 100),
        ("★★★☆☆", 3, 5),
        ("★★★½☆", 3.5, 5),
        ("★★★★", 4, None),
        ("4.8 (178)", 4.8, None),
        ("5 out of 3 reviews", 5, None),
        ("4.39", 4.39, None),
        ("7/5", None, None),
        ("12 reviews", None, None),
        ("-3", None, None),
        ("10/10/2026", None, None),
        ("4,833", None, None),
        ("no ratings yet", None, None),
    ],
)
def test_a_rating_is_a_value_and_the_best_one_where_it_is_told(
    text: str, value: float | None, best: float | None
) -> None:
    assert read("rating", [text]) == [(value, best)]


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", WORDS)
def test_every_language_has_its_words_for_yes_and_no(language: str) -> None:
    for words, value in zip(WORDS[language], (True, False), strict=True):
        assert set(read("bool", words.split(), language)) == {value}
        assert set(read("bool", [f" {words.split()[0].upper()} "], language)) == {value}


def test_words_of_a_shop_are_read_only_if_they_are_declared() -> None:
    texts = ["In  stock", "SOLD OUT", "yes", "oui"]
    assert read("bool", texts) == [None, None, True, None]
    assert read("bool", texts, "fr", {"in stock": True, "Sold out": False}) == [True, False, True, True]


# -- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (" a\u200bb\tc\n d\u00a0 e ", "ab c d e"),
        ("Cafe\u0301", "Café"),
        ("\ufeffa\x00b\u00adc", "abc"),
        ("Fish &amp; chips", "Fish &amp; chips"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # noqa: RUF001 - Persian
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("\u200d\u200b ", None),
    ],
)
def test_text_is_what_a_reader_sees(raw: str, clean: str | None) -> None:
    assert read("text", [raw]) == [clean]


@FEW
@given(text=st.text(max_size=60))
def test_cleaned_text_is_composed_and_stays_as_it_is(text: str) -> None:
    [once] = read("text", [text])
    assert read("text", [once]) == [once]
    if once is not None:
        assert once == unicodedata.normalize("NFC", once)
        assert "  " not in once and once == once.strip()


# -- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "locale", "amount", "currency"),
    [
        ("$5", None, "5", "USD"),
        ("$5", "en-CA", "5", "CAD"),
        ("US$ 5", "en-CA", "5", "USD"),
        ("149 kr", None, "149", "kr"),
        ("149 kr", "sv-SE", "149", "SEK"),
        ("149 kr", "nb-NO", "149", "NOK"),
        ("¥100", "zh-CN", "100", "CNY"),
        ("€ 5", "sv-SE", "5", "EUR"),
        ("1.234", None, "1234", None),
        ("1.234", "en-US", "1.234", None),
        ("1,234 €", "de-DE", "1.234", "EUR"),
        ("1.234 €", "de-DE", "1234", "EUR"),
        ("0.999", None, "0.999", None),
        ("12.5", "de-DE", "12.5", None),
        ("1250 Kč", None, "1250", "CZK"),
    ],
)
def test_a_price_is_read_by_the_hints_of_the_locale(
    text: str, locale: str | None, amount: str, currency: str | None
) -> None:
    assert read("money", [text], locale) == [(Decimal(amount), currency)]


@pytest.mark.parametrize("locale", LOCALES)
@FEW
@given(pence=st.lists(st.integers(0, 10**11), min_size=10, max_size=20))
def test_prices_are_read_as_they_were_written_in_every_locale(locale: str, pence: list[int]) -> None:
    code = TERRITORIES[locale[-2:]]["currency"]
    amounts = [(Decimal(number) / 100).quantize(Decimal("0.01")) for number in pence]
    texts = [f"{written(amount, locale)} {code}" for amount in amounts]
    assert read("money", texts, locale) == [(amount, code) for amount in amounts]


# -- dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unhinted", "german", "american"),
    [
        ("03/04/2026", None, date(2026, 4, 3), date(2026, 3, 4)),
        ("on 03/04/2026", None, date(2026, 4, 3), date(2026, 3, 4)),
        ("03.04.2026", date(2026, 4, 3), date(2026, 4, 3), date(2026, 3, 4)),
        ("3. 4. 2026", date(2026, 4, 3), date(2026, 4, 3), date(2026, 3, 4)),
        ("13/02/2026", date(2026, 2, 13), date(2026, 2, 13), date(2026, 2, 13)),
        ("04/04/2026", date(2026, 4, 4), date(2026, 4, 4), date(2026, 4, 4)),
        ("03/04/26", None, date(2026, 4, 3), date(2026, 3, 4)),
        ("2026-01-05", date(2026, 1, 5), date(2026, 1, 5), date(2026, 1, 5)),
        ("2026-01-05T23:30:00-05:00", date(2026, 1, 5), date(2026, 1, 5), date(2026, 1, 5)),
        ("12. März 2026", date(2026, 3, 12), date(2026, 3, 12), None),
        ("12 March 2026", date(2026, 3, 12), date(2026, 3, 12), date(2026, 3, 12)),
        ("gestern", date(2026, 11, 19), date(2026, 11, 19), None),
        ("March 2026", None, None, None),
    ],
)
def test_dates_are_read_as_the_locale_says_and_never_guessed(
    text: str, unhinted: date | None, german: date | None, american: date | None
) -> None:
    assert (read("date", [text]), read("date", [text], "de-DE"), read("date", [text], "en-US")) == (
        [unhinted],
        [german],
        [american],
    )


@pytest.mark.parametrize(
    ("text", "locale", "instant"),
    [
        ("2026-07-05 10:00", None, datetime(2026, 7, 5, 10, tzinfo=UTC)),
        ("2026-07-05 10:00", "de-DE", datetime(2026, 7, 5, 8, tzinfo=UTC)),
        ("2026-01-05 10:00", "de-DE", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("2026-07-05T10:00:00Z", "de-DE", datetime(2026, 7, 5, 10, tzinfo=UTC)),
        ("2026-07-05T10:00:00.25+02:00", "de-DE", datetime(2026, 7, 5, 8, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-07-05 10:00", "en-US", datetime(2026, 7, 5, 10, tzinfo=UTC)),
        ("yesterday 14:30", "de-DE", datetime(2026, 11, 19, 13, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00+01:00", None, None),
    ],
)
def test_a_time_without_a_zone_is_in_the_locales(text: str, locale: str | None, instant: datetime | None) -> None:
    assert read("datetime", [text], locale) == [instant]


@FEW
@given(moment=st.datetimes(datetime(1900, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))
def test_an_instant_is_read_as_a_program_writes_it(moment: datetime) -> None:
    assert read("datetime", [moment.isoformat(), moment.isoformat().replace("+00:00", "Z")]) == [moment, moment]
    assert read("date", [moment.date().isoformat()]) == [moment.date()]


@pytest.mark.parametrize("locale", LOCALES)
@FEW
@given(days=st.lists(st.dates(date(1970, 1, 1), date(2099, 12, 31)), min_size=5, max_size=10))
def test_numeric_dates_are_read_as_they_were_written_in_every_locale(locale: str, days: list[date]) -> None:
    order = TERRITORIES[locale[-2:]]["dates"]
    form = {"DMY": "%d/%m/%Y", "MDY": "%m/%d/%Y", "YMD": "%Y/%m/%d"}[order]
    assert read("date", [day.strftime(form) for day in days], locale) == days


# -- addresses --------------------------------------------------------------------------------------------------------


@FEW
@given(
    texts=st.lists(st.text("/:.~-_aZ09 %?#@:é", max_size=20), min_size=20, max_size=40),
    page=st.sampled_from([PAGE, "http://a.example:8080", "", None]),
)
def test_plain_addresses_are_what_a_library_makes_of_them(texts: list[str], page: str | None) -> None:
    texts += [
        "/a/b.html",
        "/a/../b",
        "/a/",
        "http://a.example/b",
        "http://A.example/b",
        "https://a.example/b/./c",
        "//b/c",
    ]
    frame = crawled(texts).with_columns(_url=pl.lit(page, dtype=pl.String))
    fast = frame.select(*values.expressions("field", "url")).collect()["field"].to_list()
    assert fast == [values._absolute_url(text.strip(), page) if text.strip() else None for text in texts]


# -- locales ----------------------------------------------------------------------------------------------------------


def test_a_plain_name_gives_all_that_is_certain() -> None:
    assert named("de-DE") == {
        "language": "de",
        "decimal": ",",
        "dates": "DMY",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
    }
    assert "timezone" not in named("en-US"), "it has several"
    assert named("fr-CA")["decimal"] == "," and named("en-CA")["decimal"] == "."
    assert named("de") == {"language": "de"}
    for territory in TERRITORIES:
        Locale.model_validate(named(f"en-{territory}"))


def test_dateparser_knows_every_language() -> None:
    from dateparser.data.languages_info import language_order

    assert set(WORDS) <= set(language_order)


# -- real pages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def vectors() -> Path:
    folder = services.SHARED / "corpora" / "conformance" / "values"
    if not folder.exists():
        services.unavailable("no vectors: conformance/values is not beside the repo")
    return folder


#: Price vectors that are not read as they say, and why.
NOT_READ = {
    "1250€600": "the vector comes with € as decimal separator",
    "1.11000000000000009770": "money has four decimals",
    " 423.923 KD": "thousands, unless a locale says that the point is the decimal separator",
    "3 Ausgaben für nur 14,85 EUR": "price-parser takes the first number (known there)",
    "Buy Now - 2 Litre Was $120.00 Now $60.00": "the same",
    "Цена: уточняйте (мин. заказ: 1 )": "the same",
    "Free Shipping on Orders $49+.": "the same",
    "KShs": "the vector's text is a currency and no price",
    "so'm": "the same",
    "ر.ي": "the same",
    "ش.ص": "the same",
}


@pytest.mark.service
def test_real_prices_are_read_but_for_eleven_of_377(vectors: Path) -> None:
    known = [json.loads(line) for line in (vectors / "price_vectors.dev.jsonl").read_text("utf-8").splitlines()]
    found = read("money", [vector["price_raw"] for vector in known])
    wrong = {
        vector["price_raw"]
        for vector, (amount, _) in zip(known, found, strict=True)
        if amount != (None if vector["amount"] is None else Decimal(vector["amount"]))
    }
    assert wrong == set(NOT_READ)
    # Of the sets that price-parser itself passes, where the price's own text has the currency.
    told = [
        (CURRENCIES.get(vector["currency"], vector["currency"]), currency)
        for vector, (amount, currency) in zip(known, found, strict=True)
        if vector["currency"] and vector["currency"] in (vector["price_raw"] or "")
        if amount is not None and "XFAIL" not in vector["set"]
    ]
    assert len(told) > 150
    assert [pair for pair in told if pair[0] != pair[1]] == []


#: Ratings in which we find a best one, and the vectors do not: theirs looks for it elsewhere on the page.
BEST_FOUND = {"( 0.0 / 5) - 0 review-uri", "100 %", "50 %", "60 %", "8,4/10", "8,7/10", "8,8/10", "8,9/10"}


@pytest.mark.service
def test_all_real_ratings_are_read(vectors: Path) -> None:
    known = json.loads((vectors / "rating_values.json").read_text("utf-8"))
    texts = ["".join(Selector(text=vector["html"]).css("::text").getall()) for vector in known]
    found = read("rating", texts)
    assert len(known) == 270
    assert [pair for pair in zip(known, found, strict=True) if pair[0]["ratingValue"] != pair[1][0]] == []
    other = {
        text.strip()
        for text, vector, (_, best) in zip(texts, known, found, strict=True)
        if best not in (None, vector["bestRating"])
    }
    assert {next((known for known in BEST_FOUND if text.startswith(known)), text) for text in other} == BEST_FOUND
