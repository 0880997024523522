"""What anybody would answer who knows the element alone: the bar for every score."""

from __future__ import annotations

import numpy as np

from data_pipelines.dataset.statistics import shell_counts
from data_pipelines.schema import SHELL_NAMES, Batch, Descriptor, columned
from spt_jax.scoring.decide import class_prior, element_prior
from spt_jax.tasks import Answers


def trivial_answers(train: Batch, batch: Batch) -> Answers:
    """For each row of `batch` the frequencies of the classes or of the elements of a shell, or the mean, of the training
    labels of its element.

    Of all elements where its own has no label; a descriptor without any training label has no answer.
    """
    answers: Answers = {}
    for column, d in columned(train.labels):
        known = train.mask[:, column]
        labels, elements = train.labels[known, column], train.atomic_number[known]
        if not len(labels):
            continue
        found = np.repeat(_usual(d, labels)[None], len(batch.labels), axis=0)
        for element in np.unique(elements):
            found[batch.atomic_number == element] = _usual(d, labels[elements == element])
        answers[d.name] = found
    for name in SHELL_NAMES:
        counts = shell_counts(train, name)
        if counts.any():
            answers[name] = element_prior(counts, batch.atomic_number)
    return answers


def _usual(d: Descriptor, labels: np.ndarray) -> np.ndarray:
    return class_prior(labels, len(d.classes)) if d.kind == "class" else np.asarray(labels.mean())
