"""Rows of several signals as they are learnt from: each signal augmented by itself, and some of them hidden."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import EnergyGrid
from data_pipelines.signals import parse_signal
from spt_jax.config import LabelsConfig
from spt_jax.objectives.augment import augment

# Settings that say something of one spectrum alone.
OF_ONE = ("broadening", "background", "self_absorption", "cut")


def check_signals(config: LabelsConfig, grid: EnergyGrid) -> None:
    """Raises RunError for settings that mean nothing for the rows of this grid."""
    if not grid.signals and config.signal_drop:
        raise RunError(
            f"signal_drop ({config.signal_drop:g}) hides signals of several, and a row of this dataset has one"
        )
    for name in OF_ONE:
        if grid.signals and getattr(config, name):
            raise RunError(
                f"{name} ({getattr(config, name):g}) is for rows of one spectrum; these have several signals"
            )


def noise_units(train: Statistics, grid: EnergyGrid) -> tuple[float, ...]:
    """What `noise` of each signal counts: edge steps of a spectrum, of a PDF its standard deviation over the training set."""
    std = np.sqrt((train.std.reshape(-1, grid.points) ** 2).mean(axis=1))
    return tuple(1.0 if parse_signal(s).is_spectrum else float(d) for s, d in zip(grid.signals, std, strict=True))


def augment_each(
    keys: jax.Array, rows: jax.Array, config: LabelsConfig, grid: EnergyGrid, units: tuple[float, ...]
) -> jax.Array:
    """(B, S L) rows; keys: (B,). As `augment`, each signal with random numbers of its own; distances do not shift."""
    parts = []
    for i, part in enumerate(jnp.split(rows, len(grid.signals), axis=1)):
        own = replace(config, noise=config.noise * units[i])
        if not parse_signal(grid.signals[i]).is_spectrum:
            own = replace(own, energy_shift=0.0)
        parts.append(augment(jax.vmap(partial(jax.random.fold_in, data=i))(keys), part, own, grid))
    return jnp.concatenate(parts, axis=1)


def alike(rows: jax.Array, others: jax.Array) -> jax.Array:
    """(B,) have both rows the same signals, to the last number?"""
    return (jnp.isfinite(rows) == jnp.isfinite(others)).all(axis=1)


def hide_signals(keys: jax.Array, rows: jax.Array, share: float, count: int) -> jax.Array:
    """(B, S L) rows without a random `share` of the S = `count` signals that each has; one of them always stays."""
    there = jnp.isfinite(rows).reshape(len(rows), count, -1).any(axis=2)
    draw = jnp.where(there, jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys), -1)
    kept = (draw >= share) | (draw == draw.max(axis=1, keepdims=True))
    return jnp.where(jnp.repeat(kept, rows.shape[1] // count, axis=1), rows, jnp.nan)
