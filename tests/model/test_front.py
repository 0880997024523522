"""The front of a network of images: its power law is the most likely one, its filter is Wiener's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from spt_jax.eels.background import fit_power_law
from spt_jax.model.denoise import SURELY_SIGNAL
from spt_jax.model.front import EdgeFilter, EdgeFront

GROUPS, POINTS = 16, 100
BORDERS = np.linspace(463.0, 521.0, GROUPS + 1)
EDGE = 521.6 + 0.3 * np.arange(POINTS)
MIDDLES = np.concatenate([(BORDERS[:-1] + BORDERS[1:]) / 2, EDGE])
WIDTHS = np.concatenate([np.diff(BORDERS), np.full(POINTS, 0.3)])


def front() -> EdgeFront:
    return EdgeFront(np.log(MIDDLES) - np.log(MIDDLES[:GROUPS]).mean(), WIDTHS, GROUPS)


def laws(rng, count: int, least: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """(count, GROUPS + POINTS) expected counts, and (count,) exponents; least and most electrons of a sum in front."""
    r = rng.uniform(2, 5, count)
    x = np.log(MIDDLES / np.exp(np.log(MIDDLES[:GROUPS]).mean()))
    dose = np.exp(rng.uniform(np.log(least), np.log(most), count)) / WIDTHS[0]
    return dose[:, None] * np.exp(-r[:, None] * x) * WIDTHS, r


def most_likely(sums: np.ndarray) -> tuple[float, float]:
    """Of Poisson counts, by a general minimiser in float64."""
    x = np.log(MIDDLES[:GROUPS] / np.exp(np.log(MIDDLES[:GROUPS]).mean()))
    mean = np.log(sums.mean() / WIDTHS[0])

    def loss(law):
        rate = np.exp(mean + law[0] - law[1] * x) * WIDTHS[:GROUPS]
        return (rate - sums * np.log(rate)).sum() / sums.sum()

    found = minimize(loss, [0.0, 3.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-14, "maxiter": 2000})
    return mean + found.x[0], found.x[1]


@pytest.mark.parametrize(("least", "most"), [(5, 50), (50, 5e3), (5e3, 1e6)])
def test_the_power_law_is_the_most_likely_one(rng, least, most):
    expected, _ = laws(rng, 24, least, most)
    sums = rng.poisson(expected[:, :GROUPS]).astype(np.float32)
    a, r = (np.asarray(each) for each in jax.jit(front().power_law)(jnp.asarray(sums)))
    want = np.array([most_likely(np.float64(row)) for row in sums])
    # Far below the error that the counts have.
    x = np.log(MIDDLES[:GROUPS])
    error = 1 / np.sqrt(sums.sum(axis=1) * x.var())
    assert np.abs((r - want[:, 1]) / error).max() < 0.05
    assert np.abs(a - want[:, 0]).max() < 0.05 / np.sqrt(least * GROUPS)


def test_it_agrees_with_that_of_corrections(rng):
    expected, _ = laws(rng, 30, 100, 1e5)
    sums = rng.poisson(expected[:, :GROUPS]).astype(np.float32)
    _, r = front().power_law(jnp.asarray(sums))
    energy = jnp.asarray(MIDDLES[:GROUPS], jnp.float32)
    other = fit_power_law(jnp.asarray(sums), energy, jnp.zeros(len(sums)), 0, GROUPS)
    np.testing.assert_allclose(r, other.exponent, atol=2e-3)


def test_no_counts_give_finite_numbers(rng):
    rows = np.zeros((6, GROUPS + POINTS), np.float32)
    rows[1], rows[2], rows[3, 0], rows[4, GROUPS - 1], rows[5] = -3, 1e-6, 1, 1, 1e12
    for values in jax.jit(front())(jnp.asarray(rows)):
        assert np.isfinite(values).all()


def test_the_edge_is_over_its_mean_and_says_its_noise(rng):
    expected, _ = laws(rng, 20, 1e4, 1e6)
    edge = np.where(EDGE > 532, 1 + np.exp(-(((EDGE - 535) / 2) ** 2)), 0)
    edge = edge / edge.mean()
    height = 0.5 * expected[:, GROUPS:].mean(axis=1)
    expected[:, GROUPS:] += height[:, None] * edge
    found = jax.jit(front())(jnp.asarray(expected, jnp.float32))
    np.testing.assert_allclose(found.scale, height, rtol=0.01)
    np.testing.assert_allclose(np.mean(found.signal, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(found.noise, np.sqrt(expected[:, GROUPS:].mean(axis=1)) / height, rtol=0.01)
    drawn = np.asarray(jax.jit(front())(jnp.asarray(rng.poisson(expected), jnp.float32)).signal)
    assert np.std((drawn - edge) / np.asarray(found.noise)[:, None]) == pytest.approx(1, abs=0.2)


def test_the_filter_is_that_of_wiener(rng):
    shapes = rng.normal(size=(400, 5)) * [1, 0.5, 0.2, 0.1, 0.02]
    edges = 1 + shapes @ np.linalg.qr(rng.normal(size=(POINTS, 5)))[0].T
    mean, covariance = edges.mean(axis=0), np.cov(edges.T)
    wiener = EdgeFilter(mean, covariance, 5)
    noise = rng.uniform(0.02, 1, 400)
    signal = edges + noise[:, None] * rng.normal(size=edges.shape)
    got = np.asarray(wiener.along(jnp.asarray(signal, jnp.float32), jnp.asarray(noise, jnp.float32)))
    variance, vectors = np.linalg.eigh(covariance)
    variance, vectors = variance[::-1][:5], vectors[:, ::-1][:, :5]
    along = (signal - mean) @ vectors
    own = np.maximum(variance, along**2 - SURELY_SIGNAL**2 * noise[:, None] ** 2)
    want = along * own / (own + noise[:, None] ** 2)
    np.testing.assert_allclose(np.abs(got), np.abs(want), atol=2e-3)
    drawn = np.asarray(wiener.drawn(jnp.asarray(got)))
    # Nearer to the truth than what was measured, and than the mean of all.
    error = np.sqrt(((drawn - edges) ** 2).mean())
    assert error < 0.4 * np.sqrt(((signal - edges) ** 2).mean()) and error < 0.9 * np.sqrt(((mean - edges) ** 2).mean())
