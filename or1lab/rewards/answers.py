r"""A gold and an answer side by side, as Math-Verify shall read them: where the one says how the other is meant.

`x > 3` beside `(3, \infty)` is that interval, `p=0, p=1` beside `0, 1` are those numbers, `R` beside `r` is another
letter. What concerns one answer alone is in `notation.py`, what needs no algebra in `settled.py`. Everything here is
linear in the length of the text, and the caller caps that length.
"""

from __future__ import annotations

import re

from or1lab.rewards.notation import TEXT, plain
from or1lab.rewards.units import quantity


def pair(gold: str, answer: str) -> tuple[str, ...]:
    """Gold and answer for Math-Verify; then, of an answer like `2 + 3 = 5`, what is said to be equal to it."""
    if re.fullmatch(r"\s*[0-9]+(?:, +[0-9]+)+\s*", gold) and re.fullmatch(r"\s*[0-9]+(?:,[0-9]+)+\s*", answer):
        return gold, answer.replace(",", ", ")  # beside a list, 100,200 is a list
    gold, answer = plain(gold, answer)
    answer = answer if _LABEL.match(gold) else _LABEL.sub("", answer)
    if gold.endswith(r"\%") and answer.endswith(r"\%"):
        gold, answer = gold[:-2], answer[:-2]
    gold, answer = _both_signs(gold), _both_signs(answer)
    for rule in (_unassigned, _intervals, _vectors):
        gold, answer = rule(gold, answer)
    *_, gold = _chain(_bare(gold))
    *steps, answer = _chain(_bare(answer))
    if not steps:
        gold, answer = _letters(gold, answer)
    return tuple(_variable(text) for text in (gold, answer, *steps))


_LABEL = re.compile(rf"{TEXT}\s*\{{\s*\(?[A-H]\)\s*\}}\s*(?=\S)")  # of the choice that the answer belongs to


def _bare(text: str) -> str:
    """Without units, in each item of a list. Degrees stay, since Math-Verify knows them."""
    quantities = [quantity(item) for item in _items(text)]
    if not quantities or not all(found.units and found.units != ("degree",) for found in quantities):
        return text
    return ", ".join(found.number for found in quantities)


_PRODUCT = re.compile(r"([0-9})]\s*[a-zA-Z]?)([a-zA-Z])$")


def _variable(text: str) -> str:
    """Math-Verify takes a last letter for a unit (5t, 2ab): in braces it is the variable that it is."""
    return text if r"\circ" in text or "text" in text else _PRODUCT.sub(r"\1{\2}", text)


_NAME = r"(?:[a-zA-Z]{1,2}|\\[a-z]+)(?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]+\}))?"
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


def _values(text: str) -> tuple[list[str], list[str]]:
    """The names and the values of `x = 1, y = 2`. A name counts once, whatever its index."""
    names, values = [], []
    for item in _items(text):
        named = _NAMED.fullmatch(item)
        if named:
            names.append(re.sub(r"\s|_\w|_\{\w+\}", "", named[1]))
        values.append(named[2].strip() if named else item)
    return list(dict.fromkeys(names)), values


def _both_signs(text: str) -> str:
    r"""`1 \pm 2, 5` is `1 + 2, 1 - 2, 5`."""
    if len(re.findall(r"\\(?:pm|mp|in)(?![a-zA-Z])", text)) != 1 or r"\pm" not in text:
        return text
    if one_set := re.fullmatch(r"\\\{((?:(?!\\[{}]).)*)\\\}", text):
        text = one_set[1]
    items = (item.replace(r"\pm", sign) for item in _items(text) for sign in ("+-" if r"\pm" in item else "+"))
    return ", ".join(items)


def _unassigned(gold: str, answer: str) -> tuple[str, str]:
    """`p=0, p=1` is `0, 1` and `(m,n)=(0,0)` is `(0,0)`, unless the other side names something else.

    The order of `x=1, y=2` counts beside `(1,2)` or `1, 2`, which name nothing.
    """
    (gold_names, gold_values), (names, values) = _values(gold), _values(answer)
    if len({*gold_names, *names}) == 1:
        if gold_names and (len(gold_values) > 1 or gold_names[0][0] == "("):
            gold = ", ".join(gold_values)
        if names and (len(values) > 1 or names[0][0] == "("):
            answer = ", ".join(values)
    elif len(gold_names) == len(gold_values) > 1 and not names:
        return _point(gold_values), answer if len(values) == 1 else _point(values)
    elif len(names) == len(values) > 1 and not gold_names:
        return gold if len(gold_values) == 1 else _point(gold_values), _point(values)
    return gold, answer


def _point(values: list[str]) -> str:
    return f"({', '.join(values)})"


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


_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\s*\{([pbBvV]?matrix|array)\}(?:\s*\{[^{}]*\})?((?:(?!\\begin).)*)\\end\s*\{\1\}\s*[)\]]?",
    re.DOTALL,
)


def _vectors(gold: str, answer: str) -> tuple[str, str]:
    """A matrix of one row or one column is that point beside a point."""
    sides = [gold, answer]
    for mine, other in ((0, 1), (1, 0)):
        matrix = _MATRIX.fullmatch(sides[mine])
        if matrix and re.fullmatch(r"\(.*,.*\)", sides[other], re.DOTALL):
            rows = [row.split("&") for row in matrix[2].split(r"\\") if row.strip()]
            if len(rows) == 1 or all(len(row) == 1 for row in rows):
                sides[mine] = "(" + ", ".join(entry.strip() for row in rows for entry in row) + ")"
    return sides[0], sides[1]


_VARIABLES = re.compile(
    rf"{TEXT}\s*\{{[^{{}}]*\}}|\\(?:begin|end|operatorname|math[a-z]+)\s*\{{[^{{}}]*\}}|\\[a-zA-Z]+|([a-zA-Z])"
)


def _letters(gold: str, answer: str) -> tuple[str, str]:
    r"""Math-Verify reads R as r, so that \pi (R^2 - r^2) is 0: where both stand, R gets a letter that is free."""
    used = {found[1] for text in (gold, answer) for found in _VARIABLES.finditer(text) if found[1]}
    capitals = sorted(letter for letter in used - {"I"} if letter.isupper() and letter.lower() in used)
    if not capitals or all(re.fullmatch("[A-Ea-e]|[a-zA-Z]{2,}", text) for text in (gold, answer)):
        return gold, answer  # words and choices may be written either way
    free = [letter for letter in "qwuvkzyxtsrpnmlhjbac" if not {letter, letter.upper()} & used]
    names = dict(zip(capitals, free, strict=False))
    renamed = [_VARIABLES.sub(lambda found: names.get(found[0], found[0]), text) for text in (gold, answer)]
    return renamed[0], renamed[1]


_LETTER = re.compile(r"\\(?:d|t|c)?(?:frac|sqrt|cdot|times|binom|pi|left|right|div)(?![a-zA-Z])|([a-zA-Z\\])")


def _chain(text: str) -> list[str]:
    """The parts of a chain of equal numbers, `2^{10} = 1024`; of anything else, the whole."""
    parts = [part.strip() for part in re.split(r"(?<![<>!\\=])=(?!=)", text)]
    numbers = "," not in text and all(parts) and not any(found[1] for found in _LETTER.finditer(text))
    return parts if numbers else [text]
