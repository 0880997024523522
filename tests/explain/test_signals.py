"""Shapley values are exact, on any game and on planted models, and a signal that is missing plays no part."""

import itertools

import jax
import numpy as np
import pytest
from flax import nnx

from data_pipelines.dataset.data import Split
from data_pipelines.dataset.elements import ElementStatistics
from data_pipelines.errors import RunError
from data_pipelines.schema import STRUCTURE_LABELS, Batch, EnergyGrid, column_of, descriptor
from spt_jax.config import FusionConfig, ModelConfig
from spt_jax.explain import signals
from spt_jax.explain.signals_explained import pooling_weights
from spt_jax.inference.predict import Model
from spt_jax.reports.trivial import trivial_answers
from spt_jax.runs.blueprint import Blueprint
from spt_jax.scoring.intervals import draws
from spt_jax.tasks import Task

POINTS, COUNT = 16, 4
X, VACANCY = column_of("x_Li"), column_of("vacancy")


def in_any_order(values: np.ndarray) -> np.ndarray:
    """What each player adds, over every order in which they may come."""
    count = len(values).bit_length() - 1
    found, orders = np.zeros((count, *values.shape[1:])), list(itertools.permutations(range(count)))
    for order in orders:
        so_far = 0
        for player in order:
            found[player] += (values[so_far | 1 << player] - values[so_far]) / len(orders)
            so_far |= 1 << player
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shapley_values_are_the_mean_over_orders_and_add_up(rng, count):
    values = rng.normal(size=(2**count, 7))
    found = signals.shapley(values)
    np.testing.assert_allclose(found, in_any_order(values), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), values[-1] - values[0], atol=1e-12)
    assert signals.left_out(values)[0] == pytest.approx(values[-1] - values[-2])


def test_choices():
    assert not signals.subsets(3)[0].any() and signals.subsets(3)[-1].all()
    assert len(np.unique(signals.subsets(5), axis=0)) == 32
    with pytest.raises(RunError, match="at most 6"):
        signals.subsets(7)


def planted(rng, rows=40) -> Batch:
    """Li is told by signal 0, a vacancy only by signals 1 and 2 together; some rows lack some signals."""
    spectrum = rng.normal(size=(rows, COUNT, POINTS)).astype(np.float32)
    labels, mask = np.zeros((rows, STRUCTURE_LABELS), np.float32), np.zeros((rows, STRUCTURE_LABELS), bool)
    labels[:, X] = spectrum[:, 0].mean(axis=1) + 1
    labels[:, VACANCY] = spectrum[:, 1].mean(axis=1) * spectrum[:, 2].mean(axis=1) > 0
    mask[:, [X, VACANCY]] = True
    spectrum[rng.random((rows, COUNT)) < 0.2] = np.nan
    return Batch(spectrum.reshape(rows, -1), np.zeros(rows, np.int32), labels, mask)


def answer(spectrum, atomic_number):
    """As good as it can be on what is there."""
    mean = np.nan_to_num(spectrum.reshape(len(spectrum), COUNT, POINTS).mean(axis=2))
    chance = 1 / (1 + np.exp(-30 * mean[:, 1] * mean[:, 2]))
    return {"x_Li": mean[:, 0] + 1, "vacancy": np.stack([1 - chance, chance], axis=1)}


def test_answers_are_those_to_each_choice(rng, monkeypatch):
    monkeypatch.setattr(signals, "PIECE", 16)
    batch = planted(rng)
    nothing, asked = trivial_answers(batch, batch), []

    def counted(spectrum, atomic_number):
        asked.append(len(spectrum))
        assert np.isfinite(spectrum).any(axis=1).all()
        return answer(spectrum, atomic_number)

    found = signals.answers_by_subset(counted, batch.spectrum, batch.atomic_number, COUNT, nothing)
    has = signals.there(batch.spectrum, COUNT)
    assert sum(asked) == (2 ** has.sum(axis=1) - 1).sum()
    for b, chosen in enumerate(signals.subsets(COUNT)):
        direct = answer(signals.kept(batch.spectrum, chosen), batch.atomic_number)
        empty = ~(has & chosen).any(axis=1)
        for name, own in direct.items():
            np.testing.assert_allclose(found[name][b][~empty], own[~empty])
            np.testing.assert_allclose(found[name][b][empty], nothing[name][empty])


def test_a_missing_signal_is_no_player(rng):
    batch = planted(rng)
    nothing = trivial_answers(batch, batch)
    found = signals.answers_by_subset(answer, batch.spectrum, batch.atomic_number, COUNT, nothing)
    values = signals.told(descriptor("vacancy"), found["vacancy"])
    each, has = signals.shapley(values), signals.there(batch.spectrum, COUNT)
    assert (each[~has.T] == 0).all() and (signals.left_out(values)[~has.T] == 0).all()
    for row, own in enumerate(has):
        players = np.flatnonzero(own)
        if not len(players):
            continue
        # The game of those alone that are there.
        numbers = (signals.subsets(len(players)) @ (1 << players)).astype(int)
        np.testing.assert_allclose(each[players, row], signals.shapley(values[numbers, row]), atol=1e-12)


def test_scores_are_shared_among_signals_that_tell(rng):
    batch = planted(rng, 300)
    batch = batch._replace(spectrum=np.nan_to_num(batch.spectrum))
    nothing = trivial_answers(batch, batch)
    found = signals.answers_by_subset(answer, batch.spectrum, batch.atomic_number, COUNT, nothing)
    d, truth = descriptor("vacancy"), batch.labels[:, VACANCY]
    scores = np.array([signals.scored(d, truth, each) for each in signals.told(d, found["vacancy"])])
    assert scores[0] == 0.5
    each = signals.shapley(scores)
    assert each.sum() == pytest.approx(scores[-1] - 0.5, abs=1e-12)
    assert each[0] == each[3] == 0 and min(each[1:3]) > 0.05
    drawn = draws(np.arange(300), 50)
    assert signals.resampled(d, truth, found["vacancy"][-1][:, 1], np.arange(300), drawn).mean() == pytest.approx(
        scores[-1], abs=0.05
    )


def test_only_the_stretches_that_are_read_cost_anything(rng):
    batch, axis = planted(rng, 100), np.arange(POINTS) * 0.5 + 2
    parts = [part for s in range(COUNT) for part in signals.stretches(s, "Ni K", axis, 4.0)]
    assert [(part.start, part.stop) for part in parts[:2]] == [(2, 6), (6, 10)] and len(parts) == 2 * COUNT
    lost = signals.lost_stretches(answer, batch, parts, np.zeros(COUNT * POINTS))
    assert min(lost["x_Li"][:2]) > 0.01 and not lost["x_Li"][2:].any()
    r = np.arange(1, POINTS + 1) * 0.5
    assert signals.stretches(1, "PDF", r, 3.0)[0] == (1, slice(16, 22), 0.0, 3.0)


@pytest.fixture(scope="module")
def fusion() -> Model:
    grid = EnergyGrid(points=POINTS, signals=("Ni K", "Mn K", "O K", "PDF"))
    trunk = ModelConfig(width=8, bands=0, highest_band=5, attention="none", hidden=16, readout_channels=2)
    wide = COUNT * POINTS
    blueprint = Blueprint(
        model=FusionConfig(trunk, width=8, heads=2, channels=4, hidden=16),
        grid=grid,
        absorbers=("structure -",),
        tasks=(Task("x_Li", X, 0, 1.0, 0.3, 1.0, 1.0), Task("vacancy", VACANCY, 2, 0.0, 1.0, 1.0, 1.0)),
        classes={"vacancy": descriptor("vacancy").classes},
        spectrum_mean=(0.0,) * wide,
        spectrum_std=(1.0,) * wide,
        dataset="",
    )
    made = blueprint.build(jax.random.key(0), np.eye(wide), ElementStatistics.none(wide))
    return Model(blueprint, nnx.merge(*made))


def test_a_fusion_network_is_asked_for_all_choices_at_once(rng, fusion):
    batch = planted(rng, 20)
    nothing = trivial_answers(batch, batch)
    given = batch.spectrum, batch.atomic_number, COUNT, nothing
    fast, slow = (signals.answers_by_subset(each, *given) for each in (fusion, fusion.answers))
    for name in ("x_Li", "vacancy"):
        np.testing.assert_allclose(fast[name], slow[name], atol=2e-5)
        assert np.ptp(fast[name], axis=0).max() > 1e-3
    split = Split(tuple("abcdefghijklmnopqrst"), ("m",) * 20, ("structure -",) * 20, batch)
    weights = pooling_weights(fusion, split)
    has = signals.there(batch.spectrum, COUNT)
    np.testing.assert_allclose(weights.sum(axis=1), has.any(axis=1), atol=1e-5)
    assert not weights[~has].any()
