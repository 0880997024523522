"""The atoms around an absorber: the nearest ones of real structures, kept in a few bytes."""

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from data_pipelines.dataset.clusters import clusters_of
from data_pipelines.errors import SourceError
from data_pipelines.structures.cluster import ATOMS, REACH, STEP, Cluster, Clusters, cluster

RUNS = Path(__file__).parents[1] / "runs"
SITES = [
    ("NiO_base_Ni0", "NiO", "Ni K"),
    ("of no source", "NiO", "Ni K"),
    ("LiFePO4_base_P8", "LiFePO4", "P K"),
    ("CoO_base_O1", "of another material", "O K"),
]


def test_the_nearest_atoms_of_a_site_without_itself():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = cluster(salt, 0)
    distance = np.linalg.norm(found.place, axis=1)
    assert found.number.tolist() == [8] * 6 + [28] * 12 + [8] * 2 and len(found.number) == ATOMS
    assert distance == pytest.approx([2.1] * 6 + [2.1 * 2**0.5] * 12 + [2.1 * 3**0.5] * 2)
    every = salt.get_sites_in_sphere(salt[0].coords, 4)
    places = np.array([each.coords - salt[0].coords for each in every])
    assert all(np.linalg.norm(places - own, axis=1).min() < 1e-6 for own in found.place)
    alone = Structure(Lattice.cubic(3 * REACH), ["Ni"], [[0, 0, 0]])
    assert len(cluster(alone, 0).number) == 0


def test_it_comes_back_from_a_file_but_for_rounding(rng):
    each = [None if i % 3 == 1 else Cluster(rng.integers(1, 95, i), rng.uniform(-5, 5, (i, 3))) for i in range(12)]
    kept = Clusters.of(each)
    found = Clusters.of_compressed(kept.compressed(), len(each), kept.step)
    for i, one in enumerate(each):
        if one is None or not len(one.number):
            assert found.row(i) is None
            continue
        np.testing.assert_array_equal(found.row(i).number, one.number)
        np.testing.assert_allclose(found.row(i).place, one.place, atol=STEP / 2 + 1e-9)
    for wrong in (kept.compressed()[:-9], np.zeros(5, np.uint8)):
        with pytest.raises(ValueError, match="clusters"):
            Clusters.of_compressed(wrong, len(each), kept.step)
    with pytest.raises(ValueError, match="not those of 13 sites"):
        Clusters.of_compressed(kept.compressed(), len(each) + 1, kept.step)


def test_sites_of_a_dataset_are_found_again_in_its_sources():
    told = []
    found = clusters_of(SITES, [RUNS], lambda *done: told.append(done))
    assert (found.count > 0).tolist() == [True, False, True, False] and told[-1] == ("structures", 4, 4)
    phosphate = found.row(2)
    assert phosphate.number[:4].tolist() == [8] * 4
    assert np.linalg.norm(phosphate.place[:4], axis=1) == pytest.approx([1.52, 1.54, 1.56, 1.56], abs=0.03)
    with pytest.raises(SourceError, match="no structure of any training site; name what `spt-jax prepare`"):
        clusters_of(SITES[1:2], [RUNS])
