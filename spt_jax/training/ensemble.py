"""Several models of one shape trained together: an expert for each descriptor, or the same model from several seeds.

Parameters are vectors, so members are rows: one program steps them all on the same batches. A CPU gains nothing
from that and loses cache, so there the members take turns in one compiled program.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from spt_jax.config import Config
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.checkpoint import Checkpoints
from spt_jax.scoring.metrics import main_score, score_outputs
from spt_jax.tasks import Task, make_tasks
from spt_jax.training.flat import Flat
from spt_jax.training.loop import LOG, Interrupted, claim, interrupt_flag, rewind_log
from spt_jax.training.memory import fits, outputs_in_pieces
from spt_jax.training.step import TrainState, init_state, make_epoch, make_optimiser, make_step


@dataclass(frozen=True)
class Member:
    """One model of an ensemble. name: its run folder. tasks: what it learns and is judged by."""

    name: str
    seed: int
    tasks: tuple[Task, ...]


def experts(config: Config, tasks: tuple[Task, ...]) -> tuple[Member, ...]:
    """One model per descriptor."""
    return tuple(Member(task.name, config.train.seed, (task,)) for task in tasks)


def seeds(config: Config, tasks: tuple[Task, ...], count: int) -> tuple[Member, ...]:
    """The joint model from `count` seeds."""
    return tuple(Member(f"seed{config.train.seed + i}", config.train.seed + i, tasks) for i in range(count))


def emphasis(member: Member, tasks: tuple[Task, ...]) -> np.ndarray:
    """(T,) weight of each loss: the mean over what the member learns."""
    return np.array([(task in member.tasks) / len(member.tasks) for task in tasks], np.float32)


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
    dataset: Dataset,
    out: Path,
    count: int = 0,
    stacked: bool | None = None,
    report: Callable[[dict], None] = lambda line: None,
) -> dict:
    """Train an expert per descriptor (count 0) or `count` seeds into run folders `out`/NAME; returns the last log line.

    Goes on where a stopped run left off. stacked: step all members at once; not given, wherever that is faster.
    Members see the same batches in the same order; augmentation and dropout follow each one's seed.
    """
    settings = config.train
    split, validation = dataset.split("train"), dataset.split("validation")
    tasks = make_tasks(settings.descriptors, split.batch)
    steps = len(split.ids) // settings.batch_size
    if not steps or not tasks:
        raise RunError(f"{len(split.ids)} training examples do not fill one batch of {settings.batch_size}")
    if settings.input != "resident":
        raise RunError("an ensemble is trained from resident data; leave --train.input at resident")
    members = seeds(config, tasks, count) if count else experts(config, tasks)
    claim(out, config, dataset, {"ensemble": {"members": [member.name for member in members]}})

    blueprint = Blueprint.of(config.model, dataset, split, tasks)
    member_seeds = jnp.array([member.seed for member in members])
    graph, params, constants = blueprint.build_many(member_seeds, split.batch.spectrum)
    flat = Flat(jax.tree.map(lambda x: x[0], params), len(tasks))
    constants = jax.tree.map(lambda x: x[0], constants)
    optimiser = make_optimiser(settings, steps * settings.epochs, steps, flat)
    numbers = jnp.array([member.seed for member in members], jnp.int32)
    states = jax.jit(jax.vmap(lambda p, seed: init_state(p, optimiser, flat, seed)))(params, numbers)
    weights = jnp.asarray(np.stack([emphasis(member, tasks) for member in members]))
    step = make_step(graph, constants, optimiser, tasks, settings, dataset.grid.step, flat)
    epoch = make_epoch(step, steps, settings.batch_size, settings.seed, lambda batch: batch)
    stacked = jax.default_backend() != "cpu" if stacked is None else stacked
    run_epoch = run_members(epoch, stacked)
    data = jax.device_put(split.batch)

    @jax.jit
    def apply(vector: jax.Array, spectrum: jax.Array, atomic_number: jax.Array) -> dict[str, jax.Array]:
        return nnx.merge(graph, flat.unravel(vector), constants)(spectrum, atomic_number)

    checkpoints = Checkpoints(out)
    progress: dict[str, Any] = {"epoch": 0, "best": [None] * len(members)}
    restored = checkpoints.restore(states)
    if restored:
        states, progress = restored
    line = rewind_log(out / LOG, progress["epoch"])
    with interrupt_flag() as interrupted:
        while progress["epoch"] < settings.epochs:
            began = time.perf_counter()
            with fits(settings.batch_size, settings.accumulate):
                states, metrics = run_epoch(states, weights, data)
                jax.block_until_ready(metrics)
            losses = jax.device_get(metrics)["loss"]
            seconds = time.perf_counter() - began
            number = progress["epoch"] + 1
            if not np.isfinite(losses).all():
                name = members[int(np.argmin(np.isfinite(losses)))].name
                raise RunError(f"the loss of {name} is not finite after epoch {number}: lower the learning rate")
            speed = steps * settings.batch_size * len(members) / seconds
            line = {"epoch": number, "epochs": settings.epochs, "loss": round(float(losses.mean()), 6)}
            line |= {"seconds": round(seconds, 3), "spectra_per_s": round(speed, 1), "members": len(members)}
            progress["epoch"] = number
            stopping = interrupted() and number < settings.epochs
            if number == settings.epochs or number % settings.validate_every == 0:
                line["validation"] = {}
                for i, member in enumerate(members):
                    outputs = outputs_in_pieces(partial(apply, states.average[i]), validation.batch)
                    scores = score_outputs(outputs, validation.batch, member.tasks)
                    found = {name: main_score(each) for name, each in scores.items()}
                    mean = float(np.mean([s for s in found.values() if s is not None]))
                    line["validation"][member.name] = mean
                    if progress["best"][i] is None or mean > progress["best"][i]:
                        progress["best"][i] = mean
                        own = replace(blueprint, validation=found)
                        _save_member(out / member.name, member, own, number * steps, flat, states, i, constants)
                line["score"] = float(np.mean(list(line["validation"].values())))
            if "validation" in line or stopping:
                checkpoints.save(number * steps, states, progress)
            with open(out / LOG, "a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            report(line)
            if stopping:
                checkpoints.close()
                raise Interrupted
    checkpoints.close()
    return line


def _save_member(
    folder: Path,
    member: Member,
    blueprint: Blueprint,
    step: int,
    flat: Flat,
    states: TrainState,
    i: int,
    constants: Any,
) -> None:
    """The member as an ordinary run folder."""
    saved = Checkpoints(folder)
    described = replace(blueprint, learnt=tuple(task.name for task in member.tasks)).to_json()
    saved.save_model(step, {"params": flat.unravel(states.average[i]), "constants": constants}, described)
    saved.close()
