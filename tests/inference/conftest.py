"""The model of the oldest release, with decisions, and as an exported file."""

from dataclasses import replace

import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.runs.export import export
from spt_jax.scoring.decide import class_priors
from spt_jax.scoring.decisions import Decisions
from tests.runs.formats import EXPORT_1


@pytest.fixture(scope="module")
def model():
    """A model with decisions, as training leaves one; that of the oldest format has none."""
    old, dataset = spt_jax.load(EXPORT_1), Dataset(LIBRARY)
    batch, materials = dataset.split("validation").batch, dataset.split("validation").materials
    answers, priors = old.answers(batch.spectrum, batch.atomic_number), class_priors(dataset.split("train").batch)
    fitted = Decisions.fit(answers, batch, materials, priors)
    # A power far from 0, so that a decision that is left out somewhere shows.
    fitted = replace(fitted, power=dict.fromkeys(fitted.power, 1.0))
    return spt_jax.Model(replace(old.blueprint, decisions=fitted), old.network)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.spt"
    export(model.blueprint, model.network, path)
    return path
