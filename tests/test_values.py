"""From text to values: what each declared type reads, by which hints of a locale, and what real pages hold."""

import json
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from dateparser.date import DateData
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapy.selector import Selector

from gossamer.locales import TERRITORIES, WORDS, Locale, named
from gossamer.records import values, values_dates
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
    # Without a language, dateparser tries all that are read: some milliseconds for a text that may be a date.
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
        ("CHF 1’234.50", None, "1234.5", "CHF"),  # noqa: RUF001 - as pages write it
        ("1’234’567.– CHF", "de-CH", "1234567", "CHF"),  # noqa: RUF001
        ("12’999.–", "de-CH", "12999", None),  # noqa: RUF001
        ("-1\u02bc234,50 €", None, "-1234.5", "EUR"),
        ("-CHF 1'234.50", None, "-1234.5", "CHF"),
        ("-1\u00a0234,50 €", None, "-1234.5", "EUR"),
        ("٣٤٫٥٠٠", None, "34.5", None),  # noqa: RUF001
        ("١٬٢٣٤٫٥٠", "ar-EG", "1234.5", None),  # noqa: RUF001
        ("１２，３４５円", None, "12345", "円"),  # noqa: RUF001
        ("Rs.50", None, "50", "Rs"),
        ("€ 350.000 k.k.", "nl-NL", "350000", "EUR"),
        ("€ 499 p.p.", None, "499", "EUR"),
        ("£1,200 p.c.m", None, "1200", "GBP"),
        ("£50 B&B", None, "50", "GBP"),
        ("¥5,000-", "ja-JP", "5000", "JPY"),
    ],
)
def test_a_price_is_read_by_the_hints_of_the_locale(
    text: str, locale: str | None, amount: str, currency: str | None
) -> None:
    assert read("money", [text], locale) == [(Decimal(amount), currency)]


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("iPhone 15 $799", "799", "USD"),
        ("iPhone 15 NZD $799", "799", "NZD"),
        ("2 for £5", "5", "GBP"),
        ("100g 1.99€", "1.99", "EUR"),
        ("100 g: 1,99 €", "1.99", "EUR"),
        ("1.99€/100g", "1.99", "EUR"),
        ("20 % off £8", "8", "GBP"),
        ("10 USD (9 €)", "9", "EUR"),
        ("£5.99 £3.99", "5.99", "GBP"),
        ("35€ 99", "35.99", "EUR"),
        ("-35€99", "-35.99", "EUR"),
    ],
)
def test_the_number_at_a_currency_is_the_amount(text: str, amount: str, currency: str) -> None:
    assert read("money", [text]) == [(Decimal(amount), currency)]


@pytest.mark.parametrize(
    "text",
    [
        *("1·234,50 €", "1_234.50", "1،234 €", "1.234’50", "12⁹⁹ €", "$1e6", "1e6 €"),  # noqa: RUF001 - as pages write it
        *("$1.5M", "$3k", "€ 1,2 Mio.", "5 USD million", "1万円", "99¢", "50 cents", "5p", "20 % off", "12,50-"),
        *("10-20 €", "10 - 20 €", "Model 12 -$5", "USB 3 5 €", "1299 999"),
    ],
)
@pytest.mark.parametrize("locale", [None, "de-CH"])
def test_a_part_of_what_stands_there_is_no_price(text: str, locale: str | None) -> None:
    assert read("money", [text], locale) == [(None, None)]


#: Marks that are read (of decimals and of thousands), and those that stand between an amount and another thing.
READ_OR_APART = ".,'\u2018\u2019\u02bc\u066b\u066c\uff07\uff0c\uff0e/|%"


@FEW
@given(
    number=st.decimals(1, 10**6, places=2),
    mark=st.characters(categories=["Pc", "Pd", "Po", "Sk", "Sm"], exclude_characters=READ_OR_APART),
    grouped=st.integers(100, 999),
)
def test_an_amount_never_ends_at_a_mark_within_it(number: Decimal, mark: str, grouped: int) -> None:
    for text in (f"{grouped}{mark}{number} €", f"€ {grouped}{mark}{number}"):
        assert read("money", [text]) == [(None, None)], text


@pytest.mark.parametrize("locale", LOCALES)
@FEW
@given(pence=st.lists(st.integers(0, 10**11), min_size=10, max_size=20))
def test_prices_are_read_as_they_were_written_in_every_locale(locale: str, pence: list[int]) -> None:
    code = TERRITORIES[locale[-2:]]["currency"]
    amounts = [(Decimal(number) / 100).quantize(Decimal("0.01")) for number in pence]
    for grouping in (None, "\u2019", "\u00a0"):
        texts = [f"{written(amount, locale, grouping)} {code}" for amount in amounts]
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
        ("2026-13-02", None, None, None),
        ("2026/13/02", None, None, None),
        ("2026年13月2日", None, None, None),
        ("2026年1月2日", date(2026, 1, 2), None, None),
        ("2026-W05", None, None, None),
        ("13/02/26", None, date(2026, 2, 13), None),
        ("20/11-2026", date(2026, 11, 20), date(2026, 11, 20), date(2026, 11, 20)),
        ("03/04-2026", None, date(2026, 4, 3), date(2026, 3, 4)),
        ("03–04–2026", None, date(2026, 4, 3), date(2026, 3, 4)),  # noqa: RUF001 - as pages write it
        ("12 Nov 2025 23:00 EST", date(2025, 11, 12), date(2025, 11, 12), date(2025, 11, 12)),
        ("12 Nov 2025 10:00 IST", date(2025, 11, 12), date(2025, 11, 12), date(2025, 11, 12)),
        ("1700000000", None, None, None),
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
        ("12 Nov 2025 10:00 EST", None, datetime(2025, 11, 12, 15, tzinfo=UTC)),
        ("12 Nov 2025 10:00 IST", None, None),
        ("12 Nov 2025 10:00 IST", "en-IN", datetime(2025, 11, 12, 4, 30, tzinfo=UTC)),
        ("12 Jul 2025 10:00 BST", "en-GB", datetime(2025, 7, 12, 9, tzinfo=UTC)),
        ("12 Nov 2025 10:00 BST", "en-GB", None),
        ("12 Nov 2025 10:00 CST", "en-GB", None),
        ("today 10:00 EST", None, None),
    ],
)
def test_a_time_without_a_zone_is_in_the_locales(text: str, locale: str | None, instant: datetime | None) -> None:
    assert read("datetime", [text], locale) == [instant]


def seen_at(moment: datetime, kind: FieldType, texts: Sequence[str], locale: str | None = None) -> list[Any]:
    """The values of texts on pages that were fetched at `moment`."""
    frame = crawled(texts).with_columns(_fetched_at=pl.lit(moment))
    return frame.select(*values.expressions("field", kind, hints(locale))).collect()["field"].to_list()


@pytest.mark.parametrize(
    ("text", "locale", "since"),
    [
        ("2 hours ago", None, timedelta(hours=-2)),
        ("1 hour, 5 minutes ago", None, timedelta(hours=-1, minutes=-5)),
        ("an hour ago", "en-US", timedelta(hours=-1)),
        ("just now", None, timedelta()),
        ("in 20 hours", None, timedelta(hours=20)),
        ("1 day 2 hours ago", None, timedelta(days=-1, hours=-2)),
        ("vor 2 Stunden", "de-DE", timedelta(hours=-2)),
        ("vor 30 Sekunden", None, timedelta(seconds=-30)),
        ("il y a 2 h", "fr-FR", timedelta(hours=-2)),
        ("hace 5 minutos", None, timedelta(minutes=-5)),
        ("4 uur geleden", "nl-NL", timedelta(hours=-4)),
        ("2 часа назад", None, timedelta(hours=-2)),
        ("2小时前", None, timedelta(hours=-2)),
        ("2小時前", "zh-TW", timedelta(hours=-2)),
        ("2時間前", "ja-JP", timedelta(hours=-2)),
        ("2시간 전", None, timedelta(hours=-2)),
        ("منذ ساعتين", None, timedelta(hours=-2)),
    ],
)
@FEW
@given(fetched=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
def test_hours_count_from_the_second_of_the_fetch(
    text: str, locale: str | None, since: timedelta, fetched: datetime
) -> None:
    told = fetched + since
    zone = (hints(locale) or Locale()).timezone or "UTC"
    assert seen_at(fetched, "datetime", [text], locale) == [told]
    assert seen_at(fetched, "date", [text], locale) == [told.astimezone(ZoneInfo(zone)).date()]


def test_two_pages_of_a_day_have_their_own_instants_and_one_yesterday() -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    frame = pl.LazyFrame(
        {
            "field": ["2 hours ago"] * 2 + ["yesterday"] * 2,
            "_url": PAGE,
            "_fetched_at": [noon, noon + timedelta(hours=1)] * 2,
        }
    )
    found = frame.select(*values.expressions("field", "datetime")).collect()["field"].to_list()
    midnight = datetime(2026, 11, 19, tzinfo=UTC)
    assert found == [noon - timedelta(hours=2), noon - timedelta(hours=1), midnight, midnight]


@pytest.mark.parametrize("locale", [None, "en-US", "de-DE"])
def test_a_duration_is_no_date(locale: str | None) -> None:
    texts = ["2 weeks", "5 years", "2-3 days", "2-3 days ago", "3 h", "12 min", "0 days", "+2 days", "2 days 14:30"]
    assert read("datetime", texts, locale) == [None] * len(texts)
    assert read("date", ["2 Wochen", "eine Woche", "2 semaines", "2 недели", "2 週間"]) == [None] * 5


def test_a_text_of_the_past_that_is_a_bare_duration_to_dateparser_is_a_date() -> None:
    yesterday, before = date(2026, 11, 19), date(2026, 11, 18)
    assert read("date", ["เมื่อวานนี้", "שלשום", "onegdaj", "dziś"]) == [yesterday, before, before, FETCHED.date()]


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


@pytest.mark.parametrize("locale", [None, "de-DE"])
def test_a_text_without_words_of_a_date_is_not_given_to_dateparser(
    locale: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def parsed(text: str, *_: object) -> DateData:
        given.append(text)
        return DateData()

    monkeypatch.setattr(values_dates, "_parsed", parsed)
    read("date", ["Garden chair model 12 in oak", "New! 1000 sold", "1000", "Only 3 left in stock", "椅子 12"], locale)
    assert given == []
    read("date", ["2 hours ago", "5. Mai 2026"], locale)
    assert set(given) == {"2 hours ago", "5. Mai 2026"}


@pytest.mark.parametrize("language", WORDS)
def test_every_name_of_a_month_and_every_word_for_a_day_is_given_to_dateparser(language: str) -> None:
    info = import_module(f"dateparser.data.date_translation_data.{language}").info
    vocabulary = values_dates._vocabulary(values_dates._LANGUAGES)
    names = [name for month in values_dates._MONTHS for name in info[month]]
    assert [name for name in names if not vocabulary.kinds(f"5 {name} 2026")[0]] == []
    told = [text for texts in info["relative-type"].values() for text in texts]
    assert [text for text in told if not vocabulary.kinds(text)[1]] == []


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
    "Buy Now - 2 Litre Was $120.00 Now $60.00": "the first price is taken",
    "Цена: уточняйте (мин. заказ: 1 )": "price-parser takes the first number (known there)",
    "Free Shipping on Orders $49+.": "the same",
    "KShs": "the vector's text is a currency and no price",
    "so'm": "the same",
    "ر.ي": "the same",
    "ش.ص": "the same",
}


@pytest.mark.service
def test_real_prices_are_read_but_for_ten_of_377(vectors: Path) -> None:
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
