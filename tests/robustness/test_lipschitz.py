import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spt_jax.config import ModelConfig
from spt_jax.model.heads import HeadSpec
from spt_jax.model.spt import SPT
from spt_jax.robustness.lipschitz import Lipschitz, jacobian_norms, sampled
from spt_jax.tasks import Task, answers_of

LENGTH = 24
TASKS = (Task("CN", 1, 11, 0.0, 1.0, 1.0, 1.0), Task("MBL", 8, 0, 2.0, 0.1, 1.0, 1.0))


@pytest.fixture(scope="module")
def network():
    """With as many candidates as bands no choice can jump."""
    energy = np.linspace(2, 73.5, LENGTH)
    config = ModelConfig(width=8, hidden=16, blocks=1, attention_heads=2, bands=2, highest_band=2, kernel=1)
    heads = tuple(HeadSpec(task.name, task.classes) for task in TASKS)

    def init(key):
        model = SPT(config, heads, energy, np.tanh(energy / 10), 0.01 * np.eye(LENGTH), rngs=nnx.Rngs(params=key))
        return nnx.split(model, nnx.Param, ...)

    parts = jax.jit(init)(jax.random.key(0))
    return jax.jit(lambda spectrum, number: nnx.merge(*parts)(spectrum, number))


@pytest.fixture
def batch(rng):
    spectra = np.tanh(np.linspace(0.2, 7, LENGTH)) + 0.1 * rng.normal(size=(24, LENGTH))
    return spectra.astype(np.float32), np.full(24, 29, np.int32)


def test_norms_are_the_singular_values_of_the_whole_jacobian(network, batch):
    """Against one made point by point of small steps; and no random step changes an answer more.

    In a few rows in a hundred the noise filter's median or a leaky ReLU has a kink within a step, and both are right.
    """
    spectra, numbers = batch
    found, step = jacobian_norms(network, spectra, numbers, TASKS), 3e-4

    def predictor(spectrum, number):
        return answers_of(network(jnp.asarray(spectrum, jnp.float32), jnp.asarray(number)), TASKS)

    up, down = ([predictor(spectra + sign * row, numbers) for row in step * np.eye(LENGTH)] for sign in (1, -1))
    for task in TASKS:
        change = np.stack([a[task.name] - b[task.name] for a, b in zip(up, down, strict=True)]) / task.std
        slow = change.reshape(LENGTH, len(spectra), -1).transpose(1, 2, 0) / (2 * step)
        differences = np.abs(np.linalg.norm(slow, ord=2, axis=(1, 2)) / found[task.name] - 1)
        assert np.median(differences) < 2e-3 and np.mean(differences < 0.01) > 0.7, differences
    ratios = sampled(predictor, spectra, numbers, TASKS, size=step, directions=8)
    for name, norms in found.items():
        assert (ratios[name] > 0).all() and (ratios[name] < 1.05 * norms).all()


def test_a_linear_network_has_the_norms_of_its_matrices(rng, monkeypatch):
    weights, row = rng.normal(size=(11, LENGTH)), rng.normal(size=LENGTH)
    spectra, numbers = rng.normal(size=(7, LENGTH)) / 10, np.full(7, 29, np.int32)

    def linear(spectrum, _):
        return {"CN": spectrum @ jnp.asarray(weights.T, jnp.float32), "MBL": spectrum @ jnp.asarray(row, jnp.float32)}

    monkeypatch.setattr("spt_jax.robustness.lipschitz.CHUNK", 3)
    found = jacobian_norms(linear, spectra, numbers, TASKS)
    p = np.asarray(jax.nn.softmax(spectra @ weights.T))
    jacobians = (p[:, :, None] * np.eye(11) - p[:, :, None] * p[:, None, :]) @ weights
    np.testing.assert_allclose(found["CN"], [np.linalg.svd(j)[1][0] for j in jacobians], rtol=1e-4)
    np.testing.assert_allclose(found["MBL"], np.linalg.norm(row), rtol=1e-5)


def test_sampled_ratios_are_below_the_norm_and_reach_it_in_few_dimensions(rng):
    direction = rng.normal(size=2)

    def predictor(spectrum, _):
        outputs = {"MBL": spectrum.astype(np.float64) @ direction, "CN": np.zeros((len(spectrum), 11))}
        return answers_of(outputs, TASKS)

    found = sampled(predictor, rng.normal(size=(6, 2)) / 10, np.full(6, 29), TASKS, directions=200)
    assert (found["MBL"] <= np.linalg.norm(direction) * 1.001).all()
    assert (found["MBL"] > np.linalg.norm(direction) * 0.98).all()
    assert (found["CN"] == 0).all()


def test_a_jump_is_seen():
    def tree(spectrum, _):
        return {"CN": np.eye(11)[(spectrum[:, 0] > 0).astype(int)], "MBL": np.zeros(len(spectrum))}

    found = sampled(tree, np.zeros((3, 4)), np.zeros(3), TASKS, size=0.1, directions=30)
    np.testing.assert_allclose(found["CN"], np.sqrt(2) / 0.1)


def test_summary():
    summary = Lipschitz.of(np.arange(101.0))
    assert (summary.median, summary.high, summary.largest) == (50, 95, 100)
