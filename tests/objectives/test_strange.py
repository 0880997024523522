"""What a domain's networks learn from, on the embedded library; and that they learn it."""

import jax
import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from data_pipelines.schema import EnergyGrid
from spt_jax.objectives.strange import MOST, WAYS, WRONG, strange, usual
from spt_jax.training.domain import SEEN, fit_domain


@pytest.fixture(scope="module")
def dataset():
    return Dataset(LIBRARY)


@pytest.fixture(scope="module")
def spectra(dataset):
    grid = dataset.grid
    return dataset.split("train").batch.spectrum[:16], EnergyGrid(grid.start, grid.step, grid.common)


def test_a_usual_one_is_near_its_spectrum_and_a_strange_one_is_not(spectra):
    mu, grid = spectra
    keys = jax.random.split(jax.random.key(0), len(mu))
    near, far = np.asarray(usual(keys, mu, SEEN, grid)), np.asarray(strange(keys, mu, grid))
    off = [np.sqrt(np.mean((each - mu) ** 2, axis=1)) for each in (near, far)]
    assert np.median(off[0]) < 0.1 < np.median(off[1])
    assert np.isfinite(near).all() and np.isfinite(far).all()


def test_each_way_does_what_it_says(spectra):
    mu, grid = spectra
    energy = grid.relative().astype(np.float32)
    moved, structure, stretched, bumps, order = (np.asarray(make(jax.random.key(3), mu[0], energy)) for make in WAYS)
    at_half = [energy[np.argmax(each > 0.5)] for each in (mu[0], moved)]
    assert WRONG - 1 < abs(at_half[1] - at_half[0]) < MOST + 1
    assert sorted(order) == pytest.approx(sorted(np.asarray(mu[0]))) and not np.allclose(order, mu[0])
    assert all(np.abs(each - mu[0]).max() > 0.02 for each in (structure, stretched, bumps))


def test_what_is_shuffled_is_stranger_than_what_was_held_out(dataset, rng):
    told = []
    domain = fit_domain(dataset, {"none": "None"}, report=lambda *done: told.append(done))
    test = dataset.split("test")
    mu, number = np.asarray(test.batch.spectrum), np.asarray(test.batch.atomic_number)
    kept, lost = domain.strangeness(mu, number), domain.strangeness(rng.permuted(mu, axis=1), number)
    assert np.median(lost) > np.quantile(kept, 0.9) and np.mean(lost > 0) > 0.9
    assert told[-1][1] == told[-1][2] and set(domain.materials) == set(dataset.split("train").materials)
