"""Settings of the documentation site. `make docs` builds it into docs/_build, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parent.parent)]

import or1lab  # noqa: E402

project = "or1lab"
version = release = or1lab.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated", "mathml"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Strict: every link and name of ours has to be there (`-n -W`). Names of other packages are not looked up.
nitpick_ignore_regex = [("py:.*", r"(?!or1lab).*")]

default_role = "code"  # `name` in a docstring
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

WIDE = ("recipe", "metrics", "differences", "study", "contradictions", "faults", "suites")  # pages of wide tables
html_theme = "pydata_sphinx_theme"
html_title = "or1lab"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"index": [], "tutorial": []}
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {"**": ["page-toc"], **dict.fromkeys(WIDE, [])},
    "footer_start": [],
    "footer_end": [],
    "show_toc_level": 2,
}
