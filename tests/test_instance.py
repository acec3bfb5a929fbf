"""The two `dagster.yaml` files: that Dagster takes every line of them, and that what they promise happens.

What assets and schedules do on such an instance is tested with them, not here.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy

from tests.services import S3, Postgres

ROOT = Path(__file__).resolve().parents[1]
ONE_MACHINE = ROOT / "dagster.yaml"
PRODUCTION = ROOT / "deploy" / "dagster.yaml"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DAGSTER_HOME."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch, postgres: Postgres, s3: S3) -> None:
    """The environment that deploy/README.md lists, with nothing else of AWS or Postgres around."""
    for name in [name for name in os.environ if re.match("AWS_|PG|GOSSAMER_", name)]:
        monkeypatch.delenv(name)
    settings = {
        "GOSSAMER_PG_HOST": postgres.host,
        "GOSSAMER_PG_PORT": str(postgres.port),
        "GOSSAMER_PG_DATABASE": postgres.database,
        "GOSSAMER_PG_USER": postgres.user,
        "GOSSAMER_PG_PASSWORD": postgres.password,
        "GOSSAMER_LOGS_BUCKET": s3.bucket,
        "GOSSAMER_LOGS_PREFIX": "logs/test",
    }
    for name, value in (settings | s3.env()).items():
        monkeypatch.setenv(name, value)


def test_shipped_instance_loads_from_dagster_home_and_reports_to_nobody(home: Path) -> None:
    shutil.copy(ONE_MACHINE, home)
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
    assert (home / "history").is_dir(), "events are not kept under DAGSTER_HOME"


@pytest.mark.service
def test_production_instance_loads_and_reports_to_nobody(home: Path, production: None) -> None:
    with dg.DagsterInstance.from_config(str(PRODUCTION.parent), PRODUCTION.name) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled


@pytest.mark.service
@pytest.mark.parametrize("file", [ONE_MACHINE, PRODUCTION], ids=["one machine", "production"])
def test_a_misspelt_setting_is_refused_and_not_ignored(file: Path, home: Path, production: None) -> None:
    text = file.read_text()
    assert text.count("poll_interval_seconds") == 1
    (home / "dagster.yaml").write_text(text.replace("poll_interval_seconds", "pol_interval_seconds"))
    with pytest.raises(dg.DagsterInvalidConfigError, match="pol_interval_seconds"):
        dg.DagsterInstance.get()


@pytest.mark.service
def test_production_without_its_database_settings_names_the_missing_variable(
    home: Path, production: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOSSAMER_PG_HOST")
    shutil.copy(PRODUCTION, home)
    with pytest.raises(Exception, match="GOSSAMER_PG_HOST"):
        dg.DagsterInstance.get()


@pytest.mark.service
def test_production_needs_no_endpoint_and_no_keys_where_s3_is_aws(
    home: Path, production: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    shutil.copy(PRODUCTION, home)
    with dg.DagsterInstance.get() as instance:
        assert instance.is_persistent


@pytest.mark.service
def test_production_keeps_events_in_postgres_and_logs_of_steps_in_s3(
    home: Path, production: None, postgres: Postgres, s3: S3
) -> None:
    shutil.copy(PRODUCTION, home)
    definitions = home / "hello.py"
    definitions.write_text(
        textwrap.dedent("""
        import dagster as dg

        @dg.op
        def greet():
            print("hello from the step")

        @dg.job(executor_def=dg.in_process_executor)
        def hello():
            greet()
        """)
    )
    command = [sys.executable, "-m", "dagster", "job", "execute", "-f", str(definitions), "-j", "hello"]
    done = subprocess.run(command, check=False, cwd=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    with dg.DagsterInstance.get() as instance:
        [run] = instance.get_runs(filters=dg.RunsFilter(job_name="hello"))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert not list(home.rglob("*.db")), "SQLite was used"

    engine = sqlalchemy.create_engine(postgres.url, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        query = sqlalchemy.text("select dagster_event_type from event_logs where run_id = :run")
        events = set(connection.execute(query, {"run": run.run_id}).scalars())
    assert {"STEP_SUCCESS", "LOGS_CAPTURED", "PIPELINE_SUCCESS"} <= events

    logs = _objects(s3, f"logs/test/storage/{run.run_id}/")
    assert b"hello from the step\n" in [body for key, body in logs.items() if key.endswith(".out")]


def _objects(server: S3, prefix: str) -> dict[str, bytes]:
    import obstore
    from obstore.store import S3Store

    # Endpoint and keys come from the environment that `production` has set.
    store = S3Store(server.bucket, virtual_hosted_style_request=False)
    keys = [entry["path"] for page in obstore.list(store, prefix) for entry in page]
    return {key: bytes(obstore.get(store, key).bytes()) for key in keys}


QUEUE = """
import os, signal, time
from pathlib import Path
import dagster as dg

here = Path(__file__).parent
lock, release, died = here / "books.lock", here / "release", here / "died"

@dg.op(pool="books")
def crawl_books():
    with lock.open("x"):  # a second crawl of the source beside this one would fail here
        while not release.exists():
            time.sleep(0.1)
    lock.unlink()

@dg.op(pool="films")
def crawl_films():
    with (here / "films.lock").open("x"):
        time.sleep(1)
    (here / "films.lock").unlink()

@dg.op(pool="quotes")
def crawl_quotes():
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)

@dg.op(pool="news")
def crawl_news():
    raise dg.Failure("the site is down")

@dg.job(executor_def=dg.in_process_executor)
def books():
    crawl_books()

@dg.job(executor_def=dg.in_process_executor)
def films():
    crawl_films()

@dg.job(executor_def=dg.in_process_executor)
def quotes():
    crawl_quotes()

@dg.job(executor_def=dg.in_process_executor)
def news():
    crawl_news()

def ask(job, times=1):
    return [dg.RunRequest(run_key=f"{job}-{number}", job_name=job) for number in range(times)]

@dg.sensor(jobs=[books, films, quotes, news], default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=1)
def asks():
    if not lock.exists():
        return ask("films", 3) + ask("books")
    return ask("books", 5) + ask("quotes") + ask("news")

defs = dg.Definitions(jobs=[books, films, quotes, news], sensors=[asks])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_daemon_crawls_a_source_once_at_a_time_and_retries_only_what_died(home: Path) -> None:
    shutil.copy(ONE_MACHINE, home)
    definitions = home / "queue_defs.py"
    definitions.write_text(QUEUE)
    with _daemon(home, definitions) as log, dg.DagsterInstance.get() as instance:

        def runs(job: str) -> list[dg.DagsterRun]:
            return list(instance.get_runs(filters=dg.RunsFilter(job_name=job)))

        def statuses(job: str) -> list[str]:
            return sorted(run.status.name for run in runs(job))

        def wait(job: str, *expected: str) -> None:
            _until(lambda: statuses(job) == list(expected), log, lambda: f"{job}: {statuses(job)}")

        def news_given_up() -> bool:
            events = [event for run in runs("news") for event in instance.all_logs(run.run_id)]
            return any("Not retrying run since it failed due to an asset or op failure" in e.message for e in events)

        # Three crawls of a source that this instance has never seen, asked for at once.
        wait("films", "SUCCESS", "SUCCESS", "SUCCESS")
        # One crawl of another goes on and four more wait: the four slots are there for other sources, even for one
        # whose process is killed and that runs again.
        wait("quotes", "FAILURE", "SUCCESS")
        _until(news_given_up, log, lambda: f"news: {statuses('news')}")
        assert statuses("news") == ["FAILURE"], "a step that raised ran again"
        assert statuses("books") == ["QUEUED"] * 4 + ["STARTED"]

        (home / "release").touch()
        _until(lambda: statuses("books").count("SUCCESS") >= 2, log, lambda: f"books: {statuses('books')}")


@contextmanager
def _daemon(home: Path, definitions: Path) -> Iterator[Path]:
    log = home / "daemon.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("dagster-daemon"), "run", "-f", str(definitions)],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            # Code servers and runs outlive the daemon for a while; they are in its group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _until(true: Callable[[], bool], log: Path, state: Callable[[], str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"not after {seconds:.0f} s; {state()}; the daemon said:\n{log.read_text()[-3000:]}")
        time.sleep(0.5)
