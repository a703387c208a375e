"""Duplicates, by the text of the problem; of several alike the first stays. Texts are not held: hashes and signatures.

The paper compares embeddings of a model it does not name. Here two problems are near-duplicates when

- their formal tokens are the same (`text.py`): other numbers or operators make another problem;
- of their pairs of neighbouring tokens a large enough share is common (Jaccard, estimated by MinHash): `ALIKE` where
  both have the same answer, `ALIKE_ALONE` where answers tell nothing (programs, expressions); where they certainly
  differ only an equal text will do.

The first condition leaves few to compare with, mostly. Beyond `MANY` of the same formal tokens (texts without any, say)
only those are compared that share one of the MinHash bands, which all but one in a hundred pairs of share `ALIKE` do.
The shares are measured: one reworded word leaves 99% of
1,600 problems of eight public mathematics sets at 0.6 or above (two: 96%), and all of 79 tasks of programming contests
(300 words) at 0.9. Different one-line tasks ("find the perimeter of a square", "of a pentagon") reach 0.8.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from or1lab.data.problem import Problem
from or1lab.data.text import formal, tokens
from or1lab.rewards.settled import decide

if TYPE_CHECKING:
    from datasketch import MinHash

ALIKE, ALIKE_ALONE = 0.6, 0.9
PERMUTATIONS = 128
MANY, BANDS = 256, 32
BATCH = 4096  # pairs hashed together; each takes 1 KiB meanwhile

Decisions = Iterator[tuple[Problem, str]]  # what a stage yields: each problem, and why it goes (empty: it stays)


def equal(problems: Iterable[Problem]) -> Decisions:
    """Within each source: problems of the same tokens, whatever their answers."""
    seen: dict[bytes, str] = {}
    for problem in problems:
        key = digest("\0".join([problem.source, *tokens(problem.prompt)]))
        first = seen.setdefault(key, problem.id)
        yield problem, "" if first == problem.id else f"equal text: {first}"


def near(problems: Iterable[Problem]) -> Decisions:
    """Across all sources: near-duplicates, as the module's head says."""
    from datasketch import MinHash  # brings half of scipy

    base = MinHash(num_perm=PERMUTATIONS)
    groups: dict[bytes | int, list[int]] = defaultdict(list)  # formal tokens, or a band -> numbers of those that stay
    kept: list[tuple[str, bytes, tuple[str, ...]]] = []  # id, digest of all tokens, answers
    signatures = np.empty((1024, PERMUTATIONS), base.hashvalues.dtype)
    for problem in problems:
        words = tokens(problem.prompt)
        symbols = digest("\0".join(formal(words)))
        golds = tuple(gold[:200] for gold in problem.golds)
        text, signature = digest("\0".join(words)), _signature(words, base)
        group, fits = groups[symbols], list[bytes | int]([symbols])
        if len(group) >= MANY:
            fits = [hash((symbols, n, band.tobytes())) for n, band in enumerate(np.split(signature, BANDS))]
            group = sorted({*group, *(number for band in fits for number in groups.get(band, ()))})
        shares = (signatures[group] == signature).mean(axis=1)
        alike = [(shares[i], *kept[group[i]]) for i in np.flatnonzero(shares >= ALIKE)]
        same = (name for share, name, other, theirs in alike if other == text or share >= _least(golds, theirs))
        first = next(same, "")
        if not first:
            if len(kept) == len(signatures):
                signatures = np.concatenate([signatures, np.empty_like(signatures)])
            signatures[len(kept)] = signature
            for place in fits:
                groups[place].append(len(kept))
            kept.append((problem.id, text, golds))
        yield problem, f"near-duplicate: {first}" if first else ""


def digest(text: str) -> bytes:
    """16 bytes in place of a text; no two texts of any data set share them."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _signature(words: list[str], base: MinHash) -> np.ndarray:
    pairs = set(zip(words, words[1:], strict=False)) or {(word, "") for word in words}
    sketch = type(base)(PERMUTATIONS, permutations=base.permutations, hashfunc=int, scheme=base.scheme)
    hashes = [crc32(" ".join(pair).encode(errors="surrogatepass")) for pair in pairs]
    for first in range(0, len(hashes), BATCH):
        sketch.update_batch(hashes[first : first + BATCH])
    return sketch.hashvalues


def _least(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """The share that makes near-duplicates of problems with these answers."""
    if not one or not other:
        return ALIKE_ALONE
    same = [a == b or decide(a, b) for a in one for b in other]
    return ALIKE if True in same else ALIKE_ALONE if None in same else np.inf
