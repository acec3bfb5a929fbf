"""Great Expectations' Data Docs as one asset, built when it is asked for: a site of every stored validation result.

They are kept out of the partitions' own steps: a site grows with every result, and most readers want the reports.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from assets import metadata
from gossamer.lake import Lake
from gossamer.source import Source
from resources import failures
from resources.pages import PagesResource

KEY = dg.AssetKey(["quality", "data_docs"])


def build_data_docs(sources: Iterable[Source]) -> dg.AssetsDefinition:
    """The asset, for the sources of this code location that have a suite."""
    names = sorted(source.name for source in sources if source.suite_file or source.enriched_suite_file)

    @dg.asset(
        key=KEY,
        group_name="quality",
        kinds={"greatexpectations", "html"},
        description="Great Expectations' Data Docs over the newest validation results of every source. On request.",
    )
    def data_docs_site(lake: dg.ResourceParam[Lake], pages: PagesResource) -> dg.MaterializeResult[Any]:
        from gossamer.quality import data_docs

        with failures.named():
            built = data_docs.build(lake, names)
            shown = {"pages": built.pages, "bytes": built.bytes}
            return dg.MaterializeResult(
                metadata={**shown, "site": metadata.page(lake, pages, f"{data_docs.FOLDER}/index.html")}
            )

    return data_docs_site
