"""Dates and times as pages write them: the declared types `date` and `datetime`."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import polars as pl

from gossamer.locales import DateOrder, Locale

#: Three numbers, as 13/02/2026, 2026-02-13 and `13. 2. 2026`.
_NUMERIC = re.compile(r"(?<!\d)(\d{1,4})(\s*[./-]\s*|\s+)(\d{1,2})\2(\d{1,4})(?!\d)")
#: As programs write them; Polars reads these by itself, and much faster.
_ISO_DATE = r"^[12]\d{3}-\d\d-\d\d$"
_ISO_INSTANT = r"^[12]\d{3}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)$"


def iso_day(text: pl.Expr) -> pl.Expr:
    """The dates among the texts that are written 2026-01-31; null for others."""
    return pl.when(text.str.contains(_ISO_DATE)).then(text).str.to_date("%Y-%m-%d", strict=False)


def iso_instant(text: pl.Expr) -> pl.Expr:
    """The instants among the texts that are written with their offset, as ISO 8601 has it; null for others."""
    exact = pl.when(text.str.contains(_ISO_INSTANT)).then(text.str.replace("Z$", "+00:00"))
    return exact.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)


def day(text: str, fetched: datetime | None, locale: Locale) -> date | None:
    """The date in the text, on the calendar of who wrote it."""
    moment = _moment(text, fetched, locale)
    return None if moment is None else moment.date()


def instant(text: str, fetched: datetime | None, locale: Locale) -> datetime | None:
    """The instant that the text tells, in UTC; without a zone, it is in the locale's."""
    moment = _moment(text, fetched, locale)
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(locale.timezone or "UTC"))
    try:
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the ends of the calendar, moved over them by their time zone
        return None


def _moment(text: str, fetched: datetime | None, locale: Locale) -> datetime | None:
    import dateparser

    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    base = (fetched or datetime.now(ZoneInfo(locale.timezone or "UTC"))).replace(tzinfo=None)
    settings: dict[str, object] = {"STRICT_PARSING": True, "RELATIVE_BASE": base, "TIMEZONE": "UTC"}
    if numeric := _NUMERIC.search(text):
        order = _order(numeric[1], numeric[2].strip(), numeric[3], numeric[4], locale.dates)
        if order is None:
            return None
        settings["DATE_ORDER"] = order
    languages = [locale.language, "en"] if locale.language else None
    try:
        return dateparser.parse(text, languages=languages, settings=settings)
    except (ValueError, OverflowError):
        return None


def _order(first: str, separator: str, second: str, last: str, hint: DateOrder | None) -> str | None:
    """How a numeric date is read: 13/02/2026 one way only, 01.02.2026 as dots are used, 01/02/2026 as the hint says."""
    if len(first) > 2:
        return "YMD"
    if int(first) == int(second) and len(last) == 4:
        return "DMY"
    if len(last) == 4 and (int(first) > 12 or int(second) > 12):
        return "MDY" if int(second) > 12 else "DMY"
    if hint and not (hint == "YMD" and len(last) == 4):
        return hint
    return "DMY" if separator == "." else None
