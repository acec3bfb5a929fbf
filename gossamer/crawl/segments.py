"""A crawl's records in the lake: immutable segments while it runs, at its end the rows of the partition.

A segment counts only if the frontier's store names it; what a killed launch left besides is swept up at the end. What
is in a record is `rows`' business, when a segment is due `flush`'s. The dead letters' rows are made here too.
"""

import contextlib
import io
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from gossamer.crawl.books import is_dead
from gossamer.crawl.frontier import Failure, Record, Segment
from gossamer.crawl.rows import CRAWL_ID, EXTRA
from gossamer.crawl.text import printable
from gossamer.errors import LakeError
from gossamer.lake import Lake
from gossamer.schema import INSTANT, PROVENANCE

DEAD_LETTERS = pl.Schema(
    {
        "url": pl.String(),
        "reason": pl.String(),
        "status": pl.Int32(),
        "attempts": pl.Int32(),
        "callback": pl.String(),
        "message": pl.String(),
        "failed_at": INSTANT,
        "body_sample": pl.String(),
        "seed_row": pl.String(),
    }
)
_MESSAGE = 4000  # characters: with the traceback
_BODY_SAMPLE = 500  # characters
_FOLDER = "segments"
_REMEDY = "Bring it back from a backup, or start the crawl afresh."
_RECORD, _REQUEST = "_record", "_request"
_FETCHED_AT = "_fetched_at"
#: Of the record as it waited in the store; segments of older versions do not have it.
_BYTES = "_bytes"
_OWN = (_RECORD, _REQUEST, _BYTES)
#: So much of the rows is in memory at a time when they are brought together, at most so many of them.
_GROUP_BYTES = 16 * 1024 * 1024
_GROUP_ROWS = 250_000
#: So many dead letters are in memory at a time.
_BATCH = 10_000


class Segments:
    """The segments of one crawl, written by one launch.

    The names that `Segment` carries are those of objects below the crawl's folder.
    """

    def __init__(self, lake: Lake, folder: str, launch: int, row_columns: Sequence[str], crawl_id: str) -> None:
        self._lake = lake
        self._folder = folder
        self._launch = launch
        self._crawl_id = crawl_id
        declared = [name for name in row_columns if name not in PROVENANCE]
        self._raw = pl.Schema({**dict.fromkeys(declared, pl.String()), **PROVENANCE})
        self._texts = [name for name in self._raw if name != CRAWL_ID]
        self._numbers = itertools.count(1)

    def write(self, records: Sequence[Record]) -> Segment:
        """Puts records (one at least, in the order of their ids) into the lake; they count once the store names them.

        Raises:
            LakeError: the lake does not take them; another try gives the segment another name.
        """
        content = self._parquet(records)
        while True:
            name = f"{_FOLDER}/{self._launch:06}-{next(self._numbers):06}.parquet"
            if self._lake.create(self._path(name), content):
                break
        if self._lake.is_local:
            self._to_disk(name)
        return Segment(name, records[0].id, records[-1].id, len(records))

    def rows(self, segments: Sequence[Segment], retracted: Sequence[tuple[int, int]]) -> pl.LazyFrame:
        """The partition's raw rows, in the order of the records, without those that were retracted.

        Args:
            retracted: (request, id): records of this request up to this id do not count.

        Raises:
            LakeError: a segment is missing, cannot be read, or is not what the store knows of it.
        """
        if not segments:
            return pl.LazyFrame(schema=self._raw)
        ordered = sorted(segments, key=lambda segment: segment.first)
        self._verify(ordered)
        # The segments of one launch have the same columns; another may have begun with another declaration.
        launches = itertools.groupby(ordered, key=lambda segment: segment.name.partition("-")[0])
        rows = pl.concat([self._as_declared(self._scan(list(group))) for _, group in launches])
        if retracted:
            requests, last = zip(*retracted, strict=True)
            rows = rows.filter(pl.col(_RECORD) > pl.col(_REQUEST).replace_strict(requests, last, default=-1))
        return rows.select(self._raw.names())

    def group_rows(self, segments: Sequence[Segment]) -> int:
        """How many rows are to be in memory at a time, for `stage`: by their size on average.

        Raises:
            LakeError: a segment cannot be read.
        """
        if not segments:
            return _GROUP_ROWS
        scan = self._scan(segments, schema={_BYTES: pl.Int64}, extra_columns="ignore", missing_columns="insert")
        with self._readable():
            mean = scan.select(pl.col(_BYTES).mean()).collect(engine="streaming").item()
        return max(1, min(_GROUP_ROWS, int(_GROUP_BYTES / mean))) if mean else _GROUP_ROWS

    def sweep(self, keep: Sequence[Segment]) -> None:
        """Deletes the segments that are not among these: what launches wrote that were killed before they named it.

        Those of newer launches stay: one may work on while this one was thought dead, and its store names them.

        Raises:
            LakeError: the lake cannot be reached.
        """
        named = {self._path(segment.name) for segment in keep}
        for path in list(self._lake.paths(self._path(_FOLDER))):
            launch = path.removeprefix(self._path(f"{_FOLDER}/")).partition("-")[0]
            if path not in named and not (launch.isdecimal() and int(launch) > self._launch):
                self._lake.delete(path)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _url(self, segment: Segment) -> str:
        return self._lake.url(self._path(segment.name))

    def _parquet(self, records: Sequence[Record]) -> bytes:
        rows = [self._row(record.data) for record in records]
        frame = pl.DataFrame(rows, schema=dict.fromkeys(self._texts, pl.String), orient="row").select(
            pl.Series(_RECORD, [record.id for record in records], dtype=pl.Int64),
            pl.Series(_REQUEST, [record.request for record in records], dtype=pl.Int64),
            pl.Series(_BYTES, [len(record.data.encode()) for record in records], dtype=pl.Int64),
            *[_moment(name) if name == _FETCHED_AT else pl.col(name) for name in self._texts],
            pl.lit(self._crawl_id).alias(CRAWL_ID),
        )
        content = io.BytesIO()
        frame.write_parquet(content, compression="zstd")
        return content.getvalue()

    def _row(self, line: str) -> list[str | None]:
        """The values of a line; it may have been written by a launch that had another declaration."""
        row = json.loads(line)
        if undeclared := {name: value for name, value in row.items() if name not in self._raw and value is not None}:
            row[EXTRA] = _with_extra(row.get(EXTRA), undeclared)
        return [row.get(name) for name in self._texts]

    def _to_disk(self, name: str) -> None:
        """The store forgets its records once they lie in a segment; so they must survive a loss of power."""
        path = Path(self._lake.url(self._path(name)))
        try:
            for place in (path, path.parent):
                number = os.open(place, os.O_RDONLY)
                try:
                    os.fsync(number)
                finally:
                    os.close(number)
        except OSError as error:
            raise LakeError(f"Cannot write {path}: {error}. Check the disk, and run it again.") from error

    def _verify(self, segments: Sequence[Segment]) -> None:
        there = set(self._lake.paths(self._path(_FOLDER)))
        for segment in segments:
            if self._path(segment.name) not in there:
                raise LakeError(f"{self._url(segment)}, a segment of {self._crawl_id}, is missing. {_REMEDY}")
        counts = self._counts(segments)
        for segment in segments:
            if (count := counts.get(Path(segment.name).name, 0)) != segment.rows:
                raise LakeError(
                    f"{self._url(segment)} has {count} records, the crawl's store knows of {segment.rows}. {_REMEDY}"
                )

    def _counts(self, segments: Sequence[Segment]) -> dict[str, int]:
        """How many records lie in each file, by its name. One scan: as many scans would take as many threads."""
        file = pl.col("file").str.split("/").list.last()
        scan = self._scan(segments, schema={_RECORD: pl.Int64}, extra_columns="ignore", include_file_paths="file")
        with self._readable():
            return dict(scan.group_by(file).len().collect(engine="streaming").iter_rows())

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pl.exceptions.ComputeError) as error:
            place = self._lake.url(self._path(_FOLDER))
            raise LakeError(f"A segment in {place} cannot be read: {error}. {_REMEDY}") from error

    def _scan(self, segments: Sequence[Segment], **options: Any) -> pl.LazyFrame:
        urls = [self._url(segment) for segment in segments]
        return pl.scan_parquet(urls, glob=False, hive_partitioning=False, **options)

    def _as_declared(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The columns of today's declaration: what is no longer declared goes to `extra`, what is new is null."""
        with self._readable():
            present = frame.collect_schema()
        gone = [name for name in present if name not in self._raw and name not in _OWN]
        if gone:
            frame = frame.with_columns(
                pl.struct(EXTRA, *gone).map_batches(_extras, return_dtype=pl.String, is_elementwise=True).alias(EXTRA)
            )
        missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in self._raw.items() if name not in present]
        return frame.with_columns(missing).select(_RECORD, _REQUEST, *self._raw)


def _moment(name: str) -> pl.Expr:
    return pl.col(name).str.to_datetime("%+", time_unit="us", time_zone="UTC")


def _with_extra(extra: str | None, undeclared: dict[str, str]) -> str:
    return json.dumps({**undeclared, **json.loads(extra or "{}")}, ensure_ascii=False)


def _extras(rows: pl.Series) -> pl.Series:
    """`extra` of rows that have other columns beside it, which become a part of it."""

    def merged(row: dict[str, str | None]) -> str | None:
        extra = row.pop(EXTRA)
        undeclared = {name: value for name, value in row.items() if value is not None}
        return _with_extra(extra, undeclared) if undeclared else extra

    return pl.Series(rows.name, [merged(row) for row in rows.to_list()], dtype=pl.String)


@contextlib.contextmanager
def dead_letters(failures: Iterable[Failure]) -> Iterator[pl.LazyFrame]:
    """The rows of the requests that failed for good, as the books count them; they live as long as the context.

    Raises:
        LakeError: no room for them on this machine.
    """
    letters = (_letter(failure) for failure in failures if _is_letter(failure))
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        parts: list[Path] = []
        while batch := list(itertools.islice(letters, _BATCH)):
            parts.append(Path(folder) / f"{len(parts):06}.parquet")
            try:
                pl.DataFrame(batch, schema=DEAD_LETTERS, orient="row").write_parquet(parts[-1], compression="zstd")
            except (OSError, pl.exceptions.ComputeError) as error:
                raise LakeError(f"Cannot write dead letters to {folder}: {error}. Make room or set TMPDIR.") from error
        yield pl.scan_parquet(parts, glob=False) if parts else pl.LazyFrame(schema=DEAD_LETTERS)


def _is_letter(failure: Failure) -> bool:
    return is_dead(failure.state, failure.reason, start=failure.start)


def _letter(failure: Failure) -> tuple[Any, ...]:
    return (
        failure.url,
        failure.reason,
        failure.status,
        failure.attempts,
        failure.callback,
        printable(failure.message[:_MESSAGE]),
        datetime.fromtimestamp(failure.ended_at, UTC),
        printable(failure.body_sample[:_BODY_SAMPLE]),
        failure.seed,
    )
