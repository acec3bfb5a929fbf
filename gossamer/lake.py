"""The lake: where data lies and how it is committed, on a folder and on S3 alike.

Below `published`, a partition is one Parquet object `<layer>/<source>/<key>.parquet`, replaced by one atomic put, with
its manifest `<key>.json` beside it. `published/<source>` is a Delta table that only `gossamer.publish` writes; here it
is only read. Nothing here knows what a layer's rows mean.
"""

import contextlib
import errno
import glob
import io
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gossamer.errors import LakeAwayError, LakeError
from gossamer.manifest import CheckResult, Manifest
from gossamer.partition import SEPARATOR

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from obstore.store import ClientConfig, ObjectStore

PUBLISHED = "published"
#: The layer of crawls whose books did not close; `raw` keeps the last complete crawl of a partition.
INCOMPLETE = "incomplete"
_VERSION = "gossamer.version"
#: A writer's temporary file that was not touched for so long belongs to a writer that was killed.
_LEFTOVER_S = 3600.0
#: A connection may be dead without a word (an idle one behind a NAT, a server that was replaced). So whoever reads, or
#: writes little, tries again when S3 is silent for so long: well before others take a process for dead by its silence
#: (`identity.SILENCE_SECONDS`). Large puts have obstore's time-outs.
SILENT_SECONDS = 8.0
_CONNECT_SECONDS = 4.0
_LITTLE_BYTES = 1_000_000
#: What obstore does not try again by itself is tried for so long, as obstore does with what it tries again.
RETRY_SECONDS = 180.0
#: What obstore takes of these from variables (`AWS_ALLOW_HTTP`), it takes only where no client option is given.
_CLIENT_OPTIONS = (
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "randomize_addresses",
    "read_timeout",
    "root_certificate",
    "timeout",
    "user_agent",
)


@dataclass(frozen=True)
class Staged:
    """Rows on local disk, complete but not in the lake yet."""

    path: Path
    version: str
    rows: int
    columns: Mapping[str, str]

    @property
    def frame(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.path, glob=False)


@contextlib.contextmanager
def stage(frame: pl.LazyFrame | pl.DataFrame, group_rows: int | None = None) -> Iterator[Staged]:
    """Computes `frame` once, streaming, into a temporary Parquet file that lives as long as the context.

    Args:
        group_rows: rows that are in memory at a time, and in a row group of the file; None: a quarter of a million.
    """
    version = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        path = Path(folder) / "rows.parquet"
        try:
            frame.lazy().sink_parquet(path, metadata={_VERSION: version}, compression="zstd", row_group_size=group_rows)
        except (OSError, pl.exceptions.ComputeError) as error:
            if not _is_no_space(error):
                raise
            raise LakeError(f"No space left: write temporary rows to {path}. Make room or set TMPDIR.") from error
        columns = {name: str(dtype) for name, dtype in pl.read_parquet_schema(path).items()}
        rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        yield Staged(path, version, rows, columns)


class Lake:
    """The objects of one lake: a local folder (made where it is missing) or `s3://bucket/prefix`.

    S3 endpoint and credentials come from the standard AWS_* variables, for every library alike.
    """

    def __init__(self, uri: str) -> None:
        place = uri.removeprefix("file://")
        self.uri = place.rstrip("/")
        self.is_local = "://" not in place
        # The libraries disagree on how these characters are written in an address, and would use different places.
        if not self.is_local and not re.fullmatch(r"s3://[A-Za-z0-9._-]+(?:/[^/?#%]+)*", self.uri):
            raise LakeError(f"{uri!r} is no place for a lake. Use a folder, or s3://bucket/prefix without ?, # and %.")

    @cached_property
    def store(self) -> "ObjectStore":
        """The obstore view of the lake; conditional puts work on both kinds."""
        from obstore.store import LocalStore, from_url

        with _named("open the lake", self.uri):
            return LocalStore(self.uri, mkdir=True) if self.is_local else from_url(self.uri)

    @cached_property
    def _prompt(self) -> "ObjectStore":
        """The same for requests that are to be answered promptly (`SILENT_SECONDS`)."""
        from obstore.store import from_url

        if self.is_local:
            return self.store
        with _named("open the lake", self.uri):
            return from_url(self.uri, client_options=_prompt_options())

    def url(self, path: str) -> str:
        """The address of an object, as Polars, Delta and people take it."""
        return f"{self.uri}/{path}"

    def get(self, path: str) -> bytes | None:
        """The object's bytes, or None where there is none."""
        import obstore

        with _named("read", self.url(path)):
            try:
                return bytes(obstore.get(self._prompt, path).bytes())
            except FileNotFoundError:
                return None

    def put(self, path: str, content: bytes | Path) -> None:
        """Replaces the object by one atomic put: a reader sees the old one or the new one."""
        import obstore

        with _named("write", self.url(path)):
            obstore.put(self._store_for(content), path, content)

    def create(self, path: str, content: bytes) -> bool:
        """Puts the object only where there is none; False where there was one.

        That one may be this very put's: of a try whose answer was lost.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with _named("write", self.url(path)):
            try:
                _until_answered(lambda: obstore.put(self._store_for(content), path, content, mode="create"))
            except AlreadyExistsError:
                return False
            return True

    def delete(self, path: str) -> None:
        """Removes the object, where there is one."""
        import obstore

        with _named("delete", self.url(path)), contextlib.suppress(FileNotFoundError):
            _until_answered(lambda: obstore.delete(self._prompt, path))

    def paths(self, prefix: str) -> Iterator[str]:
        """The paths of the objects below a prefix."""
        import obstore

        with _named("list", self.url(prefix)):
            for batch in obstore.list(self._prompt, prefix):
                yield from (meta["path"] for meta in batch)

    def _store_for(self, content: bytes | Path) -> "ObjectStore":
        """Silence means nothing while a large object is on its way."""
        is_little = isinstance(content, bytes) and len(content) < _LITTLE_BYTES
        return self._prompt if is_little else self.store

    def get_json(self, path: str) -> Any:
        """The object read as JSON, or None where there is none."""
        content = self.get(path)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            raise LakeError(f"{self.url(path)} is not JSON ({error}). Materialise its partition again.") from error

    def put_json(self, path: str, value: Any) -> None:
        self.put(path, json.dumps(value, ensure_ascii=False, indent=1).encode())

    # -- partitions of the layers below `published` ---------------------------------------------------------------

    def commit(
        self,
        layer: str,
        source: str,
        key: str,
        staged: Staged,
        *,
        checks: Sequence[CheckResult] = (),
        inputs: Mapping[str, str] | None = None,
        **known: Any,
    ) -> Manifest:
        """Replaces a partition: its Parquet object, then its manifest with the verdict.

        Killed between the two puts, the old manifest does not fit the new data, and `current` refuses the pair.
        `known` takes the other fields of `Manifest` (crawl_id, run_id, code_version, notes).
        """
        manifest = Manifest(
            layer=layer,
            source=source,
            partition=key,
            version=staged.version,
            rows=staged.rows,
            columns=dict(staged.columns),
            checks=tuple(checks),
            inputs=dict(inputs or {}),
            **known,
        )
        verdict = manifest.model_dump_json(
            indent=1
        ).encode()  # what cannot be written fails before anything is replaced
        self.put(path := object_path(layer, source, key), staged.path)
        self.put(about := object_path(layer, source, key, ".json"), verdict)
        self._sweep(path, about)
        return manifest

    def _sweep(self, *paths: str) -> None:
        """Removes what writers of these objects left on a local disk when they were killed: files `<name>#<number>`."""
        if not self.is_local:
            return
        for place in map(Path, map(self.url, paths)):
            with _named("tidy up", str(place.parent)):
                for leftover in place.parent.glob(f"{glob.escape(place.name)}#*"):
                    with contextlib.suppress(FileNotFoundError):
                        if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
                            leftover.unlink()

    def scan(self, layer: str, source: str, key: str) -> pl.LazyFrame:
        """The rows of one partition, lazily.

        Raises:
            LakeError: the partition was never materialised.
        """
        url = self.url(object_path(layer, source, key))
        if self.version(layer, source, key) is None:
            raise LakeError(f"No data for {layer}/{source}, partition {key} ({url}). Materialise it first.")
        return pl.scan_parquet(url, glob=False)

    def version(self, layer: str, source: str, key: str) -> str | None:
        """The version inside the partition's Parquet object, None where there is no object."""
        path = object_path(layer, source, key)
        with _named("read", self.url(path)):
            try:
                tail = self._tail(path)
            except FileNotFoundError:
                return None
            return pl.read_parquet_metadata(io.BytesIO(b"PAR1" + tail)).get(_VERSION, "")

    def _tail(self, path: str) -> bytes:
        """The end of a Parquet object, with its whole footer, by one read: a replacement cannot come in between."""
        import obstore

        size = 64 * 1024
        while True:
            tail = bytes(obstore.get(self._prompt, path, options={"range": {"suffix": size}}).bytes())
            footer = int.from_bytes(tail[-8:-4], "little") + 8
            if footer <= len(tail) or len(tail) < size:
                return tail
            size = footer

    def manifest(self, layer: str, source: str, key: str) -> Manifest | None:
        """The partition's manifest, None where it was never written."""
        content = self.get(path := object_path(layer, source, key, ".json"))
        try:
            return None if content is None else Manifest.model_validate_json(content)
        except ValueError as error:
            raise LakeError(f"{self.url(path)} is not a manifest. Materialise its partition again.") from error

    def current(self, layer: str, source: str, key: str) -> Manifest:
        """The manifest of the data that lies there now.

        Raises:
            LakeError: there is no data, or the manifest speaks of other data (a write was cut short).
        """
        version, manifest = self.version(layer, source, key), self.manifest(layer, source, key)
        if version is None or manifest is None:
            raise LakeError(f"No data for {layer}/{source}, partition {key}. Materialise it first.")
        # A commit may have come between the two reads; its data is older than its manifest.
        if manifest.version not in (version, self.version(layer, source, key)):
            raise LakeError(
                f"{layer}/{source}, partition {key}: the data was replaced, its verdict was not (a write was cut "
                "short, or is under way). Materialise it again."
            )
        return manifest

    @contextlib.contextmanager
    def reading(self, layer: str, source: str, key: str) -> Iterator[Manifest]:
        """Guards a read: gives `current`'s manifest; fails if the partition was replaced before the block ended.

        Polars reads an object in several steps; those of a lazy frame can fall on both sides of a replacement.

        Raises:
            LakeError: as `current`, or the partition was replaced before the block ended.
        """
        manifest = self.current(layer, source, key)
        replaced = LakeError(f"{layer}/{source}, partition {key}, was replaced while it was read. Run it again.")
        try:
            yield manifest
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            if self.version(layer, source, key) != manifest.version:
                raise replaced from error
            raise
        if self.version(layer, source, key) != manifest.version:
            raise replaced

    def partitions(self, layer: str, source: str) -> list[str]:
        """The keys of the partitions that have data, in order."""
        prefix = f"{layer}/{source}/"
        names = (path.removeprefix(prefix) for path in self.paths(prefix))
        return sorted(_key(name.removesuffix(".parquet")) for name in names if name.endswith(".parquet"))

    # -- published tables, for readers ----------------------------------------------------------------------------

    def table_url(self, source: str) -> str:
        """Where the source's Delta table is."""
        return self.url(f"{PUBLISHED}/{source}")

    def is_published(self, source: str, key: str) -> bool:
        """Whether a partition was published; one without rows leaves no trace in the table, but in its manifest."""
        rows = self.scan_published(source, key)
        if rows is None:
            return False
        if not rows.head(1).collect().is_empty():
            return True
        enriched = self.manifest("enriched", source, key)
        return enriched is not None and enriched.rows == 0

    def table(self, source: str, version: int | None = None) -> "DeltaTable | None":
        """The source's Delta table (its newest version, unless one is named), None where nothing was published yet.

        Raises:
            LakeError: the table is damaged, has no such version, or cannot be reached.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        url = self.table_url(source)
        with _named("read", url):
            if not DeltaTable.is_deltatable(url):
                return None
            try:
                return DeltaTable(url, version=version)
            except DeltaError as error:
                at = "" if version is None else f" at version {version}"
                raise LakeError(
                    f"The published table {url} cannot be read{at}: {_first_line(error)}. If it is damaged, bring its "
                    f"folder back from a backup, or move it away and materialise published/{source} again."
                ) from error

    def scan_published(self, source: str, key: str | None = None, version: int | None = None) -> pl.LazyFrame | None:
        """The published rows (of one partition, at one table version), None where nothing was published yet.

        Raises:
            LakeError: as `table`.
        """
        table = self.table(source, version)
        if table is None:
            return None
        frame = pl.scan_delta(table)
        return frame if key is None else frame.filter(pl.col("partition_key") == key)


def object_path(layer: str, source: str, key: str, suffix: str = ".parquet") -> str:
    """Where a partition's object lies; `|` is kept out of file names."""
    return f"{layer}/{source}/{key.replace(SEPARATOR, '~')}{suffix}"


def _key(name: str) -> str:
    return name.replace("~", SEPARATOR)


def _prompt_options() -> "ClientConfig":
    """Silence counts between two reads, so that a large object may take its time. What a variable says goes first."""
    named = {name: os.environ.get(f"AWS_{name.upper()}") for name in _CLIENT_OPTIONS}
    seconds = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": SILENT_SECONDS}
    options: Any = {name: timedelta(seconds=value) for name, value in seconds.items()}
    return options | {name: value for name, value in named.items() if value}  # type: ignore[no-any-return]


def _until_answered(request: Callable[[], object]) -> None:
    """Does what obstore does once only: a request that cannot be known not to have been done, if no answer comes."""
    from obstore.exceptions import GenericError

    began = time.monotonic()
    while True:
        try:
            request()
        except GenericError as error:
            if "kind: Timeout" not in str(error) or time.monotonic() - began > RETRY_SECONDS:
                raise
        else:
            return


@contextlib.contextmanager
def _named(action: str, place: str) -> Iterator[None]:
    """Turns what storage libraries raise into a `LakeError` that names the place and the remedy."""
    from obstore.exceptions import BaseError, GenericError

    try:
        yield
    except (BaseError, OSError, ValueError, pl.exceptions.ComputeError) as error:
        if _is_no_space(error):
            raise LakeError(
                f"No space left: {action} {place}. Make room and run it again; nothing was lost."
            ) from error
        # What a store answers has errors of its own; of one that does not answer, after some tries, this is all.
        kind = LakeAwayError if isinstance(error, GenericError) and "://" in place else LakeError
        raise kind(f"Cannot {action} {place}: {_first_line(error)}. Check that it exists and may be used.") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _is_no_space(error: Exception) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)


def free_bytes(lake: Lake) -> int | None:
    """Free space under a local lake, None on S3."""
    return shutil.disk_usage(lake.uri).free if lake.is_local and Path(lake.uri).exists() else None
