"""First neighbours, the same that pymatgen's `CrystalNN()` finds, from points that all sites of a structure share.

CrystalNN (Zimmermann and Jain, RSC Adv. 10, 6063 (2020); Pan et al., Inorg. Chem. 60, 1590 (2021)) weighs the
faces of a site's Voronoi cell by solid angle, electronegativity difference and distance, and takes the number of
neighbours that is most probable under a quarter circle drawn over the weights. It tessellates all points within
7 Å. The one cell that is needed is the polar dual of the convex hull of the inverted points, ten times cheaper.

Where rounding decides what CrystalNN says (corners of the cell that four or more faces share, as in cubic crystals;
a weight on the edge of its third digit), its own input is tessellated in its own order instead, and where even that
is not certain pymatgen is asked.
"""

from __future__ import annotations

import math
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from pymatgen.analysis.local_env import CrystalNN, solid_angle, vol_tetra
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import Element, Structure
from scipy.spatial import ConvexHull, QhullError, Voronoi

SEARCH_RADIUS = 7.0
# A bond is whole up to the first excess over the sum of covalent radii, in Å, and gone beyond the second.
FULL_EXCESS, NO_EXCESS = 0.5, 1.0
X_DIFFERENCE_WEIGHT, X_DIFFERENCE_MAXIMUM = 3.0, 3.3
# How near to a tie two ways of rounding may differ: relative distance of a point to a corner, length in Å,
# tripled volume of a tetrahedron in Å^3, and thousandths of a weight.
CORNER_SLACK, EDGE_OF_SPHERE, FLAT, HALF = 1e-7, 1e-6, 1e-9, 1e-5


class Shell(NamedTuple):
    """First neighbours of a site: (K,) site index, (K, 3) lattice image, (K, 3) vector from the site in Å."""

    index: np.ndarray
    image: np.ndarray
    vector: np.ndarray


class Cell(NamedTuple):
    """A Voronoi cell: the neighbour behind each of its K faces, and the face's solid angle and area in Å^2."""

    neighbours: Shell
    solid_angle: np.ndarray
    area: np.ndarray


class FirstNeighbours:
    """Finds the first neighbours of the sites of one structure."""

    def __init__(self, structure: Structure):
        self.structure = structure
        self._reference = CrystalNN()
        species = [site.specie for site in structure] if structure.is_ordered else []
        # Radii of ions, and those of elements without a covalent one, are left to pymatgen.
        self._plain = all(structure.lattice.pbc) and bool(species)
        self._plain &= all(isinstance(s, Element) and s.symbol in CovalentRadius.radius for s in species)
        if self._plain:
            table = {s: (CovalentRadius.radius[s.symbol], s.X) for s in set(species)}
            self._radius, self._electronegativity = np.array([table[s] for s in species]).T
            self._points = _Points(structure)

    def of(self, site: int) -> Shell:
        """Strongest first where pymatgen was asked, else in no order. Raises what CrystalNN raises."""
        if self._plain:
            for find in (self._points.cell, self._tessellated):
                try:
                    cell = find(site)
                except QhullError:
                    continue
                bonded = None if cell is None else self._bonded(site, cell)
                if bonded is not None:
                    return Shell(*(array[bonded] for array in cell.neighbours))
        return self._asked(site)

    def _bonded(self, site: int, cell: Cell) -> np.ndarray | None:
        """(K,) whether the neighbour behind each face is bonded; None where rounding decides."""
        index, _, vector = cell.neighbours
        difference = np.abs(self._electronegativity[index] - self._electronegativity[site])
        chemical = 1 + X_DIFFERENCE_WEIGHT * np.sqrt(difference / X_DIFFERENCE_MAXIMUM)
        # The second solid angle, over the area, keeps wide open faces of porous structures small.
        weight = cell.solid_angle / cell.solid_angle.max() * (cell.solid_angle / cell.area)
        weight = weight * np.where(np.isnan(chemical), 1, chemical)
        excess = np.sqrt((vector**2).sum(axis=1)) - self._radius[index] - self._radius[site]
        fade = np.clip((excess - FULL_EXCESS) / (NO_EXCESS - FULL_EXCESS), 0, 1)
        thousandths = 1e3 * weight / weight.max() * (0.5 * (1 + np.cos(np.pi * fade)))
        if not np.isfinite(thousandths).all() or (np.abs(thousandths % 1 - 0.5) < HALF).any():
            return None
        return _most_probable(np.rint(thousandths).astype(int))

    def _tessellated(self, site: int) -> Cell | None:
        """The cell from the points of CrystalNN in their order, so that qhull returns bit for bit the same."""
        lattice, centre = self.structure.lattice, self.structure[site].coords
        fractional, distance, index, image = lattice.get_points_in_sphere(
            self.structure.frac_coords, centre, SEARCH_RADIUS, zip_results=False
        )
        order = np.argsort(distance, kind="stable")
        points = np.array([lattice.get_cartesian_coords(f) for f in fractional[order]])
        tessellation = Voronoi(points)
        pairs = tessellation.ridge_points
        own = np.flatnonzero((pairs == 0).any(axis=1))
        faces = [tessellation.ridge_vertices[ridge] for ridge in own.tolist()]
        if not faces or any(-1 in face for face in faces):
            return None
        behind = pairs[own].sum(axis=1)
        angle, volume = _fans(points[0], tessellation.vertices, faces)
        vector = points[behind] - points[0]
        area = 3 * volume / (0.5 * np.sqrt((vector**2).sum(axis=1)))
        if not (area > 0).all():
            return None
        chosen = order[behind]
        return Cell(Shell(index[chosen], image[chosen].astype(int), vector), angle, area)

    def _asked(self, site: int) -> Shell:
        found = self._reference.get_nn_info(self.structure, site)
        centre = self.structure[site].coords
        vectors = np.array([n["site"].coords - centre for n in found]).reshape(-1, 3)
        images = np.array([n["image"] for n in found], int).reshape(-1, 3)
        return Shell(np.array([n["site_index"] for n in found], int), images, vectors)


class _Points:
    """All periodic images of a structure's sites that can lie within the search radius of one of them."""

    def __init__(self, structure: Structure):
        matrix = structure.lattice.matrix
        self._home = np.floor(structure.frac_coords).astype(int)
        # Heights of the cell: sites of [0, 1) within the radius are at most this many cells apart.
        reach = np.ceil(SEARCH_RADIUS * np.linalg.norm(np.linalg.inv(matrix), axis=0)).astype(int)
        self._images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
        self._centres = (structure.frac_coords - self._home) @ matrix
        self._places = ((self._images @ matrix)[:, None] + self._centres).reshape(-1, 3)

    def cell(self, site: int) -> Cell | None:
        """The Voronoi cell of a site by duality; None where it is open or rounding decides its corners.

        The half space behind the face to a neighbour at p is x·q <= 1 with q = 2 p / |p|², so the corners of the
        cell are the facets of the hull of all q, and its faces are the corners of the hull.
        """
        vector = self._places - self._centres[site]
        square = np.einsum("ij,ij->i", vector, vector)
        near = np.flatnonzero((square < (SEARCH_RADIUS + EDGE_OF_SPHERE) ** 2) & (square > 0))
        if len(near) < 4 or np.count_nonzero(square == 0) > 1:
            return None
        vector, square = vector[near], square[near]
        dual = 2 * vector / square[:, None]
        hull = ConvexHull(dual)
        if (hull.equations[:, 3] > -1e-3).any():
            return None
        corners = -hull.equations[:, :3] / hull.equations[:, 3:]
        if (corners @ dual.T > 1 - CORNER_SLACK).sum() != 3 * len(corners):
            return None
        radius = np.sqrt((corners**2).sum(axis=1))
        if radius.max() > (SEARCH_RADIUS - EDGE_OF_SPHERE) / 2 and square.max() > (SEARCH_RADIUS - EDGE_OF_SPHERE) ** 2:
            return None
        face, angle, area = _faces(vector, square, corners, radius, hull)
        image, index = np.divmod(near[face], len(self._centres))
        image = self._images[image] - self._home[index] + self._home[site]
        return Cell(Shell(index, image, vector[face]), angle, area)


def _faces(vector, square, corners, radius, hull: ConvexHull) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces of a cell (positions in `vector`), their solid angles and areas.

    Each face is cut into triangles between the foot of its perpendicular and one of its edges; a triangle counts
    as negative where the foot lies beyond the edge.
    """
    one, turn = np.divmod(np.arange(hull.simplices.size), 3)
    other = hull.neighbors[one, turn]
    once = one < other
    one, other, turn = one[once], other[once], turn[once]
    beside = hull.simplices[one, (turn + 1) % 3], hull.simplices[one, (turn + 2) % 3]
    a, b = np.concatenate(beside), np.concatenate(beside[::-1])
    one, other = np.tile(one, 2), np.tile(other, 2)
    foot, x, y = vector[a] / 2, corners[one], corners[other]
    height = np.sqrt(square[a]) / 2
    inside = np.where(np.einsum("ij,ij->i", vector[a], vector[b]) <= square[b], 1, -1)
    volume = np.abs(np.einsum("ij,ij->i", foot, _cross(x, y)))
    # Every corner x of the face has x·foot = |foot|².
    flat = height**2 * (radius[one] + radius[other]) + height * (
        radius[one] * radius[other] + np.einsum("ij,ij->i", x, y)
    )
    angle = np.bincount(a, inside * 2 * np.arctan2(volume, flat), len(vector))
    area = np.bincount(a, inside * volume / (2 * height), len(vector))
    face = hull.vertices
    return face, angle[face], area[face]


def _fans(centre: np.ndarray, corners: np.ndarray, faces: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Solid angles and cone volumes of faces, each cut into a fan of triangles from its first corner.

    Flat triangles are given to pymatgen's own functions: it counts an angle of 2π for one of volume exactly zero.
    """
    sizes = np.array([len(face) - 2 for face in faces])
    first = np.repeat([face[0] for face in faces], sizes)
    second = np.fromiter(chain.from_iterable(face[1:-1] for face in faces), int)
    third = np.fromiter(chain.from_iterable(face[2:] for face in faces), int)
    x, y, z = (corners[each] - centre for each in (first, second, third))
    p, q, r = (np.sqrt((each**2).sum(axis=1)) for each in (x, y, z))
    triple = np.abs(np.einsum("ij,ij->i", x, _cross(y, z)))
    xy, xz, yz = (np.einsum("ij,ij->i", *pair) for pair in ((x, y), (x, z), (y, z)))
    owner = np.repeat(np.arange(len(faces)), sizes)
    angle = np.bincount(owner, 2 * np.arctan2(triple, p * q * r + r * xy + q * xz + p * yz))
    volume = np.bincount(owner, triple / 6)
    for face in np.unique(owner[triple < FLAT]):
        places = corners[faces[face]]
        angle[face] = solid_angle(centre, places)
        volume[face] = sum(vol_tetra(centre, places[0], *pair) for pair in pairwise(places[1:]))
    return angle, volume


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row; several times faster than numpy's on short arrays."""
    (a1, a2, a3), (b1, b2, b3) = a.T, b.T
    return np.stack([a2 * b3 - a3 * b2, a3 * b1 - a1 * b3, a1 * b2 - a2 * b1], axis=1)


def _most_probable(thousandths: np.ndarray) -> np.ndarray:
    """(K,) which neighbours make the most probable shell, from their weights in thousandths.

    The k strongest neighbours are the shell with the probability of the area under the quarter circle between
    the k-th weight and the next lower one; no neighbour at all, with what is left.
    """
    steps = np.unique(thousandths[thousandths > 0])[::-1]
    areas = np.diff(QUARTER_CIRCLE[np.append(steps, 0)])
    probability = (-areas / QUARTER_CIRCLE[-1]).tolist()
    probability.append(1 - sum(probability))
    best = max(range(len(probability)), key=probability.__getitem__)
    if best == len(steps):
        return np.zeros(len(thousandths), bool)
    return thousandths >= steps[best]


def _under_circle(x: float) -> float:
    """Area under the unit circle between 0 and x."""
    return 0.5 * (x * math.sqrt(1 - x * x) + math.asin(x))


# By thousandths, to which CrystalNN rounds.
QUARTER_CIRCLE = np.array([_under_circle(k / 1000) for k in range(1001)])
