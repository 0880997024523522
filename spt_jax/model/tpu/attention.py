"""Banded graph attention (gatv1) as one TPU kernel: norm, scores, softmax, sum, project and add, for a tile of spectra.

The batch lies in the lanes as in `bands.py`. A head's score is computed in eight equal rows, so that it meets the
channels of its head register by register; on the way back the eight rows hold eight parts of one gradient, which the
product with the score's weights adds up. `BandedAttention` is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from spt_jax.config import SLOPE
from spt_jax.model.attention import FARTHEST
from spt_jax.model.tpu.tile import LANES, dot, norm_backward, normalised, over, run_tiles
from spt_jax.shapes import Array, Float

ROWS = 8  # of a register


class AttentionWeights(NamedTuple):
    """Width d, H heads. Matrices act from the left, vectors are columns."""

    scale: Array  # (d, 1), of the norm
    offset: Array
    value: Array  # (d, d)
    value_bias: Array
    source: Array  # (H, d)
    source_bias: Array  # (H, 1)
    target: Array  # (H, d)
    out: Array  # (d, d)
    out_bias: Array


class Factors(NamedTuple):
    """As the kernel multiplies: value, source and target in one product, each score in eight equal rows.

    What it adds or scales by are columns, one for each lane.
    """

    scale: Array  # (d, 128)
    offset: Array
    all: Array  # (d + 16 H, d)
    all_bias: Array
    out: Array
    out_bias: Array

    @classmethod
    def of(cls, w: AttentionWeights, dtype: str) -> Factors:
        scores = [jnp.repeat(each, ROWS, axis=0) for each in (w.source, w.target)]
        bias = [w.value_bias, jnp.repeat(w.source_bias, ROWS, axis=0), jnp.zeros((len(scores[1]), 1))]
        every = jnp.concatenate([w.value, *scores]).astype(dtype)
        columns = (w.scale, w.offset, jnp.concatenate(bias), w.out_bias)
        scale, offset, bias, out_bias = (jnp.broadcast_to(each, (len(each), LANES)) for each in columns)
        return cls(scale, offset, every, bias, w.out.astype(dtype), out_bias)

    def collect(self, heads: int) -> AttentionWeights:
        """Gradients of the factors -> of the weights."""
        d = len(self.scale)
        columns = (self.scale, self.offset, self.all_bias, self.out_bias)
        scale, offset, all_bias, out_bias = (each.sum(axis=1, keepdims=True) for each in columns)
        value, source, target = jnp.split(self.all, [d, d + ROWS * heads])
        source, target = (each.reshape(heads, ROWS, d).sum(axis=1) for each in (source, target))
        bias = all_bias[d : d + ROWS * heads].reshape(heads, ROWS, 1).sum(axis=1)
        return AttentionWeights(scale, offset, value, all_bias[:d], source, bias, target, self.out, out_bias)


@dataclass(frozen=True)
class AttentionShape:
    """length: energies L. reach: w. dtype: of the factors of products."""

    length: int
    heads: int
    reach: int
    dtype: str


def _scores(shape: AttentionShape, x, f: Factors, value, steep, flat, ratio, unit_of) -> None:
    """Fill value (with zeros around) and the exponentials; `unit_of` with the normed sequence where it is asked for."""
    length, reach, width, rows = shape.length, shape.reach, x.shape[1], ROWS * shape.heads
    for ref, size in ((value, width), (steep, rows), (flat, rows)):
        for slab in (*range(reach), *range(length + reach, length + 2 * reach)):
            ref[slab] = jnp.zeros((size, LANES), ref.dtype)

    def project(here, carry):
        most, least = carry
        unit, _ = normalised(x[here].astype(jnp.float32))
        unit = unit * f.scale[...] + f.offset[...]
        if unit_of is not None:
            unit_of[here] = unit.astype(unit_of.dtype)
        every = dot(f.all[...], unit) + f.all_bias[...]
        value[here + reach] = every[:width].astype(value.dtype)
        source = every[width : width + rows]
        steep[here + reach] = source
        ratio[here] = every[width + rows :]
        return jnp.maximum(most, source), jnp.minimum(least, source)

    start = jnp.full((rows, LANES), -jnp.inf, jnp.float32)
    most, least = over(length, project, (start, -start))
    middle = (most + least) / 2

    def exponentials(here, _):
        relative = jnp.clip(steep[here + reach] - middle, -FARTHEST, FARTHEST)
        steep[here + reach] = jnp.exp(relative)
        flat[here + reach] = jnp.exp(SLOPE * relative)
        ratio[here] = jnp.exp((SLOPE - 1) * jnp.clip(ratio[here] + middle, -FARTHEST, FARTHEST))
        return 0

    over(length, exponentials, 0)


def _weights(shape: AttentionShape, here, head: int, steep, flat, ratio) -> tuple[list[Array], list[Array], Array]:
    """(8, B) weights of the window around here before they are normed, which of them are steep, 1 / sum."""
    rows = pl.ds(ROWS * head, ROWS)
    weights, slopes, own = [], [], ratio[here, rows]
    for o in range(2 * shape.reach + 1):
        rising, falling = steep[here + o, rows], own * flat[here + o, rows]
        weights.append(jnp.maximum(rising, falling))
        slopes.append(rising >= falling)
    return weights, slopes, 1 / sum(weights)


def _values(shape: AttentionShape, here, head: int, value) -> list[Array]:
    """(d / 8 H, 8, B) of each point of the window."""
    width = value.shape[1] // shape.heads
    part = pl.ds(head * width, width)
    return [value[here + o, part].astype(jnp.float32).reshape(-1, ROWS, LANES) for o in range(2 * shape.reach + 1)]


def _mixed(weights: list[Array], inverse: Array, values: list[Array]) -> Array:
    """(d / 8 H, 8, B): the values of the window, weighted."""
    return sum(weight * each for weight, each in zip(weights, values, strict=True)) * inverse


def _forward_kernel(shape: AttentionShape, x, keep, *refs) -> None:
    f, (out, value, steep, flat, ratio) = Factors(*refs[:6]), refs[6:]
    _scores(shape, x, f, value, steep, flat, ratio, None)
    kept = keep[...]

    def mix(here, _):
        mixed = []
        for head in range(shape.heads):
            weights, _, inverse = _weights(shape, here, head, steep, flat, ratio)
            mixed.append(_mixed(weights, inverse, _values(shape, here, head, value)))
        mixed = jnp.concatenate(mixed).reshape(kept.shape)
        update = dot(f.out[...], mixed) + f.out_bias[...]
        out[here] = (x[here].astype(jnp.float32) + kept * update).astype(out.dtype)
        return 0

    over(shape.length, mix, 0, 2)


def _backward_kernel(shape: AttentionShape, x, keep, g, *refs) -> None:
    f, (all_back, out_back, dx), refs = Factors(*refs[:6]), refs[6:9], refs[9:]
    d, (unit_of, value, steep, flat, ratio, to_value, to_source, to_target) = Factors(*refs[:6]), refs[6:]
    length, reach, heads, dtype, width = shape.length, shape.reach, shape.heads, shape.dtype, x.shape[1]
    zero = jnp.zeros(keep.shape, jnp.float32)

    @pl.when(pl.program_id(0) == 0)
    def _():
        for each in d:
            each[...] = jnp.zeros(each.shape, jnp.float32)

    _scores(shape, x, f, value, steep, flat, ratio, unit_of)
    kept = keep[...]

    def clear(here, _):
        to_value[here], to_source[here] = zero, jnp.zeros((ROWS * heads, LANES), jnp.float32)
        return 0

    over(length + 2 * reach, clear, 0)

    def unmix(here, to_bias):
        to_update = kept * g[here].astype(jnp.float32)
        to_mixed = dot(out_back[...], to_update).reshape(heads, -1, ROWS, LANES)
        mixed = []
        for head in range(heads):
            weights, slopes, inverse = _weights(shape, here, head, steep, flat, ratio)
            values = _values(shape, here, head, value)
            mixed.append(_mixed(weights, inverse, values))
            rows, part = pl.ds(ROWS * head, ROWS), pl.ds(head * (width // heads), width // heads)
            # Of eight rows each holds a part of the sum over a head's channels.
            to_head = to_mixed[head] * inverse
            constant = (to_head * mixed[head]).sum(axis=0)
            to_exponent, to_slope = 0.0, 0.0
            for o, (weight, steeper, each) in enumerate(zip(weights, slopes, values, strict=True)):
                change = weight * ((to_head * each).sum(axis=0) - constant)
                sloped = jnp.where(steeper, change, SLOPE * change)
                to_source[here + o, rows] += sloped
                to_exponent, to_slope = to_exponent + change, to_slope + sloped
                to_value[here + o, part] += (weight * to_head).reshape(-1, LANES)
            to_target[here, rows] = to_slope - to_exponent
        mixed = jnp.concatenate(mixed).reshape(zero.shape)
        d.out[...] += dot(to_update.astype(dtype), mixed, (1, 1))
        return to_bias + to_update

    d.out_bias[...] += over(length, unmix, zero, 1)

    def unproject(here, carry):
        to_bias, to_scale, to_offset = carry
        near = jnp.abs(jnp.log(steep[here + reach])) < FARTHEST
        to_every = jnp.concatenate(
            [to_value[here + reach], jnp.where(near, to_source[here + reach], 0), to_target[here]]
        )
        d.all[...] += dot(to_every.astype(dtype), unit_of[here], (1, 1))
        to_unit = dot(all_back[...], to_every)
        unit, factor = normalised(x[here].astype(jnp.float32))
        to_x = norm_backward(unit, factor, f.scale[...], to_unit)
        dx[here] = (g[here].astype(jnp.float32) + to_x).astype(dx.dtype)
        return to_bias + to_every, to_scale + to_unit * unit, to_offset + to_unit

    start = (jnp.zeros((d.all.shape[0], LANES), jnp.float32), zero, zero)
    totals = over(length, unproject, start, 2)
    for ref, total in zip((d.all_bias, d.scale, d.offset), totals, strict=True):
        ref[...] += total


def _scratch(shape: AttentionShape, width: int) -> list[Any]:
    """Values, steep and flat exponentials with the window's reach around them, and the ratio of target scores."""
    slabs, rows = shape.length + 2 * shape.reach, ROWS * shape.heads
    sizes = ((slabs, width), (slabs, rows), (slabs, rows), (shape.length, rows))
    return [pltpu.VMEM((*size, LANES), jnp.float32) for size in sizes]


def _forward(shape: AttentionShape, x, keep, w):
    out = (jax.ShapeDtypeStruct(x.shape, x.dtype),)
    whole, scratch = tuple(Factors.of(w, shape.dtype)), _scratch(shape, x.shape[1])
    (found,) = run_tiles(partial(_forward_kernel, shape), (x, keep), whole, out, (), scratch)
    return found, (x, keep, w)


def _backward(shape: AttentionShape, saved, g):
    x, keep, w = saved
    factors, width = Factors.of(w, shape.dtype), x.shape[1]
    totals = tuple(jax.ShapeDtypeStruct(each.shape, jnp.float32) for each in factors)
    slabs, rows = shape.length + 2 * shape.reach, ROWS * shape.heads
    more = [pltpu.VMEM((*size, LANES), jnp.float32) for size in ((slabs, width), (slabs, rows), (shape.length, rows))]
    dx, *found = run_tiles(
        partial(_backward_kernel, shape),
        (x, keep, g),
        (*factors, factors.all.T, factors.out.T),
        (jax.ShapeDtypeStruct(x.shape, x.dtype),),
        totals,
        [pltpu.VMEM((shape.length, width, LANES), jnp.dtype(shape.dtype)), *_scratch(shape, width), *more],
    )
    return dx, jnp.zeros_like(keep), Factors(*found).collect(shape.heads)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attention_update(
    shape: AttentionShape, x: Float[Array, "L d B"], keep: Float[Array, "d B"], w: AttentionWeights
) -> Float[Array, "L d B"]:
    """x plus `keep` times what attention makes of it. B: a multiple of 128. keep has no gradient: it is dropout."""
    return _forward(shape, x, keep, w)[0]


attention_update.defvjp(_forward, _backward)
