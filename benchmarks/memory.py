"""Peak memory of the update's output layer at a real vocabulary: python -m benchmarks.memory [--json]

Log-probabilities and entropy of 4,096 response tokens over 151,936 words, forward and backward, in float32 on a CPU,
three ways: full logits, TRL's fused head as TRL calls it, and ours. Each runs in a process of its own; its peak is the
growth of resident memory over what stood before (Linux: the kernel's own high-water mark), the gradient of the output
layer included. The backbone is one small layer, so that the head is what is measured.

The gradients of the three are compared, log-probabilities and entropy both in the loss: the largest difference in a
parameter relative to the largest entry of that parameter's gradient under full logits.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.timing import add_output_options, deliver

VOCABULARY, HIDDEN = 151_936, 64
ROWS, LENGTH = 32, 129  # 32 x 128 scored tokens: position t speaks of token t + 1

# (model, input_ids (B, L), labels (B, L)) -> log-probs and entropy, each (B, L-1)
Forward = Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]


def full_logits(model: Any, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The textbook: log_softmax of all logits, gather, entropy."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    all_logp = model.get_output_embeddings()(hidden).log_softmax(-1)
    logp = all_logp.gather(-1, labels[:, 1:, None]).squeeze(-1)
    return logp, -(all_logp.exp() * all_logp).sum(-1)


def trl_fused(model: Any, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """TRL's fused head, as its GRPOTrainer adds and calls it."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, temperature=1.0, outputs=("log_probs", "entropy"))
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
    return out.log_probs, out.entropy


def ours(model: Any, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The head of or1lab's update."""
    from or1lab.magic.head import add_response_head

    add_response_head(model)
    return model(input_ids=ids, labels=labels, response_tau=1.0)


FORWARDS: dict[str, Forward] = {"full logits": full_logits, "TRL fused": trl_fused, "ours": ours}


def small_model() -> Any:
    """One layer under a full vocabulary, its output layer scaled up: flat logits would leave entropy no gradient."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.weight, std=0.4)
    return model


def resident(field: str) -> int:
    """Bytes of this process: field "VmRSS" (now) or "VmHWM" (peak)."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def run(forward: Forward, ids: Tensor, weights: Tensor, model: Any) -> None:
    """Forward and backward of a loss in which each token's log-prob and entropy have their own weight."""
    logp, entropy = forward(model, ids, ids)
    (weights[0, :, : logp.shape[1]] * logp + weights[1, :, : logp.shape[1]] * entropy).sum().backward()


def measure(name: str, gradients: Path) -> tuple[int, float]:
    """Peak bytes and seconds of one way, in this process; its gradients go to a file."""
    model = small_model()
    ids = torch.randint(VOCABULARY, (ROWS, LENGTH))
    weights = torch.randn(2, ROWS, LENGTH - 1) / (ROWS * (LENGTH - 1))
    run(FORWARDS[name], ids[:1, :2], weights[:, :1], model)  # libraries' own buffers are no part of it
    model.zero_grad(set_to_none=True)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, begin = resident("VmRSS"), time.perf_counter()
    run(FORWARDS[name], ids, weights, model)
    seconds = time.perf_counter() - begin
    peak = resident("VmHWM") - before
    torch.save({key: p.grad for key, p in model.named_parameters()}, gradients)
    return peak, seconds


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Of two sets of gradients, relative to the largest entry of each parameter's gradient in `other`."""
    return max(float((one[key] - other[key]).abs().max() / other[key].abs().max()) for key in other)


def compare() -> dict[str, dict[str, float]]:
    """By way: peak in MiB, that divided by the peak of full logits, seconds, gradient difference to full logits."""
    found: dict[str, tuple[int, float]] = {}
    with TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{number}.pt" for number, name in enumerate(FORWARDS)}
        for name, file in files.items():
            command = [sys.executable, "-m", "benchmarks.memory", "--one", name, "--gradients", str(file)]
            found[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        gradients = {name: torch.load(file) for name, file in files.items()}
    return {
        name: {
            "peak_mib": peak / 2**20,
            "of_full_logits": peak / found["full logits"][0],
            "seconds": seconds,
            "gradient_difference": largest_difference(gradients[name], gradients["full logits"]),
        }
        for name, (peak, seconds) in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_output_options(parser)
    parser.add_argument("--one", choices=FORWARDS, help=argparse.SUPPRESS)  # the measuring process
    parser.add_argument("--gradients", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.gradients)))
        return
    result = compare()
    deliver("memory", result, args, lambda: show(result))


def show(result: dict[str, dict[str, float]]) -> None:
    table = Table(
        title=f"Output layer, {ROWS * (LENGTH - 1):,} tokens x {VOCABULARY:,} words, float32; "
        f"one copy of the logits alone: {4 * ROWS * (LENGTH - 1) * VOCABULARY / 2**20:,.0f} MiB",
        title_justify="left",
    )
    for column in ("", "peak, MiB", "of full logits", "s", "gradient difference"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in result.items():
        peak, share, seconds, difference = values.values()
        table.add_row(name, f"{peak:,.0f}", f"{share:.3f}", f"{seconds:.1f}", f"{difference:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
