"""Spectra of one edge, normalised alike, on the same energies: what sums and differences of spectra can be taken of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.spectra.curves import interpolated
from data_pipelines.spectra.normalise import FLAT_FROM_EV, LINE_POINTS, edge_energy, normalise

# From where to where spectra are compared, eV from the edge energy, as far as all of them go.
FROM_EV, TO_EV = -20.0, 60.0
# What all of them must have, eV from the edge energy.
LEAST_FROM_EV, LEAST_TO_EV = -5.0, 15.0
# The upper part of the common range whose mean is the edge step of spectra that are too short for a polynomial.
UPPER = 0.4


class Together(NamedTuple):
    """(L,) energy in eV and (N, L) mu in edge steps. e0, step: (N,) edge energies in eV, and edge steps in the units of the
    files. doubt: (N,) standard error of each edge step, as a share of it: by how much mu scatters about 1 where it is set to
    1, of long spectra over the root of how often it crosses 1. middle: median of e0. flat: were they normalised as the field does it, and the post-edge curves bent to 1? half:
    (N,) energies in eV where mu crosses half the edge step.
    """

    energy: np.ndarray
    mu: np.ndarray
    e0: np.ndarray
    step: np.ndarray
    doubt: np.ndarray
    middle: float
    flat: bool
    half: np.ndarray

    def __str__(self) -> str:
        low, high = self.energy[[0, -1]] - self.middle
        how = "flattened"
        if not self.flat:
            how = f"{high - UPPER * (high - low):.0f} to {high:.0f} eV set to 1 in the mean: not all reach {FLAT_FROM_EV:.0f} eV"
        return f"compared from {low:.0f} to {high:.0f} eV about E0 {self.middle:.1f} eV at {len(self.energy)} energies, {how}"


def together(spectra: Sequence[tuple[str, np.ndarray, np.ndarray]], count: int | None = None) -> Together:
    """Named (N,) ascending energies in eV and mu of any scale -> Together. count: of so many, from the first, the edge
    energies are those that matter; of all where not given.

    Where all reach 100 eV above the edge, they are normalised as the field does it and flattened, but all about the median
    edge energy and over the range that they share: so a mixture is normalised as its parts are. Else a polynomial would
    follow the fine structure: then the first three of the common energies are set to 0, and the mean over the upper 40 % of
    them to 1. Energies are those of the spectrum that has the fewest, so that none is
    made of more than was measured. Raises SpectrumError, with its name, for a spectrum without an edge, and where they
    hardly overlap.
    """
    edges = []
    for name, energy, mu in spectra:
        with _told(name):
            edges.append(edge_energy(energy, mu))
    e0 = np.array(edges)
    middle = float(np.median(e0[:count]))
    grid = _common(spectra, middle)
    first, last = max(energy[0] for _, energy, _ in spectra), min(energy[-1] for _, energy, _ in spectra)
    flat = bool(last - middle >= FLAT_FROM_EV)
    rows, step, doubt = [], [], []
    for name, energy, mu in spectra:
        if flat:
            shared = (energy >= first) & (energy <= last)
            with _told(name):
                found = normalise(energy[shared], mu[shared], middle)
            rows.append(interpolated(energy[shared], found.flat, grid))
            step.append(found.step)
            doubt.append(_doubt(found.flat[energy[shared] >= middle + found.above[0]]))
        else:
            row = interpolated(energy, mu, grid)
            row = row - row[:LINE_POINTS].mean()
            upper = grid >= grid[-1] - UPPER * (grid[-1] - grid[0])
            height = float(np.trapezoid(row[upper], grid[upper]) / np.ptp(grid[upper]))
            if not height > 0:
                raise SpectrumError("no edge step", f"{name}: mu above the edge lies {height:.3g} from its pre-edge")
            rows.append(row / height)
            step.append(height)
            # The range holds about one oscillation, which does not average out.
            doubt.append(float(np.sqrt(np.mean((row[upper] / height - 1) ** 2))))
    half = np.array([_half(grid, row, own) for row, own in zip(rows, e0, strict=True)])
    return Together(grid, np.stack(rows), e0, np.array(step), np.array(doubt), middle, flat, half)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Whose error it is."""
    try:
        yield
    except SpectrumError as error:
        raise SpectrumError(error.reason, f"{name}: {error.detail}") from None


def _common(spectra: Sequence[tuple[str, np.ndarray, np.ndarray]], e0: float) -> np.ndarray:
    """The energies of the spectrum with the fewest, where all have some."""
    low = max(e0 + FROM_EV, *(energy[0] for _, energy, _ in spectra))
    high = min(e0 + TO_EV, *(energy[-1] for _, energy, _ in spectra))
    if low > e0 + LEAST_FROM_EV or high < e0 + LEAST_TO_EV:
        last, first = max(spectra, key=lambda one: one[1][0])[0], min(spectra, key=lambda one: one[1][-1])[0]
        raise SpectrumError(
            "no common range",
            f"spectra share {low - e0:.0f} to {high - e0:.0f} eV about the edge, {LEAST_FROM_EV:.0f} to {LEAST_TO_EV:.0f} "
            f"eV are needed; {last} begins last, {first} ends first",
        )
    return min((energy[(energy >= low) & (energy <= high)] for _, energy, _ in spectra), key=len)


def _doubt(level: np.ndarray) -> float:
    off = level - 1
    crossings = int((np.diff(np.sign(off)) != 0).sum())
    return float(np.sqrt(np.mean(off**2) / (crossings + 1)))


def _half(energy: np.ndarray, mu: np.ndarray, e0: float) -> float:
    """Energy where mu last crosses half the edge step before its maximum: a peak before the edge is none of it."""
    below = np.flatnonzero(mu[: int(np.argmax(mu))] < 0.5)
    if not len(below):
        return e0
    at = int(below[-1])
    low, high = mu[at : at + 2]
    return float(energy[at] + (0.5 - low) / (high - low) * (energy[at + 1] - energy[at]))
