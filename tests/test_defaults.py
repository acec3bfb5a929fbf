"""The default checks and the history they judge by, as a source's owner meets them: alarms, and what is none."""

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import LakeError
from gossamer.lake import Lake
from gossamer.quality import defaults, history
from gossamer.quality.bounds import around
from gossamer.quality.finding import Finding
from gossamer.quality.profile import FieldProfile, Profile
from gossamer.source import Source, SourceSpec

MONDAY = date(2026, 6, 1)
FIELDS = {"sku": "str", "name": "str", "price": "money", "sold": "bool", "made": "date"}


def shop(*, ignore: Sequence[str] = (), required: Sequence[str] = (), **partitions: Any) -> Source:
    declared = {
        "name": "shop",
        "spider": "spider:Shop",
        "seeds": {"urls": ["https://shop.example/"]},
        "partitions": partitions or {"period": "daily"},
        "record": {"key": "sku", "fields": FIELDS, "required": list(required)},
        "checks": {"ignore": list(ignore)},
    }
    return Source(SourceSpec.model_validate(declared), Path("sources/shop"))


def day(number: int) -> str:
    return str(MONDAY + timedelta(days=number))


def morning(of: date) -> datetime:
    return datetime(of.year, of.month, of.day, 5, tzinfo=UTC)


def known(partition: str, rows: int = 1000, **changes: Any) -> Profile:
    """The statistics of an ordinary partition; `changes` go over them, those of a field by its name."""
    fetched = morning(date.fromisoformat(partition[:10]) if partition[:1].isdigit() and len(partition) > 9 else MONDAY)
    fields = {
        "sku": FieldProfile(kind="str", fill=1, distinct=1, quantiles=(4.0,) * 7, measured="length"),
        "name": FieldProfile(
            kind="str", fill=1, distinct=0.99, quantiles=(2, 5, 20, 35, 50, 80, 90), measured="length"
        ),
        "price": FieldProfile(
            kind="money", fill=1, distinct=0.9, quantiles=(1, 5, 20, 40, 60, 90, 99), measured="number"
        ),
        "price_currency": FieldProfile(
            fill=1, distinct=0.001, shares={"EUR": 1.0}, quantiles=(3.0,) * 7, measured="length"
        ),
        "sold": FieldProfile(kind="bool", fill=1, distinct=0.002, shares={"true": 0.2, "false": 0.8}),
    }
    fields = {name: field.model_copy(update=changes.pop(name, {})) for name, field in fields.items()}
    return Profile(
        **{"source": "shop", "partition": partition, "rows": rows, "fields": fields, "fetched_at": fetched} | changes
    )


def before(count: int = 10, **changes: Any) -> list[Profile]:
    return [known(day(number), **changes) for number in range(count)]


def judge(profile: Profile, past: Sequence[Profile], source: Source | None = None, **more: Any) -> list[Finding]:
    found = defaults.judge(source or shop(), profile, past, now=datetime(2026, 12, 1, tzinfo=UTC), **more)
    json.dumps([finding.model_dump(mode="json") for finding in found], allow_nan=False)
    names = [(finding.kind, finding.field) for finding in found]
    assert len(names) == len(set(names)), "kind and field name a check"
    return found


def failed(found: Sequence[Finding]) -> dict[str, str]:
    return {f"{f.kind}:{f.field}".rstrip(":"): f.severity for f in found if f.failed}


def one(found: Sequence[Finding], kind: str, field: str = "") -> Finding:
    return next(finding for finding in found if (finding.kind, finding.field) == (kind, field))


# -- history ----------------------------------------------------------------------------------------------------------


def test_without_a_history_nothing_is_guessed() -> None:
    odd = known(day(6), rows=1, name={"fill": 0.1, "distinct": 0.1})
    found = judge(odd, before(6))
    assert not failed(found)
    assert one(found, "row_count").state == "no history"
    assert one(found, "row_count").summary == "rows: 1; no history yet: 6 of 7 accepted partitions"
    assert one(found, "fill_rate", "name").state == one(found, "categories", "sold").state == "no history"


def test_what_the_declaration_says_is_judged_without_a_history() -> None:
    broken = known(day(0), price={"unparsed": 0.6, "fill": 0.4}, name={"fill": 0.75, "damaged": 0.3}, duplicates=500)
    found = judge(broken, [], shop(required=["name"]))
    assert failed(found) == {
        "declared_type:price": "critical",
        "required:name": "critical",
        "duplicates": "warning",
        "encoding:name": "critical",
    }
    assert one(found, "required", "name").unexpected == 250
    assert one(found, "declared_type", "price").unexpected == 600
    assert not failed(judge(known(day(0), price={"unparsed": 0.01}), []))


def test_a_field_that_is_new_has_no_history_though_the_source_has() -> None:
    past = [p.model_copy(update={"fields": {k: f for k, f in p.fields.items() if k != "name"}}) for p in before()]
    found = judge(known(day(10), name={"fill": 0.2}), past)
    assert one(found, "fill_rate", "name").state == "no history" and not failed(found)


def test_a_finding_says_what_changed_since_when_and_by_how_much() -> None:
    past = [*before(9), known(day(9), name={"fill": 0.5})]
    finding = one(judge(known(day(10), name={"fill": 0.4}), past), "fill_rate", "name")
    assert (finding.state, finding.severity, finding.observed) == ("failed", "critical", 0.4)
    assert (finding.since, finding.compared, finding.unexpected) == (day(8), 8, 600)
    assert finding.low == pytest.approx(0.966, abs=0.01) and finding.high is None
    assert finding.summary == (
        "rows with name: 40.0 %, usually 100 % (8 accepted partitions, working days); expected at least 96.6 %; "
        "last so in 2026-06-09"
    )


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "severity"), [(0, "critical"), (500, "critical"), (700, "warning"), (1400, "warning")]
)
def test_rows_that_are_lost_or_too_many_are_noticed(rows: int, severity: str) -> None:
    assert failed(judge(known(day(10), rows=rows), before()))["row_count"] == severity


@pytest.mark.parametrize("rows", [800, 950, 1000, 1200])
def test_a_history_that_never_moved_is_no_hair_trigger(rows: int) -> None:
    assert not failed(judge(known(day(10), rows=rows, name={"fill": 0.98}), before()))


def test_slow_growth_is_no_alarm_and_its_end_neither() -> None:
    past = [known(day(number), rows=1000 + 80 * number) for number in range(20)]
    assert not failed(judge(known(day(20), rows=2600), past))
    assert not failed(judge(known(day(20), rows=2520), past))
    assert failed(judge(known(day(20), rows=1000), past)) == {"row_count": "critical"}


def test_one_odd_partition_that_was_accepted_moves_no_bound() -> None:
    past = [*before(9), known(day(9), rows=100, price_currency={"shares": {"USD": 1.0}})]
    assert not failed(judge(known(day(10)), past))
    assert failed(judge(known(day(10), rows=300), past)) == {"row_count": "critical"}


def test_a_new_level_is_usual_once_three_in_a_row_were_accepted() -> None:
    dollars: dict[str, Any] = {"rows": 300, "price_currency": {"shares": {"USD": 1.0}}}
    past = [*before(9), *(known(day(9 + number), **dollars) for number in range(6))]
    assert {"row_count", "currency:price"} <= failed(judge(known(day(11), **dollars), past[:11])).keys()
    assert not failed(judge(known(day(12), **dollars), past[:12]))
    assert failed(judge(known(day(12), rows=30), past[:12])) == {"row_count": "critical"}


def test_days_are_compared_with_days_of_their_kind() -> None:
    past = [known(day(n), rows=200 if n % 7 >= 5 else 1000) for n in range(70)]
    saturday, monday = known(day(75), rows=200), known(day(77), rows=200)
    found = judge(saturday, past)
    assert not failed(found) and "Saturdays" in one(found, "row_count").summary
    assert failed(judge(monday, past)) == {"row_count": "critical"}
    few = past[:28]
    assert "weekends" in one(judge(known(day(33), rows=200), few), "row_count").summary
    assert "weekends" not in one(judge(known(day(12), rows=1000), past[:12]), "row_count").summary


@settings(max_examples=50)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=21),
    st.floats(-30, 30),
    st.floats(0.001, 100),
)
def test_what_is_usual_is_within_its_bounds(values: list[float], at: float, slack: float) -> None:
    bounds = around([(float(number - 10), value) for number, value in enumerate(values)], at, lambda _: slack)
    assert bounds.low <= bounds.usual - slack and bounds.usual + slack <= bounds.high
    constant = around([(float(number), 5.0) for number in range(len(values))], at, lambda _: slack)
    assert constant.low == pytest.approx(5 - slack) and constant.high == pytest.approx(5 + slack)


# -- checks -----------------------------------------------------------------------------------------------------------

CASES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("currency", {"price_currency": {"shares": {"USD": 1.0}}}, {"currency:price": "critical"}),
    ("some in dollars", {"price_currency": {"shares": {"EUR": 0.9, "USD": 0.1}}}, {"currency:price": "warning"}),
    ("no currency", {"price_currency": {"fill": 0.0, "shares": None}}, {"fill_rate:price_currency": "critical"}),
    ("flags turned", {"sold": {"shares": {"true": 0.95, "false": 0.05}}}, {"categories:sold": "critical"}),
    ("flags one", {"sold": {"shares": {"false": 1.0}}}, {"categories:sold": "warning"}),
    (
        "prices in cents",
        {"price": {"quantiles": (100, 500, 2000, 4000, 6000, 9000, 9900)}},
        {"distribution:price": "critical"},
    ),
    ("prices doubled", {"price": {"quantiles": (2, 30, 90, 140, 200, 240, 250)}}, {"distribution:price": "warning"}),
    ("prices equal", {"price": {"distinct": 0.001}}, {"distinct_rate:price": "critical"}),
    ("names cut", {"name": {"quantiles": (2, 5, 8, 8, 8, 8, 8)}}, {"length:name": "warning"}),
    ("HTML", {"name": {"markup": 0.5}}, {"markup:name": "warning"}),
    ("N/A", {"name": {"placeholders": 0.9}}, {"placeholders:name": "critical"}),
    ("walls", {"walls": {"block page": 0.1}}, {"block_pages": "critical"}),
    ("one page", {"same_page": 0.9, "repeats": 0.9}, {"same_page": "critical", "repeats": "critical"}),
    ("failed requests", {"dead": {"blocked": 30}}, {"error_pages": "warning"}),
    ("robots", {"excluded": {"robots": 60}}, {"robots": "warning"}),
    ("pages", {"pages": 40}, {"pages": "warning"}),
    ("hosts", {"hosts": {"mirror.example": 1.0}}, {"hosts": "critical"}),
    ("another name", {"undeclared": {"offer": 1.0}}, {"undeclared": "warning"}),
    ("older pages", {"fetched_at": datetime(2026, 6, 1, tzinfo=UTC) - timedelta(days=60)}, {"freshness": "warning"}),
    ("pages of next year", {"fetched_at": datetime(2027, 6, 1, tzinfo=UTC)}, {"freshness": "warning"}),
]


@pytest.mark.parametrize(("changes", "alarms"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_change_is_an_alarm_of_its_own_kind(changes: dict[str, Any], alarms: dict[str, str]) -> None:
    usual: dict[str, Any] = {"pages": 100, "hosts": {"shop.example": 1.0}}
    assert failed(judge(known(day(10), **usual | changes), before(**usual))) == alarms


@pytest.mark.parametrize(
    ("rows", "share", "severity"),
    [(15, 1 / 15, "warning"), (15, 3 / 15, "critical"), (2, 0.5, "critical"), (1000, 0.06, "critical")],
)
def test_one_honest_title_does_not_keep_a_young_source_back_but_a_wall_does(
    rows: int, share: float, severity: str
) -> None:
    assert failed(judge(known(day(0), rows, walls={"block page": share}), [])) == {"block_pages": severity}


def dates(last: date, spread_days: int) -> dict[str, FieldProfile]:
    newest = datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp()
    quantiles = tuple(newest - 86400 * spread_days * (1 - share) for share in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
    return {"made": FieldProfile(kind="date", fill=1, distinct=0.5, quantiles=quantiles, measured="time")}


def test_dates_are_judged_by_their_age() -> None:
    def news(number: int, last: int, years: int = 0) -> Profile:
        made = dates(MONDAY + timedelta(days=last) - timedelta(days=365 * years), 300)
        return known(day(number)).model_copy(update={"fields": made})

    past = [news(number, number) for number in range(10)]
    assert not failed(judge(news(10, 10), past))
    assert failed(judge(news(10, 2), past)) == {"freshness:made": "warning"}
    assert failed(judge(news(10, 10, years=100), past)) == {
        "distribution:made": "critical",
        "freshness:made": "warning",
    }
    old = [news(number, number, years=5) for number in range(10)]
    assert not failed(judge(news(10, 0, years=5), old)), "nobody expects new dates of old things"


def moving(number: int) -> Profile:
    """A day on which each fifth record has a new price."""
    return sketched(day(number), lambda record: record, lambda record: record + number * (record % 5 == 0))


def sketched(partition: str, name: Callable[[int], int], price: Callable[[int], int]) -> Profile:
    digests = {f"{number:012x}": f"{name(number):04x}{price(number):04x}" for number in range(100)}
    return known(partition).model_copy(update={"sketched": ("name", "price"), "sketch": digests})


def test_records_that_all_hold_other_values_are_an_alarm() -> None:
    past = [moving(number) for number in range(10)]
    found = judge(sketched(day(10), lambda r: r + 1, lambda r: r + 10 * (r % 5 == 0)), past)
    assert failed(found) == {"changes:name": "critical"}, "each record has the name of the next"
    assert failed(judge(sketched(day(10), lambda r: r, lambda r: r + 1000), past)) == {"changes:price": "warning"}
    repaired = [*past[:9], sketched(day(9), lambda r: r + 1, lambda r: r)]
    assert not failed(judge(sketched(day(10), lambda r: r, lambda r: r + 10 * (r % 5 == 0)), repaired))


def test_a_site_that_stands_still_serves_old_pages() -> None:
    past = [moving(number) for number in range(10)]
    found = judge(past[-1].model_copy(update={"partition": day(10), "fetched_at": None}), past)
    assert failed(found) == {"freshness": "warning"} and day(9) in one(found, "freshness").summary
    still = [sketched(day(n), lambda r: r, lambda r: r) for n in range(10)]
    assert not failed(judge(still[-1].model_copy(update={"partition": day(10), "fetched_at": None}), still)), (
        "as it always does"
    )


def test_categories_that_vanish_or_are_new_are_named() -> None:
    usual = {"shares": {"lamps": 0.5, "beds": 0.4, "mats": 0.1}}
    past = before(name=usual)
    gone = judge(known(day(10), name={"shares": {"lamps": 0.56, "beds": 0.44}}), past)
    assert failed(gone) == {"categories:name": "warning"}
    assert "gone: mats; mats 0 %, usually 10.0 %" in one(gone, "categories", "name").summary
    new = judge(known(day(10), name={"shares": {"lamps": 0.47, "beds": 0.37, "mats": 0.1, "cars": 0.06}}), past)
    assert "new: cars" in one(new, "categories", "name").summary
    assert not failed(judge(known(day(10), name={"shares": {"lamps": 0.45, "beds": 0.42, "mats": 0.13}}), past))


def test_checks_that_are_ignored_are_not_made() -> None:
    broken = known(day(10), rows=10, name={"fill": 0.1}, price={"fill": 0.1})
    found = judge(broken, before(), shop(ignore=["row_count", "fill_rate:name"]))
    assert failed(found) == {"fill_rate:price": "critical"}
    assert not any(f.kind == "row_count" or (f.kind, f.field) == ("fill_rate", "name") for f in found)


_numbers = st.floats(allow_nan=False, allow_infinity=False)
_shares = st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=3) | st.none()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.lists(_numbers, min_size=7, max_size=7), _shares, st.integers(0, 9)), min_size=8, max_size=9)
)
def test_whatever_the_history_each_check_has_an_answer(
    drawn: list[tuple[list[float], dict[str, float] | None, int]],
) -> None:
    days = [
        known(
            day(number), rows=rows, price={"quantiles": tuple(sorted(values))}, name={"shares": shares, "hosts": shares}
        )
        for number, (values, shares, rows) in enumerate(drawn)
    ]
    for finding in judge(days[-1], days[:-1]):
        assert finding.summary
        if finding.state == "passed" and isinstance(finding.observed, float):
            assert finding.low is None or finding.observed >= finding.low - 1e-6 * abs(finding.low)
            assert finding.high is None or finding.observed <= finding.high + 1e-6 * abs(finding.high)


# -- samples ----------------------------------------------------------------------------------------------------------


def test_a_failure_shows_some_rows_with_their_pages_and_keys() -> None:
    rows = pl.DataFrame(
        {
            "sku": [f"s{number}" for number in range(100)],
            "name": [None if number >= 40 else f"Lamp {number}" for number in range(100)],
            "price_currency": ["USD"] * 100,
            "_url": [f"https://shop.example/{number}" for number in range(99)] + ["https://shop.example/" + "x" * 5000],
        }
    )
    now = known(day(10), rows=1000, name={"fill": 0.4}, price_currency={"shares": {"USD": 1.0}})
    found = judge(now, before(), frame=rows.lazy())
    sample = one(found, "fill_rate", "name").sample
    assert len(sample) == 5
    assert sample[0] == {"value": None, "url": "https://shop.example/40", "key": {"sku": "s40"}}
    assert one(found, "currency", "price").sample[0]["value"] == "USD"
    assert all(not finding.sample for finding in found if not finding.failed)
    last = judge(known(day(10), name={"fill": 0.4}), before(), frame=rows.tail(1).lazy())
    assert one(last, "fill_rate", "name").sample[0]["url"] is None, "half an address leads nowhere"


def test_failed_requests_are_shown_by_their_addresses() -> None:
    now = known(day(10), pages=100, dead={"blocked": 50}, examples={"blocked": ("https://shop.example/7",)})
    finding = one(judge(now, before(pages=100), frame=pl.LazyFrame({"sku": ["a"]})), "error_pages")
    assert finding.sample == ({"value": "blocked", "url": "https://shop.example/7", "key": {}},)
    assert "50 blocked" in finding.summary and finding.severity == "critical"


# -- the lake ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def test_the_history_is_what_was_published_before_in_the_same_segment(lake: Lake) -> None:
    source = shop(period="daily", segments=["de", "fr"])
    for number in range(12):
        for segment in ("de", "fr"):
            history.record(lake, known(f"{day(number)}|{segment}"))
    history.forget(lake, "shop", f"{day(3)}|de")
    history.forget(lake, "shop", "never|there")
    read = [found.partition for found in history.read(lake, source, f"{day(9)}|de")]
    assert read == [f"{day(number)}|de" for number in range(9) if number != 3]


def test_reading_takes_a_bounded_number_of_objects(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        history.record(lake, known(day(number)))
    asked: list[str] = []
    get = Lake.get

    def counted(lake: Lake, path: str) -> bytes | None:
        asked.append(path)
        return get(lake, path)

    monkeypatch.setattr(Lake, "get", counted)
    found = [p.partition for p in history.read(lake, shop(), day(100))]
    assert len(asked) == len(found) <= history.LIMIT and found == sorted(found)
    assert found[-7:] == [day(number) for number in range(93, 100)]
    same = [key for key in found if date.fromisoformat(key).weekday() == date.fromisoformat(day(100)).weekday()]
    assert len(same) >= history.LEAST
    assert len(history.read(lake, shop(), day(100), limit=9)) <= 9


def test_the_objects_of_the_history_are_read_at_once_and_stay_in_order(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        history.record(lake, known(day(number)))
    together, get = threading.Barrier(4), Lake.get

    def waiting(self: Lake, path: str) -> bytes | None:
        together.wait(10)  # broken if no others are being read meanwhile
        return get(self, path)

    monkeypatch.setattr(Lake, "get", waiting)
    assert [p.partition for p in history.read(lake, shop(), day(8))] == [day(number) for number in range(8)]


def test_a_backfill_that_goes_backwards_is_judged_by_what_came_after(lake: Lake) -> None:
    for number in range(2, 20):
        history.record(lake, known(day(number)))
    assert [p.partition for p in history.read(lake, shop(), day(1))] == [day(number) for number in range(2, 9)]
    past = history.read(lake, shop(), day(4))
    assert [p.partition for p in past] == [day(number) for number in (2, 3, 5, 6, 7, 8, 9)]
    found = judge(known(day(4), rows=100), past)
    assert failed(found) == {"row_count": "critical"}
    assert "7 accepted partitions, 5 of them after it" in one(found, "row_count").summary


def test_a_source_without_periods_is_judged_by_its_own_publications(lake: Lake) -> None:
    source = shop(segments=["de", "fr"])
    for number in range(20):
        history.record(lake, known("de", version=f"v{number}"))
    history.record(lake, known("de", version="v19"))
    past = history.read(lake, source, "de")
    assert [p.version for p in past] == [f"v{number}" for number in range(8, 20)]
    assert history.read(lake, source, "fr") == []
    assert failed(judge(known("de", rows=100), past, source)) == {"row_count": "critical"}


def test_a_crawl_that_is_made_again_is_one_publication_and_not_compared_with_itself(lake: Lake) -> None:
    source = shop(segments=["de", "fr"])
    for number in range(8):
        history.record(lake, known("de", version=f"v{number}", crawl_id=f"crawl{number}"))
    history.record(lake, known("de", rows=900, version="checked again", crawl_id="crawl7"))
    past = history.read(lake, source, "de")
    assert [p.version for p in past] == [*(f"v{number}" for number in range(7)), "checked again"]
    assert history.read(lake, source, "de", crawl_id="crawl7") == past[:-1]
    assert [p.version for p in history.read(lake, source, "de", limit=2, crawl_id="crawl7")] == ["v5", "v6"]


def test_partitions_of_an_older_declaration_are_no_history(lake: Lake) -> None:
    for key in ("2026-05", "2026-05-01T07", "de", f"{day(0)}|de", day(1)):
        history.record(lake, known(key))
    assert [p.partition for p in history.read(lake, shop(), day(5))] == [day(1)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"publications": [{"source": 3}]}', b"\xff"])
def test_a_broken_object_is_named_with_its_remedy(lake: Lake, content: bytes) -> None:
    history.record(lake, known(day(0)))
    lake.put(f"statistics/shop/{day(1)}.json", content)
    with pytest.raises(LakeError, match=rf"statistics/shop/{day(1)}\.json is no statistics.*Delete it"):
        history.read(lake, shop(), day(5))
    history.forget(lake, "shop", day(1))
    assert len(history.read(lake, shop(), day(5))) == 1
