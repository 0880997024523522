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
    outputs: dict[str, jax.Array],
    labelled: tuple[tuple[Batch, jax.Array], ...],
    tasks: tuple[Task, ...],
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean over descriptors of their balanced losses, and each of them.

    `labelled` holds batches of labels for the same outputs with the (B,) weight of each row: one with weights 1,
    or the two sides of a mixture. Each loss is the cross entropy or squared standardised error summed over labelled
    rows, divided by the number of labels expected in a batch and by the cost of a constant prediction: 1 means
    "knows nothing" for every descriptor, so none outweighs another by scale, number of classes or coverage.
    """
    losses = {}
    for task in tasks:
        total = 0.0
        for batch, weight in labelled:
            label = batch.labels[:, task.column]
            each = (
                _cross_entropy(outputs[task.name], label, label_smoothing)
                if task.classes
                else (outputs[task.name] - (label - task.mean) / task.std) ** 2
            )
            total += (weight * jnp.where(batch.mask[:, task.column], each, 0)).sum()
        losses[task.name] = total / (len(label) * task.coverage * task.trivial)
    return sum(losses.values()) / len(losses), losses


def _cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float) -> jax.Array:
    classes = logits.shape[-1]
    target = (1 - smoothing) * jax.nn.one_hot(label.astype(jnp.int32), classes) + smoothing / classes
    return -(target * jax.nn.log_softmax(logits)).sum(axis=-1)


def units(task: Task, output: np.ndarray) -> np.ndarray:
    """Head output -> class probabilities (N, C), or values (N,) in the descriptor's unit."""
    if task.classes:
        shifted = np.exp(output - output.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    return np.clip(output * task.std + task.mean, *descriptor(task.name).plausible)
