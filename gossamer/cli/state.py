"""What the lake knows of a source's partitions: rows by layer, checks, publication, and how the newest crawl stands.

Read only, and from the lake alone: no Dagster is needed to answer. How it is shown is `reading`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from gossamer.crawl import life
from gossamer.crawl.life import CrawlState, Standing
from gossamer.crawl.progress import Progress
from gossamer.lake import INCOMPLETE, Lake
from gossamer.manifest import CheckResult, Manifest
from gossamer.partition import SEPARATOR
from gossamer.publish.tables import HistoryEntry
from gossamer.publish.tables import publications as publications

LAYERS = ("raw", "clean", "enriched")
#: The newest crawl is over and its books did not close; or there never was one.
INCOMPLETE_CRAWL, NO_CRAWL = "incomplete", "none"


@dataclass(frozen=True)
class State:
    """One partition of one source, as it lies in the lake.

    Attributes:
        manifests: layer -> manifest, for the layers that have data; `incomplete` where that is the newest crawl.
        published: its newest publication; it may be older than the layers below.
        standing: how its newest crawl stands.
    """

    source: str
    partition: str
    manifests: Mapping[str, Manifest]
    published: HistoryEntry | None
    standing: Standing

    @property
    def stale(self) -> frozenset[str]:
        """The layers made from other data than lies below them now: what they say is of an older crawl."""
        found = {"raw"} & self.manifests.keys() if INCOMPLETE in self.manifests else set()
        for below, layer in pairwise(LAYERS):
            if layer in self.manifests:
                made_from = self.manifests[layer].inputs.get(f"{below}/{self.source}")
                lies_there = self.manifests[below].version if below in self.manifests else None
                if below in found or made_from != lies_there:
                    found.add(layer)
        return frozenset(found)

    @property
    def checks(self) -> list[tuple[str, CheckResult]]:
        """Every check of the newest data, with the layer it judged."""
        newest = {layer: manifest for layer, manifest in self.manifests.items() if layer not in self.stale}
        return [(layer, check) for layer, manifest in newest.items() for check in manifest.checks]

    @property
    def crawl(self) -> str:
        """A word of `CrawlState`; or none, or incomplete (it is over, and its books did not close)."""
        state = self.standing.state
        if state is CrawlState.NEW and not self.manifests:
            return NO_CRAWL
        if state is CrawlState.COMPLETE and INCOMPLETE in self.manifests:
            return INCOMPLETE_CRAWL
        return str(state)

    @property
    def is_over(self) -> bool:
        """No crawl is under way or at rest."""
        return self.crawl in (CrawlState.COMPLETE, CrawlState.STOPPED, INCOMPLETE_CRAWL, NO_CRAWL)

    @property
    def progress(self) -> Progress | None:
        """What the crawl says of itself, or last said; None of one that is over."""
        return None if self.is_over else self.standing.progress

    @property
    def heard(self) -> datetime | None:
        """When it said so."""
        return datetime.fromtimestamp(self.progress.told_at, UTC) if self.progress else None

    @property
    def crawled(self) -> Manifest | None:
        """The manifest of the newest crawl, complete or not."""
        return self.manifests.get(INCOMPLETE) or self.manifests.get("raw")

    @property
    def is_published(self) -> bool:
        """Readers see the newest data of this partition."""
        enriched = self.manifests.get("enriched")
        if enriched is None or self.published is None or "enriched" in self.stale:
            return False
        return self.published.brought(enriched)


def read(lake: Lake, source: str, key: str, published: HistoryEntry | None) -> State:
    """The state of one partition."""
    found = {layer: lake.manifest(layer, source, key) for layer in (INCOMPLETE, *LAYERS)}
    manifests = {layer: manifest for layer, manifest in found.items() if manifest}
    if not _is_incomplete(manifests):
        manifests.pop(INCOMPLETE, None)
    return State(source, key, manifests, published, life.standing(lake, source, key))


def keys(lake: Lake, source: str, published: Mapping[str, HistoryEntry]) -> list[str]:
    """The partitions of which the lake knows anything, newest first."""
    crawled = {key for layer in ("raw", INCOMPLETE) for key in lake.partitions(layer, source)}
    return sorted(crawled | set(begun(lake, source)) | published.keys(), reverse=True)


def begun(lake: Lake, source: str) -> list[str]:
    """The partitions of which a crawl was ever heard, newest first."""
    folder = f"progress/{source}/"
    names = (path.removeprefix(folder).removesuffix(".json") for path in lake.paths(folder))
    return sorted((name.replace("~", SEPARATOR) for name in names), reverse=True)


def _is_incomplete(manifests: Mapping[str, Manifest]) -> bool:
    """Whether the newest crawl is an incomplete one: a complete one that was cut short may leave an older behind."""
    newest = {layer: manifest.generation for layer, manifest in manifests.items()}
    return newest.get(INCOMPLETE, 0) > newest.get("raw", 0)
