"""A linear layer that always multiplies matrices of rows: XLA's gradient of the batched form is three times slower."""

from __future__ import annotations

from flax import nnx

from spt_jax.shapes import Array, Float


class Linear(nnx.Linear):
    """nnx.Linear over the last axis, leading axes flattened to rows."""

    def __call__(self, x: Float[Array, "*rows d"]) -> Float[Array, "*rows e"]:
        flat = super().__call__(x.reshape(-1, x.shape[-1]))
        return flat.reshape(*x.shape[:-1], flat.shape[-1])
