"""The spider over a saved page, without network. When the site changes, save the page again and see what breaks."""

import runpy
from pathlib import Path

import scrapy
from scrapy.http import HtmlResponse

HERE = Path(__file__).parent
URL = "https://example.com/"
RECORD = {"url": URL, "title": "Sample page"}

# Every source has a `spider.py`; run by its path, they do not get in each other's way as modules.
ExampleSourceSpider = runpy.run_path(str(HERE / "spider.py"))["ExampleSourceSpider"]


def parse_saved_page() -> list[object]:
    response = HtmlResponse(URL, body=(HERE / "fixtures" / "page.html").read_bytes())
    return list(ExampleSourceSpider().parse(response))


def test_a_page_gives_one_record_with_every_field() -> None:
    assert [output for output in parse_saved_page() if isinstance(output, dict)] == [RECORD]


def test_links_lead_on_to_web_pages() -> None:
    requests = [output for output in parse_saved_page() if isinstance(output, scrapy.Request)]

    assert len(requests) == 2
    assert all(request.url.startswith("http") for request in requests)
