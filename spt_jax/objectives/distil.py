"""Distillation: another model, the teacher, says what a view shows, and its answer is learnt beside the labels.

It is asked about the very view that the network sees, shifted, noisy and mixed alike (arXiv 1503.02531, 2106.05237): so
every view has an answer of its own, and spectra without labels have one too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import SYMBOLS, EnergyGrid, descriptor, site_kind
from spt_jax.tasks import Task


@dataclass(frozen=True)
class Teacher:
    """A trained model, whose parameters are constants of the step.

    name: as it was asked for. fingerprint: of its bytes. network: (B, L) spectra on `grid` and (B,) atomic numbers -> head
    outputs. tasks: what it answers. absorbers: "Cu K", that it knows. dataset: the fingerprint of what it was trained
    on. temperature: by class descriptor, what divides its logits by atomic number of the absorber, (elements,).
    """

    name: str
    fingerprint: str
    network: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
    tasks: tuple[Task, ...]
    grid: EnergyGrid
    absorbers: tuple[str, ...]
    dataset: str
    temperature: Mapping[str, np.ndarray]

    def check(self, tasks: tuple[Task, ...], train: Statistics, grid: EnergyGrid) -> None:
        """Raises RunError where its answers are no answers to these tasks of this training set."""
        own = {task.name: task for task in self.tasks}
        if grid != self.grid:
            raise RunError(f"teacher {self.name} reads a grid {self.grid}; that of the training set is one {grid}")
        if strange := sorted(set(train.absorbers) - set(self.absorbers)):
            raise RunError(f"teacher {self.name} knows {', '.join(self.absorbers)}, and not {', '.join(strange)}")
        for task in tasks:
            theirs = own.get(task.name, task)
            if theirs.classes != task.classes:
                raise RunError(f"teacher {self.name} has {theirs.classes} classes of {task.name}, not {task.classes}")
            if theirs.elements != task.elements:
                raise RunError(f"teacher {self.name} has other elements of {task.name} than the training set shows")
        if not own.keys() & {task.name for task in tasks}:
            raise RunError(f"teacher {self.name} answers {', '.join(own)}: none of what is to be learnt")

    def losses(
        self, outputs: dict[str, jax.Array], spectrum: jax.Array, atomic_number: jax.Array, tasks: tuple[Task, ...]
    ) -> dict[str, jax.Array]:
        """How far head outputs are from what it says of the same (B, L) spectra, by descriptor that it answers.

        Of classes KL(teacher || network) of calibrated probabilities, of the elements of a shell its sum, each there or
        not, of values the squared difference, each in units of a constant prediction's loss, as those of labels are;
        mean over the rows, zero where a site cannot have it.
        """
        said = jax.lax.stop_gradient(self.network(spectrum, atomic_number))
        own, found = {task.name: task for task in self.tasks}, {}
        for task in tasks:
            if task.name not in own:
                continue
            logits, output = said[task.name], outputs[task.name]
            if task.kind == "regression":
                value = logits * own[task.name].std + own[task.name].mean
                each = (output - (value - task.mean) / task.std) ** 2
            else:
                temperature = jnp.asarray(self.temperature[task.name], jnp.float32)[atomic_number][:, None]
                if task.kind == "class":
                    each = _divergence(logits / temperature, output)
                else:
                    there, ours = (logits + own[task.name].offset) / temperature, output + task.offset
                    # There or not: two classes.
                    pairs = (jnp.stack([x, jnp.zeros_like(x)], axis=-1) for x in (there, ours))
                    each = _divergence(*pairs).sum(axis=-1)
            found[task.name] = jnp.where(_has(task.name)[atomic_number], each, 0).mean() / task.trivial
        return found


def _divergence(teacher: jax.Array, network: jax.Array) -> jax.Array:
    """(...) KL(teacher || network) of (..., C) logits."""
    teacher, network = jax.nn.log_softmax(teacher), jax.nn.log_softmax(network)
    return (jnp.exp(teacher) * (teacher - network)).sum(axis=-1)


def _has(name: str) -> jax.Array:
    """(elements,) True where a site of this atomic number has the descriptor."""
    return jnp.asarray(np.array([site_kind(symbol) in descriptor(name).sites for symbol in SYMBOLS]))
