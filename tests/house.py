"""A user's installation in a folder of the test: sources as users write them, a lake, crawls in real processes."""

import io
import textwrap
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from gossamer import declarations
from gossamer.crawl.step import run_crawl
from gossamer.lake import Lake
from gossamer.manifest import Manifest
from gossamer.settings import Settings

KEY = "2026-01-05"

FOLLOW = """
    import scrapy

    class Spider(scrapy.Spider):
        name = "follow"
        custom_settings = {"RETRY_TIMES": 0}

        def parse(self, response):
            yield from response.follow_all(css="a", callback=self.parse_page)

        def parse_page(self, response):
            yield {"title": response.css("h1::text").get()}
"""


#: Its seeds are the pages.
PAGES = FOLLOW.replace("def parse(", "def unused(").replace("def parse_page", "def parse")


class House:
    """A user's installation in a folder: sources, a lake, and the log of what ran."""

    def __init__(self, folder: Path, lake: str | None = None) -> None:
        self.settings = Settings.load(folder / "sources", lake or str(folder / "lake"), environ={})
        self.lake = Lake(self.settings.lake)
        self.log = io.StringIO()

    def declare(self, spider: str, *, name: str = "s", **spec: Any) -> Path:
        """Writes a source; gives its folder."""
        folder = self.settings.sources / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spider.py").write_text(textwrap.dedent(spider))
        defaults = {
            "name": name,
            "spider": "spider:Spider",
            "record": {"key": "title", "fields": {"title": "str"}},
            "fetch": {"allow_private": True},
            "politeness": {"requests_per_second": None},
        }
        (folder / "source.yaml").write_text(yaml.safe_dump(defaults | spec))
        return folder

    def crawl(self, name: str = "s", **options: Any) -> Manifest:
        source = declarations.load(self.settings.sources)[name]
        return run_crawl(self.settings, source, KEY, output=self.log, **options)

    def raw(self, name: str = "s", layer: str = "raw") -> pl.DataFrame:
        return self.lake.scan(layer, name, KEY).collect()

    def dead(self, name: str = "s") -> dict[str, dict[str, Any]]:
        rows = self.lake.scan("dead_letters", name, KEY).collect().to_dicts()
        return {row["url"]: row for row in rows}

    def objects(self) -> list[str]:
        """What is in the lake, without what crawls keep for themselves."""
        return sorted(path for path in self.lake.paths("") if not path.startswith(("progress/", "crawls/")))
