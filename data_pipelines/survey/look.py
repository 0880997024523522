"""What there is to see in a dataset: its rows, a fair sample, how near spectra are to one another, what leaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.splits import NEAR_DUPLICATE
from data_pipelines.schema import COLUMNED, Batch, Descriptor, columned
from data_pipelines.survey.nearest import nearest

SAMPLE = 20_000
# An absorber with fewer spectra has no bands and no outliers.
FEW = 10

Report = Callable[[str, int, int], None]


class Examples(NamedTuple):
    """All examples of a dataset.

    ids, materials, absorbers ("Cu K"), splits: (N,) text. spectrum: (N, L) float32.
    labels: (N, D) float32 in the descriptor's unit, of `descriptors`; NaN where there is no label.
    """

    ids: np.ndarray
    materials: np.ndarray
    absorbers: np.ndarray
    splits: np.ndarray
    spectrum: np.ndarray
    labels: np.ndarray

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return tuple(d for _, d in COLUMNED[: self.labels.shape[1]])


class Distances(NamedTuple):
    """rows: (Q,) indices into Examples. distance: (Q,) max |mu_i - mu_j| to `partner`: (Q,); inf and -1: nothing there."""

    rows: np.ndarray
    distance: np.ndarray
    partner: np.ndarray

    @property
    def near_duplicates(self) -> int:
        return int((self.distance < NEAR_DUPLICATE).sum())


class Pair(NamedTuple):
    """Spectrum `row`, its nearest `partner`, how far that is, and how many times the median of the absorber."""

    row: int
    partner: int
    distance: float
    ratio: float


@dataclass(frozen=True)
class Survey:
    """sample: (S,) rows that are drawn. neighbours: each of them to the nearest spectrum of another material.

    across: for each two splits, spectra of the later one to their nearest in the earlier one; of at most SAMPLE.
    straddling: materials that appear in more than one split, with these splits.
    """

    examples: Examples
    sample: np.ndarray
    neighbours: Distances
    across: dict[tuple[str, str], Distances]
    straddling: dict[str, tuple[str, ...]]

    @property
    def leaks(self) -> int:
        """Spectra with a near duplicate in another split."""
        return sum(part.near_duplicates for part in self.across.values())


def read(dataset: Dataset, report: Report = lambda stage, done, total: None) -> Examples:
    """All splits that a dataset has. Raises DatasetError where one cannot be read."""
    names = [name for name, part in dataset.card["splits"].items() if part["examples"]]
    parts = []
    for done, name in enumerate(names):
        report("reading", done, len(names))
        parts.append(dataset.split(name))
    report("reading", len(names), len(names))
    return Examples(
        np.array([id for part in parts for id in part.ids]),
        np.array([material for part in parts for material in part.materials]),
        np.array([absorber for part in parts for absorber in part.absorbers]),
        np.repeat(names, [len(part.ids) for part in parts]),
        np.concatenate([part.batch.spectrum for part in parts]),
        np.concatenate([_in_units(part.batch) for part in parts]),
    )


def look(examples: Examples, report: Report = lambda stage, done, total: None, limit: int = SAMPLE) -> Survey:
    """At most `limit` spectra are drawn and compared, and for each two splits as many; always with all others.

    `report(stage, done, total)` is called as work goes on.
    """
    everything = np.arange(len(examples.ids))
    _, material = np.unique(examples.materials, return_inverse=True)
    sample = fair_sample(examples.absorbers, limit)
    names = list(dict.fromkeys(examples.splits.tolist()))
    later = {pair: np.flatnonzero(examples.splits == pair[1]) for pair in combinations(names, 2)}
    asked = {pair: rows[fair_sample(examples.absorbers[rows], limit)] for pair, rows in later.items()}
    total, done = len(sample) + sum(map(len, asked.values())), 0

    def finished(count: int) -> None:
        nonlocal done
        done += count
        report("comparing", done, total)

    neighbours = _compare(examples, everything, material, sample, finished)
    across = {}
    for pair, rows in asked.items():
        pool = np.flatnonzero(np.isin(examples.splits, pair))
        across[pair] = _compare(examples, pool, examples.splits == pair[1], rows, finished)
    return Survey(examples, sample, neighbours, across, _straddling(examples, names))


def outliers(survey: Survey, count: int) -> list[Pair]:
    """The spectra that are farthest from all of another material, measured by the median of their absorber.

    Farthest first, one of each material, and of two materials that are nearest to each other: the sites of an odd
    material are odd together.
    """
    examples, (rows, distance, partner) = survey.examples, survey.neighbours
    pairs = []
    for absorber in np.unique(examples.absorbers):
        of = np.flatnonzero((examples.absorbers[rows] == absorber) & np.isfinite(distance))
        median = np.median(distance[of]) if len(of) >= FEW else 0
        if median > 0:
            pairs += [Pair(int(rows[i]), int(partner[i]), float(distance[i]), float(distance[i] / median)) for i in of]
    chosen: dict[frozenset[str], Pair] = {}
    told: set[str] = set()
    for pair in sorted(pairs, key=lambda pair: -pair.ratio):
        both = frozenset(examples.materials[[pair.row, pair.partner]].tolist())
        if examples.materials[pair.row] not in told and both not in chosen:
            chosen[both] = pair
            told.add(examples.materials[pair.row])
    return list(chosen.values())[:count]


def fair_sample(absorbers: np.ndarray, limit: int) -> np.ndarray:
    """(<= limit,) rows in ascending order: all, or as many of each absorber as of the next, while it has so many."""
    count = len(absorbers)
    if count <= limit:
        return np.arange(count)
    names, group = np.unique(absorbers, return_inverse=True)
    order = np.random.default_rng(0).permutation(count)
    order = order[np.argsort(group[order], kind="stable")]
    place = np.arange(count) - np.searchsorted(group[order], np.arange(len(names)))[group[order]]
    return np.sort(order[np.argsort(place, kind="stable")][:limit])


def _in_units(batch: Batch) -> np.ndarray:
    """(N, D) labels as stored: the value of a class and not its index, NaN where masked."""
    columns = columned(batch.labels)
    labels = np.where(batch.mask, batch.labels, np.nan)[:, [column for column, _ in columns]]
    for place, (column, d) in enumerate(columns):
        if d.kind == "class":
            present = batch.mask[:, column]
            labels[present, place] = np.array(d.classes)[batch.labels[present, column].astype(int)]
    return labels


def _compare(
    examples: Examples, pool: np.ndarray, groups: np.ndarray, rows: np.ndarray, finished: Callable[[int], None]
) -> Distances:
    """Each of `rows` to its nearest in `pool` of the same absorber and another of `groups` (N,)."""
    distance, partner = np.full(len(rows), np.inf), np.full(len(rows), -1)
    # Compared where all are known; of several signals one may be missing.
    known = np.isfinite(examples.spectrum).all(axis=0)
    spectrum = examples.spectrum[:, known] if known.any() else np.nan_to_num(examples.spectrum)
    for absorber in np.unique(examples.absorbers[rows]):
        members = pool[examples.absorbers[pool] == absorber]
        of = np.flatnonzero(examples.absorbers[rows] == absorber)
        asked = np.searchsorted(members, rows[of])
        distance[of], found = nearest(spectrum[members], groups[members], asked, finished)
        partner[of] = np.where(found >= 0, members[found], -1)
    return Distances(rows, distance, partner)


def _straddling(examples: Examples, names: list[str]) -> dict[str, tuple[str, ...]]:
    materials = {name: set(examples.materials[examples.splits == name].tolist()) for name in names}
    shared = {material for a, b in combinations(names, 2) for material in materials[a] & materials[b]}
    return {material: tuple(name for name in names if material in materials[name]) for material in sorted(shared)}
