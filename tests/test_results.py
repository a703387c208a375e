"""From run folders to frames, figures and tables. The runs are made up: their numbers are known."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from or1lab import results, stats
from or1lab.errors import UsageError
from or1lab.figures import make_figures
from or1lab.plots import card, entropy, style
from or1lab.recipe import load_recipe
from or1lab.store import Run
from or1lab.tables import contrast, make_tables

ARMS = {"on-policy": ("D_T=16", 0.7, 0.5), "off-policy": ("D_T=2", 0.6, 0.25)}  # arm -> D_T, accuracy, entropy


def made_up(root, arm: str, seed: int, *, status: str = "finished", steps: int = 8) -> Run:
    """A run whose entropy halves its distance to a level; seeds differ by a known amount."""
    D_T, accuracy, level = ARMS[arm]
    recipe = load_recipe("tiny", [D_T, f"seed={seed}", f"stages.0.steps={steps}"])
    run = Run.create(
        root / "demo" / arm / f"seed-{seed}", recipe=recipe.resolved(), extra={"experiment": "demo", "arm": arm}
    )
    run.log("eval", step=0, final=False, **{"eval/accuracy": 0.4})
    for step in range(1, steps + 1):
        values = {"entropy/rollout": level * (1 + 0.02 * seed) * (1 + 0.5**step), "tokens/generated": 1000}
        run.log("step", step=step, **values, **{"reward/mean": 0.4 + 0.01 * step})
    run.log("eval", step=steps // 2, final=False, **{"eval/accuracy": accuracy + 0.05})
    run.log("eval", step=steps, final=True, **{"eval/accuracy": accuracy + 0.01 * seed})
    run.update_manifest(status=status, seconds=100.0 + seed)
    run.close()
    return run


@pytest.fixture
def runs(tmp_path):
    for arm in ARMS:
        for seed in (0, 1, 2):
            made_up(tmp_path, arm, seed)
    return tmp_path


def test_only_finished_runs_count_and_the_baseline_comes_first(runs):
    made_up(runs, "on-policy", 3, status="failed")
    found = results.finished_runs(runs, "demo")
    assert [(run.manifest["arm"], run.manifest["seed"]) for run in found] == [
        *(("on-policy", seed) for seed in (0, 1, 2)), *(("off-policy", seed) for seed in (0, 1, 2)),
    ]  # fmt: skip


def test_a_run_found_twice_is_an_error(runs):
    copy = runs / "again"
    (runs / "demo" / "on-policy" / "seed-0").rename(copy)
    made_up(runs, "on-policy", 0)
    with pytest.raises(UsageError, match="same arm and seed"):
        results.finished_runs(runs, "demo")


def test_runs_of_different_base_policies_are_not_compared(runs):
    Run.open(runs / "demo" / "on-policy" / "seed-0").update_manifest(model_hash="another")
    with pytest.raises(UsageError, match="different model_hash"):
        results.finished_runs(runs, "demo")


def test_summaries_are_the_numbers_of_the_runs(runs):
    frame = results.summaries(results.finished_runs(runs, "demo"))
    off = frame[frame["arm"] == "off-policy"].set_index("seed")
    assert list(off["n_sgd"]) == [8, 8, 8]
    assert off.loc[2, "final_accuracy"] == pytest.approx(0.62)
    assert off.loc[2, "peak_accuracy"] == pytest.approx(0.65)
    last = [0.25 * 1.04 * (1 + 0.5**step) for step in range(4, 9)]  # the mean of the last five steps
    assert off.loc[2, "final_entropy"] == pytest.approx(np.mean(last))
    assert off.loc[0, "tokens"] == 8000 and off.loc[1, "seconds"] == 101.0


def test_the_table_and_its_line_are_what_the_statistics_say(runs):
    ((path, text),) = make_tables(["demo"], runs, runs / "out").items()
    assert path.read_text().strip() == text.strip()
    frame = results.summaries(results.finished_runs(runs, "demo"))
    on, off = (frame[frame["arm"] == arm] for arm in ARMS)
    accuracy = stats.welch(off["final_accuracy"], on["final_accuracy"])
    line = contrast(frame, "on-policy", "off-policy")
    assert line in text and "not the ledger" in line
    assert f"final accuracy \N{MINUS SIGN}{-accuracy.estimate:.3f} [" in line
    assert "a factor of 0.50" in line
    assert "| on-policy, N_SGD = 1  |" in text and "0.710 [0.685, 0.735]" in text


def test_a_single_run_has_no_interval_and_says_so(tmp_path):
    for arm in ARMS:
        made_up(tmp_path, arm, 0)
    ((_, text),) = make_tables(["demo"], tmp_path, tmp_path / "out").items()
    assert "needs two finished runs" in text and "nan" not in text


def test_figures_hold_the_data_of_the_runs(runs):
    written = make_figures(["demo"], runs, runs / "out")
    assert [path.name for path in written] == ["demo.png", "demo.pdf", "demo.csv", "demo.txt"]
    data = pd.read_csv(runs / "out" / "demo.csv")
    assert len(data) == 6 * (8 + 3) and set(data["arm"]) == set(ARMS)
    picture = matplotlib.image.imread(runs / "out" / "demo.png")
    assert picture.shape[1] > 1000 and picture.std() > 0.05
    again = make_figures(["demo"], runs, runs / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_the_demo_figure_draws_every_run_thin_and_the_mean_thick(runs):
    figure = entropy.arms(results.curves(results.finished_runs(runs, "demo")))
    for panel in figure.axes:
        widths = [line.get_linewidth() for line in panel.lines]
        assert len(widths) == 2 * (3 + 1) and sorted(set(widths)) == [0.7, 1.8]
        assert panel.get_xlabel() and panel.get_ylabel()
    assert "nats" in figure.axes[0].get_ylabel()
    thick = [line for line in figure.axes[1].lines if line.get_linewidth() > 1]
    assert thick[0].get_ydata()[-1] == pytest.approx(0.71) and thick[1].get_ydata()[-1] == pytest.approx(0.61)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == 2 and all("n = 3" in text for text in texts)


def test_the_card_draws_whatever_is_there_yet(runs):
    whole = results.finished_runs(runs, "demo")[0].metrics
    for frame in (whole, whole.iloc[:1], whole.iloc[:0]):
        figure = card.card(frame, "a run with N_SGD = 1")
        figure.savefig(io.BytesIO())
        assert [panel.get_title(loc="left") for panel in figure.axes] == [
            "reward", "length", "groups", "entropy", "truncated", "time",
        ]  # fmt: skip


def test_colours_are_told_apart_without_colour_vision():
    """Luminance steps between the two colours used most, and a marker of its own for each."""
    rgb = [tuple(int(color.lstrip("#")[i : i + 2], 16) / 255 for i in (0, 2, 4)) for color in style.COLORS]
    luminance = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in rgb]
    assert abs(luminance[0] - luminance[1]) > 0.05
    assert len(set(style.MARKERS)) >= len(style.COLORS)
