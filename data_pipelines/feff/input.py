"""What is asked of FEFF: settings as a small frozen record, feff.inp made of them, and safer ones after a failure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.files import write_atomic
from data_pipelines.ranges import Range, check
from data_pipelines.run_tree import INPUT, SETTINGS

if TYPE_CHECKING:
    from pymatgen.core import Structure

OWN_CARDS = ("EDGE", "COREHOLE", "SCF", "FMS", "XANES", "LDOS", "ATOMS", "POTENTIALS", "TITLE", "END")


@dataclass(frozen=True)
class FeffSettings:
    """Settings of one FEFF run. Lengths in Angstrom, wave numbers in 1/Angstrom, energies in eV.

    The defaults are those of the embedded FEFF10 library, so that new spectra and the library are of one kind, and
    a site takes minutes. The customary converged run is `scf` 7, `fms` 9, `cluster` 10, at many times the cost.
    """

    edge: Literal["K", "L1", "L2", "L3"] = "K"
    """Absorption edge."""
    core_hole: Literal["FSR", "RPA", "None"] = "FSR"
    """Core hole: final state rule, screened, or none."""
    scf: Annotated[float, Range(least=0)] = 3.5
    """Radius of the self-consistent potentials; 0 does without self-consistency."""
    scf_iterations: Annotated[int, Range(least=1)] = 10
    """Most iterations of self-consistency."""
    scf_mixing: Annotated[float, Range(above=0, most=1)] = 0.2
    """Share of the new potentials that an iteration takes."""
    fms: Annotated[float, Range(above=0)] = 5.0
    """Radius of full multiple scattering."""
    cluster: Annotated[float, Range(above=0)] = 8.0
    """Radius of the atoms given to FEFF."""
    k_max: Annotated[float, Range(above=0)] = 4.5
    """Wave number at which the spectrum ends; 4.5 is 77 eV above the edge."""
    k_step: Annotated[float, Range(above=0)] = 0.04
    """Step far from the edge."""
    e_step: Annotated[float, Range(above=0)] = 0.1
    """Energy step at the edge."""
    cards: tuple[str, ...] = ()
    """Further cards, each in quotes, such as "EXCHANGE 0 0.0 0.5 2"."""

    def __post_init__(self) -> None:
        check(self)
        for name in ("scf", "fms"):
            if getattr(self, name) > self.cluster:
                raise UserError(f"{name} must be at most cluster ({self.cluster:g}), got {getattr(self, name):g}")
        if self.k_step >= self.k_max:
            raise UserError(f"k_step must be below k_max ({self.k_max:g}), got {self.k_step:g}")
        object.__setattr__(self, "cards", tuple(self.cards))  # a list when read from JSON
        for card in self.cards:
            name = (card.split() or [""])[0]
            if not name.isalpha() or any(name.upper()[:4] == own[:4] for own in OWN_CARDS) or "\n" in card:
                raise UserError(f"not a further card: {card!r}; {', '.join(OWN_CARDS)} have settings of their own")


def safer(settings: FeffSettings, reason: str) -> FeffSettings | None:
    """What to try after a run with `settings` failed for `reason`; None where nothing is left.

    First more and smaller steps to self-consistency; then none at all, with a smaller sphere of full multiple
    scattering, which needs the least time and memory. A run that was too slow goes there at once.
    """
    if settings.scf and settings.scf_mixing > 0.05 and reason != "time limit":
        return replace(settings, scf_iterations=max(100, settings.scf_iterations), scf_mixing=0.05)
    if settings.scf:
        return replace(settings, scf=0.0, fms=round(0.8 * settings.fms, 2))
    return None


def write_input(structure: Structure, site: int, settings: FeffSettings, folder: Path) -> None:
    """Write feff.inp for the atom `site` (index in `structure`), and settings.json, which says how it was made.

    Raises SpectrumError where the structure cannot be given to FEFF.
    """
    # Here, because the command line reads the settings above and must not wait for pymatgen.
    from pymatgen.io.feff.sets import MPXANESSet

    cards = {"COREHOLE": settings.core_hole}
    if settings.scf:
        cards["SCF"] = f"{settings.scf} 0 {settings.scf_iterations} {settings.scf_mixing} 1"
    cards["FMS"] = f"{settings.fms} 0"
    cards["XANES"] = f"{settings.k_max} {settings.k_step} {settings.e_step}"
    for card in settings.cards:
        name, _, arguments = card.strip().partition(" ")
        cards[name.upper()] = arguments.strip()
    # LDOS costs as much as the spectrum, for files that nobody reads.
    left_out = ["LDOS"] if settings.scf else ["LDOS", "SCF"]
    # Charges are no part of FEFF's input, and pymatgen would take "Co3+" for the symbol.
    neutral = structure.copy()
    neutral.remove_oxidation_states()
    try:
        parts = MPXANESSet(
            int(site), neutral, settings.edge, settings.cluster, user_tag_settings={**cards, "_del": left_out}
        ).all_input()
        text = "\n\n".join(str(parts[name]) for name in ("HEADER", "PARAMETERS", "POTENTIALS", "ATOMS"))
    except (ValueError, AttributeError, TypeError) as error:  # AttributeError: no space group is found
        raise SpectrumError("no input", f"pymatgen makes no FEFF input: {error}".splitlines()[0][:200]) from None
    write_atomic(folder / INPUT, text)
    write_atomic(folder / SETTINGS, json.dumps(asdict(settings), indent=1) + "\n")
