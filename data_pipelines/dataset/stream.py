"""The endless sequence of one host's batches, read from blocks on disk.

However large the set: in memory are some windows, the order of the blocks of two epochs and their sizes, less than a
tenth of a byte for a spectrum.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from threading import Lock

import numpy as np

from data_pipelines.dataset import shuffle
from data_pipelines.dataset.blocks import BLOCK_ROWS, Blocks, Rows, join
from data_pipelines.schema import Batch, encode_labels

# Rows that are shuffled together: 10 MB of spectra, read in some 20 ms.
WINDOW_ROWS = 16 * BLOCK_ROWS
WINDOWS_KEPT = 4


class Batches:
    """A random-access source for Grain, whose element i is the host's batch i and depends on i and the seed alone.

    So the number of a batch is the whole state of a stream, and any number of threads may read.
    """

    def __init__(
        self,
        source: Blocks,
        batch_size: int,
        seed: int,
        shard: int = 0,
        shards: int = 1,
        window_rows: int = WINDOW_ROWS,
    ):
        self.source, self.batch_size, self.seed, self.shard, self.shards = source, batch_size, seed, shard, shards
        self.steps = source.rows // shards // batch_size
        self._pieces = max(window_rows // int(source.sizes.max()), 1)
        self._share = lru_cache(2)(self._new_share)
        self._window = lru_cache(WINDOWS_KEPT)(self._read_window)
        self._lock = Lock()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Batch:
        epoch, step = divmod(index, self.steps)
        place, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while place < stop:
            with self._lock:  # threads come for the same window at the same time: one reads it, the others wait
                edges = self._share(epoch)[1]
                window = int(np.searchsorted(edges, place, "right")) - 1
                rows, order = self._window(epoch, window)
            begin, end = edges[window], min(stop, edges[window + 1])
            parts.append([np.take(array, order[place - begin : end - begin], axis=0) for array in rows])
            place = end
        return Batch(*map(np.concatenate, zip(*parts, strict=True)) if len(parts) > 1 else parts[0])

    def _new_share(self, epoch: int) -> tuple[shuffle.Share, np.ndarray]:
        own = shuffle.share(self.source.sizes, self.seed, epoch, self.shard, self.shards)
        return own, shuffle.window_edges(own, self._pieces)

    def _read_window(self, epoch: int, window: int) -> tuple[Batch, np.ndarray]:
        """The rows of a window as they lie on disk, and their order."""
        pieces = slice(window * self._pieces, (window + 1) * self._pieces)
        own = zip(*(column[pieces] for column in self._share(epoch)[0]), strict=True)
        rows = join([Rows(*(array[start:stop] for array in self.source[block])) for block, start, stop in own])
        order = shuffle.row_order(len(rows.spectrum), self.seed, epoch, self.shard, window)
        return Batch(rows.spectrum, rows.atomic_number, *encode_labels(rows.labels)), order
