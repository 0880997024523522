"""The most compact cell of a given number of copies: its shortest lattice vector is as long as it can be."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Lattice, Structure


def supercell(structure: Structure, copies: int) -> tuple[Structure, list[dict]]:
    """`copies` cells as one compact cell, and the step for its provenance; one copy is the structure itself."""
    if copies == 1:
        return structure, []
    matrix, _ = compact(structure.lattice, copies)
    return structure * matrix, [{"name": "supercell", "matrix": matrix.tolist()}]


def compact(lattice: Lattice, copies: int) -> tuple[np.ndarray, float]:
    """(3, 3) integers with determinant `copies`, whose rows are the new lattice vectors in terms of the old ones, and
    the length of the shortest vector of the new lattice, Angstrom.

    All sublattices of that index are tried (their Hermite normal forms), so a prime number of copies does not
    make a rod; the vectors of the best one are LLL-reduced.
    """
    reduced = lattice.get_lll_reduced_lattice().matrix
    points, lengths = _points(reduced, copies * lattice.volume)
    forms = _hermite_forms(copies)
    # A point p lies on the sublattice of H where p H^-1 is whole; times `copies` it is whole arithmetic.
    adjugates = np.rint(np.linalg.inv(forms) * copies).astype(np.int64)
    shortest = np.empty(len(forms))
    for number, adjugate in enumerate(adjugates):
        shortest[number] = lengths[((points @ adjugate) % copies == 0).all(axis=1).argmax()]
    best = forms[shortest > shortest.max() - 1e-6][0]
    vectors = Lattice(best @ reduced).get_lll_reduced_lattice().matrix
    matrix = np.rint(vectors @ np.linalg.inv(lattice.matrix)).astype(int)
    return (matrix if np.linalg.det(matrix) > 0 else -matrix), float(shortest.max())


def _hermite_forms(copies: int) -> np.ndarray:
    """(F, 3, 3): one basis of each sublattice of index `copies`."""
    return np.array(
        [
            [[a, i, j], [0, b, k], [0, 0, c]]
            for a in range(1, copies + 1)
            if copies % a == 0
            for b in range(1, copies // a + 1)
            if copies // a % b == 0
            for c in [copies // a // b]
            for i in range(b)
            for j in range(c)
            for k in range(c)
        ]
    )


def _points(vectors: np.ndarray, volume: float) -> tuple[np.ndarray, np.ndarray]:
    """(P, 3) lattice points by length, the origin left out, and (P,) lengths: as far as the shortest vector of a
    lattice of this volume can be (Hermite's bound)."""
    reach = (2**0.5 * volume) ** (1 / 3) * 1.001
    span = np.floor(reach * np.linalg.norm(np.linalg.inv(vectors), axis=0)).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in span), indexing="ij"), -1).reshape(-1, 3)
    lengths = np.linalg.norm(grid @ vectors, axis=1)
    inside = np.flatnonzero((lengths > 1e-9) & (lengths <= reach))
    order = inside[np.argsort(lengths[inside], kind="stable")]
    return grid[order], lengths[order]
