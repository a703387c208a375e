"""The recipe: everything that defines one training run, under the paper's names.

A recipe is a YAML file (or the name of one under `experiments/recipes`), checked by the models below. The trailing
comment of each line of the file is kept as that value's source and shown by `or1lab show`. Dotted overrides such as
`stages.0.steps=3` change single values; every unknown key is an error that names the nearest right one. A file with
`base: NAME` is that recipe with its own keys put over it, dotted ones too, as on the command line.

Symbols (paper, section 2 and 4.1): D_R prompts per training step, gs = M responses per prompt, D_T prompts per SGD
step, N_reuse passes over the rollout buffer, T limit on the response in tokens, tau rollout temperature.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from or1lab.errors import UsageError, did_you_mean
from or1lab.recipe_errors import checked
from or1lab.recipe_parts import Checkpoint, Data, Eval, Guard, Positive, Rollout, Stage, Strict, VerifierErrors, knob
from or1lab.rewards import ROUTES, complaint

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "experiments" / "recipes"
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, eight times as fast, where PyYAML was built with it

# What the released scripts set beside their controller (DELTA_ENT_COEF, MAX_ENT_COEF; e_k over kept groups).
RELEASED_CONTROLLER = {"delta": 0.0001, "c_max": 0.005, "entropy_source": "kept"}

class Recipe(Strict):
    """One run. Stage overrides are resolved by `stage(i)`; N_SGD is derived (paper eq. 4.1)."""

    name: str = knob("", "name of the run in titles and trackers", "ours")
    seed: int = knob(0, "root seed: prompts, samples and shuffles are pure functions of it", "ours", ge=0, lt=2**32)
    world: str | None = knob(None, "version tag of a generated world, kept in the manifest", "ours")
    model: str = knob("tiny", "'tiny', 'smol', a model folder or a Hub name", "ours")
    dtype: Literal["float32", "bfloat16"] = knob("float32", "of passes and engine; weights train in float32", "ours")
    threads: Positive | None = knob(None, "CPU threads of this process; default: torch's own choice", "ours")
    data: Data = Data()
    reward: str | dict[str, str] = knob(
        ROUTES, "what judges: a name ('math', 'code', package.module.function), or domain -> name", "paper §7"
    )
    verifier_errors: VerifierErrors = VerifierErrors()

    D_R: Positive = knob(64, "prompts rolled out per training step", "paper T5")
    D_T: Positive = knob(64, "prompts per SGD step (mini-batch)", "paper T5")
    N_reuse: Positive = knob(1, "passes over the rollout buffer", "paper T5")
    gs: int = knob(16, "responses per prompt (M)", "paper T5")
    T: Positive = knob(256, "limit on the response, tokens; excludes the prompt", "set by each recipe")
    tau: float = knob(1.0, "rollout temperature", "paper §8.1", gt=0)
    top_p: float = knob(1.0, "must be 1: truncated sampling makes rollout and trainer log-probs disagree", "paper §8.1")
    lr: float = knob(1e-6, "learning rate, constant", "paper §8.1", gt=0)
    adam_betas: tuple[float, float] = knob((0.9, 0.999), "AdamW moment decays", "released code")
    weight_decay: float = knob(0.01, "AdamW weight decay", "released code", ge=0)
    grad_clip: float = knob(1.0, "global gradient norm limit", "released code", gt=0)
    clip_low: float = knob(0.2, "ratio floor is 1 - clip_low", "paper §8.1", gt=0, lt=1)
    clip_high: float = knob(0.2, "ratio ceiling is 1 + clip_high", "paper §8.1", gt=0)
    beta: float = knob(0.0, "weight of the k3 KL term to the reference", "paper §3.2.6", ge=0)
    std: Literal["unbiased", "population"] = knob("unbiased", "standard deviation of a group", "released code")
    adv_eps: float = knob(1e-6, "added to the group's standard deviation", "released code", ge=0)
    mask: Literal["none", "before", "after"] = knob("none", "advantage mask of truncated responses", "paper §3.2.3")
    reject: Literal["drop", "refill", "off"] = knob("drop", "zero-advantage groups", "paper §3.1")
    loss: Literal["paper", "released", "grpo", "trl_dapo"] = knob("paper", "token weights of the loss", "paper eq. 3.1")
    partial: Literal["split", "chunk"] = knob("split", "how kept prompts are dealt to mini-batches", "ours")
    old_logp: Literal["trainer", "sampler"] = knob(
        "trainer", "where pi_k's log-probs come from, but in the first mini-batch, whose ratio is 1", "released code"
    )
    correction: Literal["none", "truncated", "sequence_mask"] = knob(
        "none", "importance weight, pi_k against the sampler; sequence_mask is TRL's default with a cap of 3", "ours"
    )
    correction_cap: float = knob(2.0, "ceiling of that weight, above which sequence_mask gives 0", "ours", gt=0)
    entropy: Literal["none", "constant", "paper", "released", "trl"] = knob("paper", "controller", "paper eq. 3.2")
    entropy_source: Literal["sampler", "kept", "exact"] = knob("sampler", "how e_k is measured", "ours: free")
    alpha: float = knob(0.0, "constant entropy coefficient (entropy: constant)", "paper §4.5", ge=0)
    tgt_ent: float = knob(0.2, "target entropy, nats per token", "paper §3.2.5", ge=0)
    delta: float = knob(0.005, "controller step", "paper §3.2.5", gt=0)
    c_min: float = knob(0.0, "floor of the controller", "released code", ge=0)
    c_max: float | None = knob(None, "ceiling of the controller", "paper (none printed)")
    online_filter: Literal["off", "last", "any", "all"] = knob(
        "off", "drop problems solved in the stage before: in their last, any or all of their visits", "paper §3.1"
    )
    stage_start: Literal["carried", "fresh"] = knob(
        "carried",
        "optimizer state and entropy controller at the start of a later stage: carried on, or fresh (its problems are "
        "shuffled anew either way)",
        "ours (released code: a new run, so fresh)",
    )
    stages: tuple[Stage, ...] = Field(description="contexts in order; each may override D_R, D_T, gs, T, ...")

    micro_tokens: Positive = knob(
        1024, "token budget of a micro-batch; changes no result, but for loss: released, which weighs by it", "ours"
    )
    rollout: Rollout = Rollout()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    guard: Guard = Guard()
    save_rollouts: Literal["all", "sampled", "none"] = knob("sampled", "rollouts kept in the run folder", "ours")
    wandb: Literal["offline", "online", "off"] = knob("offline", "mirror to Weights & Biases", "ours")

    @model_validator(mode="before")
    @classmethod
    def _released_controller(cls, plain: Any) -> Any:
        """`entropy: released` is the released controller: what its scripts set beside it follows, if not given."""
        if isinstance(plain, dict) and plain.get("entropy") == "released":
            return RELEASED_CONTROLLER | plain
        return plain

    @field_validator("reject", "wandb", "online_filter", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML 1.1 reads a bare off as false

    @field_validator("reward", mode="before")
    @classmethod
    def _rewards(cls, reward: Any) -> str | dict[str, str]:
        names = list(reward.values()) if isinstance(reward, dict) else [reward]
        if not all(isinstance(name, str) for name in names):
            raise ValueError("a name is wanted, or a mapping domain -> name")
        if wrong := next(filter(None, map(complaint, names)), ""):
            raise ValueError(wrong)
        return reward if isinstance(reward, str) else ROUTES | reward

    @field_validator("adam_betas")
    @classmethod
    def _decays(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"adam_betas = {list(betas)}: both from 0 to below 1")
        return betas

    @field_validator("stages", mode="before")
    @classmethod
    def _at_least_one_stage(cls, stages: Any) -> Any:
        if not stages:
            raise ValueError("a recipe needs at least one stage, e.g. stages: [{steps: 100}]")
        return stages

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        if self.top_p != 1.0:
            raise ValueError(
                f"top_p = {self.top_p} is refused in training: the sampler would renormalise over the surviving "
                "tokens and its log-probs would no longer be the policy's; use top_p: 1.0"
            )
        kinds = [stage.entropy or self.entropy for stage in self.stages]
        own = [(stage.alpha, [kind]) for stage, kind in zip(self.stages, kinds, strict=True)]
        for alpha, used in [(self.alpha, kinds), *own]:
            if alpha and "constant" not in used:
                raise ValueError(
                    f"alpha = {alpha} has no effect with entropy: {used[0]}; a constant coefficient wants "
                    "entropy: constant"
                )
        if self.correction != "none" and self.old_logp == "sampler":
            raise ValueError("a correction compares trainer and sampler; it wants old_logp: trainer")
        if self.c_max is not None and self.c_min > self.c_max:
            raise ValueError(f"c_min = {self.c_min} is above c_max = {self.c_max}")
        limit = 0
        for i in range(len(self.stages)):
            stage = self._stage_values(i)
            where = f"stage {i}"
            if stage["gs"] < 2:
                raise ValueError(f"{where}: gs = {stage['gs']}, but a group needs 2 responses to have an advantage")
            if stage["D_R"] % stage["D_T"]:
                raise ValueError(
                    f"{where}: D_T = {stage['D_T']} does not divide D_R = {stage['D_R']}, so N_SGD = (D_R / D_T) * "
                    "N_reuse is no whole number (paper eq. 4.1)"
                )
            if stage["T"] < limit:
                raise ValueError(f"{where}: T = {stage['T']} is below the stage before ({limit}); contexts only grow")
            limit = stage["T"]
            if rule := self.stages[i].until_converged:
                if not self.eval.every:
                    raise ValueError(f"{where}: until_converged decides by evaluations: none with eval.every = 0")
                needed, steps = max(rule.min_steps, rule.window * self.eval.every), self.stages[i].steps
                if needed > steps:
                    raise ValueError(
                        f"{where}: until_converged decides after {needed} steps at the earliest (window x eval.every, "
                        f"min_steps), but the stage ends after {steps}"
                    )
        return self

    def _stage_values(self, i: int) -> dict[str, Any]:
        override = self.stages[i].model_dump(exclude_none=True)
        names = [name for name in Stage.model_fields if name not in ("steps", "until_converged")]
        return {name: override.get(name, getattr(self, name)) for name in names}

    def stage(self, i: int) -> Recipe:
        """This recipe with the overrides of stage `i` in place and that stage as its only one."""
        only = Stage(steps=self.stages[i].steps, until_converged=self.stages[i].until_converged)
        return self.model_copy(update={**self._stage_values(i), "stages": (only,)})

    @property
    def by_stage(self) -> list[Recipe]:
        """`stage` of each of them, in order."""
        return [self.stage(i) for i in range(len(self.stages))]

    @property
    def total_steps(self) -> int:
        """Training steps of all stages; the most there can be where a stage ends by convergence."""
        return sum(stage.steps for stage in self.stages)

    @property
    def N_SGD(self) -> int:
        """SGD steps per training step, (D_R / D_T) * N_reuse (paper eq. 4.1); of the first stage."""
        first = self._stage_values(0)
        return first["D_R"] // first["D_T"] * first["N_reuse"]

    @property
    def max_T(self) -> int:
        """Largest response limit T of all stages, for which the engine is built."""
        return max(self._stage_values(i)["T"] for i in range(len(self.stages)))

    def resolved(self) -> dict[str, Any]:
        """The whole recipe as plain data (JSON-able), defaults included."""
        return self.model_dump(mode="json")


# Knobs that came after runs had been kept, with the value at which they do nothing: there they leave a run's identity
# as it was. A new knob belongs here, or kept runs are orphaned.
LATER: dict[str, Any] = {
    "data": {"test_options": None, "offline_filter": None, "wrong_golds": 0.0},
    "eval": {"temperatures": []},
    "stages": {"entropy": None, "alpha": None},
}


def recipe_hash(recipe: Recipe) -> str:
    """Identity of a run: a hash of what `identity` leaves of its recipe."""
    return hashlib.sha256(json.dumps(identity(recipe.resolved()), sort_keys=True).encode()).hexdigest()[:16]


def identity(plain: dict[str, Any]) -> dict[str, Any]:
    """A resolved recipe (changed in place) without what changes nothing in a run's numbers: name, mirrors, folder
    cadence. It may be that of an older manifest, which lacks later keys."""
    for key in ("name", "wandb", "save_rollouts", "threads", "checkpoint", "guard"):
        plain.pop(key, None)
    for key in ("tensor_parallel", "sleep", "server"):  # where the engine lives: a run may move and be resumed
        plain["rollout"].pop(key, None)
    for key, neutral in LATER.items():
        for part in plain[key] if isinstance(plain[key], list) else [plain[key]]:
            for name in [name for name in neutral if name in part and part[name] == neutral[name]]:
                del part[name]
    return plain


# ------------------------------------------------------------------------------------------- reading, overriding


def find_recipe(name: str | Path) -> Path:
    """Path of a recipe file given as such or by preset name; of an experiment by its name, too, which `read_recipe`
    refuses with the recipe that it is based on. Raises UsageError naming the presets."""
    experiment = RECIPES.parent / "ablations" / f"{name}.yaml"
    ours = Path(name).is_file() or (RECIPES / f"{name}.yaml").is_file() or not experiment.is_file()
    return find_file(name, RECIPES, "recipe") if ours else experiment


def find_file(name: str | Path, folder: Path, kind: str) -> Path:
    """A YAML file given as such or by its name in a folder. Raises UsageError naming those there are."""
    path = Path(name) if Path(name).is_file() else folder / f"{name}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in folder.glob("*.yaml"))
        raise UsageError(f"no {kind} '{name}'{did_you_mean(str(name), names)}; a file, or one of: {', '.join(names)}")
    return path


def read_recipe(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe file as plain data, put over the recipe that its key `base` names. `above`: the files that stand on it.

    Raises:
        UsageError: no such base, a file that stands on itself, a dotted key that fits nothing, or an experiment.
    """
    if path in above:
        raise UsageError(f"{path}: a recipe that is its own base")
    plain = read_yaml(path)
    if "arms" in plain:
        raise UsageError(
            f"{path.stem} is an experiment, no recipe: its arms change the recipe '{plain.get('recipe')}'. Give that, "
            "with an arm's keys behind it: `or1lab sweep` shows them with --dry-run, a real model's with --tier 7b"
        )
    plain.setdefault("name", path.stem)
    if "base" not in plain:
        return plain
    below = read_recipe(find_recipe(str(plain.pop("base"))), (*above, path))
    for key, value in plain.items():
        set_dotted(below, key, value)
    return below


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a syntax error names file and line."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), YAML)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} does not hold a mapping of keys to values")
    return content


def load_recipe(name: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe, with `key=value` overrides (dotted keys, YAML values).

    >>> load_recipe("tiny", ["D_T=4", "stages.0.steps=20"]).N_SGD
    4

    Raises:
        UsageError: missing file, unknown key (names the nearest right one), impossible value or combination.
    """
    path = find_recipe(name)
    plain = read_recipe(path)
    for override in overrides:
        key, value = split_override(override)
        set_dotted(plain, key, value)
    return parse_recipe(plain, f"{path} with {' '.join(overrides)}" if overrides else str(path))


def parse_recipe(plain: dict[str, Any], where: str = "recipe") -> Recipe:
    """Check plain data against the models; every problem is named in one UsageError."""
    return checked(Recipe, plain, where)


def split_override(text: str) -> tuple[str, Any]:
    """`"stages.0.steps=3"` -> `("stages.0.steps", 3)`; the value is read as YAML (so 1e-4 is a number).

    A number with colons stays text: YAML 1.1 reads 24:00:00 to the base 60, as 86400."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"override '{text}' is not of the form key=value")
    try:
        read = float(value) if _is_number(value) else yaml.load(value, YAML)
        return key.strip(), value.strip() if ":" in value and isinstance(read, int | float) else read
    except yaml.YAMLError as error:
        raise UsageError(f"override '{text}': {error}") from None


def _is_number(text: str) -> bool:
    # YAML 1.1 reads 1e-4 (no dot) as a string; integers are left to YAML so that they stay integers.
    try:
        float(text)
    except ValueError:
        return False
    return not text.strip().lstrip("+-").isdigit()


def set_dotted(plain: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.0.c` in nested dicts and lists; missing mappings are created, list positions must exist."""
    target: Any = plain
    parts = key.split(".")
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(target, list):
            if not part.isdigit() or int(part) >= len(target):
                raise UsageError(f"'{key}': there is no element '{part}' in a list of {len(target)}")
            slot: Any = int(part)
        elif isinstance(target, dict):
            slot = part
            if not last:
                target.setdefault(part, {})
        else:
            raise UsageError(f"'{key}': '{'.'.join(parts[:i])}' is a single value and holds no '{part}'")
        if last:
            target[slot] = value
        else:
            target = target[slot]
