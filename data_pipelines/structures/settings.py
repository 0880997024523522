"""The symmetry operations of a CIF: those that it lists, or those of the space group that it names.

A name does not always tell the origin, the axes or the cell. Then all settings that fit the cell are returned, and
the atoms must show which is meant. Tables: spglib (Togo et al., Sci. Technol. Adv. Mater. Methods 4, 2384822 (2024)).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import spglib
from pymatgen.core import Lattice
from pymatgen.core.operations import SymmOp
from pymatgen.io.cif import CifBlock, CifParser

from data_pipelines.errors import StructureError

LISTED = (
    "_symmetry_equiv_pos_as_xyz",
    "_symmetry_equiv_pos_as_xyz_",
    "_space_group_symop_operation_xyz",
    "_space_group_symop_operation_xyz_",
)
HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
HERMANN_MAUGUIN = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_symmetry_space_group_name_H_M",
    "_space_group_name_H-M_full",
    "_space_group_name_H-M_ref",
)
NUMBER = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
SETTING = ("_space_group_IT_coordinate_system_code",)
# What databases write behind a symbol: ICSD's S and Z are the origins 1 and 2.
SUFFIX = re.compile(
    r"(?i)(?:\s*:\s*(?=[12])|\s*\(?origin\s*(?:choice)?\s*(?=[12])|[\s:]+(?=[HRSZ]))(HR|RS|[12HRSZ])\s*\)?$"
)
CHOICE = {"S": "1", "Z": "2", "HR": "H", "RS": "R"}
# Axes of the tables' first settings of each group.
STANDARD = ("", "b", "b1", "1", "2", "H", "R")
# Relative difference of a metric that a rotation should leave as it is: of lattice parameters as papers give them.
METRIC = 0.02
# Four times the operations of the largest group, for cells larger than need be; no file has more.
MOST = 768


class Operations(NamedTuple):
    """rotation (G, 3, 3) and translation (G, 3) in fractions; `name` of the setting, "" where the file lists them."""

    rotation: np.ndarray
    translation: np.ndarray
    name: str = ""


def operations(parser: CifParser, block: Mapping, lattice: Lattice) -> list[Operations]:
    """Every set of operations that a block may mean. Raises StructureError for a space group that is not known."""
    if any("_space_group_symop_magn" in key for key in block):
        return [_of(parser.get_magsymops(CifBlock(block, [], "")))]
    listed = next((block[key] for key in LISTED if block.get(key)), None)
    if listed:
        found = _of([SymmOp.from_xyz_str(text) for text in ([listed] if isinstance(listed, str) else listed)])
        if len(found.rotation) > MOST or not _is_group(found):
            raise StructureError("symmetry", f"the {len(found.rotation)} operations listed are no group")
        return [found]
    if any("_space_group_magn" in key for key in block):
        magnetic = _of(parser.get_magsymops(CifBlock(block, [], "")))
        if len(magnetic.rotation) > 1:
            return [magnetic]
        raise StructureError("unknown space group", "a magnetic group without its operations")
    numbers = _settings(block)
    fitting = [number for number in numbers if _fits(_tabulated(number), lattice)]
    if numbers and not fitting:
        raise StructureError("unknown space group", f"the cell is not that of {_name(numbers[0])}")
    if not fitting:
        return [Operations(np.eye(3)[None], np.zeros((1, 3)))]
    return [_tabulated(number) for number in list(filter(_is_usual, fitting)) or fitting]


def _of(found: list[SymmOp]) -> Operations:
    """Translations written as 0.3333 become thirds."""
    steps = 24 * np.array([op.translation_vector for op in found])
    near = np.abs(steps - np.rint(steps)) < 0.05
    return Operations(np.array([op.rotation_matrix for op in found]), np.where(near, np.rint(steps), steps) / 24 % 1)


def _is_group(found: Operations) -> bool:
    """Is every product of two operations one of them, but for a lattice vector?"""

    def rows(rotation: np.ndarray, translation: np.ndarray) -> set[bytes]:
        steps = np.rint(24 * translation) % 24
        return {row.tobytes() for row in np.column_stack([rotation.reshape(-1, 9), steps]).round().astype(np.int8)}

    product = np.einsum("aij,bjk->abik", found.rotation, found.rotation)
    shift = np.einsum("aij,bj->abi", found.rotation, found.translation) + found.translation[:, None]
    return rows(product.reshape(-1, 9), shift.reshape(-1, 3)) <= rows(found.rotation, found.translation)


def _settings(block: Mapping) -> list[int]:
    """Hall numbers of the settings that the names in a block allow; [] where it names no group."""
    hall = _stated(block, HALL)
    if hall:
        number = _by_hall().get(_plain(hall))
        if number:
            return [number]
        if "(" in hall:
            raise StructureError("unknown space group", f"{hall!r} moves the origin, and no list of its operations")
    symbol, choice = _stated(block, HERMANN_MAUGUIN), _stated(block, SETTING).upper()
    if suffix := SUFFIX.search(symbol):
        symbol, choice = symbol[: suffix.start()], suffix[1].upper()
    choice = CHOICE.get(choice, choice)
    found = _by_symbol().get(_plain(symbol), []) if symbol else []
    if symbol and not found:
        # Older symbols leave a bar out: m 3 m is m -3 m.
        found = _by_symbol().get(re.sub(r"^([pfi][mnabcd]?[mnabcd])3", r"\1-3", _plain(symbol)), [])
    if symbol and not found:  # its number would tell the group, but not the axes
        raise StructureError("unknown space group", f"{symbol!r}, and no list of its operations")
    if not found and (number := _stated(block, NUMBER)):
        same = [n for n in range(1, 531) if str(_type(n).number) == re.sub(r"\D.*", "", number)]
        found = [n for n in same if _type(n).choice in STANDARD]
    return [n for n in found if re.sub("^([12]).*", r"\1", _type(n).choice).upper() == choice] or found


def _is_usual(number: int) -> bool:
    """Are its axes those of the tables, as meant where nothing else is said? The unique axis of a monoclinic cell is b."""
    group = _type(number)
    return group.choice in STANDARD or (3 <= group.number <= 15 and group.choice.startswith("b"))


def _stated(block: Mapping, keys: tuple[str, ...]) -> str:
    lower = {key.lower().rstrip("_"): value for key, value in block.items()}
    for key in keys:
        value = lower.get(key.lower())
        if isinstance(value, str) and value.strip("?. "):
            return value.strip()
    return ""


def _plain(symbol: str) -> str:
    return re.sub(r"[\s_()]", "", symbol).lower()


@cache
def _type(number: int) -> spglib.SpaceGroupType:
    return spglib.get_spacegroup_type(number)


def _name(number: int) -> str:
    found = _type(number)
    return f"{found.international_full}{f' : {found.choice}' if found.choice else ''}"


@cache
def _by_hall() -> dict[str, int]:
    return {_plain(_type(number).hall_symbol): number for number in range(530, 0, -1)}


@cache
def _by_symbol() -> dict[str, list[int]]:
    """Plain symbol -> Hall numbers of its settings."""
    found: dict[str, list[int]] = {}
    for number in range(1, 531):
        group = _type(number)
        full = group.international_full
        # Without its axes P 1 2_1/n 1 is P 2_1/n.
        monoclinic = 3 <= group.number <= 15
        short = " ".join(word for word in full.split() if word != "1") if monoclinic else group.international_short
        names = {_plain(full), _plain(short)}
        if "e" in group.international_short:
            names |= _before_e(group)
        for name in names:
            found.setdefault(name, []).append(number)
    return found


def _before_e(group: spglib.SpaceGroupType) -> set[str]:
    """Symbols of before 1992, when a double glide plane was called by one of its two: Cmce was Cmca."""
    short = _plain(group.international_short)
    letters = {"a": "bc", "b": "ca", "c": "ab"}[short[0]]
    if group.number in (67, 68):  # here the two letters are two settings
        letters = letters[group.choice.lstrip("12") not in ("", "cab", "bca")]
    return {short[0] + short[1:].replace("e", letter) for letter in letters}


@cache
def _tabulated(number: int) -> Operations:
    found = spglib.get_symmetry_from_database(number)
    return Operations(found["rotations"].astype(float), found["translations"], _name(number))


def _fits(found: Operations, lattice: Lattice) -> bool:
    """Does every operation leave lengths and angles of the cell as they are?"""
    metric = lattice.matrix @ lattice.matrix.T
    # Rows of `matrix` are the axes, so a rotation R of fractions takes the metric to R^T M R.
    turned = np.einsum("gji,jk,gkl->gil", found.rotation, metric, found.rotation)
    length = np.sqrt(np.diag(metric))
    return bool((np.abs(turned - metric) <= METRIC * np.outer(length, length)).all())
