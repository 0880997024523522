"""Where a K edge lies on the grid, and the regions and features of a spectrum that are named after it."""

from __future__ import annotations

import numpy as np

# The pre-edge ends this far below the edge. 1s -> 3d features of 3d metals lie 5 to 15 eV below it, and the edges of
# the sites of one class scatter by about 2 eV: nearer to the mean edge the rising edge of many sites would be counted.
PRE_EDGE_FROM_EV, PRE_EDGE_GAP_EV = 15.0, 5.0
# The white line, the first maximum of a K edge, lies within this above it.
WHITE_LINE_EV = 15.0


def edge(energy: np.ndarray, mu: np.ndarray) -> float:
    """Energy where (L,) mu last crosses half its unit edge step before its maximum, between points on a straight line.

    The last, so that a strong pre-edge peak is not taken for the edge. Every spectrum of a dataset begins below half
    (`data_pipelines.spectra.grid.edge_step`).
    """
    below = np.flatnonzero(mu[: np.nanargmax(mu)] < 0.5)[-1]
    low, high = mu[below], mu[below + 1]
    return float(energy[below] + (0.5 - low) / (high - low) * (energy[below + 1] - energy[below]))


def pre_edge(energy: np.ndarray, at: float) -> np.ndarray:
    """(L,) bool: from 15 to 5 eV below the edge."""
    return (energy >= at - PRE_EDGE_FROM_EV) & (energy <= at - PRE_EDGE_GAP_EV)


def white_line(energy: np.ndarray, at: float) -> np.ndarray:
    """(L,) bool: from the edge to 15 eV above it."""
    return (energy >= at) & (energy <= at + WHITE_LINE_EV)


def above_convex(mu: np.ndarray) -> np.ndarray:
    """(n,) what rises above the lower convex hull of (n,) mu: peaks, without the convex foot of a rising edge."""
    hull: list[int] = []
    for i in range(len(mu)):
        while len(hull) > 1 and (mu[hull[-1]] - mu[hull[-2]]) * (i - hull[-1]) >= (mu[i] - mu[hull[-1]]) * (
            hull[-1] - hull[-2]
        ):
            hull.pop()
        hull.append(i)
    return mu - np.interp(np.arange(len(mu)), hull, mu[hull])
