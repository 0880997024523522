"""What a model says of one spectrum."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from data_pipelines.schema import SYMBOLS
from spt_jax.scoring.domain import Neighbour

# Probabilities that an element is in a shell: from which on it is told at all, and from which on it is the answer.
TOLD, LIKELY = 0.05, 0.5


@dataclass(frozen=True)
class Value:
    """One predicted descriptor.

    value: a class, or a number in `unit`, or of a shell the symbols of the elements that are likelier there than not,
    likeliest first. probabilities: calibrated, by class; empty for others. interval: lowest and highest number, in
    the unit, that hold the truth with the coverage of the model's decisions, 90 %; None for others. elements: of a
    shell, symbol -> calibrated probability of each element of 5 % or more, likeliest first.
    """

    value: float | int | tuple[str, ...]
    unit: str
    probabilities: dict[int, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    elements: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one spectrum of many, or in `error` why it says nothing.

    name: of its file, FILE#RECORD of one of several in a file, or of its row. absorber: "Cu K". values: by descriptor.
    channel, shift, columns, foil, notes: how the spectrum was read, as of `Measured`. strangeness: above 0, it is unlike what the
    model learnt from, as of `scoring.domain.Domain`; None where the model does not know. nearest: training spectra most like
    it, nearest first. warnings: what to know before one believes the values, a sentence each.
    """

    name: str
    absorber: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    error: str = ""
    channel: str = ""
    shift: float = 0.0
    columns: str = ""
    foil: float | None = None
    notes: tuple[str, ...] = ()
    strangeness: float | None = None
    nearest: tuple[Neighbour, ...] = ()
    warnings: tuple[str, ...] = ()


def refused_if_warned(prediction: Prediction) -> Prediction:
    """The same, with the warning as the error and without values where there is one."""
    if not prediction.warnings:
        return prediction
    return replace(prediction, values={}, error=f"{prediction.name}: {prediction.warnings[0]}")


def elements_of(likely: np.ndarray) -> Value:
    """What is said of a shell: (Z,) calibrated probabilities of the elements."""
    order = np.argsort(-likely, kind="stable")
    told = {SYMBOLS[z]: float(likely[z]) for z in order[: np.count_nonzero(likely >= TOLD)]}
    return Value(tuple(symbol for symbol, p in told.items() if p >= LIKELY), "", elements=told)
