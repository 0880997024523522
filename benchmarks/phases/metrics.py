"""Scores of an image, and their means over images with intervals: images are drawn anew, never pixels."""

from __future__ import annotations

import numpy as np

from benchmarks.phases.task import PhaseAnswers, PhaseTask
from data_pipelines.spectra.planted import shifted
from spt_jax.scoring.calibration import ece
from spt_jax.scoring.intervals import draws, middle
from spt_jax.scoring.probabilities import brier

SCORES = ("accuracy", "accuracy_pure", "iou", "share_rmse", "ece", "brier", "snr_db")


def scored(task: PhaseTask, found: PhaseAnswers) -> dict[str, float | None]:
    """accuracy: pixels whose phase of the largest share is found; accuracy_pure: among pixels of one phase. iou: mean over
    the phases that the image has of the pixels in both over the pixels in either. share_rmse: over pixels and classes. ece and brier: of the
    probability of the dominant phase. snr_db: 10 log10 of the signal's squares over those of the error, in the window, against
    the mean counts, as the pixel's energies have them. None where the method says nothing of the kind."""
    truth, classes = task.truth.phase.ravel(), len(task.classes)
    pure = task.truth.shares.max(axis=-1).ravel() > 1 - 1e-9
    hit = found.phase == truth
    present = [number for number in range(classes) if (truth == number).any()]
    scores: dict[str, float | None] = dict.fromkeys(SCORES)
    scores["accuracy"] = float(hit.mean())
    scores["accuracy_pure"] = float(hit[pure].mean()) if pure.any() else None
    scores["iou"] = float(np.mean([_overlap(found.phase == number, truth == number) for number in present]))
    if found.shares is not None:
        scores["share_rmse"] = float(np.sqrt(np.mean((found.shares - task.truth.shares.reshape(-1, classes)) ** 2)))
    if found.probability is not None:
        scores |= {"ece": ece(found.probability, truth), "brier": brier(found.probability, truth)}
    if found.denoised is not None:
        seen = shifted(task.how.energy, task.truth.signal, task.truth.shift)
        signal = seen.reshape(len(truth), -1)[:, task.inside]
        missed = max(float(((found.denoised - signal) ** 2).sum()), 1e-30)
        scores["snr_db"] = float(10 * np.log10(max(float((signal**2).sum()), 1e-30) / missed))
    return scores


def summary(images: list[dict[str, float | None]]) -> dict[str, float | tuple[float, float] | None]:
    """The mean of each score over images, and the middle 95 % of it (`SCORE_95`), where there are two images or more."""
    found: dict[str, float | tuple[float, float] | None] = {}
    drawn = draws(np.arange(len(images)))
    for name in SCORES:
        values = [image[name] for image in images]
        if any(value is None for value in values):
            found |= {name: None, f"{name}_95": None}
            continue
        each = np.array(values, float)
        found[name] = float(each.mean())
        found[f"{name}_95"] = middle(drawn @ each / len(each)) if len(each) > 1 else None
    return found


def _overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())
