"""Test code with asserts, made ready to be run away from the submission (`inside/child.py`).

Most asserts say what a call with literal arguments returns, another literal: the call is all there is to run (role
"function"). Any other test code runs in a sandbox of its own (role "tests"); each statement that asserts something then
reports whether it held: so a fraction is known, and a later assert still runs when an earlier one fails.
"""

from __future__ import annotations

import ast
import builtins
import functools
import marshal
from dataclasses import dataclass
from typing import Any, NamedTuple

from or1lab.rewards.inside.names import HOME, SITE_MODULES
from or1lab.rewards.inside.wire import exact

BUILTINS = frozenset(dir(builtins))


class Call(NamedTuple):
    """`assert callee(*args, **kwargs) == wanted`"""

    callee: str  # an expression; empty for the record's entry
    args: list
    kwargs: dict[str, Any]
    wanted: str  # as `wire.exact` writes it


@dataclass(frozen=True)
class Prepared:
    """Test code ready to run."""

    code: bytes  # marshalled; calls `report(held)` once a test
    total: int
    names: tuple[str, ...]  # what it uses and does not define: the submission may
    report: str  # a name that the test code itself does not use
    calls: tuple[Call, ...] | None  # all that it does, where that is all


class NoTests(ValueError):
    """A record whose tests cannot be run."""


@functools.lru_cache(maxsize=256)  # the responses of a group share their tests
def prepare(source: str, check: bool) -> Prepared:
    """`source` with each assert reported; with `check`, those in the function of that name. Raises NoTests."""
    try:
        tree = ast.parse(source)
        body, owner = tree.body, None
        if check:
            functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
            if not functions:
                raise NoTests("no function `check`")
            body, owner = functions[-1].body, functions[-1]
        nodes = list(ast.walk(tree))
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        bound: set[str] = set().union(*map(_binds, nodes))
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        report = "report"
        while report in used:
            report += "_"
        candidate = owner.args.args[0].arg if owner and owner.args.args else ""
        plain = [_call(statement, candidate) for statement in body if not isinstance(statement, ast.Pass)]
        wrapped = [_reported(statement, report) if _asserts(statement) else statement for statement in body]
        total = sum(map(_asserts, body))
        if not total:
            raise NoTests("no assert")
        (owner or tree).body = wrapped
        code = marshal.dumps(compile(ast.fix_missing_locations(tree), "tests", "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise error if isinstance(error, NoTests) else NoTests(f"tests do not parse ({type(error).__name__})") from None
    # What Python has is the submission's only where nothing else can be under test: else its `abs` would decide.
    called = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
    names = used - bound - BUILTINS - SITE_MODULES
    names = names - HOME.keys() or names
    if not names and len(called) == 1:
        names = called
    if not names and not check:
        raise NoTests("they use nothing of the program")
    roots = {_root(ast.parse(call.callee, mode="eval").body) for call in plain if call and call.callee}
    simple = None not in plain and roots <= names
    return Prepared(code, total, tuple(sorted(names)), report, tuple(plain) if simple else None)  # type: ignore[arg-type]


def _call(statement: ast.stmt, candidate: str) -> Call | None:
    """A statement as a call and what it returns, if that is what it asserts."""
    match statement:
        case ast.If(ast.Constant(True), [inner], []):  # from `cases`
            return _call(inner, candidate)
        case ast.Assert(ast.Compare(ast.Call(function, args, keywords), [ast.Eq()], [wanted])):
            if not _root(function) or None in (keyword.arg for keyword in keywords):  # that would be `**`
                return None
            try:
                named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
                callee = "" if (text := ast.unparse(function)) == candidate else text
                return Call(callee, [*map(ast.literal_eval, args)], named, exact(ast.literal_eval(wanted)))
            except (ValueError, TypeError):  # no literals
                pass
    return None


def _root(function: ast.expr) -> str:
    """`name` of `name` and `name().method`; empty for anything else."""
    match function:
        case ast.Name(name) | ast.Attribute(ast.Call(ast.Name(name), [], [])):
            return name
    return ""


def _binds(node: ast.AST) -> set[str]:
    """The names that a node gives a meaning to."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return {node.id}
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.alias):
        return {(node.asname or node.name).partition(".")[0]}
    return {node.arg} if isinstance(node, ast.arg) else set()


def cases(texts: list[str]) -> str:
    """The source of several assert tests; each text, with the lines before its assert, is one."""
    return "\n".join(f"if True:\n{_indented(text)}" for text in texts)


def _indented(text: str) -> str:
    # By the parser's own spelling: indenting the text would change strings of several lines.
    return "\n".join(f"    {line}" for line in ast.unparse(ast.parse(text)).splitlines() or ["pass"])


def _asserts(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(statement))


def _reported(statement: ast.stmt, report: str) -> ast.stmt:
    def call(held: bool) -> ast.stmt:
        return ast.Expr(ast.Call(ast.Name(report, ast.Load()), [ast.Constant(held)], []))

    failed = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [call(False)])
    return ast.Try([statement], [failed], [call(True)], [])
