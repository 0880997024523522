"""Transformers for tables, a spectrum being a row of numbers: FT-Transformer and AMFormer."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from spt_jax.config import PeerConfig
from spt_jax.model.dropout import drop
from spt_jax.model.linear import Linear
from spt_jax.model.spt import ELEMENTS
from spt_jax.peers.networks import Peer
from spt_jax.shapes import Array, Float

# AMFormer's log(ReLU(x) + EPSILON) and its way back, exp. 1, as in its authors' code, keeps the slope of the log
# below 1; the limit keeps exp finite (their code instead scales exponents over the whole batch, which would make
# the answer to a spectrum depend on its batch mates).
EPSILON = 1.0
LARGEST_EXPONENT = 8.0
SITES = 4
"""Places of dropout in a block."""


class Tokens(nnx.Module):
    """x_j -> x_j W_j + b_j, a token of d numbers for each feature, behind one for the element and one for the answer.

    (Gorishniy et al., arXiv 2106.11959, section 3.3; the last is their [CLS], the element their categorical feature.)
    With a patch of p > 1, W_j is (p, d) and a token stands for p neighbouring energies, which the paper does not do:
    attention between tokens costs p^2 times less. site: of the element, as `sources.of_site` makes it.
    """

    def __init__(self, length: int, patch: int, width: int, initial: nnx.Initializer, *, rngs: nnx.Rngs):
        self.patch, self.count = patch, -(-length // patch) + 2
        patches = self.count - 2
        self.weight = nnx.Param(initial(rngs.params(), (patches, patch, width)) / math.sqrt(patch))
        self.bias = nnx.Param(initial(rngs.params(), (patches, width)))
        self.element = nnx.Embed(ELEMENTS, width, embedding_init=initial, rngs=rngs)
        self.answer = nnx.Param(initial(rngs.params(), (width,)))

    def __call__(self, signal: Float[Array, "B L"], site: Float[Array, "B d"]) -> Float[Array, "B N d"]:
        size, length = signal.shape
        patches = jnp.pad(signal, ((0, 0), (0, -length % self.patch))).reshape(size, -1, self.patch)
        features = jnp.einsum("bnp,npd->bnd", patches, self.weight[...]) + self.bias[...]
        answer = jnp.broadcast_to(self.answer[...], (size, 1, features.shape[-1]))
        return jnp.concatenate([answer, site[:, None], features], axis=1)


class FeedForward(nnx.Module):
    """PreNorm ReGLU: Linear(a * ReLU(b)) of the halves of Linear(LayerNorm(x)), hidden width 4/3 d."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        hidden = 4 * width // 3
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.into = Linear(width, 2 * hidden, rngs=rngs)
        self.out = Linear(hidden, width, rngs=rngs)

    def __call__(self, x: Float[Array, "B N d"], rate: float, keys: Array | None, site: int) -> Float[Array, "B N d"]:
        value, gate = jnp.split(self.into(self.norm(x)), 2, axis=-1)
        return self.out(drop(value * jax.nn.relu(gate), rate, keys, site))


class SelfAttention(nnx.Module):
    """Softmax(Q K^T / sqrt(c)) V in heads of c channels, every token to every token."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.into = Linear(width, 3 * width, rngs=rngs)
        self.out = Linear(width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "B N d"], rate: float, keys: Array | None, site: int) -> Float[Array, "B N d"]:
        query, key, value = (by_head(part, self.heads) for part in jnp.split(self.into(x), 3, axis=-1))
        score = jnp.einsum("bihc,bjhc->bhij", query, key) / math.sqrt(query.shape[-1])
        weights = drop(jax.nn.softmax(score, axis=-1), rate, keys, site)
        return self.out(jnp.einsum("bhij,bjhc->bihc", weights, value).reshape(x.shape))


def by_head(x: Float[Array, "*rows d"], heads: int) -> Float[Array, "*rows H c"]:
    """Channels cut into heads."""
    return x.reshape(*x.shape[:-1], heads, -1)


class FTTransformer(Peer):
    """FT-Transformer (Gorishniy et al. 2021, arXiv 2106.11959).

    As there: feature tokens, [CLS], PreNorm blocks of attention and ReGLU of which the very first norm is left out,
    and Linear(ReLU(LayerNorm([CLS]))) as prediction; no dropout of residuals. Here: one linear map for all
    descriptors, one rate of dropout for attention and feed-forward, tokens of several energies, and the weight decay
    of this package's trainer, which does not spare the tokens.
    """

    def build(self, config: PeerConfig, length: int, rngs: nnx.Rngs) -> int:
        d, depth = config.width, config.depth
        self.tokens = Tokens(length, config.patch, d, uniform_around_zero(1 / math.sqrt(d)), rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(d, rngs=rngs) for _ in range(depth - 1)])
        self.attentions = nnx.List([SelfAttention(d, config.heads, rngs=rngs) for _ in range(depth)])
        self.feeds = nnx.List([FeedForward(d, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(d, rngs=rngs)
        return d

    def elements(self) -> nnx.Embed:
        return self.tokens.element

    def features(
        self, signal: Float[Array, "B L"], site: Float[Array, "B d"], keys: Array | None
    ) -> Float[Array, "B f"]:
        x, rate = self.tokens(signal, site), self.config.dropout
        for i, (attention, feed) in enumerate(zip(self.attentions, self.feeds, strict=True)):
            x = x + attention(self.norms[i - 1](x) if i else x, rate, keys, SITES * i)
            x = x + feed(x, rate, keys, SITES * i + 1)
        return jax.nn.relu(self.norm(x[:, 0]))


class PromptAttention(nnx.Module):
    """Learnt prompts ask, each the k tokens that answer it best: a weighted sum of tokens, or of their logarithms.

    With `product`, tokens enter as log(ReLU(x) + eps) and the sum leaves through exp: a product of powers of tokens.
    """

    def __init__(self, config: PeerConfig, product: bool, *, rngs: nnx.Rngs):
        d = config.width
        self.heads, self.kept, self.product = config.heads, config.kept, product
        self.prompts = nnx.Param(jax.random.normal(rngs.params(), (config.prompts, d)))
        self.query = Linear(d, d, rngs=rngs)
        self.key = Linear(d, d, rngs=rngs)
        self.value = Linear(d, d, rngs=rngs)
        self.out = Linear(d, d, rngs=rngs)

    def __call__(self, x: Float[Array, "B N d"], rate: float, keys: Array | None, site: int) -> Float[Array, "B P d"]:
        x = jnp.log(jax.nn.relu(x) + EPSILON) if self.product else x
        query = by_head(self.query(self.prompts[...]), self.heads)
        key, value = by_head(self.key(x), self.heads), by_head(self.value(x), self.heads)
        score = jnp.einsum("phc,bnhc->bhpn", query, key) / math.sqrt(query.shape[-1])
        weights = drop(jax.nn.softmax(strongest(score, self.kept), axis=-1), rate, keys, site)
        mixed = jnp.einsum("bhpn,bnhc->bphc", weights, value).reshape(x.shape[0], -1, x.shape[-1])
        return self.out(jnp.exp(jnp.minimum(mixed, LARGEST_EXPONENT)) if self.product else mixed)


def strongest(score: Float[Array, "*rows N"], k: int) -> Float[Array, "*rows N"]:
    """The k greatest scores of each row, -inf for the rest: hard attention. Equal scores count as one."""
    # By k maxima, as bands are chosen: no partitioner cuts lax.top_k by rows.
    rest = jax.lax.stop_gradient(score)
    for _ in range(min(k, score.shape[-1]) - 1):
        rest = jnp.where(rest >= rest.max(axis=-1, keepdims=True), -jnp.inf, rest)
    return jnp.where(score >= rest.max(axis=-1, keepdims=True), score, -jnp.inf)


class ArithmeticBlock(nnx.Module):
    """Sums and products of tokens side by side, fused by a linear map along the token axis; then a feed-forward."""

    def __init__(self, config: PeerConfig, count: int, *, rngs: nnx.Rngs):
        self.add = PromptAttention(config, False, rngs=rngs)
        self.multiply = PromptAttention(config, True, rngs=rngs)
        self.fuse = Linear(2 * config.prompts, config.prompts, rngs=rngs)
        # From N tokens to P prompts the residual needs a map of its own, along the tokens as well.
        self.carry = Linear(count, config.prompts, rngs=rngs) if count != config.prompts else None
        self.feed = FeedForward(config.width, rngs=rngs)

    def __call__(self, x: Float[Array, "B N d"], rate: float, keys: Array | None, site: int) -> Float[Array, "B P d"]:
        both = [self.add(x, rate, keys, site), self.multiply(x, rate, keys, site + 1)]
        fused = along_tokens(self.fuse, jnp.concatenate(both, axis=1))
        x = fused + (along_tokens(self.carry, x) if self.carry else x)
        return x + self.feed(x, rate, keys, site + 2)


def along_tokens(layer: Linear, x: Float[Array, "B N d"]) -> Float[Array, "B M d"]:
    """A linear map of the token axis, the same for every channel."""
    return layer(x.swapaxes(1, 2)).swapaxes(1, 2)


class AMFormer(Peer):
    """AMFormer (Cheng et al. 2024, "Arithmetic Feature Interaction Is Necessary for Deep Tabular Learning", 2402.02334).

    As there: additive attention on tokens beside multiplicative attention on log(ReLU(x) + eps), trained prompts as
    queries, hard attention to the k strongest tokens, fusion of both by a linear map along the token axis; fewer
    prompts than tokens, with a map of the residual, as in its authors' code for tables of many features. Here: the
    kept weights are the softmax of their scores (their code learns them by rank), the blocks of FT-Transformer's
    feed-forward, exponents limited instead of scaled over the batch, one linear map for all descriptors, and the
    first token as the prediction's.
    """

    def build(self, config: PeerConfig, length: int, rngs: nnx.Rngs) -> int:
        d = config.width
        self.tokens = Tokens(length, config.patch, d, nnx.initializers.normal(1.0), rngs=rngs)
        counts = [self.tokens.count] + [config.prompts] * (config.depth - 1)
        self.blocks = nnx.List([ArithmeticBlock(config, count, rngs=rngs) for count in counts])
        self.norm = nnx.LayerNorm(d, rngs=rngs)
        return d

    def elements(self) -> nnx.Embed:
        return self.tokens.element

    def features(
        self, signal: Float[Array, "B L"], site: Float[Array, "B d"], keys: Array | None
    ) -> Float[Array, "B f"]:
        x = self.tokens(signal, site)
        for i, block in enumerate(self.blocks):
            x = block(x, self.config.dropout, keys, SITES * i)
        return jax.nn.relu(self.norm(x[:, 0]))


def uniform_around_zero(reach: float) -> nnx.Initializer:
    """From -reach to reach."""

    def initial(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -reach, reach)

    return initial
