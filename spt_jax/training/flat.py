"""All parameters as one vector: one buffer to update, to average, to add over devices and to share out among them."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


class Flat:
    """The layout of a parameter tree in a vector of P float32 numbers.

    After the parameters come `extras` further numbers, which travel with a gradient (its losses) and are zero
    elsewhere, then zeros up to a multiple of `multiple`.
    """

    def __init__(self, tree: Any, extras: int = 0, multiple: int = 1):
        leaves, self._structure = jax.tree.flatten(tree)
        self._shapes = [leaf.shape for leaf in leaves]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.used, self.extras = sum(self._sizes), extras
        self.size = -(-(self.used + extras) // multiple) * multiple

    def ravel(self, tree: Any, extras: jax.Array | None = None) -> jax.Array:
        """Tree -> (P,)."""
        parts = [leaf.reshape(-1).astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
        parts.append(jnp.zeros(self.extras) if extras is None else extras)
        return jnp.concatenate([*parts, jnp.zeros(self.size - self.used - self.extras)])

    def take_extras(self, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(P,) -> the vector with its extras set to zero, and (extras,) them."""
        extras = vector[self.used : self.used + self.extras]
        return jnp.where(jnp.arange(self.size) < self.used, vector, 0), extras

    def unravel(self, vector: jax.Array) -> Any:
        """(P,) -> tree."""
        parts = jnp.split(vector[: self.used], [sum(self._sizes[:i]) for i in range(1, len(self._sizes))])
        leaves = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return jax.tree.unflatten(self._structure, leaves)

    def matrices(self) -> jax.Array:
        """(P,) 1 where the parameter belongs to a matrix, 0 for biases, scales and padding."""
        parts = [jnp.full(n, float(len(s) > 1)) for n, s in zip(self._sizes, self._shapes, strict=True)]
        return jnp.concatenate([*parts, jnp.zeros(self.size - self.used)])
