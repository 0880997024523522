"""Beginning with the parameters of another run: whatever has the same name and shape, and a word on all the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax

from data_pipelines.errors import RunError
from spt_jax.config import FusionConfig, ModelConfig
from spt_jax.runs.blueprint import Blueprint, path_name
from spt_jax.runs.checkpoint import MODEL, load_model
from spt_jax.runs.folder import CONFIG, members_of
from spt_jax.runs.packed import read_packed
from spt_jax.training.assemble import Assembly
from spt_jax.zoo.shelf import SUFFIX, place_of

T = TypeVar("T")
# What a network for several signals has of each of them, by its place in the row.
OF_SIGNALS = "fillers/"


@dataclass(frozen=True)
class Beginning:
    """params: the fresh tree with what was taken in its place. told: what was taken and what was not, in words."""

    params: Any
    told: tuple[str, ...]


def begin_with(named: str | Path, made: Assembly) -> Beginning:
    """The best model of a run folder as a beginning, or the first member of its kind in a folder of several, as of
    `spt-jax finetune`, in a packed file or in a model of the zoo. Raises CheckpointError where there is none, and RunError
    for one of other energies.

    Heads are taken where both models answer the same questions; a head of other classes would be taken for noise. A network for
    several signals takes SPT as its trunk.
    """
    named, other, theirs = _parameters(named, made)
    grid, own = other.grid, made.blueprint.grid
    if grid.points == own.points and (grid.start, grid.step) != (own.start, own.step):
        raise RunError(
            f"{named} reads a grid {grid}, this training set has one {own}: its parameters are of other energies"
        )
    fused = isinstance(made.blueprint.model, FusionConfig)
    place = "trunk/" if fused and isinstance(other.model, ModelConfig) else ""
    found = {place + path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(theirs)}
    if fused and grid.signals != own.signals:
        found = {name: leaf for name, leaf in found.items() if not name.startswith(OF_SIGNALS)}
    same_heads = _questions(other) == _questions(made.blueprint)
    leaves, structure = jax.tree.flatten_with_path(made.params)
    taken, left, fresh = [], [], []
    for path, leaf in leaves:
        name = path_name(path)
        is_head = name.startswith(("heads/outputs/", "outputs/"))
        if name in found and found[name].shape == leaf.shape and (same_heads or not is_head):
            taken.append(name)
            fresh.append(jax.device_put(found[name].astype(leaf.dtype), leaf.sharding))
        else:
            left.append(name)
            fresh.append(leaf)
    unused = sorted(found.keys() - set(taken) - set(left))
    told = [f"begins with {len(taken)} of {len(leaves)} parameters of {named}"]
    told += [f"not taken, of another shape or not there: {', '.join(left)}"] if left else []
    told += [f"not used of {named}: {', '.join(unused)}"] if unused else []
    if [(t.mean, t.std) for t in other.tasks] != [(t.mean, t.std) for t in made.blueprint.tasks] and same_heads:
        told.append("values are standardised by the labels of this training set, which differ from those of that run")
    return Beginning(jax.tree.unflatten(structure, fresh), tuple(told))


def _questions(blueprint: Blueprint) -> list[tuple]:
    """What each output of the heads means."""
    return [(task.name, task.classes, task.elements) for task in blueprint.tasks]


def _parameters(named: str | Path, made: Assembly) -> tuple[str, Blueprint, Any]:
    """Of what model, and its parameters."""
    place = place_of(named)

    def chosen_of(found: Sequence[T], blueprint_of: Callable[[T], Blueprint]) -> T:
        """The first of its kind, or of its trunk's."""
        wanted = type(made.blueprint.model)
        for kind in (wanted, ModelConfig) if wanted is FusionConfig else (wanted,):
            for each in found:
                if isinstance(blueprint_of(each).model, kind):
                    return each
        return found[0]

    if place.suffix == SUFFIX:
        chosen = chosen_of(read_packed(place).members, lambda member: member.blueprint)
        return str(named), chosen.blueprint, chosen.params
    runs = [place] if (place / MODEL).is_dir() or not (place / CONFIG).exists() else _members(place)
    found = []
    for run in runs:
        document, read = load_model(run)
        found.append((run, Blueprint.from_json(document), read))
    run, blueprint, read = chosen_of(found, lambda each: each[1])
    _, params, constants = blueprint.abstract()
    told = str(named) if run == place else str(run)
    return told, blueprint, read({"params": params, "constants": constants})["params"]


def _members(place: Path) -> list[Path]:
    return [place / name for name in members_of(place)] or [place]
