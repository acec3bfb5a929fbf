"""From crawled to clean and enriched rows with all that is judged on the way, without Dagster and without a site."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gossamer import acceptance, declarations, layers, reporting
from gossamer.errors import LakeError, PublicationRefusedError
from gossamer.lake import Lake, stage
from gossamer.layers import Refined
from gossamer.manifest import CheckResult, Manifest
from gossamer.publish.tables import publish
from gossamer.quality import history
from gossamer.source import Source
from tests.publications import declare, failed, passed

ROOT = Path(__file__).parents[1]
DAYS = [f"2026-11-{day:02}" for day in range(2, 14)]
CHEAP = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "stock", "min_value": 0, "mostly": 0.9}}
UNIQUE = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "sku"}}
NAMED = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "name"}, "severity": "warning"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def shop(tmp_path: Path) -> Source:
    return suite(declare(tmp_path / "sources", fields="{sku: str, name: str, stock: int}"), CHEAP, UNIQUE, NAMED)


def suite(source: Source, *expectations: Mapping[str, Any]) -> Source:
    text = json.dumps({"name": "shop", "expectations": expectations})
    (source.folder / "expectations.json").write_text(text)
    return declarations.read(source.folder / "source.yaml")


def row(number: int, stock: object = 5, name: str | None = "A name", **more: Any) -> dict[str, Any]:
    return {"sku": f"p{number}", "name": name, "stock": str(stock), **more}


def crawl(lake: Lake, source: Source, key: str, rows: Sequence[Mapping[str, Any]], *checks: CheckResult) -> Manifest:
    """Commits raw rows, as a crawl that asked a page for each of them."""
    day = datetime.fromisoformat(key[:10]).replace(hour=5, tzinfo=UTC)
    known = {
        "extra": None,
        "_fetched_at": day,
        "_page_hash": "0",
        "_crawl_id": f"{source.name}/{key}/1",
        "_spider_version": "1",
        "_seed_row": None,
    }
    urls = [f"http://shop.example/{row['sku']}" for row in rows]
    types: dict[str, Any] = dict.fromkeys(["sku", "name", "stock", *known, "_url"], pl.String)
    frame = pl.DataFrame(
        [{**known, **row, "_url": url} for row, url in zip(rows, urls, strict=True)],
        schema=types | {"_fetched_at": pl.Datetime("us", "UTC")},
    )
    books = {"generation": 1, "requests": {"discovered": len(rows), "fetched": len(rows), "dead": {}}}
    with stage(frame) as staged:
        return lake.commit(
            "raw",
            source.name,
            key,
            staged,
            checks=checks or [passed("books_closed")],
            crawl_id=f"{source.name}/{key}/1",
            notes={"books": books},
        )


@contextmanager
def cleaned(lake: Lake, source: Source, key: str) -> Iterator[Refined]:
    with layers.clean(lake, source, key, lake.scan("raw", source.name, key)) as refined:
        yield refined


def make(lake: Lake, source: Source, key: str) -> dict[str, CheckResult]:
    """Clean and enriched of a partition; the checks of both by name."""
    with cleaned(lake, source, key) as refined:
        layers.commit(lake, source, key, refined)
        found = list(refined.checks)
    with layers.enrich(lake, source, key, lake.scan("clean", source.name, key)) as refined:
        layers.commit(lake, source, key, refined)
        found += refined.checks
    return {check.name: check for check in found}


def published(lake: Lake, source: Source, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    crawl(lake, source, key, rows)
    make(lake, source, key)
    layers.remember(lake, source, key, publish(lake, source, key))


def many(lake: Lake, source: Source, days: Sequence[str] = DAYS, rows: int = 60) -> None:
    for number, day in enumerate(days):
        published(lake, source, day, [row(n, stock=n % 7) for n in range(rows + number % 3)])


def test_a_row_that_fails_a_critical_expectation_is_set_aside_and_the_ledger_closes(lake: Lake, shop: Source) -> None:
    rows = [row(n) for n in range(40)] + [row(40, stock=-1), row(3), row(41, name=None)]
    crawl(lake, shop, DAYS[0], rows)
    with cleaned(lake, suite(shop, CHEAP, NAMED), DAYS[0]) as refined:
        aside = refined.aside.frame.collect()
        kept = refined.staged.frame.collect()
        notes = refined.notes
        checks = {check.name: check for check in refined.checks}
    assert aside.select("sku", "_url").rows() == [("p40", "http://shop.example/p40")]
    assert aside["_reason"].to_list() == ["stock must be at least 0 in 90 % of rows: -1"]
    assert kept["sku"].to_list() == [f"p{n}" for n in [*range(40), 41]]
    ledger = notes["records"]
    assert (ledger["crawled"], ledger["clean"], ledger["quarantined"], ledger["duplicates"]) == (43, 41, 1, 1)
    assert notes["quarantine"] == {"rows": 1, "by": {"stock must be at least 0 in 90 % of rows": 1}}
    assert checks["expectations_critical"].passed, "mostly allows it"
    assert not checks["expectations_warning"].passed, "a warning sets nothing aside"
    assert checks["rows_kept"].summary == "41 of 43 crawled rows kept (1 duplicates, 1 in quarantine)"


def test_rows_that_were_left_in_for_an_acceptance_need_one(lake: Lake, shop: Source) -> None:
    crawl(lake, shop, DAYS[0], [row(n, stock=n - 1) for n in range(40)])
    rows = lake.scan("raw", "shop", DAYS[0])
    with layers.clean(lake, shop, DAYS[0], rows, keep_failing=True) as refined:
        (check,) = (check for check in refined.checks if check.name == "expectations_critical")
        assert (refined.staged.rows, refined.aside.rows) == (40, 0)
    assert not check.passed and check.summary.startswith("1 rows that fail critical expectations were left in")


def test_a_key_that_is_not_unique_is_seen_before_duplicates_go(lake: Lake, shop: Source) -> None:
    crawl(lake, shop, DAYS[0], [row(1), row(1), row(2)])
    with cleaned(lake, shop, DAYS[0]) as refined:
        (check,) = (check for check in refined.checks if check.name == "expectations_critical")
        assert refined.staged.rows == 2 and refined.aside.rows == 0, "they are duplicates, not bad rows"
    assert "sku must be unique: 2 of 3 rows" in check.summary


def test_too_many_bad_rows_fail_the_partition(lake: Lake, shop: Source) -> None:
    crawl(lake, shop, DAYS[0], [row(n, stock=-n) for n in range(1, 30)])
    with cleaned(lake, shop, DAYS[0]) as refined:
        checks = {check.name: check for check in refined.checks}
    assert not checks["expectations_critical"].passed and not checks["rows_kept"].passed
    assert checks["expectations_critical"].details["failed"][0]["sample"][0]["url"] == "http://shop.example/p1"


def test_without_history_nothing_is_guessed(lake: Lake, shop: Source) -> None:
    crawl(lake, shop, DAYS[0], [row(n) for n in range(9)])
    checks = make(lake, shop, DAYS[0])
    assert checks["volume"].passed and "no history yet" in checks["volume"].summary
    assert all(check.passed for check in checks.values())


def test_most_rows_missing_blocks_with_numbers_trend_and_a_cause(lake: Lake, shop: Source) -> None:
    many(lake, shop)
    crawl(lake, shop, "2026-11-14", [row(n, stock=n % 7) for n in range(12)])
    volume = make(lake, shop, "2026-11-14")["volume"]
    assert not volume.passed and volume.blocking
    assert volume.details["rows"] == 12 and volume.details["low"] > 12 and volume.details["since"] == DAYS[-1]
    assert volume.details["trend"][-1] == [DAYS[-1], 62]
    assert volume.details["cause"]["kind"] == "site shrank"
    manifest = lake.current("clean", "shop", "2026-11-14")
    assert manifest.notes["cause"]["kind"] == "site shrank"
    page = lake.get(reporting.write(lake, shop, "2026-11-14").partition)
    assert page and b"site shrank" in page


def test_a_field_that_empties_blocks_with_pages_that_show_it(lake: Lake, shop: Source) -> None:
    many(lake, shop)
    crawl(lake, shop, "2026-11-14", [row(n, stock=n % 7, name=None) for n in range(60)])
    check = make(lake, shop, "2026-11-14")["expectations_critical"]
    assert not check.passed
    (failure,) = (f for f in check.details["failed"] if f["expectation"] == "default: fill_rate")
    assert failure["column"] == "name" and failure["since"] == DAYS[-1]
    assert failure["sample"][0]["url"].startswith("http://shop.example/p")


def test_an_accepted_partition_is_history_only_where_that_was_said(lake: Lake, shop: Source) -> None:
    for day, remembered in (("2026-11-02", False), ("2026-11-03", True)):
        crawl(lake, shop, day, [row(n, stock=-1) for n in range(9)])
        make(lake, shop, day)
        acceptance.accept(lake, "shop", day, reason="known", by="ann", in_history=remembered)
        layers.remember(lake, shop, day, publish(lake, shop, day))
    assert [known.partition for known in history.read(lake, shop, "2026-11-10")] == ["2026-11-03"]


def test_changes_are_told_against_the_partition_published_before(lake: Lake, shop: Source) -> None:
    published(lake, shop, DAYS[0], [row(1), row(2), row(3)])
    crawl(lake, shop, DAYS[1], [row(2), row(3, stock=9), row(4)])
    make(lake, shop, DAYS[1])
    notes = lake.current("enriched", "shop", DAYS[1]).notes["changes"]
    assert notes["previous"] == DAYS[0] and notes["columns"] == {"stock": 1}
    assert [notes[name] for name in ("new", "changed", "gone", "unchanged")] == [1, 1, 1, 1]
    rows = lake.scan("changes", "shop", DAYS[1]).select("sku", "change").collect()
    assert sorted(rows.rows()) == [("p1", "gone"), ("p3", "changed"), ("p4", "new")]


def test_a_first_partition_has_nothing_to_be_compared_with(lake: Lake, shop: Source) -> None:
    crawl(lake, shop, DAYS[0], [row(1)])
    make(lake, shop, DAYS[0])
    assert lake.current("enriched", "shop", DAYS[0]).notes["changes"] == {"previous": None}
    assert lake.scan("changes", "shop", DAYS[0]).collect().is_empty()


def transform(source: Source, code: str) -> Source:
    (source.folder / "transform.py").write_text(f"import polars as pl\n{code}")
    return declarations.read(source.folder / "source.yaml")


@pytest.mark.parametrize(
    ("code", "check", "words"),
    [
        ("return frame.filter(pl.lit(False))", "rows_kept", "0 of 2 clean rows"),
        ("return pl.concat([frame, frame])", "record_key", "2 rows have the key p1"),
        (
            "return frame.with_columns(sku=pl.when(sku='p1').then(pl.col('sku')))",
            "record_key",
            "1 of 2 records have no key (sku)",
        ),
        (
            "return pl.concat([frame, frame, frame.tail(1).with_columns(sku=pl.lit(None, pl.String))])",
            "record_key",
            "1 of 5 records have no key (sku); 2 rows have the key p1",
        ),
    ],
)
def test_what_enrich_loses_or_doubles_reaches_no_reader(
    lake: Lake, shop: Source, code: str, check: str, words: str
) -> None:
    source = transform(shop, f"def enrich(frame, upstream):\n    {code}\n")
    crawl(lake, source, DAYS[0], [row(1), row(2)])
    assert words in make(lake, source, DAYS[0])[check].summary
    with pytest.raises(PublicationRefusedError, match=check):
        publish(lake, source, DAYS[0])


@pytest.mark.parametrize(("size", "without"), [("pl.lit('s')", 0), ("pl.when(sku='p1').then(pl.lit('s'))", 1)])
def test_a_row_that_lacks_a_part_of_its_key_is_without(lake: Lake, tmp_path: Path, size: str, without: int) -> None:
    source = declare(tmp_path / "sources", key="[sku, size]", fields="{sku: str, size: str, name: str, stock: int}")
    source = transform(source, f"def enrich(frame, upstream):\n    return frame.with_columns(size={size})\n")
    crawl(lake, source, DAYS[0], [row(1), row(2)])
    check = make(lake, source, DAYS[0])["record_key"]
    assert check.passed == (not without)
    assert check.passed or check.summary == "1 of 2 records have no key (sku, size)"


def test_what_was_made_from_rows_that_were_replaced_since_is_not_committed(lake: Lake, shop: Source) -> None:
    crawl(lake, shop, DAYS[0], [row(1)])
    with cleaned(lake, shop, DAYS[0]) as refined:
        crawl(lake, shop, DAYS[0], [row(2)])
        with pytest.raises(LakeError, match="was replaced meanwhile"):
            layers.commit(lake, shop, DAYS[0], refined)
    assert lake.manifest("clean", "shop", DAYS[0]) is None and lake.manifest("quarantine", "shop", DAYS[0]) is None


def test_statistics_of_other_data_than_was_published_are_no_history(lake: Lake, shop: Source) -> None:
    crawl(lake, shop, DAYS[0], [row(1)])
    make(lake, shop, DAYS[0])
    published = publish(lake, shop, DAYS[0])
    make(lake, shop, DAYS[0])
    layers.remember(lake, shop, DAYS[0], published)
    assert history.read(lake, shop, DAYS[1]) == []


def test_a_suite_of_enriched_is_evaluated_there(lake: Lake, shop: Source) -> None:
    text = (shop.folder / "source.yaml").read_text()
    (shop.folder / "source.yaml").write_text(f"{text}checks: {{enriched: more.json}}\n")
    expectation = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "dear"}}
    (shop.folder / "more.json").write_text(json.dumps({"expectations": [expectation]}))
    (shop.folder / "transform.py").write_text(
        "import polars as pl\ndef enrich(frame, upstream):\n    return frame.with_columns(dear=pl.lit(None, pl.Int8))\n"
    )
    source = declarations.read(shop.folder / "source.yaml")
    crawl(lake, source, DAYS[0], [row(1)])
    checks = make(lake, source, DAYS[0])
    critical = checks["expectations_critical"]
    assert "dear must not be empty: 1 of 1 rows" in critical.summary
    text = json.dumps({"expectations": [expectation | {"kwargs": {"column": "dear", "mostly": 0.0}}]})
    (shop.folder / "more.json").write_text(text)
    critical = make(lake, source, DAYS[0])["expectations_critical"]
    assert not critical.passed, "nothing is set aside there, so such a row keeps the partition back"


def test_an_expectation_of_the_sources_own_is_found_beside_the_suite(lake: Lake, shop: Source) -> None:
    (shop.folder / "expectations.py").write_text(
        "from great_expectations.expectations.core import ExpectColumnValuesToBeBetween\n"
        "class ExpectStockOfAShop(ExpectColumnValuesToBeBetween):\n    column: str = 'stock'\n    max_value: int = 6\n"
    )
    source = suite(shop, {"type": "expect_stock_of_a_shop", "kwargs": {}})
    crawl(lake, source, DAYS[0], [row(1), row(2, stock=7)])
    with cleaned(lake, source, DAYS[0]) as refined:
        assert refined.aside.frame.collect()["sku"].to_list() == ["p2"]


TIMES = """
import sys
from pathlib import Path
from gossamer import declarations, layers
from gossamer.lake import Lake
lake, source = Lake(sys.argv[1]), declarations.read(Path(sys.argv[2]))
with layers.clean(lake, source, sys.argv[3], lake.scan("raw", source.name, sys.argv[3])) as refined:
    results = refined.validation["results"]
    passed = all(check.passed for check in refined.checks)
    print(passed, refined.aside.rows, "great_expectations" in sys.modules, len(results))
"""


def test_a_partition_that_passes_does_not_pay_for_great_expectations_again(lake: Lake, shop: Source) -> None:
    for below, day in zip((0, 1, 10), DAYS, strict=False):
        crawl(lake, shop, day, [row(n, stock=n - below) for n in range(40)])

    def run(day: str) -> str:
        command = [sys.executable, "-c", TIMES, lake.uri, str(shop.folder / "source.yaml"), day]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run(DAYS[0]) == "True 0 True 3", "the suite is new"
    assert run(DAYS[0]) == "True 0 False 3", "its proof is known"
    assert run(DAYS[1]) == "True 1 False 3", "a row goes to quarantine, and the partition passes"
    assert run(DAYS[2]) == "False 10 True 3", "it fails: only Great Expectations itself judges that"


def test_a_changed_helper_of_an_expectation_is_not_judged_by_an_old_proof(lake: Lake, shop: Source) -> None:
    (shop.folder / "expectations.py").write_text(
        "from great_expectations.expectations.core import ExpectColumnValuesToBeBetween\nimport helpers\n"
        "class ExpectStockToBeSane(ExpectColumnValuesToBeBetween):\n"
        "    column: str = 'stock'\n    max_value: int = helpers.HIGH\n"
    )
    source = suite(shop, {"type": "expect_stock_to_be_sane", "kwargs": {}})
    crawl(lake, source, DAYS[0], [row(1, stock=50)])
    for high, aside in ((100, 0), (10, 1)):
        (shop.folder / "helpers.py").write_text(f"HIGH = {high}\n")
        with cleaned(lake, source, DAYS[0]) as refined:
            assert refined.aside.rows == aside


def test_an_incomplete_crawl_has_a_report_with_its_cause(lake: Lake, shop: Source) -> None:
    manifest = crawl(lake, shop, DAYS[0], [row(1)])
    books = {
        "generation": 2,
        "requests": {"discovered": 90, "fetched": 1, "dead": {"blocked": 89}},
        "reasons": {"shop.example": {"blocked": 89}},
    }
    with stage(lake.scan("raw", "shop", DAYS[0])) as staged:
        lake.commit(
            "incomplete",
            "shop",
            DAYS[0],
            staged,
            checks=[failed("books_closed", "89 of 90 requests failed: blocked")],
            crawl_id=manifest.crawl_id.replace("/1", "/2"),
            notes={"books": books},
        )
    written = reporting.write(lake, shop, DAYS[0])
    page = lake.get(written.partition)
    assert page and b"89 of 90 requests failed" in page and b"blocked" in page
    index = lake.get(written.source)
    assert index and DAYS[0].encode() in index
