"""The report: chapters from executed notebooks, the page around them, and the whole from made-up runs."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import v4
from PIL import Image
from rich.console import Console

from or1lab import cli, paper, report, report_page, studies
from or1lab.claims_view import HEADINGS
from or1lab.errors import UsageError
from or1lab.recipe import ROOT
from or1lab.results import Shelf
from tests.browser import CHROMIUM, browser
from tests.made_up import write_study

SENTENCES = "With the term 0.61 < 0.65 without.\nThree seeds of `kl`.\n"
VOID = {"meta", "link", "img", "br", "hr", "col", "input"}


def png(width=400, height=200) -> str:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode() + "\n"


def cell(source: str, *outputs, tags=()):
    return v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def printed(text: str, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def shown(**data):
    return v4.new_output("display_data", data={name.replace("_", "/"): value for name, value in data.items()})


def executed(*more, title="# The KL term\n*Does it help?*\n\nBoth arms share `stage 1`."):
    """An executed notebook such as papermill leaves it."""
    return v4.new_notebook(cells=[
        v4.new_markdown_cell(title),
        cell('results: str = "runs"', tags=["parameters"]),
        cell('results = "/somewhere/else"', tags=["injected-parameters"]),
        cell("notebook.opened()", printed("or1lab 1.0; python 3.11\n")),
        v4.new_markdown_cell("## Figure 11: KL & accuracy\nA word before."),
        cell("draw()", shown(image_png=png(), text_plain="<Figure size 1>")),
        cell("print(...)", printed("/a/path: a warning", "stderr"), printed(SENTENCES)),
        *more,
        v4.new_markdown_cell("*Next: `or1lab sweep kl`.*"),
    ])  # fmt: skip


class Read(HTMLParser):
    """What a page holds: tags with their attributes, ids, the levels of its headings, and whether tags are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        self.levels = [int(tag[1]) for tag, _ in self.tags if re.fullmatch(r"h[1-6]", tag)]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def all(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]


def page_of(*chapters, **changes) -> str:
    facts = {"facts": report.facts([]), "tier": "tiny", "missing": {}, "command": "make it", "headings": HEADINGS}
    return report_page.page(
        list(chapters), report.METHODS.read_text(), **{**facts, "contradictions": report.contradictions(), **changes}
    )


def loads(page: str) -> list[str]:
    """Addresses that opening the page would ask for."""
    read = Read(page)
    asked = [a[name] for _, a in read.tags for name in ("src", "srcset", "poster", "data", "action") if a.get(name)]
    asked += [link["href"] for link in read.all("link")]
    asked += re.findall(r"url\(([^)]*)\)|@import ([^;]*)", page)
    return [address for address in asked if not str(address).startswith("data:")]


def test_a_chapter_has_title_question_figures_and_its_code_apart():
    made = report_page.chapter("kl", executed())
    assert (made.title, made.question) == ("The KL term", "Does it help?")
    assert "<p>Both arms share <code>stage 1</code>.</p>" in made.body
    assert '<h3 id="kl-figure-11-kl-accuracy">Figure 11: KL &amp; accuracy</h3>' in made.body
    assert '<p class="said">With the term 0.61 &lt; 0.65 without.</p>' in made.body
    assert '<p class="said">Three seeds of <code>kl</code>.</p>' in made.body
    assert "python" not in made.body and "or1lab sweep" not in made.body and "<Figure" not in made.body
    assert made.code[-2:] == ["print(...)", "# it warned:\n/a/path: a warning"] and "warning" not in made.body
    assert not any("/somewhere" in source for source in made.code)
    (figure,) = made.figures
    assert figure.title == "Figure 11: KL & accuracy"
    assert f'<figure id="{figure.id}" tabindex="0">' in made.body
    small = Image.open(io.BytesIO(base64.b64decode(figure.thumbnail)))
    assert small.size == (report_page.THUMBNAIL, report_page.THUMBNAIL // 2)


def test_a_picture_is_told_by_the_heading_and_the_sentence_after_it():
    later = executed(
        cell("draw()", shown(image_png=png())),
        v4.new_markdown_cell("## Of another"),
        cell("draw()", shown(image_png=png())),
        cell("print(...)", printed("word " * 200)),
    )
    made = report_page.chapter("kl", later)
    alts = [image["alt"] for image in Read(made.body).all("img")]
    assert alts[0] == "Figure 11: KL & accuracy. With the term 0.61 < 0.65 without. Three seeds of `kl`."
    assert alts[1] == "Figure 11: KL & accuracy"  # what follows belongs to the next heading
    assert alts[2].startswith("Of another. word word") and len(alts[2]) < report_page.TOLD + 20
    titles = [figure.title for figure in made.figures]
    assert titles == ["Figure 11: KL & accuracy", "Figure 11: KL & accuracy [2]", "Of another"]
    assert len({figure.id for figure in made.figures}) == 3
    assert all(int(image["width"]) == 400 // report_page.DOTS for image in Read(made.body).all("img"))


def test_each_kind_of_output_is_shown_as_what_it_is():
    made = report_page.chapter("kl", executed(
        cell("table", shown(text_html="<table><tr><td>1</td></tr></table>", text_plain="1")),
        cell("another", shown(text_html="<table><tr><td>2</td></tr></table>", text_plain="2")),
        cell("words", shown(text_plain="'it\\'s <none> yet'")),
        cell("columns", printed("a      1\nb      2\n")),
        cell("sentence", shown(text_markdown="*so* it is", text_plain="<Markdown>")),
        cell("nothing"),
    ))  # fmt: skip
    body = made.body
    assert 'role="region" tabindex="0"' in body and "<td>1</td>" in body
    names = re.findall(r'aria-label="([^"]+)"', body)
    assert len(names) == len(set(names)) == 2 and names[1] == f"{names[0]} [2]"
    assert '<p class="said">it&#x27;s &lt;none&gt; yet</p>' in body
    assert '<pre class="said" tabindex="0">a      1\nb      2</pre>' in body
    assert "<em>so</em> it is" in body and "Markdown" not in body


def test_the_page_needs_nothing_else_and_can_be_walked_through():
    page = page_of(report_page.chapter("claims", executed()), report_page.chapter("kl", executed()))
    assert loads(page) == [] and "<script" not in page
    assert loads('<img src="https://a.b/c.png"><link href="//d">') == ["https://a.b/c.png", "//d"]
    read = Read(page)
    assert read.all("html")[0]["lang"] == "en" and read.all("title")
    assert len(set(read.ids)) == len(read.ids)
    links = [link["href"] for link in read.all("a")]
    assert all(link.startswith("#") and link[1:] in read.ids for link in links)
    assert read.levels[0] == 1 and read.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(read.levels, read.levels[1:], strict=False))
    assert all("alt" in image for image in read.all("img")) and any(image["alt"] for image in read.all("img"))
    thumbnails = [i for i, (tag, _) in enumerate(read.tags) if tag == "img" and read.tags[i][1]["alt"] == ""]
    assert len(thumbnails) == 2 and all(read.tags[i - 1][0] == "a" for i in thumbnails)
    order = [page.index(f'id="{name}"') for name in ("figures", "claims", "kl", "methods", "contradictions")]
    assert order == sorted(order)


def test_methods_and_limits_are_told_and_every_contradiction_is_listed():
    page = page_of()
    assert "<h3>From runs to verdicts</h3>" in page and "<h3>Limits</h3>" in page and "claims.md" not in page
    rows = report.contradictions()
    assert len(rows) == len(paper.load("contradictions")["rows"])
    places = [place for place, _ in rows]
    assert "Tables 1, 2" in places and "Figure 2" in places and "Table 12, Figure 1" in places
    assert not any("{" in note for _, note in rows)


def test_a_notebook_that_failed_is_quoted_and_the_rest_is_there():
    broken = executed(
        cell("1 / 0", v4.new_output("error", ename="E", evalue="v", traceback=["\x1b[31mline 1\x1b[0m <"]))
    )
    broken.cells.insert(0, v4.new_markdown_cell("An Exception", metadata={"tags": ["papermill-error-cell-tag"]}))
    made = report_page.chapter("kl", broken, "cell In [6]: ZeroDivisionError: division by zero")
    page = page_of(made, report_page.chapter("gone", None, "there is no notebook gone.ipynb"), missing={"kl": (3, 9)})
    assert page.count("cell In [6]: ZeroDivisionError: division by zero") == 2  # at the head, and where it ends
    assert '<pre tabindex="0">line 1 &lt;</pre>' in page and "An Exception" not in page
    assert "With the term 0.61" in page and page.count("there is no notebook gone.ipynb") == 2
    assert "<code>kl</code> 3 of 9" in page and "<code>make it</code>" in page
    Read(page)
    assert "Notebooks that failed" not in page_of(report_page.chapter("kl", executed()))


def test_missing_runs_are_counted_by_study(tmp_path):
    nothing, missing = report.found(Shelf(tmp_path))
    assert nothing == [] and set(missing) == {experiment.name for experiment in studies.studies()}
    assert missing["kl"] == (0, 6)
    write_study(tmp_path, "kl", seeds=[100, 101])
    manifests, missing = report.found(Shelf(tmp_path))
    assert len(manifests) == 4 and missing["kl"] == (4, 6)
    write_study(tmp_path, "kl")
    assert "kl" not in report.found(Shelf(tmp_path))[1]


def test_facts_tell_when_on_what_and_with_which_code():
    one = {
        "finished": "2026-11-28T11:31:55+00:00", "code": {"version": "0.1.0", "commit": "a" * 40, "dirty": False},
        "hardware": {"cpu": "AMD EPYC", "cores": 2, "gpus": []},
    }  # fmt: skip
    told = report.facts([one, one])
    assert (told["Runs"], told["Made on"], told["Code of the runs"]) == ("2", "2026-11-28", "a" * 10)
    assert told["Machines"] == "AMD EPYC, 2 cores"
    other = {
        "finished": None, "created": "2026-12-01T00:00:00+00:00",
        "code": {"version": "0.1.0", "commit": "b" * 40, "dirty": True},
        "hardware": {"cpu": "Xeon", "cores": 16, "gpus": ["H100"] * 8},
    }  # fmt: skip
    told = report.facts([one, one, other])
    assert told["Made on"] == "2026-11-28 to 2026-12-01"
    assert told["Machines"] == "AMD EPYC, 2 cores (2 of the runs); Xeon, 16 cores, 8 x H100 (1 of the runs)"
    assert "bbbbbbbbbb, changed" in told["Code of the runs"]
    assert set(report.facts([])) >= {"Runs", "Hash of the world", "Hash of the claims"}


def stored(folder: Path, name: str, *sources: str, parameters: str = "results = 'runs'") -> Path:
    """A notebook without outputs, its first code cell for parameters."""
    book = v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}})
    book.cells = [cell(parameters, tags=["parameters"]), *map(cell, sources)]
    folder.mkdir(exist_ok=True)
    nbformat.write(book, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def test_notebooks_get_their_parameters_and_failures_are_named(tmp_path):
    books = tmp_path / "books"
    draws = "from matplotlib.figure import Figure\nf = Figure((2, 1))\nf.subplots()\nprint(results)\nf"
    sources = [
        stored(books, "well", f"%matplotlib inline\n{draws}"),
        stored(books, "badly", "print(tier)", "results.nothing", parameters="results = ''\ntier = ''"),
        books / "gone.ipynb",
    ]
    done = {name: error for name, _, error in report.executed(sources, {"results": "R", "tier": "T"}, tmp_path, 2)}
    assert done["well"] is None and "there is no notebook" in done["gone"]
    assert re.fullmatch(r"cell In \[\d\]: AttributeError: 'str' object has no attribute 'nothing'", done["badly"])
    well, badly = (nbformat.read(tmp_path / name / f"{name}.ipynb", 4) for name in ("well", "badly"))
    chapter = report_page.chapter("badly", badly, done["badly"])
    assert '<p class="said">T</p>' in chapter.body and "AttributeError" in chapter.traceback
    chapter = report_page.chapter("well", well)
    assert '<p class="said">R</p>' in chapter.body and len(chapter.figures) == 1
    (picture,) = (
        o.metadata["image/png"] for c in well.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})
    )
    assert picture["width"] > 100 and f'width="{picture["width"]}"' in chapter.body  # two dots a pixel


def test_who_stops_it_leaves_no_kernel_behind(tmp_path):
    before = set(psutil.Process().children(recursive=True))
    sources = [stored(tmp_path / "books", "slow", "import time; time.sleep(600)"), tmp_path / "gone.ipynb"]
    work = report.executed(sources, {}, tmp_path / "out", 2)
    assert next(work)[0] == "gone"
    assert set(psutil.Process().children(recursive=True)) > before
    work.close()
    assert not [child for child in set(psutil.Process().children(recursive=True)) - before if child.is_running()]


def test_wrong_folders_are_told_before_anything_runs(tmp_path):
    with pytest.raises(UsageError, match="no folder .*nowhere.*make study"):
        report.build(tmp_path / "nowhere", tmp_path / "report.html", console=Console())
    with pytest.raises(UsageError, match="is a folder; name a file"):
        report.build(tmp_path, tmp_path, console=Console())


def test_a_folder_that_cannot_be_written_costs_no_notebook(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(report, "executed", lambda *_: ran.append(0) or iter(()))
    with pytest.raises(OSError, match="/proc/"):  # which is there, and in which not even root makes a file
        report.build(tmp_path, Path("/proc/report.html"), console=Console())
    assert not ran


def test_the_command_builds_what_it_can_and_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "CHAPTERS", ("gone",))
    monkeypatch.setattr(
        sys, "argv", ["or1lab", "report", "--results", str(tmp_path), "--out", str(tmp_path / "a" / "r.html")]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().out.replace("\n", " ")
    assert ended.value.code == 1
    assert "gone: failed: there is no notebook" in said and "told so on the page: gone" in said
    page = (tmp_path / "a" / "r.html").read_text()
    assert "there is no notebook" in page and "0 training runs" in page.replace("\n", " ")
    assert page.count(" 0 of ") == len(studies.studies()) and f"--pack {tmp_path}" in page


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The report of made-up runs, of all studies the first seed and of one all, as the command makes it: its path, and
    what the command says."""
    folder = tmp_path_factory.mktemp("report")
    for experiment in studies.studies():
        write_study(folder / "runs", experiment.name, seeds=None if experiment.name == "kl" else experiment.seeds[:1])
    out = folder / "new" / "report.html"
    command = [sys.executable, "-m", "or1lab.cli", "report", "--results", folder / "runs", "--out", out, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_report_from_made_up_runs(whole):
    out, told = whole
    page = out.read_text(encoding="utf-8")
    assert loads(page) == [] and out.stat().st_size < 15e6
    read = Read(page)
    assert len(set(read.ids)) == len(read.ids)
    assert all(after <= before + 1 for before, after in zip(read.levels, read.levels[1:], strict=False))
    assert told["failed"] == {} and told["figures"] == page.count("<figure ")
    assert set(told["missing"]) == {experiment.name for experiment in studies.studies()} - {"kl"}
    for name in report.CHAPTERS[1:]:
        assert f'<a href="#figure-{name.replace("_", "-")}"' in page, (
            name
        )  # among the small ones, and so in its chapter
    for image in read.all("img"):
        assert image["alt"] == "" or len(image["alt"]) > 10
    links = [link["href"] for link in read.all("a")]
    assert all(link.startswith("https://") or link.startswith("#") and link[1:] in read.ids for link in links)
    assert "not run" in page and "or1lab sweep study --resume --pack" in page


CONTRAST = """
(() => {
  document.querySelectorAll("details").forEach(fold => fold.open = true);
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => numbers(color).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.add(node.outerHTML.slice(0, 200));
  }
  return [...poor];
})()
"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.timeout(1800)
def test_the_report_fits_wide_and_narrow_windows_and_asks_for_nothing(whole, tmp_path):
    out, told = whole
    with browser(tmp_path / "profile") as page:
        for width in (1280, 390):
            page.open(out.as_uri(), width)
            assert page.ask("innerWidth") == width
            assert page.ask("document.documentElement.scrollWidth") <= width
            assert [address for address in page.requested() if not address.startswith("data:")] == [out.as_uri()]
            assert page.complaints() == []
            assert page.ask("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert page.ask(CONTRAST) == []
        page.open(out.as_uri(), 1280)
        assert page.ask("document.querySelectorAll('figure img').length") == told["figures"]
        page.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 100_000
