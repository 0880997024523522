"""Points that stand out of a spectrum as nothing physical does: a failed energy of a calculation, a glitch of a beamline.

Both are judged by how far up to three points in a row lie beyond the nearest two on either side, and how far these spread:
a calculated curve is smooth, but may have lines of twenty edge steps; a measured one has no such lines, but noise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.schema import REFERENCE_ENERGY_EV, SYMBOLS
from data_pipelines.spectra.shape import limits_of

POINTS = 3
# How far calculated points may stand out, in edge steps, and in the spread of their neighbours besides. Of 13,359 FEFF
# spectra, Li K with lines of twenty edge steps among them, none exceeds 0.8 times as much.
CALCULATED = (0.125, 2.5)
# The second of these of measured points; the first is as of the element. Glitches of 1.5 edge steps planted in 123 measured
# references are found in 99 of 100, of 0.8 in 76; points that scatter by 0.1 edge steps are taken for one in no scan.
SPREAD = 1.0
# Before this element lines up to LINES eV above the reference energy may be narrower than two steps of more than FINE eV.
BROADENED, FINE, LINES = SYMBOLS.index("Ti"), 0.3, 40.0


def standing_out(mu: np.ndarray, limit: float, spread: float = SPREAD) -> np.ndarray:
    """(N,) bool: points of (N,) mu, up to three in a row, that lie beyond all of the nearest two on either side (at an end,
    the nearest four) by more than `limit` and `spread` times the range of these."""
    found = np.zeros(len(mu), bool)
    for width in range(1, min(POINTS, len(mu) - 4) + 1):
        around, within = _neighbours(len(mu), width)
        others, inside = mu[around], mu[within]
        low, high = others.min(axis=0), others.max(axis=0)
        beyond = np.maximum(inside.min(axis=0) - high, low - inside.max(axis=0))
        for start in np.flatnonzero(beyond > limit + spread * (high - low)):
            found[start : start + width] = True
    return found


@lru_cache(maxsize=64)
def _neighbours(length: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(4, length - width + 1) the others about `width` points in a row, and (width, ...) these points."""
    first = np.arange(length - width + 1)
    around = first + np.array([-2, -1, width, width + 1])[:, None]
    around = np.where(around < 0, around + width + 4, around)
    around = np.where(around >= length, around - width - 4, around)
    return around, first + np.arange(width)[:, None]


def check_spikes(mu: np.ndarray, what: object, judged: np.ndarray | None = None) -> None:
    """Raises SpectrumError where points of calculated (N,) mu, in edge steps, stand out.

    judged: (N,) bool, points on energies close enough to resolve whatever line there is; all where not given.
    """
    out = standing_out(mu, *CALCULATED) & (True if judged is None else judged)
    if out.any():
        at = int(np.argmax(np.where(out, np.abs(mu), -1)))
        detail = f"{what}: point {at + 1} far from the points on either side, mu = {mu[at]:.2f} edge steps"
        raise SpectrumError("spike", detail)


def check_glitches(energy: np.ndarray, mu: np.ndarray, element: str, grid_energy: np.ndarray) -> None:
    """Raises SpectrumError where (N,) mu, in edge steps, has a point that no edge of this element can have."""
    out = standing_out(mu, limits_of(element)[0])
    out &= (energy >= grid_energy[0]) & (energy <= grid_energy[-1]) & resolved(energy, element)
    if out.any():
        at = int(np.argmax(np.where(out, np.abs(mu), -1)))
        raise SpectrumError(
            "glitch",
            f"{int(out.sum())} point{'s' if out.sum() > 1 else ''} far off the others, to {mu[at]:.1f} edge steps at "
            f"{energy[at]:.1f} eV; leave them out, --deglitch does so",
        )


def resolved(energy: np.ndarray, element: str, edge: str = "K") -> np.ndarray:
    """(N,) bool: is a point one of several on whatever line may be there? Lines of light elements are narrower than the
    steps of many a grid, and one point of these is no glitch."""
    e0 = REFERENCE_ENERGY_EV.get((element, edge))
    if e0 is None or SYMBOLS.index(element) >= BROADENED or len(energy) < 2:
        return np.ones(len(energy), bool)
    steps = np.diff(energy)
    widest = np.maximum(np.append(steps, steps[-1]), np.insert(steps, 0, steps[0]))
    return (widest <= FINE) | (energy > e0 + LINES)
