"""The update phase, ours against stock TRL on the same rollouts: python -m benchmarks.update [--json]

From rewards to optimizer step, without generation. Cases: the tiny model with 40% of the groups rejected, the same with
none, the smol model (135M) with 40%. Stock is the fastest of four micro-batch sizes, chosen in a first pass; then
both run in alternation, and the median of each round's ratio counts. The tiny cases also say how much of plain matrix
multiplication's speed the update reaches.
"""

from __future__ import annotations

import argparse
import gc
from statistics import median
from typing import Any

from benchmarks import batch as rollouts
from benchmarks.flops import matmul_flops_per_second, reached, update_flops
from benchmarks.ours import Ours, recipe_for
from benchmarks.stock import Stock
from benchmarks.timing import add_output_options, alternate, deliver, print_ratios, ratio
from or1lab import process

CASES = {"tiny": ("tiny", 0.4), "tiny_no_rejection": ("tiny", 0.0), "smol": ("smol", 0.4)}
MICRO_BATCHES = {"tiny": (8, 16, 32, 64), "smol": (8, 16)}  # stock's activations of 64 smol rows are above 20 GB


def compare(case: str, rounds: int, micro_tokens: int | None) -> dict[str, Any]:
    """One case: the ratio, the stock micro-batch that was fastest, and the share of plain matmul's speed."""
    size, rejected = CASES[case]
    _, tokenizer = rollouts.load(size)
    batch = rollouts.batch_for(size, tokenizer, rejected=rejected)
    tries = {"rounds": 2, "warm_up": 1} if size == "tiny" else {"rounds": 1, "warm_up": 0}  # smol: a minute each
    first_pass = {}
    for micro_batch in MICRO_BATCHES[size]:
        stock = Stock(rollouts.load(size)[0], tokenizer, batch, micro_batch)
        first_pass[micro_batch] = min(alternate({"stock": stock.update}, **tries)["stock"])
        del stock
        gc.collect()
    best = min(first_pass, key=lambda micro_batch: first_pass[micro_batch])
    stock = Stock(rollouts.load(size)[0], tokenizer, batch, best)
    recipe = recipe_for(batch, *([f"micro_tokens={micro_tokens}"] if micro_tokens else []))
    ours = Ours(rollouts.load(size)[0], batch, recipe)
    seconds = alternate({"stock": stock.update, "ours": ours.update}, rounds)
    result: dict[str, Any] = ratio(seconds["stock"], seconds["ours"])
    result |= {"rounds": rounds, "micro_batch": best, "first_pass": first_pass, "micro_tokens": recipe.micro_tokens}
    plain = matmul_flops_per_second(ours.model, recipe.micro_tokens)
    flops = update_flops(ours.model, ours.lengths, ours.scored)
    sentence = reached(flops, median(seconds["ours"]), plain)
    return result | {"of_plain_matmul": flops / median(seconds["ours"]) / plain, "limit": sentence}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.update", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=CASES, action="append", help="a case; may be repeated (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the tiny cases; smol takes 3 (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="of both sides (default: 2)")
    parser.add_argument("--micro-tokens", type=int, help="ours: token budget of a micro-batch (default: the recipe's)")
    add_output_options(parser)
    options = parser.parse_args()
    process.set_up(options.threads)
    results = {}
    for case in options.only or CASES:
        rounds = options.rounds if CASES[case][0] == "tiny" else min(3, options.rounds)
        results[case] = compare(case, rounds, options.micro_tokens)
        gc.collect()

    def show() -> None:
        print_ratios("update phase", results)
        for case, result in results.items():
            passes = ", ".join(f"{size}: {seconds:.2f} s" for size, seconds in result["first_pass"].items())
            print(f"{case}: {result['limit']}; stock by micro-batch, first pass: {passes}")

    deliver("update", results, options, show)


if __name__ == "__main__":
    main()
