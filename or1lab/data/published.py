"""The published sets: where they lie, what their cards say, and how one of their rows becomes a problem.

A converter takes a row and gives the fields of a problem; ValueError means that the row is none, and says why. Columns,
types and licences are those of the cards. Not confirmed on a card, but from code that loads the set: the columns of
`still3` and `amc23`, the JSON inside `ground_truth` (Skywork) and `input_output` (TACO), and the 279 problems of
LiveCodeBench between 2024-08 and 2025-02. The file names of `still3` are not known. A licence of "" means that the
card names none.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import pickletools
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from or1lab.errors import Or1labError, UsageError, check_names, did_you_mean

LARGEST = 1 << 28  # bytes of tests after decompression
ROLLOUTS = 16  # behind model_difficulty (paper section 6.2)

# The subsets of NuminaMath-1.5 that the paper takes (section 6.1).
PAPER_SUBSETS = (
    "amc_aime", "olympiads", "olympiads_ref", "aops_forum", "cn_contest", "inequalities", "number_theory",
)  # fmt: skip

STDIN = "Write a Python program that reads standard input and writes standard output."
STARTER = "Complete this Python code:\n```python\n{}\n```"
BLOCK = "Put the whole program into one ```python block."


class Row(dict):
    """A row whose missing column is an error that names the nearest, at any depth."""

    def __missing__(self, column: str) -> Any:
        raise Or1labError(f"no column '{column}'{did_you_mean(column, self)}; it has: {', '.join(map(str, self))}")

    def __getitem__(self, column: str) -> Any:
        value = super().__getitem__(column)
        if isinstance(value, list):
            return [Row(item) if isinstance(item, dict) else item for item in value]
        return Row(value) if isinstance(value, dict) else value


@dataclass(frozen=True)
class PublishedSet:
    """A set on the Hub.

    Attributes:
        hub: its name there.
        splits: split -> patterns of its data files; the first is the default.
        columns: name -> type, as `datasets` names types; a list holds the type of its items.
        only: option -> from its value, whether a row is asked for.
    """

    hub: str
    domain: str
    licence: str
    splits: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, Any]
    convert: Callable[[Row], dict[str, Any]]
    only: Mapping[str, Callable[[Any], Callable[[Row], bool]]] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------- mathematics


def text(value: Any) -> str:
    """An answer as text; a number that a file format made a float is whole again."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def meta(row: Row, *names: str) -> dict[str, Any]:
    """Those columns that are there and say something."""
    found = {name: row.get(name) for name in names}
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def answered(prompt: str, *extras: str, id: str | None = None) -> Callable[[Row], dict[str, Any]]:
    """Converter of a set with a question, an answer, and perhaps a worked solution."""

    def convert(row: Row) -> dict[str, Any]:
        fields = {"prompt": row[prompt], "gold": text(row["answer"]), "solution": row.get("solution") or None}
        return fields | {"meta": meta(row, *extras)} | ({"id": text(row[id])} if id else {})

    return convert


def numinamath(row: Row) -> dict[str, Any]:
    """NuminaMath-1.5. ValueError for proofs and rows without an answer, which no verifier can judge."""
    if row["question_type"] == "proof" or text(row["answer"]).lower() == "proof":
        raise ValueError("a proof: no answer to verify")
    if text(row["answer"]).lower() in ("", "notfound"):
        raise ValueError("no answer")
    extras = ("problem_type", "question_type", "problem_is_valid", "solution_is_valid", "synthetic")
    fields = answered("problem", *extras)(row)
    return fields | {"meta": {"subset": row["source"], **fields["meta"]}}


def subsets(value: Any) -> Callable[[Row], bool]:
    """Whether a row is of these: "paper" (the seven of section 6.1), "a,b" or a list. UsageError for an unknown one."""
    names = PAPER_SUBSETS if value == "paper" else value.split(",") if isinstance(value, str) else tuple(value)
    known = (*PAPER_SUBSETS, "cn_k12", "orca_math", "synthetic_math", "synthetic_amc", "metamath")
    check_names(names, known, "subset of NuminaMath-1.5")
    return lambda row: row["source"] in names


def omnimath(row: Row) -> dict[str, Any]:
    """Omni-MATH; topics, level of difficulty and competition go to `meta`."""
    fields = answered("problem", "difficulty")(row)
    return fields | {"meta": fields["meta"] | {"topics": list(row["domain"] or []), "competition": row["source"]}}


def gsm8k(row: Row) -> dict[str, Any]:
    """GSM8K: gold is what stands behind ####, the text before it the solution. ValueError without ####."""
    worked, mark, answer = text(row["answer"]).rpartition("####")
    if not mark:
        raise ValueError("no final answer after ####")
    return {"prompt": row["question"], "gold": answer.strip(), "solution": worked.strip() or None}


# ------------------------------------------------------------------------------------------------- Skywork


def skywork_difficulty(row: Row) -> dict[str, dict[str, int]]:
    """`model_difficulty` counts a model's failures in 16 rollouts; what is no such count says nothing."""
    counts = row["extra_info"]["model_difficulty"] or {}
    return {
        model: {"solved": ROLLOUTS - failures, "samples": ROLLOUTS}
        for model, failures in counts.items()
        if failures is not None and 0 <= failures <= ROLLOUTS
    }


def skywork(row: Row) -> dict[str, Any]:
    """What both Skywork sets share: prompt, difficulty, origin. ValueError unless the prompt is one user message."""
    prompts = row["prompt"]
    if [message["role"] for message in prompts] != ["user"]:
        raise ValueError("the prompt is not one user message")
    return {
        "prompt": prompts[0]["content"],
        "difficulty": skywork_difficulty(row),
        "meta": {"data_source": row["data_source"]},
    }


def skywork_math(row: Row) -> dict[str, Any]:
    """`ground_truth` is a JSON list of accepted answers, or the answer itself."""
    truth = row["reward_model"]["ground_truth"]
    try:
        golds = json.loads(truth)
    except ValueError:
        golds = truth
    if not isinstance(golds, list):  # an answer that happens to be JSON, such as 72
        golds = [truth]
    return skywork(row) | {"gold": text(golds[0]) if len(golds) == 1 else list(map(text, golds))}


def skywork_code(row: Row) -> dict[str, Any]:
    """`ground_truth` is a JSON record of tests. ValueError where it holds none."""
    return skywork(row) | {"tests": record(row["reward_model"]["ground_truth"])}


# ------------------------------------------------------------------------------------------------- programs


def record(plain: str) -> dict[str, Any]:
    """The record of tests in a JSON text, without its empty keys. Raises ValueError if it holds no test."""
    tests = json.loads(plain or "{}")
    tests = {key: value for key, value in tests.items() if value} if isinstance(tests, dict) else {}
    if "fn_name" in tests and set(map(_one, tests.get("outputs", []))) == {True}:
        # APPS and TACO put what a function returns into a list of one
        tests["outputs"] = [output[0] for output in tests["outputs"]]
    if not tests.keys() & {"inputs", "test_code", "assert_case"}:
        raise ValueError("no tests")
    return tests


def _one(output: Any) -> bool:
    return isinstance(output, list) and len(output) == 1


def programming(question: str | None, starter: str | None) -> str:
    """What is asked, and in which form the answer is wanted (our words)."""
    if not text(question):
        raise ValueError("the prompt is empty")
    form = STARTER.format(starter.strip("\n")) if starter and starter.strip() else STDIN
    return f"{text(question)}\n\n{form}\n{BLOCK}"


def taco(row: Row) -> dict[str, Any]:
    """TACO, standard input and functions alike; the first published solution is kept. ValueError without tests."""
    solutions = json.loads(row["solutions"] or "[]")
    return {
        "prompt": programming(row["question"], row["starter_code"]),
        "tests": record(row["input_output"]),
        "solution": solutions[0] if solutions else None,
        "meta": meta(row, "difficulty", "name", "source", "url", "time_limit", "memory_limit"),
    }


def leetcode(row: Row) -> dict[str, Any]:
    """LeetCodeDataset: tests are asserts in `check(entry_point)`; its prompt is asked as published."""
    return {
        "id": row["task_id"],
        "prompt": row["query"],
        "tests": {"import_prefix": row["prompt"], "test_code": row["test"], "entry_point": row["entry_point"]},
        "solution": row["completion"] or None,
        "meta": meta(row, "difficulty", "tags") | {"date": str(row["estimated_date"])[:10]},
    }


def function(row: Mapping[str, Any]) -> dict[str, Any]:
    """A function to complete, as in HumanEval. The stub (imports, helpers, the heading) runs before the answer."""
    stub, test, name = text(row.get("prompt")), row.get("test"), row.get("entry_point")
    if not stub:
        raise ValueError("no prompt")
    if not test or not name:
        raise ValueError("no tests")
    try:
        ast.parse(stub)
    except SyntaxError:
        prefix = ""
    else:
        prefix = stub + "\n"
    solution = row.get("canonical_solution")
    return {
        "domain": "code",
        "prompt": programming(f"Write the Python function `{name}`.", stub),
        "tests": {"assert_case": test} if isinstance(test, list) else
                 {"import_prefix": prefix, "test_code": test, "entry_point": name},
        "solution": f"{stub}\n{solution}" if solution else row.get("solution") or None,
    }  # fmt: skip


def humaneval(row: Row) -> dict[str, Any]:
    """HumanEval, read as `function` does. A missing column is named."""
    columns = {name: row[name] for name in ("prompt", "test", "entry_point", "canonical_solution")}  # missing: named
    return function(columns) | {"id": row["task_id"]}


def livecodebench(row: Row) -> dict[str, Any]:
    """LiveCodeBench: public and hidden tests together; `meta` has the contest's date. ValueError without tests."""
    tests = json.loads(row["public_test_cases"]) + private_tests(row["private_test_cases"])
    found = {"inputs": [test["input"] for test in tests], "outputs": [test["output"] for test in tests]}
    if function := json.loads(row["metadata"] or "{}").get("func_name"):
        found["fn_name"] = function
    if not tests:
        raise ValueError("no tests")
    return {
        "id": row["question_id"],
        "prompt": programming(row["question_content"], row["starter_code"]),
        "tests": found,
        "meta": meta(row, "question_title", "platform", "difficulty") | {"date": str(row["contest_date"])[:10]},
    }


def private_tests(packed: str) -> list[dict[str, str]]:
    """The hidden tests of LiveCodeBench: JSON, or JSON as a pickled text, compressed, in base64.

    Raises ValueError for what is neither, and for more than LARGEST bytes of it."""
    if packed.lstrip().startswith("["):
        return json.loads(packed)
    try:
        inflate = zlib.decompressobj()
        plain = inflate.decompress(base64.b64decode(packed, validate=True), LARGEST)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"private tests that cannot be decoded: {error}") from None
    if inflate.unconsumed_tail:
        raise ValueError(f"private tests of more than {LARGEST >> 20} MiB")
    return json.loads(pickled_text(plain))


def pickled_text(data: bytes) -> str:
    """The one text that a pickle holds. The pickle is read, never run: any other content is a ValueError."""
    texts = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"):
            texts.append(argument)
        elif operation.name not in ("PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"):
            raise ValueError(f"a pickle that is more than a text ({operation.name})")
    if len(texts) != 1:
        raise ValueError(f"a pickle of {len(texts)} texts, not one")
    return str(texts[0])


def window(value: Any) -> Callable[[Row], bool]:
    """Contest dates from the first month's first day up to, but without, that of the second: 2024-08..2025-02."""
    months = re.fullmatch(r"(\d{4}-\d\d)\.\.(\d{4}-\d\d)", str(value))
    if not months or not months[1] < months[2]:
        raise UsageError(f"window={value}: give two months, such as window=2024-08..2025-02 (the second is outside)")
    return lambda row: months[1] <= str(row["contest_date"])[:7] < months[2]


# ------------------------------------------------------------------------------------------------- the registry

_ANSWERED = {"problem": "string", "solution": "string", "answer": "string"}
_SKYWORK = {
    "data_source": "string",
    "prompt": [{"content": "string", "role": "string"}],
    "ability": "string",
    "reward_model": {"ground_truth": "string", "style": "string"},
    "extra_info": {
        "index": "int64",
        "model_difficulty": {f"DeepSeek-R1-Distill-Qwen-{size}": "int64" for size in ("1.5B", "32B", "7B")},
    },
}
_RELEASES = tuple(f"test{part}.jsonl" for part in ("", 2, 3, 4, 5, 6))

SETS: dict[str, PublishedSet] = {
    "skywork-math": PublishedSet(
        "Skywork/Skywork-OR1-RL-Data", "math", "", {"math": ("data/math-*.parquet",)}, _SKYWORK, skywork_math
    ),
    "skywork-code": PublishedSet(
        "Skywork/Skywork-OR1-RL-Data", "code", "", {"code": ("data/code-*.parquet",)}, _SKYWORK, skywork_code
    ),
    "numinamath": PublishedSet(
        "AI-MO/NuminaMath-1.5", "math", "Apache-2.0", {"train": ("data/train-*.parquet",)},
        _ANSWERED | dict.fromkeys(
            ("problem_type", "question_type", "problem_is_valid", "solution_is_valid", "source"), "string"
        ) | {"synthetic": "bool"},
        numinamath, {"subsets": subsets},
    ),
    "deepscaler": PublishedSet(
        "agentica-org/DeepScaleR-Preview-Dataset", "math", "MIT", {"train": ("deepscaler.json",)}, _ANSWERED,
        answered("problem"),
    ),
    "still3": PublishedSet(
        "RUC-AIBOX/STILL-3-Preview-RL-Data", "math", "", {"train": ("**/*.parquet",)},
        {"question": "string", "answer": "string"}, answered("question"),
    ),
    "omnimath": PublishedSet(
        "KbsdJames/Omni-MATH", "math", "Apache-2.0", {"test": ("test.jsonl",)},
        {"domain": ["string"], "difficulty": "float64", **_ANSWERED, "source": "string"}, omnimath,
    ),
    "taco": PublishedSet(
        "BAAI/TACO", "code", "Apache-2.0",
        {"train": ("ALL/train-*.parquet",), "test": ("ALL/test-*.parquet",)},
        dict.fromkeys(
            ("question", "solutions", "starter_code", "input_output", "difficulty", "raw_tags", "name", "source",
             "tags", "skill_types", "url", "Expected Auxiliary Space", "time_limit", "date", "picture_num",
             "memory_limit", "Expected Time Complexity"), "string",
        ),
        taco,
    ),
    "leetcode": PublishedSet(
        "newfacade/LeetCodeDataset", "code", "Apache-2.0",
        {"train": ("LeetCodeDataset-train.jsonl",), "test": ("LeetCodeDataset-test.jsonl",)},
        {"task_id": "string", "question_id": "int64", "difficulty": "string", "tags": ["string"],
         "problem_description": "string", "starter_code": "string", "estimated_date": "timestamp[s]",
         "prompt": "string", "completion": "string", "entry_point": "string", "test": "string",
         "input_output": [{"input": "string", "output": "string"}], "query": "string", "response": "string"},
        leetcode,
    ),
    "aime24": PublishedSet(
        "HuggingFaceH4/aime_2024", "math", "", {"train": ("data/train-*.parquet",)},
        {"id": "int64", **_ANSWERED, "url": "string", "year": "string"}, answered("problem", "url", id="id"),
    ),
    "aime25": PublishedSet(
        "math-ai/aime25", "math", "", {"test": ("test.jsonl",)},
        {"problem": "string", "answer": "string", "id": "string"}, answered("problem", id="id"),
    ),
    "amc23": PublishedSet(
        "math-ai/amc23", "math", "", {"test": ("test-*.parquet",)},
        {"id": "int64", "question": "string", "answer": "string", "url": "string"},
        answered("question", "url", id="id"),
    ),
    "math500": PublishedSet(
        "HuggingFaceH4/MATH-500", "math", "", {"test": ("test.jsonl",)},
        {**_ANSWERED, "subject": "string", "level": "int64", "unique_id": "string"},
        answered("problem", "subject", "level", id="unique_id"),
    ),
    "gsm8k": PublishedSet(
        "openai/gsm8k", "math", "MIT", {"train": ("main/train-*.parquet",), "test": ("main/test-*.parquet",)},
        {"question": "string", "answer": "string"}, gsm8k,
    ),
    "humaneval": PublishedSet(
        "openai/openai_humaneval", "code", "MIT", {"test": ("openai_humaneval/test-*.parquet",)},
        dict.fromkeys(("task_id", "prompt", "canonical_solution", "test", "entry_point"), "string"), humaneval,
    ),
    "livecodebench": PublishedSet(
        "livecodebench/code_generation_lite", "code", "CC",
        {f"release_v{n}": _RELEASES[:n] for n in (5, 6, 4, 3, 2, 1)},
        dict.fromkeys(
            ("question_title", "question_content", "platform", "question_id", "contest_id", "contest_date",
             "starter_code", "difficulty", "public_test_cases", "private_test_cases", "metadata"), "string",
        ),
        livecodebench, {"window": window},
    ),
}  # fmt: skip
