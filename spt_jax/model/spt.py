"""The Spectral Pattern Translator: embedding, band-folding and attention blocks, heads. Arrays in, arrays out."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from spt_jax.shapes import Array, Float, Int

from data_pipelines.errors import RunError
from spt_jax.config import ModelConfig
from spt_jax.model.attention import BandedAttention
from spt_jax.model.bands import band_input_map, band_strength, period, select_bands
from spt_jax.model.folding import folded_convolutions
from spt_jax.model.heads import Heads, HeadSpec, drop
from spt_jax.model.linear import Linear

ELEMENTS = 100
EMBEDDING_KERNEL = 5


class Constant(nnx.Variable):
    """An array that belongs to the model but is not trained: the band input map."""


class BandBlock(nnx.Module):
    """Fold at the chosen bands, convolve in 2-D, fuse by a query from the global context (paper, multi-scale bands)."""

    def __init__(self, config: ModelConfig, length: int, *, rngs: nnx.Rngs):
        self.config = config
        d, size, dtype = config.width, config.kernel, config.dtype
        fan_in = size * size * d
        self.weights = nnx.Param(jax.random.normal(rngs.params(), (size, size, d, d)) / math.sqrt(fan_in))
        self.bias = nnx.Param(jnp.zeros(d))
        self.query = nnx.Param(jax.random.normal(rngs.params(), (d,)))
        self.context = Linear(d, d, dtype=dtype, rngs=rngs)
        self.project = Linear(d, d, dtype=dtype, rngs=rngs)
        self.key = Linear(d, d, dtype=dtype, rngs=rngs)
        self.out = Linear(d, d, dtype=dtype, rngs=rngs)

    def bands(self, h: Float[Array, "B L d"]) -> Int[Array, "B k"]:
        """The frequencies that each spectrum is folded at. A choice has no gradient."""
        strength = band_strength(jax.lax.stop_gradient(h), self.config.highest_band)
        return select_bands(strength, self.config.bands, self.config.band_mode)

    def __call__(self, h: Float[Array, "B L d"], bands: Int[Array, "B k"]) -> Float[Array, "B L d"]:
        periods = period(bands, h.shape[1])
        features = jax.nn.gelu(folded_convolutions(h, self.weights[...], periods) + self.bias[...].astype(h.dtype))
        context = self.project(jax.nn.gelu(self.context(h.mean(axis=1))))
        query = context + self.query[...].astype(h.dtype)
        keys = self.key(features.mean(axis=2))
        score = jnp.einsum("bd,kbd->bk", query, keys).astype(jnp.float32) / math.sqrt(h.shape[-1])
        share = jax.nn.softmax(score, axis=-1).astype(h.dtype)
        fused = sum(share[:, i, None, None] * features[i] for i in range(bands.shape[1]))
        return self.out(fused)


class SPT(nnx.Module):
    """mu on the energy grid -> outputs of every head.

    `energy`, `mean` and `std` (all (L,)) are the grid and the training set's statistics, from which the
    band input map is made. Nothing of a batch reaches another row of it (except with band_mode "batch").
    """

    def __init__(
        self,
        config: ModelConfig,
        heads: tuple[HeadSpec, ...],
        energy: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        *,
        rngs: nnx.Rngs,
    ):
        length = len(energy)
        if config.highest_band > length // 2:
            raise RunError(f"highest_band ({config.highest_band}) exceeds the {length // 2} bands of {length} points")
        if config.window >= length:
            raise RunError(f"window ({config.window}) is wider than the spectrum ({length} points)")
        self.config = config
        linear, offset = band_input_map(config.band_input, energy, mean, std)
        self.input_linear = Constant(jnp.asarray(linear, jnp.float32))
        self.input_offset = Constant(jnp.asarray(offset, jnp.float32))
        d, dtype = config.width, config.dtype
        self.embed = Linear(EMBEDDING_KERNEL, d, dtype=dtype, rngs=rngs)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, d)))
        self.element = nnx.Embed(ELEMENTS, d, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.band_norms = nnx.List([nnx.LayerNorm(d, dtype=dtype, rngs=rngs) for _ in range(config.blocks)])
        self.band_blocks = nnx.List([BandBlock(config, length, rngs=rngs) for _ in range(config.blocks)])
        graph = config.blocks if config.attention != "none" else 0
        self.graph_norms = nnx.List([nnx.LayerNorm(d, dtype=dtype, rngs=rngs) for _ in range(graph)])
        self.graphs = nnx.List(
            [
                BandedAttention(d, config.attention_heads, config.window, config.attention, dtype=dtype, rngs=rngs)
                for _ in range(graph)
            ]
        )
        self.norm = nnx.LayerNorm(d, dtype=dtype, rngs=rngs)
        self.heads = Heads(heads, length, d, config.readout_channels, config.hidden, dtype=dtype, rngs=rngs)

    def band_input(self, spectrum: Float[Array, "B L"]) -> Float[Array, "B L"]:
        """mu -> the signal that the network sees and selects bands on."""
        return jnp.matmul(spectrum, self.input_linear[...], precision="highest") + self.input_offset[...]

    def __call__(
        self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"], key: Array | None = None
    ) -> dict[str, Array]:
        """Head outputs, and "bands": (B, blocks, k), the frequencies chosen. `key` turns dropout on."""
        keys = [None] * (2 * self.config.blocks + 1)
        if key is not None:
            keys = list(jax.random.split(key, 2 * self.config.blocks + 1))
        signal = self.band_input(spectrum).astype(self.config.dtype)
        reach = EMBEDDING_KERNEL // 2
        padded = jnp.pad(signal, ((0, 0), (reach, reach)), mode="edge")
        length = signal.shape[1]
        patches = jnp.stack([padded[:, j : j + length] for j in range(EMBEDDING_KERNEL)], axis=-1)
        h = self.embed(patches)
        # Positions are the same for every spectrum and would drown its own bands: they join after the first choice.
        fixed = (self.position[...] + self.element(atomic_number)[:, None]).astype(h.dtype)
        chosen = []
        for i, block in enumerate(self.band_blocks):
            chosen.append(block.bands(h))
            if i == 0:
                h = h + fixed
            update = block(self.band_norms[i](h), chosen[-1])
            h = h + (update if keys[2 * i] is None else drop(update, self.config.dropout, keys[2 * i]))
            if self.graphs:
                update = self.graphs[i](self.graph_norms[i](h))
                h = h + (update if keys[2 * i + 1] is None else drop(update, self.config.dropout, keys[2 * i + 1]))
        outputs = self.heads(self.norm(h), signal, keys[-1], self.config.dropout)
        return {**outputs, "bands": jnp.stack(chosen, axis=1)}
