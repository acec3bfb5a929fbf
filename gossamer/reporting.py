"""The pages of a partition and of its source, written anew from what the lake knows by now.

How they look is `gossamer.quality`'s; here is only gathered what they show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer import acceptance, layers
from gossamer.lake import INCOMPLETE, Lake
from gossamer.manifest import Manifest
from gossamer.quality import history, pages, report, source_report
from gossamer.source import Source

#: Rows that a report shows.
ROWS = 20
#: Partitions in a trend.
TREND = 10
#: The layers whose manifests a report shows.
_LAYERS = ("raw", "dead_letters", "clean", "enriched")


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        partition, source: paths of the pages in the lake.
        trend: the newest partitions of the source, oldest first.
    """

    partition: str
    source: str
    trend: Sequence[source_report.PartitionSummary]


def write(lake: Lake, source: Source, key: str) -> Written:
    """Writes the report of a partition, and of its source."""
    name = source.name
    manifests = _manifests(lake, source, key)
    newest = next((layer for layer in ("enriched", "clean", "raw") if layer in manifests), "raw")
    sample = lake.scan(manifests[newest].layer, name, key).head(ROWS).collect()
    accepted = acceptance.read(lake, name, key)
    past = history.read(lake, source, key, crawl_id=manifests[newest].crawl_id)
    page = report.render(source, manifests, sample, history=past, acceptances=accepted)
    lake.put(path := pages.page_path(name, key), page.encode())
    of_source = source_report.record(lake, source, source_report.summary(key, manifests, accepted))
    return Written(path, of_source, source_report.summaries(lake, source, TREND))


def _manifests(lake: Lake, source: Source, key: str) -> dict[str, Manifest]:
    """The manifests of the newest crawl, by layer: of one whose books did not close, and of nothing that is older."""
    found = {layer: made for layer in _LAYERS if (made := lake.manifest(layer, source.name, key))}
    incomplete, raw = lake.manifest(INCOMPLETE, source.name, key), found.get("raw")
    if incomplete and (raw is None or incomplete.generation > raw.generation):
        why = layers.cause_of_incomplete(lake, source, incomplete).model_dump()
        shown = incomplete.model_copy(update={"notes": {**incomplete.notes, "cause": why}})
        found = {"raw": shown} | {layer: made for layer, made in found.items() if layer == "dead_letters"}
    letters = found.get("dead_letters")
    if letters and "raw" in found and letters.crawl_id != found["raw"].crawl_id:
        del found["dead_letters"]  # of another crawl
    return found
