"""What is said of classes: probabilities of sum one, calibrated; distances as an open formula has them."""

import json

import numpy as np
import pytest

from spt_jax.eels.program import _distance
from spt_jax.scoring.phases import LEAST, WITHIN, PhaseDecisions


def rows(rng, count: int = 900, classes: int = 3, size: int = 5) -> tuple[np.ndarray, ...]:
    """logits, latent, misfit, edge, kind, share: half of the rows of one class, the others of two."""
    kind = rng.integers(0, classes, count)
    share = np.eye(classes)[kind]
    mixed = rng.random(count) < 0.5
    share[mixed] = 0.7 * share[mixed] + 0.3 * np.eye(classes)[(kind[mixed] + 1) % classes]
    latent = share @ rng.normal(0, 4, (classes, size)) + rng.normal(0, 0.5, (count, size))
    logits = 4 * (share + rng.normal(0, 0.5, share.shape))
    edge = share @ rng.uniform(0, 2, (classes, 12))
    return logits, latent, rng.gamma(8, 1 / 8, count), edge, kind, share


@pytest.fixture
def fitted(rng):
    given = rows(rng)
    return PhaseDecisions.fit(*given), given


def test_probabilities_sum_to_one_and_keep_the_order(fitted):
    decisions, (logits, *_, kind, _) = fitted
    said = decisions.probability(logits)
    np.testing.assert_allclose(said.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_array_equal(said.argmax(axis=-1), logits.argmax(axis=-1))
    # Calibrated: as sure as it is right.
    assert said.max(axis=-1).mean() == pytest.approx((said.argmax(axis=-1) == kind).mean(), abs=0.03)
    image = decisions.probability(logits.reshape(30, 30, 3))
    np.testing.assert_array_equal(image.reshape(-1, 3), said)
    assert np.isfinite(decisions.probability(np.array([[1e4, -1e4, 0.0]]))).all()


def test_distance_is_mahalanobis_from_the_nearest_centre(rng, fitted):
    decisions, (_, latent, misfit, edge, kind, share) = fitted
    pure = share.max(axis=1) > 0.999
    centres = np.stack([latent[pure & (kind == i)].mean(axis=0) for i in range(3)])
    np.testing.assert_allclose(decisions.centres, centres)
    edges = np.stack([edge[pure & (kind == i)].mean(axis=0) for i in range(3)])
    np.testing.assert_allclose(decisions.edges, edges)
    away = np.concatenate([latent[pure & (kind == i)] - centres[i] for i in range(3)])
    precision = np.linalg.inv(np.cov(away.T) + LEAST * np.eye(5))
    want = [min(np.sqrt((row - centre) @ precision @ (row - centre)) for centre in centres) for row in latent]
    np.testing.assert_allclose(decisions.distance(latent), want, rtol=1e-9)
    # Few of the calculated edges are unlike them, and what lies far away is.
    assert (decisions.unlike(latent) > 1).mean() <= 1.5 * (1 - WITHIN)
    assert (decisions.unlike(latent, misfit) > 1).mean() <= 3 * (1 - WITHIN)
    assert (decisions.unlike(latent + 50) > 1).all() and (decisions.unlike(latent, 50 * misfit) > 1).all()


def test_the_program_measures_the_same_distance(rng, fitted):
    decisions, (_, latent, *_) = fitted
    far = np.concatenate([latent, 100 * latent[:50]]).astype(np.float32)
    np.testing.assert_allclose(_distance(far, decisions), decisions.distance(far), rtol=1e-3, atol=1e-2)


def test_they_come_back_from_json(fitted):
    decisions = fitted[0]
    assert PhaseDecisions.from_json(json.loads(json.dumps(decisions.to_json()))) == decisions


@pytest.mark.parametrize("present", [(0,), (0, 1)])
def test_a_class_that_no_row_has_gives_finite_numbers(rng, present):
    logits, latent, misfit, edge, kind, share = rows(rng, 300)
    own = np.isin(kind, present)
    found = PhaseDecisions.fit(logits[own], latent[own], misfit[own], edge[own], kind[own], share[own])
    assert np.isfinite(found.distance(latent)).all() and np.isfinite(found.farthest) and found.farthest > 0
    flat = PhaseDecisions.fit(logits, np.zeros_like(latent), misfit, edge, kind, share)
    assert np.isfinite(flat.unlike(latent)).all()
