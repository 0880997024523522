"""Measured mu -> edge steps by MBACK: the background is what makes mu equal the tabulated absorption of the atom.

T.-C. Weng, G. S. Waldo, J. E. Penner-Hahn, J. Synchrotron Rad. 12, 506 (2005). f'' is Chantler's, of xraydb (extra
`mback`). As in xraylarch's `mback`, which a test compares, the two sides of the edge weigh alike and the background is a
polynomial; that makes it a linear problem, solved at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial

from data_pipelines.errors import MissingExtra, SpectrumError
from data_pipelines.spectra.normalise import edge_energy

# Fitted are energies so far below and above the edge, eV: between them lies what the table of free atoms has not.
BELOW_EV, ABOVE_EV = -20.0, 25.0
# Where f'' is taken for its smooth parts on both sides, eV from the edge.
TABLE_EV = ((-300.0, -30.0), (30.0, 1000.0))
# Degree of the background by where the spectrum ends, eV from the edge: in a shorter one a parabola follows the fine
# structure. Of measured references the third degree tells fewer rightly than the second (docs/measured.md).
ORDERS = ((60.0, 1), (np.inf, 2))
# Fewer points on a side determine nothing.
LEAST_POINTS = 3


class Matched(NamedTuple):
    """(N,) `level`: mu without its background, in tabulated edge steps, the part above the edge level at 1.

    fpp: (N,) mu without its background on the scale of f''. scale: f'' per unit of mu. e0: edge energy, eV. step: edge
    step, in the unit of mu. below, above: first and last energy of what was fitted, eV from e0. order: of the background.
    """

    level: np.ndarray
    fpp: np.ndarray
    scale: float
    e0: float
    step: float
    below: tuple[float, float]
    above: tuple[float, float]
    order: int

    def __str__(self) -> str:
        (low, high), (first, last) = self.below, self.above
        return (
            f"normalised by MBACK: E0 {self.e0:.1f} eV, f'' of Chantler matched from {low:.0f} to {high:.0f} and from "
            f"{first:.0f} to {last:.0f} eV with a background of degree {self.order}, edge step {self.step:.4g}"
        )


def mback(
    energy: np.ndarray, mu: np.ndarray, element: str, e0: float | None = None, order: int | None = None
) -> Matched:
    """(N,) ascending energy in eV across the K edge, (N,) mu in any scale -> Matched; e0 in eV, if it is known.

    order: of the background; by the range above the edge where not given. Raises SpectrumError where there is no edge, or
    too little on one side of it.
    """
    try:
        from xraydb import f2_chantler
    except ModuleNotFoundError:
        raise MissingExtra("mback", "MBACK") from None
    e0 = edge_energy(energy, mu) if e0 is None else e0
    x = energy - e0
    under, over = x <= BELOW_EV, x >= ABOVE_EV
    if under.sum() < LEAST_POINTS or over.sum() < LEAST_POINTS:
        raise SpectrumError(
            "too short", f"MBACK needs mu from below {BELOW_EV:.0f} to above {ABOVE_EV:+.0f} eV about E0 {e0:.1f} eV"
        )
    last = float(x[-1])
    if order is None:
        order = next(degree for end, degree in ORDERS if last < end)
    scale, background = matched(x, mu, f2_chantler(element, energy), (under, over), order)
    fpp = scale * mu - background
    pre, post = _sides(e0, energy, f2_chantler, element)
    at = int(np.argmin(np.abs(x)))
    height = float(post[at] - pre[at])
    if not scale > 0:
        raise SpectrumError("no edge step", f"mu falls where f'' of {element} rises, at {e0:.1f} eV")
    level = (fpp - pre) / np.where(x < 0, height, post - pre)
    ends = [(float(x[side][0]), float(x[side][-1])) for side in (under, over)]
    return Matched(level, fpp, scale, e0, height / scale, ends[0], ends[1], order)


def matched(
    x: np.ndarray, mu: np.ndarray, f2: np.ndarray, sides: tuple[np.ndarray, np.ndarray], order: int
) -> tuple[float, np.ndarray]:
    """Scale and (N,) polynomial background for which scale * mu - background is nearest to f2 on both sides.

    x: (N,) energy from the edge. sides: (N,) bool, points that are fitted; each side weighs as much as the other.
    """
    width = float(np.abs(x).max())
    powers = (x / width)[:, None] ** np.arange(order + 1)
    rows = np.concatenate([np.flatnonzero(side) for side in sides])
    weights = np.concatenate([np.full(side.sum(), 1 / np.sqrt(side.sum())) for side in sides])
    columns = np.column_stack([mu, -powers])[rows] * weights[:, None]
    size = np.abs(columns).max(axis=0)
    found = np.linalg.lstsq(columns / size, f2[rows] * weights, rcond=None)[0] / size
    return float(found[0]), powers @ found[1:]


def _sides(
    e0: float, energy: np.ndarray, f2: Callable[[str, np.ndarray], np.ndarray], element: str
) -> list[np.ndarray]:
    """(N,) f'' of the electrons that are bound less, and of all, as powers of the energy through both sides of the edge."""
    found = []
    for start, end in TABLE_EV:
        at = np.linspace(e0 + start, e0 + end, 200)
        power = Polynomial.fit(np.log(at), np.log(f2(element, at)), 1)
        found.append(np.exp(power(np.log(energy))))
    return found
