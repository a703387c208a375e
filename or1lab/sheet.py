"""A table before it is written: cells that know where their number comes from, and its three forms.

Markdown for the terminal and for reading on a code host, HTML and LaTeX by great-tables. What the paper prints stands
plain, what was read by eye off a figure of it has a ≈, what we measured stands in groups of its own, bold where it has
an interval (in HTML also coloured).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

MINUS = "\N{MINUS SIGN}"
PAPER = "paper"  # the group of its rows, where ours follow
NOTHING = "\N{EN DASH}"  # the paper prints a dash for what it does not have
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
OURS, DIFFERS = "#0072B2", "#F5D5C8"  # colours in HTML: text of what we measured, ground of a cell that differs
KEYS = {
    "eye": "≈ read by eye off a figure of the paper: no number that it gives.",
    "ours": "Measured here: the rows under ours; bold: with a 95% interval.",
    "differs": "≠ differs from what the paper reports.",
}

# pdflatex knows none of these characters by itself.
TEX = {
    MINUS: "$-$", "≈": r"$\approx$", "≥": r"$\geq$", "≠": r"$\neq$", "×": r"$\times$", "α": r"$\alpha$",
    "β": r"$\beta$", "Δ": r"$\Delta$", "τ": r"$\tau$", "·": r"$\cdot$",
} | {letter: f"$^{{{plain}}}$" for letter, plain in zip(LETTERS, "abcdefghijklmnoprstuvwxyz", strict=True)}  # fmt: skip

Read = Literal["printed", "eye", "ours", "differs"]


def number(value: float | None, form: str = "g") -> str:
    """A number for readers: with a true minus sign; a dash for none."""
    if value is None:
        return NOTHING
    return re.sub(r"e([+-])0+", r"e\1", f"{value:{form}}").replace("e+", "e").replace("-", MINUS)


@dataclass(frozen=True)
class Cell:
    """A text with its origin, the footnotes that belong to it, and whether it differs from what the paper reports."""

    text: str
    read: Read = "printed"
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
        """All of them, row by row."""
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

    def _marked(self, cell: Cell) -> str:
        """A cell in markdown."""
        text = self.text(cell)
        return f"**{text}**" if cell.read == "ours" and "[" in text else text

    def markdown(self) -> str:
        """Title, table, footnotes, key and notes as markdown; what is ours and has an interval is bold."""
        rows = []
        for name, group in self.groups.items():
            if name:
                rows.append([f"*{name}*", *[""] * (len(self.columns) - 1)])
            rows += [[self._marked(cell) for cell in row] for row in group]
        above = [f"**{self.title}**"] if self.title else []
        return "\n\n".join([*above, _pipes(list(self.columns), rows, self.left), *self.below])

    def html(self, name: str) -> str:
        """A page of its own; `name` becomes the id of the table."""
        return str(self._styled(name).as_raw_html(make_page=True))

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        return str(self._styled(re.sub(r"\W+", "-", self.title.lower())[:40] or "table").as_raw_html())

    def _styled(self, name: str) -> Any:
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
        return table

    def latex(self, name: str) -> str:
        """A table environment for a document with the packages booktabs and caption."""
        text = self._table(name)[0].as_latex()
        for character, command in TEX.items():
            text = text.replace(character, command)
        return f"% needs \\usepackage{{booktabs, caption}}\n{text.strip()}\n"

    def _table(self, name: str) -> tuple[Any, list[tuple[str, int, Read]]]:
        """The table of great-tables, and what each cell is: column, row, origin."""
        import great_tables as gt

        names = [f"c{i}" for i in range(len(self.columns))]
        rows: list[list[str]] = []
        groups, places = [], []
        for group, members in self.groups.items():
            for row in members:
                places += [(column, len(rows), cell.read) for column, cell in zip(names, row, strict=True)]
                rows.append([self._marked(cell) for cell in row])
                groups.append(group)
        frame = pd.DataFrame(rows, columns=names)
        named = any(groups)
        if named:
            frame.insert(0, "group", groups)
        table = gt.GT(frame, groupname_col="group" if named else None, id=name)
        table = table.cols_label(dict(zip(names, self.columns, strict=True)))
        table = table.cols_align("left", names[: self.left]).cols_align("right", names[self.left :])
        table = table.tab_options(
            table_font_size="14px", source_notes_font_size="12px", table_width="auto", row_group_font_weight="bold"
        )
        if self.title:
            table = table.tab_header(title=self.title)
        for column, where in _by_column(places, "ours").items():
            table = table.fmt_markdown(columns=[column], rows=where)  # for its asterisks
        for line in self.below:
            table = table.tab_source_note(line)
        return table, places


def _pipes(columns: list[str], rows: list[list[str]], left: int) -> str:
    """A markdown table, every column as wide as it must be; the first `left` columns are words."""
    widths = [max(map(len, texts)) for texts in zip(columns, *rows, strict=True)]
    forms = [f"{'<' if i < left else '>'}{width}" for i, width in enumerate(widths)]
    lines = [" | ".join(map(format, row, forms)) for row in [columns, *rows]]
    rule = "|".join(":" + "-" * (w + 1) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def _by_column(places: list[tuple[str, int, Read]], read: str) -> dict[str, list[int]]:
    """Column -> rows of the cells of one origin."""
    found: dict[str, list[int]] = {}
    for column, row, kind in places:
        if kind == read:
            found.setdefault(column, []).append(row)
    return found


def printed(value: Any, form: str = "g", notes: Iterable[str] = ()) -> Cell:
    """A number or text as the paper prints it."""
    return Cell(value if isinstance(value, str) else number(value, form), notes=tuple(notes))


def estimate(
    value: float, low: float | None, high: float | None, form: str, bounds_form: str = "", notes: Iterable[str] = ()
) -> Cell:
    """What we measured: `62.3 [55.0, 69.8]`."""
    as_ = bounds_form or form
    bounds = "" if low is None or pd.isna(low) else f" [{number(low, as_)}, {number(high, as_)}]"
    return Cell(f"{number(value, form)}{bounds}", "ours", tuple(notes))
