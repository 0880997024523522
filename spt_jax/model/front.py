"""A row of counts about an edge -> the edge above its background, of mean 1, and how noisy it is.

The background is the most likely power law of the sums in front of the edge, in closed form as of
`spt_jax.eels.background` but of sums, which hold so many counts that four steps do.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.model.denoise import SURELY_SIGNAL, Constant
from spt_jax.shapes import Array, Float

STEPS = 4
STEEPEST, LONGEST_STEP = 12.0, 3.0
# An edge is divided by its mean, but by no less than this part of the background, or so many deviations of its noise.
LEAST_JUMP, LEAST_SIGNAL = 0.02, 1.0


class Edge(NamedTuple):
    """signal: (B, P) counts above the background, over `scale` (B,), their mean. base: (B, F + P) counts of the background.
    noise: (B,) standard deviation of a channel of `signal`, as counts scatter. exponent: (B,) of the background."""

    signal: Float[Array, "B P"]
    base: Float[Array, "B N"]
    scale: Float[Array, "B"]
    noise: Float[Array, "B"]
    exponent: Float[Array, "B"]


class EdgeFront(nnx.Module):
    """logs: (F + P,) as of `LossGrid.logs`, and widths, eV, of a row's sums, of which the first `groups` lie in front of the
    edge."""

    def __init__(self, logs: np.ndarray, widths: np.ndarray, groups: int):
        self.groups = groups
        self.x, self.widths = (Constant(jnp.asarray(each, jnp.float32)) for each in (logs, widths))

    def power_law(self, sums: Float[Array, "B F"]) -> tuple[Array, Array]:
        """(B,) log counts per eV in the middle of the window, and (B,) the exponent: weighted least squares of the
        logarithms, then steps of scoring. (McCullagh and Nelder, Generalized Linear Models, 2.5.)"""
        x, widths = self.x[: self.groups], self.widths[: self.groups]
        mean = jnp.maximum(sums.mean(axis=1, keepdims=True), 1e-6)
        n = sums / mean / (widths / widths.mean())
        a, r = weighted_line(jnp.maximum(n, 0), jnp.log(jnp.maximum(n, 1e-3)), x)
        r = jnp.clip(r, -STEEPEST, STEEPEST)
        for _ in range(STEPS):
            mu = jnp.exp(jnp.clip(a[:, None] - r[:, None] * x, -20, 20))
            da, dr = weighted_line(mu, n / mu - 1, x)
            a = a + jnp.clip(da, -1, 1)
            r = jnp.clip(r + jnp.clip(dr, -LONGEST_STEP, LONGEST_STEP), -STEEPEST, STEEPEST)
        return a + jnp.log(mean[:, 0] / widths.mean()), r

    def background(self, a: Float[Array, "B"], r: Float[Array, "B"]) -> Float[Array, "B N"]:
        """Counts of all of a row's sums."""
        return jnp.exp(jnp.clip(a[:, None] - r[:, None] * self.x[...], -30, 30)) * self.widths[...]

    def __call__(self, rows: Float[Array, "B N"]) -> Edge:
        front, counts = rows[:, : self.groups], rows[:, self.groups :]
        a, r = self.power_law(front)
        base = self.background(a, r)
        under = base[:, self.groups :]
        above = counts - under
        electrons = jnp.maximum(counts, 0).mean(axis=1)
        least = jnp.maximum(
            LEAST_JUMP * under.mean(axis=1), LEAST_SIGNAL * jnp.sqrt((electrons + 1e-6) / counts.shape[1])
        )
        scale = jnp.maximum(above.mean(axis=1), least)
        noise = jnp.sqrt(electrons + 1e-6) / scale
        return Edge(above / scale[:, None], base, scale, noise, r)


class EdgeFilter(nnx.Module):
    """Edges along the directions in which they vary, each weighed by how much of it is no noise (Wiener filter).

    As `model.denoise.NoiseFilter`, but the noise is known, from the counts.
    """

    def __init__(self, mean: np.ndarray, covariance: np.ndarray, directions: int):
        """mean (P,), covariance (P, P) of edges of mean 1 without noise. directions: how many, those that vary most."""
        variance, vectors = np.linalg.eigh(covariance)
        order = np.argsort(variance)[::-1][:directions]
        self.mean = Constant(jnp.asarray(mean, jnp.float32))
        self.vectors = Constant(jnp.asarray(vectors[:, order], jnp.float32))
        self.variance = Constant(jnp.asarray(np.maximum(variance[order], 1e-8), jnp.float32))

    def along(self, signal: Float[Array, "B P"], noise: Float[Array, "B"]) -> Float[Array, "B K"]:
        """What is left along each direction, in edge heights."""
        found = (signal - self.mean[...]) @ self.vectors[...]
        square = noise[:, None] ** 2
        variance = jnp.maximum(self.variance[...], found**2 - SURELY_SIGNAL**2 * square)
        return found * variance / (variance + square)

    def standardised(self, along: Float[Array, "B K"]) -> Float[Array, "B K"]:
        """Each over its deviation, and no outlier beyond what a layer can use."""
        return jnp.clip(along / jnp.sqrt(self.variance[...]), -20, 20)

    def drawn(self, along: Float[Array, "B K"]) -> Float[Array, "B P"]:
        """The edge that lies so far along each direction."""
        return self.mean[...] + along @ self.vectors[...].T


def weighted_line(
    weights: Float[Array, "B F"], y: Float[Array, "B F"], x: Float[Array, "*rows F"]
) -> tuple[Array, Array]:
    """a and r of the weighted least squares of y over a - r x, which is one for all or (B, F)."""
    total = jnp.maximum(weights.sum(axis=1), 1e-20)
    x0, y0 = (weights * x).sum(axis=1) / total, (weights * y).sum(axis=1) / total
    away = x - x0[:, None]
    slope = (weights * away * y).sum(axis=1) / jnp.maximum((weights * away**2).sum(axis=1), 1e-20)
    return y0 - slope * x0, -slope
