"""Frozen configuration. Every field can be given on the command line by its name; `presets.py` has whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from data_pipelines.errors import RunError
from data_pipelines.ranges import Range, check
from data_pipelines.schema import DESCRIPTORS, NAMES, SHELL_NAMES, SOURCE, STRUCTURE_NAMES

BandInput = Literal["raw", "standardised", "background", "derivative", "kspace"]
Standardise = Literal["together", "element"]
BandMode = Literal["per_sample", "batch", "fixed"]
Folding = Literal["auto", "taps", "spectral"]
SLOPE = 0.2  # of the leaky ReLU in graph attention, as in its paper
SOURCES = 1 + len(SOURCE.classes)  # as `schema.source_of` numbers them


Count = Annotated[int, Range(least=1)]
Share = Annotated[float, Range(least=0, below=1)]
Amount = Annotated[float, Range(least=0)]


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


NetworkConfig = ModelConfig | PeerConfig | FusionConfig


@dataclass(frozen=True)
class LabelsConfig:
    """What is learnt: the labels of a spectrum, from copies of it as a detector might have seen it."""

    descriptors: tuple[str, ...] = tuple(d.name for d in DESCRIPTORS)
    """Descriptors to learn: all (joint mode), or any subset (expert mode). NN1 and NN2, the elements of the two shells,
    only where they are named."""
    label_smoothing: Share = 0.05
    noise: Amount = 0.005
    """Largest sigma of the Gaussian noise added to mu, in edge steps; each spectrum draws its own up to it."""
    energy_shift: Amount = 0.05
    """Standard deviation of a random shift of the energy axis, eV."""
    amplitude: Amount = 0.005
    """Standard deviation of a random factor on the edge step."""
    broadening: Amount = 0.0
    """Largest sigma of a Gaussian broadening 20 eV above the start of the grid, eV, and four times the largest at it; each
    spectrum draws its own. For measured spectra."""
    background: Amount = 0.0
    """Standard deviation of each end of a straight background, edge steps. For measured spectra."""
    self_absorption: Annotated[float, Range(least=0, most=0.5)] = 0.0
    """Largest share of the absorber in all absorption of a thick sample whose fluorescence is measured, which flattens its
    peaks; each spectrum draws its own. For measured spectra."""
    cut: Share = 0.0
    """Share of spectra that lose their end from a random energy on, where the grid does not require it."""
    mixup: Amount = 0.0
    """Alpha of the Beta distribution of mixtures of two spectra of one element; 0 mixes nothing."""
    signal_drop: Share = 0.0
    """Share of the signals that is hidden from each row of several, but never all: so any of them may be missing later."""
    source_drop: Share = 0.3
    """Share of spectra whose source a network with `sources` is not told, so that it learns to answer without; with 0 it
    does not."""
    teacher: str = ""
    """Run folder, packed file or model of the zoo that says what each view shows: learnt beside the labels."""
    teacher_share: Share = 0.9
    """Weight of what it says; labels have the rest. What it does not answer is learnt from labels alone."""

    def __post_init__(self) -> None:
        check(self)
        if not self.descriptors:
            raise RunError("at least one descriptor is needed")
        known = (*NAMES, *SHELL_NAMES, *STRUCTURE_NAMES)
        unknown = set(self.descriptors) - set(known)
        if unknown:
            raise RunError(f"unknown descriptor {', '.join(sorted(unknown))}; known: {', '.join(known)}")


@dataclass(frozen=True)
class MaskedConfig:
    """What is learnt: parts of a spectrum that were hidden, from the rest of it. It needs no label."""

    hide: Annotated[float, Range(above=0, below=1)] = 0.3
    """Share of the energies that is hidden, in the mean over spectra that lose energies."""
    span: Annotated[float, Range(above=0)] = 4.0
    """Length of a hidden stretch of energies, eV."""
    bands: Share = 0.5
    """Share of the spectra that lose a range of frequencies instead of stretches of energies."""
    band_width: Count = 4
    """How many neighbouring frequencies they lose; frequency k goes through k half periods over the grid."""
    highest_band: Count = 12
    """The highest frequency that is taken out."""
    noise: Amount = 0.005
    """As for labels: largest sigma of the noise added to mu, in edge steps. What is predicted is without noise."""
    energy_shift: Amount = 0.25
    """Standard deviation of a random shift of the energy axis, eV."""
    amplitude: Amount = 0.005
    """Standard deviation of a random factor on the edge step."""
    broadening: Amount = 0.3
    """Largest sigma of a Gaussian broadening, eV; each spectrum draws its own up to it."""
    mixup: Amount = 0.0
    """Alpha of the Beta distribution of mixtures of two spectra of one element, as over their sites; 0 mixes nothing."""

    def __post_init__(self) -> None:
        check(self)
        if self.band_width > self.highest_band:
            raise RunError(f"band_width ({self.band_width}) must not exceed highest_band ({self.highest_band})")


@dataclass(frozen=True)
class JointConfig:
    """Both at once: the labels of the spectra that have any, and the hidden parts of all."""

    labels: LabelsConfig = field(default_factory=LabelsConfig)
    masked: MaskedConfig = field(default_factory=MaskedConfig)
    weight: Amount = 1.0
    """Of the losses of hidden parts, beside one for each descriptor."""

    def __post_init__(self) -> None:
        check(self)


ObjectiveConfig = LabelsConfig | MaskedConfig | JointConfig

OBJECTIVES: dict[str, Callable[[LabelsConfig], ObjectiveConfig]] = {
    "labels": lambda labels: labels,
    "masked": lambda labels: MaskedConfig(),
    "joint": JointConfig,
}
"""By name, of a preset's settings for labels."""

Schedule = Literal["cosine", "stable", "constant"]


@dataclass(frozen=True)
class TrainConfig:
    """The schedule: how long, how fast, how it is judged."""

    input: Literal["resident", "stream"] = "resident"
    """Hold the whole training set on the device, or stream batches from disk."""
    epochs: Count = 48
    """A finished run goes on when asked for more."""
    batch_size: Count = 64
    learning_rate: Annotated[float, Range(above=0)] = 2e-3
    schedule: Schedule = "cosine"
    """The learning rate after the warm-up:

    cosine    falls to a hundredth over the whole run; best at a length that is known
    stable    stays, and falls linearly over the last fifth: can be extended until that begins
    constant  stays: for a run whose end is not known
    """
    warmup_epochs: Amount = 2.0
    """Epochs over which the learning rate rises from 0; not more than all of them."""
    weight_decay: Amount = 0.05
    clip_norm: Annotated[float, Range(above=0)] = 1.0
    ema: Share = 0.99
    """Decay per step of the averaged parameters, which are the ones validated and saved for inference."""
    validate_every: Count = 2
    """Epochs between validations, each followed by a checkpoint."""
    patience: Annotated[int, Range(least=0)] = 15
    """Validations without improvement before training stops; 0 never stops early."""
    seed: Annotated[int, Range(least=0, below=2**31)] = 0
    init: str = ""
    """Run folder, packed file or model of the zoo whose parameters this one begins with, wherever name and shape agree;
    what was not taken is told. Of several networks, as in OUT of `spt-jax ensemble`, the first of the kind; of OUT of
    `spt-jax finetune`, the last point."""
    freeze: tuple[str, ...] = ()
    """Parameters that stay as they are: patterns of their names, such as 'band_blocks/*' or '*/bias'."""

    def __post_init__(self) -> None:
        check(self)
        if self.warmup_epochs > self.epochs:
            raise RunError(f"warmup_epochs ({self.warmup_epochs:g}) must not exceed epochs ({self.epochs})")


@dataclass(frozen=True)
class ExecutionConfig:
    """How a run is computed. It changes no result but by rounding, so it may change whenever a run goes on."""

    accumulate: Count = 1
    """Pieces that a batch is computed in, one after the other: less memory, the same training."""
    remat: bool = False
    """Compute the blocks again in the backward pass instead of keeping what they computed: less memory, more time."""
    share_parameters: bool = False
    """Keep on each device only its share of parameters and optimiser state, instead of all."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of SPT; parameters and losses stay float32, and so do the networks it is compared with."""
    folding: Folding = "auto"
    """How SPT folds: tap by tap, by DFT, or whichever `model/plan.py` counts as cheaper."""
    kernels: Literal["auto", "off", "tpu", "gpu"] = "auto"
    """Blocks as kernels of this accelerator: `auto` where the process has one, `off` as XLA programs everywhere."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Config:
    """All that defines a run apart from its data, and how it is executed."""

    model: NetworkConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=LabelsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
