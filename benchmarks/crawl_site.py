"""A shop to crawl for `benchmarks.crawl`: 5,229 generated pages, alike in every run, and the server that answers them.

A home page, 5,000 products (24 KB a page in the median, 12 links each to other products) and 38 categories of 6 listing
pages. A query is ignored, so that there are as many addresses as one wants. All pages are made before the first one is
asked for and lie in memory: the server must not be what is measured.
"""

import argparse
import asyncio
import html
import json
import random
from collections.abc import Iterator

from benchmarks.crawl_meter import SERVER_CORE, pin

PRODUCTS = 5_000
PAGES = 5_229
START = "/"
_CATEGORIES = tuple(
    f"{room} {kind}"
    for room in ("Home", "Garden", "Office", "Travel", "Kids")
    for kind in ("Tools", "Lighting", "Storage", "Textiles", "Decor", "Care", "Kitchen", "Audio")
)[:38]
_A_PAGE = 24
_RELATED = 12
_SEED = 4
_WORDS = (
    *("ultra", "light", "carbon", "steel", "cotton", "organic", "premium", "classic", "modern", "travel", "kitchen"),
    *("garden", "wireless", "smart", "portable", "durable", "compact", "heavy", "duty", "vintage", "leather", "glass"),
    *("ceramic", "bamboo", "copper", "matte", "glossy", "adjustable", "folding", "waterproof", "insulated", "family"),
    *("rechargeable", "ergonomic", "recycled", "natural", "soft", "rigid", "office", "outdoor", "summer", "winter"),
)
_BRANDS = ("Acme", "Borealis", "Cobalt & Co", "Dunmore", "Elkhorn", "Fjell", "Granite", "Harbour", "Juniper", "Lumen")


class _Shop:
    """The shop's pages as HTML."""

    def __init__(self) -> None:
        self._random = random.Random(_SEED)  # noqa: S311  (the same pages in every run)
        self._names = [self._words(4, 7).title() for _ in range(PRODUCTS)]
        self._prices = [round(self._random.uniform(3, 900), 2) for _ in range(PRODUCTS)]
        self._head = self._header()
        self._foot = self._footer()

    def pages(self) -> Iterator[tuple[str, str]]:
        """Every page as (path, HTML)."""
        yield START, self._page("Shop", "<h1>Shop</h1>")
        for category in range(len(_CATEGORIES)):
            members = range(category, PRODUCTS, len(_CATEGORIES))
            last = -(-len(members) // _A_PAGE)
            for page in range(1, last + 1):
                shown = members[(page - 1) * _A_PAGE : page * _A_PAGE]
                yield f"/c/{category}/{page}.html", self._listing(category, page, last, shown)
        for product in range(PRODUCTS):
            yield f"/p/{product}.html", self._detail(product)

    def _listing(self, category: int, page: int, last: int, shown: range) -> str:
        pager = "".join(f'<a href="/c/{category}/{number}.html">{number}</a>' for number in range(1, last + 1))
        cards = "\n".join(map(self._card, shown))
        return self._page(
            f"{_CATEGORIES[category]}, page {page}",
            f'<h1>{_CATEGORIES[category]}</h1><section class="grid">{cards}</section><div class="pager">{pager}</div>',
        )

    def _detail(self, product: int) -> str:
        some = self._random
        name, price, category = html.escape(self._names[product]), self._prices[product], product % len(_CATEGORIES)
        brand, rating, in_stock = html.escape(some.choice(_BRANDS)), round(some.uniform(1, 5), 1), product % 5 > 0
        described = json.dumps({"@type": "Product", "name": self._names[product], "sku": f"SKU-{product:05}"})
        thumbs = "\n".join(
            f'<li class="thumb"><a href="/img/{product}/{view}.jpg" data-zoom="/img/{product}/{view}@2x.jpg">'
            f'<img src="/img/{product}/{view}_s.jpg" alt="{name} view {view}" width="80" height="80"></a></li>'
            for view in range(6)
        )
        specs = "\n".join(
            f'<tr class="spec"><th scope="row">{self._words(2, 2).title()}</th><td>{self._words(1, 4)}</td></tr>'
            for _ in range(14)
        )
        reviews = "\n".join(
            f'<li class="review" itemprop="review"><div class="head"><span class="stars" data-v="{some.randint(1, 5)}">'
            f'</span><strong class="author">{self._words(2, 2).title()}</strong></div><p>{self._text(2)}</p></li>'
            for _ in range(9)
        )
        related = "".join(map(self._card, some.sample(range(PRODUCTS), _RELATED)))
        paragraphs = "".join(f"<p>{self._text(4)}</p>" for _ in range(3))
        sizes = "".join(f'<option value="{size}">Size {size}</option>' for size in range(8))
        return self._page(
            name,
            f"""<ol class="breadcrumb"><li><a href="/c/{category}/1.html">{_CATEGORIES[category]}</a></li>
<li class="active">{name}</li></ol><script type="application/ld+json">{described}</script>
<div class="row" itemscope itemtype="https://schema.org/Product"><div class="col gallery">
<img class="main-image" itemprop="image" src="/img/{product}/main.jpg" alt="{name}">
<ul class="thumbs">{thumbs}</ul></div>
<div class="col summary"><h1 class="product-title" itemprop="name">{name}</h1>
<p class="brand">by <a class="brand-link" href="/brand/{product % 12}"><span itemprop="brand">{brand}</span></a></p>
<div class="rating"><span class="stars"></span> <span class="rating-value">{rating}</span>
<a href="#reviews" class="count">{some.randint(0, 900)} reviews</a></div>
<div class="price-box"><span class="price" itemprop="price" content="{price}">${price:.2f}</span>
<span class="currency">USD</span></div>
<p class="sku">SKU: <span itemprop="sku">SKU-{product:05}</span></p>
<p class="stock"><i class="icon"></i> <span class="availability">{"In stock" if in_stock else "Sold out"}</span></p>
<form class="cart" method="post" action="/cart"><select name="size">{sizes}</select>
<button type="submit">Add</button></form></div></div>
<section class="description"><h2>Description</h2><div class="rte">{paragraphs}</div></section>
<section class="specs"><h2>Specifications</h2><table class="spec-table"><tbody>{specs}</tbody></table></section>
<section class="reviews" id="reviews"><h2>Reviews</h2><ul>{reviews}</ul></section>
<section class="related"><h2>You may also like</h2><div class="grid">{related}</div></section>""",
        )

    def _card(self, product: int) -> str:
        name, price = html.escape(self._names[product]), self._prices[product]
        return (
            f'<article class="product-card" data-sku="SKU-{product:05}">'
            f'<a class="product-link" href="/p/{product}.html"><img loading="lazy" src="/img/{product}/thumb.jpg" '
            f'srcset="/img/{product}/thumb@2x.jpg 2x" alt="{name}"><h3 class="card-title">{name}</h3></a>'
            f'<div class="card-price"><span class="price">${price:.2f}</span><span>${price * 1.2:.2f}</span></div>'
            f'<button class="btn add" data-id="{product}">Add</button></article>'
        )

    def _page(self, title: str, main: str) -> str:
        return (
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<link rel="stylesheet" href="/static/site.css"></head>\n<body>{self._head}\n'
            f'<main class="container">{main}</main>\n{self._foot}</body></html>'
        )

    def _header(self) -> str:
        menu = "\n".join(
            f'<li class="menu-item" data-id="{number}"><a class="menu-link" href="/c/{number}/1.html" title="{name}">'
            f'<span class="menu-text">{name}</span></a></li>'
            for number, name in enumerate(_CATEGORIES)
        )
        return f'<header class="site-header"><nav class="main-nav"><ul class="menu">{menu}</ul></nav></header>'

    def _footer(self) -> str:
        columns = "".join(
            f"<div><h4>{title}</h4><ul>"
            + "".join(f'<li><a href="/info/{title.lower()}-{number}">{title} {number}</a></li>' for number in range(6))
            + "</ul></div>"
            for title in ("Help", "Company", "Legal", "Social")
        )
        event = f'{{"event":"view","cfg":{{"a":{list(range(80))}}}}}'
        scripts = f"<script>window.layer=window.layer||[];layer.push({event});</script>\n" * 6
        return f'<footer class="site-footer">{columns}</footer>\n{scripts}'

    def _words(self, least: int, most: int) -> str:
        return " ".join(self._random.choices(_WORDS, k=self._random.randint(least, most)))

    def _text(self, sentences: int) -> str:
        return " ".join(f"{self._words(9, 17).capitalize()}." for _ in range(sentences))


def _answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """One kept-alive connection; it answers GET, and nothing else is asked."""

    def __init__(self, answers: dict[bytes, bytes], unknown: bytes) -> None:
        self._answers, self._unknown, self._held = answers, unknown, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._held = (self._held + data).split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1].partition(b"?")[0]
            self._transport.write(self._answers.get(path, self._unknown))


async def _serve() -> None:
    answers = {path.encode(): _answer("200 OK", page.encode()) for path, page in _Shop().pages()}
    assert len(answers) == PAGES
    unknown = _answer("404 Not Found", b"no such page")
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(answers, unknown), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    pin(SERVER_CORE)
    asyncio.run(_serve())
