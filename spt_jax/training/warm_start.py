"""Beginning with the parameters of another run: whatever has the same name and shape, and a word on all the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.checkpoint import load_model
from spt_jax.training.assemble import Assembly
from spt_jax.training.flat import path_name


@dataclass(frozen=True)
class Beginning:
    """params: the fresh tree with what was taken in its place. told: what was taken and what was not, in words."""

    params: Any
    told: tuple[str, ...]


def begin_with(run: Path, made: Assembly) -> Beginning:
    """The best model of `run` as a beginning. Raises CheckpointError where there is none.

    Heads are taken where both models answer the same questions; a head of other classes would be taken for noise.
    """
    document, read = load_model(run)
    other = Blueprint.from_json(document)
    _, params, constants = other.abstract()
    theirs = read({"params": params, "constants": constants})["params"]
    found = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(theirs)}
    same_heads = [(t.name, t.classes) for t in other.tasks] == [(t.name, t.classes) for t in made.blueprint.tasks]
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
    told = [f"begins with {len(taken)} of {len(leaves)} parameters of {run}"]
    told += [f"not taken, of another shape or not there: {', '.join(left)}"] if left else []
    told += [f"not used of {run}: {', '.join(unused)}"] if unused else []
    if [(t.mean, t.std) for t in other.tasks] != [(t.mean, t.std) for t in made.blueprint.tasks] and same_heads:
        told.append("values are standardised by the labels of this training set, which differ from those of that run")
    return Beginning(jax.tree.unflatten(structure, fresh), tuple(told))
