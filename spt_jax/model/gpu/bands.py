"""The 2-D convolution on grids that each spectrum chooses, as Triton kernels.

With the sums over columns S_r of `sums.py`, a band of period p is y[l] = S_0[l] + S_+[l + p] + S_-[l - p] at every point
but the first and the last of each row of the grid, where one column reaches into the next row: there its three
products are taken off again, sixteen rows at a time. `tap_convolutions` is the reference.

Points of a grid, for i = 0, 1, ...: row i begins at i p, row i - 1 ends at i p - 1. The first convolves what ends
beside it, n[(i + r) p - 1], by the taps c = -1, and should not; the second n[(i + r) p] by c = +1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from spt_jax.model.gpu.rows import Tile, TileRows, call, dot, matrix, store_matrix
from spt_jax.model.gpu.sums import column_sums, to_sequence, to_taps
from spt_jax.shapes import Array, Float, Int

# (where a point of the kind lies from i p, where those beside it do, the column of the taps between them)
SIDES = ((0, -1, 0), (-1, 0, 2))


def _on(place: Array, length: int) -> Array:
    return (place >= 0) & (place < length)


def _fold_kernel(tile: Tile, periods, n, sums, taps, y) -> None:
    """One band of a few spectra."""
    length, batch, width = n.shape
    band, first = pl.program_id(1), pl.program_id(0) * tile.spectra

    def shifted(rows: TileRows, place: Array, period: Array, inside: Array) -> Array:
        """S_0 + S_+ + S_-."""
        total = 0.0
        for r in range(3):
            other = place + (r - 1) * period
            taken = rows.load(sums, (r,), other + 1, inside & (other >= -1) & (other <= length))
            total = total + taken.astype(jnp.float32)
        return total

    rows = TileRows(tile.energies, tile.spectra, first, batch, width)
    period = rows.periods(periods, band)

    def inner(i, _):
        place = i * tile.energies + rows.energy
        column = place % period
        inside = (place < length) & (column != 0) & (column != period - 1)
        rows.store(y, (band,), place, inside, shifted(rows, place, period, inside))
        return 0

    jax.lax.fori_loop(0, pl.cdiv(length, tile.energies), inner, 0)
    rows = TileRows(tile.points, tile.spectra, first, batch, width)
    period = rows.periods(periods, band)
    for at, beside, column in SIDES:
        place = rows.energy * period + at
        inside = _on(place, length)
        total = shifted(rows, place, period, inside)
        for r in range(3):
            other = (rows.energy + r - 1) * period + beside
            total = total - dot(rows.load(n, (), other, inside & _on(other, length)), matrix(taps, r, column))
        rows.store(y, (band,), place, inside, total)


def _unfold_kernel(tile: Tile, periods, g, sums) -> None:
    """The gradient to the sums: of all bands, moved back."""
    bands, length, batch, width = g.shape
    rows = TileRows(tile.energies, tile.spectra, pl.program_id(1) * tile.spectra, batch, width)
    place = pl.program_id(0) * tile.energies + rows.energy - 1
    totals = [0.0] * 3
    for band in range(bands):
        period = rows.periods(periods, band)
        for r in range(3):
            other = place - (r - 1) * period
            totals[r] = totals[r] + rows.load(g, (band,), other, _on(other, length)).astype(jnp.float32)
    for r, total in enumerate(totals):
        rows.store(sums, (r,), place + 1, place <= length, total)


def _unfold_ends_kernel(tile: Tile, periods, g, taps, _, dn) -> None:
    """Take what the ends of rows did not convolve off the gradient dn, which is given and returned in one place."""
    bands, length, batch, width = g.shape
    rows = TileRows(tile.points, tile.spectra, pl.program_id(0) * tile.spectra, batch, width)
    for band in range(bands):
        period = rows.periods(periods, band)
        for at, beside, column in SIDES:
            place = rows.energy * period + beside
            inside = _on(place, length)
            total = rows.load(dn, (), place, inside).astype(jnp.float32)
            for r in range(3):
                other = (rows.energy + 1 - r) * period + at
                taken = rows.load(g, (band,), other, inside & _on(other, length))
                total = total - dot(taken, matrix(taps, r, column))
            rows.store(dn, (), place, inside, total)
        if not tile.interpret:
            plgpu.debug_barrier()  # another band may touch the same points


def _ends_to_taps_kernel(tile: Tile, periods, n, g, parts) -> None:
    """A part of what the ends of rows take off the gradient of one tap."""
    bands, length, batch, width = g.shape
    side, r, part = pl.program_id(0) // 3, pl.program_id(0) % 3, pl.program_id(1)
    at, beside = -side, side - 1
    tiles = pl.cdiv(batch, tile.spectra)

    def add(step, total):
        rows = TileRows(tile.points, tile.spectra, (step * tile.parts + part) * tile.spectra, batch, width)
        for band in range(bands):
            period = rows.periods(periods, band)
            place, other = rows.energy * period + at, (rows.energy + r - 1) * period + beside
            arrived = rows.load(g, (band,), place, _on(place, length))
            total = total + dot(rows.load(n, (), other, _on(other, length)), arrived, True)
        return total

    size = pl.next_power_of_2(width)
    total = jax.lax.fori_loop(0, pl.cdiv(tiles, tile.parts), add, jnp.zeros((size, size), jnp.float32))
    store_matrix(parts, (part, side, r), total)


def forward(
    tile: Tile, n: Float[Array, "L B d"], taps: Float[Array, "3 3 d d"], periods: Int[Array, "B k"]
) -> Float[Array, "k L B d"]:
    """For each period of each spectrum, n convolved on the grid of that period. Periods: at least 2."""
    sums = column_sums(tile, n, taps)
    grid = (pl.cdiv(n.shape[1], tile.spectra), periods.shape[1])
    (y,) = call(_fold_kernel, tile, grid, [((grid[1], *n.shape), n.dtype)], periods, n, sums, taps.astype(n.dtype))
    return y


def backward(
    tile: Tile,
    n: Float[Array, "L B d"],
    taps: Float[Array, "3 3 d d"],
    periods: Int[Array, "B k"],
    g: Float[Array, "k L B d"],
) -> tuple[Float[Array, "L B d"], Float[Array, "3 3 d d"]]:
    """The gradients to n and taps, g that of what n is convolved to."""
    length, batch, width = n.shape
    spectra = pl.cdiv(batch, tile.spectra)
    grid = (pl.cdiv(length + 2, tile.energies), spectra)
    (sums,) = call(_unfold_kernel, tile, grid, [((3, length + 2, batch, width), n.dtype)], periods, g)
    dn, back = to_sequence(tile, sums, taps), taps.astype(n.dtype).swapaxes(-1, -2)
    (dn,) = call(_unfold_ends_kernel, tile, (spectra,), [(n.shape, n.dtype)], periods, g, back, dn, aliases={3: 0})
    parts = ((tile.parts, 2, 3, width, width), jnp.float32)
    (parts,) = call(_ends_to_taps_kernel, tile, (6, tile.parts), [parts], periods, n, g)
    left, right = parts.sum(axis=0)
    to_weights = to_taps(tile, n, sums).at[:, 0].add(-left).at[:, 2].add(-right)
    return dn, to_weights
