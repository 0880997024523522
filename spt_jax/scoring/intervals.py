"""How sure a score and a difference of two models are.

Sites of one material are alike, so materials are drawn anew, not sites: a bootstrap of clusters. Scores are computed
from sums over each material's sites, which a resample only weights, for all resamples at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipelines.schema import Descriptor
from spt_jax.scoring.f1 import weighted_f1

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Score of A minus score of B on the same sites, the middle 95 % of it, and the share of resamples where A > B."""

    score: float
    low: float
    high: float
    share: float


def draws(materials: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(R, M) how often each of the M materials (as np.unique orders them) is drawn, M draws with replacement."""
    count = len(np.unique(materials))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)


def resampled_scores(
    d: Descriptor, truth: np.ndarray, prediction: np.ndarray, materials: np.ndarray, drawn: np.ndarray
) -> np.ndarray:
    """(R,) main scores of a descriptor (weighted F1 or R2), by the rules of `metrics.py` applied to each resample.

    truth, prediction: (N,) class indices or values. materials: (N,) names. drawn: (R, M) as of `draws`. NaN where a
    resample has no two distinct labels and so no R2.
    """
    resampled = resampled_f1 if d.kind == "class" else resampled_r2
    return resampled(truth, prediction, materials, drawn)


def resampled_f1(truth: np.ndarray, prediction: np.ndarray, materials: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(R,) weighted F1."""
    _, material = np.unique(materials, return_inverse=True)
    classes, index = np.unique(np.concatenate([truth, prediction]), return_inverse=True)
    truth, prediction = np.split(index, 2)

    def counts(of: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(R, C) sites of each class."""
        table = np.zeros((drawn.shape[1], len(classes)))
        np.add.at(table, (material[rows], of[rows]), 1)
        return drawn @ table

    return weighted_f1(counts(truth, truth == prediction), counts(truth), counts(prediction))


def resampled_r2(truth: np.ndarray, prediction: np.ndarray, materials: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(R,) R2."""
    _, material = np.unique(materials, return_inverse=True)
    truth, prediction = truth.astype(np.float64), prediction.astype(np.float64)
    # About the mean, or the difference of two large sums would lose digits.
    y = truth - truth.mean()
    terms = np.stack([np.ones_like(y), y, y**2, (truth - prediction) ** 2], axis=1)
    sums = np.zeros((drawn.shape[1], 4))
    np.add.at(sums, material, terms)
    n, total, squares, errors = (drawn @ sums).T
    spread = squares - total**2 / n
    varies = spread > 1e-12 * squares
    return np.where(varies, 1 - errors / np.where(varies, spread, 1), np.nan)


def difference(whole: Sequence[float], resampled: Sequence[np.ndarray]) -> Difference:
    """Of two models: score on all sites, and (R,) scores on the same resamples. A tie is half a win for each."""
    ahead = resampled[0] - resampled[1]
    ahead = ahead[np.isfinite(ahead)]
    share = float((ahead > 0).mean() + (ahead == 0).mean() / 2)
    return Difference(whole[0] - whole[1], *_middle(ahead), share)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
