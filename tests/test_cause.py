"""The cause that is named for a failed partition: by the books alone, by the rows, and where nobody can tell."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.quality import defaults
from gossamer.quality.cause import cause
from gossamer.quality.finding import Cause, CauseKind, Finding
from gossamer.quality.profile import Profile
from tests.damage import books_of
from tests.test_defaults import before, day, known, moving, shop, sketched


def of_books(books: Mapping[str, Any], letters: pl.DataFrame | None = None) -> Cause:
    """The cause of a crawl whose books did not close."""
    return cause(shop(), None, before(pages=100), [], books, letters)


def of_rows(now: Profile, past: Sequence[Profile], books: Mapping[str, Any] | None = None) -> Cause:
    findings = defaults.judge(shop(), now, past)
    assert any(finding.failed for finding in findings)
    return cause(shop(), now, past, findings, books or books_of(now.pages, now.rows), None)


NO_SEED = {"answered": 0, "dead": 1}


@pytest.mark.parametrize(
    ("books", "kind", "word"),
    [
        (books_of(0, 0, dead={"dns": 1}, seeds=NO_SEED), "site gone", "1 dns, e.g. https://books.example/dns/1"),
        (books_of(0, 0, dead={"gone": 1}, seeds=NO_SEED), "site gone", "1 gone"),
        (books_of(50, 50, dead={"server_error": 40, "gone": 5}), "site gone", "of 95 requests: 40 server_error"),
        (books_of(50, 50, dead={"timed_out": 40}), "site gone", "40 timed_out"),
        (books_of(0, 0, dead={"blocked": 1}, seeds=NO_SEED), "blocked", "1 blocked"),
        (books_of(50, 50, dead={"rate_limited": 20, "timed_out": 5}), "blocked", "20 rate_limited"),
        (books_of(50, 50, excluded={"robots": 60}), "blocked", "60 robots"),
        (books_of(3, 0, requests={"redirected": 200}), "blocked", "200 requests were redirected"),
        (books_of(50, 50, dead={"gone": 40}), "site shrank", "40 gone"),
        (books_of(50, 10, dead={"parse_error": 40}), "layout changed", "40 parse_error"),
        (books_of(50, 10, records={"errors": 40}), "our parser failed", "40 records failed in a pipeline"),
        (books_of(50, 10, dead={"pipeline_error": 40}), "our parser failed", "40 pipeline_error"),
        (books_of(50, 0), "layout changed", "50 pages, no record"),
        (books_of(20, 20, finish_reason="limit", stopped_by="limits.pages (20)"), "cannot tell", ""),
        (books_of(20, 20, excluded={"depth": 500, "off_site": 90}), "cannot tell", ""),
        ({}, "cannot tell", ""),
    ],
)
def test_the_books_alone_name_what_kept_pages_away(books: Mapping[str, Any], kind: CauseKind, word: str) -> None:
    found = of_books(books)
    assert found.kind == kind
    assert found.words.endswith(".") and word in " ".join(found.evidence)


def test_a_limit_that_ended_the_crawl_is_named() -> None:
    told = of_books(books_of(20, 20, finish_reason="limit", stopped_by="limits.pages (20)")).words
    assert told == "The crawl ended early (limit by limits.pages (20)); what is missing was not asked for."


def test_errors_that_are_usual_explain_nothing() -> None:
    past = before(pages=100, dead={"server_error": 30})
    found = cause(shop(), None, past, [], books_of(100, 100, dead={"server_error": 31}), None)
    assert found.kind == "cannot tell"


def test_a_server_error_that_is_a_block_is_a_block() -> None:
    bodies = ["<html><h1>Just a moment...</h1> Checking your browser", "<title>Attention Required!</title>", "Oops"]
    letters = pl.DataFrame({"url": ["https://books.example/7"] * 3, "body_sample": bodies})
    books = books_of(50, 50, dead={"server_error": 40})
    found = of_books(books, letters)
    assert found.kind == "blocked"
    assert "2 of 3 failed requests were answered by a block page, e.g. https://books.example/7" in found.evidence
    assert of_books(books, letters.tail(1)).kind == "site gone"
    assert of_books(books, letters.head(0)).kind == "site gone"


def test_what_fails_since_our_own_code_changed_is_our_fault() -> None:
    past = [p.model_copy(update={"spider": "v1"}) for p in before(pages=100)]
    now = known(day(10), pages=100, name={"fill": 0.1})
    ours = of_rows(now.model_copy(update={"spider": "v2"}), past)
    assert ours.kind == "our parser failed"
    assert "the spider is of another version (v2) than in 2026-06-10 (v1)" in ours.evidence
    assert of_rows(now.model_copy(update={"spider": "v1"}), past).kind == "layout changed"
    assert of_rows(now.model_copy(update={"spider": "v2"}), before(pages=100)).kind == "layout changed", (
        "not known before"
    )
    rows = [p.model_copy(update={"code": "a"}) for p in before(pages=100)]
    assert of_rows(now.model_copy(update={"code": "b"}), rows).kind == "our parser failed"


def test_a_block_is_a_block_though_our_code_changed() -> None:
    past = [p.model_copy(update={"spider": "v1"}) for p in before(pages=100)]
    walls = known(day(10), pages=100, spider="v2", walls={"login page": 0.4}, name={"fill": 0.6})
    assert of_rows(walls, past).words == "The site serves login pages instead of what was asked for."
    dollars = known(day(10), pages=100, spider="v2", price_currency={"shares": {"USD": 1.0}})
    assert of_rows(dollars, past).kind == "currency or locale changed"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"rows": 400, "pages": 40}, "site shrank"),
        ({"rows": 400, "pages": 100}, "layout changed"),
        ({"rows": 400, "pages": 0}, "cannot tell"),
        ({"rows": 0, "pages": 100, "bytes": 100_000}, "layout changed"),
        ({"rows": 0, "pages": 1, "bytes": 10}, "site shrank"),
        ({"duplicates": 1000}, "layout changed"),
        ({"same_page": 0.9, "pages": 100, "bytes": 1000}, "blocked"),
        ({"same_page": 0.9, "pages": 100, "bytes": 100_000}, "layout changed"),
        ({"walls": {"error page": 0.5}}, "site gone"),
        ({"name": {"languages": {"German": 1.0}}}, "currency or locale changed"),
        ({"name": {"damaged": 0.5}}, "our parser failed"),
        ({"price": {"quantiles": (100, 500, 2000, 4000, 6000, 9000, 9900)}}, "currency or locale changed"),
        ({"price": {"quantiles": (1, 5, 2000, 4000, 4100, 4200, 9900)}}, "layout changed"),
        ({"sold": {"shares": {"true": 1.0}}}, "layout changed"),
        ({"pages": 400}, "cannot tell"),
        ({"fetched_at": known(day(-60)).fetched_at}, "cannot tell"),
    ],
)
def test_the_rows_name_what_became_of_the_pages(changes: dict[str, Any], kind: CauseKind) -> None:
    past = before(pages=100, bytes=100_000, name={"languages": {"English": 1.0}})
    usual: dict[str, Any] = {"pages": 100, "bytes": 100_000, "name": {"languages": {"English": 1.0}}}
    now = known(day(10), **usual | changes)
    found = of_rows(now, past)
    assert found.kind == kind, found
    assert found.evidence


def test_texts_in_another_locale_are_told_from_texts_that_are_none() -> None:
    def unread(*values: str) -> CauseKind:
        sample: tuple[dict[str, Any], ...] = tuple({"value": value, "url": None, "key": {}} for value in values)
        finding = Finding(kind="declared_type", field="price", state="failed", summary="unread", sample=sample)
        return cause(shop(), known(day(10)), before(), [finding], books_of(9, 9), None).kind

    assert unread("1.234,50", "12,5 €", "ca. 3") == "currency or locale changed"
    assert unread("31/12/2025", "1/2/2026 10:00") == "currency or locale changed"
    assert unread("on request", "12,5", "sold out") == "layout changed"
    assert unread() == "layout changed"


def test_new_numbers_in_most_records_have_many_causes() -> None:
    past = [moving(number) for number in range(10)]
    assert of_rows(sketched(day(10), lambda r: r, lambda r: r + 1000), past).kind == "cannot tell"
    assert of_rows(sketched(day(10), lambda r: r + 1, lambda r: r), past).kind == "layout changed"


def test_a_segment_that_sells_out_is_no_fault_of_ours() -> None:
    usual = {"shares": {"lamps": 0.5, "beds": 0.3, "mats": 0.2}}
    left = {"shares": {"lamps": 0.62, "beds": 0.38}}
    found = of_rows(known(day(10), rows=800, name=left), before(name=usual, pages=0))
    assert found.kind == "cannot tell", "nothing says how many pages there were"
    past = before(name=usual, pages=100)
    assert of_rows(known(day(10), rows=800, pages=85, name=left), past).kind == "site shrank"
    assert of_rows(known(day(10), pages=100, name=left), past).kind == "layout changed", "their rows are still there"
    other = of_rows(known(day(10), pages=85, name={"shares": {"lamps": 0.6, "beds": 0.3, "cars": 0.1}}), past)
    assert other.kind == "layout changed"


_counts = st.dictionaries(
    st.sampled_from(["blocked", "dns", "gone", "parse_error", "robots", "other"]), st.integers(0, 99)
)


@settings(max_examples=50)
@given(_counts, _counts, st.integers(0, 99), st.integers(0, 99), st.booleans())
def test_any_books_give_an_answer(
    dead: dict[str, int], excluded: dict[str, int], fetched: int, written: int, with_rows: bool
) -> None:
    books = books_of(fetched, written, dead=dead, excluded=excluded)
    now = known(day(10), rows=written, pages=fetched, dead=dead, excluded=excluded) if with_rows else None
    findings = defaults.judge(shop(), now, before(pages=50)) if now else []
    found = cause(shop(), now, before(pages=50), findings, books, None)
    assert found.kind in get_args(CauseKind) and found.words
    assert len(found.evidence) <= 6 and all(found.evidence)
