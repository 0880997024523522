"""Spikes and divergences planted into the loss of real training, and none in it as it is."""

import math

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, LabelsConfig, PeerConfig, TrainConfig
from spt_jax.runs.folder import read_log
from spt_jax.runs.loss_spikes import LASTING, loss_spikes
from spt_jax.training.loop import train

CALM = {"epochs": 80, "batch_size": 64, "validate_every": 40, "patience": 0}


def trained_log(out, **settings) -> list[dict]:
    config = Config(PeerConfig("mlp", width=128, depth=3), LabelsConfig(), TrainConfig(**CALM | settings))
    train(config, Dataset(LIBRARY), out)
    return read_log(out)


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> list[dict]:
    return trained_log(tmp_path_factory.mktemp("calm") / "run")


def planted(log: list[dict], factors: dict[int, float]) -> list[dict]:
    """Times a factor, by epoch."""
    return [{**line, "loss": line["loss"] * factors.get(line["epoch"], 1.0)} for line in log]


def test_training_that_goes_well_has_none(calm):
    assert len(calm) == CALM["epochs"] and calm[-1]["loss"] < calm[0]["loss"] / 2
    assert loss_spikes(calm) == []
    # Nor has any beginning of it, as it is looked at while it trains.
    assert not any(loss_spikes(calm[:end]) for end in range(len(calm)))


def test_training_at_a_rate_that_is_too_high_has_some(tmp_path):
    log = trained_log(tmp_path / "run", learning_rate=1.0, clip_norm=100.0, schedule="constant")
    found = loss_spikes(log)
    assert found and all(log[each.epoch - 1]["loss"] == each.loss > each.usual for each in found)


@pytest.mark.parametrize("_", range(5))
def test_a_planted_spike_is_found_where_it_is(calm, rng, _):
    first, length, factor = int(rng.integers(25, 70)), int(rng.integers(1, 5)), float(rng.uniform(6, 1000))
    factors = dict.fromkeys(range(first, first + length), factor)
    factors[top := first + int(rng.integers(length))] = 1.3 * factor
    [found] = loss_spikes(planted(calm, factors))
    assert (found.kind, found.epoch, found.first, found.last) == ("spike", top, first, first + length - 1)
    assert found.step == calm[top - 1]["step"]
    assert found.loss == pytest.approx(1.3 * factor * calm[top - 1]["loss"])
    before = [line["loss"] for line in calm[first - 10 : first - 1]]
    assert found.usual == pytest.approx(np.median(before))


def test_spikes_are_told_apart(calm):
    found = loss_spikes(planted(calm, {20: 4, 40: 4, 60: 4}))
    assert [(each.kind, each.epoch) for each in found] == [("spike", 20), ("spike", 40), ("spike", 60)]


@pytest.mark.parametrize("factor", [4.0, math.nan, math.inf])
def test_a_loss_that_stays_up_is_a_divergence(calm, factor):
    up = dict.fromkeys(range(50, 81), factor)
    [found] = loss_spikes(planted(calm, up))
    assert (found.kind, found.first, found.last) == ("divergence", 50, 80)
    # While it is not known yet, it is neither.
    [found] = loss_spikes(planted(calm, up)[: 50 + LASTING - 2])
    assert (found.kind, found.first) == ("high at the end", 50)
    [found] = loss_spikes(planted(calm, {epoch: f for epoch, f in up.items() if epoch < 70}))
    assert (found.kind, found.last) == ("spike", 69)


def test_a_run_that_goes_wrong_at_once():
    log = [
        {"epoch": i, "step": 10 * i, "loss": loss}
        for i, loss in enumerate((1.6, 1.5, 9.0, 80.0, 900.0, 1e4, 1e5, 1e6), 1)
    ]
    [found] = loss_spikes(log)
    assert (found.kind, found.epoch, found.first, found.usual) == ("divergence", 8, 3, pytest.approx(1.55))


def test_a_loss_below_zero_as_of_a_likelihood(calm):
    below = [{**line, "loss": line["loss"] - 5} for line in calm]
    assert loss_spikes(below) == []
    below[39]["loss"] += 20
    assert [(each.kind, each.epoch) for each in loss_spikes(below)] == [("spike", 40)]


def test_a_schedule_that_begins_again_is_no_spike(calm):
    more = [{**line, "epoch": line["epoch"] + 80, "step": line["step"] + 400} for line in calm]
    assert loss_spikes(calm + more) and loss_spikes(calm + more, changed=[80]) == []


def test_logs_with_little_in_them():
    assert loss_spikes([]) == []
    assert loss_spikes([{"epoch": 1, "step": 1, "loss": math.nan}])[0].kind == "high at the end"
    same = [{"epoch": i, "step": i, "loss": 0.0} for i in range(1, 30)]
    assert loss_spikes(same) == []
