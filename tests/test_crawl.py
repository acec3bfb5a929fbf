"""A crawl as those see it who ask for one: what lies in the lake afterwards, and in which words it failed.

Real HTTP, real processes, real kills. What one page's spider does is written out in each test, as a user would.
"""

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from gossamer import declarations
from gossamer.cli import app
from gossamer.crawl import life, process, step, store
from gossamer.crawl.deaths import CrawlProcessError
from gossamer.crawl.life import Crawl
from gossamer.crawl.parking import Parking
from gossamer.crawl.progress import Progress
from gossamer.crawl.step import close_crawl, run_crawl
from gossamer.errors import CrawlError, PublicationRefusedError, SourceError
from gossamer.lake import Lake
from gossamer.manifest import Manifest
from gossamer.publish.tables import gate
from gossamer.settings import PROJECT
from tests import mocksite
from tests.house import FOLLOW, KEY, PAGES, House
from tests.mocksite import MockSite


@pytest.fixture(scope="module")
def site() -> Iterator[MockSite]:
    with mocksite.serve() as running:
        yield running


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def verdict(manifest: Manifest) -> Any:
    check = manifest.check("books_closed")
    assert check is not None and check.blocking
    return check


# --- What comes out ---------------------------------------------------------------------------------------------------


def test_every_page_becomes_a_record_that_says_where_it_comes_from(house: House, site: MockSite) -> None:
    house.declare(FOLLOW, seeds={"urls": [f"{site.url}/list?5"]})
    before = datetime.now(UTC)
    seen: list[Progress] = []

    manifest = house.crawl(run_id="run-1", on_progress=seen.append)

    rows = house.raw().sort("title")
    version = declarations.load(house.settings.sources)["s"].code_version("spider")
    assert rows["title"].to_list() == [f"page {n}" for n in range(1, 6)]
    assert rows["_url"].to_list() == [f"{site.url}/page/{n}" for n in range(1, 6)]
    assert rows["_page_hash"][0] == sha256(b"<html><h1>page 1</h1></html>").hexdigest()
    assert all(before <= moment <= datetime.now(UTC) for moment in rows["_fetched_at"])
    assert rows["_crawl_id"].unique().to_list() == [f"s/{KEY}/1"] == [manifest.crawl_id]
    assert rows["_spider_version"].unique().to_list() == [version]
    assert rows.schema["_fetched_at"] == pl.Datetime("us", "UTC")
    assert verdict(manifest).passed, verdict(manifest).summary
    assert house.dead() == {}
    assert (manifest.run_id, manifest.rows) == ("run-1", 5)
    assert (seen[-1].state, seen[-1].pages, seen[-1].records) == ("complete", 6, 5)
    assert house.crawl().crawl_id == f"s/{KEY}/2", "a second crawl is another generation"


def test_of_two_rules_for_politeness_the_gentler_holds(house: House, site: MockSite) -> None:
    spider = FOLLOW.replace('"RETRY_TIMES": 0', '"DOWNLOAD_DELAY": 0.15, "ROBOTSTXT_OBEY": False')
    spider = spider.replace('css="a"', 'urls=["/page/1", "/page/2", "/page/3", "/private/1"]')
    house.declare(spider, seeds={"urls": [f"{site.url}/page/0"]}, politeness={"requests_per_second": 100})
    before = len(site.requests)
    manifest = house.crawl()
    assert sorted(site.requests[before:]) == ["/page/0", "/page/1", "/page/2", "/page/3", "/robots.txt"]
    assert site.times[-1] - site.times[before] >= 4 * 0.14, "a delay is the least time between two requests"
    assert manifest.notes["books"]["requests"]["excluded"] == {"robots": 1}


def test_undeclared_nested_and_odd_values_of_every_item_type_are_kept(house: House, site: MockSite) -> None:
    house.declare(
        """
        import dataclasses, datetime, decimal, scrapy
        from titles import TITLE  # beside the spider

        class Thing(scrapy.Item):
            title = scrapy.Field()
            count = scrapy.Field()

        @dataclasses.dataclass
        class Part:
            name: str

        @dataclasses.dataclass
        class Whole:
            title: str
            parts: list

        class Spider(scrapy.Spider):
            name = "odd"
            custom_settings = {"FEEDS": {"out.json": {"format": "json"}}}

            async def start(self):
                yield {"title": TITLE, "period": self.period, "segment": self.segment, "partition": self.partition}
                for url in self.start_urls:
                    yield scrapy.Request(url)

            def parse(self, response):
                yield {"title": 22, "count": True, "_url": "mine", 7: b"bytes"}
                yield {"title": ["a", {"b": None}], "count": decimal.Decimal("1.50")}
                yield Thing(title=datetime.date(2026, 1, 5))
                yield Whole(title="half \\ud800 of a pair", parts=[Part("x"), Part("y")])
                yield {"count": float("nan")}
        """,
        record={"key": "title", "fields": {"title": "str", "count": "int"}},
        seeds={"urls": [f"{site.url}/page/1?{{partition}}"]},
    ).joinpath("titles.py").write_text("TITLE = 'from start'")

    manifest = house.crawl()

    rows = {row["title"]: row for row in house.raw().to_dicts()}
    extra = {title: json.loads(row["extra"]) if row["extra"] else None for title, row in rows.items()}
    assert extra["from start"] == {"period": KEY, "segment": None, "partition": KEY}
    assert (rows["22"]["count"], extra["22"]) == ("true", {"_url": "mine", "7": "bytes"})
    assert rows['["a", {"b": null}]']["count"] == "1.50"
    assert (rows["2026-01-05"]["count"], rows["2026-01-05"]["extra"]) == (None, None)
    assert extra["half ? of a pair"] == {"parts": [{"name": "x"}, {"name": "y"}]}
    assert rows[None]["count"] == "nan"
    assert rows["22"]["_url"] == f"{site.url}/page/1?{KEY}"
    assert verdict(manifest).passed, verdict(manifest).summary
    assert "FEEDS of the spider's settings is not used" in house.log.getvalue()


def test_a_retry_does_not_make_a_page_count_twice_that_the_retried_request_is_redirected_to(
    house: House, site: MockSite
) -> None:
    """Scrapy's retries are not filtered, and what they are redirected to would not be either."""
    house.declare(
        """
        import scrapy

        class Spider(scrapy.Spider):
            name = "probe"

            def parse(self, response):
                yield {"title": response.css("h1::text").get()}
                if response.url.endswith("/page/seed"):
                    for path in ("/page/7", "/shaky/7", "/shaky/loop"):
                        yield response.follow(path, errback=self.failed)

            def failed(self, failure):
                yield {"title": "the errback of what is no error without the retry"}
        """,
        seeds={"urls": [f"{site.url}/page/seed"]},
        complete={"tolerate": 0.5},
    )
    manifest = house.crawl()
    assert sorted(house.raw()["title"]) == ["page 7", "page seed"]
    requests = manifest.notes["books"]["requests"]
    assert (requests["fetched"], requests["redirected"], requests["dead"]) == (2, 1, {"redirect_loop": 1})
    assert site.requests.count("/page/7") == 1
    assert site.requests.count("/shaky/loop") == 2


# --- What failed, by name ---------------------------------------------------------------------------------------------

REASONS = {
    "/status/404": "gone",
    "/status/410": "gone",
    "/status/403": "blocked",
    "/status/429": "rate_limited",
    "/status/500": "server_error",
    "/status/418": "client_error",
    "/loop": "redirect_loop",
    "/endless/1": "redirect_loop",
    "/slow/20": "timed_out",
    "/reset": "connection_lost",
    "/truncated": "connection_lost",
    "/huge/300000": "too_large",
    "/bomb/3000000": "too_large",
    "/binary": "not_text",
    "/page/raise": "parse_error",
    "/page/pipeline": "pipeline_error",
    "http://no-such-host.invalid/": "dns",
}


def test_every_failure_has_its_name_and_exclusions_are_no_failures(house: House, site: MockSite) -> None:
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        odd = {f"http://127.0.0.1:{closed.getsockname()[1]}/": "refused", site.url.replace("http:", "https:"): "tls"}
        expected = {(path if "//" in path else site.url + path): reason for path, reason in (REASONS | odd).items()}
        excluded = [f"{site.url}/private/1", "ftp://127.0.0.1/x", "http://elsewhere.example/"]
        house.declare(
            f"""
            import scrapy

            class Broken:
                def process_item(self, item):
                    if item["title"] == "page pipeline":
                        raise KeyError("no such thing")
                    return item

            class Spider(scrapy.Spider):
                name = "probe"
                allowed_domains = ["127.0.0.1", "no-such-host.invalid"]
                custom_settings = {{
                    "RETRY_TIMES": 0, "DOWNLOAD_TIMEOUT": 2, "DOWNLOAD_MAXSIZE": 200_000,
                    "ITEM_PIPELINES": {{Broken: 1}},
                }}

                def parse(self, response):
                    for url in {[*expected, *excluded]!r}:
                        errback = self.ignore if "500" in url else None
                        yield scrapy.Request(url, callback=self.parse_page, errback=errback)

                def ignore(self, failure):
                    pass

                def parse_page(self, response):
                    title = response.css("h1::text").get()
                    yield {{"title": title}}
                    if title == "page raise":
                        raise ValueError("what is this?")
            """,
            seeds={"urls": [f"{site.url}/page/seed"]},
            politeness={"requests_per_second": None, "concurrency": 32},
            complete={"required": ["parse_page"]},
        )
        manifest = house.crawl()

    dead = house.dead()
    # Scrapy writes addresses its own way: a host alone gets its slash.
    assert {url.rstrip("/"): row["reason"] for url, row in dead.items()} == {
        u.rstrip("/"): r for u, r in expected.items()
    }
    books = manifest.notes["books"]
    assert books["requests"]["excluded"] == {"robots": 1, "not_http": 1, "off_site": 1}
    assert books["requests"]["pending"] == 0
    assert books["records"] == {"yielded": 2, "written": 1, "dropped": {}, "errors": 1}
    assert (books["seeds"]["answered"], books["seeds"]["asked"]) == (1, 1)
    raised = dead[f"{site.url}/page/raise"]
    assert raised["callback"] == "parse_page" and "ValueError: what is this?" in raised["message"]
    assert "spider.py:" in raised["message"]
    assert dead[f"{site.url}/status/500"]["status"] == 500
    assert dead[f"{site.url}/status/500"]["body_sample"] == "status 500 on demand"
    check = verdict(manifest)
    assert not check.passed
    assert "17 of 20 requests failed (85 %, tolerated 1 %)" in check.summary and "e.g. http" in check.summary
    assert "required page" in check.summary


def test_retries_and_redirects_are_one_request(house: House, site: MockSite) -> None:
    house.declare(
        """
        import scrapy

        class Spider(scrapy.Spider):
            name = "one"
            custom_settings = {"RETRY_TIMES": 2, "RETRY_PRIORITY_ADJUST": 0}

            def parse(self, response):
                yield {"title": "seed"}
                for path in ("/status/503", "/to?/page/1", "/page/1", "/to?/status/503?again"):
                    yield response.follow(path, callback=self.parse_page)

            def parse_page(self, response):
                yield {"title": response.url}
        """,
        seeds={"urls": [f"{site.url}/to?/page/seed"]},
        complete={"tolerate": 0.9},
    )

    manifest = house.crawl()

    dead = house.dead()
    assert {url: row["attempts"] for url, row in dead.items()} == {
        f"{site.url}/status/503": 3,
        f"{site.url}/to?/status/503?again": 4,
    }
    requests = manifest.notes["books"]["requests"]
    assert requests["discovered"] == 5 and requests["pending"] == 0
    assert requests["fetched"] + requests["redirected"] + sum(requests["dead"].values()) == 5
    assert verdict(manifest).passed, verdict(manifest).summary


def test_private_addresses_are_refused_in_seeds_and_behind_redirects(house: House, site: MockSite) -> None:
    # The site itself is on loopback: the seed is refused, and nothing reaches it, not even for robots.txt.
    asked = len(site.requests)
    house.declare(FOLLOW, seeds={"urls": [site.url.replace("127.0.0.1", "localhost") + "/list?1"]}, fetch={})

    manifest = house.crawl()

    assert [row["reason"] for row in house.dead().values()] == ["private_address"]
    assert "1 of 1 seed without an answer (1 private_address" in verdict(manifest).summary
    assert len(site.requests) == asked

    # The site as a proxy is how a public address is had here; it redirects to a private one.
    house.declare(
        """
        import scrapy

        class Spider(scrapy.Spider):
            name = "lured"

            async def start(self):
                for url in self.start_urls:
                    yield scrapy.Request(url, meta={"proxy": "PROXY"})

            def parse(self, response):
                yield {"title": response.url}
                yield scrapy.Request("http://public.example/to?http://10.0.0.1/x", meta={"proxy": "PROXY"})
        """.replace("PROXY", site.url),
        seeds={"urls": ["http://public.example/page/1"]},
        politeness={"robots": "ignore"},
        fetch={},
    )
    manifest = house.crawl()
    assert manifest.notes["books"]["requests"]["excluded"] == {"private_address": 1}
    assert not [path for path in site.requests if path.startswith("http://10.")]
    assert house.raw()["title"].to_list() == ["http://public.example/page/1"]


# --- Books that do not close ------------------------------------------------------------------------------------------


def closing(house: House, spider: str, seeds: Any, **spec: Any) -> str:
    """The summary of the failed verdict of a crawl that ended well as a process."""
    house.declare(spider, seeds=seeds, **spec)
    check = verdict(house.crawl())
    assert not check.passed
    return str(check.summary)


def test_a_seed_that_answers_500_fails_the_books(house: House, site: MockSite) -> None:
    summary = closing(
        house, FOLLOW, {"urls": [f"{site.url}/status/500", f"{site.url}/list?3"]}, complete={"tolerate": 0.5}
    )
    assert summary == f"1 of 2 seeds without an answer (1 server_error; e.g. {site.url}/status/500)"


def test_a_site_that_is_down_fails_the_books(house: House) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        summary = closing(house, FOLLOW, {"urls": [url]})
    assert summary == f"1 of 1 seed without an answer (1 refused; e.g. {url})", "one fault is told once"


def test_a_page_that_is_required_may_not_be_gone_but_another_may(house: House, site: MockSite) -> None:
    spider = FOLLOW.replace('css="a"', 'urls=["/page/1", "/status/404"]')
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]})
    passed = verdict(house.crawl())
    assert passed.passed and "1 gone" in passed.summary
    required = {"required": ["parse_page", "/status/4.4$"]}
    summary = closing(house, spider, {"urls": [f"{site.url}/list?1"]}, complete=required)
    assert summary == f"1 required page failed, e.g. {site.url}/status/404"


def test_a_page_that_is_required_may_not_be_left_out_by_a_rule(house: House, site: MockSite) -> None:
    spider = FOLLOW.replace('css="a"', 'urls=["/page/1", "/private/1"]')
    summary = closing(house, spider, {"urls": [f"{site.url}/list?1"]}, complete={"required": ["/private/"]})
    assert summary == f"1 required page failed, e.g. {site.url}/private/1"


def test_a_requirement_that_nothing_matches_is_a_fault_and_no_promise(house: House, site: MockSite) -> None:
    seeds = {"urls": [f"{site.url}/list?2"]}
    summary = closing(house, FOLLOW, seeds, complete={"required": ["parse_lst", "parse_page", "/shelf/"]})
    assert summary == "complete.required: `parse_lst`, `/shelf/` matched no request"
    limited = closing(house, FOLLOW, seeds, complete={"required": ["/page/2"]}, limits={"pages": 1})
    assert "matched" not in limited, "a crawl that was stopped may not have come to it"


def test_records_that_fail_in_a_pipeline_count_one_by_one(house: House, site: MockSite) -> None:
    spider = FOLLOW.replace(
        "import scrapy\n",
        """import scrapy

    class Broken:
        def process_item(self, item):
            if item["title"] == "bad":
                raise KeyError("no such thing")
            return item
""",
    )
    spider = spider.replace('"RETRY_TIMES": 0', '"ITEM_PIPELINES": {Broken: 1}')
    spider += '            yield from ({"title": "bad"} for _ in range(10) if response.url.endswith("/1"))\n'
    summary = closing(house, spider, {"urls": [f"{site.url}/list?3"]}, complete={"tolerate": 0.5})
    assert summary == f"10 of 13 records failed in a pipeline (77 %, tolerated 50 %); e.g. {site.url}/page/1"


def test_a_site_that_redirects_every_page_to_one_is_not_complete(house: House, site: MockSite) -> None:
    def walls(count: int) -> str:
        return FOLLOW.replace('css="a"', f'urls=["/page/1", *(f"/wall/{{n}}" for n in range({count}))]')

    seeds = {"urls": [f"{site.url}/list?1"]}
    summary = closing(house, walls(30), seeds)
    assert "30 requests were redirected to known pages and only 2 fetched" in summary
    assert f"e.g. {site.url}/wall/" in summary
    house.declare(walls(5), seeds=seeds)
    few = verdict(house.crawl())
    assert few.passed and "5 redirected to known pages" in few.summary


@pytest.mark.parametrize("text", ["finished", "enough", ""])
def test_a_spider_that_closes_itself_is_not_complete_whatever_it_says(house: House, site: MockSite, text: str) -> None:
    spider = FOLLOW + (
        "            if response.url.endswith('/398'):\n"
        f"                raise scrapy.exceptions.CloseSpider({text!r})\n"
    )
    spider = spider.replace('"RETRY_TIMES": 0', '"CONCURRENT_REQUESTS": 1')
    summary = closing(house, spider, {"urls": [f"{site.url}/list?400"]})
    assert "the spider closed itself" in summary and "known request" in summary
    assert house.lake.current("incomplete", "s", KEY).notes["books"]["requests"]["excluded"].keys() == {"cancelled"}


def test_no_request_slips_past_robots_txt_while_it_is_being_fetched(house: House, site: MockSite) -> None:
    before = len(site.requests)
    seeds = {"urls": [f"{site.url}/private/{number}" for number in range(10)]}
    house.declare(PAGES, seeds=seeds, politeness={"requests_per_second": None, "concurrency": 16})
    manifest = house.crawl()
    assert site.requests[before:] == ["/robots.txt"]
    assert {letter["reason"] for letter in house.dead().values()} == {"robots"} and manifest.layer == "incomplete"


def test_requests_that_a_filter_keeps_back_are_counted_with_its_reason(house: House, site: MockSite) -> None:
    spider = FOLLOW.replace('css="a"', 'urls=["/page/1", "/page/2", "/to?http://elsewhere.example/"]')
    spider = spider.replace('name = "follow"', 'name = "follow"\n        allowed_domains = ["127.0.0.1"]')
    spider += """
        @classmethod
        def from_crawler(cls, crawler, *args, **kwargs):
            spider = super().from_crawler(crawler, *args, **kwargs)
            crawler.signals.connect(spider.keep_back, signal=scrapy.signals.request_scheduled)
            return spider

        def keep_back(self, request):
            if request.url.endswith("/2"):
                raise scrapy.exceptions.IgnoreRequest("seen last week")
"""
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]})
    manifest = house.crawl()
    assert verdict(manifest).passed, verdict(manifest).summary
    assert manifest.notes["books"]["requests"]["excluded"] == {"ignored": 1, "off_site": 1}


def test_a_spider_that_yields_nothing_fails_the_books(house: House, site: MockSite) -> None:
    spider = FOLLOW.replace('yield {"title": response.css("h1::text").get()}', "return")
    assert "no records came out of 4 pages" in closing(house, spider, {"urls": [f"{site.url}/list?3"]})


def test_a_spider_that_raises_in_start_fails_the_books(house: House, site: MockSite) -> None:
    start = (
        FOLLOW
        + """
        async def start(self):
            yield scrapy.Request(self.start_urls[0])
            raise RuntimeError("no more ideas")
"""
    )
    summary = closing(house, start, {"urls": [f"{site.url}/list?2"]})
    assert "the spider raised in start(): RuntimeError: no more ideas" in summary and "spider.py:" in summary


def test_limits_end_a_crawl_and_say_which(house: House, site: MockSite) -> None:
    seeds = {"urls": [f"{site.url}/list?30"]}
    before = len(site.requests)
    assert "limits.pages (5)" in closing(house, FOLLOW, seeds, limits={"pages": 5})
    assert len([path for path in site.requests[before:] if path != "/robots.txt"]) == 5
    assert "limits.bytes (1500)" in closing(house, FOLLOW, seeds, limits={"bytes": "1500B"})
    slow = FOLLOW.replace('css="a"', 'urls=[f"/slow/0.{n % 10}?{n}" for n in range(500)]')
    assert "limits.duration (0:00:01)" in closing(house, slow, seeds, limits={"duration": "1s"})
    failing = FOLLOW.replace('css="a"', 'urls=[f"/status/500?{n}" for n in range(300)]')
    assert "limits.error_rate (0.5)" in closing(house, failing, seeds, limits={"error_rate": 0.5})


def test_a_limit_that_is_just_enough_stops_nothing(house: House, site: MockSite) -> None:
    house.declare(FOLLOW, seeds={"urls": [f"{site.url}/list?3"]})
    assert verdict(house.crawl(pages=4)).passed


# --- What a crawl that is not complete leaves -------------------------------------------------------------------------


def test_a_crawl_that_is_not_complete_leaves_the_last_complete_one(house: House, site: MockSite) -> None:
    objects, rows, manifest = small_partition(house, site)
    before = house.lake.current("raw", "s", KEY)

    limited = house.crawl(pages=2)

    assert (limited.layer, limited.crawl_id) == ("incomplete", f"s/{KEY}/2")
    assert house.raw().equals(rows) and house.lake.current("raw", "s", KEY) == before == manifest
    assert house.raw(layer="incomplete")["title"].to_list() == house.raw(layer=limited.layer)["title"].to_list()
    assert house.lake.current("incomplete", "s", KEY) == limited and limited.rows == 1
    assert house.lake.current("dead_letters", "s", KEY).crawl_id == limited.crawl_id, "of the newest crawl"
    assert status(house)["crawl"]["state"] == "incomplete" and status(house)["rows"] == {"incomplete": 1, "raw": 3}

    whole = house.crawl()
    assert (whole.layer, whole.crawl_id) == ("raw", f"s/{KEY}/3"), "generations count both"
    assert house.objects() == objects, "an incomplete crawl is made good by a complete one"
    assert status(house)["crawl"]["state"] == "complete"


def status(house: House) -> Any:
    """What `gossamer status` says of the one partition."""
    places = ["--sources", str(house.settings.sources), "--lake", house.settings.lake]
    result = CliRunner().invoke(app, ["status", "s", *places, "--json"], catch_exceptions=False)
    (shown,) = json.loads(result.stdout)
    return shown


def test_the_gate_says_why_where_no_crawl_was_ever_complete(house: House, site: MockSite) -> None:
    closing(house, FOLLOW, {"urls": [f"{site.url}/status/500"]})
    with pytest.raises(PublicationRefusedError, match=r"incomplete/s: books_closed: 1 of 1 seed without an answer"):
        gate(house.lake, "s", KEY)


def test_partitions_of_any_name_do_not_share_an_object(house: House, site: MockSite) -> None:
    segments = {"segments": ["a", "a.progress"]}
    house.declare(FOLLOW, seeds={"urls": [f"{site.url}/list?1"]}, partitions=segments)
    source = declarations.load(house.settings.sources)["s"]
    manifests = {
        key: run_crawl(house.settings, source, key, output=house.log) for key in reversed(segments["segments"])
    }
    assert {key: house.lake.current("raw", "s", key) for key in manifests} == manifests


def test_behind_a_proxy_the_proxy_looks_names_up(house: House, site: MockSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    house.declare(PAGES, seeds={"urls": ["http://no-such-host.invalid/page/1"]}, fetch={})
    check = verdict(house.crawl())
    assert check.passed, check.summary


# --- Text of pages ----------------------------------------------------------------------------------------------------


def test_what_pages_say_cannot_command_a_terminal(house: House, site: MockSite) -> None:
    evil = "\\x1b]0;owned\\x07\\x9b31m"
    spider = FOLLOW.replace('css="a"', 'urls=["/page/1", "/page/2", "/page/3"]')
    spider += f'''
            if response.url.endswith("/1"):
                raise ValueError("{evil}")
            if response.url.endswith("/2"):
                raise scrapy.exceptions.CloseSpider("{evil}")

        async def start(self):
            yield scrapy.Request(self.start_urls[0])
            raise RuntimeError("{evil}")
'''
    summary = closing(house, spider, {"urls": [f"{site.url}/list?1"]})
    said = [summary, house.log.getvalue(), *(row["message"] for row in house.dead().values())]
    assert any("owned" in text for text in said)
    assert not [text for text in said if any(control in text for control in "\x1b\x07\x9b")]


def test_a_password_in_a_seed_is_refused_and_not_repeated(house: House) -> None:
    house.declare(FOLLOW, seeds={"urls": ["https://me:hunter2@shop.example/"]})
    with pytest.raises(SourceError, match=r"seeds\.urls\.0: holds a user name or password.*http_user") as raised:
        declarations.load(house.settings.sources)["s"]
    assert "hunter2" not in str(raised.value)


# --- Sources that cannot be crawled -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spider", "words"),
    [
        ("import scrapy\n\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' ("),
        ("class Spider(:\n", "SyntaxError"),
        ("class Other: ...\n", "has no class Spider"),
        ("class Spider: ...\n", "is no scrapy.Spider"),
        (FOLLOW + "\n        def __init__(self):\n            pass\n", "could not be started: TypeError"),
    ],
)
def test_a_spider_that_does_not_load_is_named_with_file_and_line(house: House, spider: str, words: str) -> None:
    house.declare(spider, seeds={"urls": ["http://127.0.0.1:1/"]})
    with pytest.raises(CrawlProcessError) as raised:
        house.crawl()
    assert words in str(raised.value) and raised.value.exit_code == 2
    assert "spider.py" in str(raised.value) or "TypeError" in words
    assert "Traceback" not in str(raised.value)
    assert house.objects() == []


# --- Seeds ------------------------------------------------------------------------------------------------------------


def test_a_crawl_that_cannot_begin_has_failed_and_begins_when_the_cause_is_mended(house: House, site: MockSite) -> None:
    urls = {"urls": [f"{site.url}/list?2"]}
    house.declare(FOLLOW, name="up", seeds=urls)
    chained = {"from": {"source": "up", "select": "select title as url from rows"}}
    for spider, seeds, words in (
        (FOLLOW, chained, "up"),
        ("import nothing_of_that_name", urls, "nothing_of_that_name"),
    ):
        house.declare(spider, seeds=seeds)
        with pytest.raises(CrawlError, match=words):
            house.crawl()
        assert life.standing(house.lake, "s", KEY).state is life.CrawlState.FAILED
    house.declare(FOLLOW, seeds=urls)
    assert house.crawl().generation == 1


def test_seeds_come_from_a_file(house: House, site: MockSite) -> None:
    folder = house.declare(PAGES, seeds={"file": "seeds.txt"})
    (folder / "seeds.txt").write_text(f"# two pages\n{site.url}/page/{{period}}\n\n{site.url}/page/2\n")
    house.crawl()
    assert sorted(house.raw()["title"]) == ["page 2", f"page {KEY}"]


def test_seeds_come_from_a_sitemap_and_its_parts(house: House, site: MockSite) -> None:
    def urls(*paths: str, kind: str = "url") -> bytes:
        entries = "".join(f"<{kind}><loc>{site.url}{path}</loc></{kind}>" for path in paths)
        return f'<x{kind}set xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</x{kind}set>'.encode()

    index = urls("/files/part.xml.gz", "/files/part2.xml", kind="sitemap").replace(b"xsitemapset", b"sitemapindex")
    site.files["index.xml"] = index
    site.files["part.xml.gz"] = gzip.compress(urls("/page/1", "/page/2").replace(b"xurlset", b"urlset"))
    site.files["part2.xml"] = urls("/page/2", "/page/3").replace(b"xurlset", b"urlset")
    house.declare(PAGES, seeds={"sitemap": f"{site.url}/files/index.xml"})

    manifest = house.crawl()

    assert sorted(house.raw()["title"]) == ["page 1", "page 2", "page 3"]
    assert manifest.notes["books"]["seeds"] == {"declared": 3, "asked": 3, "answered": 3, "dead": 0}
    assert verdict(manifest).passed
    del site.files["part2.xml"]
    check = verdict(house.crawl())
    assert not check.passed and f"e.g. {site.url}/files/part2.xml" in check.summary
    assert house.dead()[f"{site.url}/files/part2.xml"]["reason"] == "gone"


def publish(house: House, rows: Mapping[str, list[Any]]) -> None:
    """What a publication leaves: a Delta table with a column `partition_key`."""
    pl.DataFrame(rows).with_columns(partition_key=pl.lit(KEY)).write_delta(house.lake.table_url("up"))


def test_seeds_come_from_published_rows(house: House, site: MockSite) -> None:
    house.declare(FOLLOW, name="up", seeds={"urls": [site.url]})
    chain = {"source": "up", "select": "select link from rows where good"}
    house.declare(PAGES, seeds={"from": chain})
    with pytest.raises(CrawlError, match=f"up has published no partition {KEY}"):
        house.crawl()
    links = [f"{site.url}/page/2", f"{site.url}/page/1", None, f"{site.url}/page/2", f"{site.url}/page/9"]
    publish(house, {"link": links, "good": [True, True, True, True, False]})
    assert verdict(house.crawl()).passed
    assert sorted(house.raw()["title"]) == ["page 1", "page 2"]

    house.declare(PAGES, seeds={"from": chain | {"select": "select link from rows where not link like 'http%'"}})
    empty = verdict(house.crawl())
    assert empty.passed and house.raw().is_empty(), "no seeds upstream is an answer"

    house.declare(PAGES, seeds={"from": chain | {"select": "select nothing_such from rows"}})
    with pytest.raises(CrawlError, match=r"seeds\.from\.select: .*nothing_such"):
        house.crawl()


# --- Ends from outside ------------------------------------------------------------------------------------------------

ENDLESS = FOLLOW.replace('css="a"', 'urls=[f"/slow/0.2?{n}" for n in range(5000)]')


def start(house: House, site: MockSite, spider: str = ENDLESS) -> "subprocess.Popen[bytes]":
    """A crawl as a bare process, once it has fetched some pages."""
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]}, limits={"duration": "60s"})
    before = len(site.requests)
    command = [sys.executable, "-m", "gossamer.crawl", "--source", "s", "--partition", KEY]
    command += ["--sources", str(house.settings.sources), "--lake", house.settings.lake]
    process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: len(site.requests) > before + 10)
    return process


def ended(process: "subprocess.Popen[bytes]") -> int:
    """Its exit code, in the end."""
    process.communicate(timeout=60)
    return process.returncode


def wait_for(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def small_partition(house: House, site: MockSite) -> tuple[list[str], pl.DataFrame, Manifest | None]:
    """A good partition, which nothing that fails later may touch."""
    house.declare(FOLLOW, seeds={"urls": [f"{site.url}/list?3"]})
    house.crawl()
    return house.objects(), house.raw(), house.lake.manifest("raw", "s", KEY)


def test_a_crawl_that_is_killed_goes_on_by_itself_and_says_so(house: House, site: MockSite) -> None:
    spider = FOLLOW.replace('css="a"', 'urls=[f"/slow/0.5?{n}" for n in range(60)]')
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]})

    before = len(site.requests)

    def kill() -> None:
        wait_for(lambda: len(site.requests) > before + 10)  # by its log: reports may come after the end
        kill_the_crawl(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    manifest = house.crawl()
    killer.join()
    assert verdict(manifest).passed and manifest.notes["books"]["launches"] == 2
    assert house.raw().height == 60 and house.raw()["_url"].n_unique() == 60


def kill_the_crawl(number: int) -> None:
    """Sends a signal to the crawl that this process started."""
    for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in child.read_text().split():
            if b"gossamer.crawl" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), number)


def test_sigterm_interrupts_a_crawl_and_commits_nothing(house: House, site: MockSite) -> None:
    process = start(house, site)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 75, log.decode()[-2000:]
    assert house.objects() == []
    asked = len(site.requests)
    time.sleep(0.5)
    assert len(site.requests) == asked


def test_a_paused_crawl_goes_on_when_its_process_is_started_by_hand(house: House, site: MockSite) -> None:
    spider = ENDLESS.replace("5000", "60")
    process = start(house, site, spider)
    life.ask(house.lake, Crawl("s", KEY, 1), life.Wish.PAUSE, by="ann")
    assert ended(process) == 76
    assert life.standing(house.lake, "s", KEY).state is life.CrawlState.PAUSED
    assert ended(start(house, site, spider)) == 0
    assert house.lake.current("raw", "s", KEY).notes["books"]["launches"] == 2


def test_stopping_a_crawl_at_rest_closes_its_books_without_one_more_request(house: House, site: MockSite) -> None:
    process = start(house, site)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 75
    asked, crawl = len(site.requests), Crawl("s", KEY, 1)
    life.ask(house.lake, crawl, life.Wish.STOP, by="ann")
    close_crawl(house.settings, declarations.load(house.settings.sources)["s"], crawl, output=house.log)
    assert house.lake.current("incomplete", "s", KEY).notes["books"]["state"] == "stopped"
    assert len(site.requests) == asked


def test_a_process_for_a_crawl_that_is_over_by_then_touches_nothing(house: House, site: MockSite) -> None:
    small_partition(house, site)
    objects, asked = {path: house.lake.get(path) for path in house.lake.paths("")}, len(site.requests)
    close_crawl(house.settings, declarations.load(house.settings.sources)["s"], Crawl("s", KEY, 1), output=house.log)
    assert {path: house.lake.get(path) for path in house.lake.paths("")} == objects
    assert len(site.requests) == asked


def test_what_is_asked_while_a_crawl_is_being_committed_comes_too_late() -> None:
    """Otherwise a pause in the last second would make a complete crawl a stopped one."""
    code = (
        "import os, signal\nfrom gossamer.crawl.life import Control, Wish\nfrom gossamer.crawl.run import Stopping\n"
        "stopping = Stopping()\nassert stopping.decide() == ''\n"
        "stopping.ask(Control(wish=Wish.PAUSE, by='ann', asked_at=0))\nassert stopping.wish is None\n"
        "os.kill(os.getpid(), signal.SIGTERM)\nprint('goes on', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\nprint('impatient')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (75, "goes on\n"), ended.stderr


def test_stores_of_earlier_launches_and_crawls_leave_the_machine_and_those_of_newer_ones_stay(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))

    def prepare(generation: int, launch: int) -> Path:
        crawl = Crawl("s", KEY, generation)
        return store.prepare(tmp_path / "crawls", crawl, launch, Parking(lake, crawl.folder, launch))

    def kept() -> set[str]:
        return {str(path.relative_to(tmp_path / "crawls" / "s" / KEY)) for path in tmp_path.glob("crawls/s/*/*/*")}

    prepare(1, 1)
    prepare(1, 3)
    assert kept() == {"000001/000003"}
    prepare(1, 2)
    assert kept() == {"000001/000003", "000001/000002"}, "launch 2 was overtaken before it had a store"
    prepare(2, 1)
    assert kept() == {"000002/000001"}


def test_no_crawl_goes_on_when_its_parent_is_killed(house: House, site: MockSite, tmp_path: Path) -> None:
    house.declare(ENDLESS, seeds={"urls": [f"{site.url}/list?1"]})
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\nfrom gossamer import declarations\nfrom gossamer.crawl.step import run_crawl\n"
        "from gossamer.settings import Settings\n"
        f"settings = Settings.load({str(house.settings.sources)!r}, {house.settings.lake!r})\n"
        f"run_crawl(settings, declarations.load(settings.sources)['s'], {KEY!r})\n"
    )
    before = len(site.requests)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(site.requests) > before + 10)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    parent.kill()
    parent.wait(10)
    wait_for(lambda: not alive(int(children[0])))
    assert house.objects() == []
    assert not list(tmp_path.glob("gossamer-*")), "its temporary rows go with it"


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_leaving_run_crawl_leaves_no_process(house: House, site: MockSite) -> None:
    house.declare(ENDLESS, seeds={"urls": [f"{site.url}/list?1"]})

    def cancel(progress: Progress) -> None:
        if progress.pages > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.crawl(on_progress=cancel)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if b"gossamer.crawl" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    stopped = house.lake.current("incomplete", "s", KEY)
    assert stopped.notes["books"]["state"] == "stopped" and "cancelled" in verdict(stopped).summary
    assert house.lake.manifest("raw", "s", KEY) is None


def ending(statement: str) -> str:
    """A spider whose callback does something to its process."""
    return FOLLOW.replace("yield from response.follow_all", f"{statement}\n            yield from response.follow_all")


def test_a_crawl_that_ends_itself_without_a_result_is_not_given_an_older_one(house: House, site: MockSite) -> None:
    objects, rows, manifest = small_partition(house, site)
    house.declare(ending("__import__('os')._exit(0)"), seeds={"urls": [f"{site.url}/list?3"]})
    with pytest.raises(CrawlProcessError, match="ended without a result"):
        house.crawl()
    assert house.objects() == objects and house.lake.manifest("raw", "s", KEY) == manifest
    assert house.raw().equals(rows)


def test_a_callback_that_exits_ends_the_crawl_and_is_named(
    house: House, site: MockSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "OVERTIME_SECONDS", 30.0)
    seeds = {"urls": [f"{site.url}/list?3"]}
    house.declare(ending("__import__('sys').exit('enough')"), seeds=seeds, limits={"duration": "1s"})
    with pytest.raises(CrawlProcessError, match=r"SystemExit: enough \(.*spider\.py:\d+\)") as raised:
        house.crawl()
    assert raised.value.exit_code == 1 and house.objects() == []


def test_a_callback_that_blocks_does_not_outlive_the_limit_of_duration(
    house: House, site: MockSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "OVERTIME_SECONDS", 3.0)
    monkeypatch.setattr(process, "STOP_SECONDS", 1.0)
    seeds = {"urls": [f"{site.url}/list?3"]}
    house.declare(ending("__import__('time').sleep(60)"), seeds=seeds, limits={"duration": "1s"})
    with pytest.raises(CrawlProcessError, match=r"limits\.duration \(0:00:01\) did not end it"):
        house.crawl()
    assert house.objects() == []


BIG = FOLLOW.replace('response.css("h1::text").get()', "__import__('os').urandom(1_000_000).hex()")


def test_a_full_disk_under_the_lake_is_named_and_leaves_the_old_partition(
    tmp_path: Path, small_disk: Path, site: MockSite
) -> None:
    house = House(tmp_path, str(small_disk / "lake"))
    objects, rows, manifest = small_partition(house, site)
    house.declare(BIG, seeds={"urls": [f"{site.url}/list?3"]})
    with pytest.raises(CrawlProcessError, match="No space left"):
        house.crawl()
    assert house.objects() == objects and house.lake.manifest("raw", "s", KEY) == manifest
    assert house.raw().equals(rows)


def test_a_full_disk_under_the_temporary_rows_is_named(
    house: House, small_disk: Path, site: MockSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    house.declare(BIG, seeds={"urls": [f"{site.url}/list?3"]})
    with pytest.raises(CrawlProcessError, match=r"No space left.*set TMPDIR"):
        house.crawl()
    assert house.objects() == [] and list(small_disk.iterdir()) == []
