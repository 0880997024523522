"""Pure functions of (energy, mu) arrays: checks, normalisation, the energy grid, and what an instrument does to mu.

The same functions prepare training spectra and spectra given to `predict`, so a model never
sees an input that was treated otherwise than its training data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from data_pipelines.errors import RunError, SpectrumError
from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.curves import interpolated, smoothed
from data_pipelines.spectra.shape import check_background, check_points, shapes
from data_pipelines.spectra.spikes import check_glitches

# FEFF writes nothing below k = -1 (about 4 eV under the Fermi level), where mu is down to the
# core-hole tail; the grid's first few eV may be filled with the first value.
MAX_PRE_EDGE_FILL_EV = 10.0
# A spectrum that begins higher than this, in edge steps, begins on its edge. Filled with its first value it would show
# an edge that is not there, so then it must begin lower; FEFF's own begin at 0.2 at most (K edges from Li to Cu).
MAX_START, MAX_FILLED_START = 0.5, 0.25
# The upper part of the grid over which the oscillations average to the unit edge step.
POST_EDGE_FRACTION = 0.4
# An edge step that is a smaller part of mu than this is what rounding leaves of a line.
SMALLEST_STEP = 1e-6
# A pre-edge line is fitted only to points this far below the grid: measured spectra have them, FEFF does not.
PRE_EDGE_GAP_EV = 10.0
# No K edge lies higher, and no number that was measured is larger: sums of what is do not overflow.
HIGHEST_EV, LARGEST = 200_000.0, 1e30
FEWEST = 8
# Points so much farther off that line than half of them are glitches, and the line is not theirs.
STRAY = 30.0


def check(energy: np.ndarray, mu: np.ndarray, grid_energy: np.ndarray) -> None:
    """Raise SpectrumError unless (N,) energy in eV and (N,) mu are usable on grid_energy."""
    if energy.ndim != 1 or energy.shape != mu.shape or len(energy) < FEWEST:
        raise SpectrumError(
            "too few points", f"need at least {FEWEST} (energy, mu) pairs, got {energy.shape} and {mu.shape}"
        )
    if not (np.isfinite(energy).all() and np.isfinite(mu).all()):
        line = int(np.argmin(np.isfinite(energy) & np.isfinite(mu)))
        raise SpectrumError("not finite", f"point {line + 1} holds NaN or infinity")
    if np.abs(mu).max() > LARGEST or np.abs(energy).max() > HIGHEST_EV:
        line = int(np.argmax((np.abs(mu) > LARGEST) | (np.abs(energy) > HIGHEST_EV)))
        raise SpectrumError("implausible numbers", f"point {line + 1} holds {energy[line]:g} eV and {mu[line]:g}")
    if (np.diff(energy) <= 0).any():
        if (np.diff(energy) < 0).all():
            raise SpectrumError("energy descending", "sort the file by ascending energy")
        raise SpectrumError(
            "energy not monotonic", f"energies do not rise after point {int(np.argmax(np.diff(energy) <= 0)) + 1}"
        )
    low, high = grid_energy[0], grid_energy[-1]
    if energy[0] * 1000 < high and energy[-1] * 1000 > low and energy[-1] < 2 * energy[0]:
        raise SpectrumError(
            "energy in keV", f"energies end at {energy[-1]:g}; give them in eV (this edge lies near {low:.0f} eV)"
        )
    if energy[0] < 0 or (energy[-1] < low / 2 and energy[0] < 0.8 * energy[-1]):
        raise SpectrumError(
            "relative energies",
            f"energies run from {energy[0]:g} to {energy[-1]:g}, counted from an edge or a Fermi level; this edge lies near "
            f"{low:.0f} eV: add what they are counted from (--shift EV)",
        )
    if energy[0] > low + MAX_PRE_EDGE_FILL_EV or energy[-1] < high:
        raise SpectrumError(
            "grid not covered",
            f"spectrum spans {energy[0]:.1f} to {energy[-1]:.1f} eV, the grid needs {low:.1f} to {high:.1f} eV",
        )


def pre_edge(energy: np.ndarray, grid_energy: np.ndarray) -> np.ndarray:
    """(N,) bool: points well below the edge."""
    return energy < grid_energy[0] - PRE_EDGE_GAP_EV


def remove_pre_edge(energy: np.ndarray, mu: np.ndarray, grid_energy: np.ndarray) -> np.ndarray:
    """Subtract the straight line through the points well below the edge, where there are enough of them."""
    below = pre_edge(energy, grid_energy)
    if below.sum() < 5:
        return mu
    x, y = energy[below] - grid_energy[0], mu[below]
    slope, offset = np.polyfit(x, y, 1)
    off = np.abs(y - slope * x - offset)
    stray = off > STRAY * np.median(off)
    if 0 < stray.sum() <= len(x) - 5:
        slope, offset = np.polyfit(x[~stray], y[~stray], 1)
    return mu - (slope * (energy - grid_energy[0]) + offset)


def post_edge(mu: np.ndarray) -> np.ndarray:
    """(..., L) mu, at the energies that every spectrum has -> its part above the edge, whose mean is the edge step."""
    return mu[..., int(mu.shape[-1] * (1 - POST_EDGE_FRACTION)) :]


def edge_step(mu: np.ndarray, highest_start: float = MAX_START) -> float:
    """Mean of (L,) mu, as of `post_edge`, above the edge; raises SpectrumError where there is no edge."""
    post = post_edge(mu)
    step = float(post.mean())
    if not step > 0:
        raise SpectrumError("no edge step", f"mean mu above the edge is {step:.3g}")
    if mu[0] > highest_start * step:
        raise SpectrumError("no edge in range", f"mu starts at {mu[0] / step:.2f} of its post-edge level")
    if post.std() > step or mu.min() < -0.5 * step:
        raise SpectrumError(
            "implausible edge step", "mu above the edge varies by more than the step, or falls far below zero"
        )
    return step


def refused(mu: np.ndarray, grid: EnergyGrid) -> dict[int, SpectrumError]:
    """Rows of (N, L) spectra on the grid whose edge step `to_grid` would refuse if it were given them, with its reason.

    What it asks of the shape, `prepare` has asked before they were on the grid.

    >>> list(refused(np.array([np.linspace(0, 1, 20), np.ones(20), np.full(20, np.nan)]), EnergyGrid(points=20)))
    [1, 2]
    """
    if grid.signals:
        known = np.isfinite(mu).reshape(len(mu), len(grid.signals), grid.points)[:, :, : grid.common]
        there, whole = known.any(axis=2), known.all(axis=2)
        torn = SpectrumError("not finite", "a signal holds NaN or infinity")
        nothing = SpectrumError("no signal", f"none of {', '.join(grid.signals)}")
        return {
            row: torn if there[row].any() else nothing
            for row in np.flatnonzero(~whole.any(axis=1) | (there & ~whole).any(axis=1)).tolist()
        }
    open_end, mu = mu[:, grid.common :], mu[:, : grid.common]
    post = post_edge(mu)
    with np.errstate(invalid="ignore"):
        step = post.mean(axis=1)
        good = (step > 0) & (mu[:, 0] <= MAX_START * step) & (post.std(axis=1) <= step) & (mu.min(axis=1) >= -step / 2)
        good &= np.isfinite(mu).all(axis=1) & ends_once(open_end)
    found = {}
    for row in np.flatnonzero(~good).tolist():
        try:
            if not np.isfinite(mu[row]).all():
                point = int(np.argmin(np.isfinite(mu[row]))) + 1
                raise SpectrumError("not finite", f"point {point} holds NaN or infinity")
            edge_step(mu[row])
            raise SpectrumError("not finite", "a gap before its end")
        except SpectrumError as error:
            found[row] = error
    return found


def ends_once(mu: np.ndarray) -> np.ndarray:
    """(N,) rows of (N, M) numbers that are known up to some point, and NaN behind it."""
    known = np.isfinite(mu)
    return (known | np.isnan(mu)).all(axis=1) & (known[:, 1:] <= known[:, :-1]).all(axis=1)


def to_grid(energy: np.ndarray, mu: np.ndarray, grid: EnergyGrid, element: str, edge: str = "K") -> np.ndarray:
    """(N,) energy in eV and (N,) mu -> (grid.points,) float32 with unit edge step, NaN beyond the last energy.

    Shape-preserving cubic interpolation (no overshoot at the white line); energy is never
    re-aligned, so the chemical shift stays. Raises SpectrumError with a counted reason.

    >>> energy = np.linspace(8960, 9100, 600)
    >>> counts = 400 + 7000 / (1 + np.exp(8984 - energy)) * (1 + 0.3 * np.exp(-(((energy - 8990) / 3) ** 2)))
    >>> to_grid(energy, counts, EnergyGrid(), "Cu")[[0, 6, -1]].round(2)
    array([0.05, 0.5 , 1.  ], dtype=float32)
    """
    [spectrum] = all_to_grid([(energy, mu, element, edge)], grid)
    if isinstance(spectrum, SpectrumError):
        raise spectrum
    return spectrum


def all_to_grid(
    spectra: Sequence[tuple[np.ndarray, np.ndarray, str, str]], grid: EnergyGrid
) -> list[np.ndarray | SpectrumError]:
    """`to_grid` of many (energy, mu, element, edge), with the error in the place of a spectrum that has one.

    Those on the same energies are interpolated together, to the same bits as alone.
    """
    if grid.signals:
        raise RunError(f"rows of {', '.join(grid.signals)} are made of all files of a sample: docs/fusion.md")
    found: dict[int, np.ndarray | SpectrumError] = {}
    together: dict[tuple[str, str, bytes], list[tuple[int, np.ndarray, np.ndarray]]] = defaultdict(list)
    for i, (energy, mu, element, edge) in enumerate(spectra):
        energy, mu = np.asarray(energy, float), np.asarray(mu, float)
        try:
            try:
                grid_energy = grid.absolute(element, edge)
            except ValueError as error:
                raise SpectrumError("unknown edge", str(error)) from None
            check(energy, mu, grid_energy[: grid.common])
            check_points(energy, grid_energy[: grid.common])
            together[element, edge, energy.tobytes()].append((i, energy, mu))
        except SpectrumError as error:
            found[i] = error
    for (element, edge, _), members in together.items():
        energy, grid_energy = members[0][1], grid.absolute(element, edge)
        highest_start = MAX_FILLED_START if energy[0] > grid_energy[0] else MAX_START
        flat = [remove_pre_edge(energy, mu, grid_energy) for _, _, mu in members]
        curves = interpolated(energy, np.stack(flat), np.maximum(grid_energy, energy[0]))
        below = pre_edge(energy, grid_energy)
        for (i, _, mu), own, on_grid in zip(members, flat, curves, strict=True):
            try:
                step = edge_step(on_grid[: grid.common], highest_start)
                if step < SMALLEST_STEP * np.abs(mu).max():
                    raise SpectrumError("no edge step", f"it is {step / np.abs(mu).max():.1g} of the largest mu")
                check_background(energy, mu, below, grid_energy[0], step)
                check_glitches(energy, own / step, element, grid_energy)
                found[i] = (on_grid / step).astype(np.float32)
            except SpectrumError as error:
                found[i] = error
    rows = {i: row for i, row in found.items() if isinstance(row, np.ndarray)}
    if rows:
        wrong = shapes(np.stack(list(rows.values())), grid, [spectra[i][2] for i in rows])
        found |= {i: error for i, error in zip(rows, wrong, strict=True) if error}
    return [found[i] for i in range(len(spectra))]


def shifted(mu: np.ndarray, grid: EnergyGrid, shift: float) -> np.ndarray:
    """(N, L) mu with the energy axis calibrated `shift` eV too high; the end values are held where mu is not known."""
    energy = grid.relative()
    return interpolated(energy, mu, np.clip(energy - shift, energy[0], energy[-1]))


def broadened(mu: np.ndarray, grid: EnergyGrid, sigma: float) -> np.ndarray:
    """(N, L) mu seen with a Gaussian energy resolution of standard deviation `sigma` eV; end values held outside."""
    return smoothed(np.asarray(mu, float), sigma / grid.step, truncate=6)


def resampled(mu: np.ndarray, grid: EnergyGrid, step: float) -> np.ndarray:
    """(N, L) mu measured every `step` eV only, and at the end of the grid, then brought back as `to_grid` does."""
    energy = grid.relative()
    measured = np.append(np.arange(energy[0], energy[-1] - 1e-6, step), energy[-1])
    return interpolated(measured, interpolated(energy, mu, measured), energy)
