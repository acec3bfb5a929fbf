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


def money(text: str, locale: Locale) -> dict[str, object] | None:
    """The first amount in the text and what it is in (`DTYPE`); None where there is none.

    `1.234` is more than a thousand unless the locale says otherwise; price-parser reads it so, as most pages mean it.
    """
    from price_parser import Price

    price = Price.fromstring(text)
    if price.amount is None:
        return None
    amount = _decimals(price.amount_text or "", locale) or price.amount
    if abs(amount) >= _TOO_MUCH:
        return None
    if _is_negative(text, price.amount_text or "", price.currency or ""):
        amount = -amount
    try:
        amount = amount.quantize(_SMALLEST)
    except InvalidOperation:
        return None
    return {"amount": amount, "currency": _currency(price.currency, text, locale)}


def _decimals(amount: str, locale: Locale) -> Decimal | None:
    """An amount with three decimals, None where they are none or price-parser knows as well."""
    match = _THREE_DIGITS.fullmatch(amount)
    if not match:
        return None
    sure = match[1].startswith("0") or len(match[1]) > 3
    return Decimal(f"{match[1]}.{match[3]}") if sure or match[2] == locale.decimal else None


def _currency(symbol: str | None, text: str, locale: Locale) -> str | None:
    # price-parser also finds letters within words: the R of "Price: 5" is no currency.
    if symbol is None or not re.search(_word(symbol), text):
        return None
    if locale.currency in _SHARED.get(symbol, ()):
        return locale.currency
    return CURRENCIES.get(symbol, symbol)


@cache
def _word(symbol: str) -> str:
    """A symbol that begins a word, and ends it if it is so short that other words begin like it."""
    before = r"(?<![^\W\d_])" if symbol[0].isalpha() else ""
    after = r"(?![^\W\d_])" if symbol[-1].isalpha() and len(symbol) < _STEM else ""
    return before + re.escape(symbol) + after


def _is_negative(text: str, amount: str, currency: str) -> bool:
    """Whether an amount has a minus, or stands alone in parentheses; price-parser drops both.

    A dash between words or amounts is no minus: nothing but the currency may stand with it before the amount.
    """
    before, _, after = text.strip().partition(amount)
    before, after = (part.replace(currency, "", 1).strip() if currency else part.strip() for part in (before, after))
    return before in _MINUS or (before == "(" and after == ")")
