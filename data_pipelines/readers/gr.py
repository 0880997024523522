"""Measured pair distribution functions, .gr files of PDFgetX3, xPDFsuite, PDFgetN and others: r, G and what is said of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.labels.pdf import PdfGrid, Radiation, cut_off
from data_pipelines.readers.text import decoded

START = re.compile(r"#+\s*start data", re.IGNORECASE)
QMAX = re.compile(r"\bqmax\s*=\s*([\d.]+)", re.IGNORECASE)
COMPOSITION = re.compile(r"^\s*composition\s*=\s*(\S+)", re.IGNORECASE | re.MULTILINE)
MODE = re.compile(r"^\s*mode\s*=\s*(xray|x-ray|neutron)", re.IGNORECASE | re.MULTILINE)
# Fewer are no function.
FEWEST = 20


class MeasuredPdf(NamedTuple):
    """r: (N,) Å, ascending. g: (N,) 1/Å^2. radiation, qmax (1/Å) and composition: None and "" where the file does not say."""

    r: np.ndarray
    g: np.ndarray
    radiation: Radiation | None
    qmax: float | None
    composition: str


def read_gr(path: Path) -> MeasuredPdf:
    """Raises SpectrumError for what is no such file."""
    text = decoded(path.read_bytes(), str(path))
    header, mark, body = text, "", text
    if found := START.search(text):
        header, mark, body = text[: found.start()], found.group(), text[found.end() :]
    values = _numbers(body)
    if len(values) < FEWEST:
        where = f"below `{mark}`" if mark else "in it"
        raise SpectrumError("empty", f"{path} has {len(values)} rows of r and G {where}")
    r, g = np.array(values).T
    if not np.isfinite(g).all():
        raise SpectrumError("not finite", f"{path}: row {int(np.argmin(np.isfinite(g))) + 1} holds NaN or infinity")
    if not (np.diff(r) > 0).all() or r[0] < 0:
        raise SpectrumError(
            "r not ascending", f"{path}: r does not rise after row {int(np.argmax(np.diff(r) <= 0)) + 1}"
        )
    return MeasuredPdf(r, g, _radiation(header + body[:200]), _qmax(header), _composition(header))


def to_pdf_grid(measured: MeasuredPdf, grid: PdfGrid, name: str) -> np.ndarray:
    """(points,) G as far in Q as the grid says. Raises SpectrumError where the measurement does not go as far, in r or in Q,
    or is of other radiation."""
    if measured.r[-1] < grid.stop:
        raise SpectrumError("grid not covered", f"{name} ends at r = {measured.r[-1]:g} Å, {grid.stop:g} Å are needed")
    if measured.radiation and measured.radiation != grid.radiation:
        raise SpectrumError("radiation", f"{name} was measured with {measured.radiation}, not {grid.radiation}")
    if measured.qmax and measured.qmax < grid.qmax:
        raise SpectrumError("qmax", f"{name} was measured to Qmax {measured.qmax:g}/Å, {grid.qmax:g} are needed")
    coarsest = np.pi / grid.qmax if grid.qmax else grid.stop / grid.points
    if (step := float(np.diff(measured.r).max())) > coarsest:
        raise SpectrumError("too coarse", f"{name} has a point every {step:.2f} Å, one every {coarsest:.2f} is needed")
    r, g = measured.r, measured.g
    if grid.qmax and measured.qmax and measured.qmax > grid.qmax:
        even = np.linspace(r[0], r[-1], len(r))
        r, g = even, cut_off(even, np.interp(even, r, g), grid.qmax)
    return np.interp(grid.r, r, g)


def _numbers(body: str) -> list[tuple[float, float]]:
    """The first two of the rows that hold two numbers or more, and nothing else."""
    found = []
    for line in body.splitlines():
        try:
            row = [float(word) for word in line.replace(",", " ").split()]
        except ValueError:
            continue
        if len(row) > 1:
            found.append((row[0], row[1]))
    return found


def _radiation(text: str) -> Radiation | None:
    if found := MODE.search(text):
        return "neutron" if found[1].lower() == "neutron" else "xray"
    return "neutron" if "PDFgetN" in text else None


def _qmax(header: str) -> float | None:
    """The last one: an instrument's own comes before what was used."""
    found = QMAX.findall(header)
    return float(found[-1]) if found else None


def _composition(header: str) -> str:
    found = COMPOSITION.search(header)
    return found[1] if found else ""
