import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spt_jax.model.folding import fold, folded_convolutions, unfold
from tests import reference


@pytest.mark.parametrize(("length", "period"), [(100, 100), (100, 34), (97, 7), (12, 5), (16, 1)])
def test_unfold_undoes_fold(rng, length, period):
    h = jnp.asarray(rng.normal(size=(2, length, 3)), jnp.float32)
    grid = fold(h, period)
    assert grid.shape == (2, -(-length // period), period, 3)
    np.testing.assert_array_equal(unfold(grid, length), h)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolution_equals_the_reference_at_every_period(rng, size):
    length, width, out = 24, 3, 4
    periods = rng.integers(1, length + 1, size=(4, 2))
    h, weights = rng.normal(size=(4, length, width)), rng.normal(size=(size, size, width, out)) / size
    fast = jax.jit(folded_convolutions)(
        jnp.asarray(h, jnp.float32), jnp.asarray(weights, jnp.float32), jnp.asarray(periods)
    )
    for row in range(4):
        for slot in range(2):
            slow = reference.folded_convolution(h[row], weights, periods[row, slot])
            np.testing.assert_allclose(fast[slot, row], slow, atol=1e-5 * max(1, size))


def test_gradients_equal_those_of_the_plain_convolution(rng):
    length, width = 30, 4
    periods = np.array([[30, 15, 7], [10, 4, 1]])
    h = jnp.asarray(rng.normal(size=(2, length, width)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(3, 3, width, width)), jnp.float32)
    weight_of = jnp.asarray(rng.normal(size=(3, 2, length, width)), jnp.float32)

    def plain(h, weights):
        """The same by XLA's own 2-D convolution and its own gradient."""
        total = 0.0
        for row in range(2):
            for slot in range(3):
                grid = fold(h[row : row + 1], int(periods[row, slot]))
                y = jax.lax.conv_general_dilated(
                    grid, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
                )
                total += (unfold(y, length)[0] * weight_of[slot, row]).sum()
        return total

    def fast(h, weights):
        return (folded_convolutions(h, weights, jnp.asarray(periods)) * weight_of).sum()

    gradients = [jax.jit(jax.grad(f, (0, 1)))(h, weights) for f in (fast, plain)]
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
