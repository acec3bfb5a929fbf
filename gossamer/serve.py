"""Dagster's processes on one machine: webserver and daemon, started, watched and stopped together.

Used by `gossamer serve`, the demo and the tests. Each process has a group of its own, so that stopping ends its code
servers and runs too, and what it prints goes to a log file.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gossamer.errors import ConfigurationError, GossamerError
from gossamer.instance import prepare_home
from gossamer.settings import PROJECT, Settings

START_SECONDS = 120.0
STOP_SECONDS = 15.0
#: Ports that are tried for the reports.
_PORTS = 20


class ServeError(GossamerError):
    """A process of the platform did not start, or ended by itself."""


@dataclass
class Processes:
    """Child processes, by name, and where their logs are."""

    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        with (self.logs / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                command,
                cwd=PROJECT,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises `ServeError` with the end of its log if a process has ended."""
        for name, process in self.running.items():
            if process.poll() is not None:
                log = self.logs / f"{name}.log"
                text = log.read_text(errors="replace") if log.exists() else "(the file is gone)"
                tail = "\n".join(text.strip().splitlines()[-5:])
                raise ServeError(f"The {name} ended by itself (exit code {process.returncode}); {log} ends:\n{tail}")

    def stop(self) -> None:
        """Ends all groups: politely, then by force; returns when nothing of them is left."""
        with _undisturbed():
            for process in self.running.values():
                _signal_group(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            for process in self.running.values():
                while _group_lives(process) and time.monotonic() < deadline:
                    time.sleep(0.1)
                _signal_group(process.pid, signal.SIGKILL)
                process.wait()
            self.running.clear()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """An impatient second Ctrl-C must not cut the stopping short: what is left would run for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt the main thread only
        return
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # reap it, or the group never ends
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


@dataclass(frozen=True)
class Platform:
    """A running Dagster: its address, that of the reports, and the processes."""

    url: str
    reports: str
    processes: Processes

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a GraphQL query; raises `ServeError` where the webserver gives none."""
        body = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
                answer = json.load(response)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise ServeError(f"Dagster's webserver at {self.url} does not answer: {error}") from error
        if answer.get("errors"):
            raise ServeError(f"Dagster refused a query: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data


def check_port(port: int, host: str = "127.0.0.1", remedy: str = "Stop it, or choose another port.") -> None:
    """Raises `ConfigurationError` if nothing can listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(f"Port {port} is in use by another program. {remedy}") from error
            if error.errno == errno.EACCES:
                raise ConfigurationError(f"Port {port} is the administrator's. Choose one above 1023.") from error
            raise ConfigurationError(f"Nothing can listen on {host}, port {port}: {error.strerror}.") from error


def _free_port(first: int, host: str) -> int:
    """The first port from `first` on that nothing listens on."""
    for port in range(first, min(first + _PORTS, 65536)):
        with contextlib.suppress(ConfigurationError):
            check_port(port, host)
            return port
    raise ConfigurationError(f"No port from {first} to {first + _PORTS} is free for the reports. Choose another port.")


@contextlib.contextmanager
def platform(settings: Settings, port: int, logs: Path, host: str = "127.0.0.1") -> Iterator[Platform]:
    """Starts webserver, daemon and the server of reports (on the next free port); stops them at the end.

    Yields when the UI answers with the code location loaded.

    Raises:
        ConfigurationError: the port or DAGSTER_HOME is in use, or a folder cannot be written.
        ServeError: a process ended, or did not answer in time.
    """
    home = prepare_home(settings)
    with _only_one(home):
        check_port(port, host)
        with _started(settings, port, logs, host) as running:
            yield running


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two daemons on one instance would both launch what its queue and schedules ask for."""
    with (home / ".serving").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"Dagster is being served from {home} already. Use that one, stop it, or name another DAGSTER_HOME."
            ) from error
        yield


@contextlib.contextmanager
def _started(settings: Settings, port: int, logs: Path, host: str) -> Iterator[Platform]:
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"Logs cannot be written to {logs}: {error.strerror}.") from error
    processes = Processes(logs)
    reports = _free_port(port + 1, host)
    settings = replace(settings, reports_url=f"http://{host}:{reports}")
    scripts = Path(sys.executable).parent
    workspace = ["-w", str(PROJECT / "workspace.yaml")]
    try:
        webserver = [str(scripts / "dagster-webserver"), "-h", host, "-p", str(port), *workspace]
        processes.start("webserver", webserver, settings.environ())
        processes.start("daemon", [str(scripts / "dagster-daemon"), "run", *workspace], settings.environ())
        server = [sys.executable, "-m", "gossamer.quality.report_server", "--lake", settings.lake]
        processes.start("reports", [*server, "--host", host, "--port", str(reports)], settings.environ())
        running = Platform(f"http://{host}:{port}", settings.reports_url, processes)
        _wait_until_loaded(running)
        yield running
    finally:
        processes.stop()


_LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


def _wait_until_loaded(running: Platform) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        running.processes.check()
        try:
            entries = running.graphql(_LOADED)["workspaceOrError"].get("locationEntries", [])
        except ServeError:
            entries = []
        for entry in entries:
            problem = entry["locationOrLoadError"] or {}
            if problem.get("__typename") == "PythonError":
                raise ServeError(f"The code location {entry['name']} does not load: {problem['message'].strip()}")
        if entries and all(entry["loadStatus"] == "LOADED" for entry in entries):
            return
        if time.monotonic() > deadline:
            logs = running.processes.logs
            raise ServeError(f"Dagster did not answer at {running.url} within {START_SECONDS:.0f} s; see {logs}.")
        time.sleep(0.3)
