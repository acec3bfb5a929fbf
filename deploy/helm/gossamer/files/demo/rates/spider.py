"""The demo shop's exchange rates: one page with one table. An ordinary Scrapy spider."""

from collections.abc import Iterator
from typing import Any

import scrapy


class RatesSpider(scrapy.Spider):
    name = "rates"
    start_urls = ["http://127.0.0.1:8765/2026-01-01/rates"]  # noqa: RUF012  (Scrapy's own form)

    def parse(self, response: Any) -> Iterator[dict[str, Any]]:
        for row in response.css("table.rates tbody tr"):
            yield {"currency": row.css(".currency::text").get(), "rate": row.css(".rate::text").get()}
