"""The Triton kernels, interpreted, against the XLA forms that they take the place of."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.attention import banded_sum, separable_softmax
from spt_jax.model.folding import tap_convolutions
from spt_jax.model.gpu import attention, block
from spt_jax.model.gpu.fusion import fuse_bands
from spt_jax.model.gpu.rows import Tile
from spt_jax.model.kernels import meant_for
from spt_jax.model.spt import BandBlock

ROUNDED = ("bfloat16", "float32")
BY_DTYPE = {"float32": 1e-5, "bfloat16": 2e-2}
# Interpreted kernels are long programs that run once.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def normal(rng, *shape, dtype="float32"):
    return jnp.asarray(rng.normal(size=shape), dtype)


def with_gradients(function, inputs, g):
    def run(inputs, g):
        y, pull = jax.vjp(function, *inputs)
        return y, *pull(g)

    return jax.tree.leaves(jax.jit(run, compiler_options=QUICK)(inputs, g))


def assert_equal(fast, inputs, slow, g, dtype):
    """The slow one in float32; errors relative to the largest number of each array, or 0.1."""
    exact = with_gradients(slow, *jax.tree.map(lambda x: x.astype(jnp.float32), (inputs, g)))
    for one, other in zip(with_gradients(fast, inputs, g), exact, strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(one, other, atol=BY_DTYPE[dtype] * max(0.1, np.abs(other).max()))


def mixed(value, source, target, reach):
    by_head = value.reshape(*source.shape, -1)
    return banded_sum(separable_softmax(target, source, reach), by_head).reshape(value.shape)


@pytest.mark.parametrize("dtype", BY_DTYPE)
def test_attention(rng, dtype):
    length, batch, heads, channels = int(rng.integers(9, 20)), int(rng.integers(1, 6)), 2, int(rng.integers(3, 7))
    reach = int(rng.integers(1, 4))
    value, g = (normal(rng, length, batch, heads * channels, dtype=dtype) for _ in range(2))
    # Not rounded to bfloat16: of two that cancel the slope is anyone's choice.
    scores = [3 * normal(rng, length, batch, heads) for _ in range(2)]
    tile = attention.WindowTile(reach, energies=4, columns=4, interpret=True)

    def attend(*inputs):
        return attention.attend(*inputs, tile)

    assert_equal(attend, (value, *scores), lambda *inputs: mixed(*inputs, reach), g, dtype)


def test_attention_of_scores_far_apart(rng):
    """A weight may vanish; nothing becomes infinite."""
    value, source = normal(rng, 12, 3, 8), 1e4 * normal(rng, 12, 3, 2)
    tile = attention.WindowTile(2, 4, 4, interpret=True)
    found = with_gradients(lambda *inputs: attention.attend(*inputs, tile), (value, source, -source), value)
    assert all(np.isfinite(each).all() for each in found)


def by_query(given, means):
    query, kernel = given
    return jax.nn.softmax(jnp.einsum("bd,kbd->bk", query, means @ kernel), axis=-1)


def test_bands(rng):
    """Random periods, but of the first spectrum folds of whole rows, and of the second one fold twice."""
    length, batch, width = 2 * int(rng.integers(12, 20)), int(rng.integers(2, 6)), int(rng.integers(3, 9))
    periods = -(-length // rng.integers(1, 13, (batch, 2)))
    periods[0] = length // 2, length
    periods[1] = periods[1, 0]
    periods = jnp.asarray(periods, jnp.int32)
    # The gradient of a share is a sum over all of g, and no better than its largest terms.
    n, g = normal(rng, length, batch, width), normal(rng, length, batch, width) / 10
    taps, bias = normal(rng, 3, 3, width, width) / width**0.5, normal(rng, width)
    given = normal(rng, batch, width), normal(rng, width, width) / width
    tile = Tile(energies=8, spectra=2, parts=1, rows=32, interpret=True)

    def fast(n, taps, bias, given):
        return fuse_bands(tile, by_query, n, taps, bias, periods, given)

    def slow(n, taps, bias, given):
        features = jnp.stack([jax.nn.gelu(each + bias) for each in tap_convolutions(n, taps, periods)])
        share = by_query(given, features.mean(axis=1))
        return jnp.einsum("bk,klbd->lbd", share, features), share

    assert_equal(fast, (n, taps, bias, given), slow, (g, normal(rng, batch, 2)), "float32")


def test_a_block_in_bfloat16(rng):
    config, seed = ModelConfig(width=8, bands=2, highest_band=4), int(rng.integers(1000))
    layer, exact = (
        BandBlock(config, ExecutionConfig(folding="taps", dtype=dtype), rngs=nnx.Rngs(seed)) for dtype in ROUNDED
    )
    h, bands = normal(rng, 16, 3, 8, dtype="bfloat16"), jnp.asarray(rng.integers(1, 5, (3, 2)), jnp.int32)

    def both(h, bands):
        fused, share = block.fused_bands(layer, h, -(-16 // bands), interpret=True)
        return (layer.out(fused).astype(jnp.float32), share), exact(h.astype(jnp.float32), bands)

    found, expected = jax.jit(both, compiler_options=QUICK)(h, bands)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-2)


def test_networks_that_are_refused():
    config, execution = ModelConfig(), ExecutionConfig(dtype="bfloat16")
    assert block.refusal(config, execution, 144) is None
    assert block.refusal(config, ExecutionConfig(), 144) == "arithmetic is not bfloat16"
    assert block.refusal(replace(config, kernel=5, attention="gatv2"), execution, 144) == (
        "kernel is not 3; attention is gatv2"
    )
    assert "one point wide" in block.refusal(config, execution, 12)


def test_a_gpu_that_is_not_here_is_told_while_a_program_is_traced():
    """Pallas asks for it from jax 0.11 on, and finds a CPU elsewhere."""
    with meant_for("cuda", "NVIDIA H200"):
        assert jax.sharding.get_abstract_mesh().abstract_device.device_kind == "NVIDIA H200"
    for platform in ("cuda", "tpu", "cpu"):
        with meant_for(platform, "" if platform == "cuda" else "any"):
            assert jax.sharding.get_abstract_mesh().abstract_device is None
