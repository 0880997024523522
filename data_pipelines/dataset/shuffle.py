"""The order of a stream: which row of which block stands at which place of an epoch. Pure functions of the seed.

The blocks in an order of their own make one sequence of rows, those of every block shuffled. It is cut into LANES
equal runs, of which places take turns, and far ones follow each other. So rows that stand together come from as many
blocks as there are lanes, or as rows of a small batch, and a block is read in one go. Neither the number of hosts nor the size of
a batch is in it: a host shows what its places say.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

LANES = 64
# From one turn to the next, next to the golden ratio of all lanes and odd: so it comes to each.
STRIDE = 39


def lane_of(places: np.ndarray) -> np.ndarray:
    """(...,) uint8 the runs that places of an epoch belong to."""
    return (places * STRIDE % LANES).astype(np.uint8)


class Order:
    """Of one epoch. blocks: (n,) the numbers of the blocks, of `sizes` (n,) rows, in the order in which they are read."""

    def __init__(self, sizes: np.ndarray, seed: int, epoch: int):
        self.blocks = np.random.default_rng((seed, 0, epoch)).permutation(len(sizes))
        self._ends = np.cumsum(sizes[self.blocks])
        self._begins = self._ends - sizes[self.blocks]
        self._key = (seed, 1, epoch)
        length, longer = divmod(int(self._ends[-1]), LANES)
        lengths = np.full(LANES, length)
        lengths[lane_of(np.arange(longer))] += 1
        self._lanes = np.cumsum(lengths) - lengths
        self.rows = lru_cache(2 * LANES)(self._rows)

    def find(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(p,) places of the epoch -> (p,) numbers in `blocks`, and which row it is of the block's own order."""
        row = self._lanes[lane_of(places)] + places // LANES
        rank = np.searchsorted(self._ends, row, "right")
        return rank, row - self._begins[rank]

    def _rows(self, rank: int) -> np.ndarray:
        """(rows,) the order of the rows of the block `blocks[rank]`."""
        block = int(self.blocks[rank])
        size = int(self._ends[rank] - self._begins[rank])
        return np.random.default_rng((*self._key, block)).permutation(size)
