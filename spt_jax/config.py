"""Frozen configuration and presets. Every field can be overridden on the command line by its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from data_pipelines.errors import RunError
from data_pipelines.schema import DESCRIPTORS, NAMES

BandInput = Literal["raw", "standardised", "background", "derivative", "kspace"]
BandMode = Literal["per_sample", "batch", "fixed"]


@dataclass(frozen=True)
class ModelConfig:
    """The SPT network (paper, section on the Spectral Pattern Translator)."""

    width: int = 48
    """Channels d of the hidden sequence."""
    blocks: int = 2
    """Band-folding + attention blocks."""
    denoise: bool = True
    """Take the noise out of mu first, as much as each spectrum is found to have."""
    band_input: BandInput = "standardised"
    """What the network sees of mu, and so what its bands are selected on."""
    band_mode: BandMode = "per_sample"
    """Bands of each spectrum (batch prediction = single prediction), of the batch, or a fixed set."""
    bands: int = 3
    """k: bands kept of each spectrum; 0 leaves the folding out."""
    highest_band: int = 12
    """Frequencies 1..highest_band compete for the k places; mode `fixed` takes the first k."""
    kernel: int = 3
    """Rows and columns of the 2-D convolution on the folded grid; odd."""
    fusion: Literal["query", "amplitude", "mean"] = "query"
    """What weighs the folded bands: a learnt query, their strength (as TimesNet does), or nothing."""
    folding: Literal["auto", "taps", "direct", "spectral", "separable"] = "auto"
    """How it is computed: counted out by `model/plan.py`, or forced. All give the same result."""
    attention: Literal["gatv1", "gatv2", "none"] = "gatv1"
    """Order of the graph attention score."""
    attention_heads: int = 4
    window: int = 4
    """w: energy point i attends to i-w..i+w."""
    readout_channels: int = 8
    """Channels kept of each energy point for the heads."""
    hidden: int = 512
    """Width of the dense layers shared by all heads."""
    hidden_layers: int = 3
    """How many of them."""
    dropout: float = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network; parameters and losses stay float32."""
    remat: bool = False
    """Compute the blocks again in the backward pass instead of keeping what they computed: less memory, more time."""

    def __post_init__(self) -> None:
        if not 0 <= self.bands <= self.highest_band:
            raise RunError(f"bands ({self.bands}) must be between 0 and highest_band ({self.highest_band})")
        if self.kernel % 2 == 0:
            raise RunError(f"kernel must be odd, got {self.kernel}")
        if self.window < 0 or self.kernel < 1:
            raise RunError("window and kernel must not be negative")
        if self.hidden_layers < 1:
            raise RunError("at least one hidden layer is needed")
        if self.width % self.attention_heads:
            raise RunError(f"width ({self.width}) must be a multiple of attention_heads ({self.attention_heads})")

    @property
    def whole_batch(self) -> bool:
        """Does the answer to one row depend on the others?"""
        return self.band_mode == "batch"


@dataclass(frozen=True)
class PeerConfig:
    """A network that SPT is compared with: same inputs, heads and training. `PEERS` has one of each kind."""

    kind: Literal["mlp", "cnn", "ft_transformer", "amformer"]
    width: int
    """Units of a hidden layer, channels, or numbers of a token."""
    depth: int
    """Hidden layers, or residual blocks."""
    dropout: float = 0.1
    kernel: int = 5
    """CNN: energies under the kernel; odd."""
    heads: int = 8
    """Transformers: attention heads."""
    patch: int = 4
    """Transformers: neighbouring energies to a token; 1 is one token for each feature, as in the papers."""
    prompts: int = 16
    """AMFormer: queries of an attention, and so tokens after it."""
    kept: int = 8
    """AMFormer: tokens that a query attends to, the strongest; the rest get nothing."""

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise RunError(f"kernel must be odd, got {self.kernel}")
        if min(self.width, self.depth, self.kernel, self.heads, self.patch, self.prompts, self.kept) < 1:
            raise RunError("all sizes of a network must be at least 1")
        if self.kind in ("ft_transformer", "amformer") and self.width % self.heads:
            raise RunError(f"width ({self.width}) must be a multiple of heads ({self.heads})")

    @property
    def whole_batch(self) -> bool:
        """As of ModelConfig."""
        return False


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, augmentation and early stopping."""

    descriptors: tuple[str, ...] = tuple(d.name for d in DESCRIPTORS)
    """Descriptors to learn: all (joint mode), or any subset (expert mode)."""
    input: Literal["resident", "stream"] = "resident"
    """Hold the whole training set on the device, or stream batches from disk."""
    epochs: int = 48
    batch_size: int = 64
    accumulate: int = 1
    """Pieces that a batch is computed in, one after the other: less memory, the same training."""
    share_parameters: bool = False
    """Keep on each device only its share of parameters and optimiser state, instead of all."""
    learning_rate: float = 2e-3
    warmup_epochs: float = 2.0
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    ema: float = 0.99
    """Decay per step of the averaged parameters, which are the ones validated and saved for inference."""
    noise: float = 0.005
    """Largest sigma of the Gaussian noise added to mu, in edge steps; each spectrum draws its own up to it."""
    energy_shift: float = 0.05
    """Standard deviation of a random shift of the energy axis, eV."""
    amplitude: float = 0.005
    """Standard deviation of a random factor on the edge step."""
    mixup: float = 0.0
    """Alpha of the Beta distribution of mixtures of two spectra of one element; 0 mixes nothing."""
    validate_every: int = 2
    """Epochs between validations, each followed by a checkpoint."""
    patience: int = 15
    """Validations without improvement before training stops; 0 never stops early."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.descriptors:
            raise RunError("at least one descriptor is needed")
        unknown = set(self.descriptors) - set(NAMES)
        if unknown:
            raise RunError(f"unknown descriptor {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
        if min(self.batch_size, self.epochs, self.accumulate) < 1:
            raise RunError("batch_size, epochs and accumulate must be at least 1")


@dataclass(frozen=True)
class Config:
    """All that defines a run, apart from its data."""

    model: ModelConfig | PeerConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def tiny() -> Config:
    """A few hundred spectra, two minutes on 2 CPU cores: the quickstart."""
    return Config(
        ModelConfig(width=32),
        TrainConfig(epochs=80, batch_size=32, noise=0.01, energy_shift=0.25, amplitude=0.02, mixup=0.4),
    )


def base() -> Config:
    """A few thousand, three minutes on 2 cores: Cu K F1 of CN 0.53, R2 of MBL 0.87."""
    return Config()


def large() -> Config:
    """Tens of thousands of spectra and more, on a GPU or TPU; not yet measured."""
    return Config(
        ModelConfig(width=256, blocks=4, bands=5, hidden=1024, dtype="bfloat16"),
        TrainConfig(batch_size=1024, learning_rate=1e-3, epochs=200),
    )


def inception() -> Config:
    """The ancestor's convolution (TimesNet: kernels 1 to 11 merged into one), the harder case for throughput."""
    return Config(ModelConfig(width=64, kernel=11))


PRESETS = {"tiny": tiny, "base": base, "large": large, "inception": inception}

PEERS = {
    "mlp": PeerConfig("mlp", width=512, depth=3),
    "cnn": PeerConfig("cnn", width=64, depth=5),
    "ft_transformer": PeerConfig("ft_transformer", width=48, depth=3),
    "amformer": PeerConfig("amformer", width=48, depth=3),
}
