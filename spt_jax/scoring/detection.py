"""How well the presence of something is told, and from which amount on, with intervals over materials.

AUROC is the chance that a row with it gets a higher score than a row without, ties counted half (Hanley and McNeil 1982,
Radiology 143, 29). Average precision, the area under the curve of precision and recall, also depends on how often it is
there. Intervals are those of `intervals.py`: whole materials are drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spt_jax.scoring.intervals import draws, middle

# Resamples whose sums are held at once.
PIECE = 200
# Ranges of the amount, where there are more values than these.
RANGES = 4
# Materials with it that a range must have to be judged.
FEWEST = 3


class Interval(NamedTuple):
    """A score, and the middle 95 % of it over resamples of the materials."""

    score: float
    low: float
    high: float


class Detected(NamedTuple):
    """How rows with an amount from `least` to `most` are told from rows without. auroc: None with too few materials."""

    least: float
    most: float
    rows: int
    materials: int
    auroc: Interval | None


class Roc(NamedTuple):
    """(P,) false alarms, and the share that is found at so many of them, with its interval."""

    false_alarms: np.ndarray
    found: np.ndarray
    low: np.ndarray
    high: np.ndarray


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Of (N,) bool and (N,) scores; NaN where all rows are alike.

    >>> auroc(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.1]))
    0.875
    """
    return float(_auroc(*_levels(truth, scores, np.ones((1, len(truth)))))[0])


def resampled_auroc(truth: np.ndarray, scores: np.ndarray, materials: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(R,) of resamples, drawn (R, M) as of `intervals.draws`. NaN where all rows of a resample are alike."""
    return _resampled(_auroc, truth, scores, materials, drawn)


def resampled_precision(truth: np.ndarray, scores: np.ndarray, materials: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(R,) average precisions, by the rule of `probabilities.average_precision`. NaN where nothing is to be found."""
    return _resampled(_average_precision, truth, scores, materials, drawn)


def resampled_mae(truth: np.ndarray, values: np.ndarray, materials: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(R,) mean absolute errors of (N,) values."""
    _, material = np.unique(materials, return_inverse=True)
    error = np.abs(truth.astype(np.float64) - values)
    sums, rows = (np.bincount(material, each, drawn.shape[1]) for each in (error, np.ones_like(error)))
    return (drawn @ sums) / (drawn @ rows)


def detection(amount: np.ndarray, scores: np.ndarray, materials: np.ndarray) -> list[Detected]:
    """AUROC of rows with much or little of something against all rows with none of it.

    amount: (N,), 0 where there is none. Ranges have about as many rows each, and never part equal amounts.
    """
    there = amount > 0
    edges = np.unique(amount[there])
    if len(edges) > RANGES:
        edges = np.unique(np.quantile(amount[there], np.linspace(0, 1, RANGES + 1), method="lower")[1:])
    found, below = [], 0.0
    for edge in edges:
        own = (amount > below) & (amount <= edge)
        rows, below = own | ~there, edge
        if not own.any():
            continue
        count, score = len(np.unique(materials[own])), None
        if min(count, len(np.unique(materials[~there]))) >= FEWEST:
            drawn = draws(materials[rows])
            score = Interval(
                auroc(own[rows], scores[rows]),
                *middle(resampled_auroc(own[rows], scores[rows], materials[rows], drawn)),
            )
        found.append(Detected(float(amount[own].min()), float(amount[own].max()), int(own.sum()), count, score))
    return found


def detection_limit(found: list[Detected]) -> float | None:
    """The least amount from which on every range is told from none, the whole of its interval above 0.5; None if none."""
    limit = None
    for each in reversed(found):
        if each.auroc is None or each.auroc.low <= 0.5:
            break
        limit = each.least
    return limit


def roc(truth: np.ndarray, scores: np.ndarray, materials: np.ndarray, points: int = 101) -> Roc:
    """The curve at `points` shares of false alarms, straight between thresholds."""
    grid, drawn = np.linspace(0, 1, points), draws(materials)
    curves = [_curve(*_levels(truth, scores, _weights(materials, each)), grid) for each in np.array_split(drawn, 10)]
    whole = _curve(*_levels(truth, scores, np.ones((1, len(truth)))), grid)[0]
    curve = np.concatenate(curves)
    low, high = np.nanquantile(curve, (0.025, 0.975), axis=0)
    return Roc(grid, whole, low, high)


def _weights(materials: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(R, N) how often each row is in each resample."""
    _, material = np.unique(materials, return_inverse=True)
    return drawn[:, material].astype(np.float64)


def _levels(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, U) rows with it and without at each score, the highest first; equal scores are one."""
    truth = np.asarray(truth, bool)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(np.asarray(scores, np.float64)[order]) != 0))
    weights = weights[:, order]
    there, absent = (np.add.reduceat(weights * side[order], starts, axis=1) for side in (truth, ~truth))
    return there, absent


def _auroc(there: np.ndarray, absent: np.ndarray) -> np.ndarray:
    below = absent[:, ::-1].cumsum(axis=1)[:, ::-1] - absent / 2
    pairs = there.sum(axis=1) * absent.sum(axis=1)
    return np.where(pairs > 0, (there * below).sum(axis=1) / np.maximum(pairs, 1), np.nan)


def _average_precision(there: np.ndarray, absent: np.ndarray) -> np.ndarray:
    hits, said = there.cumsum(axis=1), (there + absent).cumsum(axis=1)
    total = hits[:, -1]
    return np.where(total > 0, (there * hits / np.maximum(said, 1)).sum(axis=1) / np.maximum(total, 1), np.nan)


def _curve(there: np.ndarray, absent: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(R, P); NaN where all rows of a resample are alike."""
    found = np.full((len(there), len(grid)), np.nan)
    for row, (hits, alarms) in enumerate(zip(there.cumsum(axis=1), absent.cumsum(axis=1), strict=True)):
        if hits[-1] and alarms[-1]:
            # Of equal false alarms the last is the highest, and a step up is one.
            at, height = np.append(0, alarms / alarms[-1]), np.append(0, hits / hits[-1])
            last = np.append(np.diff(at) > 0, True)
            found[row] = np.interp(grid, at[last], height[last])
    return found


def _resampled(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    truth: np.ndarray,
    scores: np.ndarray,
    materials: np.ndarray,
    drawn: np.ndarray,
) -> np.ndarray:
    pieces = [drawn[i : i + PIECE] for i in range(0, len(drawn), PIECE)]
    return np.concatenate([score(*_levels(truth, scores, _weights(materials, piece))) for piece in pieces])
