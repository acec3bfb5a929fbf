"""The lake on a folder and on S3: what comes back, what a reader sees, what a kill or a full disk leaves."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gossamer.errors import LakeAwayError, LakeError
from gossamer.lake import Lake, free_bytes, object_path, stage
from gossamer.manifest import CheckResult, Manifest
from tests import services

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """An empty lake; its place has characters that mean something in globs and addresses."""
    if request.param == "local":
        return Lake(str(tmp_path / "la ke [x] ü#?%41*"))
    server: services.S3 = request.getfixturevalue("s3")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return Lake(f"s3://{server.bucket}/la ke [x] ü+*&/{tmp_path.name}")


def commit(lake: Lake, frame: pl.LazyFrame | pl.DataFrame, key: str = "2026-01-05", **known: Any) -> Manifest:
    with stage(frame) as staged:
        return lake.commit("raw", "shop", key, staged, **known)


def rows(lake: Lake, key: str = "2026-01-05") -> pl.DataFrame:
    return lake.scan("raw", "shop", key).collect()


VALUES: dict[str, tuple[pl.DataType | type[pl.DataType], list[Any]]] = {
    "int8": (pl.Int8, [-128, 127, None]),
    "uint64": (pl.UInt64, [0, 2**64 - 1, None]),
    "int128": (pl.Int128, [-(2**100), 2**100, None]),
    "float32": (pl.Float32, [0.5, float("inf"), None]),
    "float64": (pl.Float64, [0.1, float("nan"), None]),
    "money": (pl.Decimal(18, 4), [Decimal("0.0001"), Decimal("-99999999999999.9999"), None]),
    "decimal": (pl.Decimal(38, 10), [Decimal("1.0000000001"), Decimal(0), None]),
    "string": (pl.String, ["", "ü\n\0€😀", None]),
    "binary": (pl.Binary, [b"", bytes(range(256)), None]),
    "bool": (pl.Boolean, [True, False, None]),
    "date": (pl.Date, [date(1, 1, 1), date(9999, 12, 31), None]),
    "time": (pl.Time, [clock(0, 0), clock(23, 59, 59, 999999), None]),
    "utc": (pl.Datetime("us", "UTC"), [datetime(1969, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), None]),
    "zoned": (pl.Datetime("ms", "Europe/Berlin"), [datetime(2026, 1, 1, tzinfo=UTC), None, None]),
    "naive": (pl.Datetime("ns"), [datetime(2026, 1, 1), None, None]),
    "duration": (pl.Duration("us"), [timedelta(microseconds=1), timedelta(days=-1), None]),
    "categorical": (pl.Categorical, ["a", "b", None]),
    "enum": (pl.Enum(["a", "b"]), ["a", "b", None]),
    "null": (pl.Null, [None, None, None]),
    "list": (pl.List(pl.List(pl.String)), [[["a"], []], [], None]),
    "array": (pl.Array(pl.Int64, 2), [[1, 2], [3, 4], None]),
    "struct": (pl.Struct({"x": pl.Decimal(10, 2), "y": pl.List(pl.Date)}), [{"x": Decimal("1.5"), "y": []}] * 3),
}


def every_type() -> pl.DataFrame:
    return pl.DataFrame([pl.Series(name, values, dtype=dtype) for name, (dtype, values) in VALUES.items()])


@pytest.mark.parametrize("lazy", [True, False])
def test_every_polars_type_comes_back_as_it_was(lake: Lake, lazy: bool) -> None:
    frame = every_type()
    manifest = commit(lake, frame.lazy() if lazy else frame)
    assert rows(lake).schema == frame.schema
    assert rows(lake).equals(frame)
    assert manifest == lake.current("raw", "shop", "2026-01-05")
    assert manifest.rows == 3 and manifest.columns["money"] == "Decimal(precision=18, scale=4)"


def test_a_partition_without_rows_keeps_its_columns(lake: Lake) -> None:
    frame = every_type().clear()
    assert commit(lake, frame).rows == 0
    assert rows(lake).equals(frame) and rows(lake).schema == frame.schema
    assert lake.partitions("raw", "shop") == ["2026-01-05"]
    assert commit(lake, pl.DataFrame()).columns == {}
    assert rows(lake).shape == (0, 0)


@pytest.mark.parametrize("key", ["2026-01-05|example.com", "2026-01-05T07", "a.b", "a~", "a[1]*?", "a%20b", "x y", "ü"])
def test_a_key_with_special_characters_has_its_own_object(lake: Lake, key: str) -> None:
    # Each would match this key's object if it were taken as a pattern.
    for other in ("a1", "a11b", "a b", "2026-01-05"):
        commit(lake, pl.DataFrame({"key": [other]}), other)
    commit(lake, pl.DataFrame({"key": [key]}), key)
    assert rows(lake, key)["key"].to_list() == [key]
    assert lake.current("raw", "shop", key).partition == key
    if "~" not in key:  # no segment has one: it stands for the separator
        assert key in lake.partitions("raw", "shop")


def test_a_partition_of_very_many_columns_has_a_version(lake: Lake) -> None:
    """Its footer is longer than what is read at first."""
    manifest = commit(lake, pl.DataFrame({f"column_{n}": [n] for n in range(3000)}))
    assert lake.version("raw", "shop", "2026-01-05") == manifest.version


def test_names_that_begin_alike_are_kept_apart(lake: Lake) -> None:
    commit(lake, pl.DataFrame({"a": [1]}))
    for layer, source in (("raw", "shop2"), ("raw2", "shop"), ("raw", "sho")):
        with stage(pl.DataFrame({"a": [1]})) as staged:
            lake.commit(layer, source, "other", staged)
    assert lake.partitions("raw", "shop") == ["2026-01-05"]
    assert lake.partitions("raw", "sh") == []
    commit(lake, pl.DataFrame({"a": [1]}), "2026-01-05|toys")
    lake.put_json(object_path("raw", "shop", "2026-01-06", ".progress.json"), {})
    assert lake.partitions("raw", "shop") == ["2026-01-05", "2026-01-05|toys"]


def test_what_was_never_written_is_named(lake: Lake) -> None:
    assert lake.get("raw/shop/none.json") is None and lake.get_json("none") is None
    assert lake.version("raw", "shop", "none") is None and lake.manifest("raw", "shop", "none") is None
    assert lake.partitions("raw", "shop") == [] and lake.scan_published("shop") is None
    lake.delete("none")
    for read in (lake.scan, lake.current):
        with pytest.raises(LakeError, match=r"No data for raw/shop, partition none.*Materialise it first"):
            read("raw", "shop", "none")


def test_only_one_of_two_creators_wins(lake: Lake) -> None:
    assert lake.create("launch/1", b"first")
    assert not lake.create("launch/1", b"second")
    assert lake.get("launch/1") == b"first"
    lake.put("launch/1", b"third")
    lake.delete("launch/1")
    assert lake.create("launch/1", b"fourth")


@pytest.mark.parametrize("content", [b"", b"junk", b"PAR1 and no more PAR1"])
def test_an_object_that_is_no_parquet_is_named(lake: Lake, content: bytes) -> None:
    lake.put(object_path("raw", "shop", "k"), content)
    for read in (lake.version, lake.scan, lake.current):
        with pytest.raises(LakeError, match=r"raw/shop/k\.parquet"):
            read("raw", "shop", "k")


def test_a_manifest_that_is_none_is_named(lake: Lake) -> None:
    commit(lake, pl.DataFrame({"a": [1]}))
    path = object_path("raw", "shop", "2026-01-05", ".json")
    for content in (b"", b"{", b"[]", b'{"layer": "raw"}', b"\xff"):
        lake.put(path, content)
        with pytest.raises(LakeError, match=r"is not a manifest\. Materialise its partition again"):
            lake.current("raw", "shop", "2026-01-05")
    with pytest.raises(LakeError, match="is not JSON"):
        lake.put("x.json", b"{")
        lake.get_json("x.json")


def test_the_verdict_comes_back_as_it_was(lake: Lake) -> None:
    checks = [
        CheckResult(name="books_closed", passed=True, blocking=True, summary="closed", details={"n": [1, {"ü": None}]}),
        CheckResult(name="expectations_critical", passed=False, blocking=True, summary="3 rows without a price"),
    ]
    commit(
        lake, pl.DataFrame({"a": [1]}), checks=checks, inputs={"raw/x": "v1"}, crawl_id="c", notes={"books": {"a": 1}}
    )
    current = lake.current("raw", "shop", "2026-01-05")
    assert list(current.checks) == checks and current.inputs == {"raw/x": "v1"} and current.notes == {"books": {"a": 1}}
    assert current.unmade(["joins_matched"]) + current.refusals() == [
        "raw/shop: joins_matched was never evaluated",
        "raw/shop: expectations_critical: 3 rows without a price",
    ]


def test_a_verdict_that_cannot_be_written_replaces_nothing(lake: Lake) -> None:
    before = commit(lake, pl.DataFrame({"a": [1]}))
    check = CheckResult(name="c", passed=True, blocking=True, summary="", details={"x": object()})
    with pytest.raises(ValueError, match="serialize"):
        commit(lake, pl.DataFrame({"a": [2]}), checks=[check])
    assert lake.current("raw", "shop", "2026-01-05") == before
    assert rows(lake)["a"].to_list() == [1]


def test_a_frame_that_fails_half_way_replaces_nothing(lake: Lake) -> None:
    before = commit(lake, pl.DataFrame({"a": [1]}))
    frame = pl.LazyFrame({"a": ["1"] * 300_000 + ["x"]}).select(pl.col("a").cast(pl.Int64))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        commit(lake, frame)
    assert lake.current("raw", "shop", "2026-01-05") == before


# --- Readers and writers at the same time, and kills ------------------------------------------------------------------

WRITER = """
    import os, signal, sys
    import polars as pl
    from gossamer.lake import Lake, stage

    def frame(n):
        size = 5_000 + n % 7 * 20_000
        return pl.DataFrame({"n": [n] * size, "noise": pl.Series(range(size)).shuffle(seed=n), "size": [size] * size})

    lake = Lake(sys.argv[1])
"""


def script(body: str) -> str:
    return textwrap.dedent(WRITER) + textwrap.dedent(body)


@contextlib.contextmanager
def running(body: str, lake: Lake) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that has `lake` and `frame(n)`; killed with the block."""
    process = subprocess.Popen([sys.executable, "-c", script(body), lake.uri], cwd=ROOT, env=os.environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


FOREVER = """
    for n in range(1_000_000):
        with stage(frame(n)) as staged:
            lake.commit("raw", "shop", "k", staged, notes={"n": n})
"""


def wait_for_data(lake: Lake) -> None:
    deadline = time.monotonic() + 60
    while lake.manifest("raw", "shop", "k") is None:
        assert time.monotonic() < deadline, "the writer wrote nothing"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_reader_never_takes_a_torn_or_mixed_partition(lake: Lake) -> None:
    """While another process replaces the partition without a pause, each read is whole or refused in words."""
    good: set[int] = set()
    refusals: list[str] = []
    with running(FOREVER, lake) as writer:
        wait_for_data(lake)
        for _ in range(400):
            try:
                with lake.reading("raw", "shop", "k") as manifest:
                    frame = lake.scan("raw", "shop", "k").collect()
            except LakeError as refusal:
                refusals.append(str(refusal))
                continue
            assert frame["n"].unique().to_list() == [manifest.notes["n"]]
            assert frame["size"].unique().to_list() == [frame.height] == [manifest.rows]
            good.add(manifest.notes["n"])
        assert writer.poll() is None
    assert good, f"no read came through; the last refusal: {refusals[-1]}"
    assert all("was replaced" in refusal for refusal in refusals)


@pytest.mark.slow
def test_whole_objects_are_replaced_at_once(lake: Lake) -> None:
    body = """
        for n in range(1_000_000):
            lake.put("o", bytes([65 + n % 26]) * (7_000_000 if n % 2 else 3))
    """
    with running(body, lake):
        deadline = time.monotonic() + 60
        while lake.get("o") is None:
            assert time.monotonic() < deadline, "the writer wrote nothing"
            time.sleep(0.05)
        for _ in range(60):
            content = lake.get("o")
            assert content is not None and len(set(content)) == 1 and len(content) in (3, 7_000_000)


def test_killed_between_data_and_verdict_the_pair_is_refused_until_it_is_made_again(lake: Lake) -> None:
    commit(lake, pl.DataFrame({"n": [0]}), "k")
    body = """
        class Cut(Lake):
            def put(self, path, content):
                if path.endswith(".json"):
                    os.kill(os.getpid(), signal.SIGKILL)
                super().put(path, content)

        with stage(frame(1)) as staged:
            Cut(sys.argv[1]).commit("raw", "shop", "k", staged)
    """
    with running(body, lake) as writer:
        assert writer.wait(60) == -signal.SIGKILL
    assert rows(lake, "k")["n"].unique().to_list() == [1]
    with pytest.raises(
        LakeError, match=r"partition k: the data was replaced, its verdict was not.*Materialise it again"
    ):
        lake.current("raw", "shop", "k")
    with pytest.raises(LakeError, match="its verdict was not"), lake.reading("raw", "shop", "k"):
        pytest.fail("the block was entered")
    assert commit(lake, pl.DataFrame({"n": [2]}), "k") == lake.current("raw", "shop", "k")


@pytest.mark.slow
def test_killed_at_any_moment_the_partition_is_whole_and_can_be_written_again(lake: Lake) -> None:
    commit(lake, pl.DataFrame({"n": [-1], "size": [1]}), "k")
    for milliseconds in (0, 3, 11, 17, 29):
        before = lake.version("raw", "shop", "k")
        with running(FOREVER, lake):
            deadline = time.monotonic() + 60
            while lake.version("raw", "shop", "k") == before:
                assert time.monotonic() < deadline, "the writer wrote nothing"
                time.sleep(0.01)
            time.sleep(milliseconds / 1000)
        frame = rows(lake, "k")
        assert frame["n"].n_unique() == 1 and frame["size"].unique().to_list() == [frame.height]
        try:
            assert lake.current("raw", "shop", "k").rows == frame.height
        except LakeError as error:
            refusal = str(error)
            assert "its verdict was not" in refusal
        assert lake.partitions("raw", "shop") == ["k"]
    assert commit(lake, pl.DataFrame({"n": [9]}), "k") == lake.current("raw", "shop", "k")


def test_replaced_between_the_guards_a_read_is_refused(lake: Lake) -> None:
    commit(lake, pl.DataFrame({"n": [1]}))
    with pytest.raises(LakeError, match=r"was replaced while it was read\. Run it again"):  # noqa: SIM117
        with lake.reading("raw", "shop", "2026-01-05"):
            commit(lake, pl.DataFrame({"n": [2]}))
    with lake.reading("raw", "shop", "2026-01-05") as manifest:
        assert rows(lake)["n"].to_list() == [2] and manifest.rows == 1
    with pytest.raises(ZeroDivisionError), lake.reading("raw", "shop", "2026-01-05"):
        _ = 1 / 0


# --- Local disk: leftovers, no space, no permission -------------------------------------------------------------------


def test_what_a_kill_leaves_of_a_half_written_object_is_no_partition(tmp_path: Path) -> None:
    """obstore writes beside the object and renames; SIGKILL leaves that file, which nothing may take for data."""
    lake = Lake(str(tmp_path))
    commit(lake, pl.DataFrame({"n": [1]}), "k")
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(3_000_000_000)
    body = """
        from pathlib import Path
        lake.put("raw/shop/k.parquet", Path(sys.argv[1]) / "big")
    """
    with running(body, lake) as writer:
        deadline = time.monotonic() + 60
        while not (left := list((tmp_path / "raw/shop").glob("k.parquet#*"))):
            assert writer.poll() is None and time.monotonic() < deadline, "it was written before it could be killed"
            time.sleep(0.001)
    assert left[0].exists(), "it was written before it could be killed"
    assert lake.partitions("raw", "shop") == ["k"]
    assert sorted(lake.paths("raw/shop")) == ["raw/shop/k.json", "raw/shop/k.parquet"]
    assert rows(lake, "k")["n"].to_list() == [1]
    commit(lake, pl.DataFrame({"n": [2]}), "k")
    assert rows(lake, "k")["n"].to_list() == [2]


def noise(size: int) -> pl.DataFrame:
    return pl.DataFrame({"n": pl.Series(range(size)).shuffle(seed=1)})


def test_a_full_disk_is_named_and_leaves_the_old_partition_and_no_rubbish(small_disk: Path) -> None:
    lake = Lake(str(small_disk / "lake"))
    before = commit(lake, pl.DataFrame({"n": [1]}))
    files = sorted(small_disk.rglob("*"))
    for size in (400_000, 4_000_000):  # one put, and one in parts
        with pytest.raises(LakeError, match=r"No space left: write .*parquet.*nothing was lost"):
            commit(lake, noise(size))
        with pytest.raises(LakeError, match="No space left"):
            lake.create("launch/1", b"x" * size * 4)
        assert [path for path in sorted(small_disk.rglob("*")) if path.is_file()] == [p for p in files if p.is_file()]
    assert lake.current("raw", "shop", "2026-01-05") == before
    assert rows(lake)["n"].to_list() == [1]
    free = free_bytes(lake)
    assert free is not None and 0 < free < 2_000_000
    assert lake.create("launch/1", b"1")


def test_a_full_temporary_folder_is_named(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(LakeError, match=r"No space left: .*temporary rows.*TMPDIR"):
        commit(lake, noise(400_000))
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named_and_can_be_read(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    commit(lake, pl.DataFrame({"n": [1]}), "k")
    for path in [*tmp_path.rglob("*"), tmp_path]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    body = """
        from gossamer.errors import LakeError
        if os.geteuid() == 0:  # root may do everything
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        print(lake.scan("raw", "shop", "k").collect().height, lake.current("raw", "shop", "k").rows)
        for act in (lambda: lake.put("raw/shop/k.parquet", b""), lambda: lake.create("new/1", b""),
                    lambda: lake.delete("raw/shop/k.parquet"), lambda: Lake(lake.uri + "/sub").put("x", b"")):
            try:
                act()
            except LakeError as error:
                print(error)
    """
    closed = [parent for parent in tmp_path.parents if parent.stat().st_mode & 0o005 != 0o005 and os.geteuid() == 0]
    modes = {parent: parent.stat().st_mode for parent in closed}
    for parent in closed:
        parent.chmod(0o755)  # pytest's own folders are root's alone
    try:
        result = subprocess.run(
            [sys.executable, "-c", script(body), lake.uri],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode)
        for path in [tmp_path, *tmp_path.rglob("*")]:
            path.chmod(0o755)
    lines = result.stdout.splitlines()
    assert lines[0] == "1 1", result.stderr
    assert [line.split(" ")[1] for line in lines[1:]] == ["write", "write", "delete", "open"], result.stdout
    assert all("ermission denied" in line for line in lines[1:])


# --- Places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri", ["ftp://host/x", "s3://", "s3://b/a?b", "s3://b/a#b", "s3://b/%41", "memory://", "s4://b"]
)
def test_a_place_that_libraries_would_read_differently_is_refused(uri: str) -> None:
    with pytest.raises(LakeError, match="Use a folder, or s3://bucket/prefix"):
        Lake(uri)


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    lake = Lake(f"file://{tmp_path}/lake/")
    commit(lake, pl.DataFrame({"n": [1]}))
    assert (tmp_path / "lake/raw/shop/2026-01-05.parquet").is_file()


def test_a_lake_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    with pytest.raises(LakeError, match="Cannot open the lake"):
        Lake(str(tmp_path / "lake")).get("x")


# --- An S3 that is silent ---------------------------------------------------------------------------------------------


Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def silent_s3(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> Iterator[tuple[Lake, list[bytes]]]:
    """An S3 that takes every request and answers none, but the last ones by these; with how each one began."""
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "r", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    asked: list[bytes] = []
    held: list[socket.socket] = []

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is closed at the end
            while True:
                connection, _ = server.accept()
                held.append(connection)
                asked.append(connection.recv(1 << 16).split(b" HTTP")[0])
                if len(asked) > SILENT_TRIES and answers:
                    answers[min(len(asked) - SILENT_TRIES, len(answers)) - 1](connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield Lake("s3://bucket/lake"), asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for connection in held:
                connection.close()


#: So many requests of a test are left without an answer.
SILENT_TRIES = 2


def answer(status: str, body: str = "", pause: float = 0.0) -> Answer:
    """An answer of S3, whose body comes byte by byte where there is a pause."""

    def give(connection: socket.socket) -> None:
        about = 'ETag: "e"\r\nLast-Modified: Mon, 05 Jan 2026 12:00:00 GMT\r\nConnection: close'
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{about}\r\n\r\n".encode())
        for byte in body.encode():
            time.sleep(pause)
            connection.sendall(bytes([byte]))

    return give


LISTED = """<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>lake/x/y</Key>
<LastModified>2026-01-05T12:00:00.000Z</LastModified><Size>1</Size><ETag>"e"</ETag></Contents></ListBucketResult>"""
DELETED = '<?xml version="1.0"?><DeleteResult><Deleted><Key>lake/x</Key></Deleted></DeleteResult>'


@pytest.mark.parametrize(
    ("ask", "given", "told"),
    [
        (lambda lake: lake.get("x"), answer("200 OK", "content"), b"content"),
        (lambda lake: lake.put("x", b"1"), answer("200 OK"), None),
        (lambda lake: lake.create("x", b"1"), answer("200 OK"), True),
        (lambda lake: lake.create("x", b"1"), answer("412 Precondition Failed"), False),  # by the try without an answer
        (lambda lake: lake.delete("x"), answer("200 OK", DELETED), None),
        (lambda lake: list(lake.paths("x")), answer("200 OK", LISTED), ["x/y"]),
    ],
    ids=["get", "put", "create", "create that was done", "delete", "list"],
)
def test_a_request_that_s3_is_silent_on_is_soon_tried_again(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[Lake], object], given: Answer, told: object
) -> None:
    monkeypatch.setattr("gossamer.lake.SILENT_SECONDS", 0.4)
    began = time.monotonic()
    with silent_s3(monkeypatch, given) as (lake, asked):
        assert ask(lake) == told
        assert len(asked) >= SILENT_TRIES + 1
        assert len(set(asked)) == 1
    assert time.monotonic() - began < 20, "obstore's own time-out of one try is 30 s"


def test_a_large_object_may_take_longer_than_s3_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.lake.SILENT_SECONDS", 1.0)
    with silent_s3(monkeypatch, answer("200 OK", "0123456789", pause=0.2)) as (lake, _):
        began = time.monotonic()
        assert lake.get("x") == b"0123456789"
        assert time.monotonic() - began > SILENT_TRIES * 1.0 + 1.9


@pytest.mark.parametrize("ask", [lambda lake: lake.create("x", b"1"), lambda lake: lake.delete("x")])
def test_an_s3_that_stays_silent_is_given_up_in_words(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[Lake], object]
) -> None:
    monkeypatch.setattr("gossamer.lake.SILENT_SECONDS", 0.2)
    monkeypatch.setattr("gossamer.lake.RETRY_SECONDS", 0.5)
    with silent_s3(monkeypatch) as (lake, asked), pytest.raises(LakeAwayError, match=r"Cannot .* s3://bucket/lake/x"):
        ask(lake)
    assert len(asked) > 1


def test_silence_while_much_is_written_is_not_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.lake.SILENT_SECONDS", 0.2)
    monkeypatch.setenv("AWS_TIMEOUT", "2s")
    monkeypatch.setattr("gossamer.lake.RETRY_SECONDS", 0.0)
    with silent_s3(monkeypatch) as (lake, asked):
        began = time.monotonic()
        with pytest.raises(LakeAwayError):
            lake.create("x", bytes(2_000_000))
        assert time.monotonic() - began > 1.9
    assert len(asked) == 1


def test_what_variables_say_of_connections_goes_before_what_the_lake_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_READ_TIMEOUT", "300ms")
    with silent_s3(monkeypatch, answer("200 OK", "content")) as (lake, asked):
        began = time.monotonic()
        assert lake.get("x") == b"content"
        assert time.monotonic() - began < 8
    assert len(asked) >= SILENT_TRIES + 1


@pytest.mark.service
@pytest.mark.parametrize("wrong", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}])
def test_an_s3_that_refuses_or_is_not_there_is_named(
    s3: services.S3, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (s3.env() | wrong).items():
        monkeypatch.setenv(name, value)
    lake = Lake(f"s3://{s3.bucket}/x")
    with pytest.raises(LakeError, match=f"Cannot read s3://{s3.bucket}/x/y"):
        lake.get("y")
