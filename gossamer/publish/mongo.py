"""Published rows as documents of a MongoDB collection `<source>`, one a record, each as it was published last.

A document's `_id` is the record's key, so that publishing again replaces and never doubles; what a partition brought
and no longer has is removed. What is published, and when, is decided in `tables`; here it is only carried over.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gossamer.errors import ConfigurationError, GossamerError, LakeError
from gossamer.lake import Lake
from gossamer.publish.tables import publications
from gossamer.source import Source

if TYPE_CHECKING:
    from pymongo import MongoClient, ReplaceOne
    from pymongo.collection import Collection

BATCH = 1000
#: Field of every document that says which publication it comes from.
PUBLISHED = "_published"
WAIT_MS = 10_000
SOCKET_MS = 60_000
_DUPLICATE_KEY = 11000
_SETTING = "GOSSAMER_MONGO_URI"
_EXAMPLE = "Write it like mongodb://user:password@host:27017/database, with user and password percent-encoded."
#: Partitions without a period have no order but that of their publication.
_NO_PERIOD = datetime(1970, 1, 1, tzinfo=UTC)


class MongoError(GossamerError):
    """MongoDB cannot be reached, or refused what was written."""


@dataclass(frozen=True)
class MongoCounts:
    """What became of a partition's rows: rows = inserted + replaced + kept + without_key.

    Attributes:
        kept: documents left as they were: they come from this publication already, or from a newer one.
        without_key: rows in which a key field is null: nothing identifies them, no document holds them.
        removed: documents that an earlier publication of the partition brought, and that it no longer has.
    """

    rows: int
    inserted: int
    replaced: int
    kept: int
    without_key: int
    removed: int = 0


def upsert(lake: Lake, source: Source, key: str, uri: str) -> MongoCounts:
    """Upserts the published rows of a partition into the collection `<source>` of the connection string's database.

    `_id` is the value of the key field, a sub-document where the key has several fields. A source with segments has
    the segment in it too: a key identifies a record within its partition only. `_published` holds the partition, the
    table version, and both as the order in which publications count: an older one replaces nothing. Of a publication
    that the table's log no longer has, it is the version that was read: no newer publication has a lower one.
    Documents that an earlier publication of this partition brought and this one no longer has are deleted, those that
    another partition has taken over are not. Of two publications of a partition that are written at one moment, the
    older may leave documents behind that the newer no longer has, until the partition is written again.

    Raises:
        LakeError: the partition was never published.
        ConfigurationError: the connection string is wrong or names no database.
        MongoError: the server cannot be reached or refused a document.
    """
    entry = publications(lake, source.name).get(key)
    frame = None if entry is None else lake.scan_published(source.name, key, entry.version)
    if entry is None or frame is None:
        raise LakeError(f"Nothing is published of {source.name}, partition {key}. Materialise published/{source.name}.")
    if taken := {"_id", PUBLISHED} & {*frame.collect_schema()}:
        raise MongoError(
            f"{source.name}: the column {', '.join(taken)} is MongoDB's own here. Rename it in transform.py."
        )
    slice_ = source.partition(key)
    start = _NO_PERIOD if slice_.starts is None else slice_.starts.astimezone(UTC)
    # Text that sorts as the publications do: by period, then by version.
    about = {"partition": key, "version": entry.version, "order": f"{start:%Y-%m-%dT%H:%M}Z {entry.version:012}"}
    fields = source.spec.record.key
    rows = inserted = replaced = kept = without_key = 0
    with _database(uri) as (client, place), _named(place, source.name):
        collection: Collection[dict[str, Any]] = client.get_default_database()[source.name]
        for batch in frame.collect_batches(chunk_size=BATCH):
            writes = []
            for row in batch.iter_rows(named=True):
                if any(row[field] is None for field in fields):
                    without_key += 1
                else:
                    writes.append(_write(row, fields, slice_.segment, about))
            rows += batch.height
            for first in range(0, len(writes), BATCH):
                new, old, refused = _send(collection, writes[first : first + BATCH])
                inserted, replaced, kept = inserted + new, replaced + old, kept + refused
        removed = _remove(collection, about)
    return MongoCounts(rows, inserted, replaced, kept, without_key, removed)


def _write(
    row: Mapping[str, Any], fields: Sequence[str], segment: str | None, about: Mapping[str, Any]
) -> "ReplaceOne[dict[str, Any]]":
    """Replaces the record's document if that is older.

    Where it is not, nothing matches and MongoDB inserts a second one, which its own unique index on `_id` refuses: the
    comparison and the write are one step for the server, whoever else writes.
    """
    from pymongo import ReplaceOne

    identity: dict[str, Any] = {field: _bson(row[field]) for field in fields}
    if segment is not None:
        identity["segment"] = segment
    _id = identity if len(identity) > 1 else next(iter(identity.values()))
    document = {**{name: _bson(value) for name, value in row.items()}, PUBLISHED: dict(about)}
    return ReplaceOne({"_id": _id, f"{PUBLISHED}.order": {"$lt": about["order"]}}, document, upsert=True)


def _send(
    collection: "Collection[dict[str, Any]]", writes: "Sequence[ReplaceOne[dict[str, Any]]]"
) -> tuple[int, int, int]:
    """Writes one batch: documents inserted, replaced, and kept because they are as new or newer."""
    from pymongo.errors import BulkWriteError

    try:
        result = collection.bulk_write(writes, ordered=False)
        return result.upserted_count, result.matched_count, 0
    except BulkWriteError as error:
        details: Mapping[str, Any] = error.details or {}
        faults = details.get("writeErrors", [])
        others = [fault for fault in faults if not _lost_to_newer(fault)]
        if others or details.get("writeConcernErrors"):
            cause = (others or details["writeConcernErrors"])[0].get("errmsg", "unknown")
            raise MongoError(
                f"MongoDB refused {len(others) or 'all'} of {len(writes)} documents of {collection.name}: {cause}. "
                "Mend that (an index, a validator of the collection, the disk), then materialise the partition again."
            ) from None
        return details["nUpserted"], details["nMatched"], len(faults)


def _remove(collection: "Collection[dict[str, Any]]", about: Mapping[str, Any]) -> int:
    """Deletes what is left of the partition's earlier publications, once this one is written; gives how many.

    A document that was replaced belongs to the publication that did it, and the server looks at that as it deletes:
    what another partition has, or a newer publication of this one, stays whoever writes meanwhile.
    """
    partition, order = f"{PUBLISHED}.partition", f"{PUBLISHED}.order"
    # Without it, each of a thousand partitions would read the whole collection.
    collection.create_index([(partition, 1), (order, 1)])
    return collection.delete_many({partition: about["partition"], order: {"$lt": about["order"]}}).deleted_count


def _lost_to_newer(fault: Mapping[str, Any]) -> bool:
    """True for the unique index on `_id`; a user's own unique index that refuses a document is an error."""
    index = fault.get("keyPattern")
    return fault.get("code") == _DUPLICATE_KEY and (index == {"_id": 1} if index else "_id" in fault.get("errmsg", ""))


def _bson(value: Any) -> Any:
    """A value as BSON has it: amounts exact, days as midnight UTC."""
    from bson.decimal128 import Decimal128

    if isinstance(value, Decimal):
        return Decimal128(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, list):
        return [_bson(item) for item in value]
    if isinstance(value, dict):
        return {name: _bson(item) for name, item in value.items()}
    return value


@contextlib.contextmanager
def _database(uri: str) -> "Iterator[tuple[MongoClient[dict[str, Any]], str]]":
    """A client, and where it is connected to, without user and password."""
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError as WrongUri
    from pymongo.errors import InvalidURI

    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri, serverSelectionTimeoutMS=WAIT_MS, connectTimeoutMS=WAIT_MS, socketTimeoutMS=SOCKET_MS, tz_aware=True
        )
    except (InvalidURI, WrongUri, ValueError) as error:
        # Its words may quote the connection string, and with it the password.
        raise ConfigurationError(f"{_SETTING} is no connection string ({type(error).__name__}). {_EXAMPLE}") from None
    with client:
        try:
            database = client.get_default_database().name
        except WrongUri:
            raise ConfigurationError(f"{_SETTING} names no database. {_EXAMPLE}") from None
        hosts = ", ".join(f"{host}:{port}" for host, port in sorted(client.topology_description.server_descriptions()))
        yield client, f"{hosts}/{database}"


@contextlib.contextmanager
def _named(place: str, source: str) -> Iterator[None]:
    """Turns what pymongo raises into a `MongoError` that names the place and the remedy."""
    from bson.errors import BSONError
    from pymongo.errors import PyMongoError

    try:
        yield
    except PyMongoError as error:
        cause = str(error).partition(", Timeout:")[0]
        raise MongoError(
            f"MongoDB at {place}: {cause}. Check that it runs and that {_SETTING} is right, then materialise "
            f"mongo/{source} again; what was written stays and is not doubled."
        ) from None
    except (BSONError, OverflowError) as error:
        raise MongoError(
            f"{source}: a row cannot be a MongoDB document: {error}. Change its type in transform.py."
        ) from error
