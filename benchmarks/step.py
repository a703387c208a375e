"""A whole training step (sync, rollout, rewards, update), ours against stock TRL: python -m benchmarks.step [--json]

The tiny model, 32 prompts x 8 responses, on-policy, one process. Stock TRL samples either through our engine, put in
its place by TRL's own `rollout_func` (its vLLM weight transfer fails on a CPU), or with its transformers backend; the
faster of the two counts. All run in alternation; the policies hardly move (lr 1e-5), so that all sample alike. Ours is
MagicTrainer itself, records and rollout files included. The rollouts are the base policy's own, so is the share of
rejected groups.

Also printed: what share of our step is neither generation nor forward and backward.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from trl import GRPOTrainer

from benchmarks.batch import load
from benchmarks.stock import grpo_config
from benchmarks.timing import add_output_options, alternate, deliver, print_ratios, ratio
from or1lab import process, train
from or1lab.curriculum import Curriculum
from or1lab.magic.policy import Policy
from or1lab.magic.trainer import MagicTrainer
from or1lab.recipe import Recipe, load_recipe
from or1lab.rewards import get_reward
from or1lab.rollout.base import Request
from or1lab.rollout.weights import named_weights
from or1lab.sources import load_problems
from or1lab.store import Run

PROMPTS, M, MICRO_BATCHES = 32, 8, (8, 16, 32, 64)


def recipe_for(threads: int) -> Recipe:
    return load_recipe(
        "tiny", [f"D_R={PROMPTS}", f"D_T={PROMPTS}", f"gs={M}", "lr=1e-5", f"threads={threads}", "entropy=none",
                 "rollout.max_num_seqs=256", "eval.every=0", "checkpoint.every=0", "wandb=off"]
    )  # fmt: skip


class StockStep:
    """Stock GRPOTrainer, one optimizer step per rollout batch; `engine` None: its transformers backend."""

    def __init__(self, recipe: Recipe, engine: Any, micro_batch: int) -> None:
        model, tokenizer = load("tiny")
        self.engine = engine
        self.problems = load_problems(recipe.data, "train", tokenizer)
        by_prompt = {problem.prompt: problem for problem in self.problems}
        verify, count = get_reward("tiny"), [0]

        def reward(
            prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any
        ) -> list[float]:
            cut = [ids[-1] != tokenizer.eos_token_id for ids in completion_ids]
            return [float(v.correct) for v in verify([by_prompt[p] for p in prompts], completions, cut)]

        def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
            engine.sync(named_weights(trainer.model, trainer.accelerator))
            ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
            count[0] += len(ids)
            requests = [Request(prompt, [count[0] + n]) for n, prompt in enumerate(ids)]
            samples = [group[0] for group in engine.generate(requests, tau=1.0, T=recipe.max_T)]
            return {
                "prompt_ids": ids,
                "completion_ids": [sample.token_ids for sample in samples],
                "logprobs": [sample.logprobs for sample in samples],
            }

        self.folder = TemporaryDirectory()
        self.trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=grpo_config(
                self.folder.name, PROMPTS * M, micro_batch, max_completion_length=recipe.max_T, learning_rate=1e-5
            ),
            train_dataset=Dataset.from_dict({"prompt": [problem.prompt for problem in self.problems]}),
            processing_class=tokenizer,
            rollout_func=rollout if engine is not None else None,
        )
        loader = self.trainer.get_train_dataloader()
        self.model, _ = self.trainer._prepare_for_training(self.trainer.args.max_steps, loader, None)
        self.trainer.current_gradient_accumulation_steps = self.trainer.args.gradient_accumulation_steps
        self.batches = iter(loader)

    def step(self) -> float:
        begin = time.perf_counter()
        trainer = self.trainer
        for left in reversed(range(trainer.args.gradient_accumulation_steps)):
            trainer.accelerator.gradient_state._set_sync_gradients(left == 0)
            trainer.training_step(self.model, next(self.batches), None)
        trainer._clip_grad_norm(self.model)
        optimizer: Any = trainer.optimizer
        optimizer.step()
        self.model.zero_grad()
        trainer.state.global_step += 1
        trainer._metrics["train"].clear()
        return time.perf_counter() - begin


class OurStep:
    """MagicTrainer, driven as the loop of transformers drives it."""

    def __init__(self, recipe: Recipe, engine: Any) -> None:
        model, tokenizer = load("tiny")
        self.folder = TemporaryDirectory()
        self.run = Run.create(Path(self.folder.name) / "run", recipe=recipe.resolved())
        problems = load_problems(recipe.data, "train", tokenizer)
        self.trainer = MagicTrainer(
            recipe, model=model, tokenizer=tokenizer, engine=engine, curriculum=Curriculum(recipe, problems),
            test_problems=[], reward=get_reward("tiny"), run=self.run, resuming=False, on_record=lambda record: None,
        )  # fmt: skip
        loader = self.trainer.get_train_dataloader()
        self.model, _ = self.trainer._prepare_for_training(recipe.total_steps, loader, None)
        self.done = 0

    def step(self) -> float:
        begin = time.perf_counter()
        self.done += 1
        self.trainer.weights_changed = True  # the engine has served the others in between
        loss = self.trainer.training_step(self.model, {"step": self.done})
        self.trainer._clip_grad_norm(self.model)
        optimizer: Any = self.trainer.optimizer
        optimizer.step()
        self.model.zero_grad()
        self.trainer.log({"loss": loss.item(), "learning_rate": 1e-5})
        return time.perf_counter() - begin


class Clock:
    """Seconds spent inside some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on(self, owner: Any, name: str) -> None:
        plain: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return plain(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begin

        setattr(owner, name, timed)


def overhead(ours: OurStep, engine: Any, steps: int) -> float:
    """Share of our step that is neither generation nor forward and backward; median over steps."""
    clock = Clock()
    clock.on(engine, "generate")
    clock.on(Policy, "forward")
    clock.on(Policy, "backward")
    shares = []
    for _ in range(steps):
        clock.seconds = 0.0
        seconds = ours.step()
        shares.append(1 - clock.seconds / seconds)
    return median(shares)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="of both sides (default: 2)")
    add_output_options(parser)
    options = parser.parse_args()
    process.set_up(options.threads)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func is called experimental, once per trainer
    recipe = recipe_for(options.threads)
    engine = train.open_engine(recipe)
    ours = OurStep(recipe, engine)
    ways: dict[str, Callable[[], float]] = {"ours": ours.step}
    for micro_batch in MICRO_BATCHES:
        ways[f"our engine, micro-batches of {micro_batch}"] = StockStep(recipe, engine, micro_batch).step
        ways[f"transformers, micro-batches of {micro_batch}"] = StockStep(recipe, None, micro_batch).step
    seconds = alternate(ways, options.rounds)
    mine = seconds.pop("ours")
    best = min(seconds, key=lambda way: median(seconds[way]))
    result = ratio(seconds[best], mine) | {
        "rounds": options.rounds,
        "stock_way": best,
        "stock_ways": {way: median(taken) for way, taken in seconds.items()},
        "overhead": overhead(ours, engine, options.rounds),
    }

    def show() -> None:
        print_ratios("whole training step", {f"tiny; stock with {best}": result})
        for way, taken in result["stock_ways"].items():
            print(f"stock with {way}: {taken:.2f} s")
        print(f"neither generation nor forward and backward: {result['overhead']:.1%} of our step")

    deliver("step", {"tiny": result}, options, show)


if __name__ == "__main__":
    main()
