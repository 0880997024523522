"""A damaged checkpoint is named, put aside, and the one before serves; nothing that is whole is lost."""

import logging
import shutil

import jax
import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, ModelConfig, TrainConfig
from spt_jax.inference.load import load_run
from spt_jax.runs import checkpoint
from spt_jax.runs.checkpoint import Checkpoints
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


STATE = {"params": np.arange(5000, dtype=np.float32), "step": np.int32(7)}


def test_what_the_disk_did_not_keep_is_found_when_it_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    finished = checkpoints._training.wait_until_finished
    monkeypatch.setattr(
        checkpoints._training, "wait_until_finished", lambda: (finished(), cut(tmp_path / "checkpoints/3"))
    )
    checkpoints.save(3, STATE, 5000, {"epoch": 1})
    with pytest.raises(CheckpointError, match=r"checkpoints/3: read back, .*check the disk"):
        checkpoints.save(4, STATE, 5000, {"epoch": 2})
    assert (tmp_path / "damaged/checkpoints-3").is_dir()
    assert Checkpoints(tmp_path).restore(STATE, 5000) is None


def test_other_values_than_were_saved_are_damage(tmp_path, monkeypatch, caplog):
    """A whole file of other numbers: the disk returns without an error what it was not given."""
    told = [int(x) for x in checkpoint.digest_on_device(STATE)]
    for step, said in ((3, told), (4, [told[0] ^ 1, *told[1:]])):
        checkpoints = Checkpoints(tmp_path)
        monkeypatch.setattr(checkpoints, "_written", lambda *_: None)
        monkeypatch.setattr(checkpoint, "digest_on_device", lambda _, said=said: np.array(said))
        checkpoints.save(step, STATE, 5000, {"epoch": step})
        checkpoints.close()
        monkeypatch.undo()
    with caplog.at_level(logging.WARNING, "spt_jax"):
        state, progress = Checkpoints(tmp_path).restore(jax.tree.map(jax.numpy.asarray, STATE), 5000)
    assert progress == {"epoch": 3} and "other values than were saved" in caplog.text
    np.testing.assert_array_equal(state["params"], STATE["params"])


def test_the_newest_and_every_so_manieth_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, kept=3, kept_period=4)
    for step in range(1, 11):
        checkpoints.save(step, STATE, 5000, {"epoch": step})
    checkpoints.close()
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [4, 8, 9, 10]


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
