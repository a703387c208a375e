"""From run folders to frames, figures and tables. The runs are made up: their numbers are known."""

from __future__ import annotations

import io
import shlex
import shutil

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from or1lab import figures, results, stats
from or1lab.claims import study
from or1lab.errors import UsageError
from or1lab.experiment import Outcome, expand
from or1lab.figures import make_figures
from or1lab.measured import Measured
from or1lab.plots import card, style
from or1lab.results import Shelf
from or1lab.store import Run
from or1lab.sweep_view import print_outcome
from or1lab.tables import _row, contrast, make_tables
from tests.made_up import HASHES

ARMS = {"on-policy": (0.7, 0.5), "off-policy": (0.6, 0.25)}  # arm -> accuracy, entropy
STEPS = 40


def made_up(root, arm: str, seed: int, *, status: str = "finished", **manifest) -> Run:
    """A run of the demo whose entropy halves its distance to a level; seeds differ by a known amount."""
    accuracy, level = ARMS[arm]
    (job,) = [job for job in expand(study("demo"), [seed], root) if job.arm == arm]
    told = {"experiment": "demo", "arm": arm} | HASHES | manifest
    run = Run.create(job.folder, recipe=job.recipe.resolved(), extra=told)
    run.log("eval", step=0, final=False, **{"eval/accuracy": 0.4})
    for step in range(1, STEPS + 1):
        values = {"entropy/rollout": level * (1 + 0.02 * seed) * (1 + 0.5**step), "tokens/generated": 1000}
        run.log("step", step=step, **values, **{"reward/mean": 0.4 + 0.01 * step})
    run.log("eval", step=STEPS // 2, final=False, **{"eval/accuracy": accuracy + 0.05})
    run.log("eval", step=STEPS, final=True, **{"eval/accuracy": accuracy + 0.01 * seed})
    run.update_manifest(status=status, seconds=100.0 + seed)
    run.close()
    return run


@pytest.fixture
def runs(tmp_path):
    for arm in ARMS:
        for seed in (0, 1, 2):
            made_up(tmp_path, arm, seed)
    return tmp_path


def summaries(runs) -> pd.DataFrame:
    return results.summaries(Shelf(runs).some("demo"))


def test_only_finished_runs_count_and_arms_stand_as_in_the_study(runs):
    made_up(runs, "on-policy", 3, status="failed")
    assert {arm: list(own) for arm, own in Shelf(runs).arms("demo").items()} == dict.fromkeys(ARMS, [0, 1, 2])


def test_seeds_that_a_study_was_swept_with_besides_its_own_count_too(runs):
    made_up(runs, "off-policy", 7)
    assert {arm: list(own) for arm, own in Shelf(runs).arms("demo").items()} == {
        "on-policy": [0, 1, 2], "off-policy": [0, 1, 2, 7],
    }  # fmt: skip


def test_a_copy_of_a_run_counts_once(runs):
    shutil.copytree(runs / "demo" / "on-policy" / "seed-0", runs / "again")
    assert len(Shelf(runs).arms("demo")["on-policy"]) == 3


def test_a_run_whose_recipe_the_study_does_not_name_is_none_of_it(runs):
    folder = runs / "demo" / "on-policy" / "seed-0"
    recipe = Run.open(folder).manifest["recipe"] | {"lr": 0.5}
    shutil.rmtree(folder)
    Run.create(folder, recipe=recipe, extra={"experiment": "demo", "arm": "on-policy"} | HASHES).close()
    assert list(Shelf(runs).arms("demo")["on-policy"]) == [1, 2]


def test_runs_of_different_base_policies_are_not_compared(runs):
    Run.open(runs / "demo" / "on-policy" / "seed-0").update_manifest(model_hash="another")
    with pytest.raises(UsageError, match="different model_hash"):
        Shelf(runs).arms("demo")


def test_summaries_are_the_numbers_of_the_runs(runs):
    frame = summaries(runs)
    off = frame[frame["arm"] == "off-policy"].set_index("seed")
    assert list(off["n_sgd"]) == [8, 8, 8]
    assert off.loc[2, "final_accuracy"] == pytest.approx(0.62)
    assert off.loc[2, "peak_accuracy"] == pytest.approx(0.65)
    last = [0.25 * 1.04 * (1 + 0.5**step) for step in range(36, 41)]  # the mean of the last five steps
    assert off.loc[2, "final_entropy"] == pytest.approx(np.mean(last))
    assert off.loc[0, "tokens"] == 40_000 and off.loc[1, "seconds"] == 101.0


def test_the_table_and_its_line_are_what_the_statistics_say(runs):
    ((path, text),) = make_tables(["demo"], runs, runs / "out").items()
    assert path.read_text().strip() == text.strip()
    frame = summaries(runs)
    on, off = (frame[frame["arm"] == arm] for arm in ARMS)
    accuracy = stats.welch(off["final_accuracy"], on["final_accuracy"])
    line = contrast(frame, "on-policy", "off-policy")
    assert line in text and "not the ledger" in line
    assert f"final accuracy \N{MINUS SIGN}{-accuracy.estimate:.3f} [" in line
    assert "a factor of 0.50" in line
    assert "| on-policy, N_SGD = 1  |" in text and "0.710 [0.685, 0.735]" in text


def test_arms_that_are_the_same_runs_are_not_compared(runs):
    frame = summaries(runs)
    same = frame[frame["arm"] == "on-policy"].assign(arm="off-policy", label="another", seconds=7.0)
    both = pd.concat([frame[frame["arm"] == "on-policy"], same])
    assert "seed by seed the same numbers" in contrast(both, "on-policy", "off-policy")
    assert "seed by seed" not in contrast(both.assign(tokens=range(6)), "on-policy", "off-policy")


def test_where_there_can_be_no_interval_the_table_says_why(runs):
    """A run that has collapsed to an entropy of 0, and one of whose responses none was judged."""
    frame = summaries(runs)
    off = frame["arm"] == "off-policy"
    collapsed = frame.assign(final_entropy=frame["final_entropy"].mask(off, 0.0))
    line = contrast(collapsed, "on-policy", "off-policy")
    assert "log ratio of final entropy (means 0.000 and 0.5" in line and "[no interval: 0 has no logarithm]" in line
    assert contrast(frame, "on-policy", "off-policy").partition(";")[0] == line.partition(";")[0]
    unjudged = frame.assign(final_accuracy=frame["final_accuracy"].mask(off & (frame["seed"] == 0)))
    line = contrast(unjudged, "on-policy", "off-policy")
    assert "and 0.710) [no interval: not a number in every run]" in line and "a factor of 0.50" in line
    assert _row(collapsed[off])["final entropy (nats)"] == "0.000 [no interval: 0 has no logarithm]"
    assert _row(unjudged[off])["final accuracy"].endswith(" [no interval: not a number in every run]")


def test_a_single_run_has_no_interval_and_says_so(tmp_path):
    for arm in ARMS:
        made_up(tmp_path, arm, 0)
    ((_, text),) = make_tables(["demo"], tmp_path, tmp_path / "out").items()
    assert "needs two finished runs" in text and "nan" not in text


def test_figures_hold_the_data_of_the_runs(runs):
    written = make_figures(["demo"], runs, runs / "out")
    assert [path.name for path in written] == ["demo.png", "demo.pdf", "demo.csv", "demo.txt"]
    data = pd.read_csv(runs / "out" / "demo.csv")
    assert len(data) == 6 * (40 + 3) and set(data["series"]) == set(ARMS)
    picture = matplotlib.image.imread(runs / "out" / "demo.png")
    assert picture.shape[1] > 1000 and picture.std() > 0.05
    again = make_figures(["demo"], runs, runs / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_the_demo_figure_draws_every_run_thin_and_the_mean_thick(runs):
    data, draw = figures.prepared("demo", Measured(runs), Shelf(runs))
    figure = draw(data)
    for panel in figure.axes:
        widths = [line.get_linewidth() for line in panel.lines]
        assert len(widths) == 2 * (3 + 1) and sorted(set(widths)) == [0.6, 1.8]
        assert panel.get_xlabel() and panel.get_ylabel()
    assert "nats" in figure.axes[0].get_ylabel()
    thick = [line for line in figure.axes[1].lines if line.get_linewidth() > 1]
    assert thick[0].get_ydata()[-1] == pytest.approx(0.71) and thick[1].get_ydata()[-1] == pytest.approx(0.61)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == 2 and all("n = 3" in text for text in texts)


def test_arms_without_a_run_are_named_in_picture_and_caption(tmp_path):
    made_up(tmp_path, "on-policy", 0)
    make_figures(["demo"], tmp_path, tmp_path / "out")
    told = "Not run yet: off-policy."
    assert told in (tmp_path / "out" / "demo.txt").read_text(encoding="utf-8").replace("\n", " ")
    data, draw = figures.prepared("demo", Measured(tmp_path), Shelf(tmp_path))
    assert told in draw(data)._supxlabel.get_text()


def test_the_card_draws_whatever_is_there_yet(runs):
    whole = Shelf(runs).arms("demo")["on-policy"][0].metrics
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


def test_the_command_for_the_figure_can_be_typed_whatever_the_folder_is_called(tmp_path):
    root = tmp_path / "my [own] runs"
    for arm in ARMS:
        for seed in (0, 1, 2):
            made_up(root, arm, seed)
    text = io.StringIO()
    outcomes = [Outcome(job, "finished") for job in expand(study("demo"), out=root)]
    print_outcome(Console(file=text, width=60), outcomes, root / "demo", "")
    command = text.getvalue().splitlines()[-1].removeprefix("figure: ")
    assert shlex.split(command) == ["or1lab", "figures", "demo", "--results", str(root)]
