"""How the folded convolutions of one block are computed: chosen when the program is built, by counting.

There are two exact ways: the taps (`folding.py`), whose cost grows with the kernel, and the DFT (`spectral.py`) of every
period that could be chosen, the unchosen ones then weighted with zero; with fixed bands none is unchosen.
"""

from __future__ import annotations

import jax

from spt_jax.config import Folding, ModelConfig
from spt_jax.model.flops import Cost, spectral_cost, tap_cost
from spt_jax.model.spectral import Grid

# Rows of a batch that the counting assumes, so that a single spectrum and a batch of them take the same way.
ROWS = 64

Plan = tuple[Grid, ...]


def candidates(config: ModelConfig) -> range:
    """Frequencies that a spectrum may choose; `fixed` chooses the first k of them."""
    return range(1, (config.bands if config.band_mode == "fixed" else config.highest_band) + 1)


def make_plan(config: ModelConfig, length: int, folding: Folding = "auto", backend: str | None = None) -> Plan | None:
    """The grid of each distinct candidate period, longest first; None for the taps. `folding` may force either."""
    backend = backend or jax.default_backend()
    if folding == "taps":
        return None
    periods = sorted({-(-length // f) for f in candidates(config)}, reverse=True)
    plan = tuple(Grid(length, period, config.kernel, apart=backend == "cpu") for period in periods)
    taps = taps_of(config, length, ROWS)
    cheaper = plan_cost(plan, ROWS, config.width).weight(backend) < taps.weight(backend)
    return plan if cheaper or folding == "spectral" else None


def taps_of(config: ModelConfig, length: int, batch: int) -> Cost:
    """The way of the taps."""
    return tap_cost(length, config.kernel, config.bands, batch, config.width, config.band_mode == "fixed")


def plan_cost(plan: Plan, batch: int, width: int) -> Cost:
    """All periods of a plan."""
    return sum((spectral_cost(grid, batch, width) for grid in plan), Cost(0, 0))


def folding_cost(config: ModelConfig, length: int, batch: int, folding: Folding = "auto") -> Cost:
    """One block's convolutions, the way this machine computes them."""
    plan = make_plan(config, length, folding)
    if plan is None:
        return taps_of(config, length, batch)
    return plan_cost(plan, batch, config.width)
