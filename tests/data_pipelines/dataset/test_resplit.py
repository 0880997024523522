"""Other splits of the same data: nothing lost, nothing twice, and what each keeps apart."""

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import by_site, folds, thinned
from data_pipelines.dataset.splits import NEAR_DUPLICATE, SPLITS
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DatasetError
from data_pipelines.library import LIBRARY


def test_by_site_keeps_every_example_once_and_mixes_materials():
    dataset = Dataset(LIBRARY)
    other = by_site(dataset)
    before = {id: row for name in SPLITS for id, row in rows(dataset.split(name)).items()}
    after = {name: rows(other.split(name)) for name in SPLITS}
    assert sum(map(len, after.values())) == len(before)
    for split in after.values():
        assert all(np.array_equal(row, before[id]) for id, row in split.items())
    assert set(other.split("train").materials) & set(other.split("test").materials)
    assert other.fingerprint != dataset.fingerprint


def test_thinned_takes_whole_materials_and_each_share_holds_the_smaller():
    dataset = Dataset(LIBRARY)
    whole = dataset.split("train").materials
    half, quarter = (thinned(dataset, share).split("train").materials for share in (0.5, 0.25))
    assert len(set(half)) == round(len(set(whole)) / 2)
    assert all(half.count(material) == whole.count(material) for material in set(half))
    assert set(quarter) < set(half)
    assert thinned(dataset, 0.5).split("test").ids == dataset.split("test").ids


def test_folds_validate_every_example_once_and_part_no_family():
    dataset = Dataset(LIBRARY)
    known = {id: row for name in ("train", "validation") for id, row in rows(dataset.split(name)).items()}
    kin = {
        id: set(keys)
        for name in ("train", "validation")
        for id, keys in zip(dataset.split(name).ids, dataset.kin(name), strict=True)
    }
    held = []
    for fold in folds(dataset, 4):
        train, validation = fold.split("train"), fold.split("validation")
        assert rows(train).keys() | rows(validation).keys() == known.keys() and not set(train.ids) & set(validation.ids)
        assert all(np.array_equal(row, known[id]) for id, row in {**rows(train), **rows(validation)}.items())
        shared = set.union(*(kin[id] for id in train.ids)) & set.union(*(kin[id] for id in validation.ids))
        assert not shared
        for absorber in set(validation.absorbers):
            ours, theirs = (
                split.batch.spectrum[np.array(split.absorbers) == absorber] for split in (validation, train)
            )
            apart = np.abs(ours[:, None] - theirs[None]).max(axis=2)
            assert apart.size == 0 or apart.min() >= NEAR_DUPLICATE
        assert fold.split("test").ids == dataset.split("test").ids
        assert fold.fingerprint not in (dataset.fingerprint, *(other.fingerprint for other, _ in held))
        held.append((fold, validation.ids))
    assert sorted(sum((ids for _, ids in held), ())) == sorted(known)
    assert [fold.split("validation").ids for fold in folds(dataset, 4)] == [ids for _, ids in held]
    with pytest.raises(DatasetError, match="too few materials for 5000 folds"):
        folds(dataset, 5000)


def test_statistics_and_some_rows_follow_the_other_splits(rng):
    dealt = by_site(Dataset(LIBRARY))
    train = dealt.split("train")
    assert dealt.statistics("train").agrees(Statistics.of(train.batch, train.absorbers))
    assert not dealt.statistics("train").agrees(Dataset(LIBRARY).statistics("train"))
    most = int(rng.integers(1, len(train.ids)))
    some = dealt.split("train", most)
    assert len(set(some.ids)) == most and set(some.ids) <= set(train.ids)
    with pytest.raises(DatasetError, match="not to be streamed"):
        dealt.stream("train", 4, seed=0)


def rows(split) -> dict[str, np.ndarray]:
    return dict(zip(split.ids, split.batch.spectrum, strict=True))
