r"""Numbers with units of measurement: `5 cm^2`, `5\text{ km/h}`, `\$4.50`, `45^\circ`, `2 hours 30 minutes`.

A unit counts for nothing against a bare number (the question names it), but 10 m is not 10 cm, and a square is no
cube. Amounts of one kind are compared in the smallest unit: 1 m is 100 cm, and 150 minutes are 2 hours 30 minutes.
"5 cm" for an area is a slip of notation, not of value.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

ALIASES = {
    "cm": "centimeter centimeters centimetre centimetres", "mm": "millimeter millimeters millimetre millimetres",
    "m": "meter meters metre metres", "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches", "ft": "foot feet", "yd": "yard yards", "mi": "mile miles",
    "kg": "kilogram kilograms", "g": "gram grams", "mg": "milligram milligrams", "lb": "lbs pound pounds",
    "oz": "ounce ounces", "ton": "tons tonne tonnes", "l": "L liter liters litre litres", "ml": "mL milliliters",
    "gal": "gallon gallons", "s": "sec secs second seconds", "min": "mins minute minutes", "h": "hr hrs hour hours",
    "day": "days", "week": "weeks", "month": "months", "year": "years yr yrs", "mi/h": "mph", "km/h": "kmh kph kmph",
    "$": "dollar dollars USD", "cent": "cents", "€": "euro euros EUR", "£": "GBP", "unit": "units",
    "hectare": "hectares", "acre": "acres", "rad": "radian radians", "degree": "degrees deg", "F": "", "C": "",
    "hz": "Hz", "n": "N newton newtons", "j": "J joule joules", "w": "W watt watts", "v": "V volt volts",
}  # fmt: skip
UNITS = {word: unit for unit, words in ALIASES.items() for word in (unit, *words.split())}
_KINDS: list[dict[str, int]] = [  # units that can be added up, in the smallest of their kind
    {"mm": 1, "cm": 10, "m": 1000, "km": 10**6}, {"in": 1, "ft": 12, "yd": 36, "mi": 63360},
    {"s": 1, "min": 60, "h": 3600, "day": 86400, "week": 604800}, {"mg": 1, "g": 1000, "kg": 10**6},
    {"oz": 1, "lb": 16}, {"ml": 1, "l": 1000}, {"cent": 1, "$": 100},
]  # fmt: skip
LONGEST = 200  # characters; no honest number with a unit is longer
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}

_RAISED = r"(?:\s*\^\s*\{?\s*-?[0-9]\s*\}?)?"
_WORD = rf"[A-Za-z][A-Za-z.]*{_RAISED}"
_TEXT = r"\\(?:text(?:rm|bf|it)?|mathrm|mbox|rm)"
_UNIT = re.compile(
    rf"(?P<number>.*[0-9)}}]|.*\\pi)(?P<space>\s*)"
    rf"(?:(?P<bare>{_WORD}(?:\s*[/ ]\s*{_WORD})*)"
    rf"|{_TEXT}\s*\{{\s*(?P<text>{_WORD}(?:\s*[/ ]\s*{_WORD})*)\s*\}}(?P<raised>{_RAISED}))",
    re.DOTALL,
)
_NUMBER = re.compile(r"(?:[-+0-9./{}()\s*]|\\(?:[dt]?frac|sqrt|pi|cdot|times)(?![a-zA-Z]))+")
_DEGREE = re.compile(rf"\s*\^\s*(?:\\circ|\{{\s*\\circ\s*\}})\s*(?:(?:{_TEXT}\s*\{{\s*)?([CF])\b\s*\}}?)?")
_MONEY = re.compile(r"(-?)\s*\\?([$€£])\s*(.*)", re.DOTALL)
_AMOUNT = re.compile(rf"\s*(?:and\s|,)?\s*([0-9]+(?:\.[0-9]+)?)\s*(?:{_TEXT}\s*\{{\s*)?([A-Za-z]+)\s*\}}?")


_PIECE = rf"{_TEXT}\s*\{{([^{{}}]*)\}}({_RAISED})"
_FRACTION = re.compile(rf"\\[dt]?frac\s*\{{\s*{_PIECE}\s*\}}\s*\{{\s*{_PIECE}\s*\}}")
_PIECES = re.compile(rf"{_PIECE}\s*(?:(/)\s*([A-Za-z]+)({_RAISED})|(/|\\cdot(?![a-zA-Z]))?\s*{_PIECE})")


class Quantity(NamedTuple):
    number: str
    units: tuple[str, ...]  # none where the end of the text is no unit that we know
    power: int = 1  # 2 for square, 3 for cubic


def quantity(text: str) -> Quantity:
    """The number and the units of a text."""
    if len(text) > LONGEST:
        return Quantity(text, ())
    if (money := _MONEY.fullmatch(text)) and _NUMBER.fullmatch(money[3]):
        return Quantity(money[1] + money[3], (money[2],))
    match = _UNIT.fullmatch(" ".join(_joined(_DEGREE.sub(r" degree \1", text)).split()))
    if not match or not _NUMBER.fullmatch(match["number"]) or not re.search("[0-9]", match["number"]):
        return Quantity(text, ())
    said = (match["bare"] or match["text"]) + (match["raised"] or "")
    words = re.sub(rf"{_RAISED}(?![A-Za-z])", "", said).replace("/", " ").split()
    units = [word for word in words if word not in POWERS and word != "per"]
    if not units or any(word not in UNITS for word in units):
        return Quantity(text, ())
    if match["bare"] and len(units) == 1 and len(units[0]) == 1 and not match["space"]:
        return Quantity(text, ())  # 5m without a space is five times a variable
    power = max([POWERS.get(word, 1) for word in words] + [int(raised) for raised in re.findall("[0-9]", said)])
    return Quantity(match["number"].strip(), tuple(part for word in units for part in UNITS[word].split("/")), power)


def _joined(text: str) -> str:
    r"""Units in pieces as one, `\text{m/s}`: of `\text{m}/\text{s}`, `\text{m} \text{s}^{-1}`, a fraction of texts."""

    def one(found: re.Match[str]) -> str:
        first, raised, bare, word, word_raised, sign, second, second_raised = found.groups()
        over = bare or sign == "/" or "-" in (second_raised or "")
        power = re.sub(r"-\s*", "", word_raised or second_raised or "")
        power = "" if over and re.fullmatch(r"\s*\^\s*\{?\s*1\s*\}?", power) else power
        return rf"\text{{{first}{raised}{'/' if over else ' '}{word or second}{power}}}"

    text, before = _FRACTION.sub(r"\\text{\1\2/\3\4}", text), ""
    while before != text:
        text, before = _PIECES.sub(one, text), text
    return text


def unlike(one: str, two: str) -> bool:
    """Whether both have units, and not the same."""
    first, second = quantity(one), quantity(two)
    if not first.units or not second.units or ("unit",) in (first.units, second.units):
        return False
    return first.units != second.units or (first.power != second.power and 1 not in (first.power, second.power))


def amount(text: str) -> tuple[int, Decimal, int] | None:
    """(kind, amount in the smallest unit, number of parts) of `1.5 m`, `2 hours 30 minutes` and the like, else None."""
    if len(text) > LONGEST:
        return None
    if (money := _MONEY.fullmatch(text)) and money[2] == "$":
        text = f"{money[3]} dollars"
    parts, end = [], 0
    while found := _AMOUNT.match(text, end):
        parts.append(found)
        end = found.end()
    units = [UNITS.get(part[2], "") for part in parts]
    for kind, sizes in enumerate(_KINDS):
        known = [sizes.get(unit, 0) for unit in units]
        # The largest comes first: "3 cm, 4 cm" is a list.
        if parts and end == len(text) and all(known) and known == sorted(set(known), reverse=True):
            amounts = (Decimal(part[1]) * size for part, size in zip(parts, known, strict=True))
            return kind, sum(amounts, Decimal()), len(parts)
    return None
