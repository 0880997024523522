"""Learning labels and hidden parts of spectra in one run: rows without any label have the second only."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.schema import Batch
from spt_jax.config import JointConfig
from spt_jax.objectives.labels import LabelledRows, Labels
from spt_jax.objectives.masked import HiddenRows, Masked
from spt_jax.scoring.decisions import Decisions
from spt_jax.tasks import Task


@dataclass(frozen=True)
class Joint:
    """The losses of both, of two views of each spectrum; judged by its labels, on whole spectra."""

    config: JointConfig
    labels: Labels
    masked: Masked

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.labels.tasks

    @property
    def names(self) -> tuple[str, ...]:
        return self.labels.names + self.masked.names

    @property
    def hides(self) -> bool:
        return True

    def views(self, batch: Batch, keys: jax.Array) -> tuple[LabelledRows, HiddenRows]:
        return self.labels.views(batch, keys), self.masked.views(batch, keys)

    def loss(self, model: nnx.Module, rows: tuple[LabelledRows, HiddenRows], keys: jax.Array) -> jax.Array:
        """(T,) those of labels, then those of hidden parts by their weight."""
        labelled, hidden = rows
        both = self.labels.loss(model, labelled, keys), self.config.weight * self.masked.loss(model, hidden, keys)
        return jnp.concatenate(both)

    def shown(self, batch: Batch) -> np.ndarray:
        return self.labels.shown(batch)

    def score(self, outputs: dict[str, np.ndarray], batch: Batch) -> dict[str, float | None]:
        return self.labels.score(outputs, batch)

    def decisions(
        self, outputs: dict[str, np.ndarray], batch: Batch, materials: tuple[str, ...], names: tuple[str, ...]
    ) -> Decisions:
        return self.labels.decisions(outputs, batch, materials, names)
