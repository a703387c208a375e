"""Two runs of one recipe are compared in every number that is not a time."""

import json

import pandas as pd
import pytest

from benchmarks import repeat
from or1lab.errors import UsageError
from or1lab.store import Run


def write(folder, steps, right=(True, False)):
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    lines = [{"kind": "step", "step": number + 1, **step} for number, step in enumerate(steps)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "evals").mkdir()
    pd.DataFrame({"problem_id": ["a", "b"], "correct": right}).to_parquet(folder / "evals" / "step-000001.parquet")
    return Run(folder)


STEP = {"loss": 0.1, "time/rollout": 1.0, "tokens_per_s": 5.0, "entropy/by_position": [0.5, float("nan")]}


def test_only_times_may_differ(tmp_path):
    ours = write(tmp_path / "a", [STEP, STEP])
    same = write(tmp_path / "b", [STEP | {"time/rollout": 2.0, "tokens_per_s": 3.0, "memory/peak_gib": 1.0}, STEP])
    assert repeat.differences(ours, same) == []
    other = write(tmp_path / "c", [STEP, STEP | {"loss": 0.1000001}])
    assert repeat.differences(ours, other) == ["step 2: loss is 0.1, was 0.1000001"]
    shape = write(tmp_path / "d", [STEP, STEP | {"entropy/by_position": [0.5, 0.1]}], right=(True, True))
    first, last = repeat.differences(ours, shape)
    assert first.startswith("step 2: entropy/by_position is ") and last == "responses of the evaluations"
    assert repeat.differences(ours, write(tmp_path / "e", [STEP])) == ["2 records instead of 1"]


def test_what_is_not_kept_cannot_be_compared(tmp_path):
    from rich.console import Console

    with pytest.raises(UsageError, match=r"lacks 6 runs of data_sensitivity; the first: data_sensitivity/"):
        repeat.repeat(["data_sensitivity"], tmp_path, tmp_path / "again", 1, Console())
    assert not (tmp_path / "again").exists()
