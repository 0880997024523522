"""Spectra without noise: what the network decodes, and what the pixels of one image have in common beyond that."""

from __future__ import annotations

import numpy as np


def without_noise(signal: np.ndarray, fit: np.ndarray, noise: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(N, L) of what was measured and what is decoded, in edge heights; noise: (N,) of a channel; good: (N,) bool.

    What the decoded edges leave is noise, of variance one over its own, and what they lack. Directions in which the pixels
    vary by more than noise alone does are kept, each by the part of it that is none: the optimal linear estimate, its
    variances being those of the spiked covariance model (Donoho, Gavish and Johnstone, Ann. Stat. 46, 1742 (2018)).
    """
    count, length = int(good.sum()), signal.shape[1]
    if count < 2:
        return fit
    left = (signal - fit) / noise[:, None]
    own = left[good]
    variance, vectors = np.linalg.eigh(own.T @ own / count)
    # What varies along most directions is noise: it says what noise is, should counts not scatter as electrons.
    ratio = length / count
    level = max(float(np.median(variance[variance > 1e-6 * variance[-1]])), 1e-12) if count > length else 1.0
    excess = variance / level
    kept = excess > (1 + np.sqrt(ratio)) ** 2
    if not kept.any():
        return fit
    b = excess[kept] + 1 - ratio
    spike = (b + np.sqrt(np.maximum(b**2 - 4 * excess[kept], 0))) / 2
    weight = np.maximum(spike - 1, 0) / spike
    basis = vectors[:, kept].astype(np.float32)
    drawn = ((left @ basis) * weight.astype(np.float32)) @ basis.T
    return fit + drawn * noise[:, None]
