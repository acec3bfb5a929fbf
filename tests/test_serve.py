"""What `gossamer serve`, `gossamer crawl` and the demo leave behind: real processes, real signals, real terminals."""

import http.server
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from demo import shop
from gossamer.errors import ConfigurationError
from gossamer.serve import Processes, ServeError, check_port
from gossamer.settings import HOME, PROJECT, Settings

DAY = "2026-03-02"
SLOW = (
    "import scrapy\n\nclass Slow(scrapy.Spider):\n    name = 'slow'\n"
    "    def parse(self, response):\n        yield {'url': response.url}\n"
    "        yield from response.follow_all(css='a', callback=self.parse)\n"
)
DECLARED = (
    "name: slow\nspider: spider:Slow\npartitions: {{period: daily, start: 2026-01-01}}\n"
    "seeds: {{urls: ['{url}/{{period}}/']}}\nfetch: {{allow_private: true}}\n"
    "politeness: {{requests_per_second: {rate}}}\nrecord: {{key: [url], fields: {{url: url}}}}\n"
)


def _is_free(port: int) -> bool:
    try:
        check_port(port)
    except ConfigurationError:
        return False
    return True


shop_port = pytest.mark.skipif(not _is_free(shop.PORT), reason=f"port {shop.PORT}, the demo shop's, is in use")


@dataclass(frozen=True)
class Home:
    """A user's folder with one source, and a clean environment."""

    root: Path

    def environ(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOSSAMER_", "DAGSTER_"))}
        places = {"GOSSAMER_SOURCES": str(self.root / "sources"), "GOSSAMER_LAKE": str(self.root / "lake")}
        return {**kept, **places, "PYTHONPATH": str(PROJECT), "NO_COLOR": "1", **more}

    @property
    def settings(self) -> Settings:
        return Settings.load(environ=self.environ())

    def declare(self, url: str, rate: int) -> None:
        folder = self.root / "sources" / "slow"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spider.py").write_text(SLOW)
        (folder / "source.yaml").write_text(DECLARED.format(url=url, rate=rate))

    @contextmanager
    def start(self, *arguments: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
        """`gossamer ...`, whose words go to stdout; killed at the end, what it started by the fixture."""
        process = subprocess.Popen(
            [sys.executable, "-m", "gossamer", *arguments],
            env=self.environ(**environ),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def processes(self, *words: str) -> list[int]:
        """The processes that work for this folder."""
        return [pid for pid, _ in processes_of(self.root, *words)]


def processes_of(folder: Path, *words: str) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder).encode() in (entry / "environ").read_bytes() and all(word in command for word in words):
                found.append((int(entry.name), command))
    return [(pid, command) for pid, command in found if command]


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return value


def said(process: "subprocess.Popen[str]", words: str) -> str:
    """The line in which the process says `words`."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        if words in line:
            return line
        lines.append(line)
    pytest.fail("".join(lines))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    home.declare("http://127.0.0.1:9", 5)
    yield home
    for pid in home.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with shop.serve() as url:
        yield url


# -- places -----------------------------------------------------------------------------------------------------------


def test_two_lakes_share_neither_marts_nor_runs(tmp_path: Path) -> None:
    lakes = [str(tmp_path / "one"), str(tmp_path / "two"), "s3://b/x", "s3://b/y", "s3://b-x", "s3://B/x", "gs://b/x"]
    settings = [Settings.load(lake=lake, environ={}) for lake in (*lakes, str(HOME / "lake"))]

    assert len({each.warehouse for each in settings}) == len(settings)
    assert len({each.dagster_home for each in settings}) == len(settings)
    assert settings[0].warehouse == tmp_path / "one.state" / "warehouse.duckdb"
    assert settings[-1].dagster_home == HOME / "dagster"


def test_the_same_lake_has_the_same_places_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [("lake/", f"{tmp_path}/lake"), ("file://" + str(tmp_path / "lake"), "lake"), ("s3://b/x/", "s3://b/x")]
    for one, other in names:
        first, second = (Settings.load(lake=name, environ={}) for name in (one, other))
        assert (first.warehouse, first.dagster_home) == (second.warehouse, second.dagster_home)


def test_places_that_the_user_names_count_for_every_lake(tmp_path: Path) -> None:
    environ = {"DAGSTER_HOME": str(tmp_path / "mine"), "GOSSAMER_WAREHOUSE": str(tmp_path / "mine.duckdb")}
    settings = Settings.load(lake=str(tmp_path / "lake"), environ=environ)

    assert (settings.dagster_home, settings.warehouse) == (tmp_path / "mine", tmp_path / "mine.duckdb")


def test_a_child_without_mongodb_gets_none_from_the_environment(tmp_path: Path) -> None:
    settings = Settings.load(lake=str(tmp_path), environ={})
    inherited = {"GOSSAMER_MONGO_URI": "mongodb://user:secret@db/shop"}

    assert Settings.load(environ={**inherited, **settings.environ()}).mongo_uri is None


# -- ports, logs, stopping --------------------------------------------------------------------------------------------


def test_a_port_is_called_in_use_only_if_it_is() -> None:
    with pytest.raises(ConfigurationError) as error:
        check_port(8080, host="203.0.113.1")
    assert "in use" not in str(error.value)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="in use"):
        check_port(taken.getsockname()[1])


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def test_a_process_that_ended_is_told_even_where_its_log_is_gone(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("daemon", [sys.executable, "-c", "raise SystemExit(3)"], {})
    processes.running["daemon"].wait()
    (tmp_path / "daemon.log").unlink()

    with pytest.raises(ServeError, match=r"daemon ended by itself \(exit code 3\)"):
        processes.check()
    processes.stop()


STOPPING = """
import sys
from pathlib import Path
from gossamer.cli.crawling import stoppable
from gossamer.serve import Processes
ignores = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
processes = Processes(Path(sys.argv[1]))
with stoppable():
    try:
        for name in ("one", "two"):
            processes.start(name, [sys.executable, "-c", ignores], {})
        print("started", flush=True)
        processes.running["one"].wait()
    finally:
        print("stopping", flush=True)
        processes.stop()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_impatient_second_signal_leaves_nothing_running(home: Home, number: signal.Signals) -> None:
    command = [sys.executable, "-c", STOPPING, str(home.root)]
    with subprocess.Popen(
        command, env=home.environ(), stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    ) as p:
        said(p, "started")
        wait_for(lambda: all((home.root / f"{name}.log").read_text() for name in ("one", "two")))
        p.send_signal(number)
        said(p, "stopping")
        for _ in range(3):
            time.sleep(0.3)
            p.send_signal(number)
        p.wait(60)

    assert home.processes() == []


@dataclass
class Catcher:
    """An HTTP server that only counts what is sent to it."""

    url: str
    bodies: list[bytes]


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Catcher(f"http://127.0.0.1:{server.server_port}/actions", bodies)
        server.shutdown()


@pytest.mark.slow
def test_a_served_platform_sends_nothing_to_anybody_and_is_the_only_one_on_its_home(
    home: Home, catcher: Catcher
) -> None:
    uploaded = home.settings.dagster_home / "logs" / "event.log"  # Dagster sends all of this folder, and removes it
    uploaded.parent.mkdir(parents=True)
    uploaded.write_text("secret")
    with home.start("serve", "--port", free_port(), DAGSTER_TELEMETRY_URL=catcher.url) as process:
        assert str(home.settings.dagster_home / "serve_logs") in said(process, "UI: http")
        with home.start("serve", "--port", free_port()) as second:
            words, _ = second.communicate(timeout=60)
        assert second.returncode == 2
        assert [line for line in words.splitlines() if line.startswith("error: ")] == words.splitlines()
        assert f"served from {home.settings.dagster_home} already" in words
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0

    assert catcher.bodies == []
    assert uploaded.read_text() == "secret"
    logs = home.settings.dagster_home / "serve_logs"
    assert {path.name for path in logs.iterdir()} == {"webserver.log", "daemon.log", "reports.log"}
    assert home.processes() == []


@pytest.mark.slow
@shop_port
def test_serving_the_shipped_sources_tells_how_to_start_the_shop_that_they_read(home: Home) -> None:
    with home.start("serve", "--port", free_port(), GOSSAMER_SOURCES=str(PROJECT / "sources")) as process:
        assert f"{sys.executable} -m demo.shop" in said(process, "demo shop")
        process.send_signal(signal.SIGINT)
        process.wait(60)


# -- crawls that were killed ------------------------------------------------------------------------------------------


def runs(home: Home) -> list[str]:
    """The states of the runs in the home's instance, oldest first."""
    instance = dg.DagsterInstance.from_config(str(home.settings.dagster_home))
    with instance:
        return [run.status.value for run in reversed(instance.get_runs())]


@pytest.mark.slow
@pytest.mark.parametrize("with_its_command", [False, True])
def test_a_crawl_goes_on_after_one_of_its_source_was_killed(home: Home, site: str, with_its_command: bool) -> None:
    home.declare(site, rate=2)
    with home.start("crawl", "slow", "--partition", DAY) as process:
        said(process, "pages/s")
        [dagster] = home.processes("-m dagster job execute")
        if with_its_command:
            process.kill()
        os.kill(dagster, signal.SIGKILL)
        words, _ = process.communicate(timeout=60)
    if not with_its_command:
        assert "killed by signal 9" in words
        assert runs(home) == ["FAILURE"]
    wait_for(lambda: not home.processes())

    home.declare(site, rate=1000)
    with home.start("crawl", "slow", "--partition", "2026-03-03") as process:
        words, _ = process.communicate(timeout=120)

    assert process.returncode == 0, words
    assert "waiting for another" not in words
    assert runs(home) == ["FAILURE", "SUCCESS"]
    assert list((home.settings.dagster_home / "crawl_marks").iterdir()) == []


@pytest.mark.slow
def test_a_crawl_waits_for_another_in_words_does_not_end_it_and_goes_on_after_it(home: Home, site: str) -> None:
    home.declare(site, rate=2)
    with home.start("crawl", "slow", "--partition", DAY) as first:
        said(first, "pages/s")
        with home.start("crawl", "slow", "--partition", "2026-03-03") as second:
            said(second, "waiting for another crawl of slow")
            assert first.poll() is None
            assert runs(home) == ["STARTED", "STARTED"]
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=60)
            said(second, "pages/s")
            assert runs(home) == ["SUCCESS", "STARTED"], "paused, which is no failure"


# -- the demo ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["99999", "0", "-1", "http", "\N{SUPERSCRIPT TWO}"])
def test_a_demo_on_no_port_is_refused_in_words(port: str) -> None:
    command = [sys.executable, "-m", "demo", f"--port={port}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert "1 to 65535" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project: the demo's state is in its own folder."""
    left_out = shutil.ignore_patterns(".*", "target", "logs", "__pycache__", "tests", "docs")
    return shutil.copytree(PROJECT, tmp_path / "checkout", ignore=left_out)


@pytest.mark.slow
@shop_port
def test_a_demo_whose_terminal_is_closed_leaves_nothing_running_and_no_trace_in_the_user_s_places(
    checkout: Path, tmp_path: Path
) -> None:
    mine = {
        "GOSSAMER_MONGO_URI": "mongodb://127.0.0.1:9/mine",
        "GOSSAMER_LAKE": str(tmp_path / "mine"),
        "DAGSTER_HOME": str(tmp_path / "home"),
    }
    environ = {**os.environ, **mine, "PYTHONPATH": str(checkout)}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(checkout)
        os.execve(sys.executable, [sys.executable, "-m", "demo", "--port", free_port()], environ)
    try:
        seen = until(terminal, "Dagster is up")
        [daemon] = [number for number, _ in processes_of(checkout, "dagster-daemon run")]
        given = Path(f"/proc/{daemon}/environ").read_bytes().split(b"\0")
        assert b"GOSSAMER_MONGO_URI=" in given
        assert f"GOSSAMER_LAKE={checkout}/.gossamer/demo/lake".encode() in given
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status), seen
    assert processes_of(checkout) == []
    assert not [path for path in (tmp_path / "mine", tmp_path / "home") if path.exists()]


def until(terminal: int, words: str) -> str:
    """What the terminal shows up to these words."""
    seen = ""
    while words not in seen:
        assert select.select([terminal], [], [], 120)[0], seen
        try:
            seen += os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            pytest.fail(seen)
    return seen


@pytest.mark.slow
@shop_port
def test_a_demo_that_fails_says_why_and_ends_without_a_traceback(checkout: Path) -> None:
    (checkout / "sources" / "rates" / "spider.py").write_text("import nothing_of_that_name\n")
    command = [sys.executable, "-m", "demo", "--once", "--port", free_port()]
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, timeout=240)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "nothing_of_that_name" in done.stdout
    assert "Failed in" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert processes_of(checkout) == []
