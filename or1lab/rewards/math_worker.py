"""Script of a verifier process: Math-Verify on untrusted LaTeX. Started by `workers.WorkerPool`, never imported.

Each line on stdin is `{"pairs": [[gold, answer, *steps], ...], "limit": seconds, "plain": bool}`, where the steps are
numbers that the response says equal its answer; the reply is one of the JSON strings "equivalent", "wrong" and
"unparsable". Plain is Math-Verify alone, without what is mended here. Math-Verify's own alarm is off: the limit is on
the processor time of this process, so that a verdict does not depend on what else the machine does, and SIGPROF ends
the process there.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

MEMORY = 2 << 30  # bytes of address space; the imports need about a tenth
RELATIVE = 1e-3  # by which decimals may differ where six places after the point are all zeros


def judge(pairs: list[list[str]], plain: bool = False) -> str:
    """Whether one of the answers is its gold. Answers differ only in how they are written beside that gold."""
    from math_verify import parse, verify
    from sympy.core.random import seed

    seed(0)  # sympy tests for zero at random points; verdicts and their time shall not depend on them
    parsed_any = False
    for gold, answer, *steps in pairs:
        parsed = parse(answer, parsing_timeout=None)
        parsed_any = parsed_any or bool(parsed)
        right = parse(gold, parsing_timeout=None) if parsed else []
        if not right:
            continue
        # Inequalities beside a gold interval are compared as sets.
        if verify(right, parsed, allow_set_relation_comp=not plain, timeout_seconds=None):
            unlike = False
            with contextlib.suppress(Exception):  # what sympy cannot settle stays as Math-Verify has it
                unlike = not plain and exactly_unlike(right[0], parsed[0])
            if not unlike and not any(contradicts(step, right) for step in steps):
                return "equivalent"
        elif not plain and complex_alike(right[0], parsed[0]):
            return "equivalent"
    return "wrong" if parsed_any else "unparsable"


def contradicts(step: str, gold: Any) -> bool:
    """Whether a number said to equal the answer is another one, as in `5 = 1024`. What is no number proves nothing."""
    from math_verify import parse, verify
    from sympy import Expr

    said = parse(step, parsing_timeout=None)
    return bool(said) and isinstance(said[0], Expr) and not verify(gold, said, timeout_seconds=None)


def complex_alike(gold: Any, answer: Any) -> bool:
    """Whether they are the same with i as the imaginary unit, which Math-Verify leaves a symbol."""
    from sympy import Expr, I, Symbol, expand_complex, simplify

    unit = Symbol("i", real=False)
    if not isinstance(gold, Expr) or not isinstance(answer, Expr):
        return False
    if unit not in gold.free_symbols | answer.free_symbols:
        return False
    difference = (gold - answer).subs(unit, I).doit()
    return bool(simplify(expand_complex(difference) if difference.is_number else difference) == 0)


def exactly_unlike(gold: Any, answer: Any) -> bool:
    """Whether two numbers that Math-Verify calls equal are not: it rounds both to 15 digits, decimals to 6 places.

    Numbers without a decimal point are compared exactly, decimals by their leading digits, so that 0.0000001 is not
    0.0000002. Whatever cannot be settled stays as Math-Verify has it.
    """
    from sympy import Eq, Expr, Float, UnevaluatedExpr, simplify, solve

    if isinstance(gold, Eq) and isinstance(answer, Eq) and gold != answer:
        if not gold.free_symbols and not answer.free_symbols:  # nothing to solve for: the value of a determinant
            return bool(simplify(gold.rhs - answer.rhs) != 0)
        # Two equations without real solutions have equal (no) solutions, and are not therefore the same.
        ratio = simplify((gold.lhs - gold.rhs) / (answer.lhs - answer.rhs))
        return bool(ratio.free_symbols) and solve(gold, gold.free_symbols) == []
    if not isinstance(gold, Expr) or not isinstance(answer, Expr) or not gold.is_number or not answer.is_number:
        return False
    if gold.has(UnevaluatedExpr) or answer.has(UnevaluatedExpr):
        return False  # that is percent, where 50% may be 50 and 1/2
    gold, answer = gold.doit(), answer.doit()
    if gold == answer:
        return False
    if gold.has(Float) or answer.has(Float):
        return bool(abs(gold - answer).evalf() > RELATIVE * abs(gold).evalf())
    difference = gold - answer
    if not difference.is_Rational:
        difference = simplify(difference)
    return bool(difference.is_nonzero)


def main() -> None:
    # The reply channel is a descriptor of its own, so that nothing a library prints can look like a verdict.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for warm in (["\\boxed{2/1}", "\\boxed{2}"], ["\\boxed{2 \\cdot 2^n+(-1)^n}", "\\boxed{2^{n+1}+(-1)^n}"]):
        judge([warm])  # imports, and whatever is built at the first call, shall not count against a limit
    with contextlib.suppress(ValueError, OSError):  # not every system lets itself be limited (macOS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print('"ready"', file=replies)
    for line in sys.stdin:
        question = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, question["limit"])
        try:
            reply = judge(question["pairs"], question["plain"])
        except Exception:  # any failure on hostile input, RecursionError and MemoryError included, is a finding
            reply = "unparsable"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()
