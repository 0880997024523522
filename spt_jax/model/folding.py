"""Folding a sequence at a period, and the 2-D convolution on the folded grid.

A kernel tap (r, c) on the grid of period p is a shift of r p + c along the sequence. The product of h
with each tap's weights does not depend on p: it is computed once and shared by all periods,
which then only shift and add. So many candidate periods cost little more than one.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from spt_jax.shapes import Array, Bool, Float, Int


def fold(h: Float[Array, "B L d"], period: int) -> Float[Array, "B R p d"]:
    """Rows of one period each, the last one padded with zeros: R = ceil(L / p)."""
    batch, length, width = h.shape
    rows = math.ceil(length / period)
    padded = jnp.pad(h, ((0, 0), (0, rows * period - length), (0, 0)))
    return padded.reshape(batch, rows, period, width)


def unfold(grid: Float[Array, "B R p d"], length: int) -> Float[Array, "B L d"]:
    """The inverse of `fold`: rows end to end, padding cropped."""
    batch, rows, period, width = grid.shape
    return grid.reshape(batch, rows * period, width)[:, :length]


def folded_convolutions(
    h: Float[Array, "B L d"], weights: Float[Array, "K K d e"], periods: Int[Array, "B k"]
) -> Float[Array, "k B L e"]:
    """unfold(conv2d(fold(h[b], p), weights)) for each period p of each spectrum b, zero padded ("same").

    `tests/reference.py` spells it out. Arithmetic: K^2 L d e multiply-adds whatever the number of periods, then
    K^2 L e additions for each.
    """
    width, out = weights.shape[2:]
    rows = h.reshape(-1, width)
    taps = tuple((rows @ w).reshape(*h.shape[:2], out) for w in weights.astype(h.dtype).reshape(-1, width, out))
    return shift_and_add(taps, periods)


@jax.custom_vjp
def shift_and_add(taps: tuple[Float[Array, "B L e"], ...], periods: Int[Array, "B k"]) -> Float[Array, "k B L e"]:
    """For each period, the sum of the K^2 taps, each moved to its place on the folded grid.

    Linear, so its backward is the same sum with the moves reversed; XLA's own backward would scatter.
    """
    length = taps[0].shape[1]
    sums = []
    for period in periods.T:
        moved = (
            _take(tap, place + shift, inside)
            for tap, (place, shift, inside) in zip(taps, _moves(period, len(taps), length), strict=True)
        )
        sums.append(sum(moved))
    return jnp.stack(sums)


def _forward(taps, periods):
    return shift_and_add(taps, periods), (periods, len(taps))


def _backward(residuals, cotangents):
    periods, count = residuals
    length = cotangents.shape[2]
    gradients = [0] * count
    for period, cotangent in zip(periods.T, cotangents, strict=True):
        for tap, (place, shift, inside) in enumerate(_moves(period, count, length, reverse=True)):
            gradients[tap] = gradients[tap] + _take(cotangent, place - shift, inside)
    return tuple(gradients), None


shift_and_add.defvjp(_forward, _backward)


def _moves(period: Int[Array, "B"], count: int, length: int, reverse: bool = False):
    """For each kernel tap: (L,) places, (B, 1) shift along the sequence, and (B, L) whether the move stays on the grid.

    A move must not leave the sequence, nor step over the end of a row into the next.
    """
    size = math.isqrt(count)
    reach = size // 2
    place, p = jnp.arange(length), period[:, None]
    for r in range(-reach, reach + 1):
        for c in range(-reach, reach + 1):
            shift = r * p + c
            other = place - shift if reverse else place + shift
            column = (other if reverse else place) % p + c
            yield place, shift, (other >= 0) & (other < length) & (column >= 0) & (column < p)


def _take(x: Float[Array, "B L e"], index: Int[Array, "B L"], inside: Bool[Array, "B L"]) -> Float[Array, "B L e"]:
    """x[b, index[b, l]] where inside, else zero."""
    safe = jnp.clip(index, 0, x.shape[1] - 1)
    return jnp.where(inside[..., None], jnp.take_along_axis(x, safe[..., None], axis=1), 0)
