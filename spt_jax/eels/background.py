"""The power law below an edge, A (E / E_ref)^-r, fitted to all pixels at once in a window in front of it.

Weighted least squares of log counts over log energy, in closed form, and from there six steps of scoring, each the same
closed form: that is the most likely power law of Poisson counts. Logarithms alone are biased where counts are few, and
cannot take a count of zero; the steps take zeros, and negative counts of a dark reference, as they are.
(Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 4.4; McCullagh and Nelder, Generalized Linear Models, 2.5.)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.model.front import weighted_line
from spt_jax.shapes import Array, Float

STEPS = 6
# Of one step: noise must not throw it to where exp() overflows.
LONGEST_STEP = 3.0
# What a fit in so few counts says is noise.
FEWEST_COUNTS = 10.0
FEWEST_CHANNELS = 5
STEEPEST = 30.0


class PowerLaw(NamedTuple):
    """amplitude: (P,) counts at E_ref, the middle of the window. exponent: (P,) r. error: (P,) standard deviation of r as
    the counts scatter. misfit: (P,) mean of (counts - fit)^2 / fit, 1 for Poisson counts of a power law, times the gain of a
    detector. total: (P,) counts in the window."""

    amplitude: Float[Array, "P"]
    exponent: Float[Array, "P"]
    error: Float[Array, "P"]
    misfit: Float[Array, "P"]
    total: Float[Array, "P"]


def reference_energy(energy: np.ndarray, start: int, stop: int) -> float:
    """Geometric mean of the window's channels, eV: where amplitude and exponent are least correlated."""
    return float(np.exp(np.log(energy[start:stop]).mean()))


@partial(jax.jit, static_argnames=("start", "stop"))
def fit_power_law(
    counts: Float[Array, "P E"], energy: Float[Array, "E"], off: Float[Array, "P"], start: int, stop: int
) -> PowerLaw:
    """counts: finite, as measured: spectra that were moved have noise that is smoothed. energy: eV, above 0 in the window.
    off: eV by which a pixel's energies are too high. start, stop: channels of the window."""
    n = counts[:, start:stop]
    x = jnp.log(energy[start:stop] - off[:, None]) - jnp.log(energy[start:stop]).mean()
    scale = jnp.maximum(jnp.abs(n).mean(axis=1, keepdims=True), 1e-20)
    n = n / scale
    a, r = weighted_line(jnp.maximum(n, 0), jnp.log(jnp.where(n > 0, n, 1)), x)
    # At one count in ten channels the logarithms know no slope.
    a, r = jnp.clip(a, -5, 5), jnp.clip(r, -STEEPEST, STEEPEST)

    def step(_: int, law: tuple[Array, Array]) -> tuple[Array, Array]:
        a, r = law
        mu = jnp.exp(jnp.clip(a[:, None] - r[:, None] * x, -30, 30))
        da, dr = weighted_line(mu, n / mu - 1, x)
        r = r + jnp.clip(dr, -LONGEST_STEP, LONGEST_STEP)
        return a + jnp.clip(da, -1, 1), jnp.clip(r, -STEEPEST, STEEPEST)

    a, r = jax.lax.fori_loop(0, STEPS, step, (a, r))
    mu = jnp.exp(jnp.clip(a[:, None] - r[:, None] * x, -30, 30))
    misfit = ((n - mu) ** 2 / mu).sum(axis=1) / (stop - start - 2) * scale[:, 0]
    middle = (mu * x).sum(axis=1) / mu.sum(axis=1)
    information = (mu * (x - middle[:, None]) ** 2).sum(axis=1) * scale[:, 0]
    error = jnp.sqrt(misfit / jnp.maximum(information, 1e-20))
    total = counts[:, start:stop].sum(axis=1)
    return PowerLaw(jnp.exp(a) * scale[:, 0], r, error, misfit, total)


def power_law(fit: PowerLaw, energy: Float[Array, "E"], reference: float) -> Float[Array, "P E"]:
    """Counts of the fit at all energies; at the first one that is above 0 where energies begin below."""
    x = jnp.log(jnp.maximum(energy, jnp.where(energy > 0, energy, jnp.inf).min()) / reference)
    # A law that rises to the left without end must not overflow where it is of no use.
    return fit.amplitude[:, None] * jnp.exp(jnp.clip(-fit.exponent[:, None] * x, -60, 60))
