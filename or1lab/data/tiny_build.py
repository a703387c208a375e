"""The tiny world's base policy, from scratch: demonstrations, tokenizer, supervised training, a manifest.

The demonstrations are imperfect on purpose, so that reinforcement learning has something to find. Some choices do not
decide correctness (filler words, the order of factors, result first): they are the entropy that can collapse. Others
are of different worth: answering at once is mostly wrong; a product in one step is quick, but many products are
misremembered, most often as the same wrong number; as a repeated addition a product is long and nearly always right;
a "wait" repairs most wrong steps. So longer thinking pays, lengths have a long tail, and a policy that settles early
settles on wrong products.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from or1lab import process
from or1lab.data import tiny
from or1lab.environment import environment
from or1lab.errors import Or1labError
from or1lab.tracking import duration

FILLERS = ("so ", "now ", "then ", "next ", "well ", "ok ", "hm ", "and ")
WAIT = "wait "
WORDS = (
    "<pad>", "<end>", "<think>", "</think>", "\\boxed{", "}", "\n", *"+-*=?",
    *map(str, range(tiny.MODULUS)), WAIT, *FILLERS,
)  # fmt: skip
MANIFEST = "base.json"
BATCH = 64


@dataclass(frozen=True)
class Shares:
    """How demonstrations differ: probabilities per demonstration or per step."""

    direct: float = 0.12  # answers at once, without thinking
    thorough: float = 0.12  # demonstrations that write most products as repeated additions ...
    long_thorough: float = 0.7  # ... namely this share,
    long: float = 0.15  # and the others this one
    filler: float = 0.75  # a filler word before a step
    swapped: float = 0.4  # the operands of a sum or product exchanged
    result_first: float = 0.25  # "22=6*19" instead of "6*19=22"
    recheck: float = 0.2  # "wait" and the step again ...
    repaired: float = 0.75  # ... which repairs a wrong one in this share of cases
    hard: float = 0.4  # products that are mostly misremembered: which ones is fixed
    right_hard: float = 0.25  # a hard product in one step is right ...
    believed: float = 0.5  # ... or the one wrong number that is believed of it, else any number
    right_easy: float = 0.9  # another product in one step is right, else any number
    wrong_sum: float = 0.03  # a sum or difference goes wrong


def demonstration(prompt: str, rng: random.Random, shares: Shares = Shares()) -> str:
    """One imperfect response to a problem, without its end token."""
    value, steps = tiny.parse(prompt)
    if rng.random() < shares.direct:
        return f"<think></think>\\boxed{{{tiny.answer(prompt)}}}"
    long = shares.long_thorough if rng.random() < shares.thorough else shares.long
    lines = []
    for operator, operand in steps:
        if operator == "*" and operand > 2 and rng.random() < long:
            factor = value
            for _ in range(operand - 1):
                line, value = _step(value, "+", factor, rng, shares)
                lines.append(line)
        else:
            before = value
            line, value = _step(before, operator, operand, rng, shares)
            lines.append(line)
            if rng.random() < shares.recheck:
                right = tiny.apply(before, operator, operand)
                value = right if rng.random() < shares.repaired else value
                lines.append(WAIT + _equation(before, operator, operand, value, rng, shares))
    return f"<think>{''.join(lines)}</think>\\boxed{{{value}}}"


def _step(value: int, operator: str, operand: int, rng: random.Random, shares: Shares) -> tuple[str, int]:
    """One written step and its result, which may be wrong."""
    if operator == "*":
        result = _remembered(value, operand, rng, shares)
    else:
        wrong = rng.randrange(1, tiny.MODULUS) if rng.random() < shares.wrong_sum else 0
        result = (tiny.apply(value, operator, operand) + wrong) % tiny.MODULUS
    filler = rng.choice(FILLERS) if rng.random() < shares.filler else ""
    return filler + _equation(value, operator, operand, result, rng, shares), result


def _remembered(value: int, factor: int, rng: random.Random, shares: Shares) -> int:
    """What a demonstration takes value * factor to be without working it out."""
    right = tiny.apply(value, "*", factor)
    fact = random.Random(f"{value}*{factor}")  # what is believed of a product is the same in every demonstration
    hard, believed = fact.random() < shares.hard, (right + fact.randrange(1, tiny.MODULUS)) % tiny.MODULUS
    draw = rng.random()
    if draw < (shares.right_hard if hard else shares.right_easy):
        return right
    if hard and draw < shares.right_hard + shares.believed:
        return believed
    return rng.randrange(tiny.MODULUS)


def _equation(value: int, operator: str, operand: int, result: int, rng: random.Random, shares: Shares) -> str:
    left, right = value, operand
    if operator != "-" and rng.random() < shares.swapped:
        left, right = right, left
    term = f"{left}{operator}{right}"
    return f"{result}={term}\n" if rng.random() < shares.result_first else f"{term}={result}\n"


def make_tokenizer() -> Any:
    """Tokenizer over WORDS: a number is one token, words keep their blank.

    Raises:
        Or1labError: a text does not survive encoding and decoding.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    longest_first = "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(longest_first), "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", clean_up_tokenization_spaces=False
    )
    text = "".join(WORDS[2:])
    if tokenizer.decode(tokenizer(text)["input_ids"]) != text:
        raise Or1labError("the tiny tokenizer does not give its own text back")
    return tokenizer


def make_model(seed: int) -> Any:
    """A fresh policy of 0.8M parameters with untied embeddings.

    Llama's architecture, because transformers lets its folders bring a tokenizer of their own."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS), hidden_size=128, intermediate_size=352, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=False,
            initializer_range=0.06,  # 1 / sqrt(width) or so: the usual 0.02 is meant for wide models
            pad_token_id=WORDS.index("<pad>"), bos_token_id=None, eos_token_id=WORDS.index("<end>"),
        )  # fmt: skip
    )


def build(out: Path, *, steps: int, seed: int, threads: int, console: Console | None = None) -> dict[str, Any]:
    """Train a base policy on `steps` x 64 demonstrations and write it to `out`, with the manifest that is returned.

    Raises:
        Or1labError: `out` is not empty.
    """
    console = console or Console()
    if out.exists() and any(out.iterdir()):
        raise Or1labError(f"{out} is not empty; name a new folder with --out")
    begin = time.time()
    process.set_up(threads)
    tokenizer, model = make_tokenizer(), make_model(seed)
    loss = _train(model, tokenizer, steps, seed, console)
    import torch

    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    seconds = time.time() - begin
    manifest = {
        "command": f"or1lab tiny build --out {out.name} --steps {steps} --seed {seed} --threads {threads}",
        "seed": seed, "steps": steps, "batch": BATCH, "loss": loss, "seconds": seconds,
        "parameters": model.num_parameters(), "shares": asdict(Shares()),
        "packages": environment()["packages"], **measure(out),
    }  # fmt: skip
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    console.print(f"wrote {out}: accuracy {manifest['accuracy']:.3f}, entropy {manifest['entropy']:.3f} nats a token")
    return manifest


def _train(model: Any, tokenizer: Any, steps: int, seed: int, console: Console) -> float:
    """Supervised training on fresh demonstrations; the mean loss of the last tenth."""
    from datasets import Dataset
    from torch.nn.functional import cross_entropy
    from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    rng = random.Random(f"demonstrations/{seed}")
    rows = []
    for prompt in islice(tiny.training_prompts(seed), steps * BATCH):
        question = tokenizer(prompt)["input_ids"]
        response = tokenizer(demonstration(prompt, rng))["input_ids"] + [tokenizer.eos_token_id]
        rows.append({"input_ids": question + response, "labels": [-100] * len(question) + response})
    batch_tokens = BATCH * sum(len(row["labels"]) for row in rows) / len(rows)

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        # A fixed denominator: with each batch's own, the tokens of short responses would weigh more.
        total = cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        return total / batch_tokens

    begin = time.monotonic()

    class Lines(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            logs = kwargs["logs"]
            if "loss" in logs:
                left = duration((time.monotonic() - begin) / state.global_step * (steps - state.global_step))
                console.print(f"step {state.global_step}/{steps}, loss {logs['loss']:.3f}, {left} left")

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, seed=seed, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=2e-3,
            lr_scheduler_type="cosine", warmup_steps=min(100, steps // 10), weight_decay=0.01, adam_beta2=0.99,
            train_sampling_strategy="sequential", logging_steps=max(1, steps // 10), save_strategy="no",
            report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=Dataset.from_list(_grouped(rows, rng)), compute_loss_func=loss,
            data_collator=DataCollatorForSeq2Seq(tokenizer), callbacks=[Lines()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]


def _grouped(rows: list[dict[str, list[int]]], rng: random.Random) -> list[dict[str, list[int]]]:
    """The rows in batches of similar length, so that little is padding; the batches in random order."""
    ordered = []
    for start in range(0, len(rows), 16 * BATCH):
        pool = sorted(rows[start : start + 16 * BATCH], key=lambda row: len(row["labels"]))
        batches = [pool[first : first + BATCH] for first in range(0, len(pool), BATCH)]
        rng.shuffle(batches)
        ordered += [row for batch in batches for row in batch]
    return ordered


def measure(folder: Path) -> dict[str, Any]:
    """What a base policy does at temperature 1 on 512 test problems x 4: accuracy, entropy, lengths, and its hash."""
    from or1lab.evaluate import evaluate_policy
    from or1lab.recipe import parse_recipe
    from or1lab.rewards import get_reward
    from or1lab.sources import load_problems, load_tokenizer, weights_hash
    from or1lab.train import open_engine

    recipe = parse_recipe(
        {"name": "measure", "model": str(folder), "T": 400, "stages": [{"steps": 1}], "data": {"prompt_limit": 24}}
    )
    tokenizer = load_tokenizer(str(folder))
    values, frame = evaluate_policy(
        open_engine(recipe), tokenizer, load_problems(recipe.data, "test", tokenizer), get_reward("tiny"),
        k=4, tau=1.0, T=recipe.T, seed=0, step="measure",
    )  # fmt: skip
    lengths = frame["length"]
    steps = frame["problem_id"].str.removeprefix("tiny-").str.count(r"[-+*]")
    return {
        "hash": weights_hash(str(folder)),
        "accuracy": values["eval/accuracy"],
        "entropy": values["eval/entropy"],
        "length": {"mean": float(lengths.mean()), "max": int(lengths.max())}
        | {f"q{q}": float(lengths.quantile(q / 100)) for q in (50, 60, 90, 95, 97, 99)},
        "accuracy_by_steps": frame.groupby(steps)["correct"].mean().to_dict(),
    }
