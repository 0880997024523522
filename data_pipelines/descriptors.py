"""Structure + site -> descriptors, all computed on the stored structure (paper, table of descriptors).

`Surroundings` holds what the descriptors of one structure share, so that each CrystalNN call,
the bond-valence analysis and the symmetry search are done once per structure.
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from functools import cached_property

import numpy as np
from pymatgen.analysis.bond_valence import BVAnalyzer
from pymatgen.analysis.local_env import CrystalNN
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.symmetry.groups import PointGroup

from data_pipelines.schema import DESCRIPTORS, site_kind

# BVAnalyzer enumerates valences over inequivalent sites and does not come back from large disordered
# cells. The first limit is the rule (the same on every machine), the second a safety net.
MAX_INEQUIVALENT_SITES = 48
BV_SECONDS = 120


class NoLabel(Exception):
    """A descriptor that does not exist for this site; the message is the reason counted in the data card."""


class Surroundings:
    """One structure with its lazily computed neighbours, valences and point group."""

    def __init__(self, structure: Structure):
        self.structure = structure
        self._finder = CrystalNN()
        self._neighbours: dict[int, list[dict]] = {}

    def neighbours(self, site: int) -> list[dict]:
        """First neighbours of a site as CrystalNN dicts (`site`, `site_index`, `image`)."""
        if site not in self._neighbours:
            try:
                with _quiet():
                    self._neighbours[site] = self._finder.get_nn_info(self.structure, site)
            except (ValueError, RuntimeError, IndexError) as error:
                raise NoLabel(f"CrystalNN failed ({type(error).__name__})") from None
        return self._neighbours[site]

    @cached_property
    def _valences(self) -> list[float] | str:
        try:
            with _quiet(), _time_limit(BV_SECONDS):
                symmetry = SpacegroupAnalyzer(self.structure, symprec=0.1).get_symmetry_dataset()
                if len(set(symmetry.equivalent_atoms)) > MAX_INEQUIVALENT_SITES:
                    return f"BVAnalyzer skipped (over {MAX_INEQUIVALENT_SITES} inequivalent sites)"
                return BVAnalyzer().get_valences(self.structure)
        except TimeoutError:
            return "BVAnalyzer out of time"
        except Exception:  # BVAnalyzer raises bare ValueError, KeyError, IndexError, TypeError alike
            return "BVAnalyzer found no valences"

    def valence(self, site: int) -> float:
        if isinstance(self._valences, str):
            raise NoLabel(self._valences)
        return float(self._valences[site])

    @cached_property
    def point_group_order(self) -> int:
        """Number of operations of the crystal's point group; at most 48."""
        try:
            with _quiet():
                symbol = SpacegroupAnalyzer(self.structure).get_point_group_symbol()
                return len(PointGroup(symbol).symmetry_ops)
        except Exception as error:
            raise NoLabel(f"no point group ({type(error).__name__})") from None

    def bond_lengths(self, site: int) -> np.ndarray:
        centre = self.structure[site].coords
        lengths = [np.linalg.norm(n["site"].coords - centre) for n in self.neighbours(site)]
        if not lengths:
            raise NoLabel("no first neighbours")
        return np.array(lengths)


def oxidation_state(around: Surroundings, site: int) -> float:
    return around.valence(site)


def coordination(around: Surroundings, site: int) -> float:
    return len(around.neighbours(site))


def second_coordination(around: Surroundings, site: int) -> float:
    """Distinct sites (periodic images apart) one bond beyond the first shell."""

    def place(index: int, image: np.ndarray) -> tuple[int, ...]:
        return int(index), *(int(i) for i in image)

    inner = {place(site, (0, 0, 0))} | {place(n["site_index"], n["image"]) for n in around.neighbours(site)}
    outer = {
        place(second["site_index"], np.add(first["image"], second["image"]))
        for first in around.neighbours(site)
        for second in around.neighbours(first["site_index"])
    }
    return len(outer - inner)


def oxygen_coordination(around: Surroundings, site: int) -> float:
    return sum(n["site"].specie.symbol == "O" for n in around.neighbours(site))


def bond_length_spread(around: Surroundings, site: int) -> float:
    return around.bond_lengths(site).std()


def mean_bond_length(around: Surroundings, site: int) -> float:
    return around.bond_lengths(site).mean()


def minimum_oxygen_distance(around: Surroundings, site: int) -> float:
    oxygens = np.array([n["site"].coords for n in around.neighbours(site) if n["site"].specie.symbol == "O"])
    if len(oxygens) < 2:
        raise NoLabel("fewer than two oxygens in the first shell")
    distance = np.linalg.norm(oxygens[:, None] - oxygens[None], axis=-1)
    return distance[np.triu_indices(len(oxygens), 1)].min()


def neighbour_oxidation_state(around: Surroundings, site: int) -> float:
    around.bond_lengths(site)  # refuses an empty shell
    return np.mean([around.valence(n["site_index"]) for n in around.neighbours(site)])


def point_group_order(around: Surroundings, site: int) -> float:
    return around.point_group_order


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


def describe(
    around: Surroundings, site: int, known: dict[str, float] | None = None
) -> tuple[np.ndarray, dict[str, str]]:
    """All descriptors of one site: (D,) float32 labels, NaN where there is none, and why: name -> reason.

    `known` holds labels that the source states and that overrule the computed ones, such as the
    charge-balance oxidation state of a mixed-valent cell; NaN there means "no label".
    """
    kind = site_kind(around.structure[site].specie.symbol)
    labels = np.full(len(DESCRIPTORS), np.nan, np.float32)
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
    return labels, masked


@contextmanager
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _time_limit(seconds: int):
    """TimeoutError after `seconds`; signals reach only a main thread, elsewhere there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(*_):
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
