import time

import numpy as np
import pytest

from data_pipelines.schema import DESCRIPTORS, NAMES, Batch, descriptor
from spt_jax.scoring.intervals import (
    alike,
    average_ranks,
    critical_distance,
    differences,
    draws,
    intervals,
    resampled_scores,
)
from spt_jax.scoring.metrics import main_score, score
from spt_jax.study.figures import critical_difference_figure

SITES = 300


@pytest.fixture
def materials(rng):
    return np.array([f"m{i}" for i in rng.integers(60, size=SITES)])


def labels(rng, name):
    """Truth and a prediction that is right more often than not."""
    d = descriptor(name)
    if d.kind == "class":
        share = rng.dirichlet(np.full(len(d.classes), 0.2))
        truth = rng.choice(len(d.classes), size=SITES, p=share).astype(np.float32)
        return truth, np.where(rng.random(SITES) < 0.7, truth, rng.integers(len(d.classes), size=SITES))
    truth = 2 + rng.random(SITES)
    return truth, truth + rng.normal(scale=0.2, size=SITES)


@pytest.mark.parametrize("name", ["CN", "CN2", "MBL"])
def test_every_resample_is_scored_as_scikit_learn_does(rng, materials, name):
    truth, prediction = labels(rng, name)
    drawn = draws(materials, 40, seed=int(rng.integers(1000)))
    found = resampled_scores(descriptor(name), truth, prediction, materials, drawn)
    for counts, fast in zip(drawn, found, strict=True):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(materials == m), n) for m, n in zip(np.unique(materials), counts, strict=True)]
        )
        assert fast == pytest.approx(main_score(score(descriptor(name), truth[rows], prediction[rows])), abs=1e-9)


def test_draws_are_of_as_many_materials_and_the_same_again(materials):
    drawn = draws(materials, 50)
    count = len(np.unique(materials))
    assert drawn.shape == (50, count) and (drawn.sum(axis=1) == count).all()
    np.testing.assert_array_equal(drawn, draws(materials, 50))
    assert not np.array_equal(drawn, draws(materials, 50, seed=1))


def test_no_r2_where_a_resample_has_one_label():
    truth, names = np.array([2.0, 2.0, 2.1]), np.array(["a", "a", "b"])
    found = resampled_scores(descriptor("MBL"), truth, truth + 0.1, names, np.array([[2, 0], [1, 1], [0, 2]]))
    np.testing.assert_array_equal(np.isnan(found), [True, False, True])


def test_a_thousand_resamples_take_less_than_a_second(rng):
    names = rng.integers(470, size=866)
    truth, prediction = rng.integers(61, size=(2, 866))
    before = time.process_time()
    resampled_scores(descriptor("CN2"), truth, prediction, names, draws(names, 1000))
    assert time.process_time() - before < 1


def test_intervals_cover_what_they_estimate(rng):
    """R2 of a model with materials that are alike inside: an interval over sites would be too narrow."""
    held = 0
    for _ in range(60):
        group = np.repeat(np.arange(80), 8)
        truth = rng.normal(size=80)[group]
        error = np.sqrt(0.5) * rng.normal(size=80)[group]
        batch, answers = table("MBL", 2 + truth / 10, (truth + error) / 10 + 2)
        found = intervals(answers, batch, tuple(group.astype(str)))["MBL"]
        held += found.low < 0.5 < found.high
        assert found.low < found.score < found.high
    assert held >= 48


def table(name, truth, *predictions):
    """A batch with labels of one descriptor only, and answers."""
    values = np.zeros((len(truth), len(DESCRIPTORS)), np.float32)
    values[:, NAMES.index(name)] = truth
    mask = np.zeros(values.shape, bool)
    mask[:, NAMES.index(name)] = True
    batch = Batch(np.zeros((len(truth), 4)), np.full(len(truth), 29), values, mask)
    return batch, *({name: p} for p in predictions)


def test_paired_differences_are_narrower_than_either_interval(rng, materials):
    truth, a = labels(rng, "MBL")
    b = a + rng.normal(scale=0.03, size=SITES)
    batch, a, b = table("MBL", truth, a, b)
    names = tuple(materials)
    found, back = differences(a, b, batch, names)["MBL"], differences(b, a, batch, names)["MBL"]
    alone = intervals(a, batch, names)["MBL"]
    assert found.high - found.low < 0.6 * (alone.high - alone.low)
    assert found.low <= found.score <= found.high
    assert (found.score, found.low, found.share) == pytest.approx((-back.score, -back.high, 1 - back.share))
    same = differences(a, a, batch, names)["MBL"]
    assert (same.score, same.low, same.high, same.share) == (0, 0, 0, 0.5)


def test_a_clearly_better_model_wins_every_resample(rng, materials):
    truth, wrong = labels(rng, "CN")
    classes = np.eye(len(descriptor("CN").classes))
    batch, good, bad = table("CN", truth, classes[truth.astype(int)], classes[wrong.astype(int)])
    batch.mask[::3] = False
    found = differences(good, bad, batch, tuple(materials))
    assert found["CN"].share == 1 and found["CN"].low > 0 and list(found) == ["CN"]
    assert differences(good, {}, batch, tuple(materials)) == {}


def test_ranks_and_distance():
    ranks = average_ranks({"a": [0.9, 0.8, 0.7], "b": [0.5, 0.8, 0.6], "c": [0.1, 0.2, 0.9]})
    assert ranks == pytest.approx({"a": (1 + 1.5 + 2) / 3, "b": (2 + 1.5 + 3) / 3, "c": (3 + 3 + 1) / 3})
    # Critical values of Demsar 2006, table 5a.
    for models, q in ((2, 1.960), (5, 2.728), (10, 3.164)):
        expected = q * np.sqrt(models * (models + 1) / (6 * 14))
        assert critical_distance(models, 14) == pytest.approx(expected, abs=2e-3)


def test_runs_of_models_that_are_not_told_apart():
    ranks = {"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0}
    assert alike(ranks, 1.0) == [(1.0, 1.5), (1.5, 2.4)]
    assert alike(ranks, 1.5) == [(1.0, 2.4)]
    assert alike(ranks, 0.1) == []


def test_the_figure_names_every_model():
    ranks = {"SPT": 1.4, "Extra Trees": 2.2, "random forest": 2.9, "mean": 3.5}
    [axes] = critical_difference_figure(ranks, 1.0).axes
    drawn = " ".join(text.get_text() for text in axes.texts)
    assert all(name in drawn and f"{rank:.2f}" in drawn for name, rank in ranks.items())
    assert "critical distance 1.00" in drawn
