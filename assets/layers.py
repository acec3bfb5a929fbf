"""The layers of a source as assets, one builder each: raw (with dead letters), clean, enriched, published, MongoDB."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from pydantic import Field

from assets import metadata, specs
from gossamer.lake import INCOMPLETE, PUBLISHED, Lake, object_path, stage
from gossamer.manifest import CheckResult, Manifest
from gossamer.source import Source
from resources import failures
from resources.lake import Dataset
from resources.launcher import CrawlLauncher
from resources.mongo import MongoResource

if TYPE_CHECKING:
    from gossamer.crawl.progress import Progress

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
        context: dg.AssetExecutionContext, config: CrawlConfig, lake: dg.ResourceParam[Lake], launcher: CrawlLauncher
    ) -> Results:
        from gossamer.crawl.step import CrawlPausedError
        from gossamer.quality import suite

        key, run = context.partition_key, context.run
        with failures.named():
            if source.suite_file:
                suite.parse(source.suite_file)  # a fault in it would be found after the crawl
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
            yield from _crawled(context, source, lake, manifest)

    return crawl


def _is_cancelled(context: dg.AssetExecutionContext) -> bool:
    """Whether somebody cancelled the run. A platform that is stopped or moved ends its process by the same signals."""
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def _crawled(context: dg.AssetExecutionContext, source: Source, lake: Lake, manifest: Manifest) -> Results:
    """What of a crawl that is over was asked for: its rows, its dead letters, the verdict on its books."""
    key = context.partition_key
    letters = lake.current("dead_letters", source.name, key)
    for layer, known in (("raw", manifest), ("dead_letters", letters)):
        if specs.asset_key(layer, source.name) not in context.selected_asset_keys:
            continue
        shown: dict[str, Any] = {"crawl_id": manifest.crawl_id}
        shown["object"] = metadata.place(lake, object_path(known.layer, source.name, key))
        if layer == "raw":
            shown |= {**metadata.of_crawl(manifest.notes["books"]), **_plot(source, lake, manifest)}
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
            yield metadata.check_result(raw_rows, check, {})


def _plot(source: Source, lake: Lake, manifest: Manifest) -> dict[str, Any]:
    """Draws the crawl's pages over time and links the page; nothing where that is not known."""
    from gossamer.crawl.progress import read_progress
    from gossamer.quality import plot

    said = read_progress(lake, source.name, manifest.partition)
    if said is None or said.generation != manifest.generation:
        return {}
    path = object_path("plots", source.name, manifest.partition, ".html")
    lake.put(path, plot.render(f"Crawl {manifest.crawl_id}", said.series).encode())
    return {"pages_over_time": metadata.place(lake, path)}


def clean(source: Source) -> dg.AssetsDefinition:
    """`clean/<s>`: typed rows, each record once, with the verdict of the source's expectations."""
    name = source.name
    blocking, warning = ["record_key", "rows_kept", "expectations_critical"], ["expectations_warning"]

    version = source.code_version("spec", "transform", "suite")
    raw_rows = specs.asset_key("raw", name)

    @dg.multi_asset(
        name=f"clean_{name}",
        specs=[specs.spec(source, "clean", kinds={"polars", "parquet"}, version=version, deps=[dg.AssetDep(raw_rows)])],
        ins={"rows": dg.AssetIn(key=raw_rows, input_manager_key="lake_io")},
        check_specs=specs.checks(source, "clean", blocking, warning),
        backfill_policy=specs.ONE_PARTITION_A_RUN,
    )
    def clean_asset(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], rows: pl.LazyFrame) -> Results:
        from gossamer.quality.report import fill_rates
        from gossamer.quality.suite import evaluate
        from gossamer.records import clean as records
        from gossamer.records import transform

        key = context.partition_key
        with failures.named(), contextlib.ExitStack() as staging:
            with transform.computing(source), lake.reading("raw", name, key) as crawled:
                typed = staging.enter_context(stage(records.clean(source, rows, key)))
                staged = staging.enter_context(stage(records.deduplicate(source, typed.frame)))
            counts = records.count(source, crawled.rows, typed.frame, staged.rows)
            checks = records.checks(source, counts)
            # Before rows go to quarantine, and before duplicates hide that a key was not unique.
            checks += evaluate(source.suite_file, typed.frame, source.spec.record.key)
            notes = {"records": asdict(counts), "fill": fill_rates(staged.frame)}
            known = {"crawl_id": crawled.crawl_id, "notes": notes}
            inputs = {f"raw/{name}": crawled.version}
            shown: dict[str, Any] = {"duplicates": counts.duplicates, "without_key": counts.without_key}
            shown |= metadata.of_rows(source, "clean", staged.frame, staged.rows)
            yield _materialised(source, "clean", lake, key, Dataset(staged, checks, inputs, known), shown)
            links = _report(source, lake, key, context.log)
            yield from _verdict(source, "clean", checks, links)

    return clean_asset


def enriched(source: Source) -> dg.AssetsDefinition:
    """`enriched/<s>`: clean rows, declared joins, and what the source's own `enrich` adds."""
    name = source.name
    joins = source.spec.enrich.join
    clean_rows = specs.asset_key("clean", name)
    deps = [
        specs.upstream(source, PUBLISHED, join.source, source.spec.partitions if join.partition == "same" else None)
        for join in joins
    ]
    version = source.code_version("spec", "transform")

    @dg.multi_asset(
        name=f"enrich_{name}",
        specs=[
            specs.spec(
                source, "enriched", kinds={"polars", "parquet"}, version=version, deps=[dg.AssetDep(clean_rows), *deps]
            )
        ],
        ins={"rows": dg.AssetIn(key=clean_rows, input_manager_key="lake_io")},
        check_specs=specs.checks(source, "enriched", ["joins_matched"], ["joins_complete"]),
        backfill_policy=specs.ONE_PARTITION_A_RUN,
    )
    def enriched_asset(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], rows: pl.LazyFrame) -> Results:
        from gossamer.quality.report import fill_rates
        from gossamer.records import enrich as records
        from gossamer.records import transform

        key = context.partition_key
        with failures.named(), contextlib.ExitStack() as staging:
            with transform.computing(source), lake.reading("clean", name, key) as cleaned:
                frame, joined = records.enrich(source, rows, records.upstream(source, lake, key))
                staged = staging.enter_context(stage(frame))
            checks = records.checks(joined)
            notes = {"joins": [asdict(join) for join in joined], "fill": fill_rates(staged.frame)}
            known = {"crawl_id": cleaned.crawl_id, "notes": notes}
            inputs = {f"clean/{name}": cleaned.version}
            shown = metadata.of_rows(source, "enriched", staged.frame, staged.rows)
            yield _materialised(source, "enriched", lake, key, Dataset(staged, checks, inputs, known), shown)
            links = _report(source, lake, key, context.log)
            yield from _verdict(source, "enriched", checks, links)

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
    def published_asset(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[Any]:
        from gossamer.publish.tables import publish

        key = context.partition_key
        with failures.named():
            publication = publish(lake, source, key, context.run.run_id)
            rows = lake.scan_published(name, key)
            assert rows is not None
            shown: dict[str, Any] = {"table": metadata.place(lake, f"{PUBLISHED}/{name}")}
            shown |= {"table_version": publication.version, **_report(source, lake, key, context.log)}
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


def _materialised(
    source: Source, layer: str, lake: Lake, key: str, data: Dataset, shown: dict[str, Any]
) -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(
        asset_key=specs.asset_key(layer, source.name),
        value=data,
        metadata={"object": metadata.place(lake, object_path(layer, source.name, key)), **shown},
        data_version=dg.DataVersion(data.staged.version),
    )


def _verdict(source: Source, layer: str, checks: Sequence[CheckResult], links: dict[str, Any]) -> Results:
    for check in checks:
        yield metadata.check_result(specs.asset_key(layer, source.name), check, links)


def _report(source: Source, lake: Lake, key: str, log: dg.DagsterLogManager) -> dict[str, Any]:
    """Writes the partition's report again, with what is known by now, and links it."""
    from gossamer.quality.report import render

    manifests = {
        layer: manifest
        for layer in ("raw", "dead_letters", "clean", "enriched")
        if (manifest := lake.manifest(layer, source.name, key))
    }
    raw_rows, letters = manifests.get("raw"), manifests.get("dead_letters")
    if raw_rows and letters and letters.crawl_id != raw_rows.crawl_id:
        del manifests["dead_letters"]  # of a newer crawl, whose books did not close
    newest = "enriched" if "enriched" in manifests else "clean"
    sample = lake.scan(newest, source.name, key).head(metadata.SAMPLE_ROWS).collect()
    path = object_path("reports", source.name, key, ".html")
    lake.put(path, render(source, manifests, sample).encode())
    log.info(f"Report: {lake.url(path)}")
    return {"report": metadata.place(lake, path)}


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
