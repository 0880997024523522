"""A damaged checkpoint is named, put aside, and the one before serves; nothing that is whole is lost."""

import logging
import shutil

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, ModelConfig, TrainConfig
from spt_jax.inference.load import load_run
from spt_jax.runs.folder import read_log
from spt_jax.training.loop import train
from tests.training.test_train import MIXED, MODEL, SETTINGS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("damage") / "run"
    train(Config(ModelConfig(**MODEL), MIXED, TrainConfig(**SETTINGS)), Dataset(LIBRARY), out)
    return out


def newest(folder):
    return max((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def cut(folder) -> None:
    """Every file of some size loses its second half."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage", [cut, lambda folder: shutil.rmtree(folder / "state"), lambda folder: shutil.rmtree(folder / "progress")]
)
def test_a_damaged_newest_checkpoint_costs_the_epochs_since_the_one_before(run, tmp_path, damage, caplog):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = read_log(copy)
    broken = newest(copy / "checkpoints")
    damage(broken)
    with caplog.at_level(logging.WARNING, "spt_jax"):
        train(Config(ModelConfig(**MODEL), MIXED, TrainConfig(**SETTINGS)), Dataset(LIBRARY), copy)
    [told] = [record.getMessage() for record in caplog.records if record.name.startswith("spt_jax")]
    assert str(broken) in told and "damaged" in told
    assert (copy / "damaged" / f"checkpoints-{broken.name}").is_dir()
    # The epochs that were lost are trained again, to the same bit.
    assert [line["loss"] for line in read_log(copy)] == [line["loss"] for line in before]


def test_a_damaged_best_model_is_named_and_the_one_before_answers(run, tmp_path, caplog):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    steps = sorted(int(p.name) for p in (copy / "model").iterdir() if p.name.isdigit())
    assert len(steps) == 2
    cut(copy / "model" / str(steps[1]))
    with caplog.at_level(logging.WARNING, "spt_jax"):
        model = load_run(copy)
    assert f"using the one before, of step {steps[0]}" in caplog.text
    batch = Dataset(LIBRARY).split("test").batch
    assert np.isfinite(model.outputs(batch.spectrum, batch.atomic_number)["CN"]).all()
    cut(copy / "model" / str(steps[0]))
    with pytest.raises(CheckpointError, match="damaged"):
        load_run(copy)
