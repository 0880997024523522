"""Spectra as a measurement changes them, and spectra that are none: what a domain's networks learn to tell apart."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.schema import EnergyGrid
from spt_jax.config import LabelsConfig
from spt_jax.objectives.augment import augment, blur

# From here on an energy axis is called wrong, eV. Up to MOST it is, in examples; further off is easier to tell.
WRONG, MOST = 2.5, 10.0
# Of examples that are none: moved, structure too weak or too strong, stretched, with bumps, in another order.
SHARES = (0.55, 0.15, 0.10, 0.10, 0.10)
PIECES = 6


def usual(keys: jax.Array, spectrum: jax.Array, config: LabelsConfig, grid: EnergyGrid) -> jax.Array:
    """(B, P) calculated spectra, blurred, on a background, shifted a little and with noise, as they may be measured."""
    return augment(keys, blur(keys, spectrum, config, grid), config, grid)


def strange(keys: jax.Array, spectrum: jax.Array, grid: EnergyGrid) -> jax.Array:
    """(B, P) the same as no sample of the training set shows them; each in one of the ways of SHARES."""
    energy = grid.relative().astype(np.float32)

    def one(key: jax.Array, mu: jax.Array) -> jax.Array:
        chosen, key = jax.random.split(key)
        way = jax.random.choice(chosen, len(SHARES), p=np.array(SHARES))
        return jnp.stack([make(key, mu, energy) for make in WAYS])[way]

    return jax.vmap(one)(keys, spectrum)


def _wrong_energy(key: jax.Array, mu: jax.Array, energy: np.ndarray) -> jax.Array:
    size, sign = jax.random.split(key)
    shift = jax.random.uniform(size, minval=WRONG, maxval=MOST) * jnp.sign(jax.random.uniform(sign) - 0.5)
    return jnp.interp(energy - shift, energy, mu)


def _wrong_structure(key: jax.Array, mu: jax.Array, energy: np.ndarray) -> jax.Array:
    """Too weak, down to a bare edge, or too strong: about an arctangent."""
    place, width, weak, strong, which = jax.random.split(key, 5)
    centre = energy[0] + jax.random.uniform(place, minval=4, maxval=14)
    step = 0.5 + jnp.arctan((energy - centre) / jax.random.uniform(width, minval=0.5, maxval=2)) / np.pi
    weaker, stronger = (
        jax.random.uniform(weak, maxval=0.35),
        jax.random.uniform(strong, minval=1.9, maxval=3),
    )
    return step + jnp.where(jax.random.uniform(which) < 0.6, weaker, stronger) * (mu - step)


def _stretched(key: jax.Array, mu: jax.Array, energy: np.ndarray) -> jax.Array:
    """About the edge: other bond lengths than any, or another energy axis."""
    long, short, which = jax.random.split(key, 3)
    slower, faster = (
        jax.random.uniform(long, minval=0.5, maxval=0.75),
        jax.random.uniform(short, minval=1.35, maxval=2),
    )
    edge = energy[0] + 8.0
    return jnp.interp(edge + (energy - edge) * jnp.where(jax.random.uniform(which) < 0.5, slower, faster), energy, mu)


def _bumps(key: jax.Array, mu: jax.Array, energy: np.ndarray) -> jax.Array:
    height, place, width = jax.random.split(key, 3)
    heights = 0.25 * jax.random.normal(height, (4, 1))
    centres = jax.random.uniform(place, (4, 1), minval=energy[0], maxval=energy[-1])
    widths = jax.random.uniform(width, (4, 1), minval=1, maxval=5)
    return mu + (heights * jnp.exp(-0.5 * ((energy - centres) / widths) ** 2)).sum(axis=0)


def _another_order(key: jax.Array, mu: jax.Array, energy: np.ndarray) -> jax.Array:
    """Cut into pieces, which change places."""
    cut, order = jax.random.split(key)
    starts = jnp.sort(jax.random.randint(cut, (PIECES - 1,), 4, len(energy) - 4))
    piece = jnp.searchsorted(starts, jnp.arange(len(energy)), side="right")
    return mu[jnp.argsort(jax.random.permutation(order, PIECES)[piece], stable=True)]


WAYS: tuple[Callable[[jax.Array, jax.Array, np.ndarray], jax.Array], ...] = (
    _wrong_energy,
    _wrong_structure,
    _stretched,
    _bumps,
    _another_order,
)
