"""Several sets as one, each with a fixed share of every batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.dataset.data import BlockData, Data, Split, identified, join
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DatasetError

if TYPE_CHECKING:
    from data_pipelines.dataset.stream import Share, Stream


class Mixture(Data):
    """`sets` one after the other; of each training batch the share of `weights` comes from each.

    weights: positive, of any sum; None: by size, so that all examples weigh the same. Raises DatasetError for sets of
    different grids, and for one without training examples.
    """

    def __init__(self, sets: Sequence[BlockData], weights: Sequence[float] | None = None):
        first = sets[0]
        for other in sets[1:]:
            if other.grid != first.grid:
                raise DatasetError(f"{other.name} has another energy grid than {first.name}; prepare both on one")
        self.sets, self.grid = tuple(sets), first.grid
        self.name = " ".join(one.name for one in sets)
        splits = dict.fromkeys(split for one in sets for split in one.examples)
        self.examples = {split: sum(one.examples.get(split, 0) for one in sets) for split in splits}
        sizes = [one.count("train") for one in sets]
        share = np.array(sizes if weights is None else weights, np.float64)
        self.weights = share / share.sum()
        told = [f"{one.fingerprint} {weight:.9g}" for one, weight in zip(sets, self.weights, strict=True)]
        self.fingerprint = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        own = ", ".join(f"{weight:.3g} of {one!r}" for one, weight in zip(self.sets, self.weights, strict=True))
        return f"Mixture({own})"

    def split(self, name: str, most: int | None = None) -> Split:
        """Set after set; with `most`, of each in the proportion of its size."""
        sizes = [len(own) for own in self.ranges(name)]
        wanted = sizes if most is None else _rounded(min(most, sum(sizes)), np.array(sizes) / sum(sizes))
        chosen = zip(self.sets, sizes, wanted, strict=True)
        return join([one.split(name, None if count == size else count) for one, size, count in chosen if count])

    def statistics(self, name: str) -> Statistics:
        """Of a training split as its batches show it: a set counts for as many examples as its weight gives it."""
        own = [one.statistics(name) for one in self.sets if one.examples.get(name)]
        if name == "train":
            counts = np.maximum(_rounded(self.count(name), self.weights), 1)
            own = [part.weighed_as(count) for part, count in zip(own, counts.tolist(), strict=True)]
        elif not own:
            self.count(name)
        return Statistics.merge(own)

    def stream(
        self, split: str, batch_size: int, seed: int, shard: int = 0, shards: int = 1, skip_damaged: bool = False
    ) -> Stream:
        """As of a dataset, with `quotas(batch_size)` rows of each set in every batch.

        A set goes through all its rows in an order of its own before any comes again. Which batch comes next is the whole
        state, as the batches depend on its number and the seed alone.
        """
        from data_pipelines.dataset.stream import Batches, Stream

        quotas = self.quotas(batch_size)
        told = [[one.fingerprint, quota] for one, quota in zip(self.sets, quotas, strict=True)]
        return Stream(
            Batches(self._shares(split, quotas, seed), shard, shards, skip_damaged), {"seed": seed, "data": told}
        )

    def ids_of(self, split: str, batch_size: int, seed: int, number: int, skip_damaged: bool = False) -> list[str]:
        from data_pipelines.dataset.stream import Batches

        batches = Batches(self._shares(split, self.quotas(batch_size), seed), skip_damaged=skip_damaged)
        return identified(self.sets, split, batches.rows_of(number))

    def _shares(self, split: str, quotas: tuple[int, ...], seed: int) -> list[Share]:
        from data_pipelines.dataset.stream import mixed

        return mixed([one.blocks(split) for one in self.sets], quotas, seed)

    def quotas(self, batch_size: int) -> tuple[int, ...]:
        """Rows of a batch that come from each set, in their order. Raises DatasetError where one gets none."""
        found = _rounded(batch_size, self.weights)
        for one, weight, count in zip(self.sets, self.weights, found, strict=True):
            if not count:
                raise DatasetError(
                    f"a batch of {batch_size} has no row for {one.name} with a share of {weight:.3g}; "
                    "give it a larger weight, or larger batches"
                )
        return tuple(found)

    def ranges(self, split: str) -> tuple[range, ...]:
        """Where the rows of each set lie in `split(...)`; empty where it has none."""
        self.count(split)
        ends = [0, *accumulate(one.examples.get(split, 0) for one in self.sets)]
        return tuple(range(start, stop) for start, stop in pairwise(ends))


def _rounded(total: int, shares: np.ndarray) -> list[int]:
    """Whole numbers of this sum, each within one of its share: the largest remainders are rounded up."""
    exact = total * shares
    whole = np.floor(exact).astype(int)
    up = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[up] += 1
    return whole.tolist()
