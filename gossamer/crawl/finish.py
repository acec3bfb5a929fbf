"""The end of a crawl: its books are closed, its segments become the partition's rows, and the verdict is committed."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from gossamer.crawl import books, deaths, identity, life
from gossamer.crawl.frontier import Frontier
from gossamer.crawl.life import Crawl
from gossamer.crawl.segments import Segments, dead_letters
from gossamer.errors import CrawlError, LakeError
from gossamer.lake import INCOMPLETE, Lake, Staged, object_path, stage
from gossamer.manifest import Manifest
from gossamer.source import Source


class SupersededError(CrawlError):
    """A newer launch has taken the crawl over; this one commits nothing."""


def finish(
    lake: Lake,
    source: Source,
    crawl: Crawl,
    launch: int,
    frontier: Frontier,
    segments: Segments,
    end: books.End,
    about: Mapping[str, Any],
    shown: Mapping[str, Any],
) -> Manifest:
    """Commits the partition: rows, dead letters and verdict. May be done again after a crash, with the same outcome.

    A complete crawl becomes `raw`; one whose books do not close becomes `incomplete` and leaves `raw` as it is.

    Args:
        about: other fields of the manifests (run_id, code_version).
        shown: what is kept beside the books, for people (how pages and records grew).

    Raises:
        LakeError: the lake does not take it, or a segment is missing; done again, it goes on.
        SupersededError: a newer launch works on this crawl.
    """
    while frontier.settling:
        frontier.settle()
    if end.reason not in (books.FINISHED, books.START_ERROR):
        frontier.exclude_rest(books.left_as(end.reason))
    verdict = books.close(frontier, source.spec.complete, source.spec.limits, end)
    layer = "raw" if verdict.passed else INCOMPLETE
    known = {"crawl_id": crawl.id, **about}
    with _rows(frontier, segments) as raw, dead_letters(frontier.failures()) as letters, stage(letters) as dead:
        if life.newest_launch(lake, crawl) != launch or identity.is_superseded(lake, crawl, launch):
            raise SupersededError(f"{crawl.id}: another process has taken this crawl over; nothing was committed here.")
        # The records come last: they are what the others go by, and their manifest says that the crawl is over.
        lake.commit("dead_letters", source.name, crawl.key, dead, **known)
        died = [death.model_dump() for death in deaths.noted(lake, crawl)]
        notes = {"books": {**verdict.details, **shown, "deaths": died}}
        manifest = lake.commit(layer, source.name, crawl.key, raw, checks=(verdict,), notes=notes, **known)
    if layer != INCOMPLETE:
        for suffix in (".json", ".parquet"):  # of an older crawl, which this one makes good
            lake.delete(object_path(INCOMPLETE, source.name, crawl.key, suffix))
    segments.sweep(frontier.segments())
    with contextlib.suppress(LakeError):  # what is left of older crawls harms nobody; the next end removes it
        life.remove_older(lake, crawl)
    return manifest


@contextlib.contextmanager
def _rows(frontier: Frontier, segments: Segments) -> Iterator[Staged]:
    with contextlib.ExitStack() as staging:
        try:
            named = frontier.segments()
            frame = segments.rows(named, frontier.retracted())
            rows = staging.enter_context(stage(frame, segments.group_rows(named)))
        except (pl.exceptions.PolarsError, OSError) as error:
            first_line = str(error).strip().partition("\n")[0]
            raise LakeError(
                f"The crawl's segments cannot be read: {first_line}. Run it again; nothing is lost."
            ) from error
        yield rows
