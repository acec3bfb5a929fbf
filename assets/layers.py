"""The layers of a source as assets, one builder each: raw (with dead letters), clean, enriched, published, MongoDB."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets import metadata, specs
from gossamer.errors import GossamerError
from gossamer.lake import INCOMPLETE, PUBLISHED, Lake, object_path
from gossamer.manifest import Manifest
from gossamer.source import Source
from resources import failures
from resources.launcher import CrawlLauncher
from resources.mongo import MongoResource
from resources.pages import PagesResource

if TYPE_CHECKING:
    from gossamer.crawl.progress import Progress
    from gossamer.layers import Refined

Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]

#: Progress reaches the run's log at most so often: every line there is a row of the event log.
PROGRESS_SECONDS = 5.0
#: The tag of a run whose crawl was paused, for whoever looks at the list of runs.
PAUSED_TAG = "gossamer/paused"


class CrawlConfig(dg.Config):
    """What a person may ask of a crawl when starting its run."""

    fresh: bool = Field(
        default=False,
        description="Start afresh: begin a new crawl although the last one was paused, interrupted or failed half-way.",
    )


class CleanConfig(dg.Config):
    """What a person may ask of the clean layer when starting its run."""

    keep_failing: bool = Field(
        default=False,
        description="Leave rows that fail critical expectations where they are, not in quarantine: to be accepted.",
    )


def raw(source: Source) -> dg.AssetsDefinition:
    """`raw/<s>` and `dead_letters/<s>`: one crawl in a process of its own, and the verdict on its books.

    The rows of a crawl whose books do not close are shown, and lie beside `raw`, which keeps the last complete crawl.
    """
    version = source.code_version("spec", "spider")
    chain = source.spec.seeds.upstream
    deps = [specs.upstream(source, PUBLISHED, chain.source, source.spec.partitions)] if chain else []

    @dg.multi_asset(
        name=f"crawl_{source.name}",
        # A crawl that was paused has no rows yet: its step ends well and makes nothing, which only a step may that
        # need not make everything.
        can_subset=True,
        specs=[
            specs.spec(source, layer, kinds={"scrapy", "parquet"}, version=version, deps=deps, skippable=True)
            for layer in ("raw", "dead_letters")
        ],
        check_specs=specs.checks(source, "raw", ["books_closed"]),
        backfill_policy=specs.ONE_PARTITION_A_RUN,
        # One crawl of a source at a time (dagster.yaml's default limit): its partitions share the site.
        pool=f"crawl_{source.name}",
    )
    def crawl(
        context: dg.AssetExecutionContext,
        config: CrawlConfig,
        lake: dg.ResourceParam[Lake],
        launcher: CrawlLauncher,
        pages: PagesResource,
    ) -> Results:
        from gossamer.crawl.step import CrawlPausedError
        from gossamer.quality import suite_file

        key, run = context.partition_key, context.run
        with failures.named():
            for suite in filter(None, [source.suite_file, source.enriched_suite_file]):
                suite_file.parse(suite)  # a fault in it would be found after the crawl
            try:
                manifest = launcher.crawl(
                    source,
                    key,
                    run.run_id,
                    _Reporter(context).report,
                    on_trouble=context.log.warning,
                    root_run=run.root_run_id or run.run_id,
                    fresh=config.fresh,
                    is_cancelled=lambda: _is_cancelled(context),
                )
            except CrawlPausedError as paused:
                context.log.warning(str(paused))
                context.instance.add_run_tags(run.run_id, {PAUSED_TAG: f"{source.name}/{key}"})
                return
            if manifest.layer == INCOMPLETE:
                rows = lake.url(object_path(INCOMPLETE, source.name, key))
                context.log.warning(f"The books do not close: the rows lie in {rows}; raw/{source.name} is as it was.")
            yield from _crawled(context, source, lake, pages, manifest)

    return crawl


def _is_cancelled(context: dg.AssetExecutionContext) -> bool:
    """Whether somebody cancelled the run. A platform that is stopped or moved ends its process by the same signals."""
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def _crawled(
    context: dg.AssetExecutionContext, source: Source, lake: Lake, pages: PagesResource, manifest: Manifest
) -> Results:
    """What of a crawl that is over was asked for: its rows, its dead letters, the verdict on its books."""
    from gossamer.layers import cause_of_incomplete

    key = context.partition_key
    links: dict[str, Any] = {}
    if manifest.layer == INCOMPLETE:  # no layer above will tell
        why = cause_of_incomplete(lake, source, manifest)
        links = {**metadata.of_cause(why.model_dump()), **_report(source, lake, pages, key, context.log)}
    letters = lake.current("dead_letters", source.name, key)
    for layer, known in (("raw", manifest), ("dead_letters", letters)):
        if specs.asset_key(layer, source.name) not in context.selected_asset_keys:
            continue
        shown: dict[str, Any] = {"crawl_id": manifest.crawl_id}
        shown["object"] = metadata.place(lake, object_path(known.layer, source.name, key))
        if layer == "raw":
            shown |= {**metadata.of_crawl(manifest.notes["books"]), **_plot(source, lake, pages, manifest), **links}
        shown |= metadata.of_rows(source, layer, lake.scan(known.layer, source.name, key), known.rows)
        yield dg.MaterializeResult(
            asset_key=specs.asset_key(layer, source.name),
            metadata=shown,
            # Of the data that the next layer reads, where there is any.
            data_version=dg.DataVersion(lake.version(layer, source.name, key) or known.version),
        )
    raw_rows = specs.asset_key("raw", source.name)
    for check in manifest.checks:
        if dg.AssetCheckKey(raw_rows, check.name) in context.selected_asset_check_keys:
            yield metadata.check_result(raw_rows, check, links)


def _plot(source: Source, lake: Lake, pages: PagesResource, manifest: Manifest) -> dict[str, Any]:
    """Draws the crawl's pages over time and links the page; nothing where that is not known."""
    from gossamer.crawl.progress import read_progress
    from gossamer.quality import plot

    said = read_progress(lake, source.name, manifest.partition)
    if said is None or said.generation != manifest.generation:
        return {}
    path = object_path("plots", source.name, manifest.partition, ".html")
    lake.put(path, plot.render(f"Crawl {manifest.crawl_id}", said.series).encode())
    return {"pages_over_time": metadata.page(lake, pages, path)}


def clean(source: Source) -> dg.AssetsDefinition:
    """`clean/<s>` and `quarantine/<s>`: typed rows, each record once, with the verdict of all expectations; and the
    rows that fail a critical one."""
    name = source.name
    blocking = ["record_key", "rows_kept", "volume", "expectations_critical"]
    version = source.code_version("spec", "transform", "suite")
    raw_rows = specs.asset_key("raw", name)
    kinds = {"polars", "greatexpectations", "parquet"}

    @dg.multi_asset(
        name=f"clean_{name}",
        can_subset=True,
        specs=[
            specs.spec(source, layer, kinds=kinds, version=version, deps=[dg.AssetDep(raw_rows)], skippable=True)
            for layer in ("quarantine", "clean")
        ],
        ins={"rows": dg.AssetIn(key=raw_rows, input_manager_key="lake_io")},
        check_specs=specs.checks(source, "clean", blocking, ["expectations_warning"]),
        backfill_policy=specs.ONE_PARTITION_A_RUN,
    )
    def clean_asset(
        context: dg.AssetExecutionContext,
        config: CleanConfig,
        lake: dg.ResourceParam[Lake],
        pages: PagesResource,
        rows: pl.LazyFrame,
    ) -> Results:
        from gossamer import layers

        _must_make(context, source, "clean")
        made = layers.clean(lake, source, context.partition_key, rows, keep_failing=config.keep_failing)
        with failures.named(), made as refined:
            yield from _refined(context, source, lake, pages, refined)

    return clean_asset


def enriched(source: Source) -> dg.AssetsDefinition:
    """`enriched/<s>` and `changes/<s>`: clean rows, declared joins, what the source's own `enrich` adds; and the
    difference to the partition published before."""
    name = source.name
    joins = source.spec.enrich.join
    clean_rows = specs.asset_key("clean", name)
    deps = [
        specs.upstream(source, PUBLISHED, join.source, source.spec.partitions if join.partition == "same" else None)
        for join in joins
    ]
    above = [dg.AssetDep(clean_rows), *deps]
    version = source.code_version("spec", "transform", "enriched_suite")
    blocking, warning = ["joins_matched", "rows_kept", "record_key"], ["joins_complete"]
    if source.enriched_suite_file:
        blocking, warning = [*blocking, "expectations_critical"], [*warning, "expectations_warning"]

    @dg.multi_asset(
        name=f"enrich_{name}",
        can_subset=True,
        specs=[
            specs.spec(source, layer, kinds={"polars", "parquet"}, version=version, deps=above, skippable=True)
            for layer in ("changes", "enriched")
        ],
        ins={"rows": dg.AssetIn(key=clean_rows, input_manager_key="lake_io")},
        check_specs=specs.checks(source, "enriched", blocking, warning),
        backfill_policy=specs.ONE_PARTITION_A_RUN,
    )
    def enriched_asset(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], pages: PagesResource, rows: pl.LazyFrame
    ) -> Results:
        from gossamer import layers

        _must_make(context, source, "enriched")
        with failures.named(), layers.enrich(lake, source, context.partition_key, rows) as refined:
            yield from _refined(context, source, lake, pages, refined)

    return enriched_asset


def published(source: Source) -> dg.AssetsDefinition:
    """`published/<s>`: the partition replaced in the source's Delta table, if its verdict allows it."""
    name = source.name

    deps = [dg.AssetDep(specs.asset_key("enriched", name))]

    @dg.multi_asset(
        name=f"publish_{name}",
        specs=[specs.spec(source, PUBLISHED, kinds={"deltalake"}, version=source.code_version("spec"), deps=deps)],
        backfill_policy=specs.ONE_PARTITION_A_RUN,
    )
    def published_asset(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], pages: PagesResource
    ) -> dg.MaterializeResult[Any]:
        from gossamer.layers import remember
        from gossamer.publish.tables import publish

        key = context.partition_key
        with failures.named():
            publication = publish(lake, source, key, context.run.run_id)
            remember(lake, source, key, publication)
            rows = lake.scan_published(name, key)
            assert rows is not None
            shown: dict[str, Any] = {"table": metadata.place(lake, f"{PUBLISHED}/{name}")}
            shown |= {"table_version": publication.version, **_report(source, lake, pages, key, context.log)}
            if publication.accepted:
                shown["accepted"] = dg.MetadataValue.text(f"{publication.accepted.by}: {publication.accepted.reason}")
            shown |= metadata.of_rows(source, PUBLISHED, rows, publication.rows)
            return dg.MaterializeResult(metadata=shown, data_version=dg.DataVersion(str(publication.version)))

    return published_asset


def mongo(source: Source) -> dg.AssetsDefinition:
    """`mongo/<s>`: the published rows as documents, by record key."""

    deps = [dg.AssetDep(specs.asset_key(PUBLISHED, source.name))]

    @dg.multi_asset(
        name=f"mongo_{source.name}",
        specs=[specs.spec(source, "mongo", kinds={"mongodb"}, version=source.code_version("spec"), deps=deps)],
        backfill_policy=specs.ONE_PARTITION_A_RUN,
    )
    def mongo_asset(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], mongo: MongoResource
    ) -> dg.MaterializeResult[Any]:
        with failures.named():
            counts = mongo.upsert(lake, source, context.partition_key)
            return dg.MaterializeResult(metadata={"collection": source.name, **counts})

    return mongo_asset


def _refined(
    context: dg.AssetExecutionContext, source: Source, lake: Lake, pages: PagesResource, refined: "Refined"
) -> Results:
    """Commits a layer with what goes beside it, and tells of both and of the verdict."""
    from gossamer import layers

    key, layer = context.partition_key, refined.layer
    beside = layers.BESIDE[layer]
    layers.commit(lake, source, key, refined, context.run.run_id)
    context.log.info(f"{layer}/{source.name}, partition {key}: {refined.staged.rows} rows committed")
    shown = {beside: (refined.aside, {}), layer: (refined.staged, metadata.of_notes(refined.notes))}
    for name, (staged, more) in shown.items():
        if specs.asset_key(name, source.name) in context.selected_asset_keys:
            place = {"object": metadata.place(lake, object_path(name, source.name, key))}
            yield dg.MaterializeResult(
                asset_key=specs.asset_key(name, source.name),
                metadata={**place, **more, **metadata.of_rows(source, name, staged.frame, staged.rows)},
                data_version=dg.DataVersion(staged.version),
            )
    links = _report(source, lake, pages, key, context.log)
    for check in refined.checks:
        if dg.AssetCheckKey(specs.asset_key(layer, source.name), check.name) in context.selected_asset_check_keys:
            yield metadata.check_result(specs.asset_key(layer, source.name), check, links)


def _must_make(context: dg.AssetExecutionContext, source: Source, layer: str) -> None:
    """What stands beside a layer is made with it and never alone: the two would speak of different data."""
    if specs.asset_key(layer, source.name) not in context.selected_asset_keys:
        raise dg.Failure(f"Materialise {layer}/{source.name} too: what you asked for is made with it.")


def _report(source: Source, lake: Lake, pages: PagesResource, key: str, log: dg.DagsterLogManager) -> dict[str, Any]:
    """Writes the partition's report again, with what is known by now, and links it, its source's, and the trend.

    Data and verdict are in the lake by then: what goes wrong with a page is told, and fails nothing.
    """
    from gossamer import reporting

    try:
        written = reporting.write(lake, source, key)
    except (GossamerError, pl.exceptions.PolarsError) as error:
        log.warning(f"The report was not written: {error}")
        return {}
    log.info(f"Report: {pages.address(written.partition) or lake.url(written.partition)}")
    return {
        "report": metadata.page(lake, pages, written.partition),
        "source_report": metadata.page(lake, pages, written.source),
        "source_trend": metadata.trend(written.trend),
    }


class _Reporter:
    """Passes a crawl's progress on to the run's log: now and then, and whenever its state changes."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._next = 0.0
        self._state = ""

    def report(self, progress: "Progress") -> None:
        if progress.state == self._state and time.monotonic() < self._next:
            return
        self._next, self._state = time.monotonic() + PROGRESS_SECONDS, progress.state
        self._context.log.info(f"{progress.state}: {progress.in_words()}")
