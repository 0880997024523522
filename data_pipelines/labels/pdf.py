"""The pair distribution function of a structure, as a total-scattering experiment would give it.

G(r) = (1 / N <f>^2) sum over pairs of f_i f_j g(r - r_ij) / r - 4 pi r rho w (Proffen and Billinge 1999, J. Appl. Cryst. 32,
572; Farrow et al. 2007, J. Phys. Condens. Matter 19, 335219): g is a normal distribution whose variance is the sum of both
mean square displacements, w the weight of the pairs that count. What is not measured beyond Qmax is cut off by sine transforms.
The differential one holds the pairs of one element alone. It equals that of diffpy.pdffit2, which a test shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from pymatgen.analysis.diffraction import neutron
from pymatgen.core import Element, Structure

from data_pipelines.errors import StructureError
from data_pipelines.schema import EnergyGrid
from data_pipelines.signals import Signal

Radiation = Literal["xray", "neutron"]
# Of the fine grid on which pairs are counted, Å; a peak is some 0.12 Å wide.
STEP = 0.005
# What is cut off in Q rings on in r: so much further than asked for pairs are counted, Å. At Qmax 25 what is left is 0.1 %
# of the main peak, at 18 0.3 %.
MARGIN = 10.0
# As far in r as a row of several signals has it, Å.
PDF_STOP = 10.0
# Times the range in r that a transform is long.
LONGER = 8


@dataclass(frozen=True)
class PdfGrid:
    """Where G(r) is wanted, and how it is measured.

    stop, points: r = stop / points, ... stop, Å. qmax: 1/Å, 0 for no end. qdamp: of the instrument's resolution, 1/Å.
    displacement: mean square displacement of every atom along one direction (Uiso), Å^2.
    """

    stop: float = 10.0
    points: int = 100
    qmax: float = 25.0
    qdamp: float = 0.0
    displacement: float = 0.007
    radiation: Radiation = "xray"

    @property
    def r(self) -> np.ndarray:
        """(points,) Å."""
        return self.stop / self.points * np.arange(1, self.points + 1)


def pdf_grid(grid: EnergyGrid, signal: Signal) -> PdfGrid:
    """Where G(r) of a signal is wanted: as many points as a spectrum has, to PDF_STOP, as far in Q as these can show."""
    qmax = min(25.0, np.pi * grid.points / PDF_STOP)
    return PdfGrid(PDF_STOP, grid.points, qmax, radiation="neutron" if signal.technique == "nPDF" else "xray")


def pair_distribution(structure: Structure, grid: PdfGrid | None = None, element: str | None = None) -> np.ndarray:
    """(points,) G(r) in 1/Å^2. element: only pairs in which one atom, or both, are of it: the differential PDF.

    Raises StructureError where a site is shared by elements, no atom is of the element, the scattering length is not known,
    or all of them cancel.
    """
    grid = grid or PdfGrid()
    length = scattering_lengths(structure, grid.radiation)
    counted = np.ones(len(structure), bool)
    if element is not None:
        counted = np.array([site.specie.symbol == element for site in structure])
        if not counted.any():
            raise StructureError("no such element", f"{structure.composition.reduced_formula} has no {element}")
    mean = length.mean()
    if abs(mean) < 1e-3 * np.abs(length).max():
        raise StructureError("no contrast", "the scattering lengths of its atoms cancel")
    site, neighbour, _, distance = structure.get_neighbor_list(grid.stop + MARGIN)
    kept = counted[site] | counted[neighbour]
    site, neighbour, distance = site[kept], neighbour[kept], distance[kept]
    weight = length[site] * length[neighbour] / (len(structure) * mean**2)
    fine = STEP * np.arange(1, round((grid.stop + MARGIN) / STEP) + 1)
    with_itself = length[:, None] * length * (counted[:, None] | counted)
    density = len(structure) / structure.volume * with_itself.mean() / mean**2
    found = _broadened(distance, weight, np.sqrt(2 * grid.displacement), len(fine)) / fine - 4 * np.pi * density * fine
    if grid.qmax:
        # An end as steep as any peak would ring on as well.
        found = cut_off(fine, found * np.cos(np.pi / 2 * np.clip((fine - grid.stop) / MARGIN, 0, 1)) ** 2, grid.qmax)
    return np.interp(grid.r, fine, found * np.exp(-0.5 * (grid.qdamp * fine) ** 2))


def scattering_lengths(structure: Structure, radiation: Radiation) -> np.ndarray:
    """(N,): the number of electrons for X-rays, the bound coherent length in fm for neutrons (of pymatgen)."""
    if not structure.is_ordered:
        raise StructureError("disordered", "a site is shared by several elements; give them sites of their own")
    symbols = [site.specie.symbol for site in structure]
    if radiation == "xray":
        return np.array([Element(symbol).Z for symbol in symbols], float)
    known = _neutron_lengths()
    if missing := sorted(set(symbols) - known.keys()):
        raise StructureError("unknown element", f"no neutron scattering length of {', '.join(missing)}")
    return np.array([known[symbol] for symbol in symbols])


@lru_cache(1)
def _neutron_lengths() -> dict[str, float]:
    return json.loads(Path(neutron.__file__).with_name("neutron_scattering_length.json").read_text())


def _broadened(distance: np.ndarray, weight: np.ndarray, width: float, points: int) -> np.ndarray:
    """(points,) density of pairs, by distance from STEP on: each a normal distribution of standard deviation `width`."""
    place = distance / STEP
    below = place.astype(int)
    share = place - below
    count = np.bincount(below, weight * (1 - share), points + 2) + np.bincount(below + 1, weight * share, points + 2)
    # Twice as long, so that nothing comes in again at the other end.
    frequency = np.fft.rfftfreq(2 * len(count), STEP)
    smooth = np.exp(-0.5 * (2 * np.pi * frequency * width) ** 2)
    return np.fft.irfft(np.fft.rfft(count, 2 * len(count)) * smooth)[1 : points + 1] / STEP


def cut_off(r: np.ndarray, g: np.ndarray, qmax: float) -> np.ndarray:
    """(N,) G at (N,) r = step, 2 step, ... (or from 0 on) without what of its sine transform lies beyond qmax."""
    step = (r[-1] - r[0]) / (len(r) - 1)
    skipped = round(r[0] / step)
    # G is odd: of one period of an odd function, a Fourier transform is the sine transform. A long period makes steps in Q
    # small, and of the step that holds qmax its share is kept.
    odd = np.concatenate([np.zeros(skipped), g])
    length = LONGER * len(odd)
    q = 2 * np.pi * np.fft.rfftfreq(2 * length, step)
    sine = np.fft.rfft(odd, 2 * length).imag
    kept = np.clip((qmax - q) / q[1] + 0.5, 0, 1)
    return np.fft.irfft(2j * sine * kept)[skipped : len(odd)]
