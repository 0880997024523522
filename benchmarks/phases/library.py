"""Calculated edges by class: which structures of the FEFF10 libraries are of which phase, and which of them are theory.

A library holds spectra of single sites, some of them random; those of one structure are averaged. Structures are split by
material: whatever is made of one (strained, delithiated, with defects) is theory, or new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.spectra.phases import CalculatedEdge, PhasePlanting

# The later ones give a structure only where no earlier one has its like.
FILES = ("references", "crystalline", "nmc", "lixcoo2")
COLUMNS = ("absorber", "prototype", "variant", "structure", "omega", "mu")
# Whole crystals of one phase: as they are, strained, displaced, delithiated, with another metal in part.
WHOLE = ("base", "strain", "thermal", "li_vac", "tm_sub")
# Points at the end of a spectrum whose mean is the height of the edge.
FAR = 15
# Of what is written; more are rounding.
DIGITS = 6


class Structure(NamedTuple):
    """name: of its file. material: what it is split by."""

    name: str
    material: str
    edge: CalculatedEdge


@dataclass(frozen=True)
class PhaseSet:
    """classes: patterns of prototypes, and of their variants, by name of the class. background: window in eV."""

    absorber: str
    how: PhasePlanting
    background: tuple[float, float]
    classes: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]


# Layered: O3, O1 and H1-3 stackings of LiMO2 and what is left of it without lithium; LixCoO2 by its own models, since some
# of the measured cells of that file are rock salt (`cif_`).
_LAYERED = ("NMC*", "LiCoO2", "LiNiO2*", "LiMnO2*", "Li2MnO3", "LiCrO2", "NaMnO2_C2m", "MnO2_birnessite_Li", "MnO2_O1")
_STACKED = (*_LAYERED, "LixCoO2_*")
_ORDERED = (*WHOLE, "ordered", "even_*", "random_*", "a2.*")
# Normal, inverse, and stretched by Mn3+ (I4_1/amd).
_SPINEL = (
    "*Mn2O4", "*Mn2O4_n", "Mn2O4_lambda", "Li*Mn1.5O4", "Mn3O4*", "Co3O4", "Fe3O4", "MnAl2O4", "*Fe2O4", "*Fe2O4_n",
    "*Fe2O4_inv", "*Co2O4", "*Co2O4_n", "*Co2O4_inv",
)  # fmt: skip
# LiFeO2_g is left out: an ordered rock salt, in which oxygen has the neighbours that it has in a layered oxide.
_ROCK_SALT = ("CoO", "NiO", "MnO", "FeO")
_O_K = PhasePlanting()
SETS = {
    "oxides": PhaseSet("O", _O_K, (463.0, 521.0), {
        "layered": (_STACKED, _ORDERED),
        "spinel": (_SPINEL, WHOLE),
        "rock salt": (_ROCK_SALT, ("base",)),
    }),
    "vacancies": PhaseSet("O", _O_K, (463.0, 521.0), {
        "layered": (_STACKED, _ORDERED),
        "vacancy": (("NMC*",), ("O_vacancy",)),
        "spinel": (_SPINEL, WHOLE),
        "rock salt": (_ROCK_SALT, ("base",)),
    }),
    "manganese": PhaseSet(
        "Mn", PhasePlanting(offset=6450.0, onset=6545.0, window=(6538.0, 6588.0)), (6455.0, 6532.0), {
        "layered": (_LAYERED, _ORDERED),
        "spinel": (_SPINEL, WHOLE),
        "perovskite": (("CaMnO3*", "LaMnO3*", "SrMnO3_c"), WHOLE),
        "olivine": (("LiMnPO4", "MnPO4_het", "Mn2SiO4"), WHOLE),
    }),
}  # fmt: skip


def structures(folder: Path, phases: PhaseSet) -> dict[str, list[Structure]]:
    """Structures by class, in the order of their names. folder: with the files of FILES, those that there are.

    Raises UserError where a class has fewer than two materials.
    """
    import pyarrow.parquet as pq

    sites: dict[tuple[str, str], list[dict]] = {}
    where: dict[tuple[str, str], tuple[str, str]] = {}
    for name in FILES:
        if not (path := folder / f"{name}.parquet").exists():
            continue
        for row in pq.read_table(path, columns=list(COLUMNS)).to_pylist():
            if row["absorber"] == phases.absorber and (kind := _class(row, phases)):
                like = row["prototype"], row["variant"]
                # Undistorted ones are in two files.
                if row["variant"] == "base" and where.setdefault(like, (name, kind)) != (name, kind):
                    continue
                sites.setdefault((kind, row["structure"]), []).append(row)
    found: dict[str, list[Structure]] = {kind: [] for kind in phases.classes}
    for (kind, _), rows in sites.items():
        label = f"{rows[0]['prototype']} {rows[0]['variant']}".removesuffix(" base")
        number = sum(each.name.split(" #")[0] == label for each in found[kind])
        name = f"{label} #{number + 1}" if number else label
        found[kind].append(Structure(name, material(rows[0]["prototype"]), _mean(rows)))
    for kind, each in found.items():
        if len({structure.material for structure in each}) < 2:
            raise UserError(
                f"{folder} has fewer than two materials of the class {kind}; point --library at the FEFF10 files"
            )
    return {kind: sorted(each, key=lambda structure: structure.name) for kind, each in found.items()}


def material(prototype: str) -> str:
    """What is split as one: a composition whatever its lattice and lithium.

    >>> material("NMC622_x7of10"), material("LixCoO2_H1-3"), material("Mn3O4_cubic")
    ('NMC622', 'LiCoO2', 'Mn3O4')
    """
    return prototype.split("_")[0].replace("LixCoO2", "LiCoO2")


def split(
    found: dict[str, list[Structure]], seed: int = 0
) -> tuple[dict[str, list[Structure]], dict[str, list[Structure]]]:
    """(theory, new) structures by class: half of the materials of each class, the larger half theory. No material is in
    both, whatever the class."""
    rng, theory, seen = np.random.default_rng(seed), set(), set()
    for each in found.values():
        materials = sorted({structure.material for structure in each})
        free = [name for name in materials if name not in seen]
        count = (len(materials) + 1) // 2 - len(theory.intersection(materials))
        theory |= set(rng.permutation(free)[: max(count, 0)])
        seen |= set(materials)
    known = {kind: [s for s in each if s.material in theory] for kind, each in found.items()}
    new = {kind: [s for s in each if s.material not in theory] for kind, each in found.items()}
    return known, new


def edges(found: dict[str, list[Structure]]) -> dict[str, list[CalculatedEdge]]:
    """As `phase_image` takes them."""
    return {kind: [structure.edge for structure in each] for kind, each in found.items()}


def write_theory(folder: Path, found: dict[str, list[Structure]]) -> list[Path]:
    """FOLDER/CLASS/STRUCTURE.txt for each: energy in eV, and intensity whose mean far above the edge is one."""
    written = []
    for kind, each in found.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for structure in each:
            path = folder / kind / f"{structure.name.replace(' #', ' ').replace(' ', '_')}.txt"
            np.savetxt(path, np.stack(structure.edge, axis=1), fmt=f"%.{DIGITS}f", header="energy (eV)  intensity")
            written.append(path)
    return written


def _class(row: dict, phases: PhaseSet) -> str | None:
    for kind, (prototypes, variants) in phases.classes.items():
        if _like(row["prototype"], prototypes) and _like(row["variant"], variants):
            return kind
    return None


def _like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _mean(rows: list[dict]) -> CalculatedEdge:
    """The mean over sites, each of height one far above the edge, on the energies of the first."""
    curves = [(np.array(row["omega"], float), np.array(row["mu"], float)) for row in rows]
    energy = curves[0][0]
    each = [np.interp(energy, omega, mu / mu[-FAR:].mean()) for omega, mu in curves]
    mean = np.mean(each, axis=0)
    return CalculatedEdge(energy, mean / mean[-FAR:].mean())
