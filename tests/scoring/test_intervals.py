import sys

import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score

from data_pipelines.schema import descriptor
from spt_jax.scoring.intervals import difference, draws, resampled_scores

SITES = 300


@pytest.fixture
def materials(rng):
    return np.array([f"m{i}" for i in rng.integers(60, size=SITES)])


def whole(d, truth, prediction):
    """The main score of all sites."""
    return f1_score(truth, prediction, average="weighted") if d.kind == "class" else r2_score(truth, prediction)


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
        assert fast == pytest.approx(whole(descriptor(name), truth[rows], prediction[rows]), abs=1e-9)


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


def test_intervals_cover_what_they_estimate(rng):
    """R2 of a model with materials that are alike inside: an interval over sites would be too narrow."""
    held = 0
    for _ in range(60):
        group = np.repeat(np.arange(80), 8)
        truth = rng.normal(size=80)[group]
        error = np.sqrt(0.5) * rng.normal(size=80)[group]
        found = resampled_scores(descriptor("MBL"), truth, truth + error, group, draws(group))
        low, high = np.quantile(found, (0.025, 0.975))
        held += low < 0.5 < high
    assert held >= 48


def paired(d, truth, a, b, materials):
    """A minus B on the same resamples."""
    drawn, both = draws(materials), (a, b)
    resampled = [resampled_scores(d, truth, each, materials, drawn) for each in both]
    return difference([whole(d, truth, each) for each in both], resampled)


def calls(function, *arguments) -> int:
    """Of Python and of C that it takes."""
    events = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return len(events)


@pytest.mark.parametrize("name", ["CN2", "MBL"])
def test_a_thousand_resamples_take_no_more_calls_than_ten(rng, materials, name):
    """So they take milliseconds: a resample is one row of a matrix product."""
    d, (truth, prediction) = descriptor(name), labels(rng, name)
    drawn = draws(materials, 1000)
    ten, thousand = (calls(resampled_scores, d, truth, prediction, materials, drawn[:n]) for n in (10, 1000))
    assert ten == thousand


def test_paired_differences_are_narrower_than_either_interval(rng, materials):
    d, (truth, a) = descriptor("MBL"), labels(rng, "MBL")
    b = a + rng.normal(scale=0.03, size=SITES)
    found, back = paired(d, truth, a, b, materials), paired(d, truth, b, a, materials)
    low, high = np.quantile(resampled_scores(d, truth, a, materials, draws(materials)), (0.025, 0.975))
    assert found.high - found.low < 0.6 * (high - low)
    assert found.low <= found.score <= found.high
    assert (found.score, found.low, found.share) == pytest.approx((-back.score, -back.high, 1 - back.share))
    same = paired(d, truth, a, a, materials)
    assert (same.score, same.low, same.high, same.share) == (0, 0, 0, 0.5)


def test_a_clearly_better_model_wins_every_resample(rng, materials):
    truth, wrong = labels(rng, "CN")
    found = paired(descriptor("CN"), truth, truth, wrong, materials)
    assert found.share == 1 and found.low > 0
