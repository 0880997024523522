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

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from spt_jax.model.tpu.bands_back import backward_kernel
from spt_jax.model.tpu.folds import (
    ENDS,
    BandShape,
    BandWeights,
    Head,
    Products,
    Vectors,
    band_features,
    ends_of,
    shares,
    sort_out,
)
from spt_jax.model.tpu.tile import LANES, dot, gelu, over, run_tiles
from spt_jax.shapes import Array, Float, Int


def forward_kernel(shape: BandShape, x, bands_ref, keep, ends, *refs) -> None:
    vectors, products, head, (out, n, rows, y) = sort_out(refs)
    k, length = len(bands_ref), shape.length
    bands = [bands_ref[j] for j in range(k)]
    mean = band_features(shape, x, bands, ends, vectors, products, n, rows, y)

    def activate(here, totals):
        features = [gelu(y[j, here + 1].astype(jnp.float32)) for j in range(k)]
        for j, each in enumerate(features):
            y[j, here + 1] = each.astype(y.dtype)
        return [total + each for total, each in zip(totals, features, strict=True)]

    totals = over(length, activate, [jnp.zeros(keep.shape, jnp.float32)] * k, 2)
    head = Head(*(each[...] for each in head))
    share = shares(mean, [total / length for total in totals], head, shape.dtype)
    kept = keep[...]

    def fuse(here, _):
        fused = sum(share[j : j + 1] * y[j, here + 1].astype(jnp.float32) for j in range(k))
        update = dot(products.out[...], fused) + vectors.out_bias[...]
        out[here] = (x[here].astype(jnp.float32) + kept * update).astype(out.dtype)
        return 0

    over(length, fuse, 0)


def _inputs(shape: BandShape, w: BandWeights) -> tuple[tuple[Array, ...], Products]:
    products = Products.of(w, shape.dtype)
    columns = Vectors(w.scale, w.offset, w.bias, w.out_bias)
    vectors = [jnp.broadcast_to(each, (len(each), LANES)) for each in columns]
    return (jnp.asarray(ends_of(shape)), *vectors, *products, *w.head), products.transposed(w)


def _scratch(shape: BandShape, k: int, width: int) -> list[Any]:
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


def _forward(shape: BandShape, x, bands, keep, w):
    whole, _ = _inputs(shape, w)
    (out,) = run_tiles(
        partial(forward_kernel, shape),
        (x, _masks(bands), keep),
        whole,
        (jax.ShapeDtypeStruct(x.shape, x.dtype),),
        (),
        _scratch(shape, len(bands), x.shape[1]),
    )
    return out, (x, bands, keep, w)


def _backward(shape: BandShape, saved, g):
    x, bands, keep, w = saved
    whole, back = _inputs(shape, w)
    float32 = [jax.ShapeDtypeStruct(each.shape, jnp.float32) for each in whole[1:]]
    scratch = _scratch(shape, len(bands), x.shape[1])
    dx, *totals = run_tiles(
        partial(backward_kernel, shape),
        (x, _masks(bands), keep, g),
        (*whole, *back),
        (jax.ShapeDtypeStruct(x.shape, x.dtype),),
        tuple(float32),
        [*scratch, pltpu.VMEM(scratch[0].shape, scratch[0].dtype)],
    )
    v, p, head, _ = sort_out(tuple(totals))
    v, d = Vectors(*(each.sum(axis=1, keepdims=True) for each in v)), x.shape[1]
    taps = p.taps.reshape(3, d, 3, d).transpose(0, 2, 3, 1)
    sides = [each.reshape(d, 3, d).transpose(1, 2, 0) for each in (p.left, p.right)]
    taps = taps.at[:, 0].add(sides[0]).at[:, 2].add(sides[1])
    return dx, None, jnp.zeros_like(keep), BandWeights(v.scale, v.offset, taps, v.bias, p.out, v.out_bias, head)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def band_update(
    shape: BandShape, x: Float[Array, "L d B"], bands: Int[Array, "k B"], keep: Float[Array, "d B"], w: BandWeights
) -> Float[Array, "L d B"]:
    """x plus `keep` times what the bands of each spectrum make of it. B: a multiple of 128.

    bands: of each spectrum in ascending order. keep has no gradient: it is dropout.
    """
    return _forward(shape, x, bands, keep, w)[0]


band_update.defvjp(_forward, _backward)
