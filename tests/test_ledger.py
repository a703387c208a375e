"""The ledger: from run folders to lines, and how often it errs where nothing, or something, is there."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from or1lab import ledger as module
from or1lab import verdicts
from or1lab.claims import COMMENTS, Claim, load_claims, load_follow_ups, study
from or1lab.cli import app
from or1lab.errors import UsageError
from or1lab.experiment import expand
from or1lab.ledger import NOT_RUN, VERDICTS, barred, effect_of, ledger, remarks, values
from or1lab.recipe import load_recipe, read_yaml, recipe_hash
from or1lab.run_statistics import Records
from tests.made_up import HASHES

CLAIM = {claim.id: claim for claim in load_claims()}
PRIMARY = [claim for claim in CLAIM.values() if claim.family == "primary"]
CHANGED = "follow_ups.yaml has changed since these runs"


def claim(name: str, **changes) -> Claim:
    return Claim.model_validate(CLAIM[name].model_dump() | changes)


def write_runs(root: Path, experiment: str, accuracy: dict[str, float], *, label: str = "", **manifest) -> None:
    """Finished runs of a study's arms whose accuracy ends where told, spread over seeds by 0.001 a seed."""
    for job in expand(study(experiment)):
        if job.arm not in accuracy:
            continue
        folder = root / (label or experiment) / job.arm / f"seed-{job.seed}"
        folder.mkdir(parents=True)
        kept = {
            "experiment": label or experiment, "arm": job.arm, "seed": job.seed, "recipe": job.recipe.resolved(),
            "recipe_hash": recipe_hash(job.recipe), "status": "finished", **HASHES,
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(kept | manifest))
        end = accuracy[job.arm] + (job.seed - 102) / 1000
        names = ("entropy/rollout", "kl/reference", "time/rollout", "time/update", "time/sync", "time/other")
        step = dict.fromkeys(names, 0.5) | {"kind": "step", "stage": 0, "length/all": [9, 8, 7, 6]}
        records = [
            *({**step, "step": k, "time/rollout": 0.5 + job.seed / 1000} for k in (1, 2, 3)),
            {"kind": "eval", "step": 0, "eval/accuracy": 0.3, "eval/entropy": 0.5},
            {"kind": "eval", "step": 3, "eval/accuracy": end, "eval/entropy": 0.4},
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (folder / "evals").mkdir()
        pd.DataFrame({"correct": [True], "final": True}).to_parquet(folder / "evals" / "step-000003-final.parquet")


ENDS = {"1-64-64-1": 0.9, "2-64-32-1": 0.85, "4-64-16-1": 0.8, "2-64-64-2": 0.8, "4-64-64-4": 0.8}


def test_a_claim_whose_runs_are_there_has_a_verdict(tmp_path):
    write_runs(tmp_path, "sgd_steps", ENDS)
    (entry,) = ledger(tmp_path, [claim("sgd-end")])
    assert entry.verdict == "holds" and entry.effect == pytest.approx(0.1) and entry.low > 0.09
    assert entry.seeds == 5 and len(entry.runs) == 10 and entry.needed is None and entry.comment == ""
    plain = entry.plain()
    assert json.loads(json.dumps(plain)) == plain and plain["tier"] == "tiny" and plain["n_seeds"] == 5
    (opposite,) = ledger(tmp_path, [claim("sgd-end", arms=["4-64-16-1", "1-64-64-1"])])
    assert opposite.verdict == "reversed" and opposite.effect == pytest.approx(-0.1)
    (less,) = ledger(tmp_path, [claim("sgd-end", arms=["4-64-16-1", "1-64-64-1"], kind="less")])
    assert less.verdict == "holds" and less.effect == pytest.approx(0.1)


def test_a_claim_is_looked_at_only_when_all_its_runs_are_there(tmp_path):
    write_runs(tmp_path, "sgd_steps", ENDS)
    run = tmp_path / "sgd_steps" / "4-64-16-1" / "seed-103" / "manifest.json"
    run.write_text(run.read_text().replace('"finished"', '"failed"'))
    (entry,) = ledger(tmp_path, [claim("sgd-end")])
    assert entry.verdict == NOT_RUN and entry.effect is None and entry.seeds == 4 and len(entry.runs) == 9
    assert entry.comment == "waits for 1 of 10 runs"


def test_claims_that_wait_keep_their_place_in_the_family(tmp_path, monkeypatch):
    """Holm's first step divides by ten from the beginning, whatever is there."""
    seen = []
    monkeypatch.setattr(module, "primary", lambda questions: seen.append(len(questions)) or verdicts.primary(questions))
    write_runs(tmp_path, "sgd_steps", ENDS)
    entries = ledger(tmp_path, PRIMARY)
    assert seen == [len(PRIMARY)] == [10]
    by_id = {entry.claim.id: entry for entry in entries}
    assert by_id["sgd-end"].verdict == "holds" and by_id["adapt-off"].verdict == NOT_RUN
    assert sum(entry.verdict != NOT_RUN for entry in entries) == 2  # sgd-collapse too


def test_a_run_is_known_by_its_recipe_whoever_made_it(tmp_path):
    """Clip-higher's arm of 0.20 and adaptive control's of none are runs of sgd_steps."""
    write_runs(tmp_path, "sgd_steps", {"4-64-16-1": 0.8}, label="elsewhere")
    write_runs(tmp_path, "clip_higher", {"clip-0.25": 0.85})
    (entry,) = ledger(tmp_path, [claim("cliphi-helps")])
    assert entry.verdict == "holds" and entry.effect == pytest.approx(0.05)


def test_runs_of_another_world_do_not_count_and_those_for_other_claims_are_told(tmp_path):
    write_runs(tmp_path / "a", "sgd_steps", ENDS, world_hash="0" * 16)
    assert ledger(tmp_path / "a", [claim("sgd-end")])[0].verdict == NOT_RUN
    write_runs(tmp_path / "b", "sgd_steps", ENDS, claims_hash="0" * 16)
    (entry,) = ledger(tmp_path / "b", [claim("sgd-end")])
    assert entry.verdict == "holds" and entry.comment == "claims.yaml has changed since these runs"


def test_a_follow_up_tells_of_its_own_runs_alone_for_other_follow_ups(tmp_path):
    """The baseline that it shares with the first studies ran before it was asked."""
    (asked,) = [follow_up for follow_up in load_follow_ups() if follow_up.id == "high-end"]
    for name, own, comment in (("now", {}, ""), ("then", {"follow_ups_hash": "0" * 16}, CHANGED)):
        write_runs(tmp_path / name, "adaptive_control", {"4-none": 0.8}, follow_ups_hash=None)
        write_runs(tmp_path / name, asked.experiment, {"adaptive": 0.85}, **own)
        (entry,) = ledger(tmp_path / name, [asked])
        assert entry.verdict == "holds" and entry.comment.partition("; ")[2] == comment


def test_runs_that_do_not_vary_decide_nothing(tmp_path):
    write_runs(tmp_path, "sgd_steps", ENDS)
    (entry,) = ledger(tmp_path, [claim("sgd-end", statistic="start_entropy", scale="log", smallest_effect=1.5)])
    assert entry.verdict == "not decided" and entry.low is None and "do not vary" in entry.comment
    assert entry.effect == pytest.approx(1)
    (entry,) = ledger(tmp_path, [claim("sgd-end", statistic="steps_to_collapse", scale="log", smallest_effect=1.5)])
    assert entry.verdict == "not decided" and entry.low is None and "in 10 of 10 runs entropy never" in entry.comment


def test_arms_that_are_the_same_runs_are_not_compared(tmp_path):
    """A controller that was never switched on: the interval between seeds is narrow, and means nothing."""
    write_runs(tmp_path, "sgd_steps", {"1-64-64-1": 0.8, "4-64-16-1": 0.8})
    (entry,) = ledger(tmp_path, [claim("sgd-end")])
    assert (entry.verdict, entry.effect, entry.low, entry.needed) == ("not decided", None, None, None)
    assert entry.comment == "seed by seed the arms are the same runs: what sets them apart never acted"


def test_a_statistic_that_is_no_number_decides_nothing(tmp_path):
    write_runs(tmp_path, "sgd_steps", ENDS)
    (entry,) = ledger(tmp_path, [claim("sgd-end", statistic="truncation")])
    assert entry.verdict == "not decided" and entry.effect is None
    assert entry.comment == "truncation is not a finite number in every run"


# ------------------------------------------------------------------------------------------------- the contrasts


def test_effects_are_turned_to_where_the_claim_is_right():
    a, b = [0.5, 0.6, 0.7], [0.2, 0.3, 0.4]
    assert effect_of(claim("sgd-end"), [a, b]).estimate == pytest.approx(0.3)
    assert effect_of(claim("mask-before"), [b, a]).estimate == pytest.approx(0.3)
    ratio = effect_of(claim("offpol-cause"), [[0.4, 0.4, 0.5], [0.2, 0.2, 0.25]])
    assert math.exp(ratio.estimate) == pytest.approx(2)
    ordered = effect_of(claim("sgd-collapse"), [[10.0, 11.0], [20.0, 22.0], [40.0, 44.0]])
    assert math.exp(ordered.estimate) == pytest.approx(4)


def falling(step: int | None, last: int = 60, **recipe) -> Records:
    """A run whose entropy falls below its target at a step, or never; with accuracy 0.5 throughout."""
    entropy = [0.5 if step is None or k < step else 0.1 for k in range(1, last + 1)]
    alpha = {"entropy/alpha": 0.0} if recipe else {}
    steps = pd.DataFrame({"step": range(1, last + 1), "entropy/rollout": entropy, "tokens/generated": 9} | alpha)
    evals = pd.DataFrame({"step": [0, last], "eval/accuracy": 0.5, "eval/length": 9.0})
    return Records(load_recipe("tiny").model_copy(update=recipe), steps, evals, pd.DataFrame)


@pytest.mark.parametrize(
    ("large", "small", "kept_from"),
    [
        ([40, 41], [10, 11], set()),
        ([None, 50], [10, 11], {"reversed", "does not hold"}),  # at least as large as it seems
        ([40, 41], [10, None], {"holds"}),  # at most
        ([None, None], [None, 20], {"holds", "reversed", "does not hold"}),
    ],
)
def test_bounds_keep_a_claim_from_verdicts_that_they_may_only_seem_to_give(large, small, kept_from):
    arms = [[falling(step) for step in steps] for steps in (large, small)]
    for kind, both in (("greater", arms), ("less", arms[::-1])):
        asked = claim("offpol-size", kind=kind, smallest_effect=1.5)
        assert barred(asked, both) == kept_from
        told = list(remarks(asked, both, values(asked, both)))
        cut = sum(step is None for step in large + small)
        assert told == [] if not cut else told[0].startswith(f"in {cut} of 4 runs entropy never came below its target")
    assert barred(claim("sgd-collapse"), [arms[1], [falling(None)], arms[0]]) == kept_from  # the middle counts nothing
    alike = claim("offpol-size", kind="equivalent", smallest_effect=1.5)
    assert barred(alike, arms) == (VERDICTS if kept_from else set())
    assert barred(claim("stage-tokens"), arms) == VERDICTS  # none of them comes to 0.7, and a length is no bound


def test_a_verdict_that_only_bounds_give_is_not_given(tmp_path):
    """Tokens to an accuracy that no run comes to: the arm that samples less would seem cheaper."""
    write_runs(tmp_path, "multi_stage", {"multi-stage": 0.5, "from-scratch": 0.6})
    for path in tmp_path.rglob("metrics.jsonl"):
        tokens = (100 if "multi-stage" in str(path) else 200) + int(path.parent.name[-1])
        records = [json.loads(line) | {"tokens/generated": tokens} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (entry,) = ledger(tmp_path, [claim("stage-cost")])
    assert entry.verdict == "not decided" and entry.low > 1.1
    assert "in 10 of 10 runs accuracy never came" in entry.comment and "keeps it from being decided" in entry.comment


def test_remarks_tell_of_control_that_never_acted_and_of_clock_times():
    silent = [falling(step, entropy="paper") for step in (50, 57)]
    other = [falling(50), falling(60)]
    asked = claim("adapt-hold", arms=["4-adaptive", "4-none"], statistic="final_entropy", kind="greater")
    told = list(remarks(asked, [silent, other], values(asked, [silent, other])))
    assert told == ["entropy control never gave a bonus in 4-adaptive"]
    acted = replace(silent[0], steps=silent[0].steps.assign(**{"entropy/alpha": 0.1}))
    arms = [[acted, silent[0]], other]
    assert list(remarks(asked, arms, values(asked, arms))) == []
    names = ("time/rollout", "time/update", "time/sync", "time/other")
    timed = [replace(falling(9), steps=falling(9).steps.assign(**dict.fromkeys(names, s))) for s in (1, 3)]
    asked, arms = claim("time-sgd"), [timed, timed[::-1]]
    (told,) = remarks(asked, arms, values(asked, arms))
    assert told == "clock times of a machine with other work: those of one arm differ by a factor of up to 3.0"


def test_control_that_never_acted_is_not_judged_by_how_well_it_keeps_to_its_target():
    silent = [falling(step, entropy="paper") for step in (50, 57)]
    acted = [replace(run, steps=run.steps.assign(**{"entropy/alpha": 0.1})) for run in silent]
    for name in ("adapt-unstable", "adapt-hold"):
        asked = claim(name)
        assert barred(asked, [silent, silent]) == barred(asked, [silent, [falling(50), falling(60)]]) == VERDICTS
        assert barred(asked, [acted, silent]) == barred(asked, [silent, acted]) == set()
        assert barred(asked, [[falling(50)], [falling(60)]]) == set()  # no control at all, none to be silent
    told = list(remarks(asked, [silent, silent[::-1]], [[0.1, 0.2], [0.2, 0.3]], True))
    assert told == [f"entropy control never gave a bonus in {', '.join(asked.arms)}, which keeps it from being decided"]


def test_remarks_tell_how_far_a_raised_clip_reached():
    asked = claim("cliphi-helps")
    runs = falling(40), falling(41)
    arms = [[replace(r, steps=r.steps.assign(**{"clip/high_frac": f})) for r in runs] for f in (0.002, 0.0001)]
    assert list(remarks(asked, arms, [[0.5, 0.6], [0.4, 0.5]])) == []  # none is raised
    arms[0] = [replace(run, recipe=run.recipe.model_copy(update={"clip_high": 0.25})) for run in arms[0]]
    (told,) = remarks(asked, arms, [[0.5, 0.6], [0.4, 0.5]])
    assert told == "the upper clip touched 0.20% of the tokens at most"


def test_comments_are_of_claims_and_stand_in_the_ledger(tmp_path):
    comments = read_yaml(COMMENTS)
    entries = {entry.claim.id: entry for entry in ledger(tmp_path)}
    assert comments and all(entries[name].comment.endswith(told) for name, told in comments.items())


def test_one_arm_is_compared_with_a_number_by_students_t():
    effect = effect_of(claim("time-rollout"), [[0.6, 0.7, 0.8, 0.7, 0.7]])
    assert effect.estimate == pytest.approx(0.2) and effect.freedom == 4
    assert effect.error == pytest.approx(np.std([0.6, 0.7, 0.8, 0.7, 0.7], ddof=1) / math.sqrt(5))
    falls = effect_of(claim("kl-pull"), [[0.5, 0.5, 0.4]])
    assert math.exp(falls.estimate) == pytest.approx(1 / (0.5 * 0.5 * 0.4) ** (1 / 3))


@pytest.mark.parametrize(
    ("short", "verdict"), [(0.801, "holds"), (0.79, "holds"), (0.779, "not decided"), (0.74, "reversed")]
)
def test_no_worse_than_is_right_while_the_bound_is_above_its_margin(short, verdict, tmp_path):
    write_runs(tmp_path, "multi_stage", {"multi-stage": short, "from-scratch": 0.8})
    (entry,) = ledger(tmp_path, [claim("stage-acc")])
    assert entry.verdict == verdict and entry.effect == pytest.approx(short - 0.8)


# ------------------------------------------------------------------------------------------- how often it errs


def test_2000_ledgers_without_effect_and_with_one():
    """A wrong holds or reversed anywhere in the family in at most 6%; three standard deviations are found in 80%. At
    assumed spreads, 0.015 in accuracy and a fifth in ratios; `benchmarks.ledger` takes those of the runs."""
    from benchmarks.ledger import made_up, number_of

    rng = np.random.default_rng(1)
    numbers = list(dict.fromkeys(map(number_of, PRIMARY)))

    def ledger_of(effect: bool) -> list[str]:
        return made_up(
            PRIMARY,
            lambda _, number: 0.2 if number[1] == "log" else 0.015,
            lambda: dict(zip(numbers, rng.normal(size=len(numbers)).tolist(), strict=True)),
            effect=effect,
        )

    wrong = [set(ledger_of(False)) & {"holds", "reversed"} for _ in range(2000)]
    assert 0.005 <= np.mean([bool(found) for found in wrong]) <= 0.06  # not for saying nothing at all
    found = np.mean([[verdict == "holds" for verdict in ledger_of(True)] for _ in range(200)], axis=0)
    assert found.min() >= 0.8


def test_the_benchmark_takes_the_spread_of_the_runs_that_are_there(tmp_path):
    from benchmarks.ledger import arms_of, measure, number_of, planted

    with pytest.raises(UsageError, match="no two finished runs of an arm"):
        measure(PRIMARY, tmp_path, 1)
    write_runs(tmp_path, "sgd_steps", {"1-64-64-1": 0.9, "4-64-16-1": 0.8})
    (one, other), spread = arms_of(CLAIM["sgd-end"]), np.std([0.1, 0.101, 0.102, 0.103, 0.104], ddof=1)
    ended = measure([CLAIM["sgd-end"], CLAIM["sgd-collapse"], CLAIM["cliphi-helps"]], tmp_path, 40)
    assert one != other and ended["runs"] == {"finished": 10, "planned": 20}
    told = ended["claims"]["sgd-end"]
    assert told["arms"]["1-64-64-1"] == {"runs": 5, "spread": pytest.approx(spread)} and told["found"]
    assert told["planted"] == pytest.approx(0.02 + spread)  # three of them would not count
    assert ended["claims"]["sgd-collapse"]["found"] is None  # censored in every run
    assert ended["claims"]["cliphi-helps"]["arms"]["clip-0.25"] == {"runs": 0, "spread": pytest.approx(spread)}
    wide = planted(CLAIM["sgd-end"], lambda arm, number: 0.03 * (number == number_of(CLAIM["sgd-end"])))
    assert wide == pytest.approx(0.09)
    assert set(ended["false_alarms"]) == {"normal", "resampled"} == set(told["found"])
    assert told["found"]["normal"]["share"] >= 0.7 and 0 <= ended["false_alarms"]["normal"]["low"] < 0.1


# --------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_a_table_and_json(tmp_path):
    write_runs(tmp_path, "sgd_steps", ENDS)
    done = CliRunner().invoke(app, ["claims", "--results", str(tmp_path), "--json"])
    claims = json.loads(done.stdout)["claims"]
    assert done.exit_code == 0 and len(claims) >= 38
    keys = {"id", "statement", "where", "family", "kind", "tier", "verdict", "effect", "low", "high",
            "smallest_effect", "n_seeds", "needed_seeds", "runs", "figure"}  # fmt: skip
    assert all(keys <= set(row) for row in claims)
    assert {row["id"]: row["verdict"] for row in claims}["sgd-end"] == "holds"
    table = CliRunner().invoke(app, ["claims", "--results", str(tmp_path)], env={"COLUMNS": "200"})
    assert table.exit_code == 0 and re.search(r"\[\+0\.\d+, \+0\.\d+\]", table.stdout) and "waits for" in table.stdout
    assert "secondary claims (exploratory)" in table.stdout and "9 follow-ups: not run 9" in table.stdout
    assert "follow-ups, asked after the first results" in table.stdout


def test_the_ledger_imports_nothing_heavy():
    code = (
        "import or1lab.ledger, or1lab.claims_view, sys; "
        "print([m for m in ('torch', 'transformers', 'trl', 'vllm') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
