"""A crawl's records in a real lake: what counts of what was written, and what becomes the partition's rows."""

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gossamer.crawl import flush
from gossamer.crawl.flush import Flusher
from gossamer.crawl.frontier import Failure, Frontier, FrontierError, NewRecord, Record, Segment, State, Unit
from gossamer.crawl.frontier.sqlite import SqliteFrontier
from gossamer.crawl.rows import Page, RowFormat
from gossamer.crawl.segments import DEAD_LETTERS, Segments, dead_letters
from gossamer.errors import LakeError
from gossamer.lake import Lake, stage
from gossamer.source import FieldType
from tests import services

FOLDER = "crawls/shop/2026-01-05~de/000001"
CRAWL = "shop/2026-01-05|de/1"
FIELDS: dict[str, FieldType] = {"title": "str", "price": "money"}
PAGE = Page("https://shop.example/", datetime(2026, 1, 5, 12, tzinfo=UTC), "f00d")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """An empty lake; its place has characters that mean something in globs and addresses."""
    if request.param == "local":
        return Lake(str(tmp_path / "la ke [x] ü#?%41*"))
    server: services.S3 = request.getfixturevalue("s3")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return Lake(f"s3://{server.bucket}/la ke [x] ü+*&/{tmp_path.name}")


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def launched(lake: Lake, launch: int = 1, fields: dict[str, FieldType] = FIELDS) -> Segments:
    return Segments(lake, FOLDER, launch, RowFormat(fields, "v1").columns, CRAWL)


def records(
    first: int, *items: dict[str, Any], request: int = 0, fields: dict[str, FieldType] = FIELDS
) -> list[Record]:
    """Records with ids from `first` on, of a request of their own each, if none is given."""
    form = RowFormat(fields, "v1")
    return [Record(n, request or n, form.line(item, PAGE, "seed")) for n, item in enumerate(items, first)]


def titled(first: int, last: int, **known: int) -> list[Record]:
    return records(first, *({"title": f"t{n}"} for n in range(first, last + 1)), **known)  # type: ignore[arg-type]


def rows(segments: Segments, named: Sequence[Segment], retracted: Sequence[tuple[int, int]] = ()) -> pl.DataFrame:
    with stage(segments.rows(named, retracted)) as staged:
        return staged.frame.collect()


def titles(segments: Segments, named: Sequence[Segment], retracted: Sequence[tuple[int, int]] = ()) -> list[str]:
    return rows(segments, named, retracted)["title"].to_list()


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_the_rows_are_those_of_all_segments_in_the_order_of_the_records(lake: Lake) -> None:
    first, second = launched(lake, 1), launched(lake, 2)
    named = [first.write(titled(1, 12)), first.write(titled(13, 13)), second.write(titled(14, 40))]
    assert titles(second, named[::-1]) == [f"t{n}" for n in range(1, 41)]


def test_a_row_says_where_it_comes_from_in_the_types_of_raw(lake: Lake) -> None:
    segments = launched(lake)
    frame = rows(segments, [segments.write(records(1, {"title": "Lamp", "price": 3, "stock": {"de": 1}}))])
    expected = pl.DataFrame(
        {
            "title": ["Lamp"],
            "price": ["3"],
            "extra": ['{"stock": {"de": 1}}'],
            "_url": ["https://shop.example/"],
            "_fetched_at": [PAGE.fetched_at],
            "_page_hash": ["f00d"],
            "_crawl_id": [CRAWL],
            "_spider_version": ["v1"],
            "_seed_row": ["seed"],
        },
        schema_overrides={"_fetched_at": pl.Datetime("us", "UTC")},
    )
    assert_frame_equal(frame, expected)


def test_a_crawl_without_records_has_an_empty_table_with_all_columns(lake: Lake) -> None:
    segments = launched(lake)
    assert rows(segments, []).is_empty()
    assert rows(segments, []).schema == rows(segments, [segments.write(titled(1, 1))]).schema


def test_records_of_a_replayed_request_do_not_count_but_its_new_ones_do(lake: Lake) -> None:
    segments = launched(lake)
    old = [*titled(1, 3, request=7), *titled(4, 5, request=8), *titled(6, 6, request=7)]
    named = [segments.write(old), segments.write([*titled(7, 8, request=7), *titled(9, 9, request=0)])]
    assert titles(segments, named, [(7, 6), (9999, 5)]) == ["t4", "t5", "t7", "t8", "t9"]
    assert titles(segments, named, [(7, 8), (8, 5), (9, 9)]) == []


def test_a_segment_that_the_store_does_not_name_never_shows_and_is_swept_up(lake: Lake) -> None:
    killed, segments = launched(lake, 1), launched(lake, 2)
    killed.write(titled(1, 3))
    named = [segments.write(titled(1, 2))]
    segments.write(titled(3, 3))
    assert titles(segments, named) == ["t1", "t2"]

    segments.sweep(named)
    assert list(lake.paths(FOLDER)) == [f"{FOLDER}/{named[0].name}"]
    assert titles(segments, named) == ["t1", "t2"]


def test_a_launch_that_was_thought_dead_does_not_sweep_up_its_successors_segments(local: Lake) -> None:
    older, newer = launched(local, 1), launched(local, 2)
    named = [older.write(records(1, {"title": "a"}))]
    of_successor = newer.write(records(2, {"title": "b"}))
    older.sweep(named)
    assert newer.rows([*named, of_successor], []).collect().height == 2


def test_sweeping_leaves_the_rest_of_the_crawl_alone(local: Lake) -> None:
    for path in (f"{FOLDER}/crawl.json", f"{FOLDER}/segments.json", "crawls/shop/2026-01-05~de/000002/segments/1"):
        local.put(path, b"{}")
    launched(local).write(titled(1, 1))
    launched(local).sweep([])
    assert len(list(local.paths("crawls"))) == 3


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_a_segment_is_never_changed_by_a_later_one(lake: Lake) -> None:
    segments, twin = launched(lake), launched(lake)
    first = segments.write(titled(1, 3))
    assert first == Segment("segments/000001-000001.parquet", 1, 3, 3)
    before = lake.get(f"{FOLDER}/{first.name}")
    others = [twin.write(titled(1, 3)), segments.write(titled(1, 3)), launched(lake, 2).write(titled(1, 3))]
    assert len({first.name, *(other.name for other in others)}) == 4
    assert lake.get(f"{FOLDER}/{first.name}") == before


def test_what_a_failed_try_left_does_not_hinder_the_next(lake: Lake) -> None:
    lake.put(f"{FOLDER}/segments/000001-000001.parquet", b"half of a segm")
    segments = launched(lake)
    named = [segments.write(titled(1, 2))]
    assert titles(segments, named) == ["t1", "t2"]


def test_records_are_written_once_the_lake_is_back(local: Lake) -> None:
    place = Path(local.url(FOLDER))
    place.parent.mkdir(parents=True)
    place.write_text("no folder")
    segments = launched(local)
    for _ in range(2):
        with pytest.raises(LakeError, match=r"Cannot write .*segments/000001-00000\d\.parquet"):
            segments.write(titled(1, 2))
    place.unlink()
    assert titles(segments, [segments.write(titled(1, 2))]) == ["t1", "t2"]


def test_a_full_disk_is_told_and_the_same_records_are_written_when_there_is_room(small_disk: Path) -> None:
    segments = launched(Lake(str(small_disk / "lake")))
    first = segments.write(titled(1, 2))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    with pytest.raises(LakeError, match="No space left"):
        segments.write(titled(3, 2000))
    filler.unlink()
    assert len(titles(segments, [first, segments.write(titled(3, 2000))])) == 2000


def test_the_lake_takes_a_segment_of_50_mb_and_only_once(lake: Lake) -> None:
    content = bytes(range(256)) * 200_000
    assert lake.create("big", content)
    assert not lake.create("big", b"another")
    assert lake.get("big") == content


# --- What is wrong is told --------------------------------------------------------------------------------------------


def test_a_missing_segment_is_an_error_that_names_it_never_fewer_rows(lake: Lake) -> None:
    segments = launched(lake)
    named = [segments.write(titled(1, 2)), segments.write(titled(3, 4))]
    lake.delete(f"{FOLDER}/{named[1].name}")
    with pytest.raises(LakeError, match=r"000001-000002\.parquet, a segment of .* is missing\. Bring it back"):
        segments.rows(named, [])


def test_a_segment_with_other_records_than_the_store_knows_of_is_an_error(lake: Lake) -> None:
    segments = launched(lake)
    named = [segments.write(titled(1, 2)), Segment(segments.write(titled(3, 4)).name, 3, 5, 3)]
    with pytest.raises(LakeError, match=r"000001-000002\.parquet has 2 records, the crawl's store knows of 3\."):
        segments.rows(named, [])


@pytest.mark.parametrize("content", [b"", b"no Parquet at all", b"PAR1" + bytes(40) + b"PAR1"])
def test_a_damaged_segment_is_an_error(lake: Lake, content: bytes) -> None:
    segments = launched(lake)
    named = [segments.write(titled(1, 2)), segments.write(titled(3, 4))]
    lake.put(f"{FOLDER}/{named[1].name}", content)
    with pytest.raises(LakeError, match=r"A segment in .*/segments cannot be read: .*Bring it back"):
        segments.rows(named, [])


# --- Nothing is dropped silently --------------------------------------------------------------------------------------


def test_records_of_a_launch_with_another_declaration_keep_all_their_values(lake: Lake) -> None:
    before: dict[str, FieldType] = {"title": "str", "colour": "str"}
    items: list[dict[str, Any]] = [
        {"title": "t1", "colour": "red", "size": 1},
        {"title": "t2", "colour": "blue"},
        {"title": "t3"},
    ]
    old = records(1, *items, fields=before)
    waited = records(4, *items, fields=before)
    now = launched(lake, 2)
    named = [
        launched(lake, 1, before).write(old),
        now.write(waited),
        now.write(records(7, {"title": "t4", "price": 1})),
    ]
    frame = rows(now, named)
    assert frame.columns == rows(now, []).columns
    assert frame["title"].to_list() == ["t1", "t2", "t3", "t1", "t2", "t3", "t4"]
    assert frame["price"].to_list() == [None] * 6 + ["1"]
    kept = [json.loads(extra) if extra else {} for extra in frame["extra"]]
    assert kept == [{"colour": "red", "size": 1}, {"colour": "blue"}, {}] * 2 + [{}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["title", "tags", "extra", "_url", "_record", "_request", "_crawl_id"]) | st.text()


@given(st.lists(st.dictionaries(NAMES, JSON, max_size=5), min_size=1, max_size=20))
@settings(max_examples=50)
def test_every_item_that_json_can_tell_comes_back_from_the_rows(items: list[dict[str, Any]]) -> None:
    fields: dict[str, FieldType] = {"title": "str", "tags": "json"}
    with TemporaryDirectory() as folder:
        segments = launched(Lake(folder), 1, fields)
        half = len(items) // 2
        parts = [part for part in (items[:half], items[half:]) if part]
        named = [segments.write(records(1 + number * half, *part, fields=fields)) for number, part in enumerate(parts)]
        back = rows(segments, named).to_dicts()
    for item, row in zip(items, back, strict=True):
        for name in fields:
            value = item.get(name)
            same = row[name] if value is None or isinstance(value, str) else json.loads(row[name])
            assert (type(same), same) == (type(value), value)
        others = {name: value for name, value in item.items() if name not in fields}
        assert json.loads(row["extra"] or "{}") == others


# --- Dead letters -----------------------------------------------------------------------------------------------------


def failed(number: int = 1, state: State = State.DEAD, reason: str = "server_error", **known: Any) -> Failure:
    told: dict[str, Any] = {
        "url": f"https://shop.example/{number}",
        "callback": "parse",
        "status": 503,
        "attempts": 3,
        "message": "503 Service Unavailable",
        "body_sample": "busy",
        "ended_at": 1767614400.25,
        "start": False,
        "seed": "https://shop.example/",
    }
    return Failure(id=number, state=state, reason=reason, **(told | known))


def letters(*failures: Failure) -> pl.DataFrame:
    with dead_letters(failures) as frame, stage(frame) as staged:
        return staged.frame.collect()


def test_a_dead_letter_says_what_failed_and_why() -> None:
    assert letters(failed(), failed(2, status=None, callback="")).to_dicts() == [
        {
            "url": "https://shop.example/1",
            "reason": "server_error",
            "status": 503,
            "attempts": 3,
            "callback": "parse",
            "message": "503 Service Unavailable",
            "failed_at": datetime(2026, 1, 5, 12, 0, 0, 250_000, tzinfo=UTC),
            "body_sample": "busy",
            "seed_row": "https://shop.example/",
        },
        letters(failed(2, status=None, callback="")).row(0, named=True),
    ]


def test_the_dead_letters_are_those_that_the_books_count_as_dead() -> None:
    kept = letters(
        failed(1),
        failed(2, start=True),
        failed(3, State.EXCLUDED, "robots", start=True),
        failed(4, State.EXCLUDED, "limit", start=True),  # nothing is wrong with it: the crawl ended before
        failed(5, State.REDIRECTED, "", start=True),
    )
    assert kept["url"].str.split("/").list.last().to_list() == ["1", "2", "3"]


def test_a_crawl_without_failures_has_a_table_of_the_same_columns() -> None:
    assert letters().schema == letters(failed()).schema == DEAD_LETTERS
    assert letters().is_empty()


def test_long_and_hostile_words_of_a_page_are_cut_and_made_harmless() -> None:
    [row] = letters(failed(message="\x1b[31m" + "m" * 5000, body_sample="\x9b2J" + "b" * 5000)).to_dicts()
    assert row["message"] == "\ufffd[31m" + "m" * 3995
    assert row["body_sample"] == "\ufffd2J" + "b" * 497


# --- Size -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Frontier]:
    """A store in which records wait that have some 2 MB each."""
    with closing(SqliteFrontier(tmp_path / "store.sqlite")) as frontier:
        for record in records(1, *({"title": f"{n} {'x' * 2_000_000}"} for n in range(30))):
            frontier.commit([Unit(outputs=[NewRecord(record.data)])])
        yield frontier


def never(error: FrontierError) -> None:
    raise error


def expect_pieces(segments: Segments, frontier: Frontier) -> None:
    """All of them lie in segments of at most 16 MiB, each once."""
    named = frontier.segments()
    assert [segment.rows for segment in named] == [8, 8, 8, 6]
    assert [title.partition(" ")[0] for title in titles(segments, named)] == [str(n) for n in range(30)]


def test_large_records_are_not_held_in_memory_all_at_once_when_a_crawl_ends(local: Lake, large: Frontier) -> None:
    segments = launched(local)
    Flusher(large, segments, never).rest()
    expect_pieces(segments, large)


def test_large_rows_are_brought_together_a_few_at_a_time(local: Lake, large: Frontier) -> None:
    segments = launched(local)
    Flusher(large, segments, never).rest()
    named = large.segments()
    with stage(segments.rows(named, []), segments.group_rows(named)) as staged:
        about = pq.read_metadata(staged.path)
        groups = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        assert sum(groups) == 30
        assert max(groups) <= 8, "16 MiB"
        assert [row[0].partition(" ")[0] for row in staged.frame.select("title").collect().iter_rows()] == [
            str(n) for n in range(30)
        ]


def test_small_rows_are_not_cut_into_small_groups(local: Lake) -> None:
    segments = launched(local)
    assert segments.group_rows([]) == 250_000
    named = [segments.write(titled(1, 50)), segments.write(titled(51, 99))]
    assert segments.group_rows(named) > 50_000
    for segment in named:  # as an older version wrote it
        place = local.url(f"{FOLDER}/{segment.name}")
        pl.read_parquet(place).drop("_bytes").write_parquet(place)
        assert segments.group_rows(named) > 50_000
    assert len(titles(segments, named)) == 99


def test_large_records_that_have_waited_go_in_several_segments_one_after_the_other(
    local: Lake, large: Frontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush, "SEGMENT_SECONDS", 6.0)
    segments = launched(local)

    async def crawl() -> None:
        flushing = asyncio.create_task(Flusher(large, segments, never).run())
        async with asyncio.timeout(22):  # each for itself would wait its 6 s
            while large.waiting():
                await asyncio.sleep(0.05)
        flushing.cancel()

    asyncio.run(crawl())
    expect_pieces(segments, large)


def test_more_dead_letters_than_are_held_at_a_time_all_arrive_in_order() -> None:
    frame = letters(*(failed(n) for n in range(25_001)))
    assert frame["url"].to_list() == [f"https://shop.example/{n}" for n in range(25_001)]


@pytest.mark.slow
def test_a_million_dead_letters_and_rows_are_committed_in_flat_memory(tmp_path: Path) -> None:
    program = """
        import random, resource, sys
        from gossamer.crawl.frontier import Segment
        from gossamer.lake import Lake, stage
        from tests.test_segments import FOLDER, dead_letters, failed, launched, records

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

        words = [random.randbytes(500).hex() for _ in range(1000)]
        lake = Lake(sys.argv[1])
        segments = launched(lake)
        first = segments.write(records(1, *({"title": words[n % 1000]} for n in range(10_000))))
        named = [first] + [segments.write(records(1, {"title": words[0]}))]
        for number in range(2, 101):
            name = f"segments/000002-{number:06}.parquet"
            lake.create(f"{FOLDER}/{name}", lake.get(f"{FOLDER}/{first.name}"))
            named.append(Segment(name, number * 10_000, number * 10_000 + 9_999, 10_000))
        base = peak()
        failures = (failed(n, message=words[n % 1000]) for n in range(1_000_000))
        with dead_letters(failures) as letters, stage(letters) as dead, stage(segments.rows(named, [(1, 1)])) as raw:
            print(dead.rows, raw.rows, round(peak() - base))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "lake")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    letters_told, rows_told, grown = map(int, done.stdout.split())
    assert letters_told == 1_000_000
    assert rows_told > 990_000
    assert grown < 500, "MB; held at once, the texts alone are 2,000"
