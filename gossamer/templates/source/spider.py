"""Pages of one site: an ordinary Scrapy spider, which also runs alone: `scrapy runspider spider.py -O pages.jsonl`."""

from collections.abc import Iterator
from typing import Any

import scrapy
from scrapy.http import HtmlResponse, Response
from scrapy.linkextractors import LinkExtractor


class ExampleSourceSpider(scrapy.Spider):
    name = "example_source"
    allowed_domains = ["example.com"]  # noqa: RUF012  (Scrapy's own form)
    # Under Gossamer the seeds of source.yaml come instead.
    start_urls = ["https://example.com/"]  # noqa: RUF012

    def parse(self, response: Response) -> Iterator[dict[str, Any] | scrapy.Request]:
        """One record a page, then every link on it that stays on the site."""
        if not isinstance(response, HtmlResponse):
            return
        yield {
            "url": response.url,
            "title": response.css("title::text").get(),
            "heading": " ".join("".join(response.css("h1")[:1].css("::text").getall()).split()),
            "description": response.css("meta[name=description]::attr(content)").get(),
        }
        yield from response.follow_all(LinkExtractor().extract_links(response), callback=self.parse)
