"""Structure + site -> descriptors, all computed on the stored structure (paper, table of descriptors).

`Surroundings` holds what the descriptors of one structure share, so that the neighbours of each site,
the bond-valence analysis and the symmetry search are found once per structure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import spglib
from pymatgen.core import Element, Structure

from data_pipelines.labels.neighbours import FirstNeighbours, Shell
from data_pipelines.labels.valences import valences
from data_pipelines.schema import DESCRIPTORS, LABELS, SHELLS, WORDS, column_of, site_kind
from data_pipelines.shells import words_of

# Cells of more are disordered: which of the many near-equal valence assignments wins is arbitrary there.
MAX_INEQUIVALENT_SITES = 48

# The 32 crystal classes by the number of their operations; -62m and -6m2 are one in two settings.
POINT_GROUPS = {
    1: "1",
    2: "-1 2 m",
    3: "3",
    4: "2/m 222 mm2 4 -4",
    6: "-3 32 3m 6 -6",
    8: "mmm 4/m 422 4mm -42m",
    12: "-3m 6/m 622 6mm -62m -6m2 23",
    16: "4/mmm",
    24: "6/mmm m-3 432 -43m",
    48: "m-3m",
}
ORDERS = {symbol: order for order, symbols in POINT_GROUPS.items() for symbol in symbols.split()}


class NoLabel(Exception):
    """A descriptor that does not exist for this site; the message is the reason counted in the data card."""


class Surroundings:
    """One structure with its lazily computed neighbours, valences and point group.

    Charges and spins that its atoms carry are left out: they would split what is equivalent, and change neighbours.
    """

    def __init__(self, structure: Structure):
        plain = all(isinstance(element, Element) for site in structure for element in site.species)
        self.structure = structure if plain else structure.copy().remove_oxidation_states()
        self._neighbours: dict[int, Shell] = {}

    @cached_property
    def _finder(self) -> FirstNeighbours:
        return FirstNeighbours(self.structure)

    def neighbours(self, site: int) -> Shell:
        if site not in self._neighbours:
            try:
                with _quiet():
                    self._neighbours[site] = self._finder.of(site)
            except (ValueError, RuntimeError, IndexError) as error:
                raise NoLabel(f"CrystalNN failed ({type(error).__name__})") from None
        return self._neighbours[site]

    def _symmetry(self, tolerance: float) -> spglib.SpglibDataset:
        """spglib's answer for atoms that may be off by `tolerance` in Å; raises where it has none."""
        _, kinds = np.unique([site.species_string for site in self.structure], return_inverse=True)
        cell = (self.structure.lattice.matrix, self.structure.frac_coords, kinds + 1)
        found = spglib.get_symmetry_dataset(cell, symprec=tolerance, angle_tolerance=5)
        if found is None:
            raise ValueError("no symmetry found")
        return found

    @cached_property
    def _valences(self) -> list[int] | str:
        try:
            with _quiet():
                equivalent = self._symmetry(0.1).equivalent_atoms
                if len(set(equivalent)) > MAX_INEQUIVALENT_SITES:
                    return f"BVAnalyzer skipped (over {MAX_INEQUIVALENT_SITES} inequivalent sites)"
                found = valences(self.structure, equivalent)
        except Exception:  # the symmetry search raises all kinds
            found = None
        return found or "BVAnalyzer found no valences"

    def valence(self, site: int) -> float:
        if isinstance(self._valences, str):
            raise NoLabel(self._valences)
        return float(self._valences[site])

    @cached_property
    def point_group_order(self) -> int:
        """Number of operations of the crystal's point group; at most 48."""
        try:
            with _quiet():
                return ORDERS[self._symmetry(0.01).pointgroup]
        except Exception as error:
            raise NoLabel(f"no point group ({type(error).__name__})") from None

    def bond_lengths(self, site: int) -> np.ndarray:
        lengths = np.linalg.norm(self.neighbours(site).vector, axis=1)
        if not len(lengths):
            raise NoLabel("no first neighbours")
        return lengths

    def oxygens(self, site: int) -> np.ndarray:
        """(K, 3) vectors in Å to the oxygens among the first neighbours."""
        index, _, vector = self.neighbours(site)
        return vector[[self.structure[i].specie.symbol == "O" for i in index.tolist()]]


def oxidation_state(around: Surroundings, site: int) -> float:
    return around.valence(site)


def coordination(around: Surroundings, site: int) -> float:
    return len(around.neighbours(site).index)


def second_shell(around: Surroundings, site: int) -> set[tuple[int, ...]]:
    """Distinct sites (periodic images apart) one bond beyond the first shell: index and lattice image."""

    def places(shell: Shell, shift: np.ndarray | int = 0) -> set[tuple[int, ...]]:
        return set(map(tuple, np.column_stack([shell.index, shell.image + shift]).tolist()))

    first = around.neighbours(site)
    inner = {(site, 0, 0, 0)} | places(first)
    outer = (places(around.neighbours(i), image) for i, image in zip(first.index.tolist(), first.image, strict=True))
    return set().union(*outer) - inner


def second_coordination(around: Surroundings, site: int) -> float:
    return len(second_shell(around, site))


def oxygen_coordination(around: Surroundings, site: int) -> float:
    return len(around.oxygens(site))


def bond_length_spread(around: Surroundings, site: int) -> float:
    return around.bond_lengths(site).std()


def mean_bond_length(around: Surroundings, site: int) -> float:
    return around.bond_lengths(site).mean()


def minimum_oxygen_distance(around: Surroundings, site: int) -> float:
    oxygens = around.oxygens(site)
    if len(oxygens) < 2:
        raise NoLabel("fewer than two oxygens in the first shell")
    distance = np.linalg.norm(oxygens[:, None] - oxygens[None], axis=-1)
    return distance[np.triu_indices(len(oxygens), 1)].min()


def neighbour_oxidation_state(around: Surroundings, site: int) -> float:
    around.bond_lengths(site)  # refuses an empty shell
    return np.mean([around.valence(i) for i in around.neighbours(site).index.tolist()])


def point_group_order(around: Surroundings, site: int) -> float:
    return around.point_group_order


def first_elements(around: Surroundings, site: int) -> np.ndarray:
    around.bond_lengths(site)  # refuses an empty shell
    return _elements(around, around.neighbours(site).index.tolist())


def second_elements(around: Surroundings, site: int) -> np.ndarray:
    """A second shell may be empty."""
    around.bond_lengths(site)
    return _elements(around, (index for index, *_ in second_shell(around, site)))


def _elements(around: Surroundings, sites: Iterable[int]) -> np.ndarray:
    try:
        return words_of(around.structure[i].specie.Z for i in sites)
    except ValueError as error:
        raise NoLabel(str(error)) from None


COMPUTE: dict[str, Callable[[Surroundings, int], float]] = {
    "OS": oxidation_state,
    "CN": coordination,
    "CN2": second_coordination,
    "OCN": oxygen_coordination,
    "NNRS": bond_length_spread,
    "MOOD": minimum_oxygen_distance,
    "NNOSM": neighbour_oxidation_state,
    "PSGO": point_group_order,
    "MBL": mean_bond_length,
}

ELEMENTS: dict[str, Callable[[Surroundings, int], np.ndarray]] = {"NN1": first_elements, "NN2": second_elements}


def describe(
    around: Surroundings, site: int, known: dict[str, float] | None = None
) -> tuple[np.ndarray, dict[str, str]]:
    """All descriptors of one site: (LABELS,) float32 labels, NaN where there is none, and why: name -> reason.

    `known` holds labels that the source states and that overrule the computed ones, such as the
    charge-balance oxidation state of a mixed-valent cell; NaN there means "no label".
    """
    kind = site_kind(around.structure[site].specie.symbol)
    labels = np.full(LABELS, np.nan, np.float32)
    masked = {}
    for column, d in enumerate(DESCRIPTORS):
        if kind not in d.sites:
            continue
        try:
            value = known[d.name] if known and d.name in known else COMPUTE[d.name](around, site)
            if not np.isfinite(value):
                raise NoLabel("source gives no single value")
            if not d.accepts(value):
                raise NoLabel("outside the plausible range")
            labels[column] = value
        except NoLabel as reason:
            masked[d.name] = str(reason)
    for d in SHELLS:
        try:
            labels[column_of(d.name) :][:WORDS] = ELEMENTS[d.name](around, site)
        except NoLabel as reason:
            masked[d.name] = str(reason)
    return labels, masked


@contextmanager
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
