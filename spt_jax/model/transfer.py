"""What lies between an edge and its measurement: a shift of the energies, a broadening, plural scattering.

All three are products with the edge's Fourier transform. Behind its end an edge goes smoothly to zero, and stays there for
so long that nothing comes round to its beginning.
"""

from __future__ import annotations

import jax.numpy as jnp

from spt_jax.shapes import Array, Float

# Of the plasmon that scatters once more, eV: between those of oxides (Egerton, appendix C).
PLASMON, PLASMON_WIDTH = 23.0, 6.0
# Lengths of an edge that its transform is of, of which so much is the way to zero: five plasmons lead round to the beginning.
LENGTHS, FADING = 4, 0.25


def seen_through(
    edge: Float[Array, "B P"],
    shift: Float[Array, "B"],
    broadening: Float[Array, "B"],
    thickness: Float[Array, "B"],
    step: float,
) -> Float[Array, "B P"]:
    """Edges as measured, of mean 1. shift: eV upwards. broadening: sigma of a normal distribution, eV. thickness: in mean
    free paths of a plasmon. step: eV between channels."""
    points = edge.shape[1]
    ramp = jnp.cos(jnp.linspace(0, jnp.pi / 2, int(FADING * points))) ** 2
    padded = jnp.concatenate([edge, edge[:, -4:].mean(axis=1, keepdims=True) * ramp], axis=1)
    length = LENGTHS * points
    nu = jnp.fft.rfftfreq(length, step)
    log = -2 * (jnp.pi * nu * broadening[:, None]) ** 2 + thickness[:, None] * (_plasmon(points, step) - 1)
    turned = jnp.exp(log - 2j * jnp.pi * nu * shift[:, None])
    seen = jnp.fft.irfft(jnp.fft.rfft(padded, length, axis=1) * turned, length, axis=1)[:, :points]
    return seen / jnp.maximum(seen.mean(axis=1, keepdims=True), 1e-3)


def _plasmon(points: int, step: float) -> Array:
    """Transform of the distribution of one plasmon's loss, of area 1 (Drude)."""
    loss = step * jnp.arange(points)
    shape = loss * PLASMON_WIDTH / ((loss**2 - PLASMON**2) ** 2 + (loss * PLASMON_WIDTH) ** 2)
    return jnp.fft.rfft(shape / shape.sum(), LENGTHS * points)
