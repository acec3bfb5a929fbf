"""What checking data costs: a suite of 20 expectations on 13 columns, against its peers in the same run.

The peers are the same counts hand-written in Polars, in one collect, and Great Expectations on pandas. Each takes its
turn in a process of its own, `--rounds` times: CPU is the least that one took, memory the median of how far the process
grew beyond what it was before. Then small partitions: 1,000 rows at a time, a report, and a fresh process for each
partition with and without Great Expectations. Exits with 1 if a bar is missed.

    python -m benchmarks.quality [--rows 1000000] [--rounds 3] [--only large|small]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from gossamer.lake import Lake
from gossamer.manifest import Manifest
from gossamer.quality import checks
from gossamer.quality.profile import profile
from gossamer.quality.report import render
from gossamer.quality.suite import evaluate
from gossamer.source import Source, SourceSpec

PROJECT = Path(__file__).resolve().parent.parent
ROWS = 1_000_000
ROUNDS = 3
SMALL = 1000
PARTITIONS = 1000
#: From here on a variant runs once in a process, and the bar against pandas, which is then at its best, is another.
MANY = 5_000_000
PROCESSES = 5

CATEGORIES = [f"category-{number}" for number in range(12)]
CURRENCIES = ["USD", "EUR", "GBP", "PLN"]
ADDRESS = r"^https?://[a-z0-9.]+/p/\d+$"
COLUMNS = [
    *["id", "url", "sku", "title", "category", "price", "old_price"],
    *["rating", "reviews", "currency", "in_stock", "scraped_at", "scrape_date"],
]
QUANTILES = [0.05, 0.5, 0.95]
RANGES = [[0, 20], [10, 40], [30, 200]]

#: The suite, as a user writes it: 20 expectations, of which three find unexpected rows that `mostly` allows.
SUITE: list[tuple[str, dict[str, Any]]] = [
    ("expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 10**9}),
    ("expect_table_columns_to_match_set", {"column_set": COLUMNS}),
    ("expect_column_values_to_not_be_null", {"column": "id"}),
    ("expect_column_values_to_be_unique", {"column": "id"}),
    ("expect_column_values_to_not_be_null", {"column": "url"}),
    ("expect_column_values_to_match_regex", {"column": "url", "regex": ADDRESS}),
    ("expect_column_value_lengths_to_be_between", {"column": "title", "min_value": 5, "max_value": 200}),
    ("expect_column_values_to_be_in_set", {"column": "category", "value_set": CATEGORIES[:11], "mostly": 0.9}),
    ("expect_column_values_to_be_in_set", {"column": "currency", "value_set": CURRENCIES}),
    ("expect_column_values_to_not_be_null", {"column": "price", "mostly": 0.95}),
    ("expect_column_values_to_be_between", {"column": "price", "min_value": 0.01, "max_value": 100, "mostly": 0.9}),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "old_price", "column_B": "price", "or_equal": True, "ignore_row_if": "either_value_is_missing"},
    ),
    ("expect_column_values_to_be_between", {"column": "rating", "min_value": 0, "max_value": 5}),
    ("expect_column_max_to_be_between", {"column": "reviews", "min_value": 0, "max_value": 5000}),
    ("expect_column_mean_to_be_between", {"column": "price", "min_value": 10, "max_value": 50}),
    ("expect_column_median_to_be_between", {"column": "price", "min_value": 10, "max_value": 50}),
    ("expect_column_stdev_to_be_between", {"column": "price", "min_value": 5, "max_value": 100}),
    (
        "expect_column_quantile_values_to_be_between",
        {"column": "price", "quantile_ranges": {"quantiles": QUANTILES, "value_ranges": RANGES}},
    ),
    ("expect_compound_columns_to_be_unique", {"column_list": ["sku", "scrape_date"]}),
    ("expect_column_unique_value_count_to_be_between", {"column": "category", "min_value": 12, "max_value": 12}),
]


# ---- the data


def products(rows: int) -> pl.LazyFrame:
    """Rows of a shop, the same for the same number of rows."""
    number = pl.int_range(rows, eager=True, dtype=pl.Int64).alias("id").to_frame().lazy()
    id_ = pl.col("id")

    def share(seed: int) -> pl.Expr:
        """An even spread from 0 to 1."""
        return (id_.hash(seed) % 1_000_003) / 1_000_003

    price = 10 + 40 * share(1) * share(2) + pl.when(share(3) > 0.98).then(90.0).otherwise(0.0)
    return number.with_columns(
        url=pl.format("https://shop{}.example.com/p/{}", id_ % 50, id_),
        sku=pl.format("SKU-{}", id_ // 2),
        title=pl.format("Product number {} of the {} series", id_, id_ % 997),
        category=pl.format("category-{}", pl.when(share(4) > 0.92).then(11).otherwise(id_ % 11)),
        price=pl.when(share(5) > 0.03).then(price.round(2)),
        old_price=pl.when(share(6) > 0.5).then((price * 1.25).round(2)),
        rating=pl.when(share(7) > 0.2).then((share(8) * 50).round(0) / 10),
        reviews=(share(9) * 4999).cast(pl.Int64),
        currency=pl.lit(pl.Series(CURRENCIES)).gather(id_ % 4),
        in_stock=share(10) > 0.3,
        scraped_at=pl.lit(0).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds=1_750_000_000 + id_ % 86_400),
        scrape_date=pl.date(2026, 1, 1) + pl.duration(days=id_ % 2),
    ).select(COLUMNS)


# ---- the variants: each gives what is run, again and again, and whether the suite was met


def hand_written(path: Path) -> Callable[[], bool]:
    """What a careful person writes: every count in one collect, and no samples of what failed."""
    column = pl.col
    bad = {
        "id is null": column("id").is_null(),
        "id twice": column("id").is_duplicated(),
        "url is null": column("url").is_null(),
        "url": ~column("url").str.contains(ADDRESS),
        "title": ~column("title").str.len_chars().is_between(5, 200),
        "category": ~column("category").is_in(CATEGORIES[:11]),
        "currency": ~column("currency").is_in(CURRENCIES),
        "price is null": column("price").is_null(),
        "price": ~column("price").is_between(0.01, 100),
        "pair": ~(column("old_price") >= column("price")),
        "rating": ~column("rating").is_between(0, 5),
        "compound": pl.struct("sku", "scrape_date").is_duplicated(),
    }
    price = column("price")
    measured = {
        "rows": pl.len(),
        "prices": price.count(),
        "reviews": column("reviews").max(),
        "mean": price.mean(),
        "median": price.median(),
        "deviation": price.std(),
        **{f"quantile {share}": price.quantile(share) for share in QUANTILES},
        "categories": column("category").n_unique(),
    }
    exprs = [expr.sum().alias(name) for name, expr in bad.items()] + [e.alias(name) for name, e in measured.items()]
    mostly = {"category": 0.9, "price is null": 0.95, "price": 0.9}

    def run() -> bool:
        frame = pl.scan_parquet(path)
        found = frame.select(exprs).collect().row(0, named=True)
        rows = {"price": found["prices"]}
        met = [found[name] <= (1 - mostly.get(name, 1)) * rows.get(name, found["rows"]) for name in bad]
        quantiles = [found[f"quantile {share}"] for share in QUANTILES]
        measured = [
            found["rows"] >= 1,
            set(frame.collect_schema().names()) == set(COLUMNS),
            0 <= found["reviews"] <= 5000,
            10 <= found["mean"] <= 50,
            10 <= found["median"] <= 50,
            5 <= found["deviation"] <= 100,
            all(low <= value <= high for value, (low, high) in zip(quantiles, RANGES, strict=True)),
            found["categories"] == 12,
        ]
        return all(met) and all(measured)

    return run


def suite() -> Any:
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    return gx.ExpectationSuite(
        name="products",
        expectations=[ExpectationConfiguration(type=kind, kwargs=kwargs).to_domain_obj() for kind, kwargs in SUITE],
    )


def compiled(path: Path) -> Callable[[], bool]:
    from gossamer.quality import CompiledSuite

    ours = CompiledSuite(suite())
    return lambda: bool(ours.run(pl.scan_parquet(path)).success)


def proven(path: Path) -> Callable[[], bool]:
    """Without Great Expectations, but for the proof itself, which the lake would have."""
    from gossamer.quality import CompiledSuite
    from gossamer.quality.gx.proof import Proof

    proof = Proof.from_json(CompiledSuite(suite()).proof().to_json())
    return lambda: proof.prove(pl.scan_parquet(path)) is not None


def engine(path: Path) -> Callable[[], bool]:
    """The other front door: Great Expectations' own validation, over our datasource."""
    import gossamer.quality

    _ = gossamer.quality.PolarsDatasource  # its definition makes `add_polars` known
    context = _context()
    frames = context.data_sources.add_polars("polars").add_frame_asset("frames")
    return _validation(context, frames.add_batch_definition_whole_frame("whole"), lambda: pl.scan_parquet(path))


def pandas(path: Path) -> Callable[[], bool]:
    # with marshmallow 4 GX's quantiles fail on every engine, but for the class that this module registers
    import gossamer.quality.gx.expectations  # noqa: F401

    context = _context()
    frames = context.data_sources.add_pandas("pandas").add_dataframe_asset("frames")
    whole = frames.add_batch_definition_whole_dataframe("whole")
    return _validation(context, whole, lambda: pl.read_parquet(path).to_pandas())


def _context() -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def _validation(context: Any, definition: Any, frame: Callable[[], Any]) -> Callable[[], bool]:
    import great_expectations as gx

    validation = gx.ValidationDefinition(name="validation", data=definition, suite=context.suites.add(suite()))
    validation = context.validation_definitions.add(validation)
    return lambda: bool(validation.run(batch_parameters={"dataframe": frame()}, result_format="SUMMARY").success)


VARIANTS: Mapping[str, Callable[[Path], Callable[[], bool]]] = {
    "hand-written": hand_written,
    "compiled": compiled,
    "proof": proven,
    "engine": engine,
    "gx on pandas": pandas,
}


class Cost(NamedTuple):
    """CPU seconds of the best run, megabytes above the start."""

    cpu: float
    memory: float


def resident() -> float:
    """The most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(variant: str, path: Path, runs: int) -> Cost:
    """In this process; the bars are about what a run takes, not about imports."""
    run = VARIANTS[variant](path)
    before, seconds = resident(), []
    for _ in range(runs):
        began = time.process_time()
        if not run():
            raise SystemExit(f"{variant}: the suite is met by this data, and it says otherwise")
        seconds.append(time.process_time() - began)
    return Cost(min(seconds), resident() - before)


def child(*arguments: object) -> Any:
    """What a fresh process of this benchmark prints, as JSON."""
    environ = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "benchmarks.quality", *map(str, arguments)]
    made = subprocess.run(command, env=environ, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(made.stdout.splitlines()[-1])


# ---- bars


class Bar(NamedTuple):
    """What must hold: a figure, and the most or the least it may be."""

    name: str
    measured: float
    most: float | None = None
    least: float | None = None
    unit: str = ""

    @property
    def held(self) -> bool:
        return (self.most is None or self.measured <= self.most) and (self.least is None or self.measured >= self.least)


def large(rows: int, rounds: int, folder: Path) -> list[Bar]:
    path = folder / "products.parquet"
    child("--make", path, "--rows", rows)
    costs: dict[str, list[Cost]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):  # in turn, so that a slower minute of the machine meets all alike
        for variant in VARIANTS:
            costs[variant].append(Cost(*child("--variant", variant, "--data", path, "--runs", 3 if rows < MANY else 1)))
    best = {
        variant: Cost(min(each.cpu for each in found), statistics.median(each.memory for each in found))
        for variant, found in costs.items()
    }
    print(f"\n{rows:,} rows x {len(COLUMNS)} columns, {len(SUITE)} expectations, {rounds} rounds")
    print(f"{'':<16}{'CPU s':>8}{'MB above start':>16}")
    for variant, cost in best.items():
        print(f"{variant:<16}{cost.cpu:>8.2f}{cost.memory:>16.0f}")
    hand, ours, theirs = best["hand-written"], best["compiled"], best["gx on pandas"]
    return [
        Bar("compiled suite / hand-written, CPU", ours.cpu / hand.cpu, most=1.1, unit="x"),
        Bar("engine / hand-written, CPU", best["engine"].cpu / hand.cpu, most=1.3, unit="x"),
        Bar("GX on pandas / compiled suite, CPU", theirs.cpu / ours.cpu, least=5 if rows < MANY else 3.7, unit="x"),
        Bar("compiled suite, memory above the start", ours.memory, most=1024, unit=" MB"),
        Bar("GX on pandas / compiled suite, memory", theirs.memory / max(ours.memory, 1), least=5, unit="x"),
    ]


# ---- small partitions


def declared(folder: Path) -> Source:
    """A source with the suite in its folder."""
    expectations = [{"type": kind, "kwargs": kwargs, "severity": "critical"} for kind, kwargs in SUITE]
    (folder / "expectations.json").write_text(json.dumps({"name": "shop", "expectations": expectations}))
    fields = {"id": "int", "url": "url", "sku": "str", "title": "text", "category": "str", "price": "float"}
    spec = {
        "name": "shop",
        "spider": "spider:Spider",
        "partitions": {"period": "daily", "start": "2026-01-01"},
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": ["id"], "fields": fields},
    }
    return Source(SourceSpec.model_validate(spec), folder)


def checked(source: Source, path: Path, *, proof: bool) -> bool:
    """The asset checks' way: what a step evaluates for one partition."""
    lake = Lake((source.folder / "lake").as_uri()) if proof else None  # where the proof of the suite is kept
    found = evaluate(source, source.suite_file, pl.scan_parquet(path), lake=lake)
    return len(found.outcomes) == len(SUITE) and all(outcome.passed for outcome in found.outcomes)


def page(folder: Path, path: Path) -> Callable[[], bool]:
    """The report of a partition, with all that a report tells."""
    source, frame, key = declared(folder), pl.scan_parquet(path), "2026-11-20"
    statistics_ = profile(frame, source, key)
    found = checks.expectations(evaluate(source, folder / "expectations.json", frame).outcomes, [], ["id"])
    layers: dict[str, dict[str, Any]] = {
        "raw": {"notes": {"books": {"requests": {"discovered": SMALL, "fetched": SMALL}}}},
        "clean": {"checks": found, "notes": {"profile": statistics_.model_dump(mode="json")}},
        "enriched": {"notes": {"changes": {"previous": "2026-11-19", "new": 12, "changed": 87, "gone": 9}}},
    }
    common = {"source": "shop", "partition": key, "rows": SMALL, "columns": {}}
    manifests = {
        layer: Manifest.model_validate({**common, "layer": layer, "version": f"{layer}-1", **more})
        for layer, more in layers.items()
    }
    history = [statistics_.model_copy(update={"partition": f"2026-11-{day:02}"}) for day in range(1, 20)]
    sample = frame.head(20).collect()
    return lambda: "<html" in render(source, manifests, sample, history=history)


def milliseconds(run: Callable[[], bool], times: int) -> list[float]:
    """CPU of each run but the first; all must succeed."""
    taken = []
    for _ in range(times + 1):
        began = time.process_time()
        if not run():
            raise SystemExit("a small partition: the suite is met by this data, and it says otherwise")
        taken.append((time.process_time() - began) * 1000)
    return taken[1:]


def in_one_process(folder: Path, path: Path) -> dict[str, list[float]]:
    from gossamer.quality import CompiledSuite

    source, ours, frame = declared(folder), CompiledSuite(suite()), pl.read_parquet(path)
    proof = ours.proof()
    return {
        _COMPILED: milliseconds(lambda: bool(ours.run(frame).success), 200),
        "proof, in memory": milliseconds(lambda: proof.prove(frame) is not None, 200),
        "asset checks, by proof": milliseconds(lambda: checked(source, path, proof=True), PARTITIONS),
        "asset checks, without proof": milliseconds(lambda: checked(source, path, proof=False), PARTITIONS // 10),
        _PAGE: milliseconds(page(folder, path), 100),
    }


_COMPILED, _PAGE = "compiled suite, in memory", "report page"


def small(folder: Path) -> list[Bar]:
    """Partitions of 1,000 rows: in one process, and each in a process of its own."""
    path = folder / "small.parquet"
    child("--make", path, "--rows", SMALL)
    found = child("--small", folder)
    fresh = {
        "a process each, by proof": lambda: child("--fresh", folder, "--by-proof"),
        "a process each, without proof": lambda: child("--fresh", folder),
    }
    found |= {name: [_cpu(run) * 1000 for _ in range(PROCESSES)] for name, run in fresh.items()}
    print(f"\n{SMALL:,} rows x {len(COLUMNS)} columns, {len(SUITE)} expectations: CPU of one partition, in ms")
    print(f"{'':<32}{'partitions':>11}{'best':>8}{'mean':>8}")
    for name, taken in found.items():
        print(f"{name:<32}{len(taken):>11}{min(taken):>8.1f}{statistics.fmean(taken):>8.1f}")
    return [
        Bar(f"compiled suite, {SMALL:,} rows in memory, CPU", min(found[_COMPILED]), most=10, unit=" ms"),
        Bar("report page, CPU", min(found[_PAGE]), most=6, unit=" ms"),
    ]


def _cpu(run: Callable[[], Any]) -> float:
    """CPU seconds of the processes that it waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# ---- the command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=("large", "small"))
    # what its own child processes do
    for name in ("--make", "--small", "--fresh", "--data"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--by-proof", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if done := _as_child(given):
        print(json.dumps(done))
        return
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as name:
        if given.only != "small":
            bars += large(given.rows, given.rounds, Path(name))
        if given.only != "large":
            bars += small(Path(name))
    print()
    for bar in bars:
        wanted = f"at most {bar.most:g}" if bar.most is not None else f"at least {bar.least:g}"
        verdict = "ok" if bar.held else "missed"
        print(f"{bar.name:<44}{bar.measured:>9.2f}{bar.unit:<4}{wanted:>16}{bar.unit:<4}{verdict:>8}")
    sys.exit(0 if all(bar.held for bar in bars) else 1)


def _as_child(given: argparse.Namespace) -> Any:
    if given.variant:
        return measure(given.variant, given.data, given.runs)
    if given.make:
        products(given.rows).sink_parquet(given.make)
        return "made"
    if given.small:
        return in_one_process(given.small, given.small / "small.parquet")
    if given.fresh:
        return checked(declared(given.fresh), given.fresh / "small.parquet", proof=given.by_proof)
    return None


if __name__ == "__main__":
    main()
