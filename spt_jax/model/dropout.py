"""Dropout whose random numbers belong to the rows of a batch, not to the batch.

So a batch cut over devices, or into pieces whose gradients are added, draws the same numbers as the whole.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from spt_jax.shapes import Array, Float


def drop(x: Float[Array, "*any"], rate: float, keys: Array | None, site: int, axis: int = 0) -> Float[Array, "*any"]:
    """Zero with probability `rate`, the rest scaled up; nothing without keys.

    keys: (B,) keys of the rows, which stand at `axis` of x. site: a number of its own for each place of use.
    """
    if keys is None:
        return x
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    draw = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, site), 1 - rate, shape), out_axes=axis)
    return jnp.where(draw(keys), x / (1 - rate), 0).astype(x.dtype)
