import itertools
import json
from collections import Counter

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure

from data_pipelines.errors import StructureError, UserError
from data_pipelines.structures import distances, ordering
from data_pipelines.structures.options import Options, Variants
from data_pipelines.structures.supercells import compact, supercell
from data_pipelines.structures.variants import (
    antisites,
    delithiate,
    displace,
    oxygen_vacancies,
    recipes,
    seed_of,
    strain,
    substitute,
)


@pytest.fixture(scope="module")
def cell(runs) -> Structure:
    """LiCoO2: 12 Li, 12 Co, 24 O."""
    structure, _ = supercell(Structure.from_file(runs / "LiCoO2_base_Co0" / "POSCAR"), 12)
    assert counts(structure) == {"Li": 12, "Co": 12, "O": 24}
    return structure


def counts(structure: Structure) -> dict[str, int]:
    return dict(Counter(site.specie.symbol for site in structure))


def at(structure: Structure) -> dict[tuple, str]:
    """Which element stands where."""
    places = np.round(structure.frac_coords % 1, 6) % 1
    return {tuple(p): s.specie.symbol for p, s in zip(places.tolist(), structure, strict=True)}


def brute_force_shortest(structure: Structure) -> float:
    images = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3))) @ structure.lattice.matrix
    gaps = structure.cart_coords[:, None, None] - structure.cart_coords[None, :, None] - images
    lengths = np.linalg.norm(gaps, axis=-1)
    return lengths[lengths > 1e-6].min()


@pytest.mark.parametrize("copies", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("run", ["CoO_base_O1", "LiCoO2_base_Co0", "LiFePO4_base_P8"])
def test_supercell_is_the_same_crystal_in_a_compact_cell(runs, run, copies):
    structure = Structure.from_file(runs / run / "POSCAR")
    made, steps = supercell(structure, copies)
    assert len(made) == copies * len(structure) and bool(steps) == (copies > 1)
    assert made.volume == pytest.approx(copies * structure.volume)
    assert made.composition.reduced_formula == structure.composition.reduced_formula
    nearest = distances.shortest(made, distances.pairs(made))
    assert nearest == pytest.approx(brute_force_shortest(structure), abs=1e-8)
    matrix, shortest = compact(structure.lattice, copies)
    assert round(np.linalg.det(matrix)) == copies
    assert shortest == pytest.approx(shortest_vector(Lattice(matrix @ structure.lattice.matrix)))
    for a, b in itertools.product(range(1, copies + 1), repeat=2):
        if copies % (a * b) == 0:
            other = Lattice(np.diag([a, b, copies // (a * b)]) @ structure.lattice.matrix)
            assert shortest > shortest_vector(other) - 1e-6


def shortest_vector(lattice: Lattice) -> float:
    vectors = lattice.get_lll_reduced_lattice().matrix
    grid = np.array([v for v in itertools.product((-2, -1, 0, 1, 2), repeat=3) if any(v)])
    return np.linalg.norm(grid @ vectors, axis=1).min()


def test_strain_has_the_stated_size_and_volume(cell, rng):
    made, step = strain(cell, rng, size=0.03)
    tensor = np.array(step["tensor"])
    np.testing.assert_array_equal(tensor, tensor.T)
    assert np.abs(np.linalg.eigvalsh(tensor)).max() == pytest.approx(0.03, rel=1e-4)
    assert made.volume / cell.volume == pytest.approx(np.linalg.det(np.eye(3) + tensor))
    np.testing.assert_array_equal(made.frac_coords, cell.frac_coords)
    assert made.species == cell.species


def test_displacements_are_gaussian_of_the_stated_width(cell, rng):
    made, step = displace(cell, rng, sigma=0.05)
    assert made.lattice == cell.lattice and made.species == cell.species and step["sigma"] == 0.05
    moves = made.cart_coords - cell.cart_coords
    assert moves.std() == pytest.approx(0.05, abs=5 * 0.05 / np.sqrt(2 * moves.size))


def test_delithiation_is_one_path_to_nothing(cell, rng):
    seed = int(rng.integers(2**32))
    gone: set[tuple] = set()
    for fraction, removed in ((0.25, 3), (0.5, 6), (0.8, 10), (1.0, 12)):
        made, step = delithiate(cell, np.random.default_rng(seed), fraction=fraction)
        assert (step["removed"], step["of"]) == (removed, 12)
        assert Counter(counts(made)) == Counter({"Li": 12 - removed, "Co": 12, "O": 24}) + Counter()
        before, after = at(cell), at(made)
        assert all(before[place] == element for place, element in after.items()), "nothing else moves"
        now = set(before) - set(after)
        assert gone < now, "what is out stays out"
        gone = now


def test_substitution_antisites_and_vacancies_change_what_they_say(cell, rng):
    made, step = substitute(cell, rng, old="Co", new="Ni", fraction=0.25)
    assert counts(made) == {"Li": 12, "Co": 9, "Ni": 3, "O": 24} and (step["replaced"], step["of"]) == (3, 12)
    made, step = antisites(cell, rng, fraction=0.2)
    assert counts(made) == counts(cell) and step["pairs"] == 2
    before, after = at(cell), at(made)
    assert set(before) == set(after)
    assert Counter((before[p], after[p]) for p in before if before[p] != after[p]) == {("Li", "Co"): 2, ("Co", "Li"): 2}
    made, step = oxygen_vacancies(cell, rng, fraction=0.001)
    assert counts(made) == {"Li": 12, "Co": 12, "O": 23} and step["removed"] == 1, "at least one"
    made, step = oxygen_vacancies(cell, rng, fraction=0.125)
    assert counts(made) == {"Li": 12, "Co": 12, "O": 21} and (step["removed"], step["of"]) == (3, 24)


def test_what_does_not_apply_says_so(runs, rng):
    oxide = Structure.from_file(runs / "CoO_base_O1" / "POSCAR")
    for make in (
        lambda: delithiate(oxide, rng, fraction=0.5),
        lambda: antisites(oxide, rng, fraction=0.5),
        lambda: substitute(oxide, rng, old="Ni", new="Co", fraction=0.5),
    ):
        with pytest.raises(StructureError) as error:
            make()
        assert error.value.reason == "does not apply"
    with pytest.raises(StructureError, match=r"cell too small: 0\.1 of 1 Co"):
        substitute(oxide, rng, old="Co", new="Ni", fraction=0.1)


def test_makers_leave_their_structure_alone_and_repeat_by_seed(cell):
    options = Variants(
        strain=2, thermal=1, delithiate=(0.5,), substitute=("Co:Ni:0.5",), antisites=1, vacancies=1, cell_atoms=1
    )
    before = cell.as_dict()
    for recipe in recipes(options):
        once, twice, other = (recipe.make(cell, np.random.default_rng(seed)) for seed in (5, 5, 6))
        assert once == twice and once[0] != other[0], recipe.suffix
        assert json.loads(json.dumps(once[1])) == once[1]
    assert cell.as_dict() == before


def test_suffixes_are_unique_and_safe():
    options = Variants(
        strain=3, thermal=2, delithiate=(0.5, 0.25, 0.5), substitute=("Co:Ni:0.5", "Co:Ni:0.25"), antisites=2
    )
    suffixes = [recipe.suffix for recipe in recipes(options)]
    assert len(set(suffixes)) == len(suffixes) == 3 + 2 + 2 + 2 + 2
    assert all(set(suffix) <= set("abcdefghijklmnopqrstuvwxyzCNio0123456789.-") for suffix in suffixes)


def test_seeds_are_fixed_for_ever():
    """Written down once: a later version must draw the same variants."""
    assert seed_of(0, "LiCoO2/strain0.02-1", 0) == 166250236368094
    draws = {seed_of(s, d, a) for s in range(3) for d in ("a", "b") for a in range(3)}
    assert len(draws) == 18 and max(draws) < 2**53


@pytest.mark.parametrize(
    "wrong",
    [
        {"strain": -1},
        {"orderings": 0},
        {"strain_size": 0.0},
        {"thermal_sigma": 2.0},
        {"delithiate": (0.5, 1.5)},
        {"vacancy_fraction": 0.0},
        {"substitute": ("Co:Ni",)},
        {"substitute": ("Co:Xx:0.5",)},
        {"substitute": ("Co:Co:0.5",)},
        {"substitute": ("Co:Ni:0",)},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(UserError):
        Variants(**wrong)


def test_unknown_absorber_is_refused():
    with pytest.raises(UserError, match="Xx"):
        Options(elements=("Co", "Xx"))


@pytest.mark.parametrize("run", ["CoO_base_O1", "LiFePO4_base_P8"])
def test_shortest_distance_and_its_limit(runs, run):
    structure = Structure.from_file(runs / run / "POSCAR")
    found = distances.shortest(structure, distances.pairs(structure))
    assert found == pytest.approx(brute_force_shortest(structure), abs=1e-6)
    structure.append("O", structure.cart_coords[-1] + [0, 0, 0.8], coords_are_cartesian=True)
    with pytest.raises(StructureError, match=r"O-O 0\.80 Å") as error:
        distances.shortest(structure, distances.pairs(structure))
    assert error.value.reason == "too close"
    structure.translate_sites([len(structure) - 1], [0, 0, -0.8], frac_coords=False)
    with pytest.raises(StructureError, match=r"O-O 0\.00 Å"):
        distances.shortest(structure, distances.pairs(structure))


def test_fingerprint_knows_copies_and_nothing_else(cell, rng):
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(cell))
    turned = Structure(cell.lattice.matrix @ turn, np.array(cell.species)[order], cell.frac_coords[order] + 0.3)
    other, _ = displace(cell, rng, sigma=0.05)
    swapped, _ = antisites(cell, rng, fraction=0.1)
    prints = [distances.fingerprint(distances.pairs(s)) for s in (cell, turned, other, swapped)]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def partial(share: float) -> Structure:
    """LiCoO2 rock salt with one of two cation sites half empty."""
    lattice = Lattice.from_parameters(2.84, 2.84, 4.9, 100, 80, 60)
    return Structure(
        lattice, [{"Li": share}, "Co", "O", "O"], [[0, 0, 0.5], [0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]
    )


@pytest.mark.parametrize("share", [0.5, 0.53, 1 / 3, 0.9])
def test_ordering_meets_the_composition_as_stated(share, rng):
    structure = partial(share)
    made, steps = ordering.order(structure, rng)
    step = steps[-1]
    cells = counts(made)["Co"]
    assert shortest_vector(made.lattice) > ordering.SHORTEST
    assert made.is_ordered and made.volume / structure.volume == pytest.approx(cells)
    assert abs(counts(made)["Li"] / cells - share) == pytest.approx(step["occupancy_error"], abs=1e-4)
    assert step["occupancy_error"] <= ordering.GOOD_ERROR + 1e-4
    assert step["kinds"][0]["given"]["Li"] == counts(made)["Li"]
    charge = sum(step["charges"][element] * n for element, n in counts(made).items())
    assert charge == pytest.approx(0, abs=1e-4 * len(made)), "the metal balances"


def test_two_metals_on_one_site_and_vacancies_beside(rng):
    structure = partial(0.5)
    structure[1] = {"Co": 0.5, "Ni": 0.25, "Mn": 0.25}
    made, _ = ordering.order(structure, rng)
    n = counts(made)
    assert n["Co"] == 2 * n["Ni"] == 2 * n["Mn"] == n["O"] / 4 == n["Li"]


def test_what_no_cell_can_hold_is_refused(rng):
    big, _ = supercell(partial(1.0), 40)
    symbols = [{"Li": 0.3} if i == 0 else s.species for i, s in enumerate(big)]
    with pytest.raises(StructureError, match=r"nearer to its occupancies than 0\.30") as error:
        ordering.order(Structure(big.lattice, symbols, big.frac_coords), rng)
    assert error.value.reason == "cannot be ordered"


def test_energies_are_those_of_pymatgen(rng):
    cell, _ = supercell(partial(1.0), 6)
    charges = {"Li": 1.0, "Co": 3.0, "O": -2.0}
    draws = np.array([[s.specie.symbol for s in cell]] * 3)
    cations = np.flatnonzero(draws[0] != "O")
    draws[:, cations] = rng.permuted(draws[:, cations], axis=1)
    expected = [
        EwaldSummation(
            Structure(cell.lattice, row.tolist(), cell.frac_coords).add_oxidation_state_by_element(charges)
        ).total_energy
        for row in draws
    ]
    np.testing.assert_allclose(ordering._energies(cell, draws, charges), expected, atol=1e-4)
