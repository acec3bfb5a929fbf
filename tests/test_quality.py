"""Expectations evaluated on frames, and the report of a partition, as a source's owner meets them."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from gossamer.errors import SuiteError
from gossamer.manifest import CheckResult, Manifest
from gossamer.quality import checks, suite
from gossamer.quality.report import address, fill_rates, render
from gossamer.quality.suite_file import validate_suite
from gossamer.source import Source, SourceSpec

# Great Expectations 1.24 imports modules that Python deprecated (sre_constants, sre_parse).
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

Evaluate = Callable[..., tuple[CheckResult, CheckResult]]


def _expect(kind: str, severity: str | None = None, **kwargs: Any) -> dict[str, Any]:
    expectation = {"type": f"expect_{kind}", "kwargs": kwargs}
    return expectation | ({"severity": severity} if severity else {})


def _between(column: str, low: Any = None, high: Any = None, **kwargs: Any) -> dict[str, Any]:
    return _expect("column_values_to_be_between", column=column, min_value=low, max_value=high, **kwargs)


def _filled(column: str, severity: str | None = None, **kwargs: Any) -> dict[str, Any]:
    return _expect("column_values_to_not_be_null", severity, column=column, **kwargs)


_ONE_ROW = {"type": "comparison", "column": {"name": "sku"}, "operator": "==", "parameter": "ABC-003"}


@pytest.fixture
def judge(tmp_path: Path) -> Evaluate:
    """Evaluates expectations on a frame; the details must be JSON that any reader takes."""

    def evaluated(
        frame: pl.DataFrame | pl.LazyFrame, *expectations: Mapping[str, Any]
    ) -> tuple[CheckResult, CheckResult]:
        critical, warning = evaluate(_suite(tmp_path, expectations), frame.lazy())
        json.dumps([critical.details, warning.details], allow_nan=False)
        return critical, warning

    return evaluated


def evaluate(file: Path | None, frame: pl.LazyFrame) -> list[CheckResult]:
    """The checks of a suite alone."""
    source = _source(file.parent if file else Path())
    return checks.expectations(suite.evaluate(source, file, frame).outcomes, [], ["sku"])


def _suite(folder: Path, expectations: Sequence[object]) -> Path:
    path = folder / "expectations.json"
    path.write_text(json.dumps({"name": "products", "expectations": expectations}), encoding="utf-8")
    return path


def _products() -> pl.DataFrame:
    count = 300
    return pl.DataFrame(
        {
            "sku": [f"ABC-{n:03}" for n in range(count)],
            "price": [Decimal(-5) if n < 3 else None if n > 296 else Decimal(n) for n in range(count)],
            "stock": [None if n == 7 else n for n in range(count)],
            "rating": [math.nan if n == 3 else 4.5 for n in range(count)],
            "added": [date(2026, 1, 1)] * (count - 1) + [None],
            "seen": [datetime(2026, 1, 1, 12, tzinfo=UTC)] * count,
            "_url": [f"https://shop.example/p/{n}" for n in range(count)],
        },
        schema_overrides={"price": pl.Decimal(18, 4)},
    )


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_a_good_frame_passes_both_checks_and_says_how_much_was_checked(judge: Evaluate) -> None:
    critical, warning = judge(
        _products(), _filled("sku"), _between("stock", 0, 1000), _filled("price", "warning", mostly=0.98)
    )
    assert (critical.name, critical.passed, critical.blocking) == ("expectations_critical", True, True)
    assert (warning.name, warning.passed, warning.blocking) == ("expectations_warning", True, False)
    assert critical.summary == "all 2 passed"
    assert warning.summary == "1 passed"
    assert critical.details["evaluated"] == 2
    assert [result["column"] for result in critical.details["results"]] == ["sku", "stock"]


def test_without_a_suite_both_checks_pass_and_say_that_nothing_is_declared(tmp_path: Path) -> None:
    for file in (None, _suite(tmp_path, [])):
        verdict = evaluate(file, _products().lazy())
        assert [(c.name, c.passed, c.blocking, c.summary) for c in verdict] == [
            ("expectations_critical", True, True, "no expectations declared"),
            ("expectations_warning", True, False, "no expectations declared"),
        ]


def test_a_failure_says_in_words_what_failed_by_how_much_and_which_pages_show_it(judge: Evaluate) -> None:
    critical, _ = judge(_products(), _filled("sku"), _between("price", 0, 10000))
    assert critical.summary == "1 of 2 failed: price must be between 0 and 10000: 3 of 297 rows (1.0 %), e.g. -5"
    (failure,) = critical.details["failed"]
    assert (failure["unexpected"], failure["rows"], failure["share"]) == (3, 297, 3 / 297)
    assert failure["sample"][1] == {"value": "-5", "url": "https://shop.example/p/1", "key": {"sku": "ABC-001"}}


def test_expectations_are_critical_unless_they_say_otherwise(judge: Evaluate) -> None:
    impossible: dict[str, Any] = {"column": "stock", "min_value": 10**6}
    kind = "column_values_to_be_between"
    critical, warning = judge(
        _products(),
        _expect(kind, **impossible),
        _expect(kind, "critical", **impossible),
        _expect(kind, "warning", **impossible),
        _expect(kind, "info", **impossible),
    )
    assert (critical.passed, len(critical.details["failed"])) == (False, 2)
    assert [failure["severity"] for failure in warning.details["failed"]] == ["warning", "info"]
    assert not warning.blocking


@pytest.mark.parametrize(("mostly", "passed"), [(0.98, True), (0.999, False)])
def test_mostly_tolerates_the_declared_share_and_no_more(judge: Evaluate, mostly: float, passed: bool) -> None:
    critical, _ = judge(_products(), _between("price", 0, mostly=mostly))
    assert critical.passed is passed
    assert passed or "at least 0 in 99.9 % of rows: 3 of 297" in critical.summary


@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        (_filled("price"), "price must not be empty: 3 of 300 rows (1.0 %)"),
        (_expect("column_values_to_be_unique", column="added"), "added must be unique: 299 of 299 rows (100 %)"),
        (_expect("column_values_to_match_regex", column="sku", regex="^A.*1$"), "sku must match ^A.*1$: 270 of 300"),
        (_expect("column_values_to_be_in_set", column="sku", value_set=["x", "y"]), "sku must be one of x, y: 300 of"),
        (_expect("table_row_count_to_be_between", min_value=500), "row count must be at least 500: found 300"),
        (
            _expect("column_mean_to_be_between", column="rating", max_value=4),
            "mean of rating must be at most 4: found 4",
        ),
        (_expect("column_max_to_be_between", column="added", max_value="2025-12-31"), "2025-12-31: found 2026-01-01"),
        (
            _expect("column_distinct_values_to_equal_set", column="added", value_set=["2026-01-01", "2026-01-02"]),
            "distinct values of added must be exactly 2026-01-01, 2026-01-02: missing 2026-01-02",
        ),
        (_expect("column_to_exist", column="colour"), "column colour must exist"),
        (
            _expect("compound_columns_to_be_unique", column_list=["added", "seen"]),
            "added, seen must be unique: 299 of 300 rows (99.7 %), e.g. added 2026-01-01, seen 2026-01-01T12:",
        ),
        (
            _expect("column_pair_values_a_to_be_greater_than_b", column_A="price", column_B="stock"),
            "price must be greater than stock: 300 of 300 rows (100 %), e.g. price -5, stock 0",
        ),
        (
            _between("stock", 5, row_condition=_ONE_ROW),
            "stock must be at least 5 where sku == ABC-003: 1 of 1 rows (100 %), e.g. 3",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_failure_is_said_in_words(judge: Evaluate, expectation: dict[str, Any], words: str) -> None:
    critical, _ = judge(_products(), expectation)
    assert not critical.passed
    assert words in critical.summary


def test_a_summary_names_a_few_failures_and_counts_the_others(judge: Evaluate) -> None:
    critical, _ = judge(_products(), *[_between("stock", 1000 + n) for n in range(6)])
    assert critical.summary.startswith("6 of 6 failed: stock must be at least 1000")
    assert critical.summary.endswith("; and 3 more")
    assert len(critical.details["failed"]) == 6


# -- what cannot be evaluated -----------------------------------------------------------------------------------------


def test_a_missing_column_fails_its_expectation_and_the_others_are_evaluated(judge: Evaluate) -> None:
    critical, warning = judge(
        _products(), _between("pric", 0), _between("stock", 1000), _filled("sku"), _filled("nothing_alike", "warning")
    )
    missing, low = critical.details["failed"]
    assert missing["error"] == "there is no column `pric`; did you mean `price`?"
    assert "pric must be at least 0: cannot be evaluated: there is no column `pric`" in critical.summary
    assert low["unexpected"] == 299
    assert critical.details["evaluated"] == 3
    assert warning.details["failed"][0]["error"] == "there is no column `nothing_alike`"


def test_an_expectation_that_raises_fails_with_its_message(judge: Evaluate) -> None:
    critical, _ = judge(
        _products(), _expect("column_mean_to_be_between", column="sku", min_value=1), _filled("sku"),
        _expect("column_values_to_match_regex", column="sku", regex="("),
    )  # fmt: skip
    assert [bool(failure["error"]) for failure in critical.details["failed"]] == [True, True]
    assert "2 of 3 failed" in critical.summary
    assert "unterminated subpattern" in critical.summary


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        (_expect("column_values_to_be_betwen", column="a"), "Did you mean `expect_column_values_to_be_between`?"),
        ({"expectation_type": "expect_column_to_exist", "kwargs": {}}, "Rename `expectation_type` to `type`."),
        (_between("a"), "min_value and max_value cannot both be None"),
        (_filled("a", mostly=7), "mostly: ensure this value is less than or equal to 1.0"),
        (_filled("a", "fatal"), "Invalid severity 'fatal'. Must be one of: critical, warning, info"),
        (_expect("column_to_exist", colum="a"), "column: field required"),
        ({**_filled("a"), "severty": "warning"}, "Did you mean `severity`?"),
        (_between("a", {"$PARAMETER": "low"}), "takes a suite parameter"),
        (7, "has no `type`"),
    ],
)
def test_an_unusable_expectation_is_named_by_file_place_and_remedy(
    tmp_path: Path, expectation: object, problem: str
) -> None:
    path = _suite(tmp_path, [_filled("sku"), expectation])
    (fault,) = validate_suite(_source(path.parent), path)
    assert fault.startswith(f"{path}: expectations.1: ")
    assert problem in fault
    with pytest.raises(SuiteError, match=re.escape(problem)):
        evaluate(path, _products().lazy())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"expectations": [}', ":1: is not JSON"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "is missing or not a list"),
        (b'{"expectations": {}}', "is missing or not a list"),
        (None, "cannot be read"),
    ],
)
def test_a_suite_that_cannot_be_read_is_refused_with_its_name(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "expectations.json"
    if content is not None:
        path.write_bytes(content)
    (fault,) = validate_suite(_source(path.parent), path)
    assert fault.startswith(str(path))
    assert problem in fault


def test_every_fault_of_a_suite_is_told_at_once(tmp_path: Path) -> None:
    path = _suite(tmp_path, [_expect("nothing_known"), _filled("a"), _filled("a", "fatal")])
    assert [re.search(r"expectations\.\d", fault)[0] for fault in validate_suite(_source(path.parent), path)] == [  # type: ignore[index]
        "expectations.0",
        "expectations.2",
    ]


@pytest.mark.parametrize("name", ["shop", "rates", "reviews"])
def test_the_shipped_suites_are_sound(name: str) -> None:
    folder = Path(__file__).parent.parent / "sources" / name
    assert validate_suite(_source(folder), folder / "expectations.json") == []


# -- types ------------------------------------------------------------------------------------------------------------


def test_whole_numbers_with_nulls_stay_whole_numbers(judge: Evaluate) -> None:
    frame = pl.DataFrame({"stock": [1, None, 22], "other": [5, 5, None]})
    critical, _ = judge(
        frame,
        _expect("column_values_to_match_regex", column="stock", regex=r"^\d+$"),
        _expect("column_value_lengths_to_be_between", column="stock", max_value=2),
        _expect("column_values_to_be_of_type", column="stock", type_="int64"),
        _expect("column_pair_values_a_to_be_greater_than_b", column_A="other", column_B="stock",
                ignore_row_if="either_value_is_missing"),
    )  # fmt: skip
    assert critical.passed, critical.summary


def test_a_number_beyond_exact_floats_is_not_rounded_next_to_a_null(judge: Evaluate) -> None:
    big = 2**53 + 1
    critical, _ = judge(
        pl.DataFrame({"id": [big, None]}), _expect("column_values_to_be_in_set", column="id", value_set=[big - 1])
    )
    assert f"e.g. {big}" in critical.summary


def test_nan_counts_as_missing_and_never_reaches_the_details(judge: Evaluate) -> None:
    frame = pl.DataFrame({"rating": [math.nan, 1.0, None, math.inf]})
    critical, _ = judge(
        frame,
        _filled("rating"),
        _between("rating", 0, 5),
        _expect("column_mean_to_be_between", column="rating", max_value=1),
    )
    filled, between, mean = critical.details["failed"]
    assert (filled["unexpected"], filled["rows"]) == (2, 4)
    assert (between["unexpected"], between["rows"], between["sample"][0]["value"]) == (1, 2, None)
    assert mean["observed"] is None


@pytest.mark.parametrize("bound", ["2026-01-02", "2026-01-02T00:00:00", "2026-01-02T00:00:00+00:00"])
def test_dates_and_times_are_compared_with_bounds_however_written(judge: Evaluate, bound: str) -> None:
    days = [date(2026, 1, 1), date(2026, 1, 3), None]
    frame = pl.DataFrame({"day": days}).with_columns(
        pl.col("day").cast(pl.Datetime("us")).alias("naive"),
        pl.col("day").cast(pl.Datetime("us", "UTC")).alias("aware"),
    )
    critical, _ = judge(frame, *[_between(column, bound) for column in frame.columns])
    assert [(f["unexpected"], f["rows"], f["error"]) for f in critical.details["failed"]] == [(1, 2, "")] * 3
    assert critical.details["failed"][0]["sample"][0]["value"] == "2026-01-01"


def test_dates_are_compared_with_sets_of_dates(judge: Evaluate) -> None:
    frame = pl.DataFrame({"day": [date(2026, 1, 1), date(2026, 1, 2)]})
    critical, _ = judge(frame, _expect("column_values_to_be_in_set", column="day", value_set=["2026-01-01"]))
    assert critical.summary == "1 of 1 failed: day must be one of 2026-01-01: 1 of 2 rows (50.0 %), e.g. 2026-01-02"


def test_columns_of_every_type_can_be_judged(judge: Evaluate) -> None:
    frame = pl.DataFrame(
        {
            "flag": [True, None],
            "list": [[1, 2], None],
            "struct": [{"a": 1}, None],
            "category": pl.Series(["x", None], dtype=pl.Categorical),
            "enum": pl.Series(["x", None], dtype=pl.Enum(["x"])),
            "nothing": [None, None],
            "duration": [datetime(2026, 1, 2) - datetime(2026, 1, 1), None],
            "time": [datetime(2026, 1, 1).time(), None],
            "wide": pl.Series([1, None], dtype=pl.Int128),
            "small": pl.Series([1, None], dtype=pl.UInt8),
        }
    )
    critical, _ = judge(frame, *[_filled(column) for column in frame.columns])
    assert [(f["unexpected"], f["error"]) for f in critical.details["failed"]] == [
        (2 if column == "nothing" else 1, "") for column in frame.columns
    ]


def test_an_empty_frame_fails_what_needs_rows_and_nothing_else(judge: Evaluate) -> None:
    critical, _ = judge(
        _products().clear(),
        _filled("price"), _between("price", 0), _between("added", "2026-01-01"),
        _expect("table_row_count_to_be_between", min_value=1),
        _expect("column_mean_to_be_between", column="rating", min_value=1),
    )  # fmt: skip
    assert [f["expectation"] for f in critical.details["failed"]] == [
        "expect_table_row_count_to_be_between",
        "expect_column_mean_to_be_between",
    ]
    assert "row count must be at least 1: found 0" in critical.summary


def test_an_all_null_column_fails_where_values_are_demanded(judge: Evaluate) -> None:
    frame = _products().with_columns(pl.lit(None, dtype=pl.Decimal(18, 4)).alias("price"))
    critical, _ = judge(frame, _filled("price"), _between("price", 0))
    assert critical.summary == "1 of 2 failed: price must not be empty: 300 of 300 rows (100 %)"


def test_rows_are_counted_though_the_suite_needs_no_column(judge: Evaluate) -> None:
    critical, _ = judge(pl.DataFrame({"x": [1, 2, 3]}), _expect("table_row_count_to_equal", value=3))
    assert critical.passed


def test_only_columns_that_the_suite_names_are_read(judge: Evaluate) -> None:
    def explode(_: pl.Series) -> pl.Series:
        raise AssertionError("read")

    frame = _products().lazy().with_columns(pl.col("stock").map_batches(explode, return_dtype=pl.Int64).alias("unread"))
    critical, _ = judge(frame, _filled("sku"))
    assert critical.passed


def test_columns_of_the_table_are_judged_whole(judge: Evaluate) -> None:
    frame = _products()
    critical, _ = judge(frame, _expect("table_columns_to_match_ordered_list", column_list=frame.columns))
    assert critical.passed, critical.summary


def test_huge_values_are_cut_and_samples_are_few(judge: Evaluate) -> None:
    frame = pl.DataFrame({"text": ["x" * 100_000] * 1000, "_url": ["https://shop.example/" + "y" * 5000] * 1000})
    critical, _ = judge(
        frame, *[_expect("column_value_lengths_to_be_between", column="text", max_value=n) for n in range(90)]
    )
    assert len(json.dumps(critical.details)) < 500_000
    assert len(critical.summary) < 1000
    assert critical.details["failed"][0]["sample"][0]["url"] is None


def test_suites_evaluated_at_once_do_not_see_each_others_rows(tmp_path: Path) -> None:
    path = _suite(tmp_path, [_expect("table_row_count_to_equal", value=-1)])

    def rows(count: int) -> str:
        return evaluate(path, pl.DataFrame({"x": range(count)}).lazy())[0].summary

    with ThreadPoolExecutor(4) as pool:
        summaries = list(pool.map(rows, range(12)))
    assert [summary.rpartition(" ")[2] for summary in summaries] == [str(count) for count in range(12)]


def test_great_expectations_is_not_loaded_before_a_suite_is_evaluated() -> None:
    code = "import sys, gossamer.quality.suite, gossamer.quality.report; print('great_expectations' in sys.modules)"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


# -- the report -------------------------------------------------------------------------------------------------------

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def _source(tmp_path: Path) -> Source:
    spec = SourceSpec.model_validate(
        {
            "name": "shop",
            "spider": "spider:Shop",
            "description": HOSTILE,
            "seeds": {"urls": ["https://shop.example/"]},
            "record": {"key": ["sku"], "fields": {"sku": "str", "price": "money"}},
        }
    )
    return Source(spec, tmp_path)


def _manifest(layer: str, **known: Any) -> Manifest:
    base = {
        "layer": layer,
        "source": "shop",
        "partition": "2026-01-05",
        "version": f"{layer}-1",
        "rows": 297,
        "columns": {},
    }
    return Manifest.model_validate(base | known)


def _page(tmp_path: Path, *checks: CheckResult, sample: pl.DataFrame | None = None, **known: Any) -> str:
    frame = _products() if sample is None else sample
    columns = {name: str(dtype) for name, dtype in frame.schema.items()}
    manifests = {
        "raw": _manifest("raw", rows=300, notes={"books": {"requests": {"fetched": 341, "dead": {"gone": 3}}}}),
        "clean": _manifest("clean", columns=columns, checks=checks, inputs={"raw/shop": "raw-1"}, **known),
    }
    return render(_source(tmp_path), manifests, frame.head(10))


def test_the_report_shows_what_failed_with_pages_that_show_it(tmp_path: Path, judge: Evaluate) -> None:
    page = _page(tmp_path, *judge(_products(), _filled("sku"), _between("price", 0, 10000)))
    assert "Not fit to publish" in page
    assert "Readers keep the last good version" in page
    assert "price must be between 0 and 10000: 3 of 297 rows (1.0 %)" in page
    assert 'href="https://shop.example/p/1"' in page
    assert "gone" in page
    assert "sku must not be empty" in page


@pytest.mark.parametrize(
    ("passed", "blocking", "verdict"),
    [
        (True, True, "Fit to publish<"),
        (False, False, "Fit to publish, with warnings"),
        (False, True, "Not fit to publish"),
    ],
)
def test_the_banner_says_whether_readers_get_the_partition(
    tmp_path: Path, passed: bool, blocking: bool, verdict: str
) -> None:
    assert verdict in _page(tmp_path, CheckResult(name="volume", passed=passed, blocking=blocking, summary="10 rows"))


def test_a_partition_without_checks_or_made_from_older_data_has_no_verdict(tmp_path: Path) -> None:
    passed = CheckResult(name="volume", passed=True, blocking=True, summary="fine")
    assert "No verdict yet" in _page(tmp_path)
    assert "No verdict yet" in render(_source(tmp_path), {}, pl.DataFrame())
    stale = {
        "raw": _manifest("raw", version="raw-2"),
        "clean": _manifest("clean", checks=[passed], inputs={"raw/shop": "raw-1"}),
    }
    page = render(_source(tmp_path), stale, _products())
    assert "clean was made from an older version of raw" in page
    assert "Fit to publish" not in page


def test_nothing_from_the_web_becomes_markup_or_a_script(tmp_path: Path, judge: Evaluate) -> None:
    frame = pl.DataFrame(
        {"sku": [HOSTILE, "ok"], "price": [-1, 1], "page": ["javascript:alert(1)", "data:text/html,x"],
         "_url": ["javascript:alert(3)", f"https://shop.example/{HOSTILE}"], HOSTILE: [HOSTILE, "x"]}
    )  # fmt: skip
    checks = judge(frame, _between("price", 5), _expect("column_values_to_be_in_set", column="sku", value_set=["a"]))
    trouble = CheckResult(
        name="volume", passed=False, blocking=True, summary=HOSTILE, details={HOSTILE: {HOSTILE: HOSTILE}}
    )
    page = _page(
        tmp_path, *checks, trouble, sample=frame, crawl_id=HOSTILE, run_id=HOSTILE, notes={"fill": {HOSTILE: 0.5}}
    )
    assert "<script" not in page
    assert "<img" not in page
    assert re.findall(r'href="(?!https?://|index\.html")', page) == []
    assert "alert(1)" in page  # it is shown, as text
    for link in re.findall(r'<a href="http[^>]*>', page):
        assert 'rel="noopener' in link


@pytest.mark.parametrize(
    "value", ["javascript:alert(1)", "JaVaScRiPt:alert(1)", " https://a.example", "https://a\n.example", "//a.example",
              "data:text/html,x", "https:", "http://[", "", None, 7],
)  # fmt: skip
def test_only_whole_web_addresses_become_links(value: object) -> None:
    assert address(value) is None
    assert address("https://a.example/?q=1#x") == "https://a.example/?q=1#x"


def test_the_report_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = _page(tmp_path, sample=_products().drop("_url"))
    assert re.findall(r"""(?:src|href)=["'](?!#|index\.html)|url\(|@import""", page) == []


def test_huge_values_do_not_make_a_huge_report(tmp_path: Path) -> None:
    frame = pl.DataFrame({"sku": ["x" * 1_000_000] * 100, **{f"c{n}": ["y" * 10_000] * 100 for n in range(300)}})
    assert len(_page(tmp_path, sample=frame)) < 2_000_000


def test_fill_rates_count_nan_as_missing() -> None:
    frame = pl.DataFrame({"a": [1.0, math.nan, None, 2.0], "b": ["x", None, "", "y"]})
    assert fill_rates(frame.lazy()) == {"a": 0.5, "b": 0.75}
    assert fill_rates(frame.clear().lazy()) == {}
    assert fill_rates(pl.LazyFrame()) == {}


def test_the_report_can_be_read_on_a_phone_in_light_and_dark(tmp_path: Path, chromium: str, judge: Evaluate) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "report.html"
    path.write_text(_page(tmp_path, *judge(_products(), _filled("sku"), _between("price", 0, 10000))), encoding="utf-8")
    complaints: list[str] = []
    backgrounds = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for scheme in schemes:
            page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            page.on("console", lambda message: complaints.append(str(message)))
            page.goto(path.as_uri())
            assert page.get_by_text("Not fit to publish", exact=True).is_visible()
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.close()
    assert complaints == []
    assert len(backgrounds) == 2
