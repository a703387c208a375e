"""The planner's predictions against the report's times and against this machine: python -m benchmarks.planner [--json]

Paper: one constant, the share of their peak figures that GPUs reach, is fitted to the first row of the report's Table 9
(a rollout of 1,024 responses on 32 H800). All else is predicted: the other rows, Table 8 and Table 7. Settings: Table
5's for Tables 8 and 9; for Table 7 the first 1,000 steps of the recipe 32b on 256 H800 (the authors' word, not the
report's). The engine's share of memory, sleep mode and tensor parallelism (1 for 7B, 2 for 32B) are the released
scripts'. Every group counts as kept, as the report does not say how many were: t_T is a bound from above. t_O is
without rewards and checkpoints, which the planner does not count: a bound from below.

Machine: rollouts and updates are timed on this CPU, the constants of `cpu` in experiments/hardware.yaml fitted to some
of them (least squares of the logarithms), and the others predicted. Memory: the peak of updates, each in a process of
its own whose allocator gives freed memory back; nothing is fitted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.timing import add_output_options, deliver
from or1lab import paper, process
from or1lab.planner import memory, times
from or1lab.planner.architecture import TINY, Architecture, architecture, of_config
from or1lab.planner.hardware import Cluster, Device, cluster, device, known
from or1lab.planner.lengths import Law, law
from or1lab.planner.memory import Layout
from or1lab.planner.plan import Plan
from or1lab.recipe import load_recipe


def section_4(gpus: int, D_T: int = 64, efficiency: float | None = None) -> Plan:
    """The report's Table 5 on so many H800: 64 x 16 responses of up to 16K, 1,000 steps."""
    changes = ["D_R=64", f"D_T={D_T}", "gs=16", "T=16384", "stages=[{steps: 1000}]"]
    recipe = load_recipe("7b", changes)
    machine = cluster(f"{gpus}xH800", efficiency=efficiency)
    return Plan(recipe, architecture(recipe.model), machine, Layout(sleep=True), law(recipe.model))


def table_7(efficiency: float | None = None) -> Plan:
    """The recipe 32b up to step 1000, on 256 H800."""
    recipe = load_recipe("32b", ["stages.1.steps=240"])
    machine = cluster("256xH800", efficiency=efficiency)
    return Plan(recipe, architecture(recipe.model), machine, Layout(tp=2, sleep=True), law(recipe.model))


def fitted() -> float:
    """The efficiency at which the first row of Table 9 is met. Times are inverse to it but for the exchanges' latency,
    of which an engine on one GPU has none."""
    first = paper.load("times")["table_9"]["rows"][0]
    return section_4(first["h800"], efficiency=1.0).stages[0].t_R / first["seconds"]


def against_paper() -> list[dict[str, Any]]:
    """One row a number of the report: what, reported, predicted."""
    tables, rows, e = paper.load("times"), [], fitted()
    for row in tables["table_9"]["rows"]:
        predicted = section_4(row["h800"], efficiency=e).stages[0].t_R
        rows.append((f"Table 9, {row['h800']} H800: t_R, s", row["seconds"], predicted))
    for row in tables["table_8"]["rows"]:
        p = section_4(32, row["quadruple"][2], efficiency=e)
        rows += [(f"Table 8, {tuple(row['quadruple'])}: {key}, h", row[key], hours(p, key)) for key in times_of(row)]
    (row,), p = tables["table_7"]["rows"], table_7(e)
    rows += [(f"Table 7, {row['model']}: {key}, h", row[key], hours(p, key)) for key in times_of(row)]
    return [compared(*row) for row in rows]


def times_of(row: dict[str, Any]) -> list[str]:
    return [key for key in row if key.startswith("t_")]


def hours(p: Plan, key: str) -> float:
    return sum(stage.steps * getattr(stage, key) for stage in p.stages) / 3600


# ------------------------------------------------------------------------------------------------ this machine

# (model, prompts, token budget of a micro-batch) of updates of prompts x 8 responses: those fitted to, then the others.
UPDATES = [("tiny", 16, 1024), ("wide", 16, 1024), ("smol", 2, 1024)]
MORE_UPDATES = [("tiny", 32, 2048), ("tiny", 64, 1024), ("wide", 8, 512), ("wide", 32, 2048), ("smol", 4, 512)]
# (model, prompts, limit) of a rollout of prompts x 8 responses.
ROLLOUTS = [("tiny", 4, 128), ("tiny", 32, 128), ("wide", 8, 128), ("smol", 2, 48)]
MORE_ROLLOUTS = [("tiny", 16, 128), ("tiny", 32, 64), ("wide", 24, 64), ("smol", 4, 32)]
# (model, prompts, budget): enough rows for several micro-batches, so that gradients stand beside the largest of them.
MEMORY = [("tiny", 32, 8192), ("wide", 32, 4096), ("wide", 32, 8192), ("smol", 8, 512), ("smol", 8, 1024)]
MODELS = ("tiny", "wide", "smol")
WIDE = {
    "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 8, "head_dim": 32,
}  # fmt: skip
FITTED = ("flops", "decoding", "bandwidth", "step", "layer")


@dataclass(frozen=True)
class Case:
    """What was timed, and the seconds it took: an update of kept responses of these lengths, or a rollout."""

    work: str  # update, rollout
    model: str
    limit: str  # of the recipe tiny: micro_tokens of an update, T of a rollout
    prompts: int
    prompt: float  # mean tokens of a prompt
    lengths: list[list[int]]  # tokens of the responses to each prompt
    seconds: float
    fitted: bool

    def predict(self, machine: Device) -> float:
        """The planner's seconds for it."""
        recipe, lengths = load_recipe("tiny", [self.limit]), np.array(self.lengths)
        job = times.Job(counted(self.model), recipe, alone(machine), Layout(), Law(self.prompt))
        return times.update(job, lengths) if self.work == "update" else times.rollout(job, lengths).seconds

    @property
    def what(self) -> str:
        return f"{self.work}, {self.model}, {self.prompts} x 8, {self.limit}"


@cache
def model_folder(name: str) -> str:
    """tiny and smol are those of the recipes; wide has six times the parameters of tiny, and random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from or1lab import sources

    if name != "wide":
        return sources.model_folder(name)
    folder, tiny = mkdtemp(), sources.model_folder("tiny")
    config = AutoConfig.from_pretrained(tiny, **WIDE)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    sources.load_tokenizer(tiny).save_pretrained(folder)
    return folder


def alone(machine: Device) -> Cluster:
    return Cluster(machine, 1, 1)


@cache
def counted(name: str) -> Architecture:
    if name != "wide":
        return architecture(name)
    return of_config(json.loads((TINY / "config.json").read_text(encoding="utf-8")) | WIDE, name)


def updater(name: str, prompts: int, micro_tokens: int) -> Any:
    """An update of `benchmarks.ours` with 40% of the groups rejected."""
    import torch
    from transformers import AutoModelForCausalLM

    from benchmarks.batch import make_batch
    from benchmarks.ours import Ours, recipe_for

    batch = make_batch(range(5, 40), prompts)
    model = AutoModelForCausalLM.from_pretrained(model_folder(name), dtype=torch.float32)
    return Ours(model, batch, recipe_for(batch, f"micro_tokens={micro_tokens}"))


def update_case(name: str, prompts: int, micro_tokens: int, fitted: bool) -> Case:
    ours = updater(name, prompts, micro_tokens)
    seconds = timed(ours.update, 1 if name == "smol" else 3)
    rewards = ours.batch.rewards
    kept = (rewards.amax(1) > rewards.amin(1)).numpy()
    lengths = np.array([len(row) for row in ours.batch.responses]).reshape(prompts, -1)[kept]
    prompt = float(np.mean([len(row) for row in ours.batch.prompts]))
    return Case("update", name, f"micro_tokens={micro_tokens}", prompts, prompt, lengths.tolist(), seconds, fitted)


def rollout_case(name: str, prompts: int, T: int, engine: Any, fitted: bool) -> Case:
    from or1lab.rollout.base import Request

    rng = np.random.default_rng(prompts)
    asked = [Request(rng.integers(5, 40, size=12).tolist(), list(range(8 * i, 8 * i + 8))) for i in range(prompts)]
    lengths: list[list[int]] = []

    def sample() -> None:
        nonlocal lengths
        found = engine.generate(asked, tau=1.0, T=T)
        lengths = [[len(sample.token_ids) for sample in group] for group in found]

    seconds = timed(sample, 1 if name == "smol" else 3)
    return Case("rollout", name, f"T={T}", prompts, 12.0, lengths, seconds, fitted)


def timed(work: Callable[[], object], rounds: int) -> float:
    """Least seconds of CPU time of the rounds after the first: with one thread, nearly a quiet machine's clock."""
    taken = []
    for _ in range(1 + rounds):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken[1:])


def measure(models: list[str]) -> list[Case]:
    from or1lab.rollout import build_engine
    from or1lab.sources import load_tokenizer

    cases = [update_case(*one, one in UPDATES) for one in [*UPDATES, *MORE_UPDATES] if one[0] in models]
    for name in models:
        folder = model_folder(name)
        engine = build_engine(
            folder, load_tokenizer(folder), backend="auto", dtype="float32", prompt_limit=24, T=128, max_num_seqs=256,
            gpu_memory_utilization=0.35,
        )  # fmt: skip
        asked = [one for one in [*ROLLOUTS, *MORE_ROLLOUTS] if one[0] == name]
        cases += [rollout_case(*one, engine, one in ROLLOUTS) for one in asked]
        del engine
    return cases


def fit(cases: list[Case]) -> Device:
    """The constants of a CPU at which the relative errors of the cases to fit are least."""
    from scipy.optimize import least_squares

    here, seen = device("cpu"), [case for case in cases if case.fitted]

    def with_constants(logs: Any) -> Device:
        return replace(here, **dict(zip(FITTED, np.exp(logs), strict=True)))

    def errors(logs: Any) -> list[float]:
        return [float(np.log(case.predict(with_constants(logs)) / case.seconds)) for case in seen]

    start = np.log([known()["cpu"][name] for name in FITTED])
    return with_constants(least_squares(errors, start, bounds=(start - 7, start + 7)).x)


def peak(name: str, prompts: int, micro_tokens: int) -> int:
    """Bytes by which two updates raise this process's peak: model, gradients, moments, activations."""
    from benchmarks.memory import resident

    updater("tiny", 8, 1024).update()  # libraries' own buffers are no part of it
    model_folder(name)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    ours = updater(name, prompts, micro_tokens)
    ours.update()
    ours.update()
    return resident("VmHWM") - before


def memories(models: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name, prompts, micro_tokens in MEMORY:
        if name not in models:
            continue
        command = [sys.executable, "-m", "benchmarks.planner", "--peak", name, str(prompts), str(micro_tokens)]
        # The update's need, not the gaps that the heap's small blocks leave: every large tensor is given back at once.
        returning = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=returning)
        measured = int(done.stdout)
        recipe = load_recipe("tiny", [f"micro_tokens={micro_tokens}"])
        parts = memory.update(counted(name), recipe, alone(device("cpu")), Layout())
        what = f"update, {name}, micro-batches of {micro_tokens}, MiB"
        rows.append(compared(what, measured / 2**20, sum(parts.values()) / 2**20))
    return rows


def compared(what: str, told: float, predicted: float) -> dict[str, Any]:
    return {"what": what, "told": told, "predicted": predicted, "error": round(predicted / told - 1, 4) or 0.0}


def machine(models: list[str]) -> dict[str, Any]:
    cases = measure(models)
    here = fit(cases)
    rows = [compared(case.what, case.seconds, case.predict(here)) | {"case": asdict(case)} for case in cases]
    return {"constants": {name: getattr(here, name) for name in FITTED}, "rows": rows}


def show(results: dict[str, Any]) -> None:
    console = Console()
    titles = {
        "paper": f"the report's times; fitted to the first: efficiency {results.get('efficiency', 0):.3f}",
        "memory": "this machine, peak memory",
        "machine": "this machine, seconds of CPU time on one thread",
    }
    for part, title in titles.items():
        if part not in results:
            continue
        rows = results[part]["rows"] if part == "machine" else results[part]
        table = Table(title=title, title_justify="left")
        for column in ("", "reported" if part == "paper" else "measured", "predicted", "error"):
            table.add_column(column, justify="right" if column else "left")
        for row in rows:
            error = "fitted" if row.get("case", {}).get("fitted") else f"{row['error']:+.0%}"
            table.add_row(row["what"], f"{row['told']:.3g}", f"{row['predicted']:.3g}", error)
        console.print(table)
    if "machine" in results:
        values = ", ".join(f"{name}: {value:.2g}" for name, value in results["machine"]["constants"].items())
        console.print(f"cpu: {{{values}}}", highlight=False, markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("paper", "memory", "machine"), action="append", help="default: all three")
    parser.add_argument("--models", choices=MODELS, action="append", help="measured ones (default: all)")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)  # the measuring process
    add_output_options(parser)
    options = parser.parse_args()
    if options.peak:
        process.set_up(1)
        name, prompts, micro_tokens = options.peak
        print(peak(name, int(prompts), int(micro_tokens)))
        return
    parts, models = options.only or ["paper", "memory", "machine"], options.models or list(MODELS)
    results: dict[str, Any] = {}
    if "paper" in parts:
        results |= {"efficiency": fitted(), "paper": against_paper()}
    if "memory" in parts:
        results["memory"] = memories(models)
    if "machine" in parts:
        process.set_up(1)
        results["machine"] = machine(models)
    deliver("planner", results, options, lambda: show(results))


if __name__ == "__main__":
    main()
