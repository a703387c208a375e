r"""Normalisation of mathematical answers before Math-Verify: rules that hold for any problem, none for a single row.

`clean` rewrites one answer (`1\,234` to `1234`, `45°` to `45^\circ`, `2 1/2` to `2\frac{1}{2}`, `ten` to `10`);
`pair` rewrites a gold and an answer together, where the one says how the other is meant (`x > 3` beside
`(3,\infty)`); `decide` settles what needs no algebra: numbers digit by digit, numbers in a base, words, choice
letters, unlike units. What no rule knows is left alone. Everything here is linear in the length of the text, and
the caller caps that length.
"""

from __future__ import annotations

import re
from decimal import Decimal

from or1lab.rewards.units import split_unit, unlike

SYMBOLS = {
    "°": r"^\circ ", "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "π": r"\pi ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "±": r"\pm ", "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
}  # fmt: skip
_SYMBOLS = str.maketrans(SYMBOLS)
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
WORDS = {word: str(value) for value, word in enumerate(_ONES)}
BASES = WORDS | {"fifteen": "15", "sixteen": "16"}

TEXT = r"\\(?:text(?:bf|it|rm|sf|normal)?|mathrm|mathbf|mathit|mbox|rm)"
_PLAIN = [  # (pattern, replacement), in this order
    (re.compile(r"\\(?:left|right)\s*(?=\\?[()\[\]{}])"), ""),
    (re.compile(r"\\(?:var)nothing(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"^\s*\\\{\s*\\\}\s*$"), r"\\emptyset"),
    (re.compile(r"\\leq(?:slant|q)?(?![a-zA-Z])|<="), r"\\le "),
    (re.compile(r"\\geq(?:slant|q)?(?![a-zA-Z])|>="), r"\\ge "),
    (re.compile(r"\\langle(?![a-zA-Z])"), "("),
    (re.compile(r"\\rangle(?![a-zA-Z])"), ")"),
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"(?<![\\a-zA-Z])(pi|theta)(?![a-zA-Z])"), r"\\\1 "),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    # Thousands: 1{,}234 and 1\,234 and 1,\!234 are one number wherever they stand.
    (re.compile(r"(?<![0-9.])([0-9]{1,3}(?:(?:\{,\}|,\\!\s?|\\,|\\!)[0-9]{3})+)(?![0-9])"), None),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;: ]|(?<!\\)\\q?quad(?![a-zA-Z])|(?<!\\)~"), " "),
    (re.compile(r"(?<=[0-9])i(?![a-zA-Z])"), " i"),  # Math-Verify searches for a word i to know a complex number
    (re.compile(r"(?<=[0-9])\s*(?=\\binom)"), r" \\cdot "),  # 2\binom{3}{1} would be read as a mixed number
    (re.compile(rf"_\s*\{{\s*{TEXT}\s*\{{\s*([a-zA-Z0-9]+)\s*\}}\s*\}}"), r"_{\1}"),
    (
        re.compile(r"\\(sin|cos|tan|cot|sec|csc)\s*[({]?\s*([0-9]+(?:\.[0-9]+)?)\s*\^\s*\{?\s*\\circ\s*\}?\s*[)}]?"),
        r"\\\1(\\frac{\2\\pi}{180})",
    ),
]
_DOT = re.compile(r"(?<=[^.\s])\s*[.,;]\s*$")
_GROUPED = re.compile(r"[-+]?\\?\$?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_SPACED = re.compile(r"[-+]?[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]+)?")
_MIXED = re.compile(r"([-+]?[0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)")
_POWER = re.compile(r"([-+]?[0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]+)")
_WRAPPED = re.compile(rf"{TEXT}\s*\{{([^{{}}]*)\}}")
_ORDINAL = re.compile(rf"([0-9]+)\s*(?:\^?\{{?\s*)?(?:{TEXT}\s*\{{)?\s*(?:st|nd|rd|th)\s*\}}*")
_PRODUCT = re.compile(r"([0-9})]\s*[a-zA-Z]?)([a-zA-Z])$")


def clean(text: str) -> str:
    """The answer with its notation made plain; its value stays the same."""
    text = text.translate(_SYMBOLS).strip()
    for pattern, replacement in _PLAIN:
        text = pattern.sub(_digits if replacement is None else replacement, text)
    text = _DOT.sub("", text.strip())
    if (whole := _WRAPPED.fullmatch(text)) and re.search("[0-9]", whole[1]):
        text = whole[1].strip()
    if _GROUPED.fullmatch(text) or _SPACED.fullmatch(text):
        return re.sub(r"[ ,$\\]", "", text)
    if mixed := _MIXED.fullmatch(text):
        return rf"{mixed[1]}\frac{{{mixed[2]}}}{{{mixed[3]}}}"
    if power := _POWER.fullmatch(text):
        return rf"{power[1]} \times 10^{{{power[2]}}}"
    if ordinal := _ORDINAL.fullmatch(text):
        return ordinal[1]
    word = (_WRAPPED.sub(r"\1", text)).strip().lower()
    return WORDS.get(word, text)


def _digits(match: re.Match[str]) -> str:
    return re.sub("[^0-9]", "", match[0])


# ----------------------------------------------------------------------------------------- a gold and an answer


def pair(gold: str, answer: str) -> tuple[str, str]:
    """Both texts, cleaned, as Math-Verify shall read them."""
    if re.fullmatch(r"\s*[0-9]+(?:, +[0-9]+)+\s*", gold) and re.fullmatch(r"\s*[0-9]+(?:,[0-9]+)+\s*", answer):
        return gold, answer.replace(",", ", ")  # beside a list, 100,200 is a list
    gold, answer = _both_signs(clean(gold)), _both_signs(clean(answer))
    gold, answer = _unassigned(gold, answer)
    gold, answer = _intervals(gold, answer)
    return _finish(gold), _finish(answer)


def _finish(text: str) -> str:
    number, _ = split_unit(text)
    text = _constant(number)
    # Math-Verify takes a last letter for a unit (5t, 2ab): in braces it is the variable that it is.
    return text if r"\circ" in text or "text" in text else _PRODUCT.sub(r"\1{\2}", text)


_NAME = r"(?:[a-zA-Z]|\\[a-z]+)(?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]+\}))?"
_NAMED = re.compile(rf"\s*({_NAME}|\(\s*{_NAME}(?:\s*,\s*{_NAME})+\s*\))\s*=(?!=)(.+)", re.DOTALL)
_AND = re.compile(rf"{TEXT}\s*\{{\s*,?\s*(?:and|or)\s*,?\s*\}}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|[,;]|[()\[\]{{}}]")


def _items(text: str) -> list[str]:
    """The parts between the commas, "and"s and "or"s that stand in no bracket."""
    depth, begin, items = 0, 0, []
    for mark in _AND.finditer(text):
        if mark[0] in "([{":
            depth += 1
        elif mark[0] in ")]}":
            depth -= 1
        elif depth == 0:
            items.append(text[begin : mark.start()])
            begin = mark.end()
    return [item.strip() for item in [*items, text[begin:]] if item.strip()]


def _values(text: str) -> tuple[set[str], list[str]]:
    names, values = set(), []
    for item in _items(text):
        named = _NAMED.fullmatch(item)
        if named:
            names.add(re.sub(r"\s|_\w|_\{\w+\}", "", named[1]))
        values.append(named[2].strip() if named else item)
    return names, values


def _both_signs(text: str) -> str:
    r"""`x = 1 \pm 2` is `x = 1 + 2, x = 1 - 2`, where it is all of the answer."""
    signs = re.findall(r"\\(?:pm|mp)(?![a-zA-Z])", text)
    if signs != [r"\pm"] or len(_items(text)) > 1 or r"\in " in text:
        return text
    return ", ".join(text.replace(r"\pm", sign) for sign in "+-")


def _unassigned(gold: str, answer: str) -> tuple[str, str]:
    """`p=0, p=1` is `0, 1` and `(m,n)=(0,0)` is `(0,0)`, unless the other side names something else."""
    (gold_names, gold_values), (names, values) = _values(gold), _values(answer)
    if len(gold_names | names) != 1:
        return gold, answer
    if gold_names and (len(gold_values) > 1 or next(iter(gold_names))[0] == "("):
        gold = ", ".join(gold_values)
    if names and (len(values) > 1 or next(iter(names))[0] == "("):
        answer = ", ".join(values)
    return gold, answer


_SIGN = re.compile(r"(<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z]))")
UPWARD, DOWNWARD = {"<", r"\le"}, {">", r"\ge"}
_VARIABLE = re.compile(r"[a-zA-Z]|\\(?:alpha|beta|gamma|theta|lambda|mu|phi)")
_OR = re.compile(rf"{TEXT}\s*\{{\s*,?\s*or\s*\}}|(?<![a-zA-Z\\])or(?![a-zA-Z])|\\(?:cup|lor|vee)(?![a-zA-Z])")


def _interval(text: str) -> tuple[str, str] | None:
    """(variable, intervals) of inequalities in one variable joined by "or", else None."""
    found, variables = [], set()
    for piece in _OR.split(text):
        parts = [part.strip() for part in _SIGN.split(piece)]
        if len(parts) == 3:
            left, sign, right = parts
            if not _VARIABLE.fullmatch(left):
                left, sign, right = right, {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}[sign], left
            name, lower, upper = left, ("(", r"-\infty"), (r"\infty", ")")
            if sign in ("<", r"\le"):
                upper = (right, ")" if sign == "<" else "]")
            else:
                lower = ("(" if sign == ">" else "[", right)
        elif len(parts) == 5 and ({parts[1], parts[3]} <= UPWARD or {parts[1], parts[3]} <= DOWNWARD):
            first, one, name, two, last = parts if parts[1] in UPWARD else parts[::-1]
            lower = ("(" if one in "<>" else "[", first)
            upper = (last, ")" if two in "<>" else "]")
        else:
            return None
        bounds = lower[1] + upper[0]
        if not _VARIABLE.fullmatch(name) or "," in bounds or "=" in bounds or not all((lower[1], upper[0])):
            return None
        variables.add(name)
        found.append(f"{lower[0]}{lower[1]}, {upper[0]}{upper[1]}")
    return (variables.pop(), r" \cup ".join(found)) if len(variables) == 1 else None


def _intervals(gold: str, answer: str) -> tuple[str, str]:
    r"""`1 < x \le 2` beside `(1, 2]` is that interval; two inequalities in one variable are two intervals."""
    element = re.compile(r"\s*(?:[a-zA-Z]|\\[a-z]+)\s*\\in(?![a-zA-Z])\s*")
    sides = [_interval(text) for text in (gold, answer)]
    if sides[0] and sides[1]:
        return (sides[0][1], sides[1][1]) if sides[0][0] == sides[1][0] else (gold, answer)
    for mine, other in ((0, 1), (1, 0)):
        text = element.sub("", (gold, answer)[other], count=1)
        side = sides[mine]
        if side and re.fullmatch(r"[(\[].*[)\]]", text, re.DOTALL) and not _SIGN.search(text):
            return (side[1], text) if mine == 0 else (text, side[1])
    return gold, answer


_LETTER = re.compile(r"\\(?:d|t|c)?(?:frac|sqrt|cdot|times|binom|pi|left|right|div)(?![a-zA-Z])|([a-zA-Z\\])")


def _constant(text: str) -> str:
    """The last part of a chain of equal numbers: `2^{10} = 1024` is 1024."""
    parts = re.split(r"(?<![<>!\\=])=(?!=)", text)
    if len(parts) < 2 or any(match[1] for match in _LETTER.finditer(text)):
        return text
    return parts[-1].strip() if "," not in text and all(part.strip() for part in parts) else text


# -------------------------------------------------------------------------------------- settled without algebra


_DECIMAL = re.compile(r"([-+]?)([0-9]+\.?[0-9]*|\.[0-9]+)\s*(\\?%)?")
_BASED = re.compile(rf"([0-9A-Za-z]+)\s*_\s*(?:([0-9])|\{{\s*(?:{TEXT}\s*\{{)?\s*([0-9]+|[a-z]+)\s*\}}*)")
_CHOICE = re.compile(r"\(?\s*([A-H])\s*\)?")
_CHOSEN = re.compile(r"(?:\(\s*([A-H])\s*\)|([A-H])\s*[.):])\s*\S.*", re.DOTALL)


def decide(gold: str, answer: str) -> bool | None:
    """Whether they are the same, where that takes no algebra; else None."""
    cleaned = clean(gold), clean(answer)
    for rule in (_numbers, _bases, _choices, _texts):
        if (found := rule(*cleaned)) is not None:
            return found
    return False if unlike(*cleaned) else None


def integer(text: str) -> str | None:
    """Canonical digits of a plain integer ("025" is "25"), else None. Text, since int() of many digits is slow."""
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        return None
    digits = text.lstrip("+-").lstrip("0") or "0"
    return f"-{digits}" if text.startswith("-") and digits != "0" else digits


def _numbers(gold: str, answer: str) -> bool | None:
    if (one := integer(gold)) is not None and (two := integer(answer)) is not None:
        return one == two  # exact and free; Math-Verify would round huge ones to the same float
    decimals = _DECIMAL.fullmatch(gold), _DECIMAL.fullmatch(answer)
    if not decimals[0] or not decimals[1] or len(gold) + len(answer) > 200:
        return None
    # 12.5% is 12.5 where the question asks for percent; unlike decimals are left to the tolerance for floats.
    one_, two_ = (Decimal(found[1] + found[2]) for found in decimals if found)
    return True if one_ == two_ else None


def _bases(gold: str, answer: str) -> bool | None:
    one, two = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if not one and not two:
        return None
    if one and two:
        values = [_in_base(one), _in_base(two)]
        return None if None in values else values[0] == values[1]
    based, other = (one, answer) if one else (two, gold)
    assert based is not None
    if _in_base(based) is not None and re.fullmatch("[0-9A-Za-z]+", other):
        return based[1].lower() == other.lower()  # the question names the base, so the digits are the answer
    return None


def _in_base(based: re.Match[str]) -> int | None:
    base = based[2] or BASES.get(based[3], based[3])
    if not base.isdigit() or not 2 <= int(base) <= 36 or not based[1][0].isdigit() or len(based[1]) > 200:
        return None  # x_1 is a name, not a number
    try:
        return int(based[1], int(base))
    except ValueError:
        return None


def _choices(gold: str, answer: str) -> bool | None:
    gold, answer = (_WRAPPED.sub(r"\1", text).strip() for text in (gold, answer))
    right = _CHOICE.fullmatch(gold)
    if right and (chosen := _CHOICE.fullmatch(answer) or _CHOSEN.fullmatch(answer)):
        return right[1] == next(filter(None, chosen.groups()))
    return None


def _texts(gold: str, answer: str) -> bool | None:
    """Answers in words: case, wrappers and a plural at the end do not matter."""
    words = []
    for text in (gold, answer):
        text = " ".join(_WRAPPED.sub(r" \1 ", text).replace("-", " ").split()).lower()
        if not re.fullmatch(r"[a-z0-9' ,]+", text) or not re.search("[a-z]{3}", text):
            return None
        words.append(re.sub(r"(?<=[a-z]{3})s$", "", text))
    return True if words[0] == words[1] else None
