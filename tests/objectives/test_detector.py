"""Counts as a detector gives them: Poisson's, and two exposures that know nothing of each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.loss_grid import LossGrid
from spt_jax.config import ImagesConfig
from spt_jax.model.front import EdgeFront
from spt_jax.objectives.detector import MANY, SHOWN, exposed, poisson, split_counts

GRID = LossGrid(521.6, 0.6, 88, edge="O K", front=(463.0, 521.0), classes=("a", "b"))


def keys(rng, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(int(rng.integers(2**31))), count)


@pytest.mark.parametrize("rate", [0.0, 0.02, 1.0, 7.0, MANY - 0.1, MANY + 0.1, 400.0, 1e6])
def test_counts_are_poisson_in_mean_variance_and_zeros(rng, rate):
    drawn = np.float64(jax.jit(poisson)(keys(rng, 200), jnp.full((200, 200), rate, jnp.float32)))
    error = np.sqrt(rate / drawn.size)
    assert (drawn >= 0).all() and (drawn == drawn.round()).all()
    assert abs(drawn.mean() - rate) <= 5 * error + 1e-6 * rate
    assert drawn.var() == pytest.approx(rate, rel=0.05 if rate >= 1 else 0.3)
    assert (drawn == 0).mean() == pytest.approx(np.exp(-rate), abs=0.01)
    # Rows and columns are independent of each other.
    assert (
        abs(drawn.mean(axis=1).var() * 200 - rate) <= 0.5 * rate
        and abs(drawn.mean(axis=0).var() * 200 - rate) <= 0.5 * rate
    )


def test_two_exposures_sum_to_the_counts_and_are_independent(rng):
    rate = rng.uniform(20, 400, 40)
    counts = rng.poisson(rate, (6000, 40)).astype(np.float32)
    seen, target, ratio, nuisance = jax.jit(split_counts)(jnp.asarray(counts), keys(rng, len(counts)))
    np.testing.assert_allclose(seen + target, counts, rtol=1e-5)
    assert (np.asarray(seen) >= 0).all() and (np.asarray(target) >= -1e-3).all() and not np.asarray(nuisance).any()
    share = 1 / (1 + np.asarray(ratio))
    assert share.min() >= SHOWN[0] - 1e-6 and share.max() <= SHOWN[1] + 1e-6
    # Given the share both scatter as counts do, and neither says where the other lies.
    one = np.asarray(seen) - share[:, None] * rate
    other = np.asarray(target) - (1 - share)[:, None] * rate
    product = (one * other) / (np.sqrt(share * (1 - share))[:, None] * rate)
    assert abs(product.mean()) < 5 / np.sqrt(product.size)
    assert (one**2 / (share[:, None] * rate)).mean() == pytest.approx(1, abs=0.02)
    assert (other**2 / ((1 - share)[:, None] * rate)).mean() == pytest.approx(1, abs=0.02)


def test_exposures_are_what_the_front_takes_apart(rng):
    edge = np.where(GRID.relative() > 532, 1.0, 0.0)
    edges = jnp.asarray(np.tile(edge / edge.mean(), (300, 1)), jnp.float32)
    config = ImagesConfig(
        dose=(3e4, 1e5), jump=(0.5, 1.5), energy_shift=0.0, broadening=0.0, thickness=0.0, deviation=0.0
    )
    seen, target, ratio, nuisance = jax.jit(exposed, static_argnums=(2, 3))(edges, keys(rng, 300), config, GRID)
    assert (np.asarray(ratio) == 1).all() and not np.asarray(nuisance).any()
    front = jax.jit(EdgeFront(GRID.logs(), GRID.widths(), GRID.groups))
    one, other = front(seen), front(target)
    r = np.asarray(one.exponent)
    assert config.exponent[0] - 0.3 < r.min() and r.max() < config.exponent[1] + 0.3 and r.std() > 0.5
    np.testing.assert_allclose(one.scale, other.scale, rtol=0.15)
    jump = np.asarray(one.scale) / np.asarray(one.base)[:, GRID.groups + GRID.points // 5]
    assert 0.4 < jump.min() < 0.7 and 1.1 < jump.max() < 1.7
    np.testing.assert_allclose(np.mean(one.signal, axis=0), edge / edge.mean(), atol=0.05)
    # Two exposures of one row differ.
    assert (np.abs(np.asarray(seen) - np.asarray(target)).mean(axis=1) > 1).all()


def test_a_row_does_not_depend_on_its_batch(rng):
    edges = jnp.asarray(rng.uniform(0, 2, (8, GRID.points)), jnp.float32)
    own = keys(rng, 8)
    program = jax.jit(exposed, static_argnums=(2, 3))
    whole = program(edges, own, ImagesConfig(dose=(1e3, 1e4)), GRID)
    turned = program(edges[::-1], own[::-1], ImagesConfig(dose=(1e3, 1e4)), GRID)
    for one, other in zip(whole, turned, strict=True):
        np.testing.assert_array_equal(one, other[::-1])
