"""The trainer: a short program to fork. Data in, epochs, validation, checkpoints; it prints nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.dataset.data import Data
from data_pipelines.errors import RunError
from data_pipelines.places import Place, RemotePath, place
from spt_jax.config import Config
from spt_jax.runs.folder import claim
from spt_jax.training.agreement import agree
from spt_jax.training.assemble import Assembly, assemble
from spt_jax.training.epochs import run_epochs
from spt_jax.training.heartbeat import exchanging
from spt_jax.training.judge import Member
from spt_jax.training.profile import profile_steps
from spt_jax.training.sharding import Layout, make_mesh
from spt_jax.training.step import SKIPPED, Quota, TrainState, make_epoch, make_order
from spt_jax.training.teacher import teacher_of, told_of
from spt_jax.training.warm_start import begin_with

# Validation spectra that are judged at most, of a larger split evenly spaced blocks: what a device and a host hold.
JUDGED = 65_536
# Steps that are dispatched ahead of the device: enough to keep it busy, and few enough for their batches to fit.
AHEAD = 16


def train(
    config: Config,
    dataset: Data,
    out: Place | str,
    report: Callable[[dict], None] = lambda line: None,
    tell: Callable[[str], None] = lambda text: None,
    profile: int = 0,
    within: Callable[[dict], None] = lambda line: None,
) -> dict:
    """Train into the run folder `out`, which may be in an object store, or go on where a stopped run left off; returns the last log line.

    report: gets one dict per epoch, which is also a line of the log: epoch, epochs, step, loss, that of each
    descriptor, learning_rate, gradient_norm, seconds, spectra_per_s, input_wait (seconds), with a validation its
    scores, and what went wrong with the data and was got over (`faults.counts`). tell: gets what a user should know of how the run
    begins, in words. profile: steps to write a trace of. within: gets epoch, epochs, share of the epoch that is through,
    loss so far and spectra_per_s every few seconds of an epoch of streamed data.
    Raises Interrupted after Ctrl-C or SIGTERM, when the state is safe on disk.
    """
    out, settings, statistics = place(out), config.train, dataset.statistics("train")
    if profile and isinstance(out, RemotePath):
        raise RunError(
            f"{out}: a trace is written into a folder of this machine; leave --profile, or give another --out"
        )
    with exchanging():
        agree(config, dataset)
    layout = Layout(make_mesh(config.execution.fsdp, config.execution.slices))
    layout.check_batch(settings.batch_size, config.execution.accumulate, config.model.whole_batch)
    steps = steps_per_epoch(statistics.count, settings.batch_size)
    teacher = teacher_of(config)
    made = assemble(config, statistics, dataset.grid, dataset.fingerprint, steps, layout, teacher=teacher)
    began_with = begin_with(settings.init, made) if settings.init else None
    validation = dataset.split("validation", JUDGED)
    if settings.input == "resident":
        epoch = Resident(made, dataset, steps, partial(jax.jit, donate_argnums=0))
    else:
        epoch = Streamed(made, dataset)
    # Last: what cannot be trained claims no folder.
    claimed = claim(out, config, dataset.fingerprint, teacher=teacher.fingerprint if teacher else "")
    learnt_from = told_of(teacher, dataset.fingerprint, made.objective.names)
    for text in [*claimed, *(began_with.told if began_with else ()), *learnt_from]:
        tell(text)

    state = made.state(began_with.params if began_with else None)
    if profile:
        tell(f"trace of {profile} steps: {profile_steps(made, state, dataset, profile, out)}")
    member = Member(out, settings.seed, made.objective.names)
    return run_epochs(made, state, epoch, steps, (member,), validation, out, report, within)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in a training set. Raises RunError where there is none."""
    if examples < batch_size:
        raise RunError(
            f"{examples} training examples do not fill one batch; give --train.batch-size {examples} or less"
        )
    return examples // batch_size


class Resident:
    """Epochs of one dispatch each, of spectra that lie on the devices."""

    whole, waited = True, 0.0

    def __init__(self, made: Assembly, dataset: Data, steps: int, compiled: Callable[[Callable], Callable]):
        """compiled: of an epoch as (state, data), a program that uses the state up."""
        settings = made.config.train
        own = zip(dataset.ranges("train"), dataset.quotas(settings.batch_size), strict=True)
        quotas = tuple(Quota(rows.start, len(rows), drawn) for rows, drawn in own)
        self._steps, self._order = steps, make_order(steps, quotas, settings.seed)
        split = dataset.split("train")
        self._data, self._ids = made.layout.place_whole(split.batch), split.ids
        self._run = compiled(make_epoch(made.step, steps, quotas, settings.seed, made.layout.cut))

    def __call__(
        self, state: TrainState, steps: int, sums: dict[str, Any], doing: Callable[[str], None]
    ) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
        state, sums = self._run(state, self._data)
        skipped = sums[SKIPPED]
        return state, {**sums, SKIPPED: skipped.sum(axis=-1)}, skipped

    def position(self) -> dict:
        return {}

    def seek(self, position: dict) -> None:
        """The order of an epoch follows from its number."""

    def ids(self, step: int) -> list[str]:
        return [self._ids[row] for row in np.asarray(self._order(step // self._steps)[step % self._steps])]


class Streamed:
    """Epochs of batches from disk, each process reading its own rows of them."""

    whole = False

    def __init__(self, made: Assembly, dataset: Data):
        settings, hosts = made.config.train, jax.process_count()
        skip = made.config.execution.skip_damaged
        self._stream = iter(
            dataset.stream("train", settings.batch_size, settings.seed, jax.process_index(), hosts, skip)
        )
        self._step = jax.jit(made.step, donate_argnums=0)
        self._add = jax.jit(partial(jax.tree.map, jnp.add))
        self._place, self.waited = made.layout.place_rows, 0.0
        self._ids = partial(dataset.ids_of, "train", settings.batch_size, settings.seed, skip_damaged=skip)

    def __call__(
        self, state: TrainState, steps: int, sums: dict[str, Any], doing: Callable[[str], None]
    ) -> tuple[TrainState, dict[str, jax.Array], list[jax.Array]]:
        self.waited, total, skipped = 0.0, sums, []
        for _ in range(steps):
            began = time.perf_counter()
            doing("input")
            batch = next(self._stream)
            doing("devices")
            self.waited += time.perf_counter() - began
            state, metrics = self._step(state, self._place(batch))
            total = self._add(total, metrics) if total else metrics
            skipped.append(metrics[SKIPPED])
            if len(skipped) > AHEAD:
                skipped[-AHEAD - 1].block_until_ready()
        return state, total, skipped

    def position(self) -> dict:
        return self._stream.get_state()

    def seek(self, position: dict) -> None:
        self._stream.set_state(position)

    def ids(self, step: int) -> list[str]:
        return self._ids(step)
