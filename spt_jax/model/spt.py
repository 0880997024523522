"""The Spectral Pattern Translator: embedding, band-folding and attention blocks, heads. Arrays in, arrays out."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.errors import RunError
from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.attention import BandedAttention
from spt_jax.model.bands import (
    band_input_map,
    band_strength,
    filtered_strength,
    neighbours,
    period,
    picks_outside,
    select_bands,
)
from spt_jax.model.denoise import Constant, NoiseFilter
from spt_jax.model.dropout import drop, drop_channels
from spt_jax.model.folding import fixed_tap_convolutions, tap_convolutions
from spt_jax.model.gaps import Gaps
from spt_jax.model.gpu import block as gpu
from spt_jax.model.heads import Heads, HeadSpec
from spt_jax.model.kernels import kernels_for, platform
from spt_jax.model.linear import Linear
from spt_jax.model.plan import candidates, make_plan
from spt_jax.model.sources import Sources, of_site
from spt_jax.model.spectral import spectral
from spt_jax.model.standardise import ByElement
from spt_jax.model.tpu import block as tpu
from spt_jax.shapes import Array, Float, Int

ELEMENTS = 100
EMBEDDING_KERNEL = 5


class Inside(NamedTuple):
    """What one block did with each spectrum, computed on the way in any case; whoever does not ask pays nothing.

    shares: (B, k), the weight of each chosen band in the fusion, summing to one. attention: (W, L, B, H), of each
    energy to its window, summing to one; None in a network without attention.
    """

    shares: Array
    attention: Array | None


class BandBlock(nnx.Module):
    """Fold at the chosen bands, convolve in 2-D, fuse by a query from the global context (paper, multi-scale bands)."""

    def __init__(self, config: ModelConfig, execution: ExecutionConfig, *, rngs: nnx.Rngs):
        self.config, self.folding = config, execution.folding
        d, size, dtype = config.width, config.kernel, execution.dtype
        fan_in = size * size * d
        self.weights = nnx.Param(jax.random.normal(rngs.params(), (size, size, d, d)) / math.sqrt(fan_in))
        self.bias = nnx.Param(jnp.zeros(d))
        if config.fusion == "query":
            self.query = nnx.Param(jax.random.normal(rngs.params(), (d,)))
            self.context = Linear(d, d, dtype=dtype, rngs=rngs)
            self.project = Linear(d, d, dtype=dtype, rngs=rngs)
            self.key = Linear(d, d, dtype=dtype, rngs=rngs)
        self.out = Linear(d, d, dtype=dtype, rngs=rngs)

    def __call__(
        self, h: Float[Array, "L B d"], bands: Int[Array, "B k"], kernels: str | None = None
    ) -> tuple[Float[Array, "L B d"], Float[Array, "B k"]]:
        """What the bands add to the sequence, and the share of each in it."""
        periods = period(bands, len(h))
        if kernels == "gpu":
            fused, share = gpu.fused_bands(self, h, periods)
            return self.out(fused), share
        # When it is traced, for the platform that it is traced for: a network may be built where it will not run.
        plan = make_plan(self.config, len(h), self.folding, platform())
        if plan is None and self.config.band_mode == "fixed":
            shared = tuple(-(-len(h) // frequency) for frequency in candidates(self.config))
            convolved, same = fixed_tap_convolutions(h, self.weights[...], shared), None
        elif plan is None:
            convolved, same = tap_convolutions(h, self.weights[...], periods), None
        else:
            convolved = [spectral(h, self.weights[...], grid) for grid in plan]
            planned = np.array([grid.period for grid in plan])
            same = periods[:, :, None] == planned
        features = [jax.nn.gelu(each + self.bias[...].astype(h.dtype)) for each in convolved]
        score = self._score(h, features, bands, same)
        if same is None:
            share = of_band = jax.nn.softmax(score, axis=-1)
        else:
            times = same.sum(axis=1)
            share = masked_shares(score, times)
            of_band = (same * (share / jnp.maximum(times, 1))[:, None]).sum(axis=-1)
        share = share.astype(h.dtype)
        fused = sum(share[:, i, None] * each for i, each in enumerate(features))
        return self.out(fused), of_band

    def _score(self, h, features: list[Array], bands: Int[Array, "B k"], same: Array | None) -> Float[Array, "B S"]:
        """Of each folded sequence, before the softmax. same: (B, k, S), which of them belongs to a chosen band."""
        if self.config.fusion == "query":
            context = self.project(jax.nn.gelu(self.context(h.mean(axis=0))))
            query = context + self.query[...].astype(h.dtype)
            keys = self.key(jnp.stack([each.mean(axis=0) for each in features]))
            return jnp.einsum("bd,kbd->bk", query, keys).astype(jnp.float32) / math.sqrt(h.shape[-1])
        if self.config.fusion == "mean":
            return jnp.zeros((h.shape[1], len(features)))
        strength = band_strength(jax.lax.stop_gradient(h), self.config.highest_band)
        strength = jnp.take_along_axis(strength, bands - 1, axis=1)
        return strength if same is None else (same * strength[:, :, None]).max(axis=1)


def masked_shares(score: Float[Array, "B S"], times: Int[Array, "B S"]) -> Float[Array, "B S"]:
    """Softmax over periods, each counted as often as it was chosen: two frequencies may share one, most choose none."""
    top = jax.lax.stop_gradient(jnp.where(times > 0, score, -jnp.inf).max(axis=-1, keepdims=True))
    weight = times * jnp.exp(jnp.where(times > 0, score - top, 0.0))
    return weight / weight.sum(axis=-1, keepdims=True)


class SPT(nnx.Module):
    """mu on the energy grid -> outputs of every head.

    energy: (L,). mean (L,) and covariance (L, L) of mu over the training set, from which the noise filter and the
    band input map are made. by_element: (Z, L) mean and standard deviation of each element, where mu
    is standardised by these. Nothing of a batch reaches another row of it (except with band_mode "batch").
    """

    def __init__(
        self,
        config: ModelConfig,
        heads: tuple[HeadSpec, ...],
        energy: np.ndarray,
        mean: np.ndarray,
        covariance: np.ndarray,
        execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008, it is frozen
        by_element: tuple[np.ndarray, np.ndarray] | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        length = len(energy)
        if config.highest_band > length // 2:
            raise RunError(f"highest_band ({config.highest_band}) exceeds the {length // 2} bands of {length} points")
        if config.window >= length:
            raise RunError(f"window ({config.window}) is wider than the spectrum ({length} points)")
        if by_element and config.band_input != "standardised":
            raise RunError(f"standardise by element goes with band_input standardised, not {config.band_input}")
        self.config, self.execution = config, execution
        self.gaps = Gaps(mean, covariance) if config.gaps else None
        self.noise_filter = NoiseFilter(mean, covariance) if config.denoise else None
        self.by_element = ByElement(*by_element) if by_element else None
        if not by_element:
            linear, offset = band_input_map(config.band_input, energy, mean, np.sqrt(np.diag(covariance)))
            self.input_linear = Constant(jnp.asarray(linear, jnp.float32))
            self.input_offset = Constant(jnp.asarray(offset, jnp.float32))
        d, dtype = config.width, execution.dtype
        self.embed = Linear(EMBEDDING_KERNEL, d, dtype=dtype, rngs=rngs)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, d)))
        self.element = nnx.Embed(ELEMENTS, d, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.sources = Sources(d) if config.sources else None
        folds = config.blocks if config.bands else 0
        self.band_norms = nnx.List([nnx.LayerNorm(d, dtype=dtype, rngs=rngs) for _ in range(folds)])
        self.band_blocks = nnx.List([BandBlock(config, execution, rngs=rngs) for _ in range(folds)])
        graph = config.blocks if config.attention != "none" else 0
        self.graph_norms = nnx.List([nnx.LayerNorm(d, dtype=dtype, rngs=rngs) for _ in range(graph)])
        self.graphs = nnx.List(
            [
                BandedAttention(d, config.attention_heads, config.window, config.attention, dtype=dtype, rngs=rngs)
                for _ in range(graph)
            ]
        )
        self.norm = nnx.LayerNorm(d, dtype=dtype, rngs=rngs)
        self.heads = Heads(
            heads, length, d, config.readout_channels, config.hidden, config.hidden_layers, dtype=dtype, rngs=rngs
        )

    def band_input(self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"]) -> Float[Array, "B L"]:
        """mu -> the signal that the network sees and selects bands on."""
        spectrum, known = self.gaps.fill(spectrum) if self.gaps else (spectrum, None)
        spectrum = self.noise_filter(spectrum, known) if self.noise_filter else spectrum
        if self.by_element:
            signal = self.by_element(spectrum, atomic_number)
        else:
            signal = jnp.matmul(spectrum, self.input_linear[...], precision="highest") + self.input_offset[...]
        return self.gaps.mark(signal, known) if self.gaps else signal

    def picks_outside(self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"]) -> Int[Array, "B"]:
        """How many bands each spectrum would choose in the first block beyond the candidates, were there no limit."""
        h = self._embed(self.band_input(spectrum, atomic_number).astype(self.execution.dtype))
        return picks_outside(h, self.config.highest_band, self.config.bands)

    def __call__(
        self,
        spectrum: Float[Array, "B L"],
        atomic_number: Int[Array, "B"],
        keys: Array | None = None,
        source: Int[Array, "B"] | None = None,
    ) -> dict[str, Array]:
        """Head outputs, and "bands": (B, blocks, k), the frequencies chosen. `keys`, one a row, turn dropout on.

        source: as `schema.source_of` numbers it; where not given, what `Sources` is set to.
        """
        # Accelerators would otherwise round the factors of float32 products.
        with jax.default_matmul_precision("highest" if self.execution.dtype == "float32" else "default"):
            h, signal, chosen, _ = self._encode(spectrum, atomic_number, keys, source=source)
            return self._outputs(h, signal, chosen, keys)

    def explained(
        self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"], bands: Int[Array, "B N k"] | None = None
    ) -> tuple[dict[str, Array], tuple[Inside, ...]]:
        """What `__call__` gives, and what each of the N blocks did. `bands` take the place of the spectrum's choice."""
        with jax.default_matmul_precision("highest" if self.execution.dtype == "float32" else "default"):
            h, signal, chosen, inside = self._encode(spectrum, atomic_number, None, bands, look=True)
            return self._outputs(h, signal, chosen, None), inside

    def hidden(
        self,
        spectrum: Float[Array, "B L"],
        atomic_number: Int[Array, "B"],
        keys: Array | None = None,
        source: Int[Array, "B"] | None = None,
    ) -> Float[Array, "B H"]:
        """The layer that all heads share: what the network makes of a spectrum. keys, source: as of `__call__`."""
        with jax.default_matmul_precision("highest" if self.execution.dtype == "float32" else "default"):
            h, signal, *_ = self._encode(spectrum, atomic_number, keys, source=source)
            return self.heads.hidden(h, signal, self.config.dropout, keys)

    def _outputs(self, h, signal, chosen, keys) -> dict[str, Array]:
        return {**self.heads(h, signal, self.config.dropout, keys), "bands": chosen}

    def _encode(self, spectrum, atomic_number, keys, given=None, look=False, source=None):
        """All but the heads: the sequence (L, B, d), the band input, the bands, and what each block did if asked."""
        signal = self.band_input(spectrum, atomic_number).astype(self.execution.dtype)
        h = self._embed(signal)
        # Positions are the same for every spectrum and would drown its own bands: they join after the first choice.
        site = of_site(self.element, self.sources, atomic_number, source)
        fixed = (self.position[...][:, None] + site).astype(h.dtype)
        kernels = None if look else kernels_for(self.config, self.execution, signal.shape[1], signal.shape[0])
        block = self._block_as_kernels if kernels == "tpu" else partial(self._block, kernels)
        chosen, inside = [], []
        for i in range(self.config.blocks):
            bands = self._bands(i, signal, h) if given is None else given[:, i]
            chosen.append(bands)
            if i == 0:
                h = h + fixed
            run = partial(block, i)
            h, seen = (jax.checkpoint(run) if self.execution.remat else run)(h, bands, keys)
            inside.append(seen)
        return self.norm(h), signal, jnp.stack(chosen, axis=1), tuple(inside)

    def _embed(self, signal: Float[Array, "B L"]) -> Float[Array, "L B d"]:
        """Inside, sequences are (L, B, d): the DFT along energy is one matrix product, and a neighbour a slab away."""
        moved = neighbours(signal.T.astype(jnp.float32), EMBEDDING_KERNEL)
        # Five products of one number with d: passes over memory, which a product of matrices does not spare.
        h = sum(each[..., None] * weight for each, weight in zip(moved, self.embed.kernel[...], strict=True))
        return (h + self.embed.bias[...]).astype(signal.dtype)

    def _bands(self, i: int, signal: Float[Array, "B L"], h: Float[Array, "L B d"]) -> Int[Array, "B k"]:
        """The frequencies that each spectrum is folded at in block i. A choice has no gradient."""
        if not self.band_blocks:
            return jnp.zeros((signal.shape[0], 0), jnp.int32)
        highest, signal, h = self.config.highest_band, *jax.lax.stop_gradient((signal, h))
        if i == 0:
            strength = filtered_strength(signal.T, jax.lax.stop_gradient(self.embed.kernel[...]), highest)
        else:
            strength = band_strength(h, highest)
        return select_bands(strength, self.config.bands, self.config.band_mode)

    def _block(self, kernels: str | None, i: int, h, bands, keys) -> tuple[Float[Array, "L B d"], Inside]:
        """Folding, then attention, each added to what it was given."""
        shares = jnp.zeros(bands.shape)
        if self.band_blocks:
            update, shares = self.band_blocks[i](self.band_norms[i](h), bands, kernels)
            h = h + drop_channels(update, self.config.dropout, keys, 2 * i)
        if not self.graphs:
            return h, Inside(shares, None)
        update, attention = self.graphs[i].attend(self.graph_norms[i](h), kernels)
        return h + drop_channels(update, self.config.dropout, keys, 2 * i + 1), Inside(shares, attention)

    def _block_as_kernels(self, i: int, h, bands, keys) -> tuple[Float[Array, "L B d"], None]:
        """The same, each half as one kernel, which tells nothing of what it did."""

        def kept(site: int) -> Float[Array, "B d"]:
            return drop(jnp.ones(h.shape[1:]), self.config.dropout, keys, site)

        if self.band_blocks:
            h = tpu.band_update(h, bands, kept(2 * i), self.band_norms[i], self.band_blocks[i], self.execution)
        if self.graphs:
            h = tpu.attention_update(h, kept(2 * i + 1), self.graph_norms[i], self.graphs[i], self.execution.dtype)
        return h, None
