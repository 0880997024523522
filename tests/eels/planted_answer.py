"""Answers with a known truth, and a model that gives them: what pages, series and live mode are tested with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import ImageCalibration, SpectrumImage, StoredAxis, StoredImage, arranged
from spt_jax.eels.answer import ImageAnswer

CLASSES = ("layered", "spinel <LiMn2O4>", "rock salt")
ENERGY = 520 + 0.5 * np.arange(120)


def image_of(counts: np.ndarray, pixel: float | None = 2.0, title: str = "planted") -> SpectrumImage:
    """counts: (T, H, W, E)."""
    axes = [StoredAxis("", "nm" if pixel else "", pixel or 1.0, 0.0, size) for size in counts.shape[1:3]]
    axes = [StoredAxis("time", "", 1.0, 0.0, len(counts)), *axes, StoredAxis("energy", "eV", 0.5, 520.0, len(ENERGY))]
    return arranged(StoredImage(counts, tuple(axes), title=title), title, ImageCalibration())


def curves(count: int) -> np.ndarray:
    """(C, L) edges that differ."""
    step = 1 / (1 + np.exp(-(ENERGY - 530)))
    lines = [np.exp(-(((ENERGY - 532 - 3 * i) / 2) ** 2)) for i in range(count)]
    return np.stack([60 * step * (1 + (2.0 - 0.2 * i) * line) for i, line in enumerate(lines)])


def truth(times: int, height: int, width: int, count: int) -> np.ndarray:
    """(T, H, W) classes: bands from left to right that move right with time."""
    across = np.arange(width) / max(width, 2) + 0.05 * np.sin(np.arange(height) / 3)[:, None]
    place = across[None] * count - 0.8 * np.arange(times)[:, None, None] / max(times, 2)
    return np.clip(place, 0, count - 1).astype(int)


def planted_answer(
    times: int = 1,
    height: int = 12,
    width: int = 16,
    classes: tuple[str, ...] = CLASSES,
    seed: int = 0,
    sure: float = 3.0,
    pixel: float | None = 2.0,
    phase: np.ndarray | None = None,
) -> ImageAnswer:
    """Classes of `truth`, seen through noise: a larger `sure` errs less. Some pixels are flagged and two left out, of images
    with more than fifty pixels."""
    rng, count, size = np.random.default_rng(seed), len(classes), (times, height, width)
    true = truth(*size, count) if phase is None else phase
    logits = rng.normal(0, 1, (*size, count)) + sure * np.eye(count)[true]
    # What that says of a class: the ratio of two normal densities.
    odds = np.exp(sure * (logits - logits.max(axis=-1, keepdims=True)))
    probability = (odds / odds.sum(axis=-1, keepdims=True)).astype(np.float32)
    latent = rng.normal(size=(count, 6))[true] * 3 + rng.normal(0, 0.6, (*size, 6))
    unlike, reason = rng.uniform(0.1, 0.8, size).astype(np.float32), np.zeros(size, np.int8)
    if height * width > 50:
        unlike[:, 1:4, -4:-1], reason[:, 0, :2] = 1.7, 2
        latent[:, 1:4, -4:-1] += 6
    phase = probability.argmax(axis=-1).astype(np.int8)
    share = 0.8 * probability + 0.2 / count
    gain = rng.uniform(0.8, 1.2, size)[..., None]
    denoised = (gain * curves(count)[true]).astype(np.float32)
    signal = (rng.poisson(denoised + 40) - 40).astype(np.float32)
    maps = {
        "shift": rng.normal(0, 0.1, size),
        "exponent": rng.normal(3, 0.1, size),
        "jump": rng.uniform(0.3, 0.6, size),
        "noise": rng.uniform(0.05, 0.1, size),
        "misfit": rng.normal(1, 0.05, size),
    }
    out = reason > 0
    phase[out] = -1
    for values in (probability, share, latent, unlike, denoised, signal, *maps.values()):
        values[out] = np.nan
    return ImageAnswer(
        image_of(np.zeros((*size, len(ENERGY)), np.float32), pixel),
        classes, ENERGY, phase, probability, share, latent, unlike, denoised, signal, maps, reason,
        "spt-eels", ("left out 2 of 192 pixels",) if out.any() else (),
    )  # fmt: skip


class PlantedModel:
    """Says of every pixel the class whose number its counts have in the first channel."""

    classes = CLASSES

    def answer(self, image: SpectrumImage, report=None, spectra: bool = True) -> ImageAnswer:
        times, height, width, _ = image.shape
        true = np.stack([image.rows(t, 0, height)[..., 0] for t in range(times)])
        if not np.isfinite(true).all():
            raise UserError("no pixel of the image holds counts")
        found = planted_answer(times, height, width, sure=9.0, phase=true.astype(int))
        return replace(found, image=image) if spectra else replace(found, image=image, signal=None, denoised=None)

    def answer_frame(self, counts: np.ndarray, energy: np.ndarray) -> ImageAnswer:
        return self.answer(image_of(counts[None]))
