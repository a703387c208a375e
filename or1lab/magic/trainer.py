"""MagicTrainer: the maths of this package on TRL's GRPOTrainer. Only glue.

Kept from TRL and transformers: construction, the kernel of its fused head, reference model, optimizer, wrapping, weight
iteration, saving. Gone round: its `_generate_and_score_completions`
pads everything and computes log-probs before rewards, so that rejection would save nothing, and its global step counts
SGD steps. Here one step of the Hugging Face loop is one training step k of the paper:

    rollout -> rewards -> advantages, rejection -> e_k, alpha_k -> N_SGD mini-batches -> controller

The loop's own optimizer step is the last of the N_SGD; the others are taken here.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import Trainer
from trl import GRPOTrainer

from or1lab.curriculum import Curriculum
from or1lab.data.problem import Problem
from or1lab.errors import Or1labError
from or1lab.evaluate import evaluate_policy
from or1lab.kill_points import kill_point
from or1lab.magic import diagnostics
from or1lab.magic.advantages import all_right, group_advantages
from or1lab.magic.checkpoints import load_state, prune, save_state, step_of, written_aside
from or1lab.magic.entropy import EntropyController
from or1lab.magic.guards import Guards
from or1lab.magic.head import add_response_head
from or1lab.magic.policy import Policy, keep_float32
from or1lab.magic.schedule import hash_seed
from or1lab.magic.sgd import sgd_steps
from or1lab.magic.trl_config import trl_config
from or1lab.magic.update import MiniBatch, Row, measure
from or1lab.recipe import Recipe
from or1lab.rewards import RewardFn
from or1lab.rewards.noise import weaken
from or1lab.rollout.base import Engine
from or1lab.rollout.buffer import Buffer, collect
from or1lab.rollout.together import Processes
from or1lab.rollout.weights import named_weights
from or1lab.store import Run

REFILLS = 3  # rounds of sampling in place of rejected groups (reject: refill)


class MagicTrainer(GRPOTrainer):
    """Trains one run. Records go to `run`; `on_record` sees each as it is written."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        model: Any,
        tokenizer: Any,
        engine: Engine,
        curriculum: Curriculum,
        test_problems: list[Problem],
        reward: RewardFn,
        run: Run,
        resuming: bool,
        on_record: Callable[[dict[str, Any]], None],
    ) -> None:
        self.recipe, self.engine, self.curriculum, self.reward = recipe, engine, curriculum, reward
        self.training_reward = weaken(reward, **recipe.verifier_errors.model_dump())  # evaluations know the truth
        self.test_problems, self.run, self.on_record = test_problems, run, on_record
        self.controller = self._new_controller(0)
        self.guards = Guards(recipe.guard)
        self.pending: dict[str, Any] = {}
        self.sgd_records: list[dict[str, Any]] = []
        self.batch: MiniBatch | None = None  # the one whose gradients are in place
        self.step_ended = time.perf_counter()
        self.started = self.step_ended - float(run.manifest["seconds"] or 0.0)  # earlier sittings count
        self._writing: Path | None = None  # where a checkpoint is being written
        self.weights_changed = True  # whatever the engine holds, the first rollout is this model's
        super().__init__(
            model=model,
            reward_funcs=_no_reward,
            args=trl_config(recipe, run.folder / "checkpoints", steps=curriculum.last_step, resuming=resuming),
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            eval_dataset=Dataset.from_dict({"prompt": [""]}),
            processing_class=tokenizer,
        )
        self.team = Processes(self.accelerator.process_index, self.accelerator.num_processes)
        for kept_model in (self.model, self.ref_model):
            if kept_model is not None:
                add_response_head(kept_model)

    # ------------------------------------------------------------------------------- the Hugging Face loop's hooks

    def get_train_dataloader(self) -> DataLoader:
        """Step numbers: the prompts of step k are a function of k alone."""
        steps = list(range(1, self.curriculum.last_step + 1))
        return DataLoader(steps, batch_size=1, collate_fn=lambda batch: {"step": batch[0]})  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One training step k of the paper, up to its last optimizer step (which the loop takes)."""
        step = int(inputs["step"])
        stage_index, within = self.curriculum.at(step)
        stage = self.curriculum.stages[stage_index]
        if stage_index and within == 0:
            self._begin_stage(stage_index)
        model.train()
        self.batch = None
        policy = Policy(model, self.accelerator, reference=self.ref_model, tau=stage.tau)
        sync_seconds = self.sync_engine()
        after_sync = time.perf_counter()
        buffer = self._rollouts(stage, step)
        self.engine.sleep()
        after_rollout = time.perf_counter()
        rewards, truncated = buffer.rewards, buffer.truncated
        advantages, kept = group_advantages(
            rewards, truncated=truncated, mask=stage.mask, std=stage.std, eps=stage.adv_eps
        )
        groups = buffer.rows(advantages)
        e_k = self._measured_entropy(policy, stage, buffer, kept)
        alpha = self.controller.alpha(e_k)
        loss, first = self._update(policy, stage, step, groups, kept, alpha)
        after_update = time.perf_counter()
        self.pending = {
            "step": step,
            "stage": stage_index,
            **diagnostics.response_metrics(rewards, truncated, buffer.lengths),
            "length/all": buffer.lengths.flatten().tolist(),
            **diagnostics.by_domain("reward/mean", rewards, buffer.domains),
            **diagnostics.group_metrics(rewards, kept),
            **diagnostics.decomposition_metrics(rewards, truncated),
            **diagnostics.advantage_histogram(advantages, kept),
            **first,
            "entropy/rollout": buffer.entropy(),
            "entropy/e_k": e_k,
            "entropy/c": self.controller.c,
            "entropy/alpha": alpha,
            "time/sync": sync_seconds,
            "time/rollout": after_rollout - after_sync,
            "time/update": after_update - after_rollout,
        }
        if math.isfinite(e_k):  # a step without kept groups measures nothing where only they count
            self.controller.update(e_k)
        self.curriculum.see(step, zip([p.id for p in buffer.problems], all_right(rewards).tolist(), strict=True))
        self._keep_rollouts(step, buffer, advantages, kept)
        self.weights_changed = True
        return torch.tensor(loss, device=self.args.device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write the records of the step that the loop has just finished."""
        if not self.pending:  # the loop's closing summary: nothing of ours
            return
        record, self.pending = self.pending, {}
        sgd, self.sgd_records = self.sgd_records, []
        now = time.perf_counter()
        record |= diagnostics.sgd_metrics(sgd)
        used = record["time/rollout"] + record["time/update"] + record["time/sync"]
        record |= {
            "lr": logs["learning_rate"],
            "loss": float(logs["loss"]),
            "time/other": now - self.step_ended - used,
            "time/elapsed": now - self.started,
            "tokens_per_s": record["tokens/generated"] / (now - self.step_ended),
            "memory/peak_gib": diagnostics.peak_gib(),
        }
        self.step_ended = now
        for entry in sgd:
            self._record("sgd", entry)
        self._record("step", record)
        for alarm in self.guards.see(record):
            self.run.alarm(alarm.message)
            if alarm.stop:
                raise Or1labError(f"{alarm.message}; to go on all the same: change it, and --resume")
            warnings.warn(alarm.message, stacklevel=1)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The loop's evaluation: sample held-out problems. It asks twice at the last step, where ours is the final
        evaluation anyway."""
        if self.state.global_step < self.curriculum.last_step:
            self.evaluate_now(self.recipe.eval.problems, self.recipe.eval.k)
            self.state.max_steps = self.curriculum.last_step  # nearer, where the last stage has converged
            if self.state.global_step == self.curriculum.last_step:
                self.control.should_training_stop = True
                self.control.should_save = self.recipe.checkpoint.every > 0  # as the loop does at its planned end
        return {}

    def _begin_stage(self, i: int) -> None:
        """What carries over from stage to stage is what nobody touches; here is the rest."""
        if self.curriculum.rule != "off":
            self.run.write_filtered(self.curriculum.filtered())
        if self.recipe.stage_start == "fresh":
            cast(Optimizer, self.optimizer).state.clear()
        before, now = self.curriculum.stages[i - 1 : i + 1]
        if self.recipe.stage_start == "fresh" or (before.entropy, before.alpha) != (now.entropy, now.alpha):
            self.controller = self._new_controller(i)

    def _new_controller(self, i: int) -> EntropyController:
        stage = self.curriculum.stages[i]
        return EntropyController(
            stage.entropy, stage.tgt_ent, stage.delta, stage.c_min, stage.c_max, alpha=stage.alpha
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Not TRL's: it adds a model card."""
        folder = self.run.folder / "checkpoints"
        final = folder / f"checkpoint-{self.state.global_step}"
        with written_aside(final, self.team) as self._writing:
            try:
                Trainer._save_checkpoint(self, model, trial)
                self.team.wait()  # each adds its random streams, and a sharded optimizer its part
                if self.team.first:
                    save_state(self._writing / final.name, **self._own_state())
            finally:
                self._writing = None
        if self.team.first:
            prune(folder, self.state.global_step, self.recipe.checkpoint.keep)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        kill_point("model/saved")

    def save_final(self) -> None:
        """Write the trained model where AutoModel and vLLM load it: checkpoints/final."""
        final = self.run.folder / "checkpoints" / "final"
        with written_aside(final, self.team) as folder:
            self.save_model(str(folder / final.name))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing) if self._writing else super()._get_output_dir(trial)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        keep_float32(self.accelerator)

    def create_optimizer(self, model: Any = None) -> Optimizer:
        optimizer = super().create_optimizer(model)
        optimizer.register_step_pre_hook(lambda *_: kill_point("optimizer/before"))  # our steps and the loop's
        optimizer.register_step_post_hook(lambda *_: kill_point("optimizer/after"))
        return optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            state = load_state(checkpoint)
            self.controller = self._new_controller(self.curriculum.at(step_of(Path(checkpoint)))[0])
            self.controller.load_state_dict(state["controller"])
            self.guards.load_state_dict(state["guards"])

    def _own_state(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"controller": self.controller, "guards": self.guards, "curriculum": self.curriculum}
        return {name: part.state_dict() for name, part in parts.items()}

    # ---------------------------------------------------------------------------------------- rollouts and update

    def _rollouts(self, stage: Recipe, step: int) -> Buffer:
        """The rollout buffer of a step: D_R groups and, where rejected ones are refilled, further problems in their
        place (at most REFILLS times, while there are any)."""
        buffer, problems = Buffer([], [], [], [], []), self.curriculum.prompts(step)
        for again in range(1, 2 + REFILLS):
            buffer += collect(
                self.engine, self.processing_class, problems, self.training_reward,
                group=stage.gs, tau=stage.tau, T=stage.T, seed=self.recipe.seed, step=step,
            )  # fmt: skip
            if stage.reject != "refill":
                break
            missing = stage.D_R - int(group_advantages(buffer.rewards)[1].sum())
            problems = self.curriculum.others(step, again, missing, buffer.problems)
            if not problems:
                break
        return buffer

    def _update(
        self, policy: Policy, stage: Recipe, step: int, groups: list[list[Row | None]], kept: Tensor, alpha: float
    ) -> tuple[float, dict[str, Any]]:
        """The N_SGD mini-batches of one training step; all optimizer steps but the last. Nothing happens, to weights
        or optimizer state, when every group was rejected. Mean loss, and what the first mini-batch shows."""
        losses: list[float] = []
        first = diagnostics.entropy_profile([], stage.T)
        batches = sgd_steps(
            groups, kept.tolist(), policy, stage, alpha=alpha, optimizer_step=self._optimizer_step,
            generator=torch.Generator().manual_seed(hash_seed(self.recipe.seed, step)),
        )  # fmt: skip
        for n, self.batch in enumerate(batches):
            self.sgd_records.append({"step": step, "sgd_step": n, **diagnostics.loss_metrics(self.batch.output)})
            losses.append(self.sgd_records[-1]["loss"])
            if not math.isfinite(losses[-1]):
                self._stop_at_batch(f"the loss is {losses[-1]}")
            if n == 0:  # the weights are still those the engine sampled from
                first = self._check_sync(self.batch) | diagnostics.entropy_profile(self.batch.entropy, stage.T)
        return sum(losses) / max(1, len(losses)), first

    def _optimizer_step(self) -> None:
        self._clip_grad_norm(self.model_wrapped)
        cast(Optimizer, self.optimizer).step()
        self.model_wrapped.zero_grad()

    def _clip_grad_norm(self, model: Any) -> Any:
        """Of the loop's own optimizer step too: no step is taken on a gradient that is not finite."""
        norm = super()._clip_grad_norm(model)
        if self.batch is not None:  # None: every group was rejected, there is no gradient
            self.sgd_records[-1]["grad/norm"] = float(norm)
            if not math.isfinite(norm):
                self._stop_at_batch(f"the norm of the gradient is {float(norm)}")
        return norm

    def _stop_at_batch(self, what: str) -> None:
        """Keep the mini-batch that cannot be stepped on, and end the run."""
        record, rows = self.sgd_records[-1], cast(MiniBatch, self.batch).rows
        plain = [vars(row) | {"old_logp": None if row.old_logp is None else row.old_logp.tolist()} for row in rows]
        kept = self.run.write_failure(record["step"], pd.DataFrame(plain))
        raise Or1labError(
            f"step {record['step']}, SGD step {record['sgd_step']}: {what}; the weights are those before it. Its "
            f"{len(rows)} responses are in {kept}: look at them, or train again with a lower lr into another --out"
        )

    def _measured_entropy(self, policy: Policy, stage: Recipe, buffer: Buffer, kept: Tensor) -> float:
        """e_k, nats per token: minus the mean log-prob of the sampled tokens, of all responses ("sampler") or those
        that train, with a verdict and in a kept group ("kept", released code), or the mean full-vocabulary entropy at
        the tokens of all ("exact", one more forward pass)."""
        if stage.entropy_source == "sampler":
            return buffer.entropy()
        if stage.entropy_source == "kept":
            return buffer.entropy(kept[:, None] & ~buffer.rewards.isnan())
        sampled = zip(buffer.prompts, buffer.samples, strict=True)
        rows = [Row(prompt, sample.token_ids) for prompt, group in sampled for sample in group]
        _, entropies = measure(rows, policy, stage.micro_tokens)
        return torch.cat(entropies).double().mean().item()

    # ------------------------------------------------------------------------------------------- engine and records

    def sync_engine(self) -> float:
        """Hand the weights to the engine if they have changed since it last got them; seconds."""
        begin = time.perf_counter()
        if self.weights_changed:
            kill_point("sync/before")
            self.engine.sync(named_weights(self.accelerator.unwrap_model(self.model), self.accelerator))
            self.weights_changed = False
            kill_point("sync/after")
        return time.perf_counter() - begin

    def _check_sync(self, batch: MiniBatch) -> dict[str, float]:
        """Distance of the trainer's log-probs from the sampler's on the same tokens. A stale engine shows here."""
        ours = torch.cat(batch.logp).cpu().double()
        theirs = torch.tensor([value for row in batch.rows for value in row.sampler_logp], dtype=torch.float64)
        above = diagnostics.above_cap(batch.logp, [row.sampler_logp for row in batch.rows], self.recipe.correction_cap)
        return diagnostics.check_mismatch(ours, theirs, self.recipe.dtype, self.engine.name) | above

    def evaluate_now(self, problems: int, k: int, *, final: bool = False) -> dict[str, Any]:
        """Evaluate the current weights and record it."""
        begin = time.perf_counter()
        self.sync_engine()
        step = self.state.global_step
        values, frame = evaluate_policy(
            self.engine,
            self.processing_class,
            self.test_problems[:problems],
            self.reward,
            k=k,
            tau=self.recipe.eval.tau,
            others=self.recipe.eval.others,
            T=self.recipe.eval.T or self.recipe.max_T,
            seed=self.recipe.seed,
            step="final" if final else step,
        )
        self.engine.sleep()
        if not final:
            values |= self.curriculum.evaluated(step, values["eval/accuracy"])
        self.run.write_evals(step, frame.assign(final=final))
        now = time.perf_counter()
        record = {"step": step, "final": final, **values, "time/eval": now - begin, "time/elapsed": now - self.started}
        self.step_ended = now
        self.weights_changed = True  # a sync empties the prefix cache: a resumed run meets an empty one too
        self._record("eval", record)
        return record

    def _record(self, kind: str, values: dict[str, Any]) -> None:
        self.run.log(kind, **values)
        self.on_record({"kind": kind, **values})

    def _keep_rollouts(self, step: int, buffer: Buffer, advantages: Tensor, kept: Tensor) -> None:
        if self.recipe.save_rollouts == "none":
            return
        frame = buffer.frame(advantage=advantages, kept=kept[:, None].expand_as(advantages))
        if self.recipe.save_rollouts == "sampled":  # two groups a step: enough to read, little to store
            few = frame["problem_id"].isin([problem.id for problem in buffer.problems[:2]])
            frame = frame[few | frame["reason"].str.startswith("error")]  # what failed is never left out
        self.run.write_rollouts(step, frame)


def _no_reward(**_: Any) -> list[float | None]:
    raise AssertionError("MagicTrainer judges responses itself")
