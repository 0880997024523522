"""Folding a sequence at a period, and the 2-D convolution on the folded grid for periods that only the data know.

A kernel tap (r, c) on the grid of period p is a shift of r p + c along the sequence. The taps of one row r are summed
first, without regard to where rows of the grid end: S_r[q] = sum_c W_rc h[q + c] does not depend on p, so one product
serves all periods, and a period only adds up S_r[l + r p]. What the column taps took from beyond the end of a row is
taken back at the few points next to row ends. `spectral.py` is for periods that are known when the program is compiled.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.shapes import Array, Float, Int


def fold(h: Float[Array, "L *rest"], period: int) -> Float[Array, "R p *rest"]:
    """Rows of one period each, the last one padded with zeros: R = ceil(L / p)."""
    rows = math.ceil(len(h) / period)
    padded = jnp.pad(h, ((0, rows * period - len(h)),) + ((0, 0),) * (h.ndim - 1))
    return padded.reshape(rows, period, *h.shape[1:])


def unfold(grid: Float[Array, "R p *rest"], length: int) -> Float[Array, "L *rest"]:
    """The inverse of `fold`: rows end to end, padding cropped."""
    return grid.reshape(-1, *grid.shape[2:])[:length]


def tap_convolutions(
    h: Float[Array, "L B d"], weights: Float[Array, "K K d e"], periods: Int[Array, "B k"], most_rows: int
) -> list[Float[Array, "L B e"]]:
    """unfold(conv2d(fold(h[:, b], p), weights)) for each period p of each spectrum b, zero padded ("same").

    most_rows: of any of these grids. `tests/reference.py` spells it out. Arithmetic: K^2 L d e multiply-adds whatever
    the number of periods, then K additions of a sequence for each.
    """
    sums = _row_sums(h, weights)
    return _take_back([_moved_sum(sums, len(h), period) for period in periods.T], h, weights, periods, most_rows)


def fixed_tap_convolutions(
    h: Float[Array, "L B d"], weights: Float[Array, "K K d e"], periods: tuple[int, ...]
) -> list[Float[Array, "L B e"]]:
    """The same for periods that all spectra share: moves are slices then."""
    sums = _row_sums(h, weights)
    moved = [_moved_sum(sums, len(h), period) for period in periods]
    return _take_back(moved, h, weights, np.array([periods]), -(-len(h) // min(periods)))


def _row_sums(h: Float[Array, "L B d"], weights: Float[Array, "K K d e"]) -> Float[Array, "Q K B e"]:
    """S_r of the points -reach to L - 1 + reach: all taps as one product of matrices."""
    size, _, width, out = weights.shape
    reach = size // 2
    padded = jnp.pad(h, ((2 * reach, 2 * reach), (0, 0), (0, 0)))
    beside = jnp.concatenate([padded[c : c + len(h) + 2 * reach] for c in range(size)], axis=-1)
    matrix = weights.astype(h.dtype).transpose(1, 2, 0, 3).reshape(size * width, size * out)
    sums = (beside.reshape(-1, size * width) @ matrix).reshape(*beside.shape[:2], size, out)
    return sums.swapaxes(1, 2)


def _moved_sum(sums: Float[Array, "Q K B e"], length: int, period: Int[Array, "B"] | int) -> Float[Array, "L B e"]:
    reach = sums.shape[1] // 2
    total = sums[reach : reach + length, reach]
    for r in (*range(-reach, 0), *range(1, reach + 1)):
        move = _slice if isinstance(period, int) else _gather
        total = total + move(sums[:, reach + r], r * period + reach, length)
    return total


def _slice(x: Float[Array, "Q B e"], shift: int, length: int) -> Float[Array, "L B e"]:
    """x[l + shift] of l = 0 to L - 1, zero where there is no such point."""
    start, stop = max(0, -shift), max(min(length, len(x) - shift), max(0, -shift))
    if start >= length or stop == start:
        return jnp.zeros((length, *x.shape[1:]), x.dtype)
    return jnp.pad(x[start + shift : stop + shift], ((start, length - stop), (0, 0), (0, 0)))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _gather(x: Float[Array, "Q B e"], shift: Int[Array, "B"], length: int) -> Float[Array, "L B e"]:
    """The same for a shift of each spectrum. Its backward is the shift back; XLA's own would scatter."""
    return _rows_at(x, np.arange(length)[:, None] + shift)


def _gather_forward(x, shift, length):
    return _gather(x, shift, length), (shift, len(x))


def _gather_backward(length, residuals, cotangent):
    shift, points = residuals
    return _rows_at(cotangent, np.arange(points)[:, None] - shift), None


_gather.defvjp(_gather_forward, _gather_backward)


def _rows_at(x: Float[Array, "L B e"], index: Int[Array, "*N B"]) -> Float[Array, "*N B e"]:
    """x[index[..., b], b], zero where there is no such point."""
    inside = (index >= 0) & (index < len(x))
    # Not take_along_axis: for a batch of one XLA:CPU makes it several times slower.
    return jnp.where(inside[..., None], x[jnp.clip(index, 0, len(x) - 1), jnp.arange(x.shape[1])], 0)


def _take_back(
    found: list[Float[Array, "L B e"]],
    h: Float[Array, "L B d"],
    weights: Float[Array, "K K d e"],
    periods: Int[Array, "#B k"] | np.ndarray,
    most_rows: int,
) -> list[Float[Array, "L B e"]]:
    """What was found for each period, less what column taps took from beyond the ends of rows."""
    (size, _, _, out), (length, batch, _) = weights.shape, h.shape
    reach, k = size // 2, len(found)
    if not reach:
        return found
    period = periods.T[:, None]  # (k, 1, B)
    starts = np.arange(most_rows)[:, None] * period
    places, sources, matrices = [], [], []
    for column in range(reach):
        # The taps beyond the start of a row at this column of it, and those beyond its end at the mirrored one.
        for at, taps in (
            (starts + column, range(-reach, -column)),
            (starts + period - 1 - column, range(column + 1, reach + 1)),
        ):
            at = jnp.broadcast_to(at, (k, most_rows, batch))
            sources.append([at + r * period + c for r in range(-reach, reach + 1) for c in taps])
            matrices.append(weights[:, [reach + c for c in taps]].astype(h.dtype).reshape(-1, out))
            # A place that is none is beyond the sequence, where nothing is written.
            places.append(jnp.where(column < period, at, length))
    # One gather for all of them, so that its gradient is one scatter.
    rows = iter(_rows_at(h, jnp.stack([source for each in sources for source in each])))
    taken = []
    for each, matrix in zip(sources, matrices, strict=True):
        beyond = jnp.concatenate([next(rows) for _ in each], axis=-1).reshape(-1, len(matrix))
        taken.append((beyond @ matrix).reshape(k, most_rows, batch, out))
    places, taken, here = jnp.concatenate(places, axis=1), jnp.concatenate(taken, axis=1), jnp.arange(batch)
    return [y.at[place, here].add(-each, mode="drop") for y, place, each in zip(found, places, taken, strict=True)]
