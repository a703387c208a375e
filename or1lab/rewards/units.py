r"""Units of measurement at the end of an answer: `5 cm^2`, `5\text{ km/h}`, `12 hours`.

A unit counts for nothing against a bare number (the question names it), but 10 m is not 10 cm. Powers of units are
not compared: "5 cm" for an area is a slip of notation, not of value.
"""

from __future__ import annotations

import re

ALIASES = {
    "cm": "centimeter centimeters centimetre centimetres", "mm": "millimeter millimeters millimetre millimetres",
    "m": "meter meters metre metres", "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches", "ft": "foot feet", "yd": "yard yards", "mi": "mile miles",
    "kg": "kilogram kilograms", "g": "gram grams", "mg": "milligram milligrams", "lb": "lbs pound pounds",
    "oz": "ounce ounces", "ton": "tons tonne tonnes", "l": "L liter liters litre litres", "ml": "mL milliliters",
    "gal": "gallon gallons", "s": "sec secs second seconds", "min": "mins minute minutes", "h": "hr hrs hour hours",
    "day": "days", "week": "weeks", "month": "months", "year": "years yr yrs", "mph": "", "kmh": "kph kmph",
    "$": "dollar dollars USD", "cent": "cents", "am": "a.m. AM A.M.", "pm": "p.m. PM P.M.", "unit": "units",
    "hectare": "hectares", "acre": "acres", "rad": "radian radians", "degree": "degrees deg",
    "hz": "Hz", "n": "N newton newtons", "j": "J joule joules", "w": "W watt watts", "v": "V volt volts",
}  # fmt: skip
UNITS = {word: unit for unit, words in ALIASES.items() for word in (unit, *words.split())}
LONGEST = 200  # characters; no honest number with a unit is longer
SHAPES = {"square", "sq", "cubic", "cu", "per"}

_WORD = r"[A-Za-z][A-Za-z.]*(?:\s*\^\s*\{?\s*-?[0-9]\s*\}?)?"
_TEXT = r"\\(?:text(?:rm|bf|it)?|mathrm|mbox|rm)"
_UNIT = re.compile(
    rf"(?P<number>.*[0-9)}}]|.*\\pi)(?P<space>\s*)"
    rf"(?:(?P<bare>{_WORD}(?:\s*[/ ]\s*{_WORD})*)"
    rf"|{_TEXT}\s*\{{\s*(?P<text>{_WORD}(?:\s*[/ ]\s*{_WORD})*)\s*\}}(?:\s*\^\s*\{{?\s*[0-9]\s*\}}?)?)",
    re.DOTALL,
)
_NUMBER = re.compile(r"(?:[-+0-9./{}()\s*]|\\(?:[dt]?frac|sqrt|pi|cdot|times)(?![a-zA-Z]))+")


def split_unit(text: str) -> tuple[str, tuple[str, ...]]:
    """(number, its units), with no units where the end of the text is none that we know."""
    if len(text) > LONGEST:
        return text, ()
    match = _UNIT.fullmatch(" ".join(text.split()))
    if not match or not _NUMBER.fullmatch(match["number"]) or not re.search("[0-9]", match["number"]):
        return text, ()
    words = re.sub(r"\^\s*\{?\s*-?[0-9]\s*\}?", "", match["bare"] or match["text"]).replace("/", " ").split()
    units = [word for word in words if word not in SHAPES]
    if not units or any(word not in UNITS for word in units):
        return text, ()
    if match["bare"] and len(units) == 1 and len(units[0]) == 1 and not match["space"]:
        return text, ()  # 5m without a space is five times a variable
    return match["number"].strip(), tuple(UNITS[word] for word in units)


def unlike(one: str, two: str) -> bool:
    """Whether both have units, and not the same."""
    units = split_unit(one)[1], split_unit(two)[1]
    if not all(units):
        return False
    return units[0] != units[1] and ("unit",) not in units
