"""Floating-point operations and bytes of memory traffic of the folded convolutions, counted from their shapes.

Operations are those of matrix products and of sums over taps, a multiply-add being two; bytes are those of tensors
that a program still writes and reads when elementwise work is fused, in float32.
"""

from __future__ import annotations

from typing import NamedTuple

from spt_jax.model.spectral import Grid

# FLOPs that take as long as one byte from memory (matrix peak / bandwidth), by backend. Only a choice between equal
# results hangs on it; `python -m benchmarks.ops` measures the ratio of a machine.
FLOPS_PER_BYTE = {"cpu": 10.0, "gpu": 180.0, "tpu": 240.0}


class Cost(NamedTuple):
    """Forward work for a batch: floating-point operations, and bytes to and from memory (float32).

    spared: operations that the gradient does not take. It takes two passes, one to the inputs of each product and one
    to its weights, but one where either is a constant, and none where nothing before it is learnt.
    """

    flops: float
    bytes: float
    spared: float = 0.0

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]
        return Cost(*(mine + its for mine, its in zip(self, other, strict=True)))

    def training(self) -> Cost:
        """Work of the forward pass and the gradient."""
        return Cost(3 * self.flops - self.spared, 3 * self.bytes)

    def weight(self, backend: str) -> float:
        return self.flops + FLOPS_PER_BYTE.get(backend, FLOPS_PER_BYTE["gpu"]) * self.bytes


def tap_cost(length: int, size: int, periods: int, batch: int, width: int, fixed: bool = False) -> Cost:
    """One product per tap, then each is moved and added for every period: `tap_convolutions`, or the one for `fixed`."""
    points, taps = length * batch * width, size * size
    # Slices are added as they are read; gathered taps are written first.
    moves = periods * (taps + 1) if fixed else 2 * periods * taps
    sums = periods * taps * points
    return Cost(2 * taps * points * width + sums, 4 * points * (taps + moves), sums)


def spectral_cost(grid: Grid, batch: int, width: int) -> Cost:
    """One period by `spectral`, the kernel's DFT included."""
    channels, rows = batch * width, grid.padded[0]
    frequencies = rows * grid.half
    # Three real factors of each frequency: written by the DFT, read and written by the mixing, read by the way back.
    mixing = Cost(6 * frequencies * channels * width, 4 * 4 * 3 * frequencies * channels)
    kernel, waves = 6 * frequencies * grid.taps * width**2, 12 * frequencies * grid.length * channels
    moved = 4 * (2 * 3 * frequencies * width**2 + 2 * grid.length * channels)
    if grid.apart:
        between = 2 * grid.rows * grid.half * channels
        waves = 4 * between * (grid.period + 3 * rows)
        moved += 4 * 4 * between
    # The waves are constants: of the kernel and of the sequence alike.
    return mixing + Cost(kernel + waves, moved, kernel + waves)
