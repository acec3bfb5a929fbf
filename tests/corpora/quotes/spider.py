"""Quotes to Scrape: ten pages of ten quotes."""

from scrapy import Spider


class QuotesSpider(Spider):
    name = "quotes"
    start_urls = ["https://quotes.toscrape.com/"]

    def parse(self, response, page=1):
        for quote in response.css("div.quote"):
            yield {
                "text": quote.css("span.text::text").get(),
                "author": quote.css("small.author::text").get(),
                "author_link": quote.css("span a::attr(href)").get(),
                "tags": quote.css("a.tag::text").getall(),
                "page": page,
            }
        yield from response.follow_all(css="li.next a", cb_kwargs={"page": page + 1})
