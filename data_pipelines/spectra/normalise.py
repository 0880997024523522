"""Measured mu -> edge energy, pre-edge line, post-edge polynomial, edge step, flattened mu: as the field does it.

The rules and default ranges are those of `pre_edge` of xraylarch (2025), which a test compares on measured files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial

from data_pipelines.errors import SpectrumError
from data_pipelines.spectra.curves import smoothed
from data_pipelines.spectra.grid import FEWEST

# Points that a line below the edge must have; with fewer the mean of what there is is taken off.
LINE_POINTS = 3
# A spectrum that begins nearer to its edge shows peaks before it, which no line is to follow; its first points are taken
# for what lies below, eV.
BEGINS_EV = 20.0
# Length of the part above the edge from which on a line, and from which on a parabola is fitted, eV.
LINE_ABOVE_EV, PARABOLA_ABOVE_EV = 30.0, 300.0
# What there must be above the edge for its background to be told from its fine structure, eV.
FLAT_FROM_EV = 100.0
# The derivative is smoothed by a Gaussian of this many eV at 5 keV, in proportion to the energy, as resolution goes.
SMOOTHING_EV, AT_EV = 0.4, 5000.0
# A spectrum is looked at in so many pieces at most; only one of more than 5 keV is looked at less finely than it is.
FINEST = 100_000
# Of the largest slope: what a maximum must have, with both neighbours, to be an edge and no spike.
STEEP = 0.6


class Normalised(NamedTuple):
    """(N,) `norm`: mu without its pre-edge, in edge steps; `flat`: the same with the post-edge curve bent to 1.

    e0: edge energy, eV. step: edge step, in the unit of mu. below, above: first and last energy of the fits, eV from
    e0, and `orders` of their polynomials.
    """

    norm: np.ndarray
    flat: np.ndarray
    e0: float
    step: float
    below: tuple[float, float]
    above: tuple[float, float]
    orders: tuple[int, int]

    @property
    def level(self) -> np.ndarray:
        """(N,) `flat`, or `norm` of a spectrum that ends too early: a polynomial would follow its fine structure."""
        return self.flat if self.above[1] >= FLAT_FROM_EV else self.norm

    def __str__(self) -> str:
        shapes = ("mean", "line", "parabola")
        (low, high), (first, last), (under, over) = self.below, self.above, self.orders
        return (
            f"normalised: E0 {self.e0:.1f} eV, pre-edge {shapes[under]} from {low:.0f} to {high:.0f} eV, post-edge "
            f"{shapes[over]} from {first:.0f} to {last:.0f} eV, edge step {self.step:.4g}"
            + ("" if last >= FLAT_FROM_EV else "; too short above the edge to be flattened")
        )


def edge_energy(energy: np.ndarray, mu: np.ndarray, share: float | None = None) -> float:
    """Energy in eV of the steepest rise of (N,) mu, on a parabola through the three points about it.

    share: of the largest slope; then the first maximum of the slope that reaches it. 0.4 finds the energy by which metal
    foils are calibrated, their first inflection, where the largest slope may be another. Raises SpectrumError where mu rises nowhere.

    >>> energy = np.linspace(7000, 7300, 601)
    >>> round(edge_energy(energy, np.arctan((energy - 7123.4) / 2)), 1)
    7123.4
    """
    step = max(np.min(np.diff(energy)), 0.05, np.ptp(energy) / FINEST)
    even = np.arange(energy[0], energy[-1], step)
    width = SMOOTHING_EV * energy.mean() / AT_EV / step
    slope = np.gradient(smoothed(np.interp(even, energy, mu), width), step)
    edge = max(2, int(3 * width))
    inner = slope[edge:-edge]
    if len(inner) < 3 or not inner.max() > 0:
        raise SpectrumError("no edge", "mu rises nowhere")
    peaks = 1 + np.flatnonzero((inner[1:-1] >= inner[:-2]) & (inner[1:-1] > inner[2:]))
    if not len(peaks):
        raise SpectrumError("no edge", "mu is steepest at an end of the spectrum")
    at = peaks[inner[peaks] >= share * inner.max()][0] if share else peaks[np.argmax(inner[peaks])]
    at += edge
    left, here, right = slope[at - 1 : at + 2]
    bend = left - 2 * here + right
    return float(even[at] + (0.5 * step * (left - right) / bend if bend else 0))


def normalise(energy: np.ndarray, mu: np.ndarray, e0: float | None = None) -> Normalised:
    """(N,) ascending energy in eV, (N,) mu in any scale -> Normalised; e0 in eV, if it is known.

    Below the edge a line is fitted from the second point to half way to e0 (of a spectrum that begins within 20 eV of it,
    the mean of the first points, where xraylarch has a line), above it a polynomial from 25 eV (a fifteenth of
    what there is, if that is less) to the end: of degree 2, of 1 where that is below 300 eV, of 0 where below 30 eV. Raises
    SpectrumError where there is no edge, or nothing on one side of it.
    """
    if len(energy) < FEWEST:
        raise SpectrumError("too few points", f"need at least {FEWEST} (energy, mu) pairs, got {len(energy)}")
    e0 = edge_energy(energy, mu) if e0 is None else e0
    if not energy[1] < e0 < energy[-2]:
        raise SpectrumError("no edge in range", f"E0 {e0:.1f} eV, energies {energy[0]:.1f} to {energy[-1]:.1f} eV")
    coarse = 5.0 if np.argmin(np.abs(energy - e0)) > 20 else 2.0
    low = max(coarse * round((energy[1] - e0) / coarse), energy[0] - e0)
    high = min(5.0 * round((energy[-1] - e0) / 5.0), energy[-1] - e0)
    first = min(25.0, 5.0 * round(high / 15.0), high - 2)
    below = slice(_before(energy, e0 + low), _nearest(energy, e0 + low / 2))
    above = slice(min(_before(energy, e0 + first), len(energy) - 3), _nearest(energy, e0 + high))
    if low > -BEGINS_EV:
        below = slice(below.start, below.start + LINE_POINTS)
    under = 1 if below.stop - below.start >= LINE_POINTS and low <= -BEGINS_EV else 0
    length = high - first
    over = 0 if length < LINE_ABOVE_EV else 1 if length < PARABOLA_ABOVE_EV else 2
    if below.stop <= below.start:
        below = slice(below.start, below.start + 1)
    pre = _fitted(energy[below], mu[below], under)(energy) if under else np.full(len(mu), mu[below].mean())
    post = _fitted(energy[above], (mu - pre)[above], over)(energy)
    at = _nearest(energy, e0)
    step = float(post[at])
    if not step > 0:
        raise SpectrumError("no edge step", f"mu above the edge lies {step:.3g} from its pre-edge")
    norm = (mu - pre) / step
    flat = np.where(np.arange(len(mu)) < at, norm, norm - post / step + 1)
    ends = float(energy[below.start] - e0), float(energy[below.stop - 1] - e0)
    return Normalised(norm, flat, e0, step, ends, (first, high), (under, over))


def _fitted(energy: np.ndarray, mu: np.ndarray, degree: int) -> Polynomial:
    found, (_, rank, _, _) = Polynomial.fit(energy, mu, degree, full=True)
    if rank <= degree:
        raise SpectrumError("no background", f"energies from {energy[0]:.1f} to {energy[-1]:.1f} eV fix no polynomial")
    return found


def _before(energy: np.ndarray, value: float) -> int:
    """Index of the last energy that is not above `value`; 0 where there is none."""
    return max(int(np.searchsorted(energy, value, side="right")) - 1, 0)


def _nearest(energy: np.ndarray, value: float) -> int:
    return int(np.argmin(np.abs(energy - value)))
