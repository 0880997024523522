"""Members of an ensemble train as they would alone."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import workload
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, ModelConfig, TrainConfig
from spt_jax.inference.load import load_run
from spt_jax.training.ensemble import emphasis, experts, run_members, train_members
from spt_jax.training.step import Quota, make_epoch
from tests.training.test_train import MIXED, MODEL, SETTINGS


def test_stacked_and_in_turns_are_the_same_as_alone():
    config = Config(ModelConfig(**{**MODEL, "width": 8, "attention": "gatv1"}), MIXED)
    work = workload.make(config, 24, 24)
    state = work.made.state()
    epoch = make_epoch(work.made.step, 3, (Quota(0, 24, 8),), 0, lambda batch: batch)
    members = experts(config, work.made.objective.names, Path())[:3]
    weights = jnp.stack([emphasis(member, work.made.objective) for member in members])
    states = jax.tree.map(lambda x: jnp.stack([x] * len(members)), state)
    found = [
        run_members(epoch, stacked)(jax.tree.map(jnp.copy, states), weights, work.batch)[0].params
        for stacked in (True, False)
    ]
    alone = jax.jit(epoch)
    for i, weight in enumerate(weights):
        expected = alone(state, work.batch, weight)[0].params
        for params in found:
            np.testing.assert_allclose(params[i], expected, atol=2e-6)
    assert np.abs(found[0][0] - found[0][1]).max() > 1e-5


@pytest.mark.parametrize("stacked", [True, False])
def test_experts_become_run_folders_that_know_one_descriptor(tmp_path, stacked):
    objective, train = replace(MIXED, descriptors=("CN", "MBL")), TrainConfig(**{**SETTINGS, "epochs": 2})
    config, dataset = Config(ModelConfig(**MODEL), objective, train), Dataset(LIBRARY)
    last = train_members(config, dataset, tmp_path / "all", stacked=stacked)
    assert set(last["validation"]) == {"CN", "MBL"}
    for name in ("CN", "MBL"):
        assert [task.name for task in load_run(tmp_path / "all" / name).blueprint.learnt_tasks] == [name]
    again = train_members(config, dataset, tmp_path / "all", stacked=stacked)
    assert again == last
    with pytest.raises(RunError, match=r"ensemble\.members"):
        train_members(config, dataset, tmp_path / "all", count=2)
