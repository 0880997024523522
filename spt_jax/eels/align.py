"""How far each pixel's energies are off, to a part of a channel, and spectra moved back by that.

Where there is a low-loss image, by the top of the zero-loss peak. Elsewhere by comparison with the mean: first the best of
all whole shifts, then steps of least squares with the mean, its slope and a tilt, weighted as Poisson counts.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.shapes import Array, Float

STEPS = 4
# Polynomials that no shift is read from: thickness and slope of the background differ from pixel to pixel.
SMOOTH = 4


class Pattern(NamedTuple):
    """What shifts are found by. mean: (E,) counts. bank: (I, 2 reach + 1) the mean at all whole shifts, smooth part taken
    out, unit vectors weighted as counts scatter. weights: (I,) one over the deviation of counts. I = E - 2 margin channels."""

    mean: Float[Array, "E"]
    bank: Float[Array, "I K"]
    weights: Float[Array, "I"]


def margin_of(reach: int) -> int:
    """Channels at each end that no comparison uses: a shift of `reach` and four points of a cubic need them."""
    return reach + 3


def pattern_of(mean: np.ndarray, reach: int) -> Pattern:
    """mean: (E,) counts, finite. reach: the largest shift in channels. In float64."""
    margin = margin_of(reach)
    inner = slice(margin, len(mean) - margin)
    floor = max(float(mean.max()) * 1e-6, 1e-12)
    weights = 1 / np.sqrt(np.maximum(mean, floor))[inner]
    x = np.linspace(-1, 1, len(weights))
    smooth = np.linalg.qr(weights[:, None] * _trend(np.maximum(mean, floor)[inner], x))[0]
    shifts = range(-reach, reach + 1)
    bank = np.stack([weights * mean[margin - k : len(mean) - margin - k] for k in shifts], axis=1)
    bank -= smooth @ (smooth.T @ bank)
    bank /= np.maximum(np.linalg.norm(bank, axis=0), 1e-12)
    return Pattern(*(jnp.asarray(each, jnp.float32) for each in (mean, bank, weights)))


def _trend(mean: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(I, SMOOTH) the smooth course of the mean, times polynomials."""
    course = np.exp(np.polyval(np.polyfit(x, np.log(mean), 2, w=np.sqrt(mean)), x))
    return course[:, None] * x[:, None] ** np.arange(SMOOTH)


@partial(jax.jit, static_argnames="reach")
def shift_from_mean(counts: Float[Array, "P E"], pattern: Pattern, reach: int) -> tuple[Array, Array, Array]:
    """(P,) channels by which each spectrum lies too high, (P,) their standard deviations as counts scatter, and (P,) how many
    of these the likeness to the mean stands above none: below 5 the shift is chance."""
    margin = margin_of(reach)
    inner = counts[:, margin : counts.shape[1] - margin]
    weighted = inner * pattern.weights
    likeness = weighted @ pattern.bank
    shift = (jnp.argmax(likeness, axis=1) - reach).astype(jnp.float32)
    slope = jnp.gradient(pattern.mean)
    x = jnp.linspace(-1, 1, inner.shape[1])

    def fit(shift: Array) -> tuple[Array, ...]:
        mean, tangent = _placed(pattern.mean, shift, reach), _placed(slope, shift, reach)
        design = jnp.stack([mean, x * mean, x**2 * mean, -tangent], axis=1) * pattern.weights
        gram = jnp.einsum("pbi,pci->pbc", design, design)
        # Counts of a million and slopes of one stand in one matrix.
        size = jnp.sqrt(jnp.maximum(jnp.einsum("pbb->pb", gram), 1e-30))
        gram = gram / (size[:, :, None] * size[:, None, :])
        right = jnp.einsum("pbi,pi->pb", design, weighted) / size
        inverse = jnp.linalg.inv(gram + 1e-7 * jnp.eye(4))
        return design, jnp.einsum("pbc,pc->pb", inverse, right) / size, inverse[:, 3, 3] / size[:, 3] ** 2

    def step(_: int, shift: Array) -> Array:
        _, solution, _ = fit(shift)
        gain = jnp.where(jnp.abs(solution[:, 0]) > 1e-12, solution[:, 0], jnp.inf)
        return jnp.clip(shift + jnp.clip(solution[:, 3] / gain, -1, 1), -reach, reach)

    shift = jax.lax.fori_loop(0, STEPS, step, shift)
    design, solution, variance = fit(shift)
    left = weighted - jnp.einsum("pbi,pb->pi", design, solution)
    scatter = (left**2).mean(axis=1)
    error = jnp.sqrt(scatter * variance) / jnp.maximum(jnp.abs(solution[:, 0]), 1e-12)
    return shift, error, likeness.max(axis=1) / jnp.sqrt(jnp.maximum(scatter, 1e-30))


def _placed(curve: Float[Array, "E"], shift: Float[Array, "P"], reach: int) -> Float[Array, "P I"]:
    """The curve moved up by each shift, its inner channels."""
    margin = margin_of(reach)
    whole = jnp.floor(-shift)
    length = len(curve) - 2 * margin

    def one(start: Array, part: Array) -> Array:
        piece = jax.lax.dynamic_slice(curve, (start - 1,), (length + 3,))
        return sum(w * piece[i : i + length] for i, w in enumerate(_cubic(part)))

    return jax.vmap(one)(margin + whole.astype(jnp.int32), -shift - whole)


@partial(jax.jit, static_argnames="half")
def zero_loss(counts: Float[Array, "P E"], half: int) -> tuple[Array, Array]:
    """(P,) the channel of the zero-loss peak, to a part of one, and (P,) its standard deviation by what the fit leaves.

    half: channels on either side of the highest that a parabola is fitted to, of the logarithm, which is that of a normal
    distribution there.
    """
    top = jnp.argmax(_summed(counts), axis=1)
    top = jnp.clip(top, half, counts.shape[1] - half - 1)
    n = jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at - half,), (2 * half + 1,)))(counts, top)
    x = jnp.arange(-half, half + 1, dtype=jnp.float32)
    height = n.max(axis=1)
    n = jnp.maximum(n / jnp.maximum(height, 1e-20)[:, None], 0)
    # A logarithm of n counts scatters by 1 / sqrt(n); flanks are no normal distribution.
    weights = jnp.where(n > 0.1, n, 0)
    points = (weights > 0).sum(axis=1)
    powers = jnp.stack([jnp.ones_like(x), x, x**2], axis=1)
    gram = jnp.einsum("pi,ib,ic->pbc", weights, powers, powers) + 1e-6 * jnp.eye(3)
    right = jnp.einsum("pi,ib->pb", weights * jnp.log(jnp.maximum(n, 1e-6)), powers)
    inverse = jnp.linalg.inv(gram)
    fit = jnp.einsum("pbc,pc->pb", inverse, right)
    # No parabola goes through two channels: of a peak that is as narrow the centre of mass is taken.
    found = (fit[:, 2] < -1e-4) & (points > 2)
    centre = (n * x).sum(axis=1) / jnp.maximum(n.sum(axis=1), 1e-20)
    bend = jnp.where(found, -2 * fit[:, 2], 1)
    place = jnp.where(found, fit[:, 1] / bend, centre)
    left = jnp.log(jnp.maximum(n, 1e-6)) - fit @ powers.T
    scatter = (weights * left**2).sum(axis=1) / jnp.maximum(points - 3, 1)
    error = jnp.where(found, jnp.sqrt(scatter * inverse[:, 1, 1]) / bend, 0.3)
    return top + jnp.clip(place, -half, half), error


def _summed(counts: Float[Array, "P E"]) -> Float[Array, "P E"]:
    """Of three channels: a single one may be a spike, or noise."""
    padded = jnp.pad(counts, ((0, 0), (1, 1)), mode="edge")
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]


@partial(jax.jit, static_argnames="reach")
def moved(counts: Float[Array, "P E"], shift: Float[Array, "P"], reach: int) -> Float[Array, "P E"]:
    """Spectra moved down by `shift` channels, at most `reach`, by cubics through four points; ends repeat their last channel."""
    channels = counts.shape[1]
    padded = jnp.pad(counts, ((0, 0), (reach + 2, reach + 3)), mode="edge")
    whole = jnp.floor(shift)

    def one(row: Array, start: Array, part: Array) -> Array:
        piece = jax.lax.dynamic_slice(row, (start - 1,), (channels + 3,))
        return sum(w * piece[i : i + channels] for i, w in enumerate(_cubic(part)))

    return jax.vmap(one)(padded, reach + 2 + whole.astype(jnp.int32), shift - whole)


def _cubic(t: Array) -> tuple[Array, ...]:
    """Weights of four points in a row for the place t between the two in the middle, 0 <= t < 1 (Lagrange)."""
    return (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
