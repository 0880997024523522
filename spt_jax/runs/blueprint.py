"""What a checkpoint says of itself: all that inference needs besides the weights, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import jax
import numpy as np

from data_pipelines.schema import EnergyGrid, descriptor
from spt_jax.config import ModelConfig, PeerConfig
from spt_jax.scoring.decisions import Decisions
from spt_jax.tasks import Task

Network = Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
"""(B, L) spectra on the grid and (B,) atomic numbers -> (B, ...) output of each head, and "bands"; as SPT itself."""

if TYPE_CHECKING:
    from flax import nnx

    from data_pipelines.dataset.loading import Dataset, Split


@dataclass(frozen=True)
class Blueprint:
    """The model's configuration and the meaning of its inputs and outputs.

    absorbers: element and edge of the training spectra, "Cu K".
    spectrum_mean, spectrum_std: (L,) of the training set.
    classes: the class list of each class descriptor, checked against the table when loaded.
    """

    model: ModelConfig | PeerConfig
    grid: EnergyGrid
    absorbers: tuple[str, ...]
    tasks: tuple[Task, ...]
    classes: dict[str, tuple[int, ...]]
    spectrum_mean: tuple[float, ...]
    spectrum_std: tuple[float, ...]
    dataset: str
    validation: dict[str, float | None] = field(default_factory=dict)
    learnt: tuple[str, ...] = ()
    """Descriptors it was trained on, where these are not all its heads: an expert of an ensemble."""
    decisions: Decisions | None = None
    """What is said of its answers, fitted on the validation materials; none in a model made before these were kept."""

    @property
    def learnt_tasks(self) -> tuple[Task, ...]:
        """The heads whose output means something."""
        return tuple(task for task in self.tasks if not self.learnt or task.name in self.learnt)

    @classmethod
    def of(cls, model: ModelConfig | PeerConfig, dataset: Dataset, train: Split, tasks: tuple[Task, ...]) -> Blueprint:
        spectra = train.batch.spectrum.astype(np.float64)
        return cls(
            model=model,
            grid=dataset.grid,
            absorbers=tuple(sorted(set(train.absorbers))),
            tasks=tasks,
            classes={task.name: descriptor(task.name).classes for task in tasks if task.classes},
            spectrum_mean=tuple(spectra.mean(axis=0).tolist()),
            spectrum_std=tuple(spectra.std(axis=0).tolist()),
            dataset=dataset.fingerprint,
        )

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict) -> Blueprint:
        """Raises ValueError where the descriptor table has changed since the checkpoint was made."""
        classes = {name: tuple(values) for name, values in document["classes"].items()}
        for name, values in classes.items():
            if descriptor(name).classes != values:
                raise ValueError(f"the classes of {name} have changed since this checkpoint was made")
        return cls(
            model=(PeerConfig if "kind" in document["model"] else ModelConfig)(**document["model"]),
            grid=EnergyGrid(**document["grid"]),
            absorbers=tuple(document["absorbers"]),
            tasks=tuple(Task(**task) for task in document["tasks"]),
            classes=classes,
            spectrum_mean=tuple(document["spectrum_mean"]),
            spectrum_std=tuple(document["spectrum_std"]),
            dataset=document["dataset"],
            validation=document["validation"],
            learnt=tuple(document.get("learnt", ())),
            decisions=Decisions.from_json(found) if (found := document.get("decisions")) else None,
        )

    def build(self, key: jax.Array, spectra: np.ndarray) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """(graph, parameters, constants) of a fresh model for (N, L) training spectra."""
        return jax.jit(self._initialiser(covariance(spectra)))(key)

    def build_many(self, seeds: jax.Array, spectra: np.ndarray) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """The same for each of (M,) seeds, every array with the members in front."""
        init = self._initialiser(covariance(spectra))
        return jax.jit(jax.vmap(lambda seed: init(jax.random.key(seed))))(seeds)

    def abstract(self) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """The same with shapes instead of arrays."""
        return jax.eval_shape(self._initialiser(np.eye(self.grid.points)), jax.random.key(0))

    def _initialiser(self, covariance: np.ndarray) -> Callable[[jax.Array], tuple[nnx.GraphDef, nnx.State, nnx.State]]:
        # An exported model is read where flax may be missing, and needs no fresh one.
        from flax import nnx

        from spt_jax.model.heads import head_specs

        network = network_class(self.model)
        energy, mean = self.grid.relative(), np.array(self.spectrum_mean)

        def init(key: jax.Array) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
            model = network(self.model, head_specs(self.tasks), energy, mean, covariance, rngs=nnx.Rngs(params=key))
            return nnx.split(model, nnx.Param, ...)

        return init


def covariance(spectra: np.ndarray) -> np.ndarray:
    """(N, L) -> (L, L), float64."""
    mean, total = spectra.mean(axis=0, dtype=np.float64), 0.0
    # In pieces: a million spectra in float64, twice, would take more memory than all of training.
    for piece in np.array_split(spectra, 1 + len(spectra) // 65536):
        total = total + (piece - mean).T @ (piece - mean)
    return total / len(spectra)


def network_class(model: ModelConfig | PeerConfig) -> type[nnx.Module]:
    """What `model` configures; all are made and called alike."""
    if isinstance(model, ModelConfig):
        from spt_jax.model.spt import SPT

        return SPT
    from spt_jax.peers.networks import CNN, MLP
    from spt_jax.peers.transformers import AMFormer, FTTransformer

    return {"mlp": MLP, "cnn": CNN, "ft_transformer": FTTransformer, "amformer": AMFormer}[model.kind]
