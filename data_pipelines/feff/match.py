"""The structure that a feff.inp was written for, and the site of a structure that its cluster stands for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.feff.inputs import Header

from data_pipelines.errors import SpectrumError
from data_pipelines.feff.output import atoms


def structure_from_inp(feff_inp: Path | str) -> Structure:
    """The periodic structure that pymatgen wrote into the title block of feff.inp."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Header.from_str(Header.header_string_from_file(str(feff_inp))).struct
    except Exception as error:
        raise SpectrumError(
            "no structure", f"{feff_inp} has no cell in its title block ({type(error).__name__})"
        ) from None


def find_absorber(structure: Structure, feff_inp: Path | str, shells: int = 24) -> int:
    """Index of the site whose neighbourhood is the cluster in feff.inp.

    Compares element and distance of every atom inside the sphere of the nearest `shells` atoms; among
    equivalent sites, which share all descriptors, the first. Raises SpectrumError where none agrees.
    """
    symbols, positions = atoms(feff_inp)
    distances = np.linalg.norm(positions, axis=1)
    # Just inside a shell, so that rounding never splits one.
    radius = float(distances[min(shells, len(distances) - 1)]) - 0.05
    wanted = _shells(zip(symbols[1:], distances[1:], strict=True), radius)
    for index, site in enumerate(structure):
        if site.specie.symbol == symbols[0]:
            near = structure.get_neighbors(site, radius + 0.05)
            found = _shells(((n.specie.symbol, n.nn_distance) for n in near), radius)
            if [s for s, _ in found] == [s for s, _ in wanted] and np.allclose(
                [d for _, d in found], [d for _, d in wanted], atol=0.02
            ):
                return index
    raise SpectrumError("site mismatch", f"no {symbols[0]} site of the structure matches the cluster in {feff_inp}")


def _shells(neighbours: Iterable[tuple[str, float]], radius: float) -> list[tuple[str, float]]:
    return sorted((symbol, distance) for symbol, distance in neighbours if distance < radius)
