"""Classes, probabilities and intervals that a model answers with: fitted once, the same wherever they are used."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from data_pipelines.schema import DESCRIPTORS, NAMES, Batch, descriptor
from spt_jax.scoring.decide import class_priors, decide
from spt_jax.scoring.decisions import MOST, Decisions, lacks_oxygens
from spt_jax.scoring.metrics import score_answers


def made(rng, count, materials):
    """Answers of every descriptor but PSGO, right more often than not; NNOSM has no labels."""
    answers, labels = {}, np.zeros((count, len(DESCRIPTORS)), np.float32)
    mask = rng.random(labels.shape) < 0.8
    mask[:, NAMES.index("NNOSM")] = False
    for column, d in enumerate(DESCRIPTORS):
        if d.kind == "class":
            labels[:, column] = rng.choice(len(d.classes), p=rng.dirichlet(np.full(len(d.classes), 0.3)), size=count)
            found = rng.dirichlet(np.full(len(d.classes), 0.3), size=count)
            found[np.arange(count), labels[:, column].astype(int)] += 0.3
            answers[d.name] = found / found.sum(axis=1, keepdims=True)
        else:
            labels[:, column] = rng.uniform(2, 3, size=count)
            answers[d.name] = labels[:, column] + rng.normal(scale=0.1, size=count)
    del answers["PSGO"]
    batch = Batch(np.zeros((count, 4)), np.full(count, 29), labels, mask)
    return answers, batch, [f"m{i}" for i in rng.integers(materials, size=count)]


def test_everything_is_fitted_that_has_labels_and_answers(rng):
    answers, batch, materials = made(rng, 600, 200)
    found = Decisions.fit(answers, batch, materials, class_priors(batch))
    assert set(found.temperature) == set(found.power) == set(found.prior) == {"OS", "CN", "CN2", "OCN"}
    assert set(found.halfwidth) == {"NNRS", "MOOD", "MBL"}

    calibrated = found.probabilities(answers, batch.atomic_number)
    assert set(calibrated) == set(answers)
    rows = np.flatnonzero(batch.mask[:, 0])
    likely, raw = (each["OS"][rows, batch.labels[rows, 0].astype(int)] for each in (calibrated, answers))
    assert np.log(likely).mean() > np.log(raw).mean()
    np.testing.assert_array_equal(calibrated["OS"].argmax(axis=1), answers["OS"].argmax(axis=1))
    np.testing.assert_array_equal(calibrated["MBL"], answers["MBL"])
    assert found.probabilities({"MBL": answers["MBL"]}, batch.atomic_number).keys() == {"MBL"}

    ends, column = found.intervals(answers, batch.atomic_number)["MOOD"], NAMES.index("MOOD")
    assert ends.min() >= descriptor("MOOD").plausible[0]
    within = (ends[:, 0] <= batch.labels[:, column]) & (batch.labels[:, column] <= ends[:, 1])
    assert within.mean() == pytest.approx(0.9, abs=0.05)


def test_too_few_materials_fit_no_interval_and_no_temperature(rng):
    answers, batch, materials = made(rng, 600, 8)
    few = Decisions.fit(answers, batch, materials, {})
    assert (
        few.halfwidth == {}
        and few.intervals(answers, batch.atomic_number) == {}
        and few.temperature.keys() == {"OS", "CN", "CN2", "OCN"}
    )
    one = Decisions.fit(answers, batch, ["m"] * 600, {})
    assert one == Decisions()


def test_an_element_with_enough_materials_has_its_own(rng):
    """Cobalt's answers are three times as wrong in value, and blurred; of nickel there are too few to know."""
    answers, batch, materials = made(rng, 3000, 1000)
    element = np.array([29, 27, 28])[rng.choice(3, p=(0.6, 0.398, 0.002), size=3000)]
    batch, column, cobalt = batch._replace(atomic_number=element), NAMES.index("MBL"), element == 27
    answers["MBL"][cobalt] += 2 * (answers["MBL"] - batch.labels[:, column])[cobalt]
    answers["CN"][cobalt] **= 0.3
    answers["CN"] /= answers["CN"].sum(axis=1, keepdims=True)
    found = Decisions.fit(answers, batch, materials, {})
    assert found.of_element.keys() == {"Co", "Cu"}
    own = {symbol: each.halfwidth["MBL"] for symbol, each in found.of_element.items()}
    assert own["Co"] == pytest.approx(0.49, rel=0.15) and own["Cu"] == pytest.approx(0.164, rel=0.15)
    assert own["Cu"] < found.halfwidth["MBL"] < own["Co"]
    assert found.of_element["Co"].temperature["CN"] == pytest.approx(
        0.3 * found.of_element["Cu"].temperature["CN"], rel=0.2
    )
    width = np.ptp(found.intervals(answers, element)["MBL"], axis=1) / 2
    for number, expected in ((27, own["Co"]), (28, found.halfwidth["MBL"]), (29, own["Cu"])):
        # Some are cut at what is plausible.
        assert np.median(width[element == number]) == pytest.approx(expected)
    within = np.abs(answers["MBL"] - batch.labels[:, column]) <= width
    assert within[cobalt].mean() == pytest.approx(0.9, abs=0.03)
    assert Decisions.from_json(json.loads(json.dumps(found.to_json()))) == found
    mean = Decisions.of_mean({"MBL": [found, found]})
    assert mean.of_element["Co"].halfwidth["MBL"] == pytest.approx(own["Co"])


def test_json_gives_back_the_same_bits(rng):
    answers, batch, materials = made(rng, 400, 100)
    found = Decisions.fit(answers, batch, materials, class_priors(batch), coverage=0.8)
    again = Decisions.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found and asdict(again) == asdict(found) and again.coverage == 0.8


def test_no_more_oxygens_than_neighbours_and_no_distance_between_fewer_than_two(rng):
    answers, *_ = made(rng, 300, 100)
    classes = Decisions().classes(answers)
    neighbours, oxygens = (np.take(descriptor(name).classes, classes[name]) for name in ("CN", "OCN"))
    likeliest = np.take(descriptor("OCN").classes, answers["OCN"].argmax(axis=1))
    assert (oxygens <= neighbours).all() and (likeliest > neighbours).any()
    np.testing.assert_array_equal(oxygens[likeliest <= neighbours], likeliest[likeliest <= neighbours])
    np.testing.assert_array_equal(lacks_oxygens(Decisions().decided(answers)), oxygens < 2)
    assert not lacks_oxygens({"CN": classes["CN"]}).any()


def test_classes_follow_the_fitted_power_and_scores_follow_the_classes(rng):
    answers, batch, _ = made(rng, 300, 100)
    priors = class_priors(batch)
    rule = Decisions(power={"CN": 0.5}, prior={"CN": tuple(priors["CN"])})
    classes = rule.classes(answers)
    assert classes.keys() == {"OS", "CN", "CN2", "OCN"}
    np.testing.assert_array_equal(classes["CN"], decide(answers["CN"], priors["CN"], 0.5))
    np.testing.assert_array_equal(classes["OS"], answers["OS"].argmax(axis=1))
    assert (classes["CN"] != answers["CN"].argmax(axis=1)).any()
    several = {"CN": np.stack([answers["CN"], answers["CN"][::-1]])}
    np.testing.assert_array_equal(rule.classes(several)["CN"], [classes["CN"], classes["CN"][::-1]])

    plain, decided = score_answers(answers, batch), score_answers(answers, batch, rule)
    assert decided["CN"] != plain["CN"]
    others = decided.keys() - {"CN", "OCN"}  # which hangs on CN
    assert {n: decided[n] for n in others} == {n: plain[n] for n in others}


def test_of_many_rows_whole_materials_are_drawn_and_always_the_same(rng):
    answers, batch, materials = made(rng, 3 * MOST, 3000)
    first = Decisions.fit(answers, batch, materials, class_priors(batch))
    order = rng.permutation(3 * MOST)
    shuffled = {name: each[order] for name, each in answers.items()}
    batch = Batch(*(each[order] for each in batch))
    again = Decisions.fit(shuffled, batch, [materials[i] for i in order], class_priors(batch))
    assert first.halfwidth == again.halfwidth and first.power == again.power
    assert first.temperature == pytest.approx(again.temperature)
    assert first.halfwidth["MOOD"] == pytest.approx(0.164, abs=0.01)
