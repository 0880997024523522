"""One descriptor as a model learns it: statistics of its labels, and the way back from a head's output to its unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.schema import DESCRIPTORS, descriptor

Answers = dict[str, np.ndarray]
"""What any model says of N spectra, by descriptor: (N, C) class probabilities, or (N,) values in the unit."""

Predictor = Callable[[np.ndarray, np.ndarray], Answers]
"""Any model: (N, L) spectra on the grid and (N,) atomic numbers -> answers."""


@dataclass(frozen=True)
class Task:
    """One descriptor as it is learnt.

    column: its place in Batch.labels. classes: 0 for a regression. mean, std: of its training labels (regression).
    coverage: labelled share of the training set. trivial: loss of the best constant prediction there.
    """

    name: str
    column: int
    classes: int
    mean: float
    std: float
    coverage: float
    trivial: float


def make_tasks(names: tuple[str, ...], train: Statistics) -> tuple[Task, ...]:
    """The descriptors to learn, by the statistics of their training labels; one without any label is left out."""
    tasks = []
    for column, d in enumerate(DESCRIPTORS):
        labels = train.labels[d.name]
        if d.name not in names or not labels.count:
            continue
        mean, std, trivial = 0.0, 1.0, 1.0
        if d.kind == "regression":
            mean, std = labels.mean, max(math.sqrt(labels.scatter / labels.count), 1e-6)
        else:
            share = labels.counts[labels.counts > 0] / labels.count
            # A label that never changes (OS of oxygen) costs nothing; the floor keeps its weight finite.
            trivial = max(float(-(share * np.log(share)).sum()), 0.1)
        tasks.append(Task(d.name, column, len(d.classes), mean, std, labels.count / train.count, trivial))
    return tuple(tasks)


def units(task: Task, output: np.ndarray) -> np.ndarray:
    """Head output -> class probabilities (N, C), or values (N,) in the descriptor's unit."""
    if task.classes:
        shifted = np.exp(output - output.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    return np.clip(output * task.std + task.mean, *descriptor(task.name).plausible)


def answers_of(outputs: dict[str, np.ndarray], tasks: tuple[Task, ...]) -> Answers:
    """Head outputs as answers."""
    return {task.name: units(task, np.asarray(outputs[task.name])) for task in tasks}
