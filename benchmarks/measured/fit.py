"""The energy scale of measurements, fitted on references: which shift makes a model's answers to them most likely right.

A compound counts once, whatever its scans. Leave one compound out: each is judged with what the others say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from benchmarks.measured.compounds import Compound
from benchmarks.measured.files import Scan
from data_pipelines.errors import SpectrumError
from data_pipelines.readers.foil import FARTHEST
from data_pipelines.readers.measured import Normalisation
from data_pipelines.schema import REFERENCE_ENERGY_EV, SYMBOLS, descriptor
from data_pipelines.spectra.grid import all_to_grid
from data_pipelines.spectra.mback import mback
from data_pipelines.spectra.normalise import normalise
from spt_jax.inference.measured import LIKELY
from spt_jax.inference.predict import Model

SHIFTS = np.arange(-6, 8.01, 0.25)
CANDIDATES = np.arange(-2, 4.01, 0.25)
SIGMAS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# How far an element's own shift may lie from the common one, eV; 0 for none of its own.
SPREADS = (0.0, 0.5, 1.0)
WEIGHTS = {"OS": 1.0, "CN": 0.5}
FLOOR = 0.02


class Curves(NamedTuple):
    """Of one compound: for each scan the (len(SHIFTS), C) probabilities of a descriptor, NaN where a shift is refused, and
    what a foil says its energies are too low by, eV (0 without). behind: was every foil measured with its sample?"""

    compound: Compound
    scans: list[dict[str, np.ndarray]]
    foil: list[float]
    behind: bool = False

    def said(self, name: str, shift: float, sigma: float, foil: bool) -> np.ndarray:
        """(C,) the mean over scans and over the likely energies of each."""
        moves = shift + sigma * ndtri((np.arange(LIKELY) + 0.5) / LIKELY) if sigma else np.array([shift])
        each = []
        for curve, own in zip(self.scans, self.foil, strict=True):
            known = np.isfinite(curve[name][:, 0])
            at = moves + own * foil
            at = np.clip(at, SHIFTS[known][0], SHIFTS[known][-1])
            each.append([np.interp(at, SHIFTS[known], column[known]).mean() for column in curve[name].T])
        return np.mean(each, axis=0)

    def right(self, name: str, probabilities: np.ndarray) -> np.ndarray:
        """(C,) bool: classes that are right."""
        truth = self.compound.oxidation if name == "OS" else self.compound.coordination
        return np.isin(descriptor(name).classes, truth)

    def likelihood(self, shift: float, sigma: float, foil: bool) -> float:
        said = {name: self.said(name, shift, sigma, foil) for name in WEIGHTS}
        return sum(w * np.log(FLOOR + said[name][self.right(name, said[name])].sum()) for name, w in WEIGHTS.items())


def curves(model: Model, compound: Compound, scans: Sequence[Scan], way: Normalisation = "edges") -> Curves | None:
    """None where no scan can be used at any shift. way: how scans are normalised."""
    element = compound.element
    found, behind = Curves(compound, [], []), []
    for scan in scans:
        try:
            mu = (mback(scan.energy, scan.mu, element) if way == "mback" else normalise(scan.energy, scan.mu)).level
        except SpectrumError:
            continue
        rows = all_to_grid([(scan.energy + shift, mu, element, "K") for shift in SHIFTS], model.blueprint.grid)
        usable = np.array([isinstance(row, np.ndarray) for row in rows])
        if not usable.any():
            continue
        number = np.full(usable.sum(), SYMBOLS.index(element))
        answers = model.answers(np.stack([row for row in rows if isinstance(row, np.ndarray)]), number)
        likely = model.decisions.probabilities(answers, number)
        each = {name: np.full((len(SHIFTS), likely[name].shape[1]), np.nan) for name in WEIGHTS}
        for name in WEIGHTS:
            each[name][usable] = likely[name]
        found.scans.append(each)
        found.foil.append(foil_shift(scan, element))
        behind.append(scan.foil is not None and found.foil[-1] != 0)
    return found._replace(behind=all(behind)) if found.scans else None


def foil_shift(scan: Scan, element: str) -> float:
    """eV that put the foil of a scan where the X-ray Data Booklet has it; 0 where there is none, or no foil of the element."""
    if scan.foil_e0 is None or abs(scan.foil_e0 - REFERENCE_ENERGY_EV[element, "K"]) > FARTHEST:
        return 0.0
    return REFERENCE_ENERGY_EV[element, "K"] - scan.foil_e0


def tables(known: Sequence[Curves], foil: bool, sigma: float) -> dict[str, np.ndarray]:
    """By compound, (len(CANDIDATES),) log-likelihood of what is known of it at each shift."""
    return {
        each.compound.name: np.array([each.likelihood(shift, sigma, foil) for shift in CANDIDATES]) for each in known
    }


def fitted(known: Sequence[Curves], table: dict[str, np.ndarray], spread: float) -> tuple[float, dict[str, float]]:
    """The common shift, and that of each element about it: a normal prior of standard deviation `spread`."""
    elements = sorted({each.compound.element for each in known})
    total = {e: sum(table[c.compound.name] for c in known if c.compound.element == e) for e in elements}
    common = float(CANDIDATES[np.argmax(sum(total.values()))])
    if not spread:
        return common, {}
    prior = -0.5 * ((CANDIDATES - common) / spread) ** 2
    return common, {e: float(CANDIDATES[np.argmax(total[e] + prior)]) for e in elements}


def left_out(known: Sequence[Curves], foil: bool, sigma: float, spread: float) -> dict[str, float]:
    """By compound, the shift for its element that all others say."""
    table = tables(known, foil, sigma)
    found = {}
    for each in known:
        common, elements = fitted([other for other in known if other is not each], table, spread)
        found[each.compound.name] = elements.get(each.compound.element, common)
    return found
