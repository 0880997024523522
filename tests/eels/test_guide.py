"""docs/eels.md: its Python runs as it stands there, and its options exist."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np

from data_pipelines.readers.images.image import ImageCalibration
from data_pipelines.spectra.planted import Planting, planted
from spt_jax.commands.image import Image
from spt_jax.commands.image_data import PrepareImages
from spt_jax.eels.settings import ImageConfig

GUIDE = Path(__file__).parents[2] / "docs" / "eels.md"


def test_the_python_of_the_guide_runs(tmp_path, monkeypatch):
    how = Planting(6, 8, 256, step=0.5)
    np.save(tmp_path / "map.npy", planted(how, np.random.default_rng(0)).counts)
    (tmp_path / "map.json").write_text(json.dumps({"offset": how.offset, "step": how.step}))
    monkeypatch.chdir(tmp_path)
    # The other one asks for a trained model.
    block, _ = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    exec(block, namespace := {})
    assert namespace["found"].signal.shape == (1, 6, 8, 256)


def test_the_options_of_the_guide_exist():
    named = set(re.findall(r"--([a-z][a-z-]*)", GUIDE.read_text(encoding="utf-8")))
    # Of the benchmarks, and of training.
    named -= {"edges", "spectra", "data", "train", "library", "seed", "write", "target"}
    known = {
        field.name.replace("_", "-")
        for of in (Image, PrepareImages, ImageConfig, ImageCalibration)
        for field in dataclasses.fields(of)
    }
    assert named <= known
