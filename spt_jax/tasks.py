"""One descriptor as a model learns it: statistics of its labels, and the way back from a head's output to its unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_pipelines.chemistry import possible_states
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.schema import COLUMNED, SHELL_NAMES, STRUCTURES, SYMBOLS, column_of, descriptor

STATES = possible_states()

Answers = dict[str, np.ndarray]
"""What any model says of N spectra, by descriptor: (N, C) class probabilities, (N,) values in the unit, or (N, Z)
probabilities that the element of each atomic number is in the shell."""

Predictor = Callable[[np.ndarray, np.ndarray], Answers]
"""Any model: (N, L) spectra on the grid and (N,) atomic numbers -> answers."""


@dataclass(frozen=True)
class Task:
    """One descriptor as it is learnt.

    column: its place in Batch.labels. classes: outputs of its head; 0 for a regression, whose output is one value.
    mean, std: of its training labels (regression). coverage: labelled share of the training set. trivial: loss of the
    best constant prediction there. elements, shares: of a shell, the atomic numbers that training showed, one for each
    output, and how often; an output is the logit on top of that of the share.
    """

    name: str
    column: int
    classes: int
    mean: float
    std: float
    coverage: float
    trivial: float
    elements: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def kind(self) -> Literal["class", "regression", "elements"]:
        return descriptor(self.name).kind

    @property
    def offset(self) -> np.ndarray:
        """(E,) logits of the shares of a shell."""
        share = np.array(self.shares, np.float32)
        return np.log(share) - np.log1p(-share)


def make_tasks(names: tuple[str, ...], train: Statistics) -> tuple[Task, ...]:
    """The descriptors to learn, by the statistics of their training labels; one without any label is left out."""
    tasks = []
    for column, d in COLUMNED:
        labels = train.labels.get(d.name)
        if d.name not in names or not labels or not labels.count:
            continue
        mean, std, trivial = 0.0, 1.0, 1.0
        if d in STRUCTURES and d.kind == "regression" and not labels.scatter:
            continue  # a metal that is in no structure, or in all alike
        if d.kind == "regression":
            mean, std = labels.mean, max(math.sqrt(labels.scatter / labels.count), 1e-6)
        else:
            share = labels.counts[labels.counts > 0] / labels.count
            # A label that never changes (OS of oxygen) costs nothing; the floor keeps its weight finite.
            trivial = max(float(-(share * np.log(share)).sum()), 0.1)
        tasks.append(Task(d.name, column, len(d.classes), mean, std, labels.count / train.count, trivial))
    return (*tasks, *(_shell(name, train) for name in SHELL_NAMES if name in names and train.labels[name].count))


def _shell(name: str, train: Statistics) -> Task:
    labels = train.labels[name]
    count, *found = labels.counts.sum(axis=0).tolist()
    elements = tuple(z for z, each in enumerate(found, start=1) if each)
    # Half a site more on either side: an element that always is there has a finite logit.
    share = (np.array([found[z - 1] for z in elements], np.float64) + 0.5) / (count + 1)
    trivial = max(float(-(share * np.log(share) + (1 - share) * np.log1p(-share)).sum()), 0.1)
    coverage = labels.count / train.count
    return Task(name, column_of(name), len(elements), 0.0, 1.0, coverage, trivial, elements, tuple(share.tolist()))


def units(task: Task, output: np.ndarray) -> np.ndarray:
    """Head output -> class probabilities (N, C), values (N,) in the descriptor's unit, or probabilities of elements
    (N, Z): 0 of those that training did not show."""
    if task.kind == "elements":
        found = np.zeros((len(output), len(SYMBOLS)), np.float32)
        found[:, task.elements] = np.exp(-np.logaddexp(0, -(output + task.offset)))
        return found
    if task.classes:
        shifted = np.exp(output - output.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    return np.clip(output * task.std + task.mean, *descriptor(task.name).plausible)


def answers_of(outputs: dict[str, np.ndarray], tasks: tuple[Task, ...], atomic_number: np.ndarray) -> Answers:
    """Head outputs as answers for (N,) absorbers; an oxidation state that the element cannot have has no probability."""
    answers = {task.name: units(task, np.asarray(outputs[task.name])) for task in tasks}
    if "OS" in answers:
        left = answers["OS"] * STATES[np.asarray(atomic_number)]
        # Of nothing but impossible states nothing would be left.
        share = left.sum(axis=-1, keepdims=True)
        answers["OS"] = np.where(share > 0, left / np.where(share > 0, share, 1), answers["OS"])
    return answers
