"""A trace of a few training steps, for TensorBoard or Perfetto, before the run itself begins."""

from __future__ import annotations

from pathlib import Path

import jax

from data_pipelines.dataset.data import Data
from spt_jax.training.assemble import Assembly
from spt_jax.training.step import TrainState

FOLDER = "profile"


def profile_steps(made: Assembly, state: TrainState, dataset: Data, steps: int, out: Path) -> Path:
    """Trace `steps` steps on one batch into `out`/profile, after one that compiles; `state` stays as it is."""
    settings, hosts = made.config.train, jax.process_count()
    batch = next(iter(dataset.stream("train", settings.batch_size, settings.seed, jax.process_index(), hosts)))
    batch, step = made.layout.place_rows(batch), jax.jit(made.step)
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    with jax.profiler.trace(str(out / FOLDER)):
        for number in range(steps):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
    return out / FOLDER
