"""What ordinary spiders may count on: order, callbacks of every kind, what they remember, and what they are told.

Real crawls of a mock site in processes of their own. That a killed crawl is exact is `test_kills`.
"""

import contextlib
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
from scrapy import Request, Spider

from gossamer.crawl import identity, life, store
from gossamer.crawl.engine.requests import RequestCodec
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.life import Control, Crawl, Wish
from gossamer.crawl.parking import Parking
from gossamer.crawl.run import Stopping
from gossamer.lake import Lake
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
    # The next seeds leave while the first page is being parsed: how many do differs between versions of Scrapy.
    assert [path for path in asked if len(path) == 1] == ["1", "2", "3"]
    assert [path for path in asked if len(path) == 2] == ["13", "12", "11", "14"] and asked[-1] == "14"


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


def test_a_form_whose_answer_lies_at_its_own_address_is_no_redirect_loop(house: House, site: MockSite) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield scrapy.FormRequest(response.urljoin("/page/5"), self.parse_answer, formdata={"q": "lamp"})

        def parse_answer(self, response):
            yield {"title": response.css("h1::text").get()}
    """
    )
    manifest = crawl(house, spider, site)
    assert house.raw()["title"].to_list() == ["page 5"] and requests_of(manifest)["dead"] == {}


def test_meta_that_a_spider_passes_on_does_not_make_a_redirect_a_loop(house: House, site: MockSite) -> None:
    """What was redirected before it is in its meta."""
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield {"title": response.css("h1::text").get()}
            yield response.follow("/to?/wall/1", meta=response.meta)
    """
    )
    manifest = crawl(house, spider, site, "/wall/1")
    requests = requests_of(manifest)  # Scrapy does not filter seeds: the link to the seed's page is fetched
    assert (requests["fetched"], requests["redirected"], requests["dead"]) == (2, 0, {})


def test_requests_that_run_inside_their_page_and_lead_to_one_place_yield_its_record_once(
    house: House, site: MockSite
) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            for n in range(4):
                yield response.follow(f"/wall/{n}", lambda page: self.parse_page(page))
            yield response.follow("/list?0", self.parse_later, priority=-1)

        def parse_later(self, response):
            yield response.follow("/wall/9", self.parse_page)
            yield response.follow("/page/1", self.parse_page)

        def parse_page(self, response):
            yield {"title": response.css("h1::text").get()}
    """
    )
    manifest = crawl(house, spider, site)
    assert house.raw()["title"].to_list() == ["page 1"]
    assert (requests_of(manifest)["fetched"], requests_of(manifest)["redirected"]) == (3, 4)


def test_where_a_redirect_leads_that_cannot_be_written_down_is_known_afterwards(house: House, site: MockSite) -> None:
    spider = """
    import scrapy

    class Unwritable:
        def process_response(self, request, response):
            if "/wall/" in request.url:
                request.meta["page"] = lambda: response
            return response

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"CONCURRENT_REQUESTS": 1, "DOWNLOADER_MIDDLEWARES": {Unwritable: 610}}

        def parse(self, response):
            yield response.follow("/wall/1", self.parse_page, priority=5)
            yield response.follow("/list?0", self.parse_later, priority=-5)

        def parse_later(self, response):
            yield response.follow("/page/1", self.parse_page)

        def parse_page(self, response):
            yield {"title": response.css("h1::text").get()}
    """
    crawl(house, spider, site)
    assert house.raw()["title"].to_list() == ["page 1"]


def test_detours_to_what_is_known_as_the_request_itself_are_no_loops(house: House, site: MockSite) -> None:
    spider = """
    import scrapy

    class Detours:
        def process_request(self, request):
            if "list?1" in request.url and "X-Mark" not in request.headers:
                return request.replace(headers={"X-Mark": "1"})

        def process_response(self, request, response):
            def to(path, **meta):
                url = response.urljoin(path)
                return scrapy.Request(url, request.callback, meta=meta, dont_filter=True)

            if request.url.endswith("/page/1") and "done" not in request.meta:  # a login, then back
                return to("/page/2", way="there")
            return to("/page/1", done=1) if request.meta.get("way") == "there" else response

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"CONCURRENT_REQUESTS": 1, "DOWNLOADER_MIDDLEWARES": {Detours: 610}}

        def parse(self, response):
            yield from response.follow_all(["/swap?b&a", "/page/1"], self.parse_page)
            yield response.follow("/swap?b&a#lambda", lambda page: [{"title": "known"}])
            yield response.follow("/list?1", lambda page: [{"title": "in memory"}])

        def parse_page(self, response):
            yield {"title": response.css("h1::text").get()}
    """
    manifest = crawl(house, spider, site)
    assert sorted(house.raw()["title"]) == ["in memory", "page 1", "page swapped"]
    assert (requests_of(manifest)["dead"], requests_of(manifest)["redirected"]) == ({}, 0)


def test_a_middleware_with_retries_of_its_own_does_not_make_a_page_count_twice(house: House, site: MockSite) -> None:
    spider = """
    import scrapy

    class Ban:
        def process_response(self, request, response):
            if request.url[-2:] in ("/1", "/2") and not request.meta.get("tried"):
                request.meta["tried"] = True
                request.dont_filter = True
                return request.copy()
            return response

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"CONCURRENT_REQUESTS": 1, "DOWNLOADER_MIDDLEWARES": {Ban: 610}}

        def parse(self, response):
            yield from response.follow_all(["/wall/1", "/wall/2"], self.parse_page)

        def parse_page(self, response):
            yield {"title": response.css("h1::text").get()}
    """
    manifest = crawl(house, spider, site)
    assert house.raw()["title"].to_list() == ["page 1"]
    assert requests_of(manifest)["redirected"] == 1


def test_what_a_callback_waited_for_and_was_cancelled_is_the_callback_s_failure(house: House, site: MockSite) -> None:
    spider = """
    import asyncio, scrapy

    class Pipeline:
        async def process_item(self, item):
            if item["title"] == "cancelled":
                raise asyncio.CancelledError
            return item

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"ITEM_PIPELINES": {Pipeline: 1}}

        def parse(self, response):
            yield from response.follow_all(["/page/1", "/page/2"], self.parse_page)

        async def parse_page(self, response):
            if response.url.endswith("/1"):
                shared = asyncio.get_running_loop().create_task(asyncio.sleep(60))
                asyncio.get_running_loop().call_later(0.05, shared.cancel)
                await shared
            return [{"title": "cancelled"}, {"title": "whole"}]
    """
    before = len(site.requests)
    manifest = crawl(house, spider, site, limits={"duration": "20s"})
    assert manifest.layer == "incomplete"
    assert requests_of(manifest)["dead"] == {"parse_error": 1, "pipeline_error": 1}
    assert house.raw(layer="incomplete")["title"].to_list() == ["whole"]
    assert site.requests[before:].count("/page/1") == 1


def test_an_interruption_while_the_sitemap_is_fetched_costs_nothing(house: House, site: MockSite) -> None:
    def listed(kind: str, *paths: str) -> bytes:
        entries = "".join(f"<{kind}><loc>{site.url}{path}</loc></{kind}>" for path in paths)
        return f'<{kind}set xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</{kind}set>'.encode()

    parts = [f"/files/sm{n}.xml" for n in range(4)]
    site.files["sm.xml"] = listed("sitemap", *parts).replace(b"sitemapset", b"sitemapindex")
    site.files |= {f"sm{n}.xml": listed("url", f"/page/{n}") for n in range(4)}
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield {"title": response.css("h1::text").get()}
    """
    )
    politeness = {"requests_per_second": 2}
    house.declare(spider, seeds={"sitemap": f"{site.url}/files/sm.xml"}, politeness=politeness)
    before = len(site.requests)
    process = start(house)
    wait_until(lambda: "/files/sm0.xml" in site.requests[before:])
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=30)
    assert process.returncode == 75, log.decode()[-3000:]
    manifest = house.crawl()
    assert sorted(house.raw()["title"]) == [f"page {n}" for n in range(4)]
    assert manifest.notes["books"]["seeds"] == {"declared": 4, "asked": 4, "answered": 4, "dead": 0}


def test_words_of_the_site_do_not_fill_the_store(house: House, site: MockSite) -> None:
    spider = """
    import scrapy
    from scrapy.exceptions import DropItem

    class Drop:
        def process_item(self, item):
            raise DropItem(f"Item ID already seen: {item['title']}")

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"ITEM_PIPELINES": {Drop: 1}}

        def parse(self, response):
            yield from ({"title": str(n)} for n in range(150))
            raise ValueError("x" * 1_000_000)
    """
    manifest = crawl(house, spider, site)
    [letter] = house.dead().values()
    assert len(letter["message"]) <= 4_000
    dropped = manifest.notes["books"]["records"]["dropped"]
    assert (sum(dropped.values()), dropped["other reasons"]) == (150, 50)


def test_a_start_request_is_the_same_one_in_another_process_whatever_its_meta_holds(
    house: House, site: MockSite
) -> None:
    """Sets have another order in each process."""
    spider = """
    import os, scrapy, signal

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"RETRY_TIMES": 0, "CONCURRENT_REQUESTS": 1}

        async def start(self):
            for n in range(3):
                tags = {"a": {"lamp", "desk", "sofa", "bed", "rug"}}
                yield scrapy.Request(f"{self.start_urls[0]}?{n}", dont_filter=True, meta=tags)
            if not os.path.exists(FLAG):
                import asyncio
                await asyncio.sleep(1)
                open(FLAG, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)

        def parse(self, response):
            yield {"title": response.url[-1]}
    """.replace("FLAG", repr(str(house.settings.sources.parent / "flag")))
    manifest = crawl(house, spider, site, "/page/1")
    assert manifest.notes["books"]["launches"] == 2
    assert sorted(house.raw()["title"]) == ["0", "1", "2"]


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


INLINE = """
    import scrapy

    class Spider(scrapy.Spider):
        name = "inline"

        async def parse(self, response):
            found = []
            for number in range(8):
                try:
                    page = await self.crawler.engine.download_async(scrapy.Request(response.urljoin(f"/page/{number}")))
                except Exception:
                    WHEN_IT_FAILS
                else:
                    found.append(page.url)
            return [{"title": url.rpartition("/")[2]} for url in found]
"""


@pytest.mark.parametrize("when_it_fails", ["raise", "pass"])
def test_what_a_callback_fetches_itself_is_not_lost_in_a_pause_whatever_it_makes_of_its_end(
    house: House, site: MockSite, when_it_fails: str
) -> None:
    spider = INLINE.replace("WHEN_IT_FAILS", when_it_fails)
    politeness = {"requests_per_second": 2, "concurrency": 1}
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]}, politeness=politeness)
    before = len(site.requests)
    process = start(house)
    wait_until(lambda: len(site.requests) > before + 3)
    life.ask(house.lake, Crawl("s", KEY, 1), Wish.PAUSE, by="ann")
    log, _ = process.communicate(timeout=30)
    assert process.returncode == 76, log.decode()[-3000:]
    life.ask(house.lake, Crawl("s", KEY, 1), Wish.RESUME, by="ann")
    manifest = house.crawl()
    assert manifest.layer == "raw" and manifest.notes["books"]["launches"] == 2
    assert sorted(house.raw()["title"]) == [str(number) for number in range(8)]


# --- Ends that must come --------------------------------------------------------------------------------------------


def ended(house: House, *options: str, seconds: float = 25.0) -> tuple[int, str]:
    """The exit code and the log of a crawl's process, which must end by itself."""
    process = start(house, *options)
    try:
        log, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, log.decode()


def verdict(house: House) -> str:
    for layer in ("raw", "incomplete"):
        if manifest := house.lake.manifest(layer, "s", KEY):
            check = manifest.check("books_closed")
            assert check
            return check.summary
    raise AssertionError("there is no verdict")


def test_a_spider_that_closes_itself_ends_although_requests_wait_that_cannot_be_written_down(
    house: House, site: MockSite
) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield {"title": response.url}
            for number in range(3):
                yield response.follow(f"/page/{number}", callback=lambda page: None)
            raise scrapy.exceptions.CloseSpider("enough")
    """
    )
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]})
    code, log = ended(house)
    assert code == 0, log[-3000:]
    assert "the spider closed itself (enough), 3 known requests left" in verdict(house)


def test_what_spider_state_cannot_hold_ends_the_crawl_with_the_remedy(house: House, site: MockSite) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            self.state["open"] = lambda: None
            yield {"title": response.url}
    """
    )
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]})
    code, log = ended(house)
    assert code == 1 and "Keep plain values in it" in log, log[-3000:]


def test_a_meta_depth_of_the_spiders_own_making_does_no_harm(house: House, site: MockSite) -> None:
    spider = (
        SPIDER.replace(
            '"RETRY_TIMES": 0',
            '"RETRY_TIMES": 0, "SPIDER_MIDDLEWARES": {"scrapy.spidermiddlewares.depth.DepthMiddleware": None}',
        )
        + """
        def parse(self, response):
            yield {"title": response.url}
            yield response.follow("/page/1", self.parse_page, meta={"depth": ["category", 3]})
            yield response.follow("/page/2", self.parse_page, meta={"depth": 2**70})

        def parse_page(self, response):
            yield {"title": response.url}
    """
    )
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]})
    code, log = ended(house)
    assert code == 0, log[-3000:]
    assert house.raw().height == 3


def test_a_spider_may_give_anything_as_its_reason_to_close(house: House, site: MockSite) -> None:
    spider = (
        SPIDER
        + """
        def parse(self, response):
            yield {"title": response.url}
            raise scrapy.exceptions.CloseSpider(404)
    """
    )
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]})
    code, log = ended(house)
    assert code == 0, log[-3000:]
    assert "the spider closed itself (404)" in verdict(house)


def test_a_closed_spider_stays_closed_after_a_crash_although_its_idle_handler_waits_for_more(
    house: House, site: MockSite
) -> None:
    spider = (
        SPIDER
        + """
        @classmethod
        def from_crawler(cls, crawler, *args, **kwargs):
            spider = super().from_crawler(crawler, *args, **kwargs)
            crawler.signals.connect(spider.idle, scrapy.signals.spider_idle)
            return spider

        def idle(self):
            raise scrapy.exceptions.DontCloseSpider

        def parse(self, response):
            yield {"title": response.url}
            raise scrapy.exceptions.CloseSpider("enough")

        def closed(self, reason):
            import os, signal
            if not os.path.exists(FLAG):
                open(FLAG, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
    """
    )
    flag = house.settings.sources.parent / "flag"
    house.declare(spider.replace("FLAG", repr(str(flag))), seeds={"urls": [f"{site.url}/list?1"]})
    assert ended(house)[0] == -signal.SIGKILL
    code, log = ended(house)
    assert code == 0, log[-3000:]
    assert "the spider closed itself (enough)" in verdict(house)


def test_a_component_that_fails_on_an_item_of_start_ends_the_launch_and_the_next_one_repeats_it(
    house: House, site: MockSite
) -> None:
    spider = (
        SPIDER.replace(
            "import scrapy\n",
            """import os
    import scrapy
    from scrapy.logformatter import LogFormatter

    class Broken(LogFormatter):
        def scraped(self, item, response, spider):
            if not os.path.exists(FLAG):
                open(FLAG, "w").close()
                raise RuntimeError("not these words")
            return super().scraped(item, response, spider)
""",
        ).replace('"RETRY_TIMES": 0', '"RETRY_TIMES": 0, "LOG_FORMATTER": "spider.Broken"')
        + """
        async def start(self):
            yield {"title": "a first word"}
            for url in self.start_urls:
                yield scrapy.Request(url)

        def parse(self, response):
            yield {"title": response.url}
    """
    )
    flag = house.settings.sources.parent / "flag"
    house.declare(spider.replace("FLAG", repr(str(flag))), seeds={"urls": [f"{site.url}/page/1"]})
    code, log = ended(house)
    assert code == 1 and "not these words" in log, log[-3000:]
    code, log = ended(house)
    assert code == 0, log[-3000:]
    assert sorted(house.raw()["title"]) == ["a first word", f"{site.url}/page/1"]


def test_seeds_that_cannot_be_written_down_are_seeds(house: House, site: MockSite) -> None:
    spider = (
        SPIDER
        + """
        async def start(self):
            for url in self.start_urls:
                yield scrapy.Request(url, callback=lambda page: [{"title": page.url}])
    """
    )
    manifest = crawl(house, spider, site, "/page/1")
    assert manifest.layer == "raw", manifest.check("books_closed")
    assert manifest.notes["books"]["seeds"] == {"declared": 1, "asked": 1, "answered": 1, "dead": 0}
    assert house.raw()["_seed_row"].to_list() == [f"{site.url}/page/1"]
    manifest = crawl(house, spider, site, "/status/500", complete={"tolerate": 0.9})
    assert manifest.layer == "incomplete"
    assert "1 of 1 seed without an answer" in manifest.check("books_closed").summary


def test_a_limit_of_pages_counts_those_that_wait_to_be_tried_again(house: House, site: MockSite) -> None:
    spider = (
        SPIDER.replace('"RETRY_TIMES": 0', '"RETRY_TIMES": 2')
        + """
        def parse(self, response):
            yield {"title": response.url}
            for number in range(40):
                yield response.follow(f"/status/503?{number}")
    """
    )
    before = len(site.requests)
    manifest = crawl(house, spider, site, "/list?1", limits={"pages": 5})
    asked = {path for path in site.requests[before:] if path != "/robots.txt"}
    assert len(asked) <= 5
    assert manifest.notes["books"]["finish_reason"] == "limit"


def test_an_interruption_is_heard_while_a_limit_waits_for_what_is_under_way(house: House, site: MockSite) -> None:
    spider = (
        SPIDER.replace('"CONCURRENT_REQUESTS": 1', '"CONCURRENT_REQUESTS": 4')
        + """
        def parse(self, response):
            yield {"title": response.url}
            yield response.follow("/slow/25", priority=9)
            yield response.follow("/page/1")
            yield response.follow("/page/2")
    """
    )
    house.declare(spider, seeds={"urls": [f"{site.url}/list?1"]}, limits={"pages": 3})
    before = len(site.requests)
    process = start(house)
    wait_until(lambda: "/slow/25" in site.requests[before:])
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    try:
        log, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 75, log.decode()[-3000:]


def test_what_was_remembered_outlives_an_interruption_while_the_spider_is_opened(house: House, site: MockSite) -> None:
    opening = house.settings.sources.parent / "opening"
    slow = f"""
    import asyncio, os

    class Slow:
        async def open_spider(self):
            if os.path.exists({str(opening)!r}):
                open({str(opening)!r} + "-now", "w").close()
                await asyncio.sleep(5)

        def process_item(self, item):
            return item
"""
    spider = slow + REMEMBERS.replace('"RETRY_TIMES": 0', '"RETRY_TIMES": 0, "ITEM_PIPELINES": {"spider.Slow": 1}')
    house.declare(spider, seeds={"urls": [f"{site.url}/page/1"]})
    for count in (15, 0):
        before = len(site.requests)
        process = start(house)
        if count:
            wait_until(lambda before=before: len(site.requests) > before + 15)
            opening.touch()
        else:
            wait_until(lambda: opening.with_name("opening-now").exists())
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=30)
        assert process.returncode == 75, log.decode()[-3000:]
    opening.unlink()
    house.crawl()
    rows = [json.loads(row) for row in house.raw()["extra"]]
    assert sorted(row["pages"] for row in rows) == list(range(1, 42))
    assert all(row["cookies"] == 1 for row in rows[1:])


def test_a_launch_that_is_killed_while_it_takes_the_store_over_loses_nothing_of_it(tmp_path: Path) -> None:
    home = tmp_path / "crawls" / "s" / KEY / "000001"
    (home / "000001").mkdir(parents=True)
    frontier = SqliteFrontier(home / "000001" / "frontier.sqlite")
    frontier.put("kept", b"x" * 1_000_000)
    frontier.close()
    code = textwrap.dedent(
        f"""
        import resource, signal
        from pathlib import Path
        from gossamer.crawl import life, parking, store
        from gossamer.lake import Lake
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # killed in the middle of the copy
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        place = parking.Parking(Lake({str(tmp_path / "lake")!r}), "crawls/s", 2)
        store.prepare(Path({str(tmp_path / "crawls")!r}), life.Crawl("s", {KEY!r}, 1), 2, place)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGXFSZ, killed.stderr.decode()
    place = Parking(Lake(str(tmp_path / "lake")), "crawls/s", 3)
    path = store.prepare(tmp_path / "crawls", Crawl("s", KEY, 1), 3, place)
    with contextlib.closing(SqliteFrontier(path)) as frontier:
        assert frontier.get("kept") == b"x" * 1_000_000


def test_a_crawl_that_was_begun_afresh_meanwhile_is_not_overwritten_by_the_older_one(
    house: House, site: MockSite
) -> None:
    house.declare(FOLLOW.replace('css="a"', 'urls=["/slow/3", "/page/2"]'), seeds={"urls": [f"{site.url}/list?1"]})
    before = len(site.requests)
    process = start(house)
    wait_until(lambda: "/slow/3" in site.requests[before:])
    identity.begin(house.lake, Crawl("s", KEY, 2), "another")
    log, _ = process.communicate(timeout=30)
    assert process.returncode == 75, log.decode()[-3000:]
    assert house.lake.manifest("raw", "s", KEY) is None


def test_what_is_asked_while_the_commit_is_under_way_comes_too_late() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stopping = Stopping()
        assert stopping.decide() == ""
        stopping.ask(Control(wish=Wish.PAUSE, by="ann", asked_at=0.0))
        assert stopping.wish is None and stopping.reason == ""
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_request_whose_class_is_gone_is_told_apart_from_a_fault_of_ours() -> None:
    class Own(Request):
        pass

    codec = RequestCodec(Spider("s"))
    for module in (__name__, "a.module.that.is.gone"):
        Own.__module__ = module
        with pytest.raises(ValueError, match="cannot be rebuilt"):
            codec.decode(codec.encode(Own("https://shop.example/")))


def test_a_host_that_answers_slowly_does_not_hold_up_another(house: House, site: MockSite) -> None:
    spider = """
    import scrapy

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"RETRY_TIMES": 0}

        def parse(self, response):
            other = response.url.replace("127.0.0.1", "localhost")
            for number in range(24):
                yield response.follow(f"/slow/1?{number}", self.parse_page)
            for number in range(60):
                yield scrapy.Request(other.replace("/list?1", f"/page/{number}"), self.parse_page)

        def parse_page(self, response):
            yield {"title": response.url}
    """
    before = len(site.requests)
    crawl(house, spider, site, "/list?1", politeness={"requests_per_second": None, "concurrency": 4})
    asked = site.requests[before:]
    last = max(place for place, path in enumerate(asked) if path.startswith("/page/"))
    slow = sum(path.startswith("/slow/") for path in asked[:last])
    assert slow <= 12, "the slow host has half of what is under way, and the other one is through long before it"


def test_hosts_whose_delay_is_not_over_leave_room_for_others(house: House, site: MockSite) -> None:
    spider = """
    import scrapy

    class Spider(scrapy.Spider):
        name = "s"
        custom_settings = {"RETRY_TIMES": 0}

        def parse(self, response):
            self.crawler.engine.downloader.slots["127.0.0.1"].delay = 1.0  # as AutoThrottle does it
            other = response.url.replace("127.0.0.1", "localhost")
            for number in range(6):
                yield response.follow(f"/page/a{number}", self.parse_page)
            for number in range(40):
                yield scrapy.Request(other.replace("/list?1", f"/page/b{number}"), self.parse_page)

        def parse_page(self, response):
            yield {"title": response.url}
    """
    before = len(site.requests)
    crawl(house, spider, site, "/list?1", politeness={"requests_per_second": None, "concurrency": 2})
    asked = site.requests[before:]
    last = max(place for place, path in enumerate(asked) if path.startswith("/page/b"))
    assert sum(path.startswith("/page/a") for path in asked[:last]) <= 3
