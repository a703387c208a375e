"""A table in a notebook that can be searched, sorted and filtered (itables); it needs no network."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import pandas as pd


def searchable(
    frame: pd.DataFrame, caption: str, filtered: Container[str], columns: Sequence[dict[str, Any]] = (), **options: Any
) -> str:
    """The frame as HTML.

    Args:
        filtered: columns with a list of their values to choose from.
        columns, options: further definitions of columns and options of the table, in the words of DataTables.
    """
    from itables.javascript import generate_init_offline_itables_html, opt, to_html_datatable

    lists = [i for i, name in enumerate(frame.columns) if name in filtered]
    page = to_html_datatable(
        frame, caption=caption, connected=False, maxBytes=0, showIndex=False, classes="display compact",
        style="table-layout:auto;width:100%;caption-side:top",
        columnDefs=[*columns, {"targets": lists, "columnControl": [["searchList"]]}], **options,
    )  # fmt: skip
    return generate_init_offline_itables_html(opt.dt_bundle) + page
