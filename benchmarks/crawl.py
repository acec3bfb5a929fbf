"""What a crawl costs on our engine: against stock Scrapy, against no durability, and with a million requests waiting.

One generated shop (`crawl_site`, on a core of its own), one ordinary spider (`crawl_spider`), Scrapy's default
middlewares, 64 requests at once. Every run is a process of its own on another core; they take turns, and a ratio is to
the stock runs just before and after, so that a slower minute of the machine meets all alike. Pages for a second of CPU
(user and system; start-up left out, the end of the crawl included) are compared, not pages for a second of the clock:
others may use the machine. Items must be those of stock Scrapy, or the benchmark fails.

    python -m benchmarks.crawl [--quick] [--rounds N] [--jobdir] [--only speed|memory]
"""

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.crawl_meter import Cost, items_of
from benchmarks.crawl_pending import PAGES_AT_DEPTH, Depth, start_with
from benchmarks.crawl_site import PAGES, START

PROJECT = Path(__file__).resolve().parent.parent
ROUNDS = 5
FEW, MANY = 10_000, 1_000_000

#: The bars: at least so many times stock's pages for a second of CPU; durability at most this share; MB of memory.
FASTER, DURABILITY = 1.7, 0.10
FLAT_MB, MOST_MB = 60, 220

_NAMES = {
    "stock": "stock Scrapy, in memory",
    "jobdir": "stock Scrapy, JOBDIR",
    "durable": "ours, durable",
    "memory": "ours, :memory:, no segments",
}

Items = Counter[str]


class DifferentItemsError(Exception):
    """A run found other items than stock Scrapy."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, and a tenth of the requests that wait")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--jobdir", action="store_true", help="stock Scrapy with JOBDIR too")
    parser.add_argument("--only", choices=("speed", "memory"))
    options = parser.parse_args()
    with site() as address:
        if options.only != "memory":
            speed(address, 1 if options.quick else options.rounds, jobdir=options.jobdir)
        if options.only != "speed":
            memory(address, (FEW, MANY // 10) if options.quick else (FEW, MANY))


@contextlib.contextmanager
def site() -> Iterator[str]:
    """The shop's server in a process of its own; its address."""
    command = [sys.executable, "-m", "benchmarks.crawl_site"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def measured(kind: str, start: str) -> tuple[dict[str, Any], Items]:
    """A crawl in a fresh process: what it prints of its cost, and its items.

    Raises:
        SystemExit: it failed; the end of its log is shown.
    """
    module = "crawl_stock" if kind in ("stock", "jobdir") else "crawl_ours"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", f"benchmarks.{module}", kind, start, folder]
        with log.open("w") as errors:
            done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed ({done.returncode}):\n{log.read_text()[-4000:]}")
        found = items_of(Path(folder))
        lines = found.read_text().splitlines() if found.exists() else []
        items = Counter(json.dumps(json.loads(line), sort_keys=True) for line in lines)
        return json.loads(done.stdout.splitlines()[-1]), items


def speed(address: str, rounds: int, *, jobdir: bool) -> None:
    """Measures and prints the first table.

    Raises:
        DifferentItemsError: a run found other items than stock Scrapy.
    """
    others = [*(["jobdir"] if jobdir else []), "durable", "memory"]
    costs: dict[str, list[Cost]] = {kind: [] for kind in ("stock", *others)}
    expected: Items | None = None
    for kind in _turns(others, rounds):
        found, items = measured(kind, address + START)
        cost = Cost(**found)
        expected = items if expected is None else expected
        if items != expected or cost.pages != PAGES:
            missing, other = (expected - items).total(), (items - expected).total()
            raise DifferentItemsError(
                f"{_NAMES[kind]}: {cost.pages} pages of {PAGES}; {missing} items are missing, {other} are others."
            )
        costs[kind].append(cost)
        print(f"  {_NAMES[kind]:<28} {1e3 * cost.cpu / cost.pages:.3f} CPU ms/page", file=sys.stderr, flush=True)
    print_speed(costs)


def _turns(others: Sequence[str], rounds: int) -> Iterator[str]:
    """Back and forth between stock runs, so that none of the others is always the one just after stock."""
    for number in range(rounds):
        yield "stock"
        yield from others if number % 2 == 0 else reversed(others)
    yield "stock"


def print_speed(costs: Mapping[str, list[Cost]]) -> None:
    print(f"\n{PAGES} pages, the same items in all runs; {len(costs['durable'])} rounds, medians [min to max]")
    heads = f"{'pages/CPU s':>12} {'CPU ms/page':>12} {'end, CPU s':>11} {'peak MB':>8} {'CPU/wall':>9}"
    print(f"{'':<28} {heads}  x stock")
    stock = [_pace(cost) for cost in costs["stock"]]
    beside = [statistics.mean(pair) for pair in itertools.pairwise(stock)]
    for kind, runs in costs.items():
        ratios = [_pace(run) / base for run, base in zip(runs, beside, strict=False)]
        bar = _bar(statistics.median(ratios) >= FASTER, f">= {FASTER}") if kind == "durable" else ""
        print(
            f"{_NAMES[kind]:<28} {_middle(_pace(run) for run in runs):12.0f} "
            f"{_middle(1e3 * run.cpu / run.pages for run in runs):12.3f} {_middle(run.end for run in runs):11.2f} "
            f"{_middle(run.peak_mb for run in runs):8.0f} {_middle(run.cpu / run.wall for run in runs):9.2f}  "
            f"{_spread(ratios, '.2f') if kind != 'stock' else '1'}{bar}"
        )
    shares = [durable.cpu / memory.cpu - 1 for durable, memory in zip(costs["durable"], costs["memory"], strict=True)]
    bar = _bar(statistics.median(shares) <= DURABILITY, f"<= {DURABILITY:.0%}")
    print(f"durability costs {_spread(shares, '.1%')} CPU{bar}")


def memory(address: str, sizes: tuple[int, int]) -> None:
    """Measures and prints the second table."""
    few, many = (Depth(**measured("pending", address + start_with(pending))[0]) for pending in sizes)
    heads = f"{'enqueue, CPU us':>15} {'CPU ms/page':>12} {'full':>9} {'fetched':>12} {'peak':>9} {'its end':>12}"
    print(f"\n{PAGES_AT_DEPTH} pages fetched while so many requests wait; MB of RSS")
    print(f"{'':>10} {heads}")
    for depth in (few, many):
        print(
            f"{depth.pending:>10,} {depth.fill_us:15.0f} {depth.page_ms:12.3f} {depth.full_mb:9.0f} "
            f"{depth.rss_mb:12.0f} {depth.peak_mb:9.0f} {depth.end_mb:12.0f}"
        )
    apart = abs(many.rss_mb - few.rss_mb)
    print(f"apart when fetched: {apart:.0f} MB{_bar(apart <= FLAT_MB, f'<= {FLAT_MB} MB')}")
    for words, most in (("peak while it crawls", many.peak_mb), ("peak with its end", many.end_mb)):
        print(f"{words}: {most:.0f} MB{_bar(most <= MOST_MB, f'<= {MOST_MB} MB')}")


def _pace(cost: Cost) -> float:
    return cost.pages / cost.cpu


def _middle(numbers: Iterator[float]) -> float:
    return statistics.median(numbers)


def _spread(numbers: Sequence[float], form: str) -> str:
    return f"{statistics.median(numbers):{form}} [{min(numbers):{form}} to {max(numbers):{form}}]"


def _bar(met: bool, words: str) -> str:
    return f"   bar {words}: {'met' if met else 'MISSED'}"


if __name__ == "__main__":
    main()
