"""A recipe goes in, a run folder comes out."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from or1lab import lineage, process, sources, world
from or1lab.comparison import other_recipe
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
    from or1lab.rollout.together import Processes

Record = dict[str, Any]
SEEN = 60.0  # seconds until a file that one node has made is seen on all


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
    """Train a recipe into the run folder `out`, in this process.

    Where accelerate has started several (launch.py), each calls this; the first one writes the folder.

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
    from or1lab.rollout.together import join

    begin, team = time.time(), join()
    existing = _existing(recipe, Path(out), resume)
    if existing and existing.manifest["status"] == "finished":
        return existing
    material = _material(recipe, team)  # before the folder is made: what cannot start leaves nothing behind
    origin = {"parent": lineage.parent(recipe.model)}
    extra = {**(labels or {}), **world.stamps(recipe, material.hashes["model_hash"]), **origin}
    team.wait()
    store = existing or (Run.create(out, recipe=recipe.resolved(), extra=extra) if team.first else None)
    team.wait()
    if not store or not team.first:
        store = _of_the_first(Path(out), team)
    with store.lock():
        if not existing and team.first:
            lineage.mark(recipe.model, store.folder)
        store.update_manifest(
            status="running", error=None, seconds=_seconds_before(store), sandbox=_layers(material.train),
            host=platform.node(),  # another machine does not see the lock
        )  # fmt: skip
        tracker = Tracker(recipe.resolved(), store) if team.first else None
        watchers = [*([tracker.log] if tracker else []), *([on_record] if on_record and team.first else [])]

        def see(record: Record) -> None:
            for watcher in watchers:
                watcher(record)

        bar = None
        try:
            trainer, checkpoint = _build(recipe, material, store, see, engine, team)
            watchers.append(lambda _: _keep_alarms(store, trainer.engine))
            if progress and team.first:
                bar = Progress(recipe.total_steps, title=recipe.name)
                watchers.append(bar.update)
            trainer.train(resume_from_checkpoint=checkpoint)
            trainer.evaluate_now(recipe.eval.final_problems, recipe.eval.final_k, final=True)
            trainer.save_final()
        except BaseException as error:
            spent = _seconds(store, begin)
            store.update_manifest(status="failed", error=f"{type(error).__name__}: {error}", seconds=spent, host=None)
            raise
        finally:
            if bar is not None:
                bar.close()
            if tracker:
                tracker.close()
        kill_point("finished/before")
        store.update_manifest(status="finished", finished=now(), seconds=_seconds(store, begin), host=None)
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


def _of_the_first(out: Path, team: Processes) -> Run:
    """The run folder that the first process has made, for another process. Raises Or1labError where it is not seen."""
    if not process.wait_until((out / MANIFEST).is_file, SEEN, pause=0.2):
        raise Or1labError(
            f"process {team.rank} on {platform.node()} does not see {out.absolute()}, which the first process has "
            "made: --out must be on a file system that all nodes share"
        )
    return Run.open(out, writes=False)


def _material(recipe: Recipe, team: Processes) -> _Material:
    folder = sources.model_folder(recipe.model)
    process.set_up(recipe.threads)
    tokenizer = sources.load_tokenizer(folder)
    train, test = (sources.load_problems(recipe.data, split, tokenizer) for split in ("train", "test"))
    reward = _reward(recipe, [*train, *test])
    material = _Material(folder, tokenizer, train, test, Curriculum(recipe, train), reward)
    _check(recipe, material, team)
    return material


def _reward(recipe: Recipe, problems: list[Problem]) -> RewardFn:
    """What judges these problems. Raises Or1labError where they need the sandbox and there is none."""
    if "code" in check_domains(recipe.reward, problems):
        sandbox.require()
    return get_reward(recipe.reward)


def _layers(problems: list[Problem]) -> dict[str, bool] | None:
    """The sandbox's layers where there are programs to judge: tests, whoever judges by them."""
    return sandbox.active() if any(problem.tests for problem in problems) else None


def _check(recipe: Recipe, material: _Material, team: Processes) -> None:
    """What recipe, model, problems and machine must agree on. Raises UsageError."""
    import torch
    from transformers import AutoConfig

    from or1lab.rollout import choose_backend

    wanted = max(recipe.eval.problems * bool(recipe.eval.every), recipe.eval.final_problems)
    if wanted > len(material.test):
        raise UsageError(f"an evaluation wants {wanted} problems, but there are only {len(material.test)} to test on")
    context = recipe.data.prompt_limit + max(recipe.max_T, recipe.eval.T or 0)
    longest = getattr(AutoConfig.from_pretrained(material.folder), "max_position_embeddings", None) or context
    if context > longest:
        raise UsageError(
            f"data.prompt_limit + T = {context} tokens, but the model {recipe.model} has a context of {longest}"
        )
    gpus, own = torch.cuda.device_count(), recipe.rollout
    if gpus > 1 and team.count == 1:
        raise UsageError(
            f"one process, but {gpus} GPUs: `or1lab train` and `launch.train` start one a GPU; for one alone, set "
            "CUDA_VISIBLE_DEVICES=0"
        )
    if own.server:
        return
    if (own.sleep or own.tensor_parallel > 1) and choose_backend(own.backend) == "transformers":
        raise UsageError("rollout.sleep and rollout.tensor_parallel are vLLM's: install it, or leave them out")
    if team.count % own.tensor_parallel:
        raise UsageError(
            f"rollout.tensor_parallel = {own.tensor_parallel} does not divide the {team.count} processes of the run"
        )
    if own.sleep and not gpus:
        raise UsageError("rollout.sleep frees memory of a GPU, and there is none: leave it out")


def _existing(recipe: Recipe, out: Path, resume: bool) -> Run | None:
    """The run to go on with, if `out` holds one; it must hold the same recipe."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out names the folder of the run")
    if not (out / MANIFEST).is_file():
        return None
    store = Run.open(out)
    if not resume:
        raise Or1labError(
            f"{out} already holds a run: continue it with --resume, or write elsewhere with --out (in a notebook: the "
            "parameters resume and out)"
        )
    if store.manifest["recipe_hash"] != recipe_hash(recipe):
        raise UsageError(other_recipe(store, recipe))
    return store


def _build(
    recipe: Recipe,
    material: _Material,
    store: Run,
    see: Callable[[Record], None],
    engine: Engine | None,
    team: Processes,
) -> tuple[Any, str | None]:
    """The trainer, and the checkpoint to go on from (if any)."""
    import torch
    from transformers import AutoModelForCausalLM

    from or1lab.magic.checkpoints import load_state, newest_whole, prune, step_of
    from or1lab.magic.trainer import MagicTrainer
    from or1lab.rollout.together import shared_reward

    engine = engine or open_engine(recipe, material.folder)
    # Master weights in fp32, as in the released code; `dtype` is that of the computation and of the engine.
    model = AutoModelForCausalLM.from_pretrained(material.folder, dtype=torch.float32)
    checkpoint = team.agreed(lambda: newest_whole(store.folder / "checkpoints"))
    for name, value in material.hashes.items():
        if checkpoint and store.manifest[name] != value:
            raise Or1labError(f"{store.folder} was begun with another {name.removesuffix('_hash')}; use another --out")
    step = step_of(checkpoint) if checkpoint else -1
    if checkpoint and torch.cuda.is_available():
        begun = store.manifest["hardware"].get("processes", 1)
        if (begun > 1) != (team.count > 1):
            raise UsageError(
                f"{store.folder} was begun on {begun} GPUs and cannot go on with {team.count}: the checkpoints of one "
                "GPU and of several (FSDP2) are of different kinds"
            )
    store.truncate_after(step)
    if team.first:
        prune(store.folder / "checkpoints", step, recipe.checkpoint.keep)  # a process may have died before it did
    hardware, here = store.manifest["hardware"], {"threads": torch.get_num_threads(), "processes": team.count}
    for what, now_ in here.items():
        if checkpoint and team.first and (begun := hardware.get(what, 1)) != now_:
            warnings.warn(
                f"the run was begun with {begun} {what} and goes on with {now_}: its numbers may differ in the last "
                f"digits from those of an unbroken run",
                stacklevel=2,
            )
    store.update_manifest(backend=engine.name, hardware=hardware | here, **material.hashes)
    if checkpoint:  # before the trainer is made: a stage that converged has brought the last step nearer
        material.curriculum.load_state_dict(load_state(checkpoint)["curriculum"])
    trainer = MagicTrainer(
        recipe,
        model=model,
        tokenizer=material.tokenizer,
        engine=engine,
        curriculum=material.curriculum,
        test_problems=material.test,
        reward=shared_reward(material.reward) if team.count > 1 else material.reward,
        run=store,
        resuming=checkpoint is not None,
        on_record=see,
    )
    return trainer, str(checkpoint) if checkpoint else None


def _keep_alarms(store: Run, engine: Engine) -> None:
    for told in engine.alarms:
        store.alarm(told)


def _seconds_before(store: Run) -> float:
    """Seconds of earlier sittings. One that was killed did not write its own down, but its records tell them."""
    elapsed = (record.get("time/elapsed", 0.0) for record in store.records())
    return max([float(store.manifest["seconds"] or 0.0), *elapsed])


def _seconds(store: Run, begin: float) -> float:
    """Seconds spent on this run so far, earlier sittings included."""
    return float(store.manifest.get("seconds") or 0.0) + time.time() - begin
