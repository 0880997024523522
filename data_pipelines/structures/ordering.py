"""Partial occupancies -> whole atoms: a cell that can hold the composition, and a likely arrangement in it.

An arrangement is drawn at random `DRAWS` times and the one of lowest electrostatic energy is taken (pymatgen's
Ewald sum over formal charges): ions of one charge keep apart, as they do in the crystal, without a search that
grows with the number of combinations.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Structure

from data_pipelines.errors import StructureError
from data_pipelines.structures.supercells import compact, supercell

MAX_SITES = 160
# The smallest cell is taken in which every occupancy is met to GOOD_ERROR; where none of MAX_SITES does, the one
# that meets them best; where that misses one by more than WORST_ERROR the structure is refused.
GOOD_ERROR = 0.02
WORST_ERROR = 0.1
# In a cell only one bond wide, rows and layers would be wholly full or wholly empty. Shortest lattice vector, Angstrom.
SHORTEST = 4.5
DRAWS = 100
# Energies nearer than this are one energy: the first draw is taken on every machine. In eV.
SAME_ENERGY = 1e-5
# Charges for choosing arrangements; the elements not named here share what makes the cell neutral.
FORMAL_CHARGES = dict.fromkeys("H Li Na K Rb Cs".split(), 1)
FORMAL_CHARGES |= dict.fromkeys("Be Mg Ca Sr Ba Zn Cd".split(), 2) | dict.fromkeys("B Al Ga Sc Y La".split(), 3)
FORMAL_CHARGES |= {"C": 4, "Si": 4, "P": 5, "N": -3, "O": -2, "S": -2, "Se": -2, "F": -1, "Cl": -1, "Br": -1, "I": -1}

# What stands on a site of one kind: its elements and how much of each; "" is the vacancy.
Occupancy = tuple[tuple[str, float], ...]


def order(structure: Structure, rng: np.random.Generator) -> tuple[Structure, list[dict]]:
    """An ordered structure, and the steps that made it: supercell, what stands where, error of the composition.

    Sites of the same occupancies are one kind. The error is the largest difference between an occupancy asked for
    and the one that whole atoms give. Raises StructureError where no cell of MAX_SITES comes near enough.
    """
    copies, error = _copies(structure)
    if error > WORST_ERROR:
        limit = f"no cell of at most {MAX_SITES} sites comes nearer to its occupancies than {error:.2f}"
        raise StructureError("cannot be ordered", limit)
    cell, steps = supercell(structure, copies)
    kinds = _kinds(cell)
    counts = {kind: _whole(kind, len(sites)) for kind, sites in kinds.items()}
    symbols = np.empty((DRAWS, len(cell)), dtype="U2")
    for kind, sites in kinds.items():
        row = np.repeat([symbol for symbol, _ in kind], counts[kind])
        symbols[:, sites] = rng.permuted(np.tile(row, (DRAWS, 1)), axis=1)
    charges = _charges(symbols[0])
    energies = _energies(cell, symbols, charges)
    best = int(np.flatnonzero(energies <= energies.min() + SAME_ENERGY)[0])
    keep = np.flatnonzero(symbols[best] != "")
    ordered = Structure(cell.lattice, symbols[best][keep].tolist(), cell.frac_coords[keep])
    step = {
        "name": "order",
        "draws": DRAWS,
        "charges": {symbol: round(charge, 4) for symbol, charge in charges.items()},
        "kinds": [
            {
                "sites": len(sites),
                "asked": {symbol or "vacant": round(share, 4) for symbol, share in kind},
                "given": {symbol or "vacant": n for (symbol, _), n in zip(kind, counts[kind], strict=True)},
            }
            for kind, sites in kinds.items()
            if len(kind) > 1
        ],
        "occupancy_error": round(error, 4),
    }
    return ordered, [*steps, step]


def _kinds(structure: Structure) -> dict[Occupancy, list[int]]:
    """Sites by their occupancies, in order of their first site."""
    kinds = defaultdict(list)
    for index, site in enumerate(structure):
        shares = sorted((species.symbol, round(share, 4)) for species, share in site.species.items())
        vacant = round(1 - sum(share for _, share in shares), 4)
        kinds[(*shares, ("", vacant)) if vacant > 0 else tuple(shares)].append(index)
    return dict(kinds)


def _whole(kind: Occupancy, sites: int) -> list[int]:
    """Whole numbers of each occupant that fill the sites, by the largest remainder."""
    ideal = np.array([share for _, share in kind]) * sites
    counts = np.floor(ideal + 1e-6).astype(int)
    missing = sites - counts.sum()
    counts[np.argsort(counts - ideal, kind="stable")[:missing]] += 1
    return counts.tolist()


def _copies(structure: Structure) -> tuple[int, float]:
    """How many cells to join, and the error of the composition that is left."""
    kinds = _kinds(structure)
    most = max(1, MAX_SITES // len(structure))
    first = next((n for n in range(1, most + 1) if compact(structure.lattice, n)[1] >= SHORTEST), 1)
    best = (first, np.inf)
    for copies in range(first, most + 1):
        error = max(
            abs(count / (len(sites) * copies) - share)
            for kind, sites in kinds.items()
            for (_, share), count in zip(kind, _whole(kind, len(sites) * copies), strict=True)
        )
        if error < best[1] - 1e-9:
            best = (copies, float(error))
        if error <= GOOD_ERROR + 1e-9:
            break
    return best


def _charges(symbols: np.ndarray) -> dict[str, float]:
    """Formal charge of each element that makes this arrangement neutral; "" carries none."""
    names, counts = np.unique(symbols[symbols != ""], return_counts=True)
    fixed = sum(int(n) * FORMAL_CHARGES[s] for s, n in zip(names, counts, strict=True) if s in FORMAL_CHARGES)
    shared = sum(int(n) for s, n in zip(names, counts, strict=True) if s not in FORMAL_CHARGES)
    return {str(s): float(FORMAL_CHARGES[s]) if s in FORMAL_CHARGES else -fixed / shared for s in names}


def _energies(cell: Structure, symbols: np.ndarray, charges: dict[str, float]) -> np.ndarray:
    """(draws,) electrostatic energies, eV, of arrangements (draws, sites) of elements.

    The Ewald sum is quadratic in the charges, so one matrix over unit charges serves every arrangement; a net
    charge adds the same background to all of them.
    """
    unit = Structure(cell.lattice, ["H+"] * len(cell), cell.frac_coords)
    matrix = EwaldSummation(unit).total_energy_matrix
    charge = np.vectorize(lambda symbol: charges.get(symbol, 0.0), otypes=[float])(symbols)
    return ((charge @ matrix) * charge).sum(axis=1)
