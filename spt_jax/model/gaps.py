"""Energies of which nothing is known, NaN in a spectrum: what the rest lets expect in their place, and a mark."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.model.denoise import Constant
from spt_jax.shapes import Array, Bool, Float

# Of a smooth curve; more are determined by noise where much is missing.
COMPONENTS = 16
# Edge steps squared that a spectrum may differ from its components at one energy, at the least.
LEAST_RESIDUAL = 1e-5


class Gaps(nnx.Module):
    """A spectrum is a mean, some components with normal weights, and noise (probabilistic principal components, Tipping
    and Bishop 1999, J. R. Stat. Soc. B 61, 611). What is missing is expected given the rest. Components come from the
    covariance of the training set, over whichever spectra have an energy.

    What was expected only is also marked: a learnt number for each energy, in units of the network's input, is added.
    """

    def __init__(self, mean: np.ndarray, covariance: np.ndarray):
        """mean: (L,), covariance: (L, L) of mu over the training set."""
        variance, directions = np.linalg.eigh(covariance)
        count = min(COMPONENTS, len(mean) // 2)
        residual = max(float(variance[:-count].mean()), LEAST_RESIDUAL)
        components = directions[:, -count:] * np.sqrt(np.maximum(variance[-count:], 0) / residual)
        self.mean = Constant(jnp.asarray(mean, jnp.float32))
        self.components = Constant(jnp.asarray(components, jnp.float32))
        self.unknown = nnx.Param(jnp.zeros(len(mean)))

    def fill(self, spectrum: Float[Array, "B L"]) -> tuple[Float[Array, "B L"], Bool[Array, "B L"]]:
        """mu without a NaN, and where it was known. Nothing of what stands at another energy, NaN or not, is changed."""
        known = jnp.isfinite(spectrum)
        components, count = self.components[...], self.components.shape[1]
        apart = jnp.where(known, spectrum - self.mean[...], 0)
        there = known.astype(apart.dtype)
        products = (components[:, :, None] * components[:, None, :]).reshape(len(components), -1)
        normal = jnp.matmul(there, products, precision="highest").reshape(-1, count, count) + jnp.eye(count)
        right = jnp.matmul(apart, components, precision="highest")
        weights = _solved(normal, right)
        expected = self.mean[...] + jnp.matmul(weights, components.T, precision="highest")
        return jnp.where(known, spectrum, expected), known

    def mark(self, signal: Float[Array, "B L"], known: Bool[Array, "B L"]) -> Float[Array, "B L"]:
        """The network's input with its mark."""
        return signal + jnp.where(known, 0, self.unknown[...])


def _solved(normal: Float[Array, "B r r"], right: Float[Array, "B r"]) -> Float[Array, "B r"]:
    """x of `normal` x = `right`, positive definite. By elimination over the batch: one fused loop on every platform,
    where a call of LAPACK for each row would be for CPUs alone."""
    both = jnp.concatenate([normal, right[:, :, None]], axis=2)

    def eliminate(i: jax.Array, both: Array) -> Array:
        pivot = jax.lax.dynamic_index_in_dim(both, i, 1)
        row = pivot / jax.lax.dynamic_index_in_dim(pivot, i, 2)
        column = jax.lax.dynamic_index_in_dim(both, i, 2)
        is_pivot = (jnp.arange(both.shape[1]) == i)[:, None]
        return jnp.where(is_pivot, row, both - column * row)

    return jax.lax.fori_loop(0, both.shape[1], eliminate, both)[:, :, -1]
