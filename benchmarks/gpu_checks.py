"""The checks of `benchmarks.gpu_check`, one function each, for a process of its own.

A check returns the numbers it has measured and what is wrong with them, and may raise. Where there is no GPU those in
`ON_CPU` run on small shapes, without a target of speed.
"""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks import memory as output_layer
from benchmarks.batch import Batch, make_batch
from benchmarks.ours import Ours, recipe_for
from benchmarks.stock import Stock
from benchmarks.timing import alternate, ratio
from or1lab import sources, train
from or1lab.errors import Or1labError
from or1lab.magic.batching import micro_batches
from or1lab.magic.diagnostics import BF16_MEAN, FP32_MAX, check_mismatch
from or1lab.magic.head import add_response_head
from or1lab.magic.policy import Policy
from or1lab.magic.update import Row, measure
from or1lab.planner import memory
from or1lab.planner.architecture import of_config
from or1lab.planner.hardware import Cluster, Device
from or1lab.recipe import Recipe, load_recipe
from or1lab.rollout import build_engine
from or1lab.rollout.base import Request, Sample
from or1lab.rollout.weights import named_weights
from or1lab.store import Run

Found = tuple[dict[str, Any], list[str]]  # numbers, what is wrong

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
PROMPT, T = 24, 96  # tokens of the checks that sample
SPEED, MEMORY = 2.0, 0.10  # asked: times as fast as stock; the planner's error at most
SHAPE = {
    "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}  # fmt: skip  # Qwen2.5-0.5B
SMALL = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}  # fmt: skip


# -------------------------------------------------------------------------------------------- engine and weights


class Pair:
    """A model as the trainer has it, in float32, and an engine that samples from it in `dtype`."""

    def __init__(self, dtype: str, *, tied: bool, sleep: bool = False) -> None:
        tiny = sources.model_folder("tiny")
        tokenizer, folder = sources.load_tokenizer(tiny), mkdtemp() if tied else tiny
        if tied:
            torch.manual_seed(0)
            # initializer_range: logits that differ by about one nat; flat ones would hide old weights
            sizes = SMALL | {"vocab_size": len(tokenizer), "max_position_embeddings": 256, "initializer_range": 0.08}
            ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
            Qwen2ForCausalLM(Qwen2Config(**sizes, **ends)).save_pretrained(folder)
        self.dtype, self.words = dtype, len(tokenizer)
        self.engine = build_engine(
            folder, tokenizer, backend="auto", dtype=dtype, prompt_limit=PROMPT, T=T, max_num_seqs=64,
            gpu_memory_utilization=0.35, sleep=sleep,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        add_response_head(model)
        self.accelerator = Accelerator(cpu=not GPU, mixed_precision="bf16" if dtype == "bfloat16" else "no")
        self.policy = Policy(self.accelerator.prepare(model).eval(), self.accelerator)

    def sync(self) -> None:
        self.engine.sync(named_weights(self.accelerator.unwrap_model(self.policy.model), self.accelerator))

    def requests(self) -> list[Request]:
        return [Request([2 + (7 * n + i) % (self.words - 2) for i in range(9)], [8 * n + j for j in range(8)])
                for n in range(8)]  # fmt: skip

    def samples(self) -> list[Sample]:
        return [sample for group in self.engine.generate(self.requests(), tau=1.0, T=T) for sample in group]

    def distance(self) -> dict[str, float]:
        """Of the trainer's log-probs from the sampler's, over the engine's samples. Raises where it is no rounding."""
        prompts = [request.prompt_ids for request in self.requests() for _ in request.seeds]
        samples = self.samples()
        rows = [Row(prompt, sample.token_ids) for prompt, sample in zip(prompts, samples, strict=True)]
        ours = torch.cat(measure(rows, self.policy, 4096)[0]).cpu().double()
        theirs = torch.tensor([value for sample in samples for value in sample.logprobs], dtype=torch.float64)
        return check_mismatch(ours, theirs, self.dtype, self.engine.name)


def sync(dtype: str, tied: bool) -> Found:
    """Sampler and trainer agree, disagree when only the trainer's weights change, and agree again after a sync."""
    pair = Pair(dtype, tied=tied)
    pair.sync()
    before = pair.distance()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in pair.policy.model.parameters():
            weight.add_(0.3 * weight.std() * torch.randn_like(weight))
    wrong = []
    with suppress(Or1labError):
        pair.distance()
        wrong = ["old weights in the engine are not noticed"]
    pair.sync()
    after = pair.distance()
    key, limit = ("_max", FP32_MAX) if dtype == "float32" else ("", BF16_MEAN)
    key = f"kl/rollout_trainer{key}"
    return {"mismatch": before[key], "after new weights": after[key], "limit": limit}, wrong


def sleep() -> Found:
    """An engine that slept and got the same weights again samples what it sampled; asleep it holds little memory."""
    start = free()
    pair = Pair("bfloat16", tied=False, sleep=True)
    pair.sync()
    pair.samples()  # kernels are chosen and compiled on the first use
    pair.sync()  # empties the prefix cache
    awake, before = free(), pair.samples()
    pair.engine.sleep()
    asleep = free()
    pair.sync()
    after = pair.samples()
    same = sum(a.token_ids == b.token_ids for a, b in zip(before, after, strict=True)) / len(before)
    back = (asleep - awake) / (start - awake)
    wrong = ["other samples after it woke"] * (same < 1) + ["less than 80% of its memory given back"] * (back < 0.8)
    return {"GiB taken": (start - awake) / 2**30, "given back": back, "equal samples": same}, wrong


def free() -> int:
    """Bytes of the GPU that nobody holds."""
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


# -------------------------------------------------------------------------------------------------------- update


def head() -> Found:
    """The output layer against full logits: log-probs, entropies, gradients; in float32 and, on a GPU, autocast."""
    from trl.kernels import chunked_logprob

    numbers: dict[str, Any] = {"Triton": chunked_logprob._use_triton(DEVICE)}
    # bfloat16: the last places of logits up to 16.
    wrong = ["it does not run on Triton"] * (GPU and not numbers["Triton"])
    for name, values, gradients in (("float32", FP32_MAX, 1e-4), ("bfloat16", 0.25, 0.1))[: 1 + GPU]:
        model = output_layer.small_model().to(DEVICE)
        torch.manual_seed(1)
        ids = torch.randint(output_layer.VOCABULARY, (16 if GPU else 2, 129)).to(DEVICE)
        weights = (torch.randn(2, len(ids), 128) / (len(ids) * 128)).to(DEVICE)
        found = {}
        for way in ("full logits", "ours"):
            model.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=name == "bfloat16"):
                pair = output_layer.FORWARDS[way](model, ids, ids)
            sum((w * v.float()).sum() for w, v in zip(weights, pair, strict=True)).backward()
            grads = {key: p.grad.clone() for key, p in model.named_parameters()}
            found[way] = [v.detach().float() for v in pair], grads
        (theirs, expected), (mine, got) = found.values()
        apart = max(float((a - b).abs().max()) for a, b in zip(mine, theirs, strict=True))
        slope = output_layer.largest_difference(got, expected)
        numbers |= {f"{name}, nats": apart, f"{name}, gradients": slope}
        wrong += [f"not equal in {name}"] * (not (apart <= values and slope <= gradients))
    return numbers, wrong


def work() -> tuple[Qwen2Config, Batch, Recipe]:
    """0.5B shapes on a GPU. Five groups, two of them rejected; half of the responses above 4K, a sixth cut at 8K."""
    config = Qwen2Config(**(SHAPE if GPU else SMALL))
    lengths = {"median": 4096.0, "limit": 8192} if GPU else {}
    changes = ["T=8192", "micro_tokens=18432", "dtype=bfloat16"] if GPU else ["T=160"]
    batch = make_batch(range(config.vocab_size), 5, **lengths)  # type: ignore[arg-type]
    return config, batch, recipe_for(batch, *changes)


def new_model(config: Qwen2Config) -> Any:
    torch.manual_seed(0)
    with DEVICE:
        return Qwen2ForCausalLM(config)


def waited(update: Callable[[], float]) -> Callable[[], float]:
    """Seconds of an update with what it has left to the GPU."""

    def timed() -> float:
        seconds, begin = update(), time.perf_counter()
        if GPU:
            torch.cuda.synchronize()
        return seconds + time.perf_counter() - begin

    return timed


def update() -> Found:
    """Ours against stock TRL with the fastest of the micro-batches that fit."""
    config, batch, recipe = work()
    tokenizer = sources.load_tokenizer(sources.model_folder("tiny"))
    ours = Ours(new_model(config), batch, recipe, gpu=GPU)
    ours.update()  # all the memory that it takes
    first: dict[int, float] = {}
    stock: Any = None
    for micro_batch in (1, 2, 4, 8) if GPU else (8,):
        with suppress(torch.cuda.OutOfMemoryError):
            stock = Stock(new_model(config), tokenizer, batch, micro_batch, gpu=GPU)
            first[micro_batch] = alternate({"stock": waited(stock.update)}, 1, int(not first))["stock"][0]
        stock = None
        gc.collect()
        if GPU:
            torch.cuda.empty_cache()
    best = min(first, key=first.__getitem__)
    stock = Stock(new_model(config), tokenizer, batch, best, gpu=GPU)
    seconds = alternate({"stock": waited(stock.update), "ours": waited(ours.update)}, 3 if GPU else 1)
    found = ratio(seconds["stock"], seconds["ours"])
    numbers = {name: found[name] for name in ("ratio", "low", "high", "stock", "ours")} | {"micro-batch": best}
    return numbers, [f"below {SPEED} times as fast"] * (GPU and found["ratio"] < SPEED)


def planned() -> Found:
    """Peak memory of that update, as torch counts what is allocated, against the planner's without its reserve."""
    config, batch, recipe = work()
    ours = Ours(new_model(config), batch, recipe, gpu=True)
    ours.update()  # the Adam moments come with the first
    torch.cuda.reset_peak_memory_stats()
    ours.update()
    peak = torch.cuda.max_memory_allocated()
    rows = ours.lengths
    tokens = max(len(cut) * max(rows[i] for i in cut) for cut in micro_batches(rows, recipe.micro_tokens))
    machine = Cluster(Device("this one", flops=1, bandwidth=1, gib=free() / 2**30, host=1), 1, 1)
    a = of_config(config.to_dict(), "0.5B")
    parts = memory.update(a, recipe, machine, memory.Layout(sleep=True), tokens)  # asleep: no engine beside it
    predicted = sum(parts.values()) - memory.RESERVE
    error = predicted / peak - 1
    numbers = {"GiB measured": peak / 2**30, "predicted": predicted / 2**30, "error": error, "tokens": tokens}
    return numbers, [f"the planner is off by more than {MEMORY:.0%}"] * (abs(error) > MEMORY)


# ------------------------------------------------------------------------------------------------------ whole runs

BRIEF = ["eval.every=0", "eval.final_problems=16", "eval.final_k=1", "wandb=off", "checkpoint.keep=2"]


def training(dtype: str) -> Found:
    """The tiny world; then again from the checkpoint half-way. Every step's mismatch is held to its limit by the run
    itself, which ends where it is above."""
    steps = 20 if GPU else 4
    small = [] if GPU else ["D_R=4", "D_T=4", "gs=4"]
    recipe = load_recipe(
        "tiny", [f"stages=[{{steps: {steps}}}]", f"checkpoint.every={steps // 2}", f"dtype={dtype}", *BRIEF, *small]
    )
    engine = train.open_engine(recipe)
    run = train.run(recipe, Path(mkdtemp()) / "run", engine=engine, progress=False)
    once = stepped(run)
    half_way(run, steps)
    again = stepped(train.run(recipe, run.folder, resume=True, engine=engine, progress=False))
    wrong = ["steps are missing"] * ([record["step"] for record in again] != list(range(1, steps + 1)))
    wrong += ["a number is not finite"] * (not all(map(finite, once + again)))
    same = equal_lengths(once[steps // 2], again[steps // 2])
    wrong += ["other samples after resuming"] * (same < 0.9)
    worst = max(record.get("kl/rollout_trainer_max", 0.0) for record in once)
    mean = max(record.get("kl/rollout_trainer", 0.0) for record in once)
    rewards = {"reward first": once[0]["reward/mean"], "last": once[-1]["reward/mean"]}
    return {"mismatch max": worst, "mean": mean, **rewards, "equal after resuming": same}, wrong


def stepped(run: Run) -> list[dict[str, Any]]:
    return [record for record in run.records() if record["kind"] == "step"]


def finite(record: dict[str, Any]) -> bool:
    wanted = ["entropy/rollout", "reward/mean", "loss"] + ["grad/norm"] * (record["sgd/steps"] > 0)
    return all(math.isfinite(record[name]) for name in wanted)


def equal_lengths(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Share of the responses of a step that are as long in the other run: those of equal weights and seeds are."""
    pairs = list(zip(one["length/all"], other["length/all"], strict=True))
    return sum(a == b for a, b in pairs) / len(pairs)


def half_way(run: Run, steps: int) -> None:
    """Back to how a run that was killed after its first checkpoint looks."""
    run.update_manifest(status="failed")
    for name in ("final", f"checkpoint-{steps}"):
        shutil.rmtree(run.folder / "checkpoints" / name)


def command_line(out: Path, gpus: list[str], *arguments: str) -> Run:
    """`or1lab train` of the tests' small recipe on these GPUs. Raises Or1labError with what it says where it fails."""
    small = ["stages=[{steps: 4}]", "D_R=8", "D_T=8", "gs=8", "data.train=64", "data.test=16", "checkpoint.every=2"]
    command = [sys.executable, "-m", "or1lab.cli", "train", "tiny", *small, *BRIEF, *arguments, "--out", str(out)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    done = subprocess.run([*command, "--force"], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Or1labError(f"{' '.join(arguments)} on {len(gpus)} GPUs: {done.stderr.strip()[-1500:]}")
    return Run.open(out)


def visible() -> list[str]:
    return os.environ["CUDA_VISIBLE_DEVICES"].split(",")


def sharded() -> Found:
    """Two processes with FSDP2 give the numbers of one, in float32, and go on from their checkpoint."""
    folder = Path(mkdtemp())
    one = stepped(command_line(folder / "one", visible()[:1]))
    run = command_line(folder / "two", visible())
    two = stepped(run)
    same = equal_lengths(one[0], two[0])
    norm = abs(two[0].get("grad/norm", 0.0) / one[0].get("grad/norm", 1.0) - 1)
    half_way(run, 4)
    again = stepped(command_line(folder / "two", visible(), "--resume"))
    resumed = equal_lengths(two[2], again[2])
    wrong = ["other samples than one process"] * (same < 0.97) + ["another gradient"] * (not norm < 0.02)
    wrong += ["other samples after resuming"] * (resumed < 0.97) + ["steps are missing"] * (len(again) != 4)
    return {"equal samples": same, "gradient norm": norm, "equal after resuming": resumed}, wrong


def tensor_parallel() -> Found:
    """One engine over both GPUs, in bfloat16, with sleep: its run holds every step's mismatch to the limit."""
    run = command_line(
        Path(mkdtemp()) / "run", visible(), "dtype=bfloat16", "rollout.tensor_parallel=2", "rollout.sleep=true"
    )
    return checked(run)


def checked(run: Run) -> Found:
    records = stepped(run)
    numbers = {"steps": len(records), "mismatch mean": max(r.get("kl/rollout_trainer", 0.0) for r in records)}
    trained = sum(record["sgd/steps"] > 0 for record in records)
    return numbers, ["fewer than two updates: nothing was shown"] * (trained < 2)


def server() -> Found:
    """Trained on one GPU with a vLLM server on the other: the run ends where it samples from old weights."""
    with served(visible()[1]) as address:
        return checked(command_line(Path(mkdtemp()) / "run", visible()[:1], f"rollout.server={address}"))


@contextmanager
def served(gpu: str) -> Iterator[str]:
    """The server that docs/scale.md tells of, for the tiny model; its address."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"http://localhost:{(port := probe.getsockname()[1])}"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", sources.model_folder("tiny"),
        "--port", str(port), "--dtype", "float32", "--max-model-len", "152", "--gpu-memory-utilization", "0.35",
        "--logprobs-mode", "processed_logprobs", "--weight-transfer-config", json.dumps({"backend": "nccl"}),
    ]  # fmt: skip
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": gpu, "VLLM_SERVER_DEV_MODE": "1"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # ours, for an engine in the process
    process = subprocess.Popen(command, env=environment)
    try:
        while process.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            time.sleep(1)
        else:
            raise Or1labError(f"the server ended with {process.returncode}")
        yield address
    finally:
        process.terminate()
        process.wait(60)


CHECKS: dict[str, tuple[Callable[[], Found], int, int]] = {  # name: function, seconds it may take, GPUs it wants
    "sync float32, untied": (lambda: sync("float32", tied=False), 150, 1),
    "sync float32, tied": (lambda: sync("float32", tied=True), 150, 1),
    "sync bfloat16, untied": (lambda: sync("bfloat16", tied=False), 150, 1),
    "sync bfloat16, tied": (lambda: sync("bfloat16", tied=True), 150, 1),
    "output layer": (head, 90, 1),
    "update": (update, 300, 1),
    "memory": (planned, 120, 1),
    "sleep": (sleep, 150, 1),
    "training float32": (lambda: training("float32"), 200, 1),
    "training bfloat16": (lambda: training("bfloat16"), 200, 1),
    "two GPUs, FSDP2": (sharded, 400, 2),
    "two GPUs, tensor parallel": (tensor_parallel, 200, 2),
    "two GPUs, server": (server, 300, 2),
}
ON_CPU = ("sync float32, untied", "sync float32, tied", "output layer", "update", "training float32")
