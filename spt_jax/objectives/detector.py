"""Counts as a microscope might have seen them, of calculated edges; and the counts of a pixel split in two."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.loss_grid import LossGrid
from spt_jax.config import ImagesConfig
from spt_jax.model.transfer import seen_through

# Smooth deviations are made of so many waves.
WAVES = 8
# Part of a pixel's counts that is shown, least and most; the rest is to be predicted.
SHOWN = (0.5, 0.9)
# Above, Poisson's distribution is drawn as a normal one, which is fifty times as fast.
MANY = 30.0


class Exposure(NamedTuple):
    """seen, target: (B, N) two exposures of one edge. ratio: (B,) expected counts of the second over the first.
    nuisance: (B, 3) what was drawn, as of `model.latent.NUISANCES`."""

    seen: jax.Array
    target: jax.Array
    ratio: jax.Array
    nuisance: jax.Array


def exposed(edges: jax.Array, keys: jax.Array, config: ImagesConfig, grid: LossGrid) -> Exposure:
    """(B, P) edges of mean 1 without noise, each twice with the same dose, background, shift, broadening and thickness."""
    own = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), (5,)))(keys)
    shift = config.energy_shift * jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1)))(keys)
    broadening, thickness = config.broadening * own[:, 0], config.thickness * own[:, 1]
    waves = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 2), (WAVES, 2)))(keys)
    phase = jnp.pi * jnp.arange(1, WAVES + 1)[:, None] * jnp.linspace(0, 1, grid.points)
    bends = jnp.einsum("bwk,kwp->bp", waves, jnp.stack([jnp.cos(phase), jnp.sin(phase)]))
    seen = seen_through(edges, shift, broadening, thickness, grid.step)
    seen = jnp.maximum(seen * (1 + config.deviation * bends / np.sqrt(WAVES)), 0)
    dose, jump = (_between(own[:, i], limits) for i, limits in ((2, config.dose), (3, config.jump)))
    exponent = config.exponent[0] + (config.exponent[1] - config.exponent[0]) * own[:, 4]
    middles, widths = jnp.asarray(grid.middles(), jnp.float32), jnp.asarray(grid.widths(), jnp.float32)
    under = dose[:, None] * (middles / middles[grid.groups]) ** -exponent[:, None]
    edge = jnp.concatenate([jnp.zeros((len(edges), grid.groups)), seen], axis=1)
    rate = (under + (dose * jump)[:, None] * edge) * widths
    counts = [poisson(_behind(keys, 3 + i), rate) for i in range(2)]
    return Exposure(*counts, jnp.ones(len(edges)), jnp.stack([shift, broadening, thickness], axis=1))


def split_counts(counts: jax.Array, keys: jax.Array) -> Exposure:
    """(B, N) electrons of pixels, each dealt to one of two exposures: both are as independent as two measurements."""
    share = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 5), (), minval=SHOWN[0], maxval=SHOWN[1]))(
        keys
    )
    n, part = jnp.maximum(counts, 0), share[:, None]
    normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 6), counts.shape[1:]))(keys)
    seen = jnp.clip(n * part + jnp.sqrt(n * part * (1 - part)) * normal, 0, n)
    return Exposure(seen, n - seen, (1 - share) / share, jnp.zeros((len(counts), 3)))


def poisson(keys: jax.Array, rate: jax.Array) -> jax.Array:
    """(B, N) counts; where many are expected, as a normal distribution of the same mean and variance."""
    few = jax.vmap(_inverted)(keys, jnp.minimum(rate, MANY))
    normal = jax.vmap(lambda key, row: jax.random.normal(jax.random.fold_in(key, 7), row.shape))(keys, rate)
    return jnp.where(rate < MANY, few, jnp.maximum(jnp.round(rate + jnp.sqrt(rate) * normal), 0))


def _inverted(key: jax.Array, rate: jax.Array) -> jax.Array:
    """(N,) Poisson numbers of small rates: how far the distribution reaches below a uniform number."""
    uniform = jax.random.uniform(key, rate.shape)
    term = jnp.exp(-rate)

    def step(i: int, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        count, term, total = state
        count = count + (uniform > total)
        term = term * rate / (i + 1)
        return count, term, total + term

    longest = int(MANY + 8 * np.sqrt(MANY))
    return jax.lax.fori_loop(0, longest, step, (jnp.zeros_like(rate), term, term))[0]


def _between(uniform: jax.Array, limits: tuple[float, float]) -> jax.Array:
    """By the logarithm."""
    return jnp.exp(np.log(limits[0]) + np.log(limits[1] / limits[0]) * uniform)


def _behind(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
