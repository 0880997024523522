"""What the band kernels share: rows of a tile, found by energy and spectrum, and products of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from spt_jax.shapes import Array


@dataclass(frozen=True)
class Tile:
    """What one program does: `energies` by `spectra`, powers of two, on `warps` warps.

    points: how many rows of a folded spectrum there can be, and one, to a power of two of at least 16. parts: programs
    that each add up a part of a tap's gradient. rows, row_warps: of the products that no period has a part in.
    """

    points: int = 16
    energies: int = 8
    spectra: int = 4
    warps: int = 4
    stages: int = 2
    parts: int = 128
    rows: int = 128
    row_warps: int = 8
    interpret: bool = False


class TileRows:
    """Rows of `energies` by `spectra`, the latter from spectrum `first` on, with all channels of each."""

    def __init__(self, energies: int, spectra: int, first: Any, batch: int, channels: int):
        self.spectra, row = spectra, jnp.arange(energies * spectra)[:, None]
        self.energy, self.spectrum = row // spectra, first + row % spectra
        self.channel = jnp.arange(pl.next_power_of_2(channels))[None, :]
        self.exists, self.filled = self.spectrum < batch, self.channel < channels

    def periods(self, ref, band: Any) -> Array:
        """(rows, 1): of each row's spectrum."""
        return plgpu.load(ref.at[self.spectrum, band], mask=self.exists, other=2)

    def of_spectrum(self, ref, band: int) -> Array:
        """(rows, 1) of ref (B, k)."""
        return plgpu.load(ref.at[self.spectrum, band], mask=self.exists, other=0.0)

    def load(self, ref, leading: tuple, place: Array, inside: Array) -> Array:
        """(rows, channels), zero where not `inside`."""
        at = ref.at[(*leading, place, self.spectrum, self.channel)]
        return plgpu.load(at, mask=inside & self.exists & self.filled, other=0.0)

    def store(self, ref, leading: tuple, place: Array, inside: Array, x: Array) -> None:
        at = ref.at[(*leading, place, self.spectrum, self.channel)]
        plgpu.store(at, x.astype(ref.dtype), mask=inside & self.exists & self.filled)

    def over_energies(self, x: Array) -> Array:
        """(rows, channels) -> (spectra, channels), summed over energies."""
        return x.reshape(-1, self.spectra, x.shape[1]).sum(axis=0)


def gelu(tile: Tile, x: Array) -> Array:
    """jax.nn.gelu."""
    return 0.5 * x * (1 + _tanh(tile, x * (0.7978845608 + 0.0356774081 * x * x)))


def gelu_slope(tile: Tile, x: Array) -> Array:
    """Its derivative."""
    through = _tanh(tile, x * (0.7978845608 + 0.0356774081 * x * x))
    return 0.5 * (1 + through) + 0.5 * x * (1 - through * through) * (0.7978845608 + 0.1070322243 * x * x)


def _tanh(tile: Tile, x: Array) -> Array:
    # One instruction, right to 2^-11, where the exact one makes kernels of bfloat16 wait for arithmetic.
    return jnp.tanh(x) if tile.interpret else plgpu.approx_tanh(x)


def vector(ref) -> Array:
    """(1, d) of ref (d,), zeros up to a power of two."""
    channel = jnp.arange(pl.next_power_of_2(ref.shape[0]))[None, :]
    return plgpu.load(ref.at[channel], mask=channel < ref.shape[0], other=0.0)


def matrix(ref, *leading: Any) -> Array:
    """The (d, e) matrix ref[leading], zeros around it up to powers of two."""
    width, out = ref.shape[-2:]
    i = jnp.arange(pl.next_power_of_2(width))[:, None]
    j = jnp.arange(pl.next_power_of_2(out))[None, :]
    return plgpu.load(ref.at[(*leading, i, j)], mask=(i < width) & (j < out), other=0.0)


def store_matrix(ref, leading: tuple, x: Array) -> None:
    i, j = jnp.arange(x.shape[0])[:, None], jnp.arange(x.shape[1])[None, :]
    plgpu.store(ref.at[(*leading, i, j)], x, mask=(i < ref.shape[-2]) & (j < ref.shape[-1]))


def dot(a: Array, b: Array, transposed: bool = False) -> Array:
    """a b in float32, or a^T b."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    dims = (((0 if transposed else 1,), (0,)), ((), ()))
    return jax.lax.dot_general(a, b, dims, precision=precision, preferred_element_type=jnp.float32)


def call(
    kernel: Callable, tile: Tile, grid: tuple[int, ...], out: list, *inputs: Array, aliases=None, warps=None
) -> Sequence[Array]:
    """`kernel` over a grid of programs; out: shapes and dtypes of what it writes."""
    return pl.pallas_call(
        partial(kernel, tile),
        grid=grid,
        in_specs=[pl.no_block_spec] * len(inputs),
        out_specs=[pl.no_block_spec] * len(out),
        out_shape=[jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in out],
        input_output_aliases=aliases or {},
        compiler_params=plgpu.CompilerParams(num_warps=warps or tile.warps, num_stages=tile.stages),
        interpret=tile.interpret,
        name=kernel.__name__.strip("_"),
    )(*inputs)
