"""How a declared source becomes assets: raw, dead letters, clean, enriched, published, MongoDB; and the dbt marts.

`specs` says what every asset carries, `layers` has one builder a layer, `metadata` what a materialisation shows,
`marts` the dbt models. What happens to the rows is in `gossamer`; here it is only given its place in Dagster.
"""

import warnings

import dagster as dg

from assets import layers
from gossamer.source import Source


def build_source_assets(source: Source, *, mongo: bool = False) -> list[dg.AssetsDefinition]:
    """The assets of one source; `mongo` adds the one that needs a MongoDB."""
    with warnings.catch_warnings():
        # Partitioned checks are in preview and backfill policies in beta; both are relied on knowingly, and tests
        # hold what they do (tests/test_checks.py).
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [layers.raw(source), layers.clean(source), layers.enriched(source), layers.published(source)]
        return [*assets, layers.mongo(source)] if mongo else assets
