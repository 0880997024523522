"""Which sites of a crystal are equivalent."""

from __future__ import annotations

import warnings

import numpy as np
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from data_pipelines.errors import SpectrumError


def inequivalent_sites(structure: Structure, symprec: float = 0.01) -> list[tuple[int, int]]:
    """(index, multiplicity) of one site from each symmetry orbit, in order of index; symprec in Angstrom.

    Atoms of one element are alike: charges, spins and labels split no orbit.

    Raises SpectrumError where the symmetry search fails.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = Structure(structure.lattice, [site.specie.symbol for site in structure], structure.frac_coords)
        symmetry = SpacegroupAnalyzer(plain, symprec=symprec).get_symmetry_dataset()
    if symmetry is None:
        raise SpectrumError("no symmetry", f"spglib finds no space group for {structure.formula}")
    representatives, counts = np.unique(symmetry.equivalent_atoms, return_counts=True)
    return [(int(i), int(n)) for i, n in zip(representatives, counts, strict=True)]
