"""The documentation's site in a browser: it asks for nothing that is not in its folder, and shows what it has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from or1lab.recipe import ROOT
from tests.browser import CHROMIUM, Page, browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

PAGES = {"index": "main img", "algorithm": "main math", "off_policy": "main img"}  # what a page has to show
HEIGHTS = "[...document.querySelectorAll('{}')].map(one => one.getBoundingClientRect().height)"
IMAGES = "[...document.images].filter(image => image.checkVisibility())"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", str(ROOT / "docs"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def errors(page: Page) -> list:
    """What the console and the browser's log complain of."""
    told = ((one.get("entry", one).get("level") or one.get("type"), one) for one in page.complaints())
    return [one for kind, one in told if kind not in ("log", "info", "debug", "verbose")]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_site_shows_all_that_it_has_and_asks_for_nothing_else(name, site, page):
    address = (site / f"{name}.html").as_uri()
    page.open(address, 1280)
    asked = page.requested()
    assert asked[0] == address and len(asked) > 3
    assert [one for one in asked if not one.startswith((site.as_uri(), "data:"))] == []
    assert errors(page) == []
    shown = page.ask(HEIGHTS.format(PAGES[name]))
    assert shown and min(shown) > 5
    assert page.ask(f"{IMAGES}.every(image => image.complete && image.naturalWidth > 0)")
    page.keep(f"docs-{name}")


def test_the_index_leads_to_the_pages_and_the_search_finds_them(site, page):
    page.open((site / "index.html").as_uri(), 1280)
    for name in ("tutorial", "explanation"):
        assert page.ask(f"""[...document.querySelectorAll("a")].some(link => link.pathname.endsWith("/{name}.html"))""")
    page.open((site / "search.html").as_uri() + "?q=entropy", 1280)
    found = """new Promise(done => { const look = () =>
      document.querySelector("#search-results li a") ? done(true) : setTimeout(look, 100); look();
      setTimeout(() => done(false), 30000); })"""
    assert page.ask(found)
    assert all(one.startswith((site.as_uri(), "data:")) for one in page.requested())
