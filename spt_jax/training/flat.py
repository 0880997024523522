"""All parameters as one vector: one buffer to update, to average, to add over devices and to share out among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from spt_jax.runs.blueprint import path_name


class Flat:
    """The layout of a parameter tree in a vector of P float32 numbers.

    After the parameters come `extras` further numbers, which travel with a gradient (its losses) and are zero
    elsewhere, then zeros up to a multiple of `multiple`. names: of the leaves, as paths.
    """

    def __init__(self, tree: Any, extras: int = 0, multiple: int = 1):
        leaves, self._structure = jax.tree.flatten_with_path(tree)
        self.names = [path_name(path) for path, _ in leaves]
        self._shapes = [leaf.shape for _, leaf in leaves]
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
        # Or XLA reshapes the vector to the last axis of a small leaf and cuts then: on a TPU 370 cycles a spectrum.
        parts = jax.lax.optimization_barrier(parts)
        leaves = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return jax.tree.unflatten(self._structure, leaves)

    def mask(self, wanted: Callable[[str, tuple[int, ...]], bool]) -> Callable[[], jax.Array]:
        """Makes (P,) 1 where `wanted` says so of a leaf's name and shape, 0 elsewhere and in the padding.

        To be called inside a program: as a value it would lie on one device, and in the program as a constant.
        """
        chosen = [float(wanted(name, shape)) for name, shape in zip(self.names, self._shapes, strict=True)]

        def make() -> jax.Array:
            parts = [jnp.full(size, value) for size, value in zip(self._sizes, chosen, strict=True)]
            return jnp.concatenate([*parts, jnp.zeros(self.size - self.used)])

        return make
