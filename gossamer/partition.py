"""Partitions of a source: what a declaration may say, which keys it has, and what a key means.

A partition is a period (hour, day, week, month), a segment (one of a static list), or both. Keys are text:
`2026-11-20`, `toys`, `2026-11-20|toys`. How Dagster sees them is in the top-level `partitions/`; here is what the
engine, the lake and the command line need.

The current period is a partition too: a crawl shows a site as it is while the crawl runs, so the partition of a day is
what was seen on that day, not what was known when it was over.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from gossamer.errors import PartitionKeyError
from gossamer.strict import Strict

Period = Literal["hourly", "daily", "weekly", "monthly"]

#: How a period's key is written (`strftime`). Weeks are named by their Monday.
KEY_FORMATS: dict[Period, str] = {
    "hourly": "%Y-%m-%dT%H",
    "daily": "%Y-%m-%d",
    "weekly": "%Y-%m-%d",
    "monthly": "%Y-%m",
}

#: Segments are parts of file names, URLs and Dagster's keys: letters that mean nothing in any of them.
SEGMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-])?")
SEPARATOR = "|"


@cache
def _time_zones() -> frozenset[str]:
    # Files that stand beside the zones and mean something else on every machine.
    return frozenset(available_timezones() - {"localtime", "Factory", "posixrules"})


def _known_time_zone(name: str) -> str:
    if name not in _time_zones():
        raise ValueError(f"{name!r} is not a time zone; use a name of the IANA list, such as UTC or Europe/Berlin")
    return name


def _calendar_date(value: object) -> object:
    # Pydantic would also take a number, as seconds since 1970.
    if value is None or isinstance(value, date) or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value)):
        return value
    raise ValueError(f"{value!r} is not a date; write it like 2026-01-31")


def _after_1970(day: date) -> date:
    # No site is older, and years before 1000 are written differently from machine to machine.
    if day.year < 1970:
        raise ValueError(f"{day} is before the web; give a date from 1970-01-01 on")
    return day


TimeZone = Annotated[str, AfterValidator(_known_time_zone)]
CalendarDate = Annotated[
    date, BeforeValidator(_calendar_date, json_schema_input_type=date), AfterValidator(_after_1970)
]


@dataclass(frozen=True)
class Slice:
    """What one partition key stands for. `starts` is the period's first instant, None for a source without periods."""

    key: str
    period: str | None
    segment: str | None
    starts: datetime | None


class Partitions(Strict):
    """How a source is cut into partitions: by period, by segment, or by both."""

    period: Period | None = Field(None, description="hourly, daily, weekly (from Monday) or monthly")
    start: CalendarDate | None = Field(
        None, description="a date in the first period; 2026-01-01 if it is not given (weeks: that week's Monday)"
    )
    end: CalendarDate | None = Field(None, description="periods that begin on or after this date do not exist")
    timezone: TimeZone = Field("UTC", description="time zone in which the periods begin, e.g. Europe/Berlin")
    segments: tuple[str, ...] = Field((), description="static slices, e.g. countries or shops")

    @model_validator(mode="before")
    @classmethod
    def _daily_unless_segments_are_named(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("period") and not data.get("segments"):
            return {**data, "period": "daily"}
        return data

    @field_validator("segments")
    @classmethod
    def _plain_segments(cls, segments: tuple[str, ...]) -> tuple[str, ...]:
        for segment in segments:
            if not SEGMENT.fullmatch(segment):
                raise ValueError(
                    f"{segment!r} cannot be a partition key; use letters, digits, '.', '_' and '-' (64 at most, "
                    "a letter or digit first, no '.' last)"
                )
            if segment == "index":
                raise ValueError("'index' cannot be a partition key: it is the page of the source; choose another name")
        if twice := {s for s in segments if [t.casefold() for t in segments].count(s.casefold()) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))}: named twice (upper and lower case are one); remove one")
        return segments

    @model_validator(mode="after")
    def _sensible(self) -> "Partitions":
        if self.period is None and (self.start or self.end):
            raise ValueError("start and end belong to a period; add `period: daily` (or hourly, weekly, monthly)")
        if self.end and self.end <= self.first_date:
            raise ValueError(f"end {self.end} is not after start {self.first_date}; give a later end")
        if self.end and self._first_day(self.end) != self.end:
            raise ValueError(f"end {self.end} is within a period; give the first day of a week (Monday) or month")
        if self.period == "hourly" and self.timezone != "UTC":
            raise ValueError("hourly partitions are in UTC (an hour is missing or doubled elsewhere); remove timezone")
        return self

    @property
    def first_date(self) -> date:
        """The date on which the first period begins."""
        return self._first_day(self.start or date(2026, 1, 1))

    @property
    def key_format(self) -> str:
        """The `strftime` form of a period's key."""
        return KEY_FORMATS[self.period or "daily"]

    def period_start(self, moment: datetime) -> datetime:
        """The first instant of the period that `moment` (aware) falls into, in the partitions' time zone."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        if self.period == "hourly":
            return local.replace(minute=0, second=0, microsecond=0)
        # Midnight as the calendar has it: where clocks go back over it, the first of the two (fold 0).
        return datetime.combine(self._first_day(local.date()), datetime.min.time(), local.tzinfo)

    def _first_day(self, day: date) -> date:
        if self.period == "weekly":
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self.period == "monthly" else day

    def current_keys(self, moment: datetime) -> list[str]:
        """The keys that a crawl started at `moment` (aware) fills: the current period, once for each segment.

        None before the first period begins, and none from `end` on.
        """
        if self.period:
            today = self.period_start(moment).date()
            if today < self.first_date or (self.end and today >= self.end):
                return []
        return self._keys(moment)

    def _keys(self, moment: datetime) -> list[str]:
        if self.period is None:
            return list(self.segments)
        period = self.period_start(moment).strftime(self.key_format)
        return [f"{period}{SEPARATOR}{segment}" for segment in self.segments] or [period]

    def parse(self, key: str, now: datetime | None = None) -> Slice:
        """What `key` stands for.

        Raises:
            PartitionKeyError: the source has no such partition; the text shows what its keys look like.
        """
        period, segment = self._split(key)
        if segment is not None and segment not in self.segments:
            raise PartitionKeyError(f"partition {key!r}: no segment {segment!r}; declared: {', '.join(self.segments)}")
        if period is None:
            return Slice(key, None, segment, None)
        starts = self._parse_period(key, period)
        now = now or datetime.now(ZoneInfo("UTC"))
        if starts.date() < self.first_date:
            first_key = self.first_date.strftime(self.key_format)
            raise PartitionKeyError(f"partition {key!r} is before the first one; the first is {first_key}")
        if starts > now:
            raise PartitionKeyError(f"partition {key!r} is in the future; the newest is {self._keys(now)[0]}")
        if self.end and starts.date() >= self.end:
            raise PartitionKeyError(f"partition {key!r} is after the last one; partitions end at {self.end}")
        return Slice(key, period, segment, starts)

    def _split(self, key: str) -> tuple[str | None, str | None]:
        parts = key.split(SEPARATOR)
        if self.period and self.segments:
            if len(parts) == 2:
                return parts[0], parts[1]
            raise PartitionKeyError(
                f"partition {key!r}: a key here is a period and a segment, like {self._example()!r}"
            )
        if len(parts) != 1:
            raise PartitionKeyError(f"partition {key!r}: a key here is one part, like {self._example()!r}")
        return (key, None) if self.period else (None, key)

    def _parse_period(self, key: str, period: str) -> datetime:
        try:
            starts = datetime.strptime(period, self.key_format).replace(tzinfo=ZoneInfo(self.timezone))
        except ValueError as error:
            raise PartitionKeyError(f"partition {key!r}: write it like {self._example()!r}") from error
        # strptime also takes 2026-1-5, and any weekday as a week; one partition has one name.
        if self.period_start(starts).strftime(self.key_format) != period:
            raise PartitionKeyError(f"partition {key!r}: write it like {self._example()!r}")
        return starts

    def _example(self) -> str:
        return self._keys(datetime.now(ZoneInfo("UTC")))[0]
