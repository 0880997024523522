"""A dataset in an object store is the one on this machine: the same rows, statistics, streams and complaints."""

import time
from collections import Counter

import numpy as np
import pytest

from data_pipelines import faults, files
from data_pipelines.dataset import blocks, ranged
from data_pipelines.dataset.blocks import Blocks, Rows
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.opening import open_data
from data_pipelines.dataset.stream import Batches, alone
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import DatasetError, PlaceError
from data_pipelines.library import LIBRARY
from data_pipelines.places import Place, place
from tests.data_pipelines.stores import NEEDS_S3, Store

NAMES = ("data_card.json", "data_card.txt", "blocks", "ledger", "statistics", "spt_xas")


def put(folder: Place, root: Place) -> None:
    """The dataset of a folder, and nothing else that lies there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] in NAMES:
            (root / path.relative_to(folder).as_posix()).upload(path)


def rows(count: int) -> Rows:
    rng = np.random.default_rng(count)
    labels = rng.normal(size=(count, 20)).astype(np.float32)
    return Rows(rng.normal(size=(count, 144)).astype(np.float32), np.full(count, 29, np.int32), labels)


def same(one, other) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_remote_dataset_is_the_local_one(store: Store):
    put(LIBRARY, store.root)
    here, there = Dataset(LIBRARY), open_data(str(store.root))
    assert there.fingerprint == here.fingerprint and there.examples == here.examples
    assert there.name == str(store.root)
    for name in ("train", "validation"):
        one, other = here.split(name), there.split(name)
        assert (one.ids, one.materials, one.absorbers) == (other.ids, other.materials, other.absorbers)
        same(one.batch, other.batch)
        assert here.statistics(name).agrees(there.statistics(name))
        same(here.reader(name)(3, 40).rows, there.reader(name)(3, 40).rows)
        assert here.kin(name) == there.kin(name)
    one, other = (iter(data.stream("train", 32, seed=1)) for data in (here, there))
    for _ in range(5):
        same(next(one), next(other))
    state, wanted = other.get_state(), next(other)
    again = iter(there.stream("train", 32, seed=1))
    again.set_state(state)
    same(next(again), wanted)
    assert open_data([f"{store.root}:0.7", f"{LIBRARY}:0.3"]).quotas(10) == (7, 3)
    assert list(verify(store.root)) == []


def test_a_set_of_tfds_is_read_there_too(store: Store):
    [folder, *_] = sorted(LIBRARY.glob("spt_xas/*/1.0.0"))
    for path in folder.iterdir():
        (store.root / path.name).upload(path)
    here, there = open_data(folder), open_data(str(store.root))
    same(here.split("train").batch, there.split("train").batch)
    assert here.fingerprint == there.fingerprint
    assert (store.root / ".spt_jax_statistics.npz").exists()  # gathered once, and kept
    assert open_data(str(store.root)).statistics("train").agrees(here.statistics("train"))


def test_only_what_is_read_is_fetched(store: Store, tmp_path, monkeypatch):
    """Of a shard of 64 blocks, its end and the blocks that are asked for; and each once."""
    fetched = []
    real = ranged.RemotePath.read_range
    monkeypatch.setattr(ranged.RemotePath, "read_range", lambda path, a, b: fetched.append(b - a) or real(path, a, b))
    blocks.write(tmp_path / "blocks", {"train": [rows(64 * 64)]}, block_rows=64)
    [path] = (tmp_path / "blocks").iterdir()
    (store.root / path.name).upload(path)
    here, there = Blocks([tmp_path / "blocks"], "train"), Blocks([store.root], "train")
    same(here[40], there[40])
    whole, block = path.stat().st_size, 64 * 4 * (144 + 1 + 20)
    assert sum(fetched) < ranged.TAIL + 3 * (block + 200) < whole / 5
    there.fetch(range(64))
    for number in range(64):
        same(here[number], there[number])
    assert whole - ranged.BLOCK < sum(fetched) < whole + ranged.TAIL
    before = len(fetched)
    there.fetch(range(64))
    same(here[7], there[7])
    assert len(fetched) == before


def test_a_stream_fetches_ahead_and_every_block_once(store: Store, tmp_path, monkeypatch):
    """Blocks of the next chunks come while this one is trained on; in a whole epoch each is asked for once."""
    monkeypatch.setattr("data_pipelines.dataset.stream.CHUNK_ROWS", 512)
    unlabelled = rows(256 * 32)._replace(labels=np.full((256 * 32, 20), np.nan, np.float32))
    blocks.write(tmp_path / "blocks", {"train": [unlabelled]}, block_rows=32)
    for path in (tmp_path / "blocks").iterdir():
        (store.root / path.name).upload(path)
    here, there = (Blocks([folder], "train") for folder in (tmp_path / "blocks", store.root))
    fetched, real = [], there.fetch_one
    monkeypatch.setattr(there, "fetch_one", lambda block: fetched.append(block) or real(block))
    local, remote = (Batches(alone(source, 128, seed=3)) for source in (here, there))
    same(local[0].batch, remote[0].batch)
    began = time.monotonic()
    while len(set(fetched)) < 100:  # of 64 lanes, and of those that come to their next block within some chunks
        assert time.monotonic() - began < 60, len(fetched)
        time.sleep(0.01)
    for number in range(64):
        same(local[number].batch, remote[number].batch)
    # Those of the first chunks of the next epoch may be among them.
    assert set(fetched) == set(range(256)) and len(fetched) <= 256 + 64 * 3
    assert Counter(fetched[:200]).most_common(1)[0][1] == 1


def test_what_is_missing_or_damaged_is_named(store: Store):
    with pytest.raises(DatasetError, match=r"://.*: no data_card.json here"):
        open_data(str(store.root))
    put(LIBRARY, store.root)
    path = next(path for path in store.root.rglob("train-*") if "blocks" in str(path))
    content = bytearray(path.read_bytes())
    for place_ in range(5000, 5100):
        content[place_] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(DatasetError, match=rf"{path}: damaged .*prepare the dataset again"):
        open_data(str(store.root)).split("train")
    assert any(str(path) in problem and "checksum" in problem for problem in verify(store.root))
    path.unlink()
    with pytest.raises(DatasetError, match="missing"):
        open_data(str(store.root)).split("train")


def test_a_block_damaged_on_its_way_is_fetched_again(store: Store, tmp_path, monkeypatch):
    blocks.write(tmp_path / "blocks", {"train": [rows(512)]}, block_rows=64)
    [path] = (tmp_path / "blocks").iterdir()
    (store.root / path.name).upload(path)
    there, real, once = Blocks([store.root], "train"), ranged.RemotePath.read_range, [True]
    monkeypatch.setattr(
        ranged.RemotePath, "read_range", lambda path, a, b: bytes(b - a) if once and once.pop() else real(path, a, b)
    )
    same(there[5], Blocks([tmp_path / "blocks"], "train")[5])
    assert not once


@NEEDS_S3
def test_a_store_that_fails_now_and_then_serves_a_whole_epoch(s3_store: Store):
    put(LIBRARY, s3_store.root)
    rng, before = np.random.default_rng(0), faults.count()
    s3_store.fault = lambda method, path: int(rng.choice([0, 500, 503])) if rng.random() < 0.2 else None
    same(Dataset(LIBRARY).split("train").batch, open_data(str(s3_store.root)).split("train").batch)
    assert faults.count() > before


@NEEDS_S3
def test_no_bucket_is_said_as_such(s3_store: Store):
    with pytest.raises(PlaceError, match="s3://nowhere: no such bucket"):
        open_data("s3://nowhere/data")


def test_this_process_leaves_nothing_behind(tmp_path, monkeypatch):
    """Nor do those that were killed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    left = tmp_path / "spt-jax" / "remote" / "left"
    left.mkdir(parents=True)
    (left / "copy").write_bytes(b"x")
    files.scratch.cache_clear()
    path = place("memory://bucket/shard")
    path.write_bytes(bytes(200_000))
    copy = ranged.SparseCopy(path)
    assert not left.exists() and copy.file.stat().st_size == 200_000
    file = copy.file
    del copy
    assert not file.exists()
    files.scratch.cache_clear()
    path.unlink()
