"""A few labelled spectra of a new system, in memory: what a trained model is moved there with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from data_pipelines.dataset.data import Data, Split, join, take
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DatasetError
from data_pipelines.schema import column_of

VALIDATION_SPECTRA, VALIDATION_MATERIALS = 16, 3
"""A validation split of fewer is too small to stop by alone."""
EVERY = 5
"""Of the materials of the shots every fifth is held out then."""


def labelled(split: Split, names: tuple[str, ...]) -> np.ndarray:
    """Rows of a split that have a label of any of these descriptors."""
    return np.flatnonzero(split.batch.mask[:, [column_of(name) for name in names]].any(axis=1))


def drawn(materials: tuple[str, ...], rows: np.ndarray, seed: int) -> np.ndarray:
    """The rows in the order in which they are taken: one of every material, materials in an order by the seed, then a
    second of each, and so on. So any number of them, from the first, is part of any larger number, and from as many
    materials as it can be.
    """
    random, order = np.random.default_rng(seed), {}
    for name in random.permutation(sorted({materials[row] for row in rows})).tolist():
        order[name] = len(order)
    seen: Counter[str] = Counter()
    ranked = []
    for row in random.permutation(rows).tolist():
        ranked.append((seen[materials[row]], order[materials[row]], row))
        seen[materials[row]] += 1
    return np.array([row for *_, row in sorted(ranked)], int)


@dataclass(frozen=True)
class Drawn:
    """What is learnt from, and what says when to stop.

    held: materials of the shots that are held out for it, since the validation split of the data is too small. alone:
    whether there was nothing else to stop by than what is learnt from.
    """

    train: Split
    validation: Split
    held: tuple[str, ...]
    alone: bool


def deal(shots: Split, validation: Split | None) -> Drawn:
    """Shots in the order of `drawn`; validation: labelled rows of that split, None without any.

    The materials held out are the same for any number of shots, as far as these reach them.
    """
    whole = list(dict.fromkeys(shots.materials))
    if validation and len(validation.ids) >= VALIDATION_SPECTRA and _materials(validation) >= VALIDATION_MATERIALS:
        return Drawn(shots, validation, (), False)
    held = whole[EVERY - 1 :: EVERY]
    if not held and not validation:
        held = whole[1:][-1:]
    out = np.isin(shots.materials, held)
    parts = ([validation] if validation else []) + ([take(shots, np.flatnonzero(out))] if held else [])
    return Drawn(take(shots, np.flatnonzero(~out)), join(parts) if parts else shots, tuple(held), not parts)


def _materials(split: Split) -> int:
    return len(set(split.materials))


class Shots(Data):
    """Shots as training asks for them; a few are repeated until they are `rows`, so that batches are full."""

    def __init__(self, data: Data, found: Drawn, rows: int, about: str):
        """about: what tells these shots from others of the same data."""
        count = len(found.train.ids)
        self.name, self.grid, self.alone = f"{data.name}, {about}", data.grid, found.alone
        self.fingerprint = f"{data.fingerprint} {about}"
        self._splits = {"train": take(found.train, np.arange(max(rows, count)) % count), "validation": found.validation}
        self.examples = {name: len(own.ids) for name, own in self._splits.items()}

    def split(self, name: str, most: int | None = None) -> Split:
        return self._splits[name].first(most)

    def statistics(self, name: str) -> Statistics:
        return Statistics.of(self._splits[name].batch, self._splits[name].absorbers)

    def stream(
        self, split: str, batch_size: int, seed: int, shard: int = 0, shards: int = 1, skip_damaged: bool = False
    ):
        raise DatasetError(f"{self.name}: drawn in memory, so not to be streamed")

    def quotas(self, batch_size: int) -> tuple[int, ...]:
        return (batch_size,)

    def ranges(self, split: str) -> tuple[range, ...]:
        return (range(self.count(split)),)
