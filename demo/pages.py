"""The demo shop's pages as HTML, robots.txt and sitemap: pure functions. HTTP is in `shop`, data in `catalogue`.

Every text passes through `escape`. Classes and `data-` attributes are there to be selected by spiders: `nav.categories
a`, `a.product`, `a[rel=next]`, `article.product`, `li.review`, `table.rates`.
"""

import datetime as dt
from html import escape

from demo.catalogue import (
    CATEGORIES,
    REVIEWS_PER_PAGE,
    Category,
    Listing,
    Product,
    Review,
    date_text,
    listing,
    products,
    rates,
    reviews,
)

SHOP = "Thistle & Thimble"
PER_PAGE = 20

_STYLE = """
:root{--ink:#2b2a33;--soft:#6f6b7a;--line:#e6e0d8;--paper:#fbf8f3;--accent:#7a3e6f;--card:#fff}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,"Segoe UI","Noto Sans",sans-serif}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
body>header,main,body>footer{max-width:66rem;margin:0 auto;padding:1rem 1.25rem}
body>header{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:baseline;border-bottom:1px solid var(--line)}
.brandmark{font:600 1.5rem Georgia,serif;color:var(--ink)}.day{color:var(--soft);margin-left:auto}
h1{font:600 1.9rem/1.2 Georgia,serif;margin:.6rem 0}h2{font:600 1.25rem Georgia,serif;margin:1.6rem 0 .6rem}
.crumbs,.note{color:var(--soft);font-size:.9rem}
.grid{display:grid;
  grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:1rem;list-style:none;padding:0;margin:1rem 0}
.card{display:block;
  height:100%;background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1rem;color:var(--ink)}
.card:hover{border-color:var(--accent);text-decoration:none}.card strong{display:block;line-height:1.3}
.art{display:grid;place-items:center;height:7rem;margin-bottom:.75rem;border-radius:.5rem;
  background:linear-gradient(135deg,hsl(var(--hue) 60% 92%),hsl(calc(var(--hue) + 40) 50% 80%));
  color:hsl(var(--hue) 40% 38%);font:italic 600 3.5rem Georgia,serif}
.price{font-weight:600;color:var(--accent)}.was{color:var(--soft);font-size:.9rem}
article.product{display:grid;margin-top:1rem;grid-template-columns:minmax(14rem,22rem) 1fr;gap:2rem}
article.product .art{height:20rem;font-size:8rem}article.product .price{font-size:1.6rem;min-height:2.5rem;margin:0}
@media(max-width:42rem){article.product{grid-template-columns:1fr}}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.2rem}dt{color:var(--soft)}dd{margin:0}
.pages{display:flex;gap:1.5rem;justify-content:center;padding:1rem}
.reviews{list-style:none;padding:0}
.review{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1rem;margin:.75rem 0}
.review p{margin:.3rem 0 0}.stars{color:#b7791f}
table{border-collapse:collapse;background:var(--card)}
th,td{text-align:left;padding:.45rem 1.2rem;border:1px solid var(--line)}
td.rate{text-align:right;font-variant-numeric:tabular-nums}
body>footer{border-top:1px solid var(--line);margin-top:2rem;color:var(--soft);font-size:.9rem;display:flex;gap:1.5rem}
"""


def welcome(today: dt.date) -> str:
    """`/`: what this site is."""
    body = f"""<h1>A shop to practise on</h1>
<p>{escape(SHOP)} sells 300 things that do not exist. It is made for trying out crawlers: nothing here can be bought,
nobody minds your requests, and a few things are broken on purpose.</p>
<p>Every day has its own pages, so that any day can be crawled at any time: <a class="today"
href="/{today}/">see today&rsquo;s shop, {date_text(today)}</a>. Put another date into the address for the prices
of that day.</p>
<p class="note">For machines: <a href="/robots.txt">robots.txt</a>, <a href="/sitemap.xml">sitemap.xml</a>.</p>"""
    return _page("A shop to practise on", body, today)


def home(date: dt.date) -> str:
    """`/{date}/`: the categories, and a link that robots.txt forbids to follow."""
    cards = "\n".join(
        f'<li><a class="card" href="/{date}/category/{c.slug}">{_art(c, c.name)}'
        f"<strong>{escape(c.name)}</strong></a></li>"
        for c in CATEGORIES
    )
    body = f"""<h1>Good things for house and garden</h1>
<p class="note">The shop as it was on {date_text(date)}. Prices in other currencies at
<a href="/{date}/rates">that day&rsquo;s rates</a>.</p>
<nav class="categories" aria-label="Categories"><ul class="grid">
{cards}
</ul></nav>
<p class="note"><a class="private" href="/{date}/private/staff-prices">Staff prices</a></p>"""
    return _page("Welcome", body, date)


def category_page(date: dt.date, category: Category, number: int) -> str | None:
    """`/{date}/category/<slug>?page=N`: 20 entries; None beyond the last page."""
    entries = listing(date, category)
    shown = entries[(number - 1) * PER_PAGE : number * PER_PAGE]
    if number < 1 or not shown:
        return None
    cards = "\n".join(_card(date, category, entry) for entry in shown)
    here = f"/{date}/category/{category.slug}"
    body = f"""{_crumbs(date, category)}
<h1>{escape(category.name)}</h1>
<ul class="grid">
{cards}
</ul>
{_pagination(here, number, -(-len(entries) // PER_PAGE))}"""
    return _page(f"{category.name}, page {number}", body, date)


def product_page(date: dt.date, product: Product) -> str:
    """`/{date}/product/<sku>`: one product."""
    here = f"/{date}/product/{product.sku}"
    count = product.review_count
    stock = f"{product.stock} in stock" if product.stock else "Sold out"
    link = f'<a class="reviews" href="{here}/reviews">Read {count} review{"s" if count > 1 else ""}</a>'
    body = f"""{_crumbs(date, product.category)}
<article class="product" data-sku="{product.sku}">
{_art(product.category, product.name)}
<div>
<h1 class="name">{escape(product.name)}</h1>
<p class="brand">by {escape(product.brand)}</p>
<p class="price">{escape(product.price_text)}</p>
<p class="was">List price <span class="list-price">{escape(product.list_price_text)}</span></p>
<p class="description">{escape(product.description)}</p>
<dl>
<dt>Article</dt><dd class="sku">{product.sku}</dd>
<dt>Category</dt><dd class="category">{escape(product.category.name)}</dd>
<dt>Stock</dt><dd class="stock" data-stock="{product.stock}">{stock}</dd>
<dt>Rating</dt><dd><span class="rating">{product.rating_text}</span> of 5</dd>
<dt>In our range since</dt><dd class="added">{product.added_text}</dd>
</dl>
<p>{link if count else "No reviews yet."}</p>
</div>
</article>"""
    return _page(product.name, body, date)


def reviews_page(date: dt.date, product: Product, number: int) -> str | None:
    """`/{date}/product/<sku>/reviews?page=N`: 5 reviews; None beyond the last page (the first always exists)."""
    written = reviews(date, product.sku)
    shown = written[(number - 1) * REVIEWS_PER_PAGE : number * REVIEWS_PER_PAGE]
    if number < 1 or (not shown and number > 1):
        return None
    here = f"/{date}/product/{product.sku}"
    entries = f'<ul class="reviews">\n{"".join(map(_review, shown))}</ul>' if shown else "<p>No reviews yet.</p>"
    body = f"""{_crumbs(date, product.category)}
<section class="reviews" data-sku="{product.sku}">
<h1>Reviews of <a href="{here}">{escape(product.name)}</a></h1>
{entries}
{_pagination(f"{here}/reviews", number, -(-len(written) // REVIEWS_PER_PAGE))}
</section>"""
    return _page(f"Reviews of {product.name}", body, date)


def rates_page(date: dt.date) -> str:
    """`/{date}/rates`: euros for one unit of each currency."""
    rows = "\n".join(
        f'<tr><td class="currency">{currency}</td><td class="rate">{rate:.4f}</td></tr>'
        for currency, rate in rates(date).items()
    )
    body = f"""<h1>Exchange rates</h1>
<p class="note">Euros for one unit of each currency on {date_text(date)}.</p>
<table class="rates">
<thead><tr><th scope="col">Currency</th><th scope="col">EUR</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>"""
    return _page("Exchange rates", body, date)


def private_page(date: dt.date) -> str:
    """`/{date}/private/staff-prices`: what robots.txt forbids."""
    body = "<h1>Staff prices</h1>\n<p>For our people only: robots.txt asks you to stay out.</p>"
    return _page("Staff prices", body, date)


def error_page(title: str) -> str:
    """What an answer other than 200 shows."""
    return _page(title, f"<h1>{escape(title)}</h1>\n<p>Back to <a href='/'>the shop</a>.</p>", None)


def robots(base_url: str) -> str:
    """`/robots.txt`: the private pages are for nobody's robot."""
    return f"User-agent: *\nDisallow: /*/private/\n\nSitemap: {base_url}/sitemap.xml\n"


def sitemap(base_url: str, date: dt.date) -> str:
    """`/sitemap.xml`: the product pages of one date."""
    urls = "\n".join(f"<url><loc>{escape(base_url)}/{date}/product/{p.sku}</loc></url>" for p in products(date))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
{urls}
</urlset>
"""


def _page(title: str, body: str, date: dt.date | None) -> str:
    day = f'<span class="day">{date_text(date)}</span>' if date else ""
    start = f"/{date}/" if date else "/"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · {escape(SHOP)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<header><a class="brandmark" href="{start}">{escape(SHOP)}</a>{day}</header>
<main>
{body}
</main>
<footer><span>A demo: nothing here is for sale.</span><a href="/">About this shop</a></footer>
</body>
</html>
"""


def _crumbs(date: dt.date, category: Category) -> str:
    return (
        f'<nav class="crumbs" aria-label="Breadcrumbs"><a href="/{date}/">Home</a> &rsaquo; '
        f'<a href="/{date}/category/{category.slug}">{escape(category.name)}</a></nav>'
    )


def _card(date: dt.date, category: Category, entry: Listing) -> str:
    product = entry.product
    art = _art(product.category if product else category, entry.name)
    price = escape(product.price_text) if product else "Last pieces"
    return (
        f'<li><a class="product card" data-sku="{entry.sku}" href="/{date}/product/{entry.sku}">'
        f"{art}<strong>{escape(entry.name)}</strong> "
        f'<span class="price">{price}</span></a></li>'
    )


def _art(category: Category, name: str) -> str:
    """A picture that needs no file and no emoji font: the initial on the category's colour."""
    return f'<span class="art" style="--hue:{category.hue}" aria-hidden="true">{escape(name[0])}</span>'


def _review(review: Review) -> str:
    stars = "★" * review.stars + "☆" * (5 - review.stars)
    return f"""<li class="review" data-review-id="{review.review_id}">
<span class="stars" data-stars="{review.stars}" title="{review.stars} of 5">{stars}</span>
<strong class="author">{escape(review.author)}</strong>, <time datetime="{review.date}">{date_text(review.date)}</time>
<p class="text">{escape(review.text)}</p>
</li>
"""


def _pagination(path: str, number: int, last: int) -> str:
    if last < 2:
        return ""
    before = f'<a rel="prev" href="{path}?page={number - 1}">← Previous</a>' if number > 1 else ""
    after = f'<a rel="next" href="{path}?page={number + 1}">Next →</a>' if number < last else ""
    return f'<nav class="pages" aria-label="Pages">{before}<span>Page {number} of {last}</span>{after}</nav>'
