"""The platform as a person meets it: Dagster's UI in a real browser, over a real webserver and daemon.

Pages are found and used by what a person reads on them. What runs do in detail is tested without a browser in
`test_platform`.
"""

import contextlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from demo import shop
from gossamer.serve import Platform, platform
from gossamer.settings import Settings
from tests.shop_sources import shop_sources

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

TODAY = datetime.now(UTC).date()
DAY, DARK_DAY = str(TODAY - timedelta(days=1)), str(TODAY - timedelta(days=2))
RUN_SECONDS = 240
PAGE_SECONDS = 60
expect.set_options(timeout=PAGE_SECONDS * 1000)  # a graph is laid out in the browser: on a busy machine not within 5 s

QUIET = ["--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

HOSTILE = (
    "<b>bold</b> <img src=x onerror=alert(1)> [click](http://evil.example/a) ![see](http://evil.example/i.png) "
    "**strong** _slanted_ ~~struck~~ `code` | cell | <http://evil.example/c> https://evil.example/d www.evil.example "
    "me@evil.example &lt;i&gt; javascript:alert(1) \\"
)


@dataclass
class Served:
    """A running installation, and the shop that it crawls."""

    dagster: Platform
    closing: contextlib.ExitStack

    def close_the_shop(self) -> None:
        self.closing.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ui")
    with contextlib.ExitStack() as closing:
        url = closing.enter_context(shop.serve())
        sources = shop_sources(folder, url)
        shutil.rmtree(sources / "reviews")  # its crawl follows each publication, and nothing here looks at it
        declare_hostile(sources / "hostile", url)
        places = {"GOSSAMER_LAKE": str(folder / "lake"), "DAGSTER_HOME": str(folder / "dagster")}
        settings = Settings.load(environ={"GOSSAMER_SOURCES": str(sources), **places})
        with platform(settings, free_port(), folder / "logs") as dagster:
            yield Served(dagster, closing)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*QUIET, *sandbox])
        yield browser
        browser.close()


@pytest.fixture
def window(browser: Browser, served: Served, tmp_path: Path) -> "Window":
    return Window(browser, served.dagster.url, tmp_path)


@dataclass
class Window:
    """A browser's window on the UI; what it showed when a test failed is in `screen.png`."""

    browser: Browser
    url: str
    folder: Path

    @contextlib.contextmanager
    def open(self, width: int = 1600) -> Iterator[Page]:
        page = self.browser.new_page(base_url=self.url, viewport={"width": width, "height": 1600})
        page.set_default_timeout(PAGE_SECONDS * 1000)
        page.set_default_navigation_timeout(PAGE_SECONDS * 1000)
        try:
            yield page
        except BaseException as error:
            page.screenshot(path=self.folder / "screen.png")
            error.add_note(f"What the browser showed: {self.folder / 'screen.png'}")
            raise
        finally:
            page.close()


def declare_hostile(folder: Path, url: str) -> None:
    """A source whose only record is an attack on whoever looks at it."""
    folder.mkdir()
    (folder / "source.yaml").write_text(
        f"name: hostile\nspider: spider:Hostile\npartitions: {{period: daily, start: {DARK_DAY}}}\n"
        f"seeds: {{urls: ['{url}/']}}\nfetch: {{allow_private: true}}\n"
        "record: {key: [name], fields: {name: str}}\nchecks: expectations.json\n"
    )
    (folder / "spider.py").write_text(
        "import scrapy\n\n\nclass Hostile(scrapy.Spider):\n    name = 'hostile'\n\n"
        f"    def parse(self, response):\n        yield {{'name': {HOSTILE!r}}}\n"
    )
    demand = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "name", "regex": "^[a-z]+$"}}
    suite = {"name": "hostile", "expectations": [{**demand, "severity": "warning"}]}
    (folder / "expectations.json").write_text(json.dumps(suite))


def launch(page: Page, job: str, partition: str) -> str:
    """Launches one partition of a job by hand; gives the run's page."""
    page.goto(f"/locations/gossamer/jobs/{job}")
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    chosen = dialog.get_by_role("textbox").first
    chosen.fill(partition)
    chosen.press("Enter")
    expect(dialog.get_by_text("1 partition", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch 1 run").click()
    run = page.get_by_role("link", name="View", exact=True).get_attribute("href")
    assert run
    assert re.fullmatch(r"/runs/[0-9a-f-]{36}", run)
    return run


def ends(page: Page, run: str, status: str) -> None:
    """The run's page, once the run has ended so."""
    page.goto(run)
    ended = page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
    expect(ended).to_be_visible(timeout=RUN_SECONDS * 1000)
    expect(ended).to_have_text(status)


def look_at_check(page: Page, asset: str, check: str) -> None:
    """The check's tab of an asset, its latest execution in view."""
    page.goto(f"/assets/{asset}?view=checks&checkDetail={check}")
    expect(page.get_by_text("Latest execution", exact=True)).to_be_visible()


def test_the_lineage_of_a_source_is_seen_from_its_site_to_the_marts_with_what_it_joins(window: Window) -> None:
    with window.open(width=3600) as page:  # the graph draws only what is in view
        page.goto("/assets/enriched/shop?view=lineage")
        page.get_by_role("button", name="All", exact=True).click()
        for asset in ("raw/shop", "clean/shop", "enriched/shop", "published/shop", "published/rates"):
            expect(page.locator(f"a[href^='/assets/{asset}?']").first).to_be_visible()
        expect(page.get_by_text("category_prices", exact=True).first).to_be_visible()


def test_a_partition_launched_by_hand_turns_green_and_shows_its_checks_rows_and_report(window: Window) -> None:
    with window.open() as page:
        ends(page, launch(page, "rates", DAY), "Success")
        ends(page, launch(page, "shop", DAY), "Success")

        for asset, check, words in (
            ("raw/shop", "books_closed", "300 records from 320 pages, every seed answered"),
            ("clean/shop", "expectations_critical", "all 7 passed"),
            ("clean/shop", "expectations_warning", re.compile(r"all \d+ passed; \d+ more have no history yet")),
            ("enriched/shop", "joins_matched", "of 300 rows have no match in rates"),
        ):
            look_at_check(page, asset, check)
            expect(page.get_by_text(words).first).to_be_visible()
            expect(page.get_by_text("Passed", exact=True)).to_be_visible()
            expect(page.get_by_text(DAY, exact=True).first).to_be_visible()

        page.goto(f"/assets/published/shop?view=partitions&partition={DAY}")
        expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
        expect(page.get_by_role("row", name="dagster/row_count").first).to_contain_text("300")
        expect(page.get_by_role("row", name="report").first).to_contain_text(f"reports/shop/{DAY}.html")
        sample = page.get_by_role("row", name="sample").first.get_by_role("table")
        expect(sample).to_contain_text("price_currency")
        expect(sample.get_by_role("cell", name=re.compile("^[A-Z]{3}-[0-9]{3}$"))).to_have_count(10)


def test_nothing_that_a_site_says_becomes_a_link_or_markup(window: Window, served: Served) -> None:
    with window.open() as page:
        ends(page, launch(page, "hostile", DAY), "Success")

        look_at_check(page, "clean/hostile", "expectations_warning")
        words = page.get_by_text(re.compile(r"\d of \d+ failed: name must match")).first
        expect(words).to_contain_text("<img src=x onerror=alert(1)>")
        harmless(page)
        for layer in ("raw", "published"):
            page.goto(f"/assets/{layer}/hostile?view=partitions&partition={DAY}")
            expect(page.get_by_role("row", name="sample").first).to_contain_text("<b>bold</b>")
            harmless(page)


def harmless(page: Page) -> None:
    """Nothing of `HOSTILE` has become an element of the page."""
    expect(page.locator("a[href*='evil'], img[src*='evil'], img[src='x']")).to_have_count(0)
    for element in ("b", "strong", "i", "em", "del", "s"):
        expect(page.locator(element, has_text=re.compile("^(bold|strong|slanted|struck|i)$"))).to_have_count(0)


def test_a_crawl_of_a_site_that_is_down_is_red_and_says_why(window: Window, served: Served) -> None:
    served.close_the_shop()
    with window.open() as page:
        ends(page, launch(page, "shop", DARK_DAY), "Failure")

        look_at_check(page, "raw/shop", "books_closed")
        expect(page.get_by_text("1 of 1 seed without an answer").first).to_be_visible()
        expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
        expect(page.get_by_text(DARK_DAY, exact=True).first).to_be_visible()
        page.goto(f"/assets/published/shop?view=partitions&partition={DARK_DAY}")
        expect(page.get_by_text("failed, and did not materialize this asset").first).to_be_visible()
