import itertools
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pymatgen.core import Structure

from data_pipelines.dataset import blocks
from data_pipelines.dataset.blocks import Blocks
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import DatasetError
from data_pipelines.feff.output import read_xmu
from data_pipelines.labels.descriptors import Surroundings, describe
from data_pipelines.schema import LABELS, SOURCE_COLUMN, SYMBOLS, encode_labels
from data_pipelines.spectra.grid import to_grid


@pytest.fixture(scope="module")
def dataset(built) -> Dataset:
    return Dataset(built.out)


@pytest.fixture
def copy(built, tmp_path):
    """A dataset folder of one's own, to damage."""
    shutil.copytree(built.out, tmp_path / "dataset")
    return tmp_path / "dataset"


def shard_of(folder, split):
    return sorted(folder.rglob(f"*-{split}.array_record*"))[0]


def blocks_of(folder, split):
    return sorted((folder / "blocks").rglob(f"{split}-*"))[0]


def flip(shard, place):
    data = bytearray(shard.read_bytes())
    data[place] ^= 0x10
    shard.write_bytes(data)


def written(shard):
    """Places in the file that are not padding."""
    return np.flatnonzero(np.frombuffer(shard.read_bytes(), np.uint8))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for a, b in zip(batches, others, strict=True):
        for field in a._fields:
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_splits_hold_what_was_ingested(built, dataset):
    """Every example once more, straight from its run folder."""
    seen = []
    for name in ("train", "test"):
        split = dataset.split(name)
        seen += split.ids
        assert split.batch.spectrum.dtype == np.float32 and split.batch.atomic_number.dtype == np.int32
        for row, id in enumerate(split.ids):
            folder = built.sources[1]
            if "/" in id:
                material, site = id.split("/")
                folder = built.tree / material / "FEFF-XANES" / site
                structure, index = Structure.from_file(built.tree / material / "POSCAR"), int(site.split("_")[0])
            else:
                material, site = "CoO", "1_O"
                structure, index = Structure.from_file(folder.parents[0] / "tree" / "mp-6-CoO" / "POSCAR"), 1
            run, element = read_xmu(folder / "xmu.dat"), site.split("_")[1]
            assert (split.materials[row], split.absorbers[row]) == (material, f"{element} K")
            assert SYMBOLS[split.batch.atomic_number[row]] == element
            np.testing.assert_array_equal(split.batch.spectrum[row], to_grid(run.energy, run.mu, built.grid, element))
            labels = describe(Surroundings(structure), index)[0]
            labels[SOURCE_COLUMN] = 10
            labels, mask = encode_labels(labels[None])
            np.testing.assert_array_equal(split.batch.mask[row], mask[0])
            np.testing.assert_allclose(split.batch.labels[row], labels[0], atol=1e-4)
    assert len(set(seen)) == len(seen) == built.card["records"]["kept"]


@pytest.fixture
def in_small_blocks(copy):
    """The training rows of the tree in blocks of two, a file for each."""
    dataset = Dataset(copy)
    folder = blocks_of(copy, "train").parent
    names = {p.name.split("-")[0] for p in folder.iterdir()}
    held = {name: [Blocks([folder], name)[0]] for name in names}
    blocks.write(folder, held, block_rows=2, shard_blocks=1)
    return dataset, folder


def test_some_rows_come_from_all_over_the_split(in_small_blocks, rng):
    dataset, _ = in_small_blocks
    whole = dataset.split("train")
    count = len(whole.ids)
    for most in (1, 2, int(rng.integers(2, count)), count, 99):
        some = dataset.split("train", most)
        assert len(some.ids) == min(most, count)
        rows = [whole.ids.index(id) for id in some.ids]
        assert rows == sorted(set(rows))
        assert_equal([some.batch], [take_rows(whole, rows)])
        assert some.materials == tuple(whole.materials[row] for row in rows)
        assert some.absorbers == tuple(whole.absorbers[row] for row in rows)
    rows = [whole.ids.index(id) for id in dataset.split("train", count // 2).ids]
    assert max(np.diff([-1, *rows, count])) <= 5, "no long stretch is left out"
    with pytest.raises(DatasetError, match="at least one example"):
        dataset.split("train", 0)


def test_some_rows_are_read_without_the_rest(in_small_blocks):
    dataset, folder = in_small_blocks
    expected = dataset.split("train", 4)
    files = sorted(folder.glob("train-*"))
    chosen = blocks.spaced(Blocks([folder], "train"), 4)
    for number in set(range(1, len(files) - 1)) - set(chosen.tolist()):  # the first and the last tell the sizes
        files[number].unlink()
    assert dataset.split("train", 4).ids == expected.ids
    with pytest.raises(DatasetError, match="missing"):
        dataset.split("train")


def test_training_begins_without_the_ledger(in_small_blocks):
    """It would be gone through for texts that no step needs; they are read when they are asked for."""
    dataset, _ = in_small_blocks
    some, count = dataset.split("train", 4), dataset.examples["train"]
    for path in (dataset.path / "ledger").iterdir():
        path.unlink()
    again = dataset.split("train", 4)
    assert_equal([again.batch], [some.batch])
    with pytest.raises(DatasetError, match=r"ledger.*missing"):
        len(again.ids)
    assert dataset.statistics("train").count == count


def take_rows(split, rows):
    return split.batch._replace(**{field: getattr(split.batch, field)[rows] for field in split.batch._fields})


def test_families_lie_in_one_split(dataset):
    assert {m.split("-")[-1] for m in dataset.split("train").materials} >= {"LiFePO4", "LiCoO2"}
    assert {m.split("-")[-1] for m in dataset.split("test").materials} >= {"NiO", "CoO"}


def test_stream_is_deterministic_and_shuffled(dataset):
    first, again, other = (iter(dataset.stream("train", 4, seed)) for seed in (3, 3, 4))
    batches = take(first, 8)
    assert_equal(batches, take(again, 8))
    assert any((a.spectrum != b.spectrum).any() for a, b in zip(batches, take(other, 8), strict=True))
    assert batches[0].spectrum.shape == (4, dataset.grid.points) and batches[0].labels.shape == (4, LABELS)


def test_stream_resumes_exactly(dataset, rng):
    """From a state that went through JSON, in the same iterator and in a fresh one."""
    iterator, fresh = (iter(dataset.stream("train", 2, seed=7)) for _ in range(2))
    take(iterator, int(rng.integers(0, 30)))
    state = json.loads(json.dumps(iterator.get_state()))
    ahead = take(iterator, 12)
    for other in (iterator, fresh):
        other.set_state(state)
        assert_equal(take(other, 12), ahead)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_cover_an_epoch_without_overlap(dataset, shards):
    whole = dataset.split("train").batch
    place = {spectrum.tobytes(): row for row, spectrum in enumerate(whole.spectrum)}
    assert len(place) == len(whole.spectrum) >= 9
    steps = len(place) // shards
    streams = [iter(dataset.stream("train", shards, seed=1, shard=shard, shards=shards)) for shard in range(shards)]
    epochs = []
    for _ in range(3):
        seen = [place[b.spectrum[0].tobytes()] for stream in streams for b in take(stream, steps)]
        assert len(set(seen)) == len(seen) == steps * shards
        epochs.append(seen)
    assert epochs[0] != epochs[1] != epochs[2], "in another order"


def test_stream_needs_the_blocks_alone(copy, dataset):
    """Ids and the rest of the ledger would grow with the set."""
    for folder in ("ledger", "spt_xas", "statistics"):
        shutil.rmtree(copy / folder)
    assert_equal(take(iter(Dataset(copy).stream("train", 3, 0)), 5), take(iter(dataset.stream("train", 3, 0)), 5))


def test_stream_gives_the_rows_of_the_split(dataset):
    whole = dataset.split("train").batch
    place = {spectrum.tobytes(): row for row, spectrum in enumerate(whole.spectrum)}
    for batch in take(iter(dataset.stream("train", 3, seed=0)), 6):
        rows = [place[spectrum.tobytes()] for spectrum in batch.spectrum]
        for field in batch._fields:
            np.testing.assert_array_equal(getattr(batch, field), getattr(whole, field)[rows])


def test_blocks_of_another_dataset_are_refused(copy):
    folder = blocks_of(copy, "train").parent
    other = Blocks([blocks_of(copy, "test").parent], "test")[0]
    blocks.write(folder, {"train": [other]})
    with pytest.raises(DatasetError, match=r"blocks.*(missing|damaged)"):
        Dataset(copy).stream("train", 1, seed=0)


def test_batch_larger_than_the_set_is_refused(dataset):
    with pytest.raises(DatasetError, match="batch_size 60 exceeds"):
        dataset.stream("train", 60, seed=0, shards=2)


def test_a_stranger_reads_it_with_tfds_alone(built, dataset):
    """Part after part, the rows of the split."""
    split, row = dataset.split("train"), 0
    for source in dataset.card["sources"]:
        if not source["splits"]["train"]:
            continue
        folder = built.out / "spt_xas" / source["part"] / "1.0.0"
        for example in tfds.builder_from_directory(str(folder)).as_data_source("train"):
            assert example["id"].decode() == split.ids[row]
            np.testing.assert_array_equal(example["spectrum"], split.batch.spectrum[row])
            labels, mask = encode_labels(example["labels"][None])
            np.testing.assert_array_equal(labels[0], split.batch.labels[row])
            np.testing.assert_array_equal(mask[0], split.batch.mask[row])
            row += 1
    assert row == len(split.ids)


def test_unknown_or_empty_split_is_refused(dataset):
    for name in ("validation", "holdout"):
        with pytest.raises(DatasetError, match=rf"'{name}'; it has train, test"):
            dataset.split(name)
        with pytest.raises(DatasetError, match=f"'{name}'"):
            dataset.stream(name, 1, seed=0)


def test_flipped_byte_is_found(copy, dataset, rng):
    """Either an error that names the file, or (where the byte has no meaning) the same examples."""
    shard, whole, found = blocks_of(copy, "train"), dataset.split("train"), 0
    for place in rng.choice(written(shard), 8):
        flip(shard, place)
        try:
            split = Dataset(copy).split("train")
        except DatasetError as error:
            found += 1
            assert shard.name in str(error) and "\n" not in str(error)
        else:
            assert split.ids == whole.ids
            assert_equal([split.batch], [whole.batch])
        flip(shard, place)
    assert found
    assert_equal([Dataset(copy).split("train").batch], [whole.batch])


def test_flipped_byte_is_found_by_the_stream(copy):
    shard = blocks_of(copy, "train")
    places = written(shard)
    flip(shard, places[len(places) // 2])
    with pytest.raises(DatasetError, match=f"{shard.name}: damaged"):
        take(iter(Dataset(copy).stream("train", 1, seed=0)), 9)


def test_missing_shard_is_named(copy):
    shard = blocks_of(copy, "test")
    shard.unlink()
    for read in (lambda d: d.split("test"), lambda d: d.stream("test", 1, seed=0)):
        with pytest.raises(DatasetError, match=r"blocks.*'test'"):
            read(Dataset(copy))
    assert Dataset(copy).split("train").ids and Dataset(copy).stream("train", 1, seed=0), "the other split is whole"


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_missing_or_damaged_ledger_is_named(copy, damage):
    ledger = next(p for p in (copy / "ledger").iterdir() if p.stem.startswith("tree"))
    data = ledger.read_bytes()
    ledger.unlink()
    if damage == "damaged":
        ledger.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=f"{ledger.name}: {damage}"):
        Dataset(copy).split("train")


def test_missing_or_damaged_card(copy, tmp_path):
    card = copy / "data_card.json"
    text = card.read_text()
    for content, words in (
        (text[: len(text) // 2], "damaged"),
        (json.dumps(json.loads(text) | {"format": 99}), "format 99"),
        (json.dumps(json.loads(text) | {"descriptors": {"OS": {}}}), "made with descriptors OS"),
    ):
        card.write_text(content)
        with pytest.raises(DatasetError, match=words):
            Dataset(copy)
    card.unlink()
    with pytest.raises(DatasetError, match=r"no data_card\.json"):
        Dataset(copy)
    with pytest.raises(DatasetError, match="nowhere"):
        Dataset(tmp_path / "nowhere")
