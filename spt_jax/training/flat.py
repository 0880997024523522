"""All parameters as one vector: one buffer to update, to average, to add over devices and to share out among them."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


class Flat:
    """The layout of a parameter tree in a vector of P float32 numbers, zero padded to a multiple of `multiple`."""

    def __init__(self, tree: Any, multiple: int = 1):
        leaves, self._structure = jax.tree.flatten(tree)
        self._shapes = [leaf.shape for leaf in leaves]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.used = sum(self._sizes)
        self.size = -(-self.used // multiple) * multiple

    def ravel(self, tree: Any) -> jax.Array:
        """Tree -> (P,)."""
        parts = [leaf.reshape(-1).astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
        return jnp.concatenate([*parts, jnp.zeros(self.size - self.used)])

    def unravel(self, vector: jax.Array) -> Any:
        """(P,) -> tree."""
        parts = jnp.split(vector[: self.used], [sum(self._sizes[:i]) for i in range(1, len(self._sizes))])
        leaves = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return jax.tree.unflatten(self._structure, leaves)

    def matrices(self) -> jax.Array:
        """(P,) 1 where the parameter belongs to a matrix, 0 for biases, scales and padding."""
        parts = [jnp.full(n, float(len(s) > 1)) for n, s in zip(self._sizes, self._shapes, strict=True)]
        return jnp.concatenate([*parts, jnp.zeros(self.size - self.used)])
