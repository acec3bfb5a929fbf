"""The frontier's SQLite store: the contract of every store, and what is its own: kills, full disks, old files."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gossamer.crawl.frontier import Ending, FencedError, FrontierError, NewRecord, Output, Segment, State, Unit
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from tests.frontier_contract import FrontierContract, ask, content, counted, machine, queue, request, settle

FETCHED = Ending(State.FETCHED, ended_at=1.0)


@dataclass
class SqliteStore:
    """A store as one file in a folder, and others restored beside it."""

    folder: Path
    restored: int = field(default=0, init=False)

    @property
    def path(self) -> Path:
        return self.folder / "frontier.sqlite"

    def open(self, *, first_in_first_out: bool = False) -> SqliteFrontier:
        return SqliteFrontier(self.path, first_in_first_out=first_in_first_out)

    def restore(self, snapshot: Path) -> SqliteFrontier:
        self.restored += 1
        return SqliteFrontier(Path(shutil.copy(snapshot, self.folder / f"restored-{self.restored}.sqlite")))


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path)


class TestSqliteKeepsTheContract(FrontierContract):
    pass


TestStateMachine = machine(SqliteStore).TestCase
TestStateMachine.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# --- The file ---------------------------------------------------------------------------------------------------------


def test_a_store_of_another_version_is_left_alone_and_said(store: SqliteStore) -> None:
    store.open().close()
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(FrontierError, match=r"version 7.*reads version \d+.*start it afresh"):
        store.open()


def test_a_file_that_is_no_store_is_not_written_to(store: SqliteStore) -> None:
    store.path.write_bytes(b"something else, and longer than a header of a hundred bytes" * 20)
    with pytest.raises(FrontierError, match=r"frontier\.sqlite is damaged"):
        store.open()
    assert store.path.read_bytes().startswith(b"something else")


def test_a_damaged_store_is_said_and_not_taken_for_empty(store: SqliteStore) -> None:
    with closing(store.open()) as frontier:
        ask(frontier, *(request(f"/{number}") for number in range(3000)))
    content = bytearray(store.path.read_bytes())
    content[4096:] = Random(0).randbytes(len(content) - 4096)
    store.path.write_bytes(content)
    with pytest.raises(FrontierError, match="damaged"), closing(store.open()) as frontier:
        frontier.claim(1)


def test_a_store_in_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FrontierError, match="unable to open"):
        SqliteFrontier(tmp_path / "away" / "frontier.sqlite")


def test_a_store_that_another_process_holds_is_said(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.open().close()
    monkeypatch.setattr("gossamer.crawl.frontier.sqlite._BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FrontierError, match="held by another process"):
            store.open()


def test_a_full_disk_is_named_and_takes_nothing_that_was_committed(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    store, committed = SqliteStore(small_disk), 0
    with closing(store.open()) as frontier:
        with pytest.raises(FrontierError, match=r"No space left.*frontier\.sqlite"):
            while True:
                frontier.commit(
                    [Unit(outputs=[request(f"/{committed}"), NewRecord("x" * 1000), NewRecord("y" * 1000)])]
                )
                committed += 1
        assert committed > 5
    ballast.unlink()
    with closing(store.open()) as frontier:
        assert counted(frontier) == frontier.count_rows() == {State.PENDING: committed}
        assert frontier.waiting() == len(frontier.waiting_records(10_000)) == 2 * committed
        assert len(frontier.claim(10_000)) == committed
        ask(frontier, request("/more"))


def test_a_store_in_memory_does_all_a_crawl_needs(tmp_path: Path) -> None:
    with closing(SqliteFrontier(":memory:")) as frontier:
        ask(frontier, request("/"))
        [lease] = frontier.claim(1)
        frontier.commit([Unit(lease.id, FETCHED, outputs=[NewRecord("a"), request("/1")])])
        [record] = frontier.waiting_records(5)
        frontier.flushed(Segment("1", record.id, record.id, 1))
        frontier.snapshot(tmp_path / "copy")
        with closing(SqliteFrontier(tmp_path / "copy")) as copy:
            assert content(copy) == content(frontier)
            assert queue(copy) == queue(frontier)


def test_only_requests_that_may_be_fetched_again_keep_their_bodies(store: SqliteStore) -> None:
    with closing(store.open()) as frontier:
        ask(frontier, *(request(f"/{state.name}", callback=state.name) for state in State))
        for lease in frontier.claim(10):
            state = State[lease.url.rpartition("/")[2]]
            if state.is_terminal:
                frontier.commit([Unit(lease.id, Ending(state))])
    with closing(sqlite3.connect(store.path)) as db:
        kept = {name for [name] in db.execute("SELECT callback FROM request WHERE body IS NOT NULL")}
    assert kept == {"PENDING", "LEASED", "DEAD"}


def test_a_snapshot_is_one_file(store: SqliteStore, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    with closing(store.open()) as frontier:
        ask(frontier, request("/"))
        frontier.snapshot(folder / "copy")
    assert [path.name for path in folder.iterdir()] == ["copy"]


def test_what_the_log_tells_makes_the_same_tables(store: SqliteStore, tmp_path: Path) -> None:
    """To the last column; leases, attempts and crashes are of a process and are not told."""
    told: list[bytes] = []
    with closing(store.open()) as frontier:
        frontier.snapshot(tmp_path / "copy")
        frontier.log = told.append
        random = Random(1)
        ask(frontier, *(request(f"/{number}", start=True) for number in range(20)))
        for number in range(60):
            for lease in frontier.claim(5):
                outputs: list[Output] = [NewRecord("r"), *(request(f"/{random.randrange(300)}") for _ in range(5))]
                frontier.stage(str(lease.id), lease.id, outputs[:2])
                ending = Ending(random.choice([State.FETCHED, State.DEAD]), message="why", ended_at=random.random())
                unit = Unit(lease.id, ending, outputs=outputs[2:], staged=str(lease.id), counters={"n": number})
                if random.random() < 0.2:
                    unit.ending, unit.replacement = None, request(f"/{random.randrange(300)}", "b.example")
                frontier.commit([unit])
            frontier.settle(7)
        settle(frontier)
        records = frontier.waiting_records(10)
        frontier.flushed(Segment("1", records[0].id, records[-1].id, len(records)))
        frontier.replay(urls=["https://a.example/1", "https://a.example/2"])
        frontier.put("name", b"value")
        frontier.exclude_rest("limit")
    restored = store.restore(tmp_path / "copy")
    for change in told:
        restored.apply(change)
    restored.close()
    assert _tables(store.folder / "restored-1.sqlite") == _tables(store.path)


def _tables(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as db:
        names = [name for [name] in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        tables = {name: db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in names}
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info (request)")]
        left = ", ".join(name for name in columns if name not in ("attempts", "crashes"))
        tables["request"] = db.execute(f"SELECT {left} FROM request ORDER BY id").fetchall()
        tables["store"] = db.execute("SELECT sequence, number, waiting FROM store").fetchall()
        tables["tally"] = db.execute("SELECT * FROM tally WHERE count != 0 ORDER BY 1, 2, 3, 4").fetchall()
    return tables


@pytest.mark.slow
def test_memory_and_speed_do_not_depend_on_how_much_is_pending(store: SqliteStore) -> None:
    """A claim and a commit at 200,000 pending requests cost about what they cost at 2,000, in plans and in memory."""
    script = """
import resource, sys, time
from pathlib import Path
from gossamer.crawl.frontier import NewRequest, Unit
from gossamer.crawl.frontier.sqlite import SqliteFrontier

frontier = SqliteFrontier(Path(sys.argv[1]))
made = 0
for goal in (2_000, 200_000):
    while made < goal:
        urls = [f"https://a.example/a/path/as/long/as/they/are/{made + n}" for n in range(1000)]
        made += 1000
        requests = [NewRequest(url.encode() * 5, url, "a.example", "parse", url.encode()[-20:]) for url in urls]
        frontier.commit([Unit(outputs=requests)])
    times = []
    for _ in range(20):
        begun = time.process_time()
        frontier.release([lease.id for lease in frontier.claim(64)])
        times.append(time.process_time() - begun)
    print(sorted(times)[10], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
frontier.close()
"""
    done = subprocess.run([sys.executable, "-c", script, str(store.path)], capture_output=True, text=True, check=True)
    (few, small), (many, big) = ([float(word) for word in line.split()] for line in done.stdout.splitlines())
    assert many < 5 * few, "a claim reads only what it takes"
    unit = 1 if sys.platform == "darwin" else 1024
    assert (big - small) * unit < 40_000_000, "the frontier is on disk"


# --- Processes --------------------------------------------------------------------------------------------------------

#: Each page has five links and five records, most of them staged; its number says which, so that a half shows.
_WORKER = """
import sys
from pathlib import Path
from gossamer.crawl.frontier import Ending, NewRecord, NewRequest, State, Unit
from gossamer.crawl.frontier.sqlite import SqliteFrontier

def outputs(url):
    page = int(url.rpartition("/")[2])
    for link in range(5 * page + 1, 5 * page + 6):
        yield NewRequest(b"x" * 300, f"https://h{link % 7}.example/{link}", f"h{link % 7}.example", "", b"%d" % link)
        yield NewRecord(url)

frontier = SqliteFrontier(Path(sys.argv[1]))
if not frontier.sequence:
    frontier.commit([Unit(outputs=[NewRequest(b"x", "https://h0.example/0", "h0.example", "", b"0", start=True)])])
print("ready", flush=True)
while True:
    units = []
    for lease in frontier.claim(8):
        out = list(outputs(lease.url))
        if lease.id % 2:
            frontier.stage(f"{lease.id}", lease.id, out[:4])
            frontier.stage(f"{lease.id}", lease.id, out[4:7])
            units.append(Unit(lease.id, Ending(State.FETCHED), outputs=out[7:], staged=f"{lease.id}"))
        else:
            units.append(Unit(lease.id, Ending(State.FETCHED), outputs=out))
    frontier.commit(units)
    while frontier.settle(5):
        pass
"""


def test_kills_at_random_instants_leave_committed_units_whole_and_nothing_of_others(store: SqliteStore) -> None:
    random, fetched = Random(), 0
    for _ in range(8):
        worker = subprocess.Popen([sys.executable, "-c", _WORKER, str(store.path)], stdout=subprocess.PIPE)
        with worker:
            assert worker.stdout
            assert worker.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0.0, 0.15))
            worker.kill()
        copy = store.folder / "copy.sqlite"  # looked at beside: looking takes leases back, too
        with closing(sqlite3.connect(store.path)) as db, closing(sqlite3.connect(copy)) as beside:
            db.backup(beside)
        with closing(SqliteFrontier(copy)) as frontier:
            settle(frontier)
            fetched = _check_whole(frontier)
    assert fetched > 30


def _check_whole(frontier: SqliteFrontier) -> int:
    """Every page that is fetched has all that it yields, once, and no other has anything."""
    states = {url: state for url, _, state, _ in frontier.calls()}
    done = {url for url, state in states.items() if state is State.FETCHED}
    links = {int(url.rpartition("/")[2]) for url in states}
    yielded = {5 * int(url.rpartition("/")[2]) + link for url in done for link in range(1, 6)}
    assert links == {0} | yielded
    assert len(list(frontier.calls())) == len(links)
    assert Counter(record.data for record in frontier.waiting_records(10**6)) == dict.fromkeys(done, 5)
    assert counted(frontier) == frontier.count_rows()
    assert frontier.counters()["records"] == frontier.waiting() == 5 * len(done)
    assert frontier.counters()["duplicates"] == 0
    return len(done)


_OLDER = """
import sys
from pathlib import Path
from gossamer.crawl.frontier import Ending, FencedError, NewRecord, State, Unit
from gossamer.crawl.frontier.sqlite import SqliteFrontier

frontier = SqliteFrontier(Path(sys.argv[1]))
[lease] = frontier.claim(1)
print("leased", flush=True)
sys.stdin.readline()
try:
    frontier.commit([Unit(lease.id, Ending(State.FETCHED), outputs=[NewRecord("late")])])
except FencedError as error:
    print(error)
else:
    print("committed")
"""


def test_a_process_that_was_stopped_and_thought_dead_commits_nothing_when_it_goes_on(store: SqliteStore) -> None:
    with closing(store.open()) as frontier:
        ask(frontier, request("/"))
    command = [sys.executable, "-c", _OLDER, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as older:
        assert older.stdin
        assert older.stdout
        assert older.stdout.readline() == "leased\n"
        older.send_signal(SIGSTOP)
        with closing(store.open()) as frontier:
            [lease] = frontier.claim(1)
            older.send_signal(SIGCONT)
            older.stdin.write("\n")
            older.stdin.flush()
            assert "Another process has taken over the crawl" in older.stdout.read()
            assert counted(frontier) == {State.LEASED: 1}
            assert frontier.waiting() == 0
            frontier.commit([Unit(lease.id, FETCHED)])


def test_two_that_have_one_store_open_in_one_process_are_told_apart(store: SqliteStore) -> None:
    with closing(store.open()) as older, closing(store.open()) as newer:
        with pytest.raises(FencedError):
            ask(older, request("/"))
        ask(newer, request("/"))
        assert newer.pending == 1
