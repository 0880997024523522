"""How sure a score is, a difference of two models, and an order of many.

Sites of one material are alike, so materials are drawn anew, not sites: a bootstrap of clusters. Scores are computed
from sums over each material's sites, which a resample only weights, for all resamples at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, studentized_range

from data_pipelines.schema import DESCRIPTORS, Batch, Descriptor
from spt_jax.scoring.metrics import main_score, score
from spt_jax.tasks import Answers

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A score on the whole split and the middle 95 % of its resamples."""

    score: float
    low: float
    high: float


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
    """(R,) main scores of a descriptor (macro-F1 or R2), by the rules of `metrics.score` applied to each resample.

    truth, prediction: (N,) class indices or values. materials: (N,) names. drawn: (R, M) as of `draws`. NaN where a
    resample has no two distinct labels and so no R2.
    """
    resampled = resampled_f1 if d.kind == "class" else resampled_r2
    return resampled(truth, prediction, materials, drawn)


def resampled_f1(truth: np.ndarray, prediction: np.ndarray, materials: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(R,) macro-F1. Most resamples lack some rare class, often a hard one: they lie above the whole split's score."""
    _, material = np.unique(materials, return_inverse=True)
    classes, index = np.unique(np.concatenate([truth, prediction]), return_inverse=True)
    truth, prediction = np.split(index, 2)

    def counts(of: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """(R, C) sites of each class."""
        table = np.zeros((drawn.shape[1], len(classes)))
        np.add.at(table, (material[rows], of[rows]), 1)
        return drawn @ table

    hits = counts(truth, truth == prediction)
    either = counts(truth, slice(None)) + counts(prediction, slice(None))
    # A class that the resample holds neither as label nor as prediction does not count.
    f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
    return f1.sum(axis=1) / (either > 0).sum(axis=1)


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


def intervals(answers: Answers, batch: Batch, materials: tuple[str, ...]) -> dict[str, Interval]:
    """Main score of each descriptor with its interval, on the labelled sites of a split."""
    found = {}
    for d, rows, truth in _labelled(batch, answers):
        prediction, names = _decided(d, answers, rows), np.array(materials)[rows]
        whole = main_score(score(d, truth, prediction))
        if whole is not None:
            found[d.name] = Interval(whole, *_middle(resampled_scores(d, truth, prediction, names, draws(names))))
    return found


def differences(a: Answers, b: Answers, batch: Batch, materials: tuple[str, ...]) -> dict[str, Difference]:
    """A minus B by descriptor, paired: both are scored on the same sites of each resample."""
    found = {}
    for d, rows, truth in _labelled(batch, a, b):
        names = np.array(materials)[rows]
        drawn, both = draws(names), [_decided(d, each, rows) for each in (a, b)]
        whole = [one for each in both if (one := main_score(score(d, truth, each))) is not None]
        if len(whole) == len(both):
            found[d.name] = difference(whole, [resampled_scores(d, truth, each, names, drawn) for each in both])
    return found


def difference(whole: Sequence[float], resampled: Sequence[np.ndarray]) -> Difference:
    """Of two models: score on all sites, and (R,) scores on the same resamples. A tie is half a win for each."""
    ahead = resampled[0] - resampled[1]
    ahead = ahead[np.isfinite(ahead)]
    share = float((ahead > 0).mean() + (ahead == 0).mean() / 2)
    return Difference(whole[0] - whole[1], *_middle(ahead), share)


def _labelled(batch: Batch, *answers: Answers) -> list[tuple[Descriptor, np.ndarray, np.ndarray]]:
    """Descriptor, its labelled rows (N,) bool, and their labels, where all models answer and anything is labelled."""
    columns = [(d, np.asarray(batch.mask[:, i]), batch.labels[:, i]) for i, d in enumerate(DESCRIPTORS)]
    return [(d, m, y[m]) for d, m, y in columns if m.any() and all(d.name in each for each in answers)]


def _decided(d: Descriptor, answers: Answers, rows: np.ndarray) -> np.ndarray:
    found = answers[d.name][rows]
    return found.argmax(axis=1) if d.kind == "class" else found


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


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
