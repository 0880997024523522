"""The picture of the model, drawn from a run that was really trained."""

import runpy
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import spt_jax
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import SYMBOLS
from spt_jax.cli import main

SCRIPT = Path(__file__).parents[2] / "docs" / "picture.py"
SMALL = "--train.epochs 2 --model.width 8 --model.blocks 1 --model.hidden 32 --model.bands 2".split()


@pytest.fixture(scope="module")
def draw():
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("picture") / "run"
    main(["train", "tiny", "--data", str(LIBRARY), "--out", str(out), *SMALL])
    return out


def test_the_picture_says_what_the_model_says(run, draw, tmp_path):
    draw([str(run), "--out", str(tmp_path / "model.svg")])
    texts = ["".join(t.itertext()) for t in ElementTree.parse(tmp_path / "model.svg").iter() if t.tag.endswith("}text")]
    model, found = spt_jax.load(run), read_spectrum(EXAMPLE)
    absorber = model.absorber(found.element)
    mu = model.to_grid(found.energy, found.mu, absorber)
    number = np.array([SYMBOLS.index(found.element)], np.int32)
    bands = np.asarray(model.outputs(mu[None], number)["bands"])[0, 0]
    assert {f"1. {absorber} spectrum", "2. its 2 bands", f"3. folded at f = {bands[0]}", "4. descriptors"} <= set(texts)
    assert f"place in period of {-(-len(mu) // bands[0])}" in texts
    values = model.predict(found.energy, found.mu, found.element)
    first = texts.index(next(iter(values)))
    assert texts[first : first + len(values)] == list(values)
    said = [str(v.value) if v.probabilities else f"{v.value:.2f} {v.unit}".rstrip() for v in values.values()]
    assert texts[first + len(values) : first + 2 * len(values)] == said


def test_what_cannot_be_drawn_gets_one_line(run, draw, tmp_path):
    for given in (tmp_path / "absent", EXAMPLE):
        with pytest.raises(SystemExit) as stop:
            draw([str(given), "--out", str(tmp_path / "none.svg")])
        assert str(given) in str(stop.value) and "\n" not in str(stop.value)
    assert not (tmp_path / "none.svg").exists()
