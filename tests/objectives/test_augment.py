"""Augmented copies are what their settings say, and each belongs to the key of its row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.schema import Batch, EnergyGrid
from spt_jax.config import LabelsConfig
from spt_jax.objectives.augment import BLURRED_EV, augment, blur, cut_short, mix_share

GRID = EnergyGrid(points=60, required=40)
ENERGY = GRID.step * np.arange(60)
NOTHING = {"noise": 0.0, "energy_shift": 0.0, "amplitude": 0.0}


def keys_of(rng, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(int(rng.integers(2**31))), count)


def copies(rng, spectrum: np.ndarray, count: int, **settings) -> np.ndarray:
    rows = jnp.broadcast_to(jnp.asarray(spectrum, jnp.float32), (count, len(spectrum)))
    return np.asarray(augment(keys_of(rng, count), rows, LabelsConfig(**{**NOTHING, **settings}), GRID))


def test_without_augmentation_a_spectrum_is_itself(rng):
    spectrum = rng.random(60)
    np.testing.assert_allclose(copies(rng, spectrum, 4), np.tile(spectrum, (4, 1)), rtol=1e-6)


def test_noise_has_every_level_up_to_the_largest(rng):
    sigma = copies(rng, np.zeros(60), 2000, noise=0.05).std(axis=1)
    assert sigma.max() < 0.05 * 1.5 and sigma.mean() == pytest.approx(0.025, rel=0.1)
    assert np.quantile(sigma, 0.1) < 0.01


def test_a_shift_moves_a_line_by_its_size_and_no_further_than_two_sigma(rng):
    """Of a straight line the first order is exact: mu(E - s) = mu - s slope."""
    slope = 0.1
    shift = (slope * ENERGY - copies(rng, slope * ENERGY, 2000, energy_shift=0.3))[:, 20] / slope
    assert np.abs(shift).max() <= 0.6 + 1e-4
    # A normal distribution cut at two sigma has 0.88 of it.
    assert shift.std() == pytest.approx(0.88 * 0.3, rel=0.1) and shift.mean() == pytest.approx(0, abs=0.03)


def test_a_shift_of_more_than_a_step_moves_a_curve_as_it_is(rng):
    """To first order, an edge as sharp as this one would overshoot by a half."""
    edge = np.where(ENERGY > 12, np.nan, 0) + 1 / (1 + np.exp((5 - ENERGY) / 0.4))
    moved = copies(rng, edge, 500, energy_shift=1.5)
    known = np.isfinite(edge)
    assert (np.isfinite(moved) == known).all()
    assert moved[:, known].min() > -1e-6 and moved[:, known].max() < 1 + 1e-6
    shift = np.array([np.interp(0.5, row[known], ENERGY[known]) for row in moved]) - 5
    assert np.abs(shift).max() < 3.1 and shift.std() == pytest.approx(0.88 * 1.5, rel=0.1)


def blurred(rng, spectrum: np.ndarray, count: int, **settings) -> np.ndarray:
    rows = jnp.broadcast_to(jnp.asarray(spectrum, jnp.float32), (count, len(spectrum)))
    return np.asarray(blur(keys_of(rng, count), rows, LabelsConfig(**settings), GRID))


def test_fine_structure_is_blurred_the_more_the_higher_above_the_edge(rng):
    """Of a wave of period P a Gaussian leaves exp(-2 (pi sigma / P)^2); as much as the largest sigma at most is lost."""
    period, largest = 8.0, 2.0
    out = blurred(rng, np.cos(2 * np.pi * ENERGY / period), 2000, broadening=largest)
    there = [int((BLURRED_EV + 4 * period / 8) / GRID.step), int(period / GRID.step)]
    kept = np.abs(out[:, there])
    least = np.exp(-2 * (np.pi * largest / period) ** 2)
    assert kept[:, 0].min() == pytest.approx(least, abs=0.05) and kept[:, 0].max() > 0.98
    assert kept[:, 1].min() > kept[:, 0].min() + 0.2


def test_a_background_is_a_line_of_which_both_ends_are_drawn_and_what_is_unknown_stays_so(rng):
    spectrum = np.where(np.arange(60) < 45, 1.0, np.nan)
    out = blurred(rng, spectrum, 4000, background=0.03) - 1
    assert np.isnan(out[:, 45:]).all() and np.isfinite(out[:, :45]).all()
    assert out[:, 0].std() == pytest.approx(0.03, rel=0.1)
    np.testing.assert_allclose(np.diff(out[:, :45], n=2, axis=1), 0, atol=1e-5)
    last = out[:, 0] + (out[:, 44] - out[:, 0]) / 44 * 59
    assert last.std() == pytest.approx(0.03, rel=0.1) and abs(np.corrcoef(out[:, 0], last)[0, 1]) < 0.06


def test_a_thick_sample_flattens_what_stands_out_of_the_edge_step_and_keeps_its_order(rng):
    spectrum = np.sort(np.append(rng.uniform(-0.02, 1.6, 58), (0.0, 1.0)))
    out = blurred(rng, spectrum, 2000, self_absorption=0.5)
    assert (np.diff(out, axis=1) >= -1e-6).all()
    zero, one = np.searchsorted(spectrum, (0.0, 1.0))
    np.testing.assert_allclose(out[:, [zero, one]], [[0, 1]] * 2000, atol=1e-6)
    # I = mu / (mu + rest), with rest / (1 + rest) of 1 - s, in units of I at mu = 1.
    rest = 1 / 0.5 - 1
    strongest = spectrum / (spectrum + rest) * (1 + rest)
    assert np.abs(out - strongest).max(axis=1).min() < 0.01 and np.abs(out - spectrum).max(axis=1).min() < 0.01


def test_the_edge_step_is_scaled_as_a_whole(rng):
    spectrum = 1 + rng.random(60)
    factor = copies(rng, spectrum, 2000, amplitude=0.02) / spectrum
    np.testing.assert_allclose(factor, np.tile(factor[:, :1], (1, 60)), rtol=1e-5)
    assert factor[:, 0].std() == pytest.approx(0.02, rel=0.1)


def test_a_row_depends_on_its_own_key_alone(rng):
    spectra, keys = jnp.asarray(rng.random((6, 60)), jnp.float32), keys_of(rng, 6)
    together = augment(keys, spectra, LabelsConfig(), GRID)
    for i in range(6):
        alone = augment(keys[i : i + 1], spectra[i : i + 1], LabelsConfig(), GRID)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


def test_the_end_that_a_spectrum_has_stays_where_it_is(rng):
    spectrum = rng.random(60)
    spectrum[50:] = np.nan
    found = copies(rng, spectrum, 100, energy_shift=0.3, noise=0.01, amplitude=0.02)
    assert (np.isfinite(found) == np.isfinite(spectrum)).all()


def test_some_lose_their_end_and_never_what_the_grid_requires(rng):
    rows = jnp.broadcast_to(jnp.asarray(rng.random(60), jnp.float32), (4000, 60))
    known = np.isfinite(np.asarray(cut_short(keys_of(rng, 4000), rows, 0.4, GRID.common)))
    ends = known.sum(axis=1)
    assert (known == (np.arange(60) < ends[:, None])).all()
    # One end in 21 is that of the whole.
    assert (ends < 60).mean() == pytest.approx(0.4 * 20 / 21, abs=0.03)
    assert ends.min() == 40 and ends[ends < 60].mean() == pytest.approx(49.5, abs=0.7)


def test_only_spectra_of_one_element_are_mixed_and_the_larger_share_is_the_rows_own(rng):
    number = rng.integers(26, 29, 500).astype(np.int32)
    batch = Batch(np.zeros((500, 3), np.float32), number, np.zeros((500, 1)), np.zeros((500, 1), bool))
    other = jax.tree.map(lambda x: np.roll(x, 1, axis=0), batch)
    share = np.asarray(mix_share(keys_of(rng, 500), batch, other, 0.4))
    assert (share[number != np.roll(number, 1)] == 1).all()
    mixed = share[number == np.roll(number, 1)]
    assert ((mixed >= 0.5) & (mixed <= 1)).all() and 0.6 < mixed.mean() < 0.95
    assert (np.asarray(mix_share(keys_of(rng, 500), batch, other, 0.0)) == 1).all()
