"""Training that goes on with another system: the network as it is, with what it knows of its input and of its outputs.

Mean, covariance and class lists stay those that it was trained with: of eight spectra there would be none. So all of its
numbers mean what they meant, and what comes out is a run like any other. With a rank, only products of two narrow
matrices are learnt beside each matrix (LoRA, Hu et al., arXiv 2106.09685); what is saved is their sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.dataset.shots import Shots
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import SYMBOLS, Batch
from spt_jax.config import Config
from spt_jax.inference.load import load_members, load_run
from spt_jax.objectives.labels import Labels
from spt_jax.runs.blueprint import path_name
from spt_jax.runs.folder import claim
from spt_jax.runs.packed import PackedMember, read_packed
from spt_jax.scoring.decisions import Decisions
from spt_jax.tasks import Task
from spt_jax.training.assemble import MULTIPLE, Assembly
from spt_jax.training.epochs import run_epochs
from spt_jax.training.flat import Flat
from spt_jax.training.judge import Member
from spt_jax.training.loop import Resident, steps_per_epoch
from spt_jax.training.optimiser import make_optimiser, make_schedule
from spt_jax.training.sharding import Layout
from spt_jax.training.step import BESIDE, StepFunction, make_step
from spt_jax.zoo.shelf import SUFFIX, place_of

EMBEDDING = "element/embedding"


def starts_of(named: str) -> tuple[PackedMember, ...]:
    """The networks of a run folder, of an ensemble's folder, of a packed file or of a model of the zoo.

    Raises RunError for an exported file, which is a program and has no parameters.
    """
    place = place_of(named)
    if place.suffix == SUFFIX:
        return read_packed(place).members
    if place.is_file():
        raise RunError(f"{named}: an exported file cannot learn; give the run that it was exported from")
    try:
        members = list(load_members(place).values())
    except RunError:  # a run that lost its configuration still has its model
        members = []
    return tuple(PackedMember.of(each.blueprint, each.network) for each in members or [load_run(place)])


def introduced(start: PackedMember, absorbers: set[str]) -> tuple[PackedMember, dict[str, str]]:
    """The same network with these absorbers among those it knows; and of each new one, whose vector it begins with.

    That is the vector of the known element with the nearest atomic number: its own was never trained. Raises RunError
    for an element that the network has no place for.
    """
    known = start.blueprint.absorbers
    new = sorted(absorbers - set(known))
    if not new:
        return start, {}
    params, begun = _named(start.params), {}
    [place] = [name for name in params if name.endswith(EMBEDDING)]
    vectors = np.array(params[place])
    for absorber in new:
        z = SYMBOLS.index(absorber.split()[0])
        if z >= len(vectors):
            raise RunError(f"{absorber}: this model knows elements up to {SYMBOLS[len(vectors) - 1]}")
        near = min(known, key=lambda other: abs(SYMBOLS.index(other.split()[0]) - z))
        if near.split()[0] != absorber.split()[0]:
            vectors[z] = vectors[SYMBOLS.index(near.split()[0])]
        begun[absorber] = near
    changed = _with(start.params, {place: jnp.asarray(vectors)})
    return PackedMember(
        replace(start.blueprint, absorbers=tuple(sorted({*known, *new}))), changed, start.constants
    ), begun


@dataclass(frozen=True)
class Continued(Labels):
    """Labels of another system, by the tasks of the model as it came.

    before: how it decided. judged: on other spectra than those that are learnt from; on these it is too sure of itself.
    """

    before: Decisions | None = None
    judged: bool = True

    def decisions(
        self, outputs: dict[str, np.ndarray], batch: Batch, materials: tuple[str, ...], names: tuple[str, ...]
    ) -> Decisions:
        """Temperatures that cannot be fitted here stay; intervals are promises about other materials, and do not."""
        before = self.before or Decisions()
        if not self.judged:
            return Decisions(before.temperature, coverage=before.coverage, power=before.power, prior=before.prior)
        found = super().decisions(outputs, batch, materials, names)
        return replace(found, temperature={**before.temperature, **found.temperature})


@dataclass(frozen=True)
class LowRank(Assembly):
    """An Assembly whose trained parameters are factors; whole: the parameters that their products are added to."""

    whole: Any = None

    @cached_property
    def step(self) -> StepFunction:
        def model_of(factors: Any, constants: Any) -> nnx.Module:
            return nnx.merge(self.graph, merged(constants["whole"], factors), constants["own"])

        train = self.config.train
        constants = {"whole": self.layout.place_whole(self.whole), "own": self.constants}
        given = (model_of, constants, self.objective, self.optimiser, self.schedule, train.ema)
        return make_step(*given, self.flat, self.layout)

    def average(self, state: Any, member: int = 0) -> Any:
        return merged(self.layout.place_whole(self.whole), super().average(state, member))


def factors_of(params: Any, rank: int, seed: int) -> dict[str, dict[str, jax.Array]]:
    """Of each matrix (..., n, m) that is larger, down (n, rank), random, and up (rank, m), zeros: the product is 0."""
    found = {}
    for name, leaf in _named(params).items():
        if name.endswith("kernel") and leaf.ndim == 2 and min(leaf.shape) > rank:
            key = jax.random.fold_in(jax.random.key(seed), len(found))
            down = jax.random.normal(key, (leaf.shape[0], rank)) / np.sqrt(leaf.shape[0])
            found[name] = {"down": down, "up": jnp.zeros((rank, leaf.shape[1]))}
    if not found:
        raise RunError(f"rank {rank}: no matrix of this network is larger; give a smaller one")
    return found


def merged(params: Any, factors: dict[str, dict[str, jax.Array]]) -> Any:
    """The parameters with the products added."""
    whole = _named(params)
    return _with(params, {name: whole[name] + own["down"] @ own["up"] for name, own in factors.items()})


def assemble_on(
    start: PackedMember, config: Config, shots: Shots, absorbers: set[str], rank: int, layout: Layout
) -> Assembly:
    """What training compiles, of a network that has learnt before. absorbers: that it is to answer for."""
    start, _ = introduced(start, absorbers)
    train = shots.statistics("train")
    blueprint = replace(start.blueprint, dataset=shots.fingerprint, execution=config.execution, validation={})
    decided = start.blueprint.decisions
    priors = {name: np.array(each) for name, each in decided.prior.items()} if decided else {}
    tasks = tuple(_covered(task, train) for task in blueprint.learnt_tasks)
    given = (config.objective, tasks, blueprint.grid, priors)
    objective = Continued(*given, before=decided, judged=not shots.alone)
    trained = factors_of(start.params, rank, config.train.seed) if rank else start.params
    flat = Flat(trained, len(objective.names) + BESIDE, int(np.lcm(MULTIPLE, layout.devices)))
    schedule = make_schedule(config.train, steps_per_epoch(train.count, config.train.batch_size))
    optimiser = make_optimiser(config.train, schedule, flat)
    graph, constants = blueprint.abstract()[0], layout.place_whole(start.constants)
    parts = (config, blueprint, objective, layout, graph, trained, constants, flat, optimiser, schedule)
    return LowRank(*parts, start.params) if rank else Assembly(*parts)


def adapt(
    start: PackedMember,
    config: Config,
    shots: Shots,
    absorbers: set[str],
    rank: int,
    layout: Layout,
    out: Path,
    report: Callable[[dict], None] = lambda line: None,
) -> dict:
    """Train on into the run folder `out`, or go on where a stopped run left off; returns the last log line.

    Raises Interrupted as `loop.train` does.
    """
    layout.check_batch(config.train.batch_size, 1, config.model.whole_batch)
    made = assemble_on(start, config, shots, absorbers, rank, layout)
    steps = steps_per_epoch(shots.count("train"), config.train.batch_size)
    claim(out, config, shots.fingerprint)
    epoch = Resident(made, shots, steps, partial(jax.jit, donate_argnums=0))
    member = Member(out, config.train.seed, made.objective.names)
    return run_epochs(made, made.state(), epoch, steps, (member,), shots.split("validation"), out, report)


def _covered(task: Task, train: Statistics) -> Task:
    """With the share of these labels: by that of the training set a rare label would outweigh all others here."""
    count = train.labels[task.name].count
    return replace(task, coverage=count / train.count) if count else task


def _named(tree: Any) -> dict[str, jax.Array]:
    return {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _with(tree: Any, changed: dict[str, jax.Array]) -> Any:
    """The tree with some leaves in the place of those of their names."""
    leaves, structure = jax.tree.flatten_with_path(tree)
    return jax.tree.unflatten(structure, [changed.get(path_name(path), leaf) for path, leaf in leaves])
