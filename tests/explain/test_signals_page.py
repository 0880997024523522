"""The page of several signals says what was planted, is whole, and its numbers are in the document."""

import json

import numpy as np
import pytest

from data_pipelines.dataset.data import Split
from data_pipelines.errors import DatasetError
from data_pipelines.schema import STRUCTURE_LABELS, Batch, EnergyGrid, column_of
from spt_jax.explain.signals_explained import explain_signals
from spt_jax.explain.signals_page import as_html
from tests.pages import Page

GRID = EnergyGrid(points=20, step=1.0, signals=("Ni K", "Mn K", "O K", "PDF"))
COUNT = len(GRID.signals)
NAMES = ("x_Li", "x_Ni", "MBL_Ni", "vacancy", "vacancies", "antisite", "antisites")


def planted(rng, rows: int = 120) -> Split:
    """Li in signal 0, Ni in 1, vacancies in the sum of 2 and 3, antisites in none; a few signals are missing."""
    labels, mask = np.zeros((rows, STRUCTURE_LABELS), np.float32), np.zeros((rows, STRUCTURE_LABELS), bool)
    amount = np.where(rng.random(rows) < 0.5, 0, rng.choice([0.02, 0.05, 0.1, 0.2], rows))
    other = np.where(rng.random(rows) < 0.4, rng.choice([0.05, 0.1], rows), 0)
    values = (rng.random(rows), rng.random(rows), 1.9 + 0.2 * rng.random(rows), amount > 0, amount, other > 0, other)
    for name, value in zip(NAMES, values, strict=True):
        labels[:, column_of(name)], mask[:, column_of(name)] = value, True
    spectrum = 1 + 0.02 * rng.normal(size=(rows, COUNT, GRID.points))
    hidden = rng.normal(size=rows)
    spectrum[:, 0, 3:6] += values[0][:, None]
    spectrum[:, 1, 8:11] += values[1][:, None]
    spectrum[:, 2, 4:8] += (5 * amount + hidden)[:, None]
    spectrum[:, 3, 10:14] -= hidden[:, None]
    spectrum[rng.random((rows, COUNT)) < 0.03] = np.nan
    batch = Batch(spectrum.reshape(rows, -1).astype(np.float32), np.zeros(rows, np.int32), labels, mask)
    ids = tuple(f"row {i}" for i in range(rows))
    return Split(ids, tuple(f"m{i // 2}" for i in range(rows)), ("structure -",) * rows, batch)


def answer(spectrum, atomic_number):
    """What can be read; the mean where it cannot."""
    wide = spectrum.reshape(len(spectrum), COUNT, -1)
    has = np.isfinite(wide).all(axis=2)

    def read(signal, columns, usual):
        found = wide[:, signal, columns].mean(axis=1) - 1
        return np.where(has[:, signal], found, usual)

    told = read(2, slice(4, 8), 0.0) + read(3, slice(10, 14), 0.0)
    chance = 1 / (1 + np.exp(-20 * (told - 0.1)))
    half = np.full((len(spectrum), 2), 0.5)
    return {
        "x_Li": read(0, slice(3, 6), 0.5),
        "x_Ni": read(1, slice(8, 11), 0.5),
        "MBL_Ni": np.full(len(spectrum), 2.0),
        "vacancy": np.stack([1 - chance, chance], axis=1),
        "vacancies": np.clip(told / 5, 0, 1),
        "antisite": half,
        "antisites": np.zeros(len(spectrum)),
    }


@pytest.fixture(scope="module")
def document():
    rng = np.random.default_rng(3)
    split, train = planted(rng), planted(rng)
    mean = np.nanmean(train.batch.spectrum, axis=0)
    weights = rng.dirichlet(np.ones(COUNT), len(split.ids))
    found = explain_signals(answer, train, split, GRID, mean, weights, lambda *done: None)
    return {"run": "planted", "split": "test", **found}


def test_what_was_planted_is_found(document):
    described = document["descriptors"]
    for name, found in described.items():
        worth = found["better"] * (found["choices"][-1]["score"] - found["choices"][0]["score"])
        assert sum(each["score"] for each in found["shapley"]) == pytest.approx(worth, abs=1e-12), name
        for each in found["answers"]["rows"].values():
            assert sum(each["signals"]) == pytest.approx(each["all"] - each["nothing"], abs=1e-5)
    lithium = [each["score"] for each in described["x_Li"]["shapley"]]
    assert lithium[0] > 0.15 and max(map(abs, lithium[1:])) < 0.01  # the trivial answer is not quite 0.5
    vacancy = described["vacancy"]
    both = next(each for each in vacancy["choices"] if each["signals"] == [2, 3])
    assert vacancy["choices"][0]["score"] == 0.5 and both["score"] > max(
        vacancy["choices"][1 << s]["score"] for s in (2, 3)
    )
    assert described["antisite"]["choices"][-1]["score"] == 0.5
    assert document["defects"]["vacancy"]["curves"]["all"]["limit"] < 0.2
    assert document["defects"]["antisite"]["curves"]["all"]["limit"] is None
    most = max(document["stretches"], key=lambda part: part["lost"]["x_Ni"])
    assert most["signal"] == 1 and most["start"] in (8, 14) and len(document["contents"]["x_Li"]["truth"]) == 120


def test_the_page_is_whole_and_its_numbers_are_json(document):
    json.dumps(document, allow_nan=False)
    drawn = []
    page = Page(as_html(document, lambda *done: drawn.append(done)))
    assert drawn[-1][1] == drawn[-1][2] == len(drawn)
    for words in ("Ni K + Mn K", "Detection limit", "MAE saved", "Weights", "unit edge step"):
        assert words in page.text
    without = {**document, "weights": None, "defects": {}, "contents": {}, "heights": "share"}
    assert "Detection limit" not in Page(as_html(without)).text


def test_nothing_to_judge_is_said(rng):
    split = planted(rng, 8)
    with pytest.raises(DatasetError, match="no descriptor"):
        explain_signals(lambda s, z: {"CN": np.ones((len(s), 11))}, split, split, GRID, np.zeros(80), None, print)
