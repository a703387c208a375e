"""The look of all figures: `or1lab.mplstyle` on top of seaborn's theme, Okabe-Ito colours, print width.

Figures are made without pyplot, so that nothing depends on the state of a notebook or of another figure:

    figure, axes = style.figure(2.9, columns=2)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import seaborn
from matplotlib.figure import Figure

FILE = Path(__file__).with_name("or1lab.mplstyle")
WIDTH = 6.9  # inches: both columns of a printed page
COLORS = tuple(entry["color"] for entry in matplotlib.rc_params_from_file(FILE)["axes.prop_cycle"])
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # with the colours, so that a line is known in grey print too


@contextmanager
def theme() -> Iterator[None]:
    """Our settings for what is drawn or saved inside."""
    ours = matplotlib.rc_params_from_file(FILE, use_default_template=False)
    with matplotlib.rc_context({**seaborn.axes_style("ticks"), **ours}):
        yield


def figure(height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of print width and `height` inches, and its array of axes. Call it inside `theme`."""
    made = Figure(figsize=(WIDTH, height))
    return made, made.subplots(rows, columns, squeeze=False)


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
        made.savefig(png, metadata={"Software": None})
        made.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]
