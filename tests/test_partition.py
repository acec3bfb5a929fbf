"""Keys of partitions: which exist, what they mean, and that Dagster means the same."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import partitions as dagster_side
from gossamer.errors import PartitionKeyError
from gossamer.partition import Partitions

ZONES = sorted(available_timezones() - {"localtime", "Factory", "posixrules"})
#: Zones with awkward midnights: skipped (Sao Paulo, Beirut, Asuncion, Cairo), doubled (Havana), a day left out (Apia).
AWKWARD = ["Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Pacific/Apia", "Asia/Beirut", "Africa/Cairo"]
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)

moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


@st.composite
def declared(draw: st.DrawFn, zones: list[str] = ZONES) -> Partitions:
    """Partitions that have a period, in any zone."""
    period = draw(st.sampled_from(["hourly", "daily", "weekly", "monthly"]))
    segments = draw(st.lists(st.from_regex(r"[a-z0-9]([a-z0-9_.-]{0,8}[a-z0-9_-])?", fullmatch=True), unique=True))
    zone = "UTC" if period == "hourly" else draw(st.sampled_from(zones))
    return Partitions.model_validate(
        {"period": period, "segments": segments[:3], "timezone": zone, "start": "1970-01-01"}
    )


@given(declared(), moments)
def test_a_crawl_started_now_has_partitions_that_exist(partitions: Partitions, now: datetime) -> None:
    keys = partitions.current_keys(now)
    assert len(keys) == max(1, len(partitions.segments))
    for key in keys:
        parsed = partitions.parse(key, now)
        assert parsed.starts == partitions.period_start(now)
        assert parsed.segment in (partitions.segments or (None,))


@given(declared(), moments)
def test_a_period_begins_at_or_before_each_of_its_moments(partitions: Partitions, now: datetime) -> None:
    start = partitions.period_start(now)
    assert start.astimezone(UTC) <= now
    assert partitions.period_start(start) == start
    assert partitions.period_start(start.astimezone(UTC)).date() == start.date()


@given(declared(AWKWARD), moments, st.integers(0, 26))
def test_all_moments_of_one_key_have_one_start(partitions: Partitions, now: datetime, hours: int) -> None:
    later = now + timedelta(hours=hours)
    if partitions.current_keys(now) == partitions.current_keys(later):
        first, second = (partitions.period_start(moment).astimezone(UTC) for moment in (now, later))
        assert first == second


@given(declared(), st.text())
def test_any_text_as_a_key_is_a_partition_or_refused_in_words(partitions: Partitions, key: str) -> None:
    try:
        assert partitions.parse(key, NOW).key == key
    except PartitionKeyError as refusal:
        message = str(refusal)
    else:
        return
    assert repr(key) in message


@pytest.mark.parametrize(
    ("period", "good", "bad"),
    [
        (
            "hourly",
            "2026-01-05T07",
            ["2026-01-05T7", "2026-01-05", "2026-01-05T24", "2026-01-05T07:00", "2026-01-05 07"],
        ),
        ("daily", "2026-01-05", ["2026-1-5", "2026-01-5", "20260105", "2026-02-30", " 2026-01-05", "2026-01-05\n", ""]),
        ("weekly", "2026-01-05", ["2026-01-06", "2026-01-04", "2026-W02", "2026-01-05|a"]),
        ("monthly", "2026-01", ["2026-1", "2026-13", "2026-01-01", "\uff12026-01", "26-01"]),
    ],
)
def test_one_partition_has_one_name(period: str, good: str, bad: list[str]) -> None:
    partitions = Partitions.model_validate({"period": period})
    assert partitions.parse(good, NOW).period == good
    for key in bad:
        with pytest.raises(PartitionKeyError, match="like '2"):
            partitions.parse(key, NOW)


def test_periods_before_the_start_after_the_end_and_in_the_future_are_refused() -> None:
    partitions = Partitions(period="daily", start=date(2026, 2, 1), end=date(2026, 3, 1))
    assert partitions.parse("2026-02-01", NOW) and partitions.parse("2026-02-28", NOW)
    with pytest.raises(PartitionKeyError, match="the first is 2026-02-01"):
        partitions.parse("2026-01-31", NOW)
    with pytest.raises(PartitionKeyError, match="partitions end at 2026-03-01"):
        partitions.parse("2026-03-01", NOW)
    endless = Partitions(period="daily")
    assert endless.parse("2026-11-20", NOW)
    with pytest.raises(PartitionKeyError, match="in the future; the newest is 2026-11-20"):
        endless.parse("2026-11-21", NOW)


def test_a_schedule_that_ticks_outside_start_and_end_asks_for_nothing() -> None:
    partitions = Partitions(period="daily", start=date(2026, 2, 1), end=date(2026, 3, 1), segments=("a",))
    assert partitions.current_keys(datetime(2026, 1, 31, 23, 59, tzinfo=UTC)) == []
    assert partitions.current_keys(datetime(2026, 2, 28, 23, 59, tzinfo=UTC)) == ["2026-02-28|a"]
    assert partitions.current_keys(datetime(2026, 3, 1, tzinfo=UTC)) == []


def test_the_zone_decides_the_day() -> None:
    berlin = Partitions(period="daily", timezone="Europe/Berlin")
    assert berlin.current_keys(datetime(2026, 11, 20, 23, 30, tzinfo=UTC)) == ["2026-11-21"]
    assert berlin.parse("2026-11-21", datetime(2026, 11, 20, 23, 30, tzinfo=UTC)).period == "2026-11-21"
    with pytest.raises(PartitionKeyError, match="in the future"):
        Partitions(period="daily").parse("2026-11-21", datetime(2026, 11, 20, 23, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("zone", "day", "starts"),
    [
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00+00:00"),  # 23 hours
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00+00:00"),  # 25 hours
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00+00:00"),  # begins at 01:00
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00+00:00"),  # its last hour comes twice
        ("America/Havana", "2026-11-01", "2026-11-01T04:00+00:00"),  # its first hour comes twice
    ],
)
def test_days_on_which_clocks_change_begin_at_their_first_instant(zone: str, day: str, starts: str) -> None:
    partitions = Partitions(period="daily", start=date(2018, 1, 1), timezone=zone)
    first = datetime.fromisoformat(starts)
    for moment in (first, first + timedelta(minutes=90), first + timedelta(hours=22, minutes=59)):
        assert partitions.current_keys(moment) == [day]
        assert partitions.period_start(moment).astimezone(UTC) == first
        assert partitions.parse(day, moment).starts == partitions.period_start(moment)
    assert partitions.current_keys(first - timedelta(seconds=1)) != [day]


def test_segments_and_periods_together_make_keys_of_two_parts() -> None:
    both = Partitions(period="daily", segments=("toys", "example.com"))
    assert both.current_keys(NOW) == ["2026-11-20|toys", "2026-11-20|example.com"]
    parsed = both.parse("2026-11-20|example.com", NOW)
    assert (parsed.period, parsed.segment) == ("2026-11-20", "example.com")
    for key in ("2026-11-20", "toys", "toys|2026-11-20", "2026-11-20|toys|toys", "2026-11-20|Toys", "2026-11-20|", "|"):
        with pytest.raises(PartitionKeyError):
            both.parse(key, NOW)
    alone = Partitions(segments=("toys", "books"))
    assert alone.current_keys(NOW) == ["toys", "books"]
    assert alone.parse("books").starts is None
    with pytest.raises(PartitionKeyError, match="declared: toys, books"):
        alone.parse("games")


@pytest.mark.parametrize(
    "wrong",
    [
        {"period": "hourly", "timezone": "Europe/Berlin"},
        {"period": "weekly", "start": "2026-01-05", "end": "2026-01-14"},
        {"period": "monthly", "end": "2026-03-15"},
        {"period": "daily", "start": "2026-03-01", "end": "2026-03-01"},
        {"period": "daily", "start": 86400},
        {"period": "daily", "start": "86400"},
        {"period": "daily", "start": "0001-01-01"},
        {"period": "daily", "timezone": "localtime"},
        {"start": "2026-01-01", "segments": ["a"]},
        {"segments": ["a", "A"]},
        *(
            {"segments": [segment]}
            for segment in ("a|b", "a/b", "..", ".a", "a.", "", "a b", "a~b", "é", "a" * 65, "a\n")
        ),
    ],
)
def test_partitions_that_cannot_be_kept_apart_or_counted_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Partitions.model_validate(wrong)


starts = st.dates(date(2009, 1, 1), date(2026, 11, 1))
lengths = st.none() | st.integers(1, 400)


@settings(deadline=None)
@given(declared(AWKWARD), starts, lengths, st.integers(0, 60 * 24 * 40))
def test_keys_are_dagsters_own(shape: Partitions, start: date, length: int | None, minutes: int) -> None:
    values: dict[str, object] = {**shape.model_dump(), "start": start}
    if length is not None:
        end = start + timedelta(days=length)
        if shape.period == "weekly":
            end += timedelta(days=-end.weekday() % 7)
        elif shape.period == "monthly":
            end = (end.replace(day=1) + timedelta(days=32)).replace(day=1)
        values["end"] = end
    partitions = Partitions.model_validate(values)
    # Not before the start: Dagster has the first period there already when it is the next one.
    now = partitions.period_start(
        datetime.combine(start, datetime.min.time(), UTC) + timedelta(days=1, minutes=minutes)
    )
    now = now.astimezone(UTC)

    keys = dagster_side.build(partitions).get_partition_keys(current_time=now)

    for key in keys:
        assert partitions.parse(key, now).key == key
    assert set(partitions.current_keys(now)) <= set(keys)
    if not partitions.segments:
        # The neighbours of Dagster's first and last key: its own last key is not followed by one that only we have.
        step = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(days=7)}
        edge = partitions.period_start(datetime.combine(start, datetime.min.time(), ZoneInfo(partitions.timezone)))
        before = (edge.replace(tzinfo=None) - step.get(partitions.period or "", timedelta(days=1))).strftime(
            partitions.key_format
        )
        with pytest.raises(PartitionKeyError):
            partitions.parse(before, now)
        if keys:
            assert keys[0] == edge.strftime(partitions.key_format)
            last = datetime.strptime(keys[-1], partitions.key_format)
            after = last + step.get(partitions.period or "", timedelta(days=31))
            with pytest.raises(PartitionKeyError):
                partitions.parse(after.strftime(partitions.key_format), now)


def test_a_weekly_source_that_starts_on_no_monday_begins_with_that_week_for_us_and_for_dagster() -> None:
    partitions = Partitions(period="weekly", start=date(2026, 1, 6))
    assert dagster_side.build(partitions).get_partition_keys(current_time=NOW)[0] == "2026-01-05"
    assert partitions.parse("2026-01-05", NOW)
    with pytest.raises(PartitionKeyError, match="the first is 2026-01-05"):
        partitions.parse("2025-12-29", NOW)
