"""Decontamination: problems that hold an item of a benchmark (paper section 6.1, after DeepScaleR; no embeddings).

A problem holds an item when its tokens contain a share of at least `SHARE` of the item's n-grams, and the item's
numbers in one piece. So an item is found inside a longer text, in other layout or markup and with a word or two
exchanged; an item with other numbers is another problem, one with another sign is taken for the item. Of a program's
task all symbols have to agree: it has no markup, and may turn on a letter in quotes. N-grams that more
than `COMMON` items share (an instruction, "relatively prime positive integers") tell nothing and do not count. Items of
fewer than `SHORT` tokens are found only as the whole text. The n-grams of the benchmarks are held in memory; the
problems pass by.

Measured on the 674 items of five public benchmarks that are long enough, each put inside a longer text: all are found
as they are or with one word exchanged, 97% with two, 92% with three, and all but one without dollars and with other
markup of names (89% if all symbols had to agree). Of 900 problems of three other sets three are found, which
do stand in two of the sets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from or1lab.data.dedupe import Decisions
from or1lab.data.problem import Problem
from or1lab.data.text import formal, tokens

N = 5
SHARE = 0.5
COMMON = 3
SHORT = 15

Gram = tuple[str, ...]


class Benchmarks:
    """An index of benchmark items."""

    def __init__(self, items: Iterable[Problem]) -> None:
        self.whole: dict[Gram, str] = {}
        self.names: list[str] = []
        self.firm: list[tuple[bool, str]] = []  # is it a program's task, and what of it has to stand in one piece
        found: dict[Gram, list[int]] = defaultdict(list)  # n-gram -> numbers of the items that hold it
        for item in items:
            words = tokens(item.prompt)
            self.whole[tuple(words)] = item.id
            if len(words) >= SHORT:
                for gram in set(_grams(words)):
                    found[gram].append(len(self.names))
                self.names.append(item.id)
                self.firm.append((bool(item.tests), _firm(words, bool(item.tests))))
        self.grams = {gram: held for gram, held in found.items() if len(held) <= COMMON}
        self.sizes = Counter(n for held in self.grams.values() for n in held)

    def find(self, prompt: str) -> str:
        """The id of the item that a text holds, or nothing."""
        words = tokens(prompt)
        if name := self.whole.get(tuple(words)):
            return name
        known = {gram for gram in _grams(words) if gram in self.grams}
        shared = Counter(n for gram in known for n in self.grams[gram])
        likely = [n for n, count in shared.most_common() if count >= SHARE * self.sizes[n]]
        own = {code: _firm(words, code) for code in {self.firm[n][0] for n in likely}}
        return next((self.names[n] for n in likely if self.firm[n][1] in own[self.firm[n][0]]), "")


def leaks(problems: Iterable[Problem], benchmarks: Iterable[Problem]) -> Decisions:
    """The problems that hold an item of the benchmarks."""
    index = Benchmarks(benchmarks)
    for problem in problems:
        item = index.find(problem.prompt)
        yield problem, f"benchmark item: {item}" if item else ""


def _grams(words: list[str]) -> Iterator[Gram]:
    return zip(*(islice(words, i, None) for i in range(N)), strict=False)


def _firm(words: list[str], code: bool) -> str:
    return " ".join(["", *(formal(words) if code else (word for word in words if word[0].isdecimal())), ""])
