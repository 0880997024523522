"""Dropout whose random numbers belong to the rows of a batch, not to the batch.

So a batch cut over devices, or into pieces whose gradients are added, draws the same numbers as the whole.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from spt_jax.shapes import Array, Float


def drop(x: Float[Array, "*any"], rate: float, keys: Array | None, site: int, axis: int = 0) -> Float[Array, "*any"]:
    """Zero with probability `rate`, the rest scaled up; nothing without keys.

    keys: (B,) keys of the rows, which stand at `axis` of x. site: a number of its own for each place of use.
    The rate is rounded to 1/256, so that one random word serves four values: drawing costs more than using.
    """
    if keys is None or round(256 * rate) == 0:
        return x
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    count, dropped = math.prod(shape), round(256 * rate)

    def draw(key: Array) -> Array:
        words = jax.random.bits(jax.random.fold_in(key, site), (-(-count // 4),), jnp.uint32)
        return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:count].reshape(shape)

    kept = jax.vmap(draw, out_axes=axis)(keys) >= dropped
    return jnp.where(kept, x * (256 / (256 - dropped)), 0).astype(x.dtype)


def drop_channels(x: Float[Array, "L B d"], rate: float, keys: Array | None, site: int) -> Float[Array, "L B d"]:
    """The same for whole channels of a sequence: neighbouring energies tell much the same, and would give one away."""
    return x if keys is None else x * drop(jnp.ones(x.shape[1:], x.dtype), rate, keys, site)
