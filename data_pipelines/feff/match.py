"""The structure that a feff.inp was written for, and the site of a structure that its cluster stands for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.feff.inputs import Header

from data_pipelines.errors import SpectrumError
from data_pipelines.feff.output import atoms, has_atoms

# A site is known by so many of its nearest atoms.
SHELLS = 24


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


def find_absorber(structure: Structure, feff_inp: Path | str, shells: int = SHELLS) -> int:
    """Index of the site whose neighbourhood is the cluster in feff.inp.

    Compares element and distance of every atom inside the sphere of the nearest `shells` atoms; among
    equivalent sites, which share all descriptors, the first. Raises SpectrumError where none agrees.
    """
    cluster = _Cluster.of(feff_inp, shells)
    for index in range(len(structure)):
        if cluster.is_around(structure, index):
            return index
    raise SpectrumError(
        "site mismatch", f"no {cluster.absorber} site of the structure matches the cluster in {feff_inp}"
    )


def check_absorber(structure: Structure, index: int, feff_inp: Path | str) -> None:
    """Raises SpectrumError where site `index` is not the one that feff.inp was written for.

    An input without a list of atoms, as of FEFF in reciprocal space, is not doubted.
    """
    if not has_atoms(feff_inp):
        return
    cluster = _Cluster.of(feff_inp, SHELLS)
    if cluster.is_around(structure, index):
        return
    where = [str(i) for i in range(len(structure)) if cluster.is_around(structure, i)]
    found = f"which is that of site {', '.join(where[:3])}" if where else "which no site of the structure has"
    raise SpectrumError("site mismatch", f"site {index} has not the neighbours in {feff_inp}, {found}")


class _Cluster(NamedTuple):
    """Element and distance, Å, of the atoms within `radius` of the absorber, nearest first by element."""

    absorber: str
    radius: float
    shells: list[tuple[str, float]]

    @staticmethod
    def of(feff_inp: Path | str, shells: int) -> _Cluster:
        symbols, positions = atoms(feff_inp)
        distances = np.linalg.norm(positions, axis=1)
        # Just inside a shell, so that rounding never splits one.
        radius = float(distances[min(shells, len(distances) - 1)]) - 0.05
        return _Cluster(symbols[0], radius, _shells(zip(symbols[1:], distances[1:], strict=True), radius))

    def is_around(self, structure: Structure, index: int) -> bool:
        site = structure[index]
        if site.specie.symbol != self.absorber:
            return False
        near = structure.get_neighbors(site, self.radius + 0.05)
        found = _shells(((n.specie.symbol, n.nn_distance) for n in near), self.radius)
        return [s for s, _ in found] == [s for s, _ in self.shells] and np.allclose(
            [d for _, d in found], [d for _, d in self.shells], atol=0.02
        )


def _shells(neighbours: Iterable[tuple[str, float]], radius: float) -> list[tuple[str, float]]:
    return sorted((symbol, distance) for symbol, distance in neighbours if distance < radius)
