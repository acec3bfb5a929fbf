"""How a declared source becomes assets: raw, dead letters, clean, enriched, published, MongoDB; and the dbt marts.

`specs` says what every asset carries, `layers` has one builder a layer, `metadata` what a materialisation shows,
`marts` the dbt models. What happens to the rows is in `gossamer`; here it is only given its place in Dagster.
"""

from collections.abc import Mapping

import dagster as dg

from assets import layers
from gossamer.source import Source


def build_source_assets(
    source: Source, declared: Mapping[str, Source], mongo: bool = False
) -> list[dg.AssetsDefinition]:
    """The assets of one source. `declared` are all sources, also those of other code locations."""
    assets = [layers.raw(source), layers.clean(source), layers.enriched(source), layers.published(source)]
    return [*assets, layers.mongo(source)] if mongo else assets
