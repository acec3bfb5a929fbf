"""Books to Scrape: lists of books, page by page, and a page for each book."""

from scrapy import Spider

RATINGS = {"One": 1, "Two": 2, "Three": 3, "Four": 4, "Five": 5}


class BooksSpider(Spider):
    name = "books"
    start_urls = ["https://books.toscrape.com/index.html"]

    def parse(self, response):
        yield from self.parse_list(response)

    def parse_list(self, response):
        yield from response.follow_all(css="article.product_pod h3 a", callback=self.parse_book)
        yield from response.follow_all(css="li.next a", callback=self.parse_list)

    def parse_book(self, response):
        table = {row.css("th::text").get(): row.css("td::text").get() for row in response.css("table tr")}
        yield {
            "upc": table["UPC"],
            "title": response.css("h1::text").get(),
            "category": response.css("ul.breadcrumb li:nth-last-child(2) a::text").get(),
            "description": response.css("#product_description + p::text").get(),
            "price": response.css("p.price_color::text").get(),
            "stock": response.css("p.availability").re_first(r"(\d+) available"),
            "rating": RATINGS[response.css("p.star-rating::attr(class)").re_first(r"star-rating (\w+)")],
            "link": response.url,
        }
