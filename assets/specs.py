"""What every asset of a source carries: key, group, owner, tags, kinds, description, code version, links.

Policy that holds for all of them stands here once.
"""

from collections.abc import Iterable, Sequence
from urllib.parse import urljoin

import dagster as dg

import partitions
from gossamer.partition import Partitions
from gossamer.source import Source

#: A crawl sees the site as it is now and cannot be batched; the other layers follow it. One partition a run also gives
#: every check evaluation its partition (a run over a range records none: see docs/checks.md).
ONE_PARTITION_A_RUN = dg.BackfillPolicy.multi_run(max_partitions_per_run=1)

#: The layers that the IO manager commits.
_COMMITTED = ("quarantine", "clean", "changes", "enriched")

_DESCRIPTIONS = {
    "raw": (
        "Rows as the spider gave them, with the page they came from. A crawl in a process of its own. Those of a crawl "
        "whose books do not close lie in `incomplete`; the last complete crawl's stay."
    ),
    "dead_letters": "Requests that ended in a permanent failure, with reason, status, attempts and a body sample.",
    "clean": "Rows with their declared types, each record once, checked by the source's expectations.",
    "quarantine": (
        "Rows that fail a critical expectation, with the expectation, the reason and their page. No reader sees them. "
        "Mended suites and transforms take them up again without a crawl: materialise the partition."
    ),
    "changes": (
        "What differs from the partition that was published before: rows that are new, changed or gone, by record key, "
        "with the columns that differ."
    ),
    "enriched": "Clean rows with the columns of declared joins and of the source's own transform.",
    "published": "What readers see: a Delta table of the partitions that passed their blocking checks.",
    "mongo": "The published rows as documents of a MongoDB collection, by record key.",
}


def asset_key(layer: str, source: str) -> dg.AssetKey:
    return dg.AssetKey([layer, source])


def spec(
    source: Source,
    layer: str,
    *,
    kinds: set[str],
    version: str,
    deps: Iterable[dg.AssetDep] = (),
    skippable: bool = False,
) -> dg.AssetSpec:
    """The spec of one layer of a source; a skippable one need not be made by every run of its step."""
    declared = source.spec
    spec = dg.AssetSpec(
        asset_key(layer, source.name),
        deps=list(deps),
        group_name=layer,
        kinds=kinds,
        code_version=version,
        owners=[declared.owner] if declared.owner else [],
        tags={**declared.tags, "gossamer/source": source.name},
        description="\n\n".join(filter(None, [declared.description, _DESCRIPTIONS[layer]])),
        metadata=_links(source),
        skippable=skippable,
        partitions_def=partitions.build(declared.partitions),
    )
    return spec.with_io_manager_key("lake_io") if layer in _COMMITTED else spec


def checks(source: Source, layer: str, blocking: Sequence[str], warning: Sequence[str] = ()) -> list[dg.AssetCheckSpec]:
    """The check specs of an asset, all partitioned: with others, a later good partition would clear a bad one."""
    return [
        dg.AssetCheckSpec(
            name,
            asset=asset_key(layer, source.name),
            blocking=name in blocking,
            description=_CHECKS[name],
            partitions_def=partitions.build(source.spec.partitions),
        )
        for name in (*blocking, *warning)
    ]


_CHECKS = {
    "books_closed": "The crawl finished, every seed was answered, and failed requests stay within `complete.tolerate`.",
    "record_key": "Every record has its key, and after `clean` there is one of each.",
    "expectations_critical": (
        "The suite's critical expectations, and default checks against the source's own history. A failure keeps the "
        "partition from its readers."
    ),
    "expectations_warning": "The suite's other expectations, and milder findings of the default checks.",
    "volume": "The number of records, against the source's own history. It blocks where most of them are missing.",
    "rows_kept": "Rows are left after joins and the source's own transform, without duplicates and quarantine.",
    "joins_matched": "Rows without a match stay within `max_unmatched`, where a join declares it.",
    "joins_complete": "Every row found its match in every declared join.",
}


def upstream(source: Source, layer: str, name: str, same_partitions: Partitions | None) -> dg.AssetDep:
    """A dependency on another source's layer: partition by partition where both are cut alike, else on all of it."""
    mapping: dg.PartitionMapping = dg.AllPartitionMapping()
    if same_partitions == source.spec.partitions:
        mapping = dg.IdentityPartitionMapping()
    return dg.AssetDep(asset_key(layer, name), partition_mapping=mapping)


def _links(source: Source) -> dict[str, dg.MetadataValue]:
    links: dict[str, dg.MetadataValue] = {"declaration": dg.MetadataValue.path(source.folder / "source.yaml")}
    seeds = source.spec.seeds
    if seed := (seeds.urls[0] if seeds.urls else seeds.sitemap):
        # Not the seed itself: it may have a {partition} to be filled in, and then leads nowhere.
        links["site"] = dg.MetadataValue.url(urljoin(seed, "/"))
    return links
