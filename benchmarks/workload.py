"""What the benchmarks run: a preset's model for every descriptor, and fresh random spectra with labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from flax import nnx

from data_pipelines.schema import DESCRIPTORS, Batch, EnergyGrid
from spt_jax.config import PRESETS, Config, ModelConfig
from spt_jax.model.heads import head_specs
from spt_jax.model.spt import SPT
from spt_jax.objectives.labels import Task, make_tasks
from spt_jax.runs.blueprint import covariance

SMALL = {"width": 8, "hidden": 16, "blocks": 1}


def config_of(preset: str, dtype: str, small: bool = False, **model: Any) -> Config:
    """The preset with another dtype; `small` shrinks the network to what a test can afford."""
    if preset not in PRESETS:
        raise SystemExit(f"unknown preset {preset!r}; presets: {', '.join(PRESETS)}")
    config = PRESETS[preset]()
    return replace(config, model=replace(config.model, **{"dtype": dtype, **(SMALL if small else {}), **model}))


def spectra(rng: np.random.Generator, count: int, grid: EnergyGrid) -> np.ndarray:
    """(count, L) float32: an edge, a white line and a few scattering oscillations, each spectrum its own."""
    energy = grid.relative()[None]
    edge, amplitude, pace, phase = (rng.uniform(*bounds, (4, count, 1)) for bounds in ((0, 1),) * 4)
    e0 = 8 + 6 * edge[0]
    mu = 0.5 + np.arctan((energy - e0) / (1 + edge[1])) / np.pi
    mu = mu + (0.3 + amplitude[0]) * np.exp(-(((energy - e0 - 4) / (2 + 2 * edge[2])) ** 2))
    k = np.sqrt(np.maximum(energy - e0, 0))
    for i in range(4):
        mu = mu + 0.1 * amplitude[i] * np.sin((1 + 3 * pace[i]) * k + 6.3 * phase[i]) * np.exp(-0.2 * k) * (k > 0)
    return (mu + 0.005 * rng.normal(size=mu.shape)).astype(np.float32)


def batch_of(rng: np.random.Generator, count: int, grid: EnergyGrid) -> Batch:
    """Random spectra of the first-row transition metals, with a label for four descriptors in five."""
    labels = np.zeros((count, len(DESCRIPTORS)), np.float32)
    for column, d in enumerate(DESCRIPTORS):
        labels[:, column] = rng.integers(len(d.classes), size=count) if d.classes else rng.normal(2, 0.3, count)
    mask = rng.random(labels.shape) < 0.8
    numbers = rng.integers(22, 30, count).astype(np.int32)
    return Batch(spectra(rng, count, grid), numbers, np.where(mask, labels, 0).astype(np.float32), mask)


@dataclass(frozen=True)
class Workload:
    """A model in parts, as `nnx.split` gives them, and what it is trained on."""

    config: Config
    grid: EnergyGrid
    tasks: tuple[Task, ...]
    graph: nnx.GraphDef
    params: Any
    constants: Any
    batch: Batch

    def apply(self, params: Any, spectrum: jax.Array, atomic_number: jax.Array) -> dict[str, jax.Array]:
        """The network's outputs, as inference runs it."""
        return nnx.merge(self.graph, params, self.constants)(spectrum, atomic_number)

    def with_model(self, model: ModelConfig) -> Workload:
        """The same parameters and spectra under another model configuration of the same shapes."""
        return replace(self, config=replace(self.config, model=model), graph=_parts(self, model)[0])


def make(config: Config, batch_size: int, length: int = 144, seed: int = 0) -> Workload:
    """A fresh model and batch, statistics of the spectra taken from the batch as from a training set."""
    rng = np.random.default_rng(seed)
    grid = EnergyGrid(points=length, step=72 / length)
    batch = batch_of(rng, max(batch_size, 256), grid)
    tasks = make_tasks(config.train.descriptors, batch)
    work = Workload(config, grid, tasks, None, None, None, batch)
    graph, params, constants = _parts(work, config.model, seed)
    batch = jax.tree.map(lambda x: x[:batch_size], batch)
    return replace(work, graph=graph, params=params, constants=constants, batch=batch)


def _parts(work: Workload, config: ModelConfig, seed: int = 0) -> tuple[nnx.GraphDef, Any, Any]:
    mean, spread = work.batch.spectrum.mean(axis=0), covariance(work.batch.spectrum)

    def init(key: jax.Array):
        model = SPT(config, head_specs(work.tasks), work.grid.relative(), mean, spread, rngs=nnx.Rngs(params=key))
        return nnx.split(model, nnx.Param, ...)

    return jax.jit(init)(jax.random.key(seed))
