"""Streams of a prepared dataset on one host and on many: the same batches, and every example once, counted by its id."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from data_pipelines.dataset import blocks, parts, statistics
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.opening import open_data
from data_pipelines.dataset.stream import Batches, mixed
from data_pipelines.errors import DatasetError
from data_pipelines.library import LIBRARY

BATCH = 24


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Dataset:
    """The embedded library in blocks of 16 rows, two of a shard, with statistics as `prepare` writes them today."""
    folder = tmp_path_factory.mktemp("library")
    for path in LIBRARY.rglob("*"):
        if path.suffix in (".json", ".txt", ".parquet", ".npz"):
            (folder / path.relative_to(LIBRARY)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(LIBRARY)).write_bytes(path.read_bytes())
    for part in (LIBRARY / "blocks").iterdir():
        held = {split: [blocks.Blocks([part], split)[0]] for split in ("train", "validation", "test")}
        blocks.write(folder / "blocks" / part.name, held, block_rows=16, shard_blocks=2)
        stored = parts.paths(folder, part.name)[parts.STATISTICS]
        statistics.write(stored, {split: parts.measure(folder, part.name, split) for split in held})
    return Dataset(folder)


@pytest.fixture(scope="module")
def id_of(library) -> dict[bytes, str]:
    split = library.split("train")
    found = {row.tobytes(): id for row, id in zip(split.batch.spectrum, split.ids, strict=True)}
    assert len(found) == len(split.ids)
    return found


def shown(data, hosts: int, count: int, state: dict | None = None, batch_size: int = BATCH):
    """`count` global batches from all hosts, and the state of each; a position goes through JSON."""
    streams = [iter(data.stream("train", batch_size, 7, host, hosts)) for host in range(hosts)]
    for stream in streams:
        if state:
            stream.set_state(json.loads(json.dumps(state)))
    found = [np.concatenate([next(stream).spectrum for stream in streams]) for _ in range(count)]
    states = [stream.get_state() for stream in streams]
    assert all(own == states[0] for own in states), "whichever host wrote the checkpoint"
    return found, states[0]


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_any_number_of_hosts_shows_the_same_batches(library, hosts):
    for one, other in zip(shown(library, 1, 30)[0], shown(library, hosts, 30)[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_from_8_to_4_to_8_hosts_within_an_epoch_every_example_comes_once(library, id_of):
    """Of 330 examples 13 batches of 24 are an epoch; three epochs, with a change within each."""
    steps = library.examples["train"] // BATCH
    found, state = [], None
    for hosts, count in ((8, 5), (4, 3), (8, 9), (2, 7), (8, steps * 3 - 24)):
        batches, state = shown(library, hosts, count, state)
        found += batches
    for one, other in zip(found, shown(library, 1, steps * 3)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    orders = []
    for epoch in range(3):
        ids = [id_of[row.tobytes()] for batch in found[epoch * steps : (epoch + 1) * steps] for row in batch]
        assert set(Counter(ids).values()) == {1} and len(ids) == steps * BATCH
        orders.append(ids)
    assert orders[0] != orders[1] != orders[2]
    left_out = set(id_of.values()) - set(orders[0])
    assert len(left_out) == library.examples["train"] - steps * BATCH and left_out & set(orders[1])


def test_the_ids_of_a_batch_are_told(library, id_of):
    for number, batch in enumerate(shown(library, 2, 30)[0]):
        assert library.ids_of("train", BATCH, 7, number) == [id_of[row.tobytes()] for row in batch]


def test_mixtures_are_the_same_on_any_number_of_hosts(library, built):
    """By weight; a set goes through all its examples before any comes again."""
    mixture = open_data([f"{library.path}:0.8", f"{built.out}:0.2"])
    quotas = mixture.quotas(BATCH)
    alone, _ = shown(mixture, 1, 40)
    found, state = [], None
    for hosts, count in ((8, 11), (4, 9), (2, 10), (8, 10)):
        batches, state = shown(mixture, hosts, count, state)
        found += batches
    ours = [[(number, row) for row in range(one.examples["train"])] for number, one in enumerate(mixture.sets)]
    order = Batches(mixed([one.blocks("train") for one in mixture.sets], quotas, 7))
    whole, counts = [one.split("train") for one in mixture.sets], Counter()
    for number, (one, other) in enumerate(zip(alone, found, strict=True)):
        np.testing.assert_array_equal(one, other)
        rows = order.rows_of(number)
        assert Counter(own for own, _ in rows) == dict(enumerate(quotas))
        assert mixture.ids_of("train", BATCH, 7, number) == [whole[own].ids[row] for own, row in rows]
        np.testing.assert_array_equal(one, [whole[own].batch.spectrum[row] for own, row in rows])
        counts.update(rows)
    for own in ours:
        times = [counts[row] for row in own]
        assert max(times) - min(times) <= 1


def test_hosts_share_each_set_of_a_mixture(library, built):
    """None waits for the slowest set alone."""
    mixture = open_data([f"{library.path}:0.75", f"{built.out}:0.25"])
    ours, theirs = ({row.tobytes() for row in one.split("train").batch.spectrum} for one in mixture.sets)
    counts = []
    for host in range(4):
        batches = itertools.islice(iter(mixture.stream("train", 64, 0, host, 4)), 16)
        counts.append(sum(row.tobytes() in theirs - ours for batch in batches for row in batch.spectrum))
    # Of 16 rows of each batch, 4 are on each host, give or take those of a lane.
    assert max(counts) - min(counts) <= 2 * 16 and min(counts) > 16


def test_a_position_in_another_order_is_refused_and_says_what_differs(library, built):
    _, state = shown(library, 2, 3)
    mixture = open_data([f"{library.path}:0.8", f"{built.out}:0.2"])
    other = open_data([f"{library.path}:0.5", f"{built.out}:0.5"])
    _, mixed = shown(mixture, 1, 3)
    for data, batch_size, seed, given, words in (
        (library, 48, 7, state, "batch_size 24, this one has batch_size 48"),
        (library, BATCH, 8, state, "seed 7, this one has seed 8"),
        (mixture, BATCH, 7, state, r"data .*\(24 rows of a batch\), this one has data .*\(19 .*\(5 "),
        (other, BATCH, 7, mixed, r"\(19 rows of a batch\) and .*\(5 rows of a batch\), this one has .*\(12 .*\(12 "),
        (library, BATCH, 7, {**state, "order": 9}, "order 9, this one has order 2"),
        (library, BATCH, 7, {"batch": 3}, "order None"),
    ):
        with pytest.raises(DatasetError, match=words) as caught:
            iter(data.stream("train", batch_size, seed)).set_state(given)
        assert "\n" not in str(caught.value)


def test_a_position_from_before_there_were_lanes_is_taken(library):
    """It was kept at the ends of epochs alone."""
    steps = library.examples["train"] // BATCH
    stream, wanted = iter(library.stream("train", BATCH, 7)), shown(library, 1, steps + 1)[0][-1]
    stream.set_state({"next_index": steps})
    np.testing.assert_array_equal(next(stream).spectrum, wanted)
