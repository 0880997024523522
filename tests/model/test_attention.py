import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spt_jax.model.attention import BandedAttention
from tests import reference

REACH, HEADS, WIDTH = 3, 2, 8


@pytest.fixture(params=["gatv1", "gatv2"])
def layer(request, rng):
    return BandedAttention(WIDTH, HEADS, REACH, request.param, dtype="float32", rngs=nnx.Rngs(int(rng.integers(1000))))


def test_equals_the_edge_by_edge_reference(layer, rng):
    h = rng.normal(size=(2, 20, WIDTH))
    kernels = [np.asarray(x[...], np.float64) for x in (layer.target.kernel, layer.source.kernel, layer.source.bias)]
    values = [np.asarray(x[...], np.float64) for x in (layer.value.kernel, layer.value.bias)]
    direction = np.asarray(layer.direction[...], np.float64) if layer.order == "gatv2" else None
    fast = layer(jnp.asarray(h, jnp.float32))
    for row in range(2):
        slow = reference.attention(h[row], *kernels, *values, direction, REACH, HEADS)
        slow = slow @ np.asarray(layer.out.kernel[...]) + np.asarray(layer.out.bias[...])
        np.testing.assert_allclose(fast[row], slow, atol=1e-5)


def test_weights_sum_to_one_and_vanish_beyond_the_ends(layer, rng):
    weights = layer.weights(jnp.asarray(rng.normal(size=(1, 12, WIDTH)), jnp.float32))
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-6)
    assert (weights[0, 0, :REACH] == 0).all() and (weights[0, -1, REACH + 1 :] == 0).all()


def test_no_gradient_from_outside_the_window(layer, rng):
    h = jnp.asarray(rng.normal(size=(1, 20, WIDTH)), jnp.float32)
    gradient = jax.grad(lambda h: layer(h)[0, 10].sum())(h)
    touched = np.abs(gradient[0]).sum(axis=-1) > 0
    assert touched.tolist() == [abs(j - 10) <= REACH for j in range(20)]
