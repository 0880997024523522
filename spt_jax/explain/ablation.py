"""What a model loses without a part of the spectrum: one frequency, or a few eV. Any model, by its answers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from data_pipelines.schema import Batch
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.tasks import Predictor

Report = Callable[[int, int], None]


def without_frequency(spectrum: np.ndarray, frequency: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(N, L) spectra whose standardised form has no component of this frequency (periods in the grid's length).

    Of the standardised signal z = (mu - mean) / std, because this is what SPT folds and selects its bands on by
    default, and because in mu itself every frequency is one of the edge step. mean, std: (L,) of the training set, or
    of the element there where the network standardises by these.
    """
    # The same floor as the network's own band input has.
    safe = np.maximum(std, 1e-3 * std.max())
    known = np.isfinite(spectrum)
    waves = np.fft.rfft(np.where(known, (spectrum - mean) / safe, 0), axis=1)
    waves[:, frequency] = 0
    return np.where(known, mean + safe * np.fft.irfft(waves, spectrum.shape[1], axis=1), np.nan)


def without_window(spectrum: np.ndarray, window: slice, mean: np.ndarray) -> np.ndarray:
    """(N, L) spectra with the training mean in a window of energies."""
    inside = np.zeros(spectrum.shape[1], bool)
    inside[window] = True
    return np.where(inside & np.isfinite(spectrum), mean, spectrum)


def windows(points: int, size: int) -> list[slice]:
    """The grid cut into windows of `size` points, a shorter one last."""
    return [slice(start, min(start + size, points)) for start in range(0, points, size)]


def losses(
    answer: Predictor, batch: Batch, ablated: Iterable[np.ndarray], count: int, report: Report
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The main score (weighted F1, R2) of each descriptor, and how much of it each of `count` ablated spectra costs.

    ablated: (N, L) versions of batch.spectrum, made as they are needed. A descriptor without a score is left out.
    """
    scores = _scores(answer, batch, batch.spectrum)
    found: dict[str, list[float]] = {name: [] for name in scores}
    for done, spectrum in enumerate(ablated, start=1):
        left = _scores(answer, batch, spectrum)
        for name, score in scores.items():
            found[name].append(score - left[name])
        report(done, count)
    return scores, {name: np.array(values) for name, values in found.items()}


def _scores(answer: Predictor, batch: Batch, spectrum: np.ndarray) -> dict[str, float]:
    scores = score_answers(answer(spectrum.astype(np.float32), batch.atomic_number), batch)
    shown = {name: score for name, score in scores.items() if score["kind"] != "elements"}
    return {name: main for name, score in shown.items() if (main := main_score(score)) is not None}
