"""A recipe goes in, a run folder comes out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from or1lab import process, sources, world
from or1lab.curriculum import Curriculum
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError
from or1lab.kill_points import kill_point
from or1lab.recipe import Recipe, recipe_hash
from or1lab.rewards import RewardFn, check_domains, get_reward, sandbox
from or1lab.store import MANIFEST, Run, now
from or1lab.tracking import Progress, Tracker

if TYPE_CHECKING:
    from or1lab.rollout.base import Engine

Record = dict[str, Any]


def run(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    on_record: Callable[[Record], None] | None = None,
    labels: dict[str, str] | None = None,
    progress: bool = True,
    engine: Engine | None = None,
) -> Run:
    """Train a recipe into the run folder `out`.

    Args:
        resume: go on from the newest whole checkpoint of a run in `out` (from the start if there is none). One that is
            damaged is named in a warning and skipped.
        on_record: called with each metric record as it is written ({"kind": "step" | "eval", "step": ..., ...}).
        labels: experiment and arm, kept in the manifest.
        progress: show a progress line.
        engine: sample with this engine instead of starting one; it must be built for the recipe's contexts.

    Raises:
        UsageError: an existing run without `resume`, another recipe in that folder, a missing model or data file, a
            reward that is none.
        Or1labError: the engine's weights differ from the trainer's, a non-finite loss, a full disk, programs to judge
            and no sandbox.
    """
    begin = time.time()
    existing = _existing(recipe, Path(out), resume)
    if existing and existing.manifest["status"] == "finished":
        return existing
    material = _material(recipe)  # before the folder is made: what cannot start leaves nothing behind
    extra = {**(labels or {}), **world.stamps(recipe, material.hashes["model_hash"])}
    store = existing or Run.create(out, recipe=recipe.resolved(), extra=extra)
    with store.lock():
        store.update_manifest(
            status="running", error=None, seconds=_seconds_before(store), sandbox=_layers(material.train)
        )
        tracker = Tracker(recipe.resolved(), store)
        watchers = [tracker.log, *([on_record] if on_record else [])]

        def see(record: Record) -> None:
            for watcher in watchers:
                watcher(record)

        bar = None
        try:
            trainer, checkpoint = _build(recipe, material, store, see, engine)
            watchers.append(lambda _: [store.alarm(told) for told in trainer.engine.alarms])
            if progress:
                bar = Progress(recipe.total_steps, title=recipe.name)
                watchers.append(bar.update)
            trainer.train(resume_from_checkpoint=checkpoint)
            trainer.evaluate_now(recipe.eval.final_problems, recipe.eval.final_k, final=True)
            trainer.save_final()
        except BaseException as error:
            spent = _seconds(store, begin)
            store.update_manifest(status="failed", error=f"{type(error).__name__}: {error}", seconds=spent)
            raise
        finally:
            if bar is not None:
                bar.close()
            tracker.close()
        kill_point("finished/before")
        store.update_manifest(status="finished", finished=now(), seconds=_seconds(store, begin))
        kill_point("finished/after")
    return store


def preview(recipe: Recipe, n: int = 3, engine: Engine | None = None) -> list[Record]:
    """Sample and judge one response to each of the first `n` training problems; trains nothing."""
    from or1lab.rollout.buffer import collect

    process.set_up(recipe.threads)
    folder = sources.model_folder(recipe.model)
    tokenizer = sources.load_tokenizer(folder)
    problems = sources.load_problems(recipe.data, "train", tokenizer)
    reward, problems = _reward(recipe, problems), problems[:n]
    first = recipe.stage(0)
    buffer = collect(
        engine or open_engine(recipe, folder), tokenizer, problems, reward,
        group=1, tau=first.tau, T=first.T, seed=recipe.seed, step="preview",
    )  # fmt: skip
    frame = buffer.frame()
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def open_engine(recipe: Recipe, folder: str | None = None) -> Engine:
    """Start the engine a recipe asks for, to hand to `preview` and `run`."""
    from or1lab import rollout

    process.set_up(recipe.threads)
    folder = folder or sources.model_folder(recipe.model)
    return rollout.open_engine(recipe, folder, sources.load_tokenizer(folder))


@dataclass(frozen=True)
class _Material:
    """What a recipe names, found and read."""

    folder: str
    tokenizer: Any
    train: list[Problem]
    test: list[Problem]
    curriculum: Curriculum
    reward: RewardFn

    @cached_property
    def hashes(self) -> dict[str, str]:
        """What the manifest keeps of them."""
        return {
            "model_hash": sources.weights_hash(self.folder),
            "data_hash": sources.problems_hash([*self.train, *self.test]),
        }


def _material(recipe: Recipe) -> _Material:
    folder = sources.model_folder(recipe.model)
    process.set_up(recipe.threads)
    tokenizer = sources.load_tokenizer(folder)
    train, test = (sources.load_problems(recipe.data, split, tokenizer) for split in ("train", "test"))
    reward = _reward(recipe, [*train, *test])
    material = _Material(folder, tokenizer, train, test, Curriculum(recipe, train), reward)
    _check(recipe, material)
    return material


def _reward(recipe: Recipe, problems: list[Problem]) -> RewardFn:
    """What judges these problems. Raises Or1labError where they need the sandbox and there is none."""
    if "code" in check_domains(recipe.reward, problems):
        sandbox.require()
    return get_reward(recipe.reward)


def _layers(problems: list[Problem]) -> dict[str, bool] | None:
    """The sandbox's layers where there are programs to judge: tests, whoever judges by them."""
    return sandbox.active() if any(problem.tests for problem in problems) else None


def _check(recipe: Recipe, material: _Material) -> None:
    """What recipe, model, problems and machine must agree on. Raises UsageError, or Or1labError for several GPUs."""
    import torch
    from transformers import AutoConfig

    wanted = max(recipe.eval.problems * bool(recipe.eval.every), recipe.eval.final_problems)
    if wanted > len(material.test):
        raise UsageError(f"an evaluation wants {wanted} problems, but there are only {len(material.test)} to test on")
    context = recipe.data.prompt_limit + max(recipe.max_T, recipe.eval.T or 0)
    longest = getattr(AutoConfig.from_pretrained(material.folder), "max_position_embeddings", None) or context
    if context > longest:
        raise UsageError(
            f"data.prompt_limit + T = {context} tokens, but the model {recipe.model} has a context of {longest}"
        )
    if torch.cuda.device_count() > 1:
        raise Or1labError("a run uses one GPU so far; choose it, e.g. CUDA_VISIBLE_DEVICES=0 or1lab train ...")


def _existing(recipe: Recipe, out: Path, resume: bool) -> Run | None:
    """The run to go on with, if `out` holds one; it must hold the same recipe."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out names the folder of the run")
    if not (out / MANIFEST).is_file():
        return None
    store = Run.open(out)
    if not resume:
        raise Or1labError(f"{out} already holds a run: continue it with --resume, or write elsewhere with --out")
    if store.manifest["recipe_hash"] != recipe_hash(recipe):
        raise UsageError(
            f"{out} holds a run of another recipe; `or1lab runs show {out}` prints it. Use its recipe, or another --out"
        )
    return store


def _build(
    recipe: Recipe, material: _Material, store: Run, see: Callable[[Record], None], engine: Engine | None
) -> tuple[Any, str | None]:
    """The trainer, and the checkpoint to go on from (if any)."""
    import torch
    from transformers import AutoModelForCausalLM

    from or1lab.magic.checkpoints import load_state, newest_whole, prune, step_of
    from or1lab.magic.trainer import MagicTrainer

    engine = engine or open_engine(recipe, material.folder)
    # Master weights in fp32, as in the released code; `dtype` is that of the computation and of the engine.
    model = AutoModelForCausalLM.from_pretrained(material.folder, dtype=torch.float32)
    checkpoint = newest_whole(store.folder / "checkpoints")
    for name, value in material.hashes.items():
        if checkpoint and store.manifest[name] != value:
            raise Or1labError(f"{store.folder} was begun with another {name.removesuffix('_hash')}; use another --out")
    step = step_of(checkpoint) if checkpoint else -1
    store.truncate_after(step)
    prune(store.folder / "checkpoints", step, recipe.checkpoint.keep)  # a process may have died before it did
    hardware, threads = store.manifest["hardware"], torch.get_num_threads()
    if checkpoint and hardware["threads"] != threads:
        warnings.warn(
            f"the run was begun with {hardware['threads']} threads and goes on with {threads}: its numbers may differ "
            "in the last digits from those of an unbroken run (recipe: threads)",
            stacklevel=2,
        )
    store.update_manifest(backend=engine.name, hardware=hardware | {"threads": threads}, **material.hashes)
    if checkpoint:  # before the trainer is made: a stage that converged has brought the last step nearer
        material.curriculum.load_state_dict(load_state(checkpoint)["curriculum"])
    trainer = MagicTrainer(
        recipe,
        model=model,
        tokenizer=material.tokenizer,
        engine=engine,
        curriculum=material.curriculum,
        test_problems=material.test,
        reward=material.reward,
        run=store,
        resuming=checkpoint is not None,
        on_record=see,
    )
    return trainer, str(checkpoint) if checkpoint else None


def _seconds_before(store: Run) -> float:
    """Seconds of earlier sittings. One that was killed did not write its own down, but its records tell them."""
    elapsed = (record.get("time/elapsed", 0.0) for record in store.records())
    return max([float(store.manifest["seconds"] or 0.0), *elapsed])


def _seconds(store: Run, begin: float) -> float:
    """Seconds spent on this run so far, earlier sittings included."""
    return float(store.manifest.get("seconds") or 0.0) + time.time() - begin
