"""A source's declaration: what `source.yaml` may say (`SourceSpec`), and a declared source in its folder (`Source`).

Reading the files, and what holds between several sources (names, chains), is in `gossamer.declarations`. Here is what
one declaration means. What a declaration can name and this version cannot do is refused by name, never ignored.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from croniter import CroniterBadDateError, croniter
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from gossamer import locales
from gossamer.locales import Locale
from gossamer.partition import Partitions, Slice, TimeZone
from gossamer.pods import Cpu, CpuLimit, Image, Memory, Name, NodeSelector, RawKubernetes, Toleration
from gossamer.strict import Strict

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: Column names that the platform writes itself; provenance columns begin with an underscore, which fields cannot.
RESERVED_NAMES = frozenset(
    {"marts", "rows", "dead_letters", "quarantine", "changes", "control_crawl", "recheck", "accept_partition"}
)
RESERVED_FIELDS = frozenset({"partition_key", "extra"})

FieldType = Literal[
    "str", "text", "int", "float", "bool", "money", "quantity", "rating", "date", "datetime", "url", "json"
]
#: Types that give a second column `<field>_<this>`.
SECOND: dict[FieldType, str] = {"money": "currency", "quantity": "unit", "rating": "best"}

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def not_available(what: str) -> Any:
    """A field that the design knows and this version cannot do: refused by name."""

    def refuse(value: object) -> object:
        if value is None or value is False:
            return value
        raise ValueError(f"{what} is not available yet; remove it")

    return BeforeValidator(refuse)


def _duration(value: object) -> object:
    match = re.fullmatch(r"([0-9]{1,7})\s*([smhd])", value) if isinstance(value, str) else None
    if match and int(match[1]):
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if isinstance(value, timedelta):
        return value
    raise ValueError(f"{value!r} is not a duration; write a number and s, m, h or d, like 90s or 2h")


def _size(value: object) -> object:
    match = re.fullmatch(r"([0-9]{1,15})\s*([KMGT]?B)", value) if isinstance(value, str) else None
    if match and int(match[1]):
        return int(match[1]) * _SIZES[match[2]]
    if isinstance(value, int) and value > 0 and not isinstance(value, bool):
        return value
    raise ValueError(f"{value!r} is not a size; write a number and B, KB, MB, GB or TB, like 5GB")


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        secret = "@" in parts.netloc
    except ValueError:  # a port or an IPv6 address that is none
        whole = secret = False
    if secret:  # not quoted: it would stand in logs, as the address itself would
        raise ValueError(
            "holds a user name or password, which every log would show; remove it, and let the spider read them from "
            "the environment (Scrapy's http_user, http_pass and http_auth_domain)"
        )
    if not whole or re.search(r"\s", url):
        raise ValueError(f"{url!r} is not a web address; write it whole, like https://example.com/")
    return url


def _cron(schedule: str) -> str:
    # Only what cron itself has: croniter also takes words of its own, such as R for "at random".
    fields = schedule.split()
    known = all(re.fullmatch(r"(?:[0-9*/,?#L-]|[A-Za-z]{3})+", field) for field in fields)
    if len(fields) != 5 or not known or not croniter.is_valid(schedule):
        raise ValueError(f"{schedule!r} is not a five-field cron expression; '0 5 * * *', say, is daily at 05:00")
    for step, highest in _steps(fields):
        if step > highest:  # cron reads */90 minutes as every hour
            raise ValueError(f"{schedule!r} has the step {step} in a range up to {highest}; use a smaller step")
    try:
        croniter(schedule, datetime(2026, 1, 1)).get_next()
    except CroniterBadDateError as error:
        raise ValueError(f"{schedule!r} is a date that never comes; '0 5 1 * *', say, is every 1st at 05:00") from error
    return schedule


def _steps(fields: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Each step of a cron expression, and the end of the range it steps through."""
    for field, highest in zip(fields, (59, 23, 31, 12, 6), strict=True):
        for part in field.split(","):
            if step := re.fullmatch(r".+?(?:-(\d+))?/(\d+)", part):
                yield int(step[2]), int(step[1] or highest)


Duration = Annotated[timedelta, BeforeValidator(_duration, json_schema_input_type=str)]
Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=str | int)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Cron = Annotated[str, AfterValidator(_cron)]


class Upstream(Strict):
    """Seeds from another source's published rows (a chain)."""

    source: str = Field(description="name of the source whose published rows seed this crawl")
    select: str = Field(
        "select url from rows",
        description="SQL over `rows`, the upstream's published partition of the same key; its first column is the URL",
    )


class Seeds(Strict):
    """Where a crawl begins: exactly one of the four. `{partition}`, `{period}` and `{segment}` are filled in."""

    urls: tuple[HttpUrl, ...] | None = Field(None, min_length=1, description="the first pages")
    file: str | None = Field(None, description="a text file in the source's folder, one URL a line, # for comments")
    sitemap: HttpUrl | None = Field(None, description="a sitemap (or sitemap index) whose pages are the seeds")
    upstream: Upstream | None = Field(None, alias="from", description="another source's published rows (a chain)")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Seeds":
        given = [name for name in ("urls", "file", "sitemap", "upstream") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of urls, file, sitemap and from")
        return self


class Politeness(Strict):
    """How gently a site is treated."""

    robots: Literal["obey", "ignore"] = Field("obey", description="robots.txt")
    requests_per_second: float | None = Field(
        5, gt=0, allow_inf_nan=False, strict=True, description="at most so many requests a second to one host"
    )
    concurrency: int = Field(8, ge=1, le=256, strict=True, description="at most so many requests at once")


class Fetch(Strict):
    """How pages are fetched."""

    mode: Annotated[Literal["full"], BeforeValidator(lambda v: _only_full(v))] = "full"
    javascript: Annotated[Literal[False], not_available("fetch.javascript")] = False
    archive: Annotated[Literal[False], not_available("fetch.archive")] = False
    allow_private: bool = Field(False, description="allow seeds and redirects to private and loopback addresses")


def _only_full(value: object) -> object:
    if value == "changed":
        raise ValueError("fetch.mode: changed is not available yet; remove it")
    return value


class Complete(Strict):
    """When a crawl counts as complete. Seeds are always required."""

    required: tuple[str, ...] = Field((), description="callback names or URL patterns whose pages must all be fetched")
    tolerate: float = Field(0.01, ge=0, lt=1, description="share of the other pages that may fail")

    @field_validator("required")
    @classmethod
    def _patterns_compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"{pattern!r} is neither a callback's name nor a regular expression: {error}"
                ) from error
        return patterns


class Limits(Strict):
    """What ends a crawl early (and leaves the partition incomplete)."""

    pages: int | None = Field(None, ge=1, strict=True, description="responses")
    duration: Duration | None = Field(None, description="time, like 90s or 2h")
    bytes: Size | None = Field(None, description="bytes received, like 5GB")
    error_rate: float | None = Field(None, gt=0, le=1, description="share of failed requests, judged from 100 on")


class Keep(NamedTuple):
    """Which of several records with one key is kept: `rule`, and for some rules the field that they look at."""

    rule: Literal["first", "last", "fullest", "newest", "max", "min"]
    field: str | None = None


def _keep(value: object) -> object:
    if value in ("first", "last", "fullest"):
        return value
    if isinstance(value, dict) and len(value) == 1:
        [(rule, field)] = value.items()
        if rule in ("newest", "max", "min") and isinstance(field, str):
            return value
    raise ValueError(
        f"{value!r} does not say which duplicate is kept; write first, last, fullest, or {{newest: a field}}, "
        "{max: a field}, {min: a field}"
    )


class Record(Strict):
    """What a row is: its fields and their types, and the fields that identify it."""

    key: tuple[str, ...] = Field(min_length=1, description="fields that identify a record within its partition")
    required: tuple[str, ...] = Field((), description="fields that every record must have, besides the key")
    fields: dict[str, FieldType] = Field(
        default_factory=dict, description="declared fields; others are kept in the JSON column `extra`"
    )
    keep: Annotated[
        Literal["first", "last", "fullest"] | dict[Literal["newest", "max", "min"], str], BeforeValidator(_keep)
    ] = Field(
        "first",
        description="which of several records with one key is kept: first or last of the crawl, fullest, or by a field",
    )
    words: dict[str, dict[str, Annotated[bool, Field(strict=True)]]] = Field(
        default_factory=dict, description="field of type bool -> words of the site's own, {sold out: false}"
    )

    @field_validator("key", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_or_many(cls, key: object) -> object:
        return [key] if isinstance(key, str) else key

    @field_validator("fields")
    @classmethod
    def _plain_names(cls, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        for name in fields:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be a field; use lower-case letters, digits and '_', a letter first")
            first, _, second = name.rpartition("_")
            if name in RESERVED_FIELDS or (first in fields and SECOND.get(fields[first]) == second):
                raise ValueError(f"field {name!r} is a column of the platform's own; choose another name")
        return fields

    @model_validator(mode="after")
    def _key_is_declared(self) -> "Record":
        if len(set(self.key)) < len(self.key):
            raise ValueError("key names a field twice; name it once")
        for what, names in (("key", self.key), ("required", self.required)):
            for name in names:
                if name not in self.fields:
                    known = ", ".join(self.fields) or "none"
                    raise ValueError(f"{what} names the unknown field {name!r}; declared fields: {known}")
        return self

    @model_validator(mode="after")
    def _winner_is_declared(self) -> "Record":
        rule, field = self.winner
        if field is None:
            return self
        kind = "datetime" if field == "_fetched_at" else self.fields.get(field)
        if kind is None:
            known = ", ".join((*self.fields, "_fetched_at"))
            raise ValueError(f"keep names the unknown field {field!r}; there are: {known}")
        if kind == "json" or (rule == "newest" and kind not in ("date", "datetime")):
            raise ValueError(f"keep: the field {field!r} is {kind}; name {_ORDERED[rule]}")
        return self

    @model_validator(mode="after")
    def _words_are_of_booleans(self) -> "Record":
        for name in self.words:
            if self.fields.get(name) != "bool":
                raise ValueError(f"words: {name!r} is no field of type bool; declare it as one, or remove its words")
        return self

    @property
    def winner(self) -> Keep:
        """Which of several records with one key is kept."""
        if isinstance(self.keep, str):
            return Keep(self.keep)
        [(rule, field)] = self.keep.items()
        return Keep(rule, field)


#: What the rules of `keep` look at.
_ORDERED = {
    "newest": "a date, a datetime or _fetched_at",
    "max": "a field whose values have an order",
    "min": "a field whose values have an order",
}


class Join(Strict):
    """Columns of another source's published rows, joined to the clean rows."""

    source: str = Field(description="name of the source that is joined")
    on: dict[str, str] = Field(description="column here -> column there; a name or a list where both are the same")
    how: Literal["left", "inner"] = Field("left", description="left keeps rows without a match; inner drops them")
    partition: Literal["same", "latest"] = Field("same", description="which published partition is joined")
    max_unmatched: float | None = Field(
        None, ge=0, le=1, description="more rows than this share without a match block publication; else they warn"
    )

    @field_validator("on", mode="before", json_schema_input_type=str | list[str] | dict[str, str])
    @classmethod
    def _pairs(cls, on: object) -> object:
        names = [on] if isinstance(on, str) else on
        if not names:
            raise ValueError("names no column; name those that are equal in both sources")
        if not isinstance(names, list):
            return names
        if not all(isinstance(name, str) for name in names):
            raise ValueError("is not a list of columns; write names, like [sku, country], or pairs, like {here: there}")
        return {name: name for name in names}


class Enrich(Strict):
    """What is added to the clean rows."""

    join: tuple[Join, ...] = ()

    @field_validator("join")
    @classmethod
    def _each_source_once(cls, joins: tuple[Join, ...]) -> tuple[Join, ...]:
        names = [join.source for join in joins]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"joins {', '.join(twice)} twice; join a source once")
        return joins


class Checks(Strict):
    """The suites of expectations, and the default checks that are left out. A name alone is the suite of `clean`."""

    clean: str | None = Field(None, description="suite in the folder, for clean; expectations.json if it is there")
    enriched: str | None = Field(None, description="suite in the folder, for enriched; none unless it is named")
    ignore: tuple[str, ...] = Field(
        (), description="default checks that are not made: a kind, like freshness, or a kind and field: fill_rate:price"
    )


class Workers(Strict):
    """What works on a crawl. Only a cluster heeds it; a crawl that is a child process has what its machine has."""

    count: Annotated[Literal[1], BeforeValidator(lambda v: _only_one(v))] = Field(1, description="always 1")
    where: Literal["job", "run"] = Field(
        "job", description="a Job of its own, or the pod of its run, which is cheaper for small sources"
    )
    cpu: Cpu | None = Field(None, description='CPU that is kept free for it: 500m, "1"')
    cpu_limit: CpuLimit = Field(None, description="CPU that it gets at most")
    memory: Memory | None = Field(
        None, description="memory it has, or growing steps: the next is tried when a crawl ran out of the one before"
    )
    spot: bool = Field(False, strict=True, description="it may run on machines that can be taken away")
    image: Image | None = Field(None, description="its image, instead of the installation's")
    node_selector: NodeSelector = Field(default_factory=dict, description="labels of the nodes it may run on")
    tolerations: tuple[Toleration, ...] = Field((), description="taints of nodes that it puts up with")
    priority_class: Name | None = Field(None, description="name of its PriorityClass")
    image_pull_secrets: tuple[Name, ...] = Field((), description="names of secrets to pull its image with")
    secrets: tuple[Name, ...] = Field((), description="names of secrets whose entries become environment variables")
    service_account: Name | None = Field(None, description="service account of its pod (which gets no token)")
    start_within: Duration | None = Field(None, description="a pod that could not start for so long has failed")
    kubernetes: RawKubernetes = Field(
        default_factory=RawKubernetes, description="anything else, in dagster-k8s's raw form"
    )


def _only_one(value: object) -> object:
    if isinstance(value, int) and value > 1:
        raise ValueError("workers.count: more than 1 is not available yet; remove it")
    if value != 1 or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a count of workers; write 1, or leave it out")
    return value


class SourceSpec(Strict):
    """The declaration of one source (`sources/<name>/source.yaml`)."""

    name: str = Field(description="lower-case letters, digits and '_'; the name of its assets, tables and folders")
    owner: str | None = Field(None, description="who answers for it: an e-mail address or team:<name>")
    description: str | None = Field(None, description="what it is, for the catalogue")
    tags: dict[str, str] = Field(default_factory=dict, description="tags of its assets")
    spider: str = Field(description="module:Class of an ordinary scrapy.Spider, e.g. spider:BooksSpider")
    partitions: Partitions = Field(default_factory=lambda: Partitions(period="daily"))
    schedule: Cron | None = Field(None, description="when the current partition is crawled: five-field cron")
    timezone: TimeZone = Field("UTC", description="time zone of the schedule")
    seeds: Seeds
    politeness: Politeness = Field(default_factory=Politeness)
    fetch: Fetch = Field(default_factory=Fetch)
    complete: Complete = Field(default_factory=Complete)
    limits: Limits = Field(default_factory=Limits)
    record: Record
    locale: Locale = Field(
        default_factory=Locale, description="how the site writes numbers, dates and money: de-DE, or its parts"
    )
    enrich: Enrich = Field(default_factory=Enrich)
    checks: Checks = Field(default_factory=Checks, description="suites of expectations, and default checks left out")
    extract: Annotated[None, not_available("extract (a source without code)")] = None
    workers: Workers | None = Field(None, description="what works on a crawl, on a cluster")
    deliver: Annotated[None, not_available("deliver")] = None
    retention: Annotated[None, not_available("retention")] = None

    @field_validator("checks", mode="before", json_schema_input_type=str | Checks | None)
    @classmethod
    def _suite_alone(cls, checks: object) -> object:
        return {} if checks is None else {"clean": checks} if isinstance(checks, str) else checks

    @field_validator("locale", mode="before", json_schema_input_type=Locale | str)
    @classmethod
    def _locale_by_name(cls, locale: object) -> object:
        return locales.named(locale) if isinstance(locale, str) else locale

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} is a name of the platform's own; choose another")
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name; use lower-case letters, digits and '_', a letter first")
        return name

    @field_validator("owner")
    @classmethod
    def _an_owner(cls, owner: str | None) -> str | None:
        if owner and not re.fullmatch(r"team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+", owner):
            raise ValueError(f"{owner!r} is not an owner; write an e-mail address or team:<name>")
        return owner

    @field_validator("tags")
    @classmethod
    def _plain_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        for key, value in tags.items():
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", key) or not re.fullmatch(r"[A-Za-z0-9_.-]{0,63}", value):
                raise ValueError(
                    f"tag {key}: {value!r} cannot be a tag; use letters, digits, '.', '_' and '-', 63 at most"
                )
        return tags

    @field_validator("spider")
    @classmethod
    def _module_and_class(cls, spider: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*:[A-Za-z_]\w*", spider):
            raise ValueError(f"{spider!r} does not name a spider; write module:Class, like spider:BooksSpider")
        return spider


@dataclass(frozen=True)
class Source:
    """A declared source: its declaration, and the folder with its code, suite and fixtures."""

    spec: SourceSpec
    folder: Path

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def spider_file(self) -> Path:
        return self.folder / f"{self.spec.spider.partition(':')[0]}.py"

    @property
    def spider_class(self) -> str:
        return self.spec.spider.partition(":")[2]

    @property
    def transform_file(self) -> Path | None:
        """`transform.py`, where the source ships one."""
        path = self.folder / "transform.py"
        return path if path.is_file() else None

    @property
    def suite_file(self) -> Path | None:
        """The suite of expectations for `clean`, where the source ships one."""
        path = self.folder / (self.spec.checks.clean or "expectations.json")
        return path if path.is_file() else None

    @property
    def expectations_module(self) -> Path | None:
        """`expectations.py` with expectation classes of the source's own, where it ships one."""
        path = self.folder / "expectations.py"
        return path if path.is_file() else None

    @property
    def enriched_suite_file(self) -> Path | None:
        """The suite of expectations for `enriched`, where the source names one."""
        return self.folder / self.spec.checks.enriched if self.spec.checks.enriched else None

    @property
    def upstreams(self) -> set[str]:
        """Names of the sources whose published rows this one reads (its chain and its joins)."""
        joined = {join.source for join in self.spec.enrich.join}
        return joined | ({self.spec.seeds.upstream.source} if self.spec.seeds.upstream else set())

    def partition(self, key: str) -> Slice:
        """What a key of this source stands for; raises `PartitionKeyError` where it has no such partition."""
        return self.spec.partitions.parse(key)

    def _helpers(self) -> list[Path]:
        """Modules beside the spider and the transform, which both may import."""
        own = (self.spider_file, self.transform_file, self.expectations_module)
        return sorted(p for p in self.folder.glob("*.py") if p not in own and not p.name.startswith("test_"))

    def _files(self, part: str) -> list[Path | None]:
        if part in ("suite", "enriched_suite"):
            suite = self.suite_file if part == "suite" else self.enriched_suite_file
            own = self.expectations_module
            return [suite, own, *self._helpers()] if own else [suite]
        return [{"spider": self.spider_file, "transform": self.transform_file}[part], *self._helpers()]

    def code_version(self, *parts: Literal["spec", "spider", "transform", "suite", "enriched_suite"]) -> str:
        """A short hash of the named parts of the source: what decides whether an asset's code has changed."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.encode())
            if part == "spec":
                # With how much memory, and where, a crawl runs is not what its rows are. (As null, not left out: the
                # versions that other declarations had before there were workers stay theirs.)
                digest.update(self.spec.model_copy(update={"workers": None}).model_dump_json().encode())
                continue
            for file in self._files(part):
                digest.update(file.read_bytes() if file and file.is_file() else b"-")
        return digest.hexdigest()[:12]
