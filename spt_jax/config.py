"""Frozen configuration. Every field can be given on the command line by its name; `presets.py` has whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from data_pipelines.errors import RunError
from data_pipelines.ranges import Range, check
from data_pipelines.schema import DESCRIPTORS, NAMES, SHELL_NAMES, STRUCTURE_NAMES
from spt_jax.network_config import SLOPE as SLOPE
from spt_jax.network_config import SOURCES as SOURCES
from spt_jax.network_config import BandInput as BandInput
from spt_jax.network_config import BandMode as BandMode
from spt_jax.network_config import Count, Folding, ModelConfig, NetworkConfig, Share
from spt_jax.network_config import FusionConfig as FusionConfig
from spt_jax.network_config import LatentConfig as LatentConfig
from spt_jax.network_config import PeerConfig as PeerConfig
from spt_jax.network_config import Standardise as Standardise

Amount = Annotated[float, Range(least=0)]


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


@dataclass(frozen=True)
class ImagesConfig:
    """What is learnt: pixels of spectrum images and calculated edges in one latent space. Of a calculated edge counts are
    drawn as a microscope might have seen it, the counts of a pixel are split in two: one half says what the other may be."""

    dose: Annotated[tuple[float, float], Range(above=0)] = (10.0, 1e5)
    """Electrons per eV in front of the edge, least and most."""
    jump: Annotated[tuple[float, float], Range(above=0)] = (0.1, 1.5)
    """Mean height of the edge over the background at its onset."""
    exponent: Annotated[tuple[float, float], Range(least=0)] = (1.5, 5.0)
    """Of the background's power law."""
    energy_shift: Amount = 0.7
    """Standard deviation of the shift between a calculation and a measurement, eV."""
    broadening: Amount = 1.0
    """Largest sigma of the broadening of a calculated edge, eV."""
    thickness: Amount = 1.0
    """Largest thickness in mean free paths of a plasmon."""
    deviation: Amount = 0.05
    """Standard deviation of smooth deviations of a measured edge from the calculated one."""
    mixed: Share = 0.5
    """Share of the calculated edges that is mixed with two others."""
    beta: Amount = 0.02
    """Weight of the distance between what a row says of the latent space and what none says."""
    align: Amount = 0.0
    """How much calculated and measured rows are made alike in the latent space, by a discriminator whose gradient is reversed;
    where phases are not as frequent in the images as among the calculations, it also mixes what should stay apart."""

    def __post_init__(self) -> None:
        check(self)
        for name in ("dose", "jump", "exponent"):
            low, high = getattr(self, name)
            if low > high:
                raise RunError(f"{name} goes from low to high, not from {low:g} to {high:g}")


ObjectiveConfig = LabelsConfig | MaskedConfig | JointConfig | ImagesConfig

OBJECTIVES: dict[str, Callable[[LabelsConfig], ObjectiveConfig]] = {
    "labels": lambda labels: labels,
    "masked": lambda labels: MaskedConfig(),
    "joint": JointConfig,
    "images": lambda labels: ImagesConfig(),
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
    fsdp: Annotated[int, Range(least=0)] = 1
    """Devices of a slice that share parameters and optimiser state out among them, instead of having all; 0: the whole slice."""
    slices: Annotated[int, Range(least=0)] = 0
    """Groups of devices with a fast network inside and a slower one between them, as pods: gradients are added inside first.
    0: as many as the devices say, of TPUs; else 1."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of SPT; parameters and losses stay float32, and so do the networks it is compared with."""
    folding: Folding = "auto"
    """How SPT folds: tap by tap, by DFT, or whichever `model/plan.py` counts as cheaper."""
    kernels: Literal["auto", "off", "tpu", "gpu"] = "auto"
    """Blocks as kernels of this accelerator: `auto` where the process has one, `off` as XLA programs everywhere."""
    save_minutes: Annotated[float, Range(above=0)] = 10.0
    """Longest time between checkpoints, of streamed data also within an epoch; one follows every validation."""
    keep: Count = 2
    """Checkpoints that are kept, the newest."""
    keep_epochs: Annotated[int, Range(least=0)] = 0
    """Also keep those at the end of every so manieth epoch; 0 keeps none for good."""
    skip_batches: Annotated[int, Range(least=0)] = 10
    """Batches of an epoch that may be left out because their loss or gradient is not finite; one more stops the run."""
    silence_seconds: Annotated[float, Range(above=0)] = 120.0
    """Of several processes: after so long without a sign of life one is lost, and the others stop."""

    skip_damaged: bool = False
    """Of streamed data, show other rows in the place of those of a damaged block, and count them, instead of stopping."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Config:
    """All that defines a run apart from its data, and how it is executed."""

    model: NetworkConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=LabelsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
