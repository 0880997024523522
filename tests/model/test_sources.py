"""The learnt vector of a spectrum's source, in SPT and in every network that it is compared with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines.schema import SOURCE
from spt_jax.config import ModelConfig, PeerConfig
from spt_jax.model.heads import HeadSpec
from spt_jax.presets import PEERS
from spt_jax.runs.blueprint import network_class

LENGTH = 30
ENERGY = np.linspace(2, 73.5, LENGTH)
HEADS = (HeadSpec("CN", 11), HeadSpec("NNRS", 0))
KINDS = ("spt", *PEERS)


def small(kind: str, sources: bool) -> ModelConfig | PeerConfig:
    if kind == "spt":
        return ModelConfig(width=8, blocks=1, hidden=16, hidden_layers=1, window=2, sources=sources)
    sizes = {"width": 8, "depth": 2, "heads": 2, "patch": 8, "kernel": 3, "prompts": 3, "kept": 2}
    return PeerConfig(kind, **sizes, sources=sources)


def parts(kind: str, sources: bool = True):
    """Graph, parameters and constants of a small network."""
    config, mean, covariance = small(kind, sources), np.tanh(ENERGY / 10), 0.01 * np.eye(LENGTH)

    def init(key):
        model = network_class(config)(config, HEADS, ENERGY, mean, covariance, rngs=nnx.Rngs(params=key))
        return nnx.split(model, nnx.Param, ...)

    return jax.jit(init)(jax.random.key(0))


def taught(kind: str, rng: np.random.Generator):
    """The same with vectors as if they had been learnt."""
    graph, params, constants = parts(kind)
    vectors = params["sources"]["vectors"]
    vectors[...] = jnp.asarray(rng.normal(size=vectors[...].shape), jnp.float32)
    return graph, params, constants


def batch(rng, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    spectra = np.tanh(ENERGY / 10) + 0.1 * rng.normal(size=(size, LENGTH))
    numbers, sources = rng.choice([28, 29], size), np.resize(np.arange(1 + len(SOURCE.classes)), size)
    return jnp.asarray(spectra, jnp.float32), jnp.asarray(numbers, jnp.int32), jnp.asarray(sources, jnp.int32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_network_with_sources_is_that_without(rng, kind):
    spectra, numbers, sources = batch(rng, 6)
    plain, told = nnx.merge(*parts(kind, False)), nnx.merge(*parts(kind))
    assert plain.sources is None
    expected = jax.jit(lambda *each: plain(*each))(spectra, numbers)
    for given in (None, sources):
        found = jax.jit(lambda *each, given=given: told(*each, None, given))(spectra, numbers)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_several_sources_are_what_each_is_alone(rng, kind):
    spectra, numbers, sources = batch(rng, 8)
    model = nnx.merge(*taught(kind, rng))
    run = jax.jit(lambda *each: model(*each[:2], None, *each[2:]))
    together, unknown = run(spectra, numbers, sources), run(spectra, numbers)
    for row in range(8):
        alone = run(spectra[row : row + 1], numbers[row : row + 1], sources[row : row + 1])
        for name in ("CN", "NNRS"):
            np.testing.assert_allclose(together[name][row], alone[name][0], atol=1e-5)
        same = np.allclose(together["CN"][row], unknown["CN"][row], atol=1e-4)
        assert same == (sources[row] == 0), "where no source is given, it is the unknown one"
    # As if a user had set it: one constant for all rows.
    model.sources.weights[...] = jax.nn.one_hot(2, 1 + len(SOURCE.classes))
    given, constant = run(spectra, numbers, jnp.full(8, 2)), jax.jit(lambda *each: model(*each))(spectra, numbers)
    np.testing.assert_allclose(given["CN"], constant["CN"], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sources_of_a_batch_have_a_gradient_and_no_other(rng, kind):
    spectra, numbers, _ = batch(rng, 64)
    graph, params, constants = parts(kind)
    sources = jnp.asarray(rng.choice([0, 4], 64), jnp.int32)

    def loss(params):
        out = nnx.merge(graph, params, constants)(spectra, numbers, None, sources)
        return out["CN"].std() + (out["NNRS"] ** 2).mean()

    gradient = jax.jit(jax.grad(loss))(params)["sources"]["vectors"][...]
    assert np.flatnonzero(np.abs(gradient).sum(axis=1)).tolist() == [0, 4]
