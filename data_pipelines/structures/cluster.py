"""The atoms around an absorber, as little of them as a picture needs: kept for thousands of sites in a few bytes each."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # who reads a packed model need not wait for it
    from pymatgen.core import Structure

# Atoms beside the absorber, and how finely their places are kept, Å: an int8 then reaches 5.08 Å.
ATOMS, STEP = 20, 0.04
REACH = 127 * STEP


class Cluster(NamedTuple):
    """number: (n,) atomic numbers, nearest first. place: (n, 3) Å from the absorber, which is not among them."""

    number: np.ndarray
    place: np.ndarray


def cluster(structure: Structure, site: int) -> Cluster:
    """The ATOMS nearest to a site, within REACH; of equally distant ones all that have room, in the structure's order."""
    _, neighbour, image, distance = structure.get_neighbor_list(REACH, sites=[structure[site]])
    order = np.lexsort((neighbour, np.rint(distance / STEP)))
    order = order[distance[order] > STEP][:ATOMS]  # without the site itself
    own = structure.frac_coords[neighbour[order]] + image[order] - structure.frac_coords[site]
    return Cluster(np.array(structure.atomic_numbers)[neighbour[order]], own @ structure.lattice.matrix)


@dataclass(frozen=True)
class Clusters:
    """Of N sites. count: (N,) atoms of each, 0 where the structure is not known. number: (M,) and place: (M, 3) of all,
    in steps of `step` Å."""

    count: np.ndarray
    number: np.ndarray
    place: np.ndarray
    step: float = STEP

    @classmethod
    def of(cls, each: Sequence[Cluster | None]) -> Clusters:
        known = [one for one in each if one is not None]
        place = np.concatenate([one.place for one in known] or [np.empty((0, 3))])
        number = np.concatenate([one.number for one in known] or [np.empty(0)])
        count = np.array([0 if one is None else len(one.number) for one in each], np.uint8)
        return cls(count, number.astype(np.uint8), np.rint(place / STEP).astype(np.int8))

    def row(self, row: int) -> Cluster | None:
        """None where the structure is not known."""
        start, count = int(self.count[:row].sum(dtype=int)), int(self.count[row])
        own = slice(start, start + count)
        return Cluster(self.number[own].astype(int), self.place[own] * self.step) if count else None

    def compressed(self) -> np.ndarray:
        """(K,) uint8, for a file."""
        parts = (self.count, self.number, *self.place.T)
        text = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        return np.frombuffer(zlib.compress(text, 9), np.uint8)

    @classmethod
    def of_compressed(cls, content: np.ndarray, sites: int, step: float) -> Clusters:
        """Of what `compressed` gave for so many sites. Raises ValueError where it is not that."""
        try:
            flat = np.frombuffer(zlib.decompress(content.tobytes()), np.uint8)
        except zlib.error as error:
            raise ValueError(f"clusters: {error}") from None
        count = flat[:sites]
        if len(flat) != sites + 4 * count.sum(dtype=int):
            raise ValueError(f"clusters: not those of {sites} sites")
        number, *place = np.split(flat[sites:], 4)
        return cls(count, number, np.stack(place, axis=1).view(np.int8), step)
