import os
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.dataset import blocks
from data_pipelines.dataset.blocks import Blocks, Rows, join, pack, unpack
from data_pipelines.dataset.stream import Batches, alone
from data_pipelines.errors import DatasetError
from data_pipelines.schema import NAMES


def make_rows(rng, count: int, energies: int = 20, labels: int = 3) -> Rows:
    """Random values, a third of the labels NaN."""
    values = rng.normal(size=(count, labels)).astype(np.float32)
    values[rng.random(values.shape) < 1 / 3] = np.nan
    spectrum = rng.normal(size=(count, energies)).astype(np.float32)
    return Rows(spectrum, rng.integers(1, 90, count).astype(np.int32), values)


def portions(rows: Rows, sizes):
    """The rows in consecutive portions of these sizes; the rest last."""
    start = 0
    for size in (*sizes, len(rows.spectrum)):
        yield Rows(*(array[start : start + size] for array in rows))
        start += size


def assert_same(a: Rows, b: Rows) -> None:
    """Bit for bit, NaN included."""
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def read_all(source: Blocks) -> Rows:
    return join([source[i] for i in range(len(source))])


@pytest.fixture
def whole(rng):
    return make_rows(rng, 103)


@pytest.fixture
def dataset(whole, tmp_path):
    """103 rows in 15 blocks of 7, 4 blocks a shard."""
    blocks.write(tmp_path / "blocks", {"train": portions(whole, [5, 0, 40])}, block_rows=7, shard_blocks=4)
    return tmp_path


def shard_of(dataset, number, split="train"):
    return dataset / "blocks" / f"{split}-{number:05d}-of-00004.array_record"


@pytest.mark.parametrize("count", [1, 7, 1024])
def test_unpack_inverts_pack(count, rng):
    rows = make_rows(rng, count)
    assert_same(unpack(pack(rows)), rows)


def test_unpack_refuses_what_is_no_block(whole):
    data = pack(whole)
    for other, words in (
        (b"", "no block"),
        (data[:-1], "cannot hold"),
        (data + b"\0", "cannot hold"),
        (b"X" + data[1:], "format"),
        (data[:4] + b"\2" + data[5:], "reads b'SPTB' 1"),
    ):
        with pytest.raises(ValueError, match=words):
            unpack(other)


def test_rows_come_back_in_order_whatever_the_portions(dataset, whole, rng):
    source = Blocks([dataset / "blocks"], "train")
    assert (len(source), source.rows) == (15, 103)
    assert source.sizes.tolist() == [7] * 14 + [5]
    assert sorted(p.name for p in (dataset / "blocks").iterdir()) == [shard_of(dataset, i).name for i in range(4)]
    assert_same(read_all(source), whole)
    before = [shard_of(dataset, i).read_bytes() for i in range(4)]
    sizes = rng.integers(0, 30, 9)
    blocks.write(dataset / "blocks", {"train": portions(whole, sizes)}, block_rows=7, shard_blocks=4)
    assert [shard_of(dataset, i).read_bytes() for i in range(4)] == before


@pytest.mark.parametrize("count", [1, 6, 7, 28, 29])
def test_sizes_at_the_edges_of_blocks_and_shards(count, tmp_path, rng):
    rows = make_rows(rng, count)
    blocks.write(tmp_path / "blocks", {"train": [rows], "test": [rows]}, block_rows=7, shard_blocks=4)
    for split in ("train", "test"):
        source = Blocks([tmp_path / "blocks"], split)
        assert source.rows == count
        assert_same(read_all(source), rows)


def test_folders_follow_one_another(dataset, whole, tmp_path, rng):
    """Each with blocks of its own size; a block that lies in another folder's file is never taken for it."""
    other = make_rows(rng, 20)
    blocks.write(tmp_path / "other", {"train": [other]}, block_rows=3, shard_blocks=2)
    source = Blocks([dataset / "blocks", tmp_path / "other", dataset / "blocks"], "train")
    assert source.sizes.tolist() == [7] * 14 + [5] + [3] * 6 + [2] + [7] * 14 + [5]
    assert_same(read_all(source), join([whole, other, whole]))
    assert [source.path(i).parent.name for i in (0, 14, 15, 21, 22)] == ["blocks", "blocks", "other", "other", "blocks"]


def test_blocks_from_all_over_hold_just_enough(rng):
    for _ in range(50):
        source = SimpleNamespace(sizes=rng.integers(1, 50, rng.integers(1, 300)))
        rows = int(source.sizes.sum())
        most = int(rng.integers(1, rows + 50))
        chosen = blocks.spaced(source, most)
        assert (np.diff(chosen) > 0).all() and source.sizes[chosen].sum() >= min(most, rows)
        assert source.sizes[chosen].sum() - source.sizes[chosen].max() < most
        gaps = np.diff([-1, *chosen, len(source.sizes)])
        assert gaps.max() <= 3 * len(source.sizes) / len(chosen) + 1
        assert blocks.spaced(source).tolist() == list(range(len(source.sizes)))


def test_few_files_are_open_at_a_time(dataset, whole, monkeypatch):
    monkeypatch.setattr(blocks, "OPEN_SHARDS", 1)
    assert_same(read_all(Blocks([dataset / "blocks"], "train")), whole)


def test_flipped_bit_is_never_read_as_other_data(dataset, whole, rng):
    """Either an error that names the shard, or (where the bit has no meaning) the same rows."""
    found = 0
    for number in (1, 3):
        shard = shard_of(dataset, number)
        good = shard.read_bytes()
        meaning = np.flatnonzero(np.frombuffer(good, np.uint8))  # the file is padded with zeros
        for place in (*rng.choice(meaning, 40), *rng.integers(0, len(good), 10)):
            data = bytearray(good)
            data[place] ^= 1 << int(rng.integers(8))
            shard.write_bytes(data)
            try:
                rows = read_all(Blocks([dataset / "blocks"], "train"))
            except DatasetError as error:
                found += 1
                assert str(shard) in str(error) and "damaged" in str(error) and "\n" not in str(error)
            else:
                assert_same(rows, whole)
        shard.write_bytes(good)
    assert found


@pytest.mark.parametrize("number", range(4))
def test_truncated_or_missing_shard_is_named(dataset, rng, number):
    shard = shard_of(dataset, number)
    good = shard.read_bytes()
    for length in (0, 1, len(good) // 2, len(good) - 1):
        shard.write_bytes(good[:length])
        with pytest.raises(DatasetError, match=f"{shard.name}: damaged"):
            read_all(Blocks([dataset / "blocks"], "train"))
    shard.unlink()
    with pytest.raises(DatasetError, match=f"{shard.name}: missing"):
        read_all(Blocks([dataset / "blocks"], "train"))


def test_exchanged_shards_are_found(dataset):
    """The last shard is shorter: nothing else tells shards apart."""
    first, last = shard_of(dataset, 1), shard_of(dataset, 3)
    data = first.read_bytes(), last.read_bytes()
    last.write_bytes(data[0])
    first.write_bytes(data[1])
    with pytest.raises(DatasetError, match=first.name):
        read_all(Blocks([dataset / "blocks"], "train"))


def test_split_without_blocks(dataset, tmp_path):
    for folder, split in ((dataset, "test"), (tmp_path / "nowhere", "train")):
        with pytest.raises(DatasetError, match=f"without blocks of split '{split}'"):
            Blocks([folder / "blocks"], split)


def test_failed_write_leaves_nothing_or_the_old_blocks(dataset, whole, tmp_path, rng):
    def failing():
        yield from portions(make_rows(rng, 60), [30])
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        blocks.write(tmp_path / "new" / "blocks", {"test": [whole], "train": failing()}, block_rows=7)
    assert not any((tmp_path / "new").iterdir())
    with pytest.raises(RuntimeError, match="the source broke"):
        blocks.write(dataset / "blocks", {"train": failing()}, block_rows=7)
    assert [p.name for p in dataset.iterdir() if p.name.startswith(".")] == []
    assert_same(read_all(Blocks([dataset / "blocks"], "train")), whole)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice on files")
def test_what_the_system_is_told_to_expect_holds_the_block(rng, tmp_path, monkeypatch):
    blocks.write(tmp_path / "set", {"train": [make_rows(rng, 2000, 150, 10)]}, block_rows=64, shard_blocks=12)
    source, asked = Blocks([tmp_path / "set"], "train"), []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, begin, length, what: asked.append((begin, begin + length)))
    for block in range(len(source)):
        source.expect(block)
        content, own = source.path(block).read_bytes(), pack(source[block])
        begin, end = asked.pop()
        # One of two pieces of it is not cut in two by a header between pages.
        first, last = (content.find(own[at:][:64]) for at in (0, len(own) - 64))
        assert first >= 0 or last >= 0
        start = first if first >= 0 else last + 64 - len(own) - 2**10
        assert begin <= start and start + len(own) <= end and last + 64 <= end, block


def test_a_stream_expects_every_block_before_it_is_read(rng, tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipelines.dataset.stream.CHUNK_ROWS", 512)
    unlabelled = make_rows(rng, 200 * 64)._replace(labels=np.full((200 * 64, len(NAMES)), np.nan, np.float32))
    blocks.write(tmp_path / "set", {"train": [unlabelled]}, block_rows=64)
    source, told = Blocks([tmp_path / "set"], "train"), []
    monkeypatch.setattr(source, "expect", lambda block: told.append(block))
    read, real = [], source._read
    monkeypatch.setattr(
        source, "_read", lambda shard, place: read.append((shard * 64 + place, len(told))) or real(shard, place)
    )
    stream = Batches(alone(source, 128, seed=3))
    for number in range(100):
        stream[number]
    assert {block for block, _ in read} == set(range(200)) and all(block in told[:before] for block, before in read)
    # Those between two lanes are read twice, and those of the first chunks of the next epoch are told of already.
    assert Counter(told).most_common(1)[0][1] <= 3 and len(told) <= 200 + 64 + 2 * 64
