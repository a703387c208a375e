r"""A problem's text as the pipeline compares it: the same tokens whatever the layout, and what of it is formal.

Blanks, case, punctuation of prose and LaTeX's layout (`\left(`, `\,`, `$`, `\dfrac` for `\frac`, braces around one
token) make no difference. Numbers, operators, LaTeX's other commands and single letters do: they are the *formal*
tokens. Texts with other formal tokens are other problems, however alike their words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

SIGNS = str.maketrans("−–‘’“”×·", "--''\"\"**")
WORDING = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\leq": r"\le", r"\geq": r"\ge", r"\cdot": "*", r"\times": "*"}
REWORDED = re.compile(r"\\(?:[dt]frac|leq|geq|cdot|times)(?![a-zA-Z])")
LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|limits|q?quad|[bB]igg?|text(?:bf|it|rm)?|math(?:rm|bf|it)|mbox)(?![a-zA-Z])"
    r"|\\[,;:!()\[\]\\\s]|(?<=[a-zA-Z]{2})-(?=[a-zA-Z])|(?<=\d)-(?=[a-zA-Z]{3})"  # hyphens of prose
)
BRACED = re.compile(r"\{\s*(\\[a-zA-Z]+|\d+|[a-zA-Z]+)\s*\}")
TOKEN = re.compile(r"\\[a-zA-Z]+|\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s$~.,;:?\"'`]|_")
FORMAL = re.compile(r"\\.+|\d.*|[^\W_a]|[^\w\s]|_")  # a lone "a" is the article, mostly


def tokens(text: str) -> list[str]:
    """The tokens of a text, in order, in lower case."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(SIGNS)
    text = REWORDED.sub(lambda found: WORDING[found[0]], text)
    return TOKEN.findall(BRACED.sub(r" \1 ", LAYOUT.sub(" ", text)).lower())


def formal(words: Sequence[str]) -> list[str]:
    """The formal ones of some tokens, in order."""
    return [word for word in words if FORMAL.fullmatch(word)]
