"""Phases over time: how many pixels of each class in every frame, and where and when a pixel changed its class for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_pipelines.errors import UserError
from spt_jax.eels.answer import ImageAnswer

# A frame that is sure of the wrong class speaks against a pixel with no more than this.
LEAST_PROBABILITY = 1e-3
# Odds against a change before anything is seen, beside those of its frame and class.
ODDS = 20.0
# Pixels of a square of so many a side are wrong together, or not, in the error of a fraction.
TILE = 4
# Probabilities whose changes are looked for at once.
PIECE = 4_000_000
# Spectra of several files are kept together up to so many bytes.
KEPT_BYTES = 2_000_000_000


@dataclass(frozen=True)
class PhaseSeries:
    """Frames in order; C classes.

    fraction: (T, C) expected part of the good pixels in each class, by their calibrated probabilities, which draws it to equal
    parts as far as pixels are in doubt; flagged: (T,) the part that is unlike any class; together 1. share: (T, C) mean abundance of pixels that are not flagged. *_error: their standard
    errors. good: (T,) pixels. A frame without good pixels has NaN.
    first, last: (H, W) int8 class before and after the one change of a pixel, or throughout; -1 where no frame tells.
    changed: (H, W) the frame in which the new class is first seen, -1 where there is no change. gain: (H, W) by how much the
    logarithm of the probability grows by a change, above what chance allows where positive; NaN where no frame tells.
    """

    classes: tuple[str, ...]
    times: np.ndarray
    unit: str
    names: tuple[str, ...]
    fraction: np.ndarray
    fraction_error: np.ndarray
    flagged: np.ndarray
    share: np.ndarray
    share_error: np.ndarray
    good: np.ndarray
    first: np.ndarray
    last: np.ndarray
    changed: np.ndarray
    gain: np.ndarray

    @property
    def transitions(self) -> np.ndarray:
        """(C, C) pixels by their first class, down, and their last, across; on the diagonal those that stayed."""
        known = self.first >= 0
        count = len(self.classes)
        pairs = count * self.first[known].astype(int) + self.last[known]
        return np.bincount(pairs, minlength=count**2).reshape(count, count)

    @property
    def changes(self) -> np.ndarray:
        """(T,) pixels whose new class is first seen in each frame."""
        return np.bincount(self.changed[self.changed >= 0], minlength=len(self.times))


def follow_phases(answer: ImageAnswer, names: Sequence[str] = ()) -> PhaseSeries:
    """names: of the frames, where each is a file. Raises UserError for a single frame."""
    times = len(answer.phase)
    if times < 2:
        raise UserError("one frame is no series; name several files, or an image with times")
    if names and len(names) != times:
        raise UserError(f"{len(names)} names for {times} frames")
    used = answer.phase >= 0
    flagged = used & (np.nan_to_num(answer.unlike, nan=0.0) > 1)
    telling = used & ~flagged
    probability = np.where(telling[..., None], np.nan_to_num(answer.probability, nan=0.0), 0)
    good = used.sum(axis=(1, 2))
    count = np.where(good > 0, good, np.nan)
    # Neighbours are wrong together: deviations of a tile add up, tiles are independent.
    doubt = _tiled(np.sqrt(np.maximum(probability * (1 - probability), 0)))
    # Rows by themselves: sums over time take several times the memory of the probabilities.
    rows = max(1, PIECE // max(probability[:, 0].size, 1))
    parts = [
        _changes(probability[:, start : start + rows], telling[:, start : start + rows])
        for start in range(0, probability.shape[1], rows)
    ]
    first, last, changed, gain = (np.concatenate(each) for each in zip(*parts, strict=True))
    share, share_error = _means(answer.share, telling)
    seconds, unit = np.asarray(answer.image.times, float), "time / s"
    if names or len(seconds) != times or np.array_equal(seconds, np.arange(times)):
        seconds, unit = np.arange(1.0, times + 1), "file" if names else "frame"
    return PhaseSeries(
        answer.classes,
        seconds,
        unit,
        tuple(names),
        probability.sum(axis=(1, 2), dtype=float) / count[:, None],
        np.sqrt((doubt**2).sum(axis=(1, 2))) / count[:, None],
        flagged.sum(axis=(1, 2)) / count,
        share,
        share_error,
        good,
        first,
        last,
        changed,
        gain,
    )


def together(answers: Sequence[ImageAnswer], title: str = "") -> ImageAnswer:
    """Answers to several files as one series, in the order given. Spectra are kept where all files have the same energies and
    there is room. Raises UserError where frames are not of one size, or the classes are not the same."""
    first = answers[0]
    for number, each in enumerate(answers[1:], 2):
        if each.classes != first.classes:
            raise UserError(f"file {number} was answered by another model, whose classes are {', '.join(each.classes)}")
        if each.phase.shape[1:] != first.phase.shape[1:]:
            sizes = [" x ".join(map(str, one.phase.shape[1:])) for one in (each, first)]
            raise UserError(
                f"file {number} has {sizes[0]} pixels, the first {sizes[1]}; a series has frames of one size"
            )

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(each, name) for each in answers])

    notes = dict.fromkeys(note for each in answers for note in each.notes)
    spectra: dict[str, np.ndarray | None] = {"denoised": None, "signal": None}
    same = all(np.array_equal(each.energy, first.energy) for each in answers)
    if not same:
        notes["the files have different energies: no spectra of classes over all of them"] = None
    for name in spectra:
        kept = [getattr(each, name) for each in answers]
        if same and all(each is not None for each in kept) and sum(each.nbytes for each in kept) <= KEPT_BYTES:
            spectra[name] = joined(name)
    maps = {
        name: np.concatenate([each.maps[name] for each in answers])
        for name in first.maps
        if all(name in each.maps for each in answers)
    }
    arrays = {name: joined(name) for name in ("phase", "probability", "share", "latent", "unlike", "reason")}
    image = replace(first.image, title=title or first.image.title, times=np.arange(len(arrays["phase"])))
    return replace(first, image=image, maps=maps, notes=tuple(notes), **arrays, **spectra)


def _changes(probability: np.ndarray, telling: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """first, last, changed, gain of `PhaseSeries`: the best class a before and b after the best frame k, by the sum over
    frames of log p, against the best class throughout. A frame that does not tell, adds nothing."""
    times, height, width, count = probability.shape
    logs = np.where(telling[..., None], np.log(np.maximum(probability.astype(float), LEAST_PROBABILITY)), 0)
    sums = np.concatenate([np.zeros((1, height, width, count)), np.cumsum(logs, axis=0)])
    whole, constant = sums[-1].max(axis=-1), sums[-1].argmax(axis=-1)
    before, after = sums[1:-1], sums[-1] - sums[1:-1]
    total = before.max(axis=-1) + after.max(axis=-1)
    # Of equals the last: the frame in which the new class is seen, not one in between that tells nothing.
    at = times - 2 - (total >= total.max(axis=0) - 1e-9)[::-1].argmax(axis=0)
    chance = np.log(ODDS * (times - 1) * max(count - 1, 1))
    gain = np.take_along_axis(total, at[None], 0)[0] - whole - chance
    old, new = (np.take_along_axis(each.argmax(axis=-1), at[None], 0)[0].astype(np.int8) for each in (before, after))
    any_frame = telling.any(axis=0)
    moved = any_frame & (gain > 0) & (old != new)
    first = np.where(moved, old, np.where(any_frame, constant, -1)).astype(np.int8)
    last = np.where(moved, new, first).astype(np.int8)
    return first, last, np.where(moved, at + 1, -1), np.where(any_frame, gain, np.nan)


def _tiled(values: np.ndarray) -> np.ndarray:
    """(T, h, w, C) sums over squares of TILE pixels a side of (T, H, W, C)."""
    rows, columns = (np.arange(0, size, TILE) for size in values.shape[1:3])
    return np.add.reduceat(np.add.reduceat(values, rows, axis=1), columns, axis=2)


def _means(share: np.ndarray, telling: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, C) means over pixels that tell, and their standard errors by the scatter of tiles; NaN of one tile."""
    kept = np.where(telling[..., None], np.nan_to_num(share, nan=0.0), 0).astype(float)
    sums, weights = _tiled(kept), _tiled(telling[..., None].astype(float))
    total = weights.sum(axis=(1, 2))
    total = np.where(total > 0, total, np.nan)
    mean = sums.sum(axis=(1, 2)) / total
    tiles = (weights > 0).sum(axis=(1, 2)).astype(float)
    off = ((sums - weights * mean[:, None, None]) ** 2).sum(axis=(1, 2))
    scatter = np.sqrt(off * tiles / np.where(tiles > 1, tiles - 1, np.nan)) / total
    return mean, scatter
