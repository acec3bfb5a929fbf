"""The store of a crawl in the lake: what comes back after a rest, a kill, damage, a lake that was away, a successor."""

import contextlib
import functools
import itertools
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gossamer.crawl.frontier import (
    Ending,
    FencedError,
    Frontier,
    FrontierError,
    NewRecord,
    NewRequest,
    Output,
    Segment,
    State,
    Unit,
)
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.parking import Parking
from gossamer.errors import LakeError
from gossamer.lake import Lake
from tests import services

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "crawls/shop/2026-01-05/000001"
#: Further behind, no new request begins.
MOST_BEHIND_SECONDS = 5.0
SLACK_SECONDS = 1.0  # for a commit under way on a busy machine


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    if request.param == "local":
        return Lake(str(tmp_path / "lake"))
    server: services.S3 = request.getfixturevalue("s3")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return Lake(f"s3://{server.bucket}/parking/{tmp_path.name}")


@pytest.fixture
def folder(tmp_path: Path) -> Lake:
    """A lake whose objects a test can damage."""
    return Lake(str(tmp_path / "lake"))


def start(frontier: Frontier, seeds: int = 20) -> None:
    frontier.commit([Unit(outputs=[request(f"seed/{number}") for number in range(seeds)], start_key=b"seeds")])


def request(name: str, size: int = 200) -> NewRequest:
    return NewRequest(random.randbytes(size), f"https://a.test/{name}", "a.test", fingerprint=random.randbytes(20))


def crawl(frontier: Frontier, pages: int = 5, links: int = 3, size: int = 200) -> None:
    """One group commit, as the engine makes them."""
    units = []
    for lease in frontier.claim(pages):
        outputs: list[Output] = [request(f"{lease.id}/{number}", size) for number in range(links)]
        outputs.append(NewRecord(f'{{"page": {lease.id}}}'))
        ended = Ending(random.choice([State.FETCHED, State.DEAD]), ended_at=1.0)
        units.append(Unit(lease.id, ended, outputs=outputs, counters={"pages": 1}))
    frontier.commit(units)


def everything(path: Path) -> dict[str, list[Any]]:
    """All rows of a store, but for what a launch knows of itself: its token, and its leases."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        tables = [name for [name] in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        rows = {name: [dict(row) for row in db.execute(f"SELECT * FROM {name} ORDER BY 1")] for name in tables}
    for row in itertools.chain.from_iterable(rows.values()):
        for own in ("owner", "attempts", "crashes"):
            row.pop(own, None)
    rows["tally"] = [row for row in rows["tally"] if row["count"]]
    return rows


def at_rest(path: Path) -> dict[str, list[Any]]:
    """The same, once what was leased is taken back."""
    with contextlib.closing(SqliteFrontier(path)) as frontier:
        frontier.release([])
    return everything(path)


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.02)


def names(lake: Lake) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in lake.paths(f"{FOLDER}/store/"))


def test_nothing_parked_is_told_from_a_parked_store(lake: Lake, tmp_path: Path) -> None:
    parking = Parking(lake, FOLDER, 1)
    assert parking.parked() is None
    assert parking.restore(tmp_path / "back.sqlite") is False
    assert parking.behind_s == 0
    parking.sweep()
    assert not list(tmp_path.glob("back*"))


def test_a_crawl_paused_at_random_moments_goes_on_from_machine_to_machine(lake: Lake, tmp_path: Path) -> None:
    with contextlib.closing(SqliteFrontier(tmp_path / "0")) as first:
        start(first)
    for launch in range(1, 21):
        path, moved = tmp_path / str(launch - 1), tmp_path / str(launch)
        parking = Parking(lake, FOLDER, launch)
        with contextlib.closing(SqliteFrontier(path)) as frontier:
            for _ in range(random.randrange(5)):
                crawl(frontier)
            if random.random() < 0.5 and (waiting := frontier.waiting_records(10)):
                frontier.flushed(Segment(f"{launch}.parquet", waiting[0].id, waiting[-1].id, len(waiting)))
            parking.park(frontier)
            sequence = frontier.sequence
        assert parking.parked() == (launch, sequence)
        assert Parking(lake, FOLDER, launch + 1).restore(moved)
        assert everything(moved) == everything(path)
        path.unlink()
    assert len(names(lake)) == 2, "earlier launches' stores are removed"


#: A zygote imports once and forks crawls that commit every 30 ms, each with a lake of its own, until they are killed.
#: They commit so much that bases are made anew. The journal says when which sequence was committed, the history what.
CRAWLS = """
import os, pickle, random, sys, time
import obstore.store, pyarrow
from pathlib import Path
sys.path.insert(0, {root!r})
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.parking import Parking
from gossamer.lake import Lake
from tests.test_parking import FOLDER, crawl, start

def work(home):
    random.seed()
    frontier = SqliteFrontier(home / "store.sqlite")
    history = (home / "history").open("wb", buffering=0)
    write = frontier.log = lambda change: history.write(pickle.dumps((frontier.sequence, change)))
    start(frontier)
    parking = Parking(Lake(str(home / "lake")), FOLDER, 1)
    parking.start(frontier)
    ship = frontier.log
    frontier.log = lambda change: (write(change), ship(change))
    journal = (home / "journal").open("w", buffering=1)
    while True:
        if parking.behind_s < 5:
            crawl(frontier, size=2000)
            print(time.monotonic(), frontier.sequence, file=journal)
        time.sleep(0.03)

for home in map(Path, sys.argv[1:]):
    pid = os.fork()
    if pid == 0:
        work(home)
    print(pid, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def crawls(*homes: Path) -> Iterator[list[int]]:
    """The processes of crawls that go on until they are killed."""
    for home in homes:
        home.mkdir()
    code = textwrap.dedent(CRAWLS.format(root=str(ROOT)))
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, homes)]
    zygote = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    pids: list[int] = []
    try:
        for _ in homes:
            pids.append(int(zygote.stdout.readline()))
        yield pids
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        zygote.stdin.close()
        zygote.wait(30)
        zygote.stdout.close()


def journal(home: Path) -> list[tuple[float, int]]:
    lines = (home / "journal").read_text().splitlines(keepends=True) if (home / "journal").exists() else []
    return [(float(line.split()[0]), int(line.split()[1])) for line in lines if line.endswith("\n")]


def history(home: Path) -> Iterator[tuple[int, bytes]]:
    import pickle

    with (home / "history").open("rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            yield pickle.load(file)


@pytest.mark.slow
def test_a_machine_lost_at_a_random_moment_costs_the_last_seconds_and_no_row_more(tmp_path: Path) -> None:
    homes = [tmp_path / str(number) for number in range(20)]
    killed = []
    with crawls(*homes) as pids:
        eventually(lambda: all(journal(home) for home in homes), 60)
        began = time.monotonic()
        for home, pid, after in zip(homes, pids, sorted(random.uniform(0, 10) for _ in homes), strict=True):
            time.sleep(max(0.0, began + after - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
            killed.append((home, time.monotonic()))
    kept = 0
    for home, moment in killed:
        back = home / "back.sqlite"
        restored = Parking(Lake(str(home / "lake")), FOLDER, 2).restore(back)
        told = journal(home)
        if not restored:
            assert told[-1][0] - told[0][0] < MOST_BEHIND_SECONDS + SLACK_SECONDS
            continue
        kept += 1
        with contextlib.closing(SqliteFrontier(back)) as frontier:
            reached = frontier.sequence
        # However slow the machine is: further behind, a crawl holds, and what is missing is not more than that.
        missing = [at for at, sequence in told if sequence > reached]
        assert not missing or missing[-1] - missing[0] < MOST_BEHIND_SECONDS + SLACK_SECONDS
        assert not missing or moment - missing[0] < 2 * MOST_BEHIND_SECONDS, "it does not reach the lake in time"
        with contextlib.closing(SqliteFrontier(home / "again.sqlite")) as frontier:
            for sequence, change in history(home):
                if sequence <= reached:
                    frontier.apply(change)
        assert at_rest(back) == at_rest(home / "again.sqlite"), "what came back is the beginning of what happened"
    assert kept > len(homes) / 2


def test_a_crawl_that_rests_after_shipping_needs_no_copy_of_its_whole_store(lake: Lake, tmp_path: Path) -> None:
    parking = Parking(lake, FOLDER, 1)
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        parking.start(frontier)
        assert parking.behind_s > 0
        eventually(lambda: parking.behind_s == 0)
        for _ in range(5):
            crawl(frontier)
        assert parking.behind_s > 0
        parking.park(frontier)
        assert parking.behind_s == 0
        assert frontier.log is None
        assert parking.parked() == (1, frontier.sequence)
        assert len([name for name in names(lake) if name.endswith(".base")]) == 1
    assert Parking(lake, FOLDER, 2).restore(tmp_path / "back.sqlite")
    assert at_rest(tmp_path / "back.sqlite") == at_rest(tmp_path / "store.sqlite")


def test_a_long_crawl_leaves_no_endless_log_behind(folder: Lake, tmp_path: Path) -> None:
    parking = Parking(folder, FOLDER, 1)
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        parking.start(frontier)
        eventually(lambda: parking.behind_s == 0)
        first = names(folder)
        for number in range(12):
            frontier.commit([Unit(outputs=[request(f"{number}/{link}", size=5_000) for link in range(100)])])
        eventually(lambda: not set(first) & set(names(folder)) and ".base" in str(names(folder)))
        crawl(frontier)
        parking.park(frontier)
        assert {name.rpartition(".")[2]: name for name in names(folder)}.keys() == {"base", "part", "log"}
        assert len(names(folder)) <= 4
    assert Parking(folder, FOLDER, 2).restore(tmp_path / "back.sqlite")
    assert at_rest(tmp_path / "back.sqlite") == at_rest(tmp_path / "store.sqlite")


# -- damage ------------------------------------------------------------------------------------------------------------


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def stored(folder: Lake, suffix: str) -> list[Path]:
    return sorted(Path(folder.url(f"{FOLDER}/store")).glob(f"*.{suffix}"))


@pytest.mark.parametrize("suffix", ["base", "part"])
@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink])
def test_a_damaged_copy_is_never_taken_for_whole(
    folder: Lake, tmp_path: Path, suffix: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        Parking(folder, FOLDER, 1).park(frontier)
        older = {path: path.read_bytes() for kind in ("base", "part") for path in stored(folder, kind)}
        before = everything(tmp_path / "store.sqlite")
        crawl(frontier)
        Parking(folder, FOLDER, 2).park(frontier)
    [newest] = stored(folder, suffix)
    damage(newest)
    back = tmp_path / "back.sqlite"
    if suffix == "base" and damage is Path.unlink:
        assert Parking(folder, FOLDER, 3).restore(back) is False, "parts alone are a copy that was cut short"
    else:
        with pytest.raises(LakeError, match="no store that is whole"):
            Parking(folder, FOLDER, 3).restore(back)
    assert not list(tmp_path.glob("back*"))
    for path, content in older.items():
        path.write_bytes(content)
    caplog.clear()
    assert Parking(folder, FOLDER, 3).restore(back)
    assert everything(back) == before
    assert ("is damaged" in caplog.text) == (suffix == "part" or damage is not Path.unlink)


def test_changes_after_a_damaged_log_are_done_again(
    folder: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store.sqlite"
    states: list[dict[str, list[Any]]] = []
    damages: list[Callable[[Path], None]] = [truncate, flip, empty, Path.unlink]
    parking = Parking(folder, FOLDER, 1)
    with contextlib.closing(SqliteFrontier(store)) as frontier:
        start(frontier)
        parking.start(frontier)
        eventually(lambda: parking.behind_s == 0)
        for number in range(1, 4):
            crawl(frontier)
            crawl(frontier)
            eventually(lambda: len(stored(folder, "log")) >= number)  # noqa: B023
            eventually(lambda: parking.behind_s == 0)
            states.append(everything(store))
        parking.stop()
    logs = stored(folder, "log")
    assert len(logs) == 3
    for number, damage in itertools.product(range(3), damages):
        whole = logs[number].read_bytes()
        damage(logs[number])
        back = tmp_path / f"{number}-{damage.__name__}.sqlite"
        caplog.clear()
        assert Parking(folder, FOLDER, 2).restore(back)
        with contextlib.closing(SqliteFrontier(back)) as frontier:
            assert Parking(folder, FOLDER, 2).parked() == (1, frontier.sequence) or damage is not Path.unlink
        if number > 0:
            assert everything(back) == states[number - 1]
        # The last log that was never written cannot be told from one that is gone.
        assert ("is done again" in caplog.text) == (damage is not Path.unlink or number < 2)
        logs[number].write_bytes(whole)


def test_a_name_that_is_taken_is_not_written_over_nor_taken_for_success(lake: Lake, tmp_path: Path) -> None:
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        name = f"{FOLDER}/store/000001-{frontier.sequence:012}.base"
        lake.put(name, b"something else")
        with pytest.raises(LakeError, match=r"\.base\. It is not written over; remove it"):
            Parking(lake, FOLDER, 1).park(frontier)
    assert lake.get(name) == b"something else"


def test_foreign_objects_beside_a_store_are_left_alone(folder: Lake, tmp_path: Path) -> None:
    folder.put(f"{FOLDER}/store/README", b"")
    folder.put(f"{FOLDER}/store/000009-000000000001.base.bak", b"")
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        Parking(folder, FOLDER, 1).park(frontier)
    assert Parking(folder, FOLDER, 2).restore(tmp_path / "back.sqlite")
    assert {"README", "000009-000000000001.base.bak"} < set(names(folder))


# -- two launches ------------------------------------------------------------------------------------------------------


def test_a_process_thought_dead_cannot_hide_what_its_successor_did(tmp_path: Path) -> None:
    home, path = tmp_path / "old", tmp_path / "new.sqlite"
    lake = Lake(str(home / "lake"))
    with crawls(home) as [old]:
        parking = Parking(lake, FOLDER, 2)
        eventually(lambda: (parking.parked() or (0, 0)) > (1, 5), 60)
        os.kill(old, signal.SIGSTOP)
        assert parking.restore(path)
        with contextlib.closing(SqliteFrontier(path)) as frontier:
            parking.start(frontier)
            eventually(lambda: parking.behind_s == 0)
            os.kill(old, signal.SIGCONT)
            until = time.monotonic() + 3  # it ships more, or finds that it may not
            while time.monotonic() < until and names(lake)[0] > "000002":
                crawl(frontier, pages=1)
                time.sleep(0.1)
            parking.park(frontier)
            assert parking.parked() == (2, frontier.sequence)
        assert Parking(lake, FOLDER, 3).restore(tmp_path / "back.sqlite")
        assert at_rest(tmp_path / "back.sqlite") == at_rest(path)


def test_what_an_older_launch_ships_late_is_not_taken(lake: Lake, tmp_path: Path) -> None:
    late = Parking(lake, FOLDER, 1)
    with (
        contextlib.closing(SqliteFrontier(tmp_path / "old.sqlite")) as old,
        contextlib.closing(SqliteFrontier(tmp_path / "new.sqlite")) as new,
    ):
        start(old)
        start(new)
        late.start(old)
        eventually(lambda: late.behind_s == 0)
        Parking(lake, FOLDER, 2).park(new)
        for _ in range(10):
            crawl(old)
        late.stop()
        assert Parking(lake, FOLDER, 3).parked() == (2, new.sequence)
        assert Parking(lake, FOLDER, 3).restore(tmp_path / "back.sqlite")
        assert everything(tmp_path / "back.sqlite") == everything(tmp_path / "new.sqlite")
        Parking(lake, FOLDER, 3).sweep()
        assert {name[:6] for name in names(lake)} == {"000002"}


def test_an_older_launch_that_finds_its_successors_store_stops_writing(lake: Lake, tmp_path: Path) -> None:
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        Parking(lake, FOLDER, 2).park(frontier)
        there = names(lake)
        crawl(frontier)
        with pytest.raises(FencedError, match="launch 2 has taken this crawl over; launch 1 writes nothing more"):
            Parking(lake, FOLDER, 1).park(frontier)
        continuous = Parking(lake, FOLDER, 1)
        continuous.start(frontier)
        eventually(lambda: continuous.behind_s == float("inf"))
        continuous.stop()
        assert names(lake) == there


# -- a lake that is away -----------------------------------------------------------------------------------------------


def test_a_lake_that_was_away_catches_up(folder: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place, away = Path(folder.uri), tmp_path / "away"
    parking = Parking(folder, FOLDER, 1)
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        parking.start(frontier)
        eventually(lambda: parking.behind_s == 0)
        place.rename(away)
        place.write_text("no folder")
        crawl(frontier)
        eventually(lambda: parking.behind_s > 2.5)  # longer than any log waits
        assert caplog.text.count("The crawl's store does not reach the lake") == 1
        place.unlink()
        away.rename(place)
        eventually(lambda: parking.behind_s == 0)
        assert "reaches the lake again" in caplog.text
        parking.stop()
    assert Parking(folder, FOLDER, 2).restore(tmp_path / "back.sqlite")
    assert at_rest(tmp_path / "back.sqlite") == at_rest(tmp_path / "store.sqlite")


def test_a_crawl_whose_lake_is_away_holds_from_the_start_and_says_what_it_could_not_ship(
    folder: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _ = folder.store
    Path(folder.uri).rmdir()
    Path(folder.uri).write_text("no folder")
    parking = Parking(folder, FOLDER, 1)
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        parking.start(frontier)
        eventually(lambda: parking.behind_s > 1)
        parking.stop()
        assert "The lake lacks what this crawl committed" in caplog.text
        with pytest.raises(LakeError):
            parking.park(frontier)


class Faulty(Lake):
    """A lake with a fault: what a panic of a library is in Python, which is no Exception."""

    class Panic(BaseException):
        pass

    def create(self, path: str, content: bytes) -> bool:
        if path.endswith(".log"):
            raise self.Panic("index out of bounds")
        return super().create(path, content)


def test_a_fault_that_ends_the_shipping_ends_the_crawl_in_words_and_holds_it_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake = Faulty(str(tmp_path / "lake"))
    parking = Parking(lake, FOLDER, 1)
    with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        start(frontier)
        parking.start(frontier)
        eventually(lambda: parking.behind_s == 0)
        crawl(frontier)
        assert parking.behind_s > 0
        eventually(lambda: parking.behind_s == 0)  # nobody may wait for what does not come
        committed = frontier.sequence
        with pytest.raises(FrontierError, match=r"by a fault of Gossamer's \(Panic\('index out of bounds'\).*run the"):
            crawl(frontier)
        assert frontier.sequence == committed + 1
        [told] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert told.exc_text and "write_log" in told.exc_text
        parking.park(frontier)  # a copy of the whole store is another matter
    assert Parking(lake, FOLDER, 2).restore(tmp_path / "back.sqlite")
    assert everything(tmp_path / "back.sqlite") == everything(tmp_path / "store.sqlite")


@pytest.mark.service
@pytest.mark.slow
def test_an_s3_that_was_away_catches_up(s3: services.S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = s3.endpoint.removeprefix("http://").split(":")
    with line(host, int(port)) as (endpoint, cut):
        for name, value in (s3.env() | {"AWS_ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(name, value)
        lake = Lake(f"s3://{s3.bucket}/parking/{tmp_path.name}")
        parking = Parking(lake, FOLDER, 1)
        with contextlib.closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
            start(frontier)
            parking.start(frontier)
            eventually(lambda: parking.behind_s == 0)
            cut.set()
            crawl(frontier)
            eventually(lambda: parking.behind_s > MOST_BEHIND_SECONDS)
            cut.clear()
            eventually(lambda: parking.behind_s == 0, 60)
            parking.park(frontier)
        assert Parking(lake, FOLDER, 2).restore(tmp_path / "back.sqlite")
    assert at_rest(tmp_path / "back.sqlite") == at_rest(tmp_path / "store.sqlite")


@contextlib.contextmanager
def line(host: str, port: int) -> Iterator[tuple[str, threading.Event]]:
    """A way to a server that drops everything while it is cut."""
    cut, over = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        threads = [threading.Thread(target=functools.partial(_accept, server, (host, port), cut, over))]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", cut
        finally:
            over.set()
            threads[0].join(10)


def _accept(server: socket.socket, to: tuple[str, int], cut: threading.Event, over: threading.Event) -> None:
    copies: list[threading.Thread] = []
    while not over.is_set():
        try:
            client = server.accept()[0]
        except TimeoutError:
            continue
        if cut.is_set():
            client.close()
            continue
        upstream = socket.create_connection(to)
        for source, target in ((client, upstream), (upstream, client)):
            copies.append(threading.Thread(target=_copy, args=(source, target, cut, over)))
            copies[-1].start()
    for copy in copies:
        copy.join(10)


def _copy(source: socket.socket, target: socket.socket, cut: threading.Event, over: threading.Event) -> None:
    source.settimeout(0.1)
    with source, contextlib.suppress(ConnectionError, OSError):
        while not over.is_set() and not cut.is_set():
            try:
                data = source.recv(65536)
            except TimeoutError:
                continue
            if not data:
                break
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
