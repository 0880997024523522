"""Learning labels: the joint loss, masked, and balanced by what a constant prediction would cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import SHELL_NAMES, WORD_BITS, WORDS, Batch, EnergyGrid, source_of
from spt_jax.config import LabelsConfig
from spt_jax.objectives.augment import augment, blur, cut_short, mix_share
from spt_jax.objectives.distil import Teacher
from spt_jax.objectives.signals import alike, augment_each, check_signals, hide_signals, noise_units
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.metrics import main_score, score_outputs
from spt_jax.scoring.names import COMMON
from spt_jax.tasks import Task, answers_of, make_tasks

# Random numbers of a row: for mixing, augmentation and dropout.
KEYS = 3


class LabelledRows(NamedTuple):
    """Spectra as they are learnt from. share: (B,) of `batch` in the mixture whose other part is labelled as `other`."""

    batch: Batch
    other: Batch
    share: jax.Array


@dataclass(frozen=True)
class Labels:
    """Predict the labels of a spectrum, and what a teacher says of it.

    grid: of the spectra. priors: (C,) frequency of each class among the training labels, by descriptor.
    teacher: what `config` names, loaded; None where it names none. units: as of `noise_units`, of several signals.
    """

    config: LabelsConfig
    tasks: tuple[Task, ...]
    grid: EnergyGrid
    priors: dict[str, np.ndarray]
    teacher: Teacher | None = None
    units: tuple[float, ...] = ()

    @classmethod
    def of(cls, config: LabelsConfig, train: Statistics, grid: EnergyGrid, teacher: Teacher | None = None) -> Labels:
        """Raises RunError where no training spectrum has a label that is asked for, or one of a shell that is, and for a
        teacher of something else."""
        tasks = make_tasks(config.descriptors, train)
        learnt = {task.name for task in tasks}
        missing = [name for name in config.descriptors if name not in learnt and (name in SHELL_NAMES or not tasks)]
        if missing:
            raise RunError(
                f"none of the {train.count} training spectra has a label of {', '.join(missing)}; "
                "`spt-jax data card DATASET` shows which labels there are, and --objective masked needs none"
            )
        check_signals(config, grid)
        if config.cut and not grid.gaps:
            raise RunError(
                f"cut ({config.cut:g}) takes ends away that this grid requires; prepare with --grid.required"
            )
        if teacher:
            teacher.check(tasks, train, grid)
        known = {task.name: train.labels[task.name] for task in tasks if task.kind == "class"}
        priors = {name: each.counts / each.count for name, each in known.items()}
        return cls(config, tasks, grid, priors, teacher, noise_units(train, grid) if grid.signals else ())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def hides(self) -> bool:
        return False

    def views(self, batch: Batch, keys: jax.Array) -> LabelledRows:
        """Each spectrum as a detector might have seen it, mixed with its neighbour in the batch."""
        mixing, augmenting, _ = _split(keys)
        # Without mixing no row asks for another, which may lie on another device.
        other = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), batch) if self.config.mixup else batch
        share = mix_share(mixing, batch, other, self.config.mixup)
        spectrum, several = batch.spectrum, len(self.grid.signals)
        if several:
            share = jnp.where(alike(spectrum, other.spectrum), share, 1)
        if self.config.broadening or self.config.background or self.config.self_absorption:
            spectrum = blur(augmenting, spectrum, self.config, self.grid)
        if several:
            spectrum = augment_each(augmenting, spectrum, self.config, self.grid, self.units)
        else:
            spectrum = augment(augmenting, spectrum, self.config, self.grid)
        if self.config.cut:
            spectrum = cut_short(augmenting, spectrum, self.config.cut, self.grid.common)
        mixture = share[:, None] * spectrum + (1 - share[:, None]) * jnp.roll(spectrum, 1, axis=0)
        # Of what is not mixed: a NaN of the neighbour, times 0, is NaN.
        spectrum = jnp.where(share[:, None] < 1, mixture, spectrum)
        if self.config.signal_drop:
            spectrum = hide_signals(_behind(keys, 1), spectrum, self.config.signal_drop, several)
        return LabelledRows(batch._replace(spectrum=spectrum), other, share)

    def loss(self, model: nnx.Module, rows: LabelledRows, keys: jax.Array) -> jax.Array:
        """(T,) as of `task_losses`; of what a teacher answers, the mean with its own, by `teacher_share`."""
        inputs = rows.batch.spectrum, rows.batch.atomic_number
        outputs = model(*inputs, _split(keys)[2], told(rows, keys, self.config.source_drop))
        labelled = ((rows.batch, rows.share), (rows.other, 1 - rows.share))
        losses = task_losses(outputs, labelled, self.tasks, self.config.label_smoothing)
        if not self.teacher:
            return losses
        taught, share = self.teacher.losses(outputs, *inputs, self.tasks), self.config.teacher_share
        both = zip(self.names, losses, strict=True)
        return jnp.stack([(1 - share) * own + share * taught[name] if name in taught else own for name, own in both])

    def shown(self, batch: Batch) -> np.ndarray:
        return batch.spectrum

    def score(self, outputs: dict[str, np.ndarray], batch: Batch) -> dict[str, float | None]:
        """The main scores: weighted F1 of the most likely classes, R2 of values.

        None for a descriptor with a few labels, unless all are so: by its chance the best epoch would be chosen.
        """
        found = score_outputs(outputs, batch, self.tasks)
        judged = [name for name, each in found.items() if each["n"] >= COMMON] or list(found)
        return {name: main_score(each) if name in judged else None for name, each in found.items()}

    def decisions(
        self, outputs: dict[str, np.ndarray], batch: Batch, materials: tuple[str, ...], names: tuple[str, ...]
    ) -> Decisions:
        """How the outputs for some of its descriptors become answers, fitted on a split that was not trained on."""
        tasks = tuple(task for task in self.tasks if task.name in names)
        return Decisions.fit(answers_of(outputs, tasks, batch.atomic_number), batch, materials, self.priors)


def _split(keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(B,) keys of rows -> those of mixing, of augmentation and of dropout."""
    each = jax.vmap(lambda row: jax.random.split(row, KEYS))(keys)
    return each[:, 0], each[:, 1], each[:, 2]


def _behind(keys: jax.Array, number: int) -> jax.Array:
    """(B,) further keys of rows, behind those of `_split`, whose numbers stay as they are."""
    return jax.vmap(lambda row: jax.random.fold_in(row, KEYS + number))(keys)


def told(rows: LabelledRows, keys: jax.Array, drop: float) -> jax.Array:
    """(B,) source of each row as a network is told it: of a mixture of two none, and of a share `drop` none."""
    own, other = source_of(rows.batch), source_of(rows.other)
    kept = jax.vmap(jax.random.uniform)(_behind(keys, 0)) >= drop
    return jnp.where(kept & ((own == other) | (rows.share == 1)), own, 0)


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
    "knows nothing" for every descriptor, so none outweighs another by scale, number of classes or coverage. Of the
    elements of a shell the cross entropies are summed.
    """
    losses = []
    for task in tasks:
        total = 0.0
        for batch, weight in labelled:
            label, output = batch.labels[:, task.column], outputs[task.name]
            match task.kind:
                case "class":
                    each = _cross_entropy(output, label, label_smoothing)
                case "regression":
                    each = (output - (label - task.mean) / task.std) ** 2
                case "elements":
                    words = batch.labels[:, task.column : task.column + WORDS]
                    each = _cross_entropies(output, words, task, label_smoothing)
            total += (weight * jnp.where(batch.mask[:, task.column], each, 0)).sum()
        losses.append(total / (len(label) * task.coverage * task.trivial))
    return jnp.stack(losses)


def _cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float) -> jax.Array:
    classes = logits.shape[-1]
    target = (1 - smoothing) * jax.nn.one_hot(label.astype(jnp.int32), classes) + smoothing / classes
    return -(target * jax.nn.log_softmax(logits)).sum(axis=-1)


def _cross_entropies(logits: jax.Array, words: jax.Array, task: Task, smoothing: float) -> jax.Array:
    """(B,) of the elements of a shell, each in it or not. Smoothed towards their shares: most are hardly ever there."""
    word, bit = np.divmod(np.array(task.elements), WORD_BITS)
    present = words.astype(jnp.int32)[:, word] >> bit & 1
    target = (1 - smoothing) * present + smoothing * np.array(task.shares, np.float32)
    logits = logits + task.offset
    return (jax.nn.softplus(logits) - target * logits).sum(axis=-1)
