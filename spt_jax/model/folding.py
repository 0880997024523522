"""Folding a sequence at a period, and the 2-D convolution on the folded grid for periods that only the data know.

A kernel tap (r, c) on the grid of period p is a shift of r p + c along the sequence. The product of h
with each tap's weights does not depend on p: it is computed once and shared by all periods,
which then only shift and add. `spectral.py` is for periods that are known when the program is compiled.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.shapes import Array, Bool, Float, Int


def fold(h: Float[Array, "L *rest"], period: int) -> Float[Array, "R p *rest"]:
    """Rows of one period each, the last one padded with zeros: R = ceil(L / p)."""
    rows = math.ceil(len(h) / period)
    padded = jnp.pad(h, ((0, rows * period - len(h)),) + ((0, 0),) * (h.ndim - 1))
    return padded.reshape(rows, period, *h.shape[1:])


def unfold(grid: Float[Array, "R p *rest"], length: int) -> Float[Array, "L *rest"]:
    """The inverse of `fold`: rows end to end, padding cropped."""
    return grid.reshape(-1, *grid.shape[2:])[:length]


def tap_convolutions(
    h: Float[Array, "L B d"], weights: Float[Array, "K K d e"], periods: Int[Array, "B k"]
) -> list[Float[Array, "L B e"]]:
    """unfold(conv2d(fold(h[:, b], p), weights)) for each period p of each spectrum b, zero padded ("same").

    `tests/reference.py` spells it out. Arithmetic: K^2 L d e multiply-adds whatever the number of periods, then
    K^2 L e additions for each.
    """
    return shift_and_add(_products(h, weights), periods)


def fixed_tap_convolutions(
    h: Float[Array, "L B d"], weights: Float[Array, "K K d e"], periods: tuple[int, ...]
) -> list[Float[Array, "L B e"]]:
    """The same for periods that all spectra share: moves are slices then, which one pass over memory adds up."""
    taps = _products(h, weights)
    return [_shifted_sum(taps, period) for period in periods]


def _products(h: Float[Array, "L B d"], weights: Float[Array, "K K d e"]) -> tuple[Float[Array, "L B e"], ...]:
    """The sequence under each kernel tap."""
    width, out = weights.shape[2:]
    rows = h.reshape(-1, width)
    return tuple((rows @ w).reshape(*h.shape[:2], out) for w in weights.astype(h.dtype).reshape(-1, width, out))


def _shifted_sum(taps: tuple[Float[Array, "L B e"], ...], period: int) -> Float[Array, "L B e"]:
    length, total = len(taps[0]), jnp.zeros_like(taps[0])
    for tap, (_, shift, inside) in zip(taps, _moves(np.array([period]), len(taps), length), strict=True):
        step, kept = int(shift[0]), inside[:, 0]
        if not kept.any():
            continue
        start, stop = max(0, -step), min(length, length - step)
        moved, kept = tap[start + step : stop + step], kept[start:stop]
        moved = moved if kept.all() else jnp.where(kept[:, None, None], moved, 0)
        total = total + jnp.pad(moved, ((start, length - stop), (0, 0), (0, 0)))
    return total


@jax.custom_vjp
def shift_and_add(taps: tuple[Float[Array, "L B e"], ...], periods: Int[Array, "B k"]) -> list[Float[Array, "L B e"]]:
    """For each period, the sum of the K^2 taps, each moved to its place on the folded grid.

    Linear, so its backward is the same sum with the moves reversed; XLA's own backward would scatter.
    """
    length = len(taps[0])
    sums = []
    for period in periods.T:
        moved = (
            _take(tap, place + shift, inside)
            for tap, (place, shift, inside) in zip(taps, _moves(period, len(taps), length), strict=True)
        )
        sums.append(sum(moved))
    return sums


def _forward(taps, periods):
    return shift_and_add(taps, periods), (periods, len(taps))


def _backward(residuals, cotangents):
    periods, count = residuals
    length = len(cotangents[0])
    gradients = [0] * count
    for period, cotangent in zip(periods.T, cotangents, strict=True):
        for tap, (place, shift, inside) in enumerate(_moves(period, count, length, reverse=True)):
            gradients[tap] = gradients[tap] + _take(cotangent, place - shift, inside)
    return tuple(gradients), None


shift_and_add.defvjp(_forward, _backward)


def _moves(period: Int[Array | np.ndarray, "B"], count: int, length: int, reverse: bool = False):
    """For each kernel tap: (L, 1) places, (B,) shift along the sequence, and (L, B) whether the move stays on the grid.

    A move must not leave the sequence, nor step over the end of a row into the next.
    """
    reach = math.isqrt(count) // 2
    place = np.arange(length)[:, None]
    column, direction = place % period, -1 if reverse else 1
    for r in range(-reach, reach + 1):
        for c in range(-reach, reach + 1):
            shift = r * period + c
            other, moved = place + direction * shift, column + direction * c
            yield place, shift, (other >= 0) & (other < length) & (moved >= 0) & (moved < period)


def _take(x: Float[Array, "L B e"], index: Int[Array, "L B"], inside: Bool[Array, "L B"]) -> Float[Array, "L B e"]:
    """x[index[l, b], b] where inside, else zero."""
    safe = jnp.clip(index, 0, len(x) - 1)
    # Not take_along_axis: for a batch of one XLA:CPU makes it several times slower.
    return jnp.where(inside[..., None], x[safe, jnp.arange(x.shape[1])], 0)
