"""What is known of each element by itself: equal to loops whatever the parts, stored, and gathered where it was not."""

import shutil
from itertools import pairwise

import numpy as np

from data_pipelines.dataset import card, foreign, parts, statistics
from data_pipelines.dataset.elements import FEW, ElementStatistics
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.opening import open_data
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.dataset.verify import verify
from data_pipelines.library import LIBRARY
from data_pipelines.schema import DESCRIPTORS, SYMBOLS, Batch

POINTS = 12
NUMBERS = (3, 8, 22, 29)


def make(rng, count: int) -> Batch:
    """Spectra far from zero and of ends of their own, no label; of O, none reaches the last energies."""
    number = rng.choice(NUMBERS, count).astype(np.int32)
    spectrum = (30 + number[:, None] + rng.normal(size=(count, POINTS)).cumsum(axis=1)).astype(np.float32)
    ends = np.where(number == 8, rng.integers(4, POINTS - 2, count), rng.integers(4, POINTS + 1, count))
    spectrum[np.arange(POINTS) >= ends[:, None]] = np.nan
    labels = np.zeros((count, len(DESCRIPTORS)), np.float32)
    return Batch(spectrum, number, labels, labels > 0)


def assert_is(found: ElementStatistics, batch: Batch) -> None:
    """By loops, in float64."""
    there = np.unique(batch.atomic_number)
    assert not np.delete(found.counts, there, axis=0).any() and not np.delete(found.means, there, axis=0).any()
    for number in there:
        own = batch.spectrum[batch.atomic_number == number].astype(np.float64)
        for point in range(batch.spectrum.shape[1]):
            values = own[:, point][np.isfinite(own[:, point])]
            assert found.counts[number, point] == len(values)
            mean, std = (values.mean(), values.std()) if len(values) else (0, 0)
            np.testing.assert_allclose(found.means[number, point], mean, rtol=1e-12)
            np.testing.assert_allclose(found.std[number, point], std, rtol=1e-9, atol=1e-9)


def assert_same(found: ElementStatistics, other: ElementStatistics) -> None:
    """Bit for bit."""
    for name in ("counts", "means", "scatter"):
        np.testing.assert_array_equal(getattr(found, name), getattr(other, name))


def test_merged_parts_are_the_whole_and_are_stored(rng, tmp_path):
    batch = make(rng, 300)
    cuts = [0, *sorted(rng.choice(np.arange(1, 300), 3, replace=False).tolist()), 300]
    pieces = [Batch(*(array[a:b] for array in batch)) for a, b in pairwise(cuts)]
    whole = Statistics.of(batch, ["Cu K"] * 300)
    merged = Statistics.merge(Statistics.of(piece, ["Cu K"] * len(piece.spectrum)) for piece in pieces)
    assert_is(whole.elements, batch)
    assert_is(merged.elements, batch)
    assert merged.agrees(whole) and not whole.elements.agrees(whole.weighed_as(330).elements)

    statistics.write(tmp_path / "set.npz", {"train": whole})
    assert_same(statistics.read(tmp_path / "set.npz", "train").elements, whole.elements)

    twice = whole.weighed_as(600).elements
    np.testing.assert_array_equal(twice.counts, 2 * whole.elements.counts)
    np.testing.assert_allclose(twice.std, whole.elements.std, rtol=1e-12)


def test_few_spectra_are_drawn_to_those_of_all(rng):
    """Half way at 20; none at all are the shared numbers themselves."""
    counts, mean, std = (
        np.zeros((len(SYMBOLS), POINTS), np.int64),
        rng.normal(size=POINTS),
        rng.uniform(0.1, 1, POINTS),
    )
    counts[3], counts[8], counts[29], counts[22, 5:] = 1, FEW, 100_000, 1
    own = ElementStatistics(counts, rng.normal(size=counts.shape), counts * rng.uniform(0.1, 1, counts.shape))
    means, stds = own.shrunk(mean, std)
    for found, alone, shared in ((means, own.means, mean), (stds, own.std, std)):
        np.testing.assert_array_equal(found[26], shared)
        np.testing.assert_array_equal(found[22, :5], shared[:5])
        np.testing.assert_allclose(found[8], (alone[8] + shared) / 2)
        np.testing.assert_allclose(found[29], alone[29], atol=1e-3)
        assert (np.abs(found[3] - shared) <= np.abs(alone[3] - shared) / 20).all()


def without_elements(path, splits) -> None:
    """The file as it was before it told elements apart."""
    with np.load(path) as file:
        told = {f"{split}/{name}" for split in splits for name in ElementStatistics.none(1).to_arrays()}
        assert told & set(file)
        arrays = {name: file[name] for name in file if name not in told}
    np.savez(path, **arrays)


def test_a_dataset_from_before_it_was_stored(built, tmp_path):
    """Gathered from its blocks, to the last bit, and nothing else of its statistics changes."""
    out = tmp_path / "old"
    shutil.copytree(built.out, out)
    document = card.read(out)
    for source in document["sources"]:
        path = parts.paths(out, source["part"])[parts.STATISTICS]
        if path.exists():
            without_elements(path, source["splits"])
            document["files"] |= card.checksums(out, [path])
    card.write(out, document)
    assert list(verify(out)) == []
    for name in ("train", "test"):
        old, new = Dataset(out).statistics(name), Dataset(built.out).statistics(name)
        assert_same(old.elements, new.elements)
        np.testing.assert_array_equal(old.scatter, new.scatter)
        assert_is(old.elements, Dataset(out).split(name).batch)


def test_the_embedded_library_tells_its_elements():
    for name in ("train", "validation", "test"):
        assert_is(Dataset(LIBRARY).statistics(name).elements, Dataset(LIBRARY).split(name).batch)


def test_what_was_kept_beside_a_foreign_set_is_gathered_anew(tmp_path):
    folder = next((LIBRARY / "spt_xas").iterdir()) / "1.0.0"
    shutil.copytree(folder, tmp_path / "set")
    told = open_data(tmp_path / "set").statistics("train")
    without_elements(tmp_path / "set" / foreign.STATISTICS, ("train", "validation", "test"))
    assert open_data(tmp_path / "set").statistics("train").agrees(told) and told.elements.counts.any()
    assert statistics.read(tmp_path / "set" / foreign.STATISTICS, "train").elements.counts.any()
