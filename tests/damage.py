"""Crawls of two real sites as they may go on for weeks, and thirty ways in which one of them goes wrong.

A `Site` makes partition after partition from a corpus' truth: items come and go, prices move, weekends have fewer. A
`Damage` is what happens to one crawl, and what a person who knew it would call the cause; some come with a new version
of the spider, since that is what a mistake of our own looks like. All of it is drawn from seeds.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from gossamer.quality.finding import CauseKind
from gossamer.source import Source, SourceSpec

Row = dict[str, Any]

_ITEMS = 320
_TEXT = pl.String()


def books_source() -> Source:
    fields = {
        "upc": "str",
        "title": "str",
        "category": "str",
        "description": "str",
        "price": "money",
        "stock": "int",
        "in_stock": "bool",
        "rating": "int",
        "weight": "quantity",
        "published": "date",
        "link": "url",
    }
    return _source("books", "daily", {"key": "upc", "fields": fields})


def quotes_source() -> Source:
    fields = {"text": "str", "author": "str", "author_link": "url", "tags": "json", "page": "int"}
    return _source("quotes", "weekly", {"key": "text", "fields": fields})


def _source(name: str, period: str, record: Mapping[str, Any]) -> Source:
    declared = {
        "name": name,
        "spider": "spider:Spider",
        "partitions": {"period": period, "start": "2026-01-05"},
        "seeds": {"urls": [f"https://{name}.example/"]},
        "record": record,
        "locale": "en-GB",
    }
    return Source(SourceSpec.model_validate(declared), Path("sources") / name)


@dataclass(frozen=True)
class Crawl:
    """One crawl: its partition, its rows as the spider wrote them, its books."""

    key: str
    rows: list[Row]
    books: dict[str, Any]

    def raw(self, source: Source) -> pl.LazyFrame:
        """The rows as `raw` has them."""
        names = [*source.spec.record.fields, "extra", "_url", "_page_hash", "_crawl_id", "_spider_version", "_seed_row"]
        columns = {name: [row.get(name) for row in self.rows] for name in names}
        fetched = [row["_fetched_at"] for row in self.rows]
        frame = pl.DataFrame(columns, schema=dict.fromkeys(names, _TEXT))
        return frame.with_columns(_fetched_at=pl.Series(fetched, dtype=pl.Datetime("us", "UTC"))).lazy()


def books_of(
    fetched: int,
    written: int,
    *,
    dead: Mapping[str, int] | None = None,
    excluded: Mapping[str, int] | None = None,
    **other: Any,
) -> dict[str, Any]:
    """The books of a crawl, as its manifest has them; `other` goes over what is usual."""
    host = other.pop("host", "books.example")
    dead, excluded = dict(dead or {}), dict(excluded or {})
    requests = {
        "discovered": fetched + sum(dead.values()) + sum(excluded.values()),
        "fetched": fetched,
        "redirected": 0,
        "excluded": excluded,
        "dead": dead,
        "pending": 0,
        "duplicates": fetched // 3,
    }
    return {
        "state": "complete",
        "finish_reason": "finished",
        "requests": requests | other.pop("requests", {}),
        "seeds": {"declared": 1, "asked": 1, "answered": 1, "dead": 0} | other.pop("seeds", {}),
        "records": {"yielded": written, "written": written, "dropped": {}, "errors": 0} | other.pop("records", {}),
        "hosts": {host: {"fetched": fetched, "dead": sum(dead.values())}},
        "reasons": {host: {**dead, **excluded}},
        "examples": {reason: [f"https://{host}/{reason}/1"] for reason in (*dead, *excluded)},
        "bytes": fetched * 50_000,
    } | other


# -- sites ------------------------------------------------------------------------------------------------------------


class Shop:
    """The shop of books, day by day."""

    def __init__(self, truth: Path, seed: int) -> None:
        self.source = books_source()
        self._random = random.Random(seed)
        lines = truth.read_text("utf-8").split("\n")
        books = [self._book(json.loads(line)) for line in lines if line]
        self._random.shuffle(books)
        self._shelf, self._store = books[:_ITEMS], books[_ITEMS:]
        self._day = date(2026, 6, 1) + timedelta(days=self._random.randrange(7))

    def _book(self, truth: Row) -> Row:
        chance = random.Random(truth["upc"])
        return {
            "upc": truth["upc"],
            "title": truth["title"],
            "category": truth["category"],
            "description": truth["description"].strip() or None,
            "pence": round(truth["price"] * 100),
            "stock": truth["stock"],
            "rating": truth["rating"],
            "grams": round(chance.lognormvariate(7.6, 0.4)),
            "published": date(2026, 5, 1) - timedelta(days=round(chance.expovariate(1 / 3000))),
            "path": truth["url_path"],
        }

    def next(self) -> Crawl:
        """The crawl of the next day."""
        chance, today = self._random, self._day
        self._day += timedelta(days=1)
        self._trade()
        hidden = chance.uniform(0.1, 0.15) if today.weekday() >= 5 else chance.uniform(0.0, 0.03)
        shown = [book for book in self._shelf if chance.random() > hidden]
        fetched_at = datetime(today.year, today.month, today.day, 5, chance.randrange(60), tzinfo=UTC)
        rows = [_shop_row(book, fetched_at + timedelta(seconds=number)) for number, book in enumerate(shown)]
        lists = -(-len(rows) // 20)
        dead = {reason: n for reason, n in (("gone", chance.randrange(5)), ("timed_out", chance.randrange(3))) if n}
        books = books_of(lists + len(rows), len(rows), dead=dead)
        return Crawl(str(today), rows, books | {"bytes": round(books["bytes"] * chance.uniform(0.97, 1.03))})

    def _trade(self) -> None:
        chance = self._random
        for _ in range(chance.randrange(2, 7)):
            self._store.append(self._shelf.pop(chance.randrange(len(self._shelf))))
        for _ in range(chance.randrange(3, 9)):  # the shop grows
            self._shelf.append(self._store.pop(0))
        sale = 0.2 if chance.random() < 0.1 else 0.0
        for book in self._shelf:
            if chance.random() < 0.08:
                book["pence"] = max(500, round(book["pence"] * chance.uniform(0.9, 1.1)))
            if chance.random() < sale:
                book["pence"] = max(500, round(book["pence"] * 0.8))
            if chance.random() < 0.003:
                book["title"] = f"{book['title']} (new edition)"
            if chance.random() < 0.005:
                book["description"] = (
                    None if book["description"] and chance.random() < 0.3 else "It is to be described."
                )
            if chance.random() < 0.15:
                book["stock"] = max(0, book["stock"] - 1) or (0 if chance.random() < 0.5 else 20)


def _shop_row(book: Row, fetched_at: datetime) -> Row:
    url = f"https://books.example{book['path']}"
    return {
        "upc": book["upc"],
        "title": book["title"],
        "category": book["category"],
        "description": book["description"],
        "price": f"£{book['pence'] / 100:.2f}",
        "stock": str(book["stock"]),
        "in_stock": "true" if book["stock"] else "false",
        "rating": str(book["rating"]),
        "weight": f"{book['grams'] / 1000:.3f} kg",
        "published": str(book["published"]),
        "link": url,
    } | _provenance(url, fetched_at)


class Reader:
    """The site of quotes, week by week."""

    def __init__(self, truth: Path, seed: int) -> None:
        self.source = quotes_source()
        self._random = random.Random(seed)
        self._quotes: list[Row] = [json.loads(line) for line in truth.read_text("utf-8").split("\n") if line]
        self._hidden: list[Row] = []
        self._day = date(2026, 2, 2)

    def next(self) -> Crawl:
        """The crawl of the next week."""
        chance, today = self._random, self._day
        self._day += timedelta(days=7)
        for _ in range(chance.randrange(4)):
            self._hidden.append(self._quotes.pop(chance.randrange(len(self._quotes))))
        while len(self._hidden) > 8:
            self._quotes.insert(chance.randrange(len(self._quotes)), self._hidden.pop(0))
        fetched_at = datetime(today.year, today.month, today.day, 6, tzinfo=UTC)
        rows = [_quote_row(quote, number // 10 + 1, fetched_at) for number, quote in enumerate(self._quotes)]
        pages = -(-len(rows) // 10)
        return Crawl(str(today), rows, books_of(pages, len(rows), host="quotes.example"))


def _quote_row(quote: Row, page: int, fetched_at: datetime) -> Row:
    return {
        "text": quote["text"],
        "author": quote["author"],
        "author_link": f"https://quotes.example{quote['author_path']}",
        "tags": json.dumps(quote["tags"]),
        "page": str(page),
    } | _provenance(f"https://quotes.example/page/{page}/", fetched_at)


def _provenance(url: str, fetched_at: datetime) -> Row:
    return {
        "_url": url,
        "_fetched_at": fetched_at,
        "_page_hash": hashlib.blake2b(f"{url}{fetched_at:%Y%m%d}".encode(), digest_size=16).hexdigest(),
        "_crawl_id": "crawl",
        "_spider_version": "v1",
        "_seed_row": None,
        "extra": None,
    }


# -- damages ----------------------------------------------------------------------------------------------------------

Harm = Callable[[Crawl, random.Random], Crawl]


@dataclass(frozen=True)
class Damage:
    """What happens to a crawl.

    Attributes:
        name: of the damage.
        site: whose crawl it is.
        cause: what a person who knew would say.
        harm: does it.
        critical: readers must not get such rows.
    """

    name: str
    site: str
    cause: CauseKind
    harm: Harm = field(repr=False)
    critical: bool = True


_ALL: list[Damage] = []


def damages() -> tuple[Damage, ...]:
    return tuple(_ALL)


def _damage(name: str, cause: CauseKind, *, site: str = "books", critical: bool = True) -> Callable[[Harm], Harm]:
    def noted(harm: Harm) -> Harm:
        _ALL.append(Damage(name, site, cause, harm, critical))
        return harm

    return noted


def _each(crawl: Crawl, change: Callable[[Row], Mapping[str, Any]], *, spider: str = "v1") -> Crawl:
    rows = [{**row, **change(row), "_spider_version": spider} for row in crawl.rows]
    return replace(crawl, rows=rows)


def _only(crawl: Crawl, rows: list[Row], **books: Any) -> Crawl:
    """The crawl with only these rows, each from a page of its own."""
    fetched = -(-len(rows) // 20) + len(rows)
    return replace(crawl, rows=rows, books=books_of(fetched, len(rows), **books))


@_damage("field renamed", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"price": None, "extra": json.dumps({"offer": row["price"]})})


@_damage("prices emptied", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"price": None})


@_damage("price is words", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"price": "See price in basket"})


@_damage("half the rows", "site shrank")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _only(crawl, chance.sample(crawl.rows, len(crawl.rows) // 2))


@_damage("a list's selector finds every third", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return replace(crawl, rows=crawl.rows[::3], books=crawl.books | {"records": {"written": len(crawl.rows[::3])}})


@_damage("pages doubled", "layout changed", critical=False)
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    again = [{**row, "_url": f"{row['_url']}?ref=list", "link": f"{row['link']}?ref=list"} for row in crawl.rows]
    return replace(crawl, rows=[*crawl.rows, *again], books=books_of(2 * len(crawl.rows), 2 * len(crawl.rows)))


@_damage("currency changed", "currency or locale changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"price": f"€{float(row['price'][1:]) * 1.17:.2f}"})


@_damage("decimal comma", "currency or locale changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {name: row[name].replace(".", ",") for name in ("price", "weight")})


@_damage("dates off by a century", "our parser failed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"published": f"19{row['published'][2:]}"}, spider="v2")


@_damage("columns shuffled", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"title": row["category"], "category": row["published"], "published": row["title"]})


@_damage("encoding broken", "our parser failed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    def misread(text: str | None) -> str | None:
        return text and text.encode().decode("cp1252", "replace")

    return _each(crawl, lambda row: {name: misread(row[name]) for name in ("title", "description")}, spider="v2")


@_damage("block pages as rows", "blocked")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    wall = dict.fromkeys(("category", "price", "stock", "in_stock", "rating", "weight", "published", "description"))
    wall |= {"title": "Access denied", "_page_hash": "b10c"}
    return _each(crawl, lambda row: wall if chance.random() < 0.4 else {})


@_damage("login page", "blocked")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    wall = dict.fromkeys(("category", "price", "stock", "in_stock", "rating", "weight", "published"))
    wall |= {"title": "Log in", "description": "Please sign in to continue.", "_page_hash": "1091"}
    return _each(crawl, lambda row: wall)


@_damage("one category vanished", "site shrank", critical=False)
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _only(crawl, [row for row in crawl.rows if row["category"] != "Nonfiction"])


@_damage("stock all false", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"in_stock": "false", "stock": "0"})


@_damage("titles truncated", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"title": f"{row['title'][:12]}..."})


@_damage("all prices equal", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"price": crawl.rows[0]["price"]})


@_damage("prices a hundred times too high", "currency or locale changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"price": row["price"].replace(".", "")})


@_damage("ids reused", "our parser failed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    ids = [row["upc"] for row in crawl.rows]
    chance.shuffle(ids)
    others = iter(ids)
    return _each(crawl, lambda row: {"upc": next(others)}, spider="v2")


@_damage("HTML in texts", "our parser failed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"title": f"<h1 class='t'>{row['title'].replace('&', '&amp;')}</h1>"}, spider="v2")


@_damage("placeholders", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"category": "N/A", "description": "  \n "})


@_damage("robots.txt forbids", "blocked")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    rows = crawl.rows[: len(crawl.rows) // 3]
    return _only(crawl, rows, excluded={"robots": len(crawl.rows) - len(rows)})


@_damage("403", "blocked")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    rows = crawl.rows[: len(crawl.rows) * 2 // 3]
    return _only(crawl, rows, dead={"blocked": len(crawl.rows) - len(rows)})


@_damage("server errors", "site gone")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    rows = crawl.rows[: len(crawl.rows) * 2 // 3]
    return _only(crawl, rows, dead={"server_error": len(crawl.rows) - len(rows)})


@_damage("empty site", "site shrank")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return replace(crawl, rows=[], books=books_of(1, 0, bytes=2_000))


_GERMAN = (
    "Das Buch ist eine Reise in die Vergangenheit, und der Leser wird nicht enttäuscht.",
    "Sie lebt mit ihrem Bruder in einem Dorf, das auf keiner Karte zu finden ist.",
    "Ein Roman über die Liebe, den Krieg und das, was von uns bleibt.",
    "Mit dem Tod des Vaters beginnt für die Familie eine neue Zeit.",
    "Es ist die Geschichte von zwei Freunden, die sich aus den Augen verloren haben.",
    "Der Autor zeigt, wie die Welt von morgen aussehen wird, und was das für uns alle heißt.",
)


@_damage("language changed", "currency or locale changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"description": " ".join(chance.choices(_GERMAN, k=chance.randrange(6, 24)))})


@_damage("units changed", "currency or locale changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"weight": f"{float(row['weight'][:-3]) * 35.274:.2f} oz"})


@_damage("relative dates", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"published": f"{chance.randrange(1, 25)} days ago"})


@_damage("links to another host", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"link": f"https://tracker.example/out?id={row['upc']}"})


@_damage("boolean inverted", "our parser failed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    other = {"true": "false", "false": "true"}
    return _each(crawl, lambda row: {"in_stock": other[row["in_stock"]]}, spider="v2")


@_damage("ratings all 0", "layout changed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"rating": "0"})


@_damage("description of the row before", "our parser failed")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    before: Iterator[Any] = iter([crawl.rows[-1]["description"], *(row["description"] for row in crawl.rows)])
    return _each(crawl, lambda row: {"description": next(before)}, spider="v2")


@_damage("one page repeated", "layout changed", site="quotes")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    first = crawl.rows[:10]
    pages = range(1, 11)
    url = "https://quotes.example/page/{}/"
    rows = [{**row, "page": str(p), "_url": url.format(p), "_page_hash": "0ne"} for p in pages for row in first]
    return replace(crawl, rows=rows)


@_damage("authors emptied", "layout changed", site="quotes")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"author": None, "author_link": None})


@_damage("lists no lists any more", "layout changed", site="quotes")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"tags": ", ".join(json.loads(row["tags"])) or "no tags"})


@_damage("only the first pages", "site shrank", site="quotes")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return replace(crawl, rows=crawl.rows[:40], books=books_of(4, 40, host="quotes.example"))


@_damage("code of the site as text", "layout changed", site="quotes")
def _(crawl: Crawl, chance: random.Random) -> Crawl:
    return _each(crawl, lambda row: {"author": "{{ quote.author }}"})
