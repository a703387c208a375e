"""The paper's figures: the data behind them, what is drawn of it, and that no two words lie on each other."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from or1lab import measured as measuring
from or1lab import paper, paper_figures, terminal
from or1lab.figures import PAPER, make_figures
from or1lab.measured import Measured
from or1lab.plots import style
from or1lab.plots.benchmarks import PANELS, SERIES
from tests.made_up import write_study

NOTHING = Measured(Path("nowhere"))


def evaluations(rows: list[list]) -> pd.DataFrame:
    """Made-up evaluations: model, step, suite, k, accuracy; 10 points wide, 100 tokens long; of the paper's suites
    with all the paper's settings but k."""
    found = []
    for model, step, suite, k, accuracy in rows:
        names = measuring.names({"model": model, "step": step})
        bounds = [accuracy, accuracy - 5.0, accuracy + 5.0]
        limit = 32768 if suite == "aime24" else 256
        found.append([*names, model, step, suite, k, 1.0, limit, 30, *bounds, 100.0, 0.0, 0.0, 0.0, 0])
    return pd.DataFrame(found, columns=measuring.EVALUATIONS)


def measured(rows: list[list]) -> Measured:
    made = Measured(Path("nowhere"))
    made.__dict__["evaluations"] = frame = evaluations(rows)
    limits = [
        [row.label, row.run, row.model, row.step, row.suite, row.k, 1.0, 30, T, row.accuracy * T / 256, 0.0, 100.0]
        for row in frame.itertuples() for T in (64, 128, 256)
    ]  # fmt: skip
    made.__dict__["limits"] = pd.DataFrame(limits, columns=measuring.LIMITS)
    return made


SOME = [
    ["skywork-or1-7b", None, "aime24", 32, 68.0], ["runs/7b/a/seed-0@100", 100, "aime24", 8, 50.0],
    ["runs/7b/a/seed-0", 300, "aime24", 8, 60.0], ["tiny", None, "tiny", 32, 45.0],
    ["tiny", None, "tiny/2-3", 32, 55.0], ["runs/demo/on-policy/seed-0@20", 20, "tiny", 32, 60.0],
    ["runs/demo/on-policy/seed-0@40", 40, "tiny", 32, 70.0], ["smol", None, "smol", 8, 9.0],
]  # fmt: skip


def drawn(figure: Figure) -> Figure:
    FigureCanvasAgg(figure).draw()
    return figure


# ------------------------------------------------------------------------------------------------- data


def test_figure_1_is_the_curve_the_released_model_and_its_peers():
    frame = paper_figures.data("figure1", NOTHING)
    eye = frame[frame["read"] == "eye"]
    told = paper.load("curves")["figure_1"]["accuracy"]
    assert len(eye) == len(told["aime24"]) + len(told["aime25"])
    assert eye["y"].max() == pytest.approx(83.8) and eye["x"].max() == 1120
    printed = frame[frame["read"] == "printed"]
    assert sorted(printed.loc[printed["x"].notna(), "y"]) == [73.3, 82.2] and set(printed["x"].dropna()) == {1000}
    assert sorted(printed.loc[printed["x"].isna(), "y"]) == [70.0, 72.9, 79.8, 81.4]


@pytest.mark.parametrize("figure", ("figure-2", "figure-3"))
def test_bars_are_the_numbers_on_the_papers_bars(figure):
    frame = paper_figures.data(figure.replace("-", ""), NOTHING)
    for row in paper.results(figure):
        bars = frame[frame["series"] == paper.names()[row["model"]]]
        assert list(bars["y"]) == [row["aime24"], row["aime25"], row["livecodebench"]]


def test_only_curves_get_panels_of_their_own_in_figure_1():
    frame = paper_figures.data("figure1", measured([*SOME, ["runs/x/y/seed-1", 5, "smol", 8, 10.0]]))
    ours = frame[frame["read"] == "ours"]
    assert set(ours["panel"]) == {"AIME24 avg@32", "tiny avg@32"}  # smol has one step only
    assert list(ours.loc[ours["panel"] == "tiny avg@32", "x"]) == [20, 40]
    assert set(ours["series"]) == {"7b/a/seed-0 (avg@8)", "demo/on-policy/seed-0"}


def test_of_a_run_the_last_step_counts_and_a_known_model_has_the_papers_name():
    frame = paper_figures.data("figure3", measured(SOME))
    ours = frame[frame["read"] == "ours"].set_index("series")
    assert set(ours.index) == {"Skywork-OR1-7B", "7b/a/seed-0, step 300 (avg@8)", "tiny",
                               "demo/on-policy/seed-0, step 40", "smol"}  # fmt: skip
    assert ours.loc["Skywork-OR1-7B", ["y", "low", "high"]].to_list() == [68.0, 63.0, 73.0]
    assert not frame["panel"].str.contains("/").any()  # bands are for the tables


def test_what_was_not_as_in_the_paper_is_said_in_the_name():
    made = measured([["qwq-32b", None, "aime24", 32, 68.0], ["smol", None, "smol", 8, 9.0]])
    made.evaluations.loc[0, ["tau", "limit", "problems"]] = [0.6, 512, 20]
    made.limits.loc[made.limits["suite"] == "aime24", "tau"] = 0.6
    names = {
        name: [one for one in paper_figures.data(name, made)["series"].unique() if one.startswith("QwQ-32B (")]
        for name in ("figure2", "figure5b", "figure8")
    }
    all_of_it = ["QwQ-32B (temperature 0.6, at most 512 tokens, 20 of 30 problems)"]
    assert names == {"figure2": all_of_it, "figure5b": all_of_it, "figure8": ["QwQ-32B (temperature 0.6)"]}


def test_figure_8_in_tokens_and_percent():
    frame = paper_figures.data("figure8", NOTHING)
    base = frame[frame["series"] == "DeepSeek-R1-Distill-Qwen-7B"]
    assert list(base["x"]) == [2048, 4096, 8192, 12288, 16384, 32768] and base["y"].iloc[-1] == pytest.approx(56.5)
    assert frame["series"].nunique() == 5
    ours = paper_figures.data("figure8", measured(SOME)).query("series == 'tiny'")
    assert list(ours["x"]) == [64, 128, 256] and list(ours["y"]) == [11.25, 22.5, 45.0]


# ------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("width", (style.WIDTH, 3.3), ids=("page", "column"))
@pytest.mark.parametrize("rows", ([], SOME), ids=("paper", "ours"))
@pytest.mark.parametrize("name", PAPER)
def test_no_words_lie_on_each_other_or_outside(name, rows, width):
    figure = drawn(PAPER[name](paper_figures.data(name, measured(rows)), width=width))
    assert figure.get_figwidth() == width and min(text.get_fontsize() for text in figure.findobj(Text)) >= 8
    whole = figure.bbox
    words = [text for panel in figure.axes for text in panel.findobj(Annotation) if text.get_text()]
    words += [text for legend in figure.legends for text in legend.get_texts()]
    for panel in figure.axes:
        assert panel.get_xlabel() or name in ("figure2", "figure3")
        assert "%" in panel.get_ylabel() or "tokens" in panel.get_ylabel()
        words += [panel.xaxis.label, panel.yaxis.label, panel._left_title]
        low, high = panel.get_xlim()
        words += [tick.label1 for tick in panel.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    if figure._supxlabel:
        words.append(figure._supxlabel)
    boxes = [(text.get_text(), text.get_window_extent()) for text in words if text.get_text()]
    for text, box in boxes:
        assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1 and box.y0 >= whole.y0 - 1, text
    for (one, a), (other, b) in combinations(boxes, 2):
        assert not a.padded(-1).overlaps(b.padded(-1)), (one, other)


def test_values_read_by_eye_are_hollow_and_ours_filled():
    figure = PAPER["figure8"](paper_figures.data("figure8", measured(SOME)))
    for panel in figure.axes:
        for line in panel.lines:
            hollow = line.get_markerfacecolor() == "white"
            eye = "stage" in line.get_label() or "Distill" in line.get_label()
            assert hollow == eye, line.get_label()
    assert "read by eye" in figure._supxlabel.get_text() and "measured here" in figure._supxlabel.get_text()


def test_the_star_stands_at_the_released_step_and_levels_are_dashed():
    figure = PAPER["figure1"](paper_figures.data("figure1", NOTHING))
    for panel, score, levels in zip(figure.axes, (82.2, 73.3), ([79.8, 81.4], [70.0, 72.9]), strict=True):
        (star,) = [line for line in panel.lines if line.get_marker() == "*"]
        assert (star.get_xdata()[0], star.get_ydata()[0]) == (1000, score)
        assert sorted(line.get_ydata()[0] for line in panel.lines if line.get_linestyle() in ("--", ":")) == levels


def test_what_we_measured_of_a_model_lies_on_its_bar():
    figure = PAPER["figure3"](paper_figures.data("figure3", measured(SOME)))
    first, own = figure.axes
    (ours,) = [made for made in first.containers if isinstance(made, ErrorbarContainer)]
    ((x,), (y,)) = ours[0].get_data()
    (bar,) = [b for b in first.patches if b.get_x() < x < b.get_x() + b.get_width()]
    assert bar.get_height() == 70.2 and y == 68.0
    assert sorted(bar.get_height() for bar in own.patches) == [9.0, 45.0, 60.0, 70.0]


def test_more_of_ours_than_there_is_room_for_is_said(tmp_path):
    rows = [[f"m{i}", None, f"suite{i % 6}", 8, 50.0] for i in range(12)]
    figure = drawn(PAPER["figure8"](paper_figures.data("figure8", measured(rows))))
    assert len(figure.axes) == 1 + PANELS
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert len([name for name in names if name.startswith("m")]) <= SERIES
    assert "the CSV has all" in figure._supxlabel.get_text()


def test_files_are_the_same_again_and_the_csv_holds_the_data(tmp_path):
    for out in ("a", "b"):
        made = make_figures(["figure5b"], tmp_path, tmp_path / out)
    assert [path.name for path in made] == [f"figure5b.{kind}" for kind in ("png", "pdf", "csv", "txt")]
    for path in made:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    data = pd.read_csv(made[2])
    assert "read by eye" in made[3].read_text()
    assert list(data["y"]) == [12600, 5400, 8800, 11100] and set(data["read"]) == {"eye"}


def test_many_figures_are_drawn_by_several_processes_and_are_the_same(tmp_path, monkeypatch):
    names = ["figure5b", "figure2"]
    one_by_one = make_figures(names, tmp_path, tmp_path / "a")
    monkeypatch.setattr(terminal, "FEW", 1)
    side_by_side = make_figures(names, tmp_path, tmp_path / "b")
    assert [path.name for path in side_by_side] == [path.name for path in one_by_one]
    assert [path.read_bytes() for path in side_by_side] == [path.read_bytes() for path in one_by_one]


def test_no_name_means_the_papers_figures_and_those_with_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "save", lambda figure, stem: [stem])
    assert {path.stem for path in make_figures([], tmp_path / "runs", tmp_path)} == set(PAPER)
    write_study(tmp_path / "runs", "kl", seeds=[100])
    assert {path.stem for path in make_figures([], tmp_path / "runs", tmp_path)} == {*PAPER, "kl"}


@pytest.mark.parametrize(
    ("model", "step", "label", "run"),
    [
        ("tiny", None, "tiny", "tiny"),
        ("org/model", None, "org/model", "org/model"),
        ("runs/demo/on/seed-0@40", 40, "demo/on/seed-0, step 40", "demo/on/seed-0"),
        ("/far/away/runs/demo/on/seed-1/", 7, "demo/on/seed-1, step 7", "demo/on/seed-1"),
    ],
)
def test_names_of_models_for_readers(model, step, label, run):
    assert measuring.names({"model": model, "step": step}) == (label, run)
