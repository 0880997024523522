"""Where a K edge lies on the grid, and the regions of a spectrum that are named after it."""

from __future__ import annotations

import numpy as np

# The pre-edge ends this far below the edge. 1s -> 3d features of 3d metals lie 5 to 15 eV below it, and the edges of
# the sites of one class scatter by about 2 eV: nearer to the mean edge the rising edge of many sites would be counted.
PRE_EDGE_GAP_EV = 5.0
NEAR_EDGE_EV = 3.0
# Where no feature of the edge is left: the white line of a K edge ends within this.
FAR_EV = 20.0


def edge(energy: np.ndarray, mu: np.ndarray) -> float:
    """Energy where (L,) mu first crosses half its unit edge step, between points on a straight line.

    Every spectrum of a dataset begins below that (`data_pipelines.spectra.grid.edge_step`).
    """
    above = max(int(np.argmax(mu >= 0.5)), 1)
    low, high = mu[above - 1], mu[above]
    return float(energy[above - 1] + (0.5 - low) / (high - low) * (energy[above] - energy[above - 1]))


def pre_edge(energy: np.ndarray, at: float, gap: float = PRE_EDGE_GAP_EV) -> np.ndarray:
    """(L,) bool: from the start of the grid to 5 eV below the edge."""
    return energy < at - gap


def near_edge(energy: np.ndarray, at: float) -> np.ndarray:
    """(L,) bool: within 3 eV of the edge."""
    return np.abs(energy - at) <= NEAR_EDGE_EV


def far_windows(energy: np.ndarray, at: float, size: int) -> list[slice]:
    """All windows of `size` points, side by side, that begin 20 eV above the edge or later."""
    start = int(np.searchsorted(energy, at + FAR_EV))
    return [slice(first, first + size) for first in range(start, len(energy) - size + 1, max(size, 1))]
