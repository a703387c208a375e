"""What a run comes to, as one number: the statistics that claims are decided by (`experiments/claims.yaml`).

Each is a function of one run's records alone, given as `Records`; the unit of every comparison is the run. Steps count
from 1, evaluations from step 0 (the base policy). Units: accuracies and shares 0 to 1, entropy nats per token, lengths
tokens, times seconds unless said otherwise. One exception looks at other runs: `accuracy_at_equal_time` needs the
horizon that all compared runs reach.

Single evaluations and steps are noisy (256 responses: 0.03 in accuracy), so curves are read by means over windows.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from or1lab.recipe import Recipe
from or1lab.store import Run

SMOOTH = 5  # steps of which a threshold looks at the mean
NEAR = 1.5  # "near the target": within this factor of it
REACHED = 0.7  # accuracy at which cost and length are compared: the baseline's pilots pass it half-way (tiny world)
RESPONSES_A_SLOT = 4  # simulated resources: responses a step per place that decodes one of them at a time
MANY_A_SLOT, FEW_A_SLOT = 32, 4  # responses, as on 32 and 256 GPUs of the paper's Table 9


@dataclass(frozen=True)
class Records:
    """A run's records: `steps` and `evals` (the final evaluation last) in order, and its final `samples`."""

    recipe: Recipe
    steps: pd.DataFrame
    evals: pd.DataFrame
    all_samples: Callable[[], pd.DataFrame]  # of every evaluation at its main temperature: many, so read if asked for
    horizon: float | None = None  # simulated time that every compared run reaches
    reached: float = REACHED

    @classmethod
    def of(cls, run: Run) -> Records:
        """Those of a run. Raises as `Run.metrics`; its samples are read when they are asked for."""
        metrics = run.metrics
        steps, evals = metrics[metrics["kind"] == "step"], metrics[metrics["kind"] == "eval"]
        return cls(run.recipe, steps, evals, lambda: run.main_evals)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The samples of the final evaluation, at its main temperature."""
        samples = self.all_samples()
        return samples[samples["final"]] if "final" in samples else samples

    @property
    def last_step(self) -> int:
        """The newest training step, from 1."""
        return int(self.steps["step"].iloc[-1])

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Test accuracy at every step from 0 to the last, between evaluations on the straight line."""
        return self._by_step("eval/accuracy")

    def _by_step(self, column: str) -> NDArray[np.float64]:
        at, values = self.evals["step"].to_numpy(float), self.evals[column].to_numpy(float)
        return np.interp(np.arange(self.last_step + 1), at, values)

    def column(self, name: str) -> NDArray[np.float64]:
        """A metric of the steps, one value a step; those where it was not measured are left out."""
        values = self.steps[name].to_numpy(float) if name in self.steps else np.empty(0)
        return values[np.isfinite(values)]


def part(values: NDArray[np.float64], begin: float, end: float) -> NDArray[np.float64]:
    """The stretch of a curve between two shares of its length; at least one value."""
    first = min(int(begin * len(values)), len(values) - 1)
    return values[first : max(first + 1, round(end * len(values)))]


# ------------------------------------------------------------------------------------------------------ accuracy


def final_accuracy(run: Records) -> float:
    """Accuracy of the final evaluation (256 problems x 8 samples in the tiny world)."""
    return float(run.evals["eval/accuracy"].iloc[-1])


def final_nontruncated(run: Records) -> float:
    """Accuracy of those of its responses that ended by themselves within the *training* limit."""
    ended = run.samples[run.samples["length"] <= run.recipe.by_stage[-1].T]
    return float(ended["correct"].mean())


def peak_minus_final(run: Records) -> float:
    """How far accuracy fell from its best: highest mean of 3 evaluations in a row, minus that of the last 3."""
    means = run.evals["eval/accuracy"].rolling(3).mean().dropna()
    return float(means.max() - means.iloc[-1])


def mean_accuracy(run: Records, begin: float = 0.0, end: float = 1.0) -> float:
    """Mean accuracy over a stretch of the run, as shares of its steps: the area under its curve."""
    return float(part(run.accuracy, begin, end).mean())


def accuracy_gain(run: Records, begin: float, end: float) -> float:
    """Least-squares slope of accuracy over a stretch of the run, times its steps."""
    return _rise(part(run.accuracy, begin, end))


def stage_2_accuracy(run: Records) -> float:
    """Mean accuracy over the second stage, which begins before its planned step where the first has converged."""
    return float(run.accuracy[int((run.steps["stage"] == 0).sum()) :].mean())


def accuracy_at_limit(run: Records, limit: int) -> float:
    """Accuracy of the final evaluation had it been cut at `limit` tokens: the samples under a shorter limit are the
    beginnings of those under a longer one, and what is cut is wrong."""
    if limit > (run.recipe.eval.T or run.recipe.max_T):
        raise ValueError(f"the evaluation's own limit is below {limit} tokens")
    return float((run.samples["correct"].astype(bool) & (run.samples["length"] <= limit)).mean())


def long_limit_accuracy(run: Records) -> float:
    """The same at the evaluation's own limit: 128 tokens in the tiny world, 32K with real models."""
    return accuracy_at_limit(run, run.recipe.eval.T or run.recipe.max_T)


def training_limit_accuracy(run: Records) -> float:
    """The same at the limit the run was trained with last."""
    return accuracy_at_limit(run, run.recipe.by_stage[-1].T)


# ------------------------------------------------------------------------------------------------------- entropy


def start_entropy(run: Records) -> float:
    """Mean rollout entropy of the first 3 steps, at the rollout temperature."""
    return float(run.column("entropy/rollout")[:3].mean())


def final_entropy(run: Records) -> float:
    """Mean rollout entropy of the last tenth of the steps."""
    return float(part(run.column("entropy/rollout"), 0.9, 1.0).mean())


def mean_entropy(run: Records) -> float:
    """Mean rollout entropy over the run: the area under its curve."""
    return float(run.column("entropy/rollout").mean())


def entropy_change(run: Records) -> float:
    """Final entropy over that of the first 3 steps of the last stage: below 1 it has fallen."""
    stage = run.steps["stage"].to_numpy(int)
    last = run.steps["entropy/rollout"].to_numpy(float)[stage == stage.max()]
    return float(part(last, 0.9, 1.0).mean() / last[:3].mean())


def steps_to_collapse(run: Records) -> float:
    """First step at which the mean of 5 steps is below the target entropy (a third of the base's); the last step where
    it never is, so that the number is a lower bound there."""
    return _first(run, _collapsed(run))


def steps_to_blowup(run: Records) -> float:
    """First step at which the mean of 5 steps is above 1.5 times the base's entropy (the target is a third of it); the
    last step where it never is."""
    return _first(run, _blown_up(run))


def near_target(run: Records) -> float:
    """Share of the second half's steps whose entropy is within a factor 1.5 of the target."""
    ratio = part(run.column("entropy/rollout"), 0.5, 1.0) / run.recipe.tgt_ent
    return float(((ratio < NEAR) & (ratio > 1 / NEAR)).mean())


def target_deviation(run: Records) -> float:
    """Root mean square distance of entropy from its target over the second half."""
    distance = part(run.column("entropy/rollout"), 0.5, 1.0) - run.recipe.tgt_ent
    return float(np.sqrt((distance**2).mean()))


def law(entropy: NDArray[np.float64], accuracy: NDArray[np.float64]) -> Callable[[Any], Any]:
    """R = -a exp(H) + b by least squares, as a function of H; flat where H does not vary."""
    slope, intercept = _line(np.exp(entropy), accuracy)
    return lambda H: slope * np.exp(H) + intercept


def forecast(run: Records) -> tuple[float, float]:
    """The final accuracy that the law fitted on the first half's evaluations says for the final entropy, and the final
    accuracy."""
    half, last = run.evals[run.evals["step"] <= run.last_step / 2], run.evals.iloc[-1]
    fitted = law(half["eval/entropy"].to_numpy(float), half["eval/accuracy"].to_numpy(float))
    return float(fitted(last["eval/entropy"])), float(last["eval/accuracy"])


def law_error(run: Records) -> float:
    """Distance of the final accuracy from what the law of the first half forecasts."""
    expected, final = forecast(run)
    return abs(expected - final)


def kl_change(run: Records) -> float:
    """KL divergence from the reference in the last fifth of the last stage, over that in its first fifth."""
    stage = run.steps["stage"].to_numpy(int)
    kl = run.steps["kl/reference"].to_numpy(float)[stage == stage.max()]
    return float(np.nanmean(part(kl, 0.8, 1.0)) / np.nanmean(part(kl, 0.0, 0.2)))


# -------------------------------------------------------------------------------------- truncation, length, cost


def truncation(run: Records) -> float:
    """Truncated share of the training responses in the last tenth of the steps."""
    return float(part(run.column("length/truncated_frac"), 0.9, 1.0).mean())


def early_gain_by_truncation(run: Records) -> float:
    """Of the gain in training reward over the first fifth, the part due to truncating less minus that due to answering
    better: with J = p r (paper section 3.2.3) and their least-squares rises, r dp - p dr at the mean p and r."""
    p = part(run.column("reward/p_nontruncated"), 0.0, 0.2)
    r = part(run.column("reward/nontruncated_by_problem"), 0.0, 0.2)
    return float(r.mean() * _rise(p) - p.mean() * _rise(r))


def early_nontruncated_gain(run: Records) -> float:
    """Least-squares rise of the accuracy of non-truncated training responses over the first fifth."""
    return _rise(part(run.column("reward/nontruncated"), 0.0, 0.2))


def final_length(run: Records) -> float:
    """Mean length of the final evaluation's responses."""
    return float(run.evals["eval/length"].iloc[-1])


def length_when_reached(run: Records) -> float:
    """Mean length of the evaluations' responses where accuracy first reaches 0.7 (with real models what scale.reached
    of the study says); at the end where it never does."""
    return float(run._by_step("eval/length")[_reached(run)])


def tokens_to_reach(run: Records) -> float:
    """Tokens sampled for training until accuracy first reaches the same; all of them where it never does."""
    return float(run.column("tokens/generated")[: max(1, _reached(run))].sum())


def kept_groups(run: Records) -> float:
    """Mean share of groups with an advantage."""
    return float(run.column("groups/kept_frac").mean())


def masked_long_excess(run: Records) -> float:
    """Share above the cap of the importance weight among the longer half of the responses, minus that among all."""
    return float((run.column("correction/above_cap_long_frac") - run.column("correction/above_cap_frac")).mean())


# ---------------------------------------------------------------------------------------------------------- time


def rollout_share(run: Records) -> float:
    """Rollout's share of the training time, t_R / t_total (paper section 5)."""
    return float(run.column("time/rollout").sum() / _step_seconds(run).sum())


def seconds_a_step(run: Records) -> float:
    """Median wall-clock time of a training step."""
    return float(np.median(_step_seconds(run)))


def makespan(lengths: Sequence[int], slots: int) -> float:
    """Time, in tokens, until the longest-first schedule has decoded all responses on `slots` places, each one token a
    unit of time. Raises ValueError without a slot."""
    if slots < 1:
        raise ValueError(f"slots = {slots}; at least 1")
    ends = [0.0] * slots
    for length in np.sort(lengths)[::-1].tolist():
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def scaling_efficiency(run: Records) -> float:
    """Speed-up of the rollouts by 8 times the slots (from 32 responses on each to 4), over 8: 1 were no response the
    floor of its step."""
    lengths, responses = _lengths(run), run.recipe.D_R * run.recipe.gs
    few, many = (sum(makespan(step, max(1, responses // n)) for step in lengths) for n in (MANY_A_SLOT, FEW_A_SLOT))
    return few / many / (MANY_A_SLOT / FEW_A_SLOT)


def simulated_time(run: Records) -> NDArray[np.float64]:
    """Time after each step, in tokens, with slots in proportion to the responses of a step (4 a slot, so that the
    resources grow with D_R or gs): its longest-first schedule, and the update's time in proportion to the rollout's as
    measured over the run."""
    update = run.column("time/update").sum() / run.column("time/rollout").sum()
    steps = [makespan(step, max(1, len(step) // RESPONSES_A_SLOT)) for step in _lengths(run)]
    return np.cumsum(steps) * (1 + update)


def accuracy_at_equal_time(run: Records) -> float:
    """Mean of the last 3 evaluations within the horizon on the simulated time axis; ValueError without a horizon."""
    if run.horizon is None:
        raise ValueError("no horizon: it comes from the compared runs")
    times = np.concatenate([[0.0], simulated_time(run)])
    within = run.evals[times[run.evals["step"].to_numpy(int)] <= run.horizon * (1 + 1e-9)]
    return float(within["eval/accuracy"].tail(3).mean())


# ------------------------------------------------------------------------------------------------------- helpers


def _step_seconds(run: Records) -> NDArray[np.float64]:
    return sum((run.column(f"time/{part}") for part in ("update", "sync", "other")), run.column("time/rollout"))


def _lengths(run: Records) -> list[Any]:
    return list(run.steps["length/all"])


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of up to the last 5 values at each place from the fifth on; NaN before."""
    return pd.Series(values).rolling(SMOOTH).mean().to_numpy()


def _first(run: Records, hits: NDArray[np.bool_]) -> float:
    return float(run.steps["step"].iloc[int(hits.argmax())]) if hits.any() else float(run.last_step)


def _reached(run: Records) -> int:
    """First step at which accuracy reaches what it is to reach; the last where it never does."""
    hits = _good(run)
    return int(hits.argmax()) if hits.any() else run.last_step


def _collapsed(run: Records) -> NDArray[np.bool_]:
    return _smooth(run.column("entropy/rollout")) < run.recipe.tgt_ent


def _blown_up(run: Records) -> NDArray[np.bool_]:
    return _smooth(run.column("entropy/rollout")) > 1.5 * 3 * run.recipe.tgt_ent


def _good(run: Records) -> NDArray[np.bool_]:
    return run.accuracy >= run.reached


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Least-squares slope and intercept; a flat line where x does not vary."""
    spread = ((x - x.mean()) ** 2).sum()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _rise(values: NDArray[np.float64]) -> float:
    """Least-squares slope times the number of steps between first and last."""
    return _line(np.arange(len(values), dtype=float), values)[0] * (len(values) - 1)


Statistic = Callable[[Records], float]

STATISTICS: Mapping[str, Statistic] = {
    function.__name__: function
    for function in (
        final_accuracy, final_nontruncated, peak_minus_final, mean_accuracy, stage_2_accuracy, training_limit_accuracy,
        start_entropy, final_entropy, mean_entropy, entropy_change, steps_to_collapse, steps_to_blowup, near_target,
        target_deviation, law_error, kl_change, truncation, early_gain_by_truncation, early_nontruncated_gain,
        final_length, length_when_reached, tokens_to_reach, kept_groups, masked_long_excess, rollout_share,
        seconds_a_step, scaling_efficiency, accuracy_at_equal_time,
    )
} | {
    "early_accuracy": partial(mean_accuracy, end=0.2),  # mean over the first fifth
    "first_third_accuracy": partial(mean_accuracy, end=1 / 3),
    "late_gain": partial(accuracy_gain, begin=0.5, end=1.0),  # rise of accuracy over the second half
    "accuracy_at_128": long_limit_accuracy,
}  # fmt: skip

CONTROL = ("near_target", "target_deviation")  # those that say how well control keeps to its target
REACHING = ("length_when_reached", "tokens_to_reach")  # those that need an accuracy to reach

GOALS: Mapping[str, tuple[Callable[[Records], NDArray[np.bool_]], str]] = {
    "steps_to_collapse": (_collapsed, "entropy never came below its target"),
    "steps_to_blowup": (_blown_up, "entropy never rose above 1.5 times the base's"),
    **dict.fromkeys(REACHING, (_good, "accuracy never came to the level at which they are compared")),
}  # fmt: skip
"""What a statistic waits for, by steps, and what is said where it never came."""


def censored(statistic: str, run: Records) -> bool:
    """Whether the statistic waits for something that the run never came to. Its number is then a bound from below; a
    length is none."""
    return statistic in GOALS and not GOALS[statistic][0](run).any()


def bonus_share(run: Records) -> float | None:
    """Share of the steps in which entropy control gave a bonus; None without control, or with a constant in a stage."""
    stages = {stage.entropy for stage in run.recipe.by_stage}
    if stages == {"none"} or "constant" in stages:
        return None
    alpha = run.column("entropy/alpha")
    return float((alpha > 0).mean()) if len(alpha) else 0.0
