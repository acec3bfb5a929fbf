"""Patterns on text: whatever the engine that judges, the verdict is that of Python's `re.search`."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.quality.gx import regex

# Python warns of `[[` and `[a&&b]`, which it may read otherwise one day.
pytestmark = pytest.mark.filterwarnings("ignore:Possible (nested )?set:FutureWarning")

#: Newlines of all kinds, digits, letters with odd cases, marks, joiners, characters of each size in UTF-8.
CHARACTERS = (
    "abkKsiIſKİıßẞéÉ\u0301ǅσςΣµμ²½Ⅷ09١५_-.,&[]{}^$|\\ \t\n\r\v\x1c\x1f\x85\xa0\u2028\u200d\u200bः\0😀\U0010ffff"
)
TEXTS = st.text(CHARACTERS, max_size=6)
SAMPLES = [
    *["", "a", "a\n", "a\n\n", "\n", "\na", "b\na", "a\r\n", "ab", "aab", "AB", "a.b", "a-b", "a]", "a&&b", "&]", ":]"],
    *["k", "K", "K", "s", "ſ", "ß", "ẞ", "ss", "i", "I", "İ", "ı", "i\u0307", "σ", "ς", "ǅ", "é", "e\u0301", "µ", "μ"],
    *["1", "12", "١", "५", "²", "½", "Ⅷ", "x1", " ", "\t", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u200b", "\0"],
    *["foo", "foo bar", "foobar", "foo\u0301", "éfoo", "foo²", "foo\u200dbar", "_", "a_b", "😀", "a😀b", "\U0010ffff"],
    *["https://x.example/p/12", "https://x.example/p/12\n", "1.234,50 €", "EUR 12", "{", "a{,2}", "{}", "x{y", "\\"],
]

#: Rust takes most of these for something else, or not at all; all of them are written anew for it.
TRANSLATED = [
    *[r"a$", r"^$", r"^a$|b$", r"(?:a|b$)", r"a\Z", r"\Aa", r"(?m)^a$", r"(?m)$\n^", r"a.", r"(?s)a.", r"(?m:^a)"],
    *[r"\d", r"^\d+$", r"\D", r"\w", r"^\w+$", r"\W", r"\s", r"\S\s\S", r"(?a)\w", r"(?a)\d\s", r"[\w.]+", r"[^\s\d]"],
    *[r"[[:alpha:]]", r"[a&&b]", r"[!--]", r"[a||b~~]", r"[]a]", r"[^]a]", r"[a\]\-^]", r"[\x00-\x1f]", r"[^\n]"],
    *[r"[\U00010000-\U0010ffff]", r"[^\0-\U0010ffff]", r"(?i)[^k]", r"(?i)[a-z]", r"(?ai)k", r"(?i:k)k", r"(?i-s:a)"],
    *[r"(?i)k", r"(?i)s", r"(?i)i", r"(?i)ß", r"(?i)σ", r"(?i)ǆ", r"(?i)µ", r"(?i)é", r"(?i)1", r"(?i)^eur\s\d"],
    *[r"\bfoo\b", r"foo\b", r"(?a)foo\b", r"\b", r"\x61", r"\u00e9", r"\U0001F600", r"\.", r"\\", r"\]", r"\#", r"\t"],
    *[r"a{2}", r"a{,2}b", r"a{1,}", r"{", r"{}", r"x{y", r"a{,}", r"a??b", r"a+?$", r"(?:ab?)+", r"(?P<name>a)b"],
    *[
        r"^https?://[a-z0-9.]+/p/\d+$",
        r"^\d{1,3}(?:\.\d{3})*,\d\d\s*€$",
        r"(a)(b)",
        "",
        r"|a",
        "#",
        "a b",
        "~",
        "é+",
        "\0",
    ],
]
#: What only Python can judge, or what this package does not claim to know.
PYTHONS = [
    *[r"(?=a)a", r"a(?!b)", r"(?<=a)b", r"(?<!a)b", r"(a)\1", r"(?P<x>a)(?P=x)", r"(a)?(?(1)b|c)", r"a$\n", r"$$"],
    *[
        r"(?:a$)?b",
        r"(a|b$)\n",
        r"(?:a?)+b",
        r"(?:|a)+b",
        r"(?:^)*a",
        r"\Bo",
        r"\B",
        r"\141",
        r"\07",
        r"\0",
        r"(?x) a b",
    ],
    *[r"\N{LATIN SMALL LETTER A}", r"(?#a comment)a", r"(?>a+)b", r"a++b", r"a*+", r"a{1,2}+", r"\w{900}", r"a{1001}"],
]


def verdicts(pattern: str, texts: list[str | None]) -> list[bool | None]:
    frame = pl.LazyFrame({"text": texts}, schema={"text": pl.String})
    return frame.select(regex.matches(pl.col("text"), pattern)).collect().to_series().to_list()


def searched(pattern: str, texts: list[str | None]) -> list[bool | None]:
    return [None if text is None else re.search(pattern, text) is not None for text in texts]


@pytest.mark.parametrize("pattern", TRANSLATED + PYTHONS)
def test_a_pattern_finds_what_python_finds(pattern: str) -> None:
    assert dict(zip(SAMPLES, verdicts(pattern, [*SAMPLES, None]), strict=False)) == dict(
        zip(SAMPLES, searched(pattern, [*SAMPLES]), strict=True)
    )


@pytest.mark.parametrize("pattern", TRANSLATED)
def test_a_pattern_that_rust_can_judge_is_not_left_to_python(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(judge: object) -> object:
        def ask(texts: pl.Series) -> pl.Series:
            assert not texts.drop_nulls().str.contains(r"^[\x00-\x7f]*$").any(), "a plain text was left to Python"
            return pl.Series([None] * texts.len(), dtype=pl.Boolean)

        return ask

    monkeypatch.setattr(regex, "_asking", never)
    verdicts(pattern, [*SAMPLES])


def patterns() -> st.SearchStrategy[str]:
    """Patterns made of pieces, sound more often than not."""
    odd = r". \d \D \w \W \s \S \b \B \A \Z ^ $ \n \t \x1c \x{41} \u0131 \. \\ \] \1 \0 \p{L} { } {} ] & - ~ #"
    members = r"a-z A-Z 0-9 \d \w \S \s ] ^ - \- \] a k ſ é & && -- [:alpha:] ~~ || \x00-ÿ ."
    inner = st.lists(st.sampled_from([*members.split(), " "]), min_size=1, max_size=3).map("".join)
    classes = st.builds("[{}{}]".format, st.sampled_from(["", "^"]), inner)
    atoms = st.one_of(
        st.sampled_from(CHARACTERS).map(re.escape), st.sampled_from(odd.split()), st.sampled_from(CHARACTERS), classes
    )
    openings = ["(", "(?:", "(?i:", "(?s-i:", "(?m:", "(?P<n>", "(?=", "(?!", "(?<=", "(?>", "(?-s:"]

    def longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        signs = ["", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{,2}", "{1,}", "{1,2}?", "{,}", "{1", "*+"]
        group = st.builds("{}{})".format, st.sampled_from(openings), inner)
        repeated = st.builds("{}{}".format, inner | group, st.sampled_from(signs))
        return st.one_of(repeated, st.builds("{}{}".format, inner, inner), st.builds("{}|{}".format, inner, inner))

    flags = st.sampled_from(["", "", "(?i)", "(?m)", "(?s)", "(?a)", "(?im)(?s)", "(?ai)", "(?x)"])
    return st.builds("{}{}".format, flags, st.recursive(atoms, longer, max_leaves=8))


def is_sound(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


@settings(max_examples=100)
@given(patterns().filter(is_sound), st.lists(st.none() | TEXTS, min_size=1, max_size=30))
def test_any_pattern_finds_what_python_finds(pattern: str, texts: list[str | None]) -> None:
    assert verdicts(pattern, texts) == searched(pattern, texts)


def test_only_letters_with_another_case_are_more_than_themselves() -> None:
    """Where case does not count, only these are asked about: Python must take no other for a letter."""
    others = "".join(sorted(set(regex._everything()) - set(regex._with_case())))
    assert not re.search(f"[{regex._with_case()}]", others, re.IGNORECASE)


@pytest.mark.parametrize("pattern", ["(", "[b-", "a**", r"\p", "(?P<a>b", "a{2,1}"])
def test_a_wrong_pattern_is_refused_before_anything_is_read(pattern: str) -> None:
    with pytest.raises(re.error):
        regex.matches(pl.col("text"), pattern)


@pytest.mark.parametrize("pattern", [r"^a\d$", r"(?=a)", r"\ba"])
def test_verdicts_stream_and_keep_their_order(pattern: str) -> None:
    texts = [f"a{i % 12}" if i % 7 else None if i % 2 else f"é{i}" for i in range(50_000)]
    lazy = pl.LazyFrame({"text": texts}).select(regex.matches(pl.col("text"), pattern))
    assert lazy.collect(engine="streaming").to_series().to_list() == searched(pattern, texts)


def test_python_judges_each_text_of_a_batch_once() -> None:
    asked: list[str] = []

    def judge(text: str) -> bool:
        asked.append(text)
        return "a" in text

    frame = pl.DataFrame({"text": ["a", "b", "a", None, "b" * 1000, "b" * 1000]})
    judged = regex.per_distinct(pl.col("text"), judge)
    assert frame.select(judged).to_series().to_list() == [True, False, True, None, False, False]
    assert sorted(asked) == ["a", "b", "b" * 1000]
    frame.select(judged)
    assert sorted(asked) == ["a", "b", "b" * 1000, "b" * 1000], "short texts are known from the last batch"


@pytest.mark.parametrize(
    ("pattern", "escape", "like", "unlike"),
    [
        ("a%", None, ["a", "ab", "a\nb\n"], ["", "ba", "A"]),
        ("_b", None, ["ab", "éb", "\nb", "😀b"], ["b", "aab", "ab\n"]),
        ("%.jpg", None, ["x.jpg", ".jpg"], ["xjpg", "x.jpg "]),
        ("100!%", "!", ["100%"], ["100", "100!"]),
        ("a!!_", "!", ["a!b"], ["a!", "ab"]),
        ("", None, [""], ["a"]),
    ],
)
def test_a_like_pattern_is_about_the_whole_text(
    pattern: str, escape: str | None, like: list[str], unlike: list[str]
) -> None:
    found = pl.DataFrame({"text": [*like, *unlike, None]}).select(regex.like(pl.col("text"), pattern, escape))
    assert found.to_series().to_list() == [True] * len(like) + [False] * len(unlike) + [None]
