"""The joint loss: masked, and balanced by what a constant prediction would cost."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.schema import DESCRIPTORS, Batch, descriptor
from spt_jax.model.heads import HeadSpec


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


def make_tasks(names: tuple[str, ...], train: Batch) -> tuple[Task, ...]:
    """Statistics of the training labels; a descriptor without any is left out."""
    tasks = []
    for column, d in enumerate(DESCRIPTORS):
        present = train.mask[:, column]
        if d.name not in names or not present.any():
            continue
        values = train.labels[present, column].astype(np.float64)
        mean, std, trivial = 0.0, 1.0, 1.0
        if d.kind == "regression":
            mean, std = float(values.mean()), float(max(values.std(), 1e-6))
        else:
            share = np.bincount(values.astype(int)) / len(values)
            # A label that never changes (OS of oxygen) costs nothing; the floor keeps its weight finite.
            trivial = float(max(-(share[share > 0] * np.log(share[share > 0])).sum(), 0.1))
        tasks.append(Task(d.name, column, len(d.classes), mean, std, float(present.mean()), trivial))
    return tuple(tasks)


def head_specs(tasks: tuple[Task, ...]) -> tuple[HeadSpec, ...]:
    return tuple(HeadSpec(task.name, task.classes) for task in tasks)


def joint_loss(
    outputs: dict[str, jax.Array], batch: Batch, tasks: tuple[Task, ...], label_smoothing: float = 0.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean over descriptors of their balanced losses, and each of them.

    Each is the cross entropy or squared standardised error summed over labelled rows, divided by the number of
    labels expected in a batch and by the cost of a constant prediction: 1 means "knows nothing" for every
    descriptor, so none outweighs another by its scale, its number of classes or its coverage.
    """
    losses = {}
    size = batch.labels.shape[0]
    for task in tasks:
        mask, label, output = batch.mask[:, task.column], batch.labels[:, task.column], outputs[task.name]
        if task.classes:
            target = jax.nn.one_hot(label.astype(jnp.int32), task.classes)
            target = (1 - label_smoothing) * target + label_smoothing / task.classes
            each = -(target * jax.nn.log_softmax(output)).sum(axis=-1)
        else:
            each = (output - (label - task.mean) / task.std) ** 2
        losses[task.name] = jnp.where(mask, each, 0).sum() / (size * task.coverage * task.trivial)
    return sum(losses.values()) / len(losses), losses


def units(task: Task, output: np.ndarray) -> np.ndarray:
    """Head output -> class probabilities (N, C), or values (N,) in the descriptor's unit."""
    if task.classes:
        shifted = np.exp(output - output.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    return np.clip(output * task.std + task.mean, *descriptor(task.name).plausible)
