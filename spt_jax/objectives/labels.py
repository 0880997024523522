"""The joint loss: masked, and balanced by what a constant prediction would cost."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from data_pipelines.schema import Batch
from spt_jax.tasks import Task, make_tasks, units

__all__ = ["Task", "make_tasks", "task_losses", "units"]


def task_losses(
    outputs: dict[str, jax.Array],
    labelled: tuple[tuple[Batch, jax.Array], ...],
    tasks: tuple[Task, ...],
    label_smoothing: float = 0.0,
) -> jax.Array:
    """(T,) balanced loss of each task.

    `labelled` holds batches of labels for the same outputs with the (B,) weight of each row: one with weights 1,
    or the two sides of a mixture. Each loss is the cross entropy or squared standardised error summed over labelled
    rows, divided by the number of labels expected in a batch and by the cost of a constant prediction: 1 means
    "knows nothing" for every descriptor, so none outweighs another by scale, number of classes or coverage.
    """
    losses = []
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
        losses.append(total / (len(label) * task.coverage * task.trivial))
    return jnp.stack(losses)


def _cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float) -> jax.Array:
    classes = logits.shape[-1]
    target = (1 - smoothing) * jax.nn.one_hot(label.astype(jnp.int32), classes) + smoothing / classes
    return -(target * jax.nn.log_softmax(logits)).sum(axis=-1)
