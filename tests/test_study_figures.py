"""The figures of the studies: that every one is there, what is in their frames, and what is drawn of it."""

from __future__ import annotations

import json
import shutil
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from or1lab import captions, figures, paper, study_figures
from or1lab.claims import load_claims, study
from or1lab.errors import UsageError
from or1lab.figures import make_figures
from or1lab.measured import Measured
from or1lab.plots import study as drawing
from or1lab.run_statistics import Records, accuracy_at_limit, simulated_time
from or1lab.studies import studies
from tests.made_up import write_study

TABLE = study_figures.table()
SEEDS = [100, 101]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A seed of every study, of two of them both; runs that several share are made once."""
    root = tmp_path_factory.mktemp("runs")
    for experiment in studies():
        write_study(root, experiment.name, seeds=SEEDS if experiment.name in ("clip_higher", "alpha_prelim") else [100])
    return study_figures.Shelf(root)


@pytest.fixture(scope="module")
def frames(shelf):
    return {name: study_figures.data(name, shelf) for name in TABLE.figures}


def draw(name, frame):
    return drawing.draw(frame, TABLE.figures[name], TABLE.curves)


# ------------------------------------------------------------------------------------------------- the table


def test_every_figure_that_a_study_or_a_claim_names_is_there():
    named = {experiment.figure for experiment in studies()} | {claim.figure for claim in load_claims()}
    assert named == set(TABLE.figures)


@pytest.mark.parametrize("name", TABLE.figures)
def test_names_in_the_table_are_those_of_studies_and_of_the_paper(name):
    spec = TABLE.figures[name]
    arms = set(study(spec.study or name).arms)
    told = {series for panel in spec.panels for series, *_ in study_figures.theirs(panel.paper)}
    assert set(spec.labels) <= arms and set(spec.same) <= told
    for panel in spec.panels:
        assert panel.curve in TABLE.curves
        assert set(panel.arms) <= set(study(panel.study or spec.study or name).arms)
        assert not panel.paper or list(study_figures.theirs(panel.paper))


def test_every_curve_of_the_paper_is_beside_ours():
    places = {p.partition("/")[0] for spec in TABLE.figures.values() for panel in spec.panels for p in panel.paper}
    assert places >= set(paper.load("curves")) - {"figure_1"}


# ------------------------------------------------------------------------------------------------- frames


def test_a_stage_that_converged_early_is_drawn_where_it_ended(tmp_path):
    write_study(tmp_path, "kl", seeds=[100])
    for path in tmp_path.rglob("metrics.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        late = [one | ({"stage": 1} if one["kind"] == "step" and one["step"] > 33 else {}) for one in records]
        path.write_text("".join(json.dumps(one) + "\n" for one in late))
    switches = study_figures.data("kl", study_figures.Shelf(tmp_path)).attrs["switches"]
    assert switches and all(steps == [33] for steps in switches.values())


def test_the_frame_holds_the_metrics_of_the_runs_and_the_papers_points(shelf, frames):
    frame = frames["clip_higher"]
    run = shelf.arms("clip_higher")["clip-0.25"][101]
    one = frame.query("read == 'ours' and series == 'clip-0.25' and seed == 101")
    metrics = run.metrics
    steps = metrics[metrics["kind"] == "step"]
    assert list(one.query("panel == 'entropy'")["y"]) == list(steps["entropy/rollout"])
    accuracy = one.query("panel == 'accuracy'")
    assert list(accuracy["x"]) == list(range(0, 121, 10))
    assert accuracy["y"].iloc[-1] == metrics.loc[metrics["final"].eq(True), "eval/accuracy"].item()
    told = frame.query("read == 'eye' and series == 'clip-0.28' and panel == 'entropy'")
    assert told[["x", "y"]].values.tolist() == paper.load("curves")["figure_22"]["entropy"]["clip_high-0.28"]
    assert frame.attrs["seeds"] == dict.fromkeys(study("clip_higher").arms, 2)


def test_points_of_which_only_some_were_read(frames):
    gs = frames["diversity"].query("panel == 'entropy-2' and read == 'eye'")
    assert dict(zip(gs.query("x == 2000")["series"], gs.query("x == 2000")["y"], strict=True)) == {
        "D_R-64": 0.43, "gs-8": 0.49, "gs-4": 0.57,
    }  # fmt: skip
    before = frames["masks"].query("panel == 'truncated' and series == 'before' and read == 'eye'")
    assert before[["x", "y"]].values.tolist() == [[0, 0.4], [440, 0.54]]


def test_axes_other_than_steps(shelf, frames):
    run = shelf.arms("multi_stage")["multi-stage"][100]
    measured = shelf.measured(run)
    one = frames["multi_stage"].query("read == 'ours' and series == 'multi-stage' and seed == 100")
    tokens = one.query("panel == 'by_tokens'")["x"].to_numpy()
    assert tokens[0] == 0 and tokens[-1] == pytest.approx(measured.steps["tokens/generated"].sum() / 1e6)
    limits = one.query("panel == 'limits'").set_index("x")["y"]
    assert {34, 80, 128} <= set(limits.index) and limits.is_monotonic_increasing
    right = measured.samples["correct"] & (measured.samples["length"] <= 34)
    assert limits[34] == pytest.approx(right.mean()) == accuracy_at_limit(Records.of(run), 34)
    assert frames["multi_stage"].attrs["switches"]["limits"] == [40]
    switches = frames["filters"].attrs["switches"]
    assert switches["accuracy-1"] == [] and switches["accuracy-3"] == [60]
    simulated = frames["resources"].query("panel == 'simulated-1' and series == 'D_R-16' and seed == 100")["x"]
    quick = shelf.measured(shelf.arms("resources")["D_R-16"][100])
    assert simulated.iloc[-1] == pytest.approx(simulated_time(quick)[-1] / 1e3)


def test_every_curve_of_the_paper_that_a_figure_names_is_there():
    for name, spec in study_figures.table().figures.items():
        for panel in spec.panels:
            for place in panel.paper:
                assert list(study_figures.theirs((place,))), f"{name}: {place}"
    with pytest.raises(UsageError, match="no curve figure_16/entropy '4-64-16-1'"):
        list(study_figures.theirs(("figure_16/entropy/4-64-16-1",)))


def test_kl_is_drawn_only_where_there_is_a_reference(frames):
    ours = frames["kl"].query("panel == 'kl' and read == 'ours'").groupby("series")["step"]
    assert ours.max()["none"] == ours.min()["none"] + 39 < ours.max()["kl"] == 120  # 40 steps of stage 1, then none


def test_the_law_is_found_where_it_holds():
    entropy = np.linspace(0.1, 0.6, 9)
    fitted = study_figures.law(entropy, 0.9 - 0.3 * np.exp(entropy))
    assert fitted(0.3) == pytest.approx(0.9 - 0.3 * np.exp(0.3))
    assert study_figures.law(np.ones(3), np.array([1.0, 2, 3]))(0.5) == pytest.approx(2)


def test_all_arms_are_compared_at_the_same_limits(frames):
    for name in ("multi_stage", "masks"):
        ours = frames[name].query("panel == 'limits' and read == 'ours'")
        limits = {tuple(run["x"]) for _, run in ours.groupby(["series", "seed"])}
        assert len(limits) == 1 and set(ours["series"]) == set(study(name).arms)


def test_arms_that_lie_on_each_other_are_named(tmp_path):
    write_study(tmp_path, "controllers", seeds=[100])
    arms = study_figures.Shelf(tmp_path).arms("controllers")
    printed, released, _ = (arms[arm][100].folder for arm in ("paper", "released", "trl"))
    assert not study_figures.data("controllers", study_figures.Shelf(tmp_path)).attrs["notes"]
    shutil.copy(printed / "metrics.jsonl", released / "metrics.jsonl")
    frame = study_figures.data("controllers", study_figures.Shelf(tmp_path))
    (told,) = frame.attrs["notes"]
    assert told.startswith("Seed by seed the same") and told.endswith("never acted: as printed (eq. 3.2); as released.")
    assert told in draw("controllers", frame)._supxlabel.get_text().replace("\n", " ")


def test_a_forecast_far_below_every_accuracy_stands_at_the_edge(shelf, monkeypatch):
    far = iter([(-15.0, 0.4)])
    monkeypatch.setattr(study_figures, "forecast", lambda run: next(far, (0.7, 0.8)))
    frame = study_figures.data("law", shelf)
    assert frame["x"].min() == -15 and frame.attrs["notes"] == ["Forecasts of less than -0.25 (1) stand at the edge."]
    *_, below = draw("law", frame).axes
    assert min(line.get_xdata().min() for line in below.lines if line.get_marker() != "None") == -0.25


def test_forecasts_are_of_every_run(shelf, frames):
    told = frames["law"].query("panel == 'forecast'")
    assert len(told) == len(shelf.by_recipe) and set(told["series"]) == set(study_figures.KINDS)
    said = captions.caption("law", frames["law"], Measured(shelf.folder))
    assert f"the {len(told)} runs of all studies in the last;" in said and captions.NO_INTERVAL not in said
    other = captions.caption("clip_higher", frames["clip_higher"], Measured(shelf.folder))
    assert "of all studies" not in other and captions.NO_INTERVAL in other


def test_runs_of_another_study_count_those_of_another_world_do_not(tmp_path):
    write_study(tmp_path, "sgd_steps", seeds=[100])
    assert study_figures.Shelf(tmp_path).arms("on_off_policy").keys() == {"1-64-64-1", "2-64-32-1", "4-64-16-1"}
    write_study(tmp_path, "kl", seeds=[100], world_hash="another")
    shelf = study_figures.Shelf(tmp_path)
    assert "kl" not in study_figures.with_runs(shelf) and "sgd_steps" in study_figures.with_runs(shelf)
    with pytest.raises(UsageError, match="or1lab sweep kl"):
        study_figures.data("kl", shelf)


def test_a_tier_has_its_own_runs_and_words(tmp_path):
    write_study(tmp_path, "alpha_prelim", seeds=[100])
    write_study(tmp_path, "alpha_prelim", seeds=[101], tier="7b", world_hash=None)
    tiny, real = study_figures.Shelf(tmp_path), study_figures.Shelf(tmp_path, "7b")
    assert tiny.arms("alpha_prelim")["alpha-1e-3"].keys() == {100} and len(list(tiny.everything())) == 2
    assert real.arms("alpha_prelim")["alpha-1e-3"].keys() == {101} and len(list(real.everything())) == 2
    assert max(study_figures.data("alpha_prelim", real).query("read == 'ours'")["step"]) == 1000
    spec = TABLE.figures["fixed_alpha"]
    assert "20 times" in spec.at("tiny").note and "20 times" not in spec.at("7b").note
    assert TABLE.figures["diversity"].at("7b").labels["D_R-32"] == "D_R = 32"
    with pytest.raises(UsageError, match="or1lab sweep kl --tier 7b"):
        study_figures.data("kl", real)


@pytest.mark.parametrize("name", TABLE.figures)
def test_no_word_of_the_tiny_world_is_left_at_a_tier_of_real_models(name):
    spec = TABLE.figures[name].at("7b")
    assert not [text for text in (*spec.labels.values(), spec.note) if "ours" in text.lower() and "paper" not in text]
    assert set(spec.labels) <= set(study(spec.study or name).arms) and "times ours" not in spec.note


# ------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("name", TABLE.figures)
def test_no_words_lie_on_each_other_or_outside(name, frames):
    figure = draw(name, frames[name])
    FigureCanvasAgg(figure).draw()
    words = [text for legend in figure.legends for text in legend.get_texts()] + [figure._supxlabel]
    for panel in figure.axes:
        assert panel.get_ylabel() and (panel.get_xlabel() or panel.patches)
        words += [panel.xaxis.label, panel.yaxis.label, panel._left_title, *panel.findobj(Annotation)]
        for axis, (low, high) in ((panel.xaxis, panel.get_xlim()), (panel.yaxis, panel.get_ylim())):
            ticks = axis.get_major_ticks()
            words += [tick.label1 for tick in ticks if low - 1e-9 <= tick.get_loc() <= high + 1e-9]
    boxes = [(text.get_text(), text.get_window_extent()) for text in words if text.get_text()]
    for text, box in boxes:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text
    for (one, a), (other, b) in combinations(boxes, 2):
        assert not a.padded(-1).overlaps(b.padded(-1)), (one, other)


def test_the_papers_curves_are_hollow_and_in_panels_of_their_own(frames):
    figure = draw("clip_higher", frames["clip_higher"])
    theirs, ours, *_ = figure.axes
    assert theirs.get_title("left") == "Paper, Figure 22" and ours.get_title("left") == "Ours"
    assert {line.get_markerfacecolor() for line in theirs.lines} == {"white"} and len(theirs.lines) == 4
    assert len([line for line in ours.lines if line.get_linewidth() > 1]) == 4
    assert len([line for line in ours.lines if line.get_linewidth() < 1]) == 4 * len(SEEDS)
    assert [line.get_color() for line in theirs.lines] == [
        line.get_color() for line in ours.lines if line.get_linewidth() > 1
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "upper clip 0.20 (n = 2)", "0.25 (n = 2)", "0.265 (n = 2)", "0.28 (n = 2)",
    ]  # fmt: skip
    assert "read by eye" in figure._supxlabel.get_text()


def test_a_mean_is_drawn_as_far_as_all_runs_reach(frames):
    frame = frames["alpha_prelim"]
    short = frame[(frame["seed"] != 101) | (frame["step"] <= 60) | (frame["series"] != "alpha-1e-3")]
    short.attrs = frame.attrs
    _, ours, *_ = draw("alpha_prelim", short).axes
    first, second = [line for line in ours.lines if line.get_linewidth() > 1]
    assert first.get_xdata()[-1] == 60 and second.get_xdata()[-1] == 120
    at = frame.query("panel == 'entropy' and series == 'alpha-1e-3' and step == 60 and read == 'ours'")
    assert first.get_ydata()[-1] == pytest.approx(at["y"].mean())


def test_files_are_the_same_again_and_the_csv_holds_the_data(shelf, frames, tmp_path):
    written = make_figures(["alpha_prelim"], shelf.folder, tmp_path / "a")
    again = make_figures(["alpha_prelim"], shelf.folder, tmp_path / "b")
    assert [path.name for path in written] == [f"alpha_prelim.{kind}" for kind in ("png", "pdf", "csv", "txt")]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
    caption = " ".join(written[3].read_text().split())
    assert caption.startswith("Two constant entropy coefficients. Does the run whose entropy collapses faster")
    assert "n = 2 runs of each arm (α = 1e-3 (ours 0.02); α = 5e-3 (ours 0.1))" in caption
    assert "the paper's Figure" in caption and "no interval is drawn" in caption
    assert "Tier tiny; D_R = 16, gs = 8" in caption and caption.endswith("arms differ in alpha.")
    data = pd.read_csv(written[2])
    assert list(data.columns) == study_figures.COLUMNS and len(data) == len(frames["alpha_prelim"])


def test_a_narrow_figure_has_a_panel_a_row_and_letters_of_the_same_size(frames):
    wide = draw("alpha_prelim", frames["alpha_prelim"])
    narrow = drawing.draw(frames["alpha_prelim"], TABLE.figures["alpha_prelim"], TABLE.curves, width=3.3)
    FigureCanvasAgg(narrow).draw()
    assert len(narrow.axes) == len(wide.axes) and narrow.get_figwidth() == 3.3
    assert len({axes.get_position().y0 for axes in narrow.axes}) == len(narrow.axes)
    for text in (*narrow.legends[0].get_texts(), narrow._supxlabel, *(axes.yaxis.label for axes in narrow.axes)):
        box = text.get_window_extent()
        assert text.get_fontsize() >= 8 and box.x0 >= -1 and box.x1 <= narrow.bbox.x1 + 1, text.get_text()


def test_every_figure_is_listed_with_what_it_shows_and_its_runs(shelf):
    listed = {name: (shows, runs) for name, shows, runs in figures.listed(shelf.folder)}
    assert {"demo", "figure1", *TABLE.figures} <= set(listed) and all(shows for shows, _ in listed.values())
    assert listed["clip_higher"] == (study("clip_higher").title, "8 of 20") and listed["figure1"][1] == ""
