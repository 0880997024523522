from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import f1_score

from spt_jax.scoring.decide import class_prior, decide, fit_alpha

PRIOR = np.array([0.85, 0.1, 0.05, 0.0])


def drawn(rng, count):
    """Labels from PRIOR, and the exact probabilities given one noisy reading of the class."""
    labels = rng.choice(4, size=count, p=PRIOR)
    reading = labels + rng.normal(scale=0.6, size=count)
    joint = PRIOR * np.exp(-0.5 * ((reading[:, None] - np.arange(4)) / 0.6) ** 2)
    return joint / joint.sum(axis=1, keepdims=True), labels


def f1(labels, found):
    return f1_score(labels, found, average="weighted")


def test_prior():
    np.testing.assert_allclose(class_prior(np.array([0, 0, 2, 1.0]), 4), [0.5, 0.25, 0.25, 0])


def test_power_0_is_the_most_likely_and_1_the_balanced_guess(rng):
    probabilities, _ = drawn(rng, 500)
    np.testing.assert_array_equal(decide(probabilities, PRIOR, 0), probabilities.argmax(axis=1))
    uniform = np.full((5, 4), 0.25)
    assert (decide(uniform, PRIOR, 1) == 2).all()
    assert (decide(np.tile(PRIOR, (5, 1)) * [1, 1.1, 1, 1], PRIOR, 1) == 1).all()
    assert (decide(np.tile([0.1, 0.1, 0.1, 0.7], (5, 1)), PRIOR, 0.5) != 3).all()


def test_a_larger_power_never_takes_from_the_rarest_class(rng):
    probabilities, _ = drawn(rng, 500)
    chosen = [decide(probabilities, PRIOR, alpha) == 2 for alpha in (0, 0.3, 0.6, 1)]
    assert all((less <= more).all() for less, more in pairwise(chosen))


def test_the_fitted_power_raises_weighted_f1_on_new_data(rng):
    """Of a model that leans on the common class: its probabilities hold the prior once too often."""

    def leaning():
        probabilities, labels = drawn(rng, 20_000)
        return probabilities * (PRIOR + 1e-9), labels

    probabilities, labels = leaning()
    alpha = fit_alpha(probabilities, labels, PRIOR, np.arange(20_000) // 2)
    assert 0.5 < alpha <= 1
    probabilities, labels = leaning()
    assert f1(labels, decide(probabilities, PRIOR, alpha)) > f1(labels, probabilities.argmax(axis=1)) + 0.01


@pytest.mark.parametrize("count", [4, 300])
def test_nothing_is_changed_without_need(rng, count):
    labels = rng.choice(3, size=count, p=PRIOR[:3])
    certain = np.eye(4)[labels] * 0.96 + 0.01
    assert fit_alpha(certain, labels, PRIOR, np.arange(count)) == 0
