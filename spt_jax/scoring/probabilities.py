"""How good probabilities are, whatever class is decided by them: proper scores, best for whoever says what it knows."""

from __future__ import annotations

import numpy as np

# Trees say 0 for a class that no leaf holds; its logarithm must be finite.
FLOOR = 1e-6


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Negative log-likelihood: mean over the rows of -ln of the probability of the true class, at least FLOOR.

    probabilities: (N, C). labels: (N,) class indices.
    """
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # In float32 a probability may exceed 1 by a rounding.
    return float(np.log(1 / np.clip(true, FLOOR, 1)).mean())


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Brier score: squared differences of probability and truth (1 or 0), summed over the classes; mean over the rows.

    probabilities: (N, C). labels: (N,) class indices. From 0 to 2, as Brier (1950, Mon. Weather Rev. 78, 1) has it.

    >>> brier(np.array([[0.5, 0.5, 0], [0, 0, 1]]), np.array([0, 0]))
    1.25
    """
    missed = probabilities.astype(np.float64)
    missed[np.arange(len(labels)), labels] -= 1
    return float((missed**2).sum(axis=1).mean())


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """(N,) bool, some True, and (N,) scores: the mean, over what is to be found, of the precision where it is found.

    All that has a score or more counts as found, so equal scores come together, as scikit-learn has it: where all
    are equal it is the share of True.

    >>> average_precision(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1]))
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(truth[order])[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / hits[-1])
