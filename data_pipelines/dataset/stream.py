"""The endless sequence of one host's batches, read from blocks on disk.

However large the set: in memory are some windows, the order of the blocks of two epochs and their sizes, less than a
tenth of a byte for a spectrum.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from threading import Lock

import grain
import numpy as np

from data_pipelines.dataset import shuffle
from data_pipelines.dataset.blocks import BLOCK_ROWS, Blocks, BlockSource, Rows, join
from data_pipelines.errors import DatasetError
from data_pipelines.schema import Batch, encode_labels

Stream = grain.IterDataset
# Rows that are shuffled together: 10 MB of spectra, read in some 20 ms.
WINDOW_ROWS = 16 * BLOCK_ROWS
WINDOWS_KEPT = 4


class Shuffled:
    """A host's share of a set in an order of its own for each epoch, of `rows` rows. Any number of threads may read."""

    def __init__(self, source: BlockSource, seed: int, shard: int = 0, shards: int = 1, window_rows: int = WINDOW_ROWS):
        self.source, self.seed, self.shard, self.shards = source, seed, shard, shards
        self.rows = int(source.sizes.sum()) // shards
        self._pieces = max(window_rows // int(source.sizes.max()), 1)
        self._share = lru_cache(2)(self._new_share)
        self._window = lru_cache(WINDOWS_KEPT)(self._read_window)
        self._lock = Lock()

    def read(self, epoch: int, place: int, stop: int) -> Iterator[Batch]:
        """The rows from `place` to `stop` of an epoch, in as many pieces as windows are cut."""
        while place < stop:
            with self._lock:  # threads come for the same window at the same time: one reads it, the others wait
                edges = self._share(epoch)[1]
                window = int(np.searchsorted(edges, place, "right")) - 1
                rows, order = self._window(epoch, window)
            begin, end = edges[window], min(stop, edges[window + 1])
            yield Batch(*(np.take(array, order[place - begin : end - begin], axis=0) for array in rows))
            place = end

    def _new_share(self, epoch: int) -> tuple[shuffle.Share, np.ndarray]:
        own = shuffle.share(self.source.sizes, self.seed, epoch, self.shard, self.shards)
        return own, shuffle.window_edges(own, self._pieces)

    def _read_window(self, epoch: int, window: int) -> tuple[Batch, np.ndarray]:
        """The rows of a window as they lie on disk, and their order."""
        pieces = slice(window * self._pieces, (window + 1) * self._pieces)
        own = zip(*(column[pieces] for column in self._share(epoch)[0]), strict=True)
        own = list(own)
        if isinstance(self.source, Blocks):
            self.source.fetch({block for block, _, _ in own})
        rows = join([Rows(*(array[start:stop] for array in self.source[block])) for block, start, stop in own])
        order = shuffle.row_order(len(rows.spectrum), self.seed, epoch, self.shard, window)
        return Batch(rows.spectrum, rows.atomic_number, *encode_labels(rows.labels)), order


class Batches:
    """A random-access source for Grain, whose element i is the host's batch i and depends on i and the seed alone.

    So the number of a batch is the whole state of a stream, and any number of threads may read. An epoch is as many
    whole batches as its rows make; the rest is left out, and drawn anew in the next.
    """

    def __init__(
        self,
        source: BlockSource,
        batch_size: int,
        seed: int,
        shard: int = 0,
        shards: int = 1,
        window_rows: int = WINDOW_ROWS,
    ):
        self.batch_size = batch_size
        self._rows = Shuffled(source, seed, shard, shards, window_rows)
        self.steps = self._rows.rows // batch_size
        if not self.steps:
            raise DatasetError(f"batch_size {batch_size} exceeds the {self._rows.rows} examples of a host")

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Batch:
        epoch, step = divmod(index, self.steps)
        return _join(self._rows.read(epoch, step * self.batch_size, (step + 1) * self.batch_size))


class MixedBatches:
    """As Batches, of several sets: in every batch `quotas` rows of each, one set after the other.

    Each goes through all rows of its share before any comes again, whatever the others do.
    """

    def __init__(
        self,
        sources: Sequence[BlockSource],
        quotas: Sequence[int],
        seed: int,
        shard: int = 0,
        shards: int = 1,
        window_rows: int = WINDOW_ROWS,
    ):
        # Each an order of its own, or copies of one set would always meet.
        seeds = [int(np.random.SeedSequence((seed, i)).generate_state(1)[0]) for i in range(len(sources))]
        own = zip(sources, seeds, strict=True)
        self._sets = [Shuffled(source, its, shard, shards, window_rows) for source, its in own]
        self.quotas = tuple(quotas)
        if not all(one.rows for one in self._sets):
            raise DatasetError(f"a set of fewer examples than the {shards} hosts cannot be dealt to them")

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Batch:
        own = zip(self._sets, self.quotas, strict=True)
        return _join(piece for one, quota in own for piece in _endless(one, index * quota, (index + 1) * quota))


def endless(batches: Batches | MixedBatches, batch_size: int) -> Stream:
    """Read ahead by half a window, which hides the reading of the next one."""
    ahead = min(max(WINDOW_ROWS // 2 // batch_size, 4), 128)
    source = grain.MapDataset.source(batches)
    return source.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=ahead))


def _endless(rows: Shuffled, place: int, stop: int) -> Iterator[Batch]:
    """Epoch after epoch without a gap."""
    while place < stop:
        epoch, begin = divmod(place, rows.rows)
        end = min(begin + stop - place, rows.rows)
        yield from rows.read(epoch, begin, end)
        place += end - begin


def _join(pieces: Iterator[Batch]) -> Batch:
    found = list(pieces)
    return found[0] if len(found) == 1 else Batch(*map(np.concatenate, zip(*found, strict=True)))
