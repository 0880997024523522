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


def weight_spectra(weights: Float[Array, "K K d e"], grid: Grid) -> Float[Array, "3 F d e"]:
    """The kernel at every frequency, as the three real matrices of Gauss's complex product: re, im - re, re + im."""
    cosine, sine = _kernel_waves(grid)
    live = _live(weights, grid).reshape(grid.taps, -1)
    shape = (grid.frequencies, *weights.shape[2:])
    real, imaginary = (jnp.asarray(cosine) @ live).reshape(shape), (jnp.asarray(sine) @ live).reshape(shape)
    return jnp.stack([real, imaginary - real, real + imaginary])


def spectral(
    h: Float[Array, "L B d"], spectra: Float[Array, "3 F d e"], grid: Grid, form: Form
) -> Float[Array, "L B e"]:
    """The convolution with `weight_spectra`, by one DFT matrix ("spectral") or two ("separable")."""
    x = (_transform if form == "spectral" else _transform_separably)(h, grid)
    y = _mix(x, spectra.astype(h.dtype))
    return (_restore if form == "spectral" else _restore_separably)(y, grid)


def _mix(x: Float[Array, "2 F B d"], spectra: Float[Array, "3 F d e"]) -> Float[Array, "2 F B e"]:
    """Complex channel mixing per frequency in three real products instead of four (Gauss)."""
    real, imaginary = x
    shared = jnp.matmul(real + imaginary, spectra[0])
    return jnp.stack([shared - jnp.matmul(imaginary, spectra[2]), shared + jnp.matmul(real, spectra[1])])


def _transform(h: Float[Array, "L B d"], grid: Grid) -> Float[Array, "2 F B d"]:
    matrix = jnp.asarray(_dense_waves(grid)[0], h.dtype)
    return (matrix @ h.reshape(len(h), -1)).reshape(2, grid.frequencies, *h.shape[1:])


def _restore(y: Float[Array, "2 F B e"], grid: Grid) -> Float[Array, "L B e"]:
    matrix = jnp.asarray(_dense_waves(grid)[1], y.dtype)
    return (matrix @ y.reshape(2 * grid.frequencies, -1)).reshape(grid.length, *y.shape[2:])


def _transform_separably(h: Float[Array, "L B d"], grid: Grid) -> Float[Array, "2 F B d"]:
    columns, rows = (jnp.asarray(m, h.dtype) for m in _separable_waves(grid)[:2])
    x = jnp.matmul(columns, fold(h, grid.period).reshape(grid.rows, grid.period, -1))
    return (rows @ x.reshape(2 * grid.rows, -1)).reshape(2, grid.frequencies, *h.shape[1:])


def _restore_separably(y: Float[Array, "2 F B e"], grid: Grid) -> Float[Array, "L B e"]:
    rows, columns = (jnp.asarray(m, y.dtype) for m in _separable_waves(grid)[2:])
    x = (rows @ y.reshape(2 * grid.padded[0], -1)).reshape(grid.rows, columns.shape[1], -1)
    return unfold(jnp.matmul(columns, x).reshape(grid.rows, grid.period, *y.shape[2:]), grid.length)


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
def _kernel_waves(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(F, taps) real and imaginary part of e^(i angle): the convolution of networks is a correlation."""
    r, c = np.meshgrid(*(np.arange(-reach, reach + 1) for reach in grid.reach), indexing="ij")
    angle = _angles(r.ravel(), c.ravel(), grid)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


@cache
def _dense_waves(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(2F, L) to the spectrum, and (L, 2F) back."""
    place = np.arange(grid.length)
    angle = _angles(place // grid.period, place % grid.period, grid)
    weight = np.tile(_multiplicity(grid), grid.padded[0])
    forward = np.concatenate([np.cos(angle), -np.sin(angle)])
    back = np.concatenate([np.cos(angle).T * weight, -np.sin(angle).T * weight], axis=1)
    return forward.astype(np.float32), back.astype(np.float32)


@cache
def _separable_waves(grid: Grid) -> tuple[np.ndarray, ...]:
    """Columns (2q, p) and rows (2R', 2R) to the spectrum; rows (2R, 2R') and columns (p, 2q) back.

    Between the two a row holds q real parts, then q imaginary parts; after both all real parts come first.
    """
    rows, columns, half = *grid.padded, grid.padded[1] // 2 + 1
    across = 2 * np.pi * np.outer(np.arange(half), np.arange(grid.period)) / columns
    down = 2 * np.pi * np.outer(np.arange(rows), np.arange(grid.rows)) / rows
    cosine, sine = np.cos(down), np.sin(down)
    # Rows of the matrix: (part, u). Columns: (r, part). e^(-i down) (a + i b) = C a + S b + i (C b - S a).
    forward = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)]).reshape(2 * rows, 2 * grid.rows)
    back = forward.T
    weight = _multiplicity(grid)
    to_columns = np.concatenate([np.cos(across), -np.sin(across)])
    from_columns = np.concatenate([np.cos(across).T * weight, -np.sin(across).T * weight], axis=1)
    return tuple(m.astype(np.float32) for m in (to_columns, forward, back, from_columns))
