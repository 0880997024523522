"""What is learnt: the protocol between networks and the trainer, which knows no label.

A way to learn is one class of this shape, in a file of its own, and a dataclass of its settings in `Config.objective`.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.loss_grid import LossGrid
from data_pipelines.schema import Batch, EnergyGrid
from spt_jax.config import ImagesConfig, JointConfig, MaskedConfig, ObjectiveConfig
from spt_jax.objectives.distil import Teacher
from spt_jax.objectives.images import Images
from spt_jax.objectives.joint import Joint
from spt_jax.objectives.labels import Labels
from spt_jax.objectives.masked import Masked
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.phases import PhaseDecisions
from spt_jax.tasks import Task


class Objective(Protocol):
    """Random numbers belong to rows, and losses are sums over rows: so a batch may be cut over devices and in pieces.

    tasks: the descriptors that the network has to put out. names: of the T losses, in their order. hides: are parts of
    spectra hidden? Then the network also puts out what was there (`model.heads.SPECTRUM`).
    """

    @property
    def tasks(self) -> tuple[Task, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def hides(self) -> bool: ...

    def views(self, batch: Batch, keys: jax.Array) -> Any:
        """The rows that are learnt from, a pytree of (B, ...) arrays: here, and only here, may rows meet.

        keys: (B,), the same that `loss` gets with the row.
        """
        ...

    def loss(self, model: nnx.Module, rows: Any, keys: jax.Array) -> jax.Array:
        """(T,) losses of some of the rows, each 1 for a model that knows nothing."""
        ...

    def shown(self, batch: Batch) -> np.ndarray:
        """(N, L) what the network is shown of a split when it is judged, the same every time."""
        ...

    def score(self, outputs: dict[str, np.ndarray], batch: Batch) -> dict[str, float | None]:
        """The head outputs for what was shown of a split, judged; higher is better, and None where there is nothing to judge by."""
        ...

    def decisions(
        self, outputs: dict[str, np.ndarray], batch: Batch, materials: tuple[str, ...], names: tuple[str, ...]
    ) -> Decisions | PhaseDecisions | None:
        """What turns the outputs of the named tasks into answers, fitted on a split; None where nothing has to."""
        ...


def make_objective(
    config: ObjectiveConfig, train: Statistics, grid: EnergyGrid, teacher: Teacher | None = None
) -> Objective:
    """What `config` describes, for a training set. Raises RunError where that has nothing to learn from.

    teacher: the one that `config` names, to train with; everything but the losses is the same without it.
    """
    if isinstance(grid, LossGrid) and not isinstance(config, ImagesConfig):
        raise RunError(
            "this dataset has spectrum images; train the preset image, live or aligned with its own objective"
        )
    match config:
        case ImagesConfig():
            return Images.of(config, train, grid)
        case MaskedConfig():
            return Masked.of(config, train, grid)
        case JointConfig():
            return Joint(config, Labels.of(config.labels, train, grid, teacher), Masked.of(config.masked, train, grid))
    return Labels.of(config, train, grid, teacher)
