"""A sheet in its three forms: markdown, HTML, LaTeX."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from or1lab.sheet import LETTERS, Cell, Sheet, number


def sheet() -> Sheet:
    rows = [
        [Cell("a_b & c"), Cell(number(-1.5)), Cell("2", notes=("first note",))],
        [Cell("by eye"), Cell("55.6", "eye"), Cell("3 (paper 4)", "differs", ("second note", "first note"))],
    ]
    ours = [[Cell("b"), Cell("9.0 [8.0, 10.0]", "ours"), Cell("7", "ours")]]
    return Sheet(["name", "x", "y_z"], {"paper": rows, "ours": ours}, "A title", ["A last line."])


def test_numbers_have_a_true_minus_sign_and_short_exponents():
    assert number(-0.5, "+.1f") == "−0.5" and number(None) == "–"
    assert [number(x) for x in (1e-6, 1e-4, 16384, 1e12)] == ["1e−6", "0.0001", "16384", "1e12"]


def test_markdown_tells_printed_from_eye_from_ours():
    lines = sheet().markdown().splitlines()
    assert lines[0] == "**A title**"
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert table[0] == ["name", "x", "y_z"] and table[2] == ["*paper*", "", ""]
    assert table[3:5] == [["a_b & c", "−1.5", "2ᵃ"], ["by eye", "≈55.6", "≠ 3 (paper 4)ᵇᵃ"]]
    assert table[6] == ["b", "**9.0 [8.0, 10.0]**", "7"]
    assert "ᵃ first note" in lines and "ᵇ second note" in lines and lines[-1] == "A last line."
    assert any("read by eye" in line for line in lines) and any("Measured here" in line for line in lines)


def test_a_table_without_our_numbers_does_not_speak_of_them():
    text = Sheet(["x"], {"": [[Cell("1")]]}).markdown()
    assert text == "| x |\n|:--|\n| 1 |"


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._open = False

    def handle_starttag(self, tag, attrs):
        if tag == "td":
            self._open = True
            self.found.append((dict(attrs).get("style") or "", ""))

    def handle_endtag(self, tag):
        self._open = self._open and tag != "td"

    def handle_data(self, data):
        if self._open:
            style, text = self.found[-1]
            self.found[-1] = (style, text + data.strip())


def test_html_has_the_same_cells_and_looks_for_each_origin():
    page = Text()
    page.feed(sheet().html("mine"))
    looks = {text: style for style, text in page.found}
    assert looks["a_b & c"] == "" and looks["−1.5"] == "" and "italic" in looks["≈55.6"]
    assert "color" in looks["9.0 [8.0, 10.0]"] and "color" in looks["7"] and "background" in looks["≠ 3 (paper 4)ᵇᵃ"]
    assert 'charset="utf-8"' in sheet().html("mine") and sheet().html("mine") == sheet().html("mine")


def test_latex_has_no_character_that_pdflatex_lacks():
    text = sheet().latex("mine")
    assert {c for c in text if ord(c) > 127} <= {"–"}
    assert r"a\_b \& c & $-$1.5 & 2$^{a}$ \\" in text and r"$\approx$55.6" in text
    assert r"\textbf{9.0 {[}8.0, 10.0{]}}" in text and text.count("\\begin{") == text.count("\\end{")


def test_more_footnotes_than_letters_are_an_error():
    cells = [[Cell("1", notes=(str(i),))] for i in range(len(LETTERS) + 1)]
    with pytest.raises(ValueError, match="footnotes"):
        Sheet(["x"], {"": cells})
