"""What the page shows of an answered spectrum: a line of the list, and all of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.schema import SYMBOLS, descriptor
from spt_jax.app.boards import OnBoard
from spt_jax.app.desk import Desk
from spt_jax.inference.output import row_of
from spt_jax.inference.prediction import TOLD, Value
from spt_jax.scoring.domain import Domain, Neighbour

if TYPE_CHECKING:
    from spt_jax.explain.one import Attributed

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
    found["nearest"] = [_neighbour(desk.model.domain, each) for each in said.nearest]
    return found | {"plausible": {name: _ends(name) for name in said.values}}


def _value(value: Value) -> dict[str, Any]:
    chances = value.elements if isinstance(value.value, tuple) else value.probabilities
    likely = {str(one): round(p, 3) for one, p in chances.items() if p >= TOLD}
    return {"value": value.value, "unit": value.unit, "likely": likely, "interval": value.interval}


def _ends(name: str) -> tuple[float, float] | None:
    """Of the numbers that a descriptor may have."""
    ends = descriptor(name).plausible
    return ends if all(map(math.isfinite, ends)) else None


def on_grid(desk: Desk, own: OnBoard) -> np.ndarray | None:
    """(L,) mu as the model sees it, NaN where it is not known; None where there is no spectrum that it can see."""
    if own.spectrum is None or not own.prediction.absorber:
        return None
    try:
        return desk.model.to_grid(own.spectrum.energy, own.spectrum.mu, own.prediction.absorber)
    except UserError:
        return None


def looked(found: Attributed) -> dict[str, Any]:
    """As JSON, on the energies of the curve."""
    return {**found._asdict(), "values": _rounded(found.values)}


def _curve(desk: Desk, own: OnBoard) -> dict[str, Any] | None:
    """(L,) energies above the reference energy, mu as the model sees it (None where it is not known), and between which
    numbers most training spectra lie; `end`: what the model expects where mu is not known, and within which half width."""
    mu = on_grid(desk, own)
    if mu is None:
        return None
    blueprint, end = desk.model.blueprint, desk.model.ending(mu, own.prediction.absorber)
    each = list(zip(blueprint.spectrum_mean, blueprint.spectrum_std, strict=True))
    return {
        "energy": blueprint.grid.relative().tolist(),
        "mu": [float(value) if math.isfinite(value) else None for value in mu],
        "end": end and {"mu": _rounded(end.expected), "half": None if end.half is None else _rounded(end.half)},
        "low": [mean - WITHIN * std for mean, std in each],
        "high": [mean + WITHIN * std for mean, std in each],
    }


def _neighbour(domain: Domain | None, own: Neighbour) -> dict[str, Any]:
    """mu: (P,) at the first energies of the curve. atoms: [symbol, x, y, z] of each around the absorber, Å; None of both
    where they are not known."""
    found: dict[str, Any] = {"material": own.material, "distance": own.distance, "mu": None, "atoms": None}
    if domain and own.row >= 0:
        found["mu"] = _rounded(domain.spectrum(own.row))
        around = domain.clusters and domain.clusters.row(own.row)
        if around:
            each = zip(around.number.tolist(), around.place.round(2).tolist(), strict=True)
            found["atoms"] = [[SYMBOLS[number], *place] for number, place in each]
    return found


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(np.asarray(values, float), 5).tolist()
