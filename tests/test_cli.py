"""The command line as a user meets it: real processes, real sites on loopback, real crawls through Dagster."""

import csv
import datetime as dt
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pymongo
import pytest

from demo import shop
from gossamer import scaffold
from gossamer.cli import crawling
from gossamer.crawl import identity, life
from gossamer.crawl.identity import Crawl
from gossamer.crawl.life import CrawlState, Standing
from gossamer.crawl.progress import Progress, progress_path
from gossamer.lake import Lake, stage
from gossamer.settings import PROJECT
from tests import services
from tests.publications import declare, finish_and_publish, product, products

TODAY = dt.datetime.now(dt.UTC).date()
DAY = "2026-03-02"
Result = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Home:
    """A user's own sources, lake and Dagster instance."""

    root: Path

    @property
    def sources(self) -> Path:
        return self.root / "sources"

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOSSAMER_", "DAGSTER_"))}
        places = {
            "GOSSAMER_SOURCES": str(self.sources),
            "GOSSAMER_LAKE": str(self.root / "lake"),
            "DAGSTER_HOME": str(self.root / "dagster"),
        }
        return {**kept, **places, "PYTHONPATH": str(PROJECT), "NO_COLOR": "1"}

    def run(self, *arguments: str, **environ: str) -> Result:
        """`gossamer ...`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gossamer", *arguments],
            env={**self.environ, **environ},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        result = self.run(*arguments, "--json")
        assert result.returncode == code, result.stderr
        return json.loads(result.stdout)

    def write(self, name: str, **files: str) -> Path:
        """A source's folder; `source_yaml` stands for source.yaml."""
        folder = self.sources / name
        folder.mkdir(parents=True)
        for file, text in files.items():
            stem, _, suffix = file.rpartition("_")
            (folder / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
        return folder


def rates_source(home: Home, url: str, name: str = "rates") -> Path:
    """The shipped source of exchange rates, on the served shop."""
    folder = home.sources / name
    shutil.copytree(PROJECT / "sources" / "rates", folder)
    text = (folder / "source.yaml").read_text().replace("http://127.0.0.1:8765", url)
    (folder / "source.yaml").write_text(text.replace("name: rates", f"name: {name}"))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "sources").mkdir()
    return Home(tmp_path)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with shop.serve() as url:
        yield url


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory, site: str) -> tuple[Home, Result]:
    """A home where one partition of `rates` was crawled to its readers."""
    home = Home(tmp_path_factory.mktemp("crawled"))
    rates_source(home, site)
    return home, home.run("crawl", "rates", "--partition", DAY, "--fresh")


def assert_one_line_each(result: Result, *words: str) -> None:
    """A fault that a user can mend: exit code 2, lines that say so on stderr, nothing else."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    assert len(result.stderr.splitlines()) == 1
    for word in words:
        assert word in result.stderr


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, gossamer.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    ).stdout
    heavy = {"dagster", "scrapy", "polars", "great_expectations", "pydantic", "duckdb", "deltalake", "pyarrow"}
    assert not heavy & set(loaded.split())


def test_help_names_every_command(home: Home) -> None:
    result = home.run("--help")

    assert result.returncode == 0
    for command in ("new", "try", "check", "crawl", "pause", "resume", "stop", "query", "ls", "status"):
        assert command in result.stdout


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["crwal"], ["crwal", "--help"]),
        (["ls", "--wat"], ["--wat", "gossamer ls --help"]),
        (["--json", "ls"], ["after the command"]),
        (["--sources", "nowhere", "ls"], ["No folder of sources", "nowhere"]),
        (["new", "books"], ["URL", "gossamer new --help"]),
        (["new", "Books", "https://example.com/"], ["'Books'", "`books`"]),
        (["new", "1st-shop", "https://example.com/"], ["'1st-shop'", "letter first"]),
        (["new", "../up", "https://example.com/"], ["'../up'"]),
        (["new", "books", "example.com"], ["https://example.com"]),
        (["new", "books", "ftp://example.com/"], ["web address"]),
        (["new", "books", "https://"], ["web address"]),
        (["new", "books", "https://exa mple.com/"], ["spaces"]),
        (["new", "books", "https://example.com:99999/"], ["web address"]),
        (["new", "rates", "https://example.com/"], ["exists already"]),
        (["try", "rate"], ["No source `rate`", "`rates`"]),
        (["try", "rates", "--pages", "0"], ["--pages", "greater than"]),
        (["try", "rates", "--pages", "ten"], ["--pages", "integer"]),
        (["try", "rates", "--partition", "yesterday"], ["'yesterday'", "write it like"]),
        (["crawl", "rates", "--partition", "1999-01-01"], ["before the first"]),
        (["crawl", "rates", "--partition", "2999-01-01"], ["future"]),
        (["crawl", "rates", "--partition", DAY, "--all-segments"], ["exclude each other"]),
        (["status", "nothing"], ["No source `nothing`", "rates"]),
        (["pause", "nothing"], ["No source `nothing`", "rates"]),
        (["pause", "rates"], ["No partition of rates is being crawled", "gossamer status rates"]),
        (["resume", "rates"], ["No partition of rates has a crawl that is not over"]),
        (["stop", "rates", "--partition", "2999-01-01"], ["future"]),
        (["stop", "rates", "--partition", ""], ["''"]),
        (["crawl", "rates", "--partition", ""], ["''"]),
        (["ls", "--sources", "nowhere"], ["No folder of sources", "GOSSAMER_SOURCES"]),
        (["ls", "--lake", "ftp://example.com/lake"], ["ftp://example.com/lake"]),
        (["query", ""], ["empty"]),
        (["query", "select * from rates"], ["Nothing of `rates` is published yet", "gossamer crawl rates"]),
        (["query", "select * from prices"], ["no table `prices`"]),
        (["query", "selec 1"], ["selec"]),
        (["query", "select 1", "--csv", "--json"], ["exclude each other"]),
    ],
)
def test_bad_input_is_answered_with_one_line_that_helps(home: Home, arguments: list[str], words: list[str]) -> None:
    rates_source(home, "http://127.0.0.1:9")

    assert_one_line_each(home.run(*arguments), *words)


def test_a_lake_that_is_a_file_is_named(home: Home) -> None:
    rates_source(home, "http://127.0.0.1:9")
    (home.root / "file").touch()

    assert_one_line_each(home.run("status", "--lake", str(home.root / "file")), str(home.root / "file"))


def test_a_broken_declaration_named_on_the_command_line_gives_a_line_for_each_fault(home: Home) -> None:
    home.write("bad", source_yaml="name: bad\nspidr: spider:X\nschedule: never\n", spider_py="")

    result = home.run("try", "bad")

    assert result.returncode == 2
    assert f"{home.sources / 'bad' / 'source.yaml'}:2: spidr: unknown field. Did you mean `spider`?" in result.stderr
    assert f"{home.sources / 'bad' / 'source.yaml'}:3: schedule:" in result.stderr
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())


def test_several_segments_ask_for_one_of_them(home: Home) -> None:
    folder = rates_source(home, "http://127.0.0.1:9")
    text = (folder / "source.yaml").read_text()
    (folder / "source.yaml").write_text(
        text.replace("{period: daily, start: 2026-01-01}", "{segments: [at, de]}").replace("{period}", "{segment}")
    )

    assert_one_line_each(home.run("crawl", "rates"), "at, de", "--partition", "--all-segments")


# -- new --------------------------------------------------------------------------------------------------------------


def pytest_of(folder: Path, cwd: Path) -> Result:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_a_new_source_runs_as_it_is(home: Home, site: str) -> None:
    made = home.run("new", "corner_shop", f"{site}/{{period}}/")
    assert made.returncode == 0, made.stderr
    folder = home.sources / "corner_shop"
    declaration = (folder / "source.yaml").read_text()
    assert f"start: {TODAY}" in declaration
    assert "allow_private: true" in declaration
    assert "Thistle" in (folder / "fixtures" / "page.html").read_text()
    assert made.stdout.index("gossamer try corner_shop") < made.stdout.index(f"pytest {folder}")
    assert "make setup-dev" in made.stdout

    tried = home.json("try", "corner_shop", "--pages", "4")
    assert {record["url"] for record in tried["records"]} >= {f"{site}/{TODAY}/"}
    assert {field["name"]: field["filled"] for field in tried["fields"]}["title"] == 1
    assert tried["stopped_by_page_limit"] is True
    assert home.json("check")["ok"] is True


def test_a_new_source_without_its_page_has_a_sample_and_says_so(home: Home) -> None:
    made = home.run("new", "far_away", "http://127.0.0.1:9/shop?a=1&b='2'#x")

    assert made.returncode == 0
    assert "could not be saved" in made.stderr
    assert "Sample page" in (home.sources / "far_away" / "fixtures" / "page.html").read_text()
    [listed] = home.json("ls")
    assert listed["name"] == "far_away"


@pytest.mark.slow
def test_a_site_that_trickles_its_answer_is_not_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaffold, "FETCH_SECONDS", 1.0)

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the reader leaves
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for number in range(200):
                connection.sendall(b"X-%d: 1\r\n" % number)
                time.sleep(0.2)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=trickle, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        made = scaffold.scaffold(home.sources, "slow", url, TODAY)

    assert made.why_sample == "it took longer than 1 s"


def test_new_sources_are_tested_together_and_alone_from_any_folder(home: Home) -> None:
    for name in ("one", "two"):
        assert home.run("--sources", str(home.sources), "new", name, "http://127.0.0.1:9/").returncode == 0

    for folder, cwd, words in ((home.sources, home.root, "2 passed"), (home.sources / "two", PROJECT, "1 passed")):
        tested = pytest_of(folder, cwd)
        assert words in tested.stdout, tested.stdout


@pytest.mark.slow
def test_a_new_source_s_test_holds_while_its_spider_finds_anything_and_fails_when_it_does_not(home: Home) -> None:
    home.run("new", "mine", "http://127.0.0.1:9/")
    folder = home.sources / "mine"
    follow = "yield from response.follow_all(css='body a', callback=self.parse_item)"
    only_links = (
        "import scrapy\n\nclass MineSpider(scrapy.Spider):\n    name = 'mine'\n"
        f"    def parse(self, response):\n        assert self.period\n        {follow}\n"
        "    def parse_item(self, response):\n        yield {'url': response.url}\n"
    )
    (folder / "spider.py").write_text(only_links)
    assert "1 passed" in pytest_of(folder, folder).stdout

    (folder / "spider.py").write_text(only_links.replace("body a", "no such"))
    tested = pytest_of(folder, folder)
    assert "parse finds neither a record nor a link on fixtures/page.html" in tested.stdout, tested.stdout


def test_a_new_source_tells_editors_of_the_schema_without_a_place_that_holds_here_only(home: Home) -> None:
    outside, inside = home.root / "sources", PROJECT / ".gossamer" / f"test-{os.getpid()}"
    try:
        for sources in (outside, inside):
            made = home.run("new", "mine", "http://127.0.0.1:9/", "--sources", str(sources))
            assert made.returncode == 0, made.stderr
        first = {
            sources: (sources / "mine" / "source.yaml").read_text().splitlines()[0] for sources in (outside, inside)
        }
    finally:
        shutil.rmtree(inside, ignore_errors=True)

    assert first[inside].removeprefix("# yaml-language-server: $schema=") == "../../../docs/source.schema.json"
    assert "docs/source.schema.json" in first[outside]
    assert str(PROJECT) not in first[outside]


def test_a_new_source_of_a_public_site_may_not_reach_private_addresses(home: Home) -> None:
    home.run("new", "public", "http://gossamer.invalid/")

    assert "allow_private" not in (home.sources / "public" / "source.yaml").read_text()


def test_a_folder_that_exists_is_left_as_it_is(home: Home, site: str) -> None:
    home.write("mine", notes_txt="keep me")

    assert home.run("new", "mine", site).returncode == 2
    assert [path.name for path in home.sources.rglob("*")] == ["mine", "notes.txt"]


# -- check ------------------------------------------------------------------------------------------------------------

SPIDER = "import scrapy\n\nclass Good(scrapy.Spider):\n    name = 'good'\n"
DECLARED = (
    "name: {name}\nspider: spider:Good\nseeds: {{urls: ['https://example.com/']}}\n"
    "record: {{key: [url], fields: {{url: url}}}}\n"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"spider_py": "import nonsense_module\n"}, ["nonsense_module", "spider.py:1"]),
        ({"spider_py": "def broken(:\n"}, ["SyntaxError", "spider.py:1"]),
        ({"spider_py": "import scrapy\n"}, ["no class Good"]),
        ({"spider_py": "class Good:\n    pass\n"}, ["scrapy.Spider. Derive"]),
        ({"spider_py": "import os\nos._exit(3)\n"}, ["exit code 3"]),
        ({"spider_py": "import sys\nsys.exit()\n"}, ["SystemExit"]),
        ({"spider_py": SPIDER, "transform_py": "def clean(frame):\n    return frame\n"}, ["clean(frame)", "context"]),
        ({"spider_py": SPIDER, "transform_py": "def tidy(frame, context):\n    return frame\n"}, ["neither clean"]),
        ({"spider_py": SPIDER, "transform_py": "1 / 0\n"}, ["transform.py:1", "ZeroDivisionError"]),
        (
            {"spider_py": SPIDER, "expectations_json": '{"expectations": [{"type": "expect_nothing"}]}'},
            ["expect_nothing"],
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[0],
)
def test_check_names_what_is_broken_and_judges_the_others_all_the_same(
    home: Home, files: dict[str, str], words: list[str]
) -> None:
    home.write("a_broken", source_yaml=DECLARED.format(name="a_broken"), **files)
    home.write("b_good", source_yaml=DECLARED.format(name="b_good"), spider_py=SPIDER)

    found = home.json("check", code=1)

    broken, good = found["sources"]
    assert good == {"name": "b_good", "ok": True, "problems": []}
    assert len(broken["problems"]) == 1
    for word in words:
        assert word in broken["problems"][0]


def test_check_keeps_modules_of_one_source_from_the_next(home: Home) -> None:
    for name, word in (("one", "ONE"), ("two", "TWO")):
        spider = f"from helper import {word}\n{SPIDER}"
        home.write(name, source_yaml=DECLARED.format(name=name), spider_py=spider, helper_py=f"{word} = 1\n")

    assert home.json("check")["ok"] is True


def test_check_names_what_is_wrong_with_how_crawls_run_on_a_cluster(home: Home) -> None:
    rates_source(home, "http://127.0.0.1:9")
    file = home.root / "cluster.yaml"
    file.write_text("namespace: crawls\nimage: Bad Image\nmemry: 1Gi\n")
    places = {"GOSSAMER_LAUNCHER": "kubernetes", "GOSSAMER_KUBERNETES": str(file)}

    checked = home.run("check", **places)
    assert checked.returncode == 1
    assert f"{file}: image: 'Bad Image' is not an image's name" in checked.stdout
    assert f"{file}: memry: unknown field" in checked.stdout

    file.write_text("namespace: crawls\nimage: gossamer:1\nkubernetes: {pod_spec_config: {nodeselector: {}}}\n")
    assert "nodeselector" in home.run("check", **places).stdout
    file.write_text("namespace: crawls\nimage: gossamer:1\n")
    assert home.run("check", **places).returncode == 0


def test_check_tells_how_to_have_mongodb(home: Home) -> None:
    assert "GOSSAMER_MONGO_URI" in home.run("check").stdout
    assert "GOSSAMER_MONGO_URI" not in home.run("check", GOSSAMER_MONGO_URI="mongodb://127.0.0.1/x").stdout


@pytest.mark.slow
def test_check_names_a_broken_mart_in_dbt_s_words(home: Home) -> None:
    home.write("b_good", source_yaml=DECLARED.format(name="b_good"), spider_py=SPIDER)
    project = home.root / "marts"
    shutil.copytree(PROJECT / "dbt_project", project, ignore=shutil.ignore_patterns("target"))
    (project / "models" / "broken.sql").write_text("select * from {{ ref('nothing_of_that_name') }}")

    for place, words in ((project, "nothing_of_that_name"), (home.root / "nowhere", "Mend GOSSAMER_DBT_PROJECT")):
        result = home.run("check", GOSSAMER_DBT_PROJECT=str(place))
        assert result.returncode == 1, result.stdout
        assert "1 source: all sound" in result.stdout
        assert "✗ marts: " in result.stdout
        assert words in result.stdout


# -- query ------------------------------------------------------------------------------------------------------------


def test_a_query_of_a_broken_source_shows_what_it_published_and_points_to_check(home: Home) -> None:
    source = declare(home.sources, "shop")
    declare(home.sources, "never")
    finish_and_publish(Lake(str(home.root / "lake")), source, DAY, products([product("a")]))
    for name in ("shop", "never"):
        (home.sources / name / "source.yaml").write_text("name: [")

    told = home.run("query", "select sku from shop", "--csv")
    unpublished = home.run("query", "select * from never")

    assert told.stdout == "sku\na\n"
    assert "2 sources broken: never, shop (see: gossamer check)" in told.stderr
    assert unpublished.returncode == 2
    assert "error: Nothing of `never` is published, and its source is broken. See why: gossamer check" in (
        unpublished.stderr
    )


def test_requests_that_failed_can_be_asked_for_in_sql(home: Home) -> None:
    rates_source(home, "http://127.0.0.1:9")
    sql = "select source, partition_key, reason, count(*) as n from Dead_Letters group by all"
    assert home.json("query", sql) == []
    with stage(
        pl.DataFrame({"url": ["http://a/", "http://b/"], "reason": ["gone", "gone"], "status": [404, 410]})
    ) as letters:
        Lake(str(home.root / "lake")).commit("dead_letters", "rates", DAY, letters)

    assert home.json("query", sql) == [{"source": "rates", "partition_key": DAY, "reason": "gone", "n": 2}]


def test_columns_of_one_name_are_refused_where_json_would_lose_one(home: Home) -> None:
    sql = "select 1 as a, 2 as b, 3 as a"
    assert_one_line_each(home.run("query", sql, "--json"), "named `a`", "AS")
    assert home.run("query", sql, "--csv").stdout == "a,b,a\n1,2,3\n"


def test_nested_values_are_json_in_csv(home: Home) -> None:
    sql = (
        "select [1.50::decimal(4, 2), null] as l, {'day': date '2026-03-02', 'ok': true, 'name': 'Ü'} as s, false as f"
    )
    _, row = csv.reader(home.run("query", sql, "--csv").stdout.splitlines())
    assert row == ["[1.5, null]", '{"day": "2026-03-02", "ok": true, "name": "Ü"}', "false"]


# -- crawl, and what is seen afterwards -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_crawl_ends_with_the_published_partition(crawled: tuple[Home, Result]) -> None:
    _, result = crawled

    assert result.returncode == 0, result.stdout + result.stderr
    for words in (f"rates {DAY} published", "books_closed", "expectations_critical", "report", "gossamer query"):
        assert words in result.stdout


@pytest.mark.slow
def test_a_query_gives_what_the_site_said(crawled: tuple[Home, Result]) -> None:
    home, _ = crawled
    truth = {currency: float(rate) for currency, rate in shop.rates(dt.date.fromisoformat(DAY)).items()}

    rows = home.json("query", "select currency, rate from rates")
    lines = home.run("query", "select currency, rate from rates", "--csv", "--limit", "3").stdout.splitlines()

    assert {row["currency"]: row["rate"] for row in rows} == truth
    assert len(lines) == 4
    assert all(float(rate) == truth[currency] for currency, rate in list(csv.reader(lines))[1:])


@pytest.mark.slow
def test_ls_and_status_tell_of_the_publication(crawled: tuple[Home, Result]) -> None:
    home, _ = crawled

    [listed] = home.json("ls")
    [state] = home.json("status", "rates")

    assert (listed["name"], listed["last_published"]["partition"]) == ("rates", DAY)
    assert listed["last_published"]["rows"] == state["published"]["rows"] == state["rows"]["clean"]
    assert state["published"]["is_newest_data"] is True
    assert state["crawl"]["state"] == "complete"
    assert {check["name"] for check in state["checks"]} >= {"books_closed", "expectations_critical"}
    assert DAY in home.run("status").stdout
    assert DAY in home.run("ls").stdout


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(crawled: tuple[Home, Result]) -> None:
    home, _ = crawled
    sql = "select * from range(1000000)"
    command = [sys.executable, "-m", "gossamer", "query", sql, "--csv"]
    with subprocess.Popen(
        command, env=home.environ, cwd=home.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "range\n"
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_what_the_web_wrote_cannot_steer_the_terminal(crawled: tuple[Home, Result]) -> None:
    home, _ = crawled

    shown = home.run("query", "select chr(27) || '[2J' || '[red]' as hostile").stdout

    assert "\x1b" not in shown
    assert "[red]" in shown


@pytest.mark.slow
def test_a_try_of_a_chained_source_takes_its_seeds_from_the_lake(crawled: tuple[Home, Result], site: str) -> None:
    home, _ = crawled
    folder = rates_source(home, site, "chained")
    try:
        text = (folder / "source.yaml").read_text()
        seeds = f"{{from: {{source: rates, select: \"select distinct '{site}/{DAY}/rates' as url from rows\"}}}}"
        lines = [f"seeds: {seeds}" if line.startswith("seeds:") else line for line in text.splitlines()]
        (folder / "source.yaml").write_text("\n".join(lines))

        tried = home.json("try", "chained")
    finally:
        shutil.rmtree(folder)

    assert tried["partition"] == DAY
    assert len(tried["records"]) == len(shop.rates(dt.date.fromisoformat(DAY)))


def test_a_try_of_a_spider_that_raises_names_its_line_and_asks_for_no_more_pages(home: Home, site: str) -> None:
    raising = SPIDER + "    def parse(self, response):\n        yield from response.follow_all(css='a')\n"
    declared = DECLARED.format(name="good").replace("https://example.com/", f"{site}/{DAY}/")
    folder = home.write("good", source_yaml=declared + "fetch: {allow_private: true}\n", spider_py=raising)
    (folder / "spider.py").write_text(f"{raising}        raise KeyError('{'x' * 150}')\n")

    result = home.run("try", "good", "--pages", "2")

    assert result.returncode == 1
    assert f"parse_error: KeyError: '{'x' * 150}' (spider.py:7), at {site}/" in result.stdout
    assert "spider's own code raised" in result.stdout
    assert "--pages" not in result.stdout


@pytest.mark.slow
def test_a_try_leaves_the_lake_alone(home: Home, site: str) -> None:
    rates_source(home, site)

    result = home.run("try", "rates", "--partition", DAY)

    assert result.returncode == 0, result.stderr
    assert "currency" in result.stdout
    assert home.run("status").stdout.startswith("Nothing is in ")


@pytest.mark.slow
def test_a_failed_check_ends_a_crawl_with_its_words_until_a_person_accepts_it_or_the_suite_is_mended(
    home: Home, site: str
) -> None:
    folder = rates_source(home, site)
    too_many = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}, "severity": "critical"}
    (folder / "expectations.json").write_text(json.dumps({"name": "rates", "expectations": [too_many]}))

    result = home.run("crawl", "rates", "--partition", DAY)

    assert result.returncode == 1
    assert f"rates {DAY} not published" in result.stdout
    assert "row count must be at least 1000" in result.stdout
    assert home.run("query", "select * from rates").returncode == 2

    refused = home.run("accept", "rates", DAY, "--reason", " ")
    assert refused.returncode == 2 and "--reason is empty" in refused.stderr
    accepted = home.run("accept", "rates", DAY, "--reason", "few banks are open")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert f"rates {DAY}: published" in accepted.stdout and "accepted: few banks are open" in accepted.stdout
    assert home.run("query", "select * from rates").returncode == 0

    again = home.run("recheck", "rates")
    assert again.returncode == 1, "what is made again is judged again"
    assert f"rates {DAY}: NOT published" in again.stdout and "row count must be at least 1000" in again.stdout
    (folder / "expectations.json").write_text(json.dumps({"name": "rates", "expectations": []}))
    again = home.run("recheck", "rates", "--partition", DAY)
    assert again.returncode == 0, again.stdout + again.stderr
    [status] = home.json("status", "rates")
    assert status["crawl"]["crawl_id"] == f"rates/{DAY}/1", "it was crawled once"


@pytest.mark.slow
def test_layers_of_older_rows_are_made_again_and_looked_at_before_they_are_accepted(home: Home, site: str) -> None:
    folder = rates_source(home, site)
    too_many = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}, "severity": "critical"}
    (folder / "expectations.json").write_text(json.dumps({"name": "rates", "expectations": [too_many]}))
    assert home.run("crawl", "rates", "--partition", DAY).returncode == 1
    lake = Lake(home.environ["GOSSAMER_LAKE"])
    before = lake.current("raw", "rates", DAY)
    with stage(lake.scan("raw", "rates", DAY)) as staged:  # crawled again, and its run was lost
        lake.commit("raw", "rates", DAY, staged, checks=before.checks, crawl_id=before.crawl_id, notes=before.notes)

    unseen = home.run("accept", "rates", DAY, "--reason", "few banks are open")
    assert unseen.returncode == 1 and f"rates {DAY}: NOT published" in unseen.stdout
    assert "to be accepted" not in unseen.stderr and "of older rows, so made again first: clean; " in unseen.stderr
    assert "fails in a way that nobody has seen yet: expectations_critical: row count must be" in unseen.stderr
    accepted = home.run("accept", "rates", DAY, "--reason", "few banks are open")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert "to be accepted: clean: expectations_critical: 1 of " in accepted.stderr


def test_what_cannot_be_checked_again_is_told(home: Home, site: str) -> None:
    rates_source(home, site)
    assert "Nothing of rates was crawled yet" in home.run("recheck", "rates").stderr
    wrong = home.run("accept", "rates", "yesterday", "--reason", "known")
    assert wrong.returncode == 2 and "yesterday" in wrong.stderr


SLOW = (
    "import scrapy\n\nclass Slow(scrapy.Spider):\n    name = 'slow'\n"
    "    custom_settings = {'DOWNLOAD_DELAY': 0.5}\n"
    "    def parse(self, response):\n        yield {'url': response.url}\n"
    "        yield from response.follow_all(css='a', callback=self.parse)\n"
)


def slow_source(home: Home, site: str) -> None:
    declared = DECLARED.format(name="slow").replace("Good", "Slow").replace("https://example.com/", f"{site}/{DAY}/")
    more = "fetch: {allow_private: true}\npoliteness: {requests_per_second: 2}\n"
    home.write("slow", source_yaml=declared + more, spider_py=SLOW)


def processes_of(home: Home) -> list[tuple[int, str]]:
    """Every process that works for this home, by what it was given."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environ, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(home.root).encode() in environ and command:
            found.append((int(entry.name), command.replace(b"\0", b" ").decode()))
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return value


def running_crawl(home: Home, command: str = "crawl") -> subprocess.Popen[str]:
    """`gossamer crawl slow`, once pages come in."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gossamer", command, "slow"],
        env=home.environ,
        cwd=home.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: is_running(home) or process.poll() is not None)
    return process


def standing(home: Home) -> Standing:
    """What `status` shows, for waiting: the command itself takes a second of a core."""
    return life.standing(Lake(str(home.root / "lake")), "slow", str(TODAY))


def is_running(home: Home) -> bool:
    now = standing(home)
    return now.state is CrawlState.RUNNING and now.progress is not None and now.progress.state == "running"


def crawl_state(home: Home) -> str:
    return str(home.json("status", "slow")[0]["crawl"]["state"])


def crawl_process(home: Home) -> int:
    return next(pid for pid, command in processes_of(home) if "-m gossamer.crawl" in command)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_pauses_its_crawl_and_leaves_no_process_behind(
    home: Home, site: str, number: signal.Signals
) -> None:
    slow_source(home, site)
    process = running_crawl(home)

    process.send_signal(number)
    _, errors = process.communicate(timeout=90)

    assert process.returncode == 130
    *_, told, last = errors.strip().splitlines()
    assert "is paused. It goes on with: gossamer resume slow" in told
    assert last == "ended early"
    assert crawl_state(home) == "paused"
    wait_for(lambda: not processes_of(home))


@pytest.mark.slow
def test_a_crawl_goes_on_when_its_process_is_killed_and_is_paused_and_stopped_by_commands(
    home: Home, site: str
) -> None:
    slow_source(home, site)
    process = running_crawl(home)
    os.kill(crawl_process(home), signal.SIGKILL)
    wait_for(lambda: standing(home).launch == 2 and is_running(home))
    assert crawl_state(home) == "running"
    # What the second process says first is that it starts.
    wait_for(lambda: re.search(r"requests .*fetched \d+", home.run("status", "slow").stdout) is not None)
    seen = home.run("status", "slow").stdout
    assert re.search(r"hosts .*127.0.0.1: ", seen) and "pages/s" in seen

    paused = home.run("pause", "slow", "--why", "the shop has a sale")
    output, _ = process.communicate(timeout=90)

    assert (paused.returncode, process.returncode) == (0, 1)
    assert "/1 is paused. It goes on with: gossamer resume slow" in paused.stdout
    assert re.search(r"paused by .* \(the shop has a sale\)\. It goes on with: gossamer resume", output)
    assert crawl_state(home) == "paused"
    assert "the shop has a sale" in home.run("status", "slow").stdout
    again = home.run("pause", "slow", "--partition", str(TODAY))
    assert again.returncode == 1 and "is paused already" in again.stderr

    stopped = home.run("stop", "slow")
    assert (stopped.returncode, crawl_state(home)) == (0, "stopped")
    assert "is stopped; its books are closed" in stopped.stdout
    assert home.json("status", "slow")[0]["rows"]["incomplete"] >= 1
    over = home.run("resume", "slow", "--partition", str(TODAY))
    assert over.returncode == 1 and "there is nothing to resume" in over.stderr
    wait_for(lambda: not processes_of(home))


@pytest.mark.slow
def test_status_knows_at_once_that_a_machine_s_processes_are_gone_and_resume_goes_on(home: Home, site: str) -> None:
    slow_source(home, site)
    lost = running_crawl(home)
    for pid in sorted(pid for pid, _ in processes_of(home)):  # the crawl's own last: it would see its parent go
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    lost.communicate(timeout=90)

    assert crawl_state(home) == "interrupted"
    assert "gossamer resume slow" in home.run("status", "slow").stdout
    process = running_crawl(home, "resume")
    assert home.json("status", "slow")[0]["crawl"]["crawl_id"].endswith("/1")
    process.terminate()
    process.communicate(timeout=90)
    assert crawl_state(home) == "paused"


# -- status of what is under way or half done -------------------------------------------------------------------------


def commit(home: Home, layer: str, rows: int, inputs: dict[str, str] | None = None, crawl: int = 0) -> str:
    """A partition of `rates` as one layer has it, with the number of its crawl; gives its version."""
    lake, notes = Lake(str(home.root / "lake")), {"books": {"generation": crawl}}
    with stage(pl.DataFrame({"n": range(rows)})) as staged:
        return lake.commit(layer, "rates", DAY, staged, inputs=inputs, notes=notes).version


def test_status_marks_what_an_older_crawl_left(home: Home) -> None:
    rates_source(home, "http://127.0.0.1:9")
    cleaned = commit(home, "clean", 33, {"raw/rates": commit(home, "raw", 33, crawl=1)})
    commit(home, "enriched", 33, {"clean/rates": cleaned})
    assert home.json("status", "rates")[0]["stale"] == []

    commit(home, "clean", 4, {"raw/rates": commit(home, "raw", 4, crawl=2)})

    assert home.json("status", "rates")[0]["stale"] == ["enriched"]
    assert "33 (old)" in home.run("status").stdout
    assert "4 (old)" not in home.run("status").stdout

    commit(home, "incomplete", 2, crawl=3)

    assert set(home.json("status", "rates")[0]["stale"]) == {"raw", "clean", "enriched"}
    assert "4 (old)" in home.run("status").stdout


def test_status_says_when_a_running_crawl_was_last_heard_of(home: Home) -> None:
    rates_source(home, "http://127.0.0.1:9")
    lake, crawl = Lake(str(home.root / "lake")), Crawl("rates", DAY, 1)
    identity.begin(lake, crawl, "")
    launch = identity.claim_launch(lake, crawl, {})

    def seen_after(seconds: float) -> str:
        said = Progress(generation=1, launch=launch, pages=5, told_at=time.time() - seconds)
        lake.put(progress_path("rates", DAY), said.model_dump_json().encode())
        return home.run("status").stdout

    assert re.search(r"running: 5 pages, 0.0/s +", seen_after(0))
    assert "(last sign of life 1" in seen_after(12)
    assert "interrupted, 1 min ago" in seen_after(60)


def test_a_crawl_that_was_stopped_is_not_resumed_and_who_closes_its_books_is_told(home: Home) -> None:
    rates_source(home, "http://127.0.0.1:9")
    lake, crawl = Lake(str(home.root / "lake")), Crawl("rates", DAY, 1)
    identity.begin(lake, crawl, "")
    launch = identity.claim_launch(lake, crawl, {})
    said = Progress(generation=1, launch=launch, told_at=time.time() - 60, state="interrupted")
    lake.put(progress_path("rates", DAY), said.model_dump_json().encode())
    identity.ask(lake, crawl, identity.Wish.STOP, by="ann", why="enough")
    how = f"gossamer stop rates --partition '{DAY}'"

    assert f"stopped by ann (enough), but its process went before that. Its books are closed by: {how}" in (
        home.run("status", "rates").stdout
    )
    resumed = home.run("resume", "rates")
    assert resumed.returncode == 1 and "stopped for good" in resumed.stderr and how in resumed.stderr


def test_runs_of_two_commands_on_one_partition_have_logs_of_their_own(tmp_path: Path) -> None:
    """What a command does at Ctrl-C depends on what its own run said: another's would have it stop the crawl."""
    path = tmp_path / "2026-03-02.log"
    with crawling.own_log(path) as first:
        first.write(b"STEP_START")
        first.flush()
        with crawling.own_log(path) as second:
            assert (first.name, second.name) == (str(path), str(tmp_path / "2026-03-02.2.log"))
        assert path.read_bytes() == b"STEP_START"
    with crawling.own_log(path) as third:
        assert (third.name, path.read_bytes()) == (str(path), b"")


# -- serve, and MongoDB -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_platform_that_is_stopped_ends_well_and_leaves_no_process_behind(home: Home, number: signal.Signals) -> None:
    rates_source(home, "http://127.0.0.1:9")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "gossamer", "serve", "--port", port]
    with subprocess.Popen(command, env=home.environ, cwd=home.root, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert next(line for line in process.stderr if "UI: http" in line)
        process.send_signal(number)
        assert process.stderr.read().strip() == "stopped"

    assert process.returncode == 0
    wait_for(lambda: not processes_of(home))


@pytest.mark.slow
@pytest.mark.service
def test_a_crawl_ends_in_mongodb_where_that_is_configured(
    home: Home, site: str, mongo: services.Mongo, tmp_path: Path
) -> None:
    rates_source(home, site)
    uri = f"{mongo.uri}/{mongo.database}_cli"

    result = home.run("crawl", "rates", "--partition", DAY, GOSSAMER_MONGO_URI=uri)

    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        documents = database["rates"].count_documents({})
        client.drop_database(database.name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert documents == len(shop.rates(dt.date.fromisoformat(DAY)))
    assert "collection rates" in result.stdout
    assert uri not in result.stdout


@pytest.mark.slow
def test_a_crawl_whose_mongodb_is_away_says_so_and_that_the_table_is_published(home: Home, site: str) -> None:
    rates_source(home, site)

    result = home.run("crawl", "rates", "--partition", DAY, GOSSAMER_MONGO_URI="mongodb://127.0.0.1:9/x")

    assert result.returncode == 1
    assert f"rates {DAY} published" in result.stdout
    assert "cause" in result.stdout
    assert "MongoDB" in result.stdout
