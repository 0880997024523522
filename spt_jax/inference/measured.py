"""Measured spectra, brought to what a model of calculated ones has learnt from, and how sure of that one can be.

mu is normalised as the field does it (`data_pipelines/spectra/normalise.py`). Energies are moved: a calculated edge lies
elsewhere than a measured one, and monochromators differ. By how much was fitted on measured references of known chemistry
(`benchmarks/measured`); what of it is not known, a model is shown: it answers with the mean over likely energies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.foil import check_foil, foil_energy
from data_pipelines.readers.measured import Foil, Measured, Normalisation
from data_pipelines.schema import REFERENCE_ENERGY_EV, descriptor
from data_pipelines.spectra.mback import mback
from data_pipelines.spectra.normalise import normalise as by_edges
from spt_jax.zoo.shelf import FOLDER

CONSTANTS = FOLDER / "measured.json"
# A spectrum is answered at so many energies, equally likely ones: the middles of as many parts of the distribution.
LIKELY = 7
# So many standard deviations about its mean, a normal distribution has 90 %, as intervals are meant to.
NORMAL_90 = 1.645


class Scale(NamedTuple):
    """shift: eV to add to a measured energy. sigma: standard deviation of what is right for one spectrum, eV."""

    shift: float
    sigma: float


@dataclass(frozen=True)
class Calibration:
    """Of one model. common: of all elements; elements: of those that have their own. with_foil: the same two where a foil
    measured with the sample puts the beamline right. references: how many compounds it was fitted on.
    """

    common: Scale
    with_foil: Scale
    elements: dict[str, Scale] = field(default_factory=dict)
    references: int = 0

    @classmethod
    def of(cls, model: str, constants: Path = CONSTANTS) -> Calibration:
        """That of a model of the zoo, by its name; of another, that of the default one. Raises ValueError without any."""
        document = json.loads(constants.read_text(encoding="utf-8"))
        own = document["models"].get(model) or document["models"][document["default"]]
        elements = {symbol: Scale(*each) for symbol, each in own["elements"].items()}
        return cls(Scale(*own["common"]), Scale(*own["with_foil"]), elements, own["references"])

    def scale(self, element: str, foil: bool = False) -> Scale:
        return self.with_foil if foil else self.elements.get(element, self.common)


class Corrected(NamedTuple):
    """A spectrum on a model's energy scale, in edge steps. sigma: standard deviation of what is right, eV. notes: every
    correction with its numbers, a sentence each."""

    spectrum: Measured
    sigma: float
    notes: tuple[str, ...]

    def views(self) -> list[Measured]:
        """The same at LIKELY energies, the most likely one first."""
        if not self.sigma:
            return [self.spectrum]
        moves = self.sigma * np.array([NormalDist().inv_cdf((i + 0.5) / LIKELY) for i in range(LIKELY)])
        moves = moves[np.argsort(np.abs(moves), kind="stable")]
        return [self.spectrum._replace(energy=self.spectrum.energy + move) for move in moves]


def correct(
    spectrum: Measured,
    calibration: Calibration,
    foil: Foil = "auto",
    shift: float | None = None,
    normalise: Normalisation = "edges",
) -> Corrected:
    """A measured spectrum, of an element that is known, with energies in eV that ascend.

    foil: E0 that this monochromator gives to a metal foil of the element, in eV: energies are moved so that it is what
    the X-ray Data Booklet has. auto: that of the foil behind the sample, where the spectrum has a reference channel and
    that shows one; none: not even that. shift: eV to add in the place of what was fitted, without any doubt. normalise:
    edges, by a line below the edge and a polynomial above it; mback, by the absorption of the free atom, which needs the
    extra of that name. Raises SpectrumError where there is no edge, no reference energy, or a foil far from it.
    """
    element, edge = spectrum.element or "", spectrum.edge or "K"
    if (element, edge) not in REFERENCE_ENERGY_EV:
        raise SpectrumError("unknown edge", f"no reference energy for the {element} {edge} edge")
    energy = np.asarray(spectrum.energy, float)
    mu = np.asarray(spectrum.mu, float)
    found = mback(energy, mu, element) if normalise == "mback" else by_edges(energy, mu)
    notes = [str(found)]
    e0, which = (foil, "the foil") if isinstance(foil, float | int) else (None, "the foil behind the sample")
    if foil == "auto" and spectrum.reference is not None:
        try:
            e0 = foil_energy(*spectrum.reference, element, edge)
        except SpectrumError as error:
            notes.append(f"no foil of {element} in the reference channel: {error.detail}")
    scale = calibration.scale(element, e0 is not None)
    if e0 is not None:
        check_foil(e0, element, edge)
        booklet = REFERENCE_ENERGY_EV[element, edge]
        energy = energy + (booklet - e0)
        notes.append(
            f"energies moved by {booklet - e0:+.2f} eV: E0 of {which}, {e0:.2f} eV, is {booklet:.1f} eV in the X-ray Data "
            "Booklet" + ("" if e0 == foil else "; foil none leaves them")
        )
    if shift is not None:
        scale = Scale(shift, 0.0)
        notes.append(f"energies moved by {shift:+.2f} eV, as asked for, in the place of what was fitted on references")
    else:
        notes.append(
            f"energies moved by {scale.shift:+.2f} +- {scale.sigma:.2f} eV to the scale of calculated spectra, fitted on "
            f"{calibration.references} measured references; answers are the mean over {LIKELY} energies within that"
        )
    moved = spectrum._replace(energy=energy + scale.shift, mu=found.level, notes=(*spectrum.notes, *notes))
    return Corrected(moved._replace(reference=None, foil=e0), scale.sigma, tuple(notes))


def means(each: np.ndarray, count: list[int]) -> np.ndarray:
    """(M, ...) answers for the views of N spectra, so many of each -> (N, ...)."""
    starts = np.cumsum([0, *count[:-1]])
    return np.add.reduceat(each, starts, axis=0) / np.reshape(count, (-1, *[1] * (each.ndim - 1)))


def widened(name: str, intervals: np.ndarray, each: np.ndarray, count: list[int]) -> np.ndarray:
    """(N, 2) intervals of a descriptor for the mean over views, and by how much the (M,) values of these differ: as if both
    were normal; within what is plausible."""
    middle = intervals.mean(axis=1)
    half, spread = intervals[:, 1] - middle, means(each**2, count) - means(each, count) ** 2
    half = np.sqrt(half**2 + NORMAL_90**2 * np.maximum(spread, 0))
    return np.clip(np.stack([middle - half, middle + half], axis=1), *descriptor(name).plausible)
