"""Banded graph attention (gatv1) as Triton kernels: softmax over the window and weighted sum in one pass over memory.

A head of a spectrum is a column of its own, so that nothing has to be reshaped: value (L, Q, c), scores (L, Q) with
Q = B H. A program owns a tile of energies and columns and finds the neighbours of its tile in the cache. The backward
pass keeps the inputs alone: one kernel looks from each point at its window, another from each neighbour back.
`BandedAttention` is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from spt_jax.config import SLOPE
from spt_jax.shapes import Array, Float


@dataclass(frozen=True)
class WindowTile:
    """What one program does: `energies` by `columns`, powers of two, on `warps` warps. reach: w of the window."""

    reach: int
    energies: int = 2
    columns: int = 32
    warps: int = 2
    interpret: bool = False


class _Tiled:
    """Loads and stores of one program's tile, moved along energy, zero where there is no point."""

    def __init__(self, tile: WindowTile, length: int, columns: int, channels: int):
        self.length = length
        self.energy = pl.program_id(1) * tile.energies + jnp.arange(tile.energies)[:, None]
        self.column = pl.program_id(0) * tile.columns + jnp.arange(tile.columns)[None, :]
        self.channel = jnp.arange(pl.next_power_of_2(channels))[None, None, :]
        self.exists = self.column < columns
        self.filled = self.channel < channels

    def on(self, offset: int) -> Array:
        """Is the neighbour a point of the spectrum?"""
        place = self.energy + offset
        return (place >= 0) & (place < self.length) & self.exists

    def score(self, ref, offset: int = 0) -> Array:
        at = ref.at[self.energy + offset, self.column]
        return plgpu.load(at, mask=self.on(offset), other=0.0).astype(jnp.float32)

    def value(self, ref, offset: int = 0) -> Array:
        at = ref.at[(self.energy + offset)[..., None], self.column[..., None], self.channel]
        mask = self.on(offset)[..., None] & self.filled
        return plgpu.load(at, mask=mask, other=0.0).astype(jnp.float32)

    def store_score(self, ref, x: Array) -> None:
        plgpu.store(ref.at[self.energy, self.column], x.astype(ref.dtype), mask=self.on(0))

    def store_value(self, ref, x: Array) -> None:
        at = ref.at[self.energy[..., None], self.column[..., None], self.channel]
        plgpu.store(at, x.astype(ref.dtype), mask=self.on(0)[..., None] & self.filled)


def _window(tile: WindowTile, at: _Tiled, target, source) -> tuple[list[Array], list[Array], Array]:
    """Scores of the window before and after the leaky unit, the latter -inf beyond the ends, and their log-sum-exp."""
    own = at.score(target)
    sums = [own + at.score(source, o) for o in range(-tile.reach, tile.reach + 1)]
    scores = [jnp.maximum(x, SLOPE * x) for x in sums]
    scores = [jnp.where(at.on(i - tile.reach), x, -jnp.inf) for i, x in enumerate(scores)]
    top = scores[tile.reach]
    for x in scores:
        top = jnp.maximum(top, x)
    # A tile's rows beyond the batch have no point at all.
    top = jnp.where(at.on(0), top, 0.0)
    total = sum(jnp.exp(x - top) for x in scores)
    return sums, scores, top + jnp.log(jnp.where(at.on(0), total, 1.0))


def _forward_kernel(tile: WindowTile, value, source, target, mixed) -> None:
    at = _Tiled(tile, *value.shape)
    _, scores, level = _window(tile, at, target, source)
    total = 0.0
    for i, score in enumerate(scores):
        total = total + jnp.exp(score - level)[..., None] * at.value(value, i - tile.reach)
    at.store_value(mixed, total)


def _points_kernel(tile: WindowTile, value, source, target, g, to_target, level_of, mean_of) -> None:
    """From each point: the gradient of its target score, the level of its scores and the mean of their gradients."""
    at = _Tiled(tile, *value.shape)
    sums, scores, level = _window(tile, at, target, source)
    own, weights, pulls, mean = at.value(g), [], [], 0.0
    for i, score in enumerate(scores):
        weights.append(jnp.exp(score - level))
        pulls.append((own * at.value(value, i - tile.reach)).sum(axis=-1))
        mean = mean + weights[-1] * pulls[-1]
    total = 0.0
    for x, weight, pull in zip(sums, weights, pulls, strict=True):
        total = total + jnp.where(x >= 0, 1.0, SLOPE) * weight * (pull - mean)
    at.store_score(to_target, total)
    at.store_score(level_of, level)
    at.store_score(mean_of, mean)


def _neighbours_kernel(tile: WindowTile, value, source, target, g, level_of, mean_of, to_value, to_source) -> None:
    """From each neighbour: the gradients of its value and of its source score."""
    at = _Tiled(tile, *value.shape)
    own, score = at.value(value), at.score(source)
    total, moved = 0.0, 0.0
    for o in range(-tile.reach, tile.reach + 1):
        x = score + at.score(target, o)
        weight = jnp.exp(jnp.maximum(x, SLOPE * x) - at.score(level_of, o))
        weight = jnp.where(at.on(o), weight, 0.0)
        arrived = at.value(g, o)
        pull = (own * arrived).sum(axis=-1)
        total = total + weight[..., None] * arrived
        moved = moved + jnp.where(x >= 0, 1.0, SLOPE) * weight * (pull - at.score(mean_of, o))
    at.store_value(to_value, total)
    at.store_score(to_source, moved)


def _call(kernel: Callable, tile: WindowTile, out: list, *inputs: Array) -> Sequence[Array]:
    length, columns, _ = inputs[0].shape
    return pl.pallas_call(
        partial(kernel, tile),
        grid=(pl.cdiv(columns, tile.columns), pl.cdiv(length, tile.energies)),
        in_specs=[pl.no_block_spec] * len(inputs),
        out_specs=[pl.no_block_spec] * len(out),
        out_shape=out,
        compiler_params=plgpu.CompilerParams(num_warps=tile.warps, num_stages=1),
        interpret=tile.interpret,
        name=kernel.__name__.strip("_"),
    )(*inputs)


def _like(*arrays: Array) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def mix(
    tile: WindowTile, value: Float[Array, "L Q c"], source: Float[Array, "L Q"], target: Float[Array, "L Q"]
) -> Array:
    """(L, Q, c): the sum of the window's values, weighted by the softmax of leaky(target_i + source_j)."""
    return _call(_forward_kernel, tile, _like(value), value, source, target)[0]


def _forward(tile: WindowTile, value, source, target):
    return mix(tile, value, source, target), (value, source, target)


def _backward(tile: WindowTile, inputs, g):
    value, source, target = inputs
    level = jax.ShapeDtypeStruct(source.shape, jnp.float32)
    to_target, level, mean = _call(_points_kernel, tile, [*_like(target), level, level], *inputs, g)
    to_value, to_source = _call(_neighbours_kernel, tile, _like(value, source), *inputs, g, level, mean)
    return to_value, to_source, to_target


mix.defvjp(_forward, _backward)


def attend(
    value: Float[Array, "L B d"], source: Float[Array, "L B H"], target: Float[Array, "L B H"], tile: WindowTile
) -> Float[Array, "L B d"]:
    """What each head makes of its channels of the window."""
    length, batch, heads = source.shape
    columns = (length, batch * heads)
    mixed = mix(tile, value.reshape(*columns, -1), source.reshape(columns), target.reshape(columns))
    return mixed.reshape(value.shape)
