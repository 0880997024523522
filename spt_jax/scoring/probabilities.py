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
