"""Rows that fail a critical expectation are set aside with the reason, and none is lost or doubled."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.quality.quarantine import Failing, part


def failing(demand: str, rows: list[int], *columns: str) -> Failing:
    return Failing("expect_x", demand, columns, pl.Series(rows, dtype=pl.UInt32))


@given(height=st.integers(0, 30), data=st.data())
def test_every_row_is_on_one_side_in_its_order_with_each_of_its_reasons(height: int, data: st.DataObject) -> None:
    places = st.lists(st.integers(0, height - 1), unique=True) if height else st.just([])
    wrong = data.draw(st.lists(places, max_size=3))
    frame = pl.DataFrame({"n": range(height)}, schema={"n": pl.Int64})
    parted = part(frame.lazy(), height, [failing(f"demand {i}", rows) for i, rows in enumerate(wrong)])
    kept, aside = parted.kept.collect(engine="streaming"), parted.quarantined.collect(engine="streaming")
    out = sorted({row for rows in wrong for row in rows})
    assert kept["n"].to_list() == [n for n in range(height) if n not in out]
    assert aside["n"].to_list() == out
    reasons = ["; ".join(f"demand {i}" for i, rows in enumerate(wrong) if row in rows) for row in out]
    assert aside["_reason"].to_list() == reasons
    assert [len(names) for names in aside["_expectation"].to_list()] == [sum(r in rows for rows in wrong) for r in out]
    assert kept.columns == ["n"] and aside.columns == ["n", "_expectation", "_reason"]


def test_the_reason_quotes_what_the_row_has_and_no_more_of_it_than_can_be_read() -> None:
    frame = pl.DataFrame({"price": [-5.0, None], "name": ["x" * 5000, "y"], "tags": [["a"], ["b"]]}).lazy()
    demands = [failing("price must be at least 0", [0, 1], "price"), failing("names differ", [0], "name", "price")]
    reasons = part(frame, 2, [*demands, failing("tags", [1], "tags")]).quarantined.collect()["_reason"]
    assert reasons[0].startswith("price must be at least 0: -5.0; names differ: xxx") and len(reasons[0]) < 300
    assert reasons[1] == "price must be at least 0: no value; tags"


@pytest.mark.parametrize("rows", [0, 3])
def test_without_failures_the_quarantine_has_its_columns_and_no_rows(rows: int) -> None:
    parted = part(pl.DataFrame({"n": range(rows)}).lazy(), rows, [])
    assert parted.kept.collect().height == rows and parted.by == {}
    aside = parted.quarantined.collect()
    assert aside.is_empty() and aside.schema["_expectation"] == pl.List(pl.String)
