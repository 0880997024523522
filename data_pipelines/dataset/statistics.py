"""What training must know of a split before its first step, gathered when the split is written and merged at no cost.

Counts, means and scatters (sums of squares and products of deviations) of two sets make those of both together
(Chan, Golub and LeVeque, Am. Stat. 37, 242 (1983)). So each part of a dataset has its own, and no one reads a split
to know it as a whole. All float64.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np

from data_pipelines.dataset.blocks import REMEDY
from data_pipelines.dataset.elements import ElementStatistics, means_of_both
from data_pipelines.errors import DatasetError
from data_pipelines.files import write_atomic
from data_pipelines.places import Place
from data_pipelines.schema import (
    COLUMNED,
    DESCRIPTORS,
    SHELL_NAMES,
    SOURCE,
    SYMBOLS,
    Batch,
    Descriptor,
    columned,
    source_of,
)
from data_pipelines.shells import shell_labels

# Rows that are turned into float64 at a time: 5 MB.
PIECE_ROWS = 4096


@dataclass(frozen=True, eq=False)
class LabelStatistics:
    """Of one descriptor, over the examples that have it.

    counts: (C,) int64 examples of each of `Descriptor.classes`; empty for a regression; of the elements of a shell
    (Z, Z), examples of each absorber with each element there, and in column 0 all that are labelled. mean: of a
    regression, and scatter, the sum of squared deviations, in its unit; else 0.
    """

    count: int
    counts: np.ndarray
    mean: float = 0.0
    scatter: float = 0.0

    @property
    def std(self) -> float:
        """Of a regression; nan without an example."""
        return float(np.sqrt(self.scatter / self.count)) if self.count else float("nan")

    def agrees(self, other: LabelStatistics) -> bool:
        """As of Statistics."""
        counted = self.count == other.count and np.array_equal(self.counts, other.counts)
        return counted and np.allclose((self.mean, self.scatter), (other.mean, other.scatter), rtol=1e-9)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of some examples, at least one.

    absorbers: "Cu K" -> examples. Of the spectra, each (L, L), over the examples that have both energies i and j: pairs,
    how many; means, of mu_i; scatter, the sum of products of deviations. labels: by descriptor, and of SOURCE. elements:
    the spectra of each by themselves; of none in a file from before that was stored.
    """

    count: int
    absorbers: dict[str, int]
    pairs: np.ndarray
    means: np.ndarray
    scatter: np.ndarray
    labels: dict[str, LabelStatistics]
    elements: ElementStatistics

    @property
    def gaps(self) -> bool:
        """Does any spectrum lack an energy?"""
        return bool((self.pairs < self.count).any())

    @property
    def mean(self) -> np.ndarray:
        """(L,), of the examples that have the energy; 0 where none has."""
        return np.diag(self.means)

    @property
    def covariance(self) -> np.ndarray:
        """(L, L), of the examples themselves: divided by their number. Positive semidefinite."""
        if not self.gaps:
            return self.scatter / self.count
        # Entries over different examples need not be the covariance of anything: the nearest that is one.
        variance, directions = np.linalg.eigh(self.scatter / np.maximum(self.pairs, 1))
        return (directions * np.maximum(variance, 0)) @ directions.T

    @property
    def std(self) -> np.ndarray:
        """(L,)"""
        return np.sqrt(np.diag(self.scatter) / np.maximum(np.diag(self.pairs), 1))

    @classmethod
    def of(cls, rows: Batch, absorbers: Iterable[str] | Mapping[str, int]) -> Statistics:
        """Of at least one row. absorbers: of each row, or how many have which."""
        starts = range(0, len(rows.spectrum), PIECE_ROWS)
        whole = cls.merge(_of_piece(Batch(*(array[i : i + PIECE_ROWS] for array in rows))) for i in starts)
        return replace(whole, absorbers=dict(sorted(Counter(absorbers).items())))

    @classmethod
    def merge(cls, parts: Iterable[Statistics]) -> Statistics:
        """Of all parts together, of which there is at least one; any number of them, one in memory at a time."""
        return reduce(_both, parts)

    def agrees(self, other: Statistics) -> bool:
        """Are both of the same examples, to rounding?"""
        return (
            (self.count, self.absorbers) == (other.count, other.absorbers)
            and np.array_equal(self.pairs, other.pairs)
            and np.allclose(self.means, other.means, rtol=1e-9)
            and np.allclose(self.scatter, other.scatter, rtol=1e-9, atol=1e-9 * np.abs(self.scatter).max())
            and all(label.agrees(other.labels[name]) for name, label in self.labels.items())
            and self.elements.agrees(other.elements)
        )

    def weighed_as(self, count: int) -> Statistics:
        """The same spread for another number of examples, as if each had been there more or less than once."""
        share = count / self.count

        def some(counts: np.ndarray) -> np.ndarray:
            """What is there at all stays."""
            return np.maximum(np.rint(share * counts), counts > 0).astype(np.int64)

        labels = {}
        for name, own in self.labels.items():
            counts = some(own.counts)
            number = int(_labelled(counts) if len(counts) else some(np.int64(own.count)))
            scatter = own.scatter * number / max(own.count, 1)
            labels[name] = LabelStatistics(number, counts, own.mean, scatter)
        absorbers = {name: int(some(np.int64(own))) for name, own in self.absorbers.items()}
        pairs = np.where(self.pairs == self.count, count, some(self.pairs))
        scatter = self.scatter * pairs / np.maximum(self.pairs, 1) if self.gaps else share * self.scatter
        elements = self.elements.with_counts(some(self.elements.counts))
        return Statistics(count, absorbers, pairs, self.means, scatter, labels, elements)


def _of_piece(rows: Batch) -> Statistics:
    spectrum = rows.spectrum.astype(np.float64)
    labels = {
        d.name: _of_labels(d, rows.labels[rows.mask[:, column], column].astype(np.float64))
        for column, d in columned(rows.labels)
    }
    shells = {name: shell_counts(rows, name) for name in SHELL_NAMES}
    sources = {SOURCE.name: np.bincount(source_of(rows), minlength=1 + len(SOURCE.classes))[1:]}
    labels |= {name: LabelStatistics(_labelled(counts), counts) for name, counts in (shells | sources).items()}
    elements = ElementStatistics.of(spectrum, rows.atomic_number)
    return Statistics(len(spectrum), {}, *_of_spectra(spectrum), labels, elements)


def _of_spectra(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, L) -> pairs, means and scatter as of Statistics."""
    count, length = spectrum.shape
    known = np.isfinite(spectrum)
    if known.all():
        mean = spectrum.mean(axis=0)
        spectrum = spectrum - mean
        return np.full((length, length), count), np.repeat(mean[:, None], length, axis=1), spectrum.T @ spectrum
    # Deviations from a mean near that of every pair, so that no digits are lost.
    middle = np.where(known, spectrum, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    apart, there = np.where(known, spectrum - middle, 0), known.astype(np.float64)
    pairs = there.T @ there
    means = apart.T @ there / np.maximum(pairs, 1)
    scatter = apart.T @ apart - pairs * means * means.T
    return pairs.astype(np.int64), np.where(pairs > 0, middle[:, None] + means, 0), scatter


def _of_labels(row: Descriptor, values: np.ndarray) -> LabelStatistics:
    if row.kind == "class":
        return LabelStatistics(len(values), np.bincount(values.astype(np.int64), minlength=len(row.classes)))
    mean = float(values.mean()) if len(values) else 0.0
    return LabelStatistics(len(values), np.zeros(0, np.int64), mean, float(((values - mean) ** 2).sum()))


def shell_counts(rows: Batch, name: str) -> np.ndarray:
    """(Z, Z) of the elements of a shell, as of LabelStatistics."""
    known, present = shell_labels(rows, name)
    present[:, 0] = True  # of every labelled row; there is no element 0
    counts = np.zeros((len(SYMBOLS), len(SYMBOLS)), np.int64)
    np.add.at(counts, rows.atomic_number[known], present)
    return counts


def _labelled(counts: np.ndarray) -> int:
    """Of the counts of a class, or of the elements of a shell."""
    return int(counts.sum() if counts.ndim == 1 else counts[:, 0].sum())


def _both(a: Statistics, b: Statistics) -> Statistics:
    pairs, means, apart = means_of_both(a.pairs, a.means, b.pairs, b.means)
    scatter = a.scatter + b.scatter + a.pairs * b.pairs / np.maximum(pairs, 1) * (apart * apart.T)
    absorbers = dict(sorted((Counter(a.absorbers) + Counter(b.absorbers)).items()))
    labels = {name: _both_labels(own, b.labels[name]) for name, own in a.labels.items()}
    return Statistics(a.count + b.count, absorbers, pairs, means, scatter, labels, a.elements.both(b.elements))


def _both_labels(a: LabelStatistics, b: LabelStatistics) -> LabelStatistics:
    count, mean, apart = means_of_both(a.count, a.mean, b.count, b.mean)
    scatter = a.scatter + b.scatter + a.count * b.count / max(count, 1) * apart**2
    return LabelStatistics(count, a.counts + b.counts, mean, scatter)


def write(path: Place, splits: Mapping[str, Statistics]) -> None:
    """One file for the splits of a part; the same bytes for the same statistics."""
    arrays: dict[str, np.ndarray] = {}
    for split, own in splits.items():
        arrays[f"{split}/count"] = np.array(own.count)
        arrays[f"{split}/absorbers"] = np.array(list(own.absorbers))
        arrays[f"{split}/absorber_counts"] = np.array(list(own.absorbers.values()), np.int64)
        arrays[f"{split}/mean"] = own.mean
        triangle = np.triu_indices(len(own.mean))  # of what is symmetric
        arrays[f"{split}/scatter"] = own.scatter[triangle]
        if own.gaps:
            arrays |= {f"{split}/pairs": own.pairs[triangle], f"{split}/means": own.means}
        arrays |= {f"{split}/{name}": array for name, array in own.elements.to_arrays().items()}
        for name, label in own.labels.items():
            moments = np.array([label.count, label.mean, label.scatter])
            arrays[f"{split}/{name}"] = label.counts if len(label.counts) else moments
            if name in SHELL_NAMES:  # few of all pairs occur: absorber, element, examples
                pairs = np.nonzero(label.counts)
                arrays[f"{split}/{name}"] = np.stack([*pairs, label.counts[pairs]])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read(path: Place, split: str) -> Statistics:
    """Of one split. Raises DatasetError that names the file where it is missing or damaged."""
    try:
        with np.load(path if isinstance(path, Path) else io.BytesIO(path.read_bytes())) as file:
            count, mean, scatter = int(file[f"{split}/count"]), file[f"{split}/mean"], file[f"{split}/scatter"]
            length, gaps = len(mean), f"{split}/pairs" in file
            pairs = _square(file[f"{split}/pairs"], length) if gaps else np.full((length, length), count)
            means = file[f"{split}/means"] if gaps else np.repeat(mean[:, None], length, axis=1)
            spectra = pairs, means, _square(scatter, length)
            names, counts = file[f"{split}/absorbers"].tolist(), file[f"{split}/absorber_counts"].tolist()
            known = [d for _, d in COLUMNED if d in DESCRIPTORS or f"{split}/{d.name}" in file]
            labels = {d.name: _read_labels(d, file[f"{split}/{d.name}"]) for d in known}
            # A part from before there were shells has none.
            stored = {name: file[f"{split}/{name}"] for name in SHELL_NAMES if f"{split}/{name}" in file}
            labels |= {name: _read_shell(stored.get(name, np.zeros((3, 0), np.int64))) for name in SHELL_NAMES}
            key = f"{split}/{SOURCE.name}"  # newer still
            sources = file[key] if key in file else np.zeros(len(SOURCE.classes), np.int64)
            labels[SOURCE.name] = _read_labels(SOURCE, sources)
            return Statistics(
                count, dict(zip(names, counts, strict=True)), *spectra, labels, _read_elements(file, split, length)
            )
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing; {REMEDY}") from None
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: damaged ({' '.join(str(error).split())[:200]}); {REMEDY}") from None


def _read_elements(file: Mapping[str, np.ndarray], split: str, length: int) -> ElementStatistics:
    names = [f"{split}/{name}" for name in ElementStatistics.none(length).to_arrays()]
    if names[0] not in file:
        return ElementStatistics.none(length)
    return ElementStatistics.from_arrays(*(file[name] for name in names))


def _square(triangle: np.ndarray, length: int) -> np.ndarray:
    """(L, L) symmetric, of its upper triangle."""
    square = np.zeros((length, length), triangle.dtype)
    square[np.triu_indices(length)] = triangle
    return square + np.triu(square, 1).T


def _read_labels(row: Descriptor, stored: np.ndarray) -> LabelStatistics:
    if row.kind == "class":
        if len(stored) != len(row.classes):
            raise ValueError(f"{len(stored)} classes of {row.name}, expected {len(row.classes)}")
        return LabelStatistics(int(stored.sum()), stored)
    count, mean, scatter = stored.tolist()
    return LabelStatistics(int(count), np.zeros(0, np.int64), mean, scatter)


def _read_shell(stored: np.ndarray) -> LabelStatistics:
    absorber, element, count = stored
    counts = np.zeros((len(SYMBOLS), len(SYMBOLS)), np.int64)
    counts[absorber, element] = count
    return LabelStatistics(_labelled(counts), counts)
