"""Of the spectra of each element: how many have an energy, and their mean and scatter there. All float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipelines.schema import SYMBOLS

# So many spectra of an element say as much of it as all spectra together do.
FEW = 20


@dataclass(frozen=True, eq=False)
class ElementStatistics:
    """By atomic number, each (Z, L).

    counts: int64 spectra that have the energy. means: of mu, 0 where none has. scatter: sums of squared deviations.
    """

    counts: np.ndarray
    means: np.ndarray
    scatter: np.ndarray

    @classmethod
    def none(cls, points: int) -> ElementStatistics:
        """Of no spectrum at all."""
        shape = len(SYMBOLS), points
        return cls(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))

    @classmethod
    def of(cls, spectrum: np.ndarray, atomic_number: np.ndarray) -> ElementStatistics:
        """(N, L) mu, NaN where not known, and (N,) whose it is."""
        found = cls.none(spectrum.shape[1])
        for number in np.unique(atomic_number):
            own = spectrum[atomic_number == number].astype(np.float64)
            known = np.isfinite(own)
            found.counts[number] = known.sum(axis=0)
            found.means[number] = np.where(known, own, 0).sum(axis=0) / np.maximum(found.counts[number], 1)
            found.scatter[number] = (np.where(known, own - found.means[number], 0) ** 2).sum(axis=0)
        return found

    @property
    def std(self) -> np.ndarray:
        """(Z, L), 0 where no spectrum has the energy."""
        return np.sqrt(self.scatter / np.maximum(self.counts, 1))

    def shrunk(self, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(Z, L) mean and standard deviation of each element, towards those of all spectra (L,) where it has few.

        Where n of its spectra have an energy, its own weigh n / (n + 20) and those of all the rest: an element that
        has none is given these.
        """
        own = self.counts / (self.counts + FEW)
        return own * self.means + (1 - own) * mean, own * self.std + (1 - own) * std

    def both(self, other: ElementStatistics) -> ElementStatistics:
        """Of the spectra of both."""
        counts, means, apart = means_of_both(self.counts, self.means, other.counts, other.means)
        between = self.counts * other.counts / np.maximum(counts, 1) * apart**2
        return ElementStatistics(counts, means, self.scatter + other.scatter + between)

    def with_counts(self, counts: np.ndarray) -> ElementStatistics:
        """The same spread for other numbers of spectra, (Z, L)."""
        return ElementStatistics(counts, self.means, self.scatter * counts / np.maximum(self.counts, 1))

    def agrees(self, other: ElementStatistics) -> bool:
        """As of Statistics."""
        atol = 1e-9 * self.scatter.max()
        return (
            np.array_equal(self.counts, other.counts)
            and np.allclose(self.means, other.means, rtol=1e-9)
            and np.allclose(self.scatter, other.scatter, rtol=1e-9, atol=atol)
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Of those elements that there are."""
        there = np.flatnonzero(self.counts.any(axis=1))
        moments = {"counts": self.counts, "means": self.means, "scatter": self.scatter}
        return {"elements": there, **{f"element_{name}": own[there] for name, own in moments.items()}}

    @classmethod
    def from_arrays(cls, elements: np.ndarray, *moments: np.ndarray) -> ElementStatistics:
        found = cls.none(moments[0].shape[1])
        for whole, own in zip((found.counts, found.means, found.scatter), moments, strict=True):
            whole[elements] = own
        return found


def means_of_both(m, a, n, b):
    """Count and mean of both, and what lies between their means."""
    return m + n, a + (b - a) * n / np.maximum(m + n, 1), b - a
