"""Do probabilities mean what they say, and how wide is an interval that holds the truth: measured, and mended.

Both are fitted on answers for the validation split, of any model (decisions.py), and change no decision.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spt_jax.scoring.probabilities import FLOOR

BINS = 15
TEMPERATURES = (0.05, 20.0)


def ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599): |accuracy - confidence| in 15 bins of equal width.

    probabilities: (N, C). labels: (N,) class indices. The confidence is the probability of the most likely class;
    bins count by their share of the rows.

    >>> ece(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]))
    0.4
    """
    confidence = probabilities.max(axis=1)
    return _gap(confidence, probabilities.argmax(axis=1) == labels, _equal_width(confidence))


def ece_if_exact(probabilities: np.ndarray, draws: int = 200) -> float:
    """What `ece` finds, on average, in as many independent rows whose probabilities are exactly right.

    Not zero: |accuracy - confidence| of a bin with few rows is mostly chance (Roelofs et al. 2022, arXiv 2012.08668).
    An error near this number cannot be told from none. Sites of one material are alike, so the true floor is higher.
    """
    confidence = probabilities.max(axis=1)
    bins, rng = _equal_width(confidence), np.random.default_rng(0)
    return float(np.mean([_gap(confidence, rng.random(len(bins)) < confidence, bins) for _ in range(draws)]))


def _equal_width(confidence: np.ndarray) -> np.ndarray:
    """(N,) bins ((b - 1) / BINS, b / BINS]; float32 probabilities may exceed 1 by a rounding."""
    return np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(int)


def _gap(confidence: np.ndarray, hit: np.ndarray, bins: np.ndarray) -> float:
    difference = np.bincount(bins, weights=hit - confidence.astype(np.float64), minlength=BINS)
    return float(np.abs(difference).sum() / len(bins))


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least negative log-likelihood of (N,) class indices: above 1 where over-confident."""
    from scipy.special import log_softmax

    logits, labels = _logits(probabilities), labels.astype(int)

    def loss(log_t: float) -> float:
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean()

    return _least(loss)


def with_temperature(probabilities: np.ndarray, t: float | np.ndarray) -> np.ndarray:
    """(N, C) softmax of the logits over `t` (Guo et al. 2017). The most likely class stays, and so does what is impossible."""
    # Not by scipy's softmax, which takes longer to begin than one spectrum may.
    logits = _logits(probabilities) / t
    likely = np.exp(logits - logits.max(axis=1, keepdims=True)) * (probabilities > 0)
    return likely / likely.sum(axis=1, keepdims=True)


def fit_temperature_each(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """As of `fit_temperature`, of (N, Z) probabilities that are each of a yes or no, and of (N, Z) bool."""
    possible = probabilities > 0
    logits, truth = _logit(probabilities[possible]), truth[possible]

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        return np.mean(np.logaddexp(0, scaled) - truth * scaled)

    return _least(loss)


def with_temperature_each(probabilities: np.ndarray, t: float | np.ndarray) -> np.ndarray:
    """(N, Z) with the temperature of `fit_temperature_each`; what is impossible stays so."""
    return np.where(probabilities > 0, np.exp(-np.logaddexp(0, -_logit(probabilities) / t)), 0)


def _least(loss: Callable[[float], float]) -> float:
    """The temperature at which a loss of its logarithm is least."""
    # Who only applies a temperature need not wait for it.
    from scipy.optimize import minimize_scalar

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def _logit(probabilities: np.ndarray) -> np.ndarray:
    clipped = np.clip(probabilities, FLOOR, 1 - FLOOR, dtype=np.float64)
    return np.log(clipped) - np.log1p(-clipped)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, FLOOR, dtype=np.float64))


def conformal_halfwidth(residuals: np.ndarray, coverage: float, groups: np.ndarray | None = None) -> float:
    """Half the width of an interval about a prediction that holds the truth with probability >= `coverage`.

    residuals: (N,) truth - prediction on data that the model was not fitted to. Split conformal prediction (Lei et al.
    2018, arXiv 1604.04173): the ceil((N + 1) coverage)-th smallest residual. That asks for exchangeable rows. Sites of
    one material are alike, and a material that is asked for is a new one: materials are exchangeable, sites are
    not. With `groups`, (N,) names of materials, each material counts once, its sites sharing its weight (Lee, Barber
    and Willett 2023, arXiv 2306.06342); the promise is then for a random site of a new material.

    Infinite where there are too few to promise it: below coverage / (1 - coverage) materials.

    >>> conformal_halfwidth(np.array([0.3, -0.1, 0.2, 0.9]), 0.6)
    0.3
    """
    size = np.abs(np.asarray(residuals, np.float64))
    order = np.argsort(size)
    weights = np.ones(len(size)) if groups is None else _weights(groups)
    # The one to come counts as well, and its residual may be any.
    needed = coverage * (weights.sum() + 1)
    enough = np.cumsum(weights[order]) >= needed - 1e-9
    return float(size[order][enough.argmax()]) if enough.any() else np.inf


def coverage(within: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Share of (N,) truths that lie within their intervals; with `groups`, the mean over materials of the share of each."""
    return float(np.average(within, weights=None if groups is None else _weights(groups)))


def _weights(groups: np.ndarray) -> np.ndarray:
    """(N,) 1 / rows of the same group."""
    _, group, rows = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / rows[group]
