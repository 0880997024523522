"""What a network expects beyond the last point of a spectrum, and how far off that is, in numpy and float64.

A network that reads open ends fills them (`spt_jax/model/gaps.py`) with the conditional mean of probabilistic principal
components. By their own account that is too sure of itself: noise that is equal at all energies has to stand for what is
left of the fine structure. So how far off it is was measured on spectra that are known there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

# Of the points of training spectra, the share that the band holds.
WITHIN = 0.9
# An element with fewer whole spectra takes the widest band of all.
FEWEST = 5
# Where whole spectra are cut for it: these parts of the way from the first end that is allowed to the last.
CUTS = (0, 0.25, 0.5, 0.75)
# As of `model.gaps`.
LEAST_RESIDUAL = 1e-5


@dataclass(frozen=True)
class OpenEnd:
    """mu = mean + components x + noise; x: (K,) standard normal numbers times the square root of `residual`, the variance
    of the noise. mean: (L,), components: (L, K), as a network has them.

    elements: (E,) atomic numbers for which it was measured how many standard deviations hold WITHIN of the points, and widths:
    (E,) these; NaN where no element had FEWEST whole spectra.
    """

    mean: np.ndarray
    components: np.ndarray
    residual: float
    elements: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    widths: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(cls, mean: np.ndarray, components: np.ndarray, std: np.ndarray) -> OpenEnd:
        """std: (L,) of the training spectra, which says how large the noise is, to a percent where some have an open end."""
        mean, components, std = (np.asarray(each, np.float64) for each in (mean, components, std))
        parts = (components**2).sum() + len(mean) - components.shape[1]
        return cls(mean, components, max(float((std**2).sum() / parts), LEAST_RESIDUAL))

    def expected(self, spectrum: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, L) mu, of which (L,) bool are known -> (N, M) mu expected where it is not, and (M,) standard deviations of
        that, edge steps."""
        here, there = self.components[known], self.components[~known]
        spread = np.linalg.inv(here.T @ here + np.eye(here.shape[1]))
        weights = (np.asarray(spectrum, np.float64)[:, known] - self.mean[known]) @ here @ spread
        variance = self.residual * (1 + ((there @ spread) * there).sum(axis=1))
        return self.mean[~known] + weights @ there.T, np.sqrt(variance)

    def width(self, atomic_number: int) -> float:
        """How many standard deviations hold WITHIN of the points of an element; NaN where that was not measured."""
        own = np.flatnonzero(self.elements == atomic_number)
        return float(self.widths[own[0]]) if len(own) else np.nan

    def measured(self, spectrum: np.ndarray, atomic_number: np.ndarray, elements: np.ndarray, common: int) -> OpenEnd:
        """The same with the widths that (N, L) training spectra of (N,) elements show behind ends from `common` points on."""
        whole = np.isfinite(spectrum).all(axis=1)
        spectrum, atomic_number = spectrum[whole], atomic_number[whole]
        found, points = np.full(len(elements), np.nan), np.arange(len(self.mean))
        for i, element in enumerate(elements):
            own = spectrum[atomic_number == element]
            if len(own) < FEWEST:
                continue
            off = []
            for cut in CUTS:
                known = points < common + int(cut * (len(points) - common))
                expected, std = self.expected(own, known)
                off.append((np.abs(own[:, ~known] - expected) / std).ravel())
            found[i] = np.quantile(np.concatenate(off), WITHIN)
        widest = np.nanmax(found) if np.isfinite(found).any() else np.nan
        return replace(self, elements=elements, widths=np.where(np.isfinite(found), found, widest))
