"""The refreshing of marts: a job to ask for it, and the sensor that asks after publications."""

import dagster as dg

from assets.marts import GROUP
from sensors.schedules import Job

INTERVAL_SECONDS = 15


def build_marts_job() -> Job:
    """The job that builds and tests all marts."""
    return dg.define_asset_job(
        GROUP, dg.AssetSelection.groups(GROUP), description="Builds and tests all marts on what is published now."
    )


def build_marts_sensor() -> dg.SensorDefinition:
    """Evaluates the marts' automation condition (see `assets.marts.REFRESH`), apart from any other sensor."""
    return dg.AutomationConditionSensorDefinition(
        "marts_refresh",
        target=dg.AssetSelection.groups(GROUP),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Builds the marts again after their sources have published.",
    )
