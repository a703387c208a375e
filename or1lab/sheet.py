"""A table before it is written: cells that know where their number comes from, and its three forms.

Markdown for the terminal and for reading on a code host, HTML and LaTeX by great-tables. What the paper prints stands
plain, what was read by eye off a figure of it has a ≈, what we measured is bold (in HTML also coloured).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"  # the paper prints a dash for what it does not have
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡ"
WIDTH = 100  # columns of a terminal
OURS, DIFFERS = "#0072B2", "#F5D5C8"  # colours in HTML: text of what we measured, ground of a cell that differs
KEYS = {
    "eye": "≈ read by eye off a figure of the paper: no number that it gives.",
    "ours": "Bold: measured here, with a 95% interval where there is one.",
    "differs": "≠ differs from what the paper reports.",
}

# pdflatex knows none of these characters by itself.
TEX = {
    MINUS: "$-$", "≈": r"$\approx$", "≥": r"$\geq$", "≠": r"$\neq$", "×": r"$\times$", "α": r"$\alpha$",
    "β": r"$\beta$", "Δ": r"$\Delta$", "τ": r"$\tau$", "·": r"$\cdot$",
} | {letter: f"$^{{{plain}}}$" for letter, plain in zip(LETTERS, "abcdefghijkl", strict=True)}  # fmt: skip


def number(value: float | None, form: str = "g") -> str:
    """A number for readers: with a true minus sign; a dash for none."""
    if value is None:
        return NOTHING
    return re.sub(r"e([+-])0+", r"e\1", f"{value:{form}}").replace("e+", "e").replace("-", MINUS)


@dataclass(frozen=True)
class Cell:
    """A text with its origin, the footnotes that belong to it, and whether it differs from what the paper reports."""

    text: str
    read: Literal["printed", "eye", "ours", "differs"] = "printed"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A table: title, columns, groups of rows (a group without a name has no line of its own) and lines below it."""

    columns: Sequence[str]
    groups: dict[str, list[list[Cell]]]
    title: str = ""
    notes: Sequence[str] = ()
    left: int = 1  # columns of words, which are set to the left
    _marks: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        texts = dict.fromkeys(text for cell in self.cells for text in cell.notes)
        if len(texts) > len(LETTERS):
            raise ValueError(f"{len(texts)} footnotes, but {len(LETTERS)} letters")
        self._marks.update(zip(texts, LETTERS, strict=False))

    @property
    def cells(self) -> list[Cell]:
        return [cell for rows in self.groups.values() for row in rows for cell in row]

    @property
    def below(self) -> list[str]:
        """The lines below the table: footnotes, the key to the signs that occur, then its notes."""
        used = {cell.read for cell in self.cells}
        keys = [text for read, text in KEYS.items() if read in used]
        return [*(f"{mark} {text}" for text, mark in self._marks.items()), *keys, *self.notes]

    def text(self, cell: Cell) -> str:
        """A cell with its sign and the letters of its footnotes."""
        sign = {"eye": "≈", "differs": "≠ "}.get(cell.read, "")
        return f"{sign}{cell.text}{''.join(self._marks[note] for note in cell.notes)}"

    def markdown(self) -> str:
        rows = []
        for name, group in self.groups.items():
            if name:
                rows.append([f"*{name}*", *[""] * (len(self.columns) - 1)])
            rows += [[_bold(self.text(cell)) if cell.read == "ours" else self.text(cell) for cell in row] for row in group]
        frame = pd.DataFrame(rows, columns=list(self.columns))
        align = ["left" if i < self.left else "right" for i in range(len(self.columns))]
        table = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
        above = [f"**{self.title}**", ""] if self.title else []
        return "\n".join([*above, table, "", *_paragraphs(self.below)]).rstrip()

    def html(self, name: str) -> str:
        """A page of its own; `name` becomes the id of the table."""
        import great_tables as gt

        table, places = self._table(name)
        looks = {
            "ours": gt.style.text(color=OURS),
            "eye": gt.style.text(style="italic"),
            "differs": gt.style.fill(color=DIFFERS),
        }
        for read, look in looks.items():
            where = [gt.loc.body(columns=[c], rows=rows) for c, rows in _by_column(places, read).items()]
            if where:
                table = table.tab_style(look, where)
        return str(table.as_raw_html(make_page=True))

    def latex(self, name: str) -> str:
        """A table environment for a document with the packages booktabs and caption."""
        text = self._table(name)[0].as_latex()
        for character, command in TEX.items():
            text = text.replace(character, command)
        return f"% needs \\usepackage{{booktabs, caption}}\n{text.strip()}\n"

    def _table(self, name: str) -> tuple[Any, list[tuple[str, int, str]]]:
        """The table of great-tables, and what each cell is: column, row, origin."""
        import great_tables as gt

        names = [f"c{i}" for i in range(len(self.columns))]
        rows, groups, places = [], [], []
        for group, members in self.groups.items():
            for row in members:
                places += [(column, len(rows), cell.read) for column, cell in zip(names, row, strict=True)]
                rows.append([_bold(self.text(cell)) if cell.read == "ours" else self.text(cell) for cell in row])
                groups.append(group)
        frame = pd.DataFrame(rows, columns=names)
        named = any(groups)
        if named:
            frame.insert(0, "group", groups)
        table = gt.GT(frame, groupname_col="group" if named else None, id=name)
        table = table.cols_label(dict(zip(names, self.columns, strict=True)))
        table = table.cols_align("left", names[: self.left]).cols_align("right", names[self.left :])
        table = table.tab_options(table_font_size="14px", source_notes_font_size="12px", table_width="auto")
        if self.title:
            table = table.tab_header(title=self.title)
        for column, where in _by_column(places, "ours").items():
            table = table.fmt_markdown(columns=[column], rows=where)  # for its asterisks
        for line in self.below:
            table = table.tab_source_note(line)
        return table, places


def _by_column(places: list[tuple[str, int, str]], read: str) -> dict[str, list[int]]:
    """Column -> rows of the cells of one origin."""
    found: dict[str, list[int]] = {}
    for column, row, kind in places:
        if kind == read:
            found.setdefault(column, []).append(row)
    return found


def _bold(text: str) -> str:
    return f"**{text}**" if text not in ("", NOTHING) else text


def _paragraphs(lines: Sequence[str]) -> list[str]:
    """Lines of a terminal's width, one paragraph each."""
    found: list[str] = []
    for line in lines:
        found += [*textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False), ""]
    return found
