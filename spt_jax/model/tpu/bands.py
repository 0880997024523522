"""The band block as one TPU kernel: norm, fold, convolve, fuse, project and add, for a tile of spectra on the chip.

The batch lies in the lanes: a tile is (L, d, 128). A move along the sequence is then an address, no width that is a
multiple of 16 needs padding, and what one spectrum chooses is a mask over lanes. `BandBlock` is the reference.

Of the 3 by 3 taps of a grid of period p, those of one row r are added first, without regard to where rows end:
S_r[q] = sum_c W_rc n[q + c] does not depend on p. The convolution is sum_r S_r[l + r p], less what the column taps took
from beyond the end of a row; `ends_of` lists the few points where they did. So only the sum over candidate periods
depends on the spectrum, and each candidate is added under the mask of the lanes that chose it.

The backward pass computes this again from the block's input, and adds up the gradients of the weights over tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from spt_jax.model.tpu.tile import LANES, Ref, dot, eights, gelu, gelu_and_slope, norm_backward, normalised, numbers, over, run_tiles, words
from spt_jax.shapes import Array, Float, Int

CHUNK = 64  # channels that are moved at a time: their sums stay in registers
_PAIR = ((0, 0), (0, 1), (1, 0), (1, 1))  # side and number of row ends that are seen to at a time
ENDS = 2  # slabs of zeros on either side of a sequence: S_r is asked for at the points -1 and L


class Head(NamedTuple):
    """What weighs the bands. Matrices act from the left, vectors are columns."""

    query: Array  # (d, 1)
    context: Array  # (d, d)
    context_bias: Array  # (d, 1)
    project: Array
    project_bias: Array
    key: Array
    key_bias: Array


class BandWeights(NamedTuple):
    """What a band block learns, width d in and out. Matrices act from the left, vectors are columns (d, 1)."""

    scale: Array
    offset: Array
    taps: Array  # (3, 3, d, d): row, column, in, out
    bias: Array
    out: Array  # (d, d)
    out_bias: Array
    head: Head


class Products(NamedTuple):
    """The factors of the large products, laid out so that one product serves many taps."""

    taps: Array  # (3 d, 3 d): rows (r, out), columns (c, in)
    left: Array  # (d, 3 d): columns (r, in), the taps c = -1
    right: Array  # (d, 3 d): the taps c = +1
    out: Array  # (d, d)

    @classmethod
    def of(cls, w: BandWeights, dtype: str) -> Products:
        d = len(w.bias)
        taps, sides = w.taps.transpose(0, 3, 1, 2).reshape(3 * d, 3 * d), w.taps.transpose(1, 3, 0, 2)
        left, right = sides[0].reshape(d, 3 * d), sides[2].reshape(d, 3 * d)
        return cls(*(each.astype(dtype) for each in (taps, left, right, w.out)))

    def transposed(self, w: BandWeights) -> Products:
        """For the way back, where `taps` is (d, 9 d): columns (r, c from +1 to -1, out)."""
        back = w.taps[:, ::-1].transpose(2, 0, 1, 3).reshape(len(w.bias), -1)
        return Products(back.astype(self.taps.dtype), self.left.T, self.right.T, self.out.T)


@dataclass(frozen=True)
class Shape:
    """length: energies L. highest: candidates 1..highest compete. dtype: of the factors of products."""

    length: int
    highest: int
    dtype: str

    @property
    def folds(self) -> tuple[tuple[int, int], ...]:
        """(frequency, period) of the candidates with more than one row."""
        found = ((f, -(-self.length // f)) for f in range(1, self.highest + 1))
        return tuple((f, p) for f, p in found if p < self.length)


def ends_of(shape: Shape) -> np.ndarray:
    """(2, N, 3) int32: point, period and frequency of every first and of every last column. N is even.

    What fills up has the frequency 0, which no spectrum chooses.
    """
    starts = [(l, p, f) for f, p in shape.folds for l in range(0, shape.length, p)]
    stops = [(l, p, f) for f, p in shape.folds for l in range(p - 1, shape.length, p)]
    found = np.zeros((2, len(starts) + len(starts) % 2, 3), np.int32)
    found[0, : len(starts)], found[1, : len(stops)] = starts, stops
    return found


def _point(place: Array, least: int, most: int) -> Array:
    """The slab of a point; a slab of zeros where it is not within least..most."""
    return jnp.where((place >= least) & (place <= most), place + ENDS, 0)


def _around(n: Ref, place: Array) -> Array:
    """(3 d, B): a point and its neighbours."""
    three = n[pl.ds(place + ENDS - 1, 3)]
    return three.reshape(-1, three.shape[-1])


def _beside(n: Ref, place: Array, period: Array, last: int) -> Array:
    """(3 d, B): a point, and those one row above and below."""
    return jnp.concatenate([n[_point(place + r * period, 0, last)] for r in (-1, 0, 1)], axis=0)


def shares(mean: Array, features: list[Array], head: Head, dtype: str) -> Array:
    """(k, B) weights of the bands, from the means over energy of the sequence and of each band's features, (d, B)."""

    def apply(matrix: Array, x: Array) -> Array:
        return dot(matrix.astype(dtype), x)

    hidden = gelu(apply(head.context, mean) + head.context_bias)
    query = apply(head.project, hidden) + head.project_bias + head.query
    keys = [apply(head.key, each) + head.key_bias for each in features]
    score = jnp.concatenate([(query * key).sum(axis=0, keepdims=True) for key in keys]) / math.sqrt(len(query))
    weight = jnp.exp(score - score.max(axis=0, keepdims=True))
    return weight / weight.sum(axis=0, keepdims=True)


def _chosen(shape: Shape, moves: list, bands: list[Array], read: Callable, width: int) -> list[list[Array]]:
    """For each band and each of two places, what `read` finds there for the candidate that the band is, in float32.

    moves: two places for each candidate. read: place -> (width, B) for each band.
    """
    dtype = jnp.dtype(shape.dtype)
    nothing = eights(words(jnp.zeros((width, LANES), dtype)))
    found = [[nothing, nothing] for _ in bands]
    for (frequency, _), places in zip(shape.folds, moves, strict=True):
        for side, place in enumerate(places):
            for j, each in enumerate(read(place)):
                # Sorted, the lowest of k is none of the k - 1 highest candidates, and so on.
                if not j < frequency <= shape.highest - (len(bands) - 1 - j):
                    continue
                found[j][side] = jnp.where(bands[j] == frequency, eights(words(each)), found[j][side])
    return [[numbers(each.reshape(-1, LANES), dtype) for each in pair] for pair in found]


def _clear_ends(ref: Ref, width: int) -> None:
    """Zeros in the first and last `width` slabs, which what is read from beyond the ends of a sequence finds."""
    slabs = ref.shape[-3]
    for slab in (*range(width), *range(slabs - width, slabs)):
        ref[..., slab, :, :] = jnp.zeros((*ref.shape[:-3], *ref.shape[-2:]), ref.dtype)


def _features(shape: Shape, x, bands, ends, vectors: Vectors, products: Products, n, rows, y) -> Array:
    """Fill n with the normed sequence, `rows` with S_r and y with what each band convolves to; returns the mean of n."""
    length, k, width = shape.length, len(bands), x.shape[1]
    zero = jnp.zeros((width, LANES), jnp.float32)

    @pl.when(pl.program_id(0) == 0)
    def _():
        _clear_ends(n, ENDS)
        _clear_ends(rows, 1)


    def norm(l, total):
        unit, _ = normalised(x[l].astype(jnp.float32))
        unit = unit * vectors.scale[...] + vectors.offset[...]
        n[l + ENDS] = unit.astype(n.dtype)
        return total + unit

    mean = over(length, norm, zero) / length

    def tap(i, _):
        found = dot(products.taps[...], _around(n, i - 1)).reshape(3, *zero.shape)
        rows[:, i + ENDS - 1] = found.astype(rows.dtype)
        return 0

    over(length + 2, tap, 0, 2)

    for start in range(0, width, CHUNK):
        part = pl.ds(start, min(CHUNK, width - start))

        def fold(l, _, part=part):
            moves = [
                ((2, jnp.minimum(l + period, length + 1) + ENDS), (0, jnp.maximum(l - period, -2) + ENDS))
                for _, period in shape.folds
            ]
            sums = _chosen(shape, moves, bands, lambda place: [rows[*place, part]] * k, part.size)
            shared = rows[1, l + ENDS, part].astype(jnp.float32) + vectors.bias[part]
            for j in range(k):
                y[j, l + 1, part] = (shared + sums[j][0] + sums[j][1]).astype(y.dtype)
            return 0

        over(length, fold, 0, 2)

    def take(i, _):
        taken = []
        for side, number in _PAIR:
            place, period, frequency = (ends[side, 2 * i + number, part] for part in range(3))
            beside = _beside(n, place + (-1, 1)[side], period, length - 1)
            taken.append((place, frequency, eights(dot((products.left, products.right)[side][...], beside))))
        for place, frequency, each in taken:
            for j in range(k):
                less = eights(y[j, place + 1].astype(jnp.float32)) - jnp.where(bands[j] == frequency, each, 0)
                y[j, place + 1] = less.reshape(zero.shape).astype(y.dtype)
        return 0

    over(ends.shape[1] // 2, take, 0, 1)
    return mean


def _forward_kernel(shape: Shape, x, bands_ref, keep, ends, *refs) -> None:
    vectors, products, head, (out, n, rows, y) = _weights(refs)
    k, length = len(bands_ref), shape.length
    bands = [bands_ref[j] for j in range(k)]
    mean = _features(shape, x, bands, ends, vectors, products, n, rows, y)

    def activate(l, totals):
        features = [gelu(y[j, l + 1].astype(jnp.float32)) for j in range(k)]
        for j, each in enumerate(features):
            y[j, l + 1] = each.astype(y.dtype)
        return [total + each for total, each in zip(totals, features, strict=True)]

    totals = over(length, activate, [jnp.zeros(keep.shape, jnp.float32)] * k, 2)
    head = Head(*(each[...] for each in head))
    share = shares(mean, [total / length for total in totals], head, shape.dtype)
    kept = keep[...]

    def fuse(l, _):
        fused = sum(share[j : j + 1] * y[j, l + 1].astype(jnp.float32) for j in range(k))
        update = dot(products.out[...], fused) + vectors.out_bias[...]
        out[l] = (x[l].astype(jnp.float32) + kept * update).astype(out.dtype)
        return 0

    over(length, fuse, 0)


def _backward_kernel(shape: Shape, x, bands_ref, keep, g, ends, *refs) -> None:
    vectors, products, head, refs = _weights(refs)
    back, dx, refs = Products(*refs[:4]), refs[4], refs[5:]
    dvectors, dproducts, dhead, (n, rows, y, z) = _weights(refs)
    k, length, width, dtype = len(bands_ref), shape.length, x.shape[1], shape.dtype
    bands = [bands_ref[j] for j in range(k)]
    zero = jnp.zeros((width, LANES), jnp.float32)

    @pl.when(pl.program_id(0) == 0)
    def _():
        for each in (*dvectors, *dproducts, *dhead):
            each[...] = jnp.zeros(each.shape, jnp.float32)
        _clear_ends(y, 1)

    mean = _features(shape, x, bands, ends, vectors, products, n, rows, y)

    def activate(l, totals):
        return [total + gelu(y[j, l + 1].astype(jnp.float32)) for j, total in enumerate(totals)]

    totals = over(length, activate, [zero] * k, 2)
    head = Head(*(each[...] for each in head))
    share, pull = jax.vjp(lambda *each: shares(*each, dtype), mean, [total / length for total in totals], head)
    kept = keep[...]

    def unfuse(l, carry):
        to_bias, to_share = carry
        to_update = kept * g[l].astype(jnp.float32)
        to_fused = dot(back.out[...], to_update)
        features = []
        for j in range(k):
            feature, slope = gelu_and_slope(y[j, l + 1].astype(jnp.float32))
            features.append(feature)
            y[j, l + 1] = slope.astype(y.dtype)
        fused = sum(share[j : j + 1] * each for j, each in enumerate(features))
        dproducts.out[...] += dot(to_update.astype(dtype), fused, (1, 1))
        z[l + ENDS] = to_fused.astype(z.dtype)
        to_share = [total + eights(to_fused * each).sum(axis=0) for total, each in zip(to_share, features, strict=True)]
        return to_bias + to_update, to_share

    to_bias, to_share = over(length, unfuse, (zero, [zero[:8]] * k), 2)
    dvectors.out_bias[...] += to_bias
    to_mean, to_features, to_head = pull(jnp.concatenate([each.sum(axis=0, keepdims=True) for each in to_share]))
    for total, each in zip(dhead, to_head, strict=True):
        total[...] += each
    to_mean, to_features = to_mean / length, [each / length for each in to_features]

    def inactivate(l, to_bias):
        to_fused = z[l + ENDS].astype(jnp.float32)
        for j in range(k):
            each = (share[j : j + 1] * to_fused + to_features[j]) * y[j, l + 1].astype(jnp.float32)
            y[j, l + 1] = each.astype(y.dtype)
            to_bias = to_bias + each
        return to_bias

    dvectors.bias[...] += over(length, inactivate, zero, 2)

    for start in range(0, width, CHUNK):
        part = pl.ds(start, min(CHUNK, width - start))

        def unfold(i, _, part=part):
            # y has one slab of zeros before its first point.
            moves = [(jnp.minimum(i + period, length + 1), jnp.maximum(i - period, 0)) for _, period in shape.folds]
            sums = _chosen(shape, moves, bands, lambda at: [y[j, at, part] for j in range(k)], part.size)
            rows[1, i + 1, part] = sum(y[j, i, part].astype(jnp.float32) for j in range(k)).astype(rows.dtype)
            for side, r in enumerate((0, 2)):
                rows[r, i + 1, part] = sum(sums[j][side] for j in range(k)).astype(rows.dtype)
            return 0

        over(length + 2, unfold, 0, 2)

    def untap(i, _):
        places = [count * i + number for number in range(count)]
        to_rows = [rows[:, at + ENDS - 1].reshape(3 * width, LANES).astype(dtype) for at in places]
        around = [_around(n, at - 1) for at in places]
        dproducts.taps[...] += dot(jnp.concatenate(to_rows, axis=1), jnp.concatenate(around, axis=1), (1, 1))
        return 0

    # Several points side by side: the sum over them is the product's own.
    count = 2 - length % 2
    over((length + 2) // count, untap, 0, 1)

    def to_norm(l, _):
        z[l + ENDS] = dot(back.taps[...], rows[:, pl.ds(l + ENDS - 1, 3)].reshape(9 * width, LANES)).astype(z.dtype)
        return 0

    over(length, to_norm, 0, 2)

    def untake(i, _):
        found = []
        for side, number in _PAIR:
            place, period, frequency = (ends[side, 2 * i + number, part] for part in range(3))
            taken = [jnp.where(bands[j] == frequency, eights(y[j, place + 1].astype(jnp.float32)), 0) for j in range(k)]
            taken = -sum(taken).reshape(zero.shape)
            at = place + (-1, 1)[side]
            beside = _beside(n, at, period, length - 1)
            moved = dot(back[1 + side][...], taken).reshape(3, *zero.shape)
            found.append((taken.astype(dtype), beside, at, period, moved))
        for side in (0, 1):
            taken, beside = (jnp.concatenate([found[2 * side + m][part] for m in (0, 1)], axis=1) for part in (0, 1))
            dproducts[1 + side][...] += dot(taken, beside, (1, 1))
        for *_, at, period, moved in found:
            for r in range(3):
                slab = _point(at + (r - 1) * period, 0, length - 1)
                z[slab] = (z[slab].astype(jnp.float32) + moved[r]).astype(z.dtype)
        return 0

    over(ends.shape[1] // 2, untake, 0, 1)

    def unnorm(l, carry):
        to_scale, to_offset = carry
        unit, factor = normalised(x[l].astype(jnp.float32))
        to_unit = z[l + ENDS].astype(jnp.float32) + to_mean
        to_x = norm_backward(unit, factor, vectors.scale[...], to_unit)
        dx[l] = (g[l].astype(jnp.float32) + to_x).astype(dx.dtype)
        return to_scale + to_unit * unit, to_offset + to_unit

    to_scale, to_offset = over(length, unnorm, (zero, zero))
    dvectors.scale[...] += to_scale
    dvectors.offset[...] += to_offset


class Vectors(NamedTuple):
    """What a kernel adds or scales by: columns, one for each lane."""

    scale: Array
    offset: Array
    bias: Array
    out_bias: Array


def _weights(refs: tuple) -> tuple[Vectors, Products, Head, tuple]:
    """The weights among a kernel's references, and what follows them."""
    vectors, products, head = Vectors(*refs[:4]), Products(*refs[4:8]), refs[8 : 8 + len(Head._fields)]
    rest = refs[8 + len(head) :]
    return vectors, products, Head(*head), rest


def _inputs(shape: Shape, w: BandWeights) -> tuple[tuple[Array, ...], Products]:
    products = Products.of(w, shape.dtype)
    columns = Vectors(w.scale, w.offset, w.bias, w.out_bias)
    vectors = [jnp.broadcast_to(each, (len(each), LANES)) for each in columns]
    return (jnp.asarray(ends_of(shape)), *vectors, *products, *w.head), products.transposed(w)


def _scratch(shape: Shape, k: int, width: int) -> list[Any]:
    """The normed sequence, S_r, and what each band convolves to."""
    slabs = shape.length + 2 * ENDS
    return [
        pltpu.VMEM((slabs, width, LANES), jnp.dtype(shape.dtype)),
        pltpu.VMEM((3, slabs, width, LANES), jnp.dtype(shape.dtype)),
        pltpu.VMEM((k, shape.length + 2, width, LANES), jnp.dtype(shape.dtype)),
    ]


def _masks(bands: Array) -> Array:
    """(k, 8, B): a whole register of each."""
    return jnp.broadcast_to(bands[:, None], (len(bands), 8, bands.shape[-1]))


def _forward(shape: Shape, x, bands, keep, w):
    whole, _ = _inputs(shape, w)
    (out,) = run_tiles(
        partial(_forward_kernel, shape),
        (x, _masks(bands), keep),
        whole,
        (jax.ShapeDtypeStruct(x.shape, x.dtype),),
        (),
        _scratch(shape, len(bands), x.shape[1]),
    )
    return out, (x, bands, keep, w)


def _backward(shape: Shape, saved, g):
    x, bands, keep, w = saved
    whole, back = _inputs(shape, w)
    float32 = [jax.ShapeDtypeStruct(each.shape, jnp.float32) for each in whole[1:]]
    scratch = _scratch(shape, len(bands), x.shape[1])
    dx, *totals = run_tiles(
        partial(_backward_kernel, shape),
        (x, _masks(bands), keep, g),
        (*whole, *back),
        (jax.ShapeDtypeStruct(x.shape, x.dtype),),
        tuple(float32),
        [*scratch, pltpu.VMEM(scratch[0].shape, scratch[0].dtype)],
    )
    v, p, head, _ = _weights(tuple(totals))
    v, d = Vectors(*(each.sum(axis=1, keepdims=True) for each in v)), x.shape[1]
    taps = p.taps.reshape(3, d, 3, d).transpose(0, 2, 3, 1)
    sides = [each.reshape(d, 3, d).transpose(1, 2, 0) for each in (p.left, p.right)]
    taps = taps.at[:, 0].add(sides[0]).at[:, 2].add(sides[1])
    return dx, None, jnp.zeros_like(keep), BandWeights(v.scale, v.offset, taps, v.bias, p.out, v.out_bias, head)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def band_update(
    shape: Shape, x: Float[Array, "L d B"], bands: Int[Array, "k B"], keep: Float[Array, "d B"], w: BandWeights
) -> Float[Array, "L d B"]:
    """x plus `keep` times what the bands of each spectrum make of it. B: a multiple of 128.

    bands: of each spectrum in ascending order. keep has no gradient: it is dropout.
    """
    return _forward(shape, x, bands, keep, w)[0]


band_update.defvjp(_forward, _backward)
