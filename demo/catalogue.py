"""What the demo shop sells: products, reviews and exchange rates of any date, and the records a correct crawl yields.

Everything is a pure function of the date, so a partition can be crawled, and compared with the truth, at any time. No
HTML and no HTTP belong here (`pages`, `shop`).

Exactly 300 products are on sale on every date: 294 all year, and 6 seasonal places whose product changes every week.
About 15 % of the prices move from one day to the next.

Broken on purpose, the same on every date:

====================  ==================================================================================================
`DEAD_SKUS`           2 listed links that answer 404; no product, so not in the truth
`FLAKY_SKU`           answers 500 to the first two requests per server and date, then 200; in the truth
`MOVED_SKUS`          a listed link that redirects (301) to a product that is listed as well; in the truth once
`LISTED_TWICE`        a product that a second category lists too; in the truth once, in its own category
`PRICE_ON_REQUEST`    the price is "call us": no price and no currency in the truth
`PRICE_MISSING`       the price is empty: likewise
`IMPOSSIBLE_DATE`     added on "31 February 2026": no date in the truth
`RATING_MISSING`      the rating is "n/a": none in the truth
`UNUSUAL_NAME`        a name with entities, quotes, an emoji and right-to-left text
`CHF_SKUS`            3 products priced in Swiss francs, for which the exchange rates have no row
====================  ==================================================================================================
"""

import datetime as dt
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

DEAD_SKUS = {"KIT-990": "Copper Jelly Mould", "GDN-990": "Cast-Iron Boot Scraper"}
FLAKY_SKU = "TOY-009"
MOVED_SKUS = {"BKS-950": "BKS-011"}
LISTED_TWICE = "OUT-014"
PRICE_ON_REQUEST = "MUS-008"
PRICE_MISSING = "STA-003"
IMPOSSIBLE_DATE = "GDN-010"
RATING_MISSING = "HOM-002"
UNUSUAL_NAME = "KIT-012"
CHF_SKUS = ("HOM-017", "MUS-021", "OUT-004")

REVIEWS_PER_PAGE = 5

_CENT = Decimal("0.01")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip  # not strftime("%B"), which follows the locale of the process


@dataclass(frozen=True)
class Category:
    """One of the 8 departments; `size` counts the products that it sells all year."""

    code: str
    slug: str
    name: str
    hue: int  # of its pictures, in degrees
    size: int
    seasonal: bool
    styles: tuple[str, ...]
    nouns: dict[str, int]  # noun -> typical price


@dataclass(frozen=True)
class Product:
    """One product on one date: what its page says (`*_text`), and what that means (None where it means nothing)."""

    sku: str
    name: str
    brand: str
    category: Category
    description: str
    price_text: str
    price: Decimal | None
    currency: str | None
    list_price_text: str
    list_price: Decimal
    stock: int
    rating_text: str
    rating: float | None
    added_text: str
    added: dt.date | None
    review_count: int


@dataclass(frozen=True)
class Review:
    """One customer's review; it is on the site from its `date` on, while its product is on sale."""

    review_id: str
    sku: str
    author: str
    stars: int
    text: str
    date: dt.date


@dataclass(frozen=True)
class Listing:
    """One entry of a category page: the SKU that it links, and the product that it shows (None if the link is dead)."""

    sku: str
    name: str
    product: Product | None


CATEGORIES = (
    Category(
        "KIT", "kitchen-table", "Kitchen & Table", 18, 43, True,
        ("Stoneware", "Enamel", "Copper", "Olive Wood", "Cast-Iron", "Speckled", "Hand-Thrown"),
        {"Mug": 12, "Teapot": 34, "Mixing Bowl": 22, "Bread Bin": 45, "Ladle": 9, "Butter Dish": 18, "Casserole": 79,
         "Kettle": 52, "Salt Pig": 15, "Serving Board": 28, "Colander": 24, "Milk Jug": 14},
    ),
    Category(
        "BKS", "books", "Books", 265, 48, True,
        ("The Little Book of", "A Field Guide to", "An Atlas of", "Notes on", "The Secret Life of",
         "A Short History of", "Letters about"),
        {"Lighthouses": 14, "Bread": 16, "Mosses": 19, "Rivers": 12, "Clocks": 25, "Paper": 11, "Owls": 13,
         "Islands": 18, "Gardens": 22, "Tea": 10, "Railways": 29, "Winter": 9},
    ),
    Category(
        "GDN", "garden", "Garden", 120, 38, True,
        ("Galvanised", "Terracotta", "Oak", "Slate", "Woven", "Weathered", "Heritage"),
        {"Watering Can": 32, "Planter": 27, "Trug": 38, "Bird Table": 64, "Bench": 289, "Obelisk": 95, "Dibber": 8,
         "Cold Frame": 149, "Sundial": 120, "Boot Rack": 42, "Seed Tin": 17, "Lantern": 35},
    ),
    Category(
        "TOY", "toys-games", "Toys & Games", 345, 36, True,
        ("Wooden", "Pocket", "Painted", "Classic", "Travelling", "Knitted", "Giant"),
        {"Train": 26, "Jigsaw": 15, "Rabbit": 19, "Chess Set": 48, "Kite": 21, "Spinning Top": 6, "Castle": 85,
         "Marble Run": 39, "Yo-Yo": 7, "Ark": 58, "Skittles": 24, "Theatre": 72},
    ),
    Category(
        "OUT", "outdoors", "Outdoors", 195, 34, True,
        ("Canvas", "Lightweight", "Waxed", "Two-Person", "Alpine", "Folding", "Merino"),
        {"Tent": 340, "Rucksack": 95, "Flask": 24, "Hammock": 69, "Stove": 55, "Blanket": 78, "Lamp": 33,
         "Sleeping Bag": 160, "Cool Box": 110, "Map Case": 16, "Stool": 29, "Canoe": 1340},
    ),
    Category(
        "STA", "stationery", "Stationery", 225, 31, True,
        ("Linen", "Marbled", "Brass", "Recycled", "Letterpress", "Pocket", "Deckle-Edged"),
        {"Notebook": 12, "Fountain Pen": 64, "Sketchbook": 18, "Envelopes": 6, "Desk Diary": 22, "Pencil Case": 14,
         "Wax Seal": 19, "Ruler": 5, "Ink Stand": 88, "Letter Rack": 36, "Blotter": 27, "Album": 31},
    ),
    Category(
        "MUS", "music", "Music", 300, 24, False,
        ("Student", "Concert", "Rosewood", "Maple", "Antique", "Travel", "Ebony"),
        {"Violin": 890, "Cello": 2450, "Recorder": 28, "Ukulele": 75, "Concertina": 420, "Metronome": 49,
         "Mandolin": 360, "Music Stand": 45, "Lute": 1780, "Tin Whistle": 9, "Harp": 3900, "Tambourine": 32},
    ),
    Category(
        "HOM", "home-light", "Home & Light", 45, 40, False,  # 40: two full pages, and no third one
        ("Pleated", "Brass", "Linen", "Opal", "Rattan", "Velvet", "Smoked"),
        {"Table Lamp": 85, "Cushion": 26, "Throw": 59, "Mirror": 140, "Wall Clock": 48, "Candlestick": 22, "Rug": 380,
         "Vase": 34, "Armchair": 1180, "Doormat": 19, "Pendant": 99, "Footstool": 165},
    ),
)  # fmt: skip

_BRANDS = ("Alder & Co", "Brightwater", "Fenwick Lane", "Hollin's", "Kestrel Works", "Marsh & Daughters", "Ninefold",
           "Ostrander", "Pennyroyal", "Quill & Crane", "Sørensen", "Tamarisk")  # fmt: skip
_VIRTUES = ("made to be used every day", "finished by hand in small batches", "built to outlast its owner",
            "quietly beautiful from every side", "a favourite of ours since we opened", "simple, sturdy and honest",
            "packed in recycled paper")  # fmt: skip
_AUTHORS = ("Ada", "Bilal", "Chloé", "Dmitri", "Esi", "Farah", "George", "Hana", "Iñigo", "Jun", "Kwame", "Lotte",
            "Mairi", "Noor", "Oskar", "Priya")  # fmt: skip
_OPINIONS = {
    1: ("Broke within a week.", "Not what the picture shows."),
    2: ("A little disappointing for the price.", "Arrived late & scratched."),
    3: ("Does what it should, no more.", "Fine, though smaller than I thought."),
    4: ("Very good, would buy again.", "Lovely; the box was dented, though."),
    5: ("Could not be happier!", "Even nicer than I had hoped <3", "Bought a second one for my sister."),
}
_EURO_RATES = {"EUR": "1", "GBP": "1.1684", "USD": "0.9213", "SEK": "0.0882", "NOK": "0.0857", "DKK": "0.1341",
               "PLN": "0.2334", "JPY": "0.0061", "CAD": "0.6710", "AUD": "0.6025"}  # fmt: skip
_OFFERS = (0, 0, 0, 5, 10, 10, 15, 20, 25, 30)  # per cent off the list price


def products(date: dt.date) -> list[Product]:
    """The 300 products on sale on `date`, ordered by SKU: the truth of the shop."""
    return list(_products(date))


def reviews(date: dt.date, sku: str | None = None) -> list[Review]:
    """The reviews to be read on `date`, newest first within a product: of all products on sale, or of one SKU."""
    skus = [product.sku for product in _products(date) if sku in (None, product.sku)]
    return [review for sku in skus for review in _reviews_of(sku, date)]


def rates(date: dt.date) -> dict[str, float]:
    """Euros for one unit of each currency on `date`; Swiss francs are missing on purpose."""
    drift = {currency: 0 if currency == "EUR" else _pick(201, "rate", currency, date) - 100 for currency in _EURO_RATES}
    return {
        currency: float(round(Decimal(rate) * (10_000 + drift[currency]) / 10_000, 4))  # within 1 % of the usual rate
        for currency, rate in _EURO_RATES.items()
    }


def listing(date: dt.date, category: Category) -> list[Listing]:
    """What a category lists on `date`, by name; more than its own products, see the table above."""
    on_sale = products_by_sku(date)
    shown = {sku: product for sku, product in on_sale.items() if product.category is category}
    if category.slug == "garden":
        shown[LISTED_TWICE] = on_sale[LISTED_TWICE]
    if category.slug == "stationery":
        shown |= {old: on_sale[new] for old, new in MOVED_SKUS.items()}
    entries = [Listing(sku, product.name, product) for sku, product in shown.items()]
    entries += [Listing(sku, name, None) for sku, name in DEAD_SKUS.items() if sku.startswith(category.code)]
    return sorted(entries, key=lambda entry: (entry.name, entry.sku))


@functools.lru_cache(maxsize=64)
def products_by_sku(date: dt.date) -> dict[str, Product]:
    """The same products by SKU (shared: do not change it)."""
    return {product.sku: product for product in _products(date)}


# The records a correct crawl of a date yields after cleaning ---------------------------------------------------------


def shop_records(date: dt.date, base_url: str) -> list[dict[str, Any]]:
    """The rows of `sources/shop` after cleaning: declared types applied, `transform.clean` run; ordered by SKU."""
    return [
        {
            "sku": p.sku,
            "name": p.name,
            "brand": p.brand,
            "category": p.category.name,
            "description": p.description,
            "price": p.price,
            "price_currency": p.currency,
            "list_price": p.list_price,
            "list_price_currency": _currency(p.sku),
            "stock": p.stock,
            "rating": p.rating,
            "added": p.added,
            "product_url": f"{base_url}/{date}/product/{p.sku}",
            "reviews_url": f"{base_url}/{date}/product/{p.sku}/reviews" if p.review_count else None,
            "on_sale": p.price is not None and p.price < p.list_price,
        }
        for p in _products(date)
    ]


def review_records(date: dt.date) -> list[dict[str, Any]]:
    """The rows of `sources/reviews` after cleaning."""
    return [
        {
            "review_id": r.review_id,
            "sku": r.sku,
            "author": r.author,
            "stars": r.stars,
            "text": r.text,
            "date": r.date,
        }
        for r in reviews(date)
    ]


def rate_records(date: dt.date) -> list[dict[str, Any]]:
    """The rows of `sources/rates` after cleaning."""
    return [{"currency": currency, "rate": rate} for currency, rate in rates(date).items()]


def price_in_euros(product: Product, date: dt.date) -> float | None:
    """The column that the shop's `transform.enrich` adds; None without a price or a rate for its currency."""
    rate = rates(date).get(product.currency or "")
    return None if product.price is None or rate is None else round(float(product.price) * rate, 2)


# How the truth is made -----------------------------------------------------------------------------------------------


def _pick(n: int, *key: object) -> int:
    """A number below `n` that depends on nothing but `key`: the same on every machine and Python, unlike `random`."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % n


@functools.lru_cache(maxsize=64)
def _products(date: dt.date) -> tuple[Product, ...]:
    return tuple(sorted((p for category in CATEGORIES for p in _products_of(category, date)), key=lambda p: p.sku))


def _products_of(category: Category, date: dt.date) -> Iterable[Product]:
    for index in range(category.size):
        yield _product(category, f"{category.code}-{index + 1:03}", index, date)
    if category.seasonal:
        turn = (date.toordinal() + _pick(7, "turn", category.code)) // 7 % 3  # categories change on different weekdays
        yield _product(category, f"{category.code}-{801 + turn}", category.size + turn, date)


def _product(category: Category, sku: str, index: int, date: dt.date) -> Product:
    noun = list(category.nouns)[index % len(category.nouns)]
    style = category.styles[(index // len(category.nouns) + index) % len(category.styles)]
    name = _name(sku, style, noun)
    brand = _BRANDS[_pick(len(_BRANDS), "brand", sku)]
    list_price = _list_price(sku, category.nouns[noun])
    offer = _offer_price(sku, list_price, date)
    unpriced = {PRICE_ON_REQUEST: "call us", PRICE_MISSING: ""}.get(sku)
    rating = None if sku == RATING_MISSING else (28 + _pick(23, "rating", sku)) / 10
    added = None if sku == IMPOSSIBLE_DATE else dt.date(2024, 1, 1) + dt.timedelta(days=_pick(700, "added", sku))
    return Product(
        sku=sku,
        name=name,
        brand=brand,
        category=category,
        description=f"{name} by {brand}: {_VIRTUES[_pick(len(_VIRTUES), 'virtue', sku)]}.",
        price_text=_money_text(offer, _currency(sku)) if unpriced is None else unpriced,
        price=offer if unpriced is None else None,
        currency=_currency(sku) if unpriced is None else None,
        list_price_text=_money_text(list_price, _currency(sku)),
        list_price=list_price,
        stock=max(0, _pick(60, "stock", sku, date) - 6),
        rating_text="n/a" if rating is None else f"{rating:.1f}",
        rating=rating,
        added_text="31 February 2026" if added is None else date_text(added),
        added=added,
        review_count=len(_reviews_of(sku, date)),
    )


def _name(sku: str, style: str, noun: str) -> str:
    if sku == UNUSUAL_NAME:
        return 'Café “Crème” Mug ☕ & Saucer <Large> "كوب"'
    return f"{style} {noun}" + (" (Limited Edition)" if sku[4] == "8" else "")


def _currency(sku: str) -> str:
    if sku in CHF_SKUS:
        return "CHF"
    share = _pick(100, "currency", sku)
    return "GBP" if share < 58 else "EUR" if share < 82 else "USD"


def _list_price(sku: str, typical: int) -> Decimal:
    whole = max(3, typical * (80 + _pick(60, "list price", sku)) // 100)
    return Decimal(whole) + Decimal(("0.00", "0.50", "0.95", "0.99")[_pick(4, "pence", sku)])


def _offer_price(sku: str, list_price: Decimal, date: dt.date) -> Decimal:
    """The price after the latest new offer: one in five days brings one, which may equal the last."""
    changed = next((back for back in range(60) if _pick(5, "move", sku, date.toordinal() - back) == 0), 60)
    offer = _OFFERS[_pick(len(_OFFERS), "offer", sku, date.toordinal() - changed)]
    return (list_price * (100 - offer) / 100).quantize(_CENT, ROUND_HALF_UP)


def _money_text(amount: Decimal, currency: str) -> str:
    english = f"{amount:,.2f}"
    if currency == "EUR":
        return english.translate(str.maketrans(",.", ".,")) + " €"
    return {"GBP": "£", "USD": "$", "CHF": "CHF "}[currency] + english


def date_text(date: dt.date) -> str:
    """A date as the shop writes it: "12 March 2026"."""
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}"


def _reviews_of(sku: str, date: dt.date) -> list[Review]:
    written = [_review(sku, number) for number in range(1, _reviews_written(sku) + 1)]
    return sorted((r for r in written if r.date <= date), key=lambda r: (r.date, r.review_id), reverse=True)


def _reviews_written(sku: str) -> int:
    return (0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8)[_pick(11, "reviews", sku)]


@functools.lru_cache(maxsize=4096)
def _review(sku: str, number: int) -> Review:
    stars = (1, 2, 3, 4, 4, 5, 5, 5)[_pick(8, "stars", sku, number)]
    opinions = _OPINIONS[stars]
    return Review(
        review_id=f"{sku}-R{number}",
        sku=sku,
        author=_AUTHORS[_pick(len(_AUTHORS), "author", sku, number)],
        stars=stars,
        text=opinions[_pick(len(opinions), "opinion", sku, number)],
        date=dt.date(2025, 3, 1) + dt.timedelta(days=_pick(500, "written", sku, number)),
    )
