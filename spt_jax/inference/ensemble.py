"""Several models of one training set as one: the mean of those that learnt a descriptor.

Seeds of one model all learnt the same; of experts each learnt its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from spt_jax.inference.predict import Model
from spt_jax.runs.blueprint import Blueprint
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.probabilities import FLOOR
from spt_jax.tasks import Task


def together(members: Sequence[Model]) -> Model:
    """One model that answers with the mean of the members' calibrated probabilities, and of their values.

    It is a network like any other, so it can be exported; what shows the inside of one network is not in its outputs.
    Raises ValueError where they are not models of the same descriptors, grid and training set.
    """
    first = members[0].blueprint
    for member in members[1:]:
        own = member.blueprint
        if (own.tasks, own.grid, own.absorbers, own.dataset) != (
            first.tasks,
            first.grid,
            first.absorbers,
            first.dataset,
        ):
            raise ValueError("the members were trained on different data")
    learnt = {task: [i for i, m in enumerate(members) if task in m.blueprint.learnt_tasks] for task in first.tasks}
    learnt = {task: own for task, own in learnt.items() if own}

    def network(spectrum: jax.Array, atomic_number: jax.Array) -> dict[str, jax.Array]:
        outputs = [member.network(spectrum, atomic_number) for member in members]
        return {
            task.name: _mean(task, [(members[i].decisions, outputs[i][task.name]) for i in own], atomic_number)
            for task, own in learnt.items()
        }

    blueprint = _blueprint({task.name: [members[i] for i in own] for task, own in learnt.items()})
    return Model(blueprint, network, parts=tuple(members))


def _mean(task: Task, each: list[tuple[Decisions, jax.Array]], atomic_number: jax.Array) -> jax.Array:
    """(B, ...) head outputs of the members -> the output whose probabilities, or value, are their mean."""
    if task.kind == "regression":
        return jnp.mean(jnp.stack([output for _, output in each]), axis=0)

    def temperature(decisions: Decisions) -> jax.Array:
        return jnp.asarray(decisions.temperatures(task.name), jnp.float32)[atomic_number][:, None]

    if task.kind == "elements":
        said = [jax.nn.sigmoid((output + task.offset) / temperature(decisions)) for decisions, output in each]
        mean = jnp.clip(jnp.mean(jnp.stack(said), axis=0), FLOOR, 1 - FLOOR)
        return jnp.log(mean) - jnp.log1p(-mean) - task.offset

    def calibrated(decisions: Decisions, output: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.log(jnp.maximum(jax.nn.softmax(output), FLOOR)) / temperature(decisions))

    return jnp.log(jnp.maximum(jnp.mean(jnp.stack([calibrated(*one) for one in each]), axis=0), FLOOR))


def _blueprint(learnt: dict[str, list[Model]]) -> Blueprint:
    members = [member for own in learnt.values() for member in own]
    decisions = None
    if any(member.blueprint.decisions for member in members):
        decisions = Decisions.of_mean({name: [member.decisions for member in own] for name, own in learnt.items()})
    return replace(members[0].blueprint, learnt=tuple(learnt), validation={}, decisions=decisions)
