"""Questions in SQL: one DuckDB connection over everything that is published.

Each published source is a view of its name, whether its declaration is sound or not; each mart is a table
`marts.<model>`; where they are asked for, `dead_letters`, `quarantine` and `changes` have those of all sources. The
connection is for reading, and knows no files but these. Who builds the marts is dbt (`dbt_project/`).
"""

import logging
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import polars as pl

from gossamer.errors import LakeError
from gossamer.lake import PUBLISHED, Lake
from gossamer.publish.tables import dataset
from gossamer.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_log = logging.getLogger(__name__)

MARTS = "marts"
#: Layers beside the published rows, each a table over all partitions of all sources: the requests that failed for good,
#: the rows that no reader sees, and what differs from the partition before; with the columns that each always has.
BESIDE = {"dead_letters": ("url", "reason"), "quarantine": ("_url", "_reason"), "changes": ("_url", "change")}
#: How long a query waits for a dbt run that is writing the warehouse.
PATIENCE_S = 15.0


def connect(
    settings: Settings, patience_s: float = PATIENCE_S, *, beside: Collection[str] = ()
) -> "DuckDBPyConnection":
    """A connection that sees what is published now; a later publication is seen by a later connection.

    A published table that is damaged is no view; a logged warning says why, and the others can be asked.
    While it is open, the marts cannot be rebuilt (DuckDB's lock): close it when the question is answered.

    Args:
        beside: which of `BESIDE` are read too, of every partition; they are many small objects.

    Raises:
        LakeError: the warehouse is being written and stays so for `patience_s` seconds, or cannot be read.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        lake = Lake(settings.lake)
        for name in sorted(_sources(lake, PUBLISHED)):
            try:
                rows = dataset(lake, name)
            except LakeError as error:
                _log.warning("%s cannot be asked. %s", name, error)
                continue
            if rows is not None:
                connection.register(name, rows)
        for layer in beside:
            connection.register(layer, _all_partitions(lake, layer).to_arrow())
        _attach_marts(connection, settings, patience_s)
        # No other file, no Python variable of the caller, and no way back.
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def _all_partitions(lake: Lake, layer: str) -> pl.DataFrame:
    none = pl.LazyFrame(schema=dict.fromkeys(["source", "partition_key", *BESIDE[layer]], pl.String))
    frames = [
        lake.scan(layer, source, key).with_columns(source=pl.lit(source), partition_key=pl.lit(key))
        for source in sorted(_sources(lake, layer))
        for key in lake.partitions(layer, source)
    ]
    return pl.concat([none, *frames], how="diagonal_relaxed").collect()


def _sources(lake: Lake, layer: str) -> Iterator[str]:
    """The sources that have a folder in the layer: rows stay when a declaration breaks or is removed."""
    import obstore

    try:
        folders = obstore.list_with_delimiter(lake.store, f"{layer}/")["common_prefixes"]
    except (obstore.exceptions.BaseError, OSError) as error:
        place = lake.url(layer)
        raise LakeError(f"Cannot list {place}: {error}. Check that it exists and may be used.") from error
    yield from (folder.rstrip("/").rpartition("/")[2] for folder in folders)


def _attach_marts(connection: "DuckDBPyConnection", settings: Settings, patience_s: float) -> None:
    """Attaches the warehouse so that its tables answer to `marts.<model>`; before dbt ran there are none."""
    if not settings.warehouse.exists():
        return
    _attach(connection, settings, patience_s)
    schemas = connection.execute(
        "SELECT schema_name FROM duckdb_schemas() WHERE database_name = 'warehouse'"
    ).fetchall()
    if (MARTS,) in schemas:
        connection.execute(f"SET search_path = 'memory.main,warehouse.{MARTS}'")


def _attach(connection: "DuckDBPyConnection", settings: Settings, patience_s: float) -> None:
    import duckdb

    place = str(settings.warehouse).replace("'", "''")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection.execute(f"ATTACH '{place}' AS warehouse (READ_ONLY)")
            return
        except duckdb.Error as error:
            if "Could not set lock" not in str(error):
                raise LakeError(
                    f"The warehouse {settings.warehouse} cannot be read: {str(error).splitlines()[0]} "
                    "Materialise the marts again; if that fails too, remove the file first (dbt makes it anew)."
                ) from error
            if time.monotonic() > deadline:
                raise LakeError(
                    f"The warehouse {settings.warehouse} has been locked for {patience_s:.0f} s: the marts are being "
                    "built, or another program has it open for writing. Ask again when that is done."
                ) from error
        time.sleep(0.2)
