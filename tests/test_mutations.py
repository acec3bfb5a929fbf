"""The default checks on two real sites' data: each damage is caught and its cause named, and natural change is quiet.

What the sites do in a month, and how their crawls go wrong, is in `damage`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl
import pytest

from gossamer.quality import defaults
from gossamer.quality.cause import cause
from gossamer.quality.finding import Finding
from gossamer.quality.profile import Profile, profile
from gossamer.records import clean
from gossamer.source import Source
from tests import services
from tests.damage import Crawl, Damage, Reader, Shop, damages

pytestmark = [pytest.mark.service, pytest.mark.slow]

SEED = 7
ACCEPTED = 10
#: Undamaged crawls after those: of the shop by day, of the quotes by week.
NATURAL = {"books": 28, "quotes": 12}


@dataclass
class Record:
    """A site's accepted partitions, and the crawl that comes next."""

    source: Source
    site: Shop | Reader
    accepted: list[Profile] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accepted = [cleaned(self.source, self.site.next())[0] for _ in range(ACCEPTED)]
        self.next = self.site.next()


def cleaned(source: Source, crawl: Crawl) -> tuple[Profile, pl.DataFrame]:
    """A crawl's rows through `clean`, and their statistics."""
    typed = clean.clean(source, crawl.raw(source), crawl.key).collect()
    once = clean.deduplicate(source, typed.lazy()).collect()
    duplicates = typed.height - once.height
    statistics = profile(once.lazy(), source, crawl.key, version=crawl.key, duplicates=duplicates, books=crawl.books)
    return statistics, once


@pytest.fixture(scope="module")
def sites() -> dict[str, Record]:
    corpora = services.SHARED / "corpora"
    books, quotes = corpora / "books" / "truth.jsonl", corpora / "quotes" / "truth_quotes.jsonl"
    if not (books.exists() and quotes.exists()):
        services.unavailable(f"no real sites: {corpora.name}/books and quotes are not beside the repo")
    shop, reader = Shop(books, SEED), Reader(quotes, SEED)
    return {"books": Record(shop.source, shop), "quotes": Record(reader.source, reader)}


def judged(site: Record, damage: Damage) -> tuple[Crawl, Profile, list[Finding]]:
    crawl = damage.harm(site.next, random.Random(SEED))
    statistics, rows = cleaned(site.source, crawl)
    return crawl, statistics, defaults.judge(site.source, statistics, site.accepted, frame=rows.lazy())


def told(findings: Sequence[Finding]) -> list[str]:
    return [f"{finding.kind}:{finding.field} {finding.summary}" for finding in findings if finding.failed]


def test_there_are_thirty_kinds_of_damage() -> None:
    assert len({damage.name for damage in damages()}) >= 30


@pytest.mark.parametrize("damage", damages(), ids=lambda damage: damage.name)
def test_a_damaged_crawl_is_caught_without_any_expectation(damage: Damage, sites: dict[str, Record]) -> None:
    site = sites[damage.site]
    _, statistics, findings = judged(site, damage)
    failed = [finding for finding in findings if finding.failed]
    assert failed, "nothing was noticed"
    assert damage.critical == any(f.severity == "critical" for f in failed), told(failed)
    for finding in failed:
        assert len(finding.sample) <= 5 and all(row["url"] for row in finding.sample)
        assert finding.since in {known.partition for known in site.accepted}, finding.summary
    about_rows = [f for f in failed if f.kind not in ("row_count", "pages", "duplicates", "hosts", "categories")]
    assert all(finding.sample for finding in about_rows) or not statistics.rows, "nothing shows what failed"


def test_the_cause_is_named_for_nine_of_ten_damages(sites: dict[str, Record]) -> None:
    wrong = {}
    for damage in damages():
        site = sites[damage.site]
        crawl, statistics, findings = judged(site, damage)
        found = cause(site.source, statistics, site.accepted, findings, crawl.books, None)
        assert found.words and found.evidence, damage.name
        if found.kind != damage.cause:
            wrong[damage.name] = f"{found.kind}, not {damage.cause}: {found.evidence}"
    assert len(wrong) <= len(damages()) // 10, wrong


@pytest.mark.parametrize("name", NATURAL)
def test_weeks_of_natural_change_give_no_alarm(name: str, sites: dict[str, Record]) -> None:
    site = sites[name]
    history, alarms = list(site.accepted), []
    for number in range(NATURAL[name]):
        crawl = site.site.next() if number else site.next
        statistics, _ = cleaned(site.source, crawl)
        alarms += [(crawl.key, line) for line in told(defaults.judge(site.source, statistics, history))]
        history.append(statistics)
    assert not alarms
