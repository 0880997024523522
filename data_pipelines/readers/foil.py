"""The reference channel of a scan -> E0 of the foil behind the sample, or why it is none."""

from __future__ import annotations

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.columns import edge_and_noise
from data_pipelines.schema import REFERENCE_ENERGY_EV
from data_pipelines.spectra.normalise import edge_energy, normalise

# A foil further off than this is none of the element, or its edge was not found, eV.
FARTHEST = 5.0
# Of its largest slope, what the first inflection of a metal has at least: that of manganese has half of the steepest.
FIRST = 0.3
# Edge step over the scatter of points, from which on the first inflection is no noise: foils have 80 and more, a channel
# without a foil, or with a detector that failed, 6 and less.
CLEAR = 20.0


def foil_energy(energy: np.ndarray, mu: np.ndarray, element: str, edge: str = "K") -> float:
    """E0 in eV of a metal foil, its first inflection: (N,) ascending energy in eV, (N,) mu of the reference channel.

    Raises SpectrumError where it shows no edge, too noisy a one, or one that is not of a foil of this element.
    """
    e0 = edge_energy(energy, mu, FIRST)
    step, noise = normalise(energy, mu, e0).step, edge_and_noise(energy, mu)[1]
    if step < CLEAR * noise:
        raise SpectrumError("foil", f"edge step over noise is {step / noise:.0f}, {CLEAR:.0f} are needed")
    check_foil(e0, element, edge)
    return e0


def check_foil(e0: float, element: str, edge: str = "K") -> None:
    """Raises SpectrumError where E0 is further from that of a foil of the element than monochromators are."""
    booklet = REFERENCE_ENERGY_EV[element, edge]
    if not abs(booklet - e0) <= FARTHEST:
        raise SpectrumError("foil", f"E0 {e0:.1f} eV is not of a foil of {element}, which has {booklet:.1f} eV")
