"""From text as scraped to typed values: the Polars expressions for each declared type.

What is text but cannot be read as its type becomes null here; `clean` keeps the text beside it. Nothing is guessed:
what can be read in two ways is read as the source's `locale` says, or not at all. How numbers, money and dates are read
is in `values_numbers`, `values_money` and `values_dates`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin

import polars as pl

from gossamer.locales import WORDS, Locale
from gossamer.records import values_dates, values_money, values_numbers
from gossamer.schema import INSTANT, field_columns
from gossamer.source import FieldType

#: Longer text is no price and no date; parsers take seconds over what a page may hold.
_LONGEST = 100
_ANY_LENGTH = ("str", "text", "url", "json")
_LONGEST_URL = 10_000
_LONGEST_JSON = 10_000_000
#: What no library would write differently: a site, and a path without dots that mean a folder.
_SITE, _PATH = r"https?://[a-z0-9]+(?:[.-][a-z0-9]+)*(?::[0-9]{2,5})?", r"(?:/[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*)+/?"
#: So many texts of a field are remembered with their values: what one batch holds, the next one mostly holds too.
_REMEMBERED = 50_000

_TRUE, _FALSE = ("1", "on"), ("0", "off")
#: What does not show: controls, the byte order mark, soft hyphens, marks of direction.
_INVISIBLE = (
    r"[\p{Cc}--\s]"
    r"|[\u{AD}\u{61C}\u{180E}\u{200B}\u{200E}\u{200F}\u{202A}-\u{202E}\u{2060}-\u{2064}\u{2066}-\u{206F}\u{FEFF}]"
)
_ODD, _COMPOSABLE = "[^ -~]|  ", r"[\u{300}-\u{10FFFF}]"
#: They do not show either, but within a word they spell it (Persian, Hindi, emoji).
_JOINERS = "\u200c\u200d"


def expressions(
    name: str, kind: FieldType, locale: Locale | None = None, words: Mapping[str, bool] | None = None
) -> list[pl.Expr]:
    """Expressions over a raw frame (text column `name`, provenance `_url`, `_fetched_at`) for its `field_columns`.

    `words` are those of a boolean field of its own.
    """
    text = pl.col(name).str.strip_chars()
    if kind not in _ANY_LENGTH:
        text = pl.when(text.str.len_bytes() <= 4 * _LONGEST).then(text)
    read = _read(text, kind, locale or Locale(), words or {})
    return [column.alias(title) for column, title in zip(read, field_columns(name, kind), strict=True)]


def _read(text: pl.Expr, kind: FieldType, locale: Locale, words: Mapping[str, bool]) -> list[pl.Expr]:
    match kind:
        case "str":
            return [_unless_empty(text)]
        case "text":
            return [_plain(text)]
        case "int":
            return [values_numbers.whole(text, locale)]
        case "float":
            return [values_numbers.number(text, locale)]
        case "bool":
            return [_boolean(text, locale, words)]
        case "money":
            parsed = _each([text], lambda t: values_money.money(t, locale), values_money.DTYPE)
            return [parsed.struct.field(field.name) for field in values_money.DTYPE.fields]
        case "quantity":
            return values_numbers.quantity(text, locale)
        case "rating":
            return values_numbers.rating(text, locale)
        case "date":
            return [_dated(text, values_dates.iso_day(text), locale, values_dates.day, pl.Date())]
        case "datetime":
            return [_dated(text, values_dates.iso_instant(text), locale, values_dates.instant, INSTANT)]
        case "url":
            return [_address(text, pl.col("_url"))]
        case "json":
            return [_each([text], _json, pl.String(), _LONGEST_JSON)]


def _unless_empty(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)


def _plain(text: pl.Expr) -> pl.Expr:
    """Text as a reader sees it: composed characters, nothing invisible, single blanks. Entities are not touched."""
    # What most text is needs nothing of that, and every step costs as much as all the rest of `clean`.
    odd = pl.when(text.str.contains(_ODD)).then(text)
    visible = odd.str.replace_all(_INVISIBLE, "").str.replace_all(r"[\s--\x20]+|  +", " ")
    visible = visible.str.replace_all("  +", " ").str.strip_chars(f" {_JOINERS}")
    composed = pl.when(visible.str.contains(_COMPOSABLE)).then(visible).str.normalize("NFC")
    return _unless_empty(pl.coalesce(composed, visible, text))


def _boolean(text: pl.Expr, locale: Locale, own: Mapping[str, bool]) -> pl.Expr:
    meant = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
    for language in ("en", locale.language or "en"):
        for texts, value in zip(WORDS[language], (True, False), strict=True):
            meant |= dict.fromkeys(texts.split(), value)
    meant |= {" ".join(word.split()).lower(): value for word, value in own.items()}
    word = text.str.replace_all(r"\s+", " ").str.to_lowercase()
    yes, no = ([text for text, value in meant.items() if value is truth] for truth in (True, False))
    return pl.when(word.is_in(yes)).then(True).when(word.is_in(no)).then(False)


def _dated(
    text: pl.Expr, iso: pl.Expr, locale: Locale, parse: Callable[..., date | timedelta | None], dtype: pl.DataType
) -> pl.Expr:
    """`iso` where it is a value, else what `parse` makes of the text, seen from the day on which it was fetched.

    From the day, not the second: "yesterday" is the same date for all pages of it, and is read once. What counts from
    the second is read as the time from there on, which is the same on all pages too.
    """
    fetched = pl.col("_fetched_at").dt.convert_time_zone(locale.timezone or "UTC")
    rest = pl.when(iso.is_null()).then(text)

    def read(text: str, midnight: datetime | None) -> dict[str, object]:
        found = parse(text, midnight, locale)
        return {"since": found} if isinstance(found, timedelta) else {"value": found}

    found = _each([rest, fetched.dt.truncate("1d")], read, pl.Struct({"value": dtype, "since": pl.Duration("us")}))
    moment = fetched + found.struct.field("since")
    counted = moment.dt.date() if dtype == pl.Date() else moment.dt.convert_time_zone("UTC").cast(dtype)
    return pl.coalesce(iso, found.struct.field("value"), counted)


def _each(texts: list[pl.Expr], parse: Callable[..., object], dtype: pl.DataType, longest: int = _LONGEST) -> pl.Expr:
    """`parse` over a text column (and those beside it), once for each distinct text; longer ones have no value."""
    names = [f"column_{number}" for number in range(len(texts))]
    text = pl.col(names[0])
    # Long texts are not remembered: they would fill the memory, and hardly one of them comes twice.
    read = lru_cache(_REMEMBERED)(parse) if longest <= _LONGEST else parse

    def batch(series: pl.Series) -> pl.Series:
        rows = series.struct.unnest()
        found = rows.filter((text != "") & (text.str.len_chars() <= longest)).unique()
        values = pl.Series("value", [read(*row) for row in found.iter_rows()], dtype=dtype, strict=True)
        return rows.join(found.with_columns(values), on=names, how="left", nulls_equal=True, maintain_order="left")[
            "value"
        ]

    together = pl.struct(expression.alias(name) for expression, name in zip(texts, names, strict=True))
    return together.map_batches(batch, return_dtype=dtype, is_elementwise=True)


def _json(text: str) -> str | None:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return text


def _address(text: pl.Expr, page: pl.Expr) -> pl.Expr:
    """The absolute address of a link on a page. Plain ones need no more than the site's own before them."""
    whole = pl.when(text.str.contains(rf"^{_SITE}{_PATH}$")).then(text)
    path = pl.when(text.str.contains(rf"^{_PATH}$")).then(text)
    plain = pl.coalesce(whole, pl.concat_str(page.str.extract(rf"^({_SITE})(?:/|$)"), path))
    rest = pl.when(plain.is_null()).then(text)
    return plain.fill_null(_each([rest, page], _absolute_url, pl.String(), _LONGEST_URL))


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
        .then(pl.col(f"_raw_{name}"))
        .alias(name)
        for name, kind in fields
        if kind not in ("str", "text")
    ]
    if not missed:
        return pl.lit(None, dtype=pl.String).alias("_unparsed")

    def batch(series: pl.Series) -> pl.Series:
        rows = series.struct.unnest().with_row_index("_row")
        some = rows.filter(pl.any_horizontal(pl.exclude("_row").is_not_null()))
        told = [_told(row) for row in some.drop("_row").iter_rows(named=True)]
        found = some.select("_row", _unparsed=pl.Series(told, dtype=pl.String))
        return rows.select("_row").join(found, on="_row", how="left", maintain_order="left")["_unparsed"]

    return pl.struct(missed).map_batches(batch, return_dtype=pl.String, is_elementwise=True).alias("_unparsed")


def _told(row: Mapping[str, Any]) -> str:
    missed = {name: text for name, text in row.items() if text is not None}
    return json.dumps(missed, ensure_ascii=False, separators=(",", ":"))
