"""What the kernels share: a tile of spectra with the batch in its lanes, its products and its norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from spt_jax.shapes import Array

Ref = Any  # to an array in the memory of a kernel, read and written by indexing

LANES = 128  # spectra of a tile
SUBLANES = 16  # rows of a tile of bfloat16: widths are multiples of it
NORM_EPSILON = 1e-6  # that of nnx.LayerNorm
VMEM_BYTES = 100 * 2**20
MOST_TWICE = 4 * 2**20  # bytes of a tile that the chip's memory holds twice
INTERPRET = False  # run as Python on any backend: for tests


def dot(a: Array, b: Array, contract: tuple[int, int] = (1, 0)) -> Array:
    """a b in float32; contract (1, 1) is a b^T and (0, 0) a^T b. The factors are rounded to bfloat16 if a is one."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    b = b.astype(a.dtype)
    if INTERPRET:  # no CPU multiplies bfloat16 to float32 in every order of axes
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    dims = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dims, precision=precision, preferred_element_type=jnp.float32)


def normalised(x: Array) -> tuple[Array, Array]:
    """(d, B) with mean 0 and variance 1 over d, and (1, B) the factor that made it so."""
    mean = x.mean(axis=0, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=0, keepdims=True)
    factor = jax.lax.rsqrt(variance + NORM_EPSILON)
    return (x - mean) * factor, factor


def norm_backward(unit: Array, factor: Array, scale: Array, gradient: Array) -> Array:
    """The gradient to x of `scale * normalised(x)`."""
    g = gradient * scale
    return factor * (g - g.mean(axis=0, keepdims=True) - unit * (g * unit).mean(axis=0, keepdims=True))


def gelu(x: Array) -> Array:
    """jax.nn.gelu, in the fewest operations."""
    cubic = x * (0.7978845608 + 0.0356774081 * (x * x))
    half = 0.5 * x
    return half + half * jnp.tanh(cubic)


def gelu_and_slope(x: Array) -> tuple[Array, Array]:
    """It and its derivative."""
    square, half = x * x, 0.5 * x
    through = jnp.tanh(x * (0.7978845608 + 0.0356774081 * square))
    slope = 0.5 + 0.5 * through + half * (1 - through * through) * (0.7978845608 + 0.1070322243 * square)
    return half + half * through, slope


def eights(x: Array) -> Array:
    """(d, B) -> (d / 8, 8, B): one register each, so that one mask of lanes serves all of them."""
    return x.reshape(-1, 8, x.shape[-1])


def words(x: Array) -> Array:
    """(d, B) as words of 32 bits, two numbers of bfloat16 to each: what is only moved is moved two at a time."""
    return pltpu.bitcast(x, jnp.int32) if x.dtype == jnp.bfloat16 else x


def numbers(x: Array, dtype: Any) -> Array:
    """The inverse of `words`, in float32."""
    return (pltpu.bitcast(x, dtype) if dtype == jnp.bfloat16 else x).astype(jnp.float32)


def over(count: int, body: Callable, carry: Any, unroll: int = 4) -> Any:
    """fori_loop over `count` energies, several to a turn: one waits less for the other's results."""
    while count % unroll or (INTERPRET and unroll > 1):
        unroll -= 1
    return jax.lax.fori_loop(0, count, body, carry, unroll=unroll)


def run_tiles(
    kernel: Callable,
    tiled: tuple[Array, ...],
    whole: tuple[Array, ...],
    out: tuple[Any, ...],
    totals: tuple[Any, ...],
    scratch: list[Any],
) -> tuple[Array, ...]:
    """Call `kernel` for each tile of LANES along the last axis of `tiled` and `out`.

    whole: arrays that every tile sees. totals: shapes of outputs that tiles add to, one after the other.
    """
    batch = tiled[0].shape[-1]
    assert batch % LANES == 0

    def cut(x: Any) -> pl.BlockSpec:
        leading = x.shape[:-1]
        size = math.prod(leading) * LANES * x.dtype.itemsize
        # The next tile is fetched while this one is worked on, where there is room for both.
        mode = pl.Buffered(1) if size > MOST_TWICE else None
        return pl.BlockSpec((*leading, LANES), lambda i: (*(0 for _ in leading), i), pipeline_mode=mode)

    def same(x: Any) -> pl.BlockSpec:
        return pl.BlockSpec(x.shape, lambda i: tuple(0 for _ in x.shape))

    run = pl.pallas_call(
        kernel,
        grid=(batch // LANES,),
        in_specs=[*map(cut, tiled), *map(same, whole)],
        out_specs=[*map(cut, out), *map(same, totals)],
        out_shape=[*out, *totals],
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=VMEM_BYTES),
        interpret=INTERPRET,
    )
    return tuple(run(*tiled, *whole))
