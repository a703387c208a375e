"""Executed notebooks -> one page that needs nothing else: pictures inside, no script, no address to load.

A notebook is a chapter: `# Title`, a line of italics with its question, then text and what its cells show. Code and the
versions cell stand in a fold at the chapter's end. A picture is named by the heading above it and told, to whoever
cannot see it, by the sentence that a cell computes after it.
"""

from __future__ import annotations

import ast
import base64
import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape, unescape
from typing import Any

import jinja2
import mistune
from nbformat import NotebookNode
from PIL import Image

DOTS = 2  # of a picture for a pixel of the page: sharp in print and on fine screens
COLORS = 256  # of a picture: a third of the bytes, and no eye sees it in a plot
THUMBNAIL = 320  # pixels across
PICTURE, PAGE, TEXT = "image/png", "text/html", "text/plain"
PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}  # tags of the cells that it puts in
NEXT = re.compile(r"## Next\b|\*Next:")  # how a notebook's last cell begins: what its reader may type
VERSIONS = "notebook.opened()"  # in the cell whose output is the same list in every notebook
TOLD = 400  # characters of the text beside a picture

markdown = mistune.create_markdown(escape=False, plugins=["table"])


@dataclass(frozen=True)
class Figure:
    """A picture of a chapter: its place in the page, its name, and itself small."""

    id: str
    title: str
    thumbnail: str


@dataclass
class Chapter:
    """What a page shows of one executed notebook. `error` says why it ended early, if it did, `traceback` where."""

    name: str
    title: str
    question: str = ""
    body: str = ""
    figures: list[Figure] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    error: str | None = None
    traceback: str = ""


@dataclass
class _Block:
    """A part of a chapter in reading order: a heading, a text, a picture (base64), its caption, or HTML."""

    kind: str
    content: str


def chapter(name: str, notebook: NotebookNode | None, error: str | None = None) -> Chapter:
    """A chapter from an executed notebook; None: it was never begun, and `error` is all there is to say."""
    made = Chapter(name, name.replace("_", " ").capitalize(), error=error)
    blocks: list[_Block] = []
    for cell in notebook.cells if notebook else ():
        if PAPERMILL & set(cell.metadata.get("tags", ())) or NEXT.match(cell.source):
            continue
        if cell.cell_type == "markdown":
            blocks += _prose(made, cell.source)
        elif cell.cell_type == "code":
            made.code += [cell.source, *(f"# it warned:\n{o.text}" for o in cell.outputs if o.get("name") == "stderr")]
            made.traceback = next((_traceback(o) for o in cell.outputs if o.output_type == "error"), made.traceback)
            if VERSIONS not in cell.source:
                blocks += filter(None, map(_shown, cell.outputs))
    made.body = "\n".join(_html(made, blocks))
    return made


def page(chapters: list[Chapter], methods: str, **facts: Any) -> str:
    """The whole page.

    Args:
        chapters: in their order, the ledger first.
        methods: markdown, shown from its first ## on.
        facts: what `page/report.html.j2` names beside them.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("or1lab", "page"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("report.html.j2")
    return template.render(chapters=chapters, methods=_lower(str(markdown(methods[methods.index("\n## ") :]))), **facts)


def _prose(made: Chapter, source: str) -> list[_Block]:
    """A markdown cell; the notebook's title and question go to the head of the chapter."""
    if title := re.match(r"# (.+)\n+(?:\*([^*].*)\*\s*(?:\n|$))?", source + "\n"):
        made.title, made.question = title[1].strip(), title[2] or ""
        source = source[title.end() :]
    blocks = []
    for part in re.split(r"^(#{2,5} .+)$", source, flags=re.M):
        if part.startswith("##"):
            blocks.append(_Block("heading", part))
        elif part.strip():
            blocks.append(_Block("html", str(markdown(part))))
    return blocks


def _shown(output: NotebookNode) -> _Block | None:
    """What a cell shows, in the richest form that a page without scripts can have."""
    if output.output_type == "stream":
        return _Block("text", output.text) if output.name == "stdout" else None
    data = output.get("data", {})
    if PICTURE in data:
        return _Block("picture", small(data[PICTURE], COLORS))
    if PAGE in data:
        return _Block("table", data[PAGE])
    if "text/markdown" in data:
        return _Block("caption", str(markdown(data["text/markdown"])))
    text = data.get(TEXT, "")
    return _Block("text", ast.literal_eval(text) if re.match(r"""^(['"]).*\1$""", text, re.S) else text)


def _html(made: Chapter, blocks: list[_Block]) -> Iterable[str]:
    heading, ids, tables = made.title, set[str](), Counter[str]()
    for i, block in enumerate(blocks):
        if block.kind == "heading":
            level = block.content.index(" ") + 1
            words = re.sub(r"</?h\d>", "", str(markdown(block.content))).strip()
            heading = unescape(re.sub(r"<[^>]+>", "", words))
            yield f'<h{level} id="{_id(f"{made.name}-{heading}", ids)}">{words}</h{level}>'
        elif block.kind == "picture":
            before = sum(figure.title.partition(" [")[0] == heading for figure in made.figures)
            title = f"{heading} [{before + 1}]" if before else heading
            figure = Figure(_id(f"figure-{made.name}", ids), title, small(block.content, 48, THUMBNAIL))
            made.figures.append(figure)
            after = blocks[i + 1 :]
            caption = after[0].content if after and after[0].kind == "caption" else ""
            yield _figure(block.content, figure.id, _alt(heading, after), caption)
        elif block.kind == "table":
            tables[heading] += 1
            name = f"{heading} [{tables[heading]}]" if tables[heading] > 1 else heading
            yield f'<div class="table" role="region" tabindex="0" aria-label="{escape(name)}">{block.content}</div>'
        elif block.kind == "text":
            yield _said(block.content)
        elif block.kind != "caption" or not i or blocks[i - 1].kind != "picture":
            yield block.content


def _figure(picture: str, name: str, alt: str, caption: str) -> str:
    width, height = Image.open(io.BytesIO(base64.b64decode(picture))).size
    size = f'width="{width // DOTS}" height="{height // DOTS}"'
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    shown = f'<img src="data:{PICTURE};base64,{picture}" {size} alt="{escape(alt)}">'
    return f'<figure id="{name}" tabindex="0">{shown}{below}</figure>'  # on a phone it scrolls, by the keyboard too


def _alt(heading: str, after: list[_Block]) -> str:
    """The heading, and the text that follows before the next picture or heading."""
    for block in after:
        if block.kind in ("heading", "picture"):
            break
        if block.kind == "text" and block.content.strip():
            text = " ".join(block.content.split())
            return f"{heading}. {text if len(text) <= TOLD else text[:TOLD].rpartition(' ')[0] + ' ...'}"
    return heading


def _said(text: str) -> str:
    """What a cell prints: a sentence a line as text, `code` in it as such, aligned columns as they are."""
    lines = [escape(line.rstrip()) for line in text.strip("\n").splitlines()]
    if any("  " in line for line in lines):
        return '<pre class="said" tabindex="0">' + "\n".join(lines) + "</pre>"
    told = (re.sub(r"`([^`]+)`", r"<code>\1</code>", line) for line in lines if line)
    return "\n".join(f'<p class="said">{line}</p>' for line in told)


def small(picture: str, colors: int, most: int | None = None) -> str:
    """A picture (PNG in base64) with so many colours, and at most so many pixels a side, likewise."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    if most:
        image.thumbnail((most, most))
    file = io.BytesIO()
    image.quantize(colors, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _traceback(output: NotebookNode) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))


def _lower(html: str) -> str:
    """Headings one level lower: the page's own is the first."""
    return re.sub(r"(</?h)([1-5])\b", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", html)


def _id(text: str, taken: set[str]) -> str:
    """A name that nothing in `taken` has, which it joins."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name)
    return name
