"""The networks that SPT is compared with: trained by the same trainer, called in the same way."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import UserError
from data_pipelines.library import LIBRARY
from spt_jax.cli import main
from spt_jax.config import ModelConfig, PeerConfig
from spt_jax.inference.evaluate import evaluate
from spt_jax.inference.load import load_run
from spt_jax.model.heads import HeadSpec
from spt_jax.model.radial import halved
from spt_jax.peers.transformers import PromptAttention, SelfAttention, Tokens, strongest, uniform_around_zero
from spt_jax.presets import PEERS
from spt_jax.reports.report import write_report
from spt_jax.runs.blueprint import Blueprint, network_class
from spt_jax.scoring.metrics import score_answers
from tests.pages import Page

LENGTH = 30
ENERGY = np.linspace(2, 73.5, LENGTH)
HEADS = (HeadSpec("CN", 11), HeadSpec("NNRS", 0))


def small(kind: str) -> PeerConfig:
    return PeerConfig(kind, width=8, depth=2, heads=2, patch=8, kernel=3, prompts=3, kept=2, dropout=0.2)


def parts(kind: str):
    """Graph, parameters and constants of a small network."""

    def init(key):
        mean, covariance = np.tanh(ENERGY / 10), 0.01 * np.eye(LENGTH)
        model = network_class(small(kind))(small(kind), HEADS, ENERGY, mean, covariance, rngs=nnx.Rngs(params=key))
        return nnx.split(model, nnx.Param, ...)

    # Random numbers that XLA compiles at once: their quality does not matter here.
    return jax.jit(init)(jax.random.key(0, impl="unsafe_rbg"))


def batch(rng, size: int) -> tuple[jax.Array, jax.Array]:
    spectra = np.tanh(ENERGY / 10) + 0.1 * rng.normal(size=(size, LENGTH))
    return jnp.asarray(spectra, jnp.float32), jnp.asarray(rng.choice([28, 29], size), jnp.int32)


@pytest.mark.parametrize("kind", PEERS)
def test_rows_are_apart_and_dropout_comes_with_keys(rng, kind):
    (spectra, numbers), (others, other_numbers) = batch(rng, 4), batch(rng, 4)
    graph, params, constants = parts(kind)
    model = jax.jit(lambda *inputs: nnx.merge(graph, params, constants)(*inputs))
    mates, mate_numbers = others.at[2].set(spectra[2]), other_numbers.at[2].set(numbers[2])
    plain, among_others = model(spectra, numbers), model(mates, mate_numbers)
    assert {name: value.shape for name, value in plain.items()} == {"CN": (4, 11), "NNRS": (4,)}
    for name in plain:
        np.testing.assert_allclose(among_others[name][2], plain[name][2], atol=1e-5)
        assert not np.allclose(among_others[name], plain[name], atol=1e-5)
    assert not np.allclose(model(spectra, 57 - numbers)["CN"], plain["CN"], atol=1e-6)

    keys, other_keys = (jax.random.split(jax.random.key(seed), 4) for seed in (1, 2))
    dropped = model(spectra, numbers, keys)["CN"]
    assert not np.allclose(dropped, plain["CN"], atol=1e-3)
    among_others = model(mates, mate_numbers, other_keys.at[2].set(keys[2]))["CN"]
    np.testing.assert_allclose(among_others[2], dropped[2], atol=1e-5)


@pytest.mark.parametrize("kind", PEERS)
def test_every_parameter_has_a_gradient(rng, kind):
    # Of a few spectra a ReLU may be shut for all.
    (graph, params, constants), (spectra, numbers) = parts(kind), batch(rng, 64)

    def loss(params):
        out = nnx.merge(graph, params, constants)(spectra, numbers)
        return out["CN"].std() + (out["NNRS"] ** 2).mean()

    gradient = jax.jit(jax.grad(loss))(params)
    dead = [path for path, leaf in jax.tree.leaves_with_path(gradient) if not np.abs(leaf).sum() > 0]
    assert not dead


def test_trains_saves_and_answers_again(tmp_path):
    """Once, as compiling a training takes long: a trainer sees nothing of a network but how it is called."""
    dataset = Dataset(LIBRARY)
    network = ["--model.width", "8", "--model.depth", "2"]
    schedule = ["--objective.descriptors", "OS", "MBL", "--train.epochs", "2", "--train.batch-size", "64"]
    main(["train", "mlp", "--data", str(LIBRARY), "--out", str(tmp_path), *network, *schedule])
    last = json.loads((tmp_path / "train_log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    model = load_run(tmp_path)
    assert model.blueprint.model == PeerConfig("mlp", width=8, depth=2)
    evaluation = evaluate(model, dataset, "validation")
    scores, batch = evaluation.metrics["descriptors"], evaluation.split.batch
    # Training judges by the most likely class, before anything is fitted to decide better.
    likely = score_answers(model.answers(batch.spectrum, batch.atomic_number), batch)
    assert likely["OS"]["f1_weighted"] == pytest.approx(last["validation"]["OS"])
    assert scores["MBL"]["r2"] == pytest.approx(last["validation"]["MBL"], abs=1e-5)
    write_report(tmp_path, evaluation, model.blueprint, dataset)
    assert "Chosen bands" not in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_a_checkpoint_says_which_network():
    blueprint = Blueprint(small("cnn"), Dataset(LIBRARY).grid, ("Cu K",), (), {}, (), (), "")
    assert Blueprint.from_json(blueprint.to_json()).model == small("cnn")
    assert Blueprint.from_json({**blueprint.to_json(), "model": {"width": 16}}).model == ModelConfig(width=16)


@pytest.mark.parametrize("fields", [{"heads": 3}, {"kernel": 4}, {"kept": 0}])
def test_impossible_sizes_are_refused(fields):
    with pytest.raises(UserError):
        PeerConfig("amformer", **{"width": 8, "depth": 1, **fields})


def test_halving_keeps_the_mean_of_pairs_and_an_odd_end(rng):
    x = rng.normal(size=(5, 2, 3)).astype(np.float32)
    expected = [(x[0] + x[1]) / 2, (x[2] + x[3]) / 2, x[4]]
    np.testing.assert_allclose(halved(jnp.asarray(x)), expected, atol=1e-6)


def test_each_energy_reaches_its_own_token_alone(rng):
    tokens = Tokens(10, 4, 6, uniform_around_zero(1.0), rngs=nnx.Rngs(0))
    signal, site = jnp.asarray(rng.normal(size=(1, 10)), jnp.float32), tokens.element(jnp.array([29]))
    changed = tokens(signal.at[0, 9].add(1.0), site) - tokens(signal, site)
    assert tokens(signal, site).shape == (1, 5, 6)
    np.testing.assert_allclose(changed[0, 4], tokens.weight[...][2, 1], atol=1e-5)
    assert not np.abs(changed[0, :4]).any()


def test_self_attention_is_the_float64_one_and_knows_no_order(rng):
    attention = SelfAttention(6, 2, rngs=nnx.Rngs(int(rng.integers(1000))))
    x = rng.normal(size=(2, 5, 6))
    found = np.asarray(attention(jnp.asarray(x, jnp.float32), 0.0, None, 0))
    into, out = (
        (np.asarray(each.kernel[...], np.float64), np.asarray(each.bias[...]))
        for each in (attention.into, attention.out)
    )
    query, key, value = np.split(x @ into[0] + into[1], 3, axis=-1)
    for row in range(2):
        mixed = np.zeros((5, 6))
        for channels in (slice(0, 3), slice(3, 6)):
            weights = np.exp(query[row][:, channels] @ key[row][:, channels].T / np.sqrt(3))
            mixed[:, channels] = weights / weights.sum(axis=1, keepdims=True) @ value[row][:, channels]
        np.testing.assert_allclose(found[row], mixed @ out[0] + out[1], atol=1e-5)
    order = rng.permutation(5)
    np.testing.assert_allclose(
        attention(jnp.asarray(x[:, order], jnp.float32), 0.0, None, 0), found[:, order], atol=1e-5
    )


def test_hard_attention_keeps_the_k_greatest(rng):
    score = rng.normal(size=(3, 2, 7)).astype(np.float32)
    kept = np.asarray(strongest(jnp.asarray(score), 3))
    assert (np.isfinite(kept).sum(axis=-1) == 3).all()
    np.testing.assert_array_equal(np.sort(kept, axis=-1)[..., -3:], np.sort(score, axis=-1)[..., -3:])
    np.testing.assert_array_equal(strongest(jnp.asarray(score), 9), score)


@pytest.mark.parametrize("product", [True, False])
def test_the_branches_multiply_and_add_the_chosen_tokens(product):
    """A prompt that likes the first channel, which two of four tokens have; faintly, so each gets half of it."""
    config = PeerConfig("amformer", width=4, depth=1, heads=1, prompts=1, kept=2)
    attention = PromptAttention(config, product, rngs=nnx.Rngs(0))
    first, eye = np.zeros((4, 4), np.float32), np.eye(4, dtype=np.float32)
    first[0, 0] = 1
    attention.query.kernel[...], attention.key.kernel[...] = jnp.asarray(1e-4 * first), jnp.asarray(first)
    # Values doubled, so that halves make whole sums and powers.
    attention.value.kernel[...], attention.out.kernel[...] = jnp.asarray(2 * eye), jnp.asarray(eye)
    attention.prompts[...] = jnp.ones((1, 4))
    x = np.array([[9.0, 1.5, 0.5, -3.0], [0.0, 5.0, 7.0, 9.0], [8.0, 3.0, 2.0, 1.0], [1.0, 8.0, 8.0, 8.0]])
    found = attention(jnp.asarray(x[None], jnp.float32), 0.0, None, 0)[0, 0]
    one, other = (np.maximum(x[i], 0) + 1 if product else x[i] for i in (0, 2))
    np.testing.assert_allclose(found, one * other if product else one + other, rtol=2e-3)
