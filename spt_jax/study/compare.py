"""Models side by side on one split: the mean of their main scores, by element too, and who is ahead by more than chance.

A competitor is one or several models of one kind, such as three seeds: its score is their mean, with their spread, and
beside it that of their mean answer. Classes are the most likely ones, for all alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_pipelines.dataset.data import Split
from data_pipelines.errors import RunError
from data_pipelines.schema import Batch, Descriptor, column_of, columned
from spt_jax.scoring.intervals import Difference, difference, draws, resampled_scores
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import COMMON
from spt_jax.study.tables import mean, rows_of
from spt_jax.tasks import Answers


@dataclass(frozen=True)
class Compared:
    """seeds: the mean main score of each of its models. spread: their standard deviation. together: of their mean answer.

    descriptors, elements: mean over its models. ahead: of the first competitor, in the mean over descriptors; None for
    the first.
    """

    seeds: list[float]
    spread: float
    together: float
    descriptors: dict[str, float]
    elements: dict[str, float]
    ahead: Difference | None

    @property
    def score(self) -> float:
        return float(np.mean(self.seeds))


def compare(competitors: Mapping[str, Sequence[Answers]], split: Split) -> dict[str, Compared]:
    """By name, each with the answers of its models on the split. Raises RunError where they share no descriptor with labels.

    Only descriptors that all answer, and that the split labels, are counted.
    """
    batch, names = split.batch, np.array(split.materials)
    answered = set.intersection(*(set(answers) for each in competitors.values() for answers in each))
    shared = [d for _, d in columned(batch.labels) if d.name in answered and _has_score(d, batch)]
    if not shared:
        raise RunError("no descriptor is answered by all of these models and labelled in the split")
    drawn, found = draws(names), {}
    resampled = {
        name: np.mean([_resampled(one, batch, names, drawn, shared) for one in each], axis=0)
        for name, each in competitors.items()
    }
    elements = np.array([absorber.split()[0] for absorber in split.absorbers])
    first = next(iter(competitors))
    for name, each in competitors.items():
        seeds = [_scores(one, batch, shared) for one in each]
        means = [float(np.mean(list(own.values()))) for own in seeds]
        ahead = None
        if name != first:
            ahead = difference((float(np.mean(means)), found[first].score), (resampled[name], resampled[first]))
        found[name] = Compared(
            means,
            float(np.std(means)),
            float(np.mean(list(_scores(mean([_only(one, shared) for one in each]), batch, shared).values()))),
            {d.name: float(np.mean([own[d.name] for own in seeds])) for d in shared},
            _by_element(each, batch, elements, shared),
            ahead,
        )
    return found


def _has_score(d: Descriptor, batch: Batch) -> bool:
    """A class has one where there is a label, a value where there are two that differ."""
    labels = batch.labels[batch.mask[:, column_of(d.name)], column_of(d.name)]
    return len(labels) > 0 and (d.kind == "class" or np.ptp(labels) > 0)


def _only(answers: Answers, shared: list[Descriptor]) -> Answers:
    return {d.name: answers[d.name] for d in shared}


def _scores(answers: Answers, batch: Batch, shared: list[Descriptor]) -> dict[str, float]:
    scores = score_answers(_only(answers, shared), batch)
    return {name: main for name, each in scores.items() if (main := main_score(each)) is not None}


def _by_element(
    each: Sequence[Answers], batch: Batch, elements: np.ndarray, shared: list[Descriptor]
) -> dict[str, float]:
    """Mean over models and descriptors, of the elements with enough labelled sites."""
    found, some = {}, batch.mask[:, [column_of(d.name) for d in shared]].any(axis=1)
    for element in np.unique(elements[some]):
        rows = some & (elements == element)
        if rows.sum() < COMMON:
            continue
        own = Batch(*(array[rows] for array in batch))
        scores = [_scores(rows_of(answers, rows), own, shared) for answers in each]
        if scores[0]:
            found[str(element)] = float(np.mean([np.mean(list(one.values())) for one in scores]))
    return found


def _resampled(
    answers: Answers, batch: Batch, materials: np.ndarray, drawn: np.ndarray, shared: list[Descriptor]
) -> np.ndarray:
    """(R,) mean main score over the descriptors. drawn: (R, M) of all materials of the split."""
    order, total = np.unique(materials), []
    for d in shared:
        known = batch.mask[:, column_of(d.name)]
        truth, said = batch.labels[known, column_of(d.name)], answers[d.name][known]
        there = np.isin(order, materials[known])
        decided = said.argmax(axis=1) if d.kind == "class" else said
        with np.errstate(invalid="ignore", divide="ignore"):  # of a few labels some resamples have none: NaN
            total.append(resampled_scores(d, truth, decided, materials[known], drawn[:, there]))
    return np.mean(total, axis=0)
