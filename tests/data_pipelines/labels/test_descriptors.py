import itertools
import warnings

import numpy as np
import pytest
import spglib
from pymatgen.analysis.bond_valence import BVAnalyzer
from pymatgen.analysis.local_env import CrystalNN
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.symmetry.groups import PointGroup

from data_pipelines.dataset.loading import Dataset
from data_pipelines.labels.descriptors import MAX_INEQUIVALENT_SITES, ORDERS, Surroundings, describe
from data_pipelines.library import LIBRARY
from data_pipelines.schema import DESCRIPTORS, NAMES, SHELL_NAMES, SYMBOLS, WORDS, column_of, descriptor
from data_pipelines.shells import members, shell_labels


def labels_of(structure: Structure, site: int, known=None) -> tuple[dict[str, float], dict[str, str]]:
    labels, masked = describe(Surroundings(structure), site, known)
    return dict(zip(NAMES, labels[: len(NAMES)].tolist(), strict=True)), masked


def first(structure: Structure, element: str) -> int:
    return next(i for i, site in enumerate(structure) if site.specie.symbol == element)


@pytest.mark.parametrize("run, metal", [("CoO_base_O1", "Co"), ("NiO_base_Ni0", "Ni")])
def test_rock_salt_by_hand(run, metal, runs):
    structure = Structure.from_file(runs / run / "POSCAR")
    bond = structure.get_distance(0, 1)
    # Beyond the six neighbours at (1 0 0) lie twelve sites at (1 1 0) and six at (2 0 0).
    shared = {"CN": 6, "CN2": 12 + 6, "NNRS": 0, "PSGO": 48, "MBL": bond}
    labels, masked = labels_of(structure, first(structure, metal))
    assert not masked
    for name, value in (shared | {"OS": 2, "OCN": 6, "MOOD": bond * np.sqrt(2)}).items():
        assert labels[name] == pytest.approx(value, abs=1e-5), name
    assert np.isnan(labels["NNOSM"]), "exists for oxygen only"
    labels, masked = labels_of(structure, first(structure, "O"))
    assert not masked, "a descriptor of other sites is absent, not masked"
    for name, value in (shared | {"OS": -2, "NNOSM": 2}).items():
        assert labels[name] == pytest.approx(value, abs=1e-5), name
    assert np.isnan(labels["OCN"]) and np.isnan(labels["MOOD"])


@pytest.mark.parametrize("run, site", [("CoO_base_O1", 1), ("LiCoO2_base_Co0", 0), ("LiFePO4_base_P8", 8)])
def test_elements_of_the_shells_by_pymatgen_alone(run, site, runs):
    """Neighbours by CrystalNN, and the neighbours of these, apart from the absorber and the first shell."""
    structure, find = Structure.from_file(runs / run / "POSCAR"), CrystalNN()
    first = {(n["site_index"], tuple(n["image"])) for n in find.get_nn_info(structure, site)}
    second = set()
    for index, image in first:
        for n in find.get_nn_info(structure, index):
            second.add((n["site_index"], tuple(np.add(n["image"], image).tolist())))
    second -= first | {(site, (0, 0, 0))}
    labels, masked = describe(Surroundings(structure), site)
    assert not masked.keys() & set(SHELL_NAMES)
    for name, shell in (("NN1", first), ("NN2", second)):
        [present] = members(labels[column_of(name) :][:WORDS][None])
        assert {SYMBOLS[z] for z in present.nonzero()[0]} == {structure[i].specie.symbol for i, _ in shell}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_shells_agree_with_the_counts_of_every_site_of_the_library(split):
    """Oxygen is in the first shell where some neighbour is one, and the second is empty where it counts none."""
    batch = Dataset(LIBRARY).split(split).batch
    first, second = (shell_labels(batch, name)[1] for name in SHELL_NAMES)
    told = batch.mask[:, NAMES.index("OCN")]
    oxygens, beyond = (batch.labels[:, NAMES.index(name)] for name in ("OCN", "CN2"))
    np.testing.assert_array_equal(first[told, 8], oxygens[told] > 0)
    np.testing.assert_array_equal(second.any(axis=1), beyond > 0)
    assert first.any(axis=1).all() and len(first) == len(second) == len(batch.labels)


def test_a_lonely_site_has_no_shells():
    structure = Structure(Lattice.cubic(30), ["Cu"], [[0, 0, 0]])
    labels, masked = describe(Surroundings(structure), 0)
    assert {"NN1", "NN2"} <= masked.keys() and np.isnan(labels[len(NAMES) :]).all()


def test_phosphate_tetrahedron(runs):
    """The text-book site: P5+ in four oxygens at 1.5 Å, in the point group mmm of Pnma."""
    labels, masked = labels_of(Structure.from_file(runs / "LiFePO4_base_P8" / "POSCAR"), 8)
    assert not masked
    assert (labels["OS"], labels["CN"], labels["OCN"], labels["PSGO"]) == (5, 4, 4, 8)
    assert labels["MBL"] == pytest.approx(1.54, abs=0.03) and 0 < labels["NNRS"] < 0.05
    assert labels["MOOD"] == pytest.approx(labels["MBL"] * np.sqrt(8 / 3), abs=0.15)


@pytest.mark.parametrize("run", ["CoO_base_O1", "LiCoO2_base_Co0", "LiFePO4_base_P8"])
def test_choice_of_cell_does_not_matter(run, runs, rng):
    """Same labels in a cell of twice the size, turned, shifted and with its sites in another order."""
    structure = Structure.from_file(runs / run / "POSCAR")
    site = int(run[-1])
    other = structure.make_supercell([2, 1, 1], in_place=False)
    other.translate_sites(list(range(len(other))), rng.random(3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    other = Structure(Lattice(other.lattice.matrix @ turn), other.species, other.frac_coords)
    order = rng.permutation(len(other))
    other = Structure.from_sites([other[i] for i in order])
    here, there = (
        describe(Surroundings(s), i) for s, i in ((structure, site), (other, order.tolist().index(2 * site)))
    )
    np.testing.assert_allclose(here[0], there[0], atol=1e-4)
    assert here[1] == there[1]


def test_masks_say_why(runs):
    sulphide = Structure.from_file(runs / "NiO_base_Ni0" / "POSCAR")
    sulphide.replace_species({"O": "S"})
    labels, masked = labels_of(sulphide, first(sulphide, "Ni"))
    assert masked["MOOD"] == "fewer than two oxygens in the first shell" and labels["OCN"] == 0
    fcc = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]])
    labels, masked = labels_of(fcc, 0)
    assert masked["CN"] == "outside the plausible range", "twelve is not among the classes"
    assert masked["OS"] == "BVAnalyzer found no valences"
    assert labels["PSGO"] == 48 and labels["MBL"] == pytest.approx(3.615 / np.sqrt(2), abs=1e-4)
    lone = Structure(Lattice.cubic(15), ["Cu"], [[0, 0, 0]])
    labels, masked = labels_of(lone, 0)
    assert {"CN", "MBL", "NNRS", "MOOD", "OS"} <= set(masked)


def test_masked_and_labelled_make_up_the_table(runs):
    for folder, element in itertools.product(sorted(runs.iterdir()), ("O", "metal")):
        structure = Structure.from_file(folder / "POSCAR")
        site = first(structure, "O") if element == "O" else 0
        labels, masked = labels_of(structure, site)
        expected = {d.name for d in DESCRIPTORS if ("O" if element == "O" else "non-O") in d.sites}
        assert {n for n, v in labels.items() if not np.isnan(v)} | set(masked) == expected
        assert all(np.isnan(labels[name]) for name in masked)


def test_known_labels_overrule(runs):
    structure = Structure.from_file(runs / "CoO_base_O1" / "POSCAR")
    computed, _ = labels_of(structure, 0)
    labels, masked = labels_of(structure, 0, {"OS": 3.0})
    assert labels["OS"] == 3 and not masked
    assert all(labels[n] == computed[n] for n in ("CN", "CN2", "OCN", "PSGO", "MBL"))
    labels, masked = labels_of(structure, 0, {"OS": float("nan")})
    assert np.isnan(labels["OS"]) and masked == {"OS": "source gives no single value"}
    labels, masked = labels_of(structure, 0, {"OS": 2.5})
    assert np.isnan(labels["OS"]) and masked == {"OS": "outside the plausible range"}
    labels, _ = labels_of(structure, 0, {"NNOSM": 2.0})
    assert np.isnan(labels["NNOSM"]), "not a descriptor of a metal site"


def test_large_disordered_cell_skips_bond_valence(runs, rng):
    structure = Structure.from_file(runs / "CoO_base_O1" / "POSCAR").make_supercell(3, in_place=False)
    for i in range(len(structure)):
        structure.translate_sites(i, rng.normal(scale=0.15, size=3), frac_coords=False)
    assert len(structure) > MAX_INEQUIVALENT_SITES
    _, masked = labels_of(structure, 0)
    assert masked["OS"] == f"BVAnalyzer skipped (over {MAX_INEQUIVALENT_SITES} inequivalent sites)"


def random_copper_sites(library, rng, count=6):
    """(material, structure, site) of a few small cells."""
    found = []
    for name in rng.permutation(sorted(library)):
        text, sites = library[name]
        structure = Structure.from_str(text, fmt="poscar")
        if len(structure) <= 16:
            found.append((name, structure, int(rng.choice(sites))))
        if len(found) == count:
            return found
    raise AssertionError("the library has no small cells")


def by_hand(structure: Structure, site: int) -> dict[str, float]:
    """The descriptors of a metal site, written out naively; NaN where pymatgen gives none."""
    finder, centre = CrystalNN(), structure[site].coords
    shell = finder.get_nn_info(structure, site)
    lengths = [structure.get_distance(site, n["site_index"], jimage=n["image"]) for n in shell]
    oxygens = [n["site"].coords for n in shell if n["site"].specie.symbol == "O"]
    near = {tuple(np.round(n["site"].coords - centre, 2) + 0.0) for n in shell} | {(0.0, 0.0, 0.0)}
    beyond = set()
    for n in shell:
        for second in finder.get_nn_info(structure, n["site_index"]):
            step = second["site"].coords - structure[n["site_index"]].coords
            beyond.add(tuple(np.round(n["site"].coords + step - centre, 2) + 0.0))
    try:
        valence = BVAnalyzer().get_valences(structure)[site]
    except ValueError:
        valence = np.nan
    # Not by counting operations: of a cell at the edge of the tolerance spglib finds a group and not all of its own.
    group = PointGroup(SpacegroupAnalyzer(structure).get_point_group_symbol())
    return {
        "OS": valence,
        "CN": finder.get_cn(structure, site),
        "CN2": len(beyond - near),
        "OCN": len(oxygens),
        "NNRS": np.std(lengths) if lengths else np.nan,
        "MOOD": min((np.linalg.norm(a - b) for a, b in itertools.combinations(oxygens, 2)), default=np.nan),
        "NNOSM": np.nan,
        "PSGO": len(group.symmetry_ops),
        "MBL": np.mean(lengths) if lengths else np.nan,
    }


def test_orders_of_point_groups():
    for number in range(1, 531):
        rotations = spglib.get_symmetry_from_database(number)["rotations"]
        symbol = spglib.get_spacegroup_type(number).pointgroup_international
        assert ORDERS[symbol] == len({rotation.tobytes() for rotation in rotations})


def test_copper_oxides_against_pymatgen_by_hand(copper_oxides, rng):
    for name, structure, site in random_copper_sites(copper_oxides, rng):
        labels, _ = labels_of(structure, site)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = by_hand(structure, site)
        for d, value in expected.items():
            value = value if descriptor(d).accepts(value) else np.nan
            assert labels[d] == pytest.approx(value, abs=1e-4, nan_ok=True), (name, site, d)
