"""From probabilities to one class.

The most likely class is right most often, and still F1 may gain where classes that are rarely seen are decided for
more readily. Dividing by the training frequency to a power is logit adjustment (Menon et al. 2021, arXiv 2007.07314):
power 0 is the most likely class, 1 the balanced guess. The power is chosen on the validation split, for any model alike.
"""

from __future__ import annotations

import numpy as np

from data_pipelines.schema import Batch, columned
from spt_jax.scoring.intervals import draws, resampled_f1

ALPHAS = tuple(i / 10 for i in range(11))
RESAMPLES = 200
# Share of resamples in which a power must beat 0.
SURE = 0.8


def class_prior(labels: np.ndarray, classes: int) -> np.ndarray:
    """(N,) class indices of the training split -> (C,) their frequencies."""
    return np.bincount(labels.astype(int), minlength=classes) / len(labels)


def class_priors(train: Batch) -> dict[str, np.ndarray]:
    """The same of every class descriptor that the training split labels."""
    return {
        d.name: class_prior(train.labels[known, column], len(d.classes))
        for column, d in columned(train.labels)
        if d.kind == "class" and (known := np.asarray(train.mask[:, column])).any()
    }


def element_prior(counts: np.ndarray, atomic_number: np.ndarray) -> np.ndarray:
    """(N, Z) how often each element was in a shell of these (N,) absorbers; of all where training had none of one.

    counts: (Z, Z) of training labels, as of `LabelStatistics`.
    """
    found = np.where(counts[:, :1] > 0, counts, counts.sum(axis=0))[atomic_number]
    return np.where(np.arange(counts.shape[1]) > 0, found / found[:, :1], 0)


def weights(prior: np.ndarray, alpha: float) -> np.ndarray:
    """(C,) prior^-alpha, the factors of the probabilities; 0 for a class never seen, so that it is never chosen."""
    seen = prior > 0
    return np.where(seen, np.where(seen, prior, 1.0) ** -alpha, 0.0)


def decide(probabilities: np.ndarray, prior: np.ndarray, alpha: float) -> np.ndarray:
    """(..., C) probabilities -> (...) class indices: argmax of p / prior^alpha.

    >>> decide(np.array([0.6, 0.4]), prior=np.array([0.9, 0.1]), alpha=0.5).item()
    1
    """
    return (probabilities * weights(prior, alpha)).argmax(axis=-1)


def fit_alpha(
    probabilities: np.ndarray,
    labels: np.ndarray,
    prior: np.ndarray,
    materials: np.ndarray,
    alphas: tuple[float, ...] = ALPHAS,
) -> float:
    """The power with the best weighted F1 on the validation split, in the mean over resamples of its materials.

    labels: (N,) class indices. materials: (N,) names. The best power on the split as it is may be so by chance, and
    lose on new materials. So a power must be ahead of 0 in most resamples, or 0 is returned.
    """
    drawn = draws(materials, RESAMPLES)

    def scores(alpha: float) -> np.ndarray:
        return resampled_f1(labels, decide(probabilities, prior, alpha), materials, drawn)

    plain, best = scores(0.0), max(alphas, key=lambda alpha: scores(alpha).mean())
    return best if (scores(best) > plain).mean() > SURE else 0.0
