"""First neighbours are those of pymatgen's CrystalNN, valences those of its BVAnalyzer: same sites, same images."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.local_env import CrystalNN
from pymatgen.core import Lattice, Structure

from data_pipelines.labels.descriptors import Surroundings, describe
from data_pipelines.labels.neighbours import FirstNeighbours

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def places(found: list[dict]) -> list[tuple[int, ...]]:
    return sorted((int(n["site_index"]), *map(int, n["image"])) for n in found)


def check(structure: Structure, sites) -> None:
    """Each site's shell is that of CrystalNN, and its vectors lead to the sites it names."""
    finder, reference = FirstNeighbours(structure), CrystalNN()
    for site in map(int, sites):
        index, image, vector = finder.of(site)
        found = sorted(zip(index.tolist(), *image.T.tolist(), strict=True))
        assert found == places(reference.get_nn_info(structure, site)), (structure.formula, site)
        step = structure.frac_coords[index] + image - structure.frac_coords[site]
        np.testing.assert_allclose(vector, step @ structure.lattice.matrix, atol=1e-9)


def rattled(structure: Structure, rng, scale: float) -> Structure:
    """Sites moved by `scale` Å at random, the cell strained, some sites written outside the cell."""
    matrix = structure.lattice.matrix @ (np.eye(3) + rng.normal(scale=0.01, size=(3, 3)))
    places = structure.cart_coords + rng.normal(scale=scale, size=(len(structure), 3))
    fractional = places @ np.linalg.inv(structure.lattice.matrix) + rng.integers(-2, 3, (len(structure), 3))
    return Structure(Lattice(matrix), structure.species, fractional)


CRYSTALS = {
    "face-centred": Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]]),
    "body-centred": Structure.from_spacegroup("Im-3m", Lattice.cubic(2.866), ["Fe"], [[0, 0, 0]]),
    "rock salt": Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.24), ["Co", "O"], [[0, 0, 0], [0.5] * 3]),
    "perovskite": Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
    ),
    "fluorite": Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.41), ["Ce", "O"], [[0, 0, 0], [0.25] * 3]),
    "sheets": Structure.from_spacegroup("P6/mmm", Lattice.hexagonal(2.46, 6.7), ["C"], [[1 / 3, 2 / 3, 0]]),
    "helium": Structure(Lattice.cubic(3.5), ["He", "O"], [[0, 0, 0], [0.5] * 3]),
    "far apart": Structure(Lattice.cubic(9.0), ["Cu", "O"], [[0, 0, 0], [0.2, 0, 0]]),
    "ions": Structure(Lattice.cubic(4.2), ["Ni2+", "O2-"], [[0, 0, 0], [0.5] * 3]),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_where_many_faces_share_a_corner(name):
    check(CRYSTALS[name], range(min(len(CRYSTALS[name]), 4)))


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 0.05, 0.4])
def test_rattled_crystals(scale, runs, rng):
    for folder in rng.permutation(sorted(runs.iterdir()))[:3]:
        structure = rattled(Structure.from_file(folder / "POSCAR"), rng, scale)
        check(structure, rng.permutation(len(structure))[:4])


def test_random_packings(rng):
    for _ in range(3):
        lattice = Lattice(4 * np.eye(3) + rng.normal(scale=1.0, size=(3, 3)))
        structure = Structure(lattice, rng.choice(["Cu", "O", "Li", "P"], 7), rng.random((7, 3)))
        check(structure, range(3))


def test_copper_library(copper_oxides, rng):
    for name in rng.permutation(sorted(copper_oxides))[:12]:
        structure = Structure.from_str(copper_oxides[name][0], fmt="poscar")
        check(structure, rng.permutation(len(structure))[:3])


@pytest.mark.parametrize("library", ["crystalline", "amorphous", "lixcoo2"])
def test_libraries(library, shared, rng):
    texts = pq.read_table(shared(f"feff10/{library}.parquet"), columns=["structure"])["structure"].to_pylist()
    for text in rng.choice(texts, 4):
        structure = Structure.from_str(str(text), fmt="json")
        check(structure, rng.permutation(len(structure))[:3])


def test_failures_are_those_of_crystalnn():
    sheet = Structure(
        Lattice(np.diag([3.0, 3.0, 20.0]), pbc=(True, True, False)), ["Cu", "O"], [[0] * 3, [0.5, 0.5, 0.05]]
    )
    unknown = Structure(Lattice.cubic(4), ["Cf", "O"], [[0, 0, 0], [0.5] * 3])
    for structure, error in ((sheet, RuntimeError), (unknown, TypeError)):
        for find in (FirstNeighbours(structure).of, lambda site, s=structure: CrystalNN().get_nn_info(s, site)):
            with pytest.raises(error):
                find(0)
    _, masked = describe(Surroundings(sheet), 0)
    assert masked["CN"] == "CrystalNN failed (RuntimeError)"
