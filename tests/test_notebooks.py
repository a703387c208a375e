"""The notebooks, executed by papermill as a user would; each starts an engine of its own."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import nbformat
import pytest

from or1lab import notebook
from or1lab.errors import Or1labError, UsageError
from or1lab.evaluation import Evaluation
from or1lab.recipe import ROOT
from or1lab.store import Run
from tests.browser import CHROMIUM
from tests.test_evaluation import Fake, text_of
from tests.test_evaluation import run as evaluated

SMALL = str(ROOT / "tests" / "small.yaml")


def outputs(path) -> str:
    """Everything that the cells of an executed notebook show as text."""
    cells = nbformat.read(path, as_version=4).cells
    return json.dumps([cell.get("outputs", []) for cell in cells])


def widgets(path, model: str) -> list[dict]:
    """The states of an executed notebook's widgets of a kind."""
    states = nbformat.read(path, as_version=4).metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    return [widget["state"] for widget in states.values() if widget["model_name"] == model]


def pictures(path) -> int:
    cells = nbformat.read(path, as_version=4).cells
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_cells_are_short_and_a_kernel_without_or1lab_is_told(path):
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for source in sources:
        assert len(source.splitlines()) <= 15
        for node in ast.walk(ast.parse(source.replace("%matplotlib inline", ""))):
            assert not isinstance(node, ast.FunctionDef) or node.end_lineno - node.lineno < 10
    bare = [sys.executable, "-I", "-S", "-c", sources[1]]  # without installed packages
    told = subprocess.run(bare, capture_output=True, text=True).stderr
    assert "AssertionError: this kernel has no or1lab: `make lab`" in told
    exec(sources[1], {})
    assert "notebook.opened()" in sources[2]


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("seed = 7\nnames = ['a']", None),
        ("seed = '7'", "the parameter seed is to be of the type int, and is '7'"),
        ("names = 'a'", r"the parameter names is to be of the type list\[str\], and is 'a'"),
        ("sede = 7", r"no parameter 'sede' \(did you mean 'seed'\?\); there are: seed, names"),
    ],
)
def test_parameters_are_checked_in_the_notebook_itself(injected, message, monkeypatch, capsys):
    cells = ["", "seed: int = 0  # a word\nnames: list[str] = []", f"# Parameters\n{injected}", "%magic\nseed_ = 1"]
    values: dict = {}
    for cell in cells[1:3]:
        exec(cell, values)
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(user_ns={**values, "In": cells}))
    if message:
        with pytest.raises(UsageError, match=message):
            notebook.opened()
    else:
        notebook.opened()
        assert "python 3." in capsys.readouterr().out


def test_cells_of_ones_own_are_no_parameters(monkeypatch):
    own = "import pandas as pd\ntotal: int = 3\nframe: pd.DataFrame = pd.DataFrame()\nlater: str"
    cells = ["", own, "seed: int = 0", "# Parameters\nseed = 7", "seed: float = 0.5"]  # the last: mended by hand
    values: dict = {}
    for cell in cells:
        exec(cell, values)
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(user_ns={**values, "In": cells}))
    notebook.opened()
    values["seed"] = "half"
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(user_ns={**values, "In": cells}))
    with pytest.raises(UsageError, match="seed is to be of the type float"):
        notebook.opened()


def test_the_data_notebook_deletes_nothing_of_others(tmp_path):
    mine = tmp_path / "mine" / "benchmark.jsonl"
    mine.parent.mkdir()
    mine.write_text("{}\n")
    cells = nbformat.read(ROOT / "notebooks" / "data.ipynb", as_version=4).cells
    (source,) = (cell.source for cell in cells if "shutil.rmtree(folder, " in cell.source)
    source = source.partition("items = ")[0]
    given = {"ROOT": ROOT, "UsageError": UsageError, "shutil": shutil}
    for out in (mine.parent, ROOT, ""):
        with pytest.raises(UsageError, match="name another folder"):
            exec(source, {**given, "out": str(out)})
    assert mine.read_text() == "{}\n"
    for _ in range(2):  # its own it makes anew
        exec(source, {**given, "out": str(tmp_path / "its")})
        (tmp_path / "its" / "curated").mkdir()


def test_train_notebook_trains_a_run_and_shows_its_card(tmp_path):
    source, executed = ROOT / "notebooks" / "train.ipynb", tmp_path / "train.ipynb"
    command = [
        sys.executable, "-m", "papermill", str(source), str(executed), "-p", "recipe", SMALL,
        "-p", "seed", "3", "-p", "out", str(tmp_path / "run"), "-y", "{overrides: [stages.0.steps=2]}",
    ]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True)  # as anyone would, from anywhere
    run = Run.open(tmp_path / "run")
    assert run.status == "finished" and run.manifest["seed"] == 3 and run.last()["step"] == 2
    assert not notebook.execution_failed(executed)
    assert pictures(executed) == 2  # the live card and the final one
    assert "held-out answers are right after 2 steps" in outputs(executed)
    assert "paper T5" in outputs(executed)  # values with their origin


@pytest.mark.slow  # the browser test runs it, too
def test_quickstart_runs_from_top_to_bottom(tmp_path):
    executed = tmp_path / "quickstart.ipynb"
    notebook.execute(
        str(ROOT / "notebooks" / "quickstart.ipynb"), str(executed), {"steps": 2, "out": str(tmp_path / "run")}
    )
    shown = outputs(executed)
    assert "<think>" in shown and "nats a token" in shown and "held-out accuracy" in shown
    assert pictures(executed) == 4  # three below sliders
    assert "3 of 8 right: right +1.21, wrong -0.72" in shown
    sliders = {state["description"] for state in widgets(executed, "FloatSliderModel")}
    assert sliders == {"clip_low", "clip_high", "alpha"}
    assert Run.open(tmp_path / "run").last()["step"] == 2


@pytest.mark.slow
def test_verifiers_notebook_compares_them_on_stored_responses(tmp_path):
    executed = tmp_path / "verifiers.ipynb"
    notebook.execute(str(ROOT / "notebooks" / "verifiers.ipynb"), str(executed), {})
    shown = outputs(executed)
    assert "1600 responses to 200 problems" in shown and "groups kept" in shown and "are in dispute" in shown
    assert pictures(executed) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_data_notebook_catches_what_it_plants(tmp_path):
    executed = tmp_path / "data.ipynb"
    parameters = {"each": 4, "sound": 60, "tried": 24, "samples": 8, "out": str(tmp_path / "runs")}
    notebook.execute(str(ROOT / "notebooks" / "data.ipynb"), str(executed), parameters)
    shown = outputs(executed)
    assert "32 of 32 planted faults caught, each by its own stage; 0 of 160 sound problems removed" in shown
    assert "R1-Distill-Qwen-7B" in shown and "problems by how many of 8 responses are right" in shown
    assert pictures(executed) == 2


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """A folder with one evaluation; its responses include one that would like to be a page."""
    folder = tmp_path_factory.mktemp("evaluations")
    hostile = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    evaluated(folder / "toy", Fake(text=lambda asked: text_of(asked) + hostile))
    return folder


def executed_evaluate(evaluations, tmp_path):
    executed = tmp_path / "evaluate.ipynb"
    parameters = {"folder": str(evaluations / "toy")}
    notebook.execute(str(ROOT / "notebooks" / "evaluate.ipynb"), str(executed), parameters)
    return executed


def test_evaluate_notebook_opens_an_evaluation_to_read_it(evaluations, tmp_path):
    executed = executed_evaluate(evaluations, tmp_path)
    shown = outputs(executed)
    assert "pass@4" in shown and "17% of 6 problems are never solved in 4 samples, 0% always" in shown
    assert "the most frequent answer is right for 67%" in shown and "a: avg@4" in shown
    assert "24 responses; the hardest problems first" in shown
    assert "0 of 24 responses are in dispute" in shown
    assert pictures(executed) == 3  # problems, bands, limits


@pytest.mark.slow
def test_evaluate_notebook_samples_a_model(tmp_path):
    executed = tmp_path / "evaluate.ipynb"
    parameters = {"problems": 3, "settings": {"k": 2, "limit": 64}, "out": str(tmp_path / "evaluation")}
    notebook.execute(str(ROOT / "notebooks" / "evaluate.ipynb"), str(executed), parameters)
    done = Evaluation.open(tmp_path / "evaluation")
    assert done.status == "finished" and done.correct().shape == (3, 2) and done.limit == 64
    assert "6 responses; the hardest problems first" in outputs(executed)


def test_benchmarks_notebook_shows_the_paper_and_ours(evaluations, tmp_path):
    executed = tmp_path / "benchmarks.ipynb"
    notebook.execute(str(ROOT / "notebooks" / "benchmarks.ipynb"), str(executed), {"results": str(evaluations)})
    shown = outputs(executed)
    assert shown.count("gt_table_body") >= 3 and "Table 13" in shown and "toy, 6 x 4" in shown
    assert "AIME24 avg@32: Skywork-OR1-32B is first with 82.2" in shown and "Measured here: some/model" in shown
    assert "toy avg@4, some/model (measured here)" in shown
    assert pictures(executed) == 5


@pytest.mark.slow
def test_benchmarks_notebook_does_without_results(tmp_path):
    executed = tmp_path / "benchmarks.ipynb"
    notebook.execute(str(ROOT / "notebooks" / "benchmarks.ipynb"), str(executed), {"results": str(tmp_path / "none")})
    assert "Measured here: nothing yet" in outputs(executed) and pictures(executed) == 5


def test_a_cell_that_fails_is_quoted(tmp_path):
    with pytest.raises(Or1labError, match=r"cell In \[\d+\]: UsageError: .*did you mean 'tiny'"):
        notebook.execute(
            str(ROOT / "notebooks" / "train.ipynb"), str(tmp_path / "train.ipynb"),
            {"recipe": "tinny", "out": str(tmp_path / "run")},
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@contextmanager
def jupyterlab(folder, *options):
    """JupyterLab started at the repository, with its log in `folder`; yields its address with the token."""
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.port=0",
        "--IdentityProvider.token=t", *options,
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        deadline = time.monotonic() + 300
        address = ""
        while not address and time.monotonic() < deadline and server.poll() is None:
            words = (folder / "log").read_text().split()
            address = next((word for word in words if re.match(r"http://\S+/lab\S*\?token=", word)), "")
            time.sleep(0.3)
        assert address, (folder / "log").read_text()
        yield address.partition("token=")[0] + "token=t"  # the log hides it
    finally:
        server.terminate()
        server.wait(30)


def test_make_lab_opens_the_quickstart_and_shows_executed_notebooks_too(tmp_path):
    line = re.search(r"jupyter lab (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1]
    with jupyterlab(tmp_path, *re.findall(r"--[A-Z]\S+", line)) as address:
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # the page hands out a session
        assert "/lab/tree/notebooks/quickstart.ipynb?" in address
        assert "<title>JupyterLab</title>" in browser.open(address, timeout=30).read().decode()
        contents = address.replace("/lab/tree/notebooks/quickstart.ipynb?", "/api/contents{}?content={}&")
        assert json.load(browser.open(contents.format("/notebooks/quickstart.ipynb", 1), timeout=30))["content"]
        listed = json.load(browser.open(contents.format("", 1), timeout=30))["content"]
        assert {"notebooks", "experiments"} <= {one["name"] for one in listed}  # and runs, once there are any


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_answers_are_read_in_a_browser_without_a_network(evaluations, tmp_path):
    executed = executed_evaluate(evaluations, tmp_path)
    subprocess.run([sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", str(executed)], check=True)
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=20000",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        executed.with_suffix(".html").as_uri(),
    ]  # fmt: skip
    page = subprocess.run(command, capture_output=True, text=True, timeout=200).stdout
    assert "Showing 1 to 5 of 24 entries" in page and "<summary>chain of thought" in page
    assert page.count("dtcc-button") >= 3  # lists to choose from
    assert "<title>evaluate</title>" in page and "<script>document.title" not in page  # it is text
