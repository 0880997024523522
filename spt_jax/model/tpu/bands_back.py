"""The backward pass of the band block, as one kernel: the forward pass again, then its steps in reverse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from spt_jax.model.tpu.folds import (
    CHUNK,
    ENDS,
    PAIR,
    BandShape,
    Head,
    Products,
    band_features,
    chosen,
    clear_ends,
    in_column,
    in_row,
    point,
    shares,
    sort_out,
)
from spt_jax.model.tpu.tile import LANES, dot, eights, gelu, gelu_and_slope, norm_backward, normalised, over


def backward_kernel(shape: BandShape, x, bands_ref, keep, g, ends, *refs) -> None:
    vectors, products, head, refs = sort_out(refs)
    back, dx, refs = Products(*refs[:4]), refs[4], refs[5:]
    dvectors, dproducts, dhead, (n, rows, y, z) = sort_out(refs)
    k, length, width, dtype = len(bands_ref), shape.length, x.shape[1], shape.dtype
    bands = [bands_ref[j] for j in range(k)]
    zero = jnp.zeros((width, LANES), jnp.float32)

    @pl.when(pl.program_id(0) == 0)
    def _():
        for each in (*dvectors, *dproducts, *dhead):
            each[...] = jnp.zeros(each.shape, jnp.float32)
        clear_ends(y, 1)

    mean = band_features(shape, x, bands, ends, vectors, products, n, rows, y)

    def activate(here, totals):
        return [total + gelu(y[j, here + 1].astype(jnp.float32)) for j, total in enumerate(totals)]

    totals = over(length, activate, [zero] * k, 2)
    head = Head(*(each[...] for each in head))
    share, pull = jax.vjp(lambda *each: shares(*each, dtype), mean, [total / length for total in totals], head)
    kept = keep[...]

    def unfuse(here, carry):
        to_bias, to_share = carry
        to_update = kept * g[here].astype(jnp.float32)
        to_fused = dot(back.out[...], to_update)
        features = []
        for j in range(k):
            feature, slope = gelu_and_slope(y[j, here + 1].astype(jnp.float32))
            features.append(feature)
            y[j, here + 1] = slope.astype(y.dtype)
        fused = sum(share[j : j + 1] * each for j, each in enumerate(features))
        dproducts.out[...] += dot(to_update.astype(dtype), fused, (1, 1))
        z[here + ENDS] = to_fused.astype(z.dtype)
        to_share = [total + eights(to_fused * each).sum(axis=0) for total, each in zip(to_share, features, strict=True)]
        return to_bias + to_update, to_share

    to_bias, to_share = over(length, unfuse, (zero, [zero[:8]] * k), 2)
    dvectors.out_bias[...] += to_bias
    to_mean, to_features, to_head = pull(jnp.concatenate([each.sum(axis=0, keepdims=True) for each in to_share]))
    for total, each in zip(dhead, to_head, strict=True):
        total[...] += each
    to_mean, to_features = to_mean / length, [each / length for each in to_features]

    def inactivate(here, to_bias):
        to_fused = z[here + ENDS].astype(jnp.float32)
        for j in range(k):
            each = (share[j : j + 1] * to_fused + to_features[j]) * y[j, here + 1].astype(jnp.float32)
            y[j, here + 1] = each.astype(y.dtype)
            to_bias = to_bias + each
        return to_bias

    dvectors.bias[...] += over(length, inactivate, zero, 2)

    for start in range(0, width, CHUNK):
        part = pl.ds(start, min(CHUNK, width - start))

        def unfold(i, _, part=part):
            # y has one slab of zeros before its first point.
            moves = [(jnp.minimum(i + period, length + 1), jnp.maximum(i - period, 0)) for _, period in shape.folds]
            sums = chosen(shape, moves, bands, lambda at: [y[j, at, part] for j in range(k)], part.size)
            rows[1, i + 1, part] = sum(y[j, i, part].astype(jnp.float32) for j in range(k)).astype(rows.dtype)
            for side, r in enumerate((0, 2)):
                rows[r, i + 1, part] = sum(sums[j][side] for j in range(k)).astype(rows.dtype)
            return 0

        over(length + 2, unfold, 0, 2)

    def untap(i, _):
        places = [count * i + number for number in range(count)]
        to_rows = [rows[:, at + ENDS - 1].reshape(3 * width, LANES).astype(dtype) for at in places]
        around = [in_row(n, at - 1) for at in places]
        dproducts.taps[...] += dot(jnp.concatenate(to_rows, axis=1), jnp.concatenate(around, axis=1), (1, 1))
        return 0

    # Several points side by side: the sum over them is the product's own.
    count = 2 - length % 2
    over((length + 2) // count, untap, 0, 1)

    def to_norm(here, _):
        z[here + ENDS] = dot(back.taps[...], rows[:, pl.ds(here + ENDS - 1, 3)].reshape(9 * width, LANES)).astype(
            z.dtype
        )
        return 0

    over(length, to_norm, 0, 2)

    def untake(i, _):
        found = []
        for side, number in PAIR:
            place, period, frequency = (ends[side, 2 * i + number, part] for part in range(3))
            taken = [jnp.where(bands[j] == frequency, eights(y[j, place + 1].astype(jnp.float32)), 0) for j in range(k)]
            taken = -sum(taken).reshape(zero.shape)
            at = place + (-1, 1)[side]
            beside = in_column(n, at, period, length - 1)
            moved = dot(back[1 + side][...], taken).reshape(3, *zero.shape)
            found.append((taken.astype(dtype), beside, at, period, moved))
        for side in (0, 1):
            taken, beside = (jnp.concatenate([found[2 * side + m][part] for m in (0, 1)], axis=1) for part in (0, 1))
            dproducts[1 + side][...] += dot(taken, beside, (1, 1))
        for *_, at, period, moved in found:
            for r in range(3):
                slab = point(at + (r - 1) * period, 0, length - 1)
                z[slab] = (z[slab].astype(jnp.float32) + moved[r]).astype(z.dtype)
        return 0

    over(ends.shape[1] // 2, untake, 0, 1)

    def unnorm(here, carry):
        to_scale, to_offset = carry
        unit, factor = normalised(x[here].astype(jnp.float32))
        to_unit = z[here + ENDS].astype(jnp.float32) + to_mean
        to_x = norm_backward(unit, factor, vectors.scale[...], to_unit)
        dx[here] = (g[here].astype(jnp.float32) + to_x).astype(dx.dtype)
        return to_scale + to_unit * unit, to_offset + to_unit

    to_scale, to_offset = over(length, unnorm, (zero, zero))
    dvectors.scale[...] += to_scale
    dvectors.offset[...] += to_offset
