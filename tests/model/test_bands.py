import jax.numpy as jnp
import numpy as np
import pytest

from spt_jax.model.bands import band_input_map, band_strength, period, picks_outside, select_bands
from tests import reference


def test_strength_is_the_rfft(rng):
    h = rng.normal(size=(3, 50, 7))
    fast = band_strength(jnp.asarray(h.swapaxes(0, 1), jnp.float32), 25)
    np.testing.assert_allclose(fast, reference.band_strength(h, 25), rtol=1e-5)


def test_selection_is_the_references_top_k(rng):
    strength = rng.normal(size=(20, 12)).astype(np.float32)
    chosen = select_bands(jnp.asarray(strength), 4, "per_sample")
    np.testing.assert_array_equal(chosen, [reference.top_k(row, 4) for row in strength])


@pytest.mark.parametrize("frequency", [1, 3, 7, 12])
def test_a_planted_sine_lands_in_its_band(rng, frequency):
    length = 144
    wave = np.sin(2 * np.pi * frequency * np.arange(length) / length + rng.uniform(0, 6))
    h = wave[:, None, None] + 0.05 * rng.normal(size=(length, 1, 4))
    chosen = select_bands(band_strength(jnp.asarray(h, jnp.float32), 12), 1, "per_sample")
    assert chosen.tolist() == [[frequency]]


def test_batch_mode_gives_one_choice_and_fixed_mode_the_first(rng):
    strength = jnp.asarray(rng.normal(size=(9, 12)), jnp.float32)
    batch = select_bands(strength, 3, "batch")
    np.testing.assert_array_equal(batch[0], reference.top_k(np.asarray(strength).mean(axis=0), 3))
    assert (batch == batch[0]).all()
    assert select_bands(strength, 3, "fixed").tolist() == [[1, 2, 3]] * 9


def test_picks_beyond_the_candidates_are_counted(rng):
    place = np.arange(100)
    waves = [np.sin(2 * np.pi * f * place / 100 + rng.uniform(0, 6)) for f in (3, 20, 31)]
    h = np.stack([waves[0], waves[0] + 2 * waves[1], waves[1] + waves[2]], axis=1)[:, :, None]
    assert picks_outside(jnp.asarray(h, jnp.float32), 12, 2).tolist()[1:] == [1, 2]


def test_period_is_the_rounded_up_quotient():
    assert period(jnp.arange(1, 8), 100).tolist() == [100, 50, 34, 25, 20, 17, 15]


def spectra(rng: np.random.Generator, energy: np.ndarray) -> np.ndarray:
    """Edges with shifts, white lines and oscillations: fresh every time."""
    e0 = 8 + rng.normal(size=(200, 1))
    step = np.arctan((energy - e0) / 1.5) / np.pi + 0.5
    white = rng.uniform(0.2, 0.8, (200, 1)) * np.exp(-(((energy - e0 - 3) / 2) ** 2))
    return step + white + 0.05 * np.sin(rng.uniform(0.3, 0.9, (200, 1)) * energy) * step


@pytest.mark.parametrize("kind", ["standardised", "background", "derivative", "kspace"])
def test_band_inputs_take_the_edge_step_out(rng, kind):
    energy = np.linspace(2, 73.5, 144)
    mu = spectra(rng, energy)
    linear, offset = band_input_map(kind, energy, mu.mean(axis=0), mu.std(axis=0))
    flat = mu @ linear + offset
    raw, raw_offset = band_input_map("raw", energy, mu.mean(axis=0), mu.std(axis=0))
    share_of_first = [
        (strength[:, 0] / strength.sum(axis=1)).mean()
        for strength in (reference.band_strength(x[:, :, None], 12) for x in (flat, mu @ raw + raw_offset))
    ]
    assert share_of_first[0] < 0.8 * share_of_first[1]
    assert np.isfinite(flat).all() and 0.2 < flat.std() < 5
