"""The order of streams: the same on any number of hosts, every row once an epoch, neighbours parted."""

import itertools
import json
from collections import Counter

import grain
import numpy as np
import pytest

from data_pipelines.dataset.blocks import Rows
from data_pipelines.dataset.shuffle import LANES, STRIDE, Order
from data_pipelines.dataset.stream import Batches, Stream, alone, mixed
from data_pipelines.errors import DatasetError
from data_pipelines.schema import NAMES

# Blocks as they lie on disk: all alike but the last; fewer rows than lanes; a single one; more of one row than lanes.
SIZES = [np.array(sizes) for sizes in ([8] * 12 + [3], [8, 8, 5], [30], [1] * 140)]
CASES = pytest.mark.parametrize("sizes", SIZES, ids=lambda s: f"{len(s)} blocks")


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


def slow_epoch(sizes, seed, epoch):
    """The reference: every row of an epoch as (block, row), in the order of its places, with lists alone."""
    order = np.random.default_rng((seed, 0, epoch)).permutation(len(sizes)).tolist()
    rows = [(b, int(r)) for b in order for r in np.random.default_rng((seed, 1, epoch, b)).permutation(sizes[b])]
    length, longer = divmod(len(rows), LANES)
    turns, lanes, read = [turn * STRIDE % LANES for turn in range(LANES)], [], []
    for lane in range(LANES):
        count = length + (turns.index(lane) < longer)
        lanes.append(rows[:count])
        rows = rows[count:]
    while any(lanes):
        read += [lanes[turn].pop(0) for turn in turns if lanes[turn]]
    return read


def slow_batches(parts, seed_of, count):
    """The reference: batches of (set, block, row) by (sizes, quota, rows of an epoch) of each set, with lists alone."""
    batches = [[] for _ in range(count)]
    for number, (sizes, quota, rows) in enumerate(parts):
        epochs = range(-(-count * quota // rows))
        shown = [
            (place * STRIDE % LANES, number, *row)
            for epoch in epochs
            for place, row in enumerate(slow_epoch(sizes, seed_of(number), epoch)[:rows])
        ]
        for i, batch in enumerate(batches):
            batch += shown[i * quota : (i + 1) * quota]
    return [[row[1:] for row in sorted(batch, key=lambda row: row[:1])] for batch in batches]


def whole(shares, index, hosts=1):
    """A global batch, as `hosts` hosts show it."""
    return [row for host in range(hosts) for row in names(Batches(shares, host, hosts)[index].batch)]


@CASES
def test_equal_to_the_reference(sizes, rng):
    seed, epoch = rng.integers(1000, size=2).tolist()
    order = Order(sizes, seed, epoch)
    ranks, offsets = order.find(np.arange(sizes.sum()))
    pairs = zip(ranks.tolist(), offsets.tolist(), strict=True)
    assert [(int(order.blocks[k]), int(order.rows(k)[i])) for k, i in pairs] == slow_epoch(sizes, seed, epoch)


@pytest.mark.parametrize("batch_size", [1, 5, 16, 64, 99])
def test_batches_are_the_reference_cut_up(batch_size, rng):
    """By lanes, whatever the batch; the last one of an epoch that does not fill is left out."""
    sizes, seed = SIZES[0], int(rng.integers(1000))
    batches, steps = Batches(alone(Memory(sizes), batch_size, seed)), sizes.sum() // batch_size
    count = 2 * steps + 1
    expected = slow_batches([(sizes, batch_size, steps * batch_size)], lambda _: seed, count)
    for i in range(count):
        batch = batches[i].batch
        assert names(batch) == [row[1:] for row in expected[i]]
        assert batch.atomic_number.tolist() == [b for b, _ in names(batch)]
        assert [(s, b) for s, b in batches.rows_of(i)] == [(0, 8 * b + r) for b, r in names(batch)]


def test_mixtures_are_the_reference_cut_up(rng):
    """A quota that is larger than its set, too: some rows come twice in a batch."""
    seed, parts = int(rng.integers(1000)), [(SIZES[0], 7), (SIZES[1], 30), (SIZES[0], 11)]
    shares = mixed([Memory(sizes) for sizes, _ in parts], [quota for _, quota in parts], seed)
    rows = [(sizes, quota, int(sizes.sum())) for sizes, quota in parts]
    expected = slow_batches(rows, lambda number: shares[number].seed, 30)
    batches = Batches(shares)
    for i in range(30):
        assert names(batches[i].batch) == [row[1:] for row in expected[i]]
        assert [number for number, _ in batches.rows_of(i)] == [row[0] for row in expected[i]]


@CASES
def test_every_row_once_an_epoch(sizes, rng):
    seed, rows = int(rng.integers(1000)), int(sizes.sum())
    epochs = []
    for epoch in range(3):
        ranks, offsets = Order(sizes, seed, epoch).find(np.arange(rows))
        seen = Counter(zip(ranks.tolist(), offsets.tolist(), strict=True))
        assert set(seen.values()) == {1} and len(seen) == rows
        epochs.append(tuple(slow_epoch(sizes, seed, epoch)))
    assert len(set(epochs)) == 3 and epochs[0] != tuple(slow_epoch(sizes, seed + 1, 0))


@pytest.mark.parametrize("hosts", [2, 3, 4, 8, 24])
def test_hosts_share_the_batches_of_one(hosts, rng):
    seed = int(rng.integers(1000))
    for shares in (
        alone(Memory(SIZES[0]), 24, seed),
        alone(Memory(SIZES[3]), 72, seed),
        mixed([Memory(SIZES[0]), Memory(SIZES[1])], (17, 7), seed),
    ):
        for index in (0, 3, 17):
            assert whole(shares, index, hosts) == whole(shares, index)


def test_a_host_reads_its_lanes_alone(rng):
    """Of 64 blocks for each of 8 hosts, those of its lanes and one more at the cuts."""
    sizes, read, seed = np.full(64, 32), [set() for _ in range(8)], int(rng.integers(1000))

    class Counted(Memory):
        def __getitem__(self, block):
            own.add(block)
            return super().__getitem__(block)

    for host, own in enumerate(read):  # noqa: B007  Counted adds to it
        batches = Batches(alone(Counted(sizes), 64, seed), host, 8)
        for index in range(32):
            batches[index]
    assert all(len(own) <= 9 for own in read) and len(set.union(*read)) == 64


def test_a_batch_that_does_not_divide_over_hosts_is_refused():
    with pytest.raises(DatasetError, match="batch_size 24 does not divide over 5 hosts; use a multiple, such as 25"):
        Batches(alone(Memory(SIZES[0]), 24, 0), 0, 5)
    with pytest.raises(DatasetError, match="batch_size 100 exceeds the 99 examples"):
        alone(Memory(SIZES[0]), 100, 0)


def test_neighbours_part(rng):
    """A batch has rows of as many blocks as lanes, and blocks stand in no order over the epoch."""
    sizes = np.full(640, 16)
    read = np.array(slow_epoch(sizes, int(rng.integers(1000)), 0))
    assert min(len(set(batch[:, 0])) for batch in np.split(read, 160)) == 64
    # Of 10,240 rows from 640 blocks in a random order, it has a standard deviation of 0.04.
    assert abs(np.corrcoef(read[:, 0], np.arange(len(read)))[0, 1]) < 0.3


def test_rows_of_a_block_meet_rows_of_any_other(rng):
    """Of two blocks every pair of rows can stand in one batch of few rows: over epochs, all do."""
    met = set()
    for epoch in range(200):
        read = slow_epoch(np.array([16, 16]), 3, epoch)
        for start in range(0, 32, 8):
            met |= {frozenset(pair) for pair in itertools.combinations(read[start : start + 8], 2)}
    # A pair misses one epoch with a chance of 0.77: all 200, of 496 pairs, with 1e-20.
    assert len(met) == 32 * 31 // 2


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_reader_threads_do_not_matter(threads, monkeypatch):
    monkeypatch.setattr("data_pipelines.dataset.stream.CHUNK_ROWS", 30)
    expected = [names(Batches(alone(Memory(SIZES[0]), 7, 5))[i].batch) for i in range(60)]
    source = grain.MapDataset.source(Batches(alone(Memory(SIZES[0]), 7, 5)))
    read = iter(source.to_iter_dataset(grain.ReadOptions(threads, 2 * threads)))
    assert [names(shown.batch) for shown in itertools.islice(read, 60)] == expected


def test_chunks_do_not_matter(monkeypatch):
    shares = mixed([Memory(SIZES[0]), Memory(SIZES[2])], (9, 7), 3)
    found = []
    for rows in (1, 16, 100, 10_000):
        monkeypatch.setattr("data_pipelines.dataset.stream.CHUNK_ROWS", rows)
        found.append([names(Batches(shares)[i].batch) for i in range(40)])
    assert found[0] == found[1] == found[2] == found[3]


def test_resume_at_any_batch_is_the_uninterrupted_stream(rng, monkeypatch):
    monkeypatch.setattr("data_pipelines.dataset.stream.CHUNK_ROWS", 30)

    def stream():
        return iter(Stream(Batches(alone(Memory(SIZES[0]), 7, seed=5)), {"seed": 5}))

    running = stream()
    expected = [names(next(running)) for _ in range(60)]
    running = stream()
    for place in range(45):
        state = json.loads(json.dumps(running.get_state()))
        resumed = stream()
        resumed.set_state(state)
        assert [names(b) for b in itertools.islice(resumed, 3)] == expected[place : place + 3]
        assert names(next(running)) == expected[place]
    for place in rng.permutation(50)[:10].tolist():  # and back again in a running one
        running.set_state({**state, "batch": place})
        assert names(next(running)) == expected[place]
