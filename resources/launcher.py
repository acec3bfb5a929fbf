"""Crawl launchers: how a crawl gets a process. Locally a child process; on Kubernetes a Job (planned)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from gossamer.manifest import Manifest
from gossamer.settings import Settings
from gossamer.source import Source

if TYPE_CHECKING:
    from gossamer.crawl.life import Crawl
    from gossamer.crawl.process import Progress


class LocalLauncher(dg.ConfigurableResource[None]):
    """Runs a crawl as a child process of the step: it ends with the step, however that ends."""

    sources: str
    lake: str

    def crawl(
        self,
        source: Source,
        key: str,
        run_id: str,
        on_progress: Callable[["Progress"], None],
        root_run: str = "",
        fresh: bool = False,
        is_cancelled: Callable[[], bool] = lambda: True,
    ) -> Manifest:
        """Brings one partition's crawl to its end and returns the manifest of its raw rows.

        Args:
            root_run: the run that this one repeats, which is given the same crawl. By default `run_id`.
            fresh: begin a new crawl although the last one is not over.
            is_cancelled: whether the step was cancelled when it is interrupted; else its process is only told to end.

        Raises:
            CrawlPausedError: somebody paused it; it goes on when it is asked to.
            CrawlError: the crawl ended without a result; the text says how its process ended.
        """
        from gossamer.crawl.process import run_crawl

        settings = Settings.load(sources=Path(self.sources), lake=self.lake)
        return run_crawl(
            settings,
            source,
            key,
            run_id=run_id,
            root_run=root_run,
            fresh=fresh,
            on_progress=on_progress,
            is_cancelled=is_cancelled,
        )

    def close(self, source: Source, crawl: "Crawl") -> None:
        """Closes the books of a crawl at rest that was asked to stop.

        Raises:
            CrawlError: its process ended before they were closed.
        """
        from gossamer.crawl.process import close_crawl

        close_crawl(Settings.load(sources=Path(self.sources), lake=self.lake), source, crawl)
