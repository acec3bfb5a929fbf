"""Chains: a source whose seeds are another's published rows is crawled when that one publishes.

One sensor a chained source. Its cursor is the storage id of the newest publication that it has handled, so that each is
handled once and none is missed while the daemon was away.
"""

import logging
from collections.abc import Iterator

import dagster as dg

from assets.specs import asset_key
from gossamer.errors import PartitionKeyError
from gossamer.lake import PUBLISHED
from gossamer.source import Source

#: Publications handled in one tick: ticks stay short; the next one goes on.
BATCH = 100
INTERVAL_SECONDS = 10


def build_chain_sensor(source: Source) -> dg.SensorDefinition:
    """The sensor of a chained source (`seeds: {from: ...}`)."""
    chain = source.spec.seeds.upstream
    assert chain, "only a chained source has a chain sensor"
    upstream = asset_key(PUBLISHED, chain.source)

    @dg.sensor(
        name=f"{source.name}_chain",
        job_name=source.name,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Crawls {source.name} for every partition that {chain.source} publishes.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = int(context.cursor or 0)
        records = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=upstream, after_storage_id=seen), limit=BATCH, ascending=True
        ).records
        if not records:
            return dg.SkipReason(f"{upstream.to_user_string()} has published nothing new")
        newest = {record.partition_key: record.storage_id for record in records if record.partition_key}
        requests = list(_requests(source, newest, context.log))
        # Also past what cannot be crawled: one odd publication must not hold up those after it.
        return dg.SensorResult(run_requests=requests, cursor=str(max(record.storage_id for record in records)))

    return sensor


def _requests(source: Source, newest: dict[str, int], log: logging.Logger) -> Iterator[dg.RunRequest]:
    for key, storage_id in newest.items():
        try:
            source.partition(key)
        except PartitionKeyError as error:
            log.warning("%s is not crawled for this publication: %s", source.name, error)
            continue
        yield dg.RunRequest(run_key=f"{source.name}/{key}/{storage_id}", partition_key=key)
