"""The chapter notebooks of the study: what they show, their computed sentences, and that missing runs stop none."""

from __future__ import annotations

import io
import re

import nbformat
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from or1lab import claims_view, notebook, study_figures
from or1lab.chapters import Chapter
from or1lab.claims import load_claims, load_follow_ups, study
from or1lab.errors import UsageError
from or1lab.ledger import Entry
from or1lab.paper import load
from or1lab.plots.study import NO_RUN
from or1lab.recipe import ROOT
from or1lab.store import Run
from tests.made_up import write_study
from tests.test_notebooks import outputs, pictures

CHAPTERS = (
    "claims", "data_mixture", "multi_stage", "advantage_mask", "temperature", "kl", "entropy_dynamics", "resources",
    "beyond",
)  # fmt: skip
SCHEMATIC = {12, 15, 23, 24}  # figures of the paper that show no data
ELSEWHERE = {"benchmarks": {1, 2, 3, 5, 8}, "verifiers": {27}}  # notebooks that show figures of finished models
SHOWN = re.compile(r'chapter\.figure\("(\w+)"\)')


def cells(name: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells


def code(name: str) -> list[str]:
    return [cell.source for cell in cells(name) if cell.cell_type == "code"]


def figures_of(name: str) -> list[str]:
    return [figure for source in code(name) for figure in SHOWN.findall(source)]


def papers(figure: str) -> set[int]:
    """The figures of the paper that one of ours repeats: its curves, and what its study says."""
    table = study_figures.table()
    told = study(table.study(figure)).paper
    places = [place for panel in table.figures[figure].panels for place in panel.paper] + [told.place if told else ""]
    text = " ".join(places).replace("figure_", "Figure ")
    spans = re.findall(r"Figures? (\d+)[ab]?(?:(?:/\w+)| and (\d+)| to (\d+))?", text)
    return {int(number) for span in spans for number in span if number}


# ---------------------------------------------------------------------------------------------- what is shown


def test_every_data_figure_of_the_paper_has_its_chapter():
    shown = {n for name in CHAPTERS for figure in figures_of(name) for n in papers(figure)}
    for name, numbers in ELSEWHERE.items():
        text = " ".join(cell.source for cell in cells(name))
        told = {int(n) for n in re.findall(r"(?:Figures?|figure|,|and) ?(\d+)b?\b", text)}
        assert numbers <= told, name
        shown |= numbers
    assert shown >= set(range(1, 28)) - SCHEMATIC
    assert {f"figure_{n}" for n in shown} >= {re.sub("[ab]$", "", name) for name in load("curves")}


def test_every_figure_and_every_claim_has_one_chapter():
    shown = [figure for name in CHAPTERS for figure in figures_of(name)]
    assert sorted(shown) == sorted(study_figures.table().figures)
    assert {claim.figure for claim in [*load_claims(), *load_follow_ups()]} <= set(shown)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_short_cells_with_a_sentence_below_each_figure(name):
    first, *_ = cells(name)
    assert re.match(r"# [^\n]+\n\*[^\n]+\?\*\n\n", first.source)
    assert all(len(source.splitlines()) <= 12 for source in code(name))
    for figure in figures_of(name):
        said = code(name)[code(name).index(f'chapter.figure("{figure}")') + 1]
        assert said.startswith(f'chapter.say("{figure}"')
    assert {line.partition(":")[0] for line in code(name)[0].splitlines()} == {"results", "tier"}


# ------------------------------------------------------------------------------------------- on made-up runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All runs of one study, a seed of two others."""
    root = tmp_path_factory.mktemp("runs")
    write_study(root, "kl")
    write_study(root, "adaptive_control", seeds=[100])
    write_study(root, "mixture", seeds=[100])
    return root


def executed(name: str, results, capsys) -> tuple[str, list[Figure]]:
    """The cells of a notebook without a kernel: what they print, and their figures."""
    own: dict = {}
    drawn = []
    for source in code(name):
        if SHOWN.fullmatch(source):
            drawn.append(eval(source, own))
        else:
            exec(source.replace("%matplotlib inline", ""), own)
        if source.startswith("results"):
            own["results"] = str(results)
    return capsys.readouterr().out, [figure for figure in drawn if figure]


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_on_partial_results(name, runs, capsys):
    told, drawn = executed(name, runs, capsys)
    there = [figure for figure in figures_of(name) if figure in study_figures.with_runs(study_figures.Shelf(runs))]
    assert len(drawn) == len(there)
    missing = set(figures_of(name)) - set(there)
    assert len(re.findall("no finished run in .*; `or1lab sweep", told)) == len(missing)
    if name == "claims":
        groups = (load_claims(), load_follow_ups())
        counts = [sum(claim.group == group for claims in groups for claim in claims) for group in claims_view.GROUPS]
        told_counts = re.findall(r"^(\d+) (?:primary|secondary|follow-ups)\b", told, re.M)
        assert list(map(int, told_counts)) == counts
    if name == "kl":
        assert "Not run" not in told and "runs are finished" not in told
        assert re.search(
            r"\(secondary\): In the second stage no KL term ends higher .* −?\+?0\.\d+ \[.*3 seeds an arm", told
        )
        assert "KL from the reference (nats per token) by training step, the paper's, read by eye off Figure 11" in told
        assert "means of the runs: " in told
        assert re.search(r"Test accuracy .* ours: 0\.\d+ at 0, 0\.\d+ at 120 \(no KL term in stage 2\); ", told)
    if name == "entropy_dynamics":
        assert "4 of 20 runs are finished" in told and "Waits for 8 of 10 runs" in told
        assert "0% (N_SGD = 1, adaptive)" in told and "rank correlation of mean entropy and final accuracy over" in told


def test_results_that_are_not_there_or_not_ours(tmp_path, runs, capsys):
    assert "there is no such folder" in repr(Chapter(str(tmp_path / "none")))
    assert "`or1lab sweep study` makes them" in repr(Chapter(str(tmp_path)))
    assert re.search("12 finished runs of the study, tier tiny$", repr(Chapter(str(runs))))
    write_study(tmp_path, "kl", seeds=[100], world_hash="another")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text("{}")
    (tmp_path / "foreign" / "metrics.jsonl").touch()
    chapter = Chapter(str(tmp_path))
    assert "0 finished runs" in repr(chapter) and "2 others there do not count" in repr(chapter)
    assert chapter.figure("kl") is None and "or1lab sweep kl" in capsys.readouterr().out
    assert {entry.verdict for entry in chapter.entries} == {"not run"}
    with pytest.raises(UsageError, match="no figure 'mixtur'.*did you mean 'mixture'"):
        chapter.figure("mixtur")
    with pytest.raises(UsageError, match="no tier 'tinny'.*did you mean 'tiny'"):
        repr(Chapter(str(tmp_path), "tinny"))


def test_controllers_and_arms_that_end_equal_are_told(runs, capsys):
    chapter = Chapter(str(runs))
    frame = chapter.data("adaptive_control")
    for column in ("x", "y"):
        own = frame["series"].eq("4-none") & frame["read"].eq("ours")
        frame.loc[own, column] = frame.loc[
            frame["series"].eq("4-adaptive") & frame["read"].eq("ours"), column
        ].to_numpy()
    chapter.say("adaptive_control")
    chapter.lead("adaptive_control", "accuracy", "4-adaptive", "4-none")
    told = capsys.readouterr().out
    assert "means of the runs: N_SGD = 4, no control and N_SGD = 4, adaptive end equal; " in told
    alpha = Run.open(runs / "adaptive_control" / "4-adaptive" / "seed-100").metrics["entropy/alpha"].dropna()
    assert f"{(alpha > 0).mean():.1%} (N_SGD = 4, adaptive)" in told


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ([-1, 1, 2], "A ends 2 above B, and is above it from step 10 on"),
        ([1, 1, 1], "A ends 1 above B, and is above it from step 0 on"),
        ([1, 0, -3], "B ends 3 above A, and is above it from step 20 on"),
        ([1, 1, 0], "B and A end equal"),
    ],
)
def test_who_leads_is_read_off_the_means(gaps, words, runs, capsys):
    chapter = Chapter(str(runs))
    frame = chapter.data("kl")
    ours = frame[(frame["panel"] == "accuracy") & (frame["read"] == "ours") & (frame["step"] <= 20)].copy()
    for place, gap in enumerate(gaps):
        ours.loc[ours["step"] == 10 * place, "y"] = ours["series"].eq("none").astype(float) * gap
    chapter._made["kl"] = (ours, chapter._made["kl"][1])
    chapter.lead("kl", "accuracy", "none", "kl")
    labels = study_figures.table().figures["kl"].labels
    assert words.replace("A", labels["none"]).replace("B", labels["kl"]) in capsys.readouterr().out


def test_rank_correlation_over_runs(runs, capsys):
    Chapter(str(runs)).rank("steps_to_collapse", "final_accuracy", "kl", "adaptive_control")
    told = capsys.readouterr().out
    assert re.search(
        r"Exploratory, outside the ledger: .* over 10 runs of kl, adaptive control is [+−]\d\.\d\d; .* no p-value", told
    )


def test_the_arms_are_those_of_the_experiment(runs):
    text = Chapter(str(runs)).arms("mixture").markdown()
    assert "| noise " in text and "data.wrong_golds: 0.1" in text and "1 of 3" in text
    assert "All arms: D_T: 8, entropy: paper." in text


def test_a_panel_without_runs_says_so(tmp_path):
    write_study(tmp_path, "filters", seeds=[100])
    shelf = study_figures.Shelf(tmp_path)
    shelf.arms("filters").pop("all"), shelf.arms("filters").pop("offline")
    chapter = Chapter(str(tmp_path))
    chapter.shelf = shelf
    first, second, third, fourth = chapter.figure("filters").figure.axes
    assert [text.get_text() for axes in (first, second) for text in axes.texts] == [NO_RUN] * 2
    assert third.lines and fourth.lines and not first.lines


# ------------------------------------------------------------------------------------------------- the ledger


def entry(verdict: str, name: str, *bounds: float | None, needed: int | None = None, comment: str = "") -> Entry:
    claim = next(claim for claim in load_claims() if claim.id == name)
    return Entry(claim, verdict, *bounds, 5, needed, (), comment)


ENTRIES = [
    entry("holds", "sgd-end", 0.12, 0.08, 0.16),
    entry("reversed", "sgd-collapse", 0.5, 0.4, 0.6),
    entry("does not hold", "offpol-cause", 1.0, None, None),
    entry(
        "not decided", "mask-long", -0.009, -0.031, 0.013, comment="25 seeds an arm would decide it in 4 of 5 studies"
    ),
    entry("not run", "ours-law", None, None, None, comment="waits for 5 of 5 runs"),
]


def test_sentences_say_what_the_ledger_says():
    holds, against, flat, open_, missing = map(claims_view.sentence, ENTRIES)
    assert holds == (
        "Holds (primary): Four SGD steps per rollout end lower than one. Final accuracy, 1-64-64-1 above 4-64-16-1: "
        "+0.120 [+0.080, +0.160], 5 seeds an arm. Paper, AE6, Figure 16: 0.425 against 0.554 [eye]."
    )
    assert "rising from 4-64-16-1 over 2-64-32-1 over 1-64-64-1: ×0.50 [0.40, 0.60], 5 seeds" in against
    assert "×1.00 [no interval], 5 seeds an arm" in flat
    assert "−0.009 [−0.031, +0.013], 5 seeds an arm; 25 seeds an arm would decide it" in open_
    assert missing.startswith("Not run (secondary): R = -a exp(H) + b") and "Waits for 5 of 5 runs. Ours;" in missing


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_terminal_shows_the_whole_ledger(width):
    screen = io.StringIO()
    claims_view.show(ENTRIES, Console(file=screen, width=width))
    text = screen.getvalue()
    assert max(map(len, text.splitlines())) <= width
    plain = " ".join(text.split())
    for words in ("[0.40, 0.60]", "[−0.031, +0.013]", "[no interval]", "[eye]", "5 seeds an arm"):
        assert words in plain or width == 50 and words.split()[0] in plain
    assert "does not" in plain and "hold" in plain
    assert ("comment" in text) == (width == 120)
    assert "4 primary claims: holds 1, reversed 1," in plain and "1 secondary claims (exploratory): not run 1" in plain


@pytest.mark.parametrize(
    ("claim", "words"),
    [("sgd-end", "smallest effect +0.020"), ("stage-acc", "at most 0.020 worse"),
     ("cliphi-too", "smallest effect ×1.50"), ("mix-noise", "within ±0.020"),
     ("div-flat", "within a factor of 1.50"), ("offpol-size", "at most a factor of 1.50 worse")],
)  # fmt: skip
def test_what_counts_is_said(claim, words):
    assert words in claims_view.wanted(entry("not run", claim, None, None, None).claim)


def test_the_sheet_has_the_primary_claims_first():
    made = claims_view.sheet([ENTRIES[-1], *ENTRIES[:2]])
    assert list(made.groups) == ["primary claims", "secondary claims (exploratory)"]
    assert len(made.groups["primary claims"]) == 2 and "waits for 5 of 5 runs" in made.markdown()
    assert "+0.120 [+0.080, +0.160]" in made._repr_html_()


# ------------------------------------------------------------------------------------------- as a user runs them


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_runs_from_top_to_bottom(name, runs, tmp_path):
    for results in (runs, tmp_path / "none"):
        done = tmp_path / f"{results.name}.ipynb"
        notebook.execute(str(ROOT / "notebooks" / f"{name}.ipynb"), str(done), {"results": str(results)})
        there = set(figures_of(name)) & set(study_figures.with_runs(study_figures.Shelf(results)))
        assert not notebook.execution_failed(done) and pictures(done) == len(there)
        assert "finished runs of the study" in outputs(done)
