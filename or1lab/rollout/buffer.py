"""The rollout buffer of one training step: prompts, sampled responses, verdicts.

Shapes: N prompts, M responses per prompt.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError
from or1lab.magic.update import Row
from or1lab.rewards import CodeVerdict, RewardFn, Verdict, is_error, verdicts
from or1lab.rollout.base import Engine, Request, Sample, decode_response, encode_prompt, sample_seed


@dataclass(frozen=True)
class Buffer:
    """Everything sampled for the prompts of one step, at one state of the policy."""

    problems: list[Problem]
    prompts: list[list[int]]
    samples: list[list[Sample]]
    responses: list[list[str]]
    verdicts: list[list[Verdict]]

    def __add__(self, more: Buffer) -> Buffer:
        """Both buffers' groups, ours first."""
        return Buffer(*(getattr(self, field.name) + getattr(more, field.name) for field in fields(self)))

    @property
    def rewards(self) -> Tensor:
        """(N, M) float64; NaN where the reward function failed: such a member is missing from its group."""
        return self._table(lambda i, j: float("nan") if is_error(v := self.verdicts[i][j]) else float(v.correct))

    @property
    def domains(self) -> list[str]:
        """(N,) the problems' domains."""
        return [problem.domain for problem in self.problems]

    @property
    def truncated(self) -> Tensor:
        """(N, M) bool: the limit T was reached without the end token."""
        return self._table(lambda i, j: float(self.samples[i][j].truncated)).bool()

    @property
    def lengths(self) -> Tensor:
        """(N, M) response lengths |y| in tokens, the end token included."""
        return self._table(lambda i, j: float(len(self.samples[i][j].token_ids))).long()

    def entropy(self, members: Tensor | None = None) -> float:
        """Minus the mean log-prob of the sampled tokens, nats per token (paper section 3.2.5): of all responses, those
        of rejected groups and without a verdict included, or of those where `members` (N, M) is true. NaN where there
        is no token. Known before the update, without a forward pass."""
        samples = [sample for group in self.samples for sample in group]
        chosen = samples if members is None else [samples[n] for n in members.flatten().nonzero()]
        return -torch.tensor([value for s in chosen for value in s.logprobs], dtype=torch.float64).mean().item()

    def rows(self, advantages: Tensor) -> list[list[Row | None]]:
        """The groups as the update takes them, with their advantages (N, M); None where a member is missing."""
        values = zip(self.prompts, self.samples, self.rewards.tolist(), advantages.tolist(), strict=True)
        return [
            [
                None if math.isnan(reward) else Row(prompt, sample.token_ids, advantage, sample.logprobs)
                for sample, reward, advantage in zip(samples, rewards, members, strict=True)
            ]
            for prompt, samples, rewards, members in values
        ]

    def frame(self, **columns: Tensor) -> pd.DataFrame:
        """One row per response, for the run folder; `columns` are further (N, M) tensors. Tests passed, and how many
        there are, where a response is a program."""
        rows: list[dict[str, Any]] = []
        for i, problem in enumerate(self.problems):
            for j, sample in enumerate(self.samples[i]):
                verdict = self.verdicts[i][j]
                row = {
                    "problem_id": problem.id,
                    "domain": problem.domain,
                    "sample": j,
                    "prompt": problem.prompt,
                    "gold": None if problem.gold is None else str(problem.gold),
                    "response": self.responses[i][j],
                    "correct": verdict.correct,
                    "reason": verdict.reason,
                    "length": len(sample.token_ids),
                    "truncated": sample.truncated,
                    "logprob": sum(sample.logprobs),
                }
                if isinstance(verdict, CodeVerdict):
                    row |= {"passed": verdict.passed, "total": verdict.total}
                rows.append(row | {name: values[i, j].item() for name, values in columns.items()})
        frame = pd.DataFrame(rows)
        if frame["correct"].dtype == object:  # an own reward gives fractions
            frame["correct"] = frame["correct"].astype(float)
        return frame.astype({name: "Int64" for name in ("passed", "total") if name in frame})

    def _table(self, cell: Any) -> Tensor:
        table = [[cell(i, j) for j in range(len(group))] for i, group in enumerate(self.samples)]
        return torch.tensor(table, dtype=torch.float64)


def collect(
    engine: Engine,
    tokenizer: Any,
    problems: Sequence[Problem],
    reward: RewardFn,
    *,
    group: int,
    tau: float,
    T: int,
    seed: int,
    step: int | str,
) -> Buffer:
    """Sample `group` responses for each problem, decode and judge them."""
    prompts = [encode_prompt(tokenizer, problem.prompt) for problem in problems]
    requests = []
    for problem, ids in zip(problems, prompts, strict=True):
        first = sample_seed(seed, step, problem.id)
        requests.append(Request(ids, [first + j for j in range(group)]))
    samples = engine.generate(requests, tau=tau, T=T)
    for problem, members in zip(problems, samples, strict=True):
        for sample in members:
            if len(sample.token_ids) != len(sample.logprobs):
                raise Or1labError(
                    f"the engine returned {len(sample.logprobs)} log-probs for the {len(sample.token_ids)} tokens of a "
                    f"response to problem {problem.id}; nothing was trained on them"
                )
    responses = [[decode_response(tokenizer, s.token_ids) for s in members] for members in samples]
    asked = [problem for problem in problems for _ in range(group)]
    texts = [text for members in responses for text in members]
    found = iter(judge(reward, asked, texts, [s.truncated for members in samples for s in members]))
    return Buffer(list(problems), prompts, samples, responses, [[next(found) for _ in members] for members in samples])


def judge(
    reward: RewardFn, problems: Sequence[Problem], texts: Sequence[str], truncated: Sequence[bool]
) -> list[Verdict]:
    """`rewards.verdicts`, with a warning that counts the responses without one."""
    found = verdicts(reward, problems, texts, truncated)
    if failed := [verdict.reason for verdict in found if is_error(verdict)]:
        warnings.warn(f"{len(failed)} of {len(texts)} responses have no verdict ({failed[0]})", stacklevel=2)
    return found
