"""The report of a partition, as a person reads it who has to decide whether the data can be trusted.

What it shows of expectations, and what of it cannot become markup, is tested in `test_quality` too.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from gossamer.acceptance import Acceptance
from gossamer.manifest import CheckResult, Manifest
from gossamer.quality import pages
from gossamer.quality.finding import Cause, Finding
from gossamer.quality.profile import FieldProfile, Profile
from gossamer.quality.report import render
from gossamer.source import Source, SourceSpec
from tests import markup

KEY = "2026-11-20"
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u202egpj.exe\u2066\x1b[31m\x00"


def shop(folder: Path, **spec: Any) -> Source:
    base = {
        "name": "shop",
        "spider": "spider:Shop",
        "partitions": {"period": "daily", "start": "2026-01-01"},
        "seeds": {"urls": ["https://shop.example/"]},
        "record": {"key": ["sku"], "fields": {"sku": "str", "price": "money", "added": "date"}},
    }
    return Source(SourceSpec.model_validate(base | spec), folder)


def manifest(layer: str, **known: Any) -> Manifest:
    base = {"layer": layer, "source": "shop", "partition": KEY, "version": f"{layer}-1", "rows": 300, "columns": {}}
    return Manifest.model_validate(base | known)


def profile(key: str, fill: float = 1.0, median: float = 20.0) -> Profile:
    price = FieldProfile(kind="money", fill=fill, distinct=0.8, quantiles=(1, 2, 5, median, 40, 90, 1499))
    sku = FieldProfile(kind="str", fill=1.0, distinct=1.0, quantiles=(7,) * 7)
    added = FieldProfile(kind="date", fill=1.0, distinct=0.1, quantiles=tuple(1.7e9 + day * 864e3 for day in range(7)))
    return Profile(source="shop", partition=key, rows=300, fields={"sku": sku, "price": price, "added": added})


HISTORY = [profile(f"2026-11-{day:02}") for day in range(1, 20)]
COLUMNS = {"sku": "String", "price": "Decimal(precision=18, scale=4)", "added": "Date", "_url": "String"}
FAILED = CheckResult(
    name="expectations_critical",
    passed=False,
    blocking=True,
    summary="1 of 2 failed",
    details={
        "evaluated": 2,
        "failed": [
            {
                "expectation": "default: fill_rate", "column": "price", "kwargs": {}, "severity": "critical",
                "summary": "price is filled in 42 % of rows, 98 % to 100 % before", "unexpected": 174, "rows": 300,
                "share": 0.58, "observed": 0.42, "error": "", "low": 0.98, "high": 1.0, "compared": 19,
                "since": "2026-11-19",
                "sample": [{"value": None, "url": "https://shop.example/p/1", "key": {"sku": "A-1"}}],
            }
        ],
        "results": [
            {"expectation": "x", "column": "", "severity": "", "passed": True, "demand": "sku must be unique"},
            {"expectation": "y", "column": "", "severity": "", "passed": True, "demand": "freshness: no history"},
        ],
    },
)  # fmt: skip
NOTES: dict[str, Any] = {
    "records": {"crawled": 320, "clean": 300, "quarantined": 12, "duplicates": 6, "dropped": 2, "without_key": 0},
    "fill": {"sku": 1.0, "price": 0.42, "added": 1.0},
    "profile": profile(KEY, 0.42).model_dump(mode="json"),
    "findings": [
        Finding(kind="freshness", state="no history", summary="freshness: no history").model_dump(mode="json"),
        Finding(kind="fill_rate", field="price", state="failed", summary="too few").model_dump(mode="json"),
    ],
    "cause": Cause(
        kind="currency or locale changed", words="Prices are written otherwise.", evidence=("174 prices are no amount",)
    ).model_dump(mode="json"),
    "quarantine": {"rows": 12, "by": {"price must be between 0 and 10000": 9, "sku must match ^[A-Z]+$": 4}},
}
BOOKS = {
    "requests": {"discovered": 323, "fetched": 320, "redirected": 1, "excluded": {"robots": 0}, "dead": {"gone": 2}},
    "series": [[0.0, 0, 0], [38.7, 249, 230]],
}
CHANGES = {
    "previous": "2026-11-19", "new": 12, "changed": 87, "gone": 9, "unchanged": 201,
    "columns": {"price": 80, "stock": 7},
}  # fmt: skip


def bad(**notes: Any) -> dict[str, Manifest]:
    cleaned = manifest("clean", columns=COLUMNS, checks=[FAILED], notes=NOTES | notes, inputs={"raw/shop": "raw-1"})
    joined = manifest("enriched", columns=COLUMNS, notes={"changes": CHANGES, "fill": NOTES["fill"]})
    return {"raw": manifest("raw", rows=320, notes={"books": BOOKS}), "clean": cleaned, "enriched": joined}


ROWS = pl.DataFrame({"sku": ["A-1", "A-2"], "price": [1.5, None], "_url": ["https://shop.example/p/1"] * 2})


def seen(page: str) -> str:
    return markup.read(page).text


def test_the_page_says_what_most_likely_happened_and_what_speaks_for_it(tmp_path: Path) -> None:
    page = seen(render(shop(tmp_path), bad(), ROWS))
    assert "What most likely happened: currency or locale changed" in page
    assert "Prices are written otherwise." in page
    assert "174 prices are no amount" in page


def test_a_crawl_whose_books_did_not_close_tells_its_cause_too(tmp_path: Path) -> None:
    closed = CheckResult(name="books_closed", passed=False, blocking=True, summary="no record came")
    crawled = {"raw": manifest("incomplete", checks=[closed], notes={"books": BOOKS, "cause": NOTES["cause"]})}
    assert "Prices are written otherwise." in render(shop(tmp_path), crawled, ROWS)


def test_a_partition_that_is_fine_tells_of_no_cause(tmp_path: Path) -> None:
    passed = CheckResult(name="volume", passed=True, blocking=True, summary="fine")
    fine = {"clean": manifest("clean", checks=[passed], notes={"cause": NOTES["cause"]})}
    assert "What most likely happened" not in render(shop(tmp_path), fine, ROWS)


def test_the_ledgers_account_for_every_record_and_request(tmp_path: Path) -> None:
    page = seen(render(shop(tmp_path), bad(), ROWS))
    assert "Records: 320 crawled clean 300 93.8 % quarantined 12 3.8 % duplicates 6 1.9 % dropped 2 0.6 %" in page
    assert "Requests: 323 discovered fetched 320 99.1 % redirected to known pages 1 0.3 % failed: gone 2" in page
    lost = {"crawled": 330, "clean": 300, "quarantined": 12, "duplicates": 6, "dropped": 2}
    assert "not accounted for 10" in seen(render(shop(tmp_path), bad(records=lost), ROWS))


def test_quarantine_is_counted_by_expectation_and_its_rows_can_be_found(tmp_path: Path) -> None:
    page = render(shop(tmp_path), bad(), ROWS)
    assert "12 rows kept from the readers price must be between 0 and 10000 9 sku must match ^[A-Z]+$ 4" in seen(page)
    assert f'href="../../quarantine/shop/{KEY}.parquet"' in page


def test_changes_are_told_against_the_previous_partition_by_column(tmp_path: Path) -> None:
    page = render(shop(tmp_path), bad(), ROWS)
    assert "new 12 changed 87 gone 9 unchanged 201" in seen(page)
    assert "price 80 27.8 %" in seen(page)  # of the 288 records that are in both
    assert 'href="2026-11-19.html"' in page
    added = {"enriched": manifest("enriched", notes={"changes": CHANGES | {"added": ["colour"]}})}
    assert "Columns added: colour" in seen(render(shop(tmp_path), added, ROWS))
    crawl = {"enriched": manifest("enriched", notes={"changes": CHANGES | {"previous": "shop/toys/1"}})}
    unperiodic = render(shop(tmp_path, partitions={"segments": ["toys"]}), crawl, ROWS)
    assert "since shop/toys/1" in seen(unperiodic), "a crawl has no page of its own"
    first = {"enriched": manifest("enriched", notes={"changes": {"previous": None}})}
    assert "nothing was published before" in seen(render(shop(tmp_path), first, ROWS))


def test_fields_show_their_range_in_their_own_kind_and_their_trend_over_the_history(tmp_path: Path) -> None:
    page = render(shop(tmp_path), bad(), ROWS, history=HISTORY)
    assert "price failed Decimal(18, 4) 42.0 % 80.0 % 1 to 1,499 median 20" in seen(page)
    assert "7 characters" in seen(page)
    assert "2023-11-14 to 2024-01-13 median 2023-12-14" in seen(page)
    assert 'aria-label="filled over 20 partitions, now 42.0 %"' in page
    assert 'href="2026-11-01.html"' in page
    assert "aria-label" not in render(shop(tmp_path), bad(), ROWS).partition("Fields")[2]


def test_a_failed_default_check_leads_to_the_last_partition_that_was_right(tmp_path: Path) -> None:
    page = render(shop(tmp_path), bad(), ROWS)
    assert 'Last within the bounds: <a href="2026-11-19.html">2026-11-19</a>' in page
    assert 'href="https://shop.example/p/1"' in page


def test_what_could_not_be_judged_is_not_listed_as_passed(tmp_path: Path) -> None:
    page = seen(render(shop(tmp_path), bad(), ROWS))
    assert "1 passed sku must be unique 1 without enough history to judge freshness: no history" in page


def test_an_acceptance_shows_who_took_it_why_and_in_spite_of_what(tmp_path: Path) -> None:
    accepted = Acceptance(
        source="shop", partition=KEY, reason="Checked by hand.", by="ada@example.com",
        at=datetime(2026, 11, 21, 9, 30, tzinfo=UTC), versions={"clean": "clean-1"}, failures=("fill rate of price",),
    )  # fmt: skip
    page = seen(render(shop(tmp_path), bad(), ROWS, acceptances=[accepted]))
    assert "Accepted in spite of failures" in page
    assert "Accepted by ada@example.com, 2026-11-21 09:30 UTC Checked by hand. fill rate of price" in page
    other = accepted.model_copy(update={"versions": {"clean": "clean-0"}})
    page = seen(render(shop(tmp_path), bad(), ROWS, acceptances=[other]))
    assert "Not fit to publish" in page
    assert "ada@example.com" not in page, "it was said of other data"


def test_the_number_of_rows_is_drawn_over_the_partitions(tmp_path: Path) -> None:
    trend = [[f"2026-11-{day:02}", 290 + day] for day in range(1, 20)]
    volume = CheckResult(
        name="volume", passed=True, blocking=False, summary="310 rows", details={"rows": 310, "trend": trend}
    )
    page = render(shop(tmp_path), {"clean": manifest("clean", checks=[volume])}, ROWS)
    assert 'aria-label="rows, 20 partitions from 2026-11-01 to this one: from 291 to 310"' in page


def test_manifests_without_any_notes_still_make_a_page(tmp_path: Path) -> None:
    page = render(shop(tmp_path), {"raw": manifest("raw"), "clean": manifest("clean")}, ROWS)
    for absent in ("Ledgers", "Quarantine", "Changes<", "Trend", "What most likely"):
        assert absent not in page


def test_hostile_values_in_every_note_become_neither_markup_nor_look_like_another_text(tmp_path: Path) -> None:
    hostile = profile(HOSTILE).model_copy(update={"fields": {HOSTILE: FieldProfile(kind=HOSTILE, fill=0.5)}})
    notes = {
        "cause": {"kind": HOSTILE, "words": HOSTILE, "evidence": [HOSTILE]},
        "quarantine": {"rows": 1, "by": {HOSTILE: 1}},
        "profile": hostile.model_dump(mode="json"),
    }
    manifests = bad(**notes)
    changes = {"previous": HOSTILE, "new": 1, "columns": {HOSTILE: 1}}
    manifests["enriched"] = manifest("enriched", columns={HOSTILE: HOSTILE}, notes={"changes": changes})
    accepted = Acceptance(
        source="shop", partition=KEY, reason=HOSTILE, by=HOSTILE, versions={"clean": "clean-1"}, failures=(HOSTILE,)
    )
    page = render(
        shop(tmp_path, description=HOSTILE), manifests, pl.DataFrame({HOSTILE: [HOSTILE]}),
        history=[hostile], acceptances=[accepted],
    )  # fmt: skip
    found = markup.read(page)
    assert not found.elements & {"script", "img"}
    assert found.loads == found.handlers == []
    assert not re.search("[\x00\x1b\u202e\u2066]", page)
    assert "<script>alert(1)" in found.text


def test_the_page_stays_small_whatever_the_data(tmp_path: Path) -> None:
    long = "x" * 5_000
    many = {f"{long}{n}": n for n in range(600)}
    fields = {name: FieldProfile(fill=0.5, quantiles=(1e300,) * 7) for name in many}
    notes = {
        "cause": {"kind": long, "words": long, "evidence": [long] * 1000},
        "quarantine": {"rows": 10**30, "by": many},
        "profile": Profile(source="shop", partition=KEY, rows=1, fields=fields).model_dump(mode="json"),
        "records": {"crawled": 10**300, "clean": 1},
    }
    manifests = bad(**notes)
    manifests["enriched"] = manifest(
        "enriched", columns=dict.fromkeys(many, long), notes={"changes": {"previous": KEY, "columns": many}}
    )
    page = render(shop(tmp_path), manifests, ROWS, history=HISTORY * 100)
    assert len(page) < 400_000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234567, "1,234,567"), (10**18, "1.000e+18"), (10**4000, "1.000e+4000"), (1e300, "1.000e+300"),
        (2.5e-7, "2.500e-07"), (0.0, "0"), (float("nan"), ""), (True, "true"), (None, ""),
        ("a\u202eb\x07", "a\ufffdb\ufffd"),
        ("line\nline", "line\nline"), ("\ud800", "?"), (["a\x00"], "a\ufffd"),
    ],
)  # fmt: skip
def test_values_are_shown_in_bounded_size_and_without_what_cannot_be_seen(value: object, shown: str) -> None:
    assert pages.text(value) == shown


def test_it_prints_and_fits_a_phone_in_light_and_dark(tmp_path: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "report.html"
    path.write_text(render(shop(tmp_path), bad(), ROWS, history=HISTORY), encoding="utf-8")
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for scheme in schemes:
            page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            page.on("console", lambda message: complaints.append(str(message)))
            page.goto(path.as_uri())
            assert page.get_by_text("Prices are written otherwise.").is_visible()
            assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.emulate_media(media="print")
        assert page.get_by_text("sku must be unique").is_visible(), "on paper nothing can be opened"
        browser.close()
    assert complaints == []
