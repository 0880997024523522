"""A run that begins with another: what has the same name and shape is taken, the rest is told."""

import jax
import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.inference.load import load_run
from spt_jax.training.assemble import assemble
from spt_jax.training.loop import train
from spt_jax.training.warm_start import begin_with
from tests.training.test_train import MODEL, SETTINGS


def config(learnt=("CN", "MBL"), model=None, **settings) -> Config:
    train = TrainConfig(**{**SETTINGS, "epochs": 2, **settings})
    return Config(ModelConfig(**{**MODEL, **(model or {})}), LabelsConfig(descriptors=learnt), train)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    out = tmp_path_factory.mktemp("warm") / "first"
    train(config(), Dataset(LIBRARY), out)
    return out


def fresh(wanted: Config):
    dataset = Dataset(LIBRARY)
    return assemble(wanted, dataset.statistics("train"), dataset.grid, dataset.fingerprint, 10)


def parameters(out) -> dict[str, np.ndarray]:
    from flax import nnx

    _, params, _ = nnx.split(load_run(out).network, nnx.Param, ...)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


def test_the_same_network_is_taken_whole(first):
    made = fresh(config(seed=5))
    begun = begin_with(first, made)
    count = len(jax.tree.leaves(made.params))
    assert begun.told == (f"begins with {count} of {count} parameters of {first}",)
    theirs = parameters(first)
    for path, leaf in jax.tree.leaves_with_path(begun.params):
        np.testing.assert_array_equal(leaf, theirs[jax.tree_util.keystr(path)])


def test_heads_of_other_questions_and_other_shapes_are_left_and_told(first):
    other = begin_with(first, fresh(config(learnt=("OS", "CN"))))
    assert "not taken, of another shape or not there: heads/outputs/bias, heads/outputs/kernel" in other.told
    wide = begin_with(first, fresh(config(model={"hidden": 16, "hidden_layers": 2})))
    assert any("heads/shared/kernel" in text for text in wide.told if text.startswith("not taken"))
    # CN and PSGO, and OS and CN2, might have equally many outputs: it is the questions that must agree.
    same_size = begin_with(first, fresh(config(learnt=("CN", "NNRS"))))
    assert any("heads/outputs/kernel" in text for text in same_size.told)


def test_a_run_that_begins_so_with_most_of_it_frozen(first, tmp_path):
    told = []
    settings = config(init=str(first), freeze=("embed/*", "band_blocks/*", "heads/shared/*"), seed=3)
    train(settings, Dataset(LIBRARY), tmp_path / "second", tell=told.append)
    assert told[0].startswith("begins with ")
    before, after = parameters(first), parameters(tmp_path / "second")
    for name, was in before.items():
        frozen = any(part in name for part in ("'embed'", "'band_blocks'", "'shared'"))
        assert np.array_equal(was, after[name]) == frozen, name


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        train(config(init=str(tmp_path / "nowhere")), Dataset(LIBRARY), tmp_path / "out")
    assert not (tmp_path / "out").exists()
