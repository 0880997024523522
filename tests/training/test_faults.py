"""What goes wrong in the middle of training costs nothing but time, and is said with a name."""

import json
import os
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from data_pipelines.dataset import blocks
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, ExecutionConfig, ModelConfig, TrainConfig
from spt_jax.runs.attempts import read_attempts
from spt_jax.runs.folder import read_log
from spt_jax.training import epochs, heartbeat, together
from spt_jax.training.heartbeat import Heartbeat
from spt_jax.training.loop import train
from spt_jax.training.together import Slow, Word
from tests.training.test_train import MIXED, MODEL

EVERY_SPAN, USUAL = ExecutionConfig(save_minutes=1e-6), ExecutionConfig()
LONG = {"epochs": 2, "batch_size": 8, "input": "stream", "validate_every": 1}


def run(out, data=LIBRARY, execution=EVERY_SPAN, **settings):
    return train(
        Config(ModelConfig(**MODEL), MIXED, TrainConfig(**{**LONG, **settings}), execution), Dataset(data), out
    )


def newest(out):
    """The step of the newest checkpoint, and the digest of its arrays."""
    step = max(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdigit())
    return step, json.loads((out / f"checkpoints/{step}/progress/metadata").read_text())["digest"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults") / "alone"
    run(out, execution=USUAL)
    return out


@pytest.fixture
def spans(monkeypatch):
    """Spans of four steps, and what happens after so many of them."""
    monkeypatch.setattr(together, "FIRST_SPAN", 4)
    monkeypatch.setattr(together, "LONGEST_SPAN", 4)
    happenings, own = {}, together.gathered

    def gathered(word):
        happenings["spans"] = happenings.get("spans", 0) + 1
        happenings.pop(happenings["spans"], lambda: None)()
        return own(word)

    monkeypatch.setattr(together, "gathered", gathered)
    return happenings


def test_a_stop_within_an_epoch_costs_no_step(alone, spans, tmp_path):
    spans[3] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(epochs.Interrupted):
        run(tmp_path, execution=USUAL)
    steps = read_log(alone)[0]["step"]
    assert newest(tmp_path)[0] == 16 < steps and not read_log(tmp_path)
    run(tmp_path, execution=USUAL)
    assert [line["loss"] for line in read_log(tmp_path)] == [line["loss"] for line in read_log(alone)]
    assert newest(tmp_path) == newest(alone)
    assert [line["step"] for line in read_attempts(tmp_path) if line["event"] == "start"] == [0, 16]


def test_a_crash_within_an_epoch_costs_the_steps_since_the_last_checkpoint(alone, spans, tmp_path):
    def crash():
        raise MemoryError

    spans[4] = crash
    with pytest.raises(MemoryError):
        run(tmp_path)
    run(tmp_path)
    assert newest(tmp_path) == newest(alone)
    assert [line["loss"] for line in read_log(tmp_path)] == [line["loss"] for line in read_log(alone)]
    starts = [line for line in read_attempts(tmp_path) if line["event"] == "start"]
    assert [line["step"] for line in starts] == [0, 12]
    assert [line["why"] for line in read_attempts(tmp_path) if line["event"] == "stop"] == ["MemoryError", "done"]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """The library with one training spectrum that no network survives, and its id."""
    folder = tmp_path_factory.mktemp("spoilt") / "set"
    shutil.copytree(LIBRARY, folder)
    part = next(path for path in sorted((folder / "blocks").iterdir()) if "crystalline" in path.name)
    splits = {}
    for split in ("train", "validation", "test"):
        held = blocks.gather(own := blocks.Blocks([part], split), np.arange(len(own)))
        splits[split] = [blocks.Rows(*(array.copy() for array in held))]
    splits["train"][0].spectrum[7] = 3e38
    blocks.write(part, splits)
    whole = Dataset(folder).split("train")
    return folder, whole.ids[int(np.argmax(whole.batch.spectrum.max(axis=1)))]


def test_an_epoch_says_where_it_stands(tmp_path, spans):
    lines, config = [], Config(ModelConfig(**MODEL), MIXED, TrainConfig(**LONG), USUAL)
    steps = train(config, Dataset(LIBRARY), tmp_path / "run", within=lines.append)["step"] // 2
    assert [(line["epoch"], line["share"]) for line in lines] == [
        (epoch, done / steps) for epoch in (1, 2) for done in range(4, steps, 4)
    ]
    assert all(np.isfinite(line["loss"]) and line["spectra_per_s"] > 0 for line in lines)


@pytest.mark.parametrize("mode", ["stream", "resident"])
def test_a_batch_that_is_not_finite_is_left_out_and_named(spoilt, tmp_path, mode):
    run(tmp_path, spoilt[0], input=mode, execution=USUAL)
    log = read_log(tmp_path)
    assert [line["skipped"] for line in log] == [1, 1] and all(np.isfinite(line["loss"]) for line in log)
    told = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in told] == [1, 2]
    assert all(spoilt[1] in line["ids"] and len(line["ids"]) == 8 for line in told)


def test_more_of_them_than_allowed_stop_the_run(spoilt, tmp_path):
    with pytest.raises(
        RunError, match=r"1 batches of epoch 1, more than --execution\.skip-batches 0: .* with the rows "
    ):
        run(tmp_path, spoilt[0], execution=ExecutionConfig(skip_batches=0))


def test_a_silent_process_is_named_by_all_others(tmp_path, monkeypatch):
    """Three of them, as threads of this process: one falls silent, one is stuck in its own input."""
    monkeypatch.setattr(heartbeat.multihost_utils, "broadcast_one_to_all", lambda x: np.int32(5))
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    told, hearts = {0: [], 1: [], 2: []}, []
    for number in range(3):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        hearts.append(Heartbeat(tmp_path, 2.0, told[number].append).__enter__())
    hearts[2].doing("devices", 40)
    time.sleep(1.0)
    assert not any(told.values())
    hearts[2]._over.set()
    until = time.monotonic() + 20
    while not (told[0] and told[1]) and time.monotonic() < until:
        time.sleep(0.05)
    assert all("process 2 (" in told[i][0] and "silent since" in told[i][0] for i in (0, 1)), told
    assert "after step 40 (devices)" in told[0][0]
    for heart in hearts:
        heart._over.set()


def test_a_process_that_is_stuck_in_its_input_says_so_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat.multihost_utils, "broadcast_one_to_all", lambda x: np.int32(6))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    told = []
    with Heartbeat(tmp_path, 1.0, told.append) as heart:
        heart.doing("input", 12)
        until = time.monotonic() + 20
        while not told and time.monotonic() < until:
            time.sleep(0.05)
    assert "waits for its input since 1 s, at step 12" in told[0]


def test_slow_processes_are_named_once_and_others_are_not():
    def words(inputs, probes):
        return [Word(0, 0, 0.01, *each) for each in zip(inputs, probes, strict=True)]

    slow = Slow(["a", "b", "c", "d"])
    assert not any(slow.found(words([0.1, 0.1, 1.2, 0.1], [1e-3] * 4), 2.0) for _ in range(4))
    [told] = slow.found(words([0.1, 0.1, 1.2, 0.1], [1e-3] * 4), 2.0)
    assert told == "process 2 (c) waited 1.20 s of 2.00 s for its input, the others 0.10 s"
    assert slow.found(words([0.1, 0.1, 1.2, 0.1], [1e-3] * 4), 2.0) == []
    rest = [slow.found(words([0.1] * 4, [1e-3, 3e-3, 1e-3, 1.1e-3]), 2.0) for _ in range(5)]
    assert not any(rest[:4]) and rest[4][0].startswith("process 1 (b) is slow: its device takes 3.0 ms")
    even = Slow(["a", "b"])
    assert not any(even.found(words([0.01, 0.03], [1e-3, 1.2e-3]), 2.0) for _ in range(9))
    assert Slow(["a"]).found(words([9.0], [1.0]), 2.0) == []


def test_the_account_of_the_time_adds_up(alone):
    lines = read_attempts(alone)
    steps = [line for line in lines if line["event"] == "steps"]
    assert [line["step"] for line in steps][-1] == read_log(alone)[-1]["step"]
    spent = sum(sum(line["seconds"].values()) for line in steps)
    wall = steps[-1]["at"] - lines[0]["at"]
    assert 0.6 * wall < spent <= wall + 0.1 and all(min(line["seconds"].values()) >= 0 for line in steps)
    assert steps[0]["seconds"]["compile"] > 0.1 and lines[0]["ready"] > 0 and lines[-1]["why"] == "done"
