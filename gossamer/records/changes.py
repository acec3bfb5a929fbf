"""What a partition brought since the last time: rows that are new, changed or gone, and the columns that differ.

`previous` says what a partition is compared with, `detect` compares. Where the result is kept is the caller's.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from gossamer.lake import Lake
from gossamer.partition import SEPARATOR
from gossamer.records import keys
from gossamer.schema import INSTANT, PARTITION, TYPES
from gossamer.source import Source

if TYPE_CHECKING:
    from deltalake import DeltaTable

#: So many keys are looked up at once.
_KEYS_AT_ONCE = 1_000_000
#: So many values of a frame are compared at once (8 bytes each): few columns of many rows, or many of few.
_VALUES_AT_ONCE = 16_000_000
#: Columns in one word of marks.
_WORD = 32
#: The column with the crawl that brought a row.
_CRAWL = "_crawl_id"


@dataclass(frozen=True)
class Changes:
    """The rows of a partition against those of a previous one, by record key.

    Attributes:
        new, changed, unchanged: rows of now; together they are all of them.
        gone: rows of then whose key there is no more.
        columns: column -> changed rows in which it differs, the most first.
        added, removed: columns that only the rows of now have, or only those of then; no row counts as changed by them.
        retyped: columns whose types differ so that their values cannot be compared.
        rows: the rows that are not unchanged, lazily: key fields, `change` (new, changed or gone), `columns` (a list of
            names), `_url`. It reads both frames once more.
    """

    new: int
    changed: int
    gone: int
    unchanged: int
    columns: Mapping[str, int]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[str, ...]
    rows: pl.LazyFrame

    def notes(self, previous: str) -> dict[str, Any]:
        """The numbers as a manifest keeps them; `previous` is what `previous()` calls the other rows."""
        numbers = {name: getattr(self, name) for name in ("new", "changed", "gone", "unchanged")}
        schema = {name: list(getattr(self, name)) for name in ("added", "removed", "retyped")}
        return {"previous": previous, **numbers, "columns": dict(self.columns), **schema}


def previous(source: Source, lake: Lake, key: str) -> tuple[str, pl.LazyFrame] | None:
    """What a partition is compared with, and what to call it; None where nothing was published before.

    That is the newest published partition before it, of the same segment (one that was published without rows is passed
    over). For a source without periods, it is what another crawl published for the same key last.

    Raises:
        LakeError: the table is damaged, or cannot be reached.
    """
    table = lake.table(source.name)
    if table is None:
        return None
    if source.partition(key).period is None:
        manifest = lake.manifest("clean", source.name, key)
        crawl = manifest.crawl_id if manifest else ""
        return _of_another_crawl(lake, source.name, key, table, crawl)
    period, *segment = key.split(SEPARATOR)
    published = (str(entry[PARTITION]).split(SEPARATOR) for entry in table.partitions())
    # Periods are written so that text sorts them.
    earlier = [found for found in published if found[1:] == segment and found[0] < period]
    if not earlier:
        return None
    label = SEPARATOR.join(max(earlier))
    rows = lake.scan_published(source.name, label)
    return None if rows is None else (label, rows)


def _of_another_crawl(
    lake: Lake, source: str, key: str, table: "DeltaTable", crawl: str
) -> tuple[str, pl.LazyFrame] | None:
    """What a crawl other than this one published for the key last. Where that is older than the table's log, the rows
    tell their crawl, as they were before what the log has of the key."""
    log, before = table.history(), table.version()
    for entry in log:
        if entry.get("partition") != key:
            continue  # commits of other tools name no partition
        if entry["crawl_id"] != crawl:
            rows = lake.scan_published(source, key, entry["version"])
            return None if rows is None else (entry["crawl_id"], rows)
        before = entry["version"] - 1
    if not log or before < log[-1]["version"]:
        return None
    rows = lake.scan_published(source, key, before)
    if rows is None or _CRAWL not in rows.collect_schema():
        return None
    known = rows.select(pl.col(_CRAWL).drop_nulls().first()).collect().item()
    return None if known in (None, crawl) else (known, rows)


def nothing(source: Source) -> pl.LazyFrame:
    """The rows of `Changes` where there is nothing to compare with."""
    record = source.spec.record
    key = {name: TYPES[record.fields[name]] for name in record.key}
    return pl.LazyFrame(schema={**key, "change": pl.String, "columns": pl.List(pl.String), "_url": pl.String})


def detect(
    source: Source, current: pl.LazyFrame, previous: pl.LazyFrame, columns: Collection[str] | None = None
) -> Changes:
    """Compares two partitions' rows by record key: null equals null, floats are compared exactly.

    Of `columns` (all, if not given), not compared are the key, provenance, `extra` (what nobody declared) and the
    partition. Values are compared by hashes of 64 bits. Both frames are read once for the keys and once for the other
    columns; memory depends on the number of rows, not on what they hold, if the frames are staged or stored. Of rows
    with one key, which a transform may make, each is compared with the first one of then; rows without a whole key are
    new, or gone.
    """
    key = list(source.spec.record.key)

    def tells(name: str) -> bool:
        return not name.startswith("_") and name not in (PARTITION, "extra", *key) and (not columns or name in columns)

    previous = _with_key(previous, current.collect_schema(), key)
    now, then = current.collect_schema(), previous.collect_schema()
    common = {name: _common(dtype, then[name]) for name, dtype in now.items() if name in then and tells(name)}
    compared = {name: dtype for name, dtype in common.items() if dtype is not None}

    partner, gone = _partners(keys.hashes(current, key), keys.hashes(previous, key))
    known, changed = partner.is_not_null(), _none(len(partner))
    marks = [pl.repeat(0, len(partner), dtype=pl.UInt32, eager=True) for _ in range(0, len(compared), _WORD)]
    counts = {}
    for number, (name, differs) in enumerate(_differences(current, previous, compared, partner)):
        if not differs.any():
            continue
        counts[name] = int(differs.sum())
        changed |= differs
        marks[number // _WORD] |= differs.cast(pl.UInt32) * (1 << number % _WORD)
    change = pl.when(keys.where(known)).then(pl.lit("changed")).otherwise(pl.lit("new"))
    return Changes(
        new=int((~known).sum()),
        changed=int(changed.sum()),
        gone=int(gone.sum()),
        unchanged=int((known & ~changed).sum()),
        columns=dict(sorted(counts.items(), key=lambda entry: -entry[1])),
        added=tuple(name for name in now if name not in then and tells(name)),
        removed=tuple(name for name in then if name not in now and tells(name)),
        retyped=tuple(name for name, dtype in common.items() if dtype is None),
        rows=pl.concat(
            [
                _rows(current, key, ~known | changed, change, _marked(list(compared), marks)),
                _rows(previous, key, gone, pl.lit("gone"), _marked([], [])),
            ]
        ),
    )


def _none(length: int) -> pl.Series:
    return pl.repeat(False, length, dtype=pl.Boolean, eager=True)


def _with_key(previous: pl.LazyFrame, now: pl.Schema, key: Sequence[str]) -> pl.LazyFrame:
    """The rows of then with the key of now, in its types; a field that they do not have is null."""
    then = previous.collect_schema()
    return previous.with_columns(
        (pl.col(name).cast(now[name], strict=False) if name in then else pl.lit(None, dtype=now[name])).alias(name)
        for name in key
    )


def _partners(now: pl.Series, then: pl.Series) -> tuple[pl.Series, pl.Series]:
    """By hashes of keys: for each row of now the first row of then that has its key, and a mask of those of then that
    have no row now."""
    here, there = pl.DataFrame({"hash": now}).with_row_index("now"), pl.DataFrame({"hash": then}).with_row_index("then")
    found, gone = [], [there.filter(pl.col("hash").is_null())["then"]]
    for some_here, some_there in zip(_parted(here, len(then)), _parted(there, len(then)), strict=True):
        first = some_there.unique("hash", keep="first", maintain_order=True)
        found.append(some_here.join(first, on="hash").select("now", "then"))
        gone.append(some_there.join(some_here, on="hash", how="anti")["then"])
    pairs = pl.concat(found)
    partner = pl.repeat(None, len(now), dtype=pl.UInt32, eager=True).scatter(pairs["now"], pairs["then"])
    return partner, keys.mask(len(then), pl.concat(gone))


def _parted(hashed: pl.DataFrame, length: int) -> Iterator[pl.DataFrame]:
    """The rows with a hash, in as many parts as `length` asks for; equal hashes are in the same part."""
    parts = length // _KEYS_AT_ONCE + 1
    for part in range(parts):
        yield hashed.filter(pl.col("hash") % parts == part)


def _differences(
    current: pl.LazyFrame, previous: pl.LazyFrame, compared: Mapping[str, pl.DataType], partner: pl.Series
) -> Iterator[tuple[str, pl.Series]]:
    """Each column, and a mask of the rows of now in which it differs from the row's partner."""
    names = list(compared)
    at_once = max(1, _VALUES_AT_ONCE // max(1, len(partner)))
    for start in range(0, len(names), at_once):
        hashed = [pl.col(name).cast(compared[name]).hash() for name in names[start : start + at_once]]
        now, then = (frame.select(hashed).collect(engine="streaming") for frame in (current, previous))
        for name in names[start : start + at_once]:
            yield name, (now[name] != then[name].gather(partner)).fill_null(False)


def _common(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """A type in which the values of both can be compared; None where there is none."""
    if one == pl.Null or other == pl.Null:
        one, other = (other, other) if one == pl.Null else (one, one)
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = _common(_instance(one.inner), _instance(other.inner))
        return None if inner is None else pl.List(inner)
    text = (pl.String, pl.Categorical, pl.Enum)
    if one in text and other in text:
        return pl.String()  # the numbers behind categories differ from frame to frame
    if one == other:
        return one
    if one.is_float() and other.is_float():
        return pl.Float64()
    if one.is_integer() and other.is_integer():
        return pl.Int128()
    if (one.is_integer() or one.is_decimal()) and (other.is_integer() or other.is_decimal()):
        return pl.Decimal(38, max(getattr(dtype, "scale", 0) for dtype in (one, other)))
    if isinstance(one, pl.Datetime) and isinstance(other, pl.Datetime) and one.time_zone and other.time_zone:
        return INSTANT
    return None


def _instance(dtype: Any) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _rows(
    frame: pl.LazyFrame, key: Sequence[str], chosen: pl.Series, change: pl.Expr, columns: pl.Expr
) -> pl.LazyFrame:
    url = pl.col("_url") if "_url" in frame.collect_schema() else pl.lit(None, dtype=pl.String).alias("_url")
    rows = frame.with_row_index(keys.ROW).filter(keys.where(chosen))
    return rows.select(*key, change.alias("change"), columns.alias("columns"), url)


def _marked(names: Sequence[str], marks: Sequence[pl.Series]) -> pl.Expr:
    """The names whose bit is set in a row's marks, as a list."""
    words = [keys.where(word) for word in marks]
    if not names:
        return pl.lit([], dtype=pl.List(pl.String))
    listed = pl.concat_list(
        pl.when(words[number // _WORD] & pl.lit(1 << number % _WORD, dtype=pl.UInt32) != 0).then(pl.lit(name))
        for number, name in enumerate(names)
    )
    return listed.list.drop_nulls()
