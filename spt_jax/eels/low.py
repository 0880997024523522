"""The low-loss image that goes with another one: the same pixels, brought to the same steps of energy."""

from __future__ import annotations

from typing import NamedTuple, Self

import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import SpectrumImage
from spt_jax.eels.align import zero_loss

# eV behind the zero loss that are used: several plasmons.
FURTHEST = 250.0
# A zero loss is so many times as high as what is usual in the image.
STANDS_OUT = 3.0
# Of the peak that the log of a normal distribution is fitted to.
LEAST_HALF, MOST_HALF = 2, 40


class LowLoss(NamedTuple):
    """energy: (F,) eV, in the steps of the other image. single: one spectrum stands for all pixels."""

    image: SpectrumImage
    energy: np.ndarray
    single: bool
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, low: SpectrumImage, image: SpectrumImage) -> Self:
        """Raises UserError where the pixels are not those of the image, or no zero loss can be in it."""
        single = low.shape[:3] == (1, 1, 1)
        if not single and low.shape[:3] not in (image.shape[:3], (1, *image.shape[1:3])):
            sizes = [" x ".join(map(str, each.shape[1:3])) for each in (low, image)]
            raise UserError(f"the low-loss image has {sizes[0]} pixels, this one {sizes[1]}")
        if not low.energy[0] < 0 < low.energy[-1]:
            raise UserError(
                f"the low-loss image goes from {low.energy[0]:.1f} to {low.energy[-1]:.1f} eV: no zero loss in it"
            )
        step = float(np.median(np.diff(image.energy)))
        last = min(low.energy[-1], FURTHEST)
        energy = step * np.arange(np.ceil(low.energy[0] / step), np.floor(last / step) + 1)
        return cls(low, energy, single, image.shape[:3])

    def rows(self, time: int, start: int, stop: int) -> np.ndarray:
        """(rows, W, F) float32, NaN and negative counts as zero."""
        own = (0, 0, 1) if self.single else (min(time, self.image.shape[0] - 1), start, stop)
        counts = np.maximum(np.nan_to_num(self.image.rows(*own), posinf=0), 0)
        at = np.interp(self.energy, self.image.energy, np.arange(len(self.image.energy)))
        left = np.minimum(at.astype(int), len(self.image.energy) - 2)
        part = (at - left).astype(np.float32)
        counts = counts[..., left] * (1 - part) + counts[..., left + 1] * part
        return np.broadcast_to(counts, (stop - start, self.shape[2], len(self.energy)))

    def peak(self, sample: np.ndarray) -> tuple[int, int, float]:
        """(channels on either side of the top that make the peak, channel where it usually is, how far beyond that in channels).

        sample: (S, F).
        """
        mean = sample.mean(axis=0)
        top = int(np.argmax(mean))
        width = int(np.sum(mean[max(top - 200, 0) : top + 200] > mean[top] / 2))
        half = int(np.clip(round(0.6 * width), LEAST_HALF, MOST_HALF))
        stands_out = mean[top] > STANDS_OUT * np.median(mean)
        if not 2 * half < top < len(mean) - 2 * half or not mean[top] > 0 or not stands_out:
            raise UserError(
                f"the low-loss image has its highest counts at {self.energy[top]:.1f} eV: no zero loss is seen in it"
            )
        middle = float(np.median(np.asarray(zero_loss(jnp.asarray(sample, jnp.float32), half)[0]))) - top
        return half, top, middle
