"""What ordinary spiders may count on: order, callbacks of every kind, what they remember, and what they are told.

Real crawls of a mock site in processes of their own. That a killed crawl is exact is `test_kills`.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gossamer.crawl import life
from gossamer.crawl.life import Crawl, Wish
from gossamer.settings import PROJECT
from tests import mocksite
from tests.house import FOLLOW, KEY, House
from tests.mocksite import MockSite


@pytest.fixture(scope="module")
def site() -> Iterator[MockSite]:
    with mocksite.serve() as running:
        yield running


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def requests_of(manifest: Any) -> dict[str, Any]:
    found: dict[str, Any] = manifest.notes["books"]["requests"]
    return found


def crawl(house: House, spider: str, site: MockSite, path: str = "/list?3", **spec: Any) -> Any:
    house.declare(spider, **({"seeds": {"urls": [f"{site.url}{path}"]}} | spec))
    return house.crawl()


SPIDER = """
    import scrapy

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"RETRY_TIMES": 0, "CONCURRENT_REQUESTS": 1}
"""


def test_requests_go_by_priority_then_the_newest_first_and_seeds_last_in_their_order(
    house: House, site: MockSite
) -> None:
    spider = (
        SPIDER
        + """
        async def start(self):
            for number in (1, 2, 3):
                yield scrapy.Request(f"{self.start_urls[0]}{number}")

        def parse(self, response):
            if response.url.endswith("page/1"):
                yield response.follow("/page/11")
                yield response.follow("/page/12")
                yield response.follow("/page/13", priority=5)
                yield response.follow("/page/14", priority=-5)
            yield {"title": response.url}
    """
    )
    before = len(site.requests)
    crawl(house, spider, site, "/page/")
    asked = [path.removeprefix("/page/") for path in site.requests[before:] if path != "/robots.txt"]
    # As plain Scrapy has it: the second seed leaves while the first page is being parsed.
    assert asked == ["1", "2", "13", "12", "11", "3", "14"]


def test_a_spider_may_ask_for_requests_in_the_order_in_which_they_were_found(house: House, site: MockSite) -> None:
    spider = (
        SPIDER.replace(
            '"CONCURRENT_REQUESTS": 1',
            '"CONCURRENT_REQUESTS": 1, "SCHEDULER_MEMORY_QUEUE": "scrapy.squeues.FifoMemoryQueue"',
        )
        + """
        def parse(self, response):
            if "list" in response.url:
                yield from response.follow_all(css="a")
            yield {"title": response.url}
    """
    )
    before = len(site.requests)
    crawl(house, spider, site, "/list?4")
    asked = [path for path in site.requests[before:] if path != "/robots.txt"]
    assert asked == ["/list?4", "/page/1", "/page/2", "/page/3", "/page/4"]


def test_what_cannot_be_written_down_runs_as_a_part_of_its_page_and_is_counted(house: House, site: MockSite) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield response.follow("/page/1", callback=lambda page: [{"title": page.url}, page.follow("/page/2")])
            yield response.follow("/to?/page/3", meta={"lock": __import__("threading").Lock()})
            yield {"title": response.url}
    """
    )
    manifest = crawl(house, spider, site)
    assert manifest.layer == "raw", manifest.check("books_closed")
    assert requests_of(manifest)["discovered"] == requests_of(manifest)["fetched"] > 3
    assert manifest.notes["books"]["unserialisable"] >= 2
    assert "cannot be written down" in house.log.getvalue() or "no method of the spider" in house.log.getvalue()


def test_a_page_of_too_many_requests_that_cannot_be_written_down_fails_with_the_remedy(
    house: House, site: MockSite
) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield {"title": response.url}
            for number in range(2000):
                yield response.follow(f"/page/{number}", callback=lambda page: None)
    """
    )
    manifest = crawl(house, spider, site)
    [letter] = house.dead().values()
    assert manifest.layer == "incomplete" and letter["reason"] == "parse_error"
    assert "methods of the spider" in letter["message"]


def test_a_callback_that_raises_keeps_what_it_had_yielded_and_says_where(house: House, site: MockSite) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield {"title": "before"}
            yield response.follow("/page/1", callback=self.parse_page)
            raise RuntimeError("the price is gone")

        def parse_page(self, response):
            yield {"title": response.url}
    """
    )
    manifest = crawl(house, spider, site, complete={"tolerate": 0.9})
    [letter] = house.dead().values()
    assert letter["reason"] == "parse_error" and letter["status"] == 200
    assert letter["message"].startswith("RuntimeError: the price is gone (")
    assert 'raise RuntimeError("the price is gone")' in letter["message"], "with its traceback"
    assert sorted(house.raw(layer=manifest.layer)["title"]) == ["before", f"{site.url}/page/1"]


def test_links_beyond_the_depth_limit_are_named_and_counted_once_each(house: House, site: MockSite) -> None:
    spider = (
        SPIDER.replace('"RETRY_TIMES": 0', '"RETRY_TIMES": 0, "DEPTH_LIMIT": 1')
        + """
        def parse(self, response):
            yield {"title": response.url}
            yield from response.follow_all(["/page/1", "/page/2", "/page/8", "/page/9"])
    """
    )
    manifest = crawl(house, spider, site)
    assert manifest.layer == "raw"
    assert requests_of(manifest)["fetched"] == 5
    assert requests_of(manifest)["excluded"] == {}

    manifest = crawl(house, spider.replace('["/page/1"', '[f"/page/1{len(response.url)}", "/page/1"'), site)
    assert requests_of(manifest)["excluded"] == {"depth": 1}


def test_what_is_not_honoured_of_a_spiders_settings_is_said_at_start_with_what_to_do(
    house: House, site: MockSite
) -> None:
    spider = (
        SPIDER.replace(
            '"RETRY_TIMES": 0',
            '"FEEDS": {"out.json": {"format": "json"}}, "SCHEDULER": "scrapy.core.scheduler.Scheduler", '
            '"DUPEFILTER_CLASS": "spider.Own", "ITEM_PIPELINES": {"spider.Counting": 1}',
        ).replace(
            "import scrapy\n",
            """import scrapy
    from scrapy.dupefilters import RFPDupeFilter

    class Own(RFPDupeFilter):
        pass

    class Counting:
        def open_spider(self):
            self.seen = set()

        def process_item(self, item):
            return item
""",
        )
        + """
        def parse(self, response):
            yield {"title": response.url}
    """
    )
    manifest = crawl(house, spider, site)
    notices = "\n".join(manifest.notes["books"]["notices"])
    for name in ("FEEDS", "SCHEDULER", "DUPEFILTER_CLASS", "Counting"):
        assert name in notices and name in house.log.getvalue(), name
    assert not (PROJECT / "out.json").exists()


REMEMBERS = """
    import scrapy

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"RETRY_TIMES": 0, "CONCURRENT_REQUESTS": 1}

        def parse(self, response, number=0):
            self.state["pages"] = self.state.get("pages", 0) + 1
            middlewares = self.crawler.engine.downloader.middleware.middlewares
            [jars] = [one.jars for one in middlewares if hasattr(one, "jars")]
            yield {"title": str(number), "pages": self.state["pages"], "cookies": len(list(jars[None]))}
            if number < 40:
                cookies = {"session": "s1"} if number == 0 else None
                yield response.follow(f"/slow/0.05?{number}", cookies=cookies, cb_kwargs={"number": number + 1})
"""


def start(house: House, *options: str) -> "subprocess.Popen[bytes]":
    """The crawl's process itself, as `run_crawl` starts it."""
    command = [sys.executable, "-m", "gossamer.crawl", "--source", "s", "--partition", KEY, *options]
    environment = {**os.environ, **house.settings.environ(), "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_cookies_and_state_are_there_again_when_an_interrupted_crawl_goes_on(house: House, site: MockSite) -> None:
    house.declare(REMEMBERS, seeds={"urls": [f"{site.url}/page/1"]})
    before = len(site.requests)
    process = start(house)
    wait_until(lambda: len(site.requests) > before + 15)
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=30)
    assert process.returncode == 75, log.decode()[-3000:]
    assert not [path for path in house.settings.crawls.rglob("*") if path.is_file()], "nothing stays on the machine"
    manifest = house.crawl()
    rows = [json.loads(row) for row in house.raw()["extra"]]
    assert Counter(house.raw()["title"]) == Counter(str(number) for number in range(41))
    assert sorted(row["pages"] for row in rows) == list(range(1, 42)), "a clean end keeps spider.state exactly"
    assert all(row["cookies"] == 1 for row in rows[1:])
    assert manifest.crawl_id == f"s/{KEY}/1" and manifest.notes["books"]["launches"] == 2


def test_a_spider_that_closed_itself_does_not_go_on_after_a_crash(house: House, site: MockSite) -> None:
    spider = textwrap.dedent(FOLLOW).replace('"RETRY_TIMES": 0', '"CONCURRENT_REQUESTS": 1') + (
        "        if response.url.endswith('/3'):\n            raise scrapy.exceptions.CloseSpider('enough')\n\n"
        "    def closed(self, reason):\n        import os, signal\n        flag = self.crawler.settings['FLAG']\n"
        "        if not os.path.exists(flag):\n            open(flag, 'w').close()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    flag = house.settings.sources.parent / "flag"
    spider = spider.replace('"CONCURRENT_REQUESTS": 1', f'"CONCURRENT_REQUESTS": 1, "FLAG": {str(flag)!r}')
    before = len(site.requests)
    manifest = crawl(house, spider, site, "/list?20")
    asked = [path for path in site.requests[before:] if path != "/robots.txt"]
    assert max(Counter(asked).values()) == 1, "what was over when it closed itself is not fetched again"
    assert manifest.layer == "incomplete" and manifest.notes["books"]["launches"] == 2
    assert "the spider closed itself (enough)" in manifest.check("books_closed").summary


def test_after_a_stop_or_a_pause_no_request_leaves_any_more(house: House, site: MockSite) -> None:
    slow = FOLLOW.replace('css="a"', 'urls=[f"/page/{number}" for number in range(400)]')
    house.declare(
        slow, seeds={"urls": [f"{site.url}/list?1"]}, politeness={"requests_per_second": 20, "concurrency": 8}
    )
    for wish, code, word in ((Wish.PAUSE, 76, "paused"), (Wish.STOP, 0, "stopped")):
        before = len(site.requests)
        process = start(house)
        wait_until(lambda before=before: len(site.requests) > before + 20)
        life.ask(house.lake, Crawl("s", KEY, 1), wish, by="ann", why="they asked us to")
        asked = time.monotonic()
        log, _ = process.communicate(timeout=30)
        assert process.returncode == code, log.decode()[-3000:]
        assert max(site.times) - asked < 5.0
        assert life.standing(house.lake, "s", KEY).state == word
        life.ask(house.lake, Crawl("s", KEY, 1), Wish.RESUME, by="ann", why="")
    manifest = house.lake.current("incomplete", "s", KEY)
    check = manifest.check("books_closed")
    assert check and "stopped by ann: they asked us to" in check.summary
    assert requests_of(manifest)["pending"] == 0 and manifest.notes["books"]["state"] == "stopped"
