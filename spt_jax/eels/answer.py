"""What a model says of every pixel of a spectrum image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import SpectrumImage


@dataclass(frozen=True)
class ImageAnswer:
    """What a model says of each pixel. All maps (T, H, W, ...); pixels left out have phase -1 and NaN elsewhere."""

    image: SpectrumImage
    classes: tuple[str, ...]
    energy: np.ndarray
    """(L,) eV of the spectra below."""
    phase: np.ndarray
    """(T, H, W) int8, the most likely class, -1 where left out."""
    probability: np.ndarray
    """(T, H, W, C) float32, calibrated, sums to 1."""
    share: np.ndarray
    """(T, H, W, C) abundances, sum to 1."""
    latent: np.ndarray
    """(T, H, W, Z) latent coordinates."""
    unlike: np.ndarray
    """(T, H, W) float32; above 1: unlike any simulated class (flagged)."""
    denoised: np.ndarray | None
    """(T, H, W, L) counts above the background, without noise; None where not kept."""
    signal: np.ndarray | None
    """(T, H, W, L) counts above the background as measured."""
    maps: dict[str, np.ndarray]
    """(T, H, W) by name: "shift" eV, "exponent", "jump" (edge over background), "noise", "misfit"."""
    reason: np.ndarray
    """(T, H, W) int8 as spt_jax.eels.correct.REASONS."""
    model: str
    notes: tuple[str, ...]


class ImageModel:
    """A model of spectrum images, loaded once and compiled for each shape."""

    classes: tuple[str, ...]

    def answer(self, image: SpectrumImage, report: Callable[[str, int, int], None] | None = None) -> ImageAnswer:
        raise NotImplementedError

    def answer_frame(self, counts: np.ndarray, energy: np.ndarray) -> ImageAnswer:
        """counts: (H, W, E) in memory. energy: (E,) eV."""
        raise NotImplementedError


def load_image_model(path: Path | str) -> ImageModel:
    """The model of a run folder or of a packed file."""
    raise UserError(f"{path}: no model of spectrum images")
