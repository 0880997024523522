"""Where a run stands, and in what runs differ, by folders as training leaves them at any moment."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data_pipelines.errors import RunError
from spt_jax.config import Config, JointConfig, MaskedConfig, PeerConfig, TrainConfig
from spt_jax.runs.attempts import append_attempt
from spt_jax.runs.differences import differing
from spt_jax.runs.folder import LOG, append_log, claim, name_members, read_config
from spt_jax.runs.history import read_histories, read_history, short_names

NOW = 1.7e9
CONFIG = Config(PeerConfig("mlp", width=8, depth=1), train=TrainConfig(epochs=40))


def line(epoch: int, loss: float = 1.0) -> dict:
    return {"epoch": epoch, "epochs": 40, "step": 10 * epoch, "loss": loss, "seconds": 1.0, "spectra_per_s": 100.0}


def made(out: Path, epochs: int = 0, config: Config = CONFIG) -> Path:
    claim(out, config, "a" * 16)
    for epoch in range(1, epochs + 1):
        append_log(out, line(epoch))
    return out


def wrote(out: Path, ago: float, event: str, attempt: int = 0, **said) -> None:
    append_attempt(out, {"at": NOW - ago, "attempt": attempt, "event": event, **said})


def standing(out: Path) -> tuple[str, str]:
    return tuple(read_history(out)[0].standing(NOW))


def steps(step: int) -> dict:
    return {"epoch": 1, "step": step, "seconds": {"compute": 1.0}}


def test_from_the_first_moment_to_the_last(tmp_path):
    out = made(tmp_path / "run")
    assert standing(out) == ("not begun", "not begun: it has settings, and no log yet")
    wrote(out, 500, "start", step=0, ready=4.0)
    assert standing(out)[0] == "starting"
    append_log(out, line(1))
    wrote(out, 60, "steps", **steps(10))
    word, told = standing(out)
    assert word == "running" and "epoch 1, step 10" in told and "1 min ago" in told
    assert read_history(out)[0].standing(NOW + 300).word == "running"  # it was silent before for 440 s
    word, told = read_history(out)[0].standing(NOW + 3600)
    assert word == "silent" and "for 1 h 1 min" in told
    wrote(out, 50, "stop", step=10, why="SIGTERM")
    assert standing(out)[0] == "stopped" and "the same command goes on" in standing(out)[1]
    wrote(out, 40, "start", attempt=1, step=10, ready=4.0)
    assert standing(out)[0] == "starting"
    wrote(out, 30, "stop", attempt=1, step=10, why="RunError: 11 batches")
    assert standing(out)[0] == "failed" and standing(out)[1].endswith("RunError: 11 batches")
    wrote(out, 20, "start", attempt=2, step=10, ready=4.0)
    wrote(out, 10, "steps", attempt=2, **steps(400))
    wrote(out, 9, "stop", attempt=2, step=400, why="done")
    assert standing(out)[0] == "done"
    assert len(read_history(out)[0].attempts) == 3


def test_a_run_of_a_version_without_attempts(tmp_path):
    [run] = read_history(made(tmp_path / "run", 5))
    assert (run.goodput, run.attempts, run.shares) == (None, [], {})
    assert run.standing(run.changed + 1).word == "running" and run.standing(run.changed + 1e5).word == "silent"
    for epoch in range(6, 41):
        append_log(run.place, line(epoch))
    assert read_history(run.place)[0].standing(run.changed + 1e5).word == "done"


def test_an_empty_log_and_damaged_ones(tmp_path):
    out = made(tmp_path / "run")
    (out / LOG).touch()
    [run] = read_history(out)
    assert (run.log, run.spikes, run.damaged, run.score, run.noise_scale) == ([], [], 0, None, None)
    assert run.standing(run.changed + 1).word == "starting"
    made(out, 6)
    text = (out / LOG).read_text()
    (out / LOG).write_text(text + '{"epoch": 7, "lo')
    assert (read_history(out)[0].damaged, len(read_history(out)[0].log)) == (0, 6)
    (out / LOG).write_text(text.replace('"epoch": 4,', '"epoch": 4'))
    assert (read_history(out)[0].damaged, len(read_history(out)[0].log)) == (4, 3)


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(RunError, match=r"no config\.json here; not a run folder"):
        read_history(tmp_path)
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    with pytest.raises(RunError, match="say nothing of training"):
        read_history(tmp_path)


def test_a_folder_of_runs_is_each_of_them_and_none_twice(tmp_path):
    for name in ("b", "a"):
        made(tmp_path / "points" / name, 1)
    name_members(tmp_path / "points", ("b", "a"))
    found = read_histories([tmp_path / "points", tmp_path / "points" / "a"])
    assert [run.place.name for run in found] == ["b", "a"]


def test_names_are_as_long_as_tells_them_apart():
    assert short_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert short_names([Path("/x/run"), Path("/y/run")]) == ["x/run", "y/run"]
    assert short_names([Path("/x/run")]) == ["run"]
    assert len(set(short_names([Path("/a"), Path("/b/a")]))) == 2


def test_a_run_asked_for_more_epochs_has_no_spike_there(tmp_path):
    out = made(tmp_path / "run", 40)
    made(out, 0, replace(CONFIG, train=TrainConfig(epochs=60)))
    for epoch in range(41, 61):
        append_log(out, line(epoch, loss=4.0))
    assert read_history(out)[0].spikes == []


def test_settings_that_differ(tmp_path):
    first = read_config(made(tmp_path / "a"))
    assert differing([first, first]) == {}
    other = replace(CONFIG, train=TrainConfig(epochs=40, learning_rate=0.1, freeze=("a/*", "b")))
    assert differing([first, read_config(made(tmp_path / "b", config=other))]) == {
        "train.learning_rate": ["0.002", "0.1"],
        "train.freeze": ["not set", "a/* b"],
    }
    # Of an older version, which did not know a setting.
    older = json.loads(json.dumps(first))
    del older["train"]["freeze"], older["objective"]["cut"], older["execution"]["skip_batches"]
    assert differing([older, first]) == {}


def test_kinds_that_differ_are_named_and_only_what_all_have_is_compared(tmp_path):
    runs = [
        made(tmp_path / str(i), config=each)
        for i, each in enumerate(
            (CONFIG, replace(CONFIG, objective=MaskedConfig(noise=0.1)), replace(CONFIG, objective=JointConfig()))
        )
    ]
    assert differing([read_config(run) for run in runs]) == {"objective": ["labels", "masked", "joint"]}
    found = differing([read_config(run) for run in runs[:2]])
    assert found["objective.noise"] == ["0.005", "0.1"] and "objective.span" not in found
    unknown = {**asdict(CONFIG), "model": {"depth": 3}}
    assert differing([asdict(CONFIG), {**unknown, "model": {"planets": 3}}])["model"] == ["peer", "unknown"]
