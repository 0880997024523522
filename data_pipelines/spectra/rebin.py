"""Counts of an image's channels -> sums between the borders of a grid, each channel shared out by how it overlaps them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.loss_grid import LossGrid


class Rebinning(NamedTuple):
    """Sums are counts[..., start:stop] @ shares, of the front and of the edge. shares: (stop - start, groups or points)."""

    front: tuple[int, int]
    front_shares: np.ndarray
    edge: tuple[int, int]
    edge_shares: np.ndarray

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """(..., E) counts -> (..., length) float32 rows."""
        parts = ((self.front, self.front_shares), (self.edge, self.edge_shares))
        return np.concatenate([counts[..., slice(*at)] @ shares for at, shares in parts], axis=-1)


def rebinning(energy: np.ndarray, grid: LossGrid, name: str = "the image") -> Rebinning:
    """For an image of (E,) energies, ascending. Raises UserError where these do not cover the grid."""
    middle = (energy[:-1] + energy[1:]) / 2
    borders = np.concatenate([[2 * energy[0] - middle[0]], middle, [2 * energy[-1] - middle[-1]]])
    wanted = grid.borders()
    first, last = wanted[0][0], wanted[1][-1]
    slack = 0.5 * grid.step
    if borders[0] > first + slack or borders[-1] < last - slack:
        raise UserError(
            f"{name} has energies from {energy[0]:.1f} to {energy[-1]:.1f} eV; the {grid.edge} edge with its background asks "
            f"for {first:.1f} to {last:.1f} eV"
        )
    parts = []
    for own in wanted:
        overlap = np.minimum(borders[1:, None], own[None, 1:]) - np.maximum(borders[:-1, None], own[None, :-1])
        shares = np.maximum(overlap, 0) / np.diff(borders)[:, None]
        used = np.flatnonzero(shares.any(axis=1))
        start, stop = int(used[0]), int(used[-1]) + 1
        parts += [(start, stop), shares[start:stop].astype(np.float32)]
    return Rebinning(*parts)


def gain_of(counts: np.ndarray) -> float:
    """Counts that an electron makes, by how neighbouring channels of (N, E) counts differ; 1 where they are no counts.

    Of Poisson counts n times a gain g, the squared difference of neighbours is on average g times their sum. What varies
    smoothly along the channels is taken out by second differences. The median over channels: spikes are rare.
    """
    counts = np.asarray(counts, np.float64)
    left, middle, right = counts[:, :-2], counts[:, 1:-1], counts[:, 2:]
    bend = (middle - (left + right) / 2) ** 2 / 1.5
    total = np.nanmean((left + middle + right) / 3, axis=0)
    with np.errstate(all="ignore"):
        found = np.nanmedian(np.where(total > 0, np.nanmean(bend, axis=0) / total, np.nan))
    return float(np.clip(found, 1e-6, 1e6)) if np.isfinite(found) and found > 0 else 1.0
