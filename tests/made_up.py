"""Finished runs of the studies whose curves are made up, of about the right shape: for what draws and counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from or1lab.claims import study
from or1lab.experiment import TINY, expand
from or1lab.recipe import Recipe
from or1lab.store import Run
from or1lab.studies import by_recipe
from or1lab.world import CLAIMS, FOLLOW_UPS, WORLD, content_hash

FILES = {"world_hash": WORLD, "claims_hash": CLAIMS, "follow_ups_hash": FOLLOW_UPS}
HASHES = {key: content_hash(path) for key, path in FILES.items()}


def write_study(
    root: Path, name: str, *, seeds: list[int] | None = None, samples: int = 40, tier: str = TINY, **manifest
) -> None:
    """The runs of a study at a tier that are not below `root` yet, in its folders."""
    known = by_recipe(root) if root.exists() else {}
    for job in expand(study(name, tier), seeds, root):
        told = {"experiment": job.experiment.name, "arm": job.arm, "status": "finished", "seconds": 200.0}
        extra = told | HASHES | manifest
        if Run(job.folder).folder.exists():
            continue
        run = Run.create(job.folder, recipe=job.recipe.resolved(), extra=extra)
        if run.manifest["recipe_hash"] in known:
            for path in (run.folder / "manifest.json", run.folder / "metrics.jsonl"):
                path.unlink()
            run.folder.rmdir()
            continue
        _fill(run, job.recipe, np.random.default_rng(int(run.manifest["recipe_hash"][:8], 16)), samples)
        run.close()


def _fill(run: Run, recipe: Recipe, rng: np.random.Generator, samples: int) -> None:
    H, controlled = 0.58, recipe.entropy not in ("none", "constant")
    falls = 0.004 + 0.025 * (recipe.N_SGD - 1)
    at, stages = 0, [recipe.stage(i) for i in range(len(recipe.stages))]
    accuracy = 0.38 + rng.normal(0, 0.01)
    _evaluate(run, recipe, rng, 0, accuracy, H, samples, final=False)
    for index, stage in enumerate(stages):
        for _ in range(stage.stages[0].steps):
            at += 1
            alpha = stage.alpha if stage.entropy == "constant" else 0.02 * controlled * (stage.tgt_ent > H)
            H *= 1 - falls + 0.2 * alpha + 0.1 * (stage.clip_high - 0.2) + rng.normal(0, 0.02)
            if controlled and stage.entropy != "constant":
                H = max(H, stage.tgt_ent * (1 + rng.normal(0, 0.08)))
            H = float(np.clip(H, 0.01, 4))
            accuracy += 0.006 * (0.9 - accuracy) * min(H, 0.4) / 0.25 - 0.01 * (H > 1) + rng.normal(0, 0.001)
            drawn = rng.gamma(1.6, max(4, 22 - 0.05 * at), size=min(128, stage.D_R * stage.gs))
            lengths = np.minimum(drawn.astype(int) + 4, stage.T)
            cut = float((lengths == stage.T).mean())
            values = {
                "reward/mean": accuracy * (1 - cut) + rng.normal(0, 0.03),
                "reward/nontruncated": accuracy + rng.normal(0, 0.03),
                "length/mean": lengths.mean(), "length/truncated_frac": cut, "length/all": lengths.tolist(),
                "groups/kept_frac": 0.7 - 0.2 * accuracy + rng.normal(0, 0.05), "tokens/generated": lengths.sum(),
                "entropy/rollout": H, "entropy/alpha": alpha, "kl/reference": 0.0005 * at * (1 - 10 * stage.beta),
                "correction/above_cap_frac": 0.02, "correction/above_cap_long_frac": 0.03 + 0.001 * rng.normal(),
                "time/rollout": 1.2 + rng.normal(0, 0.05), "time/update": 0.4 * recipe.N_SGD**0.2, "time/sync": 0.02,
                "time/other": 0.05,
            }  # fmt: skip
            run.log("step", step=at, stage=index, **values)
            if at % 10 == 0:
                _evaluate(run, recipe, rng, at, accuracy + rng.normal(0, 0.02), H, samples, final=False)
    _evaluate(run, recipe, rng, at, accuracy, H, samples, final=True)


def _evaluate(run: Run, recipe: Recipe, rng, step: int, accuracy: float, H: float, n: int, *, final: bool) -> None:
    T = recipe.eval.T or recipe.max_T
    length = np.minimum(rng.gamma(1.6, 20, size=n).astype(int) + 4, T)
    values = {"eval/accuracy": accuracy, "eval/length": length.mean(), "eval/entropy": H * 0.95}
    run.log("eval", step=step, final=final, **values)
    if final:
        told = {"length": length, "final": True}
        other = pd.DataFrame(told | {"correct": False, "tau": -1.0})  # a second temperature, which no study looks at
        right = rng.random(n) < accuracy
        run.write_evals(step, pd.concat([pd.DataFrame(told | {"correct": right, "tau": recipe.eval.tau}), other]))
