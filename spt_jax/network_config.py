"""Which network: SPT, one that it is compared with, the one for several signals, or the one for pixels of images.
`config.py` has the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from data_pipelines.errors import RunError
from data_pipelines.ranges import Range, check
from data_pipelines.schema import SOURCE

BandInput = Literal["raw", "standardised", "background", "derivative", "kspace"]
Standardise = Literal["together", "element"]
BandMode = Literal["per_sample", "batch", "fixed"]
Folding = Literal["auto", "taps", "spectral"]
SLOPE = 0.2  # of the leaky ReLU in graph attention, as in its paper
SOURCES = 1 + len(SOURCE.classes)  # as `schema.source_of` numbers them


Count = Annotated[int, Range(least=1)]
Share = Annotated[float, Range(least=0, below=1)]


@dataclass(frozen=True)
class ModelConfig:
    """The SPT network (paper, section on the Spectral Pattern Translator)."""

    width: Count = 48
    """Channels d of the hidden sequence."""
    blocks: Count = 2
    """Band-folding + attention blocks."""
    denoise: bool = True
    """Take the noise out of mu first, as much as each spectrum is found to have."""
    band_input: BandInput = "standardised"
    """What the network sees of mu, and so what its bands are selected on."""
    standardise: Standardise = "together"
    """Mean and deviation of mu: of all training spectra, or where there are enough, of those of its element."""
    band_mode: BandMode = "per_sample"
    """Bands of each spectrum (batch prediction = single prediction), of the batch, or a fixed set."""
    bands: Annotated[int, Range(least=0)] = 3
    """k: bands kept of each spectrum; 0 leaves the folding out."""
    highest_band: Count = 12
    """Frequencies 1..highest_band compete for the k places; mode `fixed` takes the first k."""
    kernel: Count = 3
    """Rows and columns of the 2-D convolution on the folded grid; odd."""
    fusion: Literal["query", "amplitude", "mean"] = "query"
    """What weighs the folded bands: a learnt query, their strength (as TimesNet does), or nothing."""
    attention: Literal["gatv1", "gatv2", "none"] = "gatv1"
    """Order of the graph attention score."""
    attention_heads: Count = 2
    window: Annotated[int, Range(least=0)] = 4
    """w: energy point i attends to i-w..i+w."""
    readout_channels: Count = 8
    """Channels kept of each energy point for the heads."""
    hidden: Count = 512
    """Width of the dense layers shared by all heads."""
    hidden_layers: Count = 3
    """How many of them."""
    dropout: Share = 0.1
    gaps: bool = False
    """Take spectra that are not known at some energies (NaN); on by itself where the grid of the data has such."""
    sources: bool = False
    """Tell the network which version of FEFF calculated a spectrum, where that is known."""

    def __post_init__(self) -> None:
        check(self)
        if self.bands > self.highest_band:
            raise RunError(f"bands ({self.bands}) must not exceed highest_band ({self.highest_band})")
        if self.kernel % 2 == 0:
            raise RunError(f"kernel must be odd, got {self.kernel}")
        if self.width % self.attention_heads:
            raise RunError(f"width ({self.width}) must be a multiple of attention_heads ({self.attention_heads})")

    @property
    def name(self) -> str:
        return "SPT"

    @property
    def whole_batch(self) -> bool:
        """Does the answer to one row depend on the others?"""
        return self.band_mode == "batch"


@dataclass(frozen=True)
class PeerConfig:
    """A network that SPT is compared with: same inputs, heads and training."""

    kind: Literal["mlp", "cnn", "ft_transformer", "amformer"]
    width: Count
    """Units of a hidden layer, channels, or numbers of a token."""
    depth: Count
    """Hidden layers, or residual blocks."""
    dropout: Share = 0.1
    kernel: Count = 5
    """CNN: energies under the kernel; odd."""
    heads: Count = 8
    """Transformers: attention heads."""
    patch: Count = 4
    """Transformers: neighbouring energies to a token; 1 is one token for each feature, as in the papers."""
    prompts: Count = 16
    """AMFormer: queries of an attention, and so tokens after it."""
    kept: Count = 8
    """AMFormer: tokens that a query attends to, the strongest; the rest get nothing."""
    standardise: Standardise = "together"
    """As of ModelConfig."""
    gaps: bool = False
    """Take spectra that are not known at some energies (NaN); on by itself where the grid of the data has such."""
    sources: bool = False
    """As of ModelConfig."""

    def __post_init__(self) -> None:
        check(self)
        if self.kernel % 2 == 0:
            raise RunError(f"kernel must be odd, got {self.kernel}")
        if self.kind in ("ft_transformer", "amformer") and self.width % self.heads:
            raise RunError(f"width ({self.width}) must be a multiple of heads ({self.heads})")

    @property
    def name(self) -> str:
        return self.kind

    @property
    def whole_batch(self) -> bool:
        """As of ModelConfig."""
        return False


@dataclass(frozen=True)
class FusionConfig:
    """Several signals of one structure: a trunk for all spectra, an encoder for all PDFs, attention over what there is."""

    trunk: ModelConfig = field(default_factory=lambda: ModelConfig(bands=0, attention="none", hidden=256))
    """SPT up to the layer that its heads share. `gaps` is always on, and `denoise` is of each signal by itself."""
    width: Count = 128
    """Numbers that stand for a signal."""
    heads: Count = 4
    """Of attention, between the signals and over them."""
    layers: Annotated[int, Range(least=0)] = 1
    """How often signals look at each other before they are pooled."""
    channels: Count = 32
    """Of the convolutions along a PDF."""
    hidden: Count = 256
    """Width of the dense layers behind the pooling."""
    hidden_layers: Count = 2
    """How many of them."""
    dropout: Share = 0.1
    """Of all but the trunk, which has its own."""

    def __post_init__(self) -> None:
        check(self)
        if self.width % self.heads:
            raise RunError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        if self.trunk.band_input != "standardised":
            raise RunError(f"trunk.band_input must be standardised for several signals, not {self.trunk.band_input}")

    @property
    def name(self) -> str:
        return "fusion"

    @property
    def whole_batch(self) -> bool:
        return self.trunk.whole_batch

    @property
    def standardise(self) -> Standardise:
        return self.trunk.standardise

    @property
    def sources(self) -> bool:
        return self.trunk.sources

    @property
    def gaps(self) -> bool:
        """A signal that is not there is one."""
        return True


def _small() -> ModelConfig:
    """SPT as the trunk for pixels, of which there are many."""
    small = {"width": 16, "blocks": 1, "bands": 2, "readout_channels": 4, "hidden": 128, "hidden_layers": 2}
    return ModelConfig(**small, denoise=False, dropout=0.0)


@dataclass(frozen=True)
class LatentConfig:
    """A variational autoencoder of edges of energy loss: one latent space for what is calculated and what is measured."""

    trunk: ModelConfig | None = field(default_factory=_small)
    """SPT up to the layer that its heads share, beside the dense layers; None leaves these alone, which is ten times as fast."""
    latent: Count = 8
    """Numbers that stand for an edge."""
    directions: Count = 48
    """Directions in which edges vary most, by which the dense layers see an edge and the decoder draws one."""
    hidden: Count = 128
    """Width of the dense layers of encoder and decoder."""
    hidden_layers: Count = 2

    def __post_init__(self) -> None:
        check(self)
        if self.trunk and self.trunk.band_input != "standardised":
            raise RunError(f"trunk.band_input must be standardised for energy losses, not {self.trunk.band_input}")

    @property
    def name(self) -> str:
        return "latent"

    @property
    def whole_batch(self) -> bool:
        return bool(self.trunk and self.trunk.whole_batch)

    @property
    def standardise(self) -> Standardise:
        return "together"

    @property
    def sources(self) -> bool:
        return False

    @property
    def gaps(self) -> bool:
        return False


NetworkConfig = ModelConfig | PeerConfig | FusionConfig | LatentConfig
