"""Several signals of one structure: each becomes a token, tokens look at each other, and what is there is pooled."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.config import ExecutionConfig, FusionConfig
from spt_jax.model.denoise import Constant, NoiseFilter
from spt_jax.model.dropout import drop
from spt_jax.model.gaps import Gaps
from spt_jax.model.heads import HeadSpec, by_name, outputs_of
from spt_jax.model.linear import Linear
from spt_jax.model.radial import RadialEncoder
from spt_jax.model.sources import Sources
from spt_jax.model.spt import ELEMENTS, SPT
from spt_jax.model.standardise import ByElement
from spt_jax.shapes import Array, Bool, Float, Int

# How many a network can tell apart; a dataset has a few of them.
TECHNIQUES, EDGES = 8, 16
# Sites of dropout, behind those of SPT. Each signal has a key of its own, which is one of these of its row's.
SIGNALS, LAYERS, DENSE = 3000, 4000, 5000


class Slot(NamedTuple):
    """What one signal of a row is, each by a number. element: 0 for that of the row."""

    is_spectrum: bool
    element: int
    edge: int
    technique: int


def masked_softmax(score: Float[Array, "B S *rest"], there: Bool[Array, "B S"]) -> Float[Array, "B S *rest"]:
    """Softmax over the signals that are there, in float32. The others weigh exactly 0; where none is, all do."""
    score = score.astype(jnp.float32)
    there = there.reshape(*there.shape, *(1,) * (score.ndim - 2))
    top = jax.lax.stop_gradient(jnp.where(there, score, -jnp.inf).max(axis=1, keepdims=True))
    weight = jnp.where(there, jnp.exp(jnp.where(there, score - top, 0)), 0)
    total = weight.sum(axis=1, keepdims=True)
    # No maximum: of one signal the sum is 1, and a maximum with 1 would pass half of its gradient.
    return weight / jnp.where(total > 0, total, 1)


class SignalLayer(nnx.Module):
    """Attention between the tokens of a row, then a dense layer, each normed before and added (arXiv 2002.04745)."""

    def __init__(self, width: int, heads: int, *, dtype: str, rngs: nnx.Rngs):
        self.heads = heads
        self.norm, self.dense_norm = (nnx.LayerNorm(width, dtype=dtype, rngs=rngs) for _ in range(2))
        self.inward = Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.out = Linear(width, width, dtype=dtype, rngs=rngs)
        self.wide = Linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.narrow = Linear(2 * width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, tokens: Float[Array, "B S d"], there: Bool[Array, "B S"], dropout: float, keys: Array | None, site: int
    ) -> Float[Array, "B S d"]:
        query, key, value = jnp.split(self.inward(self.norm(tokens)), 3, axis=-1)
        query, key, value = (each.reshape(*each.shape[:2], self.heads, -1) for each in (query, key, value))
        score = jnp.einsum("bqhc,bkhc->bkqh", query, key) / math.sqrt(query.shape[-1])
        weights = masked_softmax(score, there).astype(value.dtype)
        mixed = jnp.einsum("bkqh,bkhc->bqhc", weights, value).reshape(tokens.shape)
        tokens = tokens + drop(self.out(mixed), dropout, keys, site)
        dense = self.narrow(jax.nn.gelu(self.wide(self.dense_norm(tokens))))
        return tokens + drop(dense, dropout, keys, site + 1)


class Fusion(nnx.Module):
    """Rows of S signals, side by side -> outputs of every head; made and called as SPT is.

    energy: (L,) of one signal. mean (S L,) and covariance (S L, S L) of rows over the training set; each signal is filled
    where it has gaps, freed of noise where it is a spectrum, and standardised by its own. A signal of which no number is
    known has no say: it weighs 0 in every attention. Where no signal is known the answer is that of the dense layers to
    zeros. Nothing of a row reaches another.
    """

    def __init__(
        self,
        config: FusionConfig,
        heads: tuple[HeadSpec, ...],
        energy: np.ndarray,
        mean: np.ndarray,
        covariance: np.ndarray,
        execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008, it is frozen
        by_element: tuple[np.ndarray, np.ndarray] | None = None,
        *,
        slots: tuple[Slot, ...],
        rngs: nnx.Rngs,
    ):
        length, dtype, d = len(energy), execution.dtype, config.width
        self.config, self.execution, self.slots, self.specs = config, execution, slots, heads
        parts = [slice(i * length, (i + 1) * length) for i in range(len(slots))]
        own = [(mean[part], covariance[part, part]) for part in parts]
        self.fillers = nnx.List([Gaps(*each) for each in own])
        filters = [NoiseFilter(*each) for each, slot in zip(own, slots, strict=True) if slot.is_spectrum]
        self.noise_filters = nnx.List(filters if config.trunk.denoise else [])
        self.by_element = ByElement(*by_element) if by_element else None
        if not by_element:
            std = np.sqrt(np.diag(covariance)).reshape(len(slots), length)
            std = np.maximum(std, np.maximum(1e-3 * std.max(axis=1, keepdims=True), 1e-6))
            self.mean, self.std = (Constant(jnp.asarray(each.ravel(), jnp.float32)) for each in (mean, std))
        spectra = sum(slot.is_spectrum for slot in slots)
        # What it is given is whole and standardised already.
        trunk, given = replace(config.trunk, denoise=False, gaps=False), (energy, np.zeros(length), np.eye(length))
        self.trunk = SPT(trunk, (), *given, execution, rngs=rngs) if spectra else None
        self.of_trunk = Linear(trunk.hidden, d, dtype=dtype, rngs=rngs) if spectra else None
        functions = len(slots) - spectra
        self.radial = RadialEncoder(length, config.channels, d, dtype=dtype, rngs=rngs) if functions else None
        near = nnx.initializers.normal(0.02)
        self.element, self.edge, self.technique = (
            nnx.Embed(count, d, embedding_init=near, rngs=rngs) for count in (ELEMENTS, EDGES, TECHNIQUES)
        )
        self.layers = nnx.List([SignalLayer(d, config.heads, dtype=dtype, rngs=rngs) for _ in range(config.layers)])
        self.norm = nnx.LayerNorm(d, dtype=dtype, rngs=rngs)
        self.query = Linear(d, config.heads, use_bias=False, dtype=dtype, rngs=rngs)
        self.value = Linear(d, d, dtype=dtype, rngs=rngs)
        widths = (d, *(config.hidden,) * config.hidden_layers)
        self.dense = nnx.List([Linear(*pair, dtype=dtype, rngs=rngs) for pair in pairwise(widths)])
        self.outputs = Linear(config.hidden, outputs_of(heads), dtype=jnp.float32, rngs=rngs)

    @property
    def sources(self) -> Sources | None:
        """Of the trunk."""
        return self.trunk.sources if self.trunk else None

    def __call__(
        self,
        spectrum: Float[Array, "B L"],
        atomic_number: Int[Array, "B"],
        keys: Array | None = None,
        source: Int[Array, "B"] | None = None,
    ) -> dict[str, Array]:
        """Head outputs. `keys`, one a row, turn dropout on; source: as of SPT."""
        return self._run(spectrum, atomic_number, keys, source)[0]

    def explained(
        self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"]
    ) -> tuple[dict[str, Array], Float[Array, "B S H"]]:
        """What `__call__` gives, and the weight of each signal in the pooling of each head: their sum is one."""
        return self._run(spectrum, atomic_number, None, None)

    def there(self, spectrum: Float[Array, "B L"]) -> Bool[Array, "B S"]:
        """Is any number of the signal known?"""
        return jnp.isfinite(spectrum).reshape(spectrum.shape[0], len(self.slots), -1).any(axis=2)

    def with_each(
        self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"], choices: Bool[Array, "C S"]
    ) -> dict[str, Array]:
        """(C, B, ...) outputs for each choice of signals, as if the others were missing; each signal is encoded once."""
        with self._precision():
            tokens = self._tokens(self._signals(spectrum, atomic_number), atomic_number, None, None)
            there = self.there(spectrum)
            return jax.vmap(lambda choice: self._answered(tokens, there & choice, None)[0])(choices)

    def _precision(self):
        # As SPT: accelerators would otherwise round the factors of float32 products.
        return jax.default_matmul_precision("highest" if self.execution.dtype == "float32" else "default")

    def _run(self, spectrum, atomic_number, keys, source):
        with self._precision():
            tokens = self._tokens(self._signals(spectrum, atomic_number), atomic_number, keys, source)
            return self._answered(tokens, self.there(spectrum), keys)

    def _answered(self, tokens, there, keys):
        rate = self.config.dropout
        for i, layer in enumerate(self.layers):
            tokens = layer(tokens, there, rate, keys, LAYERS + 2 * i)
        hidden, weights = self.pooled(tokens, there)
        for i, layer in enumerate(self.dense):
            hidden = drop(jax.nn.gelu(layer(hidden)), rate, keys, DENSE + i)
        return by_name(self.outputs(hidden.astype(jnp.float32)), self.specs), weights

    def pooled(
        self, tokens: Float[Array, "B S d"], there: Bool[Array, "B S"]
    ) -> tuple[Float[Array, "B d"], Float[Array, "B S H"]]:
        """Each head takes its part of what the signals say, weighed by a learnt query; and the weights, float32."""
        tokens = self.norm(tokens)
        weights = masked_softmax(self.query(tokens), there)
        value = self.value(tokens).reshape(*weights.shape, -1)
        return (weights[..., None].astype(value.dtype) * value).sum(axis=1).reshape(tokens.shape[0], -1), weights

    def _signals(self, spectrum: Float[Array, "B L"], atomic_number: Int[Array, "B"]) -> Float[Array, "B S P"]:
        """Each signal standardised, without a NaN."""
        filled, found, filters = [], [], iter(self.noise_filters)
        for slot, gaps, signal in zip(self.slots, self.fillers, self._parted(spectrum), strict=True):
            whole, known = gaps.fill(signal)
            if slot.is_spectrum and self.noise_filters:
                whole = next(filters)(whole, known)
            filled.append(whole)
            found.append(known)
        row = jnp.concatenate(filled, axis=1)
        row = self.by_element(row, atomic_number) if self.by_element else (row - self.mean[...]) / self.std[...]
        each = zip(self.fillers, self._parted(row), found, strict=True)
        return jnp.stack([gaps.mark(signal, known) for gaps, signal, known in each], axis=1)

    def _parted(self, row: Float[Array, "B L"]) -> list[Float[Array, "B P"]]:
        return jnp.split(row, len(self.slots), axis=1)

    def _tokens(self, signals: Float[Array, "B S P"], atomic_number, keys, source) -> Float[Array, "B S d"]:
        """What each signal shows, and which it is."""
        batch, count = signals.shape[:2]
        own, edge, technique = (jnp.array(each) for each in list(zip(*self.slots, strict=True))[1:])
        element = jnp.where(own > 0, own, atomic_number[:, None])
        keys = None if keys is None else keys_of_signals(keys, count)
        source = None if source is None else jnp.repeat(source[:, None], count, axis=1)
        parts, order = [], []
        for encode, is_spectrum in ((self._of_spectra, True), (self._of_functions, False)):
            which = np.array([i for i, slot in enumerate(self.slots) if slot.is_spectrum is is_spectrum], int)
            if len(which):
                # The signals of a row stay together, so that it may lie on any device.
                rows = (array[:, which].reshape(batch * len(which), *array.shape[2:]) for array in (signals, element))
                more = (each if each is None else each[:, which].reshape(-1) for each in (keys, source))
                parts.append(encode(*rows, *more).reshape(batch, len(which), -1))
                order += which.tolist()
        tokens = jnp.concatenate(parts, axis=1)[:, np.argsort(order)]
        name = self.element(element) + self.edge(edge) + self.technique(technique)
        return tokens + name.astype(tokens.dtype)

    def _of_spectra(self, signals, element, keys, source) -> Float[Array, "R d"]:
        return self.of_trunk(self.trunk.hidden(signals, element, keys, source))

    def _of_functions(self, signals, element, keys, source) -> Float[Array, "R d"]:
        return self.radial(signals.astype(self.execution.dtype), self.config.dropout, keys)


def keys_of_signals(keys: Array, count: int) -> Array:
    """(B, S) of (B,) keys of rows."""
    return jax.vmap(lambda key: jax.vmap(lambda site: jax.random.fold_in(key, site))(SIGNALS + jnp.arange(count)))(keys)
