"""What goes wrong with a measured spectrum: the cases that every model is tried on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.grid import broadened, post_edge, resampled, shifted

Kind = Literal["noise", "shift", "broadening", "resampling", "missing start", "missing end"]


@dataclass(frozen=True)
class Perturbation:
    """One case.

    `size` by kind: noise, sigma of the Gaussian in edge steps; shift, eV added to the energies; broadening, sigma of
    the energy resolution in eV; resampling, step of the measured points in eV; missing start or end, eV of the grid
    that were not measured there.
    """

    kind: Kind
    size: float

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown kind of perturbation {self.kind!r}; known: {', '.join(get_args(Kind))}")
        if self.kind != "shift" and self.size < 0:
            raise ValueError(f"the size of {self.kind} cannot be negative, got {self.size}")

    def __str__(self) -> str:
        return f"{self.kind} {self.size:g} {'edge steps' if self.kind == 'noise' else 'eV'}"


PERTURBATIONS: tuple[Perturbation, ...] = (
    *(Perturbation("noise", sigma) for sigma in (0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05)),
    *(Perturbation("shift", ev) for ev in (-2, -1, -0.5, -0.25, 0.25, 0.5, 1, 2)),
    *(Perturbation("broadening", sigma) for sigma in (0.5, 1, 1.5, 2)),
    *(Perturbation("resampling", step) for step in (1, 2, 3)),
    *(Perturbation("missing start", ev) for ev in (5, 10, 20)),
    *(Perturbation("missing end", ev) for ev in (5, 10, 20)),
)


def perturb(spectrum: np.ndarray, grid: EnergyGrid, case: Perturbation, seed: int) -> np.ndarray:
    """(N, L) spectra on the grid -> (N, L) float32 as an imperfect measurement would have given them.

    The same arguments give the same result, so that all models see the same spectra; row i has the same noise
    whatever rows follow it, and a stronger level is the same noise scaled up. What was not measured is filled with
    the nearest measured value. `predict` does so itself for up to 10 eV at the start; it refuses more, and any
    missing end, so these cases say what a user would get who filled it by hand. Where the grid does not require the
    end, it is NaN instead, as `predict` makes it; what is NaN already stays so.

    Edge steps are found again from the perturbed spectrum, as they would be; an undisturbed one stays as it is.
    """
    known = np.isfinite(spectrum)
    ends = known.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    clean = np.take_along_axis(np.asarray(spectrum, np.float64), np.minimum(np.arange(grid.points), ends[:, None]), 1)
    match case.kind:
        case "noise":
            # float64 draws are filled row after row: a row's numbers do not depend on N.
            changed = clean + case.size * np.random.default_rng(seed).standard_normal(clean.shape)
        case "shift":
            changed = shifted(clean, grid, case.size)
        case "broadening":
            changed = broadened(clean, grid, case.size)
        case "resampling":
            changed = resampled(clean, grid, case.size)
        case "missing start" | "missing end":
            changed = _held(clean, grid, case)
    before, after = (post_edge(mu[:, : grid.common]).mean(axis=1) for mu in (clean, changed))
    changed = np.where(known, changed * (before / after)[:, None], np.nan)
    if case.kind == "missing end":
        changed[:, max(grid.points - round(case.size / grid.step), grid.common) :] = np.nan
    return changed.astype(np.float32)


def _held(spectrum: np.ndarray, grid: EnergyGrid, case: Perturbation) -> np.ndarray:
    """The nearest measured value where `case.size` eV of the grid are missing."""
    missing = round(case.size / grid.step)
    if missing >= grid.points:
        raise ValueError(f"{case}: the grid has only {grid.points * grid.step:g} eV")
    point = np.arange(grid.points)
    kept = np.maximum(point, missing) if case.kind == "missing start" else np.minimum(point, point[-1] - missing)
    return spectrum[:, kept]
