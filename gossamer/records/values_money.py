"""Prices as pages write them: the declared type `money`, an amount and its currency."""

import re
from decimal import Decimal, InvalidOperation
from functools import cache

import polars as pl

from gossamer.locales import Locale
from gossamer.schema import MONEY

DTYPE = pl.Struct({"amount": MONEY, "currency": pl.String})
_TOO_MUCH = Decimal(10) ** 14
#: So long is a symbol that may go on: euros, рублей.
_STEM = 3
_SMALLEST = Decimal("0.0001")
_MINUS = ("-", "−", "–")  # noqa: RUF001 - what pages write for a minus

#: ISO 4217 codes, and what stands for that currency only, or nearly so; the rest stays as it was written.
_WRITTEN = {
    "AUD": "A$ AU$",
    "BRL": "R$",
    "CAD": "C$ CA$",
    "CNY": "CN¥",
    "CZK": "Kč",
    "EUR": "€ eur euro",
    "GBP": "£",
    "HKD": "HK$",
    "ILS": "₪",
    "INR": "₹",
    "JPY": "¥ ￥",
    "KRW": "₩",
    "MXN": "MX$",
    "NGN": "₦",
    "NZD": "NZ$",
    "PHP": "₱",
    "PLN": "zł Zł",
    "RUB": "₽ руб руб. р. р Р",  # noqa: RUF001 - Cyrillic
    "SGD": "S$",
    "THB": "฿",
    "TRY": "₺",
    "TWD": "NT$",
    "UAH": "₴ грн грн.",
    "USD": "$ US$",
    "VND": "₫",
}
CURRENCIES = {symbol: code for code, symbols in _WRITTEN.items() for symbol in symbols.split()}
#: Symbols that several currencies have, which a locale decides between.
_SHARED = {
    "$": {"ARS", "AUD", "CAD", "CLP", "COP", "HKD", "MXN", "NZD", "SGD", "TWD", "USD", "UYU"},
    "kr": {"DKK", "ISK", "NOK", "SEK"},
    "¥": {"CNY", "JPY"},
    "￥": {"CNY", "JPY"},
    "£": {"EGP", "GBP"},
    "﷼": {"IRR", "SAR"},
}
#: One separator and three digits, thousands or decimals: after a zero, or after four digits and more, decimals.
_THREE_DIGITS = re.compile(r"(\d+)([.,])(\d{3})")
#: Marks that price-parser does not know -> what stands for the same with it.
_MARKS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\uff07\u066c", "'") | {"\u066b": ".", "\uff0c": ",", "\uff0e": "."}
)
_ARABIC_DECIMAL = "\u066b"
#: A point that ends a word begins no decimals: Rs.50
_POINT = re.compile(r"(?<=[^\W\d_])\.(?=\d)")
#: A number as price-parser takes it out of a text, and how one is written: what else it joins is more than one number.
_NUMBER = re.compile(r"\.?\d(?:[\d .,']*\d)?")
_WRITTEN_SO = re.compile(
    r"\.?\d+|\d+[.,](?:\d+| \d\d)"
    r"|\d{1,3}([ '.,])\d{3}(?:\1\d{3})*(?:[.,](?:\d+| \d\d))?"
    r"|\d{1,2}(?:,\d\d)+,\d{3}(?:\.\d+)?"
)
#: What makes an amount another one where it stands behind: 10-20, 1e6, 15 %, 1.5M, 1,2 Mio., 99¢, 5 USD million.
_GOES_ON = re.compile(
    r"(?:[^\w\s/|()\[\]{}]|_|[^\W\d_]+)\d|\s*[%‰¢万萬億亿千만억]"
    r"|\s*(?:k|m|mm|mn|b|bn|cr|mil|c|cts?|cents?|p|pence|коп|öre|øre)(?![^\W\d_]|[./&]\w)",
    re.IGNORECASE,
)
_TIMES = re.compile(
    r"\s*(?:mln|mio|million(?:s|en|es)?|billions?|mrd|mld|milliard(?:s|en)?|tsd|tys|thousand|lakhs?|lacs?|crores?"
    r"|тыс|млн|млрд)(?![^\W\d_])",
    re.IGNORECASE,
)
#: The same where it stands before one: the 234 of 1·234 and the 6 of 1e6 are no amounts.
_WENT_ON = re.compile(r"\d(?:[^\w\s/|()\[\]{}]|_|[^\W\d_]+)$")
_CENTS = re.compile(r"[.,]\d\d$")


def money(text: str, locale: Locale) -> dict[str, object] | None:
    """An amount in the text and what it is in (`DTYPE`); None where there is none, or it is not read as a whole.

    It is the first one that a currency stands at, else the first. `1.234` is more than a thousand unless the locale
    says otherwise; price-parser reads it so, as most pages mean it.
    """
    from price_parser import Price

    decimal = "." if _ARABIC_DECIMAL in text else None
    text = _POINT.sub(". ", " ".join(text.translate(_MARKS).split()))
    symbol = _symbol(Price.fromstring(text).currency, text)
    if symbol.isalpha():
        text = re.sub(rf"{symbol} ?\$", symbol, text)  # NZD $5
    start = _start(text, symbol)
    before, rest = text[:start].rstrip(), text[start:]
    if before.endswith(_MINUS) or (_WENT_ON.search(text[:start]) and not rest.startswith(symbol or " ")):
        return None
    price = Price.fromstring(rest, decimal_separator=decimal)
    if price.amount is None:
        return None
    amount = (_decimals(price.amount_text or "", locale) if decimal is None else None) or price.amount
    if abs(amount) >= _TOO_MUCH:
        return None
    if any(map(str.isdigit, text)):
        sign = _sign(rest, price.amount_text or "", symbol)
        if sign is None:
            return None
        amount *= sign
    try:
        amount = amount.quantize(_SMALLEST)
    except InvalidOperation:
        return None
    return {"amount": amount, "currency": _currency(symbol, locale)}


def _start(text: str, symbol: str) -> int:
    """Where the first amount begins that the currency stands at, with it; 0 where that is the first number anyway."""
    if not symbol:
        return 0
    numbers = list(_NUMBER.finditer(text))
    for blank in ("", " "):
        for number in numbers:
            before, after = text[: number.start()], text[number.end() :]
            if before.endswith(symbol + blank):
                return 0 if number is numbers[0] else len(before) - len(symbol + blank)
            if after.startswith(blank + symbol):
                return 0 if number is numbers[0] else number.start()
    return 0


def _decimals(amount: str, locale: Locale) -> Decimal | None:
    """An amount with three decimals, None where they are none or price-parser knows as well."""
    match = _THREE_DIGITS.fullmatch(amount)
    if not match:
        return None
    sure = match[1].startswith("0") or len(match[1]) > 3
    return Decimal(f"{match[1]}.{match[3]}") if sure or match[2] == locale.decimal else None


def _symbol(found: str | None, text: str) -> str:
    # price-parser also finds letters within words: the R of "Price: 5" is no currency.
    return found if found and re.search(_word(found), text) else ""


def _currency(symbol: str, locale: Locale) -> str | None:
    if locale.currency in _SHARED.get(symbol, ()):
        return locale.currency
    return CURRENCIES.get(symbol, symbol) or None


@cache
def _word(symbol: str) -> str:
    """A symbol that begins a word, and ends it if it is so short that other words begin like it."""
    before = r"(?<![^\W\d_])" if symbol[0].isalpha() else ""
    after = r"(?![^\W\d_])" if symbol[-1].isalpha() and len(symbol) < _STEM else ""
    return before + re.escape(symbol) + after


def _sign(text: str, amount: str, symbol: str) -> int | None:
    """-1 for an amount with a minus or alone in parentheses, else 1; None where it is not all of what stands there.

    price-parser drops both. A dash between words or amounts is no minus: nothing but the currency may stand with it
    before the amount.
    """
    if "€" in amount:  # it stands for the decimal separator: 35€99
        return -1 if text.startswith(_MINUS) else 1
    number = next((each for each in _NUMBER.finditer(text) if _digits(each[0]) == _digits(amount)), None)
    if number is None or not _WRITTEN_SO.fullmatch(number[0]):
        return None
    before, after = text[: number.start()], text[number.end() :]
    with_currency = bool(symbol) and after.lstrip().startswith(symbol)
    if after[:1].isnumeric() or (_GOES_ON.match(after) and not with_currency):
        return None
    before, after = (part.replace(symbol, "", 1).strip() if symbol else part.strip() for part in (before, after))
    if _TIMES.match(after) or (after in _MINUS and _CENTS.search(number[0])):
        return None
    return -1 if before in _MINUS or (before == "(" and after == ")") else 1


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))
