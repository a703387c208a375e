r"""Mathematics reward: the paper's procedure on Math-Verify (paper §7.1).

The text after the thinking counts. Its last boxed answer is compared with the gold as a string, then by the rules of
`settled.py`, then by `verify(parse("\boxed{gold}"), parse(answer))` on both as `answers.py` writes them; without a box
Math-Verify looks for an answer in the text, as in the released code. Math-Verify runs in worker processes under limits
of our own (`workers.py`).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from or1lab.data.problem import Problem
from or1lab.process import cores
from or1lab.rewards import Verdict
from or1lab.rewards.answers import pair
from or1lab.rewards.settled import decide, integer
from or1lab.rewards.workers import WorkerPool

TIMEOUT = 5.0  # seconds of processor time a comparison (paper: released code, parse 5 s + verify 5 s)
BUSY = 3  # times the limit is how long a worker may take by the clock, on a machine with other things to do
WORKERS = max(2, cores() // 2)  # processes that compare answers
TAIL = 100_000  # characters at the end of a response that are searched for boxes
LONGEST = 4_000  # characters of an answer given to Math-Verify; no honest one comes near
LONGEST_PROSE = 1_000  # characters at the end of a text without a box: its regexes are slow on more
CACHED = 100_000  # verdicts kept

TRUNCATED = Verdict(False, "truncated")
NO_ANSWER = Verdict(False, "no answer")
NO_GOLD = Verdict(False, "error: the problem has no gold answer")


class Answer(NamedTuple):
    text: str
    boxed: bool  # the content of a box; else prose in which Math-Verify looks for an answer


Question = tuple[tuple[str, ...], Answer]  # (golds, answer)
_cache: dict[Question, Verdict] = {}


def verify_math(response: str, gold: str | list[str], *, timeout: float = TIMEOUT) -> Verdict:
    """Whether a finished response gives the gold answer (one of them, if several).

    Reasons: "match", "equivalent", "wrong", "no answer", "unparsable", "timeout". Nothing that a response holds
    raises; a response costs at most `timeout` seconds of processor time (plus the start of a worker), so that another
    job on the machine changes no verdict, and never more than three times that by the clock.
    """
    answer = find_answer(response)
    if answer is None:
        return NO_ANSWER
    return _judge((_golds(gold), answer), timeout)


def score_batch(problems: Sequence[Problem], responses: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
    """The verdicts of a batch, in order. A truncated response is never right (reason "truncated")."""
    return _score(problems, responses, truncated, released=False)


def score_released(problems: Sequence[Problem], responses: Sequence[str], truncated: Sequence[bool]) -> list[Verdict]:
    """As the released code scores (reward "math-released"): truncated responses and boxes inside unfinished thinking
    count like any other. For comparisons; it pays for answers that were never given."""
    return _score(problems, responses, [False for _ in truncated], released=True)


def _score(
    problems: Sequence[Problem], responses: Sequence[str], truncated: Sequence[bool], *, released: bool
) -> list[Verdict]:
    questions: list[Question | Verdict] = []
    for problem, response, cut in zip(problems, responses, truncated, strict=True):
        answer = None if cut else find_answer(response, unfinished=released)
        if problem.gold is None:
            questions.append(NO_GOLD)
        else:
            questions.append(TRUNCATED if cut else NO_ANSWER if answer is None else (_golds(problem.gold), answer))
    distinct = list({question for question in questions if not isinstance(question, Verdict)})
    with ThreadPoolExecutor(WORKERS) as threads:
        verdicts = dict(zip(distinct, threads.map(lambda question: _judge(question, TIMEOUT), distinct), strict=True))
    return [question if isinstance(question, Verdict) else verdicts[question] for question in questions]


# ----------------------------------------------------------------------------------------------- what is compared


def find_answer(response: str, *, unfinished: bool = False) -> Answer | None:
    r"""The part of a response that is judged, or None.

    Only text after the first `</think>` (up to a second one) counts, and thinking that never ended has no answer
    (unless `unfinished`: then all of it is searched, as in the released code).
    Of that text: the content of its last box; several boxes joined by "and", "or" or a comma are one answer (their
    text then is `\boxed{..} and \boxed{..}`); without a box, the end of the text, where it states an answer.
    """
    if "</think>" in response:
        response = response.split("</think>", 2)[1]
    elif "<think>" in response and not unfinished:
        return None
    text = response[-TAIL:]
    spans = _boxes(text)
    if not spans:
        prose = _stated(text[-LONGEST_PROSE:])
        formula = FORMULA.search(prose)
        if formula and not LISTED.search(prose, 0, formula.start()) and not SUM.search(prose):
            return Answer(formula[1] or formula[2] or formula[3], boxed=True)
        return Answer(prose, boxed=False) if prose else None
    first = len(spans) - 1
    while first > 0 and JOINED.fullmatch(text, spans[first - 1][2], spans[first][0]):
        first -= 1
    if first < len(spans) - 1:
        return Answer("$" + " and ".join(text[start:end] for start, _, end in spans[first:]) + "$", boxed=True)
    _, inside, end = spans[-1]
    answer = _bare(text[inside : end - 1])
    if len(inner := _boxes(answer)) == 1 and (inner[0][0], inner[0][2]) == (0, len(answer)):  # a box in a box
        answer = _bare(answer[inner[0][1] : -1])
    if not answer:
        return None
    return Answer(f"{answer}\\%" if PERCENT.match(text, end) else answer, boxed=True)


SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z$\\])|\n\s*\n")
SUPPOSED = re.compile(r"(?:let|suppose|assume|say|if|consider)\b", re.IGNORECASE)
DENIED = re.compile(r"answer\s+(?:is\s+not|isn't|is\s+unclear|can\s?not|can't|could\s+not)\b", re.IGNORECASE)
STATED = re.compile(  # "the answer is 5", "answer 5", "5 is our answer", "5, the answer"; not "3 ways to an answer"
    r"\banswers?\b(?:[^.!?\n]|\.(?=[0-9]))*?(?:\b(?:is|are|be|equals?|comes?|remains|becomes)\b|[:=→])"
    r"|\banswers?\b\W{0,6}(?:of\s+)?\W{0,4}[0-9]"
    r"|(?:\b(?:is|are|as)|=)\s+(?:[a-z]+\s+){0,3}?answers?\b"
    r"|[0-9]\W{0,6}\b(?:the|our|my)\s+(?:[a-z]+\s+){0,2}?answers?\b",
    re.IGNORECASE,
)
CLOSING = re.compile(  # a last sentence that says nothing
    r"\s*(?:I hope it is correct|(?:^|(?<=[.!?\s]))(?:I )?hope\b[^.!?\n]*\banswers?\b[^.!?\n]*)[.!]?\s*$", re.IGNORECASE
)


def _stated(prose: str) -> str:
    """The part of a text without a box that states an answer, or nothing.

    Math-Verify takes any last equation for an answer ("Let x = 5. Then I am stuck."). So where nothing is said to be
    the answer, only the last sentence counts, and a supposition or a denied answer does not.
    """
    prose = re.split(r"<\|", prose)[0]  # the next turn of a chat, begun by mistake
    prose = CLOSING.sub("", prose).strip()
    *_, denied = [None, *DENIED.finditer(prose)]
    if denied:  # and perhaps stated after all
        prose = prose[denied.end() :].strip()
        if not STATED.search(prose):
            return ""
    last = SENTENCE.split(prose)[-1].strip()
    if STATED.search(prose):
        return "" if re.match("(?:suppose|assume)", last, re.IGNORECASE) else prose
    if "=" not in last and re.search(r"\banswers?\b", last, re.IGNORECASE):  # speaks of one and states none
        return ""
    return "" if SUPPOSED.match(last) else last


# The formula at the very end of a statement is read like the content of a box, unless it is one of several.
LISTED = re.compile(r"(?:\$|\\[)\]])\s*[,;]?\s*(?:and|or)?\s*$|\bor\b[^.]*$")
FORMULA = re.compile(r"(?:\$\$?([^$]+)\$\$?|\\\(((?:(?!\\\().)+)\\\)|\\\[((?:(?!\\\[).)+)\\\])[\s.*]*$", re.DOTALL)
BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
JOINED = re.compile(r"(?:[\s$,;]|\\[()\[\]]|\\q?quad|\\[,; ]|\\(?:text|mbox)\s*\{\s*(?:and|or)\s*\}|and|or)*")
PERCENT = re.compile(r"\s*(?:(?:\$|\\\)|\\\])\s*)?(?:\\?%|pct\b|percent)")


def _boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Outermost complete `\boxed{...}`, in order: (start, start of the content, end). One linear pass."""
    open_braces: list[tuple[int, int, bool]] = []
    spans: list[tuple[int, int, int]] = []
    for token in BRACE.finditer(text):
        if token[0] == "}" and open_braces:
            start, inside, boxed = open_braces.pop()
            if boxed:
                while spans and spans[-1][0] > start:  # boxes inside this one
                    spans.pop()
                spans.append((start, inside, token.end()))
        elif token[0].endswith("{") and token[0] != r"\{":
            open_braces.append((token.start(), token.end(), token[0] != "{"))
    return spans


def _bare(answer: str) -> str:
    r"""Without surrounding blanks and math delimiters: `$ 5 $`, `\[5\]` and `5` are the same string."""
    answer = answer.strip()
    for left, right in (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)")):
        inner = answer[len(left) : -len(right)]
        if answer == f"{left}{inner}{right}" and left not in inner and right not in inner:
            return inner.strip()
    return answer


def _golds(gold: str | list[str]) -> tuple[str, ...]:
    golds = []
    for one in [gold] if isinstance(gold, str) else gold:
        spans = _boxes(one)  # a gold may come with its box, or as the last sentence of a solution
        golds.append(_bare(one[spans[0][1] : spans[0][2] - 1] if len(spans) == 1 else one))
    return tuple(golds)


# -------------------------------------------------------------------------------------------------- the comparison


def _judge(question: Question, timeout: float) -> Verdict:
    golds, answer = question
    if answer.text in golds:
        return Verdict(True, "match")
    if answer.boxed and (decided := _decide(golds, answer.text)) is not None:
        return decided
    if not answer.boxed and not _states(golds, answer.text):
        return Verdict(False, "wrong")
    if len(answer.text) > LONGEST:
        return Verdict(False, "unparsable")
    verdict = _cache.get(question)  # read once: another thread may clear the cache at any time
    if verdict is None:
        verdict = _ask(golds, answer, timeout)
        if verdict.reason != "timeout":  # that may be the fault of a busy machine, so it is not remembered
            if len(_cache) >= CACHED:
                _cache.clear()
            _cache[question] = verdict
    return verdict


NUMBER = re.compile(r"(?<![0-9.])[0-9]+(?:[, ][0-9]{3})*(?:\.[0-9]+)?")
_OPERAND = r"\(* ?[-+]? ?[0-9]+(?:[,.][0-9]+)* ?\)*"
_OPERATOR = r" ?(?:[-+*/×·÷]|\\times|\\cdot|\\div) ?"
ARITHMETIC = re.compile(  # 3 * 6, also as a formula
    rf"(?:\$|\\\(|\\\[)? ?(?<![\w.^/]){_OPERAND}(?:{_OPERATOR}{_OPERAND})+(?![\w^/]) ?(?:\$|\\\)|\\\])?"
)
RATIO = re.compile(r"[-+]?[0-9.,]+\)? ?/ ?\(?[-+]?[0-9.,]+")
# The one sum that counts, as a public case has it: "Answer \( (9+1) \)".
SUM = re.compile(r"answer\s*:?\s*\\\(\s*\([0-9]+(?:\+[0-9]+)+\)\s*\\\)\W*$", re.IGNORECASE)


def _states(golds: tuple[str, ...], prose: str) -> bool:
    """Whether a text without a box can state one of the golds: not where these are numbers and it has none of them.

    To Math-Verify "What is 22 + 73?" states the answer 95, and "Solve (-1 * 3)." the answer 3, so a policy could earn
    rewards by repeating the question: what is to be computed states no number. Fractions may stand for a number, and
    other formulas (between $ or the like) for anything.
    """
    if SUM.search(prose) or not all(NUMBER.fullmatch(gold.lstrip("+-")) for gold in golds):
        return True
    one = " ".join(prose.split())
    rest = ARITHMETIC.sub(lambda found: found[0] if RATIO.fullmatch(found[0].strip(r" $\()[]")) else " ", one)
    if re.search(r"[/$\\]", rest):
        return True
    said = {_decimal(number) for number in NUMBER.findall(rest)}
    return not NUMBER.search(prose) or any(_decimal(gold.lstrip("+-")) in said for gold in golds)


def _decimal(number: str) -> Decimal:
    return Decimal(re.sub("[, ]", "", number))


def _decide(golds: tuple[str, ...], answer: str) -> Verdict | None:
    """The verdict where it takes no algebra. Integers first, whatever their length: that costs nothing."""
    number = integer(answer)
    found = [
        number == value if number is not None and (value := integer(gold)) is not None
        else decide(gold, answer) if len(answer) <= LONGEST
        else None
        for gold in golds
    ]  # fmt: skip
    if True in found:
        return Verdict(True, "equivalent")
    return None if None in found else Verdict(False, "wrong")


def _ask(golds: tuple[str, ...], answer: Answer, timeout: float) -> Verdict:
    if answer.boxed:
        undecided = [gold for gold in golds if decide(gold, answer.text) is None]
        pairs = [[boxed(text) for text in pair(gold, answer.text)] for gold in undecided]
    else:
        pairs = [[boxed(pair(gold, "")[0]), answer.text] for gold in golds]
    reason = ask_math_verify(pairs, timeout)
    if reason == "unparsable" and not answer.boxed:  # Math-Verify found nothing to parse
        return NO_ANSWER
    return Verdict(reason == "equivalent", reason)


def ask_math_verify(pairs: list[list[str]], timeout: float, *, plain: bool = False) -> str:
    """The worker's word on pairs of a gold and an answer: "equivalent", "wrong", "unparsable" or "timeout"."""
    try:
        return _pool().ask({"pairs": pairs, "limit": timeout, "plain": plain}, BUSY * timeout)
    except TimeoutError:
        return "timeout"
    except EOFError:  # the worker died of it: out of memory, or out of stack in C
        return "unparsable"


def boxed(answer: str) -> str:
    """The answer in a box, unless it holds one: without it Math-Verify would search a gold for an answer."""
    return answer if r"\boxed" in answer else f"\\boxed{{{answer}}}"


@functools.cache
def _pool() -> WorkerPool:
    return WorkerPool(Path(__file__).with_name("math_worker.py"), WORKERS)


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child must not talk to its parent's workers
