"""Graph attention inside a sliding window of energies |i - j| <= w, as a band: never an L x L matrix.

Sequences are (L, B, d), so that a neighbour is a whole contiguous slab away and a shift costs one slice.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.config import SLOPE
from spt_jax.model.gpu import block as gpu
from spt_jax.model.linear import Linear
from spt_jax.shapes import Array, Float

# Scores of one spectrum are taken relative to the middle of their range, and this far from it at most: e^80 is finite.
FARTHEST = 80.0


def windows(x: Float[Array, "L *rest"], reach: int) -> list[Float[Array, "L *rest"]]:
    """x[l - reach], ..., x[l + reach], zero beyond the ends."""
    padded = jnp.pad(x, ((reach, reach),) + ((0, 0),) * (x.ndim - 1))
    return [padded[i : i + x.shape[0]] for i in range(2 * reach + 1)]


def inside(length: int, reach: int) -> np.ndarray:
    """(W, L) bool: is point l + offset on the spectrum?"""
    neighbour = np.arange(length) + np.arange(-reach, reach + 1)[:, None]
    return (neighbour >= 0) & (neighbour < length)


def banded_softmax(score: Float[Array, "W L B H"]) -> Float[Array, "W L B H"]:
    """Softmax over the window, in float32, with weight zero beyond the ends of the spectrum."""
    mask = jnp.asarray(inside(score.shape[1], score.shape[0] // 2))[:, :, None, None]
    return jax.nn.softmax(jnp.where(mask, score.astype(jnp.float32), -jnp.inf), axis=0)


def separable_softmax(
    target: Float[Array, "L B H"], source: Float[Array, "L B H"], reach: int
) -> Float[Array, "W L B H"]:
    """Softmax over the window of leaky(target_i + source_j), without an exponential inside the band.

    leaky(x) = max(x, a x), so exp(leaky(s + t)) = max(e^s e^t, e^(a s) e^(a t)), and e^s cancels: three
    exponentials of (L, B, H) replace one of (W, L, B, H). Exact while the scores of a spectrum spread over less
    than 160, where a weight is e^160 of another.
    """
    target, source = target.astype(jnp.float32), source.astype(jnp.float32)
    middle = jax.lax.stop_gradient((source.max(axis=0) + source.min(axis=0)) / 2)
    relative = jnp.clip(source - middle, -FARTHEST, FARTHEST)
    steep, flat = windows(jnp.exp(relative), reach), windows(jnp.exp(SLOPE * relative), reach)
    ratio = jnp.exp((SLOPE - 1) * jnp.clip(target + middle, -FARTHEST, FARTHEST))
    mask = jnp.asarray(inside(len(source), reach), jnp.float32)[..., None, None]
    weights = [jnp.maximum(steep[i], ratio * flat[i]) * mask[i] for i in range(2 * reach + 1)]
    return jnp.stack(weights) / sum(weights)


@jax.custom_vjp
def banded_sum(weights: Float[Array, "W L B H"], value: Float[Array, "L B H c"]) -> Float[Array, "L B H c"]:
    """sum over the window of weights[o, l] value[l + o].

    XLA's own backward of shifted slices is a chain of pads and reductions over the short last axis, three times
    slower than this one on a CPU.
    """
    shifted = windows(value, weights.shape[0] // 2)
    return sum(weight[..., None] * each for weight, each in zip(weights, shifted, strict=True))


def _forward(weights, value):
    return banded_sum(weights, value), (weights, value)


def _backward(residuals, cotangent):
    weights, value = residuals
    size, length = weights.shape[:2]
    reach = size // 2
    to_weights = jnp.stack([_dot(cotangent, each) for each in windows(value, reach)])
    # Point l is neighbour o of point l - o.
    padded = jnp.pad(weights, ((0, 0), (reach, reach), (0, 0), (0, 0)))
    arrived = windows(cotangent, reach)
    to_value = sum(
        padded[o, size - 1 - o : size - 1 - o + length][..., None] * arrived[size - 1 - o] for o in range(size)
    )
    return to_weights.astype(weights.dtype), to_value.astype(value.dtype)


banded_sum.defvjp(_forward, _backward)


def _dot(x: Float[Array, "L B H c"], y: Float[Array, "*points H c"]) -> Float[Array, "L B H"]:
    """Sum of x y over the last axis by halves, which vectorises where a reduction of a short axis does not."""
    if x.shape[-1] % 2:
        return sum(x[..., i] * y[..., i] for i in range(x.shape[-1]))
    half = x.shape[-1] // 2
    total = x[..., :half] * y[..., :half] + x[..., half:] * y[..., half:]
    while total.shape[-1] % 2 == 0:
        half = total.shape[-1] // 2
        total = total[..., :half] + total[..., half:]
    return sum(total[..., i] for i in range(total.shape[-1]))


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

    def weights(self, h: Float[Array, "L B d"]) -> Float[Array, "W L B H"]:
        """Attention of each point to its window, summing to one; the part that explains a prediction."""
        if self.order == "gatv1":
            return separable_softmax(self.target(h), self.source(h), self.reach)
        target, source = self._by_head(self.target(h)), self._by_head(self.source(h))
        direction = self.direction[...].astype(h.dtype)
        activated = (jax.nn.leaky_relu(target + each, SLOPE) for each in windows(source, self.reach))
        return banded_softmax(jnp.stack([_dot(each, direction) for each in activated]))

    def __call__(self, h: Float[Array, "L B d"]) -> Float[Array, "L B d"]:
        return self.attend(h)[0]

    def attend(
        self, h: Float[Array, "L B d"], kernels: str | None = None
    ) -> tuple[Float[Array, "L B d"], Float[Array, "W L B H"]]:
        """What attention makes of h, and its weights."""
        if kernels == "gpu":
            # The weights are for who looks inside: otherwise no one computes them.
            return self.out(gpu.mixed(self, h)), self.weights(h)
        value = self._by_head(self.value(h))
        weights = self.weights(h)
        mixed = banded_sum(weights.astype(value.dtype), value)
        return self.out(mixed.reshape(h.shape)), weights

    def _by_head(self, x: Float[Array, "L B e"]) -> Float[Array, "L B H c"]:
        return x.reshape(*x.shape[:2], self.heads, -1)
