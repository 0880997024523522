"""A network and the step that trains it, put together in one place: for the trainer, for ensembles and for benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import EnergyGrid
from spt_jax.config import Config
from spt_jax.objectives.distil import Teacher
from spt_jax.objectives.objective import Objective, make_objective
from spt_jax.runs.blueprint import Blueprint
from spt_jax.training.flat import Flat
from spt_jax.training.optimiser import make_optimiser, make_schedule
from spt_jax.training.sharding import Layout
from spt_jax.training.step import BESIDE, StepFunction, TrainState, init_state, make_step

# Training spectra that must have an energy of the grid.
FEWEST = 20
# Vectors are padded to a multiple of this, so that they are of one length on any usual number of devices.
MULTIPLE = 2048


@dataclass(frozen=True)
class Assembly:
    """What training compiles.

    graph, params, constants: the fresh network, as `nnx.split` parts it; where it was made from several seeds, params
    have the members in front.
    """

    config: Config
    blueprint: Blueprint
    objective: Objective
    layout: Layout
    graph: nnx.GraphDef
    params: Any
    constants: Any
    flat: Flat
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule

    @cached_property
    def step(self) -> StepFunction:
        """The training step, to be compiled by the caller."""
        train, execution = self.config.train, self.config.execution
        model_of = partial(nnx.merge, self.graph)
        given = (model_of, self.constants, self.objective, self.optimiser, self.schedule, train.ema)
        return make_step(*given, self.flat, self.layout, execution.accumulate)

    def state(self, params: Any | None = None) -> TrainState:
        """A fresh state on the devices, of `params` where given."""
        params = self.params if params is None else params
        state = init_state(params, self.optimiser, self.flat, self.config.train.seed)
        return self.layout.place(state, self.flat.size)

    def states(self, seeds: tuple[int, ...]) -> TrainState:
        """The same of members, one for each seed, with the members in front."""
        init = jax.vmap(lambda params, seed: init_state(params, self.optimiser, self.flat, seed))
        return jax.jit(init)(self.params, jnp.array(seeds, jnp.int32))

    @cached_property
    def _averages(self):
        def tree(vector: jax.Array, member: jax.Array) -> Any:
            one = vector if vector.ndim == 1 else vector[member]
            return jax.tree.map(self.layout.whole, self.flat.unravel(self.layout.whole(one)))

        return jax.jit(tree)

    def average(self, state: TrainState, member: int = 0) -> Any:
        """The averaged parameters of a member as a tree, whole on every device."""
        return self._averages(state.average, member)

    @cached_property
    def _apply(self):
        return jax.jit(lambda params, *inputs: nnx.merge(self.graph, params, self.constants)(*inputs))

    def network(self, params: Any) -> partial:
        """(B, L) spectra and (B,) atomic numbers -> outputs, by the same compiled program for any parameters."""
        return partial(self._apply, params)


def _check_range(train: Statistics, grid: EnergyGrid) -> None:
    """Raises RunError where hardly a training spectrum has the last energies: of these a longer spectrum would be judged;
    and where hardly a row has one of several signals."""
    few = np.diag(train.pairs) < min(FEWEST, train.count)
    if few.any() and grid.signals:
        short = {grid.signals[i // grid.points]: int(train.pairs[i, i]) for i in np.flatnonzero(few)}
        said = ", ".join(f"{name} ({count})" for name, count in short.items())
        raise RunError(
            f"fewer than {FEWEST} training rows have {said}; prepare with --grid.signals without it, or with more that has it"
        )
    if few.any():
        last, count = int(np.argmax(few)), int(np.diag(train.pairs).min())
        raise RunError(
            f"{count} training spectra reach the end of the grid, fewer than {FEWEST}; prepare with --grid.points {last} "
            "or less"
        )


def assemble(
    config: Config,
    train: Statistics,
    grid: EnergyGrid,
    dataset: str,
    steps_per_epoch: int,
    layout: Layout | None = None,
    seeds: tuple[int, ...] = (),
    teacher: Teacher | None = None,
) -> Assembly:
    """A fresh network for a training set: its statistics, its grid and its fingerprint. seeds: of several members.

    teacher: that the objective names, loaded.
    """
    layout = layout or Layout()
    objective = make_objective(config.objective, train, grid, teacher)
    _check_range(train, grid)
    if (grid.gaps or objective.hides) and not config.model.gaps:
        config = replace(config, model=replace(config.model, gaps=True))
    blueprint = Blueprint.of(config.model, config.execution, grid, objective.tasks, train, dataset, objective.hides)
    if seeds:
        graph, params, constants = blueprint.build_many(jnp.array(seeds), train.covariance, train.elements)
        one, constants = (jax.tree.map(lambda x: x[0], tree) for tree in (params, constants))
    else:
        key = jax.random.key(config.train.seed)
        graph, params, constants = blueprint.build(key, train.covariance, train.elements)
        one = params
    flat = Flat(one, len(objective.names) + BESIDE, int(np.lcm(MULTIPLE, layout.devices)))
    schedule = make_schedule(config.train, steps_per_epoch)
    optimiser = make_optimiser(config.train, schedule, flat)
    constants = layout.place_whole(constants)
    return Assembly(config, blueprint, objective, layout, graph, params, constants, flat, optimiser, schedule)
