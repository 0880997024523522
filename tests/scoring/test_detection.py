"""Detection is scored as scikit-learn does, whole and resampled, and limits are found where they were planted."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from spt_jax.scoring import detection
from spt_jax.scoring.intervals import draws

ROWS = 200


@pytest.fixture
def planted(rng):
    """truth, scores with ties, materials"""
    materials = np.array([f"m{i}" for i in rng.integers(40, size=ROWS)])
    truth = rng.random(ROWS) < 0.4
    return truth, np.round(truth + rng.normal(size=ROWS), 1), materials


def test_every_resample_is_scored_as_scikit_learn_does(rng, planted):
    truth, scores, materials = planted
    assert detection.auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    drawn = draws(materials, 20, seed=int(rng.integers(1000)))
    areas = detection.resampled_auroc(truth, scores, materials, drawn)
    precisions = detection.resampled_precision(truth, scores, materials, drawn)
    errors = detection.resampled_mae(truth, scores, materials, drawn)
    _, material = np.unique(materials, return_inverse=True)
    for counts, area, precision, error in zip(drawn, areas, precisions, errors, strict=True):
        weight = counts[material]
        assert area == pytest.approx(roc_auc_score(truth, scores, sample_weight=weight), abs=1e-9)
        assert precision == pytest.approx(average_precision_score(truth, scores, sample_weight=weight), abs=1e-9)
        assert error == pytest.approx(np.average(np.abs(truth - scores), weights=weight), abs=1e-9)


def test_the_curve_is_that_of_scikit_learn(planted):
    truth, scores, materials = planted
    found = detection.roc(truth, scores, materials)
    alarms, hits, _ = roc_curve(truth, scores, drop_intermediate=False)
    last = np.append(np.diff(alarms) > 0, True)
    np.testing.assert_allclose(found.found, np.interp(found.false_alarms, alarms[last], hits[last]), atol=1e-12)
    assert (found.low <= found.high).all() and np.mean((found.low <= found.found) & (found.found <= found.high)) > 0.9


def test_nothing_to_tell_apart_is_no_score():
    assert np.isnan(detection.auroc(np.ones(3, bool), np.arange(3.0)))
    materials = np.array(["a", "a", "b"])
    found = detection.resampled_auroc(
        np.array([True, True, False]), np.arange(3.0), materials, np.array([[2, 0], [1, 1]])
    )
    np.testing.assert_array_equal(np.isnan(found), [True, False])


def test_a_limit_is_found_where_scores_begin_to_follow_the_amount(rng):
    amount = np.repeat([0, 0.02, 0.05, 0.1, 0.2, 0.4], 60)
    scores = rng.normal(size=len(amount)) + 3 * (amount > 0.06)
    scores[60:180] = np.tile(scores[:60], 2)  # of one draw in forty even chance would find the least
    materials = np.array([f"m{i}" for i in np.arange(len(amount)) // 2])
    found = detection.detection(amount, scores, materials)
    assert sum(each.rows for each in found) == 300 and all(each.materials >= 30 for each in found)
    assert found[-1].auroc.score > 0.9 and found[0].auroc.score == 0.5
    assert detection.detection_limit(found) in (0.05, 0.1)
    assert detection.detection_limit(found[:1]) is None
    few = detection.detection(amount[[0, 60]], scores[[0, 60]], materials[[0, 60]])
    assert few[0].auroc is None and detection.detection_limit(few) is None
