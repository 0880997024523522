"""Each correction against a slow version, a planted truth, or what must not be changed by it."""

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.spectra.losses import likely_edge, windows_of
from data_pipelines.spectra.planted import Planting, planted, planted_edges
from spt_jax.eels.align import moved, pattern_of, shift_from_mean, zero_loss
from spt_jax.eels.background import fit_power_law, power_law, reference_energy
from spt_jax.eels.plural import single_scattering
from spt_jax.eels.spikes import dead_channels, mended, usual_spectrum
from tests import reference

ENERGY = 460 + 0.5 * np.arange(256)
WINDOW = (8, 120)


def laws(rng, dose, count):
    exponent = rng.uniform(2, 4, count)
    mean = dose * (ENERGY / reference_energy(ENERGY, *WINDOW)) ** -exponent[:, None]
    return rng.poisson(mean).astype(np.float32), exponent, mean


def fitted(counts, off=None):
    off = np.zeros(len(counts)) if off is None else off
    return fit_power_law(jnp.asarray(counts), jnp.asarray(ENERGY, jnp.float32), jnp.asarray(off, jnp.float32), *WINDOW)


@pytest.mark.parametrize("dose", [0.5, 5, 5e2, 5e6])
def test_the_power_law_is_the_most_likely_one(rng, dose):
    counts, _, _ = laws(rng, dose, 20)
    fit = fitted(counts)
    likeliest = [reference.power_law(spectrum, ENERGY, *WINDOW) for spectrum in counts]
    off = np.stack([fit.amplitude, fit.exponent], axis=1) - likeliest
    assert (np.median(np.abs(off), axis=0) < [1e-5 * dose, 1e-4]).all()
    # Of 300,000 draws at half a count a channel six steps leave 16 more than a twentieth of an error away, none a whole.
    error = np.stack([fit.amplitude / np.sqrt(np.maximum(fit.total, 1)), fit.error], axis=1)
    assert (np.abs(off) < error).all()


@pytest.mark.parametrize("dose", [3, 300])
def test_the_power_law_is_without_bias_and_knows_its_error(rng, dose):
    counts, exponent, mean = laws(rng, dose, 4000)
    fit = fitted(counts)
    off = (np.asarray(fit.exponent) - exponent) / np.asarray(fit.error)
    assert abs(off.mean()) < 0.1 and 0.9 < off.std() < 1.1
    assert np.asarray(fit.misfit).mean() == pytest.approx(1, abs=0.05)
    under = np.asarray(power_law(fit, jnp.asarray(ENERGY), reference_energy(ENERGY, *WINDOW)))
    assert (under / mean)[:, WINDOW[0] : WINDOW[1]].mean() == pytest.approx(1, abs=0.02)


def test_energies_that_are_off_move_the_law(rng):
    counts, exponent, _ = laws(rng, 1e5, 10)
    fit = fitted(counts, np.full(10, -100.0))
    amplitude = fitted(counts).amplitude
    # The same counts at higher energies are a steeper law.
    assert (np.asarray(fit.exponent) > exponent + 0.3).all() and not np.allclose(fit.amplitude, amplitude, rtol=0.01)


def test_what_is_no_power_law_stays_finite(rng):
    counts = np.zeros((5, 256), np.float32)
    counts[1], counts[2, 60], counts[3] = -5, 1e6, rng.normal(0, 1, 256)
    counts[4] = 1e-30
    fit = fitted(counts)
    assert all(np.isfinite(np.asarray(each)).all() for each in fit)


def test_moved(rng):
    spectrum = np.cumsum(rng.normal(size=(4, 60)), axis=1).astype(np.float32)
    shift = np.array([0.0, 3.0, -2.3, 4.7], np.float32)
    found = np.asarray(moved(jnp.asarray(spectrum), jnp.asarray(shift), 5))
    np.testing.assert_array_equal(found[0], spectrum[0])
    np.testing.assert_allclose(found[1, :-3], spectrum[1, 3:], rtol=1e-5)
    for i in (2, 3):
        np.testing.assert_allclose(found[i], reference.moved(spectrum[i], float(shift[i])), atol=1e-4)


def test_the_zero_loss_is_found_to_a_part_of_a_channel(rng):
    place = rng.uniform(40, 60, 200)
    mean = 5000 * np.exp(-((np.arange(120) - place[:, None]) ** 2) / (2 * 1.7**2))
    found, error = (np.asarray(each) for each in zero_loss(jnp.asarray(rng.poisson(mean), jnp.float32), 2))
    assert np.std(found - place) < 0.03 and abs(np.mean(found - place)) < 0.01
    assert 0.3 < np.median(error) / np.std(found - place) < 3


@pytest.mark.parametrize(("dose", "limit"), [(30, 2.0), (3000, 0.2)])
def test_shifts_from_the_mean(rng, dose, limit):
    """Where all pixels have one kind of edge; the background may differ."""
    edges = planted_edges(460 + 0.5 * np.arange(256), 532)[[0, 0]]
    how = Planting(8, 12, 256, step=0.5, dose=dose, drift=2)
    made = planted(how, rng, edges)
    counts, true = jnp.asarray(made.counts.reshape(96, -1)), made.shift.ravel() / how.step
    mean = np.asarray(counts).mean(axis=0)
    for _ in range(3):
        shift, error, like = shift_from_mean(counts, pattern_of(mean, 8), 8)
        mean = np.asarray(moved(counts, shift, 8)).mean(axis=0)
    off = np.asarray(shift) - true
    off -= np.median(off)
    assert np.median(np.abs(off)) < 0.5 * limit and 0.3 < np.median(error) / np.median(np.abs(off)) < 3
    assert np.mean(np.asarray(like) > 5) > 0.9
    noise = jnp.asarray(rng.poisson(0.2 * made.background.reshape(96, -1) / dose), jnp.float32)
    assert np.mean(np.asarray(shift_from_mean(noise, pattern_of(mean, 8), 8)[2]) > 5) < 0.05


def test_spikes_are_found_and_lines_are_not(rng):
    how = Planting(16, 16, 256, step=0.5, dose=100, spikes=40)
    made = planted(how, rng)
    counts = made.counts.reshape(256, -1).copy()
    # A line that only one pixel has is a signal nevertheless.
    counts[7] += (4000 * np.exp(-((np.arange(256) - 200) ** 2) / 8)).astype(np.float32)
    spikes = made.spikes.reshape(256, -1)
    counts[3, 100] = counts[9, 0] = np.nan
    usual = usual_spectrum(counts)
    filled, found, missing = (
        np.asarray(each)
        for each in mended(jnp.asarray(counts), jnp.asarray(usual, jnp.float32), jnp.zeros(256, bool), 1.0, 8.0)
    )
    assert (found & spikes).sum() >= 38 and (found & ~spikes).sum() == 0
    assert missing.sum() == 2 and np.isfinite(filled).all()
    expected = (made.background + made.signal).reshape(256, -1)
    assert np.abs(filled[found] / expected[found] - 1).mean() < 0.15
    untouched = np.isfinite(counts) & ~found
    np.testing.assert_array_equal(filled[untouched], counts[untouched])
    left = mended(jnp.asarray(counts), jnp.asarray(usual, jnp.float32), jnp.zeros(256, bool), 1.0, 0.0)
    assert not np.asarray(left[1]).any()


def test_dead_channels_are_those_without_counts_between_others():
    usual = np.full(50, 20.0)
    usual[[10, 11, 30]] = 0
    assert np.flatnonzero(dead_channels(usual)).tolist() == [10, 11, 30]
    assert not dead_channels(np.where(np.arange(50) < 20, 0, 0.2)).any()


def test_plural_scattering_is_taken_out(rng):
    how = Planting(2, 3, 512, dose=1e5, drift=0, thickness=1.0)
    made = planted(how, rng)
    low = made.low_loss.reshape(6, -1)
    before = int(np.argmin(np.abs(made.low_energy)))
    measured = (made.counts - made.background).reshape(6, -1)
    found, thickness = single_scattering(jnp.asarray(measured), jnp.asarray(low), before, 8)
    np.testing.assert_allclose(thickness, made.thickness.ravel(), atol=0.05)
    true, behind = made.signal.reshape(6, -1), slice(300, 480)
    assert np.abs(np.asarray(found)[:, behind] / true[:, behind] - 1).mean() < 0.03
    assert np.abs(measured[:, behind] / true[:, behind] - 1).mean() > 0.05


def test_the_edge_that_rises_first_is_taken():
    energy = 440 + 0.3 * np.arange(1000)
    law = 1e6 * (energy / 532) ** -3.0
    assert likely_edge(energy, law) is None
    assert likely_edge(energy, law * (1 + 0.5 * (energy > 532))) == ("O K", 532.0)
    with pytest.raises(UserError, match=r"an edge at 300 eV cannot be read from energies of 440\.0 to 739\.7 eV$"):
        windows_of(300, energy)
    with pytest.raises(UserError, match="too little lies in front of it"):
        windows_of(445, energy)
