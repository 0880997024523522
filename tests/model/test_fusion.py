"""A signal that is missing has no say at all, and no row has a say in another's answer."""

import json
import pickle
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import workload
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import STRUCTURE_LABELS, Batch, EnergyGrid, column_of, encode_labels
from spt_jax.config import FusionConfig, LabelsConfig, MaskedConfig, ModelConfig
from spt_jax.inference.predict import Model
from spt_jax.model.fusion import masked_softmax
from spt_jax.presets import PEERS
from spt_jax.runs.blueprint import Blueprint
from spt_jax.training.assemble import assemble

POINTS, COUNT = 16, 6
SIGNALS = workload.SIGNALS


@pytest.fixture(scope="module")
def work() -> workload.Workload:
    return workload.make(workload.fusion_config(small=True), 64, POINTS)


@pytest.fixture(scope="module")
def network(work):
    return nnx.merge(work.made.graph, work.params, work.constants)


@pytest.fixture
def rows(work) -> np.ndarray:
    """(COUNT, S, L): the last row has no signal, the one before it one, the others some."""
    found = np.array(work.batch.spectrum[:COUNT]).reshape(COUNT, len(SIGNALS), POINTS)
    found[0] = np.nan_to_num(found[0], nan=0.5)
    found[1, 3] = np.nan
    found[-2, 1:] = np.nan
    found[-2, 0] = 1
    found[-1] = np.nan
    return found


@pytest.fixture(scope="module")
def answer(work):
    apply = jax.jit(work.apply)

    def run(rows: np.ndarray) -> np.ndarray:
        """All outputs side by side."""
        flat = rows.reshape(len(rows), -1).astype(np.float32)
        found = apply(work.params, flat, np.zeros(len(rows), np.int32))
        return np.concatenate([np.asarray(each).reshape(len(rows), -1) for each in found.values()], axis=1)

    return run


def test_a_row_alone_is_that_row_in_a_batch_of_any_order(answer, rows, rng):
    every = answer(rows)
    assert np.isfinite(every).all()  # also of no signal at all
    order = rng.permutation(COUNT)
    np.testing.assert_array_equal(answer(rows[order]), every[order])
    single = np.concatenate([answer(rows[i : i + 1]) for i in range(COUNT)])
    np.testing.assert_allclose(single, every, atol=1e-5)
    others = [i for i in range(COUNT - 1) if np.abs(every[i] - every[-1]).max() < 1e-4]
    assert not others


def test_whatever_fills_a_missing_signal_it_is_missing(answer, rows, rng):
    filled, gone = rows.copy(), np.isnan(rows)
    filled[gone] = rng.choice([np.nan, -np.nan, np.inf, -np.inf], gone.sum())
    np.testing.assert_array_equal(answer(filled), answer(rows))


def test_missing_signals_weigh_nothing_and_have_no_gradient(network, rows):
    flat, zeros = jnp.asarray(rows.reshape(COUNT, -1)), jnp.zeros(COUNT, jnp.int32)
    there = np.isfinite(rows).all(axis=2)
    weights = np.asarray(nnx.jit(lambda network: network.explained(flat, zeros)[1])(network))
    assert (weights[~there] == 0).all() and (weights[there] > 0).all()
    np.testing.assert_allclose(weights[:-1].sum(axis=1), 1, atol=1e-6)

    graph, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    def slopes_of(params, flat):
        def total(params, flat):
            return sum((each**2).sum() for each in nnx.merge(graph, params, rest)(flat, zeros).values())

        return jax.grad(total, argnums=(0, 1))(params, flat)

    slope = np.asarray(slopes_of(params, flat)[1]).reshape(rows.shape)
    assert (slope[~there] == 0).all() and (np.abs(slope[there]).max(axis=1) > 0).all()
    without = flat.at[:, 3 * POINTS :].set(jnp.nan)  # the only PDF
    found = jax.tree.leaves_with_path(slopes_of(params, without)[0])
    slopes = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}
    assert all(np.isfinite(leaf).all() for leaf in slopes.values())
    assert not any(leaf.any() for name, leaf in slopes.items() if "radial" in name)
    assert any(leaf.any() for name, leaf in slopes.items() if "trunk" in name)


def test_pooling_is_that_of_the_formula(network, rng):
    """In float64, a sum over the signals that are there."""
    tokens, there = rng.normal(size=(5, 4, 8)), rng.random((5, 4)) < 0.6
    there[0], there[1] = False, True
    found, weights = network.pooled(jnp.asarray(tokens, jnp.float32), jnp.asarray(there))
    scale, shift = (np.float64(each[...]) for each in (network.norm.scale, network.norm.bias))
    centred = tokens - tokens.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * scale + shift
    score = normed @ np.float64(network.query.kernel[...])
    value = normed @ np.float64(network.value.kernel[...]) + np.float64(network.value.bias[...])
    heads = score.shape[2]
    for row in range(5):
        own = np.flatnonzero(there[row])
        expected = np.zeros(8)
        for head in range(heads):
            part = slice(head * 8 // heads, (head + 1) * 8 // heads)
            share = np.exp(score[row, own, head])
            share = share / share.sum() if len(own) else share
            np.testing.assert_allclose(weights[row, own, head], share, atol=1e-6)
            expected[part] = share @ value[row, own, part]
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_a_masked_softmax_survives_any_score():
    score = jnp.array([[1e30, -1e30, 3.0], [jnp.inf, 2.0, 2.0], [-1e30, -1e30, 7.0]])[..., None]
    there = jnp.array([[True, True, False], [False, True, True], [False, False, False]])
    found = masked_softmax(score, there)[..., 0]
    np.testing.assert_array_equal(found, [[1, 0, 0], [0, 0.5, 0.5], [0, 0, 0]])
    slope = jax.grad(lambda x: (masked_softmax(x, there) ** 2).sum())(score.at[1, 0].set(1e30))
    assert np.isfinite(slope).all()


def test_the_gradient_of_a_masked_softmax_is_that_of_a_softmax_of_what_is_there(rng):
    """Also of one signal, whose weight is 1 whatever its score."""
    score, goal = (jnp.asarray(rng.normal(size=(7, 3, 2)), jnp.float32) for _ in range(2))
    there = np.array([[n >> i & 1 for i in range(3)] for n in range(1, 8)], bool)
    found = jax.grad(lambda x: (goal * masked_softmax(x, jnp.asarray(there))).sum())(score)
    for row in range(7):
        own = np.flatnonzero(there[row])
        expected = jax.grad(lambda x, row=row, own=own: (goal[row, own] * jax.nn.softmax(x, axis=0)).sum())(
            score[row, own]
        )
        np.testing.assert_allclose(found[row, own], expected, atol=1e-6)
        assert not np.asarray(found)[row, ~there[row]].any()


def test_dropout_belongs_to_the_row(network, rows):
    flat, zeros = jnp.asarray(rows.reshape(COUNT, -1)), jnp.zeros(COUNT, jnp.int32)
    keys = jax.random.split(jax.random.key(1), COUNT)
    run = jax.jit(lambda flat, keys: network(flat, zeros[: len(flat)], keys)["x_Li"])
    every = run(flat, keys)
    np.testing.assert_allclose(run(flat[2:4], keys[2:4]), every[2:4], atol=1e-5)
    assert np.abs(every - run(flat, keys[::-1]))[:-1].min() > 0


def test_a_blueprint_says_all_and_an_export_answers_the_same(work, network, rows):
    blueprint = work.made.blueprint
    assert Blueprint.from_json(json.loads(json.dumps(blueprint.to_json()))) == blueprint
    model = Model(blueprint, network)
    assert "FUSION" in repr(model)
    flat, zeros = rows.reshape(COUNT, -1), np.zeros(COUNT, np.int32)
    own, exported = (each.outputs(flat, zeros) for each in (model, pickle.loads(pickle.dumps(model))))
    for name, output in own.items():
        np.testing.assert_allclose(exported[name], output, atol=1e-5)


@pytest.mark.parametrize("signals", [("Ni K",), ("PDF", "dPDF Ni"), ("XANES", "EELS")])
def test_any_choice_of_signals_makes_a_network_in_either_precision(work, signals, rng):
    grid = replace(work.grid, signals=signals)
    batch = workload.structures_of(rng, 32, grid)
    config = workload.fusion_config("bfloat16", small=True, standardise="element")
    made = assemble(config, Statistics.of(batch, {"structure -": 32}), grid, "", 10)
    found = made.network(made.params)(batch.spectrum, batch.atomic_number)
    assert all(each.dtype == np.float32 and np.isfinite(each).all() for each in found.values())


def test_networks_and_settings_of_another_kind_are_refused(work):
    statistics, grid = Statistics.of(work.batch, {"structure -": 64}), work.grid

    def make(config, grid=grid, statistics=statistics):
        return assemble(config, statistics, grid, "", 10)

    with pytest.raises(RunError, match="SPT reads one spectrum, and a row of this dataset has Ni K, Mn K"):
        make(replace(work.config, model=ModelConfig()))
    single = workload.make(workload.config_of("dense", "float32", small=True), 64, POINTS)
    alone = Statistics.of(single.batch, {"Cu K": 64})
    with pytest.raises(RunError, match="fusion reads several signals"):
        make(replace(work.config, objective=LabelsConfig()), single.grid, alone)
    with pytest.raises(RunError, match=r"signal_drop .* a row of this dataset has one"):
        make(replace(single.config, objective=LabelsConfig(signal_drop=0.1)), single.grid, alone)
    for wrong in ({"cut": 0.1}, {"broadening": 1.0}, {"self_absorption": 0.1}):
        with pytest.raises(RunError, match=f"{next(iter(wrong))} .* several signals"):
            make(replace(work.config, objective=replace(work.config.objective, **wrong)))
    with pytest.raises(RunError, match="several signals"):
        make(replace(work.config, objective=MaskedConfig()))
    with pytest.raises(RunError, match="band_input"):
        FusionConfig(ModelConfig(band_input="derivative"))
    rare = work.batch.spectrum.copy()
    rare[3:, POINTS : 2 * POINTS] = np.nan
    few = Statistics.of(work.batch._replace(spectrum=rare), {"structure -": 64})
    with pytest.raises(RunError, match=r"fewer than 20 training rows have Mn K \([0-3]\)"):
        make(work.config, statistics=few)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "ft_transformer"])
def test_networks_that_spt_is_compared_with_take_such_rows_as_they_are(work, kind):
    config = replace(work.config, model=replace(PEERS[kind], width=8, depth=1))
    made = assemble(config, Statistics.of(work.batch, {"structure -": 64}), work.grid, "", 10)
    found = made.network(made.params)(work.batch.spectrum, work.batch.atomic_number)
    assert all(np.isfinite(each).all() for each in found.values())


def test_what_only_two_signals_together_say_is_learnt(rng):
    """Each has a bump or not; the label is whether just one of them has."""
    grid, count = EnergyGrid(points=16, signals=("Ni K", "O K")), 256
    bump = np.exp(-((np.arange(16) - 8.0) ** 2) / 4)
    bits = rng.integers(2, size=(count, 2))
    rows = (bits[..., None] * bump + 0.05 * rng.normal(size=(count, 2, 16))).astype(np.float32)
    labels = np.full((count, STRUCTURE_LABELS), np.nan)
    labels[:, column_of("vacancy")] = bits.sum(axis=1) == 1
    batch = Batch(rows.reshape(count, -1), np.zeros(count, np.int32), *encode_labels(labels))
    config = workload.fusion_config(small=True)
    config = replace(config, objective=replace(config.objective, label_smoothing=0.0, signal_drop=0.2))
    config = replace(config, train=replace(config.train, learning_rate=1e-2, ema=0.9))
    config = replace(config, model=replace(config.model, width=16, hidden=32, dropout=0.0))
    made = assemble(config, Statistics.of(batch, {"structure -": count}), grid, "", 2)
    step, state = jax.jit(made.step), made.state()
    for _ in range(150):
        state, _ = step(state, batch)
    network = made.network(made.average(state))

    def accuracy(*hidden: int) -> float:
        seen = rows.copy()
        seen[:, list(hidden)] = np.nan
        found = np.asarray(network(seen.reshape(count, -1), batch.atomic_number)["vacancy"])
        return float((found.argmax(axis=1) == labels[:, column_of("vacancy")]).mean())

    assert accuracy() > 0.95 and max(accuracy(0), accuracy(1)) < 0.7
