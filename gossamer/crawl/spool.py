"""A crawl's rows on local disk while it runs: items become lines of text, lines become the frames that are committed.

Memory is flat: a row is written when it is seen. How rows reach the lake, and what the fields mean, belongs elsewhere.
"""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
from itemadapter import ItemAdapter

from gossamer.schema import PROVENANCE
from gossamer.source import FieldType

DEAD_LETTERS = {
    "url": pl.String,
    "reason": pl.String,
    "status": pl.Int32,
    "attempts": pl.Int32,
    "callback": pl.String,
    "message": pl.String,
    "failed_at": pl.String,
    "body_sample": pl.String,
}
BODY_SAMPLE = 500  # characters


@dataclass(frozen=True)
class Page:
    """Where a record comes from. `fetched_at` in UTC; `hash` is None where there was no body."""

    url: str
    fetched_at: datetime
    hash: str | None


class Spool:
    """Two files of JSON lines: records and dead letters."""

    def __init__(self, folder: Path, fields: Mapping[str, FieldType], crawl_id: str, spider_version: str) -> None:
        self._fields = {name: money_text if kind == "money" else as_text for name, kind in fields.items()}
        self._crawl = {"_crawl_id": crawl_id, "_spider_version": spider_version}
        self._records_file = folder / "records.jsonl"
        self._dead_file = folder / "dead_letters.jsonl"
        self._records = self._records_file.open("w", encoding="utf-8")
        self._dead = self._dead_file.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for file in (self._records, self._dead):
            with contextlib.suppress(OSError):  # no room for the rest: whoever needed it has been told
                file.close()

    def record(self, item: Any, page: Page) -> None:
        """Keeps one item of any type that Scrapy takes.

        Raises:
            TypeError, ValueError, RecursionError: it is no item, or it cannot be written down.
            OSError: no room.
        """
        if not ItemAdapter.is_item(item):
            raise TypeError(f"yielded {type(item).__name__}, which is not an item; yield a dict, Item or dataclass")
        values = {str(name): value for name, value in ItemAdapter(item).items()}
        extra = {name: plain(value) for name, value in values.items() if name not in self._fields}
        row: dict[str, str | None] = {name: text(values.get(name)) for name, text in self._fields.items()}
        row["extra"] = json.dumps(extra, ensure_ascii=False) if extra else None
        row |= {"_url": page.url, "_fetched_at": page.fetched_at.isoformat(), "_page_hash": page.hash, **self._crawl}
        self._records.write(json.dumps(row, ensure_ascii=False) + "\n")

    def dead_letter(self, row: Mapping[str, Any]) -> None:
        """Keeps one dead letter (the columns of `DEAD_LETTERS`)."""
        self._dead.write(json.dumps({name: plain(row.get(name)) for name in DEAD_LETTERS}, ensure_ascii=False) + "\n")

    def records(self) -> pl.LazyFrame:
        """The raw rows: declared fields and `extra` as text, and provenance. The spool takes no more."""
        self._records.close()
        schema: dict[str, Any] = dict.fromkeys([*self._fields, "extra", *PROVENANCE], pl.String)
        return _scan(self._records_file, schema).with_columns(_moment("_fetched_at"))

    def dead_letters(self) -> pl.LazyFrame:
        """The dead letters, typed. The spool takes no more."""
        self._dead.close()
        return _scan(self._dead_file, DEAD_LETTERS).with_columns(_moment("failed_at"))


def _scan(path: Path, schema: Mapping[str, Any]) -> pl.LazyFrame:
    if path.stat().st_size == 0:
        return pl.LazyFrame(schema=schema)
    return pl.scan_ndjson(path, schema=dict(schema))


def _moment(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%+", time_unit="us", time_zone="UTC")


def as_text(value: Any) -> str | None:
    """A field as it is kept in raw: text as scraped, other values as JSON text, nothing as null."""
    simple = plain(value)
    if simple is None or isinstance(simple, str):
        return simple
    return json.dumps(simple, ensure_ascii=False)


def money_text(value: Any) -> str | None:
    """An amount as it is kept in raw. One given as a number gets no exponent and never just three decimals: in scraped
    text, `1.459` may be more than a thousand."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        return as_text(value)
    text = f"{Decimal(str(value)):f}"
    return f"{text}0" if len(text.partition(".")[2]) == 3 else text


def plain(value: Any) -> Any:
    """The value in terms of JSON: what JSON has no type for becomes text, a nested item becomes an object."""
    match value:
        case str():
            # Half of a surrogate pair (broken pages have them) is not UTF-8, and no file takes it.
            return value.encode("utf-8", "replace").decode() if _has_surrogates(value) else str(value)
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "replace")
        case Mapping():
            return {str(plain(name)): plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case set() | frozenset():
            return sorted((plain(inner) for inner in value), key=repr)
    if ItemAdapter.is_item(value):
        return {str(name): plain(inner) for name, inner in ItemAdapter(value).items()}
    return plain(str(value))


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
