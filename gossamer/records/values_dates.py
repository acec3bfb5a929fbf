"""Dates and times as pages write them: the declared types `date` and `datetime`."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from gossamer.locales import WORDS, DateOrder, Locale

if TYPE_CHECKING:
    from dateparser.date import DateData

_SEPARATOR = r"(\s*[./\u2010-\u2015\u2212-]\s*|\s+)"
#: Three numbers, as 13/02/2026, 2026-02-13, `13. 2. 2026`, 13/2-2026 and 2026年2月13日.
_NUMERIC = (
    re.compile(rf"(?<![\d:])(\d{{1,4}}){_SEPARATOR}(\d{{1,2}})(\2)(\d{{1,4}})(?![\d:])"),
    re.compile(rf"(?<![\d:])(\d{{1,2}}){_SEPARATOR}(\d{{1,2}}){_SEPARATOR}(\d{{4}})(?![\d:])"),
    re.compile(r"(?<!\d)(\d{4})(\s*[년年]\s*)(\d{1,2})(\s*[월月]\s*)(\d{1,2})(?!\d)"),
)
#: As programs write them; Polars reads these by itself, and much faster.
_ISO_DATE = r"^[12]\d{3}-\d\d-\d\d$"
_ISO_INSTANT = r"^[12]\d{3}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)$"
#: 2026-W05 is no day, but Python takes it for its Monday.
_WEEK = re.compile(r"\d{4}-?W\d\d")

#: Abbreviations of several time zones: China's CST and America's, India's IST and Israel's.
_SHARED_ZONES = {"ACT", "AMT", "AST", "BST", "CCT", "CDT", "CST", "ECT", "GST", "IST", "MST", "PST", "SST", "WST"}
#: What dateparser would read as one moment: `2-3 days ago`, `+2 days`, `0 days`.
_NO_MOMENT = re.compile(r"^[+\u2010-\u2015\u2212-]|\d\s*[\u2010-\u2015\u2212-]\s*\d|(?<![\d:.,])0+(?![\d:.,])")
#: Words of the past that dateparser reads as a bare duration: Thai, Hebrew, Polish.
_PAST = ("ที่แล้ว", "เมื่อวาน", "שלשום", "onegdaj")
#: So far apart are the two moments from which a text is read, within one day.
_APART = timedelta(hours=23)

#: Chinese as it is written in Taiwan is a language of its own to dateparser.
_VARIANT = {"zh": ("zh-Hant",)}
_LANGUAGES = (*WORDS, *_VARIANT["zh"])
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_UNITS = ("second", "minute", "hour", "day", "week", "fortnight", "month", "year", "decade", "century")
#: So many words of a date, a time zone's name for one, may be unknown.
_UNKNOWN = 2
#: Scripts without blanks between words.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff]")
_LETTERS = re.compile(r"[^\W\d_]+")
#: Persian text is typed with Arabic letters, and the other way round.
_VARIANTS = str.maketrans("یک", "يك")


def iso_day(text: pl.Expr) -> pl.Expr:
    """The dates among the texts that are written 2026-01-31; null for others."""
    return pl.when(text.str.contains(_ISO_DATE)).then(text).str.to_date("%Y-%m-%d", strict=False)


def iso_instant(text: pl.Expr) -> pl.Expr:
    """The instants among the texts that are written with their offset, as ISO 8601 has it; null for others."""
    exact = pl.when(text.str.contains(_ISO_INSTANT)).then(text.str.replace("Z$", "+00:00"))
    return exact.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)


def day(text: str, midnight: datetime | None, locale: Locale) -> date | timedelta | None:
    """The date in the text, on the calendar of who wrote it, seen from the day (its midnight) of the fetch.

    What counts from the second of the fetch (`2 hours ago`, `now`) is the time from there on, negative for the past.
    """
    moment = _moment(text, midnight, locale)
    return moment.date() if isinstance(moment, datetime) else moment


def instant(text: str, midnight: datetime | None, locale: Locale) -> datetime | timedelta | None:
    """The instant that the text tells, in UTC, or as for `day` the time from the fetch on.

    Without a zone it is in the locale's; a zone of several meanings must be the locale's.
    """
    moment = _moment(text, midnight, locale)
    if not isinstance(moment, datetime):
        return moment
    try:
        known = _with_zone(moment, ZoneInfo(locale.timezone or "UTC"))
        return known and known.astimezone(UTC)
    except (ValueError, OverflowError):  # the ends of the calendar, moved over them by their time zone
        return None


def _with_zone(moment: datetime, zone: ZoneInfo) -> datetime | None:
    name = moment.tzname()
    if name is not None and name not in _SHARED_ZONES:
        return moment
    local = moment.replace(tzinfo=zone)
    return local if name in (None, local.tzname()) else None


def _moment(text: str, midnight: datetime | None, locale: Locale) -> datetime | timedelta | None:
    if _WEEK.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    languages = (locale.language, "en", *_VARIANT.get(locale.language, ())) if locale.language else _LANGUAGES
    month, relative = _vocabulary(languages).kinds(text)
    numeric = next(filter(None, (pattern.search(text) for pattern in _NUMERIC)), None)
    if (month or numeric) and (moment := _absolute(text, numeric, locale.dates, languages)):
        return moment
    if relative and midnight:
        return _relative(text, midnight.replace(tzinfo=None), languages)
    return None


def _absolute(
    text: str, numeric: re.Match[str] | None, hint: DateOrder | None, languages: tuple[str, ...]
) -> datetime | None:
    """The moment that is told by a whole date."""
    if numeric is None:
        return _parsed(text, languages, {"PARSERS": ["absolute-time"]}).date_obj
    first, before, second, after, last = numeric.groups()
    order = _order(first, {before.strip(), after.strip()}, second, last, hint)
    if order is None:
        return None
    moment = _parsed(text, languages, {"PARSERS": ["absolute-time"], "DATE_ORDER": order}).date_obj
    # Where the numbers do not fit the order, dateparser takes another one.
    numbers = {part: int(number) for part, number in zip(order, (first, second, last), strict=True)}
    return moment if moment and (moment.month, moment.day) == (numbers["M"], numbers["D"]) else None


def _relative(text: str, midnight: datetime, languages: tuple[str, ...]) -> datetime | timedelta | None:
    """What is told as seen from the fetch: a moment, or where hours count, the time from the fetch on.

    Read twice, from two moments of the day: what neither says ago nor in goes back from one and forward from the other.
    """
    if _NO_MOMENT.search(text):
        return None
    settings = {"PARSERS": ["relative-time"], "RETURN_TIME_AS_PERIOD": True}
    found = _parsed(text, languages, settings | {"RELATIVE_BASE": midnight})
    # Its own zone may be in another day at the fetch.
    if found.date_obj is None or found.locale is None or found.date_obj.tzinfo:
        return None
    later = settings | {"RELATIVE_BASE": midnight + _APART, "PREFER_DATES_FROM": "future"}
    other = _parsed(text, (found.locale,), later).date_obj
    if other is None:
        return None
    moved = other - found.date_obj
    if moved == _APART:
        return found.date_obj - midnight if found.period == "time" else found.date_obj
    return found.date_obj if not moved or any(word in text for word in _PAST) else None


def _parsed(text: str, languages: tuple[str, ...], settings: Mapping[str, object]) -> "DateData":
    from dateparser.date import DateData, DateDataParser

    # With a time zone of its own, dateparser would move a moment with a zone to that one, and to another day.
    every = {"STRICT_PARSING": True, "TIMEZONE": "local"}
    try:
        return DateDataParser(languages=languages, settings={**every, **settings}).get_date_data(text)
    except (ValueError, OverflowError):
        return DateData()


def _order(first: str, separators: set[str], second: str, last: str, hint: DateOrder | None) -> str | None:
    """How a numeric date is read: 13/02/2026 one way only, 01.02.2026 as dots are used, 01/02/2026 as the hint says."""
    if len(first) > 2:
        return "YMD"
    if int(first) == int(second) and len(last) == 4:
        return "DMY"
    if len(last) == 4 and (int(first) > 12 or int(second) > 12):
        return "MDY" if int(second) > 12 else "DMY"
    if hint and not (hint == "YMD" and len(last) == 4):
        return hint
    return "DMY" if separators == {"."} else None


class _Vocabulary(NamedTuple):
    """What dateparser knows of some languages, as `_plain` words. It takes milliseconds to find nothing itself."""

    months: frozenset[str]
    #: One of them is in each text that tells a time from now on.
    relative: frozenset[str]
    #: All words, of which numbers are told by patterns that are not taken apart here.
    known: frozenset[str]

    def kinds(self, text: str) -> tuple[bool, bool]:
        """Whether a text may name a month, and whether it may tell a time from now on."""
        plain = _plain(text)
        words = frozenset(_LETTERS.findall(plain))
        if len(words - self.known) > _UNKNOWN:
            return False, False
        if not _UNSPACED.search(plain):
            return not words.isdisjoint(self.months) and any(map(str.isdigit, text)), not words.isdisjoint(
                self.relative
            )
        return any(word in plain for word in self.months), any(word in plain for word in self.relative)


@cache
def _vocabulary(languages: tuple[str, ...]) -> _Vocabulary:
    data = [import_module(f"dateparser.data.date_translation_data.{language}").info for language in languages]
    names = chain.from_iterable(info[month] for info in data for month in _MONTHS)
    return _Vocabulary(
        frozenset(_telling(names)),
        frozenset(chain.from_iterable(_relative_words(info) for info in data)),
        frozenset(chain.from_iterable(_LETTERS.findall(_plain(text)) for info in data for text in _texts(info))),
    )


def _relative_words(info: Mapping[str, Any]) -> Iterator[str]:
    units = chain.from_iterable(info.get(unit, ()) for unit in _UNITS)
    phrases = chain.from_iterable((*info["relative-type"].values(), *info.get("relative-type-regex", {}).values()))
    # What stands for a number, or for a part of what was found, says nothing of a time.
    replaced = chain.from_iterable(each.items() for each in info.get("simplifications", ()))
    others = (found for found, text in replaced if re.search(r"(?<!\\)[^\W\d_]", str(text)))
    aside = {_plain(word) for word in (*info.get("in", ()), *info.get("ago", ()))}
    return _telling(chain(units, phrases, others), aside)


def _telling(phrases: Iterable[str], aside: Collection[str] = ()) -> Iterator[str]:
    """The longest word of each phrase or pattern, one `aside` only if it has no other: who has the phrase has that."""
    for phrase in phrases:
        bare = re.sub(r"\\+[a-z]\+*", " ", _plain(phrase))
        for letter in ("", r"\1"):
            words = _LETTERS.findall(re.sub(r"(\w)\?", letter, bare))
            if words:
                yield max(words, key=lambda word: (word not in aside, len(word)))


def _texts(data: object) -> Iterator[str]:
    match data:
        case str():
            yield data
        case dict():
            yield from chain.from_iterable(map(_texts, chain.from_iterable(data.items())))
        case list():
            yield from chain.from_iterable(map(_texts, data))


def _plain(text: str) -> str:
    """Text as dateparser compares it: in small letters without marks."""
    from dateparser.utils import normalize_unicode

    return normalize_unicode(text.lower()).translate(_VARIANTS)
