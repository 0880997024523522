"""Spectra of one edge, normalised alike, on the same energies: what sums and differences of spectra can be taken of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from data_pipelines.errors import SpectrumError
from data_pipelines.spectra.normalise import FLAT_FROM_EV, Normalised, normalise

# From where to where spectra are compared, eV from the edge energy, as far as all of them go.
FROM_EV, TO_EV = -20.0, 60.0
# What all of them must have, eV from the edge energy.
LEAST_FROM_EV, LEAST_TO_EV = -5.0, 15.0


class Together(NamedTuple):
    """(L,) energy in eV and (N, L) mu in edge steps. each: how each was normalised. e0: median of the edge energies, eV.
    flat: were the post-edge curves bent to 1? half: (N,) energies in eV where mu crosses half the edge step.
    """

    energy: np.ndarray
    mu: np.ndarray
    each: tuple[Normalised, ...]
    e0: float
    flat: bool
    half: np.ndarray

    def __str__(self) -> str:
        low, high = self.energy[0] - self.e0, self.energy[-1] - self.e0
        how = "flattened" if self.flat else "not flattened, because not all reach 100 eV above the edge"
        return (
            f"compared from {low:.0f} to {high:.0f} eV about E0 {self.e0:.1f} eV at {len(self.energy)} energies, {how}"
        )


def together(spectra: Sequence[tuple[str, np.ndarray, np.ndarray]], count: int | None = None) -> Together:
    """Named (N,) ascending energies in eV and mu of any scale -> Together. count: of so many, from the first, the edge
    energies are those that matter; of all where not given.

    All are flattened or none is. Energies are those of the spectrum that has the fewest, so that none is made of more than
    was measured. Raises SpectrumError, with its name, for one that cannot be normalised, and where they hardly overlap.
    """
    each = []
    for name, energy, mu in spectra:
        try:
            each.append(normalise(energy, mu))
        except SpectrumError as error:
            raise SpectrumError(error.reason, f"{name}: {error.detail}") from None
    e0 = float(np.median([one.e0 for one in each[:count]]))
    low = max(e0 + FROM_EV, *(energy[0] for _, energy, _ in spectra))
    high = min(e0 + TO_EV, *(energy[-1] for _, energy, _ in spectra))
    if low > e0 + LEAST_FROM_EV or high < e0 + LEAST_TO_EV:
        ends = [max(spectra, key=lambda one: one[1][0])[0], min(spectra, key=lambda one: one[1][-1])[0]]
        raise SpectrumError(
            "no common range",
            f"spectra share {low - e0:.0f} to {high - e0:.0f} eV about the edge, {LEAST_FROM_EV:.0f} to {LEAST_TO_EV:.0f} "
            f"eV are needed; {ends[0]} begins last, {ends[1]} ends first",
        )
    inside = [energy[(energy >= low) & (energy <= high)] for _, energy, _ in spectra]
    grid = min(inside, key=len)
    flat = all(one.above[1] >= FLAT_FROM_EV for one in each)
    levels = [one.flat if flat else one.norm for one in each]
    mu = np.stack(
        [PchipInterpolator(energy, level)(grid) for (_, energy, _), level in zip(spectra, levels, strict=True)]
    )
    half = np.array([_half(energy, one) for (_, energy, _), one in zip(spectra, each, strict=True)])
    return Together(grid, mu, tuple(each), e0, flat, half)


def _half(energy: np.ndarray, found: Normalised) -> float:
    """Energy where mu last crosses half the edge step before its maximum: a peak before the edge is none of it."""
    top = int(np.argmax(np.where(energy < found.e0 + TO_EV, found.norm, -np.inf)))
    below = np.flatnonzero(found.norm[:top] < 0.5)
    if not len(below):
        return found.e0
    at = int(below[-1])
    low, high = found.norm[at : at + 2]
    return float(energy[at] + (0.5 - low) / (high - low) * (energy[at + 1] - energy[at]))
