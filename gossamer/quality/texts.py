"""What a text gives away by itself: broken encoding, markup, a placeholder, a page that is none, its language.

Here are the signs, as expressions over text columns and as functions; what their shares mean is in `defaults`.
"""

import re
from collections import Counter
from collections.abc import Iterable

import polars as pl

#: U+FFFD, UTF-8 read as Latin-1 or Windows-1252 (once or twice), a stray byte order mark, control characters.
_BROKEN = r"\x{FFFD}|\x{FEFF}|[ÃÂ][\x{80}-\x{BF}\x{192}\x{201A}-\x{2122}]|â€|â\x{80}|[\x{80}-\x{9F}]|[\x{0}-\x{8}]"
_MARKUP = (
    r"(?i)</?(?:a|b|br|div|em|h[1-6]|i|img|li|ol|p|script|span|strong|style|table|td|tr|ul)(?:\s[^<>]*)?/?>"
    r"|&(?:amp|lt|gt|quot|nbsp|#\d{2,5}|#x[0-9a-f]{2,4});"
)
_PLACEHOLDER = (
    r"(?i)^\s*(?:n/?a|n\.a\.|none|null|nil|nan|undefined|unknown|tb[ad]|todo|test|xxx+|lorem ipsum.*|not available"
    r"|coming soon|loading\.{0,3}|\[object object\]|\{\{.*\}\}|\$\{.*\}|[-\x{2013}\x{2014}_.?*#]+|0000-00-00.*)\s*$"
)
#: What the texts of pages say that are not what was asked for, by what they are.
_WALLS = {
    "block page": (
        r"captcha|access (?:to this (?:page|site|resource) )?(?:has been |is |was )?denied|you are not a robot"
        r"|are you (?:a )?(?:human|robot)\b|verify (?:that )?you(?:'| a)re (?:a )?human"
        r"|unusual (?:traffic|activity) from"
        r"|checking your browser|^just a moment\b|attention required|enable javascript and cookies|request blocked"
        r"|(?:have|has) been (?:temporarily )?blocked|too many requests|rate limit exceeded|^(?:403 )?forbidden\b"
        r"|pardon our interruption|ddos protection|automated (?:requests|access|queries)"
    ),
    "login page": (
        r"^(?:please )?(?:log|sign) ?in$|^(?:please )?(?:log|sign) in (?:to|or|with)\b"
        r"|(?:log|sign) in to (?:continue|your account)|you must (?:be logged|log|sign) in"
        r"|forgot(?:ten)? (?:your )?password"
    ),
    "error page": (
        r"^(?:error )?(?:404|500|502|503|504)\b.{0,40}(?:error|not found|gateway|unavailable)|^page not found"
        r"|^internal server error|^service (?:temporarily )?unavailable|^bad gateway|^gateway time-?out"
        r"|under maintenance|^site not found|this domain (?:is|may be) for sale"
    ),
}
#: A wall says what it is at once; what stands far down in a text is the text's own subject.
_BEGINNING = 160
#: Function words of languages of the web in letters; those that several have are left out where they mislead.
_WORDS = {
    "English": "the and of to is in that it with for was his her this from are you not have an",
    "German": "der die und das ist nicht ein eine mit dem den von zu auf sich für im auch wird sie",
    "French": "le les des et une est dans pour qui pas du sur au avec ce il elle sont cette plus",
    "Spanish": "el los las y una es en por con para del que se su como al pero más lo este",
    "Italian": "il gli che di è una per non sono con della nel alla più anche dei del le si questo",
    "Portuguese": "os das dos e uma é em não para com do da que um por mais como seu sua ao",
    "Dutch": "het een van en de is niet dat zijn op te met voor aan er maar ook door naar wordt",
    "Polish": "i w na nie się z do to że jest o jak po przez dla od ale są był oraz",
    "Swedish": "och att det som en på är av för med den inte till ett om har de han hon var",
    "Turkish": "ve bir bu için ile da de çok olarak daha gibi olan ne en kadar sonra ama her o mi",
}
#: Word -> the languages that have it.
_LANGUAGES = {
    word: [language for language, words in _WORDS.items() if word in words.split()]
    for word in set(" ".join(_WORDS.values()).split())
}
#: Languages (or groups of them) that their letters give away; the first that fits holds.
_SCRIPTS = {
    "Japanese": re.compile(r"[\u3040-\u30ff]"),
    "Chinese": re.compile(r"[\u4e00-\u9fff]"),
    "Korean": re.compile(r"[\uac00-\ud7af]"),
    "Cyrillic script": re.compile(r"[\u0400-\u04ff]{2}"),
    "Greek": re.compile(r"[\u0370-\u03ff]{2}"),
    "Arabic script": re.compile(r"[\u0600-\u06ff]{2}"),
    "Hebrew": re.compile(r"[\u0590-\u05ff]{2}"),
    "Thai": re.compile(r"[\u0e00-\u0e7f]{2}"),
}
_WORD = re.compile(r"[^\W\d_]+")
#: So many function words of one language make a text one of it.
_ENOUGH = 3


def is_broken(text: pl.Expr) -> pl.Expr:
    """Whether a text was decoded wrongly somewhere on its way."""
    return text.str.contains(_BROKEN)


def has_markup(text: pl.Expr) -> pl.Expr:
    """Whether HTML's tags or entities stand in a text."""
    return text.str.contains(_MARKUP)


def is_placeholder(text: pl.Expr) -> pl.Expr:
    """Whether a text only says that there is nothing to say: `N/A`, `-`, `{{title}}`."""
    return text.str.contains(_PLACEHOLDER)


def is_wall(text: pl.Expr, kind: str) -> pl.Expr:
    """Whether a text is the beginning of a page of this kind (see `WALLS`) instead of what was asked for."""
    return text.str.strip_chars().str.slice(0, _BEGINNING).str.contains(f"(?i){_WALLS[kind]}")


WALLS = tuple(_WALLS)


def languages(texts: Iterable[str]) -> Counter[str]:
    """Language -> number of the texts that are in it; texts that are too short to tell are not counted."""
    return Counter(language for text in texts if (language := _language(text)))


def _language(text: str) -> str | None:
    script = None if text.isascii() else next((name for name, sign in _SCRIPTS.items() if sign.search(text)), None)
    words = _WORD.findall(text.lower())
    if script and not any(word.isascii() for word in words[:_ENOUGH]):
        return script
    found = Counter(language for word in words for language in _LANGUAGES.get(word, ()))
    (best, count), (_, second) = [*found.most_common(2), ("", 0), ("", 0)][:2]
    return best if count >= _ENOUGH and count > second else None
