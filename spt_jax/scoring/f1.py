"""F1 from counts, for one set of answers or many resamples of it at once."""

from __future__ import annotations

import numpy as np


def class_f1(hits: np.ndarray, sites: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """(..., C) F1 of each class: the harmonic mean of the share found and the share of its decisions that are right.

    hits: (..., C) sites of the class that were decided rightly. sites, decided: (..., C) how often it is the truth and
    the decision; a class that is neither has 0.
    """
    either = np.asarray(sites + decided, np.float64)
    return np.divide(2 * hits, either, out=np.zeros_like(either), where=either > 0)


def weighted_f1(hits: np.ndarray, sites: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """(...) mean F1 of the classes, each counting by its sites: one that no site has counts nothing.

    >>> weighted_f1(np.array([3, 0, 0]), np.array([3, 1, 0]), np.array([3, 0, 1])).item()
    0.75
    """
    return (class_f1(hits, sites, decided) * sites).sum(axis=-1) / sites.sum(axis=-1)
