"""Great Expectations' Data Docs, built from the results in a lake, as someone reads them who has no network."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gossamer.lake import Lake
from gossamer.quality.data_docs import Built, build
from tests import markup

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"'><b>&lt;",
    "$value ${x} $$",
    "\u202egpj.exe",
]


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """A validation result of data that is an attack, from Great Expectations itself."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    frame = pd.DataFrame({"sku": HOSTILE, "price": [1.0, -5.0, None, 1e9, 2.0], "<b>": ["x", "y", "z", "z", "z"]})
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    judged: list[tuple[str, dict[str, Any]]] = [
        ("column_values_to_be_in_set", {"column": "sku", "value_set": ["<i>a</i>"]}),
        ("column_values_to_match_regex", {"column": "sku", "regex": "(?<!x)<script>$"}),
        ("column_distinct_values_to_equal_set", {"column": "sku", "value_set": ["<svg onload=alert(4)>"]}),
        ("column_most_common_value_to_be_in_set", {"column": "sku", "value_set": ["<u>"]}),
        ("table_columns_to_match_ordered_list", {"column_list": ["<u>"]}),
        ("compound_columns_to_be_unique", {"column_list": ["sku", "<b>"]}),
        ("column_values_to_not_be_null", {"column": "price", "mostly": 0.5}),
        ("column_values_to_be_between", {"column": "price", "min_value": 0, "max_value": 10}),
        ("column_mean_to_be_between", {"column": "nope", "min_value": 1}),
    ]
    expectations = [{"type": f"expect_{name}", "kwargs": kwargs} for name, kwargs in judged]
    suite = gx.ExpectationSuite(name="<script>alert(3)</script>", expectations=expectations)
    found: Any = batch.validate(suite, result_format="SUMMARY")
    kept: dict[str, Any] = json.loads(json.dumps(found.to_json_dict(), default=lambda number: number.item()))
    return kept


@pytest.fixture
def lake(tmp_path: Path, result: dict[str, Any]) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    for name in ("2026-11-19.clean", "2026-11-20.clean", "2026-11-20.enriched", "2026-11-18.clean"):
        lake.put_json(f"validations/shop/{name}.json", result)
    return lake


def page(lake: Lake, path: str) -> str:
    content = lake.get(f"data_docs/{path}")
    assert content is not None, f"no page {path}"
    return content.decode()


def test_the_site_shows_each_result_and_what_failed(lake: Lake) -> None:
    built = build(lake, ["shop"])
    size = sum(len(lake.get(path) or b"") for path in lake.paths("data_docs/"))
    assert built == Built(pages=5, bytes=size)
    index = markup.read(page(lake, "index.html"))
    assert index.links == [f"shop/2026-11-{n}.html" for n in ("20.enriched", "20.clean", "19.clean", "18.clean")]
    assert "2026-11-20 clean failed 2 of 9" in index.text
    found = markup.read(page(lake, "shop/2026-11-20.clean.html"))
    assert "shop 2026-11-20, clean" in found.text
    assert "values must be greater than or equal to 0.0 and less than or equal to 10.0" in found.text
    assert "-5.0" in found.text
    assert 'The column "nope" in BatchData does not exist' in found.text


def test_values_stand_in_the_page_as_they_are_and_never_as_markup(lake: Lake) -> None:
    build(lake, ["shop"])
    found = markup.read(page(lake, "shop/2026-11-20.clean.html"))
    assert not found.elements & {"script", "img", "svg", "b", "u"}
    assert found.handlers == []
    for text in [*HOSTILE[:4], "(?<!x)<script>$", "<i>a</i>", "<svg onload=alert(4)>"]:
        assert text in found.text
    assert not re.search("[\ue000-\uf8ff\u202e]|uf8d", page(lake, "shop/2026-11-20.clean.html"))


def test_the_pages_need_no_network_and_run_no_script(lake: Lake) -> None:
    build(lake, ["shop"])
    for path in lake.paths("data_docs/"):
        content = page(lake, path.removeprefix("data_docs/"))
        found = markup.read(content)
        assert found.loads == []
        assert not found.elements & {"script", "link", "iframe", "object"}
        assert "default-src 'none'" in content
        assert "http://" not in content
        assert "https://" not in content
        assert all(link.startswith(("#", "../index.html", "shop/")) for link in found.links), found.links


def test_the_page_does_not_name_places_of_the_machine_that_made_it(lake: Lake) -> None:
    build(lake, ["shop"])
    content = page(lake, "shop/2026-11-20.clean.html")
    assert "site-packages" not in content
    assert "Traceback" not in content


def test_only_the_newest_partitions_are_kept(lake: Lake) -> None:
    build(lake, ["shop"])
    assert build(lake, ["shop"], limit_per_source=1).pages == 3
    assert sorted(lake.paths("data_docs/shop/")) == [
        "data_docs/shop/2026-11-20.clean.html",
        "data_docs/shop/2026-11-20.enriched.html",
    ]


def test_a_result_that_cannot_be_shown_is_named_and_hides_no_other(lake: Lake) -> None:
    lake.put_json("validations/shop/2026-11-21.clean.json", {"from": "another version"})
    lake.put_json("validations/rates/2026-11-21.clean.json", ["nothing"])
    built = build(lake, ["shop", "rates", "none"])
    assert built.pages == 5
    assert [line.split(":")[0] for line in built.left_out] == [
        "validations/rates/2026-11-21.clean.json",
        "validations/shop/2026-11-21.clean.json",
    ]
    assert "validations/rates/2026-11-21.clean.json" in markup.read(page(lake, "index.html")).text


def test_a_huge_result_makes_a_page_of_bounded_size(lake: Lake, result: dict[str, Any]) -> None:
    huge = json.loads(json.dumps(result))
    kinds = {"expect_column_values_to_be_in_set"}
    huge["results"] = [one for one in huge["results"] if one["expectation_config"]["type"] in kinds]
    for one in huge["results"]:
        one["result"]["partial_unexpected_list"] = ["x" * 10_000] * 1_000
        one["expectation_config"]["kwargs"]["value_set"] = ["y" * 10_000] * 1_000
    lake.put_json("validations/shop/2026-11-22.clean.json", huge)
    assert build(lake, ["shop"], 1).left_out == ()
    assert len(page(lake, "shop/2026-11-22.clean.html")) < 1_500_000


def test_failed_only_hides_what_passed_without_a_script(lake: Lake, tmp_path: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    build(lake, ["shop"], 1)
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        window = browser.new_page(viewport={"width": 390, "height": 800})
        window.on("console", lambda message: complaints.append(str(message)))
        window.goto((tmp_path / "lake/data_docs/shop/2026-11-20.clean.html").as_uri())
        assert window.evaluate("document.documentElement.scrollWidth") == 390
        passed, failed = window.get_by_text("values must not be null"), window.get_by_text("values must be greater")
        assert passed.is_visible()
        window.get_by_text("Failed only").click()
        assert not passed.is_visible()
        assert failed.is_visible()
        browser.close()
    assert complaints == []
