"""The noise filter: equal to its slow reference, finds the noise that was added, leaves clean spectra alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.model.denoise import NoiseFilter
from tests import reference

LENGTH = 60


def smooth(rng, count: int) -> np.ndarray:
    """Spectra that are a few smooth functions of energy."""
    x = np.linspace(0, 1, LENGTH)
    functions = np.stack([np.sin(np.pi * (i + 1) * x) / (i + 1) for i in range(12)])
    return 1 + rng.normal(size=(count, 12)) @ functions


def filter_of(spectra: np.ndarray) -> NoiseFilter:
    return NoiseFilter(spectra.mean(axis=0), np.cov(spectra.T.astype(np.float64), bias=True))


def test_it_is_the_conditional_mean_of_the_reference(rng):
    spectra = smooth(rng, 200) + 0.01 * rng.normal(size=(200, LENGTH))
    noisy = spectra[:7] + rng.uniform(0, 0.2, (7, 1)) * rng.normal(size=(7, LENGTH))
    found = filter_of(spectra)
    slow = [
        reference.without_noise(row, spectra.mean(axis=0), np.cov(spectra.T.astype(np.float64), bias=True))
        for row in noisy
    ]
    np.testing.assert_allclose(found(jnp.asarray(noisy, jnp.float32)), [row for row, _ in slow], atol=1e-5)
    expected = [np.sqrt(sigma_squared) for _, sigma_squared in slow]
    np.testing.assert_allclose(found.sigma(jnp.asarray(noisy, jnp.float32)), expected, atol=1e-5)


def test_on_real_spectra_it_finds_the_noise_and_takes_most_of_it(rng):
    data = Dataset(LIBRARY)
    found = filter_of(data.split("train").batch.spectrum)
    clean = jnp.asarray(data.split("test").batch.spectrum)
    # One is unlike all others: O K of SnO2 would lose a peak of 1.3 edge steps to a filter that trusts the training set.
    assert np.abs(found(clean) - clean).max() < 0.1
    assert np.median(np.abs(found(clean) - clean).max(axis=1)) < 1e-3
    for sigma in (0.01, 0.05):
        noisy = clean + jnp.asarray(sigma * rng.normal(size=clean.shape), jnp.float32)
        assert np.median(found.sigma(noisy)) == pytest.approx(sigma, rel=0.15)
        left = np.sqrt(((np.asarray(found(noisy)) - clean) ** 2).mean())
        assert left < 0.7 * sigma


def test_an_edge_where_no_training_spectrum_has_it_stays(rng):
    """Measured edges may lie some eV from calculated ones: that is no noise, and must not be smoothed away."""
    data = Dataset(LIBRARY)
    found = filter_of(data.split("train").batch.spectrum)
    clean = data.split("test").batch.spectrum
    moved = 0.05 + np.concatenate([clean[:, 10:], np.repeat(clean[:, -1:], 10, axis=1)], axis=1)
    change = np.abs(found(jnp.asarray(moved)) - moved).max(axis=1)
    assert np.median(change) < 0.03
    assert change.max() < 0.1


def test_each_row_has_its_own_noise_and_does_not_see_the_others(rng):
    spectra = smooth(rng, 100)
    found, rows = filter_of(spectra), jnp.asarray(spectra[:4], jnp.float32).at[2].add(0.1 * rng.normal(size=LENGTH))
    together = found(rows)
    for i in range(4):
        np.testing.assert_allclose(found(rows[i : i + 1])[0], together[i], rtol=1e-5, atol=1e-5)
    assert np.argmax(found.sigma(rows)) == 2


@pytest.mark.parametrize("count", [1, 2, 30])
def test_fewer_spectra_than_energies_give_finite_values_and_gradients(rng, count):
    spectra = smooth(rng, count)
    found, rows = filter_of(spectra), jnp.asarray(smooth(rng, 3), jnp.float32)
    gradient = jax.grad(lambda x: (found(x) ** 2).sum())
    for x in (rows, jnp.asarray(spectra[:1], jnp.float32)):
        assert np.isfinite(found(x)).all()
        assert np.isfinite(gradient(x)).all()
