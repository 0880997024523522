"""Every score against scikit-learn or a loop over sites, on random answers and where there is little to score."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_absolute_error, r2_score, root_mean_squared_error

from data_pipelines.schema import DESCRIPTORS, NAMES, Batch, descriptor
from spt_jax.scoring.calibration import ece
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.f1 import class_f1, weighted_f1
from spt_jax.scoring.metrics import main_score, score_answers, score_classes, score_values
from spt_jax.scoring.names import CLASS_SCORES, COMMON, MAIN_SCORE, VALUE_SCORES
from spt_jax.scoring.probabilities import FLOOR

CLASSES = 8


def drawn(rng, count):
    """Some common classes and some rare ones, some never the truth, some never decided."""
    truth = rng.choice(CLASSES - 1, size=count, p=rng.dirichlet(np.full(CLASSES - 1, 0.5)))
    probabilities = rng.dirichlet(np.full(CLASSES, 0.3), size=count)
    probabilities[np.arange(count), truth] += rng.random(count)
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


def brier_slow(probabilities, truth):
    rows = zip(probabilities, truth, strict=True)
    return np.mean([sum((p - (c == true)) ** 2 for c, p in enumerate(row)) for row, true in rows])


@pytest.mark.parametrize("count", [1, 7, 60, 500])
def test_scores_of_classes_are_those_of_scikit_learn(rng, count):
    truth, probabilities = drawn(rng, count)
    decided = np.where(rng.random(count) < 0.8, probabilities.argmax(axis=1), CLASSES - 1)
    found = score_classes(truth.astype(np.float32), decided, probabilities)
    assert list(found) == list(CLASS_SCORES)
    common = [c for c in range(CLASSES) if (truth == c).sum() >= 10]
    if not common:
        assert found.pop("f1_macro_common") is None
    else:
        expected = f1_score(truth, decided, labels=common, average="macro", zero_division=0)
        assert found.pop("f1_macro_common") == pytest.approx(expected)
    assert found == pytest.approx(
        {
            "f1_weighted": f1_score(truth, decided, average="weighted", zero_division=0),
            "f1_macro": f1_score(truth, decided, average="macro", zero_division=0),
            "accuracy": accuracy_score(truth, decided),
            "nll": log_loss(truth, probabilities, labels=range(CLASSES)),
            "brier": brier_slow(probabilities, truth),
            "ece": ece(probabilities, truth),
        }
    )


def test_scores_of_values_are_those_of_scikit_learn(rng):
    truth = rng.normal(size=50)
    values = truth + rng.normal(scale=0.3, size=50)
    expected = [each(truth, values) for each in (r2_score, root_mean_squared_error, mean_absolute_error)]
    assert list(score_values(truth, values).items()) == list(zip(VALUE_SCORES, expected, strict=True))


def test_no_r2_without_two_labels():
    for truth in (np.array([2.0]), np.array([2.0, 2.0])):
        assert score_values(truth, truth + 1) == {"r2": None, "rmse": 1, "mae": 1}


def test_one_class_alone_is_scored():
    truth, sure = np.zeros(12), np.eye(3)[np.zeros(12, int)]
    right = score_classes(truth, np.zeros(12), sure)
    assert right == dict.fromkeys(CLASS_SCORES, 0) | dict.fromkeys(list(CLASS_SCORES)[:4], 1)
    assert f"{right['nll']:.3f}" == "0.000", "not -0.000"
    wrong = score_classes(truth, np.full(12, 2), sure[:, ::-1])
    assert list(wrong.values()) == pytest.approx([0, 0, 0, 0, -math.log(FLOOR), 2, 1])


def test_a_class_that_no_site_has_costs_macro_f1_and_only_its_own_sites_weighted_f1():
    truth, decided = np.zeros(20), np.array([0] * 19 + [2])
    found = score_classes(truth, decided, np.full((20, 3), 1 / 3))
    f1 = 2 * 19 / 39
    assert (found["f1_weighted"], found["f1_macro_common"]) == pytest.approx((f1, f1))
    assert found["f1_macro"] == pytest.approx(f1 / 2) and found["accuracy"] == 0.95
    assert found["nll"] == pytest.approx(math.log(3))


@pytest.mark.parametrize("sites", [COMMON - 1, COMMON])
def test_a_class_is_common_from_ten_sites_on(sites):
    truth = np.repeat([0, 1], [sites, 3])
    found = score_classes(truth, np.zeros(len(truth)), np.full((len(truth), 2), 0.5))
    assert found["f1_macro_common"] == (pytest.approx(2 * sites / (2 * sites + 3)) if sites == COMMON else None)


def test_f1_of_many_sets_at_once_is_that_of_each(rng):
    sites, decided = rng.integers(0, 5, (2, 6, 4))
    sites[:, 0] += 1
    hits = np.minimum(sites, decided)
    for i in range(6):
        np.testing.assert_array_equal(class_f1(hits, sites, decided)[i], class_f1(hits[i], sites[i], decided[i]))
        assert weighted_f1(hits, sites, decided)[i] == weighted_f1(hits[i], sites[i], decided[i])


@pytest.fixture
def labelled(rng):
    """Answers and labels of CN, MBL and OCN, which has none."""
    count, column = 40, NAMES.index("CN")
    labels, mask = np.zeros((count, len(DESCRIPTORS)), np.float32), np.zeros((count, len(DESCRIPTORS)), bool)
    labels[:, column] = rng.integers(3, 6, count)
    labels[:, NAMES.index("MBL")] = rng.uniform(1.8, 2.2, count)
    mask[:, [column, NAMES.index("MBL")]] = rng.random((count, 2)) < 0.7
    answers = {name: rng.dirichlet(np.ones(len(descriptor(name).classes)), size=count) for name in ("CN", "OCN")}
    answers["MBL"] = rng.uniform(1.8, 2.2, count)
    return answers, Batch(np.zeros((count, 4)), np.full(count, 29), labels, mask)


def test_only_labelled_rows_are_scored_and_nothing_where_there_is_none(labelled):
    answers, batch = labelled
    found = score_answers(answers, batch)
    assert found.keys() == {"CN", "MBL"}
    for name, scores in found.items():
        known = batch.mask[:, NAMES.index(name)]
        assert (scores["kind"], scores["n"]) == (descriptor(name).kind, known.sum())
        assert main_score(scores) == scores[MAIN_SCORE[scores["kind"]]]
    known = batch.mask[:, NAMES.index("CN")]
    truth = batch.labels[known, NAMES.index("CN")]
    assert main_score(found["CN"]) == pytest.approx(
        f1_score(truth, answers["CN"][known].argmax(axis=1), average="weighted", zero_division=0)
    )
    assert score_answers(answers, batch._replace(mask=np.zeros_like(batch.mask))) == {}


def test_probabilities_are_scored_as_they_are_said(labelled):
    answers, batch = labelled
    plain, calibrated = (score_answers(answers, batch, each)["CN"] for each in (None, Decisions(temperature={"CN": 3})))
    said = Decisions(temperature={"CN": 3}).probabilities(answers, batch.atomic_number)
    assert calibrated == score_answers(said, batch)["CN"]
    same, other = ("f1_weighted", "f1_macro_common", "f1_macro", "accuracy"), ("nll", "brier", "ece")
    assert all(plain[name] == calibrated[name] for name in same)
    assert all(plain[name] != calibrated[name] for name in other)
