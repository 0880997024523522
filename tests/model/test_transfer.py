"""An edge as its measurement shows it, against direct sums in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spt_jax.model.transfer import PLASMON, PLASMON_WIDTH, seen_through

STEP = 0.3


def edges(rng, count: int = 3, points: int = 160) -> np.ndarray:
    """(count, points) of mean 1, about zero at their beginning."""
    energy = STEP * np.arange(points)
    rise = 1 / (1 + np.exp(-(energy - 9) / 0.4))
    line = rng.uniform(0.5, 3, (count, 1)) * np.exp(-(((energy - rng.uniform(11, 30, (count, 1))) / 1.5) ** 2))
    found = rise * (1 + line)
    return found / found.mean(axis=1, keepdims=True)


def continued(edge: np.ndarray) -> np.ndarray:
    """(2 P,) the edge, how it ends, and nothing."""
    points = len(edge)
    ramp = edge[-4:].mean() * np.cos(np.linspace(0, np.pi / 2, points // 4)) ** 2
    return np.concatenate([edge, ramp, np.zeros(points - len(ramp))])


def scattered(whole: np.ndarray, thickness: float, points: int) -> np.ndarray:
    """Poisson's mixture of edges that scattered n times, by direct sums."""
    loss = STEP * np.arange(points)
    once = loss * PLASMON_WIDTH / ((loss**2 - PLASMON**2) ** 2 + (loss * PLASMON_WIDTH) ** 2)
    once, term, total = once / once.sum(), whole, whole.copy()
    for n in range(1, 12):
        term = np.convolve(term, once)[: len(whole)] * thickness / n
        total = total + term
    return total * np.exp(-thickness)


program = jax.jit(seen_through, static_argnums=4)


def seen(edge, shift=0.0, broadening=0.0, thickness=0.0):
    given = (jnp.broadcast_to(jnp.asarray(value, jnp.float32), len(edge)) for value in (shift, broadening, thickness))
    return np.asarray(program(jnp.asarray(edge, jnp.float32), *given, STEP), np.float64)


def test_nothing_between_changes_nothing(rng):
    edge = edges(rng)
    np.testing.assert_allclose(seen(edge), edge, atol=2e-5)


@pytest.mark.parametrize("channels", [-20, -3, 1, 7])
def test_a_shift_by_whole_channels_moves_them(rng, channels):
    edge = edges(rng)
    whole = np.stack([continued(each) for each in edge])
    points = edge.shape[1]
    want = np.zeros_like(edge)
    if channels > 0:
        want[:, channels:] = whole[:, : points - channels]
    else:
        want = whole[:, -channels : points - channels]
    want = want / want.mean(axis=1, keepdims=True)
    # In front of a shifted edge is nothing: what left at its end does not come back.
    np.testing.assert_allclose(seen(edge, shift=channels * STEP), want, atol=2e-4)


@pytest.mark.parametrize("broadening", [0.4, 1.0, 3.0])
def test_broadening_is_a_normal_distribution(rng, broadening):
    edge = edges(rng)
    away = STEP * np.arange(-60, 61)
    kernel = np.exp(-0.5 * (away / broadening) ** 2)
    kernel /= kernel.sum()
    want = np.stack([np.convolve(continued(each), kernel, mode="same")[: edge.shape[1]] for each in edge])
    want /= want.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(seen(edge, broadening=broadening), want, atol=1e-3)


@pytest.mark.parametrize("thickness", [0.1, 0.6, 1.0])
def test_plural_scattering_is_a_mixture_and_does_not_come_round(rng, thickness):
    edge = edges(rng)
    points = edge.shape[1]
    want = np.stack([scattered(continued(each), thickness, points)[:points] for each in edge])
    want /= want.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(seen(edge, thickness=thickness), want, atol=2e-3)


def test_rows_have_a_mean_of_one_and_nothing_of_each_other(rng):
    edge = edges(rng, 4)
    given = [rng.uniform(low, 1, 4) for low in (-1, 0, 0)]
    found = seen(edge, *given)
    np.testing.assert_allclose(found.mean(axis=1), 1, rtol=1e-5)
    turned = seen(edge[::-1], *(each[::-1] for each in given))
    np.testing.assert_allclose(found, turned[::-1], atol=1e-5)
