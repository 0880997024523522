"""Statistics of a split: equal to a slow reference whatever the parts, stored with the dataset, and read without its rows."""

import shutil
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from data_pipelines.dataset import blocks, card, parts, statistics
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import DatasetError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import DESCRIPTORS, SHELL_NAMES, SOURCE, Batch, encode_labels
from data_pipelines.shells import shell_labels

POINTS = 20


def make_batch(rng, count: int) -> Batch:
    """Spectra far from zero, and every label of the table; a third masked, of one descriptor all."""
    labels = np.empty((count, len(DESCRIPTORS)), np.float32)
    for column, d in enumerate(DESCRIPTORS):
        labels[:, column] = rng.integers(len(d.classes), size=count) if d.classes else rng.normal(2, 0.3, count)
    mask = rng.random(labels.shape) > 1 / 3
    mask[:, rng.integers(len(DESCRIPTORS))] = False
    spectrum = (30 + rng.normal(size=(count, POINTS)) @ rng.normal(size=(POINTS, POINTS))).astype(np.float32)
    return Batch(spectrum, rng.integers(1, 90, count).astype(np.int32), np.where(mask, labels, 0), mask)


def slow(batch: Batch, absorbers: list[str]) -> dict:
    """The reference: the whole at once, and loops."""
    spectrum = batch.spectrum.astype(np.float64)
    found = {"mean": spectrum.mean(axis=0), "covariance": np.cov(spectrum.T, bias=True), "std": spectrum.std(axis=0)}
    found |= {"count": len(spectrum), "absorbers": dict(Counter(absorbers)), "labels": {}}
    for column, d in enumerate(DESCRIPTORS):
        values = [float(v) for v, there in zip(batch.labels[:, column], batch.mask[:, column], strict=True) if there]
        counts = [values.count(index) for index in range(len(d.classes))]
        spread = (np.mean(values), np.std(values)) if values and not d.classes else (0, 0)
        found["labels"][d.name] = (len(values), counts, spread)
    return found


def assert_is(found: Statistics, reference: dict) -> None:
    assert (found.count, found.absorbers) == (reference["count"], reference["absorbers"])
    for name in ("mean", "std", "covariance"):
        ours = getattr(found, name)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, reference[name], rtol=1e-10, atol=1e-10)
    for name, (count, counts, (mean, std)) in reference["labels"].items():
        label = found.labels[name]
        assert (label.count, label.counts.tolist()) == (count, counts)
        assert label.mean == pytest.approx(mean, rel=1e-12)
        assert np.isnan(label.std) if not count else label.std == pytest.approx(std, rel=1e-10)


def test_spectra_of_different_ends(rng):
    """Each pair of energies over the examples that have both, whatever the parts; and stored."""
    batch = make_batch(rng, 300)
    ends = rng.integers(POINTS // 2, POINTS + 1, 300)
    batch.spectrum[np.arange(POINTS) >= ends[:, None]] = np.nan
    cuts = [0, *sorted(rng.integers(1, 299, 3).tolist()), 300]
    some = [Batch(*(array[a:b] for array in batch)) for a, b in pairwise(cuts) if b > a]
    found = Statistics.merge(Statistics.of(part, ["Cu K"] * len(part.spectrum)) for part in some)
    assert found.gaps and found.agrees(Statistics.of(batch, ["Cu K"] * 300))
    exact = batch.spectrum.astype(np.float64)
    np.testing.assert_allclose(found.mean, np.nanmean(exact, axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.std, np.nanstd(exact, axis=0), rtol=1e-10)
    for i, j in rng.integers(0, POINTS, (20, 2)):
        both = np.isfinite(exact[:, [i, j]]).all(axis=1)
        assert found.pairs[i, j] == both.sum()
        expected = np.cov(exact[both][:, [i, j]].T, bias=True)[0, 1]
        assert found.scatter[i, j] / both.sum() == pytest.approx(expected, abs=1e-9)
    variance = np.linalg.eigvalsh(found.covariance)
    assert variance.min() > -1e-9 * variance.max()
    again = found.weighed_as(600)
    assert (again.pairs == 2 * found.pairs).all()
    np.testing.assert_allclose(again.covariance, found.covariance, rtol=1e-9)


def test_statistics_of_different_ends_are_stored(rng, tmp_path):
    batch = make_batch(rng, 50)
    batch.spectrum[:30, 15:] = np.nan
    own = Statistics.of(batch, ["Cu K"] * 50)
    statistics.write(tmp_path / "statistics.npz", {"train": own})
    read = statistics.read(tmp_path / "statistics.npz", "train")
    for name in ("pairs", "means", "scatter"):
        np.testing.assert_array_equal(getattr(read, name), getattr(own, name))


def assert_same(a: Statistics, b: Statistics) -> None:
    """Bit for bit."""
    assert (a.count, a.absorbers) == (b.count, b.absorbers)
    np.testing.assert_array_equal(a.mean, b.mean)
    np.testing.assert_array_equal(a.scatter, b.scatter)
    for name, label in a.labels.items():
        other = b.labels[name]
        assert (label.count, label.counts.tolist(), label.mean, label.scatter) == (
            other.count,
            other.counts.tolist(),
            other.mean,
            other.scatter,
        )


def cut(batch: Batch, edges) -> list[Batch]:
    return [Batch(*own) for own in zip(*(np.split(array, edges) for array in batch), strict=True)]


def test_merged_parts_are_the_whole(rng, monkeypatch):
    monkeypatch.setattr(statistics, "PIECE_ROWS", 64)
    batch = make_batch(rng, 500)
    absorbers = rng.choice(["Cu K", "O K", "Ni K"], 500).tolist()
    reference = slow(batch, absorbers)
    assert_is(Statistics.of(batch, absorbers), reference)
    edges = np.sort(rng.choice(np.arange(1, 500), 9, replace=False))
    pieces = [Statistics.of(b, a) for b, a in zip(cut(batch, edges), np.split(absorbers, edges), strict=True)]
    assert_is(Statistics.merge(pieces), reference)
    assert_is(Statistics.merge(rng.permutation(np.array(pieces, object))), reference)
    assert_is(Statistics.merge([Statistics.merge(pieces[:4]), Statistics.merge(pieces[4:])]), reference)


def test_a_file_gives_back_what_was_written(rng, tmp_path):
    splits = {name: Statistics.of(make_batch(rng, 30), ["Cu K"] * 20 + ["O K"] * 10) for name in SPLITS}
    statistics.write(tmp_path / "part.npz", splits)
    first = (tmp_path / "part.npz").read_bytes()
    for name, own in splits.items():
        assert_same(statistics.read(tmp_path / "part.npz", name), own)
    statistics.write(tmp_path / "part.npz", splits)
    assert (tmp_path / "part.npz").read_bytes() == first


def test_weighed_as_another_number_keeps_the_spread_and_every_class(rng):
    own = Statistics.of(make_batch(rng, 400), ["Cu K"] * 399 + ["O K"])
    few = own.weighed_as(40)
    assert few.count == 40 and few.absorbers == {"Cu K": 40, "O K": 1}
    np.testing.assert_allclose(few.covariance, own.covariance)
    for name, label in own.labels.items():
        assert ((few.labels[name].counts > 0) == (label.counts > 0)).all()
        assert few.labels[name].std == pytest.approx(label.std, nan_ok=True)


def test_a_dataset_tells_what_its_rows_say(built):
    """Stored by `prepare`, and gathered for a dataset from before that, to the last bit."""
    dataset, old = Dataset(built.out), Dataset(built.out)
    old.card = {
        **old.card,
        "files": {name: sum for name, sum in old.card["files"].items() if "statistics/" not in name},
    }
    for name in ("train", "test"):
        split = dataset.split(name)
        assert_is(dataset.statistics(name), slow(split.batch, split.absorbers))
        assert_same(dataset.statistics(name), old.statistics(name))
    for name in ("validation", "holdout"):
        with pytest.raises(DatasetError, match=rf"'{name}'; it has train, test"):
            dataset.statistics(name)


def test_the_embedded_library_tells_its_statistics():
    dataset = Dataset(LIBRARY)
    assert sum(name.startswith("statistics/") for name in dataset.card["files"]) == len(dataset.card["sources"])
    for name in SPLITS:
        split = dataset.split(name)
        assert_is(dataset.statistics(name), slow(split.batch, split.absorbers))


def test_they_are_read_without_blocks_and_ledger(built, tmp_path):
    shutil.copytree(built.out, tmp_path / "copy", ignore=shutil.ignore_patterns("blocks", "ledger", "spt_xas"))
    assert_same(Dataset(tmp_path / "copy").statistics("train"), Dataset(built.out).statistics("train"))


def test_adding_gives_the_same_statistics_as_at_once(built, tmp_path):
    out = tmp_path / "dataset"
    for source in built.sources:
        prepare([source], out, built.grid, workers=1, add=True)
    for name, sum in card.read(out)["files"].items():
        assert built.card["files"][name] == sum
    assert {p.name for p in (out / "statistics").iterdir()} == {p.name for p in (built.out / "statistics").iterdir()}


def test_adding_to_a_dataset_without_statistics_gives_them_to_all(built, tmp_path):
    """Prepared before there were any: its card has format and parts as now."""
    out = tmp_path / "dataset"
    prepare(built.sources[:1], out, built.grid, workers=1)
    document = card.read(out)
    shutil.rmtree(out / "statistics")
    document["files"] = {name: sum for name, sum in document["files"].items() if not name.startswith("statistics/")}
    card.write(out, document)
    assert Dataset(out).statistics("train").count == document["splits"]["train"]["examples"]
    assert list(verify(out)) == []
    for source in built.sources[1:]:
        prepare([source], out, built.grid, workers=1, add=True)
    assert card.read(out)["files"] == built.card["files"]


@pytest.mark.parametrize("damage", ["missing", "damaged", "cut short"])
def test_missing_or_damaged_statistics_are_named(built, tmp_path, damage, rng):
    shutil.copytree(built.out, tmp_path / "copy")
    part = next(source["part"] for source in built.card["sources"] if source["splits"]["train"])
    path = tmp_path / "copy" / "statistics" / f"{part}.npz"
    whole, data = Dataset(built.out).statistics("train"), bytearray(path.read_bytes())
    path.unlink()
    if damage == "cut short":
        path.write_bytes(data[: rng.integers(len(data))])
    elif damage == "damaged":
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
    try:
        found = Dataset(tmp_path / "copy").statistics("train")
    except DatasetError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:  # the byte has no meaning, or belongs to another split
        assert damage == "damaged"
        assert_same(found, whole)
    assert any(str(path) in problem for problem in verify(tmp_path / "copy"))


def test_statistics_of_other_rows_are_named(built, tmp_path):
    """With right checksums."""
    out = tmp_path / "copy"
    shutil.copytree(built.out, out)
    document = card.read(out)
    [part] = [source["part"] for source in document["sources"] if source["splits"]["train"] > 3]
    path = parts.paths(out, part)[parts.STATISTICS]
    own = {name: statistics.read(path, name) for name in ("train", "test")}
    statistics.write(path, {**own, "train": own["train"].weighed_as(own["train"].count + 1)})
    card.write(out, {**document, "files": document["files"] | card.checksums(out, [path])})
    assert [problem for problem in verify(out) if str(path) in problem]


def test_elements_of_shells_are_counted_by_absorber(tmp_path):
    """By loops; stored and read; and as if each example had been there three times."""
    split, found = Dataset(LIBRARY).split("train"), Dataset(LIBRARY).statistics("train")
    statistics.write(tmp_path / "set.npz", {"train": found})
    assert statistics.read(tmp_path / "set.npz", "train").agrees(found)
    for name in SHELL_NAMES:
        known, present = shell_labels(split.batch, name)
        expected = Counter()
        for absorber, row in zip(split.batch.atomic_number[known].tolist(), present, strict=True):
            expected.update([(absorber, 0), *((absorber, z) for z in row.nonzero()[0].tolist())])
        counts = found.labels[name].counts
        pairs = zip(*(axis.tolist() for axis in counts.nonzero()), strict=True)
        assert {pair: counts[pair] for pair in pairs} == expected and found.labels[name].count == 330
        tripled = found.weighed_as(990).labels[name]
        assert tripled.count == 990
        np.testing.assert_array_equal(tripled.counts, 3 * counts)


def test_a_part_from_before_there_were_shells(tmp_path, rng):
    """Its blocks end with the labels of DESCRIPTORS, its statistics know no shell; it mixes with one of today."""
    split = Dataset(LIBRARY).split("train")
    labels = np.where(split.batch.mask, split.batch.labels, np.nan)[:, : len(DESCRIPTORS)].astype(np.float32)
    for column, d in enumerate(DESCRIPTORS):
        if d.classes:
            there = np.isfinite(labels[:, column])
            labels[there, column] = np.take(d.classes, labels[there, column].astype(int))
    rows = blocks.unpack(blocks.pack(blocks.Rows(split.batch.spectrum, split.batch.atomic_number, labels)))
    old = Batch(rows.spectrum, rows.atomic_number, *encode_labels(rows.labels))
    found = Statistics.of(old, split.absorbers)
    np.testing.assert_array_equal(old.labels[:, : len(DESCRIPTORS)], split.batch.labels[:, : len(DESCRIPTORS)])
    assert [found.labels[name].count for name in (*SHELL_NAMES, SOURCE.name)] == [0, 0, 0]
    statistics.write(tmp_path / "set.npz", {"train": found})
    with np.load(tmp_path / "set.npz") as file:
        np.savez(
            tmp_path / "old.npz",
            **{name: file[name] for name in file if not name.endswith((*SHELL_NAMES, SOURCE.name))},
        )
    assert statistics.read(tmp_path / "old.npz", "train").agrees(found)
    both = Statistics.merge([found, Dataset(LIBRARY).statistics("train")])
    assert (both.count, both.labels["NN2"].count) == (660, 330)
