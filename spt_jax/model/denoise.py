"""Noise taken out of a spectrum before the network sees it, as much as that spectrum is found to have."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.shapes import Array, Bool, Float

# Edge steps squared: keeps the quotient finite where training spectra do not vary at all and nothing is noise.
LEAST_VARIANCE = 1e-10
# Sigmas above which it is not noise: of 144 directions of noise alone, one in a hundred spectra has one there.
SURELY_SIGNAL = 4.0
# Of the squares of normal numbers with a variance of 1.
MEDIAN_OF_SQUARES = 0.4549


class Constant(nnx.Variable):
    """An array that belongs to the model but is not trained: what is known of spectra before any training."""


class NoiseFilter(nnx.Module):
    """The linear estimate of the noise-free spectrum (Wiener filter), the noise level found for each spectrum.

    Spectra are smooth: along half of the eigenvectors of their covariance they hardly vary, so what a spectrum has
    there is mostly noise. Sigma comes from the median of its squares (as Donoho and Johnstone 1994, Biometrika 81,
    425, find it from wavelets), which a few features that no training spectrum has do not move. Of a direction in
    which spectra have the variance v, v / (v + sigma^2) is kept, so a clean spectrum hardly changes; where a spectrum
    itself has far more than sigma^2, that is taken for its v, so that new features, or an edge in another place, are
    not smoothed away. Takes noise to be independent from point to point, and equal at all energies.
    """

    def __init__(self, mean: np.ndarray, covariance: np.ndarray):
        """mean: (L,), covariance: (L, L) of mu over the training set."""
        variance, directions = np.linalg.eigh(covariance)
        self.mean = Constant(jnp.asarray(mean, jnp.float32))
        self.directions = Constant(jnp.asarray(directions, jnp.float32))
        self.variance = Constant(jnp.asarray(np.maximum(variance, LEAST_VARIANCE), jnp.float32))

    def __call__(self, spectrum: Float[Array, "B L"], known: Bool[Array, "B L"] | None = None) -> Float[Array, "B L"]:
        """mu without its noise. known: where it was measured; what was filled in elsewhere has none."""
        along = self._along(spectrum)
        noise = self._sigma_squared(along)[:, None]
        if known is not None:
            noise = noise / jnp.maximum(known.mean(axis=1, keepdims=True), 0.1)
        variance = jnp.maximum(self.variance[...], along**2 - SURELY_SIGNAL**2 * noise)
        # What is taken out is subtracted, so that where nothing is, nothing is rounded.
        taken = noise / (variance + noise) * along
        return spectrum - jnp.matmul(taken, self.directions[...].T, precision="highest")

    def sigma(self, spectrum: Float[Array, "B L"]) -> Float[Array, "B"]:
        """The noise of each spectrum, edge steps."""
        return jnp.sqrt(self._sigma_squared(self._along(spectrum)))

    def _along(self, spectrum: Float[Array, "B L"]) -> Float[Array, "B L"]:
        return jnp.matmul(spectrum - self.mean[...], self.directions[...], precision="highest")

    def _sigma_squared(self, along: Float[Array, "B L"]) -> Float[Array, "B"]:
        # Eigenvectors come in ascending order of their variance.
        quiet = along.shape[1] // 2
        found = jnp.median(along[:, :quiet] ** 2, axis=1) / MEDIAN_OF_SQUARES
        return jnp.maximum(found - jnp.median(self.variance[:quiet]), 0)
