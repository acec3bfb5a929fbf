"""What most likely caused a partition's failures: decided from the crawl's books, the statistics and the findings.

Pure: nothing is fetched, guessed or remembered. `_RULES` are asked in order, and the first that has an answer gives it;
the same table stands in docs/default-checks.md. Where the signs fit several causes, none is named.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import polars as pl

from gossamer.quality import texts, words
from gossamer.quality.finding import Cause, CauseKind, Finding
from gossamer.quality.profile import Profile
from gossamer.source import Source

#: Reasons of failed requests, by what they speak for.
_REFUSED = frozenset({"blocked", "rate_limited", "robots"})
_AWAY = frozenset({"dns", "refused", "timed_out", "tls", "connection_lost", "server_error"})
_OURS = frozenset({"pipeline_error", "unserialisable", "process_died"})
_PARSING = frozenset({"parse_error", "not_text"})
#: Reasons of requests that were excluded which are the site's word, not our own rules.
_FORBIDDEN = frozenset({"robots"})
#: So many of the requests must have failed for one kind of reason to explain a failure.
_SHARE = 0.05
#: Findings that say that the rows themselves are other than usual.
_OF_VALUES = frozenset(
    {"fill_rate", "required", "declared_type", "distinct_rate", "categories", "distribution", "length", "hosts"}
    | {"changes", "undeclared", "placeholders", "markup", "encoding", "repeats", "best", "unit", "currency", "language"}
)
_OF_NUMBERS = frozenset({"row_count", "pages", "duplicates", "same_page"})
_QUANTITIES = frozenset({"int", "float", "money", "quantity", "rating"})
_SHOWN = 6
#: An amount or a date in digits: what is a value in one locale and none in another.
_LOCAL_NUMBER = re.compile(r"\D{0,8}\d{1,3}(?:[.,'\s]\d{3})*[.,]\d{1,4}\D{0,8}")
_LOCAL_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}.{0,12}")


def cause(
    source: Source,
    profile: Profile | None,
    history: Sequence[Profile],
    findings: Sequence[Finding],
    books: Mapping[str, Any],
    letters: pl.DataFrame | None,
) -> Cause:
    """The most likely cause of what failed.

    Args:
        profile: the partition's statistics; None of a crawl whose books did not close.
        history: statistics of accepted partitions, oldest first.
        findings: of the default checks, those that passed too.
        books: of the crawl, as its manifest has them.
        letters: the requests that failed for good (`dead_letters`), or some of them.
    """
    case = _Case(source, profile, history, findings, books, letters)
    for rule in _RULES:
        if found := rule(case):
            return found
    return case.found("cannot tell", "What failed fits several causes, or none that is known.", *case.symptoms)


@dataclass(frozen=True)
class _Case:
    """What is known of one partition."""

    source: Source
    profile: Profile | None
    history: Sequence[Profile]
    findings: Sequence[Finding]
    books: Mapping[str, Any]
    letters: pl.DataFrame | None

    def found(self, kind: CauseKind, told: str, *evidence: str) -> Cause:
        return Cause(kind=kind, words=told, evidence=tuple(fact for fact in evidence if fact)[:_SHOWN])

    @cached_property
    def failed(self) -> dict[str, list[Finding]]:
        """Kind -> its findings that failed."""
        kinds = {finding.kind for finding in self.findings if finding.failed}
        return {kind: [f for f in self.findings if f.failed and f.kind == kind] for kind in kinds}

    @cached_property
    def symptoms(self) -> list[str]:
        """What failed, critical findings first."""
        failed = sorted((f for f in self.findings if f.failed), key=lambda f: f.severity != "critical")
        return [finding.summary for finding in failed]

    def told(self, *kinds: str) -> list[str]:
        return [finding.summary for kind in kinds for finding in self.failed.get(kind, ())]

    # -- books ---------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.books.get("requests", {})
        return found

    @property
    def pages(self) -> int:
        return int(self.requests.get("fetched", self.profile.pages if self.profile else 0))

    @cached_property
    def refused(self) -> dict[str, int]:
        """Reason -> requests that failed for good, or that robots.txt forbids."""
        dead = dict(self.requests.get("dead", self.profile.dead if self.profile else {}))
        excluded = self.requests.get("excluded", self.profile.excluded if self.profile else {})
        return dead | {reason: excluded[reason] + dead.get(reason, 0) for reason in _FORBIDDEN & excluded.keys()}

    def share(self, reasons: frozenset[str]) -> float:
        """The share of requests that ended so, beyond what is usual."""
        usual = [_share_of(reasons, {**p.dead, **_only(p.excluded, _FORBIDDEN)}, p.pages) for p in self.history]
        return _share_of(reasons, self.refused, self.pages) - (median(usual) if usual else 0.0)

    @property
    def no_seed_answered(self) -> bool:
        seeds = self.books.get("seeds", {})
        return bool(seeds) and not seeds.get("answered")

    def counted(self, reasons: frozenset[str]) -> str:
        """`106 of 323 requests: 106 blocked, e.g. https://...`."""
        found = {reason: count for reason, count in self.refused.items() if reason in reasons}
        listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(found.items(), key=lambda e: -e[1]))
        examples = self.books.get("examples", {})
        urls = [url for reason in (*found, "seed") for url in examples.get(reason, ())]
        such = f", e.g. {words.clip(urls[0])}" if urls else ""
        return f"of {self.pages + sum(self.refused.values()):,} requests: {listed}{such}"

    # -- statistics ----------------------------------------------------------------------------------------------

    def usual(self, number: Callable[[Profile], float]) -> float | None:
        """The median of a number over the history, None without one."""
        found = [number(known) for known in self.history]
        return median(found) if found else None

    def ratio(self, number: Callable[[Profile], float]) -> float | None:
        """A number of the partition over its usual one."""
        usual = self.usual(number)
        return number(self.profile) / usual if self.profile and usual else None

    @cached_property
    def weight(self) -> float | None:
        """Bytes a page, over the usual."""
        return self.ratio(lambda p: p.bytes / p.pages if p.pages else 0.0)

    @cached_property
    def new_code(self) -> str:
        """That our code is one that no accepted partition was made with, in words; "" where it is not."""
        if not self.profile or not self.history:
            return ""
        before = [p for p in self.history if p.partition < self.profile.partition] or self.history
        last, now = before[-1], self.profile
        if now.spider and all(p.spider and p.spider != now.spider for p in self.history):
            return f"the spider is of another version ({now.spider}) than in {last.partition} ({last.spider})"
        if now.code and all(p.code and p.code != now.code for p in self.history):
            return f"the declared record or transform.py is another than in {last.partition}"
        return ""


def _only(counts: Mapping[str, int], reasons: frozenset[str]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if reason in reasons}


def _share_of(reasons: frozenset[str], counts: Mapping[str, int], pages: int) -> float:
    asked = pages + sum(counts.values())
    return sum(_only(counts, reasons).values()) / asked if asked else 0.0


# -- rules ------------------------------------------------------------------------------------------------------------


def _turned_away(case: _Case) -> Cause | None:
    """Requests were refused, or the pages that came are a wall."""
    share, away = case.share(_REFUSED), case.share(_AWAY)
    walls = _walls_in_letters(case)
    if (share > _SHARE and share >= away) or (case.no_seed_answered and _only(case.refused, _REFUSED)):
        robots = case.refused.get("robots", 0) * 2 > sum(_only(case.refused, _REFUSED).values())
        told = "The site's robots.txt forbids pages." if robots else "The site refuses us pages."
        return case.found("blocked", told, case.counted(_REFUSED), walls)
    if walls and max(share, away) > _SHARE:
        return case.found("blocked", "The site answers with errors that are a block.", walls, case.counted(_AWAY))
    redirected = int(case.requests.get("redirected", 0))
    if redirected > max(case.pages, 10):
        fact = f"{redirected:,} requests were redirected to pages known already; {case.pages:,} were fetched"
        return case.found("blocked", "The site redirects us to other pages than we asked for.", fact)
    return None


def _walls_in_letters(case: _Case) -> str:
    """What the bodies of failed requests say, where it is a block."""
    if case.letters is None or "body_sample" not in case.letters.columns or case.letters.is_empty():
        return ""
    body = pl.col("body_sample").str.replace_all(r"<[^>]*>", " ").str.replace_all(r"\s+", " ")
    blocked = case.letters.filter(texts.is_wall(body, "block page"))
    if blocked.height * 2 < case.letters.height:
        return ""
    url = f", e.g. {words.clip(str(blocked['url'][0]))}" if "url" in blocked.columns else ""
    return f"{blocked.height:,} of {case.letters.height:,} failed requests were answered by a block page{url}"


def _walls_as_rows(case: _Case) -> Cause | None:
    """Rows were made from the text of block, login or error pages."""
    if "block_pages" not in case.failed or not case.profile:
        return None
    most = max(case.profile.walls, key=lambda kind: case.profile.walls[kind] if case.profile else 0.0, default="")
    evidence = case.told("block_pages", "same_page")
    if most == "error page":
        return case.found("site gone", "The site serves error pages as if they were pages.", *evidence)
    what = "login pages" if most == "login page" else "block pages"
    return case.found("blocked", f"The site serves {what} instead of what was asked for.", *evidence)


def _out_of_reach(case: _Case) -> Cause | None:
    """Nobody answers, or with errors of the server."""
    gone = frozenset({"gone"})
    share, missing = case.share(_AWAY), case.share(gone)
    if share > _SHARE or (case.no_seed_answered and _only(case.refused, _AWAY)):
        part = "The site does not answer" if not case.pages else "A part of the site does not answer"
        return case.found("site gone", f"{part}, or with errors of its own.", case.counted(_AWAY))
    if case.no_seed_answered and _only(case.refused, gone):
        return case.found("site gone", "The page that the crawl begins at is gone.", case.counted(gone))
    if missing > _SHARE:
        return case.found("site shrank", "Many pages that the site still links to are gone.", case.counted(gone))
    return None


def _cut_short(case: _Case) -> Cause | None:
    """The crawl did not come to its end, so that what is missing says nothing of the site."""
    reason = case.books.get("finish_reason", "finished")
    if reason in ("finished", "start_error"):
        return None
    by = f" by {case.books['stopped_by']}" if case.books.get("stopped_by") else ""
    told = f"The crawl ended early ({reason}{by}); what is missing was not asked for."
    return case.found("cannot tell", told, *case.symptoms)


def _code_raised(case: _Case) -> Cause | None:
    """Callbacks or pipelines failed: on pages that changed, or by our own change."""
    errors = int(case.books.get("records", {}).get("errors", 0))
    written = int(case.books.get("records", {}).get("written", 0))
    raised = f"{errors:,} records failed in a pipeline" if errors else ""
    if case.share(_OURS) > _SHARE or (errors and errors / (errors + written) > _SHARE):
        return case.found("our parser failed", "Our own code failed.", case.counted(_OURS), raised, case.new_code)
    if case.books.get("finish_reason") == "start_error":
        return case.found("our parser failed", "The spider failed at its start.", *case.symptoms)
    if case.share(_PARSING) > _SHARE or (case.no_seed_answered and _only(case.refused, _PARSING)):
        if case.new_code:
            told = "The spider failed on pages, and it has changed."
            return case.found("our parser failed", told, case.counted(_PARSING), case.new_code)
        told = "The spider, which has not changed, fails on pages: they are built otherwise now."
        return case.found("layout changed", told, case.counted(_PARSING))
    return None


def _misread(case: _Case) -> Cause | None:
    """Texts were decoded wrongly: their bytes are right, or nobody could tell."""
    if "encoding" not in case.failed:
        return None
    told = "Texts were decoded as another character set than they are in."
    return case.found("our parser failed", told, *case.told("encoding"), case.new_code)


def _spoke_otherwise(case: _Case) -> Cause | None:
    """Money, language or units are others: the site took us for somebody else, or changed its locale."""
    told = "The site shows another currency, language or unit."
    if said := case.told("currency", "language", "unit"):
        return case.found("currency or locale changed", told, *said)
    if local := [finding for finding in case.failed.get("declared_type", ()) if _is_local(finding)]:
        values = ", ".join(words.value(row["value"]) for row in local[0].sample[:3])
        told = "The site writes numbers or dates as another locale does."
        return case.found("currency or locale changed", told, *(f.summary for f in local), f"e.g. {values}")
    if factors := [fact for finding in case.failed.get("distribution", ()) if (fact := _factor(case, finding.field))]:
        if case.new_code:
            return None
        told = "Numbers are the same in another unit, or with another decimal separator."
        return case.found("currency or locale changed", told, *factors)
    return None


def _is_local(finding: Finding) -> bool:
    """Whether most texts that could not be read look like numbers or dates of another locale."""
    values = [str(row["value"]).strip() for row in finding.sample]
    local = [value for value in values if _LOCAL_NUMBER.fullmatch(value) or _LOCAL_DATE.fullmatch(value)]
    return 2 * len(local) > len(values)


def _factor(case: _Case, name: str) -> str:
    """That all quantiles of a field are so many times what they usually are, in words; "" where they are not."""
    now = case.profile.fields[name] if case.profile else None
    if not now or now.measured != "number" or not now.quantiles:
        return ""
    places = range(1, 6)
    usual = {
        place: median(found)
        for place in places
        if (found := [q[place] for p in case.history if (q := _quantiles(p, name))])
    }
    if len(usual) < len(places) or min(usual.values()) <= 0 or now.quantiles[1] <= 0:
        return ""
    factors = [now.quantiles[place] / usual[place] for place in places]
    middle = median(factors)
    if max(factors) > 1.3 * min(factors) or 0.7 < middle < 1.4:
        return ""
    return f"all quantiles of {name} are about {middle:,.3g} times what they usually are"


def _quantiles(known: Profile, name: str) -> tuple[float, ...] | None:
    return known.fields[name].quantiles if name in known.fields else None


def _we_changed(case: _Case) -> Cause | None:
    """Values are others since our own code is another."""
    if not case.new_code or not (_OF_VALUES | _OF_NUMBERS) & case.failed.keys():
        return None
    told = "Rows are others since our own code has changed."
    return case.found("our parser failed", told, case.new_code, *case.symptoms)


def _fewer(case: _Case) -> Cause | None:
    """There are fewer rows, and nothing but their number is unusual: of the site, or of what we find on it."""
    if not case.profile or not (_is_less(case) or case.told("categories")):
        return None
    values = {kind for kind in _OF_VALUES & case.failed.keys() if kind not in ("categories", "distinct_rate")}
    if values or not all(_only_lost(case, finding.field) for finding in case.failed.get("categories", ())):
        return None
    rows, pages = case.ratio(lambda p: p.rows), case.ratio(lambda p: p.pages)
    if rows is None:
        return None
    facts = [*case.told("row_count", "pages", "categories")]
    if not pages:
        return case.found("cannot tell", "There are fewer rows, and nothing says how many pages there were.", *facts)
    if rows == 0 and case.weight and case.weight > 0.5:
        told = "Pages as large as usual came, and no record was found on them."
        return case.found("layout changed", told, f"bytes a page: {words.percent(case.weight)} of the usual", *facts)
    if rows / pages < 0.6 and rows > 0:
        told = "As many pages as usual came, with fewer records on them."
        fact = f"records a page: {words.percent(rows / pages)} of the usual"
        return case.found("layout changed", told, fact, *facts)
    answered = "every page that was asked for came" if not case.refused else case.counted(frozenset(case.refused))
    return case.found("site shrank", "The site has less than usual, and what it has is as usual.", *facts, answered)


def _is_less(case: _Case) -> bool:
    return any(f.low is not None and f.observed < f.low for f in case.failed.get("row_count", ()))


def _only_lost(case: _Case, name: str) -> bool:
    """Whether a field's values are the usual ones but for some that are no more, and their rows with them."""
    field = case.profile.fields[name] if case.profile else None
    known = [shares for p in case.history if name in p.fields and (shares := p.fields[name].shares)]
    if not field or not field.shares or field.kind == "bool":
        return False
    now = field.shares
    usual = {value: median(shares.get(value, 0.0) for shares in known) for shares in known for value in shares}
    left = {value: share for value, share in usual.items() if now.get(value)}
    whole = sum(left.values())
    rows = case.ratio(lambda p: p.rows) or 0.0
    fewer = _is_less(case) or (whole >= 0.5 and rows < 1.05 - (1 - whole) / 4)
    new = sum(share for value, share in now.items() if value not in usual)
    if not fewer or not 0.1 <= whole <= 0.98 or new > 0.02:
        return False
    expected = {value: share / whole for value, share in left.items()}
    return sum(abs(now.get(value, 0.0) - expected.get(value, 0.0)) for value in {*now, *expected}) / 2 < 0.2


def _built_otherwise(case: _Case) -> Cause | None:
    """The pages come as usual, and what is read from them is not."""
    if "same_page" in case.failed and (weight := case.weight) is not None and weight < 0.5:
        fact = f"bytes a page: {words.percent(weight)} of the usual"
        return case.found("blocked", "One small page came in place of many.", *case.told("same_page"), fact)
    failed = [finding for kind in _OF_VALUES & case.failed.keys() for finding in case.failed[kind]]
    if failed and all(f.kind == "changes" and _is_quantity(case, f.field) for f in failed):
        told = "Most records have other numbers, spread as usual: a new price list, say, or numbers of other records."
        return case.found("cannot tell", told, *case.symptoms)
    if failed:
        told = "Pages come as usual; what is found on them is not: they are built otherwise now."
        return case.found("layout changed", told, *case.symptoms)
    if {"duplicates", "same_page"} & case.failed.keys():
        told = "The site's lists repeat their entries, or lead to the same page."
        return case.found("layout changed", told, *case.symptoms)
    return None


def _is_quantity(case: _Case, name: str) -> bool:
    return case.source.spec.record.fields.get(name) in _QUANTITIES


def _no_records(case: _Case) -> Cause | None:
    """Of a crawl without statistics: pages came, and no record."""
    written = case.books.get("records", {}).get("written")
    if case.profile or written or not case.pages or case.refused:
        return None
    told = "Pages came, and no record was found on them."
    return case.found("layout changed", told, f"{case.pages:,} pages, no record")


#: Asked in this order: what keeps pages away explains everything; then what they say; then what we read.
_RULES: tuple[Callable[[_Case], Cause | None], ...] = (
    _turned_away,
    _walls_as_rows,
    _out_of_reach,
    _code_raised,
    _cut_short,
    _misread,
    _spoke_otherwise,
    _we_changed,
    _fewer,
    _built_otherwise,
    _no_records,
)
