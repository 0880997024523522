"""Several models of one shape trained together: an expert for each descriptor, or the same model from several seeds.

Parameters are vectors, so members are rows: one program steps them all on the same batches. A CPU gains nothing
from that and loses cache, so there the members take turns in one compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.dataset.data import Data
from data_pipelines.errors import RunError
from data_pipelines.places import Place
from spt_jax.config import Config, LabelsConfig
from spt_jax.objectives.objective import Objective, make_objective
from spt_jax.runs.folder import claim
from spt_jax.training.assemble import assemble
from spt_jax.training.epochs import run_epochs
from spt_jax.training.judge import Member
from spt_jax.training.loop import JUDGED, Resident, steps_per_epoch
from spt_jax.training.teacher import teacher_of, told_of


def experts(config: Config, names: tuple[str, ...], out: Path) -> tuple[Member, ...]:
    """One model per descriptor."""
    return tuple(Member(out / name, config.train.seed, (name,)) for name in names)


def seeds(config: Config, names: tuple[str, ...], out: Path, count: int) -> tuple[Member, ...]:
    """The joint model from `count` seeds."""
    first = config.train.seed
    return tuple(Member(out / f"seed{seed}", seed, names) for seed in range(first, first + count))


def emphasis(member: Member, objective: Objective) -> np.ndarray:
    """(T,) weight of each loss: the mean over what the member learns."""
    return np.array([(name in member.tasks) / len(member.tasks) for name in objective.names], np.float32)


def run_members(epoch: Callable, stacked: bool) -> Callable:
    """(states, weights, data) -> (states, metrics), every array with the members in front; states are donated.

    `epoch` is that of one member: (state, data, emphasis).
    """
    if stacked:
        return jax.jit(
            lambda states, weights, data: jax.vmap(epoch, in_axes=(0, None, 0))(states, data, weights),
            donate_argnums=0,
        )
    return jax.jit(
        lambda states, weights, data: jax.lax.map(lambda each: epoch(each[0], data, each[1]), (states, weights)),
        donate_argnums=0,
    )


def train_members(
    config: Config,
    dataset: Data,
    out: Place,
    count: int = 0,
    stacked: bool | None = None,
    report: Callable[[dict], None] = lambda line: None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict:
    """Train an expert per descriptor (count 0) or `count` seeds into run folders `out`/NAME; returns the last log line.

    Goes on where a stopped run left off; report and tell are those of `loop.train`. stacked: step all members at once;
    not given, wherever that is faster. Members see the same batches in the same order; augmentation and dropout follow
    each one's seed.
    """
    settings, statistics = config.train, dataset.statistics("train")
    if settings.input != "resident" or settings.init:
        raise RunError("an ensemble is trained from resident data and anew; leave --train.input and --train.init")
    if not (count or isinstance(config.objective, LabelsConfig)):
        raise RunError("experts learn a descriptor each; for objective masked or joint say how many --seeds")
    steps = steps_per_epoch(statistics.count, settings.batch_size)
    names = make_objective(config.objective, statistics, dataset.grid).names
    members = seeds(config, names, out, count) if count else experts(config, names, out)
    numbers = tuple(member.seed for member in members)
    teacher = teacher_of(config)
    made = assemble(config, statistics, dataset.grid, dataset.fingerprint, steps, seeds=numbers, teacher=teacher)
    validation = dataset.split("validation", JUDGED)
    folders = tuple(member.folder.name for member in members)
    claimed = claim(out, config, dataset.fingerprint, folders, teacher.fingerprint if teacher else "")
    for text in [*claimed, *told_of(teacher, dataset.fingerprint, names)]:
        tell(text)

    stacked = jax.default_backend() != "cpu" if stacked is None else stacked
    weights = jnp.asarray(np.stack([emphasis(member, made.objective) for member in members]))

    def compiled(epoch: Callable) -> Callable:
        run = run_members(epoch, stacked)
        return lambda states, data: run(states, weights, data)

    epoch = Resident(made, dataset, steps, compiled)
    return run_epochs(made, made.states(numbers), epoch, steps, members, validation, out, report)
