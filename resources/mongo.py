"""MongoDB, where a connection string is configured."""

import dagster as dg

from gossamer.lake import Lake
from gossamer.source import Source


class MongoResource(dg.ConfigurableResource[None]):
    """A MongoDB database, by its connection string (a secret: give it by environment variable only)."""

    uri: str

    def upsert(self, lake: Lake, source: Source, key: str) -> dict[str, int]:
        """Upserts the published rows of a partition into the collection `<source>`; returns what was written."""
        from dataclasses import asdict

        from gossamer.publish.mongo import upsert

        return asdict(upsert(lake, source, key, self.uri))
