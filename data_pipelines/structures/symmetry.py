"""Which sites of a crystal are equivalent."""

from __future__ import annotations

import warnings

import numpy as np
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from data_pipelines.errors import SpectrumError


def inequivalent_sites(structure: Structure, symprec: float = 0.01) -> list[tuple[int, int]]:
    """(index, multiplicity) of one site from each symmetry orbit, in order of index; symprec in Angstrom.

    Raises SpectrumError where the symmetry search fails.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        symmetry = SpacegroupAnalyzer(structure, symprec=symprec).get_symmetry_dataset()
    if symmetry is None:
        raise SpectrumError("no symmetry", f"spglib finds no space group for {structure.formula}")
    representatives, counts = np.unique(symmetry.equivalent_atoms, return_counts=True)
    return [(int(i), int(n)) for i, n in zip(representatives, counts, strict=True)]
