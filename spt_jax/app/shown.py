"""What the page shows of an answered spectrum: a line of the list, and all of it."""

from __future__ import annotations

import math
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.schema import descriptor
from spt_jax.app.boards import OnBoard
from spt_jax.app.desk import Desk
from spt_jax.inference.output import row_of
from spt_jax.inference.prediction import TOLD, Value

# Of the training spectra about their mean: a normal distribution has 95 % of them within.
WITHIN = 2


def row(own: OnBoard) -> dict[str, Any]:
    """A line of the list, and what a series is drawn from."""
    said = own.prediction
    return {
        "number": own.number,
        "name": said.name,
        "absorber": said.absorber,
        "error": said.error,
        "watched": own.watched,
        "times": own.times,
        "warned": bool(said.warnings),
        "values": {name: _value(value) for name, value in said.values.items()},
    }


def whole(desk: Desk, own: OnBoard) -> dict[str, Any]:
    """All that is said of a spectrum, what it looks like to the model, and what the training spectra looked like."""
    said = own.prediction
    unmeasured = desk.unmeasured(said.absorber) if said.absorber else ""
    found = {**row(own), **row_of(said), "curve": _curve(desk, own), "coverage": desk.model.decisions.coverage}
    found["warnings"] = [*said.warnings, *([unmeasured] if unmeasured and not said.error else [])]
    found["nearest"] = [each._asdict() for each in said.nearest]
    return found | {"plausible": {name: _ends(name) for name in said.values}}


def _value(value: Value) -> dict[str, Any]:
    chances = value.elements if isinstance(value.value, tuple) else value.probabilities
    likely = {str(one): round(p, 3) for one, p in chances.items() if p >= TOLD}
    return {"value": value.value, "unit": value.unit, "likely": likely, "interval": value.interval}


def _ends(name: str) -> tuple[float, float] | None:
    """Of the numbers that a descriptor may have."""
    ends = descriptor(name).plausible
    return ends if all(map(math.isfinite, ends)) else None


def _curve(desk: Desk, own: OnBoard) -> dict[str, Any] | None:
    """(L,) energies above the reference energy, mu as the model sees it (None where it is not known), and between which
    numbers most training spectra lie."""
    model, said = desk.model, own.prediction
    if own.spectrum is None or not said.absorber:
        return None
    try:
        mu = model.to_grid(own.spectrum.energy, own.spectrum.mu, said.absorber)
    except UserError:
        return None
    blueprint = model.blueprint
    each = list(zip(blueprint.spectrum_mean, blueprint.spectrum_std, strict=True))
    return {
        "energy": blueprint.grid.relative().tolist(),
        "mu": [float(value) if math.isfinite(value) else None for value in mu],
        "low": [mean - WITHIN * std for mean, std in each],
        "high": [mean + WITHIN * std for mean, std in each],
    }
