"""Variants of a structure: strained, displaced, delithiated, substituted, with antisites or oxygen vacancies.

Each maker is a pure function (structure, rng, numbers) -> (structure, step); the step says what was done, and
with the seed of its rng is enough to do it again. Structures are ordered and hold plain elements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from pymatgen.core import Element, Lattice, Structure

from data_pipelines.errors import StructureError
from data_pipelines.structures.options import Variants, parse_substitution

Made = tuple[Structure, dict]


@dataclass(frozen=True)
class Recipe:
    """One variant to make of every structure. Recipes of one `draw` share their random numbers."""

    suffix: str
    draw: str
    make: Callable[..., Made]
    in_supercell: bool = True


def recipes(v: Variants) -> list[Recipe]:
    """All variants asked for. A suffix tells kind, strength and number, so it never stands for two things."""
    found = []
    for n in range(1, v.strain + 1):
        name = f"strain{v.strain_size:g}-{n}"
        found.append(Recipe(name, name, partial(strain, size=v.strain_size), in_supercell=False))
    for n in range(1, v.thermal + 1):
        name = f"thermal{v.thermal_sigma:g}-{n}"
        found.append(Recipe(name, name, partial(displace, sigma=v.thermal_sigma)))
    for x in sorted(set(v.delithiate)):
        # One draw for the whole path, so that each stage contains the ones before it.
        found.append(Recipe(f"delithiated{x:g}", "delithiated", partial(delithiate, fraction=x)))
    for old, new, share in sorted(set(map(parse_substitution, v.substitute))):
        name = f"{old}{share:g}{new}"
        found.append(Recipe(name, name, partial(substitute, old=old, new=new, fraction=share)))
    for n in range(1, v.antisites + 1):
        name = f"antisite{v.antisite_fraction:g}-{n}"
        found.append(Recipe(name, name, partial(antisites, fraction=v.antisite_fraction)))
    for n in range(1, v.vacancies + 1):
        name = f"vacancy{v.vacancy_fraction:g}-{n}"
        found.append(Recipe(name, name, partial(oxygen_vacancies, fraction=v.vacancy_fraction)))
    return found


def seed_of(seed: int, draw: str, attempt: int) -> int:
    """The seed of one named draw, whatever else is drawn. Below 2^53, so that every JSON reader keeps it."""
    digest = hashlib.sha256(f"{seed}/{draw}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def strain(structure: Structure, rng: np.random.Generator, *, size: float) -> Made:
    """The cell under a random symmetric strain whose largest principal value is `size`; fractions stay."""
    draw = rng.normal(size=(3, 3))
    tensor = (draw + draw.T) / 2
    tensor = np.round(tensor * (size / np.abs(np.linalg.eigvalsh(tensor)).max()), 8)
    lattice = Lattice(structure.lattice.matrix @ (np.eye(3) + tensor))
    step = {"name": "strain", "size": size, "tensor": tensor.tolist()}
    return Structure(lattice, structure.species, structure.frac_coords), step


def displace(structure: Structure, rng: np.random.Generator, *, sigma: float) -> Made:
    """Every atom moved by a Gaussian of standard deviation `sigma` Angstrom along each axis."""
    moved = structure.cart_coords + rng.normal(scale=sigma, size=(len(structure), 3))
    made = Structure(structure.lattice, structure.species, moved, coords_are_cartesian=True)
    return made, {"name": "thermal", "sigma": sigma}


def delithiate(structure: Structure, rng: np.random.Generator, *, fraction: float) -> Made:
    """Without the first `fraction` of the lithium in a random order: one rng seed, one path."""
    lithium = _sites(structure, "Li")
    order = rng.permutation(lithium)
    count = _share(fraction, len(lithium), "lithium")
    step = {"name": "delithiate", "fraction": fraction, "removed": count, "of": len(lithium)}
    return _without(structure, order[:count]), step


def substitute(structure: Structure, rng: np.random.Generator, *, old: str, new: str, fraction: float) -> Made:
    """`fraction` of one element replaced by another."""
    sites = _sites(structure, old)
    count = _share(fraction, len(sites), old)
    step = {"name": "substitute", "from": old, "to": new, "fraction": fraction, "replaced": count, "of": len(sites)}
    return _with(structure, dict.fromkeys(rng.permutation(sites)[:count].tolist(), new)), step


def antisites(structure: Structure, rng: np.random.Generator, *, fraction: float) -> Made:
    """Lithium atoms that change places with transition metals, as many as `fraction` of the lithium, at least one."""
    symbols = _symbols(structure)
    lithium = _sites(structure, "Li")
    metals = [i for i, symbol in enumerate(symbols) if Element(symbol).is_transition_metal]
    if not metals:
        raise StructureError("does not apply", "no transition metal")
    count = min(max(1, round(fraction * len(lithium))), len(lithium), len(metals))
    ones, others = rng.permutation(lithium)[:count], rng.permutation(metals)[:count]
    swap = {int(i): symbols[j] for i, j in zip(ones, others, strict=True)}
    step = {"name": "antisites", "fraction": fraction, "pairs": count, "of": len(lithium)}
    return _with(structure, swap | dict.fromkeys(others.tolist(), "Li")), step


def oxygen_vacancies(structure: Structure, rng: np.random.Generator, *, fraction: float) -> Made:
    """Without a random `fraction` of the oxygen, at least one atom."""
    oxygen = _sites(structure, "O")
    count = max(1, round(fraction * len(oxygen)))
    step = {"name": "oxygen vacancies", "fraction": fraction, "removed": count, "of": len(oxygen)}
    return _without(structure, rng.permutation(oxygen)[:count]), step


def _symbols(structure: Structure) -> list[str]:
    return [site.specie.symbol for site in structure]


def _sites(structure: Structure, element: str) -> list[int]:
    found = [i for i, symbol in enumerate(_symbols(structure)) if symbol == element]
    if not found:
        raise StructureError("does not apply", f"no {element}")
    return found


def _share(fraction: float, total: int, what: str) -> int:
    """The whole number nearest to a fraction of `total`, halves upwards; StructureError where it is none."""
    count = int(fraction * total + 0.5 + 1e-9)
    if not count:
        raise StructureError("cell too small", f"{fraction:g} of {total} {what} is no atom")
    return count


def _with(structure: Structure, new: dict[int, str]) -> Structure:
    symbols = [new.get(i, symbol) for i, symbol in enumerate(_symbols(structure))]
    return Structure(structure.lattice, symbols, structure.frac_coords)


def _without(structure: Structure, sites: np.ndarray) -> Structure:
    keep = np.setdiff1d(np.arange(len(structure)), sites)
    return Structure(structure.lattice, [structure[int(i)].specie for i in keep], structure.frac_coords[keep])
