"""Is it the spectrum of an edge at all? Checks of the measured points, and of the shape that they give on the grid.

Limits are set so that no spectrum of the FEFF libraries and none of 140 measured references comes near them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.schema import REFERENCE_ENERGY_EV, SYMBOLS, EnergyGrid

# Largest distance of two energies, in eV: near the edge, NEAR eV from the beginning of the grid, and behind that. FEFF
# has 0.9 at most, measured references 1 and 2.
NEAR, NEAR_GAP, GAP = 20.0, 3.0, 8.0
# From which element on, how far a peak of up to three points may stand out of its surroundings (spikes.py), and how high
# mu may rise, both in edge steps. Lifetimes broaden K edges of the 3d metals by 1 eV and more: measured and FEFF
# they have 0.1 and 3.7 at most. FEFF's O K has 1.9 and 7.5, its Li K, which nothing broadens, 25.
LIMITS = (("Ti", 0.5, 5.0), ("O", 4.0, 12.0), ("H", np.inf, 100.0))
# What is left of a spectrum, in edge steps (root mean square), when the best of a kind of curve and a line are taken off:
# 0.011 of FeN measured, 0.012 and more of FEFF. Noise of the points, up to so much, is not counted: an edge of little
# structure in more noise looks like an arctangent, but has a rise that no sine and no cubic has.
FINE_STRUCTURE = 0.008
# From krypton on lifetimes of 3 eV and more leave less: 0.007 of Ag K measured.
BROAD, BROAD_STRUCTURE = SYMBOLS.index("Kr"), 0.002
NOISE = {"an arctangent": 0.02, "a tanh": 0.02, "a sine": 0.1, "a cubic": 0.1}
# By so much more than seen on the grid points scatter: interpolation smooths them.
SMOOTHED = 1.2
# Points that scatter by this, in edge steps, show no edge; measured references have 0.026 at most.
NOISY = 0.1
# The coarse search misses the best curve by 0.01 at most.
COARSE = 0.012
# A narrower range shows too little of a spectrum to tell it from a line, eV.
NARROWEST = 25.0
# A background that falls as a power of the energy bends: not known to this, in edge steps, it hides the edge.
BENT, BENT_OVER = 0.1, 50.0


def check_points(energy: np.ndarray, grid_energy: np.ndarray) -> None:
    """Raise SpectrumError where (N,) ascending energies are too far from each other to give a curve on the grid."""
    # Beyond either end by the one point that closes the last interval.
    first, last = np.searchsorted(energy, [grid_energy[0], grid_energy[-1]])
    inside = energy[max(first - 1, 0) : last + 1]
    steps = np.diff(inside)
    # Below the grid nothing happens.
    steps = np.where(inside[:-1] < grid_energy[0], inside[1:] - grid_energy[0], steps)
    near = inside[:-1] < grid_energy[0] + NEAR
    for limit, gaps in ((NEAR_GAP, np.where(near, steps, 0)), (GAP, steps)):
        if len(gaps) and gaps.max() > limit:
            at = int(np.argmax(gaps))
            points = int(((energy >= grid_energy[0]) & (energy <= grid_energy[-1])).sum())
            raise SpectrumError(
                "too few points",
                f"{points} on the grid, {inside[at]:.1f} and {inside[at + 1]:.1f} eV follow each other; "
                f"there must be one every {limit:g} eV",
            )


def k_edges_near(energy: np.ndarray, mu: np.ndarray) -> list[str]:
    """Elements whose K edge lies where (N,) mu rises steepest over ascending energies in eV."""
    if len(energy) < 10 or energy.shape != mu.shape or not (np.diff(energy) > 0).all() or not np.isfinite(mu).all():
        return []
    even = np.linspace(energy[0], energy[-1], 5000)
    rise = np.gradient(np.convolve(np.interp(even, energy, mu), np.ones(5) / 5, mode="valid"))
    at = even[2 + int(rise.argmax())]
    return [element for (element, edge), e0 in REFERENCE_ENERGY_EV.items() if edge == "K" and -5 < at - e0 < 25]


def limits_of(element: str) -> tuple[float, float]:
    """How far a point may stand off, and how high mu may rise, in edge steps."""
    number = SYMBOLS.index(element)
    return next((alone, highest) for first, alone, highest in LIMITS if number >= SYMBOLS.index(first))


def check_background(energy: np.ndarray, mu: np.ndarray, below: np.ndarray, edge: float, step: float) -> None:
    """Raise SpectrumError where the points `below` the edge fall as a power of the energy, as the background of energy
    loss does, from so high that the line that is taken off is none. mu: (N,) as measured; step: of the edge."""
    x, y = energy[below], mu[below]
    if len(x) < 5 or not (y > 0).all() or not x[0] > 0:
        return
    power = -np.polyfit(np.log(x), np.log(y), 1)[0]
    bent = y.mean() / step * power * (power + 1) / 2 * (BENT_OVER / edge) ** 2
    if 1 < power < 8 and bent > BENT:
        raise SpectrumError(
            "background",
            f"below the edge mu falls as E^-{power:.1f} from {y.mean() / step:.1f} edge steps: subtract this background "
            "first",
        )


def shapes(mu: np.ndarray, grid: EnergyGrid, elements: Sequence[str]) -> list[SpectrumError | None]:
    """Why rows of (N, L) mu on the grid, of unit edge step where every spectrum has it, are of no edge; None where they
    are."""
    found: list[SpectrumError | None] = [None] * len(mu)
    highest = np.nanmax(mu, axis=1)
    for row in np.flatnonzero(highest > LIMITS[0][2]).tolist():
        if highest[row] > limits_of(elements[row])[1]:
            found[row] = SpectrumError("implausible peak", f"mu rises to {highest[row]:.1f} edge steps")
    energy = grid.relative()[: grid.common]
    if energy[-1] - energy[0] < NARROWEST:
        return found
    mu = np.asarray(mu[:, : grid.common], float)
    noise = 1.4826 * np.median(np.abs(np.diff(mu, 2, axis=1)), axis=1) / np.sqrt(6)
    for row in np.flatnonzero(noise > NOISY).tolist():
        found[row] = found[row] or SpectrumError("noise", f"points scatter by {noise[row]:.2f} edge steps")
    broad = np.array([SYMBOLS.index(element) >= BROAD for element in elements])
    fine = np.where(broad, BROAD_STRUCTURE, FINE_STRUCTURE)
    limits = {kind: np.sqrt(fine**2 + np.minimum(SMOOTHED * noise, most) ** 2) for kind, most in NOISE.items()}
    for start in range(0, len(mu), 256):
        rows = slice(start, start + 256)
        for kind, (left, best) in _left(mu[rows], grid).items():
            for row in np.flatnonzero(left < limits[kind][rows] + COARSE).tolist():
                near = _refined(mu[start + row], grid, kind, float(left[row]), int(best[row]))
                if near < limits[kind][start + row] and found[start + row] is None:
                    told = f"mu is {kind} and a line, to {100 * near:.1f} % of the step: no spectrum"
                    found[start + row] = SpectrumError("no fine structure", told)
    return found


_WIDTHS = np.geomspace(0.1, 10, 10)
_KINDS = {
    "an arctangent": lambda x, at, width: [np.arctan((x - at) / width)],
    "a tanh": lambda x, at, width: [np.tanh((x - at) / width)],
    "a sine": lambda x, at, width: [np.sin(2 * np.pi * x / at), np.cos(2 * np.pi * x / at)],
    "a cubic": lambda x, at, width: [x**2, x**3],
}


@lru_cache(maxsize=4)
def _searched(grid: EnergyGrid) -> dict[str, tuple[list[tuple[float, float]], np.ndarray]]:
    """Of each kind the K places and widths of the coarse search, and (L, K * C) the curves there, as of `_bases`: laid out
    for one product, since a copy of them costs as much as a network's answer."""
    x = grid.relative()[: grid.common]
    span = x[-1] - x[0]
    edges = [(at, width) for at in np.arange(x[0] - 2, x[0] + 0.75 * span, 0.35) for width in _WIDTHS]
    places = {kind: edges for kind in ("an arctangent", "a tanh")}
    places |= {"a sine": [(span / turns, 0.0) for turns in np.arange(0.1, 8, 0.03)], "a cubic": [(0.0, 0.0)]}
    curves = {kind: _bases(x, kind, *np.array(own).T) for kind, own in places.items()}
    return {kind: (places[kind], np.hstack(list(own))) for kind, own in curves.items()}


def _bases(x: np.ndarray, kind: str, at: np.ndarray, width: np.ndarray) -> np.ndarray:
    """(K, L, C) orthonormal columns of a curve, a constant and a line, for (K,) places and widths."""
    curves = _KINDS[kind](x, at[:, None], width[:, None])
    columns = np.stack(np.broadcast_arrays(np.ones((len(at), len(x))), x, *curves), axis=2)
    return np.linalg.qr(columns / np.abs(columns).max(axis=1, keepdims=True))[0]


def _left(mu: np.ndarray, grid: EnergyGrid) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each kind the (N,) root mean square that its best curve leaves of (N, L), and the number of that curve."""
    whole, found = (mu**2).sum(axis=1), {}
    for kind, (places, curves) in _searched(grid).items():
        explained = ((mu @ curves).reshape(len(mu), len(places), -1) ** 2).sum(axis=2)
        best = explained.argmax(axis=1)
        left = np.maximum(whole - np.take_along_axis(explained, best[:, None], axis=1)[:, 0], 0)
        found[kind] = np.sqrt(left / mu.shape[1]), best
    return found


def _refined(mu: np.ndarray, grid: EnergyGrid, kind: str, left: float, best: int) -> float:
    """Root mean square that the best curve of a kind leaves of (L,), around what the coarse search finds."""
    x = grid.relative()[: grid.common]
    whole = float((mu**2).sum())
    at, width = _searched(grid)[kind][0][best]
    shift, factor = (0.06 * at, 1.0) if kind == "a sine" else (0.8, 1.8)
    for _ in range(0 if kind == "a cubic" else 3):
        sizes = np.geomspace(width / factor, width * factor, 9) if factor > 1 else np.array([width])
        places = np.repeat(np.linspace(at - shift, at + shift, 9), len(sizes))
        widths = np.tile(sizes, 9)
        explained = ((mu @ _bases(x, kind, places, widths)) ** 2).sum(axis=1)
        best = int(explained.argmax())
        left, at, width = np.sqrt(max(0.0, whole - explained[best]) / len(x)), places[best], widths[best]
        shift, factor = shift / 4, factor**0.25
    return float(left)
