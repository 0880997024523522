import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spt_jax.model.attention import BandedAttention, banded_softmax, banded_sum, separable_softmax, windows
from tests import reference

REACH, HEADS, WIDTH = 3, 2, 8


@pytest.fixture(params=["gatv1", "gatv2"])
def layer(request, rng):
    return BandedAttention(WIDTH, HEADS, REACH, request.param, dtype="float32", rngs=nnx.Rngs(int(rng.integers(1000))))


def test_equals_the_edge_by_edge_reference(layer, rng):
    h = rng.normal(size=(20, 2, WIDTH))
    kernels = [np.asarray(x[...], np.float64) for x in (layer.target.kernel, layer.source.kernel, layer.source.bias)]
    values = [np.asarray(x[...], np.float64) for x in (layer.value.kernel, layer.value.bias)]
    direction = np.asarray(layer.direction[...], np.float64) if layer.order == "gatv2" else None
    fast = layer(jnp.asarray(h, jnp.float32))
    for row in range(2):
        slow = reference.attention(h[:, row], *kernels, *values, direction, REACH, HEADS)
        slow = slow @ np.asarray(layer.out.kernel[...]) + np.asarray(layer.out.bias[...])
        np.testing.assert_allclose(fast[:, row], slow, atol=1e-5)


def test_weights_sum_to_one_and_vanish_beyond_the_ends(layer, rng):
    weights = layer.weights(jnp.asarray(rng.normal(size=(12, 1, WIDTH)), jnp.float32))
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    assert (weights[:REACH, 0] == 0).all() and (weights[REACH + 1 :, -1] == 0).all()


def test_no_gradient_from_outside_the_window(layer, rng):
    h = jnp.asarray(rng.normal(size=(20, 1, WIDTH)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda h: layer(h)[10].sum()))(h)
    touched = np.abs(gradient).sum(axis=(1, 2)) > 0
    assert touched.tolist() == [abs(j - 10) <= REACH for j in range(20)]


@pytest.mark.parametrize("scale", [1, 10, 75])
def test_separable_softmax_is_the_plain_one(rng, scale):
    target, source = (jnp.asarray(rng.uniform(-scale, scale, size=(20, 3, HEADS)), jnp.float32) for _ in range(2))
    plain = banded_softmax(jnp.stack([jax.nn.leaky_relu(target + each, 0.2) for each in windows(source, REACH)]))
    np.testing.assert_allclose(separable_softmax(target, source, REACH), plain, atol=1e-5)


def test_separable_softmax_stays_finite_at_extreme_scores(rng):
    target, source = (jnp.asarray(1e4 * rng.normal(size=(20, 3, HEADS)), jnp.float32) for _ in range(2))
    weights = separable_softmax(target, source, REACH)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 5, 6, 8])
def test_backward_of_the_banded_sum_is_xlas_own(rng, channels):
    weights = jnp.asarray(rng.normal(size=(2 * REACH + 1, 15, 2, HEADS)), jnp.float32)
    value, pull = (jnp.asarray(rng.normal(size=(15, 2, HEADS, channels)), jnp.float32) for _ in range(2))

    def plain(weights, value):
        return sum(w[..., None] * v for w, v in zip(weights, windows(value, REACH), strict=True))

    gradients = [
        jax.jit(jax.grad(lambda *xs, f=f: (f(*xs) * pull).sum(), (0, 1)))(weights, value) for f in (banded_sum, plain)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
