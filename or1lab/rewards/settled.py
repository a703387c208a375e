r"""Answers that need no algebra: numbers digit by digit, ratios, times of day, amounts, bases, choices, words.

`decide` says whether a gold and an answer are the same, or None where that is for Math-Verify to find out. Each rule
says True or False only where it knows both sides.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from or1lab.rewards.notation import TEXT, WORDS, WRAPPED, plain, words
from or1lab.rewards.units import UNITS, amount, quantity, unlike


def decide(gold: str, answer: str) -> bool | None:
    """Whether they are the same, where that takes no algebra; else None."""
    gold, answer = plain(gold, answer)
    for rule in (_spelled, _numbers, _unevaluated, _times, _ratios, _amounts, _bases, _choices, _texts, _dropped):
        if (found := rule(gold, answer)) is not None:
            return found
    return False if unlike(gold, answer) else None


def _spelled(gold: str, answer: str) -> bool | None:
    """Alike but for blanks that separate no words."""
    one, two = (re.sub(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])", "", text) for text in (gold, answer))
    return True if one == two else None


def integer(text: str) -> str | None:
    """Canonical digits of a plain integer ("025" is "25"), else None. Text, since int() of many digits is slow."""
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        return None
    digits = text.lstrip("+-").lstrip("0") or "0"
    return f"-{digits}" if text.startswith("-") and digits != "0" else digits


_DECIMAL = re.compile(r"([-+]?)([0-9]+\.?[0-9]*|\.[0-9]+)\s*(\\?%)?")


def _numbers(gold: str, answer: str) -> bool | None:
    if (one := integer(gold)) is not None and (two := integer(answer)) is not None:
        return one == two  # exact and free; Math-Verify would round huge ones to the same float
    decimals = _DECIMAL.fullmatch(gold), _DECIMAL.fullmatch(answer)
    if not decimals[0] or not decimals[1] or len(gold) + len(answer) > 200:
        return None
    # 12.5% is 12.5 where the question asks for percent; unlike decimals are left to the tolerance for floats.
    one_, two_ = (Decimal(found[1] + found[2]) for found in decimals if found)
    return True if one_ == two_ else None


_OPERATOR = r"(?:[-+*/]|\\times|\\cdot|\\div|÷)"
_DIGITS = r"[-+]*[0-9][0-9,]*(?:\.[0-9]*)?"
_ARITHMETIC = re.compile(rf"{_DIGITS}(?:{_OPERATOR}{_DIGITS})+")
_BRACKETS = re.compile(r"\\?[()\[\]{}]|\\?\$|\s")
_FRACTION = re.compile(r"(?<![0-9])(?<![0-9] )\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")  # 2\frac{1}{2} is one number
_UNIT = re.compile(
    rf"(?:{TEXT}\s*\{{[^{{}}]*\}}|(?<![\\a-zA-Z])[a-zA-Z][a-zA-Z .]{{0,40}})(?:\s*\^\s*\{{?[0-9]\}}?)?\s*$"
)


def _unevaluated(gold: str, answer: str) -> bool | None:
    r"""Where a number is wanted, `75 \times 42` is a question: who only repeats it has computed nothing, nor who
    says `x = 75 \times 42`. One number in another form is an answer: 6/4, 3 \times 10^5, 5!."""
    sides = [side for side in answer.split("=") if re.search("[0-9]", side) and not re.match(r"\s*[a-zA-Z]", side)]
    return False if _DECIMAL.fullmatch(quantity(gold).number) and sides and all(map(arithmetic, sides)) else None


def arithmetic(text: str) -> bool:
    """Whether it is a sum, difference, product or quotient of plain numbers, perhaps with a unit, and no more. One
    fraction is a number."""
    text = _FRACTION.sub(r"(\1)/(\2)", _UNIT.sub("", text))
    if re.fullmatch(r"[-+]*[0-9.,]+/[-+]*[0-9.,]+", _BRACKETS.sub("", text)):
        return False
    text = re.sub(r"(?<=[0-9)])\s*(?=\()|(?<=\))\s*(?=[0-9])", "*", text)  # (3)(4) and 3(4)
    return _ARITHMETIC.fullmatch(_BRACKETS.sub("", text)) is not None


_TERM = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20}|/0*[1-9][0-9]{0,20})?")


def _ratios(gold: str, answer: str) -> bool | None:
    """3:4 is 6:8, and of three terms and more it takes another such ratio. Of two it may be 3/4."""
    ratios = [[term.strip() for term in text.split(":")] for text in (gold, answer)]
    lengths = {len(ratio) for ratio in ratios}
    if max(lengths) > 2 and len(lengths) > 1:
        return False
    if max(lengths) < 2 or len(lengths) > 1:
        return None
    if not all(_TERM.fullmatch(term) for ratio in ratios for term in ratio):
        return True if ratios[0] == ratios[1] else None if lengths == {2} else False
    one, two = ([Fraction(term) for term in ratio] for ratio in ratios)
    return all(a * two[0] == b * one[0] for a, b in zip(one, two, strict=True)) and any(one) == any(two)


_TIME = re.compile(r"0?([0-9]{1,2})(?::([0-5][0-9]))? ?(?:([ap])\.? ?m\.?)?")


def _times(gold: str, answer: str) -> bool | None:
    """Times of day (12:00 is not 1:00, as ratios they would be): the half of the day counts where both name it."""
    times = _TIME.fullmatch(words(gold)), _TIME.fullmatch(words(answer))
    if not times[0] or not times[1] or not (times[0][3] or times[1][3] or (times[0][2] and times[1][2])):
        return None
    (hour, minute, half), (hour_, minute_, half_) = (found.groups() for found in times if found)
    return hour == hour_ and (minute or "00") == (minute_ or "00") and (half == half_ or not half or not half_)


def _amounts(gold: str, answer: str) -> bool | None:
    one, two = amount(gold), amount(answer)
    if one and two:
        return one[:2] == two[:2]
    # Math-Verify would drop all but the first part of "2 hours 30 minutes".
    return False if (one and one[2] > 1) or (two and two[2] > 1) else None


_BASED = re.compile(rf"([0-9A-Za-z]+)\s*_\s*(?:([0-9])|\{{\s*(?:{TEXT}\s*\{{)?\s*([0-9]+|[a-z]+)\s*\}}*)")
_BASES = WORDS | {"fifteen": "15", "sixteen": "16"}


def _bases(gold: str, answer: str) -> bool | None:
    """Numbers in a base: the question names it, so the same value in another base is no answer to it."""
    one, two = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if one and two:
        bases = _base(one), _base(two)
        return None if None in bases else bases[0] == bases[1] and _digits(one[1]) == _digits(two[1])
    based, other = (one, answer) if one else (two, gold)
    if based and _base(based) is not None and re.fullmatch("[0-9A-Za-z]+", other):
        return _digits(based[1]) == _digits(other)
    return None


def _digits(text: str) -> str:
    return text.lower().lstrip("0") or "0"


def _base(based: re.Match[str]) -> int | None:
    base = based[2] or _BASES.get(based[3], based[3])
    if not base.isdigit() or not 2 <= int(base[:3]) <= 36 or not based[1][0].isdigit() or len(based[1]) > 200:
        return None  # x_1 is a name, not a number
    try:
        int(based[1], int(base))
    except ValueError:
        return None
    return int(base)


_CHOICE = re.compile(r"\(?\s*([A-H])\s*\)?")
_CHOSEN = re.compile(r"(?!.*\).*\(\s*[A-H]\s*\))(?:\(\s*([A-H])\s*\)|([A-H])\s*[.):])\s*\S.*", re.DOTALL)
_SEVERAL = re.compile(r"[A-H](?:(?:\s*,\s*(?:and\b)?|\s*;|\s+and\b)\s*[A-H])+")


def _choices(gold: str, answer: str) -> bool | None:
    gold, answer = (" ".join(WRAPPED.sub(r" \1 ", text).split()) for text in (gold, answer))
    right = _CHOICE.fullmatch(gold)
    if right and (chosen := _CHOICE.fullmatch(answer) or _CHOSEN.fullmatch(answer)):
        return right[1] == next(filter(None, chosen.groups()))
    if _SEVERAL.fullmatch(gold) and _SEVERAL.fullmatch(answer):
        return set(re.findall("[A-H]", gold)) == set(re.findall("[A-H]", answer))
    return None


_MORE = re.compile(r"\b(?:or (?:more|less|fewer|greater|above|below|so)|root|at (?:least|most))$")


def _texts(gold: str, answer: str) -> bool | None:
    """Answers in words: case, wrappers, an article and a plural at the end do not matter.

    Math-Verify keeps only what stands before the first of several words, and drops "or more": there the words decide.
    """
    one, two = _said(gold), _said(answer)
    if one == two and re.fullmatch(r"[a-z0-9' ,]*[a-z]{3}[a-z0-9' ,]*", one):
        return True
    if _wordy(gold) or _wordy(answer) or _MORE.search(one) or _MORE.search(two):
        return one == two
    return None


def _said(text: str) -> str:
    text = " ".join(re.sub(r"[-.$]", " ", words(text)).split())
    text = re.sub(r"^(?:an?|the) (?=[a-z]{2})", "", text)
    return re.sub(r"(?<=[a-z]{3})s$", "", text)


def _wordy(text: str) -> bool:
    """Whether it holds several words that are neither units nor "and" or "or"."""
    found = [word.strip(" ,.").lower() for word in WRAPPED.findall(text)]
    return sum(len(word) > 1 and word not in ("and", "or") and word not in UNITS for word in found) > 1


_DROPPED = re.compile(r"\\[lc]?dots(?![a-zA-Z])|\.\.\.|…|^(?:[<>]|\\(?:le|ge|ne)(?:q|qslant)?(?![a-zA-Z]))")


def _dropped(gold: str, answer: str) -> bool | None:
    r"""Math-Verify leaves out the dots of 1, 2, ..., 10 and the sign before 5 in `\ge 5`."""
    return False if bool(_DROPPED.search(gold)) != bool(_DROPPED.search(answer)) else None
