"""Runs on hidden parts of spectra, with labels or without: they train, stop, go on and begin others as any run does."""

import json
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError, RunError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.schema import SYMBOLS
from spt_jax.cli import main
from spt_jax.config import Config, MaskedConfig, ModelConfig, TrainConfig
from spt_jax.inference.predict import load
from spt_jax.model.gaps import Gaps
from spt_jax.model.heads import SPECTRUM
from spt_jax.objectives.masked import MU, Masked
from spt_jax.runs.folder import read_log
from spt_jax.training.ensemble import train_members
from spt_jax.training.loop import train
from tests.conftest import SMALL
from tests.test_cli import fails
from tests.training.test_train import MODEL, SETTINGS, final_state, losses, run


def test_resume_after_kill_is_bit_for_bit_the_uninterrupted_run(tmp_path):
    assert run(tmp_path / "whole", objective="masked", epochs=3) == 0
    assert run(tmp_path / "run", objective="masked", epochs=3, event="SIGKILL", epoch=2) == -signal.SIGKILL
    assert run(tmp_path / "run", objective="masked", epochs=3) == 0
    for ours, theirs in zip(final_state(tmp_path / "run"), final_state(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_eight_devices_train_as_one(tmp_path):
    assert run(tmp_path / "one", objective="joint", epochs=2) == 0
    assert run(tmp_path / "eight", objective="joint", epochs=2, devices=8, execution={"fsdp": 0}) == 0
    np.testing.assert_allclose(losses(tmp_path / "eight"), losses(tmp_path / "one"), rtol=1e-4)


def test_it_learns_more_than_the_mean_a_straight_line_and_what_the_covariance_lets_expect(tmp_path):
    dataset = Dataset(LIBRARY)
    settings = MaskedConfig(hide=0.3, span=6.0)
    config = Config(
        ModelConfig(width=16, bands=0, attention="none", hidden=128), settings, TrainConfig(epochs=60, batch_size=32)
    )
    last = train(config, dataset, tmp_path / "run")
    statistics, batch = dataset.statistics("train"), dataset.split("validation").batch
    objective = Masked.of(settings, statistics, dataset.grid)
    shown = objective.shown(batch)
    at, known = np.arange(shown.shape[1]), np.isfinite(shown)
    line = np.stack([np.interp(at, at[own], mu[own]) for own, mu in zip(known, shown, strict=True)])
    expected = Gaps(statistics.mean, statistics.covariance).fill(jnp.asarray(shown))[0]

    def score(mu) -> float:
        said = (np.asarray(mu) - statistics.mean) / statistics.std
        return objective.score({SPECTRUM: np.stack([said, said], axis=1)}, batch)[MU]

    assert last["validation"][MU] > max(score(line), score(expected), 0)
    # The best epoch is chosen by it.
    found = [each for each in read_log(tmp_path / "run") if "validation" in each]
    assert max(each["score"] for each in found) >= last["score"] > found[0]["score"]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory) -> str:
    """The library's Co spectra as those of a file without structures, prepared."""
    folder = tmp_path_factory.mktemp("unlabelled")
    dataset = Dataset(LIBRARY)
    batch = dataset.split("train").batch
    rows = batch.atomic_number == SYMBOLS.index("Co")
    energy = dataset.grid.absolute("Co")
    mu = batch.spectrum[rows]
    np.savez(
        folder / "plain.npz", mu=mu, element=np.full(len(mu), "Co"), e0_eV=np.full(len(mu), energy[0]), step_eV=0.5
    )
    grid = [f"--grid.{name}={getattr(dataset.grid, name)}" for name in ("start", "step", "points")]
    main(["prepare", str(folder / "plain.npz"), "--out", str(folder / "data"), *grid])
    return str(folder / "data")


@pytest.fixture(scope="module")
def pretrained(unlabelled, tmp_path_factory) -> str:
    out = str(tmp_path_factory.mktemp("pretrained") / "pre")
    main(["train", "tiny", "--objective", "masked", "--data", unlabelled, "--out", out, *SMALL, "--train.batch-size=8"])
    return out


def test_a_set_without_labels_says_which_command_is_next(unlabelled, tmp_path, capsys):
    folder = str(Path(unlabelled).parent)
    main(["prepare", f"{folder}/plain.npz", "--out", str(tmp_path / "data")])
    assert "train base --objective masked --data" in capsys.readouterr().out
    assert "--objective masked needs none" in fails(capsys, "train", "tiny", "--data", unlabelled, "--out", "nowhere")


def test_spectra_without_labels_begin_a_run_on_labels(pretrained, tmp_path, capsys):
    out = str(tmp_path / "run")
    main(["train", "tiny", "--data", str(LIBRARY), "--out", out, "--train.init", pretrained, *SMALL])
    told = capsys.readouterr().err
    assert "begins with" in told and "not taken, of another shape or not there: heads/outputs" in told
    assert load(out).blueprint.tasks and not load(out).blueprint.hides
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["train"]["init"] == pretrained


def test_a_run_without_labels_answers_nothing_and_says_what_to_do(pretrained, tmp_path, capsys):
    for command in (
        ["predict", pretrained, str(EXAMPLE)],
        ["evaluate", pretrained, "--data", str(LIBRARY)],
        ["export", pretrained, "--out", str(tmp_path / "model.spt")],
        ["explain", pretrained, "--data", str(LIBRARY)],
    ):
        assert f"--train.init {pretrained}" in fails(capsys, *command)
    with pytest.raises(CheckpointError, match="answers nothing yet"):
        load(pretrained)


def test_labels_and_hidden_parts_in_one_run(unlabelled, tmp_path, capsys):
    out = str(tmp_path / "run")
    data = ["--data", f"{LIBRARY}:0.7", f"{unlabelled}:0.3"]
    main(
        [
            "train",
            "tiny",
            "--objective=joint",
            *data,
            "--out",
            out,
            *SMALL,
            "--objective.labels.descriptors",
            "CN",
            "MBL",
        ]
    )
    assert {"CN", "MBL", MU} <= read_log(tmp_path / "run")[-1].keys()
    model = load(out)
    assert model.blueprint.hides and model.blueprint.learnt == ()
    capsys.readouterr()
    main(["predict", out, str(EXAMPLE), "--format", "json"])
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["descriptors"].keys() == {"CN", "MBL"}


def test_an_ensemble_of_seeds_and_none_of_experts(tmp_path):
    config = Config(ModelConfig(**MODEL), MaskedConfig(), TrainConfig(**{**SETTINGS, "epochs": 2}))
    last = train_members(config, Dataset(LIBRARY), tmp_path / "seeds", count=2)
    assert last["validation"].keys() == {"seed0", "seed1"}
    with pytest.raises(RunError, match="--seeds"):
        train_members(config, Dataset(LIBRARY), tmp_path / "experts")


def test_the_objective_is_named_on_the_command_line(capsys):
    assert "did you mean masked?" in fails(capsys, "train", "tiny", "--objective", "maskd", status=2)
    assert "objectives: labels, masked, joint" in fails(capsys, "train", "tiny", "--objective", status=2)
    said = fails(capsys, "train", "tiny", "--objective=masked", "--objective.descriptors", "CN", status=2)
    assert "--objective.descriptors" in said
