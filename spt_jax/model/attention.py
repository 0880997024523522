"""Graph attention inside a sliding window of energies |i - j| <= w, as a band: never an L x L matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from spt_jax.shapes import Array, Float

from spt_jax.model.linear import Linear


def shift(x: Float[Array, "B L *rest"], by: int) -> Float[Array, "B L *rest"]:
    """y[l] = x[l + by], zero beyond the ends."""
    padding = ((0, 0), (max(-by, 0), max(by, 0))) + ((0, 0),) * (x.ndim - 2)
    return jnp.pad(x[:, max(by, 0) : x.shape[1] + min(by, 0)], padding)


def banded_softmax(score: Float[Array, "B L W H"]) -> Float[Array, "B L W H"]:
    """Softmax over the window, in float32, with weight zero beyond the ends of the spectrum."""
    length, size = score.shape[1:3]
    neighbour = np.arange(length)[:, None] + np.arange(size) - size // 2
    inside = jnp.asarray((neighbour >= 0) & (neighbour < length))[None, :, :, None]
    return jax.nn.softmax(jnp.where(inside, score.astype(jnp.float32), -jnp.inf), axis=2)


class BandedAttention(nnx.Module):
    """a^T LeakyReLU(W [h_i || h_j]) with a separate value projection (paper, local graph attention).

    order "gatv2": score = a . leaky(W_i h_i + W_j h_j), per head. order "gatv1": leaky(a_i . h_i + a_j . h_j).
    """

    def __init__(self, width: int, heads: int, reach: int, order: str, *, dtype: str, rngs: nnx.Rngs):
        self.heads, self.reach, self.order = heads, reach, order
        scores = width if order == "gatv2" else heads
        self.target = Linear(width, scores, use_bias=False, dtype=dtype, rngs=rngs)
        self.source = Linear(width, scores, dtype=dtype, rngs=rngs)
        self.value = Linear(width, width, dtype=dtype, rngs=rngs)
        self.out = Linear(width, width, dtype=dtype, rngs=rngs)
        if order == "gatv2":
            self.direction = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (width // heads, heads)).T)

    def weights(self, h: Float[Array, "B L d"]) -> Float[Array, "B L W H"]:
        """Attention of each point to its window, summing to one; the part that explains a prediction."""
        target, source = self._by_head(self.target(h)), self._by_head(self.source(h))
        scores = []
        for offset in range(-self.reach, self.reach + 1):
            score = jax.nn.leaky_relu(target + shift(source, offset), 0.2)
            if self.order == "gatv2":
                scores.append((score * self.direction[...].astype(score.dtype)).sum(axis=-1))
            else:
                scores.append(score[..., 0])
        return banded_softmax(jnp.stack(scores, axis=2))

    def __call__(self, h: Float[Array, "B L d"]) -> Float[Array, "B L d"]:
        value = self._by_head(self.value(h))
        weights = self.weights(h).astype(value.dtype)
        # One offset at a time: the window is never laid out, and each term is one pass over memory.
        mixed = sum(
            weights[:, :, i, :, None] * shift(value, offset)
            for i, offset in enumerate(range(-self.reach, self.reach + 1))
        )
        return self.out(mixed.reshape(h.shape))

    def _by_head(self, x: Float[Array, "B L e"]) -> Float[Array, "B L H c"]:
        return x.reshape(*x.shape[:2], self.heads, -1)
