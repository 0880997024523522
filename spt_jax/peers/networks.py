"""What every network that SPT is compared with has in common, and the two plainest: an MLP and a CNN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.config import ExecutionConfig, PeerConfig
from spt_jax.model.attention import windows
from spt_jax.model.bands import band_input_map
from spt_jax.model.denoise import Constant
from spt_jax.model.dropout import drop
from spt_jax.model.gaps import Gaps
from spt_jax.model.heads import HeadSpec, by_name, outputs_of
from spt_jax.model.linear import Linear
from spt_jax.model.radial import halved
from spt_jax.model.sources import Sources, of_site
from spt_jax.model.spt import ELEMENTS
from spt_jax.model.standardise import ByElement
from spt_jax.shapes import Array, Float, Int


class Peer(nnx.Module):
    """mu on the energy grid -> outputs of every head, made and called as SPT is.

    The input is SPT's own, mu standardised at each energy over the training set, or over its element there; all
    descriptors are one linear map of the (B, features) that a subclass makes of it.
    """

    element: nnx.Embed

    def __init__(
        self,
        config: PeerConfig,
        heads: tuple[HeadSpec, ...],
        energy: np.ndarray,
        mean: np.ndarray,
        covariance: np.ndarray,
        execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008, it is frozen; peers have one way to be computed
        by_element: tuple[np.ndarray, np.ndarray] | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        self.config, self.specs = config, heads
        self.gaps = Gaps(mean, covariance) if config.gaps else None
        self.by_element = ByElement(*by_element) if by_element else None
        if not by_element:
            linear, offset = band_input_map("standardised", energy, mean, np.sqrt(np.diag(covariance)))
            self.input_scale = Constant(jnp.asarray(np.diag(linear), jnp.float32))
            self.input_offset = Constant(jnp.asarray(offset, jnp.float32))
        self.sources = Sources(config.width) if config.sources else None
        self.outputs = Linear(self.build(config, len(energy), rngs), outputs_of(heads), rngs=rngs)

    def build(self, config: PeerConfig, length: int, rngs: nnx.Rngs) -> int:
        """Make all layers but the last, for `length` energies; returns how many features they give."""
        raise NotImplementedError

    def elements(self) -> nnx.Embed:
        """A learnt vector of each element, of `width` numbers."""
        return self.element

    def features(
        self, signal: Float[Array, "B L"], site: Float[Array, "B d"], keys: Array | None
    ) -> Float[Array, "B f"]:
        """What all heads read. site: as `sources.of_site` makes it."""
        raise NotImplementedError

    def __call__(
        self,
        spectrum: Float[Array, "B L"],
        atomic_number: Int[Array, "B"],
        keys: Array | None = None,
        source: Int[Array, "B"] | None = None,
    ) -> dict[str, Array]:
        """Head outputs. `keys`, one a row, turn dropout on; source: as of SPT."""
        # As SPT: accelerators would otherwise round the factors of float32 products.
        with jax.default_matmul_precision("highest"):
            spectrum, known = self.gaps.fill(spectrum) if self.gaps else (spectrum, None)
            if self.by_element:
                signal = self.by_element(spectrum, atomic_number)
            else:
                signal = spectrum * self.input_scale[...] + self.input_offset[...]
            signal = self.gaps.mark(signal, known) if self.gaps else signal
            site = of_site(self.elements(), self.sources, atomic_number, source)
            return by_name(self.outputs(self.features(signal, site, keys)), self.specs)


class MLP(Peer):
    """`depth` times Dropout(ReLU(Linear)), the MLP of Gorishniy et al. (arXiv 2106.11959, section 3.1)."""

    def build(self, config: PeerConfig, length: int, rngs: nnx.Rngs) -> int:
        d = config.width
        # A learnt vector for each element, added to the first layer, is that layer's map of a one-hot element.
        self.element = nnx.Embed(ELEMENTS, d, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.layers = nnx.List([Linear(length if i == 0 else d, d, rngs=rngs) for i in range(config.depth)])
        return d

    def features(
        self, signal: Float[Array, "B L"], site: Float[Array, "B d"], keys: Array | None
    ) -> Float[Array, "B f"]:
        x = signal
        for i, layer in enumerate(self.layers):
            x = layer(x) + site if i == 0 else layer(x)
            x = drop(jax.nn.relu(x), self.config.dropout, keys, i)
        return x


class CNN(Peer):
    """`depth` residual blocks x + Conv(GELU(LayerNorm(x))), each followed by a mean over pairs of energies.

    A plain 1-D network of no paper. What is left of the energy axis is flattened, not averaged: where a feature
    stands tells an oxidation state. Sequences are (L, B, d) as in SPT, and a convolution is one matrix product.
    """

    def build(self, config: PeerConfig, length: int, rngs: nnx.Rngs) -> int:
        d = config.width
        self.embed = Linear(config.kernel, d, rngs=rngs)
        self.element = nnx.Embed(ELEMENTS, d, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(d, rngs=rngs) for _ in range(config.depth)])
        self.convolutions = nnx.List([Linear(config.kernel * d, d, rngs=rngs) for _ in range(config.depth)])
        for _ in range(config.depth):
            length = -(-length // 2)
        self.norm = nnx.LayerNorm(d, rngs=rngs)
        self.shared = Linear(length * d, 4 * d, rngs=rngs)
        return 4 * d

    def features(
        self, signal: Float[Array, "B L"], site: Float[Array, "B d"], keys: Array | None
    ) -> Float[Array, "B f"]:
        rate, reach = self.config.dropout, self.config.kernel // 2
        x = self.embed(jnp.stack(windows(signal.T, reach), axis=-1)) + site
        for i, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            update = convolution(jnp.concatenate(windows(jax.nn.gelu(norm(x)), reach), axis=-1))
            x = halved(x + drop(update, rate, keys, i, axis=1))
        flat = self.norm(x).swapaxes(0, 1).reshape(signal.shape[0], -1)
        return drop(jax.nn.gelu(self.shared(flat)), rate, keys, len(self.norms))
