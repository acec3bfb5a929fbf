"""Every page of a maze, by every attribute that may name another page; also what is no page, and what is not there."""

from collections.abc import Iterator
from typing import Any

import scrapy
from scrapy.http import Response, TextResponse


class MazeSpider(scrapy.Spider):
    name = "maze"
    allowed_domains = ["127.0.0.1"]
    handle_httpstatus_list = [404]

    def parse(self, response: Response) -> Iterator[Any]:
        yield {"address": response.url, "status": response.status}
        if isinstance(response, TextResponse):
            for link in response.xpath("//@*[not(starts-with(., 'javascript:'))]").getall():
                if "/" in link or "." in link:
                    yield from self.follow(response, link.strip())

    def follow(self, response: TextResponse, link: str) -> Iterator[scrapy.Request]:
        try:
            request = response.follow(link)
        except ValueError:  # no address
            return
        if request.url.startswith("http"):
            yield request
