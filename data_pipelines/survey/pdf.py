"""Pair distribution functions of structures, side by side with a measured one: numbers, a table, a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from pymatgen.core import Structure

from data_pipelines.labels.pdf import PdfGrid, pair_distribution
from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, OTHERS, RC
from data_pipelines.readers.gr import MeasuredPdf, to_pdf_grid

# Below, no two atoms stand, and a measured one is what its background leaves.
FROM_ANGSTROM = 1.2
# Mean square displacements that are tried, Å^2: those of most crystals between 10 K and melting.
DISPLACEMENTS = np.geomspace(0.002, 0.03, 15)


class Calculated(NamedTuple):
    """name: of the structure. g: (points,) 1/Å^2, scaled to the measured one where there is one. displacement: Å^2, and
    scale: those that fit best. rw: root of the sum of squares that is left, over that of the measured one; NaN without."""

    name: str
    g: np.ndarray
    displacement: float
    scale: float = 1.0
    rw: float = np.nan


def calculated(structure: Structure, name: str, grid: PdfGrid, element: str | None = None) -> Calculated:
    """Raises StructureError as of `pair_distribution`."""
    return Calculated(name, pair_distribution(structure, grid, element), grid.displacement)


def fitted(structure: Structure, name: str, grid: PdfGrid, measured: MeasuredPdf, file: str) -> Calculated:
    """With the scale and the mean square displacement that leave least of the measured one from FROM_ANGSTROM on. The
    structure stays as it is. Raises StructureError, and SpectrumError as of `to_pdf_grid`."""
    behind, wanted = grid.r > FROM_ANGSTROM, to_pdf_grid(measured, grid, file)
    found = []
    for displacement in DISPLACEMENTS:
        g = pair_distribution(structure, replace(grid, displacement=float(displacement)))
        scale = max(float(g[behind] @ wanted[behind] / (g[behind] @ g[behind])), 0.0)
        left = wanted - scale * g
        rw = float(np.linalg.norm(left[behind]) / np.linalg.norm(wanted[behind]))
        found.append(Calculated(name, scale * g, float(displacement), scale, rw))
    return min(found, key=lambda one: one.rw)


def as_csv(grid: PdfGrid, each: Sequence[Calculated], measured: np.ndarray | None) -> str:
    """A row for each r: the measured one, and each structure."""
    columns = {"r": grid.r} | ({} if measured is None else {"measured": measured}) | {one.name: one.g for one in each}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{r:.4f}", *(f"{g:.5f}" for g in row)] for r, *row in zip(*columns.values(), strict=True))
    return file.getvalue()


@matplotlib.rc_context(RC)
def as_figure(grid: PdfGrid, each: Sequence[Calculated], measured: np.ndarray | None, kind: str) -> bytes:
    """The picture as a file of this kind, svg or png: one above the other, each over the measured one and what is left."""
    height = 0.6 + 1.4 * len(each)
    figure = Figure(figsize=(6.4, height))
    panels = figure.subplots(len(each), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(0.125, 0.45 / height, 0.97, 1 - 0.25 / height, hspace=0.26)
    for axes, one, colour in zip(panels, each, (BLUE, ORANGE, *OTHERS) * len(each), strict=False):
        said = one.name
        if measured is not None:
            below = min(measured.min(), one.g.min()) - np.ptp(measured) / 5
            axes.plot(grid.r, measured, ".", color=INK, markersize=2.2)
            axes.axhline(below, color=GREY, linewidth=0.6)
            axes.plot(grid.r, measured - one.g + below, color=GREY, linewidth=0.9)
            said += f"; Rw {one.rw:.2f}, U {one.displacement:.3f} Å²"
        axes.plot(grid.r, one.g, color=colour, linewidth=1.2)
        axes.set_title(said, fontsize=8, loc="left", pad=2)
        axes.set_xlim(0, grid.stop)
    for axes in panels:
        axes.set_ylabel("G / Å$^{-2}$")
        axes.yaxis.set_label_coords(-0.1, 0.5)
    if measured is not None:
        panels[0].set_title("dots: measured, grey: what is left", fontsize=8, loc="right", pad=2)
    panels[-1].set_xlabel("r / Å")
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
    return file.getvalue()
