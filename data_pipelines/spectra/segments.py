"""A lower bound of the distance between spectra, cheap enough to search with."""

from __future__ import annotations

import numpy as np

# Spectra that are turned into float64 at a time.
ROWS = 2**14


def segment_means(spectra: np.ndarray, segments: int) -> np.ndarray:
    """(N, L) -> (N, segments or L if that is less) float64 means over equal stretches of energy.

    A mean moves by no more than the largest change inside its stretch. So the largest difference of means is at most
    max |mu_i - mu_j|, and a search in so few dimensions misses no spectrum that is near. `spectra` may lie on disk.
    """
    length = spectra.shape[1]
    edges = np.linspace(0, length, min(segments, length) + 1).astype(int)
    means = np.empty((len(spectra), len(edges) - 1))
    for start in range(0, len(spectra), ROWS):
        part = np.asarray(spectra[start : start + ROWS])
        means[start : start + ROWS] = np.add.reduceat(part, edges[:-1], axis=1, dtype=np.float64) / np.diff(edges)
    return means
