"""A run in an object store is the run on this machine, to the bit, whatever happens on the way."""

import json
import logging
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines import faults
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError, PlaceError
from data_pipelines.library import EXAMPLE, LIBRARY
from spt_jax import load
from spt_jax.cli import main
from spt_jax.config import Config, ModelConfig, TrainConfig
from spt_jax.runs.fingerprint import model_fingerprint
from spt_jax.runs.folder import read_log
from spt_jax.training.loop import train
from tests.conftest import SMALL
from tests.data_pipelines.stores import NEEDS_S3, Store
from tests.training.test_sharding import address  # noqa: F401
from tests.training.test_train import MIXED, MODEL, SETTINGS

CONFIG = Config(ModelConfig(**MODEL), MIXED, TrainConfig(**SETTINGS))
TIMES = ("seconds", "spectra_per_s", "input_wait", "asked_again")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    out = tmp_path_factory.mktemp("here") / "run"
    train(CONFIG, Dataset(LIBRARY), out)
    return out


def told(run) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in read_log(run)]


def same(run, here) -> None:
    """The log, and what the best model answers."""
    assert told(run) == told(here)
    spectra = jax.tree.map(jnp.asarray, Dataset(LIBRARY).split("test", 32).batch)
    one, other = (load(each).network(spectra.spectrum, spectra.atomic_number) for each in (run, here))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_same_run(here, store: Store):
    out = store.root / "run"
    train(CONFIG, Dataset(LIBRARY), str(out))
    same(out, here)
    assert len(list((out / "checkpoints").glob("*.json"))) == 2 == len(list((out / "model").glob("*.json")))
    before = model_fingerprint(out)
    assert train(CONFIG, Dataset(LIBRARY), out)["epoch"] == SETTINGS["epochs"]  # through already
    same(out, here)
    assert model_fingerprint(out) == before


@NEEDS_S3
@pytest.mark.parametrize("where", ["checkpoints/", "model/", ".json", "train_log"])
def test_a_kill_while_something_is_put_and_the_same_command_goes_on(here, s3_store: Store, where):
    out, seen = s3_store.root / "run", 0

    def kill(method: str, path: str) -> int | None:
        nonlocal seen
        seen += method == "PUT" and where in path.removesuffix("config.json")
        if seen == 2:
            process.send_signal(signal.SIGKILL)
            return 0
        return None

    code = (
        "from tests.runs.test_remote_runs import CONFIG, Dataset, LIBRARY, train\n"
        f"train(CONFIG, Dataset(LIBRARY), {str(out)!r})"
    )
    s3_store.fault = kill
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ) as process:
        assert process.wait(200) == -signal.SIGKILL
    s3_store.fault = lambda method, path: None
    train(CONFIG, Dataset(LIBRARY), out)
    same(out, here)


@NEEDS_S3
def test_a_store_that_fails_now_and_then(here, s3_store: Store):
    rng, before = np.random.default_rng(2), faults.count()
    s3_store.fault = lambda method, path: int(rng.choice([0, 500, 503])) if rng.random() < 0.2 else None
    train(CONFIG, Dataset(LIBRARY), s3_store.root / "run")
    same(s3_store.root / "run", here)
    again = sum(line.get("asked_again", 0) for line in read_log(s3_store.root / "run"))
    assert 0 < again <= faults.count() - before


def test_a_damaged_checkpoint_is_passed_over_and_named(here, store: Store, caplog):
    out = store.root / "run"
    train(CONFIG, Dataset(LIBRARY), out)
    newest = max(int(path.stem) for path in (out / "checkpoints").glob("*.json"))
    path = max((out / "checkpoints" / str(newest)).rglob("*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with caplog.at_level(logging.WARNING, "spt_jax"):
        train(CONFIG, Dataset(LIBRARY), out)
    assert f"{out}/checkpoints/{newest}: damaged checkpoint" in caplog.text and str(path) in caplog.text
    same(out, here)


def test_a_damaged_best_model_is_named_and_the_one_before_answers(store: Store, caplog):
    out = store.root / "run"
    train(CONFIG, Dataset(LIBRARY), out)
    steps = sorted(int(path.stem) for path in (out / "model").glob("*.json"))
    for step in reversed(steps):
        path = max((out / "model" / str(step)).rglob("*"), key=lambda path: path.stat().st_size)
        path.unlink()
        if step != steps[0]:
            with caplog.at_level(logging.WARNING, "spt_jax"):
                assert load(out).blueprint
            assert f"{out}/model/{step}: damaged checkpoint" in caplog.text
    with pytest.raises(CheckpointError, match=rf"{out}/model/{steps[-1]}: damaged checkpoint"):
        load(out)
    with pytest.raises(CheckpointError, match="nothing is there"):
        load(f"{store.root}/none")


def test_the_command_line_names_places(store: Store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out, file = store.root / "run", store.root / "model.spt"
    main(["train", "tiny", "--data", str(LIBRARY), "--out", str(out), *SMALL])
    assert f"the best model is in {out}/model." in capsys.readouterr().out
    main(["evaluate", str(out), "--data", str(LIBRARY)])
    assert json.loads((out / "metrics.json").read_text())["split"] == "test"
    main(["export", str(out), "--out", str(file)])
    capsys.readouterr()
    answers = []
    for model in (out, file):
        main(["predict", str(model), str(EXAMPLE), "--format", "json"])
        answers.append(capsys.readouterr().out)
    assert "xmu" in answers[0] and answers[1]
    for command in (
        ["pack", str(out), "--data", str(LIBRARY), "--out", "x.safetensors"],
        ["quickstart", "--out", str(out)],
    ):
        with pytest.raises(SystemExit) as left:
            main(command)
        assert left.value.code == 1 and "takes what lies on this machine" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "tiny", "--data", str(LIBRARY), "--out", str(store.root / "b"), "--profile", "2", *SMALL])
    assert "--profile" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # no folder "s3:"


@NEEDS_S3
def test_a_bucket_that_may_not_be_written_to_is_said_before_training(s3_store: Store):
    s3_store.fault = lambda method, path: 403 if method == "PUT" else None
    with pytest.raises(PlaceError, match="no permission to write, the bucket may be read-only"):
        train(CONFIG, Dataset(LIBRARY), s3_store.root / "run")
    with pytest.raises(PlaceError, match="s3://nowhere: no such bucket"):
        train(CONFIG, Dataset(LIBRARY), "s3://nowhere/run")


@NEEDS_S3
def test_two_processes_save_together_and_go_on_as_one(address, s3_store: Store):  # noqa: F811
    """Parameters shared out among them; what they have put, one process goes on with, to the same bits as two."""
    command = [sys.executable, "-m", "spt_jax.launch", "train", "tiny", "--data", str(LIBRARY), *SMALL]
    command += ["--out", str(s3_store.root / "run"), "--train.batch-size", "64"]

    def run(epochs: int) -> None:
        processes = []
        for i in range(2):
            place = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i)}
            line = [*command, "--distributed", "--train.epochs", str(epochs), "--execution.fsdp", "0"]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            processes.append(subprocess.Popen(line, env={**os.environ, **place, "NPROC": "16"}, **pipes))
        output = [process.communicate(timeout=300)[0].decode() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(output)

    run(2)
    run(4)
    assert [line["epoch"] for line in read_log(s3_store.root / "run")] == [1, 2, 3, 4]
    whole = told(s3_store.root / "run")
    command[command.index(str(s3_store.root / "run"))] = str(s3_store.root / "whole")
    run(4)
    assert [line["loss"] for line in told(s3_store.root / "whole")] == [line["loss"] for line in whole]
    main([*command[3:], "--train.epochs", "5"])
    assert len(read_log(s3_store.root / "whole")) == 5
    assert load(s3_store.root / "whole").blueprint
