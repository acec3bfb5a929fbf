"""One measured crawl by stock Scrapy in a process of its own, for `benchmarks.crawl`: in memory, or with JOBDIR.

Prints its cost as JSON. Nothing of Gossamer's is imported here, so that its memory is Scrapy's own.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scrapy.crawler import AsyncCrawlerProcess

from benchmarks.crawl_meter import CRAWLER_CORE, Meter, items_of, pin
from benchmarks.crawl_spider import ShopSpider


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("stock", "jobdir"))
    parser.add_argument("start", help="URL of the first page")
    parser.add_argument("folder", type=Path, help="an empty one, for all that the run writes")
    options = parser.parse_args()
    pin(CRAWLER_CORE)
    settings: dict[str, Any] = {"LOG_LEVEL": "INFO", "FEEDS": {items_of(options.folder): {"format": "jsonlines"}}}
    if options.kind == "jobdir":
        settings["JOBDIR"] = str(options.folder / "job")
    process = AsyncCrawlerProcess(settings)
    process.crawl(ShopSpider, start_urls=[options.start])
    process.start()
    print(json.dumps(asdict(Meter.cost())), flush=True)


if __name__ == "__main__":
    main()
