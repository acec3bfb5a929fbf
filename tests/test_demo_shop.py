"""The demo shop keeps its word: plain Scrapy spiders over the served site yield exactly the truth that it declares.

The platform's own crawl of the shop is tested elsewhere; here are the site, its truth, and the shipped sources' code.
"""

import contextlib
import datetime as dt
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from demo import catalogue, shop

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "sources"
DATE = dt.date(2026, 3, 14)
ANOTHER_DATE = dt.date(2026, 11, 20)
QUIET = ("REMOTE_CONTROL_ENABLED=False", "TELNETCONSOLE_ENABLED=False")


class Site:
    """A served shop and its log."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def requests(self) -> Counter[tuple[str, int]]:
        """How often each path was answered with each status."""
        lines = [line.split(maxsplit=3) for line in self.log.read_text(encoding="utf-8").splitlines()]
        return Counter((path, int(status)) for _, status, _, path in lines)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    log = tmp_path / "shop.log"
    with shop.serve(log=log) as url:
        yield Site(url, log)


def runspider(folder: Path, code: str, *settings: str) -> list[dict[str, Any]]:
    """What `scrapy runspider` yields for a spider file with this code."""
    (folder / "run_spider.py").write_text(code, encoding="utf-8")
    flags = [flag for setting in (*QUIET, *settings) for flag in ("-s", setting)]
    command = [sys.executable, "-m", "scrapy", "runspider", "run_spider.py", "-O", "items.jsonl", "-L", "INFO", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]


def crawl(folder: Path, source: str, spider: str, seeds: list[str]) -> list[dict[str, Any]]:
    """Crawl with a shipped spider, unchanged but for its seeds."""
    code = f"""
import runpy
Shipped = runpy.run_path({str(SOURCES / source / "spider.py")!r})[{spider!r}]
class Spider(Shipped):
    start_urls = {seeds!r}
"""
    return runspider(folder, code, "ROBOTSTXT_OBEY=True")


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_plain_crawl_of_a_day_yields_every_product_once_as_its_page_writes_it(site: Site, tmp_path: Path) -> None:
    items = crawl(tmp_path, "shop", "ShopSpider", [f"{site.url}/{DATE}/"])

    # An empty price has no text at all.
    expected = [
        {
            "sku": p.sku,
            "name": p.name,
            "brand": f"by {p.brand}",
            "category": p.category.name,
            "description": p.description,
            "price": p.price_text or None,
            "list_price": p.list_price_text,
            "stock": str(p.stock),
            "rating": p.rating_text,
            "added": p.added_text,
            "product_url": f"{site.url}/{DATE}/product/{p.sku}",
            "reviews_url": f"{site.url}/{DATE}/product/{p.sku}/reviews" if p.review_count else None,
        }
        for p in shop.products(DATE)
    ]
    assert sorted(items, key=lambda item: item["sku"]) == expected
    seen = site.requests()
    product = f"/{DATE}/product"
    assert seen[f"{product}/{shop.FLAKY_SKU}", 500] == 2
    assert seen[f"{product}/{shop.FLAKY_SKU}", 200] == 1
    assert [seen[f"{product}/{old}", 301] for old in shop.MOVED_SKUS] == [1]
    assert [seen[f"{product}/{new}", 200] for new in shop.MOVED_SKUS.values()] == [1]
    assert {path for path, status in seen if status == 404} == {f"{product}/{sku}" for sku in shop.DEAD_SKUS}
    assert sum(n for (_, status), n in seen.items() if status == 404) < 0.01 * seen.total()


def test_the_review_pages_that_a_shop_crawl_names_yield_every_review_once(site: Site, tmp_path: Path) -> None:
    seeds = [record["reviews_url"] for record in shop.shop_records(DATE, site.url) if record["reviews_url"]]

    items = crawl(tmp_path, "reviews", "ReviewsSpider", seeds)

    expected = [
        {**r, "stars": str(r["stars"]), "date": catalogue.date_text(r["date"])} for r in shop.review_records(DATE)
    ]
    assert sorted(items, key=lambda i: i["review_id"]) == sorted(expected, key=lambda i: i["review_id"])
    assert any(path.endswith("?page=2") for path, _ in site.requests())


def test_the_rates_page_yields_every_currency(site: Site, tmp_path: Path) -> None:
    items = crawl(tmp_path, "rates", "RatesSpider", [f"{site.url}/{DATE}/rates"])

    assert [{**item, "rate": float(item["rate"])} for item in items] == shop.rate_records(DATE)


@pytest.mark.parametrize(("obey", "private"), [(True, 0), (False, 1)])
def test_a_crawler_that_obeys_robots_never_requests_the_private_page(
    site: Site, tmp_path: Path, obey: bool, private: int
) -> None:
    code = f"""
import scrapy
class LinkSpider(scrapy.Spider):
    name = "links"
    start_urls = ["{site.url}/{DATE}/"]
    def parse(self, response):
        yield {{"url": response.url}}
        yield from response.follow_all(css="main a")
"""
    items = runspider(tmp_path, code, f"ROBOTSTXT_OBEY={obey}", "DEPTH_LIMIT=1")

    assert len(items) == 1 + len(catalogue.CATEGORIES) + 1 + private  # home, categories, rates
    assert sum(n for (path, _), n in site.requests().items() if "/private/" in path) == private


def test_the_truth_has_300_products_and_the_declared_faults_on_every_date() -> None:
    for date in (DATE, ANOTHER_DATE, dt.date(2024, 2, 29)):
        by_sku = {p.sku: p for p in shop.products(date)}
        assert len(by_sku) == 300
        assert not shop.DEAD_SKUS.keys() & by_sku.keys()
        assert {sku for sku, p in by_sku.items() if p.price is None} == {"MUS-008", "STA-003"}
        assert {sku for sku, p in by_sku.items() if p.added is None} == {"GDN-010"}
        assert {sku for sku, p in by_sku.items() if p.rating is None} == {"HOM-002"}
        assert {sku for sku, p in by_sku.items() if p.currency == "CHF"} == set(shop.CHF_SKUS)
        assert "CHF" not in shop.rates(date)
        listed = Counter(entry.sku for category in catalogue.CATEGORIES for entry in catalogue.listing(date, category))
        assert [sku for sku, times in listed.items() if times > 1] == [catalogue.LISTED_TWICE]
        assert listed.keys() == by_sku.keys() | shop.DEAD_SKUS.keys() | shop.MOVED_SKUS.keys()


def test_price_texts_mean_the_declared_prices() -> None:
    texts = {p.sku: (p.price_text, p.price, p.currency) for p in shop.products(DATE)}
    for text, price, currency in texts.values():
        if price is not None:
            digits = text.replace(".", "").replace(",", "").strip("£$€ CHF")
            assert Decimal(digits) / 100 == price
            assert {"£": "GBP", "$": "USD", "C": "CHF"}.get(text[0], "EUR") == currency
    assert any(price and price > 1000 and currency == "EUR" for _, price, currency in texts.values())


def test_from_one_day_to_the_next_some_prices_move_and_few_products_come_and_go() -> None:
    moved, kept, came = 0, 0, 0
    for day in range(28):
        before = {p.sku: p.price for p in shop.products(DATE + dt.timedelta(day))}
        after = {p.sku: p.price for p in shop.products(DATE + dt.timedelta(day + 1))}
        both = before.keys() & after.keys()
        moved += sum(before[sku] != after[sku] for sku in both)
        kept += len(both)
        came += len(after.keys() - before.keys())
    assert 0.12 < moved / kept < 0.18
    assert came == 4 * 6  # six seasonal places, four weeks


class Markup(HTMLParser):
    """The texts of a page, and whether each element is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link"):  # elements without an end
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_text_on_the_pages_is_escaped_and_every_element_is_closed(site: Site) -> None:
    product = f"{DATE}/product/{catalogue.UNUSUAL_NAME}"
    named = (product, f"{product}/reviews", f"{DATE}/category/kitchen-table")
    for path in (*named, "", f"{DATE}/", f"{DATE}/category/garden?page=2", f"{DATE}/rates", "nothing"):
        page = Markup()
        page.feed(get(f"{site.url}/{path}")[1])
        page.close()
        assert page.open == []
        if path in named:
            assert 'Café “Crème” Mug ☕ & Saucer <Large> "كوب"' in page.texts


@pytest.mark.parametrize(
    "path",
    [
        "/2026-02-31/",
        "/20260101/",
        "/2026-01-01/category/nothing",
        "/2026-01-01/category/garden?page=99",
        "/2026-01-01/category/garden?page=x",
        "/2026-01-01/category/home-light?page=3",
        "/2026-01-01/product/BKS-999",
        "/2026-01-01/product/BKS-001/reviews?page=9",
        "/favicon.ico",
    ],
)
def test_what_does_not_exist_answers_404(site: Site, path: str) -> None:
    assert get(site.url + path)[0] == 404


def test_robots_and_sitemap_name_addresses_that_answer(site: Site) -> None:
    robots = get(f"{site.url}/robots.txt")[1]
    assert "Disallow: /*/private/" in robots
    assert f"Sitemap: {site.url}/sitemap.xml" in robots
    pages = [line.removeprefix("<url><loc>").removesuffix("</loc></url>")
             for line in get(f"{site.url}/sitemap.xml")[1].splitlines() if line.startswith("<url>")]  # fmt: skip
    assert len(pages) == 300
    assert get(pages[0])[0] == 200


def test_a_stopped_shop_is_down_even_for_a_connection_that_was_kept_alive() -> None:
    with shop.serve() as url:
        client = HTTPConnection(url.removeprefix("http://"), timeout=10)
        client.request("GET", "/")
        client.getresponse().read()
        assert client.sock is not None  # kept alive
    with contextlib.closing(client), pytest.raises(ConnectionError):
        client.request("GET", "/")
        client.getresponse()


def open_shop(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "demo.shop", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is_open_and_ends_cleanly_on_a_signal(stop: signal.Signals) -> None:
    with open_shop("--port", "0") as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = line.split(" at ")[1].split()[0]
            assert get(f"{url}{DATE}/")[0] == 200
            os.kill(process.pid, stop)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_in_use_gives_one_clear_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with open_shop("--port", str(port)) as process:
            out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert f"127.0.0.1:{port}" in err and "--port" in err


def test_the_shops_transform_yields_the_declared_truth() -> None:
    transform = runpy.run_path(str(SOURCES / "shop" / "transform.py"))
    truth = shop.products(DATE)
    typed = pl.LazyFrame(
        {
            "sku": [p.sku for p in truth],
            "brand": [f"by {p.brand}" for p in truth],
            "price": pl.Series([p.price for p in truth], dtype=pl.Decimal(18, 4)),
            "list_price": pl.Series([p.list_price for p in truth], dtype=pl.Decimal(18, 4)),
            "price_currency": [p.currency for p in truth],
        }
    )
    rates = pl.LazyFrame(shop.rate_records(DATE))

    clean = transform["clean"](typed, None)
    joined = clean.join(rates, left_on="price_currency", right_on="currency", how="left", maintain_order="left")
    rows = transform["enrich"](joined, {}).collect().to_dicts()

    records = shop.shop_records(DATE, "")
    assert [(r["brand"], r["on_sale"]) for r in rows] == [(r["brand"], r["on_sale"]) for r in records]
    assert {r["on_sale"] for r in rows} == {True, False}
    euros = [shop.price_in_euros(p, DATE) for p in truth]
    assert [row["price_eur"] for row in rows] == [e if e is None else pytest.approx(e, abs=0.011) for e in euros]
    assert euros.count(None) == 2 + len(shop.CHF_SKUS)


# Great Expectations imports modules that Python 3.11 deprecates.
@pytest.mark.filterwarnings("ignore:module 'sre_(constants|parse|compile)' is deprecated:DeprecationWarning")
@pytest.mark.parametrize("date", [dt.date(2026, 1, 1), ANOTHER_DATE])
def test_the_shipped_expectations_pass_on_the_truth_and_fail_on_rows_that_were_misread(date: dt.date) -> None:
    truth = {
        "shop": pl.DataFrame(shop.shop_records(date, "http://shop.test"), infer_schema_length=None),
        "reviews": pl.DataFrame(shop.review_records(date)),
        "rates": pl.DataFrame(shop.rate_records(date)),
    }
    broken = {
        "shop": truth["shop"].with_columns(price=pl.lit(None, pl.Float64)),
        "reviews": truth["reviews"].with_columns(stars=pl.lit(50)),
        "rates": pl.concat([truth["rates"]] * 2),
    }
    for source, frame in truth.items():
        assert failed_expectations(source, frame) == [], source
        assert "critical" in failed_expectations(source, broken[source]), source


def failed_expectations(source: str, frame: pl.DataFrame) -> list[str]:
    """The severities of the expectations of a shipped suite that fail on a frame."""
    import great_expectations as gx

    suite = gx.ExpectationSuite(**json.loads((SOURCES / source / "expectations.json").read_text(encoding="utf-8")))
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    frame = frame.with_columns(pl.col(pl.Decimal).cast(pl.Float64))
    batches = context.data_sources.add_pandas("shop").add_dataframe_asset("rows")
    batch = batches.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame.to_pandas()})
    results = batch.validate(suite).results
    assert len(results) == len(suite.expectations)
    assert not [r.exception_info for r in results if r.exception_info.get("raised_exception")]
    return [r.expectation_config.severity.value for r in results if r.expectation_config and not r.success]
