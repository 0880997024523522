"""Counts of an image's channels -> sums between the borders of a grid, each channel shared out by how it overlaps them.

What is trained on and what is answered come through here: dead channels and the gain of a detector are taken out alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.loss_grid import LossGrid

# A channel is dead that is zero in all pixels where so many electrons would be expected.
EXPECTED = 10.0


class Rebinning(NamedTuple):
    """Sums are counts[..., start:stop] @ shares, of the front and of the edge. shares: (stop - start, groups or points)."""

    front: tuple[int, int]
    front_shares: np.ndarray
    edge: tuple[int, int]
    edge_shares: np.ndarray

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """(..., E) counts -> (..., length) float32 rows."""
        parts = ((self.front, self.front_shares), (self.edge, self.edge_shares))
        with np.errstate(invalid="ignore", over="ignore"):  # of what is no number
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
        overlap = np.maximum(overlap, 0)
        # The first and the last sum may reach a little beyond the energies.
        covered = overlap.sum(axis=0) / np.diff(own)
        shares = overlap / np.diff(borders)[:, None] / covered
        used = np.flatnonzero(shares.any(axis=1))
        start, stop = int(used[0]), int(used[-1]) + 1
        parts += [(start, stop), shares[start:stop].astype(np.float32)]
    return Rebinning(*parts)


class Detector(NamedTuple):
    """gain: counts that an electron makes. dead: (E,) bool, channels that say nothing in any pixel."""

    gain: float
    dead: np.ndarray

    def mended(self, rebin: Rebinning, name: str = "the image") -> Rebinning:
        """Sums without the dead channels, scaled up to the whole; one without any channel left is the mean of its neighbours.

        Raises UserError where two sums side by side have none left.
        """
        return rebin._replace(
            front_shares=_without(rebin.front_shares, self.dead[slice(*rebin.front)], name),
            edge_shares=_without(rebin.edge_shares, self.dead[slice(*rebin.edge)], name),
        )

    def alive(self, counts: np.ndarray) -> np.ndarray:
        """(..., E) counts with zeros in the dead channels, which may be no numbers."""
        return np.where(self.dead, 0, counts) if self.dead.any() else counts


def detector_of(sample: np.ndarray, rebin: Rebinning, gain: float | None = None) -> Detector:
    """By (N, E) counts from all over an image. gain: where it is known. Of no usable pixel nothing is said."""
    finite = np.isfinite(sample)
    sample, finite = (
        each[finite.any(axis=1) & (np.where(finite, sample, 0) != 0).any(axis=1)] for each in (sample, finite)
    )
    if not len(sample):
        return Detector(gain or 1.0, np.zeros(sample.shape[1], bool))
    missing = ~finite.any(axis=0)
    mean = np.where(finite, sample, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    silent = missing | (mean == 0)
    if gain is None:
        front = slice(*rebin.front)
        gain = gain_of(sample[:, front][:, ~silent[front]])
    at = np.arange(len(mean))
    expected = np.interp(at, at[~silent], mean[~silent]) * len(sample) / gain if not silent.all() else mean
    return Detector(gain, missing | (silent & (expected > EXPECTED)))


def gain_of(counts: np.ndarray) -> float:
    """Counts that an electron makes, by how neighbouring channels of (N, E) counts differ; 1 where they are no counts.

    Of Poisson counts n times a gain g, the squared difference of neighbours is on average g times their sum. What varies
    smoothly along the channels is taken out by second differences. The median over channels: spikes are rare. Pixels that
    are not finite throughout are left out.
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[np.isfinite(counts).all(axis=1)]
    if not len(counts) or counts.shape[1] < 3:
        return 1.0
    left, middle, right = counts[:, :-2], counts[:, 1:-1], counts[:, 2:]
    bend = ((middle - (left + right) / 2) ** 2 / 1.5).mean(axis=0)
    total = ((left + middle + right) / 3).mean(axis=0)
    if not (total > 0).any():
        return 1.0
    found = float(np.median(bend[total > 0] / total[total > 0]))
    return found if np.isfinite(found) and found > 0 else 1.0


def _without(shares: np.ndarray, dead: np.ndarray, name: str) -> np.ndarray:
    if not dead.any():
        return shares
    alive = np.where(dead[:, None], 0, shares)
    part = alive.sum(axis=0) / np.maximum(shares.sum(axis=0), 1e-9)
    scaled = alive / np.where(part > 0, part, 1)
    for column in np.flatnonzero(part == 0):
        sides = [i for i in (column - 1, column + 1) if 0 <= i < shares.shape[1] and part[i] > 0]
        if not sides:
            raise UserError(
                f"{name}: two sums of channels side by side are dead in all pixels: the edge cannot be read"
            )
        scaled[:, column] = scaled[:, sides].mean(axis=1)
    return scaled.astype(np.float32)
