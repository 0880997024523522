"""One palette and one kind of picture for every page of the project: panels of inline SVG that a telephone shows unshrunk."""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_pipelines.schema import SiteKind

INK, BLUE, ORANGE, GREY = "#222222", "#1f6f9f", "#d9822b", "#b8b8b8"
OTHERS = ("#3a9a6f", "#8a5fb0", "#c44e52", "#b59b00", "#8a8a8a", "#8c5a3c", "#e377c2", "#17b8cf")
KIND_COLOUR: dict[SiteKind, str] = {"non-O": BLUE, "O": ORANGE, "structure": OTHERS[0]}
STEPS = (1, 2, 5, 10)  # of ticks
ENERGY = "eV above the reference energy"

RC: dict = {
    "svg.fonttype": "none",
    "svg.hashsalt": "spt",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
}


def panel(width: float = 3.7, height: float = 2.5) -> tuple[Figure, Axes]:
    """One picture, in inches. The margins are fixed: axes of one size stand in line, and finding a layout would double the time."""
    figure = Figure(figsize=(width, height))
    left, bottom = 0.62 / width, 0.44 / height
    axes = figure.add_axes((left, bottom, 1 - left - 0.1 / width, 1 - bottom - 0.1 / height))
    axes.yaxis.set_label_coords(-0.49 / (width - 0.72), 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    return figure, axes


@matplotlib.rc_context(RC)
def as_svg(figure: Figure) -> str:
    """The picture as an element of a page, the same bytes every time."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    # Groups are numbered anew in every picture and equal images named alike; on one page an id must be unique, and none
    # refers to these.
    return re.sub(r' id="([A-Za-z0-9.]+_\d+|image\w+)"', "", text[text.index("<svg") :])
