"""The endless sequence of one host's batches, read from blocks on disk.

The order of an epoch, and so each global batch, is the same whatever the number of hosts: a host takes its cut of
the rows of a batch, which are sorted by lane (`shuffle.py`) so that it reads few lanes. However large the set: in memory
are a block for each lane and some more, three chunks of batches, and the order of the blocks of two epochs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import grain
import numpy as np

from data_pipelines import faults
from data_pipelines.dataset.blocks import BlockSource
from data_pipelines.dataset.reading import CHUNKS_AHEAD, BlockCache, FetchAhead, Gathered
from data_pipelines.dataset.shuffle import Order, lane_of
from data_pipelines.errors import DatasetError
from data_pipelines.schema import Batch

# Rows that are put together at once, and batches at most: 10 MB of spectra, in some 10 ms.
CHUNK_ROWS, CHUNK_STEPS = 16_384, 512
CHUNKS_KEPT = 2
# Of the form of a position: raised whenever the order of rows changes.
ORDER = 2


class Share(NamedTuple):
    """One set in a stream. quota: rows of a global batch that are of it. rows: that an epoch of it shows."""

    source: BlockSource
    quota: int
    seed: int
    rows: int


def alone(source: BlockSource, batch_size: int, seed: int) -> list[Share]:
    """One set whose epoch is as many whole batches as it fills; the rest is left out, and drawn anew in the next."""
    rows = int(source.sizes.sum())
    if rows < batch_size:
        raise DatasetError(f"batch_size {batch_size} exceeds the {rows} examples")
    return [Share(source, batch_size, seed, rows // batch_size * batch_size)]


def mixed(sources: Sequence[BlockSource], quotas: Sequence[int], seed: int) -> list[Share]:
    """Several sets, each with an order of its own, which goes through all its rows before any comes again."""
    # Or copies of one set would always meet.
    seeds = [int(np.random.SeedSequence((seed, i)).generate_state(1)[0]) for i in range(len(sources))]
    own = zip(sources, quotas, seeds, strict=True)
    return [Share(source, quota, its, int(source.sizes.sum())) for source, quota, its in own]


class FromBlock(NamedTuple):
    """Rows of a chunk that come from one block: the number of the set, the block's place in the order of an epoch, (n,)
    which rows of its own order, and (n,) where they stand in the chunk."""

    number: int
    order: Order
    rank: int
    offsets: np.ndarray
    place: np.ndarray


class Shown(NamedTuple):
    """A batch, and how many of its rows stand in for those of damaged blocks."""

    batch: Batch
    replaced: int


class Batches:
    """A random-access source for Grain, whose element i is the host's cut of global batch i: it depends on i, the seed and
    the sizes of the blocks alone. Any number of threads may read.

    shard, shards: this host and how many there are. skip_damaged: rows of a damaged block are replaced, see `reading.py`.
    Raises DatasetError, when it is made, for a batch that does not divide over the hosts.
    """

    def __init__(self, shares: Sequence[Share], shard: int = 0, shards: int = 1, skip_damaged: bool = False):
        self.batch_size = sum(share.quota for share in shares)
        if self.batch_size % shards:
            nearest = max(round(self.batch_size / shards), 1) * shards
            raise DatasetError(
                f"batch_size {self.batch_size} does not divide over {shards} hosts; use a multiple, such as {nearest}"
            )
        own = self.batch_size // shards
        self._shares, self._cut = tuple(shares), slice(shard * own, (shard + 1) * own)
        self._edges = np.cumsum([0, *(share.quota for share in shares)])
        # Of a small set no more than an epoch.
        longest = max(share.rows // share.quota for share in shares)
        self._at_once = max(min(CHUNK_ROWS // own, CHUNK_STEPS, longest), 1)
        self._caches = [BlockCache(share.source, shards, skip_damaged) for share in shares]
        self._order = lru_cache(4 * len(shares))(self._new_order)
        self._chunk = lru_cache(CHUNKS_KEPT)(self._read_chunk)
        # Until it is read, from when its blocks are asked for.
        self._plan = lru_cache(CHUNKS_AHEAD + 2)(self._new_plan)
        self._lock = Lock()
        self._ahead = FetchAhead([share.source for share in shares], self._blocks_of)

    @property
    def ahead(self) -> int:
        """Batches to read ahead: a chunk, which hides the reading of the next."""
        return min(max(self._at_once, 4), 128)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Shown:
        chunk, place = divmod(index, self._at_once)
        with self._lock:  # threads come for the same chunk at the same time: one reads it, the others wait
            found = self._chunk(chunk)
        rows = self._cut.stop - self._cut.start
        begin = place * rows
        replaced = int(found.replaced[begin : begin + rows].sum()) if found.replaced is not None else 0
        return Shown(Batch(*(array[begin : begin + rows] for array in found.batch)), replaced)

    def rows_of(self, index: int) -> list[tuple[int, int]]:
        """Of each row of the host's cut of a batch, the number of its set and its place in the split as stored."""
        found: list[tuple[int, int]] = [(0, 0)] * (self._cut.stop - self._cut.start)
        firsts = [np.cumsum(share.source.sizes) - share.source.sizes for share in self._shares]
        for number, epoch, place, rows in self._places(np.array([index])):
            order = self._order(number, epoch)
            for rank, inside in _groups(order.find(rows)[0]):
                block, own = self._caches[number].stored(order, rank, order.find(rows[inside])[1])
                for at, row in zip(place[inside].tolist(), own.tolist(), strict=True):
                    found[at] = number, int(firsts[number][block]) + row
        return found

    def _places(self, numbers: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """Of the host's cut of these batches, by set and epoch: (set, epoch, (n,) where a row stands in the cuts one
        after the other, (n,) its place in the epoch)."""
        lanes = []
        for share in self._shares:
            shown = numbers[:, None] * share.quota + np.arange(share.quota)
            lanes.append(lane_of(shown % share.rows))
        # By lane and then by set: hosts have the same share of each set, and of few lanes.
        own = np.argsort(np.concatenate(lanes, axis=1), axis=1, kind="stable")[:, self._cut]
        for number, share in enumerate(self._shares):
            at = np.flatnonzero((own >= self._edges[number]) & (own < self._edges[number + 1]))
            shown = numbers[at // own.shape[1]] * share.quota + (own.ravel()[at] - self._edges[number])
            epochs = shown // share.rows
            for epoch in np.unique(epochs).tolist():
                inside = epochs == epoch
                yield number, epoch, at[inside], shown[inside] % share.rows

    def _new_order(self, number: int, epoch: int) -> Order:
        share = self._shares[number]
        return Order(share.source.sizes, share.seed, epoch)

    def _numbers(self, chunk: int) -> np.ndarray:
        return np.arange(chunk * self._at_once, (chunk + 1) * self._at_once)

    def _new_plan(self, chunk: int) -> list[FromBlock]:
        numbers, found = self._numbers(chunk), []
        for number, epoch, place, rows in self._places(numbers):
            order = self._order(number, epoch)
            ranks, offsets = order.find(rows)
            found += [FromBlock(number, order, rank, offsets[own], place[own]) for rank, own in _groups(ranks)]
        return found

    def _blocks_of(self, chunk: int) -> list[set[int]]:
        """Blocks of each set that a chunk has rows of."""
        found: list[set[int]] = [set() for _ in self._shares]
        for part in self._plan(chunk):
            found[part.number].add(int(part.order.blocks[part.rank]))
        return found

    def _read_chunk(self, chunk: int) -> Gathered:
        self._ahead.wait(chunk)
        found = Gathered(len(self._numbers(chunk)) * (self._cut.stop - self._cut.start))
        for number, order, rank, offsets, place in self._plan(chunk):
            self._caches[number].put(order, rank, offsets, found, place)
        return found


def _groups(ranks: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every number that occurs, and where."""
    order = np.argsort(ranks, kind="stable")
    numbers, begins = np.unique(ranks[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, begins[1:]), strict=True)


class Stream:
    """Endless batches of one host. Each iterator has a position of its own."""

    def __init__(self, batches: Batches, about: dict):
        """about: what the order of the batches follows from, as JSON; a position is good where it is the same."""
        self._batches, self._about = batches, {"order": ORDER, "batch_size": batches.batch_size, **about}

    def __iter__(self) -> Streaming:
        return Streaming(self._batches, self._about)


class Streaming:
    """The position is the number of the next batch: a stream goes on there with any number of hosts."""

    def __init__(self, batches: Batches, about: dict):
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=batches.ahead)
        self._batches = iter(grain.MapDataset.source(batches).to_iter_dataset(options))
        self._about, self._next = about, 0

    def __iter__(self) -> Streaming:
        return self

    def __next__(self) -> Batch:
        batch, replaced = next(self._batches)
        self._next += 1
        if replaced:
            faults.add("replaced_rows", replaced)
        return batch

    def get_state(self) -> dict:
        return {"batch": self._next, **self._about}

    def set_state(self, state: dict) -> None:
        """Raises DatasetError, in one line that says what differs, for the position of a stream of another order."""
        if (
            "next_index" in state
        ):  # from before there were lanes: kept at the ends of epochs alone, where any order may begin
            state = {"batch": state["next_index"], **self._about}
        for name, own in self._about.items():
            if state.get(name) != own:
                raise DatasetError(
                    f"the run was stopped in a stream of {_said(name, state.get(name))}, this one has {_said(name, own)}; "
                    "go on with the same data and settings, or train into another --out"
                )
        self._next = int(state["batch"])
        self._batches.set_state({"next_index": self._next})


def _said(name: str, value: object) -> str:
    if name == "data" and isinstance(value, list):
        return "data " + " and ".join(f"{fingerprint} ({quota} rows of a batch)" for fingerprint, quota in value)
    return f"{name} {value}"
