"""The statistics of one partition's rows: what default checks compare, and trends are drawn from.

Taken in a few streaming passes, of which each holds a bounded number of rows, however many there are; what a row's
texts are searched for is in `texts`.
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from gossamer import schema
from gossamer.quality import texts, words
from gossamer.source import Source

#: Rows, evenly spread, that quantiles, shares and texts are judged by; all of them where there are not more.
SAMPLE = 20_000
#: Up to so many rows, distinct values are counted; above they are estimated, to some per cent.
COUNTED = 100_000
#: A column of at most so many values is one of categories, if each of them stands for some rows.
CATEGORIES = 100
_ROWS_PER_CATEGORY = 4
_CLASS_LEAST = 1000
#: Records by which partitions are compared one by one: those of the smallest hashes of their keys, so that two
#: partitions with the same records have the same of them.
SKETCH = 256
_TEXT = 1000
_LANGUAGE_TEXTS, _LANGUAGE_TEXT = 200, 300
_EXTRAS, _EXTRA_TEXT = 1000, 10_000
_LANGUAGE_LEAST = 10
_NAMES, _CATEGORY = 20, 80
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
#: Columns of the platform's own: no field of a record.
_OWN = frozenset({*schema.PROVENANCE, schema.PARTITION, "extra", "_unparsed"})
#: Declared types of free text, and that of columns which are not declared.
TEXTS = frozenset({"str", "text", ""})
#: Hexadecimal digits in a sketch; of a value as many as tell it from another, mostly.
_KEY_DIGITS, VALUE_DIGITS = 12, 4
#: Names that no field can have.
_LENGTH, _HASH, _COUNT = "~length", "~hash", "~count"


Measured = Literal["", "number", "time", "length"]


class FieldProfile(BaseModel):
    """The statistics of one column.

    Attributes:
        kind: its declared type, "" for a column that the declaration does not name.
        fill: share of rows (0 to 1) with a value.
        unparsed: share of rows with a text that is no value of the declared type.
        distinct: distinct values as a share of the rows with a value; approximate above some 100,000 rows.
        quantiles: the values at 0, 5, 25, 50, 75, 95 and 100 %; of numbers as they are, of dates and times as seconds
            since 1970, of texts their lengths in characters. None without values.
        shares: value -> share of the rows with a value, of columns with few values; None of others.
        measured: what the quantiles are of: `number`, `time` or `length`; "" where there are none.
        top: share of the most common value among the rows with a value.
        damaged: share of the texts that were decoded wrongly (replacement characters, UTF-8 read as Latin-1).
        markup: share of the texts with HTML's tags or entities.
        placeholders: share of the texts that say nothing, such as `N/A`.
        languages: language -> share of the texts long enough to tell; None of other columns.
        hosts: host -> share of the URLs, of the most common hosts; None of other columns.
    """

    model_config = ConfigDict(frozen=True)

    kind: str = ""
    fill: float = 0.0
    unparsed: float = 0.0
    distinct: float = 0.0
    quantiles: tuple[float, ...] | None = None
    shares: dict[str, float] | None = None
    measured: Measured = ""
    top: float = 0.0
    damaged: float = 0.0
    markup: float = 0.0
    placeholders: float = 0.0
    languages: dict[str, float] | None = None
    hosts: dict[str, float] | None = None


class Profile(BaseModel):
    """The statistics of one partition in `clean`, quarantined rows included, duplicates not.

    Attributes:
        version: of the clean data that they speak of.
        crawl_id: of the crawl that it was made from, "" where it is not known.
        rows: records, each once, those that went to quarantine included.
        duplicates: crawled rows that were duplicates by key.
        fetched_at: the newest fetch of a page.
        pages: pages that the crawl fetched.
        dead: reason -> requests that failed for good.
        excluded: reason -> requests that a rule left out.
        redirected: requests that were redirected to pages known already.
        bytes: bytes that the crawl received.
        examples: reason -> some of the URLs that failed or were left out.
        fields: column -> statistics; provenance columns are left out.
        spider: version of the spider, "" where it is not known.
        code: of what makes rows of what the spider gave: hash of the declared record and `transform.py`.
        repeats: share of rows whose content (neither key nor links) equals another row's.
        same_page: share of the pages with rows whose body is the same as another's.
        walls: `block page`, `login page` or `error page` -> share of rows whose texts are those of such a page.
        hosts: host -> share of rows, of the most common hosts of their pages.
        undeclared: name -> share of rows, of fields that the spider gave and the declaration does not name.
        sketched: the fields in `sketch`, in its order.
        sketch: digest of a record's key -> digests of its fields; of some records that are the same ones in every
            partition that has them.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    partition: str
    version: str = ""
    crawl_id: str = ""
    rows: int
    duplicates: int = 0
    fetched_at: datetime | None = None
    pages: int = 0
    dead: dict[str, int] = {}
    excluded: dict[str, int] = {}
    redirected: int = 0
    bytes: int = 0
    examples: dict[str, tuple[str, ...]] = {}
    fields: dict[str, FieldProfile] = {}
    spider: str = ""
    code: str = ""
    repeats: float = 0.0
    same_page: float = 0.0
    walls: dict[str, float] = {}
    hosts: dict[str, float] = {}
    undeclared: dict[str, float] = {}
    sketched: tuple[str, ...] = ()
    sketch: dict[str, str] = {}


def profile(
    frame: pl.LazyFrame,
    source: Source,
    key: str,
    *,
    version: str = "",
    duplicates: int = 0,
    books: Mapping[str, Any] | None = None,
) -> Profile:
    """The statistics of a partition.

    Args:
        frame: typed rows, each once, those that go to quarantine included. It is read some four times.
        version: of the clean data.
        duplicates: crawled rows that were duplicates by key.
        books: of the crawl, as its manifest has them.
    """
    columns = frame.collect_schema()
    rows = int(frame.select(pl.len()).collect(engine="streaming").item())
    counts = _counts(frame, source, columns, rows)
    sample, some = (
        query.collect(engine="streaming") for query in (_sample(frame, source, columns, rows), sketched(frame, source))
    )
    names = [n for n, dtype in columns.items() if n not in (*_OWN, *source.spec.record.key) and not dtype.is_nested()]
    return Profile(
        source=source.name,
        partition=key,
        version=version,
        rows=rows,
        duplicates=duplicates,
        fetched_at=counts.get("fetched_at"),
        **_of_books(books or {}),
        fields={
            name: _field(source, name, dtype, rows, _of_column(counts, number), sample)
            for number, (name, dtype) in enumerate(columns.items())
            if name not in _OWN
        },
        spider=_spider(sample),
        code=_code(source),
        repeats=_left(counts.get("contents"), rows),
        same_page=_left(counts.get("bodies"), counts.get("urls") or 0),
        walls=_walls(sample, source),
        hosts=_hosts(sample, "_url") if "_url" in sample.columns else {},
        undeclared=_undeclared(sample),
        sketched=tuple(names),
        sketch=digests(some, source, names),
    )


def _of_column(counts: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {what.partition(":")[2]: count for what, count in counts.items() if what.startswith(f"{number}:")}


def _of_books(books: Mapping[str, Any]) -> dict[str, Any]:
    requests = books.get("requests", {})
    return {
        "pages": requests.get("fetched", 0),
        "dead": dict(requests.get("dead", {})),
        "excluded": dict(requests.get("excluded", {})),
        "redirected": requests.get("redirected", 0),
        "bytes": books.get("bytes", 0),
        "examples": dict(books.get("examples", {})),
    }


def has_value(name: str, dtype: pl.DataType) -> pl.Expr:
    """Whether a row has a value in a column: NaN, infinity and empty texts are none."""
    column = pl.col(name)
    if dtype.is_float():
        return column.is_not_null() & column.is_finite()
    return column.is_not_null() & (column != "") if dtype == pl.String else column.is_not_null()


def is_unparsed(name: str) -> pl.Expr:
    """Whether a row had a text in a field that is no value of its type: a key of the JSON object `_unparsed`.

    A quotation mark within one of its texts has a backslash before it, so that only keys begin so.
    """
    return pl.col("_unparsed").str.contains(rf'[{{,]\s*"{name}"\s*:').fill_null(False)


def measured(dtype: pl.DataType) -> Measured:
    """What the quantiles of a column of this type are of."""
    if dtype == pl.Date or dtype == pl.Datetime:
        return "time"
    if dtype.is_numeric():
        return "number"
    return "length" if dtype in (pl.String, pl.Categorical, pl.Enum) else ""


def quantity(name: str, what: Measured) -> pl.Expr:
    """The number that a column's quantiles are of: seconds since 1970 of times, characters of texts."""
    column = pl.col(name)
    if what == "time":
        return column.cast(pl.Datetime("us")).dt.timestamp("us") / 1e6
    return column.cast(pl.Float64) if what == "number" else column.cast(pl.String).str.len_chars().cast(pl.Float64)


def host(name: str) -> pl.Expr:
    """The host of the addresses in a column."""
    return pl.col(name).str.extract(r"^[a-z]+://(?:[^/?#@]*@)?([^/:?#]+)").str.to_lowercase()


# -- the passes over all rows -----------------------------------------------------------------------------------------


def _counts(frame: pl.LazyFrame, source: Source, columns: pl.Schema, rows: int) -> dict[str, Any]:
    """What is taken of every row: of each column as `<number>:<what>`, of the whole frame by name.

    In one pass; of many rows column by column, so that never more than a few columns are in memory.
    """
    fields = [(number, *column) for number, column in enumerate(columns.items()) if column[0] not in _OWN]
    declared = source.spec.record.fields if "_unparsed" in columns else {}
    parts = [list(_field_counts(*field, has_unparsed=field[1] in declared)) for field in fields]
    if "_fetched_at" in columns:
        parts.append([pl.col("_fetched_at").max().alias("fetched_at")])
    distinct: dict[str, pl.Expr] = {
        f"{number}:distinct": pl.when(has_value(name, dtype)).then(pl.col(name))
        for number, name, dtype in fields
        if not dtype.is_nested()
    }
    if content := _content(source, columns):
        distinct["contents"] = pl.struct(content)
    if "_url" in columns and "_page_hash" in columns:
        known = pl.col("_page_hash").is_not_null()
        distinct |= {"urls": pl.when(known).then(pl.col("_url")), "bodies": pl.when(known).then(pl.col("_page_hash"))}
    if rows <= COUNTED:
        parts = [[*itertools.chain(*parts), *(_number_of(value).alias(what) for what, value in distinct.items())]]
        return _row(frame, parts[0])
    counts = {what: count for part in parts for what, count in _row(frame, part).items()}
    return counts | {what: _estimated(frame, value, rows) for what, value in distinct.items()}


def _row(frame: pl.LazyFrame, wanted: Sequence[pl.Expr]) -> dict[str, Any]:
    return frame.select(wanted).collect(engine="streaming").row(0, named=True) if wanted else {}


def _field_counts(number: int, name: str, dtype: pl.DataType, *, has_unparsed: bool) -> Iterator[pl.Expr]:
    yield has_value(name, dtype).sum().alias(f"{number}:values")
    if has_unparsed:
        yield is_unparsed(name).sum().alias(f"{number}:unparsed")
    if measured(dtype) in ("number", "time"):
        known = pl.when(has_value(name, dtype)).then(quantity(name, measured(dtype)))
        yield known.min().alias(f"{number}:min")
        yield known.max().alias(f"{number}:max")


def _number_of(value: pl.Expr) -> pl.Expr:
    return value.n_unique() - value.is_null().any().cast(pl.UInt32)


def _estimated(frame: pl.LazyFrame, value: pl.Expr, rows: int) -> int:
    """About how many distinct values there are: those are counted whose hash falls into one of many classes.

    Where too few do, there are not many at all, and Polars' own estimate is good.
    """
    classes = max(2, 2 * rows // COUNTED)
    hashes = frame.select(value.hash().alias(_HASH))
    found = hashes.filter(pl.col(_HASH) % classes == 0).select(pl.col(_HASH).n_unique()).collect(engine="streaming")
    if found.item() >= _CLASS_LEAST:
        return int(found.item()) * classes
    return int(frame.select(value.approx_n_unique()).collect(engine="streaming").item())


def _content(source: Source, columns: pl.Schema) -> list[str]:
    """The columns that say what a record is, whatever identifies it and wherever it is."""
    declared, keys = source.spec.record.fields, source.spec.record.key
    content = [name for name, dtype in columns.items() if name not in (*_OWN, *keys) and not dtype.is_nested()]
    content = [name for name in content if declared.get(name) != "url"]
    return content if len(content) > 1 else []


def _sample(frame: pl.LazyFrame, source: Source, columns: pl.Schema, rows: int) -> pl.LazyFrame:
    """Rows by a hash of what identifies them, their texts cut; lengths of texts beside them as `<name>` + `_LENGTH`."""
    step = max(1, -(-rows // SAMPLE))
    kept = [name for name in columns if name not in (schema.PARTITION, "_unparsed")]
    identity = [name for name in (*source.spec.record.key, "_url") if name in columns]
    thin = frame.filter(pl.struct(identity).hash(1) % step == 0) if step > 1 and identity else frame
    return thin.head(2 * SAMPLE).select(expression for name in kept for expression in _sampled(name, columns[name]))


def _sampled(name: str, dtype: pl.DataType) -> Iterator[pl.Expr]:
    column = pl.col(name)
    if dtype in (pl.Categorical, pl.Enum):
        column, dtype = column.cast(pl.String), pl.String()
    if name == "extra":  # half an object cannot be read
        yield pl.when(column.str.len_bytes() <= _EXTRA_TEXT).then(column).alias(name)
    elif dtype == pl.String:
        yield column.str.slice(0, _TEXT)
        if name not in _OWN:
            yield column.str.len_chars().alias(name + _LENGTH)
    elif not dtype.is_nested():
        yield column


def sketched(frame: pl.LazyFrame, source: Source) -> pl.LazyFrame:
    """The rows that `sketch` speaks of: those of the smallest hashes of their keys."""
    keys = list(source.spec.record.key)
    if not set(keys) <= set(frame.collect_schema()):  # `transform.py` has dropped one
        return frame.head(0)
    whole = pl.all_horizontal(pl.col(key).is_not_null() for key in keys)
    number = pl.struct(keys).hash()
    # The hashes first, which read the keys only: whole rows would all have to be in memory.
    least = frame.filter(whole).select(number.alias(_HASH)).bottom_k(SKETCH, by=_HASH).select(pl.col(_HASH).max())
    highest = least.collect(engine="streaming").item()
    return frame.filter(whole, number <= highest).head(SKETCH) if highest is not None else frame.head(0)


def digests(records: pl.DataFrame, source: Source, names: Sequence[str]) -> dict[str, str]:
    """Digest of each record's key -> the digests of its fields, one after another; equal in every version."""
    if records.is_empty():
        return {}
    keys = [as_texts(records[name]) for name in source.spec.record.key]
    columns = [as_texts(records[name]) for name in names]
    return {
        key_digest(key): "".join(_digest(value, VALUE_DIGITS) for value in values)
        for key, values in zip(zip(*keys, strict=True), _rows_of(columns, records.height), strict=True)
    }


def key_digest(key: Sequence[str]) -> str:
    """How a record's key, as texts, stands in a sketch."""
    return _digest("\x1f".join(key), _KEY_DIGITS)


def as_texts(values: pl.Series) -> list[str]:
    """Values as a sketch knows them."""
    return ["" if value is None else str(value) for value in values.to_list()]


def _rows_of(columns: Sequence[Sequence[str]], height: int) -> Iterator[tuple[str, ...]]:
    return zip(*columns, strict=True) if columns else iter([()] * height)


def _digest(text: str, digits: int) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=digits // 2).hexdigest()


# -- one column -------------------------------------------------------------------------------------------------------


def _field(
    source: Source, name: str, dtype: pl.DataType, rows: int, counts: Mapping[str, Any], sample: pl.DataFrame
) -> FieldProfile:
    kind = source.spec.record.fields.get(name, "")
    values = counts["values"]
    common: dict[str, Any] = {
        "kind": kind,
        "fill": values / rows if rows else 0.0,
        "unparsed": (counts.get("unparsed") or 0) / rows if rows else 0.0,
        "distinct": min(1.0, counts.get("distinct", 0) / values) if values else 0.0,
    }
    if name not in sample.columns:  # nested
        return FieldProfile(**common)
    known = sample.filter(has_value(name, sample.schema[name]))
    if known.is_empty():
        return FieldProfile(**common)
    common |= _spread(source, known, name)
    common["measured"] = what = measured(dtype)
    if what in ("number", "time"):
        common["quantiles"] = _quantiles(known.select(quantity(name, what)).to_series(), counts["min"], counts["max"])
    elif name + _LENGTH in known.columns:
        common["quantiles"] = _quantiles(known[name + _LENGTH].cast(pl.Float64))
        common |= _text_signs(known, name, kind)
    return FieldProfile(**common)


def _spread(source: Source, known: pl.DataFrame, name: str) -> dict[str, Any]:
    """The most common value's share, and the shares of all where they are few."""
    counted = known[name].value_counts(sort=True, name=_COUNT)
    height, kinds = known.height, counted.height
    few = kinds <= CATEGORIES and (kinds * _ROWS_PER_CATEGORY <= height or name in seconds(source))
    if known.schema[name] == pl.Boolean or few:
        shares = {words.clip(_word(value), _CATEGORY): count / height for value, count in counted.iter_rows()}
    else:
        shares = None
    return {"top": counted[_COUNT][0] / height, "shares": shares}


def seconds(source: Source) -> dict[str, str]:
    """Second column of a field, such as `price_currency` -> the field."""
    kinds = source.spec.record.fields.items()
    return {column: name for name, kind in kinds for column in schema.field_columns(name, kind) if column != name}


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quantiles(values: pl.Series, low: float | None = None, high: float | None = None) -> tuple[float, ...]:
    ordered = values.sort()

    def quantile(share: float) -> float:
        between = float(ordered.quantile(share, "linear") or 0.0)
        # The distance of two numbers at the ends of what a float can hold is infinite, which JSON does not know.
        return between if math.isfinite(between) else float(ordered.quantile(share, "nearest") or 0.0)

    first, *middle, last = map(quantile, _QUANTILES)
    return (first if low is None else low, *middle, last if high is None else high)


def _text_signs(known: pl.DataFrame, name: str, kind: str) -> dict[str, Any]:
    if kind == "url":
        return {"hosts": _hosts(known, name)}
    if kind not in TEXTS:
        return {}
    text = pl.col(name)
    signs = known.select(
        damaged=texts.is_broken(text).mean(),
        markup=texts.has_markup(text).mean(),
        placeholders=texts.is_placeholder(text).mean(),
    ).row(0, named=True)
    step = max(1, known.height // _LANGUAGE_TEXTS)
    found = texts.languages(known[name].gather_every(step).head(_LANGUAGE_TEXTS).str.slice(0, _LANGUAGE_TEXT).to_list())
    enough = found.total() >= _LANGUAGE_LEAST
    return signs | {"languages": {word: n / found.total() for word, n in found.items()} if enough else None}


# -- the whole frame --------------------------------------------------------------------------------------------------


def _hosts(sample: pl.DataFrame, name: str) -> dict[str, float]:
    return _shares(sample.select(host(name)).to_series().drop_nulls())


def _shares(values: pl.Series) -> dict[str, float]:
    """The most common values' shares."""
    counted = values.rename("value").value_counts(sort=True, name=_COUNT).head(_NAMES)
    return {words.clip(str(value), _CATEGORY): count / len(values) for value, count in counted.iter_rows()}


def _walls(sample: pl.DataFrame, source: Source) -> dict[str, float]:
    """The share of rows in which any text is the beginning of a page that was not asked for."""
    names = text_fields(source, sample.schema)
    if not names or sample.is_empty():
        return {}
    shares = sample.select(is_wall(names, kind).mean().alias(kind) for kind in texts.WALLS).row(0, named=True)
    return {kind: share for kind, share in shares.items() if share}


def is_wall(names: Sequence[str], kind: str) -> pl.Expr:
    return pl.any_horizontal(texts.is_wall(pl.col(name), kind).fill_null(False) for name in names)


def text_fields(source: Source, columns: Mapping[str, pl.DataType]) -> list[str]:
    """The columns of free text, declared or not."""
    kinds, own = source.spec.record.fields, (*_OWN, *seconds(source))
    return [
        name
        for name, dtype in columns.items()
        if dtype == pl.String and name not in own and kinds.get(name, "") in TEXTS
    ]


def _undeclared(sample: pl.DataFrame) -> dict[str, float]:
    """The share of rows that have each name in `extra`; by some of the rows."""
    if "extra" not in sample.columns or sample.is_empty():
        return {}
    some = sample["extra"].gather_every(max(1, sample.height // _EXTRAS)).head(_EXTRAS)
    found = Counter(name for text in some.drop_nulls() for name in _object(text))
    return {words.clip(name, _CATEGORY): count / len(some) for name, count in found.most_common(_NAMES)}


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # `transform.py` may have written anything there
        return {}
    return value if isinstance(value, dict) else {}


def _spider(sample: pl.DataFrame) -> str:
    if "_spider_version" not in sample.columns:
        return ""
    common = sample["_spider_version"].drop_nulls().mode()
    return "" if common.is_empty() else str(common.sort()[0])


def _code(source: Source) -> str:
    declared = source.spec.model_dump_json(include={"record", "locale"})
    return _digest(declared + source.code_version("transform"), _KEY_DIGITS)


def _left(distinct: int | None, of: int) -> float:
    """The share that is not distinct; counts that were estimated may be over it."""
    return max(0.0, 1 - distinct / of) if distinct and of else 0.0
