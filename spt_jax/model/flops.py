"""Floating-point operations and bytes of memory traffic, counted from the configuration.

XLA's own cost analysis counts the body of a scan once and misjudges top-k, so these counts are the ones that shares
of a roof are taken of. A multiply-add is two operations; bytes are those of tensors that an unfused program writes
and reads, in float32.
"""

from __future__ import annotations

from typing import NamedTuple

from spt_jax.config import ModelConfig
from spt_jax.model.spectral import Form, Grid

# FLOPs that take as long as one byte from memory (matrix peak / bandwidth), by backend. Only a choice between equal
# results hangs on it; `python -m benchmarks.ops` measures the ratio of a machine.
FLOPS_PER_BYTE = {"cpu": 10.0, "gpu": 180.0, "tpu": 240.0}


class Cost(NamedTuple):
    """Forward work for a batch: floating-point operations, and bytes to and from memory (float32)."""

    flops: float
    bytes: float

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def weight(self, backend: str) -> float:
        return self.flops + FLOPS_PER_BYTE.get(backend, FLOPS_PER_BYTE["gpu"]) * self.bytes


def tap_cost(length: int, size: int, periods: int, batch: int, width: int, fixed: bool = False) -> Cost:
    """One product per tap, then each is moved and added for every period: `tap_convolutions`, or the one for `fixed`."""
    points, taps = length * batch * width, size * size
    # Slices are added as they are read; gathered taps are written first.
    moves = periods * (taps + 1) if fixed else 2 * periods * taps
    return Cost(2 * taps * points * width + periods * taps * points, 4 * points * (taps + moves))


def form_cost(grid: Grid, form: Form, batch: int, width: int) -> Cost:
    """One period in one static form, kernel spectra included."""
    channels, taps = batch * width, grid.taps
    if form == "direct":
        points = grid.rows * grid.period * channels
        return Cost(2 * taps * points * width, 4 * (2 * taps * points + points + taps * width**2))
    frequencies, (rows, columns) = grid.frequencies, grid.padded
    # Gauss's three real factors of each frequency: written by the DFT, read and written by the mixing, read by the way back.
    mixing = Cost(6 * frequencies * channels * width, 4 * 4 * 3 * frequencies * channels)
    kernel = Cost(6 * frequencies * taps * width**2, 4 * 2 * 3 * frequencies * width**2)
    ends = Cost(0, 4 * 2 * grid.length * channels)
    if form == "spectral":
        waves = Cost(12 * frequencies * grid.length * channels, 0)
    else:
        half = columns // 2 + 1
        between = 2 * grid.rows * half * channels
        products = 2 * between * grid.period + 2 * (3 * rows) * between
        waves = Cost(2 * products, 4 * 4 * between)
    return mixing + kernel + ends + waves


def model_cost(config: ModelConfig, length: int, outputs: int, batch: int, folding: Cost) -> Cost:
    """Forward pass of the whole network for a batch; `folding` is that of one block's convolutions.

    outputs: numbers that the heads put out. A training step is three times this: the gradient takes one pass to the
    inputs of each product and one to its weights.
    """
    d, features = config.width, length * (config.readout_channels + 1) + config.width
    sequence = 4 * length * batch * d
    once = 2 * length * (length + 5 * d + config.readout_channels * d)
    dense = features * config.hidden + (config.hidden_layers - 1) * config.hidden**2
    once += 2 * dense + 2 * config.hidden * outputs
    block = 2 * length * 2 * config.highest_band * d + 2 * (2 + config.bands) * d**2 + 2 * length * d**2
    passes = 14
    if config.attention != "none":
        scores = 2 * d if config.attention == "gatv2" else 2 * config.attention_heads
        block += 2 * length * d * (scores + 2 * d + 2 * config.window + 1)
        passes += 8
    total = Cost(batch * once, 4 * dense + 2 * sequence)
    for _ in range(config.blocks):
        total += folding + Cost(batch * block, passes * sequence)
    return total
