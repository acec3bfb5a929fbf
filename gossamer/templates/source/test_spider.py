"""The spider over a saved page, without network: does it still get something out of it?

It stays right while `parse` finds records or links on that page. When the spider has become yours, save a page that
holds records as fixtures/page.html, write its address into URL and the callback that reads it into CALLBACK, and say
below what must come out. When the site changes, save the page again and see what breaks.
"""

import runpy
from pathlib import Path

import scrapy
from scrapy.http import HtmlResponse

HERE = Path(__file__).parent
URL = "https://example.com/"
CALLBACK = "parse"
# What a crawl tells its spider: self.partition, self.period and self.segment.
PARTITION = {"partition": "2026-01-01", "period": "2026-01-01", "segment": None}

# Every source has a `spider.py`; run by its path, they do not get in each other's way as modules.
ExampleSourceSpider = runpy.run_path(str(HERE / "spider.py"))["ExampleSourceSpider"]


def test_the_saved_page_gives_records_or_leads_to_other_pages() -> None:
    spider = ExampleSourceSpider(**PARTITION)
    page = HtmlResponse(URL, body=(HERE / "fixtures" / "page.html").read_bytes())

    outputs = [output for output in getattr(spider, CALLBACK)(page) or () if output is not None]
    requests = [output for output in outputs if isinstance(output, scrapy.Request)]
    records = [output for output in outputs if not isinstance(output, scrapy.Request)]

    assert records or requests, f"{CALLBACK} finds neither a record nor a link on fixtures/page.html"
    # What the page must give, field by field, once it is one with records:
    # assert records[0]["title"] == "..."
    # assert len(records) == 1
