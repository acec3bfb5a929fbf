"""Numbers as pages write them: the declared types `int`, `float`, `quantity` and `rating`.

All of it is Polars' own: its regular expressions take linear time, whatever a page holds.
"""

import polars as pl

from gossamer.locales import Locale

#: What may stand between thousands besides the separator that is not the decimal one.
_BLANKS = (" ", "\u00a0", "\u2009", "\u202f", "'", "\u2019")

#: Canonical unit -> how it is written. Amounts are not converted.
UNITS = {
    "mg": "mg milligram milligrams milligramm",
    "g": "g gr gram grams gramm gramme grammes",
    "kg": "kg kgs kilo kilos kilogram kilograms kilogramm kilogramme кг",
    "t": "t tonne tonnes",
    "oz": "oz ounce ounces",
    "lb": "lb lbs pound pounds",
    "ml": "ml millilitre millilitres milliliter milliliters мл",
    "cl": "cl centilitre centilitres centiliter",
    "dl": "dl decilitre decilitres deciliter",
    "l": "l L lt ltr litre litres liter liters litro litros л",
    "fl oz": "fl.oz fl.oz. floz",
    "gal": "gal gallon gallons",
    "mm": "mm millimetre millimetres millimeter millimeters мм",
    "cm": "cm centimetre centimetres centimeter centimeters zentimeter см",
    "m": "m metre metres meter meters",
    "km": "km kilometre kilometres kilometer kilometers км",
    "in": 'in inch inches " ″',
    "ft": "ft foot feet ' ′",  # noqa: RUF001
    "m²": "m² m2 qm sqm",
    "m³": "m³ m3 cbm",
    "%": "% percent prozent",
    "W": "W watt watts",
    "kW": "kW",
    "kWh": "kWh",
    "V": "V volt volts",
    "mAh": "mAh",
    "Hz": "Hz",
    "GHz": "GHz",
    "MB": "MB",
    "GB": "GB",
    "TB": "TB",
    "piece": "pc pcs piece pieces stk stk. stück pièce pièces pieza piezas pezzo pezzi шт шт.",
}
_SPELLINGS = {spelling: unit for unit, spellings in UNITS.items() for spelling in (unit, *spellings.split())}
#: In any case, where that is one unit only, and not of one letter: M is no metre.
_LOWER = {spelling.lower(): unit for spelling, unit in _SPELLINGS.items() if len(spelling) > 1}

#: Decimal separator -> the one that then groups thousands.
_OTHER = {".": ",", ",": "."}
#: The first digits of a number whose thousands are grouped.
_FIRST = r"[1-9]\d{0,2}"
_RATE = r"(\d{1,3}(?:[.,]\d+)?)"
#: Words before a rating; what stands right before it is no sign and no separator of a longer number.
_BEFORE = r"(?is)^(?:\D{0,59}[^\d.,+\u{2212}\u{2013}-])?"
_OF = r"\s*(?:/|out of|of|von|de|sur|su|av|af|uit|van|ze?|из|на)\s*"
_STARS = r"(?:stars?|sterne?n?|étoiles?|estrellas?|estrelas?|stelle|sterren|points?|rating)\b"
_END = rf"\s*(?:$|[()|;★⭐]|[.,](?:\D|$)|-\s|{_STARS}"


def number(text: pl.Expr, locale: Locale) -> pl.Expr:
    """A finite number; without a locale, `1,234` is none, since it could be two."""
    value = _machine(text, locale).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def whole(text: pl.Expr, locale: Locale) -> pl.Expr:
    """A whole number; programs may write it 12.0."""
    return _machine(text, locale).str.replace(r"^([+-]?\d+)\.0+$", "$1").cast(pl.Int64, strict=False)


def quantity(text: pl.Expr, locale: Locale) -> list[pl.Expr]:
    """An amount and its unit by canonical name: `1.5 kg`, `500 ml`. A unit that is not known makes it no quantity."""
    parts = text.str.extract_groups(r"^([+-]?\d(?:[\d.,'\u{2019}\s]*\d)?)\s*([^\d\s][^\d]{0,20}[²³23]?)?$")
    amount, unit = number(parts.struct.field("1"), locale), parts.struct.field("2").str.replace(r"[\s.]+$", "")
    known = pl.coalesce(_look_up(unit, _SPELLINGS), _look_up(unit.str.to_lowercase(), _LOWER))
    read = unit.is_null() | known.is_not_null()
    if not locale.decimal:  # beside a unit it is no program's number
        read = read & (unit.is_null() | ~parts.struct.field("1").str.contains(r"^[+-]?[1-9]\d{0,2}\.\d{3}$"))
    return [pl.when(read).then(amount), pl.when(read & amount.is_not_null()).then(known)]


def _look_up(text: pl.Expr, known: dict[str, str]) -> pl.Expr:
    # Batch by batch: as an expression of its own it is no streaming one, and would hold the whole column.
    return text.map_batches(
        lambda batch: batch.replace_strict(known, default=None, return_dtype=pl.String),
        return_dtype=pl.String,
        is_elementwise=True,
    )


def rating(text: pl.Expr, locale: Locale) -> list[pl.Expr]:
    """A rating and the best possible one: `4.5 out of 5`, `80 %`, `★★★☆☆`; without a best one, `4.5`."""
    pair = text.str.extract_groups(_BEFORE + _RATE + _OF + _RATE + _END + ")")
    percent = text.str.extract(_BEFORE + _RATE + r"\s*%(?:\s*$|\s+\D)")
    alone = text.str.extract(_BEFORE + _RATE + _END + r"|(?:average|avg|out of)\b)")
    stars = text.str.replace_all("\ufe0f", "")
    drawn = pl.when(stars.str.contains("^[★⭐🌟]*[½⯨]?[☆✩⚝]*$") & (stars != "")).then(stars)
    full = drawn.str.count_matches("[★⭐🌟]").cast(pl.Float64) + drawn.str.count_matches("[½⯨]") / 2
    row = pl.when(drawn.str.contains("[☆✩⚝]")).then(drawn.str.len_chars().cast(pl.Float64))

    given = pl.coalesce(pair.struct.field("1"), percent, alone)
    value = pl.coalesce(full, number(given, locale))
    of_pair = number(pair.struct.field("2"), locale)
    hundred = pl.when(percent.is_not_null()).then(100.0)
    best = pl.when(drawn.is_not_null()).then(row).otherwise(pl.coalesce(of_pair, hundred))
    sensible = best.is_null() | (value <= best)
    return [pl.when(sensible).then(value), pl.when(sensible & value.is_not_null()).then(best)]


def _machine(text: pl.Expr, locale: Locale) -> pl.Expr:
    """A number's text as a program writes it; text that is no number, or could be two, as it is.

    Two kinds of separators, or one that cannot group thousands, say by themselves what they are.
    """
    text = text.str.replace(r"^[\u{2212}\u{2013}]", "-")
    ways = [(_sure(decimal, grouping), decimal) for decimal, grouping in _OTHER.items()]
    if locale.decimal:
        ways.insert(0, (_hinted(locale.decimal, _OTHER[locale.decimal]), locale.decimal))
    plain = r"^[+-]?\d+$" if locale.decimal == "," else r"^[+-]?\d+(?:\.\d+)?$"
    text, whole = pl.when(~text.str.contains(plain)).then(text), text
    read = [
        pl.when(text.str.contains(rf"^[+-]?(?:{pattern})$")).then(
            text.str.replace_all(rf"[^\d{decimal}+-]", "").str.replace(decimal, ".", literal=True)
        )
        for pattern, decimal in ways
    ]
    return pl.coalesce(*read, whole)


def _sure(decimal: str, grouping: str) -> str:
    d, g = f"[{decimal}]", rf"(?:[{grouping}]\d{{3}})"
    two_kinds, two_groups = rf"{_FIRST}{g}+{d}\d+", rf"{_FIRST}{g}{{2,}}"
    return rf"{two_kinds}|{two_groups}|\d+{d}(?:\d{{1,2}}|\d{{4,}})|(?:0|\d{{4,}}){d}\d{{3}}"


def _hinted(decimal: str, grouping: str) -> str:
    fraction = f"(?:[{decimal}]\\d+)?"
    groups = "|".join(rf"(?:{group}\d{{3}})+" for group in (f"[{grouping}]", *_BLANKS))
    lakhs = rf"|[1-9]\d?(?:,\d\d)+,\d{{3}}{fraction}" if grouping == "," else ""
    return rf"\d+{fraction}|{_FIRST}(?:{groups}){fraction}{lakhs}"
