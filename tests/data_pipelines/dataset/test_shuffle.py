import itertools
import json
from collections import Counter

import grain
import numpy as np
import pytest

from data_pipelines.dataset.blocks import Rows
from data_pipelines.dataset.shuffle import row_order, share, window_edges
from data_pipelines.dataset.stream import Batches
from data_pipelines.schema import NAMES

# Blocks as they lie on disk: all alike but the last; fewer than hosts; a single one.
SIZES = [np.array(sizes) for sizes in ([8] * 12 + [3], [8, 8, 5], [30], [1] * 40)]


def slow_epoch(sizes, seed, epoch, shard, shards, pieces):
    """The reference: every row of a host's epoch as (block, row), in the order read, with lists alone."""
    order = np.random.default_rng((seed, 0, epoch)).permutation(len(sizes)).tolist()
    rows = [(block, row) for block in order for row in range(sizes[block])]
    count = len(rows) // shards
    own = rows[shard * count : (shard + 1) * count]
    mine = [block for block in order if any(block == b for b, _ in own)]
    read = []
    for window in range(0, len(mine), pieces):
        inside = [(b, r) for b, r in own if b in mine[window : window + pieces]]
        read += [inside[i] for i in row_order(len(inside), seed, epoch, shard, window // pieces)]
    return read


def fast_epoch(sizes, seed, epoch, shard, shards, pieces):
    own = share(sizes, seed, epoch, shard, shards)
    rows = [(int(b), r) for b, start, stop in zip(*own, strict=True) for r in range(start, stop)]
    read = []
    for window, (begin, end) in enumerate(itertools.pairwise(window_edges(own, pieces).tolist())):
        read += [rows[begin:end][i] for i in row_order(end - begin, seed, epoch, shard, window)]
    return read


class Memory:
    """Blocks whose spectra name their row: (block, row)."""

    def __init__(self, sizes):
        self.sizes, self.rows = sizes, int(sizes.sum())

    def __getitem__(self, block):
        size = self.sizes[block]
        spectrum = np.stack([np.full(size, block), np.arange(size)], axis=1).astype(np.float32)
        return Rows(spectrum, np.full(size, block, np.int32), np.full((size, len(NAMES)), np.nan, np.float32))


def names(batch):
    return [(int(b), int(r)) for b, r in batch.spectrum]


def stream(source: Batches, threads: int = 2, ahead: int = 4):
    return iter(grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(threads, ahead)))


@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: f"{len(s)} blocks")
@pytest.mark.parametrize("pieces", [1, 4, 100])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_equal_to_the_reference(sizes, pieces, shards, rng):
    seed, epoch = rng.integers(1000, size=2).tolist()
    for shard in range(shards):
        host = (sizes, seed, epoch, shard, shards, pieces)
        assert fast_epoch(*host) == slow_epoch(*host)


@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: f"{len(s)} blocks")
@pytest.mark.parametrize("shards", [1, 2, 3, 4])
def test_hosts_are_disjoint_and_complete(sizes, shards, rng):
    seed = int(rng.integers(1000))
    for epoch in range(3):
        hosts = [fast_epoch(sizes, seed, epoch, shard, shards, 4) for shard in range(shards)]
        assert len({len(rows) for rows in hosts}) == 1
        seen = Counter(itertools.chain(*hosts))
        assert set(seen.values()) == {1}
        assert sizes.sum() - len(seen) < shards


@pytest.mark.parametrize("batch_size", [1, 5, 16, 50])
def test_batches_are_the_reference_cut_up(batch_size, rng):
    """Batches that straddle windows, and a last one that does not fill and is left out."""
    sizes, seed = SIZES[0], int(rng.integers(1000))
    source = Batches(Memory(sizes), batch_size, seed, window_rows=24)
    steps = sizes.sum() // batch_size
    for epoch in range(2):
        read = slow_epoch(sizes, seed, epoch, 0, 1, 3)
        for step in range(steps):
            batch = source[epoch * steps + step]
            assert names(batch) == read[step * batch_size : (step + 1) * batch_size]
            assert batch.atomic_number.tolist() == [b for b, _ in names(batch)]


def test_order_changes_with_epoch_seed_and_window(rng):
    sizes, seed = SIZES[0], int(rng.integers(1000))
    epochs = [fast_epoch(sizes, seed, epoch, 0, 1, 4) for epoch in range(3)]
    assert len({tuple(e) for e in epochs}) == 3
    assert fast_epoch(sizes, seed, 0, 0, 1, 4) == epochs[0] != fast_epoch(sizes, seed + 1, 0, 0, 1, 4)
    assert {tuple(row_order(8, seed, 0, 0, window)) for window in range(4)} != {tuple(row_order(8, seed, 0, 0, 0))}
    assert not np.array_equal(row_order(100, seed, 0, 0, 0), row_order(100, seed, 0, 1, 0))


def test_neighbours_part(rng):
    """Rows of one block are spread over its window, blocks over the whole epoch."""
    sizes = np.full(400, 16)
    read = np.array(fast_epoch(sizes, int(rng.integers(1000)), 0, 0, 1, 16))
    assert min(len(set(batch[:, 0])) for batch in np.split(read[:6400], 100)) >= 12
    assert abs(np.corrcoef(read[:, 0], np.arange(len(read)))[0, 1]) < 0.3


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_reader_threads_do_not_matter(threads):
    source = Batches(Memory(SIZES[0]), 7, seed=5, window_rows=16)
    expected = [names(source[i]) for i in range(60)]
    fresh = Batches(Memory(SIZES[0]), 7, seed=5, window_rows=16)
    assert [names(b) for b in itertools.islice(stream(fresh, threads, 2 * threads), 60)] == expected


def test_resume_at_any_batch_is_the_uninterrupted_stream(rng):
    source = Batches(Memory(SIZES[0]), 7, seed=5, window_rows=16)
    expected = [names(source[i]) for i in range(60)]
    running = stream(source)
    for place in range(45):
        state = json.loads(json.dumps(running.get_state()))
        resumed = stream(Batches(Memory(SIZES[0]), 7, seed=5, window_rows=16))
        resumed.set_state(state)
        assert [names(b) for b in itertools.islice(resumed, 3)] == expected[place : place + 3]
        assert names(next(running)) == expected[place]
    for place in rng.permutation(50)[:10].tolist():  # and back again in a running one
        running.set_state({"next_index": place})
        assert names(next(running)) == expected[place]
