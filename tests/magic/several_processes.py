"""The update on a stored rollout buffer in 1, 2 and 4 gloo processes: `python several_processes.py FOLDER`. Run by
test_several_processes.py; the results of rank 0 go to FOLDER/1.pt, 2.pt and 4.pt.

The processes are forked after the imports, which take longer than the work."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import or1lab  # noqa: F401  # first: it sets environment variables that torch reads

import torch  # isort: skip
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import Qwen2Config, Qwen2ForCausalLM

from or1lab.magic.head import add_response_head
from or1lab.magic.policy import Policy
from or1lab.magic.sgd import sgd_steps
from or1lab.magic.update import Row
from or1lab.recipe import Recipe, load_recipe
from or1lab.rollout.weights import named_weights

STEPS, GROUPS, MEMBERS = 3, 8, 4
RECIPE = [
    f"D_R={GROUPS}", "D_T=4", "N_reuse=2", f"gs={MEMBERS}", "clip_low=0.02", "clip_high=0.03", "beta=0.1",
    "micro_tokens=40", "old_logp=trainer",
]  # fmt: skip


class PlainPolicy(Policy):
    """Log-probs and entropies from full logits, in the model's own precision (the chunked head works in fp32)."""

    def _forward(self, model: Any, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logp = (model(input_ids=ids).logits[:, :-1] / self.tau).log_softmax(-1)
        targets = labels[:, 1:]
        chosen = logp.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        entropy = -(logp.exp() * logp).sum(-1)
        return chosen.where(targets != -100, 0), entropy.where(targets != -100, 0)


def model(seed: int, dtype: torch.dtype, tied: bool) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied, initializer_range=0.2,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).to(dtype)


def buffer(step: int, few: bool) -> tuple[list[list[Row | None]], list[bool]]:
    """Groups of long-tailed responses, some members missing, some groups rejected; `few`: one response is all."""
    g = torch.Generator().manual_seed(step)

    def tokens(n: int) -> list[int]:
        return torch.randint(0, 40, (n,), generator=g).tolist()

    groups: list[list[Row | None]] = []
    for _ in range(GROUPS):
        prompt = tokens(int(torch.randint(2, 7, (1,), generator=g)))
        lengths = torch.randn(MEMBERS, generator=g).exp().mul(8).ceil().int().clamp(1, 30).tolist()
        advantages = torch.randn(MEMBERS, generator=g).tolist()
        groups.append([Row(prompt, tokens(n), a) for n, a in zip(lengths, advantages, strict=True)])
    groups[2][1] = None
    if few:
        groups[3] = [groups[3][0], *[None] * (MEMBERS - 1)]
        return groups, [i == 3 for i in range(GROUPS)]
    return groups, [i not in (1, 5, 6) for i in range(GROUPS)]


def shard(model: Any) -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(p, DTensor) for p in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def train(kind: str, dtype: torch.dtype, recipe: Recipe, *, few: bool = False, tied: bool = False) -> dict[str, Any]:
    """Three training steps; losses, norms, statistics, the first gradient, the weights at the end."""
    accelerator = Accelerator(cpu=True)
    policy_model, reference = model(0, dtype, tied), model(1, dtype, tied)
    if dtype == torch.float32:
        add_response_head(policy_model)
        add_response_head(reference)
    reductions: list[int] = []
    wrapped: Any = policy_model
    if kind == "sharded":
        shard(policy_model)
        count_scatters(reductions)
    elif dist.get_world_size() > 1:
        wrapped = DistributedDataParallel(policy_model)
        wrapped.register_comm_hook(None, lambda _, bucket: counted(bucket, reductions))
    optimizer = torch.optim.AdamW(policy_model.parameters(), lr=1e-3)
    make = Policy if dtype == torch.float32 else PlainPolicy
    policy = make(wrapped, accelerator, reference=reference, tau=0.9)
    result: dict[str, Any] = {"loss": [], "norm": [], "output": [], "logp": [], "entropy": []}

    def optimizer_step() -> None:
        if "gradient" not in result:
            result["gradient"] = [whole(p.grad) for p in policy_model.parameters()]
        norm = whole(torch.nn.utils.clip_grad_norm_(policy_model.parameters(), 0.5))
        result["norm"].append(norm.item())
        optimizer.step()
        optimizer.zero_grad()

    for step in range(STEPS):
        groups, kept = buffer(step, few)
        shuffles = torch.Generator().manual_seed(step)
        batches = sgd_steps(
            groups, kept, policy, recipe, alpha=0.02, generator=shuffles, optimizer_step=optimizer_step
        )
        for batch in batches:
            result["loss"].append(batch.output.loss.item())
            result["output"].append([float(value) for value in vars(batch.output).values()])
            result["logp"] += batch.logp
            result["entropy"] += batch.entropy
        optimizer_step()
    result["weights"] = [whole(p) for p in policy_model.parameters()]
    # What an engine is given. accelerate knows of no FSDP on a CPU; TRL asks it.
    plugin = SimpleNamespace(fsdp_version=2) if kind == "sharded" else None
    told = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=None, fsdp_plugin=plugin), device=accelerator.device)
    result["handed over"] = {name: weight.clone() for name, weight in named_weights(policy_model, told)}
    result["reductions"] = len(reductions)
    return result


def counted(bucket: dist.GradBucket, reductions: list[int]) -> torch.futures.Future[Tensor]:
    reductions.append(bucket.index())
    average = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
    return average.get_future().then(lambda done: done.value()[0])


def count_scatters(reductions: list[int]) -> None:
    """Let each reduction of sharded gradients leave a mark."""

    def scatter(*args: Any, **kwargs: Any) -> Any:
        reductions.append(0)
        return plain(*args, **kwargs)

    plain = getattr(dist.reduce_scatter_single, "plain", dist.reduce_scatter_single)
    scatter.plain = plain
    dist.reduce_scatter_single = scatter


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    paper, released = load_recipe("tiny", RECIPE), load_recipe("tiny", [*RECIPE, "loss=released"])
    for kind in ("replicated", "sharded"):
        for dtype in (torch.float64, torch.float32):
            bits = str(dtype).removeprefix("torch.")
            yield f"{kind} {bits}", train(kind, dtype, paper)
            yield f"{kind} {bits} few", train(kind, dtype, paper, few=True)
        yield f"{kind} float32 tied", train(kind, torch.float32, paper, tied=True)
        yield f"{kind} float64 released", train(kind, torch.float64, released)


def main(rank: int, processes: int, port: int, path: str) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    results = dict(cases())
    if rank == 0:
        torch.save(results, path)
    dist.destroy_process_group()


def launch(processes: int, path: str) -> int:
    """Run all cases in that many forks of this process; the worst exit status."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        if (child := os.fork()) == 0:
            main(rank, processes, port, path)
            os._exit(0)  # a raised error has printed itself and left with 1
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(max(launch(n, f"{sys.argv[1]}/{n}.pt") for n in (1, 2, 4)))
