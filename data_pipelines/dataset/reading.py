"""What a stream reads blocks by: kept while they are in use, fetched ahead where they are remote, replaced if damaged.

Where it is asked for, rows of a damaged block are replaced by rows of the next one in the order of the epoch that is
whole: the same on any number of hosts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache

import numpy as np

from data_pipelines.dataset.blocks import AT_A_TIME, Blocks, BlockSource
from data_pipelines.dataset.shuffle import LANES, Order
from data_pipelines.errors import DamagedBlock, DatasetError
from data_pipelines.places import RemotePath
from data_pipelines.schema import Batch, encode_labels

# Blocks that are kept beside one for each lane, since lanes come to their next ones at different times.
SPARE = 24
# Chunks whose blocks are fetched before they are put together: of some 16 new ones each.
CHUNKS_AHEAD = 4
log = logging.getLogger(__name__)


class Gathered:
    """Rows that are put together from many blocks; of whose arrays batches are views.

    replaced: (rows,) whether a row stands in for one of a damaged block; None where none does.
    """

    def __init__(self, rows: int):
        self._rows = rows
        self.batch: tuple[np.ndarray, ...] = ()
        self.replaced: np.ndarray | None = None

    def put(self, place: np.ndarray, block: Batch, rows: np.ndarray, replaced: bool) -> None:
        """Rows (n,) of a block to (n,) places."""
        if not self.batch:
            self.batch = tuple(np.empty((self._rows, *array.shape[1:]), array.dtype) for array in block)
        for own, array in zip(self.batch, block, strict=True):
            own[place] = np.take(array, rows, axis=0)
        if replaced:
            if self.replaced is None:
                self.replaced = np.zeros(self._rows, bool)
            self.replaced[place] = True


class BlockCache:
    """The blocks of one set that a host's lanes are at: each is read and decoded once while it is in use."""

    def __init__(self, source: BlockSource, shards: int, skip_damaged: bool):
        self._source, self._skip = source, skip_damaged
        self._read = lru_cache(-(-LANES // shards) + SPARE)(self._decoded)
        self._damaged: set[int] = set()

    def put(self, order: Order, rank: int, offsets: np.ndarray, into: Gathered, place: np.ndarray) -> None:
        """The rows at `offsets` (n,) of the order of block `rank` of the epoch, to (n,) places."""
        held, found = self._sound(order, rank)
        rows = order.rows(rank)[offsets]
        if found != rank:
            rows %= len(held.spectrum)
        into.put(place, held, rows, found != rank)

    def stored(self, order: Order, rank: int, offsets: np.ndarray) -> tuple[int, np.ndarray]:
        """The same rows as they are stored: the number of a block, and (n,) rows of it."""
        rows = order.rows(rank)[offsets]
        if self._skip:
            held, rank = self._sound(order, rank)
            rows %= len(held.spectrum)
        return int(order.blocks[rank]), rows

    def _sound(self, order: Order, rank: int) -> tuple[Batch, int]:
        """A block that can be read: this one, or the next that is whole."""
        for step in range(len(order.blocks)):
            at = (rank + step) % len(order.blocks)
            block = int(order.blocks[at])
            if block in self._damaged:
                continue
            try:
                return self._read(block), at
            except DamagedBlock as error:
                if not self._skip:
                    raise DatasetError(
                        f"{error}, or leave its rows out with --train.input stream --execution.skip-damaged"
                    ) from None
                self._damaged.add(block)
                log.warning("%s; other rows are shown in its place", error.what)
        raise DatasetError("all blocks of the set are damaged; prepare it again, with --overwrite")

    def _decoded(self, block: int) -> Batch:
        rows = self._source[block]
        return Batch(rows.spectrum, rows.atomic_number, *encode_labels(rows.labels))


class FetchAhead:
    """Fetches the blocks of coming chunks in the background, while earlier ones are trained on: from a store, or by the
    system from a disk."""

    def __init__(self, sources: Sequence[BlockSource], blocks_of: Callable[[int], list[set[int]]]):
        """blocks_of: a chunk -> the blocks of each source that it needs."""
        self._own = {i: own for i, own in enumerate(sources) if isinstance(own, Blocks)}
        self._blocks_of = lru_cache(2 * CHUNKS_AHEAD)(blocks_of)
        self._coming: dict[tuple[int, int], Future | None] = {}
        remote = any(own.remote for own in self._own.values())
        self._pool = ThreadPoolExecutor(AT_A_TIME, "ahead") if remote else None

    def wait(self, chunk: int) -> None:
        """Until the blocks of a chunk are here, where they come from a store; those of the next are asked for, each
        once."""
        wanted = {
            (own, block): number
            for number in range(chunk + CHUNKS_AHEAD, chunk - 1, -1)
            for own in self._own
            for block in self._blocks_of(number)[own]
        }
        before = self._coming
        self._coming = {key: before[key] for key in wanted if key in before}
        for key in sorted(wanted.keys() - before.keys(), key=lambda key: (wanted[key], key)):
            self._coming[key] = self._ask(*key)
        for key, number in wanted.items():
            if number == chunk and (coming := self._coming[key]):
                with suppress(DamagedBlock):  # which is told, or got over, when it is read
                    coming.result()

    def _ask(self, own: int, block: int) -> Future | None:
        source = self._own[own]
        if self._pool and isinstance(source.path(block), RemotePath):
            return self._pool.submit(source.fetch_one, block)
        source.expect(block)
        return None
