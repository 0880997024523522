"""A set that a stranger wrote with TFDS alone: read, streamed and told like a dataset of ours, or refused in one line."""

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.dataset import foreign, statistics
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.opening import open_data
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import DatasetError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import DESCRIPTORS, LABELS, Batch

GUIDE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")


def features(**other) -> dict:
    """As the guide has them."""
    [code] = [block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "FeaturesDict(" in block]
    return {**dict(eval(code, {"tfds": tfds, "np": np}).items()), **other}


class Strange(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("2.3.1")

    def __init__(self, *, splits, own, metadata, **where):
        self.content, self.own, self.told = splits, own, metadata
        super().__init__(**where, file_format="array_record")

    def _info(self):
        metadata = tfds.core.MetadataDict(self.told) if self.told else None
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.own), metadata=metadata)

    def _split_generators(self, _):
        return {name: iter(examples) for name, examples in self.content.items()}

    def _generate_examples(self):
        raise NotImplementedError("the splits are given")


def write_with_tfds(folder, splits, own=None, metadata=None):
    """The folder of the version that tfds makes of (key, example) of each split."""
    builder = Strange(data_dir=str(folder), splits=splits, own=own or features(), metadata=metadata)
    builder.download_and_prepare()
    return builder.data_path


def without_shells(batch: Batch) -> Batch:
    """As the guide has them: with the labels of DESCRIPTORS alone."""
    there = np.arange(LABELS) < len(DESCRIPTORS)
    return batch._replace(labels=np.where(there, batch.labels, 0).astype(np.float32), mask=batch.mask & there)


def as_examples(dataset: Dataset, name: str) -> list[tuple[str, dict]]:
    """Our library's own rows, as a stranger would have them."""
    split, found = dataset.split(name), []
    for row, id in enumerate(split.ids):
        element, edge = split.absorbers[row].split()
        labels = np.where(split.batch.mask[row], split.batch.labels[row], np.nan).astype(np.float32)[: len(DESCRIPTORS)]
        for column, d in enumerate(DESCRIPTORS):
            if d.classes and np.isfinite(labels[column]):
                labels[column] = d.classes[int(labels[column])]
        texts = {"id": id, "material": split.materials[row], "element": element, "edge": edge}
        found.append((id, {**texts, "spectrum": split.batch.spectrum[row], "labels": labels}))
    return found


@pytest.fixture(scope="module")
def library() -> Dataset:
    return Dataset(LIBRARY)


@pytest.fixture(scope="module")
def strange(library, tmp_path_factory):
    """All of the embedded library, with an odd name for one split and a feature more than ours."""
    splits = {"train": as_examples(library, "train"), "validation": as_examples(library, "validation")}
    splits["held_out"] = as_examples(library, "test")
    for examples in splits.values():
        for _, example in examples:
            example["note"] = "of no concern"
    own = features(note=tfds.features.Text())
    return write_with_tfds(tmp_path_factory.mktemp("strange"), splits, own)


@pytest.fixture
def copy(strange, tmp_path):
    shutil.copytree(strange, tmp_path / "copy", ignore=shutil.ignore_patterns(".spt_jax*"))
    return tmp_path / "copy"


def by_id(split):
    return {id: row for row, id in enumerate(split.ids)}


def test_its_splits_hold_what_was_written(strange, library, monkeypatch):
    monkeypatch.setattr(foreign, "BLOCK_ROWS", 50)
    data = open_data(strange)
    assert data.examples == {"train": 330, "validation": 46, "held_out": 75} and data.grid == library.grid
    for name, ours in (("train", "train"), ("validation", "validation"), ("held_out", "test")):
        split, expected = data.split(name), library.split(ours)
        place = by_id(expected)
        rows = [place[id] for id in split.ids]
        assert sorted(rows) == list(range(len(expected.ids)))
        assert split.materials == tuple(expected.materials[row] for row in rows)
        assert split.absorbers == tuple(expected.absorbers[row] for row in rows)
        batch = without_shells(expected.batch)
        for ours_, theirs in zip(split.batch, batch, strict=True):
            assert ours_.dtype == theirs.dtype
            np.testing.assert_array_equal(ours_, theirs[rows])
        assert data.statistics(name).agrees(Statistics.of(batch, expected.absorbers))
    with pytest.raises(DatasetError, match="'test'; it has"):
        data.split("test")


def test_some_rows_and_the_stream_are_of_its_rows(strange, monkeypatch, rng):
    monkeypatch.setattr(foreign, "BLOCK_ROWS", 16)
    data = open_data(str(strange))
    whole = data.split("train")
    most = int(rng.integers(1, 330))
    some = data.split("train", most)
    assert len(some.ids) == most and set(some.ids) <= set(whole.ids)
    place = {spectrum.tobytes(): row for row, spectrum in enumerate(whole.batch.spectrum)}
    batches = list(itertools.islice(iter(data.stream("train", 33, seed=1)), 10))
    rows = [place[spectrum.tobytes()] for batch in batches for spectrum in batch.spectrum]
    for field in whole.batch._fields:
        seen = np.concatenate([getattr(batch, field) for batch in batches])
        np.testing.assert_array_equal(seen, getattr(whole.batch, field)[rows])
    assert len(set(rows)) == 330


def test_it_is_read_through_once(copy, monkeypatch):
    first = open_data(copy)
    told, fingerprint = first.statistics("train"), first.fingerprint
    monkeypatch.setattr(foreign.TfdsFolder, "_gather", lambda *_: pytest.fail("read again"))
    again = open_data(copy)
    assert again.statistics("train").agrees(told) and again.fingerprint == fingerprint
    tfds.builder_from_directory(str(copy)).as_data_source("train")  # which what lies beside it does not disturb
    monkeypatch.undo()
    for damage in ("", "{}", "[1]", '{"of": 3}'):
        (copy / foreign.STAMP).write_text(damage)
        assert open_data(copy).fingerprint == fingerprint
    (copy / foreign.STATISTICS).write_bytes(b"no statistics")
    assert open_data(copy).statistics("train").agrees(told)


def test_other_content_is_another_fingerprint(library, strange, copy, tmp_path):
    examples = as_examples(library, "validation")
    one = open_data(write_with_tfds(tmp_path / "one", {"train": examples}))
    same = open_data(write_with_tfds(tmp_path / "same", {"train": examples}))
    examples[3][1]["labels"] = examples[4][1]["labels"]
    other = open_data(write_with_tfds(tmp_path / "other", {"train": examples}))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert open_data(copy).fingerprint == open_data(strange).fingerprint


def test_a_folder_that_cannot_be_written_to(copy, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(statistics, "write", refuse)
    assert open_data(copy).statistics("train").count == 330
    assert not (copy / foreign.STAMP).exists()


def test_a_part_of_a_dataset_is_left_as_it_is(built):
    [source] = [source for source in Dataset(built.out).card["sources"] if source["splits"]["train"] > 3]
    part = open_data(built.out / "spt_xas" / source["part"] / "1.0.0")
    assert part.statistics("train").count == source["splits"]["train"] and part.grid == built.grid
    assert list(verify(built.out)) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"spectrum": tfds.features.Tensor(shape=(None,), dtype=np.float32)}, r"'spectrum' is Tensor\(shape=\(None,\)"),
        ({"spectrum": tfds.features.Tensor(shape=(144,), dtype=np.float64)}, r"'spectrum' is .*float64.*expected .*32"),
        (
            {"labels": tfds.features.Tensor(shape=(9,), dtype=np.float32, encoding="zlib")},
            "'labels' is .* stored as zlib",
        ),
        ({"labels": tfds.features.Tensor(shape=(4,), dtype=np.float32)}, r"'labels' is .*\(4,\).*expected .*\(9,\)"),
        ({"element": tfds.features.ClassLabel(num_classes=100)}, "'element' is ClassLabel"),
        ({"edge": None}, "'edge' is missing, expected Text"),
    ],
    ids=["variable", "double", "compressed", "four", "classes", "missing"],
)
def test_the_first_feature_that_differs_is_named(tmp_path, other, words):
    own = {name: kind for name, kind in features(**other).items() if kind is not None}
    folder = tmp_path / "set"
    folder.mkdir()
    tfds.features.FeaturesDict(own).save_config(str(folder))
    info = {"name": "set", "version": "1.0.0", "fileFormat": "array_record", "splits": []}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=words) as caught:
        open_data(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_other_files_grids_and_junk_are_refused(library, tmp_path, copy):
    examples = as_examples(library, "validation")
    short = [(id, {**example, "spectrum": example["spectrum"][:100]}) for id, example in examples]
    own = features(spectrum=tfds.features.Tensor(shape=(100,), dtype=np.float32))
    with pytest.raises(DatasetError, match="100 points, its grid has 144; state it in the metadata"):
        open_data(write_with_tfds(tmp_path / "short", {"train": short}, own))
    grid = {"start": 1.0, "step": 0.25, "points": 100}
    stated = open_data(write_with_tfds(tmp_path / "stated", {"train": short}, own, {"grid": grid}))
    assert (stated.grid.start, stated.grid.step, stated.grid.points) == (1.0, 0.25, 100)
    with pytest.raises(DatasetError, match="no energy grid"):
        open_data(write_with_tfds(tmp_path / "odd", {"train": short}, own, {"grid": {"begin": 1}}))
    info = json.loads((copy / "dataset_info.json").read_text())
    (copy / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(DatasetError, match="array_record"):
        open_data(copy)
    (copy / "dataset_info.json").write_text("{")
    with pytest.raises(DatasetError, match="not a TFDS dataset") as caught:
        open_data(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"element": "Xx"}, "no reference energy for the Xx K edge"),
        ({"edge": "L3"}, "no reference energy for the .* L3 edge"),
        ({"spectrum": np.full(144, np.nan, np.float32)}, "spectrum is not finite"),
        ({"labels": np.full(9, 200, np.float32)}, "200 is no OS"),
        ({"labels": np.append(np.full(9, np.nan), np.full(10, 0.5)).astype(np.float32)}, r"\[0.5, .* is no NN1"),
        ({"labels": np.append(np.full(19, np.nan), 5).astype(np.float32)}, "5 is no source"),
    ],
    ids=["element", "edge", "nan", "label", "set", "source"],
)
def test_a_record_that_training_would_mistake_is_named(library, tmp_path, change, words, rng):
    examples = as_examples(library, "validation")
    row, width = int(rng.integers(len(examples))), len(change.get("labels", range(9)))
    for _, each in examples:
        each["labels"] = np.pad(each["labels"], (0, width - 9), constant_values=np.nan)
    examples[row] = (examples[row][0], {**examples[row][1], **change})
    own = features(labels=tfds.features.Tensor(shape=(width,), dtype=np.float32))
    data = open_data(write_with_tfds(tmp_path, {"train": examples}, own))
    for read in (lambda: data.statistics("train"), lambda: data.split("train"), lambda: data.fingerprint):
        with pytest.raises(DatasetError, match=words) as caught:
            read()
        assert repr(examples[row][0]) in str(caught.value) and "array_record" in str(caught.value)


def test_missing_and_damaged_files_are_named(copy, rng):
    shard = next(copy.glob("*-train.array_record*"))
    data = shard.read_bytes()
    whole = open_data(copy).split("train")
    places = np.flatnonzero(np.frombuffer(data, np.uint8))
    found = 0
    for place in rng.choice(places, 10):
        shard.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            split = open_data(copy).split("train")
        except DatasetError as error:
            found += 1
            assert str(shard) in str(error) and "damaged" in str(error) and "\n" not in str(error)
        else:
            assert split.ids == whole.ids
    assert found
    shard.unlink()
    with pytest.raises(DatasetError, match=f"{shard.name}: missing"):
        open_data(copy)


def test_statistics_are_of_all_rows_whatever_the_blocks(strange, monkeypatch, rng):
    monkeypatch.setattr(foreign, "BLOCK_ROWS", int(rng.integers(1, 100)))
    data = foreign.TfdsFolder(strange)
    split = data.split("train")
    assert data._gather("train").agrees(Statistics.of(split.batch, split.absorbers))
