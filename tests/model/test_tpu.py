"""The TPU kernels, interpreted, against the modules that they stand for."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.attention import BandedAttention
from spt_jax.model.heads import HeadSpec
from spt_jax.model.kernels import kernels_for, meant_for
from spt_jax.model.spt import SPT, BandBlock
from spt_jax.model.tpu import block as tpu
from spt_jax.model.tpu import tile

# Interpreted kernels are long programs that run once.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(tile, "INTERPRET", True)


def shaken(module: nnx.Module, rng: np.random.Generator) -> tuple[nnx.GraphDef, nnx.State]:
    """With every parameter random, biases and scales too."""
    graph, params = nnx.split(module)
    return graph, jax.tree.map(lambda x: x + jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), params)


def half(kind: str, config: ModelConfig, length: int, dtype: str, rng: np.random.Generator):
    """One half of a block: its parameters, and the kernel and the reference as functions of (parameters, h, keep)."""
    rngs, execution = nnx.Rngs(int(rng.integers(1000))), ExecutionConfig(dtype=dtype, folding="taps")
    d, heads = config.width, config.attention_heads
    norm = shaken(nnx.LayerNorm(d, dtype=dtype, rngs=rngs), rng)
    if kind == "bands":
        layer = shaken(BandBlock(config, execution, rngs=rngs), rng)
    else:
        layer = shaken(BandedAttention(d, heads, config.window, "gatv1", dtype=dtype, rngs=rngs), rng)

    def call(params, h, keep, chosen, fast):
        first, second = nnx.merge(norm[0], params[0]), nnx.merge(layer[0], params[1])
        if kind == "bands":
            if fast:
                return tpu.band_update(h, chosen, keep, first, second, execution)
            return h + keep.astype(h.dtype) * second(first(h), chosen)[0]
        if fast:
            return tpu.attention_update(h, keep, first, second, dtype)
        return h + keep.astype(h.dtype) * second(first(h))

    return (norm[1], layer[1]), call


def drawn(rng: np.random.Generator, length: int, batch: int, config: ModelConfig, dtype: str):
    """h, keep, the bands of each spectrum, and a cotangent."""
    h, pull = (jnp.asarray(rng.normal(size=(length, batch, config.width)), dtype) for _ in range(2))
    keep = jnp.asarray(rng.random((batch, config.width)) > 0.3, jnp.float32) / 0.7
    every = np.tile(np.arange(1, config.highest_band + 1), (batch, 1))
    return h, keep, jnp.asarray(rng.permuted(every, axis=1)[:, : config.bands], jnp.int32), pull


@pytest.mark.parametrize("kind", ["bands", "attention"])
@pytest.mark.parametrize("width", [16, 48])
def test_a_kernel_and_its_gradient_equal_the_reference(kind, width, rng):
    length, batch = int(rng.integers(15, 34)), int(rng.choice([1, 5, 131]))
    heads = int(rng.choice([2, width // 8]))
    highest = int(rng.integers(3, length // 2))
    config = ModelConfig(width=width, attention_heads=heads, highest_band=highest, window=int(rng.integers(1, 6)))
    params, call = half(kind, config, length, "float32", rng)
    h, keep, chosen, pull = drawn(rng, length, batch, config, "float32")

    def run(fast):
        return jax.jit(jax.vjp, static_argnums=0, compiler_options=QUICK)(
            lambda params, h: call(params, h, keep, chosen, fast), params, h
        )

    (found, back), (expected, back_slow) = run(True), run(False)
    size = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=1e-5 * size)
    for one, other in zip(jax.tree.leaves(back(pull)), jax.tree.leaves(back_slow(pull)), strict=True):
        # Biases of the scores have no gradient but rounding; a sum over 131 rows has more of it than a row.
        np.testing.assert_allclose(one, other, atol=3e-5 * max(float(jnp.abs(other).max()), size))


@pytest.mark.parametrize("kind", ["bands", "attention"])
def test_bfloat16_is_float32_to_its_rounding(kind, rng):
    config = ModelConfig(width=16, attention_heads=2, highest_band=5)
    params, call = half(kind, config, 24, "bfloat16", rng)
    h, keep, chosen, _ = drawn(rng, 24, 3, config, "bfloat16")
    _, exact = half(kind, config, 24, "float32", rng)
    found = jax.jit(call, static_argnums=4, compiler_options=QUICK)(params, h, keep, chosen, True)
    assert found.dtype == jnp.bfloat16
    expected = exact(params, h.astype(jnp.float32), keep, chosen, False)
    slow = call(params, h, keep, chosen, False).astype(jnp.float32)
    error, rounding = (float(jnp.abs(each.astype(jnp.float32) - expected).max()) for each in (found, slow))
    assert error <= max(rounding, 2**-7 * float(jnp.abs(expected).max()))


def network(kernels: str, width: int = 16, **fields) -> SPT:
    config = ModelConfig(width=width, attention_heads=2, highest_band=5, hidden=16, blocks=1, **fields)
    rng, length = np.random.default_rng(0), 24
    some = rng.normal(size=(50, length))
    execution = ExecutionConfig(kernels=kernels)
    heads = (HeadSpec("CN", 3), HeadSpec("MBL", 0))
    energy = np.linspace(0, 10, length)
    return SPT(config, heads, energy, some.mean(axis=0), np.cov(some.T), execution, rngs=nnx.Rngs(0))


def test_a_network_of_kernels_trains_as_the_reference(rng):
    spectra, numbers = jnp.asarray(rng.normal(size=(5, 24)), jnp.float32), jnp.full(5, 29)
    keys = jax.random.split(jax.random.key(3), 5)
    found = []
    for kernels in ("tpu", "off"):
        graph, params, rest = nnx.split(network(kernels), nnx.Param, ...)

        def loss(params, graph=graph, rest=rest):
            outputs = nnx.merge(graph, params, rest)(spectra, numbers, keys)
            return (outputs["CN"] ** 2).sum() + (outputs["MBL"] ** 2).sum()

        found.append(jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)(params))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * max(1.0, float(jnp.abs(other).max())))


def test_an_answer_does_not_depend_on_batch_mates(rng):
    model = jax.jit(network("tpu").__call__, compiler_options=QUICK)
    spectra, numbers = jnp.asarray(rng.normal(size=(3, 24)), jnp.float32), jnp.full(3, 29)
    together = model(spectra, numbers)
    for row in range(3):
        alone = model(jnp.roll(spectra, -row, axis=0), numbers)
        for name, each in together.items():
            np.testing.assert_array_equal(each[row], alone[name][0])


def test_members_side_by_side(rng):
    """As an ensemble computes them."""
    config = ModelConfig(width=16, attention_heads=2, highest_band=5)
    params, call = half("bands", config, 24, "float32", rng)
    h, keep, chosen, pull = drawn(rng, 24, 4, config, "float32")

    def gradient(params):
        return jax.grad(lambda params: (call(params, h, keep, chosen, True) * pull).sum())(params)

    both = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    together = jax.jit(jax.vmap(gradient), compiler_options=QUICK)(both)
    for i in range(2):
        alone = jax.jit(gradient, compiler_options=QUICK)(jax.tree.map(lambda x, i=i: x[i], both))
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(one[i], other, rtol=1e-4, atol=1e-5 * max(1.0, float(jnp.abs(other).max())))


def test_what_kernels_do_not_take_says_so_and_runs_as_the_reference():
    spectra, numbers = jnp.ones((2, 24)), jnp.full(2, 29)
    with pytest.warns(UserWarning, match="kernel is not 3; width is no multiple of 16"):
        found = network("tpu", width=12, kernel=5)(spectra, numbers)
    np.testing.assert_array_equal(found["CN"], network("off", width=12, kernel=5)(spectra, numbers)["CN"])


def test_a_cpu_an_unknown_batch_and_who_asks_for_none_get_none():
    config, execution = ModelConfig(), ExecutionConfig()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels_for(config, execution, 144, 8) is None
        assert kernels_for(replace(config, kernel=5), ExecutionConfig(kernels="off"), 144, 8) is None
        with meant_for("tpu"):
            assert kernels_for(config, execution, 144, 8) == "tpu"
            (batch,) = export.symbolic_shape("batch")
            assert kernels_for(config, execution, 144, batch) is None
        with meant_for("cuda"):
            assert kernels_for(config, ExecutionConfig(dtype="bfloat16"), 144, 8) == "gpu"
        assert kernels_for(config, execution, 144, 8) is None
