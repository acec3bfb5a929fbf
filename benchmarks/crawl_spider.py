"""The spider that `benchmarks.crawl` runs on stock Scrapy and on ours: fields by CSS, links followed."""

from collections.abc import Iterator
from typing import Any

import scrapy
from scrapy.http import Response

FIELDS = {
    "name": "h1.product-title::text",
    "price": 'span[itemprop="price"]::attr(content)',
    "sku": '[itemprop="sku"]::text',
    "brand": '[itemprop="brand"]::text',
    "rating": "span.rating-value::text",
    "availability": "span.availability::text",
    "description": ".description .rte p::text",
    "image": "img.main-image::attr(src)",
}


class ShopSpider(scrapy.Spider):
    name = "shop"
    allowed_domains = ["127.0.0.1"]  # noqa: RUF012  (as spiders have it)
    custom_settings = {  # noqa: RUF012  (as spiders have it)
        "CONCURRENT_REQUESTS": 64,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 64,
        "DOWNLOAD_DELAY": 0,
        "ROBOTSTXT_OBEY": False,
        "EXTENSIONS": {"benchmarks.crawl_meter.Meter": 0},
    }

    def parse(self, response: Response) -> Iterator[Any]:
        for href in response.css("ul.menu a.menu-link::attr(href)").getall():
            yield response.follow(href, callback=self.parse)
        for href in response.css(".pager a::attr(href)").getall():
            yield response.follow(href, callback=self.parse)
        for href in response.css("a.product-link::attr(href)").getall():
            yield response.follow(href, callback=self.parse_product)

    def parse_product(self, response: Response) -> Iterator[Any]:
        yield self.product(response)
        for href in response.css(".related a.product-link::attr(href)").getall():
            yield response.follow(href, callback=self.parse_product)

    def product(self, response: Response) -> dict[str, Any]:
        return {"url": response.url} | {field: response.css(css).get() for field, css in FIELDS.items()}
