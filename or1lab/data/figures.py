r"""Statements that point outside their text: to an address, or to a figure that is not there (paper section 6.1).

The word alone says nothing: significant figures, the resulting figure, the graph of $y = x^2$, a picture in a frame.
What counts is a word that points (shown, below, "in the figure"), a number after it, or the picture's own code.
"""

from __future__ import annotations

import re

FIGURE = r"(?:figures?|diagrams?|illustrations?|sketch(?:es)?)"
PICTURE = rf"(?:{FIGURE}|pictures?|images?|drawings?|photos?|graphs?|charts?|maps?|number line)"
SHOWN = r"(?:shown|drawn|pictured|depicted|illustrated|sketched|displayed)"
THERE = r"(?:below|above|(?:at|on|to) (?:the )?(?:right|left)|overleaf|here|(?:on|at) the (?:next|previous) page)"
NEAR = r"(?:following|accompanying|adjacent|adjoining|attached|given)"
POINTERS = (
    rf"\b(?:in|see|refer to|using|use) (?:the|this|our) (?:{NEAR} )?{FIGURE}\b(?! (?:formed|obtained|bounded|eight))",
    rf"\b{PICTURE} (?:(?:is|are) )?(?:{SHOWN}\b|{THERE}\b(?! the| an?\b))",
    rf"\b{NEAR} {PICTURE}\b(?! of\b)",
    rf"\b(?:the|this) {FIGURE} (?:here |also )?(?:shows?|depicts?|illustrates?)\b",
    r"\b(?:see|in|from|of) fig(?:ure|\.)? ?\(?\d|\bfig(?:ure|\.) ?\d+ ?(?:shows?|below|above|is)\b",
    rf"\bas {SHOWN}(?: {THERE}| in (?:the|this|fig)(?! (?:table|list|equation|example))|(?=\s*[.,;)]))",
)
REASONS = {
    "address": re.compile(r"\bhttps?\s?:\s?/\s?/\s?\w\S*|\bwww\.\w+\.\w\S*", re.IGNORECASE),
    "picture": re.compile(
        r"\[/?asy\]|\\includegraphics|\\begin\{(?:tikzpicture|asy|figure|picture)\}|!\[[^\]]{0,200}\]\(|<(?:img|svg)\b"
    ),
    "figure": re.compile("|".join(POINTERS), re.IGNORECASE),
}


def pointer(text: str) -> str:
    """Why a statement cannot be read alone, with the words that say so; empty where it can."""
    text = " ".join(text.split())
    found = ((reason, pattern.search(text)) for reason, pattern in REASONS.items())
    return next((f"{reason}: {match[0]}" for reason, match in found if match), "")
