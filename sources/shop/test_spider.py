"""The spider over a saved page: no network, no platform. When the site changes, save it again and see what breaks."""

import runpy
from pathlib import Path

from scrapy.http import HtmlResponse

HERE = Path(__file__).parent
URL = "http://127.0.0.1:8765/2026-01-01/product/KIT-012"

# Every source has a `spider.py`; run by its path, they do not get in each other's way as modules.
ShopSpider = runpy.run_path(str(HERE / "spider.py"))["ShopSpider"]


def saved(page: str, url: str = URL) -> HtmlResponse:
    return HtmlResponse(url, body=(HERE / "fixtures" / page).read_bytes(), encoding="utf-8")


def test_a_product_page_gives_one_record_with_every_field() -> None:
    assert list(ShopSpider().parse_product(saved("product.html"))) == [
        {
            "sku": "KIT-012",
            "name": 'Café “Crème” Mug ☕ & Saucer <Large> "كوب"',
            "brand": "by Pennyroyal",
            "category": "Kitchen & Table",
            "description": 'Café “Crème” Mug ☕ & Saucer <Large> "كوب" by Pennyroyal: packed in recycled paper.',
            "price": "£11.69",
            "list_price": "£12.99",
            "stock": "0",
            "rating": "4.6",
            "added": "28 November 2025",
            "product_url": "http://127.0.0.1:8765/2026-01-01/product/KIT-012",
            "reviews_url": "http://127.0.0.1:8765/2026-01-01/product/KIT-012/reviews",
        }
    ]


def test_a_product_without_reviews_has_no_reviews_url() -> None:
    page = saved("product.html")
    unreviewed = page.replace(body=page.body.replace(b'class="reviews"', b""))

    [record] = ShopSpider().parse_product(unreviewed)

    assert record["reviews_url"] is None
