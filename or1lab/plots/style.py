"""The look of all figures: `or1lab.mplstyle` on top of seaborn's theme of ticks, Okabe-Ito colours, print width.

Letters have 8 to 9 points whatever the width, so a figure is drawn as wide as it is printed, and never scaled: WIDTH by
default, any other by `or1lab figures --width`. Figures are made without pyplot, so that nothing depends on the state of
a notebook or of another figure:

    figure, axes = style.figure(2.9, columns=2)
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# matplotlib embeds the letters of a figure by fontTools. Tables that shape text mean nothing in a PDF, and take a third
# of the time of writing one.
subset.Options._drop_tables_default = [*subset.Options._drop_tables_default, "GSUB", "GPOS", "GDEF", "MATH"]

FILE = Path(__file__).with_name("or1lab.mplstyle")
WIDTH = 6.9  # inches: both columns of a printed page
NARROW = 5.0  # inches: below, panels stand under each other
COLORS = tuple(entry["color"] for entry in matplotlib.rc_params_from_file(FILE)["axes.prop_cycle"])
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # with the colours, so that a line is known in grey print too


@contextmanager
def theme() -> Iterator[None]:
    """Our settings for what is drawn or saved inside."""
    ours = matplotlib.rc_params_from_file(FILE, use_default_template=False)
    with matplotlib.rc_context({**matplotlib.style.library["seaborn-v0_8-ticks"], **ours}):
        yield


def figure(height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of print width and `height` inches, and its array of axes. Call it inside `theme`."""
    made = Figure(figsize=(WIDTH, height))
    return made, made.subplots(rows, columns, squeeze=False)


def filled(text: str, width: float) -> str:
    """A text of 8 points in lines that fit into `width` inches."""
    return textwrap.fill(text, int(16.2 * width))


def legend_columns(names: Sequence[str], width: float) -> int:
    """In how many columns a legend of 8.5 points fits into `width` inches: letters, and handles with their space."""
    for columns in (4, 3, 2):
        parts = np.array_split(np.array(names, dtype=object), columns)  # as matplotlib fills them
        if sum(0.6 + 0.072 * max(map(len, part), default=0) for part in parts) <= width:
            return columns
    return 1


def dress(axes: Axes, title: str, x: str, y: str) -> None:
    """Title and labels of a panel; without a title if it is empty."""
    axes.set(xlabel=symbols(x), ylabel=symbols(y))
    if title:
        axes.set_title(title, fontweight="bold")


def symbols(text: str) -> str:
    """Symbols of the paper as they are printed: N_SGD, N_reuse, D_R and D_T with their index set low."""
    return re.sub(r"\b([ND])_(SGD|reuse|R|T)\b", r"$\1_{\\mathrm{\2}}$", text)


def save(made: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.pdf, byte for byte the same for the same figure."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, pdf = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")
    with theme(), matplotlib.rc_context({"figure.constrained_layout.use": False}):
        if (engine := made.get_layout_engine()) is not None:  # laid out once, in the size that it is saved in
            made.dpi, dpi = matplotlib.rcParams["savefig.dpi"], made.dpi
            engine.execute(made)
            made.set_layout_engine(None)  # with an engine, even one that does nothing, savefig draws all of it twice
            made.dpi = dpi
        # Less packed than by default: 5% larger, and written in a twelfth less time.
        made.savefig(png, metadata={"Software": None}, pil_kwargs={"compress_level": 3})
        made.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]
