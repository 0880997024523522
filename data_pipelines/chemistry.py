"""What chemistry rules out, whatever a spectrum says: oxidation states that an element does not have."""

from __future__ import annotations

import numpy as np

from data_pipelines.schema import SYMBOLS, descriptor

# In compounds that are solids: states of ten structures or more of the Inorganic Crystal Structure Database, as pymatgen
# lists them, and those of known oxo-anions and peroxides beside (Greenwood and Earnshaw, Chemistry of the Elements, 2nd
# ed.), such as O -1, Mn 5 and 6, Fe 4 and 6. What is
# not named may have any.
OXIDATION_STATES: dict[str, tuple[int, ...]] = {
    symbol: tuple(map(int, states.split()))
    for symbol, _, states in (
        line.strip().partition(" ")
        for line in (
            "Li 1; Be 2; B -3 3; C -4 -3 -2 -1 1 2 3 4; N -3 -2 -1 1 2 3 4 5; O -2 -1; F -1; Na 1; Mg 2; Al 3; Si -4 4; "
            "P -3 -2 -1 1 3 4 5; S -2 -1 2 3 4 5 6; Cl -1 1 3 5 7; K 1; Ca 2; Sc 2 3; Ti 2 3 4; V 2 3 4 5; Cr 2 3 4 5 6; "
            "Mn 2 3 4 5 6 7; Fe 2 3 4 6; Co 1 2 3 4; Ni 1 2 3 4; Cu 1 2 3; Zn 2; Ga 2 3; Ge 2 3 4; As -3 -2 -1 2 3 5; "
            "Se -2 -1 4 6; Br -1 1 3 5 7; Rb 1; Sr 2; Y 3; Zr 2 3 4; Nb 2 3 4 5; Mo 2 3 4 5 6; Ru 2 3 4 5 6 7 8; Rh 1 3 4; "
            "Pd 2 4; Ag 1 2 3; Cd 2; In 1 2 3; Sn 2 3 4; Sb -3 -2 -1 3 5; Te -2 -1 4 6; I -1 1 3 5 7"
        ).split("; ")
    )
}


def possible_states() -> np.ndarray:
    """(Z, C) bool, by atomic number: may the element have the oxidation state of this class of OS?"""
    classes = descriptor("OS").classes
    allowed = np.ones((len(SYMBOLS), len(classes)), bool)
    for symbol, states in OXIDATION_STATES.items():
        allowed[SYMBOLS.index(symbol)] = np.isin(classes, states)
    return allowed
