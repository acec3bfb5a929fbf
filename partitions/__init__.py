"""Dagster's view of a source's partitions.

Only the translation belongs here; what keys a declaration has and what they mean is in `gossamer.partition`, so that
the engine and the command line agree with Dagster.
"""

import dagster as dg

from gossamer.partition import Partitions

_CRON = {"hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *"}

#: Names of the two dimensions. Dagster orders dimensions by name, so that a key reads `period|segment`.
PERIOD, SEGMENT = "period", "segment"


def build(partitions: Partitions) -> dg.PartitionsDefinition[str]:
    """The partitions definition of a declaration: periods, segments, or both (two dimensions)."""
    dimensions: dict[str, dg.PartitionsDefinition[str]] = {}
    if partitions.period:
        dimensions[PERIOD] = _periods(partitions)
    if partitions.segments:
        dimensions[SEGMENT] = dg.StaticPartitionsDefinition(list(partitions.segments))
    if len(dimensions) == 1:
        return next(iter(dimensions.values()))
    return dg.MultiPartitionsDefinition(dimensions)


def _periods(partitions: Partitions) -> dg.TimeWindowPartitionsDefinition:
    assert partitions.period
    return dg.TimeWindowPartitionsDefinition(
        cron_schedule=_CRON[partitions.period],
        start=partitions.first_date.strftime(partitions.key_format),
        end=partitions.end.strftime(partitions.key_format) if partitions.end else None,
        fmt=partitions.key_format,
        timezone=partitions.timezone,
        # The current period is a partition: a crawl shows the site as it is now (see gossamer.partition).
        end_offset=1,
    )
