"""What is not known is expected as its slow reference does it, marked, and has no say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from data_pipelines.schema import EnergyGrid
from spt_jax.config import ModelConfig, PeerConfig
from spt_jax.model.gaps import COMPONENTS, Gaps
from spt_jax.model.heads import HeadSpec
from spt_jax.presets import PEERS
from spt_jax.runs.blueprint import network_class

LENGTH = 40
SMALL: list[ModelConfig | PeerConfig] = [
    ModelConfig(width=8, hidden=16, gaps=True),
    *(PeerConfig(kind, width=8, depth=1, gaps=True) for kind in PEERS),
]


@pytest.fixture(scope="module")
def library():
    dataset = Dataset(LIBRARY)
    return dataset.split("train").batch.spectrum, dataset.statistics("train")


def with_gaps(rng, spectra: np.ndarray) -> np.ndarray:
    """Energies not known, here and there (in a lucky spectrum none) or from some on."""
    points = spectra.shape[1]
    there = rng.random(spectra.shape) > rng.uniform(0, 0.6, (len(spectra), 1))
    there[::2] = np.arange(points) < rng.integers(points // 3, points, (len(there[::2]), 1))
    return np.where(there, spectra, np.nan)


def test_it_is_the_conditional_mean_of_the_reference(rng, library):
    spectra, train = library
    gaps, rows = Gaps(train.mean, train.covariance), with_gaps(rng, spectra[rng.choice(len(spectra), 9)])
    found, known = gaps.fill(jnp.asarray(rows))
    np.testing.assert_array_equal(known, np.isfinite(rows))
    mean, components = np.float64(gaps.mean[...]), np.float64(gaps.components[...])
    for row, ours in zip(rows, np.asarray(found), strict=True):
        there = np.isfinite(row)
        np.testing.assert_array_equal(ours[there], row[there])
        own = components[there]
        weights = np.linalg.solve(own.T @ own + np.eye(COMPONENTS), own.T @ (row[there] - mean[there]))
        np.testing.assert_allclose(ours, np.where(there, row, mean + components @ weights), atol=2e-4)


def test_it_expects_better_than_the_mean_does(rng, library):
    spectra, train = library
    rows = with_gaps(rng, spectra)
    found, known = Gaps(train.mean, train.covariance).fill(jnp.asarray(rows))
    error, trivial = ((each - spectra)[~np.asarray(known)] for each in (np.asarray(found), train.mean))
    assert (error**2).mean() < 0.5 * (trivial**2).mean()


def network(config):
    """Of random spectra, and heads of both kinds."""
    shape = np.random.default_rng(0).normal(size=(200, LENGTH)).cumsum(axis=1)
    heads, energy = (HeadSpec("CN", 4), HeadSpec("NNRS", 0)), EnergyGrid(points=LENGTH).relative()
    return network_class(config)(config, heads, energy, shape.mean(axis=0), np.cov(shape.T), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("config", SMALL, ids=lambda config: getattr(config, "kind", "spt"))
def test_every_network_answers_alone_as_in_a_batch_and_sees_the_mark(rng, config):
    model = network(config)
    rows = jnp.asarray(with_gaps(rng, rng.normal(size=(5, LENGTH)).cumsum(axis=1)), jnp.float32)
    numbers = jnp.full(5, 29)
    together = jax.jit(lambda model, *given: model(*given))(model, rows, numbers)
    assert all(np.isfinite(together[name]).all() for name in ("CN", "NNRS"))
    alone = model(rows[2:3], numbers[2:3])
    np.testing.assert_allclose(alone["CN"][0], together["CN"][2], atol=1e-4)

    # The same numbers, known: without a mark nothing tells them apart but the noise that the filter finds.
    filled, known = model.gaps.fill(rows)
    model.gaps.unknown[...] = jnp.asarray(rng.uniform(1, 2, LENGTH), jnp.float32)
    marked, plain = model(rows, numbers)["CN"], model(filled, numbers)["CN"]
    np.testing.assert_array_equal(np.abs(marked - plain).max(axis=1) > 1e-4, ~known.all(axis=1))


def test_a_complete_spectrum_is_answered_as_without_the_part(rng):
    rows, numbers = jnp.asarray(rng.normal(size=(3, LENGTH)).cumsum(axis=1), jnp.float32), jnp.full(3, 29)
    with_part, without = (network(ModelConfig(width=8, hidden=16, gaps=gaps)) for gaps in (True, False))
    np.testing.assert_allclose(with_part(rows, numbers)["CN"], without(rows, numbers)["CN"], atol=1e-6)
