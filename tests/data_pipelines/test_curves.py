"""Curves through points equal those of scipy, on fresh random points."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from data_pipelines.spectra.curves import interpolated, smoothed


def points(rng, count):
    """Some of them equal to their neighbours, as rounded numbers are."""
    return np.cumsum(rng.random(count) + 0.01), rng.normal(size=(5, count)).round(rng.integers(0, 4))


@pytest.mark.parametrize("count", [3, 4, 9, 400])
def test_interpolation_is_that_of_scipy(rng, count):
    x, y = points(rng, count)
    at = np.sort(np.append(rng.uniform(x[0] - 1, x[-1] + 1, 99), x))
    expected = PchipInterpolator(x, y, axis=1, extrapolate=False)(at)
    np.testing.assert_allclose(interpolated(x, y, at), expected, atol=1e-12)
    np.testing.assert_array_equal(interpolated(x, y[0], at), interpolated(x, y, at)[0])


def test_it_goes_through_its_points_and_never_beyond_them(rng):
    x, y = points(rng, 60)
    np.testing.assert_allclose(interpolated(x, y, x), y, atol=1e-12)
    between = interpolated(x, y, np.linspace(x[0], x[-1], 999))
    assert between.max() <= y.max() + 1e-12 and between.min() >= y.min() - 1e-12


def test_of_float32_and_of_huge_numbers(rng):
    x, y = points(rng, 30)
    assert np.isfinite(interpolated(x, (y * 1e30).astype(np.float32), x)).all()


@pytest.mark.parametrize("truncate", [4, 6])
def test_smoothing_is_that_of_scipy(rng, truncate):
    _, y = points(rng, 200)
    for width in (0.1, *rng.uniform(0.5, 30, 5)):
        expected = gaussian_filter1d(y, width, axis=1, mode="nearest", truncate=truncate)
        np.testing.assert_allclose(smoothed(y, width, truncate), expected, atol=1e-12)
