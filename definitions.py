"""Everything Dagster knows, built by one function: the UI, the command line, tests and production load `build_defs`.

A code location is an entry of `workspace.yaml`. `attribute: defs` has every declared source; any other attribute is a
selection of them, so that a big installation can split its sources: `attribute: "only=shop,eu_*"` takes those names,
`attribute: "folder=/srv/sources/eu"` another folder.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets import build_source_assets
from assets.accept import build_accept_job
from assets.control import build_control_job
from assets.data_docs import build_data_docs
from assets.marts import build_dbt_resource, build_marts
from assets.rerun import build_recheck_job
from gossamer import declarations
from gossamer.errors import ConfigurationError
from gossamer.settings import Settings
from gossamer.source import Source
from resources import build_resources
from sensors.chains import build_chain_sensor
from sensors.marts import build_marts_job, build_marts_sensor
from sensors.reaper import build_reaper_sensor
from sensors.schedules import build_job, build_schedule

log = logging.getLogger("gossamer")


def build_defs(
    settings: Settings | None = None, *, only: Sequence[str] = ("*",), resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """The definitions of the declared sources whose names match `only`; `resources` replaces some by name."""
    settings = settings or Settings.load()
    declared = declarations.load(settings.sources)
    left_out = {error.name: str(error) for error in declared.errors}
    chosen = list(declared.select(only).sources.values())
    assets = [a for source in chosen for a in build_source_assets(source, mongo=bool(settings.mongo_uri))]
    given = build_resources(settings)
    try:
        if marts := build_marts(settings, [source.name for source in chosen]):
            given["dbt"] = build_dbt_resource(settings)
    except ConfigurationError as error:  # takes nothing from the sources
        marts, left_out["marts"] = [], str(error)
    for name, why in left_out.items():
        log.warning("Left out: %s. %s", name, why)
    return dg.Definitions(
        assets=[*assets, *marts, *([build_data_docs(chosen)] if chosen and tuple(only) == ("*",) else [])],
        jobs=[
            *(build_job(source) for source in chosen),
            *(_jobs_for_people(chosen, {**given, **(resources or {})}) if chosen else []),
            *([build_marts_job()] if marts else []),
        ],
        schedules=[build_schedule(source) for source in chosen if source.spec.schedule],
        sensors=[
            *(build_chain_sensor(source) for source in chosen if source.spec.seeds.upstream),
            *([build_marts_sensor()] if marts else []),
            *([build_reaper_sensor(settings)] if settings.launcher == "kubernetes" else []),
        ],
        resources={**given, **(resources or {})},
        # A run has a handful of short steps around one crawl, which has a process of its own already.
        executor=dg.in_process_executor,
        metadata={f"left out: {name}": why for name, why in left_out.items()},
    )


def _jobs_for_people(sources: Sequence[Source], resources: Mapping[str, Any]) -> list[dg.JobDefinition]:
    return [
        build_control_job(sources),
        build_recheck_job(sources, resources),
        build_accept_job(sources, resources),
    ]


@dg.definitions
def defs() -> dg.Definitions:
    """Every declared source."""
    return build_defs()


def __getattr__(attribute: str) -> dg.Definitions:
    kind, separator, value = attribute.partition("=")
    if separator and kind == "only":
        return build_defs(only=[pattern.strip() for pattern in value.split(",")])
    if separator and kind == "folder":
        return build_defs(Settings.load(sources=value))
    raise AttributeError(f"definitions has no attribute {attribute!r}; use defs, only=NAMES or folder=PATH")
