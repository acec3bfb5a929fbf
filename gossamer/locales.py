"""How a site writes what can be read in more than one way: the `locale` of a source's declaration.

Here is what a locale says (`Locale`), and what a plain name such as `de-DE` stands for. How values are read by it is in
`gossamer.records`.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gossamer.partition import TimeZone
from gossamer.strict import Strict

DateOrder = Literal["DMY", "MDY", "YMD"]

#: Languages whose words are read, with those for true and for false; English ones are read everywhere.
WORDS: dict[str, tuple[str, str]] = {
    "ar": ("نعم", "لا"),
    "bg": ("да", "не"),
    "ca": ("sí si", "no"),
    "cs": ("ano", "ne"),
    "da": ("ja", "nej"),
    "de": ("ja wahr", "nein falsch"),
    "el": ("ναι", "όχι"),  # noqa: RUF001 - Greek
    "en": ("yes true", "no false"),
    "es": ("sí si verdadero", "no falso"),
    "et": ("jah", "ei"),
    "fa": ("بله", "خیر"),
    "fi": ("kyllä", "ei"),
    "fr": ("oui vrai", "non faux"),
    "he": ("כן", "לא"),
    "hi": ("हाँ हां", "नहीं"),
    "hr": ("da", "ne"),
    "hu": ("igen", "nem"),
    "id": ("ya", "tidak"),
    "is": ("já", "nei"),
    "it": ("sì si vero", "no falso"),
    "ja": ("はい", "いいえ"),
    "ko": ("예 네", "아니오 아니요"),
    "lt": ("taip", "ne"),
    "lv": ("jā", "nē"),
    "ms": ("ya", "tidak"),
    "nb": ("ja", "nei"),
    "nl": ("ja", "nee"),
    "pl": ("tak", "nie"),
    "pt": ("sim verdadeiro", "não nao falso"),
    "ro": ("da", "nu"),
    "ru": ("да", "нет"),
    "sk": ("áno", "nie"),
    "sl": ("da", "ne"),
    "sr": ("da да", "ne не"),
    "sv": ("ja", "nej"),
    "th": ("ใช่", "ไม่ใช่"),
    "tr": ("evet", "hayır hayir"),  # noqa: RUF001 - Turkish
    "uk": ("так", "ні"),
    "vi": ("có", "không"),
    "zh": ("是", "否"),
}

#: Territory -> decimal separator, order of a numeric date, currency, time zone; - where it has more than one.
_TERRITORIES = """
AE . DMY AED Asia/Dubai       AR , DMY ARS America/Argentina/Buenos_Aires
AT , DMY EUR Europe/Vienna    AU . DMY AUD -
BE , DMY EUR Europe/Brussels  BG , DMY EUR Europe/Sofia
BR , DMY BRL -                CA . -   CAD -
CH . DMY CHF Europe/Zurich    CL , DMY CLP America/Santiago
CN . YMD CNY Asia/Shanghai    CO , DMY COP America/Bogota
CY , DMY EUR Asia/Nicosia     CZ , DMY CZK Europe/Prague
DE , DMY EUR Europe/Berlin    DK , DMY DKK Europe/Copenhagen
EE , DMY EUR Europe/Tallinn   EG . DMY EGP Africa/Cairo
ES , DMY EUR Europe/Madrid    FI , DMY EUR Europe/Helsinki
FR , DMY EUR Europe/Paris     GB . DMY GBP Europe/London
GR , DMY EUR Europe/Athens    HK . DMY HKD Asia/Hong_Kong
HR , DMY EUR Europe/Zagreb    HU , YMD HUF Europe/Budapest
ID , DMY IDR -                IE . DMY EUR Europe/Dublin
IL . DMY ILS Asia/Jerusalem   IN . DMY INR Asia/Kolkata
IS , DMY ISK Atlantic/Reykjavik  IT , DMY EUR Europe/Rome
JP . YMD JPY Asia/Tokyo       KE . DMY KES Africa/Nairobi
KR . YMD KRW Asia/Seoul       LI . DMY CHF Europe/Vaduz
LT , YMD EUR Europe/Vilnius   LU , DMY EUR Europe/Luxembourg
LV , DMY EUR Europe/Riga      MT . DMY EUR Europe/Malta
MX . DMY MXN -                MY . DMY MYR Asia/Kuala_Lumpur
NG . DMY NGN Africa/Lagos     NL , DMY EUR Europe/Amsterdam
NO , DMY NOK Europe/Oslo      NZ . DMY NZD Pacific/Auckland
PE . DMY PEN America/Lima     PH . MDY PHP Asia/Manila
PL , DMY PLN Europe/Warsaw    PT , DMY EUR Europe/Lisbon
RO , DMY RON Europe/Bucharest RS , DMY RSD Europe/Belgrade
RU , DMY RUB -                SA . DMY SAR Asia/Riyadh
SE , YMD SEK Europe/Stockholm SG . DMY SGD Asia/Singapore
SI , DMY EUR Europe/Ljubljana SK , DMY EUR Europe/Bratislava
TH . DMY THB Asia/Bangkok     TR , DMY TRY Europe/Istanbul
TW . YMD TWD Asia/Taipei      UA , DMY UAH Europe/Kiev
US . MDY USD -                UY , DMY UYU America/Montevideo
VN , DMY VND Asia/Ho_Chi_Minh ZA . YMD ZAR Africa/Johannesburg
"""
#: Where the language decides.
_EXCEPTIONS = {("fr", "CA"): {"decimal": ",", "dates": "YMD"}, ("sv", "FI"): {"dates": "YMD"}}

_LANGUAGE_NAMES = {"no": "nb", "iw": "he", "in": "id"}


def _territories() -> dict[str, dict[str, str]]:
    words = _TERRITORIES.split()
    rows = (words[at : at + 5] for at in range(0, len(words), 5))
    names = ("decimal", "dates", "currency", "timezone")
    return {row[0]: {n: v for n, v in zip(names, row[1:], strict=True) if v != "-"} for row in rows}


TERRITORIES = _territories()


def _known_language(language: str) -> str:
    language = _LANGUAGE_NAMES.get(language, language)
    if language not in WORDS:
        raise ValueError(f"{language!r} is not a language that is read; known are {', '.join(WORDS)}")
    return language


def _iso_currency(code: str) -> str:
    if not re.fullmatch(r"[A-Z]{3}", code):
        raise ValueError(f"{code!r} is not a currency; write its ISO code, like EUR")
    return code


class Locale(Strict):
    """How a site writes numbers, dates and money. What no hint decides is not guessed."""

    language: Annotated[str, AfterValidator(_known_language)] | None = Field(
        None, description="language of dates and of words for yes and no: de"
    )
    decimal: Literal[".", ","] | None = Field(None, description="what stands before the decimals; the other one groups")
    dates: DateOrder | None = Field(None, description="order of a numeric date such as 03/04/2026")
    currency: Annotated[str, AfterValidator(_iso_currency)] | None = Field(
        None, description="what a symbol of several currencies means ($, kr, ¥), as ISO code"
    )
    timezone: TimeZone | None = Field(None, description="time zone of times that are written without one; else UTC")


def named(name: str) -> dict[str, str]:
    """The parts of a locale called `de-DE`, or of a language alone: `de`.

    Raises:
        ValueError: it is no such name.
    """
    match = re.fullmatch(r"([a-z]{2,3})(?:[-_]([A-Z]{2}))?", name)
    if not match:
        raise ValueError(f"{name!r} is not a locale; write language and country, like de-DE, or the parts")
    language, territory = _known_language(match[1]), match[2]
    if territory is None:
        return {"language": language}
    if territory not in TERRITORIES:
        raise ValueError(
            f"{name!r}: nothing is known of {territory}; write the parts, like "
            f"{{language: {language}, decimal: '.', dates: DMY, currency: EUR, timezone: UTC}}"
        )
    return {"language": language, **TERRITORIES[territory], **_EXCEPTIONS.get((language, territory), {})}
