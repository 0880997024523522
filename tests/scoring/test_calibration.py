import numpy as np
import pytest

from spt_jax.scoring.calibration import (
    conformal_halfwidth,
    coverage,
    ece,
    ece_if_exact,
    fit_temperature,
    with_temperature,
)

CLASSES = 6


@pytest.fixture
def calibrated(rng):
    """(N, C) probabilities, and labels drawn from them."""
    probabilities = rng.dirichlet(np.full(CLASSES, 0.5), size=20000)
    labels = (probabilities.cumsum(axis=1) < rng.random((20000, 1))).sum(axis=1)
    return probabilities, np.minimum(labels, CLASSES - 1)


def test_error_is_small_where_labels_are_drawn_from_the_probabilities(calibrated):
    probabilities, labels = calibrated
    assert ece(probabilities, labels) < 0.02
    assert ece(with_temperature(probabilities, 0.3), labels) > 0.04


def test_exact_probabilities_show_the_error_of_chance(calibrated):
    probabilities, labels = (each.reshape(100, 200, -1).squeeze() for each in calibrated)
    found = np.mean([ece(p, y) for p, y in zip(probabilities, labels, strict=True)])
    expected = np.mean([ece_if_exact(p) for p in probabilities])
    assert found == pytest.approx(expected, rel=0.1)
    assert expected > 5 * ece_if_exact(calibrated[0])
    assert ece_if_exact(np.eye(3)) == 0


def test_ece_is_the_sum_over_bins(rng):
    probabilities, labels = rng.dirichlet(np.ones(3), size=400), rng.integers(3, size=400)
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    slow = 0.0
    for low in range(15):
        rows = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if rows.any():
            slow += rows.mean() * abs(hit[rows].mean() - confidence[rows].mean())
    assert ece(probabilities, labels) == pytest.approx(slow)


def test_ece_of_known_cases():
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert ece(certain, np.array([0, 1, 2, 0])) == 0
    assert ece(certain, np.array([1, 2, 0, 1])) == 1
    assert ece(certain.astype(np.float32) * np.float32(1.0000001), np.array([0, 1, 2, 1])) == pytest.approx(0.25)


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_a_planted_temperature_is_found_and_undone(calibrated, planted):
    probabilities, labels = calibrated
    # Over-confident by 1 / planted.
    distorted = with_temperature(probabilities, 1 / planted)
    found = fit_temperature(distorted, labels)
    assert found == pytest.approx(planted, rel=0.07)
    assert ece(with_temperature(distorted, found), labels) < 0.02


def test_temperature_keeps_the_class_and_sums_to_one_even_for_trees(rng):
    counts = rng.multinomial(10, np.full(CLASSES, 1 / CLASSES), size=300)
    found = with_temperature(counts / 10, 3.0)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    best = found.argmax(axis=1)
    assert (counts[np.arange(300), best] == counts.max(axis=1)).all()
    certain = np.eye(CLASSES)[rng.integers(CLASSES, size=50)]
    assert np.isfinite(fit_temperature(certain, rng.integers(CLASSES, size=50)))


def test_halfwidth_is_the_finite_sample_quantile():
    residuals = np.array([3, -1, 2, -5, 4, 6, -7, 8, 9.0])
    assert conformal_halfwidth(residuals, 0.9) == 9
    assert conformal_halfwidth(residuals, 0.8) == 8
    assert conformal_halfwidth(residuals, 0.91) == np.inf
    assert conformal_halfwidth(residuals, 0.8, np.arange(9)) == 8


def test_exchangeable_rows_are_covered(rng):
    covered = []
    for _ in range(200):
        known, asked = rng.standard_t(3, size=60), rng.standard_t(3, size=400)
        covered.append(coverage(np.abs(asked) <= conformal_halfwidth(known, 0.9)))
    assert 0.89 < np.mean(covered) < 0.925


def clusters(rng, count):
    """Residuals of `count` materials: those with many sites are easy, each has a scale of its own."""
    sites = rng.choice([1, 20], size=count)
    group = np.repeat(np.arange(count), sites)
    scale = np.where(sites == 20, 0.2, 1.0) * rng.lognormal(sigma=0.3, size=count)
    return rng.normal(size=len(group)) * scale[group], group


def test_each_material_counts_once_where_sites_of_one_are_alike(rng):
    by_site, by_material = [], []
    for _ in range(150):
        (known, groups), (asked, others) = clusters(rng, 60), clusters(rng, 200)
        by_site.append(coverage(np.abs(asked) <= conformal_halfwidth(known, 0.9), others))
        by_material.append(coverage(np.abs(asked) <= conformal_halfwidth(known, 0.9, groups), others))
    assert 0.89 < np.mean(by_material) < 0.925
    assert np.mean(by_site) < 0.85


def test_coverage_by_material_is_the_mean_of_their_shares():
    residuals, groups = np.array([1, 1, 1, 9.0]), np.array(["a", "a", "a", "b"])
    assert coverage(np.abs(residuals) <= 2) == 0.75
    assert coverage(np.abs(residuals) <= 2, groups) == 0.5
