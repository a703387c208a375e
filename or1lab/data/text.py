r"""A problem's text as the pipeline compares it: the same tokens whatever the layout, and what of it is formal.

Blanks, case, punctuation of prose and LaTeX's layout (`\left(`, `\,`, `$`, braces around one token) make no difference,
nor other spellings of one thing (`\dfrac12` and `\frac{1}{2}`, `\pi` and π, x^2 and x², 30^\circ and 30°, .5 and 0.5,
1,000 and 1000). Numbers, operators, LaTeX's other commands, primes and single letters do: they are the *formal* tokens.
Texts with other formal tokens are other problems, however alike their words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

LETTERS = dict(zip("−–‘’′“”×·⁄", "--'''\"\"**/", strict=True))
COMMANDS = dict(zip("π≤≥≠√∠∞", ("pi", "le", "ge", "ne", "sqrt", "angle", "infty"), strict=True))
SIGNS = str.maketrans(LETTERS | {sign: rf"\{name} " for sign, name in COMMANDS.items()})
RAISED = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+)"), r"^\1"  # or NFKC would make x² into x2
MIXED = re.compile("(?<=[0-9])(?=[¼-¾⅐-⅞])"), " "  # and 1½ into 11/2
SPELLINGS = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\[dt]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\frac(?![a-zA-Z])\s*(\w)\s*(\w)", r"\\frac \1 \2 "),  # as TeX reads it
        (r"\\([lg]e)q(?![a-zA-Z])", r"\\\1"),
        (r"\\(?:cdot|times)(?![a-zA-Z])", "*"),
        (r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?", "°"),
        (r"\^\s*\{?\s*\\prime(?![a-zA-Z])\s*\}?", "'"),
        (r"(?<=\d)\{,\}(?=\d)", ","),
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),  # of thousands
        (r"(?<![\w.)])\.(?=\d)", "0."),
    )
]
LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|limits|q?quad|[bB]igg?|[lc]?dots|text(?:bf|it|rm)?|math[a-z]{2,4}|mbox)(?![a-zA-Z])"
    r"|\\[,;:!()\[\]\\\s]|(?<=[a-zA-Z]{2})-(?=[a-zA-Z])|(?<=\d)-(?=[a-zA-Z]{3})"  # hyphens of prose
)
BRACED = re.compile(r"\{\s*(\\[a-zA-Z]+|\d+|[a-zA-Z]+)\s*\}")
PRIME = r"(?<=\b[a-z])'+(?![^\W\d_]{2}|[sdm]\b)"  # of f'(x), not an apostrophe
TOKEN = re.compile(rf"\\[a-zA-Z]+|\d+(?:\.\d+)?|{PRIME}|[^\W\d_]+|[^\w\s$~.,;:?\"'`]|_")
FORMAL = re.compile(r"\\.+|\d.*|'+|[^\W_a]|[^\w\s]|_")  # a lone "a" is the article, mostly


def tokens(text: str) -> list[str]:
    """The tokens of a text, in order, in lower case."""
    if not text.isascii():
        for pattern, plain in (RAISED, MIXED):
            text = pattern.sub(plain, text)
        text = unicodedata.normalize("NFKC", text).translate(SIGNS)
    text = " ".join(text.split())  # not only layout: patterns that try runs of blanks take the square of their length
    for pattern, plain in SPELLINGS:
        text = pattern.sub(plain, text)
    return TOKEN.findall(BRACED.sub(r" \1 ", LAYOUT.sub(" ", text)).lower())


def formal(words: Sequence[str]) -> list[str]:
    """The formal ones of some tokens, in order."""
    return [word for word in words if FORMAL.fullmatch(word)]
