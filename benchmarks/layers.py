"""How much memory `clean` and `enriched` take, with their checks, against a published partition as large.

The rows are made here, as a spider's texts: 13 columns when they are typed, every tenth row a duplicate, some texts
that are no value of their type, some rows for quarantine; of those published before, one in twenty has another price
and one in fifty is gone. The layers are the platform's own (`gossamer.layers`), in a process of their own: the most
memory that it held must be 2.5 GB at most for 10 million rows.

    python -m benchmarks.layers [--rows 10000000] [--repeated 0.1] [--records]
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from gossamer.lake import PUBLISHED, Lake, stage
from gossamer.manifest import CheckResult
from gossamer.records import changes
from gossamer.records import clean as cleaning
from gossamer.schema import PARTITION
from gossamer.source import Source, SourceSpec

ROWS = 10_000_000
#: For so many rows.
MOST_GB = 2.5
BEFORE, KEY = "2026-01-05", "2026-01-06"

SPEC = {
    "name": "shop",
    "spider": "spider:Shop",
    "seeds": {"urls": ["https://shop.example/"]},
    "locale": "en-GB",
    "record": {
        "key": "sku",
        "required": ["title"],
        "words": {"available": {"in stock": True, "sold out": False}},
        "fields": {
            "sku": "str",
            "title": "text",
            "brand": "str",
            "category": "str",
            "price": "money",
            "stock": "int",
            "score": "float",
            "available": "bool",
            "added": "date",
            "seen": "datetime",
            "link": "url",
            "description": "text",
        },
    },
}

SUITE = [
    ("expect_table_row_count_to_be_between", {"min_value": 1}),
    ("expect_column_values_to_be_unique", {"column": "sku"}),
    ("expect_column_values_to_not_be_null", {"column": "sku"}),
    ("expect_column_values_to_not_be_null", {"column": "title"}),
    ("expect_column_values_to_match_regex", {"column": "sku", "regex": "^sku-[0-9]+$"}),
    ("expect_column_values_to_be_between", {"column": "price", "min_value": 0, "max_value": 10000, "mostly": 0.9}),
    ("expect_column_values_to_be_between", {"column": "stock", "min_value": 0, "max_value": 490}),
    ("expect_column_values_to_be_in_set", {"column": "price_currency", "value_set": ["GBP"]}),
    ("expect_column_value_lengths_to_be_between", {"column": "title", "min_value": 5, "max_value": 200}),
    ("expect_column_mean_to_be_between", {"column": "score", "min_value": 0, "max_value": 5}),
]


def declared(folder: Path) -> Source:
    """The source, with its suite in its folder."""
    folder.mkdir(exist_ok=True)
    expectations = [{"type": kind, "kwargs": kwargs, "severity": "critical"} for kind, kwargs in SUITE]
    (folder / "expectations.json").write_text(json.dumps({"name": "shop", "expectations": expectations}))
    return Source(SourceSpec.model_validate(SPEC), folder)


def crawled(rows: int, repeated: float, before: bool) -> pl.LazyFrame:
    """The texts of a crawl; `before` is the day before."""
    row = pl.col("row")
    number = pl.when(row < int(rows * (1 - repeated))).then(row).otherwise(row - int(rows * (1 - repeated)))
    mixed = pl.col("number").hash(1)
    raised = pl.lit(0 if before else 1) * (mixed % 20 == 0).cast(pl.UInt64)
    gone = pl.lit(rows if before else 0) * (mixed % 50 == 1).cast(pl.UInt64)
    pence = mixed % 90 + 10
    frame = pl.LazyFrame({"row": pl.int_range(rows, dtype=pl.UInt32, eager=True)}).with_columns(number=number)
    return frame.select(
        sku=pl.format("sku-{}", pl.col("number") + gone),
        title=pl.format(
            "  {} No. {} of the finest sort ", _one_of("Lamp Table Chair Mug Plate Vase", mixed), mixed % 99_991
        ),
        brand=pl.format("Brand {}", mixed % 1000),
        category=_one_of("Kitchen Garden Office Toys Books Sports Music", mixed // 7),
        price=pl.when(mixed % 1000 == 7)
        .then(pl.lit("ask us"))
        .otherwise(pl.format("£{}.{}", mixed % 500 + raised, pence)),
        stock=(mixed % 500).cast(pl.String),
        score=pl.format("{}.{}", mixed % 5, mixed % 10),
        available=pl.when(mixed % 3 == 0).then(pl.lit("Sold out")).otherwise(pl.lit("In stock")),
        added=pl.format("2026-01-{}", mixed % 18 + 10),
        seen=pl.format("2026-01-05T{}:00:{}Z", mixed % 14 + 10, mixed % 50 + 10),
        link=pl.format("/products/{}.html", pl.col("number")),
        description=pl.format(
            "Item {} is made by hand in the old town, of wood and steel, and comes in a box with {} screws.",
            mixed,
            pence,
        ),
        extra=pl.lit(None, dtype=pl.String),
        _url=pl.format("https://shop.example/products/{}.html", pl.col("number")),
        _fetched_at=pl.lit(datetime(2026, 1, 6, 5, tzinfo=UTC)),
        _page_hash=mixed.cast(pl.String),
        _crawl_id=pl.lit(f"shop/{KEY}/1"),
        _spider_version=pl.lit("1"),
        _seed_row=pl.lit("https://shop.example/"),
    )


def _one_of(words: str, number: pl.Expr) -> pl.Expr:
    known = words.split()
    return (number % len(known)).replace_strict(dict(enumerate(known)), return_dtype=pl.String)


def prepare(folder: Path, rows: int, repeated: float) -> None:
    """The lake as it is before `clean`: a crawl, and what was published the day before."""
    lake, source = Lake(str(folder / "lake")), declared(folder / "source")
    with stage(crawled(rows, repeated, before=False)) as staged:
        closed = CheckResult(name="books_closed", passed=True, blocking=True, summary="closed")
        lake.commit("raw", source.name, KEY, staged, checks=[closed], crawl_id=f"shop/{KEY}/1")
    with stage(cleaning.clean(source, crawled(rows, 0.0, before=True), BEFORE)) as staged:
        published = staged.frame.with_columns(pl.lit(BEFORE).alias(PARTITION))
        published.sink_delta(f"{lake.uri}/{PUBLISHED}/{source.name}", delta_write_options={"partition_by": [PARTITION]})


def whole(folder: Path, say: Callable[[str], None]) -> None:
    """Both layers with their checks, as the assets make them."""
    from gossamer import layers

    lake, source = Lake(str(folder / "lake")), declared(folder / "source")
    with layers.clean(lake, source, KEY, lake.scan("raw", source.name, KEY)) as made:
        say(f"clean: {made.staged.rows:,} rows, {made.aside.rows:,} in quarantine")
        lake.commit(
            "clean", source.name, KEY, made.staged, checks=made.checks, inputs=made.inputs, crawl_id=made.crawl_id
        )
    with layers.enrich(lake, source, KEY, lake.scan("clean", source.name, KEY)) as made:
        say(f"enriched: {made.staged.rows:,} rows; changes {made.notes['changes']}")


def records(folder: Path, say: Callable[[str], None]) -> None:
    """The same without what is judged: types, duplicates, changes."""
    lake, source = Lake(str(folder / "lake")), declared(folder / "source")
    with stage(cleaning.clean(source, lake.scan("raw", source.name, KEY), KEY)) as typed:
        say(f"typed: {typed.rows:,} rows")
        with stage(cleaning.deduplicate(source, typed.frame)) as unique:
            say(f"unique: {unique.rows:,} rows")
            say(str(cleaning.count(source, typed.rows, typed.frame, unique.rows)))
            before = changes.previous(source, lake, KEY)
            assert before
            found = changes.detect(source, unique.frame, before[1])
            say(f"changes: {found.notes(before[0])}")
            with stage(found.rows) as differing:
                say(f"differing rows: {differing.rows:,}")


def _peak_gb() -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


def _measured(step: Callable[..., None], folder: Path, answer: "multiprocessing.Queue[float]") -> None:
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - began:7.1f} s {_peak_gb():5.2f} GB  {what}", flush=True)

    say("imported")
    step(folder, say)
    answer.put(_peak_gb())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeated", type=float, default=0.1, help="share of rows that repeat a key")
    parser.add_argument("--records", action="store_true", help="without what is judged")
    parser.add_argument("--keep", type=Path, help="where the rows are made, and kept for the next time")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="gossamer-bench-"))
    spawn = multiprocessing.get_context("spawn")
    try:
        if not (folder / "lake").exists():
            folder.mkdir(exist_ok=True)
            maker = spawn.Process(target=prepare, args=(folder, options.rows, options.repeated))
            maker.start()
            maker.join()
        answer = spawn.Queue()
        worker = spawn.Process(target=_measured, args=(records if options.records else whole, folder, answer))
        worker.start()
        worker.join()
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    if worker.exitcode:
        return worker.exitcode
    peak = answer.get()
    held = peak <= MOST_GB
    verdict = "ok" if held else "MISSED"
    print(f"{options.rows:,} rows: at most {peak:.2f} GB of memory, {MOST_GB} GB are allowed: {verdict}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
