"""A number for each array of a checkpoint, by which what is read is known to be what was saved.

It is the same wherever the array lies: a sum, modulo 2^32, of its words, each times an odd weight of its place. So a
device computes it where its share is, and any one word that differs is found.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


@jax.jit
def digest_on_device(tree: Any) -> tuple[jax.Array, ...]:
    """Of each leaf, in the order of `jax.tree.leaves`."""
    return tuple(_of(jnp, jax.lax.bitcast_convert_type(x, WORDS[x.dtype.itemsize])) for x in jax.tree.leaves(tree))


def digest(tree: Any) -> list[int]:
    """The same of arrays on the host."""
    leaves = (np.ascontiguousarray(x).reshape(-1) for x in jax.tree.leaves(tree))
    return [int(_of(np, x.view(WORDS[x.dtype.itemsize]))) for x in leaves]


def _of(numpy: Any, words: Any) -> Any:
    weights = 2 * numpy.arange(words.size, dtype=numpy.uint32) + numpy.uint32(1)
    return (words.reshape(-1).astype(numpy.uint32) * weights).sum(dtype=numpy.uint32)
