"""Crawl launchers: how a crawl gets a process. Here the local one; that of a cluster is in `resources.kubernetes`."""

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from gossamer.manifest import Manifest
from gossamer.settings import Settings
from gossamer.source import Source

if TYPE_CHECKING:
    from gossamer.crawl.host import Host
    from gossamer.crawl.life import Crawl, Wish
    from gossamer.crawl.progress import Progress


class CrawlLauncher(dg.ConfigurableResource[None]):
    """What assets ask for, as `launcher`; an installation's settings say which one they get."""

    sources: str
    lake: str

    @abstractmethod
    def host(self, settings: Settings, source: Source) -> "Host":
        """Where the processes of the source's crawls run."""

    @abstractmethod
    def on_cancel(self) -> "Wish":
        """What is asked of the crawl of a cancelled run."""

    def crawl(
        self,
        source: Source,
        key: str,
        run_id: str,
        on_progress: Callable[["Progress"], None],
        on_trouble: Callable[[str], None],
        root_run: str = "",
        fresh: bool = False,
        is_cancelled: Callable[[], bool] = lambda: True,
    ) -> Manifest:
        """Brings one partition's crawl to its end and returns the manifest of its raw rows.

        Args:
            on_trouble: called with words for the run's log: why its process does not start, how one ended.
            root_run: the run that this one repeats, which is given the same crawl. By default `run_id`.
            fresh: begin a new crawl although the last one is not over.
            is_cancelled: whether the step was cancelled when it is interrupted; else its process is only told to end.

        Raises:
            CrawlPausedError: somebody paused it; it goes on when it is asked to.
            CrawlError: the crawl ended without a result; the text says how its process ended.
        """
        from gossamer.crawl.step import run_crawl

        settings = Settings.load(sources=Path(self.sources), lake=self.lake)
        return run_crawl(
            settings,
            source,
            key,
            run_id=run_id,
            root_run=root_run,
            fresh=fresh,
            on_progress=on_progress,
            on_trouble=on_trouble,
            is_cancelled=is_cancelled,
            on_cancel=self.on_cancel(),
            host=self.host(settings, source),
        )

    def close(self, source: Source, crawl: "Crawl") -> None:
        """Closes the books of a crawl at rest that was asked to stop.

        Raises:
            CrawlError: its process ended before they were closed.
        """
        from gossamer.crawl.step import close_crawl

        settings = Settings.load(sources=Path(self.sources), lake=self.lake)
        close_crawl(settings, source, crawl, host=self.host(settings, source))


class LocalLauncher(CrawlLauncher):
    """Runs a crawl as a child process of the step: it ends with the step, however that ends."""

    def host(self, settings: Settings, source: Source) -> "Host":
        """This machine."""
        from gossamer.crawl.process import LocalHost

        return LocalHost(settings)

    def on_cancel(self) -> "Wish":
        """It is stopped: a local crawl that is to go on is paused by name."""
        from gossamer.crawl.life import Wish

        return Wish.STOP
