"""dbt-duckdb's door to the published tables: a dbt source of the lake is the Delta table's newest version.

dbt's profile names this module; the lake comes from the GOSSAMER_* settings, so that `sources.yml` holds no address and
no credentials. Nothing else may import it: it needs dbt.
"""

from typing import Any

import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import SourceConfig

from gossamer import declarations
from gossamer.lake import Lake
from gossamer.publish.tables import dataset
from gossamer.schema import published as published_schema
from gossamer.settings import Settings


class Plugin(BasePlugin):
    """Gives dbt each published source as a dataset that DuckDB scans with its filters and columns only."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        self.settings = Settings.load()

    def load(self, source_config: SourceConfig) -> Any:
        """The published rows; an empty table of the declared columns where nothing was published yet.

        Columns that joins and `transform.py` add are no part of a declaration: `meta.adds` in `sources.yml` names those
        that the models read (column -> Arrow type).
        """
        rows = dataset(Lake(self.settings.lake), source_config.identifier)
        return self._empty(source_config) if rows is None else rows

    def _empty(self, source_config: SourceConfig) -> pa.Table:
        source = declarations.load(self.settings.sources)[source_config.identifier]
        rows = published_schema(source.spec).to_frame().to_arrow()
        for name, alias in source_config.meta.get("adds", {}).items():
            rows = rows.append_column(name, pa.array([], pa.type_for_alias(alias)))
        return rows

    def default_materialization(self) -> str:
        """Views: the rows are read from the lake by the models, not copied into the warehouse."""
        return "view"
