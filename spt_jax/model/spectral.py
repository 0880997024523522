"""The 2-D convolution on a grid folded at a period known at compile time: exact, and nothing but matrix products.

Grid and kernel go to their 2-D DFT, channels mix per frequency, and the result comes back. Padding by the kernel's
reach makes the circular convolution of the DFT the zero-padded one.

The DFT is one matrix, or two: columns and rows apart. Apart, its arithmetic grows with rows + columns of the grid and
not with their product, which spares a CPU up to a third of the time, the more the longer the sequence. On
accelerators arithmetic is cheap, and the step between columns and rows is not: a TPU would take seven times as long.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from spt_jax.model.folding import fold, unfold
from spt_jax.shapes import Array, Float


class Grid(NamedTuple):
    """A sequence of `length` folded at `period`, under a kernel of odd `size`; `apart`: its DFT by columns and rows."""

    length: int
    period: int
    size: int
    apart: bool = True

    @property
    def rows(self) -> int:
        return -(-self.length // self.period)

    @property
    def reach(self) -> tuple[int, int]:
        """How many rows and columns away a tap can still fall on the grid; the others are pruned."""
        return min(self.size // 2, self.rows - 1), min(self.size // 2, self.period - 1)

    @property
    def padded(self) -> tuple[int, int]:
        """Rows R' and columns of the DFT."""
        return self.rows + self.reach[0], self.period + self.reach[1]

    @property
    def half(self) -> int:
        """q: frequencies along the columns, half of them since the input is real."""
        return self.padded[1] // 2 + 1

    @property
    def taps(self) -> int:
        return (2 * self.reach[0] + 1) * (2 * self.reach[1] + 1)


def spectral(h: Float[Array, "L B d"], weights: Float[Array, "K K d e"], grid: Grid) -> Float[Array, "L B e"]:
    """unfold(conv2d(fold(h, period), weights)), zero padded ("same").

    A complex product takes three real ones: k1 = (a + b) c, k2 = a (d - c), k3 = b (c + d) give k1 - k3 + i (k1 + k2).
    The sums before and after are linear, so they are part of the DFT matrices: nothing remains but matrix products.
    """
    (up, left), middle = grid.reach, grid.size // 2
    live = weights[middle - up : middle + up + 1, middle - left : middle + left + 1]
    spectra = jnp.asarray(_kernel_waves(grid), weights.dtype) @ live.reshape(-1, weights.shape[2] * weights.shape[3])
    spectra = spectra.reshape(-1, *weights.shape[2:]).astype(h.dtype)
    if not grid.apart:
        there, back = (jnp.asarray(m, h.dtype) for m in _whole_waves(grid))
        x = there @ h.reshape(len(h), -1)
        y = jnp.matmul(x.reshape(len(spectra), *h.shape[1:]), spectra)
        return (back @ y.reshape(len(spectra), -1)).reshape(*h.shape[:2], -1)
    columns, rows, rows_back, columns_back = (jnp.asarray(m, h.dtype) for m in _grid_waves(grid))
    x = jnp.matmul(columns, fold(h, grid.period).reshape(grid.rows, grid.period, -1))
    x = rows @ x.reshape(2 * grid.rows, -1)
    y = jnp.matmul(x.reshape(len(spectra), *h.shape[1:]), spectra)
    y = rows_back @ y.reshape(rows_back.shape[1], -1)
    y = jnp.matmul(columns_back, y.reshape(grid.rows, columns_back.shape[1], -1))
    return unfold(y.reshape(grid.rows, grid.period, h.shape[1], -1), grid.length)


@cache
def _grid_waves(grid: Grid) -> tuple[np.ndarray, ...]:
    """Columns (2q, p) and rows (3R', 2R) to the factors a + b, a, b; rows (2R, 3R') and columns (p, 2q) back."""
    columns, real, imaginary = _waves(grid, np.arange(grid.rows), np.arange(grid.period))
    v = np.arange(grid.half)
    # Frequencies between 0 and Nyquist stand for two.
    times = np.where((v == 0) | (2 * v == grid.padded[1]), 1.0, 2.0) / (grid.padded[0] * grid.padded[1])
    rows = np.concatenate([real + imaginary, real, imaginary])
    rows_back = np.concatenate([real + imaginary, imaginary, -real]).T
    return columns, rows, rows_back, columns.T * np.tile(times, 2)


@cache
def _whole_waves(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The same there, (3 R' q, L), and back, (L, 3 R' q), each as one matrix."""
    columns, rows, rows_back, columns_back = _grid_waves(grid)
    there, back = _as_one(rows, columns), _as_one(rows_back.T, columns_back.T).T
    return there[:, : grid.length], back[: grid.length]


@cache
def _kernel_waves(grid: Grid) -> np.ndarray:
    """(3 R' q, taps) to the factors c, d - c, c + d. One matrix: of so few taps columns apart write more than they spare."""
    # Backwards, for the convolution of networks is a correlation.
    columns, real, imaginary = _waves(grid, *(np.arange(reach, -reach - 1, -1) for reach in grid.reach))
    return _as_one(np.concatenate([real, imaginary - real, real + imaginary]), columns)


def _as_one(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(u q, R p): what columns (2q, p) and then rows (u, 2R) do to a grid."""
    parts = columns.reshape(2, -1, columns.shape[1])
    return np.einsum("urz,zqp->uqrp", rows.reshape(len(rows), -1, 2), parts).reshape(len(rows) * parts.shape[1], -1)


def _waves(grid: Grid, down: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For R rows and p columns at these places: (2q, p) along the columns; (R', 2R) real and imaginary part along rows.

    Between the two a row holds q real parts, then q imaginary parts: e^(-i x) (a + i b) = C a + S b + i (C b - S a).
    """
    rows, columns = grid.padded
    along = 2 * np.pi * np.outer(np.arange(grid.half), across) / columns
    x = 2 * np.pi * np.outer(np.arange(rows), down) / rows
    cosine, sine = np.cos(x), np.sin(x)
    real, imaginary = (np.stack(parts, -1).reshape(rows, -1) for parts in ((cosine, sine), (-sine, cosine)))
    return np.concatenate([np.cos(along), -np.sin(along)]), real, imaginary
