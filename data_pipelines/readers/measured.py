"""What a reader hands on of one spectrum, and what a user may say about a file in the place of what it states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError

Channel = Literal["transmission", "fluorescence", "reference"]
# E0 that a monochromator gave to a metal foil, eV; that of a foil behind the sample, where there is one; or no foil.
Foil = float | Literal["auto", "none"]
# How mu is brought to edge steps: by what is fitted below and above the edge, or by MBACK.
Normalisation = Literal["edges", "mback"]


class Measured(NamedTuple):
    """(N,) energy in eV and (N,) mu, and where they come from.

    element, edge: as the file or the user states them; None where nobody does. channel: transmission, fluorescence or
    reference; "" where the file holds mu and does not say of what. shift: eV that were added to the energies of the
    file. calculated: by FEFF, so on the scale of a model's own spectra. columns: which of its columns were taken, as
    `--columns` would say it. notes: what was put right or assumed, a sentence each. reference: (M,) energy in eV and (M,)
    mu of what was measured behind the sample, most often a foil of its element; None where the file holds no such channel.
    foil: E0 in eV by which energies were calibrated, as measured; None where they were not.
    """

    energy: np.ndarray
    mu: np.ndarray
    element: str | None = None
    edge: str | None = None
    channel: str = ""
    shift: float = 0.0
    columns: str = ""
    notes: tuple[str, ...] = ()
    calculated: bool = False
    reference: tuple[np.ndarray, np.ndarray] | None = None
    foil: float | None = None


@dataclass(frozen=True)
class ReadAs:
    """What the user says of a file; it goes before what the file says. None and "" leave it to the file.

    columns: "energy=1 mu=ln(i0/i1)", or roles, "energy=2 i0=4 i1=5"; a column by its number or its name.
    beamline: name of `beamlines.PRESETS`. shift: eV to add to the energies, after what the file itself adds.
    calculated: whether a program calculated it; None leaves it to the file. deglitch: leave out points that stand alone above or below their neighbours.
    """

    element: str | None = None
    edge: str | None = None
    channel: Channel | None = None
    columns: str = ""
    beamline: str = ""
    shift: float = 0.0
    deglitch: bool = False
    calculated: bool | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.shift):
            raise SpectrumError("shift", f"{self.shift} eV; give a number")
