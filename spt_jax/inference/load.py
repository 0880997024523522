"""A run folder -> its best model. The one part of inference that needs flax and orbax."""

from __future__ import annotations

from pathlib import Path

from flax import nnx

from data_pipelines.errors import CheckpointError
from spt_jax.inference.predict import Model
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.checkpoint import load_model


def load_run(run: Path) -> Model:
    """Raises CheckpointError where the run has no model, or one of another version."""
    document, read_variables = load_model(run)
    try:
        blueprint = Blueprint.from_json(document)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run}: checkpoint of another version of spt-jax ({error!r}); train again") from None
    graph, params, constants = blueprint.abstract()
    variables = read_variables({"params": params, "constants": constants})
    return Model(blueprint, nnx.merge(graph, variables["params"], variables["constants"]))
