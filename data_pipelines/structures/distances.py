"""How close the atoms of a structure come: a sanity check, and a fingerprint that knows copies by their distances."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import Structure

from data_pipelines.errors import StructureError

# Shortest distance allowed, in sums of covalent radii (Cordero et al., Dalton Trans. 2008, 2832). The shortest real
# bonds, vanadyl V=O at 1.58 Å and uranyl U=O at 1.76 Å, are at 0.72 and 0.67 of theirs.
CLOSEST = 0.65
# Two structures with the same neighbours of every site to this distance give spectra that hardly differ.
RADIUS = 6.0
# Far above the rounding of a POSCAR, far below any difference that a spectrum could show. In Angstrom.
RESOLUTION = 1e-3
# Layers of a cell nearer than this, in Å, hold no atom, and neighbours in them would be without number.
THINNEST = 0.5
# Of the surroundings of one site, in Angstrom. A hundred distances are rounded at once, and each is a chance to part two
# copies; steps begin at no round number, as lattice constants are round numbers.
SITE_STEP, SITE_START = 0.02, 1 / np.pi


class Pairs(NamedTuple):
    """Every site with every neighbour within RADIUS, periodic images apart.

    site, neighbour: (P,) indices into the structure. distance: (P,) Angstrom. number: (N,) atomic numbers.
    """

    site: np.ndarray
    neighbour: np.ndarray
    distance: np.ndarray
    number: np.ndarray


def is_cell(matrix: np.ndarray) -> bool:
    """Do three lattice vectors, (3, 3) in Angstrom, span a cell in which atoms find room?"""
    volume = np.linalg.det(matrix)
    return bool(
        np.isfinite(volume)
        and abs(volume) > 1e-3
        and np.linalg.norm(np.linalg.inv(matrix), axis=0).max() < 1 / THINNEST
    )


def pairs(structure: Structure) -> Pairs:
    """Raises StructureError for places that are no numbers."""
    if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
        raise StructureError("no cell", "lattice or coordinates are not finite")
    site, neighbour, _, distance = structure.get_neighbor_list(RADIUS)
    return Pairs(site, neighbour, distance, np.array(structure.atomic_numbers))


def shortest(structure: Structure, found: Pairs) -> float:
    """The shortest distance, Angstrom. Raises StructureError where two atoms are closer than CLOSEST allows."""
    if not len(found.distance):
        raise StructureError("no neighbours", f"no two atoms within {RADIUS:g} Å")
    check_apart(structure, found)
    return float(found.distance.min())


def check_apart(structure: Structure, found: Pairs) -> None:
    """Raises StructureError where two atoms are closer than CLOSEST allows."""
    if not len(found.distance):
        return
    radius = np.array([CovalentRadius.radius.get(s.specie.symbol, 1.5) for s in structure])
    limit = CLOSEST * (radius[found.site] + radius[found.neighbour])
    worst = int(np.argmin(found.distance / limit))
    if found.distance[worst] < limit[worst]:
        one, other = (structure[i].specie.symbol for i in (int(found.site[worst]), int(found.neighbour[worst])))
        raise StructureError("too close", f"{one}-{other} {found.distance[worst]:.2f} Å, limit {limit[worst]:.2f} Å")


def fingerprint(found: Pairs) -> str:
    """One string for all copies of a cell of atoms, however it is turned, shifted or numbered.

    Built from the elements and distances around each site, not from one list of all pairs. Rounding to RESOLUTION
    may tell two copies apart, but two structures that it makes one have the same surroundings of every site.
    """
    step = np.rint(found.distance / RESOLUTION).astype(np.int64)
    order = np.lexsort((step, found.number[found.neighbour], found.site))
    rows = np.column_stack([found.number[found.neighbour], step])[order]
    starts = np.searchsorted(found.site[order], np.arange(len(found.number) + 1))
    sites = sorted(
        hashlib.sha256(np.int64(z).tobytes() + rows[a:b].tobytes()).digest()
        for z, a, b in zip(found.number, starts[:-1], starts[1:], strict=True)
    )
    return hashlib.sha256(b"".join(sites)).hexdigest()


def site_key(structure: Structure, site: int) -> str:
    """One string for a site in all copies of its structure, and for its equivalents: formula, element, and a hash of
    the elements and distances within RADIUS.

    Rounding may tell two copies apart: of sites written again with six decimals fewer than one in fifty.
    """
    _, neighbour, _, distance = structure.get_neighbor_list(RADIUS, sites=[structure[site]], exclude_self=False)
    step = np.floor(distance / SITE_STEP + SITE_START).astype(np.int64)
    # The last step is whole: an atom on the edge of the sphere is in none.
    number, step = np.array(structure.atomic_numbers)[neighbour], np.where(step < int(RADIUS / SITE_STEP), step, -1)
    order = np.lexsort((number, step))
    rows = np.column_stack([number, step])[order][np.count_nonzero(step < 0) :]
    formula, element = structure.composition.reduced_formula, structure[site].specie.symbol
    return f"{formula} {element} {hashlib.sha256(rows.tobytes()).hexdigest()[:16]}"
