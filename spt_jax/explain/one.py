"""Where a model looked in one spectrum, for one answer: for people who wait for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.schema import SYMBOLS, descriptor
from spt_jax.explain.attribution import Explainer, Question
from spt_jax.inference.predict import Model
from spt_jax.inference.prediction import Value


class Attributed(NamedTuple):
    """values: (L,), what each energy adds to the answer, against the mean training spectrum: to the log-odds of `of`, or to
    the number in `unit`. change: all that the spectrum adds. networks: whose mean it is. gap: the part of |change| that
    `values` do not add up to."""

    of: str
    unit: str
    values: np.ndarray
    change: float
    networks: int
    gap: float


class Looking:
    """`attribution.Explainer` for one spectrum at a time, and for the mean of several networks. Compiles at the first
    question, which takes some seconds, and never again. Raises RunError for a model that shows no gradients."""

    def __init__(self, model: Model):
        self._parts = model.parts or (model,)
        self._explainers = [Explainer(self._parts[0], rows=1)]
        self._explainers += [self._explainers[0].of(part) for part in self._parts[1:]]

    def at(self, row: np.ndarray, absorber: str, name: str, value: Value) -> Attributed:
        """(L,) spectrum on the grid of "Cu K" -> its share in the value that was answered for a descriptor."""
        number = np.array([SYMBOLS.index(absorber.split()[0])])
        found, of, unit = [], "", "log-odds"
        for part, explainer in zip(self._parts, self._explainers, strict=True):
            task = next((task for task in part.blueprint.learnt_tasks if task.name == name), None)
            if task is None:
                continue  # an expert of other descriptors
            place = 0
            if task.kind == "class":
                place, of = descriptor(name).classes.index(int(value.value)), f"{name} {value.value}"
            elif task.kind == "elements":
                of = next(iter(value.elements), "")
                if not of:
                    raise UserError(f"{name}: no element is likely there, so there is nothing to ask for")
                place = task.elements.index(SYMBOLS.index(of))
            else:
                of, unit = name, value.unit
            found.append(explainer.attribute(row[None], number, [Question(task, place)]))
        if not found:
            raise UserError(f"{name}: this model does not answer it")
        values = np.mean([each.values[0] for each in found], axis=0)
        change = float(np.mean([each.change[0] for each in found]))
        gap = abs(change - float(values.sum())) / max(abs(change), 1e-9)
        return Attributed(of, unit, values, change, len(found), gap)
