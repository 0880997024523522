"""Sets of mixtures: what training reads is there, and says what it should."""

import numpy as np
import pytest

from benchmarks import mixtures
from data_pipelines.dataset.blocks import Rows, join
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.library import LIBRARY


def test_mixtures_are_of_one_element_and_counted(rng, monkeypatch):
    monkeypatch.setattr(mixtures, "PORTION", 64)
    number = rng.integers(1, 5, 20).astype(np.int32)
    spectrum = np.repeat(10 * number[:, None], 6, axis=1) + np.arange(20, dtype=np.float32)[:, None] / 100
    labels = np.stack([number, np.arange(20)], axis=1).astype(np.float32)
    mixed = join(list(mixtures.mixtures(Rows(spectrum.astype(np.float32), number, labels), 200)))
    assert len(mixed.spectrum) == 200 and mixed.spectrum.dtype == np.float32
    np.testing.assert_array_equal(mixed.labels[:, 0], mixed.atomic_number)
    assert set(mixed.atomic_number) <= set(number)
    # Within the spread of the element's own spectra, and off both parents by the noise at least.
    np.testing.assert_allclose(mixed.spectrum.mean(axis=1), 10 * mixed.atomic_number + 0.1, atol=0.15)
    assert (mixed.spectrum.std(axis=1) > 0).all()


def test_a_set_is_a_whole_dataset_for_training(tmp_path):
    made = mixtures.make(tmp_path / "set", LIBRARY, {"train": 1500, "validation": 200})
    assert made.examples == {"train": 1500, "validation": 200}
    train, validation = made.split("train"), made.split("validation", 50)
    assert len(train.ids) == len(set(train.ids)) == 1500 and len(validation.ids) == 50
    assert made.statistics("train").agrees(Statistics.of(train.batch, train.absorbers))
    assert {"Co K", "Ni K"} & set(train.absorbers)
    assert not np.array_equal(train.batch.spectrum[:50], validation.batch.spectrum)
    again = mixtures.make(tmp_path / "set", LIBRARY, {"train": 1500, "validation": 200})
    assert again.fingerprint == made.fingerprint == Dataset(tmp_path / "set").fingerprint
    with pytest.raises(SystemExit, match="another dataset"):
        mixtures.make(tmp_path / "set", LIBRARY, {"train": 1501})
