"""Crawl launchers: how a crawl gets a process. Locally a child process; on Kubernetes a Job (planned)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from gossamer.manifest import Manifest
from gossamer.settings import Settings
from gossamer.source import Source

if TYPE_CHECKING:
    from gossamer.crawl.process import Progress


class LocalLauncher(dg.ConfigurableResource[None]):
    """Runs a crawl as a child process of the step: it ends with the step, however that ends."""

    sources: str
    lake: str

    def crawl(self, source: Source, key: str, run_id: str, on_progress: Callable[["Progress"], None]) -> Manifest:
        """Crawls one partition to its end and returns the manifest of its raw rows.

        Raises:
            CrawlError: the crawl ended without a result; the text says how its process ended.
        """
        from gossamer.crawl.process import run_crawl

        settings = Settings.load(sources=Path(self.sources), lake=self.lake)
        return run_crawl(settings, source, key, run_id=run_id, on_progress=on_progress)
