"""A function of the distance, such as a PDF, as a vector: convolutions along r."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from spt_jax.model.attention import windows
from spt_jax.model.dropout import drop, drop_channels
from spt_jax.model.linear import Linear
from spt_jax.shapes import Array, Float

KERNEL, DEPTH = 5, 3


class RadialEncoder(nnx.Module):
    """Three residual convolutions, each followed by a mean over pairs of distances; what is left is flattened, not averaged:
    where a peak stands is a bond length. Sequences are (L, B, c) as in SPT, and a convolution is one matrix product."""

    def __init__(self, length: int, channels: int, width: int, *, dtype: str, rngs: nnx.Rngs):
        self.embed = Linear(KERNEL, channels, dtype=dtype, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(channels, dtype=dtype, rngs=rngs) for _ in range(DEPTH)])
        self.convolutions = nnx.List(
            [Linear(KERNEL * channels, channels, dtype=dtype, rngs=rngs) for _ in range(DEPTH)]
        )
        for _ in range(DEPTH):
            length = -(-length // 2)
        self.norm = nnx.LayerNorm(channels, dtype=dtype, rngs=rngs)
        self.out = Linear(length * channels, width, dtype=dtype, rngs=rngs)

    def __call__(self, signal: Float[Array, "B L"], dropout: float, keys: Array | None) -> Float[Array, "B d"]:
        """keys: as of `dropout.drop`."""
        x = self.embed(jnp.stack(windows(signal.T, KERNEL // 2), axis=-1))
        for i, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            update = convolution(jnp.concatenate(windows(jax.nn.gelu(norm(x)), KERNEL // 2), axis=-1))
            x = halved(x + drop_channels(update, dropout, keys, i))
        flat = self.norm(x).swapaxes(0, 1).reshape(signal.shape[0], -1)
        return self.out(drop(flat, dropout, keys, DEPTH))


def halved(x: Float[Array, "L B d"]) -> Float[Array, "M B d"]:
    """Mean of neighbouring pairs, M = ceil(L / 2); an odd last point stays as it is."""
    pairs = x[: len(x) // 2 * 2].reshape(len(x) // 2, 2, *x.shape[1:]).mean(axis=1)
    return jnp.concatenate([pairs, x[-1:]]) if len(x) % 2 else pairs
