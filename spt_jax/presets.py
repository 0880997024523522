"""Whole configurations by name: of SPT for a scale and a machine, and of the networks that it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data_pipelines.schema import NAMES, STRUCTURE_NAMES
from spt_jax.config import (
    Config,
    ExecutionConfig,
    FusionConfig,
    ImagesConfig,
    LabelsConfig,
    LatentConfig,
    ModelConfig,
    PeerConfig,
    TrainConfig,
)

PEERS = {
    "mlp": PeerConfig("mlp", width=512, depth=3),
    "cnn": PeerConfig("cnn", width=64, depth=5),
    "ft_transformer": PeerConfig("ft_transformer", width=48, depth=3),
    "amformer": PeerConfig("amformer", width=48, depth=3),
}


def tiny() -> Config:
    """A few hundred spectra, two minutes on 2 CPU cores: the quickstart."""
    return Config(
        ModelConfig(width=32),
        LabelsConfig(noise=0.01, energy_shift=0.25, amplitude=0.02, mixup=0.4),
        TrainConfig(epochs=80, batch_size=32),
    )


def base() -> Config:
    """A few thousand, five minutes on 2 cores: Cu K macro-F1 of CN 0.53, R2 of MBL 0.87."""
    return Config()


def accelerator() -> Config:
    """base as a GPU or a TPU has it: 64 channels and bfloat16, which their kernels take, and larger batches."""
    return Config(
        ModelConfig(width=64),
        train=TrainConfig(batch_size=256, learning_rate=4e-3),
        execution=ExecutionConfig(dtype="bfloat16"),
    )


def large() -> Config:
    """Tens of thousands of spectra and more, on a GPU or TPU: channels fill a TPU's lanes; accuracy not yet measured."""
    return Config(
        ModelConfig(width=128, blocks=4, attention_heads=8, hidden=1024),
        train=TrainConfig(batch_size=1024, learning_rate=1e-3, epochs=200),
        execution=ExecutionConfig(dtype="bfloat16"),
    )


def dense() -> Config:
    """base without bands and graph, for several elements: a sixth of its time; for a teacher (docs/models.md)."""
    return Config(ModelConfig(bands=0, attention="none"), LabelsConfig(energy_shift=0.25), TrainConfig(batch_size=128))


def measured() -> Config:
    """dense for measured spectra: taught on blurred ones, some of thick samples, with a background, whose energies are not
    known to 1 eV."""
    seen = LabelsConfig(energy_shift=1.0, broadening=4.0, background=0.03, noise=0.01, mixup=0.4, self_absorption=0.3)
    return replace(dense(), objective=seen)


def inception() -> Config:
    """The ancestor's convolution (TimesNet: kernels 1 to 11 merged into one), the harder case for throughput."""
    return Config(ModelConfig(width=64, kernel=11))


def mlp() -> Config:
    """A plain MLP, trained as dense: the network to beat on clean spectra, in a third of the time of dense."""
    return replace(dense(), model=PEERS["mlp"])


def cnn() -> Config:
    """A residual CNN along the energies, trained as dense."""
    return replace(dense(), model=PEERS["cnn"])


def ft_transformer() -> Config:
    """A transformer over patches of energies (arXiv 2106.11959), trained as dense."""
    return replace(dense(), model=PEERS["ft_transformer"])


def amformer() -> Config:
    """A transformer with sums and products of features (arXiv 2402.02334), trained as dense."""
    return replace(dense(), model=PEERS["amformer"])


def fusion() -> Config:
    """Several signals of one structure (docs/fusion.md): the trunk of dense for every spectrum, convolutions for PDFs,
    attention over those that are there. Hides some while it learns, so that any of them may be missing."""
    seen = LabelsConfig((*NAMES, *STRUCTURE_NAMES), energy_shift=0.25, signal_drop=0.15)
    return Config(FusionConfig(), seen, TrainConfig(batch_size=32))


def image() -> Config:
    """Pixels of spectrum images (docs/eels.md): the trunk of SPT and a latent space for calculations and measurements."""
    return Config(LatentConfig(), ImagesConfig(), TrainConfig(epochs=30, batch_size=128, patience=0))


def live() -> Config:
    """image without the trunk, for frames as a detector sends them: ten to thirty times as fast."""
    return replace(image(), model=LatentConfig(trunk=None))


def aligned() -> Config:
    """live with calculations and measurements made alike in the latent space by a discriminator."""
    return replace(live(), objective=ImagesConfig(align=1.0))


PRESETS: dict[str, Callable[[], Config]] = {
    make.__name__: make for make in (tiny, base, accelerator, large, dense, inception)
}
"""Of SPT."""

ALL_PRESETS = {
    **PRESETS,
    **{make.__name__: make for make in (measured, mlp, cnn, ft_transformer, amformer, fusion, image, live, aligned)},
}
