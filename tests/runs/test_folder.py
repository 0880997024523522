"""Whose a run folder is, what may change when a run goes on, and what a damaged file says."""

import json
from dataclasses import replace

import pytest

from data_pipelines.errors import RunError
from spt_jax.config import Config, ExecutionConfig, ModelConfig, TrainConfig
from spt_jax.runs.folder import CHANGES, CONFIG, LOG, append_log, claim, read_config, read_log, rewind_log

CONFIGURED = Config(ModelConfig(width=8), train=TrainConfig(epochs=4))


def changed(**fields) -> Config:
    return replace(CONFIGURED, **fields)


def test_how_a_run_is_executed_may_change_and_is_recorded(tmp_path):
    assert claim(tmp_path, CONFIGURED, "data") == []
    assert claim(tmp_path, CONFIGURED, "data") == []
    append_log(tmp_path, {"epoch": 2})
    other = changed(execution=ExecutionConfig(accumulate=4, remat=True, dtype="bfloat16"))
    told = claim(tmp_path, other, "data")
    assert told == [
        "execution.accumulate was 1 and is 4",
        "execution.dtype was float32 and is bfloat16",
        "execution.remat was False and is True",
    ]
    [entry] = read_config(tmp_path)[CHANGES]
    assert entry == {
        "after_epoch": 2,
        "from": {"execution.accumulate": 1, "execution.dtype": "float32", "execution.remat": False},
    }
    assert claim(tmp_path, other, "data") == []


def test_a_run_may_become_longer_but_not_shorter_than_it_is(tmp_path):
    claim(tmp_path, CONFIGURED, "data")
    append_log(tmp_path, {"epoch": 4})
    longer = changed(train=replace(CONFIGURED.train, epochs=9))
    assert claim(tmp_path, longer, "data") == ["train.epochs was 4 and is 9"]
    with pytest.raises(RunError, match=r"trained for 4 epochs; --train.epochs 3 is less"):
        claim(tmp_path, changed(train=replace(CONFIGURED.train, epochs=3)), "data")


@pytest.mark.parametrize(
    ("other", "dataset", "name"),
    [
        (changed(model=ModelConfig(width=12)), "data", r"model\.width"),
        (changed(train=TrainConfig(epochs=4, seed=1)), "data", r"train\.seed"),
        (CONFIGURED, "other data", r"dataset\.fingerprint"),
    ],
)
def test_what_defines_a_run_may_not_change(tmp_path, other, dataset, name):
    claim(tmp_path, CONFIGURED, "data")
    before = (tmp_path / CONFIG).read_bytes()
    with pytest.raises(RunError, match=f"another {name}.*; choose another --out"):
        claim(tmp_path, other, dataset)
    assert (tmp_path / CONFIG).read_bytes() == before


def test_a_run_whose_best_model_was_chosen_by_another_score_does_not_go_on(tmp_path):
    claim(tmp_path, CONFIGURED, "data")
    written = read_config(tmp_path)
    assert written.pop("main_score") == {"class": "f1_weighted", "regression": "r2"}
    (tmp_path / CONFIG).write_text(json.dumps(written))
    with pytest.raises(RunError, match=r"chose by macro-F1.*another --out"):
        claim(tmp_path, CONFIGURED, "data")
    assert read_config(tmp_path) == written


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"model": '])
def test_a_damaged_configuration_is_named(tmp_path, text):
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(RunError, match=rf"{CONFIG}: damaged"):
        claim(tmp_path, CONFIGURED, "data")
    with pytest.raises(RunError, match="not a run folder"):
        read_config(tmp_path / "nowhere")


def test_a_log_is_read_to_its_first_damaged_line(tmp_path):
    lines = [{"epoch": i, "loss": 0.5} for i in (1, 2, 3)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for end in ('{"epoch": 4, "lo', '{"loss": 1}\n{"epoch": 5}\n', "null\n", "\x00\xff\n"):
        (tmp_path / LOG).write_text(text + end)
        assert read_log(tmp_path) == lines
    assert rewind_log(tmp_path, 2) == lines[1]
    assert read_log(tmp_path) == lines[:2]


def test_a_setting_that_came_later_had_its_default(tmp_path):
    claim(tmp_path, CONFIGURED, "data")
    written = read_config(tmp_path)
    del written["objective"]["teacher"], written["objective"]["teacher_share"], written["model"]["gaps"]
    (tmp_path / CONFIG).write_text(json.dumps(written))
    assert claim(tmp_path, CONFIGURED, "data") == []
    taught = changed(objective=replace(CONFIGURED.objective, teacher="spt-k"))
    with pytest.raises(RunError, match=r"another objective\.teacher; choose"):
        claim(tmp_path, taught, "data")
