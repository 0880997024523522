"""Oxidation states that an element does not have are never answered."""

import numpy as np

from data_pipelines.chemistry import OXIDATION_STATES, possible_states
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from data_pipelines.schema import NAMES, REFERENCE_ENERGY_EV, SYMBOLS, descriptor
from spt_jax.tasks import Task, answers_of

OS = descriptor("OS")
TASKS = (Task("OS", NAMES.index("OS"), len(OS.classes), 0.0, 1.0, 1.0, 1.0),)


def test_every_element_with_an_edge_has_states_that_are_classes():
    assert {symbol for symbol, _ in REFERENCE_ENERGY_EV} == OXIDATION_STATES.keys()
    assert all(set(states) <= set(OS.classes) for states in OXIDATION_STATES.values())


def test_no_label_of_the_library_is_ruled_out():
    allowed, column = possible_states(), NAMES.index("OS")
    for split in ("train", "validation", "test"):
        batch = Dataset(LIBRARY).split(split).batch
        known = batch.mask[:, column]
        assert allowed[batch.atomic_number[known], batch.labels[known, column].astype(int)].all()


def test_what_an_element_cannot_be_has_no_probability_and_the_rest_keeps_its_ratios(rng):
    numbers = np.array([SYMBOLS.index(symbol) for symbol in ("Cr", "O", "U")] * 50)
    outputs = rng.normal(size=(len(numbers), len(OS.classes))).astype(np.float32)
    said = answers_of({"OS": outputs}, TASKS, numbers)["OS"]
    allowed = possible_states()[numbers]
    assert (said[~allowed] == 0).all() and (said[allowed] > 0).all()
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-5)
    chances = np.exp(outputs.astype(np.float64)) * allowed
    np.testing.assert_allclose(said, chances / chances.sum(axis=1, keepdims=True), rtol=1e-4)


def test_nothing_but_impossible_states_stays_as_it_is():
    outputs = np.full((1, len(OS.classes)), -1e4, np.float32)
    outputs[0, OS.classes.index(8)] = 0
    said = answers_of({"OS": outputs}, TASKS, np.array([SYMBOLS.index("Cr")]))["OS"]
    assert said[0, OS.classes.index(8)] == 1
