"""Plural scattering taken out of an edge, by the ratio of its Fourier transform to that of the low loss.

Electrons that lost energy at the edge have lost some to plasmons too: what is measured is the edge convolved with the low
loss. The ratio, times the transform of the zero-loss peak so that noise is not raised, is the edge as measured in a thin
sample. (Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 4.3.2.)
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from spt_jax.shapes import Array, Float

# Of the largest square of the low loss's transform: below, there is nothing to divide by.
LEAST = 1e-6


@partial(jax.jit, static_argnames=("before", "half"))
def single_scattering(
    signal: Float[Array, "P E"], low: Float[Array, "P F"], before: int, half: int
) -> tuple[Array, Array]:
    """(P, E) the edge without plural scattering, of as many counts as were lost there at all, and (P,) the thickness in
    mean free paths.

    signal: background subtracted. low: the low loss in the same steps of energy, its zero-loss peak at channel `before`.
    half: channels on either side of it that belong to the peak; what the peak leaves at higher losses is its mirror image
    on the side where no energy is lost.
    """
    channels, whole = signal.shape[1], low.sum(axis=1)
    zero = low[:, before - half : before + half + 1]
    # Losses begin within the upper flank: it is what the lower one is, where that is less.
    lower = zero[:, : half + 1]
    peak = jnp.concatenate([lower, jnp.minimum(lower[:, :-1][:, ::-1], zero[:, half + 1 :])], axis=1)
    elastic = peak.sum(axis=1)
    thickness = jnp.log(jnp.maximum(whole, 1e-20) / jnp.maximum(elastic, 1e-20))
    length = 1 << (2 * max(channels, low.shape[1]) - 1).bit_length()
    # Behind the end the edge falls off smoothly to zero: a cliff would ring.
    ramp = jnp.cos(jnp.linspace(0, jnp.pi / 2, channels)) ** 2
    level = signal[:, -max(channels // 50, 1) :].mean(axis=1, keepdims=True)
    padded = jnp.concatenate([signal, level * ramp, jnp.zeros((len(signal), length - 2 * channels))], axis=1)
    edge = jnp.fft.rfft(padded, axis=1)
    losses = jnp.fft.rfft(_from_zero(low, before, length), axis=1)
    sharp = jnp.fft.rfft(_from_zero(peak, half, length), axis=1)
    square = jnp.abs(losses) ** 2
    floor = LEAST * square[:, :1]
    ratio = edge * sharp * jnp.conj(losses) / (square + floor)
    found = jnp.fft.irfft(ratio, length, axis=1)[:, :channels]
    return found * (whole / jnp.maximum(elastic, 1e-20))[:, None], thickness


def _from_zero(curve: Float[Array, "P F"], before: int, length: int) -> Float[Array, "P N"]:
    """Padded, and turned so that channel `before` comes first."""
    padded = jnp.pad(curve, ((0, 0), (0, length - curve.shape[1])))
    return jnp.roll(padded, -before, axis=1)
