"""A trained model -> descriptors of spectra, treated exactly as the training spectra were.

The network comes as a function, from a run folder or an exported file: nothing here needs flax or orbax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.schema import SYMBOLS, descriptor, site_kind
from data_pipelines.spectra.grid import to_grid
from spt_jax.batching import in_pieces
from spt_jax.runs.blueprint import Blueprint, Network
from spt_jax.tasks import Answers, answers_of, units

# Evaluation runs in pieces of one size, so that one program is compiled whatever the number of spectra.
CHUNK = 256


@dataclass(frozen=True)
class Value:
    """One predicted descriptor; `probabilities` by class value for a class descriptor, else empty."""

    value: float | int
    unit: str
    probabilities: dict[int, float] = field(default_factory=dict)


class Compiled:
    """A network compiled for batches of one size. Its outputs leave the device side by side: each copy costs."""

    def __init__(self, network: Network, size: int, length: int):
        arguments = jax.ShapeDtypeStruct((size, length), jnp.float32), jax.ShapeDtypeStruct((size,), jnp.int32)
        network = jax.jit(network)

        def side_by_side(spectrum: jax.Array, atomic_number: jax.Array) -> jax.Array:
            parts = network(spectrum, atomic_number).values()
            return jnp.concatenate([part.reshape(size, -1).astype(jnp.float32) for part in parts], axis=1)

        self._like = jax.eval_shape(network, *arguments)
        self._call = jax.jit(side_by_side).lower(*arguments).compile()

    def __call__(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> dict[str, np.ndarray]:
        """(size, L) float32 and (size,) int32 -> (size, ...) outputs."""
        flat, outputs, start = np.asarray(self._call(spectrum, atomic_number)), {}, 0
        for name, like in self._like.items():
            stop = start + like.size // like.shape[0]
            outputs[name] = flat[:, start:stop].reshape(like.shape).astype(like.dtype, copy=False)
            start = stop
        return outputs


class Model:
    """A trained model. `predict` for people, `outputs` for arrays."""

    def __init__(self, blueprint: Blueprint, network: Network):
        self.blueprint = blueprint
        self.network = network
        self._compiled: dict[int, Compiled] = {}

    def outputs(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> dict[str, np.ndarray]:
        """(N, L) spectra on the grid and (N,) atomic numbers -> (N, ...) head outputs and "bands"."""
        spectrum, atomic_number = np.asarray(spectrum, np.float32), np.asarray(atomic_number, np.int32)
        count = len(spectrum)
        size = 1 if count == 1 else CHUNK
        if size not in self._compiled:
            self._compiled[size] = Compiled(self.network, size, self.blueprint.grid.points)
        run = self._compiled[size]
        # A single spectrum has no time for a detour.
        return run(spectrum, atomic_number) if size == count else in_pieces(run, size, spectrum, atomic_number)

    def answers(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> Answers:
        """The same as class probabilities and values in their units, of the descriptors it learnt."""
        return answers_of(self.outputs(spectrum, atomic_number), self.blueprint.learnt_tasks)

    def predict(
        self, energy: np.ndarray, mu: np.ndarray, element: str | None = None, edge: str = "K"
    ) -> dict[str, Value]:
        """Descriptors of one spectrum: (N,) energy in eV, (N,) mu in any scale.

        `element` may be left out where the model knows a single one. Raises SpectrumError for a spectrum that does
        not fit this model.
        """
        absorber = self.absorber(element, edge)
        return self.predict_on_grid([(self.to_grid(energy, mu, absorber), absorber)])[0]

    def to_grid(self, energy: np.ndarray, mu: np.ndarray, absorber: str) -> np.ndarray:
        """(N,) energy in eV and mu -> (L,) float32 on this model's grid, as its training spectra were."""
        return to_grid(energy, mu, self.blueprint.grid, *absorber.split())

    def predict_on_grid(self, spectra: Sequence[tuple[np.ndarray, str]]) -> list[dict[str, Value]]:
        """Descriptors of ((L,) spectrum on the grid, absorber) pairs, absorber as "Cu K"."""
        elements = [absorber.split()[0] for _, absorber in spectra]
        numbers = np.array([SYMBOLS.index(element) for element in elements], np.int32)
        outputs = self.outputs(np.stack([spectrum for spectrum, _ in spectra]), numbers)
        return [self._values({k: v[i] for k, v in outputs.items()}, element) for i, element in enumerate(elements)]

    def absorber(self, element: str | None, edge: str = "K") -> str:
        """ "Cu K" if this model was trained on it; raises SpectrumError with what it was trained on if not."""
        known = self.blueprint.absorbers
        if element is None:
            if len(known) == 1:
                return known[0]
            raise SpectrumError("element not given", f"say which element absorbs; this model knows {', '.join(known)}")
        if f"{element} {edge}" not in known:
            raise SpectrumError(
                "wrong element or edge", f"{element} {edge}; this model was trained on {', '.join(known)}"
            )
        return f"{element} {edge}"

    def _values(self, outputs: dict[str, np.ndarray], element: str) -> dict[str, Value]:
        values = {}
        for task in self.blueprint.learnt_tasks:
            d = descriptor(task.name)
            if site_kind(element) not in d.sites:
                continue
            result = units(task, outputs[task.name])
            if task.classes:
                probabilities = dict(zip(d.classes, result.tolist(), strict=True))
                values[d.name] = Value(d.classes[int(result.argmax())], d.unit, probabilities)
            else:
                values[d.name] = Value(float(result), d.unit)
        return values


def load(path: Path | str) -> Model:
    """The best model of a run folder, or the model in a file of `spt-jax export`.

    Raises CheckpointError where there is none, or of another version.
    """
    # Each brings only the libraries that it needs.
    if Path(path).is_file():
        from spt_jax.runs.export import load_exported

        return Model(*load_exported(Path(path)))
    from spt_jax.inference.load import load_run

    return load_run(Path(path))
