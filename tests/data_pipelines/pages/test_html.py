"""The one page of the project: what it makes is right, wrong pages are told, and nobody writes one by hand."""

from pathlib import Path

import numpy as np
import pytest

from data_pipelines.pages import html
from data_pipelines.pages.style import as_svg, panel
from data_pipelines.schema import descriptor
from tests.pages import Page

ROOT = Path(__file__).parents[3]


def picture() -> str:
    figure, axes = panel()
    axes.plot(np.arange(3), [1, 3, 2])
    axes.set_xlabel("eV < 3 & more")
    return as_svg(figure)


def test_a_page_of_all_parts_is_whole():
    parts = (
        html.tiles({"spectra": "75", "leakage": html.judged(False, "FAIL")}),
        html.panels([html.panel(picture(), html.named(descriptor("NNRS"))), html.panel(picture(), "")]),
        html.wide(picture()),
        html.table(["name", "n"], [["a", 12345], ["b", 1]]),
        html.shaded(["", "CN"], {"Cu K": [("100 %", "none")]}),
        html.commands(["spt-jax predict 'a & b'"]),
    )
    legend = html.legend([("SPT", "#1f6f9f"), ("SPT", "#d9822b")])
    page = Page(html.page("A <title>", legend, [(f"Part {i}", "note", part) for i, part in enumerate(parts)]))
    assert page.links == page.ids == [f"part-{i}" for i in range(len(parts))]
    for words in (
        "A <title>",
        "75",
        "standard deviation of first-neighbour bond lengths, Å",
        "12,345",
        "'a & b'",
        "■ SPT ■ SPT",
    ):
        assert words in page.text
    assert html.table(["name"], []) == ""


def test_a_picture_has_the_same_bytes_and_its_words_as_text():
    assert picture() == picture()
    assert "eV &lt; 3 &amp; more" in picture()


@pytest.mark.parametrize(
    "wrong",
    [
        "<table><tr><td>1</td></tr></table>",
        "<div><p></div></p>",
        "<style>b { color: red; }</style>",
        '<img src="https://example.org/a.png">',
        '<a href="https://example.org">there</a>',
        '<a href="#nowhere">there</a>',
        '<p id="part"></p>',
        "<script></script>",
    ],
)
def test_a_wrong_page_is_told(wrong):
    sections = [("Part", "", "")]
    Page(html.page("right", "", sections))
    with pytest.raises(AssertionError):
        Page(html.page("wrong", wrong, sections))


def test_nobody_else_writes_a_page():
    """A second style or a table outside its box would begin with one of these."""
    for package in ("data_pipelines", "spt_jax", "benchmarks", "docs"):
        for path in (ROOT / package).rglob("*.py"):
            if path != Path(html.__file__):
                text = path.read_text(encoding="utf-8")
                assert not [tag for tag in ("<style", "<html", "<table", "<!doctype", "<nav") if tag in text], path
