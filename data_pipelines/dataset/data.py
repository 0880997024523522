"""What training asks of data, whoever holds them: a prepared dataset, a set of one's own, several of them mixed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from data_pipelines.dataset.blocks import BlockSource, Rows
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DatasetError
from data_pipelines.schema import Batch, EnergyGrid

if TYPE_CHECKING:  # imports grain, which takes a second
    from data_pipelines.dataset.stream import Stream


@dataclass(frozen=True)
class Split:
    """One split in memory. ids, materials and absorbers ("Cu K") are for reports; `batch` is what a model trains on."""

    ids: tuple[str, ...]
    materials: tuple[str, ...]
    absorbers: tuple[str, ...]
    batch: Batch

    def first(self, most: int | None) -> Split:
        """So many rows at most; all where None."""
        texts = (column[:most] for column in (self.ids, self.materials, self.absorbers))
        return Split(*texts, Batch(*(array[:most] for array in self.batch)))


# Ids, materials and absorbers of a split.
Texts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class LateSplit(Split):
    """As a Split, whose texts are read when they are first asked for: a ledger is gone through for them, which takes longer
    the more examples there are, and training needs none to begin."""

    def __init__(self, batch: Batch, read: Callable[[], Texts]):
        self.__dict__.update(batch=batch, _read=read)

    @cached_property
    def _texts(self) -> Texts:
        return self.__dict__["_read"]()

    ids = property(lambda self: self._texts[0])
    materials = property(lambda self: self._texts[1])
    absorbers = property(lambda self: self._texts[2])


class Identified(NamedTuple):
    """Some rows of a split, as stored, and who they are. texts: (N,) id, material, element, edge."""

    rows: Rows
    texts: pa.Table


class Data(ABC):
    """A set of labelled spectra on one grid, dealt to splits.

    name: where it lies, for messages. fingerprint: the same for the same examples. examples: how many each split has.
    """

    name: str
    grid: EnergyGrid
    fingerprint: str
    examples: dict[str, int]

    @abstractmethod
    def split(self, name: str, most: int | None = None) -> Split:
        """The examples of a split in stored order, in memory; with `most`, so many at most from all over it."""

    @abstractmethod
    def statistics(self, name: str) -> Statistics:
        """Of a whole split, which is not held in memory for it."""

    @abstractmethod
    def stream(
        self, split: str, batch_size: int, seed: int, shard: int = 0, shards: int = 1, skip_damaged: bool = False
    ) -> Stream:
        """This host's cut of endless shuffled batches, of `batch_size` rows on all hosts together.

        The batches are the same on any number of hosts, and the state of its iterator restores the exact position on any.
        skip_damaged: in the place of the rows of a damaged block others are shown, and counted.
        """

    def ids_of(self, split: str, batch_size: int, seed: int, number: int, skip_damaged: bool = False) -> list[str]:
        """Of the rows of batch `number` of such a stream, in their order. Raises DatasetError for a set without streams."""
        raise DatasetError(f"{self.name}: is held in memory, so it has no stream")

    @abstractmethod
    def quotas(self, batch_size: int) -> tuple[int, ...]:
        """Rows of a batch that come from each of the sets it is made of."""

    @abstractmethod
    def ranges(self, split: str) -> tuple[range, ...]:
        """Where the rows of each of these sets lie in `split(...)`."""

    def count(self, split: str) -> int:
        """Identified of a split. Raises DatasetError where it has none."""
        if not self.examples.get(split):
            known = ", ".join(name for name, count in self.examples.items() if count)
            raise DatasetError(f"{self.name}: no examples in split {split!r}; it has {known or 'none at all'}")
        return self.examples[split]


class BlockData(Data):
    """One set, whose examples lie in blocks."""

    @abstractmethod
    def blocks(self, split: str) -> BlockSource:
        """The blocks of one split in stored order. Raises DatasetError where there are none."""

    @abstractmethod
    def reader(self, split: str) -> Callable[[int, int], Identified]:
        """A function that reads the rows from one number to another, in stored order; for one thread, best in order.

        However large the set, in memory are these rows and the texts of some more.
        """

    @abstractmethod
    def ids(self, split: str, rows: np.ndarray) -> list[str]:
        """Of some rows of a split, by their (n,) ascending numbers as stored."""

    def stream(
        self, split: str, batch_size: int, seed: int, shard: int = 0, shards: int = 1, skip_damaged: bool = False
    ) -> Stream:
        """As of all data. An epoch is `examples // batch_size` batches and shows a row at most once; what is left out, less
        than a batch, is drawn anew every epoch.
        """
        from data_pipelines.dataset.stream import Batches, Stream, alone

        batches = Batches(alone(self.blocks(split), batch_size, seed), shard, shards, skip_damaged)
        return Stream(batches, {"seed": seed, "data": [[self.fingerprint, batch_size]]})

    def ids_of(self, split: str, batch_size: int, seed: int, number: int, skip_damaged: bool = False) -> list[str]:
        from data_pipelines.dataset.stream import Batches, alone

        batches = Batches(alone(self.blocks(split), batch_size, seed), skip_damaged=skip_damaged)
        return identified([self], split, batches.rows_of(number))

    def quotas(self, batch_size: int) -> tuple[int, ...]:
        return (batch_size,)

    def ranges(self, split: str) -> tuple[range, ...]:
        return (range(self.count(split)),)


def join(splits: list[Split]) -> Split:
    """One after the other."""
    names = ("ids", "materials", "absorbers")

    def texts() -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(chain.from_iterable(getattr(split, name) for split in splits)) for name in names)

    batch = Batch(*(np.concatenate(parts) for parts in zip(*(split.batch for split in splits), strict=True)))
    late = any(isinstance(split, LateSplit) for split in splits)
    return LateSplit(batch, texts) if late else Split(*texts(), batch)


def identified(sets: Sequence[BlockData], split: str, rows: Sequence[tuple[int, int]]) -> list[str]:
    """The ids of rows, each as the number of its set and its number in that."""
    found: dict[tuple[int, int], str] = {}
    for number, one in enumerate(sets):
        own = np.unique([row for of, row in rows if of == number])
        if len(own):
            found |= {(number, row): id for row, id in zip(own.tolist(), one.ids(split, own), strict=True)}
    return [found[row] for row in rows]


def take(split: Split, rows: np.ndarray) -> Split:
    """Some rows of a split, by their (n,) numbers."""
    texts = (tuple(column[i] for i in rows) for column in (split.ids, split.materials, split.absorbers))
    return Split(*texts, Batch(*(field[rows] for field in split.batch)))
