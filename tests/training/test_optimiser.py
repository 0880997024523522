"""Learning rates, AdamW against a slow float64 version, and parameters that stay frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.errors import RunError
from spt_jax.config import TrainConfig
from spt_jax.training.flat import Flat
from spt_jax.training.optimiser import make_optimiser, make_schedule

STEPS, EPOCHS = 10, 20


def rates(**settings) -> np.ndarray:
    config = TrainConfig(**{"epochs": EPOCHS, "learning_rate": 0.01, "warmup_epochs": 2.0, **settings})
    schedule = make_schedule(config, STEPS)
    return np.array([float(schedule(step)) for step in range(EPOCHS * STEPS + 1)])


@pytest.mark.parametrize("kind", ["cosine", "stable", "constant"])
def test_a_schedule_rises_to_its_peak_and_ends_as_it_says(kind):
    found = rates(schedule=kind)
    assert found[0] == 0 and found.argmax() == 20 and found[20] == pytest.approx(0.01)
    np.testing.assert_allclose(np.diff(found[:21]), 0.01 / 20, rtol=1e-5)
    assert found[-1] == pytest.approx({"cosine": 1e-4, "stable": 1e-4, "constant": 0.01}[kind])
    if kind == "cosine":
        expected = 1e-4 + (0.01 - 1e-4) * (1 + np.cos(np.pi * (np.arange(20, 201) - 20) / 180)) / 2
        np.testing.assert_allclose(found[20:], expected, rtol=1e-4)
    else:
        np.testing.assert_allclose(found[20:161], 0.01)


@pytest.mark.parametrize("kind", ["cosine", "stable", "constant"])
def test_no_warm_up_and_nothing_but_warm_up(kind):
    assert rates(schedule=kind, warmup_epochs=0.0)[0] == pytest.approx(0.01)
    whole = rates(schedule=kind, warmup_epochs=20.0)
    assert np.isfinite(whole).all() and (np.diff(whole[:200]) > 0).all()
    with pytest.raises(RunError, match="warmup_epochs"):
        TrainConfig(epochs=3, warmup_epochs=4.0)


def tree(rng) -> dict:
    return {
        "a": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)},
        "b": {"kernel": rng.normal(size=(2, 2))},
    }


def test_adamw_is_that_of_the_book(rng):
    """Decoupled decay on matrices alone (Loshchilov and Hutter 2019), clipping by the norm of all, in float64."""
    config = TrainConfig(epochs=EPOCHS, learning_rate=0.01, warmup_epochs=0.0, schedule="constant", clip_norm=0.7)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree(rng))
    flat = Flat(params, 3, 16)
    optimiser = make_optimiser(config, make_schedule(config, STEPS), flat)
    vector, matrices = flat.ravel(params), np.asarray(flat.mask(lambda _, shape: len(shape) > 1)())
    assert matrices.sum() == 16 and len(vector) == 32
    state, slow = optimiser.init(vector), np.asarray(vector, np.float64)
    first, second = np.zeros(32), np.zeros(32)
    for step in range(1, 6):
        gradient = np.where(np.arange(32) < flat.used, rng.normal(size=32), 0).astype(np.float32)
        updates, state = optimiser.update(jnp.asarray(gradient), state, vector)
        vector = optax.apply_updates(vector, updates)
        clipped = gradient * min(1, 0.7 / np.linalg.norm(gradient))
        first, second = 0.9 * first + 0.1 * clipped, 0.999 * second + 0.001 * clipped**2
        adam = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        slow = slow - 0.01 * (adam + config.weight_decay * matrices * slow)
        np.testing.assert_allclose(vector, slow, atol=2e-6)


def test_what_is_frozen_stays_and_what_is_not_moves(rng):
    config = TrainConfig(epochs=EPOCHS, freeze=("a/*",))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree(rng))
    flat = Flat(params)
    optimiser = make_optimiser(config, optax.constant_schedule(0.1), flat)
    vector = flat.ravel(params)
    state = optimiser.init(vector)
    for _ in range(3):
        updates, state = optimiser.update(jnp.asarray(rng.normal(size=len(vector)), jnp.float32), state, vector)
        vector = optax.apply_updates(vector, updates)
    moved = flat.unravel(vector)
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(moved["a"][name], params["a"][name])
    assert (moved["b"]["kernel"] != params["b"]["kernel"]).all()
    with pytest.raises(RunError, match="no parameter is called 'c/\\*'"):
        make_optimiser(TrainConfig(freeze=("c/*",)), optax.constant_schedule(0.1), flat)
