"""From text as scraped to typed values: one Polars expression for each declared type.

What is text but cannot be read as its type becomes null here; `clean` keeps the text beside it. Nothing is guessed: a
date without a day, or a price without digits, is no value. Types not of one column (money) give several.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from urllib.parse import urljoin

import polars as pl

from gossamer.schema import INSTANT, MONEY
from gossamer.source import FieldType

_MAX_MONEY = Decimal(10) ** 14

#: ISO 4217 codes of the symbols that stand for one currency only, or nearly so; others stay as they were written.
CURRENCIES = {
    "£": "GBP",
    "€": "EUR",
    "$": "USD",
    "US$": "USD",
    "¥": "JPY",
    "₹": "INR",
    "₽": "RUB",
    "₩": "KRW",
    "zł": "PLN",
}
_MINUS = ("-", "−", "–")  # noqa: RUF001 - what pages write for a minus
#: Longer text is no price and no date; parsers take seconds over what a page may hold.
_LONGEST = 100
_NUMERIC_DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?!\d)")
_TRUE, _FALSE = ["true", "yes", "1", "on"], ["false", "no", "0", "off"]


def expressions(name: str, kind: FieldType) -> list[pl.Expr]:
    """Expressions over a raw frame (text column `name`, provenance `_url`, `_fetched_at`) for its `field_columns`."""
    text = pl.col(name).str.strip_chars()
    if kind == "money":
        parsed = _each(text, _money, pl.Struct({"amount": MONEY, "currency": pl.String}))
        return [
            parsed.struct.field("amount").alias(name),
            parsed.struct.field("currency").alias(f"{name}_currency"),
        ]
    simple: dict[FieldType, Callable[[], pl.Expr]] = {
        "str": lambda: pl.when(text != "").then(text),
        "json": lambda: _each(text, _json, pl.String()),
        # A whole number of a JSON document may be written 12.0.
        "int": lambda: text.str.replace(r"^([+-]?\d+)\.0+$", "$1").cast(pl.Int64, strict=False),
        "float": lambda: _finite(text.cast(pl.Float64, strict=False)),
        "bool": lambda: (
            pl.when(text.str.to_lowercase().is_in(_TRUE))
            .then(True)
            .when(text.str.to_lowercase().is_in(_FALSE))
            .then(False)
        ),
        "date": lambda: pl.coalesce(
            text.str.to_date("%Y-%m-%d", strict=False), _each_dated(text, _instant, INSTANT).dt.date()
        ),
        "datetime": lambda: _each_dated(text, _instant, INSTANT),
        "url": lambda: _each_pair(text, pl.col("_url"), _absolute_url, pl.String()),
    }
    return [simple[kind]().alias(name)]


def _finite(number: pl.Expr) -> pl.Expr:
    return pl.when(number.is_finite()).then(number)


def _each(text: pl.Expr, parse: Callable[[str], object], dtype: pl.DataType) -> pl.Expr:
    """`parse` over a text column, once for each distinct text of a batch."""

    def batch(series: pl.Series) -> pl.Series:
        values = series.unique().drop_nulls().to_list()
        parsed = {value: parse(value) for value in values}
        return pl.Series(series.name, [parsed.get(value) for value in series], dtype=dtype, strict=True)

    return text.map_batches(batch, return_dtype=dtype, is_elementwise=True)


def _each_pair(text: pl.Expr, other: pl.Expr, parse: Callable[..., object], dtype: pl.DataType) -> pl.Expr:
    """The same with a second column, whose value `parse` takes as well."""

    def batch(series: pl.Series) -> pl.Series:
        pairs = series.struct.unnest().rows()
        parsed = {pair: parse(*pair) for pair in set(pairs) if pair[0]}
        return pl.Series(series.name, [parsed.get(pair) for pair in pairs], dtype=dtype, strict=True)

    pair = pl.struct(text.alias("text"), other.alias("other"))
    return pair.map_batches(batch, return_dtype=dtype, is_elementwise=True)


def _each_dated(text: pl.Expr, parse: Callable[..., object], dtype: pl.DataType) -> pl.Expr:
    # "yesterday" is relative to the day the page was fetched, so that extracting again gives the same date.
    return _each_pair(text, pl.col("_fetched_at").dt.truncate("1d"), parse, dtype)


def _money(text: str) -> dict[str, object] | None:
    from price_parser import Price

    price = Price.fromstring(text) if len(text) <= _LONGEST else None
    if price is None or price.amount is None or abs(price.amount) >= _MAX_MONEY:
        return None
    amount = -price.amount if _is_negative(text, price.amount_text or "", price.currency or "") else price.amount
    try:
        amount = amount.quantize(Decimal("0.0001"))
    except InvalidOperation:
        return None
    return {"amount": amount, "currency": CURRENCIES.get(price.currency or "", price.currency)}


def _is_negative(text: str, amount: str, currency: str) -> bool:
    """Whether an amount has a minus, or stands alone in parentheses; price-parser drops both.

    A dash between words or amounts is no minus: nothing but the currency may stand with it before the amount.
    """
    before, _, after = text.strip().partition(amount)
    before, after = (part.replace(currency, "", 1).strip() if currency else part.strip() for part in (before, after))
    return before in _MINUS or (before == "(" and after == ")")


def _instant(text: str, fetched: datetime | None) -> datetime | None:
    import dateparser

    if len(text) > _LONGEST:
        return None
    try:
        return _utc(datetime.fromisoformat(text))
    except ValueError:
        pass
    except OverflowError:  # the ends of the calendar, moved over them by their time zone
        return None
    base = (fetched or datetime.now(UTC)).replace(tzinfo=None)
    settings: dict[str, object] = {"STRICT_PARSING": True, "RELATIVE_BASE": base, "TIMEZONE": "UTC"}
    if numeric := _NUMERIC_DATE.match(text):
        order = _order(*numeric.groups())
        if order is None:
            return None
        settings["DATE_ORDER"] = order
    try:
        found = dateparser.parse(text, settings=settings)
        return _utc(found) if found else None
    except (ValueError, OverflowError):
        return None


def _order(first: str, separator: str, second: str, last: str) -> str | None:
    """How a numeric date is read: 13/02/2026 one way only, 01.02.2026 as dots are used, 01/02/2026 not at all."""
    if len(first) == 4:
        return "YMD"
    if len(last) == 4 and separator != "." and int(first) <= 12 and int(second) <= 12 and int(first) != int(second):
        return None
    if len(last) < 4 and separator != ".":
        return None
    return "MDY" if int(second) > 12 else "DMY"


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _json(text: str) -> str | None:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text


def _absolute_url(text: str, page: str | None) -> str | None:
    from w3lib.url import safe_url_string

    try:
        url = safe_url_string(urljoin(page or "", text))
    except ValueError:
        return None
    return url if url.startswith(("http://", "https://")) else None


def unparsed(fields: Iterable[tuple[str, FieldType]]) -> pl.Expr:
    """A JSON object of the fields that had text and gave no value, or null.

    Raw text is expected in columns named `_raw_<field>`, parsed values in `<field>`.
    """
    missed = [
        pl.when((pl.col(f"_raw_{name}").str.strip_chars() != "") & pl.col(name).is_null())
        .then(pl.concat_str(pl.lit(f'"{name}":'), _json_text(pl.col(f"_raw_{name}"))))
        .alias(name)
        for name, kind in fields
        if kind != "str"
    ]
    if not missed:
        return pl.lit(None, dtype=pl.String).alias("_unparsed")
    listed = pl.concat_list(missed).list.drop_nulls()
    return (
        pl.when(listed.list.len() > 0)
        .then(pl.concat_str(pl.lit("{"), listed.list.join(","), pl.lit("}")))
        .alias("_unparsed")
    )


def _json_text(text: pl.Expr) -> pl.Expr:
    encoded = pl.struct(t=text).struct.json_encode()
    return encoded.str.slice(5, encoded.str.len_chars() - 6)
