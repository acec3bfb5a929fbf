"""Crawls of the torture site in processes of their own, and how one that was disturbed compares with one that was not.

Everything is looked at as a user sees it: exit codes, the lake, what is left on the machine, and the site's own log.
How a crawl is disturbed belongs to the tests.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gossamer.crawl.life import Crawl, Wish, ask
from gossamer.errors import LakeError
from gossamer.lake import INCOMPLETE, Lake
from gossamer.manifest import Manifest
from gossamer.settings import PROJECT, Settings
from tests.torture.site import Plan, Site, serve

NAME = "torture"
KEY = "2026-01-05"
RUN = "run-1"
DEFAULT = Plan()
SOURCE = Path(__file__).parent / "source"
#: How many requests the site may see twice for one kill: 16 in flight, and what is not committed for 30 ms.
MOST_REPEATED = 80
#: A crawl that goes on beyond this hangs.
PATIENCE_SECONDS = 240

Rows = Counter[str]


@dataclass(frozen=True)
class Outcome:
    """What came of a crawl: its rows as a multiset, and its ledgers.

    Attributes:
        rows: as JSON, without the time of fetching and the site's port.
        requests: the ledger of requests, without duplicate links, which an idle handler that runs again adds to.
        letters: the dead letters, (path, reason).
    """

    rows: Rows
    requests: Mapping[str, Any]
    records: Mapping[str, Any]
    unserialisable: int
    closed: bool
    letters: Counter[tuple[str, str]]

    def differences(self, truth: "Outcome") -> list[str]:
        """In words, what is not as in the uninterrupted crawl; nothing where all is."""
        lost, doubled = truth.rows - self.rows, self.rows - truth.rows
        found = [f"{lost.total()} records lost: {sorted(lost)[:3]}"] if lost else []
        found += [f"{doubled.total()} records too many: {sorted(doubled)[:3]}"] if doubled else []
        found += [] if self.closed else ["the books are not closed"]
        for name in ("requests", "records", "unserialisable", "letters"):
            mine, theirs = getattr(self, name), getattr(truth, name)
            if mine != theirs:
                found.append(f"{name}: {mine} instead of {theirs}")
        return found


class HasLog(Protocol):
    """A site that knows what it was asked: when, with which method, for which path."""

    def asked(self) -> Sequence[tuple[float, str, str]]: ...


@dataclass(frozen=True)
class Truth:
    """An uninterrupted crawl: what came of it, and what the site was asked (method and path)."""

    outcome: Outcome
    asked: Counter[tuple[str, str]]

    def repeated(self, site: "HasLog") -> int:
        """How many requests more than in the uninterrupted crawl this site saw."""
        return (_asked(site) - self.asked).total()

    def moment(self, share: float) -> int:
        """The number of requests after which this share of the crawl is done."""
        return max(1, round(share * self.asked.total()))


class Trial:
    """One crawl of the site by an installation in a folder of its own."""

    def __init__(self, folder: Path, site: Site, *, parking: str, lake: Path | str | None, crawls: Path | None) -> None:
        self.site = site
        self.name = NAME
        self.folder = folder
        source = folder / "sources" / NAME
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
        (source / "seeds.txt").write_text(f"{site.url}/\n")
        self.crawls = crawls or folder / "crawls"
        environ = {"GOSSAMER_CRAWLS": str(self.crawls)} | ({"GOSSAMER_PARKING": parking} if parking else {})
        self.settings = Settings.load(folder / "sources", str(lake or folder / "lake"), environ=environ)
        own = {"PYTHONPATH": _python_path(), "PYTHONFAULTHANDLER": "1"}
        self.environ = {**os.environ, **self.settings.environ(), **environ, **own}
        self.lake = Lake(self.settings.lake)

    @property
    def crawl(self) -> Crawl:
        return Crawl(self.name, KEY, 1)

    # -- processes ------------------------------------------------------------------------------------------------

    def start(self, *options: str, **environ: str) -> "subprocess.Popen[str]":
        """Begins a launch of the crawl."""
        command = [sys.executable, "-m", "gossamer.crawl", "--source", NAME, "--partition", KEY]
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*command, "--run-id", RUN, "--root-run", RUN, *options],
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def run(self, *options: str, **environ: str) -> int:
        """One launch to its end; its exit code."""
        return self.ended(self.start(*options, **environ))

    def ended(self, process: "subprocess.Popen[str]", seconds: float = PATIENCE_SECONDS) -> int:
        """The exit code of a launch that ends by itself; one that does not is a failure, and killed."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it tells where it hangs
            process.wait(10)
            raise AssertionError(f"still there after {seconds:g} s:\n{self.end_of_log(200)}") from None
        finally:
            killed(process)

    def finish(self) -> Outcome:
        """The crawl is taken up again and brought to its end."""
        code = self.run()
        assert code == 0, f"exit code {code}; the end of its log:\n{self.end_of_log()}"
        return self.outcome()

    @property
    def log(self) -> Path:
        return self.folder / "crawl.log"

    def end_of_log(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text().splitlines()[-lines:])

    def ask(self, wish: Wish, why: str = "") -> None:
        """Writes a wish into the crawl's control object."""
        ask(self.lake, self.crawl, wish, by="ann", why=why)

    # -- what came of it ------------------------------------------------------------------------------------------

    def manifest(self, layer: str = "raw") -> Manifest:
        return self.lake.current(layer, self.name, KEY)

    def outcome(self, layer: str = "raw") -> Outcome:
        failed = self.lake.manifest(INCOMPLETE, self.name, KEY) if layer == "raw" else None
        assert failed is None, f"the books do not close: {[check.summary for check in failed.checks]}"
        manifest = self.manifest(layer)
        assert manifest.crawl_id == self.crawl.id
        books = manifest.notes["books"]
        requests = {name: value for name, value in books["requests"].items() if name != "duplicates"}
        dead = self.lake.scan("dead_letters", self.name, KEY).select("url", "reason").collect()
        letters = Counter((url.removeprefix(self.site.url), reason) for url, reason in dead.iter_rows())
        closed = books["audit"]["closed"] and requests["pending"] == 0
        return Outcome(self.rows(layer), requests, books["records"], books["unserialisable"], closed, letters)

    def rows(self, layer: str = "raw") -> Rows:
        frame = self.lake.scan(layer, self.name, KEY).drop("_fetched_at").collect()
        return Counter(
            json.dumps(row, sort_keys=True, ensure_ascii=False).replace(self.site.url, "").replace(self.name, NAME)
            for row in frame.iter_rows(named=True)
        )

    def is_committed(self) -> bool:
        try:
            self.manifest()
        except LakeError:
            return False
        return True

    def objects(self, prefix: str = "") -> dict[str, str]:
        """The lake's objects and their hashes; progress is for people to look at, and changes."""
        paths = [path for path in self.lake.paths(prefix) if not path.startswith("progress/")]
        return {path: hashlib.sha256(self.lake.get(path) or b"").hexdigest() for path in paths}

    def left_on_machine(self) -> list[Path]:
        return sorted(self.crawls.rglob("*")) if self.crawls.exists() else []

    def wipe_machine(self) -> None:
        """The machine is gone, with all that the crawl had on it."""
        shutil.rmtree(self.crawls, ignore_errors=True)


def killed(process: "subprocess.Popen[str]") -> bool:
    """Kills the process; whether it was alive."""
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


@contextlib.contextmanager
def trial(
    folder: Path,
    plan: Plan = DEFAULT,
    *,
    parking: str = "",
    lake: Path | None = None,
    crawls: Path | None = None,
) -> Iterator[Trial]:
    """A crawl that has not begun, and its own site."""
    folder.mkdir(parents=True)
    with serve(folder, plan) as site:
        yield Trial(folder, site, parking=parking, lake=lake, crawls=crawls)


def truth(folder: Path, plan: Plan = DEFAULT) -> Truth:
    """What an uninterrupted crawl of such a site brings."""
    with trial(folder, plan) as crawl:
        return Truth(crawl.finish(), _asked(crawl.site))


def stock(folder: Path, plan: Plan = DEFAULT) -> list[dict[str, Any]]:
    """The items that Scrapy itself gets with the same spider."""
    folder.mkdir(parents=True)
    feed = folder / "items.jsonl"
    with serve(folder, plan) as site:
        command = [sys.executable, "-m", "scrapy", "runspider", str(SOURCE / "spider.py"), "-o", str(feed)]
        command += ["-a", f"start_urls={site.url}/"]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS, cwd=folder)
    return [json.loads(line) for line in feed.read_text().splitlines()]


def _python_path() -> str:
    return os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _asked(site: HasLog) -> Counter[tuple[str, str]]:
    """Without robots.txt, which every process fetches, and dropped connections, which Twisted repeats by itself."""
    return Counter(
        (method, path) for _, method, path in site.asked() if path != "/robots.txt" and not path.startswith("/drop/")
    )


# -- kills ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kill:
    """An instant of a crawl: after so many requests have reached the site, and so many seconds more."""

    requests: int
    seconds: float

    def strike(self, crawl: Trial, process: "subprocess.Popen[str]") -> bool:
        """Waits for it and kills the process; whether it was alive."""
        self.wait(crawl, process)
        return killed(process)

    def wait(self, crawl: Trial, process: "subprocess.Popen[str]") -> None:
        if crawl.site.wait_for(self.requests, process):
            time.sleep(self.seconds)


def instants(count: int, known: Truth, seed: int, each: int = 3) -> list[list[Kill]]:
    """Random instants of a crawl, one in each of `count` equal parts of it; every tenth lies at its very end.

    Returned for crawls that are killed `each` times, far apart: half of a killed crawl's time goes into starting it.
    """
    draw = random.Random(seed)
    kills = [
        # At the end the last pages are committed, segments written, the verdict put, the store parked.
        Kill(known.moment(0.98), draw.uniform(0, 0.8))
        if number % 10 == 9
        else Kill(known.moment((number + draw.random()) / count), draw.uniform(0, 0.03))
        for number in range(count)
    ]
    kills.sort(key=lambda kill: kill.requests)
    crawls = -(-count // each)
    return [kills[number::crawls] for number in range(crawls)]


@dataclass(frozen=True)
class Verdict:
    """What a disturbed crawl came to.

    Attributes:
        kills: those that hit a live process.
        repeated: requests that the site saw again, for each kill.
        faults: in words.
    """

    what: str
    kills: int
    repeated: float
    faults: tuple[str, ...]


def kill_and_resume(folder: Path, kills: Sequence[Kill], known: Truth) -> Verdict:
    """Kills a crawl at these instants, and takes it up again each time."""
    with trial(folder) as crawl:
        alive = sum(kill.strike(crawl, crawl.start()) for kill in kills)
        faults = crawl.finish().differences(known.outcome)
        repeated = known.repeated(crawl.site) / len(kills)
    shutil.rmtree(folder)  # a hundred lakes would fill the disk
    if repeated > MOST_REPEATED:
        faults.append(f"{repeated:.0f} requests repeated for each kill")
    return Verdict(f"killed {kills}", alive, repeated, tuple(faults))


def wipe_and_restore(folder: Path, kills: Sequence[Kill], known: Truth) -> Verdict:
    """Kills a crawl whose machine then is gone: another one goes on with what lies in the lake."""
    alive = 0
    with trial(folder, parking="continuous") as crawl:
        for kill in kills:
            alive += kill.strike(crawl, crawl.start())
            crawl.wipe_machine()
        faults = crawl.finish().differences(known.outcome)
        repeated = known.repeated(crawl.site) / len(kills)
    shutil.rmtree(folder)
    return Verdict(f"killed with its machine {kills}", alive, repeated, tuple(faults))


def take_over(folder: Path, instant: Kill, known: Truth) -> Verdict:
    """Stops a crawl's process, lets a second one bring the crawl to its end, and lets the first one go on."""
    with trial(folder) as crawl:
        older = crawl.start()
        instant.wait(crawl, older)
        alive = older.poll() is None
        older.send_signal(signal.SIGSTOP)
        try:
            code = crawl.run("--generation", "1")
            before, asked = crawl.objects(), len(crawl.site.asked())
            older.send_signal(signal.SIGCONT)
            late = crawl.ended(older, 10)
        finally:
            killed(older)
        faults = crawl.outcome().differences(known.outcome) if code == 0 else [f"the newer one exits with {code}"]
        if alive and late == 0:
            faults.append("the older one says that all is well")
        after = crawl.objects()
        faults += [f"the older one wrote {path}" for path in after if after[path] != before.get(path)]
        faults += [f"the older one removed {path}" for path in before if path not in after]
        repeated = len(crawl.site.asked()) - asked
    if repeated > MOST_REPEATED:
        faults.append(f"the older one asked for {repeated} pages")
    shutil.rmtree(folder)
    return Verdict(f"{instant}, stopped and overtaken", int(alive), repeated, tuple(faults))
