"""`python -m tests.torture`: hours of a crawl's bad luck in minutes; `make torture`, not a part of CI.

Hundreds of kills, a large site, machines that vanish, processes thought dead, full disks, clocks that jump, a lake that
is away. Says for each what came of it, and exits with 1 where any crawl ended otherwise than an undisturbed one.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests import services
from tests.torture.crawls import (
    Trial,
    Truth,
    Verdict,
    instants,
    kill_and_resume,
    killed,
    take_over,
    trial,
    truth,
    wipe_and_restore,
)
from tests.torture.site import Plan

#: Numbered pages of the large site: some 10,000 addresses.
LARGE = 3_800
#: A page with so many outputs makes a store too big for the small disk; of a lake, which is smaller, the most is taken.
FAN = 10_000
BALLAST = 950_000
_FAKETIME = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")

T = TypeVar("T")
Scenario = Callable[[Path, Truth, argparse.Namespace], Iterator[Verdict]]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the instants (default: the clock)")
    parser.add_argument("--only", choices=sorted(SCENARIOS), help="one scenario")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="torture-") as place:
        folder = Path(place)
        known = truth(folder / "known")
        for name, scenario in SCENARIOS.items():
            if options.only in (None, name):
                (folder / name).mkdir()
                failed |= _report(name, scenario(folder / name, known, options))
    return int(failed)


def _report(name: str, coming: Iterator[Verdict]) -> bool:
    """Prints what comes of a scenario; whether a crawl was not exact."""
    began, verdicts = time.monotonic(), list[Verdict]()
    try:
        for verdict in coming:
            verdicts.append(verdict)
            for fault in verdict.faults:
                print(f"  {name}: {verdict.what}: {fault}", flush=True)
    except pytest.skip.Exception as reason:
        print(f"{name:10} skipped: {reason}", flush=True)
        return False
    kills, most = sum(verdict.kills for verdict in verdicts), max((verdict.repeated for verdict in verdicts), default=0)
    wrong = sum(bool(verdict.faults) for verdict in verdicts)
    print(
        f"{name:10} {len(verdicts):4} crawls, {kills:4} hit alive, {most:.0f} repeated requests a kill at most, "
        f"{wrong} not exact, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return wrong > 0


def _at_once(
    work: Callable[[Path, T, Truth], Verdict], cases: Sequence[T], folder: Path, known: Truth
) -> Iterator[Verdict]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda case: work(folder / str(case[0]), case[1], known), enumerate(cases))


def kills(folder: Path, known: Truth, options: argparse.Namespace) -> Iterator[Verdict]:
    """Kills at any instant."""
    cases = instants(options.kills * 4 // 5, known, options.seed)
    yield from _at_once(kill_and_resume, cases, folder, known)


def large(folder: Path, _: Truth, options: argparse.Namespace) -> Iterator[Verdict]:
    """A large site, and kill after kill on one crawl."""
    known = truth(folder / "known", Plan(pages=LARGE))
    draw, hit, count = random.Random(options.seed), 0, max(1, options.kills // 5)
    with trial(folder / "crawl", Plan(pages=LARGE)) as crawl:
        for _number in range(count):
            process = crawl.start()
            crawl.site.wait_for(len(crawl.site.asked()) + known.moment(draw.uniform(0.2, 1.2) / count), process)
            hit += killed(process)
        faults = crawl.finish().differences(known.outcome)
        yield Verdict(f"{count} kills in a row", hit, known.repeated(crawl.site) / count, tuple(faults))


def machines(folder: Path, known: Truth, options: argparse.Namespace) -> Iterator[Verdict]:
    """The machine vanishes with the process; another one goes on from the lake."""
    cases = instants(max(1, options.kills // 10), known, options.seed + 1)
    yield from _at_once(wipe_and_restore, cases, folder, known)


def overtaken(folder: Path, known: Truth, options: argparse.Namespace) -> Iterator[Verdict]:
    """A process that was stopped goes on after another one has brought its crawl to the end."""
    cases = [instant for [instant] in instants(max(1, options.kills // 10), known, options.seed + 2, each=1)]
    yield from _at_once(take_over, cases, folder, known)


def disk(folder: Path, _: Truth, __: argparse.Namespace) -> Iterator[Verdict]:
    """The disk of the store fills up, then that of the lake; there is room again, and the crawl goes on."""
    plan = Plan(pages=60, fan=FAN)
    known = truth(folder / "known", plan)
    for what in ("store", "lake"):
        (folder / what).mkdir()
        with services.small_disk(folder / what) as small:
            (small / "ballast").write_bytes(bytes(BALLAST) if what == "lake" else b"")
            lake, crawls = (small, None) if what == "lake" else (None, small)
            with trial(folder / what / "crawl", plan, lake=lake, crawls=crawls) as crawl:
                code = crawl.run()
                faults = [] if code == 1 else [f"exit code {code} on a full disk"]
                if "No space left" not in crawl.end_of_log():
                    faults.append(f"no words about a full disk:\n{crawl.end_of_log()}")
                subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
                faults += crawl.finish().differences(known.outcome)
                yield Verdict(f"the disk of the {what} is full", int(code == 1), 0, tuple(faults))


def clocks(folder: Path, known: Truth, _: argparse.Namespace) -> Iterator[Verdict]:
    """The clock jumps two days forth and back while the crawl runs."""
    library = next((path for root in _FAKETIME for path in Path(root).glob("**/libfaketime.so*")), None)
    if library is None:
        services.unavailable("no libfaketime (apt-get install libfaketime)")
    for jump in ("+2d", "-2d"):
        with trial(folder / jump) as crawl:
            clock = folder / f"{jump}.clock"
            clock.write_text("+0")
            process = crawl.start(
                LD_PRELOAD=str(library),
                FAKETIME_TIMESTAMP_FILE=str(clock),
                FAKETIME_NO_CACHE="1",
                FAKETIME_DONT_FAKE_MONOTONIC="1",
            )
            crawl.site.wait_for(known.moment(0.4), process)
            clock.write_text(jump)
            code = crawl.ended(process)
            faults = [] if code == 0 else [f"exit code {code}: {crawl.end_of_log()}"]
            faults += crawl.finish().differences(known.outcome)
            yield Verdict(f"the clock jumps by {jump}", 1, known.repeated(crawl.site), tuple(faults))


def away(folder: Path, known: Truth, _: argparse.Namespace) -> Iterator[Verdict]:
    """The lake cannot be reached for a while: in the middle of a crawl, and when it would commit."""
    for parking in ("", "continuous"):
        for share in (0.4, 0.95):
            with trial(folder / f"{parking}{share}", parking=parking) as crawl:
                process = crawl.start()
                crawl.site.wait_for(known.moment(share), process)
                with _lake_away(crawl):
                    time.sleep(8)
                code = crawl.ended(process)
                faults = crawl.finish().differences(known.outcome)
                what = f"the lake is away for 8 s at {share:.0%} ({parking or 'no'} parking, exit code {code})"
                yield Verdict(what, 1, known.repeated(crawl.site), tuple(faults))


@contextlib.contextmanager
def _lake_away(crawl: Trial) -> Iterator[None]:
    """A file in its place: a folder that is only missing would be made again, and rights do not bind root."""
    lake, aside = Path(crawl.settings.lake), crawl.folder / "aside"
    lake.rename(aside)
    lake.touch()
    try:
        yield
    finally:
        lake.unlink()
        aside.rename(lake)


SCENARIOS: dict[str, Scenario] = {
    function.__name__: function for function in (kills, large, machines, overtaken, disk, clocks, away)
}

if __name__ == "__main__":
    sys.exit(main())
