"""What the benchmarks run: a preset's model for every descriptor, and fresh random spectra with labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from flax import nnx

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.schema import DESCRIPTORS, STRUCTURE, STRUCTURE_LABELS, Batch, EnergyGrid, column_of, encode_labels
from spt_jax.config import Config, ExecutionConfig, FusionConfig
from spt_jax.presets import PRESETS, fusion
from spt_jax.tasks import Task
from spt_jax.training.assemble import Assembly, assemble
from spt_jax.training.sharding import Layout

SMALL = {"width": 8, "hidden": 16, "blocks": 1, "bands": 2, "highest_band": 4}
SIGNALS = ("Ni K", "Mn K", "O K", "PDF")


def config_of(preset: str, dtype: str, small: bool = False, **model: Any) -> Config:
    """The preset in another arithmetic; `small` shrinks the network to what a test can afford."""
    if preset not in PRESETS:
        raise SystemExit(f"unknown preset {preset!r}; presets: {', '.join(PRESETS)}")
    config = PRESETS[preset]()
    model = replace(config.model, **{**(SMALL if small else {}), **model})
    return replace(config, model=model, execution=replace(config.execution, dtype=dtype))


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


def fusion_config(dtype: str = "float32", small: bool = False, **trunk: Any) -> Config:
    """The preset for several signals; `trunk`: fields of its trunk."""
    config = fusion()
    trunk = replace(config.model.trunk, **{**({**SMALL, "bands": 0} if small else {}), **trunk})
    own = {"width": 8, "hidden": 16, "heads": 2, "channels": 4} if small else {}
    model = replace(config.model, trunk=trunk, **own)
    return replace(config, model=model, execution=replace(config.execution, dtype=dtype))


def structures_of(rng: np.random.Generator, count: int, grid: EnergyGrid) -> Batch:
    """Random signals of structures, a fifth of them missing, with labels of four descriptors."""
    rows = spectra(rng, count * len(grid.signals), grid).reshape(count, len(grid.signals), -1)
    gone = rng.random(rows.shape[:2]) < 0.2
    gone[:, 0] &= ~gone.all(axis=1)
    rows[gone] = np.nan
    labels = np.full((count, STRUCTURE_LABELS), np.nan)
    labels[:, column_of("x_Li")], labels[:, column_of("MBL_Ni")] = (
        rng.uniform(0, 1.2, count),
        rng.normal(2, 0.05, count),
    )
    labels[:, [column_of("vacancy"), column_of("antisite")]] = rng.integers(2, size=(count, 2))
    return Batch(rows.reshape(count, -1), np.zeros(count, np.int32), *encode_labels(labels))


@dataclass(frozen=True)
class Workload:
    """A model as the trainer assembles it, and what it is trained on."""

    made: Assembly
    batch: Batch

    @property
    def config(self) -> Config:
        return self.made.config

    @property
    def grid(self) -> EnergyGrid:
        return self.made.blueprint.grid

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.made.objective.tasks

    @property
    def params(self) -> Any:
        return self.made.params

    @property
    def constants(self) -> Any:
        return self.made.constants

    def apply(self, params: Any, spectrum: jax.Array, atomic_number: jax.Array) -> dict[str, jax.Array]:
        """The network's outputs, as inference runs it."""
        return nnx.merge(self.made.graph, params, self.constants)(spectrum, atomic_number)

    def executed(self, execution: ExecutionConfig) -> Workload:
        """The same parameters and spectra, computed in another way."""
        config = replace(self.config, execution=execution)
        graph, _, _ = replace(self.made.blueprint, execution=execution).abstract()
        return replace(self, made=replace(self.made, config=config, graph=graph))


def make(config: Config, batch_size: int, length: int = 144, seed: int = 0, layout: Layout | None = None) -> Workload:
    """A fresh model and batch, statistics of the spectra taken from the batch as from a training set."""
    rng = np.random.default_rng(seed)
    fused = isinstance(config.model, FusionConfig)
    grid = EnergyGrid(points=length, step=72 / length, signals=SIGNALS if fused else ())
    batch = (structures_of if fused else batch_of)(rng, max(batch_size, 256), grid)
    config = replace(config, train=replace(config.train, seed=seed))
    absorber = f"{STRUCTURE} -" if fused else "Cu K"
    made = assemble(config, Statistics.of(batch, {absorber: len(batch.labels)}), grid, "", 100, layout)
    return Workload(made, jax.tree.map(lambda x: x[:batch_size], batch))
