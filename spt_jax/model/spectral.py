"""The 2-D convolution on a grid folded at a period known at compile time: exact, and nothing but matrix products.

Three forms of one map, from which `plan.py` chooses by counting:
  direct     the kernel taps that can fall on the grid, as one product over gathered neighbours;
  spectral   fold, zero-pad and 2-D DFT are one fixed matrix; channels mix per frequency; one matrix back;
  separable  the same with the DFT of columns and rows apart, for long sequences.
Padding by the kernel's reach makes the circular convolution of the DFT the zero-padded one.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from spt_jax.model.folding import fold, unfold
from spt_jax.shapes import Array, Float

Form = Literal["direct", "spectral", "separable"]


class Grid(NamedTuple):
    """A sequence of `length` folded at `period`, under a kernel of odd `size`."""

    length: int
    period: int
    size: int

    @property
    def rows(self) -> int:
        return -(-self.length // self.period)

    @property
    def reach(self) -> tuple[int, int]:
        """How many rows and columns away a tap can still fall on the grid; the others are pruned."""
        return min(self.size // 2, self.rows - 1), min(self.size // 2, self.period - 1)

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the DFT."""
        return self.rows + self.reach[0], self.period + self.reach[1]

    @property
    def frequencies(self) -> int:
        """F: rows, times half the columns since the input is real."""
        return self.padded[0] * (self.padded[1] // 2 + 1)

    @property
    def taps(self) -> int:
        return (2 * self.reach[0] + 1) * (2 * self.reach[1] + 1)


def direct(h: Float[Array, "L B d"], weights: Float[Array, "K K d e"], grid: Grid) -> Float[Array, "L B e"]:
    """Neighbours side by side, then one matrix product over all live taps and channels."""
    (up, left), (length, batch, width) = grid.reach, h.shape
    x = jnp.pad(fold(h, grid.period), ((up, up), (left, left), (0, 0), (0, 0)))
    windows = [x[r : r + grid.rows, c : c + grid.period] for r in range(2 * up + 1) for c in range(2 * left + 1)]
    rows = jnp.concatenate(windows, axis=-1).reshape(-1, grid.taps * width)
    product = rows @ _live(weights, grid).astype(h.dtype).reshape(grid.taps * width, -1)
    return unfold(product.reshape(grid.rows, grid.period, batch, -1), length)


def weight_spectra(weights: Float[Array, "K K d e"], grid: Grid) -> Float[Array, "G d e"]:
    """The kernel at all F frequencies, as G = 3 F real factors of Gauss's complex product: re, im - re, re + im."""
    factors = jnp.asarray(_kernel_waves(grid)) @ _live(weights, grid).reshape(grid.taps, -1)
    return factors.reshape(3 * grid.frequencies, *weights.shape[2:])


def spectral(h: Float[Array, "L B d"], spectra: Float[Array, "G d e"], grid: Grid, form: Form) -> Float[Array, "L B e"]:
    """The convolution with `weight_spectra`, by one DFT matrix ("spectral") or two ("separable").

    A complex product takes three real ones: k1 = (a + b) c, k2 = a (d - c), k3 = b (c + d) give k1 - k3 + i (k1 + k2).
    The sums before and after are linear, so they are part of the DFT matrices: nothing remains but matrix products.
    """
    if form == "spectral":
        forward, back = (jnp.asarray(m, h.dtype) for m in _dense_waves(grid))
        x = forward @ h.reshape(len(h), -1)
    else:
        columns, forward, back, columns_back = (jnp.asarray(m, h.dtype) for m in _separable_waves(grid))
        x = jnp.matmul(columns, fold(h, grid.period).reshape(grid.rows, grid.period, -1))
        x = forward @ x.reshape(2 * grid.rows, -1)
    y = jnp.matmul(x.reshape(3 * grid.frequencies, *h.shape[1:]), spectra.astype(h.dtype))
    y = back @ y.reshape(back.shape[1], -1)
    if form == "spectral":
        return y.reshape(grid.length, *h.shape[1:-1], -1)
    y = jnp.matmul(columns_back, y.reshape(grid.rows, columns_back.shape[1], -1))
    return unfold(y.reshape(grid.rows, grid.period, h.shape[1], -1), grid.length)


def _live(weights: Float[Array, "K K d e"], grid: Grid) -> Float[Array, "r c d e"]:
    (up, left), middle = grid.reach, grid.size // 2
    return weights[middle - up : middle + up + 1, middle - left : middle + left + 1]


def _angles(places: np.ndarray, columns: np.ndarray, grid: Grid) -> np.ndarray:
    """(F, n) phase of each frequency at each (row, column) place."""
    rows, half = grid.padded[0], grid.padded[1] // 2 + 1
    u, v = (axis.ravel() for axis in np.meshgrid(np.arange(rows), np.arange(half), indexing="ij"))
    return 2 * np.pi * (np.outer(u, places) / rows + np.outer(v, columns) / grid.padded[1])


def _multiplicity(grid: Grid) -> np.ndarray:
    """(half,) weight of each column frequency in the inverse: those between 0 and Nyquist stand for two."""
    half, columns = grid.padded[1] // 2 + 1, grid.padded[1]
    v = np.arange(half)
    return np.where((v == 0) | (2 * v == columns), 1.0, 2.0) / (grid.padded[0] * columns)


@cache
def _kernel_waves(grid: Grid) -> np.ndarray:
    """(3F, taps): re, im - re and re + im of e^(i angle), for the convolution of networks is a correlation."""
    r, c = np.meshgrid(*(np.arange(-reach, reach + 1) for reach in grid.reach), indexing="ij")
    angle = _angles(r.ravel(), c.ravel(), grid)
    real, imaginary = np.cos(angle), np.sin(angle)
    return np.concatenate([real, imaginary - real, real + imaginary]).astype(np.float32)


@cache
def _dense_waves(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(3F, L) to the factors re + im, re, im of the spectrum, and (L, 3F) back from the three products."""
    place = np.arange(grid.length)
    angle = _angles(place // grid.period, place % grid.period, grid)
    weight = np.tile(_multiplicity(grid), grid.padded[0])
    real, imaginary = np.cos(angle), -np.sin(angle)
    forward = np.concatenate([real + imaginary, real, imaginary])
    real, imaginary = real.T * weight, imaginary.T * weight
    back = np.concatenate([real + imaginary, imaginary, -real], axis=1)
    return forward.astype(np.float32), back.astype(np.float32)


@cache
def _separable_waves(grid: Grid) -> tuple[np.ndarray, ...]:
    """Columns (2q, p) and rows (3R', 2R) to the spectrum; rows (2R, 3R') and columns (p, 2q) back.

    Between the two a row holds q real parts, then q imaginary parts; after both, each of Gauss's factors comes whole.
    """
    rows, columns, half = *grid.padded, grid.padded[1] // 2 + 1
    across = 2 * np.pi * np.outer(np.arange(half), np.arange(grid.period)) / columns
    down = 2 * np.pi * np.outer(np.arange(rows), np.arange(grid.rows)) / rows
    cosine, sine = np.cos(down), np.sin(down)
    # Columns of the matrices: (r, part). e^(-i down) (a + i b) = C a + S b + i (C b - S a).
    real, imaginary = (np.stack(parts, -1).reshape(rows, -1) for parts in ((cosine, sine), (-sine, cosine)))
    forward = np.concatenate([real + imaginary, real, imaginary])
    back = np.concatenate([real + imaginary, imaginary, -real]).T
    weight = _multiplicity(grid)
    to_columns = np.concatenate([np.cos(across), -np.sin(across)])
    from_columns = np.concatenate([np.cos(across).T * weight, -np.sin(across).T * weight], axis=1)
    return tuple(m.astype(np.float32) for m in (to_columns, forward, back, from_columns))
