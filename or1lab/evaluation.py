"""The evaluation folder: what a model answered to a suite, and what that is worth.

    manifest.json        suite and version, model, k, temperature, top-p, limit, template, engine, seed, verifier
    problems.jsonl       the problems, in order
    samples/part-*.parquet          the responses, as they came: problem_id, sample, response, length, truncated
    scores/<verifier>/part-*.parquet  the verdicts on each part: reward, correct, reason, answer

A response is never written again; verdicts are beside it, so that another version of a verifier can judge it later and
the old verdicts stay until the new ones are complete. Every file is whole or absent, whenever the process dies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from or1lab.data import load
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.manifest import MANIFEST, Recorded, full_disk_explained, write_atomic

PROBLEMS = "problems.jsonl"
KEY = ["problem_id", "sample"]
SAMPLES = [*KEY, "response", "length", "truncated"]
SCORES = [*KEY, "reward", "correct", "reason", "answer"]


class Evaluation(Recorded):
    """One evaluation folder. Make it with `evaluate.evaluate`, read it with `Evaluation.open`.

    `limit` is the limit under which the responses are looked at: that of the sampling, or a shorter one (`limited`)."""

    doing = "written"
    again = "evaluate again into another folder"

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        super().__init__(folder)
        self._limit = limit

    @classmethod
    def create(cls, folder: str | Path, manifest: dict[str, Any], problems: Sequence[Problem]) -> Evaluation:
        """Make the folder with its manifest and problems."""
        made = cls(folder)
        with full_disk_explained(made.folder):
            made.folder.mkdir(parents=True, exist_ok=True)
            load.write(problems, made.folder / PROBLEMS)
        made._write_manifest(manifest)
        return made

    @classmethod
    def open(cls, folder: str | Path) -> Evaluation:
        """An existing evaluation. Raises UsageError where there is none."""
        found = cls(folder)
        if not is_evaluation(found.folder):
            raise UsageError(f"{found.folder} holds no evaluation (no {MANIFEST} beside a {PROBLEMS})")
        return found

    def limited(self, T: int) -> Evaluation:
        """The same responses under a shorter limit: one longer than T tokens would have been truncated, so it is wrong
        (paper Figure 8). Needs no new generation, since a sampled prefix does not depend on the limit.

        Raises UsageError for a T below 1 or above the limit they were sampled under."""
        sampled = self.manifest["limit"]
        if not 1 <= T <= sampled:
            raise UsageError(f"a limit of {T} tokens: {self.folder} was sampled under {sampled}, so 1 to {sampled}")
        return Evaluation(self.folder, T)

    # -------------------------------------------------------------------------------------------------- reading

    @cached_property
    def problems(self) -> list[Problem]:
        """The problems, in order."""
        found = list(load.read(str(self.folder / PROBLEMS), strict=True))
        if len(found) != (wanted := self.manifest.get("problems", len(found))):
            raise Or1labError(
                f"{self.folder / PROBLEMS} is damaged (it holds {len(found)} of {wanted} problems); bring it back from "
                f"a copy, or {self.again}"
            )
        return found

    @property
    def limit(self) -> int:
        """Tokens."""
        return self._limit or int(self.manifest["limit"])

    @property
    def k(self) -> int:
        """Samples a problem."""
        return int(self.manifest["k"])

    @property
    def samples(self) -> pd.DataFrame:
        """One row a stored response with its verdict, by order of the problems, then by sample.

        Columns problem_id, domain, sample, response, length (tokens), truncated, reward (NaN without a verdict),
        correct (boolean, missing without a verdict), reason, answer (the extracted one; None where there is none)."""
        return self.frame()

    def frame(self, *, responses: bool = True, scores: str | None = None) -> pd.DataFrame:
        """`samples`; without the texts if not `responses`: they are nearly all of it. With the verdicts kept under the
        name `scores`, a version of the verifier, if not those that count."""
        columns = [name for name in SAMPLES if responses or name != "response"]
        stored = self._read(self.parts(), columns)
        scored = self._read(self.score_parts(scores or self.manifest["scores"]), SCORES)
        both = stored.merge(scored, on=KEY, how="left", validate="one_to_one")
        both = both.astype({"correct": "boolean", "reward": float, "reason": object, "answer": object})
        for name in ("reason", "answer"):  # a missing text is None, whatever merged it in
            both[name] = both[name].where(both[name].notna(), None)
        order = {problem.id: i for i, problem in enumerate(self.problems)}
        both = both.sort_values(KEY, key=lambda c: c.map(order) if c.name == "problem_id" else c, ignore_index=True)
        both.insert(1, "domain", both["problem_id"].map({problem.id: problem.domain for problem in self.problems}))
        return both if self._limit is None else _cut(both, self._limit)

    def table(self, name: str = "correct") -> np.ndarray:
        """A column of `samples` as a table (P, K): problems in order, samples by their index.

        A bool table for correct and truncated, int for length, float for reward (NaN: no verdict), object otherwise.

        Raises:
            Or1labError: not every sample is there yet; or, for `correct`, one has no verdict (see `judged`).
        """
        frame = self.complete()
        if name == "correct" and frame["correct"].isna().any():
            missing = frame.loc[frame["correct"].isna(), "problem_id"].unique()
            raise Or1labError(
                f"{self.folder}: no verdict on some responses to {', '.join(missing[:5])}; or1lab evaluate --rescore "
                f"{self.folder} judges them again"
            )
        kinds = {"correct": bool, "truncated": bool, "length": int, "reward": float}
        return frame[name].to_numpy(dtype=kinds.get(name, object)).reshape(len(self.problems), self.k)

    def correct(self) -> np.ndarray:
        """(P, K) bool, as `table`."""
        return self.table("correct")

    def complete(self) -> pd.DataFrame:
        """`samples` without texts; Or1labError unless all P x K of them are there."""
        frame, wanted = self.frame(responses=False), len(self.problems) * self.k
        if len(frame) < wanted:
            raise Or1labError(
                f"{self.folder} holds {len(frame)} of {wanted} samples; go on with or1lab evaluate ... --out "
                f"{self.folder} --resume"
            )
        return frame

    def stored(self) -> set[tuple[str, int]]:
        """(problem id, sample) of every response that is there."""
        frame = self._read(self.parts(), KEY)
        return set(zip(frame["problem_id"], frame["sample"], strict=True))

    def parts(self) -> list[Path]:
        """The files of responses, in the order written."""
        return sorted((self.folder / "samples").glob("part-*.parquet"))

    def score_parts(self, scores: str) -> list[Path]:
        """The files of verdicts under that name."""
        return sorted((self.folder / "scores" / scores).glob("part-*.parquet"))

    def summary(self, k: int | None = None) -> dict[str, Any]:
        """Every estimator with its interval, and the settings: see `evaluation_summary.summary`."""
        from or1lab.evaluation_summary import summary

        return summary(self, k)

    def _read(self, parts: Sequence[Path], columns: list[str]) -> pd.DataFrame:
        frames = [self.read_frame(path, columns) for path in parts]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    # -------------------------------------------------------------------------------------------------- writing

    def write_samples(self, frame: pd.DataFrame) -> Path:
        """Keep responses as the next part."""
        parts = self.parts()
        number = int(parts[-1].stem.partition("-")[2]) + 1 if parts else 0
        return self._write(Path("samples") / f"part-{number:05d}.parquet", frame[SAMPLES], "samples")

    def write_scores(self, scores: str, part: Path, frame: pd.DataFrame) -> Path:
        """Keep the verdicts on a part."""
        return self._write(Path("scores") / scores / part.name, frame[SCORES], "scores")

    def _write(self, name: Path, frame: pd.DataFrame, what: str) -> Path:
        path = self.folder / name
        with full_disk_explained(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, frame.to_parquet(index=False), what)
        return path

    def sweep(self) -> None:
        """Remove what a killed process had written aside; only whoever holds the lock may call this."""
        for left in (".*.json*.*", "samples/.*.parquet.*", "scores/*/.*.parquet.*"):
            for path in self.folder.glob(left):
                path.unlink()


def is_evaluation(folder: Path) -> bool:
    """Whether a folder holds an evaluation."""
    return (folder / MANIFEST).is_file() and (folder / PROBLEMS).is_file()


def find_evaluations(root: str | Path) -> list[Evaluation]:
    """All evaluations below `root`, sorted by folder."""
    found = []
    for folder, subfolders, _ in os.walk(root):
        if is_evaluation(Path(folder)):
            subfolders.clear()
            found.append(Evaluation(folder))
    return sorted(found, key=lambda one: one.folder)


def _cut(frame: pd.DataFrame, T: int) -> pd.DataFrame:
    long = frame["length"] > T
    wrong = {"truncated": True, "reward": 0.0, "correct": False, "reason": "truncated", "answer": None, "length": T}
    cut = frame.copy()
    for name, value in wrong.items():
        cut[name] = cut[name].where(~long, value)
    return cut
