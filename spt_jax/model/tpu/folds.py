"""What both passes of the band block do: the normed sequence, its sums by rows of taps, and their sum at each band's period.

See `bands.py` for the idea. A kernel reads and writes by references; here they are the arguments without a type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from spt_jax.model.tpu.tile import LANES, Ref, dot, eights, gelu, normalised, numbers, over, words
from spt_jax.shapes import Array

CHUNK = 64  # channels that are moved at a time: their sums stay in registers
PAIR = ((0, 0), (0, 1), (1, 0), (1, 1))  # side and number of row ends that are seen to at a time
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


class Vectors(NamedTuple):
    """What a kernel adds or scales by: columns, one for each lane."""

    scale: Array
    offset: Array
    bias: Array
    out_bias: Array


def sort_out(refs: tuple) -> tuple[Vectors, Products, Head, tuple]:
    """The weights among a kernel's references, and what follows them."""
    vectors, products, head = Vectors(*refs[:4]), Products(*refs[4:8]), refs[8 : 8 + len(Head._fields)]
    rest = refs[8 + len(head) :]
    return vectors, products, Head(*head), rest


@dataclass(frozen=True)
class BandShape:
    """length: energies L. highest: candidates 1..highest compete. dtype: of the factors of products."""

    length: int
    highest: int
    dtype: str

    @property
    def folds(self) -> tuple[tuple[int, int], ...]:
        """(frequency, period) of the candidates with more than one row."""
        found = ((f, -(-self.length // f)) for f in range(1, self.highest + 1))
        return tuple((f, p) for f, p in found if p < self.length)


def ends_of(shape: BandShape) -> np.ndarray:
    """(2, N, 3) int32: point, period and frequency of every first and of every last column. N is even.

    What fills up has the frequency 0, which no spectrum chooses.
    """
    starts = [(start, p, f) for f, p in shape.folds for start in range(0, shape.length, p)]
    stops = [(stop, p, f) for f, p in shape.folds for stop in range(p - 1, shape.length, p)]
    found = np.zeros((2, len(starts) + len(starts) % 2, 3), np.int32)
    found[0, : len(starts)], found[1, : len(stops)] = starts, stops
    return found


def point(place: Array, least: int, most: int) -> Array:
    """The slab of a point; a slab of zeros where it is not within least..most."""
    return jnp.where((place >= least) & (place <= most), place + ENDS, 0)


def in_row(n: Ref, place: Array) -> Array:
    """(3 d, B): a point and its neighbours."""
    three = n[pl.ds(place + ENDS - 1, 3)]
    return three.reshape(-1, three.shape[-1])


def in_column(n: Ref, place: Array, period: Array, last: int) -> Array:
    """(3 d, B): a point, and those one row above and below."""
    return jnp.concatenate([n[point(place + r * period, 0, last)] for r in (-1, 0, 1)], axis=0)


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


def chosen(shape: BandShape, moves: list, bands: list[Array], read: Callable, width: int) -> list[list[Array]]:
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


def clear_ends(ref: Ref, width: int) -> None:
    """Zeros in the first and last `width` slabs, which what is read from beyond the ends of a sequence finds."""
    slabs = ref.shape[-3]
    for slab in (*range(width), *range(slabs - width, slabs)):
        ref[..., slab, :, :] = jnp.zeros((*ref.shape[:-3], *ref.shape[-2:]), ref.dtype)


def band_features(shape: BandShape, x, bands, ends, vectors: Vectors, products: Products, n, rows, y) -> Array:
    """Fill n with the normed sequence, `rows` with S_r and y with what each band convolves to; returns the mean of n."""
    length, k, width = shape.length, len(bands), x.shape[1]
    zero = jnp.zeros((width, LANES), jnp.float32)

    @pl.when(pl.program_id(0) == 0)
    def _():
        clear_ends(n, ENDS)
        clear_ends(rows, 1)

    def norm(here, total):
        unit, _ = normalised(x[here].astype(jnp.float32))
        unit = unit * vectors.scale[...] + vectors.offset[...]
        n[here + ENDS] = unit.astype(n.dtype)
        return total + unit

    mean = over(length, norm, zero) / length

    def tap(i, _):
        found = dot(products.taps[...], in_row(n, i - 1)).reshape(3, *zero.shape)
        rows[:, i + ENDS - 1] = found.astype(rows.dtype)
        return 0

    over(length + 2, tap, 0, 2)

    for start in range(0, width, CHUNK):
        part = pl.ds(start, min(CHUNK, width - start))

        def fold(here, _, part=part):
            moves = [
                ((2, jnp.minimum(here + period, length + 1) + ENDS), (0, jnp.maximum(here - period, -2) + ENDS))
                for _, period in shape.folds
            ]
            sums = chosen(shape, moves, bands, lambda place: [rows[*place, part]] * k, part.size)
            shared = rows[1, here + ENDS, part].astype(jnp.float32) + vectors.bias[part]
            for j in range(k):
                y[j, here + 1, part] = (shared + sums[j][0] + sums[j][1]).astype(y.dtype)
            return 0

        over(length, fold, 0, 2)

    def take(i, _):
        taken = []
        for side, number in PAIR:
            place, period, frequency = (ends[side, 2 * i + number, part] for part in range(3))
            beside = in_column(n, place + (-1, 1)[side], period, length - 1)
            taken.append((place, frequency, eights(dot((products.left, products.right)[side][...], beside))))
        for place, frequency, each in taken:
            for j in range(k):
                less = eights(y[j, place + 1].astype(jnp.float32)) - jnp.where(bands[j] == frequency, each, 0)
                y[j, place + 1] = less.reshape(zero.shape).astype(y.dtype)
        return 0

    over(ends.shape[1] // 2, take, 0, 1)
    return mean
