"""Real input: two real sites crawled over HTTP through Dagster, every published field compared with the truth."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from gossamer import declarations
from gossamer.crawl.step import run_crawl
from gossamer.publish.duck import connect
from tests import services
from tests.platform_runs import Installation, why

pytestmark = [pytest.mark.service, pytest.mark.slow]

TODAY = datetime.now(UTC).date()
SOURCES = Path(__file__).parent / "corpora"


def truth_of(path: Path) -> list[dict[str, Any]]:
    """A truth table; its texts have line separators of Unicode's own, so that only newlines end a line."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Installation]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Installation.at(tmp_path, SOURCES, instance)


def test_a_thousand_books_are_published_with_every_field_right(
    platform: Installation, corpora: services.Corpora
) -> None:
    truth = truth_of(corpora.books_truth)
    result = platform.run("books", str(TODAY))
    assert result.success, why(result)
    published = platform.lake.scan_published("books", str(TODAY))
    assert published is not None
    found = {row["upc"]: row for row in published.collect().iter_rows(named=True)}
    assert len(found) == len(truth) == 1000
    for book in truth:
        row = found[book["upc"]]
        assert row["title"] == book["title"]
        assert row["category"] == book["category"]
        assert (row["price"], row["price_currency"]) == (Decimal(str(book["price"])), book["currency"])
        assert (row["rating"], row["stock"]) == (book["rating"], book["stock"])
        assert row["link"].endswith(book["url_path"])
        assert (row["description"] or "") == book["description"].strip()
        assert row["_url"].endswith(book["url_path"])
        assert (row["partition_key"], row["_crawl_id"]) == (str(TODAY), f"books/{TODAY}/1")
    with connect(platform.settings) as connection:
        counted = connection.execute("select count(*), sum(price), count(distinct category) from books").fetchone()
    assert counted == (1000, sum(Decimal(str(book["price"])) for book in truth), len({b["category"] for b in truth}))


def test_a_hundred_quotes_are_published_with_every_field_right(
    platform: Installation, corpora: services.Corpora
) -> None:
    truth = truth_of(corpora.quotes_truth)
    monday = TODAY - timedelta(days=TODAY.weekday())
    result = platform.run("quotes", str(monday))
    assert result.success, why(result)
    published = platform.lake.scan_published("quotes", str(monday))
    assert published is not None
    found = {row["text"]: row for row in published.collect().iter_rows(named=True)}
    assert len(found) == len(truth) == 100
    for quote in truth:
        row = found[quote["text"]]
        assert (row["author"], row["page"], json.loads(row["tags"])) == (quote["author"], quote["page"], quote["tags"])
        assert row["author_link"].rstrip("/").endswith(quote["author_path"].rstrip("/"))


def test_in_a_maze_the_same_pages_are_found_as_by_scrapy_itself(
    platform: Installation, corpora: services.Corpora, tmp_path: Path
) -> None:
    monday = str(TODAY - timedelta(days=TODAY.weekday()))
    manifest = run_crawl(platform.settings, declarations.load(SOURCES)["maze"], monday)
    ours = set(platform.lake.scan(manifest.layer, "maze", monday).select("address", "status").collect().iter_rows())
    out = tmp_path / "scrapy.jsonl"
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from spider import MazeSpider\nfrom scrapy.crawler import AsyncCrawlerProcess\n"
        f"feeds = {{{str(out)!r}: {{'format': 'jsonlines'}}}}\n"
        "process = AsyncCrawlerProcess({'FEEDS': feeds, 'LOG_LEVEL': 'ERROR'})\n"
        f"process.crawl(MazeSpider, start_urls=[{corpora.maze + '/'!r}])\nprocess.start()\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=SOURCES / "maze", timeout=120, check=True)
    scrapys = {(item["address"], str(item["status"])) for item in map(json.loads, out.read_text().splitlines())}
    assert ours == scrapys and len(ours) > 80
