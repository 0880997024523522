"""What a checkpoint says of itself: all that inference needs besides the weights, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np

from data_pipelines.dataset.elements import ElementStatistics
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.loss_grid import LossGrid, grid_of
from data_pipelines.schema import SOURCE, STRUCTURE, EnergyGrid, descriptor, number_of
from data_pipelines.signals import TECHNIQUES, parse_signal
from spt_jax.config import ExecutionConfig, FusionConfig, LatentConfig, ModelConfig, NetworkConfig, PeerConfig
from spt_jax.runs.formats import execution_of_today
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.phases import PhaseDecisions
from spt_jax.tasks import Task

Network = Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
"""(B, L) spectra on the grid and (B,) atomic numbers -> (B, ...) output of each head, and "bands"; as SPT itself."""

_OF_SHELLS = ("elements", "shares")
# As a network numbers them, which also must not change the order of TECHNIQUES.
_EDGES = ("", "K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
UNKNOWN, AVERAGE = "unknown", "average"

if TYPE_CHECKING:
    from flax import nnx

    from spt_jax.model.fusion import Slot


@dataclass(frozen=True)
class Blueprint:
    """The model's configuration and the meaning of its inputs and outputs.

    absorbers: element and edge of the training spectra, "Cu K".
    spectrum_mean, spectrum_std: (L,) of the training set.
    classes: the class list of each class descriptor, checked against the table when loaded.
    """

    model: NetworkConfig
    grid: EnergyGrid
    absorbers: tuple[str, ...]
    tasks: tuple[Task, ...]
    classes: dict[str, tuple[int, ...]]
    spectrum_mean: tuple[float, ...]
    spectrum_std: tuple[float, ...]
    dataset: str
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    validation: dict[str, float | None] = field(default_factory=dict)
    """Main scores on the validation split, by which it was chosen; empty where they are not known."""
    learnt: tuple[str, ...] = ()
    """Descriptors it was trained on, where these are not all its heads: an expert of an ensemble."""
    hides: bool = False
    """Was it trained on spectra of which parts were hidden? Then it has a head that says what was there."""
    sources: tuple[int, ...] = ()
    """Training spectra of each class of SOURCE; empty for a network that is told of none."""
    source: str = UNKNOWN
    """What it takes spectra to come from: a version of FEFF, `average`, or `unknown`."""
    decisions: Decisions | None = None
    """How its outputs become answers; None where that was never fitted: then the most likely class, and no interval."""
    phases: PhaseDecisions | None = None
    """The same of a network that answers spectrum images."""

    @property
    def learnt_tasks(self) -> tuple[Task, ...]:
        """The heads whose output means something."""
        return tuple(task for task in self.tasks if not self.learnt or task.name in self.learnt)

    @classmethod
    def of(
        cls,
        model: NetworkConfig,
        execution: ExecutionConfig,
        grid: EnergyGrid,
        tasks: tuple[Task, ...],
        train: Statistics,
        dataset: str,
        hides: bool = False,
    ) -> Blueprint:
        """Of a model before training; `dataset` is the fingerprint of what it is trained on.

        Raises RunError where it is to be told of sources and no training spectrum has one, and for a network of one
        signal where there are several, or the other way round.
        """
        if grid.signals and isinstance(model, ModelConfig):
            raise RunError(
                f"SPT reads one spectrum, and a row of this dataset has {', '.join(grid.signals)}; train fusion, or mlp or "
                "cnn as a baseline"
            )
        if isinstance(model, FusionConfig) and not grid.signals:
            raise RunError(
                "fusion reads several signals, and this dataset has one spectrum a row; prepare with --grid.signals"
            )
        if isinstance(model, LatentConfig) != isinstance(grid, LossGrid):
            raise RunError(
                f"{model.name} reads spectra of one absorber, and this dataset has spectrum images; train the preset image"
                if isinstance(grid, LossGrid)
                else "latent reads spectrum images, and this dataset has spectra; make one with `spt-jax image-data`"
            )
        sources = train.labels[SOURCE.name].counts if model.sources else ()
        if model.sources and not sum(sources):
            raise RunError(
                f"sources: none of the {train.count} training spectra says which FEFF calculated it; `spt-jax prepare` "
                "them again, from sources that say so"
            )
        names = [task.name for task in tasks] + ([SOURCE.name] if model.sources else [])
        return cls(
            model=model,
            grid=grid,
            absorbers=tuple(sorted(train.absorbers)),
            tasks=tasks,
            classes={name: descriptor(name).classes for name in names if descriptor(name).kind == "class"},
            spectrum_mean=tuple(train.mean.tolist()),
            spectrum_std=tuple(train.std.tolist()),
            dataset=dataset,
            execution=execution,
            hides=hides,
            sources=tuple(map(int, sources)),
        )

    def weights_of(self, source: int | str) -> np.ndarray:
        """(1 + classes,) of `model.sources.Sources`, for a version of FEFF, 9 or "9"; "unknown"; or "average", of those that
        it was trained on, as often as it saw them.

        Raises RunError for one that it never saw, and for a network that is told of none.
        """
        if not self.sources:
            raise RunError(f"source {source}: this model was not told of sources; it answers the same for all of them")
        counts, known = np.array(self.sources, float), dict(zip(map(str, SOURCE.classes), self.sources, strict=True))
        match str(source):
            case "unknown":
                chosen = np.zeros_like(counts)
            case "average":
                chosen = counts / counts.sum()
            case version if known.get(version):
                chosen = np.array([name == version for name in known], float)
            case _:
                seen = ", ".join(name for name, count in known.items() if count)
                raise RunError(
                    f"source {source}: this model was trained on spectra of FEFF {seen}; give one of these, {AVERAGE} or "
                    f"{UNKNOWN}"
                )
        return np.append(1 - chosen.sum(), chosen).astype(np.float32)

    def to_json(self) -> dict:
        """What is only of shells stands there where there is one."""
        document = {**asdict(self), "decisions": self.decisions and self.decisions.to_json()}
        if not self.phases:
            del document["phases"]
        for task in document["tasks"]:
            for name in _OF_SHELLS:
                if not task[name]:
                    del task[name]
        return document

    @classmethod
    def from_json(cls, document: dict) -> Blueprint:
        """Raises KeyError for a field that is missing, and ValueError where the descriptor table has changed since."""
        document = {
            "hides": False,
            "sources": (),
            "source": UNKNOWN,
            "phases": None,
            **document,
        }  # which every model before it was
        found = {each.name: document[each.name] for each in fields(cls)}
        classes = {name: tuple(values) for name, values in found["classes"].items()}
        for name, values in classes.items():
            if descriptor(name).classes != values:
                raise ValueError(f"the classes of {name} have changed since this checkpoint was made")
        if not all(isinstance(each, str) and len(each.split()) == 2 for each in found["absorbers"]):
            raise ValueError("absorbers that are no elements with their edges")
        made = {
            "model": _network(found["model"]),
            "grid": grid_of(found["grid"]),
            "tasks": tuple(map(_task, found["tasks"])),
            "classes": classes,
            "execution": ExecutionConfig(**execution_of_today(found["execution"])),
            "decisions": found["decisions"] and Decisions.from_json(found["decisions"]),
            "phases": found["phases"] and PhaseDecisions.from_json(found["phases"]),
        }
        tuples = ("absorbers", "spectrum_mean", "spectrum_std", "learnt", "sources")
        return cls(**{**found, **made, **{name: tuple(found[name]) for name in tuples}})

    def build(
        self, key: jax.Array, covariance: np.ndarray, elements: ElementStatistics
    ) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """(graph, parameters, constants) of a fresh model. covariance: (L, L) of the training spectra; elements: those
        of each, for a model that standardises by them."""
        return jax.jit(self._initialiser(covariance, elements))(key)

    def build_many(
        self, seeds: jax.Array, covariance: np.ndarray, elements: ElementStatistics
    ) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """The same for each of (M,) seeds, every array with the members in front."""
        init = self._initialiser(covariance, elements)
        return jax.jit(jax.vmap(lambda seed: init(jax.random.key(seed))))(seeds)

    def abstract(self) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """The same with shapes instead of arrays."""
        points = len(self.spectrum_mean)
        return jax.eval_shape(self._initialiser(np.eye(points), ElementStatistics.none(points)), jax.random.key(0))

    def _initialiser(
        self, covariance: np.ndarray, elements: ElementStatistics
    ) -> Callable[[jax.Array], tuple[nnx.GraphDef, nnx.State, nnx.State]]:
        # An exported model is read where flax may be missing, and needs no fresh one.
        from flax import nnx

        from spt_jax.model.heads import SPECTRUM, HeadSpec, head_specs

        if isinstance(self.model, LatentConfig):
            return self._of_images(covariance)
        network, heads = network_class(self.model), head_specs(self.tasks)
        heads += (HeadSpec(SPECTRUM, 2 * self.grid.length),) if self.hides else ()
        energy, mean = self.grid.relative(), np.array(self.spectrum_mean)
        if isinstance(self.model, FusionConfig):
            network = partial(network, slots=slots_of(self.grid))
        elif self.grid.signals:
            energy = np.tile(energy, len(self.grid.signals))
        alone = elements.shrunk(mean, np.sqrt(np.diag(covariance))) if self.model.standardise == "element" else None

        def init(key: jax.Array) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
            given = energy, mean, covariance, self.execution, alone
            model = network(self.model, heads, *given, rngs=nnx.Rngs(params=key))
            return nnx.split(model, nnx.Param, ...)

        return init

    def _of_images(self, covariance: np.ndarray) -> Callable[[jax.Array], tuple[nnx.GraphDef, nnx.State, nnx.State]]:
        from flax import nnx

        from spt_jax.model.latent import EdgeVAE

        grid, mean = self.grid, np.array(self.spectrum_mean)
        sums = {"logs": grid.logs(), "widths": grid.widths(), "classes": len(grid.classes)}

        def init(key: jax.Array) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
            given = self.model, grid.relative(), mean, covariance, self.execution
            return nnx.split(EdgeVAE(*given, **sums, rngs=nnx.Rngs(params=key)), nnx.Param, ...)

        return init


def _task(document: dict) -> Task:
    """Tuples again of what JSON has as lists; tasks from before there were shells have none."""
    return Task(**{**document, **{name: tuple(document.get(name, ())) for name in _OF_SHELLS}})


def _network(document: dict) -> NetworkConfig:
    if "latent" in document:
        trunk = document["trunk"]
        return LatentConfig(**{**document, "trunk": trunk and ModelConfig(**trunk)})
    if "trunk" in document:
        return FusionConfig(**{**document, "trunk": ModelConfig(**document["trunk"])})
    return (PeerConfig if "kind" in document else ModelConfig)(**document)


def slots_of(grid: EnergyGrid) -> tuple[Slot, ...]:
    """The grid's signals as a network is told of them."""
    from spt_jax.model.fusion import Slot

    return tuple(
        Slot(
            each.is_spectrum,
            number_of(each.element or STRUCTURE),
            _EDGES.index(each.edge),
            TECHNIQUES.index(each.technique),
        )
        for each in map(parse_signal, grid.signals)
    )


def network_class(model: NetworkConfig) -> type[nnx.Module]:
    """What `model` configures; all are made and called alike, but Fusion also needs `slots_of` the grid."""
    if isinstance(model, ModelConfig):
        from spt_jax.model.spt import SPT

        return SPT
    if isinstance(model, FusionConfig):
        from spt_jax.model.fusion import Fusion

        return Fusion
    from spt_jax.peers.networks import CNN, MLP
    from spt_jax.peers.transformers import AMFormer, FTTransformer

    return {"mlp": MLP, "cnn": CNN, "ft_transformer": FTTransformer, "amformer": AMFormer}[model.kind]


def path_name(path: tuple) -> str:
    """Where a parameter stands in its tree, "band_blocks/0/weights"; the variable's own value has no name."""
    return "/".join(str(step.key) for step in path if hasattr(step, "key"))
