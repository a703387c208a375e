"""Entropy coefficient alpha_k of a training step, by feedback from the measured entropy e_k (paper eq. 3.2).

    alpha_k = c_k if e_k <= target, else 0
    c_{k+1} = c_k + delta if e_k < target, c_k - delta if e_k > target

The printed rule has no floor, so c would run far below 0 while the entropy starts above its target; here c
stays in [c_min, c_max], as in the released code.
"""

from __future__ import annotations

import math
from typing import Any, Literal

Kind = Literal["none", "constant", "paper", "released", "trl"]


class EntropyController:
    """Call `alpha(e_k)` before the updates of training step k and `update(e_k)` once after them.

    Kinds, where they differ from eq. 3.2:

    - none: alpha is 0.
    - constant: alpha is `alpha` (ablation 8).
    - paper: as printed; the entropy of step k gates step k, and at equality c stays.
    - released: the entropy of step k - 1 gates step k, open only strictly below the target; at equality c
      goes down; open at the first step. (Its e_k counts kept groups only: the recipe's entropy_source.)
    - trl: as released, but at equality the gate is open and c goes up; closed at the first step.

    Args:
        target: tgt-ent, nats per token.
        delta: step of c.
        c_min, c_max: range of c (None: no ceiling). c_0 is 0, or the floor if that is higher.
        alpha: the coefficient of kind "constant".

    Raises:
        ValueError: unknown kind, empty range of c.

    Example:
        >>> controller = EntropyController("paper", target=0.2, delta=0.005)
        >>> controller.update(0.15)
        >>> controller.alpha(0.15), controller.alpha(0.25)
        (0.005, 0.0)
    """

    def __init__(
        self,
        kind: Kind,
        target: float = 0.2,
        delta: float = 0.005,
        c_min: float = 0.0,
        c_max: float | None = None,
        *,
        alpha: float = 0.0,
    ) -> None:
        if kind not in ("none", "constant", "paper", "released", "trl"):
            raise ValueError(f"kind = {kind!r}; one of 'none', 'constant', 'paper', 'released', 'trl'")
        self.kind = kind
        self.target = target
        self.delta = delta
        self.c_min = c_min
        self.c_max = math.inf if c_max is None else c_max
        if self.c_min > self.c_max:
            raise ValueError(f"c_min = {c_min} is above c_max = {c_max}")
        self.constant = alpha
        self.c = self._clip(0.0)
        # Entropy of the step before; the released code starts with its gate open, TRL with it closed.
        self.previous = -math.inf if kind == "released" else math.inf

    def alpha(self, e_k: float) -> float:
        """Coefficient of this training step's entropy bonus; changes nothing. NaN, nothing measured, opens no gate."""
        match self.kind:
            case "none":
                return 0.0
            case "constant":
                return self.constant
            case "paper":
                return self.c if e_k <= self.target else 0.0
            case "released":
                return self.c if self.previous < self.target else 0.0
            case "trl":
                return self.c if self.previous <= self.target else 0.0

    def update(self, e_k: float) -> None:
        """Move c by the entropy of the step just done. Raises ValueError unless `e_k` is finite."""
        if not math.isfinite(e_k):
            raise ValueError(
                f"measured entropy e_k = {e_k}: a step without tokens has none and must not be counted"
            )
        if self.kind in ("none", "constant"):
            return
        if e_k == self.target:
            direction = {"paper": 0, "released": -1, "trl": 1}[self.kind]
        else:
            direction = 1 if e_k < self.target else -1
        self.c = self._clip(self.c + direction * self.delta)
        self.previous = e_k

    def _clip(self, c: float) -> float:
        return min(max(c, self.c_min), self.c_max)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; plain numbers."""
        return {"kind": self.kind, "c": self.c, "previous": self.previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`. Raises ValueError when it is that of another kind of controller."""
        if state["kind"] != self.kind:
            raise ValueError(
                f"state of a controller of kind {state['kind']!r}, but this one is {self.kind!r}"
            )
        self.c = self._clip(state["c"])
        self.previous = state["previous"]
