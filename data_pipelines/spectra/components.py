"""How many species a series of spectra shows: singular values, Malinowski's indicator function, and the noise.

Mixtures of K species are sums of K spectra, so that a matrix of them has K singular values and the rest is noise
(Malinowski, Factor Analysis in Chemistry, 3rd ed., 2002, chapter 4). Spectra are normalised and not centred. What moves
spectra otherwise, as energies that drift or a poor normalisation, counts as a species too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Of a normal distribution the median of |x| is this part of its standard deviation.
NORMAL_MEDIAN = 0.6745


class Components(NamedTuple):
    """(K,) `singular` values, largest first. left: (K - 1,) root mean square, in edge steps, of what 1, 2, ... components
    leave. indicator: (K - 1,) Malinowski's function of the same. by_indicator: where that is smallest. noise: of one
    point, edge steps. of_noise: the largest singular value that such noise alone has. by_noise: how many are above it.
    """

    singular: np.ndarray
    left: np.ndarray
    indicator: np.ndarray
    by_indicator: int
    noise: float
    of_noise: float
    by_noise: int

    def __str__(self) -> str:
        told = ", ".join(f"{each:.4f}" for each in self.left[:4])
        return (
            f"{self.by_indicator} by Malinowski's indicator function, {self.by_noise} above the noise of {self.noise:.4f} edge "
            f"steps; left by 1, 2, ...: {told} edge steps"
        )


def components(mu: np.ndarray) -> Components:
    """(N, L) normalised spectra on the same energies -> Components of the series; N and L at least 3."""
    rows, columns = max(mu.shape), min(mu.shape)
    singular = np.linalg.svd(mu, compute_uv=False)
    rest = np.cumsum((singular**2)[::-1])[::-1][1:]  # left by 1, 2, ... components
    free = columns - np.arange(1, columns)
    indicator = np.sqrt(rest / (rows * free)) / free**2
    noise = point_noise(mu)
    # The largest singular value of noise alone (Bai and Yin 1993), and a tenth for how well the noise is known.
    of_noise = float(1.1 * noise * (np.sqrt(rows) + np.sqrt(columns)))
    return Components(
        singular,
        np.sqrt(rest / mu.size),
        indicator,
        int(np.argmin(indicator)) + 1,
        noise,
        of_noise,
        max(int((singular > of_noise).sum()), 1),
    )


def point_noise(mu: np.ndarray) -> float:
    """Standard deviation of the noise of one point of (N, L) spectra: how far differences from their mean are off the
    middle of their neighbours, in the median."""
    apart = mu - mu.mean(axis=0)
    off = apart[:, 1:-1] - (apart[:, :-2] + apart[:, 2:]) / 2
    count = len(mu)
    # 1 + 1/4 + 1/4 of the variance of a point; the mean takes one of N degrees of freedom.
    return float(np.median(np.abs(off)) / NORMAL_MEDIAN / np.sqrt(1.5 * (count - 1) / count))
