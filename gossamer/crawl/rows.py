"""An item of a spider becomes one line of text: the raw columns of its row, as JSON.

What keeps the lines, and how they reach the lake, belongs to `frontier` and `segments`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from itemadapter import ItemAdapter

from gossamer.schema import PROVENANCE
from gossamer.source import FieldType

#: JSON, field -> value: what the declaration does not name.
EXTRA = "extra"
#: Of the whole crawl, not of a record: whoever reads the lines knows it.
CRAWL_ID = "_crawl_id"

# Nothing in a row can be circular (`plain` has made it anew), and making an encoder costs more than most rows.
_in_json = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


@dataclass(frozen=True)
class Page:
    """Where a record comes from. `fetched_at` in UTC; `hash` is None where there was no body."""

    url: str
    fetched_at: datetime
    hash: str | None


class RowFormat:
    """How the rows of one source are written down.

    Attributes:
        columns: what every line has: the declared fields, `extra`, and the provenance without `_crawl_id`.
    """

    def __init__(self, fields: Mapping[str, FieldType], spider_version: str) -> None:
        self._fields = {name: _TEXT.get(kind, as_text) for name, kind in fields.items()}
        self._version = spider_version
        self._last: tuple[Page | None, str | None, str] = (None, None, "")
        self.columns = (*fields, EXTRA, *(name for name in PROVENANCE if name != CRAWL_ID))

    def line(self, item: Any, page: Page, seed: str | None) -> str:
        """One item of any type that Scrapy takes, as a JSON object of text and null, on one line.

        Declared fields as text and the others in `extra`; `seed` is the row of its seed.

        Raises:
            TypeError, ValueError, RecursionError: it is no item, or it cannot be written down.
        """
        values = item if type(item) is dict else _values(item)
        row: dict[str, str | None] = {name: text(values.get(name)) for name, text in self._fields.items()}
        extra = {_whole(str(name)): plain(value) for name, value in values.items() if name not in self._fields}
        row[EXTRA] = _in_json(extra) if extra else None
        return f"{_in_json(row)[:-1]}, {self._provenance(page, seed)}"

    def _provenance(self, page: Page, seed: str | None) -> str:
        """The end of the line; a page's records have the same, and mostly come one after another."""
        last_page, last_seed, end = self._last
        if page is not last_page or seed != last_seed:
            row = {
                "_url": as_text(page.url),
                "_fetched_at": page.fetched_at.isoformat(),
                "_page_hash": page.hash,
                "_spider_version": self._version,
                "_seed_row": as_text(seed),
            }
            end = _in_json(row)[1:]
            self._last = page, seed, end
        return end


def _values(item: Any) -> Mapping[Any, Any]:
    if not ItemAdapter.is_item(item):
        raise TypeError(f"yielded {type(item).__name__}, which is not an item; yield a dict, Item or dataclass")
    return ItemAdapter(item)


def as_text(value: Any) -> str | None:
    """A field as it is kept in raw: text as scraped, other values as JSON text, nothing as null."""
    if type(value) is str and value.isascii():  # most values
        return value
    simple = plain(value)
    if simple is None or isinstance(simple, str):
        return simple
    return _in_json(simple)


def money_text(value: Any) -> str | None:
    """An amount as it is kept in raw. One given as a number gets no exponent and never just three decimals: in scraped
    text, `1.459` may be more than a thousand."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        return as_text(value)
    text = f"{Decimal(str(value)):f}"
    return f"{text}0" if len(text.partition(".")[2]) == 3 else text


def number_text(value: Any) -> str | None:
    """A number as it is kept in raw: never with just three decimals, which a site's locale may read as thousands."""
    text = as_text(value)
    three_decimals = type(value) in (float, Decimal) and text is not None and text[-4:-3] == "." and text.isascii()
    return f"{text}0" if three_decimals else text


#: Types that have a way of their own to keep a value.
_TEXT = {"money": money_text, **dict.fromkeys(("float", "quantity", "rating"), number_text)}


def plain(value: Any) -> Any:
    """The value in terms of JSON: what JSON has no type for becomes text, a nested item becomes an object."""
    match value:
        case str():
            return _whole(str(value))
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case list() | tuple():
            return [plain(inner) for inner in value]
        case dict() | Mapping():
            return {str(plain(name)): plain(inner) for name, inner in value.items()}
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "replace")
        case set() | frozenset():
            return sorted((plain(inner) for inner in value), key=repr)
    if ItemAdapter.is_item(value):
        return {_whole(str(name)): plain(inner) for name, inner in ItemAdapter(value).items()}
    return plain(str(value))


def _whole(text: str) -> str:
    """Half of a surrogate pair (broken pages have them) is not UTF-8, and no file takes it."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
