"""Products of a sequence with every kernel tap, summed over columns: what no period has a part in.

S_r[q] = sum_c W_rc n[q + c] for q = -1 .. L (M = L + 2 of them), three arrays where the single products were nine. Its own gradients are
of the same form: three columns of three arrays back into one, and nine products of rows with rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from spt_jax.model.gpu.rows import Tile, call, dot, matrix, store_matrix
from spt_jax.shapes import Array, Float


def _flat_rows(ref, leading: tuple, row: Array) -> Array:
    """(rows, channels) of ref (..., rows, d), zero beyond both ends."""
    count, width = ref.shape[-2:]
    channel = jnp.arange(pl.next_power_of_2(width))[None, :]
    mask = (row >= 0) & (row < count) & (channel < width)
    return plgpu.load(ref.at[(*leading, row, channel)], mask=mask, other=0.0)


def _columns_kernel(tile: Tile, batch: int, shift: int, x, weights, out) -> None:
    """out[o, l] = sum over i and c of x[i, l + c + shift] weights[i, c, o]. Rows are energies times spectra."""
    count = tile.rows
    row = pl.program_id(0) * count + jnp.arange(count)[:, None]
    totals = [0.0] * out.shape[0]
    for i in range(x.shape[0]):
        for c in range(3):
            taken = _flat_rows(x, (i,), row + (c - 1 + shift) * batch)
            totals = [total + dot(taken, matrix(weights, i, c, o)) for o, total in enumerate(totals)]
    channel = jnp.arange(totals[0].shape[1])[None, :]
    for o, total in enumerate(totals):
        mask = (row < out.shape[1]) & (channel < out.shape[2])
        plgpu.store(out.at[o, row, channel], total.astype(out.dtype), mask=mask)


def _to_weights_kernel(tile: Tile, batch: int, n, sums, parts) -> None:
    """A part of the gradient of the weights of tap row r: sum over q of n[q + c]^T sums[r, q]."""
    count, r, part = tile.energies * tile.spectra, pl.program_id(0), pl.program_id(1)
    tiles = pl.cdiv(sums.shape[1], count)

    def add(step, totals):
        row = (step * tile.parts + part) * count + jnp.arange(count)[:, None]
        arrived = _flat_rows(sums, (r,), row)
        taken = [_flat_rows(n, (), row + (c - 2) * batch) for c in range(3)]
        return [total + dot(each, arrived, True) for total, each in zip(totals, taken, strict=True)]

    width = pl.next_power_of_2(n.shape[1])
    totals = [jnp.zeros((width, width), jnp.float32)] * 3
    for c, total in enumerate(jax.lax.fori_loop(0, pl.cdiv(tiles, tile.parts), add, totals)):
        store_matrix(parts, (part, r, c), total)


def _named(kernel, *arguments):
    """`kernel` with what follows the tile filled in, under its own name."""

    def filled(tile, *refs):
        kernel(tile, *arguments, *refs)

    filled.__name__ = kernel.__name__
    return filled


def _columns(tile: Tile, x: Array, weights: Array, length: int, shift: int) -> Array:
    """x: (I, L', B, d), weights: (I, 3, O, d, d) -> (O, length, B, d)."""
    batch, width, out = x.shape[2], x.shape[3], weights.shape[2]
    rows = length * batch
    grid = (pl.cdiv(rows, tile.rows),)
    (y,) = call(
        _named(_columns_kernel, batch, shift),
        tile,
        grid,
        [((out, rows, width), x.dtype)],
        x.reshape(len(x), -1, width),
        weights.astype(x.dtype),
        warps=tile.row_warps,
    )
    return y.reshape(out, length, batch, width)


def column_sums(tile: Tile, n: Float[Array, "L B d"], taps: Float[Array, "3 3 d d"]) -> Float[Array, "3 M B d"]:
    return _columns(tile, n[None], taps.swapaxes(0, 1)[None], len(n) + 2, -1)


def to_sequence(tile: Tile, sums: Float[Array, "3 M B d"], taps: Float[Array, "3 3 d d"]) -> Float[Array, "L B d"]:
    """The gradient to n of the gradient to its sums."""
    back = taps[:, ::-1, None].swapaxes(-1, -2)
    return _columns(tile, sums, back, sums.shape[1] - 2, 1)[0]


def to_taps(tile: Tile, n: Float[Array, "L B d"], sums: Float[Array, "3 M B d"]) -> Float[Array, "3 3 d d"]:
    """The gradient to the weights, in float32."""
    batch, width = n.shape[1:]
    (parts,) = call(
        _named(_to_weights_kernel, batch),
        tile,
        (3, tile.parts),
        [((tile.parts, 3, 3, width, width), jnp.float32)],
        n.reshape(-1, width),
        sums.reshape(3, -1, width),
    )
    return parts.sum(axis=0)
