"""The picture of the model, drawn from a run that was really trained."""

import runpy
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import spt_jax
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import SYMBOLS

SCRIPT = Path(__file__).parents[2] / "docs" / "picture.py"


@pytest.fixture(scope="module")
def draw():
    return runpy.run_path(str(SCRIPT))["main"]


def test_the_picture_says_what_the_model_says(trained, draw, tmp_path):
    draw([str(trained), "--out", str(tmp_path / "model.svg")])
    texts = ["".join(t.itertext()) for t in ElementTree.parse(tmp_path / "model.svg").iter() if t.tag.endswith("}text")]
    model, found = spt_jax.load(trained), read_spectrum(EXAMPLE)
    absorber = model.absorber(found.element)
    mu = model.to_grid(found.energy, found.mu, absorber)
    number = np.array([SYMBOLS.index(found.element)], np.int32)
    bands = np.asarray(model.outputs(mu[None], number)["bands"])[0, 0]
    assert {
        f"1. {absorber} spectrum",
        f"2. its {len(bands)} bands",
        f"3. folded at f = {bands[0]}",
        "4. descriptors",
    } <= set(texts)
    assert f"place in period of {-(-len(mu) // bands[0])}" in texts
    values = model.predict(found.energy, found.mu, found.element)
    first = texts.index(next(iter(values)))
    assert texts[first : first + len(values)] == list(values)
    said = [str(v.value) if v.probabilities else f"{v.value:.2f} {v.unit}".rstrip() for v in values.values()]
    assert texts[first + len(values) : first + 2 * len(values)] == said


def test_what_cannot_be_drawn_gets_one_line(trained, draw, tmp_path):
    for given in (tmp_path / "absent", EXAMPLE):
        with pytest.raises(SystemExit) as stop:
            draw([str(given), "--out", str(tmp_path / "none.svg")])
        assert str(given) in str(stop.value) and "\n" not in str(stop.value)
    assert not (tmp_path / "none.svg").exists()
