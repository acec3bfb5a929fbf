"""Published tables: the one door through which a partition reaches its readers.

`publish` is the only writer of the Delta tables `published/<source>`. It takes a partition whose checks passed and
whose layers belong together, compares its types with the table's (delta-rs would cast 1.7 into an integer column
without a word), and replaces the partition in one commit. Reading, marts and MongoDB are in the modules beside it.
"""

import contextlib
import hashlib
import random
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gossamer import acceptance
from gossamer.acceptance import Acceptance
from gossamer.errors import LakeError, PublicationRefusedError, SchemaConflictError
from gossamer.lake import INCOMPLETE, Lake, object_path
from gossamer.manifest import Manifest
from gossamer.schema import INSTANT, PARTITION
from gossamer.schema import published as published_schema
from gossamer.source import Source

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset

#: The layers of a partition in the order they are made, and the checks without which none of them is believed.
REQUIRED = {
    "raw": ("books_closed",),
    "clean": ("record_key", "expectations_critical"),
    "enriched": ("joins_matched", "rows_kept"),
}
ATTEMPTS = 8
#: Log and files live equally long: a version is readable only while both do.
CONFIGURATION = {
    "delta.checkpointInterval": "10",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
}
_KEPT = frozenset(
    (
        pl.Int8,
        pl.Int16,
        pl.Int32,
        pl.Int64,
        pl.Float32,
        pl.Float64,
        pl.Boolean,
        pl.String,
        pl.Binary,
        pl.Date,
        pl.Decimal,
    )
)
#: Types that Delta does not have: the smallest type it has that holds every value.
_WIDER: dict[Any, pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Decimal(20, 0),
    pl.Categorical: pl.String(),
    pl.Enum: pl.String(),
    pl.Null: pl.String(),
}
#: Commits of other tools that leave every row as it was.
_SAME_ROWS = frozenset(("OPTIMIZE", "VACUUM START", "VACUUM END"))
_RECENT = 50
#: Spark and Hive read no column whose name holds one of these.
_UNREADABLE = re.compile(r"[ ,;{}()\n\t=.`\x00-\x1f]")


@dataclass(frozen=True)
class Publication:
    """A partition as its readers see it.

    Attributes:
        version: the table version that brought it.
        previous_version: the table version that readers had before, None for a table's first one.
        columns: column name -> Polars type, as text.
        made_from: layer -> version of the data that it was made from.
        accepted: the person's word by which it was published in spite of failed checks, None where none had failed.
    """

    version: int
    rows: int
    previous_version: int | None
    columns: dict[str, str]
    made_from: Mapping[str, str] = field(default_factory=dict)
    accepted: Acceptance | None = None


@dataclass(frozen=True)
class HistoryEntry:
    """One publication of the past: `version` of the table, what it replaced, and where that came from.

    `accepted` is the reason for which a person accepted its failures, "" where there was nothing to accept. Of one that
    is older than the table's log, crawl, run, enriched version and reason are "", and `version` is the newest one: it
    has these rows, and whatever is published later gets a higher one. `marker` then says which data it was, None where
    that cannot be told.
    """

    version: int
    partition: str
    rows: int
    time: datetime
    crawl_id: str
    run_id: str
    enriched_version: str
    report: str
    accepted: str
    marker: int | None = None

    def brought(self, enriched: Manifest) -> bool:
        """Whether it is this very data that it brought to its readers."""
        if self.enriched_version:
            return self.enriched_version == enriched.version
        return self.marker == _number(enriched.version)


def publish(lake: Lake, source: Source, key: str, run_id: str = "") -> Publication:
    """Makes the enriched partition the one that readers see; the same data again changes nothing.

    Whatever goes wrong, readers keep the version they have.

    Raises:
        PartitionKeyError: the source has no such partition.
        PublicationRefusedError: a check failed or was never made, or the layers do not belong together.
        SchemaConflictError: columns that Delta cannot keep, or whose types differ from the published table's.
        LakeError: the lake cannot be read or written, or another writer won every time.
    """
    source.partition(key)
    suite = ("expectations_critical",) if source.enriched_suite_file else ()
    manifests = gate(lake, source.name, key, {"enriched": suite})
    enriched = manifests["enriched"]
    accepted = acceptance.holding(lake, source.name, key, manifests)
    about = {
        "partition": key,
        "crawl_id": manifests["raw"].crawl_id,
        "run_id": run_id,
        "enriched_version": enriched.version,
        "published_rows": str(enriched.rows),
        "report": lake.url(object_path("reports", source.name, key, ".html")),
        "accepted": accepted.reason if accepted else "",
    }
    with _copy(lake, source.name, key, enriched) as rows, _named(lake, source.name):
        made_from = {layer: manifest.version for layer, manifest in manifests.items()}
        return replace(_commit(lake, source, key, rows, enriched, about), made_from=made_from, accepted=accepted)


def gate(lake: Lake, source: str, key: str, more: Mapping[str, Sequence[str]] | None = None) -> dict[str, Manifest]:
    """The manifests of a partition that may be published, by layer; `more` are required checks beside `REQUIRED`.

    Raises:
        PublicationRefusedError: it may not; the text lists every reason and what to do.
    """
    manifests: dict[str, Manifest] = {}
    reasons: list[str] = []
    first_bad: str | None = None
    accepted = acceptance.read(lake, source, key)
    for layer, required in REQUIRED.items():
        try:
            manifests[layer] = manifest = lake.current(layer, source, key)
            found = manifest.unmade((*required, *(more or {}).get(layer, ())))
            if not any(acceptance.covers(one, manifest) for one in accepted):
                found += manifest.refusals()
        except LakeError as error:
            incomplete = lake.manifest(INCOMPLETE, source, key) if layer == "raw" else None
            found = (incomplete.refusals() if incomplete else []) or [str(error)]
        if found and first_bad is None:
            first_bad = layer
        reasons += found
    for above, below in (("raw", "clean"), ("clean", "enriched")):
        if above not in manifests or below not in manifests:
            continue
        made_from = manifests[below].inputs.get(f"{above}/{source}")
        if made_from is None:
            reasons.append(f"{below}/{source}: does not say which {above}/{source} it was made from")
        elif made_from != manifests[above].version:
            reasons.append(f"{below}/{source}: was made from another {above}/{source} than the one that lies there now")
        else:
            continue
        first_bad = first_bad or below
    if reasons:
        listed = "\n".join(f"- {reason}" for reason in reasons)
        raise PublicationRefusedError(
            f"{source}, partition {key}, is not published; readers keep the version they have.\n{listed}\n"
            f"Mend the cause, then materialise {first_bad}/{source} and the layers after it for this partition; or, "
            f"where the data is right all the same: gossamer accept {source} '{key}' --reason \"...\""
        )
    return manifests


def history(lake: Lake, source: str, limit: int | None = None) -> list[HistoryEntry]:
    """The publications of a source, newest first, as far as the table's log goes back (30 days)."""
    with _named(lake, source):
        table = lake.table(source)
        return [] if table is None else _entries(table.history(limit))


def publications(lake: Lake, source: str) -> dict[str, HistoryEntry]:
    """The newest publication of each partition; what is older than the table's log is told by the table itself.

    Raises:
        LakeError: the table is damaged or cannot be reached.
    """
    with _named(lake, source):
        table = lake.table(source)
        if table is None:
            return {}
        log, newest = table.history(), dict[str, HistoryEntry]()
        for entry in _entries(log):
            newest.setdefault(entry.partition, entry)
        return {**_older_than_log(lake, source, table, log, newest), **newest}


def dataset(lake: Lake, source: str) -> "Dataset | None":
    """What is published now, as Arrow scans it, None where nothing was published yet.

    Raises:
        LakeError: the table is damaged or cannot be reached.
    """
    table = lake.table(source)
    with _named(lake, source):
        return None if table is None else table.to_pyarrow_dataset()


# -- the write --------------------------------------------------------------------------------------------------------


def _commit(
    lake: Lake, source: Source, key: str, rows: pl.LazyFrame, enriched: Manifest, about: dict[str, str]
) -> Publication:
    from deltalake import CommitProperties, Transaction
    from deltalake.exceptions import CommitFailedError, DeltaError

    marker = _marker(key), _number(enriched.version)
    rows = _with_partition(source, rows, key)
    for attempt in range(ATTEMPTS):
        table = lake.table(source.name)
        # After the table was opened: whoever publishes newer data from here on collides with this write.
        if lake.version("enriched", source.name, key) != enriched.version:
            raise _replaced(source.name, key)
        schema = _fit(source, rows.collect_schema(), _schema(table))
        # The marker is committed with the rows: it outlives the log, and two writers of one partition collide on it.
        marked = table is not None and table.transaction_version(marker[0]) == marker[1]
        if table is not None and marked and _stands(table, key, enriched.version):
            return _publication(table, enriched, schema)
        options = {
            "partition_by": [PARTITION],
            "schema_mode": "merge",
            "configuration": CONFIGURATION if table is None else None,
            "predicate": f"{PARTITION} = '{key.replace(chr(39), chr(39) * 2)}'",
            "commit_properties": CommitProperties(
                custom_metadata=about, max_commit_retries=200, app_transactions=[Transaction(*marker)]
            ),
        }
        try:
            rows.cast(schema).sink_delta(
                lake.table_url(source.name) if table is None else table,
                mode="error" if table is None else "overwrite",
                credential_provider="auto" if table is not None else None,
                delta_write_options=options,
            )
        except CommitFailedError:
            # Another writer of this partition, or a column added meanwhile: look at the table again, check again.
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 (spreads writers, guards nothing)
            continue
        except DeltaError:
            if table is None and lake.table(source.name) is not None:
                continue  # another writer made the table meanwhile
            raise
        written = lake.table(source.name)
        if written is None:
            raise LakeError(f"{lake.table_url(source.name)} vanished while it was written. Publish again.")
        return _publication(written, enriched, schema)
    raise LakeError(
        f"published/{source.name}, partition {key}: other writers won {ATTEMPTS} times in a row. Publish it again."
    )


def _with_partition(source: Source, rows: pl.LazyFrame, key: str) -> pl.LazyFrame:
    if PARTITION in rows.collect_schema():
        raise SchemaConflictError(
            f"published/{source.name}: the rows have a column {PARTITION}, which is the platform's own. "
            f"Rename or drop it in {source.folder / 'transform.py'}."
        )
    return rows.with_columns(pl.lit(key).alias(PARTITION))


def _publication(table: "DeltaTable", enriched: Manifest, schema: Mapping[str, pl.DataType]) -> Publication:
    columns = {name: str(dtype) for name, dtype in schema.items()}
    brought = (entry["version"] for entry in _log(table) if entry.get("enriched_version") == enriched.version)
    # Older than the log: what readers see now is what there is to name.
    version = next(brought, table.version())
    return Publication(version, enriched.rows, version - 1 if version else None, columns)


def _stands(table: "DeltaTable", key: str, enriched_version: str) -> bool:
    """Whether the partition still has the rows of that version: a restored table keeps the marker, not the rows."""
    for entry in _log(table):
        if entry.get("enriched_version") == enriched_version:
            return True
        # A commit that names no partition is none of ours and may have changed any.
        if entry.get("partition", key) == key and entry["operation"] not in _SAME_ROWS:
            return False
    return True  # older than the log, and untouched since


def _log(table: "DeltaTable") -> Iterator[dict[str, Any]]:
    """The table's commits, newest first; the whole log is read only for who looks far back."""
    recent = table.history(_RECENT)
    yield from recent
    if len(recent) == _RECENT:
        yield from table.history()[_RECENT:]


def _entries(log: Sequence[Mapping[str, Any]]) -> list[HistoryEntry]:
    return [
        HistoryEntry(
            version=entry["version"],
            partition=entry["partition"],
            rows=int(entry["published_rows"]),
            time=datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
            crawl_id=entry["crawl_id"],
            run_id=entry["run_id"],
            enriched_version=entry["enriched_version"],
            report=entry["report"],
            accepted=entry.get("accepted", ""),
        )
        for entry in log
        if "enriched_version" in entry
    ]


def _older_than_log(
    lake: Lake, source: str, table: "DeltaTable", log: Sequence[Mapping[str, Any]], logged: Collection[str]
) -> dict[str, HistoryEntry]:
    """The publications that the log no longer has: of partitions with rows, and of some that were published empty."""
    # What another tool restored or deleted is not what the marker, which outlives both, speaks of.
    is_ours = all("partition" in entry or entry["operation"] in _SAME_ROWS for entry in log)
    found: dict[str, tuple[int, datetime, int | None]] = {}
    for key, rows, written in _files(table):
        if key not in logged:
            found[key] = rows, written, table.transaction_version(_marker(key)) if is_ours else None
    for key in set(lake.partitions("enriched", source)) - found.keys() - set(logged) if is_ours else ():
        enriched, marker = lake.manifest("enriched", source, key), table.transaction_version(_marker(key))
        if enriched and enriched.rows == 0 and marker == _number(enriched.version):
            found[key] = 0, enriched.written_at, marker
    return {
        key: HistoryEntry(
            version=table.version(),
            partition=key,
            rows=rows,
            time=written,
            crawl_id="",
            run_id="",
            enriched_version="",
            report=lake.url(object_path("reports", source, key, ".html")),
            accepted="",
            marker=marker,
        )
        for key, (rows, written, marker) in found.items()
    }


def _files(table: "DeltaTable") -> Iterator[tuple[str, int, datetime]]:
    """Each partition that has rows: its key, how many, and when they were written."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    if files.is_empty():
        return
    key = pl.col(f"partition.{PARTITION}")
    written = pl.from_epoch(pl.col("modification_time").max(), "ms").dt.replace_time_zone("UTC")
    yield from files.group_by(key).agg(pl.col("num_records").sum(), written).iter_rows()


def _marker(key: str) -> str:
    """The name under which the table keeps, for ever, which data a partition has."""
    return f"partition:{key}"


def _number(version: str) -> int:
    """A version as the number that a Delta transaction marker takes (signed, 64 bits)."""
    return int.from_bytes(hashlib.sha256(version.encode()).digest()[:7])


# -- types ------------------------------------------------------------------------------------------------------------


def _schema(table: "DeltaTable | None") -> pl.Schema:
    return pl.Schema() if table is None else pl.scan_delta(table).collect_schema()


def _fit(source: Source, rows: pl.Schema, published: pl.Schema) -> pl.Schema:
    """The types in which the rows are stored; raises `SchemaConflictError` where the table cannot take them."""
    declared = published_schema(source.spec)
    wanted: dict[str, pl.DataType] = {}
    faults = _names_at_fault(rows.names(), published.names())
    for name, dtype in rows.items():
        try:
            wanted[name] = storable(dtype)
        except TypeError as error:
            faults.append(f"{name}: {error}")
            continue
        if dtype == pl.Null:  # nothing but nulls fits any column
            wanted[name] = published.get(name) or declared.get(name) or pl.String()
        elif name in published and published[name] != wanted[name]:
            faults.append(f"{name}: is {wanted[name]}, published is {published[name]}")
    if faults:
        listed = "\n".join(f"- {fault}" for fault in faults)
        raise SchemaConflictError(
            f"published/{source.name}: these columns do not fit the published table; nothing was written.\n{listed}\n"
            f"Cast them in {source.folder / 'transform.py'} (or declare the old type in source.yaml), give new values "
            "a new column name, or, where the change is meant, publish under a new source name."
        )
    return pl.Schema(wanted)


def _names_at_fault(names: Sequence[str], published: Sequence[str]) -> list[str]:
    faults = [
        f"{name!r}: readers such as Spark refuse the name; use letters, digits and '_'"
        for name in names
        if not name or _UNREADABLE.search(name)
    ]
    known = {name.casefold(): name for name in published}
    for name in names:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            faults.append(f"{name}: differs from {other} in upper and lower case only")
    return faults


def storable(dtype: pl.DataType) -> pl.DataType:
    """The Delta type that holds every value of a Polars type; raises `TypeError` (with a remedy) where none does."""
    base = dtype.base_type()
    if base in _KEPT:
        return dtype
    if base in _WIDER:
        return _WIDER[base]
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            raise TypeError(
                "a time without a zone is a different instant for each reader; use replace_time_zone('UTC')"
            )
        return INSTANT
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(storable(_instance(dtype.inner)))
    if isinstance(dtype, pl.Struct) and dtype.fields:
        return pl.Struct({field.name: storable(_instance(field.dtype)) for field in dtype.fields})
    raise TypeError(f"{dtype} has no Delta type; use text or a number (microseconds for a duration)")


def _instance(dtype: Any) -> pl.DataType:
    """`pl.Int64` as well as `pl.Int64()`: Polars keeps the inner types as they were written."""
    return dtype if isinstance(dtype, pl.DataType) else dtype()


# -- reading what is published, storage errors ------------------------------------------------------------------------


@contextlib.contextmanager
def _copy(lake: Lake, source: str, key: str, enriched: Manifest) -> Iterator[pl.LazyFrame]:
    """The very rows that the manifest speaks of, on local disk: the object may be replaced while it is published."""
    import obstore

    path = object_path("enriched", source, key)
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        rows = Path(folder) / "rows.parquet"
        with _named(lake, source), rows.open("wb") as file:
            for chunk in obstore.get(lake.store, path):
                file.write(chunk)
        if pl.read_parquet_metadata(rows).get("gossamer.version") != enriched.version:
            raise _replaced(source, key)
        yield pl.scan_parquet(rows, glob=False)


def _replaced(source: str, key: str) -> PublicationRefusedError:
    return PublicationRefusedError(
        f"enriched/{source}, partition {key}: the data was replaced while it was published; readers keep the "
        "version they have. Publish again."
    )


@contextlib.contextmanager
def _named(lake: Lake, source: str) -> Iterator[None]:
    """Turns what storage libraries raise into a `LakeError` that names the table and the remedy."""
    from deltalake.exceptions import DeltaError
    from obstore.exceptions import BaseError

    try:
        yield
    except (DeltaError, BaseError, OSError, pl.exceptions.ComputeError) as error:
        text = str(error).strip()
        remedy = "Check that the lake exists and may be written, then publish again."
        if "No space left" in text or "StorageFull" in text:
            remedy = "No space is left: make room, then publish again."
        cause = text.splitlines()[0] if text else type(error).__name__
        raise LakeError(
            f"published/{source} ({lake.table_url(source)}): {cause}. Readers keep the version they have. {remedy}"
        ) from error
