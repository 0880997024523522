"""Spectra without noise: what the pixels of one image have in common, with and without what the network says of them."""

from __future__ import annotations

import numpy as np

# Of the estimated errors, in numbers of a pixel: a smaller difference may be chance.
MARGIN = 1.0


def without_noise(
    signal: np.ndarray, fit: np.ndarray, noise: np.ndarray, good: np.ndarray, freedom: float
) -> np.ndarray:
    """(N, L) of what was measured and what was fitted to it, in counts; noise: (N, L), their deviation; good: (N,) bool.
    freedom: how many numbers were fitted to a pixel.

    What a fit leaves is noise, of variance one over its own, and what the fit lacks; of that is kept what the pixels have in
    common (`shrunk`). With very many counts they have more in common than any fit says, and the measurement itself is better
    shrunk: of both the one with the smaller error is taken, as Stein estimates it (Ann. Stat. 9, 1135 (1981)).
    """
    if good.sum() < 2:
        return fit
    tried = []
    for base, own in ((fit, freedom), (np.zeros_like(fit), 0.0)):
        left = (signal - base) / noise
        drawn, level, kept = shrunk(left, good)
        missed = ((left - drawn)[good] ** 2).sum(axis=1).mean()
        tried.append((base + drawn * noise, missed, level, own + kept))
    # What scatters least is the noise: a fit that lacks something only seems to have more.
    level = min(each[2] for each in tried)
    fitted, shrank = (missed + 2 * level * numbers for _, missed, _, numbers in tried)
    return tried[int(shrank + MARGIN * level < fitted)][0]


def shrunk(left: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(N, L) of unit noise -> its directions of more variance than noise alone has, each by the part of it that is none; the
    variance of noise that was found; and how many numbers of a pixel were kept.

    The optimal linear estimate, its variances being those of the spiked covariance model (Donoho, Gavish and Johnstone,
    Ann. Stat. 46, 1742 (2018)).
    """
    own = left[good]
    count, length = own.shape
    variance, vectors = np.linalg.eigh(own.T @ own / count)
    ratio = length / count
    # What varies along most directions is noise: it says what noise is, should counts not scatter as electrons.
    level = max(float(np.median(variance)), 1e-12) if count > 2 * length else 1.0
    excess = variance / level
    kept = excess > (1 + np.sqrt(ratio)) ** 2
    b = excess[kept] + 1 - ratio
    spike = (b + np.sqrt(np.maximum(b**2 - 4 * excess[kept], 0))) / 2
    weight = (np.maximum(spike - 1, 0) / spike).astype(np.float32)
    basis = vectors[:, kept].astype(np.float32)
    return ((left @ basis) * weight) @ basis.T, level, float(weight.sum())
