"""Views of rows with several signals: each is augmented by itself, and what is not there stays so."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import workload
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.schema import EnergyGrid
from spt_jax.config import LabelsConfig
from spt_jax.objectives.augment import augment
from spt_jax.objectives.labels import Labels
from spt_jax.objectives.signals import augment_each, hide_signals, noise_units

GRID = EnergyGrid(points=16, signals=("Ni K", "O K", "PDF"))
COUNT = 400


def keys_of(rng, count: int = COUNT) -> jax.Array:
    return jax.random.split(jax.random.key(int(rng.integers(2**31))), count)


def test_a_share_of_the_signals_is_hidden_and_never_all(rng):
    rows = rng.normal(size=(COUNT, 3, 16)).astype(np.float32)
    rows[:100, 1:] = np.nan
    rows[100:200, 0] = np.nan
    keys = keys_of(rng)
    found = np.asarray(hide_signals(keys, jnp.asarray(rows.reshape(COUNT, -1)), 0.4, 3)).reshape(rows.shape)
    there, kept = np.isfinite(rows).all(axis=2), np.isfinite(found).all(axis=2)
    assert (np.isfinite(found).any(axis=2) == kept).all()  # a signal as a whole
    assert not (kept & ~there).any() and kept.any(axis=1).all() and (kept[:100] == there[:100]).all()
    np.testing.assert_array_equal(found[kept], rows[kept])
    # Of three all are drawn with a chance of 0.4^3, and of these one stays.
    assert 1 - kept[200:].mean() == pytest.approx(0.4 - 0.4**3 / 3, abs=0.07)
    again = np.asarray(hide_signals(keys[7:9], jnp.asarray(rows[7:9].reshape(2, -1)), 0.4, 3))
    np.testing.assert_array_equal(again, found[7:9].reshape(2, -1))


def test_each_signal_is_augmented_by_itself(rng):
    """Two equal spectra become unequal; noise of a PDF counts its standard deviation, and it is not shifted."""
    ramp = np.tile(np.linspace(0, 1, 16), (COUNT, 3)).astype(np.float32)
    rows, keys = jnp.asarray(ramp).at[:, 16:32].set(jnp.nan), keys_of(rng)
    quiet = LabelsConfig(noise=0, amplitude=0, energy_shift=0.3)
    found = np.asarray(augment_each(keys, rows, quiet, GRID, (1, 1, 4))).reshape(COUNT, 3, 16)
    assert np.isnan(found[:, 1]).all() and np.abs(found[:, 0] - ramp[:, :16]).max() > 0.01
    np.testing.assert_allclose(found[:, 2], ramp[:, :16], atol=1e-6)
    both = np.asarray(augment_each(keys, jnp.asarray(ramp), quiet, GRID, (1, 1, 4))).reshape(COUNT, 3, 16)
    np.testing.assert_array_equal(both[:, 0], found[:, 0])
    assert (np.abs(both[:, 0] - both[:, 1]).max(axis=1) > 0).all()
    noisy = np.asarray(augment_each(keys, 0 * rows, replace(quiet, energy_shift=0, noise=0.1), GRID, (1, 1, 4)))
    assert np.nanstd(noisy[:, 32:]) / np.nanstd(noisy[:, :16]) == pytest.approx(4, rel=0.15)


def test_a_pdf_is_noisy_by_its_own_deviation(rng):
    batch = workload.structures_of(rng, 64, GRID)
    statistics = Statistics.of(batch, {"structure -": 64})
    found = noise_units(statistics, GRID)
    assert found[:2] == (1.0, 1.0)
    assert found[2] == pytest.approx(np.sqrt(np.nanvar(batch.spectrum[:, 32:], axis=0).mean()), rel=1e-4)


def test_rows_are_mixed_only_where_they_have_the_same_signals(rng):
    batch = workload.structures_of(rng, 64, GRID)
    labels = Labels.of(LabelsConfig(("x_Li",), mixup=0.4), Statistics.of(batch, {"structure -": 64}), GRID)
    rows = labels.views(jax.tree.map(jnp.asarray, batch), keys_of(rng, 64))
    np.testing.assert_array_equal(np.isfinite(rows.batch.spectrum), np.isfinite(batch.spectrum))
    known = np.isfinite(batch.spectrum)
    alike = (known == np.roll(known, 1, axis=0)).all(axis=1)
    assert (np.asarray(rows.share)[~alike] == 1).all() and (np.asarray(rows.share)[alike] < 1).any()


def test_rows_of_one_spectrum_are_drawn_as_ever(rng):
    """Whatever came for several signals, a view is the augmentation by the second key of the row."""
    grid = EnergyGrid(points=16)
    batch = workload.batch_of(rng, 32, grid)
    config = LabelsConfig()
    labels = Labels.of(config, Statistics.of(batch, {"Cu K": 32}), grid)
    keys = keys_of(rng, 32)
    second = jax.vmap(lambda key: jax.random.split(key, 3)[1])(keys)
    found = labels.views(jax.tree.map(jnp.asarray, batch), keys).batch.spectrum
    np.testing.assert_array_equal(found, augment(second, jnp.asarray(batch.spectrum), config, grid))
