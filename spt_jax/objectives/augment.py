"""Physically plausible copies of training spectra, and mixtures of them. Random numbers belong to the row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import dct
from scipy.stats import beta

from data_pipelines.schema import Batch, EnergyGrid
from spt_jax.config import LabelsConfig, MaskedConfig

# How far above the start of the grid calculated spectra are too sharp by all of `broadening`.
BLURRED_EV = 20.0


def augment(keys: jax.Array, spectrum: jax.Array, config: LabelsConfig | MaskedConfig, grid: EnergyGrid) -> jax.Array:
    """(B, L) spectra with an energy shift, an edge-step error and detector noise; keys: (B,)."""

    def one(key: jax.Array, mu: jax.Array) -> jax.Array:
        shift_key, scale_key, sigma_key, noise_key = jax.random.split(key, 4)
        shift = config.energy_shift * jax.random.truncated_normal(shift_key, -2, 2)
        scale = 1 + config.amplitude * jax.random.normal(scale_key)
        sigma = config.noise * jax.random.uniform(sigma_key)
        return moved(mu, shift, config.energy_shift, grid) * scale + sigma * jax.random.normal(noise_key, mu.shape)

    return jax.vmap(one)(keys, spectrum)


def moved(mu: jax.Array, shift: jax.Array, usual: float, grid: EnergyGrid) -> jax.Array:
    """(L,) mu(E - shift); usual: the size of shifts. What comes in at an end has the value of that end."""
    if usual > grid.step:
        energy = jnp.asarray(grid.relative(), mu.dtype)
        return jnp.where(jnp.isfinite(mu), jnp.interp(energy - shift, energy, held(mu)), jnp.nan)
    # To first order. At the last known energy there is no slope.
    slope = jnp.gradient(mu) / grid.step
    return mu - shift * (jnp.where(jnp.isfinite(slope), slope, 0) if grid.gaps else slope)


def held(mu: jax.Array) -> jax.Array:
    """(L,) with the last known value behind it."""
    known = jnp.isfinite(mu)
    return jnp.where(known, mu, mu[jnp.count_nonzero(known) - 1])


def blur(keys: jax.Array, spectrum: jax.Array, config: LabelsConfig, grid: EnergyGrid) -> jax.Array:
    """(B, L) spectra as a sample and an instrument blur them, absorbed by the sample, on a straight background; keys: (B,).

    Calculated fine structure is too strong, the more so the higher above the edge: no thermal motion, one electron. So the
    sigma of `config.broadening` is reached BLURRED_EV above the start of the grid, and a quarter of it is all there.
    """
    draws = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 2)))(keys)
    far = broaden(draws[:, 0], jax.vmap(held)(spectrum), config.broadening, grid.step)
    near = broaden(draws[:, 0], jax.vmap(held)(spectrum), config.broadening / 4, grid.step)
    energy = grid.relative() - grid.start
    share = np.clip(energy / BLURRED_EV, 0, 1).astype(np.float32)
    ends = config.background * jax.vmap(lambda key: jax.random.normal(key, (2, 1)))(draws[:, 1])
    way = (energy / energy[-1]).astype(np.float32)
    background = (1 - way) * ends[:, 0] + way * ends[:, 1]
    mu = absorbed(draws[:, 0], share * far + (1 - share) * near, config.self_absorption)
    return jnp.where(jnp.isfinite(spectrum), mu + background, jnp.nan)


def absorbed(keys: jax.Array, spectrum: jax.Array, largest: float) -> jax.Array:
    """(B, L) spectra as the fluorescence of a thick sample shows them: mu / (1 + s (mu - 1)), s up to `largest`; keys: (B,).

    At an edge step of 1 the sample's other absorption, with that of the fluorescence on its way out, is (1 - s) / s.
    Peaks shrink, and what lies below 1 is lifted.
    """
    if not largest:
        return spectrum
    share = largest * jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), (1,)))(keys)
    return spectrum / (1 + share * (spectrum - 1))


def cut_short(keys: jax.Array, spectrum: jax.Array, share: float, common: int) -> jax.Array:
    """(B, L) spectra, a `share` of them NaN from a random point behind the `common` first on; keys: (B,)."""

    def one(key: jax.Array, mu: jax.Array) -> jax.Array:
        whether, where = jax.random.split(jax.random.fold_in(key, 1))
        end = jax.random.randint(where, (), common, len(mu) + 1)
        lost = jax.random.bernoulli(whether, share) & (jnp.arange(len(mu)) >= end)
        return jnp.where(lost, jnp.nan, mu)

    return jax.vmap(one)(keys, spectrum)


def cosines(length: int) -> np.ndarray:
    """(L, L) orthonormal: row k is the cosine of k half periods over the grid (DCT-II)."""
    return dct(np.eye(length), axis=0, norm="ortho").astype(np.float32)


def broaden(keys: jax.Array, spectrum: jax.Array, largest: float, step_ev: float) -> jax.Array:
    """(B, L) spectra convolved with a Gaussian of a sigma up to `largest` eV, as if mirrored at both ends."""
    length = spectrum.shape[-1]
    sigma = largest / step_ev * jax.vmap(jax.random.uniform)(keys)
    waves = cosines(length)
    kept = jnp.exp(-0.5 * (sigma[:, None] * (np.pi / length * np.arange(length))) ** 2)
    return ((spectrum @ waves.T) * kept) @ waves


def mix_share(keys: jax.Array, batch: Batch, other: Batch, alpha: float) -> jax.Array:
    """(B,) share of each spectrum in its mixture with another one: mixup (arXiv 1710.09412).

    A measured spectrum is a mean over sites, so mixtures of one element are physical; two elements are not mixed.
    """
    if not alpha:
        return jnp.ones(batch.spectrum.shape[0])
    # By quantiles: XLA takes seconds to compile the rejection loops of jax.random.beta. The larger of the two shares
    # is the upper half of the symmetric distribution.
    quantiles = jnp.asarray(beta.ppf(np.linspace(0.5, 1, 1025), alpha, alpha), jnp.float32)
    share = jnp.interp(jax.vmap(jax.random.uniform)(keys), jnp.linspace(0, 1, 1025), quantiles)
    return jnp.where(batch.atomic_number == other.atomic_number, share, 1.0)
