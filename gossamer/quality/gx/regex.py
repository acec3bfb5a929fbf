"""Patterns on text: Python's `re.search`, evaluated by Polars wherever that is provably the same.

The regex engine of Polars is Rust's. It is many times faster, and it silently disagrees with Python: on `$` before a
last newline, on what digits, spaces, letters and the edges of words are, on upper and lower case, on `[[:alpha:]]`,
`[a&&b]` and `[a--b]`. So a pattern is not handed over: it is read here and written anew with nothing that the two take
differently. What one character may be (a class, a digit, a letter whatever its case) is looked up in no table: Python's
own engine is asked about every character, and the answer is written out as ranges.

What has no counterpart (look-around, references, atomic groups...) and what this reader does not know goes to Python,
once per distinct text. Nothing here knows Great Expectations.
"""

import re
import sys
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import polars as pl

#: Counted repetitions beyond this are left to Python: Rust writes each of them out.
_MOST_REPETITIONS: Final = 1000
#: Verdicts on texts that Python judged are kept from one batch to the next, as many as this, and none of a long text.
_KEPT: Final = 1 << 15
_LONG: Final = 256

_REPEAT: Final = re.compile(r"([*+?])|\{(?:([0-9]+)|([0-9]*),([0-9]*))\}")
_GLOBAL_FLAGS: Final = re.compile(r"\(\?([aimsu]+)\)")
_GROUP: Final = re.compile(r"\((?:\?(?:P<[^>]*>|([ims]*)(?:-([ims]+))?:)|(?!\?))")
_CLASS: Final = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_CODE: Final = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
_CONTROL: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_FLAGS: Final = {"a": re.ASCII, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "u": re.UNICODE}


def matches(text: pl.Expr, pattern: str) -> pl.Expr:
    """Whether `re.search(pattern, text)` finds anything, for each text; null where there is no text.

    A pattern that Python has to judge is as slow as Python makes it: one that backtracks without end, as
    `(?=a)(a+)+$` does, does so here too.

    Raises:
        re.error: the pattern is wrong.
    """
    search = re.compile(pattern).search
    rust = _translated(pattern)
    if rust and rust.anywhere:
        return text.str.contains(rust.pattern)
    judge = _asking(lambda value: search(value) is not None)
    if rust:
        judge = _divided(rust.pattern, judge)
    return text.map_batches(judge, return_dtype=pl.Boolean, is_elementwise=True)


def like(text: pl.Expr, pattern: str, escape: str | None = None) -> pl.Expr:
    """Whether the whole of each text is like an SQL pattern: `%` is any text, `_` any one character."""
    wild = {"%": "(?s:.*)", "_": "(?s:.)"}
    written, characters = "", iter(pattern)
    for character in characters:
        if character == escape:
            written += _literal(next(characters, character))
        else:
            written += wild.get(character) or _literal(character)
    return text.str.contains(rf"\A{written}\z")


def per_distinct(text: pl.Expr, judge: Callable[[str], bool]) -> pl.Expr:
    """What Python's `judge` says of each text: asked once per distinct text of a batch, null where there is none."""
    return text.map_batches(_asking(judge), return_dtype=pl.Boolean, is_elementwise=True)


def _asking(judge: Callable[[str], bool]) -> Callable[[pl.Series], pl.Series]:
    kept = lru_cache(maxsize=_KEPT)(judge)

    def ask(texts: pl.Series) -> pl.Series:
        distinct = texts.drop_nulls().unique()
        verdicts = [kept(value) if len(value) <= _LONG else judge(value) for value in distinct]
        known = pl.DataFrame({"text": distinct, "verdict": pl.Series(verdicts, dtype=pl.Boolean)})
        rows = pl.DataFrame({"text": texts})
        return rows.join(known, on="text", how="left", maintain_order="left")["verdict"].alias(texts.name)

    return ask


def _divided(rust: str, by_python: Callable[[pl.Series], pl.Series]) -> Callable[[pl.Series], pl.Series]:
    """Has plain ASCII judged by Rust, and any other text by Python."""

    def ask(texts: pl.Series) -> pl.Series:
        plain = texts.str.len_bytes() == texts.str.len_chars()
        verdicts = texts.str.contains(rust)
        return verdicts if plain.all() else verdicts.zip_with(plain, by_python(texts.set(plain, None)))

    return ask


class _Rust(NamedTuple):
    """A pattern for Rust; `anywhere`: the same on every text, else on plain ASCII only."""

    pattern: str
    anywhere: bool


class _Part(NamedTuple):
    """A piece of a pattern, written for Rust.

    Attributes:
        nullable: it may match nothing at all.
        ends: only the end of the text may follow it.
    """

    rust: str
    nullable: bool = False
    ends: bool = False


class _UnknownError(Exception):
    """Python has to judge this pattern."""


@lru_cache(maxsize=1024)
def _translated(pattern: str) -> _Rust | None:
    """The same pattern for Rust, None if there is none or it is not known to be the same."""
    try:
        reader = _Reader(pattern)
        rust = _Rust(reader.read(), reader.anywhere)
        pl.Series([""]).str.contains(rust.pattern)  # too large for Rust, or nested too deeply?
    except (_UnknownError, pl.exceptions.ComputeError):
        return None
    return rust


class _Reader:
    """Reads a pattern that Python has found sound, from left to right, and writes it for Rust."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0
        self.anywhere = True

    def read(self) -> str:
        flags = re.NOFLAG
        while found := self._take(_GLOBAL_FLAGS):
            flags |= _flags(found[1])
        part = self._alternatives(flags)
        if self.place < len(self.pattern):
            raise _UnknownError
        return part.rust

    def _take(self, what: re.Pattern[str]) -> re.Match[str] | None:
        found = what.match(self.pattern, self.place)
        if found:
            self.place = found.end()
        return found

    def _next(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def _alternatives(self, flags: re.RegexFlag) -> _Part:
        branches = [self._branch(flags)]
        while self._next() == "|":
            self.place += 1
            branches.append(self._branch(flags))
        rust = "|".join(branch.rust for branch in branches)
        return _Part(rust, any(branch.nullable for branch in branches), any(branch.ends for branch in branches))

    def _branch(self, flags: re.RegexFlag) -> _Part:
        parts: list[_Part] = []
        while self._next() not in ("", "|", ")"):
            if parts and parts[-1].ends:  # `$` took the last newline, which Python would leave for what follows
                raise _UnknownError
            parts.append(self._repeated(self._atom(flags)))
        ends = bool(parts) and parts[-1].ends
        return _Part("".join(part.rust for part in parts), all(part.nullable for part in parts), ends)

    def _repeated(self, part: _Part) -> _Part:
        found = self._take(_REPEAT)
        if not found:
            return part
        sign, exactly, low, high = found.groups()
        if sign:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        elif exactly:
            least = most = int(exactly)
        else:
            least, most = int(low or 0), int(high) if high else None
        # What may match nothing is repeated by rules of one's own, in Python and in Rust.
        if part.ends or (part.nullable and most != 1) or max(least, most or 0) > _MOST_REPETITIONS:
            raise _UnknownError
        if self._next() == "+":  # possessive
            raise _UnknownError
        if self._next() == "?":  # lazy: another match, but a match all the same
            self.place += 1
        times = f"{{{least},{'' if most is None else most}}}"
        return _Part(f"(?:{part.rust}){times}", part.nullable or least == 0)

    def _atom(self, flags: re.RegexFlag) -> _Part:
        character = self._next()
        if character == "(":
            return self._group(flags)
        if character == "[":
            found = self._take(_CLASS)
            if not found:
                raise _UnknownError
            return _Part(_class(found[0], flags))
        self.place += 1
        match character:
            case "\\":
                return self._escape(flags)
            case ".":
                return _Part("(?s:.)" if flags & re.DOTALL else r"[^\n]")
            case "^":
                return _Part("(?m:^)" if flags & re.MULTILINE else r"\A", nullable=True)
            case "$" if flags & re.MULTILINE:
                return _Part("(?m:$)", nullable=True)
            case "$":
                return _Part(r"(?:\n?\z)", nullable=True, ends=True)
        return _Part(_one(character, flags))

    def _group(self, flags: re.RegexFlag) -> _Part:
        found = self._take(_GROUP)
        if not found:
            raise _UnknownError
        part = self._alternatives((flags | _flags(found[1])) & ~_flags(found[2]))
        if self._next() != ")":
            raise _UnknownError
        self.place += 1
        return part._replace(rust=f"(?:{part.rust})")

    def _escape(self, flags: re.RegexFlag) -> _Part:
        if found := self._take(_CODE):
            return _Part(_one(chr(int(found[1] or found[2] or found[3], 16)), flags))
        character = self._next()
        self.place += 1
        if character in "dDsSwW":
            return _Part(_class(f"\\{character}", flags))
        if character in "AZ":
            return _Part({"A": r"\A", "Z": r"\z"}[character], nullable=True)
        if character == "b":
            # what a word is differs beyond ASCII, and unlike a class, its edge cannot be spelt out
            self.anywhere = self.anywhere and bool(flags & re.ASCII)
            return _Part(r"(?-u:\b)", nullable=True)
        if character in _CONTROL:
            return _Part(_one(_CONTROL[character], flags))
        if character.isalnum():  # references, octal codes, names; \B, which on an empty text is as old as Python is
            raise _UnknownError
        return _Part(_one(character, flags))


def _flags(letters: str | None) -> re.RegexFlag:
    flags = re.NOFLAG
    for letter in letters or "":
        flags |= _FLAGS[letter]
    return flags


def _literal(character: str) -> str:
    return character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):x}}}"


def _one(character: str, flags: re.RegexFlag) -> str:
    """One character, as it is written or, where case does not count, all that Python takes for it."""
    if "\ud800" <= character <= "\udfff":  # no text of Polars holds one
        raise _UnknownError
    if not flags & re.IGNORECASE:
        return _literal(character)
    others = re.findall(re.escape(character), _with_case(), flags)
    return "[" + "".join(map(_literal, {character, *others})) + "]"


@lru_cache(maxsize=1024)
def _class(source: str, flags: re.RegexFlag) -> str:
    """A class as the ranges of characters that Python finds in it."""
    # Nothing but ASCII written in it, so beyond ASCII all characters are alike: one stands for them.
    plain = source.isascii() and not flags & re.IGNORECASE and not re.search(r"\\[a-zA-Z0-9]", source)
    universe = _ASCII_AND_ONE if plain else _everything()
    runs = [found[0] for found in re.finditer(f"{source}+", universe, flags)]
    if not runs:
        return r"[^\x{0}-\x{10ffff}]"
    ends = {universe[-1]: "\U0010ffff"}
    return "[" + "".join(f"{_literal(run[0])}-{_literal(ends.get(run[-1], run[-1]))}" for run in runs) + "]"


_ASCII_AND_ONE: Final = "".join(map(chr, range(0x81)))


@lru_cache(maxsize=1)
def _everything() -> str:
    """Every character that a text can hold, in order."""
    codes = array("I", range(0xD800)) + array("I", range(0xE000, 0x110000))
    return codes.tobytes().decode("utf-32-le" if sys.byteorder == "little" else "utf-32-be")


@lru_cache(maxsize=1)
def _with_case() -> str:
    """The characters that have another case; any other is taken for itself alone."""
    return "".join(character for character in _everything() if character.lower() != character.upper())
