"""The page of a source: its partitions over time, for a person who wants to know since when something is wrong."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from gossamer.lake import Lake
from gossamer.manifest import CheckResult, Manifest
from gossamer.quality.source_report import SHOWN, PartitionSummary, record, render, summaries, summary
from gossamer.source import Source, SourceSpec
from tests import markup

HOSTILE = "\"'><script>alert(1)</script><img src=x>\u202e"


def shop(folder: Path, **partitions: Any) -> Source:
    spec = {
        "name": "shop",
        "spider": "spider:Shop",
        "partitions": partitions or {"period": "daily", "start": "2024-01-01"},
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": ["sku"], "fields": {"sku": "str", "price": "money"}},
    }
    return Source(SourceSpec.model_validate(spec), folder)


def days(count: int) -> list[str]:
    return [str(date(2024, 1, 1) + timedelta(days=number)) for number in range(count)]


def good(key: str, **known: Any) -> PartitionSummary:
    base = {"kind": "good", "title": "Fit to publish", "rows": 300, "pages": 320, "error_pages": 0.01}
    return PartitionSummary.model_validate({"key": key, "fill": {"sku": 1.0, "price": 0.98}, **base, **known})


def bad(key: str, **known: Any) -> PartitionSummary:
    failed = {"fill rate of price": 174}
    return good(key, **{"kind": "bad", "title": "Not fit to publish", "failed": failed, "rows": 150, **known})


def seen(page: str) -> str:
    return markup.read(page).text


def manifests() -> dict[str, Manifest]:
    base = {"source": "shop", "partition": "2024-01-02", "version": "1", "columns": {}}
    failed = [
        {"expectation": "default: fill_rate", "column": "price", "kwargs": {}, "unexpected": 174},
        {
            "expectation": "expect_column_values_to_be_between",
            "column": "price",
            "kwargs": {"column": "price", "min_value": 0, "max_value": 10},
            "unexpected": 3,
        },
    ]
    checks = [
        CheckResult(
            name="expectations_critical", passed=False, blocking=True, summary="2 failed", details={"failed": failed}
        ),
        CheckResult(name="volume", passed=False, blocking=False, summary="few rows"),
    ]
    books = {"requests": {"fetched": 300, "unchanged": 0, "dead": {"gone": 60, "timed_out": 40}}}
    notes = {
        "fill": {"sku": 1.0, "price": 0.42, "_url": 1.0},
        "quarantine": {"rows": 3, "by": {}},
        "cause": {"kind": "layout changed", "words": "...", "evidence": []},
    }
    return {
        "raw": Manifest.model_validate({**base, "layer": "raw", "rows": 310, "notes": {"books": books}}),
        "clean": Manifest.model_validate({**base, "layer": "clean", "rows": 300, "notes": notes, "checks": checks}),
    }


def test_a_summary_has_what_failed_by_names_that_stay_the_same() -> None:
    found = summary("2024-01-02", manifests())
    assert found.failed == {"fill rate of price": 174, "price must be between 0 and 10": 3, "volume": None}
    assert (found.kind, found.title, found.cause) == ("bad", "Not fit to publish", "layout changed")
    assert (found.rows, found.quarantined, found.pages, found.error_pages) == (300, 3, 300, 0.25)
    assert found.fill == {"sku": 1.0, "price": 0.42}


def test_the_page_leads_from_every_partition_to_its_own_page(tmp_path: Path) -> None:
    lake, source = Lake(str(tmp_path / "lake")), shop(tmp_path)
    for key in days(3):
        path = record(lake, source, good(key))
    record(lake, source, bad("2024-01-04"))
    page = (lake.get(path) or b"").decode()
    assert path == "reports/shop/index.html"
    assert re.findall(r'<th scope="row"[^>]*><a href="([^"]+)"', page) == [
        f"2024-01-0{day}.html" for day in (4, 3, 2, 1)
    ]
    text = seen(page)
    assert "Not fit to publish The newest partition, 2024-01-04 , has 150 rows; 1 failed" in text
    assert "good 3 partitions" in text
    assert "bad 1 partition" in text


def test_trends_show_rows_error_pages_fill_rates_and_where_each_expectation_failed(tmp_path: Path) -> None:
    keys = days(20)
    rows = [bad(key) if number in (7, 8) else good(key) for number, key in enumerate(keys)]
    rows[-1] = good(keys[-1], fill={"sku": 1.0, "price": 0.5}, error_pages=0.2)
    page = render(shop(tmp_path), rows)
    assert 'aria-label="Rows, over 20 partitions, now 300"' in page
    assert 'aria-label="Share of error pages, over 20 partitions, now 20.0 %"' in page
    assert 'aria-label="price, over 20 partitions, now 50.0 %"' in page
    assert 'aria-label="fill rate of price: failed in 2 of 20, last in 2024-01-09"' in page


def test_a_thousand_partitions_are_read_in_a_bounded_number_of_small_objects(tmp_path: Path) -> None:
    lake, source = CountingLake(str(tmp_path / "lake")), shop(tmp_path)
    for key in days(1000):
        path = tmp_path / "lake" / "reports" / "shop" / f"{key}.summary.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(good(key).model_dump_json(exclude_defaults=True))
    found = summaries(lake, source)
    assert lake.reads == SHOWN
    assert [row.key for row in found] == days(1000)[-SHOWN:]
    page = render(source, found)
    assert f"the newest {SHOWN}" in page
    assert len(page) < 400_000


def test_what_is_no_news_does_not_draw_the_page_again(tmp_path: Path) -> None:
    lake, source = Lake(str(tmp_path / "lake")), shop(tmp_path)
    path = record(lake, source, good("2024-01-01"))
    lake.put(path, b"as it was")
    assert record(lake, source, good("2024-01-01")) == path
    assert lake.get(path) == b"as it was"
    record(lake, source, good("2024-01-01", written_at="2024-01-02T05:00Z"))  # made again, with the same outcome
    assert lake.get(path) == b"as it was"
    record(lake, source, bad("2024-01-01"))
    assert b"Not fit to publish" in (lake.get(path) or b"")


class CountingLake(Lake):
    reads = 0

    def get(self, path: str) -> bytes | None:
        self.reads += 1
        return super().get(path)


def test_a_summary_of_another_version_does_not_hide_the_other_partitions(tmp_path: Path) -> None:
    lake, source = Lake(str(tmp_path / "lake")), shop(tmp_path)
    lake.put("reports/shop/2024-01-01.summary.json", b'{"rows": "many"}')
    page = (lake.get(record(lake, source, good("2024-01-02"))) or b"").decode()
    assert "2024-01-01 Its summary cannot be read: materialise it again" in seen(page)
    assert 'href="2024-01-02.html"' in page


def test_segments_of_a_period_are_drawn_together_and_listed_apart(tmp_path: Path) -> None:
    source = shop(tmp_path, period="daily", start="2024-01-01", segments=["toys", "books"])
    keys = [f"{day}|{segment}" for day in days(5) for segment in ("books", "toys")]
    rows = [good(key, fill={"price": 0.5 if key.endswith("toys") else 1.0}) for key in keys]
    page = render(source, rows)
    assert "all segments of a period together" in page
    assert 'aria-label="Rows, over 5 partitions, now 600"' in page
    assert 'aria-label="price, over 5 partitions, now 75.0 %"' in page
    assert 'href="2024-01-05~toys.html"' in page


def test_partitions_that_do_not_follow_each_other_have_no_trend(tmp_path: Path) -> None:
    page = render(shop(tmp_path, segments=["toys", "books"]), [good("books"), bad("toys")])
    assert "Trend" not in page
    assert 'href="toys.html"' in page


@pytest.mark.parametrize("rows", [[], [good("2024-01-01")], [PartitionSummary(key="2024-01-01")]])
def test_a_source_at_its_beginning_has_a_page(tmp_path: Path, rows: list[PartitionSummary]) -> None:
    page = render(shop(tmp_path), rows)
    assert ("No partition yet" in page) is (not rows)


def test_hostile_values_become_no_markup_and_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    rows = [bad(key, title=HOSTILE, cause=HOSTILE, failed={HOSTILE: 1}, fill={HOSTILE: 0.5}) for key in days(5)]
    page = render(shop(tmp_path), rows)
    found = markup.read(page)
    assert not found.elements & {"script", "img"}
    assert found.loads == found.handlers == []
    assert all(link.startswith("2024") for link in found.links)
    assert "\u202e" not in page
    assert "default-src 'none'" in page


def test_the_page_stays_small_whatever_the_data(tmp_path: Path) -> None:
    long = "x" * 10_000
    wild = {f"{long}{number}": 1.0 for number in range(500)}
    rows = [bad(key, title=long, cause=long, failed=dict.fromkeys(wild, 1), fill=wild) for key in days(SHOWN)]
    assert len(render(shop(tmp_path), rows)) < 1_000_000
