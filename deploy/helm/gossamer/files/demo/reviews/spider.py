"""Reviews of the demo shop's products; the seeds are the review pages that the shop's rows name. Ordinary Scrapy."""

from collections.abc import Iterator
from typing import Any

import scrapy


class ReviewsSpider(scrapy.Spider):
    name = "reviews"
    start_urls = ["http://127.0.0.1:8765/2026-01-01/product/KIT-012/reviews"]  # noqa: RUF012  (Scrapy's own form)

    def parse(self, response: Any) -> Iterator[dict[str, Any] | scrapy.Request]:
        sku = response.css("section.reviews::attr(data-sku)").get()
        for review in response.css("li.review"):
            yield {
                "review_id": review.attrib["data-review-id"],
                "sku": sku,
                "author": review.css(".author::text").get(),
                "stars": review.css(".stars::attr(data-stars)").get(),
                "text": review.css(".text::text").get(),
                "date": review.css("time::text").get(),
            }
        yield from response.follow_all(css="a[rel=next]", callback=self.parse)
