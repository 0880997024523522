"""mu standardised at each energy over the training spectra of its own element."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.model.denoise import Constant
from spt_jax.shapes import Array, Float, Int

# Edge steps: before the edge spectra of one element hardly differ, and noise would be made as large as an edge.
LEAST_STD = 0.02


class ByElement(nnx.Module):
    """(mu - mean) / std, of the spectrum's element; no standard deviation is below 0.02 edge steps."""

    def __init__(self, mean: np.ndarray, std: np.ndarray):
        """By atomic number, each (Z, L), of mu over the training spectra of the element."""
        self.mean = Constant(jnp.asarray(mean, jnp.float32))
        self.std = Constant(jnp.asarray(np.maximum(std, LEAST_STD), jnp.float32))

    def __call__(self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"]) -> Float[Array, "B L"]:
        return (spectrum - self.mean[...][atomic_number]) / self.std[...][atomic_number]

    def of(self, atomic_number: int) -> tuple[np.ndarray, np.ndarray]:
        """(L,) mean and standard deviation, float64, that spectra of this element are given."""
        return np.float64(self.mean[atomic_number]), np.float64(self.std[atomic_number])
