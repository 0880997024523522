"""Beamlines and programs whose columns do not explain themselves: what to take, where their header is known by.

Numbers of columns are used where the files name none. From files in xraylarch's examples, SOLEIL's LUCIA files of
charlesll/xanes-mayotte, and for desy-p65 and aps-dnd from the readers of araucaria (pyxas).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.errors import SpectrumError


@dataclass(frozen=True)
class Preset:
    """columns: one or more ways to write `--columns`, the first whose columns are all there is taken.

    known_by: text in the header, in small letters, by which a file is known without being told; "" where it is not.
    """

    columns: tuple[str, ...]
    known_by: str = ""


PRESETS: dict[str, Preset] = {
    "soleil-lucia": Preset(
        ("energy=Energy ifluor=FY_c i0=Io itrans=It", "energy=Energy ifluor=FY i0=Io itrans=It"), "lucia / soleil"
    ),
    "esrf-lisa": Preset(("energy=eBraggEnergy i0=I0_EH1 itrans=I1_EH1",), "ebraggenergy i0_eh1"),
    "esrf-snbl": Preset(("energy=ZapEnergy i0=Mon itrans=Ion1 irefer=Ion2",), "zapenergy"),
    "esrf-spec": Preset(("energy=Energy i0=I0 itrans=I1 irefer=I2", "energy=ZapEnergy i0=I0 itrans=I1")),
    "sls-phoenix": Preset(("energy=Energy_c1 i0=I0_KEITHLEY1_c4 itrans=I1_KEITHLEY2_c6",)),
    "desy-p65": Preset(("energy=1 i0=11 itrans=12 irefer=13 ifluor=14",)),
    "aps-dnd": Preset(("energy=1 mu=18",)),
    "cls-hxma": Preset(("energy=2 i0=5 itrans=6 irefer=7",), "bl1606-id1:mcs03"),
    "ssrl": Preset(
        ("energy='Achieved Energy' i0=I0 itrans=I1 irefer=I2", "energy='Requested Energy' i0=I0 ifluor=SCA1*")
    ),
    "aps-sector13": Preset(("energy=Energy i0=I0 itrans=I1", "energy=1 i0=3 itrans=4")),
    "aps-sector20": Preset(("energy='Mono Energy *' i0=I0 itrans=I1", "energy='Mono Energy (alt) *' i0=I0 itrans=It")),
    "aps-sector12": Preset(("energy=1 i0=4 itrans=5 irefer=6",), "1_energy"),
    "nsls2-iss": Preset(("energy=energy i0=i0 itrans=it irefer=ir ifluor=iff",)),
    "nsls2-bmm": Preset(("energy=energy i0=I0 itrans=It irefer=Ir ifluor=DTC*", "energy=energy i0=I0 itrans=It")),
    "athena-nor": Preset(("energy=energy mu=norm", "energy=1 mu=2")),
    "demeter-xmu": Preset(("energy=energy mu=xmu", "energy=1 mu=2")),
}


def preset_of(name: str) -> Preset:
    if name not in PRESETS:
        raise SpectrumError("columns", f"no beamline {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def recognised(header: Sequence[str]) -> str:
    """Name of the preset that a header is known by; "" where there is none."""
    text = "\n".join(header).lower()
    return next((name for name, preset in PRESETS.items() if preset.known_by and preset.known_by in text), "")
