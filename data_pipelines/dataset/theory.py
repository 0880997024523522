"""Calculated edges by class, as files in a folder for each class, brought to the channels of a grid."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.feff.output import read_xmu
from data_pipelines.loss_grid import LossGrid
from data_pipelines.readers.images.open import open_image
from data_pipelines.spectra.curves import interpolated

SUFFIXES = (".txt", ".csv", ".msa", ".dat")
# A calculation must reach over this part of the grid behind its rise; beyond its end it stays as it ends.
LEAST_REACH = 0.5
# eV on either side of the tabulated onset in which a calculated edge may rise to half of its height.
NEAR_ONSET = 15.0
# Of what is drawn for the statistics: how many, largest shift and broadening, eV.
DRAWN, SHIFT, BROADENING = 4096, 2.0, 1.0
# Of a channel, whose mean is taken.
FINER = 16
# A measured edge is never the calculated one: smooth deviations of this size and length, eV, count as possible.
DEVIATION, SMOOTHNESS = 0.05, 3.0


class Theory(NamedTuple):
    """kind: the class. curve: energy (eV) and intensity in any unit, (N,) each."""

    kind: str
    name: str
    file: Path
    energy: np.ndarray
    intensity: np.ndarray


def read_theory(folder: Path) -> list[Theory]:
    """FOLDER/CLASS/NAME.txt and the like, sorted. Raises UserError where there are no two classes, or a file is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; calculated edges lie in one folder for each class")
    found = []
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() not in SUFFIXES or path.name[0] == "." or path.parent.name[0] == "." or path.is_dir():
            continue
        try:
            energy, intensity = _curve(path)
        except (SpectrumError, OSError, ValueError) as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from None
        if not np.isfinite(intensity).all() or np.ptp(intensity) <= 0:
            raise UserError(f"{path}: holds no edge")
        found.append(Theory(path.parent.name, path.stem, path, energy, intensity))
    kinds = {each.kind for each in found}
    if len(kinds) < 2:
        said = f"only {', '.join(kinds)}" if kinds else f"no file in {', '.join(SUFFIXES)}"
        raise UserError(f"{folder}: {said}; at least two classes are needed, each a folder with calculated edges")
    return found


def _curve(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.suffix.lower() == ".dat":
        run = read_xmu(path)
        return np.asarray(run.energy, float), np.asarray(run.mu, float)
    spectrum = open_image(path)
    if spectrum.shape[:3] != (1, 1, 1):
        raise UserError(f"{path}: an image, not one calculated edge")
    return spectrum.energy, spectrum.rows(0, 0, 1)[0, 0].astype(float)


def rise_of(energy: np.ndarray, intensity: np.ndarray) -> float:
    """eV at which an edge first comes to half of its mean height behind."""
    low = intensity[: max(2, len(intensity) // 50)].mean() if intensity[0] < 0.3 * np.median(intensity) else 0.0
    height = np.median(intensity[len(intensity) // 2 :]) - low
    above = intensity - low > 0.5 * height
    return float(energy[int(np.argmax(above))])


def on_grid(theory: Theory, grid: LossGrid, onset: float) -> np.ndarray:
    """(points,) of mean 1: zero in front of the calculation, and as it ends behind its end.

    Raises UserError for an edge that rises elsewhere than the grid's, begins behind its rise, ends too early or is negative.
    """
    if not theory.intensity.mean() > 0:
        raise UserError(f"{theory.file}: its intensity is below zero; turn it round")
    rise = rise_of(theory.energy, theory.intensity)
    middles, (_, borders) = grid.relative(), grid.borders()
    if abs(rise - onset) > NEAR_ONSET:
        raise UserError(
            f"{theory.file}: its edge rises at {rise:.1f} eV, {grid.edge} is at {onset:g} eV; energies must be absolute"
        )
    if rise <= theory.energy[0]:
        raise UserError(
            f"{theory.file}: begins at {rise:.1f} eV, where it has risen already; nothing lies in front of the edge"
        )
    if theory.energy[-1] < rise + LEAST_REACH * (middles[-1] - rise):
        raise UserError(f"{theory.file}: ends at {theory.energy[-1]:.1f} eV, the grid at {middles[-1]:.1f} eV")
    within = (np.arange(FINER) + 0.5) / FINER
    at = (borders[:-1, None] + np.diff(borders)[:, None] * within).ravel()
    curve = interpolated(theory.energy, theory.intensity, np.clip(at, theory.energy[0], theory.energy[-1]))
    curve = np.where(at < theory.energy[0], 0, curve)
    curve = np.where(at > theory.energy[-1], theory.intensity[-len(theory.intensity) // 20 :].mean(), curve)
    curve = curve.reshape(grid.points, FINER).mean(axis=1)
    return (curve / curve.mean()).astype(np.float32)


def drawn_edges(curves: np.ndarray, step: float, seed: int = 0) -> np.ndarray:
    """(DRAWN, points) edges of mean 1 as they may be seen without noise: mixtures of two of (N, points), shifted, broadened,
    with smooth deviations. Of these a network's statistics are made."""
    rng = np.random.default_rng(seed)
    count, points = curves.shape
    chosen = rng.integers(0, count, (2, DRAWN))
    share = np.where(rng.random(DRAWN) < 0.5, 1.0, rng.random(DRAWN))[:, None]
    mixed = share * curves[chosen[0]] + (1 - share) * curves[chosen[1]]
    at = np.arange(points)
    shift = rng.uniform(-SHIFT, SHIFT, DRAWN) / step
    moved = np.stack([np.interp(at - own, at, row) for own, row in zip(shift, mixed, strict=True)])
    # Few widths, so that many rows are filtered at once.
    widths = rng.integers(0, 4, DRAWN)
    for number in range(1, 4):
        rows = widths == number
        moved[rows] = gaussian_filter1d(moved[rows], number / 3 * BROADENING / step, axis=1, mode="nearest")
    noise = gaussian_filter1d(rng.normal(size=(DRAWN, points)), SMOOTHNESS / step, axis=1, mode="wrap")
    moved = moved * (1 + DEVIATION * noise / noise.std())
    return moved / moved.mean(axis=1, keepdims=True)
