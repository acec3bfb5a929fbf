"""The demo shop: home -> categories -> their further pages -> products. An ordinary Scrapy spider.

It runs alone, too: `python -m demo.shop` in one terminal, `scrapy runspider spider.py -O products.jsonl` in another.
"""

from collections.abc import Iterator
from typing import Any

import scrapy


class ShopSpider(scrapy.Spider):
    name = "shop"
    start_urls = ["http://127.0.0.1:8765/2026-01-01/"]  # noqa: RUF012  (Scrapy's own form)

    def parse(self, response: Any) -> Iterator[scrapy.Request]:
        yield from response.follow_all(css="nav.categories a", callback=self.parse_category)

    def parse_category(self, response: Any) -> Iterator[scrapy.Request]:
        yield from response.follow_all(css="a.product", callback=self.parse_product)
        yield from response.follow_all(css="a[rel=next]", callback=self.parse_category)

    def parse_product(self, response: Any) -> Iterator[dict[str, Any]]:
        """One record, as the page writes it: types and currencies are the declaration's business."""
        product = response.css("article.product")
        reviews = product.css("a.reviews::attr(href)").get()
        yield {
            "sku": product.attrib["data-sku"],
            "name": product.css(".name::text").get(),
            "brand": product.css(".brand::text").get(),
            "category": product.css(".category::text").get(),
            "description": product.css(".description::text").get(),
            "price": product.css(".price::text").get(),
            "list_price": product.css(".list-price::text").get(),
            "stock": product.css(".stock::attr(data-stock)").get(),
            "rating": product.css(".rating::text").get(),
            "added": product.css(".added::text").get(),
            "product_url": response.url,
            "reviews_url": response.urljoin(reviews) if reviews else None,
        }
