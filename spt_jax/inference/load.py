"""A run folder -> its best model; an ensemble's folder, or a packed file -> its members as one. What needs flax."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx

from data_pipelines.errors import CheckpointError
from data_pipelines.loss_grid import LossGrid
from data_pipelines.places import Place
from spt_jax.inference.ensemble import together
from spt_jax.inference.predict import Model
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.checkpoint import MODEL, load_model
from spt_jax.runs.folder import CONFIG, members_of
from spt_jax.runs.packed import read_packed


def load_folder(folder: Place, source: int | str | None = None) -> Model:
    """The model of a run folder, or the members in an ensemble's folder as one; source: as of `load`.

    Raises CheckpointError where there is no model, or one of another version.
    """
    # A run that has a model needs no configuration to be used, and may have lost it.
    single = any((folder / MODEL).glob("*")) or not (folder / CONFIG).exists()
    members = {} if single else load_members(folder, source)
    if not members:
        return load_run(folder, source)
    if len(members) == 1:
        return next(iter(members.values()))
    try:
        return together(list(members.values()))
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}; train the ensemble again") from None


def load_packed(path: Path, source: int | str | None = None) -> Model:
    """The members of a packed file as one; source: as of `load`. Raises CheckpointError where it is none, or not whole."""
    packed = read_packed(path)
    members = [_of_source(member.blueprint, member.network(), source) for member in packed.members]
    model = together(members) if len(members) > 1 else members[0]
    decisions = packed.decisions or model.blueprint.decisions
    blueprint = replace(model.blueprint, decisions=decisions)
    return Model(blueprint, model.network, domain=packed.domain, parts=model.parts)


def load_members(folder: Place, source: int | str | None = None) -> dict[str, Model]:
    """The models of an ensemble's folder by name; none in the folder of a single run."""
    return {name: load_run(folder / name, source) for name in members_of(folder)}


def load_run(run: Place, source: int | str | None = None) -> Model:
    """source: as of `load`. Raises CheckpointError where the run has no model, or one of another version."""
    document, read_variables = load_model(run)
    try:
        blueprint = Blueprint.from_json(document)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run}: checkpoint of another version of spt-jax ({error!r}); train again") from None
    if isinstance(blueprint.grid, LossGrid):
        raise CheckpointError(f"{run}: answers spectrum images, not spectra of one absorber: spt-jax image {run} FILE")
    if not blueprint.tasks:
        raise CheckpointError(
            f"{run}: trained on hidden parts of spectra, without labels, so it answers nothing yet; begin a run on labels "
            f"with it: spt-jax train base --data LABELLED --out RUN --train.init {run}"
        )
    graph, params, constants = blueprint.abstract()
    variables = read_variables({"params": params, "constants": constants})
    return _of_source(blueprint, nnx.merge(graph, variables["params"], variables["constants"]), source)


def _of_source(blueprint: Blueprint, network: Any, source: int | str | None) -> Model:
    """A network that was just made, set to answer for spectra of a source where one is given."""
    if source is None:
        return Model(blueprint, network)
    network.sources.weights[...] = jnp.asarray(blueprint.weights_of(source))
    return Model(replace(blueprint, source=str(source)), network)
