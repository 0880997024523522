"""An order of many models over many cases, and how far apart two must be to be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, studentized_range


def average_ranks(scores: dict[str, Sequence[float]]) -> dict[str, float]:
    """Model -> mean rank over the cases (descriptors x seeds, all models in one order); 1 is best, ties share."""
    ranks = rankdata(-np.array(list(scores.values())), axis=0)
    return dict(zip(scores, ranks.mean(axis=1).tolist(), strict=True))


def critical_distance(models: int, cases: int, alpha: float = 0.05) -> float:
    """Mean ranks that differ by less are not told apart: Nemenyi's test (Demsar 2006, J. Mach. Learn. Res. 7, 1).

    It takes the cases as independent. Descriptors of one spectrum and seeds of one model are not: the true distance
    is larger.
    """
    q = studentized_range.ppf(1 - alpha, models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(models * (models + 1) / (6 * cases)))


def alike(ranks: dict[str, float], distance: float) -> list[tuple[float, float]]:
    """(best, worst) rank of each longest run of at least two models within `distance`."""
    ordered = np.sort(list(ranks.values()))
    ends = np.searchsorted(ordered, ordered + distance, side="right") - 1
    # A run that ends where the one before it ended lies inside that one.
    new = np.diff(ends, prepend=-1) > 0
    return [(ordered[i], ordered[end]) for i, end in enumerate(ends) if end > i and new[i]]
