"""One measured crawl by our engine in a process of its own, for `benchmarks.crawl`. Prints its cost as JSON.

`durable` is what `python -m gossamer.crawl` does; `memory` is the same engine with its store in memory and its records
thrown away; `pending` is `durable` with many requests waiting in the frontier.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scrapy.crawler import AsyncCrawlerProcess
from scrapy.settings import Settings as ScrapySettings

from benchmarks.crawl_meter import CRAWLER_CORE, Meter, pin, write_items
from benchmarks.crawl_pending import PAGES_AT_DEPTH, Gauge, PendingSpider
from benchmarks.crawl_spider import FIELDS, ShopSpider
from gossamer import declarations
from gossamer.crawl import run
from gossamer.crawl.components import PartitionCrawler
from gossamer.crawl.configure import configure
from gossamer.crawl.engine.job import Job
from gossamer.crawl.flush import Flusher
from gossamer.crawl.frontier import FrontierError, Record, Segment
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.live import Live
from gossamer.crawl.rows import RowFormat
from gossamer.crawl.segments import Segments
from gossamer.lake import Lake
from gossamer.settings import Settings
from gossamer.source import Limits

SOURCE, KEY = "shop", "2026-01-01"
_COLUMNS = ("url", *FIELDS)
_DECLARATION = f"""\
name: {SOURCE}
owner: team:benchmarks
spider: {{spider}}
partitions: {{{{period: daily, start: {KEY}}}}}
seeds: {{{{urls: ["{{start}}"]}}}}
politeness: {{{{robots: ignore, requests_per_second: null, concurrency: 64}}}}
fetch: {{{{allow_private: true}}}} # the site is on this machine
limits: {{{{{{limits}}}}}}
record:
  key: [url]
  fields: {{{{{", ".join(f"{column}: str" for column in _COLUMNS)}}}}}
"""


class _Kept(Segments):
    """Segments that go nowhere: the records stay in memory, to be compared when everything is measured."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, records: Sequence[Record]) -> Segment:
        self.records += records
        return Segment(f"{len(self.records)}", records[0].id, records[-1].id, len(records))


def main() -> None:
    kinds: dict[str, Callable[[str, Path], dict[str, Any]]] = {
        "durable": _durable,
        "memory": _memory,
        "pending": _pending,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("start", help="URL of the first page")
    parser.add_argument("folder", type=Path, help="an empty one, for all that the run writes")
    options = parser.parse_args()
    pin(CRAWLER_CORE)
    print(json.dumps(kinds[options.kind](options.start, options.folder)), flush=True)


def _durable(start: str, folder: Path) -> dict[str, Any]:
    settings = _declare(folder, ShopSpider, start)
    run.run(settings, SOURCE, KEY)
    cost = Meter.cost()
    rows = Lake(settings.lake).scan("raw", SOURCE, KEY).select(_COLUMNS).collect()
    write_items(folder, rows.iter_rows(named=True))
    return asdict(cost)


def _memory(start: str, folder: Path) -> dict[str, Any]:
    settings = _declare(folder, ShopSpider, start)
    source = declarations.load(settings.sources)[SOURCE]
    process = AsyncCrawlerProcess(ScrapySettings({"LOG_LEVEL": "INFO"}))
    frontier, kept = SqliteFrontier(":memory:"), _Kept()
    rows = RowFormat(source.spec.record.fields, source.code_version("spider"))
    crawler = PartitionCrawler(
        ShopSpider, process.settings, Job(frontier, rows.line, Live(Limits()), _fail), None, source.folder
    )
    configure(crawler.settings, source)
    flusher = Flusher(frontier, kept, _fail)
    process.crawl(crawler, start_urls=[start])
    flushing = asyncio.get_event_loop().create_task(flusher.run())
    process.start()
    flushing.cancel()
    flusher.rest()
    cost = Meter.cost()
    lines = (json.loads(record.data) for record in kept.records)
    write_items(folder, ({column: line[column] for column in _COLUMNS} for line in lines))
    return asdict(cost)


def _pending(start: str, folder: Path) -> dict[str, Any]:
    limits = f"pages: {PAGES_AT_DEPTH + 1}"  # and the page that yields them all
    run.run(_declare(folder, PendingSpider, start, limits), SOURCE, KEY)
    return asdict(Gauge.depth())


def _declare(folder: Path, spider: type[ShopSpider], start: str, limits: str = "") -> Settings:
    """A source of this spider in the folder, and settings by which everything lies there."""
    home = folder / "sources" / SOURCE
    home.mkdir(parents=True)
    (home / "spider.py").write_text(f"from {spider.__module__} import {spider.__name__}\n")
    declaration = _DECLARATION.format(spider=f"spider:{spider.__name__}", start=start, limits=limits)
    (home / "source.yaml").write_text(declaration)
    environ = {"GOSSAMER_CRAWLS": str(folder / "crawls")}
    return Settings.load(sources=home.parent, lake=str(folder / "lake"), environ=environ)


def _fail(error: FrontierError) -> None:
    sys.exit(str(error))


if __name__ == "__main__":
    main()
