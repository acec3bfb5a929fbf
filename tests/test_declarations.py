"""Declarations: a fault gives one error with file, line, field and remedy, and takes nothing from other sources."""

import json
import os
import re
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer.declarations import MAX_BYTES, json_schema, load, read
from gossamer.errors import ConfigurationError, Problem, SourceError
from gossamer.source import Source

ROOT = Path(__file__).resolve().parent.parent

#: Every field a declaration may have, one a line, so that a fault's line is known.
WHOLE = """\
name: shop
owner: team:catalogue
description: Products
tags: {domain: retail}
spider: spider:ShopSpider
partitions: {period: daily, start: 2026-01-01, timezone: Europe/Berlin, segments: [toys, books]}
schedule: "0 5 * * *"
timezone: Europe/Berlin
seeds: {urls: ["https://shop.example/{period}/{segment}"]}
politeness: {robots: obey, requests_per_second: 5, concurrency: 8}
fetch: {mode: full, javascript: false, archive: false, allow_private: true}
complete: {required: [parse_list], tolerate: 0.01}
limits: {pages: 100000, duration: 2h, bytes: 5GB, error_rate: 0.1}
record: {key: [sku], fields: {sku: str, price: money, added: date}}
enrich: {join: [{source: rates, on: {price_currency: currency}, how: left, partition: latest, max_unmatched: 0.05}]}
checks: expectations.json
workers:
  count: 1
  where: job
  cpu: "1"
  cpu_limit: "2"
  memory: [512Mi, 1Gi]
  spot: true
  image: registry.example/shop:1.2
  node_selector: {pool: crawls}
  tolerations: [{key: dedicated, value: crawls, effect: NoSchedule}]
  priority_class: low
  image_pull_secrets: [registry]
  secrets: [shop-proxy]
  service_account: crawls
  start_within: 5m
  kubernetes: {pod_spec_config: {dnsPolicy: Default}, container_config: {env: [{name: DEBUG, value: "1"}]}}
"""


def declare(folder: Path, text: str | bytes = WHOLE, name: str = "shop") -> Path:
    """A source's folder with everything that `WHOLE` names."""
    source = folder / name
    source.mkdir(parents=True, exist_ok=True)
    (source / "spider.py").write_text("")
    (source / "expectations.json").write_text("{}")
    path = source / "source.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    return path


def small(name: str, more: str = "", seeds: str = "{urls: ['https://shop.example/']}") -> str:
    return f"name: {name}\nspider: spider:S\nseeds: {seeds}\nrecord: {{key: id, fields: {{id: str}}}}\n{more}"


def fault(path: Path) -> Problem:
    """The one fault of a declaration."""
    with pytest.raises(SourceError) as caught:
        read(path)
    problems = caught.value.problems
    assert len(problems) == 1, str(caught.value)
    problem = problems[0]
    assert problem.file == path and problem.message and "Traceback" not in str(problem)
    assert len(str(problem).splitlines()) == 1
    return problem


def test_a_whole_declaration_means_what_it_says(tmp_path: Path) -> None:
    spec = read(declare(tmp_path)).spec
    assert spec.partitions.start == date(2026, 1, 1) and spec.partitions.segments == ("toys", "books")
    assert spec.limits.duration == timedelta(hours=2) and spec.limits.bytes == 5_000_000_000
    assert spec.enrich.join[0].on == {"price_currency": "currency"}
    assert read(declare(tmp_path, small("shop"))).spec.partitions.period == "daily"


def test_where_and_with_how_much_memory_a_crawl_runs_makes_no_asset_stale(tmp_path: Path) -> None:
    whole = read(declare(tmp_path)).code_version("spec", "spider")
    without = WHOLE[: WHOLE.index("workers:")]
    assert read(declare(tmp_path, without)).code_version("spec", "spider") == whole
    assert read(declare(tmp_path, WHOLE.replace("512Mi", "768Mi"))).code_version("spec", "spider") == whole
    assert read(declare(tmp_path, WHOLE.replace("pages: 100000", "pages: 1"))).code_version("spec", "spider") != whole


# --- One fault, one error: (what stands in WHOLE, what it becomes, the field, words of the message, of the remedy) ---

FAULTS = {
    "unknown field": ("owner:", "ownr:", "ownr", "unknown field", "Did you mean `owner`?"),
    "unknown field within": ("pages:", "page:", "limits.page", "unknown field", "Did you mean `pages`?"),
    "unknown field in a list": ("how:", "hwo:", "enrich.join.0.hwo", "unknown field", "Did you mean `how`?"),
    "unknown field, unlike any": ("owner:", "xyzzy:", "xyzzy", "unknown field", "Known here: name, owner"),
    "a Python name for a field": ("{urls:", "{upstream:", "seeds.upstream", "unknown field", "from"),
    "cron out of range": ('"0 5 * * *"', '"61 5 * * *"', "schedule", "not a five-field cron", "0 5 * * *"),
    "cron of six fields": ('"0 5 * * *"', '"0 0 5 * * *"', "schedule", "not a five-field cron", "0 5 * * *"),
    "cron by nickname": ('"0 5 * * *"', '"@daily"', "schedule", "not a five-field cron", "0 5 * * *"),
    "cron at random": ('"0 5 * * *"', '"R 5 * * *"', "schedule", "not a five-field cron", "0 5 * * *"),
    "cron that never comes": ('"0 5 * * *"', '"0 5 31 4,6 *"', "schedule", "a date that never comes", "0 5 1 * *"),
    "no cron": ('"0 5 * * *"', '""', "schedule", "not a five-field cron", "0 5 * * *"),
    "zone of the schedule": ("\ntimezone: Europe/Berlin", "\ntimezone: Mars", "timezone", "not a time zone", "IANA"),
    "zone of partitions": (
        "timezone: Europe/Berlin,",
        "timezone: ../UTC,",
        "partitions.timezone",
        "not a time",
        "IANA",
    ),
    "zone of the machine": ("timezone: Europe/Berlin,", "timezone: localtime,", "partitions.timezone", "not a", "IANA"),
    "cron step": ('"0 5 * * *"', '"*/90 * * * *"', "schedule", "the step 90 in a range up to 59", "Use a smaller step"),
    "period": ("period: daily", "period: yearly", "partitions.period", "hourly, daily, weekly, monthly", ""),
    "segment": ("[toys, books]", '["a|b"]', "partitions.segments", "'a|b' cannot be a partition key", "Use letters"),
    "segment twice": ("[toys, books]", "[toys, Toys]", "partitions.segments", "named twice", "Remove one"),
    "segment no text": ("[toys, books]", "[1]", "partitions.segments.0", "is not text (it is 1)", "quotes"),
    "segments no list": ("[toys, books]", "toys", "partitions.segments", "is not a list", "[one, two]"),
    "date": ("start: 2026-01-01", "start: 2026-13-01", "partitions.start", "month", ""),
    "date as a number": ("start: 2026-01-01", "start: 20260101", "partitions.start", "not a date", "2026-01-31"),
    "end before start": ("start: 2026-01-01", "end: 2025-01-01", "partitions", "not after start", "later end"),
    "hourly elsewhere": ("period: daily", "period: hourly", "partitions", "hourly partitions are in UTC", "Remove"),
    "no mapping": (
        "{robots: obey, requests_per_second: 5, concurrency: 8}",
        "gentle",
        "politeness",
        "not a mapping",
        "",
    ),
    "nothing below": ("{robots: obey, requests_per_second: 5, concurrency: 8}", "", "politeness", "not a mapping", ""),
    "spider's form": ("spider:ShopSpider", "ShopSpider", "spider", "does not name a spider", "module:Class"),
    "spider in another folder": ("spider:ShopSpider", "a.b:C", "spider", "does not name a spider", "module:Class"),
    "spider's file": ("spider:ShopSpider", "missing:C", "spider", "no file `missing.py`", "Write it in"),
    "spider's long file": ("spider:ShopSpider", "m" * 5000 + ":C", "spider", "no file", "Write it in"),
    "checks' file": ("checks: expectations.json", "checks: nope.json", "checks", "no file `nope.json`", "Write it in"),
    "checks elsewhere": (
        "checks: expectations.json",
        "checks: ../x.json",
        "checks",
        "outside the source's",
        "Move it in",
    ),
    "checks a folder": ("checks: expectations.json", "checks: .", "checks", "there is no file", "Write it in"),
    "key": ("key: [sku]", "key: [skew]", "record", "unknown field 'skew'", "Declared fields: sku, price, added"),
    "no key": ("key: [sku]", "key: []", "record.key", "is empty", "Name at least one"),
    "key twice": ("key: [sku]", "key: [sku, sku]", "record", "names a field twice", "once"),
    "field's type": ("sku: str", "sku: string", "record.fields.sku", "'string'", ""),
    "field's name": ("sku: str", "sku: str, Price: str", "record.fields", "'Price'", "lower-case"),
    "reserved field": ("sku: str", "sku: str, extra: str", "record.fields", "platform's own", "another name"),
    "field of a money": ("sku: str", "sku: str, price_currency: str", "record.fields", "platform's own", "another"),
    "address": (
        '"https://shop.example/{period}/{segment}"',
        '"shop.example"',
        "seeds.urls.0",
        "not a web address",
        "whole",
    ),
    "address with a blank": (
        '"https://shop.example/{period}/{segment}"',
        '"https://a b/"',
        "seeds.urls.0",
        "not a web",
        "",
    ),
    "address with no port": (
        '"https://shop.example/{period}/{segment}"',
        '"http://a:99999"',
        "seeds.urls.0",
        "not a",
        "",
    ),
    "address no IPv6": (
        '"https://shop.example/{period}/{segment}"',
        '"http://[x"',
        "seeds.urls.0",
        "not a web",
        "whole",
    ),
    "placeholder": (
        "{period}/",
        "{perod}/",
        "seeds.urls.0",
        "nothing fills in {perod}",
        "{partition}, {period}, {segment}",
    ),
    "no seeds": ('["https://shop.example/{period}/{segment}"]', "[]", "seeds.urls", "is empty", "Name at least one"),
    "two kinds of seeds": (
        "{urls:",
        "{file: spider.py, urls:",
        "seeds",
        "exactly one of urls, file, sitemap and from",
        "",
    ),
    "seeds' file": (
        '{urls: ["https://shop.example/{period}/{segment}"]}',
        "{file: a.txt}",
        "seeds.file",
        "no file",
        "",
    ),
    "rate": (
        "requests_per_second: 5",
        "requests_per_second: 0",
        "politeness.requests_per_second",
        "greater than 0",
        "",
    ),
    "endless rate": (
        "requests_per_second: 5",
        "requests_per_second: .inf",
        "politeness.requests_per_second",
        "number",
        "",
    ),
    "number as text": ("concurrency: 8", 'concurrency: "8"', "politeness.concurrency", "integer", ""),
    "true as a number": ("concurrency: 8", "concurrency: true", "politeness.concurrency", "integer", ""),
    "pattern": ("[parse_list]", '["["]', "complete.required", "neither a callback's name nor a regular", ""),
    "share": ("tolerate: 0.01", "tolerate: 1", "complete.tolerate", "less than 1", ""),
    "duration": ("duration: 2h", "duration: 2 weeks", "limits.duration", "'2 weeks' is not a duration", "90s or 2h"),
    "endless duration": ("duration: 2h", "duration: 99999999999999d", "limits.duration", "not a duration", "90s or 2h"),
    "no duration": ("duration: 2h", "duration: 0s", "limits.duration", "not a duration", "90s or 2h"),
    "size": ("bytes: 5GB", "bytes: -5", "limits.bytes", "-5 is not a size", "5GB"),
    "join on nothing": ("{price_currency: currency}", "[]", "enrich.join.0.on", "names no column", "Name those"),
    "join on lists": (
        "{price_currency: currency}",
        "[[a]]",
        "enrich.join.0.on",
        "not a list of columns",
        "Write names",
    ),
    "owner": ("team:catalogue", "somebody", "owner", "not an owner", "e-mail address or team:<name>"),
    "tag": ("domain: retail", "domain: a b", "tags", "tag domain", "Use letters"),
    "name": ("name: shop", "name: Shop-1", "name", "not a name", "lower-case"),
    "name of a number": ("name: shop", "name: 5", "name", "is not text (it is 5)", "quotes"),
    "no name": ("name: shop\n", "\n", "name", "is missing", "docs/sources.md"),
    # What the design knows and this version cannot do.
    "extract": ("owner: team:catalogue", "extract: {css: h1}", "extract", "not available yet", "Remove it"),
    "deliver": ("owner: team:catalogue", "deliver: [{to: 's3://b'}]", "deliver", "not available yet", "Remove it"),
    "retention": ("owner: team:catalogue", "retention: {raw: 1d}", "retention", "not available yet", "Remove it"),
    "javascript": ("javascript: false", "javascript: true", "fetch.javascript", "not available yet", "Remove it"),
    "archive": ("archive: false", "archive: true", "fetch.archive", "fetch.archive is not available yet", "Remove it"),
    "archive in words": ("archive: false", "archive: yes", "fetch.archive", "not available yet", "Remove it"),
    "two workers": ("count: 1", "count: 2", "workers.count", "more than 1 is not available yet", "Remove it"),
    "no workers": ("count: 1", "count: 0", "workers.count", "0 is not a count", "leave it out"),
    "where": ("where: job", "where: pod", "workers.where", "is none of job, run", "Choose one"),
    "no CPU": ('cpu: "1"', "cpu: 0", "workers.cpu", "'0' is not an amount of CPU", "Write cores, like 500m"),
    "CPU of memory": ('cpu: "1"', "cpu: 1Gi", "workers.cpu", "'1Gi' is not an amount of CPU", "Write cores"),
    "CPU too fine": ('cpu: "1"', "cpu: 0.0001", "workers.cpu", "'0.0001' is not an amount of CPU", "Write cores"),
    "CPU by its limit": (
        'cpu_limit: "2"',
        "cpu_limit: 500m",
        "workers.cpu_limit",
        "500m is less than cpu (1)",
        "Raise it",
    ),
    "memory in thousandths": ("[512Mi, 1Gi]", "512m", "workers.memory.0", "'512m' is 0.512 bytes, too few", "512Mi"),
    "memory without a unit": ("[512Mi, 1Gi]", "512", "workers.memory.0", "'512' is 512 bytes, too few", "512Mi"),
    "memory in our sizes": ("[512Mi, 1Gi]", "512MB", "workers.memory.0", "'512MB' is not an amount of memory", "512Mi"),
    "memory that shrinks": (
        "[512Mi, 1Gi]",
        "[1Gi, 1024Mi]",
        "workers.memory",
        "1024Mi comes after 1Gi",
        "List growing",
    ),
    "no memory": ("[512Mi, 1Gi]", "[]", "workers.memory", "names no amount of memory", "Write one"),
    "spot": ("spot: true", "spot: yes", "workers.spot", "boolean", ""),
    "image": ("registry.example/shop:1.2", "'Shop image'", "workers.image", "not an image's name", "Write it like"),
    "node selector": (
        "{pool: crawls}",
        "{'a b': c}",
        "workers.node_selector",
        "'a b' cannot be a label",
        "Write it like",
    ),
    "number of a label": (
        "{pool: crawls}",
        "{pool: 5}",
        "workers.node_selector.pool",
        "is not text (it is 5)",
        "quotes",
    ),
    "toleration of nothing": ("{key: dedicated,", "{", "workers.tolerations.0", "names no key", "operator: Exists"),
    "toleration's effect": ("effect: NoSchedule", "effect: No", "workers.tolerations.0.effect", "is none of", ""),
    "toleration's field": ("{key: dedicated,", "{kee: x,", "workers.tolerations.0.kee", "unknown field", "`key`"),
    "secret's name": (
        "[shop-proxy]",
        "[shop_proxy]",
        "workers.secrets.0",
        "cannot be the name of anything",
        "Use lower",
    ),
    "start_within": ("start_within: 5m", "start_within: soon", "workers.start_within", "not a duration", "90s or 2h"),
    "raw part": ("pod_spec_config:", "pod_spec:", "workers.kubernetes.pod_spec", "unknown field", "pod_spec_config"),
    "raw restart policy": (
        "{dnsPolicy: Default}",
        "{restartPolicy: Always}",
        "workers.kubernetes.pod_spec_config",
        "restartPolicy decides when a crawl's Job replaces its pods",
        "Remove it",
    ),
    "raw failure policy": (
        "pod_spec_config: {dnsPolicy: Default}",
        "job_spec_config: {podFailurePolicy: {rules: []}}",
        "workers.kubernetes.job_spec_config",
        "podFailurePolicy decides when a crawl's Job replaces",
        "Remove it",
    ),
    "raw command": (
        "env: [{name: DEBUG",
        "command: [sh], env: [{name: DEBUG",
        "workers.kubernetes.container_config",
        "command is the launcher's",
        "Remove it",
    ),
    "raw memory": (
        "{env: [{name: DEBUG",
        "{resources: {limits: {memory: 1Gi}}, env: [{name: DEBUG",
        "workers.kubernetes.container_config",
        "resources.limits.memory stands in `memory`",
        "Write it there",
    ),
    "raw variable": (
        "name: DEBUG",
        "name: GOSSAMER_LAKE",
        "workers.kubernetes.container_config",
        "which the launcher sets",
        "Remove it",
    ),
    "raw token": (
        "{dnsPolicy: Default}",
        "{automount_service_account_token: true}",
        "workers.kubernetes.pod_spec_config",
        "is false always",
        "Remove it",
    ),
    "raw field twice": (
        "{dnsPolicy: Default}",
        "{dnsPolicy: Default, dns_policy: None}",
        "workers.kubernetes.pod_spec_config",
        "dnsPolicy and dns_policy are the same",
        "Remove one",
    ),
    "changed": ("mode: full", "mode: changed", "fetch.mode", "fetch.mode: changed is not available yet", "Remove it"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_once_with_line_field_and_remedy(tmp_path: Path, case: str) -> None:
    old, new, field, message, remedy = FAULTS[case]
    assert WHOLE.count(old) == 1, old
    problem = fault(declare(tmp_path, WHOLE.replace(old, new)))
    assert problem.field == field
    assert message in problem.message
    assert remedy in problem.remedy and (remedy or problem.remedy)
    line = WHOLE[: WHOLE.index(old)].count("\n") + 1 + old.startswith("\n")
    assert problem.line == (None if case == "no name" else line)


def test_several_faults_are_all_named(tmp_path: Path) -> None:
    path = declare(tmp_path, WHOLE.replace("owner:", "ownr:").replace("pages: 100000", "pages: 0").replace("2h", "2"))
    with pytest.raises(SourceError) as caught:
        read(path)
    assert {problem.field for problem in caught.value.problems} == {"ownr", "limits.pages", "limits.duration"}


# --- YAML's traps -----------------------------------------------------------------------------------------------------


def bomb(levels: int, line: str) -> str:
    names = [chr(97 + n) for n in range(levels)]
    lines = ["a: &a {k: v}"]
    lines += [f"{b}: &{b} " + line.format(",".join([f"*{a}"] * 9)) for a, b in pairwise(names)]
    return "\n".join(lines)


YAML_FAULTS: dict[str, tuple[str | bytes, str]] = {
    "a key twice": (small("s", "name: t"), "`name` stands twice"),
    "a key twice within": (small("s", "tags: {a: b, 'a': c}"), "`a` stands twice"),
    "laughs": (bomb(12, "[{}]"), "`*a` is an alias"),
    "laughs by merging": (bomb(9, "{{<<: [{}]}}"), "`*a` is an alias"),
    "an alias of itself": (small("s", "tags: &a {k: *a}"), "`*a` is an alias"),
    "an alias of nothing": (small("s", "description: *a"), "`*a` is an alias"),
    "merging": (small("s", "<<: {owner: team:x}"), "unknown field"),
    "a Python object": (small("s", "description: !!python/object/apply:os.system [x]"), "is a tag"),
    "a tag": (small("s", "description: !secret x"), "is a tag"),
    "a wrong timestamp": (small("s", "description: !!timestamp x"), "is a tag"),
    "a list as a key": (small("s", "? [a]\n: b"), "name is not text"),
    "a mapping as a key": (small("s", "tags: {? {a: b} : c}"), "name is not text"),
    "a number as a key": (small("s", "1: 2"), "name is not text"),
    "true as a key": (small("s", "true: 2"), "name is not text"),
    "nothing as a key": (small("s", "~: 2"), "name is not text"),
    "a tab": (small("s", "\tdescription: x"), r"found character '\t'"),
    "an open bracket": (small("s", "description: ["), "expected"),
    "an open quote": (small("s", 'description: "'), "unexpected end"),
    "two documents": (small("s", "---\nname: t"), "another document"),
    "a directive": (b"%YAML 9.9\n---\n" + small("s").encode(), "incompatible YAML"),
    "deep lists": (small("s", "description: " + "[" * 100_000), "nested more than 20 deep"),
    "deep mappings": (small("s", "description: " + "{a: " * 50_000), "nested more than 20 deep"),
    "half a character": (small("s", r'description: "\ud83d\ude00"'), "half a character"),
    "a NUL": (small("s", seeds=r'{file: "a\0b"}'), "control character"),
    "a raw NUL": (b"name: \0", "unacceptable character"),
    "bytes": (bytes(range(256)), "cannot be read"),
    "UTF-16": (small("s").encode("utf-16"), "cannot be read"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "cannot be read"),
    "nothing": (b"", "is not a mapping of fields"),
    "a comment": (b"# later", "is not a mapping of fields"),
    "a list": (b"- name: s", "is not a mapping of fields"),
    "text": (b"shop", "is not a mapping of fields"),
    "null": (b"~", "is not a mapping of fields"),
    "2 MB": (small("s", "description: " + "x" * 2_000_000), f"larger than {MAX_BYTES // 1000} KB"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", YAML_FAULTS)
def test_a_file_that_is_no_plain_yaml_is_named_at_once(tmp_path: Path, case: str) -> None:
    text, message = YAML_FAULTS[case]
    problem = fault(declare(tmp_path, text))
    assert message in problem.message and problem.remedy


def test_words_that_old_yaml_takes_for_something_else_are_words(tmp_path: Path) -> None:
    more = "partitions: {segments: [yes, no, on, off, y, n, 010, 1e, 12:30:00, 2026-01-01, 0x10, 1_000, =]}\n"
    with pytest.raises(SourceError, match="'12:30:00' cannot be a partition key"):
        read(declare(tmp_path, small("on", more)))
    more = more.replace(" 12:30:00,", "").replace(", =", "")
    source = read(declare(tmp_path, small("on", more)))
    assert source.name == "on"
    assert source.spec.partitions.segments == (
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "010",
        "1e",
        "2026-01-01",
        "0x10",
        "1_000",
    )
    join = "enrich: {join: [{source: on, on: id}]}"  # `on` is no boolean
    assert read(declare(tmp_path, small("s", join))).spec.enrich.join[0].on == {"id": "id"}
    for text in (small("s").replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + small("s").encode()):
        assert read(declare(tmp_path, text)).name == "s"


@pytest.mark.timeout(20)
def test_what_stands_for_a_file_and_is_none_is_named(tmp_path: Path) -> None:
    for name, make in (("folder", Path.mkdir), ("pipe", os.mkfifo), ("link", lambda path: path.symlink_to("nowhere"))):
        path = tmp_path / name / "source.yaml"
        path.parent.mkdir()
        make(path)
    declarations = load(tmp_path)
    assert [error.name for error in declarations.errors] == ["folder", "link", "pipe"]


@pytest.mark.parametrize(
    "name", ["../a.txt", "/etc/passwd", "sub/../../a.txt", "link.txt", "x" * 5000, "", ".", "loop", "~"]
)
def test_seeds_and_checks_cannot_lead_out_of_the_sources_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("secret")
    for text, field in (
        (small("s", seeds=f"{{file: '{name}'}}"), "seeds.file"),
        (small("s", f"checks: '{name}'"), "checks"),
    ):
        path = declare(tmp_path, text)
        for link, target in (("link.txt", "../a.txt"), ("loop", "loop")):
            if not (path.parent / link).is_symlink():
                (path.parent / link).symlink_to(target)
        problem = fault(path)
        assert problem.field == field
        assert "outside the source's folder" in problem.message or "there is no file" in problem.message
    (path.parent / "in.txt").write_text("https://shop.example/")
    assert read(declare(tmp_path, small("s", seeds="{file: in.txt}"))).spec.seeds.file == "in.txt"


# --- Several sources --------------------------------------------------------------------------------------------------


def errors_of(folder: Path) -> dict[str, str]:
    declarations = load(folder)
    for error in declarations.errors:
        assert all(problem.line for problem in error.problems), str(error)
    return {error.name: str(error) for error in declarations.errors}


def test_broken_sources_leave_the_others(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        declare(tmp_path, small(name), name)
    for number, (text, _) in enumerate(YAML_FAULTS.values()):
        declare(tmp_path, text, f"broken{number}")
    (tmp_path / "README.md").write_text("no folder")
    (tmp_path / "empty").mkdir()
    declarations = load(tmp_path)
    assert sorted(declarations.sources) == ["one", "three", "two"]
    assert len(declarations.errors) == len(YAML_FAULTS)
    assert sorted(declarations.select(["t*"]).sources) == ["three", "two"]
    with pytest.raises(ConfigurationError, match="Did you mean `three`"):
        _ = declarations["thre"]
    with pytest.raises(SourceError):
        _ = declarations["broken4"]


def test_a_broken_copy_does_not_take_its_originals_name(tmp_path: Path) -> None:
    declare(tmp_path, small("shop"), "shop")
    declare(tmp_path, small("shop", "nonsense: 1"), "shop_copy")
    declarations = load(tmp_path)
    assert declarations["shop"].folder == tmp_path / "shop"
    assert [error.problems[0].field for error in declarations.errors] == ["nonsense"]


def test_a_name_declared_twice_is_named_with_both_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        declare(tmp_path, small("shop"), folder)
    declare(tmp_path, small("other"), "c")
    errors = errors_of(tmp_path)
    assert list(errors) == ["shop"] and list(load(tmp_path).sources) == ["other"]
    assert f"{tmp_path / 'a'}, {tmp_path / 'b'}" in errors["shop"] and "source.yaml:1: name:" in errors["shop"]


def test_chains_and_joins_of_sources_that_do_not_exist_are_named(tmp_path: Path) -> None:
    declare(tmp_path, small("shop"), "shop")
    declare(tmp_path, small("a", seeds="{from: {source: shoop}}"), "a")
    declare(tmp_path, small("b", "enrich:\n  join:\n    - source: zzzz\n      on: id\n"), "b")
    declare(tmp_path, small("c", seeds="{from: {source: shop}}"), "c")
    errors = errors_of(tmp_path)
    assert "source.yaml:3: seeds.from.source: there is no source `shoop`. Did you mean `shop`?" in errors["a"]
    assert "source.yaml:7: enrich.join.0.source: there is no source `zzzz`. Declared: a, b, c, shop." in errors["b"]
    assert sorted(load(tmp_path).sources) == ["c", "shop"]


def test_sources_that_wait_for_themselves_are_named_with_the_way_round(tmp_path: Path) -> None:
    declare(tmp_path, small("a", seeds="{from: {source: c}}"), "a")
    declare(tmp_path, small("b", "enrich: {join: [{source: a, on: id}]}"), "b")
    declare(tmp_path, small("c", seeds="{from: {source: b}}"), "c")
    declare(tmp_path, small("selfish", seeds="{from: {source: selfish}}"), "selfish")
    declare(tmp_path, small("after", seeds="{from: {source: a}}"), "after")
    errors = errors_of(tmp_path)
    assert sorted(errors) == ["a", "b", "c", "selfish"]
    assert "seeds.from: waits for itself: a -> c -> b -> a" in errors["a"]
    assert "enrich.join: waits for itself: b -> a -> c -> b" in errors["b"]
    assert "selfish -> selfish" in errors["selfish"]
    assert list(load(tmp_path).sources) == ["after"]


@pytest.mark.timeout(60)
def test_a_long_chain_is_no_circle(tmp_path: Path) -> None:
    declare(tmp_path, small("s0"), "s0")
    for number in range(1, 300):
        declare(tmp_path, small(f"s{number}", seeds=f"{{from: {{source: s{number - 1}}}}}"), f"s{number}")
    assert len(load(tmp_path).sources) == 300


def test_a_chain_over_other_partitions_is_named(tmp_path: Path) -> None:
    declare(tmp_path, small("up", "partitions: {period: weekly}"), "up")
    declare(tmp_path, small("a", seeds="{from: {source: up}}"), "a")
    declare(tmp_path, small("b", "enrich: {join: [{source: up, on: id}]}"), "b")
    declare(tmp_path, small("c", "enrich: {join: [{source: up, on: id, partition: latest}]}"), "c")
    errors = errors_of(tmp_path)
    assert sorted(errors) == ["a", "b"]
    assert "`up` is cut into other partitions" in errors["a"] and "join `partition: latest`" in errors["b"]


def test_a_join_that_cannot_be_made_right_is_refused(tmp_path: Path) -> None:
    declare(tmp_path, small("regions", "partitions: {segments: [eu, us]}"), "regions")
    declare(tmp_path, small("a", "enrich: {join: [{source: regions, on: id, partition: latest}]}"), "a")
    declare(tmp_path, small("b", "enrich: {join: [{source: c, on: id}, {source: c, on: id}]}"), "b")
    declare(tmp_path, small("c"), "c")
    errors = errors_of(tmp_path)
    assert sorted(errors) == ["a", "b"]
    assert "none of them is the latest" in errors["a"]
    assert "joins c twice. Join a source once" in errors["b"]


def test_no_folder_of_sources_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("none", "file"):
        with pytest.raises(ConfigurationError, match=r"No folder of sources at .*GOSSAMER_SOURCES"):
            load(tmp_path / place)
    assert load(tmp_path).sources == {}


def test_a_source_that_may_not_be_read_does_not_vanish(tmp_path: Path) -> None:
    for name in ("shut", "secret", "sound"):
        declare(tmp_path, small(name), name)
    (tmp_path / "shut").chmod(0)
    (tmp_path / "secret" / "source.yaml").chmod(0)
    body = """
        import os, sys
        from pathlib import Path
        from gossamer.declarations import load
        os.chdir(sys.argv[1])  # the folders above belong to root alone
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        declarations = load(Path("."))
        print(list(declarations.sources), *declarations.errors, sep="\\n")
    """
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", textwrap.dedent(body), str(tmp_path)]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    finally:
        (tmp_path / "shut").chmod(0o755)
    lines = result.stdout.splitlines()
    assert lines[:1] == ["['sound']"], result.stderr
    assert [line.partition(":")[0] for line in lines[1:]] == ["secret/source.yaml", "shut/source.yaml"]
    assert all("Permission denied" in line for line in lines[1:])


# --- Any mutation -----------------------------------------------------------------------------------------------------

SCRAPS = [
    "",
    "null",
    "~",
    "[]",
    "{}",
    "true",
    "-1",
    "1e999",
    "'",
    '"',
    "&a",
    "*a",
    "!!int",
    "<<",
    "? ",
    ": ",
    "- ",
    "\t",
    "\n",
]
SCRAPS += [
    "{",
    "}",
    "[",
    "]",
    "#",
    "|",
    ">",
    "%",
    "@",
    "\0",
    "\x85",
    "\ufeff",
    "ü",
    "😀",
    ".inf",
    "2026-99-99",
    "9" * 30,
    "../",
]
scraps = st.sampled_from(SCRAPS) | st.text(max_size=5)


@st.composite
def mutated_text(draw: st.DrawFn) -> str:
    text = WHOLE
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(scraps) + text[start + draw(st.integers(0, 12)) :]
    return text


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, item in inner for place in places(item, (*way, key)))]


TREE = yaml.load(WHOLE, yaml.BaseLoader)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated_tree(draw: st.DrawFn) -> str:
    tree = json.loads(json.dumps(TREE))
    *way, last = draw(st.sampled_from([place for place in places(TREE) if place]))
    parent = tree
    for part in way:
        parent = parent[part]
    parent[last] = draw(values)
    return json.dumps(tree)  # JSON is YAML


def loads_or_is_refused(path: Path, text: str) -> Source | None:
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        source = read(path)
    except SourceError:
        return None
    # What was accepted can be used: hashed, asked for its keys, scheduled.
    assert source.code_version("spec")
    now = datetime(2026, 11, 20, tzinfo=UTC)
    for key in source.spec.partitions.current_keys(now):
        assert source.spec.partitions.parse(key, now).key == key
    return source


FUZZ = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("kind", ["text", "tree"])
@given(data=st.data())
@FUZZ
def test_any_mutation_loads_or_is_refused_in_words(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    text = data.draw(mutated_text() if kind == "text" else mutated_tree())
    loads_or_is_refused(declare(tmp_path), text)


cron_fields = st.from_regex(r"\A(?:\*|[0-9]{1,2}|mon|jan)(?:[-,/#LRWHh?][0-9]{0,2}){0,2}\Z")


@given(st.lists(cron_fields, min_size=5, max_size=5))
@FUZZ
def test_a_schedule_that_is_accepted_is_one_for_dagster(tmp_path: Path, fields: list[str]) -> None:
    schedule = " ".join(fields)
    path = declare(tmp_path, small("s", f"schedule: '{schedule}'"))
    try:
        read(path)
    except SourceError:
        return
    dg.ScheduleDefinition(name="s", cron_schedule=schedule, job_name="j")


# --- The shipped schema and sources -----------------------------------------------------------------------------------


def test_the_shipped_schema_is_the_models_own() -> None:
    shipped = (ROOT / "docs" / "source.schema.json").read_text(encoding="utf-8")
    assert shipped == json.dumps(json_schema(), indent=2) + "\n", "declarations have changed: run `make schema`"


def test_an_editor_accepts_what_we_accept(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    sources = list(load(ROOT / "sources").sources.values())
    assert len(sources) >= 3 and not load(ROOT / "sources").errors
    texts = [(source.folder / "source.yaml").read_text(encoding="utf-8") for source in sources]
    texts += [WHOLE, small("s"), small("s", "enrich: {join: [{source: s, on: id}, {source: t, on: [id]}]}")]
    for text in texts:
        read(declare(tmp_path, text))
        # An editor reads dates as text, as we do.
        document = yaml.load(text, type("Editor", (yaml.SafeLoader,), {"yaml_implicit_resolvers": _resolvers()}))
        assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors({**TREE, "nonsense": 1}))


def _resolvers() -> dict[str, list[Any]]:
    without = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
    kept = {k: [r for r in v if r[0] not in without] for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    for first in "tf":
        kept[first] = [("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"))]
    return kept
