import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.feff.sets import MPXANESSet
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from data_pipelines.errors import SpectrumError
from data_pipelines.feff.match import find_absorber, structure_from_inp
from data_pipelines.feff.output import atoms, cards, read_xmu
from data_pipelines.labels.descriptors import Surroundings, describe

RUNS = {
    "CoO_base_O1": ("O", 1),
    "LiCoO2_base_Co0": ("Co", 0),
    "LiFePO4_base_P8": ("P", 8),
    "NiO_base_Ni0": ("Ni", 0),
}
every_run = pytest.mark.parametrize("run", RUNS)


def refused(function, *arguments) -> str:
    with pytest.raises(SpectrumError) as caught:
        function(*arguments)
    return caught.value.reason


@every_run
def test_xmu_is_read(run, runs):
    parsed = read_xmu(runs / run / "xmu.dat")
    table = np.loadtxt(runs / run / "xmu.dat")
    np.testing.assert_array_equal(parsed.energy, table[:, 0])
    np.testing.assert_array_equal(parsed.mu, table[:, 3])
    assert (parsed.element, parsed.edge, parsed.version) == (RUNS[run][0], "K", "FEFF 10.0.0")


@every_run
def test_cut_anywhere_never_gives_other_numbers(run, runs, tmp_path, rng):
    whole = read_xmu(runs / run / "xmu.dat")
    text = (runs / run / "xmu.dat").read_text()
    outcomes = set()
    for cut in rng.integers(0, len(text) - 100, 40):
        (tmp_path / "xmu.dat").write_text(text[:cut])
        try:
            part = read_xmu(tmp_path / "xmu.dat")
        except SpectrumError as error:
            outcomes.add(error.reason)
        else:
            outcomes.add("shorter")
            assert len(part.mu) < len(whole.mu)
            np.testing.assert_array_equal(part.energy, whole.energy[: len(part.energy)])
            np.testing.assert_array_equal(part.mu, whole.mu[: len(part.mu)])
    assert "truncated" in outcomes


def test_unusable_files_are_refused(tmp_path, runs, rng):
    path = tmp_path / "xmu.dat"
    assert refused(read_xmu, path) == "no xmu.dat"
    path.write_text("")
    assert refused(read_xmu, path) == "failed FEFF run"
    text = (runs / "CoO_base_O1" / "xmu.dat").read_text()
    path.write_text("".join(line for line in text.splitlines(keepends=True) if line.startswith("#")))
    assert refused(read_xmu, path) == "failed FEFF run"
    path.write_bytes(b"\xff\xfe" + rng.bytes(5000))
    assert refused(read_xmu, path) == "unreadable"
    path.write_text("\n".join(["not six words of any number at"] * 20))
    assert refused(read_xmu, path) == "truncated"
    path.write_text("\n".join(["1 2 3 four 5 6"] * 20))
    assert refused(read_xmu, path) == "unreadable"


@every_run
def test_cards_end_where_the_cluster_begins(run, runs):
    found = cards(runs / run / "feff.inp")
    assert (found["EDGE"], found["XANE"], found["FMS"]) == ("K", "4.5 0.04 0.1", "5.0 0")
    assert not {"TITLE", "POTENTIALS", "ATOMS", "END"} & set(found)
    assert all(name.isupper() for name in found)


@every_run
def test_cluster_is_centred_on_the_absorber(run, runs):
    symbols, positions = atoms(runs / run / "feff.inp")
    distance = np.linalg.norm(positions, axis=1)
    assert symbols[0] == RUNS[run][0] and distance[0] == 0 and (np.diff(distance) >= 0).all()
    poscar = Structure.from_file(runs / run / "POSCAR")
    around = poscar.get_sites_in_sphere(poscar[RUNS[run][1]].coords, distance[-1] + 0.01)
    for element in {site.specie.symbol for site in poscar}:
        assert symbols.count(element) == sum(site.specie.symbol == element for site in around)


@every_run
def test_structure_in_the_title_block_is_the_poscar(run, runs):
    poscar, stated = Structure.from_file(runs / run / "POSCAR"), structure_from_inp(runs / run / "feff.inp")
    np.testing.assert_allclose(stated.lattice.parameters, poscar.lattice.parameters, atol=2e-6)
    assert stated.species == poscar.species
    np.testing.assert_allclose(stated.distance_matrix, poscar.distance_matrix, atol=1e-4)
    site = RUNS[run][1]
    (from_inp, why), (from_poscar, same) = (describe(Surroundings(s), site) for s in (stated, poscar))
    np.testing.assert_allclose(from_inp, from_poscar, atol=1e-4)
    assert why == same


@every_run
def test_absorber_is_found(run, runs, rng):
    """In the POSCAR, in the title's cell, and in a supercell with its sites in any order."""
    inp, (element, site) = runs / run / "feff.inp", RUNS[run]
    structure = Structure.from_file(runs / run / "POSCAR")
    orbit = SpacegroupAnalyzer(structure).get_symmetry_dataset().equivalent_atoms
    assert orbit[find_absorber(structure, inp)] == orbit[site]
    assert orbit[find_absorber(structure_from_inp(inp), inp)] == orbit[site]
    large = structure.make_supercell([2, 1, 1], in_place=False)
    orbit = SpacegroupAnalyzer(large).get_symmetry_dataset().equivalent_atoms
    order = rng.permutation(len(large))
    found = find_absorber(Structure.from_sites([large[i] for i in order]), inp)
    assert orbit[order[found]] == orbit[2 * site]  # pymatgen keeps the two copies of a site together
    assert large[order[found]].specie.symbol == element


def test_absorber_of_another_structure_is_refused(runs):
    cobalt = Structure.from_file(runs / "CoO_base_O1" / "POSCAR")
    assert refused(find_absorber, cobalt, runs / "NiO_base_Ni0" / "feff.inp") == "site mismatch"
    nickel = Structure.from_file(runs / "NiO_base_Ni0" / "POSCAR")
    nickel.apply_strain(0.05)
    assert refused(find_absorber, nickel, runs / "NiO_base_Ni0" / "feff.inp") == "site mismatch"


def test_inequivalent_sites_are_told_apart(runs, tmp_path):
    """LiFePO4 has three inequivalent oxygens: a cluster round any atom finds that atom's orbit."""
    structure = Structure.from_file(runs / "LiFePO4_base_P8" / "POSCAR")
    orbit = SpacegroupAnalyzer(structure).get_symmetry_dataset().equivalent_atoms
    oxygens = [i for i, site in enumerate(structure) if site.specie.symbol == "O"]
    assert len(set(orbit[oxygens])) == 3
    for site in oxygens[::3]:
        MPXANESSet(site, structure, radius=6.0).write_input(tmp_path)
        assert orbit[find_absorber(structure, tmp_path / "feff.inp")] == orbit[site]


def test_no_structure_in_the_file(tmp_path):
    path = tmp_path / "feff.inp"
    path.write_text("TITLE by hand\nXANES 4\nPOTENTIALS\n 0 29 Cu\nATOMS\nEND\n")
    assert refused(structure_from_inp, path) == "no structure"
    assert refused(atoms, path) == "no structure"
