r"""One answer in plain notation: `clean` rewrites how it is written, never what it is worth.

`1\,234` becomes `1234`, `45°` becomes `45^\circ`, `2 1/2` becomes `2\frac{1}{2}`, `0.1\overline{6}` becomes a
fraction, `3.5 million` becomes `3500000`. A rule holds for any problem; what no rule knows is left alone. Everything
here is linear in the length of the text, and the caller caps that length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

SYMBOLS = {
    "°": r"^\circ ", "º": r"^\circ ", "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "⁄": "/", "∶": ":", "ⁿ": "^n", "ℝ": r"\mathbb{R}",
    "\u00a0": " ", "\u202f": " ", "\u2009": " ",
    **{digit: f"^{value}" for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)},  # letters of full width
}  # fmt: skip
_SYMBOLS = str.maketrans(SYMBOLS)
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
WORDS = {word: str(value) for value, word in enumerate(_ONES)}
REALS = ("all real numbers", "all reals", "all real", "any real number", "the set of all real numbers", "real numbers")
NOTHING = ("no solution", "no solutions", "empty set", "the empty set")
SETS = dict.fromkeys(REALS, r"(-\infty, \infty)") | dict.fromkeys(NOTHING, r"\emptyset")
POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}

TEXT = r"\\(?:text(?:bf|it|rm|sf|normal)?|mathrm|mathbf|mathit|mbox|rm)"
WRAPPED = re.compile(rf"{TEXT}\s*\{{([^{{}}]*)\}}")


def clean(text: str) -> str:
    """The answer with its notation made plain; its value stays the same."""
    text = text.translate(_SYMBOLS).strip()
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    text = _DOT.sub("", text.strip())
    if (whole := WRAPPED.fullmatch(text)) and re.search("[0-9]", whole[1]):
        text = whole[1].strip()
    text = _SAID.sub("", text)
    for form, write in _FORMS:
        if found := form.fullmatch(text):
            return write(found)
    word = words(text)
    return SETS.get(word) or WORDS.get(word, text)


_CONDITION = re.compile(rf"{TEXT}\s*\{{\s*,?\s*(?:for|where)\b")


def plain(gold: str, answer: str) -> tuple[str, str]:
    """Both cleaned; "for n > 1" and "where k is an integer" do not count where only one side says so."""
    cleaned = clean(gold), clean(answer)
    cut = [_CONDITION.split(text) for text in cleaned]
    if sorted(map(len, cut)) != [1, 2] or not all(parts[0].strip() for parts in cut):
        return cleaned
    return clean(cut[0][0]), clean(cut[1][0])


def words(text: str) -> str:
    """In lower case, without the commands and braces around words."""
    return " ".join(WRAPPED.sub(r" \1 ", text).split()).lower()


def _digits(found: re.Match[str]) -> str:
    return re.sub("[^0-9.+-]", "", found[0])


def _repeating(found: re.Match[str]) -> str:
    """`0.1\\overline{6}` is (16 - 1) / 90."""
    once, again = found[1] + found[2], found[3]
    value = Fraction(int(once + again) - int(once or 0), 10 ** len(found[2]) * (10 ** len(again) - 1))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _mixed_percent(found: re.Match[str]) -> str:
    value = Fraction(int(found[1])) + Fraction(int(found[2]), int(found[3]) or 1)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}\%"


_END = r"(?![a-zA-Z])"  # of a command's name
_PLAIN: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [  # applied anywhere, in this order
    (re.compile(r"\\(?:left|right)\s*(?=\\?[()\[\]{}|])"), ""),
    (re.compile(rf"\\(?:displaystyle|[lL]arge|[hH]uge|bf){_END}|^\*\*|\*\*$|\\(?:text)?color\s*\{{[a-zA-Z]*\}}"), ""),
    # Vectors go by their letter, and numbers are numbers in any face.
    (re.compile(r"\\(?:mathbf|boldsymbol|bm|mathsf|vec|hat|underline|emph)\s*\{\s*([a-zA-Z]|[0-9.,]+)\s*\}"), r"{\1}"),
    (re.compile(rf"\\varnothing{_END}|^\s*\\\{{\s*\\\}}\s*$"), r"\\emptyset"),
    (re.compile(rf"\\leq(?:slant|q)?{_END}|<="), r"\\le "),
    (re.compile(rf"\\geq(?:slant|q)?{_END}|>="), r"\\ge "),
    (re.compile(rf"\\lt{_END}"), "<"),
    (re.compile(rf"\\gt{_END}"), ">"),
    (re.compile(rf"\\[lr]?vert{_END}"), "|"),
    (re.compile(rf"\\langle{_END}"), "("),
    (re.compile(rf"\\rangle{_END}"), ")"),
    (re.compile(rf"\\[dt]binom{_END}"), r"\\binom"),
    (re.compile(rf"(?<![\\a-zA-Z])(pi|theta){_END}"), r"\\\1 "),
    (re.compile(r"(?:√|(?<![\\a-zA-Z])sqrt)\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+|[a-z]))"), r"\\sqrt{\1\2\3}"),
    (re.compile(r"([a-zA-Z0-9])!(?=\s*\^)"), r"(\1!)"),  # n!^2 is the square of n!
    # Thousands: 1{,}234 and 1\,234 and 1,\!234 are one number wherever they stand.
    (re.compile(r"(?<![0-9.])[0-9]{1,3}(?:(?:\{,\}|,\\!\s?|\\,|\\!|~)[0-9]{3})+(?![0-9])"), _digits),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;: ]|(?<!\\)\\q?quad(?![a-zA-Z])|(?<!\\)~"), " "),
    (re.compile(r"\s+"), " "),
    (re.compile(rf"\{{:\}}|\\colon{_END}"), ":"),
    (re.compile(rf"(?<=[0-9])i{_END}"), " i"),  # Math-Verify searches for a word i to know a complex number
    (re.compile(r"(?<=[0-9])\s*(?=\\binom)"), r" \\cdot "),  # 2\binom{3}{1} would be read as a mixed number
    (re.compile(rf"_\s*\{{\s*{TEXT}\s*\{{\s*([a-zA-Z0-9]+)\s*\}}\s*\}}"), r"_{\1}"),
    (re.compile(rf"\s*(?:{TEXT}\s*\{{\s*per\s?cent\s*\}}|(?<![a-zA-Z{{\\])(?:pct|percent)|(?<!\\)%)\s*$"), r"\\%"),
    (
        re.compile(r"\\(sin|cos|tan|cot|sec|csc)\s*[({]?\s*([0-9]+(?:\.[0-9]+)?)\s*\^\s*\{?\s*\\circ\s*\}?\s*[)}]?"),
        r"\\\1(\\frac{\2\\pi}{180})",
    ),
    # Repeating decimals: 0.\dot{1}4\dot{2} and 0.333\ldots first as 0.\overline{...}, then as a fraction.
    (re.compile(r"(?<=[.0-9])\\dot\s*\{?([0-9])\}?(?:([0-9]*)\\dot\s*\{?([0-9])\}?)?"), r"\\overline{\1\2\3}"),
    (re.compile(r"(?<=\.)([0-9]{0,20}?)([0-9])\2\2+\s*(?:\\l?dots|\.\.\.|…)"), r"\1\\overline{\2}"),
    (re.compile(r"([0-9]{0,20})\.([0-9]{0,20})\\(?:overline|bar)\s*\{?([0-9]{1,20})\}?"), _repeating),
]  # fmt: skip
_DOT = re.compile(r"(?<=[^.\s])\s*[.,;]\s*$")
_SAID = re.compile(
    rf"^(?:{TEXT}\s*\{{[^{{}}]*:\s*\}}|(?:{TEXT}\s*\{{)?\s*(?:the\s+)?(?:final\s+)?answer(?:\s+is|\s*:)\s*:?\s*\}}?)\s*",
    re.IGNORECASE,
)
_MANY = re.compile(
    rf"(\\?\$\s*)?([0-9]{{1,20}}(?:\.[0-9]{{1,20}})?)\s*(?:{TEXT}\s*\{{\s*)?({'|'.join(POWERS)})\s*\}}?", re.IGNORECASE
)
_FORMS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [  # of a whole answer; the first one counts
    (re.compile(r"[-+]?\\?\$?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?"), _digits),
    (re.compile(r"[-+]?[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]+)?"), _digits),
    (re.compile(r"([-+]?[0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)"), lambda found: found.expand(r"\1\\frac{\2}{\3}")),
    (re.compile(r"([0-9]{1,20})\s*\\[dt]?frac\s*\{?([0-9]{1,20}?)\}?\s*\{?([0-9]{1,20})\}?\s*\\%"), _mixed_percent),
    (re.compile(r"([-+]?[0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]+)"), lambda found: found.expand(r"\1 \\times 10^{\2}")),
    (re.compile(rf"([0-9]+)\s*(?:\^?\{{?\s*)?(?:{TEXT}\s*\{{)?\s*(?:st|nd|rd|th)\s*\}}*"), lambda found: found[1]),
    (re.compile(rf"([0-9]+)\s*(?:{TEXT}\s*\{{\s*to\s*\}}|to)\s*([0-9]+)"), lambda found: f"{found[1]}:{found[2]}"),
    (_MANY, lambda found: f"{(Decimal(found[2]) * 10 ** POWERS[found[3].lower()]).normalize():f}"),
]
