"""What the bands add to a sequence: convolved, activated, weighed by a function of their means, and summed.

One operation with its own gradient, so that of the activation nothing is kept but what was convolved: the backward
pass reads that twice, once for the gradient of the shares and, when that has become one of the means, once for its own.
`BandBlock` is the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from spt_jax.model.gpu import bands
from spt_jax.model.gpu.rows import Tile, TileRows, call, gelu, gelu_slope, vector
from spt_jax.shapes import Array, Float, Int


def _means_kernel(tile: Tile, y, bias, means) -> None:
    """The mean over energies of one activated band of a few spectra."""
    _, length, batch, width = y.shape
    band, first = pl.program_id(1), pl.program_id(0) * tile.spectra
    rows, added = TileRows(tile.energies, tile.spectra, first, batch, width), vector(bias)

    def add(i, total):
        place = i * tile.energies + rows.energy
        each = rows.load(y, (band,), place, place < length).astype(jnp.float32)
        return total + jnp.where(place < length, gelu(tile, each + added), 0.0)

    start = jnp.zeros((rows.energy.shape[0], rows.channel.shape[1]), jnp.float32)
    total = jax.lax.fori_loop(0, pl.cdiv(length, tile.energies), add, start)
    one = TileRows(1, tile.spectra, first, batch, width)
    at = means.at[band, one.spectrum, one.channel]
    plgpu.store(at, rows.over_energies(total) / length, mask=one.exists & one.filled)


def _fuse_kernel(tile: Tile, y, bias, share, fused) -> None:
    """The sum of the activated bands, each times its share."""
    count, length, batch, width = y.shape
    rows = TileRows(tile.energies, tile.spectra, pl.program_id(1) * tile.spectra, batch, width)
    place, added, total = pl.program_id(0) * tile.energies + rows.energy, vector(bias), 0.0
    for band in range(count):
        each = rows.load(y, (band,), place, place < length).astype(jnp.float32)
        total = total + rows.of_spectrum(share, band) * gelu(tile, each + added)
    rows.store(fused, (), place, place < length, total)


def _to_share_kernel(tile: Tile, y, bias, g, to_share) -> None:
    """The gradient to each share: over energies and channels, the sum of g times the activated band."""
    count, length, batch, width = y.shape
    rows = TileRows(tile.energies, tile.spectra, pl.program_id(0) * tile.spectra, batch, width)
    added = vector(bias)

    def add(i, totals):
        place = i * tile.energies + rows.energy
        arrived = rows.load(g, (), place, place < length).astype(jnp.float32)
        bands = [rows.load(y, (band,), place, place < length).astype(jnp.float32) for band in range(count)]
        return [total + arrived * gelu(tile, each + added) for total, each in zip(totals, bands, strict=True)]

    start = [jnp.zeros((rows.energy.shape[0], rows.channel.shape[1]), jnp.float32)] * count
    totals = jax.lax.fori_loop(0, pl.cdiv(length, tile.energies), add, start)
    spectrum = pl.program_id(0) * tile.spectra + jnp.arange(tile.spectra)
    for band, total in enumerate(totals):
        plgpu.store(to_share.at[spectrum, band], rows.over_energies(total).sum(axis=1), mask=spectrum < batch)


def _inactivate_kernel(tile: Tile, y, bias, share, to_means, g, to_y, to_bias) -> None:
    """The gradient to what was convolved, and of each spectrum to the bias."""
    count, length, batch, width = y.shape
    rows = TileRows(tile.energies, tile.spectra, pl.program_id(0) * tile.spectra, batch, width)
    added = vector(bias)
    shares = [rows.of_spectrum(share, band) for band in range(count)]
    filled = rows.exists & rows.filled
    means = [
        plgpu.load(to_means.at[band, rows.spectrum, rows.channel], mask=filled, other=0.0) for band in range(count)
    ]

    def add(i, total):
        place = i * tile.energies + rows.energy
        arrived = rows.load(g, (), place, place < length).astype(jnp.float32)
        for band in range(count):
            each = rows.load(y, (band,), place, place < length).astype(jnp.float32)
            each = (shares[band] * arrived + means[band] / length) * gelu_slope(tile, each + added)
            rows.store(to_y, (band,), place, place < length, each)
            total = total + jnp.where(place < length, each, 0.0)
        return total

    start = jnp.zeros((rows.energy.shape[0], rows.channel.shape[1]), jnp.float32)
    total = jax.lax.fori_loop(0, pl.cdiv(length, tile.energies), add, start)
    one = TileRows(1, tile.spectra, pl.program_id(0) * tile.spectra, batch, width)
    plgpu.store(to_bias.at[one.spectrum, one.channel], rows.over_energies(total), mask=one.exists & one.filled)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fuse_bands(
    tile: Tile,
    shares: Callable[[Any, Array], Float[Array, "B k"]],
    n: Float[Array, "L B d"],
    taps: Float[Array, "3 3 d d"],
    bias: Float[Array, "d"],
    periods: Int[Array, "B k"],
    given: Any,
) -> tuple[Float[Array, "L B d"], Float[Array, "B k"]]:
    """The fused bands of each spectrum, and shares(given, means), the share of each; means: (k, B, d), float32."""
    return _forward(tile, shares, n, taps, bias, periods, given)[0]


def _forward(tile, shares, n, taps, bias, periods, given):
    y = bands.forward(tile, n, taps, periods)
    length, batch, width = n.shape
    spectra = pl.cdiv(batch, tile.spectra)
    out = [((len(y), batch, width), jnp.float32)]
    (means,) = call(_means_kernel, tile, (spectra, len(y)), out, y, bias)
    share = shares(given, means)
    grid = (pl.cdiv(length, tile.energies), spectra)
    (fused,) = call(_fuse_kernel, tile, grid, [(n.shape, n.dtype)], y, bias, share.astype(jnp.float32))
    return (fused, share), (n, taps, bias, periods, given, y, means)


def _backward(tile, shares, residuals, gradients):
    n, taps, bias, periods, given, y, means = residuals
    g, beside = gradients
    batch, width = n.shape[1:]
    grid = (pl.cdiv(batch, tile.spectra),)
    (to_share,) = call(_to_share_kernel, tile, grid, [((batch, len(y)), jnp.float32)], y, bias, g)
    share, pull = jax.vjp(shares, given, means)
    to_given, to_means = pull((to_share + beside).astype(share.dtype))
    out = [(y.shape, y.dtype), ((batch, width), jnp.float32)]
    to_y, to_bias = call(_inactivate_kernel, tile, grid, out, y, bias, share.astype(jnp.float32), to_means, g)
    to_n, to_taps = bands.backward(tile, n, taps, periods, to_y)
    return to_n, to_taps.astype(taps.dtype), to_bias.sum(axis=0).astype(bias.dtype), None, to_given


fuse_bands.defvjp(_forward, _backward)
