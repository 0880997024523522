"""A trained run -> descriptors of spectra, treated exactly as the training spectra were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from data_pipelines.errors import CheckpointError, SpectrumError
from data_pipelines.schema import SYMBOLS, descriptor, site_kind
from data_pipelines.spectra import to_grid
from spt_jax.blueprint import Blueprint
from spt_jax.training.checkpoint import load_model
from spt_jax.training.losses import units

# Evaluation runs in pieces of one size, so that one program is compiled whatever the number of spectra.
CHUNK = 256


@dataclass(frozen=True)
class Value:
    """One predicted descriptor; `probabilities` by class value for a class descriptor, else empty."""

    value: float | int
    unit: str
    probabilities: dict[int, float] = field(default_factory=dict)


class Model:
    """The best model of a run. `predict` for people, `outputs` for arrays."""

    def __init__(self, blueprint: Blueprint, parts: tuple[nnx.GraphDef, Any, Any]):
        """parts: graph, parameters and constants, as `Blueprint.build` gives them."""
        self.blueprint = blueprint
        self.parts = parts

        @jax.jit
        def apply(spectrum: jax.Array, atomic_number: jax.Array) -> dict[str, jax.Array]:
            return nnx.merge(*self.parts)(spectrum, atomic_number)

        self._apply = apply

    def outputs(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> dict[str, np.ndarray]:
        """(N, L) spectra on the grid and (N,) atomic numbers -> (N, ...) head outputs and "bands"."""
        size = 1 if len(spectrum) == 1 else CHUNK
        pieces = []
        for start in range(0, len(spectrum), size):
            piece = slice(start, start + size)
            count = len(spectrum[piece])
            pad = [(0, size - count)]
            padded = (
                np.pad(spectrum[piece], [*pad, (0, 0)], mode="edge"),
                np.pad(atomic_number[piece], pad, mode="edge"),
            )
            pieces.append(jax.tree.map(lambda x, n=count: np.asarray(x)[:n], self._apply(*padded)))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)

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
        for task in self.blueprint.tasks:
            d = descriptor(task.name)
            if site_kind(element) not in d.sites:
                continue
            result = units(task, outputs[task.name])
            if task.classes:
                probabilities = dict(zip(d.classes, result.tolist(), strict=True))
                values[d.name] = Value(max(probabilities, key=probabilities.get), d.unit, probabilities)
            else:
                values[d.name] = Value(float(result), d.unit)
        return values


def load(run: Path | str) -> Model:
    """The best model of a run folder. Raises CheckpointError where there is none, or of another version."""
    document, read_variables = load_model(Path(run))
    try:
        blueprint = Blueprint.from_json(document)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run}: checkpoint of another version of spt-jax ({error}); train again") from None
    graph, params, constants = blueprint.abstract()
    variables = read_variables({"params": params, "constants": constants})
    return Model(blueprint, (graph, variables["params"], variables["constants"]))
