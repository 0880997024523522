"""One block of a CIF -> a structure in which every atom of the file is, once, as the element that it is.

pymatgen reads the file; the rows of its atoms are expanded here, because its own reader passes over labels that it
does not know, takes H and O of one site for a hydroxyl, and doubles atoms on special positions written in few digits.
What comes out is held against the formula, the number of formula units and the multiplicities that the file states.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifBlock, CifParser, str2float

from data_pipelines.errors import StructureError, line_of
from data_pipelines.structures.composition import FULL, REFINED, Formula, choose, count, formula_of, formulas, readings
from data_pipelines.structures.distances import check_apart, is_cell, pairs
from data_pipelines.structures.settings import Operations, operations

# Occupancies refined independently may add up to a little more than one; more than this is another error.
OCCUPANCY_TOLERANCE = 1.01
# Images of an atom nearer than this, or than the digits of its coordinates tell, are one atom. In Å. Half an atom may
# well have its other half nearby.
SAME_PLACE, MOST_ROUNDING = 0.01, 0.15
# No two atoms that are both there come nearer. In Å.
COINCIDE = 0.5
FRACTIONS = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
MULTIPLICITIES = ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
NAMES = ("_atom_site_label", "_atom_site_type_symbol", "_atom_site_occupancy", "_atom_site_calc_flag")
COLUMNS = (*FRACTIONS, *MULTIPLICITIES, *NAMES)
UNKNOWN = ("", ".", "?")


class Row(NamedTuple):
    """One line of the list of atoms. position: (3,) fractions; rounding: of its digits, in Å; multiplicity: as stated."""

    label: str
    symbol: str
    position: np.ndarray
    occupancy: float
    rounding: float
    multiplicity: int | None


def read_blocks(text: str) -> list[Structure | StructureError]:
    """Of each block of a CIF with a list of atoms its structure, or why there is none. Raises where there is no block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Of two blocks with one name pymatgen would keep the second alone.
        counter = itertools.count(1)
        numbered = re.sub(r"(?m)^(\s*data_)", lambda found: f"{found[0]}{next(counter)}_", text)
        parser = CifParser.from_str(numbered, check_cif=False)
        blocks = [block for block in parser.as_dict().values() if FRACTIONS[0] in block]
        if not blocks:
            raise StructureError("unreadable", "no list of atoms in fractional coordinates")
        if len(re.findall(rf"(?m)^\s*{FRACTIONS[0]}\s", text)) > len(blocks):
            raise StructureError("unreadable", "two lists of atoms in one block, of which one would be lost")
        return [_try(parser, block) for block in blocks]


def _try(parser: CifParser, block: Mapping) -> Structure | StructureError:
    try:
        return structure_of(parser, block)
    except StructureError as error:
        return error
    except Exception as error:  # readers raise KeyError, IndexError, TypeError, ... at what they do not expect
        return StructureError("unreadable", line_of(error))


def structure_of(parser: CifParser, block: Mapping) -> Structure:
    """The structure of one block, of plain elements. Raises StructureError where atoms are missing or do not agree."""
    if any(key.startswith(("_cell_wave_vector", "_cell_modulation_dimension")) for key in block):
        raise StructureError("modulated", "the positions are those of the average only")
    lattice = parser.get_lattice(CifBlock(block, [], ""))
    if lattice is None or not is_cell(lattice.matrix):
        raise StructureError("no cell", "the cell is flat, or its lengths and angles are missing")
    formula = formula_of(block)
    rows = _rows(block, lattice, formula)
    found, failures = [], []
    for setting in operations(parser, block, lattice):
        try:
            found.append((setting.name, _assemble(block, lattice, rows, formula, setting)))
        except StructureError as error:
            failures.append(error)
    if not found:
        raise failures[0]
    if len(found) > 1:
        found = [(name, structure) for name, structure in found if _is_possible(structure)] or found
    name, structure = found[0]
    same = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=1, primitive_cell=False, scale=False)
    other = next((other for other, against in found[1:] if not same.fit(structure, against)), "")
    if other:
        raise StructureError("ambiguous setting", f"no list of operations; the symbol may mean {name} or {other}")
    return structure


def _is_possible(structure: Structure) -> bool:
    """Are no two atoms nearer than bonds are? With partial occupancies that says nothing."""
    if structure.is_ordered:
        try:
            check_apart(structure, pairs(structure))
        except StructureError:
            return False
    return True


def _rows(block: Mapping, lattice: Lattice, formula: Formula | None) -> list[Row]:
    """Rows of the list of atoms, without dummies. ICSD writes "." for 0: to be believed where there is a formula."""
    rows = []
    columns = {key: _listed(block[key]) for key in COLUMNS if key in block}
    if len({len(column) for column in columns.values()}) > 1:
        raise StructureError("unreadable", "columns of different length in the list of atoms")
    for i in range(len(columns[FRACTIONS[0]])):
        line = {key: str(column[i]).strip() for key, column in columns.items()}
        if line.get("_atom_site_calc_flag") == "dum":
            continue
        symbol = line.get("_atom_site_type_symbol", "")
        label = line.get("_atom_site_label", symbol)
        written = [line.get(key, "?") for key in FRACTIONS]
        written = ["0" if text == "." and formula else text for text in written]
        if any(text in UNKNOWN for text in written):
            raise StructureError("atoms missing", f"{label} has no position")
        share = line.get("_atom_site_occupancy", "")
        occupancy = 1.0 if share in UNKNOWN else str2float(share)
        if not 0 <= occupancy <= OCCUPANCY_TOLERANCE:
            raise StructureError("unreadable", f"{label} has occupancy {share}")
        digits = max(len(re.sub(r"\(.*", "", text).partition(".")[2]) for text in written)
        most = COINCIDE if occupancy > 0.5 else MOST_ROUNDING
        rounding = min(most, max(SAME_PLACE, 3 * 10.0**-digits * max(lattice.abc)))
        stated = next((line[key] for key in MULTIPLICITIES if line.get(key, "?") not in UNKNOWN), None)
        multiplicity = int(stated) if stated and stated.isdigit() else None
        position = np.array([str2float(text) for text in written])
        rows.append(Row(label, "" if symbol in UNKNOWN else symbol, position, occupancy, rounding, multiplicity))
    if not rows:
        raise StructureError("no atoms", "the list of atoms is empty")
    return rows


def _listed(value: object) -> list:
    return list(value) if isinstance(value, list) else [value]


def _assemble(
    block: Mapping, lattice: Lattice, rows: Sequence[Row], formula: Formula | None, setting: Operations
) -> Structure:
    """The structure in one setting, after all that the file states of it has been held against it."""
    orbits = [_orbit(row, setting, lattice) for row in rows]
    amounts = [len(orbit) * row.occupancy for row, orbit in zip(rows, orbits, strict=True)]
    options = [readings(row.symbol or row.label, is_label=not row.symbol) for row in rows]
    chosen = choose([row.symbol or row.label for row in rows], options, amounts, formula)
    found = count(chosen, amounts)
    _all_listed(block, rows, [reading.hydrogens for reading in chosen], found, formula)
    full = all(row.occupancy in (0.0, 1.0) for row in rows)
    if formula:
        _adds_up(block, found, formula, FULL if full else REFINED)
    else:
        _as_many(rows, orbits, len(setting.rotation))
    sites: list[tuple[np.ndarray, dict[str, float], str]] = []
    for row, orbit, reading in zip(rows, orbits, chosen, strict=True):
        if row.occupancy > 1e-6:
            _place(sites, row, orbit, reading.element, lattice)
    structure = Structure(lattice, [species for _, species, _ in sites], [position for position, *_ in sites])
    _apart(structure, [label for *_, label in sites])
    return structure.get_sorted_structure()


def _orbit(row: Row, setting: Operations, lattice: Lattice) -> np.ndarray:
    """(M, 3) the equivalent positions of a site, which is put onto the symmetry elements that its digits allow."""
    position = row.position
    for _ in range(3):
        image = setting.rotation @ position + setting.translation
        step = image - position
        step -= np.rint(step)
        same = np.linalg.norm(step @ lattice.matrix, axis=1) < row.rounding
        position = position + step[same].mean(axis=0)
    images = (setting.rotation @ position + setting.translation) % 1
    orbit: list[np.ndarray] = []
    for image in images:
        if not orbit or _distances(image, np.array(orbit), lattice).min() > SAME_PLACE:
            orbit.append(image)
    return np.array(orbit)


def _distances(position: np.ndarray, others: np.ndarray, lattice: Lattice) -> np.ndarray:
    step = others - position
    return np.linalg.norm((step - np.rint(step)) @ lattice.matrix, axis=1)


def _place(sites: list, row: Row, orbit: np.ndarray, element: str, lattice: Lattice) -> None:
    """Add the atoms of a row: to the sites that stand there already, or as new ones."""
    there = np.array([position for position, *_ in sites]).reshape(-1, 3)
    for position in orbit:
        distance = _distances(position, there, lattice)
        if len(distance) and distance.min() < SAME_PLACE:
            _, species, label = sites[int(distance.argmin())]
            total = sum(species.values()) + row.occupancy
            if total > OCCUPANCY_TOLERANCE:
                raise StructureError("unreadable", f"occupancies of {label} and {row.label} add up to {total:.3g}")
            species[element] = species.get(element, 0.0) + row.occupancy
            if total > 1:
                species.update({e: share / total for e, share in species.items()})
        else:
            sites.append((position, {element: min(row.occupancy, 1.0)}, row.label))


def _all_listed(
    block: Mapping, rows: Sequence[Row], named: Sequence[int], found: Mapping[str, float], formula: Formula | None
) -> None:
    """Raises StructureError where the file names atoms that its list does not have."""
    missing = sorted(set(formula.amounts) - set(found)) if formula else []
    if missing:
        raise StructureError("atoms missing", f"the formula has {', '.join(missing)}, the list of atoms has not")
    attached = [text for text in map(str, _listed(block.get("_atom_site_attached_hydrogens", []))) if text[:1] in "123"]
    if "H" not in found and (any(named) or attached):
        names = {row.label for row, hydrogens in zip(rows, named, strict=True) if hydrogens}
        detail = f"{', '.join(sorted(names)[:3])} names" if names else "_atom_site_attached_hydrogens counts"
        raise StructureError("atoms missing", f"{detail} hydrogen, the list of atoms has none")


def _adds_up(block: Mapping, found: Mapping[str, float], formula: Formula, tolerance: float) -> None:
    """Raises StructureError where the atoms are no multiple of the formula, or another one than stated."""
    times = formulas(found, formula, tolerance)
    atoms = " ".join(f"{element}{amount:.4g}" for element, amount in sorted(found.items()))
    if not times:
        raise StructureError("formula mismatch", f"atoms in the cell: {atoms}; formula: {formula.text}")
    stated = re.match(r"\d+", str(block.get("_cell_formula_units_Z", "")).strip())
    if not stated:
        return
    wanted = list(formula.amounts.values())
    whole = all(amount.is_integer() for amount in wanted)
    # Some programs count reduced formulas, and some write the formula of the cell.
    counted = (times, times * math.gcd(*map(int, wanted))) if whole else (times,)
    agree = any(math.isclose(many, int(stated[0]), rel_tol=tolerance) for many in counted)
    if not agree and (whole or not math.isclose(times, 1, rel_tol=tolerance)):
        raise StructureError(
            "formula mismatch", f"atoms in the cell: {atoms}; that is not {stated[0]} of {formula.text}"
        )


def _as_many(rows: Sequence[Row], orbits: Sequence[np.ndarray], order: int) -> None:
    """Raises StructureError where a site has other than the stated number of positions.

    For files without a formula, because programs disagree on the meaning: SHELX states the order of the site's symmetry.
    """
    for row, orbit in zip(rows, orbits, strict=True):
        if row.multiplicity and len(orbit) not in (row.multiplicity, order // row.multiplicity):
            detail = f"{row.label} has {len(orbit)} equivalent positions, the file says {row.multiplicity}"
            raise StructureError("formula mismatch", detail)


def _apart(structure: Structure, labels: Sequence[str]) -> None:
    """Raises StructureError where two atoms that are both there coincide."""
    one, other, _, distance = structure.get_neighbor_list(COINCIDE)
    for i, j, d in zip(one.tolist(), other.tolist(), distance.tolist(), strict=True):
        if structure[i].species.num_atoms + structure[j].species.num_atoms > OCCUPANCY_TOLERANCE:
            raise StructureError("too close", f"{labels[i]} and {labels[j]} are {d:.2f} Å apart")
