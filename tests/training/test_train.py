"""Real runs on the embedded library, in processes that are killed, resumed and spread over devices."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.runs.folder import LOG
from spt_jax.training.loop import train

# The smallest network: these tests are about the trainer.
MODEL = {"width": 4, "blocks": 1, "bands": 1, "kernel": 1, "attention": "none", "hidden": 8, "attention_heads": 1}
MIXED = LabelsConfig(mixup=0.4)
SETTINGS = {"epochs": 4, "batch_size": 64, "validate_every": 1}

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from data_pipelines.dataset.opening import open_data
from spt_jax.config import OBJECTIVES, Config, ExecutionConfig, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.training.loop import train
out, data, model, objective, settings, execution, event, epoch = json.loads(sys.argv[1])
def report(line):
    if line["epoch"] == epoch:
        os.kill(os.getpid(), getattr(signal, event))
objective = OBJECTIVES[objective](LabelsConfig(mixup=0.4))
config = Config(ModelConfig(**model), objective, TrainConfig(**settings), ExecutionConfig(**execution))
train(config, open_data(data), Path(out), report)
"""


def flags(devices: int) -> str:
    """XLA's, for a process of so many virtual devices."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"


def run(
    out: Path,
    devices: int = 1,
    event: str = "",
    epoch: int = 0,
    execution: dict | None = None,
    data: tuple[str, ...] = (str(LIBRARY),),
    objective: str = "labels",
    **settings,
) -> int:
    """A training process on virtual CPU devices, sent `event` when `epoch` is reported; returns its exit status."""
    arguments = json.dumps([str(out), data, MODEL, objective, {**SETTINGS, **settings}, execution or {}, event, epoch])
    environment = {**os.environ, "XLA_FLAGS": flags(devices), "NPROC": "16"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments], env=environment, timeout=600, check=False
    ).returncode


def final_state(out: Path) -> list[np.ndarray]:
    """Every array of the newest checkpoint."""
    manager = ocp.CheckpointManager((out / "checkpoints").absolute())
    state = manager.restore(manager.latest_step(), args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / LOG).read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for mode in ("resident", "stream"):
        assert run(folder / mode, input=mode) == 0
    return {mode: folder / mode for mode in ("resident", "stream")}


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_resume_after_kill_is_bit_for_bit_the_uninterrupted_run(mode, uninterrupted, tmp_path):
    assert run(tmp_path / "run", input=mode, event="SIGKILL", epoch=3) == -signal.SIGKILL
    assert len(losses(tmp_path / "run")) < 4
    assert run(tmp_path / "run", input=mode) == 0
    assert losses(tmp_path / "run") == losses(uninterrupted[mode])
    for ours, theirs in zip(final_state(tmp_path / "run"), final_state(uninterrupted[mode]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_eight_devices_train_as_one(uninterrupted, tmp_path):
    assert run(tmp_path / "run", devices=8) == 0
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(uninterrupted["resident"]), rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"devices": 1, "execution": {"accumulate": 4}},
        {"devices": 8, "execution": {"fsdp": 0}},
    ],
)
def test_pieces_and_shares_train_as_the_whole(uninterrupted, tmp_path, settings):
    assert run(tmp_path / "run", **settings) == 0
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(uninterrupted["resident"]), rtol=1e-4)


def test_interrupt_saves_and_the_run_goes_on(tmp_path):
    assert run(tmp_path / "run", event="SIGINT", epoch=1, validate_every=4) != 0
    assert len(losses(tmp_path / "run")) == 2  # the flag is read after the next epoch
    assert run(tmp_path / "run", validate_every=4) == 0
    assert len(losses(tmp_path / "run")) == 4


def test_sigterm_saves_as_ctrl_c_does_and_the_run_is_the_uninterrupted_one(uninterrupted, tmp_path):
    assert run(tmp_path / "run", event="SIGTERM", epoch=1) != 0
    assert len(losses(tmp_path / "run")) == 2
    assert run(tmp_path / "run") == 0
    assert losses(tmp_path / "run") == losses(uninterrupted["resident"])


def test_a_finished_run_goes_on_for_longer_in_other_pieces_on_other_devices(uninterrupted, tmp_path):
    """The learning rate stays, so twice two epochs are four, however they are computed."""
    stays = {"schedule": "constant", "warmup_epochs": 0.0}
    assert run(tmp_path / "whole", **stays) == 0
    assert run(tmp_path / "run", devices=8, execution={"fsdp": 0}, **{**stays, "epochs": 2}) == 0
    assert run(tmp_path / "run", execution={"accumulate": 4, "remat": True}, **stays) == 0
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(tmp_path / "whole"), rtol=1e-4)


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_two_sets_in_fixed_shares_resume_bit_for_bit(mode, tmp_path):
    shutil.copytree(LIBRARY, tmp_path / "other")
    data = (f"{LIBRARY}:0.75", f"{tmp_path / 'other'}:0.25")
    assert run(tmp_path / "whole", data=data, input=mode) == 0
    assert run(tmp_path / "run", data=data, input=mode, event="SIGKILL", epoch=2) == -signal.SIGKILL
    assert run(tmp_path / "run", data=data, input=mode) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    # Twice the examples are twice the steps.
    last = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])
    assert last["step"] == 4 * (2 * Dataset(LIBRARY).count("train") // 64)
    assert run(tmp_path / "run", data=(f"{LIBRARY}:0.5", data[1]), input=mode) != 0, "other shares are other data"


def test_nothing_is_compiled_after_the_first_epoch(tmp_path):
    compiled, at_epoch = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    config = Config(ModelConfig(**MODEL), MIXED, TrainConfig(**SETTINGS))
    train(config, Dataset(LIBRARY), tmp_path / "run", lambda _: at_epoch.append(len(compiled)))
    # The first checkpoint is saved after the first epoch is reported.
    assert at_epoch[0] > 0
    assert at_epoch[2:] == [at_epoch[1]] * 2


def test_a_run_folder_belongs_to_one_configuration(uninterrupted):
    config = Config(ModelConfig(**{**MODEL, "width": 16}), MIXED, TrainConfig(**SETTINGS))
    with pytest.raises(RunError, match=r"another model\.width"):
        train(config, Dataset(LIBRARY), uninterrupted["resident"])


def test_a_batch_larger_than_the_training_set_is_refused(tmp_path):
    config = Config(ModelConfig(**MODEL), MIXED, TrainConfig(**{**SETTINGS, "batch_size": 4096}))
    with pytest.raises(RunError, match="do not fill one batch"):
        train(config, Dataset(LIBRARY), tmp_path / "run")
    assert not (tmp_path / "run").exists()
