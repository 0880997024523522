"""Several sets as one: shares of a batch, order, what stays in memory whole, and what is refused."""

import itertools
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.mixture import Mixture
from data_pipelines.dataset.opening import open_data
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.dataset.stream import Batches, mixed
from data_pipelines.errors import DatasetError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import EnergyGrid
from tests.data_pipelines.dataset.test_shuffle import SIZES, Memory, names


@pytest.fixture(scope="module")
def runs(built) -> Dataset:
    return Dataset(built.out)


@pytest.fixture(scope="module")
def mixture(built) -> Mixture:
    return open_data([f"{LIBRARY}:0.75", f"{built.out}:0.25"])


def take(batches, count):
    return list(itertools.islice(batches, count))


def test_one_is_a_dataset_and_several_are_a_mixture(built, mixture):
    for named in (built.out, str(built.out), [built.out], [f"{built.out}:3"]):
        assert isinstance(open_data(named), Dataset)
    assert isinstance(mixture, Mixture) and mixture.weights.tolist() == [0.75, 0.25]
    by_size = open_data([LIBRARY, built.out])
    counts = [Dataset(path).examples["train"] for path in (LIBRARY, built.out)]
    np.testing.assert_allclose(by_size.weights, np.array(counts) / sum(counts))
    assert by_size.fingerprint != mixture.fingerprint != open_data([f"{built.out}:1", f"{LIBRARY}:3"]).fingerprint
    assert open_data([f"{LIBRARY}:3", f"{built.out}:1"]).fingerprint == mixture.fingerprint, "of any sum"


def test_splits_stand_one_after_the_other(mixture, runs):
    library = Dataset(LIBRARY)
    for name in ("train", "test"):
        whole, parts = mixture.split(name), [library.split(name), runs.split(name)]
        assert whole.ids == parts[0].ids + parts[1].ids and whole.absorbers == parts[0].absorbers + parts[1].absorbers
        assert mixture.examples[name] == len(whole.ids)
        for part, rows in zip(parts, mixture.ranges(name), strict=True):
            np.testing.assert_array_equal(whole.batch.spectrum[rows.start : rows.stop], part.batch.spectrum)
    assert mixture.split("validation").ids == library.split("validation").ids, "the other has none"
    assert [len(rows) for rows in mixture.ranges("validation")] == [46, 0]
    with pytest.raises(DatasetError, match="'held_out'; it has"):
        mixture.split("held_out")


def test_some_rows_are_of_all_sets_by_size(mixture, rng):
    sizes = np.array([len(rows) for rows in mixture.ranges("train")])
    whole = mixture.split("train")
    for most in (40, int(rng.integers(1, sizes.sum())), 10_000):
        some = mixture.split("train", most)
        assert len(some.ids) == min(most, sizes.sum()) and set(some.ids) <= set(whole.ids)
        own = sum(id in set(whole.ids[: sizes[0]]) for id in some.ids)
        assert abs(own - len(some.ids) * sizes[0] / sizes.sum()) < 1


def test_quotas_are_whole_rows_next_to_the_weights(mixture, built, rng):
    assert (mixture.quotas(64), mixture.quotas(4), mixture.quotas(6)) == ((48, 16), (3, 1), (5, 1))
    assert Dataset(LIBRARY).quotas(64) == (64,)
    with pytest.raises(DatasetError, match=f"a batch of 1 has no row for {built.out}"):
        mixture.quotas(1)
    weights = rng.uniform(0.2, 1, 5)
    five = Mixture([Dataset(LIBRARY)] * 5, weights)
    for size in rng.integers(64, 5000, 20).tolist():
        quotas = np.array(five.quotas(size))
        assert quotas.sum() == size and (np.abs(quotas - size * weights / weights.sum()) < 1).all()


def test_statistics_are_those_of_what_the_batches_show(mixture, runs):
    """Of rows repeated so often that they stand in the weights' proportion."""
    library = Dataset(LIBRARY)
    one, two = library.split("train"), runs.split("train")
    count = len(one.ids) * len(two.ids)
    rows = np.concatenate(
        [
            np.tile(np.arange(len(one.ids)), 3 * len(two.ids)),
            len(one.ids) + np.tile(np.arange(len(two.ids)), len(one.ids)),
        ]
    )
    whole = mixture.split("train")
    shown = Statistics.of(
        whole.batch._replace(**{f: getattr(whole.batch, f)[rows] for f in whole.batch._fields}),
        [whole.absorbers[row] for row in rows],
    )
    assert shown.count == 4 * count
    found = mixture.statistics("train")
    assert found.count == len(whole.ids)
    # Whole numbers of examples are within half a row of the weights.
    np.testing.assert_allclose(found.mean, shown.mean, atol=0.5 / len(whole.ids))
    np.testing.assert_allclose(found.covariance, shown.covariance, atol=1 / len(whole.ids))
    assert found.absorbers.keys() == shown.absorbers.keys()
    for name, label in found.labels.items():
        assert ((label.counts > 0) == (shown.labels[name].counts > 0)).all()
        assert abs(label.count / found.count - shown.labels[name].count / shown.count) < 0.03
    test = mixture.split("test")
    assert mixture.statistics("test").agrees(Statistics.of(test.batch, test.absorbers)), "as they are"


def test_batches_have_their_quotas_in_orders_that_do_not_repeat(rng):
    """Small blocks: each set is through before a row of it comes again, and the sets do not go in step."""
    sources = [Memory(sizes) for sizes in (SIZES[0], SIZES[1], SIZES[0])]
    quotas, seed = (7, 30, 7), int(rng.integers(1000))
    mixed_batches = Batches(mixed(sources, quotas, seed))
    read = [[], [], []]
    for i in range(40):
        rows = [[], [], []]
        for row, (number, _) in zip(names(mixed_batches[i].batch), mixed_batches.rows_of(i), strict=True):
            rows[number].append(row)
        assert [len(own) for own in rows] == list(quotas)
        for own, part in zip(read, rows, strict=True):
            own += part
    for own, source, quota in zip(read, sources, quotas, strict=True):
        counts = Counter(own)
        assert len(counts) == source.rows and max(counts.values()) - min(counts.values()) <= 1, "of whole batches"
        whole = source.rows // quota * quota
        assert set(Counter(own[:whole]).values()) <= {1}
    assert read[0] != read[2], "of equal sets"
    other = Batches(mixed(sources, quotas, seed))
    for i in rng.permutation(40)[:8].tolist():
        assert names(other[i].batch) == names(mixed_batches[i].batch)
    assert names(Batches(mixed(sources, quotas, seed + 1))[0].batch) != names(mixed_batches[0].batch)


def test_stream_resumes_exactly(mixture, rng):
    """From the number of a batch that went through JSON."""
    iterator, fresh = (iter(mixture.stream("train", 8, seed=3)) for _ in range(2))
    first = take(iterator, int(rng.integers(1, 60)))
    assert first[0].spectrum.shape == (8, mixture.grid.points)
    state = json.loads(json.dumps(iterator.get_state()))
    ahead = take(iterator, 5)
    fresh.set_state(state)
    for a, b in zip(take(fresh, 5), ahead, strict=True):
        for field in a._fields:
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    whole = mixture.split("train").batch.spectrum
    library, runs = ({row.tobytes() for row in whole[own.start : own.stop]} for own in mixture.ranges("train"))
    for batch in (*first, *ahead):
        rows = {spectrum.tobytes() for spectrum in batch.spectrum}
        assert rows <= library | runs  # which have a spectrum in common
        assert len(rows & library) >= 6 >= len(rows - runs) and len(rows & runs) >= 2 >= len(rows - library)


def test_what_cannot_be_mixed_is_refused_in_one_line(built, tmp_path, monkeypatch):
    other = tmp_path / "other"
    prepare([built.sources[1]], other, replace(EnergyGrid(), step=0.25), workers=1)
    link = tmp_path / "link"
    link.symlink_to(built.out)
    monkeypatch.chdir(tmp_path)
    library = str(LIBRARY)
    for named, words in (
        ([], "no data given"),
        ([library, f"{other}"], "other has another energy grid than .*library"),
        ([library, str(built.out), "link"], "link is given twice"),
        ([f"{library}:1", f"{library}:2"], "library is given twice"),
        ([f"{library}:0", str(built.out)], "weight of .*library must be a positive number, not 0"),
        ([f"{library}:-1"], "must be a positive number, not -1"),
        ([f"{library}:nan"], "must be a positive number, not nan"),
        ([f"{library}:inf"], "must be a positive number, not inf"),
        ([f"{library}:1", str(built.out)], "has no weight and others have"),
        ([f"{library}:1", f"{built.out}:much"], "much"),
        ([library, "nowhere"], "nowhere: no data_card.json here"),
        ([built.out / "spt_xas"], r"for its TFDS dataset give .*1\.0\.0"),
    ):
        with pytest.raises(DatasetError, match=words) as caught:
            open_data(named)
        assert "\n" not in str(caught.value)


def test_a_path_may_have_a_colon(built, tmp_path):
    for name in ("set:2", "a:b"):
        shutil.copytree(built.out, tmp_path / name)
        assert open_data(tmp_path / name).path == tmp_path / name
    weighed = open_data([f"{tmp_path / 'set:2'}:0.5", f"{LIBRARY}:0.5"])
    assert weighed.weights.tolist() == [0.5, 0.5] and weighed.sets[0].path == tmp_path / "set:2"
