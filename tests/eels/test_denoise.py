"""Spectra without noise: of noise alone nothing is kept, and of what pixels have in common no less than a truncation keeps."""

import numpy as np
import pytest

from spt_jax.eels.denoise import without_noise


def test_of_noise_alone_nothing_is_kept(rng):
    fit = rng.uniform(0, 3, (800, 60))
    noise = rng.uniform(0.5, 5, 800)
    signal = fit + noise[:, None] * rng.normal(size=fit.shape)
    found = without_noise(signal, fit, noise[:, None], np.ones(800, bool), 0)
    # At the border of what is noise a direction may pass.
    assert np.abs(found - fit).mean() < 0.1 * np.abs(signal - fit).mean()


@pytest.mark.parametrize(("rank", "strength"), [(1, 3.0), (3, 1.0), (3, 0.5)])
def test_a_planted_structure_is_found_as_well_as_by_the_best_truncation(rng, rank, strength):
    count, length = 1000, 60
    fit = np.ones((count, length))
    basis = np.linalg.qr(rng.normal(size=(length, rank)))[0].T
    extra = strength * rng.normal(size=(count, rank)) * np.sqrt(length) / 3 @ basis
    noise = np.ones((count, 1))
    signal = fit + extra + rng.normal(size=fit.shape)
    found = without_noise(signal, fit, noise, np.ones(count, bool), 0)
    left, size, right = np.linalg.svd(signal - fit, full_matrices=False)
    best = min(
        np.sqrt((((left[:, :k] * size[:k]) @ right[:k] - extra) ** 2).mean()) for k in range(length)
    )  # fmt: skip
    # Of 450 draws the worst was 7 % above, the median 7 % below.
    assert np.sqrt(((found - fit - extra) ** 2).mean()) <= 1.15 * best
    assert np.sqrt(((found - fit - extra) ** 2).mean()) < 0.5


def test_the_level_of_noise_may_be_another_than_said(rng):
    fit = np.ones((900, 50))
    signal = fit + 3 * rng.normal(size=fit.shape)
    found = without_noise(signal, fit, np.ones((900, 1)), np.ones(900, bool), 0)
    assert np.abs(found - fit).mean() < 0.3


@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_few_pixels_and_bad_ones_give_finite_numbers(rng, count):
    good = np.arange(40) < count
    fit = rng.uniform(0, 2, (40, 30))
    signal = fit + rng.normal(size=fit.shape)
    signal[~good] = 1e6
    found = without_noise(signal, fit, np.ones((40, 1)), good, 1)
    assert found.shape == fit.shape and np.isfinite(found).all()
    exact = without_noise(fit, fit, np.ones((40, 1)), np.ones(40, bool), 1)
    np.testing.assert_allclose(exact, fit)


def test_what_a_fit_gets_wrong_everywhere_is_taken_from_the_pixels(rng):
    """A fit with many free numbers and a large error is worse than the measurement shrunk: that is taken."""
    clean = 30 * np.abs(rng.normal(size=(900, 2))) @ np.abs(rng.normal(size=(2, 60)))
    signal = clean + rng.normal(size=clean.shape)
    poor = clean + 3 * rng.normal(size=clean.shape)
    found = without_noise(signal, poor, np.ones((900, 1)), np.ones(900, bool), 8)
    assert np.sqrt(((found - clean) ** 2).mean()) < 0.3
