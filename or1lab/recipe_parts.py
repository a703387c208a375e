"""The parts of a recipe: data, stages, engine, evaluation, checkpoints, guards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]


def knob(default: Any, what: str, source: str, **limits: Any) -> Any:
    """A field with its one-line meaning and where its default comes from (paper, released code or ours)."""
    return Field(default, description=what, json_schema_extra={"source": source}, **limits)


class Strict(BaseModel):
    """A model that knows no other keys, cannot be changed, and holds no infinity or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(Strict):
    """One source of a mix."""

    source: str = Field(description="as data.source")
    weight: float = Field(1.0, description="its share of the problems, relative to the others'", gt=0)
    options: dict[str, Any] = Field({}, description="as data.options")


class Data(Strict):
    """Problems to train on and held-out ones: of one source, or of a mix."""

    source: str | None = knob(
        "tiny", "'tiny', 'smol', 'functions', a file of problems, or a published set by its name", "ours"
    )
    options: dict[str, Any] = knob({}, "options of the source (e.g. operands: [2, 6] of tiny; docs/data.md)", "ours")
    test_options: dict[str, Any] | None = knob(
        None, "options of a generated source for the held-out problems, where they differ from those trained on", "ours"
    )
    mix: tuple[Part, ...] = knob((), "several sources instead: {source, weight, options} each", "ours")
    train: Positive = knob(4096, "number of training problems", "ours")
    test: Positive = knob(512, "number of held-out problems", "ours")
    prompt_limit: Positive = knob(64, "longest prompt in tokens; longer ones are dropped from the data", "ours")
    seed: int = knob(0, "which problems are generated (not the run's seed)", "ours")
    offline_filter: str | None = knob(
        None, "drop the training problems that the model of this name always or never solves", "paper §3.1"
    )
    wrong_golds: float = knob(0.0, "share of the training problems that get a wrong gold answer", "ours", ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _a_mix_stands_for_the_source(cls, plain: Any) -> Any:
        return {"source": None, **plain} if isinstance(plain, dict) and plain.get("mix") else plain

    @model_validator(mode="after")
    def _one_origin(self) -> Data:
        if self.mix and (self.source is not None or self.options):
            raise ValueError("either data.source (with data.options) or data.mix, whose parts have their own options")
        if self.mix and self.test_options is not None:
            raise ValueError("data.test_options belongs to one source, data.mix has several")
        if not self.mix and self.source is None:
            raise ValueError("neither data.source nor data.mix: no problems")
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        """The mix, or the one source as a mix of itself."""
        return self.mix or (Part(source=self.source or "", options=self.options),)


class Convergence(Strict):
    """Ends a stage once its evaluations no longer show that accuracy rises: see `curriculum.Curriculum.evaluated`."""

    window: int = knob(5, "evaluations of the stage whose slope decides", "ours: paper §3.1 names no rule", ge=3)
    min_steps: Positive = knob(1, "training steps of the stage before it may end", "ours")


class Stage(Strict):
    """One context: how long, and what of the recipe it sets otherwise. None: as in the recipe."""

    steps: Positive = Field(description="training steps of this stage; with until_converged, the most it may take")
    until_converged: Convergence | None = Field(None, description="end the stage once accuracy has stopped rising")
    T: Positive | None = Field(None, description="limit on the response, tokens")
    D_R: Positive | None = None
    D_T: Positive | None = None
    N_reuse: Positive | None = None
    gs: int | None = None
    tau: float | None = Field(None, gt=0)
    beta: float | None = Field(None, ge=0)
    clip_low: float | None = Field(None, gt=0, lt=1)
    clip_high: float | None = Field(None, gt=0)
    entropy: Literal["none", "constant", "paper", "released", "trl"] | None = None
    alpha: float | None = Field(None, ge=0)


class Rollout(Strict):
    """The engine that samples. But for `backend`, `max_num_seqs` and its memory it is no part of a run's identity."""

    backend: Literal["auto", "vllm", "transformers"] = knob("auto", "engine; auto = vLLM where it is installed", "ours")
    max_num_seqs: Positive = knob(256, "sequences decoded together", "ours")
    gpu_memory_utilization: float = knob(0.35, "share of GPU memory for the engine (colocated)", "ours", gt=0, le=0.95)
    tensor_parallel: Positive = knob(1, "training processes (GPUs) that share one vLLM engine", "ours")
    sleep: bool = knob(False, "vLLM gives its GPU memory back between rollouts, weights and all (GPU)", "ours")
    server: str | None = knob(
        None, "address of a vLLM server, as http://host:8000: the engine, whatever the other keys say", "ours"
    )


class Eval(Strict):
    """When a run is evaluated, on how many held-out problems, and how their answers are sampled."""

    every: int = knob(20, "training steps between evaluations; 0 = only the last", "released code", ge=0)
    problems: Positive = knob(128, "held-out problems per evaluation", "ours")
    k: Positive = knob(8, "samples per problem", "released code: n_val 8")
    final_problems: Positive = knob(256, "held-out problems of the last evaluation", "ours")
    final_k: Positive = knob(8, "samples per problem of the last evaluation", "ours")
    tau: float = knob(1.0, "sampling temperature of the evaluation", "paper §8.1", gt=0)
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = knob(
        (), "all of an evaluation's temperatures, each with its own k samples; default eval.tau alone", "ours"
    )
    T: Positive | None = knob(None, "limit of the evaluation; default the last stage's T", "ours")


    @property
    def others(self) -> tuple[float, ...]:
        """Temperatures besides the main one, tau."""
        return tuple(tau for tau in dict.fromkeys(self.temperatures) if tau != self.tau)


class Checkpoint(Strict):
    """How often a run can go on from. No part of its identity."""

    every: int = knob(20, "training steps between checkpoints; 0 = none but the final model", "released code", ge=0)
    keep: Positive = knob(1, "checkpoints kept", "ours")


class Guard(Strict):
    """What is watched while a run trains. No part of its identity."""

    entropy_below: float | None = knob(None, "speak below this rollout entropy, nats per token", "ours", gt=0)
    entropy_above: float | None = knob(None, "speak above this rollout entropy, nats per token", "ours", gt=0)
    truncated_above: float | None = knob(None, "speak above this share of truncated responses", "ours", ge=0, lt=1)
    steps: Positive = knob(10, "steps in a row before one of these guards speaks", "ours")
    action: Literal["warn", "stop"] = knob("warn", "what they then do", "ours")
    empty_steps: Positive = knob(20, "steps in a row without a kept group that stop the run", "ours")


class VerifierErrors(Strict):
    """Turns verdicts in training (never in evaluations), to measure what a weak verifier does: `rewards/noise.py`."""

    misses: float = knob(0.0, "share of the right responses judged wrong", "ours", ge=0, le=1)
    pays: float = knob(0.0, "share of the wrong responses judged right", "ours", ge=0, le=1)
