"""How often the tiny base solves each training problem of the tiny recipe: what its offline filter goes by.

    python experiments/tiny_difficulty.py        about five minutes on one core; rewrites data/tiny_base/difficulty.json
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from or1lab import sources
from or1lab.data.difficulty import Rollouts, difficulty
from or1lab.data.tiny import BASE
from or1lab.recipe import load_recipe

SAMPLES = 16


def main() -> None:
    recipe = load_recipe("tiny")
    problems = sources.load_problems(recipe.data, "train", sources.load_tokenizer(str(BASE)))
    with tempfile.TemporaryDirectory() as folder:
        tried = list(difficulty(problems, Rollouts(recipe, SAMPLES), Path(folder) / "difficulty.jsonl"))
    solved = {problem.id: problem.difficulty["tiny"].solved for problem, _ in tried}
    reasons = [reason or "kept" for _, reason in tried]
    table = {
        "command": "python experiments/tiny_difficulty.py",
        "model_hash": sources.weights_hash(str(BASE)),
        "samples": SAMPLES,
        "T": recipe.max_T,
        "shares": {reason: reasons.count(reason) / len(reasons) for reason in sorted(set(reasons))},
        "solved": solved,
    }
    (BASE / "difficulty.json").write_text(json.dumps(table, indent=0) + "\n", encoding="utf-8")
    print(table["shares"])


if __name__ == "__main__":
    main()
