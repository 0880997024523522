"""Other splits of the same data: nothing lost, nothing twice, and what each keeps apart."""

import numpy as np

from data_pipelines.loading import Dataset
from data_pipelines.resplit import by_site, thinned
from data_pipelines.splits import SPLITS
from spt_jax.quickstart import LIBRARY


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


def rows(split) -> dict[str, np.ndarray]:
    return dict(zip(split.ids, split.batch.spectrum, strict=True))
