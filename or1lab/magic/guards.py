"""Guards: what is watched over the steps of a run, so that a hopeless one warns or stops and says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from or1lab.recipe_parts import Guard


@dataclass(frozen=True)
class Alarm:
    """What a guard has to say after a step, and whether the run ends with it."""

    message: str
    stop: bool


class Guards:
    """Counts, for each guard, the steps in a row that broke its limit; it speaks once the row is long enough.

    Call `see` with each step record, in order; the counts belong into checkpoints (`state_dict`)."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.rows: dict[str, int] = {}

    def see(self, record: dict[str, Any]) -> list[Alarm]:
        """Alarms of this step: each guard speaks when its row becomes `steps` long, and again after a new one."""
        guard = self.guard
        entropy, truncated = record["entropy/rollout"], record["length/truncated_frac"]
        broken = {
            "entropy_below": guard.entropy_below is not None and entropy < guard.entropy_below,
            "entropy_above": guard.entropy_above is not None and entropy > guard.entropy_above,
            "truncated_above": guard.truncated_above is not None and truncated > guard.truncated_above,
            "empty_steps": record["sgd/steps"] == 0,
        }
        self.rows = {name: self.rows.get(name, 0) + 1 if broken[name] else 0 for name in broken}
        limits = dict.fromkeys(broken, guard.steps) | {"empty_steps": guard.empty_steps}
        return [self._alarm(name, record) for name in broken if self.rows[name] == limits[name]]

    def _alarm(self, name: str, record: dict[str, Any]) -> Alarm:
        row = f"for {self.rows[name]} steps in a row, at step {record['step']} (guard.{name})"
        if name == "empty_steps":
            right, wrong = record["groups/all_right_frac"], record["groups/all_wrong_frac"]
            shares = f"{right:.0%} of the groups all right, {wrong:.0%} of the groups all wrong"
            why = "nothing is learned any more: the problems are too easy or too hard, or their verdicts fail"
            return Alarm(f"no group kept {row}; {shares}: {why}", stop=True)
        what = "length/truncated_frac" if name == "truncated_above" else "entropy/rollout"
        where = f"{name.rpartition('_')[2]} {getattr(self.guard, name):g}"
        return Alarm(f"{what} = {record[what]:.3g}, {where} {row}", stop=self.guard.action == "stop")

    def state_dict(self) -> dict[str, int]:
        """The counts; plain numbers."""
        return dict(self.rows)

    def load_state_dict(self, rows: dict[str, int]) -> None:
        """Go on counting from the `state_dict` of a checkpoint."""
        self.rows = dict(rows)
