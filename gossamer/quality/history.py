"""The statistics of a source's accepted partitions, in the lake, and which of them a partition is compared with.

One object a partition, `statistics/<source>/<key>.json`, written when it was published. It keeps the last few
publications, one a crawl: those of a source without periods, whose segments are published again and again, are all its
history.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

from pydantic import BaseModel, ValidationError

from gossamer.errors import LakeError
from gossamer.lake import Lake, object_path
from gossamer.partition import SEPARATOR
from gossamer.quality.profile import Profile
from gossamer.source import Source

LAYER = "statistics"
#: Fewer accepted partitions say nothing of what is usual.
LEAST = 7
#: Objects read at most, and among how many of the nearest partitions they are chosen.
LIMIT = 28
_FAR = 120
#: Publications of one partition that are kept.
_KEPT = 12
_READERS = 8
_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_SATURDAY = 5


class _Statistics(BaseModel):
    """The object of one partition."""

    publications: tuple[Profile, ...]


def record(lake: Lake, profile: Profile) -> None:
    """Makes a partition that was published a part of the history; to be called again does no harm.

    What was made of the same crawl before, as by another suite, is no longer a part of it.
    """
    path = _path(profile.source, profile.partition)
    earlier = _without(_read(lake, path), profile.crawl_id)
    earlier = [known for known in earlier if not known.version or known.version != profile.version]
    kept = [*earlier, profile][-_KEPT:]
    lake.put(path, _Statistics(publications=tuple(kept)).model_dump_json(exclude_defaults=True).encode())


def forget(lake: Lake, source: str, key: str) -> None:
    """Takes a partition out of the history."""
    lake.delete(_path(source, key))


def read(lake: Lake, source: Source, key: str, limit: int = LIMIT, crawl_id: str = "") -> list[Profile]:
    """What a partition is compared with: accepted ones of its segment before it, oldest first, at most `limit`.

    Of a source with periods, the newest of its class of weekdays (see `alike`) and the newest of all. Where fewer than
    `LEAST` lie before it, as in a backfill that goes backwards, the nearest after it are taken as well, up to `LEAST`:
    a site's neighbours in time are alike on both sides, and without them such a backfill could not be judged. Of a
    source without periods, its own earlier publications, but for those of the crawl `crawl_id`: made once more of the
    same crawl, a partition is not compared with itself.

    Raises:
        LakeError: the lake cannot be read, or an object of the history is broken.
    """
    if not source.spec.partitions.period:
        return _without(_read(lake, _path(source.name, key)), crawl_id)[-limit:]
    near = _near(source, key, _keys(lake, source.name))
    chosen = {*alike(source, key, near)[0][-max(1, limit - LEAST) :], *near[-LEAST:]}
    newest = [name for name in near if name in chosen][-limit:]
    with ThreadPoolExecutor(_READERS) as readers:  # S3 takes some time for each
        read = readers.map(lambda name: _read(lake, _path(source.name, name)), newest)
        return [known for publications in read for known in publications[-1:]]


def alike(source: Source, key: str, keys: Sequence[str]) -> tuple[list[str], str]:
    """The keys that a partition is fairly compared with, and their class in words ("" for all of them).

    Days are compared with days of the same weekday, if there are `LEAST` of them; else with working days or with days
    of the weekend, if there are as many; else with all. Other periods are compared with all.
    """
    day = _day(source, key)
    if source.spec.partitions.period == "daily" and day:
        days = {name: found.weekday() for name in keys if (found := _day(source, name))}
        same = [name for name in keys if days.get(name) == day.weekday()]
        kind = [name for name in keys if name in days and (days[name] >= _SATURDAY) == (day.weekday() >= _SATURDAY)]
        if len(same) >= LEAST:
            return same, _DAYS[day.weekday()]
        if len(kind) >= LEAST:
            return kind, "weekends" if day.weekday() >= _SATURDAY else "working days"
    return list(keys), ""


def _without(publications: Sequence[Profile], crawl_id: str) -> list[Profile]:
    """The publications that were not made of this crawl; all of them where it is not known."""
    return [known for known in publications if not crawl_id or known.crawl_id != crawl_id]


def _keys(lake: Lake, source: str) -> list[str]:
    prefix = f"{LAYER}/{source}/"
    names = (path.removeprefix(prefix) for path in lake.paths(prefix))
    return [name.removesuffix(".json").replace("~", SEPARATOR) for name in names if name.endswith(".json")]


def _near(source: Source, key: str, keys: Sequence[str]) -> list[str]:
    """The keys before a partition's, in order; where they are too few, some after it too."""
    period, _, segment = key.partition(SEPARATOR)
    same = sorted(name for name in keys if name != key and name.partition(SEPARATOR)[2] == segment)
    known = [name for name in same if _day(source, name)]  # the declaration may have had other periods
    before = [name for name in known if name.partition(SEPARATOR)[0] < period]
    return before[-_FAR:] + known[len(before) :][: max(0, LEAST - len(before))]


def _day(source: Source, key: str) -> date | None:
    period = key.partition(SEPARATOR)[0]
    try:
        return datetime.strptime(period, source.spec.partitions.key_format).date()
    except ValueError:
        return None


def _read(lake: Lake, path: str) -> list[Profile]:
    """The publications of one partition, oldest first; none where it was never published, or was forgotten."""
    content = lake.get(path)
    try:
        return list(_Statistics.model_validate_json(content).publications) if content is not None else []
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LakeError(
            f"{lake.url(path)} is no statistics of a partition: {where or 'the whole'}: {first['msg']}. Delete it; its "
            "partition is then no part of the history until it is published again."
        ) from error


def _path(source: str, key: str) -> str:
    return object_path(LAYER, source, key, ".json")
